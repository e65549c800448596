"""One provider as the pool sees it: its breaker, gates, statistics and load, and who waits for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from resilient_llm.decide.ask import Ask
from resilient_llm.decide.breaker import CLOSED, LAST_RESORT, Breaker, State
from resilient_llm.decide.gate import RateGate, SlowGate
from resilient_llm.decide.heard import Heard
from resilient_llm.decide.keys import Key, Refusal
from resilient_llm.decide.line import Line, Place
from resilient_llm.decide.slowness import Slowness
from resilient_llm.decide.statistics import Statistics
from resilient_llm.errors import ConfigurationError
from resilient_llm.policy import KeyTerms, Policies


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
    def keys(self) -> Sequence[KeyTerms]:
        """What is known of each of its keys; at least one."""
        ...

    @property
    def context_window(self) -> int | None:
        """Tokens of prompt and answer together; ``None``: unknown."""
        ...

    @property
    def cache_seconds(self) -> float | None:
        """For how long the beginning of a prompt is cached at least after it was last used; ``None``: not known."""
        ...


T = TypeVar("T", bound=Target)

_LEAST_PACE = 0.25  # seconds between two calls after a rate limit opened, at most


class Member(Generic[T]):
    """The state of one provider.  Survives reconfiguration under the same id."""

    good_start: float = -math.inf
    """The latest start among attempts that gave a sign of life."""
    answered_start: float = -math.inf
    """The latest start among attempts that were answered to the end."""
    heard_at: float = -math.inf
    """When an attempt gave a sign of life last."""
    connect_failed_at: float = -math.inf
    trial_ends: float = -math.inf
    """When it loses its place, should it never end."""
    resort_at: float = -math.inf
    """When it may be tried as the last resort: one trial a second is enough for all that are down."""
    model_mismatch: bool = False
    """Whether its last answer named another model than the one it was asked for."""

    def __init__(self, target: T, policies: Policies, accounts: Sequence[SlowGate]) -> None:
        self.id: str = target.id
        self.target: T = target
        self.policies: Policies = policies
        self.breaker: Breaker = Breaker(policies.breaker)
        self.own_gate: SlowGate = SlowGate(policies.advanced.slow_gate_cap)
        self.keys: list[Key] = []
        self.statistics: Statistics = Statistics(policies.advanced)
        self.heard: Heard = Heard()
        self.slowness: Slowness = self.statistics.slowness
        self.drained: bool = False
        self.born: int = 0
        """The generation this process began with: an attempt of an earlier one was the parent's before a fork."""
        self.line: Line = Line(target.id)
        self.held: dict[object, int] = {}
        """Attempts that hold a lease, and the numbers of their calls."""
        self.pending: dict[object, float] = {}
        """Attempts without a sign of life yet and when they began, oldest first."""
        self.trial: object | None = None
        """The trial under way."""
        self._install(accounts)

    def govern(self, policies: Policies) -> None:
        """Go by these policies from now on; what is known stays."""
        self.policies = policies
        self.breaker.govern(policies.breaker)
        for key in self.keys:
            key.govern(policies)
        self.own_gate.cap = policies.advanced.slow_gate_cap
        self.statistics.policy = policies.advanced

    def retarget(self, target: T, accounts: Sequence[SlowGate]) -> None:
        """Keep what is known about the provider under new settings.  What was met with a key stays with it: another
        one is not barred for it."""
        if [terms.account for terms in target.keys] != [key.terms.account for key in self.keys]:
            self.own_gate.open()
        self.target = target
        self._install(accounts)

    def _install(self, accounts: Sequence[SlowGate]) -> None:
        known = {key.terms.account: key for key in self.keys if key.terms.account is not None}
        keys: list[Key] = []
        for number, (terms, slow) in enumerate(zip(self.target.keys, accounts, strict=True)):
            key = None if terms.account is None else known.get(terms.account)
            if terms.account is None and number < len(self.keys) and self.keys[number].terms.account is None:
                key = self.keys[number]
            if key is None or key in keys:
                key = Key(number, terms, self.policies.limits, slow)
            key.retarget(terms, slow)
            key.number, key.alone = number, len(accounts) == 1
            keys.append(key)
        self.keys = keys

    def cached_until(self, now: float) -> float:
        """When a prompt that was used now may be gone from its cache; infinite where that is not known."""
        seconds = self.target.cache_seconds
        return math.inf if seconds is None else now + seconds

    @property
    def in_flight(self) -> int:
        """Attempts under way, open streams included."""
        return len(self.held)

    # --- may it be asked? ---

    def refusal(
        self, ask: Ask, now: float, *, waits: bool = False, held: int = 0, insists: bool = False
    ) -> Refusal | None:
        """Why a call cannot be sent here now whatever the breaker says; ``None`` if it can.  ``waits``: nobody else
        can be asked, and it stands in line; ``held`` places were offered to it; ``insists``: of a lone key only what
        was declared or said keeps it."""
        if self.drained:
            return Refusal.DRAINED
        ahead, key, refusal = self.line.offers - held, self.keys[0], None
        if now < key.gate.until or key.pace.limited or key.slow.strikes:  # told apart for its speed alone
            refusal = key.refusal(ask, now, waits=waits, ahead=ahead, insists=insists)
            if refusal is not None and len(self.keys) > 1:
                refusal = self._any_key(ask, now, waits, ahead)
            if refusal is not None and refusal is not Refusal.QUOTA:
                return refusal
        limit = self.target.max_concurrency
        if limit is not None:
            if ask.batch:
                limit = max(1, int(limit * (1.0 - self.policies.limits.reserve) + 1e-9))
            if len(self.held) + ahead >= limit:
                return Refusal.FULL
        if refusal is not None or (self.own_gate.strikes and not self.own_gate.admits(now)):
            return Refusal.QUOTA
        if not waits and now < self.heard.until and self.heard.stops(now):
            return Refusal.HEARD
        return None

    def turns_away(self, ask: Ask, now: float) -> bool:
        """A call comes that others may serve, too: whether more wait here than are answered at the usual speed."""
        return self.slowness.turns_away(len(self.pending), now, ask.deadline - now)

    def _any_key(self, ask: Ask, now: float, waits: bool, ahead: int) -> Refusal | None:
        """Why none of its keys can be used; ``None`` if one can."""
        ahead //= len(self.keys)
        refused = [(key, key.refusal(ask, now, waits=waits, ahead=ahead)) for key in self.keys]
        if any(refusal is None for _, refusal in refused):
            return None
        return min(refused, key=lambda one: one[0].opens_at(ask, now))[1]

    def in_turn(self, order: int, ask: Ask, place: Place | None, now: float) -> bool:
        """Whether a call of this number may take room now: nobody's turn is before, or who is first needs more tokens
        than are left, and may be passed by a smaller one."""
        line = self.line
        if line.may_pass(order, ask, place, now):
            return True
        large = line.passed(now)
        if large is None or ask.tokens >= large.ask.tokens or ask.batch is not large.ask.batch:
            return False
        next_one = line.passer(now) in {None, place}
        return next_one and self.refusal(large.ask, now, waits=True) is Refusal.PACE

    def other_key(self, key: Key, ask: Ask, now: float) -> bool:
        """Whether it has another key that can be used."""
        return len(self.keys) > 1 and any(one is not key and one.refusal(ask, now) is None for one in self.keys)

    def key_for(self, ask: Ask, now: float) -> Key:
        """The key to send a call with: of those that can be used the one with the most headroom, or the one that can be
        used soonest."""
        usable = [key for key in self.keys if key.refusal(ask, now, waits=True) is None]
        if not usable:
            return min(self.keys, key=lambda key: key.opens_at(ask, now))
        return max(usable, key=lambda key: (key.pace.headroom(now), -key.pace.sent))

    def opens_at(self, refusal: Refusal, ask: Ask, now: float, *, told: bool = False, ahead: int = 0) -> float:
        """When this refusal may end by itself; ``inf`` if it needs somebody to make room, or a person.  ``told``: in
        the provider's own words where it gave any; ``ahead`` calls come first."""
        if refusal is Refusal.DOWN:
            return max(now, self.next_trial())
        if refusal is Refusal.GATED or refusal is Refusal.PACE:
            ahead = max(ahead, self.line.offers) // len(self.keys)  # who was offered a place comes first
            return min(key.opens_at(ask, now, told=told, ahead=ahead) for key in self.keys)
        if refusal is Refusal.QUOTA:
            own = self.own_gate
            return max(own.until, own.lease_ends, min(key.opens_at(ask, now) for key in self.keys))
        if refusal is Refusal.HEARD:
            return self.heard.opens_at()
        return math.inf

    def fits_at(self, ask: Ask, now: float, ahead: int) -> float:
        """When a call fits into what may be sent for certain, after so many others like it."""
        ahead //= len(self.keys)
        return min(key.fits_at(ask, now, ahead, stated=True) for key in self.keys)

    def well_at(self, ask: Ask, now: float) -> float:
        """When a call that fails now may be tried again here: ``now`` while it seems well, ``inf`` if a person must act
        first."""
        refusal = self.refusal(ask, now)
        if refusal is not None:
            return self.opens_at(refusal, ask, now, told=True)
        state = self.breaker.state
        if state is CLOSED:
            return now
        return math.inf if state is State.ISOLATED else max(self.breaker.trial_at, now + LAST_RESORT)

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

    def left(self, now: float) -> tuple[int | None, int | None]:
        """Requests and tokens that all its keys together may take now, as far as it is known."""
        found = [key.pace.left(now) for key in self.keys]
        totals = [[left for left in kind if left is not None] for kind in zip(*found, strict=True)]
        requests, tokens = (int(sum(total)) if len(total) == len(found) else None for total in totals)
        return requests, tokens

    @property
    def gate(self) -> RateGate:
        """The rate gate of the key that opens first."""
        return min(self.keys, key=lambda key: key.gate.until).gate

    @property
    def account_gate(self) -> SlowGate:
        """The slow gate of the key that can be used first."""
        return min(self.keys, key=lambda key: key.slow.until).slow

    @property
    def slow_gate(self) -> SlowGate:
        """Of its own and its account's slow gate the one that opens later."""
        return max(self.own_gate, self.account_gate, key=lambda gate: gate.until)

    @property
    def queueing(self) -> bool:
        """Whether several attempts wait for a sign of life that nothing begun since the oldest of them has given."""
        return len(self.pending) > 1 and self.good_start < next(iter(self.pending.values()))

    def silent(self, seconds: float, now: float) -> bool:
        """Whether, beyond that, nothing at all was heard of it for so long."""
        return self.queueing and now - self.heard_at >= seconds

    # --- what a call there costs ---

    def price(self, usual: float) -> float:
        """Expected seconds until a call sent here is answered: its latency (``usual`` while that is unknown), and the
        price of its failures.

        Each attempt that has not spoken yet is one ahead in the queue (least-loaded choice, as in Finagle).  Streams
        that speak are not counted: they would measure how much the model has to say.
        """
        seen = self.statistics
        latency = usual if seen.latency is None else seen.latency
        return latency * (1 + len(self.pending)) + seen.risk

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
        self.drained = self.line.latest_first = False
        self.breaker.restore(now)
        self.statistics.forgive()
        self.slowness.over()
        self.own_gate.open()
        for key in self.keys:
            key.gate.open()
            key.pace.open()
            key.slow.open()
        self.heard.over()

    def reset_after_fork(self) -> None:
        """In the child: nothing is in flight, nobody waits."""
        self.pending.clear()
        self.held.clear()
        self.trial = None
        self.line = Line(self.id)
        self.born = self.breaker.generation = self.breaker.generation + 1
        self.own_gate.released()
        for key in self.keys:
            key.slow.released()
            key.pace.reset_after_fork()
