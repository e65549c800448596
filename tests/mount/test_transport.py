"""The transport under HTTP clients: what goes where, what comes back, and what does not."""

from __future__ import annotations

import gc
import json
import logging
import re
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from types import ModuleType
from typing import Any

import anyio
import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from resilient_llm import AsyncResilientClient, ResilientClient, mount
from resilient_llm.drive.task import Task
from resilient_llm.errors import ConfigurationError
from resilient_llm.model import Degradation
from resilient_llm.mount.paths import wire_of
from resilient_llm.providers import Anthropic, AzureOpenAI, Cohere, Gemini, Mistral, OpenAI, OpenAIResponses, Vertex
from resilient_llm.testing import Cut, LoopbackLLM, Raw, Reply, Stall, Status
from resilient_llm.wire import codec

httpx2 = pytest.importorskip("httpx2")

families = pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
CHAT = "https://api.openai.com/v1/chat/completions"
QUESTION = {"model": "gpt-5.2", "messages": [{"role": "user", "content": "hi"}]}
CALLER = {
    "authorization": "Bearer sk-canary-caller-00000000",
    "x-api-key": "sk-canary-caller-11111111",
    "openai-organization": "org-canary-caller",
    "openai-project": "proj-canary-caller",
    "cookie": "session=canary-caller-cookie",
    "anthropic-beta": "canary-beta-1",
    "x-stainless-lang": "python",
    "x-own": "canary-caller-own",
}


@pytest.fixture
def servers() -> Iterator[tuple[LoopbackLLM, LoopbackLLM]]:
    with LoopbackLLM() as first, LoopbackLLM() as second:
        yield first, second


def clients(first: LoopbackLLM, second: LoopbackLLM, **settings: Any) -> ResilientClient:
    return ResilientClient(
        [
            OpenAI("own", base_url=first.url + "/v1", api_key="sk-canary-first-000000"),
            Anthropic("other", base_url=second.url, api_key="sk-canary-second-00000"),
        ],
        **{"deadline": 5.0, **settings},
    )


@families
def test_one_transport_serves_both_libraries(library: ModuleType, servers: Any) -> None:
    with clients(*servers) as client, library.Client(transport=mount.transport(client)) as http:
        answer = http.post(CHAT, json=QUESTION)
        assert isinstance(answer, library.Response)
        assert answer.json()["choices"][0]["message"]["content"] == "Hello from the loopback server."
        with http.stream("POST", CHAT, json={**QUESTION, "stream": True}) as streamed:
            assert [line for line in streamed.iter_lines() if line][-1] == "data: [DONE]"


@families
def test_one_transport_serves_async_clients_of_both(library: ModuleType, servers: Any) -> None:
    async def main() -> None:
        client = AsyncResilientClient(pool=clients(*servers).pool)
        async with client, library.AsyncClient(transport=mount.transport(client)) as http:
            answer = await http.post(CHAT, json=QUESTION)
            assert isinstance(answer, library.Response)
            assert answer.status_code == 200
            async with http.stream("POST", CHAT, json={**QUESTION, "stream": True}) as streamed:
                lines = [line async for line in streamed.aiter_lines() if line]
            assert lines[-1] == "data: [DONE]"

    anyio.run(main)


def test_a_sync_client_serves_async_sdks_over_connections_of_their_own(servers: Any) -> None:
    async def main() -> None:
        transport = mount.transport(clients(*servers))
        async with httpx.AsyncClient(transport=transport) as http:
            assert (await http.post(CHAT, json=QUESTION)).status_code == 200

    anyio.run(main)


def test_an_async_client_serves_sync_sdks(servers: Any) -> None:
    client = AsyncResilientClient(pool=clients(*servers).pool)
    with httpx.Client(transport=mount.transport(client)) as http:
        assert http.post(CHAT, json=QUESTION).status_code == 200


def test_what_we_do_not_know_reaches_the_same_wire(servers: Any) -> None:
    first, _ = servers
    with clients(*servers) as client, httpx.Client(transport=mount.transport(client)) as http:
        http.post(CHAT, json={**QUESTION, "of_next_year": {"a": [1]}})
    sent = first.requests[0].json
    assert sent["of_next_year"] == {"a": [1]}
    assert sent["model"] == "own"


def test_what_we_do_not_know_comes_back_from_the_same_wire(servers: Any) -> None:
    first, _ = servers
    with clients(*servers) as client, httpx.Client(transport=mount.transport(client)) as http:
        answer = http.post(CHAT, json=QUESTION).json()
        bare = httpx.post(first.url + "/v1/chat/completions", json={**QUESTION, "model": "own"}).json()
    assert answer == bare


