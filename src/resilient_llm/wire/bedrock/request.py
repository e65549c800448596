"""Bedrock Converse: requests, as they are written."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import cast
from urllib.parse import quote

from resilient_llm import model as m
from resilient_llm.wire.bedrock import parts as p
from resilient_llm.wire.blocks import rules
from resilient_llm.wire.blocks.claude import generation, leave_out, thinking, thinks
from resilient_llm.wire.blocks.turns import Turn, TurnEncoder
from resilient_llm.wire.features import Feature
from resilient_llm.wire.kit import fields as f
from resilient_llm.wire.kit.notes import Notes, fields_for, lose_marks, notes_on
from resilient_llm.wire.kit.tools import arguments_object, forced_tool, offered_tools, tool_names
from resilient_llm.wire.protocol import HttpRequest
from resilient_llm.wire.settings import TABLES, write_settings

TOOL_ID = re.compile(r"[a-zA-Z0-9_.:-]{1,64}")
TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")

_FILE_NAME = re.compile(r"[^\w\s\-()\[\]]|_", re.ASCII)


def encode_request(request: m.ChatRequest) -> HttpRequest:
    """The request for a provider of this wire.  Raises ``UnsupportedFeature``."""
    source = f.own_fields(request.source, p.WIRE)
    notes = Notes(p.WIRE) if source else notes_on(request, p.WIRE)
    body = source or _Encoding(request, notes).body()
    path = f"/model/{quote(request.model, safe='', errors='replace')}/converse{'-stream' if request.stream else ''}"
    return HttpRequest(path, f.dump_request(body), degradations=notes.all())


class _Turns(TurnEncoder):
    wire = p.WIRE
    ids = TOOL_ID

    def __init__(self, model: str, notes: Notes) -> None:
        super().__init__(model, notes)
        self._names: set[str] = set()  # of documents: this wire wants them different

    def is_result(self, block: f.Fields) -> bool:
        return "toolResult" in block

    def is_thought(self, block: f.Fields) -> bool:
        return "reasoningContent" in block

    def text(self, part: m.Text) -> f.Fields | None:
        if len(p.own_citations(part.annotations)) != len(part.annotations):
            self.notes.add(Feature.ANNOTATIONS, "left out")
        return p.text_block(part) if part.text else None  # this wire rejects empty texts

    def thought(self, part: m.Thought) -> f.Fields | None:
        """Only what this wire signed may come back to it; a Claude must have signed."""
        if part.origin == p.WIRE and (part.signature or "claude" not in self.model):
            return p.thought_block(part)
        self.notes.add(Feature.REASONING, "left out: it was not signed by this vendor")
        return None

    def mark(self, blocks: list[f.Fields]) -> bool:
        if not blocks or not _caches(self.model):
            return False
        blocks.append(_CACHE_POINT)
        return True

    def call(self, part: m.ToolCall, extra: f.Fields) -> f.Fields:
        given, name = arguments_object(part, self.notes), rules.valid_tool_name(part.name, 64, self.notes)
        return {"toolUse": {"toolUseId": self.call_id(part.id), "name": name, "input": given} | extra}

    def result(self, part: m.ToolResult, extra: f.Fields) -> f.Fields:
        content: list[f.Fields] = []
        for each in part.parts:
            value = each.value if isinstance(each, m.Json) else None
            if isinstance(value, dict):
                content.append({"json": cast("object", value)})
            else:
                content += self.blocks([m.Text(f.dump_text(value)) if isinstance(each, m.Json) else each])
        body: f.Fields = {"toolUseId": self.call_id(part.tool_call_id), "content": content}
        return {"toolResult": f.put(body, status="error" if part.is_error else None) | extra}

    def media(self, part: m.Media, extra: f.Fields) -> f.Fields:
        if part.file_id is not None:
            raise self.notes.unsupported(Feature.FILE_ID)
        if part.data is None and not (part.url or "").startswith("s3://"):
            raise self.notes.unsupported(f"{part.kind}_url")
        if part.kind == "image" and part.mime_type is None and part.data is not None:
            part = replace(part, mime_type=rules.image_type(part.data))
        if p.media_format(part) is None and "format" not in extra:
            raise self.notes.unsupported(Feature.MEDIA_TYPE, str(part.mime_type))
        if part.kind == "document":
            part = replace(part, name=self._file_name(part.name))
        return p.media_block(part, extra)

    def _file_name(self, name: str | None) -> str:
        """A document's name in the letters this wire allows, different from those before it."""
        tidy = " ".join(_FILE_NAME.sub(" ", name or "").split()) or "document"
        if name and tidy != name:
            self.notes.add(Feature.DOCUMENT_NAME, "characters replaced that this wire rejects")
        number, free = 1, tidy
        while free in self._names:
            number += 1
            free = f"{tidy} {number}"
        self._names.add(free)
        return free


_CACHE_POINT: f.Fields = {"cachePoint": {"type": "default"}}


def _caches(model: str) -> bool:
    """Whether a model takes marks; the others answer them with a 400."""
    return "claude" in model or "nova" in model


