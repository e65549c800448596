"""Ollama's wire: recorded exchanges, what cannot be expressed, streams that break, and its own client as judge."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from resilient_llm.errors import Fault, FaultKind, InvalidAnswer, InvalidRequest
from resilient_llm.model import (
    BlockEnd,
    ChatRequest,
    ChatResponse,
    Choice,
    Degradation,
    EmbedRequest,
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
    StreamStart,
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
from resilient_llm.wire.embeddings.ollama import CODEC as EMBED
from resilient_llm.wire.framing import ndjson
from resilient_llm.wire.ollama import CODEC
from tests.wire import roundtrip
from tests.wire.asking import refused
from tests.wire.readers import read_request
from tests.wire.recorded import Recorded
from tests.wire.roundtrip import (
    Rule,
    Subject,
    absent_if,
    absent_if_empty,
    assembled,
    events_of,
    ignored,
)


def line_frames(raw: bytes) -> list[bytes]:
    """The line end is a frame of its own, because a whole object is evidence without it."""
    return [piece for piece in re.split(rb"(\n)", raw) if piece]


def is_done(frames: Any) -> bool:
    return any(json.loads(frame).get("done") for frame in frames if frame.strip())


SUBJECT = Subject(
    CODEC,
    line_frames,
    is_done,
    request_rules=(
        Rule("keep_alive", absent_if_empty, "null means the server's default"),
        Rule("format|options|tools", absent_if_empty, "empty means none"),
        Rule("stream", absent_if(True), "a stream is the default"),
        Rule(r"tools\[\]\.type", absent_if("function"), "there is no other type"),
        Rule(r"messages\[\]\.content", absent_if(""), "no content is empty content"),
        Rule(r"messages\[\]\.tool_name", ignored, "added where the call it answers is known"),
    ),
    response_rules=(
        Rule(r"message\.images", absent_if_empty, "null means none"),
        Rule("done_reason", absent_if("stop"), "servers before 2024-08 gave no reason"),
    ),
)


def one(**fields: Any) -> ChatRequest:
    return ChatRequest((Message("user", (Text("hi"),)),), "llama", **fields)


def body_of(request: ChatRequest) -> dict[str, Any]:
    return json.loads(CODEC.encode_request(request).body)


def line(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "created_at": "2025-01-01T00:00:00Z", **fields}).encode() + b"\n"


def said(text: str) -> bytes:
    return line(message={"role": "assistant", "content": text}, done=False)


DONE = line(message={"role": "assistant", "content": ""}, done=True, done_reason="stop", eval_count=3)


# --- recorded exchanges ------------------------------------------------------------------------------------


class TestRecorded(Recorded):
    answers, streams = ("ollama_chat",), ("ollama_chat_streams",)
    subject = SUBJECT

    def test_an_error_frame_is_heard_wherever_it_stands(self) -> None:
        whole_lines = replace(SUBJECT, frames=roundtrip.line_frames)
        self._check_streams(lambda _subject, raw: roundtrip.injection_differences(whole_lines, raw))


# --- requests ----------------------------------------------------------------------------------------------


def test_a_request_asks_for_a_stream_unless_it_says_otherwise() -> None:
    assert read_request(CODEC, b'{"model":"m","messages":[]}').stream
    assert not read_request(CODEC, b'{"model":"m","messages":[],"stream":false}').stream
    assert body_of(one())["stream"] is False


def test_a_forwarded_request_gets_model_and_stream_switch_replaced() -> None:
    request = read_request(CODEC, b'{"model":"m","messages":[],"mystery":1}')
    changed = ChatRequest(request.messages, "other", stream=False, source=request.source)
    assert body_of(changed) == {"model": "other", "messages": [], "mystery": 1, "stream": False}


def test_settings_become_options_and_unknown_options_survive() -> None:
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": "hi", "odd": 1}],
        "options": {"num_predict": 5, "temperature": 0.5, "stop": ["x"], "num_ctx": 99, "top_k": 4.0},
        "think": "high",
        "format": {"type": "object"},
        "logprobs": True,
        "top_logprobs": 2,
        "stream": False,
        "truncate": True,
    }
    request = read_request(CODEC, json.dumps(body).encode())
    assert (request.max_tokens, request.stop, request.top_k) == (5, ("x",), 4)
    assert request.output == OutputFormat("json_schema", {"type": "object"})
    plain = ChatRequest(**{f: getattr(request, f) for f in request.__slots__ if f != "source"})
    assert body_of(plain) == body


@pytest.mark.parametrize(
    ("asked", "think", "lost"),
    [
        (Reasoning(), True, []),
        (Reasoning(effort="none"), False, []),
        (Reasoning(budget=0), False, []),
        (Reasoning(effort="low"), "low", []),
        (Reasoning(effort="xhigh"), "high", ["reasoning.effort"]),
        (Reasoning(budget=9), True, ["reasoning.budget"]),
        (Reasoning(effort="low", extra=Extra("gemini", {"includeThoughts": True})), "low", ["gemini.includeThoughts"]),
    ],
)
def test_reasoning_becomes_think(asked: Reasoning, think: object, lost: list[str]) -> None:
    sent = CODEC.encode_request(one(reasoning=asked))
    assert json.loads(sent.body)["think"] == think
    assert [each.feature for each in sent.degradations] == lost


@pytest.mark.parametrize(
    ("think", "asked"), [(True, Reasoning()), (False, Reasoning("none")), ("low", Reasoning("low"))]
)
def test_think_becomes_reasoning(think: object, asked: Reasoning) -> None:
    body = json.dumps({"model": "m", "messages": [], "think": think}).encode()
    assert read_request(CODEC, body).reasoning == asked


def test_json_mode_goes_both_ways() -> None:
    assert read_request(CODEC, b'{"messages":[],"format":"json"}').output == OutputFormat("json_object")
    assert body_of(one(output=OutputFormat("json_object")))["format"] == "json"
    assert "format" not in body_of(one(output=OutputFormat("text")))


@pytest.mark.parametrize(
    ("fields", "feature"),
    [
        ({"n": 2}, "n"),
        ({"tools": (Tool("t"),), "parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"tools": (Tool("t"),), "tool_choice": ToolChoice("required", ("t",))}, "tool_choice.name"),
        ({"extra": (Extra("openai_chat", {"logit_bias": {"1": 2}}),)}, "logit_bias"),
        ({"extra": (Extra("openai_chat", {"functions": [{"name": "t"}]}),)}, "functions"),
        ({"extra": (Extra("openai_responses", {"tools": [{"type": "web_search"}]}),)}, "builtin_tools"),
    ],
)
def test_what_ollama_cannot_do_is_refused_before_anything_is_sent(fields: dict[str, Any], feature: str) -> None:
    assert refused(CODEC, one(**fields)) == feature


@pytest.mark.parametrize(
    ("part", "feature"),
    [
        (Media("image", url="https://example.org/a.png"), "image_url"),
        (Media("image", file_id="file-1"), "file_id"),
        (Media("audio", data=b"x"), "audio"),
        (Opaque("anthropic_messages", {"type": "server_tool_use"}), "builtin_tools"),
        (ToolResult("c", (Media("image", data=b"x"),)), "media_in_tool_result"),
    ],
)
def test_parts_ollama_cannot_hold_are_refused(part: Any, feature: str) -> None:
    assert refused(CODEC, ChatRequest((Message("user", (part,)),))) == feature


def test_what_is_left_out_is_said() -> None:
    request = ChatRequest(
        (
            Message("developer", (Text("be brief"),), name="boss"),
            Message("assistant", (Thought("hm", "sig", origin="anthropic_messages"), ToolCall("a", "t", "oops"))),
            Message("tool", (ToolResult("a", (Text("bad"),), is_error=True),)),
        ),
        tools=(Tool("t", strict=True),),
        tool_choice=ToolChoice("none"),
        user="me",
        extra=(Extra("openai_chat", {"service_tier": "flex"}), Extra("ollama", {"keep_alive": 0})),
    )
    sent = CODEC.encode_request(request)
    body = json.loads(sent.body)
    assert sorted(each.feature for each in sent.degradations) == sorted(
        [
            "user",
            "message.name",
            "developer",
            "openai_chat.service_tier",
            "reasoning",
            "tool_call.arguments",
            "tool_result.is_error",
            "tool_choice.none",
        ]
    )
    assert body["keep_alive"] == 0
    assert "tools" not in body
    assert body["messages"][1]["tool_calls"] == [
        {"function": {"name": "t", "arguments": {"arguments": "oops"}}, "id": "a"}
    ]
    assert body["messages"][2] == {"role": "tool", "content": "bad", "tool_name": "t", "tool_call_id": "a"}


def test_a_strict_tool_is_offered_all_the_same() -> None:
    sent = CODEC.encode_request(one(tools=(Tool("t", strict=True),)))
    assert [each.feature for each in sent.degradations] == ["tool.strict"]
    assert json.loads(sent.body)["tools"][0]["function"]["name"] == "t"


def test_half_a_surrogate_pair_survives() -> None:
    request = read_request(CODEC, b'{"messages":[{"role":"user","content":"\\ud83d"}]}')
    assert b"\\ud83d" in CODEC.encode_request(ChatRequest(request.messages)).body


def test_text_beside_tool_results_follows_them() -> None:
    message = Message("tool", (Text("now go on"), ToolResult("a", (Json({"x": 1}),), "t"), ToolResult("b", ())))
    assert body_of(ChatRequest((message,)))["messages"] == [
        {"role": "tool", "content": '{"x": 1}', "tool_name": "t", "tool_call_id": "a"},
        {"role": "tool", "content": "", "tool_call_id": "b"},
        {"role": "user", "content": "now go on"},
    ]


def test_results_without_identifier_find_their_call_by_name_then_by_order() -> None:
    calls = [{"function": {"name": name, "arguments": {}}} for name in ("a", "b", "c")]
    messages = [
        {"role": "assistant", "tool_calls": calls, "thinking": "hm"},
        {"role": "tool", "content": "1", "tool_name": "b"},
        {"role": "tool", "content": "2"},
        {"role": "tool", "content": "3", "tool_name": "unheard of"},
        {"role": "tool", "content": "4", "tool_call_id": "x7"},
    ]
    request = read_request(CODEC, json.dumps({"messages": messages}).encode())
    a, b, c = (call for call in request.messages[0].parts if isinstance(call, ToolCall))
    results = [part for message in request.messages[1:] for part in message.parts if isinstance(part, ToolResult)]
    assert [(each.tool_call_id, each.name) for each in results] == [
        (b.id, "b"),
        (a.id, "a"),
        ("ollama_call_3", "unheard of"),
        ("x7", None),
    ]
    assert c.id == "ollama_call_2"
    plain = body_of(ChatRequest(request.messages))
    assert plain["messages"][0] == {"role": "assistant", "content": "", "thinking": "hm", "tool_calls": calls}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"NaN",
        b'{"messages": 1}',
        b'{"messages":[{"role":"narrator"}]}',
        b'{"messages":[{"role":"user","content":[]}]}',
        b'{"messages":[{"role":"user","images":["$$$"]}]}',
        b'{"messages":[],"think":1}',
        b'{"messages":[],"format":1}',
        b'{"messages":[],"tools":[{"type":"custom"}]}',
        b'{"messages":[],"tools":[{"function":{}}]}',
        b'{"messages":[],"stream":"yes"}',
        b'{"messages":[],"options":{"seed":1.5}}',
        b'{"messages":[],"options":{"top_p":"x"}}',
        b'{"messages":[],"options":{"stop":[1]}}',
        b"[" * 100_000,
    ],
)
def test_malformed_requests_are_invalid(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        read_request(CODEC, body)


# --- answers -----------------------------------------------------------------------------------------------


def test_an_answer_with_tool_calls_finishes_with_them() -> None:
    call = {"id": "c9", "function": {"name": "t", "arguments": '{"a":1}', "index": 0}}
    body = json.dumps({"message": {"role": "assistant", "tool_calls": [call]}, "done": True, "done_reason": "stop"})
    response = CODEC.decode_response(body.encode())
    assert (response.finish_reason, response.raw_finish_reason) == ("tool_calls", "stop")
    assert response.tool_calls[0].id == "c9"
    assert json.loads(CODEC.encode_response(response))["message"]["tool_calls"] == [
        {"function": {"name": "t", "arguments": {"a": 1}, "index": 0}, "id": "c9"}
    ]


def test_made_up_identifiers_differ_between_answers_but_not_between_readings() -> None:
    def read(created_at: str) -> str:
        call = {"function": {"name": "t", "arguments": {}}}
        body = {"created_at": created_at, "message": {"tool_calls": [call]}, "done": True}
        return CODEC.decode_response(json.dumps(body).encode()).tool_calls[0].id

    assert read("2025-01-01T00:00:00Z") == read("2025-01-01T00:00:00Z") != read("2025-01-01T00:00:01Z")


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"{}", b'{"error":"no such model"}', b'{"message":{},"done":false}', b'{"message":1,"done":true}'],
)
def test_what_is_no_answer_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidAnswer) as refused:
        CODEC.decode_response(body)
    assert (refused.value.payload is not None) == body.startswith((b"{", b"["))


def test_anybodys_answer_can_be_shown() -> None:
    response = ChatResponse(
        (
            Thought("hm", "sig", origin="anthropic_messages"),
            Text("look"),
            Refusal("no"),
            Media("image", data=b"x"),
            Media("image", url="https://example.org"),
            Opaque("anthropic_messages", {}),
        ),
        "content_filter",
        "refusal",
        model="claude",
        created=60,
    )
    assert json.loads(CODEC.encode_response(response)) == {
        "model": "claude",
        "created_at": "1970-01-01T00:01:00Z",
        "message": {"role": "assistant", "content": "lookno", "thinking": "hm", "images": ["eA=="]},
        "done_reason": "content_filter",
        "done": True,
    }


def test_errors_have_ollamas_shape() -> None:
    fault = Fault(FaultKind.RATE_LIMITED)
    assert CODEC.encode_error(fault, "slow down") == b'{"error":"slow down"}'
    assert CODEC.encode_stream_error(fault, "slow down") == b'{"error":"slow down"}\n'


# --- streams -----------------------------------------------------------------------------------------------


def test_a_stream_without_done_is_broken() -> None:
    assert events_of(CODEC, [said("hi")])[-1] == StreamBroken("the stream ended without done")
    assert events_of(CODEC, []) == [StreamBroken("the stream ended without done")]


def test_done_ends_the_stream_even_without_its_line_end() -> None:
    assert events_of(CODEC, [said("hi"), DONE.rstrip()])[-1] == StreamEnd()
    assert events_of(CODEC, [said("hi"), DONE, said("more")])[-1] == StreamEnd()


@pytest.mark.parametrize(
    "garbage", [b"<html>\n", b"[]\n", b'{"message":1}\n', b'{"message":{"content":1}}\n', b"\xff\n"]
)
def test_an_undecodable_line_breaks_the_stream(garbage: bytes) -> None:
    events = events_of(CODEC, [said("hi") + garbage + DONE])
    assert isinstance(events[-1], StreamBroken)
    assert sum(isinstance(event, StreamBroken) for event in events) == 1


def test_a_line_without_end_breaks_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ndjson.Decoder.__init__, "__defaults__", (10,))
    decoder = CODEC.stream_decoder()
    assert isinstance(decoder.feed(b"x" * 11)[0], StreamBroken)
    assert decoder.feed(b"x") == decoder.close() == []


def test_an_error_line_ends_the_stream() -> None:
    events = events_of(CODEC, [said("hi"), b'{"error":"out of memory"}\r\n', DONE])
    assert events[-1] == StreamError({"error": "out of memory"})


def test_thoughts_images_and_calls_stream_as_parts() -> None:
    message = {"thinking": "hm", "content": "see", "images": ["eA=="]}
    call = {"function": {"name": "t", "arguments": {"a": 1}}}
    events = events_of(CODEC, [line(message=message), line(message={"tool_calls": [call]}), DONE])
    response = assembled(events)
    assert [type(part).__name__ for part in response.parts] == ["Thought", "Text", "Media", "ToolCall"]
    assert response.finish_reason == "tool_calls"
    assert response.usage == Usage(0, 3)


def test_a_streamed_call_is_held_until_it_is_whole() -> None:
    encoder = CODEC.stream_encoder()
    assert encoder.feed(StreamStart("", "m", 0)) == b""
    assert encoder.feed(ToolCallStart("a", "t", 0)) + encoder.feed(ToolCallStart("b", "t", 1)) == b""
    assert encoder.feed(ToolCallDelta('{"x":', 0)) + encoder.feed(ToolCallDelta("1}", 0)) == b""
    sent = json.loads(encoder.feed(BlockEnd(0)))
    assert sent["message"]["tool_calls"] == [{"function": {"name": "t", "arguments": {"x": 1}}, "id": "a"}]
    assert json.loads(encoder.feed(Finish("tool_calls")))["message"]["tool_calls"][0]["id"] == "b"


def test_events_without_words_here_write_nothing() -> None:
    encoder = CODEC.stream_encoder()
    silent = [
        TextDelta(""),
        ThoughtDelta("", signature="s"),
        ToolCallDelta("x", 9),
        KeepAlive(),
        Finish("stop", choice=1),
    ]
    silent += [PartAdded(Opaque("gemini", {})), UsageUpdate(Usage(1, 2))]  # type: ignore[list-item]
    assert [encoder.feed(event) for event in silent] == [b""] * len(silent)
    assert json.loads(encoder.feed(RefusalDelta("no")))["message"]["content"] == "no"
    assert json.loads(encoder.feed(StreamEnd()))["eval_count"] == 2


def test_a_failed_stream_ends_in_an_error_line() -> None:
    assert CODEC.stream_encoder().feed(StreamBroken("cut")) == b'{"error":"cut"}\n'
    assert CODEC.stream_encoder().feed(StreamError({"error": {"code": 1}})) == b'{"error":"{\\"code\\":1}"}\n'


def test_only_the_first_of_several_answers_is_shown() -> None:
    response = ChatResponse((Text("a"),), alternatives=(Choice((Text("b"),), "stop"),), usage=Usage(1, 1))
    assert json.loads(CODEC.encode_response(response))["message"]["content"] == "a"


# --- embeddings --------------------------------------------------------------------------------------------


def test_embeddings_go_both_ways() -> None:
    request = EmbedRequest(("a", "b"), "m", 8, (Extra("ollama", {"truncate": False}),))
    sent = EMBED.encode_request(request)
    assert (sent.path, sent.degradations) == ("/api/embed", ())
    assert json.loads(sent.body) == {"model": "m", "input": ["a", "b"], "dimensions": 8, "truncate": False}
    back = EMBED.decode_response(b'{"model":"m","embeddings":[[0.5,1.0]],"prompt_eval_count":4}')
    assert (back.vectors, back.model, back.usage) == (((0.5, 1.0),), "m", Usage(4))
    assert EMBED.decode_response(b'{"embeddings":[]}').usage is None


def test_foreign_fields_of_an_embedding_are_reported() -> None:
    sent = EMBED.encode_request(EmbedRequest(("a",), extra=(Extra("cohere_v2", {"input_type": "x"}),)))
    assert sent.degradations == (Degradation("cohere_v2.input_type", "left out"),)


@pytest.mark.parametrize(
    "body", [b"", b'{"error":"x"}', b'{"embeddings":1}', b'{"embeddings":[["x"]]}', b'{"embeddings":[1]}']
)
def test_what_holds_no_vectors_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidAnswer):
        EMBED.decode_response(body)


# --- the vendor's own client -------------------------------------------------------------------------------


def client_for(content: bytes) -> Any:
    sdk = pytest.importorskip("ollama", reason="the vendor's client is not installed")
    httpx = pytest.importorskip("httpx")
    return sdk.Client(transport=httpx.MockTransport(lambda _request: httpx.Response(200, content=content)))


def test_ollamas_client_accepts_a_whole_answer() -> None:
    answer = ChatResponse((Text("hi"), ToolCall("c", "t", '{"a":1}')), "tool_calls", usage=Usage(3, 4), model="m")
    got = client_for(CODEC.encode_response(answer)).chat("m", messages=[])
    assert (got.message.content, got.message.tool_calls[0].function.arguments) == ("hi", {"a": 1})
    assert (got.done, got.eval_count) == (True, 4)


def test_ollamas_client_accepts_a_stream() -> None:
    encoder = CODEC.stream_encoder()
    events = [
        StreamStart("", "m", 5),
        ThoughtDelta("hm"),
        TextDelta("hé"),
        TextDelta("llo"),
        Finish("length"),
        StreamEnd(),
    ]
    content = b"".join(encoder.feed(event) for event in events)  # type: ignore[arg-type]
    got = list(client_for(content).chat("m", messages=[], stream=True))
    assert "".join(each.message.content for each in got) == "héllo"
    assert (got[0].message.thinking, got[-1].done_reason) == ("hm", "length")


def test_ollamas_client_raises_a_streams_error() -> None:
    sdk = pytest.importorskip("ollama", reason="the vendor's client is not installed")
    content = said("hi") + CODEC.encode_stream_error(Fault(FaultKind.OVERLOADED), "busy")
    with pytest.raises(sdk.ResponseError, match="busy"):
        list(client_for(content).chat("m", messages=[], stream=True))
