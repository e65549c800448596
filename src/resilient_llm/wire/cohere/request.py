"""Cohere: requests, in both directions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final, cast

from resilient_llm import model as m
from resilient_llm.wire.cohere.parts import PLAN, WIRE, citations, decode_parts, encode_parts
from resilient_llm.wire.features import Feature
from resilient_llm.wire.kit import fields as f
from resilient_llm.wire.kit import tools as t
from resilient_llm.wire.kit.notes import Notes, extras_for, fields_for, notes_on
from resilient_llm.wire.protocol import JSON_HEADERS, HttpRequest
from resilient_llm.wire.settings import TABLES, read_rest, write_settings

PATH: Final = "/v2/chat"


def decode_request(whole: f.Fields, _path: str) -> m.ChatRequest:
    """Raises :class:`~resilient_llm.wire.kit.fields.Malformed` for a field of the wrong type."""
    fields = dict(whole)
    messages = tuple(_decode_message(item) for item in f.take_list(fields, "messages"))
    tools = _decode_tools(fields)
    word = f.take_text(fields, "tool_choice")
    if word not in (None, "REQUIRED", "NONE"):
        raise f.Malformed("tool_choice is neither REQUIRED nor NONE")
    return m.ChatRequest(
        messages,
        tools=tools,
        tool_choice=None if word is None else m.ToolChoice("required" if word == "REQUIRED" else "none"),
        output=_decode_format(f.take_object(fields, "response_format")),
        reasoning=_decode_thinking(f.take_object(fields, "thinking")),
        **read_rest(WIRE, fields, whole),
    )


def _decode_tools(fields: f.Fields) -> tuple[m.Tool, ...]:
    """The tools; the one switch for all of them, ``strict_tools``, belongs to each."""
    tools = [t.decode_tool(item, WIRE) for item in f.take_list(fields, "tools")]
    if not tools:
        return ()
    strict = f.take_bool(fields, "strict_tools")
    return tuple(tool if strict is None else replace(tool, strict=strict) for tool in tools)


def _decode_format(fields: f.Fields | None) -> m.OutputFormat | None:
    if fields is None:
        return None
    kind = f.take_text(fields, "type")
    schema = f.take_object(fields, "json_schema") or f.take_object(fields, "schema")  # its name in earlier versions
    if kind == "json_object":
        return m.OutputFormat("json_schema", schema) if schema is not None else m.OutputFormat("json_object")
    if kind == "text":
        return m.OutputFormat("text")
    raise f.Malformed("response_format has no type Cohere knows")


def _decode_thinking(fields: f.Fields | None) -> m.Reasoning | None:
    if fields is None:
        return None
    kind, budget = f.take_text(fields, "type"), f.take_int(fields, "token_budget")
    return m.Reasoning("none" if kind == "disabled" else None, budget, f.unread(WIRE, fields))


def _decode_message(value: object) -> m.Message:
    fields = f.object_of(value, "a message")
    role = t.take_role(fields)
    parts = (_decode_result(fields),) if role == "tool" else decode_parts(fields)
    return m.Message(role, parts, extra=f.unread(WIRE, fields))


def _decode_result(fields: f.Fields) -> m.ToolResult:
    """A tool's answer: text, or documents, whose data is what the tool found."""
    id_ = f.take_text(fields, "tool_call_id") or ""
    content = fields.pop("content", None)
    if content is None or isinstance(content, str):
        return m.ToolResult(id_, (m.Text(content or ""),))
    blocks = [f.object_of(item, "a content block") for item in f.list_of(content, "content")]
    found = [_decode_found(block) for block in blocks]
    plain = all(_encode_found(part) == block for part, block in zip(found, blocks, strict=True))
    return m.ToolResult(id_, tuple(found), extra=None if plain else m.Extra(WIRE, {"content": blocks}))


def _decode_found(block: f.Fields) -> m.Text | m.Json:
    if block.get("type") == "text" and isinstance(block.get("text"), str):
        return m.Text(cast("str", block["text"]))
    document = block.get("document")
    return m.Json(f.object_of(document, "a document").get("data") if document is not None else block)


def _encode_found(part: m.Text | m.Json) -> f.Fields:
    if isinstance(part, m.Text):
        return {"type": "text", "text": part.text}
    data: object = part.value if f.is_object(part.value) else {"result": part.value}
    return {"type": "document", "document": {"data": data}}


