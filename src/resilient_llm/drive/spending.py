"""What the drivers ask whoever counts money.  ``resilient_llm.operate.cost`` is one; without one nothing is counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, cast

from resilient_llm.decide.attempt import Ask
from resilient_llm.drive.exchange import AnyExchange
from resilient_llm.drive.observer import Described
from resilient_llm.errors import InvalidRequest
from resilient_llm.faults import AttemptRecord
from resilient_llm.model import ChatRequest, ChatResponse, EmbedRequest, Usage
from resilient_llm.options import CallOptions


class Purse(Protocol):
    """What one call may spend.  No method raises; each may run on another thread than the one before."""

    def screen(self, ask: Ask) -> Ask:
        """The same ask, in which nobody may be chosen whose worst case is more than what is left."""
        ...

    def reserve(self, number: int, target: Described) -> None:
        """An attempt begins: put its worst case aside."""
        ...

    def retry_after(self) -> float | None:
        """Seconds until somebody who must not be asked now may be asked again; ``None``: that is no matter of time."""
        ...

    def settle(
        self, number: int, record: AttemptRecord | None, usage: Usage | None, partial: ChatResponse | None
    ) -> None:
        """It is over.  ``usage``: what its whole answer says that it used (``None``: none, or it does not say).
        ``partial``: what had arrived of a stream that broke or was closed.  ``record``: how it ended (``None``: it
        lost, and ran on until its provider was judged)."""
        ...


class Spending(Protocol):
    """Counts for one client."""

    def admit(self, ask: Ask, request: ChatRequest | EmbedRequest, options: CallOptions) -> tuple[Ask, Purse | None]:
        """A call begins.  Raises ``InvalidRequest`` for options that make no sense."""
        ...


_PRICED = frozenset({"max_cost", "prefer"})
"""Options that only somebody who counts can obey."""


def priced(
    spending: Spending | None, ask: Ask, request: ChatRequest | EmbedRequest, options: CallOptions
) -> tuple[Ask, Purse | None]:
    """The ask as whoever counts money wants it, and what the call may spend.  Raises ``InvalidRequest`` where nobody
    counts and the call wants it."""
    if spending is not None:
        return spending.admit(ask, request, options)
    if not _PRICED.isdisjoint(options):
        for name in sorted(_PRICED):
            if cast("Mapping[str, object]", options).get(name) is not None:
                raise InvalidRequest(f"{name}= needs prices: resilient_llm.operate.cost.track(client)")
    return ask, None


def sooner(one: float | None, other: float | None) -> float | None:
    """The smaller number of seconds, as far as they are known."""
    known = [seconds for seconds in (one, other) if seconds is not None]
    return min(known, default=None)


def settle(purse: Purse, exchange: AnyExchange, record: AttemptRecord, usage: Usage | None) -> None:
    """An attempt is over for its call.  ``usage`` is that of a whole answer."""
    reading = exchange.reading if usage is None else None
    partial = None if reading is None or not reading.committed else reading.response()
    purse.settle(exchange.attempt.number, record, usage, partial)


def settle_loser(purse: Purse, exchange: AnyExchange, error: BaseException | None) -> None:
    """An attempt that lost, and ran on until its provider was judged, is over."""
    whole = exchange.answer is not None and error is None
    purse.settle(exchange.attempt.number, None, exchange.response().usage if whole else None, None)
