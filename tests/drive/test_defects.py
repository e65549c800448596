"""Mistakes found in other libraries, each with the test that would have caught it.  Those about half-open breakers are
in ``test_recovery``, those about waits and trails in ``test_failover``."""

from __future__ import annotations

import time

import pytest

from resilient_llm.errors import AllAttemptsFailed, CallFailed, FaultKind
from resilient_llm.model import ChatRequest
from resilient_llm.providers import Function
from resilient_llm.testing import Reply, Status
from tests.drive.clients import World, eventually, openai


def test_a_servers_wait_is_kept_to_by_the_next_attempt_there(world: World) -> None:
    server = world.server(Status(429, retry_after=0.5))
    client = world.client([openai(server)])
    began = time.monotonic()
    response = client.chat()
    assert time.monotonic() - began >= 0.5
    assert [(r.kind, r.outcome) for r in response.attempts] == [("initial", "error"), ("retry", "success")]
    assert response.attempts[1].delay >= 0.5
    between = server.requests[1].received_at - server.requests[0].received_at
    assert between >= 0.5


@pytest.mark.parametrize("hint", ["0", "-3", "nan", "5s", "1e999", "5, 5", "soon", ""])
def test_a_hint_that_is_garbage_neither_crashes_nor_hammers(world: World, hint: str) -> None:
    client, first, _ = world.pair()
    first.default = Status(429, headers={"retry-after": hint})
    for _ in range(5):
        assert client.chat().provider == "second"
    assert first.request_count <= 5


def test_a_huge_hint_is_capped(world: World) -> None:
    client, _, _ = world.pair(Status(429, retry_after=86_400 * 49))
    client.chat()
    assert client.health()["first"].gate_open_in <= 400


def test_a_late_outcome_belongs_to_the_provider_that_was_asked(world: World) -> None:
    client, first, _ = world.pair(Status(500, delay=0.4), advanced={"rescue_min": 0.05, "rescue_max": 0.1})
    first.default = Reply()
    for _ in range(30):
        client.chat(providers=["second"])
    client.chat(deadline=0.6)
    time.sleep(0.3)
    assert client.health()["second"].success_rate >= 0.95
    assert client.in_flight() == 0


def test_a_subclass_of_a_known_error_is_recognised(world: World) -> None:
    class Refused(ConnectionRefusedError):
        pass

    class Slow(TimeoutError):
        pass

    kinds = []
    for error in (Refused("no"), Slow("late")):

        def broken(request: ChatRequest, error: Exception = error) -> str:
            raise error

        client = world.client([Function(broken, id="own")], retry={"max_attempts": 1})
        with pytest.raises(AllAttemptsFailed) as caught:
            client.chat()
        assert caught.value.fault is not None
        kinds.append(caught.value.fault.kind)
        assert caught.value.__cause__ is error
    assert kinds == [FaultKind.CONNECTION, FaultKind.TIMEOUT]


def test_two_clients_share_nothing_unless_they_share_a_pool(world: World) -> None:
    server = world.server(Status(429, retry_after=30))
    one, two = world.client([openai(server)]), world.client([openai(server)])
    with pytest.raises(CallFailed):
        one.chat(deadline=1)
    assert two.chat().text
    sharing = world.client(pool=one.raw.pool)
    with pytest.raises(CallFailed):
        sharing.chat(deadline=1)
    assert server.request_count == 2


def test_one_provider_object_may_serve_two_clients(world: World) -> None:
    server = world.server(Status(500))
    provider = openai(server)
    one = world.client([provider], retry={"max_attempts": 1})
    two = world.client([provider])
    with pytest.raises(CallFailed):
        one.chat()
    assert two.health()["first"].success_rate >= 0.95


def test_an_error_can_be_raised_again_and_again_without_growing(world: World) -> None:
    client = world.client([openai(world.server(default=Status(500)))], retry={"max_attempts": 1})
    depths = []
    for _ in range(3):
        with pytest.raises(CallFailed) as caught:
            client.chat(deadline=5)
        depth, error = 0, caught.value
        while error is not None:
            depth, error = depth + 1, error.__cause__ or error.__context__  # type: ignore[assignment]
        depths.append(depth)
    assert depths == [1, 1, 1]


def test_a_success_is_recorded_when_the_stream_ends_and_holds_its_place_until_then(world: World) -> None:
    server = world.server(default=Reply("one two three", interval=0.02))
    client = world.client([openai(server, max_concurrency=1), openai(world.server(), "second")])
    stream = client.stream()
    next(stream)
    assert client.in_flight() == 1
    assert client.chat().provider == "second"
    stream.text()
    eventually(lambda: client.in_flight() == 0)
    assert client.chat().provider == "first"


def test_client_mistakes_trip_no_breaker(world: World) -> None:
    client = world.client([openai(world.server(default=Status(400, code="invalid_request_error")))])
    for _ in range(20):
        with pytest.raises(CallFailed):
            client.chat()
    standing = client.health()["first"]
    assert (standing.breaker, standing.success_rate >= 0.95) == ("closed", True)
