"""A preferred server that can do two thirds of what it is asked for and queues the rest, over real sockets, beside the
OpenAI SDK at a second one that has room for everybody.

Both take three seconds for a whole answer; seven calls a second have ten seconds each.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from openai import AsyncOpenAI, OpenAIError

from resilient_llm import AsyncResilientClient, CallFailed
from resilient_llm.providers import OpenAI
from resilient_llm.testing import LoopbackLLM, ReceivedRequest, Reply

RATE: Final = 7.0
DEADLINE: Final = 10.0
ANSWER: Final = 3.0
PLACES: Final = 14
WARM: Final = 30.0
"""Seconds at half of the rate, which the server can do."""

Ask = Callable[[], Awaitable[str]]


class Queue:
    """Answers so many requests at a time; the others wait, and nobody is told."""

    def __init__(self) -> None:
        self._free_at = [0.0] * PLACES
        self._lock = threading.Lock()

    def __call__(self, request: ReceivedRequest) -> Reply:
        with self._lock:
            now = time.monotonic()
            done = max(heapq.heappop(self._free_at), now) + ANSWER
            heapq.heappush(self._free_at, done)
            return Reply(delay=done - now)


async def offered(ask: Ask, seconds: float) -> tuple[Counter[str], list[float]]:
    """Who answered how many calls, and how long those took."""
    who, took = Counter[str](), list[float]()

    async def one() -> None:
        began = time.monotonic()
        who[found := await ask()] += 1
        if found != "nobody":
            took.append(time.monotonic() - began)

    async def warm() -> None:
        await ask()

    async with asyncio.TaskGroup() as group:
        for _ in range(int(WARM * RATE / 2.0)):
            group.create_task(warm())
            await asyncio.sleep(2.0 / RATE)
        for _ in range(int(seconds * RATE)):
            group.create_task(one())
            await asyncio.sleep(1.0 / RATE)
    return who, sorted(took)


def ours(client: AsyncResilientClient) -> Ask:
    """A call of this library."""

    async def ask() -> str:
        try:
            return (await client.chat("hi", deadline=DEADLINE)).provider
        except CallFailed:
            return "nobody"

    return ask


def theirs(client: AsyncOpenAI) -> Ask:
    """A call of the SDK."""

    async def ask() -> str:
        try:
            async with asyncio.timeout(DEADLINE):
                await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
        except (OpenAIError, TimeoutError):
            return "nobody"
        return "second"

    return ask


async def run(seconds: float) -> tuple[float, float]:
    """The shares of the calls that were answered."""
    with LoopbackLLM(default=Queue()) as first, LoopbackLLM(default=Reply(delay=ANSWER)) as second:
        urls = {name: f"{server.url}/v1" for name, server in (("first", first), ("second", second))}
        providers = [OpenAI("m", api_key="k", id=name, base_url=url) for name, url in urls.items()]
        async with (
            AsyncResilientClient(providers) as client,
            AsyncOpenAI(api_key="k", base_url=urls["second"], max_retries=2) as sdk,
        ):
            mine, other = await asyncio.gather(offered(ours(client), seconds), offered(theirs(sdk), seconds))
    return told("we", *mine), told("SDK at the second", *other)


def told(name: str, who: Counter[str], took: list[float]) -> float:
    """Print how it went; the share of the calls that were answered."""
    total = who.total()
    shares = ", ".join(f"{where} {count / total:.1%}" for where, count in sorted(who.items()))
    print(f"{name}: {shares} of {total}; half of the answers within {took[len(took) // 2]:.1f} s")
    return 1.0 - who["nobody"] / total


def main(arguments: Sequence[str]) -> int:
    """1 if fewer calls were answered than by the SDK, or fewer than 97 %."""
    parser = argparse.ArgumentParser("python -m benchmarks.beds saturated", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0, help="how long it is too much (default 120)")
    mine, sdk = asyncio.run(run(parser.parse_args(arguments).seconds))
    return int(mine < min(sdk, 0.97))
