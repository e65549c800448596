"""The async driver: the only place where the async client waits.  Runs on asyncio and trio.

The twin of ``sync``; see there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Generic, Protocol, TypeAlias, TypeVar, cast

import anyio
import anyio.to_thread

from resilient_llm.decide.call import Wait
from resilient_llm.decide.member import Attempt
from resilient_llm.drive.core import Target
from resilient_llm.drive.http import AsyncAnswer, AsyncHttp, Here
from resilient_llm.drive.opened import Opened, check, feed_item, finish_items, silence
from resilient_llm.drive.reading import Reading
from resilient_llm.drive.task import Request, Response, Task
from resilient_llm.model import ChatRequest, ChatResponse, StreamEvent
from resilient_llm.providers.base import HttpProvider
from resilient_llm.providers.custom import Custom, as_answer
from resilient_llm.wire.kit.accumulate import replay

R = TypeVar("R")
Perform: TypeAlias = Callable[[Task[Request], Attempt[Target]], Awaitable[R]]

_CLOSE = 2.0  # seconds letting go of a connection may take, cancelled or not


class AsyncDriver:
    """Carries out calls."""

    def __init__(self, http: AsyncHttp, max_bytes: int) -> None:
        self.http = http
        self.max_bytes = max_bytes

    async def run(self, task: Task[Request], perform: Perform[Request, R]) -> tuple[Attempt[Target], R]:
        """Attempts and waits until one attempt succeeds.  Raises the call's final error."""
        await self.bury()
        while True:
            step = task.next()
            if isinstance(step, Wait):
                await self.pause(task, step)
            elif step.rescue_after is None or step.rescue_after >= step.timeout:
                result = await self.attempt(task, step, perform)
                if result is not None:
                    return step, result
            else:
                won = await self.race(task, step, step.rescue_after, perform)
                if won is not None:
                    return won

    async def pause(self, task: Task[Request], wait: Wait) -> None:
        """Wait before the next attempt."""
        try:
            await anyio.sleep(wait.seconds)
        except BaseException:
            task.interrupted()
            raise

    async def attempt(self, task: Task[Request], attempt: Attempt[Target], perform: Perform[Request, R]) -> R | None:
        """One attempt; ``None`` if it failed."""
        trace = task.trace_of(attempt)
        token = trace.attach()
        try:
            return await perform(task, attempt)
        except Exception as error:
            task.fell(attempt, error)
            return None
        except BaseException:
            task.abandoned(attempt)
            raise
        finally:
            trace.detach(token)

    async def ask(self, task: Task[Request], attempt: Attempt[Target]) -> Response:
        """Ask for a whole answer."""
        provider = attempt.target
        if isinstance(provider, Custom):
            return await self.ask_custom(task, attempt, provider)
        key = await self.key(task, attempt, provider)
        with Within(attempt.timeout):
            answer = await self.send(task, attempt, provider, key)
            try:
                body = await answer.read(self.max_bytes)
            finally:
                await close(answer)
        task.learn(attempt, provider, answer.headers)
        return task.understood(provider, answer.status, answer.headers, body)

    async def open(self, task: Task[ChatRequest], attempt: Attempt[Target]) -> AsyncOpenStream:
        """Ask for a stream, and wait for its first content."""
        provider = attempt.target
        source: AsyncSource
        key = None if isinstance(provider, Custom) else await self.key(task, attempt, provider)
        with anyio.fail_after(attempt.timeout):
            if isinstance(provider, Custom):
                source = await self.open_custom(task, attempt, provider)
            else:
                source = AsyncHttpSource(await self.open_http(task, attempt, provider, key), self.max_bytes)
            stream = AsyncOpenStream(task, attempt, task.reading(attempt), source)
            try:
                await stream.begin()
            except BaseException:
                await close(source)
                raise
        return stream

    async def open_http(
        self, task: Task[ChatRequest], attempt: Attempt[Target], provider: HttpProvider, key: str | None
    ) -> AsyncAnswer:
        """The head of a streamed answer.  Raises ``AttemptFailed`` if it is none."""
        answer = await self.send(task, attempt, provider, key)
        try:
            task.learn(attempt, provider, answer.headers)
            if not 200 <= answer.status < 300:
                body = await answer.read(self.max_bytes)
                raise task.refused(provider, answer.status, answer.headers, body)
        except BaseException:
            await close(answer)
            raise
        return answer

    async def send(
        self, task: Task[Request], attempt: Attempt[Target], provider: HttpProvider, key: str | None
    ) -> AsyncAnswer:
        """Send the request."""
        prepared = task.prepare(attempt, provider, key)
        answer = await self.http.post(prepared, task.timeouts(attempt))
        answer.reads.until = attempt.started + attempt.timeout
        answer.reads.bind()
        return answer

    # --- by nature different from the twin ---

    async def key(self, task: Task[Request], attempt: Attempt[Target], provider: HttpProvider) -> str | None:
        """The key now; a callable that may block is asked in a worker thread."""
        if provider.credential.fixed:
            return provider.credential.get()
        task.asking(attempt, provider)
        with anyio.fail_after(attempt.timeout):
            key = await provider.credential.aget(in_thread)
        task.asked(attempt)
        return key

    async def ask_custom(self, task: Task[Request], attempt: Attempt[Target], provider: Custom) -> Response:
        """Ask a provider the user wrote."""
        assert isinstance(task.request, ChatRequest)
        with anyio.fail_after(attempt.timeout):
            answer = await self.answer_of(provider, task.request, attempt.timeout, stream=False)
            if isinstance(answer, ChatResponse):
                return answer
            reading = task.reading(attempt)
            source = AsyncIteratorSource(answer)
            try:
                while await source.pull(reading, task.owner.clock):
                    check(reading)
            finally:
                await close(source)
            check(reading)
            return reading.response()

    async def open_custom(self, task: Task[ChatRequest], attempt: Attempt[Target], provider: Custom) -> AsyncSource:
        """Open the stream of a provider the user wrote."""
        answer = await self.answer_of(provider, task.request, attempt.timeout, stream=True)
        return AsyncIteratorSource(iter(replay(answer)) if isinstance(answer, ChatResponse) else answer)

    async def answer_of(
        self, provider: Custom, request: ChatRequest, seconds: float, *, stream: bool
    ) -> ChatResponse | Iterator[object] | AsyncIterator[object]:
        """Call the user's code: async code here, blocking code in a worker thread."""
        if provider.is_async:
            value = provider.start(request, seconds, stream=stream)
        else:
            value = await in_thread(lambda: provider.start(request, seconds, stream=stream))
        return as_answer(await cast(Awaitable[object], value) if isinstance(value, Awaitable) else value)

    async def race(
        self, task: Task[Request], first: Attempt[Target], rescue_after: float, perform: Perform[Request, R]
    ) -> tuple[Attempt[Target], R] | None:
        """An attempt, and a second one elsewhere if it stays silent; the first success wins.  ``None`` if none did."""
        race = Race[Request, R](task, perform, self.http.here())
        try:
            async with race.group:
                race.arm(first, rescue_after)
                try:
                    await race.contend(first)
                finally:
                    race.call_off()
        except BaseException as error:
            await race.forget()
            alone = _alone(error)
            raise alone from alone.__cause__
        return race.won

    async def bury(self) -> None:
        """Close what finalisers left behind."""
        orphans = self.http.here().orphans
        while orphans:
            with suppress(Exception):
                await orphans.popleft().aclose()