def test_answers_say_who_gave_them(servers: Any) -> None:
    first, _ = servers
    first.default = Status(503)
    with clients(*servers) as client, httpx.Client(transport=mount.transport(client)) as http:
        answer = http.post(CHAT, json={**QUESTION, "seed": 7})
    told = {name: value for name, value in answer.headers.items() if name.startswith("x-resilient-llm-")}
    assert told == {
        "x-resilient-llm-provider": "anthropic/other",
        "x-resilient-llm-model": "other",
        "x-resilient-llm-attempts": "2",
        "x-resilient-llm-degraded": "seed",
    }
    assert answer.headers["x-request-id"]


def test_streams_say_who_gives_them(servers: Any) -> None:
    first, _ = servers
    first.default = Status(503)
    with (
        clients(*servers) as client,
        httpx.Client(transport=mount.transport(client)) as http,
        http.stream("POST", CHAT, json={**QUESTION, "stream": True, "seed": 7}) as answer,
    ):
        assert answer.headers["x-resilient-llm-provider"] == "anthropic/other"
        assert answer.headers["x-resilient-llm-attempts"] == "2"
        assert answer.headers["x-resilient-llm-degraded"] == "seed"


@pytest.mark.parametrize("begins", [b"data: ", b"data:", b"event: chunk\nid: 4\ndata: "])
def test_token_counts_nobody_asked_for_are_kept_back_however_they_are_framed(begins: bytes, servers: Any) -> None:
    said = {"choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": "stop"}]}
    counted = {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}
    frames = [begins + json.dumps(one).encode() + b"\n\n" for one in (said, counted)]
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
    servers[0].script(Raw((head, *frames, b"data: [DONE]\n\n")))
    with clients(*servers) as client, httpx.Client(transport=mount.transport(client)) as http:
        body = http.post(CHAT, json={**QUESTION, "stream": True}).content
    assert body == frames[0] + b"data: [DONE]\n\n"


@pytest.mark.parametrize("asked", [None, {"include_usage": False}, {"include_usage": True}])
def test_token_counts_come_in_a_stream_only_if_asked_for(asked: Any, servers: Any) -> None:
    with (
        clients(*servers) as client,
        httpx.Client(transport=mount.transport(client)) as http,
        http.stream("POST", CHAT, json={**QUESTION, "stream": True, "stream_options": asked}) as answer,
    ):
        lines = [line for line in answer.iter_lines() if '"usage":{' in line]
    assert bool(lines) is bool(asked and asked["include_usage"])


def test_the_model_chooses_a_route(servers: Any) -> None:
    first, second = servers
    routes = {
        "smart": [OpenAI("big", base_url=first.url + "/v1", api_key="k" * 9)],
        "fast": [OpenAI("small", base_url=second.url + "/v1", api_key="k" * 9)],
    }
    with ResilientClient(routes) as client, httpx.Client(transport=mount.transport(client)) as http:
        for model in ("fast", "smart", "unheard-of"):
            http.post(CHAT, json={**QUESTION, "model": model})
    assert [request.json["model"] for request in second.requests] == ["small"]
    assert [request.json["model"] for request in first.requests] == ["big", "big"]


# --- time --------------------------------------------------------------------------------------------------


def test_the_sdks_timeout_shortens_the_deadline(servers: Any) -> None:
    first, second = servers
    first.default = second.default = Reply(delay=30.0)
    with clients(*servers, deadline=60.0) as client, httpx.Client(transport=mount.transport(client)) as http:
        answer = http.post(CHAT, json=QUESTION, timeout=0.4)
    assert answer.status_code == 504
    assert re.search(r"no answer within 0\.(4|3\d+) s", answer.json()["error"]["message"])


def test_the_sdks_timeout_does_not_end_a_stream_that_goes_on(servers: Any) -> None:
    first, _ = servers
    first.default = Reply("one two three four", interval=0.15)
    with (
        clients(*servers) as client,
        httpx.Client(transport=mount.transport(client)) as http,
        http.stream("POST", CHAT, json={**QUESTION, "stream": True}, timeout=0.4) as answer,
    ):
        assert [line for line in answer.iter_lines() if line][-1] == "data: [DONE]"


def test_the_clients_deadline_ends_a_stream_all_the_same(servers: Any) -> None:
    first, _ = servers
    first.default = Reply("one two", fault=Stall(1))
    with (
        clients(*servers, deadline=0.5) as client,
        httpx.Client(transport=mount.transport(client)) as http,
        http.stream("POST", CHAT, json={**QUESTION, "stream": True}) as answer,
    ):
        assert "the deadline passed" in list(answer.iter_lines())[-2]


