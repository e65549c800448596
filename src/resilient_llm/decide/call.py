"""The state machine of one call.

A driver asks :meth:`Call.next_attempt` what to do and is told: make this attempt, wait that long, or (by an
exception) give up.  It reports how each attempt went and asks again.  Several attempts may be under way (a rescue
beside a silent one); each outcome is reported with the attempt it belongs to, so nobody else can be blamed for it.
Nothing about a call lives anywhere else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic

from resilient_llm.decide import events
from resilient_llm.decide.backoff import full_jitter
from resilient_llm.decide.member import Attempt, Member, Refusal, T
from resilient_llm.decide.outcome import Onward, disposition
from resilient_llm.errors import (
    AllAttemptsFailed,
    AttemptRecord,
    CallFailed,
    DeadlineExceeded,
    Fault,
    FaultKind,
    NoProviderAvailable,
    RequestRejected,
)

if TYPE_CHECKING:
    from resilient_llm.decide.pool import Pool, Refused

_MIN_REMAINING = 0.2  # seconds: no later attempt starts with less left than this, or than a quarter of a short deadline
_ANYWHERE, _NOWHERE = Onward.ANYWHERE, Onward.NOWHERE
_SOONEST_RESCUE = 0.1  # seconds between the first two requests for a rescue
_FULL_POLL = 0.05  # seconds between looks at a concurrency limit, at first...
_SLOWEST_POLL = 0.5  # ...and at the most


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait ``seconds``, then ask again."""

    seconds: float
    reason: str


