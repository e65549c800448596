"""Providers from a script, and tests of retries that take no time."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

import resilient_llm
from resilient_llm import AsyncResilientClient, ResilientClient
from resilient_llm.errors import (
    AllAttemptsFailed,
    ConfigurationError,
    FaultKind,
    ProviderError,
    StreamInterrupted,
)
from resilient_llm.model import ChatResponse, Finish, StreamEnd, Text, TextDelta, ToolCall, Usage
from resilient_llm.providers import OpenAICompatible
from resilient_llm.testing import (
    AsyncScriptedProvider,
    Close,
    Cut,
    EndlessHeaders,
    Hang,
    InBandError,
    LoopbackLLM,
    Malformed,
    ManualClock,
    RateLimit,
    Raw,
    Reply,
    ScriptedProvider,
    Status,
    instant,
)

BOTH = pytest.mark.parametrize("kind", [ScriptedProvider, AsyncScriptedProvider])


def test_every_request_takes_the_next_step_and_then_the_default() -> None:
    provider = ScriptedProvider("one", ChatResponse((Text("two"),)), ("th", TextDelta("ree")), default="more")
    provider.script(lambda request: f"you said {request.messages[0].text}")
    with ResilientClient([provider]) as client:
        assert [client.chat(f"question {n}").text for n in range(1, 6)] == [
            "one",
            "two",
            "three",
            "you said question 4",
            "more",
        ]
    assert provider.request_count == 5
    assert provider.script_left == 0
    assert provider.requests[0].messages[0].text == "question 1"
    assert "5 requests" in repr(provider)


def test_a_reply_is_streamed_with_everything_it_has() -> None:
    call = ToolCall("id", "weather", '{"city":"Oslo"}')
    provider = ScriptedProvider(
        Reply("Let me see.", thought="hm", tool_calls=(call,), usage=Usage(1, 2, total_tokens=3))
    )
    with ResilientClient([provider]) as client, client.stream("hi") as stream:
        list(stream)
    response = stream.response
    assert (response.text, response.reasoning, response.finish_reason) == ("Let me see.", "hm", "tool_calls")
    assert response.tool_calls == (call,)
    assert response.usage == Usage(1, 2, total_tokens=3)


def test_a_reply_may_lack_reason_and_usage() -> None:
    with ResilientClient([ScriptedProvider(Reply("x", finish_reason=None, usage=None))]) as client:
        assert client.chat("hi").usage is None


def test_a_script_may_stream_events_of_its_own() -> None:
    provider = ScriptedProvider((TextDelta("a"), Finish("length"), StreamEnd()))
    with ResilientClient([provider]) as client:
        assert client.chat("hi").finish_reason == "length"


@BOTH
@pytest.mark.parametrize(
    ("step", "said"),
    [
        (42, "cannot hold 42; what it can: text, Reply, Status"),
        (["a", "b"], "the pieces of a stream are a tuple"),
        (("a", 3), "and 3 is neither"),
        (Hang, r"is a class, say Hang\(...\)"),
        (Cut(2), r"inside an answer: Reply\(fault=Cut"),
        (EndlessHeaders(), "needs a wire; use LoopbackLLM"),
        (Raw((b"x",)), "needs a wire; use LoopbackLLM"),
    ],
    ids=repr,
)
def test_what_a_script_cannot_hold_is_refused_at_once(kind: type[ScriptedProvider], step: object, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        kind(step)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=said):
        kind(default=step)  # type: ignore[arg-type]
    provider = kind()
    with pytest.raises(ConfigurationError, match=said):
        provider.script("fine", step)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=said):
        provider.default = step  # type: ignore[assignment]


@BOTH
@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda request: 1 / 0, "raised ZeroDivisionError: division by zero; to script a failure, return"),
        (lambda request: 3, "must not return 3; what it can: text"),
        (lambda request: None, "must not return None"),
    ],
)
def test_a_function_that_breaks_is_the_tests_mistake(
    kind: type[ScriptedProvider], function: Callable[[object], str], said: str
) -> None:
    async def main() -> None:
        async with AsyncResilientClient([kind(default=function), ScriptedProvider(id="other")]) as client:
            with pytest.raises(ConfigurationError, match=said):
                await client.chat("hi")
            with pytest.raises(ConfigurationError, match=said):
                async with client.stream("hi") as stream:
                    _ = [event async for event in stream]

    anyio.run(main)


def test_a_function_may_fail_as_a_provider_does() -> None:
    def refuse(request: object) -> str:
        raise ProviderError("no", kind=FaultKind.OVERLOADED)

    with ResilientClient([ScriptedProvider(refuse, id="a"), ScriptedProvider("ok", id="b")]) as client:
        fault = client.chat("hi").attempts[0].fault
    assert fault is not None
    assert fault.kind is FaultKind.OVERLOADED


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Reply(3), "text must be text, not 3"),  # type: ignore[arg-type]
        (lambda: Reply(fault="cut"), r"fault must be Cut\(...\), Stall.* not 'cut'"),  # type: ignore[arg-type]
        (lambda: Reply(fault=Status(503)), r"fault must be .* not Status\("),  # type: ignore[arg-type]
        (lambda: Reply(fault=Cut), r"say Cut\(...\)"),  # type: ignore[arg-type]
        (lambda: Reply(pieces=["a"]), r"pieces must be a tuple of texts, not \['a'\]"),  # type: ignore[arg-type]
        (lambda: Reply(tool_calls=("f",)), "a tuple of ToolCall"),  # type: ignore[arg-type]
        (lambda: Reply(usage=3), "'counted', a Usage or None, not 3"),  # type: ignore[arg-type]
        (lambda: Reply(delay=-1), "delay must be 0 or more, not -1"),
        (lambda: Reply(delay="1"), "delay must be a number, not '1'"),  # type: ignore[arg-type]
        (lambda: Reply(keep_alive=0), "keep_alive must be positive"),
        (lambda: Reply(headers={"x": 3}), "the header x must be text"),  # type: ignore[dict-item]
        (lambda: Reply(drip=3), "a Drip or None, not 3"),  # type: ignore[arg-type]
        (lambda: Status("503"), "status must be a number between 200 and 599, not '503'"),  # type: ignore[arg-type]
        (lambda: Status(600), "between 200 and 599"),
        (lambda: Status(429, retry_after="2"), "retry_after must be a number, not '2'"),  # type: ignore[arg-type]
        (lambda: Status(500, 3), "body must be None, a mapping"),  # type: ignore[arg-type]
        (lambda: Close(-1), "delay must be 0 or more"),
        (lambda: Cut(-1), "after must be a whole number of 0 or more, not -1"),
        (lambda: Cut("3"), "after must be a whole number"),  # type: ignore[arg-type]
        (lambda: Cut(how="soon"), "how must be 'end', 'close' or 'reset', not 'soon'"),  # type: ignore[arg-type]
        (lambda: Malformed(data="x"), "bytes or None"),  # type: ignore[arg-type]
        (lambda: InBandError(kind="sick"), "a FaultKind such as"),  # type: ignore[arg-type]
        (lambda: Raw("SSH"), r"a tuple of bytes, as in Raw\(\(b'SSH-2.0',\)\), not 'SSH'"),  # type: ignore[arg-type]
        (lambda: Raw(("SSH",)), "a tuple of bytes"),  # type: ignore[arg-type]
        (lambda: Raw(b"SSH"), "a tuple of bytes"),  # type: ignore[arg-type]
        (lambda: RateLimit(requests="2"), "requests must be a number"),  # type: ignore[arg-type]
        (lambda: RateLimit(per=0), "per must be positive"),
    ],
)
def test_a_behaviour_of_wrong_parts_is_refused_when_it_is_built(make: Callable[[], object], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        make()


@pytest.mark.parametrize(
    ("function", "said"),
    [(lambda request: 1 / 0, "ZeroDivisionError"), (lambda request: 3, "TypeError: expected a beh")],
)
def test_a_server_whose_script_breaks_says_so_on_the_error_that_came_of_it(
    function: Callable[[object], Reply], said: str
) -> None:
    def ask() -> None:
        with LoopbackLLM(default=function) as server:
            provider = OpenAICompatible("m", base_url=server.url)
            with ResilientClient([provider], retry={"max_attempts": 1}) as client:
                client.chat("hi")

    with pytest.raises(AllAttemptsFailed) as failed:
        ask()
    assert said in failed.value.__notes__[0]


def test_a_class_is_no_behaviour_of_the_server() -> None:
    with pytest.raises(TypeError, match=r"say Hang\(...\)"):
        LoopbackLLM(Hang)  # type: ignore[arg-type]


def test_a_script_without_a_terminal_event_is_a_break() -> None:
    client = ResilientClient([ScriptedProvider(Reply("one two", terminal=False, finish_reason=None))])
    with client.stream("hi") as stream, pytest.raises(StreamInterrupted):
        list(stream)


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        (Status(503), FaultKind.OVERLOADED),
        (Status(429, retry_after=1), FaultKind.RATE_LIMITED),
        (Status(401), FaultKind.AUTH),
        (Status(204, ""), FaultKind.INVALID_RESPONSE),
        (Close(), FaultKind.CONNECTION),
        (ProviderError("no", kind=FaultKind.QUOTA_EXHAUSTED), FaultKind.QUOTA_EXHAUSTED),
        (TimeoutError(), FaultKind.TIMEOUT),
    ],
    ids=repr,
)
def test_a_failing_step_is_classified_like_a_vendors(step: object, kind: FaultKind) -> None:
    with ResilientClient([ScriptedProvider(step, id="a"), ScriptedProvider("ok", id="b")]) as client:  # type: ignore[arg-type]
        fault = client.chat("hi").attempts[0].fault
    assert fault is not None
    assert fault.kind is kind


# --- no time -----------------------------------------------------------------------------------------------


def test_a_retry_after_is_waited_for_in_no_time() -> None:
    began = time.monotonic()
    provider = ScriptedProvider(Status(429, retry_after=30), "there you are")
    with ResilientClient([provider]) as client, instant(client) as clock:
        assert client.chat("hi").text == "there you are"
        assert 30 <= sum(clock.sleeps) < 40
    assert time.monotonic() - began < 5


@BOTH
def test_a_hang_takes_its_timeout_of_virtual_time(kind: type[ScriptedProvider]) -> None:
    async def main() -> None:
        silent, other = kind(Hang(), id="silent"), kind("ok", id="other")
        async with AsyncResilientClient([silent, other]) as client:
            with instant(client) as clock:
                reply = await client.chat("hi", max_tokens=10)
        assert [record.provider for record in reply.attempts] == ["silent", "other"]
        assert reply.attempts[0].duration == pytest.approx(clock.sleeps[0])
        assert clock.sleeps[0] > 5

    for backend in ("asyncio", "trio"):
        anyio.run(main, backend=backend)


def test_async_backoff_takes_no_time() -> None:
    async def main() -> None:
        provider = AsyncScriptedProvider(Status(500), Status(500), "third time")
        async with AsyncResilientClient([provider]) as client:
            with instant(client) as clock:
                assert len((await client.chat("hi")).attempts) == 3
                assert len(clock.sleeps) == 2

    anyio.run(main)


def test_slow_streams_time_out_by_silence_and_not_by_length() -> None:
    provider = ScriptedProvider(Reply("a " * 200, interval=1.0))
    with ResilientClient([provider]) as client, instant(client) as clock, client.stream("hi", deadline=None) as stream:
        assert len(list(stream.text_deltas())) == 200
        assert sum(clock.sleeps) == pytest.approx(199)


def test_a_breaker_opens_and_closes_while_the_clock_is_moved() -> None:
    provider = ScriptedProvider(*[Status(500)] * 5, default="well again")
    with ResilientClient([provider], retry={"max_attempts": 1}) as client, instant(client) as clock:
        for _ in range(5):
            with pytest.raises(AllAttemptsFailed):
                client.chat("hi")
        assert client.health()["scripted"].breaker == "open"
        clock.advance(300)
        assert client.chat("hi").text == "well again"


def test_a_clock_of_ones_own_is_used_and_taken_back() -> None:
    mine = ManualClock(5000)
    provider = ScriptedProvider(Status(429, retry_after=2), "ok")
    with ResilientClient([provider]) as client:
        before = client.pool.clock
        with instant(client, mine) as clock:
            assert clock is mine
            client.chat("hi")
            assert mine() > 5002
        assert client.pool.clock is before
        assert provider.clock is None
        assert "pause" not in client._driver.__dict__


def test_http_providers_work_in_no_time_as_well() -> None:
    with LoopbackLLM(Status(429, retry_after=20), Reply("ok")) as server:
        provider = OpenAICompatible("m", base_url=server.url + "/v1", api_key="k")
        with ResilientClient([provider]) as client, instant(client) as clock:
            assert client.chat("hi").text == "ok"
            assert sum(clock.sleeps) >= 20


# --- the plugin --------------------------------------------------------------------------------------------


def test_the_plugin_imports_nothing_heavy() -> None:
    code = (
        "import sys, pytest; before = set(sys.modules); import resilient_llm.testing.pytest_plugin as plugin;"
        "print(sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['resilient_llm', 'resilient_llm.testing', 'resilient_llm.testing.pytest_plugin']"


def test_every_public_name_can_be_imported() -> None:
    from resilient_llm import testing

    for name in testing.__all__:
        assert getattr(testing, name)
    assert set(testing.__all__) <= set(dir(testing))
    assert testing.__all__ == sorted(testing.__all__, key=lambda name: (name.islower(), name))
    with pytest.raises(AttributeError):
        testing.Nothing  # noqa: B018


PLUGIN_TEST = """
from resilient_llm import ResilientClient
from resilient_llm.testing import Status

