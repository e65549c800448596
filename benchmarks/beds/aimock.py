"""Two servers of aimock (npm) where 40 % of the calls go wrong: 10 % each are a 500, malformed JSON, a cut connection
and a 429 with static rate-limit headers.  150 calls, 5 a second, 10 seconds each."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from openai import AsyncOpenAI

from benchmarks.beds.others import free_port, node_package, serving
from resilient_llm import AsyncResilientClient, CallFailed
from resilient_llm.providers import OpenAI

CALLS: Final = 150
RATE: Final = 5.0
DEADLINE: Final = 10.0
WANTED: Final = 140
_CHAOS: Final = ("drop", "malformed", "disconnect", "ratelimit")
_ANSWER: Final = "the one right answer"


def _command(program: Path, fixtures: Path, port: int) -> list[str | Path]:
    shares = [part for kind in _CHAOS for part in (f"--chaos-{kind}", "0.1")]
    return ["node", program / "dist" / "cli.js", "-p", str(port), "-f", fixtures, "--log-level", "silent", *shares]


async def _load(ask: Callable[[], Awaitable[str]]) -> Counter[str]:
    """What became of the calls, by kind of end."""
    ends: Counter[str] = Counter()

    async def one() -> None:
        try:
            answer = await ask()
        except (CallFailed, Exception) as error:
            ends[type(error).__name__] += 1
        else:
            ends["answered" if answer == _ANSWER else "wrong"] += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(CALLS):
            group.create_task(one())
            await asyncio.sleep(1 / RATE)
    return ends


async def run(urls: Sequence[str]) -> Counter[str]:
    """Ours at both, and an SDK with two retries at the first one, one after the other."""
    providers = [
        OpenAI("gpt-4o-mini", id=f"aimock-{n}", base_url=f"{url}/v1", api_key="k") for n, url in enumerate(urls)
    ]
    attempts = 0
    async with AsyncResilientClient(providers) as client:

        async def ours() -> str:
            nonlocal attempts
            try:
                reply = await client.chat("hello", deadline=DEADLINE)
            except CallFailed as failure:
                attempts += len(failure.attempts)
                raise
            attempts += len(reply.attempts)
            return reply.text

        ends = await _load(ours)
    print(f"resilient_llm: {dict(ends)}, {attempts / CALLS:.2f} attempts a call", flush=True)
    async with AsyncOpenAI(base_url=f"{urls[0]}/v1", api_key="k", max_retries=2) as sdk:

        async def theirs() -> str:
            async with asyncio.timeout(DEADLINE):
                reply = await sdk.chat.completions.create(
                    model="gpt-4o-mini", messages=[{"role": "user", "content": "hello"}]
                )
            return str(reply.choices[0].message.content)

        print(f"OpenAI's SDK, two retries: {dict(await _load(theirs))}", flush=True)
    return ends


def main(arguments: Sequence[str]) -> int:
    """The command."""
    argparse.ArgumentParser(prog="python -m benchmarks.beds aimock", description=__doc__).parse_args(arguments)
    program = node_package("@copilotkit/aimock")
    with TemporaryDirectory() as folder, ExitStack() as servers:
        fixtures = Path(folder) / "answers.json"
        fixture = {"match": {"userMessage": "hello"}, "response": {"content": _ANSWER}}
        fixtures.write_text(json.dumps({"fixtures": [fixture]}))
        ports = [free_port(), free_port()]
        urls = [servers.enter_context(serving(_command(program, fixtures, port), port)) for port in ports]
        ends = asyncio.run(run(urls))
    print(f"{ends['answered']} of {CALLS} answered, {ends['wrong']} wrong; wanted: {WANTED}, none wrong")
    return 0 if ends["answered"] >= WANTED and not ends["wrong"] else 1
