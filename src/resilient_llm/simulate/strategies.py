"""What to compare the production core with: an oracle above it, and what applications do without it below.

They speak the interface of :mod:`resilient_llm.simulate.client`, so the same driver and world serve them.
"""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from typing import Final, final

from resilient_llm.decide.call import Wait
from resilient_llm.errors import AllAttemptsFailed, DeadlineExceeded, Fault, FaultKind, NoProviderAvailable
from resilient_llm.simulate.client import Layout, Question
from resilient_llm.simulate.providers import Provider, Window

_FIRST_TOKEN: Final = 30.0
"""Seconds without a sign of life after which a plain application gives up an attempt."""
_WHOLE: Final = 60.0


@final
class PlainTry:
    """An attempt without a lease."""

    __slots__ = ("kind", "released", "rescue_after", "silence", "target", "timeout")

    def __init__(self, target: Provider, timeout: float) -> None:
        self.target: Provider = target
        self.timeout: float = timeout
        self.rescue_after: float | None = None
        self.silence: float = 0.0
        self.kind: str = "plain"
        self.released: bool = False


class Strategy(ABC):
    """A way to choose providers without looking at more than its own memory."""

    attempts = 3

    def __init__(self, layout: Layout, seed: int) -> None:
        self.tiers: list[list[Provider]] = [list(tier) for tier in layout]
        self.everybody: list[Provider] = [provider for tier in layout for provider in tier]
        self.dice: random.Random = random.Random(f"strategy {seed}")

    def call(self, question: Question, now: float) -> PlainTalk:
        """Begin a call."""
        return PlainTalk(self, question, now)

    def abandon_later(self, attempt: PlainTry) -> None:  # noqa: B027 - an honest default
        """Nothing to give back."""

    def learn(self, attempt: PlainTry, headroom: Window, now: float) -> None:  # noqa: B027
        """Nobody looks at headers."""

    @abstractmethod
    def choose(self, tried: list[Provider], now: float) -> Provider | None:
        """Whom to ask next; ``None``: nobody."""

    def pause(self, tried: list[Provider], fault: Fault | None) -> float:
        """Seconds to wait before the next attempt."""
        return 0.0

    def failed(self, provider: Provider, fault: Fault, now: float) -> None:  # noqa: B027
        """Remember a failure."""

    def succeeded(self, provider: Provider, now: float) -> None:  # noqa: B027
        """Remember a success."""


@final
class PlainTalk:
    """A call of a plain application."""

    def __init__(self, strategy: Strategy, question: Question, now: float) -> None:
        self._strategy = strategy
        self._question = question
        self._deadline = now + question.deadline
        self._tried: list[Provider] = []
        self._fault: Fault | None = None
        self._rested = True

    def next_attempt(self, now: float) -> PlainTry | Wait:
        """The next try, or a pause, or an error."""
        strategy = self._strategy
        if now >= self._deadline:
            raise DeadlineExceeded("too late")
        if len(self._tried) >= strategy.attempts:
            raise AllAttemptsFailed("out of attempts")
        if not self._rested:
            self._rested = True
            pause = strategy.pause(self._tried, self._fault)
            if pause > 0:
                return Wait(min(pause, self._deadline - now), "backoff")
        provider = strategy.choose(self._tried, now)
        if provider is None:
            raise NoProviderAvailable("nobody")
        self._tried.append(provider)
        timeout = _FIRST_TOKEN if self._question.streaming else _WHOLE
        return PlainTry(provider, min(timeout, self._deadline - now))

    def rescue(self, beside: PlainTry, now: float) -> PlainTry | None:
        """Plain applications wait."""
        return None

    def first_content(self, attempt: PlainTry, now: float) -> None:
        """Nothing to note."""

    def succeeded(self, attempt: PlainTry, now: float, output_tokens: int = 0) -> None:
        """The answer is there."""
        attempt.released = True
        self._strategy.succeeded(attempt.target, now)

    def failed(self, attempt: PlainTry, fault: Fault, now: float) -> None:
        """Perhaps another one."""
        attempt.released = True
        self._fault, self._rested = fault, False
        self._strategy.failed(attempt.target, fault, now)

    def abandoned(self, attempt: PlainTry, now: float) -> None:
        """Given up."""
        attempt.released = True

    def expired(self, attempt: PlainTry, fault: Fault, now: float) -> None:
        """The caller's deadline is over."""
        attempt.released = True

    def overtaken(self, attempt: PlainTry, now: float) -> None:
        """Never happens: nothing runs beside."""
        attempt.released = True


