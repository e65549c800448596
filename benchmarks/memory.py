"""Whether anything grows: many calls, abandoned streams, dropped clients."""

from __future__ import annotations

import asyncio
import gc
import random
import tracemalloc
from collections.abc import Callable

from benchmarks.chat import PROMPT, providers
from benchmarks.core import Target, guarded
from benchmarks.harness import Row
from benchmarks.server import serving
from resilient_llm import AsyncResilientClient, ResilientClient

BUDGET = 64  # KiB by which the second half of the work may leave more behind than the first


def growth(work: Callable[[int], object], count: int) -> float:
    """KiB that ``count`` runs leave behind, after half as many have filled the caches."""
    tracemalloc.start()  # before the warm-up: what replaces something older must not count as growth
    try:
        work(count // 2)
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        work(count)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
        return (after - before) / 1024
    finally:
        tracemalloc.stop()


def left(runner: asyncio.Runner, client: AsyncResilientClient) -> Callable[[int], object]:
    """Streams that are closed early and streams that are dropped, in turn."""

    async def run(count: int) -> None:
        for index in range(count):
            stream = client.stream(PROMPT)
            await anext(aiter(stream))
            if index % 2:
                await stream.aclose()
            del stream

    return lambda count: runner.run(run(count))


def cancelled(runner: asyncio.Runner, client: AsyncResilientClient) -> Callable[[int], object]:
    """Streams that are cancelled at any instant of their first milliseconds."""

    async def begin() -> None:
        async with client.stream(PROMPT) as stream:
            await anext(aiter(stream))
            await asyncio.sleep(60)

    async def run(count: int) -> None:
        for _ in range(count):
            task = asyncio.ensure_future(begin())
            await asyncio.wait([task], timeout=random.random() * 0.01)
            task.cancel()
            await asyncio.wait([task])

    return lambda count: runner.run(run(count))


def dropped(url: str) -> Callable[[int], object]:
    """Clients made, used once, and forgotten without being closed."""

    def run(count: int) -> None:
        for _ in range(count):
            client = ResilientClient(providers(url), hedge={"enabled": False})
            client.chat(PROMPT)
            client.close()

    return run


def rows(quick: bool) -> list[Row]:
    """Growth of each."""
    calls, streams, clients = (10_000, 150, 40) if quick else (100_000, 1000, 200)
    found = {f"{calls} decided calls": growth(guarded([[Target("a")], [Target("b")]]), calls)}
    with serving(100) as url:
        for what, work in (("closed or dropped", left), ("cancelled", cancelled)):
            with asyncio.Runner() as runner:
                client = AsyncResilientClient(providers(url))
                found[f"{streams} {what} streams"] = growth(work(runner, client), streams)
                runner.run(client.aclose())
        found[f"{clients} clients made and closed"] = growth(dropped(url), clients)
    return [
        Row(f"memory after {name}", f"{kib:+.1f} KiB", f"<= {BUDGET} KiB", kib <= BUDGET) for name, kib in found.items()
    ]
