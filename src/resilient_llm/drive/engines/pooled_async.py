"""The engines ``httpx`` and ``httpx2`` for the async client.

A module of its own, so that the sync client imports no event loop.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import anyio

from resilient_llm.drive.engines.loops import AsyncBackend
from resilient_llm.drive.engines.kept import Address, Kept, Way
from resilient_llm.drive.engines.pooled import Family, Head, Sent
from resilient_llm.drive.engines.seam import Limit, Outgoing


class AsyncPooledAnswer(Head):
    """An answer whose body is still to be read."""

    __slots__ = ("_chunks",)

    def __init__(self, family: Family, sent: Sent, limit: Limit) -> None:
        super().__init__(family, sent, limit)
        self._chunks: AsyncIterator[bytes] = sent.response.stream.__aiter__()

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

        The connection reads in async generators.  Left in the middle, trio complains about them and asyncio ends them
        in tasks of their own; a read that fails lets them end here.
        """
        self._limit.release()
        if not self.spent:
            self._stream.refuse()
            with suppress(Exception):
                async for _ in self._chunks:
                    pass
        with suppress(*self._family.errors):
            await self._response.aclose()
        for connection in self.parted():
            await connection.aclose()


class AsyncPooled:
    """The engine of the async client on one event loop."""

    def __init__(self, family: Family) -> None:
        self._family = family
        self._backend = AsyncBackend(family.core)
        self._kept = Kept(self._maker)

    async def send(self, outgoing: Outgoing, limit: Limit) -> AsyncPooledAnswer:
        """Send a request.  Over a kept-alive connection that turns out to be closed it is sent once more."""
        family = self._family
        address = family.address(outgoing.url)
        if outgoing.fresh:
            self._backend.generations.expire(address.name)
        try:
            return AsyncPooledAnswer(family, await self._sent(address, outgoing, limit), limit)
        except family.errors as error:
            if not family.lost(error, outgoing, limit):
                family.raised(error)
        self._backend.generations.expire(address.name)
        try:
            return AsyncPooledAnswer(family, await self._sent(address, outgoing, limit), limit)
        except family.errors as error:
            family.raised(error)

    async def _sent(self, address: Address, outgoing: Outgoing, limit: Limit) -> Sent:
        kept = self._kept
        connection, old = kept.take(address)
        try:
            for one in old:
                await one.aclose()
            response = await connection.handle_async_request(self._family.request(outgoing, address, limit))
            return Sent(response, connection, kept, address)
        except BaseException:
            with anyio.CancelScope(shield=True):  # closing does not wait
                await connection.aclose()
            raise

    def _maker(self, way: Way) -> Any:
        return self._family.maker(way, self._backend, self._family.core.AsyncConnectionPool)

    async def aclose(self) -> None:
        """Close idle connections; those in use are closed when they come back."""
        kept, self._kept = self._kept, Kept(self._maker)
        for connection in kept.end():
            await connection.aclose()
