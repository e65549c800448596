"""OpenAI Responses requests <-> the neutral model."""

from __future__ import annotations

from collections.abc import Sequence

from resilient_llm.errors import InvalidRequest
from resilient_llm.model import (
    ChatRequest,
    Extra,
    JsonObject,
    Media,
    Message,
    Opaque,
    OutputFormat,
    Part,
    Reasoning,
    Role,
    Text,
    Tool,
    ToolChoice,
    ToolResult,
)
from resilient_llm.wire._openai_json import (
    as_items,
    as_object,
    as_objects,
    as_text,
    dumps,
    get_bool,
    get_int,
    get_number,
    get_object,
    get_object_if_any,
    get_objects,
    get_text,
    own_extra,
    request_object,
    rest,
)
from resilient_llm.wire._openai_request import MODES, decode_format, decode_tool_choice, effort_of
from resilient_llm.wire._responses_items import (
    FOREIGN,
    WIRE,
    about_item,
    decode_content,
    decode_item,
    encode_input,
    encode_items,
)
from resilient_llm.wire.codec import JSON_HEADERS, HttpRequest
from resilient_llm.wire.fields import Fields, dump, forwarded, merge, put
from resilient_llm.wire.notes import Notes, extras_for, fields_for

_KNOWN = frozenset(
    {
        *("input", "instructions", "model", "tools", "tool_choice", "parallel_tool_calls", "max_output_tokens"),
        *("reasoning", "text", "temperature", "top_p", "top_logprobs", "include", "stream", "user"),
    }
)
_LOGPROBS = "message.output_text.logprobs"
_ROLES: dict[str, Role] = {"user": "user", "system": "system", "developer": "developer"}
_OUTPUTS = ("_output", "_response")
"""How the types of items end that answer the model rather than come from it."""


# --- decoding ----------------------------------------------------------------------------------------------


def decode_request(body: bytes) -> ChatRequest:
    """A caller's request.  Raises ``InvalidRequest``."""
    fields = request_object(body)
    extra = rest(fields, _KNOWN)
    settings = get_object(fields, "reasoning")
    for name, known in (("reasoning", ("effort",)), ("text", ("format",))):
        unknown = rest(get_object(fields, name), known)
        if unknown:
            extra[name] = unknown
    effort = get_text(settings, "effort")
    return ChatRequest(
        messages=_decode_input(fields),
        model=get_text(fields, "model") or "",
        tools=_decode_tools(get_objects(fields, "tools"), extra),
        tool_choice=decode_tool_choice(fields.get("tool_choice"), extra, _decode_named),
        parallel_tool_calls=get_bool(fields, "parallel_tool_calls"),
        output=_decode_format(get_object(get_object(fields, "text"), "format"), extra),
        reasoning=Reasoning(effort) if effort is not None else None,
        max_tokens=get_int(fields, "max_output_tokens"),
        temperature=get_number(fields, "temperature"),
        top_p=get_number(fields, "top_p"),
        logprobs=_decode_include(as_items(fields.get("include")), extra),
        top_logprobs=get_int(fields, "top_logprobs"),
        stream=get_bool(fields, "stream") or False,
        user=get_text(fields, "user"),
        extra=(Extra(WIRE, extra),) if extra else (),
        source=Extra(WIRE, fields),
    )


def _decode_include(include: list[object], extra: Fields) -> bool | None:
    others = [name for name in include if name != _LOGPROBS]
    if others:
        extra["include"] = others
    return True if _LOGPROBS in include else None


def _decode_input(fields: Fields) -> tuple[Message, ...]:
    instructions, given = get_text(fields, "instructions"), fields.get("input")
    messages = [Message("system", (Text(instructions),))] if instructions is not None else []
    if isinstance(given, str):
        messages.append(Message("user", (Text(given),)))
    else:
        messages += _decode_items(get_objects(fields, "input"))
    if not messages and not fields.get("previous_response_id") and not fields.get("prompt"):
        raise InvalidRequest("input must be a text or a list with at least one item")
    return tuple(messages)


