"""The loopback server in a process of its own, so that only the client's CPU time is counted.

``python -m benchmarks.server TOKENS`` serves answers of so many tokens, prints its URL and ends with its input.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from resilient_llm.testing import LoopbackLLM, Reply

ROOT = Path(__file__).parents[1]


@contextmanager
def serving(tokens: int) -> Iterator[str]:
    """The base URL of a server whose answers have so many tokens."""
    command = [sys.executable, "-m", "benchmarks.server", str(tokens)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()


def main(tokens: int) -> None:
    """Serve until the input ends."""
    with LoopbackLLM(default=Reply("word " * tokens), record=False) as server:
        print(server.url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(int(sys.argv[1]))
