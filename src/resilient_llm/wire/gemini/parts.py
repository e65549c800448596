"""Gemini: the parts of a turn, schemas, reasons and token counts, as requests, answers and streams share them.

Names may be written in camelCase or snake_case; what is known is read in both and written in camelCase.  Function calls
may have no identifier.  A ``thoughtSignature`` belongs to the part it came with and is valid at Gemini only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, cast

from resilient_llm import model as m
from resilient_llm.wire.features import Feature
from resilient_llm.wire.kit import fields as f
from resilient_llm.wire.kit.notes import Notes, fields_for
from resilient_llm.wire.kit.openai import FALLBACK_TYPES, Kind
from resilient_llm.wire.kit.reasons import Reasons
from resilient_llm.wire.kit.tools import Pairing, arguments_object, arguments_text, subschemas

WIRE: Final = "gemini"
MADE_UP: Final = "gemini_call_"

_KNOWN = f.words("""
    allowedFunctionNames anyOf blockReason boolValue cachedContent cachedContentTokenCount candidateCount
    candidatesTokenCount codeExecutionResult continuationToken createTime displayName executableCode fileData
    fileUri finishReason frequencyPenalty functionCall functionCallingConfig functionDeclarations
    functionResponse generationConfig groundingMetadata includeThoughts inlineData jsonPath maxOutputTokens
    mediaResolution mimeType modelVersion nullValue numberValue outputDimensionality parametersJsonSchema
    partialArgs prefixItems presencePenalty promptFeedback promptTokenCount propertyOrdering responseId
    responseJsonSchema responseLogprobs responseMimeType responseSchema safetySettings stopSequences stringValue
    systemInstruction taskType thinkingBudget thinkingConfig thinkingLevel thoughtSignature thoughtsTokenCount
    toolConfig toolUsePromptTokenCount topK topP totalTokenCount usageMetadata videoMetadata willContinue
""")
"""Names of fields that may also be written in snake_case."""


def camel(fields: f.Fields) -> f.Fields:
    """``fields`` with the names that are known to us in camelCase."""
    for key in fields:
        if "_" in key:
            return {_camel(key): value for key, value in fields.items()}
    return fields


def _camel(key: str) -> str:
    head, *tail = key.split("_")
    name = head + "".join(word.capitalize() for word in tail)
    return name if name in _KNOWN else key


_KINDS: Mapping[str, Kind] = {"image": "image", "audio": "audio", "video": "video"}


def decode_parts(items: Iterable[object], ids: Pairing) -> tuple[m.Part, ...]:
    """The parts of one turn."""
    return tuple(part for item in items for part in _decode_part(camel(f.object_of(item, "a part")), ids))


def _decode_part(fields: f.Fields, ids: Pairing) -> tuple[m.Part, ...]:
    if fields.get("functionCall") is not None:
        call = camel(f.take_object(fields, "functionCall") or {})
        id_, name = f.take_text(call, "id"), f.take_text(call, "name") or ""
        arguments = arguments_text(f.take_object(call, "args"))
        extra = f.unread(WIRE, f.put(fields, functionCall=call or None))
        return (m.ToolCall(ids.call(id_, name), name, arguments, extra),)
    if fields.get("functionResponse") is not None:
        return (_decode_result(fields, ids),)
    if fields.get("inlineData") is not None or fields.get("fileData") is not None:
        return (_decode_media(fields),)
    if isinstance(fields.get("text"), str) or fields.keys() == {"thoughtSignature"}:
        return _decode_text(fields)
    return (m.Opaque(WIRE, fields),)


ATTACHED: Final = m.Extra(WIRE, {"attached": True})
"""Marks a signature that stood in the text part before it, to be put back there."""


def _decode_text(fields: f.Fields) -> tuple[m.Part, ...]:
    text, thought = f.take_text(fields, "text") or "", f.take_bool(fields, "thought")
    signature = f.take_text(fields, "thoughtSignature")
    if signature is not None and not text:
        return (m.Thought("", signature, origin=WIRE, extra=m.Extra(WIRE, {"thought": True}) if thought else None),)
    extra = f.unread(WIRE, fields)
    if thought:
        return (m.Thought(text, signature, origin=WIRE, extra=extra),)
    seal = () if signature is None else (m.Thought("", signature, origin=WIRE, extra=ATTACHED),)
    return (m.Text(text, extra=extra), *seal)


def _decode_result(fields: f.Fields, ids: Pairing) -> m.ToolResult:
    answer = camel(f.take_object(fields, "functionResponse") or {})
    id_, name = ids.result(f.take_text(answer, "id"), f.take_text(answer, "name"))
    is_error, parts = _decode_outcome(f.take_object(answer, "response") or {})
    beside = [camel(f.object_of(item, "a part")) for item in f.list_of(answer.get("parts") or [], "parts")]
    if all("inlineData" in each or "fileData" in each for each in beside):
        answer.pop("parts", None)
        parts += tuple(_decode_media(each) for each in beside)
    extra = f.unread(WIRE, f.put(fields, functionResponse=answer or None))
    return m.ToolResult(id_, parts, name, is_error, extra)


def _decode_outcome(response: f.Fields) -> tuple[bool, tuple[m.Text | m.Media | m.Json, ...]]:
    """A function's answer; alone under ``result`` or ``error`` text is text."""
    if response.keys() == {"error"}:
        error = response["error"]
        return True, (m.Text(error) if isinstance(error, str) else m.Json(error),)
    if response.keys() == {"result"} and isinstance(response["result"], str):
        return False, (m.Text(response["result"]),)
    return False, (m.Json(response),)


