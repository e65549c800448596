"""What to compare the production core with: an oracle above it, an SDK, and what else applications do without it.

They speak the interface of :mod:`resilient_llm.simulate.client`, so the same driver and world serve them.
"""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from typing import Final, final

from typing_extensions import override

from resilient_llm.errors import (
    AllAttemptsFailed,
    DeadlineExceeded,
    NoProviderAvailable,
    RequestRejected,
)
from resilient_llm.faults import Fault, FaultKind
from resilient_llm.simulate.allowance import Headroom
from resilient_llm.simulate.client import Layout, Pause, Question
from resilient_llm.simulate.providers import PROMPT_SCALE, Provider

_FIRST_TOKEN: Final = 30.0
"""Seconds without a sign of life after which a plain application gives up an attempt."""
_WHOLE: Final = 60.0
_OBEYED: Final = 60.0
"""Seconds of Retry-After that plain applications wait for."""
_FINAL: Final = frozenset(
    {FaultKind.BAD_REQUEST, FaultKind.AUTH, FaultKind.PERMISSION, FaultKind.CONTENT_FILTER, FaultKind.CONTEXT_LENGTH}
)
"""What no SDK tries again."""


@final
class PlainTry:
    """An attempt without a lease."""

    __slots__ = ("fresh", "kind", "quiet_since", "released", "rescue_after", "target", "timeout")

    def __init__(self, target: Provider, timeout: float) -> None:
        self.target: Provider = target
        self.timeout: float = timeout
        self.rescue_after: float | None = None
        self.kind: str = "plain"
        self.released: bool = False
        self.fresh: bool = False
        self.quiet_since: float = math.inf


class Strategy(ABC):
    """A way to choose providers without looking at more than its own memory."""

    attempts = 3
    resends: bool = False

    def __init__(self, layout: Layout, seed: int) -> None:
        self.tiers: list[list[Provider]] = [list(tier) for tier in layout]
        self.everybody: list[Provider] = [provider for tier in layout for provider in tier]
        self.dice: random.Random = random.Random(f"strategy {seed}")

    def call(self, question: Question, now: float) -> PlainTalk:
        """Begin a call."""
        return PlainTalk(self, question, now)

    def abandon_later(self, attempt: PlainTry) -> None:  # noqa: B027 - an honest default
        """Nothing to give back."""

    def learn(self, attempt: PlainTry, headroom: Headroom, now: float) -> None:  # noqa: B027
        """Nobody looks at headers."""

    @abstractmethod
    def choose(self, call: PlainTalk, now: float) -> Provider | Pause | None:
        """Whom to ask next, or how long to wait for somebody; ``None``: nobody."""

    def pause(self, tried: list[Provider], fault: Fault | None) -> float:
        """Seconds to wait before the next attempt."""
        return 0.0

    def timeout(self, call: PlainTalk, provider: Provider, now: float) -> float:
        """Seconds an attempt may stay without a sign of life."""
        return _FIRST_TOKEN if call.question.streaming else _WHOLE

    def failed(self, provider: Provider, fault: Fault, now: float) -> None:  # noqa: B027
        """Remember a failure."""

    def succeeded(self, provider: Provider, now: float) -> None:  # noqa: B027
        """Remember a success."""


@final
class PlainTalk:
    """A call of a plain application."""

    __slots__ = ("_fault", "_rested", "_strategy", "deadline", "question", "tried")

    def __init__(self, strategy: Strategy, question: Question, now: float) -> None:
        self._strategy = strategy
        self.question: Question = question
        self.deadline: float = now + question.deadline
        self.tried: list[Provider] = []
        self._fault: Fault | None = None
        self._rested = True

    def next_attempt(self, now: float) -> PlainTry | Pause:
        """The next try, or a pause, or an error."""
        strategy = self._strategy
        if now >= self.deadline:
            raise DeadlineExceeded("too late")
        if self._fault is not None and self._fault.kind in _FINAL:
            raise RequestRejected("not to be tried again")
        if len(self.tried) >= strategy.attempts:
            raise AllAttemptsFailed("out of attempts")
        if not self._rested:
            self._rested = True
            pause = strategy.pause(self.tried, self._fault)
            if pause > 0:
                return Pause(min(pause, self.deadline - now))
        found = strategy.choose(self, now)
        if found is None:
            raise NoProviderAvailable("nobody")
        if isinstance(found, Pause):
            return Pause(min(found.seconds, self.deadline - now), found.reason)
        attempt = PlainTry(found, min(strategy.timeout(self, found, now), self.deadline - now))
        attempt.fresh = strategy.resends and found in self.tried
        self.tried.append(found)
        return attempt

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

    def expired(self, attempt: PlainTry, fault: Fault, now: float, silence: float = 0.0) -> None:
        """The caller's deadline is over."""
        attempt.released = True

    def overtaken(self, attempt: PlainTry, now: float) -> bool:
        """Never happens: nothing runs beside."""
        attempt.released = True
        return False

    def paused(self, attempt: PlainTry, seconds: float) -> None:
        """Nobody looks."""

    def stopped_waiting(self, now: float) -> None:
        """Nothing to leave."""


