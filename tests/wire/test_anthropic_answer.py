"""Claude's answers, whole and streamed: what is read, what breaks, and that garbage is never more than an error."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_llm.errors import Fault, FaultKind, InvalidAnswer, InvalidRequest
from resilient_llm.model import (
    BlockEnd,
    ChatResponse,
    Extra,
    Finish,
    KeepAlive,
    Media,
    Opaque,
    PartAdded,
    Refusal,
    StreamBroken,
    StreamEnd,
    StreamError,
    StreamEvent,
    StreamStart,
    Text,
    TextDelta,
    Thought,
    ThoughtDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    ToolResult,
    Usage,
    UsageUpdate,
)
from resilient_llm.wire.anthropic import CODEC, WIRE
from tests.wire.roundtrip import events_of

START = {
    "type": "message_start",
    "message": {"id": "msg_1", "model": "claude", "usage": {"input_tokens": 3, "output_tokens": 1}},
}
STOP = {"type": "message_stop"}
CITATION = {"type": "page_location", "cited_text": "x"}


def sse(*bodies: object) -> bytes:
    return b"".join(b"event: any\ndata: " + json.dumps(body).encode() + b"\n\n" for body in bodies)


def events(*bodies: object) -> list[StreamEvent]:
    return events_of(CODEC, [sse(*bodies)])


def start(index: int, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index: int, **fields: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": fields}


def stop(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def answer(*content: object, **fields: Any) -> ChatResponse:
    body = {"type": "message", "role": "assistant", "content": content, **fields}
    return CODEC.decode_response(json.dumps(body).encode())


# --- whole answers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("pause_turn", "other"),
        ("something_new", "other"),
        (None, "other"),
    ],
)
def test_why_it_stopped(raw: str | None, reason: str) -> None:
    response = answer(stop_reason=raw)
    assert (response.finish_reason, response.raw_finish_reason) == (reason, raw)
    again = json.loads(CODEC.encode_response(response))["stop_reason"]
    assert again == (raw or "end_turn")


@pytest.mark.parametrize(
    ("reason", "raw", "word"),
    [
        ("stop", "STOP", "end_turn"),
        ("length", None, "max_tokens"),
        ("tool_calls", "tool_calls", "tool_use"),
        ("content_filter", "SAFETY", "refusal"),
        ("error", "MALFORMED", "end_turn"),
    ],
)
def test_another_vendors_word_is_replaced_by_ours(reason: Any, raw: str | None, word: str) -> None:
    assert json.loads(CODEC.encode_response(ChatResponse((), reason, raw)))["stop_reason"] == word


def test_counts_include_what_was_cached() -> None:
    usage = {
        "input_tokens": 3,
        "cache_read_input_tokens": 5,
        "cache_creation_input_tokens": 7,
        "output_tokens": 2,
        "output_tokens_details": {"thinking_tokens": 1},
        "service_tier": "standard",
    }
    response = answer(usage=usage)
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.cache_read_tokens, response.usage.cache_write_tokens) == (
        15,
        5,
        7,
    )
    assert (response.usage.output_tokens, response.usage.reasoning_tokens) == (2, 1)
    assert json.loads(CODEC.encode_response(response))["usage"] == usage


def test_an_answer_without_counts_has_none() -> None:
    assert answer().usage is None


def test_fields_we_do_not_know_come_back() -> None:
    body = json.loads(CODEC.encode_response(answer(container={"id": "c"}, stop_reason="end_turn")))
    assert body["container"] == {"id": "c"}
    assert body["id"]


def test_another_vendors_parts_are_put_as_a_client_of_this_wire_can_keep_them() -> None:
    parts = (
        Thought("Hm.", "c2ln", origin="gemini"),
        Thought("Ah.", None, origin="openai_chat"),
        Text("Hi", ({"type": "url_citation"}, CITATION)),
        ToolCall("call:1", "look", "not json"),
        Media("image", "image/png", b"png"),
        ToolResult("never part of an answer"),
        Opaque("gemini", {}),
        Refusal("No."),
    )
    body = json.loads(CODEC.encode_response(ChatResponse(parts)))
    assert body["content"] == [
        {"type": "thinking", "thinking": "Hm.", "signature": "origin:gemini:c2ln"},
        {"type": "thinking", "thinking": "Ah.", "signature": ""},
        {"type": "text", "text": "Hi", "citations": [CITATION]},
        {"type": "tool_use", "id": "call:1", "name": "look", "input": {"arguments": "not json"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "cG5n"}},
        {"type": "text", "text": "No."},
    ]
    again = CODEC.decode_response(json.dumps(body).encode())
    assert again.parts[0] == parts[0]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"null",
        b'{"type": "error", "error": {"type": "overloaded_error"}}',
        b'{"content": "Hi"}',
        b'{"content": [7]}',
        b'{"content": [{"type": "text", "text": 7}]}',
        b'{"content": [], "stop_reason": 7}',
        b'{"content": [], "usage": 7}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_message_is_no_answer(body: bytes) -> None:
    with pytest.raises(InvalidAnswer):
        CODEC.decode_response(body)


def test_an_error_with_a_success_status_keeps_what_it_says() -> None:
    body = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    with pytest.raises(InvalidAnswer) as caught:
        CODEC.decode_response(json.dumps(body).encode())
    assert caught.value.payload == body


@pytest.mark.parametrize("kind", FaultKind)
def test_every_failure_has_a_word(kind: FaultKind) -> None:
    body = json.loads(CODEC.encode_error(Fault(kind, request_id="req_1"), "No."))
    assert body["type"] == "error"
    assert body["error"]["type"].endswith(("_error", "request_too_large"))
    assert (body["error"]["message"], body["request_id"]) == ("No.", "req_1")
    assert events_of(CODEC, [CODEC.encode_stream_error(Fault(kind), "No.")])[-1] == StreamError(
        {"type": "error", "error": body["error"]}
    )


# --- streams --------------------------------------------------------------------------------------------------------


def test_a_stream_in_all_its_parts() -> None:
    search = {"type": "server_tool_use", "id": "srv_1", "name": "web_search"}
    assert events(
        START,
        {"type": "ping"},
        start(0, type="thinking", thinking="", signature=""),
        delta(0, type="thinking_delta", thinking="Hm."),
        delta(0, type="signature_delta", signature="c2ln"),
        stop(0),
        start(1, type="redacted_thinking", data="ZGF0YQ=="),
        stop(1),
        start(2, type="text", text=""),
        delta(2, type="text_delta", text="Hi"),
        delta(2, type="citations_delta", citation=CITATION),
        stop(2),
        start(3, **search, input={}),
        delta(3, type="input_json_delta", partial_json='{"q":'),
        delta(3, type="input_json_delta", partial_json=" 1}"),
        stop(3),
        start(4, type="tool_use", id="toolu_1", name="look", input={}, caller={"type": "direct"}),
        delta(4, type="input_json_delta", partial_json=""),
        delta(4, type="input_json_delta", partial_json='{"a": 1}'),
        stop(4),
        {
            "type": "message_delta",
            "delta": {"stop_reason": "tool_use", "stop_sequence": None, "container": {"id": "c"}},
            "usage": {"output_tokens": 9, "input_tokens": None},
            "context_management": {"applied_edits": []},
        },
        STOP,
    ) == [
        StreamStart("msg_1", "claude"),
        UsageUpdate(Usage(3, 1)),
        KeepAlive(),
        ThoughtDelta("Hm.", 0, origin=WIRE),
        ThoughtDelta("", 0, 0, "c2ln", WIRE),
        BlockEnd(0),
        PartAdded(Thought("", "ZGF0YQ==", redacted=True, origin=WIRE), 1),
        BlockEnd(1),
        TextDelta("Hi", 2),
        TextDelta("", 2, 0, (CITATION,)),
        BlockEnd(2),
        PartAdded(Opaque(WIRE, {**search, "input": {"q": 1}}), 3),
        BlockEnd(3),
        ToolCallStart("toolu_1", "look", 4, 0, Extra(WIRE, {"caller": {"type": "direct"}})),
        ToolCallDelta('{"a": 1}', 4),
        BlockEnd(4),
        UsageUpdate(Usage(3, 9)),
        Finish(
            "tool_calls",
            "tool_use",
            0,
            Extra(WIRE, {"container": {"id": "c"}, "context_management": {"applied_edits": []}}),
        ),
        StreamEnd(),
    ]


@pytest.mark.parametrize(("given_input", "arguments"), [({}, "{}"), (None, "{}"), ({"a": 1}, '{"a":1}')])
def test_a_call_without_deltas_has_the_arguments_it_began_with(given_input: object, arguments: str) -> None:
    found = events(start(0, type="tool_use", id="t", name="look", input=given_input), STOP)
    assert found == [ToolCallStart("t", "look"), ToolCallDelta(arguments), BlockEnd(), StreamEnd()]


def test_blocks_may_begin_with_content_and_end_with_the_message() -> None:
    found = events(
        start(5, type="text", text="Hi", citations=[CITATION]),
        start(6, type="thinking", thinking="Hm.", signature="c2ln"),
        start(6, type="compaction", content="a", list=[1], other=1),
        delta(6, type="compaction_delta", content="b", list=[2], other=2),
        start(7, type="mcp_tool_use"),
        delta(7, type="input_json_delta", partial_json="cut"),
        STOP,
    )
    assert found == [
        TextDelta("Hi", 0, 0, (CITATION,)),
        ThoughtDelta("Hm.", 1, 0, "c2ln", WIRE),
        BlockEnd(1),
        BlockEnd(0),
        PartAdded(Opaque(WIRE, {"type": "compaction", "content": "ab", "list": [1, 2], "other": 2}), 2),
        BlockEnd(2),
        PartAdded(Opaque(WIRE, {"type": "mcp_tool_use", "input": "cut"}), 3),
        BlockEnd(3),
        StreamEnd(),
    ]


def test_what_did_not_exist_when_this_was_written_is_passed_over() -> None:
    found = events(
        {"type": "content_block_glow", "index": 0},
        start(0, type="text", text="Hi"),
        delta(0, type="glow_delta", text="?"),
        stop(9),
        {"type": "message_delta", "delta": {}},
        STOP,
    )
    assert found == [TextDelta("Hi"), BlockEnd(), StreamEnd()]


def test_the_name_of_an_event_stands_in_for_its_type() -> None:
    assert events_of(CODEC, [b"event: message_stop\ndata: {}\n\n"]) == [StreamEnd()]


def test_a_second_start_of_the_same_answer_is_ignored_and_of_another_is_a_break() -> None:
    assert events(START, START, STOP)[2:] == [StreamEnd()]
    other = {"type": "message_start", "message": {"id": "msg_2"}}
    assert isinstance(events(START, other, STOP)[-1], StreamBroken)


def test_after_the_end_nothing_is_heard() -> None:
    decoder = CODEC.stream_decoder()
    assert decoder.feed(sse(START, STOP, START))[-1] == StreamEnd()
    assert decoder.feed(sse(START)) == decoder.close() == []


def test_terminators_of_other_wires_say_nothing() -> None:
    assert events_of(CODEC, [sse(START) + b"data:\n\n" + sse(STOP) + b"data: [DONE]\n\n"])[-1] == StreamEnd()
    assert isinstance(events_of(CODEC, [sse(START) + b"data: [DONE]\n\n"])[-1], StreamBroken)


def test_an_error_event_carries_what_the_vendor_said() -> None:
    body = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    assert events(START, body, STOP)[-1] == StreamError(body)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        sse(START),
        sse(START) + b"event: message_stop\ndata: {",
        sse(START) + b"data: {\n\n",
        sse(START, 7),
        sse(START, delta(0, type="text_delta", text="no block")),
        sse(START, {"type": "content_block_start", "index": 0, "content_block": "text"}),
        b"<html><body>Bad gateway</body></html>",
        b'"message"',
    ],
)
def test_a_stream_that_cannot_go_on_is_broken(raw: bytes) -> None:
    found = events_of(CODEC, [raw])
    assert isinstance(found[-1], StreamBroken)
    assert sum(isinstance(event, StreamBroken | StreamEnd | StreamError) for event in found) == 1


def test_an_error_body_instead_of_a_stream_is_an_error() -> None:
    body = {"type": "error", "error": {"type": "api_error", "message": "No."}}
    assert events_of(CODEC, [json.dumps(body, indent=1).encode()]) == [StreamError(body)]


# --- anything at all ------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["", "text", "tool_use", "assistant", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "type",
                    "role",
                    "content",
                    "text",
                    "id",
                    "name",
                    "input",
                    "thinking",
                    "signature",
                    "data",
                    "source",
                    "usage",
                    "index",
                    "delta",
                    "stop_reason",
                    "content_block",
                    "message",
                    "citations",
                    "messages",
                    "system",
                    "tools",
                    "tool_choice",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)
BLOCKS = st.sampled_from(
    ["text", "tool_use", "thinking", "redacted_thinking", "tool_result", "image", "document", "server_tool_use", "ping"]
)
EVENTS = st.sampled_from(
    [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
        "error",
    ]
)


def typed(kinds: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    """Objects of any content, with a type that is taken seriously."""
    return st.builds(lambda body, kind: {**body, "type": kind} if isinstance(body, dict) else body, JSON, kinds)


@given(st.lists(typed(BLOCKS), max_size=3), JSON)
def test_any_json_is_an_answer_or_an_invalid_one(content: list[Any], more: Any) -> None:
    body = {**(more if isinstance(more, dict) else {}), "type": "message", "content": content}
    try:
        response = CODEC.decode_response(json.dumps(body).encode())
    except InvalidAnswer:
        return
    CODEC.decode_response(CODEC.encode_response(response))


@given(st.lists(typed(BLOCKS), max_size=3), JSON)
def test_any_json_is_a_request_or_an_invalid_one(content: list[Any], more: Any) -> None:
    body = {"messages": [{"role": "user", "content": content}], **(more if isinstance(more, dict) else {})}
    with contextlib.suppress(InvalidRequest):
        CODEC.decode_request(json.dumps(body).encode())


@given(st.lists(st.tuples(typed(EVENTS), typed(BLOCKS), typed(BLOCKS)), max_size=6), st.integers(1, 40))
def test_any_events_end_in_exactly_one_verdict_however_they_are_cut(bodies: list[Any], size: int) -> None:
    frames = [
        {**body, "content_block": block, "delta": piece} if isinstance(body, dict) and block else body
        for body, block, piece in bodies
    ]
    raw = sse(*frames)
    found = events_of(CODEC, [raw[i : i + size] for i in range(0, len(raw), size)])
    assert found == events_of(CODEC, [raw])
    verdicts = [event for event in found if isinstance(event, StreamBroken | StreamEnd | StreamError)]
    assert verdicts == found[-1:]
    encoder = CODEC.stream_encoder()
    for event in found:
        encoder.feed(event)
