"""Converse's answers, whole and streamed: what is read, what breaks, and that garbage is never more than an error."""

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
    FinishReason,
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
from resilient_llm.wire.bedrock import CODEC
from resilient_llm.wire.bedrock.parts import WIRE
from resilient_llm.wire.framing import eventstream
from resilient_llm.wire.kit.accumulate import replay
from tests.wire.readers import read_request
from tests.wire.roundtrip import assembled, events_of

COUNTS = {"usage": {"inputTokens": 3, "outputTokens": 2, "totalTokens": 5}}
START, STOP, META = (
    ("messageStart", {"role": "assistant", "p": "ab"}),
    ("messageStop", {"stopReason": "end_turn"}),
    ("metadata", COUNTS),
)
CITATION = {"title": "t", "location": {"web": {"url": "https://x.test"}}}
END = [Finish("stop", "end_turn"), UsageUpdate(Usage(3, 2, total_tokens=5)), StreamEnd()]


def frames(*events: tuple[str, object]) -> bytes:
    return b"".join(eventstream.event(kind, json.dumps(body).encode()) for kind, body in events)


def read(*events: tuple[str, object]) -> list[StreamEvent]:
    return events_of(CODEC, [frames(*events)])


def start(index: int, **kind: Any) -> tuple[str, object]:
    return "contentBlockStart", {"contentBlockIndex": index, "start": kind}


def delta(index: int, **kind: Any) -> tuple[str, object]:
    return "contentBlockDelta", {"contentBlockIndex": index, "delta": kind, "p": "abc"}


def stop(index: int) -> tuple[str, object]:
    return "contentBlockStop", {"contentBlockIndex": index}


def answer(*content: object, **fields: Any) -> ChatResponse:
    body = {"output": {"message": {"role": "assistant", "content": content}}, "stopReason": "end_turn", **fields}
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
        ("guardrail_intervened", "content_filter"),
        ("content_filtered", "content_filter"),
        ("malformed_model_output", "error"),
        ("malformed_tool_use", "error"),
        ("something_new", "other"),
    ],
)
def test_why_it_stopped(raw: str, reason: str) -> None:
    response = answer(stopReason=raw)
    assert (response.finish_reason, response.raw_finish_reason) == (reason, raw)
    assert json.loads(CODEC.encode_response(response))["stopReason"] == raw


def test_another_vendors_word_is_replaced_by_ours() -> None:
    reasons: list[FinishReason] = ["stop", "error", "other"]
    words = [json.loads(CODEC.encode_response(ChatResponse((), reason, "?")))["stopReason"] for reason in reasons]
    assert words == ["end_turn", "malformed_model_output", "?"]
    assert json.loads(CODEC.encode_response(ChatResponse((), "other")))["stopReason"] == "end_turn"


def test_counts_include_what_was_cached() -> None:
    usage = {
        "inputTokens": 3,
        "outputTokens": 2,
        "totalTokens": 17,
        "cacheReadInputTokens": 5,
        "cacheWriteInputTokens": 7,
        "cacheDetails": [],
    }
    response = answer(usage=usage)
    assert response.usage == Usage(15, 2, 5, 7, 0, 17, Extra(WIRE, {"cacheDetails": []}))
    assert json.loads(CODEC.encode_response(response))["usage"] == usage
    assert answer().usage is None


def test_a_text_with_citations_is_a_text() -> None:
    block = {"citationsContent": {"content": [{"text": "a"}, {"text": "b"}], "citations": [CITATION]}}
    response = answer(block)
    assert response.parts == (Text("ab", (CITATION,)),)
    again = json.loads(CODEC.encode_response(response))["output"]["message"]["content"]
    assert again == [{"citationsContent": {"content": [{"text": "ab"}], "citations": [CITATION]}}]


