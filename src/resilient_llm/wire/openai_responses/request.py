"""OpenAI Responses requests <-> the neutral model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeGuard

from resilient_llm import model as m
from resilient_llm.wire.features import Feature
from resilient_llm.wire.kit import fields as f
from resilient_llm.wire.kit import openai as o
from resilient_llm.wire.kit.caching import sent_key
from resilient_llm.wire.kit.notes import Notes, extras_for, fields_for, lose_marks
from resilient_llm.wire.kit.tools import said, take_tool
from resilient_llm.wire.openai_responses import parts as p
from resilient_llm.wire.protocol import JSON_HEADERS, HttpRequest
from resilient_llm.wire.settings import TABLES, read_rest, write_settings

_LOGPROBS = "message.output_text.logprobs"
_ROLES: dict[str, m.Role] = {"user": "user", "system": "system", "developer": "developer"}
_OUTPUTS = ("_output", "_response")
"""How the types of items end that answer the model rather than come from it."""


def decode_request(whole: f.Fields, _path: str) -> m.ChatRequest:
    """A caller's request.  Raises ``Malformed``."""
    fields = dict(whole)
    messages, choice = _decode_input(fields), fields.pop("tool_choice", None)
    reasoning, text = f.take_object(fields, "reasoning") or {}, f.take_object(fields, "text") or {}
    effort, wanted = f.take_text(reasoning, "effort"), f.take_object(text, "format") or {}
    output = o.decode_format(wanted, wanted)
    if output is None:
        f.put(text, format=wanted or None)
    f.put(fields, reasoning=reasoning or None, text=text or None)
    included = f.as_list(fields.pop("include", None))
    f.put(fields, include=[name for name in included if name != _LOGPROBS] or None)
    return m.ChatRequest(
        messages=messages,
        tools=_decode_tools(fields),
        tool_choice=o.decode_tool_choice(choice, fields, _decode_named),
        output=output,
        reasoning=m.Reasoning(effort) if effort is not None else None,
        **read_rest(p.WIRE, fields, whole, logprobs=True if _LOGPROBS in included else None),
    )


def _decode_input(fields: f.Fields) -> tuple[m.Message, ...]:
    instructions, given = f.take_text(fields, "instructions"), fields.pop("input", None)
    messages = [m.Message("system", (m.Text(instructions),))] if instructions is not None else []
    if isinstance(given, str):
        messages.append(m.Message("user", (m.Text(given),)))
    elif given is not None:
        messages += _decode_items([f.object_of(item, "an item of input") for item in f.list_of(given, "input")])
    if not messages and not fields.get("previous_response_id") and not fields.get("prompt"):
        raise f.Malformed("input must be a text or a list with at least one item")
    return tuple(messages)


def _decode_items(items: Sequence[f.Fields]) -> list[m.Message]:
    """Consecutive items of the model's side make one turn, with at most one message item in it."""
    messages: list[m.Message] = []
    turn: list[m.Part] = []
    has_message = False
    for item in items:
        other = _decode_other(item)
        says = other is None and item.get("type", "message") == "message"
        if turn and (other is not None or (says and has_message)):
            messages.append(m.Message("assistant", tuple(turn)))
            turn, has_message = [], False
        if other is not None:
            messages.append(other)
        else:
            turn += p.decode_item(item)
            has_message = has_message or says
    if turn:
        messages.append(m.Message("assistant", tuple(turn)))
    return messages


def _decode_other(item: f.Fields) -> m.Message | None:
    """A message of the caller's side; ``None`` if the item is of the model's."""
    kind = f.as_text(item.get("type", "message"))
    if kind == "message" and item.get("role") != "assistant":
        role = _ROLES.get(f.as_text(item.get("role")))
        if role is None:
            return m.Message("user", (m.Opaque(p.WIRE, item),))
        extra = f.extra_of(p.WIRE, p.about_item(item, "role", "content"))
        return m.Message(role, tuple(p.decode_content(item.get("content"))), extra=extra)
    if kind == "function_call_output":
        return m.Message("tool", (_decode_result(item),))
    return m.Message("user", (m.Opaque(p.WIRE, item),)) if kind.endswith(_OUTPUTS) else None


def _decode_result(item: f.Fields) -> m.ToolResult:
    parts = p.decode_content(item.get("output"))
    plain = tuple(part for part in parts if isinstance(part, m.Text | m.Media))
    if len(plain) != len(parts):
        raise f.Malformed("the output of a function call holds something unknown")
    extra = f.extra_of(p.WIRE, p.about_item(item, "call_id", "output"))
    return m.ToolResult(f.as_text(item.get("call_id")), plain, extra=extra)


def _decode_tools(fields: f.Fields) -> tuple[m.Tool, ...]:
    """The functions; other tools stay behind in ``fields``."""
    tools = [f.object_of(tool, "a tool") for tool in f.take_list(fields, "tools", lone=False)]
    f.put(fields, tools=[tool for tool in tools if tool.get("type") != "function"] or None)
    functions = [tool for tool in tools if tool.get("type") == "function"]
    return tuple(take_tool({key: value for key, value in tool.items() if key != "type"}, p.WIRE) for tool in functions)