def _decode_media(fields: f.Fields) -> m.Media:
    inline = f.take_object(fields, "inlineData")
    source = camel(inline if inline is not None else f.take_object(fields, "fileData") or {})
    mime, name = f.take_text(source, "mimeType"), f.take_text(source, "displayName")
    extra = f.unread(WIRE, fields)
    kind = _KINDS.get((mime or "").partition("/")[0], "document")
    if inline is not None:
        return m.Media(kind, mime, f.decode_base64(f.take_text(source, "data") or ""), name=name, extra=extra)
    uri = f.take_text(source, "fileUri") or ""
    if _is_upload(uri):
        return m.Media(kind, mime, file_id=uri, name=name, extra=extra)
    return m.Media(kind, mime, url=uri, name=name, extra=extra)


def _is_upload(uri: str) -> bool:
    """A file that only Google can read."""
    return uri.startswith(("gs://", "https://generativelanguage.googleapis.com/", "files/"))


@dataclass(slots=True)
class Writing:
    """What writing a turn depends on, and what it had to give up."""

    model: str = ""
    names: Mapping[str, str] = field(default_factory=dict[str, str])
    notes: Notes = field(default_factory=lambda: Notes(WIRE))


def encode_parts(parts: Sequence[m.Part], writing: Writing) -> list[f.Fields]:
    """The parts of one turn of a request.  Raises ``UnsupportedFeature``."""
    written: list[f.Fields] = []
    for part in parts:
        if isinstance(part, m.Thought) and part.origin != WIRE:
            writing.notes.add(Feature.REASONING, "left out: another model's thoughts")
            continue
        if isinstance(part, m.Opaque) and part.wire != WIRE:
            raise writing.notes.unsupported(Feature.BUILTIN_TOOLS)
        fields_for(WIRE, getattr(part, "extra", None), writing.notes)
        _encode_part(part, writing, written)
    return written


def encode_shown(parts: Iterable[m.Part]) -> list[f.Fields]:
    """The parts of anybody's answer, as far as they can be shown here."""
    writing = Writing()
    written: list[f.Fields] = []
    for part in parts:
        if isinstance(part, m.Thought) and part.origin != WIRE:
            if part.text:
                written.append({"text": part.text, "thought": True})
        elif not isinstance(part, m.Opaque) or part.wire == WIRE:
            _encode_part(part, writing, written)
    return written