def test_options_of_the_client_hold_for_mounted_calls(servers: Any) -> None:
    _, second = servers
    with clients(*servers) as client:
        view = client.with_options(providers=["anthropic/other"])
        with httpx.Client(transport=mount.transport(view)) as http:
            http.post(CHAT, json=QUESTION)
    assert second.request_count == 1


def test_a_background_response_is_an_answer_before_anything_is_written(servers: Any) -> None:
    queued = {"id": "resp_1", "object": "response", "model": "m", "created_at": 1, "status": "queued", "output": []}
    told = Status(200, json.dumps({**queued, "background": True}), headers={"content-type": "application/json"})
    servers[0].default = told
    provider = OpenAIResponses("m", base_url=servers[0].url + "/v1", api_key="k")
    asked = {"model": "m", "input": "hi", "background": True, "store": True}
    with ResilientClient([provider]) as client, httpx.Client(transport=mount.transport(client)) as http:
        answer = http.post("https://api.openai.com/v1/responses", json=asked)
    assert (answer.status_code, answer.json()["status"]) == (200, "queued")


# --- failures ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trouble", "status"),
    [
        ((Status(503), Status(503)), 503),
        ((Status(401), Status(401)), 401),
        ((Status(429, retry_after=9), Status(429, retry_after=5)), 429),
        ((Status(500), Status(429, retry_after=9)), 503),
        ((Status(400, message="messages is too odd"), Reply()), 400),
    ],
)
def test_failures_have_the_status_that_fits(trouble: Any, status: int, servers: Any) -> None:
    servers[0].default, servers[1].default = trouble
    with clients(*servers, deadline=0.5) as client, httpx.Client(transport=mount.transport(client)) as http:
        answer = http.post(CHAT, json=QUESTION)
    assert answer.status_code == status
    assert answer.headers["x-should-retry"] == "false"
    assert answer.json()["error"]["message"]
    if status == 429:
        assert 4 <= int(answer.headers["retry-after"]) <= 10


def test_a_wait_that_goes_on_is_told_as_the_vendor_told_it(servers: Any) -> None:
    servers[0].default = servers[1].default = Status(429, retry_after=9)
    with clients(*servers, deadline=0.5) as client, httpx.Client(transport=mount.transport(client)) as http:
        told = [http.post(CHAT, json=QUESTION) for _ in range(2)]
    assert [answer.status_code for answer in told] == [429, 429]
    assert servers[0].request_count == servers[1].request_count == 1  # the second call asked nobody
    assert 4 <= int(told[1].headers["retry-after"]) <= 10


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"model":"m","messages":7}'])
def test_what_is_no_request_is_refused_here(body: bytes, servers: Any) -> None:
    with clients(*servers) as client, httpx.Client(transport=mount.transport(client)) as http:
        answer = http.post(CHAT, content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]
    assert servers[0].request_count == 0


def test_a_stream_that_breaks_ends_with_an_error_and_without_a_terminator(servers: Any) -> None:
    first, _ = servers
    first.default = Reply("one two three", fault=Cut(2, "end"))
    with (
        clients(*servers) as client,
        httpx.Client(transport=mount.transport(client)) as http,
        http.stream("POST", CHAT, json={**QUESTION, "stream": True}) as answer,
    ):
        lines = [line for line in answer.iter_lines() if line]
    assert "error" in json.loads(lines[-1].removeprefix("data: "))


def test_a_stream_with_nothing_but_keep_alives_is_silent(servers: Any) -> None:
    first, _ = servers
    first.default = Reply("one two", fault=Stall(1), keep_alive=0.02)
    with (
        clients(*servers, timeouts={"idle": 0.15}, deadline=3.0) as client,
        httpx.Client(transport=mount.transport(client)) as http,
    ):
        body = http.post(CHAT, json={**QUESTION, "stream": True}).text
    assert "broke after content: the stream went silent" in body


