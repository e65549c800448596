"""What OpenAI's two wires write alike: choices among tools, output formats, media, errors."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

from resilient_llm import model as m
from resilient_llm.errors import Fault, FaultKind
from resilient_llm.wire.features import Feature
from resilient_llm.wire.kit import fields as f
from resilient_llm.wire.kit.fields import Fields
from resilient_llm.wire.kit.notes import Notes

Kind: TypeAlias = Literal["image", "audio", "video", "document"]

MODES: Mapping[str, Literal["auto", "none", "required"]] = {
    "auto": "auto",
    "none": "none",
    "required": "required",
    "any": "required",
}
"""Words for how freely the model may choose among tools; the last is Mistral's."""

TEXT_FRAME = re.compile(
    rb'data: ?\{(?:"(?:id|object|created|model|system_fingerprint|service_tier)":(?:"[^"\\\x00-\x1f]*"|\d+|null),)*'
    rb'"choices":\[\{"index":0,"delta":\{"content":("(?:[^"\\\x00-\x1f]|\\["\\/bfnrt])+")\}'
    rb'(?:,"logprobs":null)?(?:,"finish_reason":null)?\}\]'
    rb'(?:,"(?:usage|service_tier|obfuscation)":(?:"[^"\\\x00-\x1f]*"|null))*\}\n\n'
)
"""A whole frame that adds text to the first choice and says nothing else."""


def decode_tool_choice(
    choice: object, extra: Fields, named: Callable[[Fields], m.ToolChoice | None]
) -> m.ToolChoice | None:
    """A choice among tools: a word, or an object that ``named`` reads.  One only the vendor knows goes to ``extra``."""
    if choice is None:
        return None
    if isinstance(choice, str):
        found = m.ToolChoice(MODES[choice]) if choice in MODES else None
    else:
        found = named(f.object_of(choice, "tool_choice"))
    if found is None:  # a custom or built-in tool, say
        extra["tool_choice"] = choice
    return found


def decode_format(wanted: Fields, schema: Fields) -> m.OutputFormat | None:
    """The shape an answer shall have; ``schema`` is the object that says more about a ``json_schema``."""
    match wanted.get("type"):
        case "json_schema":
            more = dict(schema)
            name, description = f.take_text(more, "name"), f.take_text(more, "description")
            given, strict = f.take_object(more, "schema"), f.take_bool(more, "strict")
            return m.OutputFormat("json_schema", given, name, description, strict)
        case "json_object":
            return m.OutputFormat("json_object")
        case "text":
            return m.OutputFormat("text")
        case _:
            return None


def encode_tool_choice(
    choice: m.ToolChoice, named: Callable[[str], Fields], allowed: Callable[[Fields], Fields]
) -> object:
    """A choice among tools; ``named`` writes one tool, ``allowed`` a mode and a list of tools."""
    if not choice.names or choice.mode == "none":
        return choice.mode
    tools = [named(name) for name in choice.names]
    if choice.mode == "required" and len(tools) == 1:
        return tools[0]
    return allowed({"mode": choice.mode, "tools": tools})


def encode_format(output: m.OutputFormat) -> Fields:
    """The shape an answer shall have, all of it in one object; the vendor wants a name."""
    if output.kind != "json_schema":
        return {"type": output.kind}
    body: Fields = {"type": "json_schema", "name": output.name or "answer"}
    return f.put(body, description=output.description, schema=output.schema, strict=output.strict)


_DATA_URL = re.compile(r"data:([^;,]*);base64,(.*)", re.DOTALL)


def decode_media(kind: Kind, url: str, extra: m.Extra | None, name: str | None = None) -> m.Media:
    """Media named by a URL, or inside of it in base64."""
    found = _DATA_URL.fullmatch(url)
    try:
        if found is not None:
            return m.Media(kind, found[1] or None, f.decode_base64(found[2]), name=name, extra=extra)
    except f.Malformed:
        pass
    return m.Media(kind, url=url, name=name, extra=extra)


