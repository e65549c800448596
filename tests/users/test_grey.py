"""Providers that fail a part of their calls: never fewer answers than an SDK with two retries, on the same luck."""

from __future__ import annotations

import asyncio

import pytest

from resilient_llm import AsyncResilientClient
from tests.users.server import Network
from tests.users.using import calls, grey, openai, sdk_answers


async def lone(network: Network, seed: int, count: int, rate: float) -> tuple[int, int]:
    """Answers by one provider that fails 40 %: ours, and the SDK's."""
    prompts = [f"question {number} of {seed}" for number in range(count)]
    async with AsyncResilientClient([openai(network.provider(grey(0.4, seed)), "a")]) as client:
        ends = await calls(client, prompts, rate, deadline=10.0)
    assert not ends.wrong
    return len(ends.answered), sdk_answers(0.4, seed, prompts)


async def beside_a_dead_one(network: Network, seed: int, count: int, rate: float) -> tuple[int, int]:
    """Answers where the preferred provider is gone and the other one fails 55 %; and the SDK's at that one."""
    prompts = [f"question {number} of {seed}" for number in range(count)]
    dead = network.provider()
    await asyncio.to_thread(dead.refuse)
    async with AsyncResilientClient([openai(dead, "a"), openai(network.provider(grey(0.55, seed)), "b")]) as client:
        ends = await calls(client, prompts, rate, deadline=10.0)
    assert not ends.wrong
    return len(ends.answered), sdk_answers(0.55, seed, prompts)


SITUATIONS = [lone, beside_a_dead_one]


async def several(situation: object, network: Network, runs: int, count: int, rate: float) -> tuple[int, int]:
    """The sums of some runs at the same time, each with a client of its own."""
    assert situation in (lone, beside_a_dead_one)
    run = lone if situation is lone else beside_a_dead_one
    found = await asyncio.gather(*(run(network, seed, count, rate) for seed in range(runs)))
    return sum(ours for ours, _ in found), sum(sdk for _, sdk in found)


@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_grey_provider_answers_no_fewer_calls_than_to_an_sdk(situation: object, network: Network) -> None:
    ours, sdk = asyncio.run(several(situation, network, runs=6, count=16, rate=8.0))
    assert ours >= sdk


@pytest.mark.slow
@pytest.mark.parametrize("situation", SITUATIONS)
def test_twenty_times_a_hundred_calls_to_a_grey_provider(situation: object, network: Network) -> None:
    ours, sdk = asyncio.run(several(situation, network, runs=20, count=100, rate=4.0))
    print(f"{ours} of 2000 answered, the SDK {sdk}")
    assert ours >= sdk
