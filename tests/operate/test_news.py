"""News that processes exchange, through a real Redis: what they change, and that nothing which happens to the store
changes more."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_llm import ConfigurationError, ResilientClient
from resilient_llm.decide.keys import Refusal
from resilient_llm.errors import FaultKind, ProviderError
from resilient_llm.operate.background import background_of
from resilient_llm.operate.news import SharedNews, share_news, share_pace
from resilient_llm.operate.news.message import News, decoded
from resilient_llm.operate.news.shared import _known
from resilient_llm.providers import Function, OpenAI
from resilient_llm.testing import LoopbackLLM
from tests.decide.world import PROPERTY
from tests.operate.redis_server import RedisServer, needs_redis

PASSWORD = "canary-0123456789"
BY_HAND = 60.0  # seconds between rounds, which the tests make themselves


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


class Worker:
    """A client as one process has it.  Its first provider fails or not, as ``fault`` says; the second is well."""

    def __init__(self, url: str, *, group: str, alone: bool = False) -> None:
        self.fault: ProviderError | None = None
        self.asked = 0
        providers = [Function(self._first, id="first"), Function(lambda messages: "second", id="second")]
        self.client = ResilientClient(providers[:1] if alone else providers)
        self.news = share_news(self.client, url, group=group, every=BY_HAND)

    def _first(self, messages: object) -> str:
        self.asked += 1
        if self.fault is not None:
            raise self.fault
        return "first"

    def calls(self, count: int = 1) -> list[str]:
        return [self.client.chat("?", deadline=5).text for _ in range(count)]

    def why(self) -> str | None:
        return self.client.explain()[0].reason


@contextmanager
def workers(url: str, group: str, count: int = 2, **options: bool) -> Iterator[list[Worker]]:
    made = [Worker(url, group=group, **options) for _ in range(count)]
    try:
        yield made
    finally:
        for worker in made:
            worker.news.close()
            worker.client.close()


DOWN = ProviderError("down", kind=FaultKind.SERVER_ERROR, status=503)


@needs_redis
def test_what_fails_for_one_is_left_alone_by_the_others_until_it_is_well(redis: RedisServer) -> None:
    with workers(redis.url, "outage") as (one, other):
        one.fault = other.fault = DOWN
        assert one.calls(6) == ["second"] * 6
        exchanged(one.news)
        exchanged(other.news)
        assert str(other.why()).startswith(Refusal.HEARD.value)
        assert other.calls(3) == ["second"] * 3
        assert other.asked == 0, "no attempt was wasted on it"
        assert other.news.status().received == 1
        one.fault = other.fault = None
        one.client.restore("first")
        exchanged(one.news)
        exchanged(other.news)
        assert (other.why(), other.calls()) == (None, ["first"])


@needs_redis
def test_a_wait_that_one_was_told_is_kept_by_those_with_the_same_account(redis: RedisServer) -> None:
    with workers(redis.url, "limit") as (one, other):
        one.fault = ProviderError("slower", kind=FaultKind.RATE_LIMITED, status=429, retry_after=20.0)
        one.calls()
        exchanged(one.news)
        exchanged(other.news)
        assert (other.calls(), other.asked) == (["second"], 0)


@needs_redis
def test_a_newcomer_hears_what_was_told_before_it_came(redis: RedisServer) -> None:
    with workers(redis.url, "newcomer", 1) as (one,):
        one.fault = ProviderError("slower", kind=FaultKind.RATE_LIMITED, status=429, retry_after=20.0)
        one.calls()
        exchanged(one.news)
        with workers(redis.url, "newcomer", 1) as (late,):
            exchanged(late.news)
            assert str(late.why()).startswith(Refusal.HEARD.value)
        with workers(redis.url, "another group", 1) as (stranger,):
            exchanged(stranger.news)
            assert stranger.why() is None


@needs_redis
def test_the_same_news_are_told_once(redis: RedisServer) -> None:
    with workers(redis.url, "once", 1) as (one,):
        one.fault = ProviderError("slower", kind=FaultKind.RATE_LIMITED, status=429, retry_after=20.0)
        one.calls()
        for _ in range(3):
            exchanged(one.news)
        assert one.news.status().sent == 1


@needs_redis
def test_a_store_that_stands_still_comes_back_or_dies_changes_no_call(
    redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "resilient_llm.operate")
    with RedisServer() as store, workers(store.url, "g") as (one, other):
        exchanged(one.news)
        store.pause()
        blocked = threading.Thread(target=round_of, args=(one.news,))
        blocked.start()
        assert one.calls(5) == ["first"] * 5, "while the background waits for the store"
        blocked.join()
        assert one.news.status().last_failure == "TimeoutError"
        store.resume()
        exchanged(one.news)
        store.stop()
        for _ in range(3):
            round_of(one.news)
        assert one.calls() == ["first"]
        status = one.news.status()
        assert (status.connected, status.last_failure) == (False, "ConnectionError")
        assert status.failures >= 4
        store.start()
        exchanged(one.news)
        assert other.news.status().connected is None
    told = [record.getMessage() for record in caplog.records]
    assert [line.partition("(")[0].strip(" ;") for line in told] == [
        "shared news: the store does not answer",
        "shared news: the store answers again",
        "shared news: the store does not answer",
        "shared news: the store answers again",
    ]


def round_of(news: SharedNews) -> None:
    """One round, without the pause after a failure."""
    news._not_before = 0.0
    news.exchange()


def exchanged(news: SharedNews) -> None:
    """A round in which the store answered: on a busy machine it may take longer than it is given."""

    def answered() -> bool:
        round_of(news)
        return bool(news.status().connected)

    until(answered)


@needs_redis
def test_garbage_in_the_stream_is_ignored(redis: RedisServer) -> None:
    from redis import Redis

    key = "resilient_llm:news:garbage"
    junk: list[dict[bytes, bytes]] = [
        {b"n": b"\xff\x00"},
        {b"n": b"[" * 300},
        {b"n": b"{}"},
        {b"n": b"x" * 5000},
        {b"m": b"other"},
        {b"n": b"1", b"m": b"2"},
        {b"n": json.dumps({"v": 1, "from": "x", "of": "y", "is": "failing", "s": 1e400}).encode()},
        {b"n": json.dumps({"v": 2, "from": "x", "of": "y", "is": "failing", "s": 1.0}).encode()},
    ]
    with Redis.from_url(redis.url) as raw, workers(redis.url, "garbage", 1) as (one,):
        for fields in junk:
            raw.xadd(key, fields)  # type: ignore[arg-type]
        exchanged(one.news)
        assert one.news.status().ignored == len(junk)
        assert one.why() is None
        raw.delete(key)
        raw.set(key, "not a stream")
        round_of(one.news)
        assert one.news.status().last_failure == "ResponseError"
        assert one.calls() == ["first"]


@pytest.mark.parametrize(
    "answer", [b"", b"\x00\xff" * 500, b"HTTP/1.1 200 OK\r\n\r\n", b"*1\r\n" * 2000, b"+OK\r\n" * 50, b"$-5\r\nx"]
)
def test_a_stranger_behind_the_stores_address_changes_nothing(answer: bytes) -> None:
    pytest.importorskip("redis")
    with stranger(answer) as port, workers(f"redis://:{PASSWORD}@127.0.0.1:{port}", "g", 1) as (one,):
        for _ in range(2):
            round_of(one.news)
        assert one.news.status().failures == 2
        assert (one.why(), one.calls()) == (None, ["first"])
        assert PASSWORD not in repr(one.news) + repr(one.news.status())


@contextmanager
def stranger(answer: bytes) -> Iterator[int]:
    """A server that answers everything with the same bytes and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
    thread.join(5)


