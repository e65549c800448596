"""Gemini's wire: recorded exchanges, signatures, streams in every framing, and Google's own client as judge."""

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
    EmbedResponse,
    Extra,
    Finish,
    Json,
    KeepAlive,
    Media,
    Message,
    Opaque,
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
from resilient_llm.wire.embeddings.gemini import CODEC as EMBED
from resilient_llm.wire.gemini import CODEC
from resilient_llm.wire.gemini.parts import ATTACHED
from resilient_llm.wire.gemini.request import NO_SIGNATURE
from resilient_llm.wire.kit.accumulate import replay
from tests.wire.asking import refused
from tests.wire.recorded import Recorded
from tests.wire.roundtrip import (
    ABSENT,
    Rule,
    Subject,
    absent_if,
    absent_if_empty,
    assembled,
    events_of,
    ignored,
    requests,
    sse_frames,
)

SNAKE = re.compile(r"_([a-z])")
WIRE_NAMES = (
    *("file_data", "file_uri", "function_call", "function_response", "function_declarations", "inline_data"),
    *("mime_type", "parameters_json_schema", "thinking_budget", "thought_signature"),
)


def in_camel_case(value: Any) -> Any:
    """Either spelling is accepted; ours is camelCase."""
    if not isinstance(value, dict):
        return value
    return {SNAKE.sub(lambda m: m[1].upper(), key) if key in WIRE_NAMES else key: each for key, each in value.items()}


def as_list(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


def one_declaration_tool(tools: Any) -> Any:
    """Functions may be declared in any number of tools."""
    functions = [each for tool in tools for each in tool.get("functionDeclarations", [])]
    others = [tool for tool in tools if "functionDeclarations" not in tool]
    merged = [{"functionDeclarations": functions}] if functions else []
    return merged + others or ABSENT


def newer_schema(tool: Any) -> Any:
    """A schema that is JSON schema may be called either."""
    if "parameters" not in tool:
        return tool
    return {
        **{key: each for key, each in tool.items() if key != "parameters"},
        "parametersJsonSchema": tool["parameters"],
    }


def newer_output_schema(config: Any) -> Any:
    if not isinstance(config, dict) or "responseSchema" not in config or "responseMimeType" not in config:
        return config
    return {SCHEMA_NAMES.get(key, key): each for key, each in config.items()}


SCHEMA_NAMES = {"responseSchema": "responseJsonSchema"}


def standard_alphabet(value: Any) -> Any:
    return value.replace("-", "+").replace("_", "/") if isinstance(value, str) else value


def reason_name(value: Any) -> Any:
    return {1: "STOP", 2: "MAX_TOKENS"}.get(value, value)


SUBJECT = Subject(
    CODEC,
    sse_frames,
    lambda frames: any(b'"finishReason"' in frame or b'"blockReason"' in frame for frame in frames),
    request_rules=(
        Rule(r".*", in_camel_case, "both spellings are accepted"),
        Rule(r".*(inline_?[dD]ata)\.data", standard_alphabet, "both base64 alphabets are accepted"),
        Rule(r"systemInstruction\.role", ignored, "the API ignores it"),
        Rule(r"tools\[\]\.function_?[dD]eclarations\[\]|tools\.function_declarations\[\]", newer_schema, "two names"),
        Rule(r"tools", as_list, "one needs no list"),
        Rule(r"tools", one_declaration_tool, "grouping says nothing"),
        Rule(r"contents\[\]\.role", absent_if("user"), "who speaks if nobody is named"),
        Rule(r"generationConfig|toolConfig", absent_if_empty, "no settings are no settings"),
        Rule(r"generationConfig", newer_output_schema, "two names"),
        Rule(r".*\.(functionCall|function_call)\.args", absent_if_empty, "no arguments are no fields"),
    ),
    response_rules=(
        Rule(r"candidates\[\]\.index", absent_if(0), "zero may be absent, as in all protobuf JSON"),
        Rule(r"candidates\[\]\.content\.parts", absent_if_empty, "no parts are no parts"),
        Rule(r"candidates\[\]\.content\.role", absent_if("model"), "nobody else answers"),
        Rule(r"candidates\[\]\.finishReason", reason_name, "some client libraries write numbers"),
        Rule(r"candidates\[\]\.content\.parts\[\]\.functionCall\.args", absent_if_empty, "no arguments are no fields"),
        Rule(r"usageMetadata\.(candidatesTokenCount|thoughtsTokenCount)", absent_if(0), "zero may be absent"),
    ),
)


# --- recorded exchanges ------------------------------------------------------------------------------------


class TestRecorded(Recorded):
    answers, streams = ("gemini",), ("gemini_streams",)
    subject = SUBJECT


# --- requests ----------------------------------------------------------------------------------------------


def one(model: str = "gemini-2.5-flash", **fields: Any) -> ChatRequest:
    return ChatRequest((Message("user", (Text("hi"),)),), model, **fields)


def sent(request: ChatRequest, codec: Any = CODEC) -> dict[str, Any]:
    return json.loads(codec.encode_request(request).body)


def lost(request: ChatRequest) -> list[str]:
    return [each.feature for each in CODEC.encode_request(request).degradations]


def read(body: Any, path: str = "/v1beta/models/gemini-2.5-flash:generateContent") -> ChatRequest:
    return CODEC.decode_request(json.dumps(body).encode(), path)


def again(body: Any) -> dict[str, Any]:
    return sent(replace(read(body), source=None))


def contents(*parts: Any, role: str = "user") -> dict[str, Any]:
    return {"contents": [{"role": role, "parts": list(parts)}]}


@pytest.mark.parametrize(
    ("path", "model", "stream"),
    [
        ("/v1beta/models/gemini-3-pro:generateContent", "gemini-3-pro", False),
        ("/v1/models/gemini-3-pro:streamGenerateContent?alt=sse", "gemini-3-pro", True),
        (
            "/v1beta1/projects/p/locations/l/publishers/google/models/gemini-2.5-pro:streamGenerateContent",
            "gemini-2.5-pro",
            True,
        ),
        ("models/x:generateContent", "x", False),
        ("/v1beta/tunedModels/mine:generateContent", "tunedModels/mine", False),
        ("/v1/projects/p/locations/l/endpoints/77:generateContent", "endpoints/77", False),
        ("/v1/models/a%2Fb:generateContent", "a/b", False),
        ("", "", False),
        ("/v1/files", "", False),
    ],
)
def test_model_and_stream_switch_are_in_the_path(path: str, model: str, stream: bool) -> None:
    request = read({"contents": []}, path)
    assert (request.model, request.stream) == (model, stream)


def test_a_model_that_is_no_text_is_still_a_path() -> None:
    assert CODEC.encode_request(one("\ud800 x")).path == "/models/%3F%20x:generateContent"


def test_the_path_is_written_from_model_and_stream_switch() -> None:
    assert CODEC.encode_request(one("gemini-3-pro")).path == "/models/gemini-3-pro:generateContent"
    assert (
        CODEC.encode_request(one("tunedModels/x", stream=True)).path == "/tunedModels/x:streamGenerateContent?alt=sse"
    )


def test_a_model_named_in_the_body_is_replaced_when_forwarded() -> None:
    request = read({"model": "models/old", "contents": {"parts": {"text": "hi"}}, "mystery": 1}, "")
    assert request.model == "old"
    assert request.messages == (Message("user", (Text("hi"),)),)
    assert sent(replace(request, model="new"))["model"] == "models/new"
    assert sent(request)["mystery"] == 1


def test_every_setting_goes_both_ways() -> None:
    body = {
        "systemInstruction": {"parts": [{"text": "be brief"}]},
        "contents": [
            {"role": "user", "parts": [{"text": "see", "mood": 1}, {"videoMetadata": {"fps": 1}}]},
            {
                "role": "model",
                "parts": [{"text": "hm", "thought": True, "thoughtSignature": "s"}, {"executableCode": {}}],
            },
            {"role": "function", "parts": [{"functionResponse": {"name": "t", "response": {}, "scheduling": "IDLE"}}]},
        ],
        "tools": [
            {
                "functionDeclarations": [
                    {"name": "t", "parametersJsonSchema": {"type": "object"}, "behavior": "BLOCKING"}
                ]
            },
            {"googleSearch": {}},
        ],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["t"]}, "retrievalConfig": {}},
        "generationConfig": {
            "temperature": 0.5,
            "topP": 0.5,
            "topK": 4,
            "candidateCount": 2,
            "maxOutputTokens": 9,
            "stopSequences": ["x"],
            "responseMimeType": "application/json",
            "responseJsonSchema": {"type": "object"},
            "seed": 1,
            "presencePenalty": 0.1,
            "frequencyPenalty": 0.2,
            "responseLogprobs": True,
            "logprobs": 3,
            "thinkingConfig": {"includeThoughts": True, "thinkingBudget": 5},
            "speechConfig": {},
        },
        "safetySettings": [{"category": "c", "threshold": "t"}],
        "cachedContent": "cachedContents/x",
    }
    assert again(body) == body


