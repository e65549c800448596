"""Host names: at most four threads for one host, and nobody waits for longer than they may."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import pytest

from resilient_llm import ResilientClient
from resilient_llm.drive.engines.resolver import MOST, Resolver, literal
from resilient_llm.errors import CallFailed, FaultKind
from resilient_llm.testing import LoopbackLLM
from tests.drive.clients import eventually, openai


class Names:
    """A name server that answers when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers = threading.Event()
        self.asked = 0
        self._true = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self._slow)

    def _slow(self, host: Any, *args: Any, **kwargs: Any) -> Any:
        self.asked += 1
        self.answers.wait(5)
        return self._true("127.0.0.1", *args, **kwargs)


def test_an_address_is_no_name() -> None:
    assert literal("127.0.0.1") == [(socket.AF_INET, ("127.0.0.1", 0))]
    assert literal("[::1]") == [(socket.AF_INET6, ("::1", 0, 0, 0))]
    assert literal("localhost") == literal("api.example.com") == literal("") == literal("1.2.3") == []


def test_at_most_four_threads_resolve_one_host(monkeypatch: pytest.MonkeyPatch) -> None:
    names, resolver = Names(monkeypatch), Resolver()
    lookups = [resolver.start("one.invalid") for _ in range(20)]
    other = resolver.start("two.invalid")
    eventually(lambda: names.asked == MOST + 1)
    assert len(set(lookups)) == MOST
    woken: list[int] = []
    for lookup in lookups:
        lookup.then(lambda: woken.append(1))
    names.answers.set()
    eventually(lambda: len(woken) == 20)
    eventually(lambda: other.done)
    assert lookups[0].result() == ((socket.AF_INET, ("127.0.0.1", 0)),)
    assert resolver.start("one.invalid") not in lookups


def test_a_name_that_does_not_exist_is_a_failed_connection() -> None:
    client = ResilientClient([openai("http://nowhere.invalid", allow_http=True)], retry={"max_attempts": 1})
    with client, pytest.raises(CallFailed) as failed:
        client.chat("x", deadline=5)
    assert failed.value.fault is not None
    assert (failed.value.fault.kind, failed.value.fault.code) == (FaultKind.CONNECTION, "not_sent")


def test_hanging_names_cost_threads_and_no_more_calls_than_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names(monkeypatch)
    with LoopbackLLM() as server, ResilientClient([openai(server)]) as warm:
        port = server.url.rpartition(":")[2]
        warm.chat("x")
        with ResilientClient([openai(f"http://slow.invalid:{port}", allow_http=True)]) as client:
            began = time.perf_counter()
            for _ in range(6):
                with pytest.raises(CallFailed):
                    client.chat("x", deadline=0.1)
            assert time.perf_counter() - began < 1.5
            running = [one for one in threading.enumerate() if one.name == "resilient_llm resolver"]
            assert len(running) <= MOST
            names.answers.set()
            assert client.chat("x", deadline=5).text
