"""Random bad half minutes over real sockets, beside the OpenAI SDK with two retries at each single provider.

Each half minute has one to three providers that drift every 3 to 9 seconds between well, failing 20 to 80 % of the
calls, down, hanging, slow and limited; four calls a second with ten seconds each.  The SDK has servers of its own with
the same timetable and the same luck: a server decides by the number of the request.
"""

from __future__ import annotations

import argparse
import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from openai import AsyncOpenAI, OpenAIError

from resilient_llm import AsyncResilientClient, CallFailed
from resilient_llm.providers import OpenAI
from tests.users.server import RESET, SILENT, Answer, Network, Provider, Received, echo, failed

SECONDS: Final = 30.0
RATE: Final = 4.0
DEADLINE: Final = 10.0
_AT_ONCE: Final = 3
_WORDS: Final = 6
_STATES: Final = ("well", "well", "grey", "down", "hang", "slow", "limited")


class Phase(NamedTuple):
    """What is wrong with a provider until ``end`` (seconds from the start)."""

    end: float
    state: str
    detail: str = ""
    share: float = 1.0


def timetable(dice: random.Random) -> tuple[Phase, ...]:
    """The phases of one provider."""
    found: list[Phase] = []
    at = 0.0
    while at < SECONDS:
        at += dice.uniform(3.0, 9.0)
        state = dice.choice(_STATES)
        if state == "grey":
            found.append(Phase(at, state, dice.choice(("500", "reset", "529")), dice.uniform(0.2, 0.8)))
        elif state == "down":
            found.append(Phase(at, state, dice.choice(("503", "refuse"))))
        elif state == "limited":
            found.append(Phase(at, state, dice.choice(("", "1", "2"))))
        else:
            found.append(Phase(at, state))
    return tuple(found)


class Bad:
    """The script of one provider: its timetable, and its luck by the number of the request."""

    def __init__(self, phases: Sequence[Phase], luck: str, clock: Callable[[], float]) -> None:
        self._phases = phases
        self._luck = luck
        self._clock = clock

    def phase(self) -> Phase | None:
        """What is wrong now; ``None`` when the timetable is over."""
        now = self._clock()
        return next((phase for phase in self._phases if now < phase.end), None)

    def __call__(self, request: Received) -> Answer:
        dice = random.Random(f"{self._luck} {request.index}")
        chance, first = dice.random(), min(5.0, dice.lognormvariate(-1.2, 0.4))
        phase = self.phase() or Phase(0.0, "well")
        words = _said(echo(request.prompt))
        if phase.state == "slow":
            return Answer(delay=first * 5, words=words, pace=0.5)
        if phase.state == "hang":
            return SILENT
        if phase.state == "limited":
            stated = {"retry_after": phase.detail} if phase.detail else {}
            return failed(429, "slow down", kind="rate_limit_error", **stated)
        if phase.state in ("grey", "down") and chance < phase.share:
            return RESET if phase.detail in ("reset", "refuse") else failed(int(phase.detail))
        return Answer(delay=first, words=words, pace=0.1)


