"""llama.cpp's own server with a random model: the tests of tests/genuine, which need the ``peers`` extra."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """The command."""
    argparse.ArgumentParser(prog="python -m benchmarks.beds llama", description=__doc__).parse_args(arguments)
    return subprocess.run([sys.executable, "-m", "pytest", "-q", "tests/genuine"], check=False).returncode
