"""What the Anthropic codec writes, the vendor's own SDK reads: whole, streamed, with its helper, and when it fails."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from resilient_llm.errors import Fault, FaultKind
from resilient_llm.model import (
    ChatResponse,
    Finish,
    KeepAlive,
    Media,
    Opaque,
    PartAdded,
    Refusal,
    Restarted,
    StreamBroken,
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
from resilient_llm.wire.anthropic import CODEC, WIRE
from resilient_llm.wire.kit.accumulate import replay

anthropic = pytest.importorskip("anthropic")

CITATION = {"type": "char_location", "cited_text": "x", "document_index": 0, "start_char_index": 0, "end_char_index": 1}
SEARCH = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "sky"}}
ANSWER = ChatResponse(
    (
        Thought("Hm.", "c2ln", origin=WIRE),
        Thought("", "ZGF0YQ==", redacted=True, origin=WIRE),
        Text("It is ", (CITATION,)),
        Opaque(WIRE, SEARCH),
        Opaque("openai_responses", {"type": "web_search_call"}),
        ToolCall("toolu_1", "get_weather", '{"city": "Köln"}'),
        ToolCall("call_2", "get_time", "{}"),
    ),
    "tool_calls",
    usage=Usage(30, 7, 10, 5, 3),
    id="msg_1",
    model="claude-sonnet-5",
)


def client(reply: bytes, kind: str, status: int = 200) -> Any:
    """An SDK client whose server always answers this."""
    httpx = pytest.importorskip("httpx2" if int(anthropic.__version__.split(".")[0]) >= 1 else "httpx")

    def handler(_request: Any) -> Any:
        headers = {"content-type": kind, "request-id": "req_1"}
        return httpx.Response(status, headers=headers, content=reply)

    http = httpx.Client(transport=httpx.MockTransport(handler))
    return anthropic.Anthropic(api_key="none", http_client=http, max_retries=0)


def stream(events: Iterable[StreamEvent]) -> bytes:
    encoder = CODEC.stream_encoder()
    return b"".join(encoder.feed(event) for event in events)


QUESTION: dict[str, Any] = {
    "model": "claude-sonnet-5",
    "max_tokens": 64,
    "messages": [{"role": "user", "content": "Weather?"}],
}


def assert_is_the_answer(message: Any) -> None:
    blocks = message.content
    assert [block.type for block in blocks] == [
        *("thinking", "redacted_thinking", "text", "server_tool_use", "tool_use", "tool_use")
    ]
    assert (blocks[0].thinking, blocks[0].signature, blocks[1].data) == ("Hm.", "c2ln", "ZGF0YQ==")
    assert (blocks[2].text, blocks[2].citations[0].cited_text) == ("It is ", "x")
    assert blocks[3].input == {"query": "sky"}
    assert [(call.id, call.name, call.input) for call in blocks[4:]] == [
        ("toolu_1", "get_weather", {"city": "Köln"}),
        ("call_2", "get_time", {}),
    ]
    assert (message.id, message.stop_reason, message.usage.input_tokens) == ("msg_1", "tool_use", 15)
    assert (message.usage.cache_read_input_tokens, message.usage.cache_creation_input_tokens) == (10, 5)
    assert message.usage.output_tokens == 7


def test_the_sdk_reads_a_whole_answer() -> None:
    sdk = client(CODEC.encode_response(ANSWER), "application/json")
    assert_is_the_answer(sdk.messages.create(**QUESTION))


def test_the_sdks_helper_puts_a_stream_together() -> None:
    sdk = client(stream(replay(ANSWER)), "text/event-stream")
    with sdk.messages.stream(**QUESTION) as streamed:
        kinds = [event.type for event in streamed]
        assert_is_the_answer(streamed.get_final_message())
    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"


def test_the_sdk_sees_blocks_open_and_close_in_order() -> None:
    sdk = client(stream(replay(ANSWER)), "text/event-stream")
    indices: list[int] = []
    open_block = None
    for event in sdk.messages.create(**QUESTION, stream=True):
        if event.type == "content_block_start":
            assert open_block is None
            open_block = event.index
            indices.append(event.index)
        elif event.type == "content_block_delta":
            assert event.index == open_block
        elif event.type == "content_block_stop":
            assert event.index == open_block
            open_block = None
    assert indices == list(range(len(indices)))


def test_calls_written_at_the_same_time_keep_their_arguments() -> None:
    events: list[StreamEvent] = [
        ToolCallStart("call_a", "first", 0),
        ToolCallDelta('{"a"', 0),
        ToolCallStart("call_b", "second", 1),
        ToolCallDelta('{"b": 2}', 1),
        ToolCallDelta(": 1}", 0),
        TextDelta("Done.", 2),
        ToolCallDelta("lost: the call is over", 7),
        Finish("tool_calls", "tool_calls"),
        UsageUpdate(Usage(3, 4)),
        StreamEnd(),
    ]
    with client(stream(events), "text/event-stream").messages.stream(**QUESTION) as streamed:
        message = streamed.get_final_message()
    assert [getattr(block, "input", None) for block in message.content] == [{"a": 1}, {"b": 2}, None]
    assert (message.stop_reason, message.usage.input_tokens, message.usage.output_tokens) == ("tool_use", 3, 4)


def test_what_says_nothing_does_not_disturb_the_sdk() -> None:
    events: list[StreamEvent] = [
        StreamStart("msg_1", "claude"),
        KeepAlive(),
        StreamStart("msg_2", "another provider's, after a failover"),
        TextDelta("", 0),
        TextDelta("one", 0),
        TextDelta("second choice", 0, choice=1),
        Restarted("b", "stalled"),
        PartAdded(Text("two"), 1),
        PartAdded(Refusal("three"), 2),
        PartAdded(Opaque("gemini", {}), 3),
        PartAdded(Media("image", "image/png", b"png"), 4),
        StreamEnd(),
    ]
    with client(stream(events), "text/event-stream").messages.stream(**QUESTION) as streamed:
        message = streamed.get_final_message()
    assert message.id == "msg_1"
    assert [block.text for block in message.content if block.type == "text"] == ["one", "two", "three"]
    assert message.content[-1].type == "image"
    assert message.stop_reason == "end_turn"


STATUSES = [
    (400, FaultKind.BAD_REQUEST, "BadRequestError"),
    (401, FaultKind.AUTH, "AuthenticationError"),
    (403, FaultKind.PERMISSION, "PermissionDeniedError"),
    (404, FaultKind.NOT_FOUND_MODEL, "NotFoundError"),
    (409, FaultKind.CONFLICT, "ConflictError"),
    (429, FaultKind.RATE_LIMITED, "RateLimitError"),
    (500, FaultKind.SERVER_ERROR, "InternalServerError"),
    (529, FaultKind.OVERLOADED, "APIStatusError"),
]


@pytest.mark.parametrize(("status", "kind", "name"), STATUSES)
def test_an_error_answer_raises_the_sdks_own_class(status: int, kind: FaultKind, name: str) -> None:
    body = CODEC.encode_error(Fault(kind, request_id="req_1"), "No.")
    with pytest.raises(getattr(anthropic, name), match=r"No\."):
        client(body, "application/json", status).messages.create(**QUESTION)


BROKEN: list[Callable[[], bytes]] = [
    lambda: CODEC.encode_stream_error(Fault(FaultKind.OVERLOADED), "The answer broke off."),
    lambda: CODEC.stream_encoder().feed(StreamBroken("cut")),
]


@pytest.mark.parametrize("error", BROKEN)
def test_an_error_inside_a_stream_raises_from_the_iterator(error: Callable[[], bytes]) -> None:
    body = stream([StreamStart("msg_1", "claude"), TextDelta("It is", 0)]) + error()
    seen: list[str] = []
    with pytest.raises(anthropic.APIStatusError, match=r"cut|broke off"):  # noqa: PT012 - it has to be the iteration that raises
        for event in client(body, "text/event-stream").messages.create(**QUESTION, stream=True):
            seen.append(event.type)
    assert seen == ["message_start", "content_block_start", "content_block_delta"]


def test_the_sdks_own_request_is_understood() -> None:
    httpx = pytest.importorskip("httpx2" if int(anthropic.__version__.split(".")[0]) >= 1 else "httpx")
    sent: list[Any] = []

    def handler(request: Any) -> Any:
        sent.append(request)
        return httpx.Response(200, json=json.loads(CODEC.encode_response(ANSWER)))

    sdk = anthropic.Anthropic(api_key="none", http_client=httpx.Client(transport=httpx.MockTransport(handler)))
    tool = {"name": "get_weather", "input_schema": {"type": "object", "properties": {}}}
    sdk.messages.create(
        **QUESTION, system="Be brief.", tools=[tool], tool_choice={"type": "any"}, stop_sequences=["END"]
    )
    request = CODEC.decode_request(sent[0].content, sent[0].url.path)
    assert [(message.role, message.text) for message in request.messages] == [
        ("system", "Be brief."),
        ("user", "Weather?"),
    ]
    assert (request.max_tokens, request.stop, request.tools[0].name) == (64, ("END",), "get_weather")
