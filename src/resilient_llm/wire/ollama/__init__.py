"""Ollama's own ``/api/chat`` (documentation of 2026-10).

One JSON object a line in streams, the last with ``done: true``; an error is a line that holds nothing else.  A request
without ``stream`` asks for a stream.  Tool calls have no identifiers (newer servers send some; they are kept).

A request and its answer::

    {"model": "qwen3", "messages": [{"role": "user", "content": "Why is the sky blue?"}], "options": {"num_predict": 9}}

    {"model": "qwen3", "message": {"role": "assistant", "content": "Scattering."}, "done": true,
     "done_reason": "stop", "prompt_eval_count": 13, "eval_count": 3}
"""

from __future__ import annotations

from resilient_llm.wire.ollama import answer, parts, request, stream
from resilient_llm.wire.protocol import codec_of

CODEC = codec_of(parts.WIRE, request.encode_request, answer, stream)
