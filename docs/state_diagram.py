"""Draws the breaker's state diagram from its transition table, between two marks in docs/design.md.

``python docs/state_diagram.py`` rewrites the page; with ``--check`` it only fails if the page is out of date.
"""

from __future__ import annotations

import sys
from pathlib import Path

from resilient_llm.decide.breaker import TRANSITIONS

PAGE = Path(__file__).with_name("design.md")
BEGIN, END = "<!-- states: begin -->", "<!-- states: end -->"


def diagram() -> str:
    """The table as a Mermaid state diagram."""
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> closed"]
    lines += [f"    {before} --> {after}: {cause}" for (before, cause), after in TRANSITIONS.items()]
    return "\n".join([*lines, "```"])


def page(text: str) -> str:
    """The page with the current diagram."""
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n\n{diagram()}\n\n{END}{tail}"


def main() -> int:
    text = PAGE.read_text()
    new = page(text)
    if "--check" in sys.argv:
        return int(new != text)
    PAGE.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
