"""``client.map()`` as a user would write it, with both clients: order, errors, keys, laziness, leaving early."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from resilient_llm import (
    AsyncResilientClient,
    ClientClosed,
    ConfigurationError,
    InvalidRequest,
    NoProviderAvailable,
    RequestRejected,
    ResilientClient,
    Text,
)
from resilient_llm.batch.results import MapResult
from resilient_llm.errors import FaultKind, ProviderError
from resilient_llm.model import ChatRequest
from resilient_llm.providers import Function
from resilient_llm.testing import LoopbackLLM, Reply, ScriptedProvider, Status, instant
from tests.drive.clients import openai

BACKENDS = ("asyncio", "trio")
Results = list[MapResult[Any]]


def echo(request: ChatRequest) -> str:
    text = request.messages[-1].text
    if text == "bad":
        raise ProviderError("no", kind=FaultKind.BAD_REQUEST)
    return f"echo {text}"


class Slow:
    """An async provider that counts who is under way."""

    def __init__(self, seconds: float = 0.002) -> None:
        self.seconds = seconds
        self.running = self.most = self.cancelled = 0

    async def __call__(self, request: ChatRequest) -> str:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await anyio.sleep(self.seconds)
        except anyio.get_cancelled_exc_class():
            self.cancelled += 1
            raise
        finally:
            self.running -= 1
        return echo(request)


def mapped(kind: str, provider: Any, prompts: Any, **options: Any) -> Results:
    """All results, of any client."""
    if kind == "sync":
        with ResilientClient([provider]) as client:
            return list(client.map(prompts, **options))

    async def run() -> Results:
        async with AsyncResilientClient([provider]) as client:
            return [result async for result in client.map(prompts, **options)]

    return anyio.run(run, backend=kind)


every_client = pytest.mark.parametrize("kind", ["sync", *BACKENDS])


@every_client
@pytest.mark.parametrize("concurrency", ["auto", 1, 7])
def test_results_come_in_order_and_an_error_stands_in_its_place(kind: str, concurrency: Any) -> None:
    prompts = ["a", "bad", [("user", "b")], "", ("k", "c"), ("l", "d", {"max_tokens": 3}), ("m", "e", 3)]
    results = mapped(kind, Function(echo), prompts, concurrency=concurrency)
    assert [result.index for result in results] == list(range(7))
    assert [result.key for result in results] == [0, 1, 2, 3, "k", "l", 6]
    assert [result.response and result.response.text for result in results] == [
        *("echo a", None, "echo b", None, "echo c", "echo d", None)
    ]
    assert [type(result.error) for result in results if result.error] == [
        *(RequestRejected, InvalidRequest, InvalidRequest)
    ]


@every_client
def test_results_as_they_come(kind: str) -> None:
    def slow(request: ChatRequest) -> str:
        time.sleep(0.2 if request.messages[-1].text == "0" else 0)
        return "x"

    prompts = [str(number) for number in range(5)]
    results = mapped(kind, Function(slow), prompts, ordered=False, concurrency=2)
    assert results[-1].index == 0
    assert sorted(result.index for result in results) == list(range(5))
    seen: Results = []
    ordered = mapped(kind, Function(slow), prompts, on_result=seen.append, concurrency=2)
    assert [result.index for result in ordered] == list(range(5))
    assert seen[-1] is ordered[0]


@every_client
def test_prompts_are_taken_as_room_comes_up(kind: str) -> None:
    taken: list[int] = []

    def prompts() -> Iterator[str]:
        for number in range(10**9):
            taken.append(number)
            yield str(number)

    def first_three(results: Iterator[MapResult[Any]]) -> None:
        for _ in range(3):
            next(results)

    if kind == "sync":
        over = threading.Event()

        def three(request: ChatRequest) -> str:
            return "x" if int(request.messages[-1].text) < 3 or over.wait(10.0) else "late"

        with ResilientClient([Function(three)]) as client, client.map(prompts(), concurrency=2) as results:
            first_three(results)
            over.set()
    else:

        async def run() -> None:
            client = AsyncResilientClient([Function(Slow())])
            async with client, client.map(prompts(), concurrency=2) as results:
                for _ in range(3):
                    await anext(results)

        anyio.run(run, backend=kind)
    assert 3 <= len(taken) <= 8


def test_a_slow_reader_is_not_run_away_from() -> None:
    taken = []
    with ResilientClient([Function(echo)]) as client:
        results = client.map((str(taken.append(n)) for n in range(100_000)), concurrency=4, ordered=False)
        for _ in range(3):
            next(results)
            time.sleep(0.01)
        assert len(taken) <= 3 * (4 + 4)  # what is begun before a result is waited for, and in place of those that end
        results.close()
        assert list(results) == []


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_async_iterable_of_prompts_and_results_that_do_not_wait_for_it(backend: str) -> None:
    seen: list[str] = []

    async def run() -> None:
        more = anyio.Event()

        async def prompts() -> AsyncIterator[str]:
            yield "a"
            yield "b"
            await more.wait()  # until the results of these are there
            yield "c"

        async with AsyncResilientClient([Function(Slow())]) as client:
            async for result in client.map(prompts()):
                seen.append(result.answer.text)
                if len(seen) == 2:
                    more.set()

    anyio.run(run, backend=backend)
    assert seen == ["echo a", "echo b", "echo c"]


@every_client
def test_what_the_prompts_raise_is_raised(kind: str) -> None:
    def prompts() -> Iterator[str]:
        yield "a"
        raise OSError("the database has gone")

    with pytest.raises(OSError, match="database"):
        mapped(kind, Function(echo), prompts())


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_an_async_iterable_raises_is_raised(backend: str) -> None:
    async def prompts() -> AsyncIterator[str]:
        yield "a"
        raise OSError("the database has gone")

    with pytest.raises(OSError, match="database"):
        mapped(backend, Function(echo), prompts())


@every_client
def test_a_mistake_in_the_users_code_ends_it(kind: str) -> None:
    def broken(request: ChatRequest) -> str:
        raise AttributeError("oops")

    with pytest.raises(ConfigurationError, match="has a mistake"):
        mapped(kind, Function(broken), ["a"] * 100)

    def on_result(result: MapResult[Any]) -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        mapped(kind, Function(echo), ["a"] * 100, on_result=on_result)


@pytest.mark.parametrize("backend", BACKENDS)
def test_on_result_may_be_a_coroutine_function(backend: str) -> None:
    seen: list[int] = []

    async def on_result(result: MapResult[Any]) -> None:
        await anyio.lowlevel.checkpoint()
        seen.append(result.index)

    mapped(backend, Function(echo), ["a"] * 5, on_result=on_result, ordered=False)
    assert sorted(seen) == list(range(5))


@dataclass
class Answer:
    value: int


@every_client
def test_a_class_as_output_is_filled_also_from_the_file(kind: str, tmp_path: Path) -> None:
    def answer(request: ChatRequest) -> str:
        return f'{{"value": {request.messages[-1].text}}}'

    options: dict[str, Any] = {"output": Answer, "save_to": tmp_path / "r.jsonl"}
    for saved in (False, True):
        results = mapped(kind, Function(answer), ["1", "2"], **options)
        assert [result.answer.parsed for result in results] == [Answer(1), Answer(2)]
        assert all(result.saved is saved for result in results)


WRONG: dict[str, tuple[Callable[[ResilientClient], object], str]] = {
    "one text": (lambda client: client.map("hi"), "use chat"),
    "a dict": (lambda client: client.map({"k": "hi"}), "prompts.items"),  # type: ignore[call-overload]
    "no iterable": (lambda client: client.map(3), "iterable"),  # type: ignore[call-overload]
    "width": (lambda client: client.map([], concurrency=0), "concurrency must be"),
    "word": (lambda client: client.map([], concurrency="max"), "concurrency must be"),  # type: ignore[call-overload]
    "misspelled": (lambda client: client.map([], concurency=3), "did you mean concurrency="),  # type: ignore[call-overload]
    "foreign": (lambda client: client.map([], timeout=3), "deadline="),  # type: ignore[call-overload]
    "route": (lambda client: client.map([], route="nowhere"), "there is no route"),
    "ordered": (lambda client: client.map([], ordered="no"), "ordered must be"),  # type: ignore[call-overload]
    "path": (lambda client: client.map([], save_to=3), "save_to must be"),  # type: ignore[call-overload]
    "one key": (lambda client: client.map([], idempotency_key="k"), "belongs to one prompt"),
    "callback": (lambda client: client.map([], on_result=3), "on_result must be"),  # type: ignore[call-overload]
}


@pytest.mark.parametrize("case", WRONG)
def test_what_makes_no_sense_is_told_at_once(case: str) -> None:
    make, told = WRONG[case]
    with ResilientClient([Function(echo)]) as client, pytest.raises(InvalidRequest, match=told):
        make(client)


def test_a_key_that_is_none_is_told_in_its_place() -> None:
    with ResilientClient([Function(echo)]) as client:
        first, second = client.map([(1.5, "a"), ("k", "b")])  # type: ignore[list-item]
    assert "the key of prompt 0 must be text or a whole number, not 1.5" in str(first.error)
    assert second.error is None


def test_an_async_iterable_needs_the_async_client() -> None:
    async def prompts() -> AsyncIterator[str]:
        yield "a"

    with ResilientClient([Function(echo)]) as client, pytest.raises(InvalidRequest, match="AsyncResilientClient"):
        client.map(prompts())  # type: ignore[call-overload]


def test_no_prompts_no_results() -> None:
    for kind in ("sync", *BACKENDS):
        assert mapped(kind, Function(echo), []) == []


# --- outages and limits ---


def test_an_outage_of_everybody_is_waited_for() -> None:
    """Longer than one call would wait (10 s) and within the prompts' deadline: nothing is lost."""
    down_until = [25.0]
    provider = ScriptedProvider(default=lambda request: Status(503) if clock() - began < down_until[0] else "well")
    with ResilientClient([provider]) as client, instant(client) as clock:
        began = clock()
        results = list(client.map([str(number) for number in range(20)], concurrency=1, deadline=200))
    assert [result.response.text for result in results if result.response] == ["well"] * 20


