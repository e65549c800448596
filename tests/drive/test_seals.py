"""Sealed reasoning that a provider refuses: the same provider is asked once more, without it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from resilient_llm.capability import UNSEALED, forget
from resilient_llm.errors import FaultKind
from resilient_llm.model import ChatResponse, Message, Text, Thought
from resilient_llm.providers import Anthropic
from resilient_llm.testing import LoopbackLLM, Status
from tests.drive.clients import Client, World

ANSWER = "Hello from the loopback server."
SEAL = "c2VhbGVk" * 4
TOLD = {"type": "invalid_request_error", "message": "messages.1.content.0: Invalid `signature` in `thinking` block"}
REFUSED = Status(400, {"type": "error", "error": TOLD})
OTHER = Status(400, {"type": "error", "error": {"type": "invalid_request_error", "message": "no"}})


@pytest.fixture(autouse=True)
def nothing_learnt() -> Iterator[None]:
    forget()
    yield
    forget()


def conversation(seal: str | None = SEAL, *, question: str = "Go on") -> tuple[Message, ...]:
    thought = Thought("Hm.", seal, False, "anthropic_messages")
    parts = (Text("Yes?"),) if seal is None else (thought, Text("Yes?"))
    return (Message("user", (Text("Hello"),)), Message("assistant", parts), Message("user", (Text(question),)))


def pair(world: World, *first: Any) -> tuple[Client, LoopbackLLM, LoopbackLLM]:
    servers = world.server(*first), world.server()
    providers = [
        Anthropic("claude-opus-4-6", id=name, base_url=server.url, api_key="k")
        for name, server in zip(("first", "second"), servers, strict=True)
    ]
    return world.client(providers), *servers


def asked(client: Client, messages: object, *, streamed: bool = False) -> ChatResponse:
    if not streamed:
        return client.chat(messages)
    stream = client.stream(messages)
    stream.text()
    return stream.response


def sealed(server: LoopbackLLM) -> list[bool]:
    """Whether each request to a server had the seal in it."""
    return [SEAL in str(request.json) for request in server.requests]


@pytest.mark.parametrize("streamed", [False, True], ids=["chat", "stream"])
def test_the_same_provider_is_asked_without_what_it_refused(world: World, streamed: bool) -> None:
    client, first, second = pair(world, REFUSED)
    response = asked(client, conversation(), streamed=streamed)
    assert (response.provider, response.text) == ("first", ANSWER)
    assert sealed(first) == [True, False]
    assert UNSEALED in response.degradations
    assert [record.outcome for record in response.attempts] == ["success"]
    assert second.request_count == 0
    assert not client.health()["first"].error_rate


def test_the_conversation_is_remembered_and_others_are_not_concerned(world: World) -> None:
    client, first, _ = pair(world, REFUSED)
    client.chat(conversation())
    longer = (*conversation(), Message("assistant", (Text("So."),)), Message("user", (Text("And?"),)))
    assert UNSEALED in client.chat(longer).degradations
    assert sealed(first) == [True, False, False]
    response = client.chat(conversation(SEAL + "b3RoZXI="))
    assert UNSEALED not in response.degradations
    assert sealed(first)[3:] == [True]


def test_what_is_refused_again_goes_on_to_the_next_provider_and_blames_nobody(world: World) -> None:
    client, first, second = pair(world, REFUSED, REFUSED)
    response = client.chat(conversation())
    assert (response.provider, sealed(first), sealed(second)) == ("second", [True, False], [True])
    fault = response.attempts[0].fault
    assert fault is not None
    assert fault.kind is FaultKind.SEALED_REASONING
    assert UNSEALED not in response.degradations
    assert client.health()["first"].breaker == "closed"
    assert not client.health()["first"].error_rate


def test_where_nothing_is_sealed_the_request_is_not_sent_again(world: World) -> None:
    client, first, _ = pair(world, REFUSED)
    assert client.chat(conversation(None)).provider == "second"
    assert first.request_count == 1


def test_another_rejection_is_not_answered_by_leaving_something_out(world: World) -> None:
    client, first, _ = pair(world, OTHER)
    with pytest.raises(Exception, match="no"):
        client.chat(conversation())
    assert first.request_count == 1


def test_a_key_from_a_function_is_asked_for_once(world: World) -> None:
    keys: list[str] = []

    def key() -> str:
        keys.append("k")
        return "k"

    server = world.server(REFUSED)
    client = world.client([Anthropic("claude-opus-4-6", id="first", base_url=server.url, api_key=key)])
    assert UNSEALED in client.chat(conversation()).degradations
    assert (len(keys), server.request_count) == (1, 2)
