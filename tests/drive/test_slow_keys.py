"""Whoever is asked for a key may be slow; that is this machine's affair and no provider's."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest

from resilient_llm.errors import AttemptRecord, DeadlineExceeded, FaultKind, FaultScope
from resilient_llm.testing import Reply
from tests.drive.clients import Client, World, eventually, openai, threads

MODES = pytest.mark.parametrize("streamed", [False, True], ids=["chat", "stream"])


class Vault:
    """Has keys at once, until it is locked; then not before it is opened (or ``patience`` is over)."""

    def __init__(self, patience: float = 10.0) -> None:
        self.patience = patience
        self.open = threading.Event()
        self.open.set()

    def fetch_key(self) -> str:
        self.open.wait(self.patience)
        return "k"


@pytest.fixture
def vault() -> Iterator[Vault]:
    made = Vault()
    yield made
    made.open.set()
    eventually(lambda: not threads())


def ask(client: Client, streamed: bool, **options: Any) -> Any:
    if not streamed:
        return client.chat(**options)
    stream = client.stream(**options)
    stream.text()
    return stream.response


def is_ours(record: AttemptRecord) -> None:
    """The attempt failed for want of a key, and says so."""
    fault = record.fault
    assert fault is not None
    assert (fault.kind, fault.scope) == (FaultKind.TIMEOUT, FaultScope.LOCAL)
    assert fault.message == "the api_key callable Vault.fetch_key gave no key in time"


def blamed(client: Client, provider: str = "first") -> bool:
    standing = client.health()[provider]
    return standing.state not in ("unknown", "healthy") or standing.breaker != "closed" or bool(standing.error_rate)


@MODES
def test_a_key_that_does_not_come_in_time_is_nobodys_fault(world: World, streamed: bool) -> None:
    vault, server = Vault(patience=0.3), world.server()
    client = world.client([openai(server, api_key=vault.fetch_key)])
    vault.open.clear()
    for _ in range(6):
        with pytest.raises(DeadlineExceeded) as failure:
            ask(client, streamed, deadline=0.1)
        is_ours(failure.value.attempts[0])
        assert "gave no key in time" in str(failure.value.fault)
    assert client.health()["first"].samples == 0
    assert not blamed(client)
    assert not server.requests


@MODES
def test_a_call_whose_key_does_not_come_is_rescued_and_its_provider_not_blamed(
    world: World, vault: Vault, streamed: bool
) -> None:
    first, second = world.server(default=Reply(first_token=0.02)), world.server()
    client = world.client(
        [openai(first, "first", api_key=vault.fetch_key), openai(second, "second")],
        hedge={"ratio": 0.2},
        advanced={"rescue_min": 0.1, "rescue_max": 0.3},
    )
    for _ in range(25):
        ask(client, streamed)
    before, asked = client.health()["first"], first.request_count
    vault.open.clear()
    for _ in range(5):
        response = ask(client, streamed, deadline=10.0)
        assert response.provider == "second"
        is_ours(response.attempts[0])
        assert not blamed(client)
    after = client.health()["first"]
    assert (after.samples, after.answer_p95) == (before.samples, before.answer_p95)
    assert after.success_rate == pytest.approx(before.success_rate, rel=0.01), "it fades, and nothing else"
    assert first.request_count == asked


@MODES
def test_a_stranger_without_a_key_is_not_doubted(world: World, vault: Vault, streamed: bool) -> None:
    client = world.client([openai(world.server(), "first", api_key=vault.fetch_key), openai(world.server(), "second")])
    vault.open.clear()
    response = ask(client, streamed, deadline=0.6)
    assert response.provider == "second"
    is_ours(response.attempts[0])
    assert client.health()["first"].samples == 0


def test_the_providers_time_begins_when_the_key_is_there(world: World) -> None:
    vault, server = Vault(patience=0.3), world.server()
    client = world.client([openai(server, api_key=vault.fetch_key)])
    vault.open.clear()
    response = client.chat()
    (record,) = response.attempts
    assert record.delay >= 0.3
    assert record.duration < 0.3
    standing = client.health()["first"]
    assert standing.answer_p50 is not None
    assert standing.answer_p50 < 0.3


def test_the_deadline_holds_although_the_key_took_a_part_of_it(world: World) -> None:
    vault, server = Vault(patience=0.2), world.server(Reply(delay=30.0))
    client = world.client([openai(server, api_key=vault.fetch_key)])
    vault.open.clear()
    with pytest.raises(DeadlineExceeded) as failure:
        client.chat(deadline=0.5)
    record = failure.value.attempts[0]
    assert record.fault is not None
    assert record.fault.scope is not FaultScope.LOCAL
    assert 0.3 <= record.delay + record.duration < 2.0
    server.drop_connections()


def test_a_slow_async_callable_is_named_too(async_world: World) -> None:
    async def from_metadata_server() -> str:
        await anyio.sleep(30)
        return "k"

    client = async_world.client([openai(async_world.server(), api_key=from_metadata_server)])
    with pytest.raises(DeadlineExceeded) as failure:
        client.chat(deadline=0.1)
    fault = failure.value.attempts[0].fault
    assert fault is not None
    assert fault.scope is FaultScope.LOCAL
    assert "from_metadata_server gave no key in time" in fault.message
    assert not blamed(client)


def test_embeddings_wait_for_their_key_at_nobodys_cost(world: World) -> None:
    vault = Vault(patience=0.3)
    client = world.client([openai(world.server(), api_key=vault.fetch_key)])
    vault.open.clear()
    with pytest.raises(DeadlineExceeded) as failure:
        client.embed("x", deadline=0.1)
    is_ours(failure.value.attempts[0])
    assert not blamed(client)


def make_raising() -> Callable[[], str]:
    def refreshing() -> str:
        raise OSError("token CANARY expired")

    return refreshing


def test_a_callable_that_raises_is_named_without_its_words(world: World) -> None:
    client = world.client([openai(world.server(), "a", api_key=make_raising()), openai(world.server(), "b")])
    fault = client.chat().attempts[0].fault
    assert fault is not None
    assert fault.message.endswith("refreshing raised OSError")
    assert "CANARY" not in fault.message
