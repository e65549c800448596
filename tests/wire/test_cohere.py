"""Cohere's wire: recorded exchanges, what cannot be expressed, streams that break, and its own client as judge."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from resilient_llm.errors import Fault, FaultKind, InvalidAnswer, InvalidRequest
from resilient_llm.model import (
    BlockEnd,
    ChatRequest,
    ChatResponse,
    EmbedRequest,
    EmbedResponse,
    Extra,
    Finish,
    Json,
    KeepAlive,
    Media,
    Message,
    Opaque,
    OutputFormat,
    PartAdded,
    Reasoning,
    Refusal,
    RefusalDelta,
    StreamBroken,
    StreamEnd,
    StreamError,
    Text,
    TextDelta,
    Thought,
    ThoughtDelta,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    ToolChoice,
    ToolResult,
    Usage,
    UsageUpdate,
)
from resilient_llm.wire.cohere import CODEC
from resilient_llm.wire.cohere.parts import PLAN, WIRE
from resilient_llm.wire.embeddings.cohere import CODEC as EMBED
from tests.wire.asking import refused
from tests.wire.recorded import Recorded
from tests.wire.roundtrip import (
    Rule,
    Subject,
    absent_if,
    absent_if_empty,
    absent_if_null,
    assembled,
    events_of,
    requests,
    sse_frames,
)

SUBJECT = Subject(
    CODEC,
    sse_frames,
    lambda frames: any(b"message-end" in frame for frame in frames),
    request_rules=(
        Rule(r"[a-z_]+", absent_if_null, "null says nothing"),
        Rule("stream", absent_if(False), "no stream is the default"),
        Rule(r"messages\[\]\.content", absent_if_empty, "no content is no text"),
        Rule(r"messages\[\]\.tool_calls\[\]\.type", absent_if("function"), "there is no other type"),
    ),
    response_rules=(
        Rule(r"message\.(tool_plan|citations|tool_calls|content)", absent_if_empty, "empty means none"),
        Rule(r"usage\.cached_tokens", absent_if(0), "none is none"),
    ),
)


def one(**fields: Any) -> ChatRequest:
    return ChatRequest((Message("user", (Text("hi"),)),), "command", **fields)


def again(body: dict[str, Any]) -> Any:
    """A request through the neutral model and back."""
    request = CODEC.decode_request(json.dumps(body).encode())
    return json.loads(CODEC.encode_request(dataclasses.replace(request, source=None)).body)


def frame(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def piece(kind: str, index: int = 0, **message: Any) -> bytes:
    return frame(kind, index=index, delta={"message": message})


END = frame("message-end", delta={"finish_reason": "COMPLETE"})


# --- recorded exchanges ------------------------------------------------------------------------------------


class TestRecorded(Recorded):
    answers, streams = ("cohere_v2",), ("cohere_v2_streams",)
    subject = SUBJECT


# --- requests ----------------------------------------------------------------------------------------------


def test_every_setting_goes_both_ways() -> None:
    body = {
        "model": "command",
        "stream": True,
        "messages": [
            {"role": "system", "content": [{"type": "text", "text": "be"}, {"type": "text", "text": "brief"}]},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "see", "cache": 1},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,eA==", "detail": "low"}},
                    {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
                    {"type": "document", "document": {"data": {"text": "x"}}},
                ],
            },
            {
                "role": "assistant",
                "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "so"}],
                "tool_plan": "I will ask.",
                "tool_calls": [{"id": "a", "type": "function", "function": {"name": "t", "arguments": "{}", "odd": 1}}],
                "citations": [{"start": 0, "end": 2, "text": "so", "sources": [], "content_index": 1}],
            },
            {"role": "tool", "tool_call_id": "a", "content": "plain"},
            {"role": "tool", "tool_call_id": "b", "content": [{"type": "document", "document": {"data": {"n": 1}}}]},
            {
                "role": "tool",
                "tool_call_id": "c",
                "content": [{"type": "document", "document": {"id": "7", "data": "s"}}],
            },
            {
                "role": "tool",
                "tool_call_id": "d",
                "content": [{"type": "text", "text": "x"}, {"type": "document", "document": {"data": {"n": 1}}}],
            },
        ],
        "tools": [
            {"type": "function", "function": {"name": "t", "description": "d", "parameters": {"type": "object"}}}
        ],
        "strict_tools": True,
        "tool_choice": "REQUIRED",
        "response_format": {"type": "json_object", "json_schema": {"type": "object"}},
        "thinking": {"type": "enabled", "token_budget": 99},
        "max_tokens": 5,
        "temperature": 0.5,
        "p": 0.9,
        "k": 4,
        "frequency_penalty": 0.1,
        "presence_penalty": 0.2,
        "seed": 1,
        "stop_sequences": ["x"],
        "logprobs": True,
        "safety_mode": "OFF",
        "documents": ["x"],
        "citation_options": {"mode": "FAST"},
    }
    assert again(body) == body


@pytest.mark.parametrize("format_", [{"type": "json_object"}, {"type": "text"}])
@pytest.mark.parametrize("thinking", [{"type": "disabled"}, {"type": "enabled"}])
def test_switches_go_both_ways(format_: Any, thinking: Any) -> None:
    body = {"model": "m", "stream": False, "messages": [], "response_format": format_, "thinking": thinking}
    assert again(body) == body


def test_the_older_name_of_the_schema_is_understood() -> None:
    format_ = {"type": "json_object", "schema": {"type": "object"}}
    request = CODEC.decode_request(json.dumps({"messages": [], "response_format": format_}).encode())
    assert request.output == OutputFormat("json_schema", {"type": "object"})


def test_a_forwarded_request_gets_model_and_stream_switch_replaced() -> None:
    request = CODEC.decode_request(b'{"model":"m","messages":[],"mystery":1}')
    sent = CODEC.encode_request(dataclasses.replace(request, model="other", stream=True))
    assert json.loads(sent.body) == {"model": "other", "messages": [], "mystery": 1, "stream": True}


def test_a_named_tool_is_the_only_one_offered() -> None:
    request = one(tools=(Tool("a"), Tool("b", strict=True)), tool_choice=ToolChoice("required", ("b",)))
    sent = CODEC.encode_request(request)
    body = json.loads(sent.body)
    assert [tool["function"]["name"] for tool in body["tools"]] == ["b"]
    assert (body["tool_choice"], body["strict_tools"]) == ("REQUIRED", True)
    assert [each.feature for each in sent.degradations] == ["tool_choice.allowed"]


def test_the_choice_of_tools_is_said_in_coheres_words() -> None:
    def word(choice: ToolChoice) -> object:
        return json.loads(CODEC.encode_request(one(tools=(Tool("t"),), tool_choice=choice)).body).get("tool_choice")

    assert [word(ToolChoice(mode)) for mode in ("auto", "none", "required")] == [None, "NONE", "REQUIRED"]  # type: ignore[arg-type]
    assert CODEC.decode_request(b'{"messages":[],"tool_choice":"NONE"}').tool_choice == ToolChoice("none")


@pytest.mark.parametrize(
    ("fields", "feature"),
    [
        ({"n": 2}, "n"),
        ({"tools": (Tool("t"),), "parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"logprobs": True, "top_logprobs": 2}, "top_logprobs"),
        ({"extra": (Extra("openai_chat", {"prediction": {"type": "content"}}),)}, "prediction"),
    ],
)
def test_what_cohere_cannot_do_is_refused_before_anything_is_sent(fields: dict[str, Any], feature: str) -> None:
    assert refused(CODEC, one(**fields)) == feature


@pytest.mark.parametrize(
    ("part", "feature"),
    [
        (Media("image", file_id="file-1"), "file_id"),
        (Media("document", data=b"x"), "document"),
        (Opaque("anthropic_messages", {"type": "server_tool_use"}), "builtin_tools"),
        (ToolResult("c", (Media("image", data=b"x"),)), "media_in_tool_result"),
    ],
)
def test_parts_cohere_cannot_hold_are_refused(part: Any, feature: str) -> None:
    assert refused(CODEC, ChatRequest((Message("user", (part,)),))) == feature


def test_what_is_left_out_is_said() -> None:
    request = ChatRequest(
        (
            Message("developer", (Text("be brief", ({"type": "url_citation"},)),), name="boss"),
            Message("assistant", (Thought("hm", "sig", origin="anthropic_messages"), Refusal("no"))),
            Message("tool", (ToolResult("a", (Json(1), Text("x")), is_error=True), Text("go on"))),
        ),
        tools=(Tool("t", strict=True), Tool("u")),
        reasoning=Reasoning(effort="high"),
        user="me",
        extra=(Extra("openai_chat", {"service_tier": "flex"}),),
    )
    sent = CODEC.encode_request(request)
    body = json.loads(sent.body)
    assert sorted(each.feature for each in sent.degradations) == sorted(
        [
            "user",
            "message.name",
            "developer",
            "openai_chat.service_tier",
            "annotations",
            "reasoning",
            "tool_result.is_error",
            "tool.strict",
            "reasoning.effort",
        ]
    )
    assert body["thinking"] == {"type": "enabled"}
    assert body["strict_tools"] is False
    result = [{"type": "document", "document": {"data": {"result": 1}}}, {"type": "text", "text": "x"}]
    assert body["messages"] == [
        {"role": "system", "content": "be brief"},
        {"role": "assistant", "content": "no"},
        {"role": "tool", "tool_call_id": "a", "content": result},
        {"role": "user", "content": "go on"},
    ]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"messages": 1}',
        b'{"messages":[{"role":"narrator"}]}',
        b'{"messages":[{"role":"user","content":1}]}',
        b'{"messages":[{"role":"user","content":[1]}]}',
        b'{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{}}]}]}',
        b'{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png,x"}}]}]}',
        b'{"messages":[{"role":"tool","content":[{"type":"document","document":1}]}]}',
        b'{"messages":[],"tool_choice":"auto"}',
        b'{"messages":[],"response_format":{}}',
        b'{"messages":[],"stop_sequences":[1]}',
        b'{"messages":[],"max_tokens":true}',
        b'{"messages":[{"role":"tool","tool_call_id":"a","content":[{"type":"odd"}]}],"tools":[{"function":{}}]}',
    ],
)
def test_malformed_requests_are_invalid(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        CODEC.decode_request(body)


# --- answers -----------------------------------------------------------------------------------------------


def answer(**message: Any) -> ChatResponse:
    return CODEC.decode_response(json.dumps({"id": "x", "message": message}).encode())


def test_a_plan_is_a_thought_that_knows_where_it_belongs() -> None:
    response = answer(tool_plan="I will ask.", tool_calls=[{"id": "a", "function": {"name": "t", "arguments": "null"}}])
    assert response.parts[0] == Thought("I will ask.", origin=PLAN)
    assert response.finish_reason == "tool_calls"
    message = json.loads(CODEC.encode_response(response))["message"]
    assert message["tool_plan"] == "I will ask."
    assert message["tool_calls"][0]["function"]["arguments"] == "null"


def test_citations_belong_to_the_text_they_cite_for() -> None:
    one, two = {"start": 0, "end": 1, "sources": []}, {"start": 0, "end": 1, "sources": [], "content_index": 1}
    response = answer(content=[{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], citations=[one, two])
    assert [part.annotations for part in response.parts if isinstance(part, Text)] == [(one,), (two,)]
    lost = answer(citations=[one])
    assert json.loads(CODEC.encode_response(lost))["message"]["citations"] == [one]


def test_processed_tokens_count_and_billed_ones_are_kept() -> None:
    usage = {"billed_units": {"input_tokens": 2.0}, "tokens": {"input_tokens": 9.0, "output_tokens": 4.0}}
    body = json.dumps({"message": {"role": "assistant"}, "usage": {**usage, "cached_tokens": 3}}).encode()
    got = CODEC.decode_response(body).usage
    assert got == Usage(9, 4, 3, extra=Extra(WIRE, {"billed_units": {"input_tokens": 2.0}}))
    billed = CODEC.decode_response(
        b'{"message":{"role":"assistant"},"usage":{"billed_units":{"input_tokens":2,"output_tokens":"?"}}}'
    )
    assert billed.usage is not None
    assert (billed.usage.input_tokens, billed.usage.output_tokens) == (2, 0)


@pytest.mark.parametrize(
    ("raw", "reason", "written"),
    [
        ("STOP_SEQUENCE", "stop", "STOP_SEQUENCE"),
        ("TIMEOUT", "error", "TIMEOUT"),
        ("NEW_ONE", "other", "ERROR"),
        (None, "stop", "COMPLETE"),
    ],
)
def test_reasons_go_both_ways(raw: str | None, reason: str, written: str) -> None:
    response = CODEC.decode_response(json.dumps({"message": {"role": "assistant"}, "finish_reason": raw}).encode())
    assert (response.finish_reason, response.raw_finish_reason) == (reason, raw)
    assert json.loads(CODEC.encode_response(response))["finish_reason"] == written


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"id":"x","message":"no such model"}'])
def test_what_is_no_answer_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidAnswer) as refused:
        CODEC.decode_response(body)
    assert (refused.value.payload is not None) == body.startswith((b"{", b"["))


def test_anybodys_answer_can_be_shown() -> None:
    parts = (
        Thought("hm", "sig", origin="anthropic_messages"),
        Thought("", "sig", origin="gemini"),
        Text("look"),
        Refusal("no"),
        Media("image", data=b"x"),
        Opaque("anthropic_messages", {}),
    )
    body = json.loads(CODEC.encode_response(ChatResponse(parts, "content_filter", "refusal", Usage(1, 2))))
    thinking, look, no = body["message"]["content"]
    assert (thinking["thinking"], look["text"], no["text"]) == ("hm", "look", "no")
    assert body["finish_reason"] == "ERROR"
    assert body["usage"]["tokens"] == {"input_tokens": 1, "output_tokens": 2}


def test_errors_have_coheres_shape() -> None:
    assert CODEC.encode_error(Fault(FaultKind.RATE_LIMITED), "slow down") == b'{"message":"slow down"}'


# --- streams -----------------------------------------------------------------------------------------------


def test_a_stream_without_message_end_is_broken() -> None:
    raw = piece("content-delta", content={"text": "a"}) + b"data: [DONE]\n\n"
    assert events_of(CODEC, [raw])[-1] == StreamBroken("the stream ended without message-end")


@pytest.mark.parametrize(
    "garbage",
    [
        b"data: {\n\n",
        b"data: []\n\n",
        b'data: {"type":"content-delta","delta":1}\n\n',
        b'data: {"type":"content-delta","delta":{"message":{"content":{"text":1}}}}\n\n',
    ],
)
def test_an_undecodable_event_breaks_the_stream(garbage: bytes) -> None:
    events = events_of(CODEC, [garbage + END])
    assert [type(event) for event in events] == [StreamBroken]


@pytest.mark.parametrize(
    "error", [b'data: {"id":"1","message":"overloaded"}\n\n', frame("message-end", delta={"error": "x"})]
)
def test_an_error_inside_the_stream_is_reported(error: bytes) -> None:
    events = events_of(CODEC, [piece("content-delta", content={"text": "a"}) + error + END])
    assert [type(event) for event in events] == [TextDelta, StreamError]


def test_an_answer_that_ends_in_an_error_says_so() -> None:
    events = events_of(CODEC, [frame("message-end", delta={"finish_reason": "TIMEOUT"})])
    assert events == [Finish("error", "TIMEOUT"), StreamEnd()]


def test_a_whole_answer_instead_of_a_stream_is_played_back() -> None:
    body = b'{"id":"x","message":{"content":[{"type":"text","text":"hi"}]},"finish_reason":"COMPLETE"}'
    assert assembled(events_of(CODEC, [body])).text == "hi"
    assert isinstance(events_of(CODEC, [b'{"message":"too many"}'])[-1], StreamError)


def test_every_kind_of_piece_is_understood() -> None:
    citation = {"start": 0, "end": 1, "sources": []}
    call = {"id": "a", "type": "function", "function": {"name": "t", "arguments": '{"x":'}}
    raw = b"".join(
        [
            frame("message-start", id="x", delta={"message": {"role": "assistant"}}),
            piece("citation-start", citations=citation),
            piece("citation-start"),
            piece("content-start", content={"type": "thinking", "thinking": "hm"}),
            piece("content-end"),
            piece("content-start", 1, content={"type": "text", "text": ""}),
            frame(
                "content-delta", index=1, delta={"message": {"content": {"text": "so"}}}, logprobs={"token_ids": [1]}
            ),
            piece("content-start", 2, content={"type": "chart", "chart": {}}),
            piece("citation-start", 0, citations=[citation]),
            piece("citation-end"),
            piece("tool-plan-delta", tool_plan="I will ask."),
            piece("tool-plan-delta", tool_plan=""),
            piece("tool-call-start", tool_calls=call),
            piece("tool-call-delta", tool_calls=[{"function": {"arguments": "1}"}}]),
            piece("tool-call-delta", tool_calls={"function": {}}),
            piece("tool-call-end"),
            frame("message-end", delta={}),
        ]
    )
    response = assembled(events_of(CODEC, [raw]))
    assert response.parts == (
        Text("", (citation,)),
        Thought("hm", origin=WIRE),
        Text("so", (citation,)),
        Opaque(WIRE, {"type": "chart", "chart": {}}),
        Thought("I will ask.", origin=PLAN),
        ToolCall("a", "t", '{"x":1}'),
    )
    assert response.finish_reason == "tool_calls"
    assert response.extra == Extra(WIRE, {"logprobs": [{"token_ids": [1]}]})


def written(*events: Any) -> list[tuple[str, Any]]:
    encoder = CODEC.stream_encoder()
    raw = b"".join(encoder.feed(event) for event in events).decode()
    blocks = [block.split("\n") for block in raw.split("\n\n") if block.startswith("event: ")]
    return [(lines[0][7:], json.loads(lines[1][6:])) for lines in blocks]


def test_blocks_begin_and_end_once() -> None:
    frames = written(
        TextDelta("a", 0),
        TextDelta("b", 0),
        BlockEnd(0),
        ThoughtDelta("hm", 1),
        RefusalDelta("no", 2),
        ToolCallStart("x", "t", 3),
        ToolCallStart("y", "u", 4),
        ToolCallDelta("{}", 3),
        BlockEnd(3),
        BlockEnd(9),
        UsageUpdate(Usage(1, 2)),
        Finish("tool_calls"),
        StreamEnd(),
    )
    assert [(kind, data.get("index")) for kind, data in frames] == [
        ("message-start", None),
        ("content-start", 0),
        ("content-delta", 0),
        ("content-delta", 0),
        ("content-end", 0),
        ("content-start", 1),
        ("content-delta", 1),
        ("content-end", 1),
        ("content-start", 2),
        ("content-delta", 2),
        ("content-end", 2),
        ("tool-call-start", 0),
        ("tool-call-start", 1),
        ("tool-call-delta", 0),
        ("tool-call-end", 0),
        ("tool-call-end", 1),
        ("message-end", None),
    ]


def test_events_without_words_here_write_nothing() -> None:
    silent = [
        TextDelta(""),
        TextDelta("other choice", choice=1),
        ThoughtDelta("", signature="s"),
        ToolCallDelta("x", 9),
        PartAdded(Media("image", data=b"x")),
        KeepAlive(),
    ]
    assert written(*silent) == []
    frames = written(PartAdded(Opaque(WIRE, {"type": "chart"})), PartAdded(Thought("hm", origin="gemini")))
    assert [kind for kind, _ in frames].count("content-start") == 2


def test_a_failed_stream_ends_in_an_error() -> None:
    for event, text in [
        (StreamBroken("cut"), "cut"),
        (StreamError("gone"), "gone"),
        (StreamError({"error": {"code": 1}}), '{"code":1}'),
        (StreamError({"odd": 1}), '{"odd":1}'),
    ]:
        assert written(event) == [
            ("message-end", {"type": "message-end", "delta": {"error": text, "finish_reason": "ERROR"}})
        ]


# --- embeddings --------------------------------------------------------------------------------------------


def test_recorded_embeddings_go_both_ways() -> None:
    records = [r for r in requests("embeddings") if r["provider"] == "cohere"]
    for record in records:
        request = EMBED.decode_request(json.dumps(record["request"]).encode())
        sent = json.loads(EMBED.encode_request(request).body)
        assert sent == {key: value for key, value in record["request"].items() if value is not None}
        response = EMBED.decode_response(json.dumps(record["body"]).encode())
        assert len(response.vectors) == len(request.inputs)
        assert response.usage is not None
        back = EMBED.decode_response(EMBED.encode_response(response))
        assert (back.vectors, back.usage) == (response.vectors, response.usage)
    assert records


def test_an_embedding_says_what_it_is_for_and_how_long() -> None:
    sent = EMBED.encode_request(EmbedRequest(("a",), "embed", 256))
    assert json.loads(sent.body) == {
        "model": "embed",
        "texts": ["a"],
        "input_type": "search_document",
        "output_dimension": 256,
        "embedding_types": ["float"],
    }
    assert EMBED.decode_response(EMBED.encode_response(EmbedResponse(((1.0,),)))).usage is None


@pytest.mark.parametrize("body", [b"", b'{"message":"x"}', b'{"embeddings":{"int8":[[1]]}}'])
def test_what_holds_no_vectors_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidAnswer):
        EMBED.decode_response(body)
    with pytest.raises(InvalidRequest):
        EMBED.decode_request(b'{"images":["x"]}')


# --- the vendor's own client -------------------------------------------------------------------------------


def client_for(content: bytes, content_type: str) -> Any:
    sdk = pytest.importorskip("cohere", reason="the vendor's client is not installed")
    httpx = pytest.importorskip("httpx")

    def answer(_request: Any) -> Any:
        return httpx.Response(200, content=content, headers={"content-type": content_type})

    return sdk.ClientV2(api_key="k", httpx_client=httpx.Client(transport=httpx.MockTransport(answer)))


SHOWN = ChatResponse(
    (Thought("hm", origin="gemini"), Text("hé"), Thought("ask", origin=PLAN), ToolCall("c", "t", '{"a":1}')),
    "tool_calls",
    usage=Usage(3, 4),
    id="x",
)


@pytest.mark.filterwarnings("ignore")
def test_coheres_client_accepts_a_whole_answer() -> None:
    got = client_for(CODEC.encode_response(SHOWN), "application/json").chat(model="m", messages=[])
    assert (got.message.content[1].text, got.message.tool_calls[0].function.arguments) == ("hé", '{"a":1}')
    assert (got.finish_reason, got.usage.tokens.output_tokens) == ("TOOL_CALL", 4)


@pytest.mark.filterwarnings("ignore")
def test_coheres_client_accepts_a_stream() -> None:
    from resilient_llm.wire.kit.accumulate import replay

    encoder = CODEC.stream_encoder()
    raw = b"".join(encoder.feed(event) for event in replay(SHOWN))
    got = list(client_for(raw, "text/event-stream").chat_stream(model="m", messages=[]))
    kinds = [event.type for event in got]
    assert kinds[0] == "message-start"
    assert kinds[-1] == "message-end"
    assert "".join(e.delta.message.content.text or "" for e in got if e.type == "content-delta") == "hé"
    assert [e.delta.message.tool_calls.function.name for e in got if e.type == "tool-call-start"] == ["t"]
    assert got[-1].delta.finish_reason == "TOOL_CALL"
