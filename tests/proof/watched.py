"""A call of the production core whose every step is checked."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final, final

from resilient_llm.decide.attempt import Attempt
from resilient_llm.decide.breaker import State
from resilient_llm.decide.call import Call, Wait
from resilient_llm.decide.keys import Refusal
from resilient_llm.decide.leases import SUCCESS_EARNS
from resilient_llm.decide.line import Place
from resilient_llm.decide.member import Member
from resilient_llm.decide.outcome import Outcome
from resilient_llm.decide.patience import LATE_TIMER
from resilient_llm.errors import AllAttemptsFailed, CallFailed, NoProviderAvailable
from resilient_llm.faults import Fault, FaultKind, FaultScope
from resilient_llm.policy import Breaker
from resilient_llm.simulate.client import Production, Question, Real
from resilient_llm.simulate.providers import Provider
from tests.proof.invariants import Checker, Lease, Picture, heads_of, picture, ready, waiting_before

_BLAMELESS: Final = frozenset(
    {
        FaultKind.RATE_LIMITED,
        FaultKind.QUOTA_EXHAUSTED,
        FaultKind.AUTH,
        FaultKind.PERMISSION,
        FaultKind.NOT_FOUND_MODEL,
        FaultKind.BAD_REQUEST,
        FaultKind.CONTEXT_LENGTH,
        FaultKind.PAYLOAD_TOO_LARGE,
        FaultKind.CONTENT_FILTER,
        FaultKind.CONFLICT,
        FaultKind.CLIENT_CLOSED,
        FaultKind.UNSUPPORTED,
        FaultKind.MISCONFIGURED,
        FaultKind.SEALED_REASONING,
    }
)
_BARRING: Final = frozenset(
    {
        FaultKind.QUOTA_EXHAUSTED,
        FaultKind.AUTH,
        FaultKind.PERMISSION,
        FaultKind.NOT_FOUND_MODEL,
        FaultKind.MISCONFIGURED,
    }
)
_REJECTED: Final = frozenset({FaultKind.BAD_REQUEST, FaultKind.CONTENT_FILTER, FaultKind.CLIENT_CLOSED})
_OVERLOAD: Final = frozenset({FaultKind.RATE_LIMITED, FaultKind.OVERLOADED, FaultKind.TIMEOUT})
_OPEN: Final = (-math.inf, -math.inf)
"""Until when a gate is closed, and the number of the last call that its key refused."""
_MOST_PER_PROVIDER: Final = 3
_MOST: Final = 6
_FIRST_TOKEN: Final = 10.0
"""Seconds after which a lone provider that is silent is asked again at the soonest."""


def verdict(fault: Fault) -> Outcome:
    """What a fault proves about its provider, by these books."""
    if fault.kind in _BLAMELESS or fault.scope is FaultScope.LOCAL:
        return Outcome.NEUTRAL
    if fault.kind is FaultKind.OVERLOADED or (fault.status == 503 and fault.retry_after is not None):
        return Outcome.SOFT
    if fault.kind is FaultKind.INVALID_RESPONSE and fault.scope is FaultScope.REQUEST:
        return Outcome.SOFT
    return Outcome.HARD


def cost(fault: Fault) -> float:
    """What a second try after this fault takes from the budget."""
    return 1.0 if fault.kind in _OVERLOAD or fault.status in (429, 503, 529) else 0.25


def free(fault: Fault) -> bool:
    """Whether a failure uses up none of a call's attempts: a refusal that says when to come back."""
    return fault.kind is FaultKind.RATE_LIMITED or (
        fault.kind is FaultKind.OVERLOADED and fault.retry_after is not None
    )


def ran(fault: Fault) -> bool:
    """Whether the request may have taken effect."""
    if fault.status is None:
        return fault.code != "not_sent"
    no_answer = fault.kind is FaultKind.INVALID_RESPONSE and fault.status < 300
    return no_answer or (fault.status >= 500 and fault.status not in (503, 529))