def _said(text: str) -> tuple[str, ...]:
    size = -(-len(text) // _WORDS)
    return tuple(text[at : at + size] for at in range(0, len(text), size))


@dataclass(slots=True)
class Score:
    """How one strategy fared in one half minute."""

    name: str
    answered: int = 0
    wrong: int = 0
    requests: int = 0
    ends: Counter[str] = field(default_factory=Counter[str])
    """How the others ended."""
    trails: list[str] = field(default_factory=list[str])
    """The attempts of those, in words."""


Ask = Callable[[str, bool], Awaitable[str | None]]
"""Asks with a prompt, streaming or not; the answer, or ``None``."""


async def _ours(client: AsyncResilientClient, score: Score, prompt: str, streaming: bool) -> str | None:
    try:
        if not streaming:
            return (await client.chat(prompt, deadline=DEADLINE)).text
        async with client.stream(prompt, deadline=DEADLINE) as stream:
            return "".join([text async for text in stream.text_deltas()])
    except CallFailed as failure:
        score.ends[f"{type(failure).__name__} {failure.kind}"] += 1
        score.trails.append(f"{prompt}: {failure}")
        return None


async def _sdk(client: AsyncOpenAI, prompt: str, streaming: bool) -> str | None:
    messages = [{"role": "user", "content": prompt}]
    try:
        async with asyncio.timeout(DEADLINE):
            if not streaming:
                whole = await client.chat.completions.create(model="m", messages=messages)  # type: ignore[call-overload]
                return str(whole.choices[0].message.content)
            pieces: list[str] = []
            async with await client.chat.completions.create(  # type: ignore[call-overload]
                model="m", messages=messages, stream=True
            ) as stream:
                async for chunk in stream:
                    pieces.append(chunk.choices[0].delta.content or "")
            return "".join(pieces)
    except (OpenAIError, TimeoutError, OSError):
        return None
    except Exception as error:
        if type(error).__module__.split(".")[0] in ("httpx", "httpcore"):
            return None
        raise


async def _drive(score: Score, ask: Ask, share: float, seed: int) -> None:
    """Calls at an even pace; each ends by itself at its deadline."""

    async def one(number: int) -> None:
        prompt = f"question {number} of {seed}"
        answer = await ask(prompt, random.Random(f"kind {seed} {number}").random() < share)
        score.answered += answer == echo(prompt)
        score.wrong += answer is not None and answer != echo(prompt)

    async with asyncio.TaskGroup() as group:
        for number in range(int(SECONDS * RATE)):
            group.create_task(one(number))
            await asyncio.sleep(1 / RATE)


async def _close_doors(pairs: Sequence[tuple[Provider, Bad]]) -> None:
    """Refuse connections while the timetable says so.  Streams that run are not cut: what has been handed over cannot
    be taken back, so who chose that provider has lost, whatever it does."""
    while True:
        for provider, script in pairs:
            phase = script.phase()
            if phase is not None and phase.detail == "refuse":
                await asyncio.to_thread(provider.refuse, cut=False)
            else:
                await asyncio.to_thread(provider.listen)
        await asyncio.sleep(0.05)


async def half_minute(network: Network, seed: int) -> list[Score]:
    """Ours first, then the SDK at each provider."""
    dice = random.Random(f"half minute {seed}")
    tables = [timetable(dice) for _ in range(dice.randint(1, 3))]
    share = dice.choice((0.0, 0.5, 1.0))
    loop = asyncio.get_running_loop()
    start = loop.time()

    def made() -> list[tuple[Provider, Bad]]:
        scripts = [Bad(table, f"{seed} {n}", lambda: loop.time() - start) for n, table in enumerate(tables)]
        return [(network.provider(script), script) for script in scripts]

    mine, theirs = made(), made()
    start = loop.time()
    doors = asyncio.create_task(_close_doors(mine + theirs))
    scores = [Score("resilient_llm"), *(Score(f"SDK at {n + 1}") for n in range(len(tables)))]
    ids = "abc"
    listed = [OpenAI("m", id=ids[n], base_url=provider.url, api_key="k") for n, (provider, _) in enumerate(mine)]
    async with AsyncResilientClient(listed) as client, asyncio.TaskGroup() as group:
        group.create_task(_drive(scores[0], lambda p, s: _ours(client, scores[0], p, s), share, seed))
        for score, (provider, _) in zip(scores[1:], theirs, strict=True):
            group.create_task(_with_sdk(score, provider, share, seed))
    doors.cancel()
    scores[0].requests = sum(len(provider.requests) for provider, _ in mine)
    for score, (provider, _) in zip(scores[1:], theirs, strict=True):
        score.requests = len(provider.requests)
    return scores


async def _with_sdk(score: Score, provider: Provider, share: float, seed: int) -> None:
    async with AsyncOpenAI(base_url=provider.url, api_key="k", max_retries=2, timeout=DEADLINE) as client:
        await _drive(score, lambda p, s: _sdk(client, p, s), share, seed)


async def run(count: int, first: int, at_once: int, trails: bool) -> int:
    """Live through them; prints each and the sums.  Returns in how many the SDK had more."""
    calls = int(SECONDS * RATE)
    sums = Score("ours")
    best_sum = Score("SDK at the best")
    fewer: list[int] = []
    waiting = asyncio.Semaphore(at_once)
    with Network() as network:

        async def one(seed: int) -> None:
            async with waiting:
                mine, *others = await half_minute(network, seed)
            best = max(others, key=lambda score: score.answered)
            for total, score in ((sums, mine), (best_sum, best)):
                total.answered += score.answered
                total.wrong += score.wrong
                total.requests += score.requests
            if mine.answered < best.answered:
                fewer.append(seed)
            told = ", ".join(f"{score.name} {score.answered} ({score.requests})" for score in (mine, *others))
            print(f"seed {seed}: {told}{'  FEWER' if mine.answered < best.answered else ''}", flush=True)
            if mine.ends:
                told = "".join(f"\n      {trail}" for trail in mine.trails if trails)
                print(f"    ours that failed: {dict(mine.ends)}{told}", flush=True)

        async with asyncio.TaskGroup() as group:
            for seed in range(first, first + count):
                group.create_task(one(seed))
    for total in (sums, best_sum):
        print(
            f"{total.name}: {total.answered} of {count * calls} answered, {total.wrong} wrong, "
            f"{total.requests / (count * calls):.2f} requests a call"
        )
    print(f"fewer than the SDK in {len(fewer)} of {count}: seeds {sorted(fewer)}")
    return len(fewer)


def main(arguments: Sequence[str]) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.beds half-minutes", description=__doc__)
    parser.add_argument("--count", type=int, default=18, help="how many half minutes (default: 18)")
    parser.add_argument("--first", type=int, default=1, help="the seed of the first one (default: 1)")
    parser.add_argument("--at-once", type=int, default=_AT_ONCE, help=f"how many at a time (default: {_AT_ONCE})")
    parser.add_argument("--trails", action="store_true", help="show the attempts of our calls that failed")
    given = parser.parse_args(arguments)
    return 1 if asyncio.run(run(given.count, given.first, given.at_once, given.trails)) else 0
