"""Many calls at a provider that has a limit: is anything lost, who waits how long, how many are refused?

``python -m benchmarks.limits [NAME...]`` runs each situation once against loopback servers in a process of their own
and prints how it went beside the goals.  It takes about two minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any, Self

from resilient_llm import AsyncResilientClient, CallFailed, ResilientClient
from resilient_llm.providers import OpenAI
from resilient_llm.testing import LoopbackLLM, RateLimit, ReceivedRequest, Reply, Status

ROOT = Path(__file__).parents[1]


# --- the servers ---


class Silent:
    """At most so many requests in any second; the others are refused without a word about when to come back."""

    def __init__(self, rate: int, delay: float) -> None:
        self._rate = rate
        self._reply = Reply("ok", delay=delay)
        self._passed: deque[float] = deque()

    def __call__(self, request: ReceivedRequest) -> Reply | Status:
        now = time.monotonic()
        while self._passed and self._passed[0] + 1.0 <= now:
            self._passed.popleft()
        if len(self._passed) >= self._rate:
            return Status(429)
        self._passed.append(now)
        return self._reply


def serve(plan: str) -> None:
    """Serve until the input ends; tell the URLs, and at the end of each line of input how many requests came."""
    servers: list[LoopbackLLM] = []
    for one in json.loads(plan):
        delay = one.get("delay", 0.0)
        if one.get("silent"):
            servers.append(LoopbackLLM(default=Silent(one["rate"], delay), record=False).start())
        else:
            dialect, rate = one.get("dialect", "openai"), one.get("rate")
            limit = RateLimit(requests=rate, per=1.0, dialect=dialect) if rate else None
            servers.append(LoopbackLLM(default=Reply("ok", delay=delay), limit=limit, record=False).start())
    print(json.dumps([server.url for server in servers]), flush=True)
    for _ in sys.stdin:
        print(json.dumps([server.request_count for server in servers]), flush=True)


class Served:
    """Servers in another process."""

    def __init__(self, *plans: dict[str, object]) -> None:
        command = [sys.executable, "-m", "benchmarks.limits", "--serve", json.dumps(plans)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.urls: list[str] = self._line()

    def _line(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def requests(self) -> int:
        """How many came so far."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return sum(self._line())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


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


Peer = Callable[..., Any]


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


NAMES: dict[str, Callable[[], str]] = {one.__name__: one for one in (fair, threads, told, two, silent, plain)}


def main() -> None:
    """Run what was asked for, everything by default."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.limits", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(NAMES)}; default: all")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.serve)
        return
    for name in given.names or NAMES:
        print(f"{name}: {NAMES[name].__doc__}\n    {NAMES[name]()}", flush=True)


if __name__ == "__main__":
    main()
