"""The loopback server speaks every wire format: what it sends, the codec of that wire understands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec

import httpx
import pytest

from resilient_llm.errors import Fault, FaultKind
from resilient_llm.model import (
    Finish,
    KeepAlive,
    StreamBroken,
    StreamEnd,
    StreamError,
    StreamEvent,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    UsageUpdate,
)
from resilient_llm.testing import Cut, InBandError, LoopbackLLM, Malformed, Reply, Status
from resilient_llm.wire import codec


@dataclass(frozen=True)
class Wire:
    name: str
    module: str
    path: str
    stream_path: str
    body: str
    stream_body: str


WIRES = [
    Wire("openai_chat", "openai_chat", "/v1/chat/completions", "", '{"model":"m"}', '{"model":"m","stream":true}'),
    Wire("anthropic_messages", "anthropic", "/v1/messages", "", '{"model":"m"}', '{"model":"m","stream":true}'),
    Wire("openai_responses", "openai_responses", "/v1/responses", "", '{"model":"m"}', '{"model":"m","stream":true}'),
    Wire(
        "gemini",
        "gemini",
        "/v1beta/models/m:generateContent",
        "/v1beta/models/m:streamGenerateContent?alt=sse",
        "{}",
        "{}",
    ),
    Wire("bedrock_converse", "bedrock", "/model/m/converse", "/model/m/converse-stream", "{}", "{}"),
    Wire("cohere_v2", "cohere", "/v2/chat", "", '{"model":"m"}', '{"model":"m","stream":true}'),
    Wire("ollama", "ollama", "/api/chat", "", '{"model":"m","stream":false}', '{"model":"m"}'),
]


@pytest.fixture(params=WIRES, ids=lambda wire: wire.name)
def wire(request: pytest.FixtureRequest) -> Wire:
    chosen: Wire = request.param
    if find_spec(f"resilient_llm.wire.{chosen.module}") is None:
        pytest.skip(f"there is no codec for {chosen.name}")
    return chosen


@pytest.fixture
def server() -> Iterator[LoopbackLLM]:
    with LoopbackLLM() as server:
        yield server


def ask(server: LoopbackLLM, wire: Wire) -> httpx.Response:
    return httpx.post(server.url + wire.path, content=wire.body)


def events(server: LoopbackLLM, wire: Wire) -> list[StreamEvent]:
    answer = httpx.post(server.url + (wire.stream_path or wire.path), content=wire.stream_body)
    assert answer.status_code == 200
    decoder = codec(wire.name).stream_decoder()
    return decoder.feed(answer.content) + decoder.close()


def text(found: list[StreamEvent]) -> str:
    return "".join(event.text for event in found if isinstance(event, TextDelta))


def test_whole_answers(server: LoopbackLLM, wire: Wire) -> None:
    call = ToolCall("call_1", "weather", '{"city":"Paris"}')
    server.default = Reply("Hi there", tool_calls=(call,))
    answer = ask(server, wire)
    decoded = codec(wire.name).decode_response(answer.content)
    assert answer.headers["content-type"] == "application/json"
    assert decoded.text == "Hi there"
    assert decoded.finish_reason == "tool_calls"
    (found,) = decoded.tool_calls
    assert (found.name, found.parse()) == ("weather", {"city": "Paris"})
    assert decoded.usage is not None
    assert decoded.usage.input_tokens == 10
    assert server.requests[0].wire == wire.name


def test_streams(server: LoopbackLLM, wire: Wire) -> None:
    call = ToolCall("call_1", "weather", '{"city":"Paris"}')
    server.default = Reply("Hi there", tool_calls=(call,))
    found = events(server, wire)
    assert server.requests[0].stream
    assert text(found) == "Hi there"
    assert [event.name for event in found if isinstance(event, ToolCallStart)] == ["weather"]
    arguments = "".join(event.arguments for event in found if isinstance(event, ToolCallDelta))
    assert arguments.replace(" ", "") == '{"city":"Paris"}'
    assert any(isinstance(event, Finish) and event.reason == "tool_calls" for event in found)
    assert isinstance(found[-1], StreamEnd)
    if wire.name != "openai_chat":  # which sends usage on request only
        assert any(isinstance(event, UsageUpdate) and event.usage.output_tokens for event in found)


def test_reasoning_and_a_reply_without_usage(server: LoopbackLLM, wire: Wire) -> None:
    server.default = Reply("x", thought="first this, then that", usage=None)
    assert codec(wire.name).decode_response(ask(server, wire).content).text == "x"
    assert text(events(server, wire)) == "x"


def test_cut_streams_lack_terminal_evidence(server: LoopbackLLM, wire: Wire) -> None:
    server.default = Reply(pieces=("a", "b", "c"), fault=Cut(2, "end"))
    found = events(server, wire)
    assert text(found) == "ab"
    assert isinstance(found[-1], StreamBroken)


def test_a_stream_without_any_evidence_is_broken(server: LoopbackLLM, wire: Wire) -> None:
    server.default = Reply(pieces=("a", "b"), finish_reason=None, terminal=False)
    found = events(server, wire)
    assert text(found) == "ab"
    assert isinstance(found[-1], StreamBroken)


def test_malformed_frames_break_the_stream(server: LoopbackLLM, wire: Wire) -> None:
    server.default = Reply(pieces=("a", "b"), fault=Malformed(1))
    found = events(server, wire)
    assert text(found) == "a"
    assert isinstance(found[-1], StreamBroken)


@pytest.mark.parametrize("after", [0, 1])
def test_errors_inside_a_stream(server: LoopbackLLM, wire: Wire, after: int) -> None:
    server.default = Reply(pieces=("a", "b"), fault=InBandError(after))
    found = events(server, wire)
    assert text(found) == "a"[:after]
    assert isinstance(found[-1], StreamError)


def test_keep_alives_are_no_content(server: LoopbackLLM, wire: Wire) -> None:
    server.default = Reply("a", first_token=0.01, keep_alive=0.004)
    found = events(server, wire)
    assert text(found) == "a"
    assert isinstance(found[-1], StreamEnd)
    assert wire.name != "anthropic_messages" or any(isinstance(event, KeepAlive) for event in found)


def test_errors_have_the_shape_of_the_wire(server: LoopbackLLM, wire: Wire) -> None:
    server.default = Status(429, message="slow down")
    answer = ask(server, wire)
    assert answer.status_code == 429
    if wire.name != "openai_chat":  # written by hand, so that not every byte comes from the codec
        fault = Fault(FaultKind.RATE_LIMITED, status=429, message="slow down")
        assert answer.content == codec(wire.name).encode_error(fault, "slow down")
    assert "slow down" in answer.text


def test_the_model_is_echoed(server: LoopbackLLM, wire: Wire) -> None:
    decoded = codec(wire.name).decode_response(ask(server, wire).content)
    assert decoded.model in ("m", "")  # Bedrock and Cohere do not tell
