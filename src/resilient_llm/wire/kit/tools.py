"""Tools, their calls and their schemas, where several wires write them alike.

Gemini and Ollama pair a tool's result with its call by name and order, where everyone else has an identifier.  One made
up here depends on the answer alone, so that decoding the same bytes twice, whole or streamed, gives the same; its
prefix says that it is made up, so that it is not written back to a wire that never had it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import cast

from resilient_llm import model as m
from resilient_llm.wire.features import Feature
from resilient_llm.wire.kit import fields as f
from resilient_llm.wire.kit.notes import Notes, fields_for


def decode_tool(value: object, wire: str) -> m.Tool:
    """A tool in OpenAI's shape."""
    fields = f.object_of(value, "a tool")
    if fields.pop("type", "function") != "function":
        raise f.Malformed("a tool is not a function")
    function = f.take_object(fields, "function") or {}
    tool = take_tool(function, wire)
    more = f.put(fields, function=dict(tool.extra.fields) if tool.extra else None)
    return replace(tool, extra=f.unread(wire, more))


def take_tool(fields: f.Fields, wire: str, schema: str = "parameters") -> m.Tool:
    """A tool of these fields, all of which are taken; ``schema`` is the name of its parameters' schema."""
    name = f.take_text(fields, "name")
    if not name:
        raise f.Malformed("a tool has no name")
    description, strict = f.take_text(fields, "description"), f.take_bool(fields, "strict")
    return m.Tool(name, description, f.take_object(fields, schema), strict, f.unread(wire, fields))


def decode_call(value: object, wire: str, name_call: Callable[[str | None, str], str]) -> m.ToolCall:
    """A call in OpenAI's shape, as others write it; ``name_call`` gives it its identifier."""
    fields = f.object_of(value, "a tool call")
    fields.pop("type", None)
    id_, function = f.take_text(fields, "id"), f.take_object(fields, "function")
    if function is None:
        raise f.Malformed("a tool call without a function")
    name, arguments = f.take_text(function, "name") or "", arguments_text(function.pop("arguments", None))
    return m.ToolCall(name_call(id_, name), name, arguments, f.unread(wire, f.put(fields, function=function or None)))


def encode_call(call: m.ToolCall, wire: str, arguments: object, **beside: object) -> f.Fields:
    """A call in OpenAI's shape, as others write it."""
    extra = f.own_fields(call.extra, wire)
    function: f.Fields = {"name": call.name, "arguments": arguments}
    f.merge(function, f.object_of(extra.pop("function", {}), "function"))
    return {**f.put({}, **beside), "function": function, **extra}


def encode_tool(tool: m.Tool, wire: str) -> f.Fields:
    """A tool in OpenAI's shape.  A tool without arguments says so, because not every server takes their absence."""
    extra = f.own_fields(tool.extra, wire)
    more = f.object_of(extra.pop("function", {}), "function")
    function = f.put({"name": tool.name}, description=tool.description)
    function["parameters"] = tool.parameters if tool.parameters is not None else {"type": "object", "properties": {}}
    return {"type": "function", "function": {**function, **more}, **extra}


def offered_tools(request: m.ChatRequest, notes: Notes, *, single: bool = False) -> tuple[m.Tool, ...]:
    """The tools to choose from, for a wire that cannot list names: only those named are offered then.  ``single``: one
    name that must be called can be said, so nothing has to be left out for it."""
    choice = request.tool_choice
    if choice is None or choice.mode == "none" or not choice.names:
        return request.tools
    if single and choice.mode == "required" and len(choice.names) == 1:
        return request.tools
    notes.add(Feature.TOOL_CHOICE_ALLOWED, "only the named tools were offered")
    return tuple(tool for tool in request.tools if tool.name in choice.names)


def said(result: m.ToolResult) -> Iterator[m.Text | m.Media]:
    """The parts of a result, what is JSON as its text."""
    return (m.Text(f.dump_text(part.value)) if isinstance(part, m.Json) else part for part in result.parts)


def forced_tool(choice: m.ToolChoice) -> str | None:
    """The one tool that must be called; ``None`` if the model may choose."""
    return choice.names[0] if choice.mode == "required" and len(choice.names) == 1 else None


def arguments_text(value: object, absent: str = "{}") -> str:
    """Arguments that came as an object, as the text the neutral model holds; text is taken as it is."""
    if value is None:
        return absent
    return value if isinstance(value, str) else f.dump_text(value)


def arguments_object(call: m.ToolCall, notes: Notes | None = None) -> f.Fields:
    """The arguments of a call as an object.  ``null`` and nothing are an empty one; what is no object goes into one as
    ``{"arguments": ...}``, so that the conversation can go on, and that is noted."""
    value: object = call.arguments
    try:
        value = f.parse(call.arguments) if call.arguments.strip() else None
        return {} if value is None else f.object_of(value, call.name)
    except f.Malformed:
        if notes is not None:
            notes.add(Feature.TOOL_CALL_ARGUMENTS, "not a JSON object: wrapped in one")
        return {"arguments": value}


