"""Measuring on a noisy machine: CPU time, batches that take turns, ratios of neighbours.

Two things that take turns meet the same neighbours, clock rate and caches, so the ratio of two adjacent batches is
steadier than either time.  The time printed is the smallest batch's, the ratio the median of the rounds'.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import TypeAlias

Batch: TypeAlias = Callable[[int], object]
"""Does the thing so many times."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.  ``met`` ``None``: there is no budget, or it could not be measured."""

    what: str
    value: str
    budget: str = ""
    met: bool | None = None

    @property
    def verdict(self) -> str:
        """In one word."""
        return "" if self.met is None else "ok" if self.met else "OVER"


@dataclass(frozen=True, slots=True)
class Timing:
    """CPU seconds per run of one thing: one number a round."""

    rounds: tuple[float, ...]

    @property
    def us(self) -> float:
        """Microseconds, the best round's."""
        return min(self.rounds) * 1e6

    def over(self, other: Timing) -> float:
        """How many times the other's."""
        return median(mine / theirs for mine, theirs in zip(self.rounds, other.rounds, strict=True))


def measure(things: Mapping[str, Batch], count: int, rounds: int) -> dict[str, Timing]:
    """Run batches of ``count`` in turns, ``rounds`` of them each after a warm-up; the garbage collector stays on
    between batches only, so that nobody pays for another's garbage."""
    for batch in things.values():
        batch(max(count // 4, 1))
    found: dict[str, list[float]] = {name: [] for name in things}
    for turn in range(rounds):
        names = list(things)
        for name in names if turn % 2 else reversed(names):
            found[name].append(_seconds(things[name], count))
    return {name: Timing(tuple(times)) for name, times in found.items()}


def _seconds(batch: Batch, count: int) -> float:
    gc.collect()
    gc.disable()
    try:
        began = time.process_time()
        batch(count)
        return (time.process_time() - began) / count
    finally:
        gc.enable()


def beside(what: str, ours: Timing, theirs: Timing, yardstick: str, limit: float | None = None) -> Row:
    """A row for a ratio; ``limit`` is its budget."""
    ratio = ours.over(theirs)
    value = f"{ours.us:.1f} us, {ratio:.2f} x {yardstick} ({theirs.us:.1f} us)"
    return Row(what, value, "" if limit is None else f"<= {limit:g} x", None if limit is None else ratio <= limit)


def table(rows: list[Row]) -> str:
    """All rows in columns."""
    cells = [("what", "measured", "budget", ""), *((row.what, row.value, row.budget, row.verdict) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(4)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells
    )
