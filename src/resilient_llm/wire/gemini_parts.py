"""Gemini: the parts of a turn, schemas, reasons and token counts, as requests, answers and streams share them.

Names may be written in camelCase or snake_case; what is known is read in both and written in camelCase.  Function calls
may have no identifier.  A ``thoughtSignature`` belongs to the part it came with and is valid at Gemini only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, cast

from resilient_llm.model import (
    Extra,
    FinishReason,
    Json,
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
from resilient_llm.wire.fields import (
    Fields,
    count_of,
    decode_base64,
    encode_base64,
    fields_of,
    items_of,
    leftovers,
    own,
    put,
    take_bool,
    take_count,
    take_fields,
    take_text,
)
from resilient_llm.wire.notes import Notes, fields_for
from resilient_llm.wire.toolcalls import arguments_object, arguments_text

NAME: Final = "gemini"
MADE_UP: Final = "gemini_call_"

_KNOWN = frozenset(
    [
        "allowedFunctionNames",
        "anyOf",
        "blockReason",
        "boolValue",
        "cachedContent",
        "cachedContentTokenCount",
        "candidateCount",
        "candidatesTokenCount",
        "codeExecutionResult",
        "createTime",
        "displayName",
        "executableCode",
        "fileData",
        "fileUri",
        "finishReason",
        "frequencyPenalty",
        "functionCall",
        "functionCallingConfig",
        "functionDeclarations",
        "functionResponse",
        "generationConfig",
        "groundingMetadata",
        "includeThoughts",
        "inlineData",
        "jsonPath",
        "maxOutputTokens",
        "mediaResolution",
        "mimeType",
        "modelVersion",
        "nullValue",
        "numberValue",
        "outputDimensionality",
        "parametersJsonSchema",
        "partialArgs",
        "prefixItems",
        "presencePenalty",
        "promptFeedback",
        "promptTokenCount",
        "propertyOrdering",
        "responseId",
        "responseJsonSchema",
        "responseLogprobs",
        "responseMimeType",
        "responseSchema",
        "safetySettings",
        "stopSequences",
        "stringValue",
        "systemInstruction",
        "taskType",
        "thinkingBudget",
        "thinkingConfig",
        "thinkingLevel",
        "thoughtSignature",
        "thoughtsTokenCount",
        "toolConfig",
        "topK",
        "topP",
        "toolUsePromptTokenCount",
        "totalTokenCount",
        "usageMetadata",
        "videoMetadata",
        "willContinue",
    ]
)


def camel(fields: Fields) -> Fields:
    """``fields`` with the names that are known to us in camelCase."""
    for key in fields:
        if "_" in key:
            return {_camel(key): value for key, value in fields.items()}
    return fields


def _camel(key: str) -> str:
    head, *tail = key.split("_")
    name = head + "".join(word.capitalize() for word in tail)
    return name if name in _KNOWN else key


# --- reading parts -----------------------------------------------------------------------------------------

_Kind: TypeAlias = Literal["image", "audio", "video", "document"]
_KINDS: Mapping[str, _Kind] = {"image": "image", "audio": "audio", "video": "video"}

NameCall: TypeAlias = Callable[[str | None, str], str]
"""Gives a call its identifier."""
NameResult: TypeAlias = Callable[[str | None, str | None], tuple[str, str | None]]
"""Gives a result the identifier and the name of its call."""


@dataclass(frozen=True, slots=True)
class Ids:
    """How calls and results get their identifiers."""

    call: NameCall
    result: NameResult


def decode_parts(items: Iterable[object], ids: Ids) -> tuple[Part, ...]:
    """The parts of one turn."""
    return tuple(part for item in items for part in _decode_part(camel(fields_of(item, "a part")), ids))


def _decode_part(fields: Fields, ids: Ids) -> tuple[Part, ...]:
    if fields.get("functionCall") is not None:
        return (decode_call(fields, ids.call),)
    if fields.get("functionResponse") is not None:
        return (_decode_result(fields, ids.result),)
    if fields.get("inlineData") is not None or fields.get("fileData") is not None:
        return (_decode_media(fields),)
    if isinstance(fields.get("text"), str) or fields.keys() == {"thoughtSignature"}:
        return _decode_text(fields)
    return (Opaque(NAME, fields),)


ATTACHED: Final = Extra(NAME, {"attached": True})
"""Marks a signature that stood in the text part before it, to be put back there."""


def _decode_text(fields: Fields) -> tuple[Part, ...]:
    text, thought = take_text(fields, "text") or "", take_bool(fields, "thought")
    signature = take_text(fields, "thoughtSignature")
    if signature is not None and not text:
        return (Thought("", signature, origin=NAME, extra=Extra(NAME, {"thought": True}) if thought else None),)
    extra = leftovers(NAME, fields)
    if thought:
        return (Thought(text, signature, origin=NAME, extra=extra),)
    seal = () if signature is None else (Thought("", signature, origin=NAME, extra=ATTACHED),)
    return (Text(text, extra=extra), *seal)


def decode_call(fields: Fields, name_call: NameCall) -> ToolCall:
    """A part that holds a whole function call."""
    call = camel(take_fields(fields, "functionCall") or {})
    id_, name = take_text(call, "id"), take_text(call, "name") or ""
    arguments = arguments_text(take_fields(call, "args"))
    extra = leftovers(NAME, put(fields, functionCall=call or None))
    return ToolCall(name_call(id_, name), name, arguments, extra)


def _decode_result(fields: Fields, name_result: NameResult) -> ToolResult:
    answer = camel(take_fields(fields, "functionResponse") or {})
    id_, name = name_result(take_text(answer, "id"), take_text(answer, "name"))
    is_error, parts = _decode_outcome(take_fields(answer, "response") or {})
    beside = [camel(fields_of(item, "a part")) for item in items_of(answer.get("parts") or [], "parts")]
    if all("inlineData" in each or "fileData" in each for each in beside):
        answer.pop("parts", None)
        parts += tuple(_decode_media(each) for each in beside)
    extra = leftovers(NAME, put(fields, functionResponse=answer or None))
    return ToolResult(id_, parts, name, is_error, extra)


def _decode_outcome(response: Fields) -> tuple[bool, tuple[Text | Media | Json, ...]]:
    """A function's answer; alone under ``result`` or ``error`` text is text."""
    if response.keys() == {"error"}:
        error = response["error"]
        return True, (Text(error) if isinstance(error, str) else Json(error),)
    if response.keys() == {"result"} and isinstance(response["result"], str):
        return False, (Text(response["result"]),)
    return False, (Json(response),)


