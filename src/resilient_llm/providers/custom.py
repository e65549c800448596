"""Providers you write yourself, and functions as providers.

Anything with an ``id`` and a ``chat`` method is a provider; with a ``stream`` method it streams natively.  Raise
:class:`~resilient_llm.errors.ProviderError`, or let your SDK's own exception through: both are classified like an
HTTP answer.  An ``AttributeError``, ``TypeError``, ``NameError``, ``ImportError`` or ``NotImplementedError``, and a
value that is no answer, are mistakes in your code: the call ends with a ``ConfigurationError`` at once, and nobody's
health is touched.
"""

from __future__ import annotations

import inspect
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
)
from typing import Protocol, TypeAlias, cast, get_args, runtime_checkable

from resilient_llm.errors import ConfigurationError
from resilient_llm.model import ChatRequest, ChatResponse, EmbedRequest, EmbedResponse, StreamEvent, Text
from resilient_llm.policy import KeyTerms
from resilient_llm.providers.base import name_of, positive, tags_of, whole
from resilient_llm.providers.embedding import EmbedLimits
from resilient_llm.providers.rates import rates_of
from resilient_llm.wire.faults.scrub import scrub


@runtime_checkable
class Provider(Protocol):
    """A provider for the sync client (and, in a worker thread, for the async one).

    ``timeout`` is how many seconds the attempt may take.  The sync client cannot interrupt your code and looks at the
    clock only between the pieces of a stream: respect it, or the call takes as long as you do.  A whole answer that
    ``chat`` returns too late is still an answer.  A provider may also have ``stream(request, *, timeout)`` returning
    an iterator of events, ``embed(request: EmbedRequest, *, timeout)`` returning an ``EmbedResponse``, and the
    attributes of ``ProviderOptions`` (``model``, ``weight``, ``tags``...), which default as documented there.
    """

    @property
    def id(self) -> str: ...

    def chat(self, request: ChatRequest, *, timeout: float) -> ChatResponse: ...


@runtime_checkable
class AsyncProvider(Protocol):
    """A provider for the async client; its ``stream``, if it has one, returns an async iterator of events."""

    @property
    def id(self) -> str: ...

    async def chat(self, request: ChatRequest, *, timeout: float) -> ChatResponse: ...  # noqa: ASYNC109 - a limit to respect


Answer: TypeAlias = str | ChatResponse | Iterable[str | StreamEvent]
AsyncAnswer: TypeAlias = Awaitable[str | ChatResponse] | AsyncIterable[str | StreamEvent]


class Function:
    """A provider made of any callable, so that every SDK and local model can be protected the same way.

    ``call(request)`` returns the answer's text, a ``ChatResponse``, or (to stream) an iterator of text pieces or
    events; it may be a coroutine function or an async generator function, for the async client.  If it has a parameter
    named ``timeout``, it is called as ``call(request, timeout=seconds)``, with what the attempt may take: see
    :class:`Provider` for why to respect that.  ``options`` are the
    attributes of ``ProviderOptions`` that make sense without HTTP: ``weight``, ``tags``, ``context_window``,
    ``max_concurrency``.
    """

    def __init__(
        self,
        call: Callable[..., Answer | AsyncAnswer],
        *,
        id: str | None = None,  # noqa: A002 - the word for it everywhere in this library
        model: str = "",
        weight: float = 1.0,
        max_concurrency: int | None = None,
        context_window: int | None = None,
        tags: Iterable[str] = (),
    ) -> None:
        if not callable(call):
            raise ConfigurationError(f"Function needs a callable, not {call!r}")
        name = getattr(call, "__name__", type(call).__name__)
        self.call = call
        self.id: str = id or f"function/{model or name}"
        self.model: str = model or str(name)
        self.weight: float = positive("weight", weight)
        self.max_concurrency: int | None = whole("max_concurrency", max_concurrency)
        self.context_window: int | None = whole("context_window", context_window)
        self.tags: frozenset[str] = tags_of(self, tags)
        inner = call if inspect.isroutine(call) else type(call).__call__
        self.is_async: bool = inspect.iscoroutinefunction(inner) or inspect.isasyncgenfunction(inner)
        self._timed = _takes_timeout(call)

    def start(self, request: ChatRequest, seconds: float) -> Answer | AsyncAnswer:
        """Call it."""
        return self.call(request, timeout=seconds) if self._timed else self.call(request)

    def __repr__(self) -> str:
        return f"<Function {self.id!r}>"


