"""A clock that obeys, a listener that remembers, and the fixtures that hand them out."""

from __future__ import annotations

import asyncio

import httpx
import pytest
import trio

from resilient_llm.testing import EventRecorder, LoopbackLLM, ManualClock
from resilient_llm.testing.pytest_plugin import event_recorder, loopback_llm, manual_clock  # noqa: F401


def test_time_passes_only_when_told_to(manual_clock: ManualClock) -> None:  # noqa: F811
    assert manual_clock() == manual_clock() == 1000.0
    assert manual_clock.advance(1.5) == 1001.5
    with pytest.raises(ValueError, match="backwards"):
        manual_clock.advance(-1)
    assert repr(manual_clock) == "ManualClock(1001.5)"


def test_sleeping_takes_no_time_and_is_remembered() -> None:
    clock = ManualClock(5)
    clock.sleep(10)
    clock.sleep(-1)
    asyncio.run(clock.sleep_async(2))
    assert clock() == 17
    assert clock.sleeps == [10, -1, 2]


def test_events_are_kept_and_found_by_class(event_recorder: EventRecorder) -> None:  # noqa: F811
    for event in ("a", 1, "b"):
        event_recorder(event)
    assert event_recorder.events == ["a", 1, "b"]
    assert event_recorder.of(str) == ["a", "b"]
    assert event_recorder.last(str) == "b"
    assert event_recorder.names() == ["str", "int", "str"]
    assert len(event_recorder) == 3
    event_recorder.clear()
    with pytest.raises(LookupError, match="no str"):
        event_recorder.last(str)


def test_the_fixture_is_a_running_server(loopback_llm: LoopbackLLM) -> None:  # noqa: F811
    assert httpx.post(loopback_llm.url + "/chat/completions", json={}).status_code == 200


def test_the_server_serves_trio_as_well() -> None:
    async def main() -> None:
        async with LoopbackLLM() as server, httpx.AsyncClient() as client:
            assert (await client.post(server.url + "/chat/completions", json={})).status_code == 200
            await server.wait_for_async(lambda s: s.request_count == 1)
            with pytest.raises(TimeoutError):
                await server.wait_for_async(lambda s: s.request_count == 2, timeout=0.01)

    trio.run(main)