def test_other_vendors_parts_are_put_as_far_as_this_wire_goes() -> None:
    parts = (
        Thought("Hm.", "s", origin="gemini"),
        Thought("", "s", redacted=True, origin="gemini"),
        Refusal("No."),
        Opaque("gemini", {}),
        ToolResult("never part of an answer"),
        Media("image", "image/png", b"png"),
    )
    assert json.loads(CODEC.encode_response(ChatResponse(parts)))["output"]["message"]["content"] == [
        {"reasoningContent": {"reasoningText": {"text": "Hm."}}},
        {"reasoningContent": {"redactedContent": ""}},
        {"text": "No."},
        {"image": {"format": "png", "source": {"bytes": "cG5n"}}},
    ]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"message": "Too many requests"}',
        b'{"output": {"message": {}}}',
        b'{"output": {"message": {"content": [7]}}}',
        b'{"output": {"message": {"content": [{"text": 7}]}}}',
        b'{"output": {"message": {"content": []}}, "usage": 7}',
    ],
)
def test_what_is_no_message_is_no_answer(body: bytes) -> None:
    with pytest.raises(InvalidAnswer):
        CODEC.decode_response(body)


@pytest.mark.parametrize("kind", FaultKind)
def test_every_failure_has_a_word(kind: FaultKind) -> None:
    body = json.loads(CODEC.encode_error(Fault(kind), "No."))
    assert body["message"] == "No."
    assert body["__type"].endswith("Exception")
    [error] = events_of(CODEC, [CODEC.encode_stream_error(Fault(kind), "No.")])
    assert isinstance(error, StreamError)
    assert isinstance(error.payload, dict)
    assert error.payload["__type"].lower() == body["__type"].lower()
    assert error.payload["message"] == "No."


# --- streams --------------------------------------------------------------------------------------------------------


def test_a_stream_in_all_its_parts() -> None:
    assert (
        read(
            START,
            delta(0, reasoningContent={"text": "Hm."}),
            delta(0, reasoningContent={"signature": "s"}),
            stop(0),
            delta(1, reasoningContent={"redactedContent": "cmVk"}),
            stop(1),
            start(2),
            delta(2, text="Hi"),
            delta(2, citation=CITATION),
            stop(2),
            start(3, toolUse={"toolUseId": "t", "name": "look", "type": "tool_use"}),
            delta(3, toolUse={"input": ""}),
            delta(3, toolUse={"input": '{"a": 1}'}),
            stop(3),
            ("somethingNew", {}),
            STOP,
            META,
        )
        == [
            StreamStart(),
            ThoughtDelta("Hm.", 0, origin=WIRE),
            ThoughtDelta("", 0, 0, "s", WIRE),
            BlockEnd(0),
            PartAdded(Thought("", "cmVk", redacted=True, origin=WIRE), 1),
            BlockEnd(1),
            TextDelta("Hi", 2),
            TextDelta("", 2, 0, (CITATION,)),
            BlockEnd(2),
            ToolCallStart("t", "look", 3, 0, Extra(WIRE, {"type": "tool_use"})),
            ToolCallDelta('{"a": 1}', 3),
            BlockEnd(3),
            Finish("tool_calls", "end_turn"),  # whoever calls tools has not ended
            *END[1:],
        ]
    )


def test_the_vendors_own_calls_results_and_images_arrive_whole() -> None:
    call = {"toolUseId": "t", "name": "nova_code_interpreter", "type": "server_tool_use"}
    result = {"toolUseId": "t", "type": "nova_code_interpreter_result", "status": "success"}
    assert read(
        start(0, toolUse=call),
        delta(0, toolUse={"input": '{"snippet":'}),
        delta(0, toolUse={"input": '"1"}'}),
        start(1, toolResult=result),
        delta(1, toolResult=[{"json": {"a": 1}}]),
        delta(1, toolResult=[{"text": "b"}]),
        start(2, image={"format": "png"}),
        delta(2, image={"source": {"bytes": "cG5n"}}),
        start(3, toolUse=call),
        start(4, toolUse=call),
        delta(4, toolUse={"input": "cut"}),
        STOP,
        META,
    ) == [
        StreamStart(),
        PartAdded(Opaque(WIRE, {"toolUse": {**call, "input": {"snippet": "1"}}}), 0),
        BlockEnd(0),
        PartAdded(Opaque(WIRE, {"toolResult": {**result, "content": [{"json": {"a": 1}}, {"text": "b"}]}}), 1),
        BlockEnd(1),
        PartAdded(Media("image", "image/png", b"png"), 2),
        BlockEnd(2),
        PartAdded(Opaque(WIRE, {"toolUse": {**call, "input": {}}}), 3),
        BlockEnd(3),
        PartAdded(Opaque(WIRE, {"toolUse": {**call, "input": "cut"}}), 4),
        BlockEnd(4),
        *END,
    ]


