"""Bedrock ConverseStream: streamed answers, in both directions.

::

    messageStart  ( contentBlockStart?  contentBlockDelta*  contentBlockStop? )*  messageStop  metadata

Texts and thoughts open with their first delta; only calls and the vendor's own blocks have a start.  ``messageStop``
says that the answer is whole; ``metadata`` (token counts) usually follows it, but may come before or not at all.
"""

from __future__ import annotations

from typing import cast

from resilient_llm import model as m
from resilient_llm.wire.bedrock import parts as p
from resilient_llm.wire.bedrock.answer import decode_response
from resilient_llm.wire.blocks.decoder import Block, OpenBlocks
from resilient_llm.wire.blocks.encoder import BlockEncoder
from resilient_llm.wire.framing import eventstream
from resilient_llm.wire.kit import fields as f
from resilient_llm.wire.kit.streams import StreamDecoder

_EVENTS = f.words("messageStart contentBlockStart contentBlockDelta contentBlockStop messageStop metadata")


class Decoder(StreamDecoder):
    """Bytes of one streamed answer -> events."""

    plain = b"{<"  # a frame longer than 24 MiB is refused, so none begins like JSON or HTML

    def __init__(self) -> None:
        super().__init__(eventstream.MAX_PAYLOAD)
        self._frames = eventstream.Decoder()
        self._started = self._stopped = self._counted = False
        self._open = OpenBlocks("toolUse", frozenset({"text", "reasoningContent"}), _whole)

    def on_bytes(self, data: bytes) -> None:
        for message in self._frames.feed(data):
            match message.header(":message-type"):
                case "exception":
                    kind = message.header(":exception-type")
                    self.end(m.StreamError({"__type": kind} | _error_fields(message.payload)))
                case "error":
                    text = message.header(":error-message")
                    self.end(m.StreamError({"__type": message.header(":error-code"), "message": text}))
                case _:
                    self._event(message)
            if self._over:
                break

    def at_end(self) -> str | None:
        return None if self._stopped and not self._frames.pending else "the stream ended without messageStop"

    def whole_answer(self, body: f.Fields) -> m.ChatResponse:
        return decode_response(body)

    def _event(self, message: eventstream.EventMessage) -> None:
        kind = message.header(":event-type")
        if kind not in _EVENTS:  # one that did not exist when this was written
            return
        body = f.parse_object(message.payload, "an event")
        body.pop("p", None)  # padding, so that the length of a frame does not tell its content
        if not self._started:
            self._started = True
            self._out.append(m.StreamStart())
        match kind:
            case "contentBlockDelta":
                self._delta(body)
            case "contentBlockStart":
                self._block_start(body)
            case "contentBlockStop":
                self._out += self._open.close(f.take_count(body, "contentBlockIndex"))
            case "messageStop":
                self._out += [event for index in list(self._open) for event in self._open.close(index)]
                raw = f.take_text(body, "stopReason")
                self._out.append(m.Finish(p.REASONS.neutral(raw, self._open.called), raw, 0, f.unread(p.WIRE, body)))
                self._stopped = True
            case "metadata":
                usage = f.take_object(body, "usage")
                if usage is not None:
                    self._out.append(m.UsageUpdate(p.decode_usage(usage)))
                self._counted = True
            case _:
                pass
        if self._stopped and self._counted:  # then nothing can follow; else the end of the connection has to be awaited
            self.end(m.StreamEnd())

    def _block_start(self, body: f.Fields) -> None:
        index, start = f.take_count(body, "contentBlockIndex"), f.take_object(body, "start") or {}
        self._out += self._open.close(index)
        for kind, value in start.items():
            self._begin(index, kind, f.object_of(value, kind))

    def _begin(self, index: int, kind: str, content: f.Fields) -> Block:
        if kind == "toolUse" and content.get("type") == p.SERVER_CALL:
            kind = p.SERVER_CALL
        block = self._open.begin(index, kind, content)
        if kind == "toolUse":
            ident, name = f.take_text(content, "toolUseId") or "", f.take_text(content, "name") or ""
            extra = f.extra_of(p.WIRE, f.others(content, ("input",)))
            self._out.append(m.ToolCallStart(ident, name, block.number, 0, extra))
        return block

    def _delta(self, body: f.Fields) -> None:
        index, delta = f.take_count(body, "contentBlockIndex"), f.take_object(body, "delta") or {}
        for kind, value in delta.items():
            match kind:
                case "text":
                    block = self._block(index, "text")
                    if text := f.take_text({"text": value}, "text"):
                        self._out.append(m.TextDelta(text, block.number))
                case "citation":
                    block = self._block(index, "text")
                    self._out.append(m.TextDelta("", block.number, 0, (f.object_of(value, "a citation"),)))
                case "reasoningContent":
                    self._thought(index, f.object_of(value, kind))
                case "toolUse":
                    self._arguments(index, f.take_text(f.object_of(value, kind), "input") or "")
                case _:
                    _grow(self._block(index, kind).body, value)

    def _block(self, index: int, kind: str) -> Block:
        """The open block of this kind; a delta of another kind ends one and begins the next."""
        block = self._open.get(index)
        if block is not None and block.kind == kind:
            return block
        self._out += self._open.close(index)
        return self._begin(index, kind, {})

    def _thought(self, index: int, fields: f.Fields) -> None:
        redacted = f.take_text(fields, "redactedContent")
        if redacted is not None:
            self._block(index, "redacted").pieces.append(redacted)
            return
        text, signature = f.take_text(fields, "text") or "", f.take_text(fields, "signature")
        block = self._block(index, "reasoningContent")
        if text or signature:
            self._out.append(m.ThoughtDelta(text, block.number, 0, signature, p.WIRE))

    def _arguments(self, index: int, piece: str) -> None:
        block = self._open.get(index)
        if block is None or block.kind not in {"toolUse", p.SERVER_CALL}:
            raise f.Malformed("arguments of a call that never began")
        if piece:
            block.pieces.append(piece)
            if block.kind == "toolUse":
                self._out.append(m.ToolCallDelta(piece, block.number))


