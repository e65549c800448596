"""Ollama: requests, as they are written."""

from __future__ import annotations

from typing import Final

from resilient_llm import model as m
from resilient_llm.wire.features import Feature
from resilient_llm.wire.kit import fields as f
from resilient_llm.wire.kit.notes import Notes, extras_for, fields_for, notes_on
from resilient_llm.wire.kit.tools import encode_message, encode_tool, offered_tools, result_extra, tool_names
from resilient_llm.wire.ollama.parts import WIRE, encode_parts, sent_id
from resilient_llm.wire.protocol import JSON_HEADERS, HttpRequest
from resilient_llm.wire.settings import TABLES, write_settings

PATH: Final = "/api/chat"

_EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}


def encode_request(request: m.ChatRequest) -> HttpRequest:
    if request.source is not None and request.source.wire == WIRE:
        body: f.Fields = {**request.source.fields, "model": request.model}
        if request.stream is not (body.get("stream") is not False):  # a stream is the default
            body["stream"] = request.stream
        return HttpRequest(PATH, f.dump_request(body), JSON_HEADERS)
    notes = notes_on(request, WIRE, plain=True)
    if request.tool_choice is not None and request.tool_choice.mode == "required":
        names = request.tool_choice.names
        raise notes.unsupported(Feature.TOOL_CHOICE_NAME if names else Feature.TOOL_CHOICE_REQUIRED)
    called = tool_names(request.messages)
    messages = [each for message in request.messages for each in _encode_message(message, called, notes)]
    body = {"model": request.model, "messages": messages, "stream": request.stream}
    if tools := _encode_tools(request, notes):
        body["tools"] = tools
    if request.output is not None and request.output.kind != "text":
        schema = request.output.schema if request.output.kind == "json_schema" else None
        body["format"] = "json" if schema is None else schema
    f.put(body, think=_encode_think(request.reasoning, notes))
    write_settings(TABLES[WIRE], request, body, notes)
    f.merge(body, notes.own)
    return HttpRequest(PATH, f.dump_request(body), JSON_HEADERS, notes.all())


def _encode_tools(request: m.ChatRequest, notes: Notes) -> list[f.Fields]:
    if request.tools and request.tool_choice is not None and request.tool_choice.mode == "none":
        notes.add(Feature.TOOL_CHOICE_NONE, "none: the tools were left out")
        return []
    tools = offered_tools(request, notes)
    extras_for(WIRE, (tool.extra for tool in tools), notes)
    if any(tool.strict for tool in tools):
        notes.add(Feature.TOOL_STRICT, "left out")
    return [encode_tool(tool, WIRE) for tool in tools]


def _encode_think(reasoning: m.Reasoning | None, notes: Notes) -> bool | str | None:
    if reasoning is None:
        return None
    fields_for(WIRE, reasoning.extra, notes)
    effort = reasoning.effort
    if effort == "none" or reasoning.budget == 0:
        return False
    if reasoning.budget is not None:
        notes.add(Feature.REASONING_BUDGET, "left out: the model decides")
    if effort is None:
        return True
    word = _EFFORTS.get(effort, "medium")
    if word != effort:
        notes.add(Feature.REASONING_EFFORT, f"{effort} sent as {word}")
    return word


def _encode_message(message: m.Message, names: dict[str, str], notes: Notes) -> list[f.Fields]:
    return encode_message(
        message,
        fields_for(WIRE, message.extra, notes),
        lambda result: _encode_result(result, names, notes),
        lambda parts, role: encode_parts(parts, role, notes),
    )


def _encode_result(result: m.ToolResult, names: dict[str, str], notes: Notes) -> f.Fields:
    result_extra(result, WIRE, notes)  # nothing of it is written back here
    fields: f.Fields = {"role": "tool", "content": result.text}
    name = result.name or names.get(result.tool_call_id)
    return f.put(fields, tool_name=name, tool_call_id=sent_id(result.tool_call_id))
