"""What the drivers ask whoever counts money.  ``resilient_llm.operate.cost`` is one; without one nothing is counted."""

from __future__ import annotations

from typing import Protocol

from resilient_llm.decide.attempt import Ask
from resilient_llm.drive.observer import Described
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
