"""Answers in every wire format that has a codec: the codec writes, this decides what to write and what to leave out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import final

from resilient_llm.errors import Fault
from resilient_llm.model import (
    BlockEnd,
    ChatResponse,
    Finish,
    FinishReason,
    Part,
    StreamEnd,
    StreamEvent,
    StreamStart,
    Text,
    TextDelta,
    Thought,
    ThoughtDelta,
    ToolCallDelta,
    ToolCallStart,
    UsageUpdate,
)
from resilient_llm.testing.answers import CREATED, Ask, Frames, Writer, pieces_of, usage_of
from resilient_llm.testing.script import Reply
from resilient_llm.wire import codec
from resilient_llm.wire.protocol import StreamEncoder

_SSE = "text/event-stream; charset=utf-8"
_COMMENT = b": keep-alive\n\n"
_ID = "loopback-1"


@dataclass(frozen=True, slots=True)
class _Framing:
    """How a wire's stream looks from outside.

    ``finish`` and ``terminal`` recognise the frames that carry the respective evidence.
    """

    finish: re.Pattern[bytes]
    terminal: re.Pattern[bytes]
    malformed: bytes
    stream_type: str = _SSE
    keep_alive: bytes = _COMMENT
    frame: re.Pattern[bytes] = re.compile(rb".*?(?:\n\n|\r\n\r\n|\Z)", re.DOTALL)


def _pattern(text: bytes) -> re.Pattern[bytes]:
    return re.compile(text, re.DOTALL)


_RESPONSES_END = _pattern(rb"event: response\.(completed|incomplete|failed)")

_FRAMINGS: Mapping[str, _Framing] = {
    "anthropic_messages": _Framing(
        finish=_pattern(rb"event: message_delta"),
        terminal=_pattern(rb"event: message_stop"),
        malformed=b'event: content_block_delta\ndata: {"type":"content_block_delta","ind\n\n',
        keep_alive=b'event: ping\ndata: {"type":"ping"}\n\n',
    ),
    "openai_responses": _Framing(
        finish=_RESPONSES_END,
        terminal=_RESPONSES_END,
        malformed=b'event: response.output_text.delta\ndata: {"type":"response.output_text.de\n\n',
    ),
    "gemini": _Framing(
        finish=_pattern(rb'"finishReason"'),
        terminal=_pattern(rb'"finishReason"'),
        malformed=b'data: {"candidates":[{"content":{"par\r\n\r\n',
    ),
    "cohere_v2": _Framing(
        finish=_pattern(rb"message-end"),
        terminal=_pattern(rb"message-end|\[DONE\]"),
        malformed=b'event: content-delta\ndata: {"type":"content-de\n\n',
    ),
    "ollama": _Framing(
        finish=_pattern(rb'"done": ?true'),
        terminal=_pattern(rb'"done": ?true'),
        malformed=b'{"model":"loopback-1","message":{"ro\n',
        stream_type="application/x-ndjson",
        keep_alive=b"\n",
        frame=_pattern(rb".*?(?:\n|\Z)"),
    ),
    "bedrock_converse": _Framing(
        finish=_pattern(rb"messageStop"),
        terminal=_pattern(rb"messageStop"),
        # Sixteen bytes of an empty message, both checksums wrong.
        malformed=b"\0\0\0\x10\0\0\0\0" + b"\xde\xad\xbe\xef" * 2,
        stream_type="application/vnd.amazon.eventstream",
        keep_alive=b"",  # the framing knows no message without meaning
    ),
}


@final
class CodecWriter:
    """Writes one wire format with its codec."""

    content_type = "application/json"
    terminator = b""

    def __init__(self, wire: str) -> None:
        self._codec = codec(wire)
        self._framing = _FRAMINGS[wire]
        self.stream_type: str = self._framing.stream_type
        self.keep_alive: bytes = self._framing.keep_alive
        self.malformed: bytes = self._framing.malformed

    def whole(self, reply: Reply, ask: Ask) -> bytes:
        parts: list[Part] = [Thought(reply.thought)] if reply.thought else []
        if reply.full_text:
            parts.append(Text(reply.full_text))
        finish, usage, model = finish_of(reply), usage_of(reply), reply.model or ask.model
        return self._codec.encode_response(
            ChatResponse((*parts, *reply.tool_calls), finish, usage=usage, id=_ID, model=model, created=CREATED)
        )

    def frames(self, reply: Reply, ask: Ask) -> Frames:
        encoder = self._codec.stream_encoder()
        opening = encoder.feed(StreamStart(_ID, reply.model or ask.model, CREATED))
        tokens = tuple(token for events in _parts(reply) for token in _encode_part(encoder, events))
        ending: list[StreamEvent] = [Finish(finish_of(reply)), StreamEnd()]
        usage = usage_of(reply)
        if usage is not None:
            ending.insert(1, UsageUpdate(usage))
        closing = b"".join(encoder.feed(event) for event in ending)
        return Frames((opening,), tokens, tuple(self._kept(reply, closing)))

    def error(self, fault: Fault) -> bytes:
        return self._codec.encode_error(fault, fault.message)

    def stream_error(self, fault: Fault) -> bytes:
        return self._codec.encode_stream_error(fault, fault.message)

    def _kept(self, reply: Reply, closing: bytes) -> Iterator[bytes]:
        for frame in self._split(closing):
            finish = reply.finish_reason is None and self._framing.finish.search(frame)
            terminal = not reply.terminal and self._framing.terminal.search(frame)
            if not finish and not terminal:
                yield frame

    def _split(self, data: bytes) -> Iterator[bytes]:
        if self.stream_type != _FRAMINGS["bedrock_converse"].stream_type:
            yield from filter(None, self._framing.frame.findall(data))
            return
        while data:
            length = int.from_bytes(data[:4], "big")
            yield data[:length]
            data = data[length:]


def finish_of(reply: Reply) -> FinishReason:
    """Why the model stopped, in the neutral word."""
    # An encoder always writes one; whoever wants none has the frame left out.
    return "tool_calls" if reply.tool_calls and reply.finish_reason == "stop" else reply.finish_reason or "stop"


def events_of(reply: Reply) -> Iterator[StreamEvent]:
    """The content of a reply as events, without the frame around it."""
    for events in _parts(reply):
        yield from events
        yield BlockEnd(getattr(events[-1], "block", 0))


def _parts(reply: Reply) -> Iterator[list[StreamEvent]]:
    """The events of each part of the answer, one per token."""
    block = 0
    if reply.thought:
        yield [ThoughtDelta(piece, block) for piece in pieces_of(reply.thought)]
        block += 1
    if reply.words:
        yield [TextDelta(piece, block) for piece in reply.words]
        block += 1
    for number, call in enumerate(reply.tool_calls, block):
        arguments = [ToolCallDelta(piece, number) for piece in pieces_of(call.arguments)]
        yield [ToolCallStart(call.id, call.name, number), *arguments]


def _encode_part(encoder: StreamEncoder, events: list[StreamEvent]) -> list[bytes]:
    tokens = [encoder.feed(event) for event in events]
    block = getattr(events[-1], "block", 0)
    tokens[-1] += encoder.feed(BlockEnd(block))
    return tokens


@cache
def codec_writer(wire: str) -> Writer:
    """The writer of a wire that has a codec."""
    return CodecWriter(wire)
