"""What importing costs beside ``import httpx``: interpreters of their own that take turns, the fastest of each."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.harness import Row

CLIENT = "from resilient_llm import ResilientClient and the first client"
BUDGETS = {"import resilient_llm": 0.2, CLIENT: 1.6}
CODE = (
    "import time; wall, cpu = time.perf_counter(), time.process_time()\n{}\n"
    "import sys; print(time.perf_counter() - wall, time.process_time() - cpu, len(sys.modules))"
)
STATEMENTS = {
    "import httpx": "import httpx",
    "import resilient_llm": "import resilient_llm",
    CLIENT: (
        "from resilient_llm import ResilientClient; from resilient_llm.providers import OpenAI; "
        "ResilientClient([OpenAI('gpt-5.2', api_key='-')])"
    ),
    "import httpx and the first httpx.Client": "import httpx; httpx.Client()",
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
        ratio, budget = seconds / yardstick, BUDGETS.get(name)
        shown.append(
            Row(
                name,
                f"{seconds * 1e3:.0f} ms, {modules} modules, {ratio:.2f} x import httpx",
                "" if budget is None else f"<= {budget:g} x",
                None if budget is None else ratio <= budget,
            )
        )
    return shown
