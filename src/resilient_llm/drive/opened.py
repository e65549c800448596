"""A stream that is open: how it ends, told once for both drivers."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import replace
from math import inf
from typing import Any

from resilient_llm.capability import Broken, Resumption, ends_well, resumable, tokens_of, why_not
from resilient_llm.drive.exchange import AnyExchange
from resilient_llm.drive.failure import AttemptFailed, fault_of
from resilient_llm.drive.reading import NOT_REPEATED, Reading
from resilient_llm.drive.task import Task
from resilient_llm.drive.under_way import UnderWay
from resilient_llm.errors import Fault, FaultKind
from resilient_llm.model import ChatRequest, ChatResponse, Degradation, StreamEvent, Usage
from resilient_llm.providers.base import HttpProvider
from resilient_llm.wire.features import Feature
from resilient_llm.wire.kit.divided import added

_DRAIN = 0.05  # seconds an ended answer may take to let go of its connection


class Opened:
    """A stream between its first content and its end: the lease belongs to it."""

    __slots__ = (
        "driver",
        "ended_by",
        "exchange",
        "heard_at",
        "over",
        "pieces",
        "reading",
        "seeking",
        "source",
        "task",
        "under_way",
    )

    def __init__(self, task: Task[ChatRequest], exchange: AnyExchange, under_way: UnderWay, driver: Any) -> None:
        assert exchange.reading is not None
        self.task: Task[ChatRequest] = task
        self.exchange: AnyExchange = exchange
        self.under_way: UnderWay = under_way
        self.driver: Any = driver
        """Makes the attempts that follow a break."""
        self.reading: Reading = exchange.reading
        self.source: Any = exchange.source
        self.heard_at: float = exchange.reading.since
        """When the last piece came, or the caller was last seen waiting for one."""
        self.pieces: int = 0
        """Pieces read so far."""
        self.over: bool = False
        """It has been reported: nothing below does anything any more."""
        self.seeking: bool = False
        """It broke, and another attempt is sought that goes on."""
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

    def forwarded(self) -> bytes | None:
        """The same as the bytes they came in; ``None`` if those are not kept."""
        reading = self.reading
        found = reading.forwarded
        if found is not None:
            reading.ready.clear()
            reading.forwarded = b""
        return found

    def hungry(self) -> bool:
        """Whether more must be read before there is an event to hand over."""
        return not self.over and not self.reading.ready and not self.reading.ended

    def take(self, piece: object | None) -> bool:
        """A piece was read.  Returns whether the vendor divided the answer, so that its next part is to be asked for.
        Raises what is wrong with it, or that it came too late."""
        self.heard_at = now = self.task.owner.clock()
        self.exchange.attempt.quiet_since = inf
        self.exchange.feed(piece, now)
        if now > self.exchange.limit.until and self.hungry():
            raise TimeoutError("no content in time")  # of a source that cannot bound a read
        return piece is None and self.reading.divided

    def part(self, source: Any) -> None:
        """Another part of the answer follows."""
        self.source = source
        self.exchange.head(source.status, source.headers)

    def bound(self) -> None:
        """Bound the next read: content must arrive before the silence becomes a stall, and before the deadline.  Time
        the caller spent on its own is no silence of the provider.  Raises what was found wrong already."""
        task, reading, before = self.task, self.reading, self.heard_at
        self.heard_at = now = task.owner.clock()
        reading.since += now - before
        if not reading.held:
            self.exchange.attempt.quiet_since = reading.since
        silent_at, deadline = reading.silent_at(), task.call.deadline
        self.exchange.limit.until = silent_at if silent_at < deadline else deadline
        if reading.fault is not None:
            self.exchange.check()

    def completed(self) -> None:
        """The answer is complete."""
        if not self.over:
            self._over()
            self._paused()
            self.task.finish(self.exchange, self.reading.response())

    @contextmanager
    def ending(self) -> Generator[None]:
        """Inside, what little may follow the end is taken, so that the connection can be used again; the answer is
        complete whatever comes."""
        self.exchange.limit.until = self.task.owner.clock() + _DRAIN
        try:
            with suppress(Exception):
                yield
        except BaseException:
            self.source.sever()
            raise
        finally:
            self.completed()

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
        usage = self._cost() if task.on_break != "fail" else None
        fault = task.failed(self.exchange, error, usage)
        late = late and fault.kind is FaultKind.TIMEOUT
        if not late and self._goes_on(fault):
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

    def _goes_on(self, fault: Fault) -> bool:
        """A stream broke: whether its answer is whole all the same, or others are asked to go on with it."""
        task, reading, exchange = self.task, self.reading, self.exchange
        request, subject, on_break = task.subject.request, task.subject, task.on_break
        assert isinstance(request, ChatRequest)
        spent = added(task.spent, self._cost())
        so_far = reading.so_far()
        broken = Broken(exchange.attempt.target, fault.kind, fault.message or str(fault.kind), so_far, spent)
        if ends_well(on_break, broken):
            reading.end_early(spent)
            exchange.degradations += (Degradation("stream", "its end was lost in a break"),)
            return True
        if reading.rest is not None and resumable(on_break, broken):
            self._keep(exchange.attempt.target.id, fault)
            return True
        why = why_not(on_break, request, broken) if fault.code != NOT_REPEATED else "it was not repeated"
        told = "" if why is None or on_break == "fail" else f" ({why})"
        task.interruption = task.broke(exchange, fault, reading.response(), told)
        if why is not None:
            return False
        task.spent = spent
        subject.resumption = resumption = Resumption(on_break, request, broken)
        subject.needs = replace(subject.needs, features=subject.needs.features | {Feature.PREFILL})
        ask, lacking = task.call.ask, dict(task.call.ask.unsuitable)
        for target in task.owner.pool.targets(ask.route):
            reason = resumption.lacking(target, target.capabilities if isinstance(target, HttpProvider) else None)
            if reason is not None:
                lacking.setdefault(target.id, reason)
        task.call.ask = ask._replace(unsuitable=lacking)
        return True

    def _keep(self, provider: str, fault: Fault) -> None:
        """Its provider keeps the rest of the answer: that one alone is asked, and for no more than the rest."""
        task, ask = self.task, self.task.call.ask
        task.subject.kept = self.reading
        task.interruption = task.broke(self.exchange, fault, self.reading.response())
        others = [target.id for target in task.owner.pool.targets(ask.route) if target.id != provider]
        lacking = {**dict.fromkeys(others, f"{provider} alone has the rest of this answer"), **ask.unsuitable}
        task.call.ask = ask._replace(unsuitable=lacking)

    def _cost(self) -> Usage:
        """The tokens of an attempt whose stream broke, as far as they are known, or about so many."""
        reading, resumption = self.reading, self.task.subject.resumption
        estimate = tokens_of(reading.response(), self.task.call.ask.tokens)
        if resumption is not None and resumption.on_break in ("continue", "instruct"):
            before = tokens_of(resumption.broken.so_far.response(), 0).output_tokens
            estimate = replace(estimate, output_tokens=max(0, estimate.output_tokens - before))
        told = reading.own_usage
        if told is None:
            return estimate
        short = told.output_tokens < estimate.output_tokens
        return replace(told, output_tokens=estimate.output_tokens, estimated=True) if short else told

    @contextmanager
    def between(self, failure: Exception | None) -> Generator[None]:
        """Raise the failure, if there is one.  Inside, another attempt is sought that goes on; if there is none, the
        stream is over."""
        if failure is not None:
            raise failure from failure.__cause__
        self.seeking = True
        try:
            yield
        except BaseException:
            if not self.over:
                self._over()
            raise
        self.seeking = False

    def taken_over(self, won: AnyExchange) -> None:
        """Another attempt goes on."""
        assert won.reading is not None
        if won.reading is not self.reading and self.task.on_break != "restart":
            won.reading.ready.extendleft(reversed(self.reading.ready))
        self.exchange, self.reading, self.source = won, won.reading, won.source
        self.heard_at = won.reading.since
        if self.over:  # closed by somebody else meanwhile
            self.task.abandoned(won)
            self.source.sever()

    def closed(self) -> None:
        """The caller let go of it.  An answer that had arrived completely still counts as one."""
        if self.reading.ended:
            self.completed()
        elif not self.over:
            self._over()
            if not self.seeking:
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
