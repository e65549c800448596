"""The face of the library: the two clients and their streams."""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence, Sized
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Self, TypedDict, TypeVar, Unpack, cast, overload

from resilient_llm.batch.part import part_of, part_of_async
from resilient_llm.batch.settings import (
    MOST_TASKS,
    MOST_THREADS,
    MapOptions,
    UntypedMapOptions,
    call_options,
    map_keywords,
    split,
)
from resilient_llm.batch.together import answers, answers_async
from resilient_llm.capability import OnUnsupported
from resilient_llm.decide.attempt import Ask
from resilient_llm.drive.core import Listener, ProviderPool, Routes
from resilient_llm.drive.engines import AsyncEngine, Engine, Seam, async_engines, refusal, sync_engine
from resilient_llm.drive.fork import imported
from resilient_llm.drive.observer import Later, Observer
from resilient_llm.drive.spending import priced
from resilient_llm.drive.sync import Driver, OpenStream
from resilient_llm.drive.task import Task
from resilient_llm.errors import AttemptRecord, CallFailed, ClientClosed, ConfigurationError, InvalidRequest
from resilient_llm.health import ProviderHealth
from resilient_llm.keywords import Explicit, Shown, explicit, unknown
from resilient_llm.model import (
    ChatRequest,
    ChatResponse,
    EmbedRequest,
    EmbedResponse,
    ParsedResponse,
    StreamEvent,
    Text,
    TextDelta,
)
from resilient_llm.options import (
    CallOptions,
    ChatOptions,
    EmbedInputs,
    Messages,
    UntypedChatOptions,
    answer_check,
    call_keywords,
    chat_keywords,
    chat_request,
    check_call,
    embed_request,
    output_class,
    prompt_tokens,
    seconds,
    stream_keywords,
)
from resilient_llm.policy import Advanced, Breaker, Hedge, Limits, Policies, Retry, Stream, Timeouts, as_policy
from resilient_llm.providers.base import HttpProvider
from resilient_llm.providers.embedding import joined, parts_of, smallest, text_tokens
from resilient_llm.providers.secrecy import Secrets, secrets_in_headers
from resilient_llm.typed import Typed

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Iterable

    import httpx
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from resilient_llm.batch.prompts import Prompt
    from resilient_llm.batch.tasks import AsyncMap
    from resilient_llm.batch.threads import Map
    from resilient_llm.batch.work import Work
    from resilient_llm.drive.aio import AsyncDriver, AsyncOpenStream
    from resilient_llm.record import DecisionRecord

__all__ = ["AsyncChatStream", "AsyncResilientClient", "Candidate", "ChatStream", "ProviderHealth", "ResilientClient"]


T = TypeVar("T")


class ClientSettings(TypedDict, total=False):
    """How a client behaves; :data:`SETTINGS` says what each keyword means."""

    deadline: float | None
    retry: Retry | Mapping[str, object]
    breaker: Breaker | Mapping[str, object]
    hedge: Hedge | Mapping[str, object]
    timeouts: Timeouts | Mapping[str, object]
    stream: Stream | Mapping[str, object]
    limits: Limits | Mapping[str, object]
    advanced: Advanced | Mapping[str, object]
    name: str
    listeners: Sequence[Listener] | None
    tracer_provider: TracerProvider | None
    meter_provider: MeterProvider | None
    on_unsupported: OnUnsupported
    record: bool


SETTINGS: Mapping[str, str] = {
    "deadline": "seconds for a call that does not say otherwise (600, as in the vendors' SDKs); None: no limit",
    "retry": "a Retry, or a mapping of its fields: attempts, backoff, budgets",
    "breaker": "a Breaker, or a mapping of its fields: when a failing provider is left alone, and for how long",
    "hedge": "a Hedge, or a mapping of its fields: when a second provider is asked beside a late one",
    "timeouts": "a Timeouts, or a mapping of its fields: to connect, to the first token, between tokens",
    "stream": "a Stream, or a mapping of its fields: what streams hold back, how long an answer may be",
    "limits": "a Limits, or a mapping of its fields: requests under way and in line",
    "advanced": "an Advanced, or a mapping of its fields: what hardly anybody needs to change",
    "name": "tells the clients of one process apart in telemetry",
    "listeners": "functions called with each event, at once and in the thread where it happened; quick, not async",
    "tracer_provider": "replaces OpenTelemetry's global one",
    "meter_provider": "replaces OpenTelemetry's global one",
    "on_unsupported": "a provider lacks what a call needs: 'skip' it, 'degrade' the request, 'error', or a mapping",
    "record": "True: write down how each call is decided; see last_record()",
}
"""What each setting of a client means, in one line; ``help(ResilientClient)`` shows them."""

