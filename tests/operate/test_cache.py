"""Answers that are kept, old ones while nobody answers, identical calls made once; and stores that do their worst."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from resilient_llm import AsyncResilientClient, ResilientClient
from resilient_llm.errors import (
    AllAttemptsFailed,
    ConfigurationError,
    DeadlineExceeded,
    NoProviderAvailable,
    RequestRejected,
)
from resilient_llm.model import ChatRequest, ChatResponse, Message, Text, ToolCall, Usage
from resilient_llm.operate.cache import Caching, Memory, asking, cached
from resilient_llm.operate.cache.entry import packed, unpacked
from resilient_llm.operate.cache.shelf import Shelf
from resilient_llm.testing import AsyncScriptedProvider, LoopbackLLM, Reply, ScriptedProvider, Status
from tests.drive.clients import Client, World, eventually, openai, seconds_of, world
from tests.operate.redis_server import RedisServer, needs_redis

__all__ = ["world"]

KEPT: dict[str, Any] = {"temperature": 0}


def keeping(world: World, *arguments: Any) -> tuple[Client, LoopbackLLM]:
    server = world.server()
    client = world.client([openai(server)], retry={"max_attempts_per_provider": 1})
    return Client(cached(client.raw, *arguments), client.portal), server


def asked(server: LoopbackLLM) -> int:
    return len(server.requests)


# --- what is kept ---


def test_the_same_question_is_asked_once(world: World) -> None:
    client, server = keeping(world)
    first, second = client.chat("hi", **KEPT), client.chat("hi", **KEPT)
    assert first.text == second.text
    assert first.usage is not None
    assert (replace(first.usage, extra=None), first.provider) == (second.usage, second.provider)
    assert not first.degradations
    assert [one.feature for one in second.degradations] == ["cache"]
    assert second.degradations[0].action.startswith("from the cache, 0 s old")
    assert asked(server) == 1
    stats = client.raw.stats()
    assert (stats.hits, stats.misses, stats.bypassed) == (1, 1, 0)


@pytest.mark.parametrize(
    "other",
    [{"temperature": 0, "seed": 1}, {"temperature": 0, "system": "Be brief."}, {"temperature": 0, "require": []}],
)
def test_another_question_is_another_answer(other: dict[str, Any]) -> None:
    provider = ScriptedProvider()
    with ResilientClient([provider]) as raw:
        client = cached(raw)
        client.chat("hi", **KEPT)
        client.chat("hi", **other)
        client.chat("ho", **KEPT)
        assert len(provider.requests) == (2 if other.get("require") == [] else 3)


def test_what_is_not_deterministic_is_asked_each_time() -> None:
    provider = ScriptedProvider()
    with ResilientClient([provider]) as raw:
        client = cached(raw)
        for options in ({}, {"temperature": 0.7}, {**KEPT, "n": 2}, {**KEPT, "idempotent": False}):
            for _ in range(2):
                client.chat("hi", **options)
        assert len(provider.requests) == 8
        assert client.stats().bypassed == 8


def test_which_requests_are_kept_is_the_users_to_say() -> None:
    provider = ScriptedProvider()
    with ResilientClient([provider]) as raw:
        everything = cached(raw, caching=Caching(only="all"))
        some = cached(raw, caching=Caching(only=lambda request: "FAQ" in request.messages[0].text))
        for _ in range(2):
            everything.chat("hi")
            some.chat("FAQ: hours?")
            some.chat("hi")
        assert len(provider.requests) == 1 + 1 + 2


def test_defaults_of_the_client_count_too() -> None:
    provider = ScriptedProvider()
    with ResilientClient({"a": [provider], "b": [ScriptedProvider(id="other")]}) as raw:
        memory = Memory()
        client = cached(raw.with_options(route="b"), memory)
        assert client.chat("hi", **KEPT).provider == "other"
        assert cached(raw, memory).chat("hi", **KEPT).provider == "scripted"


def test_other_models_in_a_route_make_other_answers() -> None:
    with ResilientClient([ScriptedProvider(id="old")]) as raw:
        client = cached(raw)
        client.chat("hi", **KEPT)
        raw.replace_providers([ScriptedProvider(id="new")])
        assert client.chat("hi", **KEPT).provider == "new"


def test_an_answer_that_was_cut_off_is_not_kept() -> None:
    provider = ScriptedProvider(default=Reply(finish_reason="length"))
    with ResilientClient([provider]) as raw:
        client = cached(raw)
        client.chat("hi", **KEPT)
        client.chat("hi", **KEPT)
        assert len(provider.requests) == 2


@dataclass
class City:
    name: str


def test_an_answer_from_the_cache_is_of_the_class_that_is_asked_for(world: World) -> None:
    client, server = keeping(world)
    server.default = Reply(json.dumps({"name": "Bern"}))
    for _ in range(2):
        assert client.chat("?", output=City, **KEPT).parsed == City("Bern")
    assert asked(server) == 1


def test_a_check_of_the_callers_holds_for_kept_answers_too(world: World) -> None:
    client, server = keeping(world)
    client.chat("hi", **KEPT)
    seen: list[str] = []
    client.chat("hi", validate=lambda response: seen.append(response.text), **KEPT)
    assert len(seen) == 1
    assert asked(server) == 1
    with pytest.raises(AllAttemptsFailed):
        client.chat("hi", validate=lambda response: False, **KEPT)
    assert asked(server) > 1


# --- how long ---


class Clocked:
    """A client whose calendar obeys, and its provider."""

    def __init__(self, **caching: Any) -> None:
        self.now = 1_000_000_000.0
        self.provider = ScriptedProvider()
        self.raw = ResilientClient([self.provider], retry={"max_attempts_per_provider": 1})
        self.raw.pool.wall = lambda: self.now
        self.client = cached(self.raw, caching=Caching(**caching))

    def chat(self, **options: Any) -> ChatResponse:
        return self.client.chat("hi", **KEPT, when_down="fail", **options)

    def fail(self, status: int = 500) -> None:
        self.provider.default = Status(status)


def test_an_answer_is_good_for_its_time_and_then_asked_for_anew() -> None:
    one = Clocked(ttl=60.0)
    one.chat()
    one.now += 59.0
    one.chat()
    assert len(one.provider.requests) == 1
    one.now += 2.0
    assert not one.chat().degradations
    assert len(one.provider.requests) == 2


def test_an_old_answer_stands_in_while_no_provider_answers() -> None:
    one = Clocked(ttl=60.0, stale_if_down=3600.0)
    one.chat()
    one.fail()
    one.now += 1000.0
    answer = one.chat(fallback="Sorry.")
    assert answer.degradations[0].action == "from the cache, as no provider answered, 1000 s old"
    assert answer.attempts
    assert one.client.stats().stale == 1
    one.now += 3600.0
    assert one.chat(fallback="Sorry.").text == "Sorry."
    with pytest.raises((AllAttemptsFailed, NoProviderAvailable)):
        one.chat()


def test_a_stand_in_is_not_kept_as_an_answer() -> None:
    one = Clocked()
    one.fail()
    assert one.chat(fallback="Sorry.").text == "Sorry."
    one.raw.restore("scripted")
    one.provider.default = Reply("Hello.")
    assert one.chat().text == "Hello."


def test_an_old_answer_does_not_hide_that_the_request_is_wrong() -> None:
    one = Clocked(ttl=1.0)
    one.chat()
    one.fail(400)
    one.now += 10.0
    with pytest.raises(RequestRejected):
        one.chat()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"ttl": -1}, "Caching.ttl must be a number of seconds from 0 on, not -1"),
        ({"stale_if_down": float("inf")}, "Caching.stale_if_down must be"),
        ({"store_timeout": 0}, r"Caching.store_timeout must be a number of seconds from 0\.001 on"),
        ({"only": "some"}, "Caching.only must be 'deterministic', 'all' or a function, not 'some'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: Any, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        Caching(**settings)


class NeedsMore:
    def get(self, name: str) -> None: ...

    def set(self, name: str, value: bytes, ttl: int, *, ex: int) -> None: ...


def test_only_a_client_can_be_cached_and_only_in_a_store() -> None:
    wrong: Any = object()
    with ResilientClient([ScriptedProvider()]) as raw:
        with pytest.raises(ConfigurationError, match="a store needs get and set"):
            cached(raw, wrong)
        with pytest.raises(ConfigurationError, match="a store needs get and set, which"):
            cached(raw, {})  # type: ignore[call-overload]
        with pytest.raises(ConfigurationError, match="missing a required argument: 'ttl'"):
            cached(raw, NeedsMore())  # type: ignore[call-overload]
        with pytest.raises(ConfigurationError, match="cached\\(\\) needs a ResilientClient"):
            cached(wrong)


# --- in memory ---


def test_what_was_used_longest_ago_makes_room() -> None:
    memory = Memory(entries=2)
    memory.set("a", b"1", ex=10)
    memory.set("b", b"2", ex=10)
    memory.get("a")
    memory.set("c", b"3", ex=10)
    assert [memory.get(name) for name in "abc"] == [b"1", None, b"3"]


def test_memory_is_bounded_in_bytes_too() -> None:
    memory = Memory(max_bytes=10)
    memory.set("large", b"x" * 11, ex=10)
    memory.set("a", b"x" * 6, ex=10)
    memory.set("b", b"x" * 6, ex=10)
    assert (len(memory), memory.get("a")) == (1, None)
    memory.clear()
    assert len(memory) == 0
    with pytest.raises(ConfigurationError, match="room for at least one"):
        Memory(entries=0)


def test_memory_forgets_what_is_over() -> None:
    now = [0.0]
    memory = Memory(clock=lambda: now[0])
    memory.set("a", b"1", ex=10)
    now[0] = 10.0
    assert memory.get("a") is None
    assert len(memory) == 0


def test_an_answer_survives_being_packed() -> None:
    parts = (Text("Hello"), ToolCall("1", "find", '{"x": 1}'))
    answer = ChatResponse(parts, "tool_calls", None, Usage(1, 2, 3, 4, 5), "id", "m", 7, provider="p")
    value = packed(answer, 100.0)
    assert value is not None
    entry = unpacked(value, 100.0)
    assert entry is not None
    assert entry.response == answer
    assert unpacked(value.decode(), 100.0) == entry


# --- identical calls under way ---


class Held:
    """A provider that answers when it is told to."""

    id = "held"

    def __init__(self) -> None:
        self.go = threading.Event()
        self.calls = 0
        self.error: Exception | None = None

    def chat(self, request: ChatRequest, *, timeout: float) -> str:
        self.calls += 1
        assert self.go.wait(10)
        if self.error is not None:
            raise self.error
        return "Hello."


def crowd(client: Any, count: int, found: list[Any], **options: Any) -> list[threading.Thread]:
    def call() -> None:
        try:
            found.append(client.chat("hi", **KEPT, **options).text)
        except Exception as error:
            found.append(error)

    threads = [threading.Thread(target=call) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


def test_identical_calls_of_threads_are_made_once() -> None:
    provider, found = Held(), list[Any]()
    with ResilientClient([provider]) as raw:
        client = cached(raw)
        threads = crowd(client, 5, found)
        eventually(lambda: provider.calls == 1 and in_line(client) == 4)
        provider.go.set()
        for thread in threads:
            thread.join()
    assert found == ["Hello."] * 5
    assert provider.calls == 1
    assert client.stats().shared == 4


def waiting(client: Any) -> int:
    return len(client._flights._under_way)


def in_line(client: Any) -> int:
    """Threads that wait for the call under way."""
    [flight] = client._flights._under_way.values()
    return len(flight.done._cond._waiters)


def test_a_failure_of_everybody_is_shared() -> None:
    provider, found = Held(), list[Any]()
    provider.error = ValueError("no")
    with ResilientClient([provider], retry={"max_attempts_per_provider": 1}) as raw:
        client = cached(raw)
        threads = crowd(client, 4, found, when_down="fail")
        eventually(lambda: provider.calls == 1 and in_line(client) == 3)
        provider.go.set()
        for thread in threads:
            thread.join()
    assert all(isinstance(one, AllAttemptsFailed | NoProviderAvailable) for one in found)
    assert len({id(one) for one in found}) == 4
    assert provider.calls == 1


def test_who_waits_for_anothers_answer_keeps_its_own_deadline() -> None:
    provider, found = Held(), list[Any]()
    with ResilientClient([provider]) as raw:
        client = cached(raw)
        threads = crowd(client, 1, found)
        eventually(lambda: provider.calls == 1)
        with pytest.raises(DeadlineExceeded, match="an identical call is still under way"):
            client.chat("hi", deadline=0.05, **KEPT)
        provider.go.set()
        threads[0].join()
    assert found == ["Hello."]


def test_a_deadline_of_the_first_caller_does_not_fail_the_others() -> None:
    provider, found = Held(), list[Any]()
    with ResilientClient([provider]) as raw:
        client = cached(raw)
        hasty = crowd(client, 1, found, deadline=0.2)
        eventually(lambda: provider.calls == 1)
        patient = crowd(client, 1, found)
        hasty[0].join()
        assert isinstance(found.pop(), DeadlineExceeded)
        provider.go.set()
        patient[0].join()
    assert found == ["Hello."]


def test_a_check_may_ask_the_same_again() -> None:
    with ResilientClient([ScriptedProvider()]) as raw:
        client = cached(raw)
        assert client.chat("hi", validate=lambda _: bool(client.chat("hi", **KEPT).text), **KEPT).text


class AsyncHeld:
    """The same for an event loop."""

    id = "held"

    def __init__(self) -> None:
        self.go = anyio.Event()
        self.calls = 0

    async def chat(self, request: ChatRequest, *, timeout: float) -> str:  # noqa: ASYNC109 - the protocol
        self.calls += 1
        await self.go.wait()
        return "Hello."


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_cancelling_the_first_caller_fails_nobody_else(backend: str) -> None:
    async def work() -> None:
        provider, found = AsyncHeld(), list[str]()
        async with AsyncResilientClient([provider]) as raw:
            client = cached(raw)

            async def call() -> None:
                found.append((await client.chat("hi", **KEPT)).text)

            async with anyio.create_task_group() as others:
                async with anyio.create_task_group() as first:
                    first.start_soon(call)
                    while not provider.calls:
                        await checkpoint()
                    others.start_soon(call)
                    others.start_soon(call)
                    for _ in range(20):
                        await checkpoint()
                    first.cancel_scope.cancel()
                while provider.calls < 2:
                    await checkpoint()
                provider.go.set()
            assert found == ["Hello."] * 2
            assert provider.calls == 2
            assert client.stats().shared == 1

    anyio.run(work, backend=backend)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_who_waits_may_be_cancelled(backend: str) -> None:
    async def work() -> None:
        provider, found = AsyncHeld(), list[str]()
        async with AsyncResilientClient([provider]) as raw:
            client = cached(raw)

            async def call() -> None:
                found.append((await client.chat("hi", **KEPT)).text)

            async with anyio.create_task_group() as group:
                group.start_soon(call)
                while not provider.calls:
                    await checkpoint()
                with anyio.move_on_after(0.01):
                    await client.chat("hi", **KEPT)
                with pytest.raises(DeadlineExceeded, match="identical call"):
                    await client.chat("hi", deadline=0.01, **KEPT)
                provider.go.set()
            assert found == ["Hello."]
            assert provider.calls == 1

    anyio.run(work, backend=backend)


def test_a_child_process_waits_for_nobody() -> None:
    with ResilientClient([ScriptedProvider()]) as raw:
        client = cached(raw)
        client._flights._under_way["x"] = Any  # type: ignore[assignment]
        client.reset_after_fork()
        assert waiting(client) == 0


# --- stores that do their worst ---


class Bad:
    """A store that does one thing, and counts how often it is asked."""

    def __init__(self, act: Any) -> None:
        self.act = act
        self.reads = self.writes = 0

    def get(self, name: str) -> object:
        self.reads += 1
        return self.act() if callable(self.act) else self.act

    def set(self, name: str, value: bytes, *, ex: int) -> None:
        self.writes += 1
        if callable(self.act):
            self.act()


def refuse() -> None:
    raise ConnectionError("refused")


GARBAGE: tuple[Any, ...] = (
    b"",
    b"{",
    b"null",
    b"[]",
    "text",
    7,
    b"\xff\xfe",
    b"[" * 100_000,
    {"version": 1},
    b'{"version": 1}',
    json.dumps({"version": 1, "at": 5, "finish_reason": "stop", "usage": [1], "provider": "p", "model": "m", "id": ""}),
)


@pytest.mark.parametrize("value", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_in_a_store_is_no_answer(value: Any) -> None:
    provider = ScriptedProvider()
    with ResilientClient([provider]) as raw:
        client = cached(raw, Bad(value))
        assert client.chat("hi", **KEPT).text
        assert client.stats().misses == 1


def test_any_change_of_what_was_packed_is_no_answer_or_a_whole_one() -> None:
    value = packed(ChatResponse((Text("Hello"),), usage=Usage(1, 2), provider="p"), 100.0)
    assert value is not None
    for place in range(len(value)):
        for byte in (0, 34, 91, 200):
            changed = value[:place] + bytes([byte]) + value[place + 1 :]
            entry = unpacked(changed, 100.0)
            assert entry is None or isinstance(entry.response.text, str)


def test_a_store_that_fails_is_left_alone(world: World, caplog: pytest.LogCaptureFixture) -> None:
    store = Bad(refuse)
    client, server = keeping(world, store)
    for _ in range(5):
        assert client.chat("hi", **KEPT).text
    assert store.reads == 1
    assert asked(server) == 5
    assert client.raw.stats().store_failures == 1
    assert len([one for one in caplog.records if "the cache's store failed" in one.message]) == 1


def test_a_store_that_hangs_is_waited_for_once(world: World) -> None:
    release = threading.Event()
    store = Bad(lambda: release.wait(20) and None)
    client, server = keeping(world, store, Caching(store_timeout=0.05))
    try:
        for _ in range(5):
            assert client.chat("hi", **KEPT).text
        assert store.reads == 1
        assert asked(server) == 5
    finally:
        release.set()


def test_a_store_that_hung_is_given_a_millisecond_until_it_is_back() -> None:
    now, go = [0.0], threading.Event()
    store = Bad(lambda: go.wait(20) and None)
    shelf = Shelf(store, 0.2, lambda: now[0])
    shelf.meet()
    assert shelf.failures == 1
    now[0] = 10.0
    assert shelf._reads.patience == 0.001
    assert shelf.read("x") is None
    assert store.reads == 2
    now[0] = 20.0
    go.set()
    eventually(lambda: shelf._reads._free._value == 8)
    assert shelf._reads.doubted, "an answer after ten seconds is none in time"
    store.act = b"answer"

    def read() -> object:
        now[0] += 100.0  # not left alone any more, if it was late by the clock of a busy machine
        return shelf.read("x")

    eventually(lambda: read() == b"answer")


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads wait for as long as the store may take, so that no answer is late because the machine is busy."""
    monkeypatch.setattr(asking, "MARGIN", 60.0)


