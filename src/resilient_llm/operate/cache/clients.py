"""Clients whose answers are kept: the same ``chat``, from above."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from inspect import isawaitable, signature
from typing import Any, Generic, TypeVar, Unpack, cast, overload

from resilient_llm.client import AsyncResilientClient, ResilientClient
from resilient_llm.drive.fork import tell_after_fork
from resilient_llm.errors import CallFailed, ConfigurationError, RequestRejected
from resilient_llm.model import ChatRequest, ChatResponse, ParsedResponse
from resilient_llm.operate.cache.entry import Caching, Entry, Stats, name_of, packed, unpacked, worth_keeping
from resilient_llm.operate.cache.flights import AsyncFlights, Flights
from resilient_llm.operate.cache.shelf import Memory, Shelf, Store
from resilient_llm.options import (
    ChatOptions,
    Messages,
    UntypedChatOptions,
    answer_check,
    chat_keywords,
    chat_request,
    output_class,
    seconds,
)

T = TypeVar("T")
C = TypeVar("C", ResilientClient, AsyncResilientClient)


@dataclass(slots=True)
class _Call:
    """A call whose answer may be kept."""

    name: str
    request: ChatRequest
    options: ChatOptions
    old: Entry | None = None
    """An answer that is too old, but better than none."""
    stood_in: bool = False
    """Whether something else than a provider's answer was given."""


class _Cached(Generic[C]):
    """What both clients share."""

    def __init__(self, client: C, store: Store, caching: Caching) -> None:
        self.client: C = client
        """The client beneath, for everything that is not kept: streams, embeddings, health."""
        self._caching = caching
        self._shelf = Shelf(store, caching.store_timeout)
        self._awaits: bool = self._shelf.meet()
        """Whether the store wants to be awaited."""
        self._counts: Counter[str] = Counter()
        self._counting = threading.Lock()
        tell_after_fork(self)

    def stats(self) -> Stats:
        """What became of the calls so far."""
        with self._counting:
            counts = dict(self._counts)
        return Stats(**counts, store_failures=self._shelf.failures)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.client!r}: {self.stats()}>"

    def reset_after_fork(self) -> None:
        """In the child."""
        self._counting = threading.Lock()
        self._shelf.reset_after_fork()

    # --- before ---

    def _call(self, messages: Messages | ChatRequest, options: ChatOptions) -> _Call | None:
        """What to look for; ``None`` for a call that is not kept.  Raises ``InvalidRequest``."""
        options = {**self.client.defaults, **options}
        request = chat_request(messages, options, stream=False)
        if not self._caching.keeps(request, options):
            self._count("bypassed")
            return None
        return _Call(name_of(self.client.pool, request, options), request, options)

    def _found(self, call: _Call, value: object) -> Entry | None:
        """An answer that is good, out of what the store had; one that is too old is noted in the call."""
        now = self.client.pool.wall()
        entry = unpacked(value, now)
        if entry is None:
            return None
        age = now - entry.at
        if age < self._caching.ttl:
            return entry
        if age < self._caching.ttl + self._caching.stale_if_down:
            call.old = entry
        return None

    def _patience(self, call: _Call) -> float | None:
        """Seconds the caller waits; ``None``: for ever."""
        options = call.options
        allowed = seconds(options["deadline"]) if "deadline" in options else self.client.pool.allowance
        return None if allowed == float("inf") else allowed

    def _within(self, call: _Call, left: float | None) -> ChatOptions:
        """The options of the call that is really made."""
        options: ChatOptions = {**call.options}
        options["deadline"] = None if left is None else max(left, 0.001)
        if call.old is not None or options.get("fallback") is not None:
            options["fallback"] = cast("Any", partial(self._stand_in, call, options.get("fallback")))
        return options

    def _stand_in(self, call: _Call, fallback: object, failure: CallFailed) -> object:
        """No provider answered: an old answer, or what the caller wants then."""
        call.stood_in = True
        old = None if call.old is None or isinstance(failure, RequestRejected) else self._old(call, call.old)
        if old is not None:
            self._count("stale")
            return old
        if fallback is None:
            raise failure
        return cast("Callable[[CallFailed], object]", fallback)(failure) if callable(fallback) else fallback

    def _old(self, call: _Call, entry: Entry) -> ChatResponse | None:
        """An old answer, unless it is not of the class that is asked for."""
        response = entry.served(self.client.pool.wall(), "from the cache, as no provider answered")
        kind = output_class(call.options)
        try:
            if kind is not None:
                kind.fill(response)
        except ValueError:
            return None
        return response

    # --- after ---

    def _worth(self, call: _Call, response: ChatResponse) -> tuple[bytes, int] | None:
        """What to write, and for how many seconds."""
        if call.stood_in:
            return None
        self._count("misses")
        value = packed(response, self.client.pool.wall()) if worth_keeping(response) else None
        return None if value is None else (value, max(1, round(self._caching.ttl + self._caching.stale_if_down)))

    def _shared(self, call: _Call, response: ChatResponse) -> Entry:
        """Another caller's answer, as a new object."""
        now = self.client.pool.wall()
        value = packed(response, now)
        return unpacked(value, now) or Entry(now, response)

    def _count(self, what: str) -> None:
        with self._counting:
            self._counts[what] += 1