def _decode_items(items: Sequence[Fields]) -> list[Message]:
    """Consecutive items of the model's side make one turn, with at most one message item in it."""
    messages: list[Message] = []
    turn: list[Part] = []
    spoken = False
    for item in items:
        other = _decode_other(item)
        says = other is None and item.get("type", "message") == "message"
        if turn and (other is not None or (says and spoken)):
            messages.append(Message("assistant", tuple(turn)))
            turn, spoken = [], False
        if other is not None:
            messages.append(other)
        else:
            turn += decode_item(item)
            spoken = spoken or says
    if turn:
        messages.append(Message("assistant", tuple(turn)))
    return messages


def _decode_other(item: Fields) -> Message | None:
    """A message of the caller's side; ``None`` if the item is of the model's."""
    kind = as_text(item.get("type", "message"))
    if kind == "message" and item.get("role") != "assistant":
        role = _ROLES.get(as_text(item.get("role")))
        if role is None:
            return Message("user", (Opaque(WIRE, item),))
        extra = own_extra(WIRE, about_item(item, "role", "content"))
        return Message(role, tuple(decode_content(item.get("content"))), extra=extra)
    if kind == "function_call_output":
        return Message("tool", (_decode_result(item),))
    return Message("user", (Opaque(WIRE, item),)) if kind.endswith(_OUTPUTS) else None


def _decode_result(item: Fields) -> ToolResult:
    parts = decode_content(item.get("output"))
    plain = tuple(part for part in parts if isinstance(part, Text | Media))
    if len(plain) != len(parts):
        raise InvalidRequest(f"the output of a function call holds something unknown: {dumps(item.get('output'))[:80]}")
    extra = own_extra(WIRE, about_item(item, "call_id", "output"))
    return ToolResult(as_text(item.get("call_id")), plain, extra=extra)


def _decode_tools(tools: Sequence[Fields], extra: Fields) -> tuple[Tool, ...]:
    others = [tool for tool in tools if tool.get("type") != "function"]
    if others:
        extra["tools"] = others
    return tuple(_decode_tool(tool) for tool in tools if tool.get("type") == "function")


def _decode_tool(tool: Fields) -> Tool:
    return Tool(
        get_text(tool, "name") or "",
        get_text(tool, "description"),
        get_object_if_any(tool, "parameters"),
        get_bool(tool, "strict"),
        own_extra(WIRE, rest(tool, ("type", "name", "description", "parameters", "strict"))),
    )


def _decode_named(choice: Fields) -> ToolChoice | None:
    """A choice that names functions, and nothing but functions."""
    if choice.get("type") == "function":
        name = as_text(choice.get("name"))
        return ToolChoice("required", (name,)) if name else None
    tools, mode = as_objects(choice.get("tools")), MODES.get(as_text(choice.get("mode")))
    names = tuple(as_text(tool.get("name")) for tool in tools if tool.get("type") == "function")
    return ToolChoice(mode, names) if mode is not None and all(names) and len(names) == len(tools) > 0 else None


def _decode_format(wanted: Fields, extra: Fields) -> OutputFormat | None:
    known = decode_format(wanted, wanted)
    if known is None and wanted:
        merge(extra, {"text": {"format": wanted}})
    return known


# --- encoding ----------------------------------------------------------------------------------------------


def encode_request(request: ChatRequest) -> HttpRequest:
    """The request for a vendor of this wire.  Raises ``UnsupportedFeature``.

    A body that came in on this wire is forwarded.
    """
    notes = Notes(WIRE)
    source = request.source
    body = _fresh(request, notes) if source is None or source.wire != WIRE else _forwarded(request, source.fields)
    return HttpRequest("/responses", dump(body), JSON_HEADERS, notes.all())


def _forwarded(request: ChatRequest, fields: JsonObject) -> Fields:
    body = forwarded(request, fields)
    if isinstance(body.get("input"), list):  # reasoning that another vendor's model did means nothing to this one
        body["input"] = [item for item in as_items(body["input"]) if not _is_foreign(as_object(item))]
    return body


def _is_foreign(item: Fields) -> bool:
    return as_text(item.get("id")).startswith(FOREIGN)


