"""The engines ``httpx`` and ``httpx2`` for the async client.

A module of its own, so that the sync client imports no event loop.
"""

from __future__ import annotations

import anyio

from resilient_llm.drive.engines.family import Destination, Family
from resilient_llm.drive.engines.generations import Generations
from resilient_llm.drive.engines.kept import Kept
from resilient_llm.drive.engines.loops import AsyncioStream, TrioStream, connected
from resilient_llm.drive.engines.pooled import Answer
from resilient_llm.drive.engines.seam import Limit, Outgoing


class AsyncPooledAnswer(Answer[AsyncioStream | TrioStream]):
    """For the async client."""

    __slots__ = ()

    async def read(self) -> bytes | None:
        """The next piece of the body; ``None`` at its end."""
        http = self._connection.http
        try:
            while not self.spent:
                piece = http.piece()
                if piece:
                    return piece
                if piece is None:
                    self.spent = True
                else:
                    http.received(await self._connection.read(self._limit))
        except self._family.errors as error:
            self._family.raised(error)
        return None

    async def aclose(self) -> None:
        """Give the connection back, or close it if the answer was not read to its end."""
        for connection in self.parted():
            await connection.aclose()


class AsyncPooled:
    """The engine of the async client on one event loop."""

    def __init__(self, family: Family) -> None:
        self._family = family
        self._generations = Generations()
        self._kept: Kept[AsyncioStream | TrioStream] = Kept()

    async def send(self, outgoing: Outgoing, limit: Limit) -> AsyncPooledAnswer:
        """Send a request.  Over a kept-alive connection that turns out to be closed it is sent once more."""
        family = self._family
        to = family.destination(outgoing.url)
        if outgoing.fresh:
            self._generations.expire(to.host)
        try:
            return await self._sent(to, outgoing, limit)
        except family.errors as error:
            if not family.lost(error, outgoing, limit):
                family.raised(error)
        self._generations.expire(to.host)
        try:
            return await self._sent(to, outgoing, limit)
        except family.errors as error:
            family.raised(error)

    async def _sent(self, to: Destination, outgoing: Outgoing, limit: Limit) -> AsyncPooledAnswer:
        kept = self._kept
        connection, old = kept.take(to.place)
        for one in old:
            with anyio.CancelScope(shield=True):  # closing does not wait
                await one.aclose()
        if connection is None:
            connection = await connected(self._family, self._generations, to, limit)
        try:
            await connection.write(connection.asks(to, outgoing, limit), limit)
            while (head := connection.http.head()) is None:
                connection.http.received(await connection.read(limit))
            return AsyncPooledAnswer(self._family, connection, head, kept, limit)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await connection.aclose()
            raise

    async def aclose(self) -> None:
        """Close idle connections; those in use are closed when they come back."""
        kept, self._kept = self._kept, Kept()
        for connection in kept.end():
            await connection.aclose()
