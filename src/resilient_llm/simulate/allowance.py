"""Rate limits as providers keep them: buckets that fill all the time, windows that start anew."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, NamedTuple, final

DIALECTS: Final = ("openai", "anthropic", "window")
"""What a provider tells with an answer: ``openai`` the time until the bucket is full, ``anthropic`` the moment at which
it is full (to the second), ``window`` the time until the window ends and all of it is there again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What a provider allows: ``requests`` and ``tokens`` (of prompts) a minute, ``None``: any number.

    ``burst`` is how many seconds' worth a full bucket holds; a ``window`` holds a minute's.  ``tells``: answers say how
    much is left, in the ``dialect`` (one of :data:`DIALECTS`); ``hints``: a 429 carries Retry-After, in whole seconds.
    ``enforced``: it refuses what does not fit, rather than merely telling a limit that is another key's.
    """

    requests: float | None = None
    tokens: float | None = None
    burst: float = 60.0
    dialect: str = "openai"
    tells: bool = True
    hints: bool = True
    enforced: bool = True

    def __post_init__(self) -> None:
        if self.dialect not in DIALECTS:
            raise ValueError(f"a dialect is one of {', '.join(DIALECTS)}, not {self.dialect!r}")


@dataclass(frozen=True, slots=True)
class Window:
    """One rate limit as a provider reports it with an answer; seconds until it is whole again."""

    limit: int | None
    remaining: int | None
    reset_in: float | None


class Headroom(NamedTuple):
    """What an answer tells of both limits; ``None``: nothing."""

    requests: Window | None
    tokens: Window | None


@final
class Meter:
    """What is left of one limit of ``per_minute``."""

    __slots__ = ("_at", "_dialect", "_level", "_rate", "capacity")

    def __init__(self, per_minute: float, allowance: Allowance) -> None:
        self._dialect = allowance.dialect
        self._rate = per_minute / 60.0
        self.capacity: float = per_minute if allowance.dialect == "window" else self._rate * allowance.burst
        self._level = self.capacity
        self._at = -math.inf

    def left(self, now: float) -> float:
        """Units there now."""
        if self._level >= self.capacity:
            return self.capacity
        if self._dialect == "window":
            return self.capacity if now >= self._at + 60.0 else self._level
        return min(self.capacity, self._level + self._rate * (now - self._at))

    def wait(self, now: float, units: float) -> float:
        """Seconds until so many are there, at most until it is full."""
        missing = min(units, self.capacity) - self.left(now)
        if missing <= 1e-9:
            return 0.0
        return self._at + 60.0 - now if self._dialect == "window" else missing / self._rate

    def take(self, now: float, units: float) -> None:
        """Use them up."""
        left = self.left(now)
        if self._dialect != "window" or left >= self.capacity:
            self._at = now  # a window begins with its first request
        self._level = max(0.0, left - min(units, self.capacity))

    def told(self, now: float) -> Window:
        """As an answer tells it."""
        left = self.left(now)
        window = self._dialect == "window"
        reset = max(0.0, self._at + 60.0 - now) if window else (self.capacity - left) / self._rate
        if self._dialect == "anthropic":
            reset = float(math.ceil(reset))
        return Window(round(self.capacity), max(0, int(left + 1e-9)), reset)


@final
class Meters:
    """Both limits of a provider."""

    __slots__ = ("_allowance", "_requests", "_tokens")

    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance
        self._requests = None if allowance.requests is None else Meter(allowance.requests, allowance)
        self._tokens = None if allowance.tokens is None else Meter(allowance.tokens, allowance)

    def wait(self, now: float, tokens: int) -> float:
        """Seconds until a request with so many tokens is admitted; 0.0: now."""
        if not self._allowance.enforced:
            return 0.0
        wait = 0.0 if self._requests is None else self._requests.wait(now, 1.0)
        return wait if self._tokens is None else max(wait, self._tokens.wait(now, tokens))

    def admit(self, now: float, tokens: int) -> bool:
        """Take a request if there is room for it."""
        if self.wait(now, tokens) > 0.0:
            return False
        if self._requests is not None:
            self._requests.take(now, 1.0)
        if self._tokens is not None:
            self._tokens.take(now, tokens)
        return True

    def hint(self, now: float, tokens: int) -> float | None:
        """The Retry-After of a refusal."""
        return float(math.ceil(self.wait(now, tokens))) if self._allowance.hints else None

    def told(self, now: float) -> Headroom | None:
        """What an answer tells, if anything."""
        if not self._allowance.tells:
            return None
        requests = None if self._requests is None else self._requests.told(now)
        return Headroom(requests, None if self._tokens is None else self._tokens.told(now))
