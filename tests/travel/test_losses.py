"""Nothing a request holds vanishes: whatever wire it came in on and goes out on, each feature is in the body that is
sent, or recorded as a degradation, or the provider refused before anything is sent.

Every feature of the vocabulary has a request with a mark in it that can be looked for in a body.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from resilient_llm.errors import InvalidRequest, UnsupportedFeature
from resilient_llm.model import (
    ChatRequest,
    Extra,
    Media,
    Message,
    Opaque,
    OutputFormat,
    Part,
    Reasoning,
    Refusal,
    Text,
    Thought,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from resilient_llm.wire import WIRES, codec
from resilient_llm.wire.features import Feature
from tests.travel.probes import MODELS, PNG
from tests.wire.readers import read_request

PAIRS = sorted(itertools.permutations(sorted(WIRES), 2))
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
LIMITED = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 12321}}, "additionalProperties": False}
A, B, C = (Tool(name, f"About {name}.", SCHEMA) for name in ("tool_a", "tool_b", "tool_c"))


@dataclass(frozen=True)
class Probe:
    """A request with a feature; ``shown`` says whether a body, as text, has it still."""

    request: ChatRequest
    shown: Callable[[str], bool]


def holds(*marks: str) -> Callable[[str], bool]:
    return lambda body: all(mark in body for mark in marks)


def holds_any(*marks: str) -> Callable[[str], bool]:
    return lambda body: any(mark in body for mark in marks)


def asked(*parts: Part, **settings: object) -> ChatRequest:
    return ChatRequest((Message("user", (Text("Hello"), *parts)),), **settings)  # type: ignore[arg-type]


def after(call: ToolCall, result: ToolResult) -> ChatRequest:
    turns = (Message("user", (Text("Hello"),)), Message("assistant", (call,)), Message("tool", (result,)))
    return ChatRequest(turns, tools=(A,))


CALL = ToolCall("call_1", "tool_a", '{"city":"Paris"}')
RESULT = ToolResult("call_1", (Text("sunny"),), "tool_a")
URL = "https://example.org/mark"

PROBES: dict[Feature, Probe] = {
    Feature.TOOLS: Probe(asked(tools=(A,)), holds("tool_a", "About tool_a.")),
    Feature.TOOL_NAME: Probe(asked(tools=(replace(A, name="tool.a"),)), holds("tool.a")),
    Feature.TOOL_STRICT: Probe(
        asked(tools=(replace(A, strict=True),)), holds_any('"strict":true', '"strict_tools":true')
    ),
    Feature.TOOL_CHOICE_REQUIRED: Probe(
        asked(tools=(A,), tool_choice=ToolChoice("required")),
        holds_any('"tool_choice":"required"', '"type":"any"', '"ANY"', '"any":{}', '"REQUIRED"'),
    ),
    Feature.TOOL_CHOICE_NAME: Probe(
        asked(tools=(A, B), tool_choice=ToolChoice("required", ("tool_a",))),
        lambda body: body.count('"tool_a"') > 1,
    ),
    Feature.TOOL_CHOICE_ALLOWED: Probe(
        asked(tools=(A, B, C), tool_choice=ToolChoice("auto", ("tool_a", "tool_b"))),
        lambda body: body.count('"tool_a"') > 1 and body.count('"tool_b"') > 1,
    ),
    Feature.TOOL_CHOICE_NONE: Probe(
        asked(tools=(A,), tool_choice=ToolChoice("none")),
        holds_any('"tool_choice":"none"', '"type":"none"', '"NONE"'),
    ),
    Feature.PARALLEL_TOOL_CALLS: Probe(
        asked(tools=(A,), parallel_tool_calls=False),
        holds_any('"parallel_tool_calls":false', '"disable_parallel_tool_use":true'),
    ),
    Feature.TOOL_CALL_ID: Probe(
        after(replace(CALL, id="call/1 x"), replace(RESULT, tool_call_id="call/1 x")), holds("call/1 x")
    ),
    Feature.TOOL_CALL_NAME: Probe(after(replace(CALL, name="tool.a"), replace(RESULT, name="tool.a")), holds("tool.a")),
    Feature.TOOL_CALL_ARGUMENTS: Probe(after(replace(CALL, arguments="[12321"), RESULT), holds("12321")),
    Feature.TOOL_RESULT_IS_ERROR: Probe(
        after(CALL, replace(RESULT, is_error=True)),
        holds_any('"is_error":true', '"status":"error"', '{"error":"sunny"}'),
    ),
    Feature.MEDIA_IN_TOOL_RESULT: Probe(
        after(CALL, replace(RESULT, parts=(Media("image", "image/png", PNG),))), holds("iVBORw0KGgo")
    ),
    Feature.BUILTIN_TOOLS: Probe(
        asked(extra=(Extra("elsewhere", {"tools": [{"type": "mark_12321"}]}),)), holds("12321")
    ),
    Feature.IMAGE: Probe(asked(Media("image", "image/png", PNG)), holds("iVBORw0KGgo")),
    Feature.IMAGE_URL: Probe(asked(Media("image", "image/png", url=URL)), holds(URL)),
    Feature.AUDIO: Probe(asked(Media("audio", "audio/wav", b"RIFFmark")), holds("UklGRm1hcms=")),
    Feature.AUDIO_URL: Probe(asked(Media("audio", "audio/wav", url=URL)), holds(URL)),
    Feature.VIDEO: Probe(asked(Media("video", "video/mp4", b"ftypmark")), holds("ZnR5cG1hcms=")),
    Feature.VIDEO_URL: Probe(asked(Media("video", "video/mp4", url=URL)), holds(URL)),
    Feature.DOCUMENT: Probe(asked(Media("document", "application/pdf", b"%PDFmark")), holds("JVBERm1hcms=")),
    Feature.DOCUMENT_URL: Probe(asked(Media("document", "application/pdf", url=URL)), holds(URL)),
    Feature.DOCUMENT_NAME: Probe(
        asked(Media("document", "application/pdf", b"%PDF", name="mark_12321.pdf")), holds("mark_12321.pdf")
    ),
    Feature.FILE_ID: Probe(asked(Media("document", "application/pdf", file_id="file-12321")), holds("file-12321")),
    Feature.MEDIA_TYPE: Probe(asked(Media("image", "image/x-mark", b"??mark")), holds_any("image/x-mark", "Pz9tYXJr")),
    Feature.MEDIA_OF_ASSISTANT: Probe(
        ChatRequest(
            (
                Message("user", (Text("Draw"),)),
                Message("assistant", (Media("image", "image/png", PNG),)),
                Message("user", (Text("More"),)),
            )
        ),
        holds("iVBORw0KGgo"),
    ),
    Feature.ANNOTATIONS: Probe(asked(Text("cited", ({"type": "mark_12321"},))), holds("mark_12321")),
    Feature.MESSAGE_NAME: Probe(ChatRequest((Message("user", (Text("Hello"),), "mark_12321"),)), holds("mark_12321")),
    Feature.DEVELOPER: Probe(
        ChatRequest((Message("developer", (Text("Be brief"),)), Message("user", (Text("Hello"),)))),
        holds('"developer"'),
    ),
    Feature.SYSTEM: Probe(
        ChatRequest((Message("system", (Text("Be brief"),)),)),
        lambda body: "Be brief" in body and '"role":"user"' not in body and '"contents":[]' not in body,
    ),
    Feature.SYSTEM_POSITION: Probe(
        ChatRequest(
            (
                Message("user", (Text("Hello"),)),
                Message("system", (Text("mark_12321"),)),
                Message("user", (Text("Go"),)),
            )
        ),
        lambda body: body.find("Hello") < body.find("mark_12321") < body.find("Go") and '"system"' in body,
    ),
    Feature.ASSISTANT_FIRST: Probe(
        ChatRequest((Message("assistant", (Text("mark_12321"),)), Message("user", (Text("Hello"),)))),
        holds("mark_12321"),
    ),
    Feature.PREFILL: Probe(
        ChatRequest((Message("user", (Text("Hello"),)), Message("assistant", (Text("mark_12321"),)))),
        holds("mark_12321"),
    ),
    Feature.CACHE: Probe(
        ChatRequest((Message("user", (Text("Hello"),), cache=True),), tools=(replace(A, cache=True),)),
        lambda body: body.count("cache_control") == 2 or body.count("cachePoint") == 2,
    ),
    Feature.JSON_OBJECT: Probe(
        asked(output=OutputFormat("json_object")),
        holds_any('"json_object"', '"application/json"', '"format":"json"'),
    ),
    Feature.JSON_SCHEMA: Probe(
        asked(output=OutputFormat("json_schema", SCHEMA, "answer")), holds_any('"city"', '\\"city\\"')
    ),
    Feature.OUTPUT_DESCRIPTION: Probe(
        asked(output=OutputFormat("json_schema", SCHEMA, "answer", "mark_12321")), holds("mark_12321")
    ),
    Feature.OUTPUT_SCHEMA: Probe(asked(output=OutputFormat("json_schema", LIMITED, "answer")), holds("12321")),
    Feature.REASONING: Probe(
        ChatRequest(
            (
                Message("user", (Text("Hello"),)),
                Message("assistant", (Thought("hm_12321", "c2lnbmVk", origin="elsewhere"), Text("Hi"))),
                Message("user", (Text("Go"),)),
            )
        ),
        holds("hm_12321"),
    ),
    Feature.REASONING_EFFORT: Probe(asked(reasoning=Reasoning("minimal")), holds_any('"minimal"', '"MINIMAL"')),
    Feature.REASONING_BUDGET: Probe(asked(reasoning=Reasoning(budget=12321)), holds("12321")),
    Feature.N: Probe(asked(n=2), holds_any('"n":2', '"candidateCount":2')),
    Feature.LOGPROBS: Probe(asked(logprobs=True), holds_any('"logprobs":true', '"responseLogprobs":true', ".logprobs")),
    Feature.TOP_LOGPROBS: Probe(asked(logprobs=True, top_logprobs=3), holds_any('"top_logprobs":3', '"logprobs":3')),
    Feature.MAX_TOKENS: Probe(asked(max_tokens=12321), holds("12321")),
    Feature.STOP: Probe(asked(stop=("mark_12321",)), holds("mark_12321")),
    Feature.SEED: Probe(asked(seed=12321), holds("12321")),
    Feature.USER: Probe(asked(user="mark_12321"), holds("mark_12321")),
    Feature.TEMPERATURE: Probe(asked(temperature=1.2321), holds("1.2321")),
    Feature.TOP_P: Probe(asked(top_p=0.12321), holds("0.12321")),
    Feature.TOP_K: Probe(asked(top_k=12321), holds("12321")),
    Feature.FREQUENCY_PENALTY: Probe(asked(frequency_penalty=0.12321), holds("0.12321")),
    Feature.PRESENCE_PENALTY: Probe(asked(presence_penalty=0.12321), holds("0.12321")),
    **{
        feature: Probe(asked(extra=(Extra("elsewhere", {name: "mark_12321"}),)), holds("mark_12321"))
        for feature, name in {
            Feature.AUDIO_OUTPUT: "audio",
            Feature.CACHED_CONTENT: "cachedContent",
            Feature.CONTINUATION_TOKEN: "continuationToken",
            Feature.STORED_PROMPT: "prompt",
            **{
                each: each.value
                for each in (
                    *(Feature.BACKGROUND, Feature.CONTAINER, Feature.CONVERSATION, Feature.DOCUMENTS),
                    *(Feature.FUNCTIONS, Feature.LOGIT_BIAS, Feature.MODALITIES, Feature.PREDICTION),
                    *(Feature.PREVIOUS_RESPONSE_ID, Feature.STORE),
                )
            },
        }.items()
    },
}

ELSEWHERE = {Feature.EMBEDDINGS, Feature.SEVERAL_INPUTS}
"""Not of a conversation; tested where they belong."""

MORE = {
    "a refusal": Probe(
        ChatRequest(
            (
                Message("user", (Text("Hello"),)),
                Message("assistant", (Refusal("mark_12321"),)),
                Message("user", (Text("Go"),)),
            )
        ),
        holds("mark_12321"),
    ),
    "a vendor's own block": Probe(asked(Opaque("elsewhere", {"type": "mark_12321"})), holds('{"type":"mark_12321"}')),
    "a field of a message": Probe(
        ChatRequest((Message("user", (Text("Hello"),), extra=Extra("elsewhere", {"mark": "mark_12321"})),)),
        holds('"mark_12321"'),
    ),
    "a field of the body": Probe(asked(extra=(Extra("elsewhere", {"mark": "mark_12321"}),)), holds('"mark_12321"')),
}
"""What has no name in the vocabulary and must not vanish either."""

ALL = {**{feature.value: probe for feature, probe in PROBES.items()}, **MORE}


def test_every_feature_of_the_vocabulary_has_a_request() -> None:
    assert PROBES.keys() | ELSEWHERE == set(Feature)


def fate(wire: str, probe: Probe, request: ChatRequest) -> str:
    """What becomes of the feature: shown, recorded, refused; or vanished."""
    try:
        parts = codec(wire).encode_request(replace(request, model=MODELS[wire]))
    except UnsupportedFeature as refused:
        return "refused" if refused.feature in set(Feature) else f"refused for {refused.feature}"
    for lost in parts.degradations:
        assert lost.feature in set(Feature) or lost.feature.partition(".")[0] in {*WIRES, "elsewhere"}, lost
        assert lost.action
    if probe.shown(parts.body.decode()):
        return "shown"
    return "recorded" if parts.degradations else "vanished"


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("wire", sorted(WIRES))
def test_a_feature_is_sent_or_recorded_or_refused(wire: str, name: str) -> None:
    assert fate(wire, ALL[name], ALL[name].request) in {"shown", "recorded", "refused"}


@pytest.mark.parametrize(("origin", "target"), PAIRS, ids=str)
def test_a_feature_that_came_in_on_one_wire_is_not_lost_on_another(origin: str, target: str) -> None:
    """The request as ``origin`` wrote it, read by ``origin`` and sent to ``target``: what was in the first body is in
    the second, or was recorded or refused on the way."""
    vanished = []
    for name, probe in ALL.items():
        if fate(origin, probe, probe.request) != "shown":
            continue  # it never was on this wire
        written = codec(origin).encode_request(replace(probe.request, model=MODELS[origin]))
        try:
            read = read_request(origin, written.body, written.path)
        except InvalidRequest as error:
            vanished.append(f"{name}: {error}")
            continue
        if fate(target, probe, read) not in {"shown", "recorded", "refused"}:
            vanished.append(name)
    assert vanished == []
