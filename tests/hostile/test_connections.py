"""What hostile or broken answers do to connections, and to the calls that come after them."""

from __future__ import annotations

import gzip
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from contextlib import closing
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from resilient_llm import AsyncResilientClient, ResilientClient
from resilient_llm.drive.engines import Limit, Outgoing
from resilient_llm.drive.engines.network import Stream
from resilient_llm.drive.engines.pooled import Pooled
from resilient_llm.errors import CallFailed, FaultKind
from resilient_llm.providers import Function
from tests.hostile.clients import KINDS, caller, provider, within
from tests.hostile.servers import BODY, RawServer, Serve, answer, open_to, read_request

ENGINES = [("sync", "httpx"), ("sync", "httpx2"), *((kind, "httpx") for kind in KINDS[1:]), ("trio", "httpx2")]
ASYNCIO = [("asyncio", "httpx2"), ("asyncio", "aiohttp")]


def answering(*answers: bytes) -> Serve:
    """Gives these answers in turn, the last one again and again."""
    left = list(answers)
    lock = threading.Lock()

    def serve(connection: socket.socket, over: threading.Event) -> None:
        while read_request(connection):
            with lock:
                data = left.pop(0) if len(left) > 1 else left[0]
            connection.sendall(data)

    return serve


# --- surplus bytes -----------------------------------------------------------------------------------------

POISON = answer(b"POISON")
CHUNKED = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n"
)


def chunked(text: bytes, extra: bytes = b"") -> bytes:
    body = BODY % text
    return CHUNKED % (len(body), body) + extra


@pytest.mark.parametrize(("kind", "engine"), ENGINES + ASYNCIO)
@pytest.mark.parametrize("first", [answer(b"first", POISON), chunked(b"first", POISON)], ids=["length", "chunked"])
def test_surplus_bytes_are_nobodys_answer(kind: str, engine: str, first: bytes) -> None:
    with RawServer(answering(first, first, answer(b"last"))) as server:
        with caller(kind, [provider(server.url)], engine=engine) as client:
            assert [client.ask(deadline=5) for _ in range(3)] == ["first", "first", "last"]


@pytest.mark.parametrize(("kind", "engine"), ENGINES)
def test_a_length_that_is_too_short_costs_that_call_only(kind: str, engine: str) -> None:
    short = answer(b"short", length=len(BODY % b"short") - 4)
    with RawServer(answering(short, answer(b"well"))) as server:
        with caller(kind, [provider(server.url)], engine=engine, retry={"max_attempts": 1}) as client:
            with pytest.raises(CallFailed):
                client.ask(deadline=5)
            assert [client.ask(deadline=5) for _ in range(4)] == ["well"] * 4


@pytest.mark.parametrize(("kind", "engine"), ENGINES + ASYNCIO)
def test_well_formed_answers_share_a_connection(kind: str, engine: str) -> None:
    with RawServer(answering(answer(b"a"), chunked(b"b"))) as server:
        with caller(kind, [provider(server.url)], engine=engine) as client:
            assert [client.ask(deadline=5) for _ in range(5)] == ["a", "b", "b", "b", "b"]
            assert server.connections == 1


# --- stale connections -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "engine"), ENGINES + ASYNCIO)
def test_a_kept_connection_that_was_closed_is_no_failure(kind: str, engine: str) -> None:
    """Each connection serves one request, waits for the next, and is reset when it has come."""

    def serve(connection: socket.socket, over: threading.Event) -> None:
        read_request(connection)
        connection.sendall(answer(b"well"))
        read_request(connection)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    with RawServer(serve) as server, caller(kind, [provider(server.url)], engine=engine) as client:
        assert [client.ask(deadline=5) for _ in range(4)] == ["well"] * 4
        health = client.raw.health()["a"]
        assert (health.error_rate, health.success_rate >= 0.95) == (0.0, True)
        assert server.connections == 4


def test_a_call_that_must_not_be_repeated_is_not_sent_again() -> None:
    served: list[bytes] = []

    def serve(connection: socket.socket, over: threading.Event) -> None:
        served.append(read_request(connection))
        connection.sendall(answer(b"well"))
        served.append(read_request(connection))

    with RawServer(serve) as server, caller("sync", [provider(server.url)]) as client:
        client.ask()
        with pytest.raises(CallFailed):
            client.ask(idempotent=False, deadline=5)
        assert len(served) == 2


# --- sizes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress], ids=["gzip", "deflate"])
def test_bytes_after_compressed_data_are_bounded(kind: str, pack: Any) -> None:
    packed, name = pack(BODY % b"packed"), b"gzip" if pack is gzip.compress else b"deflate"

    def serve(connection: socket.socket, over: threading.Event) -> None:
        read_request(connection)
        size = len(packed) + (20 << 20)
        head = b"HTTP/1.1 200 OK\r\ncontent-encoding: %s\r\ncontent-length: %d\r\n\r\n" % (name, size)
        connection.sendall(head + packed)
        for _ in range(320):
            connection.sendall(bytes(65536))

    with RawServer(serve) as server:
        with caller(kind, [provider(server.url)], stream={"max_bytes": 1 << 20}, retry={"max_attempts": 1}) as client:
            began = time.process_time()
            with pytest.raises(CallFailed) as failed:
                client.ask(deadline=10)
            assert time.process_time() - began < 2.0
    assert failed.value.fault is not None
    assert failed.value.fault.kind is FaultKind.INVALID_RESPONSE


