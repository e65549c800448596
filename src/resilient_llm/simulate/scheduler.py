"""Virtual time: a heap of things to do, and a clock that jumps to the next one."""

from __future__ import annotations

import random
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Protocol, final


class Act(Protocol):
    """What happens when its time comes: called with the time and what was scheduled with it."""

    def __call__(self, now: float, what: object, /) -> None: ...


@final
class Scheduler:
    """A clock that nobody waits for.

    Things due at the same time happen in the order in which they were scheduled; with a ``shuffle`` (a seeded random
    source) in a random one, for a program must not depend on which of two simultaneous events the machine sees first.
    """

    __slots__ = ("_count", "_heap", "_shuffle", "after_step", "now", "steps")

    def __init__(self, start: float = 0.0, shuffle: random.Random | None = None) -> None:
        self.now: float = start
        self.steps: int = 0
        self.after_step: Callable[[float], None] | None = None
        """Called after every step; ``None``: nobody looks."""
        self._shuffle = shuffle
        self._heap: list[tuple[float, float, int, Act, object]] = []
        self._count = 0

    def at(self, when: float, act: Act, what: object) -> None:
        """Do ``act(now, what)`` at ``when``, or next if that is past."""
        self._count += 1
        tie = 0.0 if self._shuffle is None else self._shuffle.random()
        heappush(self._heap, (when, tie, self._count, act, what))

    def jump(self, seconds: float) -> None:
        """The machine was suspended: the clock is suddenly ``seconds`` further, and what was due meanwhile is late."""
        self.now += seconds

    def run(self, until: float) -> None:
        """Let everything happen that is due before ``until``."""
        heap, pop = self._heap, heappop
        while heap and heap[0][0] < until:
            when, _, _, act, what = pop(heap)
            self.now = max(self.now, when)
            self.steps += 1
            act(self.now, what)
            if self.after_step is not None:
                self.after_step(self.now)
        self.now = max(self.now, until)

    def drain(self, limit: float) -> None:
        """Let everything still scheduled happen, as far as it is due before ``limit``, without moving the clock
        further than the last of it."""
        heap = self._heap
        while heap and heap[0][0] < limit:
            self.run(heap[0][0] + 1e-9)
