"""A limit that several processes keep to together: what this one may take of it is granted from outside.

Units are granted before they are taken, so that all processes together never take more than there is.  While nobody
grants anything, this process goes on by its own share of the limit, and what it takes meanwhile is a debt: the level is
below zero until it is granted afterwards.
"""

from __future__ import annotations

import math
from typing import Final

from resilient_llm.decide.meters import Declared
from resilient_llm.policy import Rate

SILENCE: Final = 0.5
"""Seconds without a word from outside after which a process goes by its own share."""
_FIRST = 0.05  # share of a limit that a new process may take before it has heard anything
_REMEMBERED = 5.0  # seconds of calls by which it is guessed how much will be wanted
_ACTIVE = 0.5  # calls in that time from which on there is to be something in stock for the next one


class Granted(Declared):
    """What is in stock: ``level`` of what was granted, and ``credit`` of the process's own share."""

    level: float
    at: float
    limit: float
    rate: float

    def __init__(self, rate: Rate) -> None:
        super().__init__(rate.amount, rate.per)
        self.level = 0.0
        self.whole: bool = rate.unit == "requests"
        """Whether there are no fractions of it."""
        self.share: float = 1.0
        """Of the limit that is this process's own."""
        self.busy: bool = False
        """Whether less was granted than wanted, so that only our share can be expected."""
        self.missed: float = 0.0
        """Units of the smallest call that did not fit since something was granted last."""
        self.usual: float = 1.0 if self.whole else 0.0
        """Units of a call."""
        self.used: float = 0.0
        """Units taken lately, fading."""
        self.alone_from: float = math.inf
        """When it goes by its own share."""
        self._fed_at = math.inf
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """In the child: what is in stock is the parent's."""
        self.level, self.used, self.missed = 0.0, 0.0, 0.0
        self.credit: float = max(1.0, _FIRST * self.limit)
        self.alone_from = -math.inf if self.at == -math.inf else self.at + SILENCE

    # --- for the calls ---

    def advance(self, now: float) -> None:
        """Credit the time that passed; only a process on its own has something of it."""
        if now <= self.at:
            return
        if self.at == -math.inf:
            self.at = now
            self.alone_from = now + SILENCE
            self._fed_at = now
        since = max(self.at, self.alone_from)
        if now > since:
            most = max(1.0, self.share * self.limit)
            self.credit = max(self.credit, min(most, self.credit + (now - since) * self.share * self.rate))
        self.used *= math.exp((self.at - now) / _REMEMBERED)
        self.at = now

    def fits_at(self, cost: float, now: float, keep: float, ahead: float = 0.0) -> float:
        """When ``cost`` units can be taken, after others took ``ahead``.  ``keep``: so that there is something left for
        those who are waited for."""
        own = min(2.0 * cost if keep else cost, self.limit) - 1e-6
        need = own + ahead
        if max(0.0, self.level) + self.credit >= need:
            return -math.inf
        self.advance(now)
        missing = need - max(0.0, self.level) - self.credit
        if missing <= 0.0:
            return -math.inf
        self.missed = own if self.missed == 0.0 else min(self.missed, own)
        expected = self.share if self.busy or now >= self.alone_from else 1.0
        return now + missing / (expected * self.rate)

    def take(self, cost: float, now: float) -> None:
        """Take them: of what was granted first, and of the own share what is left, which is a debt."""
        self.advance(now)
        self.used += cost
        self.usual += 0.2 * (cost - self.usual) if self.usual else cost
        self._add(-cost)

    def give(self, cost: float) -> None:
        """Give back what was taken too much (or take what was too little)."""
        self._add(cost)

    def restore(self) -> None:
        """An operator opened it; what others may take is not ours to give away."""

    def corrected(self, window: float, now: float, *, ample: bool) -> None:
        """What all processes together may take is as it was declared."""

    def _add(self, units: float) -> None:
        own = max(0.0, -units - max(0.0, self.level))
        self.credit = max(0.0, self.credit - own)
        self.level = min(self.limit, max(self.level + units, -self.limit))

    # --- for whoever grants ---

    def wanted(self, waiting: int, now: float) -> tuple[float, float]:
        """Units that are of use at the least, and units that are to be in stock, with so many calls in line."""
        self.advance(now)
        active = self.used >= _ACTIVE * self.usual > 0.0
        soon = max(self.usual, self.used * SILENCE / _REMEMBERED) if active else 0.0
        least = self.missed or (min(self.usual, soon) if active else 0.0)
        most = min(self.limit, max(soon, self.missed * max(1, waiting)))
        return (math.ceil(least - 1e-6), math.ceil(most - 1e-6)) if self.whole else (least, most)

    def surplus(self, keep: float, now: float) -> float:
        """Take what is in stock beyond ``keep`` out of it, to be given to others."""
        self.advance(now)
        units = max(0.0, self.level - keep)
        units = math.floor(units) if self.whole else units
        self.level -= units
        return units

    def grant(self, units: float, share: float, now: float, *, short: bool) -> None:
        """``units`` are granted, our share of the whole is ``share``, and ``short``: more was wanted."""
        self.advance(now)
        self.level = min(self.limit, self.level + units)
        self.share, self.busy = share, short
        if units > 0.0 or not self.missed:
            self._fed_at = now
        if now - self._fed_at <= self.limit / self.rate:
            self.credit, self.alone_from = 0.0, now + SILENCE
        else:  # nothing for a whole window, though it is wanted: go by our share, and owe it
            self.alone_from = min(self.alone_from, now)
        if self.level >= self.missed:
            self.missed = 0.0

    def alone(self, now: float) -> None:
        """Nobody grants anything for now."""
        self.advance(now)
        self.alone_from = min(self.alone_from, now)
