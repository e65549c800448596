"""What a running stream means: which events may be handed over, how long to wait for the next, whether it broke.

A stream is *committed* when its first content is handed over; before that, everything is held, so that another
provider can take over unseen.  Timers run on content: keep-alives prove that a connection lives, not that a model
writes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final, Protocol

from resilient_llm.capability.splice import Mismatch, SoFar, Splice
from resilient_llm.errors import Fault, FaultKind, FaultScope
from resilient_llm.model import (
    BlockEnd,
    ChatResponse,
    Extra,
    Finish,
    KeepAlive,
    PartAdded,
    RefusalDelta,
    StreamBroken,
    StreamEnd,
    StreamError,
    StreamEvent,
    TextDelta,
    ThoughtDelta,
    ToolCallDelta,
    ToolCallStart,
    Usage,
    UsageUpdate,
)
from resilient_llm.policy import Stream, Timeouts
from resilient_llm.wire.faults.scrub import scrub
from resilient_llm.wire.kit.accumulate import Accumulator

NOT_REPEATED: Final = "not_repeated"
"""Code of the fault of an attempt that should have repeated what was handed over, and did not."""

_CONTENT = frozenset({TextDelta, ThoughtDelta, RefusalDelta, PartAdded})
_TOOL = frozenset({ToolCallStart, ToolCallDelta})
_SIGNS_OF_LIFE = _CONTENT | _TOOL
_FRAME_END = b"\n\n"
_NO_STREAM = frozenset({b"{", b"[", b"<"})
"""What a body begins with that is no stream."""


class Decoder(Protocol):
    """The part of a wire's stream decoder needed here."""

    def feed(self, data: bytes) -> list[StreamEvent]: ...

    def close(self) -> list[StreamEvent]: ...


class Interpreter(Protocol):
    """The provider, as far as its streams are concerned."""

    def stream_fault(self, payload: object) -> Fault: ...


