"""A stream is never silently short and never repeats itself; leaving it ends the generation."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from resilient_llm.errors import AllAttemptsFailed, ClientClosed, FaultKind, StreamInterrupted
from resilient_llm.model import Finish, StreamEnd, StreamStart, TextDelta, ToolCall, ToolCallDelta, ToolCallStart
from resilient_llm.testing import Cut, InBandError, Malformed, Raw, Reply, Stall, Status
from tests.drive.clients import World, drain, openai

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'

BEFORE_CONTENT: dict[str, Any] = {
    "role only, then cut": Reply("one two", role_deltas=3, fault=Cut(0)),
    "role only, then reset": Reply("one two", role_deltas=3, fault=Cut(0, how="reset")),
    "role only, then a proper end": Reply("one two", role_deltas=3, fault=Cut(0, how="end")),
    "keep-alives, then closed": Raw((HEAD, b": keep-alive\n\n", b": keep-alive\n\n"), interval=0.01),
    "role and keep-alives, then reset": Raw((HEAD, ROLE, b": keep-alive\n\n"), interval=0.01, then="reset"),
    "half an event": Raw((HEAD, ROLE, b'data: {"choices":[{"ind')),
    "an event that is no JSON": Raw((HEAD, ROLE, b"data: {oops\n\n")),
    "in-band error": Reply(fault=InBandError(0)),
    "in-band error and a terminator": Reply(fault=InBandError(0, terminator=True)),
    "no body at all": Raw((HEAD,)),
    "a whole answer of another kind": Status(200, "<html>hello</html>"),
    "empty": Status(200, ""),
}


@pytest.mark.parametrize("case", BEFORE_CONTENT)
def test_what_breaks_before_content_moves_on_unseen(world: World, case: str) -> None:
    client, first, _ = world.pair(BEFORE_CONTENT[case])
    stream = client.stream()
    events = list(stream)
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "Hello from the loopback server."
    assert len([event for event in events if isinstance(event, StreamStart)]) <= 1
    assert [type(event) for event in events].count(StreamEnd) == 1
    assert stream.response.provider == "second"
    assert [record.outcome for record in stream.response.attempts] == ["error", "success"]
    assert first.request_count == 1


NO_STREAM: dict[str, Any] = {
    "a frame that cannot be decoded": Reply(fault=Malformed(0)),
    "a page under the name of a stream": Status(
        200, "<html>hello</html>", headers={"content-type": "text/event-stream"}
    ),
    "a page": Status(200, "<html>hello</html>", headers={"content-type": "text/html"}),
}


@pytest.mark.parametrize("case", NO_STREAM)
def test_what_is_no_stream_is_an_invalid_response(world: World, case: str) -> None:
    client, _, _ = world.pair(NO_STREAM[case])
    stream = client.stream()
    assert stream.text() == "Hello from the loopback server."
    fault = stream.response.attempts[0].fault
    assert fault is not None
    assert (fault.kind, fault.status) == (FaultKind.INVALID_RESPONSE, 200)


AFTER_CONTENT: dict[str, Any] = {
    "closed": (Cut(2), FaultKind.CONNECTION),
    "reset": (Cut(2, how="reset"), FaultKind.CONNECTION),
    "a proper end without terminal evidence": (Cut(2, how="end"), FaultKind.CONNECTION),
    "a malformed event": (Malformed(2), FaultKind.CONNECTION),
    "in-band error": (InBandError(2), FaultKind.OVERLOADED),
    "in-band error and a terminator": (InBandError(2, terminator=True), FaultKind.OVERLOADED),
}


@pytest.mark.parametrize("case", AFTER_CONTENT)
def test_what_breaks_after_content_is_raised_with_the_partial_answer(world: World, case: str) -> None:
    fault, kind = AFTER_CONTENT[case]
    client, _, second = world.pair(Reply("one two three four", fault=fault, interval=0.001))
    stream, seen = client.stream(), list[Any]()
    with pytest.raises(StreamInterrupted) as caught:
        seen.extend(iter(stream))
    assert "".join(event.text for event in seen if isinstance(event, TextDelta)) == "one two "
    error = caught.value
    assert error.partial is not None
    assert (error.partial.text, error.partial.provider, error.partial.finish_reason) == ("one two ", "first", "error")
    assert [(record.provider, record.outcome) for record in error.attempts] == [("first", "error")]
    assert error.fault is not None
    assert error.fault.kind is kind
    assert second.request_count == 0
    assert list(stream) == []  # told once; a generator would do the same


def test_a_missing_done_marker_after_the_finish_reason_is_a_complete_answer(world: World) -> None:
    client = world.client([openai(world.server(Reply("one two", terminal=False)))])
    stream = client.stream()
    assert stream.text() == "one two"
    assert stream.response.finish_reason == "stop"


def test_neither_finish_reason_nor_done_marker_is_a_break(world: World) -> None:
    client = world.client([openai(world.server(Reply("one two", terminal=False, finish_reason=None)))])
    with pytest.raises(StreamInterrupted):
        client.stream().text()


def test_silence_after_content_is_a_stall(world: World) -> None:
    client, _, _ = world.pair(Reply("one two", fault=Stall(1)), timeouts={"idle": 0.1})
    began = time.monotonic()
    with pytest.raises(StreamInterrupted, match="silent") as caught:
        client.stream().text()
    assert 0.1 <= time.monotonic() - began < 1
    assert caught.value.fault is not None
    assert caught.value.fault.kind is FaultKind.TIMEOUT


def test_keep_alives_are_no_content(world: World) -> None:
    client, _, _ = world.pair(Reply("one two", fault=Stall(1), keep_alive=0.02), timeouts={"idle": 0.15})
    with pytest.raises(StreamInterrupted, match="silent"):
        client.stream().text()


def test_calls_go_elsewhere_while_streams_that_stopped_are_still_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resilient_llm.decide.patience._SHORTEST_PAUSE", 0.05)
    first = world.server(default=Reply("one two", fault=Stall(1)))
    client = world.client([openai(first, "first"), openai(world.server(), "second")])
    waited_for, left = [client.stream(deadline=5) for _ in range(3)], client.stream(deadline=5)
    for stream in (*waited_for, left):
        next(iter(stream))
    with ThreadPoolExecutor() as readers:
        ends = [readers.submit(stream.text) for stream in waited_for]
        time.sleep(0.4)
        assert client.chat(deadline=5).provider == "second"
        assert client.health()["first"].breaker_reason == "its streams stopped"
        first.close()
        for end in ends:
            with pytest.raises(StreamInterrupted):
                end.result()
    left.close()


def test_nobody_waits_for_a_stream_whose_caller_does_something_else(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resilient_llm.decide.patience._SHORTEST_PAUSE", 0.01)
    servers = [world.server(default=Reply("one two", fault=Stall(1))), world.server()]
    client = world.client([openai(servers[0], "first"), openai(servers[1], "second")])
    streams = [client.stream(deadline=5) for _ in range(4)]
    for stream in streams:
        next(iter(stream))
    time.sleep(0.1)
    with client.stream(deadline=5) as last:
        next(iter(last))
        assert last.response.provider == "first"
    for stream in streams:
        stream.close()


def test_a_slow_consumer_is_no_stall(world: World) -> None:
    client, _, _ = world.pair(Reply("one two three", interval=0.01), timeouts={"idle": 0.1})
    text = ""
    for event in client.stream():
        text += getattr(event, "text", "")
        time.sleep(0.12)
    assert text == "one two three"


def test_a_silent_first_token_moves_on(world: World) -> None:
    policy = {"first_token": 0.1}
    client, first, _ = world.pair(Reply(first_token=60, keep_alive=0.02), timeouts=policy, hedge={"enabled": False})
    stream = client.stream()
    assert stream.text() == "Hello from the loopback server."
    assert stream.response.provider == "second"
    first.wait_for(lambda s: s.requests[0].hung_up_at)


def leave(how: str, stream: Any) -> None:
    next(stream)
    if how == "close":
        stream.close()
    elif how == "with":
        with stream:
            pass
    else:  # drop
        stream.raw = None


@pytest.mark.parametrize("how", ["close", "with", "drop"])
def test_leaving_early_ends_the_generation_at_once(world: World, how: str) -> None:
    server = world.server(default=Reply("one two three four five", interval=0.5))
    client = world.client([openai(server)])
    stream = client.stream()
    left = time.monotonic()
    leave(how, stream)
    server.wait_for(lambda s: s.requests[0].hung_up_at, timeout=2)
    assert time.monotonic() - left < 0.4
    assert client.in_flight() == 0
    standing = client.health()["first"]
    assert (standing.breaker, round(standing.success_rate, 2)) == ("closed", 0.95)
    server.default = Reply()
    assert client.chat().text  # and the client goes on


def test_a_stream_closed_before_it_began_sends_nothing(world: World) -> None:
    server = world.server()
    client = world.client([openai(server)])
    stream = client.stream()
    stream.close()
    assert list(stream) == []
    with stream:
        assert list(stream) == []
    with pytest.raises(RuntimeError):
        _ = stream.response
    assert server.request_count == 0


def test_a_stream_is_not_begun_after_the_client_was_closed(world: World) -> None:
    server = world.server()
    client = world.client([openai(server)])
    stream = client.stream()
    client.close()
    with pytest.raises(ClientClosed):
        next(stream)
    with pytest.raises(ClientClosed):
        client.chat()
    assert server.request_count == 0


def test_a_failed_opening_is_not_tried_again_by_iterating_on(world: World) -> None:
    server = world.server(default=Status(500))
    client = world.client([openai(server)], retry={"max_attempts": 1})
    stream = client.stream()
    with pytest.raises(AllAttemptsFailed):
        next(stream)
    assert list(stream) == []
    assert server.request_count == 1


def test_closing_after_the_end_changes_nothing(world: World) -> None:
    client = world.client([openai(world.server())])
    stream = client.stream()
    with stream:
        text = stream.text()
    stream.close()
    assert stream.response.text == text
    assert [record.outcome for record in stream.response.attempts] == ["success"]


def test_closing_with_the_end_still_in_hand_counts_as_complete(world: World) -> None:
    content = b'data: {"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    client = world.client([openai(world.server(Raw((HEAD + ROLE + content,))))])
    with client.stream() as stream:
        next(stream)
    assert [record.outcome for record in stream.response.attempts] == ["success"]
    assert client.health()["first"].samples >= 1


def test_many_streams_use_one_connection(world: World) -> None:
    server = world.server(default=Reply("one two three"))
    client = world.client([openai(server)])
    for _ in range(10):
        assert client.stream().text() == "one two three"
    assert server.connection_count == 1
    assert client.chat().text == "one two three"
    assert server.connection_count == 1


TOOL = ToolCall("call_1", "search", '{"query": "why is the sky blue", "limit": 3}')


def test_a_tool_call_is_handed_over_whole(world: World) -> None:
    client = world.client([openai(world.server(Reply("", tool_calls=(TOOL,), finish_reason="tool_calls")))])
    stream = client.stream()
    events = [event for event in stream if isinstance(event, ToolCallStart | ToolCallDelta | Finish)]
    assert isinstance(events[0], ToolCallStart)
    assert isinstance(events[-1], Finish)
    assert stream.response.tool_calls == (TOOL,)


@pytest.mark.parametrize("how", ["close", "reset", "end"])
def test_a_break_inside_a_tool_call_restarts_unseen(world: World, how: Any) -> None:
    broken = Reply("", tool_calls=(TOOL,), finish_reason="tool_calls", fault=Cut(2, how=how), interval=0.005)
    first, second = world.server(broken), world.server(Reply("", tool_calls=(TOOL,), finish_reason="tool_calls"))
    client = world.client([openai(first, "first"), openai(second, "second")])
    stream = client.stream()
    assert [type(event) for event in stream].count(ToolCallStart) == 1
    assert stream.response.tool_calls == (TOOL,)
    assert stream.response.provider == "second"


def test_without_holding_a_break_inside_a_tool_call_is_told(world: World) -> None:
    broken = Reply("", tool_calls=(TOOL,), finish_reason="tool_calls", fault=Cut(2), interval=0.005)
    client = world.client(
        [openai(world.server(broken), "first"), openai(world.server(), "second")],
        stream={"hold_tool_arguments": False},
    )
    with pytest.raises(StreamInterrupted):
        list(client.stream())


def test_the_stream_tells_about_itself(world: World) -> None:
    client, _, _ = world.pair(Status(500))
    stream = client.stream()
    with pytest.raises(RuntimeError, match="not started"):
        _ = stream.raw.provider
    assert stream.raw.attempts == ()
    next(stream)
    assert stream.raw.provider == "second"
    assert [record.provider for record in stream.raw.attempts] == ["first"]
    stream.text()
    assert [record.provider for record in stream.raw.attempts] == ["first", "second"]
    response = stream.response
    assert (response.finish_reason, response.model, response.provider) == ("stop", "second", "second")
    assert response.usage is not None


def test_the_partial_answer_can_be_seen_on_the_way(world: World) -> None:
    client = world.client([openai(world.server(Reply("one two three", interval=0.01)))])
    stream = client.stream()
    while not stream.raw._opened or stream.response.text != "one ":
        next(stream)
    assert stream.response.finish_reason == "error"
    stream.close()


# --- closed by somebody else while it is being read ---


def test_a_sync_stream_can_be_closed_from_another_thread() -> None:
    world = World("sync")
    server = world.server(default=Reply("one two three", interval=30))
    client = world.client([openai(server)])
    stream = client.stream()
    next(stream), next(stream)
    threading.Timer(0.05, stream.close).start()
    began = time.monotonic()
    assert "".join(getattr(event, "text", "") for event in stream) in ("", "one ")
    assert time.monotonic() - began < 2
    server.wait_for(lambda s: s.requests[0].hung_up_at)
    world.end()


def test_an_async_stream_can_be_closed_from_another_task(async_world: World) -> None:
    import anyio

    server = async_world.server(default=Reply("one two three", interval=30))
    client = async_world.client([openai(server)])

    async def scenario() -> str:
        stream = client.raw.stream("hi")
        got: list[str] = []

        async def read() -> None:
            got.append(await drain(stream))

        async with anyio.create_task_group() as group:
            group.start_soon(read)
            await anyio.sleep(0.1)
            await stream.aclose()
        return got[0]

    began = time.monotonic()
    assert async_world.run(scenario) == "one "
    assert time.monotonic() - began < 2
    server.wait_for(lambda s: s.requests[0].hung_up_at)


def test_an_async_stream_closed_while_it_opens_is_closed_once_open(async_world: World) -> None:
    import anyio

    server = async_world.server(default=Reply("one two three", first_token=0.15, interval=30))
    client = async_world.client([openai(server)])

    async def scenario() -> list[str]:
        stream = client.raw.stream("hi")
        got: list[str] = []

        async def read() -> None:
            got.append(await drain(stream))

        async with anyio.create_task_group() as group:
            group.start_soon(read)
            await anyio.sleep(0.05)
            await stream.aclose()
        return got

    assert async_world.run(scenario) == [""]
    server.wait_for(lambda s: s.requests[0].hung_up_at)


# --- hundreds of them ---

HUNDREDS = pytest.mark.parametrize("count", [200, pytest.param(1000, marks=pytest.mark.slow)])


@HUNDREDS
@pytest.mark.parametrize("how", ["close", "with", "drop"])
def test_hundreds_of_abandoned_streams_leave_nothing(world: World, how: str, count: int) -> None:
    reply = Reply("one two three four", interval=20)
    server = world.server(default=reply)
    client = world.client([openai(server)])
    threads = threading.active_count()
    for _ in range(count):
        leave(how, client.stream())
    assert client.in_flight() == 0
    client.raw.health()
    server.wait_for(lambda s: all(request.hung_up_at for request in s.requests), timeout=10)
    server.default = Reply()
    client.chat()
    server.wait_for(lambda s: s.open_connections <= 2, timeout=10)
    assert threading.active_count() <= threads + 2
    if world.portal is not None:

        async def tasks() -> int:
            import asyncio

            return len(asyncio.all_tasks()) if world.kind == "asyncio" else 0

        assert world.run(tasks) <= 4


@HUNDREDS
def test_hundreds_of_cancelled_streams_leave_nothing(async_world: World, count: int) -> None:
    import anyio

    server = async_world.server(default=Reply("one two", interval=20))
    client = async_world.client([openai(server)])

    async def one() -> None:
        with anyio.move_on_after(0.1):
            await drain(client.raw.stream("hi"))

    async def scenario() -> None:
        for _ in range(count // 50):
            async with anyio.create_task_group() as group:
                for _ in range(50):
                    group.start_soon(one)

    async_world.run(scenario)
    assert client.in_flight() == 0
    server.wait_for(lambda s: s.open_connections == 0, timeout=10)
    assert not client.health()["first"].error_rate  # a busy machine may look slow


@pytest.mark.parametrize(("interval", "judged"), [(0.02, 0), (1.3, 1)], ids=["long", "dripping"])
def test_a_stream_cut_by_the_callers_deadline_blames_a_provider_that_drips_and_none_that_writes(
    world: World, interval: float, judged: int
) -> None:
    client, first, _ = world.pair(hedge={"enabled": False})
    first.default = Reply(first_token=0.02)
    for _ in range(8):
        client.stream().text()
    before = client.raw.health()["first"].samples
    first.script(Reply(" ".join("x" * 200), first_token=0.02, interval=interval))
    with pytest.raises(StreamInterrupted, match="the deadline passed"):
        client.stream(deadline=1.6).text()
    standing = client.raw.health()["first"]
    assert standing.samples - before == judged
    assert (standing.success_rate < 0.95) is bool(judged)
