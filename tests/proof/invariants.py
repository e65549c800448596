"""What must hold whatever happens, checked after every step of a simulated run.

Each invariant has an id and a sentence in :data:`INVARIANTS`; a :class:`Violation` names it, the seed, and what led up
to it.  The checks keep books of their own (failures in a row, gate times, leases, budgets, who waits) and compare the
production core with them, so that a mistake in the core cannot excuse itself.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, NamedTuple, final

from resilient_llm import events
from resilient_llm.decide.ask import Ask
from resilient_llm.decide.breaker import Cause, State
from resilient_llm.decide.keys import Key
from resilient_llm.decide.leases import _FLOOR  # pyright: ignore[reportPrivateUsage]
from resilient_llm.decide.line import OFFER, Line, Place
from resilient_llm.decide.member import Member
from resilient_llm.decide.outcome import Outcome
from resilient_llm.simulate.client import Production, Real
from resilient_llm.simulate.providers import Provider
from tests.proof.busy import BUSY, Busy
from tests.proof.keys import KEYS, Keys
from tests.proof.limits import LIMITS, Served

INVARIANTS: Final[dict[str, str]] = {
    "S1": "a call makes at most three attempts that count at one provider and six in all; second tries, rescues and "
    "trials stay within what traffic and time have earned",
    "S2": "while somebody well can be asked, a provider has at most one trial under way, and it begins when it is due",
    "S3": "attempts in flight are exactly the leases not yet released; each is released once; at rest there are none",
    "S4": "a result of an earlier generation never moves a breaker",
    "S5": "cancelling, dropping, 4xx and 429 change neither breaker nor statistics; no outcome changes another one's",
    "S6": "a breaker changes its state for a cause that its table knows: enough failures in a row, failing often, "
    "slow, silent, streams stopped; and closes after enough successes of this generation in a row",
    "S7": "no attempt starts before the time a provider asked for, a smaller hint shortens nothing, no gate is closed "
    "for more than its cap",
    "S8": "the next trial of an open breaker is due within its bounds",
    "S9": "no call with time left is refused while somebody could be asked, or waited for; the error says when to come "
    "back",
    "S10": "after the first sign of life no other attempt of the call starts",
    "S11": "a rescue goes to another provider, or over a new connection to the same one where no other can be asked",
    "S12": "no wait and no attempt reaches beyond the deadline, and every wait lets time pass",
    "S13": "the success rate stays in [0, 1], success never lowers it, failure never raises it; latency is no "
    "longer than any attempt took",
    "S14": "shifting all times shifts nothing else; an idle century wedges nothing",
    "S15": "the verdict is the same for a burst as for the same calls spread out",
    "S16": "the pool's lock is never taken twice, and held neither when a call returns, nor while events are read, nor "
    "when somebody is woken",
    "S17": "state survives reconfiguration for ids that stay; a removed provider gets no new lease",
    "S18": "the same seed and schedule give the same log, byte for byte",
    "S19": "failing fast does not attract traffic",
    "S20": "a success constructs no exception",
    "L1": "a provider that has recovered is closed again in bounded time",
    "L2": "and has its traffic again",
    "L3": "an outage is seen by few calls: a row of failures opens the breaker",
    "L4": "after a gate's time its provider receives traffic again by itself",
    "L5": "abandoned streams leave nothing behind, and nobody stands in line when all is over",
    "W1": "who waits is served in order of arrival",
    "W2": "no wakeup is lost: while a provider has room, somebody who waits for it has been woken, or will be",
    "X1": "breaker events form a chain: each begins in the state in which the one before ended",
    "X2": "no call pauses while another provider that is well can be asked, nor after its last attempt",
    "X3": "a provider is asked again by the same call only as a retry, a trial or a rescue",
    "X5": "a request that was rejected for its own sake is asked of nobody else",
    "X6": "a provider is called full only at its limit",
    "R1": "a provider that a call rules out is never asked for it, whatever the need",
    **LIMITS,
    **BUSY,
    **KEYS,
    "R2": "a call that must not be repeated is no trial, has no rescue, and is not repeated once it may have run",
}


class Violation(AssertionError):
    """An invariant does not hold."""

    def __init__(self, name: str, detail: str, seed: int, trail: Iterable[object]) -> None:
        recent = "\n  ".join(map(str, trail))
        super().__init__(f"{name} ({INVARIANTS[name]}): {detail}\n  seed {seed}; the last events:\n  {recent}")
        self.name = name


@final
class WatchedLock:
    """The pool's lock, which notices being taken twice and lets finalisers run at the worst moment: inside."""

    def __init__(self, checker: Checker) -> None:
        self.held: bool = False
        self._checker = checker

    def __enter__(self) -> None:
        self._checker.demand(not self.held, "S16", "the lock was taken by its holder: a deadlock")
        self.held = True
        self._checker.finalise()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.held = False


