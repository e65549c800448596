"""``python -m resilient_llm.testing.simulate [NAME...]``: fault schedules, beside an oracle and plain strategies."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from resilient_llm.testing.simulate.report import LAYOUTS, judge, measure, table
from resilient_llm.testing.simulate.schedules import SCHEDULES
from resilient_llm.testing.simulate.strategies import PLAIN


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table per schedule and layout."""
    parser = argparse.ArgumentParser(prog="python -m resilient_llm.testing.simulate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="seeds averaged over (default 3)")
    parser.add_argument("--brief", action="store_true", help="production and the oracle only, a line each")
    parser.add_argument("--list", action="store_true", help="the names of the schedules")
    parser.add_argument("names", nargs="*", metavar="NAME", help="schedules (default: all)")
    options = parser.parse_args(arguments)
    if options.list:
        for schedule in SCHEDULES.values():
            _say(f"{schedule.name:20} {schedule.what}")
        return 0
    for name in options.names or SCHEDULES:
        for layout in LAYOUTS:
            _compare(name, layout, options.seeds, brief=options.brief)
    return 0


def _compare(name: str, layout: str, seeds: int, *, brief: bool) -> None:
    schedule = SCHEDULES[name]
    wanted = ["production", "oracle"] if brief else ["production", *PLAIN]
    figures = [measure(schedule, layout, strategy, range(1, seeds + 1)) for strategy in wanted]
    verdict = judge(figures[0], figures[1])
    if brief:
        mine, best = figures
        _say(
            f"{name:22} {layout:5} {mine.available:.4f}/{best.available:.4f} p99 {mine.p99:5.2f}/{best.p99:5.2f} "
            f"worst {mine.worst:5.1f} attempts {mine.attempts:.3f} share {mine.share:.3f} back {mine.back:4.0f} "
            f"first {mine.first:4.1f} {verdict}"
        )
        return
    where = "one tier" if layout == "tier" else "three tiers"
    _say(f"\n### {name}: {schedule.what}; {where}\n\n{table(figures)}\n\nProduction {verdict}.")
    if schedule.reference:
        _say(f"Reference: {schedule.reference}.")


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