@pytest.mark.parametrize("temperature", [0, 1], ids=["repeatable", "not"])
def test_under_an_sdk_a_restart_must_repeat_what_was_shown(temperature: float, servers: Any) -> None:
    first, second = servers
    first.script(Reply("one two three", fault=Cut(2)))
    second.script(Reply("one two three"))
    same = [
        OpenAI("own", id=name, base_url=server.url + "/v1", api_key="k")
        for name, server in (("first", first), ("second", second))
    ]
    with (
        ResilientClient(same, stream={"on_break": "restart"}) as client,
        httpx.Client(transport=mount.transport(client)) as http,
    ):
        body = http.post(CHAT, json={**QUESTION, "stream": True, "temperature": temperature}).text
    pieces = [json.loads(line[6:]) for line in body.splitlines() if line.startswith("data: {")]
    text = "".join(one["choices"][0]["delta"].get("content", "") for one in pieces if one.get("choices"))
    assert text == ("one two " if temperature else "one two three")
    assert ("error" in pieces[-1]) == bool(temperature)
    assert len({one["id"] for one in pieces if "id" in one}) == 1
    assert second.request_count == (0 if temperature else 1)


@pytest.mark.parametrize("token", [None, "bW9yZQ=="])
def test_the_rest_of_a_divided_answer_is_asked_of_its_own_vendor_alone(token: str | None, servers: Any) -> None:
    first, second = servers
    first.default = Status(503)
    own = Gemini("gemini-3.1-pro", base_url=first.url, api_key="k")
    other = Anthropic("other", base_url=second.url, api_key="k")
    url = "https://generativelanguage.googleapis.com/v1beta/models/gemini-3.1-pro:generateContent"
    body = {
        "contents": [{"role": "user", "parts": [{"text": "hi"}]}],
        **({"continuationToken": token} if token else {}),
    }
    with (
        ResilientClient([own, other], deadline=2.0, retry={"max_attempts": 2}) as client,
        httpx.Client(transport=mount.transport(client)) as http,
    ):
        answer = http.post(url, json=body)
    assert second.request_count == (0 if token else 1)
    assert answer.status_code == (503 if token else 200)


@pytest.mark.parametrize("field", [{"web_search_options": {}}, {"modalities": ["text", "audio"]}, {"functions": [{}]}])
def test_what_no_other_vendor_can_do_is_asked_of_no_other(field: dict[str, object], servers: Any) -> None:
    first, second = servers
    first.default = Status(503)
    with (
        clients(*servers, deadline=2.0, retry={"max_attempts": 1}) as client,
        httpx.Client(transport=mount.transport(client)) as http,
    ):
        assert http.post(CHAT, json={**QUESTION, **field}).status_code == 503
    assert (first.requests[0].json.items() >= field.items(), second.request_count) == (True, 0)


def test_leaving_a_stream_ends_the_generation(servers: Any) -> None:
    first, _ = servers
    first.default = Reply("one two three four", interval=5.0)
    with (
        clients(*servers) as client,
        httpx.Client(transport=mount.transport(client)) as http,
        http.stream("POST", CHAT, json={**QUESTION, "stream": True}) as answer,
    ):
        next(answer.iter_bytes())
    first.wait_for(lambda server: server.requests[0].hung_up_at is not None)
    assert client.health()["openai/own"].in_flight == 0


def test_a_connection_is_kept_after_a_stream(servers: Any) -> None:
    first, _ = servers
    with clients(*servers) as client, httpx.Client(transport=mount.transport(client)) as http:
        for _ in range(3):
            with http.stream("POST", CHAT, json={**QUESTION, "stream": True}) as answer:
                answer.read()
    assert first.connection_count == 1


# --- requests that are no model calls ----------------------------------------------------------------------


@families
def test_other_requests_go_to_the_first_provider_of_the_wire(library: ModuleType, servers: Any) -> None:
    first, second = servers
    with clients(*servers) as client, library.Client(transport=mount.transport(client)) as http:
        listed = http.get("https://api.openai.com/v1/models", headers=CALLER, params={"after": "m1", "key": "canary-x"})
        odd = http.put("https://api.openai.com/v1/files/f1", content=b"\x00\xffbytes", headers=CALLER)
    assert listed.json()["object"] == "list"
    assert odd.status_code == 404
    seen = [(one.method, one.path, one.body) for one in first.requests]
    # The caller's beta header is Anthropic's, and it is OpenAI's request.
    assert seen == [("GET", "/v1/models?after=m1", b""), ("PUT", "/v1/files/f1", b"\x00\xffbytes")]
    assert second.request_count == 0
    for one in first.requests:
        assert one.headers["authorization"] == "Bearer sk-canary-first-000000"
        assert "caller" not in str(one.headers)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/threads/t1/messages",
        "/v1/messages/batches",
        "/v1/messages/count_tokens",
        "/v1/chat/completions/c1",
        "/v1/responses/r1/cancel",
        "/v1/embeddings",
        "/v1/completions",
        "/v1beta/models/m:countTokens",
        "/v1/fim/completions",
    ],
)
def test_only_model_calls_are_taken_for_such(path: str) -> None:
    assert wire_of("POST", path) is None


