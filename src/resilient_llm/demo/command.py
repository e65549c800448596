"""``python -m resilient_llm demo``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import anyio

from resilient_llm.chaos.timeline.story import Story
from resilient_llm.demo.pace import FAST, FULL
from resilient_llm.demo.page import page
from resilient_llm.demo.prose import prose
from resilient_llm.demo.report import Report, report
from resilient_llm.demo.screens import screen_for
from resilient_llm.demo.show import Show
from resilient_llm.demo.stage import NAMES

_DEFAULT_OUTPUT = "resilient_llm-demo.html"
_INTERRUPTED = 130  # what shells report for Ctrl-C


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--fast", action="store_true", help="about ten seconds instead of more than a minute")
    parser.add_argument("--json", action="store_true", help="print one JSON report and nothing else")
    parser.add_argument("--seed", type=int, default=1, help="of arrivals and draws (%(default)s)")
    parser.add_argument(
        "--output", type=Path, default=Path(_DEFAULT_OUTPUT), metavar="PATH", help="the timeline (%(default)s)"
    )
    parser.add_argument("--no-timeline", action="store_true", help="write no timeline")


def run(arguments: argparse.Namespace) -> int:
    """Play the day, print the report, draw the timeline.

    Returns 0 if callers noticed no more than was promised, 1 if they did or the timeline could not be written, 130 if
    the day was cut short by Ctrl-C.
    """
    pace = FAST if arguments.fast else FULL
    story = Story(pace.name, arguments.seed, NAMES)
    screen = screen_for(sys.stdout, silent=arguments.json)
    interrupted = False
    try:
        anyio.run(Show(pace, story, screen).play)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        screen.close()
    summary = report(story)
    written = None if arguments.no_timeline else write(arguments.output, page(story, summary))
    _say(summary, written, as_json=arguments.json)
    failed = not summary.kept or (written is None and not arguments.no_timeline)
    return _INTERRUPTED if interrupted else int(failed)


def write(path: Path, text: str) -> Path | None:
    """Write the page; ``None``, and a line on standard error, if that is impossible."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        sys.stderr.write(f"the timeline could not be written to {path}: {error.strerror or error}\n")
        return None
    return path


def _say(summary: Report, written: Path | None, *, as_json: bool) -> None:
    if as_json:
        told = {**summary.as_json(), "timeline": None if written is None else str(written)}
        sys.stdout.write(json.dumps(told, indent=2) + "\n")
        return
    sys.stdout.write(prose(summary))
    if written is not None:
        sys.stdout.write(f"\nTimeline: {written.resolve().as_uri()}\n")