class Reading:
    """One stream being read.  ``ready`` holds the events that may be handed over, in order."""

    __slots__ = (
        "_accumulator",
        "_allow_empty",
        "_bytes",
        "_closed",
        "_decoder",
        "_flows",
        "_interpreter",
        "_splice",
        "_stream",
        "_timeouts",
        "_unreleased",
        "committed",
        "ended",
        "fault",
        "forwarded",
        "held",
        "longest",
        "ready",
        "since",
        "spoke_at",
    )

    def __init__(
        self,
        decoder: Decoder | None,
        interpreter: Interpreter | None,
        stream: Stream,
        timeouts: Timeouts,
        now: float,
        *,
        allow_empty: bool = True,
        splice: Splice | None = None,
        forwards: bool = False,
    ) -> None:
        self._allow_empty = allow_empty
        self._decoder = decoder
        self._interpreter = interpreter
        self._stream = stream
        self._timeouts = timeouts
        self._splice = splice
        self._accumulator = Accumulator() if splice is None else splice.accumulator
        self._closed: set[tuple[int, int]] = set()
        self.held: list[StreamEvent] = []
        self._bytes = 0
        self._unreleased = b""
        self._flows = False  # content is handed over as it comes: nothing is held, checked or joined to an earlier one
        self.forwarded: bytes | None = b"" if forwards else None
        """Whole frames as they came, of events that may be handed over; ``None``: they are not kept."""
        self.ready: deque[StreamEvent] = deque()
        self.committed: bool = False
        self.ended: bool = False
        """The answer is complete: terminal evidence was seen."""
        self.fault: Fault | None = None
        """Why it cannot go on."""
        self.longest: float = 0.0
        """Seconds of the longest pause between two pieces of content."""
        self.spoke_at: float = now
        """When content last arrived, held content included."""
        self.since: float = now
        """When the current silence began: at the last content, or when the caller began to wait for more."""

    # --- what arrives ---

    def feed(self, data: bytes, now: float) -> None:
        """Bytes arrived."""
        assert self._decoder is not None
        self._bytes += len(data)
        if self._bytes > self._stream.max_bytes:
            self.fault = Fault(
                FaultKind.INVALID_RESPONSE, message=f"the answer is longer than {self._stream.max_bytes} bytes"
            )
            return
        events = self._decoder.feed(data)
        if self._flows and len(events) == 1 and type(event := events[0]) is TextDelta:  # nearly always
            self._accumulator.text(event)
            pause = now - self.since
            if pause > self.longest:  # noqa: PLR1730 - max() would be a call
                self.longest = pause
            self.spoke_at = self.since = now
            self.ready.append(event)
            if self.forwarded is not None and not self._unreleased and data[-2:] == _FRAME_END and b"\r" not in data:
                self.forwarded += data
                return
        else:
            for event in events if self._splice is None else self._joined(self._splice, events, now):
                self.take(event, now)
            self._flows = self.committed and not self.held and self._splice is None and not self.ended
        if self.forwarded is not None:
            self._keep(data)

    def _keep(self, data: bytes) -> None:
        """Keep the frames in these bytes until what they mean may be handed over.  Only their line ends are changed."""
        data, carriage = self._unreleased + data if self._unreleased else data, b""
        if not self.forwarded and data.lstrip()[:1] in _NO_STREAM:
            self.forwarded = None
            return
        if b"\r" in data:
            carriage = data[-1:] if data[-1:] == b"\r" else b""  # the other half of this line end may follow
            data = data[: len(data) - len(carriage)].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        end = 0 if self.held or self.fault is not None else data.rfind(b"\n\n") + 2
        if end > 1:
            assert self.forwarded is not None
            self.forwarded += data[:end]
        self._unreleased = (data[end:] if end > 1 else data) + carriage

    def eof(self, now: float) -> None:
        """The connection ended."""
        assert self._decoder is not None
        self.given(self._decoder.close(), now)
        if self.ended and self.forwarded is not None and getattr(self._decoder, "took_last", False):
            self.forwarded += self._unreleased.rstrip(b"\r\n") + _FRAME_END
        if not self.ended and self.fault is None and not self.divided:
            self.fault = Fault(FaultKind.CONNECTION, message="the stream ended without saying that it was complete")

    def given(self, events: Iterable[StreamEvent], now: float) -> None:
        """Events arrived."""
        for event in events if self._splice is None else self._joined(self._splice, events, now):
            self.take(event, now)

    def _joined(self, splice: Splice, events: Iterable[StreamEvent], now: float) -> list[StreamEvent]:
        """Of events that follow a break, those that are handed over.  The others are signs of life all the same."""
        events = list(events)
        if any(type(event) in _SIGNS_OF_LIFE for event in events):
            self.spoke_at = self.since = now
            self.committed = True
        found: list[StreamEvent] = []
        try:
            found.extend(splice.joined(events))
        except Mismatch as mismatch:
            self.fault = Fault(
                FaultKind.INVALID_RESPONSE, scope=FaultScope.REQUEST, code=NOT_REPEATED, message=str(mismatch)
            )
        return found

    def take(self, event: StreamEvent, now: float) -> None:
        """One event that may be handed over."""
        kind = type(event)
        if kind is KeepAlive or self.ended or self.fault is not None:
            return
        if kind in _CONTENT:
            self._accumulator.add(event)
            if self.committed and now - self.since > self.longest:
                self.longest = now - self.since
            self.spoke_at = self.since = now
            self._release()
            self.ready.append(event)
            self.committed = True
        elif kind in _TOOL:
            self._accumulator.add(event)
            self.spoke_at = self.since = now
            self.held.append(event)
            if not self._stream.hold_tool_arguments:
                self._release()
        else:
            self._take_rare(event)

    def _take_rare(self, event: StreamEvent) -> None:
        if isinstance(event, StreamError):
            told = None if self._interpreter is None else self._interpreter.stream_fault(event.payload)
            self.fault = told or Fault(FaultKind.SERVER_ERROR, message=scrub(str(event.payload)))
            return
        if isinstance(event, StreamBroken):
            no_answer = event.malformed and not self.committed
            kind = FaultKind.INVALID_RESPONSE if no_answer else FaultKind.CONNECTION
            self.fault = Fault(kind, message=event.reason)
            return
        self._accumulator.add(event)
        if isinstance(event, Finish) and event.reason == "error":
            self.fault = Fault(FaultKind.SERVER_ERROR, message=f"the model stopped with {event.raw!r}")
            return
        if isinstance(event, BlockEnd | Finish | StreamEnd):
            self._release()
            if isinstance(event, BlockEnd):
                self._closed.add((event.choice, event.block))
        if isinstance(event, StreamEnd):
            if not self.committed and not self._allow_empty and self._accumulator.response().is_empty:
                message = "the answer is empty, without refusal or tool call (allow_empty=True accepts it)"
                self.fault = Fault(FaultKind.INVALID_RESPONSE, scope=FaultScope.REQUEST, message=message)
                return
            self.ended = self.committed = True
        self.ready.append(event)

    def _release(self) -> None:
        """The tool call being held is complete."""
        if self.held:
            self.ready.extend(self.held)
            self.held.clear()
            self.committed = True

    # --- what that means ---

    def silent_at(self) -> float:
        """When the silence becomes a stall: the next content must have arrived by then."""
        return self.since + (self._timeouts.idle_tool_arguments if self.held else self._timeouts.idle)

    def silence(self, now: float) -> float:
        """Seconds of the longest silence after the first content.  Inside a tool call some vendors are silent for
        minutes; that does not count."""
        return self.longest if self.held else max(self.longest, now - self.since)

    def response(self) -> ChatResponse:
        """The answer so far, or the whole one."""
        return self._accumulator.response()

    def so_far(self) -> SoFar:
        """What may be handed over of a stream that broke: a tool call that is held is not part of it."""
        held = frozenset((event.choice, event.block) for event in self.held if isinstance(event, ToolCallStart))
        return SoFar(self._accumulator.fork(held), frozenset(self._closed))

    @property
    def rest(self) -> str | Extra | None:
        """The path at which its provider keeps the rest of this stream, or what is to be said beside the same request
        to get it; ``None``: it cannot be had."""
        rest: str | Extra | None = getattr(self._decoder, "rest", None)
        return rest

    @property
    def divided(self) -> bool:
        """Whether a part ended, and the answer goes on in another one, for which :attr:`rest` asks."""
        return bool(getattr(self._decoder, "divided", False))

    def reopen(self, now: float) -> None:
        """The rest of it follows, over another connection."""
        self._decoder.reopen()  # type: ignore[union-attr] # has a rest, so it can
        self.fault, self.since = None, now

    @property
    def own_usage(self) -> Usage | None:
        """What this attempt says it cost, attempts before it apart."""
        return self._accumulator.usage if self._splice is None else self._splice.own_usage

    def end_early(self, usage: Usage) -> None:
        """The answer is whole although its stream broke: write the end of it."""
        if not self._accumulator.finished:
            self._accumulator = self.so_far().accumulator
            self.held.clear()
            finish = Finish("tool_calls")
            self._accumulator.add(finish)
            self.ready.append(finish)
        self.fault, self.ended = None, True
        for event in (UsageUpdate(usage), StreamEnd()):
            self._accumulator.add(event)
            self.ready.append(event)
