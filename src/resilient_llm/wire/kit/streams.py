"""The halves of stream decoders and encoders that all wires have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, cast

from resilient_llm import model as m
from resilient_llm.errors import InvalidAnswer
from resilient_llm.wire.framing import sse
from resilient_llm.wire.kit import fields as f
from resilient_llm.wire.kit.accumulate import replay

MAX_FRAME = sse.MAX_EVENT
"""Default limit of one frame, and of a body that is no stream, in bytes."""


class StreamDecoder:
    """Bytes of one streamed answer -> events; a wire fills in what they mean.

    See :class:`~resilient_llm.wire.protocol.StreamDecoder`.  A vendor may answer a streaming request with status 200
    and no stream at all: an error object, a whole answer, a proxy's HTML page.  That shows in the first byte.
    """

    plain: ClassVar[bytes] = b"{[<"
    """What a body that is no stream begins with, and a stream of this wire never does."""

    def __init__(self, max_frame: int = MAX_FRAME) -> None:
        self._max = max_frame
        self._out: list[m.StreamEvent] = []
        self._over = False  # StreamEnd, StreamError or StreamBroken was emitted
        self._body: list[bytes] | None = None  # once it has shown to be no stream
        self._held = 0
        self._sniffed = False

    # --- what a wire fills in ------------------------------------------------------------------------------

    def on_bytes(self, data: bytes) -> None:
        """Bytes of the stream: append to ``self._out``.  ``InvalidAnswer`` and ``Malformed`` break the stream."""
        raise NotImplementedError

    def at_end(self) -> str | None:
        """The connection ended: append what is left, and return ``None`` if the answer is complete, else why not."""
        raise NotImplementedError

    def whole_answer(self, body: f.Fields) -> m.ChatResponse:
        """The answer in a body that is no stream.  Raises ``InvalidAnswer`` if it is none."""
        raise InvalidAnswer("a whole answer where a stream was asked for", body)

    def feed(self, data: bytes) -> list[m.StreamEvent]:
        """Events completed by these bytes."""
        if self._over:
            return []
        if not self._sniffed:
            head = data.lstrip(b" \t\r\n\xef\xbb\xbf")
            self._sniffed = bool(head)
            if head and head[:1] in self.plain:
                self._body = []
        try:
            if self._body is None:
                self.on_bytes(data)
            else:
                self._body.append(data)
                self._held += len(data)
                if self._held > self._max:
                    raise InvalidAnswer(f"no stream, and longer than {self._max} bytes")
        except (InvalidAnswer, f.Malformed) as error:
            self.end(m.StreamBroken(str(error), malformed=True))
        out, self._out = self._out, []
        return out

    def close(self) -> list[m.StreamEvent]:
        """The connection ended."""
        if self._over:
            return []
        try:
            self.on_close()
        except (InvalidAnswer, f.Malformed) as error:
            self.end(m.StreamBroken(str(error), malformed=True))
        out, self._out = self._out, []
        return out

    def on_close(self) -> None:
        """The connection ended, and the answer had not."""
        if self._body is None:
            missing = self.at_end()
            if not self._over:
                self.end(m.StreamEnd() if missing is None else m.StreamBroken(missing))
            return
        body = b"".join(self._body)
        try:
            fields = f.object_of(f.parse(body), "the body")
        except f.Malformed:
            raise InvalidAnswer(f"no stream: {body[:80].decode('utf-8', 'replace')!r}") from None
        try:
            self._out += replay(self.whole_answer(fields))
            self._over = True
        except (InvalidAnswer, f.Malformed):
            self.end(m.StreamError(fields))

    def end(self, event: m.StreamEnd | m.StreamError | m.StreamBroken) -> None:
        """Emit the last event."""
        self._out.append(event)
        self._over = True

    def finish(self, reason: m.FinishReason, raw: str | None, extra: m.Extra | None, usage: m.Usage | None) -> None:
        """Emit that the answer is complete, and why."""
        self._out.append(m.Finish(reason, raw, extra=extra))
        if usage is not None:
            self._out.append(m.UsageUpdate(usage))
        self.end(m.StreamEnd())


class JsonEvents(StreamDecoder):
    """A stream of server-sent events that each hold a JSON object."""

    def __init__(self, max_frame: int = MAX_FRAME) -> None:
        super().__init__(max_frame)
        self._frames = sse.Decoder(max_frame)
        self.took_last: bool = False
        """The last event came without its blank line, and was taken all the same."""

    def on_close(self) -> None:
        """By the rules of event streams, an event without its blank line is none; vendors' SDKs read it, and it counts
        here where the answer is complete with it."""
        last = [] if self._body is not None else self._frames.unfinished()
        if last and _is_whole(last[0][1]):
            self.took_last = True
            self._take(last)
            if not self._over and (missing := self.at_end()) is not None:
                self._out.clear()
                self.end(m.StreamBroken(missing))
        if not self._over:
            super().on_close()

    def reopen(self) -> None:
        """The rest of the stream follows, over another connection."""
        self._frames = sse.Decoder(self._max)
        self._over = self._sniffed = False
        self._out.clear()

    def on_object(self, event: str, data: f.Fields) -> None:
        """One event of the stream; append to ``self._out``."""
        raise NotImplementedError

    def on_text(self, data: str) -> bool:
        """Data that may be no JSON (a terminator); True if it was understood."""
        return data.strip() in {"", "[DONE]"}  # the latter from proxies that know only one way to end a stream

    def on_bytes(self, data: bytes) -> None:
        self._take(self._frames.feed(data))

    def _take(self, events: list[sse.Event]) -> None:
        for event, text in events:
            try:
                value = f.parse_chunk(text)
            except f.Malformed:
                if not self.on_text(text):
                    raise InvalidAnswer(f"undecodable frame: {text[:80]!r}") from None
                value = None
            else:
                if not isinstance(value, dict):
                    raise InvalidAnswer(f"a frame is no JSON object: {text[:80]!r}")
                self.on_object(event, cast("f.Fields", value))
            if self._over:
                break


def _is_whole(data: str) -> bool:
    """Whether the data of an event was not cut off."""
    try:
        return data.strip() == "[DONE]" or isinstance(f.parse_chunk(data), dict)
    except f.Malformed:
        return False


class BlockCounter:
    """Numbers for the blocks of a stream, for the wires that send pieces without any: text and thoughts grow while more
    of the same comes; everything else is whole and a block of its own."""

    def __init__(self) -> None:
        self.block: int = -1
        self.growing: type[m.TextDelta | m.ThoughtDelta] | None = None

    def at(self, kind: type[m.TextDelta | m.ThoughtDelta] | None) -> int:
        """The block for a piece of this kind: the growing one if it is of it, else a new one."""
        if kind is None or kind is not self.growing:
            self.growing = kind
            self.block += 1
        return self.block


class StreamEncoder:
    """Events -> bytes of one streamed answer; a wire fills in how its frames look.

    See :class:`~resilient_llm.wire.protocol.StreamEncoder`.  Token counts and reasons are kept for the end; parts that
    arrived whole and have pieces are sent as pieces.
    """

    choices: ClassVar[bool] = False
    """Whether this wire has more than one choice; else only the first has a place."""

    def __init__(self) -> None:
        self.start: m.StreamStart = m.StreamStart()
        self.usage: m.Usage | None = None
        self.finishes: dict[int, m.Finish] = {}
        self._opened = False

    @property
    def finish(self) -> m.Finish:
        """Why the first choice ended."""
        return self.finishes.get(0) or m.Finish("stop")

    def feed(self, event: m.StreamEvent) -> bytes:
        """The frames this event completes; may be empty."""
        name = _METHODS.get(type(event))
        choice: int = getattr(event, "choice", False)  # events of the whole answer have none
        if name is None or (choice and not self.choices):
            return b""
        written: bytes = getattr(self, name)(event)
        return written

    def on_start(self, event: m.StreamStart) -> bytes:
        """The vendor began to answer."""
        self.start = event
        return self.opened()

    def opened(self) -> bytes:
        """What has to stand before the first piece, if it does not yet."""
        if self._opened:
            return b""
        self._opened = True
        return self.opening()

    def opening(self) -> bytes:
        """The frame before everything else, where the wire has one."""
        return b""

    def on_text(self, event: m.TextDelta) -> bytes:
        """A piece of text."""
        raise NotImplementedError

    def on_thought(self, event: m.ThoughtDelta) -> bytes:
        """A piece of reasoning."""
        raise NotImplementedError

    def on_refusal(self, event: m.RefusalDelta) -> bytes:
        """A piece of a refusal; text, where the wire has no word for it."""
        return self.on_text(m.TextDelta(event.text, event.block, event.choice))

    def on_call(self, event: m.ToolCallStart) -> bytes:
        """A tool call begins."""
        raise NotImplementedError

    def on_arguments(self, event: m.ToolCallDelta) -> bytes:
        """A piece of a call's arguments; of a call that never began, nothing."""
        raise NotImplementedError

    def on_part(self, event: m.PartAdded) -> bytes:
        """A part that arrived whole."""
        part, block, choice = event.part, event.block, event.choice
        match part:
            case m.Text():
                return self.on_text(m.TextDelta(part.text, block, choice, part.annotations))
            case m.Refusal():
                return self.on_refusal(m.RefusalDelta(part.text, block, choice))
            case m.ToolCall():
                begun = self.on_call(m.ToolCallStart(part.id, part.name, block, choice, part.extra))
                written = self.on_arguments(m.ToolCallDelta(part.arguments, block, choice))
                return begun + written + self.on_block_end(m.BlockEnd(block, choice))
            case _:
                return self.on_whole(part, block, choice)

    def on_whole(self, part: m.Part, block: int, choice: int) -> bytes:
        """A part that has no pieces: a thought with more to it, media, a vendor's own block."""
        raise NotImplementedError

    def on_block_end(self, event: m.BlockEnd) -> bytes:
        """A part is complete."""
        return b""

    def on_usage(self, event: m.UsageUpdate) -> bytes:
        """Token counts so far."""
        self.usage = event.usage
        return b""

    def on_finish(self, event: m.Finish) -> bytes:
        """Why a choice ended."""
        self.finishes.setdefault(event.choice, event)
        return b""

    def on_end(self, event: m.StreamEnd) -> bytes:
        """The answer is complete."""
        raise NotImplementedError

    def on_error(self, event: m.StreamError | m.StreamBroken) -> bytes:
        """The stream failed."""
        return self.failure(told_message(event))

    def failure(self, message: str) -> bytes:
        """The frame that reports an error."""
        raise NotImplementedError

    def on_keep_alive(self, event: m.KeepAlive) -> bytes:
        """A frame that says nothing, where the wire has one."""
        return b""

    def on_restart(self, event: m.Restarted) -> bytes:
        """What came before is void; a marker that clients of the wire pass over."""
        return b""

    def on_continued(self, event: m.Continued) -> bytes:
        """Somebody else goes on; nothing, as some SDKs would show a marker to their user."""
        return b""


