"""Embeddings: texts in parts that providers take, put together in order; who is asked, who is not, and why."""

from __future__ import annotations

import json
import random
import time
from typing import Any

import pytest

from resilient_llm import (
    AllAttemptsFailed,
    CallFailed,
    ConfigurationError,
    DeadlineExceeded,
    NoProviderAvailable,
    ResilientClient,
)
from resilient_llm.model import ChatRequest, ChatResponse, EmbedRequest, EmbedResponse, Text, Usage
from resilient_llm.providers import Bedrock, Cohere, Gemini, Mistral, OpenAI, Vertex
from resilient_llm.providers.embedding import EmbedLimits, joined, parts_of, smallest, text_tokens
from resilient_llm.testing import (
    AsyncScriptedProvider,
    Hang,
    LoopbackLLM,
    Reply,
    ScriptedProvider,
    Status,
)
from tests.drive.clients import World, openai

# --- parts ---


@pytest.mark.parametrize("seed", range(30))
def test_parts_hold_what_fits_in_order_and_nothing_is_lost(seed: int) -> None:
    luck = random.Random(seed)
    texts = tuple("x" * luck.randrange(1, 400) for _ in range(luck.randrange(1, 60)))
    limits = EmbedLimits(luck.choice([None, 1, 3, 10]), luck.choice([None, 50, 500]))
    parts = parts_of(EmbedRequest(texts, "m", 3), limits)
    assert tuple(text for part in parts for text in part.inputs) == texts
    for part in parts:
        assert (part.model, part.dimensions) == ("m", 3)
        assert limits.texts is None or len(part.inputs) <= limits.texts
        tokens = sum(map(text_tokens, part.inputs))
        assert limits.tokens is None or tokens <= limits.tokens or len(part.inputs) == 1


def test_a_key_tells_the_parts_apart() -> None:
    parts = parts_of(EmbedRequest(("a", "b"), idempotency_key="k"), EmbedLimits(1))
    assert [part.idempotency_key for part in parts] == ["k-0", "k-1"]
    assert parts_of(EmbedRequest(("a", "b"), idempotency_key="k"), EmbedLimits())[0].idempotency_key == "k"


def test_everybody_who_may_be_asked_can_take_a_part() -> None:
    assert smallest([EmbedLimits(100, None), EmbedLimits(96, 500), EmbedLimits()]) == EmbedLimits(96, 500)
    assert smallest([]) == EmbedLimits()


@pytest.mark.parametrize("text", ["word " * 100, "日本語のテキスト" * 20, "слово " * 50, "def f(x): return x\n" * 30])
def test_tokens_are_rather_too_many(text: str) -> None:
    """English has about four characters a token, Japanese and Russian at least one and two."""
    per = 4 if text.isascii() else 1 if "日" in text else 2.5
    assert text_tokens(text) >= len(text) / per


def test_usage_is_summed() -> None:
    one = EmbedResponse(((1.0,),), "m", Usage(3, total_tokens=3), {"raw": 1}, "p")
    whole = joined([one, EmbedResponse(((2.0,), (3.0,)), "m", None, None, "q")])
    assert whole == EmbedResponse(((1.0,), (2.0,), (3.0,)), "m", Usage(3, total_tokens=3), None, "p")
    assert joined([one]) is one


@pytest.mark.parametrize(
    ("provider", "limits"),
    [
        (OpenAI("text-embedding-3-small", api_key="k"), EmbedLimits(2048, 300_000)),
        (OpenAI("e", api_key="k", embed_batch=10), EmbedLimits(10, 300_000)),
        (Cohere("e", api_key="k"), EmbedLimits(96)),
        (Gemini("e", api_key="k"), EmbedLimits(100)),
        (Mistral("e", api_key="k"), EmbedLimits(None, 16_000)),
        (Vertex("text-embedding-005", token="t", project="p"), EmbedLimits(250, 20_000)),
        (Vertex("gemini-embedding-001", token="t", project="p"), EmbedLimits(1)),
        (Bedrock("amazon.titan-embed-text-v2:0", api_key="k", region="eu-west-1"), EmbedLimits(1)),
    ],
    ids=lambda value: getattr(value, "id", None),
)
def test_the_documented_limits(provider: OpenAI, limits: EmbedLimits) -> None:
    assert provider.embed_limits == limits


