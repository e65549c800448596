"""Anthropic Messages: streamed answers, in both directions.

::

    message_start  ( content_block_start  content_block_delta*  content_block_stop )*  message_delta  message_stop

with ``ping`` and ``error`` anywhere.  Only ``message_stop`` says that the answer is whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from typing_extensions import override

from resilient_llm.model import (
    BlockEnd,
    Finish,
    KeepAlive,
    Opaque,
    Part,
    PartAdded,
    Restarted,
    StreamBroken,
    StreamEnd,
    StreamError,
    StreamStart,
    TextDelta,
    Thought,
    ThoughtDelta,
    ToolCallDelta,
    ToolCallStart,
    Usage,
    UsageUpdate,
)
from resilient_llm.wire import sse
from resilient_llm.wire._anthropic_blocks import (
    NAME,
    decode_thought,
    decode_usage,
    encode_part,
    encode_usage,
    finish_reason,
    own_citations,
    seal,
    stop_reason,
    unseal,
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
    take_count,
    take_fields,
    take_items,
    take_text,
)
from resilient_llm.wire.toolcalls import arguments_text

# --- bytes -> events ------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Block:
    """A content block while it is open.  ``number`` is its place in the neutral answer."""

    number: int
    kind: str
    body: Fields
    whole: object = None
    pieces: list[str] = field(default_factory=list[str])


class Decoder(sse.JsonStream):
    """Bytes of one streamed answer -> events.  See :class:`~resilient_llm.wire.codec.StreamDecoder`."""

    def __init__(self) -> None:
        super().__init__()
        self._id: str | None = None
        self._usage: Fields = {}
        self._open: dict[int, _Block] = {}
        self._blocks = 0
        self._handlers: dict[str, Callable[[Fields], None]] = {
            "content_block_delta": self._delta,
            "content_block_start": self._block_start,
            "content_block_stop": self._block_stop,
            "message_start": self._message_start,
            "message_delta": self._message_delta,
            "message_stop": self._message_stop,
            "error": self._error,
            "ping": self._ping,
        }

    @override
    def on_object(self, event: str, data: Fields) -> None:
        handler = self._handlers.get(str(data.get("type", event)))
        if handler is not None:  # an event type that did not exist when this was written says nothing we must know
            try:
                handler(data)
            except Malformed as error:
                self.fail(StreamBroken(str(error)))

    @override
    def on_text(self, data: str) -> bool:
        return data in {"", "[DONE]"}  # the latter from proxies that know only one way to end a stream

    @override
    def at_end(self) -> str | None:
        return "the stream ended without message_stop"

    # --- one method an event type -----------------------------------------------------------------------------------

    def _message_start(self, body: Fields) -> None:
        message = take_fields(body, "message") or {}
        name = take_text(message, "id") or ""
        if self._id is None:
            self._id = name
            self._out.append(StreamStart(name, take_text(message, "model") or ""))
            self._count(message)
        elif name != self._id:
            self.fail(StreamBroken("another answer began inside this one"))

    def _count(self, body: Fields) -> None:
        usage = {key: count for key, count in (take_fields(body, "usage") or {}).items() if count is not None}
        if usage:
            self._usage |= usage  # counts are cumulative, but each event tells only some of them
            self._out.append(UsageUpdate(decode_usage(dict(self._usage))))

    def _block_start(self, body: Fields) -> None:
        index, content = take_count(body, "index"), take_fields(body, "content_block") or {}
        self._close(index)
        block = self._open[index] = _Block(self._blocks, take_text(content, "type") or "", content)
        self._blocks += 1
        match block.kind:
            case "text":
                self._text(block, take_text(content, "text"), take_items(content, "citations"))
            case "tool_use":
                ident, name = take_text(content, "id") or "", take_text(content, "name") or ""
                block.whole = content.pop("input", None)
                self._out.append(ToolCallStart(ident, name, block.number, 0, leftovers(NAME, content)))
            case "thinking":
                self._thought(block, take_text(content, "thinking"), take_text(content, "signature"))
            case _:
                pass

    def _delta(self, body: Fields) -> None:
        index, delta = body.get("index"), body.get("delta")
        block = self._open.get(index) if type(index) is int else None
        if block is None or not isinstance(delta, dict):
            self.fail(StreamBroken("a delta for a block that is not open"))
            return
        fields = cast("Fields", delta)
        kind = fields.get("type")
        if block.kind == "text" and kind == "text_delta":  # nearly every event of a stream
            self._text(block, take_text(fields, "text"), [])
        else:
            self._other_delta(block, kind, fields)

    def _other_delta(self, block: _Block, kind: object, delta: Fields) -> None:
        match block.kind, kind:
            case "tool_use", "input_json_delta":
                self._arguments(block, take_text(delta, "partial_json"))
            case "thinking", "thinking_delta":
                self._thought(block, take_text(delta, "thinking"), None)
            case "thinking", "signature_delta":
                self._thought(block, None, take_text(delta, "signature"))
            case "text", "citations_delta":
                self._text(block, None, take_items(delta, "citation"))
            case "text" | "tool_use" | "thinking", _:
                pass  # a kind of delta that did not exist when this was written
            case _, "input_json_delta":
                block.pieces.append(take_text(delta, "partial_json") or "")
            case _:
                _grow(block.body, {key: value for key, value in delta.items() if key != "type"})

    def _text(self, block: _Block, text: str | None, citations: list[object]) -> None:
        if citations:
            notes = tuple(fields_of(citation, "a citation") for citation in citations)
            self._out.append(TextDelta(text or "", block.number, 0, notes))
        elif text:
            self._out.append(TextDelta(text, block.number))

    def _thought(self, block: _Block, text: str | None, signature: str | None) -> None:
        if text or signature:
            origin, mine = unseal(signature or "")
            self._out.append(ThoughtDelta(text or "", block.number, 0, mine or None, origin))

    def _arguments(self, block: _Block, piece: str | None) -> None:
        if piece:
            block.pieces.append(piece)
            self._out.append(ToolCallDelta(piece, block.number))

    def _block_stop(self, body: Fields) -> None:
        self._close(take_count(body, "index"))

    def _close(self, index: int) -> None:
        block = self._open.pop(index, None)
        if block is None:
            return
        if block.kind == "tool_use":
            if not block.pieces:  # no arguments, or all of them at once
                self._out.append(ToolCallDelta(arguments_text(block.whole), block.number))
        elif block.kind not in {"text", "thinking"}:
            self._out.append(PartAdded(_whole(block), block.number))
        self._out.append(BlockEnd(block.number))

    def _message_delta(self, body: Fields) -> None:
        delta = take_fields(body, "delta") or {}
        self._count(body)
        if raw := take_text(delta, "stop_reason"):
            body.pop("type", None)  # some send it in the event line alone
            self._out.append(Finish(finish_reason(raw), raw, 0, leftovers(NAME, body | delta)))

    def _message_stop(self, _body: Fields) -> None:
        for index in list(self._open):
            self._close(index)
        self.fail(StreamEnd())

    def _error(self, body: Fields) -> None:
        self.fail(StreamError(body))

    def _ping(self, _body: Fields) -> None:
        self._out.append(KeepAlive())


def _grow(body: Fields, delta: Fields) -> None:
    """Adds a delta of an unknown kind to an unknown block: texts and lists grow, anything else is replaced."""
    for key, value in delta.items():
        before = body.get(key)
        if isinstance(before, str) and isinstance(value, str):
            body[key] = before + value
        elif isinstance(before, list) and isinstance(value, list):
            body[key] = items_of(cast("object", before), key) + items_of(cast("object", value), key)
        else:
            body[key] = value


def _whole(block: _Block) -> Part:
    if block.kind == "redacted_thinking":
        return decode_thought(block.body, redacted=True)
    written = "".join(block.pieces)
    if written:
        try:
            block.body["input"] = parse(written)
        except Malformed:
            block.body["input"] = written
    return Opaque(NAME, {"type": block.kind} | block.body)


_OUTSIDE = frozenset({"context_management"})
"""Fields of an answer that a ``message_delta`` carries beside its delta, not in it."""


# --- events -> bytes ------------------------------------------------------------------------------------------------


def frame(body: Fields) -> bytes:
    """One server-sent event, named by its type."""
    return sse.encode(dump(body), str(body["type"]))


class Encoder(BlockEncoder):
    """Events -> bytes of one streamed answer.  See :class:`~resilient_llm.wire.codec.StreamEncoder`."""

    @override
    def on_start(self, event: StreamStart) -> bytes:
        return frame({"type": "message_start", "message": message_body(event.id, event.model)})

    @override
    def on_block(self, index: int, content: Fields) -> bytes:
        return frame({"type": "content_block_start", "index": index, "content_block": content})

    @override
    def on_delta(self, index: int, delta: Fields) -> bytes:
        return frame({"type": "content_block_delta", "index": index, "delta": delta})

    @override
    def on_block_end(self, index: int) -> bytes:
        return frame({"type": "content_block_stop", "index": index})

    @override
    def text_block(self) -> Fields:
        return {"type": "text", "text": ""}

    @override
    def text_deltas(self, event: TextDelta) -> list[Fields]:
        deltas: list[Fields] = [{"type": "text_delta", "text": event.text}] if event.text else []
        citations = own_citations(event.annotations)
        return deltas + [{"type": "citations_delta", "citation": citation} for citation in citations]

    @override
    def thought_block(self) -> Fields:
        return {"type": "thinking", "thinking": "", "signature": ""}

    @override
    def thought_deltas(self, event: ThoughtDelta) -> list[Fields]:
        deltas: list[Fields] = [{"type": "thinking_delta", "thinking": event.text}] if event.text else []
        if event.signature:
            signature = seal(Thought("", event.signature, origin=event.origin))
            deltas.append({"type": "signature_delta", "signature": signature})
        return deltas

    @override
    def call_block(self, event: ToolCallStart) -> Fields:
        call: Fields = {"type": "tool_use", "id": event.id, "name": event.name, "input": {}}
        return call | own(event.extra, NAME)

    @override
    def arguments_delta(self, arguments: str) -> Fields:
        return {"type": "input_json_delta", "partial_json": arguments}

    @override
    def whole_block(self, part: Part) -> tuple[Fields, list[Fields]] | None:
        content = encode_part(part)
        return None if content is None else (content, [])

    @override
    def on_end(self, finish: Finish, usage: Usage | None) -> bytes:
        fields = own(finish.extra, NAME)
        outer: Fields = {key: fields.pop(key) for key in _OUTSIDE & fields.keys()}
        delta: Fields = {"stop_reason": stop_reason(finish.reason, finish.raw), "stop_sequence": None}
        body: Fields = {"type": "message_delta", "delta": delta | fields, "usage": encode_usage(usage)}
        return frame(body | outer) + frame({"type": "message_stop"})

    @override
    def on_failure(self, message: str) -> bytes:
        return frame(error_body("api_error", message))

    @override
    def on_keep_alive(self, event: KeepAlive | Restarted) -> bytes:
        """A restart too is a ping: the one event that every version of the SDK passes over."""
        body: Fields = {"type": "ping"}
        if isinstance(event, Restarted):
            body["restarted"] = {"provider": event.provider, "reason": event.reason}
        return frame(body)


def message_body(name: str, model: str) -> Fields:
    """An answer nothing has been said in yet."""
    body: Fields = {
        "id": name or "msg_0",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 0, "output_tokens": 0},
    }
    return body


def error_body(kind: str, message: str) -> Fields:
    """An error as this wire words it."""
    return {"type": "error", "error": {"type": kind, "message": message}}
