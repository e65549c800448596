"""Cohere: whole answers, in both directions."""

from __future__ import annotations

from resilient_llm.errors import Fault, InvalidAnswer
from resilient_llm.model import ChatResponse
from resilient_llm.wire.cohere import parts as p
from resilient_llm.wire.kit import fields as f
from resilient_llm.wire.kit.reasons import calls


def decode_response(raw: f.Fields) -> ChatResponse:
    """A whole answer.  Raises ``InvalidAnswer`` for one without a message."""
    fields = dict(raw)
    message = f.take_object(fields, "message")  # an error's message is text, and is no object
    if message is None or not (message or fields.get("finish_reason")):
        raise InvalidAnswer("the answer has no message", raw)
    parts = p.decode_parts(message)
    message.pop("role", None)
    reason, usage = f.take_text(fields, "finish_reason"), p.take_usage(fields)
    id_ = f.take_text(fields, "id") or ""
    extra = f.unread(p.WIRE, f.put(fields, message=f.unread(p.WIRE, message) and message))
    finish = p.REASONS.neutral(reason or "COMPLETE", calls(parts))
    return ChatResponse(parts, finish, reason, usage, id_, extra=extra, raw=raw)


def encode_response(response: ChatResponse) -> f.Fields:
    """The answer as Cohere's clients expect it."""
    extra = f.own_fields(response.extra, p.WIRE)
    message = p.encode_parts(p.showable(response.parts))
    if isinstance(message.get("content"), str):
        message["content"] = [{"type": "text", "text": message["content"]}]
    body: f.Fields = {
        "id": response.id,
        "message": {"role": "assistant", **message},
        "finish_reason": p.REASONS.word(response.finish_reason, response.raw_finish_reason),
    }
    f.put(body, usage=p.encode_usage(response.usage))
    f.merge(body, extra)
    return body


def encode_error(_fault: Fault, message: str) -> f.Fields:
    """The body of an error answer; the status says the rest."""
    return {"message": message}
