"""Token buckets that are filled by traffic, so that an idle client has no allowance to storm with.

The shape is Brooker's (2022) and gRPC A6's: earn a fraction per call, spend one per extra request.  A bucket that
refills by the second (Finagle's and tower's 10/s floor) would be no limit at all for a client with one call in ten
seconds.
"""

from __future__ import annotations


class Budget:
    """A bucket of at most ``cap`` tokens; the caller earns what its traffic is worth and spends whole tokens."""

    __slots__ = ("cap", "tokens")

    def __init__(self, cap: float, initial: float) -> None:
        self.cap: float = cap
        self.tokens: float = min(initial, cap)

    def earn(self, amount: float) -> None:
        """Add tokens, up to the cap."""
        tokens = self.tokens + amount
        self.tokens = tokens if tokens < self.cap else self.cap

    def available(self, keep: int = 0) -> bool:
        """Whether one token can be spent and ``keep`` be kept.  A hair below one counts: ten times 0.1 must make
        one."""
        return self.tokens >= 0.999999 + keep

    def spend(self) -> bool:
        """Take one token; false, and nothing is taken, if there is none."""
        if not self.available():
            return False
        self.tokens = max(0.0, self.tokens - 1.0)
        return True


class TimedBudget(Budget):
    """A bucket that also earns one token per ``refill`` seconds: a recovered provider must come back by itself even
    where there is hardly any traffic (at one call a minute, traffic alone would take half an hour)."""

    __slots__ = ("_at", "_refill")

    def __init__(self, cap: float, initial: float, refill: float) -> None:
        super().__init__(cap, initial)
        self._refill = refill
        self._at: float | None = None

    def advance(self, now: float, amount: float = 0.0) -> None:
        """Credit the time since the last call, and ``amount`` beside it."""
        at = self._at
        if at is None:
            self._at = now
        elif now > at:
            amount += (now - at) / self._refill
            self._at = now
        if self.tokens < self.cap:
            self.earn(amount)
