"""Threads, event loops, processes and finalisers share one client, or part with it, in peace."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from resilient_llm import AsyncResilientClient, ResilientClient, events
from resilient_llm.testing import EventRecorder, LoopbackLLM, Reply, Status
from tests.drive.clients import World, drain, eventually, openai

ROOT = Path(__file__).parents[2]
ANSWER = "Hello from the loopback server."


def in_threads(count: int, work: Any) -> list[Any]:
    """What ``work(index)`` returned or raised in so many threads at once."""
    results: list[Any] = []
    barrier = threading.Barrier(count)

    def one(index: int) -> None:
        barrier.wait()
        try:
            results.append(work(index))
        except BaseException as error:
            results.append(error)

    workers = [threading.Thread(target=one, args=(index,)) for index in range(count)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return results


def test_thirty_two_threads_share_a_client() -> None:
    with LoopbackLLM() as first, LoopbackLLM() as second:
        with ResilientClient([[openai(first, "a"), openai(second, "b")]]) as client:

            def work(index: int) -> list[str]:
                texts = [client.chat("hi").text for _ in range(5)]
                with client.stream("hi") as stream:
                    texts.append("".join(stream.text_deltas()))
                client.stream("hi").close()
                next(client.stream("hi"))
                return texts

            results = in_threads(32, work)
            assert all(result == [ANSWER] * 6 for result in results), results
            gc.collect()
            assert sum(one.in_flight for one in client.health().values()) == 0
        for server in (first, second):
            server.wait_for(lambda s: s.open_connections == 0)


def test_calls_do_not_mix_up_their_attempts() -> None:
    script = [Status(500) if index % 3 == 0 else Reply() for index in range(400)]
    with LoopbackLLM(*script) as first, LoopbackLLM() as second:
        client = ResilientClient(
            [openai(first, "a"), openai(second, "b")],
            retry={"budget": 1000.0},
            breaker={"consecutive": 10_000, "ratio": 0.45},
            advanced={"memory": 0.01},
        )
        with client:
            responses = [
                one for part in in_threads(10, lambda _: [client.chat("x") for _ in range(10)]) for one in part
            ]
        for response in responses:
            assert [record.number for record in response.attempts] == list(range(1, len(response.attempts) + 1))
            assert len(response.attempts) <= 2
        told = sum(record.provider == "a" for response in responses for record in response.attempts)
        assert told == first.request_count


def test_a_sync_and_an_async_client_share_what_they_know() -> None:
    with LoopbackLLM(Status(429, retry_after=30)) as first, LoopbackLLM() as second:
        sync = ResilientClient([openai(first, "a"), openai(second, "b")])
        shared = AsyncResilientClient(pool=sync.pool)

        async def ask() -> str:
            async with shared:
                return (await shared.chat("hi")).provider

        assert sync.chat("hi").provider == "b"
        assert asyncio.run(ask()) == "b"
        assert first.request_count == 1
        assert shared.health()["a"].gate_open_in is not None
        sync.close()


def test_one_async_client_serves_loop_after_loop_and_several_at_once() -> None:
    with LoopbackLLM(default=Reply("one two")) as server:
        client = AsyncResilientClient([openai(server)])

        async def work() -> list[str]:
            try:
                return [(await client.chat("hi")).text, await drain(client.stream("hi"))]
            finally:
                await client._driver.under_way().engine.aclose()

        for _ in range(3):
            assert asyncio.run(work()) == ["one two", "one two"]
        assert in_threads(6, lambda _: asyncio.run(work())) == [["one two", "one two"]] * 6
        import trio

        assert trio.run(work) == ["one two", "one two"]
        gc.collect()
        assert len(client._driver._loops) == 0
        server.wait_for(lambda s: s.open_connections == 0)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_a_stream_dropped_on_a_loop_that_ended_harms_no_later_loop() -> None:
    with LoopbackLLM(default=Reply("one two three", interval=5)) as server:
        client = AsyncResilientClient([openai(server)])
        kept: list[Any] = []

        async def begin() -> None:
            kept.append(client.stream("hi"))
            await anext(kept[0])

        async def ask() -> str:
            async with client:
                return (await client.chat("hi")).text

        loop = asyncio.new_event_loop()
        loop.run_until_complete(begin())
        loop.close()
        kept.clear()
        del loop
        gc.collect()
        assert client.health()["first"].in_flight == 0
        server.default = Reply()
        assert asyncio.run(ask()) == ANSWER
        gc.collect()
        assert not [one for one in client._driver._loops if one.is_closed()]


# --- listeners ---


def test_listeners_hear_what_happens(world: World) -> None:
    recorder = EventRecorder()
    client, _, _ = world.pair(Status(500), listeners=[recorder])
    client.chat()
    assert [event.provider for event in recorder.of(events.AttemptStarted)] == ["first", "second"]
    assert [event.record.outcome for event in recorder.of(events.AttemptEnded)] == ["error", "success"]


def test_a_listener_that_raises_harms_nobody(world: World, caplog: pytest.LogCaptureFixture) -> None:
    def broken(event: object) -> None:
        raise RuntimeError("listener")

    recorder = EventRecorder()
    client, _, _ = world.pair(Status(500), listeners=[broken, recorder])
    assert client.chat().provider == "second"
    assert len(recorder.of(events.AttemptEnded)) == 2
    assert "a listener failed" in caplog.text


def test_a_listener_may_use_the_client() -> None:
    with LoopbackLLM() as server:
        seen: list[object] = []

        def listener(event: events.Event) -> None:
            seen.append(client.health())
            if len(seen) == 1:
                seen.append(client.chat("from the listener").text)

        client = ResilientClient([openai(server)], listeners=[listener])
        with client:
            assert client.chat("hi").text == ANSWER
        assert ANSWER in seen
        assert server.request_count == 2


# --- interruptions ---


def test_control_c_changes_nobodys_health() -> None:
    slow = Reply(delay=5)
    with LoopbackLLM(default=slow) as first, LoopbackLLM(default=slow) as second:
        client = ResilientClient([openai(first, "a"), openai(second, "b")])
        with client:
            for options in ({}, {"deadline": 4}):  # on this thread, and racing in others
                timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
                timer.start()
                with pytest.raises(KeyboardInterrupt):
                    client.chat("hi", **options)  # type: ignore[arg-type]
                timer.join()
                standing = client.health()["a"]
                assert (standing.in_flight, standing.breaker) == (0, "closed")
                assert standing.success_rate >= 0.95
            first.drop_connections()


def script(body: str, timeout: float = 20) -> str:
    """The output of a Python script in a process of its own."""
    code = textwrap.dedent(PREAMBLE) + textwrap.dedent(body)
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", code],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"},
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


PREAMBLE = """
    import asyncio, os, sys, threading, time
    from resilient_llm import AsyncResilientClient, ResilientClient
    from resilient_llm.testing import *
    from tests.drive.clients import openai
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_starts_anew() -> None:
    out = script("""
        import subprocess, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        helper = subprocess.Popen(
            [sys.executable, "-c", "from resilient_llm.testing import *; import time\\n"
             "s = LoopbackLLM(default=Reply('one two three', interval=0.2)).start()\\n"
             "print(s.url, flush=True); time.sleep(15)"],
            stdout=subprocess.PIPE, text=True)
        url = helper.stdout.readline().strip()
        client = ResilientClient([openai(url, "a", max_concurrency=1)])
        client.chat("hi")
        stream = client.stream("hi")
        next(stream)
        assert client.health()["a"].in_flight == 1
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                assert client.health()["a"].in_flight == 0
                assert client.health()["a"].samples >= 1  # what was learnt stays
                text = client.chat("from the child", deadline=5).text
                stream.close()  # the parent's lease is not ours to give back
                assert client.health()["a"].in_flight == 0
                os.write(write, text.encode())
            finally:
                os._exit(0)
        assert os.read(read, 100) == b"one two three"
        os.waitpid(pid, 0)
        print(stream.response.text)
        stream.close()
        assert client.health()["a"].in_flight == 0
        helper.kill()
    """)
    assert out.startswith("one ")


