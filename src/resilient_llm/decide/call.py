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
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Generic

from resilient_llm import events
from resilient_llm.decide.ask import Ask
from resilient_llm.decide.attempt import Attempt, larger_only
from resilient_llm.decide.failure import nobody, times, waits_for
from resilient_llm.decide.leases import BARRED, Past
from resilient_llm.decide.line import Place
from resilient_llm.decide.member import T
from resilient_llm.decide.outcome import Onward, costs_nothing, disposition, may_have_run, price
from resilient_llm.decide.patience import backoff, hope_at, insists_at
from resilient_llm.decide.pool import Pool
from resilient_llm.decide.waiting import Refused
from resilient_llm.errors import (
    AllAttemptsFailed,
    CallFailed,
    ClientClosed,
    DeadlineExceeded,
    RequestRejected,
)
from resilient_llm.faults import AttemptOutcome, AttemptRecord, Fault, FaultKind

_MIN_REMAINING = 0.2  # seconds: no later attempt starts with less left than this, or than a quarter of a short deadline
_RESCUE_PAUSE = 0.5  # seconds between a rescue that failed and the next one
_LONGEST_RESCUE_PAUSE = 2.0  # the same where one provider failed the call twice
_RESCUE_SHARE = 1.0 / 6.0  # of the time that is left: the pause there, unless that is too short or too long
_SHORTEST_PAUSE = 0.001  # seconds
_BUDGET_PAUSE = 1.0  # seconds until an empty budget is looked at again: answers fill it sooner than time does
_LAST_TRY = 2.5  # seconds the last try waits at most for an outage to end
_OVERTAKEN: Final = Fault(FaultKind.TIMEOUT, message="gave no sign of life; another provider answered first")


class Phase(StrEnum):
    """Where a call is."""

    DECIDING = "deciding"
    WAITING = "waiting"
    RUNNING = "running"
    ANSWERED = "answered"
    OVER = "over"


class Step(StrEnum):
    """What moves it on."""

    TOLD_TO_WAIT = "told to wait"
    ASKED_AGAIN = "asked again"
    LEASED = "leased"
    ENDED = "the last attempt under way ended without an answer"
    ANSWERED = "answered"
    GAVE_UP = "gave up"


TRANSITIONS: Final[Mapping[tuple[Phase, Step], Phase]] = MappingProxyType(
    {
        (Phase.DECIDING, Step.LEASED): Phase.RUNNING,
        (Phase.DECIDING, Step.TOLD_TO_WAIT): Phase.WAITING,
        (Phase.DECIDING, Step.GAVE_UP): Phase.OVER,
        (Phase.WAITING, Step.ASKED_AGAIN): Phase.DECIDING,
        (Phase.WAITING, Step.GAVE_UP): Phase.OVER,
        (Phase.RUNNING, Step.LEASED): Phase.RUNNING,
        (Phase.RUNNING, Step.ENDED): Phase.DECIDING,
        (Phase.RUNNING, Step.ANSWERED): Phase.ANSWERED,
    }
)
"""The life of a call; there is no other way through it."""

