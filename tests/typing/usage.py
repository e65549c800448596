"""Public calls as a user would write them; accepted by mypy and pyright in strict mode, never run."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, assert_type

from resilient_llm import (
    AsyncChatStream,
    AsyncResilientClient,
    CallFailed,
    Candidate,
    ChatResponse,
    ChatStream,
    FaultKind,
    Message,
    ProviderHealth,
    ProviderPool,
    ResilientClient,
    StreamInterrupted,
    Text,
    Tool,
)
from resilient_llm.batch import AsyncMap, Map, MapResult
from resilient_llm.events import BreakerChanged, Event
from resilient_llm.model import ChatRequest, EmbedResponse, ParsedResponse, StreamEvent, TextDelta
from resilient_llm.operate.cache import AsyncCachedClient, CachedClient, Caching, Memory, cached
from resilient_llm.operate.cost import Budget, Price, Prices, Spent, track
from resilient_llm.policy import Retry
from resilient_llm.providers import AsyncProvider, AzureOpenAI, Function, Mistral, OpenAI, Provider
from resilient_llm.wire import classify, parse_rate_limit


@dataclass
class Weather:
    city: str


class Place(TypedDict):
    city: str


async def fresh_key() -> str:
    return "key"


class Mine:
    """A provider of one's own."""

    id = "mine"

    def chat(self, request: ChatRequest, *, timeout: float) -> ChatResponse:
        return ChatResponse((Text(request.messages[-1].text.upper()),))


class MineAsync:
    id = "mine-async"

    async def chat(self, request: ChatRequest, *, timeout: float) -> ChatResponse:  # noqa: ASYNC109
        return ChatResponse((Text("hello"),))


def echo(request: ChatRequest) -> str:
    return request.messages[-1].text


def pieces(request: ChatRequest) -> Iterator[str]:
    yield "a"


def seen(result: MapResult[ChatResponse]) -> None:
    assert_type(result.index, int)


async def seen_async(result: MapResult[ChatResponse]) -> None:
    assert_type(result.saved, bool)


async def some_prompts() -> AsyncIterator[str]:
    yield "a"


def on_event(event: Event) -> None:
    if isinstance(event, BreakerChanged):
        assert_type(event.open_for, float)


mine: Provider = Mine()
mine_async: AsyncProvider = MineAsync()


