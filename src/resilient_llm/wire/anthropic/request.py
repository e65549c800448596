"""Anthropic Messages: requests, in both directions.

Where Claude wants something else than the neutral request says, the reason stands beside the rule; the models differ
by generation, read off their name.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final, cast

from resilient_llm import model as m
from resilient_llm.wire.anthropic import parts as p
from resilient_llm.wire.blocks import rules
from resilient_llm.wire.blocks.claude import default_max_tokens, generation, leave_out, thinking, thinks
from resilient_llm.wire.blocks.turns import Turn, TurnEncoder, decode_messages
from resilient_llm.wire.features import Feature
from resilient_llm.wire.kit import fields as f
from resilient_llm.wire.kit.caching import MARK
from resilient_llm.wire.kit.notes import Notes, fields_for, notes_on
from resilient_llm.wire.kit.tools import arguments_object, forced_tool, offered_tools, said, take_tool
from resilient_llm.wire.protocol import HttpRequest
from resilient_llm.wire.settings import TABLES, read_rest, write_settings

VERSION: Final = "2023-06-01"
"""The API version every platform understands."""

VERSION_2026: Final = "2026-10-21"
"""Has no sampling parameters, and rejects documents in assistant turns and citations on the user's text."""

_IMAGES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")


def decode_request(body: f.Fields, _path: str = "") -> m.ChatRequest:
    """Raises :class:`~resilient_llm.wire.kit.fields.Malformed` for a field of the wrong type."""
    fields = dict(body)
    system = fields.pop("system", None)
    messages = [
        *([m.Message("system", _decode_content(system))] if system else []),
        *decode_messages(f.take_list(fields, "messages"), p.WIRE, _decode_content),
    ]
    if not messages:
        raise f.Malformed("messages are missing")
    choice, parallel = _decode_choice(f.take_object(fields, "tool_choice"))
    output, effort = _decode_output(fields)
    tools = _decode_tools(fields)
    return m.ChatRequest(
        tuple(messages),
        tools=tools,
        tool_choice=choice,
        output=output,
        reasoning=_decode_reasoning(f.take_object(fields, "thinking"), effort),
        **read_rest(p.WIRE, fields, body, parallel_tool_calls=parallel),
    )


def _decode_content(content: object) -> tuple[m.Part, ...]:
    if isinstance(content, str):
        return (m.Text(content),)
    return tuple(p.decode_block(block) for block in f.list_of(content, "content"))


def _decode_tools(fields: f.Fields) -> tuple[m.Tool, ...]:
    """The functions among the tools; the vendor's own stay behind in ``fields``."""
    tools: list[m.Tool] = []
    remaining: list[f.Fields] = []
    for item in f.take_list(fields, "tools"):
        tool = f.object_of(item, "a tool")
        if tool.get("type") not in (None, "custom"):
            remaining.append(tool)
            continue
        tools.append(take_tool(tool, p.WIRE, "input_schema"))
    f.put(fields, tools=remaining or None)
    return tuple(tools)


def _decode_choice(choice: f.Fields | None) -> tuple[m.ToolChoice | None, bool | None]:
    if choice is None:
        return None, None
    disabled = f.take_bool(choice, "disable_parallel_tool_use")
    parallel = None if disabled is None else not disabled
    match f.take_text(choice, "type"):
        case "auto":
            return m.ToolChoice("auto"), parallel
        case "any":
            return m.ToolChoice("required"), parallel
        case "none":
            return m.ToolChoice("none"), parallel
        case "tool":
            return m.ToolChoice("required", (f.take_text(choice, "name") or "",)), parallel
        case kind:
            raise f.Malformed(f"no such tool_choice: {kind!r}")


def _decode_output(fields: f.Fields) -> tuple[m.OutputFormat | None, str | None]:
    """The format and the effort of ``output_config``; what else it holds stays behind."""
    config = f.take_object(fields, "output_config")
    if config is None:
        return None, None
    effort, shape = f.take_text(config, "effort"), f.take_object(config, "format")
    output = None
    if shape is not None:
        if shape.get("type") != "json_schema":
            raise f.Malformed(f"no such output format: {shape.get('type')!r}")
        output = m.OutputFormat("json_schema", f.take_object(shape, "schema"))
    f.put(fields, output_config=config or None)
    return output, effort


