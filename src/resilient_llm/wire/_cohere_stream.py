"""Cohere: streamed answers, in both directions."""

from __future__ import annotations

from typing_extensions import override

from resilient_llm.model import (
    BlockEnd,
    Finish,
    JsonObject,
    PartAdded,
    RefusalDelta,
    StreamBroken,
    StreamEnd,
    StreamError,
    StreamEvent,
    StreamStart,
    TextDelta,
    ThoughtDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    Usage,
    UsageUpdate,
)
from resilient_llm.wire import sse
from resilient_llm.wire._cohere_answer import decode_response
from resilient_llm.wire._cohere_parts import (
    NAME,
    PLAN,
    decode_block,
    encode_block,
    encode_usage,
    finish_reason,
    finish_word,
    is_citation,
    showable,
    take_usage,
)
from resilient_llm.wire.accumulate import replay
from resilient_llm.wire.fields import (
    Fields,
    Malformed,
    dump,
    fields_of,
    leftovers,
    put,
    reading_answer,
    take_fields,
    take_items,
    take_text,
)
from resilient_llm.wire.notes import told_message

# --- bytes -> events ------------------------------------------------------------------------------------------------


class StreamDecoder(sse.JsonStream):
    """Events -> events.  Content blocks and tool calls are numbered apart here and together there."""

    def __init__(self) -> None:
        super().__init__()
        self._blocks: dict[tuple[str, object], int] = {}
        self._text: int | None = None  # the latest text, which citations without a place belong to
        self._logprobs: list[object] = []
        self._called = False

    @override
    def on_text(self, data: str) -> bool:
        return data == "[DONE]"  # without a message-end before it, still no end

    @override
    def on_object(self, event: str, data: Fields) -> None:
        kind = data.get("type", event)
        delta = data.get("delta")
        try:
            if kind == "message-end":
                self._ended(fields_of(delta or {}, "delta"))
            elif kind == "message-start":
                self._out.append(StreamStart(str(data.get("id") or "")))
            elif "message" in data and "delta" not in data:
                self.fail(StreamError(data))  # the shape of an error's body
            else:
                self._piece(str(kind), data.get("index"), _message_of(delta))
                if isinstance(data.get("logprobs"), dict):
                    self._logprobs.append(data["logprobs"])
        except Malformed as error:
            self.fail(StreamBroken(f"undecodable event: {error}"))

    @override
    def at_end(self) -> str | None:
        return "the stream ended without message-end"

    @override
    def whole_answer(self, body: bytes) -> list[StreamEvent]:
        return replay(reading_answer(NAME, body, decode_response))

    def _piece(self, kind: str, index: object, message: Fields) -> None:
        match kind:
            case "content-start":
                self._content_start(index, take_fields(message, "content") or {})
            case "content-delta":
                self._content(self._place("content", index), take_fields(message, "content") or {})
            case "tool-plan-delta":
                if plan := take_text(message, "tool_plan"):
                    self._out.append(ThoughtDelta(plan, self._place("plan", 0), origin=PLAN))
            case "tool-call-start":
                self._call_start(self._place("tool", index), message)
            case "tool-call-delta":
                self._call(self._place("tool", index), message)
            case "citation-start":
                citations = tuple(fields_of(item, "a citation") for item in take_items(message, "citations"))
                if citations:
                    self._out.append(TextDelta("", self._cited(citations[0]), annotations=citations))
            case "content-end" | "tool-call-end":
                self._out.append(BlockEnd(self._place(kind.split("-", maxsplit=1)[0], index)))
            case _:  # citation-end, debug and what may come
                pass

    def _place(self, kind: str, index: object) -> int:
        """The block of a content block, call or plan; a new one when it is first seen."""
        key = kind, index if isinstance(index, int) else 0
        return self._blocks.setdefault(key, len(self._blocks))

    def _cited(self, citation: JsonObject) -> int:
        index = citation.get("content_index")
        block = self._blocks.get(("content", index), self._text) if isinstance(index, int) else self._text
        return self._place("cited", 0) if block is None else block

    def _content_start(self, index: object, content: Fields) -> None:
        kind, block = content.get("type", "text"), self._place("content", index)
        if kind in ("text", "thinking"):
            self._text = block if kind == "text" else self._text
            self._content(block, content)
        else:
            self._out.append(PartAdded(decode_block(content), block))

    def _content(self, block: int, content: Fields) -> None:
        thinking, text = take_text(content, "thinking"), take_text(content, "text")
        if thinking:
            self._out.append(ThoughtDelta(thinking, block, origin=NAME))
        if text:
            self._out.append(TextDelta(text, block))

    def _call_start(self, block: int, message: Fields) -> None:
        self._called = True
        for item in take_items(message, "tool_calls")[:1]:
            fields = fields_of(item, "a tool call")
            function = take_fields(fields, "function") or {}
            name, arguments = take_text(function, "name") or "", take_text(function, "arguments")
            self._out.append(ToolCallStart(take_text(fields, "id") or "", name, block))
            if arguments:
                self._out.append(ToolCallDelta(arguments, block))

    def _call(self, block: int, message: Fields) -> None:
        for item in take_items(message, "tool_calls")[:1]:
            function = take_fields(fields_of(item, "a tool call"), "function") or {}
            if arguments := take_text(function, "arguments"):
                self._out.append(ToolCallDelta(arguments, block))

    def _ended(self, delta: Fields) -> None:
        if delta.get("error") is not None:
            self.fail(StreamError(delta))
            return
        reason, usage = take_text(delta, "finish_reason"), take_usage(delta)
        put(delta, logprobs=self._logprobs or None)
        finish = finish_reason(reason, [ToolCall("", "")] if self._called else [])
        self._out.append(Finish(finish, reason, extra=leftovers(NAME, delta)))
        if usage is not None:
            self._out.append(UsageUpdate(usage))
        self.fail(StreamEnd())


