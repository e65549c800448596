"""Ollama: the parts of a message, reasons and token counts, as requests, answers and streams share them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

from resilient_llm import model as m
from resilient_llm.wire.features import Feature
from resilient_llm.wire.kit import fields as f
from resilient_llm.wire.kit.notes import Notes, fields_for
from resilient_llm.wire.kit.reasons import Reasons
from resilient_llm.wire.kit.tools import arguments_object, arguments_text

WIRE: Final = "ollama"

MADE_UP: Final = "ollama_call_"

REASONS: Final = Reasons(
    {
        "stop": "stop",
        "tool_calls": "stop",  # is also what ends an answer that asks for tools
        "length": "length",
        "other": "load unload",
        "content_filter": "content_filter",  # this and the next are never sent by Ollama, only written for others
        "error": "error",
    },
    last="other",
)


def decode_call(value: object, identify: Callable[[str | None, str], str]) -> m.ToolCall:
    fields = f.object_of(value, "a tool call")
    fields.pop("type", None)
    id_ = f.take_text(fields, "id")
    function = f.take_object(fields, "function")
    if function is None:
        raise f.Malformed("a tool call without a function")
    name = f.take_text(function, "name") or ""
    arguments = arguments_text(function.pop("arguments", None))
    return m.ToolCall(identify(id_, name), name, arguments, f.unread(WIRE, f.put(fields, function=function or None)))


def encode_parts(parts: Sequence[m.Part], role: str, notes: Notes) -> f.Fields:
    texts: list[str] = []
    thoughts: list[str] = []
    images: list[str] = []
    calls: list[f.Fields] = []
    for part in parts:
        match part:
            case m.Text() | m.Refusal():
                texts.append(part.text)
                if isinstance(part, m.Text) and part.annotations:
                    notes.add(Feature.ANNOTATIONS, "left out")
            case m.Thought():
                thoughts += _own_thought(part, notes)
            case m.Media():
                images.append(_encode_image(part, notes))
            case m.ToolCall():
                calls.append(_encode_call(part, notes))
            case _:  # a vendor's own block; results were taken out before
                raise notes.unsupported(Feature.BUILTIN_TOOLS)
        fields_for(WIRE, getattr(part, "extra", None), notes)
    content = ("" if role == "assistant" else "\n").join(texts)
    return f.put(
        {"content": content}, thinking="".join(thoughts) or None, images=images or None, tool_calls=calls or None
    )


def _own_thought(thought: m.Thought, notes: Notes) -> list[str]:
    if thought.origin == WIRE:
        return [thought.text]
    notes.add(Feature.REASONING, "left out: another model's thoughts")
    return []


def _encode_image(media: m.Media, notes: Notes) -> str:
    if media.kind != "image":
        raise notes.unsupported(media.kind)
    if media.data is None:
        raise notes.unsupported(Feature.IMAGE_URL if media.url else "file_id")
    return f.encode_base64(media.data)


def _encode_call(call: m.ToolCall, notes: Notes) -> f.Fields:
    extra = f.own_fields(call.extra, WIRE)
    function: f.Fields = {"name": call.name, "arguments": arguments_object(call, notes)}
    f.merge(function, f.object_of(extra.pop("function", {}), "function"))
    return f.put({"function": function, **extra}, id=sent_id(call.id))


def sent_id(id_: str) -> str | None:
    """An identifier goes out if somebody gave it; servers that have none ignore it."""
    return None if id_.startswith(MADE_UP) else id_


def take_usage(fields: f.Fields) -> m.Usage | None:
    """Token counts; the prompt's is absent where the prompt was cached."""
    if fields.get("prompt_eval_count") is None and fields.get("eval_count") is None:
        return None
    return m.Usage(f.take_count(fields, "prompt_eval_count"), f.take_count(fields, "eval_count"))


def seconds_of(created_at: object) -> int | None:
    try:
        return int(datetime.fromisoformat(str(created_at)).timestamp())
    except (ValueError, OverflowError):
        return None


def showable(parts: Iterable[m.Part]) -> list[m.Part]:
    """The parts of anybody's answer that can be shown here: thoughts as thoughts of ours, no blocks of others."""
    shown: list[m.Part] = []
    for part in parts:
        if isinstance(part, m.Thought):
            shown.append(m.Thought(part.text, origin=WIRE))
        elif not isinstance(part, m.Media | m.Opaque) or (
            isinstance(part, m.Media) and part.kind == "image" and part.data
        ):
            shown.append(part)
    return shown


def head(model: str, created: int | None, extra: m.Extra | None) -> f.Fields:
    """What opens every line: clients demand a time, and there is no clock here."""
    when = datetime.fromtimestamp(created or 0, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"model": model, "created_at": f.own_fields(extra, WIRE).get("created_at", when)}


def tail(reason: m.FinishReason, raw: str | None, more: f.Fields, usage: m.Usage | None) -> f.Fields:
    """What closes an answer: why, how long and how much."""
    counts = {"prompt_eval_count": usage.input_tokens, "eval_count": usage.output_tokens} if usage else {}
    return {"done_reason": REASONS.word(reason, raw), "done": True, **more, **counts}
