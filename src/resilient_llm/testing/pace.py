"""Waiting inside one attempt, in both worlds: steps, a number being seconds to wait, become a stream or an answer."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import TypeAlias, final

import anyio
import anyio.lowlevel

from resilient_llm.model import ChatResponse, StreamBroken, StreamEnd, StreamEvent, TextDelta
from resilient_llm.testing.clock import ManualClock
from resilient_llm.wire.kit.accumulate import Accumulator

Step: TypeAlias = float | StreamEvent
LOOK = 0.1
"""Seconds between two looks at whether the fault was withdrawn."""


@final
class Pace:
    """The waits of one attempt, which may take ``timeout`` seconds until its next sign of life.

    With a manual clock they take no time.  Once the fault is ``withdrawn`` they end: those without an end raise
    ``ConnectionError``.  Raises ``TimeoutError`` where a wait would last longer.
    """

    def __init__(self, timeout: float, clock: ManualClock | None, withdrawn: threading.Event | None = None) -> None:
        self._withdrawn = threading.Event() if withdrawn is None else withdrawn
        self._timeout = timeout
        self._clock = clock
        self._until = self._now() + timeout

    def sleep(self, seconds: float) -> None:
        """Wait."""
        if seconds <= 0:
            return
        nap = self._nap(seconds)
        if self._clock is not None:
            self._clock.sleep(nap)
        else:
            self._withdrawn.wait(nap)
        self._judge(nap, seconds)

    async def sleep_async(self, seconds: float) -> None:
        """The same for async code."""
        if seconds <= 0:
            return
        nap = self._nap(seconds)
        if self._clock is not None:
            self._clock.sleep(nap)
        else:
            await sleep_unless(self._withdrawn, nap)
        self._judge(nap, seconds)

    def renew(self) -> None:
        """There was a sign of life."""
        self._until = self._now() + self._timeout

    def _now(self) -> float:
        return time.monotonic() if self._clock is None else self._clock()

    def _nap(self, seconds: float) -> float:
        return min(seconds, max(0.0, self._until - self._now()))

    def _judge(self, nap: float, seconds: float) -> None:
        if self._withdrawn.is_set():
            if seconds == math.inf:
                raise ConnectionError("the fault was withdrawn")
        elif nap < seconds:
            raise TimeoutError("the script stayed silent for longer than the attempt may take")


async def sleep_unless(withdrawn: threading.Event, seconds: float) -> None:
    """Wait, or until a fault is withdrawn, by whatever thread."""
    until = time.monotonic() + seconds
    await anyio.lowlevel.checkpoint()
    while (left := until - time.monotonic()) > 0 and not withdrawn.is_set():  # noqa: ASYNC110 - any thread may set it
        await anyio.sleep(min(left, LOOK))


def complete(pieces: Iterable[str | StreamEvent]) -> Iterator[StreamEvent]:
    """The pieces of a stream as events, with its end; empty texts are left out."""
    last: StreamEvent | None = None
    for piece in pieces:
        if piece == "":
            continue
        last = TextDelta(piece) if isinstance(piece, str) else piece
        yield last
    if not isinstance(last, StreamEnd | StreamBroken):
        yield StreamEnd()


def paced(steps: Iterable[Step], pace: Pace) -> Iterator[StreamEvent]:
    """Steps as a stream."""
    for step in steps:
        if isinstance(step, int | float):
            pace.sleep(step)
        else:
            pace.renew()
            yield step


class Paced:
    """Steps as an async stream.  A class: leaving it early leaves nothing suspended."""

    def __init__(self, steps: Iterator[Step], pace: Pace) -> None:
        self._steps = steps
        self._pace = pace

    def __aiter__(self) -> AsyncIterator[StreamEvent]:
        return self

    async def __anext__(self) -> StreamEvent:
        while True:
            step = next(self._steps, None)
            if step is None:
                if not await self._more():
                    raise StopAsyncIteration
            elif isinstance(step, int | float):
                await self._pace.sleep_async(step)
            else:
                self._pace.renew()
                return step

    async def _more(self) -> bool:
        """Find further steps; false if there are none."""
        return False

    async def aclose(self) -> None:
        """Let go of what is beneath."""


async def whole_async(steps: Iterator[Step], pace: Pace) -> ChatResponse:
    """Steps as a whole answer."""
    return collected([event async for event in Paced(steps, pace)])


def collected(events: Iterable[StreamEvent]) -> ChatResponse:
    """Events as a whole answer.  Raises ``ConnectionError`` where they break off."""
    accumulator = Accumulator()
    for event in events:
        if isinstance(event, StreamBroken):
            raise ConnectionError(event.reason)
        accumulator.add(event)
    return accumulator.response()