@pytest.mark.parametrize(
    "config",
    [
        {"responseMimeType": "text/plain"},
        {"responseMimeType": "text/x.enum", "responseSchema": {"type": "STRING", "enum": ["a"]}},
        {"responseMimeType": "application/json"},
        {"responseMimeType": "application/json", "responseSchema": {"type": "OBJECT"}},
        {"responseSchema": {"type": "OBJECT"}},
    ],
)
def test_output_formats_go_both_ways(config: Any) -> None:
    assert again({"contents": [], "generationConfig": config})["generationConfig"] == config


@pytest.mark.parametrize("mode", ["AUTO", "ANY", "NONE", "VALIDATED", "MODE_UNSPECIFIED"])
@pytest.mark.parametrize("names", [{}, {"allowedFunctionNames": ["t"]}])
def test_function_calling_modes_go_both_ways(mode: str, names: Any) -> None:
    config = {"functionCallingConfig": {"mode": mode, **(names if mode != "NONE" else {})}}
    assert again({"contents": [], "toolConfig": config})["toolConfig"] == config


def test_the_older_kind_of_schema_is_translated_for_others_and_kept_for_gemini() -> None:
    older = {
        "type": "OBJECT",
        "properties": {
            "a": {"type": "STRING", "nullable": True},
            "b": {"type": "ARRAY", "items": {"type": "INTEGER"}},
            "c": {"anyOf": [{"type": "NUMBER"}, {"type": "BOOLEAN"}], "nullable": True},
        },
        "propertyOrdering": ["a"],
        "additionalProperties": False,
    }
    request = read({"contents": [], "tools": [{"functionDeclarations": [{"name": "t", "parameters": older}]}]})
    assert request.tools[0].parameters == {
        "type": "object",
        "properties": {
            "a": {"type": ["string", "null"]},
            "b": {"type": "array", "items": {"type": "integer"}},
            "c": {"anyOf": [{"type": "number"}, {"type": "boolean"}]},
        },
        "additionalProperties": False,
    }
    declared = sent(replace(request, source=None))["tools"][0]["functionDeclarations"]
    assert declared == [{"name": "t", "parameters": older}]


