"""Requests of Bedrock Converse as its vendor would read them; the library only writes them."""

from __future__ import annotations

import re
from urllib.parse import unquote

from resilient_llm import model as m
from resilient_llm.wire.bedrock import parts as p
from resilient_llm.wire.blocks.turns import decode_messages
from resilient_llm.wire.kit import fields as f
from resilient_llm.wire.settings import read_settings

_PATH = re.compile(r"/model/([^/?]+)/converse(-stream)?")


def read_request(body: f.Fields, path: str) -> m.ChatRequest:
    """Raises :class:`~resilient_llm.wire.kit.fields.Malformed` for a field of the wrong type."""
    found = _PATH.search(path)
    fields = dict(body)
    messages = [
        *_decode_system(f.take_list(fields, "system")),
        *decode_messages(f.take_list(fields, "messages"), p.WIRE, _decode_content),
    ]
    if not messages:
        raise f.Malformed("messages are missing")
    tools, choice = _decode_tools(fields)
    output, reasoning = _decode_output(fields)
    values = read_settings(p.WIRE, fields)
    return m.ChatRequest(
        tuple(messages),
        unquote(found[1]) if found else "",
        tools,
        choice,
        output=output,
        reasoning=reasoning,
        stream=bool(found and found[2]),
        extra=f.request_extras(p.WIRE, fields),
        source=m.Extra(p.WIRE, body),
        **values,
    )


def _decode_system(items: list[object]) -> list[m.Message]:
    return [m.Message("system", tuple(_decode_block(item) for item in items))] if items else []


def _decode_content(content: object) -> tuple[m.Part, ...]:
    return tuple(_decode_block(block) for block in f.list_of(content, "content"))


def _decode_tools(fields: f.Fields) -> tuple[tuple[m.Tool, ...], m.ToolChoice | None]:
    """The functions; the vendor's own tools stay behind as ``tools``, cache points as what they are."""
    config = f.take_object(fields, "toolConfig") or {}
    tools: list[m.Tool] = []
    own_tools: list[f.Fields] = []
    points: list[f.Fields] = []
    for item in f.take_list(config, "tools"):
        tool = f.object_of(item, "a tool")
        spec = f.take_object(tool, "toolSpec")
        if spec is not None:
            tools.append(_decode_tool(spec))
        else:
            (points if "cachePoint" in tool else own_tools).append(tool)
    choice = _decode_choice(f.take_object(config, "toolChoice"))
    f.put(config, tools=points or None)
    f.put(fields, tools=own_tools or None, toolConfig=config or None)
    return tuple(tools), choice


def _decode_tool(spec: f.Fields) -> m.Tool:
    name = f.take_text(spec, "name")
    if not name:
        raise f.Malformed("a tool has no name")
    schema = f.take_object(spec, "inputSchema") or {}
    description, strict = f.take_text(spec, "description"), f.take_bool(spec, "strict")
    return m.Tool(name, description, f.take_object(schema, "json"), strict, f.unread(p.WIRE, spec))


def _decode_choice(choice: f.Fields | None) -> m.ToolChoice | None:
    if not choice:
        return None
    if "auto" in choice:
        return m.ToolChoice("auto")
    if "any" in choice:
        return m.ToolChoice("required")
    tool = f.take_object(choice, "tool")
    if tool is None:
        raise f.Malformed(f"no such toolChoice: {sorted(choice)}")
    return m.ToolChoice("required", (f.take_text(tool, "name") or "",))


def _decode_output(fields: f.Fields) -> tuple[m.OutputFormat | None, m.Reasoning | None]:
    config = f.take_object(fields, "outputConfig") or {}
    effort, shape = f.take_text(config, "effort"), f.take_object(config, "textFormat")
    output = None
    if shape is not None:
        if shape.get("type") != "json_schema":
            raise f.Malformed(f"no such text format: {shape.get('type')!r}")
        spec = f.take_object(f.take_object(shape, "structure") or {}, "jsonSchema") or {}
        schema = f.parse_object(f.take_text(spec, "schema") or "{}", "the schema")
        output = m.OutputFormat("json_schema", schema, f.take_text(spec, "name"), f.take_text(spec, "description"))
    f.put(fields, outputConfig=config or None)
    return output, None if effort is None else m.Reasoning(effort, extra=m.Extra(p.WIRE, {"effort": effort}))


def _decode_block(block: object) -> m.Part:
    """A block of a request: one of an answer, or a tool's result."""
    fields = f.object_of(block, "a content block")
    if "toolResult" in fields and "text" not in fields:
        return _decode_result(f.object_of(fields["toolResult"], "toolResult")) or m.Opaque(p.WIRE, fields)
    return p.decode_block(block)


def _decode_result(fields: f.Fields) -> m.ToolResult | None:
    """``None`` for the vendor's own result, which has a type."""
    if "type" in fields:
        return None
    ident, status = f.take_text(fields, "toolUseId") or "", f.take_text(fields, "status")
    content = f.take_list(fields, "content")
    parts = [_decode_result_part(item) for item in content]
    kept = tuple(part for part in parts if isinstance(part, m.Text | m.Media | m.Json))
    if len(kept) != len(parts):
        fields["content"] = content
    return m.ToolResult(ident, kept, None, status == "error", f.unread(p.WIRE, fields))


def _decode_result_part(item: object) -> m.Part | m.Json:
    fields = f.object_of(item, "a tool result's content")
    return m.Json(fields["json"]) if "json" in fields else _decode_block(fields)
