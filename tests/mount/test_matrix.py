"""The vendors' own SDKs over a mounted client: programs see what they see with a healthy vendor, whatever happens."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from resilient_llm import AsyncResilientClient, ResilientClient, mount
from resilient_llm.errors import CallFailed, FaultKind
from resilient_llm.model import ToolCall
from resilient_llm.policy import OnBreak
from resilient_llm.providers import Anthropic, OpenAI
from resilient_llm.testing import Cut, InBandError, LoopbackLLM, Reply, Status
from tests.mount.apps import APPS, App, Seen

every_app = pytest.mark.parametrize("app", APPS, ids=repr)
ways = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
whole_or_streamed = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])

TEXT = Reply("The sky scatters blue light more than red: héllo wörld.")
CALLS = Reply("", tool_calls=(ToolCall("call_a1b2c3d4", "get_weather", '{"city": "Nîmes"}'),))
DEADLINE = 5.0
SHORT = 0.5
"""The same where nobody answers and the call waits for its end."""
LATE = 0.25
"""The same where nothing else is to happen."""

# A bare google-genai uses aiohttp for its async calls.
pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")


@pytest.fixture
def servers() -> Iterator[tuple[LoopbackLLM, LoopbackLLM]]:
    with LoopbackLLM() as first, LoopbackLLM() as second:
        yield first, second


def found(app: App) -> App:
    """The program, if its SDK is installed."""
    try:
        app.sdk()
    except ImportError:
        pytest.skip(f"the SDK of {app.name} is not installed")
    return app


def mounted(
    app: App,
    first: LoopbackLLM,
    second: LoopbackLLM,
    *,
    is_async: bool = False,
    deadline: float = DEADLINE,
    on_break: OnBreak = "fail",
) -> Any:
    """What makes the program's SDK over its own vendor and, behind it, another one."""
    other: type[Any] = OpenAI if app.name == "anthropic" else Anthropic
    providers = [
        app.provider(first.url, id="own", api_key="sk-canary-of-the-first-000000"),
        other(
            "other-1", id="other", base_url=second.url + ("/v1" if other is OpenAI else ""), api_key="sk-second-0000"
        ),
    ]

    def made() -> tuple[Any, Any]:
        client = (AsyncResilientClient if is_async else ResilientClient)(
            providers, deadline=deadline, stream={"on_break": on_break}
        )
        return mount(app.async_sdk() if is_async else app.sdk(), client), client

    return made


def same_as_bare(seen: Seen, app: App, reply: Reply, *, stream: bool, is_async: bool) -> None:
    """The program saw what it sees with the bare SDK."""
    assert seen.error is None
    if app.name == "mistralai" and stream and reply is CALLS:
        # The loopback server streams tool calls piece by piece, as OpenAI does, which Mistral's SDK does not take.
        assert (seen.calls, seen.finish) == ([("get_weather", {"city": "Nîmes"})], ["tool_calls"])
        return
    assert seen.told == healthy(app, reply, stream=stream, tools=reply is CALLS, is_async=is_async).told


def healthy(app: App, reply: Reply, *, stream: bool, tools: bool, is_async: bool) -> Seen:
    """What the program sees with the bare SDK and a healthy server."""
    with LoopbackLLM(default=reply) as server:
        sdk = app.async_sdk() if is_async else app.sdk()
        seen = app.run(lambda: (app.bare(sdk, server.url), None), stream=stream, tools=tools, is_async=is_async)
    assert seen.error is None, f"the bare SDK fails: {seen.error!r}"
    return seen


@every_app
@ways
@whole_or_streamed
@pytest.mark.parametrize("reply", [TEXT, CALLS], ids=["text", "tools"])
def test_all_well(app: App, is_async: bool, stream: bool, reply: Reply, servers: Any) -> None:
    first, second = servers
    found(app)
    first.default = reply
    tools = reply is CALLS
    seen = app.run(mounted(app, first, second, is_async=is_async), stream=stream, tools=tools, is_async=is_async)
    same_as_bare(seen, app, reply, stream=stream, is_async=is_async)
    assert (first.request_count, second.request_count) == (1, 0)


@every_app
@ways
@whole_or_streamed
@pytest.mark.parametrize("reply", [TEXT, CALLS], ids=["text", "tools"])
def test_another_vendor_answers(app: App, is_async: bool, stream: bool, reply: Reply, servers: Any) -> None:
    first, second = servers
    found(app)
    first.default, second.default = Status(503), reply
    tools = reply is CALLS
    seen = app.run(mounted(app, first, second, is_async=is_async), stream=stream, tools=tools, is_async=is_async)
    same_as_bare(seen, app, reply, stream=stream, is_async=is_async)
    assert (first.request_count, second.request_count) == (1, 1)


