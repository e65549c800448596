"""Golden trees: what a trace viewer shows for each way a call can go."""

from __future__ import annotations

import asyncio
import threading

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from resilient_llm.errors import (
    AllAttemptsFailed,
    ClientClosed,
    ConfigurationError,
    DeadlineExceeded,
    Fault,
    FaultKind,
    InvalidAnswer,
    InvalidRequest,
    NoProviderAvailable,
    ProviderError,
    RequestRejected,
    StreamInterrupted,
    UnsupportedFeature,
)
from resilient_llm.model import (
    ChatRequest,
    ChatResponse,
    Choice,
    EmbedRequest,
    EmbedResponse,
    OutputFormat,
    Reasoning,
    Text,
    Usage,
)
from resilient_llm.telemetry import CallTrace, Telemetry, names
from resilient_llm.telemetry.values import call_error
from tests.telemetry.rig import (
    DOWN,
    FIRST,
    RATE_LIMITED,
    REFUSED,
    REPLY,
    REQUEST,
    SECOND,
    THIRD,
    USAGE,
    Provider,
    Rig,
    record,
    series,
)

TYPE, OUTCOME, SELECTED = names.ATTEMPT_TYPE, names.ATTEMPT_OUTCOME, names.ATTEMPT_SELECTED
ATTEMPT = (TYPE, OUTCOME, SELECTED, names.ERROR_TYPE)


def go(rig: Rig, *steps: tuple[Provider, str, Fault | None]) -> CallTrace:
    """A call that makes these attempts one after the other; the last one, if it succeeded, is the winner."""
    call = rig.call(steps[0][0])
    for number, (provider, kind, fault) in enumerate(steps, 1):
        attempt = call.attempt(provider, number, kind, 0.0 if number == 1 else 0.5)
        attempt.ended(record(provider, number, kind, fault), selected=fault is None)
    return call


def test_what_a_provider_says_of_an_answer_is_scrubbed_and_bounded() -> None:
    key = "sk-canary0123456789abcdef"
    rig = Rig()
    reply = ChatResponse(
        (Text("hi"),),
        raw_finish_reason=f"stop {key}",
        id=f"id {key}",
        model=f"gpt {key} " + "x" * 1000,
        alternatives=tuple(Choice((), "stop", f"{key} {'y' * 1000}") for _ in range(100)),
        model_mismatch=True,
    )
    go(rig, (FIRST, "initial", None)).succeeded(reply, FIRST, 1.5)
    found = dict(rig.spans[-1].attributes or {})
    assert key not in str(found)
    assert found["gen_ai.response.id"] == "id ***"
    assert found["gen_ai.response.model"].startswith("gpt *** xxx")
    assert len(found["gen_ai.response.model"]) <= 128
    reasons = found["gen_ai.response.finish_reasons"]
    assert reasons[0] == "stop ***"
    assert len(reasons) <= 17
    assert max(map(len, reasons)) <= 128
    assert found["resilient_llm.model_mismatch"] is True


@pytest.mark.parametrize("given", ["resp_" + "0a" * 25, "chatcmpl-BsX9aYwQ0123456789012345678901", "msg_01AbC"])
def test_an_id_of_the_usual_make_is_no_key(given: str) -> None:
    rig = Rig()
    go(rig, (FIRST, "initial", None)).succeeded(ChatResponse((Text("hi"),), id=given), FIRST, 1.5)
    assert dict(rig.spans[-1].attributes or {})["gen_ai.response.id"] == given


def test_a_plain_success_is_one_client_span_with_one_attempt() -> None:
    rig = Rig()
    go(rig, (FIRST, "initial", None)).succeeded(REPLY, FIRST, 1.5)
    assert rig.tree(*ATTEMPT) == (
        "CLIENT chat gpt-5 UNSET\n  INTERNAL attempt openai UNSET type=initial outcome=success selected=True"
    )
    parent = dict(rig.spans[-1].attributes or {})
    assert parent == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-5",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.response.id": "r1",
        "gen_ai.response.model": "gpt-5-2026-01-01",
        "gen_ai.usage.input_tokens": 11,
        "gen_ai.usage.output_tokens": 7,
        "resilient_llm.attempt.count": 1,
        "resilient_llm.call.id": "c1",
        "resilient_llm.client.name": "test",
        "resilient_llm.route.name": "default",
        "server.address": "api.example.com",
        "server.port": 443,
    }


