"""Misuse is told at once, by name and with what would be right; nothing is sent and nothing changes."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from resilient_llm import AsyncResilientClient, ResilientClient
from resilient_llm.errors import CallFailed, ConfigurationError, FaultKind, InvalidRequest
from resilient_llm.model import ChatRequest, Message, Text, Tool
from resilient_llm.providers import Anthropic, Function, OpenAI, OpenAICompatible
from resilient_llm.testing import LoopbackLLM, Status
from tests.drive.clients import World, openai


def anyone(name: str = "p", **options: Any) -> OpenAI:
    return OpenAI("m", id=name, api_key="k", base_url="http://127.0.0.1:9", **options)


async def async_key() -> str:
    return "k"


class Idless:
    def chat(self, request: ChatRequest, *, timeout: float) -> str:
        return "hi"


CLIENTS: dict[str, tuple[Any, str]] = {
    "no providers": (lambda make: make([]), "empty"),
    "no routes": (lambda make: make({}), "at least one"),
    "an empty route": (lambda make: make({"a": []}), "empty"),
    "an empty tier": (lambda make: make([[]]), "no providers"),
    "nothing": (lambda make: make(), "providers"),
    "a string": (lambda make: make("openai"), "'openai'"),
    "a provider that is none": (lambda make: make([42]), "42"),
    "a bare callable": (lambda make: make([print]), "Function"),
    "a provider without an id": (lambda make: make([Idless()]), "id"),
    "a class": (lambda make: make([OpenAI]), "OpenAI"),
    "equal ids": (lambda make: make([anyone("same"), anyone("same")]), "'same'"),
    "one id, two providers in two routes": (lambda make: make({"a": [anyone("x")], "b": [anyone("x")]}), "'x'"),
    "a nameless route": (lambda make: make({"": [anyone()]}), "name"),
    "an unknown setting": (lambda make: make([anyone()], retries=3), "'retries'"),
    "an unknown policy field": (lambda make: make([anyone()], retry={"attempts": 3}), "'attempts'"),
    "a policy of another kind": (lambda make: make([anyone()], retry=3), "3"),
    "a policy value out of range": (lambda make: make([anyone()], retry={"max_attempts": 0}), "max_attempts"),
    "a deadline of zero": (lambda make: make([anyone()], deadline=0), "0"),
    "a deadline that is no number": (lambda make: make([anyone()], deadline=math.nan), "nan"),
    "a listener that is none": (lambda make: make([anyone()], listeners=[3]), "3"),
    "a listener that is in no list": (lambda make: make([anyone()], listeners=print), "print"),
    "a name that is no text": (lambda make: make([anyone()], name=3), "3"),
    "pool and providers": (lambda make: make([anyone()], pool=make([anyone()]).pool), "not both"),
    "pool and settings": (lambda make: make(pool=make([anyone()]).pool, deadline=3), "deadline="),
    "a foreign http client": (lambda make: make([anyone()], http_client=object()), "object"),
    "a weight of zero": (lambda make: make([anyone(weight=0)]), "weight"),
    "a function's negative weight": (lambda make: make([Function(lambda r: "x", id="f", weight=-1)]), "weight"),
    "a function's concurrency": (
        lambda make: make([Function(lambda r: "x", id="f", max_concurrency=0)]),
        "max_concurrency",
    ),
    "tags that are one string": (lambda make: make([anyone(tags="eu")]), "tags"),
    "a function's tags that are one string": (lambda make: make([Function(lambda r: "x", id="f", tags="eu")]), "tags"),
    "a function that is none": (lambda make: make([Function("x")]), "'x'"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("drain", [-1, math.nan, "5", None, True], ids=repr)
def test_a_drain_that_is_no_time_closes_nothing(drain: Any) -> None:
    with ResilientClient([Function(lambda request: "hi", id="f")]) as client:
        with pytest.raises(ConfigurationError, match="drain must be a number of seconds"):
            client.close(drain=drain)
        with pytest.raises(ConfigurationError, match="drain must be a number of seconds"):
            asyncio.run(AsyncResilientClient(pool=client.pool).aclose(drain=drain))
        assert client.chat("hello").text == "hi"


@pytest.mark.parametrize("make", [ResilientClient, AsyncResilientClient], ids=["sync", "async"])
@pytest.mark.parametrize("case", CLIENTS)
def test_a_client_that_makes_no_sense_is_refused(case: str, make: Any) -> None:
    build, told = CLIENTS[case]
    with pytest.raises(ConfigurationError) as caught:
        build(make)
    assert told in str(caught.value)


PROVIDERS: dict[str, tuple[Any, str]] = {
    "no model": (lambda: OpenAI("", api_key="k"), "''"),
    "an unknown option": (lambda: OpenAI("m", api_key="k", timeout=3), "'timeout'"),  # type: ignore[call-arg]
    "an empty key": (lambda: OpenAI("m", api_key=""), "api_key"),
    "a key with its scheme": (lambda: OpenAI("m", api_key="Bearer sk-123456"), "'Bearer', which is added by itself"),
    "a key with a newline": (lambda: OpenAI("m", api_key="sk-canary\n"), "printable"),
    "a key of another type": (lambda: OpenAI("m", api_key=3), "int"),  # type: ignore[arg-type]
    "a URL that is none": (lambda: OpenAI("m", api_key="k", base_url="example.com"), "'example.com'"),
    "a URL with a user name": (lambda: OpenAI("m", api_key="k", base_url="https://u:canary@h"), "user name"),
    "no URL": (lambda: OpenAICompatible("m"), "base_url="),
    "a header with a newline": (lambda: anyone(headers={"x": "a\nb"}), "'x'"),
    "a context window of zero": (lambda: anyone(context_window=0), "0"),
    "a concurrency of True": (lambda: anyone(max_concurrency=True), "True"),
    "an infinite weight": (lambda: anyone(weight=math.inf), "inf"),
    "an id that is no string": (lambda: anyone(3), "3"),  # type: ignore[arg-type]
    "params that are no mapping": (lambda: anyone(params=[1]), "params"),
}


@pytest.mark.parametrize("case", PROVIDERS)
def test_a_provider_that_makes_no_sense_is_refused(case: str) -> None:
    build, told = PROVIDERS[case]
    with pytest.raises(ConfigurationError) as caught:
        build()
    assert told in str(caught.value)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(("kind", "variable"), [(OpenAI, "OPENAI_API_KEY"), (Anthropic, "ANTHROPIC_API_KEY")])
def test_a_missing_key_names_its_environment_variable(monkeypatch: Any, kind: Any, variable: str) -> None:
    monkeypatch.delenv(variable, raising=False)
    with pytest.raises(ConfigurationError, match=variable) as caught:
        kind("m")
    assert "api_key=" in str(caught.value)


def test_an_async_key_needs_the_async_client() -> None:
    with pytest.raises(ConfigurationError, match="AsyncResilientClient"):
        ResilientClient([anyone("x"), OpenAI("m", api_key=async_key)])
    client = ResilientClient([anyone("x")])
    with pytest.raises(ConfigurationError, match="AsyncResilientClient"):
        client.replace_providers([OpenAI("m", api_key=async_key)])
    shared = AsyncResilientClient([OpenAI("m", api_key=async_key)])
    with pytest.raises(ConfigurationError, match="AsyncResilientClient"):
        ResilientClient(pool=shared.pool)


def test_a_callable_that_turns_out_async_is_told_at_the_call() -> None:
    with LoopbackLLM() as server:
        client = ResilientClient([openai(server, "a", api_key=lambda: async_key())])  # noqa: PLW0108
        with client, pytest.raises(ConfigurationError, match="AsyncResilientClient"):
            client.chat("hi")
        assert server.request_count == 0
        assert client.health()["a"].success_rate >= 0.95


@pytest.mark.parametrize("bad", ["", "sk-canary\nx-evil: 1", None, 3, "schlüssel"])
def test_a_key_that_cannot_be_sent_is_a_failed_attempt_and_not_shown(world: World, bad: Any) -> None:
    server = world.server()
    client = world.client([openai(server, "a", api_key=lambda: bad)])
    with pytest.raises(CallFailed) as caught:
        client.chat()
    assert "canary" not in str(caught.value)
    assert caught.value.fault is not None
    assert caught.value.fault.kind is FaultKind.AUTH
    assert server.request_count == 0


SIX = {"role": "user", "content": "hi"}
CHATS: dict[str, tuple[Any, dict[str, Any], str]] = {
    "an empty prompt": ("", {}, "empty"),
    "a blank prompt": ("  ", {}, "empty"),
    "no messages": ([], {}, "empty"),
    "no prompt": (None, {}, "None"),
    "a number": (3, {}, "3"),
    "one message": (SIX, {}, "sequence"),
    "one Message": (Message("user", (Text("hi"),)), {}, "sequence"),
    "a message that is none": ([SIX, 3], {}, "messages[1]"),
    "an unknown role": ([{"role": "boss", "content": "hi"}], {}, "'boss'"),
    "an unknown role of a Message": ([Message("boss", (Text("hi"),))], {}, "'boss'"),  # type: ignore[arg-type]
    "a Message whose parts are text": ([Message("user", "hi")], {}, "messages[0]"),  # type: ignore[arg-type]
    "no content": ([{"role": "user"}], {}, "content"),
    "content of another type": ([{"role": "user", "content": 3}], {}, "3"),
    "an unknown content part": ([{"role": "user", "content": [3]}], {}, "messages[0]"),
    "a tool result without a call": ([{"role": "tool", "content": "x"}], {}, "tool_call_id"),
    "an unknown option": ("hi", {"temprature": 1}, "'temprature'"),
    "a deadline of zero": ("hi", {"deadline": 0}, "0"),
    "a negative deadline": ("hi", {"deadline": -1.5}, "-1.5"),
    "a deadline that is no number": ("hi", {"deadline": math.nan}, "nan"),
    "a deadline of True": ("hi", {"deadline": True}, "True"),
    "a deadline as text": ("hi", {"deadline": "5"}, "'5'"),
    "an unknown route": ("hi", {"route": "nowhere"}, "'nowhere'"),
    "an unknown provider": ("hi", {"providers": ["nobody"]}, "'nobody'"),
    "providers as one string": ("hi", {"providers": "p"}, "providers"),
    "tags as one string": ("hi", {"tags": "eu"}, "tags"),
    "require as one string": ("hi", {"require": "eu"}, "require"),
    "a conversation that is no string": ("hi", {"conversation": 5}, "5"),
    "idempotent as text": ("hi", {"idempotent": "no"}, "'no'"),
    "a tool without a name": ("hi", {"tools": [{"type": "function", "function": {}}]}, "name"),
    "a Tool without a name": ("hi", {"tools": [Tool("")]}, "name"),
    "two tools of one name": ("hi", {"tools": [Tool("a"), Tool("a")]}, "'a'"),
    "one tool": ("hi", {"tools": Tool("a")}, "list"),
    "tools that are none": ("hi", {"tools": 5}, "5"),
    "a tool choice that is none": ("hi", {"tool_choice": 5}, "5"),
    "an output that is none": ("hi", {"output": "yaml"}, "'yaml'"),
    "a reasoning that is none": ("hi", {"reasoning": 1.5}, "1.5"),
    "no tokens": ("hi", {"max_tokens": 0}, "0"),
    "max_tokens of True": ("hi", {"max_tokens": True}, "True"),
    "stop that is none": ("hi", {"stop": 5}, "5"),
    "an empty stop": ("hi", {"stop": ["a", ""]}, "stop"),
    "a system prompt that is none": ("hi", {"system": 5}, "5"),
    "extra that is none": ("hi", {"extra": [1]}, "extra"),
    "extra fields that are none": ("hi", {"extra": {"openai_chat": 1}}, "openai_chat"),
    "a whole request and a setting": (
        ChatRequest((Message("user", (Text("hi"),)),)),
        {"temperature": 1.0},
        "temperature=",
    ),
    "something that is no JSON": ("hi", {"extra": {"openai_chat": {"x": object()}}}, "written"),
    "a validator that is none": ("hi", {"validate": 5}, "5"),
    "a fallback that is none": ("hi", {"fallback": 5}, "5"),
}


@pytest.mark.parametrize("case", CHATS)
def test_a_call_that_makes_no_sense_is_refused(world: World, case: str) -> None:
    messages, options, told = CHATS[case]
    server = world.server()
    client = world.client([openai(server, "p")])
    before = client.health()
    with pytest.raises(InvalidRequest) as caught:
        client.chat(messages, **options)
    assert told in str(caught.value)
    assert len(str(caught.value)) < 500
    assert server.request_count == 0
    after = client.health()["p"]
    assert (after.success_rate, after.in_flight, after.samples) == (
        before["p"].success_rate,
        0,
        before["p"].samples,
    )


EMBEDS: dict[str, tuple[Any, dict[str, Any], str]] = {
    "nothing": ([], {}, "[]"),
    "an empty text": ("", {}, "''"),
    "a number": (5, {}, "5"),
    "no text": ([5], {}, "5"),
    "an unknown option": ("x", {"temperature": 1}, "'temperature'"),
    "no dimensions": ("x", {"dimensions": 0}, "0"),
    "dimensions of True": ("x", {"dimensions": True}, "True"),
}


@pytest.mark.parametrize("case", EMBEDS)
def test_embeddings_that_make_no_sense_are_refused(world: World, case: str) -> None:
    inputs, options, told = EMBEDS[case]
    server = world.server()
    client = world.client([openai(server, "p")])
    with pytest.raises(InvalidRequest) as caught:
        client.embed(inputs, **options)
    assert told in str(caught.value)
    assert server.request_count == 0


def test_streams_take_neither_validate_nor_fallback(world: World) -> None:
    client = world.client([openai(world.server())])
    for option in ({"validate": bool}, {"fallback": "x"}):
        with pytest.raises(InvalidRequest, match="chat"):
            client.stream("hi", **option)


def test_a_coroutine_function_as_fallback_needs_the_async_client() -> None:
    async def fallback(error: Exception) -> str:
        return "x"

    with pytest.raises(InvalidRequest, match="AsyncResilientClient"):
        ResilientClient([anyone()]).chat("hi", fallback=fallback)


def test_a_whole_request_is_asked_in_the_way_the_method_says(world: World) -> None:
    server = world.server()
    client = world.client([openai(server)])
    whole = ChatRequest((Message("user", (Text("hi"),)),))
    assert client.chat(ChatRequest(whole.messages, stream=True)).text == "Hello from the loopback server."
    assert client.stream(whole).text() == "Hello from the loopback server."
    assert [request.stream for request in server.requests] == [False, True]


def test_replacing_by_something_unusable_changes_nothing(world: World) -> None:
    server = world.server()
    client = world.client([openai(server, "p")])
    for bad in ([], [anyone("x"), anyone("x")], [3]):
        with pytest.raises(ConfigurationError):
            client.raw.replace_providers(bad)
    for action in (client.raw.drain, client.raw.isolate, client.raw.restore):
        with pytest.raises(ConfigurationError, match="'q'"):
            action("q")
    assert client.chat().provider == "p"


def test_a_key_that_is_none_after_a_failed_attempt_is_in_the_trail(world: World) -> None:
    first, second = world.server(Status(500)), world.server()
    client = world.client([openai(first, "a"), openai(second, "b", api_key=lambda: "")])
    failed = [one.fault.kind for one in client.chat().attempts if one.fault]
    assert failed == [FaultKind.SERVER_ERROR, FaultKind.AUTH], "and then the first one again"
    assert second.request_count == 0
