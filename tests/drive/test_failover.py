"""A failure costs one attempt, not a timeout; and one deadline covers everything."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any, Self

import pytest

from resilient_llm.errors import AllAttemptsFailed, DeadlineExceeded, FaultKind, NoProviderAvailable
from resilient_llm.testing import (
    Close,
    Drip,
    EndlessHeaders,
    Hang,
    InBandError,
    Raw,
    Reply,
    Reset,
    Stall,
    Status,
)
from tests.drive.clients import Client, World, eventually, openai, seconds_of

QUOTA = Status(
    429,
    {
        "error": {
            "message": "You exceeded your current quota",
            "type": "insufficient_quota",
            "code": "insufficient_quota",
        }
    },
)

FAILURES: dict[str, Any] = {
    "429 with Retry-After": (Status(429, retry_after=3), FaultKind.RATE_LIMITED),
    "429 with a long Retry-After": (Status(429, retry_after=3600), FaultKind.RATE_LIMITED),
    "503": (Status(503), FaultKind.OVERLOADED),
    "500": (Status(500), FaultKind.SERVER_ERROR),
    "529": (Status(529), FaultKind.OVERLOADED),
    "reset": (Reset(), FaultKind.CONNECTION),
    "closed": (Close(), FaultKind.CONNECTION),
    "exhausted quota": (QUOTA, FaultKind.QUOTA_EXHAUSTED),
    "wrong key": (Status(401), FaultKind.AUTH),
    "in-band error": (Reply(fault=InBandError(0)), FaultKind.OVERLOADED),
}


def answer(client: Client, streamed: bool) -> Any:
    if not streamed:
        return client.chat()
    stream = client.stream()
    stream.text()
    return stream.response


@pytest.mark.parametrize("streamed", [False, True], ids=["chat", "stream"])
@pytest.mark.parametrize("failure", FAILURES)
def test_a_failing_provider_is_replaced_at_once(world: World, failure: str, streamed: bool) -> None:
    behaviour, kind = FAILURES[failure]
    client, first, second = world.pair(behaviour)
    response = answer(client, streamed)
    assert (response.provider, response.text) == ("second", "Hello from the loopback server.")
    assert [(record.number, record.provider, record.outcome) for record in response.attempts] == [
        (1, "first", "error"),
        (2, "second", "success"),
    ]
    assert response.attempts[0].fault.kind is kind
    assert [record.kind for record in response.attempts] == ["initial", "failover"]
    assert (first.request_count, second.request_count) == (1, 1)


@pytest.mark.parametrize("streamed", [False, True], ids=["chat", "stream"])
@pytest.mark.parametrize("failure", [*FAILURES, "refused"])
def test_a_failure_adds_less_than_twenty_milliseconds(world: World, failure: str, streamed: bool) -> None:
    behaviour = FAILURES[failure][0] if failure in FAILURES else None
    idle = world.server()
    direct = world.client([openai(idle, "second")])
    broken = world.server(default=behaviour)
    if behaviour is None:
        broken.refuse()

    def through() -> Client:  # a client of its own each time: breakers and gates would keep the failure away
        return world.client([openai(broken, "first"), openai(idle, "second")])

    def best(make: Callable[[], Client]) -> float:
        clients = [make() for _ in range(4)]
        return min(seconds_of(lambda c=client: answer(c, streamed)) for client in clients)  # type: ignore[misc]

    answer(direct, streamed), answer(through(), streamed)
    added = 1.0
    for _ in range(10):  # the machine may be busy with something else
        added = min(added, best(through) - best(lambda: world.client([openai(idle, "second")])))
        if added < 0.02:
            break
    assert added < 0.02
    assert direct


def test_a_refused_connection_moves_on(world: World) -> None:
    client, first, _ = world.pair()
    first.refuse()
    response = client.chat()
    assert response.provider == "second"
    assert response.attempts[0].fault is not None
    assert response.attempts[0].fault.kind is FaultKind.CONNECTION
    first.accept()


def test_an_unknown_host_moves_on(world: World) -> None:
    nowhere = openai("http://nowhere.invalid", "first", allow_http=True)
    client = world.client([nowhere, openai(world.server(), "second")])
    assert client.chat().provider == "second"


# --- one deadline ---


class SilentListener:
    """Accepts nothing: the kernel completes connections, and nobody ever reads."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def close(self) -> None:
        self._socket.close()


HANGS: dict[str, Any] = {
    "before the headers": Hang(),
    "after the headers": Reply(fault=Stall(0)),
    "within the body": Reply("one two three", fault=Stall(1)),
    "a dripping body": Reply("one two three four five", drip=Drip(1, 0.05)),
    "nothing but keep-alives": Reply(first_token=60, keep_alive=0.02),
    "a dripping header section": EndlessHeaders(0.02),
    "a dripping status line": Raw((b"H", b"T", b"T", b"P", b"/") * 8, interval=0.05),
}


@pytest.mark.parametrize(
    ("hang", "streamed"),
    [(hang, streamed) for hang in HANGS for streamed in (False, True) if not (streamed and "body" in hang)],
)  # a streamed body brings content in time
def test_the_deadline_holds_whatever_hangs(world: World, hang: str, streamed: bool) -> None:
    servers = [world.server(default=HANGS[hang]) for _ in range(2)]
    client = world.client([openai(server, f"p{index}") for index, server in enumerate(servers)])
    ends_in_time(client, streamed, 1.0 if hang == "before the headers" else 0.5)
    for server in servers:
        eventually(lambda s=server: s.open_connections == 0)  # type: ignore[misc]


