"""Faults around the engines of a client: what :func:`~resilient_llm.testing.inject` puts into it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from typing import cast, final

import httpx
from typing_extensions import override

from resilient_llm.drive.engines import AsyncEngine, AsyncSource, Engine, Limit, Outgoing, Source
from resilient_llm.drive.engines.given import AsyncGiven, Given
from resilient_llm.testing.faults import Faults
from resilient_llm.testing.transport import FaultyTransport


@final
class FaultyEngine:
    """An engine for the sync client that does to its providers what schedules say; the rest goes to ``inner``."""

    bounded = True

    def __init__(self, faults: Mapping[str, Faults], inner: Engine) -> None:
        self._faults = faults
        self._inner = inner

    def send(self, outgoing: Outgoing, limit: Limit) -> Source:
        """Send, or do what the schedule says."""
        faults = self._faults.get(outgoing.provider)
        if faults is None:
            return self._inner.send(outgoing, limit)
        beneath = _Beneath(self._inner, outgoing, limit)
        return Given(FaultyTransport(lambda request: faults, beneath)).send(outgoing, limit)

    def close(self) -> None:
        """Close the engine inside."""
        self._inner.close()


@final
class AsyncFaultyEngine:
    """The same for the async client."""

    def __init__(self, faults: Mapping[str, Faults], inner: AsyncEngine) -> None:
        self._faults = faults
        self._inner = inner

    async def send(self, outgoing: Outgoing, limit: Limit) -> AsyncSource:
        """Send, or do what the schedule says."""
        faults = self._faults.get(outgoing.provider)
        if faults is None:
            return await self._inner.send(outgoing, limit)
        beneath = _AsyncBeneath(self._inner, outgoing, limit)
        return await AsyncGiven(FaultyTransport(lambda request: faults, beneath)).send(outgoing, limit)

    async def aclose(self) -> None:
        """Close the engine inside."""
        await self._inner.aclose()


def _as_altered(outgoing: Outgoing, request: httpx.Request) -> Outgoing:
    """With the ``accept-encoding`` that the fault wants."""
    wanted = request.headers["accept-encoding"]
    kept = tuple((name, value) for name, value in outgoing.headers if name != "accept-encoding")
    return replace(outgoing, headers=(*kept, ("accept-encoding", wanted)))


@final
class _Beneath(httpx.BaseTransport):
    """An engine as a transport."""

    def __init__(self, engine: Engine, outgoing: Outgoing, limit: Limit) -> None:
        self._engine = engine
        self._outgoing = outgoing
        self._limit = limit

    @override
    def handle_request(self, request: httpx.Request) -> httpx.Response:
        source = self._engine.send(_as_altered(self._outgoing, request), self._limit)
        return httpx.Response(source.status or 200, headers=dict(source.headers), stream=_Pieces(source))


@final
class _Pieces(httpx.SyncByteStream):
    def __init__(self, source: Source) -> None:
        self._source = source

    @override
    def __iter__(self) -> Iterator[bytes]:
        while (piece := self._source.read()) is not None:
            yield cast(bytes, piece)

    @override
    def close(self) -> None:
        self._source.close()


@final
class _AsyncBeneath(httpx.AsyncBaseTransport):
    """An engine as a transport."""

    def __init__(self, engine: AsyncEngine, outgoing: Outgoing, limit: Limit) -> None:
        self._engine = engine
        self._outgoing = outgoing
        self._limit = limit

    @override
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        source = await self._engine.send(_as_altered(self._outgoing, request), self._limit)
        return httpx.Response(source.status or 200, headers=dict(source.headers), stream=_AsyncPieces(source))


@final
class _AsyncPieces(httpx.AsyncByteStream):
    def __init__(self, source: AsyncSource) -> None:
        self._source = source

    @override
    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        piece = await self._source.read()
        if piece is None:
            raise StopAsyncIteration
        return cast(bytes, piece)

    @override
    async def aclose(self) -> None:
        await self._source.aclose()
