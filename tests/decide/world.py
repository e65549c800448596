"""A small world to decide in: providers that are only names, a clock that is only a number, and scripted luck."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import settings

from resilient_llm.decide import events
from resilient_llm.decide.call import Call, Wait
from resilient_llm.decide.member import Attempt
from resilient_llm.decide.pool import Pool
from resilient_llm.decide.standing import Standing
from resilient_llm.errors import Fault, FaultKind
from resilient_llm.policy import Policies

PROPERTY = settings(deadline=None, database=None, max_examples=100)
MACHINE = settings(deadline=None, database=None, max_examples=60, stateful_step_count=60)


@dataclass(eq=False)
class Target:
    """What the pool must know of a provider, and nothing else."""

    id: str
    weight: float = 1.0
    max_concurrency: int | None = None
    account: str | None = None
    context_window: int | None = None
    model: str = "m"


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


Provider = str | Target


class World:
    """A pool and the time.  ``World("a", ["b", "c"])`` prefers *a* and has *b* and *c* as equals behind it."""

    def __init__(self, *tiers: Provider | Sequence[Provider], now: float = 1000.0, **policies: Any) -> None:
        self.now = now
        self.luck = Luck()
        self.pool: Pool[Target] = Pool({"main": build(*tiers)}, Policies(**policies), self.luck)

    # --- calls ---

    def call(self, only: str | None = None, timeout: float | None = None, **options: Any) -> Call[Target]:
        """A call; ``only`` is the one provider it may be sent to, ``timeout`` the seconds until its deadline."""
        if only is not None:
            others = {target.id: "not this time" for target in self.pool.targets() if target.id != only}
            options["unsuitable"] = {**options.get("unsuitable", {}), **others}
        if timeout is not None:
            options["deadline"] = self.now + timeout
        return Call(self.pool, self.now, route=options.pop("route", "main"), **options)

    def start(self, call: Call[Target] | None = None, **options: Any) -> Attempt[Target]:
        """The next attempt of a call, of a new one by default, which must be allowed at once."""
        step = (call or self.call(**options)).next_attempt(self.now)
        assert isinstance(step, Attempt), step
        return step

    def pause(self, call: Call[Target]) -> Wait:
        """The wait a call is told to make, and makes."""
        step = call.next_attempt(self.now)
        assert isinstance(step, Wait), step
        self.now += step.seconds
        return step

    def fail(self, attempt: Attempt[Target], kind: FaultKind = FaultKind.SERVER_ERROR, **detail: Any) -> None:
        attempt.call.failed(attempt, fault(kind, **detail), self.now)

    def speak(self, attempt: Attempt[Target], after: float = 0.0) -> None:
        self.now += after
        attempt.call.first_content(attempt, self.now)

    def succeed(self, attempt: Attempt[Target], after: float = 0.0, tokens: int = 0) -> None:
        self.now += after
        attempt.call.succeeded(attempt, self.now, tokens)

    def abandon(self, attempt: Attempt[Target]) -> None:
        attempt.call.abandoned(attempt, self.now)

    # --- histories ---

    def answer(self, provider: str, times: int = 1, first: float = 0.1) -> None:
        """Streamed calls to one provider, answered after ``first`` seconds."""
        for _ in range(times):
            attempt = self.start(only=provider, streaming=True)
            self.speak(attempt, after=first)
            self.succeed(attempt)

    def trip(self, provider: str, kind: FaultKind = FaultKind.SERVER_ERROR) -> None:
        """Five failures in a row: the breaker opens."""
        for _ in range(5):
            self.fail(self.start(only=provider), kind)
        assert self.standing(provider).breaker == "open"

    def half_open(self, provider: str) -> None:
        """Trip it and let the open period pass: a probe is due."""
        self.trip(provider)
        self.now += self.standing(provider).retry_in or 0.0

    # --- looking ---

    def standing(self, provider: str) -> Standing:
        return next(standing for standing in self.pool.snapshot(self.now) if standing.id == provider)

    def explain(self, **options: Any) -> dict[str, str | None]:
        return {target.id: reason for target, reason in self.pool.explain(self.call(**options), self.now)}

    def events(self, *kinds: type) -> list[events.Event]:
        """What happened since the last look, of these kinds only if any are given."""
        return [event for event in self.pool.take_events() if not kinds or isinstance(event, kinds)]


def build(*tiers: Provider | Sequence[Provider]) -> list[list[Target]]:
    """Tiers of targets from names, targets, or lists of them."""
    groups = [[tier] if isinstance(tier, str | Target) else tier for tier in tiers]
    return [[Target(item) if isinstance(item, str) else item for item in group] for group in groups]


def fault(kind: FaultKind = FaultKind.SERVER_ERROR, **detail: Any) -> Fault:
    return Fault(kind, **detail)


def routes(**tiers: Sequence[Sequence[Target]]) -> Mapping[str, Sequence[Sequence[Target]]]:
    return tiers
