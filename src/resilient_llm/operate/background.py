"""The one thread that ``operate`` may run beside a client: what is sent, written or looked at off the path of a call.

Jobs wait in a bounded queue and run one after the other; whoever adds one never waits.  A job that raises is logged and
forgotten: nothing that is done here can fail a call.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Final

from resilient_llm.drive.core import ProviderPool
from resilient_llm.drive.fork import tell_after_fork

Job = Callable[[], None]

MOST_WAITING: Final = 1000
"""Jobs that may wait; one more is refused."""

_log = logging.getLogger("resilient_llm.operate")


class Background:
    """A daemon thread that starts with the first job, and ends when it is closed or nobody holds this object."""

    def __init__(self, name: str = "default", *, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._clock = clock
        self._changed = threading.Condition()
        self._jobs: deque[Job] = deque()
        self._regular: list[tuple[float, int, float, Job]] = []
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None
        self._closed = False
        self.refused: int = 0
        """Jobs that found the queue full."""
        tell_after_fork(self)

    def submit(self, job: Job) -> bool:
        """Run this soon; false, and it is not run, if too many wait already or this is closed."""
        with self._changed:
            if self._closed or len(self._jobs) >= MOST_WAITING:
                self.refused += 1
                return False
            self._jobs.append(job)
            self._start()
            self._changed.notify()
        return True

    def every(self, seconds: float, job: Job) -> None:
        """Run this again and again, ``seconds`` after it ended; the first time after ``seconds``."""
        with self._changed:
            if not self._closed:
                heapq.heappush(self._regular, (self._clock() + seconds, next(self._numbers), seconds, job))
                self._start()
                self._changed.notify()

    def close(self, timeout: float = 2.0) -> None:
        """Run what waits, then end; returns after ``timeout`` seconds at the latest."""
        with self._changed:
            self._closed = True
            self._regular.clear()
            self._changed.notify()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def reset_after_fork(self) -> None:
        """In the child: what the parent was about to do is the parent's, what is done again and again is done here
        too."""
        self._changed = threading.Condition()  # the parent's thread may have held it
        self._jobs.clear()
        self._thread = None
        if self._regular:
            with self._changed:
                self._start()

    def _start(self) -> None:
        if self._thread is None or not self._thread.is_alive():  # in a forked child it is dead
            work = threading.Thread(
                target=_work, args=(weakref.ref(self),), name=f"resilient_llm-{self._name}", daemon=True
            )
            self._thread = work
            work.start()

    def take(self, patience: float) -> Job | None:
        """The next job that is due, or ``None`` after ``patience`` seconds or when this is closed.  For its thread."""
        with self._changed:
            if not self._jobs and not self._due() and not self._closed:
                wait = min(patience, self._regular[0][0] - self._clock()) if self._regular else patience
                self._changed.wait(max(wait, 0.0))
            if self._jobs:
                return self._jobs.popleft()
            if self._due():
                _, number, seconds, job = heapq.heappop(self._regular)
                return lambda: self._again(job, number, seconds)
            return None

    @property
    def over(self) -> bool:
        """Whether it is closed and nothing waits."""
        return self._closed and not self._jobs

    def _due(self) -> bool:
        return bool(self._regular) and self._regular[0][0] <= self._clock()

    def _again(self, job: Job, number: int, seconds: float) -> None:
        try:
            job()
        finally:
            with self._changed:
                if not self._closed:
                    heapq.heappush(self._regular, (self._clock() + seconds, number, seconds, job))


def _work(of: weakref.ref[Background]) -> None:
    """The thread.  It holds its object only while it works, so that one nobody uses any more ends."""
    while (background := of()) is not None and not background.over:
        job = background.take(1.0)
        if job is not None:
            try:
                job()
            except Exception:
                _log.exception("a job in the background failed")
        del background, job


_running: weakref.WeakKeyDictionary[ProviderPool, Background] = weakref.WeakKeyDictionary()
_guard = threading.Lock()


def background_of(pool: ProviderPool) -> Background:
    """The background of a client's pool: one for all that is set up beside it."""
    with _guard:
        found = _running.get(pool)
        if found is None:
            found = _running[pool] = Background(pool.name)
        return found
