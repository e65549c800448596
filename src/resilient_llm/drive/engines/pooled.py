"""The engines ``httpx`` and ``httpx2``: for the sync client, and what both clients share.

They speak HTTP/1.1 over connections of our own: no redirects, cookies, authentication or event hooks, none of which an
API call wants.  Exceptions are those of httpx, or httpx2.  Bodies come as they are on the wire.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from resilient_llm.drive.engines.family import Destination, Family
from resilient_llm.drive.engines.kept import Generations, Kept
from resilient_llm.drive.engines.seam import Limit, Outgoing
from resilient_llm.drive.fork import imported, tell_after_fork

if TYPE_CHECKING:
    from resilient_llm.drive.engines.http1 import Head
    from resilient_llm.drive.engines.network import Connection, Stream

C = TypeVar("C", bound="Connection")


class Answer(Generic[C]):
    """An answer whose body is still to be read, and the connection it comes over."""

    __slots__ = ("_connection", "_family", "_held", "_kept", "_limit", "headers", "spent", "status")

    def __init__(self, family: Family, connection: C, head: Head, kept: Kept[C], limit: Limit) -> None:
        self.status: int = head.status
        self.headers: Mapping[str, str] = head.headers
        self.spent: bool = False
        """Whether the body was read to its end, so that closing waits for nothing."""
        self._family = family
        self._limit = limit
        self._connection = connection
        self._held = [connection]
        self._kept = kept

    def sever(self) -> None:
        """Cut the connection."""
        self._limit.sever()

    def piece(self) -> bytes | None:
        """The next piece of the body; empty: more must be read first; ``None``: that was all of it."""
        piece = None if self.spent else self._connection.http.piece()
        self.spent = piece is None
        return piece

    def close(self) -> None:
        """Give the connection back, or close it if the answer was not read to its end, or no other request may follow.
        Waits for nothing."""
        self._limit.release()
        try:
            connection = self._held.pop()  # at once, should two threads close it
        except IndexError:
            return
        if self.spent and connection.http.renew():
            self._kept.give(connection.to.place, connection)
        else:
            connection.close()


class Sending:
    """A request that is being sent: over a kept-alive connection that turns out to be closed, once more."""

    def __init__(self, family: Family, generations: Generations, outgoing: Outgoing, limit: Limit) -> None:
        self.to: Destination = family.destination(outgoing.url, outgoing.network)
        self._family = family
        self._generations = generations
        self._outgoing = outgoing
        self._limit = limit
        self._again = False
        if outgoing.fresh:
            generations.expire(self.to.host)

    def failed(self, error: Exception) -> None:
        """Raises what that means, unless it is to be sent once more."""
        limit, core = self._limit, self._family.core
        stale = limit.reused and not limit.heard and not limit.ended  # before any byte of the answer: nobody failed
        closed = isinstance(error, core.ReadError | core.RemoteProtocolError)
        if self._again or not (stale and closed and self._outgoing.repeatable):
            self._family.raised(error)
        self._again = True
        self._generations.expire(self.to.host)


class PooledAnswer(Answer["Stream"]):
    """For the sync client."""

    __slots__ = ()

    def read(self) -> bytes | None:
        """The next piece of the body; ``None`` at its end."""
        try:
            while (piece := self.piece()) == b"":
                self._connection.http.received(self._connection.read(self._limit))
        except self._family.errors as error:
            self._family.raised(error)
        return piece


class Pooled:
    """The engine of the sync client."""

    bounded = True

    def __init__(self, name: str) -> None:
        self.family: Family = Family(name)
        self._generations = Generations()
        self.kept: Kept[Stream] = Kept()
        tell_after_fork(self)

    def send(self, outgoing: Outgoing, limit: Limit) -> PooledAnswer:
        """Send a request."""
        sending = Sending(self.family, self._generations, outgoing, limit)
        while True:
            try:
                return self._sent(sending.to, outgoing, limit)
            except self.family.errors as error:
                sending.failed(error)

    def _sent(self, to: Destination, outgoing: Outgoing, limit: Limit) -> PooledAnswer:
        kept = self.kept
        connection = kept.take(to.place)
        if connection is None:
            made: Any = imported("resilient_llm.drive.engines.network").connected
            connection = made(self.family, self._generations, to, limit)
        try:
            connection.write(connection.asks(to, outgoing, limit), limit)
            while (head := connection.http.head()) is None:
                connection.http.received(connection.read(limit))
            return PooledAnswer(self.family, connection, head, kept, limit)
        except BaseException:
            connection.close()
            raise

    def close(self) -> None:
        """Close idle connections; those in use are closed when they come back."""
        kept, self.kept = self.kept, Kept()
        kept.end()

    def reset_after_fork(self) -> None:
        """In the child: forget the parent's connections without touching them."""
        FORGOTTEN.append(self.kept)
        self.kept = Kept()
        self._generations = Generations()


FORGOTTEN: list[object] = []
"""Connections of a parent process, kept from being collected: closing a TLS one could send bytes."""
