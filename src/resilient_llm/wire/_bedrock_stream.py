"""Bedrock ConverseStream: streamed answers, in both directions.

::

    messageStart  ( contentBlockStart?  contentBlockDelta*  contentBlockStop? )*  messageStop  metadata

Texts and thoughts open with their first delta; only calls and the vendor's own blocks have a start.  ``messageStop``
says that the answer is whole; ``metadata`` (token counts) usually follows it, but may come before or not at all.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from typing_extensions import override

from resilient_llm.errors import InvalidAnswer
from resilient_llm.model import (
    BlockEnd,
    Finish,
    Media,
    Opaque,
    Part,
    PartAdded,
    StreamBroken,
    StreamEnd,
    StreamError,
    StreamEvent,
    StreamStart,
    TextDelta,
    Thought,
    ThoughtDelta,
    ToolCallDelta,
    ToolCallStart,
    Usage,
    UsageUpdate,
)
from resilient_llm.wire import eventstream
from resilient_llm.wire._bedrock_blocks import (
    NAME,
    SERVER_CALL,
    decode_block,
    decode_usage,
    encode_part,
    encode_usage,
    finish_reason,
    own_citations,
    stop_reason,
)
from resilient_llm.wire._block_encoder import BlockEncoder
from resilient_llm.wire.fields import (
    Fields,
    Malformed,
    dump,
    fields_of,
    items_of,
    leftovers,
    own,
    parse,
    parse_fields,
    put,
    take_count,
    take_fields,
    take_items,
    take_text,
)
from resilient_llm.wire.toolcalls import arguments_text

# --- bytes -> events ------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Block:
    """A content block while it is open.  ``number`` is its place in the neutral answer; ``kind`` is the member of the
    delta that it grows by."""

    number: int
    kind: str
    body: Fields = field(default_factory=dict[str, object])
    pieces: list[str] = field(default_factory=list[str])


class Decoder:
    """Bytes of one streamed answer -> events.  See :class:`~resilient_llm.wire.codec.StreamDecoder`."""

    def __init__(self) -> None:
        self._frames = eventstream.Decoder()
        self._out: list[StreamEvent] = []
        self._over = False  # StreamEnd, StreamError or StreamBroken was emitted
        self._plain: bytearray | None = None  # the body, once it has shown to be no event stream
        self._sniffed = False
        self._started = self._stopped = self._counted = False
        self._open: dict[int, _Block] = {}
        self._blocks = 0
        self._handlers: dict[str, Callable[[Fields], None]] = {
            "contentBlockDelta": self._delta,
            "contentBlockStart": self._block_start,
            "contentBlockStop": self._block_stop,
            "messageStart": self._message_start,
            "messageStop": self._message_stop,
            "metadata": self._metadata,
        }

    def feed(self, data: bytes) -> list[StreamEvent]:
        """Events completed by these bytes."""
        if self._over or not data:
            return []
        if not self._sniffed:  # a frame longer than 24 MiB is refused, so none begins like JSON or HTML
            self._sniffed = True
            if data[:1] in b"{<":
                self._plain = bytearray()
        if self._plain is not None:
            self._keep(self._plain, data)
        else:
            self._take(data)
        return self._taken()

    def close(self) -> list[StreamEvent]:
        """The connection ended."""
        if self._over:
            return []
        if self._plain is not None:
            self._fail(_plain_verdict(bytes(self._plain)))
        elif self._stopped and not self._frames.pending:
            self._fail(StreamEnd())
        else:
            self._fail(StreamBroken("the stream ended without messageStop"))
        return self._taken()

    def _keep(self, plain: bytearray, data: bytes) -> None:
        plain += data
        if len(plain) > eventstream.MAX_PAYLOAD:
            self._fail(StreamBroken("the body is no event stream, and too long"))

    def _take(self, data: bytes) -> None:
        try:
            self._frames.push(data)
            while not self._over and (message := self._frames.take()) is not None:
                self._message(message)
        except (InvalidAnswer, Malformed) as error:
            self._fail(StreamBroken(str(error)))

    def _taken(self) -> list[StreamEvent]:
        out = self._out
        self._out = []
        return out

    def _fail(self, event: StreamError | StreamBroken | StreamEnd) -> None:
        self._out.append(event)
        self._over = True

    def _message(self, message: eventstream.EventMessage) -> None:
        match message.header(":message-type"):
            case "exception":
                self._fail(StreamError({"__type": message.header(":exception-type")} | _error_fields(message.payload)))
            case "error":
                text = message.header(":error-message")
                self._fail(StreamError({"__type": message.header(":error-code"), "message": text}))
            case _:
                self._event(message)

    def _event(self, message: eventstream.EventMessage) -> None:
        handler = self._handlers.get(message.header(":event-type"))
        if handler is None:  # an event type that did not exist when this was written
            return
        body = parse_fields(message.payload, "an event")
        body.pop("p", None)  # padding, so that the length of a frame does not tell its content
        if not self._started:
            self._started = True
            self._out.append(StreamStart())
        handler(body)

    # --- one method an event type -----------------------------------------------------------------------------------

    def _message_start(self, _body: Fields) -> None:
        pass

    def _block_start(self, body: Fields) -> None:
        index, start = take_count(body, "contentBlockIndex"), take_fields(body, "start") or {}
        self._close(index)
        for kind, value in start.items():
            self._begin(index, kind, fields_of(value, kind))

    def _begin(self, index: int, kind: str, content: Fields) -> _Block:
        if kind == "toolUse" and content.get("type") == SERVER_CALL:
            kind = SERVER_CALL
        block = self._open[index] = _Block(self._blocks, kind, content)
        self._blocks += 1
        if kind == "toolUse":
            ident, name = take_text(content, "toolUseId") or "", take_text(content, "name") or ""
            extra = leftovers(NAME, {key: value for key, value in content.items() if key != "input"})
            self._out.append(ToolCallStart(ident, name, block.number, 0, extra))
        return block

    def _delta(self, body: Fields) -> None:
        index, delta = take_count(body, "contentBlockIndex"), take_fields(body, "delta") or {}
        for kind, value in delta.items():
            match kind:
                case "text":
                    self._text(self._block(index, "text"), take_text({"text": value}, "text") or "")
                case "citation":
                    block = self._block(index, "text")
                    self._out.append(TextDelta("", block.number, 0, (fields_of(value, "a citation"),)))
                case "reasoningContent":
                    self._thought(index, fields_of(value, kind))
                case "toolUse":
                    self._arguments(index, take_text(fields_of(value, kind), "input") or "")
                case _:
                    _grow(self._block(index, kind).body, value)

    def _block(self, index: int, kind: str) -> _Block:
        """The open block of this kind; a delta of another kind ends one and begins the next."""
        block = self._open.get(index)
        if block is not None and block.kind == kind:
            return block
        self._close(index)
        return self._begin(index, kind, {})

    def _text(self, block: _Block, text: str) -> None:
        if text:
            self._out.append(TextDelta(text, block.number))

    def _thought(self, index: int, fields: Fields) -> None:
        redacted = take_text(fields, "redactedContent")
        if redacted is not None:
            self._block(index, "redacted").pieces.append(redacted)
            return
        text, signature = take_text(fields, "text") or "", take_text(fields, "signature")
        block = self._block(index, "reasoningContent")
        if text or signature:
            self._out.append(ThoughtDelta(text, block.number, 0, signature, NAME))

    def _arguments(self, index: int, piece: str) -> None:
        block = self._open.get(index)
        if block is None or block.kind not in {"toolUse", SERVER_CALL}:
            raise Malformed("arguments of a call that never began")
        if piece:
            block.pieces.append(piece)
            if block.kind == "toolUse":
                self._out.append(ToolCallDelta(piece, block.number))

    def _block_stop(self, body: Fields) -> None:
        self._close(take_count(body, "contentBlockIndex"))

    def _close(self, index: int) -> None:
        block = self._open.pop(index, None)
        if block is None:
            return
        if block.kind == "toolUse":
            if not block.pieces:  # no arguments, or all of them at once
                self._out.append(ToolCallDelta(arguments_text(block.body.get("input")), block.number))
        elif block.kind not in {"text", "reasoningContent"}:
            self._out.append(PartAdded(_whole(block), block.number))
        self._out.append(BlockEnd(block.number))

    def _message_stop(self, body: Fields) -> None:
        for index in list(self._open):
            self._close(index)
        raw = take_text(body, "stopReason")
        self._out.append(Finish(finish_reason(raw), raw, 0, leftovers(NAME, body)))
        self._stopped = True
        self._end_if_whole()

    def _metadata(self, body: Fields) -> None:
        usage = take_fields(body, "usage")
        if usage is not None:
            self._out.append(UsageUpdate(decode_usage(usage)))
        self._counted = True
        self._end_if_whole()

    def _end_if_whole(self) -> None:
        """With both, nothing can follow; with ``messageStop`` alone, the end of the connection has to be awaited."""
        if self._stopped and self._counted:
            self._fail(StreamEnd())


def _plain_verdict(body: bytes) -> StreamError | StreamBroken:
    try:
        return StreamError(parse_fields(body, "the body"))
    except Malformed:
        return StreamBroken(f"no event stream: {body[:80].decode('utf-8', 'replace')!r}")


def _error_fields(payload: bytes) -> Fields:
    try:
        return parse_fields(payload, "an exception")
    except Malformed:
        return {"message": payload.decode("utf-8", "replace")}


def _grow(body: Fields, delta: object) -> None:
    """Adds a delta to a block that arrives whole: a list is its content, an object's members replace."""
    if isinstance(delta, list):
        body["content"] = items_of(body.get("content", []), "content") + items_of(cast("object", delta), "content")
    else:
        body.update(fields_of(delta, "a delta"))


