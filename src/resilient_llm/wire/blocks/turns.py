"""Messages <-> turns, for Anthropic Messages and Bedrock Converse.

Both count consecutive messages of one role as one turn, have tool results in the user's, and want those of parallel
calls together, directly after the calls.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import ClassVar

from resilient_llm import model as m
from resilient_llm.wire.blocks.claude import generation
from resilient_llm.wire.blocks.rules import tool_id
from resilient_llm.wire.features import Feature
from resilient_llm.wire.kit import fields as f
from resilient_llm.wire.kit.notes import Notes, fields_for


def decode_messages(
    items: Iterable[object], wire: str, decode_content: Callable[[object], tuple[m.Part, ...]]
) -> list[m.Message]:
    """The messages of a conversation, tool results in messages of their own role."""
    messages: list[m.Message] = []
    for item in items:
        fields = f.object_of(item, "a message")
        role, parts = f.take_text(fields, "role"), decode_content(fields.pop("content", None))
        extra = f.unread(wire, fields)
        match role:
            case "user":
                messages += _split_results(parts, extra)
            case "assistant":
                messages.append(m.Message("assistant", parts, extra=extra))
            case "system":  # the Extra, even if empty, says that it may stay where it stands
                messages.append(m.Message("system", parts, extra=extra or m.Extra(wire, {})))
            case _:
                raise f.Malformed(f"no such role: {role!r}")
    return messages


def _split_results(parts: tuple[m.Part, ...], extra: m.Extra | None) -> list[m.Message]:
    """A user turn, its tool results in messages of their own role."""
    messages: list[m.Message] = []
    for part in parts:
        role: m.Role = "tool" if isinstance(part, m.ToolResult) else "user"
        if messages and messages[-1].role == role:
            messages[-1] = replace(messages[-1], parts=(*messages[-1].parts, part))
        else:
            messages.append(m.Message(role, (part,), extra=extra))
    return messages or [m.Message("user", (), extra=extra)]


@dataclass(slots=True)
class Turn:
    """Consecutive messages of one role, as these vendors count them."""

    role: str
    blocks: list[f.Fields]
    fields: f.Fields = field(default_factory=dict[str, object])


class TurnEncoder(ABC):
    """The conversation of one request on its way out; a wire fills in how its blocks look."""

    wire: ClassVar[str]
    ids: ClassVar[re.Pattern[str]]
    """What the identifier of a call may be."""

    def __init__(self, model: str, notes: Notes) -> None:
        self.model = model
        self.notes = notes

    # --- what a wire fills in ---------------------------------------------------------------------------------------

    @abstractmethod
    def is_result(self, block: f.Fields) -> bool:
        """Whether a block is a tool's result."""

    @abstractmethod
    def is_thought(self, block: f.Fields) -> bool:
        """Whether a block is reasoning."""

    @abstractmethod
    def text(self, part: m.Text) -> f.Fields | None:
        """A text; ``None`` for one the wire rejects as empty."""

    @abstractmethod
    def call(self, part: m.ToolCall, extra: f.Fields) -> f.Fields:
        """A tool call, with the fields that only this wire knows of it."""

    @abstractmethod
    def result(self, part: m.ToolResult, extra: f.Fields) -> f.Fields:
        """A tool's result."""

    @abstractmethod
    def thought(self, part: m.Thought) -> f.Fields | None:
        """A thought; ``None`` for one that must not be sent."""

    @abstractmethod
    def media(self, part: m.Media, extra: f.Fields) -> f.Fields:
        """An image, a document..."""

    @abstractmethod
    def mark(self, blocks: list[f.Fields]) -> bool:
        """Marks blocks as worth caching up to their end; whether there is a place for it."""

    def turns(self, messages: Iterable[m.Message]) -> tuple[list[f.Fields], list[Turn]]:
        """The system prompt, made of the messages a conversation opens with, and the turns."""
        said = [message for message in messages if message.parts]
        count = next((i for i, each in enumerate(said) if each.role not in {"system", "developer"}), len(said))
        system = [block for message in said[:count] for block in self._blocks(message)]
        turns: list[Turn] = []
        for message in said[count:]:
            role, blocks, fields = self._role(message), self._blocks(message), f.own_fields(message.extra, self.wire)
            if blocks and turns and turns[-1].role == role:
                turns[-1].blocks += blocks
                turns[-1].fields.update(fields)
            elif blocks:
                turns.append(Turn(role, blocks, fields))
        for i in range(1, len(turns) - 1):  # a system turn between calls and their results changes places with these
            before, middle, after = turns[i - 1 : i + 2]
            if middle.role == "system" and before.role == "assistant" and any(map(self.is_result, after.blocks)):
                turns[i : i + 2] = [after, middle]
        for turn in turns:
            if turn.role == "user":  # both vendors want results directly after the calls
                turn.blocks.sort(key=lambda block: not self.is_result(block))
        if not turns and system:
            self.notes.add(Feature.SYSTEM, "sent as the user's turn: this wire wants one")
            return [], [Turn("user", system)]
        return system, turns

    def _role(self, message: m.Message) -> str:
        """A system message in the middle stays where it stands; models that do not know such turns read it as the
        user's, which gives it less weight but keeps its place."""
        if message.role == "assistant":
            return "assistant"
        if message.role in {"system", "developer"}:
            mine = message.extra is not None and message.extra.wire == self.wire
            if mine or generation(self.model) >= (4, 8):
                return "system"
            self.notes.add(Feature.SYSTEM_POSITION, "a later system message was sent in the user's turn")
        return "user"

    def _blocks(self, message: m.Message) -> list[f.Fields]:
        fields_for(self.wire, message.extra, self.notes)
        blocks = self.blocks(message.parts)
        if message.cache and not self.mark(blocks):
            self.notes.add(Feature.CACHE, "left out")
        return blocks

    def blocks(self, parts: Iterable[m.Part]) -> list[f.Fields]:
        """The blocks of those parts that have one."""
        return [block for part in parts if (block := self.part(part)) is not None]

    def part(self, part: m.Part) -> f.Fields | None:
        """The block of a part; ``None`` for one that is left out."""
        if isinstance(part, m.Thought):
            return self.thought(part)
        extra = fields_for(self.wire, getattr(part, "extra", None), self.notes)
        match part:
            case m.Text():
                return self.text(part)
            case m.Refusal():
                return self.text(m.Text(part.text))
            case m.ToolCall():
                return self.call(part, extra)
            case m.ToolResult():
                return self.result(part, extra)
            case m.Media():
                return self.media(part, extra)
            case _:
                if part.wire == self.wire:
                    return dict(part.data)
                self.notes.add(f"{part.wire}.{part.data.get('type', 'block')}", "left out")
                return None

    def call_id(self, ident: str) -> str:
        """An identifier this wire takes, the same for a call and its result."""
        mapped = tool_id(ident, self.ids)
        if mapped != ident:
            self.notes.add(Feature.TOOL_CALL_ID, "replaced by a hash")
        return mapped

    def unthought_calls(self, turns: list[Turn]) -> bool:
        """Whether the last turns are calls and their results without the thought that led there: with a budget, the
        vendor insists on it, and it may have been another's, which was left out."""
        if len(turns) < 2 or not any(map(self.is_result, turns[-1].blocks)):
            return False
        return not any(map(self.is_thought, turns[-2].blocks))
