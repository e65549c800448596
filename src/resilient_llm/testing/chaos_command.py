"""``python -m resilient_llm chaos FILE.toml``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from resilient_llm.errors import ConfigurationError
from resilient_llm.testing.chaos_file import experiment


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("file", type=Path, help="the experiment; docs/chaos.md has the format")
    parser.add_argument("--output", type=Path, metavar="STEM", help="write STEM.txt, .json and .html (the file's name)")
    parser.add_argument("--no-files", action="store_true", help="print only")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Carry out the experiment and print what it found.

    Returns 0 if the hypothesis holds, 1 if it does not (or the experiment was stopped), 2 for a file that makes no
    sense.
    """
    try:
        with experiment(arguments.file) as prepared:
            report = prepared.run()
    except (ConfigurationError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(report.as_json() + "\n" if arguments.json else report.text())
    if not arguments.no_files:
        written = report.write(arguments.output or arguments.file.with_suffix(""))
        sys.stderr.write(f"written: {', '.join(map(str, written))}\n")
    return 0 if report.held else 1
