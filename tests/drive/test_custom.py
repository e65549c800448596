"""Providers of the user's own, in both clients."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest

from resilient_llm.errors import AllAttemptsFailed, ConfigurationError, FaultKind, ProviderError, StreamInterrupted
from resilient_llm.model import (
    ChatRequest,
    ChatResponse,
    Finish,
    StreamBroken,
    StreamError,
    StreamEvent,
    Text,
    TextDelta,
)
from resilient_llm.providers import Function
from tests.drive.clients import World, eventually, openai

ROOT = Path(__file__).parents[2]


class Whole:
    id = "whole"
    closed = 0

    def chat(self, request: ChatRequest, *, timeout: float) -> ChatResponse:
        assert timeout > 0
        return ChatResponse((Text(request.messages[-1].text.upper()),))


class Streaming(Whole):
    id = "streaming"

    def stream(self, request: ChatRequest, *, timeout: float) -> Iterator[StreamEvent]:
        try:
            for word in ("one ", "two"):
                yield TextDelta(word)
            yield Finish("stop")
        finally:
            type(self).closed += 1


class AsyncWhole:
    id = "async"
    closed = 0

    async def chat(self, request: ChatRequest, *, timeout: float) -> ChatResponse:  # noqa: ASYNC109
        return ChatResponse((Text("async"),))


class AsyncStreaming(AsyncWhole):
    async def stream(self, request: ChatRequest, *, timeout: float) -> AsyncIterator[str]:  # noqa: ASYNC109
        try:
            yield "one "
            yield "two"
        finally:
            type(self).closed += 1


def pieces(request: ChatRequest) -> Iterator[str]:
    yield "one "
    yield "two"


async def coroutine(request: ChatRequest) -> str:
    return "one two"


async def async_pieces(request: ChatRequest) -> AsyncIterator[str]:
    yield "one "
    yield "two"


class CallableObject:
    def __call__(self, request: ChatRequest) -> str:
        return "one two"


SYNC: dict[str, Any] = {
    "a function": lambda: Function(lambda request: "one two", id="f"),
    "a function that returns a response": lambda: Function(lambda request: ChatResponse((Text("one two"),)), id="f"),
    "a generator": lambda: Function(pieces, id="f"),
    "a function that returns a list": lambda: Function(lambda request: ["one ", "", TextDelta("two")], id="f"),
    "a callable object": lambda: Function(CallableObject(), id="f"),
    "a streaming class": Streaming,
}
ASYNC: dict[str, Any] = {
    "a coroutine function": lambda: Function(coroutine, id="f"),
    "an async generator": lambda: Function(async_pieces, id="f"),
    "a function that returns a coroutine": lambda: Function(lambda request: coroutine(request), id="f"),  # noqa: PLW0108
    "an async streaming class": AsyncStreaming,
}


@pytest.mark.parametrize("case", SYNC)
def test_blocking_code_can_be_a_provider(world: World, case: str) -> None:
    client = world.client([SYNC[case]()])
    if case != "a streaming class":
        assert client.chat("hi").text == "one two"
    stream = client.stream()
    assert stream.text() == "one two"
    assert stream.response.text == "one two"
    assert stream.response.provider == client.raw.explain()[0].provider


@pytest.mark.parametrize("case", ASYNC)
def test_async_code_can_be_a_provider(async_world: World, case: str) -> None:
    client = async_world.client([ASYNC[case]()])
    assert client.chat("hi").text in ("one two", "async")
    assert client.stream().text() == "one two"


@pytest.mark.parametrize("case", ["a coroutine function", "an async generator", "an async streaming class"])
def test_async_code_needs_the_async_client(case: str) -> None:
    with pytest.raises(ConfigurationError, match="AsyncResilientClient"):
        World("sync").client([ASYNC[case]()])


def test_a_provider_without_stream_is_streamed_from_its_whole_answer(world: World) -> None:
    client = world.client([Whole()])
    assert client.chat("hi").text == "HI"
    stream = client.stream("hi")
    assert stream.text() == "HI"
    assert stream.response.finish_reason == "stop"


def test_a_failing_provider_of_ones_own_moves_on(world: World) -> None:
    def broken(request: ChatRequest) -> str:
        raise ProviderError("busy", kind=FaultKind.RATE_LIMITED, retry_after=30)

    client = world.client([Function(broken, id="own"), openai(world.server())])
    response = client.chat()
    assert [record.provider for record in response.attempts] == ["own", "first"]
    fault = response.attempts[0].fault
    assert fault is not None
    assert (fault.kind, fault.retry_after) == (FaultKind.RATE_LIMITED, 30)
    assert client.health()["own"].gate_open_in > 25


def test_any_other_exception_is_the_cause_with_its_traceback(world: World) -> None:
    def broken(request: ChatRequest) -> str:
        raise KeyError("bug")

    client = world.client([Function(broken, id="own")], retry={"max_attempts": 1})
    with pytest.raises(AllAttemptsFailed) as caught:
        client.chat()
    assert isinstance(caught.value.__cause__, KeyError)
    assert caught.value.__cause__.__traceback__ is not None


class Completion:
    """Like an SDK's answer: an object with fields that can be iterated over."""

    choices = ("x",)

    def model_dump(self) -> dict[str, Any]:
        return {"choices": self.choices}

    def __iter__(self) -> Iterator[tuple[str, object]]:
        yield "choices", self.choices


