"""What is under way at one place: in the sync client everywhere, in the async one on one event loop."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Any

from resilient_llm.drive.exchange import AnyExchange
from resilient_llm.errors import ClientClosed
from resilient_llm.providers.network import Network


class UnderWay:
    """Calls, attempts and streams under way."""

    def __init__(self) -> None:
        self.engine: Any = None
        self.orphans: deque[Any] = deque()
        """Streams dropped without being closed, put here by their finalisers."""
        self.calls: set[Any] = set()
        """Calls and open streams."""
        self.exchanges: set[AnyExchange] = set()
        """Attempts whose first content, or whole answer, is awaited."""
        self.waiting: set[Callable[[], None]] = set()
        """What wakes the calls that wait for their turn, or pause."""
        self.in_line: set[Callable[[], None]] = set()
        """Of these, those whose calls stand in line."""
        self.closing: bool = False
        """The client is being closed: who waits is told so, what runs may finish."""
        self.ended: bool = False
        """It is closed: what runs is ended."""
        self.whole: UnderWay | None = None
        """What this is a part of."""
        self.emptied: Callable[[], None] | None = None
        """Called when nothing runs any more, while the client is closing."""

    def began(self, exchange: AnyExchange) -> None:
        """An attempt is under way; in the instant in which everything is ended, it is ended too."""
        self.exchanges.add(exchange)
        if self.ended:
            exchange.limit.ended = True

    def done(self, what: object) -> None:
        """A call or a stream is over."""
        self.calls.discard(what)
        if self.closing and not self.calls and self.emptied is not None:
            self.emptied()

    def retain(self, networks: AbstractSet[Network]) -> None:
        """Close connections of providers that are no more; ``networks`` are those of the ones there are."""
        kept = getattr(self.engine, "kept", None)
        if kept is not None:
            kept.retain(networks)

    def wake(self) -> None:
        """Begin to close: wake everybody who waits."""
        self.closing = True
        for wake in list(self.waiting):
            wake()

    def end(self) -> None:
        """End what still runs.  That judges nobody."""
        self.ended = True
        for exchange in list(self.exchanges):
            exchange.limit.ended, exchange.runs_on = True, False
            if exchange.lost:  # its call is over already
                exchange.subject.pool.abandoned(exchange.attempt, exchange.subject.clock())
            exchange.stop()
        for one in list(self.calls):
            if hasattr(one, "end_with"):
                one.end_with(closed())

    # --- a part that can be ended for itself ---

    def join(self, whole: UnderWay) -> None:
        """Be a part of another one: closed and ended with it."""
        self.whole = whole
        whole.calls.add(self)
        whole.waiting.add(self.wake)

    def leave(self) -> None:
        """End what still runs here, and be a part no more."""
        self.wake()
        self.end()
        if self.whole is not None:
            self.whole.waiting.discard(self.wake)
            self.whole.done(self)

    def end_with(self, error: Exception) -> None:
        """The whole ends."""
        self.end()

    def error_of(self, error: Exception) -> Exception:
        """The error of an attempt, or that the client was closed, which is why it failed."""
        return closed() if self.ended else error


def closed() -> ClientClosed:
    """What a call is told that a closing client ends."""
    return ClientClosed("the client was closed while the call was under way")