@every_app
@ways
@whole_or_streamed
def test_a_rate_limit_is_not_waited_for(app: App, is_async: bool, stream: bool, servers: Any) -> None:
    first, second = servers
    found(app)
    first.default, second.default = Status(429, retry_after=30), TEXT
    seen = app.run(mounted(app, first, second, is_async=is_async), stream=stream, is_async=is_async)
    same_as_bare(seen, app, TEXT, stream=stream, is_async=is_async)
    assert (first.request_count, second.request_count) == (1, 1)


@every_app
@ways
@pytest.mark.parametrize("how", ["end", "reset"])
def test_a_break_before_content_is_not_seen(app: App, is_async: bool, how: Any, servers: Any) -> None:
    first, second = servers
    found(app)
    first.default, second.default = replace(TEXT, fault=Cut(0, how)), TEXT
    seen = app.run(mounted(app, first, second, is_async=is_async), stream=True, is_async=is_async)
    same_as_bare(seen, app, TEXT, stream=True, is_async=is_async)
    assert second.request_count == 1


@every_app
@ways
@pytest.mark.parametrize("how", ["end", "reset"])
def test_a_break_after_content_is_the_sdks_own_exception(app: App, is_async: bool, how: Any, servers: Any) -> None:
    first, second = servers
    found(app)
    first.default, second.default = replace(TEXT, fault=Cut(3, how)), TEXT
    seen = app.run(mounted(app, first, second, is_async=is_async), stream=True, is_async=is_async)
    if app.name == "cohere":  # its SDK has no exception for this; the vendor says it so, too
        assert seen.finish == ["ERROR"]
    else:
        assert isinstance(seen.error, app.break_error())
    assert seen.text == "The sky scatters "
    assert (first.request_count, second.request_count) == (1, 0)


@every_app
@ways
@pytest.mark.parametrize("how", ["end", "reset"])
def test_a_break_after_content_goes_on_at_another_vendor(app: App, is_async: bool, how: Any, servers: Any) -> None:
    first, second = servers
    found(app)
    first.default, second.default = replace(TEXT, fault=Cut(3, how)), Reply("".join(TEXT.words[3:]))
    made = mounted(app, first, second, is_async=is_async, on_break="instruct")
    seen = app.run(made, stream=True, is_async=is_async)
    same_as_bare(seen, app, TEXT, stream=True, is_async=is_async)
    assert (first.request_count, second.request_count) == (1, 1)
    assert "The sky scatters" in second.requests[0].body.decode()


@every_app
@pytest.mark.parametrize("on_break", ["restart", "verify", "continue"])
def test_what_cannot_be_mended_is_the_exception_it_was(app: App, on_break: Any, servers: Any) -> None:
    first, second = servers
    found(app)
    broken = replace(CALLS, text="Let me see.", fault=Cut(1)) if on_break == "continue" else replace(TEXT, fault=Cut(3))
    first.default, second.default = broken, TEXT
    seen = app.run(mounted(app, first, second, on_break=on_break), stream=True, tools=on_break == "continue")
    if on_break == "continue" and app.name != "anthropic":  # who takes the beginning goes on with it
        assert seen.error is None
        assert second.request_count == 1
        return
    assert isinstance(seen.error, app.break_error()) or seen.finish == ["ERROR"]
    assert second.request_count == 0


@every_app
@ways
@whole_or_streamed
def test_everything_down_is_the_sdks_own_exception_after_one_pass(
    app: App, is_async: bool, stream: bool, servers: Any
) -> None:
    first, second = servers
    found(app)
    first.default = second.default = Status(503)
    made = mounted(app, first, second, is_async=is_async, deadline=SHORT)
    seen = app.run(made, stream=stream, is_async=is_async)
    assert isinstance(seen.error, app.status_error())
    assert "503" in str(seen.error)
    # One pass: the call's own attempts within its deadline, not three of them.
    assert first.request_count + second.request_count <= 6


TOO_LONG = "The limit is 8192 tokens.\nYour messages have 9000."
REFUSALS: dict[str, dict[str, object]] = {
    "openai": {
        "error": {"message": TOO_LONG, "type": "invalid_request_error", "param": "messages", "code": "too_long"}
    },
    "anthropic": {"type": "error", "error": {"type": "invalid_request_error", "message": TOO_LONG}, "request_id": "r1"},
    "google-genai": {
        "error": {"code": 400, "message": TOO_LONG, "status": "INVALID_ARGUMENT", "details": [{"@type": "t", "f": 1}]}
    },
    "mistralai": {"object": "error", "message": TOO_LONG, "type": "invalid_request", "param": "messages", "code": "15"},
    "cohere": {"id": "b7c1", "message": TOO_LONG},
}
"""What each vendor says that refuses a request, in its own shape."""


