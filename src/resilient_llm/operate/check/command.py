"""``python -m resilient_llm check FILE``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Final

from resilient_llm.operate.check.probing import ANSWER_TIME, FAST_TIME, Probe, probe
from resilient_llm.operate.check.report import Checked, as_json, looked_for, sheets
from resilient_llm.operate.look import Row, Sheet, row, write
from resilient_llm.operate.settings.problems import SettingsError
from resilient_llm.operate.settings.reading import Settings, read
from resilient_llm.operate.settings.shape import schema
from resilient_llm.policy import Timeouts

_USUAL: Final = "resilient.toml"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "file", nargs="?", help="a .toml or .yaml file (resilient.toml if there is one, else variables)"
    )
    parser.add_argument("--environment", metavar="NAME", help="whose file goes before it (default: APP_ENV)")
    parser.add_argument("--all", action="store_true", help="show defaults too")
    parser.add_argument("--without-keys", action="store_true", help="do not mind keys that are not on this machine")
    parser.add_argument("--probe", action="store_true", help="ask each provider, which costs a few tokens each")
    parser.add_argument(
        "--within", type=_seconds, metavar="SECONDS", help="for the first content (timeouts.first_token, else 10)"
    )
    parser.add_argument(
        "--patience", type=_seconds, default=ANSWER_TIME, metavar="SECONDS", help="for an answer (%(default)g)"
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument("--schema", action="store_true", help="print the JSON Schema of settings files, and end")


def run(arguments: argparse.Namespace) -> int:
    """Check, and print what was found.

    Returns 0 if the settings are right, their secrets are there (``--without-keys``: or not) and every provider that
    was asked answers as it should; 1 if not; 2 for a file that cannot be read; 130 after Ctrl-C.
    """
    if arguments.file is None and Path(_USUAL).exists():
        arguments.file = _USUAL
    if arguments.schema:
        sys.stdout.write(json.dumps(schema(), indent=2) + "\n")
        return 0
    try:
        found = _checked(arguments)
    except KeyboardInterrupt:
        return 130
    if arguments.json:
        sys.stdout.write(json.dumps(as_json(found), indent=2) + "\n")
    else:
        name = arguments.file or "the environment"
        write(sys.stdout, *sheets(found, everything=arguments.all), Sheet("", [_verdict(found, name)]))
    if arguments.file is not None and not _readable(Path(arguments.file)):
        return 2
    return 0 if found.fine else 1


def _readable(path: Path) -> bool:
    return path.is_file() and os.access(path, os.R_OK)


def _checked(arguments: argparse.Namespace) -> Checked:
    try:
        settings = read(arguments.file, environment=arguments.environment, needs_keys=not arguments.without_keys)
    except SettingsError as error:
        return Checked(error.problems)
    secrets = looked_for(settings, all_stores=arguments.probe)
    probes: list[Probe] = []
    if arguments.probe:
        timeouts = settings.options.get("timeouts", Timeouts())
        limit = timeouts.first_token if isinstance(timeouts, Timeouts) else None
        if sys.stderr.isatty():
            sys.stderr.write("asking the providers...\n")
        providers = {one.id: one for tiers in settings.routes.values() for tier in tiers for one in tier}
        probes = probe(
            providers.values(),
            within=arguments.within or limit or FAST_TIME,
            patience=arguments.patience,
            engine=_engine(settings),
        )
    return Checked(settings.warnings, settings, secrets, probes, not arguments.without_keys)


def _engine(settings: Settings) -> str:
    found = settings.options.get("engine", "httpx")
    return found if isinstance(found, str) and found != "aiohttp" else "httpx"  # the probe is not async


def _verdict(found: Checked, name: str) -> Row:
    errors = sum(one.severity == "error" for one in found.problems)
    if errors:
        return row(f"{name}: {errors} {'error' if errors == 1 else 'errors'}", mood="bad")
    missing = sum(bool(one.missing) for one in found.secrets) if found.keys_needed else 0
    unwell = [one.provider for one in found.probes if not one.fine]
    told = [
        *([f"{missing} {'secret is' if missing == 1 else 'secrets are'} not there"] if missing else []),
        *([f"{', '.join(unwell)} did not answer as it should"] if unwell else []),
    ]
    well = "all providers answer" if found.probes and not told else ""
    return row(
        "; ".join([f"{name}: the settings are right", *told, *filter(None, [well])]), mood="bad" if told else "good"
    )


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 < number < 3600:
        raise argparse.ArgumentTypeError(f"must be above 0 and below 3600, not {text}")
    return number
