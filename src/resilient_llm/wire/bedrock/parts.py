"""Bedrock Converse: content blocks, token counts and stop reasons, shared by whole answers, requests and streams."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from resilient_llm import model as m
from resilient_llm.wire.kit import fields as f
from resilient_llm.wire.kit.reasons import Reasons
from resilient_llm.wire.kit.tools import arguments_object, arguments_text

WIRE: Final = "bedrock_converse"

MediaKind: TypeAlias = Literal["image", "audio", "video", "document"]

REASONS: Final = Reasons(
    {
        "stop": "end_turn stop_sequence",
        "length": "max_tokens model_context_window_exceeded",
        "tool_calls": "tool_use",
        "content_filter": "content_filtered guardrail_intervened",
        "error": "malformed_model_output malformed_tool_use",
    },
    last="end_turn",
    take_any=True,
)


def decode_usage(usage: f.Fields) -> m.Usage:
    """The vendor counts cached input apart; the neutral count includes it."""
    usage = dict(usage)
    read, write = f.take_count(usage, "cacheReadInputTokens"), f.take_count(usage, "cacheWriteInputTokens")
    return m.Usage(
        input_tokens=f.take_count(usage, "inputTokens") + read + write,
        output_tokens=f.take_count(usage, "outputTokens"),
        cache_read_tokens=read,
        cache_write_tokens=write,
        total_tokens=f.take_count(usage, "totalTokens"),
        extra=f.unread(WIRE, usage),
    )


def encode_usage(usage: m.Usage) -> f.Fields:
    """Counts as a client of this wire adds them up."""
    body: f.Fields = {
        "inputTokens": max(0, usage.input_tokens - usage.cache_read_tokens - usage.cache_write_tokens),
        "outputTokens": usage.output_tokens,
        "totalTokens": usage.total_tokens or usage.input_tokens + usage.output_tokens,
    }
    cached = {"cacheReadInputTokens": usage.cache_read_tokens, "cacheWriteInputTokens": usage.cache_write_tokens}
    return body | {name: count for name, count in cached.items() if count} | f.own_fields(usage.extra, WIRE)


_TYPES = {
    "pdf": "application/pdf",
    "csv": "text/csv",
    "doc": "application/msword",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "xls": "application/vnd.ms-excel",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "html": "text/html",
    "txt": "text/plain",
    "md": "text/markdown",
    "mov": "video/quicktime",
    "mkv": "video/x-matroska",
    "flv": "video/x-flv",
    "wmv": "video/x-ms-wmv",
    "three_gp": "video/3gpp",
    "mp3": "audio/mpeg",
    "m4a": "audio/mp4",
}
"""Format -> MIME type, where it is not called after the format."""

_MIME: dict[str, dict[str, str]] = {
    kind: {name: _TYPES.get(name, f"{kind}/{name}") for name in names.split()}
    for kind, names in {
        "image": "png jpeg gif webp",
        "document": "pdf csv doc docx xls xlsx html txt md",
        "video": "mp4 mov mkv webm flv mpeg wmv three_gp",
        "audio": "mp3 wav ogg opus flac aac m4a",
    }.items()
}
"""Format -> MIME type, for each kind of media this wire has."""

_FORMATS = {kind: {mime: form for form, mime in table.items()} for kind, table in _MIME.items()}
_FORMATS["audio"] |= {"audio/mp3": "mp3", "audio/x-wav": "wav"}


def media_format(media: m.Media) -> str | None:
    """This wire's word for a MIME type; ``None`` if it has none."""
    return _FORMATS[media.kind].get((media.mime_type or "").partition(";")[0].strip().lower())


def _decode_media(fields: f.Fields, kind: MediaKind) -> m.Media | None:
    """``None`` for a source only this wire knows."""
    form, name = f.take_text(fields, "format"), f.take_text(fields, "name")
    mime = _MIME[kind].get(form or "")
    if mime is None and form is not None:
        mime = form if "/" in form else f"{kind}/{form}"
        fields["format"] = form
    source = f.take_object(fields, "source") or {}
    data, place = f.take_text(source, "bytes"), f.take_object(source, "s3Location")
    if data is not None:
        return m.Media(kind, mime, f.decode_base64(data), name=name, extra=f.unread(WIRE, fields))
    if place is not None:
        uri = f.take_text(place, "uri")
        f.put(fields, s3Location=place or None)
        return m.Media(kind, mime, url=uri, name=name, extra=f.unread(WIRE, fields))
    return None