def test_a_retry_counts_its_resend_and_its_wait() -> None:
    rig = Rig()
    go(rig, (FIRST, "initial", DOWN), (FIRST, "retry", None)).succeeded(REPLY, FIRST, 1.5)
    shown = (*ATTEMPT, names.HTTP_STATUS, names.HTTP_RESEND_COUNT, names.ATTEMPT_DELAY, names.RETRY_COUNT)
    assert rig.tree(*shown) == (
        "CLIENT chat gpt-5 UNSET count=1\n"
        "  INTERNAL attempt openai ERROR type=initial outcome=error selected=False type=server_error status_code=503\n"
        "  INTERNAL attempt openai UNSET type=retry outcome=success selected=True status_code=200"
        " resend_count=1 delay=0.5"
    )


def test_a_failover_gives_the_call_the_winners_name_provider_and_model() -> None:
    rig = Rig()
    go(rig, (FIRST, "initial", RATE_LIMITED), (SECOND, "failover", None)).succeeded(REPLY, SECOND, 1.5)
    shown = (*ATTEMPT, names.REQUEST_MODEL, names.PROVIDER_NAME, names.SERVER_ADDRESS, names.FAILOVER_COUNT)
    assert rig.tree(*shown) == (
        "CLIENT chat claude-sonnet-5 UNSET model=claude-sonnet-5 name=anthropic address=api.anthropic.com count=1\n"
        "  INTERNAL attempt openai ERROR type=initial outcome=error selected=False type=rate_limit"
        " name=openai address=api.example.com\n"
        "  INTERNAL attempt claude UNSET type=failover outcome=success selected=True"
        " name=anthropic address=api.anthropic.com"
    )
    failed = next(span for span in rig.spans if span.name == "attempt openai")
    assert failed.attributes is not None
    assert failed.attributes[names.ATTEMPT_RETRY_AFTER] == 2.0
    assert failed.attributes[names.PROVIDER_REQUEST_ID] == "req_1"


def hedged(rig: Rig, *, wins: bool) -> None:
    call = rig.call()
    first = call.attempt(FIRST, 1, "initial", 0.0)
    second = call.attempt(SECOND, 2, "hedge", 0.0)
    outcomes = ("cancelled", "success") if wins else ("success", "cancelled")
    second.ended(record(SECOND, 2, "hedge", outcome=outcomes[1]), selected=wins)
    first.ended(record(FIRST, 1, outcome=outcomes[0]), selected=not wins)
    call.succeeded(REPLY, SECOND if wins else FIRST, 1.0)


@pytest.mark.parametrize("wins", [True, False])
def test_the_loser_of_a_hedge_is_cancelled_and_no_error(wins: bool) -> None:
    rig = Rig()
    hedged(rig, wins=wins)
    name = "claude-sonnet-5" if wins else "gpt-5"
    loser, winner = "outcome=cancelled selected=False", "outcome=success selected=True"
    assert rig.tree(*ATTEMPT, names.HEDGE_COUNT) == (
        f"CLIENT chat {name} UNSET count=1\n"
        f"  INTERNAL attempt openai UNSET type=initial {loser if wins else winner}\n"
        f"  INTERNAL attempt claude UNSET type=hedge {winner if wins else loser}"
    )


def test_a_call_that_failed_everywhere_is_an_error_of_its_last_attempts_kind() -> None:
    rig = Rig()
    call = go(rig, (FIRST, "initial", RATE_LIMITED), (SECOND, "failover", REFUSED))
    call.failed(AllAttemptsFailed("all 2 attempts failed", (), None, REFUSED), 1.5)
    assert rig.tree(*ATTEMPT) == (
        "CLIENT chat claude-sonnet-5 ERROR type=connection_error\n"
        "  INTERNAL attempt openai ERROR type=initial outcome=error selected=False type=rate_limit\n"
        "  INTERNAL attempt claude ERROR type=failover outcome=error selected=False type=connection_error"
    )
    assert all(span.status.description is None and not span.events for span in rig.spans)


def test_a_call_nobody_could_be_asked_for_has_no_attempts_and_no_model() -> None:
    rig = Rig()
    rig.call(None).failed(NoProviderAvailable("nobody", reasons={"openai": "breaker open"}), 0.1)
    assert rig.tree(names.ERROR_TYPE, names.REQUEST_MODEL, names.PROVIDER_NAME) == (
        "CLIENT chat ERROR type=circuit_open name=resilient_llm"
    )


def stream(rig: Rig) -> CallTrace:
    call = rig.call(streaming=True)
    call.attempt(FIRST, 1, "initial", 0.0).ended(record(FIRST), selected=True)
    call.first_chunk(0.2)
    call.first_chunk(0.9)
    return call