class CachedClient(_Cached[ResilientClient]):
    """A :class:`~resilient_llm.ResilientClient` whose answers are kept.  Made by :func:`cached`; safe for threads."""

    def __init__(self, client: ResilientClient, store: Store, caching: Caching) -> None:
        super().__init__(client, store, caching)
        if self._awaits:
            raise ConfigurationError("a store whose methods are async needs the async client")
        self._flights = Flights()

    @overload
    def chat(
        self, messages: Messages | ChatRequest, *, output: type[T], **options: Unpack[UntypedChatOptions]
    ) -> ParsedResponse[T]: ...

    @overload
    def chat(self, messages: Messages | ChatRequest, **options: Unpack[ChatOptions]) -> ChatResponse: ...

    @chat_keywords
    def chat(self, messages: Messages | ChatRequest, **options: Unpack[ChatOptions]) -> ChatResponse:
        """As :meth:`ResilientClient.chat`; an answer from the cache says so in ``degradations``, and has no ``raw`` and
        no trail.

        Cancelling or interrupting one of several identical calls under way fails none of the others.
        """
        call = self._call(messages, options)
        if call is None:
            return self.client.chat(messages, **options)
        entry = self._found(call, self._shelf.read(call.name))
        kept = None if entry is None else entry.served(self.client.pool.wall(), "from the cache")
        if kept is not None and self._fits(call, kept):
            self._count("hits")
            return kept
        response, foreign = self._flights.once(call.name, self._patience(call), partial(self._ask, messages, call))
        if not foreign:
            return response
        shared = self._shared(call, response).served(self.client.pool.wall(), "shared with an identical call")
        if not self._fits(call, shared):
            return self.client.chat(messages, **options)
        self._count("shared")
        return shared

    def _ask(self, messages: Messages | ChatRequest, call: _Call, left: float | None) -> ChatResponse:
        response = self.client.chat(messages, **self._within(call, left))
        worth = self._worth(call, response)
        if worth is not None:
            self._shelf.write(call.name, *worth)
        return response

    def _fits(self, call: _Call, response: ChatResponse) -> bool:
        """Whether the caller's own checks accept an answer that was not made for this call."""
        check = answer_check(call.request, call.options)
        try:
            return check is None or check(response) is not False
        except ValueError:
            return False

    def reset_after_fork(self) -> None:
        """In the child."""
        super().reset_after_fork()
        self._flights.reset_after_fork()


