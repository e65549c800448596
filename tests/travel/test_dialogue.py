"""A conversation with tools that every turn is answered by another vendor."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations

import pytest

from resilient_llm import ResilientClient
from resilient_llm.model import (
    ChatRequest,
    ChatResponse,
    Message,
    Part,
    Text,
    Thought,
    Tool,
    ToolCall,
    ToolResult,
)
from resilient_llm.providers import Mistral
from resilient_llm.testing import LoopbackLLM, Reply
from resilient_llm.wire import codec
from tests.travel.probes import WIRES
from tests.travel.rules import calls_in
from tests.travel.vendors import provider
from tests.wire.readers import read_request

CITY = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOLS = (Tool("weather", "Of a city.", CITY), Tool("time", "In a city.", CITY))
GEMINI_3 = "gemini-3-pro-preview"
SENTINEL = "skip_thought_signature_validator"
SIGNED = "c2lnbmVkLWJ5LQ"  # valid base64, as signatures are
ROUNDS = [WIRES, WIRES[::-1], WIRES[::2] + WIRES[1::2]]


@pytest.fixture
def server() -> Iterator[LoopbackLLM]:
    with LoopbackLLM() as server:
        yield server


def ask(client: ResilientClient, history: list[Message], wire: str, stream: bool) -> ChatResponse:
    request = ChatRequest(tuple(history), tools=TOOLS)
    if not stream:
        return client.chat(request, providers=[wire])
    with client.stream(request, providers=[wire]) as events:
        list(events)
    return events.response


def results_of(response: ChatResponse) -> list[Message]:
    """What an application does with calls: it answers each, and names none."""
    return [Message("tool", (ToolResult(call.id, (Text(f"{call.name} done"),)),)) for call in response.tool_calls]


def turn_of(response: ChatResponse, wire: str) -> Message:
    """The answer as the next request carries it, with a thought that only its author can check."""
    thought: Part = Thought("Hm.", f"{SIGNED}{WIRES.index(wire)}", origin=wire)
    return Message("assistant", (thought, *response.parts))


@pytest.mark.parametrize("order", ROUNDS, ids=["forth", "back", "mixed"])
@pytest.mark.parametrize("stream", [False, True])
def test_every_vendor_takes_what_the_others_began(server: LoopbackLLM, order: tuple[str, ...], stream: bool) -> None:
    models = {"gemini": GEMINI_3}
    providers = [provider(wire, server.url, models.get(wire)) for wire in WIRES]
    history = [Message("system", (Text("Be brief."),)), Message("user", (Text("Weather and time, please."),))]
    called = 0
    with ResilientClient(providers) as client:
        for number, wire in enumerate((*order, *order)):
            cities = (f'{{"city":"Paris {number}"}}', f'{{"city":"Oslo {number}"}}')
            server.default = Reply(
                "I look.",
                tool_calls=(
                    ToolCall(f"call_{number}_a", "weather", cities[0]),
                    ToolCall(f"call_{number}_b", "time", cities[1]),
                ),
            )
            response = ask(client, history, wire, stream)
            sent = server.requests[-1]
            assert sent.wire == wire
            turns = calls_in(wire, sent.json)
            assert [[name for _, name in turn] for turn in turns] == [["weather", "time"]] * called
            check_signatures(sent.body.decode(), wire, list((*order, *order)[:number]))
            assert [call.name for call in response.tool_calls] == ["weather", "time"]
            history += [turn_of(response, wire), *results_of(response)]
            called += 1
            ids = [call.id for message in history for call in message.parts if isinstance(call, ToolCall)]
            assert len(set(ids)) == len(ids), "two calls of one conversation share an id"


KEEPS = {"openai_responses", "anthropic_messages", "gemini", "bedrock_converse"}
"""Wires whose signatures go back to them."""


def check_signatures(body: str, wire: str, before: list[str]) -> None:
    """A signature goes back to its author and to nobody else."""
    for author in before:
        if author != wire:
            assert f"{SIGNED}{WIRES.index(author)}" not in body, f"{wire} got a signature of {author}"
        elif wire in KEEPS - {"openai_responses"}:
            assert f"{SIGNED}{WIRES.index(author)}" in body
    assert (SENTINEL in body) == (wire == "gemini" and any(author != "gemini" for author in before))


@pytest.mark.parametrize("wire", WIRES)
def test_ids_are_the_same_in_every_request(wire: str) -> None:
    strange = ToolCall("call with spaces/and:more" + "x" * 80, "weather", '{"city":"Paris"}')
    turns = (
        Message("user", (Text("Hello"),)),
        Message("assistant", (strange,)),
        Message("tool", (ToolResult(strange.id, (Text("sunny"),)),)),
    )
    later = (*turns, Message("assistant", (Text("Sunny."),)), Message("user", (Text("Thanks."),)))
    model = GEMINI_3 if wire == "gemini" else "m"
    seen = []
    for messages in (turns, later, later):
        body = codec(wire).encode_request(ChatRequest(messages, model, TOOLS)).body
        decoded = read_request(wire, body)
        seen += [part for message in decoded.messages for part in message.parts if isinstance(part, ToolCall)]
    assert len({call.id for call in seen}) == 1
    assert all(call.parse() == {"city": "Paris"} for call in seen)


def test_mistral_gets_ids_of_nine_letters(server: LoopbackLLM) -> None:
    history = [
        Message("user", (Text("Hello"),)),
        Message("assistant", (ToolCall("toolu_01A", "weather", "{}"), ToolCall("toolu_01B", "time", "{}"))),
        Message("tool", (ToolResult("toolu_01A", (Text("sunny"),)),)),
        Message("tool", (ToolResult("toolu_01B", (Text("noon"),)),)),
    ]
    with ResilientClient([Mistral("mistral-large", base_url=server.url + "/v1", api_key="k")]) as client:
        client.chat(ChatRequest(tuple(history), tools=TOOLS))
    ((first, second),) = calls_in("openai_chat", server.requests[-1].json)
    assert first[0] != second[0]
    assert all(len(id_) == 9 and id_.isalnum() for id_, _ in (first, second))


@pytest.mark.parametrize(("begun", "continued"), list(permutations(WIRES, 2)))
def test_what_one_vendor_answered_another_can_read(server: LoopbackLLM, begun: str, continued: str) -> None:
    server.default = Reply("I look.", thought="first this", tool_calls=(ToolCall("call_1", "weather", '{"city":"P"}'),))
    providers = [provider(wire, server.url, GEMINI_3 if wire == "gemini" else None) for wire in (begun, continued)]
    with ResilientClient(providers) as client:
        history = [Message("user", (Text("Weather?"),))]
        first = ask(client, history, begun, stream=False)
        history += [first.message(), *results_of(first)]
        second = ask(client, history, continued, stream=False)
        (turn,) = calls_in(continued, server.requests[-1].json)
        assert [name for _, name in turn] == ["weather"]
        assert second.provider == continued


def test_a_conversation_stays_where_it_is_and_moves_only_when_it_must(server: LoopbackLLM) -> None:
    wires = ("anthropic_messages", "gemini", "bedrock_converse")
    with LoopbackLLM(default=Reply("fine")) as other:
        providers = [provider(wire, server.url if wire != "gemini" else other.url) for wire in wires]
        sticky = {"stickiness": 0.01}  # on a busy machine one of them may look slow for a moment
        with ResilientClient([providers], advanced=sticky) as client:
            at = [client.chat("Hello", conversation="c-1").provider for _ in range(12)]
            assert len(set(at)) == 1, "one tier, one conversation, several vendors"
            client.drain(at[0])
            moved = [client.chat("Hello", conversation="c-1").provider for _ in range(12)]
            assert at[0] not in moved
            assert len(set(moved)) == 1
            client.restore(at[0])
            assert {client.chat("Hello", conversation="c-1").provider for _ in range(3)} == set(moved)
