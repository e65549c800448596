"""What no provider could answer is told to the caller and not sent."""

from __future__ import annotations

import math
from typing import Any

import pytest

from resilient_llm.errors import InvalidRequest
from resilient_llm.model import Extra
from resilient_llm.options import chat_request
from resilient_llm.wire.kit.fields import dump_request

USER: list[Any] = [
    [{"type": "text"}],
    [{"type": "text", "text": 5}],
    [{"type": "image_url"}],
    [{"type": "image_url", "image_url": {}}],
    [{"type": "image_url", "image_url": {"url": 5}}],
    ["text"],
]
CALLS: list[Any] = [
    "x",
    5,
    [{}],
    ["x"],
    [{"function": None}],
    [{"function": {"name": 5}}],
    [{"function": {"name": ""}}],
]


@pytest.mark.parametrize("content", USER, ids=str)
def test_a_part_without_what_it_is_about_is_refused(content: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"messages\[0\]"):
        chat_request([{"role": "user", "content": content}], {}, stream=False)


@pytest.mark.parametrize("calls", CALLS, ids=str)
def test_a_tool_call_that_calls_nothing_is_refused(calls: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"messages\[0\].*tool"):
        chat_request([{"role": "assistant", "tool_calls": calls}], {}, stream=False)


def test_an_image_and_a_tool_call_in_the_usual_shape_are_understood() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    turns = [{"role": "user", "content": [image]}, {"role": "assistant", "content": None, "tool_calls": [call]}]
    assert len(chat_request(turns, {}, stream=False).messages) == 2


SETTINGS: dict[str, list[Any]] = {
    "temperature": [math.nan, math.inf, "hot", True],
    "top_p": ["hot", -math.inf],
    "frequency_penalty": [math.nan],
    "presence_penalty": [math.nan],
    "top_k": [1.5, -1],
    "seed": ["x", 1.5, True],
    "n": [0, -1, 1.5, "2"],
    "top_logprobs": ["x", -1],
    "logprobs": ["yes"],
    "parallel_tool_calls": [1],
    "user": [5],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in SETTINGS.items() for value in values], ids=str
)
def test_a_setting_of_the_wrong_kind_is_refused_by_name(name: str, value: Any) -> None:
    options: Any = {name: value}
    with pytest.raises(InvalidRequest, match=f"{name} must be") as refused:
        chat_request("hi", options, stream=False)
    assert str(value) in str(refused.value)


def test_settings_of_the_right_kind_are_taken_as_they_are() -> None:
    request = chat_request("hi", {"temperature": 0, "seed": -5, "n": 2, "top_p": 0.5, "user": None}, stream=False)
    assert (request.temperature, request.seed, request.n, request.top_p, request.user) == (0, -5, 2, 0.5, None)


def test_fields_for_a_wire_that_is_none_are_refused_with_the_names_there_are() -> None:
    with pytest.raises(InvalidRequest, match=r"'opnai_chat'.*openai_chat"):
        chat_request("hi", {"extra": {"opnai_chat": {"a": 1}}}, stream=False)
    known = chat_request("hi", {"extra": {"openai_chat": {"a": 1}}}, stream=False)
    assert known.extra == (Extra("openai_chat", {"a": 1}),)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nothing_is_written_that_is_no_json(value: float) -> None:
    with pytest.raises(InvalidRequest, match="JSON"):
        dump_request({"temperature": value})