class AsyncCachedClient(_Cached[AsyncResilientClient]):
    """The same of an :class:`~resilient_llm.AsyncResilientClient`, on asyncio and trio."""

    def __init__(self, client: AsyncResilientClient, store: Store, caching: Caching) -> None:
        super().__init__(client, store, caching)
        self._flights = AsyncFlights()

    @overload
    async def chat(
        self, messages: Messages | ChatRequest, *, output: type[T], **options: Unpack[UntypedChatOptions]
    ) -> ParsedResponse[T]: ...

    @overload
    async def chat(self, messages: Messages | ChatRequest, **options: Unpack[ChatOptions]) -> ChatResponse: ...

    @chat_keywords
    async def chat(self, messages: Messages | ChatRequest, **options: Unpack[ChatOptions]) -> ChatResponse:
        """As :meth:`CachedClient.chat`."""
        call = self._call(messages, options)
        if call is None:
            return await self.client.chat(messages, **options)
        entry = self._found(call, await self._shelf.aread(call.name))
        if entry is not None and await self._fits(
            call, kept := entry.served(self.client.pool.wall(), "from the cache")
        ):
            self._count("hits")
            return kept
        asked = partial(self._ask, messages, call)
        response, foreign = await self._flights.once(call.name, self._patience(call), asked)
        if not foreign:
            return response
        shared = self._shared(call, response).served(self.client.pool.wall(), "shared with an identical call")
        if not await self._fits(call, shared):
            return await self.client.chat(messages, **options)
        self._count("shared")
        return shared

    async def _ask(self, messages: Messages | ChatRequest, call: _Call, left: float | None) -> ChatResponse:
        response = await self.client.chat(messages, **self._within(call, left))
        worth = self._worth(call, response)
        if worth is not None:
            await self._shelf.awrite(call.name, *worth)
        return response

    async def _fits(self, call: _Call, response: ChatResponse) -> bool:
        check = answer_check(call.request, call.options)
        try:
            verdict = True if check is None else check(response)
            if isawaitable(verdict):
                verdict = await cast("Awaitable[object]", verdict)
        except ValueError:
            return False
        return verdict is not False


@overload
def cached(client: ResilientClient, store: Store | None = None, caching: Caching | None = None) -> CachedClient: ...


@overload
def cached(
    client: AsyncResilientClient, store: Store | None = None, caching: Caching | None = None
) -> AsyncCachedClient: ...


def cached(
    client: ResilientClient | AsyncResilientClient, store: Store | None = None, caching: Caching | None = None
) -> CachedClient | AsyncCachedClient:
    """A client whose ``chat`` keeps answers, gives old ones while no provider answers, and makes identical calls that
    are under way at the same time once.

    ``store`` is any object with ``get`` and ``set`` as redis-py has them (``None``: the last 1,000 answers in memory).
    ``caching`` says which answers and for how long (``None``: ``temperature=0``, an hour, a day while nobody answers).
    Nothing a store does fails a call; it is asked once, for ``store_timeout`` and a quarter of a second at most, so
    that the first call knows how it fares.  Raises ``ConfigurationError`` for what is no client or no store, and for
    the sync client with an async store.
    """
    store = Memory() if store is None else store
    _check_store(store)
    caching = Caching() if caching is None else caching
    if isinstance(client, ResilientClient):
        return CachedClient(client, store, caching)
    if isinstance(client, AsyncResilientClient):
        return AsyncCachedClient(client, store, caching)
    raise ConfigurationError(f"cached() needs a ResilientClient or an AsyncResilientClient, not {client!r}")


def _check_store(store: object) -> None:
    """Raises ``ConfigurationError`` for what is no store."""
    calls: tuple[tuple[str, tuple[object, ...], dict[str, int]], ...] = (
        ("get", ("name",), {}),
        ("set", ("name", b"value"), {"ex": 1}),
    )
    for method, values, options in calls:
        function: object = getattr(store, method, None)
        if not callable(function):
            raise ConfigurationError(f"a store needs get and set, which {store!r} has not")
        try:
            signature(function).bind(*values, **options)
        except TypeError as error:
            raise ConfigurationError(f"a store needs get(name) and set(name, value, ex=seconds): {error}") from None
        except ValueError:  # it does not tell
            continue