_SETTINGS = frozenset(SETTINGS)
_POLICIES = ("retry", "breaker", "hedge", "timeouts", "stream", "limits", "advanced")
_SETTING_DEFAULTS: Mapping[str, object] = {
    "deadline": 600.0,
    "name": "default",
    "on_unsupported": "skip",
    "record": False,
    **dict.fromkeys(_POLICIES, Shown("its defaults")),
}

client_keywords: Explicit = explicit(ClientSettings, SETTINGS, _SETTING_DEFAULTS)


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


class _Life:
    """Whether a client is closed, told once for all of its views."""

    __slots__ = ("over",)

    def __init__(self) -> None:
        self.over: bool = False


class _Client:
    """What both clients offer that does not wait."""

    _driver: Any

    def __init__(
        self,
        providers: Routes | None,
        pool: ProviderPool | None,
        settings: ClientSettings,
        engine: object,
        http_client: object,
    ) -> None:
        if (providers is None) == (pool is None):
            raise ConfigurationError("a client needs providers, or pool= of another client, and not both")
        record: object = settings.pop("record", False)
        if not isinstance(record, bool):
            raise ConfigurationError(f"record must be True or False, not {record!r}")
        if pool is not None and settings:
            raise ConfigurationError(f"{next(iter(settings))}= belongs to the pool and is set where that is made")
        for name in settings:
            if name not in _SETTINGS:
                raise ConfigurationError(unknown(name, _SETTINGS, "setting"))
        self._pool = pool if pool is not None else _make_pool(cast(Routes, providers), settings)
        self._refusal = partial(refusal, engine, http_client)
        self._check_targets([[self._pool.pool.targets()]])
        self._keep_secret(http_client)
        self._life = _Life()
        self._defaults: CallOptions = {"record": True} if record else {}

    @call_keywords
    def with_options(self, **options: Unpack[CallOptions]) -> Self:
        """The same client with other defaults for its calls, for one part of a program.

        It costs next to nothing: connections, providers and health are shared, and closing either closes both.  What
        a call says itself goes first.  Raises ``InvalidRequest`` for options that make no sense.
        """
        check_call(options)
        if "deadline" in options:
            seconds(options["deadline"])
        view = object.__new__(type(self))
        view.__dict__.update(self.__dict__)
        view._defaults = {**self._defaults, **options}
        return view

    @property
    def pool(self) -> ProviderPool:
        """The providers and what is known about them; give it to another client to share both."""
        return self._pool

    @property
    def defaults(self) -> CallOptions:
        """What calls are given that do not say otherwise: a copy of what :meth:`with_options` was given."""
        return self._defaults.copy()

    def health(self) -> dict[str, ProviderHealth]:
        """Every provider as it stands now, by id: breaker, gates, score, latency, load.  Sends nothing."""
        pool = self._pool
        pool.settle()
        standings = pool.pool.snapshot(pool.clock())
        pool.deliver()
        return {standing.id: standing for standing in standings}

    @stream_keywords
    def explain(self, messages: Messages | None = None, **options: Unpack[ChatOptions]) -> list[Candidate]:
        """Whom this call would ask, in which order, and why each other provider would not be asked.  Sends nothing."""
        if self._defaults:
            options = {**self._defaults, **options}
        request = chat_request(messages if messages is not None else "?", options, stream=False)
        needs = self._pool.needs(request, options)
        tokens = prompt_tokens(request)
        ask = self._pool.ask(options, streaming=False, tokens=tokens, max_tokens=request.max_tokens, needs=needs)
        ask, _ = priced(self._pool.spending, ask, request, options)
        found = self._pool.pool.explain(ask, self._pool.clock())
        self._pool.deliver()
        return [Candidate(target.id, target.model, reason) for target, reason in found]

    def last_record(self) -> DecisionRecord | None:
        """How the latest recorded call of this thread or task was decided, as far as it got; ``None`` if its latest one
        was another client's, or there was none.

        Calls are recorded where ``record=True`` is given to them, to :meth:`with_options` or to the client.  A recorded
        call costs about half a millisecond more for each decision.
        """
        return self._pool.last_record()

    def drain(self, provider: str) -> int:
        """Send no new attempts to a provider; returns how many are still under way there.  :meth:`restore` undoes it.

        For maintenance that was announced, or before a key or a region is taken away: what is under way ends in peace.
        Raises ``ConfigurationError`` for an unknown id.
        """
        self._operate(provider, "drain")
        return self._pool.pool.in_flight(provider)

    def isolate(self, provider: str) -> None:
        """Hold a provider's breaker open by hand until :meth:`restore`.

        For a provider that answers wrongly in a way that no failure shows.  Attempts under way are not cut off.
        Raises ``ConfigurationError`` for an unknown id.
        """
        self._operate(provider, "isolate")

    def restore(self, provider: str) -> None:
        """Undo :meth:`drain` and :meth:`isolate`, close an open breaker, and forget what speaks against the provider;
        traffic returns gradually.

        For when the maintenance is over, or when you know sooner than the library does that a provider is well.
        Raises ``ConfigurationError`` for an unknown id.
        """
        self._operate(provider, "restore")

    def replace_providers(self, providers: Routes) -> tuple[str, ...]:
        """Use other providers from now on; what is known about those that stay (by id) is kept, and calls under way
        end undisturbed.  Idle connections with a proxy or certificate that no provider has any more are closed.

        Returns the ids that were removed.  Raises ``ConfigurationError`` and changes nothing if the new list is
        unusable.
        """
        routes = self._pool.targets(providers)
        self._check_targets(routes)
        removed = self._pool.pool.replace(routes, self._pool.clock())
        self._pool.forget_unused()
        targets = self._pool.pool.targets()
        self._driver.retain({one.network for one in targets if isinstance(one, HttpProvider)})
        self._pool.deliver()
        return removed

    def _keep_secret(self, http_client: object) -> None:
        """Show nothing of what a client of the user's sends with every request."""
        sent: list[tuple[str, str]] = [
            ("authorization", getattr(getattr(http_client, "auth", None), "_auth_header", ""))
        ]
        for name in ("headers", "cookies", "params"):
            given: Mapping[str, str] = getattr(http_client, name, {})
            sent += given.items()
        self._pool.secrets = Secrets({*self._pool.secrets, *secrets_in_headers(sent)})

    def _check_targets(self, routes: object) -> None:
        """Raises ``ConfigurationError`` for a provider that this client cannot reach."""
        for target in self._pool.flattened(routes):
            refused = self._refusal(target.network) if isinstance(target, HttpProvider) else None
            if refused is not None:
                raise ConfigurationError(f"{target!r}: {refused}")

    def _check_validate(self, validate: object) -> None:
        if validate is not None and validate != "tools" and not callable(validate):
            raise InvalidRequest(f"validate must be callable or 'tools', not {validate!r}")

    def _check_fallback(self, fallback: object) -> None:
        if not isinstance(fallback, str | ChatResponse | None) and not callable(fallback):
            raise InvalidRequest(f"fallback must be text, a ChatResponse or a function of the error, not {fallback!r}")

    def _operate(self, provider: str, action: str) -> None:
        self._pool.pool.operate(provider, action, self._pool.clock())
        self._pool.deliver()

    def check_open(self) -> None:
        if self._life.over:
            raise ClientClosed("the client is closed")

    def _chat_task(self, messages: Messages | ChatRequest, options: ChatOptions, *, stream: bool) -> Task[ChatRequest]:
        self.check_open()
        if self._defaults:
            options = {**self._defaults, **options}
        pool = self._pool
        gathers = not stream and pool.policies.stream.under_chat == "stream"
        request = chat_request(messages, options, stream=stream or gathers)
        if "validate" in options or "fallback" in options:
            self._check_answering(options, stream=stream)
        tokens, needs = prompt_tokens(request), pool.needs(request, options)
        streaming = request.stream
        ask = pool.ask(options, streaming=streaming, tokens=tokens, max_tokens=request.max_tokens, needs=needs)
        ask, purse = priced(pool.spending, ask, request, options)
        check = None if stream else answer_check(request, options)
        task = Task(pool, request, pool.begin(ask, options), check, needs, purse=purse, gathers=gathers)
        task.on_break = options.get("on_break") or task.on_break
        task.subject.forwards = not stream and request.source is not None
        return task

    def _check_answering(self, options: ChatOptions, *, stream: bool) -> None:
        """Raise ``InvalidRequest`` for a ``validate=`` or ``fallback=`` that is none, or not possible here."""
        validate, fallback = options.get("validate"), options.get("fallback")
        if stream and (validate is not None or fallback is not None):
            raise InvalidRequest("validate= and fallback= need a whole answer; use chat(), or handle StreamInterrupted")
        self._check_validate(validate)
        self._check_fallback(fallback)

    @call_keywords
    def explain_embed(
        self, inputs: EmbedInputs = "?", *, dimensions: int | None = None, **options: Unpack[CallOptions]
    ) -> list[Candidate]:
        """Whom a request for embeddings would ask, in which order, and why each other provider would not be asked: it
        offers none, or its vectors do not mix with those of the first.  Sends nothing."""
        ask, _ = self._embedding(inputs, dimensions, {**self._defaults, **options})
        found = self._pool.pool.explain(ask, self._pool.clock())
        self._pool.deliver()
        return [Candidate(target.id, target.model, reason) for target, reason in found]

    def _embed_parts(
        self, inputs: EmbedInputs, dimensions: int | None, options: CallOptions
    ) -> list[Callable[[], Task[EmbedRequest]]]:
        """What makes the calls for these texts, in parts that everybody who may be asked can take."""
        self.check_open()
        if self._defaults:
            options = {**self._defaults, **options}
        pool, (ask, request) = self._pool, self._embedding(inputs, dimensions, options)
        able = (target for target in pool.pool.targets(ask.route) if target.id not in ask.unsuitable)
        parts = parts_of(request, smallest(one.embed_limits for one in able))
        tokens, limit = sum(map(text_tokens, request.inputs)), options.get("max_cost")

        def begin(part: EmbedRequest) -> Task[EmbedRequest]:
            mine = sum(map(text_tokens, part.inputs))
            share: CallOptions = options if limit is None else {**options, "max_cost": limit * mine / tokens}
            asked, purse = priced(pool.spending, ask._replace(tokens=mine), part, share)
            return Task(pool, part, pool.begin(asked, share), purse=purse)

        return [partial(begin, part) for part in parts]

    def _embedding(self, inputs: EmbedInputs, dimensions: int | None, options: CallOptions) -> tuple[Ask, EmbedRequest]:
        """What a request for embeddings asks of the pool, and what it asks."""
        request = embed_request(inputs, dimensions, options)
        longest = max(map(text_tokens, request.inputs))
        ask = self._pool.ask(options, streaming=False, tokens=longest, max_tokens=1)
        return self._pool.other_spaces(ask), request

    def _work(self, prompts: object, options: MapOptions, most: int) -> Work[ChatResponse]:
        """What a run of these prompts needs.  Raises what is wrong with them, or with a file of results."""
        from resilient_llm.batch.prompts import check_source  # noqa: PLC0415 - for who maps
        from resilient_llm.batch.work import Work  # noqa: PLC0415

        self.check_open()
        check_source(prompts, asynchronous=isinstance(self, AsyncResilientClient))
        settings, calls = split(options)
        self.explain(**calls)  # what makes no sense is told before anything is sent
        self._check_validate(calls.get("validate"))
        self._check_fallback(calls.get("fallback"))
        total = len(prompts) if isinstance(prompts, Sized) else None
        return Work(settings, call_options(self._defaults, calls), self._pool.clock, most=most, total=total)

    def __repr__(self) -> str:
        ids = ", ".join(target.id for target in self._pool.pool.targets())
        return f"<{type(self).__name__} {self._pool.name!r}: {ids}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} holds connections and credentials; make one in each process")


