"""A client mounted under the OpenAI SDK beside the bare SDK on the same server: whole answers and streamed chunks, from
a provider of the same wire and translated from Anthropic's."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from typing import Any

from benchmarks.chat import PROMPT
from benchmarks.harness import Batch, Row, Timing, beside, measure
from benchmarks.server import serving
from resilient_llm import AsyncResilientClient, ResilientClient
from resilient_llm.providers import Anthropic, OpenAI

BUDGETS = {"same wire": 1.1, "translated": 1.5}
CHUNKS = 200
QUESTION: dict[str, Any] = {"model": "model", "messages": [{"role": "user", "content": PROMPT}]}


def targets(url: str) -> dict[str, list[OpenAI] | list[Anthropic]]:
    """Two providers each, so that there is somebody to fail over to."""
    keys = {"first": "key-number-1", "second": "key-number-2"}
    return {
        "same wire": [OpenAI("model", id=name, base_url=url + "/v1", api_key=key) for name, key in keys.items()],
        "translated": [Anthropic("model", id=name, base_url=url, api_key=key) for name, key in keys.items()],
    }


def asking(sdk: Any) -> Batch:
    """One chat completion after the other."""

    def run(count: int) -> None:
        for _ in range(count):
            sdk.chat.completions.create(**QUESTION)

    return run


def streaming(sdk: Any) -> Batch:
    """The same streamed, counted in chunks."""

    def run(count: int) -> None:
        for _ in range(max(count // CHUNKS, 1)):
            for _chunk in sdk.chat.completions.create(**QUESTION, stream=True):
                pass

    return run


def async_asking(runner: asyncio.Runner, sdk: Any) -> Batch:
    """One chat completion after the other, async."""

    async def run(count: int) -> None:
        for _ in range(count):
            await sdk.chat.completions.create(**QUESTION)

    return lambda count: runner.run(run(count))


def async_streaming(runner: asyncio.Runner, sdk: Any) -> Batch:
    """The same streamed, counted in chunks."""

    async def run(count: int) -> None:
        for _ in range(max(count // CHUNKS, 1)):
            async for _chunk in await sdk.chat.completions.create(**QUESTION, stream=True):
                pass

    return lambda count: runner.run(run(count))


def shown(what: str, found: dict[str, Timing]) -> list[Row]:
    """A row for each way to the server."""
    return [beside(f"{what}, {way}", found[way], found["bare"], "bare SDK", BUDGETS[way]) for way in BUDGETS]


def rows(quick: bool) -> list[Row]:
    """With and without a client in between."""
    if find_spec("openai") is None:
        return [Row("mounted under the OpenAI SDK", "not installed: pip install resilient-llm[bench]")]
    import openai

    from resilient_llm.mount import mount

    count, chunks, rounds = (40, 2 * CHUNKS, 5) if quick else (150, 10 * CHUNKS, 11)
    with serving(100) as url, serving(CHUNKS) as long_url, asyncio.Runner() as runner:

        def sync_sdks(base: str) -> dict[str, Any]:
            bare = openai.OpenAI(api_key="key", base_url=base + "/v1", max_retries=0)
            ours = {name: mount(openai.OpenAI, ResilientClient(there)) for name, there in targets(base).items()}
            return {"bare": bare, **ours}

        def async_sdks(base: str) -> dict[str, Any]:
            bare = openai.AsyncOpenAI(api_key="key", base_url=base + "/v1", max_retries=0)
            clients = {name: AsyncResilientClient(there) for name, there in targets(base).items()}
            return {"bare": bare, **{name: mount(openai.AsyncOpenAI, client) for name, client in clients.items()}}

        whole = measure({name: asking(sdk) for name, sdk in sync_sdks(url).items()}, count, rounds)
        whole_async = measure({k: async_asking(runner, sdk) for k, sdk in async_sdks(url).items()}, count, rounds)
        chunk = measure({name: streaming(sdk) for name, sdk in sync_sdks(long_url).items()}, chunks, rounds)
        chunk_async = measure(
            {name: async_streaming(runner, sdk) for name, sdk in async_sdks(long_url).items()}, chunks, rounds
        )
    return [
        *shown("a call under OpenAI", whole),
        *shown("a call under AsyncOpenAI", whole_async),
        *shown("a chunk under OpenAI", chunk),
        *shown("a chunk under AsyncOpenAI", chunk_async),
    ]
