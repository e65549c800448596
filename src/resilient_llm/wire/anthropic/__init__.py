"""Anthropic Messages (``POST /v1/messages``; API reference of 2026-10).

A request and its answer::

    {"model": "claude-sonnet-5", "max_tokens": 99, "messages": [{"role": "user", "content": "Why is the sky blue?"}]}

    {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-5",
     "content": [{"type": "text", "text": "Scattering."}], "stop_reason": "end_turn",
     "usage": {"input_tokens": 13, "output_tokens": 3}}
"""

from __future__ import annotations

from functools import partial

from resilient_llm.wire.anthropic import answer, request, stream
from resilient_llm.wire.anthropic.parts import WIRE
from resilient_llm.wire.anthropic.request import VERSION, VERSION_2026
from resilient_llm.wire.protocol import JsonCodec, codec_of

__all__ = ["CODEC", "VERSION", "VERSION_2026", "WIRE", "codec_for"]


def codec_for(version: str) -> JsonCodec:
    """The codec for a value of the ``anthropic-version`` header.

    ``2026-10-21`` has no sampling parameters, documents in assistant turns or citations on the user's text; a request
    that has them loses them, with a ``Degradation``.
    """
    write = partial(request.encode_request, version=version)
    return codec_of(WIRE, write, answer, stream, request.decode_request)


CODEC = codec_for(VERSION)
"""The codec with the API version that every platform understands."""