@pytest.mark.parametrize(
    ("model", "asked", "config", "features"),
    [
        ("gemini-2.5-pro", Reasoning("high"), {"thinkingBudget": 24576}, ["reasoning.effort"]),
        ("gemini-2.5-pro", Reasoning("none"), {"thinkingBudget": 0}, []),
        ("gemini-2.5-pro", Reasoning("odd"), {"thinkingBudget": 8192}, ["reasoning.effort"]),
        ("gemini-2.5-pro", Reasoning("low", 7), {"thinkingBudget": 7}, []),
        ("gemini-2.5-pro", Reasoning(), {}, []),
        ("gemini-3-pro", Reasoning("high"), {"thinkingLevel": "HIGH"}, []),
        ("gemini-3-pro", Reasoning("none"), {"thinkingLevel": "LOW"}, ["reasoning.effort"]),
        ("gemini-3-flash", Reasoning("minimal"), {"thinkingLevel": "MINIMAL"}, []),
        ("gemini-3-flash", Reasoning("max"), {"thinkingLevel": "XHIGH"}, ["reasoning.effort"]),
        ("gemini-3-flash", Reasoning("odd"), {"thinkingLevel": "MEDIUM"}, ["reasoning.effort"]),
        ("gemini-3-flash", Reasoning("low", 7), {"thinkingLevel": "LOW"}, []),
        ("gemini-3-flash", Reasoning(budget=7, extra=Extra("ollama", {"x": 1})), {"thinkingBudget": 7}, ["ollama.x"]),
    ],
)
def test_reasoning_becomes_a_level_or_a_budget(model: str, asked: Reasoning, config: Any, features: list[str]) -> None:
    request = one(model, reasoning=asked)
    assert sent(request).get("generationConfig", {}).get("thinkingConfig") == config
    assert lost(request) == features


def test_thinking_settings_become_reasoning() -> None:
    def reasoning(**config: Any) -> Any:
        return read({"contents": [], "generationConfig": {"thinking_config": config}}).reasoning

    assert reasoning(thinking_budget=0) == Reasoning("none", 0)
    assert reasoning(thinkingLevel="HIGH") == Reasoning("high")
    assert reasoning(thinkingBudget=-1) == Reasoning(extra=Extra("gemini", {"thinkingBudget": -1}))


