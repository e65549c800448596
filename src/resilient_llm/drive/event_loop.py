"""The event loop that runs, asyncio's or trio's: what it is, how to wake it from other threads, and its one timer."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from functools import partial
from typing import Any, Protocol
from weakref import ref

import anyio
import anyio.lowlevel

_EARLY = 0.001  # seconds a timer may come too early


def native_loop() -> Any:
    """The running event loop: asyncio's loop, or trio's token."""
    asyncio = sys.modules.get("asyncio")  # it does not run where it was not imported
    if asyncio is not None:
        with suppress(RuntimeError):
            if asyncio.current_task() is not None:
                return asyncio.get_running_loop()
    token = anyio.lowlevel.current_token()
    return getattr(token, "native_token", token)


def is_asyncio(loop: object) -> bool:
    """Whether it is asyncio's."""
    return hasattr(loop, "call_soon_threadsafe")


def from_any_thread(event: anyio.Event) -> Callable[[], None]:
    """A function that sets the event and may be called from any thread, also when its event loop is gone."""
    loop = native_loop()
    call = loop.call_soon_threadsafe if is_asyncio(loop) else loop.run_sync_soon

    def wake() -> None:
        with suppress(Exception):  # the loop is closed: nobody waits there any more
            call(event.set)

    return wake


class Due(Protocol):
    """Something that is to be done at a time, unless it is called off before."""

    def on_time(self) -> None:
        """Its time has come.  Must not raise."""
        ...


class Timer:
    """What may become due on one event loop, with one timer of the loop's for all of it.

    Nearly all of it is called off before its time.  The loop's timer stays where it is then; when it goes off, it is
    set to what is due next.  A timer for each attempt would cost many times as much.
    """

    def __init__(self, loop: object) -> None:
        self._loop = ref(loop)  # weak: whoever keeps this under the loop must not keep the loop
        self._asyncio = is_asyncio(loop)
        self._due: dict[Due, float] = {}
        self._at: float = math.inf
        self._stop: Callable[[], object] | None = None

    def set(self, what: Due, seconds: float) -> None:
        """Call ``what.on_time()`` in so many seconds (infinite: never), and not when it was to be called before."""
        at = self._due[what] = self._now() + seconds
        if at < self._at:
            self._move(at)

    def cancel(self, what: Due) -> None:
        """Call it off."""
        self._due.pop(what, None)

    def fire(self) -> None:
        """The loop's timer: call what is due."""
        self._stop, self._at = None, math.inf
        now = self._now() + _EARLY
        for what in [one for one, at in self._due.items() if at <= now]:
            if self._due.pop(what, None) is not None:  # else called off by one before it
                what.on_time()
        first = min(self._due.values(), default=math.inf)
        if first < self._at:
            self._move(first)

    def _now(self) -> float:
        loop: Any = self._loop()
        seconds: float = loop.time() if self._asyncio else anyio.current_time()
        return seconds

    def _move(self, at: float) -> None:
        if self._stop is not None:
            self._stop()
        self._at = at
        self._stop = _at(self._loop(), at, ref(self))

    def __del__(self) -> None:
        """Of a client that was dropped: the loop has nothing left of it."""
        if self._stop is not None:
            with suppress(Exception):
                self._stop()


def _at(loop: Any, at: float, timer: ref[Timer]) -> Callable[[], object]:
    """Let the timer go off at a time of the loop's; returns what prevents it.  It keeps neither timer nor caller."""
    if is_asyncio(loop):
        handle = ref(loop.call_at(at, _fire, timer, context=Context()))  # weak: it keeps the loop
        return partial(_cancel, handle)
    import trio  # noqa: PLC0415 - it is running, so it is there

    scope = trio.CancelScope()

    async def sleep() -> None:
        with scope:
            await trio.sleep_until(at)
            _fire(timer)

    trio.lowlevel.spawn_system_task(sleep)
    return scope.cancel


def _cancel(handle: ref[Any]) -> None:
    found = handle()
    if found is not None:
        found.cancel()


def _fire(timer: ref[Timer]) -> None:
    found = timer()
    if found is not None:
        found.fire()