def _message_of(delta: object) -> Fields:
    return take_fields(fields_of(delta or {}, "delta"), "message") or {}


# --- events -> bytes ------------------------------------------------------------------------------------------------


class StreamEncoder:
    """Events -> events.  Content blocks follow one another; calls may be open side by side."""

    def __init__(self) -> None:
        self._begun = False
        self._content: tuple[int, int, str] | None = None  # neutral block, number here, kind
        self._contents = 0
        self._calls: dict[int, int] = {}
        self._called = 0
        self._cited = 0
        self._finish = Finish("stop")
        self._usage: Usage | None = None

    def feed(self, event: StreamEvent) -> bytes:
        """The frames this event completes."""
        match event:
            case StreamStart():
                return self._start(event.id)
            case TextDelta(choice=0):
                text = self._grow(event.block, "text", event.text) if event.text else b""
                return text + b"".join(self._citation(each) for each in event.annotations if is_citation(each))
            case RefusalDelta(choice=0) if event.text:
                return self._grow(event.block, "text", event.text)
            case ThoughtDelta(choice=0) if event.text:
                return self._thought(event)
            case PartAdded(choice=0):
                return self._part(event)
            case ToolCallStart(choice=0):
                return self._call_start(event)
            case ToolCallDelta(choice=0) if event.block in self._calls and event.arguments:
                calls = {"function": {"arguments": event.arguments}}
                return _frame("tool-call-delta", self._calls[event.block], {"tool_calls": calls})
            case _:
                return self._closing(event)

    def _closing(self, event: StreamEvent) -> bytes:
        match event:
            case BlockEnd(choice=0):
                return self._end(event.block)
            case UsageUpdate():
                self._usage = event.usage
            case Finish(choice=0):
                self._finish = event
            case StreamEnd():
                return self._start("") + self._end_all() + self._message_end()
            case StreamError() | StreamBroken():
                return error_frames(told_message(event))
            case _:
                pass
        return b""

    def _start(self, id_: str) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        message: Fields = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
        data: Fields = {"id": id_, "type": "message-start", "delta": {"message": message}}
        return sse.encode(dump(data), "message-start")

    def _grow(self, block: int, kind: str, text: str) -> bytes:
        """A piece of a content block, which begins if it is not the one that grows."""
        begun = b""
        if self._content is None or (self._content[0], self._content[2]) != (block, kind):
            begun = self._start("") + self._end_content() + self._begin(block, kind, {"type": kind, kind: ""})
        return begun + _frame("content-delta", self._contents - 1, {"content": {kind: text}})

    def _begin(self, block: int, kind: str, content: Fields) -> bytes:
        self._content = block, self._contents, kind
        self._contents += 1
        return _frame("content-start", self._contents - 1, {"content": content})

    def _thought(self, event: ThoughtDelta) -> bytes:
        if event.origin == PLAN:
            return self._start("") + _frame("tool-plan-delta", None, {"tool_plan": event.text})
        return self._grow(event.block, "thinking", event.text)

    def _part(self, event: PartAdded) -> bytes:
        blocks = [block for part in showable([event.part]) if (block := encode_block(part)) is not None]
        return b"".join(
            self._start("") + self._end_content() + self._begin(event.block, "whole", block) + self._end_content()
            for block in blocks
        )

    def _call_start(self, event: ToolCallStart) -> bytes:
        self._calls[event.block] = self._called
        self._called += 1
        calls = {"id": event.id, "type": "function", "function": {"name": event.name, "arguments": ""}}
        begun = self._start("") + self._end_content()
        return begun + _frame("tool-call-start", self._called - 1, {"tool_calls": calls})

    def _citation(self, citation: JsonObject) -> bytes:
        self._cited += 1
        start = _frame("citation-start", self._cited - 1, {"citations": citation})
        return start + _frame("citation-end", self._cited - 1)

    def _end(self, block: int) -> bytes:
        if block in self._calls:
            return _frame("tool-call-end", self._calls.pop(block))
        return self._end_content() if self._content is not None and self._content[0] == block else b""

    def _end_content(self) -> bytes:
        if self._content is None:
            return b""
        index = self._content[1]
        self._content = None
        return _frame("content-end", index)

    def _end_all(self) -> bytes:
        return self._end_content() + b"".join(self._end(block) for block in list(self._calls))

    def _message_end(self) -> bytes:
        delta: Fields = {"finish_reason": finish_word(self._finish.reason, self._finish.raw)}
        put(delta, usage=encode_usage(self._usage))
        return _message_end(delta)


def _frame(kind: str, index: int | None, message: Fields | None = None) -> bytes:
    data: Fields = {"type": kind}
    put(data, index=index, delta={"message": message} if message is not None else None)
    return sse.encode(dump(data), kind)


def _message_end(delta: Fields) -> bytes:
    return sse.encode(dump({"type": "message-end", "delta": delta}), "message-end") + sse.encode(b"[DONE]")


def error_frames(message: str) -> bytes:
    """A ``message-end`` that says why."""
    return _message_end({"error": message, "finish_reason": "ERROR"})
