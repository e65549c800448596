"""``python -m resilient_llm.simulate [NAME...]``: fault schedules, beside an oracle and plain strategies, and
scenarios with what must hold in them.  Exits with status 1 if a scenario does not hold."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from resilient_llm.simulate.client import Production
from resilient_llm.simulate.fleet import herd, storm, svg
from resilient_llm.simulate.providers import Provider
from resilient_llm.simulate.report import HEAD, LAYOUTS, judge, measure, row, table
from resilient_llm.simulate.scenarios import DATA, SCENARIOS
from resilient_llm.simulate.schedules import SCHEDULES
from resilient_llm.simulate.strategies import PLAIN
from resilient_llm.simulate.world import Load, World


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table per schedule and layout, and how each scenario went."""
    parser = argparse.ArgumentParser(prog="python -m resilient_llm.simulate", description=__doc__)
    parser.add_argument("--seeds", type=_positive, default=3, help="seeds averaged over (default 3)")
    parser.add_argument("--brief", action="store_true", help="production and the oracle only, a line each")
    parser.add_argument("--markdown", action="store_true", help="as --brief, as the table of the documentation")
    parser.add_argument("--list", action="store_true", help="the names of schedules and scenarios")
    parser.add_argument("--speed", action="store_true", help="simulated calls per second of CPU time")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="draw a fleet and a retry storm as SVG")
    parser.add_argument("--data", type=Path, metavar="DIR", default=DATA, help="where recorded weather lies")
    parser.add_argument("names", nargs="*", metavar="NAME", help="schedules and scenarios (default: all)")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in SCHEDULES and name not in SCENARIOS]
    if unknown:
        parser.error(f"there is no {', '.join(unknown)}; --list tells what there is")
    if options.list:
        told = {name: one.what for name, one in SCHEDULES.items()} | {name: one.what for name, one in SCENARIOS.items()}
        for name, what in told.items():
            _say(f"{name:22} {what}")
        return 0
    if options.markdown:
        scenarios = [name for name in options.names if name not in SCHEDULES]
        if scenarios:
            parser.error(
                f"--markdown is a table of schedules, and {', '.join(scenarios)} is a scenario: leave out either"
            )
        _markdown(options.names or list(SCHEDULES), options.seeds)
        return 0
    if options.speed or options.plots:
        if options.speed:
            _speed()
        if options.plots:
            _plot(options.plots)
        return 0
    return _run(options.names or [*SCHEDULES, *SCENARIOS], options.seeds, options.data, brief=options.brief)


def _positive(text: str) -> int:
    """A number of things to do; none is no run."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, not {number}")
    return number


def _run(names: Sequence[str], seeds: int, data: Path, *, brief: bool) -> int:
    held = True
    for name in names:
        if name in SCENARIOS:
            held &= _hold(name, data, brief=brief)
            continue
        for layout in LAYOUTS:
            _compare(name, layout, seeds, brief=brief)
    return 0 if held else 1


def _hold(name: str, data: Path, *, brief: bool) -> bool:
    scenario = SCENARIOS[name]
    if scenario.takes and (data / scenario.file).exists():
        print(f"{name}: {scenario.takes}", file=sys.stderr, flush=True)  # noqa: T201
    found = scenario.run(data)
    if brief:
        _say(f"{name:22} {found}")
        return found.held
    told = "\n".join(f"- {figure}: {value:.5g}" for figure, value in found.figures.items())
    verdict = f"Skipped: {found.skipped}." if found.skipped else "Holds." if found.held else "Does not hold:"
    _say(f"\n### {name}: {scenario.what}\n\nMust hold: {scenario.must}.\n\n{told}\n\n{verdict}")
    for demand in found.broken:
        _say(f"- {demand}")
    return found.held


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


def _markdown(names: Sequence[str], seeds: int) -> None:
    _say(f"{HEAD}\n|{'---|' * HEAD.count(' |')}")
    for name in names:
        for layout in LAYOUTS:
            mine, best = (
                measure(SCHEDULES[name], layout, who, range(1, seeds + 1)) for who in ("production", "oracle")
            )
            _say(row(name, layout, mine, best))


def _speed() -> None:
    for layout in LAYOUTS:
        providers = [Provider(name) for name in "abc"]
        tiers = [providers] if layout == "tier" else [[provider] for provider in providers]
        world = World([Production(tiers, seed=1)], Load(rate=5.0), 1)
        before = time.process_time()
        world.run(10_000.0)
        _say(f"{layout}: {len(world.ended) / (time.process_time() - before):,.0f} calls a second")


def _plot(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    found = herd(1000)
    lines = {"attempts at the failing provider": [float(count) for count in found.per_second]}
    title = "1000 processes, one of three providers down from 120 to 420 s"
    (folder / "herd.svg").write_text(svg(title, lines, "attempts a second"))
    storms = {name: storm(name, trigger=120.0, seconds=700.0) for name in ("production", "retry primary")}
    loads = {name: [float(count) for count in one.load[:700]] for name, one in storms.items()}
    title = "load on a provider that has a quarter of its capacity (25/s) from 120 to 240 s"
    (folder / "storm.svg").write_text(svg(title, loads, "attempts a second"))


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
