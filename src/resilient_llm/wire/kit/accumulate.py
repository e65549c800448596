"""Stream events -> one answer, whole or as far as it came, and one answer -> stream events."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from resilient_llm import model as m
from resilient_llm.wire.kit.reasons import calls, ended


class Accumulator:
    """Collects the events of one stream.

    ``response()`` may be called at any time.  An answer that ended without saying why counts as ``stop`` (or
    ``tool_calls``) if the stream was complete, and as ``error`` if it was not.  ``Restarted`` voids what came before.
    """

    __slots__ = ("_blocks", "_complete", "_finishes", "_order", "_start", "_usage")

    _usage: m.Usage | None

    def __init__(self) -> None:
        self._clear()

    def add(self, event: m.StreamEvent) -> None:
        """Take one event; those that carry no part of the answer are ignored."""
        match event:
            case m.TextDelta():
                self.text(event)
            case m.ToolCallDelta():
                block = self._blocks.get((event.choice, event.block))
                if block is not None and block.kind is m.ToolCall:  # of a call that never began, they belong to nothing
                    block.pieces.append(event.arguments)
            case m.ThoughtDelta():
                block = self._growing(event, m.Thought, event)
                block.pieces.append(event.text)
                if event.signature is not None:
                    block.signature = event.signature
            case m.RefusalDelta():
                self._growing(event, m.Refusal).pieces.append(event.text)
            case m.ToolCallStart():
                self._begin(event, m.ToolCall, event)
            case m.PartAdded():
                self._begin(event, m.Opaque, event.part)
            case m.StreamStart():
                self._start = event
            case m.UsageUpdate():
                self._usage = event.usage
            case m.Finish():
                self._finishes[event.choice] = event
            case m.StreamEnd():
                self._complete = True
            case m.Restarted():
                self._clear()
            case _:
                pass

    def response(self) -> m.ChatResponse:
        """The answer so far."""
        first, *others = [self._choice(index) for index in sorted({0, *self._order, *self._finishes})]
        return m.ChatResponse(
            first.parts,
            first.finish_reason,
            first.raw_finish_reason,
            self._usage,
            self._start.id,
            self._start.model,
            self._start.created,
            tuple(others),
            first.extra,
        )

    def fork(self, without: frozenset[tuple[int, int]] = frozenset()) -> Accumulator:
        """The same to go on with, less some blocks (choice and number).  What is added to one is not in the other."""
        found = Accumulator()
        found._start, found._usage, found._finishes = self._start, self._usage, dict(self._finishes)
        copies = {key: block.copy() for key, block in self._blocks.items() if key not in without}
        left_out = {id(block) for key, block in self._blocks.items() if key in without}
        found._blocks = copies
        by_old = {id(self._blocks[key]): copy for key, copy in copies.items()}
        for choice, order in self._order.items():
            # A block whose number was used again is in no way to be found any more, and complete.
            found._order[choice] = [by_old.get(id(one)) or one.copy() for one in order if id(one) not in left_out]
        return found

    def calls(self) -> list[tuple[int, int]]:
        """Choice and block of every tool call."""
        return [key for key, block in self._blocks.items() if block.kind is m.ToolCall]

    def last_text(self, closed: frozenset[tuple[int, int]]) -> int | None:
        """The number of the first choice's last block, if it is text and not complete."""
        order = self._order.get(0)
        last = next((key for key, block in self._blocks.items() if order and block is order[-1]), None)
        return last[1] if last is not None and last not in closed and self._blocks[last].kind is m.Text else None

    def next_block(self) -> int:
        """A number that no block of the first choice has."""
        return max((block for choice, block in self._blocks if choice == 0), default=-1) + 1

    @property
    def finished(self) -> bool:
        """Whether the first choice said why it ended."""
        return 0 in self._finishes

    @property
    def usage(self) -> m.Usage | None:
        """Token counts, if any came."""
        return self._usage

    def renamed(self, model: str) -> None:
        """Another model goes on with it."""
        self._start = m.StreamStart(self._start.id, model, self._start.created)

    def _choice(self, index: int) -> m.Choice:
        parts = tuple(block.part() for block in self._order.get(index, ()))
        finish = self._finishes.get(index)
        if finish is not None:
            return m.Choice(parts, finish.reason, finish.raw, finish.extra)
        return m.Choice(parts, ended("stop", calls(parts)) if self._complete else "error")

    def text(self, event: m.TextDelta) -> None:
        """Take an event that is known to be text, as nearly every one is."""
        block = self._growing(event, m.Text)
        block.pieces.append(event.text)
        if event.annotations:
            block.annotations += event.annotations

    def _growing(self, event: _Placed, kind: type[m.Part], begun: _Begun = None) -> _Block:
        block = self._blocks.get((event.choice, event.block))
        return block if block is not None and block.kind is kind else self._begin(event, kind, begun)

    def _begin(self, event: _Placed, kind: type[m.Part], begun: _Begun) -> _Block:
        block = self._blocks[event.choice, event.block] = _Block(kind, begun)
        self._order.setdefault(event.choice, []).append(block)
        return block

    def _clear(self) -> None:
        self._start = m.StreamStart()
        self._blocks: dict[tuple[int, int], _Block] = {}
        self._order: dict[int, list[_Block]] = {}
        self._finishes: dict[int, m.Finish] = {}
        self._usage = None
        self._complete = False


