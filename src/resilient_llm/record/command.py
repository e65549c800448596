"""``python -m resilient_llm explain RECORD.json``: how a recorded call was decided, as a timeline."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from resilient_llm.errors import ConfigurationError
from resilient_llm.record.document import DecisionRecord
from resilient_llm.record.replay import replay


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("record", help="a file that DecisionRecord.save() wrote")
    parser.add_argument("--json", action="store_true", help="the decisions as JSON")
    parser.add_argument("--replay", action="store_true", help="decide again, and say where that differs; then exit 1")


def run(arguments: argparse.Namespace) -> int:
    """Print the record; 2 if it cannot be read, 1 if ``--replay`` decides otherwise."""
    try:
        record = DecisionRecord.load(arguments.record)
        again = replay(record) if arguments.replay else record.decisions
    except OSError as error:
        told = "there is no such file" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
        print(f"{arguments.record}: {told}", file=sys.stderr)  # noqa: T201
        return 2
    except ConfigurationError as error:
        print(f"{arguments.record}: {error}", file=sys.stderr)  # noqa: T201
        return 2
    if arguments.json:
        print(json.dumps([asdict(decision) for decision in again], indent=2))  # noqa: T201
    else:
        print(record)  # noqa: T201
    differing = [(was, now) for was, now in zip(record.decisions, again, strict=True) if was != now]
    for was, now in differing:
        print(f"{was.at:9.3f} s  was: {was.detail}; now: {now.detail}", file=sys.stderr)  # noqa: T201
    return 1 if differing else 0
