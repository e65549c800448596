"""What users reported, one test for each."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from resilient_llm import AsyncResilientClient, ResilientClient
from resilient_llm.testing import LoopbackLLM, Status
from tests.drive.clients import KINDS, openai

# --- an interrupt while events are delivered ---


class Interrupt(BaseException):
    """Stands for ``KeyboardInterrupt``, which an event loop would take for its own."""


class InterruptsAt:
    """A listener interrupted at one event."""

    def __init__(self, event: int) -> None:
        self.left = event

    def __call__(self, event: object) -> None:
        self.left -= 1
        if self.left == 0:
            raise Interrupt


@pytest.mark.parametrize("event", range(1, 7))
@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupt_in_a_listener_leaves_nothing_in_flight(kind: str, event: int) -> None:
    with LoopbackLLM(default=Status(503)) as bad, LoopbackLLM() as good:
        targets = [openai(bad, "a"), openai(good, "b")]
        made: Any = ResilientClient if kind == "sync" else AsyncResilientClient
        client = made(targets, listeners=[InterruptsAt(event)])

        async def ask() -> None:
            async with client:
                try:
                    await client.chat("x")
                except Interrupt:
                    pass

        if kind == "sync":
            with client:
                try:
                    client.chat("x")
                except Interrupt:
                    pass
        else:
            anyio.run(ask, backend=kind)
        client.pool.listeners = ()
        assert [standing.in_flight for standing in client.health().values()] == [0, 0]
