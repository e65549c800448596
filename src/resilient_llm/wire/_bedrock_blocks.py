"""Bedrock Converse: content blocks, token counts and stop reasons, shared by whole answers, requests and streams."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from resilient_llm.model import (
    FinishReason,
    Json,
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
    put,
    take_count,
    take_fields,
    take_items,
    take_text,
)
from resilient_llm.wire.toolcalls import arguments_object, arguments_text

NAME: Final = "bedrock_converse"

MediaKind: TypeAlias = Literal["image", "audio", "video", "document"]

_MEANINGS: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
    "malformed_model_output": "error",
    "malformed_tool_use": "error",
}

_WORDS: dict[FinishReason, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "content_filtered",
    "error": "malformed_model_output",
}


_REASONS = StopReasons(_MEANINGS, _WORDS)
finish_reason, stop_reason = _REASONS.neutral, _REASONS.word


# --- token counts -------------------------------------------------------------------------------------------------


def decode_usage(usage: Fields) -> Usage:
    """The vendor counts cached input apart; the neutral count includes it.  Empties ``usage``."""
    read, write = take_count(usage, "cacheReadInputTokens"), take_count(usage, "cacheWriteInputTokens")
    return Usage(
        input_tokens=take_count(usage, "inputTokens") + read + write,
        output_tokens=take_count(usage, "outputTokens"),
        cache_read_tokens=read,
        cache_write_tokens=write,
        total_tokens=take_count(usage, "totalTokens"),
        extra=leftovers(NAME, usage),
    )


def encode_usage(usage: Usage) -> Fields:
    """Counts as a client of this wire adds them up."""
    body: Fields = {
        "inputTokens": max(0, usage.input_tokens - usage.cache_read_tokens - usage.cache_write_tokens),
        "outputTokens": usage.output_tokens,
        "totalTokens": usage.total_tokens or usage.input_tokens + usage.output_tokens,
    }
    cached = {"cacheReadInputTokens": usage.cache_read_tokens, "cacheWriteInputTokens": usage.cache_write_tokens}
    return body | {name: count for name, count in cached.items() if count} | own(usage.extra, NAME)


# --- media ----------------------------------------------------------------------------------------------------------

_MIME: dict[str, dict[str, str]] = {
    "image": {"png": "image/png", "jpeg": "image/jpeg", "gif": "image/gif", "webp": "image/webp"},
    "document": {
        "pdf": "application/pdf",
        "csv": "text/csv",
        "doc": "application/msword",
        "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "xls": "application/vnd.ms-excel",
        "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "html": "text/html",
        "txt": "text/plain",
        "md": "text/markdown",
    },
    "video": {
        "mp4": "video/mp4",
        "mov": "video/quicktime",
        "mkv": "video/x-matroska",
        "webm": "video/webm",
        "flv": "video/x-flv",
        "mpeg": "video/mpeg",
        "wmv": "video/x-ms-wmv",
        "three_gp": "video/3gpp",
    },
    "audio": {
        "mp3": "audio/mpeg",
        "wav": "audio/wav",
        "ogg": "audio/ogg",
        "opus": "audio/opus",
        "flac": "audio/flac",
        "aac": "audio/aac",
        "m4a": "audio/mp4",
    },
}
"""Format -> MIME type, for each kind of media this wire has."""

_FORMATS = {kind: {mime: form for form, mime in table.items()} for kind, table in _MIME.items()}
_FORMATS["image"]["image/jpg"] = "jpeg"
_FORMATS["audio"] |= {"audio/mp3": "mp3", "audio/x-wav": "wav"}


def media_format(media: Media) -> str | None:
    """This wire's word for a MIME type; ``None`` if it has none."""
    return _FORMATS[media.kind].get((media.mime_type or "").partition(";")[0].strip().lower())


def _decode_media(fields: Fields, kind: MediaKind) -> Media | None:
    """``None`` for a source only this wire knows."""
    form, name = take_text(fields, "format"), take_text(fields, "name")
    mime = _MIME[kind].get(form or "")
    if mime is None and form is not None:
        mime = form if "/" in form else f"{kind}/{form}"
        fields["format"] = form
    source = take_fields(fields, "source") or {}
    data, place = take_text(source, "bytes"), take_fields(source, "s3Location")
    if data is not None:
        return Media(kind, mime, decode_base64(data), name=name, extra=leftovers(NAME, fields))
    if place is not None:
        uri = take_text(place, "uri")
        put(fields, s3Location=place or None)
        return Media(kind, mime, url=uri, name=name, extra=leftovers(NAME, fields))
    return None


def media_block(media: Media, fields: Fields) -> Fields:
    """A media block.  ``fields`` are those of its Extra."""
    place = fields_of(fields.pop("s3Location", {}), "s3Location")
    if media.data is None:
        source: Fields = {"s3Location": {"uri": media.url or ""} | place}
    else:
        source = {"bytes": encode_base64(media.data)}
    body = put({}, format=media_format(media), name=media.name if media.kind == "document" else None)
    return {media.kind: body | {"source": source} | fields}


