"""Engines: which there are, what can be given instead, and the seam through which others get in between."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import anyio
import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient_llm import AsyncResilientClient, ResilientClient
from resilient_llm.drive.engines import AsyncSource, Limit, Outgoing, Source, Time
from resilient_llm.drive.engines.family import Family
from resilient_llm.errors import CallFailed, ConfigurationError
from resilient_llm.testing import LoopbackLLM, ManualClock, Reply, Status
from tests.drive.clients import openai

ANSWER = "Hello from the loopback server."


@pytest.mark.parametrize("engine", ["httpx", "httpx2"])
def test_the_sync_client_on_each_engine(engine: str) -> None:
    with LoopbackLLM() as server, ResilientClient([openai(server)], engine=engine) as client:
        assert client.chat("hi").text == ANSWER
        assert "".join(client.stream("hi").text_deltas()) == ANSWER
        assert server.connection_count == 1


@pytest.mark.parametrize(
    ("engine", "backend"),
    [("httpx", "asyncio"), ("httpx", "trio"), ("httpx2", "asyncio"), ("httpx2", "trio"), ("aiohttp", "asyncio")],
)
def test_the_async_client_on_each_engine(engine: str, backend: str) -> None:
    async def main() -> None:
        with LoopbackLLM() as first, LoopbackLLM() as second:
            first.default = Status(503)
            async with AsyncResilientClient([openai(first, "a"), openai(second, "b")], engine=engine) as client:
                answer = await client.chat("hi")
                assert (answer.text, [r.status for r in answer.attempts]) == (ANSWER, [503, 200])
                async with client.stream("hi") as stream:
                    assert "".join([text async for text in stream.text_deltas()]) == ANSWER
                assert second.connection_count == 1
            await second.wait_for_async(lambda s: s.open_connections == 0)

    anyio.run(main, backend=backend)


@pytest.mark.parametrize("engine", ["httpx", "httpx2", "aiohttp"])
def test_exceptions_of_each_engine_mean_the_same(engine: str) -> None:
    async def main() -> list[Any]:
        with LoopbackLLM() as server:
            server.refuse()
            async with AsyncResilientClient([openai(server)], engine=engine, retry={"max_attempts": 1}) as client:
                with pytest.raises(CallFailed) as failed:
                    await client.chat("hi", deadline=3)
        fault = failed.value.fault
        assert fault is not None
        return [fault.kind, fault.code]

    assert anyio.run(main) == ["connection", "not_sent"]


def test_aiohttp_is_for_asyncio_only() -> None:
    with pytest.raises(ConfigurationError, match="AsyncResilientClient"):
        ResilientClient([openai("http://h")], engine="aiohttp")

    async def main() -> None:
        client = AsyncResilientClient([openai("http://h")], engine="aiohttp")
        with pytest.raises(ConfigurationError, match="asyncio only"):
            await client.chat("hi")

    anyio.run(main, backend="trio")


def test_an_engine_that_is_none_is_refused() -> None:
    for engine in ("curl", 3, httpx.Client):
        with pytest.raises(ConfigurationError, match="engine"):
            ResilientClient([openai("http://h")], engine=engine)  # type: ignore[arg-type]
    with httpx.Client() as given, pytest.raises(ConfigurationError, match="either"):
        ResilientClient([openai("http://h")], engine="httpx2", http_client=given)


def test_a_transport_of_the_users_is_used_as_it_is() -> None:
    asked: list[str] = []

    class Mine(httpx.HTTPTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            asked.append(request.url.path)
            return super().handle_request(request)

    with LoopbackLLM() as server, Mine() as mine, ResilientClient([openai(server)], http_client=mine) as client:
        assert client.chat("hi").text == ANSWER
        assert "".join(client.stream("hi").text_deltas()) == ANSWER
        assert asked == ["/v1/chat/completions"] * 2


def test_a_blocked_client_of_the_users_does_not_hold_the_call() -> None:
    import time

    class Stuck(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            time.sleep(1.5)
            raise httpx.ReadTimeout("too late")

    with ResilientClient([openai("http://h")], http_client=Stuck()) as client:
        began = time.perf_counter()
        with pytest.raises(CallFailed):
            client.chat("hi", deadline=0.4)
        assert time.perf_counter() - began < 0.6


class Written:
    """An answer that was never sent."""

    status = 200
    headers = {"content-type": "application/json"}  # noqa: RUF012

    def __init__(self) -> None:
        body = b'{"choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"own"}}]}'
        self._left = [body]

    def read(self) -> object | None:
        return self._left.pop() if self._left else None

    def sever(self) -> None:
        pass

    def close(self) -> None:
        pass


class Own:
    """An engine of the user's."""

    bounded = True

    def __init__(self) -> None:
        self.sent: list[Outgoing] = []

    def send(self, outgoing: Outgoing, limit: Limit) -> Source:
        self.sent.append(outgoing)
        assert limit.left() > 0
        return Written()

    def close(self) -> None:
        pass


def test_an_engine_of_the_users() -> None:
    engine = Own()
    with ResilientClient([openai("http://h", "a")], engine=engine) as client:
        assert client.chat("hi").text == "own"
    assert [(one.provider, one.url) for one in engine.sent] == [("a", "http://h/v1/chat/completions")]
    assert "Bearer" not in repr(engine.sent)