SHAPES = {
    "None": None,
    "number": 5,
    "bytes": b"bytes",
    "dict": {"text": "x"},
    "object": Completion(),
    "list of objects": [Completion()],
    "list of numbers": [5],
}


@pytest.mark.parametrize("value", SHAPES.values(), ids=SHAPES)
def test_what_is_no_answer_is_a_mistake_of_the_program(world: World, value: Any) -> None:
    asked: list[ChatRequest] = []

    def own(request: ChatRequest) -> Any:
        asked.append(request)
        return value

    client = world.client([Function(own, id="own"), openai(world.server())])
    before = client.health()["own"]
    with pytest.raises(ConfigurationError, match=r"must return|must yield"):
        client.chat()
    assert len(asked) == 1
    assert client.in_flight() == 0
    after = client.health()["own"]
    assert (after.breaker, after.score) == (before.breaker, before.score)


MISTAKES = [AttributeError("x"), TypeError("x"), NameError("x"), ImportError("x"), NotImplementedError("x")]


@pytest.mark.parametrize("stream", [False, True], ids=["chat", "stream"])
@pytest.mark.parametrize("late", [False, True], ids=["called", "iterated"])
@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: type(mistake).__name__)
def test_a_mistake_in_the_users_code_is_told_at_once(
    world: World, mistake: Exception, late: bool, stream: bool
) -> None:
    asked: list[ChatRequest] = []

    def pieces() -> Iterator[str]:
        raise mistake
        yield "never"

    def own(request: ChatRequest) -> Any:
        asked.append(request)
        if late:
            return pieces()
        raise mistake

    client = world.client([Function(own, id="own"), openai(world.server())])
    before = client.health()["own"]
    with pytest.raises(ConfigurationError, match=f"'own' has a mistake: {type(mistake).__name__}") as caught:
        client.stream().text() if stream else client.chat()
    assert caught.value.__cause__ is mistake
    assert len(asked) == 1
    assert client.in_flight() == 0
    after = client.health()["own"]
    assert (after.breaker, after.score) == (before.breaker, before.score)


