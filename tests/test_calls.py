"""The work of a call and of a chunk does not grow unnoticed: Python calls are counted, so that load does not matter."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.calls import BOUNDS, Canned, Ready, counts, subjects
from resilient_llm import AsyncResilientClient, ResilientClient
from resilient_llm.drive.engines import Limit, Outgoing
from resilient_llm.providers import OpenAI


@pytest.fixture(scope="module")
def found() -> dict[str, int]:
    return dict(counts())


@pytest.mark.parametrize("what", BOUNDS)
def test_no_more_python_functions_are_called_than_is_allowed(found: dict[str, int], what: str) -> None:
    assert found[what] <= BOUNDS[what], "make it cheaper, or raise the bound in benchmarks/calls.py and say why"


@pytest.mark.parametrize("what", BOUNDS)
def test_the_bounds_are_tight(found: dict[str, int], what: str) -> None:
    assert found[what] > 0.7 * BOUNDS[what], "it became cheaper: lower the bound in benchmarks/calls.py"


class AsyncReady(Ready):
    """The same for the async client."""

    async def read(self) -> bytes | None:  # type: ignore[override]
        return super().read()

    async def aclose(self) -> None:
        """Nothing is open."""


class AsyncCanned:
    """The same for the async client, bounded as our own engines are."""

    of_loop = True

    def __init__(self, whole: bytes) -> None:
        self._whole = whole

    async def send(self, outgoing: Outgoing, limit: Limit) -> Any:
        return AsyncReady([self._whole], {"content-type": "application/json"})

    async def aclose(self) -> None:
        """Nothing is open."""


def garbage(ask: Callable[[], object]) -> int:
    """What only the garbage collector finds after some calls."""
    ask()
    gc.collect()
    gc.disable()
    try:
        for _ in range(10):
            ask()
        return gc.collect()
    finally:
        gc.enable()


def test_a_call_leaves_nothing_to_the_garbage_collector() -> None:
    subject = subjects()["openai_chat"]
    two = [subject.provider, OpenAI("gpt-5.2", id="second", api_key="none")]
    with ResilientClient(two, engine=Canned([subject.whole], "application/json")) as client:
        assert garbage(lambda: client.chat("hi")) == 0
    asynchronous = AsyncResilientClient(two, engine=AsyncCanned(subject.whole))
    with asyncio.Runner() as runner:

        async def ask() -> None:
            await asynchronous.chat("hi")

        assert garbage(lambda: runner.run(ask())) == 0
