"""``python -m benchmarks.comparison [--write] [--only NAME]... [--scenario KEY]... [--json FILE]``.

Every contestant runs in a process and a virtual environment of its own, made here with the versions that people get
today.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.comparison.contestants import CONTESTANTS
from benchmarks.comparison.page import Cell, Result, page, picture
from benchmarks.comparison.scenarios import GOOD, PATIENCE, SCENARIOS, Scenario, preferred
from resilient_llm.testing import LoopbackLLM

ROOT = Path(__file__).parents[2]
RAW = ROOT / "docs" / "comparison.json"
CALLS, CAP = 10, 15.0


class Worker:
    """A contestant's process."""

    def __init__(self, name: str, python: Path) -> None:
        environment = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()}
        environment["PYTHONPATH"] = str(ROOT)
        self._process = subprocess.Popen(
            [str(python), "-m", "benchmarks.comparison.worker", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
            cwd=ROOT,
        )
        self.version: str = self._heard()["version"]

    def run(self, **order: object) -> list[dict[str, Any]]:
        """Give an order and wait for its result."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        seen: list[dict[str, Any]] = self._heard()["seen"]
        return seen

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()

    def _heard(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("a contestant's process died")
        heard: dict[str, Any] = json.loads(line)
        return heard


def environment(name: str, folder: Path) -> Path:
    """The interpreter of a contestant's own environment, which is made if it is not there."""
    python = folder / name / "bin" / "python"
    if not python.exists():
        print(f"{name}: installing {CONTESTANTS[name].wanted}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder / name)], check=True)
        wanted = str(ROOT) if CONTESTANTS[name].package == "resilient-llm" else CONTESTANTS[name].wanted
        subprocess.run([str(python), "-m", "pip", "install", "-q", wanted], check=True)
    return python


def compete(name: str, python: Path, scenarios: list[Scenario]) -> Result:
    """All scenarios for one contestant, each with new servers and a new client."""
    worker = Worker(name, python)
    cells: dict[str, Cell] = {}
    try:
        with LoopbackLLM(default=GOOD) as well, LoopbackLLM(default=GOOD) as other:
            worker.run(preferred=well.url, other=other.url, patience=30.0, cap=CAP, warm=True)
        for scenario in scenarios:
            with preferred(scenario) as sick, LoopbackLLM(default=GOOD) as other:
                seen = worker.run(
                    preferred=sick.url,
                    other=other.url,
                    patience=PATIENCE,
                    stream=scenario.stream,
                    calls=CALLS,
                    cap=CAP,
                )
                cells[scenario.key] = Cell.of(seen, sick.request_count, other.request_count)
            cell = cells[scenario.key]
            print(f"{name:14} {scenario.key:10} {cell.short()}", flush=True)
    finally:
        worker.close()
    return Result(name, worker.version, cells)


def main() -> None:
    """Run, print, and write if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.comparison")
    parser.add_argument("--write", action="store_true", help="renew docs/comparison.md, its picture and its raw data")
    parser.add_argument("--only", action="append", choices=list(CONTESTANTS), help="run these contestants only")
    parser.add_argument("--scenario", action="append", choices=[one.key for one in SCENARIOS])
    parser.add_argument("--environments", type=Path, help="where to keep the environments; default: nowhere")
    parser.add_argument("--json", type=Path, help="also keep the raw figures here; figures found there are reused")
    given = parser.parse_args()
    scenarios = [one for one in SCENARIOS if not given.scenario or one.key in given.scenario]
    known: dict[str, Any] = json.loads(given.json.read_text()) if given.json and given.json.exists() else {}
    results = {name: Result.from_json(name, value) for name, value in known.items()}
    with ExitStack() as stack:
        folder: Path = given.environments or Path(stack.enter_context(TemporaryDirectory()))
        for name in given.only or CONTESTANTS:
            if name not in results or given.only:
                results[name] = compete(name, environment(name, folder), scenarios)
            if given.json:
                given.json.write_text(json.dumps({one.name: one.as_json() for one in results.values()}, indent=1))
    ordered = [results[name] for name in CONTESTANTS if name in results]
    if given.write:
        RAW.write_text(json.dumps({one.name: one.as_json() for one in ordered}) + "\n", encoding="utf-8")
        (ROOT / "docs" / "comparison.md").write_text(page(ordered, scenarios), encoding="utf-8")
        (ROOT / "docs" / "comparison.svg").write_text(picture(ordered, scenarios), encoding="utf-8")


if __name__ == "__main__":
    main()
