"""The async driver: the only place where the async client waits.  Runs on asyncio and trio.

The twin of ``sync``; see there.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from collections.abc import Set as AbstractSet
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from inspect import isawaitable
from typing import Any, cast
from weakref import WeakKeyDictionary

import anyio
import anyio.lowlevel

from resilient_llm.decide.call import Wait
from resilient_llm.drive.core import ProviderPool
from resilient_llm.drive.engines import AsyncEngine, AsyncSource, Seam
from resilient_llm.drive.event_loop import from_any_thread, native_loop
from resilient_llm.drive.exchange import AnyExchange
from resilient_llm.drive.failure import AttemptFailed
from resilient_llm.drive.fork import tell_after_fork
from resilient_llm.drive.loop import LoopUnderWay, called, close, in_thread
from resilient_llm.drive.opened import Opened
from resilient_llm.drive.race import Race
from resilient_llm.drive.task import Task
from resilient_llm.drive.under_way import UnderWay, closed
from resilient_llm.model import ChatRequest, StreamEvent
from resilient_llm.providers.network import Network

_TURN = 31  # pieces after which others have their turn: a power of two less one


class AsyncDriver:
    """Carries out calls."""

    def __init__(self, owner: ProviderPool, engines: Callable[[], AsyncEngine]) -> None:
        self.owner = owner
        self.seam: Seam[AsyncEngine] = Seam()
        self._engines = engines
        self._lock = threading.Lock()
        self._loops: WeakKeyDictionary[object, LoopUnderWay] = WeakKeyDictionary()
        self._pieces = 0
        tell_after_fork(self)

    async def run(self, task: Task[Any]) -> AnyExchange:
        """Attempts and waits until one attempt is answered to the caller's liking, or streams its first content.

        Raises the call's final error."""
        under_way = self.under_way()
        if under_way.orphans:
            await self.tidy(under_way)
        task.under_way = under_way
        with task:
            while True:
                step = task.next()
                if isinstance(step, Wait):
                    await self.pause(under_way, task, step)
                    continue
                won = await AsyncContest(self, under_way, task, step).run()
                if won is not None and task.accept(won, await self.verdict(task, won)):
                    return won

    async def open(self, task: Task[ChatRequest]) -> AsyncOpenStream:
        """A stream, from its first content on."""
        return AsyncOpenStream(task, await self.run(task), self.under_way(), self)

    async def carry(self, under_way: LoopUnderWay, task: Task[Any], exchange: AnyExchange) -> Exception | None:
        """Carry out an attempt; returns what it raised."""
        assert exchange.observer is not None
        token = exchange.observer.attach()
        under_way.began(exchange)
        try:
            await self.perform(under_way, task, exchange)
        except Exception as error:
            return under_way.error_of(error)
        finally:
            under_way.exchanges.discard(exchange)
            exchange.observer.detach(token)
        return None

    async def answered(self, under_way: LoopUnderWay, task: Task[Any], exchange: AnyExchange) -> None:
        """Send and read; once more, without sealed reasoning or with another key, if that was refused; and part by part
        if the vendor divided the answer."""
        while True:
            try:
                await self.exchanged(task, exchange, await self.source(under_way, task, exchange))
                if not exchange.goes_on():
                    return
            except AttemptFailed as failure:
                exchange.again(failure)

    async def exchanged(self, task: Task[Any], exchange: AnyExchange, source: AsyncSource) -> None:
        """Read until there is enough: a whole answer, a part of it, or the first content of a stream."""
        try:
            exchange.head(source.status, source.headers)
            while not exchange.enough:
                exchange.feed(await self.pull(source), self.owner.clock())
        except BaseException:
            await close(source)
            raise
        if not task.streams(exchange, source):
            await close(source)

    async def tidy(self, under_way: UnderWay) -> None:
        """Close what finalisers left behind."""
        while under_way.orphans:
            with suppress(Exception):  # another thread may have taken the last one
                await under_way.orphans.popleft().aclose()

    # --- by nature different from the twin ---

    def under_way(self) -> LoopUnderWay:
        """What is under way on the running event loop."""
        loop = native_loop()
        under_way = self._loops.get(loop)
        if under_way is None:
            engine = self._engines()
            with self._lock:
                for other in list(self._loops):  # connections left open would keep their loop alive, and it them
                    if cast(Callable[[], bool], getattr(other, "is_closed", bool))():
                        del self._loops[other]
                under_way = self._loops[loop] = LoopUnderWay(engine, loop)
        return under_way

    async def perform(self, under_way: LoopUnderWay, task: Task[Any], exchange: AnyExchange) -> None:
        """Send, and read until there is enough, all within the attempt's time."""
        if exchange.asks_for_key:
            await self.take_key(task, exchange)
        elif exchange.key is None:
            exchange.key = exchange.credential.get()
        with under_way.bounded(exchange, altered=self.seam.altered):
            await self.answered(under_way, task, exchange)

    async def take_key(self, task: Task[Any], exchange: AnyExchange) -> None:
        """Ask a callable for the key."""
        task.asking(exchange)
        with anyio.fail_after(exchange.attempt.timeout):
            key = await exchange.credential.aget(in_thread)
        task.asked(exchange, key)

    async def source(self, under_way: LoopUnderWay, task: Task[Any], exchange: AnyExchange) -> AsyncSource:
        """Send the request, or call the user's code."""
        if exchange.by_code:
            return await called(exchange)
        if exchange.refused is not None:
            await self.take_key(task, exchange)
        await anyio.lowlevel.checkpoint_if_cancelled()  # what follows may send everything before it has to wait
        engine: AsyncEngine = under_way.engine
        if self.seam.altered:
            engine = self.seam.engine(engine)
        if exchange.limit.scoped:
            return await engine.send(exchange.outgoing(), exchange.limit)
        with anyio.fail_after(exchange.limit.left()):  # another part of an open stream
            return await engine.send(exchange.outgoing(), exchange.limit)

    def pull(self, source: AsyncSource) -> Awaitable[object | None]:
        """The next piece.  Now and then the others have their turn: a source whose pieces are always there would keep
        the event loop to itself."""
        self._pieces += 1
        return source.read() if self._pieces & _TURN else _later(source)

    async def verdict(self, task: Task[Any], exchange: AnyExchange) -> object:
        """What the caller's check says, which may be async."""
        verdict = task.verdict(exchange)
        if verdict is None or not isawaitable(verdict):
            return verdict
        try:
            return await verdict
        except ValueError as error:
            return error
        except BaseException:
            task.abandoned(exchange)
            raise

    async def pause(self, under_way: LoopUnderWay, task: Task[Any], wait: Wait) -> None:
        """Wait before the next attempt: so long, or until it is this call's turn."""
        if self.owner.wait is not None:
            self.owner.wait(wait.seconds)
            return
        woken = anyio.Event()
        wake = from_any_thread(woken)
        under_way.waiting.add(wake)
        try:
            place = wait.place
            if place is not None:
                place.owner, place.wake = under_way, wake
                under_way.in_line.add(wake)
            if not (place is not None and place.woken) and not under_way.closing:
                with anyio.move_on_after(wait.seconds):
                    await woken.wait()
            if under_way.closing:
                raise closed()
        except BaseException:
            task.interrupted()
            raise
        finally:
            under_way.waiting.discard(wake)
            under_way.in_line.discard(wake)

    def retain(self, networks: AbstractSet[Network]) -> None:
        """Close connections of providers that are no more, on every loop."""
        for under_way in list(self._loops.values()):
            under_way.retain(networks)

    async def aclose(self, drain: float) -> None:
        """Close what belongs to this event loop: who waits is told so at once, on every loop; what runs here may finish
        within ``drain`` seconds and is ended then."""
        under_way = self.under_way()
        emptied = anyio.Event()
        under_way.emptied = from_any_thread(emptied)
        for other in list(self._loops.values()):
            other.wake()
        await self.tidy(under_way)
        if under_way.calls and drain > 0:
            with anyio.move_on_after(drain):
                await emptied.wait()
        under_way.emptied = None  # it holds the loop
        under_way.end()
        await self.tidy(under_way)
        await under_way.aclose()

    def reset_after_fork(self) -> None:
        """In the child: forget the parent's event loops without touching them, or even collecting them: they share the
        kernel's objects with the parent's."""
        _FORGOTTEN.extend(self._loops.items())
        self._lock = threading.Lock()
        self._loops = WeakKeyDictionary()