async def in_thread(work: Callable[[], object]) -> object:
    """Run what may block in a worker thread; a cancelled caller does not wait for it."""
    (value,) = await anyio.to_thread.run_sync(  # in a tuple, as trio wants no coroutine from a thread
        lambda: (work(),), abandon_on_cancel=True
    )
    return value


class Race(Generic[Request, R]):
    """Two attempts of one call at the same time."""

    def __init__(self, task: Task[Request], perform: Perform[Request, R], here: Here) -> None:
        self.task = task
        self.perform = perform
        self.here = here
        self.call_off: Callable[[], None] = _nothing
        self.group: anyio.abc.TaskGroup = anyio.create_task_group()
        self.rescued: bool = False
        self.won: tuple[Attempt[Target], R] | None = None

    async def contend(self, attempt: Attempt[Target]) -> None:
        """Make one of the attempts, and stop the other if it succeeds."""
        task = self.task
        trace = task.trace_of(attempt)
        token = trace.attach()
        try:
            result = await self.perform(task, attempt)
        except Exception as error:
            task.fell(attempt, error)
        except BaseException:
            if self.won:
                task.overtaken(attempt)
            else:
                task.abandoned(attempt)
            raise
        else:
            if self.won:  # both succeeded in the same instant
                task.overtaken(attempt)
                await _discard(result)
            else:
                self.won = attempt, result
                if self.rescued:
                    self.group.cancel_scope.cancel()
        finally:
            trace.detach(token)

    async def rescue(self, first: Attempt[Target]) -> None:
        """Make the second attempt: the first one has been silent for long enough.  If there can be none now, perhaps
        there can be one later."""
        second = self.task.rescue(first)
        if second is not None:
            self.rescued = True
            await self.contend(second)
        elif first.rescue_after is not None:
            self.arm(first, max(0.0, first.started + first.rescue_after - self.task.owner.clock()))

    def arm(self, first: Attempt[Target], seconds: float) -> None:
        """Come to the rescue in so many seconds."""
        self.call_off = self.here.start_later(self.group, seconds, self.rescue, first)

    async def forget(self) -> None:
        """The call was cancelled in the instant in which one of them succeeded."""
        if self.won is not None:
            attempt, result = self.won
            self.task.abandoned(attempt)
            await _discard(result)


