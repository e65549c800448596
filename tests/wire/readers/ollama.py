"""Requests of Ollama as its server would read them; the library only writes them."""

from __future__ import annotations

from resilient_llm import model as m
from resilient_llm.wire.kit import fields as f
from resilient_llm.wire.kit.tools import Pairing, decode_call, decode_tool, take_role
from resilient_llm.wire.ollama.parts import MADE_UP, WIRE
from resilient_llm.wire.settings import read_settings


def read_request(whole: f.Fields, _path: str) -> m.ChatRequest:
    fields = dict(whole)
    pairing = Pairing(MADE_UP)
    messages = tuple(_decode_message(item, pairing) for item in f.take_list(fields, "messages"))
    tools = tuple(decode_tool(item, WIRE) for item in f.take_list(fields, "tools"))
    model, stream = f.take_text(fields, "model") or "", f.take_bool(fields, "stream")
    output, reasoning = _decode_format(fields.pop("format", None)), _decode_think(fields.pop("think", None))
    values = read_settings(WIRE, fields)
    return m.ChatRequest(
        messages,
        model,
        tools,
        output=output,
        reasoning=reasoning,
        stream=stream is not False,
        extra=f.request_extras(WIRE, fields),
        source=m.Extra(WIRE, whole),
        **values,
    )


def _decode_format(value: object) -> m.OutputFormat | None:
    if value in (None, ""):
        return None
    if value == "json":
        return m.OutputFormat("json_object")
    return m.OutputFormat("json_schema", f.object_of(value, "format"))


def _decode_think(value: object) -> m.Reasoning | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return m.Reasoning() if value else m.Reasoning(effort="none")
    if not isinstance(value, str):
        raise f.Malformed("think is neither a boolean nor a word")
    return m.Reasoning(effort=value)


def _decode_message(value: object, pairing: Pairing) -> m.Message:
    fields = f.object_of(value, "a message")
    role = take_role(fields)
    text = f.take_text(fields, "content") or ""
    if role == "tool":
        id_, name = pairing.result(f.take_text(fields, "tool_call_id"), f.take_text(fields, "tool_name"))
        parts: tuple[m.Part, ...] = (m.ToolResult(id_, (m.Text(text),), name),)
    else:
        parts = _message_parts(fields, text, pairing)
    return m.Message(role, parts, extra=f.unread(WIRE, fields))


def _message_parts(fields: f.Fields, text: str, pairing: Pairing) -> tuple[m.Part, ...]:
    thinking = f.take_text(fields, "thinking")
    thoughts = (m.Thought(thinking, origin=WIRE),) if thinking else ()
    texts = (m.Text(text),) if text else ()
    images = tuple(m.Media("image", data=f.decode_base64(image)) for image in f.take_texts(fields, "images"))
    calls = tuple(decode_call(item, WIRE, pairing.call) for item in f.take_list(fields, "tool_calls"))
    return (*thoughts, *texts, *images, *calls)
