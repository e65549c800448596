"""Anthropic Messages: content blocks, token counts and stop reasons, shared by whole answers, requests and streams."""

from __future__ import annotations

import re
from typing import Final, Literal, cast

from resilient_llm.model import (
    Extra,
    FinishReason,
    JsonObject,
    Media,
    Opaque,
    Part,
    Refusal,
    Text,
    Thought,
    ToolCall,
    ToolResult,
    Usage,
)
from resilient_llm.wire._blockwise import StopReasons
from resilient_llm.wire.fields import (
    Fields,
    decode_base64,
    encode_base64,
    fields_of,
    items_of,
    leftovers,
    own,
    take_bool,
    take_count,
    take_fields,
    take_text,
)
from resilient_llm.wire.toolcalls import arguments_object, arguments_text

NAME: Final = "anthropic_messages"

TOOL_ID = re.compile(r"[a-zA-Z0-9_-]+")

_MEANINGS: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
    "pause_turn": "other",  # not an end: the caller has to send the turn back, which only this wire can say
}

_WORDS: dict[FinishReason, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}


_REASONS = StopReasons(_MEANINGS, _WORDS)
finish_reason, stop_reason = _REASONS.neutral, _REASONS.word


# --- token counts -------------------------------------------------------------------------------------------------


def decode_usage(usage: Fields) -> Usage:
    """The vendor counts cached input apart; the neutral count includes it.  Empties ``usage``."""
    read, write = take_count(usage, "cache_read_input_tokens"), take_count(usage, "cache_creation_input_tokens")
    given = take_count(usage, "input_tokens")
    return Usage(
        input_tokens=given + read + write,
        output_tokens=take_count(usage, "output_tokens"),
        cache_read_tokens=read,
        cache_write_tokens=write,
        reasoning_tokens=_thinking_tokens(usage.get("output_tokens_details")),
        extra=leftovers(NAME, usage),
    )


def _thinking_tokens(details: object) -> int:
    return (
        take_count(fields_of(cast("object", details), "details"), "thinking_tokens") if isinstance(details, dict) else 0
    )


