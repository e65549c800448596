"""Where answers are kept: in memory, or in a store of the user's that may be slow, full, gone or hostile.

Nothing a store does fails a call.  A read is waited for as long as reads took lately and a millisecond more; it ends
beside the call.  Writes are made beside the call; a store that was silent or failed is left alone for a while and then
only glanced at, and at most a few reads wait for it at a time.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import partial
from inspect import isawaitable
from typing import Final, Protocol, cast

import anyio
import anyio.to_thread

from resilient_llm.drive.workers import Workers
from resilient_llm.errors import ConfigurationError

_log = logging.getLogger("resilient_llm.operate")
_READERS: Final = 8
"""Reads that may wait for a store at a time; further calls go on without it."""
_REST, _LONGEST_REST = 1.0, 60.0
_GLANCE: Final = 0.001
"""Seconds that a call waits for a store that failed when it was last asked; that it is back is noticed beside the
call."""


_FADES: Final = 0.25
"""Share of what a quicker answer takes off the longest time that answers took lately."""


class Store(Protocol):
    """Where answers can be kept: a ``redis.Redis``, say, or for the async client a ``redis.asyncio.Redis``."""

    def get(self, name: str, /) -> object:
        """The value, ``None`` if there is none; may be awaitable."""
        ...

    def set(self, name: str, value: bytes, /, *, ex: int) -> object:
        """Keep a value for ``ex`` seconds; may be awaitable."""
        ...


class Memory:
    """Keeps the answers used last, up to ``entries`` and ``max_bytes`` of them.  Safe for threads.

    Raises ``ConfigurationError`` for sizes below 1.
    """

    def __init__(
        self, entries: int = 1000, max_bytes: int = 64 * 1024 * 1024, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if entries < 1 or max_bytes < 1:
            raise ConfigurationError(f"Memory needs room for at least one entry and byte, not {entries}, {max_bytes}")
        self._entries = entries
        self._max_bytes = max_bytes
        self._clock = clock
        self._lock = threading.Lock()
        self._held: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self._bytes = 0

    def get(self, name: str) -> bytes | None:
        """The value, unless it is over."""
        with self._lock:
            found = self._held.get(name)
            if found is None:
                return None
            until, value = found
            if self._clock() >= until:
                self._drop(name)
                return None
            self._held.move_to_end(name)
            return value

    def set(self, name: str, value: bytes, *, ex: int) -> None:
        """Keep it; what was used longest ago makes room."""
        if len(value) > self._max_bytes:
            return
        with self._lock:
            self._drop(name)
            self._held[name] = (self._clock() + ex, value)
            self._bytes += len(value)
            while len(self._held) > self._entries or self._bytes > self._max_bytes:
                self._drop(next(iter(self._held)))

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._held.clear()
            self._bytes = 0

    def __len__(self) -> int:
        return len(self._held)

    def _drop(self, name: str) -> None:
        held = self._held.pop(name, None)
        if held is not None:
            self._bytes -= len(held[1])

    def reset_after_fork(self) -> None:
        """In the child: the lock may be held by a thread that is not here."""
        self._lock = threading.Lock()


class _Box:
    """What a read in another thread found."""

    __slots__ = ("asked_at", "begun", "done", "error", "released", "value")

    def __init__(self, asked_at: float) -> None:
        self.asked_at = asked_at
        self.done = threading.Event()
        self.begun = False
        self.released = False
        self.value: object = None
        self.error: Exception | None = None


class Shelf:
    """A store, and how it fares."""

    def __init__(self, store: Store, timeout: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._timeout = timeout
        self._clock = clock
        self._workers = Workers()
        self._readers = threading.BoundedSemaphore(_READERS)
        self._lock = threading.Lock()
        self._rest = _REST
        self._rests_until = 0.0
        self._doubted = False
        self._usual = timeout
        """Seconds that answers took lately: the longest of them, fading."""
        self._overdue: _Box | None = None
        """A read that took longer than usual, and may be silent for good."""
        self.failures: int = 0

    @property
    def near(self) -> bool:
        """Whether it is in this process, so that nothing about it waits."""
        return isinstance(self._store, Memory)

    def read(self, name: str) -> object:
        """What is kept under a name; ``None`` if there is nothing, or the store does not say so in time.  Raises
        ``ConfigurationError`` for a store that wants to be awaited."""
        if self.near:
            return self._store.get(name)
        box = self._place()
        if box is None:
            return None
        if not self._workers.start(partial(self._fetch, name, box)):
            self._release(box)
            return None
        patience = _GLANCE if self._doubted else self._patience
        if not box.done.wait(patience):
            self._late(box, patience)
            return None
        if box.error is not None:
            self._failed(box.error)
            return None
        if isawaitable(box.value):
            _closed(box.value)
            raise ConfigurationError("a store whose methods are async needs the async client")
        return box.value

    async def aread(self, name: str) -> object:
        """The same for an event loop; the store may want to be awaited."""
        if self.near:
            return self._store.get(name)
        box = self._place()
        if box is None:
            return None
        patience = self._patience
        try:
            with anyio.fail_after(patience):
                await _in_thread(partial(self._fetch, name, box))
                found = box.value
                if isawaitable(found):
                    found = await cast("Awaitable[object]", found)
        except TimeoutError:
            self._late(box, patience)
            return None
        except Exception as error:
            self._failed(error)
            return None
        finally:
            if not box.begun:
                self._release(box)
        if box.error is not None:
            self._failed(box.error)
            return None
        self._answered(box)
        return found

    def write(self, name: str, value: bytes, seconds: int) -> object:
        """Keep something.  Raises nothing; what the store gives back, which may be awaitable."""
        if not self.near and self._clock() < self._rests_until:
            return None
        try:
            return self._store.set(name, value, ex=seconds)
        except Exception as error:
            self._failed(error)
            return None

    async def awrite(self, name: str, value: bytes, seconds: int) -> None:
        """The same for an event loop: no longer than the timeout."""
        if self.near:
            self.write(name, value, seconds)
            return
        try:
            with anyio.fail_after(self._timeout):
                done = await _in_thread(partial(self.write, name, value, seconds))
                if isawaitable(done):
                    await cast("Awaitable[object]", done)
        except Exception as error:
            self._failed(error)

    def _place(self) -> _Box | None:
        """A place among those who may wait for the store; ``None``: go on without it."""
        now, overdue = self._clock(), self._overdue
        if now < self._rests_until:
            return None
        if overdue is not None:
            self._overdue = None
            if not overdue.done.is_set():
                self._failed(TimeoutError(f"silent for {self._timeout:g} s"))
                return None
        return _Box(now) if self._readers.acquire(blocking=False) else None

    @property
    def _patience(self) -> float:
        """Seconds that a call waits: no more than a millisecond longer than for a store that is well."""
        return min(self._timeout, self._usual + _GLANCE)

    def _late(self, box: _Box, patience: float) -> None:
        """It took longer than a call waits, ``patience`` seconds.  Nobody else asks before it has had its time; whether
        it is silent for good is seen then."""
        if box.done.is_set():  # its store is awaited, and the call that did so is gone on
            self._usual = min(self._timeout, 2.0 * self._usual)
        elif patience < self._timeout and not self._doubted:
            with self._lock:
                self._overdue, self._doubted = box, True
                self._rests_until = max(self._rests_until, box.asked_at + self._timeout)
            return
        self._failed(TimeoutError(f"silent for {patience:.3g} s"))

    def _release(self, box: _Box) -> None:
        with self._lock:
            if box.released:
                return
            box.released = True
        self._readers.release()

    def _fetch(self, name: str, box: _Box) -> None:
        box.begun = True
        try:
            box.value = self._store.get(name)
            if self._clock() - box.asked_at <= self._timeout and not isawaitable(box.value):
                self._answered(box)
        except Exception as error:
            box.error = error
        finally:
            self._release(box)
            box.done.set()

    def _answered(self, box: _Box) -> None:
        """It answered in time, be it that nobody waited so long."""
        took = self._clock() - box.asked_at
        with self._lock:
            self._usual = max(took, self._usual + _FADES * (took - self._usual))
            self._doubted, self._rest, self._rests_until = False, _REST, 0.0

    def _failed(self, error: Exception) -> None:
        """Leave the store alone for a while."""
        now = self._clock()
        with self._lock:
            self.failures += 1
            self._doubted = True
            if now < self._rests_until:
                return
            rest = self._rest
            self._rests_until, self._rest = now + rest, min(_LONGEST_REST, 2.0 * rest)
        told = f"{type(error).__name__}: {str(error)[:200]}"
        _log.warning("the cache's store failed (%s) and is left alone for %g s", told, rest)

    def reset_after_fork(self) -> None:
        """In the child: the parent's readers are not here."""
        self._readers = threading.BoundedSemaphore(_READERS)
        self._lock = threading.Lock()
        if isinstance(self._store, Memory):
            self._store.reset_after_fork()


async def _in_thread(work: Callable[[], object]) -> object:
    """In a thread of its own, which is left behind if it hangs."""
    (value,) = await anyio.to_thread.run_sync(  # in a tuple, as trio wants no coroutine from a thread
        lambda: (work(),), abandon_on_cancel=True, limiter=anyio.CapacityLimiter(1)
    )
    return value


def _closed(coroutine: object) -> None:
    close = getattr(coroutine, "close", None)
    if close is not None:
        close()
