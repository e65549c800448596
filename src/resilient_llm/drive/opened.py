"""A stream that is open: how it ends, told once for both drivers."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from resilient_llm.drive.exchange import AnyExchange
from resilient_llm.drive.failure import AttemptFailed, fault_of
from resilient_llm.drive.reading import Reading
from resilient_llm.drive.task import Task
from resilient_llm.drive.under_way import UnderWay
from resilient_llm.errors import Fault, FaultKind
from resilient_llm.model import ChatRequest, ChatResponse, StreamEvent


class Opened:
    """A stream between its first content and its end: the lease belongs to it."""

    __slots__ = ("driver", "ended_by", "exchange", "over", "pieces", "reading", "source", "task", "under_way")

    def __init__(self, task: Task[ChatRequest], exchange: AnyExchange, under_way: UnderWay, driver: Any) -> None:
        assert exchange.reading is not None
        self.task: Task[ChatRequest] = task
        self.exchange: AnyExchange = exchange
        self.under_way: UnderWay = under_way
        self.driver: Any = driver
        """Makes the attempts that follow a break."""
        self.reading: Reading = exchange.reading
        self.source: Any = exchange.source
        self.pieces: int = 0
        """Pieces read so far."""
        self.over: bool = False
        """It has been reported: nothing below does anything any more."""
        self.ended_by: Exception | None = None
        """The error to raise where something other than the caller or the provider ended it."""
        under_way.calls.add(self)

    def ready(self) -> StreamEvent | None:
        """An event that may be handed over.  Raises what ended the stream, if anything did."""
        if self.ended_by is not None:
            raise self.ended_by
        return self.reading.ready.popleft() if self.reading.ready and not self.over else None

    def at_hand(self) -> list[StreamEvent]:
        """All events that may be handed over without reading more."""
        ready = self.reading.ready
        if not ready or self.over or self.ended_by is not None:
            return []
        found = list(ready)
        ready.clear()
        return found

    def hungry(self) -> bool:
        """Whether more must be read before there is an event to hand over."""
        return not self.over and not self.reading.ready and not self.reading.ended

    def waiting(self) -> None:
        """The caller begins to wait.  Raises what was found wrong already."""
        self.reading.waiting(self.task.owner.clock())
        self.exchange.check()

    def take(self, piece: object | None) -> None:
        """A piece was read.  Raises what is wrong with it, or that it came too late."""
        self.exchange.feed(piece, self.task.owner.clock())
        if self.hungry() and self.task.owner.clock() > self.exchange.limit.until:
            raise TimeoutError("no content in time")  # of a source that cannot bound a read

    def bound(self) -> None:
        """Bound the next read: content must arrive before the silence becomes a stall, and before the deadline."""
        self.exchange.limit.until = min(self.reading.silent_at(), self.task.call.deadline)

    def completed(self) -> None:
        """The answer is complete."""
        if not self.over:
            self._over()
            self._paused()
            self.task.finish(self.exchange, self.reading.response())

    def broken(self, error: Exception) -> Exception | None:
        """It broke: tell everybody, and return what to raise; ``None``: the answer goes on."""
        if self.ended_by is not None:
            return self.ended_by
        task, now = self.task, self.task.owner.clock()
        late = now >= task.call.deadline - 0.001
        if fault_of(error).kind is FaultKind.TIMEOUT:
            stalled = AttemptFailed(Fault(FaultKind.TIMEOUT, message="the stream went silent"))
            stalled.__cause__ = error
            error = stalled
        usage = task.cost(self.exchange) if task.on_break != "fail" else None
        fault = task.failed(self.exchange, error, usage)
        late = late and fault.kind is FaultKind.TIMEOUT
        if not late and task.goes_on(self.exchange, fault):
            return None
        self._over()
        if late or task.interruption is None:
            told = replace(fault, message="the deadline passed") if late else fault
            task.interruption = task.broke(self.exchange, told, self.reading.response())
            task.interruption.fault = fault
        failure = task.interruption
        failure.__cause__, task.cause = task.cause, None
        task.observer.failed(failure, now - task.call.started, self.exchange.attempt.target)
        return failure

    @contextmanager
    def between(self, failure: Exception | None) -> Generator[None]:
        """Raise the failure, if there is one.  Inside, another attempt is sought that goes on; if there is none, the
        stream is over."""
        if failure is not None:
            raise failure from failure.__cause__
        try:
            yield
        except BaseException:
            if not self.over:
                self._over()
            raise

    def taken_over(self, won: AnyExchange) -> None:
        """Another attempt goes on."""
        assert won.reading is not None
        unread = self.reading.ready if self.task.on_break != "restart" else ()
        won.reading.ready.extendleft(reversed(unread))
        self.exchange, self.reading, self.source = won, won.reading, won.source
        if self.over:  # closed by somebody else meanwhile
            self.task.abandoned(won)
            self.source.sever()

    def closed(self) -> None:
        """The caller let go of it.  An answer that had arrived completely still counts as one."""
        if self.reading.ended:
            self.completed()
        elif not self.over:
            self._over()
            if not self.exchange.attempt.released:  # else it broke, and another one is sought
                self._paused()
                self.task.abandoned(self.exchange)
        self.source.sever()

    def end_with(self, error: Exception) -> None:
        """The client closes: end it, and tell whoever reads on."""
        if not self.over and not self.reading.ended:
            self.ended_by = error
            self.closed()

    def _over(self) -> None:
        self.over = True
        self.under_way.done(self)

    def _paused(self) -> None:
        """A stream that did not break says how long its provider may pause."""
        if self.reading.longest > 0.0:
            self.task.call.paused(self.exchange.attempt, self.reading.longest)

    def response(self) -> ChatResponse:
        """The answer so far, labelled."""
        response = self.reading.response()
        self.task.label(self.exchange, response)
        return response