def _nothing() -> None:
    """There is nothing to call off yet."""


def _alone(error: BaseException) -> BaseException:
    """The exception itself where a task group wrapped it."""
    inside: Sequence[BaseException] = getattr(error, "exceptions", ())
    return _alone(inside[0]) if len(inside) == 1 else error


async def _discard(result: object) -> None:
    """Throw away what a loser brought."""
    if isinstance(result, AsyncOpenStream):
        await close(result.source)


class Within:
    """``anyio.fail_after`` as a class, at half its price: it is on the way of every call."""

    __slots__ = ("_scope",)

    def __init__(self, seconds: float) -> None:
        self._scope = anyio.CancelScope(deadline=anyio.current_time() + seconds)

    def __enter__(self) -> None:
        self._scope.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._scope.__exit__(kind, error, trace)
        if self._scope.cancelled_caught:  # nothing but its deadline cancels it
            raise TimeoutError


class Closable(Protocol):
    """What holds a connection."""

    async def aclose(self) -> None: ...


async def close(held: Closable) -> None:
    """Let go of a connection even if the caller is being cancelled, but not for ever; that it was broken is known
    already or does not matter any more."""
    if isinstance(held, AsyncAnswer) and held.spent:  # no waiting is left, and so no bound on it needed
        with suppress(Exception):
            await held.aclose()
        return
    with anyio.move_on_after(_CLOSE, shield=True), suppress(Exception):
        await held.aclose()


class AsyncSource(Protocol):
    """Where the pieces of a stream come from."""

    async def pull(self, reading: Reading, clock: Callable[[], float]) -> bool:
        """Fetch one more piece into the reading; false at the end."""
        ...

    def within(self, until: float) -> bool:
        """The next piece must arrive by this monotonic time; false if this source cannot see to it."""
        ...

    async def drain(self, until: float) -> None:
        """The answer is complete: take what little may follow, so that the connection can be used again."""
        ...

    def sever(self) -> None:
        """Cut it off at once without any lock, for finalisers."""
        ...

    async def aclose(self) -> None: ...