def test_all(loopback_llm, manual_clock, event_recorder, scripted_provider, async_scripted_provider, faults,
             inject_faults, instantly):
    provider = scripted_provider(Status(500), "ok")
    client = ResilientClient([provider], listeners=[event_recorder])
    clock = instantly(client)
    assert client.chat("hi").text == "ok" and clock.sleeps
    schedules = inject_faults(client, {"scripted": faults.always(Status(500))})
    try:
        client.chat("hi", deadline=5)
    except Exception:
        pass
    assert schedules["scripted"].injected and event_recorder.events
    assert loopback_llm.url and manual_clock() == 1000 and async_scripted_provider("x").id == "scripted"
"""


def test_the_fixtures_work_in_a_project_of_the_users(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(PLUGIN_TEST)
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["resilient_llm.testing.pytest_plugin"]\n')
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-W",
        "error",
        "--rootdir",
        str(tmp_path),
    ]
    environment = os.environ | {"PYTHONPATH": str(Path(resilient_llm.__file__).parents[1])}
    done = subprocess.run(
        [*command, str(tmp_path)], capture_output=True, text=True, check=False, cwd=tmp_path, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_callable_default_is_asked_every_time() -> None:
    counted: Callable[[object], str] = lambda request: "again"  # noqa: E731
    with ResilientClient([ScriptedProvider(default=counted)]) as client:
        assert [client.chat("x").text for _ in range(2)] == ["again", "again"]


@BOTH
def test_where_a_rescue_is_due_a_silent_provider_times_out_instead(kind: type[ScriptedProvider]) -> None:
    async def main() -> None:
        first, second = kind(*["ok"] * 25, Hang(), id="first"), kind("rescued", id="second")
        async with AsyncResilientClient([first, second]) as client:
            with instant(client):
                for _ in range(25):
                    await client.chat("hi")
                reply = await client.chat("hi")
        assert [record.kind for record in reply.attempts] == ["initial", "failover"]

    anyio.run(main)
    client = ResilientClient([ScriptedProvider(*["ok"] * 25, Hang(), id="first"), ScriptedProvider(id="second")])
    with client, instant(client):
        replies = [client.chat("hi") for _ in range(26)]
    assert [record.kind for record in replies[-1].attempts] == ["initial", "failover"]


def test_a_script_that_is_used_up_fails_the_test_and_no_failover_hides_it() -> None:
    providers = [ScriptedProvider("one", id="a"), ScriptedProvider(default="two", id="b")]
    with ResilientClient(providers) as client:
        assert client.chat("?").text == "one"
        with pytest.raises(ConfigurationError, match="request 2 to 'a' finds the script used up"):
            client.chat("?")


def test_a_silent_provider_is_left_when_a_rescue_would_start_as_with_sockets() -> None:
    providers = [ScriptedProvider(default=Hang(), id="a"), ScriptedProvider(default="I am B", id="b")]
    with ResilientClient(providers) as client, instant(client) as clock:
        began = clock()
        reply = client.chat("?", deadline=30)
        assert (reply.text, reply.provider, clock() - began) == ("I am B", "b", 10.0)