def _decode_named(choice: f.Fields) -> m.ToolChoice | None:
    """A choice that names functions, and nothing but functions."""
    if choice.get("type") == "function":
        name = f.as_text(choice.get("name"))
        return m.ToolChoice("required", (name,)) if name else None
    tools, mode = f.as_objects(choice.get("tools")), o.MODES.get(f.as_text(choice.get("mode")))
    names = tuple(f.as_text(tool.get("name")) for tool in tools if tool.get("type") == "function")
    return m.ToolChoice(mode, names) if mode is not None and all(names) and len(names) == len(tools) > 0 else None


def encode_request(request: m.ChatRequest) -> HttpRequest:
    """The request for a vendor of this wire; one that came in on it is forwarded.  Raises ``UnsupportedFeature``."""
    notes = Notes(p.WIRE)
    source = f.own_fields(request.source, p.WIRE)
    body = f.forwarded(request, source) if source else _fresh(request, notes)
    if source and isinstance(body.get("input"), list):  # another vendor's reasoning means nothing to this one
        items = f.as_list(body["input"])
        body["input"] = [one for one in items if not f.as_text(f.as_object(one).get("id")).startswith(p.FOREIGN)]
    return HttpRequest("/responses", f.dump_forwarded(body, request), JSON_HEADERS, notes.all())


def _fresh(request: m.ChatRequest, notes: Notes) -> f.Fields:
    body: f.Fields = {"model": request.model} if request.model else {}
    messages = request.messages
    first = messages[0] if messages else None
    if first is not None and first.role == "system" and _fits_instructions(first):
        body["instructions"] = first.text
        messages = messages[1:]
    body["input"] = [item for message in messages for item in _encode_message(message, notes)]
    write_settings(TABLES[p.WIRE], request, body, notes)
    lose_marks(request, notes)
    f.put(body, prompt_cache_key=sent_key(request.cache_key) if request.cache_key else None)
    f.put(body, include=[_LOGPROBS] if request.logprobs else None, stream=request.stream or None)
    f.put(body, tools=[_encode_tool(tool, notes) for tool in request.tools] or None)
    if request.tool_choice is not None:
        body["tool_choice"] = o.encode_tool_choice(
            request.tool_choice,
            lambda name: {"type": "function", "name": name},
            lambda allowed: {"type": "allowed_tools", **allowed},
        )
    if request.output is not None:
        wanted = o.encode_format(request.output)
        body["text"] = {"format": {"schema": {}} | wanted if "name" in wanted else wanted}
    if request.reasoning is not None:
        effort = o.effort_of(request.reasoning, notes)
        f.put(body, reasoning={"effort": effort} if effort is not None else None)
        f.merge(body, fields_for(p.WIRE, request.reasoning.extra, notes))
    f.merge(body, extras_for(p.WIRE, request.extra, notes))
    return body


def _fits_instructions(message: m.Message) -> bool:
    return message.extra is None and all(isinstance(part, m.Text) and part.extra is None for part in message.parts)


def _encode_message(message: m.Message, notes: Notes) -> list[f.Fields]:
    results = [_encode_result(part, notes) for part in message.parts if isinstance(part, m.ToolResult)]
    if message.name is not None:
        notes.add(Feature.MESSAGE_NAME, "left out")
    rest = [part for part in message.parts if not isinstance(part, m.ToolResult)]
    if message.role == "assistant":
        return results + p.encode_items(rest, notes, answer=False)
    items = [dict(part.data) for part in rest if _is_item(part)]
    rest = [part for part in rest if not _is_item(part)]
    if rest or not (items or results):
        content = p.encode_input(rest, notes)
        role = "user" if message.role == "tool" else message.role
        items.append({"role": role, "content": f.compact(content) or ""} | fields_for(p.WIRE, message.extra, notes))
    return results + items


def _is_item(part: m.Part) -> TypeGuard[m.Opaque]:
    """Whether a part is an item of its own."""
    kind = f.as_text(part.data.get("type")) if isinstance(part, m.Opaque) and part.wire == p.WIRE else "input_"
    return not kind.startswith("input_")


def _encode_result(result: m.ToolResult, notes: Notes) -> f.Fields:
    if result.is_error:
        notes.add(Feature.TOOL_RESULT_IS_ERROR, "left out")
    output = f.compact(p.encode_input(said(result), notes)) or ""
    item: f.Fields = {"type": "function_call_output", "call_id": result.tool_call_id, "output": output}
    return item | fields_for(p.WIRE, result.extra, notes)


def _encode_tool(tool: m.Tool, notes: Notes) -> f.Fields:
    body: f.Fields = {"type": "function", "name": tool.name}
    f.put(body, description=tool.description, parameters=tool.parameters, strict=tool.strict)
    return body | fields_for(p.WIRE, tool.extra, notes)