def sync_usage() -> None:
    client = ResilientClient(
        [
            OpenAI("gpt-5.2", id="primary", weight=2, tags={"eu"}, context_window=400_000),
            OpenAI(
                "gpt-5.2", id="inside", proxy="http://proxy:3128", verify=Path("ca.pem"), cert=("cert.pem", "key.pem")
            ),
            OpenAI("gpt-5.2", id="near", proxy=False, verify=ssl.create_default_context(), cert=Path("cert.pem")),
            [Mistral("mistral-large-latest", api_key=lambda: "key"), AzureOpenAI("deployment", token=lambda: "token")],
            Function(echo),
            Function(pieces, id="pieces"),
            mine,
        ],
        deadline=30,
        retry=Retry(max_attempts=2),
        breaker={"consecutive": 3},
        listeners=[on_event],
        name="front",
    )
    with client:
        reply = client.chat("hi", deadline=20, temperature=0.2, require={"eu"}, fallback="sorry")
        assert_type(reply, ChatResponse)
        assert_type(reply.text, str)
        client.chat([{"role": "user", "content": "hi"}], tools=[{"name": "f"}], tool_choice="auto")
        client.chat([Message("user", (Text("hi"),))], tools=[Tool("f")], validate=lambda answer: bool(answer.text))
        with client.stream("hi", max_tokens=10) as stream:
            for event in stream:
                assert_type(event, StreamEvent)
                if isinstance(event, TextDelta):
                    assert_type(event.text, str)
        assert_type(stream.response, ChatResponse)
        assert_type(client.embed(["a", "b"], dimensions=8), EmbedResponse)
        assert_type(client.explain_embed(["a", "b"]), list[Candidate])
        for result in client.map(["a", [("user", "b")], ("key", "c"), (7, "d", {"max_tokens": 5})], save_to="r.jsonl"):
            assert_type(result, MapResult[ChatResponse])
            assert_type(result.key, str | int)
            assert_type(result.answer, ChatResponse)
            assert_type(result.error, Exception | None)
        with client.map(iter(["a"]), output=Weather, ordered=False, on_result=seen, progress=True) as results:
            assert_type(results, Map[ParsedResponse[Weather]])
            assert_type(next(results).answer.parsed, Weather)
        client.map({"key": "a"}.items(), concurrency=8, deadline=60, temperature=0.0)
        weather = client.chat("hi", output=Weather, deadline=5)
        assert_type(weather, ParsedResponse[Weather])
        assert_type(weather.parsed, Weather)
        assert_type(client.chat("hi", output=Place).parsed, Place)
        assert_type(client.chat("hi", output={"type": "object"}).parsed, object)
        assert_type(client.with_options(deadline=5, route="fast", when_down="fail"), ResilientClient)
        client.chat("hi", idempotency_key="key", allow_empty=True, when_down="wait")
        assert_type(client.stream("hi").start(), ChatStream)
        assert_type(client.health(), dict[str, ProviderHealth])
        assert_type(client.explain("hi"), list[Candidate])
        assert_type(client.drain("primary"), int)
        assert_type(client.pool, ProviderPool)
        client.replace_providers({"smart": [OpenAI("gpt-5.2")], "fast": [mine]})


async def async_usage() -> None:
    async with AsyncResilientClient([OpenAI("gpt-5.2", api_key=fresh_key), mine_async]) as client:
        try:
            assert_type(await client.chat("hi"), ChatResponse)
            assert_type((await client.chat("hi", output=Weather)).parsed, Weather)
            assert_type(client.with_options(deadline=5), AsyncResilientClient)
            assert_type(await client.stream("hi").start(), AsyncChatStream)
            async for result in client.map(some_prompts(), concurrency="auto", on_result=seen_async):
                assert_type(result.response, ChatResponse | None)
            assert_type(client.map(["a"], output=Weather), AsyncMap[ParsedResponse[Weather]])
            async with client.stream("hi") as stream:
                async for text in stream.text_deltas():
                    assert_type(text, str)
        except StreamInterrupted as broken:
            assert_type(broken.partial, ChatResponse)
        except CallFailed as failure:
            assert_type(failure.kind, FaultKind | None)
            assert_type(failure.status_code, int | None)
            for attempt in failure.attempts:
                assert_type(attempt.provider, str)
        sharing = AsyncResilientClient(pool=client.pool)
        await sharing.aclose()


def cost_and_cache(client: ResilientClient, other: AsyncResilientClient) -> None:
    costs = track(client, Prices({"gpt-5.2": Price(input=1.75, output=14.0)}), budgets=[Budget(20.0, "day")])
    assert_type(costs.total().cost, float)
    assert_type(costs.by("provider"), dict[str, Spent])
    client.chat("hi", max_tokens=100, max_cost=0.01, prefer="cheap")
    kept = cached(client, Memory(100), Caching(ttl=60.0))
    assert_type(kept, CachedClient)
    assert_type(kept.chat("hi"), ChatResponse)
    assert_type(kept.chat("hi", output=Weather).parsed, Weather)
    assert_type(cached(other), AsyncCachedClient)


async def async_cache(kept: AsyncCachedClient) -> None:
    assert_type(await kept.chat("hi"), ChatResponse)


fault = classify("openai", 429, {"retry-after": "3"}, b"{}", now=0.0)
if fault is not None:
    assert_type(fault.retry_after, float | None)
assert_type(parse_rate_limit("openai", {}, now=None).requests.remaining, int | None)
