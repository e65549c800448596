"""``python -m resilient_llm simulate``: what would settings have done, and does the core keep its promises?

With a settings file, incidents that happened are lived through with its providers and policies.  Without, fault
schedules beside an SDK and an oracle, and scenarios with what must hold in them; the exit status is 1 if a goal is
missed or a scenario does not hold, and what was is listed."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from resilient_llm.errors import ConfigurationError
from resilient_llm.simulate.client import Production
from resilient_llm.simulate.fleet import herd, storm, svg
from resilient_llm.simulate.jobs import Task, spread
from resilient_llm.simulate.judge import GOALS, HEAD, Compared, line, row
from resilient_llm.simulate.providers import Provider
from resilient_llm.simulate.random_runs import Half, run_half, summary
from resilient_llm.simulate.report import LAYOUTS, measure, table
from resilient_llm.simulate.scenarios import DATA, SCENARIOS
from resilient_llm.simulate.schedules import SCHEDULES
from resilient_llm.simulate.strategies import PLAIN
from resilient_llm.simulate.whatif import INCIDENTS
from resilient_llm.simulate.whatif import command as whatif
from resilient_llm.simulate.world import Load, World

_LONG = 20_000.0
"""Calls of a run that ``--quick`` leaves out."""


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m resilient_llm.simulate``."""
    parser = argparse.ArgumentParser(prog="python -m resilient_llm simulate", description=__doc__)
    configure(parser)
    return run(parser.parse_args(arguments))


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = __doc__
    parser.epilog = "goals:\n" + "\n".join(f"  {name}: {what}" for name, what in GOALS.items())
    parser.add_argument("names", nargs="*", metavar="FILE|NAME", help="settings, or schedules, scenarios and patterns")
    parser.add_argument("--json", action="store_true", help="print all figures as JSON")
    parser.add_argument("--list", action="store_true", help="the names of incidents, schedules and scenarios")
    whatif.add_options(parser)
    group = parser.add_argument_group("does the core keep its promises?", "without a settings file")
    group.add_argument("--seeds", type=_positive, default=3, help="runs of each schedule (default 3)")
    group.add_argument("--jobs", type=_positive, default=1, help="processes (default 1)")
    group.add_argument("--quick", action="store_true", help="one seed, no run of over 20,000 calls, no scenarios")
    group.add_argument("--markdown", action="store_true", help="the table of the documentation (schedules only)")
    group.add_argument("--peers", action="store_true", help="a table for each schedule with other strategies as well")
    group.add_argument("--random", type=_positive, metavar="N", help="N random bad half minutes instead")
    group.add_argument("--first", type=int, default=0, metavar="SEED", help="the first seed of --random (default 0)")
    group.add_argument("--speed", action="store_true", help="simulated calls per second of CPU time")
    group.add_argument("--plots", type=Path, metavar="DIR", help="draw a fleet and a retry storm as SVG")
    group.add_argument("--data", type=Path, metavar="DIR", default=DATA, help="where recorded weather lies")


def run(arguments: argparse.Namespace) -> int:
    """Run what was asked for.

    Returns 0; 1 if a goal is missed or a scenario does not hold; 2 for names, settings or files that make no sense.
    """
    if arguments.list:
        _list()
        return 0
    if whatif.wanted(arguments):
        return whatif.run(arguments)
    if arguments.random is not None:
        return _random(range(arguments.first, arguments.first + arguments.random), arguments.jobs, arguments.json)
    if arguments.speed or arguments.plots:
        if arguments.speed:
            _speed()
        if arguments.plots:
            _plot(arguments.plots)
        return 0
    everything = [*SCHEDULES] if arguments.markdown or arguments.quick else [*SCHEDULES, *SCENARIOS]
    try:
        names = _named(arguments.names, everything)
    except ConfigurationError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 2
    return _run(names, arguments)


def _list() -> None:
    for name, incident in INCIDENTS.items():
        _say(f"{name:22} {incident.title}: {incident.what}")
    told = {name: one.what for name, one in SCHEDULES.items()} | {name: one.what for name, one in SCENARIOS.items()}
    for name, what in told.items():
        _say(f"{name:22} {what}")


