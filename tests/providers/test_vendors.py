"""Where each vendor is asked, with which credentials, and how its answers are read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from resilient_llm import AsyncResilientClient, ResilientClient
from resilient_llm.errors import ConfigurationError, NoProviderAvailable
from resilient_llm.model import ChatRequest, EmbedRequest, Extra, Media, Message, Text, Tool, ToolCall
from resilient_llm.providers import (
    Anthropic,
    AnthropicFoundry,
    AzureOpenAI,
    AzureOpenAIResponses,
    Bedrock,
    CloudflareWorkersAI,
    Cohere,
    Gemini,
    HttpProvider,
    Mistral,
    Ollama,
    OpenAI,
    OpenAIResponses,
    Vertex,
)
from resilient_llm.providers.base import Prepared
from resilient_llm.testing import LoopbackLLM, Reply, Status

VARIABLES = (
    *("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL", "ANTHROPIC_FOUNDRY_API_KEY"),
    *("CLOUDFLARE_ACCOUNT_ID", "CLOUDFLARE_API_TOKEN", "CLOUDFLARE_API_KEY"),
    *("ANTHROPIC_FOUNDRY_RESOURCE", "ANTHROPIC_FOUNDRY_BASE_URL", "GEMINI_API_KEY", "GOOGLE_API_KEY"),
    *("GOOGLE_GEMINI_BASE_URL", "GOOGLE_CLOUD_PROJECT", "GOOGLE_CLOUD_LOCATION", "AWS_BEARER_TOKEN_BEDROCK"),
    *("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL_BEDROCK_RUNTIME", "CO_API_KEY", "COHERE_API_KEY"),
    *("CO_API_URL", "OLLAMA_HOST", "OLLAMA_API_KEY", "OPENAI_API_KEY", "OPENAI_BASE_URL"),
    *("AZURE_OPENAI_ENDPOINT", "AZURE_OPENAI_API_KEY", "AZURE_API_KEY"),
)


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def server() -> Iterator[LoopbackLLM]:
    with LoopbackLLM(default=Reply("fine")) as server:
        yield server


def sent(provider: HttpProvider, stream: bool = False) -> Prepared:
    """What would be sent, with the key the provider found."""
    request = ChatRequest((Message("user", (Text("Hello"),)),), stream=stream)
    return provider.prepare(request, provider.credential.get())


def header(prepared: Prepared, name: str) -> str | None:
    found = [value for key, value in prepared.headers if key == name]
    assert len(found) <= 1, f"{name} is sent twice"
    return found[0] if found else None


# --- where ---

PLACES: list[tuple[Callable[[], HttpProvider], str, str]] = [
    (
        lambda: Anthropic("claude-sonnet-5", api_key="k"),
        "https://api.anthropic.com/v1/messages",
        "https://api.anthropic.com/v1/messages",
    ),
    (
        lambda: Anthropic("claude-sonnet-5", api_key="k", base_url="https://proxy.example/claude/v1/"),
        "https://proxy.example/claude/v1/messages",
        "https://proxy.example/claude/v1/messages",
    ),
    (
        lambda: AnthropicFoundry("claude", api_key="k", resource="my-resource"),
        "https://my-resource.services.ai.azure.com/anthropic/v1/messages",
        "https://my-resource.services.ai.azure.com/anthropic/v1/messages",
    ),
    (
        lambda: Gemini("gemini-3-pro", api_key="k"),
        "https://generativelanguage.googleapis.com/v1beta/models/gemini-3-pro:generateContent",
        "https://generativelanguage.googleapis.com/v1beta/models/gemini-3-pro:streamGenerateContent?alt=sse",
    ),
    (
        lambda: Gemini("gemini-3-pro", api_key="k", base_url="https://proxy.example/v1"),
        "https://proxy.example/v1/models/gemini-3-pro:generateContent",
        "https://proxy.example/v1/models/gemini-3-pro:streamGenerateContent?alt=sse",
    ),
    (
        lambda: Vertex("gemini-3-pro", token="t", project="p-1", location="europe-west4"),
        "https://europe-west4-aiplatform.googleapis.com/v1/projects/p-1/locations/europe-west4"
        "/publishers/google/models/gemini-3-pro:generateContent",
        "https://europe-west4-aiplatform.googleapis.com/v1/projects/p-1/locations/europe-west4"
        "/publishers/google/models/gemini-3-pro:streamGenerateContent?alt=sse",
    ),
    (
        lambda: Vertex("claude-sonnet-5@20260101", token="t", project="p-1"),
        "https://aiplatform.googleapis.com/v1/projects/p-1/locations/global"
        "/publishers/anthropic/models/claude-sonnet-5@20260101:rawPredict",
        "https://aiplatform.googleapis.com/v1/projects/p-1/locations/global"
        "/publishers/anthropic/models/claude-sonnet-5@20260101:streamRawPredict",
    ),
    (
        lambda: Vertex("endpoints/123", token="t", project="p-1", location="eu"),
        "https://aiplatform.eu.rep.googleapis.com/v1/projects/p-1/locations/eu/endpoints/123:generateContent",
        "https://aiplatform.eu.rep.googleapis.com/v1/projects/p-1/locations/eu/endpoints/123"
        ":streamGenerateContent?alt=sse",
    ),
    (
        lambda: Bedrock("us.anthropic.claude-sonnet-4-5-20250929-v1:0", api_key="k", region="us-east-1"),
        "https://bedrock-runtime.us-east-1.amazonaws.com/model/us.anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse",
        "https://bedrock-runtime.us-east-1.amazonaws.com"
        "/model/us.anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse-stream",
    ),
    (
        lambda: Cohere("command-a", api_key="k", base_url="https://api.cohere.com/v2"),
        "https://api.cohere.com/v2/chat",
        "https://api.cohere.com/v2/chat",
    ),
    (lambda: Ollama("qwen3"), "http://localhost:11434/api/chat", "http://localhost:11434/api/chat"),
    (
        lambda: OpenAIResponses("gpt-5.2", api_key="k"),
        "https://api.openai.com/v1/responses",
        "https://api.openai.com/v1/responses",
    ),
    (
        lambda: AzureOpenAI(
            "my deployment", api_key="k", base_url="https://r.openai.azure.com", api_version="2024-10-21"
        ),
        "https://r.openai.azure.com/openai/deployments/my%20deployment/chat/completions?api-version=2024-10-21",
        "https://r.openai.azure.com/openai/deployments/my%20deployment/chat/completions?api-version=2024-10-21",
    ),
    (
        lambda: AzureOpenAIResponses("d", api_key="k", base_url="https://r.openai.azure.com/openai/v1/"),
        "https://r.openai.azure.com/openai/v1/responses",
        "https://r.openai.azure.com/openai/v1/responses",
    ),
    (
        lambda: AzureOpenAIResponses("d", api_key="k", base_url="https://r.openai.azure.com", api_version="2025-03-01"),
        "https://r.openai.azure.com/openai/responses?api-version=2025-03-01",
        "https://r.openai.azure.com/openai/responses?api-version=2025-03-01",
    ),
]


@pytest.mark.parametrize(("make", "whole", "streamed"), PLACES)
def test_each_vendor_is_asked_at_its_place(make: Callable[[], HttpProvider], whole: str, streamed: str) -> None:
    assert sent(make()).url == whole
    assert sent(make(), stream=True).url == streamed


@pytest.mark.parametrize("location", ["global", "us", "eu", "us-central1"])
def test_vertex_has_a_host_for_each_kind_of_location(location: str) -> None:
    host = Vertex("gemini-3-pro", token="t", project="p", location=location).host
    assert host == {
        "global": "aiplatform.googleapis.com",
        "us": "aiplatform.us.rep.googleapis.com",
        "eu": "aiplatform.eu.rep.googleapis.com",
        "us-central1": "us-central1-aiplatform.googleapis.com",
    }.get(location)


def test_claude_on_vertex_names_its_version_in_the_body() -> None:
    prepared = sent(Vertex("claude-sonnet-5", token="t", project="p"), stream=True)
    body = json.loads(prepared.body)
    assert body["anthropic_version"] == "vertex-2023-10-16"
    assert "model" not in body
    assert body["stream"] is True
    assert header(prepared, "anthropic-version") is None


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1:1234", "http://127.0.0.1:1234"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("https://ollama.com", "https://ollama.com"),
        ("http://box/prefix/", "http://box/prefix"),
        (" ", "http://localhost:11434"),
    ],
)
def test_ollama_is_where_its_own_variable_says(monkeypatch: pytest.MonkeyPatch, host: str, url: str) -> None:
    monkeypatch.setenv("OLLAMA_HOST", host)
    assert Ollama("qwen3").base_url == url


@pytest.mark.parametrize(
    ("make", "variable"),
    [
        (lambda: Anthropic("m", api_key="k"), "ANTHROPIC_BASE_URL"),
        (lambda: AnthropicFoundry("m", api_key="k"), "ANTHROPIC_FOUNDRY_BASE_URL"),
        (lambda: Gemini("m", api_key="k"), "GOOGLE_GEMINI_BASE_URL"),
        (lambda: Bedrock("m", api_key="k", region="r"), "AWS_ENDPOINT_URL_BEDROCK_RUNTIME"),
        (lambda: Cohere("m", api_key="k"), "CO_API_URL"),
        (lambda: OpenAIResponses("m", api_key="k"), "OPENAI_BASE_URL"),
    ],
)
def test_the_environment_moves_a_vendor(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[], HttpProvider], variable: str
) -> None:
    monkeypatch.setenv(variable, "https://elsewhere.example/x")
    assert sent(make()).url.startswith("https://elsewhere.example/x/")


WORKERS = "https://api.cloudflare.com/client/v4/accounts/{}/ai/v1"


def test_the_account_at_cloudflare_is_part_of_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    def workers(**options: Any) -> HttpProvider:
        return CloudflareWorkersAI("@cf/meta/llama-3.1-8b-instruct", api_key="k", **options)

    assert sent(workers(account_id="023e105f")).url == WORKERS.format("023e105f") + "/chat/completions"
    monkeypatch.setenv("CLOUDFLARE_ACCOUNT_ID", "4fae")
    assert workers().base_url == WORKERS.format("4fae")
    assert workers(account_id="023e105f").base_url == WORKERS.format("023e105f"), "what is given goes first"
    assert workers(base_url="https://gateway.example/v1", account_id="a").base_url == "https://gateway.example/v1"


@pytest.mark.parametrize("account", [None, "", "a/../b", "a?b", "{x}", "\u0661"])
def test_an_account_that_cannot_be_one_is_refused_and_the_ways_to_give_it_are_named(account: str | None) -> None:
    with pytest.raises(ConfigurationError, match=r"account_id= \(or CLOUDFLARE_ACCOUNT_ID\), or base_url="):
        CloudflareWorkersAI("m", api_key="k", account_id=account)


# --- with which key ---


@pytest.mark.parametrize(
    ("make", "variable", "name", "value"),
    [
        (lambda: Anthropic("m"), "ANTHROPIC_API_KEY", "x-api-key", "k-1"),
        (lambda: Anthropic("m"), "ANTHROPIC_AUTH_TOKEN", "authorization", "Bearer k-1"),
        (lambda: AnthropicFoundry("m", resource="r"), "ANTHROPIC_FOUNDRY_API_KEY", "x-api-key", "k-1"),
        (lambda: Gemini("m"), "GEMINI_API_KEY", "x-goog-api-key", "k-1"),
        (lambda: Gemini("m"), "GOOGLE_API_KEY", "x-goog-api-key", "k-1"),
        (lambda: Bedrock("m", region="r"), "AWS_BEARER_TOKEN_BEDROCK", "authorization", "Bearer k-1"),
        (lambda: Cohere("m"), "CO_API_KEY", "authorization", "Bearer k-1"),
        (lambda: Cohere("m"), "COHERE_API_KEY", "authorization", "Bearer k-1"),
        (lambda: Ollama("m"), "OLLAMA_API_KEY", "authorization", "Bearer k-1"),
        (lambda: OpenAIResponses("m"), "OPENAI_API_KEY", "authorization", "Bearer k-1"),
        (lambda: AzureOpenAIResponses("m", base_url="https://a"), "AZURE_OPENAI_API_KEY", "api-key", "k-1"),
    ],
)
def test_keys_come_from_the_usual_variables(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[], HttpProvider], variable: str, name: str, value: str
) -> None:
    monkeypatch.setenv(variable, "k-1")
    prepared = sent(make())
    assert header(prepared, name) == value
    assert header(prepared, "content-type") == "application/json"
    assert sum("k-1" in each for _, each in prepared.headers) == 1


def test_a_key_goes_before_a_token_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "token")
    assert header(sent(Anthropic("m", api_key="key")), "x-api-key") == "key"
    monkeypatch.setenv("ANTHROPIC_API_KEY", "key-2")
    assert header(sent(Anthropic("m")), "x-api-key") == "key-2"


@pytest.mark.parametrize(
    "make",
    [
        lambda: Anthropic("m", token=lambda: "fresh"),
        lambda: AnthropicFoundry("m", resource="r", token=lambda: "fresh"),
        lambda: Vertex("gemini-3-pro", project="p", token=lambda: "fresh"),
        lambda: Vertex("claude-sonnet-5", project="p", token=lambda: "fresh"),
        lambda: AzureOpenAI("m", base_url="https://a", token=lambda: "fresh"),
        lambda: AzureOpenAIResponses("m", base_url="https://a", token=lambda: "fresh"),
    ],
)
def test_tokens_are_asked_for_and_sent_as_bearer(make: Callable[[], HttpProvider]) -> None:
    prepared = sent(make())
    assert header(prepared, "authorization") == "Bearer fresh"
    assert header(prepared, "x-api-key") is None


@pytest.mark.parametrize(
    "make",
    [
        lambda: Anthropic("m"),
        lambda: Anthropic("m", api_key="k", token="t"),
        lambda: Anthropic("m", api_key="k", version="2024-01-01"),  # type: ignore[arg-type]
        lambda: AnthropicFoundry("m", api_key="k"),
        lambda: AnthropicFoundry("m", api_key="k", resource="a/b"),
        lambda: Gemini("m"),
        lambda: Vertex("m", project="p"),
        lambda: Vertex("m", project="p", token="t", api_key="k"),
        lambda: Vertex("m", token="t"),
        lambda: Vertex("m", token="t", project="p", location="a/b"),
        lambda: Vertex(7, token="t", project="p"),  # type: ignore[arg-type]
        lambda: Bedrock("m", api_key="k"),
        lambda: Bedrock("m", api_key="k", region="a.b/c"),
        lambda: Bedrock("m", api_key="k", region="r", profile="p"),
        lambda: Cohere("m"),
        lambda: OpenAIResponses("m"),
    ],
)
def test_what_is_missing_or_contradicts_is_said_at_once(make: Callable[[], HttpProvider]) -> None:
    with pytest.raises(ConfigurationError):
        make()


def test_the_rest_of_a_response_is_asked_for_where_azures_dated_api_keeps_it() -> None:
    azure = AzureOpenAIResponses("d", api_key="k", base_url="https://r.openai.azure.com", api_version="2025-03-01")
    rest = azure.prepare_rest("/responses/resp_1?stream=true&starting_after=3", ChatRequest(()), "k")
    where = "https://r.openai.azure.com/openai/responses/resp_1"
    assert rest.url == f"{where}?stream=true&starting_after=3&api-version=2025-03-01"


def test_the_version_of_the_messages_api_is_a_choice() -> None:
    old, new = (
        Anthropic("claude-opus-4-5", api_key="k"),
        Anthropic("claude-opus-4-5", api_key="k", version="2026-10-21"),
    )
    assert header(sent(old), "anthropic-version") == "2023-06-01"
    assert header(sent(new), "anthropic-version") == "2026-10-21"
    warm = ChatRequest((Message("user", (Text("Hello"),)),), temperature=0.5)
    assert json.loads(old.prepare(warm, "k").body)["temperature"] == 0.5
    cold = new.prepare(warm, "k")
    assert "temperature" not in json.loads(cold.body)
    assert [lost.feature for lost in cold.degradations] == ["temperature"]


def test_vertex_lets_urls_through() -> None:
    picture = ChatRequest((Message("user", (Media("image", url="https://example.org/a.png"),)),))
    assert b"https://example.org/a.png" in Vertex("gemini-3-pro", token="t", project="p").prepare(picture, "t").body


# --- asked over HTTP ---


def everywhere(url: str) -> list[HttpProvider]:
    return [
        OpenAI("gpt-4.1", base_url=url + "/v1", api_key="k"),
        OpenAIResponses("gpt-5.2", base_url=url + "/v1", api_key="k"),
        Anthropic("claude-sonnet-4-5", base_url=url, api_key="k"),
        AnthropicFoundry("claude-sonnet-4-5", base_url=url + "/anthropic", api_key="k"),
        Gemini("gemini-3-pro", base_url=url, api_key="k"),
        Vertex("gemini-3-pro", base_url=url, token="t", project="p"),
        Vertex("claude-sonnet-4-5", base_url=url, token="t", project="p"),
        Bedrock("us.amazon.nova-2-lite-v1:0", base_url=url, api_key="k", region="eu-west-1"),
        Cohere("command-a", base_url=url, api_key="k"),
        Ollama("qwen3", base_url=url),
        AzureOpenAI("d", base_url=url, api_key="k"),
        AzureOpenAI("d2", base_url=url, api_key="k", api_version="2024-10-21"),
        AzureOpenAIResponses("d", base_url=url, api_key="k"),
    ]


@pytest.mark.parametrize("index", range(13))
def test_each_provider_answers_whole_and_streamed(server: LoopbackLLM, index: int) -> None:
    provider = everywhere(server.url)[index]
    server.default = Reply("Hi", tool_calls=(ToolCall("call_1", "weather", '{"city":"Oslo"}'),))
    with ResilientClient([provider]) as client:
        whole = client.chat("Hello", tools=[Tool("weather")])
        with client.stream("Hello", tools=[Tool("weather")]) as stream:
            list(stream)
        for response in (whole, stream.response):
            assert response.text == "Hi"
            assert response.tool_calls[0].parse() == {"city": "Oslo"}
            assert response.finish_reason == "tool_calls"
            assert response.provider == provider.id
    assert all("content-type" in request.headers for request in server.requests)
    assert {request.headers["content-type"] for request in server.requests} == {"application/json"}


def test_the_ids_of_different_providers_for_one_model_differ(server: LoopbackLLM) -> None:
    ids = [provider.id for provider in everywhere(server.url)]
    assert len(set(ids)) == len(ids)


@pytest.mark.anyio
async def test_the_async_client_asks_an_async_token(server: LoopbackLLM) -> None:
    async def token() -> str:
        return "fresh"

    provider = Vertex("claude-sonnet-4-5", base_url=server.url, project="p", token=token)
    async with AsyncResilientClient([provider]) as client:
        assert (await client.chat("Hello")).text == "fine"
    assert server.requests[0].headers["authorization"] == "Bearer fresh"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


# --- embeddings ---

TWO = [[1.0, 2.0], [3.0, 4.0]]
EMBED: list[tuple[Callable[[str], HttpProvider], str, dict[str, object]]] = [
    (
        lambda url: OpenAI("e", base_url=url + "/v1", api_key="k"),
        "/v1/embeddings",
        {"data": [{"index": 1, "embedding": TWO[1]}, {"index": 0, "embedding": TWO[0]}]},
    ),
    (
        lambda url: AzureOpenAI("e", base_url=url, api_key="k"),
        "/openai/v1/embeddings",
        {"data": [{"index": 0, "embedding": TWO[0]}, {"index": 1, "embedding": TWO[1]}]},
    ),
    (
        lambda url: Mistral("e", base_url=url + "/v1", api_key="k"),
        "/v1/embeddings",
        {"data": [{"index": 0, "embedding": TWO[0]}, {"index": 1, "embedding": TWO[1]}]},
    ),
    (
        lambda url: Gemini("e", base_url=url, api_key="k"),
        "/v1beta/models/e:batchEmbedContents",
        {"embeddings": [{"values": TWO[0]}, {"values": TWO[1]}]},
    ),
    (lambda url: Cohere("e", base_url=url, api_key="k"), "/v2/embed", {"embeddings": {"float": TWO}}),
    (lambda url: Ollama("e", base_url=url), "/api/embed", {"embeddings": TWO}),
]


@pytest.mark.parametrize(("make", "path", "answer"), EMBED)
def test_embeddings(
    server: LoopbackLLM, make: Callable[[str], HttpProvider], path: str, answer: dict[str, object]
) -> None:
    server.script(Status(200, body=answer))
    with ResilientClient([make(server.url)]) as client:
        response = client.embed(["a", "b"])
    assert response.vectors == ((1.0, 2.0), (3.0, 4.0))
    assert server.requests[0].path == path
    assert b'"a"' in server.requests[0].body


def test_titan_embeds_one_text_at_a_time(server: LoopbackLLM) -> None:
    server.script(Status(200, body={"embedding": [1.0, 2.0], "inputTextTokenCount": 1}))
    titan = Bedrock("amazon.titan-embed-text-v2:0", base_url=server.url, api_key="k", region="eu-west-1")
    with ResilientClient([titan]) as client:
        assert client.embed("a").vectors == ((1.0, 2.0),)
    assert server.requests[0].path == "/model/amazon.titan-embed-text-v2%3A0/invoke"


@pytest.mark.parametrize("index", [2, 3, 5, 6, 7])
def test_who_offers_no_embeddings_is_not_asked(server: LoopbackLLM, index: int) -> None:
    client = ResilientClient([everywhere(server.url)[index]])
    with client, pytest.raises(NoProviderAvailable, match="offers no embeddings"):
        client.embed("a")
    assert not server.requests


def test_cohere_is_told_what_the_vectors_are_for() -> None:
    asked = EmbedRequest(("a",), extra=(Extra("cohere_v2", {"input_type": "search_query"}),))
    body = json.loads(Cohere("e", api_key="k").prepare_embed(asked, "k").body)
    assert body["input_type"] == "search_query"


def test_every_provider_that_is_written_can_be_imported() -> None:
    from resilient_llm import providers
    from resilient_llm.providers.base import HttpProvider

    for name in providers.__all__:
        getattr(providers, name)
    kinds = [HttpProvider]
    for kind in kinds:
        kinds += kind.__subclasses__()
    written = {kind.__name__ for kind in kinds if kind.__module__.startswith("resilient_llm.providers.")}
    assert not written - set(providers.__all__), "add it in providers/__init__.py, three times"