@pytest.mark.parametrize(
    ("fields", "feature"),
    [
        ({"tools": (Tool("t"),), "parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"extra": (Extra("openai_responses", {"previous_response_id": "r"}),)}, "previous_response_id"),
    ],
)
def test_what_gemini_cannot_do_is_refused_before_anything_is_sent(fields: dict[str, Any], feature: str) -> None:
    assert refused(CODEC, one(**fields)) == feature


@pytest.mark.parametrize(
    ("part", "feature"),
    [
        (Media("image", url="data:image/png;base64,eA=="), "image_url"),
        (Media("document", url="s3://bucket/a.pdf"), "document_url"),
        (Media("image", file_id="file-1"), "file_id"),
        (Opaque("anthropic_messages", {"type": "server_tool_use"}), "builtin_tools"),
    ],
)
def test_parts_gemini_cannot_hold_are_refused(part: Any, feature: str) -> None:
    assert refused(CODEC, ChatRequest((Message("user", (part,)),))) == feature


def test_media_go_as_data_or_where_google_can_read_them() -> None:
    def part(media: Media, codec: Any = CODEC) -> Any:
        return sent(ChatRequest((Message("user", (media,)),)), codec)["contents"][0]["parts"][0]

    assert part(Media("audio", data=b"x", name="a")) == {
        "inlineData": {"mimeType": "audio/wav", "data": "eA==", "displayName": "a"}
    }
    page = "https://www.youtube.com/watch?v=1"
    assert part(Media("video", url=page)) == {"fileData": {"fileUri": page}}
    assert part(Media("image", "image/png", url="https://e.org/a")) == {
        "fileData": {"fileUri": "https://e.org/a", "mimeType": "image/png"}
    }
    upload = {"fileData": {"fileUri": "gs://bucket/a.mp4", "mimeType": "video/mp4"}}
    found = read(contents(upload)).messages[0].parts[0]
    assert found == Media("video", "video/mp4", file_id="gs://bucket/a.mp4")
    assert part(found) == upload  # type: ignore[arg-type]


def test_what_is_left_out_is_said() -> None:
    request = ChatRequest(
        (
            Message("user", (Text("hi", ({"type": "url_citation"},)), Refusal("no")), name="me"),
            Message("developer", (Text("be brief"),)),
            Message("assistant", (Thought("hm", "sig", origin="anthropic_messages"),)),
        ),
        "gemini-2.5-pro",
        tools=(Tool("t", strict=True),),
        tool_choice=ToolChoice("auto"),
        user="me",
        extra=(Extra("openai_chat", {"service_tier": "flex"}),),
    )
    assert sorted(lost(request)) == sorted(
        [
            "user",
            "message.name",
            "developer",
            "openai_chat.service_tier",
            "annotations",
            "system_position",
            "reasoning",
            "tool.strict",
        ]
    )
    body = sent(request)
    assert body["systemInstruction"] == {"parts": [{"text": "be brief"}]}
    assert body["contents"] == [{"role": "user", "parts": [{"text": "hi"}, {"text": "no"}]}]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"contents": 1}',
        b'{"contents": [1]}',
        b'{"contents": [{"role": "narrator"}]}',
        b'{"contents": [{"parts": [{"inlineData": {"data": "$"}}]}]}',
        b'{"contents": [{"parts": [{"functionCall": 1}]}]}',
        b'{"contents": [], "tools": [{"functionDeclarations": [{}]}]}',
        b'{"contents": [], "generationConfig": {"topK": 1.5}}',
        b'{"contents": [], "systemInstruction": 1}',
        b'{"contents": [{"parts": [{"functionResponse": {"name": "t", "parts": 1}}]}]}',
    ],
)
def test_malformed_requests_are_invalid(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        CODEC.decode_request(body, "/models/x:generateContent")


def test_an_instruction_may_be_plain_text() -> None:
    assert read({"contents": [], "system_instruction": "be brief"}).messages == (
        Message("system", (Text("be brief"),)),
    )
    assert read({"contents": [], "systemInstruction": {}}).messages == ()


# --- tools: calls, results, signatures ---------------------------------------------------------------------


def test_results_find_their_calls_by_name_and_order() -> None:
    call, answer = (
        ({"functionCall": {"name": n}} for n in "ab"),
        lambda n: {"functionResponse": {"name": n, "response": {}}},
    )
    body = {"contents": [{"role": "model", "parts": list(call)}, {"parts": [answer("b"), answer("a")]}]}
    request = read(body)
    a, b = request.messages[0].parts
    assert isinstance(a, ToolCall)
    assert isinstance(b, ToolCall)
    assert (a.id, b.id) == ("gemini_call_0", "gemini_call_1")
    assert request.messages[1].role == "tool"
    assert [part.tool_call_id for part in request.messages[1].parts if isinstance(part, ToolResult)] == [b.id, a.id]
    written = sent(replace(request, source=None))["contents"]
    assert "id" not in written[0]["parts"][0]["functionCall"]
    assert "id" not in written[1]["parts"][0]["functionResponse"]


@pytest.mark.parametrize(
    ("result", "response"),
    [
        (ToolResult("c", (Text("sunny"),)), {"result": "sunny"}),
        (ToolResult("c", (Text("sun"), Text("ny"))), {"result": "sunny"}),
        (ToolResult("c", ()), {"result": ""}),
        (ToolResult("c", (Json({"a": 1}),)), {"a": 1}),
        (ToolResult("c", (Json([1]),)), {"result": [1]}),
        (ToolResult("c", (Text("bad"),), is_error=True), {"error": "bad"}),
        (ToolResult("c", (Json({"code": 1}),), is_error=True), {"error": {"code": 1}}),
    ],
)
def test_a_result_is_an_object(result: ToolResult, response: Any) -> None:
    messages = (Message("assistant", (ToolCall("c", "t"),)), Message("tool", (result,)))
    written = sent(ChatRequest(messages, "gemini-2.5-pro"))["contents"][1]["parts"][0]["functionResponse"]
    assert written == {"name": "t", "id": "c", "response": response}
    back = read(contents({"functionResponse": written})).messages[0].parts[0]
    assert isinstance(back, ToolResult)
    assert back.is_error == result.is_error


def test_results_of_parallel_calls_share_a_turn() -> None:
    calls = Message("assistant", (ToolCall("a", "t"), ToolCall("b", "t", "oops")))
    results = [Message("tool", (ToolResult(id_, (Text(id_),)),)) for id_ in "ab"]
    request = ChatRequest((calls, *results, Message("user", (Text("go on"),)), results[0]), "gemini-2.5-pro")
    turns = sent(request)["contents"]
    assert [(turn["role"], len(turn["parts"])) for turn in turns] == [
        ("model", 2),
        ("user", 2),
        ("user", 1),
        ("user", 1),
    ]
    assert turns[0]["parts"][1]["functionCall"]["args"] == {"arguments": "oops"}
    assert lost(request) == ["tool_call.arguments"]


def test_media_in_a_result_go_where_the_model_looks() -> None:
    def parts(model: str) -> Any:
        message = Message("tool", (ToolResult("c", (Text("see"), Media("image", data=b"x")), "t"),))
        return sent(ChatRequest((message,), model))["contents"][0]["parts"]

    (inside,) = parts("gemini-3-flash")
    assert inside["functionResponse"]["parts"] == [{"inlineData": {"mimeType": "image/png", "data": "eA=="}}]
    result, beside = parts("gemini-2.5-flash")
    assert ("parts" in result["functionResponse"], "inlineData" in beside) == (False, True)


def test_unknown_parts_of_a_result_survive() -> None:
    part = {"functionResponse": {"name": "t", "response": {}, "parts": [{"mystery": 1}]}, "thought": True}
    assert again(contents(part))["contents"][0]["parts"] == [part]


def test_signatures_stay_with_their_part() -> None:
    parts = [
        {"text": "hm", "thought": True, "thoughtSignature": "s1"},
        {"text": "so", "thoughtSignature": "s2"},
        {"functionCall": {"name": "t", "args": {}}, "thoughtSignature": "s3"},
        {"text": "", "thoughtSignature": "s4"},
        {"text": "", "thought": True, "thoughtSignature": "s5"},
    ]
    assert again(contents(*parts, role="model"))["contents"][0]["parts"] == parts
    assert again(contents({"thoughtSignature": "s"}, role="model"))["contents"][0]["parts"] == [
        {"text": "", "thoughtSignature": "s"}
    ]


def test_an_attached_signature_that_lost_its_text_stands_alone() -> None:
    message = Message("assistant", (Thought("", "s", origin="gemini", extra=ATTACHED),))
    assert sent(ChatRequest((message,)))["contents"][0]["parts"] == [{"text": "", "thoughtSignature": "s"}]


@pytest.mark.parametrize("model", ["gemini-3-flash-preview", "models/gemini-3.1-pro", "gemini-12-pro"])
def test_calls_of_another_model_pass_gemini_3s_check(model: str) -> None:
    calls = (ToolCall("a", "t"), ToolCall("b", "u"))
    request = ChatRequest((Message("assistant", calls), Message("assistant", calls[:1])), model)
    signatures = [[part.get("thoughtSignature") for part in turn["parts"]] for turn in sent(request)["contents"]]
    assert signatures == [[NO_SIGNATURE, None], [NO_SIGNATURE]]
    assert lost(request) == ["reasoning"]


def test_signed_calls_and_older_models_need_no_such_thing() -> None:
    signed = ToolCall("a", "t", extra=Extra("gemini", {"thoughtSignature": "s"}))
    request = ChatRequest((Message("assistant", (ToolCall("b", "u"), signed)),), "gemini-3-pro")
    assert [part.get("thoughtSignature") for part in sent(request)["contents"][0]["parts"]] == [None, "s"]
    for model in ("gemini-2.5-pro", "gemma-3", "gemini-flash-latest"):
        older = ChatRequest((Message("assistant", (ToolCall("b", "u"),)),), model)
        assert "thoughtSignature" not in sent(older)["contents"][0]["parts"][0]


def test_a_forwarded_request_gets_the_signature_another_models_call_lacks() -> None:
    body = {
        "contents": [
            {"role": "model", "parts": [{"text": "a"}, {"function_call": {"name": "t"}}]},
            {"role": "model", "parts": [{"functionCall": {"name": "t"}, "thought_signature": "s"}]},
        ]
    }
    request = read(body, "/v1/models/gemini-3-pro:generateContent")
    first, second = sent(request)["contents"]
    assert first["parts"][1]["thoughtSignature"] == NO_SIGNATURE
    assert second == body["contents"][1]
    assert sent(replace(request, model="gemini-2.5-pro")) == body


def test_signatures_of_others_never_reach_gemini() -> None:
    call = ToolCall("a", "t", extra=Extra("openai_chat", {"signature": "secret"}))
    message = Message("assistant", (Thought("hm", "secret", origin="anthropic_messages"), call))
    request = ChatRequest((message,), "gemini-2.5-pro")
    assert b"secret" not in CODEC.encode_request(request).body
    assert lost(request) == ["reasoning", "openai_chat.signature"]


# --- answers -----------------------------------------------------------------------------------------------


def answered(**fields: Any) -> ChatResponse:
    return CODEC.decode_response(json.dumps(fields).encode())


def candidate(*parts: Any, **fields: Any) -> dict[str, Any]:
    return {"content": {"role": "model", "parts": list(parts)}, **fields}


def test_a_blocked_prompt_is_an_answer() -> None:
    body = {"promptFeedback": {"blockReason": "SAFETY", "safetyRatings": []}, "modelVersion": "m", "responseId": "r"}
    response = answered(**body)
    assert (response.parts, response.finish_reason, response.raw_finish_reason) == ((), "content_filter", "SAFETY")
    assert json.loads(CODEC.encode_response(response)) == body
    events = events_of(CODEC, [sse(body), sse(body)])
    assert [type(event) for event in events] == [StreamStart, Finish, StreamEnd]
    encoder = CODEC.stream_encoder()
    assert json.loads(b"".join(encoder.feed(event) for event in events)[6:]) == body


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("SPII", "content_filter"),
        ("MALFORMED_FUNCTION_CALL", "error"),
        ("CONTINUATION", "other"),
        ("NEW_ONE", "other"),
        (1, "stop"),
        (77, "other"),
        (None, "other"),
    ],
)
def test_reasons_are_translated(raw: Any, reason: str) -> None:
    response = answered(candidates=[candidate({"text": "a"}, finishReason=raw)])
    assert response.finish_reason == reason


