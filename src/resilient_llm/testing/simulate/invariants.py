"""What must hold whatever happens, checked after every step of a simulated run.

Each invariant has an id and a sentence in :data:`INVARIANTS`; a :class:`Violation` names it, the seed, and what led up
to it.  The checks keep books of their own (:class:`_Books`: failures in a row, the sliding window, gate times, leases)
and compare the production core with them, so that a mistake in the core cannot excuse itself.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, NamedTuple, final

from resilient_llm.decide import events
from resilient_llm.decide.breaker import State
from resilient_llm.decide.call import Call, Wait
from resilient_llm.decide.member import Member, Refusal
from resilient_llm.errors import AllAttemptsFailed, CallFailed, Fault, FaultKind, FaultScope, NoProviderAvailable
from resilient_llm.testing.simulate.client import Production, Question, Real
from resilient_llm.testing.simulate.providers import Provider

INVARIANTS: Final[dict[str, str]] = {
    "S1": "retries, failovers, hedges and probes stay within what traffic and time have earned, and a call within its "
    "max_attempts",
    "S2": "at most one probe of the current generation is under way through a half-open breaker",
    "S3": "attempts in flight are exactly the leases not yet released; each is released once; at rest there are none",
    "S3b": "a breaker that waits for a probe has a live lease of this generation to wait for, not run out",
    "S4": "a result of an earlier generation never moves a breaker",
    "S5": "cancelling, dropping, 4xx and 429 change neither breaker nor health; no outcome changes another provider "
    "(an attempt overtaken, or out of time, after it was overdue by its provider's own measure counts as a timeout; "
    "so does a probe that lost its race: the caller did not cancel it)",
    "S6": "closed opens on failures that reach a threshold and only then; open half-opens when due or forced with "
    "nobody eligible; half-open closes after enough good probes of its generation",
    "S7": "no attempt starts before the time a provider asked for, a smaller hint shortens nothing, none exceeds 300 s",
    "S8": "a breaker opens for between half its base and its cap",
    "S9": "when nobody is eligible, an attempt is forced within a second, or the error says when to come back",
    "S10": "after the first sign of life no other attempt of the call starts",
    "S11": "a hedge goes to another provider than those already asked, and hedges stay within 5 % + 10",
    "S12": "no wait and no attempt reaches beyond the deadline",
    "S13": "health stays in [0, 1], success never lowers it, failure never raises it, latency is finite and no longer "
    "than the timeout",
    "S14": "shifting all times shifts nothing else; an idle century wedges nothing",
    "S15": "the ratio decision is the same for a burst as for the same calls spread over the window",
    "S16": "the pool's lock is never taken twice, and held neither when a call returns nor while events are read",
    "S17": "state survives reconfiguration for ids that stay; a removed provider gets no new lease",
    "S18": "the same seed and schedule give the same log, byte for byte",
    "S19": "failing fast does not attract traffic",
    "S20": "a success constructs no exception",
    "L1": "a provider that has recovered is closed again in bounded time",
    "L2": "and has at least half its fair share again within 300 s",
    "L3": "an outage is seen by at most the breaker's threshold and those under way",
    "L4": "after a gate's time its provider receives traffic again by itself",
    "L5": "abandoned streams leave nothing behind",
    "X1": "breaker events form a chain: each begins in the state in which the one before ended",
    "X2": "no call waits while another provider is admissible, nor after its last attempt",
    "X3": "a provider is asked again by the same call only as a retry",
    "X4": "a breaker that has just closed lets traffic return gradually",
    "X5": "a request that was rejected for its own sake is asked of nobody else",
    "X6": "a provider is called full only at its limit",
    "X7": "one call at a time is spent on finding out how a provider is",
    "X8": "a provider that has recovered is not doubted for longer than 400 s",
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


_LATE: Final = Fault(FaultKind.TIMEOUT)

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
        FaultKind.SEALED_REASONING,
    }
)


_REJECTED: Final = frozenset({FaultKind.BAD_REQUEST, FaultKind.CONTENT_FILTER, FaultKind.CLIENT_CLOSED})


def verdict(fault: Fault) -> str:
    """What a fault proves about its provider, by these books: ``hard``, ``soft`` or ``none``."""
    if fault.kind in _BLAMELESS:
        return "none"
    if fault.kind is FaultKind.OVERLOADED or (fault.status == 503 and fault.retry_after is not None):
        return "soft"
    if fault.kind is FaultKind.INVALID_RESPONSE and fault.scope is FaultScope.REQUEST:
        return "soft"
    return "hard"


@dataclass(slots=True)
class _Books:
    """What one provider's breaker and gate must be, kept apart from them."""

    consecutive: int = 0
    passed: int = 0
    origin: float | None = None
    window: list[tuple[int, bool]] = field(default_factory=list[tuple[int, bool]])
    gate_until: float = -math.inf
    gate_closed_at: float = -math.inf
    forced_at: float = -math.inf
    generation: int = 0
    chain: str = "closed"
    doubted_since: float = math.inf


