"""Cohere: streamed answers, in both directions."""

from __future__ import annotations

from resilient_llm import model as m
from resilient_llm.errors import Fault
from resilient_llm.wire.cohere import parts as p
from resilient_llm.wire.cohere.answer import decode_response
from resilient_llm.wire.framing import sse
from resilient_llm.wire.kit import fields as f
from resilient_llm.wire.kit.streams import JsonEvents, StreamEncoder


class Decoder(JsonEvents):
    """Events -> events.  Content blocks and tool calls are numbered apart here and together there."""

    def __init__(self) -> None:
        super().__init__()
        self._blocks: dict[tuple[str, object], int] = {}
        self._text: int | None = None  # the latest text, which citations without a place belong to
        self._logprobs: list[object] = []
        self._called = False

    def on_object(self, event: str, data: f.Fields) -> None:
        kind = data.get("type", event)
        delta = data.get("delta")
        if kind == "message-end":
            self._ended(f.object_of(delta or {}, "delta"))
        elif kind == "message-start":
            self._out.append(m.StreamStart(str(data.get("id") or "")))
        elif "message" in data and "delta" not in data:
            self.end(m.StreamError(data))  # the shape of an error's body
        else:
            self._piece(str(kind), data.get("index"), f.take_object(f.object_of(delta or {}, "delta"), "message") or {})
            if isinstance(data.get("logprobs"), dict):
                self._logprobs.append(data["logprobs"])

    def at_end(self) -> str | None:
        return "the stream ended without message-end"

    def whole_answer(self, body: f.Fields) -> m.ChatResponse:
        return decode_response(body)

    def _piece(self, kind: str, index: object, message: f.Fields) -> None:
        match kind:
            case "content-start":
                self._content_start(index, f.take_object(message, "content") or {})
            case "content-delta":
                self._content(self._place("content", index), f.take_object(message, "content") or {})
            case "tool-plan-delta":
                if plan := f.take_text(message, "tool_plan"):
                    self._out.append(m.ThoughtDelta(plan, self._place("plan", 0), origin=p.PLAN))
            case "tool-call-start":
                self._call_start(self._place("tool", index), message)
            case "tool-call-delta":
                self._call(self._place("tool", index), message)
            case "citation-start":
                citations = tuple(f.object_of(item, "a citation") for item in f.take_list(message, "citations"))
                if citations:
                    self._out.append(m.TextDelta("", self._cited(citations[0]), annotations=citations))
            case "content-end" | "tool-call-end":
                self._out.append(m.BlockEnd(self._place(kind.split("-", maxsplit=1)[0], index)))
            case _:  # citation-end, debug and what may come
                pass

    def _place(self, kind: str, index: object) -> int:
        """The block of a content block, call or plan; a new one when it is first seen."""
        key = kind, index if isinstance(index, int) else 0
        return self._blocks.setdefault(key, len(self._blocks))

    def _cited(self, citation: m.JsonObject) -> int:
        index = citation.get("content_index")
        block = self._blocks.get(("content", index), self._text) if isinstance(index, int) else self._text
        return self._place("cited", 0) if block is None else block

    def _content_start(self, index: object, content: f.Fields) -> None:
        kind, block = content.get("type", "text"), self._place("content", index)
        if kind in ("text", "thinking"):
            self._text = block if kind == "text" else self._text
            self._content(block, content)
        else:
            self._out.append(m.PartAdded(p.decode_block(content), block))

    def _content(self, block: int, content: f.Fields) -> None:
        thinking, text = f.take_text(content, "thinking"), f.take_text(content, "text")
        if thinking:
            self._out.append(m.ThoughtDelta(thinking, block, origin=p.WIRE))
        if text:
            self._out.append(m.TextDelta(text, block))

    def _call_start(self, block: int, message: f.Fields) -> None:
        self._called = True
        for item in f.take_list(message, "tool_calls")[:1]:
            fields = f.object_of(item, "a tool call")
            function = f.take_object(fields, "function") or {}
            name, arguments = f.take_text(function, "name") or "", f.take_text(function, "arguments")
            self._out.append(m.ToolCallStart(f.take_text(fields, "id") or "", name, block))
            if arguments:
                self._out.append(m.ToolCallDelta(arguments, block))

    def _call(self, block: int, message: f.Fields) -> None:
        for item in f.take_list(message, "tool_calls")[:1]:
            function = f.take_object(f.object_of(item, "a tool call"), "function") or {}
            if arguments := f.take_text(function, "arguments"):
                self._out.append(m.ToolCallDelta(arguments, block))

    def _ended(self, delta: f.Fields) -> None:
        if delta.get("error") is not None:
            self.end(m.StreamError(delta))
            return
        reason, usage = f.take_text(delta, "finish_reason"), p.take_usage(delta)
        f.put(delta, logprobs=self._logprobs or None)
        finish = p.REASONS.neutral(reason or "COMPLETE", self._called)
        self._out.append(m.Finish(finish, reason, extra=f.unread(p.WIRE, delta)))
        if usage is not None:
            self._out.append(m.UsageUpdate(usage))
        self.end(m.StreamEnd())


