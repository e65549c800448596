"""Cohere: streamed answers, in both directions."""

from __future__ import annotations

from resilient_llm import model as m
from resilient_llm.wire.blocks.encoder import BlockEncoder
from resilient_llm.wire.cohere import parts as p
from resilient_llm.wire.cohere.answer import decode_response
from resilient_llm.wire.framing import sse
from resilient_llm.wire.kit import fields as f
from resilient_llm.wire.kit.streams import JsonEvents


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
                content, block = f.take_object(message, "content") or {}, self._place("content", index)
                begun = content.get("type", "text")
                if begun in ("text", "thinking"):
                    self._text = block if begun == "text" else self._text
                    self._content(block, content)
                else:
                    self._out.append(m.PartAdded(p.decode_block(content), block))
            case "content-delta":
                self._content(self._place("content", index), f.take_object(message, "content") or {})
            case "tool-plan-delta":
                if plan := f.take_text(message, "tool_plan"):
                    self._out.append(m.ThoughtDelta(plan, self._place("plan", 0), origin=p.PLAN))
            case "tool-call-start" | "tool-call-delta":
                self._called = True
                self._call(self._place("tool", index), message, begins=kind == "tool-call-start")
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

    def _content(self, block: int, content: f.Fields) -> None:
        thinking, text = f.take_text(content, "thinking"), f.take_text(content, "text")
        if thinking:
            self._out.append(m.ThoughtDelta(thinking, block, origin=p.WIRE))
        if text:
            self._out.append(m.TextDelta(text, block))

    def _call(self, block: int, message: f.Fields, begins: bool) -> None:
        for item in f.take_list(message, "tool_calls")[:1]:
            fields = f.object_of(item, "a tool call")
            function = f.take_object(fields, "function") or {}
            if begins:
                id_, name = f.take_text(fields, "id") or "", f.take_text(function, "name") or ""
                self._out.append(m.ToolCallStart(id_, name, block))
            if arguments := f.take_text(function, "arguments"):
                self._out.append(m.ToolCallDelta(arguments, block))

    def _ended(self, delta: f.Fields) -> None:
        if delta.get("error") is not None:
            self.end(m.StreamError(delta))
            return
        raw, usage = f.take_text(delta, "finish_reason"), p.take_usage(delta)
        f.put(delta, logprobs=self._logprobs or None)
        self.finish(p.REASONS.neutral(raw or "COMPLETE", self._called), raw, f.unread(p.WIRE, delta), usage)


class Encoder(BlockEncoder):
    """Events -> events.  Content blocks and calls are numbered apart; plans and citations are no blocks."""

    def __init__(self) -> None:
        super().__init__()
        self._places: list[tuple[str, int]] = []  # what each block is here, and its number
        self._cited = 0

    def opening(self) -> bytes:
        message: f.Fields = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
        data: f.Fields = {"id": self.start.id, "type": "message-start", "delta": {"message": message}}
        return sse.encode(f.dump(data), "message-start")

    def begun(self, index: int, content: f.Fields) -> bytes:
        kind, name = ("tool-call", "tool_calls") if "id" in content else ("content", "content")
        number = sum(kind == other for other, _ in self._places)
        self._places.append((kind, number))
        return _frame(f"{kind}-start", number, {name: content})

    def delta(self, index: int, delta: f.Fields) -> bytes:
        kind, number = self._places[index]
        return _frame(f"{kind}-delta", number, delta)

    def ended(self, index: int) -> bytes:
        kind, number = self._places[index]
        return _frame(f"{kind}-end", number)

    def block(self, event: m.TextDelta | m.ThoughtDelta | m.ToolCallStart) -> f.Fields:
        match event:
            case m.TextDelta():
                return {"type": "text", "text": ""}
            case m.ThoughtDelta():
                return {"type": "thinking", "thinking": ""}
            case _:
                return {"id": event.id, "type": "function", "function": {"name": event.name, "arguments": ""}}

    def deltas(self, event: m.TextDelta | m.ThoughtDelta | m.ToolCallDelta) -> list[f.Fields]:
        match event:
            case m.TextDelta():
                return [{"content": {"text": event.text}}] if event.text else []
            case m.ThoughtDelta():
                return [{"content": {"thinking": event.text}}] if event.text else []
            case _:
                return [{"tool_calls": {"function": {"arguments": event.arguments}}}]

    def on_text(self, event: m.TextDelta | m.ThoughtDelta) -> bytes:
        frames = super().on_text(event)
        for citation in event.annotations if isinstance(event, m.TextDelta) else ():
            if p.is_citation(citation):
                frames += _frame("citation-start", self._cited, {"citations": citation})
                frames += _frame("citation-end", self._cited)
                self._cited += 1
        return frames

    def on_thought(self, event: m.ThoughtDelta) -> bytes:
        if event.origin == p.PLAN and event.text:
            return self.opened() + _frame("tool-plan-delta", None, {"tool_plan": event.text})
        return super().on_thought(event)

    def whole_block(self, part: m.Part) -> tuple[f.Fields, list[f.Fields]] | None:
        shown = next((p.encode_block(each) for each in p.showable([part])), None)
        return None if shown is None else (shown, [])

    def closing(self) -> bytes:
        delta: f.Fields = {"finish_reason": p.REASONS.word(self.finish.reason, self.finish.raw)}
        return _message_end(f.put(delta, usage=p.encode_usage(self.usage)))

    def failure(self, message: str) -> bytes:
        return _message_end({"error": message, "finish_reason": "ERROR"})


def _frame(kind: str, index: int | None, message: f.Fields | None = None) -> bytes:
    data: f.Fields = {"type": kind}
    f.put(data, index=index, delta={"message": message} if message is not None else None)
    return sse.encode(f.dump(data), kind)


def _message_end(delta: f.Fields) -> bytes:
    return sse.encode(f.dump({"type": "message-end", "delta": delta}), "message-end") + sse.encode(b"[DONE]")


def error_frame(error: f.Fields) -> bytes:
    """A ``message-end`` that says why."""
    return Encoder().failure(f.as_text(error.get("error")) or f.as_text(error.get("message")))
