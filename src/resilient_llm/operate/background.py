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
from types import MethodType
from typing import Final, Protocol

from resilient_llm.drive.core import ProviderPool
from resilient_llm.drive.fork import tell_after_fork
from resilient_llm.errors import ConfigurationError

Job = Callable[[], object]

MOST_WAITING: Final = 1000
"""Jobs that may wait; one more is refused."""

_log = logging.getLogger("resilient_llm.operate")


class HasPool(Protocol):
    """A client, sync or async."""

    @property
    def pool(self) -> ProviderPool: ...


def pool_of(client: HasPool, who: str) -> ProviderPool:
    """The pool of a client.  Raises ``ConfigurationError`` for what is none; ``who`` wanted one."""
    pool: object = getattr(client, "pool", None)
    if not isinstance(pool, ProviderPool):
        raise ConfigurationError(f"{who} needs a ResilientClient or an AsyncResilientClient, not {client!r}")
    return pool


class Background:
    """A daemon thread that starts with the first job, and ends when it is closed or nobody holds this object.

    In a forked child it begins anew: what waited is left to the parent, what is done again and again is done here too.
    """

    def __init__(self, name: str = "default", *, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._clock = clock
        self._changed = threading.Condition()
        self._jobs: deque[Job] = deque()
        self._regular: list[tuple[float, int, _Regular]] = []
        self._every: list[_Regular] = []
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
            self._changed.notify_all()
        return True

    def every(self, seconds: float, job: Job) -> Callable[[], None]:
        """Run this again and again, ``seconds`` after it ended; the first time after ``seconds``.  Returns a function
        that stops it.

        The object of a bound method is not kept alive: the job ends with it.
        """
        regular = _Regular(seconds, job)
        with self._changed:
            if not self._closed:
                self._every = [*(one for one in self._every if one.job() is not None), regular]
                self._put(regular)
                self._start()
                self._changed.notify_all()
        return regular.stop

    def flush(self, timeout: float = 2.0) -> bool:
        """Wait until what waits now has been run, ``timeout`` seconds at most; whether it has."""
        done = threading.Event()
        return self.submit(done.set) and done.wait(timeout)

    def close(self, timeout: float = 2.0) -> None:
        """Run what waits, then end; returns after ``timeout`` seconds at the latest."""
        with self._changed:
            self._closed = True
            self._regular.clear()
            self._every.clear()
            self._changed.notify_all()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def take(self, patience: float) -> Job | None:
        """The next job that is due, or ``None`` after ``patience`` seconds or when this is closed.  For its thread."""
        with self._changed:
            if not self._jobs and not self._due() and not self._closed:
                wait = min(patience, self._regular[0][0] - self._clock()) if self._regular else patience
                self._changed.wait(max(wait, 0.0))
            # Regular jobs do not wait until nothing else is there to do, nor the others for them: they take turns.
            if self._due():
                regular = heapq.heappop(self._regular)[2]
                self._jobs.append(lambda: self._again(regular))
            return self._jobs.popleft() if self._jobs else None

    @property
    def closed(self) -> bool:
        """Whether it takes no more jobs."""
        return self._closed

    @property
    def over(self) -> bool:
        """Whether it is closed and nothing waits."""
        return self._closed and not self._jobs

    def reset_after_fork(self) -> None:
        """In the child process: no lock that somebody holds, nothing that the parent does already, a thread of our own
        if there is anything to do again."""
        self._changed = threading.Condition()
        self._jobs.clear()
        self._regular.clear()
        self._thread = None
        for regular in self._every:  # one that runs in the parent at this moment is not in its queue
            self._put(regular)
        if self._regular:
            with self._changed:
                self._start()

    def _start(self) -> None:
        if self._thread is not None and self._thread.is_alive():
            return
        work = threading.Thread(
            target=_work, args=(weakref.ref(self),), name=f"resilient_llm-{self._name}", daemon=True
        )
        try:
            work.start()
        except RuntimeError:  # no more threads, or the interpreter ends: the next one tries again
            self._thread = None
        else:
            self._thread = work

    def _due(self) -> bool:
        return bool(self._regular) and self._regular[0][0] <= self._clock()

    def _put(self, regular: _Regular) -> None:
        heapq.heappush(self._regular, (self._clock() + regular.seconds, next(self._numbers), regular))

    def _again(self, regular: _Regular) -> None:
        job = regular.job()
        if job is None:
            return
        try:
            job()
        finally:
            with self._changed:
                if not self._closed and not regular.stopped:
                    self._put(regular)


class _Regular:
    """A job that is run again and again."""

    def __init__(self, seconds: float, job: Job) -> None:
        self.seconds = seconds
        self.stopped = False
        self._job: Callable[[], Job | None] = weakref.WeakMethod(job) if isinstance(job, MethodType) else lambda: job

    def job(self) -> Job | None:
        """What to run; ``None`` if it was stopped, or its object is gone."""
        return None if self.stopped else self._job()

    def stop(self) -> None:
        """Run it no more."""
        self.stopped = True


def _work(of: weakref.ref[Background]) -> None:
    """The thread.  It holds its object only while it works, so that one nobody uses any more ends."""
    while (background := of()) is not None and not background.over:
        job = background.take(1.0)
        if job is not None:
            try:
                job()
            except (Exception, SystemExit):
                _log.exception("a job in the background failed")
        del background, job


_running: weakref.WeakKeyDictionary[ProviderPool, Background] = weakref.WeakKeyDictionary()
_guard = threading.Lock()


def background_of(pool: ProviderPool) -> Background:
    """The background of a client's pool: one for all that is set up beside it.  A new one where it was closed."""
    with _guard:
        found = _running.get(pool)
        if found is None or found.closed:
            found = _running[pool] = Background(pool.name)
        return found
