"""Bedrock Converse: requests, in both directions."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import cast
from urllib.parse import quote, unquote

from typing_extensions import override

from resilient_llm.model import (
    ChatRequest,
    Extra,
    Json,
    Media,
    Message,
    OutputFormat,
    Part,
    Reasoning,
    Text,
    Thought,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from resilient_llm.wire._bedrock_blocks import (
    NAME,
    call_fields,
    decode_block,
    media_block,
    media_format,
    own_citations,
    text_block,
    thought_block,
)
from resilient_llm.wire._blockwise import (
    JSON_ONLY,
    check_common,
    enforceable_schema,
    image_type,
    lowered_temperature,
    parameters_of,
    valid_tool_name,
)
from resilient_llm.wire._claude import generation, leave_out, thinking, thinks
from resilient_llm.wire._turns import Turn, TurnEncoder, decode_messages
from resilient_llm.wire.fields import (
    Fields,
    Malformed,
    dump_text,
    fields_of,
    items_of,
    leftovers,
    merge,
    own,
    parse_fields,
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
from resilient_llm.wire.notes import Notes, extras_for, fields_for, reject
from resilient_llm.wire.toolcalls import arguments_object, forced_tool, offered_tools, tool_names

TOOL_ID = re.compile(r"[a-zA-Z0-9_.:-]{1,64}")
TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")

_PATH = re.compile(r"/model/([^/?]+)/converse(-stream)?")
_FILE_NAME = re.compile(r"[^\w\s\-()\[\]]|_", re.ASCII)


def path_of(request: ChatRequest) -> str:
    """Model and stream switch are in the path on this wire."""
    return f"/model/{quote(request.model, safe='', errors='replace')}/converse{'-stream' if request.stream else ''}"


# --- the caller's body -> request ---------------------------------------------------------------------------------


def decode_request(body: Fields, path: str) -> ChatRequest:
    """Raises :class:`~resilient_llm.wire.fields.Malformed` for a field of the wrong type."""
    found = _PATH.search(path)
    fields = dict(body)
    messages = [
        *_decode_system(take_items(fields, "system")),
        *decode_messages(take_items(fields, "messages"), NAME, _decode_content),
    ]
    if not messages:
        raise Malformed("messages are missing")
    settings = take_fields(fields, "inferenceConfig") or {}
    tools, choice = _decode_tools(fields)
    output, reasoning = _decode_output(fields)
    max_tokens, stop = take_int(settings, "maxTokens"), take_texts(settings, "stopSequences")
    temperature, top_p = take_float(settings, "temperature"), take_float(settings, "topP")
    put(fields, inferenceConfig=settings or None)
    return ChatRequest(
        tuple(messages),
        unquote(found[1]) if found else "",
        tools,
        choice,
        output=output,
        reasoning=reasoning,
        max_tokens=max_tokens,
        temperature=temperature,
        top_p=top_p,
        stop=stop,
        stream=bool(found and found[2]),
        extra=request_extras(NAME, fields),
        source=Extra(NAME, body),
    )


def _decode_system(items: list[object]) -> list[Message]:
    return [Message("system", tuple(decode_block(item) for item in items))] if items else []


def _decode_content(content: object) -> tuple[Part, ...]:
    return tuple(decode_block(block) for block in items_of(content, "content"))


def _decode_tools(fields: Fields) -> tuple[tuple[Tool, ...], ToolChoice | None]:
    """The functions; the vendor's own tools stay behind as ``tools``, cache points as what they are."""
    config = take_fields(fields, "toolConfig") or {}
    tools: list[Tool] = []
    own_tools: list[Fields] = []
    points: list[Fields] = []
    for item in take_items(config, "tools"):
        tool = fields_of(item, "a tool")
        spec = take_fields(tool, "toolSpec")
        if spec is not None:
            tools.append(_decode_tool(spec))
        else:
            (points if "cachePoint" in tool else own_tools).append(tool)
    choice = _decode_choice(take_fields(config, "toolChoice"))
    put(config, tools=points or None)
    put(fields, tools=own_tools or None, toolConfig=config or None)
    return tuple(tools), choice


