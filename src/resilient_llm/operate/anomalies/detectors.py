"""Two detectors of change, for latencies and for errors: small, online, without a clock.

Both are one-sided CUSUMs (Page, 1954): each sample adds the evidence it holds, evidence against a change drains the
sum, and it never falls below zero.  What is usual is learnt while nothing is wrong.  They are more sensitive than the
breaker's own statistics, which move traffic and therefore wait for a doubled latency or a seventh of calls failing;
these only tell people.
"""

from __future__ import annotations

import math

_WARM_UP = 64  # samples before anything is judged
_MEMORY = 500.0  # samples over which what is usual is averaged...
_MEMORY_RAISED = 5000.0  # ...and while something is wrong: what stays becomes usual, but not soon
_LEAST_SECONDS = 0.05  # below, nobody minds how much slower it became


class Slowdown:
    """Whether latencies have moved up for good, by a quarter or more.

    The unit of evidence is the usual scatter of the logarithm.  A sample counts at most four of them, so that a single
    one proves nothing, and less than what a quarter more would be counts against a change.
    """

    __slots__ = ("_count", "_mean", "_recent", "_spread", "_sum", "raised")

    THRESHOLD = 16.0
    _QUARTER = 0.22  # logarithm of a quarter more
    _ALLOWANCE = 0.5
    _MOST = 4.0
    _CAP = 24.0

    def __init__(self) -> None:
        self.raised: bool = False
        """Whether they have."""
        self._count = 0
        self._mean = 0.0
        self._spread = 0.0
        self._sum = 0.0
        self._recent = 0.0

    @property
    def factor(self) -> float:
        """How many times the usual latency the recent samples take."""
        return math.exp(self._recent - self._mean)

    @property
    def usual(self) -> float:
        """The usual latency in seconds (the geometric mean)."""
        return math.exp(self._mean)

    def add(self, seconds: float) -> None:
        """Take a latency."""
        value = math.log(max(seconds, _LEAST_SECONDS))
        self._count = count = self._count + 1
        excess = value - self._mean
        spread = max(self._spread, 0.05)
        if count > _WARM_UP:
            self._judge(excess, spread)
        self._recent += (value - self._recent) / min(count, 16)
        step = 1.0 / min(count, _MEMORY_RAISED if self.raised else _MEMORY)
        if count > _WARM_UP:  # one that is far out moves what is usual no further than a likely one
            excess = min(max(excess, -3.0 * spread), 3.0 * spread)
        self._mean += step * excess
        # The mean deviation, not the variance: outliers weigh less.  1.25 of it is a standard deviation.
        self._spread += step * (1.25 * abs(excess) - self._spread)

    def _judge(self, excess: float, spread: float) -> None:
        allowance = max(self._ALLOWANCE, self._QUARTER / spread)
        evidence = min(excess / spread, max(self._MOST, 2.0 * allowance)) - allowance
        self._sum = min(self._CAP, max(0.0, self._sum + evidence))
        if self._sum > self.THRESHOLD:
            self.raised = True
        elif self._sum == 0.0:
            self.raised = False


class Failures:
    """Whether more attempts fail than usual: several times as many, and at least one in twenty more.

    A success or a failure counts as the logarithm of how much likelier it is at the higher rate than at the usual one.
    """

    __slots__ = ("_bad", "_count", "_recent", "_sum", "raised")

    THRESHOLD = 9.0
    _CAP = 14.0
    _LEAST_USUAL = 0.005
    _PRIOR = 200.0  # successes that are believed before the first sample

    def __init__(self) -> None:
        self.raised: bool = False
        """Whether they do."""
        self._count = self._PRIOR
        self._bad = 1.0
        self._sum = 0.0
        self._recent = 0.0

    @property
    def usual(self) -> float:
        """The usual share of attempts that fail."""
        return self._bad / self._count

    @property
    def recent(self) -> float:
        """The share that failed lately."""
        return self._recent

    def add(self, *, failed: bool) -> None:
        """Take the outcome of an attempt."""
        usual = min(max(self._bad / self._count, self._LEAST_USUAL), 0.5)
        higher = min(max(4.0 * usual, usual + 0.05), 0.9)
        evidence = math.log(higher / usual) if failed else math.log((1.0 - higher) / (1.0 - usual))
        self._sum = min(self._CAP, max(0.0, self._sum + evidence))
        if self._sum > self.THRESHOLD:
            self.raised = True
        elif self._sum == 0.0:
            self.raised = False
        self._recent += (failed - self._recent) / 32.0
        memory = _MEMORY_RAISED if self.raised else 4.0 * _MEMORY
        fade = 1.0 - 1.0 / memory
        if not (failed and self._sum > 0.5 * self.THRESHOLD):  # a run of failures is no longer usual
            self._count = self._count * fade + 1.0
            self._bad = self._bad * fade + failed
        elif self.raised:
            self._count = self._count * fade + 0.1
            self._bad = self._bad * fade + 0.1 * failed