def _make_pool(providers: Routes, settings: ClientSettings) -> ProviderPool:
    policies = Policies(
        retry=as_policy(Retry, settings.get("retry")),
        breaker=as_policy(Breaker, settings.get("breaker")),
        hedge=as_policy(Hedge, settings.get("hedge")),
        timeouts=as_policy(Timeouts, settings.get("timeouts")),
        stream=as_policy(Stream, settings.get("stream")),
        limits=as_policy(Limits, settings.get("limits")),
        advanced=as_policy(Advanced, settings.get("advanced")),
    )
    name: object = settings.get("name", "default")
    if not isinstance(name, str):
        raise ConfigurationError(f"name must be a string, not {name!r}")
    tracers, meters = settings.get("tracer_provider"), settings.get("meter_provider")
    observed = "opentelemetry.metrics" in sys.modules  # then its gauges show the client before its first call
    return ProviderPool(
        providers,
        policies,
        name=name,
        deadline=settings.get("deadline", 600.0),
        listeners=settings.get("listeners") or (),
        observer=_telemetry(name, tracers, meters) if observed else Later(lambda: _telemetry(name, tracers, meters)),
        on_unsupported=settings.get("on_unsupported", "skip"),
    )


def _telemetry(name: str, tracers: TracerProvider | None, meters: MeterProvider | None) -> Observer:
    imported("resilient_llm.wire.faults.exceptions")  # what failures mean: with the first call too
    made: Observer = imported("resilient_llm.telemetry").Telemetry(name, tracers, meters)
    return made


