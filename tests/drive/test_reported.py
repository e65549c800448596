"""What users reported, one test for each."""

from __future__ import annotations

import gc
import json
import threading
import time
import warnings
import weakref
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest

from resilient_llm import AsyncResilientClient, ResilientClient
from resilient_llm.errors import (
    ClientClosed,
    ConfigurationError,
    DeadlineExceeded,
    FaultKind,
    FaultScope,
    InvalidRequest,
    StreamInterrupted,
)
from resilient_llm.model import ChatRequest, ChatResponse, Message, Text
from resilient_llm.providers import Function, OpenAI
from resilient_llm.testing import Hang, LoopbackLLM, Reply, Status
from tests.drive.clients import KINDS, World, drain, openai

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
                with suppress(Interrupt):
                    await client.chat("x")

        if kind == "sync":
            with client, suppress(Interrupt):
                client.chat("x")
        else:
            anyio.run(ask, backend=kind)
        client.pool.listeners = ()
        assert [standing.in_flight for standing in client.health().values()] == [0, 0]


# --- keys from callables ---


def test_a_blocking_key_callable_neither_stops_the_event_loop_nor_outlasts_its_attempt(async_world: World) -> None:
    server, release = async_world.server(), threading.Event()

    def key() -> str:
        release.wait(10)
        return "k"

    client = async_world.client([openai(server, api_key=key)])

    async def ask() -> None:
        async with anyio.create_task_group() as group:

            async def call() -> None:
                with pytest.raises(DeadlineExceeded):
                    await client.raw.chat("x", deadline=0.3)

            group.start_soon(call)
            for _ in range(5):  # the loop goes on
                await anyio.sleep(0.01)

    try:
        async_world.run(ask)
    finally:
        release.set()
    assert not server.requests


def test_a_blocking_key_callable_runs_beside_the_event_loop(async_world: World) -> None:
    server = async_world.server()
    asked_in: list[int] = []

    def key() -> str:
        asked_in.append(threading.get_ident())
        return "k"

    async def loops_thread() -> int:
        return threading.get_ident()

    async_world.client([openai(server, api_key=key)]).chat()
    assert len(asked_in) == 1
    assert asked_in[0] != async_world.run(loops_thread)


def _vault_down() -> str:
    raise OSError("vault down, token CANARY")


@pytest.mark.parametrize("key", [_vault_down, lambda: None, lambda: "", lambda: " \n", lambda: "k\x00", lambda: 5])
def test_a_key_callable_without_a_key_moves_the_call_on_and_blames_no_endpoint(world: World, key: Any) -> None:
    server = world.server()
    client = world.client([openai(server, "a", api_key=key), openai(server, "b")])
    answer = client.chat()
    assert answer.provider == "b"
    fault = answer.attempts[0].fault
    assert fault is not None
    assert (fault.kind, fault.scope) == (FaultKind.AUTH, FaultScope.CREDENTIAL)
    assert "CANARY" not in fault.message
    standing = client.health()["a"]
    assert (standing.error_rate, standing.breaker) == (None, "closed")
    assert client.chat().provider == "b"  # it was asked again: the next key may be good


def test_the_newline_after_a_key_from_a_file_is_dropped(world: World) -> None:
    server = world.server()
    world.client([openai(server, api_key=lambda: "secret\n")]).chat()
    assert server.requests[0].headers["authorization"] == "Bearer secret"


def test_a_key_that_cannot_be_sent_is_refused_at_construction() -> None:
    with pytest.raises(ConfigurationError):
        openai("http://127.0.0.1:1", api_key="k\n")


# --- async callbacks ---


@pytest.mark.parametrize("refuse", ["with False", "with a ValueError"])
def test_an_async_validate_is_awaited(async_world: World, refuse: str) -> None:
    client, *_ = async_world.pair()

    seen: list[str] = []

    async def first_only(response: ChatResponse) -> bool | None:
        await anyio.lowlevel.checkpoint()
        seen.append(response.text)
        if len(seen) > 1:
            return None
        if refuse == "with False":
            return False
        raise ValueError("not that one")

    answer = client.chat(validate=first_only)
    assert answer.provider == "second"
    fault = answer.attempts[0].fault
    assert fault is not None
    assert fault.kind is FaultKind.INVALID_RESPONSE


def test_an_interrupted_async_validate_leaves_nothing_in_flight(async_world: World) -> None:
    client, *_ = async_world.pair()

    async def broken(response: ChatResponse) -> bool:
        raise KeyError("a mistake of the caller's")

    with pytest.raises(KeyError):
        client.chat(validate=broken)
    assert client.in_flight() == 0


async def _async_check(response: object) -> bool:
    return False