@pytest.mark.parametrize(
    ("path", "wire"),
    [
        ("/v1/chat/completions", "openai_chat"),
        ("/openai/deployments/d/chat/completions", "openai_chat"),
        ("/v1/responses", "openai_responses"),
        ("/openai/responses", "openai_responses"),
        ("/v1/messages", "anthropic_messages"),
        ("/v1beta/models/m:generateContent", "gemini"),
        ("/v1beta1/projects/p/locations/l/publishers/google/models/m:streamGenerateContent", "gemini"),
        ("/v2/chat", "cohere_v2"),
    ],
)
def test_model_calls_are_known_by_their_path(path: str, wire: str) -> None:
    assert wire_of("POST", path) == wire
    assert wire_of("GET", path) is None


def test_one_transport_passes_requests_of_both_libraries_on(servers: Any) -> None:
    with clients(*servers) as client:
        transport = mount.transport(client)
        with httpx.Client(transport=transport) as one, httpx2.Client(transport=transport) as other:
            assert isinstance(one.get("https://api.openai.com/v1/models"), httpx.Response)
            assert isinstance(other.get("https://api.openai.com/v1/models"), httpx2.Response)


def test_threads_that_ask_at_once_share_what_is_opened(servers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[object] = []
    made = httpx2.Client.__init__

    def init(self: Any, **given: Any) -> None:
        opened.append(self)
        made(self, **given)

    client = AsyncResilientClient(pool=clients(*servers).pool)
    with httpx2.Client(transport=mount.transport(client)) as http:
        monkeypatch.setattr(httpx2.Client, "__init__", init)
        together = Barrier(8)

        def ask_both(_: int) -> tuple[int, int]:
            together.wait()
            listed = http.get("https://api.openai.com/v1/models").status_code
            return listed, http.post(CHAT, json=QUESTION).status_code

        with ThreadPoolExecutor(8) as threads:
            assert set(threads.map(ask_both, range(8))) == {(200, 200)}
    assert len(opened) == 1


@families
def test_a_slash_within_a_name_stays_one(library: ModuleType, servers: Any) -> None:
    first, _ = servers
    with clients(*servers) as client, library.Client(transport=mount.transport(client)) as http:
        http.get("https://api.openai.com/v1/models/ft:m:a%2Fb%3Fc%20d?limit=1")
    assert first.requests[0].path == "/v1/models/ft:m:a%2Fb%3Fc%20d?limit=1"


def test_other_requests_go_on_in_async_clients_too(servers: Any) -> None:
    first, _ = servers

    async def main() -> None:
        async with httpx.AsyncClient(transport=mount.transport(clients(*servers))) as http:
            assert (await http.get("https://api.openai.com/v1/models")).status_code == 200

    anyio.run(main)
    assert first.requests[0].path == "/v1/models"


def test_other_requests_are_not_repeated(servers: Any) -> None:
    first, second = servers
    first.default = Status(503)
    with clients(*servers) as client, httpx.Client(transport=mount.transport(client)) as http:
        assert http.get("https://api.openai.com/v1/models").status_code == 503
    assert (first.request_count, second.request_count) == (1, 0)


def test_where_nobody_can_take_it_the_answer_is_501_in_the_sdks_shape(servers: Any) -> None:
    first, _ = servers
    providers = [Gemini("g", base_url=first.url + "/v1beta", api_key="k" * 9)]
    with ResilientClient(providers) as client, httpx.Client(transport=mount.transport(client)) as http:
        answer = http.post("https://api.anthropic.com/v1/messages/batches", headers={"anthropic-version": "2023-06-01"})
    assert answer.status_code == 501
    assert answer.headers["x-should-retry"] == "false"
    assert answer.json()["type"] == "error"
    assert first.request_count == 0


@pytest.mark.parametrize(
    ("url", "headers", "expected"),
    [
        ("https://api.openai.com/v1/models", {}, "/openai/v1/models"),
        ("https://api.anthropic.com/v1/models", {"anthropic-version": "2023-06-01"}, "/anthropic/v1/models"),
        ("https://generativelanguage.googleapis.com/v1beta/models", {"x-goog-api-key": "k"}, "/gemini/v1beta/models"),
        ("https://api.mistral.ai/v1/models", {"user-agent": "mistral-client-python/3"}, "/mistral/v1/models"),
        ("https://api.cohere.com/v1/models", {"x-fern-language": "Python"}, "/cohere/v1/models"),
        ("https://x.openai.azure.com/openai/models?api-version=2024-10-21", {}, "/openai/v1/models"),
    ],
)
def test_each_sdks_other_requests_go_to_its_own_vendor(url: str, headers: Any, expected: str) -> None:
    with LoopbackLLM() as server:
        key = "k" * 9
        providers = [
            Mistral("m", base_url=f"{server.url}/mistral/v1", api_key=key),
            OpenAI("o", base_url=f"{server.url}/openai/v1", api_key=key),
            Anthropic("a", base_url=f"{server.url}/anthropic", api_key=key),
            Gemini("g", base_url=f"{server.url}/gemini/v1beta", api_key=key),
            Cohere("c", base_url=f"{server.url}/cohere", api_key=key),
        ]
        with ResilientClient(providers) as client, httpx.Client(transport=mount.transport(client)) as http:
            assert http.get(url, headers=headers).status_code == 200
        assert server.requests[0].path == expected


AZURES = "https://x.openai.azure.com/openai"
TOKENS = {"model": "e mb", "input": [[1]]}
EMBEDDINGS = [
    "/openai/deployments/e%20mb/embeddings?api-version=2024-10-21",
    *("/openai/v1/embeddings", "/v1/embeddings"),
]


@pytest.mark.parametrize(
    ("url", "what", "paths"),
    [
        (f"{AZURES}/deployments/e%20mb/embeddings?api-version=1", {"json": TOKENS}, EMBEDDINGS),
        ("https://api.openai.com/v1/embeddings", {"json": TOKENS}, EMBEDDINGS),
        (
            f"{AZURES}/files?api-version=2025-01-01&limit=1",
            {"json": {"model": "m"}},
            ["/openai/files?api-version=2024-10-21&limit=1", "/openai/v1/files?limit=1", "/v1/files?limit=1"],
        ),
        (
            "https://api.openai.com/v1/audio/speech",
            {"files": {"file": b"RIFF"}},
            [
                "/openai/deployments/chat/audio/speech?api-version=2024-10-21",
                "/openai/v1/audio/speech",
                "/v1/audio/speech",
            ],
        ),
    ],
    ids=["Azure's SDK", "OpenAI's SDK", "no deployment", "no JSON"],
)
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_other_requests_name_deployments_where_azure_wants_them(
    url: str, what: Any, paths: list[str], is_async: bool, servers: Any
) -> None:
    first, _ = servers
    for provider in (
        AzureOpenAI("chat", base_url=first.url, api_key="key-1", api_version="2024-10-21"),
        AzureOpenAI("chat", base_url=first.url, api_key="key-1"),
        OpenAI("chat", base_url=first.url + "/v1", api_key="key-1"),
    ):
        with ResilientClient([provider]) as client:
            ask(client, url, is_async=is_async, **what)
    assert [one.path for one in first.requests] == paths


# --- secrets -----------------------------------------------------------------------------------------------


def test_nobody_sees_what_belongs_to_somebody_else(servers: Any, caplog: pytest.LogCaptureFixture) -> None:
    first, second = servers
    caplog.set_level(logging.DEBUG, "resilient_llm")
    first.default = Status(503, message="you sent sk-canary-first-000000")
    told: list[str] = []
    exporter = InMemorySpanExporter()
    spans = TracerProvider()
    spans.add_span_processor(SimpleSpanProcessor(exporter))
    with (
        clients(*servers, deadline=0.5, tracer_provider=spans) as client,
        httpx.Client(transport=mount.transport(client)) as http,
    ):
        told.append(http.post(CHAT, json=QUESTION, headers=CALLER).text)
        with http.stream("POST", CHAT, json={**QUESTION, "stream": True}, headers=CALLER) as streamed:
            told.append(streamed.read().decode())
        second.default = Status(401, message="wrong key sk-canary-second-00000")
        failed = http.post(CHAT, json=QUESTION, headers=CALLER)
        told += [failed.text, str(failed.headers), repr(client), repr(mount.transport(client))]
    for one in first.requests:
        assert "caller" not in str(one.headers)
        assert "canary-beta" not in str(one.headers)
        assert "second" not in str(one.headers)
    for one in second.requests:
        assert "caller" not in str(one.headers)
        assert "first" not in str(one.headers)
    assert second.requests[0].headers["x-api-key"] == "sk-canary-second-00000"
    told += [span.to_json() for span in exporter.get_finished_spans()]
    assert len(told) > 5
    assert "canary" not in "".join(told) + caplog.text


def test_headers_of_the_callers_vendor_go_there_and_to_nobody_else(servers: Any) -> None:
    first, second = servers
    providers = [
        Anthropic("own", base_url=first.url, api_key="sk-canary-first-000000"),
        OpenAI("other", base_url=second.url + "/v1", api_key="sk-canary-second-00000"),
    ]
    question = {"model": "m", "max_tokens": 9, "messages": QUESTION["messages"]}
    headers = {**CALLER, "anthropic-version": "2023-06-01"}
    with ResilientClient(providers) as client, httpx.Client(transport=mount.transport(client)) as http:
        http.post("https://api.anthropic.com/v1/messages?beta=true", json=question, headers=headers)
        first.default = Status(503)
        http.post("https://api.anthropic.com/v1/messages?beta=true", json=question, headers=headers)
    assert first.requests[0].headers["anthropic-beta"] == "canary-beta-1"
    assert first.requests[0].headers["x-api-key"] == "sk-canary-first-000000"
    assert "caller" not in str(first.requests[0].headers)
    assert "beta" not in str(second.requests[0].headers)


def test_tracebacks_of_an_sdk_show_no_key(servers: Any) -> None:
    openai = pytest.importorskip("openai")
    servers[0].default = servers[1].default = Status(401, message="wrong key sk-canary-first-000000")
    with clients(*servers, deadline=0.5) as client:
        llm = mount(openai.OpenAI, client, api_key="sk-caller-0000000")
        with pytest.raises(openai.AuthenticationError) as raised:
            llm.chat.completions.create(**QUESTION)
        llm.close()
    shown = "".join(traceback.format_exception(raised.value)) + str(raised.value.body)
    assert "canary" not in shown


# --- what cannot be mounted --------------------------------------------------------------------------------


def test_only_a_client_can_be_mounted() -> None:
    with pytest.raises(ConfigurationError, match="must be a ResilientClient, not a str"):
        mount.transport("client")  # type: ignore[arg-type]


def test_closing_the_sdk_leaves_the_client_open(servers: Any) -> None:
    with clients(*servers) as client:
        httpx.Client(transport=mount.transport(client)).close()
        assert client.chat("hi").text


# --- embeddings --------------------------------------------------------------------------------------------

EMBED = "https://api.openai.com/v1/embeddings"
TEXTS = {"model": "embed-1", "input": ["one", "two"]}


def embedders(first: LoopbackLLM, second: LoopbackLLM, **spaces: str) -> list[Any]:
    """A provider that is no embedder, the model that is asked for, and another one; each in the space given."""
    made = (("chat", first, "gpt-5.2"), ("own", first, "embed-1"), ("other", second, "embed-2"))
    return [
        OpenAI(model, id=name, base_url=server.url + "/v1", api_key=f"sk-{name}", embedding_space=spaces.get(name))
        for name, server, model in made
    ]


def embedded(providers: list[Any], asked: dict[str, Any], **settings: Any) -> httpx.Response:
    """What the SDK's HTTP client gets."""
    with ResilientClient(providers, **settings) as client, httpx.Client(transport=mount.transport(client)) as http:
        return http.post(EMBED, json=asked)


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_vectors_come_from_a_provider_of_the_same_space_if_theirs_fails(is_async: bool, servers: Any) -> None:
    first, second = servers
    first.default = Status(503)
    providers = embedders(first, second, own="s", other="s")

    async def ask() -> httpx.Response:
        async with (
            AsyncResilientClient(providers) as client,
            httpx.AsyncClient(transport=mount.transport(client)) as http,
        ):
            return await http.post(EMBED, json=TEXTS)

    answer = anyio.run(ask) if is_async else embedded(providers, TEXTS)
    assert answer.status_code == 200
    assert len(answer.json()["data"]) == 2
    assert answer.headers["x-resilient-llm-provider"] == "other"
    assert [json.loads(request.body)["model"] for request in (*first.requests, *second.requests)] == [
        "embed-1",
        "embed-2",
    ]


@pytest.mark.parametrize("own", ["s", None], ids=["a space", "no space"])
@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_vectors_of_the_same_wire_come_as_they_are(encoding: str, own: str | None, servers: Any) -> None:
    first, second = servers
    asked = {**TEXTS, "encoding_format": encoding}
    bare = httpx.post(first.url + "/v1/embeddings", json=asked).json()
    assert embedded(embedders(first, second, **({"own": own} if own else {})), asked).json() == bare


@pytest.mark.parametrize("spaces", [{}, {"own": "s"}, {"own": "s", "other": "t"}, {"other": "t"}], ids=str)
def test_vectors_of_another_space_are_never_given_for_them(spaces: dict[str, str], servers: Any) -> None:
    first, second = servers
    first.default = Status(503)
    answer = embedded(embedders(first, second, **spaces), TEXTS, deadline=0.5)
    assert (answer.status_code, second.request_count) == (503, 0)


@pytest.mark.parametrize(
    "asked", [{"model": "embed-9", "input": "x"}, {"model": "embed-1", "input": [[1, 2]]}], ids=["model", "tokens"]
)
def test_what_nobody_is_known_to_have_is_passed_on_as_it_is(asked: dict[str, Any], servers: Any) -> None:
    first, second = servers
    embedded(embedders(first, second, own="s", other="s"), asked)
    assert [json.loads(request.body) for request in first.requests] == [asked]
    assert second.request_count == 0


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_call_leaves_nothing_to_the_garbage_collector(stream: bool, servers: Any) -> None:
    with clients(*servers) as client, httpx2.Client(transport=mount.transport(client)) as http:
        gc.collect()  # of what other tests left
        gc.disable()
        try:
            http.post(CHAT, json={**QUESTION, "stream": stream})
            left = [one for one in gc.get_objects() if isinstance(one, Task) and one.owner is client.pool]
        finally:
            gc.enable()
    assert left == []


ASKED = {"trace": "a b&c", "api-version": "2020-01-01", "key": "canary-key-0", "subscription-key": "canary-key-1"}
"""Parameters that a caller put into the URL of a model call."""


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_parameters_of_a_call_go_to_providers_of_its_wire_but_no_credentials(is_async: bool, servers: Any) -> None:
    first, _ = servers
    with clients(*servers) as client:
        answer = ask(client, CHAT, is_async=is_async, json=QUESTION, params=ASKED)
    assert first.requests[0].path == "/v1/chat/completions?trace=a+b%26c"
    assert answer.headers["x-resilient-llm-degraded"] == "key, subscription-key"


def test_parameters_of_a_call_are_missed_where_another_wire_answers(servers: Any) -> None:
    first, second = servers
    first.default = Status(503)
    with clients(*servers) as client:
        answer = ask(client, CHAT, json=QUESTION, params=ASKED)
    assert second.requests[0].path == "/v1/messages"
    assert answer.headers["x-resilient-llm-degraded"] == "key, subscription-key, trace"


def test_an_azure_deployment_keeps_its_own_version_of_the_api(servers: Any) -> None:
    first, _ = servers
    azure = AzureOpenAI("deployed", base_url=first.url, api_key="key-of-azure", api_version="2024-10-21")
    with ResilientClient([azure]) as client:
        ask(client, CHAT, json=QUESTION, params={"api-version": "2020-01-01", "trace": "7"})
    assert first.requests[0].path.endswith("/chat/completions?api-version=2024-10-21&trace=7")


def test_what_anthropics_sdk_says_twice_is_not_missed(servers: Any) -> None:
    first, second = servers
    second.default = Status(503)
    asked = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
    providers = [Anthropic("m", base_url=second.url, api_key="key-2"), OpenAI("o", base_url=first.url, api_key="key-1")]
    with ResilientClient(providers) as client:
        answer = ask(client, "https://api.anthropic.com/v1/messages?beta=true", json=asked)
    assert second.requests[0].path == "/v1/messages?beta=true"
    assert "?" not in first.requests[0].path
    assert "x-resilient-llm-degraded" not in answer.headers


def test_embeddings_with_parameters_are_passed_on(servers: Any) -> None:
    first, _ = servers
    with clients(*servers) as client:
        ask(client, "https://api.openai.com/v1/embeddings", json={"model": "own", "input": "hi"}, params={"trace": "7"})
    assert first.requests[0].path == "/v1/embeddings?trace=7"


def ask(client: ResilientClient, url: str, *, is_async: bool = False, **what: Any) -> httpx.Response:
    if not is_async:
        with httpx.Client(transport=mount.transport(client)) as http:
            return http.post(url, **what)

    async def main() -> httpx.Response:
        async with httpx.AsyncClient(transport=mount.transport(client)) as http:
            return await http.post(url, **what)

    return anyio.run(main)


def test_google_is_told_no_parameters_it_may_not_know() -> None:
    vertex = Vertex("claude-sonnet-5", project="project-1", location="global", api_key="key-of-google")
    body = {"max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
    asked = codec("anthropic_messages").decode_request(json.dumps(body).encode(), "/v1/messages")
    prepared = vertex.prepare(replace(asked, query=(("beta", "true"), ("trace", "7"))), "key-of-google")
    assert "?" not in prepared.url
    assert prepared.degradations == (Degradation("trace", "left out"),)