def test_a_mistake_in_async_code_is_told_at_once(async_world: World) -> None:
    async def whole(request: ChatRequest) -> str:
        raise AttributeError("x")

    async def pieces(request: ChatRequest) -> AsyncIterator[str]:
        raise AttributeError("x")
        yield "never"

    for own in (whole, pieces):
        client = async_world.client([Function(own, id="own"), openai(async_world.server())])
        with pytest.raises(ConfigurationError, match="'own' has a mistake: AttributeError"):
            client.chat()
        with pytest.raises(ConfigurationError, match="'own' has a mistake: AttributeError"):
            client.stream().text()


@pytest.mark.parametrize("item", [5, StreamError({"message": "sk-canary-1234567890 oh"}), StreamBroken("cut")], ids=str)
def test_a_bad_piece_breaks_the_stream(world: World, item: Any) -> None:
    def bad(request: ChatRequest) -> Iterator[Any]:
        yield "one "
        yield item

    client = world.client([Function(bad, id="own"), openai(world.server())], retry={"max_attempts": 1})
    with pytest.raises(StreamInterrupted) as caught:
        client.stream().text()
    assert caught.value.partial is not None
    assert caught.value.partial.text == "one "
    assert "canary" not in str(caught.value)
    with pytest.raises(ConfigurationError if item == 5 else AllAttemptsFailed):
        client.chat(providers=["own"])


def test_leaving_early_closes_the_generator(world: World) -> None:
    Streaming.closed = 0
    with world.client([Streaming()]).stream() as stream:
        next(stream)
    eventually(lambda: Streaming.closed == 1)


TENANT: ContextVar[str] = ContextVar("tenant")


def test_a_generator_keeps_its_context_from_piece_to_piece(world: World) -> None:
    """As tracing does: what is current while a piece is made is put back at the end."""

    def pieces(request: ChatRequest) -> Iterator[str]:
        token = TENANT.set("a")
        yield "one "
        yield TENANT.get()
        TENANT.reset(token)

    client = world.client([Function(pieces, id="own"), openai(world.server())])
    assert (client.chat("hi").text, client.stream().text()) == ("one a", "one a")
    assert TENANT.get(None) is None


def test_leaving_early_closes_the_async_generator(async_world: World) -> None:
    AsyncStreaming.closed = 0
    with async_world.client([AsyncStreaming()]).stream() as stream:
        next(stream)
    assert AsyncStreaming.closed == 1


def test_a_generator_that_hangs_is_left_at_the_deadline(world: World) -> None:
    def slow(request: ChatRequest) -> Iterator[str]:
        time.sleep(1.0)
        yield "late"

    client = world.client([Function(slow, id="own"), openai(world.server())])
    began = time.perf_counter()
    assert client.chat(deadline=0.6).provider == "first"
    assert time.perf_counter() - began < 0.6
    assert client.stream(deadline=0.6).text() == "Hello from the loopback server."
    time.sleep(1.0)  # the abandoned threads end by themselves; nothing may come of that


def test_sync_code_that_blocks_past_the_deadline_does_not_hold_up_the_caller(world: World) -> None:
    from resilient_llm.errors import DeadlineExceeded

    def slow(request: ChatRequest) -> str:
        over.wait(5)
        return "late"

    over = threading.Event()
    client = world.client([Function(slow, id="a"), Function(slow, id="b")])
    began = time.perf_counter()
    with pytest.raises(DeadlineExceeded):
        client.chat(deadline=0.5)
    assert 0.5 <= time.perf_counter() - began < 3
    over.set()
    eventually(lambda: client.in_flight() == 0)


def test_one_object_in_two_routes_is_one_provider(world: World) -> None:
    own = Whole()
    client = world.client({"a": [own], "b": [own, openai(world.server())]})
    assert client.chat("x", route="b").provider == "whole"
    assert list(client.health()) == ["whole", "first"]


def test_the_example_runs() -> None:
    script = ROOT / "examples" / "custom_provider.py"
    assert len(script.read_text().splitlines()) <= 20
    done = subprocess.run(
        [sys.executable, str(script)], check=True, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT / "src")}
    )
    assert done.stdout == "Polly wants a cracker\n"
