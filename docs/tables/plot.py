"""The figures of ``benchmarks.md`` as a picture: how much of each budget is used."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import NamedTuple

WIDTH, LEFT, ROW, TOP = 860.0, 470.0, 24.0, 30.0
FULL = 210.0  # pixels of a whole budget
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #6b7684; } .what { text-anchor: end; } .head { font-weight: 600; }
.ok { fill: #3aa76d; } .over { fill: #e0841a; } .budget { stroke: #6b7684; stroke-dasharray: 3 3; }
""".strip()


class Figure(NamedTuple):
    """A row of the table; ``most`` is the larger end of what was measured."""

    what: str
    measured: str
    budget: str
    most: float
    limit: float


def figures(page: str) -> Iterator[Figure]:
    """The rows that have a budget."""
    for row in re.findall(r"^\| (.+) \| (.+) \| (.+) \| .* \|$", page, re.MULTILINE):
        what, measured, budget = (re.sub(r"[`*]", "", cell) for cell in row)
        numbers, limit = re.findall(r"\d+(?:\.\d+)?", measured), re.match(r"\d+(?:\.\d+)?", budget)
        if numbers and limit:
            yield Figure(what, measured, budget, float(numbers[-1]), float(limit[0]))


def svg(page: str) -> str:
    """A bar for each figure, and a line where its budget ends."""
    rows = list(figures(page))
    height = TOP + ROW * len(rows) + 12
    parts = [f'<text x="{LEFT + FULL:g}" y="16" text-anchor="middle" class="head">its budget</text>']
    for number, row in enumerate(rows):
        y = TOP + ROW * number
        width = min(row.most / row.limit, 1.35) * FULL
        look = "ok" if row.most <= row.limit else "over"
        what = row.what if len(row.what) <= 72 else f"{row.what[:71]}…"
        parts.append(f'<text x="{LEFT - 10:g}" y="{y + 13:g}" class="what">{escape(what)}</text>')
        parts.append(f'<rect x="{LEFT:g}" y="{y + 3:g}" width="{max(width, 2):.1f}" height="12" class="{look}"/>')
        parts.append(f'<text x="{LEFT + width + 6:.1f}" y="{y + 13:g}">{escape(row.measured)}</text>')
    parts.append(f'<path class="budget" d="M{LEFT + FULL:g} 22V{height - 8:g}"/>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:g} {height:g}" role="img">'
        f"<title>How much of each budget is used</title><style>{STYLE}</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def write(docs: Path) -> None:
    """Draw the picture anew."""
    (docs / "benchmarks.svg").write_text(svg((docs / "benchmarks.md").read_text(encoding="utf-8")), encoding="utf-8")