class ResilientClient(_Client):
    """Asks LLM providers and keeps getting answers while some of them fail.

    ``providers`` is a list in order of preference; a nested list is a tier of equals among which traffic is balanced;
    a mapping of names to such lists makes routes, the first being the default.  ``http_client``: an ``httpx.Client``
    (or httpx2 one) to use as it is, with its proxies, TLS, limits and default headers.  ``pool``: share the providers
    and health of another client.

    Safe for threads.  Use it as a context manager, or call :meth:`close`; one that is merely dropped closes its
    connections when it is collected.
    """

    _driver: Driver

    @client_keywords
    def __init__(
        self,
        providers: Routes | None = None,
        *,
        engine: str | Engine = "httpx",
        http_client: httpx.Client | httpx.BaseTransport | None = None,
        pool: ProviderPool | None = None,
        **settings: Unpack[ClientSettings],
    ) -> None:
        """Make a client; nothing is sent.  Raises ``ConfigurationError`` for settings that make no sense."""
        super().__init__(providers, pool, settings, engine, http_client)
        self._driver = Driver(self._pool, sync_engine(engine, http_client))

    @property
    def seam(self) -> Seam[Engine]:
        """Where the client meets the network: put a layer around its engine with ``seam.around(layer)``."""
        return self._driver.seam

    @overload
    def chat(
        self, messages: Messages | ChatRequest, *, output: type[T], **options: Unpack[UntypedChatOptions]
    ) -> ParsedResponse[T]: ...

    @overload
    def chat(self, messages: Messages | ChatRequest, **options: Unpack[ChatOptions]) -> ChatResponse: ...

    @chat_keywords
    def chat(self, messages: Messages | ChatRequest, **options: Unpack[ChatOptions]) -> ChatResponse:
        """Ask for an answer.

        ``messages`` is a prompt, or a conversation of ``Message`` objects or dicts in OpenAI's shape.  Raises
        ``InvalidRequest`` before anything is sent, and a ``CallFailed`` (with the trail of attempts) if no provider
        answered.  With a class as ``output=``, ``parsed`` of the answer is an instance of it; an answer that does not
        fit counts as a rejected one, and the next provider is asked.  An exception that interrupts it
        (``KeyboardInterrupt``) changes nobody's health.
        """
        task = self._chat_task(messages, options, stream=False)
        try:
            return cast(ChatResponse, self._driver.run(task).response())
        except CallFailed as failure:
            return _labelled(_fallback(options, failure), failure)

    @stream_keywords
    def stream(self, messages: Messages | ChatRequest, **options: Unpack[ChatOptions]) -> ChatStream:
        """Ask for an answer piece by piece; see :class:`ChatStream`.  Nothing is sent before it is entered or
        iterated."""
        return ChatStream(self, self._driver, self._chat_task(messages, options, stream=True), output_class(options))

    @overload
    def map(
        self, prompts: Iterable[Prompt], *, output: type[T], **options: Unpack[UntypedMapOptions]
    ) -> Map[ParsedResponse[T]]: ...

    @overload
    def map(self, prompts: Iterable[Prompt], **options: Unpack[MapOptions]) -> Map[ChatResponse]: ...

    @map_keywords
    def map(self, prompts: Iterable[Prompt], **options: Unpack[MapOptions]) -> Map[Any]:
        """Ask many prompts, several at once: an iterator over a ``MapResult`` for each, which has ``response`` or
        ``error``.

        A prompt is a text, a list of messages, ``(key, messages)`` or ``(key, messages, options)``; the iterable is
        read as room comes up.  A prompt that nobody can answer now is asked again until its deadline.  With
        ``save_to=`` each result is in the file before you get it, and a run over the same prompts takes up where the
        last one ended; errors that may pass are not kept, and asked again then.

        Raises ``InvalidRequest`` for options that make no sense, ``ConfigurationError`` for a file that holds anything
        but results of these prompts, ``OSError`` where it cannot be written, and what the iterable raises.
        """
        from resilient_llm.batch.threads import Map  # noqa: PLC0415 - for who maps

        work, mine = self._work(prompts, options, MOST_THREADS), self.with_options()
        mine._driver = part_of(self._driver)
        return Map(prompts, work, mine._driver, lambda messages, given: mine.chat(messages, **given))

    @call_keywords
    def embed(
        self,
        inputs: EmbedInputs,
        *,
        dimensions: int | None = None,
        **options: Unpack[CallOptions],
    ) -> EmbedResponse:
        """Vectors for texts, one each, in order.

        More texts than the providers take in one request are sent in parts, several at once, and the usage is summed.
        Fails over only between providers that declare the same ``embedding_space``: vectors of different models do
        not mix.  Raises the error of the first part that fails, which ends the others.
        """
        return joined(answers(self._driver, self._embed_parts(inputs, dimensions, options)))

    def close(self, drain: float = 0.0) -> None:
        """Close the connections.  Calls made later raise ``ClientClosed``, and so do those that wait for their turn.

        What is under way, open streams included, has ``drain`` seconds to finish, and then ends with ``ClientClosed``
        as well, which judges nobody.  An ``http_client`` you passed stays open.  Raises ``ConfigurationError``, and
        closes nothing, if ``drain`` is no number of seconds.
        """
        _check_drain(drain)
        self._life.over = True
        self._driver.close(drain)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_targets(self, routes: object) -> None:
        super()._check_targets(routes)
        for target in self._pool.flattened(routes):
            if target.needs_loop:
                raise ConfigurationError(f"{target!r} needs an event loop; use AsyncResilientClient")

    def _check_validate(self, validate: object) -> None:
        super()._check_validate(validate)
        if validate is not None and inspect.iscoroutinefunction(validate):
            raise InvalidRequest("validate is a coroutine function, which only AsyncResilientClient can use")

    def _check_fallback(self, fallback: object) -> None:
        super()._check_fallback(fallback)
        if fallback is not None and inspect.iscoroutinefunction(fallback):
            raise InvalidRequest("fallback is a coroutine function, which only AsyncResilientClient can use")


