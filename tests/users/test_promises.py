"""Ends, effects and operation, as a user sees them."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from resilient_llm import (
    AsyncResilientClient,
    CallFailed,
    ClientClosed,
    DeadlineExceeded,
    NoProviderAvailable,
    ResilientClient,
)
from tests.users.server import SILENT, WELL, Answer, Network, echo, failed
from tests.users.using import openai


def in_thread(work: object) -> tuple[threading.Thread, list[object]]:
    """Run it elsewhere; what it returned or raised."""
    ends: list[object] = []

    def run() -> None:
        try:
            ends.append(work())  # type: ignore[operator]
        except Exception as error:
            ends.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, ends


def until(condition: object, seconds: float = 3.0) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.01)


def test_close_lets_calls_and_streams_finish_and_tells_who_waits(network: Network) -> None:
    a = network.provider(Answer(delay=0.3, pace=0.05))
    client = ResilientClient([openai(a, "a", max_concurrency=2)])
    prompt = "one two three"

    def streamed() -> str:
        with client.stream(prompt) as stream:
            return "".join(stream.text_deltas())

    running = [in_thread(lambda: client.chat(prompt).text), in_thread(streamed)]
    until(lambda: len(a.requests) == 2)
    waiting, told = in_thread(lambda: client.chat("me too", deadline=10))
    until(lambda: client.health()["a"].waiting == 1)
    client.close(drain=5)
    for thread, _ in [*running, (waiting, told)]:
        thread.join(5)
    assert [ends for _, ends in running] == [[echo(prompt)], [echo(prompt)]]
    assert len(told) == 1
    assert isinstance(told[0], ClientClosed)
    with pytest.raises(ClientClosed):
        client.chat("too late")


def test_aclose_lets_calls_and_streams_finish_and_tells_who_waits(network: Network) -> None:
    a = network.provider(Answer(delay=0.3, pace=0.05))
    prompt = "one two three"

    async def scenario() -> list[object]:
        client = AsyncResilientClient([openai(a, "a", max_concurrency=2)])

        async def streamed() -> str:
            async with client.stream(prompt) as stream:
                return "".join([text async for text in stream.text_deltas()])

        async def whole(text: str) -> str:
            return (await client.chat(text, deadline=10)).text

        tasks = [asyncio.create_task(whole(prompt)), asyncio.create_task(streamed())]
        await asyncio.to_thread(until, lambda: len(a.requests) == 2)
        tasks.append(asyncio.create_task(whole("me too")))
        await asyncio.to_thread(until, lambda: client.health()["a"].waiting == 1)
        await client.aclose(drain=5)
        return list(await asyncio.gather(*tasks, return_exceptions=True))

    whole, streamed, waited = asyncio.run(scenario())
    assert (whole, streamed) == (echo(prompt), echo(prompt))
    assert isinstance(waited, ClientClosed)


def test_a_drain_that_is_too_short_ends_what_runs(network: Network) -> None:
    a = network.provider(SILENT)
    client = ResilientClient([openai(a, "a")])
    thread, ends = in_thread(lambda: client.chat("hi", deadline=30))
    until(lambda: bool(a.requests))
    began = time.monotonic()
    client.close(drain=0.3)
    thread.join(5)
    assert isinstance(ends[0], ClientClosed)
    assert time.monotonic() - began < 2


def open_breaker(client: ResilientClient) -> None:
    for number in range(20):
        client.chat(f"{number}", deadline=5)
        if client.health()["a"].breaker != "closed":
            return
    raise AssertionError(client.health()["a"])


def test_a_call_with_effects_takes_no_part_in_trials(network: Network) -> None:
    a, b = network.provider(failed(500)), network.provider()
    with ResilientClient([openai(a, "a"), openai(b, "b")], breaker={"open_base": 0.1, "open_cap": 0.1}) as client:
        open_breaker(client)
        before = len(a.requests)
        time.sleep(0.2)
        for number in range(10):
            assert client.chat(f"{number}", idempotent=False, deadline=5).provider == "b"
        assert len(a.requests) == before
        client.chat("a call that may be repeated", deadline=5)
        assert len(a.requests) == before + 1


def test_a_call_with_effects_is_not_rescued(network: Network) -> None:
    a, b = network.provider(Answer(delay=1.5)), network.provider()
    with ResilientClient([openai(a, "a"), openai(b, "b")]) as client:
        assert client.chat("hi", idempotent=False, deadline=2.0).provider == "a"
    assert (len(a.requests), len(b.requests)) == (1, 0)


@pytest.mark.parametrize(
    "bad",
    [
        failed(500),
        failed(429, retry_after="200"),
        failed(401, "Incorrect API key provided", kind="invalid_request_error"),
        failed(429, "You exceeded your current quota", kind="insufficient_quota"),
    ],
    ids=["down", "limited", "key", "quota"],
)
def test_restore_opens_everything(network: Network, bad: Answer) -> None:
    a, b = network.provider(bad), network.provider()
    with ResilientClient([openai(a, "a"), openai(b, "b")]) as client:
        for number in range(8):
            assert client.chat(f"{number}", deadline=5).provider == "b"
        a.say(WELL)
        client.restore("a")
        assert client.chat("hi", deadline=5).provider == "a"


def test_time_out_is_told_only_when_time_has_passed(network: Network) -> None:
    silent = network.provider(SILENT)
    with ResilientClient([openai(silent, "a")]) as client:
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            client.chat("hi", deadline=0.5)
        assert time.monotonic() - began >= 0.5


def test_who_cannot_be_served_in_time_is_told_at_once_with_the_earliest_wait(network: Network) -> None:
    a, b = network.provider(failed(429, retry_after="90")), network.provider(failed(429, retry_after="40"))
    with ResilientClient([openai(a, "a"), openai(b, "b")]) as client:
        began = time.monotonic()
        for _ in range(2):
            with pytest.raises(NoProviderAvailable) as failure:
                client.chat("hi", deadline=20)
            assert failure.value.retry_after == pytest.approx(40, abs=1)
            assert set(failure.value.reasons) == {"a", "b"}
        assert time.monotonic() - began < 1
    assert (len(a.requests), len(b.requests)) == (1, 1)


def test_a_total_outage_tells_when_to_come_back(network: Network) -> None:
    a, b = network.provider(failed(503)), network.provider(failed(503))
    with ResilientClient([openai(a, "a"), openai(b, "b")]) as client:
        for _ in range(12):
            with pytest.raises(CallFailed):
                client.chat("hi", deadline=0.5, when_down="fail")
            if {health.breaker for health in client.health().values()} == {"open"}:
                break
        with pytest.raises(CallFailed) as failure:
            client.chat("hi", deadline=0.5, when_down="fail")
    assert failure.value.retry_after is not None
    assert 0 <= failure.value.retry_after <= 20