CHUNK = b'data: {"id":"1","model":"m","choices":[{"index":0,"delta":{"content":"%s"},"finish_reason":%s}]}\n\n'
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"


@pytest.mark.parametrize(("kind", "engine"), [*ENGINES[2:], *ASYNCIO])
def test_a_connection_that_is_replaced_is_nobody_elses(kind: str, engine: str) -> None:
    goes_on = threading.Event()

    def slowly(connection: socket.socket, over: threading.Event) -> None:
        read_request(connection)
        connection.sendall(STREAM + CHUNK % (b"one ", b"null"))
        goes_on.wait(10)
        connection.sendall(CHUNK % (b"two", b'"stop"') + b"data: [DONE]\n\n")

    def once(connection: socket.socket, over: threading.Event) -> None:
        read_request(connection)
        connection.sendall(answer(b"well"))
        connection.recv(1)  # the next request, which is not answered

    async def main() -> None:
        with RawServer(slowly) as slow, RawServer(once) as other:
            providers = [provider(slow.url), provider(other.url, "b")]
            async with AsyncResilientClient(providers, engine=engine) as client:
                async with client.stream("hi", providers=["a"], deadline=10) as stream:
                    texts = stream.text_deltas()
                    assert await anext(texts) == "one "
                    for connections in (1, 2):
                        assert (await client.chat("hi", providers=["b"], deadline=5)).text == "well"
                        assert other.connections == connections
                    goes_on.set()
                    assert [text async for text in texts] == ["two"]

    anyio.run(main, backend=kind)


# --- answers that are none ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "engine"), ENGINES + ASYNCIO)
@pytest.mark.parametrize(
    "wrong",
    [
        b"HELLO\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n: no name\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -4\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nwords\r\n",
    ],
)
def test_what_is_no_answer_is_no_bad_request(kind: str, engine: str, wrong: bytes) -> None:
    with RawServer(answering(wrong)) as server, RawServer(answering(answer(b"well"))) as other:
        both = [provider(server.url), provider(other.url, "b")]
        with caller(kind, both, engine=engine) as client:
            assert client.ask(deadline=5) == "well"


@pytest.mark.parametrize(("kind", "engine"), ENGINES + ASYNCIO)
def test_long_headers_are_read(kind: str, engine: str) -> None:
    long = answer(b"well").replace(b"\r\n", b"\r\nx-long: " + b"a" * 60_000 + b"\r\n", 1)
    with RawServer(answering(long)) as server, caller(kind, [provider(server.url)], engine=engine) as client:
        assert client.ask(deadline=5) == "well"


@pytest.mark.parametrize(("kind", "engine"), ENGINES + ASYNCIO)
def test_a_large_request_is_sent_whole_and_without_a_warning(kind: str, engine: str) -> None:
    asked: list[int] = []

    def serve(connection: socket.socket, over: threading.Event) -> None:
        while request := read_request(connection):
            asked.append(len(request))
            connection.sendall(answer(b"well"))

    with RawServer(serve) as server, caller(kind, [provider(server.url)], engine=engine) as client:
        assert client.ask("x" * 3_000_000, deadline=10) == "well"
    assert asked[0] > 3_000_000


# --- interrupts --------------------------------------------------------------------------------------------


