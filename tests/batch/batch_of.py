"""A run that tests kill: ``python -m tests.batch.batch_of COUNT FILE KIND``.

Prints the index of each result that was returned, and at the end the process's greatest memory in KiB.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from pathlib import Path

from resilient_llm import AsyncResilientClient, ResilientClient
from resilient_llm.model import ChatRequest
from resilient_llm.providers import Function


def answer(request: ChatRequest) -> str:
    time.sleep(random.random() * 0.002)
    return f"answer to {request.messages[-1].text}"


async def answer_async(request: ChatRequest) -> str:
    await asyncio.sleep(random.random() * 0.002)
    return f"answer to {request.messages[-1].text}"


def prompts(count: int):  # type: ignore[no-untyped-def]
    return ((f"key {number}", f"prompt {number}") for number in range(count))


def tell(index: int) -> None:
    sys.stdout.write(f"{index}\n")
    sys.stdout.flush()


def threads(count: int, file: str) -> None:
    with ResilientClient([Function(answer)]) as client:
        for result in client.map(prompts(count), save_to=file, ordered=False, concurrency=16):
            tell(result.index)


async def tasks(count: int, file: str) -> None:
    async with AsyncResilientClient([Function(answer_async)]) as client:
        async for result in client.map(prompts(count), save_to=file):
            tell(result.index)


def peak() -> int:
    """The greatest memory of this process in KiB.  Not ``ru_maxrss``, which begins with the parent's."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:  # no Linux
        return 0
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    count, file, kind = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    if kind == "threads":
        threads(count, file)
    else:
        asyncio.run(tasks(count, file))
    print("memory", peak())
