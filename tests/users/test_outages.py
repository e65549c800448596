"""Outages: nobody is lost who has time left, and a provider that recovered has its traffic back soon."""

from __future__ import annotations

import asyncio
import time

import pytest

from resilient_llm import AsyncResilientClient, CallFailed
from tests.users.server import WELL, Answer, Network, Received, failed
from tests.users.using import calls, openai


def down_until(end: float) -> object:
    """Answers 503 until then."""

    def script(request: Received) -> Answer:
        return failed(503, "we are down") if request.at < end else WELL

    return script


@pytest.mark.parametrize(
    ("down", "rate", "count"), [(1.0, 8.0, 16), pytest.param(3.0, 2.0, 16, marks=pytest.mark.slow)], ids=["1s", "3s"]
)
def test_calls_outlive_an_outage_of_both(network: Network, down: float, rate: float, count: int) -> None:
    script = down_until(time.monotonic() + down)
    a, b = network.provider(script), network.provider(script)
    prompts = [f"question {number}" for number in range(count)]

    async def scenario() -> int:
        async with AsyncResilientClient([openai(a, "a"), openai(b, "b")]) as client:
            return len((await calls(client, prompts, rate, deadline=10.0)).answered)

    assert asyncio.run(scenario()) == count


async def time_to_traffic_back(network: Network, down: float, rate: float) -> tuple[float, int]:
    """Seconds from the recovery of the preferred provider to three answers of it in a row, and calls that failed."""
    a, b = network.provider(), network.provider()
    lost = 0
    answers: list[tuple[float, str]] = []

    async def one(client: AsyncResilientClient) -> None:
        nonlocal lost
        ends = await calls(client, ["hi"], 1000.0, deadline=10.0)
        lost += len(ends.failures)
        answers.extend((time.monotonic(), provider) for provider in ends.providers)

    async with AsyncResilientClient([openai(a, "a"), openai(b, "b")]) as client, asyncio.TaskGroup() as group:
        await calls(client, ["hi"] * 10, rate)
        well_at = time.monotonic() + down
        a.script = down_until(well_at)
        while time.monotonic() < well_at + 60:
            group.create_task(one(client))
            await asyncio.sleep(1 / rate)
            since = [provider for at, provider in answers if at > well_at]
            if since[-3:] == ["a"] * 3:
                break
    return time.monotonic() - well_at, lost


@pytest.mark.parametrize(
    ("down", "rate", "bound"),
    [
        (0.5, 20.0, 2.5),
        pytest.param(5.0, 10.0, 5.0, marks=pytest.mark.slow),
        pytest.param(40.0, 5.0, 16.0, marks=pytest.mark.slow),
    ],
    ids=["half a second", "5s", "40s"],
)
def test_a_recovered_provider_has_its_traffic_back(network: Network, down: float, rate: float, bound: float) -> None:
    took, lost = asyncio.run(time_to_traffic_back(network, down, rate))
    print(f"traffic back after {took:.1f} s")
    assert lost == 0
    assert took <= bound


def cut_until(end: float) -> object:
    """Streams of twelve words, of which five come until then, and after it all."""
    words = tuple(f"{number} " for number in range(12))

    def script(request: Received) -> Answer:
        if request.at < end:
            return Answer(words=words[:5], pace=0.1, end="reset")
        return Answer(words=words, pace=0.1)

    return script


@pytest.mark.slow
def test_one_that_cut_its_streams_has_its_traffic_back(network: Network) -> None:
    """After five seconds in which each stream broke after content, with ten calls a second."""
    down, rate = 5.0, 10.0
    a, b = network.provider(cut_until(0.0)), network.provider(cut_until(0.0))
    ended: list[tuple[float, str]] = []
    lost = 0

    async def one(client: AsyncResilientClient) -> None:
        nonlocal lost
        began = time.monotonic()
        try:
            async with client.stream("hi", deadline=20.0) as stream:
                async for _ in stream.text_deltas():
                    pass
                ended.append((began, stream.provider))
        except CallFailed:
            lost += 1

    async def scenario() -> float:
        async with AsyncResilientClient([openai(a, "a"), openai(b, "b")]) as client, asyncio.TaskGroup() as group:
            well_at = time.monotonic() + 3.0 + down
            while time.monotonic() < well_at + 12.0:
                if time.monotonic() > well_at - down:
                    a.script = cut_until(well_at)  # type: ignore[assignment]
                group.create_task(one(client))
                await asyncio.sleep(1 / rate)
        return well_at

    well_at = asyncio.run(scenario())
    later = sorted(end for end in ended if end[0] > well_at)
    names = [provider for _, provider in later]
    back = next(at - well_at for n, (at, _) in enumerate(later) if names[n : n + 5] == ["a"] * 5)
    print(f"traffic back after {back:.1f} s, {lost} lost")
    assert back <= down + 3 / rate + 1.2, "five seconds, three intervals, and the time of the stream that proves it"
    assert lost <= 20