class AsyncResilientClient(_Client):
    """The same as :class:`ResilientClient` for asyncio and trio; one object may serve several event loops.

    Blocking providers you wrote run in worker threads.  Use it as an async context manager, or call :meth:`aclose`: one
    that is merely dropped cannot wait, and its idle connections end in a ``ResourceWarning`` where these are shown.
    """

    _driver: AsyncDriver

    @client_keywords
    def __init__(
        self,
        providers: Routes | None = None,
        *,
        engine: str | AsyncEngine = "httpx",
        http_client: httpx.AsyncClient | httpx.AsyncBaseTransport | None = None,
        pool: ProviderPool | None = None,
        **settings: Unpack[ClientSettings],
    ) -> None:
        """Make a client; nothing is sent.  Raises ``ConfigurationError`` for settings that make no sense."""
        super().__init__(providers, pool, settings, engine, http_client)
        driver: type[AsyncDriver] = imported("resilient_llm.drive.aio").AsyncDriver
        self._driver = driver(self._pool, async_engines(engine, http_client))

    @property
    def seam(self) -> Seam[AsyncEngine]:
        """Where the client meets the network: put a layer around its engine with ``seam.around(layer)``."""
        return self._driver.seam

    @overload
    async def chat(
        self, messages: Messages | ChatRequest, *, output: type[T], **options: Unpack[UntypedChatOptions]
    ) -> ParsedResponse[T]: ...

    @overload
    async def chat(self, messages: Messages | ChatRequest, **options: Unpack[ChatOptions]) -> ChatResponse: ...

    @chat_keywords
    async def chat(self, messages: Messages | ChatRequest, **options: Unpack[ChatOptions]) -> ChatResponse:
        """Ask for an answer; see :meth:`ResilientClient.chat`.  Cancelling it closes the connection and judges nobody.

        ``validate`` and ``fallback`` may also be coroutine functions.
        """
        task = self._chat_task(messages, options, stream=False)
        try:
            return cast(ChatResponse, (await self._driver.run(task)).response())
        except CallFailed as failure:
            value = _fallback(options, failure)
            return _labelled(await value if inspect.isawaitable(value) else value, failure)

    @stream_keywords
    def stream(self, messages: Messages | ChatRequest, **options: Unpack[ChatOptions]) -> AsyncChatStream:
        """Ask for an answer piece by piece; see :class:`AsyncChatStream`.  Nothing is sent before it is entered or
        iterated."""
        return AsyncChatStream(
            self, self._driver, self._chat_task(messages, options, stream=True), output_class(options)
        )

    @overload
    def map(
        self,
        prompts: Iterable[Prompt] | AsyncIterable[Prompt],
        *,
        output: type[T],
        **options: Unpack[UntypedMapOptions],
    ) -> AsyncMap[ParsedResponse[T]]: ...

    @overload
    def map(
        self, prompts: Iterable[Prompt] | AsyncIterable[Prompt], **options: Unpack[MapOptions]
    ) -> AsyncMap[ChatResponse]: ...

    @map_keywords
    def map(self, prompts: Iterable[Prompt] | AsyncIterable[Prompt], **options: Unpack[MapOptions]) -> AsyncMap[Any]:
        """Ask many prompts, several at once: an async iterator over a ``MapResult`` for each; see
        :meth:`ResilientClient.map`.

        The iterable may be an async one, and ``on_result`` a coroutine function.  Cancelling cancels the calls under
        way.
        """
        from resilient_llm.batch.tasks import AsyncCall, AsyncMap  # noqa: PLC0415 - for who maps

        work = self._work(prompts, options, MOST_TASKS)

        def begin() -> tuple[AsyncDriver, AsyncCall[ChatResponse]]:
            mine = self.with_options()
            mine._driver = part_of_async(self._driver)
            return mine._driver, lambda messages, given: mine.chat(messages, **given)

        return AsyncMap(prompts, work, begin)

    @call_keywords
    async def embed(
        self,
        inputs: EmbedInputs,
        *,
        dimensions: int | None = None,
        **options: Unpack[CallOptions],
    ) -> EmbedResponse:
        """Vectors for texts, one each, in order; see :meth:`ResilientClient.embed`."""
        return joined(await answers_async(self._driver, self._embed_parts(inputs, dimensions, options)))

    async def aclose(self, drain: float = 0.0) -> None:
        """Close the connections of this event loop.  Calls made later raise ``ClientClosed``, and so do those that wait
        for their turn.

        What is under way on this loop, open streams included, has ``drain`` seconds to finish, and then ends with
        ``ClientClosed`` as well, which judges nobody.  Raises ``ConfigurationError``, and closes nothing, if ``drain``
        is no number of seconds.
        """
        _check_drain(drain)
        self._life.over = True
        await self._driver.aclose(drain)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


