"""What the drivers need of an HTTP engine, and of time: small enough to be replaced.

An engine carries one request and hands back its answer piece by piece.  Whoever has an object with these methods can
give it to a client as ``engine=``, or put it around the client's own for a while (:meth:`Seam.around`), as the kit for
tests does to inject faults.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Generic, Protocol, TypeAlias, TypeVar

from resilient_llm.drive.fork import Mark
from resilient_llm.errors import ClientClosed
from resilient_llm.providers.network import USUAL, Network


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One HTTP request.  ``headers`` have their names in lower case and hold the credential; they are never shown.

    ``provider`` is the id of the provider it is for.  ``fresh``: send it over a new connection.  ``repeatable``: it may
    be sent a second time if a kept-alive connection turns out to be closed before any byte of the answer.
    ``network``: through which proxy it goes, whom TLS trusts, and with which certificate of ours.
    """

    provider: str
    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    fresh: bool = False
    repeatable: bool = True
    method: str = "POST"
    network: Network = USUAL

    def __repr__(self) -> str:
        return f"<Outgoing {self.method} to {self.provider!r}, {len(self.body)} bytes>"


def joined(headers: Sequence[tuple[str, str]]) -> Mapping[str, str]:
    """Headers by name; those that repeat are joined."""
    found = dict(headers)
    if len(found) < len(headers):
        found = {name: ", ".join(value for key, value in headers if key == name) for name in found}
    return found


class Severable(Protocol):
    """A connection that can be cut off from outside."""

    def sever(self) -> None:
        """End whatever is waited for at once; takes no lock, never blocks or raises, may be called more than once."""
        ...


class Limit:
    """How long the network operations of one attempt may take together.

    Each operation asks :meth:`use` what is left of it, so the bound may move while an answer is being read.  Used by
    one thread or task at a time; :meth:`sever` may be called from any.
    """

    _connection: Severable | None = None
    ended: bool = False
    """Nobody waits any more: every further operation fails."""
    scoped: bool = False
    """Async only: a cancel scope bounds the operations already."""
    reused: bool = False
    """The request went over a connection that had served another one."""
    heard: bool = False
    """Bytes of an answer have arrived."""
    due_at: float = math.inf
    """Sync only: monotonic time at which an operation that waits calls ``on_due`` and waits on."""
    on_due: Callable[[], None] | None = None

    def __init__(self, clock: Callable[[], float], until: float, connect: float) -> None:
        self._clock = clock
        self._process = Mark.here
        self.until: float = until
        """Monotonic time by which an operation that runs must have ended."""
        self.connect: float = connect
        """Seconds that establishing a connection may take."""

    @property
    def inherited(self) -> bool:
        """Whether this process was forked from the one whose attempt it is: the connection is still that one's."""
        return self._process is not Mark.here

    def left(self) -> float:
        """Seconds that are left.  Raises ``TimeoutError`` if there are none, or nobody waits any more; ``ClientClosed``
        in a forked process, which would take the parent's bytes."""
        if self.ended:
            raise TimeoutError("nobody waits for the answer any more")
        if self._process is not Mark.here:
            raise ClientClosed("the answer is being read by the process that this one was forked from")
        left = self.until - self._clock()
        if left <= 0:
            raise TimeoutError("the time for the attempt is up")
        return left

    def use(self, connection: Severable) -> float:
        """Seconds an operation on this connection may wait before it asks :meth:`due`; :meth:`sever` will cut it off.

        Raises ``TimeoutError`` as :meth:`left` does."""
        self._connection = connection
        left = self.left()
        if self.due_at == math.inf:
            return left
        until = self.due_at - self._clock()
        if until <= 0.0:  # operations that never wait, because there is always something to read, come to it too
            return self.use(connection) if self.due() else left
        return min(left, until)

    @contextmanager
    def within(self, seconds: float) -> Generator[None]:
        """Inside the ``with`` block, operations must have ended in so many seconds as well."""
        until, self.until = self.until, min(self.until, self._clock() + seconds)
        try:
            yield
        finally:
            self.until = until

    def due(self) -> bool:
        """Whether an operation that has waited as long as it was told waits on: what was due has been done."""
        if self.on_due is None or self._clock() < self.due_at - 0.001:
            return False
        self.due_at = math.inf
        self.on_due()
        return True

    def discard(self) -> None:
        """The same by the one who waits, and close the connection: something interrupted it in the middle."""
        connection = self._connection
        self.sever()
        close = getattr(connection, "close", None)
        if close is not None:
            with suppress(Exception):
                close()

    def release(self) -> None:
        """The connection may serve others from now on."""
        self._connection = None

    def sever(self) -> None:
        """End the operation that runs and all later ones; takes no lock, so that a finaliser may do it.  In a forked
        process the connection is left to the parent."""
        self.ended = True
        connection = self._connection
        if connection is not None and not self.inherited:
            with suppress(Exception):
                connection.sever()