def test_the_seam_of_the_sync_client() -> None:
    with LoopbackLLM() as server, ResilientClient([openai(server)]) as client:
        with client.seam.around(lambda inner: Own()):
            assert client.chat("hi").text == "own"
        assert client.chat("hi").text == ANSWER


def test_the_seam_of_the_async_client() -> None:
    seen: list[str] = []

    class Noting:
        def __init__(self, inner: Any) -> None:
            self._inner = inner

        async def send(self, outgoing: Outgoing, limit: Limit) -> AsyncSource:
            seen.append(outgoing.provider)
            source: AsyncSource = await self._inner.send(outgoing, limit)
            return source

        async def aclose(self) -> None:
            await self._inner.aclose()

    async def main() -> None:
        with LoopbackLLM() as server:
            async with AsyncResilientClient([openai(server)]) as client:
                with client.seam.around(Noting):
                    assert (await client.chat("hi")).text == ANSWER
                assert (await client.chat("hi")).text == ANSWER

    anyio.run(main)
    assert seen == ["first"]


def test_time_is_taken_from_where_it_is_said() -> None:
    clock = ManualClock()
    with (
        LoopbackLLM(Status(429, retry_after=30), Reply("later")) as server,
        ResilientClient([openai(server)]) as client,
    ):
        with client.pool.timed_by(Time(clock, lambda: 1e9 + clock(), clock.sleep)):
            assert client.chat("hi", deadline=60).text == "later"
        assert clock() >= 1030


LATER = {
    "httpx", "httpcore", "httpx2", "aiohttp", "opentelemetry", "asyncio", "trio", "ssl", "typing_extensions",
    "email.utils", "urllib.request", "resilient_llm.drive.engines.network", "resilient_llm.wire.faults.rules",
    "resilient_llm.telemetry", "resilient_llm.record.recorder", "resilient_llm.batch.work", "resilient_llm.operate",
    "resilient_llm.wire.anthropic", "resilient_llm.wire.gemini", "resilient_llm.wire.openai_responses",
}  # fmt: skip
"""What is expensive and imported with the first call, if at all."""
OF_THE_ASYNC_CLIENT = {"anyio", "resilient_llm.drive.aio", "resilient_llm.batch.tasks"}


@pytest.mark.parametrize(
    ("kind", "later"),
    [("ResilientClient", LATER | OF_THE_ASYNC_CLIENT), ("AsyncResilientClient", LATER - {"typing_extensions"})],
    ids=["sync", "async"],
)
def test_making_a_client_imports_nothing_expensive(kind: str, later: set[str]) -> None:
    """A client costs at most 1.6 times the CPU of ``import httpx``."""
    code = (
        f"import sys; before = set(sys.modules); from resilient_llm import {kind}; "
        "from resilient_llm.providers import OpenAI; "
        f"{kind}([OpenAI('m', api_key='k')]); "
        f"made = {later!r} & set(sys.modules) - before; "
        "assert not made, made; "
        "assert 'logging' in sys.modules, 'its lock must be taken after ours before a fork: see drive/fork.py'; "
        "ours = [name for name in sys.modules if name.startswith('resilient_llm')]; assert len(ours) <= 115, len(ours)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=30, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_a_call_needs_is_imported_with_the_first_one_and_no_later() -> None:
    code = (
        "import sys; from resilient_llm import ResilientClient; from resilient_llm.providers import OpenAI; "
        "client = ResilientClient([OpenAI('m', api_key='k', base_url='http://127.0.0.1/v1')]); "
        "made = {'httpx', 'httpcore', 'opentelemetry', 'email.utils', 'urllib.request'} & set(sys.modules); "
        "assert not made, made; "
        "from resilient_llm.testing import LoopbackLLM; server = LoopbackLLM().start(); "
        "client = ResilientClient([OpenAI('m', api_key='k', base_url=server.url + '/v1')]); "
        "client.chat('x'); before = set(sys.modules); assert 'httpx' not in before; "
        "client.chat('x'); new = set(sys.modules) - before; server.close(); assert not new, new"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=30, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@given(
    st.sampled_from(("http", "https")),
    st.from_regex(r"[a-z0-9][a-z0-9.-]{0,9}[a-z0-9]|127\.0\.0\.1|BÜCHER\.example|\[::1\]", fullmatch=True),
    st.one_of(st.none(), st.sampled_from((80, 443, 8080, 65535))),
    st.text(st.sampled_from("/.ab:?=&%20 é~_-@"), max_size=12),
)
@settings(max_examples=300, deadline=None)
def test_a_usual_url_is_read_as_httpx_reads_it(scheme: str, host: str, port: int | None, path: str) -> None:
    family = Family("httpx")
    url = f"{scheme}://{host}{'' if port is None else f':{port}'}/{path}"
    try:
        expected = httpx.URL(url)
    except httpx.InvalidURL:
        return
    found = family.destination(url)
    assert (found.target, found.headers) == (expected.raw_path, [(b"host", expected.netloc)])
    assert (found.host, found.port) == (
        expected.raw_host.decode("ascii"),
        expected.port or {"http": 80, "https": 443}[scheme],
    )
    assert found.place == (expected.scheme, expected.netloc, None, None)