def _decode_tool(spec: Fields) -> Tool:
    name = take_text(spec, "name")
    if not name:
        raise Malformed("a tool has no name")
    schema = take_fields(spec, "inputSchema") or {}
    description, strict = take_text(spec, "description"), take_bool(spec, "strict")
    return Tool(name, description, take_fields(schema, "json"), strict, leftovers(NAME, spec))


def _decode_choice(choice: Fields | None) -> ToolChoice | None:
    if not choice:
        return None
    if "auto" in choice:
        return ToolChoice("auto")
    if "any" in choice:
        return ToolChoice("required")
    tool = take_fields(choice, "tool")
    if tool is None:
        raise Malformed(f"no such toolChoice: {sorted(choice)}")
    return ToolChoice("required", (take_text(tool, "name") or "",))


def _decode_output(fields: Fields) -> tuple[OutputFormat | None, Reasoning | None]:
    config = take_fields(fields, "outputConfig") or {}
    effort, shape = take_text(config, "effort"), take_fields(config, "textFormat")
    output = None
    if shape is not None:
        if shape.get("type") != "json_schema":
            raise Malformed(f"no such text format: {shape.get('type')!r}")
        spec = take_fields(take_fields(shape, "structure") or {}, "jsonSchema") or {}
        schema = parse_fields(take_text(spec, "schema") or "{}", "the schema")
        output = OutputFormat("json_schema", schema, take_text(spec, "name"), take_text(spec, "description"))
    put(fields, outputConfig=config or None)
    return output, None if effort is None else Reasoning(effort, extra=Extra(NAME, {"effort": effort}))


# --- request -> the vendor's body ---------------------------------------------------------------------------------


def encode_request(request: ChatRequest, notes: Notes) -> Fields:
    """The body for a provider of this wire.  Raises ``UnsupportedFeature``."""
    source = own(request.source, NAME)
    return source or _Encoding(request, notes).body()


# --- messages -------------------------------------------------------------------------------------------------------


class _Turns(TurnEncoder):
    wire = NAME
    ids = TOOL_ID

    def __init__(self, model: str, notes: Notes) -> None:
        super().__init__(model, notes)
        self._names: set[str] = set()  # of documents: this wire wants them different

    @override
    def is_result(self, block: Fields) -> bool:
        return _is_result(block)

    @override
    def text(self, part: Text) -> Fields | None:
        if len(own_citations(part.annotations)) != len(part.annotations):
            self.notes.add("annotations", "left out")
        fields_for(NAME, part.extra, self.notes)
        return text_block(part) if part.text else None  # this wire rejects empty texts

    @override
    def thought(self, part: Thought) -> Fields | None:
        """Only what this wire signed may come back to it; a Claude must have signed."""
        if part.origin == NAME and (part.signature or "claude" not in self.model):
            return thought_block(part)
        self.notes.add("reasoning", "left out: it was not signed by this vendor")
        return None

    @override
    def call(self, part: ToolCall) -> Fields:
        given, name = arguments_object(part, self.notes), valid_tool_name(part.name, 64, self.notes)
        fields = call_fields(self.call_id(part.id), name, given)
        return {"toolUse": fields | fields_for(NAME, part.extra, self.notes)}

    @override
    def result(self, part: ToolResult) -> Fields:
        extra = fields_for(NAME, part.extra, self.notes)
        content = [block for each in part.parts if (block := self._result_part(each)) is not None]
        body: Fields = {"toolUseId": self.call_id(part.tool_call_id), "content": content}
        if part.is_error:
            body["status"] = "error"
        return {"toolResult": body | extra}

    def _result_part(self, part: Text | Media | Json) -> Fields | None:
        if not isinstance(part, Json):
            return self.part(part)
        value = part.value
        return {"json": cast("object", value)} if isinstance(value, dict) else {"text": dump_text(value)}

    @override
    def media(self, part: Media) -> Fields:
        extra = fields_for(NAME, part.extra, self.notes)
        if part.file_id is not None:
            raise self.notes.unsupported("file_id")
        if part.data is None and not (part.url or "").startswith("s3://"):
            raise self.notes.unsupported(f"{part.kind}_url")
        if part.kind == "image" and part.mime_type is None and part.data is not None:
            part = replace(part, mime_type=image_type(part.data))
        if media_format(part) is None and "format" not in extra:
            raise self.notes.unsupported(f"{part.kind} type {part.mime_type}")
        if part.kind == "document":
            part = replace(part, name=self._file_name(part.name))
        return media_block(part, extra)

    def _file_name(self, name: str | None) -> str:
        """A document's name in the letters this wire allows, different from those before it."""
        tidy = " ".join(_FILE_NAME.sub(" ", name or "").split()) or "document"
        if name and tidy != name:
            self.notes.add("document.name", "characters replaced that this wire rejects")
        number, free = 1, tidy
        while free in self._names:
            number += 1
            free = f"{tidy} {number}"
        self._names.add(free)
        return free


