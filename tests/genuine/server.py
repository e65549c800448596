"""llama.cpp's own server with a random model, run as a process of our own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from tests.material import material


def make_model(path: Path, *size: str) -> Path:
    """Write a random-weight model; ``size`` are options of the script (bigger is slower)."""
    script = material("real_server", "make_tiny_gguf.py")
    subprocess.run([sys.executable, str(script), str(path), *size], check=True, capture_output=True, timeout=120)
    return path


class LlamaServer:
    """One server process on a free port of this machine; ended by its process id."""

    def __init__(self, model: Path, *, wait: bool = True) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        script = material("real_server", "xllama_serve.py")
        self._process = subprocess.Popen(
            [
                *(sys.executable, str(script), "-m", str(model), "--port", str(self.port)),
                *("-np", "4", "-c", "4096", "--for", "300"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.url = f"http://127.0.0.1:{self.port}/v1"
        if wait:
            self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Until its health page says so; at most 60 s."""
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                if httpx.get(f"http://127.0.0.1:{self.port}/health", timeout=2).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.05)
        raise AssertionError("llama.cpp's server did not become ready")

    def freeze(self) -> None:
        """A perfect stall."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on."""
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """A perfect cut."""
        self._process.kill()
        self._process.wait(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            os.kill(self._process.pid, signal.SIGCONT)
            self._process.kill()
        self._process.wait(10)
