"""One provider as the pool sees it: its breaker, gates, health and load, and the attempts it is working on."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from resilient_llm.decide.breaker import CLOSED, Breaker, State
from resilient_llm.decide.concurrency import Concurrency
from resilient_llm.decide.gate import RateGate, SlowGate
from resilient_llm.decide.health import FORGIVEN, Health
from resilient_llm.policy import Policies

if TYPE_CHECKING:
    from resilient_llm.decide.call import Call


class Target(Protocol):
    """What the pool must know of a provider to choose it."""

    @property
    def id(self) -> str: ...

    @property
    def weight(self) -> float:
        """Share of its tier's traffic, relative to the others'."""
        ...

    @property
    def max_concurrency(self) -> int | None: ...

    @property
    def account(self) -> str | None:
        """Providers with the same account share quota and credentials; ``None``: it shares them with nobody."""
        ...

    @property
    def context_window(self) -> int | None:
        """Tokens of prompt and answer together; ``None``: unknown."""
        ...


T = TypeVar("T", bound=Target)

_HASTE = 0.5  # share of the usual time between two explorations of a provider that is proving itself
_PATIENCE = 2  # how often the time between two explorations doubles while they fail


class Refusal(StrEnum):
    """Why a provider cannot be asked now."""

    UNSUITABLE = "unsuitable"
    DRAINED = "drained"
    ISOLATED = "isolated by hand"
    QUOTA = "quota or credentials"
    GATED = "asked us to wait"
    HEADROOM = "too few tokens left in its rate limit"
    FULL = "at its concurrency limit"
    OPEN = "breaker open"
    PROBING = "breaker half-open, a probe is under way"
    PROBE_DUE = "breaker half-open, a probe is due"


WAITABLE = frozenset({Refusal.GATED, Refusal.HEADROOM, Refusal.FULL})
"""Refusals that time alone ends soon."""


class Attempt(Generic[T]):
    """One try of a call at one provider, and the lease that permits it: released exactly once, whatever happens.

    ``timeout`` is how many seconds it may stay without a sign of life (a stream's first token, a whole answer),
    ``rescue_after`` when a second attempt may start beside it (``None``: never), ``delay`` the wait that preceded it.
    """

    __slots__ = (
        "call",
        "content_at",
        "delay",
        "generation",
        "kind",
        "late_at",
        "member",
        "number",
        "overdue_at",
        "probing",
        "released",
        "rescue_after",
        "silence",
        "slow_probe",
        "started",
        "timeout",
    )

    def __init__(self, call: Call[T], member: Member[T], kind: str, now: float) -> None:
        self.call: Call[T] = call
        self.member: Member[T] = member
        self.kind: str = kind
        self.number: int = 0
        self.generation: int = member.breaker.generation
        self.started: float = now
        self.delay: float = 0.0
        self.timeout: float = math.inf
        self.rescue_after: float | None = None
        self.late_at: float = math.inf
        """From when on its silence speaks against its provider if somebody else answers first."""
        self.overdue_at: float = math.inf
        self.content_at: float | None = None
        self.silence: float = 0.0
        """Seconds of the longest silence of a stream after its first token; told by the driver when it is out of
        time."""
        self.probing: bool = False
        self.slow_probe: bool = False
        self.released: bool = False

    def __repr__(self) -> str:
        return f"<Attempt {self.number} ({self.kind}) at {self.member.id}>"

    def rescuable(self, now: float) -> bool:
        """Whether it has been under way for so long that another one may be made beside it."""
        return self.rescue_after is not None and now - self.started >= self.rescue_after

    def unheard(self, now: float) -> bool:
        """Whether its provider, which is not known well enough to say when it is late, gave no sign of life since this
        began, for longer than it ever took by the factor that makes it late once it is known."""
        member = self.member
        if self.overdue_at != math.inf or member.good_start >= self.started:
            return False
        health = member.health
        own, other = (health.first, health.whole) if self.call.streaming else (health.whole, health.first)
        longest = own.largest if own.count else other.largest
        return now - self.started >= member.policies.hedge.factor * longest * health.scale(self.call.tokens)

    @property
    def target(self) -> T:
        """The provider to ask."""
        return self.member.target


class Member(Generic[T]):
    """The state of one provider.  Survives reconfiguration under the same id."""

    __slots__ = (
        "account_gate",
        "born",
        "breaker",
        "concurrency",
        "connect_failed_at",
        "drained",
        "exploration",
        "forced_at",
        "gate",
        "good_start",
        "health",
        "id",
        "own_gate",
        "passed_over",
        "pending",
        "policies",
        "target",
    )

    def __init__(self, target: T, policies: Policies, account_gate: SlowGate | None) -> None:
        self.id: str = target.id
        self.target: T = target
        self.policies: Policies = policies
        self.breaker: Breaker = Breaker(policies.breaker)
        self.gate: RateGate = RateGate(policies.limits)
        self.own_gate: SlowGate = SlowGate(policies.limits)
        self.account_gate: SlowGate = account_gate or self.own_gate
        self.health: Health = Health(policies.health)
        self.concurrency: Concurrency = Concurrency(policies.limits, target.max_concurrency)
        self.pending: dict[Attempt[T], None] = {}
        """Attempts without a sign of life yet, oldest first."""
        self.good_start: float = -math.inf
        """The latest start among attempts that gave a sign of life."""
        self.forced_at: float = -math.inf
        self.connect_failed_at: float = -math.inf
        self.exploration: Attempt[T] | None = None
        """The last call that was spent on finding out how it is."""
        self.passed_over: bool = False
        """Whether it has been told that it lost its traffic to others (see :class:`~.events.TrustChanged`)."""
        self.drained: bool = False
        self.born: int = 0
        """The generation this process began with: an attempt of an earlier one was the parent's before a fork."""

    def retarget(self, target: T, account_gate: SlowGate | None) -> None:
        """Keep what is known about the provider under new settings.  A gate shared by an account stays with it: another
        key is not barred for what the one before it met."""
        if target.account != self.target.account:
            self.account_gate = account_gate or self.own_gate
        self.target = target
        self.concurrency.fix(target.max_concurrency)

    @property
    def slow_gate(self) -> SlowGate:
        """Of its own and its account's slow gate the one that opens later."""
        return max(self.own_gate, self.account_gate, key=lambda gate: gate.until)

    def refusal(self, call: Call[T], now: float) -> Refusal | None:
        """Why this call cannot be sent here now; ``None`` if it can.  The breaker comes last, so that OPEN and
        PROBE_DUE mean: nothing else stands in the way."""
        if self.drained:
            return Refusal.DRAINED
        if call.unsuitable and self.id in call.unsuitable:
            return Refusal.UNSUITABLE
        # Asked before every attempt: the common answers are looked up here rather than in a call each.
        own, account, gate, concurrency = self.own_gate, self.account_gate, self.gate, self.concurrency
        if (own.strikes or account.strikes) and not (own.admits(now) and account.admits(now)):
            return Refusal.QUOTA
        if now < gate.until:
            return Refusal.GATED
        if gate.tokens_left is not None and not gate.fits(now, call.tokens):
            return Refusal.HEADROOM
        if concurrency.limited and concurrency.full(now):
            return Refusal.FULL
        state = self.breaker.state
        return None if state is CLOSED else self._breaker_refusal(state, now)

    def _breaker_refusal(self, state: State, now: float) -> Refusal:
        if state is State.ISOLATED:
            return Refusal.ISOLATED
        if self.breaker.may_probe(now):
            return Refusal.PROBE_DUE
        return Refusal.OPEN if state is State.OPEN else Refusal.PROBING

    def opens_at(self, now: float, refusal: Refusal) -> float | None:
        """When this refusal may end by itself; ``None`` if only a person ends it."""
        if refusal is Refusal.GATED:
            return self.gate.until
        if refusal is Refusal.HEADROOM:
            return self.gate.token_reset_at
        if refusal is Refusal.QUOTA:
            return self.slow_gate.until
        if refusal is Refusal.OPEN:
            return self.breaker.open_until
        if refusal is Refusal.PROBING:
            return self.breaker.probe_expires
        if refusal is Refusal.FULL:
            return now
        return None

    def late_by(self, now: float) -> float:
        """Age of the oldest attempt that should have spoken by now, if nothing begun since has spoken either; else 0.

        One silent call among answered ones is a straggler; silence since it began is a hang in the making, visible
        long before any timeout.
        """
        if not self.pending:
            return 0.0
        oldest = next(iter(self.pending))
        if now < oldest.overdue_at or self.good_start >= oldest.started:
            return 0.0
        return now - oldest.started

    def latency(self, now: float) -> float | None:
        """Usual seconds to the first token, silence included; ``None`` while unknown."""
        known = self.health.latency
        if not self.pending:
            return known
        late = self.late_by(now)
        return max(known or 0.0, late) if known is not None or late else None

    def queued_latency(self, now: float) -> float | None:
        """Expected seconds to the first token of a call sent here now; ``None`` while unknown.

        Each attempt that has not spoken yet is one ahead in the queue (least-loaded choice, as in Finagle).  Streams
        that speak are not counted: they would measure how much the model has to say.
        """
        known = self.health.latency
        if not self.pending or known is None:
            return self.latency(now)
        return max(known * (1 + len(self.pending)), self.late_by(now))

    def ramp(self, now: float) -> float:
        """The share of its normal traffic it should get after its breaker closed."""
        policy = self.policies.health
        if self.breaker.closed_at is None:
            return 1.0
        return self.breaker.ramp(now, policy.ramp_floor, policy.ramp_calls, policy.ramp_seconds)

    def trusted(self, now: float) -> bool:
        """Whether a provider deserves traffic that others of less preference could take: not while it fails often, nor
        while it is much slower than it used to be.  It is tried now and then by a call that somebody else backs up, and
        trusted again after a few answers, or when nothing was heard of it for long.

        Without it a preferred provider that fails too seldom for the breaker would cost a failover at every other
        call, and soon the failover budget.
        """
        health = self.health
        if not health.suspect:
            return True
        seen = health.seen_at
        return seen is None or now - seen > FORGIVEN * self.policies.health.memory

    @property
    def distrusted_for(self) -> str:
        """Why it does not deserve the traffic of others; empty if it does."""
        if self.health.doubt.raised:
            return "it failed too often"
        return "it became much slower" if self.health.shift.raised else ""

    def worth_exploring(self, now: float) -> bool:
        """Whether it is time to find out how it is.  Whoever is proving itself is not kept waiting, whoever failed the
        last times is asked more seldom, and an exploration still under way is given time."""
        health, policy, last = self.health, self.policies.health, self.exploration
        if health.seen_at is None:
            return False
        doubt, patience = health.doubt, policy.stale_after
        if doubt.proofs:
            patience *= _HASTE
        elif doubt.misses:
            patience *= 2.0 ** min(doubt.misses, _PATIENCE)
        if last is None:
            return now - health.seen_at > patience
        if not last.released:
            patience = max(patience, policy.memory)
        return now - max(health.seen_at, last.started) > patience

    def cost(self, now: float, usual: float) -> float:
        """Expected seconds until a call sent here is answered: its latency plus the price of a failure.  ``usual``
        stands in for an unknown latency."""
        return self.price(self.latency(now), self.health.success_rate(now), usual)

    def cost_now(self, now: float, usual: float) -> float:
        """The same, behind the work that is under way."""
        return self.price(self.queued_latency(now), self.health.success_rate(now), usual)

    def price(self, latency: float | None, rate: float, usual: float) -> float:
        """The same as :meth:`cost`, with its latency and success rate known."""
        return (usual if latency is None else latency) + (1.0 - rate) * self.policies.health.failure_cost

    def score(self, now: float, best: float | None) -> float:
        """Health in [0, 1]: success rate times how its latency compares to ``best`` (``None``: nothing to compare
        to)."""
        return self.standing(now, self.latency(now), self.health.success_rate(now), best)

    def standing(self, now: float, latency: float | None, rate: float, best: float | None) -> float:
        """The same, with its latency and success rate known."""
        if self.breaker.state is not CLOSED:
            return 0.0
        speed = best / latency if best is not None and latency and best < latency else 1.0
        return rate * speed * (1.0 if self.breaker.closed_at is None else self.ramp(now))
