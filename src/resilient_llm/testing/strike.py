"""Where a fault strikes inside an answer, and what follows.  Pure.

One decision for all who break answers: the loopback server, which writes them; the transport, which changes true ones
on their way; and providers in this process, whose answers are events.  An answer is a row of *pieces*, some of which
hold a token; ``Struck`` lets them pass until the fault strikes, and asks its owner how the trouble looks there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from typing import Generic, TypeVar, final

from resilient_llm.errors import Fault
from resilient_llm.model import (
    Finish,
    PartAdded,
    RefusalDelta,
    StreamBroken,
    StreamEnd,
    StreamEvent,
    TextDelta,
    ThoughtDelta,
    ToolCallDelta,
    ToolCallStart,
)
from resilient_llm.testing.answers import Writer
from resilient_llm.testing.faults import Mishap, SlowTokens
from resilient_llm.testing.script import Cut, InBandError, Malformed, Stall, StreamFault

S = TypeVar("S")
TOKENS = (TextDelta, ThoughtDelta, RefusalDelta, PartAdded, ToolCallStart, ToolCallDelta)
"""The events that are tokens."""
_LAST = (Finish, StreamEnd, StreamBroken)


class Ending(Enum):
    """How an answer is left: properly, by closing or resetting the connection, or in silence."""

    END = "end"
    CLOSE = "close"
    RESET = "reset"
    HANG = "hang"


def ending_of(fault: StreamFault) -> Ending | None:
    """How the answer is left where the fault strikes; ``None``: it goes on."""
    if isinstance(fault, Cut):
        return Ending(fault.how)
    if isinstance(fault, Stall):
        return Ending.HANG
    return Ending.END if isinstance(fault, InBandError) else None


@final
class Struck(Generic[S]):
    """An answer on its way, as steps: its own, seconds to wait, and those of the trouble where the fault strikes."""

    def __init__(self, mishap: Mishap | None, trouble: Callable[[StreamFault], Iterable[S | float]]) -> None:
        self._mishap = mishap
        self._trouble = trouble
        self._tokens = 0
        self._done = False
        self.over: bool = False
        """Nothing of the answer is wanted any more."""

    def piece(self, steps: Iterable[S], *, token: bool = False, last: bool = False) -> Iterator[S | float]:
        """What becomes of the next piece.

        The fault strikes before the first token beyond ``after``; in an answer with fewer tokens, before the ``last``
        piece, which says that it is complete.
        """
        mishap = self._mishap
        if isinstance(mishap, SlowTokens) and token:
            yield mishap.interval
        elif isinstance(mishap, StreamFault) and self._strikes(mishap, token, last):
            self.over = ending_of(mishap) is not None
            yield from self._trouble(mishap)
        self._tokens += token
        if not self.over:
            yield from steps

    def _strikes(self, fault: StreamFault, token: bool, last: bool) -> bool:
        before, self._done = self._done, self._done or last or (token and self._tokens >= fault.after)
        return self._done and not before

    def said(self, events: Iterable[StreamEvent], steps: Iterable[S]) -> Iterator[S | float]:
        """What becomes of a piece that means these events."""
        token = last = False
        for event in events:
            token, last = token or isinstance(event, TOKENS), last or isinstance(event, _LAST)
        return self.piece(steps, token=token, last=last)

    def end(self) -> Iterator[S | float]:
        """There are no more pieces."""
        return self.piece((), last=True)


# --- as bytes ----------------------------------------------------------------------------------------------


def stream_bytes(fault: StreamFault, wire: Writer) -> bytes:
    """What is written into a stream where the fault strikes."""
    if isinstance(fault, Malformed):
        return wire.malformed if fault.data is None else fault.data
    if isinstance(fault, InBandError):
        return wire.stream_error(_error(fault)) + (wire.terminator if fault.terminator else b"")
    return b""


def body_bytes(fault: StreamFault, wire: Writer, body: bytes) -> bytes:
    """What is left of a whole answer."""
    if isinstance(fault, InBandError):
        return wire.error(_error(fault))
    if isinstance(fault, Malformed):
        return body[: len(body) // 2] if fault.data is None else fault.data
    return body[: len(body) // 2] if fault.after else b""


def _error(fault: InBandError) -> Fault:
    return Fault(fault.kind, message=fault.message)
