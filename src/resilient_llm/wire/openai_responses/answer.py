"""OpenAI Responses answers <-> the neutral model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from resilient_llm import model as m
from resilient_llm.errors import Fault, InvalidAnswer
from resilient_llm.wire.kit import fields as f
from resilient_llm.wire.kit import openai
from resilient_llm.wire.kit.notes import Notes
from resilient_llm.wire.kit.reasons import calls, ended
from resilient_llm.wire.openai_responses.parts import WIRE, decode_item, encode_items, is_item

_BODY = ("id", "object", "created_at", "model", "output", "usage", "status", "error", "incomplete_details")
_CUT: Mapping[str, m.FinishReason] = {"max_output_tokens": "length", "content_filter": "content_filter"}
_CUT_WORDS: Mapping[m.FinishReason, str] = {"length": "max_output_tokens", "content_filter": "content_filter"}
_UNFINISHED = frozenset({"queued", "in_progress"})
"""Of a background response: what there is of an answer comes later."""
_ENDED_BADLY = frozenset({"failed", "cancelled"})


def decode_response(fields: f.Fields) -> m.ChatResponse:
    """A whole answer, or the one that ends a stream.  Raises ``InvalidAnswer`` if it failed or has no output."""
    if fields.get("error") or fields.get("status") == "failed":
        raise InvalidAnswer("the answer reports an error", fields)
    if not isinstance(fields.get("output"), list):
        raise InvalidAnswer("the answer has no output", fields)
    items = f.as_objects(fields["output"])
    if not all(map(is_item, items)) or len(items) < len(f.as_list(fields["output"])):
        raise InvalidAnswer("the answer's output has an item that is none", fields)
    parts = tuple(part for item in items for part in decode_item(item))
    reason, raw = finish_of(fields, parts)
    return m.ChatResponse(
        parts,
        reason,
        raw,
        decode_usage(f.as_object(fields.get("usage"))),
        f.as_text(fields.get("id")),
        f.as_text(fields.get("model")),
        f.time_of(fields.get("created_at")),
        extra=settings_of(fields),
        raw=fields,
    )


def settings_of(fields: f.Fields) -> m.Extra | None:
    """What a response says beyond the answer: the settings it was made with, mostly."""
    return f.extra_of(WIRE, f.others(fields, _BODY))


def finish_of(fields: f.Fields, parts: Sequence[m.Part]) -> tuple[m.FinishReason, str | None]:
    """The neutral reason and the vendor's word for it."""
    status = f.as_text(fields.get("status"))
    if status in {"completed", ""}:
        return ended("stop", calls(parts)), status or None
    if status == "incomplete":
        why = f.as_text(f.as_object(fields.get("incomplete_details")).get("reason"))
        return _CUT.get(why, "other"), why or status
    return "error" if status in _ENDED_BADLY else "other", status


def decode_usage(usage: f.Fields) -> m.Usage | None:
    """Token counts; ``None`` for an empty object."""
    if not usage:
        return None
    given, made = f.as_object(usage.get("input_tokens_details")), f.as_object(usage.get("output_tokens_details"))
    return m.Usage(
        f.count_of(usage.get("input_tokens")),
        f.count_of(usage.get("output_tokens")),
        f.count_of(given.get("cached_tokens")),
        f.count_of(given.get("cache_write_tokens")),
        f.count_of(made.get("reasoning_tokens")),
        f.count_of(usage.get("total_tokens")),
        m.Extra(WIRE, usage),
    )


def encode_response(response: m.ChatResponse) -> f.Fields:
    """The answer as a client of this wire expects it.  Alternatives have no place in it."""
    body = frame_of(response.id, response.model, response.created)
    body["output"] = encode_items(response.parts, Notes(WIRE), answer=True)
    body |= status_of(response.finish_reason, response.raw_finish_reason)
    if response.usage is not None:
        body["usage"] = encode_usage(response.usage)
    return body | f.own_fields(response.extra, WIRE)


def frame_of(response_id: str, model: str, created: int | None) -> f.Fields:
    """A response before anything has been said, with the fields that clients expect in every one."""
    return {
        "id": response_id or "resp_0",
        "object": "response",
        "created_at": created or 0,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "model": model,
        "output": [],
        "usage": None,
        "instructions": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "temperature": None,
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
    }


def status_of(reason: m.FinishReason, raw: str | None) -> f.Fields:
    """How a finished response says why it ended."""
    if reason in _CUT_WORDS:
        return {"status": "incomplete", "incomplete_details": {"reason": _CUT_WORDS[reason]}}
    if reason == "other" and raw in _UNFINISHED:
        return {"status": raw}
    if reason == "error":
        return {"status": "failed", "error": {"code": "server_error", "message": raw or "the model failed"}}
    return {"status": "completed"}


def encode_usage(usage: m.Usage) -> f.Fields:
    """Token counts, over what this wire once said beside them."""
    body = f.own_fields(usage.extra, WIRE)
    if decode_usage(body) == usage:
        return body
    given = f.put({"cached_tokens": usage.cache_read_tokens}, cache_write_tokens=usage.cache_write_tokens or None)
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": given,
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.total_tokens or usage.input_tokens + usage.output_tokens,
    }


def encode_error(fault: Fault, message: str) -> f.Fields:
    """As in Chat Completions."""
    return openai.encode_error(fault, message)


def error_fields(error: f.Fields) -> f.Fields:
    """An error in both shapes: the documented one is flat, the one the SDK raises has it nested."""
    nested = {"type": "server_error", "param": None, "code": None} | {k: v for k, v in error.items() if v is not None}
    return {"code": nested["code"], "message": nested.get("message", ""), "param": None, "error": nested}
