"""How a store is asked that may be slow, full, gone or hostile.

It is asked beside the call, which waits for as long as answers took lately and a millisecond more.  One that failed or
was silent is left alone for a while; a call that comes then gives it a millisecond, and that it is back is noticed
beside the call.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from inspect import isawaitable
from typing import Any, Final, TypeAlias, cast

import anyio
import anyio.lowlevel

from resilient_llm.drive.workers import Workers

_log = logging.getLogger("resilient_llm.operate")

MARGIN: Final = 0.001
"""Seconds that a call waits beyond what answers took lately: all that a store which hangs costs it."""
_FADES: Final = 0.25  # share of what a quicker answer takes off the longest time that answers took lately
_REST, _LONGEST_REST = 1.0, 60.0  # seconds for which a store that failed is left alone

_AsyncioLoop: Final = asyncio.AbstractEventLoop
Question: TypeAlias = Callable[[], object]
"""What asks the store; what it returns may be awaitable."""


class Asked:
    """A question under way."""

    __slots__ = ("at", "awaitable", "done", "ended", "value")

    def __init__(self, at: float) -> None:
        self.at: float = at
        self.done: threading.Event = threading.Event()
        self.ended: bool = False
        self.awaitable: bool = False
        """Whether the store wants to be awaited, which threads cannot do."""
        self.value: object = None


class Asking:
    """How a store fares with questions of one kind; at most ``at_once`` of them are under way, and while it fails,
    people are told ``what`` happens.  Safe for threads."""

    def __init__(self, timeout: float, clock: Callable[[], float], at_once: int, what: str) -> None:
        self._what = what
        self._timeout = timeout
        self._clock = clock
        self._at_once = at_once
        self._workers = Workers()
        self._usual = 0.0
        """Seconds that answers took lately: the longest of them, fading."""
        self._rest = _REST
        self._rests_until = -1e9
        self._overdue: Asked | None = None
        """A question that took longer than usual, and may never be answered."""
        self._awaited = False
        """Whether the store wants to be awaited, and blocks nobody."""
        self._tasks: set[asyncio.Task[None]] = set()
        self.doubted: bool = False
        """Whether the store was late or failed when it was asked last."""
        self.failures: int = 0
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """In the child: nobody is under way."""
        self._free = threading.BoundedSemaphore(self._at_once)
        self._lock = threading.Lock()
        self._overdue = None

    @property
    def patience(self) -> float:
        """Seconds that a call waits."""
        return min(self._timeout, MARGIN if self.doubted else self._usual + MARGIN)

    @property
    def resting(self) -> bool:
        """Whether the store is left alone."""
        return self._clock() < self._rests_until

    # --- for calls ---

    def ask(self, question: Question, seconds: float | None = None, *, judged: bool = True) -> Asked | None:
        """Ask in another thread, and wait for ``seconds`` (``None``: :attr:`patience`).  ``judged``: one that takes
        longer is late.  ``None``: the store is left alone."""
        asked = self._begin()
        if asked is None or not self._workers.start(partial(self._carry_out, asked, question)):
            self._end(asked)
            return None
        patience = self.patience if seconds is None else seconds
        if not asked.done.wait(patience) and judged:
            self._late(asked, patience)
        return asked

    async def aask(self, question: Question, seconds: float | None = None, *, judged: bool = True) -> Asked | None:
        """The same on an event loop, in a task of its own that goes on where the call does not wait for it."""
        asked = self._begin()
        if asked is None:
            return None
        done, patience = anyio.Event(), self.patience if seconds is None else seconds
        self._spawn(partial(self._await, asked, question, done), asked)
        with anyio.move_on_after(patience):
            await done.wait()
        if judged and not asked.done.is_set():
            self._late(asked, patience)
        return asked

    # --- beside calls ---

    def _carry_out(self, asked: Asked, question: Question) -> None:
        try:
            found = question()
            asked.awaitable = isawaitable(found)
            if asked.awaitable:
                _drop(found)
            else:
                asked.value = found
                self._answered(asked)
        except Exception as error:  # whatever a store comes up with
            self._failed(error)
        finally:
            self._end(asked)

    async def _await(self, asked: Asked, question: Question, done: anyio.Event) -> None:
        try:
            found = question() if self._awaited else await _in_thread(self._workers, question)
            self._awaited = isawaitable(found)
            asked.value = await cast("Awaitable[object]", found) if isawaitable(found) else found
            self._answered(asked)
        except Exception as error:
            self._failed(error)
        finally:
            self._end(asked)
            done.set()

    def _spawn(self, work: Callable[[], Coroutine[Any, Any, None]], asked: Asked) -> None:
        """A task that belongs to nobody; it ends with its event loop."""
        loop = _loop()
        if isinstance(loop, _AsyncioLoop):
            task = loop.create_task(work())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            task.add_done_callback(lambda _: self._end(asked))  # also of one that never began
            return
        import trio  # noqa: PLC0415 - it is running, so it is there

        trio.lowlevel.spawn_system_task(work, context=copy_context())

    # --- how it fares ---

    def _begin(self) -> Asked | None:
        now, overdue = self._clock(), self._overdue
        if now < self._rests_until:
            return None
        if overdue is not None:
            if not overdue.done.is_set() and now < overdue.at + self._timeout:
                return None  # nobody else asks before it has had its time
            self._overdue = None
            if not overdue.done.is_set():
                self._failed(TimeoutError(f"silent for {self._timeout:g} s"))
                return None
        return Asked(now) if self._free.acquire(blocking=False) else None

    def _end(self, asked: Asked | None) -> None:
        """It is over, once."""
        if asked is None:
            return
        with self._lock:
            if asked.ended:
                return
            asked.ended = True
        asked.done.set()
        self._free.release()

    def _late(self, asked: Asked, patience: float) -> None:
        """It took longer than a call waits.  Whether it is silent for good is seen later."""
        with self._lock:
            first, self.doubted = not self.doubted and patience < self._timeout, True
            if first:
                self._overdue = asked
        if not first:
            self._failed(TimeoutError(f"silent for {patience:.3g} s"))

    def _answered(self, asked: Asked) -> None:
        """It answered, be it that nobody waited so long; what comes after the timeout is no answer in time."""
        took = self._clock() - asked.at
        if took > self._timeout:
            return
        with self._lock:
            self._usual = max(took, self._usual + _FADES * (took - self._usual))
            self.doubted, self._rest, self._rests_until = False, _REST, -1e9

    def _failed(self, error: Exception) -> None:
        """Leave the store alone for a while."""
        now = self._clock()
        with self._lock:
            self.failures += 1
            self.doubted = True
            if now < self._rests_until:
                return
            rest = self._rest
            self._rests_until, self._rest = now + rest, min(_LONGEST_REST, 2.0 * rest)
        told = f"{type(error).__name__}: {str(error)[:200]}"
        _log.warning("the cache's store failed (%s) and %s for %g s", told, self._what, rest)


async def _in_thread(workers: Workers, question: Question) -> object:
    """Beside the event loop.  If it hangs it is left behind, and keeps no process from ending; what nobody is there to
    await any more is closed."""
    found: list[object] = []
    failed: list[Exception] = []
    done, loop, left = anyio.Event(), _loop(), False

    def carry_out() -> None:
        try:
            found.append(question())
        except Exception as error:
            failed.append(error)
        if left and found:
            _drop(found[0])
        with suppress(Exception):  # the loop is closed: nobody waits there any more
            (loop.call_soon_threadsafe if isinstance(loop, _AsyncioLoop) else loop.run_sync_soon)(done.set)

    if not workers.start(carry_out):
        raise RuntimeError("there can be no more threads")
    try:
        await done.wait()
    except BaseException:
        left = True
        for one in found:
            _drop(one)
        raise
    if failed:
        raise failed[0]
    return found[0]


def _loop() -> Any:
    """The running event loop: asyncio's, or trio's token."""
    token = anyio.lowlevel.current_token()
    return getattr(token, "native_token", token)


def _drop(awaitable: object) -> None:
    close = getattr(awaitable, "close", None)
    if close is not None:
        close()