@final
class Oracle(Strategy):
    """Knows the state of every provider at every moment (not the outcome of a single throw of dice): asks the first
    tier that answers and is not three times slower than the best, the fastest in it, never one that is down; while all
    are down it sleeps until that changes.  It may ask one provider three times and make six attempts a call, and uses
    up no rate limit for an answer that would probably come too late."""

    attempts = 6
    resends = True

    @override
    def choose(self, call: PlainTalk, now: float) -> Provider | Pause | None:
        """See :meth:`Strategy.choose`."""
        tried, tokens, rest = call.tried, call.question.prompt, call.deadline - now
        left = [(i, p) for i, tier in enumerate(self.tiers) for p in tier if tried.count(p) < 3]
        left = [(i, p) for i, p in left if not p.limited or rest > _expected(call.question, p, now)]
        state = [(p.failing(now, tokens), p.slowness(now), i, p) for i, p in left]
        up = [entry for entry in state if entry[0] < 1.0]
        if not up:
            change = min((p.changes_at(now, tokens) for _, p in left), default=math.inf)
            return None if change >= call.deadline else Pause(change - now + 1e-6, "down")
        surest = min(failing for failing, _, _, _ in up)
        fastest = min(slow for failing, slow, _, _ in up if failing <= surest)
        good = [entry for entry in up if entry[0] <= surest and entry[1] <= 3.0 * fastest]
        tier = min(index for _, _, index, _ in good)
        best = min(slow for _, slow, index, _ in good if index == tier)
        return self.dice.choice([p for _, slow, index, p in good if index == tier and slow <= best])

    @override
    def timeout(self, call: PlainTalk, provider: Provider, now: float) -> float:
        """Where some attempts hang, a third of what is left, but time enough for all but one answer in a thousand."""
        question = call.question
        usual = 6.0 * provider.slowness(now) * (1.0 + question.prompt / PROMPT_SCALE)
        if not question.streaming:
            usual += provider.nature.pace * question.output
        return max(usual, (call.deadline - now) / 3.0)


def _expected(question: Question, provider: Provider, now: float) -> float:
    """Seconds an answer takes, more often than not."""
    first = 1.5 * provider.slowness(now) * (1.0 + question.prompt / PROMPT_SCALE)
    return first + provider.nature.pace * question.output


class Sdk(Strategy):
    """A vendor's SDK at one provider: three attempts, ``0.5 * 2**n`` s between them, at most 8 and up to a quarter
    less, Retry-After obeyed up to a minute, no timeout but the call's deadline."""

    def __init__(self, layout: Layout, seed: int, at: int = 0) -> None:
        super().__init__(layout, seed)
        self._provider = self.everybody[at]

    @override
    def choose(self, call: PlainTalk, now: float) -> Provider | Pause | None:
        """See :meth:`Strategy.choose`."""
        return self._provider

    @override
    def pause(self, tried: list[Provider], fault: Fault | None) -> float:
        """See :meth:`Strategy.pause`."""
        if fault is not None and fault.retry_after is not None and 0.0 < fault.retry_after <= _OBEYED:
            return fault.retry_after
        return min(0.5 * 2.0 ** (len(tried) - 1), 8.0) * (1.0 - 0.25 * self.dice.random())

    @override
    def timeout(self, call: PlainTalk, provider: Provider, now: float) -> float:
        """See :meth:`Strategy.timeout`."""
        return math.inf


@final
class HastySdk(Sdk):
    """An SDK with a timeout: half a minute for the first token, a minute for a whole answer."""

    @override
    def timeout(self, call: PlainTalk, provider: Provider, now: float) -> float:
        """See :meth:`Strategy.timeout`."""
        return _FIRST_TOKEN if call.question.streaming else _WHOLE


@final
class FirstAlive(Strategy):
    """A list in order of preference, tried from the top at every call."""

    @override
    def choose(self, call: PlainTalk, now: float) -> Provider | Pause | None:
        """See :meth:`Strategy.choose`."""
        return next((provider for provider in self.everybody if provider not in call.tried), None)


@final
class RoundRobin(Strategy):
    """Each call begins with the next provider, and goes on with the one after it."""

    _turn = 0

    @override
    def choose(self, call: PlainTalk, now: float) -> Provider | Pause | None:
        """See :meth:`Strategy.choose`."""
        if not call.tried:
            self._turn += 1
        return self.everybody[(self._turn + len(call.tried)) % len(self.everybody)]


@final
class Cooldown(Strategy):
    """A random provider that is not cooling down; a 429 or more than three failures within a minute cool one down for
    as long as it says, or five seconds; a retry may pick the same again; all cooling: an error.  LiteLLM's defaults."""

    def __init__(self, layout: Layout, seed: int) -> None:
        super().__init__(layout, seed)
        self._until: dict[Provider, float] = {}
        self._failures: dict[Provider, list[float]] = {}

    @override
    def choose(self, call: PlainTalk, now: float) -> Provider | Pause | None:
        """See :meth:`Strategy.choose`."""
        for tier in self.tiers:
            warm = [p for p in tier if now >= self._until.get(p, -math.inf)]
            if warm:
                return self.dice.choice(warm)
        return None

    @override
    def pause(self, tried: list[Provider], fault: Fault | None) -> float:
        """See :meth:`Strategy.pause`."""
        if fault is not None and fault.retry_after is not None:
            return min(fault.retry_after, _OBEYED)
        return 0.5 * 2.0 ** (len(tried) - 1) + 0.25 * self.dice.random()

    @override
    def failed(self, provider: Provider, fault: Fault, now: float) -> None:
        """See :meth:`Strategy.failed`."""
        recent = [at for at in self._failures.get(provider, ()) if now - at < 60.0]
        recent.append(now)
        self._failures[provider] = recent
        if fault.kind is FaultKind.RATE_LIMITED or len(recent) > 3:
            self._until[provider] = now + (fault.retry_after or 5.0)


PLAIN: Final[dict[str, type[Strategy]]] = {
    "oracle": Oracle,
    "sdk": Sdk,
    "hasty sdk": HastySdk,
    "first alive": FirstAlive,
    "round robin": RoundRobin,
    "cooldown": Cooldown,
}
"""By name; an ``sdk`` talks to the first provider unless told otherwise."""
