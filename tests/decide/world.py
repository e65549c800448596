"""A small world to decide in: providers that are only names, a clock that is only a number, and scripted luck."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from hypothesis import settings

from resilient_llm import events
from resilient_llm.decide.attempt import Ask, Attempt
from resilient_llm.decide.call import Call, Wait
from resilient_llm.decide.member import Member
from resilient_llm.decide.pool import Pool
from resilient_llm.errors import Fault, FaultKind
from resilient_llm.health import ProviderHealth
from resilient_llm.policy import KeyTerms, Policies, Rate

PROPERTY = settings(deadline=None, database=None, derandomize=True, max_examples=100)
HEAVY = settings(deadline=None, database=None, derandomize=True, max_examples=30)
"""For properties whose every example is a whole simulation."""
MACHINE = settings(deadline=None, database=None, derandomize=True, max_examples=60, stateful_step_count=60)


@dataclass(eq=False)
class Target:
    """What the pool must know of a provider, and nothing else."""

    id: str
    weight: float = 1.0
    max_concurrency: int | None = None
    account: str | None = None
    key_is_fixed: bool = True
    context_window: int | None = None
    cache_seconds: float | None = None
    model: str = "m"
    rates: tuple[Rate, ...] = ()
    pool: int = 1
    """How many keys it has."""

    @property
    def keys(self) -> tuple[KeyTerms, ...]:
        terms = KeyTerms(account=self.account, fixed=self.key_is_fixed, rates=self.rates)
        if self.pool == 1:
            return (terms,)
        return tuple(
            KeyTerms(account=f"{self.account or self.id} {n}", rates=self.rates, name=f"key {n + 1} of {self.pool}")
            for n in range(self.pool)
        )


@dataclass(frozen=True)
class Limit:
    """A reported rate limit."""

    limit: int | None = None
    remaining: int | None = None
    reset_in: float | None = None


class Luck:
    """Draws from [0, 1): the scripted ones first, then ``usual`` for ever."""

    def __init__(self, usual: float = 0.5) -> None:
        self.usual = usual
        self.next: list[float] = []

    def __call__(self) -> float:
        return self.next.pop(0) if self.next else self.usual


Provider: TypeAlias = str | Target


class World:
    """A pool and the time.  ``World("a", ["b", "c"])`` prefers *a* and has *b* and *c* as equals behind it."""

    def __init__(self, *tiers: Provider | Sequence[Provider], now: float = 1000.0, **policies: Any) -> None:
        self.now = now
        self.luck = Luck()
        self.pool: Pool[Target] = Pool({"main": build(*tiers)}, Policies(**policies), self.luck)
        self.call_of: dict[Attempt[Target], Call[Target]] = {}

    # --- calls ---

    def ask(self, only: str | None = None, timeout: float | None = None, **options: Any) -> Ask:
        """What a call wants; ``only`` is the one provider it may be sent to, ``timeout`` the seconds it has."""
        if only is not None:
            others = {target.id: "not this time" for target in self.pool.targets() if target.id != only}
            options["unsuitable"] = {**options.get("unsuitable", {}), **others}
        if timeout is not None:
            options["deadline"] = self.now + timeout
        return Ask(options.pop("route", "main"), **options)

    def call(self, only: str | None = None, timeout: float | None = None, **options: Any) -> Call[Target]:
        return Call(self.pool, self.ask(only, timeout, **options), self.now)

    def start(self, call: Call[Target] | None = None, **options: Any) -> Attempt[Target]:
        """The next attempt of a call, of a new one by default, which must be allowed at once."""
        call = call or self.call(**options)
        step = call.next_attempt(self.now)
        assert isinstance(step, Attempt), step
        self.call_of[step] = call
        return step

    def told_to_wait(self, call: Call[Target]) -> Wait:
        """The wait a call is told to make."""
        step = call.next_attempt(self.now)
        assert isinstance(step, Wait), step
        return step

    def wait(self, call: Call[Target]) -> Wait:
        """The wait a call is told to make, and makes."""
        step = self.told_to_wait(call)
        self.now += step.seconds
        return step

    def rescue(self, beside: Attempt[Target], after: float = 0.0) -> Attempt[Target] | None:
        """A second attempt beside one, ``after`` seconds from now."""
        self.now += after
        call = self.call_of[beside]
        found = call.rescue(beside, self.now)
        if found is not None:
            self.call_of[found] = call
        return found

    def rescued(self, beside: Attempt[Target], after: float = 0.0) -> Attempt[Target]:
        """As :meth:`rescue`, which must be allowed."""
        found = self.rescue(beside, after)
        assert found is not None, beside.rescue_after
        return found

    def fail(self, attempt: Attempt[Target], kind: FaultKind = FaultKind.SERVER_ERROR, **detail: Any) -> None:
        self.call_of[attempt].failed(attempt, fault(kind, **detail), self.now)

    def speak(self, attempt: Attempt[Target], after: float = 0.0) -> None:
        self.now += after
        self.call_of[attempt].first_content(attempt, self.now)

    def succeed(self, attempt: Attempt[Target], after: float = 0.0, tokens: int = 0) -> None:
        self.now += after
        self.call_of[attempt].succeeded(attempt, self.now, tokens)

    def abandon(self, attempt: Attempt[Target]) -> None:
        self.call_of[attempt].abandoned(attempt, self.now)

    def overtake(self, attempt: Attempt[Target]) -> bool:
        return self.call_of[attempt].overtaken(attempt, self.now)

    def expire(self, attempt: Attempt[Target], silence: float = 0.0) -> None:
        """The call's deadline ends the attempt now."""
        self.call_of[attempt].expired(attempt, fault(FaultKind.TIMEOUT), self.now, silence)

    # --- histories ---

    def answer(self, provider: str, times: int = 1, first: float = 0.1) -> None:
        """Streamed calls to one provider, answered after ``first`` seconds."""
        for _ in range(times):
            attempt = self.start(only=provider, streaming=True)
            self.speak(attempt, after=first)
            self.succeed(attempt)

    def trip(self, provider: str, kind: FaultKind = FaultKind.SERVER_ERROR) -> None:
        """Failures in a row until the breaker opens hard."""
        for _ in range(30):
            if self.health(provider).breaker == "open":
                return
            member = self.member(provider)
            self.now = max(self.now, member.next_trial()) if member.breaker.down else self.now
            self.fail(self.start(only=provider), kind)
        raise AssertionError("it did not open")

    def half_break(self, provider: str) -> None:
        """Three failures in a row: the breaker opens softly."""
        for _ in range(3):
            self.fail(self.start(only=provider))
        assert self.health(provider).breaker == "softly_open"

    def until_trial(self, provider: str) -> None:
        """Let the time to the next trial pass."""
        self.now += self.health(provider).retry_in or 0.0

    def gate(self, provider: str, seconds: float | None = 20.0) -> None:
        """A rate limit closes its gate."""
        self.fail(self.start(only=provider), FaultKind.RATE_LIMITED, status=429, retry_after=seconds)

    # --- looking ---

    def health(self, provider: str) -> ProviderHealth:
        return next(health for health in self.pool.snapshot(self.now) if health.id == provider)

    def breaker(self, provider: str) -> str:
        return self.health(provider).breaker

    def member(self, provider: str) -> Member[Target]:
        return self.pool._table.members[provider]

    def explain(self, **options: Any) -> dict[str, str | None]:
        return {target.id: reason for target, reason in self.pool.explain(self.ask(**options), self.now)}

    def events(self, *kinds: type) -> list[Any]:
        """What happened since the last look, of these kinds only if any are given."""
        return [event for event in self.pool.take_events() if not kinds or isinstance(event, kinds)]

    def changes(self) -> list[tuple[str, str, str]]:
        """Changes of breakers since the last look: provider, before, after."""
        return [(event.provider, event.old, event.new) for event in self.events(events.BreakerChanged)]


def build(*tiers: Provider | Sequence[Provider]) -> list[list[Target]]:
    """Tiers of targets from names, targets, or lists of them."""
    groups = [[tier] if isinstance(tier, str | Target) else tier for tier in tiers]
    return [[Target(item) if isinstance(item, str) else item for item in group] for group in groups]


def fault(kind: FaultKind = FaultKind.SERVER_ERROR, **detail: Any) -> Fault:
    return Fault(kind, **detail)


def routes(**tiers: Sequence[Sequence[Target]]) -> Mapping[str, Sequence[Sequence[Target]]]:
    return tiers
