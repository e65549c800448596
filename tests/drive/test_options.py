"""What a call may ask for beside its question, and whose keys and connections are used for it."""

from __future__ import annotations

import io
import logging
import pickle
import traceback
import urllib.request
from typing import Any

import httpx
import pytest

from resilient_llm import AsyncResilientClient, ResilientClient
from resilient_llm.errors import (
    CallFailed,
    ConfigurationError,
    FaultKind,
    InvalidRequest,
    NoProviderAvailable,
    RequestRejected,
)
from resilient_llm.model import ChatRequest, ChatResponse, Message, Text, Tool, ToolCall
from resilient_llm.testing import Hang, LoopbackLLM, RateLimit, Reply, Reset, Status
from resilient_llm.wire.kit.caching import derived_key
from tests.drive.clients import World, openai

httpx2 = pytest.importorskip("httpx2", reason="the peers extra is not installed")

ANSWER = "Hello from the loopback server."
CANARY = "sk-canary-0123456789abcdef"


# --- validate and fallback ---


@pytest.mark.parametrize("how", ["False", "ValueError"])
def test_an_answer_the_caller_rejects_is_asked_for_elsewhere(world: World, how: str) -> None:
    def check(response: ChatResponse) -> bool:
        if how == "ValueError" and response.text == "bad":
            raise ValueError("too bad")
        return response.text != "bad"

    client, _, _ = world.pair(Reply("bad"))
    response = client.chat(validate=check)
    assert response.text == ANSWER
    fault = response.attempts[0].fault
    assert fault is not None
    assert fault.kind is FaultKind.INVALID_RESPONSE
    assert client.health()["first"].breaker == "closed"


LOOK = Tool("look", "", {"type": "object", "properties": {"where": {"type": "string"}}, "required": ["where"]})


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (ToolCall("a", "look", '{"where": 1}'), "do not fit its schema"),
        (ToolCall("a", "look", '{"where": "he'), "no JSON object"),
        (ToolCall("a", "jump", "{}"), "no tool that was offered"),
    ],
)
def test_a_tool_call_that_could_not_be_run_is_asked_for_elsewhere(world: World, call: ToolCall, told: str) -> None:
    client, first, second = world.pair(Reply("", tool_calls=(call,)))
    good = ToolCall("b", "look", '{"where": "here"}')
    second.default = Reply("", tool_calls=(good,))
    response = client.chat(tools=[LOOK], validate="tools")
    assert (response.provider, response.tool_calls[0].arguments) == ("second", good.arguments)
    fault = response.attempts[0].fault
    assert fault is not None
    assert (fault.kind, told in fault.message) == (FaultKind.INVALID_RESPONSE, True)
    assert client.health()["first"].breaker == "closed"
    first.default = Reply("", tool_calls=(call,))
    assert client.chat(tools=[LOOK]).provider == "first"  # unless it is asked for, nobody looks


def test_a_check_of_a_name_that_is_none_is_refused(world: World) -> None:
    client, first, _ = world.pair()
    with pytest.raises(InvalidRequest, match="'tools'"):
        client.chat(validate="tool")
    assert first.request_count == 0


def test_a_validator_that_breaks_is_the_callers_problem_and_leaves_nothing_behind(world: World) -> None:
    def broken(response: ChatResponse) -> bool:
        raise KeyError("bug")

    client, first, second = world.pair()
    with pytest.raises(KeyError):
        client.chat(validate=broken)
    assert client.in_flight() == 0
    assert (first.request_count, second.request_count) == (1, 0)


@pytest.mark.parametrize("kind", ["text", "response", "function", "coroutine"])
def test_a_fallback_is_the_last_answer(world: World, kind: str) -> None:
    async def later(error: CallFailed) -> str:
        return "cached"

    if kind == "coroutine" and world.portal is None:
        pytest.skip("the async client only")
    seen: list[CallFailed] = []

    def function(error: CallFailed) -> str:
        seen.append(error)
        return "cached"

    fallback: Any = {
        "text": "cached",
        "response": ChatResponse((Text("cached"),), provider="cache"),
        "function": function,
        "coroutine": later,
    }[kind]
    client = world.client([openai(world.server(default=Status(500)))], retry={"max_attempts": 1})
    response = client.chat(fallback=fallback)
    assert response.text == "cached"
    assert response.provider == ("cache" if kind == "response" else "fallback")
    assert [record.outcome for record in response.attempts] == ["error"]
    assert len(seen) == (kind == "function")
    healthy = world.client([openai(world.server())])
    assert healthy.chat(fallback=fallback).text == ANSWER


