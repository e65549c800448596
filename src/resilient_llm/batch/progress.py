"""How far a run is, on stderr: with rich, where it is installed and somebody looks; as plain lines otherwise."""

from __future__ import annotations

import sys
from collections import deque
from importlib import import_module
from typing import Any, Final, TextIO

from resilient_llm.batch.results import MapResult

EVERY: Final = 0.5
"""Seconds between two looks, on a terminal."""
LINE_EVERY: Final = 10.0
"""Seconds between two lines, in a log."""
_MEMORY: Final = 30.0
"""Seconds over which the rate is measured."""


class Tally:
    """What the results so far add up to."""

    def __init__(self, began: float, total: int | None) -> None:
        self.total: int | None = total
        """How many prompts there are; ``None``: unknown."""
        self.answered: int = 0
        self.failed: int = 0
        self.saved: int = 0
        self.tokens: int = 0
        self.under_way: int = 0
        self.waiting: int = 0
        self._samples: deque[tuple[float, int]] = deque([(began, 0)])

    def add(self, result: MapResult[Any]) -> None:
        """One more."""
        if result.saved:
            self.saved += 1
        elif result.error is not None:
            self.failed += 1
        else:
            self.answered += 1
            usage = None if result.response is None else result.response.usage
            self.tokens += 0 if usage is None else usage.input_tokens + usage.output_tokens

    @property
    def done(self) -> int:
        """Results of any kind."""
        return self.answered + self.failed + self.saved

    def rate(self, now: float) -> float:
        """Prompts a second, lately; what an earlier run did does not count."""
        asked = self.answered + self.failed
        self._samples.append((now, asked))
        while len(self._samples) > 2 and self._samples[0][0] < now - _MEMORY:
            self._samples.popleft()
        at, before = self._samples[0]
        return (asked - before) / (now - at) if now > at else 0.0


def line(tally: Tally, now: float) -> str:
    """How far it is, in one line."""
    rate, total = tally.rate(now), tally.total
    left = None if total is None or not rate else (total - tally.done) / rate
    told = [
        f"{tally.done:,}" if total is None else f"{tally.done:,}/{total:,}",
        f"{rate:,.1f}/s",
        f"{tally.under_way} under way, {tally.waiting} waiting",
        f"{tally.failed:,} failed",
        f"{tally.tokens:,} tokens",
    ]
    if tally.saved:
        told.insert(1, f"{tally.saved:,} from before")
    if left is not None and tally.done < (total or 0):
        told.append(f"{duration(left)} left")
    return "  ".join(told)


def duration(seconds: float) -> str:
    """``1:02:03``, ``2:03``, ``3 s``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02}:{rest:02}"
    return f"{minutes}:{rest:02}" if minutes else f"{rest} s"


class Progress:
    """Shows it, now and then."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out: TextIO = sys.stderr if out is None else out
        self._terminal = self._out.isatty()
        self._next: float | None = None
        self._live: Any = _live(self._out) if self._terminal else None

    @property
    def every(self) -> float:
        """Seconds between two looks."""
        return EVERY if self._terminal else LINE_EVERY

    def show(self, tally: Tally, now: float, *, last: bool = False) -> None:
        """Show it, if it is time to, or for the last time."""
        if self._next is None:
            self._next = now + self.every
        if not last and now < self._next:
            return
        self._next = now + self.every
        told = line(tally, now)
        if self._live is not None:
            self._show_bar(tally, told, last=last)
        elif self._terminal:
            self._out.write(f"\r\x1b[K{told}" + ("\n" if last else ""))
        else:
            self._out.write(told + "\n")
        self._out.flush()

    def _show_bar(self, tally: Tally, told: str, *, last: bool) -> None:
        """The line, and a bar beneath it."""
        bar = import_module("rich.progress_bar").ProgressBar(tally.total, tally.done, pulse=tally.total is None)
        self._live.start()  # does nothing the second time
        words = import_module("rich.text").Text(told)
        self._live.update(import_module("rich.console").Group(words, bar), refresh=True)
        if last:
            self._live.stop()


def _live(out: TextIO) -> Any:
    """A place on the screen that rich writes anew; ``None`` where it is not installed."""
    try:
        live, console = import_module("rich.live"), import_module("rich.console")
    except ImportError:
        return None
    return live.Live(console=console.Console(file=out), auto_refresh=False)
