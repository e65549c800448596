"""A streamed chunk from the wire to a neutral event through the whole client, beside ``aiter_lines()`` and
``json.loads`` of bare httpx on the same server."""

from __future__ import annotations

import asyncio
import json

import httpx

from benchmarks.chat import BODY, HEADERS, PROMPT, QUIET, providers
from benchmarks.harness import Batch, Row, beside, measure
from benchmarks.server import serving
from resilient_llm import AsyncResilientClient, ResilientClient

BUDGET = 1.25
CHUNKS = 200


def per_chunk(batch: Batch) -> Batch:
    """Count chunks instead of streams."""
    return lambda count: batch(max(count // CHUNKS, 1))


def asynchronous(runner: asyncio.Runner, url: str) -> dict[str, Batch]:
    """Ours and bare httpx, async."""
    bare = httpx.AsyncClient(headers=HEADERS)
    client = AsyncResilientClient(providers(url), deadline=None, hedge=QUIET)

    async def ours(count: int) -> None:
        for _ in range(count):
            async with client.stream(PROMPT) as stream:
                async for _event in stream:
                    pass

    async def theirs(count: int) -> None:
        for _ in range(count):
            async with bare.stream("POST", url + "/v1/chat/completions", json={**BODY, "stream": True}) as answer:
                async for line in answer.aiter_lines():
                    if line.startswith("data: ") and line != "data: [DONE]":
                        json.loads(line[6:])

    return {
        "ours": per_chunk(lambda count: runner.run(ours(count))),
        "bare": per_chunk(lambda count: runner.run(theirs(count))),
    }


def synchronous(url: str) -> dict[str, Batch]:
    """The same, sync."""
    bare = httpx.Client(headers=HEADERS)
    client = ResilientClient(providers(url), deadline=None, hedge=QUIET)

    def ours(count: int) -> None:
        for _ in range(count):
            with client.stream(PROMPT) as stream:
                for _event in stream:
                    pass

    def theirs(count: int) -> None:
        for _ in range(count):
            with bare.stream("POST", url + "/v1/chat/completions", json={**BODY, "stream": True}) as answer:
                for line in answer.iter_lines():
                    if line.startswith("data: ") and line != "data: [DONE]":
                        json.loads(line[6:])

    return {"ours": per_chunk(ours), "bare": per_chunk(theirs)}


def rows(quick: bool) -> list[Row]:
    """Both clients."""
    count, rounds = (10 * CHUNKS, 5) if quick else (25 * CHUNKS, 11)
    shown: list[Row] = []
    with serving(CHUNKS) as url, asyncio.Runner() as runner:
        for name, things in (("async", asynchronous(runner, url)), ("sync", synchronous(url))):
            found = measure(things, count, rounds)
            shown.append(beside(f"streamed chunk, {name}", found["ours"], found["bare"], "lines + json.loads", BUDGET))
    return shown