# --- conversations ---


@pytest.mark.parametrize("streamed", [False, True], ids=["chat", "stream"])
def test_a_conversation_has_a_key_of_the_prompt_cache(world: World, streamed: bool) -> None:
    client, first, _ = world.pair()

    def sent(messages: object, **options: Any) -> object:
        if streamed:
            client.stream(messages, **options).text()
        else:
            client.chat(messages, **options)
        return first.requests[-1].json.get("prompt_cache_key")

    turns = (Message("system", (Text("Be short."),)), Message("user", (Text("Hello"),)))
    derived = derived_key(ChatRequest(turns))
    assert sent("Hello", system="Be short.", conversation="c-1") == derived
    assert sent([*turns, ("assistant", "Yes?"), ("user", "And?")], conversation="c-1") == derived
    assert sent("Hello", system="Be short.", tools=[LOOK], conversation="c-1") not in (None, derived)
    assert sent(ChatRequest(turns), conversation="c-1") == derived
    assert sent(ChatRequest(turns, cache_key="mine"), conversation="c-1") == "mine"
    assert sent("Hello", system="Be short.") is None


def test_a_tool_that_is_no_json_is_the_callers_mistake_in_a_conversation_too(world: World) -> None:
    tools = [Tool("look", "", {"enum": {1}})]
    for options in ({}, {"conversation": "c-1"}):
        with pytest.raises(InvalidRequest, match="not JSON serializable"):
            world.client([openai(world.server())]).chat(tools=tools, **options)


# --- whom to ask ---


def test_providers_tags_and_routes_choose_who_may_answer(world: World) -> None:
    servers = [world.server() for _ in range(3)]
    a = openai(servers[0], "a")
    b = openai(servers[1], "b", tags=["eu", "gdpr"])
    c = openai(servers[2], "c", tags=["eu"])
    client = world.client({"main": [a, b], "eu": [c, b]})
    assert client.chat().provider == "a"
    assert client.chat(providers=["b"]).provider == "b"
    assert client.chat(tags=["eu"]).provider == "b"
    assert client.chat(require=["eu"]).provider == "b", "the same by another name"
    with pytest.raises(InvalidRequest, match="give one of them"):
        client.chat(tags=["eu"], require=["gdpr"])
    assert client.chat(route="eu").provider == "c"
    assert client.chat(route="eu", tags=["gdpr", "eu"]).provider == "b"
    with pytest.raises(NoProviderAvailable) as caught:
        client.chat(require=["mars"])
    assert caught.value.reasons == {"a": "lacks the tags mars", "b": "lacks the tags mars"}
    assert [(one.provider, one.eligible) for one in client.raw.explain("hi", require=["eu"])] == [
        ("a", False),
        ("b", True),
    ]


def test_a_prompt_that_cannot_fit_skips_the_provider(world: World) -> None:
    small, large = world.server(), world.server()
    client = world.client([openai(small, "small", context_window=100), openai(large, "large")])
    assert client.chat("x" * 1000).provider == "large"
    assert client.chat("x").provider == "small"
    assert small.request_count == 1


def test_a_conversation_stays_where_it_is(world: World) -> None:
    servers = [world.server() for _ in range(3)]
    client = world.client(
        [[openai(server, f"p{index}") for index, server in enumerate(servers)]],
        advanced={"stickiness": 0.01},
    )
    for home in ("p0", "p1", "p2"):
        client.chat(conversation=f"talk at {home}", providers=[home])
        assert {client.chat(conversation=f"talk at {home}").provider for _ in range(5)} == {home}


def test_embeddings_fail_over_only_within_their_space(world: World) -> None:
    broken, other, same = world.server(default=Status(500)), world.server(), world.server()
    client = world.client(
        [
            openai(broken, "a", embedding_space="small"),
            openai(other, "b"),
            openai(same, "c", embedding_space="small"),
        ]
    )
    response = client.embed(["x", "y"])
    assert response.provider == "c"
    assert len(response.vectors) == 2
    assert other.request_count == 0
    assert [record.provider for record in response.attempts] == ["a", "c"]
    alone = world.client([openai(broken, "a"), openai(other, "b")], retry={"max_attempts": 1})
    with pytest.raises(CallFailed):
        alone.embed("x")
    assert other.request_count == 0
    streaming = world.client([openai(same, "c")])
    assert len(streaming.embed("x").vectors) == 1


