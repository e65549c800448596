"""Declared limits that processes keep to together, through a real Redis, and what becomes of them without it."""

from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress

import pytest

from resilient_llm import CallFailed, ConfigurationError, ResilientClient
from resilient_llm.decide.granted import Granted
from resilient_llm.decide.meters import Declared
from resilient_llm.operate import load
from resilient_llm.operate.news import SharedPace, buckets, share_pace
from resilient_llm.operate.news.buckets import Asked, Buckets
from resilient_llm.operate.news.pace import _name
from resilient_llm.operate.news.store import connect
from resilient_llm.operate.secrets import Secret
from resilient_llm.providers import OpenAI
from resilient_llm.testing import LoopbackLLM, Reply, ScriptedProvider
from tests.operate.redis_server import RedisServer, needs_redis
from tests.operate.test_news import stranger

PASSWORD = "canary-0123456789"


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def server() -> Iterator[LoopbackLLM]:
    with LoopbackLLM(default=Reply("yes")) as made:
        yield made


@contextmanager
def worker(
    url: str, server: LoopbackLLM, group: str, per_minute: int = 600, workers: int = 1
) -> Generator[tuple[ResilientClient, SharedPace]]:
    provider = OpenAI("m", id="p", base_url=f"{server.url}/v1", api_key=PASSWORD, requests_per_minute=per_minute)
    with ResilientClient([provider]) as client:
        pace = share_pace(client, url, group=group, workers=workers)
        try:
            yield client, pace
        finally:
            pace.close()


def until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.01)


def asks(client: ResilientClient, count: int = 1) -> int:
    """How many of so many calls that do not wait are answered."""
    answered = 0
    for _ in range(count):
        with suppress(CallFailed):
            client.chat("?", deadline=0.05)
            answered += 1
    return answered


def meter(client: ResilientClient) -> Declared:
    return client.pool.pool.look(lambda members: members["p"].keys[0].pace.declared[0][0])


def stock(client: ResilientClient) -> Granted:
    found = meter(client)
    assert isinstance(found, Granted)
    return found


# --- the script ---


@needs_redis
def test_all_together_are_granted_what_there_is(redis: RedisServer) -> None:
    store = Buckets(connect(redis.url), "script")

    def ask(who: str, *, stock: float = 0.0, back: float = 0.0, most: float = 0.0, least: float = 0.0) -> float:
        [answer] = store.exchange(who, [Asked("b", 60.0, 0.001, stock, back, least, most)])
        return answer.granted

    assert ask("one") == 30.0, "half of what is there while nobody else is"
    assert ask("two") == 7.0, "a quarter where there are two"
    assert ask("one", stock=30.0, most=50.0) == 20.0
    assert ask("two", stock=7.0, most=50.0) == 3.0, "all that is left"
    assert ask("three", most=5.0, least=5.0) == 0.0
    assert ask("one", stock=40.0, back=10.0) == 0.0
    assert ask("three", most=5.0, least=5.0) == 5.0
    assert ask("four", stock=-3.0) == 3.0, "a debt is paid first"
    [answer] = store.exchange("five", [Asked("b", 60.0, 0.001, 0.0, 0.0, 1.0, 1.0)])
    assert answer.granted == 1.0
    [answer] = store.exchange("six", [Asked("b", 60.0, 0.001, 0.0, 0.0, 9.0, 9.0)])
    assert (answer.granted, answer.workers) == (0.0, 6)
    assert answer.wait == pytest.approx(8000.0, rel=0.01)


@needs_redis
def test_what_is_in_stock_somewhere_is_not_there_a_second_time(redis: RedisServer) -> None:
    store = Buckets(connect(redis.url), "stock")
    fast = Asked("b", 60.0, 1e6, 0.0, 0.0, 0.0, 60.0)  # it fills at once
    assert store.exchange("one", [fast])[0].granted == 60.0
    assert store.exchange("two", [fast])[0].granted == 0.0, "all of it is in stock at the first one"
    store.exchange("one", [fast._replace(most=0.0, stock=20.0)])
    assert store.exchange("two", [fast])[0].granted == 40.0


