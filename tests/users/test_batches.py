"""Many calls at a limit, over real sockets: nothing is lost, and hardly anything is refused.

How long it takes is measured in virtual time (``tests/decide/test_pace.py``) and by ``python -m benchmarks.limits``.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from resilient_llm import AsyncResilientClient, CallFailed, InvalidRequest, ResilientClient
from resilient_llm.providers import OpenAI
from resilient_llm.testing import LoopbackLLM, RateLimit, Reply, ScriptedProvider

LIMIT: dict[str, Any] = {"requests": 30, "per": 0.4}


async def all_of(client: AsyncResilientClient, prompts: int, workers: int, **options: Any) -> Counter[str]:
    """What became of so many prompts."""
    ends: Counter[str] = Counter()
    left = iter(range(prompts))

    async def work() -> None:
        for number in left:
            try:
                ends[(await client.chat(f"prompt {number}", deadline=60, **options)).provider] += 1
            except CallFailed as failure:
                ends[repr(failure)] += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(work())
    return ends


@pytest.mark.parametrize("dialect", ["openai", "plain"])
def test_a_batch_at_one_limit_loses_nothing(dialect: Any) -> None:
    async def scenario() -> Counter[str]:
        provider = OpenAI("m", id="a", base_url=server.url, api_key="k")
        async with AsyncResilientClient([provider]) as client:
            return await all_of(client, 100, 25)

    with LoopbackLLM(limit=RateLimit(dialect=dialect, **LIMIT)) as server:
        assert asyncio.run(scenario()) == {"a": 100}
        assert server.request_count <= 100 + 25 + 15, (
            "those that were under way before anything was known, and few more"
        )


def test_two_providers_share_what_neither_can_do_alone() -> None:
    async def scenario() -> Counter[str]:
        providers = [
            OpenAI("m", id=name, base_url=one.url, api_key="k") for name, one in zip("ab", servers, strict=True)
        ]
        async with AsyncResilientClient(providers) as client:
            return await all_of(client, 150, 25)

    with LoopbackLLM(limit=RateLimit(**LIMIT)) as first, LoopbackLLM(limit=RateLimit(**LIMIT)) as second:
        servers = (first, second)
        ends = asyncio.run(scenario())
    assert set(ends) == {"a", "b"}
    assert sum(ends.values()) == 150
    assert ends["b"] >= 30


def test_an_interactive_call_goes_before_a_batch_that_waits() -> None:
    async def scenario() -> list[str]:
        order: list[str] = []
        provider = OpenAI("m", base_url=server.url, api_key="k", max_concurrency=2)
        async with AsyncResilientClient([provider]) as client:
            many = client.with_options(priority="batch", tenant="nightly")

            async def one(name: str, by: AsyncResilientClient) -> None:
                await by.chat(name, deadline=30)
                order.append(name)

            async with asyncio.TaskGroup() as group:
                for number in range(6):
                    group.create_task(one(f"batch {number}", many))
                await asyncio.sleep(0.02)
                group.create_task(one("interactive", client))
        return order

    with LoopbackLLM(default=Reply("ok", delay=0.1)) as server:
        order = asyncio.run(scenario())
    assert order.index("interactive") <= 1


@pytest.mark.parametrize(
    ("options", "told"), [({"priority": "low"}, "priority"), ({"tenant": ""}, "tenant"), ({"tenant": 3}, "tenant")]
)
def test_a_mistake_in_an_option_is_told_at_once(options: Any, told: str) -> None:
    with ResilientClient([ScriptedProvider("a", "hi")]) as client:
        with pytest.raises(InvalidRequest, match=told):
            client.chat("hi", **options)
        with pytest.raises(InvalidRequest, match=told):
            client.with_options(**options)
