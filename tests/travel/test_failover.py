"""From every wire to every other: the first provider fails, the second answers, the caller sees one coherent answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import permutations

import anyio
import pytest

from resilient_llm import AsyncResilientClient, ResilientClient
from resilient_llm.errors import FaultKind
from resilient_llm.model import ChatResponse, Finish, Message, StreamEnd, Text, TextDelta, Tool, ToolCall, ToolResult
from resilient_llm.testing import Cut, InBandError, LoopbackLLM, Reply, Status
from resilient_llm.testing.script import Behaviour
from tests.travel.probes import WIRES
from tests.travel.vendors import MAKE, provider

PAIRS = list(permutations(WIRES, 2))
TOOLS = [Tool("weather", "Of a city.", {"type": "object", "properties": {"city": {"type": "string"}}})]
CONVERSATION = [
    Message("system", (Text("Be brief."),)),
    Message("user", (Text("Weather and time in Paris?"),)),
    Message("assistant", (Text("I look."), ToolCall("call_1", "weather", '{"city":"Paris"}'))),
    Message("tool", (ToolResult("call_1", (Text("sunny"),), "weather"),)),
    Message("user", (Text("And in Oslo?"),)),
]
ANSWER = Reply("Let me see.", tool_calls=(ToolCall("call_9", "weather", '{"city":"Oslo"}'),))
FAILURES: dict[str, Behaviour] = {
    "a status": Status(503),
    "a limit": Status(429, retry_after=1),
    "a cut before content": Reply("never seen", fault=Cut(0, "end")),
    "an error inside the stream": Reply("never seen", fault=InBandError(0)),
}


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, LoopbackLLM]]:
    """One server per wire, so that nobody can answer for another."""
    made = {wire: LoopbackLLM().start() for wire in WIRES}
    yield made
    for server in made.values():
        server.close()


@pytest.fixture(autouse=True)
def clean(servers: dict[str, LoopbackLLM]) -> None:
    for server in servers.values():
        server.clear()
        server.default = ANSWER


def pair(servers: dict[str, LoopbackLLM], first: str, second: str) -> ResilientClient:
    return ResilientClient([provider(wire, servers[wire].url) for wire in (first, second)])


def check(response: ChatResponse, first: str, second: str, servers: dict[str, LoopbackLLM]) -> None:
    """One answer, from the second provider, as if it had been asked alone."""
    assert response.text == "Let me see."
    (call,) = response.tool_calls
    assert (call.name, call.parse()) == ("weather", {"city": "Oslo"})
    assert response.finish_reason == "tool_calls"
    assert response.usage is not None
    assert response.usage.output_tokens > 0
    assert response.provider == second
    assert [(record.provider, record.outcome) for record in response.attempts] == [
        (first, "error"),
        (second, "success"),
    ]
    for wire in (first, second):
        (request,) = servers[wire].requests
        assert request.wire == wire
        others = [f"key-{letter}" for index, letter in enumerate("abcdefg") if list(MAKE)[index] != wire]
        told = json.dumps(dict(request.headers))
        assert not any(key in told for key in others), "a provider saw another's key"


@pytest.mark.parametrize(("first", "second"), PAIRS)
@pytest.mark.parametrize("failure", ["a status", "a limit"])
def test_whole_answers(servers: dict[str, LoopbackLLM], first: str, second: str, failure: str) -> None:
    servers[first].default = FAILURES[failure]
    with pair(servers, first, second) as client:
        response = client.chat(CONVERSATION, tools=TOOLS)
        check(response, first, second, servers)


@pytest.mark.parametrize(("first", "second"), PAIRS)
@pytest.mark.parametrize("failure", FAILURES)
def test_streams(servers: dict[str, LoopbackLLM], first: str, second: str, failure: str) -> None:
    servers[first].default = FAILURES[failure]
    with pair(servers, first, second) as client:
        with client.stream(CONVERSATION, tools=TOOLS) as stream:
            events = list(stream)
        check(stream.response, first, second, servers)
        assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "Let me see."
        assert sum(isinstance(event, Finish) for event in events) == 1
        assert isinstance(events[-1], StreamEnd)
        assert stream.response.attempts[0].fault is not None
        assert stream.response.attempts[0].fault.kind is not FaultKind.BAD_REQUEST


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_streams_of_the_async_client(servers: dict[str, LoopbackLLM], first: str, second: str) -> None:
    servers[first].default = FAILURES["an error inside the stream"]

    async def ask() -> ChatResponse:
        providers = [provider(wire, servers[wire].url) for wire in (first, second)]
        async with AsyncResilientClient(providers) as client:
            async with client.stream(CONVERSATION, tools=TOOLS) as stream:
                async for _ in stream:
                    pass
            return stream.response

    check(anyio.run(ask), first, second, servers)
