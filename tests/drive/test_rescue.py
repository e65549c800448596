"""A hang costs the rescue delay, and a rescue costs little: never twice the same provider, never after content."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from resilient_llm.errors import AllAttemptsFailed, DeadlineExceeded
from resilient_llm.testing import Hang, LoopbackLLM, Reply, Status
from tests.drive.clients import Client, World, eventually, openai, threads

SOON = {"rescue_min": 0.1, "rescue_max": 0.3}
CALM = Reply(delay=0.02, first_token=0.02)
"""So slow that a busy machine does not look like a provider that became slow."""


def seasoned(world: World, calls: int = 25, **settings: Any) -> tuple[Client, LoopbackLLM, LoopbackLLM]:
    """A client that knows how fast its first provider is, and has saved up some rescues."""
    hedge = {"ratio": 0.2, **settings.pop("hedge", {})}
    client, first, second = world.pair(hedge=hedge, advanced=SOON, **settings)
    first.default = CALM
    for _ in range(calls):
        client.chat()
    return client, first, second


def streamed_or_not(client: Client, streamed: bool, **options: Any) -> Any:
    if not streamed:
        return client.chat(**options)
    stream = client.stream(**options)
    stream.text()
    return stream.response


@pytest.mark.parametrize("streamed", [False, True], ids=["chat", "stream"])
def test_a_hang_costs_the_rescue_delay(world: World, streamed: bool) -> None:
    client, first, second = world.pair(hedge={"ratio": 0.2}, advanced=SOON)
    first.default = CALM
    for _ in range(25):
        streamed_or_not(client, streamed)
    first.script(Hang())
    began = time.perf_counter()
    response = streamed_or_not(client, streamed)
    took = time.perf_counter() - began
    assert response.provider == "second"
    assert 0.1 <= took < 0.5
    assert [(record.number, record.provider, record.kind) for record in response.attempts] == [
        (1, "first", "initial"),
        (2, "second", "hedge"),
    ]
    assert second.request_count == 1
    if world.portal is not None:  # the loser's request is cancelled; a thread has to wait for its timeout
        first.wait_for(lambda s: s.requests[-1].hung_up_at, timeout=1)
        assert first.open_connections == 0
    first.drop_connections()
    eventually(lambda: not threads())


@pytest.mark.parametrize("streamed", [False, True], ids=["chat", "stream"])
def test_a_rescue_refused_at_first_is_asked_for_again(world: World, streamed: bool) -> None:
    client, first, second = world.pair(hedge={"ratio": 0.2}, advanced=SOON)
    first.default = CALM
    for _ in range(25):
        streamed_or_not(client, streamed)
    first.script(Hang())
    client.raw.drain("second")
    back = threading.Timer(0.3, client.raw.restore, ["second"])
    back.start()
    began = time.perf_counter()
    assert streamed_or_not(client, streamed, deadline=2.0).provider == "second"
    assert 0.3 <= time.perf_counter() - began < 1.9
    back.join()
    assert second.request_count == 1
    first.drop_connections()
    eventually(lambda: not threads())


def test_a_hang_that_ends_before_anybody_could_help_is_only_an_answer(world: World) -> None:
    client, first, second = seasoned(world)
    first.script(Reply("late", delay=0.3))
    client.raw.drain("second")
    assert client.chat().text == "late"
    client.raw.restore("second")
    time.sleep(0.3)  # in which another request for help would have come
    assert client.chat().provider == "first"
    assert second.request_count == 0


def test_both_fail_and_the_call_goes_on_to_the_third(world: World) -> None:
    first, second, third = world.server(default=CALM), world.server(default=Status(500, delay=0.05)), world.server()
    client = world.client(
        [openai(first, "a"), openai(second, "b"), openai(third, "c")], hedge={"ratio": 0.2}, advanced=SOON
    )
    for _ in range(25):
        client.chat()
    first.script(Status(500, delay=0.3))
    response = client.chat()
    assert response.provider == "c"
    assert [(r.number, r.provider, r.kind) for r in response.attempts] == [
        (1, "a", "initial"),
        (2, "b", "hedge"),
        (3, "c", "failover"),
    ]


def test_an_error_never_wins(world: World) -> None:
    client, first, second = seasoned(world)
    first.script(Reply("slow but sure", delay=0.35))
    second.default = Status(500)
    response = client.chat()
    assert (response.provider, response.text) == ("first", "slow but sure")
    assert [(r.number, r.outcome) for r in response.attempts] == [(1, "success"), (2, "error")]


def test_nothing_beside_a_call_that_must_not_be_repeated(world: World) -> None:
    client, first, second = seasoned(world)
    first.script(Reply(delay=0.4))
    assert client.chat(idempotent=False).provider == "first"
    assert second.request_count == 0


@pytest.mark.parametrize("behaviour", [Status(500), Hang()], ids=["error", "hang"])
def test_a_call_that_may_have_run_is_not_repeated(world: World, behaviour: Any) -> None:
    client, _, second = world.pair(behaviour, timeouts={"first_token": 0.2})
    with pytest.raises((AllAttemptsFailed, DeadlineExceeded)):
        client.chat(idempotent=False, deadline=0.5)
    assert second.request_count == 0


@pytest.mark.parametrize("behaviour", [Status(429), Status(503)], ids=["429", "503"])
def test_a_call_that_was_turned_away_is_repeated_all_the_same(world: World, behaviour: Any) -> None:
    client, _, _ = world.pair(behaviour)
    assert client.chat(idempotent=False).provider == "second"


def test_a_refused_connection_is_no_call_that_ran(world: World) -> None:
    client, first, _ = world.pair()
    first.refuse()
    assert client.chat(idempotent=False).provider == "second"
    first.accept()


def test_two_thirds_of_the_deadline_are_kept_for_somebody_else(world: World) -> None:
    client, first, _ = world.pair(Hang())  # no history at all
    began = time.perf_counter()
    assert client.chat(deadline=1.2).provider == "second"
    assert 0.4 <= time.perf_counter() - began < 0.6
    first.drop_connections()
    eventually(lambda: not threads())


def test_a_turned_off_rescue_is_off(world: World) -> None:
    client, _, second = world.pair(Reply(delay=0.3), hedge={"enabled": False})
    assert client.chat(deadline=0.4).provider == "first"
    assert second.request_count == 0


def test_the_threads_of_a_race_end(world: World) -> None:
    client, first, _ = world.pair(Hang(), Hang(), Hang())
    for _ in range(3):
        assert client.chat(deadline=0.6).provider == "second"
    first.drop_connections()
    eventually(lambda: not threads())