class Encoder(StreamEncoder):
    """Events -> events.  Content blocks follow one another; calls may be open side by side."""

    def __init__(self) -> None:
        super().__init__()
        self._content: tuple[int, int, str] | None = None  # neutral block, number here, kind
        self._contents = 0
        self._calls: dict[int, int] = {}
        self._called = 0
        self._cited = 0

    def opening(self) -> bytes:
        message: f.Fields = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
        data: f.Fields = {"id": self.start.id, "type": "message-start", "delta": {"message": message}}
        return sse.encode(f.dump(data), "message-start")

    def on_text(self, event: m.TextDelta) -> bytes:
        text = self._grow(event.block, "text", event.text) if event.text else b""
        return text + b"".join(self._citation(each) for each in event.annotations if p.is_citation(each))

    def on_thought(self, event: m.ThoughtDelta) -> bytes:
        if not event.text:
            return b""
        if event.origin == p.PLAN:
            return self.opened() + _frame("tool-plan-delta", None, {"tool_plan": event.text})
        return self._grow(event.block, "thinking", event.text)

    def on_whole(self, part: m.Part, block: int, choice: int) -> bytes:
        whole = [item for each in p.showable([part]) if (item := p.encode_block(each)) is not None]
        return b"".join(
            self.opened() + self._end_content() + self._begin(block, "whole", item) + self._end_content()
            for item in whole
        )

    def on_call(self, event: m.ToolCallStart) -> bytes:
        self._calls[event.block] = self._called
        self._called += 1
        calls = {"id": event.id, "type": "function", "function": {"name": event.name, "arguments": ""}}
        begun = self.opened() + self._end_content()
        return begun + _frame("tool-call-start", self._called - 1, {"tool_calls": calls})

    def on_arguments(self, event: m.ToolCallDelta) -> bytes:
        if event.block not in self._calls or not event.arguments:
            return b""
        calls = {"function": {"arguments": event.arguments}}
        return _frame("tool-call-delta", self._calls[event.block], {"tool_calls": calls})

    def on_block_end(self, event: m.BlockEnd) -> bytes:
        return self._end(event.block)

    def on_end(self, event: m.StreamEnd) -> bytes:
        begun = self.opened() + self._end_content() + b"".join(self._end(block) for block in list(self._calls))
        delta: f.Fields = {"finish_reason": p.REASONS.word(self.finish.reason, self.finish.raw)}
        return begun + _message_end(f.put(delta, usage=p.encode_usage(self.usage)))

    def failure(self, message: str) -> bytes:
        return _message_end({"error": message, "finish_reason": "ERROR"})

    def _grow(self, block: int, kind: str, text: str) -> bytes:
        """A piece of a content block, which begins if it is not the one that grows."""
        begun = b""
        if self._content is None or (self._content[0], self._content[2]) != (block, kind):
            begun = self.opened() + self._end_content() + self._begin(block, kind, {"type": kind, kind: ""})
        return begun + _frame("content-delta", self._contents - 1, {"content": {kind: text}})

    def _begin(self, block: int, kind: str, content: f.Fields) -> bytes:
        self._content = block, self._contents, kind
        self._contents += 1
        return _frame("content-start", self._contents - 1, {"content": content})

    def _citation(self, citation: m.JsonObject) -> bytes:
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


def _frame(kind: str, index: int | None, message: f.Fields | None = None) -> bytes:
    data: f.Fields = {"type": kind}
    f.put(data, index=index, delta={"message": message} if message is not None else None)
    return sse.encode(f.dump(data), kind)


def _message_end(delta: f.Fields) -> bytes:
    return sse.encode(f.dump({"type": "message-end", "delta": delta}), "message-end") + sse.encode(b"[DONE]")


def error_frame(_fault: Fault, message: str) -> bytes:
    """A ``message-end`` that says why."""
    return Encoder().failure(message)
