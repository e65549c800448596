"""Chat Completions requests: what the neutral model becomes, and what a vendor of another accent gets instead."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient_llm.errors import Fault, FaultKind, InvalidAnswer, InvalidRequest, UnsupportedFeature
from resilient_llm.model import (
    ChatRequest,
    ChatResponse,
    Choice,
    Degradation,
    Extra,
    Json,
    Media,
    Message,
    Opaque,
    OutputFormat,
    Reasoning,
    Refusal,
    Text,
    Thought,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Usage,
)
from resilient_llm.wire.openai_chat import CODEC, Dialect, codec_for, decode_message, decode_tool

WIRE = "openai_chat"
HI = Message("user", (Text("Hi"),))


def body(request: ChatRequest, dialect: Dialect | None = None) -> Any:
    return json.loads(codec_for(dialect).encode_request(request).body)


def sent(*messages: Message, dialect: Dialect | None = None) -> Any:
    return body(ChatRequest(messages), dialect)["messages"]


def lost(request: ChatRequest, dialect: Dialect | None = None) -> set[str]:
    return {degradation.feature for degradation in codec_for(dialect).encode_request(request).degradations}


def decoded(**fields: Any) -> ChatRequest:
    messages = fields.pop("messages", [{"role": "user", "content": "Hi"}])
    return CODEC.decode_request(json.dumps({"model": "m", "messages": messages, **fields}).encode())


def again(**fields: Any) -> Any:
    return body(replace(decoded(**fields), source=None))


# --- settings ------------------------------------------------------------------------------------------------

EVERYTHING = ChatRequest(
    (HI,),
    model="m",
    tools=(Tool("f", "does f", {"type": "object"}, True), Tool("g")),
    tool_choice=ToolChoice("required", ("f",)),
    parallel_tool_calls=False,
    output=OutputFormat("json_schema", {"type": "object"}, "n", "d", True),
    reasoning=Reasoning("low"),
    max_tokens=9,
    temperature=0.5,
    top_p=0.9,
    frequency_penalty=0.1,
    presence_penalty=0.2,
    seed=4,
    stop=("a", "b"),
    n=2,
    logprobs=True,
    top_logprobs=3,
    stream=True,
    user="u",
    extra=(Extra(WIRE, {"verbosity": "low", "stream_options": {"include_obfuscation": False}}),),
)


def test_every_setting_has_its_field() -> None:
    assert body(EVERYTHING) == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "tools": [
            {
                "type": "function",
                "function": {"name": "f", "description": "does f", "parameters": {"type": "object"}, "strict": True},
            },
            {"type": "function", "function": {"name": "g"}},
        ],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "parallel_tool_calls": False,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "n", "description": "d", "schema": {"type": "object"}, "strict": True},
        },
        "reasoning_effort": "low",
        "max_completion_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "frequency_penalty": 0.1,
        "presence_penalty": 0.2,
        "seed": 4,
        "stop": ["a", "b"],
        "n": 2,
        "logprobs": True,
        "top_logprobs": 3,
        "stream": True,
        "stream_options": {"include_usage": True, "include_obfuscation": False},
        "user": "u",
        "verbosity": "low",
    }
    request = CODEC.encode_request(EVERYTHING)
    assert (request.path, request.degradations) == ("/chat/completions", ())
    assert replace(CODEC.decode_request(request.body), source=None) == EVERYTHING


def test_a_vendor_gets_its_own_names() -> None:
    dialect = Dialect(
        max_tokens_field="max_tokens", seed_field="random_seed", top_k=True, reasoning_object=True, stream_usage=False
    )
    request = ChatRequest((HI,), max_tokens=9, seed=4, top_k=5, reasoning=Reasoning("low", 100), stream=True)
    assert body(request, dialect) == {
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 9,
        "random_seed": 4,
        "top_k": 5,
        "reasoning": {"effort": "low", "max_tokens": 100},
        "stream": True,
    }
    assert body(ChatRequest((HI,), reasoning=Reasoning("low")), dialect)["reasoning"] == {"effort": "low"}
    assert body(ChatRequest((HI,), reasoning=Reasoning(budget=1)), dialect)["reasoning"] == {"max_tokens": 1}


@pytest.mark.parametrize(("budget", "effort"), [(0, "none"), (1024, "low"), (5000, "medium"), (60_000, "high")])
def test_a_thinking_budget_becomes_an_effort(budget: int, effort: str) -> None:
    request = ChatRequest((HI,), reasoning=Reasoning(budget=budget))
    assert body(request)["reasoning_effort"] == effort
    assert lost(request) == {"reasoning.budget"}
    assert body(replace(request, reasoning=Reasoning("max", budget)))["reasoning_effort"] == "max"
    assert "reasoning_effort" not in body(replace(request, reasoning=Reasoning()))


@pytest.mark.parametrize(
    ("choice", "dialect", "expected", "tools"),
    [
        (ToolChoice("auto"), None, "auto", 2),
        (ToolChoice("none", ("f",)), None, "none", 2),
        (ToolChoice("required", ("f",)), None, {"type": "function", "function": {"name": "f"}}, 2),
        (ToolChoice("required", ("f",)), Dialect(named_tool=False), "required", 1),
        (ToolChoice("auto", ("g",)), Dialect(allowed_tools=False), "auto", 1),
        (
            ToolChoice("auto", ("f",)),
            None,
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "f"}}]},
            },
            2,
        ),
    ],
)
def test_a_choice_of_tools_that_cannot_be_said_is_made_by_leaving_tools_out(
    choice: ToolChoice, dialect: Dialect | None, expected: Any, tools: int
) -> None:
    made = body(ChatRequest((HI,), tools=(Tool("f"), Tool("g")), tool_choice=choice), dialect)
    assert (made["tool_choice"], len(made["tools"])) == (expected, tools)


@pytest.mark.parametrize(
    "fields",
    [
        {"tool_choice": "required"},
        {"tool_choice": {"type": "function", "function": {"name": "f"}}},
        {
            "tool_choice": {
                "type": "allowed_tools",
                "allowed_tools": {
                    "mode": "required",
                    "tools": [{"type": "function", "function": {"name": x}} for x in "fg"],
                },
            }
        },
        {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{"type": "custom"}]}}},
        {"tool_choice": {"type": "custom", "custom": {"name": "c"}}},
        {"tool_choice": "some new word"},
        {"tools": [{"type": "custom", "custom": {"name": "c"}}]},
        {"tools": [{"type": "function", "function": {"name": "f", "new": 1}, "cache_control": {"type": "ephemeral"}}]},
        {"response_format": {"type": "text"}},
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "n"}}},
        {"response_format": {"type": "grammar", "grammar": "x"}},
        {"reasoning_effort": "low"},
        {"reasoning": {"enabled": True}},
        {"logit_bias": {"1": 2}, "metadata": {"a": "b"}},
        {"functions": [{"name": "f"}], "function_call": "auto"},
    ],
)
def test_settings_survive_even_if_only_this_wire_knows_them(fields: Any) -> None:
    assert again(**fields) == {"model": "m", "messages": [{"role": "user", "content": "Hi"}], **fields}


def test_a_vendor_is_spared_what_it_rejects() -> None:
    dialect = Dialect(rejects=frozenset({"user", "n"}))
    assert "user" not in body(ChatRequest((HI,), user="u"), dialect)
    assert lost(ChatRequest((HI,), user="u"), dialect) == {"user"}
    with pytest.raises(UnsupportedFeature, match="n"):
        body(ChatRequest((HI,), n=2), dialect)


def test_what_belongs_to_other_wires_is_left_out_or_refused() -> None:
    assert lost(ChatRequest((HI,), top_k=5, extra=(Extra("gemini", {"safetySettings": []}),))) == {
        "top_k",
        "gemini.safetySettings",
    }
    with pytest.raises(UnsupportedFeature, match="builtin_tools"):
        body(ChatRequest((HI,), extra=(Extra("anthropic_messages", {"tools": [{"type": "web_search"}]}),)))


# --- forwarding ----------------------------------------------------------------------------------------------


def test_a_body_of_this_wire_is_forwarded_with_model_and_stream_replaced() -> None:
    request = decoded(stream=True, new_field={"a": [1]}, max_tokens=5, stream_options={"x": 1})
    expected = {"messages": [{"role": "user", "content": "Hi"}], "new_field": {"a": [1]}, "max_tokens": 5}
    assert body(replace(request, model="n")) == {
        **expected,
        "model": "n",
        "stream": True,
        "stream_options": {"x": 1, "include_usage": True},
    }
    assert body(replace(request, model="", stream=False)) == {**expected, "model": "m", "stream": False}
    assert "stream" not in body(decoded())
    assert body(replace(decoded(), stream=True))["stream_options"] == {"include_usage": True}


def test_a_body_of_another_wire_is_translated() -> None:
    assert body(ChatRequest((HI,), source=Extra("gemini", {"contents": []}))) == {
        "messages": [{"role": "user", "content": "Hi"}]
    }


def test_ids_are_shortened_the_same_way_for_calls_and_results() -> None:
    call = {"id": "call_0123456789", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "assistant", "content": None, "tool_calls": [call, {**call, "id": "abcDEF123"}]},
        {"role": "tool", "tool_call_id": "call_0123456789", "content": "x"},
    ]
    mistral = Dialect(tool_id_length=9)
    request = decoded(messages=messages)
    for made in (body(request, mistral), body(replace(request, source=None), mistral)):
        first, second = [call["id"] for call in made["messages"][0]["tool_calls"]]
        assert (len(first), first.isalnum(), second) == (9, True, "abcDEF123")
        assert made["messages"][1]["tool_call_id"] == first
    assert body(request)["messages"] == messages


# --- messages ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        {"role": "system", "content": "Be kind."},
        {"role": "developer", "content": "Be kind.", "name": "dev"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "high"}}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,!"}}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {}}]},
        {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}}]},
        {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "!", "format": "mp3"}}]},
        {"role": "user", "content": [{"type": "file", "file": {"file_id": "f", "filename": "x.pdf"}}]},
        {"role": "user", "content": [{"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA"}}]},
        {"role": "user", "content": [{"type": "file", "file": {"file_data": "?"}}]},
        {"role": "user", "content": [{"type": "hologram", "hologram": {}}]},
        {"role": "user", "content": [{"type": "text"}]},
        {"role": "assistant", "content": "Yes", "refusal": "No", "audio": {"id": "a"}},
        {
            "role": "assistant",
            "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
            "prefix": True,
        },
        {"role": "assistant", "content": "Yes", "reasoning_content": "Hm."},
        {"role": "assistant", "content": "Yes", "reasoning": "Hm.", "reasoning_details": [{"type": "x"}]},
        {"role": "assistant", "content": "", "reasoning_details": [{"type": "x"}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{"}, "index": 0}],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "a", "type": "custom", "custom": {"name": "c", "input": "x"}}],
        },
        {"role": "tool", "tool_call_id": "a", "content": "x", "name": "f"},
        {
            "role": "tool",
            "tool_call_id": "a",
            "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
            "more": 1,
        },
        {"role": "function", "name": "f", "content": "x"},
    ],
)
def test_messages_survive_even_if_only_this_wire_knows_them(message: Any) -> None:
    assert again(messages=[message])["messages"] == [message]


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ((), {"content": ""}),
        ((Refusal("No"),), {"content": None, "refusal": "No"}),
        ((Text("a"), Text("b")), {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}),
        ((Text("a", ({"type": "x"},)), Media("image", url="u")), {"content": "a"}),
        ((Thought("Hm.", "sig", origin="anthropic_messages"), Text("a")), {"content": "a"}),
        ((Opaque("gemini", {"type": "x"}), Text("a")), {"content": "a"}),
        ((Opaque(WIRE, {"type": "reference"}),), {"content": [{"type": "reference"}]}),
        (
            (ToolCall("a", "f", ""),),
            {
                "content": None,
                "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
            },
        ),
    ],
)
def test_what_the_assistant_said(parts: Any, expected: Any) -> None:
    assert sent(Message("assistant", parts)) == [{"role": "assistant", **expected}]


def test_what_the_assistant_cannot_be_quoted_with_is_noted() -> None:
    said = (
        Thought("Hm.", origin="x"),
        Text("a", ({"type": "x"},)),
        Media("image", url="u"),
        Opaque("gemini", {"type": "t"}),
    )
    assert lost(ChatRequest((Message("assistant", said),))) == {
        "reasoning",
        "annotations",
        "media_of_assistant",
        "gemini.t",
    }
    assert lost(ChatRequest((Message("user", (Thought("Hm."), ToolCall("a", "f"), Text("x"))),))) == {
        "reasoning",
        "tools",
    }


def test_reasoning_goes_back_to_who_did_it() -> None:
    groq = Dialect(vendor="groq", reasoning_field="reasoning")
    message = Message("assistant", (Thought("Hm.", origin="openai_chat/groq"), Text("a")))
    assert sent(message, dialect=groq) == [{"role": "assistant", "content": "a", "reasoning": "Hm."}]
    assert sent(message) == [{"role": "assistant", "content": "a"}]
    assert sent(message, dialect=replace(groq, returns_reasoning=False)) == [{"role": "assistant", "content": "a"}]
    mistral = Dialect(vendor="mistral", reasoning_field="content")
    said = Message("assistant", (Thought("Hm.", origin="openai_chat/mistral"), Text("a")))
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}
    assert sent(said, dialect=mistral)[0]["content"] == [thinking, {"type": "text", "text": "a"}]
    assert sent(Message("assistant", (Text("a"),)), dialect=mistral)[0]["content"] == "a"


def test_mistrals_older_words_are_understood() -> None:
    mistral = codec_for(Dialect(vendor="mistral", reasoning_field="content"))
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}], "closed": True}
    said = {"role": "assistant", "content": [thinking, {"type": "text", "text": "a"}]}
    request = mistral.decode_request(json.dumps({"messages": [said], "tool_choice": "any"}).encode())
    assert request.tool_choice == ToolChoice("required")
    assert request.messages[0].parts[0] == Thought(
        "Hm.", origin="openai_chat/mistral", extra=Extra(WIRE, {"closed": True})
    )
    assert json.loads(mistral.encode_request(replace(request, source=None)).body)["messages"] == [said]


def test_a_refusal_the_user_quotes_is_text() -> None:
    assert sent(Message("user", (Refusal("No"),))) == [{"role": "user", "content": "No"}]


def test_results_follow_their_calls_and_media_follow_the_results() -> None:
    image = Media("image", "image/png", b"\0\0\0")
    made = sent(
        Message("user", (ToolResult("a", (Text("x"), image), "f"), ToolResult("b", (image,)), Text("And?"))),
        Message("tool", (ToolResult("c", (Json({"k": 1}),), is_error=True),)),
        Message("tool", (ToolResult("d", (image,)),)),
    )
    url = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    assert made == [
        {"role": "tool", "tool_call_id": "a", "content": "x", "name": "f"},
        {"role": "tool", "tool_call_id": "b", "content": "(content follows)"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Content returned by tool call a:"},
                url,
                {"type": "text", "text": "Content returned by tool call b:"},
                url,
            ],
        },
        {"role": "user", "content": "And?"},
        {"role": "tool", "tool_call_id": "c", "content": '{"k":1}'},
        {"role": "tool", "tool_call_id": "d", "content": "(content follows)"},
        {"role": "user", "content": [{"type": "text", "text": "Content returned by tool call d:"}, url]},
    ]
    result = Message("tool", (ToolResult("d", (image,), is_error=True),))
    assert lost(ChatRequest((result,))) == {"media_in_tool_result", "tool_result.is_error"}
    assert sent(result, dialect=Dialect(tool_media=True)) == [{"role": "tool", "tool_call_id": "d", "content": [url]}]
    assert sent(Message("tool", (ToolResult("e"), Text("x")))) == [
        {"role": "tool", "tool_call_id": "e", "content": ""},
        {"role": "user", "content": "x"},
    ]


def test_developers_become_system_where_nobody_knows_them() -> None:
    message = Message("developer", (Text("x"),))
    assert sent(message, dialect=Dialect(developer_role=False)) == [{"role": "system", "content": "x"}]
    assert lost(ChatRequest((message,)), Dialect(developer_role=False)) == {"developer"}


@pytest.mark.parametrize(
    ("media", "dialect", "part"),
    [
        (
            Media("image", None, b"\0\0\0"),
            None,
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        ),
        (
            Media("audio", None, b"\0\0\0"),
            None,
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        ),
        (
            Media("audio", "audio/mpeg", b"\0\0\0"),
            None,
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}},
        ),
        (
            Media("document", None, b"\0\0\0"),
            None,
            {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA"}},
        ),
        (
            Media("video", url="u"),
            Dialect(media=frozenset({"video_url"})),
            {"type": "video_url", "video_url": {"url": "u"}},
        ),
        (
            Media("document", url="u"),
            Dialect(media=frozenset({"document_url"})),
            {"type": "document_url", "document_url": "u"},
        ),
    ],
)
def test_media_find_their_place(media: Media, dialect: Dialect | None, part: Any) -> None:
    assert sent(Message("user", (media,)), dialect=dialect)[0]["content"] == [part]


@pytest.mark.parametrize(
    ("media", "feature"),
    [
        (Media("image", file_id="f"), "file_id"),
        (Media("video", url="u"), "video_url"),
        (Media("video", None, b"x"), "video"),
        (Media("audio", url="u"), "audio_url"),
        (Media("document", url="u"), "document_url"),
    ],
)
def test_media_without_a_place_are_refused(media: Media, feature: str) -> None:
    with pytest.raises(UnsupportedFeature) as caught:
        sent(Message("user", (media,)))
    assert caught.value.feature == feature


def test_a_link_in_mistrals_short_form_is_a_link() -> None:
    message = {
        "role": "user",
        "content": [
            {"type": "image_url", "image_url": "https://x/y.png"},
            {"type": "document_url", "document_url": "u"},
        ],
    }
    assert decode_message(message).parts == (Media("image", url="https://x/y.png"), Media("document", url="u"))


def test_tool_messages_with_unknown_content_keep_it_as_json() -> None:
    message = {"role": "tool", "tool_call_id": "a", "content": [{"type": "x"}, {"type": "refusal", "refusal": "r"}]}
    assert decode_message(message).parts == (ToolResult("a", (Json({"type": "x"}), Json(None))),)


def test_single_messages_and_tools_can_be_read() -> None:
    assert decode_message({"role": "user", "content": "Hi"}) == HI
    with pytest.raises(InvalidRequest, match="not a message"):
        decode_message({"role": "user", "content": "Hi", "name": 5})
    assert decode_tool({"type": "function", "function": {"name": "f", "parameters": {}}}) == Tool("f", parameters={})
    for wrong in ({}, {"function": 1}, {"function": {}}):
        with pytest.raises(InvalidRequest):
            decode_tool(wrong)


# --- wrong requests ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"messages": []},
        {"messages": None},
        {"messages": "Hi"},
        {"messages": ["Hi"]},
        {"temperature": "hot"},
        {"temperature": True},
        {"max_tokens": 1.5},
        {"n": "2"},
        {"stop": 3},
        {"stop": [3]},
        {"stream": "yes"},
        {"tools": {}},
        {"tools": [{"type": "function", "function": {"name": 1}}]},
        {"tool_choice": 1},
        {"response_format": "json"},
        {"reasoning": "low"},
        {"user": 1},
    ],
)
def test_a_field_of_the_wrong_type_is_named(wrong: Any) -> None:
    with pytest.raises(InvalidRequest):
        decoded(**wrong)


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"\xff", b'"x"', b"[" * 100_000])
def test_a_body_that_is_no_object_is_no_request_and_no_answer(raw: bytes) -> None:
    with pytest.raises(InvalidRequest):
        CODEC.decode_request(raw)
    with pytest.raises(InvalidAnswer):
        CODEC.decode_response(raw)


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "text", "id", "function", "name", "image_url", "url", "file"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)
PART = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "image_url", "input_audio", "file", "thinking", "refusal", "x"])},
    optional=dict.fromkeys(("text", "image_url", "input_audio", "file", "thinking", "refusal"), JSON),
)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant", "tool", "function"])},
    optional={"content": st.lists(PART, max_size=3) | JSON, "tool_calls": JSON, "reasoning": JSON, "name": JSON},
)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(MESSAGE, max_size=3),
    st.dictionaries(st.sampled_from(["tools", "tool_choice", "stop", "reasoning", "user"]), JSON),
)
def test_any_body_is_a_request_or_refused(messages: Any, fields: Any) -> None:
    try:
        request = CODEC.decode_request(json.dumps({"messages": messages, **fields}).encode())
        CODEC.encode_request(replace(request, source=None))
    except (InvalidRequest, UnsupportedFeature):
        return
    CODEC.encode_request(request)


# --- answers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "payload",
    [
        {"error": {"message": "busy"}, "choices": [{"message": {"content": "a"}}]},
        {"choices": [{"error": {"code": 502}, "message": {"content": ""}}]},
        {"choices": []},
        {"choices": None},
        {},
    ],
)
def test_a_success_around_an_error_is_no_answer(payload: Any) -> None:
    with pytest.raises(InvalidAnswer) as caught:
        CODEC.decode_response(json.dumps(payload).encode())
    assert caught.value.payload == payload


def answer(message: Any, finish: Any = "stop", **more: Any) -> ChatResponse:
    return CODEC.decode_response(
        json.dumps({"choices": [{"message": message, "finish_reason": finish}], **more}).encode()
    )


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("tool_calls", "tool_calls"),
        ("function_call", "tool_calls"),
        ("content_filter", "content_filter"),
        ("model_length", "length"),
        ("error", "error"),
        ("abort", "error"),
        ("a new word", "other"),
        ("", "stop"),
        (None, "stop"),
        (1, "stop"),
    ],
)
def test_reasons_are_understood(word: Any, reason: str) -> None:
    assert answer({"content": "a"}, word).finish_reason == reason


def test_a_call_without_a_reason_is_a_reason() -> None:
    assert answer({"tool_calls": [{"id": "a", "function": {"name": "f"}}]}, "").finish_reason == "tool_calls"


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}, Usage(3, 2, total_tokens=5)),
        (
            {"prompt_tokens": 3, "prompt_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 1}},
            Usage(3, 0, 2, 1),
        ),
        ({"prompt_tokens": 3, "completion_tokens_details": {"reasoning_tokens": 2}}, Usage(3, 0, reasoning_tokens=2)),
        ({"prompt_tokens": 3, "prompt_cache_hit_tokens": 2}, Usage(3, 0, 2)),
        ({"prompt_tokens": 9, "cache_read_input_tokens": 2, "cache_creation_input_tokens": 4}, Usage(9, 0, 2, 4)),
        ({"prompt_tokens": "3", "completion_tokens": None}, Usage()),
        ({}, None),
        (None, None),
        ([], None),
    ],
)
def test_tokens_are_counted(usage: Any, expected: Usage | None) -> None:
    found = answer({"content": "a"}, usage=usage).usage
    assert (replace(found, extra=None) if found else None) == expected


def test_an_old_function_call_goes_back_the_old_way() -> None:
    response = answer({"content": None, "function_call": {"name": "f", "arguments": "{}"}}, "function_call")
    assert (response.tool_calls[0].name, response.finish_reason) == ("f", "tool_calls")
    choice = json.loads(CODEC.encode_response(response))["choices"][0]
    assert choice["message"]["function_call"] == {"name": "f", "arguments": "{}"}
    assert choice["finish_reason"] == "function_call"


@pytest.mark.parametrize(
    "message",
    [
        {"content": "a", "annotations": [{"type": "url_citation", "url_citation": {"url": "u"}}]},
        {"content": "", "annotations": [{"type": "file", "file": {"hash": "h"}}]},
        {"content": "a", "audio": {"id": "x", "data": "AAAA"}, "thought_signature": "s"},
        {"content": "a", "reasoning_content": "Hm."},
        {"content": "a", "refusal": "No"},
    ],
)
def test_what_a_message_says_beyond_text_survives(message: Any) -> None:
    made = json.loads(CODEC.encode_response(answer(message)))["choices"][0]["message"]
    assert {key: value for key, value in made.items() if value is not None} == {
        "role": "assistant",
        **{key: value for key, value in message.items() if value != ""},
    }


def test_alternatives_are_answers_of_their_own() -> None:
    choices = [
        {"message": {"content": "a"}, "finish_reason": "stop"},
        {"message": {"content": "b"}, "finish_reason": "length", "native_finish_reason": "MAX", "seed": 1},
    ]
    response = CODEC.decode_response(json.dumps({"choices": choices}).encode())
    assert response.alternatives == (
        Choice((Text("b"),), "length", "length", Extra(WIRE, {"@choice": {"native_finish_reason": "MAX", "seed": 1}})),
    )
    made = json.loads(CODEC.encode_response(response))["choices"]
    assert [(c["index"], c["message"]["content"], c["finish_reason"]) for c in made] == [
        (0, "a", "stop"),
        (1, "b", "length"),
    ]


def test_an_answer_of_another_wire_is_complete() -> None:
    made = json.loads(
        CODEC.encode_response(
            ChatResponse(
                (
                    Text("a", ({"type": "url_citation", "url_citation": {}}, {"cited_text": "x"})),
                    Text("b"),
                    Refusal("no"),
                    Opaque("gemini", {}),
                    Opaque(WIRE, {"type": "custom", "id": "c"}),
                    ToolCall("t", "f", ""),
                    Media("image", url="u"),
                ),
                "other",
                usage=Usage(3, 2, 1, 0, 1),
            )
        )
    )
    assert made == {
        "id": "chatcmpl-0",
        "object": "chat.completion",
        "created": 0,
        "model": "",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "ab",
                    "refusal": "no",
                    "annotations": [{"type": "url_citation", "url_citation": {}}],
                    "tool_calls": [
                        {"type": "custom", "id": "c"},
                        {"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                    ],
                },
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 3,
            "completion_tokens": 2,
            "total_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 1},
            "completion_tokens_details": {"reasoning_tokens": 1},
        },
    }


@pytest.mark.parametrize("kind", list(FaultKind))
def test_every_fault_has_a_body_and_a_frame(kind: FaultKind) -> None:
    fault = Fault(kind)
    error = json.loads(CODEC.encode_error(fault, "no"))["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert CODEC.encode_stream_error(fault, "no").endswith(b"\n\n")
    assert CODEC.name == WIRE


def test_degradations_say_what_was_done() -> None:
    (degradation,) = CODEC.encode_request(ChatRequest((HI,), top_k=1)).degradations
    assert degradation == Degradation("top_k", "left out")


def test_of_two_names_of_a_setting_the_newer_counts() -> None:
    assert decoded(max_completion_tokens=5, max_tokens=7).max_tokens == 5
    assert decoded(max_completion_tokens=None, max_tokens=7).max_tokens == 7


def test_an_empty_piece_of_text_beside_others_says_nothing() -> None:
    message = {"role": "assistant", "content": [{"type": "text", "text": ""}, {"type": "text", "text": "Hi"}]}
    answer = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    assert CODEC.decode_response(json.dumps(answer).encode()).parts == (Text("Hi"),)