@pytest.mark.parametrize("check", [_async_check, lambda response: _async_check(response)])  # noqa: PLW0108 - it is the point
def test_the_sync_client_refuses_an_async_validate(check: Any) -> None:
    with LoopbackLLM() as server, ResilientClient([openai(server)]) as client:
        with pytest.raises(InvalidRequest, match="AsyncResilientClient"):
            client.chat("x", validate=check)
        assert client.health()["first"].in_flight == 0


def test_an_async_listener_is_refused_and_none_is_none() -> None:
    class Listener:
        async def __call__(self, event: object) -> None: ...

    for listener in (_async_check, Listener()):
        with pytest.raises(ConfigurationError, match="async"):
            ResilientClient([openai("http://127.0.0.1:1")], listeners=[listener])  # type: ignore[list-item]
    ResilientClient([openai("http://127.0.0.1:1")], listeners=None).close()


# --- providers of the user's own, and time ---


@pytest.mark.parametrize("streamed", [False, True])
def test_a_blocking_generator_does_not_run_on_past_the_deadline(world: World, streamed: bool) -> None:
    made: list[int] = []

    def dripping(request: object) -> Iterator[str]:
        for number in range(60):
            time.sleep(0.05)
            made.append(number)
            yield f"w{number} "

    client = world.client([Function(dripping, id="f")])
    if streamed:
        with client.stream(deadline=0.3) as stream, pytest.raises(StreamInterrupted):
            stream.text()
    else:
        with pytest.raises(DeadlineExceeded):
            client.chat(deadline=0.3)
    assert len(made) < 30


def test_a_function_with_a_timeout_parameter_is_told_the_time_it_has(world: World) -> None:
    told: list[float] = []

    def call(request: object, *, timeout: float) -> str:
        told.append(timeout)
        return "x"

    class Callable:
        def __call__(self, request: object, timeout: float = 99) -> str:
            return call(request, timeout=timeout)

    world.client([Function(call, id="f")]).chat(deadline=5)
    world.client([Function(Callable(), id="f")]).chat(deadline=5)
    assert len(told) == 2
    assert all(4 < seconds <= 5 for seconds in told)


@pytest.mark.parametrize("call", [lambda request, **others: repr(others), lambda timeout: "{}", str])
def test_a_function_without_one_is_called_with_the_request_alone(world: World, call: Any) -> None:
    assert world.client([Function(call, id="f")]).chat().text != ""


def test_a_whole_answer_that_came_too_late_is_still_an_answer() -> None:
    def late(request: object) -> str:
        time.sleep(0.2)
        return "late"

    with ResilientClient([Function(late, id="f")], hedge={"enabled": False}) as client:
        assert client.chat("x", deadline=0.1).text == "late"


# --- headers and URLs ---


def test_headers_of_the_users_replace_ours(world: World) -> None:
    server = world.server()
    headers = {"Authorization": "Basic abc", "User-Agent": "mine", "X-Team": "7"}
    world.client([openai(server, headers=headers)]).chat()
    sent = server.requests[0].headers
    assert (sent["authorization"], sent["user-agent"], sent["x-team"]) == ("Basic abc", "mine", "7")


def test_no_header_is_there_twice() -> None:
    provider = openai("http://127.0.0.1:1", headers={"AUTHORIZATION": "a", "authorization": "b", "Content-Type": "c"})
    names = [name for name, _ in provider.prepare(ChatRequest((Message("user", (Text("x"),)),)), "k").headers]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "llm.internal"},
        {"Content-Length": "1"},
        {"x y": "1"},
        {"": "1"},
        {"x:": "1"},
        {"x": "\u00e9"},
        {"x": " 1"},
        {"x": "1\r\n"},
        {"x": 1},
        {1: "x"},
        ["x"],
    ],
)
def test_headers_that_cannot_be_sent_are_refused_at_construction(headers: Any) -> None:
    with pytest.raises(ConfigurationError, match="header"):
        openai("http://127.0.0.1:1", headers=headers)


@pytest.mark.parametrize("url", ["http://h:99999/v1", "http://h:abc", "http://h:0", "http://[::1", 123, b"http://h"])
def test_a_url_that_is_none_is_refused_at_construction(url: Any) -> None:
    with pytest.raises(ConfigurationError, match="base_url"):
        OpenAI("m", api_key="k", base_url=url)


def test_providers_that_were_replaced_are_let_go() -> None:
    def answer(request: object) -> str:
        return "x"

    kept = Function(answer, id="kept")
    with ResilientClient([kept, Function(answer, id="first")]) as client:
        gone = []
        for _ in range(5):
            function = Function(answer, id="f")
            gone.append(weakref.ref(function))
            client.replace_providers([kept, function])
            del function
        gc.collect()
        assert sum(one() is not None for one in gone) == 1
        assert client.chat("x").text == "x"


# --- streams ---


