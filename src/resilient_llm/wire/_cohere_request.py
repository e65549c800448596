"""Cohere: requests, in both directions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, cast

from resilient_llm.model import (
    ChatRequest,
    Extra,
    Json,
    Media,
    Message,
    Opaque,
    OutputFormat,
    Part,
    Reasoning,
    Text,
    Thought,
    Tool,
    ToolChoice,
    ToolResult,
)
from resilient_llm.wire._cohere_parts import NAME, PLAN, citations, decode_parts, encode_parts
from resilient_llm.wire._rolewise import encode_message, result_extra, take_role
from resilient_llm.wire.codec import JSON_HEADERS, HttpRequest
from resilient_llm.wire.fields import (
    Fields,
    Malformed,
    dump,
    fields_of,
    items_of,
    leftovers,
    merge_own,
    put,
    request_extras,
    take_bool,
    take_fields,
    take_float,
    take_int,
    take_items,
    take_text,
    take_texts,
)
from resilient_llm.wire.notes import Notes, extras_for, fields_for, notes_on
from resilient_llm.wire.toolcalls import decode_tool, encode_tool, offered_tools

PATH: Final = "/v2/chat"


# --- reading -----------------------------------------------------------------------------------------------


def decode_request(whole: Fields, _path: str) -> ChatRequest:
    """Raises :class:`~resilient_llm.wire.fields.Malformed` for a field of the wrong type."""
    fields = dict(whole)
    messages = tuple(_decode_message(item) for item in take_items(fields, "messages"))
    tools = _decode_tools(fields)
    return ChatRequest(
        messages,
        take_text(fields, "model") or "",
        tools,
        tool_choice=_decode_choice(take_text(fields, "tool_choice")),
        output=_decode_format(take_fields(fields, "response_format")),
        reasoning=_decode_thinking(take_fields(fields, "thinking")),
        max_tokens=take_int(fields, "max_tokens"),
        temperature=take_float(fields, "temperature"),
        top_p=take_float(fields, "p"),
        top_k=take_int(fields, "k"),
        frequency_penalty=take_float(fields, "frequency_penalty"),
        presence_penalty=take_float(fields, "presence_penalty"),
        seed=take_int(fields, "seed"),
        stop=take_texts(fields, "stop_sequences"),
        logprobs=take_bool(fields, "logprobs"),
        stream=take_bool(fields, "stream") or False,
        extra=request_extras(NAME, fields),
        source=Extra(NAME, whole),
    )


def _decode_tools(fields: Fields) -> tuple[Tool, ...]:
    """The tools; the one switch for all of them, ``strict_tools``, belongs to each."""
    tools = [decode_tool(item, NAME) for item in take_items(fields, "tools")]
    if not tools:
        return ()
    strict = take_bool(fields, "strict_tools")
    return tuple(
        Tool(t.name, t.description, t.parameters, t.strict if strict is None else strict, t.extra) for t in tools
    )


def _decode_choice(word: str | None) -> ToolChoice | None:
    match word:
        case None:
            return None
        case "REQUIRED":
            return ToolChoice("required")
        case "NONE":
            return ToolChoice("none")
        case _:
            raise Malformed("tool_choice is neither REQUIRED nor NONE")


def _decode_format(fields: Fields | None) -> OutputFormat | None:
    if fields is None:
        return None
    kind = take_text(fields, "type")
    schema = take_fields(fields, "json_schema") or take_fields(fields, "schema")  # its name in earlier versions
    if kind == "json_object":
        return OutputFormat("json_schema", schema) if schema is not None else OutputFormat("json_object")
    if kind == "text":
        return OutputFormat("text")
    raise Malformed("response_format has no type Cohere knows")


def _decode_thinking(fields: Fields | None) -> Reasoning | None:
    if fields is None:
        return None
    kind, budget = take_text(fields, "type"), take_int(fields, "token_budget")
    return Reasoning("none" if kind == "disabled" else None, budget, leftovers(NAME, fields))


def _decode_message(value: object) -> Message:
    fields = fields_of(value, "a message")
    role = take_role(fields)
    if role == "tool":
        return Message(role, (_decode_result(fields),), extra=leftovers(NAME, fields))
    return Message(role, decode_parts(fields), extra=leftovers(NAME, fields))


def _decode_result(fields: Fields) -> ToolResult:
    """A tool's answer: text, or documents, whose data is what the tool found."""
    id_ = take_text(fields, "tool_call_id") or ""
    content = fields.pop("content", None)
    if content is None or isinstance(content, str):
        return ToolResult(id_, (Text(content or ""),))
    blocks = [fields_of(item, "a content block") for item in items_of(content, "content")]
    found = [_decode_found(block) for block in blocks]
    plain = all(_encode_found(part) == block for part, block in zip(found, blocks, strict=True))
    return ToolResult(id_, tuple(found), extra=None if plain else Extra(NAME, {"content": blocks}))