# --- blocks -> parts ------------------------------------------------------------------------------------------------


def decode_block(block: object) -> Part:
    """A content block as a part; one the neutral model has no word for stays whole.

    Raises :class:`~resilient_llm.wire.fields.Malformed` for what is no block.
    """
    whole = fields_of(block, "a content block")
    fields = dict(whole)
    if "text" in fields:
        return Text(take_text(fields, "text") or "", (), leftovers(NAME, fields))
    for kind in ("image", "document", "video", "audio"):
        if kind in fields:
            return _decode_media(fields_of(fields[kind], kind), kind) or Opaque(NAME, whole)
    if "toolUse" in fields:
        return _decode_call(fields_of(fields["toolUse"], "toolUse")) or Opaque(NAME, whole)
    if "toolResult" in fields:
        return _decode_result(fields_of(fields["toolResult"], "toolResult")) or Opaque(NAME, whole)
    if "reasoningContent" in fields:
        return decode_thought(fields_of(fields["reasoningContent"], "reasoningContent"))
    if "citationsContent" in fields:
        return _decode_cited(fields_of(fields["citationsContent"], "citationsContent"))
    return Opaque(NAME, whole)


def _decode_call(fields: Fields) -> ToolCall | None:
    """``None`` for a call that the vendor answers itself."""
    if fields.get("type") == SERVER_CALL:
        return None
    ident, name = take_text(fields, "toolUseId") or "", take_text(fields, "name") or ""
    return ToolCall(ident, name, arguments_text(fields.pop("input", None)), leftovers(NAME, fields))


SERVER_CALL: Final = "server_tool_use"
"""The type of a call that the vendor answers itself."""


def _decode_result(fields: Fields) -> ToolResult | None:
    """``None`` for the vendor's own result, which has a type."""
    if "type" in fields:
        return None
    ident, status = take_text(fields, "toolUseId") or "", take_text(fields, "status")
    content = take_items(fields, "content")
    parts = [_decode_result_part(item) for item in content]
    kept = tuple(part for part in parts if isinstance(part, Text | Media | Json))
    if len(kept) != len(parts):
        fields["content"] = content
    return ToolResult(ident, kept, None, status == "error", leftovers(NAME, fields))


def _decode_result_part(item: object) -> Part | Json:
    fields = fields_of(item, "a tool result's content")
    return Json(fields["json"]) if "json" in fields else decode_block(fields)


def decode_thought(fields: Fields) -> Thought:
    """A ``reasoningContent``; the data of a redacted one is its signature."""
    redacted = take_text(fields, "redactedContent")
    if redacted is not None:
        return Thought("", redacted, True, NAME, leftovers(NAME, fields))
    text = take_fields(fields, "reasoningText") or {}
    words, signature = take_text(text, "text") or "", take_text(text, "signature")
    return Thought(words, signature, False, NAME, leftovers(NAME, text))


def _decode_cited(fields: Fields) -> Text:
    """A text with citations: its pieces joined."""
    pieces = [fields_of(item, "cited text") for item in items_of(fields.get("content") or [], "content")]
    citations = [fields_of(item, "a citation") for item in items_of(fields.get("citations") or [], "citations")]
    return Text("".join(take_text(piece, "text") or "" for piece in pieces), tuple(citations))


# --- parts -> blocks of an answer -------------------------------------------------------------------------------------


def encode_part(part: Part) -> Fields | None:
    """A part of an answer as a client of this wire expects it; ``None`` for another vendor's own block."""
    match part:
        case Text():
            return text_block(part)
        case Refusal():
            return {"text": part.text}
        case ToolCall():
            return {"toolUse": call_fields(part.id, part.name, arguments_object(part)) | own(part.extra, NAME)}
        case Thought():
            return thought_block(part)
        case Media():
            return media_block(part, own(part.extra, NAME))
        case Opaque():
            return dict(part.data) if part.wire == NAME else None
        case _:
            return None  # results are the caller's to give, never part of an answer


def text_block(part: Text) -> Fields:
    """The text, with those annotations that are this wire's citations."""
    if citations := own_citations(part.annotations):
        return {"citationsContent": {"content": [{"text": part.text}], "citations": citations}}
    return {"text": part.text} | own(part.extra, NAME)


def own_citations(annotations: tuple[JsonObject, ...]) -> list[JsonObject]:
    """The annotations in this wire's shape: a location or a source, and no type."""
    return [each for each in annotations if "type" not in each and ("location" in each or "sourceContent" in each)]


def call_fields(ident: str, name: str, given: JsonObject) -> Fields:
    """The inside of a ``toolUse``."""
    return {"toolUseId": ident, "name": name, "input": given}


def thought_block(part: Thought) -> Fields:
    """Reasoning; signed only if this vendor signed it."""
    mine = part.origin == NAME
    if part.redacted:
        return {"reasoningContent": {"redactedContent": part.signature if mine and part.signature else ""}}
    text = put({"text": part.text}, signature=part.signature if mine else None)
    return {"reasoningContent": {"reasoningText": text | own(part.extra, NAME)}}