def test_a_limit_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="embed_batch must be a whole number"):
        OpenAI("e", api_key="k", embed_batch=0)


# --- over the network ---


def test_many_texts_are_sent_in_parts_and_put_together(world: World) -> None:
    server = world.server()
    client = world.client([openai(server, embed_batch=10)])
    texts = [f"text {number}" for number in range(95)]
    response = client.embed(texts, dimensions=4)
    assert server.request_count == 10
    assert response.usage == Usage(100, total_tokens=100)
    assert len(response.attempts) == 10
    assert all(len(vector) == 4 for vector in response.vectors)
    asked = [json.loads(request.body)["input"] for request in server.requests]
    assert sorted(text for part in asked for text in part) == sorted(texts)
    one_by_one = {text: client.embed(text, dimensions=4).vectors[0] for text in texts[::30]}
    assert {text: response.vectors[texts.index(text)] for text in one_by_one} == one_by_one


def test_parts_are_sent_at_once(world: World) -> None:
    server = world.server(default=Reply(delay=0.2))
    began = time.monotonic()
    world.client([openai(server, embed_batch=1)]).embed(["a", "b", "c", "d", "e", "f"])
    assert time.monotonic() - began < 1.0


def test_a_part_that_fails_ends_the_others(world: World) -> None:
    server = world.server(default=Reply(delay=30))
    server.script(Status(400))
    client = world.client([openai(server, embed_batch=1)])
    began = time.monotonic()
    with pytest.raises(CallFailed):
        client.embed([str(number) for number in range(100)])
    assert time.monotonic() - began < 5
    assert server.request_count <= 8
    until = time.monotonic() + 5
    while client.in_flight() and time.monotonic() < until:
        time.sleep(0.01)
    assert not client.in_flight()


def test_the_deadline_is_for_all_parts_together(world: World) -> None:
    server = world.server(default=Reply(delay=0.25))
    client = world.client([openai(server, embed_batch=1)])
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        client.embed([str(number) for number in range(100)], deadline=0.8)
    assert time.monotonic() - began < 3


def test_parts_fail_over_within_the_space(world: World) -> None:
    broken, well = world.server(default=Status(500)), world.server()
    providers = [
        openai(broken, "a", embedding_space="s", embed_batch=5),
        openai(well, "b", embedding_space="s", embed_batch=3),
    ]
    response = world.client(providers).embed([str(number) for number in range(9)])
    assert response.provider == "b"
    assert well.request_count == 3


def test_who_was_not_asked_is_named_in_the_error(world: World) -> None:
    broken, other = world.server(default=Status(400)), world.server()
    client = world.client([openai(broken, "a", embedding_space="small"), openai(other, "b"), openai(other, "c")])
    with pytest.raises(CallFailed, match="not asked: b: its vectors do not mix with those of a: another embedding_spa"):
        client.embed("x")
    found = client.raw.explain_embed(["x"])
    assert [(one.provider, one.eligible) for one in found] == [("a", True), ("b", False), ("c", False)]
    assert "do not mix" in found[1].reason
    assert other.request_count == 0


def test_a_window_is_about_each_text(world: World) -> None:
    server = world.server()
    client = world.client([openai(server, context_window=1000)])
    assert len(client.embed(["word " * 100] * 50).vectors) == 50
    with pytest.raises(NoProviderAvailable, match="do not fit its window"):
        client.embed("word " * 2000)


def test_vectors_that_are_too_few_are_no_answer(world: World) -> None:
    few = world.server(default=Status(200, body={"data": [{"index": 0, "embedding": [1.0]}]}))
    client = world.client([openai(few, "a")], retry={"max_attempts": 1})
    with pytest.raises(AllAttemptsFailed, match="1 vectors came for 2 texts"):
        client.embed(["x", "y"])