def test_drain_isolate_and_replace(world: World) -> None:
    client, first, second = world.pair()
    assert client.raw.drain("first") == 0
    assert client.chat().provider == "second"
    client.raw.restore("first")
    assert client.chat(providers=["first"]).provider == "first"
    client.raw.isolate("first")
    assert client.chat().provider == "second"
    third = world.server()
    assert client.raw.replace_providers([openai(third, "third"), openai(second, "second")]) == ("first",)
    assert client.chat().provider == "third"
    assert first.request_count == 1


def test_headroom_a_provider_reports_closes_its_gate_before_the_429(world: World) -> None:
    limited = world.server(limit=RateLimit(tokens=100, per=60))
    client = world.client([openai(limited, "limited"), openai(world.server(), "other")])
    for _ in range(6):
        client.chat("x" * 160)
    assert all(request.answered_at for request in limited.requests)
    assert client.chat("x" * 160).provider == "other"


# --- keys ---


def test_a_callable_key_is_asked_for_every_attempt(world: World) -> None:
    keys = iter(["k1", "k2", "k3"])
    server = world.server(Status(500))
    client = world.client([openai(server, "a", api_key=lambda: next(keys))], retry={"backoff_base": 0.01})
    client.chat()
    client.chat()
    assert [request.headers["authorization"] for request in server.requests] == ["Bearer k1", "Bearer k2", "Bearer k3"]


def test_an_async_callable_key_works_with_the_async_client(async_world: World) -> None:
    async def key() -> str:
        return "fresh"

    server = async_world.server()
    for source in (key, lambda: key()):  # noqa: PLW0108
        async_world.client([openai(server, "a", api_key=source)]).chat()
    assert {request.headers["authorization"] for request in server.requests} == {"Bearer fresh"}


def test_a_key_that_cannot_be_had_moves_on(world: World) -> None:
    def vault() -> str:
        raise OSError("the vault is shut")

    client = world.client([openai(world.server(), "a", api_key=vault), openai(world.server(), "b")])
    assert client.chat().provider == "b"


def test_no_provider_sees_the_key_of_another(world: World) -> None:
    servers = [world.server(default=Status(503)), world.server(default=Status(500)), world.server()]
    names = ["a", "b", "c"]
    client = world.client(
        [openai(server, name, api_key=f"key-of-{name}") for name, server in zip(names, servers, strict=True)]
    )
    client.chat()
    client.stream().text()
    for name, server in zip(names, servers, strict=True):
        for request in server.requests:
            assert request.headers["authorization"] == f"Bearer key-of-{name}"
            others = [f"key-of-{other}" for other in names if other != name]
            assert not any(other in str(request.headers) + request.body.decode() for other in others)


FAILING: dict[str, Any] = {
    "500": Status(500, message=f"your key {CANARY} is bad"),
    "401": Status(401, message=f"Incorrect API key provided: {CANARY}"),
    "reset": Reset(),
    "html": Status(200, f"<html>{CANARY}</html>"),
    "hang": Hang(),
}


@pytest.mark.parametrize("given", [False, True], ids=["own connections", "a client of the user's"])
@pytest.mark.parametrize("case", [*FAILING, "refused"])
def test_no_repr_traceback_pickle_or_log_shows_a_key(world: World, case: str, given: bool) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        server = world.server(default=FAILING.get(case))
        if case == "refused":
            server.refuse()
        settings: dict[str, Any] = {"retry": {"max_attempts": 2, "backoff_base": 0.01}, "deadline": 0.5}
        if given:
            settings["http_client"] = httpx.Client() if world.portal is None else httpx.AsyncClient()
        provider = openai(server, "a", api_key=CANARY)
        client = world.client([provider], **settings)
        with pytest.raises(CallFailed) as caught:
            client.chat()
        if given:
            closing = settings["http_client"]
            closing.close() if world.portal is None else world.run(closing.aclose)
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    error = caught.value
    shown = "".join(traceback.format_exception(error)) + repr(error) + str(error) + stream.getvalue()
    cause = error.__cause__
    inner = traceback.TracebackException.from_exception(cause, capture_locals=True) if cause else None
    shown += "".join(inner.format()) if inner else ""
    shown += repr(provider) + repr(vars(provider)) + repr(client.raw) + repr(client.raw.pool) + repr(client.health())
    shown += pickle.dumps(error).decode("latin-1")
    seen: BaseException | None = cause
    while seen is not None:
        shown += repr(vars(seen)) + repr(
            getattr(getattr(seen, "_request", None), "headers", None).__dict__
            if getattr(seen, "_request", None)
            else ""
        )
        seen = seen.__cause__ or seen.__context__
    assert CANARY not in shown
    with pytest.raises(TypeError):
        pickle.dumps(client.raw)
    with pytest.raises(TypeError):
        pickle.dumps(provider)


