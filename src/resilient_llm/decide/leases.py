"""Who gets which lease: the choice of a provider for a call, and who waits.

A call asks, in this order: a provider that is well and that it has not tried (a due trial goes before it or beside it);
one that is softly open; one it has tried before; and, as the last resort, one that is down, at most once a second.
Whom none of these can serve stands in line.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Generic, NamedTuple

from resilient_llm import events
from resilient_llm.decide.attempt import Ask, Attempt
from resilient_llm.decide.breaker import CLOSED, LAST_RESORT, Cause, State
from resilient_llm.decide.budget import Budget
from resilient_llm.decide.choose import at_home, cheapest, choose, least_bad, stalest
from resilient_llm.decide.line import Place
from resilient_llm.decide.member import Member, Refusal, T
from resilient_llm.decide.patience import LATE_TIMER, Wanted, patience, trial_patience, usual
from resilient_llm.decide.routes import Table
from resilient_llm.decide.verdict import Verdicts
from resilient_llm.policy import Policies

BARRED: Final = 1_000_000
"""As a number of attempts: this call must not ask that provider again."""
_SLOW_LEASE = 60.0
_TRIAL_CAP, _TRIAL_START, _TRIAL_KEEP = 10.0, 3.0, 2.0  # rescues leave two tokens for trials
_PACE = 10.0  # calls a second from which on trials may cost no more than their share of traffic
_EARLIER = 0.001  # seconds a timer must be set forward by to be worth a wake


class Past(NamedTuple):
    """What a call has done so far.  ``number``: of its next attempt; ``order``: of the call, for the line; ``tried``:
    attempts that count, by provider; ``cost`` of a second try after its last failure; ``again``: its pause is over, so
    that it may ask the same provider again; ``place``: where it waits."""

    number: int
    order: int
    tried: Mapping[str, int]
    cost: float = 0.0
    again: bool = False
    place: Place | None = None
    last_hope: bool = False


@dataclass(slots=True)
class Refused:
    """Nobody can be asked now: why not, per provider.

    ``again``: somebody can be asked once more after a pause, whose breaker counts so many failures in a row as ``run``.
    ``place``: the call stands in line and is woken, at the latest after ``seconds``; ``None``: there is nobody to wait
    for.  ``down``: everybody waited for is down.  ``retry_at``: the earliest time at which trying again makes sense, in
    the providers' own words where they gave any (``None``: unknown).
    """

    reasons: dict[str, Refusal]
    retry_at: float | None
    again: bool = False
    run: int = 0
    place: Place | None = None
    seconds: float = math.inf
    down: bool = False
    short_of_budget: bool = False


class Leases(Generic[T]):
    """Gives leases.  Not locked: the pool's lock is held by whoever calls."""

    def __init__(
        self, table: Table[T], policies: Policies, draw: Callable[[], float], conversations: Mapping[str, str]
    ) -> None:
        self._table = table
        self._policies = policies
        self._draw = draw
        self._conversations = conversations
        self._last_call_at: float | None = None
        self.verdicts: Verdicts[T] = Verdicts(draw)
        self.verdicts.members = table.members
        self.woken: deque[Place] = deque()
        """Whom to wake once the lock is free."""
        self._fill_budgets()

    def _fill_budgets(self) -> None:
        """The allowance of a process that has earned nothing yet."""
        budget = self._policies.retry.budget
        self.extra: Budget = Budget(budget, budget, 1.0)
        self.trials: Budget = Budget(_TRIAL_CAP, _TRIAL_START, 0.0)

    # --- acquiring ---

    def acquire(self, ask: Ask, past: Past, now: float) -> Attempt[T] | Refused:
        """A lease, or a place in line, or neither."""
        place = past.place
        if place is not None:
            place.woken = False
        elif past.number == 1:
            self._call_began(now)
        attempt = self._first_choice(ask, past, now) or self._second_choice(ask, past, now)
        if isinstance(attempt, Attempt):
            if place is not None:
                self.leave(place, now)
            return attempt
        return self._refused(ask, past, now, attempt)

    def _call_began(self, now: float) -> None:
        """Credit a call to what traffic earns: trials and rescues may be a share of it, and at low rates as many as at
        ten calls a second."""
        last, self._last_call_at = self._last_call_at, now
        trials = self.trials
        if trials.tokens < trials.cap:
            ratio = self._policies.hedge.ratio
            floor = ratio * _PACE * (now - last) if last is not None else 0.0
            trials.earn(floor if floor > ratio else ratio)

    def _first_choice(self, ask: Ask, past: Past, now: float) -> Attempt[T] | None:
        """The first tier with somebody well whom this call has not tried."""
        tiers = self._table.routes.get(ask.route, ())
        tried = past.tried
        due: Member[T] | None = None
        for tier in tiers:
            ready: list[Member[T]] = []
            for member in tier:
                if (ask.unsuitable and member.id in ask.unsuitable) or (tried and member.id in tried):
                    continue
                state = member.breaker.state
                if state is not CLOSED:
                    if due is None and member.open and member.trial_due(now) and self._admits(member, ask, past, now):
                        due = member
                elif self._admits(member, ask, past, now):
                    ready.append(member)
            if ready:
                if due is not None and past.number == 1 and ask.repeatable and self._may_try(due):
                    return self._lease(ask, past, due, "trial", now)
                return self._pick(ask, past, ready, now)
        return None

    def _admits(self, member: Member[T], ask: Ask, past: Past, now: float) -> bool:
        """Whether nothing but its breaker keeps this call from a provider, and nobody waits before it."""
        line, place = member.line, past.place
        if len(line) and not (past.last_hope or line.may_pass(past.order, place, now)):
            return False
        if place is not None and place.offer is line:  # what was offered is kept for it
            line.offers -= 1
            place.offer = None
        return member.refusal(ask.tokens, ask.deadline, now) is None

    def _may_try(self, member: Member[T]) -> bool:
        """Whether a call may be spent on a trial.  The confirming ones are free: a budget that had to be earned twice
        would double the time to recovery."""
        return member.breaker.passed > 0 or self.trials.spend()

    def _pick(self, ask: Ask, past: Past, ready: list[Member[T]], now: float) -> Attempt[T]:
        """One of some equals: where the conversation is, who has not been heard of for long, or the better of two
        draws."""
        kind = "initial" if past.number == 1 else "failover"
        if len(ready) == 1:
            return self._lease(ask, past, ready[0], kind, now)
        if ask.conversation is not None:
            home = self._conversations.get(ask.conversation)
            found = at_home(ready, home, self._policies.advanced.stickiness, now)
            if found is not None:
                return self._lease(ask, past, found, kind, now)
        if past.number == 1 and ask.repeatable:
            stale = stalest(ready, now)
            if stale is not None and self.trials.spend():
                return self._lease(ask, past, stale, "trial", now)
        return self._lease(ask, past, choose(ready, now, self._draw), kind, now)

    def _second_choice(self, ask: Ask, past: Past, now: float) -> Attempt[T] | bool:
        """Nobody is well: somebody half broken, somebody again, or somebody that is down.  Otherwise whether it is for
        want of budget."""
        fresh, again, down = self._half_broken(ask, past, now)
        candidates = fresh or again
        if not candidates:
            return self._last_resort(ask, past, down, now) or False
        if not fresh and not past.again:
            return False
        if past.cost and not self._pay(past.cost, now):
            return True
        if past.number == 1 and ask.repeatable:
            for member in down:
                if member.trial_due(now) and self._may_try(member):
                    return self._lease(ask, past, member, "trial", now)
        well = [member for member in candidates if member.breaker.state is CLOSED]
        chosen = (well or [least_bad(candidates, now)])[0]
        kind = "initial" if past.number == 1 else ("retry" if chosen.id in past.tried else "failover")
        return self._lease(ask, past, chosen, kind, now)

    def _half_broken(
        self, ask: Ask, past: Past, now: float
    ) -> tuple[list[Member[T]], list[Member[T]], list[Member[T]]]:
        """Who may be asked though nobody well and untried is left: not tried yet, tried before, down (the one not tried
        for longest first, and those last that give no sign of life, as they cost time)."""
        fresh: list[Member[T]] = []
        again: list[Member[T]] = []
        down: list[Member[T]] = []
        for member in self._table.order(ask.route):
            count = past.tried.get(member.id, -1)
            excluded = member.id in ask.unsuitable or count >= self._policies.retry.max_attempts_per_provider
            if excluded or member.breaker.state is State.ISOLATED:
                continue
            if not self._admits(member, ask, past, now):
                continue
            if member.breaker.down:
                down.append(member)
            else:
                (fresh if count < 0 else again).append(member)
        down.sort(key=lambda member: (member.breaker.cause is Cause.SILENT, member.breaker.tried_at))
        return fresh, again, down

    def _pay(self, cost: float, now: float) -> bool:
        self.extra.advance(now)
        return self.extra.spend(cost)

    def _last_resort(self, ask: Ask, past: Past, down: list[Member[T]], now: float) -> Attempt[T] | None:
        """One that is down, or refused our key without saying for how long: about one attempt a second each, and one for
        each call that would else be given up without any."""
        kind = "trial" if ask.repeatable else "initial"
        for member in down:
            if past.last_hope or now >= member.next_trial():
                wait = member.breaker.last_resort_wait(now)
                for other in down:
                    other.resort_at = now + wait
                return self._lease(ask, past, member, kind, now)
        for member in self._table.order(ask.route):
            if member.id in ask.unsuitable or past.tried.get(member.id, 0) >= BARRED or member.breaker.down:
                continue
            refused = member.refusal(ask.tokens, ask.deadline, now) is Refusal.QUOTA
            if refused and not member.slow_gate.stated and now - member.breaker.tried_at >= LAST_RESORT:
                return self._lease(ask, past, member, kind, now)
        return None

    # --- leasing ---

    def _lease(self, ask: Ask, past: Past, member: Member[T], kind: str, now: float) -> Attempt[T]:
        attempt = Attempt(ask, member, kind, past.number, now)
        breaker = member.breaker
        rivals = self._rivals(ask, past, member)
        wanted = Wanted(ask.streaming, ask.tokens, ask.max_tokens, ask.deadline - now, ask.repeatable, rivals)
        if kind == "trial":
            found = trial_patience(self._policies, member.statistics, wanted, together=breaker.together)
            member.trial, member.trial_ends = attempt, now + found.timeout
        else:
            found = patience(self._policies, member.statistics, wanted)
        attempt.late_after, attempt.known, attempt.rescue_after, attempt.timeout = found
        if breaker.state is not CLOSED or kind == "trial":
            breaker.trial_began(now)
        if member.own_gate.strikes or member.account_gate.strikes:
            attempt.slow_lease = True
            member.own_gate.admitted(now, _SLOW_LEASE)
            member.account_gate.admitted(now, _SLOW_LEASE)
            breaker.trial_began(now)
        member.held.add(attempt)
        member.pending[attempt] = now
        if self.verdicts.listening:
            self.verdicts.events.append(events.AttemptStarted(now, member.id, past.order, past.number, kind))
        return attempt

    def _rivals(self, ask: Ask, past: Past, member: Member[T]) -> tuple[float, ...]:
        """How long each other provider usually takes that could come to the rescue (0: unknown, or it is down)."""
        most = self._policies.retry.max_attempts_per_provider
        return tuple(
            0.0 if other.breaker.down else usual(other.statistics, ask.tokens, streaming=ask.streaming)
            for other in self._table.order(ask.route)
            if other is not member
            and other.id not in ask.unsuitable
            and other.breaker.state is not State.ISOLATED
            and past.tried.get(other.id, 0) < most
            and not other.drained
        )

    # --- rescuing ---

    def rescue(self, beside: Attempt[T], past: Past, now: float) -> Attempt[T] | None:
        """A second attempt beside one that is silent, elsewhere, or at the same provider if there is no other."""
        elapsed, due = now - beside.started, beside.rescue_after
        if beside.released or beside.content_at is not None or due is None:
            beside.rescue_after = None
            return None
        if elapsed > due + LATE_TIMER and due > 0.0:  # this process stood still: its silence proves nothing
            beside.rescue_after, beside.late_after = elapsed + due, beside.late_after + elapsed
            return None
        member = beside.member
        half = (beside.ask.deadline - beside.started) / 2.0
        if beside.late(now) or elapsed >= half - _EARLIER:
            self.verdicts.silent(member, now)
        others = self._others(beside, past, now)
        chosen = self._rescuer([m for m in others if self._admits(m, beside.ask, past, now)], past, now)
        if chosen is None:
            if others:  # down and tried just now, or asked us to wait
                opens = min(_opens(m, beside.ask, now) for m in others) - beside.started
                beside.rescue_after = _sooner(max(opens, elapsed + LAST_RESORT / 4.0), beside.timeout)
                return None
            if elapsed < half - _EARLIER:  # slow rather than hung, it would be asked twice for nothing
                beside.rescue_after = _sooner(half, beside.timeout)
                return None
            if beside.kind == "hedge" or not self._admits(member, beside.ask, past, now):
                beside.rescue_after = _sooner(elapsed + LAST_RESORT / 2.0, beside.timeout)
                return None
        if not self._pay_for_rescue(beside, chosen, elapsed, now):
            if self.verdicts.listening:
                self.verdicts.events.append(events.NotTaken(now, member.id, "hedge", "budget"))
            beside.rescue_after = _next_rescue(beside, elapsed)
            return None
        beside.rescue_after = None
        found = self._lease(beside.ask, past, chosen or member, "hedge", now)
        if chosen is None:
            found.fresh, found.rescue_after = True, None
        return found

    def _others(self, beside: Attempt[T], past: Past, now: float) -> list[Member[T]]:
        """Who could come to the rescue at all."""
        ask, most = beside.ask, self._policies.retry.max_attempts_per_provider
        return [
            member
            for member in self._table.order(ask.route)
            if member is not beside.member
            and member.id not in ask.unsuitable
            and past.tried.get(member.id, 0) < most
            and member.breaker.state is not State.ISOLATED
            and (self._admits(member, ask, past, now) or _opens(member, ask, now) <= ask.deadline)
        ]

    def _rescuer(self, others: list[Member[T]], past: Past, now: float) -> Member[T] | None:
        """Who comes: somebody well whom the call has not tried, somebody that answers some calls, somebody that is down
        and due for a trial."""
        well = [member for member in others if member.breaker.state is CLOSED and member.id not in past.tried]
        if well:
            return cheapest(well, now)
        some = [member for member in others if not member.breaker.down]
        if some:
            return least_bad(some, now)
        due = [member for member in others if now >= member.next_trial()]
        return due[0] if due else None

    def _pay_for_rescue(self, beside: Attempt[T], rescuer: Member[T] | None, elapsed: float, now: float) -> bool:
        """Beside a trial, and beside a provider whose breaker has opened since, somebody else is free: it is a failover
        that comes early.  Half-way to the deadline it may be paid like any second try."""
        lost = beside.trial or beside.member.breaker.state is not CLOSED
        if (lost and rescuer is not None) or self.trials.spend(1.0, _TRIAL_KEEP):
            return True
        return elapsed >= 0.999 * (beside.ask.deadline - beside.started) / 2.0 and self._pay(1.0, now)

    # --- waiting ---

    def _refused(self, ask: Ask, past: Past, now: float, short_of_budget: bool) -> Refused:
        """Why nobody can be asked, and a place in line where waiting helps."""
        most, retry = self._policies.retry.max_attempts_per_provider, self._policies.retry
        found = Refused({}, None, short_of_budget=short_of_budget)
        waited: list[tuple[Member[T], Refusal]] = []
        run, retry_at = [], math.inf
        for member in self._table.order(ask.route):
            count = past.tried.get(member.id, -1)
            refusal = self._why_not(ask, member, past, now)
            if refusal is not None:
                found.reasons[member.id] = refusal
                told = _told(member, refusal, ask, now)
                retry_at = min(retry_at, told)
                patient = told <= min(ask.deadline, now + retry.max_wait) or refusal in _ROOM
                if count < most and patient and refusal not in _NOT_WAITED_FOR:
                    waited.append((member, refusal))
            elif count < most:
                found.again = True
                run.append(member.breaker.run)
        found.retry_at = None if retry_at == math.inf else retry_at
        found.run = min(run, default=0)
        if not found.again:
            self._stand(ask, past, found, waited, now)
        elif past.place is not None:
            self.leave(past.place, now)
        if short_of_budget:
            found.seconds = self.extra.wait(past.cost)
        return found

    def _why_not(self, ask: Ask, member: Member[T], past: Past, now: float) -> Refusal | None:
        """Why a provider is not asked even as the last one left."""
        if member.id in ask.unsuitable:
            return Refusal.UNSUITABLE
        if member.breaker.state is State.ISOLATED:
            return Refusal.ISOLATED
        refusal = member.refusal(ask.tokens, ask.deadline, now)
        if refusal is None and member.breaker.down:
            return Refusal.DOWN
        return Refusal.LINE if refusal is None and not member.line.may_pass(past.order, past.place, now) else refusal

    def _stand(
        self, ask: Ask, past: Past, found: Refused, waited: list[tuple[Member[T], Refusal]], now: float
    ) -> None:
        """Stand in the line of everybody worth waiting for."""
        place = past.place or Place(past.order, ask.tokens, ask.deadline, now)
        room = [(m, r) for m, r in waited if len(m.line) < self._policies.limits.max_queue or m.line in place.lines]
        if not room:
            if past.place is not None:
                self.leave(past.place, now)
            return
        lines = tuple(member.line for member, _ in room)
        for line in place.lines:
            if line not in lines:
                line.remove(place)
        for line in lines:
            if line not in place.lines:
                line.join(place)
        place.lines = lines
        place.needs = min(m.statistics.median(ask.tokens, streaming=ask.streaming) for m, _ in room)
        opens = [m.opens_at(r, ask.tokens, ask.deadline, now) for m, r in room if m.line.first(now) is place]
        place.alarm = min(opens, default=math.inf)
        found.place, found.seconds = place, max(_EARLIER, place.alarm - now)
        found.down = all(refusal is Refusal.DOWN for _, refusal in room)

    def leave(self, place: Place, now: float) -> None:
        """A call leaves all lines it stands in."""
        lines, place.lines = place.lines, ()
        for line in lines:
            line.remove(place)
            member = self._table.members.get(line.provider)
            if member is not None and member.line is line:
                self.serve(member, now)

    def serve(self, member: Member[T], now: float) -> None:
        """Something changed at a provider: offer what is free to the first in its line, or see that it has a timer."""
        line = member.line
        if not len(line):
            return
        line.lapse(now)
        place = line.first(now)
        if place is None:
            return
        refusal = member.refusal(place.tokens, place.last, now)
        if refusal is None and member.breaker.down and now < member.next_trial():
            refusal = Refusal.DOWN
        if refusal is None:
            place.offer = line
            line.offers += 1
            self._wake(place, now)
            standby = line.standby(place)
            if standby is not None:
                self._wake(standby, now)
        elif member.opens_at(refusal, place.tokens, place.last, now) < place.alarm - _EARLIER:
            self._wake(place, now)

    def wake_all(self, now: float, *members: Member[T]) -> None:
        """Everybody in these lines is to look again."""
        for member in members:
            for place in member.line:
                self._wake(place, now)

    def _wake(self, place: Place, now: float) -> None:
        if not place.woken:
            place.woken, place.woken_at = True, now
            self.woken.append(place)

    def reset_after_fork(self) -> None:
        """In the child: see :meth:`Pool.reset_after_fork`."""
        self._fill_budgets()
        self.woken.clear()
        for member in self._table.members.values():
            member.reset_after_fork()


