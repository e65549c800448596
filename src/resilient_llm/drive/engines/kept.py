"""Kept-alive connections of the engines ``httpx`` and ``httpx2``.

The connections are those of httpcore (or httpcore2), and so is what makes them; which one serves a request is decided
here.  A connection serves one request at a time and stands nowhere in here meanwhile: whatever interrupts that request
hurts no other, and no lock is needed.  Closing is left to the caller, who may have to await it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple, TypeAlias

Way: TypeAlias = tuple[str, str | None]
"""A scheme, and the URL of the proxy on the way (``None``: there is none)."""
Place: TypeAlias = tuple[Way, bytes]
"""A way, and where it leads: host and port."""

_MOST = 100  # idle connections to one place


class Address(NamedTuple):
    """Where a request goes: the URL and the origin as httpcore wants them, the ``host`` header, the bare host."""

    url: Any
    origin: Any
    host: tuple[bytes, bytes]
    place: Place
    name: str


class Kept:
    """The idle connections of one engine, and what makes new ones."""

    def __init__(self, maker: Callable[[Way], Any]) -> None:
        self._maker = maker
        self._makers: dict[Way, Any] = {}
        self._idle: dict[Place, deque[Any]] = {}
        self._over = False

    def take(self, address: Address) -> tuple[Any, list[Any]]:
        """The idle connection that was used last, or a new one; and those to be closed, because the other side has done
        so or they are too old."""
        old: list[Any] = []
        idle = self._idle.get(address.place)
        with suppress(IndexError):  # another thread may take the last one
            while idle:
                connection = idle.pop()
                if not connection.has_expired():
                    return connection, old
                old.append(connection)
        way = address.place[0]
        maker = self._makers.get(way)
        if maker is None:  # two threads may make one each; the first counts, and the other holds nothing
            maker = self._makers.setdefault(way, self._maker(way))
        return maker.create_connection(address.origin), old

    def give(self, place: Place, connection: Any) -> Any | None:
        """Keep a connection whose request is over; returns one that is to be closed, if any."""
        if not connection.is_idle():
            return connection
        idle = self._idle.get(place)
        if idle is None:
            idle = self._idle.setdefault(place, deque())
        idle.append(connection)
        if len(idle) == 1 and not self._over:
            return None
        with suppress(IndexError):
            oldest = idle.popleft()
            if self._over or len(idle) >= _MOST or oldest.has_expired():
                return oldest
            idle.appendleft(oldest)
        return None

    def end(self) -> list[Any]:
        """Keep nothing any more; returns the connections to be closed."""
        self._over = True
        found: list[Any] = []
        for idle in list(self._idle.values()):
            with suppress(IndexError):
                while True:
                    found.append(idle.pop())
        return found
