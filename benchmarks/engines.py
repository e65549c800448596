"""What a call costs on each engine beyond that engine's transport driven by hand, as a share of a bare httpx call."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from statistics import median

import aiohttp
import httpx
import httpx2

from benchmarks.chat import BODY, HEADERS, PROMPT, providers
from benchmarks.harness import Batch, Row, Timing, measure
from benchmarks.server import serving
from resilient_llm import AsyncResilientClient

BUDGET = 0.14
ENGINES = ("httpx", "httpx2", "aiohttp")


def by_hand(engine: str, url: str, opened: list[Callable[[], Awaitable[object]]]) -> Callable[[], Awaitable[object]]:
    """One request through an engine's transport, with nothing around it; what closes it is added to ``opened``."""
    if engine == "aiohttp":
        session: list[aiohttp.ClientSession] = []

        async def ask() -> object:
            if not session:
                session.append(aiohttp.ClientSession(headers=HEADERS))
                opened.append(session[0].close)
            async with session[0].post(url, data=json.dumps(BODY), headers={"content-type": "application/json"}) as got:
                return json.loads(await got.read())

        return ask
    package = httpx2 if engine == "httpx2" else httpx
    transport = package.AsyncHTTPTransport()
    opened.append(transport.aclose)

    async def send() -> object:
        request = package.Request("POST", url, content=json.dumps(BODY), headers=HEADERS)
        response = await transport.handle_async_request(request)
        data = b"".join([piece async for piece in response.stream])
        await response.aclose()
        return json.loads(data)

    return send


def batch(runner: asyncio.Runner, one: Callable[[], Awaitable[object]]) -> Batch:
    """So many of them, one after the other."""

    async def run(count: int) -> None:
        for _ in range(count):
            await one()

    return lambda count: runner.run(run(count))


async def _closed(close: Callable[[], Awaitable[object]]) -> None:
    await close()


def own(whole: Timing, beneath: Timing, bare: Timing) -> float:
    """The difference of two, as a share of a third."""
    rounds = zip(whole.rounds, beneath.rounds, bare.rounds, strict=True)
    return median((one - other) / unit for one, other, unit in rounds)


def rows(quick: bool) -> list[Row]:
    """All engines."""
    count, rounds = (40, 5) if quick else (150, 11)
    shown: list[Row] = []
    opened: list[Callable[[], Awaitable[object]]] = []
    with serving(100) as url, asyncio.Runner() as runner:
        bare = httpx.AsyncClient(headers=HEADERS)
        opened.append(bare.aclose)
        target = url + "/v1/chat/completions"
        things = {"bare": batch(runner, lambda: bare.post(target, json=BODY))}
        for engine in ENGINES:
            client = AsyncResilientClient(providers(url), deadline=None, engine=engine)
            opened.append(client.aclose)
            things[f"{engine} whole"] = batch(runner, lambda client=client: client.chat(PROMPT))  # type: ignore[misc]
            things[engine] = batch(runner, by_hand(engine, target, opened))
        found = measure(things, count, rounds)
        for close in opened:
            runner.run(_closed(close))
        for engine in ENGINES:
            whole, beneath = found[f"{engine} whole"], found[engine]
            share, ratio = own(whole, beneath, found["bare"]), whole.over(found["bare"])
            value = f"{share:+.2f} of bare httpx beyond its transport; {ratio:.2f} x bare httpx in all"
            shown.append(Row(f"await chat(), engine {engine}", value, f"<= {BUDGET:g}", share <= BUDGET))
    return shown
