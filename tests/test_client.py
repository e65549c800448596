"""The face of both clients: other defaults for a part of a program, streams that start when told to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from resilient_llm import AsyncResilientClient, ResilientClient
from resilient_llm.errors import (
    AllAttemptsFailed,
    CallFailed,
    ClientClosed,
    ConfigurationError,
    FaultKind,
    InvalidRequest,
    ProviderError,
)
from resilient_llm.model import ChatRequest
from resilient_llm.providers import Function


def named(name: str) -> Function:
    return Function(lambda request: name, id=name)


def failing(request: ChatRequest) -> str:
    raise ProviderError("out of order")


def pieces(request: ChatRequest) -> Iterator[str]:
    yield "a"
    yield "b"


def routed(kind: Any = ResilientClient, **settings: Any) -> Any:
    return kind({"smart": [named("big")], "fast": [named("small"), named("other")]}, **settings)


# --- what is no provider ---

KEY = "sk-proj-0123456789abcdefghijklmnop"
ROUTER = {"model_name": "smart", "litellm_params": {"model": "openai/gpt-5.2", "api_key": KEY}}
SDK = type("OpenAI", (), {"__module__": "openai"})()


@pytest.mark.parametrize(
    ("providers", "told"),
    [
        (["openai/gpt-5.2"], "'openai/gpt-5.2' is no provider: make one with a class of resilient_llm.providers"),
        ([KEY], "is no provider: make one"),
        ([ROUTER], "<dict object> is no provider: make one with a class of resilient_llm.providers"),
        (ROUTER, "the providers of a route must be a list, not 'smart'"),
        ({"smart": {"api_key": KEY}}, "the providers of a route must be a list, not <dict object>"),
        ([SDK], r"<OpenAI object> is no provider: .* mount\(openai.OpenAI, client\)"),
        ([object()], "it has no id and chat"),
        (named("big"), r"must be a list, not .*did you mean \[\.\.\.\] around it"),
    ],
)
def test_what_is_no_provider_is_refused_with_the_way_to_make_one_and_no_key(providers: Any, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told) as failed:
        ResilientClient(providers)
    assert KEY not in str(failed.value)


# --- with_options ---


def test_a_view_has_other_defaults_and_a_call_says_the_last_word() -> None:
    client = routed()
    fast = client.with_options(route="fast", deadline=5)
    assert fast.chat("hi").provider == "small"
    assert fast.chat("hi", route="smart").provider == "big"
    assert fast.with_options(providers=["other"]).chat("hi").provider == "other"
    assert client.chat("hi").provider == "big", "the client itself is as it was"
    assert [one.provider for one in fast.explain("hi") if one.eligible] == ["small", "other"]
    assert fast.stream("hi").start().provider == "small"


def test_a_view_shares_everything_else_and_its_end() -> None:
    client = routed()
    view = client.with_options(deadline=5)
    assert type(view) is ResilientClient
    assert view.pool is client.pool
    view.close()
    with pytest.raises(ClientClosed):
        client.chat("hi")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"deadline": 0}, "deadline"),
        ({"when_down": "never"}, "when_down"),
        ({"timeout": 3}, "did you mean deadline="),
        ({"temperature": 1.0}, "temperature"),
    ],
)
def test_defaults_that_make_no_sense_are_refused_at_once(options: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidRequest, match=told):
        routed().with_options(**options)


def test_the_async_client_has_views_too() -> None:
    async def work() -> None:
        async with routed(AsyncResilientClient) as client:
            assert (await client.with_options(route="fast").chat("hi")).provider == "small"

    anyio.run(work)


# --- streams ---


def test_a_stream_starts_when_told_and_says_where_it_is() -> None:
    with ResilientClient([Function(failing, id="a"), Function(pieces, id="b")]) as client:
        stream = client.stream("hi")
        assert repr(stream) == "<ChatStream not started>"
        assert stream.start() is stream
        assert stream.provider == "b"
        assert [record.provider for record in stream.attempts] == ["a"]
        assert repr(stream) == "<ChatStream under way, from 'b'>"
        assert stream.start() is stream, "starting again changes nothing"
        assert list(stream.text_deltas()) == ["a", "b"]
        assert repr(stream) == "<ChatStream complete, from 'b'>"
        early = client.stream("hi").start()
        early.close()
        assert repr(early) == "<ChatStream ended early, from 'b'>"
        never = client.stream("hi")
        never.close()
        assert repr(never) == "<ChatStream closed before it started>"


def test_an_empty_stream_is_asked_for_elsewhere_unless_allowed() -> None:
    def silent(request: ChatRequest) -> Iterator[str]:
        yield from ()

    with ResilientClient([Function(silent, id="a"), Function(pieces, id="b")]) as client:
        stream = client.stream("hi").start()
        assert stream.provider == "b"
        assert stream.attempts[0].fault is not None
        assert stream.attempts[0].fault.kind is FaultKind.INVALID_RESPONSE
        stream.close()
        assert list(client.stream("hi", allow_empty=True).text_deltas()) == []


def test_a_stream_that_nobody_answers_fails_at_its_start() -> None:
    with ResilientClient([Function(failing, id="a")], retry={"max_attempts": 1}) as client:
        stream = client.stream("hi")
        with pytest.raises(AllAttemptsFailed):
            stream.start()
        assert list(stream) == []


def test_an_async_stream_starts_when_told() -> None:
    async def work() -> None:
        async with AsyncResilientClient([Function(pieces, id="b")]) as client:
            stream = client.stream("hi")
            assert repr(stream) == "<AsyncChatStream not started>"
            assert await stream.start() is stream
            assert stream.provider == "b"
            assert [text async for text in stream.text_deltas()] == ["a", "b"]
            assert repr(stream) == "<AsyncChatStream complete, from 'b'>"
        async with AsyncResilientClient([Function(failing, id="a")], retry={"max_attempts": 1}) as client:
            with pytest.raises(CallFailed):
                await client.stream("hi").start()

    anyio.run(work)