def test_what_nobody_may_serve_is_not_asked_for_again() -> None:
    narrow = Function(echo, context_window=5)
    with ResilientClient([narrow]) as client, instant(client):
        (result,) = client.map(["word " * 100])
    assert isinstance(result.error, NoProviderAvailable)
    assert "do not fit" in str(result.error)


def test_a_prompt_that_always_fails_is_given_up_and_the_others_are_answered() -> None:
    def step(request: ChatRequest) -> Any:
        return Status(500) if request.messages[-1].text == "poison" else "fine"

    provider = ScriptedProvider(default=step)
    with ResilientClient([provider]) as client, instant(client):
        results = list(client.map([*"abcd", "poison", *"efghijklmnopqrstuvwxyz"], concurrency=1, deadline=1000))
    assert [result.index for result in results if result.error] == [4]
    assert sum(request.messages[-1].text == "poison" for request in provider.requests) <= 8 * 20


# --- leaving early ---


@pytest.fixture
def server() -> Iterator[LoopbackLLM]:
    with LoopbackLLM() as found:
        yield found


def settled(client: Any) -> bool:
    """Whether nothing is under way any more, and nobody was judged."""
    until = time.monotonic() + 5
    while time.monotonic() < until and any(standing.in_flight for standing in client.health().values()):
        time.sleep(0.01)
    health = client.health().values()
    return all(not standing.in_flight and not standing.waiting and standing.breaker == "closed" for standing in health)


