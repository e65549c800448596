"""Providers that say nothing, or stop in the middle."""

from __future__ import annotations

import asyncio
import gc
import logging
import time

import pytest

from resilient_llm import AsyncResilientClient, CallFailed, ResilientClient, StreamInterrupted
from tests.users.server import SILENT, WELL, Answer, Network, Received, echo, failed
from tests.users.using import openai


@pytest.mark.parametrize(
    "deadline", [3.0, pytest.param(10.0, marks=pytest.mark.slow)], ids=lambda seconds: f"{seconds:g}s"
)
def test_a_lone_provider_that_hangs_once_is_asked_again_over_a_fresh_connection(
    network: Network, deadline: float
) -> None:
    provider = network.provider(lambda request: SILENT if request.index == 1 else WELL)
    with ResilientClient([openai(provider, "a")]) as client:
        client.chat("the connection is kept", deadline=deadline)
        began = time.monotonic()
        assert client.chat("hi", deadline=deadline).text == echo("hi")
    assert deadline / 2 - 0.2 < time.monotonic() - began < deadline / 2 + 1
    assert provider.requests[2].connection != provider.requests[1].connection


def test_a_rescue_that_fails_at_once_is_not_the_last_one(network: Network) -> None:
    """The preferred provider hangs, the other one fails once: the time that is left is used."""
    silent = network.provider(SILENT)
    other = network.provider(lambda request: failed(529, "overloaded") if request.index == 0 else WELL)
    with ResilientClient([openai(silent, "a"), openai(other, "b")]) as client:
        reply = client.chat("hi", deadline=4)
    assert (reply.provider, reply.text) == ("b", echo("hi"))


def stalled(client: ResilientClient, deadline: float) -> bool:
    """Whether a stream stalled after three words; if not, it was whole."""
    try:
        with client.stream("hi", deadline=deadline) as stream:
            text = "".join(stream.text_deltas())
    except StreamInterrupted as interrupted:
        return interrupted.partial.text == "one two three"
    assert text == echo("hi")
    return False


@pytest.mark.parametrize(
    ("deadline", "good"),
    [(1.2, 0), pytest.param(2.0, 0, marks=pytest.mark.slow), pytest.param(2.0, 25, marks=pytest.mark.slow)],
)
def test_streams_that_stall_after_three_words_are_found_out(network: Network, deadline: float, good: int) -> None:
    """Also where it is the caller's own deadline that ends them."""
    stall = Answer(words=("one", " two", " three"), pace=0.01, end="hang")
    a, b = network.provider(), network.provider()
    with ResilientClient([openai(a, "a"), openai(b, "b")]) as client:
        for _ in range(good):
            assert not stalled(client, deadline)
        a.say(stall)
        broken = 0
        while client.health()["a"].breaker == "closed" and broken < 6:
            broken += stalled(client, deadline)
        assert broken <= 5
        assert client.health()["b"].breaker == "closed"


def test_eight_hundred_calls_thirty_in_parallel_leave_nothing_behind(
    network: Network, caplog: pytest.LogCaptureFixture
) -> None:
    """With rescues that start while calls end: no exception that nobody retrieved."""

    def script(request: Received) -> Answer:
        return Answer(delay=0.012 if request.index % 4 == 0 else 0.0)

    a, b = network.provider(script), network.provider(script)
    complaints: list[str] = []

    async def scenario() -> int:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(str(context)))
        answered = 0
        waiting = asyncio.Semaphore(30)
        hedge, advanced = {"factor": 1.0, "ratio": 1.0}, {"rescue_min": 0.01, "rescue_max": 0.02}
        providers = [openai(a, "a"), openai(b, "b")]
        async with AsyncResilientClient(providers, hedge=hedge, advanced=advanced) as client:

            async def one(number: int) -> None:
                nonlocal answered
                async with waiting:
                    try:
                        reply = await client.chat(f"{number}", deadline=10)
                        answered += reply.text == echo(f"{number}")
                    except CallFailed as failure:
                        complaints.append(str(failure))

            await asyncio.gather(*(one(number) for number in range(800)))
        gc.collect()
        await asyncio.sleep(0)
        return answered

    with caplog.at_level(logging.ERROR, logger="asyncio"):
        assert asyncio.run(scenario()) == 800
    gc.collect()
    assert complaints == []
    assert "never retrieved" not in caplog.text
