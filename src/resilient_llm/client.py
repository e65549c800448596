"""The face of the library: the two clients and their streams."""

from __future__ import annotations

import inspect
import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Generic, NoReturn, Self, TypedDict, TypeVar, cast

import httpx
from typing_extensions import Unpack

from resilient_llm.capability import OnUnsupported
from resilient_llm.decide.standing import Standing as ProviderHealth
from resilient_llm.drive.aio import AsyncDriver, AsyncOpenStream
from resilient_llm.drive.core import Listener, ProviderPool, Routes
from resilient_llm.drive.http import AsyncHttp, Http
from resilient_llm.drive.question import (
    CallOptions,
    ChatOptions,
    Messages,
    chat_request,
    embed_request,
    prompt_tokens,
)
from resilient_llm.drive.sync import Driver, OpenStream
from resilient_llm.drive.task import Task, as_fallback
from resilient_llm.errors import AttemptRecord, CallFailed, ClientClosed, ConfigurationError, InvalidRequest
from resilient_llm.model import (
    ChatRequest,
    ChatResponse,
    EmbedRequest,
    EmbedResponse,
    StreamEvent,
    TextDelta,
)
from resilient_llm.policy import Breaker, Health, Hedge, Limits, Policies, Retry, Stream, Timeouts, as_policy

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

__all__ = ["AsyncChatStream", "AsyncResilientClient", "Candidate", "ChatStream", "ProviderHealth", "ResilientClient"]


class ClientSettings(TypedDict, total=False):
    """How a client behaves; each policy is an object of ``resilient_llm.policy`` or a mapping of its fields.

    ``deadline``: seconds for a call that does not say otherwise (600, as in the vendors' SDKs; ``None``: no limit).
    ``name`` tells clients of one process apart in telemetry.  ``listeners`` are called with every event of
    ``resilient_llm.decide.events`` after the fact, on the thread where it happened; they must be quick and cannot
    be coroutine functions.  ``tracer_provider`` and ``meter_provider`` replace OpenTelemetry's global ones.
    ``on_unsupported`` says what to do about a provider that lacks a feature of a request: ``"skip"`` it (default),
    ``"degrade"`` the request and say so, or make it an ``"error"``; or a mapping of features to these.
    """

    deadline: float | None
    retry: Retry | Mapping[str, object]
    breaker: Breaker | Mapping[str, object]
    health: Health | Mapping[str, object]
    hedge: Hedge | Mapping[str, object]
    timeouts: Timeouts | Mapping[str, object]
    stream: Stream | Mapping[str, object]
    limits: Limits | Mapping[str, object]
    name: str
    listeners: Sequence[Listener] | None
    tracer_provider: TracerProvider | None
    meter_provider: MeterProvider | None
    on_unsupported: OnUnsupported


