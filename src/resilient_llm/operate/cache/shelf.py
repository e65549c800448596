"""Where answers are kept: in memory, or in a store of the user's.  Nothing a store does fails a call."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from inspect import iscoroutinefunction
from typing import Final, Protocol

from resilient_llm.errors import ConfigurationError
from resilient_llm.operate.cache.asking import MARGIN, Asking

_READS, _WRITES = 8, 64
"""Questions that may be under way at a time; beyond that calls go on without the store, and answers are not kept."""
_MEETING: Final = 0.25  # seconds for which whoever makes a cached client waits for its store
_NOTHING: Final = "resilient_llm:nothing"
"""A name under which nothing is kept."""


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


class Shelf:
    """A store, and how it fares: its reads, and its writes."""

    def __init__(self, store: Store, timeout: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._timeout = timeout
        self._reads = Asking(timeout, clock, _READS, "is left alone")
        self._writes = Asking(timeout, clock, _WRITES, "nothing is written to it")

    @property
    def failures(self) -> int:
        """Reads and writes that failed, or were not answered in time."""
        return self._reads.failures + self._writes.failures

    @property
    def near(self) -> bool:
        """Whether it is in this process, so that nothing about it waits."""
        return isinstance(self._store, Memory)

    def meet(self) -> bool:
        """Ask it once, and wait for as long as it may take, a quarter of a second at most, so that the first call knows
        how it fares.  Whether it wants to be awaited: then it is met by the first call."""
        if self.near:
            return False
        if iscoroutinefunction(self._store.get):
            return True
        asked = self._reads.ask(partial(self._store.get, _NOTHING), min(self._timeout, _MEETING))
        return asked is not None and asked.awaitable

    def read(self, name: str) -> object:
        """What is kept under a name; ``None`` if there is nothing, or the store does not say so in time."""
        if self.near:
            return self._store.get(name)
        asked = self._reads.ask(partial(self._store.get, name))
        return None if asked is None else asked.value

    async def aread(self, name: str) -> object:
        """The same for an event loop; the store may want to be awaited."""
        if self.near:
            return self._store.get(name)
        asked = await self._reads.aask(partial(self._store.get, name))
        return None if asked is None else asked.value

    def write(self, name: str, value: bytes, seconds: int) -> None:
        """Keep something.  Raises nothing; waits for a millisecond, so that a program may end then."""
        if self.near:
            self._store.set(name, value, ex=seconds)
            return
        if not self._reads.resting:
            self._writes.ask(partial(self._store.set, name, value, ex=seconds), self._moment, judged=False)

    async def awrite(self, name: str, value: bytes, seconds: int) -> None:
        """The same for an event loop."""
        if self.near:
            self._store.set(name, value, ex=seconds)
            return
        if not self._reads.resting:
            await self._writes.aask(partial(self._store.set, name, value, ex=seconds), self._moment, judged=False)

    @property
    def _moment(self) -> float:
        """Seconds that a call waits for a write: none where it waited for a read in vain."""
        return 0.0 if self._reads.doubted else MARGIN

    def reset_after_fork(self) -> None:
        """In the child: nobody is under way, and a lock may be held by a thread that is not here."""
        self._reads.reset_after_fork()
        self._writes.reset_after_fork()
        if isinstance(self._store, Memory):
            self._store.reset_after_fork()