def under_way(shelf: Shelf) -> int:
    """Questions to the store that are not over."""
    return sum(one._at_once - one._free._value for one in (shelf._reads, shelf._writes))


def test_who_makes_a_cached_client_waits_for_no_store_for_long() -> None:
    release = threading.Event()
    with ResilientClient([ScriptedProvider()]) as raw:
        took = seconds_of(lambda: cached(raw, Bad(lambda: release.wait(20) and None), Caching(store_timeout=10.0)))
        release.set()
    assert took < 5.0


def test_at_most_a_few_reads_wait_for_a_store() -> None:
    release = threading.Event()
    store = Bad(lambda: release.wait(20) and None)
    shelf = Shelf(store, 0.2)
    threads = [threading.Thread(target=shelf.read, args=("x",)) for _ in range(40)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert store.reads <= 8
    finally:
        release.set()
    eventually(lambda: shelf._reads._free._value == 8)


def test_a_store_is_asked_again_after_a_while(patient: None) -> None:
    now, store = [0.0], Bad(refuse)
    shelf = Shelf(store, 1.0, lambda: now[0])
    shelf.meet()
    for at, reads in ((0.9, 1), (1.0, 2), (2.9, 2), (3.0, 3)):
        now[0] = at
        shelf.read("x")
        eventually(lambda: under_way(shelf) == 0)
        assert store.reads == reads
    store.act = None
    now[0] = 7.0
    shelf.read("x")
    assert not shelf._reads.doubted
    shelf.read("x")
    assert store.reads == 5


def test_a_store_that_cannot_be_written_to_is_read_all_the_same(patient: None) -> None:
    class ReadOnly(Bad):
        def set(self, name: str, value: bytes, *, ex: int) -> None:
            self.writes += 1
            raise OSError(28, "No space left on device")

    now, store = [0.0], ReadOnly(b"answer")
    shelf = Shelf(store, 1.0, lambda: now[0])
    shelf.meet()
    for at, writes in ((0.0, 1), (0.5, 1), (1.0, 2), (2.5, 2), (3.0, 3)):
        now[0] = at
        shelf.write("x", b"1", 60)
        eventually(lambda: under_way(shelf) == 0)
        assert shelf.read("x") == b"answer"
        assert store.writes == writes, "the pauses grow, whatever reads do"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full on this machine")
def test_a_full_disk_fails_no_call(world: World) -> None:
    class Disk:
        def get(self, name: str) -> None:
            return None

        def set(self, name: str, value: bytes, *, ex: int) -> None:
            with Path("/dev/full").open("wb") as file:
                file.write(value)

    client, _ = keeping(world, Disk())
    assert client.chat("hi", **KEPT).text
    eventually(lambda: client.raw.stats().store_failures == 1)


def test_an_async_store_needs_the_async_client() -> None:
    class Awaited:
        async def get(self, name: str) -> None: ...

        async def set(self, name: str, value: bytes, *, ex: int) -> None: ...

    class Returned:
        def get(self, name: str) -> Any:
            return Awaited().get(name)

        def set(self, name: str, value: bytes, *, ex: int) -> None: ...

    with ResilientClient([ScriptedProvider()]) as raw:
        for store in (Awaited(), Returned()):
            with pytest.raises(ConfigurationError, match="async client"):
                cached(raw, store)


# --- a real Redis ---


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@needs_redis
def test_redis_keeps_answers_for_several_processes_and_fails_no_call(redis_server: RedisServer) -> None:
    from redis import Redis

    one, other = ScriptedProvider(default=Reply("Hello.")), ScriptedProvider(default=Reply("Hello."))
    store = Redis.from_url(redis_server.url)
    with ResilientClient([one]) as first, ResilientClient([other]) as second, store:
        cached(first, store).chat("hi", **KEPT)
        eventually(lambda: store.dbsize() == 1)
        [name] = store.keys("resilient_llm:*")
        assert 0 < store.ttl(name) <= 90_000
        client = cached(second, store)
        assert client.chat("hi", **KEPT).text == "Hello."
        assert not other.requests
        redis_server.pause()  # it takes connections and says nothing
        eventually(lambda: client.chat("hi", **KEPT).text == "Hello." and client.stats().store_failures == 1)
        others = len(other.requests)
        redis_server.stop()
        assert client.chat("ho", **KEPT).text == "Hello."
        assert len(other.requests) == others + 1


@needs_redis
def test_redis_serves_the_async_client(redis_server: RedisServer) -> None:
    from redis.asyncio import Redis

    async def work() -> None:
        provider = AsyncScriptedProvider(default=Reply("Hello."))
        async with AsyncResilientClient([provider]) as raw, Redis.from_url(redis_server.url) as store:
            client = cached(raw, store, Caching(store_timeout=2.0))
            with anyio.fail_after(10):
                while not client.stats().hits:  # the first calls may not wait for a store that nobody knows
                    assert (await client.chat("hi", **KEPT)).text == "Hello."
                    await anyio.sleep(0.01)
                assert client.stats().store_failures == 0
                redis_server.pause()
                hasty = cached(raw, store, Caching(store_timeout=0.05))
                while not hasty.stats().store_failures:
                    assert (await hasty.chat("hi", **KEPT)).text == "Hello."
                    await anyio.sleep(0.01)

    anyio.run(work, backend="asyncio")


@needs_redis
def test_a_redis_whose_clients_are_paused_costs_no_call_its_timeout(redis_server: RedisServer) -> None:
    from redis import Redis

    provider = ScriptedProvider(default=Reply("Hello."))
    with ResilientClient([provider]) as raw, Redis.from_url(redis_server.url) as store, store.client() as other:
        client = cached(raw, store, Caching(store_timeout=5.0))
        client.chat("hi", **KEPT)
        eventually(lambda: client.chat("hi", **KEPT) and client.stats().hits)
        other.execute_command("CLIENT", "PAUSE", 20_000)
        asked, slowest = len(provider.requests), 0.0
        for _ in range(20):
            slowest = max(slowest, seconds_of(lambda: client.chat("hi", **KEPT)))
        assert slowest < 2.5, "half of what the store may take"
        assert len(provider.requests) == asked + 20


def test_the_messages_may_be_of_any_shape() -> None:
    provider = ScriptedProvider()
    with ResilientClient([provider]) as raw:
        client = cached(raw)
        for messages in ("hi", [("user", "hi")], [Message("user", (Text("hi"),))], [{"role": "user", "content": "hi"}]):
            client.chat(messages, **KEPT)
        assert len(provider.requests) == 1


@pytest.mark.parametrize("met", [False, True])
def test_a_store_that_hangs_costs_no_more_than_its_answers_usually_take_and_a_millisecond(met: bool) -> None:
    release, waits = threading.Event(), [0.0]
    store = Bad(lambda: b"answer" if not waits[0] else release.wait(waits[0]) and None)
    now = [0.0]
    shelf = Shelf(store, 0.05, lambda: now[0])
    if met:
        shelf.meet()
    assert shelf._reads.patience == 0.001, "by the clock of the test it took no time"
    waits[0] = 20.0
    assert shelf.read("x") is None
    assert shelf.failures == 0, "it is late, and may answer yet"
    reads = store.reads
    now[0] += 0.04
    assert shelf.read("x") is None
    now[0] += 0.02
    assert shelf.read("x") is None
    assert (shelf.failures, store.reads) == (1, reads), "nobody asks meanwhile, and now it failed"
    release.set()


def test_a_store_that_is_slower_than_it_was_is_waited_for_as_long_as_it_takes() -> None:
    go, slow = threading.Event(), [False]
    store = Bad(lambda: b"answer" if not slow[0] else go.wait(20) and b"late")
    now = [0.0]
    shelf = Shelf(store, 0.05, lambda: now[0])
    shelf.meet()
    slow[0] = True
    assert shelf.read("x") is None
    now[0] += 0.03
    go.set()
    eventually(lambda: not shelf._reads.doubted)
    assert shelf.failures == 0
    assert shelf._reads.patience == pytest.approx(0.031)
    assert shelf.read("x") == b"late"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("awaited", [False, True])
def test_a_store_that_hangs_from_the_beginning_costs_a_task_a_millisecond(backend: str, awaited: bool) -> None:
    release = threading.Event()

    class Awaited:
        async def get(self, name: str) -> None:
            await anyio.sleep(20)

        async def set(self, name: str, value: bytes, *, ex: int) -> None:
            await anyio.sleep(20)

    async def work() -> None:
        now, store = [0.0], Awaited() if awaited else Bad(lambda: release.wait(20) and None)
        shelf = Shelf(store, 0.05, lambda: now[0])
        waits: list[float] = []

        async def ask(seconds: float) -> None:
            waits.append(shelf._reads.patience)
            now[0] += seconds
            assert await shelf.aread("x") is None

        await ask(0.0)
        await shelf.awrite("x", b"1", 60)
        await ask(0.04)
        assert shelf.failures == 0
        await ask(0.02)
        await ask(2.0)
        assert waits == [0.001] * 4
        assert shelf.failures == 2
        await shelf.awrite("x", b"1", 60)
        release.set()

    anyio.run(work, backend=backend)


def test_tasks_that_never_began_leave_their_places() -> None:
    store = Bad(b"answer")
    shelf = Shelf(store, 0.05)

    async def work() -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await shelf.aread("x")

    for _ in range(9):
        anyio.run(work, backend="asyncio")
    assert shelf._reads._free._value == 8


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_store_that_hangs_keeps_no_process_from_ending(backend: str) -> None:
    release = threading.Event()
    shelf = Shelf(Bad(lambda: release.wait(20) and None), 0.05)

    async def work() -> None:
        before = set(threading.enumerate())
        assert await shelf.aread("x") is None
        begun = set(threading.enumerate()) - before
        assert begun
        assert all(one.daemon for one in begun)

    anyio.run(work, backend=backend)
    release.set()
