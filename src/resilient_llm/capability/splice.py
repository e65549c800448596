"""The events of a second attempt joined to those of a stream that broke, such that no text is repeated or lost.

What a caller has seen cannot be taken back, so a second attempt is either announced as a new answer (:class:`Anew`) or
read with what it repeats left out: all of it, letter by letter (:class:`Verified`), or what a model that writes on may
say again (:class:`Continued`).  A splice sees the events of one attempt, in order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from resilient_llm import model as m
from resilient_llm.wire.kit.accumulate import Accumulator
from resilient_llm.wire.kit.divided import added

_OVERLAP = range(12, 201)
"""Characters of a repetition.  Shorter ones occur by themselves (of perfect continuations, 1 in 2,000 begins with 12
characters that end what came before, 1 in 180 with 2), and nobody repeats more."""


class Mismatch(Exception):
    """The second attempt does not repeat what the first one said."""


@dataclass(frozen=True, slots=True)
class SoFar:
    """What had been handed over when a stream broke, or was about to be.  A tool call that was held is not in it."""

    accumulator: Accumulator
    closed: frozenset[tuple[int, int]] = frozenset()
    """Choice and block of the parts that were complete."""

    def response(self) -> m.ChatResponse:
        """The answer so far."""
        return self.accumulator.response()

    @property
    def unfinished_calls(self) -> bool:
        """Whether a tool call was handed over in part."""
        return any(block not in self.closed for block in self.accumulator.calls())


class Splice:
    """One attempt's events; ``spent`` are the tokens of the attempts before it."""

    def __init__(self, spent: m.Usage | None, provider: str, reason: str) -> None:
        self._spent = spent
        self._provider = provider
        self._reason = reason
        self.own_usage: m.Usage | None = None
        """The tokens of this attempt alone, if it told."""
        self.accumulator: Accumulator = Accumulator()
        """Collects the answer; whoever reads the stream adds what comes out here."""

    def joined(self, events: Iterable[m.StreamEvent]) -> Iterator[m.StreamEvent]:
        """What is to be handed over of these events.  Raises :class:`Mismatch`."""
        for event in events:
            if isinstance(event, m.UsageUpdate):
                self.own_usage = event.usage
                yield m.UsageUpdate(added(self._spent, event.usage))
            else:
                yield from self._join(event)

    def _join(self, event: m.StreamEvent) -> Iterator[m.StreamEvent]:
        raise NotImplementedError


class Anew(Splice):
    """Another answer: what came before is void."""

    _told = False

    def _join(self, event: m.StreamEvent) -> Iterator[m.StreamEvent]:
        if not self._told:
            self._told = True
            yield m.Restarted(self._provider, self._reason)
        yield event


class Join(Protocol):
    """Leaves out of a text what was said already."""

    def feed(self, piece: str) -> str:
        """What is new in this piece, and in pieces held back before."""
        ...

    def end(self) -> str:
        """The text is over: what was held back and is new."""
        ...


class Continued(Splice):
    """More of the same answer: its first text goes on with the last one, its other parts follow."""

    def __init__(self, spent: m.Usage | None, provider: str, reason: str, so_far: SoFar, join: Join) -> None:
        super().__init__(spent, provider, reason)
        self.accumulator: Accumulator = so_far.accumulator.fork()
        self._join_text = join
        self._open = self.accumulator.last_text(so_far.closed)
        """The block that goes on; ``None``: the text begins a block of its own."""
        self._next = self.accumulator.next_block()
        self._blocks: dict[int, int] = {}
        """Block of the second attempt -> block of the answer."""
        self._first: int | None = None
        """The second attempt's block whose text is being joined."""
        self._over = False
        self._told = False

    def _join(self, event: m.StreamEvent) -> Iterator[m.StreamEvent]:
        if isinstance(event, m.StreamStart):
            self.accumulator.renamed(event.model)
            return
        if not self._told and not isinstance(event, m.KeepAlive | m.StreamError | m.StreamBroken):
            self._told = True
            yield m.Continued(self._provider, self._reason)
        if isinstance(event, m.TextDelta) and not self._over:
            yield from self._text(event)
            return
        if isinstance(event, m.KeepAlive | m.StreamError | m.StreamBroken):
            yield event
            return
        yield from self._end_text()
        yield self._placed(event)

    def _text(self, event: m.TextDelta) -> Iterator[m.StreamEvent]:
        if self._first is None:
            self._first = event.block
            if self._open is not None:
                self._blocks[event.block] = self._open
        elif event.block != self._first:
            yield from self._end_text()
            yield self._placed(event)
            return
        text = self._join_text.feed(event.text)
        if text or event.annotations:
            yield m.TextDelta(text, self._at(event.block), 0, event.annotations)

    def _end_text(self) -> Iterator[m.StreamEvent]:
        if self._over:
            return
        self._over = True
        text = self._join_text.end()
        if text:
            yield m.TextDelta(text, self._at(self._first or 0), 0)

    def _at(self, block: int) -> int:
        if block not in self._blocks:
            self._blocks[block] = self._next
            self._next += 1
        return self._blocks[block]

    def _placed(self, event: m.StreamEvent) -> m.StreamEvent:
        if isinstance(event, m.Finish | m.StreamEnd | m.UsageUpdate | m.StreamStart | m.Restarted | m.Continued):
            return event
        if isinstance(event, m.KeepAlive | m.StreamError | m.StreamBroken):
            return event
        return replace(event, block=self._at(event.block))


