"""The providers of a client and everything they share: the routing table, the budgets, the lock.

One lock guards a whole pool.  It is held for a few microseconds of arithmetic and never across I/O, a callback, a log
line or an ``await``; one acquisition chooses *and* takes the lease, so two callers can never both get the last
permit.  A plain ``threading.Lock`` serves the sync client, the async client, any number of event loops and
free-threaded builds alike.

Finalisers may run on the very thread that holds the lock, so an attempt abandoned by the garbage collector is only
put on a queue (:meth:`Pool.abandon_later`), and whoever takes the lock next settles it.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Generic

from resilient_llm.decide import events
from resilient_llm.decide.breaker import CLOSED, State
from resilient_llm.decide.budget import Budget, TimedBudget
from resilient_llm.decide.call import Call
from resilient_llm.decide.gate import Limit, SlowGate
from resilient_llm.decide.hedge import first_token_timeout, probe_lease, rescue_delay, whole_timeout
from resilient_llm.decide.member import WAITABLE, Attempt, Member, Refusal, T
from resilient_llm.decide.outcome import OK, Outcome, disposition
from resilient_llm.decide.select import cheapest, choose, stalest, usual_latency
from resilient_llm.decide.standing import Standing, standing, why_not
from resilient_llm.errors import ConfigurationError, Fault, FaultKind
from resilient_llm.policy import Policies

Routes = Mapping[str, Sequence[Sequence[T]]]
"""Route name -> tiers in order of preference -> providers of equal preference.  The first route is the default."""

_BEHIND_BREAKER = frozenset({Refusal.OPEN, Refusal.PROBING, Refusal.PROBE_DUE})
_LOCAL_WINDOW = 5.0  # seconds within which connection failures at *all* providers mean: it is us
_MAX_CONVERSATIONS = 4096
_SLOW_PROBE_LEASE = 60.0


@dataclass(slots=True)
class Refused:
    """Nobody can be asked now: why not, per provider, and when that may change (``None``: not by itself)."""

    reasons: dict[str, Refusal]
    retry_at: float | None
    waitable_at: float | None
    """When a refusal ends that is worth waiting for (a gate, a concurrency limit); ``None`` if there is none."""
    lacking: str = ""
    """The budget (``failover`` or ``retry``) that was empty though somebody could have been asked; else empty."""


class Pool(Generic[T]):
    """Shared by the clients that use it, the sync and the async one alike.  All times are monotonic seconds.

    ``draw`` returns random numbers from [0, 1); ``listening`` makes it record attempt events too (state changes are
    always recorded, for :meth:`take_events`).
    """

    def __init__(self, routes: Routes[T], policies: Policies, draw: Callable[[], float]) -> None:
        self.policies = policies
        self.listening = False
        self._draw = draw
        self._lock = threading.Lock()
        self._members: dict[str, Member[T]] = {}
        self._accounts: dict[str, SlowGate] = {}
        self._routes: dict[str, tuple[tuple[Member[T], ...], ...]] = {}
        self._conversations: OrderedDict[str, str] = OrderedDict()
        self._abandoned: deque[Attempt[T]] = deque()
        self._events: deque[events.Event] = deque()
        self._calls = count(1)
        self._probing: dict[Member[T], None] = {}
        self._fill_budgets()
        self._install(routes)

    def _fill_budgets(self) -> None:
        """The allowance of a process that has earned nothing yet."""
        retry, breaker, hedge = self.policies.retry, self.policies.breaker, self.policies.hedge
        self.retries: Budget = Budget(retry.budget, retry.budget)
        self.failovers: Budget = Budget(retry.failover_budget, retry.failover_budget)
        self.hedges: Budget = Budget(hedge.cap, 0.0)
        self.probes: TimedBudget = TimedBudget(2.0, 1.0, breaker.probe_refill)

    # --- configuration ---

    def replace(self, routes: Routes[T], now: float) -> tuple[str, ...]:
        """Swap the providers.  State is kept for every id that stays; attempts in flight at removed ones end in peace.

        Returns the ids that were removed.  Raises ``ConfigurationError`` and changes nothing if the new routes are
        unusable.
        """
        with self._lock:
            before = set(self._members)
            self._install(routes)
            removed = tuple(sorted(before - set(self._members)))
            for provider in removed:
                self._events.append(events.Drained(now, provider, "removed"))
            return removed

    def _install(self, routes: Routes[T]) -> None:
        if not routes:
            raise ConfigurationError("at least one route with at least one provider is needed, not an empty mapping")
        members: dict[str, Member[T]] = {}
        chosen: dict[str, T] = {}
        table = {name: self._tiers(name, tiers, members, chosen) for name, tiers in routes.items()}
        for provider, target in chosen.items():
            members[provider].retarget(target, self._account(target))
        self._routes, self._members = table, members

    def _tiers(
        self, route: str, tiers: Sequence[Sequence[T]], members: dict[str, Member[T]], chosen: dict[str, T]
    ) -> tuple[tuple[Member[T], ...], ...]:
        built: list[tuple[Member[T], ...]] = []
        seen: set[str] = set()
        for tier in tiers:
            for target in tier:
                if target.id in seen:
                    raise ConfigurationError(
                        f"two providers of route {route!r} have the id {target.id!r}; give one of them another id="
                    )
                seen.add(target.id)
            built.append(tuple(self._member(target, members, chosen) for target in tier))
        if not seen:
            raise ConfigurationError(f"route {route!r} has no providers; give at least one")
        return tuple(tier for tier in built if tier)

    def _member(self, target: T, members: dict[str, Member[T]], chosen: dict[str, T]) -> Member[T]:
        if chosen.setdefault(target.id, target) is not target:
            raise ConfigurationError(f"two different providers have the id {target.id!r}; give one of them another id=")
        if target.id not in members:
            members[target.id] = self._members.get(target.id) or Member(target, self.policies, self._account(target))
        return members[target.id]

    def _account(self, target: T) -> SlowGate | None:
        """The gate that providers of the same account share."""
        if target.account is None:
            return None
        return self._accounts.setdefault(target.account, SlowGate(self.policies.limits))

    @property
    def route_names(self) -> tuple[str, ...]:
        """The routes, the default one first."""
        return tuple(self._routes)

    def targets(self, route: str | None = None) -> tuple[T, ...]:
        """The providers of a route in order of preference (none if there is no such route); of all routes, each once,
        for ``None``."""
        if route is None:
            return tuple(member.target for member in self._members.values())
        return tuple(member.target for tier in self._routes.get(route, ()) for member in tier)

    # --- the life of an attempt ---

    def acquire(self, call: Call[T], now: float) -> Attempt[T] | Refused:
        """Choose a provider this call has not tried yet and take a lease on it.

        A later attempt of the same call costs a failover token; without one, only somebody against whom nothing
        speaks may be asked.  (A provider that dies with fifty calls in flight must not take forty of them along because
        the budget holds ten; where everybody fails, everybody is distrusted, and the budget is the limit.)
        """
        with self._lock:
            if self._abandoned or self._probing:
                self._settle(now)
            if not call.number:
                self._begin(call, now)
            later = call.made > 0  # leasing counts the attempt, and the first one is not a failover
            if later and not self.failovers.available() and not self._trusted(call, now):
                self._events.append(events.NotTaken(now, "", "failover", "budget"))
                return self._refused(call, now, "failover" if self._untried(call, now) else "")
            attempt = self._select(call, now) or self._force(call, now)
            if attempt is None:
                return self._refused(call, now)
            if later:
                self.failovers.spend()
            return attempt

    def _untried(self, call: Call[T], now: float) -> list[Member[T]]:
        """Whom this call has not tried and can ask."""
        return [m for m in self._order(call) if m not in call.tried and m.refusal(call, now) is None]

    def _trusted(self, call: Call[T], now: float) -> bool:
        """Whether somebody this call has not tried can be asked and deserves it."""
        return any(member.trusted(now) for member in self._untried(call, now))

    def again(self, call: Call[T], now: float) -> Attempt[T] | Refused:
        """Take a lease on a provider this call has tried before and may try again; costs a retry token."""
        with self._lock:
            self._settle(now)
            ready = [m for m in self._order(call) if m in call.repeatable and m.refusal(call, now) is None]
            if not ready:
                return self._refused(call, now)
            if not self.retries.spend():
                self._events.append(events.NotTaken(now, ready[0].id, "retry", "budget"))
                return self._refused(call, now, "retry")
            return self._lease(call, ready[0], now, "retry")

    def rescue(self, call: Call[T], beside: Attempt[T], now: float) -> Attempt[T] | None:
        """A second attempt elsewhere, beside one that is silent; ``None`` if nobody is free or the budget is empty."""
        with self._lock:
            self._settle(now)
            ready = self._untried(call, now)
            # The timer of a rescue may race with the first token: after that the call is committed.
            if not ready or beside.released or beside.content_at is not None:
                return None
            if not self._pay_for_rescue(call, beside, now):
                self._events.append(events.NotTaken(now, beside.member.id, "hedge", "budget"))
                return None
            return self._lease(call, cheapest(ready, now), now, "hedge")

    def _pay_for_rescue(self, call: Call[T], beside: Attempt[T], now: float) -> bool:
        """A probe's rescue is paid by the probe.  Others are paid by the hedge budget, and, where leaving the attempt
        would be a failover that merely comes early, by that budget: its provider is silent altogether (not merely
        slow, which more requests would make worse), its breaker has opened since, or the call runs out of time.  Like a
        failover, leaving a silent provider for somebody against whom nothing speaks is free when there is no token."""
        if beside.kind in ("probe", "explore") or self.hedges.spend():
            return True
        member = beside.member
        lost = member.breaker.state is not CLOSED or member.late_by(now) > 0.0
        if not lost and not call.pressed(now, beside):
            return False
        return self.failovers.spend() or ((lost or beside.unheard(now)) and self._trusted(call, now))

    def first_content(self, attempt: Attempt[T], now: float) -> None:
        """The attempt gave its first sign of life: the verdict of a probe, and a latency sample.  At most once."""
        with self._lock:
            if self._abandoned or self._probing:
                self._settle(now)
            if attempt.content_at is None and not attempt.released:
                self._speak(attempt, now)
                # After a suspend the clock says an hour; the attempt was never allowed that long.
                elapsed = min(now - attempt.started, attempt.timeout)
                member = attempt.member
                member.health.first_token(now, elapsed, attempt.call.tokens)
                if member.health.suspect is not member.passed_over:
                    self._trust_changed(member, now)

    def succeeded(self, attempt: Attempt[T], now: float, output_tokens: int = 0) -> None:
        """The attempt is over and was answered."""
        with self._lock:
            if self._abandoned or self._probing:
                self._settle(now)
            if attempt.released:
                return
            call, member = attempt.call, attempt.member
            spoke_at = attempt.content_at
            if spoke_at is not None:
                member.health.tokens_arrived(now - spoke_at, output_tokens)
            else:
                self._speak(attempt, now)
                pace = self.policies.timeouts.seconds_per_token
                elapsed = min(now - attempt.started, attempt.timeout)
                member.health.whole_answer(now, elapsed, call.tokens, output_tokens, pace)
            if not call.answered:
                call.answered = True
                retries, failovers, policy = self.retries, self.failovers, self.policies.retry
                if retries.tokens < retries.cap:
                    retries.earn(policy.budget_ratio)
                if failovers.tokens < failovers.cap:
                    failovers.earn(policy.failover_ratio)
            if attempt.started > member.gate.closed_at:
                member.gate.succeeded(attempt.started)
            if attempt.slow_probe:
                member.own_gate.succeeded()
                member.account_gate.succeeded()
            if member.concurrency.limited:
                member.concurrency.succeeded()
            self._release(attempt, now, OK)

    def failed(self, attempt: Attempt[T], fault: Fault, now: float, *, doubtful: bool = False) -> None:
        """The attempt is over and failed; a ``doubtful`` failure counts as a shortage at most."""
        with self._lock:
            self._settle(now)
            if attempt.released:
                return
            outcome = Outcome.SOFT if doubtful else disposition(fault).outcome
            if fault.kind is FaultKind.CONNECTION and attempt.content_at is None:
                attempt.member.connect_failed_at = now
            self._close_gates(attempt, fault, outcome, now)
            self._release(attempt, now, outcome)

    def abandoned(self, attempt: Attempt[T], now: float) -> None:
        """The attempt ended without a verdict (cancelled, closed, the caller's own deadline): it judges nobody."""
        with self._lock:
            self._settle(now)
            self._release(attempt, now, Outcome.NEUTRAL)

    def overtaken(self, attempt: Attempt[T], now: float) -> None:
        """Another attempt of the same call won: no verdict, but it would have taken at least this long."""
        with self._lock:
            self._settle(now)
            if not attempt.released and attempt.content_at is None:
                health = attempt.member.health
                if attempt.call.streaming:
                    elapsed = min(now - attempt.started, attempt.timeout)
                    health.overtaken(now, elapsed, attempt.call.tokens)
                if attempt.kind == "explore":
                    health.doubt.missed()
            self._release(attempt, now, Outcome.NEUTRAL)

    def abandon_later(self, attempt: Attempt[T]) -> None:
        """As :meth:`abandoned`, but safe in a finaliser: takes no lock; the next operation settles it."""
        self._abandoned.append(attempt)

    def learn(self, member: Member[T], now: float, requests: Limit | None, tokens: Limit | None) -> None:
        """Take note of the rate-limit headroom a provider reported."""
        with self._lock:
            member.gate.learn(now, requests, tokens)

    # --- choosing (the lock is held) ---

    def _begin(self, call: Call[T], now: float) -> None:
        """A call begins: number it, and credit its traffic to the budgets that traffic earns."""
        call.number = next(self._calls)
        if self.hedges.tokens < self.hedges.cap:
            self.hedges.earn(self.policies.hedge.ratio)
        self.probes.advance(now, self.policies.breaker.probe_ratio)

    def _order(self, call: Call[T]) -> list[Member[T]]:
        # A route may be gone by the time a call wants to go on: then nobody is left to ask.
        return [member for tier in self._routes.get(call.route, ()) for member in tier]

    def _select(self, call: Call[T], now: float) -> Attempt[T] | None:
        """The first tier with somebody eligible who deserves it; on the way there, a due probe may go first, backed up
        by the choice."""
        tiers = self._routes.get(call.route, ())
        if not call.made and tiers and len(tiers[0]) == 1:  # the common case, told apart for its speed alone
            member = tiers[0][0]
            if _at_ease(member) and member.refusal(call, now) is None:
                return self._lease(call, member, now, "initial")
        kind = "failover" if call.made else "initial"
        chosen, reserve, due = None, None, None
        keep = 0  # probe tokens that exploring must leave for a provider behind an open breaker
        for tier in tiers:
            ready, probe, behind = self._survey(call, tier, now)
            due, keep = due or probe, keep or behind
            if not ready:
                continue
            chosen, kind = self._pick(call, ready, now, kind, keep)
            alone = tier is tiers[-1] and reserve is None
            if alone or kind == "explore" or _at_ease(chosen) or self._steady(chosen, now):
                break
            if self._explores(call, chosen, now, keep):
                kind = "explore"
                break
            reserve, chosen = reserve or chosen, None
        chosen = chosen or reserve
        # The confirming probe is free: a budget that had to be earned twice would double the time to recovery.
        if due is not None and (chosen is None or due.breaker.passed or self.probes.spend()):
            return self._lease(call, due, now, "probe")
        return None if chosen is None else self._lease(call, chosen, now, kind)

    def _survey(
        self, call: Call[T], tier: Sequence[Member[T]], now: float
    ) -> tuple[list[Member[T]], Member[T] | None, int]:
        """Who of a tier can be asked, whose probe is due, and (as 0 or 1) whether anybody is behind a breaker."""
        ready: list[Member[T]] = []
        due, behind = None, 0
        for member in tier:
            if call.tried and member in call.tried:
                continue
            refusal = member.refusal(call, now)
            if refusal is None:
                ready.append(member)
            elif refusal in _BEHIND_BREAKER:
                behind = 1
                if refusal is Refusal.PROBE_DUE and due is None:
                    due = member
        return ready, due, behind

    def _steady(self, member: Member[T], now: float) -> bool:
        """Whether a provider deserves its tier's traffic: not while it is silent, fails often or became slow, and only
        a growing share after its breaker closed.  Otherwise the next tier takes the call."""
        if not self._well(member, now):
            return False
        ramp = member.ramp(now)
        return ramp >= 1.0 or self._draw() < ramp

    def _well(self, member: Member[T], now: float) -> bool:
        """Neither silent nor distrusted."""
        return not (member.pending and member.late_by(now)) and member.trusted(now)

    def _explores(self, call: Call[T], member: Member[T], now: float, keep: int) -> bool:
        """Whether this call is to find out if a provider that is passed over still deserves it."""
        if call.made or not member.health.suspect or not call.repeatable_request or not member.worth_exploring(now):
            return False
        return self._may_explore(member, keep)

    def _may_explore(self, member: Member[T], keep: int) -> bool:
        """Whether a call may be spent on finding out.  The confirming one is free, as the confirming probe is."""
        return member.health.doubt.proofs > 0 or (self.probes.available(keep) and self.probes.spend())

    def _pick(self, call: Call[T], ready: list[Member[T]], now: float, kind: str, keep: int) -> tuple[Member[T], str]:
        """One of some equals: where the conversation is, who has not been seen for long, or the better of two draws."""
        if len(ready) == 1:
            return ready[0], kind
        policy = self.policies.health
        if call.conversation is not None:
            home = self._conversations.get(call.conversation)
            at_home = next((member for member in ready if member.id == home), None)
            if at_home is not None:
                usual = usual_latency(ready, now) or 0.0
                best = min(member.cost(now, usual) for member in ready)
                if best >= policy.stickiness * at_home.cost(now, usual):
                    return at_home, kind
        if not call.made:
            stale = stalest(ready, now)
            if stale is not None and self._may_explore(stale, keep):
                return stale, "explore"
        # An equal that is well takes the calls of one that is silent or distrusted before the next tier does.
        well = [member for member in ready if _at_ease(member) or self._well(member, now)]
        return choose(well or ready, now, self._draw), kind

    def _force(self, call: Call[T], now: float) -> Attempt[T] | None:
        """Nobody is eligible: force one attempt through the breaker that would open first, at most once per second
        each."""
        interval = self.policies.breaker.panic_interval
        shut = [
            m
            for m in self._order(call)
            if m not in call.tried and m.refusal(call, now) is Refusal.OPEN and now - m.forced_at >= interval
        ]
        if not shut:
            return None
        member = min(shut, key=lambda m: m.breaker.open_until)
        member.forced_at = now
        self._events.append(events.Forced(now, member.id))
        return self._lease(call, member, now, "probe")

    def _refused(self, call: Call[T], now: float, lacking: str = "") -> Refused:
        """Why nobody can be asked.  Providers this call has tried and must not repeat are no reason to wait."""
        reasons: dict[str, Refusal] = {}
        retry_at = waitable_at = math.inf
        for member in self._order(call):
            refusal = member.refusal(call, now)
            if refusal is None:
                continue
            reasons[member.id] = refusal
            opens = member.opens_at(now, refusal)
            if opens is None:
                continue
            # Where nobody is eligible, an open breaker lets one attempt through per interval: no need to come later.
            forced = max(now, member.forced_at) + self.policies.breaker.panic_interval
            retry_at = min(retry_at, opens, forced) if refusal is Refusal.OPEN else min(retry_at, opens)
            if refusal in WAITABLE and (member not in call.tried or member in call.repeatable):
                waitable_at = min(waitable_at, opens)
        return Refused(
            reasons,
            None if retry_at == math.inf else retry_at,
            None if waitable_at == math.inf else waitable_at,
            lacking,
        )

    # --- leases (the lock is held) ---

    def _lease(self, call: Call[T], member: Member[T], now: float, kind: str) -> Attempt[T]:
        attempt = Attempt(call, member, kind, now)
        health, policies = member.health, self.policies
        if call.streaming:
            attempt.timeout = first_token_timeout(policies.timeouts, health, call.tokens)
        else:
            attempt.timeout = whole_timeout(policies.timeouts, health, call.tokens, call.max_tokens)
        if member.breaker.state is not CLOSED:
            before = member.breaker.state
            low, high = policies.breaker.probe_lease_min, policies.breaker.probe_lease_max
            member.breaker.admit_probe(now, probe_lease(low, high, health, call.tokens, streaming=call.streaming))
            self._changed(member, before, now)
            self._probing[member] = None
            attempt.probing = True
            attempt.generation = member.breaker.generation
        if member.own_gate.strikes or member.account_gate.strikes:
            attempt.slow_probe = True
            member.own_gate.admitted(now, _SLOW_PROBE_LEASE)
            member.account_gate.admitted(now, _SLOW_PROBE_LEASE)
        late = rescue_delay(policies.hedge, health, call.tokens, streaming=call.streaming)
        if late is not None:
            attempt.late_at = attempt.overdue_at = now + late
            if call.streaming:
                attempt.overdue_at = now + max(late, self._overdue(member, call))
        if kind == "explore":
            member.exploration = attempt
        if len(self._members) > 1 and call.repeatable_request:
            attempt.rescue_after = self._rescue_after(call, member, kind, late, now)
        member.concurrency.in_flight += 1
        member.pending[attempt] = None
        call.joined(attempt)
        if self.listening:
            self._events.append(events.AttemptStarted(now, member.id, call.number, attempt.number, kind))
        return attempt

    def _overdue(self, member: Member[T], call: Call[T]) -> float:
        factor = self.policies.health.overdue_factor
        return factor * (member.health.latency or 0.0) * member.health.scale(call.tokens)

    def _rescue_after(
        self, call: Call[T], member: Member[T], kind: str, late: float | None, now: float
    ) -> float | None:
        if kind in ("probe", "explore"):
            return self._race_after(call, member, now)
        if kind == "hedge" or not self.policies.hedge.enabled:
            return None
        left = call.deadline - now
        if left == math.inf:
            return late
        # Half the time left is the latest moment, unless this provider usually needs longer, or somebody else less.
        usual = self._usual(call, member)
        others = [known for peer in self._order(call) if peer is not member and (known := self._usual(call, peer))]
        latest = max(left / 2, min(usual, left), left - 2.0 * min(others) if others else 0.0)
        return latest if late is None else min(late, latest)

    def _usual(self, call: Call[T], member: Member[T]) -> float:
        """Seconds within which a provider nearly always gives its first sign of life; 0 while too little is known."""
        seen = member.health.first if call.streaming else member.health.whole
        known = seen.count >= self.policies.hedge.min_samples
        return seen.p95 * member.health.scale(call.tokens) if known else 0.0

    def _race_after(self, call: Call[T], member: Member[T], now: float) -> float:
        """When a probe or a look is backed up: once a healthy peer would have spoken, usually; nearly always, if
        nothing speaks against the one looked at."""
        peers = [m for m in self._order(call) if m is not member and m.breaker.state is CLOSED]
        share = 0.95 if member.breaker.state is CLOSED and not member.health.suspect else 0.8
        usual = 0.0
        for peer in peers[:1]:
            seen = peer.health.first if call.streaming else peer.health.whole
            usual = (seen.at(share) or 0.0) * peer.health.scale(call.tokens)
        return max(self.policies.health.race_after, usual)

    def _speak(self, attempt: Attempt[T], now: float) -> None:
        """The first sign of life, or the success that contains it."""
        attempt.content_at = now
        member = attempt.member
        member.pending.pop(attempt, None)
        member.good_start = max(member.good_start, attempt.started)
        if attempt.probing:
            self._judge(attempt, now, OK)
            attempt.probing = False

    def _judge(self, attempt: Attempt[T], now: float, outcome: Outcome) -> None:
        """Tell the breaker, unless the attempt began before its last change of state."""
        member = attempt.member
        breaker = member.breaker
        if attempt.generation != breaker.generation:
            if outcome is not Outcome.NEUTRAL and self.listening:
                self._events.append(events.NotTaken(now, member.id, "verdict", "stale"))
            return
        if attempt.probing:
            breaker.release_probe()
            self._probing.pop(member, None)
        if outcome is OK or outcome is Outcome.HARD or outcome is Outcome.SOFT:
            before = breaker.state
            escalate = outcome is OK or not self._local(now)
            if breaker.record(now, outcome, self._draw(), escalate=escalate):
                self._changed(member, before, now)

    def _release(self, attempt: Attempt[T], now: float, outcome: Outcome) -> None:
        if attempt.released:
            return
        attempt.released = True
        member = attempt.member
        if attempt.generation < member.born:
            return
        if attempt.content_at is None:
            member.pending.pop(attempt, None)
        member.concurrency.in_flight -= 1
        if attempt.slow_probe:
            member.own_gate.released()
            member.account_gate.released()
        breaker = member.breaker
        if outcome is not OK:
            self._judge(attempt, now, outcome)
        elif breaker.state is CLOSED and attempt.generation == breaker.generation:
            # A probe was judged by its first sign of life; what matters after that is only whether it broke.
            breaker.succeeded(now)
        member.health.judge(now, outcome)
        if member.health.suspect is not member.passed_over:
            self._trust_changed(member, now)

    def _close_gates(self, attempt: Attempt[T], fault: Fault, outcome: Outcome, now: float) -> None:
        member = attempt.member
        if outcome is Outcome.DISABLED:
            shared = fault.kind in (FaultKind.AUTH, FaultKind.QUOTA_EXHAUSTED)
            gate = member.account_gate if shared else member.own_gate
            hint = fault.retry_after if fault.trust_hint else None
            until = gate.close(now, hint, self._draw(), str(fault.kind))
            self._events.append(events.GateClosed(now, member.id, until - now, str(fault.kind), slow=True))
            return
        throttled = outcome is Outcome.GATED or fault.kind is FaultKind.OVERLOADED
        if outcome is Outcome.GATED or (outcome is Outcome.SOFT and fault.retry_after is not None):
            until = member.gate.close(now, fault.retry_after, self._draw(), str(fault.kind))
            self._events.append(events.GateClosed(now, member.id, until - now, str(fault.kind), slow=False))
        if throttled:
            member.concurrency.throttled(now, attempt.started)

    def _local(self, now: float) -> bool:
        """Whether every provider refused connections just now: then the fault is likely this machine's."""
        members = self._members.values()
        return len(members) > 1 and all(now - member.connect_failed_at <= _LOCAL_WINDOW for member in members)

    def _changed(self, member: Member[T], before: State, now: float) -> None:
        breaker = member.breaker
        if breaker.state is before or self._members.get(member.id) is not member:
            return  # a removed provider whose probe runs out must not speak for one that has its id now
        open_for = max(0.0, breaker.open_until - now) if breaker.state is State.OPEN else 0.0
        self._events.append(
            events.BreakerChanged(now, member.id, str(before), str(breaker.state), breaker.reason, open_for)
        )

    def _trust_changed(self, member: Member[T], now: float, why: str = "it answered well again") -> None:
        """Say that a provider is passed over from now on, or no longer; where it is the only one, nothing changes."""
        member.passed_over = member.health.suspect
        if len(self._members) > 1 and self._members.get(member.id) is member:
            reason = member.distrusted_for or why
            self._events.append(events.TrustChanged(now, member.id, not member.passed_over, reason))

    def _settle(self, now: float) -> None:
        """Release what finalisers left behind, and fail probes that outlived their lease."""
        while self._abandoned:
            self._release(self._abandoned.popleft(), now, Outcome.NEUTRAL)
        for member in tuple(self._probing):
            if member.breaker.probe_expires is None:
                del self._probing[member]
            elif member.breaker.expire(now, self._draw()):
                del self._probing[member]
                self._changed(member, State.HALF_OPEN, now)

    def random(self) -> float:
        """A draw from [0, 1) for the decisions a call makes by itself."""
        return self._draw()

    # --- conversations ---

    def remember(self, conversation: str, provider: str) -> None:
        """Keep a conversation where it was answered."""
        with self._lock:
            self._conversations[conversation] = provider
            self._conversations.move_to_end(conversation)
            if len(self._conversations) > _MAX_CONVERSATIONS:
                self._conversations.popitem(last=False)

    # --- operators ---

    def operate(self, provider: str, action: str, now: float) -> None:
        """``drain`` (no new attempts), ``isolate`` (hold the breaker open), ``restore`` (undo both, and hold nothing
        against it; traffic returns gradually).

        Raises ``ConfigurationError`` for an id the pool does not have, and for any other action.
        """
        with self._lock:
            member = self._members.get(provider)
            if member is None:
                raise ConfigurationError(f"there is no provider {provider!r}; there are {', '.join(self._members)}")
            before = member.breaker.state
            if action == "drain":
                member.drained = True
            elif action == "isolate":
                member.breaker.isolate(now)
            elif action == "restore":
                member.drained = False
                member.breaker.restore(now)
                member.health.pardon()
            else:
                raise ConfigurationError(f"a provider can be drained, isolated or restored, not {action!r}")
            self._changed(member, before, now)
            self._events.append(events.Drained(now, provider, action))
            if member.passed_over and not member.health.suspect:
                self._trust_changed(member, now, "restored by hand")

    def in_flight(self, provider: str) -> int:
        """Attempts under way at a provider, open streams included; 0 for an unknown one."""
        member = self._members.get(provider)
        return 0 if member is None else member.concurrency.in_flight

    def explain(self, call: Call[T], now: float) -> list[tuple[T, str | None]]:
        """The providers of the call's route in order, each with why it would not be asked now, or only if nobody better
        can be (``None``: it would)."""
        with self._lock:
            self._settle(now)
            found: list[tuple[T, str | None]] = []
            for member in self._order(call):
                refusal = member.refusal(call, now)
                found.append((member.target, why_not(call, member, refusal, now)))
            return found

    def snapshot(self, now: float) -> tuple[Standing, ...]:
        """Every provider as it stands."""
        with self._lock:
            self._settle(now)
            best = usual_latency(list(self._members.values()), now)
            return tuple(standing(member, now, best) for member in self._members.values())

    # --- the outside ---

    def take_events(self) -> Iterable[events.Event]:
        """Events recorded since the last call, oldest first.  Call it without the lock; cheap when there are none."""
        while self._events:
            try:
                yield self._events.popleft()
            except IndexError:  # another thread took the last one
                return

    def note(self, event: events.Event) -> None:
        """Add an event of the call's own."""
        self._events.append(event)

    def reset_after_fork(self) -> None:
        """In the child: a new lock, nothing in flight, and every lease of the parent is of an earlier generation.
        What was learnt about the providers stays; what the parent's traffic earned is the parent's alone, or eight
        workers would spend its savings eight times (and one forked in an outage would begin with none)."""
        self._lock = threading.Lock()
        self._fill_budgets()
        self._abandoned.clear()
        self._events.clear()
        self._probing.clear()
        for member in self._members.values():
            member.pending.clear()
            member.concurrency.in_flight = 0
            member.born = member.breaker.generation = member.breaker.generation + 1
            member.breaker.release_probe()
            member.own_gate.released()
            member.account_gate.released()


def _at_ease(member: Member[T]) -> bool:
    """Whether nothing at all speaks against its tier's traffic going there; if something does, it is looked at."""
    return not member.pending and member.breaker.closed_at is None and not member.health.suspect
