"""What the async driver needs of an event loop: to start something on it, to wake it from other threads, to bound what
waits and to let go of it; and the user's code as a source."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, cast
from weakref import ref

import anyio
import anyio.to_thread

from resilient_llm.drive.engines import AsyncEngine, AsyncSource
from resilient_llm.drive.event_loop import Timer, is_asyncio
from resilient_llm.drive.exchange import AnyExchange, FromCode
from resilient_llm.drive.fork import imported
from resilient_llm.drive.under_way import UnderWay
from resilient_llm.model import ChatResponse, EmbedResponse
from resilient_llm.providers.custom import as_answer
from resilient_llm.providers.network import Network

if TYPE_CHECKING:
    from resilient_llm.drive.time_bound import ScopeBound, TaskBound

_CLOSE = 2.0  # seconds letting go of a connection may take, cancelled or not


class LoopUnderWay(UnderWay):
    """What is under way on one event loop, and how to start something on it."""

    def __init__(self, engine: AsyncEngine, loop: object) -> None:
        super().__init__()
        self.engine: AsyncEngine = engine
        self.timer: Timer = Timer(loop)
        self._tasks: set[Any] = set()
        self._loop = ref(loop)  # weak: whoever keeps this under the loop must not keep the loop
        self._asyncio: bool = is_asyncio(loop)
        self._ours: bool = self._asyncio and getattr(engine, "of_loop", False)
        self._time_bound: Any = imported("resilient_llm.drive.time_bound")
        self._end: AsyncGenerator[None] | None = None
        if self._ours:
            self._end = self._open()
            with suppress(StopIteration):
                self._end.__anext__().__await__().send(None)

    async def _open(self) -> AsyncGenerator[None]:
        """Closes what is left open when the event loop ends, of a client that lives on: ``asyncio.run`` ends the
        generators that are suspended then."""
        try:
            yield
        finally:
            self._end = None  # it holds the loop
            while self.orphans:
                with suppress(Exception):
                    await self.orphans.popleft().aclose()
            await self.engine.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        end, self._end = self._end, None
        await (self.engine.aclose() if end is None else end.aclose())

    def retain(self, networks: AbstractSet[Network]) -> None:
        """The same, on the event loop; from any thread."""
        self.soon(partial(super().retain, networks))

    def bounded(self, exchange: AnyExchange, *, altered: bool) -> ScopeBound | TaskBound:
        """What bounds an attempt by its time.  ``altered``: there is a layer around the engine."""
        plainly = self._ours and not (altered or exchange.by_code)
        made: ScopeBound | TaskBound
        made = self._time_bound.TaskBound(exchange, self.timer) if plainly else self._time_bound.ScopeBound(exchange)
        return made

    def soon(self, work: Callable[[], object]) -> None:
        """Call a function on the event loop; from any thread, also when the loop is gone."""
        loop: Any = self._loop()
        with suppress(Exception):  # the loop is closed: nothing runs there any more
            (loop.call_soon_threadsafe if self._asyncio else loop.run_sync_soon)(work)

    def spawn(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start a task that belongs to nobody.  It must not raise."""
        if self._asyncio:
            loop: Any = self._loop()
            task = loop.create_task(work())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return
        import trio  # noqa: PLC0415 - it is running, so it is there

        trio.lowlevel.spawn_system_task(work, context=copy_context())


async def in_thread(work: Callable[[], object]) -> object:
    """Run what may block in a worker thread; a cancelled caller does not wait for it."""
    (value,) = await anyio.to_thread.run_sync(  # in a tuple, as trio wants no coroutine from a thread
        lambda: (work(),), abandon_on_cancel=True
    )
    return value


async def close(held: AsyncSource) -> None:
    """Let go of a connection even if the caller is being cancelled, but not for ever; that it was broken is known
    already or does not matter any more."""
    if getattr(held, "spent", False):  # no waiting is left, and so no bound on it needed
        with suppress(Exception):
            await held.aclose()
        return
    with anyio.move_on_after(_CLOSE, shield=True), suppress(Exception):
        await held.aclose()


async def called(exchange: AnyExchange) -> AsyncCodeSource:
    """Call the user's code: async code here, blocking code in a worker thread."""
    value = exchange.started() if exchange.provider.needs_loop else await in_thread(exchange.started)
    answer = as_answer(await cast(Awaitable[object], value) if isawaitable(value) else value)
    return AsyncCodeSource(iter((answer,)) if isinstance(answer, ChatResponse | EmbedResponse) else answer, exchange)


class AsyncCodeSource(FromCode):
    """Pieces from a provider the user wrote, async or (in a worker thread) blocking."""

    status: int | None = None
    headers: Mapping[str, str] = {}

    def __init__(self, items: Iterator[object] | AsyncIterator[object], exchange: AnyExchange) -> None:
        self._items = items
        self._limit = exchange.limit
        self._context = copy_context()  # one for all pieces of a blocking generator: what it sets in it, it can reset

    async def read(self) -> object | None:
        """The next piece; ``None`` at the end."""
        if self._limit.scoped:
            return await self._next()
        with anyio.fail_after(self._limit.left()):
            return await self._next()

    async def _next(self) -> object | None:
        items = self._items
        if isinstance(items, AsyncIterator):
            return await anext(items, None)
        return await anyio.to_thread.run_sync(lambda: self._context.run(next, items, None), abandon_on_cancel=True)

    async def aclose(self) -> None:
        """Close the user's iterator."""
        items: Any = self._items
        if hasattr(items, "aclose"):
            await items.aclose()
        elif hasattr(items, "close"):
            self._context.run(items.close)  # raises if it is running in its thread; it ends there then
