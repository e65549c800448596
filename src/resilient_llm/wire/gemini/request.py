"""Gemini: requests, in both directions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal
from urllib.parse import quote, unquote

from resilient_llm import model as m
from resilient_llm.wire.features import Feature
from resilient_llm.wire.gemini import parts as p
from resilient_llm.wire.kit import fields as f
from resilient_llm.wire.kit.notes import Notes, fields_for, notes_on
from resilient_llm.wire.kit.tools import Pairing, offered_tools, tool_names
from resilient_llm.wire.protocol import JSON_HEADERS, HttpRequest
from resilient_llm.wire.settings import TABLES, read_rest, write_settings

_PATH = re.compile(r"(?:^|/)(?:(models|tunedModels|endpoints)/)?([^/:?]+):(\w+)")
"""Where a path names its model, whatever stands before it: a version, or a project, a location and a publisher."""

NO_SIGNATURE: Final = "skip_thought_signature_validator"
"""What Gemini 3 accepts for the signature that a call made by another model cannot have."""


def decode_request(whole: f.Fields, path: str) -> m.ChatRequest:
    fields = p.camel(dict(whole))
    model, stream = read_path(path)
    model = model or (f.take_text(fields, "model") or "").removeprefix("models/")
    ids, config = Pairing(p.MADE_UP), p.camel(f.take_object(fields, "generationConfig") or {})
    contents = [_decode_content(f.object_of(item, "a content"), ids) for item in f.take_list(fields, "contents")]
    if isinstance(said := fields.get("systemInstruction"), str):
        fields["systemInstruction"] = {"parts": {"text": said}}
    parts = f.take_list(f.take_object(fields, "systemInstruction") or {}, "parts")
    system = p.decode_parts(parts, Pairing(p.MADE_UP))
    tools, remaining = _decode_tools(f.take_list(fields, "tools"))
    choice, tool_config = _decode_choice(p.camel(f.take_object(fields, "toolConfig") or {}))
    output, reasoning = _decode_output(config), _decode_thinking(f.take_object(config, "thinkingConfig"))
    f.put(fields, generationConfig=config, tools=remaining or None, toolConfig=tool_config or None)
    return m.ChatRequest(
        (*([m.Message("system", system)] if system else []), *contents),
        tools=tools,
        tool_choice=choice,
        output=output,
        reasoning=reasoning,
        **read_rest(p.WIRE, fields, whole, model=model, stream=stream),
    )


def read_path(path: str) -> tuple[str, bool]:
    """The model and whether a stream is wanted."""
    found = _PATH.search(path)
    if found is None:
        return "", False
    kind, model, method = found.groups()
    name = unquote(model)
    return (name if kind in {None, "models"} else f"{kind}/{name}"), method.startswith("stream")


def _decode_content(fields: f.Fields, ids: Pairing) -> m.Message:
    said = f.take_text(fields, "role") or "user"
    parts = p.decode_parts(f.take_list(fields, "parts"), ids)
    if said == "function":
        fields["role"] = said  # what "user" was called for results; goes back as it came
    elif said not in {"user", "model"}:
        raise f.Malformed("a content has no role Gemini knows")
    role: m.Role = "assistant" if said == "model" else "user"
    if role == "user" and parts and all(isinstance(part, m.ToolResult) for part in parts):
        role = "tool"
    return m.Message(role, parts, extra=f.unread(p.WIRE, fields))


def _decode_tools(items: list[object]) -> tuple[tuple[m.Tool, ...], list[object]]:
    """The functions, and whatever else is among the tools."""
    tools: list[m.Tool] = []
    remaining: list[object] = []
    for item in items:
        fields = p.camel(f.object_of(item, "a tool"))
        tools += [
            _decode_tool(p.camel(f.object_of(each, "a function")))
            for each in f.take_list(fields, "functionDeclarations")
        ]
        remaining += [fields] if fields else []
    return tuple(tools), remaining


def _decode_tool(fields: f.Fields) -> m.Tool:
    name = f.take_text(fields, "name")
    if not name:
        raise f.Malformed("a function has no name")
    description = f.take_text(fields, "description")
    schema, older = f.take_object(fields, "parametersJsonSchema"), f.take_object(fields, "parameters")
    if schema is None and older is not None:
        schema = p.json_schema(older)
        f.put(fields, parameters=older if schema != older else None)
    return m.Tool(name, description, schema, extra=f.unread(p.WIRE, fields))


def _decode_choice(config: f.Fields) -> tuple[m.ToolChoice | None, f.Fields]:
    """The choice, and what it does not say: ``VALIDATED`` is ``auto`` with arguments that fit."""
    whole = p.camel(f.take_object(config, "functionCallingConfig") or {})
    rest = dict(whole)
    mode, names = (f.take_text(rest, "mode") or "").upper(), f.take_texts(rest, "allowedFunctionNames")
    known = _MODES.get(mode)
    choice = None if known is None else m.ToolChoice(known, names if mode == "ANY" else ())
    said = mode in {"ANY", "NONE"} or (mode == "AUTO" and not names)
    return choice, f.put(config, functionCallingConfig=(rest if said else whole) or None)


_MODES: Mapping[str, Literal["auto", "none", "required"]] = {
    "AUTO": "auto",
    "VALIDATED": "auto",
    "ANY": "required",
    "NONE": "none",
}


def _decode_output(config: f.Fields) -> m.OutputFormat | None:
    """The shape of the answer; what the neutral model cannot say stays in ``config``."""
    match config.get("responseMimeType"):
        case "text/plain":
            config.pop("responseMimeType")
            return m.OutputFormat("text")
        case "application/json":
            config.pop("responseMimeType")
        case _:
            return None
    schema, older = f.take_object(config, "responseJsonSchema"), f.take_object(config, "responseSchema")
    if schema is None and older is not None:
        schema = p.json_schema(older)
        f.put(config, responseSchema=older if schema != older else None)
    return m.OutputFormat("json_object") if schema is None else m.OutputFormat("json_schema", schema)


def _decode_thinking(fields: f.Fields | None) -> m.Reasoning | None:
    if fields is None:
        return None
    fields = p.camel(fields)
    level, budget = f.take_text(fields, "thinkingLevel"), f.take_int(fields, "thinkingBudget")
    if budget == -1:  # the model decides, which is no number of tokens
        fields["thinkingBudget"], budget = -1, None
    effort = level.lower() if level else "none" if budget == 0 else None
    return m.Reasoning(effort, budget, f.unread(p.WIRE, fields))


def encode_request(request: m.ChatRequest) -> HttpRequest:
    path = path_of(request.model, "streamGenerateContent?alt=sse" if request.stream else "generateContent")
    if request.source is not None and request.source.wire == p.WIRE:
        return HttpRequest(path, f.dump_forwarded(_forwarded(request, request.source.fields), request), JSON_HEADERS)
    notes = notes_on(request, p.WIRE, plain=True)
    writing = p.Writing(request.model, tool_names(request.messages), notes)
    body = _encode_turns(request.messages, writing)
    choice, output = request.tool_choice, request.output
    listed = choice is not None and choice.mode == "required"  # then names can be listed here
    tools = request.tools if listed else offered_tools(request, notes)
    if tools:
        body["tools"] = [{"functionDeclarations": [_encode_tool(tool, notes) for tool in tools]}]
    if choice is not None:
        mode = {"auto": "AUTO", "none": "NONE", "required": "ANY"}[choice.mode]
        names = list(choice.names) if listed else None
        body["toolConfig"] = {"functionCallingConfig": f.put({"mode": mode}, allowedFunctionNames=names or None)}
    config: f.Fields = {}
    if output is not None:
        config["responseMimeType"] = "text/plain" if output.kind == "text" else "application/json"
        f.put(config, responseJsonSchema=output.schema if output.kind != "text" else None)
    f.put(config, thinkingConfig=_encode_thinking(request.reasoning, request.model, notes))
    f.put(body, generationConfig=config or None)
    write_settings(TABLES[p.WIRE], request, body, notes)
    f.merge(body, notes.own)
    config = f.as_object(body.get("generationConfig"))
    if "responseSchema" in config:
        config.pop("responseJsonSchema", None)  # one or the other
    return HttpRequest(path, f.dump_request(body), JSON_HEADERS, notes.all())


def path_of(model: str, method: str) -> str:
    name = model if "/" in model else f"models/{model}"
    return f"/{quote(name, errors='replace')}:{method}"


def _forwarded(request: m.ChatRequest, source: m.JsonObject) -> f.Fields:
    """The caller's own body; only calls of another model's making get what Gemini 3 cannot do without."""
    body = dict(source)
    if "model" in body:
        body["model"] = f"models/{request.model}"
    if p.generation(request.model) >= 3:
        contents = [f.object_of(item, "a content") for item in f.take_list(dict(body), "contents")]
        for content in contents:
            parts = [f.object_of(part, "a part") for part in f.take_list(content, "parts")]
            content["parts"] = parts
            sign_calls(parts)
        body["contents"] = contents
    return body


def sign_calls(parts: list[f.Fields]) -> bool:
    """Put :data:`NO_SIGNATURE` on the first call of a turn that has calls but no signature; whether it was needed."""
    calls = [part for part in parts if "functionCall" in part or "function_call" in part]
    if not calls or any("thoughtSignature" in call or "thought_signature" in call for call in calls):
        return False
    calls[0]["thoughtSignature"] = NO_SIGNATURE
    return True


def _encode_turns(messages: tuple[m.Message, ...], writing: p.Writing) -> f.Fields:
    """Contents, and the system messages before them all.  Results of parallel calls belong into one turn."""
    system: list[f.Fields] = []
    contents: list[f.Fields] = []
    results: list[f.Fields] | None = None  # parts of the last turn, if it holds results only
    for message in messages:
        parts = p.encode_parts(message.parts, writing)
        fields_for(p.WIRE, message.extra, writing.notes)
        if message.role in {"system", "developer"}:
            if contents:
                writing.notes.add(Feature.SYSTEM_POSITION, "moved before the conversation")
            system += parts
        elif message.role == "tool" and results is not None:
            results += parts
        elif parts:
            role = "model" if message.role == "assistant" else "user"
            if role == "model" and p.generation(writing.model) >= 3 and sign_calls(parts):
                writing.notes.add(Feature.REASONING, "the check was skipped: another model made the call")
            contents.append({"role": role, "parts": parts, **f.own_fields(message.extra, p.WIRE)})
            results = parts if message.role == "tool" else None
    if system and not contents:
        writing.notes.add(Feature.SYSTEM, "sent as the user's turn: this wire wants one")
        return {"contents": [{"role": "user", "parts": system}]}
    return f.put({"contents": contents}, systemInstruction={"parts": system} if system else None)


def _encode_tool(tool: m.Tool, notes: Notes) -> f.Fields:
    if tool.strict:
        notes.add(Feature.TOOL_STRICT, "left out")
    extra = fields_for(p.WIRE, tool.extra, notes)
    schema = None if "parameters" in extra else tool.parameters
    return f.put({"name": tool.name}, description=tool.description, parametersJsonSchema=schema, **extra)


_BUDGETS = {"minimal": 1024, "low": 1024, "medium": 8192, "high": 24576, "xhigh": 24576, "max": 24576}
"""Thinking tokens for models that have no levels, as Google's own endpoint for OpenAI's clients translates them."""

_LEVELS = {"minimal": "MINIMAL", "low": "LOW", "medium": "MEDIUM", "high": "HIGH", "xhigh": "XHIGH", "max": "XHIGH"}


def _encode_thinking(reasoning: m.Reasoning | None, model: str, notes: Notes) -> f.Fields | None:
    if reasoning is None:
        return None
    fields = fields_for(p.WIRE, reasoning.extra, notes)
    effort, budget = reasoning.effort, reasoning.budget
    if budget is not None and effort in {None, "none"}:
        return {"thinkingBudget": budget, **fields}
    if effort is None:
        return fields
    if p.generation(model) >= 3 or not model:
        return {"thinkingLevel": _level(effort, model, notes), **fields}
    if effort == "none" or budget is not None:
        return {"thinkingBudget": budget or 0, **fields}
    notes.add(Feature.REASONING_EFFORT, f"{effort} sent as a budget of {_BUDGETS.get(effort, 8192)} tokens")
    return {"thinkingBudget": _BUDGETS.get(effort, 8192), **fields}


def _level(effort: str, model: str, notes: Notes) -> str:
    """Levels replaced budgets; none of them is "none", and the Pro models have no "minimal" either."""
    lowest = "LOW" if "-pro" in model else "MINIMAL"
    level = lowest if effort in {"none", "minimal"} else _LEVELS.get(effort, "MEDIUM")
    if level != effort.upper():
        notes.add(Feature.REASONING_EFFORT, f"{effort} sent as {level.lower()}")
    return level
