"""Events -> streamed blocks, for the wires whose answers are numbered blocks that open and close.

Blocks are opened in order, each once.  A block closes when the next begins, except a tool call whose arguments are not
whole yet: some vendors write several calls at the same time.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from resilient_llm import model as m
from resilient_llm.wire.kit import fields as f
from resilient_llm.wire.kit.streams import StreamEncoder


@dataclass(slots=True)
class _Opened:
    """A block the client was told of.  ``arguments`` of a tool call are kept to know when they are whole."""

    index: int
    kind: type
    arguments: str = ""

    def is_whole(self) -> bool:
        """Whether nothing more can come of it."""
        try:
            f.parse(self.arguments if self.kind is m.ToolCallStart else "{}")
        except f.Malformed:
            return False
        return True


class BlockEncoder(StreamEncoder):
    """A stream encoder; a wire fills in how its frames look."""

    def __init__(self) -> None:
        super().__init__()
        self._open: dict[int, _Opened] = {}
        self._count = 0

    # --- what a wire fills in ---------------------------------------------------------------------------------------

    @abstractmethod
    def begun(self, index: int, content: f.Fields) -> bytes:
        """The frame that opens a block."""

    @abstractmethod
    def delta(self, index: int, delta: f.Fields) -> bytes:
        """The frame of one delta."""

    @abstractmethod
    def ended(self, index: int) -> bytes:
        """The frame that closes a block."""

    @abstractmethod
    def block(self, event: m.TextDelta | m.ThoughtDelta | m.ToolCallStart) -> f.Fields:
        """The block that begins with this event, still empty."""

    @abstractmethod
    def deltas(self, event: m.TextDelta | m.ThoughtDelta | m.ToolCallDelta) -> list[f.Fields]:
        """What is to be said of a piece."""

    @abstractmethod
    def whole_block(self, part: m.Part) -> tuple[f.Fields, list[f.Fields]] | None:
        """How a part that arrived whole begins and goes on; ``None`` if this wire cannot say it."""

    @abstractmethod
    def closing(self) -> bytes:
        """The frames after everything else."""

    def on_text(self, event: m.TextDelta | m.ThoughtDelta) -> bytes:
        deltas = self.deltas(event)
        if not deltas:
            return b""
        opened, kind = self._open.get(event.block), type(event)
        begun = b"" if opened and opened.kind is kind else self._begin(event.block, kind, self.block(event))
        return begun + self._deltas(event.block, deltas)

    def on_thought(self, event: m.ThoughtDelta) -> bytes:
        return self.on_text(event)

    def on_call(self, event: m.ToolCallStart) -> bytes:
        return self._begin(event.block, m.ToolCallStart, self.block(event))

    def on_arguments(self, event: m.ToolCallDelta) -> bytes:
        opened = self._open.get(event.block)
        if opened is None or opened.kind is not m.ToolCallStart or not event.arguments:
            return b""  # arguments of a call that never began belong to nothing
        opened.arguments += event.arguments
        return self._deltas(event.block, self.deltas(event))

    def on_block_end(self, event: m.BlockEnd) -> bytes:
        return self._close(event.block)

    def on_whole(self, part: m.Part, block: int, choice: int) -> bytes:
        whole = self.whole_block(part)
        if whole is None:
            return b""
        return self._begin(block, m.PartAdded, whole[0]) + self._deltas(block, whole[1]) + self._close(block)

    def on_end(self, event: m.StreamEnd) -> bytes:
        return self.opened() + b"".join(map(self._close, list(self._open))) + self.closing()

    def _begin(self, block: int, kind: type, content: f.Fields) -> bytes:
        over = [number for number, opened in self._open.items() if number == block or opened.is_whole()]
        frames = self.opened() + b"".join(map(self._close, over))
        self._open[block] = _Opened(self._count, kind)
        self._count += 1
        return frames + self.begun(self._count - 1, content)

    def _deltas(self, block: int, deltas: list[f.Fields]) -> bytes:
        return b"".join(self.delta(self._open[block].index, delta) for delta in deltas)

    def _close(self, block: int) -> bytes:
        opened = self._open.pop(block, None)
        return self.ended(opened.index) if opened else b""