def _decode_media(fields: Fields) -> Media:
    inline = take_fields(fields, "inlineData")
    source = camel(inline if inline is not None else take_fields(fields, "fileData") or {})
    mime, name = take_text(source, "mimeType"), take_text(source, "displayName")
    extra = leftovers(NAME, fields)
    kind = _kind(mime)
    if inline is not None:
        return Media(kind, mime, decode_base64(take_text(source, "data") or ""), name=name, extra=extra)
    uri = take_text(source, "fileUri") or ""
    if _is_upload(uri):
        return Media(kind, mime, file_id=uri, name=name, extra=extra)
    return Media(kind, mime, url=uri, name=name, extra=extra)


def _kind(mime: str | None) -> _Kind:
    return _KINDS.get((mime or "").partition("/")[0], "document")


def _is_upload(uri: str) -> bool:
    """A file that only Google can read."""
    return uri.startswith(("gs://", "https://generativelanguage.googleapis.com/", "files/"))


# --- writing parts -----------------------------------------------------------------------------------------


@dataclass(slots=True)
class Writing:
    """What writing a turn depends on, and what it had to give up."""

    model: str = ""
    names: Mapping[str, str] = field(default_factory=dict[str, str])
    notes: Notes = field(default_factory=lambda: Notes(NAME))


def encode_parts(parts: Sequence[Part], writing: Writing) -> list[Fields]:
    """The parts of one turn of a request.  Raises ``UnsupportedFeature``."""
    written: list[Fields] = []
    for part in parts:
        if isinstance(part, Thought) and part.origin != NAME:
            writing.notes.add("reasoning", "left out: another model's thoughts")
            continue
        if isinstance(part, Opaque) and part.wire != NAME:
            raise writing.notes.unsupported("builtin_tools")
        fields_for(NAME, getattr(part, "extra", None), writing.notes)
        _encode_part(part, writing, written)
    return written


def encode_shown(parts: Iterable[Part]) -> list[Fields]:
    """The parts of anybody's answer, as far as they can be shown here."""
    writing = Writing()
    written: list[Fields] = []
    for part in parts:
        if isinstance(part, Thought) and part.origin != NAME:
            if part.text:
                written.append({"text": part.text, "thought": True})
        elif not isinstance(part, Opaque) or part.wire == NAME:
            _encode_part(part, writing, written)
    return written