@dataclass(slots=True)
class _Lease:
    """A permission the core gave out, and what has become of it."""

    generation: int
    probing: bool
    expires: float
    spoke: bool = False


class _Picture(NamedTuple):
    """The parts of a member that a blameless outcome must leave as they are."""

    state: State
    generation: int
    consecutive: int
    passed: int
    counted: tuple[int, int]
    evidence: tuple[float, float]


def _picture(member: Member[Provider]) -> _Picture:
    breaker, health, window = member.breaker, member.health, member.breaker.window
    return _Picture(
        breaker.state,
        breaker.generation,
        breaker.consecutive,
        breaker.passed,
        (sum(window._count), sum(window._bad)),  # pyright: ignore[reportPrivateUsage]
        (health._good, health._total),  # pyright: ignore[reportPrivateUsage]
    )


@final
class Checker:
    """Watches one pool.  Give :meth:`watch` to :class:`Production`, then :meth:`attach` it to the result."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.trail: deque[object] = deque(maxlen=25)
        self.calls: int = 0
        self.answers: int = 0
        self.forked_at: int = 0
        self.retries: int = 0
        self.failovers: int = 0
        self.hedges: int = 0
        self.free: int = 0
        self.tokens: float = math.nan
        """What the failover budget must hold; ``hedge_tokens`` likewise."""
        self.hedge_tokens: float = 0.0
        self.retry_tokens: float = 0.0
        self.trusted_before: bool = False
        self.leases: dict[Real, _Lease] = {}
        self.members: dict[Member[Provider], _Books] = {}
        self._dropped: list[Real] = []
        self._client: Production | None = None
        self._pictures: dict[Member[Provider], _Picture] = {}
        self._rate = 0.0

    # --- set-up ---

    def attach(self, client: Production) -> Production:
        """Begin to watch a client's pool."""
        self._client = client
        client.pool._lock = WatchedLock(self)  # type: ignore[assignment]  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]
        client.pool.listening = True
        self._meet_members()
        return client

    def watch(self, client: Production, call: Call[Provider], question: Question) -> Watched:
        """Wrap a call so that each step of it is checked."""
        if math.isnan(self.tokens):
            self.tokens = client.policies.retry.failover_budget
            self.retry_tokens = client.policies.retry.budget
        return Watched(self, call)

    @property
    def client(self) -> Production:
        """The client watched."""
        assert self._client is not None
        return self._client

    def _meet_members(self) -> None:
        for member in self.client.pool._members.values():  # pyright: ignore[reportPrivateUsage]
            self.members.setdefault(member, _Books(generation=member.breaker.generation))

    def demand(self, holds: bool, name: str, detail: str) -> None:
        """Raise a :class:`Violation` unless it holds."""
        if not holds:
            raise Violation(name, detail, self.seed, self.trail)

    def note(self, text: object) -> None:
        """Remember an event for the message of a violation; it is spelt out only there."""
        self.trail.append(text)

    # --- finalisers ---

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
            books.generation = member.breaker.generation
        self._dropped.extend(self.leases)
        self.leases.clear()
        retry = self.client.policies.retry
        self.tokens, self.retry_tokens, self.hedge_tokens = retry.failover_budget, retry.budget, 0.0
        self.retries = self.failovers = self.hedges = self.answers = 0  # what the parent earned and spent is its own
        self.forked_at = self.calls

    # --- around each operation ---

    def before(self, now: float, concerned: Member[Provider] | None = None) -> None:
        """Settle what is due, check the books, and take pictures."""
        pool = self.client.pool
        self._meet_members()
        with pool._lock:  # pyright: ignore[reportPrivateUsage]
            queued = [*pool._abandoned]  # pyright: ignore[reportPrivateUsage]
            pool._settle(now)  # pyright: ignore[reportPrivateUsage]
        for attempt in queued:
            self.leases.pop(attempt, None)
        settled = bool(queued or pool._events)  # pyright: ignore[reportPrivateUsage]
        if settled:
            self.read_events()
        for member, books in self.members.items():
            if settled or member.breaker.generation != books.generation:
                self._inspect(member, books, now)  # else nothing happened since the step before was checked
            self._pictures[member] = _picture(member)
        self._rate = 0.0 if concerned is None else concerned.health.success_rate(now)

    def after(self, now: float, concerned: Member[Provider] | None) -> None:
        """Nobody but the provider concerned has changed, and the lock is free."""
        self.read_events()
        for member, books in self.members.items():
            if member is not concerned:
                picture = _picture(member)
                self.demand(
                    picture == self._pictures.get(member, picture), "S5", f"{member.id} changed though not concerned"
                )
            self._inspect(member, books, now)

    def read_events(self) -> None:
        """Take the pool's events, as a listener would."""
        pool = self.client.pool
        self.demand(not pool._lock.held, "S16", "the lock is held after a call returned")  # type: ignore[attr-defined]  # pyright: ignore
        for event in pool.take_events():
            self.demand(not pool._lock.held, "S16", "events were read under the lock")  # type: ignore[attr-defined]  # pyright: ignore
            self.trail.append(event)
            if isinstance(event, events.BreakerChanged):
                self._follow(event)

    def _follow(self, event: events.BreakerChanged) -> None:
        member = self.client.pool._members.get(event.provider)  # pyright: ignore[reportPrivateUsage]
        books = self.members.get(member) if member is not None else None
        if books is None:
            return
        self.demand(event.old == books.chain, "X1", f"{event.provider} was {books.chain}, the event says {event.old}")
        books.chain = event.new

    def _inspect(self, member: Member[Provider], books: _Books, now: float) -> None:
        breaker = member.breaker
        if breaker.generation != books.generation:
            books.generation = breaker.generation
            books.consecutive = books.passed = 0
            books.window.clear()
            if breaker.state is State.OPEN:
                self._opened(member, now)
            elif breaker.state is State.CLOSED:
                score = member.score(now, member.latency(now))
                self.demand(score <= 0.5, "X4", f"{member.id} closed and at once scores {score}")
        if not member.health.doubt.raised:
            books.doubted_since = math.inf
        elif books.doubted_since == math.inf:
            books.doubted_since = now
        count = silent = probes = 0
        for attempt, lease in self.leases.items():
            if attempt.member is member:
                count += 1
                if not lease.spoke:
                    silent += 1
                    probes += lease.probing and lease.generation == breaker.generation and now < lease.expires
        in_flight, pending = member.concurrency.in_flight, len(member.pending)
        if in_flight != count or pending != silent:
            self.demand(
                False, "S3", f"{member.id} counts {in_flight} ({pending} silent), {count} ({silent}) leases are out"
            )
        if breaker.state is State.HALF_OPEN:
            if probes > 1:
                self.demand(False, "S2", f"{probes} probes at {member.id}")
            if breaker.probe_expires is not None and not probes:
                self.demand(False, "S3b", f"{member.id} waits for a probe that is not under way")
        self._inspect_health(member, now)

    def _inspect_health(self, member: Member[Provider], now: float) -> None:
        rate, latency, gate = member.health.success_rate(now), member.health.latency, member.gate.until
        if not 0.0 <= rate <= 1.0:
            self.demand(False, "S13", f"{member.id} has success rate {rate}")
        if latency is not None and not 0.0 <= latency <= 700.0:
            self.demand(False, "S13", f"{member.id} has latency {latency}")
        if gate > now + 300.0 + 1e-6:
            self.demand(False, "S7", f"{member.id}'s gate is closed for {gate - now} s")

    def _opened(self, member: Member[Provider], now: float) -> None:
        policy = member.breaker.policy
        wait = member.breaker.open_until - now
        good = policy.open_base / 2 - 1e-9 <= wait <= policy.open_cap + 1e-9
        self.demand(good, "S8", f"{member.id} opened for {wait} s")

    # --- leases ---

    def leased(self, call: Watched, attempt: Real, now: float) -> None:
        """An attempt was allowed."""
        member = attempt.member
        books = self.members[member]
        was = self._pictures[member]
        current = self.client.pool._members.get(member.id)  # pyright: ignore[reportPrivateUsage]
        self.demand(member is current, "S17", f"{member.id} was removed and got a lease")
        self.demand(attempt not in self.leases, "S3", "the same lease was given out twice")
        self.demand(now >= books.gate_until, "S7", f"{member.id} asked for {books.gate_until - now} s more")
        left = call.call.deadline - now
        self.demand(attempt.timeout <= left + 1e-6, "S12", f"timeout {attempt.timeout}, {left} s left")
        probing = was.state is not State.CLOSED
        if probing:
            self._half_opened(call, member, was, now)
        if attempt.kind == "explore":
            self._looks(attempt, now)
        self.leases[attempt] = _Lease(member.breaker.generation, probing, member.breaker.probe_expires or math.inf)
        self.note((now, call.name, attempt))

    def _looks(self, attempt: Real, now: float) -> None:
        patience = attempt.member.policies.health.memory
        others = [
            other
            for other in self.leases
            if other.member is attempt.member and other.kind == "explore" and now - other.started < patience
        ]
        self.demand(not others, "X7", f"{others} are looking at {attempt.member.id} already")

    def _half_opened(self, call: Watched, member: Member[Provider], was: _Picture, now: float) -> None:
        books = self.members[member]
        self.demand(was.state is not State.ISOLATED, "S6", f"{member.id} is isolated and was asked")
        if was.state is State.OPEN and now < member.breaker.open_until:
            others = [m for m in call.route_members() if m is not member and m not in call.tried]
            eligible = [m.id for m in others if m.refusal(call.call, now) is None]
            self.demand(not eligible, "S6", f"forced {member.id} although {eligible} could be asked")
            interval = member.breaker.policy.panic_interval
            self.demand(now - books.forced_at >= interval - 1e-9, "S6", f"{member.id} was forced twice in a second")
            books.forced_at = now

    def count(self, kind: str, now: float) -> None:
        """Book an attempt beyond the first of its call."""
        setattr(self, kind, getattr(self, kind) + 1)
        if kind == "failovers":
            self.tokens -= 1.0
        elif kind == "retries":
            self.demand(self.retry_tokens >= 1.0 - 1e-5, "S1", f"a retry with {self.retry_tokens} tokens left")
            self.retry_tokens -= 1.0
        elif kind == "hedges":
            self.hedge_tokens -= 1.0
        retry, hedge = self.client.policies.retry, self.client.policies.hedge
        self.demand(
            self.retries <= retry.budget + retry.budget_ratio * self.answers + 1e-6, "S1", f"{self.retries} retries"
        )
        earned = retry.failover_budget + retry.failover_ratio * self.answers
        self.demand(self.failovers <= earned + 1e-6, "S1", f"{self.failovers} failovers")
        begun = self.calls - self.forked_at
        self.demand(self.hedges <= hedge.cap + hedge.ratio * begun + 1e-6, "S11", f"{self.hedges} hedges")

    # --- outcomes ---

    def spoke(self, attempt: Real, now: float) -> None:
        """After a first sign of life: a verdict for a probe, nothing else."""
        lease = self.leases.get(attempt)
        if lease is None or lease.spoke:
            self._unchanged(attempt.member, now, "S4")
            return
        lease.spoke = True
        if lease.probing:
            self._probe_passed(attempt.member, lease, now)
        else:
            self._unchanged(attempt.member, now, "S5")

    def _probe_passed(self, member: Member[Provider], lease: _Lease, now: float) -> None:
        was, books = self._pictures[member], self.members[member]
        if lease.generation != was.generation:
            self._same_breaker(member, now, "S4")
            return
        books.passed = was.passed + 1
        enough = books.passed >= member.breaker.policy.successes
        expected = State.CLOSED if enough else State.HALF_OPEN
        found = member.breaker.state
        self.demand(found is expected, "S6", f"{member.id} is {found} after {books.passed} good probes")

    def answered(self, attempt: Real, lease: _Lease, now: float) -> None:
        """After a success."""
        member = attempt.member
        books, was = self.members[member], self._pictures[member]
        if attempt.started > books.gate_closed_at:
            books.gate_until = -math.inf
        if lease.probing:
            if not lease.spoke:
                self._probe_passed(member, lease, now)
            else:
                self._same_breaker(member, now, "S4")
        elif lease.generation != was.generation:
            self._same_breaker(member, now, "S4")
        else:
            books.consecutive = 0
            self._add(books, member, now, bad=False)
            found = member.breaker
            self.demand(found.state is was.state, "S6", f"{member.id} became {found.state} on a success")
            self.demand(found.consecutive == 0, "S6", "a success did not end the row of failures")
        rate = member.health.success_rate(now)
        self.demand(rate >= self._rate - 1e-9, "S13", f"a success lowered {member.id} from {self._rate} to {rate}")

    def failed(self, attempt: Real, lease: _Lease, fault: Fault, now: float, proof: str = "") -> None:
        """After a failure; ``proof`` overrides what the fault proves."""
        member = attempt.member
        was, books = self._pictures[member], self.members[member]
        self._gate(member, books, fault, now)
        proof = proof or verdict(fault)
        if proof == "none":
            self._unchanged(member, now, "S5")
            return
        rate = member.health.success_rate(now)
        if proof == "hard":
            self.demand(rate <= self._rate + 1e-9, "S13", f"a failure raised {member.id}: {self._rate} to {rate}")
        if lease.generation != was.generation:
            self._same_breaker(member, now, "S4")
        elif was.state is State.HALF_OPEN:
            self.demand(member.breaker.state is State.OPEN, "S6", f"{member.id} survived a failed probe")
        elif was.state is State.CLOSED:
            books.consecutive += proof == "hard"
            self._add(books, member, now, bad=True)
            due = self._is_due(books, member)
            row = member.breaker.consecutive
            self.demand(due or row == books.consecutive, "S6", f"{member.id} counts {row}, not {books.consecutive}")
            found = member.breaker.state is State.OPEN
            self.demand(found == due, "S6", f"{member.id} is {member.breaker.state} after {books.consecutive} in a row")

    def _gate(self, member: Member[Provider], books: _Books, fault: Fault, now: float) -> None:
        soft = verdict(fault) == "soft" and fault.retry_after is not None
        if fault.kind is FaultKind.RATE_LIMITED or soft:
            cap = member.policies.limits.gate_cap
            hint = fault.retry_after or 0.0
            wait = hint if hint <= cap else cap / 2
            books.gate_until = max(books.gate_until, now + wait - 1e-9)
            books.gate_closed_at = now
            self.demand(
                member.gate.until >= books.gate_until,
                "S7",
                f"{member.id}'s gate opens {books.gate_until - member.gate.until} s early",
            )

    def judged_nobody(self, attempt: Real, now: float) -> None:
        """After a cancellation."""
        self._unchanged(attempt.member, now, "S5")

    def _unchanged(self, member: Member[Provider], now: float, name: str) -> None:
        was, found = self._pictures[member], _picture(member)
        self.demand(was == found, name, f"{member.id} changed: {was} to {found}")

    def _same_breaker(self, member: Member[Provider], now: float, name: str) -> None:
        was, found = self._pictures[member], _picture(member)
        same = was[:-1] == found[:-1]
        self.demand(same, name, f"{member.id} changed: {was} to {found}")

    # --- the sliding window, by other means ---

    def _add(self, books: _Books, member: Member[Provider], now: float, *, bad: bool) -> None:
        policy = member.breaker.policy
        if books.origin is None:
            books.origin = now
        epoch = max(0, int((now - books.origin) / (policy.window / policy.buckets)))
        books.window = [entry for entry in books.window if entry[0] > epoch - policy.buckets]
        books.window.append((epoch, bad))

    def _is_due(self, books: _Books, member: Member[Provider]) -> bool:
        policy = member.breaker.policy
        count, bad = len(books.window), sum(entry[1] for entry in books.window)
        return books.consecutive >= policy.consecutive or (count >= policy.min_samples and bad >= policy.ratio * count)

    # --- the end ---

    def at_rest(
        self, now: float, wanted: Collection[str], asked: Mapping[str, Sequence[float]], *, patient: bool = True
    ) -> None:
        """Everything is over: nothing is in flight, nothing is remembered of it, and those who are ``wanted`` (a lower
        tier is asked by nobody while the first one is well) are back, as the times they were ``asked`` show.  Where
        callers are not ``patient`` (they leave less time than an answer takes), doubt is what they sow."""
        self.before(now)
        for member in self.members:
            self.demand(member.concurrency.in_flight == 0, "S3", f"{member.id} at rest has attempts in flight")
            self.demand(not member.pending, "L5", f"{member.id} at rest remembers silent attempts")
        for member in self.client.pool._members.values():  # pyright: ignore[reportPrivateUsage]
            if member.id not in wanted:
                continue
            closed = member.breaker.state is State.CLOSED
            self.demand(closed, "L1", f"{member.id} is still {member.breaker.state}: {member.breaker.reason}")
            doubted_for = now - self.members[member].doubted_since
            self.demand(not (patient and doubted_for > 400.0), "X8", f"{member.id} is doubted for {doubted_for} s")
            gated = member.own_gate.closed or member.account_gate.closed
            self.demand(not gated, "L4", f"{member.id}'s gate is still closed: {member.slow_gate.reason}")
            silence = now - asked.get(member.id, [-math.inf])[-1]
            self.demand(silence < 300.0, "L4", f"{member.id} was last asked {silence} s ago")


