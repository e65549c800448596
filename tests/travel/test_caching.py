"""Caches of prompts: what is marked is marked as each vendor wants it, and keys go where vendors look for them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from resilient_llm.capability import CACHE_SECONDS
from resilient_llm.model import ChatRequest, Json, Message, Text, Thought, Tool, ToolCall, ToolResult
from resilient_llm.providers import (
    XAI,
    Anthropic,
    AzureOpenAI,
    CloudflareWorkersAI,
    DeepSeek,
    Fireworks,
    Mistral,
    OpenAI,
    OpenAIResponses,
    OpenRouter,
)
from resilient_llm.wire import codec
from resilient_llm.wire.features import Feature
from resilient_llm.wire.kit.caching import derived_key, sent_key

MARK = {"type": "ephemeral"}
POINT = {"cachePoint": {"type": "default"}}
CLAUDE, CLAUDE_AT_AMAZON = "claude-sonnet-4-5", "anthropic.claude-sonnet-4-5-v1:0"
USER = Message("user", (Text("Hello"),))
TOOL = Tool("look", "Looks.", {"type": "object"})


def body_of(wire: str, request: ChatRequest) -> tuple[dict[str, Any], list[str]]:
    parts = codec(wire).encode_request(request)
    return json.loads(parts.body), [lost.feature for lost in parts.degradations]


def test_anthropic_marks_the_last_block() -> None:
    system = Message("system", (Text("Be brief."), Text("Be kind.")), cache=True)
    tools = (TOOL, replace(TOOL, name="search", cache=True))
    body, lost = body_of("anthropic_messages", ChatRequest((system, replace(USER, cache=True)), CLAUDE, tools=tools))
    assert lost == []
    assert body["system"] == [
        {"type": "text", "text": "Be brief."},
        {"type": "text", "text": "Be kind.", "cache_control": MARK},
    ]
    assert body["messages"][0]["content"] == [{"type": "text", "text": "Hello", "cache_control": MARK}]
    assert ["cache_control" in tool for tool in body["tools"]] == [False, True]


def test_a_thought_is_not_marked() -> None:
    thought = Thought("Hm.", "c2ln", origin="anthropic_messages")
    said = Message("assistant", (Text("Yes."), thought), cache=True)
    body, lost = body_of("anthropic_messages", ChatRequest((USER, said, USER), CLAUDE))
    assert body["messages"][1]["content"][0] == {"type": "text", "text": "Yes.", "cache_control": MARK}
    assert lost == []
    body, lost = body_of("anthropic_messages", ChatRequest((USER, replace(said, parts=(thought,)), USER), CLAUDE))
    assert "cache_control" not in json.dumps(body)
    assert lost == [Feature.CACHE]


def test_bedrock_has_points_between_blocks_for_the_models_that_take_them() -> None:
    call, result = ToolCall("a", "look"), Message("tool", (ToolResult("a", (Text("There."),)),), cache=True)
    request = ChatRequest((USER, Message("assistant", (call,)), result, USER), tools=(replace(TOOL, cache=True),))
    body, lost = body_of("bedrock_converse", replace(request, model=CLAUDE_AT_AMAZON))
    assert [next(iter(block)) for block in body["messages"][2]["content"]] == ["toolResult", "cachePoint", "text"]
    assert body["toolConfig"]["tools"][1:] == [POINT]
    assert lost == []
    body, lost = body_of("bedrock_converse", replace(request, model="meta.llama3-8b-instruct-v1:0"))
    assert "cachePoint" not in json.dumps(body)
    assert lost == [Feature.CACHE]


def test_openrouter_takes_marks_on_parts_of_messages() -> None:
    call = Message("assistant", (ToolCall("a", "look"),), cache=True)
    result = Message("tool", (ToolResult("a", (Json({"x": 1}),)),), cache=True)
    parts = OpenRouter("anthropic/claude", api_key="k").encode(
        ChatRequest((replace(USER, cache=True), call, result), tools=(replace(TOOL, cache=True),))
    )
    body = json.loads(parts.body)
    assert body["messages"][0]["content"] == [{"type": "text", "text": "Hello", "cache_control": MARK}]
    assert body["messages"][1]["content"] is None
    assert body["messages"][2]["content"] == [{"type": "text", "text": '{"x":1}', "cache_control": MARK}]
    assert [lost.feature for lost in parts.degradations] == [Feature.CACHE]  # of the call and of the tool


# --- keys ---------------------------------------------------------------------------------------------------------


def sent(provider: Any, key: str | None) -> tuple[str | None, dict[str, str]]:
    prepared = provider.prepare(ChatRequest((USER,), cache_key=key), "secret")
    headers = {name: value for name, value in prepared.headers if name.startswith("x-")}
    return json.loads(prepared.body).get("prompt_cache_key"), headers


@pytest.mark.parametrize(
    ("provider", "field", "header"),
    [
        (OpenAI("m", api_key="k"), True, None),
        (AzureOpenAI("m", api_key="k", base_url="https://x.openai.azure.com"), True, None),
        (OpenAIResponses("m", api_key="k"), True, None),
        (Fireworks("m", api_key="k"), False, "x-session-affinity"),
        (CloudflareWorkersAI("m", account_id="a1", api_key="k"), False, "x-session-affinity"),
        (XAI("m", api_key="k"), False, "x-grok-conv-id"),
        (Mistral("m", api_key="k"), True, None),
        (OpenRouter("m", api_key="k"), False, "x-session-id"),
        (DeepSeek("m", api_key="k"), False, None),
        (Anthropic("claude-sonnet-4-5", api_key="k"), False, None),
    ],
    ids=lambda value: getattr(value, "id", None),
)
def test_a_key_goes_where_the_vendor_looks_for_it(provider: Any, field: bool, header: str | None) -> None:
    key, headers = sent(provider, "conversation-1")
    assert key == ("conversation-1" if field else None)
    assert headers.get(header or "") == ("conversation-1" if header else None)
    assert "conversation-1" not in str(headers) or header
    key, headers = sent(provider, None)
    assert key is None
    assert header not in headers


@pytest.mark.parametrize("key", ["a b", "ü", "a\r\nx-evil: 1", "x" * 65, "\ud800"])
def test_a_key_that_is_no_simple_word_is_sent_as_its_hash(key: str) -> None:
    assert len(sent_key(key)) == 64
    assert sent_key(key).isalnum()
    assert sent(XAI("m", api_key="k"), key)[1]["x-grok-conv-id"] == sent_key(key) != sent_key(key + "!")


def test_requests_that_begin_alike_have_one_key() -> None:
    system = Message("system", (Text("Be brief."),))
    key = derived_key(ChatRequest((system, USER), "m", tools=(TOOL,)))
    assert key == derived_key(ChatRequest((system, USER, USER), "other", tools=(TOOL,), temperature=1.0))
    assert key != derived_key(ChatRequest((system, USER), "m"))
    assert key != derived_key(ChatRequest((USER,), "m", tools=(TOOL,)))


def test_lifetimes_are_of_vendors() -> None:
    assert all(seconds > 0 for seconds in CACHE_SECONDS.values())
    assert Anthropic("m", api_key="k").cache_seconds == 300.0
    assert XAI("m", api_key="k").cache_seconds is None
    assert OpenRouter("m", api_key="k").cache_seconds == 600.0
    documented = {"gpt-5.5": 300.0, "gpt-5.6-sol": 1800.0, "gpt-5.12": 1800.0, "gpt-6": 1800.0, "gpt-4o": 300.0}
    assert {model: OpenAI(model, api_key="k").cache_seconds for model in documented} == documented