def decode_audio(value: object, extra: m.Extra | None) -> m.Media | None:
    """Sound in a request; ``None`` if it cannot be read."""
    audio = f.as_object(value)
    try:
        data = f.decode_base64(f.as_text(audio.get("data")))
    except f.Malformed:
        return None
    return m.Media("audio", f"audio/{f.as_text(audio.get('format'))}", data, extra=extra)


def encode_audio(data: bytes, mime_type: str | None) -> Fields:
    """Sound as both wires take it; they have their own words for its type."""
    name = (mime_type or "audio/wav").partition("/")[2]
    audio = {"data": f.encode_base64(data), "format": _AUDIO_FORMATS.get(name, name)}
    return {"type": "input_audio", "input_audio": audio}


_EFFORTS = ((0, "none"), (2048, "low"), (8192, "medium"))
"""Highest thinking budget in tokens that still counts as this effort; above them all it is "high"."""


def effort_of(reasoning: m.Reasoning, notes: Notes) -> str | None:
    """The effort asked for, guessed from the budget if need be."""
    effort, budget = reasoning.effort, reasoning.budget
    if budget is None:
        return effort
    if effort is None:
        effort = next((word for limit, word in _EFFORTS if budget <= limit), "high")
    notes.add(Feature.REASONING_BUDGET, f"sent as effort {effort}")
    return effort


def data_url(part: m.Media, notes: Notes) -> str:
    """Inline content as a URL."""
    if part.data is None:
        raise notes.unsupported(Feature.FILE_ID)
    return url_of(part)


def url_of(part: m.Media) -> str:
    """Its URL, or one with its content inside."""
    if part.data is None:
        return part.url or ""
    return f"data:{part.mime_type or FALLBACK_TYPES[part.kind]};base64,{f.encode_base64(part.data)}"


FALLBACK_TYPES = {"audio": "audio/wav", "image": "image/png", "video": "video/mp4", "document": "application/pdf"}
"""For media whose type nobody named."""

_AUDIO_FORMATS = {"mpeg": "mp3", "x-wav": "wav", "wave": "wav", "vnd.wave": "wav"}


def left_out(part: m.Part, notes: Notes) -> None:
    """Note a part that has no place on a wire."""
    match part:
        case m.Opaque():
            notes.add(f"{part.wire}.{part.data.get('type')}", "left out")
        case m.Thought():
            notes.add(Feature.REASONING, "left out")
        case m.Media():
            notes.add(Feature.MEDIA_OF_ASSISTANT, "left out")
        case _:
            notes.add(Feature.TOOLS, f"a {type(part).__name__} left out where none belongs")


_ERRORS: Mapping[FaultKind, tuple[str, str | None]] = {
    FaultKind.RATE_LIMITED: ("rate_limit_error", "rate_limit_exceeded"),
    FaultKind.QUOTA_EXHAUSTED: ("insufficient_quota", "insufficient_quota"),
    FaultKind.AUTH: ("invalid_request_error", "invalid_api_key"),
    FaultKind.PERMISSION: ("permission_error", None),
    FaultKind.NOT_FOUND_MODEL: ("invalid_request_error", "model_not_found"),
    **dict.fromkeys((FaultKind.BAD_REQUEST, FaultKind.CONFLICT), ("invalid_request_error", None)),
    FaultKind.CONTEXT_LENGTH: ("invalid_request_error", "context_length_exceeded"),
    FaultKind.PAYLOAD_TOO_LARGE: ("invalid_request_error", None),
    FaultKind.CONTENT_FILTER: ("invalid_request_error", "content_filter"),
    FaultKind.UNSUPPORTED: ("invalid_request_error", "unsupported_parameter"),
    FaultKind.SEALED_REASONING: ("invalid_request_error", "invalid_encrypted_content"),
}
"""Type and code by which clients of this vendor tell errors apart; anything else is the server's fault."""


def encode_error(fault: Fault, message: str) -> Fields:
    """The body of an error answer, as Chat Completions, Responses and Embeddings share it.  A fault's own ``code`` goes
    before the one that its kind usually has."""
    kind, code = _ERRORS.get(fault.kind, ("server_error", None))
    return {"error": {"message": message, "type": kind, "param": None, "code": fault.code or code}}