class Verified(Splice):
    """The same answer once more: what was handed over must come again letter by letter, and what follows is new."""

    def __init__(self, spent: m.Usage | None, provider: str, reason: str, so_far: SoFar) -> None:
        super().__init__(spent, provider, reason)
        self.accumulator: Accumulator = so_far.accumulator.fork()
        self._closed = so_far.closed
        self._expected: str = so_far.response().text
        self._at = 0

    def _join(self, event: m.StreamEvent) -> Iterator[m.StreamEvent]:
        if isinstance(event, m.StreamStart | m.KeepAlive):
            return
        left = len(self._expected) - self._at
        if left and not isinstance(event, m.BlockEnd | m.StreamError | m.StreamBroken):
            if not isinstance(event, m.TextDelta) or not self._expected.startswith(event.text[:left], self._at):
                raise Mismatch(f"another answer came, different after {self._at} of {len(self._expected)} letters")
            self._at += min(left, len(event.text))
            if len(event.text) <= left:
                return
            event = replace(event, text=event.text[left:])
        if self._at == len(self._expected) and self._provider:
            yield m.Continued(self._provider, self._reason)
            self._provider = ""
        if not isinstance(event, m.BlockEnd) or (event.choice, event.block) not in self._closed:
            yield event


# --- what was said already ---------------------------------------------------------------------------------


class AfterEcho:
    """Text of a model that repeats what it was given; what does not repeat all of it is all new."""

    def __init__(self, expected: str) -> None:
        self._expected = expected
        self._at = 0
        self._over = not expected

    def feed(self, piece: str) -> str:
        """What follows the repetition."""
        if self._over:
            return piece
        left = len(self._expected) - self._at
        if self._expected.startswith(piece[:left], self._at):
            self._at += min(left, len(piece))
            self._over = self._at == len(self._expected)
            return piece[left:]
        return self._different() + piece

    def end(self) -> str:
        """It is over; what was held back is new if the repetition was not complete."""
        return "" if self._over else self._different()

    def _different(self) -> str:
        self._over = True
        return self._expected[: self._at]


class AfterPrefill:
    """Text of a model that was given the beginning of its answer.  It may repeat the white space at the end of it,
    which was cut off because some vendors refuse it; where ``echoes``, it repeats all of it first."""

    def __init__(self, text: str, *, echoes: bool) -> None:
        given = text.rstrip()
        self._echo = AfterEcho(given if echoes else "")
        self._space = text[len(given) :]

    def feed(self, piece: str) -> str:
        """What is new."""
        return self._trimmed(self._echo.feed(piece))

    def end(self) -> str:
        """What was held back of an echo that was none."""
        return self._trimmed(self._echo.end())

    def _trimmed(self, piece: str) -> str:
        if not self._space or not piece:
            return piece
        same = 0
        while same < min(len(piece), len(self._space)) and piece[same] == self._space[same]:
            same += 1
        self._space = self._space[same:] if same == len(piece) else ""
        return piece[same:]


class AfterInstruction:
    """Text of a model that was asked to write on.  It may repeat the last words, and is held back for as long as it
    looks as if it did."""

    def __init__(self, text: str) -> None:
        self._text = text[-_OVERLAP[-1] - 1 :]
        self._held: str | None = ""

    def feed(self, piece: str) -> str:
        """What is new."""
        if self._held is None:
            return piece
        self._held += piece
        longer = range(len(self._held) + 1, min(_OVERLAP.stop, len(self._text) + 1))
        if any(self._text.startswith(self._held, len(self._text) - size) for size in longer):
            return ""
        return self.end()

    def end(self) -> str:
        """What was held back and is new."""
        held, self._held = self._held or "", None
        for size in range(min(_OVERLAP[-1], len(held), len(self._text)), _OVERLAP[0] - 1, -1):
            if self._text.endswith(held[:size]) and self._begins_word(len(self._text) - size):
                return held[size:]
        return held

    def _begins_word(self, at: int) -> bool:
        return at == 0 or not (self._text[at - 1].isalnum() and self._text[at].isalnum())