class AsyncHttpSource:
    """Bytes of an HTTP answer."""

    def __init__(self, answer: AsyncAnswer, limit: int) -> None:
        self._answer = answer
        self._limit = limit

    async def pull(self, reading: Reading, clock: Callable[[], float]) -> bool:
        data = await self._answer.chunk(self._limit)
        if data is None:
            reading.eof(clock())
            return False
        reading.feed(data, clock())
        return True

    def within(self, until: float) -> bool:
        self._answer.reads.until = until
        return self._answer.reads.bounded

    async def drain(self, until: float) -> None:
        self._answer.reads.until = until
        if self._answer.reads.bounded:
            with suppress(Exception):
                while await self._answer.chunk(self._limit) is not None:
                    pass

    def sever(self) -> None:
        self._answer.reads.sever()

    async def aclose(self) -> None:
        await self._answer.aclose()


class AsyncIteratorSource:
    """Pieces from a provider the user wrote, async or (in a worker thread) blocking."""

    def __init__(self, items: Iterator[object] | AsyncIterator[object]) -> None:
        self._items = items

    async def pull(self, reading: Reading, clock: Callable[[], float]) -> bool:
        item = await self._next()
        if item is _END:
            finish_items(reading, clock())
            return False
        feed_item(reading, item, clock())
        return True

    async def _next(self) -> object:
        items = self._items
        if isinstance(items, AsyncIterator):
            return await anext(items, _END)
        return await anyio.to_thread.run_sync(next, items, _END, abandon_on_cancel=True)

    def within(self, until: float) -> bool:
        return False

    async def drain(self, until: float) -> None:
        pass

    def sever(self) -> None:
        pass

    async def aclose(self) -> None:
        items: Any = self._items
        if hasattr(items, "aclose"):
            await items.aclose()
        elif hasattr(items, "close"):
            items.close()  # raises if it is running in its thread; it ends there then


_END = object()
_DRAIN = 0.05  # seconds an ended answer may take to let go of its connection


class AsyncOpenStream(Opened):
    """A stream from its first content on."""

    __slots__ = ("source",)

    def __init__(
        self, task: Task[ChatRequest], attempt: Attempt[Target], reading: Reading, source: AsyncSource
    ) -> None:
        super().__init__(task, attempt, reading)
        self.source: AsyncSource = source

    async def begin(self) -> None:
        """Read up to the first content.  Raises what prevents it."""
        reading, clock = self.reading, self.task.owner.clock
        self.source.within(self.until())
        while not reading.committed:
            more = await self.source.pull(reading, clock)
            check(reading)
            if not more:
                break
            self.punctual(self.until())
        self.committed()

    async def next(self) -> StreamEvent | None:
        """The next event; ``None`` at the end of the answer.  Raises ``StreamInterrupted`` if it breaks."""
        reading = self.reading
        if self.over:
            return None
        if not reading.ready and not reading.ended:
            await self.wait()
        if reading.ready:
            return reading.ready.popleft()
        await self.end()
        return None

    async def wait(self) -> None:
        """Read until there is something to hand over, or the end."""
        reading, clock = self.reading, self.task.owner.clock
        try:
            check(reading)
            reading.waiting(clock())
            while not reading.ready and not reading.ended:
                await self.pull_within(self.until())
                if not reading.ready:
                    check(reading)
                    self.punctual(self.until())
        except Exception as error:
            if self.over:  # closed meanwhile by somebody else, which is why the read failed
                return
            failure = self.broken(silence(error, reading))
            await close(self.source)
            raise failure from failure.__cause__
        except BaseException:
            await self.aclose()
            raise

    async def pull_within(self, until: float) -> None:
        """One more piece, in time.  A cancel scope per piece would cost more than the piece, so it is the exception."""
        if self.source.within(until):
            await self.source.pull(self.reading, self.task.owner.clock)
            return
        with anyio.fail_after(max(0.0, until - self.task.owner.clock())):
            await self.source.pull(self.reading, self.task.owner.clock)

    async def end(self) -> None:
        """The answer is complete and handed over."""
        if not self.over:
            try:
                await self.source.drain(self.task.owner.clock() + _DRAIN)
            finally:
                self.completed()
                await close(self.source)

    async def aclose(self) -> None:
        """Let go of the connection at once, whatever is left, also while another task reads from it."""
        self.closed()
        self.source.sever()
        await close(self.source)