def test_an_answer_without_a_reason_gets_none() -> None:
    body = {"candidates": [candidate({"text": "a"}, index=0)]}
    assert json.loads(CODEC.encode_response(answered(**body))) == body


@pytest.mark.parametrize("reason", ["stop", "length", "tool_calls", "content_filter", "error", "other"])
def test_reasons_of_others_keep_their_meaning(reason: Any) -> None:
    parts = (ToolCall("c", "t"),) if reason == "tool_calls" else ()
    body = CODEC.encode_response(ChatResponse(parts, reason, "their_word"))
    assert CODEC.decode_response(body).finish_reason == reason


def test_stop_with_calls_is_tool_calls() -> None:
    response = answered(candidates=[candidate({"functionCall": {"name": "t"}}, finishReason="STOP")])
    assert (response.finish_reason, response.raw_finish_reason) == ("tool_calls", "STOP")
    assert json.loads(CODEC.encode_response(response))["candidates"][0]["finishReason"] == "STOP"


def test_several_candidates_are_alternatives() -> None:
    body = {
        "candidates": [
            candidate({"text": t}, finishReason="STOP", index=i, avgLogprobs=0.5) for i, t in enumerate("ab")
        ]
    }
    response = answered(**body)
    assert (response.text, response.alternatives[0].parts) == ("a", (Text("b"),))
    assert json.loads(CODEC.encode_response(response)) == body


def test_thoughts_count_as_output() -> None:
    counts = {
        "promptTokenCount": 9,
        "candidatesTokenCount": 4,
        "thoughtsTokenCount": 3,
        "cachedContentTokenCount": 2,
        "totalTokenCount": 20,
        "toolUsePromptTokenCount": 4,
    }
    response = answered(candidates=[candidate(finishReason="STOP")], usageMetadata=counts)
    extra = Extra("gemini", {"toolUsePromptTokenCount": 4})
    assert response.usage == Usage(13, 7, 2, reasoning_tokens=3, total_tokens=20, extra=extra)
    assert json.loads(CODEC.encode_response(response))["usageMetadata"] == counts
    assert (
        answered(candidates=[candidate(finishReason="STOP")], usageMetadata={"trafficType": "ON_DEMAND"}).usage is None
    )


