"""Every example runs, as a user would run it, with warnings as errors, and its page names every one of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted(
    [*(ROOT / "examples").glob("*.py"), *(main.parent for main in (ROOT / "examples").glob("*/__main__.py"))]
)
PARTS = {"standin"}
"""Files that are part of another example."""


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs_and_says_something(example: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(example)], capture_output=True, text=True, timeout=60, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert not done.stderr


def test_the_page_of_the_examples_names_every_one() -> None:
    page = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    missing = []
    for path in sorted((ROOT / "examples").rglob("*.py")):
        name = path.parent.name if (path.parent / "__main__.py").exists() else path.stem
        if name not in PARTS and name not in page:
            missing.append(str(path))
    assert not missing


def test_the_web_applications_run_without_a_server_of_the_users() -> None:
    program = (
        "from standin import ANSWER, urls\n"
        "from resilient_llm import ResilientClient\n"
        "from resilient_llm.providers import OpenAICompatible\n"
        "providers = [OpenAICompatible('model', id=url, base_url=url) for url in urls()]\n"
        "with ResilientClient(providers) as client:\n"
        "    assert [client.chat('Why?', deadline=20).text for _ in range(2)] == [ANSWER, ANSWER]\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "examples" / "web"), "LLM_URLS": ""}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