@pytest.mark.parametrize("ask", ["chat", "stream"])
def test_a_hang_that_used_up_the_deadline_is_in_the_trail_with_its_fault(world: World, ask: str) -> None:
    server = world.server()
    client = world.client([openai(server)])
    for _ in range(8):
        client.chat()
    server.default = Hang()
    with pytest.raises(DeadlineExceeded) as caught:
        client.chat(deadline=0.1) if ask == "chat" else client.stream(deadline=0.1).text()
    assert caught.value.fault is not None
    assert caught.value.fault.kind is FaultKind.TIMEOUT
    assert caught.value.fault in [record.fault for record in caught.value.attempts]
    assert {record.outcome for record in caught.value.attempts} == {"error"}


def test_a_second_task_that_reads_a_stream_is_told_and_disturbs_nobody(async_world: World) -> None:
    server = async_world.server(Reply("a b c d e f", interval=0.02))
    client = async_world.client([openai(server)])

    async def ask() -> list[object]:
        results: list[object] = []

        async def read() -> None:
            try:
                results.append(await drain(stream))
            except RuntimeError as error:
                results.append(error)

        async with client.raw.stream("x") as stream, anyio.create_task_group() as group:
            group.start_soon(read)
            group.start_soon(read)
        return results

    told, text = async_world.run(ask)
    assert "being read elsewhere" in str(told)
    assert text == "a b c d e f"
    assert client.health()["first"].breaker == "closed"
    assert not client.health()["first"].error_rate


@pytest.mark.parametrize("begun", [False, True])
def test_a_second_thread_that_reads_a_stream_is_told_and_disturbs_nobody(begun: bool) -> None:
    with (
        LoopbackLLM(default=Reply("a b c d e f", interval=0.3)) as server,
        ResilientClient([openai(server)]) as client,
    ):
        stream = client.stream("x")
        seen = [next(stream)] if begun else []
        reader = threading.Thread(target=lambda: seen.extend(stream))
        reader.start()
        server.wait_for(lambda s: s.request_count == 1)
        while not stream._reader._lock.locked():
            time.sleep(0.001)
        with pytest.raises(RuntimeError, match="being read elsewhere"):
            next(stream)
        reader.join()
        assert "".join(getattr(event, "text", "") for event in seen) == "a b c d e f"
        assert not client.health()["first"].error_rate
        assert len(server.requests) == 1


def test_text_deltas_are_those_of_the_first_choice(world: World) -> None:
    pieces = [(0, "A1 "), (1, "B1 "), (0, "A2"), (1, "B2")]
    frames: list[dict[str, object]] = [
        {"id": "x", "choices": [{"index": index, "delta": {"content": text}}]} for index, text in pieces
    ]
    frames += [{"id": "x", "choices": [{"index": index, "delta": {}, "finish_reason": "stop"}]} for index in (0, 1)]
    body = "".join(f"data: {json.dumps(frame)}\n\n" for frame in frames) + "data: [DONE]\n\n"
    server = world.server(Status(200, body.encode(), headers={"content-type": "text/event-stream"}))
    stream = world.client([openai(server)]).stream(n=2)

    async def texts() -> list[str]:
        return [text async for text in stream.raw.text_deltas()]

    assert (list(stream.raw.text_deltas()) if world.portal is None else world.run(texts)) == ["A1 ", "A2"]
    assert stream.response.text == "A1 A2"


# --- an HTTP client of the user's ---


def _engine(world: World, **options: Any) -> Any:
    return httpx.Client(**options) if world.portal is None else httpx.AsyncClient(**options)


def _shut(world: World, engine: Any) -> None:
    engine.close() if world.portal is None else world.run(engine.aclose)


def test_the_default_headers_of_an_http_client_are_sent_below_ours(world: World) -> None:
    server, engine = world.server(), _engine(world, headers={"X-Gateway": "1", "Authorization": "no", "Host": "no"})
    world.client([openai(server)], http_client=engine).chat()
    sent = server.requests[0].headers
    assert (sent["x-gateway"], sent["authorization"]) == ("1", "Bearer k")
    assert sent["host"] != "no"
    _shut(world, engine)


@pytest.mark.parametrize("ask", ["chat", "stream"])
def test_a_closed_http_client_is_named_and_no_provider_blamed(world: World, ask: str) -> None:
    engine = _engine(world)
    _shut(world, engine)
    client = world.client([openai(world.server())], http_client=engine)
    with pytest.raises(ClientClosed, match="http_client"):
        client.chat() if ask == "chat" else client.stream().text()
    assert client.health()["first"].error_rate is None
    assert client.in_flight() == 0


def test_a_client_that_was_dropped_closes_its_idle_connections_quietly() -> None:
    with LoopbackLLM() as server:
        client = ResilientClient([openai(server)])
        client.chat("x")
        gone = weakref.ref(client._driver)
        with warnings.catch_warnings(record=True) as shown:
            warnings.simplefilter("always")
            del client
            gc.collect()
        assert gone() is None
        assert not shown
        server.wait_for(lambda one: one.open_connections == 0, timeout=5)