def _fresh(request: ChatRequest, notes: Notes) -> Fields:
    _check(request, notes)
    body: Fields = {"model": request.model} if request.model else {}
    messages = request.messages
    first = messages[0] if messages else None
    if first is not None and first.role == "system" and _is_plain(first):
        body["instructions"] = first.text
        messages = messages[1:]
    body["input"] = [item for message in messages for item in _encode_message(message, notes)]
    put(
        body,
        max_output_tokens=request.max_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        top_logprobs=request.top_logprobs,
        parallel_tool_calls=request.parallel_tool_calls,
        user=request.user,
    )
    if request.logprobs:
        body["include"] = [_LOGPROBS]
    if request.tools:
        body["tools"] = [_encode_tool(tool, notes) for tool in request.tools]
    if request.tool_choice is not None:
        body["tool_choice"] = _encode_tool_choice(request.tool_choice)
    if request.output is not None:
        body["text"] = {"format": _encode_format(request.output)}
    if request.reasoning is not None:
        _encode_reasoning(request.reasoning, body, notes)
    if request.stream:
        body["stream"] = True
    merge(body, extras_for(WIRE, request.extra, notes))
    return body


def _check(request: ChatRequest, notes: Notes) -> None:
    """What this wire has no field for.  Without ``stop`` and ``n`` the answer would be another one."""
    if request.stop:
        raise notes.unsupported("stop")
    if (request.n or 1) > 1:
        raise notes.unsupported("n")
    for name in ("seed", "top_k", "frequency_penalty", "presence_penalty"):
        if getattr(request, name) is not None:
            notes.add(name, "left out")


def _is_plain(message: Message) -> bool:
    return message.extra is None and all(isinstance(part, Text) and part.extra is None for part in message.parts)


def _encode_message(message: Message, notes: Notes) -> list[Fields]:
    results = [_encode_result(part, notes) for part in message.parts if isinstance(part, ToolResult)]
    if message.name is not None:
        notes.add("message.name", "left out")
    if message.role == "assistant":
        return results + encode_items((p for p in message.parts if not isinstance(p, ToolResult)), notes, answer=False)
    items: list[Fields] = []
    said: list[Part] = []
    for part in message.parts:
        if isinstance(part, Opaque) and part.wire == WIRE and not as_text(part.data.get("type")).startswith("input_"):
            items.append(dict(part.data))
        elif not isinstance(part, ToolResult):
            said.append(part)
    if said or not (items or results):
        content = encode_input(said, notes)
        role = "user" if message.role == "tool" else message.role
        items.append({"role": role, "content": _plain(content) or ""} | fields_for(WIRE, message.extra, notes))
    return results + items


def _plain(content: list[Fields]) -> object:
    """One text alone is a string."""
    if len(content) == 1 and content[0].keys() == {"type", "text"}:
        return content[0]["text"]
    return content


def _encode_result(result: ToolResult, notes: Notes) -> Fields:
    if result.is_error:
        notes.add("tool_result.is_error", "left out")
    output = _plain(encode_input(result.parts, notes)) or ""
    item: Fields = {"type": "function_call_output", "call_id": result.tool_call_id, "output": output}
    return item | fields_for(WIRE, result.extra, notes)


def _encode_tool(tool: Tool, notes: Notes) -> Fields:
    body: Fields = {"type": "function", "name": tool.name}
    put(body, description=tool.description, parameters=tool.parameters, strict=tool.strict)
    return body | fields_for(WIRE, tool.extra, notes)


def _encode_tool_choice(choice: ToolChoice) -> object:
    if not choice.names or choice.mode == "none":
        return choice.mode
    named = [{"type": "function", "name": name} for name in choice.names]
    if choice.mode == "required" and len(named) == 1:
        return named[0]
    return {"type": "allowed_tools", "mode": choice.mode, "tools": named}


def _encode_format(output: OutputFormat) -> Fields:
    if output.kind != "json_schema":
        return {"type": output.kind}
    body: Fields = {"type": "json_schema", "name": output.name or "answer", "schema": output.schema or {}}
    return put(body, description=output.description, strict=output.strict)


def _encode_reasoning(reasoning: Reasoning, body: Fields, notes: Notes) -> None:
    effort = effort_of(reasoning, notes)
    if effort is not None:
        body["reasoning"] = {"effort": effort}
    merge(body, fields_for(WIRE, reasoning.extra, notes))