O = TypeVar("O", OpenStream, "AsyncOpenStream")  # noqa: E741
D = TypeVar("D")


class _Reader:
    """Lets one reader in at a time."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            raise RuntimeError("the stream is being read elsewhere; read it in one place, and pass on what comes")

    def __exit__(self, *exc: object) -> None:
        self._lock.release()


class _Streamed(Generic[O, D]):
    """What both kinds of stream have in common."""

    def __init__(self, client: _Client, driver: D, task: Task[ChatRequest], output: Typed | None = None) -> None:
        self._client = client
        self._output = output
        self._driver: D = driver
        self._task = task
        self._opened: O | None = None
        self._closed = False
        self._reader = _Reader()

    def __del__(self) -> None:
        with suppress(Exception):
            self._orphaned()

    @property
    def response(self) -> ChatResponse:
        """The answer: whole after the last event, and what there is of it (``finish_reason`` "error") before.

        With a class as ``output=``, ``parsed`` is an instance of it once the answer is whole; ``None`` if it does not
        fit, since what was handed over cannot be asked for elsewhere.  Raises ``RuntimeError`` before the first event.
        """
        opened = self._started()
        response = opened.response()
        if self._output is not None and opened.reading.ended:
            with suppress(ValueError):
                self._output.fill(response)
        return response

    @property
    def provider(self) -> str:
        """The id of the provider that answers.  Raises ``RuntimeError`` before the first event."""
        return self._started().exchange.attempt.target.id

    @property
    def attempts(self) -> tuple[AttemptRecord, ...]:
        """The attempts that have ended so far; the one that answers is added when the stream ends."""
        return tuple(self._task.call.records)

    def __repr__(self) -> str:
        opened = self._opened
        if opened is None:
            where = "closed before it started" if self._closed else "not started"
        elif opened.reading.ended:
            where = f"complete, from {self.provider!r}"
        elif opened.over or self._closed:
            where = f"ended early, from {self.provider!r}"
        else:
            where = f"under way, from {self.provider!r}"
        return f"<{type(self).__name__} {where}>"

    @property
    def ended(self) -> bool:
        """Whether the answer has arrived to its end."""
        return self._opened is not None and self._opened.reading.ended

    def forward(self) -> None:
        """Before it begins: keep the bytes that come from a provider of the caller's own wire."""
        self._task.subject.forwards = self._task.on_break == "fail"

    @property
    def forwards(self) -> O | None:
        """Where those bytes are read; ``None``: there are only events, as whoever answers speaks another wire."""
        opened = self._opened
        return opened if opened is not None and opened.reading.forwarded is not None else None

    def at_hand(self) -> list[StreamEvent]:
        """The events that have arrived already and would come next; empty before the first was asked for."""
        return [] if self._opened is None else self._opened.at_hand()

    def extend(self, deadline: float) -> None:
        """From now on, the stream may take ``deadline`` seconds since its call began; infinite: no limit."""
        call = self._started().task.call
        call.deadline = max(call.deadline, call.started + deadline)

    def _started(self) -> O:
        if self._opened is None:
            raise RuntimeError("the stream has not started; enter it or iterate over it first")
        return self._opened

    def _orphaned(self) -> None:
        """Of a stream that began and is dropped without being closed: cut its connection, return its lease, and leave
        the rest to the next call.  Takes no lock: a finaliser may run on the very thread that holds it."""
        opened = self._opened
        if opened is not None and not opened.over:
            opened.source.sever()
            self._task.owner.pool.abandon_later(opened.exchange.attempt)
            opened.under_way.orphans.append(opened)