_ROOM: Final = frozenset({Refusal.FULL, Refusal.OPENING, Refusal.LINE})
_NOT_WAITED_FOR: Final = frozenset({Refusal.UNSUITABLE, Refusal.DRAINED, Refusal.ISOLATED})


def _told(member: Member[T], refusal: Refusal, ask: Ask, now: float) -> float:
    """When a refusal may end, in the provider's own words where it gave any."""
    if refusal is Refusal.GATED:
        return max(now, member.gate.told)
    return member.opens_at(refusal, ask.tokens, ask.deadline, now)


def _opens(member: Member[T], ask: Ask, now: float) -> float:
    """When a provider may be asked, should it be asked as the next one: ``inf`` if time alone does not bring it."""
    refusal = member.refusal(ask.tokens, ask.deadline, now)
    if refusal is None:
        return member.next_trial() if member.breaker.down else now
    return now if refusal in _ROOM else member.opens_at(refusal, ask.tokens, ask.deadline, now)


def _next_rescue(beside: Attempt[T], elapsed: float) -> float | None:
    """When to ask again for a rescue that could not be paid for: after twice as long, and when half of the time is
    gone."""
    elapsed = max(elapsed, 0.1)
    half = (beside.ask.deadline - beside.started) / 2.0
    return _sooner(half if elapsed < 0.999 * half < 2.0 * elapsed else 2.0 * elapsed, beside.timeout)


def _sooner(seconds: float, timeout: float) -> float | None:
    return seconds if seconds < timeout else None
