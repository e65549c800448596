"""Writes the tables of ``docs/simulation.md`` that come from the simulator.

``python -m resilient_llm simulate --markdown --seeds 1 > FILE; python docs/simulation_tables.py FILE`` puts the figures
of a run into the page, with what the schedules, goals and scenarios say of themselves; without FILE only the latter.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path

from resilient_llm.simulate.judge import GOALS
from resilient_llm.simulate.scenarios import SCENARIOS
from resilient_llm.simulate.schedules import SCHEDULES

PAGE = Path(__file__).parent / "simulation.md"


def replaced(text: str, head: str, rows: Iterable[str]) -> str:
    """The page with other rows in the table that has this head.  Raises ``ValueError`` if there is no such table."""
    pattern = re.compile(rf"(^{re.escape(head)}\n\|[-|]+\|\n)(?:\|.*\n)*", re.MULTILINE)
    if not pattern.search(text):
        raise ValueError(f"there is no table {head!r}")
    body = "".join(f"{row}\n" for row in rows)
    return pattern.sub(lambda found: found[1] + body, text, count=1)


def main(arguments: list[str]) -> int:
    """Rewrite the page."""
    text = PAGE.read_text(encoding="utf-8")
    if arguments:
        head, _, *rows = Path(arguments[0]).read_text(encoding="utf-8").splitlines()
        text = replaced(text, head.strip(), (row for row in rows if row.startswith("| `")))
    text = replaced(text, "| goal | what is demanded |", (f"| {name} | {what} |" for name, what in GOALS.items()))
    text = replaced(
        text, "| schedule | what happens |", (f"| `{name}` | {one.what} |" for name, one in SCHEDULES.items())
    )
    rows = (f"| `{name}` | {one.what} | {one.must} |" for name, one in SCENARIOS.items())
    text = replaced(text, "| name | what happens | what must hold |", rows)
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