@needs_redis
def test_who_was_killed_holds_nothing_for_long(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buckets, "FORGOTTEN", 0.05)
    store = Buckets(connect(redis.url), "killed")
    fast = Asked("b", 60.0, 1e6, 0.0, 0.0, 0.0, 60.0)
    assert store.exchange("killed", [fast])[0].granted == 60.0
    time.sleep(0.1)
    [answer] = store.exchange("two", [fast])
    assert answer.workers == 1
    assert store.exchange("two", [fast])[0].granted == 60.0


@needs_redis
def test_garbage_in_the_store_is_a_full_bucket_or_no_answer(redis: RedisServer) -> None:
    raw = connect(redis.url)
    store = Buckets(raw, "garbage")
    asked = Asked("b", 60.0, 1.0, 0.0, 0.0, 0.0, 10.0)
    pipeline = raw.pipeline(transaction=False)
    for field, value in (("level", "x"), ("at", "nan"), ("out", b"\xff")):
        pipeline.execute_command("HSET", "resilient_llm:pace:{garbage}:b", field, value)
    pipeline.execute()
    assert 0.0 <= store.exchange("one", [asked])[0].granted <= 60.0
    pipeline.execute_command("DEL", "resilient_llm:pace:{garbage}:b")
    pipeline.execute_command("SET", "resilient_llm:pace:{garbage}:b", "text")
    pipeline.execute()
    with pytest.raises(Exception, match="WRONGTYPE"):
        store.exchange("one", [asked])


class Liar:
    """A store that answers this."""

    def __init__(self, answer: object) -> None:
        self.answer = answer

    def pipeline(self, transaction: bool = True) -> Liar:
        return self

    def execute_command(self, *parts: object) -> object:
        return self

    def execute(self, raise_on_error: bool = True) -> list[object]:
        return [self.answer]

    def close(self) -> None: ...


@pytest.mark.parametrize(
    "answer", [None, b"1 2 3 4", [], [b"1 2 3"], [b"nan 1 0 0"], ["1 1 0 0"], [b"1 1 0 0"] * 2, [b"inf 1 0 0"], [7]]
)
def test_an_answer_that_is_none_is_none(answer: object) -> None:
    with pytest.raises(ValueError, match=r"none|unpack|convert"):
        Buckets(Liar(answer), "g").exchange("one", [Asked("b", 60.0, 1.0, 0.0, 0.0, 0.0, 10.0)])


def test_an_answer_beyond_all_bounds_grants_a_full_bucket_at_most() -> None:
    [answer] = Buckets(Liar([b"1e9 1e9 1e9 1e9"]), "g").exchange("one", [Asked("b", 60.0, 1.0, 0.0, 0.0, 0.0, 10.0)])
    assert (answer.granted, answer.workers) == (120.0, 10_000)


# --- clients ---


@needs_redis
def test_clients_keep_to_one_limit_together(redis: RedisServer, server: LoopbackLLM) -> None:
    before = server.request_count
    with (
        worker(redis.url, server, "together", 60) as (one, pace),
        worker(redis.url, server, "together", 60) as (two, _),
    ):
        began = time.monotonic()
        until(lambda: pace.status().workers == 2)
        until(lambda: asks(one) + asks(two) >= 0 and server.request_count - before >= 60)
        assert server.request_count - before <= 60 + (time.monotonic() - began) + 2, "a full bucket, and one a second"
    assert pace.status().connected is True


@needs_redis
def test_a_call_that_waits_is_woken_by_what_is_granted(redis: RedisServer, server: LoopbackLLM) -> None:
    with worker(redis.url, server, "waits", 600) as (one, _):
        for _ in range(70):  # the bucket, and ten a second
            assert one.chat("?", deadline=10).text == "yes"


