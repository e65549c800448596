"""Other people's servers: installed by package name into a folder of their own, run on loopback, ended by id."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

FOLDER: Final = Path(tempfile.gettempdir()) / "resilient_llm_beds"
_START: Final = 30.0


def python_package(package: str) -> Path:
    """The folder of the programs of a Python package, in a virtual environment that is made once."""
    home = FOLDER / package
    programs = home / "bin"
    if not (programs / package).exists():
        venv.create(home, with_pip=True, clear=True)
        subprocess.run([programs / "pip", "install", "-q", package], check=True, stdout=sys.stderr)
    return programs


def node_package(package: str) -> Path:
    """The folder of a Node package, installed once."""
    home = FOLDER / package.rpartition("/")[2]
    installed = home / "node_modules" / package
    if not installed.exists():
        home.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--silent", "--no-fund", "--no-audit", "--prefix", home, package]
        subprocess.run(command, check=True, stdout=sys.stderr)
    return installed


def free_port() -> int:
    """A port of this machine that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(command: Sequence[str | Path], port: int) -> Iterator[str]:
    """Run a server until the end of the block; its address.  Raises ``RuntimeError`` if it does not come up."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until = time.monotonic() + _START
            while not _listening(port):
                if process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"{command[0]} did not come up")
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()


def _listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0