_SETTINGS = frozenset(ClientSettings.__annotations__)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One provider in the order it would be asked; ``reason`` says why it would not be (``None``: it would)."""

    provider: str
    model: str
    reason: str | None

    @property
    def eligible(self) -> bool:
        """Whether it would be asked."""
        return self.reason is None


class _Client:
    """What both clients offer that does not wait."""

    def __init__(self, providers: Routes | None, pool: ProviderPool | None, settings: ClientSettings) -> None:
        if (providers is None) == (pool is None):
            raise ConfigurationError("a client needs providers, or pool= of another client, and not both")
        if pool is not None and settings:
            raise ConfigurationError(f"{next(iter(settings))}= belongs to the pool and is set where that is made")
        for name in settings:
            if name not in _SETTINGS:
                raise ConfigurationError(f"a client has no setting {name!r}; it has {', '.join(sorted(_SETTINGS))}")
        self._pool = pool if pool is not None else _make_pool(cast(Routes, providers), settings)
        self._closed = False

    @property
    def pool(self) -> ProviderPool:
        """The providers and what is known about them; give it to another client to share both."""
        return self._pool

    def health(self) -> dict[str, ProviderHealth]:
        """Every provider as it stands now, by id: breaker, gates, score, latency, load.  Sends nothing."""
        pool = self._pool
        standings = pool.pool.snapshot(pool.clock())
        pool.deliver()
        return {standing.id: standing for standing in standings}

    def explain(self, messages: Messages | None = None, **options: Unpack[ChatOptions]) -> list[Candidate]:
        """Whom this call would ask, in which order, and why each other provider would not be asked.  Sends nothing."""
        request = chat_request(messages if messages is not None else "?", options, stream=False)
        needs = self._pool.needs(request, options)
        tokens = prompt_tokens(request)
        call = self._pool.begin(options, streaming=False, tokens=tokens, max_tokens=request.max_tokens, needs=needs)
        found = self._pool.pool.explain(call, self._pool.clock())
        self._pool.deliver()
        return [Candidate(target.id, target.model, reason) for target, reason in found]

    def drain(self, provider: str) -> int:
        """Send no new attempts to a provider; returns how many are still under way there.  :meth:`restore` undoes it.

        Raises ``ConfigurationError`` for an unknown id.
        """
        self._operate(provider, "drain")
        return self._pool.pool.in_flight(provider)

    def isolate(self, provider: str) -> None:
        """Hold a provider's breaker open by hand until :meth:`restore`."""
        self._operate(provider, "isolate")

    def restore(self, provider: str) -> None:
        """Undo :meth:`drain` and :meth:`isolate`, close an open breaker, and forget what speaks against the provider;
        traffic returns gradually."""
        self._operate(provider, "restore")

    def replace_providers(self, providers: Routes) -> tuple[str, ...]:
        """Use other providers from now on; what is known about those that stay (by id) is kept, and calls under way
        end undisturbed.

        Returns the ids that were removed.  Raises ``ConfigurationError`` and changes nothing if the new list is
        unusable.
        """
        routes = self._pool.targets(providers)
        self._check_targets(routes)
        removed = self._pool.pool.replace(routes, self._pool.clock())
        self._pool.forget_unused()
        self._pool.deliver()
        return removed

    def _check_targets(self, routes: object) -> None:
        """The sync client refuses what only the async one can use."""

    def _check_validate(self, validate: object) -> None:
        if validate is not None and not callable(validate):
            raise InvalidRequest(f"validate must be callable, not {validate!r}")

    def _check_fallback(self, fallback: object) -> None:
        if not isinstance(fallback, str | ChatResponse | None) and not callable(fallback):
            raise InvalidRequest(f"fallback must be text, a ChatResponse or a function of the error, not {fallback!r}")

    def _operate(self, provider: str, action: str) -> None:
        self._pool.pool.operate(provider, action, self._pool.clock())
        self._pool.deliver()

    def check_open(self) -> None:
        if self._closed:
            raise ClientClosed("the client is closed")

    def _chat_task(self, messages: Messages | ChatRequest, options: ChatOptions, *, stream: bool) -> Task[ChatRequest]:
        self.check_open()
        request = chat_request(messages, options, stream=stream)
        validate = options.get("validate")
        fallback = options.get("fallback")
        if stream and (validate is not None or fallback is not None):
            raise InvalidRequest("validate= and fallback= need a whole answer; use chat(), or handle StreamInterrupted")
        self._check_validate(validate)
        self._check_fallback(fallback)
        tokens = prompt_tokens(request)
        needs = self._pool.needs(request, options)
        call = self._pool.begin(options, streaming=stream, tokens=tokens, max_tokens=request.max_tokens, needs=needs)
        return Task(self._pool, request, call, validate, needs)

    def _embed_task(
        self, inputs: str | Sequence[str], dimensions: int | None, options: CallOptions
    ) -> Task[EmbedRequest]:
        self.check_open()
        request = embed_request(inputs, dimensions, options)
        tokens = sum(len(text) for text in request.inputs) // 4
        call = self._pool.begin(options, streaming=False, tokens=tokens, max_tokens=1)
        call.unsuitable = self._pool.other_spaces(call)
        return Task(self._pool, request, call)

    def __repr__(self) -> str:
        ids = ", ".join(target.id for target in self._pool.pool.targets())
        return f"<{type(self).__name__} {self._pool.name!r}: {ids}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} holds connections and credentials; make one in each process")


def _make_pool(providers: Routes, settings: ClientSettings) -> ProviderPool:
    policies = Policies(
        retry=as_policy(Retry, settings.get("retry")),
        breaker=as_policy(Breaker, settings.get("breaker")),
        health=as_policy(Health, settings.get("health")),
        hedge=as_policy(Hedge, settings.get("hedge")),
        timeouts=as_policy(Timeouts, settings.get("timeouts")),
        stream=as_policy(Stream, settings.get("stream")),
        limits=as_policy(Limits, settings.get("limits")),
    )
    return ProviderPool(
        providers,
        policies,
        name=settings.get("name", "default"),
        deadline=settings.get("deadline", 600.0),
        listeners=settings.get("listeners") or (),
        tracer_provider=settings.get("tracer_provider"),
        meter_provider=settings.get("meter_provider"),
        on_unsupported=settings.get("on_unsupported", "skip"),
    )