def _unheard(attempt: Real, now: float) -> bool:
    """Whether its provider has no measure yet, and was silent since it began, for longer than ever before."""
    member, call = attempt.member, attempt.call
    first, whole = member.health.first, member.health.whole
    seen = (first if first.count else whole) if call.streaming else (whole if whole.count else first)
    longest = seen.largest * member.health.scale(call.tokens)
    silent = math.isinf(attempt.overdue_at) and member.good_start < attempt.started
    return silent and now >= attempt.started + member.policies.hedge.factor * longest


def _silence(attempt: Real, *, late: bool, doubted: bool) -> str:
    """What the silence of an attempt that was given up proves: a timeout if it was late by its provider's own measure,
    a shortage if its provider has no measure yet and was silent all the while, else nothing."""
    if attempt.content_at is not None:
        return "none"
    if late:
        return "hard"
    return "soft" if doubted else "none"


@final
class Watched:
    """A call of the production core whose every step is checked."""

    def __init__(self, checker: Checker, call: Call[Provider]) -> None:
        self.call = call
        self.tried: list[Member[Provider]] = []
        self._checker = checker
        self._begun = False
        self._rejected = False
        self._spoke = False
        checker.calls += 1
        self.name: str = f"call {checker.calls}"

    def route_members(self) -> list[Member[Provider]]:
        """The providers of its route."""
        return self._checker.client.pool._order(self.call)  # pyright: ignore[reportPrivateUsage]

    def untried(self, now: float) -> list[Member[Provider]]:
        """Whom it has not asked and could ask."""
        return [m for m in self.route_members() if m not in self.tried and m.refusal(self.call, now) is None]

    def next_attempt(self, now: float) -> Real | Wait:
        """See :meth:`Call.next_attempt`."""
        check, call = self._checker, self.call
        check.before(now)
        made = call.made
        self._begin()
        check.trusted_before = made > 0 and any(m.trusted(now) for m in self.untried(now))
        mine = [attempt for attempt in check.leases if attempt.call is call]
        check.demand(not mine, "S11", f"{mine} still run: a failure was taken for the answer")
        try:
            step = call.next_attempt(now)
        except NoProviderAvailable as error:
            self._nobody(error, now)
            raise
        except CallFailed as error:
            self._gives_up(error, made, now)
            raise
        if isinstance(step, Wait):
            self._waits(step, made, now)
            check.after(now, None)
            return step
        check.demand(made < check.client.policies.retry.max_attempts, "S1", f"attempt {made + 1} of one call")
        check.demand(not self._spoke, "S10", "a new attempt after the first sign of life")
        check.demand(not self._rejected, "X5", f"{step!r} after a rejection")
        again = step.member in self.tried
        check.demand(again == (step.kind == "retry"), "X3", f"{step!r} though tried: {again}")
        check.leased(self, step, now)
        if again:
            check.count("retries", now)
        elif made and check.tokens >= 1.0 - 1e-5:
            check.count("failovers", now)
        elif made:
            check.free += 1
            trusted = check.trusted_before or step.member.trusted(now)
            check.demand(trusted, "S1", f"a failover without a token to {step.member.id}, which is distrusted")
        if not again:
            self.tried.append(step.member)
        check.after(now, step.member)
        return step

    def rescue(self, beside: Real, now: float) -> Real | None:
        """See :meth:`Call.rescue`."""
        check = self._checker
        check.before(now)
        lost = beside.member.breaker.state is not State.CLOSED or beside.member.late_by(now) > 0.0
        free = (lost or _unheard(beside, now)) and any(m.trusted(now) for m in self.untried(now))
        found = self.call.rescue(beside, now)
        if found is not None:
            check.demand(not self._spoke, "S10", "a hedge after the first sign of life")
            check.demand(not self._rejected, "X5", f"{found!r} after a rejection")
            check.demand(found.member not in self.tried, "S11", f"a hedge at {found.member.id}, which was asked before")
            if beside.kind in ("probe", "explore"):
                check.free += 1
            elif self._earned():
                check.count("hedges", now)
            else:
                pressed = now - beside.started >= 0.99 * (self.call.deadline - beside.started) / 2
                check.demand(pressed or lost, "S11", f"a hedge without a token, beside {beside!r}")
                if check.tokens >= 1.0 - 1e-5:
                    check.count("failovers", now)
                else:  # a stranger that has not spoken since, beside somebody trusted
                    check.demand(free, "S1", f"a hedge that nobody pays, beside {beside!r}")
                    check.free += 1
            check.leased(self, found, now)
            self.tried.append(found.member)
        check.after(now, None if found is None else found.member)
        return found

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            hedge = self._checker.client.policies.hedge
            self._checker.hedge_tokens = min(hedge.cap, self._checker.hedge_tokens + hedge.ratio)

    def _earned(self) -> bool:
        return self._checker.hedge_tokens >= 1.0 - 1e-5

    def first_content(self, attempt: Real, now: float) -> None:
        """See :meth:`Call.first_content`."""
        check = self._checker
        check.before(now, attempt.member)
        self.call.first_content(attempt, now)
        if attempt in check.leases:
            self._spoke = True
        check.spoke(attempt, now)
        check.after(now, attempt.member)

    def succeeded(self, attempt: Real, now: float, output_tokens: int = 0) -> None:
        """See :meth:`Call.succeeded`."""
        check = self._checker
        check.before(now, attempt.member)
        self.call.succeeded(attempt, now, output_tokens)
        lease = check.leases.pop(attempt, None)
        if lease is None:
            check.judged_nobody(attempt, now)
        else:
            check.answers += 1
            retry = check.client.policies.retry
            check.tokens = min(retry.failover_budget, check.tokens + retry.failover_ratio)
            check.retry_tokens = min(retry.budget, check.retry_tokens + retry.budget_ratio)
            self._spoke = True
            check.answered(attempt, lease, now)
        check.after(now, attempt.member)

    def failed(self, attempt: Real, fault: Fault, now: float) -> None:
        """See :meth:`Call.failed`."""
        check = self._checker
        check.before(now, attempt.member)
        self.call.failed(attempt, fault, now)
        lease = check.leases.pop(attempt, None)
        if lease is None:
            check.judged_nobody(attempt, now)
        else:
            self._rejected |= fault.kind in _REJECTED
            check.failed(attempt, lease, fault, now)
        check.after(now, attempt.member)

    def abandoned(self, attempt: Real, now: float) -> None:
        """See :meth:`Call.abandoned`."""
        self._leave(attempt, now, self.call.abandoned)

    def overtaken(self, attempt: Real, now: float) -> None:
        """See :meth:`Call.overtaken`."""
        late = now >= attempt.late_at or attempt.probing
        doubted = _unheard(attempt, now) and attempt.rescuable(now)
        self._leave(attempt, now, self.call.overtaken, _silence(attempt, late=late, doubted=doubted))

    def expired(self, attempt: Real, fault: Fault, now: float) -> None:
        """See :meth:`Call.expired`."""
        fair = now - attempt.started >= (now - self.call.started) / 2
        late, unheard = now >= attempt.overdue_at, _unheard(attempt, now)
        proof = _silence(attempt, late=late, doubted=unheard and fair)
        if attempt.content_at is not None and attempt.silence >= attempt.overdue_at - attempt.started:
            proof = "hard"
        self._leave(attempt, now, lambda attempt, now: self.call.expired(attempt, fault, now), proof)

    def _leave(self, attempt: Real, now: float, how: Callable[[Real, float], None], proof: str = "none") -> None:
        check = self._checker
        check.before(now, attempt.member)
        how(attempt, now)
        lease = check.leases.pop(attempt, None)
        if proof != "none" and lease is not None:
            check.failed(attempt, lease, _LATE, now, proof)
        else:
            check.judged_nobody(attempt, now)
        check.after(now, attempt.member)

    def _waits(self, step: Wait, made: int, now: float) -> None:
        check, call = self._checker, self.call
        check.demand(math.isfinite(step.seconds) and step.seconds >= 0, "S12", f"a wait of {step.seconds} s")
        check.demand(now + step.seconds <= call.deadline, "S12", f"a wait of {step.seconds} s passes the deadline")
        for member in self.route_members():
            if member.refusal(call, now) is Refusal.FULL:
                load, limit = member.concurrency.in_flight, member.concurrency.limit
                check.demand(limit is not None and load >= limit, "X6", f"{member.id} has {load} of {limit} in flight")
        retry = check.client.policies.retry
        check.demand(made < retry.max_attempts, "X2", "a wait after the last attempt")
        affordable = not made or check.client.pool.failovers.available() or check.trusted_before
        fresh = [m.id for m in self.untried(now)]
        check.demand(not (fresh and affordable), "X2", f"waits {step.seconds} s ({step.reason}) while {fresh} are free")

    def _gives_up(self, error: CallFailed, made: int, now: float) -> None:
        """A call that could go on elsewhere, and could pay for it, does."""
        check, call = self._checker, self.call
        if isinstance(error, AllAttemptsFailed) and call.repeatable_request:
            fresh = [m.id for m in self.untried(now)]
            able = check.tokens >= 1.0 + 1e-6 or check.trusted_before
            going = made < check.client.policies.retry.max_attempts and able
            check.demand(
                not (fresh and going), "X2", f"gave up after {made} with {check.tokens} tokens and {fresh} free"
            )
        check.after(now, None)

    def _nobody(self, error: NoProviderAvailable, now: float) -> None:
        check = self._checker
        interval = check.client.policies.breaker.panic_interval
        for member in self.route_members():
            refusal = member.refusal(self.call, now)
            check.demand(refusal is not None, "S9", f"{member.id} could have been asked")
            check.demand(refusal is not Refusal.PROBE_DUE, "S9", f"{member.id} could have been probed")
            if refusal is Refusal.OPEN:
                check.demand(now - member.forced_at < interval, "S9", f"{member.id} could have been forced")
            lasting = (Refusal.DRAINED, Refusal.ISOLATED, Refusal.UNSUITABLE)
            if refusal not in lasting:
                check.demand(error.retry_after is not None, "S9", f"{member.id}: {refusal}, but no retry_after")
        check.after(now, None)
