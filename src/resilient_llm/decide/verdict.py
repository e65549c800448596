"""What the end of an attempt means for its provider: breaker, gates, statistics."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeGuard

from resilient_llm import events
from resilient_llm.decide.attempt import Attempt
from resilient_llm.decide.breaker import CLOSED, RELAPSE, Cause, State
from resilient_llm.decide.gate import MIN_WAIT
from resilient_llm.decide.member import Member, T
from resilient_llm.decide.outcome import OK, Outcome, disposition
from resilient_llm.decide.patience import LATE_TIMER, Standstill, longest_pause, open_pause
from resilient_llm.decide.streams import most_stopped, silent_for, went_on
from resilient_llm.decide.turned_away import by_chance, turned_away
from resilient_llm.faults import Fault, FaultKind

_SOFT = State.SOFTLY_OPEN
_CROWDED = frozenset({FaultKind.OVERLOADED, FaultKind.TIMEOUT})  # unless it seems to hang
_LOOK = 0.25  # seconds from one look at the open streams to the next
_UNTOLD = 1.0  # seconds of a wait that nobody told
_UNCONNECTED = 1.0  # seconds after which a connection that was not made cost its caller time, as silence does
_SURELY_LATE = 10.0  # seconds of silence that are a failure of anybody
LOCAL_WINDOW = 5.0
"""Seconds within which connection failures at *all* providers mean: it is us."""


class Verdicts(Generic[T]):
    """Judges attempts.  Not locked: the pool's lock is held by whoever calls."""

    def __init__(self, members: Mapping[str, Member[T]], draw: Callable[[], float]) -> None:
        self.members = members
        self._draw = draw
        self.listening: bool = False
        """Whether what did not happen is told, too."""
        self.events: deque[events.Event] = deque()
        self.standstill: Standstill = Standstill()
        self._look_at: float = -math.inf

    # --- signs of life ---

    def first_content(self, attempt: Attempt[T], now: float) -> None:
        """A stream began."""
        member, seen = attempt.member, attempt.member.statistics
        if self._spoke(attempt, now):
            ratio = seen.first_token(now, now - attempt.started, attempt.ask.tokens, calm=attempt.calm)
            if seen.slowness.slow or member.breaker.state is not CLOSED:
                self._judge_latency(attempt, ratio, now)

    def answered(self, attempt: Attempt[T], output_tokens: int, now: float) -> None:
        """An answer is complete, which is proof of more than its provider's health."""
        member, spoke_at, started = attempt.member, attempt.content_at, attempt.started
        seen, key = member.statistics, attempt.key
        member.answered_start = started if started > member.answered_start else member.answered_start
        if spoke_at is not None:
            seen.stream_ended(now - started, now - spoke_at, output_tokens)
            if attempt.pause:
                seen.pauses.add(attempt.pause)
        elif self._spoke(attempt, now):
            tokens, calm = attempt.ask.tokens, attempt.calm
            ratio = seen.whole_answer(now, now - started, tokens, output_tokens, calm=calm)
            if seen.slowness.slow or member.breaker.state is not CLOSED:
                self._judge_latency(attempt, ratio, now)
        if key.gate.strikes:
            key.gate.succeeded(started)
        if key.pace.row or started < key.pace.waits_until:
            self._let_through(attempt, now)
        if attempt.contradicts:
            key.pace.tried(now, refused=False)
        if attempt.presumed == member.breaker.since:
            self._void(member, now)
        if member.own_gate.row:
            member.own_gate.answered(started, now)
        if key.slow.row and key.slow.answered(started, now):
            attempt.opened_account = True
        if now < member.heard.until:
            member.heard.answered(started, now)

    def _spoke(self, attempt: Attempt[T], now: float) -> bool:
        """The first sign of life, or the success that contains it.  Returns whether how long it took is evidence: not
        where this process stood still meanwhile."""
        member, started = attempt.member, attempt.started
        attempt.content_at = member.heard_at = now
        member.pending.pop(attempt, None)
        member.good_start = started if started > member.good_start else member.good_start
        member.line.latest_first = False
        breaker = member.breaker
        silent = breaker.state is _SOFT and breaker.cause is Cause.SILENT
        if silent and attempt.generation < breaker.generation:
            self._void(member, now)
        due = attempt.rescue_after or attempt.timeout
        return not self.standstill.notice(now, started) and now - started <= due + LATE_TIMER

    def _judge_latency(self, attempt: Attempt[T], ratio: float, now: float) -> None:
        """Judge an attempt by how many times as long as usual it took to its first sign of life."""
        member = attempt.member
        breaker, slowness = member.breaker, member.slowness
        if breaker.state is CLOSED:
            current = slowness.slow and attempt.generation == breaker.generation
            if current and breaker.suspected(Cause.SLOW, now, self._draw()):
                self.changed(member, CLOSED, now)
                attempt.judged, attempt.generation = True, breaker.generation  # slow, and yet an answer
        elif not breaker.ends_late:
            # What has been slow for minutes is slow for good, and no reason to stay away any more.
            slow = breaker.cause is Cause.SLOW and now - breaker.since < RELAPSE and slowness.clearly(ratio)
            self.judge(attempt, Outcome.SOFT if slow else OK, now)

    def judge(self, attempt: Attempt[T], outcome: Outcome, now: float) -> None:
        """Tell the breaker once, unless the attempt began before its last change of state, or its stream had failed
        before it ended."""
        member = attempt.member
        breaker = member.breaker
        if attempt.stopped:
            return
        if attempt.generation != breaker.generation:
            if outcome is not OK or not attempt.judged:
                self.not_taken(member, "verdict", "stale", now)
            return
        if attempt.judged and outcome is OK:
            breaker.run = 0
            return
        before = breaker.state
        attempt.judged = True
        if member.trial is attempt:
            member.trial = None
        if outcome is OK:
            changed = breaker.succeeded(now)
        else:
            spoken = attempt.content_at is not None and attempt.content_at < now
            changed = breaker.failed(now, outcome, self._draw(), started=attempt.started, after_content=spoken)
        if changed:
            self.changed(member, before, now)
        # It has passed and runs on: if it breaks later, that counts under the new state.
        attempt.generation = breaker.generation

    # --- ends ---

    def ended(self, attempt: Attempt[T], outcome: Outcome, now: float) -> None:
        """The lease is over: count the outcome, and give the place back."""
        member = attempt.member
        if attempt.content_at is None:
            member.pending.pop(attempt, None)
            if not attempt.waits_for_key:
                member.slowness.stayed_silent(now - attempt.started, now)
        if member.trial is attempt:
            member.trial = None
        if attempt.slow_lease:
            member.own_gate.released()
            attempt.key.slow.released()
        if outcome is OK or outcome is Outcome.HARD or outcome is Outcome.SOFT:
            self.judge(attempt, outcome, now)
            if not attempt.stopped:
                member.statistics.judge(now, outcome)

    def failed(self, attempt: Attempt[T], fault: Fault, now: float) -> Outcome:
        """What a failure says of its provider; nothing if it is a timer that this process, standing still, reports
        late."""
        outcome = self.outcome(attempt, fault, now)
        timer = fault.kind is FaultKind.TIMEOUT and attempt.content_at is None
        if timer and now - attempt.started > attempt.timeout + LATE_TIMER:
            self.not_taken(attempt.member, "verdict", "late", now)
            return Outcome.NEUTRAL
        return outcome

    def expired(self, attempt: Attempt[T], fault: Fault, silence: float, now: float) -> Outcome:
        """What it says of a provider that the call's own deadline ended an attempt: nothing, unless it was late or slow
        by its own measure, or its stream was silent for longer than it usually pauses."""
        stopped = attempt.content_at is not None and silence >= longest_pause(attempt.member.statistics)
        if now > attempt.ask.deadline + LATE_TIMER:
            return Outcome.NEUTRAL
        if stopped or attempt.late(now):
            return self.outcome(attempt, fault, now)
        return Outcome.SOFT if attempt.slow(now) else Outcome.NEUTRAL

    def overtaken(self, attempt: Attempt[T], fault: Fault, now: float) -> Outcome:
        """What it says of a provider that another one answered first: that it was late, or at least that it would have
        taken so long."""
        if attempt.late(now):
            return self.outcome(attempt, fault, now)
        if attempt.ask.streaming and attempt.content_at is None and not attempt.waits_for_key:
            attempt.member.statistics.overtaken(now, now - attempt.started, attempt.ask.tokens)
        return Outcome.NEUTRAL

    def outcome(self, attempt: Attempt[T], fault: Fault, now: float) -> Outcome:
        """What a failure says of its provider.  Nothing, if every provider refuses connections at the same time, for
        then it is our own network."""
        found = disposition(fault).outcome
        breaker = attempt.member.breaker
        connected = fault.code != "not_sent"
        unheard = fault.kind is FaultKind.TIMEOUT or (not connected and now - attempt.started >= _UNCONNECTED)
        breaker.timed_out = unheard and attempt.content_at is None
        breaker.crowded = (
            connected and fault.kind in _CROWDED and (not breaker.timed_out or attempt.member.statistics.slower)
        )
        if found is Outcome.HARD and not connected:
            attempt.member.connect_failed_at = now
            if our_network(self.members.values(), now):
                return Outcome.NEUTRAL
        elif fault.status is not None:  # it can be reached
            attempt.member.connect_failed_at = -math.inf
        if found is Outcome.DISABLED and by_chance(attempt, fault, now):
            attempt.by_chance = True
            return Outcome.HARD
        if found is Outcome.HARD and breaker.timed_out and connected and not attempt.known:
            # Not known well enough to be sure: half a failure, and none for one that was asked at the last moment.
            if attempt.kind == "hedge":
                return Outcome.NEUTRAL
            return found if now - attempt.started >= _SURELY_LATE else Outcome.SOFT
        return found

    def close_gates(self, attempt: Attempt[T], fault: Fault, now: float) -> None:
        """Obey a rate limit, an exhausted quota or a refused key.  Where a provider failed, its limit let the call
        through."""
        key, outcome = attempt.key, disposition(fault).outcome
        if outcome is Outcome.HARD and fault.kind is not FaultKind.TIMEOUT and fault.code != "not_sent":
            key.gate.succeeded(attempt.started)
            self._let_through(attempt, now, answered=False)
            return
        if outcome is Outcome.DISABLED:
            closed = turned_away(attempt, fault, self._draw(), now)
            if closed is not None:
                self.events.append(closed)
            return
        if outcome is Outcome.GATED:
            self._limited(attempt, fault, now)
        elif outcome is Outcome.SOFT and fault.retry_after is not None:
            self._close_gate(attempt, fault, 1.0, now)

    def _limited(self, attempt: Attempt[T], fault: Fault, now: float) -> None:
        """A rate limit was met; or it is chance, and only the call that was refused waits."""
        pace, hint, pause = attempt.key.pace, fault.retry_after, attempt.key.pace.pause
        told = hint is not None and not math.isnan(hint)
        wait = max(hint, MIN_WAIT) if hint is not None and told else _UNTOLD
        explained = pace.explains(attempt.need, now)
        if attempt.insists and explained:
            pace.tried(now, refused=True)
        attempt.refused_alone = pace.refused(attempt.sent, now + wait, now, explained=explained)
        if hint is not None and told and (attempt.refused_alone or (len(attempt.member.keys) == 1 and not explained)):
            attempt.not_before = now + hint  # where the gate may open sooner for others
        if not attempt.refused_alone and (told or not attempt.insists):
            until = self._close_gate(attempt, fault, pause, now)
            opens = min(until, attempt.key.gate.soonest)
            pace.shut(attempt.sent, opens, now, explained=explained, proves=not attempt.insists)

    def _close_gate(self, attempt: Attempt[T], fault: Fault, pause: float, now: float) -> float:
        key, kind, began = attempt.key, str(fault.kind), attempt.started
        until = key.gate.close(now, fault.retry_after, self._draw(), kind, pause=pause, started=began)
        self.events.append(events.GateClosed(now, attempt.member.id, until - now, kind, slow=False, key=key.terms.name))
        return until

    def _let_through(self, attempt: Attempt[T], now: float, *, answered: bool = True) -> None:
        """A rate limit let a call through."""
        key = attempt.key
        if key.pace.let_through(attempt.sent, now, answered=answered):
            key.gate.reopen()

    def not_taken(self, member: Member[T], what: str, reason: str, now: float) -> None:
        """Tell of what was due and not done, if anybody listens."""
        if self.listening:
            self.events.append(events.NotTaken(now, member.id, what, reason))

    def silent(self, member: Member[T], since: float, now: float) -> None:
        """An attempt is late after so many seconds: open softly if nothing at all was heard of its provider for as
        long, or it has a long queue."""
        breaker = member.breaker
        cause = Cause.SILENT if member.silent(since, now) else Cause.SLOW
        if cause is Cause.SILENT:
            breaker.fell_silent(now, since)
        if member.queueing and breaker.suspected(cause, now, self._draw()):
            self.changed(member, CLOSED, now)

    def look(self, now: float) -> None:
        """A call comes: look at the open streams of the others, four times a second at most."""
        if now < self._look_at:
            return
        self._look_at = now + _LOOK
        if not self.standstill.notice(now, now - _LOOK):
            for member in self.members.values():
                if member.held:
                    self._look_at_streams(member, now)

    def _look_at_streams(self, member: Member[T], now: float) -> None:
        """Where most streams stopped the next calls go elsewhere, or all calls of a whole deadline would be lost before
        the first of them ends; one that goes on makes that void.  Where others go on, each that stopped has failed."""
        breaker = member.breaker
        streams = [one for one in member.held if self._is_attempt(one)]
        if breaker.state is not CLOSED:
            if went_on(streams, breaker.since):
                self._void(member, now)
            return
        pause = open_pause(member.statistics)
        stopped = most_stopped(streams, member.answered_start, pause, now)
        if stopped and breaker.suspected(Cause.STALLED, now, self._draw()):
            for one in stopped:
                one.presumed = now
            self.changed(member, CLOSED, now)
            return
        for one in silent_for(streams, 2.0 * pause, now):
            if not one.stopped:
                self.judge(one, Outcome.HARD, now)
                member.statistics.judge(now, Outcome.HARD)
                one.stopped = True

    def _void(self, member: Member[T], now: float) -> None:
        """What was presumed to be silent or stalled speaks, so that the presumption is void."""
        if member.breaker.spoke(now):
            self.changed(member, State.SOFTLY_OPEN, now)

    def _is_attempt(self, held: object) -> TypeGuard[Attempt[T]]:
        return isinstance(held, Attempt)

    def changed(self, member: Member[T], before: State, now: float) -> None:
        """Tell of a change of state, if there was one."""
        breaker = member.breaker
        if breaker.state is before or self.members.get(member.id) is not member:
            return  # a removed provider must not speak for one that has its id now
        member.slowness.over()
        closed = breaker.state is CLOSED or breaker.state is State.ISOLATED
        open_for = 0.0 if closed else max(0.0, breaker.trial_at - now)
        self.events.append(
            events.BreakerChanged(now, member.id, str(before), str(breaker.state), breaker.reason, open_for)
        )


def our_network(members: Iterable[Member[T]], now: float) -> bool:
    """Whether every provider failed to connect just now, and no call begun since was answered."""
    failed = [(one.connect_failed_at, one.good_start) for one in members]
    return len(failed) > 1 and all(now - at <= LOCAL_WINDOW and at > began for at, began in failed)
