"""What other processes report about a provider.

Hearsay only makes this process more careful, and only for so long: a provider of which others report that it fails or
asks to wait is asked when nobody else is there, its trials come later, and a call that has nobody else waits, if its
deadline allows, for as long as others were asked to.  Every :data:`CHECK` seconds one call finds out for itself; an
answer makes this process deaf to reports about that provider for :data:`DEAF` seconds.  So a wrong report costs little,
and cannot fail a call.
"""

from __future__ import annotations

import math
from typing import Final

CHECK: Final = 15.0
"""Seconds after which a call goes there in spite of reports: the longest time between two trials."""
DEAF: Final = 60.0
"""Seconds for which reports are ignored after one was wrong."""
LONGEST: Final = 60.0
"""Seconds for which one report counts at most."""


class Heard:
    """What is reported of one provider.  Not locked: the pool's lock is held by whoever calls."""

    until: float = -math.inf
    """Until when others leave it alone."""
    limited_until: float = -math.inf
    """Until when it asked others of the same account to wait."""
    check_at: float = -math.inf
    """When one call finds out for itself."""
    deaf_until: float = -math.inf
    _since: float = -math.inf

    def report(self, now: float, seconds: float, *, limited: bool, draw: float) -> None:
        """Another process leaves it alone for so many seconds; ``limited``: because it asked to."""
        if now < self.deaf_until or not 0.0 < seconds < math.inf:
            return
        if now >= self.until:
            self._since, self.check_at = now, now + CHECK * (1.0 + 0.25 * draw)
        self.until = max(self.until, now + min(seconds, LONGEST))
        if limited:
            self.limited_until = max(self.limited_until, now + min(seconds, CHECK))

    def stops(self, last: float, now: float, *, waits: bool) -> bool:
        """Whether a call that must begin by ``last`` is kept away; ``waits``: it has nobody else."""
        if now >= self.until or now >= self.check_at:
            return False
        return not waits or now < self.limited_until <= last

    def opens_at(self, now: float) -> float:
        """When a call that is kept away may look again."""
        return min(self.limited_until if now < self.limited_until else self.until, self.check_at)

    def asked(self, now: float, draw: float) -> None:
        """A call goes there in spite of it."""
        self.check_at = now + CHECK * (1.0 + 0.25 * draw)

    def answered(self, started: float, now: float) -> None:
        """A call that began at ``started`` was answered."""
        if now < self.until and started > self._since:
            self.over()
            self.deaf_until = now + DEAF

    def over(self) -> None:
        """Others ask it again."""
        self.until = self.limited_until = -math.inf