@dataclass(slots=True)
class Books:
    """What one provider's breaker and gate must be, kept apart from them."""

    generation: int = 0
    chain: str = "closed"
    bad: int = 0
    """Failures (hard or soft) of this generation and the run it began with, none answered in between."""
    gates: dict[Key, tuple[float, float]] = field(default_factory=dict[Key, tuple[float, float]])
    """Until when and since when the gate of each key is closed."""
    cut_short: bool = False
    """Whether nothing was heard since a deadline ended an attempt."""
    refused_at: float = -math.inf
    """When it was asked last although its quota or its key was refused."""
    longest: float = 0.0
    """Seconds that an attempt took at most until it spoke or was given up."""


_LATELY: Final = 300.0
"""Seconds a breaker may be open at the end: one that stragglers opened in the quiet time is not late in closing."""
_SILENT: Final = "it gives no sign of life"
_STALLED: Final = "its streams stopped"


class Picture(NamedTuple):
    """A provider's breaker and statistics before a step."""

    state: State
    generation: int
    run: int
    passed: int
    level: float
    trial_at: float
    cause: object
    ends_late: bool
    samples: int

    @property
    def down(self) -> bool:
        """Whether it is only tried."""
        return self.state is State.OPEN or (self.state is State.SOFTLY_OPEN and str(self.cause) == _SILENT)


@dataclass(slots=True)
class Lease:
    """A permission the core gave out, and what has become of it."""

    generation: int
    kind: str
    spoke: bool = False
    stopped: bool = False
    """Whether it was judged as failed because its stream fell silent, before it ended."""
    due: float = 0.0
    """Seconds for which it keeps other trials away, as one made although somebody well could have been asked."""


def picture(member: Member[Provider]) -> Picture:
    """What of a provider must not change without a cause."""
    b = member.breaker
    level = b._level  # pyright: ignore[reportPrivateUsage]
    samples, ends_late = member.statistics.samples, b.ends_late
    return Picture(b.state, b.generation, b.run, b.passed, level, b.trial_at, b.cause, ends_late, samples)


MOVES: Final = {
    (State.CLOSED, State.SOFTLY_OPEN),
    (State.CLOSED, State.OPEN),
    (State.SOFTLY_OPEN, State.OPEN),
    (State.SOFTLY_OPEN, State.CLOSED),
    (State.OPEN, State.SOFTLY_OPEN),
    (State.OPEN, State.CLOSED),
    (State.CLOSED, State.ISOLATED),
    (State.SOFTLY_OPEN, State.ISOLATED),
    (State.OPEN, State.ISOLATED),
    (State.ISOLATED, State.CLOSED),
}
_ROW: Final = 60
"""Hard failures in a row after which no breaker may be closed."""


