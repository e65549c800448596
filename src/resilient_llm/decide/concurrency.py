"""How many attempts a provider may have in flight."""

from __future__ import annotations

import math

from resilient_llm.policy import Limits


class Concurrency:
    """A fixed limit, if the user gave one, and an adaptive one that appears only after the provider throttled.

    Multiplicative decrease on throttling, additive increase on success (AIMD), with Netflix's condition that an unused
    limit does not grow.  Latency plays no part: with answers of any length it measures what the model had to say.
    """

    __slots__ = ("_lowered_at", "_policy", "_throttled_at", "adaptive", "fixed", "in_flight", "limited")

    def __init__(self, policy: Limits, fixed: int | None) -> None:
        self._policy = policy
        self.adaptive: float | None = None
        self.in_flight: int = 0
        self.limited: bool = False
        """Whether any limit is in force: the cheap question."""
        self.fix(fixed)
        self._throttled_at = -math.inf
        self._lowered_at = -math.inf

    def fix(self, limit: int | None) -> None:
        """Set the fixed limit; ``None`` for none."""
        self.fixed: int | None = limit
        self.limited = limit is not None or self.adaptive is not None

    def full(self, now: float) -> bool:
        """Whether another attempt would exceed the limit."""
        if self.fixed is not None and self.in_flight >= self.fixed:
            return True
        if self.adaptive is None:
            return False
        if now - self._throttled_at >= self._policy.forget:
            self.adaptive = None
            self.limited = self.fixed is not None
            return False
        return self.in_flight >= int(self.adaptive)

    @property
    def limit(self) -> int | None:
        """The limit in force; ``None`` for none."""
        limits = [limit for limit in (self.fixed, self.adaptive) if limit is not None]
        return int(min(limits)) if limits else None

    def throttled(self, now: float, started: float) -> None:
        """The provider refused an attempt begun at ``started`` for want of room, with ``in_flight`` attempts (this one
        included) under way.  One refusal lowers the limit once: the attempts begun before it was lowered met the old
        one, and fifty of them refused together would leave a limit of 1."""
        if self.adaptive is None or started > self._lowered_at:
            self.adaptive = max(1.0, self._policy.decrease * self.in_flight)
            self._lowered_at = now
        self._throttled_at = now
        self.limited = True

    def succeeded(self) -> None:
        """An attempt was answered (and is still counted in ``in_flight``)."""
        if self.adaptive is not None and self.in_flight * 2 >= self.adaptive:
            self.adaptive += 1.0 / self.adaptive