def _positive(text: str) -> int:
    """A number of things to do; none is no run."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, not {number}")
    return number


def _named(patterns: Sequence[str], everything: list[str]) -> list[str]:
    """What the names and patterns stand for, in their order.  Raises ``ConfigurationError`` for one that is unknown."""
    found: dict[str, None] = {}
    for pattern in patterns or everything:
        matching = [name for name in (*SCHEDULES, *SCENARIOS) if fnmatchcase(name, pattern)]
        if not matching:
            raise ConfigurationError(f"there is no {pattern}; --list tells what there is")
        found |= dict.fromkeys(matching)
    return list(found)


def _run(names: Sequence[str], options: argparse.Namespace) -> int:
    """Schedules, then scenarios; then what was missed."""
    schedules = [SCHEDULES[name] for name in names if name in SCHEDULES]
    seeds = 1 if options.quick else options.seeds
    if options.quick:
        schedules = [one for one in schedules if one.seconds * one.rate <= _LONG]
    todo = [Task(one.name, layout, seeds) for one in schedules for layout in one.layouts]
    if options.markdown and not options.json:
        _say(f"{HEAD}\n|{'---|' * HEAD.count(' |')}")
    done: list[Compared] = []
    for one in spread(Task.run, todo, options.jobs):
        done.append(one)
        if not options.json:
            _say(row(one) if options.markdown else line(one))
        if options.peers:
            _peers(one, seeds)
    held = [] if options.markdown else [name for name in names if name in SCENARIOS]
    broken = [name for name in held if not _hold(name, options)]
    if options.json:
        _tell([_figures(one) for one in done])
    missed = [one for one in done if one.missed]
    for one in missed:
        print(f"missed: {one.name} ({one.layout}): {', '.join(one.missed)}", file=sys.stderr)  # noqa: T201
    for name in broken:
        print(f"does not hold: {name}", file=sys.stderr)  # noqa: T201
    return 1 if missed or broken else 0


def _figures(one: Compared) -> dict[str, object]:
    strategies = {"we": one.mine, "sdk": one.sdk, "oracle": one.oracle}
    figures = {name: figures._asdict() for name, figures in strategies.items()}
    return {"schedule": one.name, "layout": one.layout, "missed": one.missed, **figures}


def _tell(what: object) -> None:
    _say(json.dumps(what, indent=1).replace("NaN", "null").replace("Infinity", '"never"'))


def _random(seeds: Sequence[int], jobs: int, as_json: bool) -> int:
    halves: list[Half] = list(spread(run_half, seeds, jobs))
    if as_json:
        _tell([half._asdict() for half in halves])
    else:
        _say(summary(halves))
    return 1 if any(half.lost for half in halves) else 0


def _hold(name: str, options: argparse.Namespace) -> bool:
    scenario, data = SCENARIOS[name], options.data
    if scenario.takes and (data / scenario.file).exists():
        print(f"{name}: {scenario.takes}", file=sys.stderr, flush=True)  # noqa: T201
    found = scenario.run(data)
    if not options.json:
        _say(f"{name:20} {found}")
    return found.held


def _peers(one: Compared, seeds: int) -> None:
    schedule = SCHEDULES[one.name]
    runs = range(1, (schedule.seeds or seeds) + 1)
    others = [measure(schedule, one.layout, who, runs) for who in PLAIN if who not in ("sdk", "oracle")]
    where = "one tier" if one.layout == "tier" else "a tier each"
    figures = [one.mine, one.sdk, one.oracle, *others]
    _say(f"\n### {one.name}: {schedule.what}; {where}\n\n{table(figures)}\n")
    if schedule.reference:
        _say(f"Reference: {schedule.reference}.\n")


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
    storms = {name: storm(name, trigger=120.0, seconds=700.0) for name in ("production", "hasty sdk")}
    loads = {name: [float(count) for count in one.load[:700]] for name, one in storms.items()}
    title = "load on a provider that has a quarter of its capacity (25/s) from 120 to 240 s"
    (folder / "storm.svg").write_text(svg(title, loads, "attempts a second"))


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
