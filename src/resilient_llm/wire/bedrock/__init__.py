"""Bedrock Converse (``POST /model/{id}/converse[-stream]``; API reference of 2026-10).

A request and its answer::

    {"messages": [{"role": "user", "content": [{"text": "Why is the sky blue?"}]}],
     "inferenceConfig": {"maxTokens": 99}}

    {"output": {"message": {"role": "assistant", "content": [{"text": "Scattering."}]}}, "stopReason": "end_turn",
     "usage": {"inputTokens": 13, "outputTokens": 3, "totalTokens": 16}}
"""

from __future__ import annotations

from resilient_llm.wire.bedrock import answer, parts, request, stream
from resilient_llm.wire.protocol import codec_of

CODEC = codec_of(parts.WIRE, request.encode_request, answer, stream)