def _decode_reasoning(thinking: f.Fields | None, effort: str | None) -> m.Reasoning | None:
    """Where effort and budget do not say it all, the Extra keeps the switch as it stood, be it absent: that means
    something else for each model."""
    if thinking is None:
        return None if effort is None else m.Reasoning(effort, extra=m.Extra(p.WIRE, {}))
    whole = dict(thinking)
    kind, budget = f.take_text(thinking, "type"), f.take_int(thinking, "budget_tokens")
    if kind == "disabled":
        return m.Reasoning(
            "none", extra=None if effort is None else m.Extra(p.WIRE, {"thinking": whole, "effort": effort})
        )
    plain = kind == "enabled" and effort is None and not thinking
    return m.Reasoning(effort, budget, None if plain else m.Extra(p.WIRE, {"thinking": whole}))


def encode_request(request: m.ChatRequest, version: str) -> HttpRequest:
    """The request for a provider of this wire.  Raises ``UnsupportedFeature``."""
    source = f.own_fields(request.source, p.WIRE)
    notes = Notes(p.WIRE) if source else notes_on(request, p.WIRE)
    body = f.forwarded(request, source) if source else _encode_body(request, notes)
    if version == VERSION_2026 or generation(str(body.get("model"))) >= (4, 7):
        leave_out(body, ("temperature", "top_p", "top_k"), "removed from this wire", notes)
    if version == VERSION_2026:
        body["messages"] = [_restricted_turn(turn, notes) for turn in cast("list[object]", body["messages"])]
    return HttpRequest("/v1/messages", f.dump_forwarded(body, request), (("anthropic-version", version),), notes.all())


def _encode_body(request: m.ChatRequest, notes: Notes) -> f.Fields:
    writing = _Turns(request.model, notes)
    system, turns = writing.turns(request.messages)
    _trim_prefill(turns, notes)
    output = _encode_output(request.output, system, notes)
    messages = [{"role": turn.role, "content": f.compact(turn.blocks)} | turn.fields for turn in turns]
    body: f.Fields = f.put({}, model=request.model or None)
    body |= {"max_tokens": default_max_tokens(request.model), "messages": messages}
    f.put(body, system=f.compact(system) or None, stream=True if request.stream else None)
    write_settings(TABLES[p.WIRE], request, body, notes, "stop", "temperature")
    stop = [word for word in request.stop if word.strip()]
    if len(stop) != len(request.stop):
        notes.add(Feature.STOP, "left out: this wire rejects stop words of white space alone")
    f.put(body, stop_sequences=stop or None, temperature=rules.lowered_temperature(request.temperature, notes))
    tools = [_encode_tool(tool, notes) for tool in offered_tools(request, notes, single=True)]
    f.put(body, tools=tools or None)
    if tools or notes.own.get("tools"):  # without tools there is nothing to choose from: this wire answers with a 400
        f.put(body, tool_choice=_encode_choice(request.tool_choice, request.parallel_tool_calls))
    f.put(body, output_config=output)
    if request.reasoning is not None:
        _encode_reasoning(request, request.reasoning, body, writing.unthought_calls(turns), notes)
    f.merge(body, notes.own)
    return body


def _encode_output(output: m.OutputFormat | None, system: list[f.Fields], notes: Notes) -> f.Fields | None:
    if output is None or output.kind == "text":
        return None
    if output.kind == "json_object":  # this wire enforces schemas only, and a closed schema cannot say "any object"
        notes.add(Feature.JSON_OBJECT, "asked for in the system prompt, not enforced")
        system.append({"type": "text", "text": rules.JSON_ONLY})
        return None
    if output.description:
        notes.add(Feature.OUTPUT_DESCRIPTION, "left out")
    schema = rules.enforceable_schema(output.schema or {"type": "object"}, notes)
    return {"format": {"type": "json_schema", "schema": schema}}


def _trim_prefill(turns: list[Turn], notes: Notes) -> None:
    """An assistant turn at the end is continued, and must not end in white space."""
    if not turns or turns[-1].role != "assistant":
        return
    last = turns[-1].blocks[-1]
    text = last.get("text")
    if isinstance(text, str) and text != text.rstrip():
        turns[-1].blocks[-1] = last | {"text": text.rstrip()}
        notes.add(Feature.PREFILL, "white space at its end left out")


