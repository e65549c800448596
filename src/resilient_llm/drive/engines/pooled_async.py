"""The engines ``httpx`` and ``httpx2`` for the async client.

A module of its own, so that the sync client imports no event loop.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from functools import cache
from types import ModuleType
from typing import Any, cast

import anyio

from resilient_llm.drive.engines.loops import AsyncBackend
from resilient_llm.drive.engines.pooled import Family, Head, Where, surplus
from resilient_llm.drive.engines.seam import Limit, Outgoing


@cache
def _pool_class(core: ModuleType) -> Any:
    """The pool, whose connections are closed whenever a request on them fails or is cancelled.

    Cancelled between connecting and sending, a connection would stay open and in the pool for ever.
    """

    class Pool(core.AsyncConnectionPool):  # type: ignore[misc, name-defined]
        def create_connection(self, origin: Any) -> Any:
            base: Any = super()
            connection = base.create_connection(origin)
            connection.__class__ = _closing(cast(Any, type(connection)), core.ConnectionNotAvailable)
            return connection

    return Pool


@cache
def _closing(kind: Any, not_now: type[Exception]) -> Any:
    class Connection(kind):  # type: ignore[misc]
        async def handle_async_request(self, request: Any) -> Any:
            try:
                base: Any = super()
                return await base.handle_async_request(request)
            except not_now:
                raise
            except BaseException:
                with anyio.CancelScope(shield=True):  # closing does not wait
                    await self.aclose()
                raise

    return Connection


class AsyncPooledAnswer(Head):
    """An answer of a pool whose body is still to be read."""

    __slots__ = ("_chunks", "_family")

    def __init__(self, family: Family, response: Any, limit: Limit) -> None:
        super().__init__(response, limit)
        self._family = family
        self._chunks: AsyncIterator[bytes] = response.stream.__aiter__()

    async def read(self) -> bytes | None:
        """The next piece of the body; ``None`` at its end."""
        try:
            return await self._chunks.__anext__()
        except StopAsyncIteration:
            self.spent = True
            return None
        except self._family.errors as error:
            self._family.raised(error)

    async def aclose(self) -> None:
        """Give the connection back, or close it if the answer was not read to its end.

        The pool reads in async generators.  Left in the middle, trio complains about them and asyncio ends them in
        tasks of their own; a read that fails lets them end here.
        """
        self._limit.release()
        if not self.spent:
            self._stream.spoil()
            self._stream.refuse()
            with suppress(Exception):
                async for _ in self._chunks:
                    pass
        elif surplus(self._response):
            self._stream.spoil()
        with suppress(*self._family.errors):
            await self._response.aclose()


class AsyncPooled:
    """The engine of the async client on one event loop."""

    def __init__(self, family: Family) -> None:
        self._family = family
        self._backend = AsyncBackend(family.core)
        self._pools: dict[Where, Any] = {}

    async def send(self, outgoing: Outgoing, limit: Limit) -> AsyncPooledAnswer:
        """Send a request.  Over a kept-alive connection that turns out to be closed it is sent once more."""
        family = self._family
        target, host, where, name = family.address(outgoing.url)
        if outgoing.fresh:
            self._backend.generations.expire(name)
        pool = self._pools.get(where)
        if pool is None:
            pool = self._pools[where] = family.pool(where, self._backend, _pool_class(family.core))
        try:
            response = await pool.handle_async_request(family.request(outgoing, target, host, limit))
        except family.errors as error:
            if not family.lost(error, outgoing, limit):
                family.raised(error)
        else:
            return AsyncPooledAnswer(family, response, limit)
        self._backend.generations.expire(name)
        try:
            response = await pool.handle_async_request(family.request(outgoing, target, host, limit))
        except family.errors as error:
            family.raised(error)
        return AsyncPooledAnswer(family, response, limit)

    async def aclose(self) -> None:
        """Close all connections."""
        while self._pools:
            await self._pools.popitem()[1].aclose()