_FORGOTTEN: list[object] = []


class AsyncContest(Race):
    """The first attempt runs in the caller's task, and a second one in a task of its own, which is made when it really
    starts.  A trial, which may have to run on, and one that waits for a key have one of their own from the start."""

    __slots__ = ("_context", "_driver", "_under_way", "_woken")

    error: BaseException | None

    def __init__(self, driver: AsyncDriver, under_way: LoopUnderWay, task: Task[Any], first: AnyExchange) -> None:
        super().__init__(task, first)
        self._driver = driver
        self._under_way = under_way
        self._context = copy_context()
        self._woken: anyio.Event | None = None

    async def run(self) -> AnyExchange | None:
        """The winner, or ``None``.  Raises what ends the call."""
        first = self.first
        try:
            if self.apart():
                self._spawn(first)
                self._arm()
            else:
                self._arm()
                error = await self._driver.carry(self._under_way, self.task, first)
                if first.lost:
                    await self._alone(first, error)
                else:
                    self.ended(first, error)
                    if self.running:
                        self._arm()
            while not self.over:
                self._woken = anyio.Event()
                await self._woken.wait()
        except BaseException:
            self.leave()
            if self.won is not None:  # cancelled in the instant in which it succeeded
                self.task.abandoned(self.won)
                await self._discarded(self.won)
            raise
        finally:
            self._under_way.timer.cancel(self)
        return self.outcome()

    def _arm(self) -> None:
        """Come to the rescue when it is due."""
        seconds = self.next_due()
        if seconds is None:
            self._under_way.timer.cancel(self)
        else:
            self._under_way.timer.set(self, seconds)

    def on_time(self) -> None:
        """The rescue is due."""
        self._context.run(self._due)

    def _due(self) -> None:
        """Another attempt, or another look later."""
        try:
            found = self.due()
            if found is not None:
                self._spawn(found)
            self._arm()
        except BaseException as error:  # a listener raised; a bare timer has nobody to tell
            self.error = error
            self.leave()
        self._changed()

    def _spawn(self, exchange: AnyExchange) -> None:
        self._under_way.spawn(partial(self._beside, exchange))

    async def _beside(self, exchange: AnyExchange) -> None:
        """An attempt in a task of its own."""
        if exchange.lost:  # before it began
            self.task.judge(exchange, None)
            return
        with anyio.CancelScope() as scope:
            exchange.stop = scope.cancel
            error: Exception | None = closed()
            try:
                error = await self._driver.carry(self._under_way, self.task, exchange)
            finally:  # also when the event loop ends all tasks
                if not exchange.lost:
                    self.ended(exchange, error)
                    self._arm()
                    self._changed()
            if exchange.lost:
                await self._alone(exchange, error)

    async def _alone(self, exchange: AnyExchange, error: Exception | None) -> None:
        """It lost: report what a trial has shown, and throw the rest away."""
        self.task.judge(exchange, error)
        await self._discarded(exchange)

    async def _discarded(self, exchange: AnyExchange) -> None:
        if exchange.source is not None:
            await close(exchange.source)

    def _changed(self) -> None:
        if self._woken is not None:
            self._woken.set()


