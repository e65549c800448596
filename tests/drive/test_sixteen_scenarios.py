"""An acceptance suite: sixteen ways in which a provider fails, and what an application may expect each time.

The list of situations is the one of the failoverbench project (its S01 to S16); expectations and code are ours.
"""

from __future__ import annotations

import time
from typing import Any

import pytest

from resilient_llm.errors import FaultKind, RequestRejected, StreamInterrupted
from resilient_llm.providers import Anthropic
from resilient_llm.testing import Cut, Hang, Malformed, Reply, Reset, Stall, Status
from tests.drive.clients import World, eventually, openai

ANSWER = "Hello from the loopback server."
TOO_LONG = Status(400, message="This model's maximum context length is 8192 tokens", code="context_length_exceeded")
FILTERED = Status(400, message="The prompt was filtered", code="content_filter")
FAST = {"open_base": 0.2, "open_cap": 0.2, "successes": 1, "consecutive": 3}


def seconds(world: World, client: Any, provider: str = "second") -> float:
    """How long a call takes that ``provider`` answers."""
    began = time.perf_counter()
    assert client.chat().provider == provider
    return time.perf_counter() - began


def test_s01_rate_limited_once_with_retry_after(world: World) -> None:
    client, first, _ = world.pair(Status(429, retry_after=1))
    assert seconds(world, client) < 0.5
    assert seconds(world, client) < 0.5
    assert first.request_count == 1  # left alone for as long as it asked


def test_s02_rate_limited_for_good(world: World) -> None:
    client, first, _ = world.pair()
    first.default = Status(429, retry_after=30)
    assert max(seconds(world, client) for _ in range(5)) < 0.5
    assert first.request_count == 1


def test_s03_a_single_server_error(world: World) -> None:
    client, first, _ = world.pair()
    for _ in range(5):
        client.chat()
    first.script(Status(500))
    assert seconds(world, client) < 0.5
    assert client.chat().provider == "first"  # one error is no reason to leave


def test_s04_unavailable_for_good(world: World) -> None:
    client, first, _ = world.pair()
    first.default = Status(503)
    assert max(seconds(world, client) for _ in range(30)) < 0.5
    assert first.request_count <= 15


def test_s05_connection_reset(world: World) -> None:
    client, _, _ = world.pair(Reset())
    assert seconds(world, client) < 0.5


def test_s06_no_response_at_all(world: World) -> None:
    client, _, _ = world.pair(Hang(), timeouts={"first_token": 0.3}, deadline=1.0)
    assert seconds(world, client) < 0.8  # half the deadline, or the timeout, whichever is sooner


def test_s07_a_first_token_that_takes_too_long(world: World) -> None:
    client, first, _ = world.pair(Reply(first_token=20), timeouts={"first_token": 0.3})
    stream = client.stream()
    began = time.perf_counter()
    assert stream.text() == ANSWER
    assert time.perf_counter() - began < 1
    assert stream.response.provider == "second"
    first.wait_for(lambda s: s.requests[0].hung_up_at)


@pytest.mark.parametrize("how", ["close", "reset", "end"])
def test_s08_a_stream_cut_after_content_is_never_a_success(world: World, how: Any) -> None:
    client, _, _ = world.pair(Reply("one two three", fault=Cut(1, how=how)))
    with pytest.raises(StreamInterrupted) as caught:
        client.stream().text()
    assert caught.value.partial is not None
    assert caught.value.partial.text == "one "


def test_s08_a_stream_cut_before_content_is_a_failover(world: World) -> None:
    client, _, _ = world.pair(Reply(fault=Cut(0)))
    assert client.stream().text() == ANSWER


def test_s09_a_stream_that_stalls(world: World) -> None:
    client, _, _ = world.pair(Reply("one two three", fault=Stall(1)), timeouts={"idle": 0.2})
    began = time.perf_counter()
    with pytest.raises(StreamInterrupted) as caught:
        client.stream().text()
    assert time.perf_counter() - began < 1
    assert caught.value.partial is not None
    assert caught.value.partial.text == "one "


def test_s10_a_malformed_chunk(world: World) -> None:
    client, _, _ = world.pair(Reply("one two three", fault=Malformed(1)))
    with pytest.raises(StreamInterrupted):
        client.stream().text()
    client, _, _ = world.pair(Reply(fault=Malformed(0)))
    assert client.stream().text() == ANSWER


def test_s11_a_missing_done_marker(world: World) -> None:
    client, _, second = world.pair(Reply("one two", terminal=False))
    assert client.stream().text() == "one two"  # the finish reason says that it is whole
    assert second.request_count == 0


def test_s12_a_context_that_is_too_long(world: World) -> None:
    small, large = world.server(default=TOO_LONG), world.server()
    client = world.client([openai(small, "small", context_window=8192), openai(large, "large", context_window=100_000)])
    assert seconds(world, client, "large") < 0.5
    alone = world.client([openai(small, "small", context_window=8192), openai(small, "twin", context_window=8192)])
    with pytest.raises(RequestRejected) as caught:
        alone.chat()
    assert caught.value.fault is not None
    assert caught.value.fault.kind is FaultKind.CONTEXT_LENGTH
    assert small.request_count == 2  # nobody else of that size was asked
    assert alone.health()["small"].success_rate >= 0.95


def test_s13_a_content_filter_is_not_routed_around(world: World) -> None:
    client, first, second = world.pair(FILTERED)
    with pytest.raises(RequestRejected) as caught:
        client.chat()
    assert caught.value.fault is not None
    assert caught.value.fault.kind is FaultKind.CONTENT_FILTER
    assert (first.request_count, second.request_count) == (1, 0)
    assert client.health()["first"].success_rate >= 0.95


def test_s14_a_fallback_that_would_reject_a_prefill_is_asked_the_original_question(world: World) -> None:
    first, second = world.server(Reply("one two three", fault=Cut(1))), world.server()
    client = world.client(
        [openai(first, "first"), Anthropic("claude-sonnet-5", id="claude", base_url=second.url, api_key="k")]
    )
    with pytest.raises(StreamInterrupted):
        client.stream().text()
    assert second.request_count == 0  # nothing is continued unasked
    first.script(Reply(fault=Cut(0)))
    assert client.stream().text() == ANSWER
    messages: Any = second.requests[0].json["messages"]
    assert [message["role"] for message in messages] == ["user"]


def test_s15_an_outage_and_a_return(world: World) -> None:
    client, first, _ = world.pair(breaker=FAST, advanced={"memory": 0.1})
    first.default = Status(500)
    for _ in range(15):
        assert client.chat().provider == "second"
    during = first.request_count
    assert during <= 6  # three to open, and what the slow start of other parts allows
    first.default = Reply()
    eventually(lambda: client.chat().provider == "first")
    assert client.health()["first"].breaker == "closed"


def test_s16_the_books_are_right(world: World) -> None:
    client, first, second = world.pair(Status(500), Reply(), Status(429, retry_after=0.05))
    responses = [client.chat() for _ in range(10)]
    told = [record for response in responses for record in response.attempts]
    for server, name in ((first, "first"), (second, "second")):
        assert server.request_count == sum(record.provider == name for record in told)
    for response in responses:
        assert response.attempts[-1].provider == response.provider
        assert response.attempts[-1].outcome == "success"
        assert [record.number for record in response.attempts] == list(range(1, len(response.attempts) + 1))
        assert response.usage is not None
