"""Anthropic Messages: streamed answers, in both directions.

::

    message_start  ( content_block_start  content_block_delta*  content_block_stop )*  message_delta  message_stop

with ``ping`` and ``error`` anywhere.  Only ``message_stop`` says that the answer is whole.
"""

from __future__ import annotations

from typing import cast

from resilient_llm import model as m
from resilient_llm.wire.anthropic import parts as p
from resilient_llm.wire.anthropic.answer import decode_response, error_body, message_body
from resilient_llm.wire.blocks.decoder import Block, OpenBlocks
from resilient_llm.wire.blocks.encoder import BlockEncoder
from resilient_llm.wire.framing import sse
from resilient_llm.wire.kit import fields as f
from resilient_llm.wire.kit.streams import JsonEvents


class Decoder(JsonEvents):
    """Bytes of one streamed answer -> events.  See :class:`~resilient_llm.wire.protocol.StreamDecoder`."""

    def __init__(self) -> None:
        super().__init__()
        self._id: str | None = None
        self._usage: f.Fields = {}
        self._open = OpenBlocks("tool_use", frozenset({"text", "thinking"}), _whole)

    def on_object(self, event: str, data: f.Fields) -> None:
        match data.get("type", event):
            case "content_block_delta":
                self._delta(data)
            case "content_block_start":
                self._block_start(data)
            case "content_block_stop":
                self._out += self._open.close(f.take_count(data, "index"))
            case "message_start":
                message = f.take_object(data, "message") or {}
                name = f.take_text(message, "id") or ""
                if self._id is None:
                    self._id = name
                    self._out.append(m.StreamStart(name, f.take_text(message, "model") or ""))
                    self._count(message)
                elif name != self._id:
                    self.end(m.StreamBroken("another answer began inside this one"))
            case "message_delta":
                self._count(data)
                delta = f.take_object(data, "delta") or {}
                if raw := f.take_text(delta, "stop_reason"):
                    data.pop("type", None)  # some send it in the event line alone
                    reason = p.REASONS.neutral(raw, self._open.called)
                    self._out.append(m.Finish(reason, raw, 0, f.unread(p.WIRE, data | delta)))
            case "message_stop":
                self._out += [event for index in list(self._open) for event in self._open.close(index)]
                self.end(m.StreamEnd())
            case "ping":
                self._out.append(m.KeepAlive())
            case kind:  # one that did not exist when this was written says nothing we must know
                if "error" in (kind, event) or data.get("error"):
                    self.end(m.StreamError(data))

    def at_end(self) -> str | None:
        return "the stream ended without message_stop"

    def whole_answer(self, body: f.Fields) -> m.ChatResponse:
        return decode_response(body)

    def _count(self, body: f.Fields) -> None:
        usage = {key: count for key, count in (f.take_object(body, "usage") or {}).items() if count is not None}
        if usage:
            self._usage |= usage  # counts are cumulative, but each event tells only some of them
            self._out.append(m.UsageUpdate(p.decode_usage(dict(self._usage))))

    def _block_start(self, body: f.Fields) -> None:
        index, content = f.take_count(body, "index"), f.take_object(body, "content_block") or {}
        self._out += self._open.close(index)
        block = self._open.begin(index, f.take_text(content, "type") or "", content)
        match block.kind:
            case "text":
                self._text(block, f.take_text(content, "text"), f.take_list(content, "citations"))
            case "tool_use":
                ident, name = f.take_text(content, "id") or "", f.take_text(content, "name") or ""
                extra = f.extra_of(p.WIRE, f.others(content, ("input",)))
                self._out.append(m.ToolCallStart(ident, name, block.number, 0, extra))
            case "thinking":
                self._thought(block, f.take_text(content, "thinking"), f.take_text(content, "signature"))
            case _:
                pass

    def _delta(self, body: f.Fields) -> None:
        index, delta = body.get("index"), body.get("delta")
        block = self._open.get(index) if type(index) is int else None
        if block is None or not isinstance(delta, dict):
            self.end(m.StreamBroken("a delta for a block that is not open"))
            return
        fields = cast("f.Fields", delta)
        kind = fields.get("type")
        if block.kind == "text" and kind == "text_delta":  # nearly every event of a stream
            self._text(block, f.take_text(fields, "text"), [])
        else:
            self._other_delta(block, kind, fields)

    def _other_delta(self, block: Block, kind: object, delta: f.Fields) -> None:
        match block.kind, kind:
            case "tool_use", "input_json_delta":
                if piece := f.take_text(delta, "partial_json"):
                    block.pieces.append(piece)
                    self._out.append(m.ToolCallDelta(piece, block.number))
            case "thinking", "thinking_delta":
                self._thought(block, f.take_text(delta, "thinking"), None)
            case "thinking", "signature_delta":
                self._thought(block, None, f.take_text(delta, "signature"))
            case "text", "citations_delta":
                self._text(block, None, f.take_list(delta, "citation"))
            case "text" | "tool_use" | "thinking", _:
                pass  # a kind of delta that did not exist when this was written
            case _, "input_json_delta":
                block.pieces.append(f.take_text(delta, "partial_json") or "")
            case _:
                _grow(block.body, {key: value for key, value in delta.items() if key != "type"})

    def _text(self, block: Block, text: str | None, citations: list[object]) -> None:
        if citations:
            notes = tuple(f.object_of(citation, "a citation") for citation in citations)
            self._out.append(m.TextDelta(text or "", block.number, 0, notes))
        elif text:
            self._out.append(m.TextDelta(text, block.number))

    def _thought(self, block: Block, text: str | None, signature: str | None) -> None:
        if text or signature:
            origin, mine = p.origin_and_signature(signature or "")
            self._out.append(m.ThoughtDelta(text or "", block.number, 0, mine or None, origin))


