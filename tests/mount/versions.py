"""Runs the matrix with several versions of the SDKs, each in a virtual environment of its own.

``python -m tests.mount.versions [--venvs DIR] [REQUIREMENT...]`` installs each requirement (``"openai<2"``; default:
:data:`ROWS`) beside this project and runs ``test_matrix.py`` for its programs.  It needs a package index, so it is run
when asked for and never by the test suite.  Ends with the number of rows that failed.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROWS = (
    *("openai<2", "openai>=2,<3", "openai>=3,<4"),
    *("anthropic<1", "anthropic>=1,<2", "anthropic>=2,<3"),
    *("google-genai<2", "google-genai>=2,<3", "google-genai>=3,<4"),
    "mistralai>=3,<4",
    "cohere>=7,<8",
)
KEPT = Path(tempfile.gettempdir()) / "resilient-llm-sdk-versions"
TOOLS = ("pytest", "httpx2", "hypothesis", "opentelemetry-sdk")


def main() -> int:
    """Run the rows asked for, and say how each ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="REQUIREMENT", default=ROWS)
    parser.add_argument("--venvs", type=Path, default=KEPT, help="where the environments are kept")
    given = parser.parse_args()
    results = {row: run(row, given.venvs) for row in given.rows}
    for row, (version, summary, _) in results.items():
        print(f"{row:22} {version:10} {summary}")
    return sum(failed for _, _, failed in results.values())


def run(row: str, venvs: Path) -> tuple[str, str, bool]:
    """The version that was installed, pytest's last line, and whether anything failed."""
    name = re.split(r"[<>=]", row)[0]
    python = environment(venvs / re.sub(r"[^\w.]+", "-", row), *TOOLS, row)
    version = subprocess.run(
        [python, "-c", f"from importlib.metadata import version; print(version({name!r}))"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    # Old versions warn about the Python of today; that is not what is tested here.
    command = [python, "-m", "pytest", "-q", "--no-header", "-W", "ignore", "tests/mount/test_matrix.py", "-k", name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    for line in lines:
        if line.startswith(("FAILED", "ERROR", "E  ")):
            print(f"{row}: {line}")
    return version, lines[-1] if lines else done.stderr[-200:], done.returncode != 0


def environment(home: Path, *requirements: str) -> Path:
    """The Python of a virtual environment with this project and these requirements in it."""
    python = home / "bin" / "python"
    if not python.exists():
        venv.create(home, with_pip=True)
    subprocess.run([python, "-m", "pip", "install", "-q", "-e", ROOT, *requirements], check=True)
    return python


if __name__ == "__main__":
    sys.exit(main())
