"""Events -> streamed blocks, for the two wires whose answers are numbered blocks that open and close.

Blocks are opened in order, each once.  A block closes when the next begins, except a tool call whose arguments are not
whole yet: some vendors write several calls at the same time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from resilient_llm.model import (
    BlockEnd,
    Finish,
    KeepAlive,
    Part,
    PartAdded,
    Refusal,
    RefusalDelta,
    Restarted,
    StreamBroken,
    StreamEnd,
    StreamError,
    StreamEvent,
    StreamStart,
    Text,
    TextDelta,
    ThoughtDelta,
    ToolCallDelta,
    ToolCallStart,
    Usage,
    UsageUpdate,
)
from resilient_llm.wire.fields import Fields, Malformed, parse
from resilient_llm.wire.notes import told_message


@dataclass(slots=True)
class _Opened:
    """A block the client was told of.  ``arguments`` of a tool call are kept to know when they are whole."""

    index: int
    kind: str
    arguments: str = ""


class BlockEncoder(ABC):
    """A stream encoder; a wire fills in how its frames look.  Only the first of several choices has a place."""

    def __init__(self) -> None:
        self._started = False
        self._open: dict[int, _Opened] = {}
        self._count = 0
        self._usage: Usage | None = None
        self._finish: Finish | None = None

    # --- what a wire fills in ---------------------------------------------------------------------------------------

    @abstractmethod
    def on_start(self, event: StreamStart) -> bytes:
        """The frame before everything else."""
        ...

    @abstractmethod
    def on_block(self, index: int, content: Fields) -> bytes:
        """The frame that opens a block."""
        ...

    @abstractmethod
    def on_delta(self, index: int, delta: Fields) -> bytes:
        """The frame of one delta."""
        ...

    @abstractmethod
    def on_block_end(self, index: int) -> bytes:
        """The frame that closes a block."""
        ...

    @abstractmethod
    def text_block(self) -> Fields:
        """An empty text."""
        ...

    @abstractmethod
    def text_deltas(self, event: TextDelta) -> list[Fields]:
        """What is to be said of a piece of text."""
        ...

    @abstractmethod
    def thought_block(self) -> Fields:
        """An empty thought."""
        ...

    @abstractmethod
    def thought_deltas(self, event: ThoughtDelta) -> list[Fields]:
        """What is to be said of a piece of reasoning."""
        ...

    @abstractmethod
    def call_block(self, event: ToolCallStart) -> Fields:
        """A call without its arguments."""
        ...

    @abstractmethod
    def arguments_delta(self, arguments: str) -> Fields:
        """A piece of a call's arguments."""
        ...

    @abstractmethod
    def whole_block(self, part: Part) -> tuple[Fields, list[Fields]] | None:
        """How a part that arrived whole begins and goes on; ``None`` if this wire cannot say it."""
        ...

    @abstractmethod
    def on_end(self, finish: Finish, usage: Usage | None) -> bytes:
        """The frames after everything else."""
        ...

    @abstractmethod
    def on_failure(self, message: str) -> bytes:
        """The frame that reports an error."""
        ...

    def on_keep_alive(self, event: KeepAlive | Restarted) -> bytes:
        """A frame that says nothing, where the wire has one."""
        return b""

    # --- the stream encoder -----------------------------------------------------------------------------------------

    def feed(self, event: StreamEvent) -> bytes:
        """The frames this event completes."""
        match event:
            case TextDelta(choice=0):
                return self._deltas(event.block, "text", self.text_deltas(event), self.text_block)
            case ToolCallDelta(choice=0):
                return self._arguments(event)
            case ThoughtDelta(choice=0):
                return self._deltas(event.block, "thought", self.thought_deltas(event), self.thought_block)
            case RefusalDelta(choice=0):
                return self.feed(TextDelta(event.text, event.block))
            case ToolCallStart(choice=0):
                return self._begin(event.block, "call", self.call_block(event))
            case PartAdded(choice=0):
                return self._part(event)
            case BlockEnd(choice=0):
                return self._close(event.block)
            case UsageUpdate():
                self._usage = event.usage
            case Finish(choice=0):
                self._finish = event
            case _:
                return self._lifecycle(event)
        return b""

    def _lifecycle(self, event: StreamEvent) -> bytes:
        match event:
            case StreamStart():
                return self._start(event)
            case KeepAlive() | Restarted():
                return self.on_keep_alive(event)
            case StreamEnd():
                frames = self._start(StreamStart()) + b"".join(self._close(number) for number in list(self._open))
                return frames + self.on_end(self._finish or Finish("stop"), self._usage)
            case StreamError() | StreamBroken():
                return self.on_failure(told_message(event))
            case _:
                return b""  # another choice

    def _start(self, event: StreamStart) -> bytes:
        if self._started:
            return b""
        self._started = True
        return self.on_start(event)

    def _begin(self, block: int, kind: str, content: Fields) -> bytes:
        over = [number for number, opened in self._open.items() if number == block or _is_whole(opened)]
        frames = self._start(StreamStart()) + b"".join(map(self._close, over))
        self._open[block] = _Opened(self._count, kind)
        self._count += 1
        return frames + self.on_block(self._count - 1, content)

    def _close(self, block: int) -> bytes:
        opened = self._open.pop(block, None)
        return self.on_block_end(opened.index) if opened else b""

    def _deltas(self, block: int, kind: str, deltas: list[Fields], content: Callable[[], Fields]) -> bytes:
        if not deltas:
            return b""
        opened = self._open.get(block)
        frames = b"" if opened and opened.kind == kind else self._begin(block, kind, content())
        return frames + b"".join(self.on_delta(self._open[block].index, delta) for delta in deltas)

    def _arguments(self, event: ToolCallDelta) -> bytes:
        opened = self._open.get(event.block)
        if opened is None or opened.kind != "call" or not event.arguments:
            return b""  # arguments of a call that never began belong to nothing
        opened.arguments += event.arguments
        return self.on_delta(opened.index, self.arguments_delta(event.arguments))

    def _part(self, event: PartAdded) -> bytes:
        match event.part:
            case Text(text=text, annotations=annotations):
                return self.feed(TextDelta(text, event.block, 0, annotations))
            case Refusal(text=text):
                return self.feed(TextDelta(text, event.block))
            case part:
                whole = self.whole_block(part)
        if whole is None:
            return b""
        frames = self._begin(event.block, "whole", whole[0])
        index = self._open[event.block].index
        return frames + b"".join(self.on_delta(index, delta) for delta in whole[1]) + self._close(event.block)


def _is_whole(opened: _Opened) -> bool:
    if opened.kind != "call":
        return True
    try:
        parse(opened.arguments)
    except Malformed:
        return False
    return True
