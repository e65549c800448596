"""A trial that lost its race runs on until it is judged, and not longer."""

from __future__ import annotations

import time
from typing import Any

from resilient_llm.testing import Hang, LoopbackLLM, Reply, Status
from tests.drive.clients import Client, World, eventually, threads

SETTINGS: dict[str, Any] = {
    "breaker": {"open_base": 0.1, "open_cap": 0.1, "consecutive": 2, "successes": 1},
    "advanced": {"memory": 0.02, "rescue_min": 0.05},
}


def silent(world: World) -> tuple[Client, LoopbackLLM, LoopbackLLM]:
    """A client whose first provider has just been taken out."""
    client, first, second = world.pair(**SETTINGS)
    first.default = Status(500)
    eventually(lambda: client.chat() and client.health()["first"].breaker == "open")
    time.sleep(0.15)
    return client, first, second


def test_a_trial_that_is_overtaken_is_judged_by_what_it_brings(world: World) -> None:
    client, first, _ = silent(world)
    first.default = Reply(delay=0.4)
    began = time.perf_counter()
    assert client.chat(deadline=5).provider == "second"
    assert time.perf_counter() - began < 0.35, "the call does not wait for the trial"
    eventually(lambda: client.health()["first"].breaker == "closed")
    assert client.in_flight() == 0


def test_a_trial_that_is_overtaken_and_fails_keeps_the_breaker_open(world: World) -> None:
    client, first, _ = silent(world)
    first.default = Status(500, delay=0.4)
    assert client.chat(deadline=5).provider == "second"
    assert client.in_flight() == 1
    eventually(lambda: client.in_flight() == 0)
    assert client.health()["first"].breaker == "open"


def test_closing_the_client_ends_a_trial_that_runs_on(world: World) -> None:
    client, first, _ = silent(world)
    first.default = Hang()
    assert client.chat(deadline=5).provider == "second"
    client.close()
    assert client.in_flight() == 0
    eventually(lambda: first.open_connections == 0)
    eventually(lambda: not threads())