def _grow(body: f.Fields, delta: f.Fields) -> None:
    """Adds a delta of an unknown kind to an unknown block: what can grow does, anything else is replaced."""
    for key, value in delta.items():
        before = body.get(key)
        if isinstance(before, str) and isinstance(value, str):
            body[key] = before + value
        else:
            f.merge(body, {key: value})


def _whole(block: Block) -> m.Part:
    if block.kind == "redacted_thinking":
        return p.decode_thought(block.body, redacted=True)
    f.put(block.body, input=block.given(None))
    return m.Opaque(p.WIRE, {"type": block.kind} | block.body)


_OUTSIDE = frozenset({"context_management"})
"""Fields of an answer that a ``message_delta`` carries beside its delta, not in it."""


def frame(body: f.Fields) -> bytes:
    """One server-sent event, named by its type."""
    return sse.encode(f.dump(body), str(body["type"]))


def error_frame(error: f.Fields) -> bytes:
    """The event that reports an error inside a running stream."""
    return frame({"type": "error", **error})


class Encoder(BlockEncoder):
    """Events -> bytes of one streamed answer.  See :class:`~resilient_llm.wire.protocol.StreamEncoder`."""

    def opening(self) -> bytes:
        return frame({"type": "message_start", "message": message_body(self.start.id, self.start.model)})

    def begun(self, index: int, content: f.Fields) -> bytes:
        return frame({"type": "content_block_start", "index": index, "content_block": content})

    def delta(self, index: int, delta: f.Fields) -> bytes:
        return frame({"type": "content_block_delta", "index": index, "delta": delta})

    def ended(self, index: int) -> bytes:
        return frame({"type": "content_block_stop", "index": index})

    def block(self, event: m.TextDelta | m.ThoughtDelta | m.ToolCallStart) -> f.Fields:
        match event:
            case m.TextDelta():
                return {"type": "text", "text": ""}
            case m.ThoughtDelta():
                return {"type": "thinking", "thinking": "", "signature": ""}
            case _:
                call: f.Fields = {"type": "tool_use", "id": event.id, "name": event.name, "input": {}}
                return call | f.own_fields(event.extra, p.WIRE)

    def deltas(self, event: m.TextDelta | m.ThoughtDelta | m.ToolCallDelta) -> list[f.Fields]:
        deltas: list[f.Fields] = []
        match event:
            case m.TextDelta():
                deltas.extend([{"type": "text_delta", "text": event.text}] if event.text else [])
                citations = p.own_citations(event.annotations)
                deltas.extend([{"type": "citations_delta", "citation": citation} for citation in citations])
            case m.ThoughtDelta():
                deltas.extend([{"type": "thinking_delta", "thinking": event.text}] if event.text else [])
                if event.signature:
                    signature = p.marked_signature(m.Thought("", event.signature, origin=event.origin))
                    deltas.append({"type": "signature_delta", "signature": signature})
            case _:
                deltas.append({"type": "input_json_delta", "partial_json": event.arguments})
        return deltas

    def whole_block(self, part: m.Part) -> tuple[f.Fields, list[f.Fields]] | None:
        content = p.encode_part(part)
        return None if content is None else (content, [])

    def closing(self) -> bytes:
        fields = f.own_fields(self.finish.extra, p.WIRE)
        outer: f.Fields = {key: fields.pop(key) for key in _OUTSIDE & fields.keys()}
        word = p.REASONS.word(self.finish.reason, self.finish.raw)
        delta: f.Fields = {"stop_reason": word, "stop_sequence": None} | fields
        body: f.Fields = {"type": "message_delta", "delta": delta, "usage": p.encode_usage(self.usage)}
        return frame(body | outer) + frame({"type": "message_stop"})

    def failure(self, message: str) -> bytes:
        return frame(error_body("api_error", message))

    def on_keep_alive(self, event: m.KeepAlive) -> bytes:
        return frame({"type": "ping"})

    def on_restart(self, event: m.Restarted) -> bytes:
        """A ping too: the one event that every version of the SDK passes over."""
        return frame({"type": "ping", "restarted": {"provider": event.provider, "reason": event.reason}})
