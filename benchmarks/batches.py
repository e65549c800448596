"""``python -m benchmarks.batches [NAME...]``: many prompts through ``client.map(concurrency="auto")`` at providers with
limits, against loopback servers in a process of their own.  Prints the time beside the ideal, 429s, and what was lost.

The ideal is the time that the limit alone takes: the first window at once, the rest at its rate, and one answer's
delay.  A batch may use nine tenths of the limit: the rest is kept for others, and where a server counts the requests
of each second, as these do, its own ideal is longer by that (``--priority interactive`` may use all of it).
It takes about a minute; ``--sync`` does the same with the sync client's threads.  On a machine that
has other work the times say nothing: compare with ``--concurrency 50``, and with the CPU time.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from dataclasses import dataclass

from benchmarks.limited import Served
from resilient_llm import AsyncResilientClient, ResilientClient
from resilient_llm.batch import MapResult
from resilient_llm.options import Priority
from resilient_llm.providers import OpenAI


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

    def ideal(self, share: float) -> float:
        """Seconds, with a share of the limits."""
        rate = share * sum(self.rates)
        return (self.prompts - rate) / rate + self.delay

    @property
    def plans(self) -> list[dict[str, object]]:
        """What the servers do."""
        return [{"rate": rate, "delay": self.delay, "silent": not self.hints} for rate in self.rates]


SITUATIONS = {
    "known": Situation(1500, (100,), 0.1, True, 1.10, 0.03),
    "unknown": Situation(800, (80,), 0.1, False, 1.30, 0.10),
    "two": Situation(1500, (80, 40), 0.1, True, 1.15, 0.03),
}


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
    given = parser.parse_args()
    print(
        "situation  prompts   ideal    took     ratio   its own   goal  429s          goal  lost   slowest  widest  CPU"
    )
    for name in given.names or SITUATIONS:
        situation = SITUATIONS[name]
        make = run_sync if given.sync else lambda *one: asyncio.run(run(*one))
        with Served(*situation.plans) as served:
            began = time.process_time()
            found = make(situation, served.urls, given.concurrency, given.priority)
            cpu = time.process_time() - began
            refused = served.requests() - situation.prompts
        ideal = situation.ideal(1.0)
        own = situation.ideal(0.9) if given.priority == "batch" and situation.hints else ideal
        print(
            f"{name:9}  {situation.prompts:7}  {ideal:4.1f} s  {found.seconds:5.1f} s  {found.seconds / ideal:6.2f} x"
            f"  {found.seconds / own:6.2f} x  {situation.goal:5.2f}  {refused:4} ({refused / situation.prompts:5.1%})"
            f"  {situation.goal_429:5.1%}  {found.lost:4}  {found.slowest:6.1f} s  {found.widest:6}  {cpu:4.1f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
