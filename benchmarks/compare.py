"""What others cost on the same server: the bare OpenAI SDK, and LiteLLM's Router where it is installed (it wants a
virtual environment of its own)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from importlib.util import find_spec

import httpx

from benchmarks.chat import BODY, HEADERS, PROMPT, providers
from benchmarks.harness import Batch, Row, beside, measure
from benchmarks.server import serving
from resilient_llm import AsyncResilientClient

MESSAGES = [{"role": "user", "content": PROMPT}]


def repeated(runner: asyncio.Runner, once: Callable[[], Awaitable[object]]) -> Batch:
    """One call after the other."""

    async def run(count: int) -> None:
        for _ in range(count):
            await once()

    return lambda count: runner.run(run(count))


def openai_sdk(url: str) -> Callable[[], Awaitable[object]]:
    """The SDK alone, no failover."""
    import openai

    client = openai.AsyncOpenAI(api_key="key", base_url=url + "/v1", max_retries=0)
    return lambda: client.chat.completions.create(model="model", messages=MESSAGES)  # type: ignore[call-overload]


def litellm_router(url: str) -> Callable[[], Awaitable[object]]:
    """Two deployments of one model."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    import litellm

    litellm.telemetry = False
    one = {"model": "openai/model", "api_base": url + "/v1", "api_key": "key"}
    names = [{"model_name": "m", "litellm_params": {**one, "api_key": key}} for key in ("key", "other")]
    router = litellm.Router(model_list=names, num_retries=1)
    return lambda: router.acompletion(model="m", messages=MESSAGES)


def rows(quick: bool) -> list[Row]:
    """Everybody beside bare httpx."""
    count, rounds = (20, 3) if quick else (80, 9)
    with serving(100) as url, asyncio.Runner() as runner:
        bare = httpx.AsyncClient(headers=HEADERS)
        client = AsyncResilientClient(providers(url), deadline=None)

        async def post() -> None:
            (await bare.post(url + "/v1/chat/completions", json=BODY)).json()

        things = {"bare": repeated(runner, post), "resilient_llm": repeated(runner, lambda: client.chat(PROMPT))}
        for name, package, make in (
            ("AsyncOpenAI", "openai", openai_sdk),
            ("litellm.Router", "litellm", litellm_router),
        ):
            if find_spec(package) is not None:
                things[name] = repeated(runner, make(url))
        found = measure(things, count, rounds)
    return [
        beside(f"compare: {name}", timing, found["bare"], "bare httpx")
        for name, timing in found.items()
        if name != "bare"
    ]