def test_a_connection_that_was_interrupted_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C between two lines leaves it in the middle of anything; others are not affected."""

    def limit() -> Limit:
        return Limit(time.monotonic, time.monotonic() + 2.0, 2.0)

    def answered() -> None:
        with closing(engine.send(send, limit())) as found:
            while found.read() is not None:
                pass

    def interrupted(*_: object) -> bytes:
        raise KeyboardInterrupt

    with RawServer(answering(answer(b"well"))) as server:
        engine = Pooled("httpx")
        send = Outgoing("a", server.url + "/v1", (), b"{}")
        for _ in range(2):
            answered()
        assert server.connections == 1
        with monkeypatch.context() as patch:
            patch.setattr(Stream, "read", interrupted)
            with pytest.raises(KeyboardInterrupt):
                engine.send(send, limit())
        answered()
        assert server.connections == 2
        engine.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it may hit a finaliser, anybody's
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there is no timer here")
def test_interrupts_lose_no_lease_and_wedge_nobody() -> None:
    """A short version; the long one is ``python -m tests.hostile``."""
    from tests.hostile.interrupts import by_timer

    tried, hurt = by_timer(120)
    assert tried >= 60
    assert hurt == 0


# --- the event loop ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_provider_at_full_speed_leaves_the_loop_to_others(backend: str) -> None:
    async def torrent(request: object) -> Any:
        for _ in range(20_000):
            yield "x"

    async def main() -> None:
        turns = 0

        async def watch() -> None:
            nonlocal turns
            while True:
                await anyio.lowlevel.checkpoint()
                turns += 1

        async with AsyncResilientClient([Function(torrent, id="f")]) as client, anyio.create_task_group() as group:
            group.start_soon(watch)
            assert len((await client.chat("x", deadline=30)).text) == 20_000
            group.cancel_scope.cancel()
        assert turns >= 20_000 / 64  # counted, not timed: the machine may be busy

    anyio.run(main, backend=backend)


def test_a_timer_that_fires_as_its_call_ends_complains_to_nobody() -> None:
    """800 calls, 30 at a time, each answered about when its rescue is due."""
    told: list[Any] = []

    def serve(connection: socket.socket, over: threading.Event) -> None:
        while read_request(connection):
            time.sleep(0.03)
            connection.sendall(answer(b"well"))

    async def main() -> None:
        import asyncio

        asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
        limiter = anyio.CapacityLimiter(30)

        async def one(client: AsyncResilientClient) -> None:
            async with limiter:
                assert (await client.chat("x", deadline=10)).text == "well"

        advanced = {"rescue_min": 0.03, "rescue_max": 0.03}
        with RawServer(serve) as one_server, RawServer(serve) as other:
            providers = [provider(one_server.url), provider(other.url, "b")]
            async with AsyncResilientClient(
                providers, advanced=advanced, hedge={"factor": 1.0, "ratio": 1.0}
            ) as client:
                async with anyio.create_task_group() as group:
                    for _ in range(800):
                        group.start_soon(one, client)
                assert sum(standing.in_flight for standing in client.health().values()) == 0

    anyio.run(main)
    assert not told


# --- forks -------------------------------------------------------------------------------------------------

FORKS = """
import os, sys, threading
from resilient_llm import ResilientClient
from tests.hostile.clients import provider
url = sys.argv[1]
for _ in range(8):
    client = ResilientClient([provider(url)])
    first = threading.Thread(target=client.chat, args=("x",))
    first.start()
    child = os.fork()
    if not child:
        try:
            os._exit(client.chat("x", deadline=5).text != "well")
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    first.join()
    client.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_during_the_first_call_wedges_no_child() -> None:
    with RawServer(answering(answer(b"well"))) as server:
        done = subprocess.run(
            [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKS, server.url],
            capture_output=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stderr.decode()[-2000:]


# --- closing -----------------------------------------------------------------------------------------------


def test_closing_lets_calls_and_streams_finish() -> None:
    from resilient_llm.testing import LoopbackLLM, Reply

    with LoopbackLLM(default=Reply("one two three", interval=0.05)) as server:
        client = ResilientClient([provider(server.url)])
        stream = client.stream("x")
        pieces = [next(stream)]
        texts: list[str] = []
        calling = threading.Thread(target=lambda: texts.append(client.chat("x").text))
        reading = threading.Thread(target=lambda: pieces.extend(stream))
        for thread in (calling, reading):
            thread.start()
        server.wait_for(lambda s: s.request_count == 2)
        began = time.monotonic()
        client.close(drain=10)
        assert time.monotonic() - began < 5
        for thread in (calling, reading):
            thread.join(5)
        assert texts == ["one two three"]
        assert "".join(getattr(piece, "text", "") for piece in pieces) == "one two three"


def test_closing_at_once_ends_what_runs_and_judges_nobody() -> None:
    from resilient_llm.errors import ClientClosed
    from resilient_llm.testing import Hang, LoopbackLLM

    with LoopbackLLM(default=Hang()) as server:
        client = ResilientClient([provider(server.url)])
        errors: list[BaseException] = []

        def call() -> None:
            try:
                client.chat("x", deadline=10)
            except ClientClosed as closed:
                errors.append(closed)

        calling = threading.Thread(target=call)
        calling.start()
        server.wait_for(lambda s: s.request_count == 1)
        client.close()
        calling.join(2)
        assert not calling.is_alive()
        assert errors
        health = client.health()["a"]
        assert (health.in_flight, health.error_rate) == (0, None)


@pytest.mark.parametrize("kind", KINDS)
def test_closing_wakes_who_waits(kind: str) -> None:
    from resilient_llm.errors import ClientClosed
    from resilient_llm.testing import LoopbackLLM, Status

    with LoopbackLLM(default=Status(429, retry_after=20)) as server, caller(kind, [provider(server.url)]) as client:
        errors: list[BaseException] = []

        def call() -> None:
            try:
                client.ask(deadline=60)
            except ClientClosed as closed:
                errors.append(closed)

        calling = threading.Thread(target=call)
        calling.start()
        server.wait_for(lambda s: s.request_count == 1)
        time.sleep(0.1)
        client.close(5)
        calling.join(2)
        assert errors
        assert within(1, lambda: open_to(int(server.url.rpartition(":")[2])) == 0)
