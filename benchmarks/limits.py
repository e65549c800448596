"""Many calls at a provider that has a limit: is anything lost, who waits how long, how many are refused?

``python -m benchmarks.limits [NAME...]`` runs each situation once against loopback servers in a process of their own
and prints how it went beside the goals.  It takes about two minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from statistics import mean, quantiles
from typing import Any

from benchmarks.limited import Served
from resilient_llm import AsyncResilientClient, CallFailed, ResilientClient
from resilient_llm.providers import OpenAI

# --- how it went ---


@dataclass
class Run:
    """What came of some calls."""

    took: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    requests: int = 0

    @property
    def refused(self) -> int:
        return self.requests - len(self.took)

    def told(self, ideal: float, wait: float) -> str:
        share = self.refused / max(1, len(self.took))
        return (
            f"{len(self.took)} answered, lost {sum(self.errors.values())} {dict(self.errors) or ''}; "
            f"{self.seconds:.1f} s = {self.seconds / ideal:.2f} x ideal; refused {self.refused} ({share:.1%}); "
            f"slowest {max(self.took):.2f} s = {max(self.took) / wait:.1f} x the ideal wait"
        )


Ask = Callable[[str], Awaitable[object]]


async def batch(ask: Ask, prompts: int, workers: int) -> Run:
    """So many prompts, by so many workers."""
    run, left = Run(), iter(range(prompts))

    async def work() -> None:
        for number in left:
            began = time.monotonic()
            try:
                await ask(f"prompt {number}")
            except Exception as error:
                run.errors[type(error).__name__ + ": " + str(error)[:60]] += 1
            else:
                run.took.append(time.monotonic() - began)

    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(work())
    run.seconds = time.monotonic() - began
    return run


@asynccontextmanager
async def ours(served: Served, **options: Any) -> AsyncIterator[Ask]:
    """This library."""
    providers = [OpenAI("m", id=f"p{n}", base_url=url, api_key="k") for n, url in enumerate(served.urls)]
    async with AsyncResilientClient(providers, deadline=600) as client:

        async def ask(prompt: str) -> object:
            return await client.chat(prompt, **options)

        yield ask


@asynccontextmanager
async def semaphore(served: Served) -> AsyncIterator[Ask]:
    """The humblest way: an ``asyncio.Semaphore`` and the SDK's own retries, at the first provider."""
    from openai import AsyncOpenAI

    async with AsyncOpenAI(base_url=served.urls[0] + "/v1", api_key="k") as client:
        gate = asyncio.Semaphore(50)

        async def ask(prompt: str) -> object:
            async with gate:
                return await client.chat.completions.create(model="m", messages=[{"role": "user", "content": prompt}])

        yield ask