def _decode_found(block: Fields) -> Text | Json:
    if block.get("type") == "text" and isinstance(block.get("text"), str):
        return Text(cast("str", block["text"]))
    document = block.get("document")
    return Json(fields_of(document, "a document").get("data") if document is not None else block)


def _encode_found(part: Text | Json) -> Fields:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    data = part.value
    if not isinstance(data, Mapping):
        data = {"result": data}
    return {"type": "document", "document": {"data": cast("object", data)}}


# --- writing -----------------------------------------------------------------------------------------------


def encode_request(request: ChatRequest) -> HttpRequest:
    """The request for Cohere.  Raises ``UnsupportedFeature``.  A body that came in on this wire is forwarded."""
    if request.source is not None and request.source.wire == NAME:
        forwarded = {**request.source.fields, "model": request.model}
        if request.stream is not bool(forwarded.get("stream")):
            forwarded["stream"] = request.stream
        return HttpRequest(PATH, dump(forwarded), JSON_HEADERS)
    notes = notes_on(request, NAME, "n", "parallel_tool_calls", "top_logprobs")
    messages = [each for message in request.messages for each in _encode_message(message, notes)]
    body: Fields = {"model": request.model, "messages": messages, "stream": request.stream}
    body |= _encode_tools(request, notes)
    put(body, **_encode_settings(request))
    thinking = _encode_thinking(request.reasoning, notes)
    put(body, response_format=_encode_format(request.output), thinking=thinking)
    merge_own(body, request.extra, NAME)
    return HttpRequest(PATH, dump(body), JSON_HEADERS, notes.all())


def _encode_settings(request: ChatRequest) -> Fields:
    return {
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "p": request.top_p,
        "k": request.top_k,
        "frequency_penalty": request.frequency_penalty,
        "presence_penalty": request.presence_penalty,
        "seed": request.seed,
        "stop_sequences": list(request.stop) or None,
        "logprobs": request.logprobs,
    }


def _encode_tools(request: ChatRequest, notes: Notes) -> Fields:
    """Tools and the choice among them.  No tool can be named, so a named one is the only one offered."""
    choice, tools = request.tool_choice, offered_tools(request, notes)
    if not tools:
        return {}
    extras_for(NAME, (tool.extra for tool in tools), notes)
    body: Fields = {"tools": [encode_tool(tool, NAME) for tool in tools]}
    flags = {tool.strict for tool in tools}
    if len(flags) > 1:
        notes.add("tool.strict", "sent for all tools or none")
    if flags != {None}:
        body["strict_tools"] = flags == {True}
    word = {"required": "REQUIRED", "none": "NONE"}.get(choice.mode) if choice is not None else None
    return put(body, tool_choice=word)


def _encode_format(output: OutputFormat | None) -> Fields | None:
    if output is None:
        return None
    kind = "text" if output.kind == "text" else "json_object"
    return put({"type": kind}, json_schema=output.schema if output.kind == "json_schema" else None)


def _encode_thinking(reasoning: Reasoning | None, notes: Notes) -> Fields | None:
    if reasoning is None:
        return None
    extra = fields_for(NAME, reasoning.extra, notes)
    if reasoning.effort == "none":
        return put({"type": "disabled"}, token_budget=reasoning.budget, **extra)
    if reasoning.effort is not None and reasoning.budget is None:
        notes.add("reasoning.effort", "thinking enabled, without a level")
    return put({"type": "enabled"}, token_budget=reasoning.budget, **extra)


def _encode_message(message: Message, notes: Notes) -> list[Fields]:
    return encode_message(
        message,
        fields_for(NAME, message.extra, notes),
        lambda result: _encode_result(result, notes),
        lambda parts, _role: encode_parts(_ours(parts, notes)),
    )


def _encode_result(result: ToolResult, notes: Notes) -> Fields:
    content = result_extra(result, NAME, notes).get("content")
    if content is None:
        found = [part for part in result.parts if not isinstance(part, Media)]
        alone = len(found) == 1 and isinstance(found[0], Text)
        content = [_encode_found(part) for part in found] if found and not alone else result.text
    return {"role": "tool", "tool_call_id": result.tool_call_id, "content": content}


def _ours(parts: Iterable[Part], notes: Notes) -> list[Part]:
    """The parts that may be sent; what must not be left out raises ``UnsupportedFeature``."""
    kept: list[Part] = []
    for part in parts:
        if isinstance(part, Thought) and part.origin not in {NAME, PLAN}:
            notes.add("reasoning", "left out: another model's thoughts")
            continue
        if isinstance(part, Opaque) and part.wire != NAME:
            raise notes.unsupported("builtin_tools")
        if isinstance(part, Media) and part.kind != "image":
            raise notes.unsupported(part.kind)
        if isinstance(part, Media) and part.data is None and part.url is None:
            raise notes.unsupported("file_id")
        fields_for(NAME, getattr(part, "extra", None), notes)
        if isinstance(part, Text) and len(part.annotations) > len(citations([part])):
            notes.add("annotations", "left out")
        kept.append(part)
    return kept