# --- the rest -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Encoding:
    """One request on its way out."""

    request: ChatRequest
    notes: Notes

    def body(self) -> Fields:
        request, notes = self.request, self.notes
        reject(request, NAME, "parallel_tool_calls")
        check_common(request, notes)
        if request.user is not None:
            notes.add("user", "left out")
        extra = extras_for(NAME, request.extra, notes)
        others = items_of(extra.pop("tools", []), "tools")
        system, turns = _Turns(request.model, notes).turns(request.messages)
        starts = not turns or turns[0].role == "user" or "claude" in request.model  # Claude answers the others, too
        if not starts:  # "A conversation must start with a user message."
            raise notes.unsupported("a conversation that does not start with the user")
        body: Fields = {"messages": [{"role": turn.role, "content": turn.blocks} | turn.fields for turn in turns]}
        put(body, system=system or None, inferenceConfig=self._settings() or None)
        put(body, toolConfig=self._tools(turns, others) or None)
        self._output(body)
        self._reasoning(body, turns)
        merge(body, extra)
        return body

    # --- settings -----------------------------------------------------------------------------------------------------

    def _settings(self) -> Fields:
        request = self.request
        settings = put(
            {},
            maxTokens=request.max_tokens,
            temperature=lowered_temperature(request.temperature, self.notes),
            topP=request.top_p,
            stopSequences=list(request.stop) or None,
        )
        if generation(request.model) >= (4, 7):
            leave_out(settings, ("temperature", "topP"), "removed from this model", self.notes)
        return settings

    def _tools(self, turns: list[Turn], others: list[object]) -> Fields:
        request, choice = self.request, self.request.tool_choice
        tools = offered_tools(request, self.notes, single=True)
        used = list(tool_names(request.messages).values()) if _any_calls(turns) else []
        if choice is not None and choice.mode == "none" and (tools or others):
            if not used:
                self.notes.add("tool_choice", "none: no tools were offered")
                return {}
            self.notes.add("tool_choice", "none: tools stay offered, because the conversation uses them")
            choice = None
        encoded: list[object] = [self._tool(tool) for tool in tools]
        if used and not encoded and not others:  # "The toolConfig field must be defined when using toolUse..."
            self.notes.add("tools", "offered again, because the conversation uses them")
            encoded = [self._tool(Tool(name)) for name in dict.fromkeys(used) if TOOL_NAME.fullmatch(name)]
        if not encoded and not others:
            return {}
        return put({"tools": encoded + others}, toolChoice=_encode_choice(choice))

    def _tool(self, tool: Tool) -> Fields:
        if not TOOL_NAME.fullmatch(tool.name):
            raise self.notes.unsupported(f"tool name {tool.name!r}")
        spec = put({"name": tool.name}, description=tool.description or None, strict=tool.strict)
        spec["inputSchema"] = {"json": parameters_of(tool)}
        return {"toolSpec": spec | fields_for(NAME, tool.extra, self.notes)}

    def _output(self, body: Fields) -> None:
        output = self.request.output
        if output is None or output.kind == "text":
            return
        if output.kind == "json_object":
            self.notes.add("json_object", "asked for in the system prompt, not enforced")
            body["system"] = [*items_of(body.get("system", []), "system"), {"text": JSON_ONLY}]
            return
        spec = put({"schema": dump_text(enforceable_schema(output, self.notes))}, name=output.name)
        put(spec, description=output.description)
        body["outputConfig"] = {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": spec}}}

    # --- what differs by model ----------------------------------------------------------------------------------------

    def _reasoning(self, body: Fields, turns: list[Turn]) -> None:
        request, reasoning = self.request, self.request.reasoning
        more: Fields = {}
        if reasoning is not None and own(reasoning.extra, NAME):
            merge(body, {"outputConfig": own(reasoning.extra, NAME)})
        elif reasoning is not None:
            fields_for(NAME, reasoning.extra, self.notes)
            more = self._reasoning_fields(request, reasoning, body, turns)
        if request.top_k is not None:
            if thinks(more):
                self.notes.add("top_k", "left out: not together with reasoning")
            else:
                merge(more, self._top_k(request.top_k))
        if more:
            body["additionalModelRequestFields"] = more

    def _reasoning_fields(self, request: ChatRequest, reasoning: Reasoning, body: Fields, turns: list[Turn]) -> Fields:
        if "claude" in request.model:
            fields, limit = thinking(request, reasoning, _unthought_calls(turns), self.notes)
            settings = fields_of(body.pop("inferenceConfig", {}), "settings")
            put(settings, maxTokens=limit)
            if thinks(fields):
                leave_out(settings, ("temperature",), "not together with reasoning", self.notes)
            put(body, inferenceConfig=settings or None)
            return fields
        effort = reasoning.effort
        family = next((name for name in _EFFORTS if name in request.model), None)
        if family is not None and effort in {"low", "medium", "high"}:
            return _EFFORTS[family](effort)
        if effort is not None or reasoning.budget is not None:
            self.notes.add("reasoning", "left to the model")
        return {}

    def _top_k(self, top_k: int) -> Fields:
        if "claude" in self.request.model and generation(self.request.model) < (4, 7):
            return {"top_k": top_k}
        if "nova" in self.request.model:
            return {"inferenceConfig": {"topK": top_k}}
        self.notes.add("top_k", "left out: no word for it is known for this model")
        return {}


_EFFORTS: Mapping[str, Callable[[str], Fields]] = {
    "gpt-oss": lambda effort: {"reasoning_effort": effort},
    "qwen": lambda effort: {"reasoning_config": effort},
    "nova-2": lambda effort: {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": effort}},
}
"""Part of a model's name -> the fields that say how hard to think."""


def _is_result(block: Fields) -> bool:
    return "toolResult" in block


def _any_calls(turns: list[Turn]) -> bool:
    return any("toolUse" in block or "toolResult" in block for turn in turns for block in turn.blocks)


def _unthought_calls(turns: list[Turn]) -> bool:
    """Whether the last turns are calls and their results without the thought that led there."""
    if len(turns) < 2 or not any(map(_is_result, turns[-1].blocks)):
        return False
    return not any("reasoningContent" in block for block in turns[-2].blocks)


def _encode_choice(choice: ToolChoice | None) -> Fields | None:
    if choice is None or choice.mode == "none":
        return None
    forced = forced_tool(choice)
    if forced is not None:
        return {"tool": {"name": forced}}
    return {"any" if choice.mode == "required" else "auto": {}}
