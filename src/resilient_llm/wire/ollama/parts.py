"""Ollama: the parts of a message, reasons and token counts, as requests, answers and streams share them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

from resilient_llm import model as m
from resilient_llm.wire.features import Feature
from resilient_llm.wire.kit import fields as f
from resilient_llm.wire.kit.notes import Notes, fields_for
from resilient_llm.wire.kit.reasons import Reasons
from resilient_llm.wire.kit.tools import arguments_object, encode_call

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
                if part.origin == WIRE:
                    thoughts.append(part.text)
                else:
                    notes.add(Feature.REASONING, "left out: another model's thoughts")
            case m.Media():
                if part.kind != "image":
                    raise notes.unsupported(part.kind)
                if part.data is None:
                    raise notes.unsupported(Feature.IMAGE_URL if part.url else Feature.FILE_ID)
                images.append(f.encode_base64(part.data))
            case m.ToolCall():
                calls.append(encode_call(part, WIRE, arguments_object(part, notes), id=sent_id(part.id)))
            case _:  # a vendor's own block; results were taken out before
                raise notes.unsupported(Feature.BUILTIN_TOOLS)
        fields_for(WIRE, getattr(part, "extra", None), notes)
    said: f.Fields = {"content": ("" if role == "assistant" else "\n").join(texts)}
    return f.put(said, thinking="".join(thoughts) or None, images=images or None, tool_calls=calls or None)


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
        elif isinstance(part, m.Media):
            shown += [part] if part.kind == "image" and part.data else []
        elif not isinstance(part, m.Opaque):
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
