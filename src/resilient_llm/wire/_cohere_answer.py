"""Cohere: whole answers, in both directions."""

from __future__ import annotations

from resilient_llm.errors import InvalidAnswer
from resilient_llm.model import ChatResponse
from resilient_llm.wire._cohere_parts import (
    NAME,
    decode_parts,
    encode_parts,
    encode_usage,
    finish_reason,
    finish_word,
    showable,
    take_usage,
)
from resilient_llm.wire.fields import Fields, leftovers, merge, own, put, take_fields, take_text


def decode_response(raw: Fields) -> ChatResponse:
    """A whole answer.  Raises ``InvalidAnswer`` for one without a message."""
    fields = dict(raw)
    message = take_fields(fields, "message")  # an error's message is text, and is no object
    if message is None or not (message or fields.get("finish_reason")):
        raise InvalidAnswer("the answer has no message", raw)
    parts = decode_parts(message)
    message.pop("role", None)
    reason, usage = take_text(fields, "finish_reason"), take_usage(fields)
    id_ = take_text(fields, "id") or ""
    extra = leftovers(NAME, put(fields, message=leftovers(NAME, message) and message))
    return ChatResponse(parts, finish_reason(reason, parts), reason, usage, id_, extra=extra, raw=raw)


def encode_response(response: ChatResponse) -> Fields:
    """The answer as Cohere's clients expect it."""
    extra = own(response.extra, NAME)
    message = encode_parts(showable(response.parts))
    if isinstance(message.get("content"), str):
        message["content"] = [{"type": "text", "text": message["content"]}]
    body: Fields = {
        "id": response.id,
        "message": {"role": "assistant", **message},
        "finish_reason": finish_word(response.finish_reason, response.raw_finish_reason),
    }
    put(body, usage=encode_usage(response.usage))
    merge(body, extra)
    return body
