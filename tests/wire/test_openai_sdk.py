"""The vendor's own SDK reads what the encoders write."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest

from resilient_llm.errors import Fault, FaultKind
from resilient_llm.model import (
    ChatRequest,
    ChatResponse,
    Finish,
    Refusal,
    StreamEnd,
    StreamEvent,
    StreamStart,
    Text,
    TextDelta,
    Thought,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    Usage,
    UsageUpdate,
)
from resilient_llm.wire import openai_chat, openai_responses
from resilient_llm.wire.kit.accumulate import replay

openai = pytest.importorskip("openai", reason="the peers extra is not installed")
H: Any = pytest.importorskip("httpx2", reason="the peers extra is not installed")


def client(content: bytes, stream: bool, status: int = 200) -> Any:
    """An SDK client whose every request gets this answer."""
    kind = "text/event-stream" if stream else "application/json"

    def answer(_request: Any) -> Any:
        return H.Response(status, content=content, headers={"content-type": kind})

    http = H.Client(transport=H.MockTransport(answer))
    return openai.OpenAI(api_key="none", max_retries=0, http_client=http)


ANSWER = ChatResponse(
    (
        Thought("Let me see.", origin="anthropic_messages"),
        Text("Two calls."),
        ToolCall("toolu_1", "weather", '{"city": "Zürich"}'),
        ToolCall("toolu_2", "time", '{"zone": "CET"}'),
    ),
    "tool_calls",
    "tool_use",
    Usage(10, 5, cache_read_tokens=4, reasoning_tokens=2),
    "msg_1",
    "claude-sonnet-5",
    1_700_000_000,
)
INTERLEAVED: list[StreamEvent] = [
    StreamStart("msg_1", "claude-sonnet-5", 1_700_000_000),
    TextDelta("Two ", 1),
    TextDelta("calls.", 1),
    ToolCallStart("toolu_1", "weather", 4),
    ToolCallDelta('{"city": ', 4),
    ToolCallDelta('"Zürich"}', 4),
    ToolCallStart("toolu_2", "time", 7),
    ToolCallDelta('{"zone": "CET"}', 7),
    Finish("tool_calls", "tool_use"),
    Finish("tool_calls", "tool_use"),
    UsageUpdate(Usage(10, 1)),
    UsageUpdate(Usage(10, 5, cache_read_tokens=4, reasoning_tokens=2)),
    StreamEnd(),
]


def encoded(encoder: Any, events: Iterable[StreamEvent]) -> bytes:
    return b"".join(encoder.feed(event) for event in events)


QUESTION: Any = {"model": "gpt-5.2", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.mark.parametrize("events", [replay(ANSWER), INTERLEAVED])
def test_chat_chunks_are_accepted_one_by_one(events: list[StreamEvent]) -> None:
    raw = encoded(openai_chat.CODEC.stream_encoder(), events)
    chunks = list(client(raw, True).chat.completions.create(**QUESTION, stream=True))
    assert {(chunk.id, chunk.model, chunk.created) for chunk in chunks} == {("msg_1", "claude-sonnet-5", 1_700_000_000)}
    choices = [choice for chunk in chunks for choice in chunk.choices]
    assert [choice.delta.role for choice in choices if choice.delta.role] == ["assistant"]
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["tool_calls"]
    assert chunks[-1].choices == []
    assert [chunk.usage.total_tokens for chunk in chunks if chunk.usage] == [15]
    assert raw.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("events", [replay(ANSWER), INTERLEAVED])
def test_the_chat_helper_puts_the_stream_together(events: list[StreamEvent]) -> None:
    raw = encoded(openai_chat.CODEC.stream_encoder(), events)
    with client(raw, True).chat.completions.stream(**QUESTION) as stream:
        final = stream.get_final_completion()
    message = final.choices[0].message
    assert (message.role, message.content) == ("assistant", "Two calls.")
    calls = [(call.id, call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls]
    assert calls == [("toolu_1", "weather", {"city": "Zürich"}), ("toolu_2", "time", {"zone": "CET"})]
    assert final.usage.prompt_tokens_details.cached_tokens == 4
    assert final.usage.completion_tokens_details.reasoning_tokens == 2


def test_whole_chat_answers_are_accepted() -> None:
    completion = client(openai_chat.CODEC.encode_response(ANSWER), False).chat.completions.create(**QUESTION)
    choice = completion.choices[0]
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", "Two calls.")
    assert [call.function.name for call in choice.message.tool_calls] == ["weather", "time"]
    assert choice.message.reasoning_content == "Let me see."
    assert completion.usage.total_tokens == 15


def test_usage_is_left_out_for_who_did_not_ask() -> None:
    raw = encoded(openai_chat.CODEC.stream_encoder(ChatRequest((), stream=True)), INTERLEAVED)
    chunks = list(client(raw, True).chat.completions.create(**QUESTION, stream=True))
    assert all(chunk.choices for chunk in chunks)


FAULT = Fault(FaultKind.OVERLOADED, status=503)


@pytest.mark.parametrize("codec", [openai_chat.CODEC, openai_responses.CODEC])
def test_an_error_inside_a_stream_is_raised(codec: Any) -> None:
    start = encoded(codec.stream_encoder(), INTERLEAVED[:3])
    sdk = client(start + codec.encode_stream_error(FAULT, "all providers failed"), True)
    create = sdk.chat.completions.create if codec is openai_chat.CODEC else sdk.responses.create
    question = QUESTION if codec is openai_chat.CODEC else {"model": "gpt-5.2", "input": "Hi"}
    with pytest.raises(openai.APIError, match="all providers failed"):
        list(create(**question, stream=True))


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [(FaultKind.RATE_LIMITED, 429, "rate_limit_exceeded"), (FaultKind.CONTEXT_LENGTH, 400, "context_length_exceeded")],
)
def test_error_bodies_have_the_code_an_application_looks_for(kind: FaultKind, status: int, code: str) -> None:
    body = openai_chat.CODEC.encode_error(Fault(kind, status=status), "no")
    with pytest.raises(openai.APIStatusError) as caught:
        client(body, False, status).chat.completions.create(**QUESTION)
    assert caught.value.code == code
    assert openai_responses.CODEC.encode_error(Fault(kind, status=status), "no") == body


def output_of(response: Any) -> list[tuple[str, str]]:
    found = []
    for item in response.output:
        if item.type == "message":
            found += [(part.type, getattr(part, "text", None) or part.refusal) for part in item.content]
        elif item.type == "function_call":
            found.append((item.name, item.arguments))
        else:
            found.append((item.type, item.summary[0].text))
    return found


SAID = [
    ("reasoning", "Let me see."),
    ("output_text", "Two calls."),
    ("weather", '{"city": "Zürich"}'),
    ("time", '{"zone": "CET"}'),
]


@pytest.mark.parametrize(("events", "said"), [(replay(ANSWER), SAID), (INTERLEAVED, SAID[1:])])
def test_the_responses_helper_puts_the_stream_together(events: list[StreamEvent], said: Any) -> None:
    raw = encoded(openai_responses.CODEC.stream_encoder(), events)
    with client(raw, True).responses.stream(model="gpt-5.2", input="Hi") as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] == "response.completed"
    assert output_of(final) == said
    assert (final.id, final.status, final.usage.input_tokens_details.cached_tokens) == ("msg_1", "completed", 4)


def test_responses_events_are_numbered_without_gaps() -> None:
    raw = encoded(openai_responses.CODEC.stream_encoder(), replay(ANSWER))
    events = list(client(raw, True).responses.create(model="gpt-5.2", input="Hi", stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))


@pytest.mark.parametrize(("reason", "why"), [("length", "max_output_tokens"), ("content_filter", "content_filter")])
def test_an_answer_cut_short_says_so(reason: Any, why: str) -> None:
    answer = ChatResponse((Text("Once"), Refusal("no more")), reason, None, Usage(1, 1), "r", "m", 1)
    whole = client(openai_responses.CODEC.encode_response(answer), False).responses.create(model="m", input="Hi")
    assert (whole.status, whole.incomplete_details.reason) == ("incomplete", why)
    raw = encoded(openai_responses.CODEC.stream_encoder(), replay(answer))
    *_, last = client(raw, True).responses.create(model="m", input="Hi", stream=True)
    assert (last.type, last.response.incomplete_details.reason) == ("response.incomplete", why)
    assert output_of(last.response) == [("output_text", "Once"), ("refusal", "no more")]


def test_whole_responses_are_accepted() -> None:
    response = client(openai_responses.CODEC.encode_response(ANSWER), False).responses.create(model="m", input="Hi")
    assert output_of(response) == SAID
    assert response.output_text == "Two calls."