@dataclass(slots=True)
class _Encoding:
    """One request on its way out."""

    request: m.ChatRequest
    notes: Notes

    def body(self) -> f.Fields:
        request, notes = self.request, self.notes
        remaining = f.list_of(notes.own.pop("tools", []), "tools")
        writing = _Turns(request.model, notes)
        system, turns = writing.turns(request.messages)
        starts = not turns or turns[0].role == "user" or "claude" in request.model  # Claude answers the others, too
        if not starts:  # "A conversation must start with a user message."
            raise notes.unsupported(Feature.ASSISTANT_FIRST)
        body: f.Fields = {"messages": [{"role": turn.role, "content": turn.blocks} | turn.fields for turn in turns]}
        f.put(body, system=system or None)
        self._settings(body)
        f.put(body, toolConfig=self._tools(turns, remaining) or None)
        self._output(body)
        self._reasoning(body, writing.unthought_calls(turns))
        f.merge(body, notes.own)
        return body

    def _settings(self, body: f.Fields) -> None:
        write_settings(TABLES[p.WIRE], self.request, body, self.notes)
        settings = f.as_object(body.get("inferenceConfig"))
        if generation(self.request.model) >= (4, 7):
            leave_out(settings, ("temperature", "topP"), "removed from this model", self.notes)
        if "temperature" in settings:
            settings["temperature"] = rules.lowered_temperature(self.request.temperature, self.notes)
        f.put(body, inferenceConfig=body.pop("inferenceConfig", None) or None)

    def _tools(self, turns: list[Turn], remaining: list[object]) -> f.Fields:
        request, choice = self.request, self.request.tool_choice
        tools = offered_tools(request, self.notes, single=True)
        blocks = [block for turn in turns for block in turn.blocks]
        calls = any("toolUse" in block or "toolResult" in block for block in blocks)
        used = list(tool_names(request.messages).values()) if calls else []
        if choice is not None and choice.mode == "none" and (tools or remaining):
            if not used:
                self.notes.add(Feature.TOOL_CHOICE_NONE, "none: no tools were offered")
                return {}
            self.notes.add(Feature.TOOL_CHOICE_NONE, "none: tools stay offered, because the conversation uses them")
            choice = None
        encoded: list[object] = []
        for tool in tools:
            encoded += [self._tool(tool), *([_CACHE_POINT] if tool.cache and _caches(request.model) else [])]
        if not _caches(request.model):
            lose_marks(request, self.notes, of_messages=False)
        if used and not encoded and not remaining:  # "The toolConfig field must be defined when using toolUse..."
            self.notes.add(Feature.TOOLS, "offered again, because the conversation uses them")
            encoded = [self._tool(m.Tool(name)) for name in dict.fromkeys(used) if TOOL_NAME.fullmatch(name)]
        if not encoded and not remaining:
            return {}
        chosen: f.Fields | None = None
        if choice is not None and choice.mode != "none":
            forced, word = forced_tool(choice), "any" if choice.mode == "required" else "auto"
            chosen = {word: {}} if forced is None else {"tool": {"name": forced}}
        return f.put({"tools": encoded + remaining}, toolChoice=chosen)

    def _tool(self, tool: m.Tool) -> f.Fields:
        if not TOOL_NAME.fullmatch(tool.name):
            raise self.notes.unsupported(Feature.TOOL_NAME, tool.name)
        spec = f.put({"name": tool.name}, description=tool.description or None, strict=tool.strict)
        spec["inputSchema"] = {"json": rules.parameters_of(tool)}
        return {"toolSpec": spec | fields_for(p.WIRE, tool.extra, self.notes)}

    def _output(self, body: f.Fields) -> None:
        output = self.request.output
        if output is None or output.kind == "text":
            return
        if output.kind == "json_object":
            self.notes.add(Feature.JSON_OBJECT, "asked for in the system prompt, not enforced")
            body["system"] = [*f.list_of(body.get("system", []), "system"), {"text": rules.JSON_ONLY}]
            return
        schema = rules.enforceable_schema(output.schema or {"type": "object"}, self.notes)
        spec = f.put({"schema": f.dump_text(schema)}, name=output.name, description=output.description)
        body["outputConfig"] = {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": spec}}}

    def _reasoning(self, body: f.Fields, unthought: bool) -> None:
        request, reasoning = self.request, self.request.reasoning
        more: f.Fields = {}
        if reasoning is not None and f.own_fields(reasoning.extra, p.WIRE):
            f.merge(body, {"outputConfig": f.own_fields(reasoning.extra, p.WIRE)})
        elif reasoning is not None:
            fields_for(p.WIRE, reasoning.extra, self.notes)
            more = self._reasoning_fields(reasoning, body, unthought)
        if request.top_k is not None:
            if thinks(more):
                self.notes.add(Feature.TOP_K, "left out: not together with reasoning")
            else:
                f.merge(more, self._top_k(request.top_k))
        f.put(body, additionalModelRequestFields=more or None)

    def _reasoning_fields(self, reasoning: m.Reasoning, body: f.Fields, unthought: bool) -> f.Fields:
        request = self.request
        if "claude" in request.model:
            fields, limit = thinking(request, reasoning, unthought, self.notes)
            settings = f.object_of(body.pop("inferenceConfig", {}), "settings")
            f.put(settings, maxTokens=limit)
            if thinks(fields):
                leave_out(settings, ("temperature",), "not together with reasoning", self.notes)
            f.put(body, inferenceConfig=settings or None)
            return fields
        effort = reasoning.effort
        family = next((name for name in _EFFORTS if name in request.model), None)
        if family is not None and effort in {"low", "medium", "high"}:
            return _EFFORTS[family](effort)
        if effort is not None or reasoning.budget is not None:
            self.notes.add(Feature.REASONING, "left to the model")
        return {}

    def _top_k(self, top_k: int) -> f.Fields:
        if "claude" in self.request.model and generation(self.request.model) < (4, 7):
            return {"top_k": top_k}
        if "nova" in self.request.model:
            return {"inferenceConfig": {"topK": top_k}}
        self.notes.add(Feature.TOP_K, "left out: no word for it is known for this model")
        return {}


_EFFORTS: Mapping[str, Callable[[str], f.Fields]] = {
    "gpt-oss": lambda effort: {"reasoning_effort": effort},
    "qwen": lambda effort: {"reasoning_config": effort},
    "nova-2": lambda effort: {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": effort}},
}
"""Part of a model's name -> the fields that say how hard to think."""
