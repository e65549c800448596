"""One request per feature: what a wire makes of each is what the tables and the documentation say."""

from __future__ import annotations

from dataclasses import dataclass, replace

from resilient_llm.errors import UnsupportedFeature
from resilient_llm.model import (
    ChatRequest,
    Extra,
    Media,
    Message,
    Opaque,
    OutputFormat,
    Part,
    Reasoning,
    Text,
    Thought,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from resilient_llm.wire import codec

WIRES = (
    "openai_chat",
    "openai_responses",
    "anthropic_messages",
    "gemini",
    "bedrock_converse",
    "cohere_v2",
    "ollama",
)

MODELS = {
    "openai_chat": "gpt-4.1",
    "openai_responses": "gpt-4.1",
    "anthropic_messages": "claude-sonnet-4-5",
    "gemini": "gemini-2.5-flash",
    "bedrock_converse": "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
    "cohere_v2": "command-a-03-2025",
    "ollama": "qwen3",
}
"""A model per wire that can do what the wire can say."""

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 8
_TOOL = Tool("weather", "The weather of a city.", {"type": "object", "properties": {"city": {"type": "string"}}})
_OTHER = Tool("time", "The time in a city.", {"type": "object", "properties": {"city": {"type": "string"}}})
_SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}


def _asked(*parts: Part, **settings: object) -> ChatRequest:
    return ChatRequest((Message("user", (Text("Hello"), *parts)),), **settings)  # type: ignore[arg-type]


def _after_call(result: ToolResult, *before: Part) -> ChatRequest:
    call = ToolCall("call_1", "weather", '{"city":"Paris"}')
    turns = (Message("user", (Text("Hello"),)), Message("assistant", (*before, call)), Message("tool", (result,)))
    return ChatRequest(turns, tools=(_TOOL,))


_RESULT = ToolResult("call_1", (Text("sunny"),), "weather")

PROBES: dict[str, ChatRequest] = {
    "tools": _asked(tools=(_TOOL, _OTHER)),
    "tool_choice.required": _asked(tools=(_TOOL,), tool_choice=ToolChoice("required")),
    "tool_choice.name": _asked(tools=(_TOOL, _OTHER), tool_choice=ToolChoice("required", ("weather",))),
    "tool_choice.allowed": _asked(tools=(_TOOL, _OTHER), tool_choice=ToolChoice("auto", ("weather",))),
    "tool_choice.none": _asked(tools=(_TOOL, _OTHER), tool_choice=ToolChoice("none")),
    "parallel_tool_calls": _asked(tools=(_TOOL,), parallel_tool_calls=False),
    "tool.strict": _asked(tools=(replace(_TOOL, strict=True), _OTHER)),
    "image": _asked(Media("image", "image/png", PNG)),
    "image_url": _asked(Media("image", "image/png", url="https://example.org/a.png")),
    "audio": _asked(Media("audio", "audio/wav", b"RIFF")),
    "audio_url": _asked(Media("audio", "audio/wav", url="https://example.org/a.wav")),
    "video": _asked(Media("video", "video/mp4", b"\0")),
    "video_url": _asked(Media("video", "video/mp4", url="https://example.org/a.mp4")),
    "document": _asked(Media("document", "application/pdf", b"%PDF", name="a")),
    "document_url": _asked(Media("document", "application/pdf", url="https://example.org/a.pdf", name="a.pdf")),
    "file_id": _asked(Media("document", "application/pdf", file_id="file-1")),
    "media_in_tool_result": _after_call(ToolResult("call_1", (Media("image", "image/png", PNG),), "weather")),
    "tool_result.is_error": _after_call(replace(_RESULT, is_error=True)),
    "json_object": _asked(output=OutputFormat("json_object")),
    "json_schema": _asked(output=OutputFormat("json_schema", _SCHEMA, "answer")),
    "reasoning": _asked(reasoning=Reasoning(effort="high")),
    "prefill": ChatRequest((Message("user", (Text("Hello"),)), Message("assistant", (Text("Once"),)))),
    "n": _asked(n=2),
    "logprobs": _asked(logprobs=True),
    "top_logprobs": _asked(logprobs=True, top_logprobs=2),
    "max_tokens": _asked(max_tokens=2000),
    "stop": _asked(stop=("END",)),
    "seed": _asked(seed=7),
    "user": _asked(user="u-1"),
    "temperature": _asked(temperature=0.5),
    "top_p": _asked(top_p=0.5),
    "top_k": _asked(top_k=5),
    "frequency_penalty": _asked(frequency_penalty=0.5),
    "presence_penalty": _asked(presence_penalty=0.5),
}
"""Feature -> a request that needs it, and nothing else that is not common to all wires."""

HISTORY: dict[str, ChatRequest] = {
    "a vendor's own block": _asked(Opaque("another", {"type": "server_tool"})),
    "another vendor's thoughts": _after_call(_RESULT, Thought("hm", "c2lnbmVk", origin="another")),
    "a tool call with another vendor's id": _after_call(_RESULT),
    "fields of another wire": _asked(extra=(Extra("another", {"service_tier": "flex"}),)),
    "binding fields of another wire": _asked(extra=(Extra("another", {"previous_response_id": "r_1"}),)),
}
"""What a conversation that began elsewhere carries -> a request with it."""


@dataclass(frozen=True)
class Verdict:
    """What a wire made of a request: ``none`` with the feature it names, or what it changed (nothing: ``full``)."""

    support: str
    notes: tuple[str, ...] = ()


def probe(wire: str, request: ChatRequest) -> Verdict:
    """Encode the request and see."""
    try:
        encoded = codec(wire).encode_request(replace(request, model=MODELS[wire]))
    except UnsupportedFeature as unsupported:
        return Verdict("none", (unsupported.feature,))
    notes = tuple(f"{lost.feature}: {lost.action}" for lost in encoded.degradations)
    return Verdict("changed" if notes else "full", notes)