def test_made_up_identifiers_depend_on_the_answer_alone() -> None:
    def ids(answer: str) -> list[str]:
        calls = [{"functionCall": {"name": "t"}}] * 2
        return [call.id for call in answered(responseId=answer, candidates=[candidate(*calls)]).tool_calls]

    assert ids("r1") == ids("r1")
    assert len({*ids("r1"), *ids("r2")}) == 4


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"error":{"code":503}}',
        b'{"candidates":[1]}',
        b'{"promptFeedback":{}}',
        b'{"candidates":[]}',
    ],
)
def test_what_is_no_answer_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidAnswer) as refused:
        CODEC.decode_response(body)
    assert (refused.value.payload is not None) == body.startswith((b"{", b"["))


def test_anybodys_answer_can_be_shown() -> None:
    parts = (
        Thought("hm", "sig", origin="anthropic_messages"),
        Thought("", "sig", origin="anthropic_messages"),
        Refusal("no"),
        Media("image", url="https://e.org/a.png"),
        Opaque("anthropic_messages", {}),
        ToolCall("toolu_1", "t", '{"a":1}'),
    )
    body = json.loads(CODEC.encode_response(ChatResponse(parts, "tool_calls", "tool_use", Usage(1, 2))))
    assert body["candidates"] == [
        {
            "content": {
                "role": "model",
                "parts": [
                    {"text": "hm", "thought": True},
                    {"text": "no"},
                    {"fileData": {"fileUri": "https://e.org/a.png"}},
                    {"functionCall": {"name": "t", "args": {"a": 1}, "id": "toolu_1"}},
                ],
            },
            "finishReason": "STOP",
            "index": 0,
        }
    ]
    assert body["usageMetadata"] == {"promptTokenCount": 1, "candidatesTokenCount": 2, "totalTokenCount": 3}


def test_errors_have_googles_shape() -> None:
    error = json.loads(CODEC.encode_error(Fault(FaultKind.RATE_LIMITED, retry_after=34.4), "slow down"))["error"]
    assert (error["code"], error["status"], error["message"]) == (429, "RESOURCE_EXHAUSTED", "slow down")
    assert error["details"][0]["retryDelay"] == "34.400s"
    assert json.loads(CODEC.encode_error(Fault(FaultKind.SERVER_ERROR), "x"))["error"]["code"] == 500


# --- streams -----------------------------------------------------------------------------------------------


def sse(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\r\n\r\n"


def chunk(*parts: Any, **fields: Any) -> dict[str, Any]:
    return {"candidates": [candidate(*parts, **fields)], "responseId": "r", "modelVersion": "m"}


LAST = chunk({"text": "b"}, finishReason="STOP")
ERROR = {"error": {"code": 503, "message": "The model is { overloaded }.", "status": "UNAVAILABLE"}}


@pytest.mark.parametrize(
    "raw",
    [
        sse(chunk({"text": "a"})) + sse(LAST),
        b"\r\n: ping\n\n" + sse(chunk({"text": "a"})) + sse(LAST),
        json.dumps([chunk({"text": "a"}), LAST], indent=2).encode(),
        b"[" + json.dumps(chunk({"text": "a"})).encode() + b"\n,\r\n" + json.dumps(LAST).encode() + b"\n]",
        sse(chunk({"text": "a"})) + json.dumps(LAST, indent=1).encode(),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 10_000])
def test_every_framing_gives_the_same_answer(raw: bytes, size: int) -> None:
    response = assembled(events_of(CODEC, [raw[at : at + size] for at in range(0, len(raw), size)]))
    assert (response.text, response.finish_reason, response.id, response.model) == ("ab", "stop", "r", "m")


@pytest.mark.parametrize(
    "error",
    [
        sse(ERROR),
        json.dumps(ERROR, indent=2).encode(),
        json.dumps([ERROR], indent=2).encode(),
        b"\n" + json.dumps(ERROR).encode(),
    ],
)
@pytest.mark.parametrize("before", [b"", sse(chunk({"text": "a"}))])
@pytest.mark.parametrize("size", [1, 5, 10_000])
def test_an_error_is_reported_in_every_framing(error: bytes, before: bytes, size: int) -> None:
    raw = before + error
    events = events_of(CODEC, [raw[at : at + size] for at in range(0, len(raw), size)])
    assert events[-1] == StreamError(ERROR)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"<html>busy</html>",
        sse(chunk({"text": "a"})),
        b"data: {\n\n" + sse(LAST),
        b"data: 7\n\n",
        sse({"candidates": 1}),
        sse(LAST) + b"{} or else",
        json.dumps([chunk({"text": "a"})]).encode()[:-9],
        sse({"candidates": [candidate({"text": "a"}, finishReason="STOP"), candidate({"text": "b"}, index=1)]}),
    ],
)
def test_a_stream_without_evidence_or_sense_is_broken(raw: bytes) -> None:
    events = events_of(CODEC, [raw])
    assert [isinstance(event, StreamBroken) for event in events][-1:] == [True]
    assert not any(isinstance(event, StreamEnd) for event in events)


def test_nothing_is_heard_after_the_end() -> None:
    decoder = CODEC.stream_decoder()
    assert isinstance(decoder.feed(sse(ERROR))[-1], StreamError)
    assert decoder.feed(sse(LAST)) == decoder.close() == []