class ResilientClient(_Client):
    """Asks LLM providers and keeps getting answers while some of them fail.

    ``providers`` is a list in order of preference; a nested list is a tier of equals among which traffic is balanced;
    a mapping of names to such lists makes routes, the first being the default.  ``http_client``: an ``httpx.Client``
    (or httpx2 one) to use as it is, with its proxies, TLS, limits and default headers.  ``pool``: share the providers
    and health of another client.

    Safe for threads.  Use it as a context manager, or call :meth:`close`; one that is merely dropped closes its
    connections when it is collected.  Raises ``ConfigurationError`` for settings that make no sense; a constructor
    sends nothing.
    """

    def __init__(
        self,
        providers: Routes | None = None,
        *,
        http_client: httpx.Client | None = None,
        pool: ProviderPool | None = None,
        **settings: Unpack[ClientSettings],
    ) -> None:
        super().__init__(providers, pool, settings)
        self._check_targets([[self._pool.pool.targets()]])
        if http_client is not None and (
            not hasattr(http_client, "send") or inspect.iscoroutinefunction(http_client.send)
        ):
            raise ConfigurationError(f"http_client must be an httpx.Client, not {type(http_client).__name__}")
        self._driver = Driver(Http(http_client, self._pool.clock), self._pool.policies.stream.max_bytes)

    def chat(self, messages: Messages | ChatRequest, **options: Unpack[ChatOptions]) -> ChatResponse:
        """Ask for an answer.

        ``messages`` is a prompt, or a conversation of ``Message`` objects or dicts in OpenAI's shape; the options are
        those of ``ChatOptions``.  Raises ``InvalidRequest`` before anything is sent, and a ``CallFailed`` (with the
        trail of attempts) if no provider answered.  An exception that interrupts it (``KeyboardInterrupt``) changes
        nobody's health.
        """
        task = self._chat_task(messages, options, stream=False)
        try:
            while True:
                attempt, response = self._driver.run(task, self._driver.ask)
                if task.accept(attempt, response, task.verdict(attempt, response)):
                    return cast(ChatResponse, response)
        except CallFailed as failure:
            fallback = options.get("fallback")
            if fallback is None:
                raise
            return _checked(as_fallback(fallback(failure) if callable(fallback) else fallback, failure))

    def stream(self, messages: Messages | ChatRequest, **options: Unpack[ChatOptions]) -> ChatStream:
        """Ask for an answer piece by piece; see :class:`ChatStream`.  Nothing is sent before it is entered or
        iterated."""
        return ChatStream(self, self._driver, self._chat_task(messages, options, stream=True))

    def embed(
        self, inputs: str | Sequence[str], *, dimensions: int | None = None, **options: Unpack[CallOptions]
    ) -> EmbedResponse:
        """Vectors for texts, one each, in order.

        Fails over only between providers that declare the same ``embedding_space``: vectors of different models do
        not mix.
        """
        task = self._embed_task(inputs, dimensions, options)
        attempt, response = self._driver.run(task, self._driver.ask)
        task.accept(attempt, response)
        return cast(EmbedResponse, response)

    def close(self) -> None:
        """Close the connections.  Calls made later raise ``ClientClosed``.  An ``http_client`` you passed stays
        open."""
        self._closed = True
        self._driver.bury()
        self._driver.http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_targets(self, routes: object) -> None:
        for target in self._pool.flattened(routes):
            if target.needs_loop:
                raise ConfigurationError(f"{target!r} needs an event loop; use AsyncResilientClient")

    def _check_validate(self, validate: object) -> None:
        super()._check_validate(validate)
        if inspect.iscoroutinefunction(validate):
            raise InvalidRequest("validate is a coroutine function, which only AsyncResilientClient can use")

    def _check_fallback(self, fallback: object) -> None:
        super()._check_fallback(fallback)
        if inspect.iscoroutinefunction(fallback):
            raise InvalidRequest("fallback is a coroutine function, which only AsyncResilientClient can use")