_Placed: TypeAlias = m.TextDelta | m.ThoughtDelta | m.RefusalDelta | m.ToolCallStart | m.PartAdded
"""An event with a place in the answer."""

_Begun: TypeAlias = m.ToolCallStart | m.ThoughtDelta | m.Part | None
"""What a block began with."""


class _Block:
    """A part of the answer while it is growing; ``kind`` is the class of the part."""

    __slots__ = ("annotations", "begun", "kind", "pieces", "signature")

    def __init__(self, kind: type[m.Part], begun: _Begun) -> None:
        self.kind = kind
        self.begun = begun
        self.pieces: list[str] = []
        self.annotations: tuple[m.JsonObject, ...] = ()
        self.signature: str | None = None

    def copy(self) -> _Block:
        """The same to go on with."""
        found = _Block(self.kind, self.begun)
        found.pieces, found.annotations, found.signature = [*self.pieces], self.annotations, self.signature
        return found

    def part(self) -> m.Part:
        """The part as far as it came."""
        text, begun = "".join(self.pieces), self.begun
        match begun:
            case m.ToolCallStart():
                return m.ToolCall(begun.id, begun.name, text, begun.extra)
            case m.ThoughtDelta():
                return m.Thought(text, self.signature, origin=begun.origin)
            case None:
                return m.Refusal(text) if self.kind is m.Refusal else m.Text(text, self.annotations)
            case _:
                return begun


def replay(response: m.ChatResponse) -> list[m.StreamEvent]:
    """The events a stream of this answer would have had, one delta a part: for who wants a stream of an answer that
    came whole."""
    first = m.Choice(response.parts, response.finish_reason, response.raw_finish_reason, response.extra)
    events: list[m.StreamEvent] = [m.StreamStart(response.id, response.model, response.created)]
    for index, choice in enumerate((first, *response.alternatives)):
        for block, part in enumerate(choice.parts):
            events += events_of(part, block, index)
            events.append(m.BlockEnd(block, index))
        events.append(m.Finish(choice.finish_reason, choice.raw_finish_reason, index, choice.extra))
    if response.usage is not None:
        events.append(m.UsageUpdate(response.usage))
    events.append(m.StreamEnd())
    return events


def events_of(part: m.Part, block: int, choice: int) -> Iterator[m.StreamEvent]:
    """The events of a part that came whole, but for its end."""
    match part:
        case m.Text():
            yield m.TextDelta(part.text, block, choice, part.annotations)
        case m.Refusal():
            yield m.RefusalDelta(part.text, block, choice)
        case m.ToolCall():
            yield m.ToolCallStart(part.id, part.name, block, choice, part.extra)
            yield m.ToolCallDelta(part.arguments, block, choice)
        case m.Thought(redacted=False, extra=None):
            yield m.ThoughtDelta(part.text, block, choice, origin=part.origin)
            if part.signature is not None:
                yield m.ThoughtDelta("", block, choice, part.signature, part.origin)
        case _:  # has no pieces, or more to it than pieces can carry
            yield m.PartAdded(part, block, choice)