@final
class Oracle(Strategy):
    """Knows the state of every provider at every moment (not the outcome of a single throw of dice): asks the first
    tier that answers and is not three times slower than the best, the fastest in it, never one that is down."""

    def choose(self, tried: list[Provider], now: float) -> Provider | None:
        """See :meth:`Strategy.choose`."""
        state = [(p.failing(now), p.slowness(now), i, p) for i, t in enumerate(self.tiers) for p in t]
        up = [entry for entry in state if entry[0] < 1.0 and entry[3] not in tried]
        if not up:
            return None
        surest = min(failing for failing, _, _, _ in up)
        fastest = min(slow for failing, slow, _, _ in up if failing <= surest)
        good = [entry for entry in up if entry[0] <= surest and entry[1] <= 3.0 * fastest]
        tier = min(index for _, _, index, _ in good)
        best = min(slow for _, slow, index, _ in good if index == tier)
        return self.dice.choice([p for _, slow, index, p in good if index == tier and slow <= best])


@final
class FirstAlive(Strategy):
    """A list in order of preference, tried from the top at every call."""

    def choose(self, tried: list[Provider], now: float) -> Provider | None:
        """See :meth:`Strategy.choose`."""
        return next((provider for provider in self.everybody if provider not in tried), None)


@final
class RoundRobin(Strategy):
    """Each call begins with the next provider, and goes on with the one after it."""

    _turn = 0

    def choose(self, tried: list[Provider], now: float) -> Provider | None:
        """See :meth:`Strategy.choose`."""
        if not tried:
            self._turn += 1
        return self.everybody[(self._turn + len(tried)) % len(self.everybody)]


@final
class RetryPrimary(Strategy):
    """One provider, three attempts, exponential backoff with full jitter, Retry-After obeyed up to a minute: an SDK."""

    def choose(self, tried: list[Provider], now: float) -> Provider | None:
        """See :meth:`Strategy.choose`."""
        return self.everybody[0]

    def pause(self, tried: list[Provider], fault: Fault | None) -> float:
        """See :meth:`Strategy.pause`."""
        if fault is not None and fault.retry_after is not None:
            return min(fault.retry_after, 60.0)
        return self.dice.random() * 0.5 * 2.0 ** len(tried)


@final
class Cooldown(Strategy):
    """A random provider that is not cooling down; a 429 or more than three failures within a minute cool one down for
    as long as it says, or five seconds; a retry may pick the same again; all cooling: an error.  LiteLLM's defaults."""

    def __init__(self, layout: Layout, seed: int) -> None:
        super().__init__(layout, seed)
        self._until: dict[Provider, float] = {}
        self._failures: dict[Provider, list[float]] = {}

    def choose(self, tried: list[Provider], now: float) -> Provider | None:
        """See :meth:`Strategy.choose`."""
        for tier in self.tiers:
            warm = [p for p in tier if now >= self._until.get(p, -math.inf)]
            if warm:
                return self.dice.choice(warm)
        return None

    def pause(self, tried: list[Provider], fault: Fault | None) -> float:
        """See :meth:`Strategy.pause`."""
        if fault is not None and fault.retry_after is not None:
            return min(fault.retry_after, 60.0)
        return 0.5 * 2.0 ** (len(tried) - 1) + 0.25 * self.dice.random()

    def failed(self, provider: Provider, fault: Fault, now: float) -> None:
        """See :meth:`Strategy.failed`."""
        recent = [at for at in self._failures.get(provider, ()) if now - at < 60.0]
        recent.append(now)
        self._failures[provider] = recent
        if fault.kind is FaultKind.RATE_LIMITED or len(recent) > 3:
            self._until[provider] = now + (fault.retry_after or 5.0)


PLAIN: Final[dict[str, type[Strategy]]] = {
    "oracle": Oracle,
    "first alive": FirstAlive,
    "round robin": RoundRobin,
    "retry primary": RetryPrimary,
    "cooldown": Cooldown,
}