def test_trace_context_is_not_sent_unless_asked(world: World) -> None:
    from opentelemetry.sdk.trace import TracerProvider

    server = world.server()
    client = world.client([openai(server, "a")], tracer_provider=TracerProvider())
    client.chat()
    client.stream().text()
    assert not any({"traceparent", "baggage", "tracestate"} & set(request.headers) for request in server.requests)
    asking = world.client([openai(server, "b", propagate_trace_context=True)], tracer_provider=TracerProvider())
    asking.chat()
    assert "traceparent" in server.requests[-1].headers
    assert "baggage" not in server.requests[-1].headers


# --- connections ---


class Watched:
    """Counts what goes through a client of the user's."""

    def __init__(self, kind: str, package: Any) -> None:
        self.seen: list[str] = []
        hooks = {"request": [self._note if kind == "sync" else self._anote]}
        made = package.Client if kind == "sync" else package.AsyncClient
        self.client = made(event_hooks=hooks, follow_redirects=True)

    def _note(self, request: Any) -> None:
        self.seen.append(str(request.url))

    async def _anote(self, request: Any) -> None:
        self.seen.append(str(request.url))


@pytest.mark.parametrize("package", [httpx, httpx2], ids=["httpx", "httpx2"])
def test_a_client_of_the_users_is_used_as_it_is(world: World, package: Any) -> None:
    watched = Watched(world.kind, package)
    server = world.server()
    client = world.client([openai(server)], http_client=watched.client)
    assert client.chat().text == ANSWER
    assert client.stream().text() == ANSWER
    assert len(watched.seen) == 2
    assert server.connection_count == 1
    server.script(*[Status(307, "", headers={"location": "/elsewhere"})] * 3)  # a retry may come at once
    with pytest.raises(CallFailed):
        client.chat(providers=["first"], deadline=0.1)
    client.close()
    assert not watched.client.is_closed
    if world.portal is None:
        watched.client.close()
    else:
        world.run(watched.client.aclose)


@pytest.mark.parametrize("package", [httpx, httpx2], ids=["httpx", "httpx2"])
def test_failures_through_a_client_of_the_users_are_told_apart(world: World, package: Any) -> None:
    client_of_mine = package.Client() if world.portal is None else package.AsyncClient()
    first, second = world.server(Reset(), Status(503)), world.server()
    client = world.client([openai(first, "a"), openai(second, "b")], http_client=client_of_mine)
    response = client.chat()
    assert response.provider == "b"
    assert response.attempts[0].fault is not None
    assert response.attempts[0].fault.kind is FaultKind.CONNECTION
    stream = client.stream()
    next(stream)
    stream.close()
    if world.portal is None:
        client_of_mine.close()
    else:
        world.run(client_of_mine.aclose)


def test_the_wrong_kind_of_http_client_is_refused() -> None:
    from resilient_llm.errors import ConfigurationError

    with pytest.raises(ConfigurationError, match=r"httpx\.Client"):
        ResilientClient([openai("http://h")], http_client=httpx.AsyncClient())  # type: ignore[arg-type]
    with httpx.Client() as wrong, pytest.raises(ConfigurationError, match=r"httpx\.AsyncClient"):
        AsyncResilientClient([openai("http://h")], http_client=wrong)  # type: ignore[arg-type]


def test_a_proxy_of_the_environment_is_used(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = world.server()
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.setattr(urllib.request, "getproxies", lambda: {"http": proxy.url})
    client = world.client([openai("http://llm.example", "far", allow_http=True)])
    assert client.chat().text == ANSWER
    assert proxy.requests[0].path == "http://llm.example/v1/chat/completions"


def test_a_proxy_that_cannot_be_used_is_no_providers_fault(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urllib.request, "getproxies", lambda: {"http": "ftp://user:canary-word@127.0.0.1:9"})
    monkeypatch.setattr(urllib.request, "proxy_bypass", lambda host: False)
    client = world.client([openai(world.server())])
    with pytest.raises(ConfigurationError, match=r"proxy.*'ftp'") as refused:
        client.chat()
    assert "canary" not in str(refused.value)
    assert client.health()["first"].error_rate is None


def test_a_request_at_fault_is_not_sent_twice(world: World) -> None:
    client, first, second = world.pair(Status(400, message="bad parameter", code="invalid_request_error"))
    with pytest.raises(RequestRejected):
        client.chat()
    assert (first.request_count, second.request_count) == (1, 0)
    assert isinstance(first, LoopbackLLM)
