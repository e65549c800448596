"""Cohere: the parts of a message, reasons and token counts, as requests, answers and streams share them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, cast

from resilient_llm import model as m
from resilient_llm.wire.kit import fields as f
from resilient_llm.wire.kit import openai as o
from resilient_llm.wire.kit.reasons import Reasons
from resilient_llm.wire.kit.tools import decode_call, encode_call

WIRE: Final = "cohere_v2"
PLAN: Final = f"{WIRE}/tool_plan"
"""Origin of a thought that is a ``tool_plan``."""


def decode_parts(fields: f.Fields) -> tuple[m.Part, ...]:
    """Content, plan and calls, in the order the model makes them."""
    content = fields.pop("content", None)
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    found = [] if blocks is None else f.list_of(blocks, "content")
    parts = [decode_block(f.object_of(block, "a content block")) for block in found]
    if plan := f.take_text(fields, "tool_plan"):
        parts.append(m.Thought(plan, origin=PLAN))
    parts += [decode_call(item, WIRE, lambda id_, _name: id_ or "") for item in f.take_list(fields, "tool_calls")]
    texts = [at for at, part in enumerate(parts) if isinstance(part, m.Text)]
    for item in f.take_list(fields, "citations") if texts else ():
        citation = f.object_of(item, "a citation")
        at = citation.get("content_index")  # of the content block it cites for; else it is the first text
        at = at if isinstance(at, int) and at in texts else texts[0]
        text = cast("m.Text", parts[at])
        parts[at] = m.Text(text.text, (*text.annotations, citation), text.extra)
    return tuple(parts)


def decode_block(fields: f.Fields) -> m.Part:
    """A content block as a part; one the neutral model has no word for stays whole."""
    block = dict(fields)
    kind = fields.pop("type", None)
    if kind == "text":
        text = f.take_text(fields, "text") or ""
        return m.Text(text, extra=f.unread(WIRE, fields))
    if kind == "thinking":
        thinking = f.take_text(fields, "thinking") or ""
        return m.Thought(thinking, origin=WIRE, extra=f.unread(WIRE, fields))
    if kind == "image_url":
        image = f.take_object(fields, "image_url") or {}
        url = f.take_text(image, "url")
        media = None if url is None else o.decode_media("image", url, f.unread(WIRE, image))
        if media is None or (media.url or "").startswith("data:"):
            raise f.Malformed("an image has no url, or data that is not in base64")
        return media
    return m.Opaque(WIRE, block)


def encode_parts(parts: Sequence[m.Part]) -> f.Fields:
    """The fields of a message made of these parts."""
    content = [block for part in parts if (block := encode_block(part)) is not None]
    plans = [part.text for part in parts if isinstance(part, m.Thought) and part.origin == PLAN]
    calls = [
        encode_call(part, WIRE, part.arguments or "{}", id=part.id, type="function")
        for part in parts
        if isinstance(part, m.ToolCall)
    ]
    fields: f.Fields = {"content": f.compact(content)} if content else {}
    return f.put(fields, tool_plan="".join(plans) or None, tool_calls=calls or None, citations=citations(parts) or None)


def encode_block(part: m.Part) -> f.Fields | None:
    """A part as a content block; ``None`` for those that are no content."""
    match part:
        case m.Text():
            return {"type": "text", "text": part.text, **f.own_fields(part.extra, WIRE)}
        case m.Refusal():
            return {"type": "text", "text": part.text}
        case m.Thought() if part.origin != PLAN:
            return {"type": "thinking", "thinking": part.text, **f.own_fields(part.extra, WIRE)}
        case m.Media():
            return {"type": "image_url", "image_url": {"url": o.url_of(part), **f.own_fields(part.extra, WIRE)}}
        case m.Opaque():
            return dict(part.data)
        case _:
            return None


def citations(parts: Iterable[m.Part]) -> list[m.JsonObject]:
    """The annotations that are Cohere's: a span with its sources."""
    texts = (part for part in parts if isinstance(part, m.Text))
    return [each for text in texts for each in text.annotations if is_citation(each)]


def is_citation(annotation: m.JsonObject) -> bool:
    """Whether an annotation is Cohere's."""
    return "sources" in annotation and "start" in annotation and "end" in annotation


def showable(parts: Iterable[m.Part]) -> list[m.Part]:
    """The parts of anybody's answer that can be shown here: thoughts as thoughts of ours, no blocks of others."""
    shown: list[m.Part] = []
    for part in parts:
        if isinstance(part, m.Thought) and part.origin not in {WIRE, PLAN}:
            shown += [m.Thought(part.text, origin=WIRE)] if part.text else []
        elif not isinstance(part, m.Media | m.Opaque) or (isinstance(part, m.Opaque) and part.wire == WIRE):
            shown.append(part)
    return shown


REASONS: Final = Reasons(
    {
        "stop": "COMPLETE STOP_SEQUENCE",
        "length": "MAX_TOKENS",
        "tool_calls": "TOOL_CALL",
        "error": "ERROR TIMEOUT",
    },
    last="ERROR",  # there is none for a filter, and anything else is no success
)


def take_usage(fields: f.Fields) -> m.Usage | None:
    """Processed tokens; billed ones stay beside them, and stand in where nothing else is said."""
    usage = f.take_object(fields, "usage")
    if usage is None:
        return None
    cached = f.take_count(usage, "cached_tokens")
    tokens = f.take_object(usage, "tokens") or f.object_of(usage.get("billed_units") or {}, "billed_units")
    counts = f.take_count(tokens, "input_tokens"), f.take_count(tokens, "output_tokens")
    return m.Usage(*counts, cached, extra=f.unread(WIRE, usage))


def encode_usage(usage: m.Usage | None) -> f.Fields | None:
    """Token counts as Cohere's clients expect them."""
    if usage is None:
        return None
    tokens = {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}
    return {"tokens": tokens, "cached_tokens": usage.cache_read_tokens, **f.own_fields(usage.extra, WIRE)}
