"""What vendors do that their documentation does not lead one to expect, one test each."""

from __future__ import annotations

import json
from typing import Any

import pytest

from resilient_llm.errors import Fault, FaultKind, FaultScope, UnsupportedFeature
from resilient_llm.model import (
    ChatRequest,
    Extra,
    Finish,
    Media,
    Message,
    Opaque,
    StreamBroken,
    StreamEnd,
    StreamError,
    StreamStart,
    Text,
    TextDelta,
    Thought,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Usage,
    UsageUpdate,
)
from resilient_llm.providers import VLLM, DeepSeek, Gemini, OpenRouter
from resilient_llm.wire import WIRES, classify, classify_stream_error, codec
from tests.wire.roundtrip import assembled, events_of

TOOLS = (Tool("a", "A.", {"type": "object"}), Tool("b", "B.", {"type": "object"}))
MODELS = {"anthropic_messages": "claude-sonnet-4-5", "bedrock_converse": "anthropic.claude-sonnet-4-5-v1:0"}


def said(text: str = "Hello", *parts: Any) -> Message:
    return Message("user", (Text(text), *parts))


def sent(wire: str, request: ChatRequest) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The body on a wire, and the features that were degraded."""
    parts = codec(wire).encode_request(request)
    return json.loads(parts.body), tuple(lost.feature for lost in parts.degradations)


def kind(vendor: str, status: int, body: object) -> FaultKind | None:
    fault = classify(vendor, status, {}, body)
    return None if fault is None else fault.kind


# --- a choice among tools that names some of them ---------------------------------------------------------------


def offered(wire: str, body: dict[str, Any]) -> list[str]:
    """The names of the tools in a body."""
    tools = body.get("tools") or body.get("toolConfig", {}).get("tools") or []
    if wire == "gemini":
        return [each["name"] for tool in tools for each in tool["functionDeclarations"]]
    return [
        (tool.get("function") or tool.get("toolSpec") or tool).get("name") for tool in tools if isinstance(tool, dict)
    ]


def forced(body: dict[str, Any]) -> bool:
    """Whether a body makes the model call a tool."""
    text = json.dumps([body.get(key) for key in ("tool_choice", "toolConfig")])
    return any(word in text for word in ('"tool"', '"any"', "ANY", "REQUIRED", '"required"', '"type": "function"'))


@pytest.mark.parametrize("wire", sorted(WIRES))
def test_a_model_that_may_choose_among_some_tools_is_not_forced_to_call_one(wire: str) -> None:
    request = ChatRequest((said(),), MODELS.get(wire, "m"), tools=TOOLS, tool_choice=ToolChoice("auto", ("a",)))
    body, lost = sent(wire, request)
    if wire in {"openai_chat", "openai_responses"}:
        assert body["tool_choice"]["type"] == "allowed_tools"
        return
    assert not forced(body)
    assert offered(wire, body) == ["a"]
    assert "tool_choice.allowed" in lost


@pytest.mark.parametrize("wire", sorted(WIRES))
def test_no_tool_is_called_where_none_may_be_whatever_is_named(wire: str) -> None:
    request = ChatRequest((said(),), MODELS.get(wire, "m"), tools=TOOLS, tool_choice=ToolChoice("none", ("a",)))
    assert not forced(sent(wire, request)[0])


def test_one_tool_that_must_be_called_is_forced_where_the_wire_can_say_it() -> None:
    request = ChatRequest((said(),), "claude-sonnet-4-5", tools=TOOLS, tool_choice=ToolChoice("required", ("a",)))
    body, lost = sent("anthropic_messages", request)
    assert (body["tool_choice"], lost) == ({"type": "tool", "name": "a"}, ())
    assert offered("anthropic_messages", body) == ["a", "b"]
    body, lost = sent("gemini", request)
    assert body["toolConfig"]["functionCallingConfig"] == {"mode": "ANY", "allowedFunctionNames": ["a"]}
    assert lost == ()


# --- custom tools in a stream -----------------------------------------------------------------------------------


def test_a_streamed_call_of_a_custom_tool_keeps_its_name_and_all_of_its_input() -> None:
    deltas = [
        {"index": 0, "id": "call_1", "type": "custom", "custom": {"name": "sql", "input": ""}},
        {"index": 0, "custom": {"input": "SELECT "}},
        {"index": 0, "custom": {"input": "1"}},
        {"index": 1, "id": "call_2", "type": "function", "function": {"name": "f", "arguments": "{}"}},
    ]
    chunks = [{"id": "c", "choices": [{"index": 0, "delta": {"tool_calls": [delta]}}]} for delta in deltas]
    chunks.append({"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
    raw = [f"data: {json.dumps(chunk)}\n\n".encode() for chunk in chunks]
    answer = assembled(events_of(codec("openai_chat"), raw))
    call = Opaque("openai_chat", {"id": "call_1", "type": "custom", "custom": {"name": "sql", "input": "SELECT 1"}})
    assert set(map(repr, answer.parts)) == {repr(call), repr(ToolCall("call_2", "f", "{}"))}
    assert answer.finish_reason == "tool_calls"
    encoder = codec("openai_chat").stream_encoder()
    again = [encoder.feed(event) for event in events_of(codec("openai_chat"), raw)]
    assert set(map(repr, assembled(events_of(codec("openai_chat"), again)).parts)) == set(map(repr, answer.parts))


# --- media by URL -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("media", [
    Media("image", "image/png", url="https://example.org/a.png"),
    Media("document", "application/pdf", url="https://example.org/a.pdf"),
    Media("video", "video/mp4", url="https://example.org/a.mp4"),
    Media("audio", "audio/wav", url="https://example.org/a.wav"),
])  # fmt: skip
def test_every_gemini_endpoint_fetches_media(media: Media) -> None:
    body, lost = sent("gemini", ChatRequest((said("What is it?", media),), "gemini-2.5-flash"))
    part = body["contents"][0]["parts"][1]
    assert (part, lost) == ({"fileData": {"fileUri": media.url, "mimeType": media.mime_type}}, ())
    assert Gemini("gemini-2.5-flash", api_key="k").capabilities.support(f"{media.kind}_url") == "full"


@pytest.mark.parametrize(
    ("provider", "media"),
    [
        (OpenRouter("google/gemini-2.5-flash", api_key="k"), Media("video", url="https://example.org/a.mp4")),
        (OpenRouter("google/gemini-2.5-flash", api_key="k"), Media("video", "video/mp4", b"\0")),
        (VLLM("qwen-omni"), Media("audio", url="https://example.org/a.wav")),
        (VLLM("qwen-omni"), Media("video", url="https://example.org/a.mp4")),
    ],
)
def test_gateways_that_take_more_media_get_them(provider: Any, media: Media) -> None:
    body = json.loads(provider.encode(ChatRequest((said("What is it?", media),))).body)
    part = body["messages"][0]["content"][1]
    assert part["type"] == f"{media.kind}_url"
    assert part[part["type"]]["url"] in {media.url, "data:video/mp4;base64,AA=="}
    assert provider.capabilities.support(f"{media.kind}_url") == "full"


# --- who may begin ------------------------------------------------------------------------------------------------


def test_claude_answers_a_conversation_that_the_assistant_begins_and_others_on_bedrock_do_not() -> None:
    turns = (Message("assistant", (Text("Welcome."),)), said())
    body, lost = sent("bedrock_converse", ChatRequest(turns, MODELS["bedrock_converse"]))
    assert ([turn["role"] for turn in body["messages"]], lost) == (["assistant", "user"], ())
    with pytest.raises(UnsupportedFeature):
        sent("bedrock_converse", ChatRequest(turns, "amazon.nova-pro-v1:0"))


# --- answers ------------------------------------------------------------------------------------------------------


def test_a_response_with_output_and_an_unknown_status_is_an_answer() -> None:
    output = [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hi"}]}]
    body = {"id": "r", "object": "response", "status": "concluded", "output": output}
    answer = codec("openai_responses").decode_response(json.dumps(body).encode())
    assert (answer.text, answer.finish_reason, answer.raw_finish_reason) == ("Hi", "other", "concluded")
    cancelled = codec("openai_responses").decode_response(json.dumps({**body, "status": "cancelled"}).encode())
    assert cancelled.finish_reason == "error"


def test_tokens_that_tools_of_geminis_own_put_into_the_prompt_are_input() -> None:
    counts = {"promptTokenCount": 32, "toolUsePromptTokenCount": 2395, "candidatesTokenCount": 41,
              "thoughtsTokenCount": 47, "totalTokenCount": 2515}  # fmt: skip
    body = {"candidates": [{"content": {"parts": [{"text": "x"}]}, "finishReason": "STOP"}], "usageMetadata": counts}
    answer = codec("gemini").decode_response(json.dumps(body).encode())
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (2427, 88)
    assert answer.usage.input_tokens + answer.usage.output_tokens == answer.usage.total_tokens
    assert json.loads(codec("gemini").encode_response(answer))["usageMetadata"] == counts


# --- errors in streams --------------------------------------------------------------------------------------------

TOLD = [
    {"error": {"message": "The model fell asleep.", "type": "server_error"}},
    {"type": "error", "error": {"type": "overloaded_error", "message": "The model fell asleep."}},
    {"type": "response.failed", "response": {"error": {"code": "x", "message": "The model fell asleep."}}},
    {"message": "The model fell asleep."},
    {"error": "The model fell asleep."},
    {"detail": "The model fell asleep."},
    "The model fell asleep.",
]


@pytest.mark.parametrize("payload", TOLD, ids=str)
@pytest.mark.parametrize("wire", sorted(WIRES))
def test_every_wire_passes_on_what_an_error_inside_a_stream_says(wire: str, payload: Any) -> None:
    encoder = codec(wire).stream_encoder()
    raw = encoder.feed(StreamStart("id", "m")) + encoder.feed(TextDelta("Once")) + encoder.feed(StreamError(payload))
    assert b"The model fell asleep." in raw
    assert isinstance(events_of(codec(wire), [raw])[-1], StreamError)
    assert b"cut short" in codec(wire).stream_encoder().feed(StreamBroken("cut short"))


# --- token counts of a stream -------------------------------------------------------------------------------------


def asked(**options: object) -> bytes:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True, **options}
    return json.dumps(body).encode()


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"stream_options": {"include_usage": True}}, True),
        ({"stream_options": {"include_usage": False}}, False),
        ({"stream_options": None}, True),
        ({}, True),
    ],
)
def test_a_caller_who_does_not_want_token_counts_is_obeyed(options: dict[str, object], wanted: bool) -> None:
    request = codec("openai_chat").decode_request(asked(**options))
    for source in (request.source, None):
        body, _ = sent(
            "openai_chat", ChatRequest(request.messages, "m", stream=True, extra=request.extra, source=source)
        )
        assert body["stream_options"]["include_usage"] is wanted
    assert sent("ollama", ChatRequest(request.messages, "m", extra=request.extra))[1] == ()  # nothing is lost by it


@pytest.mark.parametrize(
    ("options", "chunks"), [({"stream_options": {"include_usage": True}}, 1), ({"stream_options": {}}, 0), ({}, 0)]
)
def test_a_chunk_without_choices_is_for_those_who_asked(options: dict[str, object], chunks: int) -> None:
    request = codec("openai_chat").decode_request(asked(**options))
    encoder = codec("openai_chat").stream_encoder(request)
    events = (StreamStart("id", "m"), TextDelta("Hi"), Finish("stop"), UsageUpdate(Usage(3, 1)), StreamEnd())
    raw = b"".join(encoder.feed(event) for event in events)
    assert raw.count(b'"choices":[]') == chunks


def test_options_of_a_stream_that_are_no_token_counts_are_kept() -> None:
    request = codec("openai_chat").decode_request(asked(stream_options={"include_obfuscation": False}))
    assert request.extra == (Extra("openai_chat", {"stream_options": {"include_obfuscation": False}}),)


# --- what errors mean ---------------------------------------------------------------------------------------------


def test_an_overloaded_model_is_overloaded_whatever_number_stands_beside_it() -> None:
    payload = {"error": {"message": "Model is overloaded", "http_status_code": 422}}
    assert classify_stream_error("hf_tgi", payload).kind is FaultKind.OVERLOADED
    assert kind("hf_tgi", 422, {"error": "Model is overloaded", "error_type": "overloaded"}) is FaultKind.OVERLOADED
    assert kind("hf_tgi", 422, {"error": "Model is overloaded"}) is FaultKind.OVERLOADED
    invalid = {"error": {"message": "Input validation error: `temperature` must be positive", "http_status_code": 422}}
    assert classify_stream_error("hf_tgi", invalid).kind is FaultKind.BAD_REQUEST


def test_a_limit_of_the_answer_is_no_limit_of_the_context() -> None:
    limit = "too many tokens: max tokens must be less than or equal to 4096, the maximum output for this model"
    assert kind("cohere", 400, {"message": limit}) is FaultKind.BAD_REQUEST
    prompt = "too many tokens: total number of tokens in the prompt cannot exceed 4081 - received 4292."
    assert kind("cohere", 400, {"message": prompt}) is FaultKind.CONTEXT_LENGTH


def test_capacity_that_is_exhausted_is_not_our_limit() -> None:
    error = {
        "error": {
            "code": 429,
            "message": "No capacity available for model gemini-3-pro-preview on the server",
            "status": "RESOURCE_EXHAUSTED",
            "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "MODEL_CAPACITY_EXHAUSTED"}],
        }
    }
    fault = classify("vertex_ai", 429, {}, error)
    assert fault is not None
    assert (fault.kind, fault.scope) == (FaultKind.OVERLOADED, FaultScope.MODEL)


@pytest.mark.parametrize("body", [{}, {"usageMetadata": {"promptTokenCount": 3}, "modelVersion": "gemini-3"}])
def test_a_success_without_an_answer_is_none(body: dict[str, object]) -> None:
    assert kind("gemini", 200, body) is FaultKind.SERVER_ERROR
    assert kind("gemini", 200, json.dumps(body)) is FaultKind.SERVER_ERROR


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (404, "", FaultKind.MISCONFIGURED),
        (404, "<html><title>404 Not Found</title></html>", FaultKind.MISCONFIGURED),
        (404, {"detail": "Not Found"}, FaultKind.MISCONFIGURED),
        (404, {"error": {"message": "Invalid URL (POST /v1/v1/chat/completions)"}}, FaultKind.MISCONFIGURED),
        (404, {"error": {"message": "The model `x` does not exist"}}, FaultKind.NOT_FOUND_MODEL),
        (404, {"error": {"code": "404", "message": "Resource not found"}}, FaultKind.NOT_FOUND_MODEL),
        (405, {"detail": "Method Not Allowed"}, FaultKind.MISCONFIGURED),
        (405, "Method Not Allowed", FaultKind.MISCONFIGURED),
        (410, {"error": "Gone"}, FaultKind.MISCONFIGURED),
        (410, {"error": "The model `x` has been retired"}, FaultKind.NOT_FOUND_MODEL),
        (418, {"error": {"message": "I'm a teapot"}}, FaultKind.MISCONFIGURED),
        (418, "teapot", FaultKind.MISCONFIGURED),
        (400, "", FaultKind.MISCONFIGURED),
        (400, "<html><title>400 Bad Request</title></html>", FaultKind.MISCONFIGURED),
        (400, "nope", FaultKind.MISCONFIGURED),
        (400, {}, FaultKind.MISCONFIGURED),
        (400, {"error": {"message": "temperature is too hot"}}, FaultKind.BAD_REQUEST),
        (422, {"detail": [{"msg": "field required"}]}, FaultKind.BAD_REQUEST),
        (422, "Failed to deserialize the JSON body into the target type", FaultKind.BAD_REQUEST),
        (401, "", FaultKind.AUTH),
        (403, "", FaultKind.PERMISSION),
        (413, "", FaultKind.PAYLOAD_TOO_LARGE),
        (414, "", FaultKind.BAD_REQUEST),
        (431, "", FaultKind.BAD_REQUEST),
        (501, "<html>", FaultKind.SERVER_ERROR),
        (501, {"error": {"message": "no such thing here"}}, FaultKind.BAD_REQUEST),
        (301, "", FaultKind.MISCONFIGURED),
        (308, {"error": "moved"}, FaultKind.MISCONFIGURED),
    ],
)
def test_what_a_client_error_proves(status: int, body: object, expected: FaultKind) -> None:
    assert kind("openai_compatible_gateway", status, body) is expected


def test_a_misconfigured_endpoint_is_told_with_what_looks_wrong() -> None:
    provider = VLLM("m", base_url="http://localhost:8000/v2")
    moved = provider.fault(307, {"location": "http://other.example/v1?key=secretsecret"}, b"", 0.0)
    assert moved.scope is FaultScope.ENDPOINT
    assert "a redirect" in moved.message
    assert "http://other.example/v1" in moved.message
    assert "secret" not in moved.message
    missing = provider.fault(404, {}, b"404 page not found", 0.0)
    assert "status 404" in missing.message
    assert "base_url=http://localhost:8000/v2" in missing.message


# --- why an answer ended, in the words of whoever answered ------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "meaning"),
    [
        ("STOP", "stop"),
        ("end_turn", "stop"),
        ("MAX_TOKENS", "length"),
        ("max_output_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("sensitive", "content_filter"),
        ("content_filter: PROHIBITED_CONTENT", "content_filter"),
        ("guardrail_intervened", "content_filter"),
        ("network_error", "error"),
        ("function_call_filter: MALFORMED_FUNCTION_CALL", "error"),
        ("insufficient_system_resource", "error"),
        ("finish_reason_unspecified", "other"),
        ("repetition_truncation", "other"),
    ],
)
@pytest.mark.parametrize("wire", sorted(WIRES - {"openai_responses"}))
def test_words_of_other_wires_mean_the_same_on_each(wire: str, word: str, meaning: str) -> None:
    body = ANSWERS[wire] % {b"word": json.dumps(word).encode()}
    response = codec(wire).decode_response(body)
    assert (response.finish_reason, response.raw_finish_reason) == (meaning, word)


ANSWERS = {
    "openai_chat": b'{"choices": [{"index": 0, "message": {"content": "Hi"}, "finish_reason": %(word)s}]}',
    "anthropic_messages": b'{"type": "message", "content": [{"type": "text", "text": "Hi"}], "stop_reason": %(word)s}',
    "gemini": b'{"candidates": [{"content": {"parts": [{"text": "Hi"}]}, "finishReason": %(word)s}]}',
    "bedrock_converse": b'{"output": {"message": {"content": [{"text": "Hi"}]}}, "stopReason": %(word)s}',
    "cohere_v2": b'{"message": {"content": [{"type": "text", "text": "Hi"}]}, "finish_reason": %(word)s}',
    "ollama": b'{"message": {"content": "Hi"}, "done": true, "done_reason": %(word)s}',
}


@pytest.mark.parametrize(
    ("wire", "body"),
    [
        (
            "openai_chat",
            {
                "choices": [
                    {
                        "index": 0,
                        "message": {"tool_calls": [{"id": "c", "function": {"name": "a", "arguments": "{}"}}]},
                        "finish_reason": "stop",
                    }
                ]
            },
        ),
        (
            "anthropic_messages",
            {"content": [{"type": "tool_use", "id": "c", "name": "a", "input": {}}], "stop_reason": "end_turn"},
        ),
        (
            "bedrock_converse",
            {
                "output": {"message": {"content": [{"toolUse": {"toolUseId": "c", "name": "a", "input": {}}}]}},
                "stopReason": "end_turn",
            },
        ),
        (
            "cohere_v2",
            {"message": {"tool_calls": [{"id": "c", "function": {"name": "a"}}]}, "finish_reason": "COMPLETE"},
        ),
    ],
)
def test_who_calls_tools_has_not_stopped_whatever_the_word(wire: str, body: dict[str, Any]) -> None:
    response = codec(wire).decode_response(json.dumps(body).encode())
    assert response.finish_reason == "tool_calls"
    rebuilt = codec(wire).encode_response(response)
    assert str(response.raw_finish_reason).encode() in rebuilt  # on the same wire the vendor's own word stays
    told = json.loads(codec("openai_chat").encode_response(codec(wire).decode_response(rebuilt)))
    assert told["choices"][0]["finish_reason"] == ("stop" if wire == "openai_chat" else "tool_calls")


# --- errors inside streams, in shapes that are not their wire's -------------------------------------------------


def sse(*frames: object, name: str = "") -> bytes:
    return b"".join(b"%sdata: %s\n\n" % (name.encode(), json.dumps(frame).encode()) for frame in frames)


CHUNK = {"id": "c", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "Hi"}}]}
OPENED = {"type": "message_start", "message": {"id": "m", "content": [], "usage": {"input_tokens": 1}}}


@pytest.mark.parametrize(
    ("vendor", "wire", "frames", "expected"),
    [
        ("siliconflow", "openai_chat", sse(CHUNK, {"code": 429, "msg": "slow down"}), FaultKind.RATE_LIMITED),
        (
            "minimax",
            "openai_chat",
            sse(CHUNK, {"choices": [], "base_resp": {"status_code": 1027, "status_msg": "output new_sensitive"}}),
            FaultKind.CONTENT_FILTER,
        ),
        (
            "openrouter",
            "openai_chat",
            sse(CHUNK, {**CHUNK, "choices": [], "error": {"code": 503, "message": "Upstream busy"}}),
            FaultKind.OVERLOADED,
        ),
        (
            "groq",
            "openai_chat",
            sse(CHUNK, {"error": {"code": "tool_use_failed", "message": "no"}}),
            FaultKind.SERVER_ERROR,
        ),
        (
            "anthropic",
            "anthropic_messages",
            sse(OPENED, {"error": {"type": "overloaded_error", "message": "Overloaded"}}),
            FaultKind.OVERLOADED,
        ),
        (
            "anthropic",
            "anthropic_messages",
            sse(OPENED) + sse({"type": "rate_limit_error", "message": "Slow down"}, name="event: error\n"),
            FaultKind.RATE_LIMITED,
        ),
        (
            "openai",
            "openai_responses",
            sse({"type": "response.failed", "response": {"status": "failed", "error": {"code": "usage_not_included"}}}),
            FaultKind.PERMISSION,
        ),
        ("ollama", "ollama", b'{"error": "you have reached your weekly usage limit"}\n', FaultKind.QUOTA_EXHAUSTED),
    ],
)
def test_an_error_is_known_in_any_shape(vendor: str, wire: str, frames: bytes, expected: FaultKind) -> None:
    *_, last = events_of(codec(wire), [frames])
    assert isinstance(last, StreamError)
    assert classify_stream_error(vendor, last.payload).kind is expected


def test_what_proxies_add_to_the_end_of_a_stream_of_google_breaks_nothing() -> None:
    whole = sse({"candidates": [{"content": {"parts": [{"text": "Hi"}]}, "finishReason": "STOP"}]})
    done = b"data: [DONE]\n\n"
    assert events_of(codec("gemini"), [whole + done])[-1] == StreamEnd()
    cut = sse({"candidates": [{"content": {"parts": [{"text": "Hi"}]}}]})
    assert isinstance(events_of(codec("gemini"), [cut + done])[-1], StreamBroken)


def test_a_text_that_comes_in_one_piece_at_its_end_is_not_lost() -> None:
    frames = sse(
        {"type": "response.created", "response": {"id": "r"}},
        {"type": "response.output_text.done", "output_index": 0, "content_index": 0, "text": "Hi"},
        {"type": "response.completed", "response": {"id": "r", "status": "completed", "output": []}},
    )
    assert assembled(events_of(codec("openai_responses"), [frames])).text == "Hi"


def test_deepseek_is_told_some_reasoning_for_calls_of_others() -> None:
    """It refuses an assistant's call without (400 "must be passed back"), and takes a space for it."""
    call = Message("assistant", (ToolCall("c", "a", "{}"),))
    asked = ChatRequest((said(), call, Message("tool", (ToolResult("c", (Text("1"),)),))), "m", TOOLS)
    messages = json.loads(DeepSeek("m", api_key="k").codec.encode_request(asked).body)["messages"]
    assert messages[1]["reasoning_content"] == " "
    own = Message("assistant", (Thought("Hm.", origin="openai_chat/deepseek"), *call.parts))
    messages = json.loads(DeepSeek("m", api_key="k").codec.encode_request(ChatRequest((said(), own), "m")).body)[
        "messages"
    ]
    assert messages[1]["reasoning_content"] == "Hm."


