"""Sealed reasoning that a provider does not accept: the conversation goes on without it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from resilient_llm.capability import UNSEALED, without_seals
from resilient_llm.model import ChatRequest, Extra, Message, Opaque, Part, Text, Thought, ToolCall, ToolResult
from resilient_llm.wire import WIRES, codec
from resilient_llm.wire.features import Feature
from tests.wire.readers import read_request

SEAL = "c2VhbGVk" * 4
USER = Message("user", (Text("Hello"),))
MODELS = {
    "anthropic_messages": "claude-opus-4-6",
    "gemini": "gemini-3-pro",
    "bedrock_converse": "anthropic.claude-sonnet-4-5-v1:0",
}


def answered(*parts: Part, **more: Extra) -> ChatRequest:
    call = Message("assistant", (*parts, ToolCall("call_1", "look", "{}")), **more)
    return ChatRequest((USER, call, Message("tool", (ToolResult("call_1", (Text("There."),), "look"),))), "m")


@pytest.mark.parametrize("wire", sorted(WIRES))
@pytest.mark.parametrize("redacted", [False, True])
def test_no_seal_is_left_and_the_conversation_is(wire: str, redacted: bool) -> None:
    thought = Thought("" if redacted else "Hm.", SEAL, redacted, wire)
    request = replace(answered(thought, Text("I look.")), model=MODELS.get(wire, "m"))
    stripped = without_seals(request)
    assert stripped is not None
    assert stripped == replace(answered(Text("I look.")), model=request.model)
    body = codec(wire).encode_request(stripped).body.decode()
    assert SEAL not in body
    assert all(text in body for text in ("Hello", "I look.", "look", "There."))


@pytest.mark.parametrize(
    ("kind", "item"),
    [
        ("anthropic_messages", {"type": "thinking", "thinking": "Hm.", "signature": SEAL}),
        ("anthropic_messages", {"type": "redacted_thinking", "data": SEAL}),
    ],
)
def test_what_the_caller_sent_himself_is_rebuilt(kind: str, item: object) -> None:
    messages = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": [item, {"type": "text", "text": "Yes?"}]},
        {"role": "user", "content": "Go on"},
    ]
    body = json.dumps({"model": "claude-opus-4-6", "max_tokens": 9, "messages": messages}).encode()
    request = read_request(kind, body)
    assert SEAL in codec(kind).encode_request(request).body.decode()
    stripped = without_seals(request)
    assert stripped is not None
    assert SEAL not in codec(kind).encode_request(stripped).body.decode()


def test_seals_beside_parts_go_and_what_stands_next_to_them_stays() -> None:
    google = {"google": {"thought_signature": SEAL}}
    call = ToolCall("a", "look", "{}", Extra("openai_chat", {"extra_content": google, "index": 0}))
    thought = Thought(
        "Hm.", origin="openai_chat/x", extra=Extra("openai_chat", {"reasoning_details": [{"data": SEAL}]})
    )
    message = Message(
        "assistant",
        (call, thought, Text("t", extra=Extra("gemini", {"thought_signature": SEAL})), Opaque("gemini", {"x": {}})),
        extra=Extra("openai_chat", {"thought_signature": SEAL, "a": 1}),
    )
    stripped = without_seals(ChatRequest((USER, message)))
    assert stripped is not None
    assert stripped.messages[1] == Message(
        "assistant",
        (
            replace(call, extra=Extra("openai_chat", {"index": 0})),
            replace(thought, extra=None),
            Text("t"),
            Opaque("gemini", {"x": {}}),
        ),
        extra=Extra("openai_chat", {"a": 1}),
    )


def test_items_that_the_vendor_kept_stand_for_themselves() -> None:
    """The name of an item makes OpenAI look for the reasoning it was kept with."""
    kept = Extra("openai_responses", {"id": "rs_1", "summary": []})
    call = ToolCall("call_1", "look", "{}", Extra("openai_responses", {"id": "fc_1", "namespace": "n"}))
    text = Text("I look.", extra=Extra("openai_responses", {"id": "msg_1"}))
    asked = ChatRequest((USER, Message("assistant", (Thought("", origin="openai_responses", extra=kept), text, call))))
    stripped = without_seals(asked)
    assert stripped is not None
    named = replace(call, extra=Extra("openai_responses", {"namespace": "n"}))
    assert stripped.messages[1] == Message("assistant", (Text("I look."), named))
    body = codec("openai_responses").encode_request(stripped).body.decode()
    assert not any(name in body for name in ("rs_1", "msg_1", "fc_1"))
    assert without_seals(stripped) is None


def test_a_message_that_was_nothing_but_a_seal_goes() -> None:
    sealed = Message("assistant", (Thought("", SEAL, True, "anthropic_messages"),))
    assert without_seals(ChatRequest((USER, sealed, USER))) == ChatRequest((USER, USER))


@pytest.mark.parametrize(
    "part", [Text("Hm."), Thought("Hm.", origin="openai_chat/deepseek"), Opaque("gemini", {"a": 1})]
)
def test_where_nothing_is_sealed_nothing_is_tried_again(part: Part) -> None:
    assert without_seals(answered(part, extra=Extra("openai_chat", {"a": 1}))) is None
    assert without_seals(ChatRequest((Message("assistant", ()), USER))) is None


def test_what_is_told() -> None:
    assert UNSEALED.feature == Feature.REASONING