def _encode_part(part: m.Part, writing: Writing, written: list[f.Fields]) -> None:
    match part:
        case m.Text():
            if part.annotations:
                writing.notes.add(Feature.ANNOTATIONS, "left out")
            written.append({"text": part.text, **f.own_fields(part.extra, WIRE)})
        case m.Thought():
            _encode_thought(part, written)
        case m.Refusal():
            written.append({"text": part.text})
        case m.Media():
            written.append(_encode_media(part, writing))
        case m.ToolCall():
            extra = f.own_fields(part.extra, WIRE)
            said: f.Fields = {"name": part.name, "args": arguments_object(part, writing.notes)}
            said |= f.object_of(extra.pop("functionCall", {}), "functionCall")
            written.append({"functionCall": f.put(said, id=_sent_id(part.id)), **extra})
        case m.ToolResult():
            written += _encode_result(part, writing)
        case _:
            written.append(dict(part.data))


def _encode_thought(thought: m.Thought, written: list[f.Fields]) -> None:
    """A thought of Gemini's, or the bare signature of what stands before it."""
    if thought.text or thought.signature is None:
        seal = f.put({}, thoughtSignature=thought.signature)
        written.append({"text": thought.text, "thought": True, **seal, **f.own_fields(thought.extra, WIRE)})
    elif thought.extra == ATTACHED and written and "text" in written[-1]:
        written[-1]["thoughtSignature"] = thought.signature
    else:
        extra = f.own_fields(thought.extra, WIRE)
        extra.pop("attached", None)
        written.append({"text": "", **extra, "thoughtSignature": thought.signature})


def _sent_id(id_: str) -> str | None:
    """An identifier goes out if somebody gave it."""
    return None if id_.startswith(MADE_UP) or not id_ else id_


def _encode_result(result: m.ToolResult, writing: Writing) -> list[f.Fields]:
    """The result, and the media in it: inside for models that look there, beside it for those that do not."""
    extra = fields_for(WIRE, result.extra, writing.notes)
    more = f.object_of(extra.pop("functionResponse", {}), "functionResponse")
    name = result.name or writing.names.get(result.tool_call_id) or result.tool_call_id
    said: f.Fields = {"name": name, "response": _encode_outcome(result)}
    f.put(said, id=_sent_id(result.tool_call_id))
    media = [_encode_media(part, writing) for part in result.parts if isinstance(part, m.Media)]
    if media and generation(writing.model) >= 3:
        said["parts"], media = media, []
    elif media:
        writing.notes.add(Feature.MEDIA_IN_TOOL_RESULT, "sent beside the result")
    return [{"functionResponse": {**said, **more}, **extra}, *media]


def _encode_outcome(result: m.ToolResult) -> f.Fields:
    """The object that ``response`` has to be."""
    found = [part for part in result.parts if not isinstance(part, m.Media)]
    alone = found[0].value if len(found) == 1 and isinstance(found[0], m.Json) else None
    if result.is_error:
        return {"error": result.text if alone is None else alone}
    if isinstance(alone, Mapping):
        return dict(cast("Mapping[str, object]", alone))
    return {"result": result.text if alone is None else alone}


def _encode_media(media: m.Media, writing: Writing) -> f.Fields:
    mime = media.mime_type or FALLBACK_TYPES[media.kind]
    name = f.put({}, displayName=media.name)
    extra = f.own_fields(media.extra, WIRE)
    if media.data is not None:
        return {"inlineData": {"mimeType": mime, "data": f.encode_base64(media.data), **name}, **extra}
    if media.file_id is not None and not _is_upload(media.file_id):
        raise writing.notes.unsupported(Feature.FILE_ID)
    uri = media.file_id or media.url or ""
    if not (_is_upload(uri) or uri.startswith(("https://", "http://"))):
        raise writing.notes.unsupported(f"{media.kind}_url")
    return {"fileData": f.put({"fileUri": uri, **name}, mimeType=media.mime_type), **extra}


def generation(model: str) -> int:
    """The 3 of ``models/gemini-3-pro``; 0 for a name that does not say."""
    _, found, rest = model.rpartition("gemini-")
    digits = rest.partition(".")[0].partition("-")[0]
    return int(digits) if found and digits.isascii() and digits.isdigit() and len(digits) < 4 else 0


