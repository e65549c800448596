"""Kept-alive connections of the engines ``httpx`` and ``httpx2``: which one serves a request.

A connection serves one request at a time and stands nowhere in here meanwhile: whatever interrupts that request hurts
no other, and no lock is needed.  Closing is left to the caller, who may have to await it.
"""

from __future__ import annotations

import time
from collections import deque
from contextlib import suppress
from typing import Generic, Protocol, TypeAlias, TypeVar

Place: TypeAlias = tuple[str, bytes, str | None]
"""What a connection leads to: the scheme, host and port, and the URL of the proxy on the way (``None``: none)."""

_MOST = 100  # idle connections to one place
_LONGEST = 30.0  # seconds a connection is kept that nobody uses


class Idle(Protocol):
    """A connection, as far as keeping it is concerned."""

    kept_until: float

    @property
    def usable(self) -> bool:
        """Whether it can serve another request: the other side has not closed it, or sent anything."""
        ...


C = TypeVar("C", bound=Idle)


class Kept(Generic[C]):
    """The idle connections of one engine."""

    def __init__(self) -> None:
        self._idle: dict[Place, deque[C]] = {}
        self._over = False

    def take(self, place: Place) -> tuple[C | None, list[C]]:
        """The idle connection that was used last, if there is one that can be used, and those to be closed."""
        old: list[C] = []
        idle = self._idle.get(place)
        with suppress(IndexError):  # another thread may take the last one
            while idle:
                connection = idle.pop()
                if _good(connection):
                    return connection, old
                old.append(connection)
        return None, old

    def give(self, place: Place, connection: C) -> C | None:
        """Keep a connection whose request is over; returns one that is to be closed, if any."""
        idle = self._idle.get(place)
        if idle is None:
            idle = self._idle.setdefault(place, deque())
        connection.kept_until = time.monotonic() + _LONGEST
        idle.append(connection)
        if len(idle) > 1 or self._over:
            with suppress(IndexError):
                oldest = idle.popleft()
                if self._over or len(idle) >= _MOST or not _good(oldest):
                    return oldest
                idle.appendleft(oldest)
        return None

    def end(self) -> list[C]:
        """Keep nothing any more; returns the connections to be closed."""
        self._over = True
        found: list[C] = []
        for idle in list(self._idle.values()):
            with suppress(IndexError):
                while True:
                    found.append(idle.pop())
        return found


def _good(connection: Idle) -> bool:
    return connection.usable and time.monotonic() <= connection.kept_until
