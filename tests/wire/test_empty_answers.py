"""A success that holds no answer is a failure: another provider may have one."""

from __future__ import annotations

import json

import pytest

from resilient_llm.errors import InvalidAnswer
from resilient_llm.model import StreamBroken, StreamEnd, StreamEvent
from resilient_llm.wire import codec

NO_ANSWERS = {
    "openai_chat": [
        {"choices": [{"message": None}]},
        {"choices": [{}]},
        {"choices": [{"message": {}}]},
        {"choices": [{"message": {"role": "assistant", "content": ""}}]},
        {"choices": [{"message": {"content": 5}, "finish_reason": "stop"}]},
        {"choices": [{"message": {"tool_calls": [{"function": None}]}, "finish_reason": "tool_calls"}]},
        {"choices": [{"message": {"tool_calls": [{"id": 1, "function": None}]}, "finish_reason": "tool_calls"}]},
        {"choices": [{"message": {"tool_calls": [5]}, "finish_reason": "tool_calls"}]},
        {"choices": [{"message": {"tool_calls": "x"}, "finish_reason": "tool_calls"}]},
    ],
    "anthropic_messages": [
        {},
        {"content": None},
        {"type": "message", "role": "assistant"},
        {"content": 5, "stop_reason": "end_turn"},
        {"content": [None], "stop_reason": "end_turn"},
    ],
    "gemini": [{}, {"candidates": [{}]}, {"candidates": [{"content": None}]}, {"candidates": [{"content": 5}]}],
    "cohere_v2": [
        {},
        {"message": None},
        {"message": None, "finish_reason": "COMPLETE"},
        {"message": {}},
        {"message": {"content": 5}, "finish_reason": "COMPLETE"},
    ],
    "ollama": [
        {},
        {"done": True},
        {"done": True, "message": None},
        {"done": True, "message": {"content": 5}},
        {"done": True, "message": {"tool_calls": [{"function": None}]}},
    ],
    "bedrock_converse": [
        {},
        {"output": None},
        {"output": {}},
        {"output": {"message": None}, "stopReason": "end_turn"},
        {"output": {"message": {}}, "stopReason": "end_turn"},
        {"output": {"message": {"content": 5}}, "stopReason": "end_turn"},
    ],
    "openai_responses": [
        {},
        {"output": None},
        {"output": [{}]},
        {"output": [5], "status": "completed"},
        {"output": [{"type": "message", "content": 5}], "status": "completed"},
    ],
}


@pytest.mark.parametrize(
    ("wire", "body"), [(wire, body) for wire, bodies in NO_ANSWERS.items() for body in bodies], ids=str
)
def test_an_answer_that_says_nothing_at_all_is_none(wire: str, body: dict[str, object]) -> None:
    with pytest.raises(InvalidAnswer):
        codec(wire).decode_response(json.dumps(body).encode())


EMPTY_ANSWERS = {
    "openai_chat": [
        {"choices": [{"message": {"role": "assistant", "content": ""}, "finish_reason": "stop"}]},
        {"choices": [{"message": {"role": "assistant", "content": None}, "finish_reason": "stop"}]},
        {"choices": [{"message": {"role": "assistant"}, "finish_reason": "length"}]},
        {"choices": [{"finish_reason": "content_filter"}]},
    ],
    "anthropic_messages": [{"type": "message", "role": "assistant", "content": [], "stop_reason": "end_turn"}],
    "gemini": [{"candidates": [{"content": {"role": "model"}, "finishReason": "MAX_TOKENS"}]}],
    "cohere_v2": [{"message": {"role": "assistant", "content": []}, "finish_reason": "COMPLETE"}],
    "ollama": [{"message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"}],
    "bedrock_converse": [{"output": {"message": {"role": "assistant", "content": []}}, "stopReason": "end_turn"}],
    "openai_responses": [{"status": "completed", "output": []}],
}


@pytest.mark.parametrize(
    ("wire", "body"), [(wire, body) for wire, bodies in EMPTY_ANSWERS.items() for body in bodies], ids=str
)
def test_an_empty_answer_that_says_why_it_ends_is_one(wire: str, body: dict[str, object]) -> None:
    response = codec(wire).decode_response(json.dumps(body).encode())
    assert response.text == ""
    assert response.finish_reason in {"stop", "length", "content_filter"}


def streamed(*choices: object) -> list[StreamEvent]:
    decoder = codec("openai_chat").stream_decoder()
    chunks = [json.dumps({"id": "1", "choices": [choice]}) for choice in choices]
    return decoder.feed("".join(f"data: {chunk}\n\n" for chunk in [*chunks, "[DONE]"]).encode()) + decoder.close()


@pytest.mark.parametrize(
    "choice",
    [
        {},
        {"delta": None},
        {"delta": {"role": "assistant", "content": ""}},
        {"message": None},
        {"delta": {"content": 5}},
        {"delta": {"content": 5}, "finish_reason": "stop"},
        {"delta": {"tool_calls": [{"function": None}]}},
        {"delta": {"tool_calls": [{"index": 0, "id": "1", "function": None}]}, "finish_reason": "tool_calls"},
    ],
    ids=str,
)
def test_a_stream_that_says_nothing_at_all_is_broken(choice: object) -> None:
    assert isinstance(streamed(choice)[-1], StreamBroken)


def test_a_stream_of_nothing_that_says_why_it_ends_is_an_answer() -> None:
    assert isinstance(streamed({"delta": {"content": ""}}, {"delta": {}, "finish_reason": "stop"})[-1], StreamEnd)


def test_a_stream_without_a_reason_to_end_is_an_answer_only_with_its_token_counts() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 1}
    said = {"choices": [{"delta": {"content": "hi"}}]}
    for last, end in (({"choices": [], "usage": usage}, StreamEnd), ({"choices": []}, StreamBroken)):
        decoder = codec("openai_chat").stream_decoder()
        chunks = [json.dumps(chunk) for chunk in (said, last)]
        events = decoder.feed("".join(f"data: {chunk}\n\n" for chunk in [*chunks, "[DONE]"]).encode())
        assert isinstance(events[-1], end)
