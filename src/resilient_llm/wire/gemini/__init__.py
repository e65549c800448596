"""Gemini: ``generateContent`` and ``streamGenerateContent``, the same on Google's two endpoints (reference of 2026-10).

Model and stream switch are in the path.  A prompt that was blocked is an answer without candidates.

A request and its answer::

    {"contents": [{"role": "user", "parts": [{"text": "Why is the sky blue?"}]}],
     "generationConfig": {"maxOutputTokens": 99}}

    {"candidates": [{"content": {"role": "model", "parts": [{"text": "Scattering."}]}, "finishReason": "STOP"}],
     "usageMetadata": {"promptTokenCount": 13, "candidatesTokenCount": 3, "totalTokenCount": 16}}
"""

from __future__ import annotations

from resilient_llm.wire.gemini import answer, parts, request, stream
from resilient_llm.wire.protocol import codec_of

CODEC = codec_of(parts.WIRE, request.encode_request, answer, stream, request.decode_request)
