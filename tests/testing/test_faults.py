"""Schedules of mishaps, and providers and transports they are put around."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterator

import anyio
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_llm import AsyncResilientClient, ResilientClient
from resilient_llm.errors import AllAttemptsFailed, CallFailed, ConfigurationError, FaultKind, StreamInterrupted
from resilient_llm.model import ChatRequest, ChatResponse, Text
from resilient_llm.providers import Function, OpenAICompatible
from resilient_llm.testing import (
    AsyncFaultyProvider,
    AsyncScriptedProvider,
    Close,
    Cut,
    EndlessHeaders,
    Faults,
    FaultyProvider,
    FaultyTransport,
    Hang,
    InBandError,
    Injection,
    Latency,
    LoopbackLLM,
    Malformed,
    ManualClock,
    Raw,
    Reply,
    Reset,
    ScriptedProvider,
    SlowTokens,
    Stall,
    Status,
    inject,
    instant,
)

QUICK = {"first_token": 0.15, "idle": 0.15}
PACE = {"seconds_per_token": 0.001}
STORY = Reply("one two three four five six")
FAULTY = [
    Status(503),
    Reset(),
    Close(),
    Hang(),
    Stall(2),
    Malformed(2),
    Cut(2),
    Cut(2, how="end"),
    Cut(2, how="reset"),
    InBandError(2),
]


def faults_at(*times: float, schedule: list[Injection], seed: int = 0) -> list[object]:
    clock = ManualClock(0)
    faults = Faults(schedule, seed=seed, clock=clock)
    faults.start()
    found: list[object] = []
    for time in times:
        clock.advance(max(0.0, time - clock()))  # sums of floats may pass the time by a hair
        found.append(faults.next())
    return found


# --- schedules ---------------------------------------------------------------------------------------------


def test_a_line_applies_from_its_start_until_its_end() -> None:
    schedule = [Injection(1, 2, Status(503))]
    assert faults_at(0.5, 1, 1.99, 2, schedule=schedule) == [None, Status(503), Status(503), None]


def test_the_first_line_that_strikes_wins() -> None:
    schedule = [Injection(0, 9, Hang(), 0.0), Injection(0, 9, Reset()), Injection(0, 9, Close())]
    assert faults_at(1, schedule=schedule) == [Reset()]


@given(st.integers(0, 10**6), st.floats(0, 1), st.lists(st.floats(0, 9), min_size=1, max_size=20))
def test_whom_a_line_strikes_does_not_depend_on_timing(seed: int, rate: float, times: list[float]) -> None:
    schedule = [Injection(0, math.inf, Status(500), rate), Injection(0, math.inf, Reset(), 0.5)]
    together = faults_at(*[0.0] * len(times), schedule=schedule, seed=seed)
    assert faults_at(*sorted(times), schedule=schedule, seed=seed) == together


def test_a_share_of_the_attempts_is_struck() -> None:
    faults = Faults.always(Status(500), 0.3, seed=7)
    struck = sum(faults.next() is not None for _ in range(2000))
    assert 500 < struck < 700
    assert len(faults.injected) == struck
    assert faults.attempts == 2000


def test_a_stopped_schedule_injects_nothing_until_it_is_started_again() -> None:
    faults = Faults.always(Reset())
    faults.stop()
    assert faults.next() is None
    faults.start()
    assert faults.next() == Reset()
    assert "1 of 2 attempts" in repr(faults)


def test_latency_gets_its_jitter_when_it_strikes() -> None:
    mishap = Faults.always(Latency(1, jitter=2)).next()
    assert isinstance(mishap, Latency)
    assert 1 < mishap.seconds < 3
    assert mishap.jitter == 0


@pytest.mark.parametrize(
    "make",
    [
        lambda: Injection(2, 1, Hang()),
        lambda: Injection(0, 1, Hang(), 1.5),
        lambda: Injection(0, 1, "503"),
        lambda: Faults([(1, 2)]),
        lambda: Faults(["x"]),
        lambda: Latency(-1),
        lambda: SlowTokens(math.nan),
        lambda: FaultyTransport({"api.example.com": Hang()}),
    ],
)
def test_a_line_that_makes_no_sense_is_refused(make: object) -> None:
    with pytest.raises(ConfigurationError):
        make()  # type: ignore[operator]


# --- any provider, both clients ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[LoopbackLLM, LoopbackLLM]]:
    with LoopbackLLM(default=STORY) as first, LoopbackLLM(default=Reply("the other")) as second:
        yield first, second


def http_pair(servers: tuple[LoopbackLLM, LoopbackLLM]) -> list[OpenAICompatible]:
    return [
        OpenAICompatible("m", id=name, base_url=f"{server.url}/v1", api_key="k")
        for name, server in zip(("first", "second"), servers, strict=True)
    ]


def scripted_pair() -> list[ScriptedProvider]:
    return [ScriptedProvider(id="first", default=STORY), ScriptedProvider(id="second", default=Reply("the other"))]


def async_pair() -> list[AsyncScriptedProvider]:
    return [
        AsyncScriptedProvider(id="first", default=STORY),
        AsyncScriptedProvider(id="second", default=Reply("the other")),
    ]


def whole_and_streamed(client: ResilientClient) -> tuple[str, str]:
    whole = client.chat("hi", max_tokens=1).text
    client.restore("first")
    try:
        with client.stream("hi") as stream:
            return whole, "".join(stream.text_deltas())
    except StreamInterrupted as broken:
        return whole, broken.partial.text if broken.partial else ""


async def whole_and_streamed_async(client: AsyncResilientClient) -> tuple[str, str]:
    whole = (await client.chat("hi", max_tokens=1)).text
    try:
        async with client.stream("hi") as stream:
            return whole, "".join([piece async for piece in stream.text_deltas()])
    except StreamInterrupted as broken:
        return whole, broken.partial.text if broken.partial else ""


OTHERWISE = {"the other", "one two "}
"""What is allowed to be seen of a failing first provider: the second one, or an honest beginning."""


@pytest.mark.parametrize("mishap", FAULTY, ids=repr)
def test_the_sync_client_sees_a_sick_http_provider(servers: tuple[LoopbackLLM, LoopbackLLM], mishap: object) -> None:
    with (
        ResilientClient(http_pair(servers), timeouts=QUICK, advanced=PACE) as client,
        inject(client, {"first": mishap}) as faults,
    ):
        whole, streamed = whole_and_streamed(client)
    assert whole == "the other"
    assert streamed in OTHERWISE
    assert faults["first"].injected


@pytest.mark.parametrize("mishap", FAULTY, ids=repr)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_async_client_sees_a_sick_http_provider(
    servers: tuple[LoopbackLLM, LoopbackLLM], mishap: object, backend: str
) -> None:
    async def main() -> None:
        async with AsyncResilientClient(http_pair(servers), timeouts=QUICK, advanced=PACE) as client:
            with inject(client, {"first": mishap}) as faults:
                whole, streamed = await whole_and_streamed_async(client)
        assert whole == "the other"
        assert streamed in OTHERWISE
        assert faults["first"].injected

    anyio.run(main, backend=backend)


@pytest.mark.parametrize("mishap", FAULTY, ids=repr)
def test_the_sync_client_sees_a_sick_provider_of_the_users(mishap: object) -> None:
    with ResilientClient(scripted_pair()) as client, inject(client, {"first": mishap}), instant(client):
        whole, streamed = whole_and_streamed(client)
    assert whole == "the other"
    assert streamed in OTHERWISE


@pytest.mark.parametrize("mishap", FAULTY, ids=repr)
@pytest.mark.parametrize("make", [async_pair, scripted_pair])
def test_the_async_client_sees_a_sick_provider_of_the_users(mishap: object, make: object) -> None:
    async def main() -> None:
        async with AsyncResilientClient(make()) as client:  # type: ignore[operator]
            with inject(client, {"first": mishap}), instant(client):
                whole, streamed = await whole_and_streamed_async(client)
        assert whole == "the other"
        assert streamed in OTHERWISE

    anyio.run(main)


@pytest.mark.parametrize("mishap", [Latency(0.05), SlowTokens(0.01)], ids=repr)
def test_a_late_answer_is_the_true_answer(servers: tuple[LoopbackLLM, LoopbackLLM], mishap: object) -> None:
    with ResilientClient(http_pair(servers)) as client, inject(client, {"first": mishap}):
        assert whole_and_streamed(client) == (STORY.text, STORY.text)
    with ResilientClient(scripted_pair()) as client, inject(client, {"first": mishap}), instant(client) as clock:
        assert whole_and_streamed(client) == (STORY.text, STORY.text)
        assert sum(clock.sleeps) == pytest.approx(0.1 if isinstance(mishap, Latency) else 0.12)

    async def main() -> None:
        async with AsyncResilientClient(http_pair(servers)) as client:
            with inject(client, {"first": mishap}):
                assert await whole_and_streamed_async(client) == (STORY.text, STORY.text)
        async with AsyncResilientClient(async_pair()) as client:
            with inject(client, {"first": mishap}), instant(client):
                assert await whole_and_streamed_async(client) == (STORY.text, STORY.text)

    anyio.run(main)


def test_a_wrong_answer_is_believed_unless_the_caller_checks(servers: tuple[LoopbackLLM, LoopbackLLM]) -> None:
    with ResilientClient(http_pair(servers)) as client, inject(client, {"first": Reply("42")}):
        assert client.chat("hi").text == "42"
        assert client.chat("hi", validate=lambda reply: reply.text != "42").text == "the other"


def test_faults_end_with_the_block_and_leave_the_client_as_it_was(servers: tuple[LoopbackLLM, LoopbackLLM]) -> None:
    providers = [*http_pair(servers), Function(lambda request: "mine", id="third")]
    with ResilientClient(providers) as client:
        with inject(client, {"first": Status(400), "third": Reset()}), pytest.raises(CallFailed):
            client.chat("hi", providers=["first", "third"])
        client.restore("first")
        assert client.chat("hi").text == STORY.text
        assert client.chat("hi", providers=["third"]).text == "mine"


def test_faults_for_a_provider_the_client_does_not_have_are_refused() -> None:
    with ResilientClient(scripted_pair()) as client, pytest.raises(ConfigurationError, match="it has first, second"):
        inject(client, {"third": Hang()}).__enter__()


def test_a_hang_in_a_stream_ends_when_another_thread_closes_it(servers: tuple[LoopbackLLM, LoopbackLLM]) -> None:
    import threading

    with ResilientClient(http_pair(servers)) as client, inject(client, {"first": Stall(2)}):
        stream = client.stream("hi")
        pieces = stream.text_deltas()
        assert next(pieces) + next(pieces) == "one two "
        threading.Timer(0.05, stream.close).start()
        assert list(pieces) == []


# --- wrappers ----------------------------------------------------------------------------------------------


class Mine:
    id = "mine"
    model = "m"
    weight = 2.0
    closed = False

    def chat(self, request: ChatRequest, *, timeout: float) -> ChatResponse:
        return ChatResponse((Text("whole"),))

    def stream(self, request: ChatRequest, *, timeout: float) -> Iterator[str]:
        try:
            yield from ("a ", "b ", "c ")
        finally:
            self.closed = True


class MineAsync:
    id = "mine"
    closed = False

    async def chat(self, request: ChatRequest, *, timeout: float) -> ChatResponse:  # noqa: ASYNC109
        return ChatResponse((Text("whole"),))

    async def stream(self, request: ChatRequest, *, timeout: float) -> AsyncIterator[str]:  # noqa: ASYNC109
        try:
            for piece in ("a ", "b ", "c "):
                yield piece
        finally:
            self.closed = True


def test_a_faulty_provider_keeps_the_attributes_of_the_one_inside() -> None:
    inner = Mine()
    faulty = FaultyProvider(inner, [])
    assert (faulty.id, faulty.model, faulty.weight, faulty.provider) == ("mine", "m", 2.0, inner)
    assert "Mine" in repr(faulty)
    with ResilientClient([faulty]) as client:
        assert client.chat("hi").text == "whole"
        with client.stream("hi") as stream:
            assert list(stream.text_deltas()) == ["a ", "b ", "c "]
    assert inner.closed


def test_a_cut_closes_the_stream_inside() -> None:
    inner = Mine()
    client = ResilientClient([FaultyProvider(inner, Cut(1))])
    with client.stream("hi") as stream, pytest.raises(StreamInterrupted):
        list(stream)
    assert inner.closed


def test_an_async_stream_inside_is_closed_too() -> None:
    async def main() -> None:
        for mishaps in ([], Cut(1)):
            inner = MineAsync()
            async with AsyncResilientClient([AsyncFaultyProvider(inner, mishaps)]) as client:
                assert (await client.chat("hi")).text == "whole" if not mishaps else True
                try:
                    async with client.stream("hi") as stream:
                        assert [piece async for piece in stream.text_deltas()] == ["a ", "b ", "c "]
                except StreamInterrupted:
                    assert mishaps
            assert inner.closed

    anyio.run(main)


def test_a_function_that_streams_can_be_wrapped() -> None:
    client = ResilientClient([FaultyProvider(Function(lambda request: iter(["a", "b"]), id="f"), InBandError(5))])
    with pytest.raises(AllAttemptsFailed) as failed:
        client.chat("hi")
    assert {record.fault.kind for record in failed.value.attempts if record.fault} == {FaultKind.OVERLOADED}


def test_the_right_wrapper_is_named() -> None:
    with pytest.raises(ConfigurationError, match="use AsyncFaultyProvider"):
        FaultyProvider(MineAsync(), [])
    with pytest.raises(ConfigurationError, match="use FaultyProvider"):
        AsyncFaultyProvider(Mine(), [])
    with pytest.raises(ConfigurationError, match="needs a wire"):
        FaultyProvider(Mine(), Raw((b"x",)))


# --- the transport -----------------------------------------------------------------------------------------


def test_the_longest_prefix_counts_and_others_pass(servers: tuple[LoopbackLLM, LoopbackLLM]) -> None:
    url = servers[0].url
    transport = FaultyTransport({url: Status(500), url + "/v1": Status(503, retry_after=2)})
    with httpx.Client(transport=transport) as client:
        refused = client.post(url + "/v1/chat/completions", json={})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
        assert client.post(url + "/chat/completions", json={}).status_code == 500
        assert client.post(servers[1].url + "/chat/completions", json={}).status_code == 200


@pytest.mark.parametrize(
    ("mishap", "error"),
    [
        (Reset(), httpx.ReadError),
        (Close(), httpx.RemoteProtocolError),
        (Raw((b"SSH-2.0\r\n\r\n",)), httpx.RemoteProtocolError),
        (Raw((b"HTTP/1.1 200 OK\r\n\r\n",), then="hang"), httpx.ReadTimeout),
        (EndlessHeaders(), httpx.RemoteProtocolError),
        (Hang(), httpx.ReadTimeout),
        (Latency(60), httpx.ReadTimeout),
        (Reply(wrong_length=10), httpx.RemoteProtocolError),
        (Cut(3), httpx.RemoteProtocolError),
        (Cut(3, how="reset"), httpx.ReadError),
        (Stall(3), httpx.ReadTimeout),
    ],
    ids=repr,
)
def test_plain_httpx_raises_what_it_raises_on_a_socket(
    servers: tuple[LoopbackLLM, LoopbackLLM], mishap: object, error: type[Exception]
) -> None:
    url = servers[0].url + "/v1/chat/completions"
    timeout = httpx.Timeout(5.0, read=0.05 if error is httpx.ReadTimeout else 5.0)
    for ask in ({}, {"stream": True}):
        if ask and isinstance(mishap, Reply):  # streams have no length
            continue
        transport = FaultyTransport(mishap)  # type: ignore[arg-type]
        with httpx.Client(transport=transport, timeout=timeout) as client, pytest.raises(error):
            client.post(url, json=ask)

        async def main(ask: dict[str, bool] = ask) -> None:
            transport = FaultyTransport(mishap)  # type: ignore[arg-type]
            async with httpx.AsyncClient(transport=transport, timeout=timeout) as client:
                with pytest.raises(error):
                    await client.post(url, json=ask)

        anyio.run(main)


def test_what_is_no_chat_and_what_failed_already_is_not_altered(servers: tuple[LoopbackLLM, LoopbackLLM]) -> None:
    with httpx.Client(transport=FaultyTransport(Cut(0))) as client:
        assert client.get(servers[0].url + "/v1/models").status_code == 200
    with LoopbackLLM(default=Status(429)) as busy, httpx.Client(transport=FaultyTransport(Cut(0))) as client:
        assert client.post(busy.url + "/v1/chat/completions", json={}).status_code == 429


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v2/chat", "/api/chat", "/v1/responses"])
def test_tokens_are_counted_in_every_wire(servers: tuple[LoopbackLLM, LoopbackLLM], path: str) -> None:
    url = servers[0].url + path
    with httpx.Client(transport=FaultyTransport(Cut(2, how="end"))) as client:
        text = client.post(url, json={"stream": True, "model": "m"}).text
    assert "two" in text
    assert "three" not in text


def test_a_client_of_the_users_own_is_used_underneath(servers: tuple[LoopbackLLM, LoopbackLLM]) -> None:
    with httpx.Client(headers={"x-mine": "1"}) as mine:
        client = ResilientClient(http_pair(servers), http_client=mine)
        with inject(client, {"first": [(0.0, 9.0, Latency(0))]}):
            assert client.chat("hi").provider == "first"
        assert client.chat("hi").provider == "first"

    async def main() -> None:
        async with httpx.AsyncClient() as mine:
            client = AsyncResilientClient(http_pair(servers), http_client=mine)
            with inject(client, {"first": Latency(0)}):
                assert (await client.chat("hi")).provider == "first"

    anyio.run(main)


def test_a_failing_race_leaves_faults_with_the_provider_they_are_meant_for(
    servers: tuple[LoopbackLLM, LoopbackLLM],
) -> None:
    client = ResilientClient(http_pair(servers), advanced={"rescue_min": 0.05, "rescue_max": 0.05})
    with client, inject(client, {"first": Hang()}) as faults:
        reply = client.chat("hi", deadline=5)
    assert reply.provider == "second"
    assert faults["first"].attempts == 1
