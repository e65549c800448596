"""``deadline=1`` ends within a second for every way not to answer, and leaves no thread and no socket behind."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from resilient_llm.drive import workers as threads
from resilient_llm.errors import CallFailed
from tests.hostile.clients import KINDS, caller, provider, within, workers
from tests.hostile.hangs import HANGS
from tests.hostile.servers import RawServer, answer, open_to, read_request
from tests.lag import Lag

SLACK = 0.15  # seconds beside what the machine itself was late; the command prints the true figure


@contextmanager
def slow_names() -> Iterator[None]:
    """Looking up names under ``.invalid`` takes longer than any test; idle threads end soon, for they are no leak and
    would hide one."""
    true = socket.getaddrinfo

    def slow(host: Any, *args: Any, **kwargs: Any) -> Any:
        if str(host).endswith(".invalid"):
            time.sleep(3)
        return true(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", slow)
        patched.setattr(threads, "_LINGER", 0.05)
        yield


def url_of(server: Any, options: dict[str, Any]) -> str:
    host, scheme = options.get("host", "127.0.0.1"), "https" if options.get("tls") else "http"
    return f"{scheme}://{host}:{server.port}"


def hang(name: str, kind: str) -> tuple[float, bool]:
    """Seconds a call with ``deadline=1`` took, and whether it left nothing behind."""
    made, options = HANGS[name]
    others = workers()
    with made() as server, caller(kind, [provider(url_of(server, options))]) as client:
        own = server.own() if hasattr(server, "own") else 0
        before = open_to(server.port)
        began = time.perf_counter()
        with pytest.raises(CallFailed):
            client.ask(options.get("prompt", "hi"), stream=options.get("stream", False), deadline=1.0)
        took = time.perf_counter() - began
        clean = within(0.5, lambda: open_to(server.port) <= max(before, own))
        clean = clean and within(0.5, lambda: workers() <= others)
    return took, clean


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", HANGS)
def test_the_deadline_holds(name: str, kind: str) -> None:
    with slow_names(), Lag() as lag:
        took, clean = hang(name, kind)
    assert (
        0.9 < took < 1.05 + SLACK + lag.seconds + (0.3 if "upload" in name else 0.0)
    )  # a large prompt takes time to write
    assert clean


@pytest.mark.parametrize("name", ["dripping headers", "100 Continue flood", "upload not read", "accepted and silent"])
def test_the_loser_of_a_race_is_ended(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_LINGER", 0.05)

    def well(connection: socket.socket, over: object) -> None:
        while read_request(connection):
            connection.sendall(answer(b"well"))

    made, options = HANGS[name]
    others = workers()
    with made() as server, RawServer(well) as other:
        providers = [provider(server.url), provider(other.url, "b")]
        with caller("sync", providers, advanced={"rescue_min": 0.1}) as client:
            for _ in range(3):
                assert client.ask(options.get("prompt", "hi")[: 12 << 20], deadline=2.0) == "well"
            assert within(0.5, lambda: open_to(server.port) == 0)
            assert within(0.5, lambda: workers() <= others)