def _error_fields(payload: bytes) -> f.Fields:
    try:
        return f.parse_object(payload, "an exception")
    except f.Malformed:
        return {"message": payload.decode("utf-8", "replace")}


def _grow(body: f.Fields, delta: object) -> None:
    """Adds a delta to a block that arrives whole: a list is its content, an object's members replace."""
    if isinstance(delta, list):
        body["content"] = f.list_of(body.get("content", []), "content") + f.list_of(cast("object", delta), "content")
    else:
        body.update(f.object_of(delta, "a delta"))


def _whole(block: Block) -> m.Part:
    if block.kind == "redacted":
        data, *more = block.pieces  # base64, each piece padded on its own
        joined = f.encode_base64(b"".join(map(f.decode_base64, block.pieces))) if more else data
        return m.Thought("", joined, redacted=True, origin=p.WIRE)
    if block.kind == p.SERVER_CALL:
        return m.Opaque(p.WIRE, {"toolUse": block.body | {"input": block.given(block.body.get("input", {}))}})
    return p.decode_block({block.kind: block.body})


def _frame(kind: str, body: f.Fields) -> bytes:
    return eventstream.event(kind, f.dump(body))


class Encoder(BlockEncoder):
    """Events -> bytes of one streamed answer.  See :class:`~resilient_llm.wire.protocol.StreamEncoder`."""

    def opening(self) -> bytes:
        return _frame("messageStart", {"role": "assistant"})

    def begun(self, index: int, content: f.Fields) -> bytes:
        return _frame("contentBlockStart", {"contentBlockIndex": index, "start": content}) if content else b""

    def delta(self, index: int, delta: f.Fields) -> bytes:
        return _frame("contentBlockDelta", {"contentBlockIndex": index, "delta": delta})

    def ended(self, index: int) -> bytes:
        return _frame("contentBlockStop", {"contentBlockIndex": index})

    def block(self, event: m.TextDelta | m.ThoughtDelta | m.ToolCallStart) -> f.Fields:
        if not isinstance(event, m.ToolCallStart):
            return {}
        return {"toolUse": {"toolUseId": event.id, "name": event.name} | f.own_fields(event.extra, p.WIRE)}

    def deltas(self, event: m.TextDelta | m.ThoughtDelta | m.ToolCallDelta) -> list[f.Fields]:
        deltas: list[f.Fields] = []
        match event:
            case m.TextDelta():
                deltas.extend([{"text": event.text}] if event.text else [])
                deltas.extend([{"citation": citation} for citation in p.own_citations(event.annotations)])
            case m.ThoughtDelta():
                deltas.extend([{"reasoningContent": {"text": event.text}}] if event.text else [])
                if event.signature and event.origin == p.WIRE:
                    deltas.append({"reasoningContent": {"signature": event.signature}})
            case _:
                deltas.append({"toolUse": {"input": event.arguments}})
        return deltas

    def whole_block(self, part: m.Part) -> tuple[f.Fields, list[f.Fields]] | None:
        """Redacted reasoning, images and the vendor's own calls and results have a streamed form; nothing else has."""
        content = p.encode_part(part) or {}
        match part:
            case m.Thought():
                thought = f.object_of(content["reasoningContent"], "reasoningContent")
                text = f.take_object(thought, "reasoningText")
                inner = [thought] if text is None else [{name: value} for name, value in text.items() if value]
                return {}, [{"reasoningContent": each} for each in inner]
            case m.Media() | m.Opaque():
                return _whole_deltas(content)
            case _:
                return None

    def closing(self) -> bytes:
        stop: f.Fields = {"stopReason": p.REASONS.word(self.finish.reason, self.finish.raw)}
        more = f.own_fields(self.finish.extra, p.WIRE)
        counts: f.Fields = {"metrics": more.pop("metrics", {"latencyMs": 0})}
        f.put(counts, usage=None if self.usage is None else p.encode_usage(self.usage))
        return _frame("messageStop", stop | more) + _frame("metadata", counts)

    def failure(self, message: str) -> bytes:
        return eventstream.exception("internalServerException", f.dump({"message": message}))


def error_frame(error: f.Fields) -> bytes:
    """An exception frame."""
    kind = f.as_text(error.get("__type"))
    return eventstream.exception(kind[:1].lower() + kind[1:], f.dump({"message": error.get("message")}))


def _whole_deltas(content: f.Fields) -> tuple[f.Fields, list[f.Fields]] | None:
    for kind, value in content.items():
        body = f.object_of(value, kind)
        match kind:
            case "toolUse":
                given = body.pop("input", {})
                return {kind: body}, [{kind: {"input": f.dump(given).decode()}}]
            case "toolResult":
                results = f.take_list(body, "content")
                return {kind: body}, [{kind: results}]
            case "image":
                source = body.pop("source", {})
                return {kind: body}, [{kind: {"source": source}}]
            case _:
                return None
    return None