class ChatStream(_Streamed[OpenStream, Driver]):
    """An answer piece by piece.  Iterate over it for typed events, or over :meth:`text_deltas`; best inside ``with``.

    It begins when it is entered or first iterated; until its first content, failures move on to other providers
    unseen, and raise a ``CallFailed`` if nobody answers.  Later it either completes or raises ``StreamInterrupted``
    with the partial answer: it is never silently short and never repeats itself.  One reader at a time: a second one
    gets a ``RuntimeError`` and disturbs nobody.  Leaving early, closing and dropping it end the generation upstream
    at once and judge nobody.
    """

    def __iter__(self) -> Iterator[StreamEvent]:
        return self

    def __next__(self) -> StreamEvent:
        if self._closed:
            raise StopIteration
        with self._reader:
            event = (self._opened or self._open()).next()
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
            opened: OpenStream = self._driver.open(self._task)
        except BaseException:
            self._closed = True
            raise
        self._opened = opened
        if self._closed:  # by another thread, meanwhile
            opened.close()
        return opened

    def start(self) -> Self:
        """Begin, and return with the first content there: a web handler learns of a failure before it answers 200.

        Entering ``with`` does the same; without it, call :meth:`close` when you leave early.  Raises a ``CallFailed``
        if nobody answers.  Does nothing the second time.
        """
        if self._opened is None and not self._closed:
            with self._reader:
                self._open()
        return self

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncChatStream(_Streamed["AsyncOpenStream", "AsyncDriver"]):
    """The same as :class:`ChatStream` for asyncio and trio; best inside ``async with``."""

    def __aiter__(self) -> AsyncIterator[StreamEvent]:
        return self

    async def __anext__(self) -> StreamEvent:
        if self._closed:
            raise StopAsyncIteration
        with self._reader:
            event = await (self._opened or await self._open()).next()
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
            opened: AsyncOpenStream = await self._driver.open(self._task)
        except BaseException:
            self._closed = True
            raise
        self._opened = opened
        if self._closed:  # by another task, meanwhile
            await opened.aclose()
        return opened

    async def start(self) -> Self:
        """Begin, and return with the first content there: a web handler learns of a failure before it answers 200.

        Entering ``async with`` does the same; without it, call :meth:`aclose` when you leave early.  Raises a
        ``CallFailed`` if nobody answers.  Cancelling it judges nobody.  Does nothing the second time.
        """
        if self._opened is None and not self._closed:
            with self._reader:
                await self._open()
        return self

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


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


def _check_drain(drain: object) -> None:
    if isinstance(drain, bool) or not isinstance(drain, int | float) or not drain >= 0.0:
        raise ConfigurationError(f"drain must be a number of seconds, 0 or more, not {drain!r}")


def _fallback(options: ChatOptions, failure: CallFailed) -> object:
    """What the caller wants instead of an answer.  Raises the failure where that is nothing."""
    fallback = options.get("fallback")
    if fallback is None:
        raise failure
    return fallback(failure) if callable(fallback) else fallback


def _labelled(value: object, failure: CallFailed) -> ChatResponse:
    """A fallback as a response of provider ``fallback``, with the trail that led to it."""
    if isinstance(value, str):
        value = ChatResponse((Text(value),))
    if not isinstance(value, ChatResponse):
        raise TypeError(f"fallback= must be or return text or a ChatResponse, not {type(value).__name__}")
    return replace(value, provider=value.provider or "fallback", attempts=failure.attempts)
