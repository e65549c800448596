"""``python -m resilient_llm chaos FILE.toml``."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from resilient_llm.chaos.experiment import Experiment
from resilient_llm.chaos.file import experiment
from resilient_llm.errors import ConfigurationError

_INTERRUPTED = 130  # what shells say of a command that Ctrl-C ended


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("file", type=Path, help="the experiment; docs/chaos.md has the format")
    parser.add_argument("--output", type=Path, metavar="STEM", help="write STEM.txt, .json and .html (the file's name)")
    parser.add_argument("--no-files", action="store_true", help="print only")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Carry out the experiment and print what it found.

    Returns 0 if the hypothesis holds, 1 if it does not (or the experiment was stopped), 2 for a file that makes no
    sense or a report that cannot be written, 130 after Ctrl-C, which stops the experiment and reports what was seen so
    far; a second one ends it at once.
    """
    try:
        return _run(arguments)
    except (ConfigurationError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: there is no report\n")
        return _INTERRUPTED


def _run(arguments: argparse.Namespace) -> int:
    stem: Path | None = None if arguments.no_files else arguments.output or arguments.file.with_suffix("")
    with experiment(arguments.file) as prepared:
        if stem is not None:
            _check_writable(stem)
        with _interruptible(prepared) as interrupted:
            report = prepared.run()
    sys.stdout.write(report.as_json() + "\n" if arguments.json else report.text())
    if stem is not None:
        sys.stderr.write(f"written: {', '.join(map(str, report.write(stem)))}\n")
    if interrupted.is_set():
        return _INTERRUPTED
    return 0 if report.held else 1


def _check_writable(stem: Path) -> None:
    """Before an experiment of an hour, not after it."""
    folder = stem.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK) or not stem.name:
        raise ConfigurationError(
            f"the report cannot be written to {str(stem)!r}: {str(folder)!r} is no folder to write to"
        )


@contextmanager
def _interruptible(running: Experiment) -> Generator[threading.Event]:
    """Inside, the first Ctrl-C stops the experiment, the second one the program.  Gives whether there was one."""
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.stderr.write("interrupted: the faults are withdrawn; the report of what was seen so far follows\n")
        interrupted.set()
        running.stop("it was interrupted")

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)