def test_a_document_by_its_url_stays_one_where_the_vendor_fetches_it() -> None:
    link = Media("document", url="https://x.test/a.pdf", name="a.pdf")
    asked = ChatRequest((said("Read", link),), "m")
    body = OpenRouter("m", api_key="k").codec.encode_request(asked).body
    file = {"file_data": "https://x.test/a.pdf", "filename": "a.pdf"}
    assert json.loads(body)["messages"][0]["content"][1] == {"type": "file", "file": file}
    assert codec("openai_chat").decode_request(body).messages[0].parts[1] == link
    with pytest.raises(UnsupportedFeature):
        codec("openai_chat").encode_request(asked)


def test_what_went_wrong_is_said_in_words_wherever_a_vendor_puts_them() -> None:
    for payload in ({"code": 429, "msg": "slow down"}, {"base_resp": {"status_code": 1, "status_msg": "slow down"}}):
        for wire in sorted(WIRES):
            assert b"slow down" in codec(wire).stream_encoder().feed(StreamError(payload))


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"<html><h1>Sign in</h1> key=secretsecret", "a page and no answer: <html><h1>Sign in</h1> key=***"),
        (b" ", "the body is empty"),
    ],
)
def test_a_page_where_an_answer_was_expected_is_shown(body: bytes, told: str) -> None:
    fault = VLLM("m", base_url="http://localhost:8000/v1").read(200, {}, body, 0.0)
    assert isinstance(fault, Fault)
    assert (fault.kind, fault.message) == (FaultKind.INVALID_RESPONSE, told)
