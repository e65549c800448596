"""Providers that answer from a script, without a socket; providers with faults around them; and time that takes none.

For tests of what *you* build on a client: how often it asks, what it does with a partial answer, what it tells users
when nobody answers.  For the client itself use real sockets (:class:`~resilient_llm.testing.LoopbackLLM`): resets and
half-open streams exist only there.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from itertools import chain
from typing import TypeAlias, TypeVar, cast, final

from typing_extensions import override

from resilient_llm.errors import ConfigurationError, ProviderError
from resilient_llm.model import (
    ChatRequest,
    ChatResponse,
    EmbedRequest,
    EmbedResponse,
    StreamBroken,
    StreamEnd,
    StreamEvent,
    TextDelta,
    Usage,
)
from resilient_llm.providers.base import HttpProvider
from resilient_llm.providers.custom import AsyncProvider, Custom, Function, Provider, as_answer
from resilient_llm.testing._answers import vector_of
from resilient_llm.testing._performance import Alteration, Pace, Step, latency_of, performed, words_of
from resilient_llm.testing.clock import ManualClock
from resilient_llm.testing.faults import Faults, FaultsLike, Mishap, SlowTokens, as_faults
from resilient_llm.testing.script import Behaviour, Close, EndlessHeaders, Hang, Raw, Reply, Reset, Status, StreamFault
from resilient_llm.wire.kit.accumulate import Accumulator, replay

__all__ = ["AsyncFaultyProvider", "AsyncScriptedProvider", "FaultyProvider", "ScriptedProvider", "ScriptStep"]

T = TypeVar("T")
Played: TypeAlias = str | Behaviour | ChatResponse | EmbedResponse | Exception | tuple[str | StreamEvent, ...]
"""One answer of a script: text; ``Reply``, ``Status``, ``Hang``, ``Close`` or ``Reset``; a response; an exception to
raise; the pieces of a stream.  To a request for embeddings, an ``EmbedResponse``; any other answer stands for vectors
made of the texts, equal texts getting equal ones."""
ScriptStep: TypeAlias = Played | Callable[[ChatRequest], Played]
"""Or a function of the request that returns one.  An exception it raises itself, other than a ``ProviderError`` or an
``OSError``, is a mistake in the test and reaches the caller as ``ConfigurationError``."""

_REPLACING = (Reply, Status, Hang, Close, Reset, Raw, EndlessHeaders)


# --- from a script -----------------------------------------------------------------------------------------


class _Scripted:
    def __init__(
        self,
        *script: ScriptStep,
        id: str = "scripted",  # noqa: A002 - the word for it everywhere in this library
        model: str = "",
        default: ScriptStep | None = None,
    ) -> None:
        self._id = id
        self.model: str = model or id
        self._default: ScriptStep | None = None if default is None else _step(default)
        self.requests: list[ChatRequest] = []
        """Every request so far, oldest first."""
        self.embed_requests: list[EmbedRequest] = []
        """Every request for embeddings so far."""
        self.embedding_space: str | None = None
        """See ``ProviderOptions``."""
        self.clock: ManualClock | None = None
        """Where the script's waits are spent; ``None``: in real time."""
        self._script = deque(map(_step, script))
        self._scripted = bool(script)
        self._lock = threading.Lock()

    @property
    def default(self) -> ScriptStep:
        """What happens to requests beyond the script.

        As long as it is not set, a provider without a script answers with a short reply, and one whose script is used
        up fails the test.
        """
        return Reply() if self._default is None else self._default

    @default.setter
    def default(self, step: ScriptStep) -> None:
        self._default = _step(step)

    @property
    def id(self) -> str:
        """Its name in health, trails and telemetry."""
        return self._id

    @property
    def request_count(self) -> int:
        """How often it was asked."""
        return len(self.requests) + len(self.embed_requests)

    @property
    def script_left(self) -> int:
        """How many steps nobody has met yet."""
        return len(self._script)

    def script(self, *steps: ScriptStep) -> None:
        """Append to what the next requests get, one each and in this order."""
        self._script.extend(map(_step, steps))
        self._scripted = self._scripted or bool(steps)

    def _steps(self, request: ChatRequest, *, stream: bool) -> Iterator[Step]:
        with self._lock:
            self.requests.append(request)
            step = self._script.popleft() if self._script else self._beyond()
        return _played(_asked(step, request), stream)

    def _embed_steps(self, request: EmbedRequest) -> Iterator[float | EmbedResponse]:
        """Waits, and then the answer."""
        with self._lock:
            self.embed_requests.append(request)
            step = self._script.popleft() if self._script else self._beyond()
        played = _asked(step, request)
        if isinstance(played, EmbedResponse):
            yield played
            return
        for part in _played(played, stream=False):
            if isinstance(part, StreamBroken):
                raise ConnectionError(part.reason)
            if isinstance(part, int | float):
                yield part
        vectors = tuple(tuple(vector_of(text, request.dimensions or 8)) for text in request.inputs)
        yield EmbedResponse(vectors, usage=Usage(sum(len(text) // 4 + 1 for text in request.inputs)))

    def _beyond(self) -> ScriptStep:
        """Raises ``ConfigurationError``, which reaches the test, where a script is used up."""
        if self._default is None and self._scripted:
            told = f"request {self.request_count} to {self._id!r} finds the script used up"
            raise ConfigurationError(f"{told}; add a step to it, or give default=")
        return self.default

    @override
    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._id!r}: {self.request_count} requests, {self.script_left} steps left>"


@final
class ScriptedProvider(_Scripted):
    """Answers from a script; for both clients (in the async one, from a worker thread).

    Every request takes the next step, see ``ScriptStep``.  Beyond the script, ``default`` applies; without one, a
    request too many is a ``ConfigurationError``, which no failover hides.  Without any script it answers with a short
    reply.
    Waits of the script take no time inside :func:`~resilient_llm.testing.instant`.  Safe for threads.
    """

    def chat(self, request: ChatRequest, *, timeout: float) -> ChatResponse:
        """The next step as a whole answer."""
        pace = Pace(timeout, self.clock)
        return _collected(_waited(self._steps(request, stream=False), pace))

    def stream(self, request: ChatRequest, *, timeout: float) -> Iterator[StreamEvent]:
        """The next step as a stream."""
        return _waited(self._steps(request, stream=True), Pace(timeout, self.clock))

    def embed(self, request: EmbedRequest, *, timeout: float) -> EmbedResponse:
        """The next step as an answer to a request for embeddings."""
        pace = Pace(timeout, self.clock)
        for step in self._embed_steps(request):
            if isinstance(step, EmbedResponse):
                return step
            pace.sleep(step)
        raise AssertionError("there is always an answer")


@final
class AsyncScriptedProvider(_Scripted):
    """The same for the async client, on asyncio and trio."""

    async def chat(self, request: ChatRequest, *, timeout: float) -> ChatResponse:  # noqa: ASYNC109
        """The next step as a whole answer."""
        return await _whole(self._steps(request, stream=False), Pace(timeout, self.clock))

    def stream(self, request: ChatRequest, *, timeout: float) -> AsyncIterator[StreamEvent]:
        """The next step as a stream."""
        return _Waited(self._steps(request, stream=True), Pace(timeout, self.clock))

    async def embed(self, request: EmbedRequest, *, timeout: float) -> EmbedResponse:  # noqa: ASYNC109
        """The next step as an answer to a request for embeddings."""
        pace = Pace(timeout, self.clock)
        for step in self._embed_steps(request):
            if isinstance(step, EmbedResponse):
                return step
            await pace.sleep_async(step)
        raise AssertionError("there is always an answer")


def _played(step: Played, stream: bool) -> Iterator[Step]:
    if isinstance(step, str):
        step = Reply(step)
    if isinstance(step, Exception):
        raise step
    if isinstance(step, EmbedResponse):
        raise ConfigurationError("the script has an EmbedResponse for a request that is none for embeddings")
    if isinstance(step, ChatResponse):
        yield from replay(step)
    elif isinstance(step, tuple):
        yield from _complete(step)
    else:
        yield from performed(step, stream=stream)


_HOLDS = (
    "text, Reply, Status, Hang, Close, Reset, a ChatResponse, an exception, a tuple of the pieces of a stream, or a "
    "function of the request that returns one of these"
)


def _step(step: object) -> ScriptStep:
    """A step, if it is one."""
    if callable(step) and not isinstance(step, type):
        return cast("Callable[[ChatRequest], Played]", step)
    return _answer(step, "a script cannot hold")


def _answer(step: object, cannot: str) -> Played:
    if isinstance(step, str | ChatResponse | EmbedResponse | Exception):
        return step
    if isinstance(step, Raw | EndlessHeaders):
        raise ConfigurationError(f"{cannot} {step!r}, which needs a wire; use LoopbackLLM or FaultyTransport")
    if isinstance(step, _REPLACING):
        return step
    if isinstance(step, tuple):
        return _pieces(cast("tuple[object, ...]", step), cannot)
    if isinstance(step, list):
        remedy = "the pieces of a stream are a tuple; several steps are several arguments"
    elif isinstance(step, type):
        remedy = f"{step.__name__} is a class, say {step.__name__}(...)"
    elif isinstance(step, StreamFault):
        remedy = f"it strikes inside an answer: Reply(fault={step!r})"
    else:
        remedy = f"what it can: {_HOLDS}"
    raise ConfigurationError(f"{cannot} {step!r}; {remedy}")


def _pieces(pieces: tuple[object, ...], cannot: str) -> tuple[str | StreamEvent, ...]:
    for piece in pieces:
        if not isinstance(piece, str | StreamEvent):
            raise ConfigurationError(f"{cannot} {pieces!r}; pieces are texts and events, and {piece!r} is neither")
    return cast("tuple[str | StreamEvent, ...]", pieces)


def _asked(step: ScriptStep, request: ChatRequest | EmbedRequest) -> Played:
    """What a function of a script says.  One that breaks is a mistake in the test, and no provider's failure."""
    if not callable(step):
        return step
    name = getattr(step, "__qualname__", repr(step))
    try:
        answer: object = step(cast(ChatRequest, request))
    except (ProviderError, OSError, ConfigurationError):
        raise
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        raise ConfigurationError(
            f"the script's function {name} raised {what}; to script a failure, return the exception"
        ) from error
    return _answer(answer, f"the script's function {name} must not return")


def _complete(pieces: Iterable[str | StreamEvent]) -> Iterator[Step]:
    last: StreamEvent | None = None
    for piece in pieces:
        last = TextDelta(piece) if isinstance(piece, str) else piece
        yield last
    if not isinstance(last, StreamEnd | StreamBroken):
        yield StreamEnd()


def _waited(steps: Iterable[Step], pace: Pace) -> Iterator[StreamEvent]:
    for step in steps:
        if isinstance(step, int | float):
            pace.sleep(step)
        else:
            pace.renew()
            yield step


class _Waited:
    """Steps as an async stream.  A class: leaving it early leaves nothing suspended."""

    def __init__(self, steps: Iterator[Step], pace: Pace) -> None:
        self._steps = steps
        self._pace = pace

    def __aiter__(self) -> AsyncIterator[StreamEvent]:
        return self

    async def __anext__(self) -> StreamEvent:
        while True:
            step = next(self._steps, None)
            if step is None:
                if not await self._more():
                    raise StopAsyncIteration
            elif isinstance(step, int | float):
                await self._pace.sleep_async(step)
            else:
                self._pace.renew()
                return step

    async def _more(self) -> bool:
        """Find further steps; false if there are none."""
        return False

    async def aclose(self) -> None:
        """Let go of what is beneath."""


async def _whole(steps: Iterator[Step], pace: Pace) -> ChatResponse:
    return _collected([event async for event in _Waited(steps, pace)])


def _collected(events: Iterable[StreamEvent]) -> ChatResponse:
    accumulator = Accumulator()
    for event in events:
        if isinstance(event, StreamBroken):
            raise ConnectionError(event.reason)
        accumulator.add(event)
    return accumulator.response()


# --- with faults around it ---------------------------------------------------------------------------------


class _Faulty:
    def __init__(self, provider: Provider | AsyncProvider | Function, faults: FaultsLike) -> None:
        self._inner = Custom(_yours(provider, type(self).__name__))
        if self._inner.is_async is not isinstance(self, AsyncFaultyProvider):
            right = "AsyncFaultyProvider" if self._inner.is_async else "FaultyProvider"
            raise ConfigurationError(f"{provider!r} {'is' if self._inner.is_async else 'is not'} async; use {right}")
        self.provider = provider
        """The one inside."""
        self.faults: Faults = as_faults(faults)
        for line in self.faults.schedule:
            if isinstance(line.mishap, Raw | EndlessHeaders):
                raise ConfigurationError(f"{type(line.mishap).__name__} needs a wire; this provider has none")
        self.model: str = self._inner.model
        self.weight: float = self._inner.weight
        self.max_concurrency: int | None = self._inner.max_concurrency
        self.context_window: int | None = self._inner.context_window
        self.tags: frozenset[str] = self._inner.tags
        self.embedding_space: str | None = self._inner.embedding_space
        self.clock: ManualClock | None = None
        """Where the waits are spent; ``None``: in real time."""

    @property
    def id(self) -> str:
        """That of the provider inside."""
        return self._inner.id

    @override
    def __repr__(self) -> str:
        return f"<{type(self).__name__} around {self.provider!r}>"


def _yours(provider: object, kind: str) -> Provider | AsyncProvider | Function:
    """Refuse what only :func:`~resilient_llm.testing.inject` can strike, and what is no provider."""
    if isinstance(provider, HttpProvider):
        raise ConfigurationError(
            f"{provider.id!r} is reached over HTTP and has no chat() to go around; "
            f"use inject(client, {{{provider.id!r}: ...}})"
        )
    if isinstance(provider, Function | Provider) and not isinstance(provider, type):
        return provider
    raise ConfigurationError(f"{kind} goes around a provider (with id and chat()) or a Function, not {provider!r}")


@final
class FaultyProvider(_Faulty):
    """A provider you wrote (or a ``Function``), with mishaps around it.

    ``faults`` is a :class:`Faults`, the lines of one, or one mishap for every attempt.  It has the id and attributes of
    the provider inside.  For providers reached over HTTP, see :func:`~resilient_llm.testing.inject`.
    """

    def chat(self, request: ChatRequest, *, timeout: float) -> ChatResponse:
        """The provider's answer, or what the schedule makes of it."""
        mishap, pace = self.faults.next(), Pace(timeout, self.clock, self.faults.withdrawn)
        if isinstance(mishap, _REPLACING):
            return _collected(_waited(performed(mishap, stream=False), pace))
        if mishap is not None:
            pace.sleep(latency_of(mishap))
        answer = as_answer(self._inner.start(request, timeout, stream=False))
        whole = answer if isinstance(answer, ChatResponse) else _collected(_complete(_items(answer)))  # type: ignore[arg-type]
        if isinstance(mishap, SlowTokens):
            pace.sleep(mishap.interval * words_of(whole))
        elif isinstance(mishap, StreamFault):
            return _collected(_waited(_altered(replay(whole), mishap, stream=False), pace))
        return whole

    def stream(self, request: ChatRequest, *, timeout: float) -> Iterator[StreamEvent]:
        """The provider's stream, or what the schedule makes of it."""
        mishap, pace = self.faults.next(), Pace(timeout, self.clock, self.faults.withdrawn)
        if isinstance(mishap, _REPLACING):
            yield from _waited(performed(mishap, stream=True), pace)
            return
        if mishap is not None:
            pace.sleep(latency_of(mishap))
        answer = as_answer(self._inner.start(request, timeout, stream=True))
        events = iter(replay(answer)) if isinstance(answer, ChatResponse) else _items(answer)
        try:
            yield from _waited(_altered(_complete(events), mishap, stream=True), pace)  # type: ignore[arg-type]
        finally:
            close = getattr(answer, "close", None)
            if close is not None:
                close()


@final
class AsyncFaultyProvider(_Faulty):
    """The same around an async provider."""

    async def chat(self, request: ChatRequest, *, timeout: float) -> ChatResponse:  # noqa: ASYNC109
        """The provider's answer, or what the schedule makes of it."""
        mishap, pace = self.faults.next(), Pace(timeout, self.clock, self.faults.withdrawn)
        if isinstance(mishap, _REPLACING):
            return await _whole(performed(mishap, stream=False), pace)
        if mishap is not None:
            await pace.sleep_async(latency_of(mishap))
        answer = await self.answer(request, timeout, stream=False)
        whole = answer if isinstance(answer, ChatResponse) else _collected([event async for event in _Altered(answer)])
        if isinstance(mishap, SlowTokens):
            await pace.sleep_async(mishap.interval * words_of(whole))
        elif isinstance(mishap, StreamFault):
            return await _whole(_altered(replay(whole), mishap, stream=False), pace)
        return whole

    def stream(self, request: ChatRequest, *, timeout: float) -> AsyncIterator[StreamEvent]:
        """The provider's stream, or what the schedule makes of it."""
        return _AsyncStream(self, request, timeout)

    async def answer(
        self,
        request: ChatRequest,
        timeout: float,  # noqa: ASYNC109 - a limit to respect
        *,
        stream: bool,
    ) -> ChatResponse | AsyncIterator[object]:
        """What the provider inside says."""
        value = self._inner.start(request, timeout, stream=stream)
        if isinstance(value, Awaitable):
            value = await cast("Awaitable[object]", value)
        answer = as_answer(value)
        return answer if isinstance(answer, ChatResponse | AsyncIterator) else _Slowly(_items(answer))


class _Altered(_Waited):
    """The items of a provider's stream as events, changed on their way."""

    def __init__(
        self, items: AsyncIterator[object] | None, pace: Pace | None = None, alteration: Alteration | None = None
    ) -> None:
        super().__init__(iter(()), pace or Pace(0, None))
        self._items = items
        self._alteration = alteration

    @override
    async def _more(self) -> bool:
        if self._items is None:
            return False
        alteration = self._alteration
        item = await anext(self._items, _END)
        if item is _END:
            self._items = None
            self._steps = iter(()) if alteration is None else alteration.finish()
        else:
            events = _events(item)
            self._steps = iter(events) if alteration is None else chain.from_iterable(map(alteration.take, events))
        return True


@final
class _AsyncStream(_Altered):
    """A stream that has not asked yet."""

    def __init__(self, provider: AsyncFaultyProvider, request: ChatRequest, timeout: float) -> None:
        super().__init__(None, Pace(timeout, provider.clock, provider.faults.withdrawn))
        self._provider: AsyncFaultyProvider | None = provider
        self._request = request
        self._timeout = timeout
        self._beneath: object = None

    @override
    async def _more(self) -> bool:
        provider, self._provider = self._provider, None
        if provider is None:
            return await super()._more()
        mishap = provider.faults.next()
        if isinstance(mishap, _REPLACING):
            self._steps = performed(mishap, stream=True)
            return True
        if mishap is not None:
            await self._pace.sleep_async(latency_of(mishap))
            self._alteration = Alteration(mishap, stream=True)
        answer = await provider.answer(self._request, self._timeout, stream=True)
        self._beneath = answer
        self._items = _Slowly(iter(replay(answer))) if isinstance(answer, ChatResponse) else answer
        return True

    @override
    async def aclose(self) -> None:
        close = getattr(self._beneath, "aclose", None)
        if close is not None:
            await close()


class _Slowly:
    """An iterator as an async one."""

    def __init__(self, items: Iterator[object]) -> None:
        self._items = items

    def __aiter__(self) -> AsyncIterator[object]:
        return self

    async def __anext__(self) -> object:
        item = next(self._items, _END)
        if item is _END:
            raise StopAsyncIteration
        return item


_END = object()


def _events(item: object) -> tuple[StreamEvent, ...]:
    if isinstance(item, str):
        return (TextDelta(item),) if item else ()
    assert isinstance(item, StreamEvent)
    return (item,)


def _items(items: object) -> Iterator[object]:
    assert isinstance(items, Iterator)
    return cast("Iterator[object]", items)


def _altered(events: Iterable[Step], mishap: Mishap | None, *, stream: bool) -> Iterator[Step]:
    if mishap is None:
        yield from events
        return
    alteration = Alteration(mishap, stream=stream)
    for event in events:
        if isinstance(event, int | float):
            yield event
        else:
            yield from alteration.take(event)
    yield from alteration.finish()