STREAMED = (names.STREAM, names.STREAM_OUTCOME, names.TIME_TO_FIRST_CHUNK, names.ERROR_TYPE)


def test_a_complete_stream_says_so_and_when_it_began() -> None:
    rig = Rig()
    stream(rig).succeeded(REPLY, FIRST, 3.0)
    assert rig.tree(*STREAMED).splitlines()[0] == (
        "CLIENT chat gpt-5 UNSET stream=True outcome=completed time_to_first_chunk=0.2"
    )


def test_a_stream_the_caller_closed_is_no_error_and_keeps_what_it_cost() -> None:
    rig = Rig()
    stream(rig).closed_early(ChatResponse((Text("It"),), usage=USAGE), FIRST, 3.0)
    shown = (*STREAMED, names.OUTPUT_TOKENS, names.FINISH_REASONS)
    assert rig.tree(*shown).splitlines()[0] == (
        "CLIENT chat gpt-5 UNSET stream=True outcome=closed_early time_to_first_chunk=0.2 output_tokens=7"
    )


def test_a_stream_that_broke_is_interrupted_whatever_broke_it() -> None:
    rig = Rig()
    call = rig.call(streaming=True)
    call.attempt(FIRST, 1, "initial", 0.0).ended(record(FIRST, fault=REFUSED), selected=True)
    partial = ChatResponse((Text("It"),), usage=Usage(5, 2))
    call.failed(StreamInterrupted("broke", (), None, REFUSED, partial), 2.0)
    assert rig.tree(*STREAMED, OUTCOME) == (
        "CLIENT chat gpt-5 ERROR stream=True outcome=interrupted type=stream_interrupted\n"
        "  INTERNAL attempt openai ERROR type=connection_error outcome=error"
    )


@pytest.mark.parametrize("cancelled", [asyncio.CancelledError(), KeyboardInterrupt(), GeneratorExit()])
def test_cancellation_is_not_a_failure(cancelled: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()
    call = rig.call()
    call.attempt(FIRST, 1, "initial", 0.0).ended(record(FIRST, outcome="cancelled"), selected=False)
    call.failed(cancelled, 0.5)
    assert rig.tree(*ATTEMPT) == (
        "CLIENT chat gpt-5 UNSET\n  INTERNAL attempt openai UNSET type=initial outcome=cancelled selected=False"
    )
    assert not caplog.records


def test_every_end_counts_once() -> None:
    rig = Rig()
    call = rig.call()
    attempt = call.attempt(FIRST, 1, "initial", 0.0)
    for _ in range(2):
        attempt.ended(record(FIRST), selected=True)
        call.succeeded(REPLY, FIRST, 1.0)
        call.failed(AllAttemptsFailed("late"), 2.0)
        call.closed_early(None, None, 3.0)
    assert rig.tree() == "CLIENT chat gpt-5 UNSET\n  INTERNAL attempt openai UNSET"
    assert rig.points("gen_ai.client.operation.duration") == series({"name=openai,model=gpt-5": 1.0})
    assert list(rig.points("resilient_llm.client.attempt.duration").values()) == [0.25]


def test_a_call_may_end_on_another_thread_than_it_began_on() -> None:
    rig = Rig()
    with rig.tracers.get_tracer("app").start_as_current_span("request"):
        call = rig.call()
    attempt: list[object] = []

    def work() -> None:
        started = call.attempt(FIRST, 1, "initial", 0.0)
        token = started.attach()
        attempt.append(trace.get_current_span().get_span_context().span_id)
        started.detach(token)
        started.ended(record(FIRST), selected=True)
        call.succeeded(REPLY, FIRST, 1.0)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert rig.tree() == ("INTERNAL request UNSET\n  CLIENT chat gpt-5 UNSET\n    INTERNAL attempt openai UNSET")
    assert attempt == [span.context.span_id for span in rig.spans if span.context and span.name == "attempt openai"]


def test_a_sampled_out_call_makes_no_spans_and_still_measures() -> None:
    rig = Rig(sampler=ALWAYS_OFF)
    call = go(rig, (FIRST, "initial", RATE_LIMITED), (SECOND, "failover", None))
    call.succeeded(REPLY, SECOND, 1.0)
    assert rig.spans == []
    assert rig.points("gen_ai.client.operation.duration") == series({"name=anthropic,model=claude-sonnet-5": 1.0})


def test_embeddings_have_their_own_name_and_dimensions() -> None:
    rig = Rig()
    request = EmbedRequest(("a",), dimensions=256)
    call = rig.telemetry.call("embeddings", request, "default", FIRST, streaming=False, call_id="c1")
    call.attempt(FIRST, 1, "initial", 0.0).ended(record(FIRST), selected=True)
    call.succeeded(EmbedResponse(((0.1,),), "e-1", Usage(3)), FIRST, 0.3)
    assert rig.tree(names.DIMENSIONS, names.INPUT_TOKENS, names.RESPONSE_MODEL).splitlines()[0] == (
        "CLIENT embeddings gpt-5 UNSET count=256 input_tokens=3 model=e-1"
    )


FULL = ChatRequest(
    REQUEST.messages,
    max_tokens=100,
    temperature=0,
    top_p=0.9,
    top_k=40,
    frequency_penalty=0.1,
    presence_penalty=0.2,
    seed=7,
    n=2,
    stop=("END",),
    output=OutputFormat("json_schema"),
    reasoning=Reasoning("high"),
)
CACHED = Usage(10, 5, cache_read_tokens=4, cache_write_tokens=3, reasoning_tokens=2)


def full_span(rig: Rig) -> dict[str, object]:
    call = rig.call(request=FULL)
    other = Choice((Text("Or."),), "length")
    call.succeeded(ChatResponse((Text("It is."),), usage=CACHED, alternatives=(other,)), FIRST, 1.0)
    return {key: value for key, value in (rig.spans[0].attributes or {}).items() if key.startswith("gen_ai")}


def test_request_parameters_are_on_the_span_in_the_types_of_the_old_dialect() -> None:
    found = full_span(Rig(semconv="1.41"))
    assert found == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-5",
        "gen_ai.request.max_tokens": 100,
        "gen_ai.request.temperature": 0.0,
        "gen_ai.request.top_p": 0.9,
        "gen_ai.request.top_k": 40.0,
        "gen_ai.request.frequency_penalty": 0.1,
        "gen_ai.request.presence_penalty": 0.2,
        "gen_ai.request.seed": 7,
        "gen_ai.request.choice.count": 2,
        "gen_ai.output.type": "json",
        "gen_ai.response.finish_reasons": ("stop", "length"),
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "gen_ai.usage.cache_creation.input_tokens": 3,
        "gen_ai.usage.reasoning.output_tokens": 2,
    }
    assert isinstance(found["gen_ai.request.top_k"], float)


