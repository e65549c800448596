"""Numbers for the blocks of a stream, for the wires that send pieces without any."""

from __future__ import annotations

from resilient_llm.model import TextDelta, ThoughtDelta


class Growing:
    """Text and thoughts grow while more of the same comes; everything else is whole and a block of its own."""

    def __init__(self) -> None:
        self._block = -1
        self._growing: type[TextDelta | ThoughtDelta] | None = None

    def _at(self, kind: type[TextDelta | ThoughtDelta] | None) -> int:
        """The block for a piece of this kind: the growing one if it is of it, else a new one."""
        if kind is None or kind is not self._growing:
            self._growing = kind
            self._block += 1
        return self._block
