"""How notifications reach a sink: a short queue, a few tries, and never in the way of another sink.

One that waits for somebody sends in a thread of its own, which is waited for only a moment.
"""

from __future__ import annotations

import logging
import threading
import traceback
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import Final

from resilient_llm.drive.workers import Workers
from resilient_llm.operate.alerts.sinks import Sink, SinkFailed
from resilient_llm.operate.alerts.words import Notification

MOST_QUEUED: Final = 20
"""Notifications that wait for a sink; the oldest is dropped for one more."""
MOST_TRIES: Final = 6
"""Tries per notification."""
MOMENT: Final = 0.25
"""Seconds for which whoever sends waits for a sink; it goes on without them."""
_LONGEST_WAIT = 120.0  # seconds between two tries, unless the other side asked for more
_MOST_ASKED = 900.0

_log = logging.getLogger("resilient_llm.alerts")


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of a sink's notifications.  ``error`` is what went wrong last, ``None`` if the last one was sent."""

    sink: str
    sent: int
    dropped: int
    queued: int
    error: str | None


class Outlet:
    """One sink and what waits for it.  Used by one thread at a time, beside the one that sends; times are monotonic
    seconds."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.failures: int = 0
        """Tries in a row that failed."""
        self._queue: deque[Notification] = deque()
        self._tries = 0
        self._retry_at = float("-inf")
        self._sent = self._dropped = 0
        self._error: str | None = None
        self._workers = Workers()
        self._idle = threading.Event()
        self._idle.set()

    def turn(self) -> tuple[int, bool]:
        """Those go first that work, and of them those that wait for no network."""
        return self.failures, not self._at_hand

    @property
    def _at_hand(self) -> bool:
        return bool(getattr(self.sink, "at_hand", False))

    def put(self, notification: Notification) -> None:
        """Add what it wants of a notification."""
        part = notification.for_severity(self.sink.least)
        if part is None:
            return
        if len(self._queue) >= MOST_QUEUED:
            self._queue.popleft()
            self._tries = 0
            self._drop("too many wait")
        self._queue.append(part)

    def deliver(self, now: float) -> None:
        """Send what waits, until one fails; nothing while it still sends."""
        if not self._queue or now < self._retry_at or not self._idle.is_set():
            return
        if self._at_hand:
            self._deliver(now)
            return
        self._idle.clear()
        if self._workers.start(partial(self._deliver, now)):
            self._idle.wait(MOMENT)
        else:
            self._idle.set()

    def wait(self, seconds: float) -> None:
        """Until it sends nothing, so many seconds at most."""
        self._idle.wait(seconds)

    def reset_after_fork(self) -> None:
        """In the child: the parent sends what waits."""
        self._queue.clear()
        self._idle = threading.Event()
        self._idle.set()

    def _deliver(self, now: float) -> None:
        try:
            while self._queue and now >= self._retry_at:
                self._send(self._queue[0], now)
        finally:
            self._idle.set()

    def _send(self, notification: Notification, now: float) -> None:
        try:
            self.sink.send(notification)
        except Exception as error:
            self._failed(notification, now, error)
            return
        self._done(notification)
        self._sent += 1
        self._tries = self.failures = 0
        self._error = None

    def _done(self, notification: Notification) -> None:
        """It waits no more; it may have made room for others meanwhile."""
        if self._queue and self._queue[0] is notification:
            self._queue.popleft()

    def state(self) -> Delivery:
        """How it stands."""
        return Delivery(self.sink.name, self._sent, self._dropped, len(self._queue), self._error)

    def _failed(self, notification: Notification, now: float, error: Exception) -> None:
        self._tries += 1
        self.failures += 1
        self._error = described(error)
        hint = error.retry_after if isinstance(error, SinkFailed) else None
        wait = min(2.0**self.failures, _LONGEST_WAIT)
        self._retry_at = now + max(wait, min(hint or 0.0, _MOST_ASKED))
        lasting = isinstance(error, SinkFailed) and error.lasting
        if lasting or self._tries >= MOST_TRIES:
            self._done(notification)
            self._tries = 0
            self._drop(self._error)
        elif self.failures == 1:
            _log.warning("%s failed, and is tried again: %s", self.sink.name, self._error)

    def _drop(self, why: str) -> None:
        self._dropped += 1
        _log.error("a notification for %s was dropped: %s", self.sink.name, why)


def described(error: Exception) -> str:
    """An exception without what may be secret in it: of those that are not ours only the type, and where it was
    raised."""
    if isinstance(error, SinkFailed):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    where = f" in {frames[-1].name}, line {frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{where}"