def test_the_new_dialect_renames_cache_writes_and_adds_the_reasoning_level() -> None:
    found = full_span(Rig(semconv="0.1.0"))
    assert found["gen_ai.usage.cache_write.input_tokens"] == 3
    assert "gen_ai.usage.cache_creation.input_tokens" not in found
    assert found["gen_ai.request.reasoning.level"] == "high"
    assert isinstance(found["gen_ai.request.top_k"], int)
    both = full_span(Rig(semconv="dup"))
    assert both["gen_ai.usage.cache_write.input_tokens"] == both["gen_ai.usage.cache_creation.input_tokens"] == 3


def test_the_new_dialect_gives_an_unfinished_generation_the_finish_reason_error() -> None:
    rig = Rig(semconv="0.1.0")
    stream(rig).closed_early(None, None, 1.0)
    assert (rig.spans[-1].attributes or {})[names.FINISH_REASONS] == ("error",)


def test_the_environment_chooses_the_dialect_when_the_client_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "http, gen_ai_latest_experimental")
    rig = Rig()
    monkeypatch.delenv("OTEL_SEMCONV_STABILITY_OPT_IN")
    go(rig, (FIRST, "initial", None)).succeeded(REPLY, FIRST, 1.0)
    assert "gen_ai.client.inference.duration" in rig.metric_names()
    assert "gen_ai.client.operation.duration" not in rig.metric_names()


def test_an_unknown_dialect_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match=r"'1\.40'"):
        Telemetry("x", semconv="1.40")  # type: ignore[arg-type]


def test_exactly_one_span_per_call_carries_a_model() -> None:
    """Langfuse and Phoenix take every span with ``gen_ai.request.model`` (or an operation) for a priced generation."""
    rig = Rig()
    go(rig, (FIRST, "initial", DOWN), (FIRST, "retry", DOWN), (THIRD, "failover", None)).succeeded(REPLY, THIRD, 1.0)
    hedged(rig, wins=True)
    go(rig, (FIRST, "initial", DOWN)).failed(AllAttemptsFailed("no", (), None, DOWN), 1.0)
    stream(rig).closed_early(None, None, 1.0)
    generations = ("gen_ai.request.model", "gen_ai.response.model", "gen_ai.operation.name", "model")
    for span in rig.spans:
        found = [name for name in generations if name in (span.attributes or {})]
        assert bool(found) is (span.parent is None), span.name
        assert not any(name.startswith("gen_ai.usage") for name in span.attributes or {}) or span.parent is None
    assert len([span for span in rig.spans if "gen_ai.request.model" in (span.attributes or {})]) == 4


