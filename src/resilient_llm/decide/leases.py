"""Who gets which lease.

A call asks, in this order: a provider that is well and that it has not tried (a due trial goes before it or beside it);
one that is softly open; one it has tried before; and, as the last resort, one that is down, about once a second.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final, Generic

from resilient_llm import events
from resilient_llm.decide.ask import Ask
from resilient_llm.decide.attempt import Attempt
from resilient_llm.decide.breaker import CLOSED, LAST_RESORT, State
from resilient_llm.decide.budget import Budget
from resilient_llm.decide.choose import at_home, breaks, cheapest, choose, least_bad, prices, soonest, stalest
from resilient_llm.decide.keys import LIMITED, Refusal
from resilient_llm.decide.line import Place
from resilient_llm.decide.member import Member, T
from resilient_llm.decide.patience import Patience, patience, trial_patience, usual
from resilient_llm.decide.routes import Table
from resilient_llm.decide.verdict import Verdicts
from resilient_llm.faults import AttemptKind
from resilient_llm.policy import Policies

BARRED: Final = 1_000_000
"""As a number of attempts: this call must not ask that provider again."""
_SLOW_LEASE = 60.0
_HEDGE_CAP, _TRIAL_CAP, _TRIAL_START = 10.0, 10.0, 3.0
SUCCESS_EARNS: Final = 3.0
"""Tokens that an answer earns: enough for all tries of an SDK at a provider that fails four fifths of its calls."""
_FLOOR = 0.03  # tokens a second: a thousand small clients must not storm a provider that has no room
_NEAR = 5.0  # seconds of toll more than the least that a provider may have to be tried for news
_DRAWN = 1.5  # times the least price: who costs no more is drawn often enough to be heard of
_ALONE = 10.0  # seconds without another call after which a batch has a provider to itself
_TO_ITS_END = 4.0  # times the first wait that a trial has at least which is judged at its end
_PACE = 4.0  # calls a second from which on trials may cost no more than their share of traffic


class Past:
    """What a call has done so far; its call alone writes it.

    ``number``: of its next attempt; ``order``: of the call, for the line; ``tried``: attempts that count, by
    provider; ``not_before``: when it may ask a member that refused it alone again; ``counted``: how many in all;
    ``cost`` of a second try after its last failure; ``again``: its pause is over, so that it may ask the same
    provider again; ``place``: where it waits; ``last_hope``: it waited long behind an outage and was never sent
    anywhere; ``insists``: it waited long for a limit that we only guess, and goes by what was said; ``other_key``:
    the provider that refused its last attempt's key and has another.
    """

    def __init__(self, order: int) -> None:
        self.number: int = 1
        self.order: int = order
        self.tried: dict[str, int] = {}
        self.not_before: dict[object, float] = {}
        self.counted: int = 0
        self.cost: float = 0.0
        self.again: bool = False
        self.place: Place | None = None
        self.last_hope: bool = False
        self.insists: bool = False
        self.other_key: str | None = None

    def may_ask_at(self, member: object) -> float:
        """When it may ask a provider again; one that was removed and comes back is another one."""
        return self.not_before.get(member, -math.inf)


class Leases(Generic[T]):
    """Gives leases.  Not locked: the pool's lock is held by whoever calls."""

    def __init__(
        self,
        table: Table[T],
        verdicts: Verdicts[T],
        policies: Policies,
        draw: Callable[[], float],
    ) -> None:
        self._table = table
        self._verdicts = verdicts
        self._policies = policies
        self.draw = draw
        self._most = policies.retry.max_attempts_per_provider
        self._last_call_at: float | None = None
        self._last_interactive_at: float = -math.inf
        self.fill_budgets()

    def govern(self, policies: Policies) -> None:
        """Go by these policies from now on; what is left of the budget is kept, as far as it fits."""
        self._policies = policies
        self._most = policies.retry.max_attempts_per_provider
        self.extra.cap = policies.retry.budget
        self.extra.earn(0.0)

    def fill_budgets(self) -> None:
        """The allowance of a process that has earned nothing yet."""
        budget = self._policies.retry.budget
        self.extra: Budget = Budget(budget, budget, _FLOOR)
        self.trials: Budget = Budget(_TRIAL_CAP, _TRIAL_START, 0.0)
        self.hedges: Budget = Budget(_HEDGE_CAP, 0.0, 0.0)

    # --- choosing ---

    def acquire(self, ask: Ask, past: Past, now: float) -> Attempt[T] | bool:
        """A lease; or whether it is refused for want of budget alone."""
        if past.number == 1 and past.place is None:
            self._call_began(ask, now)
            member = self._table.first.get(ask.route)  # the common case, told apart for its speed alone
            if member is not None and member.breaker.state is CLOSED and not (member.line.waiting or ask.unsuitable):
                refusal = member.refusal(ask, now)
                if refusal is None and not member.slowness.suspected:
                    return self._lease(ask, past, member, "initial", now)
        return self._first_choice(ask, past, now) or self._second_choice(ask, past, now)

    def _call_began(self, ask: Ask, now: float) -> None:
        """Credit a call to what traffic earns: rescues and trials may be a share of it, trials at low rates as many
        as at four calls a second."""
        last, self._last_call_at = self._last_call_at, now
        if not ask.batch:
            self._last_interactive_at = now
        ratio, hedges, trials = self._policies.hedge.ratio, self.hedges, self.trials
        if hedges.tokens < hedges.cap:
            hedges.earn(ratio)
        if trials.tokens < trials.cap:
            floor = ratio * _PACE * (now - last) if last is not None else 0.0
            trials.earn(floor if floor > ratio else ratio)

    def _first_choice(self, ask: Ask, past: Past, now: float) -> Attempt[T] | None:
        """The first tier with somebody well whom this call has not tried, and that has not more to do than it can; if
        all have, the one that is expected to answer soonest."""
        due: Member[T] | None = None
        busy: list[Member[T]] = []
        ready: list[Member[T]] = []
        unsuitable, tried, place = ask.unsuitable, past.tried, past.place
        barred = bool(unsuitable or tried)
        for tier in self._table.routes.get(ask.route, ()):
            for member in tier:
                if barred and (member.id in unsuitable or (member.id in tried and member.id != past.other_key)):
                    continue
                if place is not None or member.line.waiting:
                    if not self.admits(member, ask, past, now):
                        continue
                elif member.refusal(ask, now) is not None:
                    continue
                if member.breaker.state is CLOSED:
                    away = member.slowness.suspected and member.turns_away(ask, now)
                    (busy if away else ready).append(member)
                elif due is None and member.trial_due(now):
                    due = member
            if ready:
                break
        if not ready and not busy:
            return None
        if due is not None and past.number == 1 and self._tries(ask, now) and self._may_try(due):
            return self._lease(ask, past, due, "trial", now)
        return self._pick(ask, past, ready or [cheapest(busy)], now)

    def admits(self, member: Member[T], ask: Ask, past: Past, now: float, *, waits: bool = False) -> bool:
        """Whether nothing but its breaker keeps this call from a provider, and nobody waits before it.  ``waits``:
        nobody else is well."""
        if past.not_before and now < past.may_ask_at(member):
            return False
        line, place = member.line, past.place
        hope = past.last_hope and member.breaker.down
        held = 0 if place is None else int(place.offer is line)
        insists = past.insists and member.keys[0].alone
        if insists and member.refusal(ask, now, waits=True, held=held) in LIMITED:
            return member.refusal(ask, now, waits=True, held=held, insists=True) is None
        if line.waiting and not (hope or member.in_turn(past.order, ask, place, now)):
            return False
        return member.refusal(ask, now, waits=waits or place is not None, held=held) is None

    def _tries(self, ask: Ask, now: float) -> bool:
        """Whether a call may find out how a provider is: a batch only when nobody else calls."""
        return ask.repeatable and (not ask.batch or now - self._last_interactive_at > _ALONE)

    def _may_try(self, member: Member[T]) -> bool:
        """Whether a call may be spent on a trial.  The confirming one is free: a budget that had to be earned twice
        would double the time to recovery.  One that breaks after content is lost to its caller, so that only calls
        earn it, and not time; unless one was answered just before, or where calls are few that would take minutes."""
        breaker = member.breaker
        if breaker.passed == 1:
            return True
        return (self.hedges if breaker.ends_late and not breaker.passed else self.trials).spend()

    def _pick(self, ask: Ask, past: Past, ready: list[Member[T]], now: float) -> Attempt[T]:
        """One of some equals: where the conversation is, who has not been heard of for long, or the better of two
        draws."""
        kind: AttemptKind = "initial" if past.number == 1 else "failover"
        if past.other_key is not None:
            again = next((member for member in ready if member.id == past.other_key), None)
            if again is not None:
                return self._lease(ask, past, again, "retry", now)
        if len(ready) == 1:
            return self._lease(ask, past, ready[0], kind, now)
        if ask.conversation is not None:
            home = self._table.home(ask.conversation, now)
            found = at_home(ready, home, self._policies.advanced.stickiness)
            if found is not None:
                return self._lease(ask, past, found, kind, now)
        stale = stalest(ready, now) if past.number == 1 else None
        if stale and self._tries(ask, now) and _worth(stale, ready, ask) and self.trials.spend(1.0, _TRIAL_START):
            return self._lease(ask, past, stale, "trial", now)
        chosen = soonest(ready, ask.tolls) if ask.tolls else choose(ready, now, self.draw)
        return self._lease(ask, past, chosen, kind, now)

    def _second_choice(self, ask: Ask, past: Past, now: float) -> Attempt[T] | bool:
        """Nobody is well: somebody half broken, somebody again, or somebody that is down."""
        fresh, again, down = self._half_broken(ask, past, now)
        if again and ask.streaming:  # what failed before content can be asked for again
            fresh = [member for member in fresh if not breaks(member, again)]
        candidates = fresh or again
        if not candidates:
            return self._last_resort(ask, past, down, now) or False
        if not fresh and not past.again:
            return False
        if past.cost and not self._pay(past.cost, now):
            return True
        well = [member for member in candidates if member.breaker.state is CLOSED]
        if past.number == 1 and self._tries(ask, now):
            for member in down:
                if member.trial_due(now) and self._may_try(member):
                    return self._lease(ask, past, member, "trial", now)
        chosen = well[0] if well else least_bad(candidates, streaming=ask.streaming)
        kind: AttemptKind = "initial" if past.number == 1 else ("retry" if chosen.id in past.tried else "failover")
        return self._lease(ask, past, chosen, kind, now)

    def _half_broken(
        self, ask: Ask, past: Past, now: float
    ) -> tuple[list[Member[T]], list[Member[T]], list[Member[T]]]:
        """Who may be asked though nobody well and untried is left: not tried yet, tried before, down (the one not tried
        for longest first)."""
        fresh: list[Member[T]] = []
        again: list[Member[T]] = []
        down: list[Member[T]] = []
        for member in self._allowed(ask, past):
            if not self.admits(member, ask, past, now, waits=True):
                continue
            if member.breaker.down:
                down.append(member)
            else:
                (again if member.id in past.tried else fresh).append(member)
        down.sort(key=lambda member: member.breaker.tried_at)
        return fresh, again, down

    def _allowed(self, ask: Ask, past: Past) -> list[Member[T]]:
        """Whom this call may still be sent to, however they are."""
        return [
            member
            for member in self._table.order(ask.route)
            if member.id not in ask.unsuitable
            and past.tried.get(member.id, 0) < self._most
            and member.breaker.state is not State.ISOLATED
        ]

    def _pay(self, cost: float, now: float) -> bool:
        self.extra.advance(now)
        return self.extra.spend(cost)

    def _last_resort(self, ask: Ask, past: Past, down: list[Member[T]], now: float) -> Attempt[T] | None:
        """One that is down, or refused our key without saying for how long: about one attempt a second, and one for
        each call that would else be given up without any, but for a key that is refused for good."""
        kind: AttemptKind = "trial" if ask.repeatable else "initial"
        for member in down:
            hope = past.last_hope and not member.breaker.crowded
            if hope or now >= member.next_trial():
                pause = min(member.breaker.last_resort_wait(now), LAST_RESORT)
                for other in down:
                    other.resort_at = max(other.resort_at, now + pause)
                return self._lease(ask, past, member, kind, now)
        for member in self._allowed(ask, past):
            gate, stays_away = member.slow_gate, member.breaker.down or now < past.may_ask_at(member)
            barred = member.refusal(ask, now, waits=True) is Refusal.QUOTA and not gate.stated
            if barred and not stays_away and (not gate.proven or now - member.breaker.tried_at >= LAST_RESORT):
                return self._lease(ask, past, member, kind, now)
        return None

    # --- leasing ---

    def _lease(self, ask: Ask, past: Past, member: Member[T], kind: AttemptKind, now: float) -> Attempt[T]:
        attempt = Attempt(ask, member, kind, past.number, now)
        breaker = member.breaker
        if kind == "trial":
            found = self._trial(ask, past, attempt, now)
        else:
            lone = ask.route in self._table.lone
            if past.tried or ask.unsuitable:
                lone = self._alone(ask, past, member)
            alone = lone or breaker.state is not CLOSED  # then nobody is well
            found = patience(self._policies, member.statistics, ask, now, alone=alone)
        if past.insists:
            attempt.insists, attempt.contradicts = True, attempt.key.pace.contradicts(attempt.need, now)
        attempt.late_after, attempt.known, attempt.rescue_after, attempt.timeout = found
        if now < member.heard.until:
            member.heard.asked(now, self.draw())
        if breaker.state is not CLOSED or kind == "trial":
            breaker.tried_at = now
            if breaker.down or kind == "trial":
                member.resort_at = max(member.resort_at, now + breaker.last_resort_wait(now))
        slow = attempt.key.slow
        if member.own_gate.strikes or slow.strikes:
            attempt.slow_lease = True
            breaker.tried_at = now
            member.own_gate.admitted(now, _SLOW_LEASE)
            slow.admitted(now, _SLOW_LEASE)
        member.held[attempt] = past.order
        member.pending[attempt] = now
        if self._verdicts.listening:
            self._verdicts.events.append(events.AttemptStarted(now, member.id, past.order, past.number, kind))
        return attempt

    def _trial(self, ask: Ask, past: Past, attempt: Attempt[T], now: float) -> Patience:
        """Make an attempt the trial of its provider; how long it may be silent."""
        member = attempt.member
        breaker, rival = member.breaker, self._rival(ask, past, member, now)
        found = trial_patience(self._policies, member.statistics, ask, now, together=breaker.together, rival=rival)
        member.trial = attempt
        member.trial_ends = now + _exclusive_seconds(member, ask, found[3], now)
        return found

    def _alone(self, ask: Ask, past: Past, member: Member[T]) -> bool:
        """Whether there is nobody else to turn to."""
        return all(other is member for other in self._allowed(ask, past))

    def _rival(self, ask: Ask, past: Past, member: Member[T], now: float) -> float | None:
        """How long the one usually takes that would come to the rescue (0 while unknown); ``None``: nobody is well."""
        others = [one for one in self._allowed(ask, past) if one is not member and one.breaker.state is CLOSED]
        well = [one for one in others if one.refusal(ask, now) is None]
        return max((usual(one.statistics, ask.tokens, streaming=ask.streaming) for one in well), default=None)


def _exclusive_seconds(member: Member[T], ask: Ask, timeout: float, now: float) -> float:
    """Seconds for which a trial keeps others away: while it may be silent.  The patience with a whole answer is half a
    minute, of which a provider that is well again would lose the rest; a stream that may break is judged at its end."""
    breaker, wait = member.breaker, member.breaker.trial_wait(now)
    if breaker.ends_late:
        return max(wait, _TO_ITS_END * breaker.policy.open_base)
    most = breaker.policy.open_cap
    if not ask.streaming:
        most = max(usual(member.statistics, ask.tokens, streaming=False) or most, wait)
    return min(timeout, most)


def _worth(stale: Member[T], ready: Sequence[Member[T]], ask: Ask) -> bool:
    """Whether news of a provider are of use to a call: not where it is drawn often enough, or would hardly be taken for
    its toll."""
    costs, tolls = prices(ready), ask.tolls
    if costs[ready.index(stale)] <= _DRAWN * min(costs):
        return False
    return not tolls or tolls.get(stale.id, 0.0) <= min(tolls.get(one.id, 0.0) for one in ready) + _NEAR
