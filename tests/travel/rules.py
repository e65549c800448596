"""What each vendor demands of a conversation with tools, checked on the very bodies that were sent."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import cast

Body = Mapping[str, object]
Calls = list[tuple[str, str]]
"""Ids and names of the calls of one turn, in order."""


def _items(value: object) -> list[dict[str, object]]:
    return cast("list[dict[str, object]]", value) if isinstance(value, list) else []


def _fields(value: object) -> dict[str, object]:
    return cast("dict[str, object]", value)


def _blocks(message: Body, kind: str) -> list[dict[str, object]]:
    return [_fields(block[kind]) for block in _items(message.get("content")) if kind in block]


def openai_chat(body: Body) -> Iterator[Calls]:
    """Every call is answered by its own message directly after, and nothing else is answered."""
    messages = _items(body["messages"])
    for index, message in enumerate(messages):
        calls = [
            (str(call["id"]), str(_fields(call["function"])["name"])) for call in _items(message.get("tool_calls"))
        ]
        if calls:
            answers = messages[index + 1 : index + 1 + len(calls)]
            assert [answer.get("role") for answer in answers] == ["tool"] * len(calls)
            assert {str(answer["tool_call_id"]) for answer in answers} == {id_ for id_, _ in calls}
            yield calls
    tools = [message for message in messages if message["role"] == "tool"]
    assert len(tools) == sum(len(_items(message.get("tool_calls"))) for message in messages)


def openai_responses(body: Body) -> Iterator[Calls]:
    """Every call has one output later on."""
    items = _items(body["input"])
    calls = [item for item in items if item.get("type") == "function_call"]
    outputs = [item["call_id"] for item in items if item.get("type") == "function_call_output"]
    assert sorted(map(str, outputs)) == sorted(str(call["call_id"]) for call in calls)
    turn: Calls = []
    for item in items:
        if item.get("type") == "function_call":
            turn.append((str(item["call_id"]), str(item["name"])))
        elif turn:
            yield turn
            turn = []


def anthropic_messages(body: Body) -> Iterator[Calls]:
    """The user's next turn begins with the results of all calls, in ids of few letters."""
    messages = _items(body["messages"])
    assert messages[0]["role"] == "user"
    for index, message in enumerate(messages):
        blocks = _items(message["content"])
        calls = [(str(block["id"]), str(block["name"])) for block in blocks if block.get("type") == "tool_use"]
        if calls:
            assert all(re.fullmatch(r"[a-zA-Z0-9_-]+", id_) for id_, _ in calls)
            answers = _items(messages[index + 1]["content"])[: len(calls)]
            assert {str(answer.get("tool_use_id")) for answer in answers} == {id_ for id_, _ in calls}
            yield calls


def gemini(body: Body) -> Iterator[Calls]:
    """As many responses as calls, of the same names in the same order; every group of calls is signed."""
    contents = _items(body["contents"])
    for index, content in enumerate(contents):
        parts = _items(content["parts"])
        calls = [part for part in parts if "functionCall" in part]
        if calls:
            assert "thoughtSignature" in calls[0], "Gemini 3 rejects calls without a signature"
            names = [str(_fields(call["functionCall"])["name"]) for call in calls]
            after = _items(contents[index + 1]["parts"])
            answers = [_fields(part["functionResponse"]) for part in after if "functionResponse" in part]
            assert [answer["name"] for answer in answers] == names
            assert all(isinstance(answer["response"], dict) for answer in answers)
            yield [
                (str(_fields(call["functionCall"]).get("id", "")), name)
                for call, name in zip(calls, names, strict=True)
            ]


def bedrock_converse(body: Body) -> Iterator[Calls]:
    """As Anthropic's, with ids of at most 64 letters and turns that alternate."""
    messages = _items(body["messages"])
    assert [message["role"] for message in messages] == [
        ("user", "assistant")[index % 2] for index in range(len(messages))
    ]
    for index, message in enumerate(messages):
        calls = [(str(call["toolUseId"]), str(call["name"])) for call in _blocks(message, "toolUse")]
        if calls:
            assert all(re.fullmatch(r"[a-zA-Z0-9_.:-]{1,64}", id_) for id_, _ in calls)
            answers = _blocks(messages[index + 1], "toolResult")
            assert {str(answer["toolUseId"]) for answer in answers} == {id_ for id_, _ in calls}
            yield calls


def ollama(body: Body) -> Iterator[Calls]:
    """No ids to rely on: results stand in the order of the calls and name their tool."""
    messages = _items(body["messages"])
    for index, message in enumerate(messages):
        names = [str(_fields(call["function"])["name"]) for call in _items(message.get("tool_calls"))]
        if names:
            answers = messages[index + 1 : index + 1 + len(names)]
            assert [answer.get("tool_name") for answer in answers] == names
            yield [("", name) for name in names]


RULES: Mapping[str, Callable[[Body], Iterator[Calls]]] = {
    "openai_chat": openai_chat,
    "openai_responses": openai_responses,
    "anthropic_messages": anthropic_messages,
    "gemini": gemini,
    "bedrock_converse": bedrock_converse,
    "cohere_v2": openai_chat,
    "ollama": ollama,
}


def calls_in(wire: str, body: Body) -> Sequence[Calls]:
    """The calls of each turn, after checking that this vendor would take the conversation."""
    return list(RULES[wire](body))