def _whole(block: _Block) -> Part:
    if block.kind == "redacted":
        return Thought("", _joined(block.pieces), redacted=True, origin=NAME)
    if block.kind == SERVER_CALL:
        written = "".join(block.pieces)
        try:
            given = parse(written) if written else block.body.get("input", {})
        except Malformed:
            given = written
        return Opaque(NAME, {"toolUse": block.body | {"input": given}})
    return decode_block({block.kind: block.body})


def _joined(pieces: list[str]) -> str:
    """Base64 in pieces, each padded on its own, as one."""
    if len(pieces) == 1:
        return pieces[0]
    try:
        return base64.b64encode(b"".join(map(base64.b64decode, pieces))).decode()
    except (binascii.Error, ValueError) as error:
        raise Malformed(f"redacted reasoning is not base64: {error}") from error


# --- events -> bytes ------------------------------------------------------------------------------------------------


def _frame(kind: str, body: Fields) -> bytes:
    return eventstream.event(kind, dump(body))


class Encoder(BlockEncoder):
    """Events -> bytes of one streamed answer.  See :class:`~resilient_llm.wire.codec.StreamEncoder`."""

    @override
    def on_start(self, event: StreamStart) -> bytes:
        return _frame("messageStart", {"role": "assistant"})

    @override
    def on_block(self, index: int, content: Fields) -> bytes:
        return _frame("contentBlockStart", {"contentBlockIndex": index, "start": content}) if content else b""

    @override
    def on_delta(self, index: int, delta: Fields) -> bytes:
        return _frame("contentBlockDelta", {"contentBlockIndex": index, "delta": delta})

    @override
    def on_block_end(self, index: int) -> bytes:
        return _frame("contentBlockStop", {"contentBlockIndex": index})

    @override
    def text_block(self) -> Fields:
        return {}

    @override
    def text_deltas(self, event: TextDelta) -> list[Fields]:
        deltas: list[Fields] = [{"text": event.text}] if event.text else []
        return deltas + [{"citation": citation} for citation in own_citations(event.annotations)]

    @override
    def thought_block(self) -> Fields:
        return {}

    @override
    def thought_deltas(self, event: ThoughtDelta) -> list[Fields]:
        deltas: list[Fields] = [{"reasoningContent": {"text": event.text}}] if event.text else []
        if event.signature and event.origin == NAME:
            deltas.append({"reasoningContent": {"signature": event.signature}})
        return deltas

    @override
    def call_block(self, event: ToolCallStart) -> Fields:
        return {"toolUse": {"toolUseId": event.id, "name": event.name} | own(event.extra, NAME)}

    @override
    def arguments_delta(self, arguments: str) -> Fields:
        return {"toolUse": {"input": arguments}}

    @override
    def whole_block(self, part: Part) -> tuple[Fields, list[Fields]] | None:
        """Redacted reasoning, images and the vendor's own calls and results have a streamed form; nothing else has."""
        content = encode_part(part) or {}
        match part:
            case Thought():
                return {}, _thought_deltas(fields_of(content["reasoningContent"], "reasoningContent"))
            case Media() | Opaque():
                return _whole_deltas(content)
            case _:
                return None

    @override
    def on_end(self, finish: Finish, usage: Usage | None) -> bytes:
        stop: Fields = {"stopReason": stop_reason(finish.reason, finish.raw)}
        more = own(finish.extra, NAME)
        counts: Fields = {"metrics": more.pop("metrics", {"latencyMs": 0})}
        put(counts, usage=None if usage is None else encode_usage(usage))
        return _frame("messageStop", stop | more) + _frame("metadata", counts)

    @override
    def on_failure(self, message: str) -> bytes:
        return eventstream.exception("internalServerException", dump({"message": message}))


def _thought_deltas(content: Fields) -> list[Fields]:
    text = take_fields(content, "reasoningText")
    inner = [content] if text is None else [{name: value} for name, value in text.items() if value]
    return [{"reasoningContent": each} for each in inner]


def _whole_deltas(content: Fields) -> tuple[Fields, list[Fields]] | None:
    for kind, value in content.items():
        body = fields_of(value, kind)
        match kind:
            case "toolUse":
                given = body.pop("input", {})
                return {kind: body}, [{kind: {"input": dump(given).decode()}}]
            case "toolResult":
                results = take_items(body, "content")
                return {kind: body}, [{kind: results}]
            case "image":
                source = body.pop("source", {})
                return {kind: body}, [{kind: {"source": source}}]
            case _:
                return None
    return None
