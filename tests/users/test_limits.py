"""Rate limits: a wait that was asked for is made, no longer than asked, and costs no attempt."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from resilient_llm import AsyncResilientClient, NoProviderAvailable, ResilientClient
from resilient_llm.model import ChatRequest, Json, Media, Message, Text, ToolCall, ToolResult
from resilient_llm.options import prompt_tokens
from resilient_llm.testing import instant
from tests.users.server import WELL, Answer, Network, Received, echo, failed
from tests.users.using import calls, openai


class Bucket:
    """A true token bucket of 30,000 tokens with OpenAI's headers, where ``reset`` is the time until it is *full*.  Each
    request takes 1,000.  It has ``level`` at first."""

    def __init__(self, rate: float, level: float = 1500.0) -> None:
        self._rate = rate
        self._level = level
        self._at = time.monotonic()
        self.refused = 0

    def __call__(self, request: Received) -> Answer:
        self._level = min(30_000.0, self._level + (request.at - self._at) * self._rate)
        self._at = request.at
        fits = self._level >= 1000
        if fits:
            self._level -= 1000
        headers = {
            "x_ratelimit_limit_tokens": "30000",
            "x_ratelimit_remaining_tokens": str(int(self._level)),
            "x_ratelimit_reset_tokens": f"{(30_000 - self._level) / self._rate:.3f}s",
        }
        if fits:
            return Answer(headers=tuple((name.replace("_", "-"), value) for name, value in headers.items()))
        self.refused += 1
        wait = (1000 - self._level) / self._rate
        return failed(429, "tokens per min", kind="tokens", **headers, retry_after_ms=str(int(wait * 1000) + 1))


@pytest.mark.parametrize(
    ("rate", "deadline"), [(10_000.0, 1.0), pytest.param(500.0, 10.0, marks=pytest.mark.slow)], ids=["fast", "real"]
)
def test_a_token_bucket_that_is_nearly_empty_serves_everybody(network: Network, rate: float, deadline: float) -> None:
    """22 prompts of 1,000 tokens at 1.1 times what comes back; the second run has 30,000 tokens a minute."""
    bucket = Bucket(rate)
    provider = network.provider(bucket)
    prompts = [f"{number} {'word ' * 800}" for number in range(22)]

    async def scenario() -> int:
        async with AsyncResilientClient([openai(provider, "a")]) as client:
            return len((await calls(client, prompts, 1.1 * rate / 1000, deadline=deadline)).answered)

    assert asyncio.run(scenario()) == 22
    assert len(provider.requests) <= 22 * 1.5


def test_two_waits_that_both_providers_ask_for_are_made(network: Network) -> None:
    def twice(request: Received) -> Answer:
        return failed(429, "slow down", retry_after="1") if request.index < 2 else WELL

    a, b = network.provider(twice), network.provider(twice)
    began = time.monotonic()
    with ResilientClient([openai(a, "a"), openai(b, "b")]) as client:
        reply = client.chat("hi", deadline=10)
    assert reply.text == echo("hi")
    assert 1.9 < time.monotonic() - began < 3.5


@pytest.mark.parametrize("number", range(5))
def test_a_wait_of_55_seconds_is_made_within_the_deadline(network: Network, number: int) -> None:
    """Five times, because jitter must not decide."""
    provider = network.provider(lambda request: failed(429, retry_after="55") if request.index == 0 else WELL)
    with ResilientClient([openai(provider, "a")]) as client, instant(client) as clock:
        began = clock()
        assert client.chat("hi", deadline=100).text == echo("hi")
        assert 55 <= clock() - began < 100


def test_a_wait_beyond_the_deadline_is_told_at_once_and_as_it_was_sent(network: Network) -> None:
    provider = network.provider(failed(429, retry_after="55"))
    began = time.monotonic()
    with ResilientClient([openai(provider, "a")]) as client:
        for _ in range(2):
            with pytest.raises(NoProviderAvailable) as failure:
                client.chat("hi", deadline=10)
            assert failure.value.retry_after == pytest.approx(55, abs=1)
            assert failure.value.reasons["a"]
    assert time.monotonic() - began < 2
    assert len(provider.requests) == 1


@pytest.mark.parametrize(
    ("part", "tokens"),
    [
        (Text("word " * 800), 1000),
        (Text("日本語" * 100), 225),
        (Media("image", "image/png", url="https://example.org/a.png"), 1000),
        (ToolCall("1", "f", '{"a": "%s"}' % ("x" * 3991)), 1016),
        (ToolResult("1", (Text("x" * 4000), Json({"a": 1}))), 1018),
    ],
)
def test_the_length_of_a_prompt_is_estimated_with_everything_that_is_in_it(part: Any, tokens: int) -> None:
    assert prompt_tokens(ChatRequest((Message("user", (part,)),))) == tokens
