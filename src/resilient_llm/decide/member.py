"""One provider as the pool sees it: its breaker, gates, statistics and load, and who waits for it."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

from resilient_llm.decide.breaker import CLOSED, LAST_RESORT, Breaker, State
from resilient_llm.decide.gate import RateGate, SlowGate
from resilient_llm.decide.heard import Heard
from resilient_llm.decide.line import Line
from resilient_llm.decide.statistics import Statistics
from resilient_llm.errors import ConfigurationError
from resilient_llm.policy import Policies


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
        """Providers with the same account share quota and credentials; another key is another account.  ``None``: it
        shares them with nobody."""
        ...

    @property
    def key_is_fixed(self) -> bool:
        """Whether its key is always the same; the next call may bring another one if not."""
        ...

    @property
    def context_window(self) -> int | None:
        """Tokens of prompt and answer together; ``None``: unknown."""
        ...


T = TypeVar("T", bound=Target)

_LEAST_PACE = 0.25  # seconds between two calls after a rate limit opened, at most


class Refusal(StrEnum):
    """Why a provider is not asked now; the text is what people are shown."""

    UNSUITABLE = "unsuitable"
    DRAINED = "drained"
    ISOLATED = "isolated by hand"
    QUOTA = "quota or credentials"
    GATED = "asked us to wait"
    HEADROOM = "too few tokens left in its rate limit"
    FULL = "at its concurrency limit"
    OPENING = "its rate limit has opened just now, or it has no room for more"
    LINE = "others wait in line for it"
    DOWN = "breaker open"
    HEARD = "other processes report that it fails or asks to wait"

    @property
    def needs_room(self) -> bool:
        """Whether it ends when somebody makes room, rather than by time alone."""
        return self in (Refusal.FULL, Refusal.OPENING, Refusal.LINE)


class Member(Generic[T]):
    """The state of one provider.  Survives reconfiguration under the same id."""

    good_start: float = -math.inf
    """The latest start among attempts that gave a sign of life."""
    heard_at: float = -math.inf
    """When an attempt gave a sign of life last."""
    connect_failed_at: float = -math.inf
    trial: object | None = None
    """The trial under way."""
    trial_ends: float = -math.inf
    """When it loses its place, should it never end."""
    resort_at: float = -math.inf
    """When it may be tried as the last resort: one trial a second is enough for all that are down."""
    drained: bool = False
    model_mismatch: bool = False
    """Whether its last answer named another model than the one it was asked for."""
    born: int = 0
    """The generation this process began with: an attempt of an earlier one was the parent's before a fork."""

    def __init__(self, target: T, policies: Policies, account_gate: SlowGate | None) -> None:
        self.id: str = target.id
        self.target: T = target
        self.policies: Policies = policies
        self.breaker: Breaker = Breaker(policies.breaker)
        self.gate: RateGate = RateGate(policies.limits)
        self.own_gate: SlowGate = SlowGate(policies.advanced.slow_gate_cap)
        self.account_gate: SlowGate = account_gate or self.own_gate
        self.statistics: Statistics = Statistics(policies.advanced)
        self.heard: Heard = Heard()
        self.line: Line = Line(target.id)
        self.held: dict[object, int] = {}
        """Attempts that hold a lease, and the numbers of their calls."""
        self.pending: dict[object, float] = {}
        """Attempts without a sign of life yet and when they began, oldest first."""

    def govern(self, policies: Policies) -> None:
        """Go by these policies from now on; what is known stays."""
        self.policies = policies
        self.breaker.govern(policies.breaker)
        self.gate.policy = policies.limits
        self.own_gate.cap = self.account_gate.cap = policies.advanced.slow_gate_cap
        self.statistics.policy = policies.advanced

    def retarget(self, target: T, account_gate: SlowGate | None) -> None:
        """Keep what is known about the provider under new settings.  A gate shared by an account stays with it: another
        key is not barred for what the one before it met."""
        if target.account != self.target.account:
            self.account_gate = account_gate or self.own_gate
            self.own_gate.open()
        self.target = target

    @property
    def in_flight(self) -> int:
        """Attempts under way, open streams included."""
        return len(self.held)

    # --- may it be asked? ---

    def refusal(self, tokens: int, last: float, now: float, *, waits: bool = False, held: int = 0) -> Refusal | None:
        """Why a call of so many prompt tokens, which must begin by ``last``, cannot be sent here now whatever the
        breaker says; ``None`` if it can.  ``waits``: nobody else can be asked, and it stands in line; ``held`` places
        were offered to it."""
        if self.drained:
            return Refusal.DRAINED
        # Asked before every attempt: the common answers are looked up here rather than in a call each.
        own, account, gate = self.own_gate, self.account_gate, self.gate
        if now < gate.until and now < gate.opens(last, waits=waits):
            return Refusal.GATED
        if gate.reported and gate.fits_at(now, tokens) > now:
            return Refusal.HEADROOM
        if gate.width < math.inf and not (waits and gate.crowded) and now < gate.room_at(self._unanswered - held):
            return Refusal.OPENING
        limit = self.target.max_concurrency
        if limit is not None and len(self.held) + self.line.offers - held >= limit:
            return Refusal.FULL
        if (own.strikes or account.strikes) and not (own.admits(now) and account.admits(now)):
            return Refusal.QUOTA
        heard = self.heard
        if now < heard.until and heard.stops(last, now, waits=waits):
            return Refusal.HEARD
        return None

    def opens_at(self, refusal: Refusal, tokens: int, last: float, now: float) -> float:
        """When this refusal may end by itself; ``inf`` if it needs somebody to make room, or a person."""
        if refusal is Refusal.GATED:
            return self.gate.opens(last, waits=True)
        if refusal is Refusal.HEADROOM:
            return self.gate.fits_at(now, tokens)
        if refusal is Refusal.QUOTA:
            return max(self.slow_gate.until, self.own_gate.lease_ends, self.account_gate.lease_ends)
        if refusal is Refusal.DOWN:
            return max(now, self.next_trial())
        if refusal is Refusal.OPENING:
            return self.gate.room_at(self._unanswered)
        if refusal is Refusal.HEARD:
            return self.heard.opens_at(now)
        return math.inf

    def well_at(self, tokens: int, last: float, now: float) -> float:
        """When a call that fails now may be tried again here: ``now`` while it seems well, ``inf`` if a person must act
        first."""
        refusal = self.refusal(tokens, last, now)
        if refusal is not None:
            return self.gate.told if refusal is Refusal.GATED else self.opens_at(refusal, tokens, last, now)
        state = self.breaker.state
        if state is CLOSED:
            return now
        return math.inf if state is State.ISOLATED else max(self.breaker.trial_at, now + LAST_RESORT)

    @property
    def _unanswered(self) -> int:
        """Calls without a sign of life, and those that are about to begin."""
        return len(self.pending) + self.line.offers

    def next_trial(self) -> float:
        """When the next trial may begin if nobody else can be asked."""
        breaker, trial = self.breaker, self.trial
        began = None if trial is None else self.pending.get(trial)
        if began is None:
            return min(breaker.trial_at, self.resort_at) if trial is None else self.resort_at
        if breaker.crowded:
            return self.resort_at
        # One that does not fail at once is half a good sign.
        return min(self.resort_at, max(began + 2.0 * _LEAST_PACE, breaker.tried_at + _LEAST_PACE))

    def trial_due(self, now: float) -> bool:
        """Whether a call is to find out how it is, although others are well."""
        state = self.breaker.state
        if state is CLOSED or state is State.ISOLATED:
            return False
        if now < self.heard.until and now < self.heard.check_at:  # another process is about to find out
            return False
        return now >= self.breaker.trial_at and (self.trial is None or now >= self.trial_ends)

    @property
    def slow_gate(self) -> SlowGate:
        """Of its own and its account's slow gate the one that opens later."""
        return max(self.own_gate, self.account_gate, key=lambda gate: gate.until)

    @property
    def queueing(self) -> bool:
        """Whether several attempts wait for a sign of life that nothing begun since the oldest of them has given."""
        return len(self.pending) > 1 and self.good_start < next(iter(self.pending.values()))

    @property
    def silent(self) -> bool:
        """Whether, beyond that, nothing at all was heard of it since."""
        return self.queueing and self.heard_at < next(iter(self.pending.values()))

    # --- what a call there costs ---

    def queued_latency(self) -> float | None:
        """Expected seconds to the first token of a call sent here now; ``None`` while unknown.

        Each attempt that has not spoken yet is one ahead in the queue (least-loaded choice, as in Finagle).  Streams
        that speak are not counted: they would measure how much the model has to say.
        """
        known = self.statistics.latency
        return known if known is None or not self.pending else known * (1 + len(self.pending))

    def price(self, latency: float | None, rate: float, usual: float) -> float:
        """Expected seconds until a call sent here is answered: its latency (``usual`` stands in for an unknown one)
        plus the price of a failure."""
        return (usual if latency is None else latency) + (1.0 - rate) * self.policies.advanced.failure_cost

    def score(self, latency: float | None, rate: float, best: float | None) -> float:
        """Health in [0, 1]: success rate times how its latency compares to ``best`` (``None``: nothing to compare
        to)."""
        if self.breaker.state is State.OPEN or self.breaker.state is State.ISOLATED:
            return 0.0
        speed = best / latency if best is not None and latency and best < latency else 1.0
        return rate * speed

    def operate(self, action: str, now: float) -> None:
        """What a person decided; ``restore`` opens everything.  Raises ``ConfigurationError`` for an unknown action."""
        if action == "drain":
            self.drained = True
        elif action == "isolate":
            self.breaker.isolate(now)
        elif action == "restore":
            self._restore(now)
        else:
            raise ConfigurationError(f"a provider can be drained, isolated or restored, not {action!r}")

    def _restore(self, now: float) -> None:
        self.drained = False
        self.breaker.restore(now)
        self.statistics.forgive()
        self.gate.open()
        self.own_gate.open()
        self.account_gate.open()
        self.heard.over()

    def reset_after_fork(self) -> None:
        """In the child: nothing is in flight, nobody waits."""
        self.pending.clear()
        self.held.clear()
        self.trial = None
        self.line = Line(self.id)
        self.born = self.breaker.generation = self.breaker.generation + 1
        self.own_gate.released()
        self.account_gate.released()