WORKER = """
import os, sys, time
from resilient_llm import ResilientClient
from resilient_llm.operate.news import share_news
from resilient_llm.providers import OpenAICompatible
store, first, second, fork = sys.argv[1:5]
urls = {"first": first, "second": second}
client = ResilientClient([OpenAICompatible("m", id=name, base_url=url) for name, url in urls.items()])
news = share_news(client, store, group="fleet", every=0.05)
if fork == "fork" and os.fork():
    os.wait()
    os._exit(0)
for line in sys.stdin:
    if line.strip() == "heard?":
        ends = time.monotonic() + 20
        while client.explain()[0].reason is None and time.monotonic() < ends:
            time.sleep(0.02)
        print(client.explain()[0].reason, flush=True)
    elif line.strip() == "told?":
        ends = time.monotonic() + 20
        while not news.status().sent and time.monotonic() < ends:
            time.sleep(0.02)
        print(news.status().sent, flush=True)
    else:
        print(client.chat("?", deadline=10).provider, flush=True)
"""


class Process:
    """A worker process: one line in, one line out."""

    def __init__(self, store: str, first: str, second: str, fork: str = "") -> None:
        command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", WORKER, store, first, second, fork]
        self.popen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._watchdog = threading.Timer(60.0, self.popen.kill)
        self._watchdog.start()

    def say(self, line: str) -> str:
        assert self.popen.stdin is not None
        assert self.popen.stdout is not None
        self.popen.stdin.write(f"{line}\n")
        self.popen.stdin.flush()
        return self.popen.stdout.readline().strip()

    def kill(self) -> None:
        self._watchdog.cancel()
        self.popen.kill()
        self.popen.communicate()

    def end(self) -> None:
        """Of one that forked: its child reads the end of its input, and ends; killed, it would leave that behind."""
        self._watchdog.cancel()
        assert self.popen.stdin is not None
        self.popen.stdin.close()
        self.popen.stdin = None
        self.popen.communicate(timeout=20)