@needs_redis
def test_a_store_that_stands_still_slows_no_call_and_leaves_each_its_share(
    server: LoopbackLLM, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "resilient_llm.operate")
    with RedisServer() as store, worker(store.url, server, "still", 6000, 4) as (one, pace):
        until(lambda: bool(pace.status().connected))
        asks(one, 5)
        store.pause()
        until(lambda: pace.status().connected is False)
        assert one.chat("?", deadline=5).text == "yes", "at its share, which is all while nobody else was heard of"
        store.resume()
        until(lambda: bool(pace.status().connected))
        store.stop()
        until(lambda: pace.status().connected is False)
        assert one.chat("?", deadline=5).text == "yes"
        assert pace.status().last_failure in ("ConnectionError", "TimeoutError")
    told = [record.getMessage() for record in caplog.records if record.name == "resilient_llm.operate"]
    assert told[0].startswith("shared pace: the store does not answer")
    assert "1/1 of each limit" in told[0]
    assert told[1] == "shared pace: the store answers again"


@pytest.mark.parametrize("answer", [b"", b"\x00\xff" * 500, b"*1\r\n" * 2000, b"$-5\r\nx"])
def test_a_stranger_behind_the_stores_address_leaves_each_its_share(answer: bytes, server: LoopbackLLM) -> None:
    pytest.importorskip("redis")
    with (
        stranger(answer) as port,
        worker(f"redis://:{PASSWORD}@127.0.0.1:{port}", server, "g", 60_000, workers=10) as (one, pace),
    ):
        until(lambda: pace.status().failures > 0)
        assert one.chat("?", deadline=5).text == "yes"
        assert stock(one).share == 0.1
        assert PASSWORD not in repr(pace) + repr(pace.status())


@needs_redis
def test_a_client_whose_providers_are_replaced_shares_the_new_ones_limits(
    redis: RedisServer, server: LoopbackLLM
) -> None:
    with worker(redis.url, server, "replaced") as (one, _):
        provider = OpenAI("m", id="p", base_url=f"{server.url}/v1", api_key="k", requests_per_minute=30)
        one.replace_providers([provider])
        until(lambda: meter(one).limit == 30.0 and isinstance(meter(one), Granted))
        one.replace_providers([ScriptedProvider(id="q")])
        assert one.chat("?").provider == "q"


@needs_redis
def test_what_is_closed_keeps_to_the_limit_by_itself(redis: RedisServer, server: LoopbackLLM) -> None:
    with worker(redis.url, server, "closed") as (one, pace):
        with pytest.raises(ConfigurationError, match="shared already"):
            share_pace(one, redis.url)
        pace.close()
        pace.close()
        assert type(meter(one)) is Declared
        assert repr(pace) == "<SharedPace closed>"
        share_pace(one, redis.url).close()


WORKER = """
import os, sys, threading, time
from resilient_llm import CallFailed, ResilientClient
from resilient_llm.operate.news import share_pace
from resilient_llm.operate.secrets import Secret
from resilient_llm.providers import OpenAI
store, url, fork = sys.argv[1:4]
client = ResilientClient([OpenAI("m", id="p", base_url=url, api_key="k", requests_per_minute=60)])
share_pace(client, store, group="processes", workers=3)
if fork and os.fork():
    os.wait()
    os._exit(0)
print("ready", flush=True)
sys.stdin.readline()
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
while True:
    try:
        client.chat("?", deadline=0.5)
    except CallFailed:
        time.sleep(0.01)
"""