class AsyncOpenStream(Opened):
    """A stream from its first content on."""

    pieces: int

    async def next(self) -> StreamEvent | None:
        """The next event; ``None`` at the end of the answer.  Raises ``StreamInterrupted`` if it breaks."""
        while self.hungry():
            await self.step()
        event = self.ready()
        if event is None:
            await self.end()
        return event

    async def step(self) -> None:
        """Read one piece.  Raises ``StreamInterrupted`` if it breaks."""
        try:
            self.bound()
            if self.take(await self.pull()):
                await close(self.source)
                self.part(await self.driver.source(self.under_way, self.task, self.exchange))
        except Exception as error:
            if not self.over:  # else closed meanwhile by somebody else, which is why the read failed
                await self.go_on(error)
        except BaseException:
            await self.aclose()
            raise

    async def go_on(self, error: Exception) -> None:
        """It broke: let another attempt go on with the answer, or raise what ends it."""
        failure = self.broken(error)
        await close(self.source)
        with self.between(failure):
            if not self.reading.ended:
                self.taken_over(await self.driver.run(self.task))

    async def end(self) -> None:
        """The answer is complete and handed over."""
        if not self.over:
            with self.ending():
                while not self.exchange.by_code and await self.pull() is not None:
                    pass
            await close(self.source)

    async def aclose(self) -> None:
        """Let go of the connection at once, whatever is left, also while another task reads from it."""
        self.closed()
        await close(self.source)

    def pull(self) -> Awaitable[object | None]:
        """The next piece; now and then the others have their turn."""
        self.pieces += 1
        piece: Awaitable[object | None] = self.source.read() if self.pieces & _TURN else _later(self.source)
        return piece


async def _later(source: AsyncSource) -> object | None:
    await anyio.lowlevel.checkpoint()
    return await source.read()