@pytest.mark.parametrize("how", ["break", "close", "raise", "drop"])
def test_leaving_ends_the_calls_under_way_and_judges_nobody(server: LoopbackLLM, how: str) -> None:
    server.script(Reply("first"))
    server.default = Reply("late", delay=30.0)
    before = threading.active_count()
    with ResilientClient([openai(server)]) as client:
        began = time.monotonic()
        results = client.map((str(number) for number in range(1000)), concurrency=4, ordered=False)
        if how == "raise":
            with pytest.raises(LookupError), results:
                raise LookupError(next(results))
        else:
            for _ in results:
                break
            if how == "close":
                results.close()
        del results
        gc.collect()
        assert settled(client)
        assert time.monotonic() - began < 5
        assert server.request_count <= 5
        assert not client._driver._under_way.calls
        until = time.monotonic() + 5
        while threading.active_count() > before and time.monotonic() < until:
            time.sleep(0.05)
        assert threading.active_count() <= before


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("how", ["break", "cancel", "close", "drop"])
def test_leaving_cancels_the_calls_under_way_and_judges_nobody(backend: str, how: str) -> None:
    slow, quick = Slow(30.0), Slow(0.0)

    async def provider(request: ChatRequest) -> str:
        return await (quick if request.messages[-1].text == "0" else slow)(request)

    async def run() -> None:
        async with AsyncResilientClient([Function(provider)]) as client:
            with anyio.CancelScope() as scope:
                results = client.map((str(number) for number in range(1000)), concurrency=4)
                async for _ in results:
                    if how == "cancel":
                        scope.cancel()
                    else:
                        break
                if how == "close":
                    await results.aclose()
            del results
            gc.collect()
            for _ in range(500):
                await anyio.sleep(0.01 if slow.running else 0)
            assert not slow.running
            assert settled(client)
            assert slow.cancelled

    anyio.run(run, backend=backend)


def test_closing_the_client_ends_it(server: LoopbackLLM) -> None:
    server.default = Reply("late", delay=30.0)
    client = ResilientClient([openai(server)])
    threading.Timer(0.3, client.close).start()
    with pytest.raises(ClientClosed):
        list(client.map(["a", "b"]))


def test_closing_the_async_client_ends_it(server: LoopbackLLM) -> None:
    server.default = Reply("late", delay=30.0)

    async def run() -> None:
        client = AsyncResilientClient([openai(server)])
        async with anyio.create_task_group() as tasks:

            async def close() -> None:
                await anyio.sleep(0.3)
                await client.aclose()

            tasks.start_soon(close)
            with pytest.raises(ClientClosed):
                async for _ in client.map(["a", "b"]):
                    pass

    asyncio.run(run())


def test_one_reader_at_a_time(server: LoopbackLLM) -> None:
    server.default = Reply("late", delay=0.5)
    with ResilientClient([openai(server)]) as client, client.map(["a", "b"]) as results:
        other = threading.Thread(target=lambda: list(results))
        other.start()
        time.sleep(0.1)
        with pytest.raises(RuntimeError, match="read elsewhere"):
            next(results)
        other.join(5)


def test_spans_and_context_variables_reach_the_calls() -> None:
    from contextvars import ContextVar

    who: ContextVar[str] = ContextVar("who", default="nobody")
    with ResilientClient([Function(lambda request: who.get())]) as client:
        who.set("me")
        assert [result.answer.parts for result in client.map(["a", "b"])] == [(Text("me"),)] * 2
