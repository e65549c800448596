"""Enforces a :class:`~resilient_llm.testing.script.RateLimit`: a log of what passed lately."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import final

from resilient_llm.testing.script import RateLimit


@final
class _Window:
    """At most ``limit`` units in any ``per`` seconds."""

    def __init__(self, limit: int, per: float) -> None:
        self.limit = limit
        self.used = 0
        self._per = per
        self._log: deque[tuple[float, int]] = deque()

    def expire(self, now: float) -> None:
        while self._log and self._log[0][0] + self._per <= now:
            self.used -= self._log.popleft()[1]

    def take(self, cost: int, now: float) -> None:
        self._log.append((now, cost))
        self.used += cost

    def wait(self, cost: int, now: float) -> float:
        """Seconds until ``cost`` units fit; ``per`` if they never will."""
        if cost > self.limit:
            return self._per
        excess = self.used + cost - self.limit
        for at, units in self._log:
            if excess <= 0:
                break
            excess -= units
            if excess <= 0:
                return at + self._per - now
        return 0.0

    def full_in(self, now: float) -> float:
        """Seconds until the whole limit is available again."""
        return self._log[-1][0] + self._per - now if self._log else 0.0


@dataclass(frozen=True, slots=True)
class Admission:
    """Whether a request may pass, and the headers to send with its answer."""

    admitted: bool
    headers: Mapping[str, str]


@final
class Limiter:
    """The state of one limit: one set of windows per API key."""

    def __init__(self, limit: RateLimit) -> None:
        self.limit = limit
        self._keys: dict[str, dict[str, _Window]] = {}

    def admit(self, key: str, tokens: int) -> Admission:
        """Count one request of ``tokens`` tokens, or refuse it at no cost."""
        now = self.limit.clock()
        windows = self._keys.setdefault(key, self._windows())
        costs = {"requests": 1, "tokens": tokens}
        for window in windows.values():
            window.expire(now)
        wait = max((window.wait(costs[name], now) for name, window in windows.items()), default=0.0)
        if wait <= 0:
            for name, window in windows.items():
                window.take(costs[name], now)
        return Admission(wait <= 0, self._headers(windows, now, wait))

    def _windows(self) -> dict[str, _Window]:
        limits = {"requests": self.limit.requests, "tokens": self.limit.tokens}
        return {name: _Window(limit, self.limit.per) for name, limit in limits.items() if limit is not None}

    def _headers(self, windows: Mapping[str, _Window], now: float, wait: float) -> dict[str, str]:
        headers: dict[str, str] = {}
        for name, window in windows.items():
            facts = {"limit": str(window.limit), "remaining": str(max(0, window.limit - window.used))}
            if self.limit.dialect == "openai":
                facts["reset"] = go_duration(window.full_in(now))
                headers |= {f"x-ratelimit-{fact}-{name}": value for fact, value in facts.items()}
            elif self.limit.dialect == "anthropic":
                facts["reset"] = _rfc3339(window.full_in(now))
                headers |= {f"anthropic-ratelimit-{name}-{fact}": value for fact, value in facts.items()}
        if wait > 0:
            headers["retry-after"] = str(max(1, -int(-wait // 1)))  # whole seconds, rounded up
            if self.limit.dialect == "openai":
                headers["retry-after-ms"] = str(-int(-wait * 1000 // 1))
        return headers


def go_duration(seconds: float) -> str:
    """``6m0s``, ``1.5s``, ``17ms``: the way OpenAI writes durations."""
    milliseconds = round(seconds * 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest / 1000:g}s"
    if minutes or hours:
        text = f"{minutes}m{text}"
    return f"{hours}h{text}" if hours else text


def _rfc3339(seconds: float) -> str:
    # Whole seconds, rounded up: a client that waits until then must be let through.
    at = datetime.now(timezone.utc) + timedelta(seconds=seconds + 1)  # noqa: UP017
    return at.replace(microsecond=0).isoformat().replace("+00:00", "Z")