class Custom:
    """How the pool and the drivers see a provider that is not built in: the same attributes, with defaults."""

    vendor = "custom"
    host: str | None = None
    port: int | None = None
    account: str | None = None
    key_id: str | None = None
    secrets: tuple[str, ...] = ()
    propagate_trace_context = False
    cache_seconds: float | None = None

    def __init__(self, inner: Provider | AsyncProvider | Function) -> None:
        self.inner = inner
        self.id: str = name_of(inner, inner.id)
        self.model: str = getattr(inner, "model", "") or inner.id
        self.weight: float = positive("weight", getattr(inner, "weight", 1.0))
        self.max_concurrency: int | None = whole("max_concurrency", getattr(inner, "max_concurrency", None))
        self.context_window: int | None = whole("context_window", getattr(inner, "context_window", None))
        self.keys: tuple[KeyTerms, ...] = (KeyTerms(rates=rates_of(lambda name: getattr(inner, name, None))),)
        self.tags: frozenset[str] = tags_of(inner, getattr(inner, "tags", ()))
        self.embedding_space: str | None = getattr(inner, "embedding_space", None)
        self.embeds: bool = callable(getattr(inner, "embed", None))
        self.embed_limits: EmbedLimits = EmbedLimits(whole("embed_batch", getattr(inner, "embed_batch", None)))
        if isinstance(inner, Function):
            self.is_async: bool = inner.is_async
        else:
            self.is_async = inspect.iscoroutinefunction(inner.chat)

    @property
    def needs_loop(self) -> bool:
        """Whether only the async client can ask it."""
        return self.is_async

    @property
    def streams(self) -> bool:
        """Whether it has a ``stream`` of its own."""
        return isinstance(self.inner, Function) or hasattr(self.inner, "stream")

    def start(self, request: ChatRequest, timeout: float, *, stream: bool) -> object:
        """Call the user's code: a response, text, an iterator, or an awaitable or async iterator of these.

        Raises ``ConfigurationError`` for a mistake in that code, then and whenever what it returned is read.
        """
        if isinstance(self.inner, Function):
            return _watched(lambda: cast(Function, self.inner).start(request, timeout), self.id)
        method = getattr(self.inner, "stream" if stream and self.streams else "chat")
        return _watched(lambda: method(request, timeout=timeout), self.id)

    def start_embed(self, request: EmbedRequest, timeout: float) -> object:
        """The same for embeddings."""
        method = cast("Callable[..., object]", getattr(self.inner, "embed"))  # noqa: B009 - not part of the protocol
        return _watched(lambda: method(request, timeout=timeout), self.id)

    def __repr__(self) -> str:
        return repr(self.inner)


def as_answer(
    value: object | Iterable[object] | AsyncIterable[object],
) -> ChatResponse | EmbedResponse | Iterator[object] | AsyncIterator[object]:
    """What a custom provider returned, as a response or an iterator.  Raises ``ConfigurationError`` naming what came
    instead."""
    if isinstance(value, ChatResponse | EmbedResponse):
        return value
    if isinstance(value, str):
        return ChatResponse((Text(value),))
    if isinstance(value, AsyncIterable):
        return cast(AsyncIterable[object], value).__aiter__()
    if isinstance(value, Iterable) and not _is_whole(value):  # pyright: ignore[reportUnknownArgumentType]
        return iter(cast(Iterable[object], value))
    if isinstance(value, _Awaited):
        value.close()
        raise ConfigurationError("a provider returned an awaitable, which only AsyncResilientClient can wait for")
    raise ConfigurationError(_no_answer(value))  # pyright: ignore[reportUnknownArgumentType]


