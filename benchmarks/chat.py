"""A whole call through a client beside the bare HTTP client on the same server, CPU time of the client's process."""

from __future__ import annotations

import asyncio

import httpx

from benchmarks.harness import Batch, Row, beside, measure
from benchmarks.server import serving
from resilient_llm import AsyncResilientClient, ResilientClient
from resilient_llm.providers import OpenAICompatible

BUDGETS = {"await chat()": 0.9, "chat()": 0.95}
PROMPT = "Why is the sky blue?"
BODY = {"model": "model", "messages": [{"role": "user", "content": PROMPT}]}
HEADERS = {"authorization": "Bearer key"}
QUIET = {"enabled": False}


def providers(url: str) -> list[OpenAICompatible]:
    """Two of them, so that there is somebody to fail over to."""
    return [
        OpenAICompatible("model", id="first", base_url=url + "/v1", api_key="key"),
        OpenAICompatible("model", id="second", base_url=url + "/v1", api_key="other"),
    ]


def asynchronous(runner: asyncio.Runner, url: str) -> dict[str, Batch]:
    """The async client with and without hedging, and bare httpx."""
    bare = httpx.AsyncClient(headers=HEADERS)
    armed = AsyncResilientClient(providers(url), deadline=None)
    plain = AsyncResilientClient(providers(url), deadline=None, hedge=QUIET)

    def ours(client: AsyncResilientClient) -> Batch:
        async def run(count: int) -> None:
            for _ in range(count):
                await client.chat(PROMPT)

        return lambda count: runner.run(run(count))

    async def theirs(count: int) -> None:
        for _ in range(count):
            (await bare.post(url + "/v1/chat/completions", json=BODY)).json()

    return {"armed": ours(armed), "plain": ours(plain), "bare": lambda count: runner.run(theirs(count))}


def synchronous(url: str) -> dict[str, Batch]:
    """The same for the sync client."""
    bare = httpx.Client(headers=HEADERS)
    armed = ResilientClient(providers(url), deadline=None)
    plain = ResilientClient(providers(url), deadline=None, hedge=QUIET)

    def ours(client: ResilientClient) -> Batch:
        def run(count: int) -> None:
            for _ in range(count):
                client.chat(PROMPT)

        return run

    def theirs(count: int) -> None:
        for _ in range(count):
            bare.post(url + "/v1/chat/completions", json=BODY).json()

    return {"armed": ours(armed), "plain": ours(plain), "bare": theirs}


def rows(quick: bool) -> list[Row]:
    """Both clients."""
    count, rounds = (40, 5) if quick else (150, 11)
    shown: list[Row] = []
    with serving(100) as url, asyncio.Runner() as runner:
        for name, things in (("await chat()", asynchronous(runner, url)), ("chat()", synchronous(url))):
            found = measure(things, count, rounds)
            bare = found["bare"]
            shown.append(beside(f"{name}, rescue armed", found["armed"], bare, "bare httpx", BUDGETS[name]))
            shown.append(beside(f"{name}, without hedging", found["plain"], bare, "bare httpx", BUDGETS[name]))
    return shown
