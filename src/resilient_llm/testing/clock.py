"""Time that passes when told to, and a listener that remembers."""

from __future__ import annotations

import threading
from typing import TypeVar, final

from typing_extensions import override

__all__ = ["EventRecorder", "ManualClock"]

T = TypeVar("T")


@final
class ManualClock:
    """A clock for tests: call it for the time in seconds; it moves only by :meth:`advance` and the sleeps.

    Safe to share between threads.
    """

    def __init__(self, start: float = 1000.0) -> None:
        self._now = start
        self._lock = threading.Lock()
        self.sleeps: list[float] = []
        """Every duration somebody slept, in order."""

    def __call__(self) -> float:
        return self._now

    def advance(self, seconds: float) -> float:
        """Let ``seconds`` pass and return the new time.  Raises ``ValueError`` if they are negative."""
        if not seconds >= 0:
            raise ValueError(f"time does not run backwards: {seconds!r}")
        with self._lock:
            self._now += seconds
            return self._now

    def sleep(self, seconds: float) -> None:
        """``time.sleep`` that takes no time: the clock advances instead."""
        self.sleeps.append(seconds)
        self.advance(max(0.0, seconds))

    async def sleep_async(self, seconds: float) -> None:
        """The same for async code.  It never yields to the event loop."""
        self.sleep(seconds)

    @override
    def __repr__(self) -> str:
        return f"ManualClock({self._now!r})"


@final
class EventRecorder:
    """A listener that stores the events it is called with.  Safe to share between threads."""

    def __init__(self) -> None:
        self.events: list[object] = []

    def __call__(self, event: object) -> None:
        self.events.append(event)

    def of(self, kind: type[T]) -> list[T]:
        """The events of one class, oldest first."""
        return [event for event in self.events if isinstance(event, kind)]

    def last(self, kind: type[T]) -> T:
        """The latest event of a class.  Raises ``LookupError`` if there was none."""
        found = self.of(kind)
        if not found:
            raise LookupError(f"no {kind.__name__} among {[type(event).__name__ for event in self.events]}")
        return found[-1]

    def names(self) -> list[str]:
        """The class names of all events, oldest first: a quick way to assert an order."""
        return [type(event).__name__ for event in self.events]

    def clear(self) -> None:
        """Forget everything."""
        self.events.clear()

    def __len__(self) -> int:
        return len(self.events)
