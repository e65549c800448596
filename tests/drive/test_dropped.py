"""Clients and streams that are dropped without being closed: connections end, nobody is judged or warned."""

from __future__ import annotations

import gc
import sys
import warnings
from collections.abc import Generator
from typing import Any

import anyio
import pytest

from resilient_llm import AsyncResilientClient, ResilientClient
from resilient_llm.testing import LoopbackLLM, Reply
from tests.drive.clients import openai


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Generator[list[Any]]:
    """What finalisers complain about, warnings included."""
    found: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda one: found.append(one.exc_value))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield found


@pytest.fixture
def server() -> Generator[LoopbackLLM]:
    with LoopbackLLM(default=Reply("one two three four", interval=0.02)) as server:
        yield server


def test_a_client_and_its_open_stream(server: LoopbackLLM, told: list[Any]) -> None:
    def use() -> None:
        client = ResilientClient([openai(server)])
        client.chat("x")  # so that the stream comes over a connection that is older than itself
        stream = client.stream("x")
        next(stream)

    use()
    gc.collect()
    server.wait_for(lambda s: s.open_connections == 0)
    assert not told


def test_a_stream_outlives_its_client(server: LoopbackLLM, told: list[Any]) -> None:
    stream = ResilientClient([openai(server)]).stream("x")
    gc.collect()
    assert "".join(stream.text_deltas()) == "one two three four"
    assert not told


@pytest.mark.parametrize("engine", ["httpx", "aiohttp"])
def test_a_client_of_several_event_loops(engine: Any, server: LoopbackLLM, told: list[Any]) -> None:
    async def ask(client: AsyncResilientClient) -> str:
        stream = client.stream("x")
        await anext(stream)
        return (await client.chat("x")).text

    def use() -> None:
        client = AsyncResilientClient([openai(server)], engine=engine)
        for _ in range(3):
            assert anyio.run(ask, client) == "one two three four"
        assert client.health()["first"].in_flight == 0

    use()
    gc.collect()
    server.wait_for(lambda s: s.open_connections == 0)
    assert not told


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_leaving_a_loop_over_a_stream_ends_it(backend: str, server: LoopbackLLM, told: list[Any]) -> None:
    async def main() -> None:
        async with AsyncResilientClient([openai(server)]) as client:
            async for _ in client.stream("x").text_deltas():
                break
            gc.collect()
            await server.wait_for_async(lambda s: s.open_connections == 0)
            assert client.health()["first"].in_flight == 0

    anyio.run(main, backend=backend)
    gc.collect()
    assert not told
