"""OpenAI Responses (API reference of 2026-10).

State that lives at the vendor (``previous_response_id``, ``conversation``, ``store``...) and built-in tools are kept in
an Extra of this wire; no other can express them.

A request and its answer::

    {"model": "gpt-5.2", "input": "Why is the sky blue?", "max_output_tokens": 99}

    {"id": "r1", "object": "response", "status": "completed", "model": "gpt-5.2",
     "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Scattering."}]}],
     "usage": {"input_tokens": 13, "output_tokens": 3, "total_tokens": 16}}
"""

from __future__ import annotations

from resilient_llm.wire.openai_responses import answer, parts, request, stream
from resilient_llm.wire.protocol import codec_of

CODEC = codec_of(parts.WIRE, request.encode_request, answer, stream, request.decode_request)
