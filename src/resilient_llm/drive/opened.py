"""A stream that is open: how it ends, told once for both drivers."""

from __future__ import annotations

from typing import Protocol

from resilient_llm.decide.member import Attempt
from resilient_llm.drive.core import Target
from resilient_llm.drive.failure import AttemptFailed
from resilient_llm.drive.reading import Reading
from resilient_llm.drive.task import Task, fault_of
from resilient_llm.errors import Fault, FaultKind, StreamInterrupted
from resilient_llm.model import ChatRequest, ChatResponse, StreamEnd, StreamEvent, TextDelta


class Severable(Protocol):
    """Where a stream's pieces come from, as far as a finaliser may touch it."""

    def sever(self) -> None: ...


class Opened:
    """A stream between its first content and its end: the lease belongs to it."""

    __slots__ = ("attempt", "over", "reading", "task")

    def __init__(self, task: Task[ChatRequest], attempt: Attempt[Target], reading: Reading) -> None:
        self.task: Task[ChatRequest] = task
        self.attempt: Attempt[Target] = attempt
        self.reading: Reading = reading
        self.over: bool = False
        """The books are closed: nothing below does anything any more."""

    def until(self) -> float:
        """Monotonic time by which the next bytes must arrive."""
        deadline = self.task.call.deadline
        if not self.reading.committed:
            return min(self.attempt.started + self.attempt.timeout, deadline)
        return min(self.reading.silent_at(), deadline)

    def committed(self) -> None:
        """The first content is about to be handed over."""
        self.task.first_content(self.attempt)

    def completed(self) -> None:
        """The answer is complete."""
        if self.over:
            return
        self.over = True
        now = self.task.owner.clock()
        response = self.reading.response()
        tokens = response.usage.output_tokens if response.usage is not None else 0
        self.task.call.succeeded(self.attempt, now, tokens)
        self.task.finish(self.attempt, response, now)

    def broken(self, error: Exception) -> StreamInterrupted:
        """It broke: tell everybody, and return what to raise."""
        task, now = self.task, self.task.owner.clock()
        late = now >= task.call.deadline - 0.001
        self.attempt.silence = self.reading.silence(now)
        fault = self.task.failed(self.attempt, error)
        self.over = True
        partial = self.response()
        reason = "the deadline passed" if late and fault.kind is FaultKind.TIMEOUT else fault.message or str(fault.kind)
        failure = StreamInterrupted(
            f"the stream of {self.attempt.member.id} broke after content: {reason}",
            tuple(task.call.records),
            fault.retry_after,
            fault,
            partial,
        )
        failure.__cause__, task.cause = task.cause, None
        task.trace.failed(failure, now - task.call.started, self.attempt.target)
        return failure

    def closed(self) -> None:
        """The caller let go of it.  An answer that had arrived completely still counts as one."""
        if self.over:
            return
        if self.reading.ended:
            self.completed()
            return
        self.over = True
        self.task.abandoned(self.attempt)

    def punctual(self, until: float) -> None:
        """Raise ``TimeoutError`` past this time, for sources that cannot bound a read."""
        if self.task.owner.clock() > until:
            raise TimeoutError("no content in time")

    def response(self) -> ChatResponse:
        """The answer so far, labelled."""
        response = self.reading.response()
        self.task.label(self.attempt, response)
        return response


def feed_item(reading: Reading, item: object, now: float) -> None:
    """One piece from a provider the user wrote: text or an event."""
    if isinstance(item, str):
        if item:
            reading.take(TextDelta(item), now)
    elif isinstance(item, StreamEvent):
        reading.take(item, now)
    else:
        raise TypeError(f"a provider's stream must yield text or stream events, not {type(item).__name__}")


def finish_items(reading: Reading, now: float) -> None:
    """A provider the user wrote has no more pieces: without an exception, that is a complete answer."""
    if not reading.ended and reading.fault is None:
        reading.take(StreamEnd(), now)


def check(reading: Reading) -> None:
    """Raise what the reading found wrong, if anything."""
    if reading.fault is not None:
        raise AttemptFailed(reading.fault)


def silence(error: Exception, reading: Reading) -> Exception:
    """A timeout while waiting for content is a stall of the stream; anything else is itself."""
    if reading.committed and fault_of(error).kind is FaultKind.TIMEOUT:
        failed = AttemptFailed(Fault(FaultKind.TIMEOUT, message="the stream went silent"))
        failed.__cause__ = error
        return failed
    return error
