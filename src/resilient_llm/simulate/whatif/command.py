"""The part of ``python -m resilient_llm simulate`` that takes the user's settings."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from resilient_llm.errors import ConfigurationError
from resilient_llm.operate.cost.prices import load_prices, sample_prices
from resilient_llm.simulate.schedules import SCHEDULES
from resilient_llm.simulate.whatif.cases import Callers, Case, incident_case, read_trace, schedule_case, year_case
from resilient_llm.simulate.whatif.incidents import INCIDENTS
from resilient_llm.simulate.whatif.page import as_html
from resilient_llm.simulate.whatif.report import as_json, as_text
from resilient_llm.simulate.whatif.run import Answer, answer
from resilient_llm.simulate.whatif.setup import Setup, read_setup

_SETTINGS: Final = "resilient.toml"
_SUFFIXES: Final = frozenset({".toml", ".yaml", ".yml", ".json"})
_YEAR_RATE: Final = 0.05
"""Calls a second of a year unless told otherwise: 1.6 million calls."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """What is added to the command's options."""
    group = parser.add_argument_group("what would my settings have done?", "with a settings file as FILE")
    group.add_argument("--incident", metavar="DAY", help="an incident by its day, or 'all' (the default)")
    group.add_argument("--schedule", metavar="NAME", help="a fault schedule, done to the providers in their order")
    group.add_argument("--year", action="store_true", help="a year of incidents as often as vendors report them")
    group.add_argument("--traffic", type=Path, metavar="FILE.csv", help="your own arrivals (docs/what-if.md)")
    group.add_argument("--rate", type=float, metavar="N", help="calls a second, at random (1; for a year 0.05)")
    group.add_argument("--deadline", type=float, metavar="SECONDS", help="for a call (default: as the settings say)")
    group.add_argument("--route", metavar="NAME", help="a route of the settings (default: the first)")
    group.add_argument("--compare", type=Path, metavar="OTHER", action="append", help="other settings beside them")
    group.add_argument("--prices", type=Path, metavar="FILE", help="a price table (default: the sample's list prices)")
    group.add_argument("--seed", type=int, default=1, help="of the callers and of everybody's luck (1)")
    group.add_argument("--html", type=Path, metavar="PAGE", help="write a page with drawings there")


def wanted(arguments: argparse.Namespace) -> bool:
    """Whether it is the user's settings that are asked about."""
    asked = (arguments.incident, arguments.schedule, arguments.traffic, arguments.compare, arguments.html)
    return any(map(is_settings, arguments.names)) or arguments.year or any(one is not None for one in asked)


def is_settings(name: str) -> bool:
    """Whether this names a settings file, and no fault schedule."""
    return Path(name).suffix in _SUFFIXES


def run(arguments: argparse.Namespace) -> int:
    """Answer it.  Returns 0, or 2 for settings, traces or names that make no sense."""
    try:
        if arguments.html is not None:
            arguments.html.touch()  # before the work is done for nothing
        answers = _answers(arguments)
        if arguments.html is not None:
            arguments.html.write_text(as_html(answers, _again(arguments)), encoding="utf-8")
    except OSError as error:
        what = (error.strerror or type(error).__name__).lower()
        sys.stderr.write(f"{error.filename}: {what}\n")
        return 2
    except ConfigurationError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(as_json(answers) + "\n" if arguments.json else as_text(answers))
    if arguments.html is not None:
        sys.stderr.write(f"written: {arguments.html}\n")
    return 0


def _answers(arguments: argparse.Namespace) -> list[Answer]:
    files = [Path(name) for name in arguments.names] or [Path(_SETTINGS)]
    if len(files) > 1:
        raise ConfigurationError(f"one settings file is asked about; --compare {files[1]} puts another one beside it")
    if not files[0].exists():
        raise ConfigurationError(f"there is no {files[0]}: name a settings file (docs/what-if.md)")
    setups = [read_setup(path, arguments.route) for path in (*files, *(arguments.compare or ()))]
    prices = sample_prices() if arguments.prices is None else load_prices(arguments.prices)
    found: list[Answer] = []
    for case in _cases(arguments, setups):
        found.append(answer(case, setups, prices, arguments.seed, _progress))
    _progress("")
    return found


def _cases(arguments: argparse.Namespace, setups: Sequence[Setup]) -> list[Case]:
    if sum((arguments.incident is not None, arguments.schedule is not None, arguments.year)) > 1:
        raise ConfigurationError("choose one of --incident, --schedule and --year")
    given = arguments.rate is not None or arguments.traffic is not None
    callers = _callers(arguments)
    if arguments.year:
        return [year_case(setups, callers, arguments.seed)]
    if arguments.schedule is not None:
        schedule = SCHEDULES.get(arguments.schedule)
        if schedule is None:
            raise ConfigurationError(f"there is no schedule {arguments.schedule!r}; --list tells which there are")
        return [schedule_case(schedule, setups, callers if given else None)]
    day = arguments.incident or "all"
    if day == "all":
        every = [incident_case(one, setups, callers) for one in INCIDENTS.values()]
        return [case for case in every if case.touched] or every
    if day not in INCIDENTS:
        raise ConfigurationError(f"there is no incident {day!r}; there are {', '.join(INCIDENTS)}")
    return [incident_case(INCIDENTS[day], setups, callers)]


def _callers(arguments: argparse.Namespace) -> Callers:
    if arguments.rate is not None and arguments.traffic is not None:
        raise ConfigurationError("choose one of --rate and --traffic")
    rate = arguments.rate if arguments.rate is not None else _YEAR_RATE if arguments.year else 1.0
    for name, value in (("--rate", rate), ("--deadline", arguments.deadline)):
        if value is not None and not 0.0 < value < float("inf"):
            raise ConfigurationError(f"{name} must be above 0, not {value!r}")
    trace = None if arguments.traffic is None else read_trace(arguments.traffic)
    return Callers(rate, trace, arguments.deadline)


def _progress(what: str) -> None:
    """On a terminal, what is being simulated."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{what}")
        sys.stderr.flush()


def _again(arguments: argparse.Namespace) -> str:
    """The command for the same page."""
    parts = ["python -m resilient_llm simulate", *(arguments.names or [_SETTINGS])]
    for name in ("incident", "schedule", "traffic", "rate", "deadline", "route"):
        value = getattr(arguments, name)
        parts += [] if value is None else [f"--{name} {value}"]
    parts += ["--year"] if arguments.year else []
    parts += [f"--compare {other}" for other in arguments.compare or ()]
    return " ".join(parts)
