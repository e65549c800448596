"""Real servers of examples, each a process that listens on a socket made here, so that no port is guessed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[2]
_NO_PROXIES = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "")


@contextmanager
def serving(command: list[str], directory: Path, environment: Mapping[str, str]) -> Iterator[httpx.Client]:
    """Run ``python -m command``, where ``{fd}`` stands for the listening socket, and talk to it.  Fails if it does not
    end when it is asked to."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        os.set_inheritable(listening.fileno(), True)
        process = subprocess.Popen(
            [sys.executable, "-m", *(part.format(fd=listening.fileno()) for part in command)],
            cwd=directory,
            env={**os.environ, **_NO_PROXIES, **environment, "PYTHONUNBUFFERED": "1"},
            pass_fds=[listening.fileno()],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        port = listening.getsockname()[1]
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as client:
            yield client
    except httpx.TransportError as error:
        process.kill()
        raise AssertionError(process.communicate()[0]) from error
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            raise AssertionError(f"it did not stop: {process.communicate()[0]}") from None
