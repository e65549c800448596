"""Kept-alive connections of the engines ``httpx`` and ``httpx2``: which one serves a request.

A connection serves one request at a time and stands nowhere in here meanwhile: whatever interrupts that request hurts
no other, and no lock is needed.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import Generic, Protocol, TypeAlias, TypeVar

from resilient_llm.providers.network import Network

Place: TypeAlias = tuple[str, bytes, str | None, Network | None]
"""What a connection leads to: the scheme, host and port, the URL of the proxy on the way (``None``: none), and what is
said of the network (``None``: nothing)."""

_MOST = 100  # idle connections to one place
_LONGEST = 30.0  # seconds a connection is kept that nobody uses


class Idle(Protocol):
    """A connection, as far as keeping it is concerned."""

    kept_until: float

    @property
    def usable(self) -> bool:
        """Whether it can serve another request: the other side has not closed it, or sent anything."""
        ...

    def close(self) -> None:
        """Close it; waits for nothing."""
        ...


class Generations:
    """Which kept-alive connections may still be used: those of the current generation of their host."""

    def __init__(self) -> None:
        self._current: dict[str, int] = {}

    def of(self, host: str) -> int:
        """The current generation."""
        return self._current.get(host, 0)

    def expire(self, host: str) -> None:
        """Use no idle connection to this host any more."""
        self._current[host] = self._current.get(host, 0) + 1


C = TypeVar("C", bound=Idle)


class Kept(Generic[C]):
    """The idle connections of one engine."""

    def __init__(self) -> None:
        self._idle: dict[Place, deque[C]] = {}
        self._over = False
        self._sweep_at = 0.0

    def take(self, place: Place) -> C | None:
        """The idle connection that was used last, if there is one that can be used."""
        idle = self._idle.get(place)
        with suppress(IndexError):  # another thread may take the last one
            while idle:
                connection = idle.pop()
                if time.monotonic() <= connection.kept_until and connection.usable:
                    return connection
                connection.close()
        return None

    def give(self, place: Place, connection: C) -> None:
        """Keep a connection whose request is over, or close one.  Now and then, close what nobody has used for long,
        also where nobody asks any more."""
        now = time.monotonic()
        idle = self._idle.get(place)
        if idle is None:
            idle = self._idle.setdefault(place, deque())
        connection.kept_until = now + _LONGEST
        idle.append(connection)
        if self._over or len(idle) > _MOST:
            with suppress(IndexError):
                idle.popleft().close()
        if now >= self._sweep_at:
            self._sweep_at = now + _LONGEST
            self._close_old(now)

    def retain(self, networks: AbstractSet[Network]) -> None:
        """Close the idle connections of providers that said something else of the network than those there are."""
        for place in list(self._idle):
            if place[3] is not None and place[3] not in networks:
                _close_until(math.inf, self._idle.pop(place, deque[C]()))

    def end(self) -> None:
        """Close the idle connections, and those that are given back from now on."""
        self._over = True
        self._close_old(math.inf)

    def _close_old(self, now: float) -> None:
        for idle in list(self._idle.values()):
            _close_until(now, idle)


def _close_until(now: float, idle: deque[C]) -> None:
    with suppress(IndexError):  # another thread may take the last one
        while idle[0].kept_until < now:
            idle.popleft().close()