class Pairing:
    """Calls and results of one conversation, in the order they stand in it.

    Give it every call and every result as they come; it numbers calls without identifier and finds the call that a
    result belongs to: the one it names, else the oldest open one of its tool, else the oldest open one.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._count = 0
        self._open: list[tuple[str, str]] = []

    def call(self, id_: str | None, name: str) -> str:
        """A call: its identifier, made up if it has none."""
        id_ = id_ or self._next()
        self._open.append((id_, name))
        return id_

    def result(self, id_: str | None, name: str | None) -> tuple[str, str | None]:
        """A result: the identifier of its call, and the name of the tool if either of them says it."""
        asked = id_ or name
        found = next((each for each in self._open if asked in (None, "", each[0 if id_ else 1])), None)
        if found is None:
            return id_ or self._next(), name
        self._open.remove(found)
        return found[0], name or found[1]

    def _next(self) -> str:
        self._count += 1
        return f"{self._prefix}{self._count - 1}"


class Namer(Pairing):
    """Pairing within one answer, where a call without identifier gets one that depends on the answer alone.

    ``answer`` is what tells the answer from others of the same conversation, because vendors reject an identifier
    that comes twice.
    """

    def __init__(self, prefix: str, answer: str) -> None:
        super().__init__(prefix)
        self._answer = answer
        self._calls = 0

    def call(self, id_: str | None, name: str) -> str:
        self._calls += 1
        if id_:
            return id_
        digest = hashlib.sha256(f"{self._answer}\n{self._calls}\n{name}".encode(errors="surrogatepass")).hexdigest()
        return f"{self._prefix}{digest[:16]}"


def tool_names(messages: Iterable[m.Message]) -> dict[str, str]:
    """The tool that each call of a conversation asks for, by the call's identifier."""
    return {part.id: part.name for message in messages for part in message.parts if isinstance(part, m.ToolCall)}


# --- messages of four roles, each tool result one of its own: Cohere and Ollama ----------------------------

_ROLES = frozenset({"system", "user", "assistant", "tool"})
_OTHERS: Mapping[str, str] = {"developer": "system", "tool": "user"}
"""What roles become that have no message: ``tool`` is here where a message holds more than results."""


def take_role(fields: f.Fields) -> m.Role:
    """Remove and return a message's role."""
    role = f.take_text(fields, "role")
    if role not in _ROLES:
        raise f.Malformed(f"a message has no role this wire knows: {role!r}")
    return cast("m.Role", role)


def encode_message(
    message: m.Message,
    extra: f.Fields,
    result: Callable[[m.ToolResult], f.Fields],
    said: Callable[[Sequence[m.Part], str], f.Fields],
) -> list[f.Fields]:
    """One message, or several: every tool result is one of its own, and text beside results follows them.  ``result``
    and ``said`` write the fields of a result, and those of all other parts; ``extra`` goes into each."""
    results = [part for part in message.parts if isinstance(part, m.ToolResult)]
    rest = [part for part in message.parts if not isinstance(part, m.ToolResult)]
    written: list[f.Fields] = [{**result(part), **extra} for part in results]
    if rest or not written:
        role = _OTHERS.get(message.role, message.role)
        written.append({"role": role, **said(rest, role), **extra})
    return written


def result_extra(result: m.ToolResult, wire: str, notes: Notes) -> f.Fields:
    """The fields of a result's Extra; what no result can hold here is refused or noted."""
    extra = fields_for(wire, result.extra, notes)
    if any(isinstance(part, m.Media) for part in result.parts):
        raise notes.unsupported(Feature.MEDIA_IN_TOOL_RESULT)
    if result.is_error:
        notes.add(Feature.TOOL_RESULT_IS_ERROR, "left out: the text has to say it")
    return extra


# --- schemas, changed on their way to a vendor that takes only some of JSON schema --------------------------

_MAPS = f.words("properties $defs definitions defs")
_SUBSCHEMAS = f.words("items prefixItems anyOf oneOf allOf not additionalProperties")


def subschemas(key: str, value: object, change: Callable[[Mapping[str, object]], object]) -> object:
    """The value of a keyword, with every schema in it changed."""
    if key in _MAPS and isinstance(value, Mapping):
        children = cast("Mapping[str, object]", value).items()
        return {name: subschemas("items", child, change) for name, child in children}
    if key in _SUBSCHEMAS and isinstance(value, list):
        return [subschemas("items", child, change) for child in cast("list[object]", value)]
    return change(cast("Mapping[str, object]", value)) if key in _SUBSCHEMAS and isinstance(value, Mapping) else value
