"""Gemini: ``generateContent`` and ``streamGenerateContent``, the same on Google's two endpoints (reference of 2026-10).

Model and stream switch are in the path.  A prompt that was blocked is an answer without candidates.

A request and its answer::

    {"contents": [{"role": "user", "parts": [{"text": "Why is the sky blue?"}]}],
     "generationConfig": {"maxOutputTokens": 99}}

    {"candidates": [{"content": {"role": "model", "parts": [{"text": "Scattering."}]}, "finishReason": "STOP"}],
     "usageMetadata": {"promptTokenCount": 13, "candidatesTokenCount": 3, "totalTokenCount": 16}}
"""

from __future__ import annotations

from resilient_llm.wire.gemini import answer, request, stream
from resilient_llm.wire.gemini.parts import WIRE
from resilient_llm.wire.protocol import JsonCodec

__all__ = ["CODEC", "WIRE"]

CODEC = JsonCodec(
    name=WIRE,
    read_request=request.decode_request,
    write_request=request.encode_request,
    read_answer=answer.decode_response,
    write_answer=answer.encode_response,
    write_error=answer.encode_error,
    write_stream_error=stream.error_frame,
    make_decoder=stream.Decoder,
    make_encoder=lambda _asked: stream.Encoder(),
)