class AsyncResilientClient(_Client):
    """The same as :class:`ResilientClient` for asyncio and trio; one object may serve several event loops.

    Blocking providers you wrote run in worker threads.  Use it as an async context manager, or call :meth:`aclose`: one
    that is merely dropped cannot wait, and its idle connections end in a ``ResourceWarning`` where these are shown.
    """

    def __init__(
        self,
        providers: Routes | None = None,
        *,
        http_client: httpx.AsyncClient | None = None,
        pool: ProviderPool | None = None,
        **settings: Unpack[ClientSettings],
    ) -> None:
        super().__init__(providers, pool, settings)
        if http_client is not None and not inspect.iscoroutinefunction(getattr(http_client, "send", None)):
            raise ConfigurationError(f"http_client must be an httpx.AsyncClient, not {type(http_client).__name__}")
        self._driver = AsyncDriver(AsyncHttp(http_client, self._pool.clock), self._pool.policies.stream.max_bytes)

    async def chat(self, messages: Messages | ChatRequest, **options: Unpack[ChatOptions]) -> ChatResponse:
        """Ask for an answer; see :meth:`ResilientClient.chat`.  Cancelling it closes the connection and judges nobody.

        ``validate`` and ``fallback`` may also be coroutine functions.
        """
        task = self._chat_task(messages, options, stream=False)
        try:
            while True:
                attempt, response = await self._driver.run(task, self._driver.ask)
                verdict = await task.awaited(attempt, task.verdict(attempt, response))
                if task.accept(attempt, response, verdict):
                    return cast(ChatResponse, response)
        except CallFailed as failure:
            fallback = options.get("fallback")
            if fallback is None:
                raise
            value: object = fallback(failure) if callable(fallback) else fallback
            return _checked(as_fallback(await value if inspect.isawaitable(value) else value, failure))

    def stream(self, messages: Messages | ChatRequest, **options: Unpack[ChatOptions]) -> AsyncChatStream:
        """Ask for an answer piece by piece; see :class:`AsyncChatStream`.  Nothing is sent before it is entered or
        iterated."""
        return AsyncChatStream(self, self._driver, self._chat_task(messages, options, stream=True))

    async def embed(
        self, inputs: str | Sequence[str], *, dimensions: int | None = None, **options: Unpack[CallOptions]
    ) -> EmbedResponse:
        """Vectors for texts, one each, in order; see :meth:`ResilientClient.embed`."""
        task = self._embed_task(inputs, dimensions, options)
        attempt, response = await self._driver.run(task, self._driver.ask)
        task.accept(attempt, response)
        return cast(EmbedResponse, response)

    async def aclose(self) -> None:
        """Close the connections of this event loop.  Calls made later raise ``ClientClosed``."""
        self._closed = True
        await self._driver.bury()
        await self._driver.http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


O = TypeVar("O", OpenStream, AsyncOpenStream)  # noqa: E741


_READ_ELSEWHERE = "the stream is being read elsewhere; read it in one place, and pass on what comes"


class _Streamed(Generic[O]):
    """What both kinds of stream tell about themselves."""

    _opened: O | None
    _task: Task[ChatRequest]

    @property
    def response(self) -> ChatResponse:
        """The answer: whole after the last event, and what there is of it (``finish_reason`` "error") before.

        Raises ``RuntimeError`` before the first event.
        """
        return self._started().response()

    @property
    def provider(self) -> str:
        """The id of the provider that answers.  Raises ``RuntimeError`` before the first event."""
        return self._started().attempt.member.id

    @property
    def attempts(self) -> tuple[AttemptRecord, ...]:
        """The attempts that have ended so far; the one that answers is added when the stream ends."""
        return tuple(self._task.call.records)

    def _started(self) -> O:
        if self._opened is None:
            raise RuntimeError("the stream has not started; enter it or iterate over it first")
        return self._opened

    def _orphaned(self) -> bool:
        """Whether a stream that began was dropped without being closed; if so, cut its connection and return its
        lease, both without taking a lock: a finaliser may run on the very thread that holds it."""
        opened = self._opened
        if opened is None or opened.over:
            return False
        opened.source.sever()
        self._task.owner.pool.abandon_later(opened.attempt)
        return True


