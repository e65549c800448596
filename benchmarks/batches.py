"""``python -m benchmarks.batches [NAME...]``: many prompts through ``client.map(concurrency="auto")`` at providers with
limits, against a loopback server in a process of its own.  Prints the time beside the ideal, 429s, and what was lost.

The ideal is the time that the limit alone takes: the first window at once, the rest at its rate, and one answer's
delay.  It takes about a minute; ``--sync`` does the same with the sync client's threads.  On a machine that
has other work the times say nothing: compare with ``--concurrency 50``, and with the CPU time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from resilient_llm import AsyncResilientClient, ResilientClient
from resilient_llm.batch import MapResult
from resilient_llm.options import Priority
from resilient_llm.providers import OpenAI
from resilient_llm.testing import LoopbackLLM, RateLimit, ReceivedRequest, Reply, Status

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Situation:
    """So many prompts at servers of these rates a second, which take ``delay`` seconds to answer."""

    prompts: int
    rates: tuple[int, ...]
    delay: float
    hints: bool
    goal: float
    """The most times the ideal."""
    goal_429: float

    @property
    def ideal(self) -> float:
        """Seconds."""
        return (self.prompts - sum(self.rates)) / sum(self.rates) + self.delay


SITUATIONS = {
    "known": Situation(1500, (100,), 0.1, True, 1.10, 0.03),
    "unknown": Situation(800, (80,), 0.1, False, 1.30, 0.10),
    "two": Situation(1500, (80, 40), 0.1, True, 1.15, 0.03),
}


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


def serve(name: str) -> None:
    """Serve a situation until the input ends; then tell how many requests came."""
    situation, servers = SITUATIONS[name], list[LoopbackLLM]()
    for rate in situation.rates:
        if situation.hints:
            limit = RateLimit(requests=rate, per=1.0)
            servers.append(LoopbackLLM(default=Reply("ok", delay=situation.delay), limit=limit, record=False).start())
        else:
            servers.append(LoopbackLLM(default=Silent(rate, situation.delay), record=False).start())
    print(json.dumps([server.url for server in servers]), flush=True)
    sys.stdin.read()
    print(sum(server.request_count for server in servers), flush=True)


@contextmanager
def served(name: str) -> Iterator[tuple[list[str], list[int]]]:
    """URLs of servers, and a list that has the number of requests at the end."""
    command = [sys.executable, "-m", "benchmarks.batches", "--serve", name]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdin is not None
    count: list[int] = []
    try:
        yield json.loads(process.stdout.readline()), count
    finally:
        process.stdin.close()
        count.append(int(process.stdout.readline()))
        process.stdout.close()
        process.wait(10)


def providers(urls: list[str]) -> list[OpenAI]:
    return [OpenAI("m", id=f"p{number}", base_url=f"{url}/v1", api_key="k") for number, url in enumerate(urls)]


@dataclass
class Measured:
    seconds: float
    lost: int
    slowest: float
    widest: int


async def run(situation: Situation, urls: list[str], width: int | None, priority: Priority) -> Measured:
    """With the async client."""
    async with AsyncResilientClient(providers(urls), deadline=600) as client:
        came: list[MapResult] = []
        began, widest = time.monotonic(), 0
        prompts = (f"prompt {number}" for number in range(situation.prompts))
        results = client.map(prompts, ordered=False, concurrency=width or "auto", priority=priority)
        async for result in results:
            came.append(result)
            widest = max(widest, results._work.in_flight)
        return measured(came, time.monotonic() - began, widest)


def run_sync(situation: Situation, urls: list[str], width: int | None, priority: Priority) -> Measured:
    """With the sync client."""
    with ResilientClient(providers(urls), deadline=600) as client:
        came: list[MapResult] = []
        began, widest = time.monotonic(), 0
        prompts = (f"prompt {number}" for number in range(situation.prompts))
        results = client.map(prompts, ordered=False, concurrency=width or "auto", priority=priority)
        for result in results:
            came.append(result)
            widest = max(widest, results._work.in_flight)
        return measured(came, time.monotonic() - began, widest)


def measured(came: list[MapResult], seconds: float, widest: int) -> Measured:
    answered = [result.response for result in came if result.response is not None]
    took = [sum(one.duration + one.delay for one in response.attempts) for response in answered]
    return Measured(seconds, len(came) - len(answered), max(took, default=0.0), widest)


def main() -> None:
    """Run what was asked for, everything by default."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batches", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SITUATIONS)}; default: all")
    parser.add_argument("--sync", action="store_true", help="with the sync client")
    parser.add_argument("--concurrency", type=int, metavar="N", help="instead of 'auto'")
    parser.add_argument("--priority", choices=("batch", "interactive"), default="batch", help="(%(default)s)")
    parser.add_argument("--serve", choices=SITUATIONS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.serve)
        return
    print("situation  prompts   ideal     took    ratio   goal  429s          goal  lost  slowest call  widest  CPU")
    for name in given.names or SITUATIONS:
        situation = SITUATIONS[name]
        with served(name) as (urls, count):
            began = time.process_time()
            make = run_sync if given.sync else lambda *one: asyncio.run(run(*one))
            found = make(situation, urls, given.concurrency, given.priority)
            cpu = time.process_time() - began
        refused = count[0] - situation.prompts
        share, ratio = refused / situation.prompts, found.seconds / situation.ideal
        print(
            f"{name:9}  {situation.prompts:7}  {situation.ideal:4.1f} s  {found.seconds:5.1f} s   {ratio:4.2f} x"
            f"  {situation.goal:4.2f}  {refused:4} ({share:5.1%})  {situation.goal_429:5.1%}"
            f"  {found.lost:4}  {found.slowest:8.1f} s  {found.widest:6}  {cpu:4.1f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