@asynccontextmanager
async def litellm(served: Served) -> AsyncIterator[Ask]:
    """LiteLLM's Router, told the limits by ``rpm`` (a minute's worth of each second's)."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # or it downloads a table when it is imported
    from litellm import Router

    deployments = [
        {
            "model_name": "m",
            "litellm_params": {"model": "openai/m", "api_base": url + "/v1", "api_key": "k", "rpm": 60 * rate},
        }
        for url, rate in zip(served.urls, served.rates, strict=True)
    ]
    router = Router(model_list=deployments, routing_strategy="usage-based-routing-v2", num_retries=3)

    async def ask(prompt: str) -> object:
        return await router.acompletion(model="m", messages=[{"role": "user", "content": prompt}])

    yield ask


Peer = Callable[..., Any]
PEERS: dict[str, Peer] = {"resilient_llm": ours, "semaphore": semaphore, "litellm": litellm}


def batched(peer: Peer, prompts: int, workers: int, *plans: dict[str, object]) -> Run:
    """A batch by ``peer`` at these servers."""

    async def scenario(served: Served, prompts: int) -> Run:
        async with peer(served) as ask:
            return await batch(ask, prompts, workers)

    with Served({}) as free:  # so that nobody is measured while it imports something
        asyncio.run(scenario(free, workers))
    with Served(*plans) as served:
        run = asyncio.run(scenario(served, prompts))
        run.requests = served.requests()
        return run


# --- the situations ---


def told(peer: Peer = ours) -> str:
    """1,500 prompts, 50 workers, one provider of 100/s that tells its limits; goal: <= 1.10 x, 3 %, 3 x"""
    return batched(peer, 1500, 50, {"rate": 100}).told(14.0, 0.5)


def two(peer: Peer = ours) -> str:
    """1,500 prompts, 50 workers, two providers of 80/s and 40/s; goal: <= 1.15 x, 3 %, 3 x"""
    return batched(peer, 1500, 50, {"rate": 80}, {"rate": 40}).told(11.5, 50 / 120)


def silent(peer: Peer = ours) -> str:
    """800 prompts, 50 workers, one provider of 80/s, no hints at all; goal: <= 1.3 x, 10 %, 3 x"""
    return batched(peer, 800, 50, {"rate": 80, "silent": True}).told(9.0, 50 / 80)


def plain(peer: Peer = ours) -> str:
    """800 prompts, 50 workers, one provider of 80/s, Retry-After alone; goal: <= 1.3 x, 10 %, 3 x"""
    return batched(peer, 800, 50, {"rate": 80, "dialect": "plain"}).told(9.0, 50 / 80)


def chance(peer: Peer = ours) -> str:
    """1,500 prompts, 50 workers, 0.1 s a call; 5 % are refused at random, for a second each; goal: <= 2 x"""
    plan = {"chance": 0.05, "hint": "1", "delay": 0.1}
    return batched(peer, 1500, 50, plan).told(1500 / 50 * (0.1 + 0.05), 0.1)


def beside() -> str:
    """Five interactive callers beside a batch of 50 at 100/s, 0.2 s a call; goal: p99 <= 1.5 x its value alone"""

    async def scenario(served: Served, *, batched: bool) -> list[float]:
        provider = OpenAI("m", base_url=served.urls[0], api_key="k")
        async with AsyncResilientClient([provider], deadline=600) as client:
            many = client.with_options(priority="batch")
            running = asyncio.create_task(batch(many.chat, 1500 if batched else 0, 50))
            await asyncio.sleep(4.0)
            took: list[float] = []

            async def work() -> None:
                for number in range(60):
                    began = time.monotonic()
                    await client.chat(f"question {number}")
                    took.append(time.monotonic() - began)
                    await asyncio.sleep(0.1)

            async with asyncio.TaskGroup() as group:
                for _ in range(5):
                    group.create_task(work())
            running.cancel()
            return took

    found: list[float] = []
    for batched in (False, True):
        with Served({"rate": 100, "delay": 0.2}) as served:
            found.append(quantiles(asyncio.run(scenario(served, batched=batched)), n=100)[98])
    return f"p99 {found[1]:.3f} s, {found[1] / found[0]:.2f} x its value alone ({found[0]:.3f} s)"


def fair() -> str:
    """50 workers at max_concurrency=5, 0.1 s a call, deadline 4 s; goal: within 20 % of the mean, no error"""
    calls: Counter[int] = Counter()
    errors: Counter[str] = Counter()

    async def scenario(served: Served) -> None:
        provider = OpenAI("m", base_url=served.urls[0], api_key="k", max_concurrency=5)
        async with AsyncResilientClient([provider], deadline=4) as client:
            ends = time.monotonic() + 8.0

            async def work(number: int) -> None:
                while time.monotonic() < ends:
                    try:
                        await client.chat("hi")
                        calls[number] += 1
                    except CallFailed as error:
                        errors[type(error).__name__] += 1

            async with asyncio.TaskGroup() as group:
                for number in range(50):
                    group.create_task(work(number))

    with Served({"delay": 0.1}) as served:
        asyncio.run(scenario(served))
    return _fairness(calls, errors)


def threads() -> str:
    """20 threads at max_concurrency=2, 0.1 s a call, deadline 4 s; goal: within 20 % of the mean, no error"""
    calls: Counter[int] = Counter()
    errors: Counter[str] = Counter()
    with Served({"delay": 0.1}) as served:
        provider = OpenAI("m", base_url=served.urls[0], api_key="k", max_concurrency=2)
        with ResilientClient([provider], deadline=4) as client:
            ends = time.monotonic() + 8.0

            def work(number: int) -> None:
                while time.monotonic() < ends:
                    try:
                        client.chat("hi")
                        calls[number] += 1
                    except CallFailed as error:
                        errors[type(error).__name__] += 1

            workers = [threading.Thread(target=work, args=(number,)) for number in range(20)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
    return _fairness(calls, errors)


def _fairness(calls: Counter[int], errors: Counter[str]) -> str:
    usual = mean(calls.values())
    return (
        f"{min(calls.values())} to {max(calls.values())} calls each ({min(calls.values()) / usual - 1:+.0%} to "
        f"{max(calls.values()) / usual - 1:+.0%} of the mean), {sum(errors.values())} errors {dict(errors) or ''}"
    )


_ALL = (fair, threads, told, two, silent, plain, chance, beside)
NAMES: dict[str, Callable[[], str]] = {one.__name__: one for one in _ALL}


def main() -> None:
    """Run what was asked for, everything by default."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.limits", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(NAMES)}; default: all")
    parser.add_argument("--by", default="resilient_llm", choices=PEERS, help="who makes the calls of a batch")
    given = parser.parse_args()
    for name in given.names or NAMES:
        run: Callable[..., str] = NAMES[name]
        found = run() if name in ("fair", "threads", "beside") else run(PEERS[given.by])
        print(f"{name}: {run.__doc__}\n    {found}", flush=True)


if __name__ == "__main__":
    main()
