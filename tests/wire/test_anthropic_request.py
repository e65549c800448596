"""A neutral request is put so that Claude takes it; what it cannot take is refused or said, never dropped silently."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from resilient_llm.errors import InvalidRequest, UnsupportedFeature
from resilient_llm.model import (
    ChatRequest,
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
)
from resilient_llm.wire.anthropic import CODEC, VERSION_2026, WIRE, codec_for
from tests.wire.asking import PNG, TOOL, USER, Asking, request

SETTINGS = {"max_tokens": 4096, "messages": [{"role": "user", "content": "Hello"}]}
"""The body of a request that says no more than hello."""


ASKING = Asking(CODEC)
encoded, body_of, turns = ASKING.encoded, ASKING.body_of, ASKING.turns


def decoded(**fields: Any) -> ChatRequest:
    return CODEC.decode_request(json.dumps({**SETTINGS, **fields}).encode())


# --- the whole ------------------------------------------------------------------------------------------------------


def test_a_plain_question_needs_no_more_than_a_default_limit() -> None:
    out = CODEC.encode_request(request())
    assert json.loads(out.body) == SETTINGS
    assert (out.path, out.headers) == ("/v1/messages", (("anthropic-version", "2023-06-01"),))


def test_later_models_may_write_longer_by_default() -> None:
    assert body_of(request(model="claude-sonnet-4-5"))["max_tokens"] == 16384
    assert body_of(request(model="claude-3-5-haiku-20241022"))["max_tokens"] == 4096


def test_every_setting_this_wire_has_is_sent() -> None:
    settings: dict[str, Any] = {
        "model": "claude-sonnet-4-5",
        "max_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 3,
        "stop": ("END",),
        "stream": True,
        "user": "u1",
        "output": OutputFormat("text"),
    }
    assert body_of(request(**settings)) == {
        "model": "claude-sonnet-4-5",
        "max_tokens": 9,
        "messages": SETTINGS["messages"],
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 3,
        "stop_sequences": ["END"],
        "stream": True,
        "metadata": {"user_id": "u1"},
    }


@pytest.mark.parametrize(
    ("settings", "feature"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"extra": (Extra("openai_responses", {"tools": [{"type": "web_search"}]}),)}, "builtin_tools"),
        ({"tools": (Tool("a.b"),)}, "tool.name"),
    ],
)
def test_what_would_change_the_answer_is_refused(settings: dict[str, Any], feature: str) -> None:
    with pytest.raises(UnsupportedFeature) as caught:
        CODEC.encode_request(request(**settings))
    assert (caught.value.feature, caught.value.target.partition(" ")[0]) == (feature, WIRE)


@pytest.mark.parametrize(
    ("media", "feature"),
    [
        (Media("audio", "audio/wav", b"RIFF"), "audio"),
        (Media("video", "video/mp4", b"...."), "video"),
        (Media("image", "image/tiff", b"II*"), "media_type"),
        (Media("image", None, b"?"), "media_type"),
        (Media("image", url="s3://bucket/key"), "image_url"),
        (Media("document", "application/msword", b"..."), "media_type"),
        (Media("document", file_id="file-1"), "file_id"),
        (Media("document", file_id="file-1", extra=Extra("openai_chat", {})), "file_id"),
    ],
)
def test_media_this_wire_cannot_hold_are_refused(media: Media, feature: str) -> None:
    for part in (media, ToolResult("1", (media,))):
        with pytest.raises(UnsupportedFeature) as caught:
            CODEC.encode_request(request(Message("user", (part,))))
        assert caught.value.feature == feature


@pytest.mark.parametrize(
    ("settings", "feature"),
    [
        ({"seed": 1}, "seed"),
        ({"frequency_penalty": 0.1}, "frequency_penalty"),
        ({"presence_penalty": 0.1}, "presence_penalty"),
        ({"stop": ("\n",)}, "stop"),
        ({"extra": (Extra("openai_chat", {"service_tier": "flex"}),)}, "openai_chat.service_tier"),
    ],
)
def test_what_can_be_done_without_is_left_out_and_said(settings: dict[str, Any], feature: str) -> None:
    body, lost = encoded(request(**settings))
    assert body == SETTINGS
    assert list(lost) == [feature]


def test_temperature_ends_at_one() -> None:
    body, lost = encoded(request(temperature=1.7))
    assert body["temperature"] == 1
    assert "temperature" in lost


def test_models_since_4_7_are_sent_no_sampling_parameters() -> None:
    body, lost = encoded(request(model="claude-opus-4-8", temperature=0.0, top_p=1.0, top_k=1))
    assert body.keys() == {"model", "max_tokens", "messages"}
    assert lost.keys() == {"temperature", "top_p", "top_k"}


def test_a_claude_without_number_counts_as_the_newest() -> None:
    assert "temperature" not in encoded(request(model="claude-mythos-preview", temperature=0.0))[0]


# --- messages -------------------------------------------------------------------------------------------------------


def test_system_messages_at_the_start_move_to_their_own_field() -> None:
    one, two = Message("system", (Text("Be brief."),)), Message("system", (Text("Be kind."),))
    assert body_of(request(one, USER))["system"] == "Be brief."
    texts = [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Be kind."}]
    assert body_of(request(one, two, USER))["system"] == texts


def test_a_developer_message_is_a_system_message_and_that_is_said() -> None:
    body, lost = encoded(request(Message("developer", (Text("Be brief."),)), USER))
    assert body["system"] == "Be brief."
    assert list(lost) == ["developer"]


def test_a_later_system_message_keeps_its_place() -> None:
    messages = (USER, Message("assistant", (Text("Hi"),)), USER, Message("system", (Text("Be brief."),)))
    new, lost = encoded(request(*messages, model="claude-opus-5"))
    assert ([turn["role"] for turn in new["messages"]], lost) == (["user", "assistant", "user", "system"], {})
    old, lost = encoded(request(*messages, model="claude-sonnet-4-5"))
    assert [turn["role"] for turn in old["messages"]] == ["user", "assistant", "user"]
    assert old["messages"][-1]["content"][-1] == {"type": "text", "text": "Be brief."}
    assert list(lost) == ["system_position"]


def test_a_conversation_of_system_messages_alone_is_asked_by_the_user() -> None:
    body, lost = encoded(request(Message("system", (Text("Tell a joke."),))))
    assert body == {"max_tokens": 4096, "messages": [{"role": "user", "content": "Tell a joke."}]}
    assert list(lost) == ["system"]


def test_the_results_of_parallel_calls_stand_together_directly_after_the_calls() -> None:
    calls = Message("assistant", (ToolCall("a", "look"), ToolCall("b", "look")))
    results = [Message("tool", (ToolResult(ident, (Text(ident.upper()),)),)) for ident in "ab"]
    expected = [
        ("user", "Hello"),
        ("assistant", [{"type": "tool_use", "id": ident, "name": "look", "input": {}} for ident in "ab"]),
        (
            "user",
            [
                {"type": "tool_result", "tool_use_id": "a", "content": "A"},
                {"type": "tool_result", "tool_use_id": "b", "content": "B"},
                {"type": "text", "text": "Hello"},
            ],
        ),
    ]
    assert turns(USER, calls, *results, USER) == expected
    assert turns(USER, calls, results[0], USER, results[1]) == expected


def test_a_system_turn_does_not_come_between_calls_and_results() -> None:
    calls, note = (
        Message("assistant", (ToolCall("a", "look"),)),
        Message("system", (Text("Note."),), extra=Extra(WIRE, {})),
    )
    result = Message("tool", (ToolResult("a"),))
    assert [role for role, _ in turns(USER, calls, note, result)] == ["user", "assistant", "user", "system"]


def test_a_result_says_what_came_out_and_whether_it_failed() -> None:
    parts = (Text("see"), Media("image", "image/png", PNG), Json({"a": 1}))
    [(_, [block])] = turns(Message("tool", (ToolResult("a", parts, is_error=True),)))
    assert block["is_error"] is True
    assert [inner["type"] for inner in block["content"]] == ["text", "image", "text"]
    assert block["content"][2]["text"] == '{"a":1}'
    [(_, [empty])] = turns(Message("tool", (ToolResult("a", (Text(""),)),)))
    assert empty == {"type": "tool_result", "tool_use_id": "a"}


def test_foreign_identifiers_become_the_same_hash_for_call_and_result() -> None:
    call, result = Message("assistant", (ToolCall("fc:1/ü", "look"),)), Message("tool", (ToolResult("fc:1/ü"),))
    body, lost = encoded(request(USER, call, result))
    [made], [used] = body["messages"][1]["content"], body["messages"][2]["content"]
    assert made["id"] == used["tool_use_id"]
    assert made["id"].replace("_", "").isalnum()
    assert list(lost) == ["tool_call.id"]


def test_arguments_that_are_no_object_are_wrapped_and_that_is_said() -> None:
    body, lost = encoded(request(USER, Message("assistant", (ToolCall("a", "bad name!", '{"cut": '),))))
    assert body["messages"][1]["content"][0]["input"] == {"arguments": '{"cut": '}
    assert body["messages"][1]["content"][0]["name"] == "bad_name_"
    assert lost.keys() == {"tool_call.arguments", "tool_call.name"}


@pytest.mark.parametrize(
    "thought",
    [
        Thought("Hm.", "c2ln", origin="bedrock_converse"),
        Thought("Hm.", "c2ln", origin="gemini"),
        Thought("Hm.", None, origin=WIRE),
        Thought("", "", redacted=True, origin=WIRE),
    ],
)
def test_thoughts_this_vendor_did_not_sign_never_travel_to_it(thought: Thought) -> None:
    body, lost = encoded(request(USER, Message("assistant", (thought, Text("Hi")))))
    assert body["messages"][1]["content"] == "Hi"
    assert list(lost) == ["reasoning"]


def test_its_own_thoughts_come_back_to_it_unchanged() -> None:
    thoughts = (Thought("Hm.", "c2ln", origin=WIRE), Thought("", "ZGF0YQ==", redacted=True, origin=WIRE))
    [_, (_, blocks)] = turns(USER, Message("assistant", (*thoughts, Text("Hi"))))
    assert blocks[:2] == [
        {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "ZGF0YQ=="},
    ]


def test_empty_texts_and_messages_are_not_sent() -> None:
    nothing = Message("assistant", (Text(" \n"), Refusal("")))
    assert turns(USER, nothing, Message("user", ())) == [("user", "Hello")]
    assert turns(USER, Message("assistant", (Refusal("No."),)))[1] == ("assistant", "No.")


def test_a_prefill_must_not_end_in_white_space() -> None:
    body, lost = encoded(request(USER, Message("assistant", (Text("It is \n"),))))
    assert body["messages"][1]["content"] == "It is"
    assert list(lost) == ["prefill"]
    assert turns(USER, Message("assistant", (ToolCall("a", "look"),)))[1][0] == "assistant"


def test_media_go_in_as_they_are() -> None:
    parts = (
        Media("image", None, PNG),
        Media("image", url="https://x.test/a.png"),
        Media("document", None, b"%PDF-1.7", name="Paper"),
        Media("document", "text/plain", b"Words"),
        Media("document", file_id="file_1", extra=Extra(WIRE, {"context": "c"})),
    )
    [(_, blocks)] = turns(Message("user", parts))
    assert [(block["type"], block["source"]["type"]) for block in blocks] == [
        *(("image", "base64"), ("image", "url"), ("document", "base64"), ("document", "text"), ("document", "file"))
    ]
    assert (blocks[0]["source"]["media_type"], blocks[2]["source"]["media_type"]) == ("image/png", "application/pdf")
    assert (blocks[2]["title"], blocks[3]["source"]["data"], blocks[4]["context"]) == ("Paper", "Words", "c")


def test_blocks_and_fields_of_other_vendors_stay_behind_and_that_is_said() -> None:
    note = {"type": "url_citation", "url": "https://x.test"}
    parts = (
        Opaque("openai_responses", {"type": "web_search_call"}),
        Opaque("bedrock_converse", {"cachePoint": {}}),
        Text("Hi", (note,), Extra("gemini", {"thoughtSignature": "s"})),
    )
    body, lost = encoded(request(USER, Message("assistant", parts, "bob", Extra("openai_chat", {"audio_id": "a"}))))
    assert body["messages"][1] == {"role": "assistant", "content": "Hi"}
    assert lost.keys() == {
        *("openai_responses.web_search_call", "bedrock_converse.block", "annotations", "gemini.thoughtSignature"),
        *("message.name", "openai_chat.audio_id"),
    }


# --- tools ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choice", "parallel", "expected"),
    [
        (None, None, None),
        (None, True, None),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        (ToolChoice("auto"), None, {"type": "auto"}),
        (ToolChoice("none"), False, {"type": "none"}),
        (ToolChoice("required"), False, {"type": "any", "disable_parallel_tool_use": True}),
        (ToolChoice("required", ("look",)), None, {"type": "tool", "name": "look"}),
    ],
)
def test_the_choice_of_tools(choice: ToolChoice | None, parallel: bool | None, expected: object) -> None:
    body = body_of(request(tools=(TOOL,), tool_choice=choice, parallel_tool_calls=parallel))
    assert body.get("tool_choice") == expected
    assert "tool_choice" not in body_of(request(tool_choice=choice, parallel_tool_calls=parallel))


def test_a_choice_of_several_is_made_by_offering_only_those() -> None:
    tools = (TOOL, Tool("hear"), Tool("smell"))
    body, lost = encoded(request(tools=tools, tool_choice=ToolChoice("required", ("look", "hear"))))
    assert [tool["name"] for tool in body["tools"]] == ["look", "hear"]
    assert body["tool_choice"] == {"type": "any"}
    assert list(lost) == ["tool_choice.allowed"]


def test_a_tool_always_has_a_schema_of_an_object() -> None:
    tools = (
        Tool("a"),
        Tool("b", parameters={"properties": {}}, strict=True, extra=Extra(WIRE, {"defer_loading": True})),
    )
    assert body_of(request(tools=tools))["tools"] == [
        {"name": "a", "input_schema": {"type": "object", "properties": {}}},
        {"name": "b", "strict": True, "input_schema": {"type": "object", "properties": {}}, "defer_loading": True},
    ]


# --- the shape of the answer ----------------------------------------------------------------------------------------


def test_a_schema_is_closed_and_freed_of_what_cannot_be_enforced() -> None:
    schema = {
        "type": "object",
        "properties": {
            "minimum": {"type": "integer", "minimum": 1},
            "list": {"type": "array", "items": {"anyOf": [{"type": "object"}, {"type": "null"}]}, "maxItems": 3},
            "word": {"enum": ["maxLength"], "const": {"type": "object"}},
        },
        "additionalProperties": {"type": "string"},
        "$defs": {"d": {"type": "string", "pattern": "x"}},
        "not": True,
    }
    body, lost = encoded(request(output=OutputFormat("json_schema", schema, "n", "d", True)))
    assert body["output_config"]["format"] == {
        "type": "json_schema",
        "schema": {
            "type": "object",
            "properties": {
                "minimum": {"type": "integer"},
                "list": {
                    "type": "array",
                    "items": {"anyOf": [{"type": "object", "additionalProperties": False}, {"type": "null"}]},
                },
                "word": {"enum": ["maxLength"], "const": {"type": "object"}},
            },
            "additionalProperties": False,
            "$defs": {"d": {"type": "string"}},
            "not": True,
        },
    }
    assert lost.keys() == {"output.description", "output.schema"}


@pytest.mark.parametrize("system", [(), (Message("system", (Text("Be brief."),)),)])
def test_any_json_object_is_asked_for_in_words(system: tuple[Message, ...]) -> None:
    body, lost = encoded(request(*system, USER, output=OutputFormat("json_object")))
    blocks = body["system"] if system else [{"type": "text", "text": body["system"]}]
    assert len(blocks) == len(system) + 1
    assert "JSON object" in blocks[-1]["text"]
    assert list(lost) == ["json_object"]


def test_an_output_format_without_schema_is_any_object() -> None:
    body = body_of(request(output=OutputFormat("json_schema")))
    assert body["output_config"]["format"]["schema"] == {"type": "object", "additionalProperties": False}


# --- reasoning ------------------------------------------------------------------------------------------------------

NEW, OLD = "claude-opus-5", "claude-sonnet-4-5"


@pytest.mark.parametrize(
    ("model", "reasoning", "expected", "lost"),
    [
        (NEW, Reasoning(), {}, []),
        (NEW, Reasoning("none"), {"thinking": {"type": "disabled"}}, []),
        (OLD, Reasoning(budget=0), {"thinking": {"type": "disabled"}}, []),
        (NEW, Reasoning("high"), {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}, []),
        (NEW, Reasoning("xhigh"), {"thinking": {"type": "adaptive"}, "output_config": {"effort": "xhigh"}}, []),
        (
            "claude-opus-4-6",
            Reasoning("xhigh"),
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}},
            ["reasoning.effort"],
        ),
        (
            NEW,
            Reasoning("minimal"),
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
            ["reasoning.effort"],
        ),
        (NEW, Reasoning("utmost"), {"thinking": {"type": "adaptive"}}, ["reasoning.effort"]),
        (
            OLD,
            Reasoning("low"),
            {"thinking": {"type": "enabled", "budget_tokens": 2048}, "max_tokens": 18432},
            ["reasoning.effort"],
        ),
        (
            OLD,
            Reasoning("?"),
            {"thinking": {"type": "enabled", "budget_tokens": 8192}, "max_tokens": 24576},
            ["reasoning.effort"],
        ),
        (
            NEW,
            Reasoning(budget=3000),
            {"thinking": {"type": "enabled", "budget_tokens": 3000}, "max_tokens": 19384},
            [],
        ),
        (
            OLD,
            Reasoning(budget=10),
            {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 17408},
            ["reasoning.budget"],
        ),
    ],
)
def test_how_hard_to_think(model: str, reasoning: Reasoning, expected: dict[str, Any], lost: list[str]) -> None:
    body, given_up = encoded(request(model=model, reasoning=reasoning))
    for name in ("model", "messages"):
        del body[name]
    assert body == {"max_tokens": 16384, **expected}
    assert list(given_up) == lost


def test_thinking_fits_into_the_callers_limit() -> None:
    body, _ = encoded(request(model=OLD, reasoning=Reasoning("high"), max_tokens=2000))
    assert (body["thinking"]["budget_tokens"], body["max_tokens"]) == (1999, 2000)
    body, lost = encoded(request(model=OLD, reasoning=Reasoning("high"), max_tokens=1024))
    assert "thinking" not in body
    assert list(lost) == ["reasoning"]


def test_a_forced_tool_rules_thinking_out() -> None:
    settings: dict[str, Any] = {"tools": (TOOL,), "tool_choice": ToolChoice("required")}
    body, lost = encoded(request(model=NEW, reasoning=Reasoning("high"), **settings))
    assert "thinking" not in body
    assert list(lost) == ["reasoning"]


def test_thinking_rules_sampling_out() -> None:
    body, lost = encoded(request(model=OLD, reasoning=Reasoning("low"), temperature=0.2, top_k=4))
    assert body.keys().isdisjoint({"temperature", "top_k"})
    assert lost.keys() == {"temperature", "top_k", "reasoning.effort"}


def test_calls_made_by_another_vendor_are_gone_on_with_without_a_thinking_budget() -> None:
    call, result = ToolCall("a", "look"), Message("tool", (ToolResult("a"),))
    foreign = request(USER, Message("assistant", (call,)), result, model=OLD, reasoning=Reasoning("low"))
    body, lost = encoded(foreign)
    assert "thinking" not in body
    assert list(lost) == ["reasoning"]
    thought = Thought("Hm.", "c2ln", origin=WIRE)
    own = request(USER, Message("assistant", (thought, call)), result, model=OLD, reasoning=Reasoning("low"))
    assert encoded(own)[0]["thinking"]["type"] == "enabled"


@pytest.mark.parametrize(
    "fields",
    [
        {"output_config": {"effort": "high"}},
        {"thinking": {"type": "disabled"}},
        {"thinking": {"type": "disabled"}, "output_config": {"effort": "low"}},
        {"thinking": {"type": "adaptive", "display": "omitted"}, "output_config": {"effort": "max", "new": 1}},
        {"thinking": {"type": "enabled", "budget_tokens": 2000}, "tools": [{"type": "web_search_1", "name": "s"}]},
        {"thinking": {"type": "between_tools"}, "metadata": {"user_id": "u", "more": 1}},
    ],
)
def test_what_came_in_on_this_wire_goes_out_as_it_was(fields: dict[str, Any]) -> None:
    again = body_of(dataclasses.replace(decoded(**fields), source=None))
    assert again == {**SETTINGS, **fields}


# --- versions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("forward", [True, False])
def test_the_version_of_2026_takes_less(forward: bool) -> None:
    text = {"type": "text", "text": "Hi", "citations": [{"type": "char_location"}]}
    document = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}}
    messages = [
        {"role": "user", "content": [text, document]},
        {"role": "assistant", "content": [document, text]},
        {"role": "user", "content": "Hello"},
    ]
    given = decoded(messages=messages, temperature=1, top_p=1, top_k=1)
    codec = codec_for(VERSION_2026)
    body, lost = encoded(given if forward else dataclasses.replace(given, source=None), codec)
    assert body == {
        "max_tokens": 4096,
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Hi"}, document]},
            {"role": "assistant", "content": [text]},
            {"role": "user", "content": "Hello"},
        ],
    }
    assert lost.keys() == {"temperature", "top_p", "top_k", "document", "annotations"}
    assert codec.encode_request(given).headers == (("anthropic-version", "2026-10-21"),)
    assert json.loads(CODEC.encode_request(given).body)["messages"] == messages


def test_forwarding_swaps_model_and_stream_switch_alone() -> None:
    given = decoded(model="claude-a", future={"x": 1})
    body = body_of(dataclasses.replace(given, model="claude-b", stream=True))
    assert body == {**SETTINGS, "model": "claude-b", "stream": True, "future": {"x": 1}}
    assert body_of(given) == {**SETTINGS, "model": "claude-a", "future": {"x": 1}}


# --- reading --------------------------------------------------------------------------------------------------------


def test_a_request_is_read_into_neutral_words() -> None:
    given = decoded(
        system="Be brief.",
        tools=[{"name": "look", "input_schema": {"type": "object"}}],
        tool_choice={"type": "tool", "name": "look", "disable_parallel_tool_use": True},
        thinking={"type": "enabled", "budget_tokens": 2000},
        metadata={"user_id": "u1"},
    )
    assert [message.role for message in given.messages] == ["system", "user"]
    assert (given.tool_choice, given.parallel_tool_calls) == (ToolChoice("required", ("look",)), False)
    assert given.reasoning is not None
    assert (given.reasoning.budget, given.user, given.extra) == (2000, "u1", ())


def test_results_in_a_user_turn_become_messages_of_their_own() -> None:
    content = [
        {"type": "tool_result", "tool_use_id": "a", "content": "A"},
        {"type": "tool_result", "tool_use_id": "b", "is_error": True},
        {"type": "text", "text": "So?"},
    ]
    given = decoded(messages=[{"role": "user", "content": content}, {"role": "user", "content": []}])
    assert given.messages == (
        Message("tool", (ToolResult("a", (Text("A"),)), ToolResult("b", is_error=True))),
        Message("user", (Text("So?"),)),
        Message("user", ()),
    )


def test_a_result_only_this_wire_can_say_is_kept_whole() -> None:
    content = [{"type": "tool_reference", "tool_name": "x"}, {"type": "text", "text": "A"}]
    block = {"type": "tool_result", "tool_use_id": "a", "content": content}
    given = decoded(messages=[{"role": "user", "content": [block]}])
    assert given.messages[0].parts == (ToolResult("a", (Text("A"),), extra=Extra(WIRE, {"content": content})),)
    assert body_of(dataclasses.replace(given, source=None))["messages"][0]["content"] == [block]


def test_another_vendors_signature_finds_its_way_home_through_a_client() -> None:
    thoughts = [
        {"type": "thinking", "thinking": "Hm.", "signature": "origin:gemini:c2ln"},
        {"type": "redacted_thinking", "data": "origin:openai_responses/azure:ZGF0YQ=="},
    ]
    given = decoded(messages=[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": thoughts}])
    assert given.messages[1].parts == (
        Thought("Hm.", "c2ln", origin="gemini"),
        Thought("", "ZGF0YQ==", redacted=True, origin="openai_responses/azure"),
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": []},
        {"messages": "Hello"},
        {"messages": ["Hello"]},
        {"messages": [{"role": "robot", "content": "Hello"}]},
        {"messages": [{"role": "user", "content": 7}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": 7}]}]},
        {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "base64", "data": "?"}}]}]},
        {"max_tokens": "many"},
        {"max_tokens": 1.5},
        {"temperature": True},
        {"stream": 1},
        {"stop_sequences": [1]},
        {"tools": [{"description": "no name"}]},
        {"tool_choice": {"type": "some"}},
        {"output_config": {"format": {"type": "grammar"}}},
        {"metadata": "u1"},
    ],
)
def test_a_malformed_request_is_the_callers_fault(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        decoded(**fields)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'{"messages": NaN}'])
def test_what_is_no_json_object_is_no_request(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        CODEC.decode_request(body)


def test_a_file_at_the_vendor_stays_there() -> None:
    block = {"type": "image", "source": {"type": "file", "file_id": "file_1"}}
    given = decoded(messages=[{"role": "user", "content": [block]}])
    assert given.messages[0].parts == (Media("image", file_id="file_1", extra=Extra(WIRE, {})),)
    assert body_of(dataclasses.replace(given, source=None))["messages"][0]["content"] == [block]


def test_a_source_only_this_wire_knows_stays_a_block() -> None:
    block = {"type": "document", "source": {"type": "content", "content": "x"}}
    assert decoded(messages=[{"role": "user", "content": [block]}]).messages[0].parts == (Opaque(WIRE, block),)
