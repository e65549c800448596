"""Cohere: the parts of a message, reasons and token counts, as requests, answers and streams share them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, cast

from resilient_llm.model import FinishReason, JsonObject, Media, Opaque, Part, Refusal, Text, Thought, ToolCall, Usage
from resilient_llm.wire.accumulate import implied_finish
from resilient_llm.wire.fields import (
    Fields,
    Malformed,
    decode_base64,
    encode_base64,
    fields_of,
    items_of,
    leftovers,
    merge,
    own,
    put,
    take_count,
    take_fields,
    take_items,
    take_text,
)
from resilient_llm.wire.toolcalls import arguments_text

NAME: Final = "cohere_v2"
PLAN: Final = f"{NAME}/tool_plan"
"""Origin of a thought that is a ``tool_plan``."""


# --- reading -----------------------------------------------------------------------------------------------


def decode_parts(fields: Fields) -> tuple[Part, ...]:
    """Content, plan and calls, in the order the model makes them."""
    parts = _decode_content(fields.pop("content", None))
    if plan := take_text(fields, "tool_plan"):
        parts.append(Thought(plan, origin=PLAN))
    parts += [_decode_call(item) for item in take_items(fields, "tool_calls")]
    return tuple(_with_citations(parts, fields))


def _decode_content(value: object) -> list[Part]:
    if value is None:
        return []
    if isinstance(value, str):
        return [Text(value)]
    return [decode_block(fields_of(item, "a content block")) for item in items_of(value, "content")]


def decode_block(fields: Fields) -> Part:
    """A content block as a part; one the neutral model has no word for stays whole."""
    block = dict(fields)
    kind = fields.pop("type", None)
    if kind == "text":
        text = take_text(fields, "text") or ""
        return Text(text, extra=leftovers(NAME, fields))
    if kind == "thinking":
        thinking = take_text(fields, "thinking") or ""
        return Thought(thinking, origin=NAME, extra=leftovers(NAME, fields))
    if kind == "image_url":
        return _decode_image(take_fields(fields, "image_url") or {})
    return Opaque(NAME, block)


def _decode_image(fields: Fields) -> Media:
    url = take_text(fields, "url")
    extra = leftovers(NAME, fields)
    if url is None:
        raise Malformed("an image has no url")
    if not url.startswith("data:"):
        return Media("image", url=url, extra=extra)
    head, _, data = url.partition(",")
    if not head.endswith(";base64"):
        raise Malformed("an image's data is not in base64")
    mime = head.removeprefix("data:").removesuffix(";base64").partition(";")[0]
    return Media("image", mime or None, decode_base64(data), extra=extra)


def _decode_call(value: object) -> ToolCall:
    fields = fields_of(value, "a tool call")
    fields.pop("type", None)
    id_ = take_text(fields, "id") or ""
    function = take_fields(fields, "function") or {}
    name, arguments = take_text(function, "name") or "", arguments_text(function.pop("arguments", None))
    return ToolCall(id_, name, arguments, leftovers(NAME, put(fields, function=function or None)))


def _with_citations(parts: list[Part], fields: Fields) -> list[Part]:
    """Each citation goes to the text it cites for, by the number of the content block, else to the first text."""
    texts = [at for at, part in enumerate(parts) if isinstance(part, Text)]
    if not texts:
        return parts
    for item in take_items(fields, "citations"):
        citation = fields_of(item, "a citation")
        at = citation.get("content_index")
        at = at if isinstance(at, int) and at in texts else texts[0]
        text = cast("Text", parts[at])
        parts[at] = Text(text.text, (*text.annotations, citation), text.extra)
    return parts


# --- writing -----------------------------------------------------------------------------------------------


def encode_parts(parts: Sequence[Part]) -> Fields:
    """The fields of a message made of these parts."""
    content = [block for part in parts if (block := encode_block(part)) is not None]
    alone = len(content) == 1 and content[0].keys() == {"type", "text"}
    plans = [part.text for part in parts if isinstance(part, Thought) and part.origin == PLAN]
    calls = [_encode_call(part) for part in parts if isinstance(part, ToolCall)]
    fields: Fields = {"content": content[0]["text"] if alone else content} if content else {}
    return put(fields, tool_plan="".join(plans) or None, tool_calls=calls or None, citations=citations(parts) or None)


def encode_block(part: Part) -> Fields | None:
    """A part as a content block; ``None`` for those that are no content."""
    match part:
        case Text():
            return {"type": "text", "text": part.text, **own(part.extra, NAME)}
        case Refusal():
            return {"type": "text", "text": part.text}
        case Thought() if part.origin != PLAN:
            return {"type": "thinking", "thinking": part.text, **own(part.extra, NAME)}
        case Media():
            return {"type": "image_url", "image_url": {"url": _image_url(part), **own(part.extra, NAME)}}
        case Opaque():
            return dict(part.data)
        case _:
            return None


def _image_url(media: Media) -> str:
    if media.data is None:
        return media.url or ""
    return f"data:{media.mime_type or 'image/png'};base64,{encode_base64(media.data)}"


def _encode_call(call: ToolCall) -> Fields:
    extra = own(call.extra, NAME)
    function: Fields = {"name": call.name, "arguments": call.arguments or "{}"}
    merge(function, fields_of(extra.pop("function", {}), "function"))
    return {"id": call.id, "type": "function", "function": function, **extra}


def citations(parts: Iterable[Part]) -> list[JsonObject]:
    """The annotations that are Cohere's: a span with its sources."""
    texts = (part for part in parts if isinstance(part, Text))
    return [each for text in texts for each in text.annotations if is_citation(each)]


