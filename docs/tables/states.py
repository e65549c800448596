"""The breaker's states, from its transition table."""

from __future__ import annotations

from resilient_llm.decide.breaker import TRANSITIONS
from tables.markdown import code, table


def transitions() -> str:
    """Every transition, and why."""
    rows = [[code(before), cause, code(after)] for (before, cause), after in TRANSITIONS.items()]
    return table(["from", "because", "to"], rows)
