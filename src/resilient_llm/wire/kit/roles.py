"""What Cohere and Ollama have in common: messages of four roles, and a message of its own for every tool result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

from resilient_llm import model as m
from resilient_llm.wire.features import Feature
from resilient_llm.wire.kit.fields import Fields, Malformed, take_text
from resilient_llm.wire.kit.notes import Notes, fields_for

_ROLES = frozenset({"system", "user", "assistant", "tool"})
_OTHERS: Mapping[str, str] = {"developer": "system", "tool": "user"}
"""What roles become that have no message: ``tool`` is here where a message holds more than results."""


def take_role(fields: Fields) -> m.Role:
    """Remove and return a message's role."""
    role = take_text(fields, "role")
    if role not in _ROLES:
        raise Malformed(f"a message has no role this wire knows: {role!r}")
    return cast("m.Role", role)


def encode_message(
    message: m.Message,
    extra: Fields,
    result: Callable[[m.ToolResult], Fields],
    said: Callable[[Sequence[m.Part], str], Fields],
) -> list[Fields]:
    """One message, or several: every tool result is one of its own, and text beside results follows them.

    ``result`` and ``said`` write the fields of a result, and those of all other parts; ``extra`` goes into each.
    """
    results = [part for part in message.parts if isinstance(part, m.ToolResult)]
    rest = [part for part in message.parts if not isinstance(part, m.ToolResult)]
    written: list[Fields] = [{**result(part), **extra} for part in results]
    if rest or not written:
        role = _OTHERS.get(message.role, message.role)
        written.append({"role": role, **said(rest, role), **extra})
    return written


def result_extra(result: m.ToolResult, wire: str, notes: Notes) -> Fields:
    """The fields of a result's Extra; what no result can hold here is refused or noted."""
    extra = fields_for(wire, result.extra, notes)
    if any(isinstance(part, m.Media) for part in result.parts):
        raise notes.unsupported(Feature.MEDIA_IN_TOOL_RESULT)
    if result.is_error:
        notes.add(Feature.TOOL_RESULT_IS_ERROR, "left out: the text has to say it")
    return extra
