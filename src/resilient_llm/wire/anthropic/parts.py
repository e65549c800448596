"""Anthropic Messages: content blocks, token counts and stop reasons, shared by whole answers, requests and streams."""

from __future__ import annotations

import re
from typing import Final, Literal

from resilient_llm import model as m
from resilient_llm.wire.kit import fields as f
from resilient_llm.wire.kit.reasons import Reasons
from resilient_llm.wire.kit.tools import arguments_object, arguments_text

WIRE: Final = "anthropic_messages"

TOOL_ID = re.compile(r"[a-zA-Z0-9_-]+")

REASONS: Final = Reasons(
    {
        "stop": "end_turn stop_sequence",
        "length": "max_tokens model_context_window_exceeded",
        "tool_calls": "tool_use",
        "content_filter": "refusal",
        "other": "pause_turn",  # not an end: the caller has to send the turn back, which only this wire can say
    },
    last="end_turn",
    take_any=True,
)


def decode_usage(usage: f.Fields) -> m.Usage:
    """The vendor counts cached input apart; the neutral count includes it."""
    usage = dict(usage)
    read, write = f.take_count(usage, "cache_read_input_tokens"), f.take_count(usage, "cache_creation_input_tokens")
    given = f.take_count(usage, "input_tokens")
    return m.Usage(
        input_tokens=given + read + write,
        output_tokens=f.take_count(usage, "output_tokens"),
        cache_read_tokens=read,
        cache_write_tokens=write,
        reasoning_tokens=f.count_of(f.as_object(usage.get("output_tokens_details")).get("thinking_tokens")),
        extra=f.unread(WIRE, usage),
    )


