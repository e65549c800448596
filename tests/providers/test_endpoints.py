"""Where a provider may be, what may travel there in the clear, what a model's name may be, and what is shown of it."""

from __future__ import annotations

import base64
import io
import json
import logging
import pickle
import socket
import threading
import traceback
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from resilient_llm import ResilientClient
from resilient_llm.errors import CallFailed, ConfigurationError, FaultKind
from resilient_llm.model import ChatRequest, Message, StreamError, Text
from resilient_llm.providers import (
    Anthropic,
    AnthropicFoundry,
    AzureOpenAI,
    Bedrock,
    Cohere,
    Gemini,
    Ollama,
    OpenAI,
    OpenAICompatible,
    OpenAIResponses,
    Vertex,
)
from resilient_llm.providers.model_names import same_model
from resilient_llm.testing import LoopbackLLM, Reply, Status

CANARY = "c4nary-value-of-mine"


# --- base_url ---


@pytest.mark.parametrize(
    ("kind", "given", "right"),
    [
        (OpenAI, "https://api.openai.com/v1/chat/completions", "https://api.openai.com/v1"),
        (OpenAI, "https://api.openai.com/v1/chat/completions/", "https://api.openai.com/v1"),
        (OpenAI, "https://h/openai/v1/embeddings", "https://h/openai/v1"),
        (OpenAI, "https://h/openai/deployments/d/chat/completions?api-version=1", "https://h/openai/deployments/d"),
        (OpenAIResponses, "https://api.openai.com/v1/responses", "https://api.openai.com/v1"),
        (Anthropic, "https://api.anthropic.com/v1/messages", "https://api.anthropic.com/v1"),
        (Cohere, "https://api.cohere.com/v2/chat", "https://api.cohere.com"),
        (Ollama, "http://localhost:11434/api/chat", "http://localhost:11434"),
        (
            Gemini,
            "https://generativelanguage.googleapis.com/v1beta/models/gemini-3:generateContent",
            "https://generativelanguage.googleapis.com/v1beta",
        ),
    ],
)
def test_a_base_url_that_is_an_endpoint_is_refused_with_the_right_one(kind: Any, given: str, right: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        kind("m", api_key="k", base_url=given)
    assert f"give base_url={right!r}" in str(caught.value)
    assert kind("m", api_key="k", base_url=right).base_url == right


@pytest.mark.parametrize("url", ["https://h/models", "https://h/inference", "https://h/messages-of/v1"])
def test_a_base_url_that_only_looks_like_an_endpoint_is_fine(url: str) -> None:
    assert OpenAI("m", api_key="k", base_url=url).base_url == url


@pytest.mark.parametrize(
    "url",
    [
        f"ftp://h/{CANARY}",
        CANARY,
        f"https://user:{CANARY}@h/v1",
        f"https://h/v1?key={CANARY}",
        f"https:///{CANARY}",
        f"https://h:port/{CANARY}",
        f"https://h/{CANARY}/chat/completions",
        f"https://{CANARY}@h/v1/chat/completions",
        f"//{CANARY}",
    ],
)
def test_a_malformed_base_url_is_refused_without_its_secret(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        OpenAI("m", api_key="k", base_url=url)
    assert CANARY not in str(caught.value)


# --- plain http ---

FAR = ["http://api.example.com", "http://8.8.8.8", "http://[2001:4860:4860::8888]", "http://llm.default.svc"]
NEAR = [
    "http://localhost:1",
    "http://127.0.0.1",
    "http://[::1]",
    "http://10.0.0.7:8000/v1",
    "http://192.168.1.2",
    "http://172.16.0.1",
    "http://169.254.1.1",
    "http://[fe80::1]",
    "http://[fd00::1]",
    "http://vllm:8000",
    "http://box.local",
    "http://host.docker.internal:8000",
    "http://vllm.default.svc.cluster.local",
]


@pytest.mark.parametrize("url", FAR)
def test_a_key_is_not_sent_where_others_can_read_it(url: str) -> None:
    with pytest.raises(ConfigurationError, match="allow_http=True"):
        OpenAICompatible("m", api_key="k", base_url=url)
    with pytest.raises(ConfigurationError, match="allow_http=True"):
        OpenAICompatible("m", api_key=lambda: "k", base_url=url)
    with pytest.raises(ConfigurationError, match="allow_http=True"):
        OpenAICompatible("m", base_url=url, headers={"X-Api-Key": "k"})
    OpenAICompatible("m", api_key="k", base_url=url, allow_http=True)
    OpenAICompatible("m", base_url=url)
    OpenAICompatible("m", api_key="k", base_url=url.replace("http:", "https:"))


@pytest.mark.parametrize("url", NEAR)
def test_a_key_may_be_sent_in_the_clear_nearby(url: str) -> None:
    assert OpenAICompatible("m", api_key="k", base_url=url).base_url == url


def test_allow_http_is_a_switch() -> None:
    with pytest.raises(ConfigurationError, match="allow_http"):
        OpenAI("m", api_key="k", allow_http="yes")  # type: ignore[arg-type]


# --- names of models ---

KINDS: dict[str, Any] = {
    "gemini": lambda model: Gemini(model, api_key="k"),
    "vertex": lambda model: Vertex(model, token="t", project="p"),
    "bedrock": lambda model: Bedrock(model, api_key="k", region="us-east-1"),
    "azure": lambda model: AzureOpenAI(model, api_key="k", base_url="https://h", api_version="2024-10-21"),
}
ELSEWHERE = [
    "../../admin?x=",
    "a/../b",
    "..",
    ".",
    "a?x",
    "a#x",
    "/a",
    "a/",
    "a//b",
    "a%2e",
    "a\\b",
    "models/..",
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", ELSEWHERE)
def test_a_models_name_leads_nowhere_else(kind: str, model: str) -> None:
    with pytest.raises(ConfigurationError, match="no name of a model"):
        KINDS[kind](model)


@pytest.mark.parametrize("kind", [*KINDS, "openai"])
@pytest.mark.parametrize("model", ["a\nb", "a\x00", "\ud800"])
def test_a_models_name_has_no_control_characters(kind: str, model: str) -> None:
    make = KINDS.get(kind, lambda name: OpenAI(name, api_key="k"))
    with pytest.raises(ConfigurationError, match="control characters"):
        make(model)


@pytest.mark.parametrize(
    ("kind", "model"),
    [
        ("gemini", "gemini-3.1-pro"),
        ("gemini", "models/gemini-3.1-pro"),
        ("gemini", "tunedModels/mine-123"),
        ("vertex", "claude-sonnet-4-5@20250929"),
        ("vertex", "endpoints/1234567890"),
        ("bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("bedrock", "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-v1:0"),
        ("azure", "my-deployment_2"),
    ],
)
def test_names_that_vendors_use_are_fine(kind: str, model: str) -> None:
    assert KINDS[kind](model).model == model


def test_a_name_with_slashes_in_the_body_is_fine() -> None:
    assert OpenAICompatible("meta-llama/Llama-3.3-70B", base_url="https://h").model == "meta-llama/Llama-3.3-70B"


# --- which model answers ---

SAME = [
    ("gpt-5.2", ""),
    ("gpt-5.2", "gpt-5.2"),
    ("gpt-5.2", "gpt-5.2-2025-12-11"),
    ("gpt-5.2-2025-12-11", "gpt-5.2"),
    ("gpt-5.2", "openai/gpt-5.2"),
    ("claude-sonnet-4-5", "claude-sonnet-4-5-20250929"),
    ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4-5"),
    ("claude-sonnet-4-5@20250929", "claude-sonnet-4-5-20250929"),
    ("models/gemini-2.5-pro", "gemini-2.5-pro-preview-05-06"),
    ("gemini-1.5-flash", "gemini-1.5-flash-002"),
    ("mistral-large-latest", "mistral-large-2411"),
    ("llama3", "llama3:latest"),
    ("accounts/fireworks/models/llama-v3p1-8b", "llama-v3p1-8b"),
    ("Qwen/Qwen3-32B", "qwen3-32b"),
]
OTHER = [
    ("gpt-5.2", "gpt-5.2-mini"),
    ("gpt-5.2", "gpt-5"),
    ("gpt-4o", "gpt-4o-mini-2024-07-18"),
    ("claude-sonnet-4", "claude-sonnet-4-5-20250929"),
    ("claude-sonnet-4-5", "claude-haiku-4-5"),
    ("gemini-3.1-pro", "gemini-3.1-flash"),
]


@pytest.mark.parametrize(("asked", "answered"), SAME)
def test_a_model_has_several_names(asked: str, answered: str) -> None:
    assert same_model(asked, answered)


@pytest.mark.parametrize(("asked", "answered"), OTHER)
def test_another_model_is_another_model(asked: str, answered: str) -> None:
    assert not same_model(asked, answered)


@pytest.fixture
def server() -> Iterator[LoopbackLLM]:
    with LoopbackLLM(default=Reply("fine")) as server:
        yield server


def answer(model: str) -> Status:
    choice = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
    return Status(200, json.dumps({"id": "1", "model": model, "choices": [choice]}))


def test_an_answer_of_another_model_is_noted_and_refused_where_asked(server: LoopbackLLM) -> None:
    asked = OpenAI("gpt-5.2", id="a", api_key="k", base_url=f"{server.url}/v1")
    strict = OpenAI("gpt-5.2", id="b", api_key="k", base_url=f"{server.url}/v1", require_model=True)
    with ResilientClient([asked]) as client:
        server.script(answer("gpt-5.2-mini"), answer("gpt-5.2-2025-12-11"))
        noted = client.chat("hi")
        assert (noted.model, noted.model_mismatch) == ("gpt-5.2-mini", True)
        assert [health.model_mismatch for health in client.health().values()] == [True]
        assert not client.chat("hi").model_mismatch
        assert [health.model_mismatch for health in client.health().values()] == [False]
    with ResilientClient([strict, asked]) as client:
        server.script(answer("gpt-5.2-mini"), answer("gpt-5.2"))
        reply = client.chat("hi")
        assert reply.provider == "a"
        fault = reply.attempts[0].fault
        assert fault is not None
        assert (fault.kind, fault.code) == (FaultKind.INVALID_RESPONSE, "model_mismatch")
        assert "'gpt-5.2-mini' instead of 'gpt-5.2'" in fault.message


def test_a_stream_of_another_model_ends_before_its_content() -> None:
    provider = OpenAI("gpt-5.2", api_key="k", require_model=True)
    chunk = {"id": "1", "model": "gpt-5.2-mini", "choices": [{"index": 0, "delta": {"content": "hi"}}]}
    decoder = provider.stream_decoder()
    events = decoder.feed(f"data: {json.dumps(chunk)}\n\n".encode())
    assert [type(event) for event in events] == [StreamError]
    assert isinstance(events[0], StreamError)
    assert provider.stream_fault(events[0].payload).code == "model_mismatch"
    assert decoder.feed(b"data: [DONE]\n\n") == decoder.close() == []
    right = provider.stream_decoder().feed(f"data: {json.dumps({**chunk, 'model': 'gpt-5.2'})}\n\n".encode())
    assert StreamError not in [type(event) for event in right]


def test_a_deployment_does_not_say_which_model_answers() -> None:
    for make in (
        lambda **options: AzureOpenAI("d", api_key="k", base_url="https://h", **options),
        lambda **options: AnthropicFoundry("d", api_key="k", resource="r", **options),
    ):
        assert not make().other_model("gpt-5.2")
        with pytest.raises(ConfigurationError, match="deployment"):
            make(require_model=True)
    with pytest.raises(ConfigurationError, match="require_model"):
        OpenAI("m", api_key="k", require_model=1)  # type: ignore[arg-type]


# --- Idempotency-Key ---


@pytest.mark.parametrize(
    ("kind", "sent"), [(OpenAI, True), (OpenAIResponses, True), (Anthropic, False), (Gemini, False), (Cohere, False)]
)
def test_an_idempotency_key_is_sent_where_the_header_is_documented(kind: Any, sent: bool) -> None:
    request = ChatRequest((Message("user", (Text("hi"),)),), idempotency_key="once-only")
    prepared = kind("m", api_key="k").prepare(request, "k")
    assert dict(prepared.headers).get("idempotency-key") == ("once-only" if sent else None)
    assert b"once-only" not in prepared.body


def test_a_call_hands_its_idempotency_key_on(server: LoopbackLLM) -> None:
    with ResilientClient([OpenAI("m", api_key="k", base_url=f"{server.url}/v1")]) as client:
        client.chat("hi", idempotency_key="once-only")
        client.embed("hi", idempotency_key="once-more")
        client.chat(ChatRequest((Message("user", (Text("hi"),)),)), idempotency_key="whole")
        client.chat("hi")
    sent = [request.headers.get("idempotency-key") for request in server.requests]
    assert sent == ["once-only", "once-more", "whole", None]


# --- secrets that are no api_key ---


class Echo:
    """Answers every request with an error that quotes all of it, over a raw socket."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                received = b""
                while b"\r\n\r\n" not in received:
                    received += connection.recv(65536)
                head, _, body = received.partition(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                while len(body) < length:
                    body += connection.recv(65536)
                message = json.dumps({"error": {"message": f"bad {head.decode()} {body.decode()}", "code": "bad"}})
                connection.sendall(
                    f"HTTP/1.1 400 Bad\r\ncontent-length: {len(message)}\r\nconnection: close\r\n\r\n{message}".encode()
                )

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)


@pytest.fixture
def echo() -> Iterator[Echo]:
    echo = Echo()
    yield echo
    echo.close()


PLACES: dict[str, Any] = {
    "authorization": lambda url: OpenAICompatible("m", base_url=url, headers={"Authorization": f"Bearer {CANARY}"}),
    "another header": lambda url: OpenAICompatible("m", base_url=url, headers={"X-Gateway": CANARY}),
    "a cookie": lambda url: OpenAICompatible("m", base_url=url, headers={"Cookie": f"a=b; session={CANARY}"}),
    "a parameter": lambda url: OpenAICompatible("m", base_url=url, params={"metadata": {"keys": [CANARY]}}),
    "the path": lambda url: OpenAICompatible("m", base_url=f"{url}/{CANARY}/v1"),
    "a client's headers": lambda url: OpenAICompatible("m", base_url=url),
    "a client's cookies": lambda url: OpenAICompatible("m", base_url=url),
    "a client's auth": lambda url: OpenAICompatible("m", base_url=url),
}
GIVEN: dict[str, Any] = {
    "a client's headers": lambda: httpx.Client(headers={"X-Mine": CANARY}),
    "a client's cookies": lambda: httpx.Client(cookies={"session": CANARY}),
    "a client's auth": lambda: httpx.Client(auth=("me", CANARY)),
}


@pytest.mark.parametrize("place", PLACES)
def test_no_credential_of_the_users_is_shown_when_a_server_echoes_it(echo: Echo, place: str) -> None:
    shown = io.StringIO()
    handler = logging.StreamHandler(shown)
    log = logging.getLogger("resilient_llm")
    log.addHandler(handler)
    level = log.level
    log.setLevel(logging.DEBUG)
    given = GIVEN[place]() if place in GIVEN else None
    hidden = base64.b64encode(f"me:{CANARY}".encode()).decode()
    provider = PLACES[place](echo.url)
    try:
        with ResilientClient([provider], http_client=given) as client, pytest.raises(CallFailed) as caught:
            client.chat("hi")
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        if given is not None:
            given.close()
    error = caught.value
    prepared = provider.prepare(ChatRequest((Message("user", (Text("hi"),)),)), None)
    for text in (
        str(error),
        repr(error),
        repr(error.attempts),
        repr(error.fault),
        "".join(traceback.format_exception(error)),
        pickle.dumps(error).decode("latin-1"),
        repr(provider),
        repr(vars(provider)),
        repr(prepared),
        repr(client),
        repr(client.pool),
        repr(client.health()),
        shown.getvalue(),
    ):
        assert CANARY not in text
        assert hidden not in text
    assert "bad" in str(error), "the rest of the message is there"


def test_no_key_that_a_server_puts_into_its_answer_is_in_the_labels(server: LoopbackLLM) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": CANARY}
    server.script(Status(200, json.dumps({"id": CANARY, "model": f"m {CANARY}", "choices": [choice]})))
    with ResilientClient([OpenAI("m", api_key=CANARY, base_url=f"{server.url}/v1")]) as client:
        reply = client.chat("hi")
    assert (reply.id, reply.model, reply.raw_finish_reason) == ("***", "m ***", "***")


def test_messages_are_not_shredded_by_harmless_headers(echo: Echo) -> None:
    headers = {"User-Agent": "my-program/1.0", "Accept-Language": "en-GB,en;q=0.9"}
    provider = OpenAICompatible("m", base_url=echo.url, headers=headers)
    with ResilientClient([provider]) as client, pytest.raises(CallFailed) as caught:
        client.chat("hi")
    assert "***" not in str(caught.value)


def test_urls_are_shown_without_what_may_be_secret() -> None:
    provider = OpenAICompatible("m", base_url=f"https://h.example/{CANARY}/openai/deployments/v1", id="x")
    assert repr(provider) == "<OpenAICompatible 'x' at https://h.example/***/openai/deployments/v1>"
    assert repr(OpenAI("m", api_key="k", id="x")) == "<OpenAI 'x' at https://api.openai.com/v1>"


# --- which key is in use ---


def test_the_id_of_a_key_follows_its_value() -> None:
    keys = iter(["one", "two", "two"])
    rotating = OpenAI("m", api_key=lambda: next(keys))
    assert rotating.key_id is None
    seen = []
    for _ in range(3):
        rotating.credential.get()
        seen.append(rotating.key_id)
    assert seen[0] != seen[1] == seen[2]
    assert OpenAI("m", api_key="one").key_id == seen[0]
    assert OpenAICompatible("m", base_url="https://h").key_id is None
    assert "one" not in str(seen)
