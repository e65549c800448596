"""What other processes report about a provider.

Hearsay only makes this process more careful, and only for so long: a provider of which others report that it fails or
asks to wait is asked when nobody else is there, and its trials come later.  A call that has nobody else does not wait
because of it: eight processes that all waited for one limit would leave it unused.  Every :data:`CHECK` seconds one
call finds out for itself; an answer makes this process deaf to reports about that provider for :data:`DEAF` seconds.
So a wrong report costs little, and cannot fail a call.
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

    check_at: float = -math.inf
    """When one call finds out for itself."""
    deaf_until: float = -math.inf
    _since: float = -math.inf

    def __init__(self) -> None:
        self.until: float = -math.inf
        """Until when others leave it alone."""

    def report(self, now: float, seconds: float, *, draw: float) -> None:
        """Another process leaves it alone for so many seconds."""
        if now < self.deaf_until or not 0.0 < seconds < math.inf:
            return
        if now >= self.until:
            self._since, self.check_at = now, now + CHECK * (1.0 + 0.25 * draw)
        self.until = max(self.until, now + min(seconds, LONGEST))

    def stops(self, now: float) -> bool:
        """Whether a call that may go elsewhere is kept away."""
        return now < self.until and now < self.check_at

    def opens_at(self) -> float:
        """When a call that is kept away may look again."""
        return min(self.until, self.check_at)

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
        self.until = -math.inf