class Source(Protocol):
    """An answer that arrives piece by piece."""

    @property
    def status(self) -> int | None:
        """The HTTP status; ``None`` where there is none."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """By names in lower case."""
        ...

    def read(self) -> object | None:
        """The next piece; ``None`` at the end.  Waits at most for what the attempt's limit leaves."""
        ...

    def sever(self) -> None:
        """End a :meth:`read` that waits, and cut the connection; takes no lock."""
        ...

    def close(self) -> None:
        """Let go of the connection; the second time does nothing."""
        ...


class AsyncSource(Protocol):
    """The same for the async client."""

    @property
    def status(self) -> int | None:
        """The HTTP status; ``None`` where there is none."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """By names in lower case."""
        ...

    async def read(self) -> object | None:
        """The next piece; ``None`` at the end.  Waits at most for what the attempt's limit leaves."""
        ...

    def sever(self) -> None:
        """End a :meth:`read` that waits, and cut the connection; takes no lock."""
        ...

    async def aclose(self) -> None:
        """Let go of the connection; the second time does nothing."""
        ...


class Engine(Protocol):
    """Carries requests for the sync client; used by any number of threads."""

    @property
    def bounded(self) -> bool:
        """Whether every operation respects the limit it is given.  If not, the client waits for the engine in a thread
        of its own."""
        ...

    def send(self, outgoing: Outgoing, limit: Limit) -> Source:
        """Send a request; returns when the head of the answer has arrived.  Redirects are not followed."""
        ...

    def close(self) -> None:
        """Close what is idle; called once, at the end."""
        ...


class AsyncEngine(Protocol):
    """The same for the async client; belongs to one event loop unless the user gave it."""

    async def send(self, outgoing: Outgoing, limit: Limit) -> AsyncSource:
        """Send a request; returns when the head of the answer has arrived.  Redirects are not followed.  It may be
        cancelled at any point, and then leaves nothing open."""
        ...

    async def aclose(self) -> None:
        """Close what is idle; called once, at the end."""
        ...


@dataclass(frozen=True, slots=True)
class Time:
    """Where a client's time comes from.

    ``monotonic`` and ``wall`` return seconds.  ``wait``: called with seconds instead of waiting that long; attempts are
    then made one after the other, because nothing can be silent for long while no time passes.  ``None``: time passes
    by itself.
    """

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    wait: Callable[[float], None] | None = None


E = TypeVar("E")  # an Engine or an AsyncEngine
Layer: TypeAlias = Callable[[E], E]
"""Makes an engine from another one."""


class Seam(Generic[E]):
    """Where a client meets the network and the clock."""

    def __init__(self) -> None:
        self._layers: tuple[Layer[E], ...] = ()

    @property
    def altered(self) -> bool:
        """Whether there is a layer around the engine now."""
        return bool(self._layers)

    @contextmanager
    def around(self, layer: Layer[E]) -> Generator[None]:
        """Inside the ``with`` block, send through ``layer(engine)``.  Blocks may be nested: the inner one is asked
        first."""
        self._layers += (layer,)
        try:
            yield
        finally:
            self._layers = tuple(one for one in self._layers if one is not layer)

    def engine(self, own: E) -> E:
        """The engine with what is around it now."""
        for layer in self._layers:
            own = layer(own)
        return own
