"""Bedrock Converse (``POST /model/{id}/converse[-stream]``; API reference of 2026-10).

A request and its answer::

    {"messages": [{"role": "user", "content": [{"text": "Why is the sky blue?"}]}],
     "inferenceConfig": {"maxTokens": 99}}

    {"output": {"message": {"role": "assistant", "content": [{"text": "Scattering."}]}}, "stopReason": "end_turn",
     "usage": {"inputTokens": 13, "outputTokens": 3, "totalTokens": 16}}
"""

from __future__ import annotations

from resilient_llm.wire.bedrock import answer, request, stream
from resilient_llm.wire.bedrock.parts import WIRE
from resilient_llm.wire.protocol import JsonCodec

__all__ = ["CODEC", "WIRE"]

CODEC = JsonCodec(
    name=WIRE,
    write_request=request.encode_request,
    read_answer=answer.decode_response,
    write_answer=answer.encode_response,
    write_error=answer.encode_error,
    write_stream_error=stream.error_frame,
    make_decoder=stream.Decoder,
    make_encoder=lambda _asked: stream.Encoder(),
)
