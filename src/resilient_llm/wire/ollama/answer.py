"""Ollama: whole answers, in both directions."""

from __future__ import annotations

from resilient_llm import model as m
from resilient_llm.errors import Fault, InvalidAnswer
from resilient_llm.wire.kit import fields as f
from resilient_llm.wire.kit.notes import Notes
from resilient_llm.wire.kit.reasons import calls
from resilient_llm.wire.kit.tools import Namer, decode_call
from resilient_llm.wire.ollama import parts as p


def decode_response(raw: f.Fields) -> m.ChatResponse:
    fields = dict(raw)
    if "error" in fields:
        raise InvalidAnswer(f"the answer is an error: {fields['error']!s:.200}", raw)
    message = f.take_object(fields, "message")
    if message is None:
        raise InvalidAnswer("the answer has no message", raw)
    if f.take_bool(fields, "done") is False:
        raise InvalidAnswer("the answer is not complete", raw)
    thinking, text = f.take_text(message, "thinking"), f.take_text(message, "content")
    namer = Namer(p.MADE_UP, str(fields.get("created_at")))
    called = [decode_call(item, p.WIRE, namer.call) for item in f.take_list(message, "tool_calls")]
    images = [m.Media("image", data=f.decode_base64(image)) for image in f.take_texts(message, "images")]
    thoughts = [m.Thought(thinking, origin=p.WIRE)] if thinking else []
    parts: tuple[m.Part, ...] = (*thoughts, *([m.Text(text)] if text else []), *images, *called)
    model, reason, usage = f.take_text(fields, "model") or "", f.take_text(fields, "done_reason"), p.take_usage(fields)
    extra = f.unread(p.WIRE, fields)
    created, finish = p.seconds_of(fields.get("created_at")), p.REASONS.neutral(reason or "stop", calls(parts))
    return m.ChatResponse(parts, finish, reason, usage, "", model, created, extra=extra, raw=raw)


def encode_response(response: m.ChatResponse) -> f.Fields:
    """The answer as Ollama's clients expect it."""
    message = p.encode_parts(p.showable(response.parts), "assistant", Notes(p.WIRE))
    opening = p.head(response.model, response.created, response.extra)
    more = f.own_fields(response.extra, p.WIRE)
    ending = p.tail(response.finish_reason, response.raw_finish_reason, more, response.usage)
    return {**opening, "message": {"role": "assistant", **message}, **ending}


def encode_error(_fault: Fault, message: str) -> f.Fields:
    """The body of an error answer; the status says the rest."""
    return {"error": message}
