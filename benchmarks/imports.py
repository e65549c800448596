"""What importing costs beside ``import httpx``: interpreters of their own that take turns, the fastest of each."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.harness import Row

BUDGET = 1.3
CODE = (
    "import time; wall, cpu = time.perf_counter(), time.process_time()\n{}\n"
    "import sys; print(time.perf_counter() - wall, time.process_time() - cpu, len(sys.modules))"
)
STATEMENTS = {
    "import httpx": "import httpx",
    "import resilient_llm": "import resilient_llm",
    "from resilient_llm import ResilientClient": "from resilient_llm import ResilientClient",
    "import httpx, anyio, opentelemetry": "import httpx, anyio, opentelemetry.trace, opentelemetry.metrics",
}


def once(statement: str) -> tuple[float, float, int]:
    """Wall seconds, CPU seconds and modules loaded."""
    done = subprocess.run([sys.executable, "-c", CODE.format(statement)], capture_output=True, text=True, check=True)
    wall, cpu, modules = done.stdout.split()
    return float(wall), float(cpu), int(modules)


def rows(quick: bool) -> list[Row]:
    """Ours, httpx, and the dependencies together."""
    best: dict[str, tuple[float, int]] = {}
    for _ in range(3 if quick else 9):
        for name, statement in STATEMENTS.items():
            _, cpu, modules = once(statement)
            best[name] = min(best.get(name, (cpu, modules)), (cpu, modules))
    yardstick = best["import httpx"][0]
    shown: list[Row] = []
    for name, (seconds, modules) in best.items():
        ratio, bounded = seconds / yardstick, name == "import resilient_llm"
        shown.append(
            Row(
                name,
                f"{seconds * 1e3:.0f} ms, {modules} modules, {ratio:.2f} x import httpx",
                f"<= {BUDGET:g} x" if bounded else "",
                ratio <= BUDGET if bounded else None,
            )
        )
    return shown