def is_citation(annotation: JsonObject) -> bool:
    """Whether an annotation is Cohere's."""
    return "sources" in annotation and "start" in annotation and "end" in annotation


def showable(parts: Iterable[Part]) -> list[Part]:
    """The parts of anybody's answer that can be shown here: thoughts as thoughts of ours, no blocks of others."""
    shown: list[Part] = []
    for part in parts:
        if isinstance(part, Thought) and part.origin not in {NAME, PLAN}:
            shown += [Thought(part.text, origin=NAME)] if part.text else []
        elif not isinstance(part, Media | Opaque) or (isinstance(part, Opaque) and part.wire == NAME):
            shown.append(part)
    return shown


# --- reasons and token counts ------------------------------------------------------------------------------

_FINISH: dict[str, FinishReason] = {
    "COMPLETE": "stop",
    "STOP_SEQUENCE": "stop",
    "MAX_TOKENS": "length",
    "TOOL_CALL": "tool_calls",
    "ERROR": "error",
    "TIMEOUT": "error",
}
_WORDS: dict[FinishReason, str] = {"stop": "COMPLETE", "length": "MAX_TOKENS", "tool_calls": "TOOL_CALL"}


def finish_reason(reason: str | None, parts: Sequence[Part]) -> FinishReason:
    """The neutral word; an answer without a reason has one by what is in it."""
    return implied_finish(parts) if reason is None else _FINISH.get(reason, "other")


def finish_word(reason: FinishReason, raw: str | None) -> str:
    """Cohere's own word where it means the same.  It has none for a filter, and anything else is no success."""
    return raw if raw is not None and _FINISH.get(raw) == reason else _WORDS.get(reason, "ERROR")


def take_usage(fields: Fields) -> Usage | None:
    """Processed tokens; billed ones stay beside them, and stand in where nothing else is said."""
    usage = take_fields(fields, "usage")
    if usage is None:
        return None
    cached = take_count(usage, "cached_tokens")
    tokens = take_fields(usage, "tokens") or fields_of(usage.get("billed_units") or {}, "billed_units")
    counts = take_count(tokens, "input_tokens"), take_count(tokens, "output_tokens")
    return Usage(*counts, cached, extra=leftovers(NAME, usage))


def encode_usage(usage: Usage | None) -> Fields | None:
    """Token counts as Cohere's clients expect them."""
    if usage is None:
        return None
    tokens = {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}
    return {"tokens": tokens, "cached_tokens": usage.cache_read_tokens, **own(usage.extra, NAME)}
