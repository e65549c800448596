"""OpenAI Chat Completions (API reference of 2026-10), and the many vendors who speak it with an accent.

``CODEC`` speaks as OpenAI does; ``codec_for(Dialect(...))`` as somebody else.  Every codec understands all accents.

A request and its answer::

    {"model": "gpt-5.2", "messages": [{"role": "user", "content": "Why is the sky blue?"}], "max_completion_tokens": 99}

    {"id": "c1", "object": "chat.completion", "model": "gpt-5.2",
     "choices": [{"index": 0, "message": {"role": "assistant", "content": "Scattering."}, "finish_reason": "stop"}],
     "usage": {"prompt_tokens": 13, "completion_tokens": 3, "total_tokens": 16}}
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from resilient_llm.errors import InvalidRequest
from resilient_llm.model import Message, Tool
from resilient_llm.wire.framing import sse
from resilient_llm.wire.kit import fields as f
from resilient_llm.wire.kit import openai, tools
from resilient_llm.wire.openai_chat import answer, parts, request, stream
from resilient_llm.wire.openai_chat.parts import WIRE, Dialect
from resilient_llm.wire.openai_chat.request import wants_usage
from resilient_llm.wire.protocol import JsonCodec

__all__ = ["CODEC", "WIRE", "Dialect", "codec_for", "decode_message", "decode_tool", "wants_usage"]


def codec_for(dialect: Dialect | None = None) -> JsonCodec:
    """The codec for one dialect (``None``: OpenAI's own).  Its stream encoder sends token counts unless the caller's
    request did not ask for them."""
    dialect = dialect or Dialect()
    return JsonCodec(
        name=WIRE,
        read_request=lambda fields, _path: request.decode_request(fields, dialect),
        write_request=partial(request.encode_request, dialect=dialect),
        read_answer=partial(answer.decode_response, dialect=dialect),
        write_answer=partial(answer.encode_response, dialect=dialect),
        write_error=openai.encode_error,
        write_stream_error=lambda error: sse.encode(f.dump(error)),
        make_decoder=partial(stream.Decoder, dialect),
        make_encoder=lambda asked: stream.Encoder(dialect, include_usage=asked is None or wants_usage(asked)),
    )


CODEC = codec_for()
"""OpenAI's own."""


def decode_message(fields: Mapping[str, object]) -> Message:
    """One message in OpenAI's shape, as applications know it.  Unknown fields are kept.  Raises ``InvalidRequest``."""
    try:
        return parts.decode_message(dict(fields), Dialect())
    except f.Malformed as error:
        raise InvalidRequest(f"not a message: {error}") from error


def decode_tool(fields: Mapping[str, object]) -> Tool:
    """One function tool in OpenAI's shape.  Raises ``InvalidRequest``."""
    try:
        return tools.decode_tool(fields, WIRE)
    except f.Malformed as error:
        raise InvalidRequest(f"not a tool: {error}") from error
