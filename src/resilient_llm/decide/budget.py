"""Token buckets: what bounds second tries and trials for a whole process."""

from __future__ import annotations


class Budget:
    """A bucket of at most ``cap`` tokens that earns from traffic and ``per_second`` from time.

    Traffic alone would leave a client with one call a minute without an allowance; time alone would be no limit for
    it.  The shape is gRPC A6's with the floor of Finagle's retry budget, scaled down.
    """

    __slots__ = ("_at", "cap", "per_second", "tokens")

    def __init__(self, cap: float, initial: float, per_second: float) -> None:
        self.cap: float = cap
        self.tokens: float = min(initial, cap)
        self.per_second: float = per_second
        self._at: float | None = None

    def earn(self, amount: float) -> None:
        """Add tokens, up to the cap."""
        tokens = self.tokens + amount
        self.tokens = tokens if tokens < self.cap else self.cap

    def advance(self, now: float) -> None:
        """Credit the time that passed since the last call."""
        at = self._at
        if at is not None and now > at:
            self.earn((now - at) * self.per_second)
        if at is None or now > at:
            self._at = now

    def spend(self, cost: float = 1.0, keep: float = 0.0) -> bool:
        """Take ``cost`` tokens if ``keep`` remain; false, and nothing is taken, if not.  A hair less counts as enough:
        ten times 0.1 must make one."""
        if self.tokens + 1e-6 < cost + keep:
            return False
        self.tokens = max(0.0, self.tokens - cost)
        return True

    def wait(self, cost: float) -> float:
        """Seconds until ``cost`` tokens are there from time alone."""
        return max(0.0, cost - self.tokens) / self.per_second
