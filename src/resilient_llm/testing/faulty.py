"""Faults around a provider you wrote, which has no wire: its true answers, late or broken, or others in their place."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator
from typing import cast, final

from typing_extensions import override

from resilient_llm.errors import ConfigurationError
from resilient_llm.model import ChatRequest, ChatResponse, StreamEvent, TextDelta
from resilient_llm.providers.base import HttpProvider
from resilient_llm.providers.custom import AsyncProvider, Custom, Function, Provider, as_answer
from resilient_llm.testing.clock import ManualClock
from resilient_llm.testing.faults import REPLACING, Faults, FaultsLike, SlowTokens, as_faults
from resilient_llm.testing.in_process import altered, broken, latency_of, performed, words_of
from resilient_llm.testing.pace import Pace, Paced, collected, complete, paced, whole_async
from resilient_llm.testing.script import EndlessHeaders, Raw, StreamFault
from resilient_llm.wire.kit.accumulate import replay

__all__ = ["AsyncFaultyProvider", "FaultyProvider"]


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

    def _paced(self, timeout: float) -> Pace:
        return Pace(timeout, self.clock, self.faults.withdrawn)

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
        mishap, pace = self.faults.next(), self._paced(timeout)
        if isinstance(mishap, REPLACING):
            return collected(paced(performed(mishap, stream=False), pace))
        pace.sleep(latency_of(mishap))
        answer = as_answer(self._inner.start(request, timeout, stream=False))
        whole = answer if isinstance(answer, ChatResponse) else collected(_events(answer))
        if isinstance(mishap, SlowTokens):
            pace.sleep(mishap.interval * words_of(whole))
        elif isinstance(mishap, StreamFault):
            return collected(paced(altered(replay(whole), mishap, stream=False), pace))
        return whole

    def stream(self, request: ChatRequest, *, timeout: float) -> Iterator[StreamEvent]:
        """The provider's stream, or what the schedule makes of it."""
        mishap, pace = self.faults.next(), self._paced(timeout)
        if isinstance(mishap, REPLACING):
            yield from paced(performed(mishap, stream=True), pace)
            return
        pace.sleep(latency_of(mishap))
        answer = as_answer(self._inner.start(request, timeout, stream=True))
        try:
            yield from paced(altered(_events(answer), mishap, stream=True), pace)
        finally:
            close = getattr(answer, "close", None)
            if close is not None:
                close()


@final
class AsyncFaultyProvider(_Faulty):
    """The same around an async provider."""

    async def chat(self, request: ChatRequest, *, timeout: float) -> ChatResponse:  # noqa: ASYNC109
        """The provider's answer, or what the schedule makes of it."""
        mishap, pace = self.faults.next(), self._paced(timeout)
        if isinstance(mishap, REPLACING):
            return await whole_async(performed(mishap, stream=False), pace)
        await pace.sleep_async(latency_of(mishap))
        answer = await self.answer(request, timeout, stream=False)
        if isinstance(answer, AsyncIterator):
            answer = iter([item async for item in cast("AsyncIterator[object]", answer)])
        whole = answer if isinstance(answer, ChatResponse) else collected(_events(answer))
        if isinstance(mishap, SlowTokens):
            await pace.sleep_async(mishap.interval * words_of(whole))
        elif isinstance(mishap, StreamFault):
            return await whole_async(altered(replay(whole), mishap, stream=False), pace)
        return whole

    def stream(self, request: ChatRequest, *, timeout: float) -> AsyncIterator[StreamEvent]:
        """The provider's stream, or what the schedule makes of it."""
        return _AsyncStream(self, request, self._paced(timeout), timeout)

    async def answer(self, request: ChatRequest, timeout: float, *, stream: bool) -> object:  # noqa: ASYNC109 - a limit
        """What the provider inside says."""
        value = self._inner.start(request, timeout, stream=stream)
        return as_answer(await cast("Awaitable[object]", value) if isinstance(value, Awaitable) else value)


@final
class _AsyncStream(Paced):
    """A provider's stream, asked for when it is first read, changed on its way."""

    def __init__(self, provider: AsyncFaultyProvider, request: ChatRequest, pace: Pace, timeout: float) -> None:
        super().__init__(iter(()), pace)
        self._provider: AsyncFaultyProvider | None = provider
        self._request = request
        self._timeout = timeout
        self._answer = broken(None, stream=True)
        self._items: AsyncIterator[str | StreamEvent] | None = None
        self._beneath: object = None

    @override
    async def _more(self) -> bool:
        provider, self._provider = self._provider, None
        if provider is not None:
            await self._ask(provider)
        elif self._items is None:
            return False
        else:
            item = await anext(self._items, None)
            if item is None:
                self._items, self._steps = None, self._answer.end()
            elif item != "":
                event = TextDelta(item) if isinstance(item, str) else item
                self._steps = self._answer.said((event,), (event,))
        return True

    async def _ask(self, provider: AsyncFaultyProvider) -> None:
        mishap = provider.faults.next()
        if isinstance(mishap, REPLACING):
            self._steps = performed(mishap, stream=True)
            return
        await self._pace.sleep_async(latency_of(mishap))
        self._beneath = answer = await provider.answer(self._request, self._timeout, stream=True)
        if isinstance(answer, AsyncIterator):
            self._items = cast("AsyncIterator[str | StreamEvent]", answer)
            self._answer = broken(mishap, stream=True)
        else:
            self._steps = altered(_events(answer), mishap, stream=True)

    @override
    async def aclose(self) -> None:
        close = getattr(self._beneath, "aclose", None)
        if close is not None:
            await close()


def _events(answer: object) -> Iterable[StreamEvent]:
    """An answer, or the pieces of one, as events."""
    if isinstance(answer, ChatResponse):
        return replay(answer)
    assert isinstance(answer, Iterator)
    return complete(cast("Iterator[str | StreamEvent]", answer))
