"""A neutral request is put so that Converse takes it; what it cannot take is refused or said, never dropped."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from resilient_llm.errors import InvalidAnswer, InvalidRequest, UnsupportedFeature
from resilient_llm.model import (
    ChatRequest,
    EmbedRequest,
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
from resilient_llm.wire.bedrock import CODEC
from resilient_llm.wire.bedrock.parts import WIRE
from resilient_llm.wire.embeddings.bedrock import CODEC as EMBED
from tests.wire.asking import PNG, TOOL, USER, Asking, refused, request
from tests.wire.readers import read_request

TURN = {"role": "user", "content": [{"text": "Hello"}]}
CALL, RESULT = Message("assistant", (ToolCall("a", "look"),)), Message("tool", (ToolResult("a"),))
CLAUDE_NEW, CLAUDE_OLD = "us.anthropic.claude-opus-5", "us.anthropic.claude-sonnet-4-5-20250929-v1:0"


ASKING = Asking(CODEC)
encoded, body_of, turns = ASKING.encoded, ASKING.body_of, ASKING.turns


def decoded(path: str = "", **fields: Any) -> ChatRequest:
    return read_request(CODEC, json.dumps({"messages": [TURN], **fields}).encode(), path)


def user(*blocks: object) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


SYSTEM_TOOL = {"toolConfig": {"tools": [{"systemTool": {"name": "x"}}]}}


# --- the whole ------------------------------------------------------------------------------------------------------


def test_a_plain_question_says_no_more() -> None:
    assert body_of(request()) == {"messages": [TURN]}


@pytest.mark.parametrize(
    ("model", "stream", "path"),
    [
        ("amazon.nova-micro-v1:0", False, "/model/amazon.nova-micro-v1%3A0/converse"),
        ("arn:aws:bedrock:eu:1:p/x", True, "/model/arn%3Aaws%3Abedrock%3Aeu%3A1%3Ap%2Fx/converse-stream"),
    ],
)
def test_model_and_stream_switch_are_in_the_path(model: str, stream: bool, path: str) -> None:
    out = CODEC.encode_request(request(model=model, stream=stream))
    assert (out.path, out.headers) == (path, ())
    again = read_request(CODEC, out.body, path)
    assert (again.model, again.stream) == (model, stream)


def test_every_setting_this_wire_has_is_sent() -> None:
    settings: dict[str, Any] = {"max_tokens": 9, "temperature": 0.5, "top_p": 0.9, "stop": ("END",)}
    assert body_of(request(**settings))["inferenceConfig"] == {
        "maxTokens": 9,
        "temperature": 0.5,
        "topP": 0.9,
        "stopSequences": ["END"],
    }


def test_temperature_ends_at_one_and_new_claudes_have_none() -> None:
    body, lost = encoded(request(temperature=1.5))
    assert (body["inferenceConfig"], list(lost)) == ({"temperature": 1}, ["temperature"])
    body, lost = encoded(request(model=CLAUDE_NEW, temperature=0.5, top_p=0.5))
    assert "inferenceConfig" not in body
    assert lost.keys() == {"temperature", "top_p"}


@pytest.mark.parametrize(
    ("settings", "feature"),
    [
        ({"n": 2}, "n"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"tools": (TOOL,), "parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"extra": (Extra("anthropic_messages", {"tools": [{}]}),)}, "builtin_tools"),
        ({"tools": (Tool("a.b"),)}, "tool.name"),
    ],
)
def test_what_would_change_the_answer_is_refused(settings: dict[str, Any], feature: str) -> None:
    with pytest.raises(UnsupportedFeature) as caught:
        CODEC.encode_request(request(**settings))
    assert (caught.value.feature, caught.value.target.partition(" ")[0]) == (feature, WIRE)


def test_a_conversation_has_to_start_with_the_user() -> None:
    with pytest.raises(UnsupportedFeature, match="assistant_first"):
        CODEC.encode_request(request(Message("assistant", (Text("Hi"),)), USER))


def test_what_can_be_done_without_is_left_out_and_said() -> None:
    body, lost = encoded(request(seed=1, user="u1", extra=(Extra("openai_chat", {"service_tier": "flex"}),)))
    assert body == {"messages": [TURN]}
    assert lost.keys() == {"seed", "user", "openai_chat.service_tier"}


# --- messages -------------------------------------------------------------------------------------------------------


def test_system_messages_at_the_start_move_to_their_own_field() -> None:
    point = Opaque(WIRE, {"cachePoint": {"type": "default"}})
    body = body_of(request(Message("system", (Text("Be brief."), point)), USER))
    assert body["system"] == [{"text": "Be brief."}, {"cachePoint": {"type": "default"}}]


def test_a_later_system_message_keeps_its_place() -> None:
    messages = (USER, Message("system", (Text("Be brief."),)))
    body, lost = encoded(request(*messages))
    assert body["messages"] == [{"role": "user", "content": [{"text": "Hello"}, {"text": "Be brief."}]}]
    assert list(lost) == ["system_position"]
    assert [turn["role"] for turn in body_of(request(*messages, model=CLAUDE_NEW))["messages"]] == ["user", "system"]
    own = Message("system", (Text("Be brief."),), extra=Extra(WIRE, {}))
    assert [role for role, _ in turns(USER, own)] == ["user", "system"]


def test_a_conversation_of_system_messages_alone_is_asked_by_the_user() -> None:
    body, lost = encoded(request(Message("system", (Text("Hello"),))))
    assert body == {"messages": [TURN]}
    assert list(lost) == ["system"]


def test_results_stand_together_directly_after_the_calls() -> None:
    calls = Message("assistant", (ToolCall("a", "look"), ToolCall("b", "look", '{"x": 1}')))
    parts = (Text("A"), Json({"a": 1}), Json([1]), Text(""), Media("image", None, PNG))
    results = (Message("tool", (ToolResult("a", parts),)), USER, Message("tool", (ToolResult("b", is_error=True),)))
    image = {"image": {"format": "png", "source": {"bytes": "iVBORw0KGgoxMjM="}}}
    assert turns(USER, calls, *results)[1:] == [
        (
            "assistant",
            [
                {"toolUse": {"toolUseId": "a", "name": "look", "input": {}}},
                {"toolUse": {"toolUseId": "b", "name": "look", "input": {"x": 1}}},
            ],
        ),
        (
            "user",
            [
                {
                    "toolResult": {
                        "toolUseId": "a",
                        "content": [{"text": "A"}, {"json": {"a": 1}}, {"text": "[1]"}, image],
                    }
                },
                {"toolResult": {"toolUseId": "b", "content": [], "status": "error"}},
                {"text": "Hello"},
            ],
        ),
    ]


def test_foreign_identifiers_become_the_same_hash_for_call_and_result() -> None:
    ident = "x" * 65
    body, lost = encoded(
        request(USER, Message("assistant", (ToolCall(ident, "a b", "?"),)), Message("tool", (ToolResult(ident),)))
    )
    made = body["messages"][1]["content"][0]["toolUse"]
    assert made["toolUseId"] == body["messages"][2]["content"][0]["toolResult"]["toolUseId"]
    assert len(made["toolUseId"]) <= 64
    assert (made["name"], made["input"]) == ("a_b", {"arguments": "?"})
    assert lost.keys() == {"tool_call.id", "tool_call.name", "tool_call.arguments", "tools"}


def test_only_its_own_thoughts_travel() -> None:
    own = (Thought("Hm.", "s", origin=WIRE), Thought("", "cmVk", redacted=True, origin=WIRE))
    assert turns(USER, Message("assistant", own))[1][1] == [
        {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "s"}}},
        {"reasoningContent": {"redactedContent": "cmVk"}},
    ]
    foreign, unsigned = Thought("Hm.", "s", origin="anthropic_messages"), Thought("Hm.", None, origin=WIRE)
    body, lost = encoded(request(USER, Message("assistant", (foreign, unsigned, Text("Hi"))), model=CLAUDE_OLD))
    assert (body["messages"][1]["content"], list(lost)) == ([{"text": "Hi"}], ["reasoning"])
    assert len(turns(USER, Message("assistant", (unsigned,)))) == 2


def test_blocks_of_other_vendors_stay_behind_and_that_is_said() -> None:
    parts = (Opaque("gemini", {"type": "x"}), Text("Hi", ({"type": "url_citation"},)), Refusal("No."), Refusal(""))
    body, lost = encoded(request(USER, Message("assistant", parts)))
    assert body["messages"][1]["content"] == [{"text": "Hi"}, {"text": "No."}]
    assert lost.keys() == {"gemini.x", "annotations"}


def test_its_own_citations_come_back_to_it() -> None:
    citation = {"title": "t", "location": {"web": {"url": "https://x.test"}}}
    [_, (_, [block])] = turns(USER, Message("assistant", (Text("Hi", (citation,)),)))
    assert block == {"citationsContent": {"content": [{"text": "Hi"}], "citations": [citation]}}


@pytest.mark.parametrize(
    ("media", "feature"),
    [
        (Media("image", url="https://x.test/a.png"), "image_url"),
        (Media("document", url="https://x.test/a.pdf"), "document_url"),
        (Media("document", file_id="file-1"), "file_id"),
        (Media("image", "image/tiff", b"II*"), "media_type"),
        (Media("image", None, b"?"), "media_type"),
        (Media("audio", None, b"?"), "media_type"),
    ],
)
def test_media_this_wire_cannot_hold_are_refused(media: Media, feature: str) -> None:
    assert refused(CODEC, request(Message("user", (media,)))) == feature


def test_media_go_in_as_bytes_or_from_s3() -> None:
    parts = (
        Media("image", "image/jpeg; x=1", b"j"),
        Media("video", "video/mp4", url="s3://b/k", extra=Extra(WIRE, {"s3Location": {"bucketOwner": "1"}})),
        Media("audio", "audio/x-wav", b"w"),
    )
    [(_, blocks)] = turns(Message("user", parts))
    assert blocks == [
        {"image": {"format": "jpeg", "source": {"bytes": "ag=="}}},
        {"video": {"format": "mp4", "source": {"s3Location": {"uri": "s3://b/k", "bucketOwner": "1"}}}},
        {"audio": {"format": "wav", "source": {"bytes": "dw=="}}},
    ]


def test_documents_get_names_this_wire_allows_and_tells_apart() -> None:
    names = ("Paper (1)", "my_paper.pdf", None, None, "Paper (1)")
    parts = tuple(Media("document", "application/pdf", b"%PDF", name=name) for name in names)
    body, lost = encoded(request(Message("user", parts)))
    found = [block["document"]["name"] for block in body["messages"][0]["content"]]
    assert found == ["Paper (1)", "my paper pdf", "document", "document 2", "Paper (1) 2"]
    assert list(lost) == ["document.name"]


# --- tools ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, None),
        (ToolChoice("auto"), {"auto": {}}),
        (ToolChoice("required"), {"any": {}}),
        (ToolChoice("required", ("look",)), {"tool": {"name": "look"}}),
    ],
)
def test_the_choice_of_tools(choice: ToolChoice | None, expected: object) -> None:
    config = body_of(request(tools=(TOOL,), tool_choice=choice))["toolConfig"]
    assert config.get("toolChoice") == expected
    spec = {"name": "look", "description": "Looks.", "inputSchema": {"json": {"type": "object", "properties": {}}}}
    assert config["tools"] == [{"toolSpec": spec}]
    assert "toolConfig" not in body_of(request(tool_choice=choice))


def test_a_choice_of_several_is_made_by_offering_only_those() -> None:
    tools = (TOOL, Tool("hear"), Tool("smell", parameters={"properties": {}}))
    body, lost = encoded(request(tools=tools, tool_choice=ToolChoice("required", ("smell", "hear"))))
    assert [tool["toolSpec"]["name"] for tool in body["toolConfig"]["tools"]] == ["hear", "smell"]
    assert body["toolConfig"]["toolChoice"] == {"any": {}}
    assert list(lost) == ["tool_choice.allowed"]


def test_no_tool_is_said_by_offering_none_unless_the_conversation_has_calls() -> None:
    settings: dict[str, Any] = {"tools": (TOOL,), "tool_choice": ToolChoice("none")}
    body, lost = encoded(request(**settings))
    assert ("toolConfig" in body, list(lost)) == (False, ["tool_choice.none"])
    body, lost = encoded(request(USER, CALL, RESULT, **settings))
    assert (list(body["toolConfig"]), list(lost)) == (["tools"], ["tool_choice.none"])


def test_a_conversation_with_calls_offers_their_tools_again() -> None:
    body, lost = encoded(request(USER, CALL, RESULT, CALL, RESULT))
    spec = {"name": "look", "inputSchema": {"json": {"type": "object", "properties": {}}}}
    assert body["toolConfig"] == {"tools": [{"toolSpec": spec}]}
    assert list(lost) == ["tools"]
    assert "toolConfig" not in body_of(request(USER, RESULT))


# --- output and reasoning -------------------------------------------------------------------------------------------


def test_a_schema_travels_as_a_string() -> None:
    output = OutputFormat("json_schema", {"type": "object"}, "n", "d")
    spec = body_of(request(output=output))["outputConfig"]["textFormat"]["structure"]["jsonSchema"]
    assert spec == {"schema": '{"type":"object","additionalProperties":false}', "name": "n", "description": "d"}
    assert body_of(request(output=OutputFormat("text"))) == {"messages": [TURN]}


@pytest.mark.parametrize("system", [(), (Message("system", (Text("Be brief."),)),)])
def test_any_json_object_is_asked_for_in_words(system: tuple[Message, ...]) -> None:
    body, lost = encoded(request(*system, USER, output=OutputFormat("json_object")))
    assert "JSON object" in body["system"][len(system)]["text"]
    assert list(lost) == ["json_object"]


@pytest.mark.parametrize(
    ("model", "reasoning", "expected", "lost"),
    [
        (CLAUDE_NEW, Reasoning("high"), {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}, []),
        (CLAUDE_OLD, Reasoning("none"), {"thinking": {"type": "disabled"}}, []),
        ("openai.gpt-oss-120b-1:0", Reasoning("low"), {"reasoning_effort": "low"}, []),
        ("qwen.qwen3-32b-v1:0", Reasoning("high"), {"reasoning_config": "high"}, []),
        (
            "us.amazon.nova-2-lite-v1:0",
            Reasoning("medium"),
            {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "medium"}},
            [],
        ),
        ("qwen.qwen3-32b-v1:0", Reasoning("max"), None, ["reasoning"]),
        ("us.deepseek.r1-v1:0", Reasoning(budget=3), None, ["reasoning"]),
        ("us.deepseek.r1-v1:0", Reasoning(), None, []),
    ],
)
def test_each_family_is_told_in_its_own_words_how_hard_to_think(
    model: str, reasoning: Reasoning, expected: object, lost: list[str]
) -> None:
    body, given_up = encoded(request(model=model, reasoning=reasoning))
    assert body.get("additionalModelRequestFields") == expected
    assert list(given_up) == lost


def test_a_thinking_budget_raises_the_limit_and_rules_sampling_out() -> None:
    body, lost = encoded(request(model=CLAUDE_OLD, reasoning=Reasoning("low"), temperature=0.3, top_k=3, top_p=0.95))
    assert body["inferenceConfig"] == {"maxTokens": 18432, "topP": 0.95}
    assert body["additionalModelRequestFields"] == {"thinking": {"type": "enabled", "budget_tokens": 2048}}
    assert lost.keys() == {"temperature", "top_k", "reasoning.effort"}


def test_calls_made_by_another_vendor_are_gone_on_with_without_a_thinking_budget() -> None:
    settings: dict[str, Any] = {"model": CLAUDE_OLD, "reasoning": Reasoning("low"), "tools": (TOOL,)}
    assert "reasoning" in encoded(request(USER, CALL, RESULT, **settings))[1]
    thought = Message("assistant", (Thought("Hm.", "s", origin=WIRE), ToolCall("a", "look")))
    assert "thinking" in encoded(request(USER, thought, RESULT, **settings))[0]["additionalModelRequestFields"]


@pytest.mark.parametrize(
    ("model", "expected", "lost"),
    [
        (CLAUDE_OLD, {"top_k": 5}, []),
        ("amazon.nova-lite-v1:0", {"inferenceConfig": {"topK": 5}}, []),
        (CLAUDE_NEW, None, ["top_k"]),
        ("meta.llama3-8b-instruct-v1:0", None, ["top_k"]),
    ],
)
def test_top_k_is_a_field_of_the_model(model: str, expected: object, lost: list[str]) -> None:
    body, given_up = encoded(request(model=model, top_k=5))
    assert body.get("additionalModelRequestFields") == expected
    assert list(given_up) == lost


# --- reading --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"outputConfig": {"effort": "high", "new": 1}},
        {"inferenceConfig": {"maxTokens": 3, "new": 1}, "guardrailConfig": {"trace": "enabled"}},
        {"additionalModelRequestFields": {"top_k": 3}, "serviceTier": {"type": "flex"}},
        {
            "toolConfig": {
                "tools": [
                    {"toolSpec": {"name": "look", "inputSchema": {"json": {"type": "object"}}, "new": 1}},
                    {"systemTool": {"name": "nova_grounding"}},
                    {"cachePoint": {"type": "default"}},
                ],
                "toolChoice": {"tool": {"name": "look"}},
            }
        },
        {"messages": [TURN, {"role": "system", "content": [{"text": "x"}]}]},
        {"messages": [{"role": "user", "content": [{"image": {"format": "png", "source": {"new": 1}}}]}]},
        {"messages": [user({"toolResult": {"toolUseId": "a", "content": [{"searchResult": {}}]}})], **SYSTEM_TOOL},
        {"messages": [user({"text": "x", "new": 1}, {"guardContent": {"text": {"text": "y"}}})]},
    ],
)
def test_what_came_in_on_this_wire_goes_out_as_it_was(fields: dict[str, Any]) -> None:
    again = body_of(dataclasses.replace(decoded(**fields), source=None))
    assert again == {"messages": [TURN], **fields}


def test_forwarding_changes_nothing() -> None:
    given = decoded("/model/a/converse", future={"x": 1})
    out = CODEC.encode_request(dataclasses.replace(given, model="b", stream=True))
    assert (json.loads(out.body), out.path) == ({"messages": [TURN], "future": {"x": 1}}, "/model/b/converse-stream")


def test_an_empty_turn_and_an_empty_choice_say_nothing() -> None:
    given = decoded(messages=[TURN, {"role": "user", "content": []}], toolConfig={"toolChoice": {}})
    assert given.messages == (USER, Message("user", ()))
    assert given.tool_choice is None


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": []},
        {"messages": [{"role": "user"}]},
        {"messages": [{"role": "robot", "content": []}]},
        {"messages": [{"role": "user", "content": [{"text": 1}]}]},
        {"messages": [{"role": "user", "content": [{"image": {"format": "png", "source": {"bytes": "?"}}}]}]},
        {"inferenceConfig": {"maxTokens": "many"}},
        {"toolConfig": {"tools": [{"toolSpec": {}}]}},
        {"toolConfig": {"toolChoice": {"some": {}}}},
        {"outputConfig": {"textFormat": {"type": "grammar"}}},
        {"outputConfig": {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": {"schema": "{"}}}}},
    ],
)
def test_a_malformed_request_is_the_callers_fault(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        decoded(**fields)


# --- Titan ----------------------------------------------------------------------------------------------------------


def test_titan_embeds_one_text_at_a_time() -> None:
    extra = (Extra(WIRE, {"normalize": True}), Extra("openai", {"user": "u"}))
    out = EMBED.encode_request(EmbedRequest(("Hello",), "amazon.titan-embed-text-v2:0", 256, extra))
    assert out.path == "/model/amazon.titan-embed-text-v2%3A0/invoke"
    assert json.loads(out.body) == {"inputText": "Hello", "dimensions": 256, "normalize": True}
    with pytest.raises(UnsupportedFeature, match="several_inputs"):
        EMBED.encode_request(EmbedRequest(("a", "b"), "amazon.titan-embed-text-v2:0"))


def test_titan_answers_with_one_vector() -> None:
    answer = EMBED.decode_response(b'{"embedding": [1, 0.5], "inputTextTokenCount": 3}')
    assert answer.vectors == ((1.0, 0.5),)
    assert answer.usage is not None
    assert answer.usage.input_tokens == 3


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"embedding": []}', b'{"embedding": ["a"]}', b'{"embedding": [true]}']
)
def test_no_vector_is_no_answer(body: bytes) -> None:
    with pytest.raises(InvalidAnswer):
        EMBED.decode_response(body)
