"""One contestant in a process of its own: reads an order per line, makes the calls, writes a result per line."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
import warnings
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from benchmarks.comparison.contestants import ANSWER, CONTESTANTS, Ask


async def measure(ask: Ask, stream: bool, calls: int, cap: float) -> list[dict[str, object]]:
    """The calls of one scenario, one after the other, until ``cap`` seconds are over."""
    seen: list[dict[str, object]] = []
    end = time.monotonic() + cap
    for _ in range(calls):
        began = time.monotonic()
        if began >= end:
            break
        error = ""
        try:
            async with asyncio.timeout(cap):
                text = await ask(stream)
            ending = "answered" if text == ANSWER else "wrong"
        except TimeoutError as failure:
            over = time.monotonic() - began >= cap - 0.05
            ending, error = ("cap" if over else "failed"), type(failure).__name__
        except Exception as failure:
            ending, error = "failed", type(failure).__name__
        seen.append({"ending": ending, "seconds": time.monotonic() - began, "error": error})
    return seen


async def work(name: str) -> None:
    """Serve orders until the input ends."""
    contestant = CONTESTANTS[name]
    try:
        installed = version(contestant.package)
    except PackageNotFoundError:
        installed = "from the checkout"
    _say({"version": installed})
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        order: dict[str, Any] = json.loads(line)
        async with contestant.make(order["preferred"], order["other"], order["patience"]) as ask:
            if order.get("warm"):
                _say({"seen": await measure(ask, False, 1, order["cap"])})
                continue
            _say({"seen": await measure(ask, order["stream"], order["calls"], order["cap"])})


def _say(value: object) -> None:
    sys.__stdout__.write(json.dumps(value) + "\n")  # type: ignore[union-attr]
    sys.__stdout__.flush()  # type: ignore[union-attr]


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    sys.stdout = sys.stderr  # some contestants print
    asyncio.run(work(sys.argv[1]))
