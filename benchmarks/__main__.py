"""``python -m benchmarks [NAME...] [--quick]``: one table, with budgets and verdicts."""

from __future__ import annotations

import argparse
import platform
from importlib import import_module

from benchmarks.harness import Row, table

NAMES = (
    "core",
    "waiting",
    "telemetry",
    "chat",
    "engines",
    "stream",
    "decode",
    "mounted",
    "imports",
    "memory",
    "calls",
    "compare",
)


def main() -> None:
    """Run what was asked for, everything by default."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(NAMES)}; default: all")
    parser.add_argument("--quick", action="store_true", help="shorter and less exact")
    given = parser.parse_args()
    for name in given.names:
        if name not in NAMES:
            parser.error(f"there is no benchmark {name!r}; there are {', '.join(NAMES)}")
    rows: list[Row] = []
    for name in given.names or NAMES:
        rows += import_module(f"benchmarks.{name}").rows(given.quick)
    print(f"Python {platform.python_version()}, CPU time, as ratios within this run")
    print(table(rows))


if __name__ == "__main__":
    main()