@needs_redis
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_processes_keep_to_one_limit_while_one_is_killed_and_one_was_forked(
    redis: RedisServer, server: LoopbackLLM
) -> None:
    before = server.request_count
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", WORKER, redis.url, f"{server.url}/v1"]
    processes = [
        subprocess.Popen([*command, fork], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for fork in ("", "fork", "")
    ]

    def kill_all() -> None:
        for one in processes:
            one.kill()

    watchdog = threading.Timer(60.0, kill_all)
    watchdog.start()
    for one in processes:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
    start = time.monotonic()
    for one in processes:
        assert one.stdin is not None
        one.stdin.write("go\n")
        one.stdin.flush()
    until(lambda: server.request_count - before >= 10, 30.0)
    processes[0].kill()
    until(lambda: server.request_count - before >= 40, 30.0)
    time.sleep(0.3)
    for one in processes:
        one.communicate()
    watchdog.cancel()
    lasted = time.monotonic() - start
    assert server.request_count - before <= 60 + lasted + 3, "a full bucket, and one a second"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"store": f"http://u:{PASSWORD}@host"}, "redis://host:6379/0"),
        ({"store": 7}, "a URL or a client"),
        ({"group": ""}, "group"),
        ({"workers": 0}, "workers"),
        ({"workers": True}, "workers"),
        ({"client": "client"}, "ResilientClient"),
    ],
)
def test_arguments_that_make_no_sense_are_refused_and_no_password_shown(
    arguments: dict[str, object], told: str
) -> None:
    pytest.importorskip("redis")
    with ResilientClient([ScriptedProvider(id="x")]) as client:
        given: dict[str, object] = {"client": client, "store": "redis://127.0.0.1:1", **arguments}
        with pytest.raises(ConfigurationError, match=told) as caught:
            share_pace(given.pop("client"), given.pop("store"), **given)  # type: ignore[arg-type]
    assert PASSWORD not in str(caught.value)


@needs_redis
def test_its_thread_ends_with_the_client(redis: RedisServer) -> None:
    client = ResilientClient([ScriptedProvider(id="x")], name="ends")
    share_pace(client, redis.url)
    name = f"resilient_llm-{client.pool.name}-pace"
    assert any(thread.name == name for thread in threading.enumerate())
    del client
    gc.collect()
    until(lambda: not any(thread.name == name for thread in threading.enumerate()))


@needs_redis
def test_settings_ask_for_it(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORE", redis.url)
    provider = {"kind": "openai", "model": "m", "api_key": "plain:k", "requests_per_minute": 60}
    client = load({"providers": {"p": provider}, "news": {"store": "env:STORE", "exact_pace": True, "workers": 4}})
    with client:
        assert isinstance(client, ResilientClient)
        assert stock(client).limit == 60.0


@needs_redis
def test_processes_that_name_the_same_secret_share_its_limits(redis: RedisServer, server: LoopbackLLM) -> None:
    made: list[SharedPace] = []
    clients: list[ResilientClient] = []
    for reference in ("env:PATH", "env:PATH", "env:HOME"):
        provider = OpenAI("m", id="p", base_url=f"{server.url}/v1", api_key=Secret(reference), requests_per_minute=60)
        clients.append(ResilientClient([provider]))
        made.append(share_pace(clients[-1], redis.url, group="secrets"))
    until(lambda: [one.status().workers for one in made] == [2, 2, 1])
    for pace, client in zip(made, clients, strict=True):
        pace.close()
        client.close()


def test_a_key_that_a_function_gives_is_known_by_its_place_and_people_are_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pytest.importorskip("redis")

    def names(*keys: object, **options: str) -> list[str]:
        caplog.clear()
        provider = OpenAI("m", id="p", api_keys=list(keys), requests_per_minute=60, **options)  # type: ignore[arg-type]
        with ResilientClient([provider]) as client:
            pace = share_pace(client, "redis://127.0.0.1:1")
            pace.close()
            return client.pool.pool.look(
                lambda members: [_name(members["p"], key, key.terms.rates[0]) for key in members["p"].keys]
            )

    def named() -> str:
        return PASSWORD

    named.account = "team-a"  # type: ignore[attr-defined]
    first = names(lambda: PASSWORD, "sk-second")
    [told] = [record.getMessage() for record in caplog.records if "a function gives" in record.getMessage()]
    assert "p, key 1 of 2" in told
    assert "account=" in told
    assert names(lambda: "another object in another process", "sk-second") == first
    assert names(named, "sk-second") != first
    assert "a function gives" not in caplog.text
