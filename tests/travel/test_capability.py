"""What a request needs, what providers can do, and what happens where the two do not meet."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from resilient_llm import ResilientClient, capability, providers
from resilient_llm.capability import DROPPABLE, FEATURES, Capabilities, Needs, features, needs
from resilient_llm.errors import (
    ConfigurationError,
    Fault,
    FaultKind,
    InvalidRequest,
    NoProviderAvailable,
    RequestRejected,
    UnsupportedFeature,
)
from resilient_llm.model import (
    ChatRequest,
    Degradation,
    Extra,
    Media,
    Message,
    Opaque,
    OutputFormat,
    Text,
    Tool,
    ToolChoice,
)
from resilient_llm.providers import (
    Anthropic,
    Bedrock,
    Cohere,
    Gemini,
    HttpProvider,
    Ollama,
    OpenAI,
    OpenAICompatible,
    OpenAIResponses,
)
from resilient_llm.testing import LoopbackLLM, Reply, Status
from resilient_llm.wire import codec
from resilient_llm.wire.features import Feature
from tests.travel.probes import HISTORY, PROBES, WIRES, probe

ROOT = Path(__file__).parents[2]
LEFT_TO_THE_CODEC = {
    ("gemini", "file_id"): "a file that was uploaded there",
    ("anthropic_messages", "file_id"): "a file that was uploaded there",
}
"""Where the answer is not the same for all requests with the feature, planning trusts and the codec decides."""


@pytest.fixture(autouse=True)
def nothing_learnt() -> Iterator[None]:
    capability.forget()
    yield
    capability.forget()


@pytest.fixture
def server() -> Iterator[LoopbackLLM]:
    with LoopbackLLM(default=Reply("fine")) as server:
        yield server


def plain(*parts: object, **settings: object) -> ChatRequest:
    return ChatRequest((Message("user", (Text("Hello"), *parts)),), **settings)  # type: ignore[arg-type]


def provider_of(wire: str, **options: object) -> Capabilities:
    return Capabilities(wire, "", "m", "", options)


# --- what a request needs ---


def test_plain_text_needs_nothing() -> None:
    assert features(plain()) == frozenset()
    assert needs(plain(stream=True, n=1, output=OutputFormat("text")), "skip").features == frozenset()


@pytest.mark.parametrize("feature", PROBES)
def test_each_feature_is_found(feature: str) -> None:
    assert feature in features(PROBES[feature])


def test_there_is_a_probe_for_each_feature() -> None:
    assert set(PROBES) == set(FEATURES)


def test_a_file_at_a_vendor_is_no_url_on_the_web() -> None:
    assert features(plain(Media("image", url="gs://bucket/a.png"))) == {"image", "stored:gemini"}
    assert features(plain(Media("image", url="s3://bucket/a.png"))) == {"image", "stored:bedrock_converse"}
    assert provider_of("openai_chat").support("stored:gemini") == "none"
    assert provider_of("gemini").support("stored:gemini") == "full"


def test_fields_of_one_wire_bind_only_if_the_answer_depends_on_them() -> None:
    tier, state = Extra("openai_chat", {"service_tier": "flex"}), Extra("openai_responses", {"conversation": "c"})
    harmless = Extra("openai_chat", {"modalities": ["text"]})
    assert features(plain(extra=(tier, harmless))) == frozenset()
    assert features(plain(extra=(state,))) == {"only:openai_responses"}


# --- the tables ---


@pytest.mark.parametrize("feature", PROBES)
@pytest.mark.parametrize("wire", WIRES)
def test_the_table_says_what_the_codec_does(wire: str, feature: str) -> None:
    said = capability.WIRES[wire].get(feature, "full")
    done = probe(wire, PROBES[feature]).support
    if (wire, feature) in LEFT_TO_THE_CODEC:
        assert (said, done) == ("full", "none")
    elif feature == "media_in_tool_result" and wire == "bedrock_converse":
        assert said == done == "full"
    else:
        assert said == done


@pytest.mark.parametrize("wire", WIRES)
def test_blocks_of_another_vendor_are_in_the_table(wire: str) -> None:
    said = provider_of(wire).support("opaque:another")
    assert said == probe(wire, HISTORY["a vendor's own block"]).support
    assert provider_of(wire).support(f"opaque:{wire}") == "full"


@pytest.mark.parametrize("wire", WIRES)
def test_fields_that_bind_to_another_wire_are_refused(wire: str) -> None:
    assert provider_of(wire).support("only:another") == probe(wire, HISTORY["binding fields of another wire"]).support
    assert provider_of(wire).support(f"only:{wire}") == "full"


@pytest.mark.parametrize("feature", sorted(DROPPABLE.keys() - {"only", "opaque"}))
def test_what_is_left_out_is_gone(feature: str) -> None:
    rest = capability.leave_out(PROBES[feature], [feature])
    assert feature not in features(rest)
    assert rest.messages == PROBES[feature].messages


def test_foreign_fields_and_blocks_are_left_out() -> None:
    state = Extra("openai_responses", {"conversation": "c", "service_tier": "flex"})
    request = plain(Opaque("openai_responses", {"type": "web_search_call"}), extra=(state,))
    rest = capability.leave_out(request, features(request))
    assert rest.extra == (Extra("openai_responses", {"service_tier": "flex"}),)
    assert rest.messages == plain().messages


@pytest.mark.parametrize(
    ("model", "feature", "support"),
    [
        ("claude-sonnet-4-5-20250929", "prefill", "full"),
        ("claude-opus-4-6", "prefill", "none"),
        ("us.anthropic.claude-opus-4-6-v1:0", "prefill", "none"),
        ("claude-sonnet-5", "prefill", "none"),
        ("claude-opus-4-20250514", "prefill", "full"),
        ("claude-opus-4-6", "temperature", "full"),
        ("claude-opus-4-7", "temperature", "left_out"),
        ("claude-haiku-5-2", "top_p", "left_out"),
        ("gemini-3.6-flash", "prefill", "none"),
        ("gemini-2.5-pro", "prefill", "full"),
    ],
)
def test_models_differ(model: str, feature: str, support: str) -> None:
    assert Capabilities("gemini", "x", model, "", {}).support(feature) == support


@pytest.mark.parametrize(
    ("vendor", "model", "feature", "support"),
    [
        ("openai", "gpt-5-mini", "temperature", "left_out"),
        ("openai", "gpt-5.2", "temperature", "full"),
        ("openrouter", "gpt-5-mini", "temperature", "full"),
        ("groq", "llama", "n", "none"),
        ("deepseek", "deepseek-chat", "json_schema", "none"),
        ("mistral", "mistral-large", "document_url", "full"),
        ("openrouter", "google/gemini-2.5-flash", "video_url", "full"),
        ("vllm", "qwen-omni", "audio_url", "full"),
    ],
)
def test_vendors_differ(vendor: str, model: str, feature: str, support: str) -> None:
    assert Capabilities("openai_chat", vendor, model, "", {}).support(feature) == support


def test_the_user_knows_better() -> None:
    def of(**told: object) -> Capabilities:
        return OpenAI("gpt-5-mini", api_key="k", capabilities=told).capabilities  # type: ignore[arg-type]

    assert of(temperature=True).support("temperature") == "full"
    assert of(seed=False).support("seed") == "left_out"
    assert of(tools=False).support("tools") == "none"
    assert of(seed="none").support("seed") == "none"
    declared = of(seed=True)
    declared.learn("seed")
    assert declared.support("seed") == "full"


@pytest.mark.parametrize("told", [{"telepathy": True}, {"seed": "maybe"}, {"seed": 1.5}])
def test_nonsense_about_capabilities_is_refused(told: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match=r"telepathy|seed"):
        OpenAI("m", api_key="k", capabilities=told)  # type: ignore[arg-type]


@pytest.mark.parametrize("policy", ["ignore", {"telepathy": "skip"}, {"seed": "ignore"}, 7])
def test_nonsense_about_the_policy_is_refused(policy: object) -> None:
    with pytest.raises(ConfigurationError):
        ResilientClient([OpenAI("m", api_key="k")], on_unsupported=policy)  # type: ignore[arg-type]
    client = ResilientClient([OpenAI("m", api_key="k")])
    with pytest.raises(InvalidRequest):
        client.chat("x", on_unsupported=policy)  # type: ignore[arg-type]
    client.close()


# --- planning ---


def bedrock(server: LoopbackLLM, **options: object) -> Bedrock:
    return Bedrock("us.amazon.nova-2-lite-v1:0", region="eu-west-1", base_url=server.url, api_key="k", **options)  # type: ignore[arg-type]


def openai(server: LoopbackLLM, **options: object) -> OpenAI:
    return OpenAI("gpt-4.1", base_url=server.url + "/v1", api_key="k", **options)  # type: ignore[arg-type]


def test_a_provider_that_cannot_is_skipped_and_says_why(server: LoopbackLLM) -> None:
    with ResilientClient([bedrock(server), openai(server)]) as client:
        first, second = client.explain("x", n=2)
        assert (first.eligible, second.eligible) == (False, True)
        assert first.reason == "cannot do n"
        reply = client.chat("x", n=2)
        assert reply.provider == "openai/gpt-4.1"
        assert [record.provider for record in reply.attempts] == ["openai/gpt-4.1"]
        assert [request.wire for request in server.requests] == ["openai_chat"]


def test_nobody_can(server: LoopbackLLM) -> None:
    with ResilientClient([bedrock(server)]) as client:
        with pytest.raises(NoProviderAvailable) as caught:
            client.chat("x", logprobs=True, n=2)
        assert caught.value.reasons == {"bedrock/us.amazon.nova-2-lite-v1:0": "cannot do logprobs, n"}
        assert not server.requests


def test_what_can_be_said_otherwise_is_translated_and_recorded(server: LoopbackLLM) -> None:
    with ResilientClient([bedrock(server)]) as client:
        reply = client.chat("x", seed=7)
        assert reply.degradations == (Degradation("seed", "left out"),)


def test_degrading_leaves_out_what_can_be_left_out(server: LoopbackLLM) -> None:
    with ResilientClient([bedrock(server)], on_unsupported="degrade") as client:
        reply = client.chat("x", n=2, seed=7)
        assert {lost.feature for lost in reply.degradations} == {"n", "seed"}
        with client.stream("x", n=2) as stream:
            assert "".join(stream.text_deltas()) == "fine"
        assert {lost.feature for lost in stream.response.degradations} == {"n"}
        image = ChatRequest((Message("user", (Media("image", url="https://example.org/a.png"),)),))
        with pytest.raises(NoProviderAvailable, match="cannot do image_url"):
            client.chat(image)


def test_one_call_decides_otherwise_and_features_one_by_one(server: LoopbackLLM) -> None:
    with ResilientClient([bedrock(server)]) as client:
        assert client.chat("x", n=2, on_unsupported={"n": "degrade"}).degradations[0].feature == "n"
        with pytest.raises(NoProviderAvailable, match="cannot do seed"):
            client.chat("x", seed=7, on_unsupported={"seed": "skip"})
        with pytest.raises(UnsupportedFeature) as caught:
            client.chat("x", seed=7, on_unsupported="error")
        assert caught.value.feature == "seed"
        assert client.chat("x", on_unsupported="error").text == "fine"


@pytest.mark.parametrize("fields", [{"previous_response_id": "r_1"}, {"prompt": {"id": "pmpt_1"}}], ids=str)
def test_fields_of_one_wire_find_their_provider(server: LoopbackLLM, fields: dict[str, Any]) -> None:
    responses = OpenAIResponses("gpt-5.2", base_url=server.url + "/v1", api_key="k")
    with ResilientClient([openai(server), responses]) as client:
        reply = client.chat("x", extra={"openai_responses": fields})
        assert reply.provider == responses.id


@pytest.mark.parametrize("wire", [each for each in WIRES if each != "openai_responses"])
def test_a_stored_prompt_is_refused_where_it_is_not_stored(wire: str) -> None:
    body = b'{"model":"gpt-5.2","prompt":{"id":"pmpt_1","variables":{"city":"Oslo"}}}'
    asked = replace(codec("openai_responses").decode_request(body), model="m")
    assert "only:openai_responses" in features(asked)
    with pytest.raises(UnsupportedFeature) as caught:
        codec(wire).encode_request(asked)
    assert caught.value.feature == Feature.STORED_PROMPT


# --- learning ---


def unsupported(message: str, code: str | None = None) -> Status:
    body = {"error": {"message": message, "type": "invalid_request_error", "code": code}}
    return Status(400, body=json.dumps(body).encode())


REFUSALS = [
    ("Unsupported parameter: 'seed' is not supported with this model.", "unsupported_parameter", {"seed": 1}, "seed"),
    (
        "Unsupported value: 'temperature' does not support 0.2 with this model. Only the default (1) is supported.",
        "unsupported_value",
        {"temperature": 0.2},
        "temperature",
    ),
    ("`top_p` is deprecated for this model.", None, {"top_p": 0.5}, "top_p"),
    ("This model does not support tools", None, {"tools": [Tool("t")]}, "tools"),
    ("Unsupported parameter: 'logprobs'", "unsupported_parameter", {"logprobs": True}, "logprobs"),
]


@pytest.mark.parametrize(("message", "code", "settings", "feature"), REFUSALS)
def test_a_provider_that_says_unsupported_is_passed_by_and_believed(
    server: LoopbackLLM, message: str, code: str | None, settings: dict[str, object], feature: str
) -> None:
    with LoopbackLLM(unsupported(message, code), default=Reply("first")) as picky:
        wanted = OpenAICompatible("gpt-4.1", base_url=picky.url + "/v1", id="first")
        with ResilientClient([wanted, openai(server)]) as client:
            reply = client.chat("x", **settings)  # type: ignore[arg-type]
            assert reply.provider == "openai/gpt-4.1"
            assert reply.attempts[0].fault is not None
            assert reply.attempts[0].fault.kind is FaultKind.UNSUPPORTED
            again = client.chat("x", **settings)  # type: ignore[arg-type]
            if wanted.capabilities.support(feature) == "left_out":
                assert (again.provider, again.degradations[0].feature) == ("first", feature)
                assert feature not in picky.requests[-1].json
            else:
                assert again.provider == "openai/gpt-4.1"
                assert client.explain("x", **settings)[0].reason == f"cannot do {feature}"  # type: ignore[arg-type]
            assert client.chat("x").provider == "first"
            assert client.health()["first"].state == "healthy"


def test_what_was_learnt_holds_for_the_model_at_that_place_and_no_other(server: LoopbackLLM) -> None:
    one, same, other = openai(server, id="1"), openai(server, id="2"), bedrock(server)
    one.capabilities.learn("tools")
    assert same.capabilities.support("tools") == "none"
    assert other.capabilities.support("tools") == "full"


def fault(message: str, code: str | None = None, kind: FaultKind = FaultKind.BAD_REQUEST) -> Fault:
    return Fault(kind, status=400, code=code, message=message)


@pytest.mark.parametrize(
    ("told", "feature"),
    [
        (fault("This model does not support assistant message prefill."), "prefill"),
        (fault("Requests ending with a model turn are not supported"), "prefill"),
        (fault("top_k: Extra inputs are not permitted"), "top_k"),
        (fault("something", "unsupported_parameter"), ""),
        (fault("Unsupported parameter: 'telepathy'"), ""),
        (fault("registry.example/library/x does not support tools"), "tools"),
        (fault("image input is not supported"), "image"),
        (fault("messages: at least one message is required"), None),
        (fault("Unsupported image type"), None),
        (fault("Unsupported parameter: 'seed'", kind=FaultKind.RATE_LIMITED), None),
    ],
)
def test_refusals_are_told_from_other_rejections(told: Fault, feature: str | None) -> None:
    assert capability.refusal(told) == feature


def test_a_request_that_is_wrong_everywhere_is_not_passed_on(server: LoopbackLLM) -> None:
    server.script(unsupported("messages: at least one message is required"))
    with ResilientClient([openai(server), bedrock(server)]) as client, pytest.raises(RequestRejected):
        client.chat("x")
    assert len(server.requests) == 1


def test_a_refusal_of_what_was_not_asked_for_teaches_nothing() -> None:
    provider = OpenAI("m", api_key="k")
    provider.capabilities.remember_refusal(fault("Unsupported parameter: 'seed'"), Needs(frozenset({"tools"})))
    assert provider.capabilities.support("seed") == "full"


# --- windows ---


LONG = "long " * 2000


def test_a_prompt_that_cannot_fit_is_not_sent(server: LoopbackLLM) -> None:
    small, large = openai(server, id="small", context_window=1000), openai(server, id="large", context_window=10000)
    with ResilientClient([small, large]) as client:
        assert client.chat(LONG).provider == "large"
        assert client.chat("short").provider == "small"
        reason = client.explain(LONG)[0].reason
        assert reason is not None
        assert "window of 1000" in reason


TOO_LONG = b'{"error":{"message":"maximum context length is 8192 tokens","code":"context_length_exceeded"}}'


def test_a_prompt_that_did_not_fit_goes_to_larger_windows_only(server: LoopbackLLM) -> None:
    server.script(Status(400, body=TOO_LONG))
    first = openai(server, id="first", context_window=8192)
    smaller, unknown = openai(server, id="smaller", context_window=4096), openai(server, id="unknown")
    larger = openai(server, id="larger", context_window=100_000)
    with ResilientClient([first, smaller, larger, unknown]) as client:
        reply = client.chat("x")
        assert [record.provider for record in reply.attempts] == ["first", "larger"]


def test_a_prompt_that_fits_nowhere_is_rejected(server: LoopbackLLM) -> None:
    server.script(Status(400, body=TOO_LONG))
    smaller = openai(server, id="smaller", context_window=4096)
    client = ResilientClient([openai(server, id="first", context_window=8192), smaller])
    with client, pytest.raises(RequestRejected, match="too long"):
        client.chat("x")
    assert len(server.requests) == 1


def test_every_wire_has_its_provider() -> None:
    known: list[HttpProvider] = [
        OpenAI("m", api_key="k"),
        OpenAIResponses("m", api_key="k"),
        Anthropic("m", api_key="k"),
        Gemini("m", api_key="k"),
        Bedrock("m", api_key="k", region="eu-west-1"),
        Cohere("m", api_key="k"),
        Ollama("m"),
    ]
    assert [provider.codec.name for provider in known] == list(WIRES)
    assert [provider.capabilities.wire for provider in known] == list(WIRES)


def test_a_choice_without_tools_left_is_no_choice() -> None:
    request = plain(tool_choice=ToolChoice("required"))
    assert capability.leave_out(request, ["tool_choice.required"]).tool_choice is None


# --- every provider, and the documentation ---

_GIVEN: dict[str, dict[str, object]] = {
    "AnthropicFoundry": {"resource": "r"},
    "AzureOpenAI": {"base_url": "https://a.example"},
    "AzureOpenAIResponses": {"base_url": "https://a.example"},
    "Bedrock": {"region": "eu-west-1"},
    "Vertex": {"project": "p"},
    "CloudflareWorkersAI": {"base_url": "https://a.example"},
    "OpenAICompatible": {"base_url": "https://a.example"},
}
_KINDS = sorted(
    name
    for name in providers.__all__
    if isinstance(kind := getattr(providers, name), type)
    and issubclass(kind, HttpProvider)
    and kind is not HttpProvider
)


@pytest.mark.parametrize("name", _KINDS)
def test_planning_lets_through_what_can_be_sent(name: str) -> None:
    provider = getattr(providers, name)("m", api_key="k", **_GIVEN.get(name, {}))
    for feature, request in PROBES.items():
        planned = provider.capabilities.lacks(needs(request, "skip")) is None
        if not planned or (provider.wire, feature) in LEFT_TO_THE_CODEC:
            continue
        provider.prepare(request, "k")  # raises if the wire cannot say it after all


def test_every_provider_has_a_place_in_the_documentation() -> None:
    pages = "".join(page.read_text() for page in (ROOT / "docs" / "providers").glob("*.md"))
    assert [name for name in _KINDS if f"{name}(" not in pages and f"`{name}`" not in pages] == []


def test_a_beginning_that_the_vendor_allowed_is_no_need() -> None:
    turns = (Message("user", (Text("hi"),)), Message("assistant", (Text("Well,"),)))
    token = Extra("anthropic_messages", {"fallback_credit_token": "t"})
    assert "prefill" in features(ChatRequest(turns))
    assert "prefill" not in features(ChatRequest(turns, extra=(token,)))