def test_a_new_provider_under_an_old_id_is_described_anew() -> None:
    rig = Rig()
    rig.call(FIRST).succeeded(REPLY, FIRST, 1.0)
    other = Provider("openai", model="gpt-6")
    rig.call(other).succeeded(REPLY, other, 1.0)
    assert [span.name for span in rig.spans] == ["chat gpt-5", "chat gpt-6"]


@pytest.mark.parametrize(
    ("vendor", "expected"),
    [
        ("openai", "openai"),
        ("azure_openai", "azure.ai.openai"),
        ("bedrock", "aws.bedrock"),
        ("gemini", "gcp.gemini"),
        ("vertex_ai", "gcp.vertex_ai"),
        ("mistral", "mistral_ai"),
        ("xai", "x_ai"),
        ("groq", "groq"),
        ("my_gateway", "my_gateway"),
    ],
)
def test_vendors_are_spelt_as_the_conventions_do(vendor: str, expected: str) -> None:
    rig = Rig()
    rig.call(Provider("p", vendor)).succeeded(REPLY, FIRST, 1.0)
    rig.call(FIRST).succeeded(REPLY, Provider("p", vendor), 1.0)
    assert (rig.spans[1].attributes or {})[names.PROVIDER_NAME] == expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (AllAttemptsFailed("x", (), None, RATE_LIMITED), "rate_limit"),
        (AllAttemptsFailed("x"), "all_providers_failed"),
        (RequestRejected("x", (), None, Fault(FaultKind.CONTEXT_LENGTH)), "context_length"),
        (DeadlineExceeded("x", (), None, RATE_LIMITED), "deadline_exceeded"),
        (StreamInterrupted("x", (), None, REFUSED), "stream_interrupted"),
        (NoProviderAvailable("x", reasons={"a": "breaker open", "b": "breaker open"}), "circuit_open"),
        (NoProviderAvailable("x", reasons={"a": "breaker open", "b": "asked us to wait"}), "no_provider_available"),
        (NoProviderAvailable("x", reasons={"a": "it cannot see images"}), "unsupported"),
        (NoProviderAvailable("x"), "no_provider_available"),
        (InvalidRequest("x"), "invalid_request"),
        (UnsupportedFeature("audio", "x"), "unsupported"),
        (InvalidAnswer("x"), "invalid_response"),
        (ClientClosed("x"), "client_error"),
        (ProviderError("x", kind=FaultKind.OVERLOADED), "overloaded"),
        (TimeoutError(), "timeout"),
        (KeyError("secret"), "_OTHER"),
    ],
)
def test_error_type_comes_from_a_closed_list(error: Exception, expected: str) -> None:
    assert call_error(error) == expected
    assert expected in names.error_types()


def test_every_fault_kind_has_an_error_type() -> None:
    assert set(names.ERROR_TYPES) == set(FaultKind)


def test_messages_are_captured_only_when_the_user_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = Rig()
    quiet.call(request=FULL).succeeded(REPLY, FIRST, 1.0)
    assert "What is it?" not in str(quiet.spans[0].attributes)
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "SPAN_ONLY")
    rig = Rig()
    rig.call(request=FULL).succeeded(REPLY, FIRST, 1.0)
    found = rig.spans[0].attributes or {}
    assert found[names.INPUT_MESSAGES] == '[{"role": "user", "parts": [{"type": "text", "content": "What is it?"}]}]'
    assert found[names.OUTPUT_MESSAGES] == (
        '[{"role": "assistant", "parts": [{"type": "text", "content": "It is."}], "finish_reason": "stop"}]'
    )
    assert found[names.STOP_SEQUENCES] == ("END",)
    rig.call().closed_early(None, FIRST, 1.0)
    assert names.STOP_SEQUENCES not in (rig.spans[1].attributes or {})


def test_a_provider_without_a_port_and_an_answer_without_an_id_leave_those_out() -> None:
    rig = Rig()
    local = Provider("local", "ollama", "llama", "localhost", None)
    rig.call(local).succeeded(ChatResponse((Text("hi"),)), local, 0.1)
    found = rig.spans[0].attributes or {}
    assert found[names.SERVER_ADDRESS] == "localhost"
    assert not {names.SERVER_PORT, names.RESPONSE_ID, names.RESPONSE_MODEL, names.INPUT_TOKENS} & set(found)