def _no_answer(value: object) -> str:
    hint = "; return its text, as answer.choices[0].message.content" if hasattr(value, "choices") else ""
    return f"a provider must return text, a ChatResponse or an iterator of text, not {_kind(value)}{hint}"


def _is_whole(value: object) -> bool:
    """Whether something that can be iterated over is an object with fields all the same, an SDK's answer for one."""
    return isinstance(value, bytes | bytearray | Mapping) or hasattr(value, "model_dump")


# --- mistakes in the user's code ----------------------------------------------------------------------------------

_MISTAKES = (AttributeError, TypeError, NameError, ImportError, SyntaxError, NotImplementedError)
"""What tells of a mistake in the code that raised it.  Asking again, or somebody else, would only hide it."""

_EVENTS = frozenset(get_args(StreamEvent))


def _watched(call: Callable[[], object], name: str) -> object:
    """What the user's code returns, such that a mistake in it is told as one, however late."""
    try:
        value = call()
    except _MISTAKES as error:
        raise _mistake(error, name) from error
    if isinstance(value, Awaitable):
        return _Awaited(cast("Awaitable[object]", value), name)
    if isinstance(value, AsyncIterable):
        return _AsyncPieces(cast("AsyncIterable[object]", value).__aiter__(), name)
    if isinstance(value, str | ChatResponse | EmbedResponse) or _is_whole(value) or not isinstance(value, Iterable):
        return value  # pyright: ignore[reportUnknownVariableType]
    return _Pieces(iter(cast("Iterable[object]", value)), name)


def _mistake(error: Exception, name: str) -> ConfigurationError:
    where = error.__traceback__
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    place = "" if where is None else f" in {where.tb_frame.f_code.co_qualname} line {where.tb_lineno}"
    told = scrub(str(error))
    return ConfigurationError(f"the code of provider {name!r} has a mistake: {type(error).__name__}{place}: {told}")


def _piece(item: object, name: str) -> object:
    if isinstance(item, str) or type(item) in _EVENTS:
        return item
    raise ConfigurationError(f"provider {name!r} must yield text or stream events, not {_kind(item)}")


class _Pieces:
    """A user's iterator."""

    __slots__ = ("_items", "_name")

    def __init__(self, items: Iterator[object], name: str) -> None:
        self._items = items
        self._name = name

    def __iter__(self) -> Iterator[object]:
        return self

    def __next__(self) -> object:
        try:
            item = next(self._items)
        except _MISTAKES as error:
            raise _mistake(error, self._name) from error
        return _piece(item, self._name)

    def close(self) -> None:
        close = getattr(self._items, "close", None)
        if close is not None:
            close()


class _AsyncPieces:
    """A user's async iterator."""

    __slots__ = ("_items", "_name")

    def __init__(self, items: AsyncIterator[object], name: str) -> None:
        self._items = items
        self._name = name

    def __aiter__(self) -> AsyncIterator[object]:
        return self

    async def __anext__(self) -> object:
        try:
            item = await self._items.__anext__()
        except _MISTAKES as error:
            raise _mistake(error, self._name) from error
        return _piece(item, self._name)

    async def aclose(self) -> None:
        aclose = getattr(self._items, "aclose", None)
        if aclose is not None:
            await aclose()


class _Awaited:
    """A user's awaitable.  A class rather than a coroutine: one that nobody awaits warns of nothing."""

    __slots__ = ("_name", "_value")

    def __init__(self, value: Awaitable[object], name: str) -> None:
        self._value = value
        self._name = name

    def __await__(self) -> Generator[object, object, object]:
        try:
            value = yield from self._value.__await__()
        except _MISTAKES as error:
            raise _mistake(error, self._name) from error
        return _watched(lambda: value, self._name)

    def close(self) -> None:
        if inspect.iscoroutine(self._value):
            self._value.close()


def _takes_timeout(call: Callable[..., object]) -> bool:
    try:
        parameters = list(inspect.signature(call).parameters.values())
    except (TypeError, ValueError):  # a builtin that does not tell
        return False
    named = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return any(one.name == "timeout" and one.kind in named and at for at, one in enumerate(parameters))


def _kind(value: object) -> str:
    return type(value).__name__