def test_titan_takes_one_text_a_request_and_gets_several() -> None:
    with LoopbackLLM() as server:
        server.default = Status(200, body={"embedding": [1.0, 2.0], "inputTextTokenCount": 3})
        titan = Bedrock("amazon.titan-embed-text-v2:0", base_url=server.url, api_key="k", region="eu-west-1")
        with ResilientClient([titan]) as client:
            response = client.embed(["a", "b", "c"])
    assert response.vectors == ((1.0, 2.0),) * 3
    assert response.usage == Usage(9)


def test_vertex() -> None:
    prediction = {"embeddings": {"values": [1.0, 2.0], "statistics": {"token_count": 3, "truncated": False}}}
    with LoopbackLLM() as server:
        server.default = Status(200, body={"predictions": [prediction, prediction]})
        vertex = Vertex("text-embedding-005", base_url=server.url, token="t", project="p", location="europe-west4")
        with ResilientClient([vertex]) as client:
            response = client.embed(["a", "b"], dimensions=2)
        (asked,) = server.requests
    assert response.vectors == ((1.0, 2.0), (1.0, 2.0))
    assert response.usage == Usage(6)
    place = "/v1/projects/p/locations/europe-west4/publishers/google/models/text-embedding-005:predict"
    assert asked.path == place
    assert json.loads(asked.body) == {
        "instances": [{"content": "a"}, {"content": "b"}],
        "parameters": {"outputDimensionality": 2},
    }


# --- without a network ---


@pytest.mark.parametrize("kind", [ScriptedProvider, AsyncScriptedProvider])
def test_a_scripted_provider_answers_embeddings(world: World, kind: Any) -> None:
    if kind is AsyncScriptedProvider and world.kind == "sync":
        pytest.skip("an async provider needs the async client")
    provider = kind(
        EmbedResponse(((1.0,), (2.0,))), Status(503), "anything", default=lambda request: Reply(delay=0.001)
    )
    client = world.client([provider], retry={"backoff_base": 0.01})
    assert client.embed(["x", "y"]).vectors == ((1.0,), (2.0,))
    response = client.embed(["x", "y", "x"], dimensions=3)
    assert response.vectors[0] == response.vectors[2] != response.vectors[1]
    assert len(response.vectors[0]) == 3
    assert [record.outcome for record in response.attempts] == ["error", "success"]
    assert client.embed("z").usage
    assert provider.embed_requests[0].inputs == ("x", "y")
    assert provider.request_count == 4
    assert not provider.requests


def test_a_scripted_provider_that_hangs_is_given_up(world: World) -> None:
    client = world.client([ScriptedProvider(default=Hang())])
    with pytest.raises(CallFailed):
        client.embed("x", deadline=0.3)


class Mine:
    id = "mine"

    def __init__(self, answer: object) -> None:
        self.answer = answer

    def chat(self, request: ChatRequest, *, timeout: float) -> ChatResponse:
        return ChatResponse((Text("x"),))

    def embed(self, request: EmbedRequest, *, timeout: float) -> EmbedResponse:
        return self.answer  # type: ignore[return-value]


def test_a_provider_of_ones_own_may_embed(world: World) -> None:
    client = world.client([Mine(EmbedResponse(((1.0, 2.0),)))])
    assert client.embed("x").vectors == ((1.0, 2.0),)
    assert client.embed("x").provider == "mine"
    with pytest.raises(AllAttemptsFailed, match="1 vectors came for 2 texts"):
        world.client([Mine(EmbedResponse(((1.0, 2.0),)))], retry={"max_attempts": 1}).embed(["x", "y"])


@pytest.mark.parametrize("answer", [ChatResponse((Text("x"),)), "text", [1.0], None])
def test_what_is_no_vectors_is_a_mistake_in_the_code(world: World, answer: object) -> None:
    with pytest.raises(ConfigurationError, match=r"must return|must yield"):
        world.client([Mine(answer)]).embed("x")