def test_parts_of_every_kind_stream() -> None:
    raw = b"".join(
        sse(chunk(part))
        for part in (
            {"text": "hm", "thought": True},
            {"text": "m", "thought": True, "thoughtSignature": "s0"},
            {"text": "next", "thought": True},
            {"text": "a"},
            {"text": "b", "thoughtSignature": "s1"},
            {"text": "c", "mood": 1},
            {"inlineData": {"mimeType": "image/png", "data": "eA=="}},
            {"executableCode": {"code": "1"}},
            {"functionCall": {"name": "t", "args": {"a": 1}}, "thoughtSignature": "s2"},
        )
    )
    raw += sse(chunk({"text": ""}, groundingMetadata={"x": 1})) + sse(chunk(finishReason="STOP", finishMessage="done"))
    response = assembled(events_of(CODEC, [raw]))
    kinds = [type(part).__name__ for part in response.parts]
    assert kinds == ["Thought", "Thought", "Text", "Thought", "Text", "Media", "Opaque", "ToolCall"]
    assert (response.reasoning, response.text, response.finish_reason) == ("hmmnext", "abc", "tool_calls")
    assert response.tool_calls[0].extra == Extra("gemini", {"thoughtSignature": "s2"})
    assert response.extra == Extra("gemini", {"candidate": {"groundingMetadata": {"x": 1}, "finishMessage": "done"}})


def call(said: Any, **fields: Any) -> bytes:
    return sse(chunk({"functionCall": said, **fields}))


def test_arguments_may_come_as_patches() -> None:
    def patch(path: str, more: bool = False, **value: Any) -> Any:
        return {"jsonPath": path, **value, **({"willContinue": True} if more else {})}

    raw = b"".join(
        [
            call({"name": "t", "willContinue": True}, thoughtSignature="s"),
            call({"partialArgs": [patch("$.city", True, stringValue="Bos")], "willContinue": True}),
            call({"partialArgs": [patch("$.city", True, stringValue="ton")], "willContinue": True}),
            call({"partialArgs": [patch("$.city")], "willContinue": True}),
            call({"partialArgs": [patch("$.list[1]['a b'][\"c\"]", numberValue=2)], "willContinue": True}),
            call(
                {
                    "partialArgs": [patch("$.list[0]", boolValue=True), patch("$.n", nullValue="NULL_VALUE")],
                    "will_continue": True,
                }
            ),
            call({}),
            call({"name": "u", "args": {"x": 1}, "partialArgs": [patch("$.y", stringValue="z")]}),
            sse(chunk(finishReason="STOP")),
        ]
    )
    response = assembled(events_of(CODEC, [raw]))
    first, second = response.tool_calls
    assert first.parse() == {"city": "Boston", "list": [True, {"a b": {"c": 2}}], "n": None}
    assert (first.name, first.extra) == ("t", Extra("gemini", {"thoughtSignature": "s"}))
    assert (second.name, second.parse()) == ("u", {"x": 1, "y": "z"})
    assert response.finish_reason == "tool_calls"


def test_a_call_left_open_ends_with_the_answer() -> None:
    raw = call({"name": "t", "args": {"a": 1}, "willContinue": True}) + sse(chunk(finishReason="STOP"))
    assert assembled(events_of(CODEC, [raw])).tool_calls[0].parse() == {"a": 1}


@pytest.mark.parametrize("path", ["", "city", "$.a[x]", "$.a[99999]", "$..a", "$" + ".a" * 65, "$"])
def test_a_patch_without_a_place_breaks_the_stream(path: str) -> None:
    raw = call({"name": "t", "partialArgs": [{"jsonPath": path, "stringValue": "x"}]})
    assert isinstance(events_of(CODEC, [raw])[-1], StreamBroken)


def test_the_first_and_the_last_counts_are_reported() -> None:
    def counted(tokens: int, chunk: Any) -> bytes:
        return sse({**chunk, "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": tokens}})

    raw = b"".join(counted(tokens, chunk({"text": "a"})) for tokens in (1, 2, 3))

    def reported(raw: bytes) -> list[int]:
        return [event.usage.output_tokens for event in events_of(CODEC, [raw]) if isinstance(event, UsageUpdate)]

    assert reported(raw) == [1, 3]  # broken off: what it cost so far
    assert reported(raw + counted(4, LAST)) == [1, 4]
    assert reported(raw + counted(4, LAST) + sse({"usageMetadata": {"promptTokenCount": 5}})) == [1, 4, 0]
    assert reported(
        sse({**chunk({"text": "a"}), "usageMetadata": {"trafficType": "ON_DEMAND"}}) + counted(4, LAST)
    ) == [4]


def written(*events: Any) -> list[Any]:
    encoder = CODEC.stream_encoder()
    raw = b"".join(encoder.feed(event) for event in events)
    return [json.loads(frame[6:]) for frame in raw.decode().split("\n\n") if frame]


def test_a_streamed_call_is_held_until_it_is_whole() -> None:
    frames = written(
        StreamStart("r", "m"),
        ToolCallStart("a", "t", 0),
        ToolCallStart("b", "u", 1),
        ToolCallDelta('{"x":', 0),
        ToolCallDelta("1}", 0),
        BlockEnd(0),
        TextDelta("so", 2),
        ToolCallStart("c", "v", 0, choice=1),
        Finish("tool_calls"),
        UsageUpdate(Usage(1, 2)),
        StreamEnd(),
    )
    parts = [each["content"]["parts"][0] for frame in frames for each in frame["candidates"]]
    calls = [part.get("functionCall") for part in parts]
    assert calls[0] == {"name": "t", "args": {"x": 1}, "id": "a"}
    assert (calls[1]["id"], parts[2], calls[3]["id"]) == ("b", {"text": "so"}, "c")
    assert frames[-1] == {
        "candidates": [{"content": {"role": "model", "parts": [{"text": ""}]}, "finishReason": "STOP", "index": 0}],
        "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 2, "totalTokenCount": 3},
        "modelVersion": "m",
        "responseId": "r",
    }