class Call(Generic[T]):
    """One logical request.

    ``deadline`` is absolute monotonic time (``math.inf``: none).  ``tokens`` is the estimated prompt length,
    ``max_tokens`` the longest answer; ``unsuitable`` names the providers that cannot serve this request and why.
    ``repeatable_request=False``: it may have effects, so nothing runs beside it, and it is not repeated once it may
    have reached a provider.
    """

    __slots__ = (
        "answered",
        "conversation",
        "deadline",
        "in_flight",
        "last_fault",
        "made",
        "max_tokens",
        "not_before",
        "number",
        "onward",
        "pool",
        "records",
        "repeatable",
        "repeatable_request",
        "rested",
        "retries",
        "route",
        "started",
        "streaming",
        "tokens",
        "total",
        "tried",
        "unsuitable",
        "waited",
        "window",
    )

    def __init__(
        self,
        pool: Pool[T],
        now: float,
        *,
        route: str,
        deadline: float = math.inf,
        streaming: bool = False,
        tokens: int = 0,
        max_tokens: int = 4096,
        unsuitable: Mapping[str, str] | None = None,
        conversation: str | None = None,
        repeatable_request: bool = True,
    ) -> None:
        self.pool: Pool[T] = pool
        self.started: float = now
        self.route: str = route
        self.deadline: float = deadline
        self.streaming: bool = streaming
        self.tokens: int = tokens
        self.max_tokens: int = max_tokens
        self.unsuitable: Mapping[str, str] = unsuitable or {}
        self.conversation: str | None = conversation
        self.repeatable_request: bool = repeatable_request
        self.tried: tuple[Member[T], ...] = ()
        self.repeatable: tuple[Member[T], ...] = ()
        """Providers that failed in a way that leaves a repetition there sensible."""
        self.records: list[AttemptRecord] = []
        self.made: int = 0
        """Attempts begun, hedges not counted: what ``max_attempts`` limits."""
        self.total: int = 0
        """Attempts begun, hedges counted: what numbers them."""
        self.in_flight: int = 0
        self.retries: int = 0
        self.not_before: float = -math.inf
        self.rested: bool = False
        self.waited: float = 0.0
        self.onward: Onward = _ANYWHERE
        self.last_fault: Fault | None = None
        self.answered: bool = False
        self.number: int = 0
        """Its number within the pool, from its first attempt on; 0 before."""

    # --- what to do ---

    def next_attempt(self, now: float) -> Attempt[T] | Wait:
        """The next attempt, or a wait before asking again.

        Only to be called while no attempt is under way.  Raises a :class:`~resilient_llm.errors.CallFailed` when the
        call is over.
        """
        if self.made or self.deadline <= now:
            self._give_up_if_over(now)
        if now < self.not_before:
            return Wait(self.not_before - now, "backoff")
        leased = self.pool.acquire(self, now)
        step = leased if isinstance(leased, Attempt) else self._repeat(now, leased)
        if isinstance(step, Attempt):
            step.delay, self.waited = self.waited, 0.0
            left = self.deadline - now
            if step.timeout > left:  # noqa: PLR1730 - a call of min() costs more than the comparison
                step.timeout = left
        return step

    def rescue(self, beside: Attempt[T], now: float) -> Attempt[T] | None:
        """A second attempt beside one that has been silent for its ``rescue_after``.

        ``None`` if there is to be none now; ``beside.rescue_after`` then says when to ask again (``None``: never):
        after twice as long, for somebody may be free by then, and when half the time is gone, for a rescue may then be
        paid by the failover budget.
        """
        over = beside.released or self.answered or self.onward is _NOWHERE or self.deadline - now <= self._least()
        found = None if over else self.pool.rescue(self, beside, now)
        if found is None:
            beside.rescue_after = None if over else self._next_rescue(beside, now)
            return None
        found.timeout = min(found.timeout, self.deadline - now)
        return found

    def _next_rescue(self, beside: Attempt[T], now: float) -> float | None:
        elapsed = max(now - beside.started, _SOONEST_RESCUE)
        half = (self.deadline - beside.started) / 2
        again = half if elapsed < 0.999 * half < 2.0 * elapsed else 2.0 * elapsed
        return again if again < beside.timeout else None

    def pressed(self, now: float, beside: Attempt[T]) -> bool:
        """Whether half the time that was left when ``beside`` began is gone."""
        return now - beside.started >= 0.999 * (self.deadline - beside.started) / 2

    # --- what happened ---

    def joined(self, attempt: Attempt[T]) -> None:
        """An attempt was leased to this call (the pool says so, under its lock)."""
        self.total += 1
        self.made += attempt.kind != "hedge"
        self.in_flight += 1
        attempt.number = self.total
        if attempt.member not in self.tried:
            self.tried = (*self.tried, attempt.member)
        else:
            self.retries += 1
        self.rested = False

    def first_content(self, attempt: Attempt[T], now: float) -> None:
        """The attempt gave its first sign of life."""
        self.pool.first_content(attempt, now)

    def succeeded(self, attempt: Attempt[T], now: float, output_tokens: int = 0, status: int | None = 200) -> None:
        """The attempt was answered; the call is over."""
        if attempt.released:
            return
        self.pool.succeeded(attempt, now, output_tokens)
        self._record(attempt, now, "success", None, status)
        if self.conversation is not None:
            self.pool.remember(self.conversation, attempt.member.id)

    def failed(self, attempt: Attempt[T], fault: Fault, now: float) -> None:
        """The attempt failed.  Ask :meth:`next_attempt` (once nothing is under way) how to go on."""
        if attempt.released:
            return
        self.pool.failed(attempt, fault, now)
        self._record(attempt, now, "error", fault, fault.status)
        if self.onward is _NOWHERE:
            return  # the request was rejected; how an attempt beside that one fails does not bring it back
        self.last_fault = fault
        onward = disposition(fault).onward
        if onward is Onward.ANYWHERE and attempt.member not in self.repeatable:
            self.repeatable = (*self.repeatable, attempt.member)
        elif onward is not Onward.ANYWHERE:
            self.repeatable = tuple(member for member in self.repeatable if member is not attempt.member)
        if onward is Onward.LARGER:
            self._need_larger(attempt.member)
        self.onward = onward

    def abandoned(self, attempt: Attempt[T], now: float) -> None:
        """The attempt ended without a verdict: cancelled, closed, interrupted."""
        if attempt.released:
            return
        self.pool.abandoned(attempt, now)
        self._record(attempt, now, "cancelled", None, None)

    def overtaken(self, attempt: Attempt[T], now: float) -> None:
        """Another attempt of this call won.

        If it began because this one was late by its provider's own measure, that lateness is a failure: otherwise a
        provider that hangs, rescued every time, would never be found out.  So is a probe that lost its race, which its
        rival began later: without a verdict the next probe would follow at once, and the open period never grow.  A
        provider that is not known well enough has no measure yet; being overtaken after a long silence of its makes it
        doubtful.
        """
        if attempt.released:
            return
        late = now >= attempt.late_at or attempt.probing
        if attempt.content_at is None and (late or (attempt.unheard(now) and attempt.rescuable(now))):
            fault = Fault(FaultKind.TIMEOUT, message="gave no sign of life; another provider answered first")
            self.pool.failed(attempt, fault, now, doubtful=not late)
            self._record(attempt, now, "error", fault, None)
            return
        self.pool.overtaken(attempt, now)
        self._record(attempt, now, "cancelled", None, None)

    def expired(self, attempt: Attempt[T], fault: Fault, now: float) -> None:
        """The call's own deadline ended this attempt.  That judges nobody, unless the provider was late by its own
        measure: without a sign of life, or its stream silent in between for as long as makes a first token late.  A
        stream that was merely long is no fault of its provider's.

        A provider that is not known well enough for a measure is doubted, if nothing was heard of it for longer than it
        ever took, and it had half the time of the call.
        """
        if attempt.released:
            return
        silence = now - attempt.started if attempt.content_at is None else attempt.silence
        if silence >= attempt.overdue_at - attempt.started:
            self.failed(attempt, fault, now)
            return
        self.last_fault = fault
        # Who was asked at the last moment, beside or after somebody else, had no fair chance.
        fair = 2.0 * (now - attempt.started) >= now - self.started
        if attempt.content_at is None and attempt.unheard(now) and fair:
            self.pool.failed(attempt, fault, now, doubtful=True)
        else:
            self.pool.abandoned(attempt, now)
        self._record(attempt, now, "error", fault, None)

    # --- internals ---

    def _record(self, attempt: Attempt[T], now: float, outcome: str, fault: Fault | None, status: int | None) -> None:
        self.in_flight -= 1
        target = attempt.member.target
        model = getattr(target, "model", "")
        record = AttemptRecord(  # positional: this runs for every attempt
            attempt.number,
            attempt.member.id,
            model,
            attempt.kind,
            outcome,
            fault,
            status,
            now - attempt.started,
            attempt.delay,
        )
        self.records.append(record)
        if len(self.records) > 1 and self.records[-2].number > record.number:
            self.records.sort(key=lambda one: one.number)  # by number: a rescue ended before what it was to rescue
        if self.pool.listening:
            self.pool.note(events.AttemptEnded(now, attempt.member.id, self.number, record))

    def _need_larger(self, small: Member[T]) -> None:
        """The prompt did not fit: only a provider that declares a larger window may be asked."""
        size = small.target.context_window or 0
        small_ones = {
            target.id: "its context window is not known to be larger"
            for target in self.pool.targets(self.route)
            if target.context_window is None or target.context_window <= size
        }
        self.unsuitable = {**self.unsuitable, **small_ones}

    def _least(self) -> float:
        """Seconds that must be left for another attempt to make sense."""
        return min(_MIN_REMAINING, (self.deadline - self.started) / 4)

    def _give_up_if_over(self, now: float) -> None:
        if self.onward is _NOWHERE:
            raise self._error(RequestRejected, "the provider rejected the request")
        least = self._least() if self.made else 0.0
        if self.deadline - now <= least:
            raise self._error(DeadlineExceeded, f"no answer within {self.deadline - self.started:.3g} s")
        if self.made >= self.pool.policies.retry.max_attempts:
            raise self._error(AllAttemptsFailed, f"all {self.made} attempts failed")
        if self.made and not self.repeatable_request and self._may_have_run():
            raise self._error(AllAttemptsFailed, "the request may have taken effect and must not be repeated")

    def _may_have_run(self) -> bool:
        """Whether a failed attempt may have reached a provider that then did the work: everything but a refusal."""
        return any(_may_have_run(record.fault) for record in self.records if record.fault is not None)

    def _repeat(self, now: float, refused: Refused) -> Attempt[T] | Wait:
        """Nobody new can be asked: the same one again after a pause, or a wait for a gate, or the end."""
        if not self.rested and self._worth_a_pause(refused):
            retry = self.pool.policies.retry
            pause = full_jitter(retry.backoff_base, retry.backoff_cap, self.retries, self.pool.random())
            return self._wait(now, pause, "backoff")
        found = self.pool.again(self, now) if self.repeatable else refused
        if isinstance(found, Attempt):
            return found
        found.lacking = refused.lacking or found.lacking
        if found.waitable_at is not None:
            return self._wait_for_gate(now, found)
        raise self._nobody(now, found)

    def _worth_a_pause(self, refused: Refused) -> bool:
        """Whether a repetition could follow: somebody worth repeating is not refused, and there is a token for it."""
        return self.pool.retries.available() and any(member.id not in refused.reasons for member in self.repeatable)

    def _wait(self, now: float, seconds: float, reason: str) -> Wait:
        """A pause, if an attempt could still follow it."""
        if now + seconds + self._least() > self.deadline:
            raise self._error(DeadlineExceeded, f"the next wait ({seconds:.3g} s) would pass the deadline", seconds)
        self.rested = True
        self.not_before = now + seconds
        self.waited += seconds
        return Wait(seconds, reason)

    def _wait_for_gate(self, now: float, refused: Refused) -> Wait:
        assert refused.waitable_at is not None
        # Hundreds may wait for one slot: those who have waited for long look less often.
        poll = min(max(_FULL_POLL, 0.1 * self.waited), _SLOWEST_POLL)
        wait = max(refused.waitable_at - now, poll)
        wait *= 1.0 + 0.1 * self.pool.random()  # those who wait together should not return together
        if wait > self.pool.policies.retry.max_wait:
            raise self._nobody(now, refused)
        return self._wait(now, wait, "gate")

    def _nobody(self, now: float, refused: Refused) -> CallFailed:
        """The error for a call nobody can take: the attempts that failed, or if there were none, why nobody was
        asked."""
        retry_after = None if refused.retry_at is None else max(0.0, refused.retry_at - now)
        if self.onward is Onward.LARGER and all(t.id in self.unsuitable for t in self.pool.targets(self.route)):
            return self._error(RequestRejected, "the request is too long for every provider")
        if self.made:
            why = f"the {refused.lacking} budget is empty" if refused.lacking else "nobody else can be asked"
            return self._error(AllAttemptsFailed, f"{_times(self.made)} failed and {why}", retry_after)
        reasons = {
            provider: self.unsuitable[provider] if refusal is Refusal.UNSUITABLE else refusal.value
            for provider, refusal in refused.reasons.items()
        }
        told = "; ".join(f"{provider}: {reason}" for provider, reason in reasons.items())
        return NoProviderAvailable(
            f"no provider can be asked now ({told})", tuple(self.records), retry_after, self.last_fault, reasons
        )

    def _error(self, kind: type[CallFailed], message: str, retry_after: float | None = None) -> CallFailed:
        if retry_after is None and self.last_fault is not None:
            retry_after = self.last_fault.retry_after
        return kind(message, tuple(self.records), retry_after, self.last_fault)


def _may_have_run(fault: Fault) -> bool:
    """No status: it was cut off or silent.  A server error other than "no room" may come after the work was done."""
    if fault.status is None:
        return fault.code != "not_sent"
    return fault.status >= 500 and fault.status not in (503, 529)


def _times(count: int) -> str:
    return "the attempt" if count == 1 else f"all {count} attempts"
