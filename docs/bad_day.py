"""Plays the demonstration's day and draws its timeline: ``python docs/bad_day.py`` (70 s; ``--fast``: 11 s).

The picture is that of the demonstration without what needs a page around it: no texts to hover over, and all dots of
one kind in one path, which makes it small.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from pathlib import Path

import anyio

from resilient_llm.chaos.timeline.drawing import timeline
from resilient_llm.chaos.timeline.story import Story
from resilient_llm.chaos.timeline.style import STYLE
from resilient_llm.demo.pace import FAST, FULL
from resilient_llm.demo.screens import screen_for
from resilient_llm.demo.show import Show
from resilient_llm.demo.stage import NAMES

PICTURE = Path(__file__).with_name("bad-day.svg")
CARD = '<rect width="100%" height="100%" rx="10" style="fill: var(--card)"/>'
DOTS = """
svg .dots { fill: none; stroke-width: 4.6; stroke-linecap: round; }
.success { stroke: var(--success); opacity: .55; } .error, .failed, .wrong { stroke: var(--error); }
.timeout { stroke: var(--timeout); } .rate_limited { stroke: var(--gated); } .interrupted { stroke: var(--soft-open); }
.cancelled { stroke: var(--cancelled); opacity: .7; } .call { opacity: .7; }
.call.p0 { stroke: var(--p0); } .call.p1 { stroke: var(--p1); } .call.p2 { stroke: var(--p2); }
"""
_CIRCLE = re.compile(r'<circle cx="([\d.]+)" cy="([\d.]+)" r="[\d.]+" class="dot ([^"]+)"/>')


def style() -> str:
    """Those rules of the page that are about the picture."""
    variables = STYLE[: STYLE.index("* {")]
    rules = re.findall(r"svg [^{}]+\{[^}]*\}", STYLE[STYLE.index("svg text") :])
    return variables + "\n".join(rule for rule in rules if ".dot" not in rule) + DOTS


def small(drawn: str) -> str:
    """The picture with fewer bytes, complete in itself."""
    drawn = re.sub(r"<title>[^<]*</title>", "", drawn)
    drawn = drawn.replace("></circle>", "/>").replace("></path>", "/>")
    dots: dict[str, list[str]] = defaultdict(list)
    for x, y, kind in _CIRCLE.findall(drawn):
        dots[kind].append(f"M{float(x):.0f} {float(y):.0f}h0")
    drawn = _CIRCLE.sub("", drawn)
    head, _, rest = drawn.partition(">")
    head = head.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
    paths = "\n".join(f'<path class="dots {kind}" d="{"".join(found)}"/>' for kind, found in dots.items())
    return f"{head}>\n<style>\n{style()}</style>\n{CARD}{rest.replace('</svg>', '')}{paths}\n</svg>\n"


def main() -> None:
    """Play, draw, write."""
    pace = FAST if "--fast" in sys.argv else FULL
    story = Story(pace.name, 1, NAMES)
    anyio.run(Show(pace, story, screen_for(sys.stdout, silent=True)).play)
    PICTURE.write_text(small(timeline(story)), encoding="utf-8")


if __name__ == "__main__":
    main()
