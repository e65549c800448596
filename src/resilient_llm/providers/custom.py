"""Providers you write yourself, and functions as providers.

Anything with an ``id`` and a ``chat`` method is a provider; with a ``stream`` method it streams natively.  Raise
:class:`~resilient_llm.errors.ProviderError`, or let your SDK's own exception through: both are classified like an
HTTP answer.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Protocol, TypeAlias, cast, runtime_checkable

from resilient_llm.errors import ConfigurationError
from resilient_llm.model import ChatRequest, ChatResponse, StreamEvent, Text
from resilient_llm.providers.base import name_of, positive, tags_of, whole


@runtime_checkable
class Provider(Protocol):
    """A provider for the sync client (and, in a worker thread, for the async one).

    ``timeout`` is how many seconds the attempt may take.  The sync client cannot interrupt your code and looks at the
    clock only between the pieces of a stream: respect it, or the call takes as long as you do.  A whole answer that
    ``chat`` returns too late is still an answer.  A provider may also have ``stream(request, *, timeout)`` returning
    an iterator of events, and the attributes of ``ProviderOptions`` (``model``, ``weight``, ``tags``...), which
    default as documented there.
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
    key_is_fixed = True
    propagate_trace_context = False

    def __init__(self, inner: Provider | AsyncProvider | Function) -> None:
        self.inner = inner
        self.id: str = name_of(inner, inner.id)
        self.model: str = getattr(inner, "model", "") or inner.id
        self.weight: float = positive("weight", getattr(inner, "weight", 1.0))
        self.max_concurrency: int | None = whole("max_concurrency", getattr(inner, "max_concurrency", None))
        self.context_window: int | None = whole("context_window", getattr(inner, "context_window", None))
        self.tags: frozenset[str] = tags_of(inner, getattr(inner, "tags", ()))
        self.embedding_space: str | None = getattr(inner, "embedding_space", None)
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
        """Call the user's code: a response, text, an iterator, or an awaitable or async iterator of these."""
        if isinstance(self.inner, Function):
            return self.inner.start(request, timeout)
        method = getattr(self.inner, "stream" if stream and self.streams else "chat")
        return method(request, timeout=timeout)

    def __repr__(self) -> str:
        return repr(self.inner)


def as_answer(
    value: object | Iterable[object] | AsyncIterable[object],
) -> ChatResponse | Iterator[object] | AsyncIterator[object]:
    """What a custom provider returned, as a response or an iterator.  Raises ``TypeError`` naming what came instead."""
    if isinstance(value, ChatResponse):
        return value
    if isinstance(value, str):
        return ChatResponse((Text(value),))
    if isinstance(value, AsyncIterable):
        return cast(AsyncIterable[object], value).__aiter__()
    if isinstance(value, Iterable) and not isinstance(value, bytes | bytearray | dict):
        return iter(cast(Iterable[object], value))
    what = _kind(value)  # pyright: ignore[reportUnknownArgumentType]
    raise TypeError(f"a provider must return text, a ChatResponse or an iterator of text, not {what}")


def _takes_timeout(call: Callable[..., object]) -> bool:
    try:
        parameters = list(inspect.signature(call).parameters.values())
    except (TypeError, ValueError):  # a builtin that does not tell
        return False
    named = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return any(one.name == "timeout" and one.kind in named and at for at, one in enumerate(parameters))


def _kind(value: object) -> str:
    return type(value).__name__
