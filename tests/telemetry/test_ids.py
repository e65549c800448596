"""One id leads from a log line to a span and to what the provider's support can look up."""

from __future__ import annotations

import logging

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from resilient_llm import ResilientClient
from resilient_llm.providers import OpenAI, OpenAICompatible, OpenAIResponses
from resilient_llm.telemetry import names
from resilient_llm.testing import LoopbackLLM, Reply, Status

HEADER = "x-client-request-id"


def spans_of(work: str, *providers: OpenAICompatible | OpenAIResponses, **options: str) -> list[ReadableSpan]:
    exporter = InMemorySpanExporter()
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    with ResilientClient(providers, tracer_provider=tracers) as client:
        if work == "stream":
            with client.stream("?", **options) as stream:  # type: ignore[arg-type]
                list(stream)
        else:
            client.chat("?", **options)  # type: ignore[arg-type]
    return list(exporter.get_finished_spans())


@pytest.mark.parametrize("kind", [OpenAI, OpenAIResponses])
@pytest.mark.parametrize("work", ["chat", "stream"])
def test_openai_is_sent_the_id_of_each_attempt(
    kind: type[OpenAI | OpenAIResponses], work: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "resilient_llm.call")
    with LoopbackLLM(Status(503), default=Reply("yes")) as server:
        spans = spans_of(work, kind("m", base_url=f"{server.url}/v1", api_key="k"))
        sent = [request.headers[HEADER] for request in server.requests]
    attempts = [dict(span.attributes or {}) for span in spans if span.parent]
    (call,) = [dict(span.attributes or {}) for span in spans if not span.parent]
    assert sent == [attempt[names.ATTEMPT_ID] for attempt in attempts]
    assert sent == [f"{call[names.CALL_ID]}-1", f"{call[names.CALL_ID]}-2"]
    ended = [r for r in caplog.records if r.__dict__["otel.event.name"] == "resilient_llm.client.attempt"]
    assert sent == [r.__dict__[names.ATTEMPT_ID] for r in ended]


def test_an_id_of_the_users_own_is_left_alone() -> None:
    with LoopbackLLM() as server:
        spans_of("chat", OpenAI("m", base_url=f"{server.url}/v1", api_key="k", headers={"X-Client-Request-Id": "mine"}))
        assert server.requests[0].headers[HEADER] == "mine"


def test_an_empty_id_of_the_users_own_means_none() -> None:
    with LoopbackLLM() as server:
        spans_of("chat", OpenAI("m", base_url=f"{server.url}/v1", api_key="k", headers={"X-Client-Request-Id": ""}))
        assert HEADER not in server.requests[0].headers


def test_others_are_sent_none() -> None:
    with LoopbackLLM() as server:
        spans_of("chat", OpenAICompatible("m", base_url=f"{server.url}/v1"))
        assert HEADER not in server.requests[0].headers


def test_two_clients_of_one_process_have_ids_of_their_own() -> None:
    with LoopbackLLM(default=Reply("yes")) as server:
        for _ in range(2):
            spans_of("chat", OpenAI("m", base_url=f"{server.url}/v1", api_key="k"))
        first, second = (request.headers[HEADER] for request in server.requests)
    assert first != second
    assert len(first.partition("-")[0]) == 16, "64 random bits tell processes apart"


def test_a_conversation_is_named_on_the_span_of_its_calls_only() -> None:
    with LoopbackLLM(default=Reply("yes")) as server:
        provider = OpenAI("m", base_url=f"{server.url}/v1", api_key="k")
        spans = spans_of("chat", provider, conversation="chat-17")
        assert [dict(span.attributes or {}).get(names.CONVERSATION_ID) for span in spans] == [None, "chat-17"]
        assert names.CONVERSATION_ID not in dict(spans_of("chat", provider)[-1].attributes or {})