# For what every call passes: looking up an enum's member costs Python 3.11 more than what is done with it.
_DECIDING, _WAITING, _RUNNING = Phase.DECIDING, Phase.WAITING, Phase.RUNNING
_LEASED = {before: after for (before, step), after in TRANSITIONS.items() if step is Step.LEASED}
_ANSWERED = TRANSITIONS[Phase.RUNNING, Step.ANSWERED]


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait ``seconds``, or until ``place`` is woken, then ask again.

    ``reason`` is ``backoff``, ``budget``, ``gate``, ``line`` or ``down``; ``place`` is ``None`` for a mere pause."""

    seconds: float
    reason: str
    place: Place | None = None


class Call(Generic[T]):
    """One logical request; ``ask`` says what it wants, ``number`` is its place in the order of arrival."""

    last_fault: Fault | None = None
    _onward: Onward = Onward.ANYWHERE
    _retries: int = 0
    _wait_over: float = -math.inf
    _down_since: float | None = None
    _hoped: bool = False
    _insisted: int = 0

    def __init__(self, pool: Pool[T], ask: Ask, now: float) -> None:
        self.pool: Pool[T] = pool
        self.ask: Ask = ask
        self.started: float = now
        self.deadline: float = ask.deadline
        self.number: int = next(pool.numbers)
        self.past: Past = Past(self.number)
        self.records: list[AttemptRecord] = []
        self._phase: Phase = _DECIDING
        self._running: list[Attempt[T]] = []
        self._idle_since = now

    # --- what to do ---

    def next_attempt(self, now: float) -> Attempt[T] | Wait:
        """The next attempt, or a wait before asking again.

        Only to be called while no attempt is under way.  Raises a :class:`~resilient_llm.errors.CallFailed` when the
        call is over, or ``ClientClosed`` if it waited and the client was closed.
        """
        past = self.past
        if self._phase is _WAITING:
            if now < self._wait_over and past.place is None:
                return Wait(self._wait_over - now, "backoff")
            self._phase = TRANSITIONS[self._phase, Step.ASKED_AGAIN]
            if self.pool.closed:
                self._stop(now)
                raise ClientClosed("the client was closed while the call waited")
            since = self._down_since
            hope = hope_at(since, self.pool.policies.retry.max_down_wait, self.deadline)
            past.last_hope = now >= hope and not (self._hoped or past.counted)
            past.insists = since is None and now >= insists_at(self.ask, self.started, self.deadline, self._insisted)
        if past.number > 1 or self.deadline <= now:
            self._give_up_if_over(now)
        found = self.pool.acquire(self.ask, past, now)
        return self._begun(found) if isinstance(found, Attempt) else self._wait_or_give_up(found, now)

    def rescue(self, beside: Attempt[T], now: float) -> Attempt[T] | None:
        """A second attempt beside one that has been silent for its ``rescue_after``.

        ``None`` if there is to be none now; ``beside.rescue_after`` then says when to ask again (``None``: never).
        """
        over = (
            self._phase is not Phase.RUNNING or self._onward is Onward.NOWHERE or self.deadline - now <= self._least()
        )
        counted = self.past.counted + sum(not attempt.trial for attempt in self._running)
        over = over or counted >= self.pool.policies.retry.max_attempts
        found = self.pool.rescue(beside, None if over else self.past, now)
        return None if found is None else self._begun(found)

    def stopped_waiting(self, now: float) -> None:
        """The caller gave up while it waited (cancelled, interrupted)."""
        if self._phase is Phase.WAITING:
            self._stop(now)

    def asking(self, attempt: Attempt[T], now: float) -> None:
        """A callable is asked for the key."""
        self.pool.wait_for_key(attempt)

    def asked(self, attempt: Attempt[T], now: float) -> None:
        """The key is there, and the provider's time begins.  Raises ``TimeoutError`` if it is too late."""
        if not self.pool.key_came(attempt, now):
            raise TimeoutError

    def first_content(self, attempt: Attempt[T], now: float) -> None:
        """The attempt gave its first sign of life."""
        self.pool.first_content(attempt, now)

    def paused(self, attempt: Attempt[T], seconds: float) -> None:
        """The longest pause between two pieces of content of its stream."""
        attempt.pause = seconds

    def succeeded(
        self, attempt: Attempt[T], now: float, output_tokens: int = 0, status: int | None = None, tokens: int = 0
    ) -> None:
        """The attempt was answered, for ``tokens`` of its rate limit (0: unknown); the call is over, unless it was over
        before and this one ran on to be judged."""
        if attempt.released:
            return
        self.pool.succeeded(attempt, now, output_tokens, tokens)
        if self._phase is not _RUNNING:
            return
        self._phase = _ANSWERED
        self._record(attempt, now, "success", None, status)
        if self.ask.conversation is not None:
            self.pool.remember(self.ask.conversation, attempt.member.id, attempt.member.cached_until(now))

    def failed(self, attempt: Attempt[T], fault: Fault, now: float) -> None:
        """The attempt failed.  Ask :meth:`next_attempt` (once nothing is under way) how to go on."""
        if attempt.released:
            return
        counted = self.pool.failed(attempt, fault, now) and not costs_nothing(fault)
        told = attempt.other_key or costs_nothing(fault)
        if self._phase is not Phase.RUNNING:
            return
        self._record(attempt, now, "error", fault, fault.status)
        self._ended(now)
        if self._onward is Onward.NOWHERE:
            return  # the request was rejected; how an attempt beside that one fails does not bring it back
        self.last_fault, past = fault, self.past
        past.again, past.cost = False, 0.0 if told else price(fault)
        past.counted += counted
        provider = attempt.member.id
        onward = Onward.ANYWHERE if attempt.other_key or attempt.by_chance else disposition(fault).onward
        if attempt.not_before > now:
            past.not_before[attempt.member] = max(attempt.not_before, past.may_ask_at(attempt.member))
        past.other_key = provider if attempt.other_key else None
        past.tried[provider] = past.tried.get(provider, 0) + counted if onward is Onward.ANYWHERE else BARRED
        if onward is Onward.LARGER:
            self.ask = larger_only(self.ask, self.pool.targets(self.ask.route), attempt.target.context_window or 0)
        self._onward = onward
        pause = _RESCUE_PAUSE
        if past.tried[provider] > 1:  # few tries are left: spread them over the time that is left
            pause = min(max(pause, _RESCUE_SHARE * (self.deadline - now)), _LONGEST_RESCUE_PAUSE)
        for other in self._running:  # its rescue failed: another one may follow
            self.pool.rescue_again(other, pause, now)

    def abandoned(self, attempt: Attempt[T], now: float) -> None:
        """The attempt ended without a verdict: cancelled, closed, interrupted."""
        if attempt.released:
            return
        self.pool.abandoned(attempt, now)
        if self._phase is Phase.RUNNING:
            self._record(attempt, now, "cancelled", None, None)
            self._ended(now)

    def overtaken(self, attempt: Attempt[T], now: float) -> bool:
        """Another attempt of this call won.  Returns whether this one is to run on: a trial that is not judged yet.

        One that was late by its provider's own measure failed by that.
        """
        if attempt.released:
            return False
        runs_on, late = self.pool.overtaken(attempt, _OVERTAKEN, now)
        outcome: AttemptOutcome = "error" if late else "cancelled"
        self._record(attempt, now, outcome, _OVERTAKEN if late else None, None)
        self._ended(now)
        return runs_on

    def expired(self, attempt: Attempt[T], fault: Fault, now: float, silence: float = 0.0) -> None:
        """The call's own deadline ended this attempt; ``silence`` is how long its stream had been silent.  That judges
        nobody, unless the provider was late by its own measure: a stream that was merely long is no fault of it."""
        if attempt.released:
            return
        self.pool.expired(attempt, fault, silence, now)
        self.last_fault = fault
        if self._phase is Phase.RUNNING:
            self._record(attempt, now, "error", fault, None)
            self._ended(now)

    # --- internals: going on ---

    def _begun(self, attempt: Attempt[T]) -> Attempt[T]:
        self._phase, past = _LEASED[self._phase], self.past
        self._running.append(attempt)
        if past.number > 1 or past.again:
            self._hoped = self._hoped or past.last_hope
            self._insisted += past.insists
            past.place, past.last_hope, past.insists = None, False, False
            if not attempt.trial:
                self._down_since = None
            if attempt.kind != "hedge":
                attempt.delay = attempt.started - self._idle_since
                self._retries += attempt.member.id in past.tried
        past.number += 1
        past.tried.setdefault(attempt.member.id, 0)
        return attempt

    def _wait_or_give_up(self, found: Refused, now: float) -> Wait:
        """Nobody can be asked now: a pause before the same one again, a place in line, or the end."""
        if found.again:
            if found.budget is not None:
                return self._pause(min(found.budget, _BUDGET_PAUSE), "budget", now)
            return self._pause(max(self._backoff(found, now), found.not_before - now), "backoff", now)
        self.past.place = found.place
        if found.place is None:
            raise self._nobody(found, now)
        self.past.again = True
        seconds = found.seconds
        if found.down:
            seconds = min(seconds, self._down_left(found, now))
        else:
            self._down_since = None
            insists = insists_at(self.ask, self.started, self.deadline, self._insisted)
            if found.guessed and insists > now:
                seconds = min(seconds, max(insists - now, _SHORTEST_PAUSE))
        seconds = min(seconds, self.deadline - now)
        self._phase = TRANSITIONS[self._phase, Step.TOLD_TO_WAIT]
        return Wait(seconds, "down" if found.down else waits_for(found), found.place)

    def _down_left(self, found: Refused, now: float) -> float:
        """Seconds to go on waiting behind an outage of everybody."""
        since = self._down_since = now if self._down_since is None else self._down_since
        left = since + self.pool.policies.retry.max_down_wait - now
        if left <= 0.0 or self.ask.when_down == "fail":
            self._leave(now)
            raise self._nobody(found, now)
        hope = hope_at(since, self.pool.policies.retry.max_down_wait, self.deadline) - now
        return min(left, hope) if hope > 0.0 and not self._hoped else left

    def _backoff(self, found: Refused, now: float) -> float:
        """As the vendors' SDKs pause; the last try waits longer where nobody was answered meanwhile, for an outage that
        lasts longer than two tries needs one after it."""
        retry = self.pool.policies.retry
        pause = backoff(retry, self._retries, self.pool.draw())
        last = min(self.past.tried.values(), default=0) >= retry.max_attempts_per_provider - 1
        if last and found.run > 1:
            pause = max(pause, min(_LAST_TRY, (self.deadline - now) / 4.0))
        return pause

    def _pause(self, seconds: float, reason: str, now: float) -> Wait:
        """A pause, if an attempt can still follow it; a shorter one where the deadline is near."""
        longest = self.deadline - now - self._least() - _SHORTEST_PAUSE
        if longest <= _SHORTEST_PAUSE:
            raise self._too_late(now)
        seconds = min(max(seconds, _SHORTEST_PAUSE), longest)
        self._phase = TRANSITIONS[self._phase, Step.TOLD_TO_WAIT]
        self.past.again, self.past.place = True, None
        self._wait_over = now + seconds
        return Wait(seconds, reason)

    def _leave(self, now: float) -> None:
        place, self.past.place = self.past.place, None
        if place is not None:
            self.pool.leave(place, now)

    def _stop(self, now: float) -> None:
        self._leave(now)
        self._phase = Phase.OVER

    def _ended(self, now: float) -> None:
        if not self._running and self._phase is Phase.RUNNING:
            self._phase = TRANSITIONS[self._phase, Step.ENDED]
            self._idle_since = now

    def _record(
        self, attempt: Attempt[T], now: float, outcome: AttemptOutcome, fault: Fault | None, status: int | None
    ) -> None:
        if attempt in self._running:
            self._running.remove(attempt)
        provider, took, records = attempt.member, now - attempt.started, self.records
        model, delay, kind = getattr(provider.target, "model", ""), attempt.delay, attempt.kind
        # Positional: this runs for every attempt.
        record = AttemptRecord(attempt.number, provider.id, model, kind, outcome, fault, status, took, delay)
        records.append(record)
        if len(records) > 1 and records[-2].number > record.number:
            records.sort(key=lambda one: one.number)  # by number: a rescue ended before what it was to rescue
        if self.pool.listening:
            self.pool.note(events.AttemptEnded(now, provider.id, self.number, record))

    def _least(self) -> float:
        """Seconds that must be left for another attempt to make sense."""
        return min(_MIN_REMAINING, (self.deadline - self.started) / 4)

    # --- internals: the end ---

    def _give_up_if_over(self, now: float) -> None:
        if self._onward is Onward.NOWHERE:
            raise self._error(RequestRejected, "the provider rejected the request", now)
        total = self.past.number - 1
        if self.deadline - now <= (self._least() if total else 0.0):
            raise self._too_late(now)
        if self.past.counted >= self.pool.policies.retry.max_attempts:
            raise self._error(AllAttemptsFailed, f"{times(total)} failed", now)
        if total and not self.ask.repeatable and self._may_have_run():
            raise self._error(AllAttemptsFailed, "the request may have taken effect and must not be repeated", now)

    def _may_have_run(self) -> bool:
        return any(may_have_run(record.fault) for record in self.records if record.fault is not None)

    def _nobody(self, found: Refused, now: float) -> CallFailed:
        """The error for a call nobody can take."""
        self._phase = Phase.OVER
        route = [target.id for target in self.pool.targets(self.ask.route)]
        excluded = {*self.ask.unsuitable, *(provider for provider, count in self.past.tried.items() if count >= BARRED)}
        too_long = self._onward is Onward.LARGER and all(provider in excluded for provider in route)
        records, fault = tuple(self.records), self.last_fault
        return nobody(self.ask, found, self.past, now, records=records, fault=fault, too_long=too_long)

    def _too_late(self, now: float) -> CallFailed:
        return self._error(DeadlineExceeded, f"no answer within {self.deadline - self.started:.3g} s", now)

    def _error(self, kind: type[CallFailed], message: str, now: float) -> CallFailed:
        self._stop(now)
        fault = self.last_fault
        told = None if fault is None else fault.retry_after
        retry_after = self.pool.opens_in(self.ask, now) if told is None and kind is not RequestRejected else told
        return kind(message, tuple(self.records), retry_after, fault)