def encode_request(request: m.ChatRequest) -> HttpRequest:
    """The request for Cohere.  Raises ``UnsupportedFeature``.  A body that came in on this wire is forwarded."""
    if request.source is not None and request.source.wire == WIRE:
        return HttpRequest(PATH, f.dump_forwarded(f.forwarded(request, request.source.fields), request), JSON_HEADERS)
    notes = notes_on(request, WIRE, plain=True)
    messages = [each for message in request.messages for each in _encode_message(message, notes)]
    body: f.Fields = {"model": request.model, "messages": messages, "stream": request.stream}
    body |= _encode_tools(request, notes)
    write_settings(TABLES[WIRE], request, body, notes)
    if (output := request.output) is not None:
        wanted: f.Fields = {"type": "text" if output.kind == "text" else "json_object"}
        body["response_format"] = f.put(wanted, json_schema=output.schema if output.kind == "json_schema" else None)
    f.put(body, thinking=_encode_thinking(request.reasoning, notes))
    f.merge(body, notes.own)
    return HttpRequest(PATH, f.dump_request(body), JSON_HEADERS, notes.all())


def _encode_tools(request: m.ChatRequest, notes: Notes) -> f.Fields:
    """Tools and the choice among them.  No tool can be named, so a named one is the only one offered."""
    choice, tools = request.tool_choice, t.offered_tools(request, notes)
    if not tools:
        return {}
    extras_for(WIRE, (tool.extra for tool in tools), notes)
    body: f.Fields = {"tools": [t.encode_tool(tool, WIRE) for tool in tools]}
    flags = {tool.strict for tool in tools}
    if len(flags) > 1:
        notes.add(Feature.TOOL_STRICT, "sent for all tools or none")
    if flags != {None}:
        body["strict_tools"] = flags == {True}
    word = {"required": "REQUIRED", "none": "NONE"}.get(choice.mode) if choice is not None else None
    return f.put(body, tool_choice=word)


def _encode_thinking(reasoning: m.Reasoning | None, notes: Notes) -> f.Fields | None:
    if reasoning is None:
        return None
    extra = fields_for(WIRE, reasoning.extra, notes)
    if reasoning.effort == "none":
        return f.put({"type": "disabled"}, token_budget=reasoning.budget, **extra)
    if reasoning.effort is not None and reasoning.budget is None:
        notes.add(Feature.REASONING_EFFORT, "thinking enabled, without a level")
    return f.put({"type": "enabled"}, token_budget=reasoning.budget, **extra)


def _encode_message(message: m.Message, notes: Notes) -> list[f.Fields]:
    return t.encode_message(
        message,
        fields_for(WIRE, message.extra, notes),
        lambda result: _encode_result(result, notes),
        lambda parts, _role: encode_parts(_ours(parts, notes)),
    )


def _encode_result(result: m.ToolResult, notes: Notes) -> f.Fields:
    content = t.result_extra(result, WIRE, notes).get("content")
    if content is None:
        found = [part for part in result.parts if not isinstance(part, m.Media)]
        alone = len(found) == 1 and isinstance(found[0], m.Text)
        content = [_encode_found(part) for part in found] if found and not alone else result.text
    return {"role": "tool", "tool_call_id": result.tool_call_id, "content": content}


def _ours(parts: Iterable[m.Part], notes: Notes) -> list[m.Part]:
    """The parts that may be sent; what must not be left out raises ``UnsupportedFeature``."""
    kept: list[m.Part] = []
    for part in parts:
        if isinstance(part, m.Thought) and part.origin not in {WIRE, PLAN}:
            notes.add(Feature.REASONING, "left out: another model's thoughts")
            continue
        if isinstance(part, m.Opaque) and part.wire != WIRE:
            raise notes.unsupported(Feature.BUILTIN_TOOLS)
        if isinstance(part, m.Media) and part.kind != "image":
            raise notes.unsupported(part.kind)
        if isinstance(part, m.Media) and part.data is None and part.url is None:
            raise notes.unsupported(Feature.FILE_ID)
        fields_for(WIRE, getattr(part, "extra", None), notes)
        if isinstance(part, m.Text) and len(part.annotations) > len(citations([part])):
            notes.add(Feature.ANNOTATIONS, "left out")
        kept.append(part)
    return kept
