"""An answer that comes in several parts: the tokens of all of them, and the parts put together."""

from __future__ import annotations

from dataclasses import replace

from resilient_llm import model as m
from resilient_llm.wire.kit.reasons import calls, ended


def added(before: m.Usage | None, usage: m.Usage) -> m.Usage:
    """The tokens of both together."""
    if before is None:
        return usage
    return m.Usage(
        before.input_tokens + usage.input_tokens,
        before.output_tokens + usage.output_tokens,
        before.cache_read_tokens + usage.cache_read_tokens,
        before.cache_write_tokens + usage.cache_write_tokens,
        before.reasoning_tokens + usage.reasoning_tokens,
        before.total_tokens + usage.total_tokens if before.total_tokens and usage.total_tokens else 0,
        estimated=before.estimated or usage.estimated,
    )


def joined(first: m.ChatResponse, rest: m.ChatResponse) -> m.ChatResponse:
    """One answer of an answer's beginning and the rest of it: why it ended is what the rest says."""
    parts = (*first.parts[:-1], *_met(first.parts[-1:], rest.parts[:1]), *rest.parts[1:])
    return replace(
        rest,
        parts=parts,
        finish_reason=ended(rest.finish_reason, calls(parts)),
        usage=first.usage if rest.usage is None else added(first.usage, rest.usage),
        id=first.id or rest.id,
        created=first.created if first.created is not None else rest.created,
    )


def _met(last: tuple[m.Part, ...], first: tuple[m.Part, ...]) -> tuple[m.Part, ...]:
    """Where two parts meet: a text that was divided is one text."""
    match (*last, *first):
        case (m.Text(extra=None) as one, m.Text(extra=None) as other):
            return (m.Text(one.text + other.text, (*one.annotations, *other.annotations)),)
        case parts:
            return parts
