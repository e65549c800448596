"""How many prompts are under way at once: as many as the limits allow, found out while working.

Pure: it is told the time and what became of each call.  It works in rounds; one is over when as many calls have ended
as the width, and tells how fast that was.

* Nobody stands in line and no limit was met: there may be room.  The width doubles while that pays.  Then a quarter
  more and a fifth less are tried in turns; what makes it faster stays, and so does less that is as fast.
* Some stand in line: the limits are used up, and the width is right.  More than half of them do: the width shrinks by
  half of that line, since who waits here could as well wait in the iterable.
* Half of a round failed for want of a provider: it shrinks.

Calls that met a limit (429) change nothing: at a limit the others stand in line, and elsewhere it is chance.
"""

from __future__ import annotations

from typing import Final

FIRST: Final = 16
"""The width of the first round."""
SHORTEST: Final = 0.5
"""Seconds a round takes at least: shorter ones tell nothing."""
HOLD: Final = 4
"""Rounds until another width is tried where the last one did not pay."""


class Width:
    """The width of a run whose ``concurrency`` is ``"auto"``; ``most`` is the greatest."""

    def __init__(self, most: int, first: int = FIRST) -> None:
        self.width: int = min(first, most)
        self._most = most
        self._doubling = True
        self._hold = 0
        self._before: tuple[int, float] | None = None
        """Width and calls a second before another width was tried."""
        self._doubted = False
        """The width that is tried was not faster, for one round."""
        self._smaller = False
        """A smaller one is tried next."""
        self._round: float | None = None
        self._changed = False
        """In this round most calls began with another width: it tells nothing about this one."""
        self._ended = self._failed = self._waited = 0

    def ended(self, now: float, *, waiting: int, failed: bool) -> None:
        """A call ended.  ``waiting``: calls of this run that stand in line now; ``failed``: nobody could answer it."""
        if self._round is None:
            self._round = now
            return
        self._ended += 1
        self._waited += waiting
        self._failed += failed
        seconds = now - self._round
        if self._ended >= self.width and seconds >= SHORTEST:
            width, changed = self.width, self._changed
            self._changed = False
            self._conclude(seconds, tells=not changed)
            self._changed = self.width != width
            self._round = now
            self._ended = self._failed = self._waited = 0

    def _conclude(self, seconds: float, *, tells: bool) -> None:
        """The round is over; ``tells``: of how fast this width is."""
        count, line = self._ended, self._waited / self._ended
        if self._failed * 2 > count:
            self._settle(self.width // 2)
        elif line > self.width / 2:
            self._settle(self.width - int(line / 2))
        elif line >= 1:
            self._settle(self.width)
        elif tells:
            self._try(count / seconds)

    def _settle(self, width: int) -> None:
        self.width = max(width, 1)
        self._doubling, self._before, self._hold = True, None, 0
        self._doubted = self._smaller = False

    def _try(self, rate: float) -> None:
        """Nobody waits: judge the width that was tried, or try another one."""
        tried, self._before = self._before, None
        if tried is not None:
            width, before = tried
            grew = self.width > width
            pays = rate >= before * (1 + (self.width / width - 1) / 4)
            if not pays and not self._doubted:  # one slow round may be chance
                self._doubted, self._before = True, tried
                return
            self._doubted = False
            if not pays:
                self.width = width
            if not pays or not grew:
                self._doubling, self._hold, self._smaller = False, HOLD, grew
                return
        elif self._hold:
            self._hold -= 1
            return
        more, less = self.width if self._doubling else max(self.width // 4, 1), self.width // 5
        width = self.width - less if self._smaller and less else min(self.width + more, self._most)
        if width != self.width:
            self._before, self.width = (self.width, rate), width


class Fixed:
    """The width of a run whose ``concurrency`` is a number."""

    def __init__(self, width: int) -> None:
        self.width: int = width

    def ended(self, now: float, *, waiting: int, failed: bool) -> None:
        """A call ended; it changes nothing."""
