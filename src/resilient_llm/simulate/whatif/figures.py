"""What became of the calls of a case, counted."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from math import nan
from typing import Literal

from resilient_llm.operate.cost.prices import Price
from resilient_llm.simulate.driver import Ended
from resilient_llm.simulate.whatif.books import Spent

Who = Literal["settings", "other settings", "alone", "best", "oracle"]
"""Whose calls: of the settings in question, of those they are compared with, of an SDK with two retries at the
preferred provider, of one at the provider where it would have fared best, of somebody who always knows who answers."""


@dataclass(slots=True)
class Share:
    """One provider's part: attempts, calls it answered, and what is billed."""

    attempts: float = 0.0
    answered: float = 0.0
    cost: float = 0.0

    def add(self, spent: Spent, cost: float, weight: float) -> None:
        """One attempt more."""
        self.attempts += weight
        self.answered += weight * spent.answered
        self.cost += weight * cost


@dataclass(slots=True)
class Tally:
    """Calls and what became of them.  Seconds, and the currency of the prices."""

    calls: float = 0.0
    answered: float = 0.0
    attempts: float = 0.0
    cost: float = 0.0
    wasted: float = 0.0
    """Of the cost, what bought nobody an answer."""
    shares: dict[str, Share] = field(default_factory=dict[str, Share])
    _firsts: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])

    def add_call(self, call: Ended, weight: float) -> None:
        """A call that is over."""
        self.calls += weight
        self.attempts += weight * call.attempts
        if call.ok:
            self.answered += weight
            self._firsts.append((call.first, weight))

    def add_attempt(self, spent: Spent, prices: Mapping[str, Price | None], weight: float) -> None:
        """An attempt that something is billed for."""
        cost = spent.cost(prices)
        self.cost += weight * cost
        if not spent.answered:
            self.wasted += weight * cost
        self.shares.setdefault(spent.provider, Share()).add(spent, cost, weight)

    @property
    def availability(self) -> float:
        """The share of calls that were answered; ``nan`` without calls."""
        return self.answered / self.calls if self.calls else nan

    @property
    def lost(self) -> float:
        """Calls without an answer."""
        return self.calls - self.answered

    @property
    def attempts_per_call(self) -> float:
        """``nan`` without calls."""
        return self.attempts / self.calls if self.calls else nan

    @property
    def cost_per_thousand(self) -> float:
        """Of a thousand answers; ``nan`` without answers."""
        return 1000.0 * self.cost / self.answered if self.answered else nan

    def first_token(self, quantile: float) -> float:
        """Seconds to the first token that this share of the answered calls stays below; ``nan`` without any."""
        ordered = sorted(self._firsts)
        if not ordered:
            return nan
        sums = list(accumulate(weight for _, weight in ordered))
        wanted = quantile * sums[-1]
        return ordered[min(len(ordered) - 1, bisect_left(sums, wanted))][0]


@dataclass(slots=True)
class Bin:
    """A stretch of time for the drawings: calls that began in it."""

    calls: int = 0
    answered: int = 0
    firsts: list[float] = field(default_factory=list[float])
    by: dict[str, int] = field(default_factory=dict[str, int])


@dataclass(slots=True)
class Figures:
    """One strategy in a case: ``during`` what happens, over the ``whole`` of it, and in ``bins`` of equal length."""

    name: str
    who: Who
    during: Tally
    whole: Tally
    bins: list[Bin]

    @classmethod
    def empty(cls, name: str, who: Who, bins: int) -> Figures:
        """Nothing counted yet."""
        return cls(name, who, Tally(), Tally(), [Bin() for _ in range(bins)])

    def add_calls(self, ended: Iterable[Ended], hurt: tuple[float, float], weight: float) -> None:
        """The calls of a window; ``hurt`` is when something was wrong in it."""
        for call in ended:
            self.whole.add_call(call, weight)
            if hurt[0] <= call.started < hurt[1]:
                self.during.add_call(call, weight)

    def add_attempts(
        self, entries: Iterable[Spent], hurt: tuple[float, float], weight: float, prices: Mapping[str, Price | None]
    ) -> None:
        """The attempts of a window."""
        for spent in entries:
            self.whole.add_attempt(spent, prices, weight)
            if hurt[0] <= spent.call < hurt[1]:
                self.during.add_attempt(spent, prices, weight)

    def draw(self, ended: Iterable[Ended], entries: Iterable[Spent], begin: float, width: float) -> None:
        """Sort a window that begins at ``begin`` into the bins of ``width`` seconds."""
        for call in ended:
            one = self._bin(begin + call.started, width)
            one.calls += 1
            if call.ok:
                one.answered += 1
                one.firsts.append(call.first)
        for spent in entries:
            if spent.answered:
                by = self._bin(begin + spent.call, width).by
                by[spent.provider] = by.get(spent.provider, 0) + 1

    def _bin(self, at: float, width: float) -> Bin:
        return self.bins[min(len(self.bins) - 1, max(0, int(at / width)))]