def test_events_without_words_here_write_nothing() -> None:
    silent = [
        TextDelta(""),
        ThoughtDelta("", signature="s", origin="anthropic_messages"),
        ThoughtDelta("", origin="gemini"),
        ToolCallDelta("x", 9),
        PartAdded(Opaque("anthropic_messages", {})),
        KeepAlive(),
    ]
    assert written(*silent) == []
    assert written(RefusalDelta("no"))[0]["candidates"][0]["content"]["parts"] == [{"text": "no"}]
    assert written(StreamEnd())[0]["candidates"][0]["finishReason"] == "STOP"


def test_a_failed_stream_ends_in_an_error() -> None:
    assert written(StreamError(ERROR)) == [ERROR]
    for event, said in [
        (StreamBroken("cut"), "cut"),
        (StreamError({"odd": 1}), '{"odd":1}'),
        (StreamError("gone"), "gone"),
    ]:
        assert written(event) == [{"error": {"code": 500, "message": said, "status": "INTERNAL"}}]


# --- embeddings --------------------------------------------------------------------------------------------


def test_recorded_embeddings_go_both_ways() -> None:
    records = [r for r in requests("embeddings") if r["provider"] == "google"]
    for record in records:
        request = EMBED.decode_request(json.dumps(record["request"]).encode(), record["url_path"])
        written = EMBED.encode_request(request)
        assert json.loads(written.body) == record["request"]
        assert record["url_path"].endswith(written.path)
        response = EMBED.decode_response(json.dumps(record["body"]).encode())
        assert len(response.vectors) == len(request.inputs)
        back = EMBED.decode_response(EMBED.encode_response(response))
        assert (back.vectors, back.usage) == (response.vectors, response.usage)
    assert records


def test_a_single_embedding_is_understood() -> None:
    body = b'{"content":{"parts":[{"text":"a"},{"text":"b"}]},"output_dimensionality":8}'
    request = EMBED.decode_request(body, "/v1/models/e:embedContent")
    assert (request.inputs, request.model, request.dimensions) == (("ab",), "e", 8)
    assert EMBED.decode_response(b'{"embedding":{"values":[1,2]}}').vectors == ((1, 2),)
    answer = EmbedResponse(((1.0,),))
    assert EMBED.encode_response(answer, request) == b'{"embedding":{"values":[1.0]}}'


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'{"requests":1}',
        b'{"content":{"parts":[{"inlineData":{}}]}}',
        b'{"content":{}}',
        b'{"requests":[{"content":{"parts":[{"text":"a"}]}},{"content":{"parts":[{"text":"b"}]},"taskType":"X"}]}',
    ],
)
def test_what_cannot_be_embedded_is_invalid(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        EMBED.decode_request(body)
    assert EMBED.decode_request(b'{"requests":[]}', "/models/e:batchEmbedContents").model == "e"
    with pytest.raises(InvalidAnswer):
        EMBED.decode_response(body)


# --- the vendor's own client -------------------------------------------------------------------------------


def client_for(content: bytes, asked: list[Any] | None = None) -> Any:
    genai = pytest.importorskip("google.genai", reason="the vendor's client is not installed")
    family = pytest.importorskip("httpx2" if int(genai.__version__.partition(".")[0]) >= 3 else "httpx")

    def answer(request: Any) -> Any:
        if asked is not None:
            asked.append((request.read(), str(request.url)))
        return family.Response(200, content=content, headers={"content-type": "text/event-stream"})

    options = genai.types.HttpOptions(httpx_client=family.Client(transport=family.MockTransport(answer)))
    return genai.Client(api_key="k", http_options=options)


SHOWN = ChatResponse(
    (Thought("hm", origin="anthropic_messages"), Text("hé"), ToolCall("c", "t", '{"a":1}')),
    "tool_calls",
    usage=Usage(3, 4, reasoning_tokens=1),
    id="r",
    model="claude",
)


@pytest.mark.filterwarnings("ignore")
def test_googles_client_accepts_a_whole_answer() -> None:
    asked: list[Any] = []
    client = client_for(CODEC.encode_response(SHOWN), asked)
    got = client.models.generate_content(model="gemini-3-pro", contents="hi", config={"temperature": 0.5})
    assert (got.text, got.function_calls[0].args, got.function_calls[0].id) == ("hé", {"a": 1}, "c")
    assert (got.candidates[0].finish_reason.name, got.usage_metadata.thoughts_token_count) == ("STOP", 1)
    request = CODEC.decode_request(*asked[0])
    assert (request.model, request.stream, request.temperature) == ("gemini-3-pro", False, 0.5)


@pytest.mark.filterwarnings("ignore")
def test_googles_client_accepts_a_stream() -> None:
    encoder = CODEC.stream_encoder()
    asked: list[Any] = []
    client = client_for(b"".join(encoder.feed(event) for event in replay(SHOWN)), asked)
    got = list(client.models.generate_content_stream(model="gemini-3-pro", contents="hi"))
    parts = [part for each in got for part in each.candidates[0].content.parts]
    assert "".join(part.text for part in parts if part.text and not part.thought) == "hé"
    assert [part.function_call.name for part in parts if part.function_call] == ["t"]
    assert got[-1].candidates[0].finish_reason.name == "STOP"
    assert got[-1].usage_metadata.total_token_count == 7
    assert CODEC.decode_request(*asked[0]).stream


@pytest.mark.filterwarnings("ignore")
def test_googles_client_raises_a_streams_error() -> None:
    errors = pytest.importorskip("google.genai.errors", reason="the vendor's client is not installed")
    frame = CODEC.encode_stream_error(Fault(FaultKind.OVERLOADED), "busy")
    client = client_for(b"".join([CODEC.stream_encoder().feed(TextDelta("a")), frame]))
    with pytest.raises(errors.ServerError, match="busy"):
        list(client.models.generate_content_stream(model="gemini-3-pro", contents="hi"))