def test_counts_may_come_before_the_end_or_not_at_all() -> None:
    assert read(START, META, STOP)[-1] == StreamEnd()
    decoder = CODEC.stream_decoder()
    assert decoder.feed(frames(START, STOP)) == [StreamStart(), END[0]]
    assert decoder.close() == [StreamEnd()]
    assert decoder.close() == decoder.feed(frames(META)) == []
    assert read(STOP, ("metadata", {"metrics": {}}))[1:] == [END[0], StreamEnd()]


def test_a_block_of_another_kind_ends_the_one_before_it() -> None:
    found = read(
        delta(0, text="Hi"),
        delta(0, reasoningContent={"text": "Hm."}),
        start(0, toolUse={"input": {"a": 1}}),
        stop(0),
        stop(9),
    )
    assert found[1:-1] == [
        TextDelta("Hi", 0),
        BlockEnd(0),
        ThoughtDelta("Hm.", 1, origin=WIRE),
        BlockEnd(1),
        ToolCallStart("", "", 2),
        ToolCallDelta('{"a":1}', 2),
        BlockEnd(2),
    ]


def test_what_says_nothing_is_nothing() -> None:
    assert read(delta(0, text=""), delta(1, reasoningContent={})) == [
        StreamStart(),
        StreamBroken("the stream ended without messageStop"),
    ]


def test_redacted_reasoning_in_pieces_is_one() -> None:
    found = read(
        delta(0, reasoningContent={"redactedContent": "cg=="}),
        delta(0, reasoningContent={"redactedContent": "ZWQ="}),
        stop(0),
    )
    assert found[1] == PartAdded(Thought("", "cmVk", redacted=True, origin=WIRE), 0)


def test_exceptions_and_errors_carry_what_the_vendor_said() -> None:
    thrown = eventstream.exception("throttlingException", b'{"message": "Slow down"}')
    assert events_of(CODEC, [frames(START) + thrown + frames(STOP)])[-1] == StreamError(
        {"__type": "throttlingException", "message": "Slow down"}
    )
    plain = eventstream.exception("modelStreamErrorException", b"oops")
    assert events_of(CODEC, [plain]) == [StreamError({"__type": "modelStreamErrorException", "message": "oops"})]
    headers = {":message-type": "error", ":error-code": "500", ":error-message": "Oh"}
    coded = eventstream.encode(eventstream.EventMessage(headers))
    assert events_of(CODEC, [coded]) == [StreamError({"__type": "500", "message": "Oh"})]


def test_events_before_a_broken_frame_are_heard() -> None:
    found = events_of(CODEC, [frames(START, delta(0, text="Hi")) + bytes(20)])
    assert found[:2] == [StreamStart(), TextDelta("Hi")]
    assert isinstance(found[2], StreamBroken)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        frames(START),
        frames(START, STOP) + b"\0\0",
        frames(START)[:-1] + b"?",
        frames(("messageStart", [])),
        eventstream.event("messageStart", b"{"),
        frames(delta(0, toolUse={"input": "{}"})),
        frames(delta(0, text=7)),
        frames(delta(0, text="a"), delta(0, toolUse={"input": "{}"})),
        frames(
            delta(0, reasoningContent={"redactedContent": "?"}),
            delta(0, reasoningContent={"redactedContent": "a"}),
            stop(0),
        ),
        b"<html><body>Bad gateway</body></html>",
        b"{",
    ],
)
def test_a_stream_that_cannot_go_on_is_broken(raw: bytes) -> None:
    for chunks in ([raw], [raw[i : i + 1] for i in range(len(raw))]):
        found = events_of(CODEC, chunks)
        assert isinstance(found[-1], StreamBroken)
        assert sum(isinstance(event, StreamBroken | StreamEnd | StreamError) for event in found) == 1


def test_an_error_body_instead_of_a_stream_is_an_error() -> None:
    assert events_of(CODEC, [b'{"message":', b' "No."}']) == [StreamError({"message": "No."})]