def test_the_interpreter_exits_cleanly_with_an_open_stream() -> None:
    out = script("""
        server = LoopbackLLM(default=Reply("one two three", interval=5)).start()
        client = ResilientClient([openai(server)])
        stream = client.stream("hi")
        next(stream)
        print("bye")
    """)
    assert out == "bye\n"


def test_the_interpreter_does_not_wait_for_a_rescued_hang() -> None:
    began = time.monotonic()
    out = script("""
        first, second = LoopbackLLM(default=Hang()).start(), LoopbackLLM().start()
        client = ResilientClient([openai(first, "a"), openai(second, "b")])
        print(client.chat("hi", deadline=1.0).provider)
        first.default = Hang()
        threading.Thread(target=client.chat, args=("hi",), daemon=True).start()
        time.sleep(0.1)
    """)
    assert out == "b\n"
    assert time.monotonic() - began < 10


def test_an_async_stream_left_open_at_the_end_of_the_loop_is_no_drama() -> None:
    out = script("""
        server = LoopbackLLM(default=Reply("one two three", interval=5)).start()
        client = AsyncResilientClient([openai(server)])

        async def main():
            stream = client.stream("hi")
            await anext(stream)

        asyncio.run(main())
        print("bye")
    """)
    assert out == "bye\n"


def test_closing_a_client_ends_its_threads_and_connections(world: World) -> None:
    before = threading.active_count()
    server = world.server()
    client = world.client([openai(server)])
    client.chat()
    client.close()
    server.wait_for(lambda s: s.open_connections == 0)
    eventually(lambda: threading.active_count() <= before + 2)
    client.close()  # twice is once


def test_dropped_clients_leave_no_growth_on_a_loop() -> None:
    """In a process of its own: what other tests leave to be done in theirs (threads that end, caches that fill) is no
    growth of these clients.  The server's books of what it received are the test's."""
    out = script("""
        import collections, gc

        def census():
            gc.collect()
            ours = (f"{type(thing).__module__}.{type(thing).__qualname__}" for thing in gc.get_objects())
            return collections.Counter(
                name for name in ours if name.startswith("resilient_llm.") and ".testing." not in name
            )

        async def use(server, clients):
            for _ in range(clients):
                async with AsyncResilientClient([openai(server)]) as client:
                    await client.chat("hi")

        async def main():
            with LoopbackLLM() as server:
                await use(server, 3)
                before = census()
                await use(server, 20)
                print(dict(census() - before))

        asyncio.run(main())
    """)
    assert out == "{}\n"