@pytest.mark.parametrize("streamed", [False, True], ids=["chat", "stream"])
def test_the_deadline_holds_where_nobody_accepts(world: World, streamed: bool) -> None:
    with closing(SilentListener()) as one, closing(SilentListener()) as two:
        ends_in_time(world.client([openai(one.url, "p0"), openai(two.url, "p1")]), streamed)


class Oversleep:
    """How much longer than asked a thread of this process slept, in all: the machine's share in being late."""

    total = 0.0

    def __enter__(self) -> Self:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sleep)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _sleep(self) -> None:
        while not self._over.is_set():
            began = time.perf_counter()
            time.sleep(0.005)
            over = time.perf_counter() - began - 0.005
            self.total += over if over > 0.005 else 0.0


def ends_in_time(client: Client, streamed: bool, deadline: float = 1.0) -> None:
    with Oversleep() as machine:
        began = time.perf_counter()
        with pytest.raises(DeadlineExceeded) as caught:
            _ = client.stream(deadline=deadline).text() if streamed else client.chat(deadline=deadline)
        took = time.perf_counter() - began
    assert deadline <= took < deadline + 0.1 + machine.total, (took, machine.total)
    assert isinstance(caught.value, TimeoutError)
    numbers = [record.number for record in caught.value.attempts]
    assert numbers == list(range(1, len(numbers) + 1))
    assert {record.provider for record in caught.value.attempts} == set(client.health())


@pytest.mark.parametrize("hang", [name for name in HANGS if "dripping h" not in name and "status" not in name])
def test_the_deadline_holds_with_a_single_provider(world: World, hang: str) -> None:
    client = world.client([openai(world.server(default=HANGS[hang]))])
    ends_in_time(client, False, 0.3)


def test_a_stream_that_stalls_after_content_ends_with_the_deadline(world: World) -> None:
    from resilient_llm.errors import StreamInterrupted

    client = world.client([openai(world.server(default=Reply("one two three", fault=Stall(1))))])
    stream = client.stream(deadline=0.4)
    took = -time.perf_counter()
    with pytest.raises(StreamInterrupted, match="deadline") as caught:
        stream.text()
    took += time.perf_counter()
    assert 0.39 <= took < 0.5
    assert caught.value.partial is not None
    assert caught.value.partial.text == "one "


def test_waiting_for_a_gate_counts_towards_the_deadline(world: World) -> None:
    client = world.client([openai(world.server(default=Status(429, retry_after=30)))])
    began = time.perf_counter()
    with pytest.raises(NoProviderAvailable) as caught:
        client.chat(deadline=0.5)
    assert 25 < (caught.value.retry_after or 0) < 35
    assert time.perf_counter() - began < 0.2  # the wait would pass the deadline, so there is no point in beginning it


# --- amplification ---


def test_one_primary_and_six_others_failing_means_six_attempts(world: World) -> None:
    servers = [world.server(default=Status(500)) for _ in range(7)]
    client = world.client([openai(server, f"p{index}") for index, server in enumerate(servers)])
    with pytest.raises(AllAttemptsFailed) as caught:
        client.chat()
    assert sum(server.request_count for server in servers) == 6
    assert [record.provider for record in caught.value.attempts] == [f"p{index}" for index in range(6)]


def test_the_error_carries_all_attempts_and_the_last_cause(world: World) -> None:
    first, second = world.server(default=Status(500)), world.server()
    second.refuse()
    client = world.client([openai(first, "a"), openai(second, "b")], retry={"max_attempts": 2})
    with pytest.raises(AllAttemptsFailed) as caught:
        client.chat()
    assert [(r.number, r.provider) for r in caught.value.attempts] == [(1, "a"), (2, "b")]
    assert type(caught.value.__cause__).__name__ == "ConnectError"
    assert caught.value.fault is not None
    assert caught.value.fault.kind is FaultKind.CONNECTION
    assert "1. a: server_error 500" in str(caught.value)
    second.accept()


def test_there_is_no_wait_after_the_last_attempt(world: World) -> None:
    server = world.server(default=Status(500))
    client = world.client([openai(server)], retry={"max_attempts": 3, "backoff_base": 0.05, "backoff_cap": 0.05})
    with pytest.raises(AllAttemptsFailed) as caught:
        client.chat()
    waits = [record.delay for record in caught.value.attempts]
    assert waits[0] < 0.01
    assert len(waits) == 3
    assert sum(waits) <= 3.0
    assert server.request_count == 3


def test_a_provider_that_asked_to_wait_is_left_alone_for_so_long(world: World) -> None:
    client, first, second = world.pair(Status(429, retry_after=0.4))
    began = time.monotonic()
    for _ in range(5):
        assert client.chat().provider == "second"
    assert first.request_count == 1
    eventually(lambda: client.chat().provider == "first")
    assert time.monotonic() - began >= 0.4
    assert second.request_count >= 5


def test_rate_limits_judge_nobody(world: World) -> None:
    client, _, _ = world.pair(Status(429, retry_after=30))
    client.chat()
    standing = client.health()["first"]
    assert standing.breaker == "closed"
    assert standing.success_rate >= 0.95
    assert 29 < standing.gate_open_in < 40
