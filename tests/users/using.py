"""How a user would call: a few lines that all the tests share."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from resilient_llm import AsyncResilientClient, CallFailed
from resilient_llm.providers import OpenAI
from tests.users.server import RESET, WELL, Answer, Provider, Received, echo, failed

SDK_TRIES = 3
"""Attempts an official SDK makes: the first and two retries."""


def openai(provider: Provider, name: str, **options: Any) -> OpenAI:
    """A provider as a user configures it; ``name`` is its id."""
    options.setdefault("api_key", "k")
    return OpenAI("gpt-4o-mini", id=name, base_url=provider.url, **options)


@dataclass(slots=True)
class Ends:
    """What became of some calls."""

    answered: list[str] = field(default_factory=list)
    """Prompts of those that were answered rightly."""
    wrong: list[str] = field(default_factory=list)
    failures: list[CallFailed] = field(default_factory=list)
    providers: list[str] = field(default_factory=list)


async def calls(
    client: AsyncResilientClient, prompts: Sequence[str], rate: float, *, streaming: bool = False, **options: Any
) -> Ends:
    """Calls at an even pace, each a task of its own; returns when all have ended."""
    ends = Ends()

    async def one(prompt: str) -> None:
        try:
            text, provider = await _answer(client, prompt, streaming, options)
        except CallFailed as failure:
            ends.failures.append(failure)
        else:
            (ends.answered if text == echo(prompt) else ends.wrong).append(prompt)
            ends.providers.append(provider)

    async with asyncio.TaskGroup() as group:
        for prompt in prompts:
            group.create_task(one(prompt))
            await asyncio.sleep(1 / rate)
    return ends


async def _answer(
    client: AsyncResilientClient, prompt: str, streaming: bool, options: dict[str, Any]
) -> tuple[str, str]:
    if streaming:
        async with client.stream(prompt, **options) as stream:
            return "".join([text async for text in stream.text_deltas()]), stream.provider
    reply = await client.chat(prompt, **options)
    return reply.text, reply.provider


def grey(share: float, seed: int) -> Callable[[Received], Answer]:
    """Fails so many of its calls, by turns with a reset and a 500.  The luck of a request follows from its prompt and
    from how often that prompt came before, so that :func:`sdk_answers` knows it as well."""
    seen: dict[str, int] = {}

    def script(request: Received) -> Answer:
        number = seen[request.prompt] = seen.get(request.prompt, 0) + 1
        if not fails(share, seed, request.prompt, number):
            return WELL
        return RESET if number % 2 else failed(500)

    return script


def fails(share: float, seed: int, prompt: str, number: int) -> bool:
    """Whether a grey provider fails the so-many-eth request with this prompt."""
    return random.Random(f"{seed} {prompt} {number}").random() < share


def sdk_answers(share: float, seed: int, prompts: Sequence[str]) -> int:
    """How many of these an SDK with two retries has answered by a grey provider, with the same luck."""
    return sum(not all(fails(share, seed, prompt, n + 1) for n in range(SDK_TRIES)) for prompt in prompts)