def _encode_part(part: Part, writing: Writing, written: list[Fields]) -> None:
    match part:
        case Text():
            if part.annotations:
                writing.notes.add("annotations", "left out")
            written.append({"text": part.text, **own(part.extra, NAME)})
        case Thought():
            _encode_thought(part, written)
        case Refusal():
            written.append({"text": part.text})
        case Media():
            written.append(_encode_media(part, writing))
        case ToolCall():
            written.append(_encode_call(part, writing.notes))
        case ToolResult():
            written += _encode_result(part, writing)
        case _:
            written.append(dict(part.data))


def _encode_thought(thought: Thought, written: list[Fields]) -> None:
    """A thought of Gemini's, or the bare signature of what stands before it."""
    if thought.text or thought.signature is None:
        seal = put({}, thoughtSignature=thought.signature)
        written.append({"text": thought.text, "thought": True, **seal, **own(thought.extra, NAME)})
    elif thought.extra == ATTACHED and written and "text" in written[-1]:
        written[-1]["thoughtSignature"] = thought.signature
    else:
        extra = own(thought.extra, NAME)
        extra.pop("attached", None)
        written.append({"text": "", **extra, "thoughtSignature": thought.signature})


def _encode_call(call: ToolCall, notes: Notes) -> Fields:
    extra = own(call.extra, NAME)
    more = fields_of(extra.pop("functionCall", {}), "functionCall")
    said: Fields = {"name": call.name, "args": arguments_object(call, notes), **more}
    return {"functionCall": put(said, id=_sent_id(call.id)), **extra}


def _sent_id(id_: str) -> str | None:
    """An identifier goes out if somebody gave it."""
    return None if id_.startswith(MADE_UP) or not id_ else id_


def _encode_result(result: ToolResult, writing: Writing) -> list[Fields]:
    """The result, and the media in it: inside for models that look there, beside it for those that do not."""
    extra = fields_for(NAME, result.extra, writing.notes)
    more = fields_of(extra.pop("functionResponse", {}), "functionResponse")
    name = result.name or writing.names.get(result.tool_call_id) or result.tool_call_id
    said: Fields = {"name": name, "response": _encode_outcome(result)}
    put(said, id=_sent_id(result.tool_call_id))
    media = [_encode_media(part, writing) for part in result.parts if isinstance(part, Media)]
    if media and generation(writing.model) >= 3:
        said["parts"], media = media, []
    elif media:
        writing.notes.add("media_in_tool_result", "sent beside the result")
    return [{"functionResponse": {**said, **more}, **extra}, *media]


def _encode_outcome(result: ToolResult) -> Fields:
    """The object that ``response`` has to be."""
    found = [part for part in result.parts if not isinstance(part, Media)]
    alone = found[0].value if len(found) == 1 and isinstance(found[0], Json) else None
    if result.is_error:
        return {"error": result.text if alone is None else alone}
    if isinstance(alone, Mapping):
        return dict(cast("Mapping[str, object]", alone))
    return {"result": result.text if alone is None else alone}


def _encode_media(media: Media, writing: Writing) -> Fields:
    mime = media.mime_type or _MIME[media.kind]
    name = put({}, displayName=media.name)
    extra = own(media.extra, NAME)
    if media.data is not None:
        return {"inlineData": {"mimeType": mime, "data": encode_base64(media.data), **name}, **extra}
    if media.file_id is not None and not _is_upload(media.file_id):
        raise writing.notes.unsupported("file_id")
    uri = media.file_id or media.url or ""
    if not (_is_upload(uri) or uri.startswith(("https://", "http://"))):
        raise writing.notes.unsupported(f"{media.kind}_url")
    return {"fileData": put({"fileUri": uri, **name}, mimeType=media.mime_type), **extra}


_MIME: Mapping[_Kind, str] = {
    "image": "image/png",
    "audio": "audio/wav",
    "video": "video/mp4",
    "document": "application/pdf",
}


# --- models ------------------------------------------------------------------------------------------------


def generation(model: str) -> int:
    """The 3 of ``models/gemini-3-pro``; 0 for a name that does not say."""
    _, found, rest = model.rpartition("gemini-")
    digits = rest.partition(".")[0].partition("-")[0]
    return int(digits) if found and digits.isascii() and digits.isdigit() and len(digits) < 4 else 0


# --- schemas -----------------------------------------------------------------------------------------------

_NESTED = frozenset({"items", "additionalProperties", "not"})
_LISTED = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
_MAPPED = frozenset({"properties", "$defs", "defs"})