@final
class Watched:
    """Wraps a :class:`Call`."""

    def __init__(self, checker: Checker, call: Call[Provider]) -> None:
        self.call = call
        self.tried: dict[str, int] = {}
        """Failures that count, by provider."""
        self._held: dict[Member[Provider], float] = {}
        """Until when a provider that refused this call asked it to wait.  One that was removed and comes back has no
        past."""
        self._checker = checker
        self._begun = False
        self._rejected = False
        self._spoke = False
        self._over = False
        self._ran = False
        self._counted = 0
        self._due = 0.0
        self._cost = 0.0
        self._refused: dict[Member[Provider], bool] = {}
        """Whose quota or key was refused before its last step, and whether that is proven."""
        self._rivals: Sequence[Member[Provider]] = ()
        """Who was well and could be asked before its last step."""
        self._down_since = math.inf
        self._mine: list[Real] = []
        self._place: Place | None = None
        """Where it stood before its last step."""
        checker.calls += 1

    def __repr__(self) -> str:
        return f"call {self.call.number}"

    def route(self) -> Sequence[Member[Provider]]:
        """The providers of its route."""
        return self._checker.client.pool._table.order(self.call.ask.route)  # pyright: ignore[reportPrivateUsage]

    def _could(self, member: Member[Provider], now: float) -> bool:
        """Whether it could be asked now, as far as this call, its gates and limits go."""
        ask = self.call.ask
        open_to = member.id not in ask.unsuitable and member.breaker.state is not State.ISOLATED
        return open_to and member.refusal(ask, now) is None

    def _fresh_and_well(self, now: float) -> list[Member[Provider]]:
        closed = [m for m in self.route() if m.id not in self.tried and m.breaker.state is State.CLOSED]
        number, ask = self.call.number, self.call.ask
        place = self.call.past.place
        if place is not None:  # who comes too late lets the others pass
            closed = [m for m in closed if not place.too_late(now)]
        return [m for m in closed if self._could(m, now) and m.line.may_pass(number, ask, None, now)]

    # --- deciding ---

    def next_attempt(self, now: float) -> Real | Wait:
        """See :meth:`Call.next_attempt`."""
        check, call = self._checker, self.call
        check.looked(now)
        check.before(now)
        self._begin(now)
        check.demand(not self._mine, "S11", f"{self._mine} still run: a failure was taken for the answer")
        self._rivals = [m for m in self.route() if m.breaker.state is State.CLOSED and self._could(m, now)]
        well, ahead, self._place = self._fresh_and_well(now), self._ahead(now), call.past.place
        lines, cut = {member: ready(member.line, now) for member in self.route()}, self._cut_short()
        barred = [m for m in self.route() if m.refusal(call.ask, now, waits=True) is Refusal.QUOTA]
        self._refused = {member: check.keys.proven(member.slow_gate) for member in barred}
        offer, woken_at = (None, math.inf) if self._place is None else (self._place.offer, self._place.woken_at)
        try:
            step = call.next_attempt(now)
        except CallFailed as error:
            self._over = True
            self._gave_up(error, now)
            check.after(now, None)
            raise
        if isinstance(step, Wait):
            self._waits(step, well, now)
            check.after(now, None)
            return step
        self._leased(step, well, ahead, now)
        others = (one for one in lines.get(step.member, []) if one.number != call.number)
        heads = heads_of(one for one in others if step.member not in cut or one.ask.batch is not call.ask.batch)
        check.served.offered(step.member)
        could = [one for one in heads if one.woken_at < now and step.member.refusal(one.ask, now) is None]
        check.served.leased(step, could, now, woken_at if offer is step.member.line else math.inf)
        check.after(now, step.member)
        return step

    def _begin(self, now: float) -> None:
        """A call earns trials and rescues."""
        check = self._checker
        if not self._begun:
            self._begun = True
            ratio, last = check.client.policies.hedge.ratio, check.last_call_at
            check.tests.earn(ratio if last is None else max(ratio, ratio * 4.0 * (now - last)))
            check.rescues.earn(ratio)
            check.last_call_at = now

    def _cut_short(self) -> set[Member[Provider]]:
        """Where who has the most time left comes first."""
        return {member for member in self.route() if self._checker.members[member].cut_short}

    def _ahead(self, now: float) -> Mapping[Member[Provider], Place]:
        """Who stands before this call in the lines of its providers."""
        ask, number = self.call.ask, self.call.number
        cut = self._cut_short()
        found = {m: waiting_before(m.line, ask, number, now, latest_first=m in cut) for m in self.route()}
        mine = self.call.past.place
        offered = None if mine is None else mine.offer
        return {  # who came when this call had been offered the place already comes after it
            member: place
            for member, place in found.items()
            if place is not None and not (mine is not None and offered is member.line and place.since >= mine.woken_at)
        }

    def _leased(
        self, step: Real, well: list[Member[Provider]], ahead: Mapping[Member[Provider], Place], now: float
    ) -> None:
        """An attempt was allowed."""
        check, member, ask = self._checker, step.member, self.call.ask
        check.demand(not self._spoke, "S10", "a new attempt after the first sign of life")
        check.demand(not self._rejected, "X5", f"{step!r} after a rejection")
        check.demand(not (self._ran and not ask.repeatable), "R2", f"{step!r} although it may have run")
        again = member.id in self.tried
        check.demand(step.kind != "retry" or again, "X3", f"{step!r} is the first there")
        check.demand(not again or step.kind in ("retry", "trial", "initial"), "X3", f"{step!r} was tried before")
        self._due, was = 0.0, check.pictures[member]
        if step.kind == "initial" and not ahead:
            self._passes_over(step, well)
        if step.kind == "trial":
            self._trial(step, well, now)
        elif member in self._refused:  # a call that has nobody else is sent; once it is proven, one a second
            books, proven = check.members[member], self._refused[member]
            soon = proven and now - books.refused_at < 1.0
            check.demand(not soon, "K2", f"{step!r} {now - books.refused_at} s after the last one")
            books.refused_at = now
        elif step.number > 1 and not was.down and (again or was.state is not State.CLOSED):
            self._pays(check, self._cost, now)
        first = ahead.get(member)
        if first is not None and not check.pictures[member].down:
            served = first.woken_at < now and member.refusal(first.ask, now) is None  # else it had its chance just now
            served = served and not step.insists  # at a quarter of its time, whoever waits for a guessed limit goes
            check.demand(not served, "W1", f"{self!r} was served at {member.id} before call {first.number}")
        self._lease(step, now)

    def _passes_over(self, step: Real, well: list[Member[Provider]]) -> None:
        """A call is sent to a later tier than it might be."""
        check = self._checker
        waited_for = {attempt.member for attempt, lease in check.leases.items() if not lease.spoke}
        for tier in check.client.pool._table.routes.get(self.call.ask.route, ()):
            if step.member in tier:
                return
            idle = [member for member in tier if member in well and member not in waited_for]
            check.demand(not idle, "B4", f"{step!r} although {idle} could be asked")

    def _trial(self, step: Real, well: list[Member[Provider]], now: float) -> None:
        """A call is spent on finding out how a provider is."""
        check, member, was = self._checker, step.member, self._checker.pictures[step.member]
        check.demand(self.call.ask.repeatable, "R2", f"{step!r} of a call that must not be repeated")
        check.demand(was.state is not State.ISOLATED, "S6", f"{member.id} is isolated and was asked")
        if not any(other is not member for other in well):  # the last resort takes the place of one under way
            for attempt, lease in check.leases.items():
                lease.due = 0.0 if attempt.member is member else lease.due
            return
        self._due = _exclusive_seconds(step, was, check.client.policies.breaker)
        others = [(attempt, lease.due) for attempt, lease in check.leases.items() if attempt.member is member]
        live = [attempt for attempt, seconds in others if now - attempt.started < seconds - 1e-9]
        check.demand(not live, "S2", f"{live} test {member.id} already")
        if was.state is State.CLOSED:
            check.demand(check.tests.look(now) >= 1.0 - 1e-5, "S1", f"{step!r} with {check.tests.tokens} tokens")
            check.tests.spend(1.0)
            return
        check.demand(now >= was.trial_at - 1e-9, "S2", f"{step!r} is due in {was.trial_at - now} s")
        if was.passed != 1:
            broken = was.ends_late and not was.passed  # a broken answer is its caller's loss
            bucket = check.rescues if broken else check.tests
            check.demand(bucket.look(now) >= 1.0 - 1e-5, "S1", f"{step!r} with {bucket.tokens} tokens")
            bucket.spend(1.0)

    @staticmethod
    def _pays(check: Checker, price: float, now: float) -> None:
        tokens = check.extra.look(now)
        check.demand(tokens >= price - 1e-4, "S1", f"a second try for {price} with {tokens} tokens")
        check.extra.spend(price)

    def _lease(self, step: Real, now: float) -> None:
        check, member, ask = self._checker, step.member, self.call.ask
        books = check.members[member]
        check.demand(check.now_members.get(member.id) is member, "S17", f"{member.id} was removed and got a lease")
        check.demand(step not in check.leases, "S3", "the same lease was given out twice")
        check.demand(member.id not in ask.unsuitable, "R1", f"{step!r} although {member.id} is ruled out")
        check.demand(not member.drained, "S17", f"{step!r} although {member.id} is drained")
        until, _ = books.gates.get(step.key, _OPEN)
        until = max(until, self._held.get(member, -math.inf))
        check.demand(now >= until, "S7", f"{member.id} asked for {until - now} s more")
        left = self.call.deadline - now
        check.demand(step.timeout <= left + 1e-6, "S12", f"timeout {step.timeout}, {left} s left")
        limit = member.target.max_concurrency
        check.demand(limit is None or member.in_flight <= limit, "X6", f"{member.id} is beyond its limit")
        counted = self.tried.get(member.id, 0)
        check.demand(counted < _MOST_PER_PROVIDER, "S1", f"{step!r} after {counted} at {member.id}")
        under_way = sum(not one.trial for one in self._mine)
        told = f"{step!r} after {self._counted} attempts and beside {under_way}"
        check.demand(self._counted + under_way < _MOST, "S1", told)
        check.leases[step] = Lease(member.breaker.generation, step.kind, due=self._due)
        self._mine.append(step)
        self.tried.setdefault(member.id, 0)
        if step.kind != "trial":
            self._down_since = math.inf
        was = check.pictures[member]
        again = any(one.member is member for one in self._mine[:-1])
        check.busy.leased(step, down=was.down, again=again, members=check.now_members, now=now)
        rivals = [one for one in self._rivals if one is not member]
        lone = len(self.route()) == 1
        alone = not rivals if step.kind == "trial" else lone or was.state is not State.CLOSED
        check.busy.patient(step, alone=alone, lone=lone, left=left, longest=check.members[member].longest)
        check.note((now, self, step))

    def rescue(self, beside: Real, now: float) -> Real | None:
        """See :meth:`Call.rescue`."""
        check = self._checker
        check.before(now)
        well = [m for m in self._fresh_and_well(now) if m is not beside.member]
        hangs = self._hangs(beside, now)
        found = self.call.rescue(beside, now)
        if found is not None:
            check.demand(not self._spoke, "S10", "a rescue after the first sign of life")
            check.demand(not self._rejected, "X5", f"{found!r} after a rejection")
            check.demand(self.call.ask.repeatable, "R2", f"{found!r} of a call that must not be repeated")
            if found.member is beside.member:
                check.demand(found.fresh and not well, "S11", f"{found!r} at the same provider beside {well}")
            check.busy.rescued(beside, found, now)
            lost = beside.kind == "trial" or beside.member.breaker.down
            self._due = 0.0
            self._pays_for_rescue(beside, found, lost and found.member is not beside.member, now)
            self._lease(found, now)
            check.served.leased(found, [], now)
        elif hangs:
            check.busy.not_rescued(beside, check.members[beside.member].longest, now)
        # An attempt that is late opens the breaker of its provider, whoever comes to the rescue.
        check.pictures[beside.member] = picture(beside.member)
        check.after(now, None if found is None else found.member)
        return found

    def _hangs(self, beside: Real, now: float) -> bool:
        """Whether an attempt that is silent at a lone provider for half of its time can be made a second time."""
        check, member, ask = self._checker, beside.member, self.call.ask
        lease, left = check.leases.get(beside), self.call.deadline - now
        if lease is None or lease.spoke or self._rejected or beside.rescue_after is None or ask.batch:
            return False
        if not ask.repeatable or [*self.route()] != [member] or member.refusal(ask, now) is not None:
            return False
        half = now - beside.started >= (self.call.deadline - beside.started) / 2.0 and left > 0.25
        running = sum(one.member is member for one in self._mine)
        more = self.tried.get(member.id, 0) + running < _MOST_PER_PROVIDER and self._counted < _MOST
        paid = max(check.rescues.look(now), check.extra.look(now)) >= 1.0 + 1e-3
        held = self._held.get(member, -math.inf)
        return half and more and paid and now > held and not member.line.waiting

    def _pays_for_rescue(self, beside: Real, found: Real, lost: bool, now: float) -> None:
        check = self._checker
        if lost:
            return
        if check.rescues.look(now) >= 1.0 - 1e-5:
            check.rescues.spend(1.0)
            return
        silent = now - beside.started
        half = silent >= 0.998 * (self.call.deadline - beside.started) / 2.0
        again = found.member is beside.member and silent >= _FIRST_TOKEN - 0.002  # nobody else can be asked
        third = silent >= 0.332 * (self.call.deadline - beside.started)
        unknown = third and beside.member.statistics.latency is None  # no answer of it was evidence
        check.demand(half or again or unknown, "S1", f"{found!r} with {check.rescues.tokens} tokens")
        self._pays(check, 1.0, now)

    # --- what happened ---

    def first_content(self, attempt: Real, now: float) -> None:
        """See :meth:`Call.first_content`."""
        check = self._checker
        check.before(now, attempt.member)
        self._took(attempt, now)
        self.call.first_content(attempt, now)
        lease = check.leases.get(attempt)
        if lease is not None:
            self._answers(attempt, now)
            lease.spoke, check.members[attempt.member].cut_short = True, False
            self._spoke |= not self._over
            was = check.pictures[attempt.member]
            lease.due = lease.due if was.ends_late else 0.0  # else it is judged
            if lease.generation == was.generation and picture(attempt.member).passed > was.passed:
                check.members[attempt.member].bad = 0  # a trial passes at its first content
            lease.generation = attempt.generation
        check.after(now, attempt.member)

    def succeeded(self, attempt: Real, now: float, output_tokens: int = 0) -> None:
        """See :meth:`Call.succeeded`."""
        check = self._checker
        check.before(now, attempt.member)
        self._took(attempt, now)
        self.call.succeeded(attempt, now, output_tokens)
        lease = self._released(attempt, now)
        if lease is not None:
            if not lease.spoke:
                self._answers(attempt, now)
            check.keys.answered(attempt, now)
            check.extra.look(now)
            check.extra.earn(SUCCESS_EARNS)
            books = check.members[attempt.member]
            books.cut_short = books.cut_short and lease.spoke  # the end of a stream does not tell how soon one begins
            if attempt.sent[2] > books.gates.get(attempt.key, _OPEN)[1]:
                books.gates.pop(attempt.key, None)
            self._spoke = self._over = True
            check.judged(attempt, lease, Outcome.OK, now)
        check.after(now, attempt.member)

    def failed(self, attempt: Real, fault: Fault, now: float) -> None:
        """See :meth:`Call.failed`."""
        check = self._checker
        check.before(now, attempt.member)
        silent = fault.kind is FaultKind.TIMEOUT and attempt.content_at is None
        slept = silent and now - attempt.started > attempt.timeout + 0.25
        chance = check.keys.by_chance(attempt, fault, now)
        explained = attempt.key.pace.explains(attempt.need, now)
        self.call.failed(attempt, fault, now)
        lease = self._released(attempt, now)
        if lease is not None:
            lost = self._all_lost(now)
            local = lost and fault.kind is FaultKind.CONNECTION and attempt.content_at is None
            guessed = attempt.insists and fault.kind is FaultKind.RATE_LIMITED and fault.retry_after is None
            check.keys.refused(attempt, fault, chance, now)
            check.busy.failed(attempt.member, fault, spoke=attempt.content_at is not None)
            self._hold(attempt, fault, explained, now)
            if not guessed:
                self._gate(attempt, fault, now)
            outcome = Outcome.NEUTRAL if slept or local else self._outcome(attempt, fault, now)
            check.judged(attempt, lease, outcome, now)
            if not self._over:
                told = fault.kind is FaultKind.CLIENT_CLOSED and fault.status is not None  # by a provider
                self._rejected |= fault.kind in _REJECTED and not told
                self._ran |= ran(fault)
                self._cost = 0.0 if free(fault) or attempt.other_key else cost(fault)
                # Else nothing bounds such trials; where its key is refused, the call does not ask it again.
                trial = attempt.kind == "trial" and (outcome is not Outcome.NEUTRAL or fault.kind in _BARRING)
                counts = not (trial or free(fault) or lost or attempt.other_key)
                self._counted += counts
                self.tried[attempt.member.id] = self.tried.get(attempt.member.id, 0) + counts
        check.after(now, attempt.member)

    def _all_lost(self, now: float) -> bool:
        """Whether every provider failed to connect within five seconds: it is our own network."""
        members = self._checker.now_members.values()
        return len(members) > 1 and all(
            now - m.connect_failed_at <= 5.0 and m.connect_failed_at > m.good_start for m in members
        )

    @staticmethod
    def _outcome(attempt: Real, fault: Fault, now: float) -> Outcome:
        """As it is judged: a timeout of a provider that is not known well enough proves less."""
        found = Outcome.HARD if attempt.by_chance else verdict(fault)
        unknown = not attempt.known and attempt.content_at is None and fault.code != "not_sent"
        if found is not Outcome.HARD or fault.kind is not FaultKind.TIMEOUT or not unknown:
            return found
        if attempt.kind == "hedge":
            return Outcome.NEUTRAL
        return found if now - attempt.started >= 10.0 else Outcome.SOFT

    def _hold(self, attempt: Real, fault: Fault, explained: bool, now: float) -> None:
        """Whom a rate limit refused is to wait as it was told, also where the gate opens sooner for others."""
        hint, member = fault.retry_after, attempt.member
        waits = attempt.refused_alone or (len(member.keys) == 1 and not explained)
        if waits and fault.kind is FaultKind.RATE_LIMITED and hint is not None and not math.isnan(hint):
            self._held[member] = max(self._held.get(member, -math.inf), now + hint - 1e-9)

    def _answers(self, attempt: Real, now: float) -> None:
        """An attempt gives its first sign of life."""
        speed = self._checker.busy.speed(attempt.member)
        if now - attempt.started > attempt.timeout + LATE_TIMER:  # this process stood still, which tells nothing
            speed.overtaken()
            return
        speed.spoke(attempt.started, _normal(attempt, now), now, streaming=attempt.ask.streaming)

    def _took(self, attempt: Real, now: float) -> None:
        """An attempt speaks, ends or is given up after so long."""
        books = self._checker.members[attempt.member]
        books.longest = max(books.longest, _normal(attempt, now))

    def _gate(self, attempt: Real, fault: Fault, now: float) -> None:
        member, key, number = attempt.member, attempt.key, attempt.sent[2]
        soft = verdict(fault) is Outcome.SOFT and fault.retry_after is not None
        hard = verdict(fault) is Outcome.HARD and fault.kind is not FaultKind.TIMEOUT and fault.code != "not_sent"
        if hard and number > self._checker.members[member].gates.get(key, _OPEN)[1]:
            self._checker.members[member].gates.pop(key, None)
        if fault.kind is not FaultKind.RATE_LIMITED and not soft:
            return
        check, books = self._checker, self._checker.members[member]
        cap = member.policies.limits.gate_cap
        hint = fault.retry_after or 0.0
        if attempt.refused_alone:  # this call alone waits
            return
        until = max(books.gates.get(key, _OPEN)[0], now + (hint if hint <= cap * 0.8 else cap * 0.8) - 1e-9)
        last = books.gates.get(key, _OPEN)[1]
        books.gates[key] = until, last if soft else max(number, last)  # any call shows that there is room
        early = until - key.gate.until
        check.demand(early <= 0.0, "S7", f"{member.id}'s gate opens {early} s early")

    def abandoned(self, attempt: Real, now: float) -> None:
        """See :meth:`Call.abandoned`."""
        self._leave(attempt, now, self.call.abandoned, Outcome.NEUTRAL)

    def overtaken(self, attempt: Real, now: float) -> bool:
        """See :meth:`Call.overtaken`."""
        check = self._checker
        check.before(now, attempt.member)
        late = attempt.late(now)
        self._took(attempt, now)
        runs_on = self.call.overtaken(attempt, now)
        check.demand(not runs_on or attempt.kind == "trial", "S11", f"{attempt!r} runs on")
        if not runs_on:
            lease = self._released(attempt, now)
            if lease is not None:
                check.busy.speed(attempt.member).overtaken()
                check.busy.failed(attempt.member, Fault(FaultKind.TIMEOUT), spoke=lease.spoke, certain=late)
                proof = self._outcome(attempt, Fault(FaultKind.TIMEOUT), now) if late else Outcome.NEUTRAL
                check.judged(attempt, lease, proof, now)
        elif attempt in self._mine:
            self._mine.remove(attempt)
        check.after(now, attempt.member)
        return runs_on

    def expired(self, attempt: Real, fault: Fault, now: float, silence: float = 0.0) -> None:
        """See :meth:`Call.expired`."""
        seen = attempt.member.statistics.pauses
        stopped = attempt.content_at is not None and silence >= max(1.0, 3.0 * seen.p95)
        if attempt in self._checker.leases and attempt.content_at is None:
            self._checker.members[attempt.member].cut_short = True
        in_time = now <= self.call.deadline + 0.25
        guilty = (stopped or attempt.late(now)) and in_time
        outcome = self._outcome(attempt, fault, now) if guilty else Outcome.NEUTRAL
        usual = attempt.late_after / self._checker.client.policies.hedge.factor
        waited = attempt.known and attempt.content_at is None and not attempt.waits_for_key
        if in_time and not guilty and waited and now >= attempt.started + usual:
            outcome = Outcome.SOFT
        if attempt in self._checker.leases:
            spoke = attempt.content_at is not None
            self._checker.busy.failed(attempt.member, fault, spoke=spoke, certain=guilty)
        self._leave(attempt, now, lambda a, t: self.call.expired(a, fault, t, silence), outcome)

    def paused(self, attempt: Real, seconds: float) -> None:
        """See :meth:`Call.paused`."""
        self.call.paused(attempt, seconds)

    def stopped_waiting(self, now: float) -> None:
        """See :meth:`Call.stopped_waiting`."""
        check = self._checker
        check.before(now)
        self.call.stopped_waiting(now)
        self._over = True
        for member in self.route():
            here = any(place.number == self.call.number for place in member.line.waiting)
            check.demand(not here, "L5", f"{self!r} left and stands in line for {member.id}")
        check.after(now, None)

    def _leave(self, attempt: Real, now: float, how: Callable[[Real, float], None], outcome: Outcome) -> None:
        check = self._checker
        check.before(now, attempt.member)
        how(attempt, now)
        lease = self._released(attempt, now)
        if lease is not None:
            check.judged(attempt, lease, outcome, now)
        check.after(now, attempt.member)

    def _released(self, attempt: Real, now: float) -> Lease | None:
        """The lease that has just ended; ``None``, and nothing may have changed, if it had ended before."""
        check = self._checker
        if attempt in self._mine:
            self._mine.remove(attempt)
        lease = check.leases.pop(attempt, None)
        if lease is None:
            was, found = check.pictures[attempt.member], picture(attempt.member)
            check.demand(was == found, "S3", f"a second release changed {attempt.member.id}: {was} to {found}")
        return lease

    # --- waiting and giving up ---

    def _waits(self, step: Wait, well: list[Member[Provider]], now: float) -> None:
        check, call = self._checker, self.call
        fine = math.isfinite(step.seconds) and step.seconds > 0.0 and now + step.seconds > now
        check.demand(fine, "S12", f"a wait of {step.seconds} s ({step.reason})")
        check.demand(now + step.seconds <= call.deadline + 1e-6, "S12", f"a wait of {step.seconds} s, too long")
        check.demand(self._counted < _MOST, "X2", "a wait after the last attempt")
        check.demand(not well, "X2", f"waits {step.seconds} s ({step.reason}) while {well} are free")
        if step.reason == "down":
            self._down_since = min(self._down_since, now)
        for member in self.route():
            if member.refusal(call.ask, now) is Refusal.FULL:
                load, limit = member.in_flight + member.line.offers, member.target.max_concurrency
                if limit is not None and call.ask.batch:
                    limit = max(1, int(limit * 0.9))
                check.demand(limit is not None and load >= limit, "X6", f"{member.id} has {load} of {limit}")

    def _gave_up(self, error: CallFailed, now: float) -> None:
        """A call that could go on, or wait, does."""
        check, call = self._checker, self.call
        if not isinstance(error, AllAttemptsFailed | NoProviderAvailable):
            return
        least = min(0.2, (call.deadline - call.started) / 4)
        if self._counted >= _MOST or call.deadline - now <= least + 0.002 or (self._ran and not call.ask.repeatable):
            return
        retry = check.client.policies.retry
        for member in self.route():
            if member.id in call.ask.unsuitable or self.tried.get(member.id, 0) >= _MOST_PER_PROVIDER or self._rejected:
                continue
            refusal = member.refusal(call.ask, now, waits=True)
            if member.drained or member.breaker.state is State.ISOLATED or self._barred(member):
                continue
            held = self._held.get(member, -math.inf)
            gate = member.slow_gate
            barred = refusal is Refusal.QUOTA and not (gate.stated or check.keys.proven(gate))
            brief = barred or refusal in (None, Refusal.PACE, Refusal.FULL, Refusal.LINE)
            if brief and held > now:
                soon = held <= min(call.deadline - least, now + retry.max_wait) - 1.0 and not member.breaker.down
                check.demand(not soon, "S9", f"{self!r} did not wait {held - now} s for {member.id}")
                check.demand(error.retry_after is not None, "S9", f"{member.id}: asked to wait, but no retry_after")
                continue
            ahead, place = member.line.before(call.ask), self._place
            if ahead >= check.client.policies.limits.max_queue and (place is None or member.line not in place.lines):
                continue
            if member.fits_at(call.ask, now, ahead) > call.deadline:
                check.demand(error.retry_after is not None, "S9", f"{member.id}: too many wait, but no retry_after")
                continue
            tried_at, last = member.next_trial(), call.deadline - least - 0.01
            check.demand(member.breaker.down or not barred, "K2", f"{self!r} was not sent to {member.id}")
            if refusal is Refusal.QUOTA or member.own_gate.strikes or member.account_gate.strikes:
                check.demand(error.retry_after is not None, "S9", f"{member.id}: {refusal}, but no retry_after")
            elif refusal in (Refusal.GATED, Refusal.PACE):
                told = math.inf
                if refusal is Refusal.GATED and not member.line.before(call.ask):
                    told = max(now, member.opens_at(refusal, call.ask, now, told=True))
                told = max(told, tried_at) if member.breaker.down else told
                tired = member.breaker.down and now - self._down_since >= retry.max_down_wait - 1e-6
                soon = not tired and told <= min(call.deadline, now + retry.max_wait) - 1.0
                check.demand(not soon, "S9", f"{self!r} did not wait {told - now} s for {member.id}")
                check.demand(error.retry_after is not None, "S9", f"{member.id}: {refusal}, but no retry_after")
            elif member.breaker.down:
                waited = now - self._down_since
                patient = waited >= retry.max_down_wait - 1e-6 or tried_at >= last
                told = f"{error!r} after {waited} s behind {member.id}, down until {tried_at}"
                check.demand(patient, "S9", f"{self!r} gave up at {now} of {call.deadline}: {told}")
            else:
                check.demand(refusal is Refusal.FULL, "S9", f"{self!r} gave up although {member.id} could be asked")

    def _barred(self, member: Member[Provider]) -> bool:
        """Whether an earlier answer says that asking there again is in vain."""
        elsewhere = (FaultKind.QUOTA_EXHAUSTED, FaultKind.AUTH, FaultKind.PERMISSION)
        records = [record for record in self.call.records if record.provider == member.id and record.fault is not None]
        return any(record.fault is not None and record.fault.kind in elsewhere for record in records)


def watch(checker: Checker) -> Callable[[Production, Call[Provider], Question], Watched]:
    """For :class:`Production`: wraps each call."""
    return lambda client, call, question: Watched(checker, call)


def is_attempt(step: object) -> bool:
    """Whether a step is one to be made."""
    return isinstance(step, Attempt)


def _normal(attempt: Real, now: float) -> float:
    """Seconds since an attempt began, as they would be with a short prompt."""
    return (now - attempt.started) / (1.0 + attempt.ask.tokens / 4000.0)


def _exclusive_seconds(trial: Real, was: Picture, policy: Breaker) -> float:
    """Seconds for which a trial keeps others away, at least: that of a whole answer until the next one is due."""
    if was.ends_late:  # it is judged at the end of its stream, which may be far away
        return min(trial.timeout, 4.0 * policy.open_base)
    return min(trial.timeout, policy.open_cap if trial.ask.streaming else policy.open_base)
