"""The iterator over results of the async client, on asyncio and trio.  The twin of ``threads``; see there."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from functools import partial
from inspect import isawaitable
from types import TracebackType
from typing import Final, Generic, Self, TypeAlias

import anyio
import anyio.lowlevel
import anyio.to_thread

from resilient_llm.batch.again import Tries
from resilient_llm.batch.prompts import Asked
from resilient_llm.batch.results import MapResult, R, R_co
from resilient_llm.batch.work import Ended, Work, ended
from resilient_llm.drive.aio import AsyncDriver
from resilient_llm.drive.loop import LoopUnderWay
from resilient_llm.errors import CallFailed, InvalidRequest
from resilient_llm.options import ChatOptions, Messages

CLOSE: Final = 1.0
"""Seconds that closing waits for the calls it cancels."""

AsyncCall: TypeAlias = Callable[[Messages, ChatOptions], Awaitable[R]]
"""One call of the client."""


class AsyncMap(Generic[R_co]):
    """Results of many prompts, see :meth:`~resilient_llm.AsyncResilientClient.map`.  Iterate with ``async for``, best
    inside ``async with``.

    The prompts are taken, and calls begun, while you iterate; at most a thousand results wait for you.  Leaving the
    loop, :meth:`aclose` and cancellation cancel the calls under way, which judges nobody.
    """

    def __init__(
        self,
        prompts: Iterable[object] | AsyncIterable[object],
        work: Work[R_co],
        begin: Callable[[], tuple[AsyncDriver, AsyncCall[R_co]]],
    ) -> None:
        """``begin`` is called on the event loop, when the first result is asked for."""
        self._source = prompts
        self._prompts: Iterator[object] | Reader | None = None
        self._work = work
        self._begin_run = begin
        self._running: AsyncRunning[R_co] | None = None
        self._reading = threading.Lock()
        self._closed = False

    def __aiter__(self) -> AsyncIterator[MapResult[R_co]]:
        return self

    async def __anext__(self) -> MapResult[R_co]:
        if self._closed:
            raise StopAsyncIteration
        if not self._reading.acquire(blocking=False):
            raise RuntimeError("the results are being read elsewhere; read them in one place, and pass on what comes")
        try:
            await anyio.lowlevel.checkpoint()
            result = await self._next()
        except BaseException:
            await self.aclose()
            raise
        finally:
            self._reading.release()
        if result is None:
            await self.aclose()
            raise StopAsyncIteration
        return result

    async def aclose(self) -> None:
        """Cancel the calls under way and let go of the file.  Does nothing the second time."""
        if not self._closed:
            self._closed = True
            if self._running is not None:
                self._running.end()
                await self._running.wait(CLOSE)
            self._work.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            self._closed = True
            if self._running is not None:
                self._running.end_soon()
            self._work.close()

    async def _next(self) -> MapResult[R_co] | None:
        work = self._work
        if self._running is None:
            self._running = AsyncRunning(work, *self._begin_run())
        running = self._running
        while True:
            await running.collect()
            while work.room and self._begin(running):
                pass
            result = work.next()
            work.show(running.waiting)
            if result is not None or work.over:
                return result
            await running.change(work.patience)

    def _begin(self, running: AsyncRunning[R_co]) -> bool:
        """Take the next prompt; false if it is not there yet."""
        if self._prompts is None:
            source = self._source
            self._prompts = Reader(running, source) if isinstance(source, AsyncIterable) else iter(source)
        if isinstance(self._prompts, Reader) and not self._prompts.ready:
            return False
        try:
            item = next(self._prompts)
        except StopIteration:
            self._work.exhausted = True
            return False
        asked = self._work.begin(item)
        if asked is not None:
            running.start(partial(running.carry_out, asked))
        return True


class AsyncRunning(Generic[R]):
    """The calls under way.  Tasks hold this, and not the iterator: one that is dropped is noticed."""

    def __init__(self, work: Work[R], driver: AsyncDriver, call: AsyncCall[R]) -> None:
        self._work = work
        self._owner = driver.owner
        self._call = call
        self._under_way: LoopUnderWay = driver.under_way()
        self._scopes: set[anyio.CancelScope] = set()
        self._ended: deque[Ended[R] | BaseException] = deque()
        self._changed = anyio.Event()
        self._stopped = False
        self._answered = 0

    @property
    def waiting(self) -> int:
        """Calls that stand in line."""
        return len(self._under_way.in_line)

    def start(self, work: Callable[[], Awaitable[None]]) -> None:
        """Begin something in a task of its own, which ends with the run."""

        async def within() -> None:
            with anyio.CancelScope() as scope:
                self._scopes.add(scope)
                try:
                    if not self._stopped:
                        await work()
                except Exception as error:
                    self.told(error)
                finally:
                    self._scopes.discard(scope)
                    self._changed.set()

        self._under_way.spawn(within)

    def changed(self) -> None:
        """Something has changed: look again."""
        self._changed.set()

    def told(self, what: Ended[R] | BaseException) -> None:
        """A call ended, or something that ends the run happened."""
        self._ended.append(what)
        self._changed.set()

    async def collect(self) -> None:
        """Take in what ended.  Raises what ends the run."""
        while self._ended:
            end = self._ended.popleft()
            if isinstance(end, BaseException):
                raise end
            self._work.collect(end, self.waiting)
            if self._work.on_result is not None:
                found = self._work.on_result(end.result)
                if isawaitable(found):
                    await found

    async def change(self, patience: float | None) -> None:
        """Wait until something has changed, so many seconds at most; ``None``: as long as it takes."""
        with anyio.move_on_after(patience):
            await self._changed.wait()
        self._changed = anyio.Event()

    def end(self) -> None:
        """Cancel them all."""
        self._stopped = True
        for scope in list(self._scopes):
            scope.cancel()
        self._under_way.leave()

    def end_soon(self) -> None:
        """The same, from any thread."""
        self._stopped = True
        self._under_way.soon(self.end)

    async def wait(self, patience: float) -> None:
        """Wait until they have ended, so long at most."""
        with anyio.move_on_after(patience, shield=True):
            while self._scopes:
                await self._changed.wait()
                self._changed = anyio.Event()

    async def carry_out(self, asked: Asked) -> None:
        """Ask one prompt, and keep what comes."""
        end = ended(asked, await self._outcome(asked))
        self._work.keep(asked, end)
        self.told(end)
        file = self._work.file
        if file is not None and file.due(self._owner.clock()):
            await anyio.to_thread.run_sync(file.sync)

    async def _outcome(self, asked: Asked) -> R | Exception:
        """The answer, or the error that is the result.  Raises what ends the run."""
        tries = Tries(asked.options, self._owner.allowance, self._owner.clock(), self._answered)
        while True:
            try:
                response = await self._call(asked.messages, tries.options)
            except (CallFailed, InvalidRequest) as error:
                wait = tries.wait_after(error, self._owner.clock(), self._answered)
                if wait is None:
                    return error
                await self._pause(wait)
            else:
                self._answered += 1
                return response

    async def _pause(self, wait: float) -> None:
        if self._owner.wait is not None:
            self._owner.wait(wait)
        else:
            await anyio.sleep(wait)


class Reader:
    """Takes prompts from an async iterable, one ahead, in a task of its own: no result waits for the next prompt."""

    def __init__(self, running: AsyncRunning[R], source: AsyncIterable[object]) -> None:
        self._items: deque[object] = deque()
        self._over = False
        self._wanted = anyio.Event()
        running.start(partial(self._read, running.changed, source))

    @property
    def ready(self) -> bool:
        """Whether the next prompt is there, or there is none."""
        return bool(self._items) or self._over

    def __next__(self) -> object:
        if not self._items:
            raise StopIteration
        self._wanted.set()
        return self._items.popleft()

    async def _read(self, changed: Callable[[], None], source: AsyncIterable[object]) -> None:
        async for item in source:
            self._items.append(item)
            changed()
            await self._wanted.wait()
            self._wanted = anyio.Event()
        self._over = True
