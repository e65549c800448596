"""Events -> streamed blocks, for the two wires whose answers are numbered blocks that open and close.

Blocks are opened in order, each once.  A block closes when the next begins, except a tool call whose arguments are not
whole yet: some vendors write several calls at the same time.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from resilient_llm import model as m
from resilient_llm.wire.kit import fields as f
from resilient_llm.wire.kit.streams import StreamEncoder


@dataclass(slots=True)
class _Opened:
    """A block the client was told of.  ``arguments`` of a tool call are kept to know when they are whole."""

    index: int
    kind: str
    arguments: str = ""


class BlockEncoder(StreamEncoder):
    """A stream encoder; a wire fills in how its frames look."""

    def __init__(self) -> None:
        super().__init__()
        self._started = False
        self._open: dict[int, _Opened] = {}
        self._count = 0

    # --- what a wire fills in ---------------------------------------------------------------------------------------

    @abstractmethod
    def opening(self, event: m.StreamStart) -> bytes:
        """The frame before everything else."""

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
    def text_block(self) -> f.Fields:
        """An empty text."""

    @abstractmethod
    def text_deltas(self, event: m.TextDelta) -> list[f.Fields]:
        """What is to be said of a piece of text."""

    @abstractmethod
    def thought_block(self) -> f.Fields:
        """An empty thought."""

    @abstractmethod
    def thought_deltas(self, event: m.ThoughtDelta) -> list[f.Fields]:
        """What is to be said of a piece of reasoning."""

    @abstractmethod
    def call_block(self, event: m.ToolCallStart) -> f.Fields:
        """A call without its arguments."""

    @abstractmethod
    def arguments_delta(self, arguments: str) -> f.Fields:
        """A piece of a call's arguments."""

    @abstractmethod
    def whole_block(self, part: m.Part) -> tuple[f.Fields, list[f.Fields]] | None:
        """How a part that arrived whole begins and goes on; ``None`` if this wire cannot say it."""

    @abstractmethod
    def closing(self) -> bytes:
        """The frames after everything else."""

    def on_start(self, event: m.StreamStart) -> bytes:
        if self._started:
            return b""
        self._started = True
        return self.opening(event)

    def on_text(self, event: m.TextDelta) -> bytes:
        return self._deltas(event.block, "text", self.text_deltas(event), self.text_block)

    def on_thought(self, event: m.ThoughtDelta) -> bytes:
        return self._deltas(event.block, "thought", self.thought_deltas(event), self.thought_block)

    def on_call(self, event: m.ToolCallStart) -> bytes:
        return self._begin(event.block, "call", self.call_block(event))

    def on_arguments(self, event: m.ToolCallDelta) -> bytes:
        opened = self._open.get(event.block)
        if opened is None or opened.kind != "call" or not event.arguments:
            return b""  # arguments of a call that never began belong to nothing
        opened.arguments += event.arguments
        return self.delta(opened.index, self.arguments_delta(event.arguments))

    def on_block_end(self, event: m.BlockEnd) -> bytes:
        return self._close(event.block)

    def on_whole(self, part: m.Part, block: int, choice: int) -> bytes:
        whole = self.whole_block(part)
        if whole is None:
            return b""
        frames = self._begin(block, "whole", whole[0])
        index = self._open[block].index
        return frames + b"".join(self.delta(index, delta) for delta in whole[1]) + self._close(block)

    def on_end(self, event: m.StreamEnd) -> bytes:
        frames = self.on_start(m.StreamStart()) + b"".join(self._close(number) for number in list(self._open))
        return frames + self.closing()

    def _begin(self, block: int, kind: str, content: f.Fields) -> bytes:
        over = [number for number, opened in self._open.items() if number == block or _is_whole(opened)]
        frames = self.on_start(m.StreamStart()) + b"".join(map(self._close, over))
        self._open[block] = _Opened(self._count, kind)
        self._count += 1
        return frames + self.begun(self._count - 1, content)

    def _close(self, block: int) -> bytes:
        opened = self._open.pop(block, None)
        return self.ended(opened.index) if opened else b""

    def _deltas(self, block: int, kind: str, deltas: list[f.Fields], content: Callable[[], f.Fields]) -> bytes:
        if not deltas:
            return b""
        opened = self._open.get(block)
        frames = b"" if opened and opened.kind == kind else self._begin(block, kind, content())
        return frames + b"".join(self.delta(self._open[block].index, delta) for delta in deltas)


def _is_whole(opened: _Opened) -> bool:
    if opened.kind != "call":
        return True
    try:
        f.parse(opened.arguments)
    except f.Malformed:
        return False
    return True
