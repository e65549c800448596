"""Providers that fail a part of their calls: never fewer answers than an SDK with two retries, on the same luck."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from resilient_llm import AsyncResilientClient
from tests.users.server import WELL, Answer, Network, Received, failed
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


REFUSALS = {
    "401": failed(401, "Incorrect API key provided", kind="invalid_request_error"),
    "403": failed(403, "no access to this model", kind="permission_error"),
    "404": failed(404, "The model does not exist", kind="invalid_request_error"),
    "quota": failed(429, "You exceeded your current quota", kind="insufficient_quota"),
}


def picky(refusal: Answer, share: float, seed: int) -> Callable[[Received], Answer]:
    """Refuses so many of its calls, as a gateway with a bad key behind it does."""
    lucky = grey(share, seed)
    return lambda request: refusal if lucky(request) is not WELL else WELL


@pytest.mark.parametrize("refusal", REFUSALS)
def test_refusals_by_chance_cost_no_more_calls_than_with_an_sdk(refusal: str, network: Network) -> None:
    share, prompts = 0.3, [f"question {number}" for number in range(24)]
    provider = network.provider(picky(REFUSALS[refusal], share, 1))

    async def scenario() -> int:
        async with AsyncResilientClient([openai(provider, "a")]) as client:
            ends = await calls(client, prompts, 12.0, deadline=10.0)
            assert not ends.wrong
            return len(ends.answered)

    # The first two are refused before anything is known; who tries again has had the same luck.
    assert asyncio.run(scenario()) >= sdk_answers(share, 1, prompts) - 2


def test_a_key_that_is_refused_for_good_is_asked_once_by_each_call_and_told_in_the_providers_words(
    network: Network,
) -> None:
    provider = network.provider(REFUSALS["401"])

    async def scenario() -> list[str]:
        async with AsyncResilientClient([openai(provider, "a")]) as client:
            ends = await calls(client, ["hi"] * 30, 100.0, deadline=10.0)
            assert not ends.answered
            return [str(failure) for failure in ends.failures]

    told = asyncio.run(scenario())
    assert all("Incorrect API key provided" in one for one in told[:5])
    assert 10 <= len(provider.requests) <= 14, "and hardly again once that is proven"