def json_schema(schema: object) -> object:
    """JSON schema from Gemini's older subset of OpenAPI, which says ``STRING`` and ``nullable``."""
    if not isinstance(schema, Mapping):
        return schema
    fields = camel(dict(cast("Mapping[str, object]", schema)))
    nullable = fields.pop("nullable", False)
    converted: Fields = {key: _convert(key, value) for key, value in fields.items() if key != "propertyOrdering"}
    if nullable and isinstance(converted.get("type"), str):
        converted["type"] = [converted["type"], "null"]
    return converted


def _convert(key: str, value: object) -> object:
    if key == "type" and isinstance(value, str):
        return value.lower()
    if key in _NESTED:
        return json_schema(value)
    if key in _LISTED and isinstance(value, list):
        return [json_schema(each) for each in cast("list[object]", value)]
    if key in _MAPPED and isinstance(value, Mapping):
        return {name: json_schema(each) for name, each in cast("Mapping[str, object]", value).items()}
    return value


# --- reasons -----------------------------------------------------------------------------------------------

FINISH: Mapping[str, FinishReason] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "MODEL_ARMOR": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
    "MALFORMED_FUNCTION_CALL": "error",
    "MALFORMED_RESPONSE": "error",
    "UNEXPECTED_TOOL_CALL": "error",
    "TOO_MANY_TOOL_CALLS": "error",
    "MISSING_THOUGHT_SIGNATURE": "error",
    "OTHER": "error",
    "LANGUAGE": "other",
    "NO_IMAGE": "other",
    "IMAGE_OTHER": "other",
    "ESCALATION": "other",
    "PUP_LIMITED_DISABLED": "other",
    "CONTINUATION": "other",  # not an end: the token that comes with it asks for more
}

_WORDS: Mapping[FinishReason, str] = {
    "stop": "STOP",
    "tool_calls": "STOP",
    "length": "MAX_TOKENS",
    "content_filter": "SAFETY",
    "other": "FINISH_REASON_UNSPECIFIED",
}

_NUMBERS = ("FINISH_REASON_UNSPECIFIED", "STOP", "MAX_TOKENS", "SAFETY", "RECITATION")
"""Where client libraries write the enumeration's numbers; beyond these the two endpoints differ."""


def take_finish(candidate: Fields) -> str | None:
    """Remove and return a candidate's ``finishReason``."""
    raw = candidate.get("finishReason")
    if isinstance(raw, int) and not isinstance(raw, bool):
        candidate.pop("finishReason")
        return _NUMBERS[raw] if 0 <= raw < len(_NUMBERS) else str(raw)
    return take_text(candidate, "finishReason")


def finish_reason(raw: str | None, called: bool) -> FinishReason:
    """The neutral word; ``STOP`` is also what ends an answer that calls functions."""
    reason = FINISH.get(raw or "", "other")
    return "tool_calls" if reason == "stop" and called else reason


def finish_word(reason: FinishReason, raw: str | None) -> str:
    """Gemini's word: its own where it means the same."""
    if raw is not None and FINISH.get(raw) == ("stop" if reason == "tool_calls" else reason):
        return raw
    return _WORDS.get(reason, "OTHER")


# --- token counts ------------------------------------------------------------------------------------------


def decode_usage(metadata: Fields) -> Usage | None:
    """Token counts.  What the model thought is output too; ``None`` if nothing was counted yet."""
    fields = camel(dict(metadata))
    prompt, cached = take_count(fields, "promptTokenCount"), take_count(fields, "cachedContentTokenCount")
    prompt += count_of(fields.get("toolUsePromptTokenCount"))  # what the vendor's own tools put into the prompt
    candidates, thoughts = take_count(fields, "candidatesTokenCount"), take_count(fields, "thoughtsTokenCount")
    total = take_count(fields, "totalTokenCount")
    if not (prompt or candidates or thoughts or total):
        return None
    extra = leftovers(NAME, fields)
    return Usage(prompt, candidates + thoughts, cached, reasoning_tokens=thoughts, total_tokens=total, extra=extra)


def encode_usage(usage: Usage | None) -> Fields | None:
    """Token counts as Gemini's clients expect them."""
    if usage is None:
        return None
    extra = own(usage.extra, NAME)
    counts: Fields = {
        "promptTokenCount": max(usage.input_tokens - count_of(extra.get("toolUsePromptTokenCount")), 0),
        "candidatesTokenCount": max(usage.output_tokens - usage.reasoning_tokens, 0),
        "totalTokenCount": usage.total_tokens or usage.input_tokens + usage.output_tokens,
    }
    put(counts, thoughtsTokenCount=usage.reasoning_tokens or None)
    put(counts, cachedContentTokenCount=usage.cache_read_tokens or None)
    return {**counts, **extra}