@final
class Bucket:
    """A token bucket, by other means than the core's: credited with time whenever it is looked at."""

    def __init__(self, cap: float, tokens: float, per_second: float) -> None:
        self.cap = cap
        self.tokens = tokens
        self._per_second = per_second
        self._at: float | None = None

    def earn(self, amount: float) -> None:
        self.tokens = min(self.cap, self.tokens + amount)

    def look(self, now: float) -> float:
        """The tokens there now."""
        if self._at is not None and now > self._at:
            self.earn((now - self._at) * self._per_second)
        self._at = now if self._at is None else max(now, self._at)
        return self.tokens

    def spend(self, cost: float) -> None:
        self.tokens = max(0.0, self.tokens - cost)


@final
class Checker:
    """Watches one client and the calls it makes."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.trail: deque[object] = deque(maxlen=40)
        self.calls = 0
        self.leases: dict[Real, Lease] = {}
        self.members: dict[Member[Provider], Books] = {}
        self.served: Served = Served(self.demand)
        self.busy: Busy = Busy(self.demand)
        self.keys: Keys = Keys(self.demand)
        self.pictures: dict[Member[Provider], Picture] = {}
        self.extra = Bucket(0.0, 0.0, 1.0)
        self.tests = Bucket(0.0, 0.0, 0.0)
        self.rescues = Bucket(0.0, 0.0, 0.0)
        self.last_call_at: float | None = None
        self._dropped: list[Real] = []
        self._client: Production | None = None
        self._rate = 0.0

    # --- set-up ---

    def attach(self, client: Production) -> Production:
        """Begin to watch a client's pool."""
        self._client = client
        client.pool._lock = WatchedLock(self)  # type: ignore[assignment]  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]
        client.pool.listen(True)
        self._fill_budgets()
        self._meet_members()
        return client

    def _fill_budgets(self) -> None:
        budget = self.client.policies.retry.budget
        self.extra, self.tests, self.rescues = (
            Bucket(budget, budget, _FLOOR),
            Bucket(10.0, 3.0, 0.0),
            Bucket(10.0, 0.0, 0.0),
        )

    @property
    def client(self) -> Production:
        """The client watched."""
        assert self._client is not None
        return self._client

    @property
    def now_members(self) -> Mapping[str, Member[Provider]]:
        """Those in the routing table."""
        return self.client.pool._table.members  # pyright: ignore[reportPrivateUsage]

    def _meet_members(self) -> None:
        for member in self.now_members.values():
            self.members.setdefault(member, Books(generation=member.breaker.generation))

    def demand(self, holds: bool, name: str, detail: str) -> None:
        """Raise a :class:`Violation` unless it holds."""
        if not holds:
            raise Violation(name, detail, self.seed, self.trail)

    def note(self, text: object) -> None:
        """Remember an event for the message of a violation; it is spelt out only there."""
        self.trail.append(text)

    # --- finalisers and forks ---

    def drop(self, attempt: Real) -> None:
        """The garbage collector will find this attempt the next time somebody holds the lock."""
        self._dropped.append(attempt)

    def finalise(self) -> None:
        """A finaliser runs on the thread that holds the lock."""
        while self._dropped:
            self.client.pool.abandon_later(self._dropped.pop())

    def forked(self) -> None:
        """This is a child process now: what was in flight is the parent's, and its leases only get collected here."""
        self.read_events()
        pool = self.client.pool
        pool.reset_after_fork()
        pool._lock = WatchedLock(self)  # type: ignore[assignment]  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]
        for member, books in self.members.items():
            books.generation, books.cut_short = member.breaker.generation, False
        self._dropped.extend(self.leases)
        self.leases.clear()
        self._fill_budgets()

    def operated(self, provider: str, action: str) -> None:
        """A person restored a provider: nothing is held against it any more."""
        if action == "restore":
            books = self.members[self.now_members[provider]]
            books.bad, books.cut_short = 0, False
            books.gates.clear()
            self.served.restored(self.now_members[provider])
            self.keys.restored(self.now_members[provider])

    # --- around each operation ---

    def before(self, now: float, concerned: Member[Provider] | None = None) -> None:
        """Settle what is due, check the books, and take pictures."""
        pool = self.client.pool
        self._meet_members()
        with pool._lock:  # pyright: ignore[reportPrivateUsage]
            queued = [*pool._abandoned]  # pyright: ignore[reportPrivateUsage]
            pool._settle(now)  # pyright: ignore[reportPrivateUsage]
        pool._wake()  # pyright: ignore[reportPrivateUsage]
        for attempt in queued:
            self.leases.pop(attempt, None)
        self.read_events()
        for member, books in self.members.items():
            self._inspect(member, books, now)
            self.pictures[member] = picture(member)
            self.busy.look(member, now)
        self._rate = 0.0 if concerned is None else concerned.statistics.success_rate(now)

    def looked(self, now: float) -> None:
        """A call comes, and with it a look at the open streams."""
        was = {member: member.breaker.state for member in self.members}
        pool = self.client.pool
        with pool._lock:  # pyright: ignore[reportPrivateUsage]
            pool._verdicts.look(now)  # pyright: ignore[reportPrivateUsage]
        for member, state in was.items():
            begun = [(one, lease) for one, lease in self.leases.items() if one.member is member and lease.spoke]
            if member.breaker.cause is Cause.STALLED and state is State.CLOSED:
                quiet = [one for one, _ in begun if now - one.quiet_since >= 1.0]
                self.demand(len(quiet) >= 3, "S6", f"{member.id} opened softly with {len(quiet)} silent streams")
            elif state is State.CLOSED:
                stopped = [lease for one, lease in begun if one.stopped and not lease.stopped]
                self.members[member].bad += len(stopped)
                moved = member.breaker.state is not State.CLOSED
                self.demand(bool(stopped) or not moved, "S6", f"{member.id} opened though no stream stopped")
                for lease in stopped:
                    lease.stopped = True

    def after(self, now: float, concerned: Member[Provider] | None) -> None:
        """Nobody but the provider concerned has changed, nobody sleeps who could be served, and the lock is free."""
        self.read_events()
        for member, books in self.members.items():
            if member is not concerned:
                found = picture(member)
                was = self.pictures.get(member, found)
                self.demand(found == was, "S5", f"{member.id} changed though not concerned: {was} to {found}")
            self._inspect(member, books, now)
            self._inspect_line(member, now)

    def read_events(self) -> None:
        """Take the pool's events, as a listener would."""
        pool = self.client.pool
        self.demand(not self.lock_held, "S16", "the lock is held after a call returned")
        for event in pool.take_events():
            self.demand(not self.lock_held, "S16", "events were read under the lock")
            self.trail.append(event)
            if isinstance(event, events.BreakerChanged):
                self._follow(event)

    @property
    def lock_held(self) -> bool:
        """Whether somebody holds the pool's lock."""
        lock: object = self.client.pool._lock  # pyright: ignore[reportPrivateUsage]
        return isinstance(lock, WatchedLock) and lock.held

    def _follow(self, event: events.BreakerChanged) -> None:
        member = self.now_members.get(event.provider)
        books = self.members.get(member) if member is not None else None
        if books is None:
            return
        self.demand(event.old == books.chain, "X1", f"{event.provider} was {books.chain}, the event says {event.old}")
        self.demand((State(event.old), State(event.new)) in MOVES, "S6", f"{event}: there is no such change")
        books.chain = event.new

    def _inspect(self, member: Member[Provider], books: Books, now: float) -> None:
        breaker, policy = member.breaker, member.breaker.policy
        if breaker.generation != books.generation:
            books.generation = breaker.generation
            if breaker.state in (State.SOFTLY_OPEN, State.OPEN):
                wait, most = breaker.trial_at - now, max(60.0, policy.open_cap)
                self.demand(wait <= most + 1e-9, "S8", f"the next trial of {member.id} is due in {wait} s")
        count = silent = 0
        for attempt, lease in self.leases.items():
            if attempt.member is member:
                count += 1
                silent += not lease.spoke
        if member.in_flight != count or len(member.pending) != silent:
            told = f"{member.in_flight} ({len(member.pending)} silent), {count} ({silent}) leases are out"
            self.demand(False, "S3", f"{member.id} counts {told}")
        trial = member.trial
        if trial is not None and trial not in self.leases:
            self.demand(False, "S3", f"{member.id} waits for {trial}, which is over")
        closed = breaker.state is State.CLOSED
        self.demand(not (closed and books.bad >= _ROW), "L3", f"{member.id} is closed after {books.bad} failures")
        self._inspect_health(member, now)

    def _inspect_health(self, member: Member[Provider], now: float) -> None:
        rate, latency, gate = member.statistics.success_rate(now), member.statistics.latency, member.gate.until
        if not 0.0 <= rate <= 1.0:
            self.demand(False, "S13", f"{member.id} has success rate {rate}")
        if latency is not None and not 0.0 <= latency <= self.members[member].longest + 1e-6:
            self.demand(False, "S13", f"{member.id} has latency {latency}")
        cap = member.policies.limits.gate_cap
        if gate > now + cap + 1e-6:
            self.demand(False, "S7", f"{member.id}'s gate is closed for {gate - now} s")

    def _inspect_line(self, member: Member[Provider], now: float) -> None:
        """Somebody is on the way to whatever room there is."""
        line = member.line
        if not line.waiting or member not in self.now_members.values():
            return
        waiting = [place for place in line.waiting if not place.missed(now)]
        if not waiting or any(place.woken or place.alarm <= now + OFFER for place in waiting):
            return  # on its way, and it looks for the others when it has been served
        in_time = [place for place in waiting if not place.too_late(now)]
        heads = heads_of(in_time or waiting)
        if self.members[member].cut_short:
            heads = in_time = [max(waiting, key=lambda place: (not place.ask.batch, place.last, place.number))]
        leading = min(place.ask.batch for place in heads)
        heads = [place for place in heads if place.ask.batch is leading]
        free = all(member.refusal(place.ask, now) is None for place in heads)
        if member.breaker.down:
            free = free and now >= member.next_trial()
        first = min(heads if in_time else waiting, key=lambda place: place.alarm)
        alarm, grows = first.alarm, 0.1 * (first.alarm - max(first.since, first.woken_at))  # a learnt limit meanwhile
        asleep = free and alarm > now + 1.0 + OFFER + grows  # the last resort goes once a second
        told = f"at {now} {[place.number for place in heads]} (of {len(line.waiting)}) sleep until {alarm}"
        self.demand(not asleep, "W2", f"{told} beside {member.id}, free")

    # --- outcomes ---

    def judged(self, attempt: Real, lease: Lease, outcome: Outcome, now: float) -> None:
        """After an attempt that ended with this outcome."""
        member, was = attempt.member, self.pictures[attempt.member]
        found, books = picture(member), self.members[member]
        if outcome in (Outcome.NEUTRAL, Outcome.GATED, Outcome.DISABLED):
            self.demand(was == found, "S5", f"{outcome} changed {member.id}: {was} to {found}")
            return
        rate = member.statistics.success_rate(now)
        if outcome is Outcome.OK:
            self.demand(rate >= self._rate - 1e-9, "S13", f"a success lowered {member.id}: {self._rate} to {rate}")
        else:
            limit = max(self._rate, 0.5 if outcome is Outcome.SOFT else 0.0) + 1e-9
            self.demand(rate <= limit, "S13", f"a failure raised {member.id}: {self._rate} to {rate}")
        if lease.stopped:
            self.demand(was[:-1] == found[:-1], "S5", f"{member.id} changed by a stream that had failed before")
            return
        if lease.generation != was.generation:
            presumed = str(was.cause) in (_SILENT, _STALLED)  # what speaks after all makes that void
            same = was[:-1] == found[:-1] or (outcome is Outcome.OK and presumed)
            self.demand(same, "S4", f"{member.id} changed: {was} to {found}")
            return
        books.bad = 0 if outcome is Outcome.OK else books.bad + (outcome is Outcome.HARD)
        if outcome is not Outcome.OK and found.state in (State.SOFTLY_OPEN, State.OPEN):
            wait, least = found.trial_at - member.breaker.tried_at, 0.7 * member.breaker.policy.open_base
            self.demand(wait >= least, "S8", f"the next trial of {member.id} is due {wait} s after the last one")
        self._moved(member, was, found, outcome, books)

    def _moved(self, member: Member[Provider], was: Picture, found: Picture, outcome: Outcome, books: Books) -> None:
        """Whether a change of state has its cause."""
        if found.state is was.state:
            return
        good = outcome is Outcome.OK
        name, row = member.id, member.breaker.policy.consecutive
        if found.state is State.OPEN:
            enough = not good and books.bad >= row
            self.demand(enough, "S6", f"{name} is down on {outcome} after {books.bad} in a row")
        elif found.state is State.CLOSED:
            needed = member.breaker.policy.successes
            self.demand(good and was.passed + 1 >= needed, "S6", f"{name} closed on {outcome} after {was.passed}")
        elif was.state is State.CLOSED:
            slow = str(found.cause) == "it became much slower"
            self.demand(slow or not good, "S6", f"{name} opened softly on {outcome}")
        else:
            self.demand(good, "S6", f"{name} is softly open instead of down after {outcome}")

    # --- the end ---

    def at_rest(
        self, now: float, wanted: Collection[str], asked: Mapping[str, Sequence[float]], *, patient: bool = True
    ) -> None:
        """Everything is over: nothing is in flight, nobody waits, nothing is remembered of it, and those who are
        ``wanted`` (a lower tier is asked by nobody while the first one is well) are back, as the times they were
        ``asked`` show.  Where callers are not ``patient`` (they leave less time than an answer takes), nobody can say
        whether a provider is well."""
        self.before(now)
        for member in self.members:
            self.demand(member.in_flight == 0, "S3", f"{member.id} at rest has attempts in flight")
            self.demand(not member.pending, "L5", f"{member.id} at rest remembers silent attempts")
            self.demand(
                not len(member.line.waiting), "L5", f"{member.id} at rest has {len(member.line.waiting)} waiting"
            )
        for member in self.now_members.values():
            if member.id not in wanted:
                continue
            closed = member.breaker.state is State.CLOSED or now - member.breaker.since < _LATELY
            self.demand(
                closed or not patient, "L1", f"{member.id} is still {member.breaker.state}: {member.breaker.reason}"
            )
            gated = member.own_gate.strikes or member.account_gate.strikes
            self.demand(not gated, "L4", f"{member.id}'s gate is still closed: {member.slow_gate.reason}")
            silence = now - asked.get(member.id, [-math.inf])[-1]
            self.demand(silence < 300.0, "L4", f"{member.id} was last asked {silence} s ago")


def waiting_before(line: Line, ask: Ask, number: int, now: float, *, latest_first: bool) -> Place | None:
    """Who stands in a line, is of the same class and tenant, and came earlier than this call; or has more time left."""
    if latest_first:
        here = [one for one in line.waiting if one.offer is None and not one.missed(now)]
        return next((one for one in here if one.ask.batch is ask.batch and one.last > ask.deadline), None)
    for place in ready(line, now):
        if place.number < number and (place.ask.batch, place.ask.tenant) == (ask.batch, ask.tenant):
            return place
    return None


def heads_of(waiting: Iterable[Place]) -> list[Place]:
    """The first of each tenant in each class: one of those in the class that comes first is the first in line."""
    found: dict[tuple[bool, str | None], Place] = {}
    for place in waiting:
        found.setdefault((place.ask.batch, place.ask.tenant), place)
    return list(found.values())


def ready(line: Line, now: float) -> list[Place]:
    """Who stands in a line, comes when it is woken and is not too late."""
    return [one for one in line.waiting if one.offer is None and not one.missed(now) and not one.too_late(now)]