def encode_usage(usage: m.Usage | None) -> f.Fields:
    """Counts as a client of this wire adds them up."""
    usage = usage or m.Usage()
    cached = usage.cache_read_tokens + usage.cache_write_tokens
    body: f.Fields = {
        "input_tokens": max(0, usage.input_tokens - cached),
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cache_read_tokens,
        "output_tokens": usage.output_tokens,
    }
    if usage.reasoning_tokens:
        body["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return body | f.own_fields(usage.extra, WIRE)


_SEAL = re.compile(r"origin:([^:]*):(.*)", re.DOTALL)


def marked_signature(thought: m.Thought) -> str:
    """The signature as a client of this wire keeps it.  Another vendor's carries its origin, so that it finds its way
    back there and is never mistaken for one of Anthropic's (whose signatures are base64: no colon)."""
    signature = thought.signature or ""
    return signature if thought.origin == WIRE or not signature else f"origin:{thought.origin}:{signature}"


def origin_and_signature(signature: str) -> tuple[str, str]:
    """A client's signature as (origin, signature)."""
    sealed = _SEAL.fullmatch(signature)
    return (sealed[1], sealed[2]) if sealed else (WIRE, signature)


def decode_block(block: object) -> m.Part:
    """A content block as a part; one without a neutral word stays whole.  Raises ``Malformed`` for what is none."""
    fields = f.object_of(block, "a content block")
    match f.take_text(fields, "type"):
        case "text":
            text, citations = f.take_text(fields, "text") or "", fields.pop("citations", None)
            notes = tuple(f.object_of(each, "a citation") for each in f.list_of(citations or [], "citations"))
            return m.Text(text, notes, f.unread(WIRE, fields))
        case "tool_use":
            name, ident = f.take_text(fields, "name") or "", f.take_text(fields, "id") or ""
            return m.ToolCall(ident, name, arguments_text(fields.pop("input", None)), f.unread(WIRE, fields))
        case "thinking" | "redacted_thinking" as kind:
            return decode_thought(fields, kind == "redacted_thinking")
        case "tool_result":
            return _decode_result(fields)
        case "image" | "document" as kind:
            media = _decode_media(fields, kind)
            return media or m.Opaque(WIRE, f.object_of(block, kind))
        case _:
            return m.Opaque(WIRE, f.object_of(block, "a content block"))


def decode_thought(fields: f.Fields, redacted: bool) -> m.Thought:
    """A thinking block, its type taken."""
    origin, signature = origin_and_signature(f.take_text(fields, "data" if redacted else "signature") or "")
    text = "" if redacted else f.take_text(fields, "thinking") or ""
    return m.Thought(text, signature, redacted, origin, f.unread(WIRE, fields))


def _decode_media(fields: f.Fields, kind: Literal["image", "document"]) -> m.Media | None:
    """``None`` for a source only this wire knows."""
    source = f.take_object(fields, "source") or {}
    name = f.take_text(fields, "title")
    mime = f.take_text(source, "media_type")
    match f.take_text(source, "type"):
        case "base64":
            data = f.decode_base64(f.take_text(source, "data") or "")
        case "text":
            mime, data = mime or "text/plain", (f.take_text(source, "data") or "").encode("utf-8", "replace")
        case "url":
            return m.Media(kind, mime, url=f.take_text(source, "url"), name=name, extra=f.unread(WIRE, fields))
        case "file":  # the Extra, even if empty, says whose file it is
            return m.Media(kind, file_id=f.take_text(source, "file_id"), name=name, extra=m.Extra(WIRE, fields))
        case _:
            return None
    return m.Media(kind, mime, data, name=name, extra=f.unread(WIRE, fields))


def _decode_result(fields: f.Fields) -> m.ToolResult:
    ident, is_error = f.take_text(fields, "tool_use_id") or "", f.take_bool(fields, "is_error") or False
    content = fields.pop("content", None)
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else f.list_of(content or [], "content")
    parts = [decode_block(inner) for inner in blocks]
    kept = tuple(part for part in parts if isinstance(part, m.Text | m.Media))
    if len(kept) != len(parts):  # a tool reference, a search result...: only this wire can say it, so it is kept whole
        fields["content"] = content
    return m.ToolResult(ident, kept, None, is_error, f.unread(WIRE, fields))


def encode_part(part: m.Part) -> f.Fields | None:
    """A part of an answer as a client of this wire expects it; ``None`` for another vendor's own block."""
    match part:
        case m.Text():
            return text_block(part)
        case m.Refusal():
            return {"type": "text", "text": part.text}
        case m.ToolCall():
            body: f.Fields = {"type": "tool_use", "id": part.id, "name": part.name, "input": arguments_object(part)}
            return body | f.own_fields(part.extra, WIRE)
        case m.Thought():
            return thought_block(part)
        case m.Media():
            return media_block(part) | f.own_fields(part.extra, WIRE)
        case m.Opaque():
            return dict(part.data) if part.wire == WIRE else None
        case _:
            return None  # results are the caller's to give, never part of an answer


def text_block(part: m.Text) -> f.Fields:
    """The text with those annotations that are this wire's citations."""
    body = f.put({"type": "text", "text": part.text}, citations=own_citations(part.annotations) or None)
    return body | f.own_fields(part.extra, WIRE)


def own_citations(annotations: tuple[m.JsonObject, ...]) -> list[m.JsonObject]:
    """The annotations in this wire's shape: each names a kind of location."""
    return [annotation for annotation in annotations if str(annotation.get("type")).endswith("_location")]


def thought_block(part: m.Thought) -> f.Fields:
    """Reasoning, with its signature sealed if it is another vendor's."""
    if part.redacted:
        body: f.Fields = {"type": "redacted_thinking", "data": marked_signature(part)}
    else:
        body = {"type": "thinking", "thinking": part.text, "signature": marked_signature(part)}
    return body | f.own_fields(part.extra, WIRE)


def media_block(part: m.Media) -> f.Fields:
    """An image or document block, without its Extra."""
    if part.file_id is not None:
        source: f.Fields = {"type": "file", "file_id": part.file_id}
    elif part.data is None:
        source = {"type": "url", "url": part.url or ""}
    elif part.kind == "document" and (part.mime_type or "").startswith("text/"):
        source = {"type": "text", "media_type": "text/plain", "data": part.data.decode("utf-8", "replace")}
    else:
        source = {"type": "base64", "media_type": part.mime_type or "", "data": f.encode_base64(part.data)}
    body: f.Fields = {"type": "image" if part.kind == "image" else "document", "source": source}
    return f.put(body, title=part.name or None if part.kind != "image" else None)