_METHODS: Mapping[type, str] = {
    m.TextDelta: "on_text",
    m.ToolCallDelta: "on_arguments",
    m.ThoughtDelta: "on_thought",
    m.RefusalDelta: "on_refusal",
    m.ToolCallStart: "on_call",
    m.PartAdded: "on_part",
    m.BlockEnd: "on_block_end",
    m.StreamStart: "on_start",
    m.UsageUpdate: "on_usage",
    m.Finish: "on_finish",
    m.StreamEnd: "on_end",
    m.StreamError: "on_error",
    m.StreamBroken: "on_error",
    m.KeepAlive: "on_keep_alive",
    m.Restarted: "on_restart",
    m.Continued: "on_continued",
}


class WholeCalls(StreamEncoder):
    """For wires that want tool calls whole: they are kept until they are complete."""

    choices = True

    def __init__(self) -> None:
        super().__init__()
        self._calls: dict[tuple[int, int], tuple[m.ToolCallStart, list[str]]] = {}

    def call(self, call: m.ToolCall, choice: int) -> bytes:
        """The frame of a whole call."""
        raise NotImplementedError

    def on_call(self, event: m.ToolCallStart) -> bytes:
        self._calls[event.choice, event.block] = (event, [])
        return b""

    def on_arguments(self, event: m.ToolCallDelta) -> bytes:
        if (event.choice, event.block) in self._calls:
            self._calls[event.choice, event.block][1].append(event.arguments)
        return b""

    def on_block_end(self, event: m.BlockEnd) -> bytes:
        return self.flush(event.choice, event.block)

    def on_finish(self, event: m.Finish) -> bytes:
        super().on_finish(event)
        return self.flush(event.choice)

    def flush(self, choice: int | None = None, block: int | None = None) -> bytes:
        """The calls that are complete: the one of ``block``, those of ``choice``, or all."""
        ready = [key for key in self._calls if choice in (None, key[0]) and block in (None, key[1])]
        return b"".join(
            self.call(m.ToolCall(start.id, start.name, "".join(pieces), start.extra), start.choice)
            for start, pieces in [self._calls.pop(key) for key in ready]
        )


def told_message(event: m.StreamError | m.StreamBroken) -> str:
    """What is wrong with a stream, in words: the vendor's own where it gave any."""
    if isinstance(event, m.StreamBroken):
        return event.reason
    said: object = event.payload
    while f.is_object(said):  # {"response": {"error": {"message": "..."}}}
        fields = said
        said = next((fields[key] for key in _WORDS if fields.get(key)), f.dump_text(dict(fields)))
    return said if isinstance(said, str) else f.dump_text(said)


_WORDS = ("error", "message", "response", "detail", "msg", "base_resp", "status_msg")
"""Where vendors put the words of an error, outermost first."""