def json_schema(schema: m.JsonObject) -> f.Fields:
    """JSON schema from Gemini's older subset of OpenAPI, which says ``STRING`` and ``nullable``."""
    fields = camel(dict(schema))
    nullable = fields.pop("nullable", False)
    converted: f.Fields = {}
    for key, value in fields.items():
        if key == "type" and isinstance(value, str):
            converted[key] = [value.lower(), "null"] if nullable else value.lower()
        elif key != "propertyOrdering":
            converted[key] = subschemas(key, value, json_schema)
    return converted


REASONS: Final = Reasons(
    {
        "stop": "STOP",
        "tool_calls": "STOP",  # is also what ends an answer that calls functions
        "length": "MAX_TOKENS",
        "content_filter": """
            SAFETY RECITATION BLOCKLIST PROHIBITED_CONTENT SPII MODEL_ARMOR IMAGE_SAFETY IMAGE_PROHIBITED_CONTENT
            IMAGE_RECITATION
        """,
        "error": """
            OTHER MALFORMED_FUNCTION_CALL MALFORMED_RESPONSE UNEXPECTED_TOOL_CALL TOO_MANY_TOOL_CALLS
            MISSING_THOUGHT_SIGNATURE
        """,
        "other": "LANGUAGE NO_IMAGE IMAGE_OTHER ESCALATION PUP_LIMITED_DISABLED CONTINUATION",
    },
    last="FINISH_REASON_UNSPECIFIED",
)
DIVIDED: Final = "CONTINUATION"
"""Not an end: the :data:`TOKEN` of the candidate asks for more."""
TOKEN: Final = "continuationToken"

_NUMBERS = ("FINISH_REASON_UNSPECIFIED", "STOP", "MAX_TOKENS", "SAFETY", "RECITATION")
"""Where client libraries write the enumeration's numbers; beyond these the two endpoints differ."""


def take_finish(candidate: f.Fields) -> str | None:
    """Remove and return a candidate's ``finishReason``."""
    raw = candidate.get("finishReason")
    if isinstance(raw, int) and not isinstance(raw, bool):
        candidate.pop("finishReason")
        return _NUMBERS[raw] if 0 <= raw < len(_NUMBERS) else str(raw)
    return f.take_text(candidate, "finishReason")


def decode_usage(metadata: f.Fields) -> m.Usage | None:
    """Token counts.  What the model thought is output too; ``None`` if nothing was counted yet."""
    fields = camel(dict(metadata))
    prompt, cached = f.take_count(fields, "promptTokenCount"), f.take_count(fields, "cachedContentTokenCount")
    prompt += f.count_of(fields.get("toolUsePromptTokenCount"))  # what the vendor's own tools put into the prompt
    candidates, thoughts = f.take_count(fields, "candidatesTokenCount"), f.take_count(fields, "thoughtsTokenCount")
    total = f.take_count(fields, "totalTokenCount")
    if not (prompt or candidates or thoughts or total):
        return None
    extra = f.unread(WIRE, fields)
    return m.Usage(prompt, candidates + thoughts, cached, reasoning_tokens=thoughts, total_tokens=total, extra=extra)


def encode_usage(usage: m.Usage | None) -> f.Fields | None:
    """Token counts as Gemini's clients expect them."""
    if usage is None:
        return None
    extra = f.own_fields(usage.extra, WIRE)
    counts: f.Fields = {
        "promptTokenCount": max(usage.input_tokens - f.count_of(extra.get("toolUsePromptTokenCount")), 0),
        "candidatesTokenCount": max(usage.output_tokens - usage.reasoning_tokens, 0),
        "totalTokenCount": usage.total_tokens or usage.input_tokens + usage.output_tokens,
    }
    f.put(counts, thoughtsTokenCount=usage.reasoning_tokens or None)
    f.put(counts, cachedContentTokenCount=usage.cache_read_tokens or None)
    return {**counts, **extra}