@every_app
@ways
@whole_or_streamed
def test_a_refusal_of_the_sdks_own_vendor_is_told_as_the_bare_sdk_tells_it(
    app: App, is_async: bool, stream: bool, servers: Any
) -> None:
    first, second = servers
    found(app)
    first.default = second.default = Status(400, REFUSALS[app.name.removesuffix("-responses")])
    sdk = app.async_sdk() if is_async else app.sdk()
    bare = app.run(lambda: (app.bare(sdk, second.url), None), stream=stream, is_async=is_async)
    seen = app.run(mounted(app, first, second, is_async=is_async), stream=stream, is_async=is_async)
    assert type(seen.error) is type(bare.error)
    assert facts_of(seen.error) == facts_of(bare.error)
    assert "the provider rejected the request (1. own: bad_request 400" in trail_of(seen.error)


def facts_of(error: Any) -> dict[str, object]:
    """What a program may ask an SDK's exception, but for what this library says."""
    names = ("status_code", "code", "type", "param", "status", "details", "body")
    facts = {name: getattr(error, name) for name in names if hasattr(error, name)}
    for name in ("details", "body"):
        told = facts.get(name)
        told = json.loads(told) if isinstance(told, str) else told
        facts[name] = {key: value for key, value in told.items() if key != "resilient_llm"} if told else told
    return facts


def trail_of(error: Any) -> str:
    """What this library says of a failure, in the body of the answer."""
    for told in (getattr(error, "body", None), getattr(error, "details", None)):
        found = json.loads(told) if isinstance(told, str) else told
        if found and "resilient_llm" in found:
            return str(found["resilient_llm"])
    return str(error.response.json()["resilient_llm"])


@every_app
@ways
def test_an_error_inside_a_stream_of_the_sdks_own_vendor_is_told_as_the_bare_sdk_tells_it(
    app: App, is_async: bool, servers: Any
) -> None:
    first, second = servers
    found(app)
    first.default = second.default = replace(TEXT, fault=InBandError(2, message=TOO_LONG))
    sdk = app.async_sdk() if is_async else app.sdk()
    bare = app.run(lambda: (app.bare(sdk, second.url), None), stream=True, is_async=is_async)
    seen = app.run(mounted(app, first, second, is_async=is_async), stream=True, is_async=is_async)
    assert (type(seen.error), seen.text, seen.finish) == (type(bare.error), bare.text, bare.finish)
    if app.name not in ("cohere", "mistralai"):  # whose SDKs have no exception for this
        assert facts_of(seen.error) == facts_of(bare.error)
        assert "Your messages have 9000." in str(seen.error)


@every_app
@ways
@whole_or_streamed
@pytest.mark.parametrize("how", ["late", "unreached"])
def test_no_answer_in_time_and_no_connection_are_what_the_sdk_raises_for_them(
    app: App, is_async: bool, stream: bool, how: Any, servers: Any
) -> None:
    first, second = servers
    found(app)
    first.default = second.default = Reply(delay=30.0)
    if how == "unreached":
        first.close()
        second.close()
    made = mounted(app, first, second, is_async=is_async, deadline=LATE)
    seen = app.run(made, stream=stream, is_async=is_async)
    assert type(seen.error).__name__ == app.network_error(how)
    fault = failure_in(seen.error).attempts[0].fault
    assert fault is not None
    assert fault.kind is (FaultKind.TIMEOUT if how == "late" else FaultKind.CONNECTION)
    if how == "late":
        assert first.request_count + second.request_count <= 2


def failure_in(error: BaseException | None) -> CallFailed:
    """What this library says, where the SDK's exception comes from."""
    while error is not None and not isinstance(error, CallFailed):
        error = error.__cause__
    assert error is not None
    return error


@every_app
@pytest.mark.parametrize("how", ["end", "close", "reset"])
def test_wherever_a_stream_is_cut_no_token_comes_twice_and_none_is_missing(app: App, how: Any, servers: Any) -> None:
    first, second = servers
    found(app)
    second.default = replace(TEXT, text="Another answer.")
    words = TEXT.words
    for after in range(len(words) + 1):
        first.default = replace(TEXT, fault=Cut(after, how))
        seen = app.run(mounted(app, first, second), stream=True)
        if after == 0:
            assert (seen.text, seen.error) == ("Another answer.", None)
        else:
            assert seen.text == "".join(words[:after])
            assert seen.error is not None or seen.finish == ["ERROR"]