@needs_redis
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_processes_hear_what_one_told_that_was_killed_and_so_does_a_forked_child(redis: RedisServer) -> None:
    from resilient_llm.testing import Reply, Status

    with LoopbackLLM(default=Status(429, retry_after=60)) as first, LoopbackLLM(default=Reply("yes")) as second:
        urls = f"{first.url}/v1", f"{second.url}/v1"
        teller = Process(redis.url, *urls)
        try:
            assert [teller.say("call") for _ in range(3)] == ["second"] * 3
            assert teller.say("told?") == "1"
        finally:
            teller.kill()
        for fork in ("", "fork"):
            worker = Process(redis.url, *urls, fork)
            try:
                assert worker.say("heard?").startswith(Refusal.HEARD.value)
                assert worker.say("call") == "second"
            finally:
                worker.end()
        assert first.request_count == 1, "nobody else found out for itself"


def test_nothing_stands_in_the_way_of_a_call() -> None:
    with workers("redis://127.0.0.1:1", "g", 1) as (one,):
        plain = ResilientClient([Function(lambda messages: "x", id="x")])
        assert one.client.pool.listeners == plain.pool.listeners == ()
        assert type(one.client.pool.observer) is type(plain.pool.observer)
        plain.close()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"store": f"http://u:{PASSWORD}@host"}, "redis://host:6379/0"),
        ({"store": 7}, "a URL or a client"),
        ({"group": ""}, "group"),
        ({"every": 0}, "every"),
        ({"every": True}, "every"),
        ({"client": "client"}, "ResilientClient"),
    ],
)
def test_arguments_that_make_no_sense_are_refused_and_no_password_shown(
    arguments: dict[str, object], told: str
) -> None:
    pytest.importorskip("redis")
    with ResilientClient([Function(lambda messages: "x", id="x")]) as client:
        given: dict[str, object] = {"client": client, "store": "redis://127.0.0.1:1", **arguments}
        with pytest.raises(ConfigurationError, match=told) as caught:
            share_news(given.pop("client"), given.pop("store"), **given)  # type: ignore[arg-type]
    assert PASSWORD not in str(caught.value)
    assert caught.value.__cause__ is None


@PROPERTY
@given(st.one_of(st.binary(max_size=600), st.text().map(str.encode), st.none(), st.integers()))
def test_whatever_arrives_is_news_or_nothing(data: object) -> None:
    found = decoded(data)
    assert found is None or found.seconds >= 0.0


@PROPERTY
@given(
    st.text(max_size=30),
    st.text(max_size=30),
    st.sampled_from(["failing", "limited", "refused", "well"]),
    st.floats(0, 1e6),
)
def test_news_arrive_as_they_were_sent(sender: str, of: str, kind: str, seconds: float) -> None:
    news = News(sender, of, kind, round(seconds, 3))  # type: ignore[arg-type]
    if len(news.encoded()) <= 400:
        assert decoded(news.encoded()) == news


def test_the_background_of_a_forked_child_goes_on_and_leaves_the_parents_jobs_to_the_parent() -> None:
    with ResilientClient([Function(lambda messages: "x", id="x")]) as client:
        background = background_of(client.pool)
        done: list[str] = []
        with background._changed:  # as the parent's thread may hold it
            background._jobs.append(lambda: done.append("the parent's"))
            background.reset_after_fork()
        background.every(0.01, lambda: done.append("again"))
        until(lambda: len(done) > 1)
        background.close()
        assert set(done) == {"again"}


def until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.01)


def test_a_call_that_nobody_can_serve_is_not_refused_because_of_news() -> None:
    with workers("redis://127.0.0.1:1", "g", 1, alone=True) as (one,):
        pool = one.client.pool
        pool.pool.hint("first", pool.clock(), seconds=50.0)
        assert one.client.chat("?", deadline=1).text == "first", "its deadline comes before the wait"


def test_a_key_that_a_function_gives_is_the_same_account_elsewhere_unless_it_is_named() -> None:
    def known(**options: object) -> str:
        provider = OpenAI("m", id="p", **options)  # type: ignore[arg-type]
        return _known(provider).of_account

    assert known(api_key=lambda: "k") == known(api_key=lambda: "k")
    assert known(api_key=lambda: "k", account="a") == known(api_key=lambda: "k", account="a")
    assert len({known(api_key=lambda: "k"), known(api_key=lambda: "k", account="a"), known(api_key="k")}) == 3


def test_a_client_that_decodes_is_refused_and_one_that_waits_for_long_is_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    redis = pytest.importorskip("redis")
    with ResilientClient([Function(lambda messages: "x", id="x")]) as client:
        for share in (share_news, share_pace):
            with pytest.raises(ConfigurationError, match="decode_responses off"):
                share(client, redis.Redis(port=1, decode_responses=True))
            share(client, redis.Redis(port=1, socket_timeout=0.1)).close()
            assert "socket_timeout" not in caplog.text
            share(client, redis.Redis(port=1, socket_timeout=None)).close()
            assert "has socket_timeout=None" in caplog.text
            caplog.clear()