class _Turns(TurnEncoder):
    wire = p.WIRE
    ids = p.TOOL_ID

    def is_result(self, block: f.Fields) -> bool:
        return block.get("type") == "tool_result"

    def is_thought(self, block: f.Fields) -> bool:
        return block.get("type") in {"thinking", "redacted_thinking"}

    def text(self, part: m.Text) -> f.Fields | None:
        if len(p.own_citations(part.annotations)) != len(part.annotations):
            self.notes.add(Feature.ANNOTATIONS, "left out")
        return p.text_block(part) if part.text.strip() else None  # this wire rejects blank texts

    def thought(self, part: m.Thought) -> f.Fields | None:
        """Only what Anthropic itself signed may come back to it, and it must be signed."""
        if part.origin != p.WIRE or not part.signature:
            self.notes.add(Feature.REASONING, "left out: it was not signed by this vendor")
            return None
        return p.thought_block(part)

    def mark(self, blocks: list[f.Fields]) -> bool:
        """Thoughts cannot be marked."""
        for index in reversed(range(len(blocks))):
            if not self.is_thought(blocks[index]):
                blocks[index] = MARK | blocks[index]
                return True
        return False

    def call(self, part: m.ToolCall, extra: f.Fields) -> f.Fields:
        given, name = arguments_object(part, self.notes), rules.valid_tool_name(part.name, 128, self.notes)
        return {"type": "tool_use", "id": self.call_id(part.id), "name": name, "input": given} | extra

    def result(self, part: m.ToolResult, extra: f.Fields) -> f.Fields:
        body: f.Fields = {"type": "tool_result", "tool_use_id": self.call_id(part.tool_call_id)}
        content = f.compact(self.blocks(said(part))) or None
        return f.put(body, content=content, is_error=part.is_error or None) | extra

    def media(self, part: m.Media, extra: f.Fields) -> f.Fields:
        if part.kind not in {"image", "document"}:
            raise self.notes.unsupported(part.kind if part.url is None else f"{part.kind}_url")
        if part.file_id is not None and (part.extra is None or part.extra.wire != p.WIRE):
            raise self.notes.unsupported(Feature.FILE_ID)
        if part.url is not None and not part.url.startswith(("https://", "http://")):
            raise self.notes.unsupported(f"{part.kind}_url")
        if part.data is not None:  # it needs a type this wire knows
            image = part.kind == "image"
            mime = part.mime_type or (rules.image_type(part.data) if image else "application/pdf") or ""
            if mime not in _IMAGES if image else mime != "application/pdf" and not mime.startswith("text/"):
                raise self.notes.unsupported(Feature.MEDIA_TYPE, mime)
            part = replace(part, mime_type=mime)
        return p.media_block(part) | extra


def _encode_tool(tool: m.Tool, notes: Notes) -> f.Fields:
    if not _TOOL_NAME.fullmatch(tool.name):
        raise notes.unsupported(Feature.TOOL_NAME, tool.name)
    body = f.put({"name": tool.name}, description=tool.description, strict=tool.strict)
    body |= {"input_schema": rules.parameters_of(tool)} | (MARK if tool.cache else {})
    return body | fields_for(p.WIRE, tool.extra, notes)


def _encode_choice(choice: m.ToolChoice | None, parallel: bool | None) -> f.Fields | None:
    body: f.Fields | None = None
    if choice is not None:
        kind = {"auto": "auto", "none": "none", "required": "any"}[choice.mode]
        forced = forced_tool(choice)
        body = {"type": kind} if forced is None else {"type": "tool", "name": forced}
    if parallel is False and (choice is None or choice.mode != "none"):
        body = (body or {"type": "auto"}) | {"disable_parallel_tool_use": True}
    return body


def _encode_reasoning(
    request: m.ChatRequest, reasoning: m.Reasoning, body: f.Fields, unthought: bool, notes: Notes
) -> None:
    if reasoning.extra is not None and reasoning.extra.wire == p.WIRE:
        kept = dict(reasoning.extra.fields)
        effort = kept.pop("effort", reasoning.effort)
        f.merge(body, kept | ({"output_config": {"effort": effort}} if effort else {}))
        return
    fields_for(p.WIRE, reasoning.extra, notes)
    fields, limit = thinking(request, reasoning, unthought, notes)
    f.put(body, max_tokens=limit)
    f.merge(body, fields)
    if thinks(fields):
        leave_out(body, ("temperature", "top_k"), "not together with reasoning", notes)


def _restricted_turn(turn: object, notes: Notes) -> object:
    fields = f.object_of(turn, "a message")
    content = fields.get("content")
    if not isinstance(content, list):
        return fields
    kept: list[f.Fields] = []
    for block in (f.object_of(item, "a content block") for item in cast("list[object]", content)):
        if fields.get("role") == "assistant" and block.get("type") == "document":
            notes.add(Feature.DOCUMENT, "left out of an assistant's turn")
            continue
        if fields.get("role") == "user" and block.get("type") == "text" and block.pop("citations", None):
            notes.add(Feature.ANNOTATIONS, "left out of the user's text")
        kept.append(block)
    return fields | {"content": kept}