def media_block(media: m.Media, fields: f.Fields) -> f.Fields:
    """A media block.  ``fields`` are those of its Extra."""
    place = f.object_of(fields.pop("s3Location", {}), "s3Location")
    if media.data is None:
        source: f.Fields = {"s3Location": {"uri": media.url or ""} | place}
    else:
        source = {"bytes": f.encode_base64(media.data)}
    body = f.put({}, format=media_format(media), name=media.name if media.kind == "document" else None)
    return {media.kind: body | {"source": source} | fields}


def decode_block(block: object) -> m.Part:
    """A content block as a part; one without a neutral word stays whole.  Raises ``Malformed`` for what is none."""
    whole = f.object_of(block, "a content block")
    fields = dict(whole)
    if "text" in fields:
        return m.Text(f.take_text(fields, "text") or "", (), f.unread(WIRE, fields))
    for kind in ("image", "document", "video", "audio"):
        if kind in fields:
            return _decode_media(f.object_of(fields[kind], kind), kind) or m.Opaque(WIRE, whole)
    if "toolUse" in fields:
        call = f.object_of(fields["toolUse"], "toolUse")
        if call.get("type") == SERVER_CALL:
            return m.Opaque(WIRE, whole)
        ident, name = f.take_text(call, "toolUseId") or "", f.take_text(call, "name") or ""
        return m.ToolCall(ident, name, arguments_text(call.pop("input", None)), f.unread(WIRE, call))
    if "reasoningContent" in fields:
        return decode_thought(f.object_of(fields["reasoningContent"], "reasoningContent"))
    if "citationsContent" in fields:
        cited = f.object_of(fields["citationsContent"], "citationsContent")
        pieces = [f.object_of(item, "cited text") for item in f.list_of(cited.get("content") or [], "content")]
        citations = [f.object_of(item, "a citation") for item in f.list_of(cited.get("citations") or [], "citations")]
        return m.Text("".join(f.take_text(piece, "text") or "" for piece in pieces), tuple(citations))
    return m.Opaque(WIRE, whole)


SERVER_CALL: Final = "server_tool_use"
"""The type of a call that the vendor answers itself."""


def decode_thought(fields: f.Fields) -> m.Thought:
    """A ``reasoningContent``; the data of a redacted one is its signature."""
    redacted = f.take_text(fields, "redactedContent")
    if redacted is not None:
        return m.Thought("", redacted, True, WIRE, f.unread(WIRE, fields))
    text = f.take_object(fields, "reasoningText") or {}
    words, signature = f.take_text(text, "text") or "", f.take_text(text, "signature")
    return m.Thought(words, signature, False, WIRE, f.unread(WIRE, text))


def encode_part(part: m.Part) -> f.Fields | None:
    """A part of an answer as a client of this wire expects it; ``None`` for another vendor's own block."""
    match part:
        case m.Text():
            return text_block(part)
        case m.Refusal():
            return {"text": part.text}
        case m.ToolCall():
            call: f.Fields = {"toolUseId": part.id, "name": part.name, "input": arguments_object(part)}
            return {"toolUse": call | f.own_fields(part.extra, WIRE)}
        case m.Thought():
            return thought_block(part)
        case m.Media():
            return media_block(part, f.own_fields(part.extra, WIRE))
        case m.Opaque():
            return dict(part.data) if part.wire == WIRE else None
        case _:
            return None  # results are the caller's to give, never part of an answer


def text_block(part: m.Text) -> f.Fields:
    """The text, with those annotations that are this wire's citations."""
    if citations := own_citations(part.annotations):
        return {"citationsContent": {"content": [{"text": part.text}], "citations": citations}}
    return {"text": part.text} | f.own_fields(part.extra, WIRE)


def own_citations(annotations: tuple[m.JsonObject, ...]) -> list[m.JsonObject]:
    """The annotations in this wire's shape: a location or a source, and no type."""
    return [each for each in annotations if "type" not in each and ("location" in each or "sourceContent" in each)]


def thought_block(part: m.Thought) -> f.Fields:
    """Reasoning; signed only if this vendor signed it."""
    mine = part.origin == WIRE
    if part.redacted:
        return {"reasoningContent": {"redactedContent": part.signature if mine and part.signature else ""}}
    text = f.put({"text": part.text}, signature=part.signature if mine else None)
    return {"reasoningContent": {"reasoningText": text | f.own_fields(part.extra, WIRE)}}