def test_a_body_that_is_no_stream_is_not_kept_without_bound() -> None:
    decoder = CODEC.stream_decoder()
    chunk = b"<" + bytes(eventstream.MAX_PAYLOAD)
    assert isinstance(decoder.feed(chunk)[-1], StreamBroken)
    assert decoder.feed(chunk) == []


def test_what_a_stream_cannot_hold_is_left_out_of_it() -> None:
    parts = (
        Text("Hi", (CITATION, {"type": "url_citation"})),
        Opaque(WIRE, {"cachePoint": {"type": "default"}}),
        Opaque(WIRE, {}),
        Opaque("gemini", {}),
        Media("audio", "audio/mpeg", b"mp3"),
        Media("image", "image/png", b"png"),
        Thought("Hm.", "s", origin="gemini"),
        Thought("", "cmVk", redacted=True, origin=WIRE),
        Thought("Ah.", "s", origin=WIRE, extra=Extra(WIRE, {"x": "y"})),
        ToolCall("t", "look", ""),
        ToolResult("t"),
    )
    encoder = CODEC.stream_encoder()
    events = replay(ChatResponse(parts, usage=Usage(3, 2)))
    raw = b"".join(encoder.feed(event) for event in [KeepAlive(), *events])
    response = assembled(events_of(CODEC, [raw]))
    assert response.parts == (
        Text("Hi", (CITATION,)),
        Media("image", "image/png", b"png"),
        Thought("Hm.", origin=WIRE),
        Thought("", "cmVk", redacted=True, origin=WIRE),
        Thought("Ah.", "s", origin=WIRE),
        ToolCall("t", "look", "{}"),
    )
    assert response.usage == Usage(3, 2, total_tokens=5)


def test_a_failure_that_reaches_the_encoder_is_an_exception_frame() -> None:
    [error] = events_of(CODEC, [CODEC.stream_encoder().feed(StreamBroken("cut"))])
    assert isinstance(error, StreamError)


def test_a_refusal_is_text() -> None:
    encoder = CODEC.stream_encoder()
    raw = b"".join(encoder.feed(event) for event in replay(ChatResponse((Refusal("No."),))))
    assert assembled(events_of(CODEC, [raw])).text == "No."


# --- anything at all ------------------------------------------------------------------------------------------------

KEYS = [
    *("text", "image", "toolUse", "toolResult", "reasoningContent", "reasoningText", "redactedContent", "signature"),
    *("citationsContent", "citation", "content", "source", "bytes", "s3Location", "format", "input", "name", "type"),
    *("contentBlockIndex", "delta", "start", "stopReason", "usage", "messages", "system", "toolConfig", "tools"),
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["", "a", "cmVk", "server_tool_use"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)
KINDS = st.sampled_from(
    ["messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata"]
)


@given(st.lists(JSON, max_size=3), JSON)
def test_any_json_is_an_answer_or_an_invalid_one(content: list[Any], more: Any) -> None:
    body = {**(more if isinstance(more, dict) else {}), "output": {"message": {"content": content}}}
    try:
        response = CODEC.decode_response(json.dumps(body).encode())
    except InvalidAnswer:
        return
    CODEC.decode_response(CODEC.encode_response(response))


@given(st.lists(JSON, max_size=3), JSON)
def test_any_json_is_a_request_or_an_invalid_one(content: list[Any], more: Any) -> None:
    body = {"messages": [{"role": "user", "content": content}], **(more if isinstance(more, dict) else {})}
    with contextlib.suppress(InvalidRequest):
        read_request(CODEC, json.dumps(body).encode())


@given(st.lists(st.tuples(KINDS, JSON, JSON, JSON), max_size=6), st.integers(1, 40))
def test_any_events_end_in_exactly_one_verdict_however_they_are_cut(bodies: list[Any], size: int) -> None:
    events = [
        (kind, {**body, "delta": piece, "start": block} if isinstance(body, dict) else body)
        for kind, body, piece, block in bodies
    ]
    raw = frames(*events)
    found = events_of(CODEC, [raw[i : i + size] for i in range(0, len(raw), size)])
    assert found == events_of(CODEC, [raw])
    verdicts = [event for event in found if isinstance(event, StreamBroken | StreamEnd | StreamError)]
    assert verdicts == found[-1:]
    encoder = CODEC.stream_encoder()
    for event in found:
        encoder.feed(event)
