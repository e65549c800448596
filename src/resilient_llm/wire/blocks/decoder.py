"""Streamed blocks -> events, for the two wires whose answers are numbered blocks that open and close."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from resilient_llm import model as m
from resilient_llm.wire.kit import fields as f
from resilient_llm.wire.kit.tools import arguments_text


@dataclass(slots=True)
class Block:
    """A content block while it is open.  ``number`` is its place in the neutral answer."""

    number: int
    kind: str
    body: f.Fields = field(default_factory=dict[str, object])
    pieces: list[str] = field(default_factory=list[str])

    def given(self, absent: object) -> object:
        """What a call that only this wire knows is given: JSON that came in pieces; ``absent`` if none did."""
        written = "".join(self.pieces)
        try:
            return f.parse(written) if written else absent
        except f.Malformed:
            return written


class OpenBlocks(dict[int, Block]):
    """The open blocks of one stream, by the vendor's number.

    ``call`` is the kind of those that call a tool, ``growing`` the kinds that arrive in pieces; any other is told when
    it closes, as the part that ``whole`` makes of it.
    """

    def __init__(self, call: str, growing: frozenset[str], whole: Callable[[Block], m.Part]) -> None:
        super().__init__()
        self._call, self._growing, self._whole = call, growing, whole
        self._count = 0
        self.called: bool = False

    def begin(self, index: int, kind: str, body: f.Fields) -> Block:
        """A new block."""
        block = self[index] = Block(self._count, kind, body)
        self._count += 1
        self.called = self.called or kind == self._call
        return block

    def close(self, index: int) -> list[m.StreamEvent]:
        """The last events of a block; none if it is not open."""
        block = self.pop(index, None)
        if block is None:
            return []
        events: list[m.StreamEvent] = [m.BlockEnd(block.number)]
        if block.kind == self._call and not block.pieces:  # no arguments, or all of them at once
            events.insert(0, m.ToolCallDelta(arguments_text(block.body.get("input")), block.number))
        elif block.kind != self._call and block.kind not in self._growing:
            events.insert(0, m.PartAdded(self._whole(block), block.number))
        return events