class ChatStream(_Streamed[OpenStream]):
    """An answer piece by piece.  Iterate over it for typed events, or over :meth:`text_deltas`; best inside ``with``.

    It begins when it is entered or first iterated; until its first content, failures move on to other providers
    unseen, and raise a ``CallFailed`` if nobody answers.  Later it either completes or raises ``StreamInterrupted``
    with the partial answer: it is never silently short and never repeats itself.  One reader at a time: a second one
    gets a ``RuntimeError`` and disturbs nobody.  Leaving early, closing and dropping it end the generation upstream
    at once and judge nobody.
    """

    def __init__(self, client: _Client, driver: Driver, task: Task[ChatRequest]) -> None:
        self._client = client
        self._driver = driver
        self._task = task
        self._opened: OpenStream | None = None
        self._closed = False
        self._reader = threading.Lock()

    def __iter__(self) -> Iterator[StreamEvent]:
        return self

    def __next__(self) -> StreamEvent:
        if self._closed:
            raise StopIteration
        if not self._reader.acquire(blocking=False):
            raise RuntimeError(_READ_ELSEWHERE)
        try:
            event = (self._opened or self._open()).next()
        finally:
            self._reader.release()
        if event is None:
            self._closed = True
            raise StopIteration
        return event

    def text_deltas(self) -> Iterator[str]:
        """The pieces of the answer's text; of several (``n=``), the first one's, as in ``response.text``."""
        for event in self:
            if type(event) is TextDelta and event.text and not event.choice:
                yield event.text

    def close(self) -> None:
        """End the generation.  Does nothing the second time."""
        self._closed = True
        if self._opened is not None:
            self._opened.close()

    def _open(self) -> OpenStream:
        self._client.check_open()
        try:
            _, opened = self._driver.run(self._task, self._driver.open)
        except BaseException:
            self._closed = True
            raise
        self._opened = opened
        if self._closed:  # by another thread, meanwhile
            opened.close()
        return opened

    def __enter__(self) -> Self:
        if self._opened is None and not self._closed:
            if not self._reader.acquire(blocking=False):
                raise RuntimeError(_READ_ELSEWHERE)
            try:
                self._open()
            finally:
                self._reader.release()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        with suppress(Exception):
            if self._orphaned() and self._opened is not None:
                self._driver.orphans.append(self._opened)


class AsyncChatStream(_Streamed[AsyncOpenStream]):
    """The same as :class:`ChatStream` for asyncio and trio; best inside ``async with``."""

    def __init__(self, client: _Client, driver: AsyncDriver, task: Task[ChatRequest]) -> None:
        self._client = client
        self._driver = driver
        self._task = task
        self._opened: AsyncOpenStream | None = None
        self._closed = False
        self._reader = threading.Lock()

    def __aiter__(self) -> AsyncIterator[StreamEvent]:
        return self

    async def __anext__(self) -> StreamEvent:
        if self._closed:
            raise StopAsyncIteration
        if not self._reader.acquire(blocking=False):
            raise RuntimeError(_READ_ELSEWHERE)
        try:
            event = await (self._opened or await self._open()).next()
        finally:
            self._reader.release()
        if event is None:
            self._closed = True
            raise StopAsyncIteration
        return event

    def text_deltas(self) -> AsyncTextDeltas:
        """The pieces of the answer's text; of several (``n=``), the first one's, as in ``response.text``."""
        return AsyncTextDeltas(self)

    async def aclose(self) -> None:
        """End the generation.  Does nothing the second time."""
        self._closed = True
        if self._opened is not None:
            await self._opened.aclose()

    async def _open(self) -> AsyncOpenStream:
        self._client.check_open()
        try:
            _, opened = await self._driver.run(self._task, self._driver.open)
        except BaseException:
            self._closed = True
            raise
        self._opened = opened
        self._orphans = self._driver.http.here().orphans
        if self._closed:  # by another task, meanwhile
            await opened.aclose()
        return opened

    async def __aenter__(self) -> Self:
        if self._opened is None and not self._closed:
            if not self._reader.acquire(blocking=False):
                raise RuntimeError(_READ_ELSEWHERE)
            try:
                await self._open()
            finally:
                self._reader.release()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        with suppress(Exception):
            if self._orphaned() and self._opened is not None:
                self._orphans.append(self._opened)


class AsyncTextDeltas:
    """The text of an :class:`AsyncChatStream`.  A class rather than an async generator: leaving it early leaves
    nothing suspended."""

    def __init__(self, stream: AsyncChatStream) -> None:
        self._stream = stream

    def __aiter__(self) -> AsyncIterator[str]:
        return self

    async def __anext__(self) -> str:
        while True:
            event = await self._stream.__anext__()
            if type(event) is TextDelta and event.text and not event.choice:
                return event.text


def _checked(value: object) -> ChatResponse:
    if not isinstance(value, ChatResponse):
        raise TypeError(f"fallback= must be or return text or a ChatResponse, not {type(value).__name__}")
    return value
