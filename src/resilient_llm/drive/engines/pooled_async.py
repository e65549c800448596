"""The engines ``httpx`` and ``httpx2`` for the async client.

A module of its own, so that the sync client imports no event loop.
"""

from __future__ import annotations

from resilient_llm.drive.engines.family import Destination, Family
from resilient_llm.drive.engines.kept import Generations, Kept
from resilient_llm.drive.engines.loops import AsyncioStream, TrioStream, connected
from resilient_llm.drive.engines.pooled import Answer, Sending
from resilient_llm.drive.engines.seam import Limit, Outgoing


class AsyncPooledAnswer(Answer[AsyncioStream | TrioStream]):
    """For the async client."""

    __slots__ = ()

    async def read(self) -> bytes | None:
        """The next piece of the body; ``None`` at its end."""
        try:
            while (piece := self.piece()) == b"":
                self._connection.http.received(await self._connection.read(self._limit))
        except self._family.errors as error:
            self._family.raised(error)
        return piece

    async def aclose(self) -> None:
        """The same as ``close``."""
        self.close()


class AsyncPooled:
    """The engine of the async client on one event loop."""

    of_loop = True

    def __init__(self, family: Family) -> None:
        self._family = family
        self._generations = Generations()
        self.kept: Kept[AsyncioStream | TrioStream] = Kept()

    async def send(self, outgoing: Outgoing, limit: Limit) -> AsyncPooledAnswer:
        """Send a request."""
        sending = Sending(self._family, self._generations, outgoing, limit)
        while True:
            try:
                return await self._sent(sending.to, outgoing, limit)
            except self._family.errors as error:
                sending.failed(error)

    async def _sent(self, to: Destination, outgoing: Outgoing, limit: Limit) -> AsyncPooledAnswer:
        kept = self.kept
        connection = kept.take(to.place)
        if connection is None:
            connection = await connected(self._family, self._generations, to, limit)
        try:
            await connection.write(connection.asks(to, outgoing, limit), limit)
            while (head := connection.http.head()) is None:
                connection.http.received(await connection.read(limit))
            return AsyncPooledAnswer(self._family, connection, head, kept, limit)
        except BaseException:
            connection.close()
            raise

    async def aclose(self) -> None:
        """Close idle connections; those in use are closed when they come back."""
        kept, self.kept = self.kept, Kept()
        kept.end()