def encode_usage(usage: Usage | None) -> Fields:
    """Counts as a client of this wire adds them up."""
    usage = usage or Usage()
    cached = usage.cache_read_tokens + usage.cache_write_tokens
    body: Fields = {
        "input_tokens": max(0, usage.input_tokens - cached),
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cache_read_tokens,
        "output_tokens": usage.output_tokens,
    }
    if usage.reasoning_tokens:
        body["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return body | own(usage.extra, NAME)


# --- signatures on their way through a client -----------------------------------------------------------------------

_SEAL = re.compile(r"origin:([^:]*):(.*)", re.DOTALL)


def seal(thought: Thought) -> str:
    """The signature as a client of this wire keeps it.  Another vendor's carries its origin, so that it finds its way
    back there and is never mistaken for one of Anthropic's (whose signatures are base64: no colon)."""
    signature = thought.signature or ""
    return signature if thought.origin == NAME or not signature else f"origin:{thought.origin}:{signature}"


def unseal(signature: str) -> tuple[str, str]:
    """A client's signature as (origin, signature)."""
    sealed = _SEAL.fullmatch(signature)
    return (sealed[1], sealed[2]) if sealed else (NAME, signature)


# --- blocks -> parts ----------------------------------------------------------------------------------------------


def decode_block(block: object) -> Part:
    """A content block as a part; one the neutral model has no word for stays whole.

    Raises :class:`~resilient_llm.wire.fields.Malformed` for what is no block.
    """
    fields = fields_of(block, "a content block")
    match take_text(fields, "type"):
        case "text":
            text, citations = take_text(fields, "text") or "", fields.pop("citations", None)
            notes = tuple(fields_of(each, "a citation") for each in items_of(citations or [], "citations"))
            return Text(text, notes, leftovers(NAME, fields))
        case "tool_use":
            return _decode_call(fields)
        case "thinking" | "redacted_thinking" as kind:
            return decode_thought(fields, kind == "redacted_thinking")
        case "tool_result":
            return _decode_result(fields)
        case "image" | "document" as kind:
            media = _decode_media(fields, kind)
            return media or Opaque(NAME, fields_of(block, kind))
        case _:
            return Opaque(NAME, fields_of(block, "a content block"))


def _decode_call(fields: Fields) -> ToolCall:
    name, ident = take_text(fields, "name") or "", take_text(fields, "id") or ""
    given = fields.pop("input", None)
    return ToolCall(ident, name, arguments_text(given), leftovers(NAME, fields))


def decode_thought(fields: Fields, redacted: bool) -> Thought:
    """A thinking block, its type taken."""
    origin, signature = unseal(take_text(fields, "data" if redacted else "signature") or "")
    text = "" if redacted else take_text(fields, "thinking") or ""
    return Thought(text, signature, redacted, origin, leftovers(NAME, fields))


def _decode_media(fields: Fields, kind: Literal["image", "document"]) -> Media | None:
    """``None`` for a source only this wire knows."""
    source = take_fields(fields, "source") or {}
    name = take_text(fields, "title")
    mime = take_text(source, "media_type")
    match take_text(source, "type"):
        case "base64":
            data = decode_base64(take_text(source, "data") or "")
            return Media(kind, mime, data, name=name, extra=leftovers(NAME, fields))
        case "url":
            return Media(kind, mime, url=take_text(source, "url"), name=name, extra=leftovers(NAME, fields))
        case "text":
            data = (take_text(source, "data") or "").encode("utf-8", "replace")
            return Media(kind, mime or "text/plain", data, name=name, extra=leftovers(NAME, fields))
        case "file":  # the Extra, even if empty, says whose file it is
            return Media(kind, file_id=take_text(source, "file_id"), name=name, extra=Extra(NAME, fields))
        case _:
            return None


def _decode_result(fields: Fields) -> ToolResult:
    ident, is_error = take_text(fields, "tool_use_id") or "", take_bool(fields, "is_error") or False
    content = fields.pop("content", None)
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else items_of(content or [], "content")
    parts = [decode_block(inner) for inner in blocks]
    kept = tuple(part for part in parts if isinstance(part, Text | Media))
    if len(kept) != len(parts):  # a tool reference, a search result...: only this wire can say it, so it is kept whole
        fields["content"] = content
    return ToolResult(ident, kept, None, is_error, leftovers(NAME, fields))


# --- parts -> blocks of an answer -------------------------------------------------------------------------------


def encode_part(part: Part) -> Fields | None:
    """A part of an answer as a client of this wire expects it; ``None`` for another vendor's own block."""
    match part:
        case Text():
            return text_block(part)
        case Refusal():
            return {"type": "text", "text": part.text}
        case ToolCall():
            body: Fields = {"type": "tool_use", "id": part.id, "name": part.name, "input": arguments_object(part)}
            return body | own(part.extra, NAME)
        case Thought():
            return thought_block(part)
        case Media():
            return media_block(part) | own(part.extra, NAME)
        case Opaque():
            return dict(part.data) if part.wire == NAME else None
        case _:
            return None  # results are the caller's to give, never part of an answer


def text_block(part: Text) -> Fields:
    """The text with those annotations that are this wire's citations."""
    body: Fields = {"type": "text", "text": part.text}
    if citations := own_citations(part.annotations):
        body["citations"] = citations
    return body | own(part.extra, NAME)


def own_citations(annotations: tuple[JsonObject, ...]) -> list[JsonObject]:
    """The annotations in this wire's shape: each names a kind of location."""
    return [annotation for annotation in annotations if str(annotation.get("type")).endswith("_location")]


def thought_block(part: Thought) -> Fields:
    """Reasoning, with its signature sealed if it is another vendor's."""
    if part.redacted:
        body: Fields = {"type": "redacted_thinking", "data": seal(part)}
    else:
        body = {"type": "thinking", "thinking": part.text, "signature": seal(part)}
    return body | own(part.extra, NAME)


def media_block(part: Media) -> Fields:
    """An image or document block, without its Extra."""
    body: Fields = {"type": "image" if part.kind == "image" else "document", "source": _source(part)}
    if part.name and part.kind != "image":
        body["title"] = part.name
    return body


def _source(part: Media) -> Fields:
    if part.file_id is not None:
        return {"type": "file", "file_id": part.file_id}
    if part.data is None:
        return {"type": "url", "url": part.url or ""}
    if part.kind == "document" and (part.mime_type or "").startswith("text/"):
        return {"type": "text", "media_type": "text/plain", "data": part.data.decode("utf-8", "replace")}
    return {"type": "base64", "media_type": part.mime_type or "", "data": encode_base64(part.data)}
