"""What users rely on without looking: no secrets, no leaks to providers, nothing raised, hardly any cost."""

from __future__ import annotations

import ast
import gc
import json
import logging
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

import resilient_llm.telemetry
from resilient_llm import events
from resilient_llm.errors import AllAttemptsFailed, Fault, FaultKind, NoProviderAvailable
from resilient_llm.model import ChatRequest, ChatResponse, Message, Text
from resilient_llm.telemetry import Telemetry, attempts, logs, names
from tests.telemetry.rig import DOWN, FIRST, REPLY, REQUEST, SECOND, Provider, Rig, record

CANARY = "sk-canary-0123456789abcdef0123456789abcdef"
SUPPRESS = context._SUPPRESS_HTTP_INSTRUMENTATION_KEY


# --- privacy -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO])
def test_planted_secrets_reach_no_span_metric_or_log(level: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(level, "resilient_llm")
    rig = Rig(semconv="dup")
    asked = ChatRequest((Message("user", (Text(f"prompt {CANARY}"),)),), user=CANARY, stop=(CANARY,))
    fault = Fault(
        FaultKind.AUTH,
        status=401,
        code=f"code {CANARY}",
        message=f"Incorrect API key provided: {CANARY}. https://u:{CANARY}@h/?key={CANARY}",
        request_id=f"Bearer {CANARY}",
    )
    call = rig.call(request=asked)
    call.attempt(FIRST, 1, "initial", 0.0).ended(record(FIRST, fault=fault), selected=False)
    call.attempt(SECOND, 2, "failover", 0.0).ended(record(SECOND, 2, "failover", fault), selected=False)
    cause = AllAttemptsFailed(f"failed {CANARY}", (record(FIRST, fault=fault),), None, fault)
    cause.__cause__ = RuntimeError(f"https://h/?key={CANARY}")
    call.failed(cause, 1.0)
    again = rig.call(request=asked)
    again.failed(NoProviderAvailable(CANARY, reasons={"openai": CANARY}), 1.0)
    rig.call(request=asked).succeeded(ChatResponse((Text(f"answer {CANARY}"),)), FIRST, 1.0)
    rig.telemetry.event(events.GateClosed(1.0, "openai", 60.0, str(fault.kind), slow=True))
    everything = [span.to_json() for span in rig.spans]
    everything += [str(rig.raw_points(metric.name)) for metric in names.METRICS]
    everything += [f"{line.getMessage()} {line.__dict__}" for line in caplog.records]
    told = "\n".join(everything)
    assert "attempt openai" in told
    assert "canary" not in told
    assert "prompt" not in told
    assert "answer" not in told


def test_what_a_provider_said_is_told_at_debug_and_scrubbed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "resilient_llm")
    fault = Fault(FaultKind.SERVER_ERROR, message=f"engine {CANARY} exploded " + "x" * 500)
    rig = Rig()
    rig.call().attempt(FIRST, 1, "initial", 0.0).ended(record(FIRST, fault=fault), selected=False)
    said = caplog.records[-1].__dict__["resilient_llm.provider.message"]
    assert said.startswith("engine *** exploded")
    assert len(said) <= 200
    assert "engine" not in caplog.records[-1].getMessage()


# --- what providers get to see -----------------------------------------------------------------------------


def seen_while_sending(telemetry: Telemetry, target: Provider = FIRST) -> tuple[context.Context, dict[str, str]]:
    call = telemetry.call("chat", REQUEST, "default", target, streaming=False, call_id="c")
    attempt = call.attempt(target, 1, "initial", 0.0)
    token = attempt.attach()
    try:
        return context.get_current(), attempt.headers()
    finally:
        attempt.detach(token)


@pytest.mark.parametrize("kind", ["recording", "sampled out", "no SDK"])
def test_http_instrumentation_is_suppressed_whether_or_not_anything_records(kind: str) -> None:
    rig = Rig(sampler=ALWAYS_OFF if kind == "sampled out" else None)
    telemetry = Telemetry("plain") if kind == "no SDK" else rig.telemetry
    before = context.get_current()
    seen, headers = seen_while_sending(telemetry)
    assert seen.get(SUPPRESS) is True
    assert headers == {}
    assert context.get_current() == before


def test_what_was_current_stays_so_for_everything_but_http_instrumentation() -> None:
    token = context.attach(baggage.set_baggage("tenant", "a"))
    try:
        seen, _ = seen_while_sending(Telemetry("plain"))
        assert baggage.get_baggage("tenant", seen) == "a"
        assert seen.get(SUPPRESS) is True
    finally:
        context.detach(token)


def test_the_attempt_is_the_current_span_while_its_request_is_sent() -> None:
    rig = Rig()
    seen, _ = seen_while_sending(rig.telemetry)
    current = trace.get_current_span(seen)
    assert isinstance(current, ReadableSpan)
    assert current.name == "attempt openai"
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_a_provider_that_wants_the_trace_gets_traceparent_and_never_baggage() -> None:
    own = Provider("gateway", propagate_trace_context=True)
    token = context.attach(baggage.set_baggage("tenant", "secret"))
    try:
        rig = Rig()
        seen, headers = seen_while_sending(rig.telemetry, own)
        at = trace.get_current_span(seen).get_span_context()
        assert headers == {"traceparent": f"00-{at.trace_id:032x}-{at.span_id:016x}-{at.trace_flags:02x}"}
        assert at.trace_flags.sampled
        assert seen.get(SUPPRESS) is None
        assert not baggage.get_all(seen)
        seen, headers = seen_while_sending(Telemetry("plain"), own)
        assert headers == {}
        assert not baggage.get_all(seen)
    finally:
        context.detach(token)


def test_a_sampled_out_trace_is_passed_on_as_sampled_out() -> None:
    own = Provider("gateway", propagate_trace_context=True)
    _, headers = seen_while_sending(Rig(sampler=ALWAYS_OFF).telemetry, own)
    assert not int(headers["traceparent"][-2:], 16) & 1


def test_without_the_suppression_key_calls_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "_SUPPRESS", None)
    seen, _ = seen_while_sending(Rig().telemetry)
    assert seen.get(SUPPRESS) is None


# --- never in the way --------------------------------------------------------------------------------------


class Explosive(SpanProcessor):
    """An exporter gone wrong."""

    def on_start(self, span: object, parent_context: object = None) -> None:
        raise RuntimeError("boom")

    def on_end(self, span: object) -> None:
        raise RuntimeError("boom")


def test_nothing_raises_whatever_the_sdk_and_the_caller_do(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "_complaints", set())
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(Explosive())
    telemetry = Telemetry("x", tracers)
    call = telemetry.call("chat", REQUEST, "default", FIRST, streaming=True, call_id="c")
    attempt = call.attempt(FIRST, 1, "initial", 0.0)
    attempt.detach(attempt.attach())
    attempt.ended(None, selected=True)  # type: ignore[arg-type]
    call.first_chunk(0.1)
    call.succeeded(None, FIRST, 1.0)  # type: ignore[arg-type]
    quiet = Telemetry("y", Rig().tracers)
    ends = {"succeeded": (REPLY, FIRST, 1.0), "closed_early": (None, FIRST, 1.0), "failed": (ValueError(), 1.0)}
    for end, arguments in ends.items():
        call = quiet.call("chat", REQUEST, "default", FIRST, streaming=False, call_id="c")
        monkeypatch.setattr(call, "scope", None)
        getattr(call, end)(*arguments)
    call = quiet.call("chat", REQUEST, "default", FIRST, streaming=False, call_id="c")
    attempt = call.attempt(None, 1, "initial", 0.0)  # type: ignore[arg-type]
    attempt = call.attempt(object(), 1, "initial", 0.0)  # type: ignore[arg-type]
    monkeypatch.setattr(attempts.context, "get_current", None)
    attempt.detach(attempt.attach())
    telemetry.event(events.OperatorChanged(1.0, [], "drain"))  # type: ignore[arg-type]
    telemetry.watch(3)  # type: ignore[arg-type]
    assert {line.levelname for line in caplog.records} == {"ERROR"}
    assert "boom" not in caplog.text


def test_what_a_finaliser_reports_waits_for_the_next_call_or_event() -> None:
    rig = Rig()
    dropped, other = rig.call(), rig.call()
    attempt = dropped.attempt(FIRST, 1, "initial", 0.0)
    rig.telemetry.later(partial(attempt.ended, record(FIRST, outcome="cancelled"), selected=False))
    rig.telemetry.later(partial(dropped.closed_early, None, None, 3.0))
    assert rig.spans == []
    rig.call()
    assert [span.name for span in rig.spans] == ["attempt openai", "chat gpt-5"]
    rig.telemetry.later(partial(other.closed_early, None, None, 3.0))
    rig.telemetry.event(events.OperatorChanged(1.0, "openai", "drain"))
    assert len(rig.spans) == 3


def test_two_threads_may_settle_the_same_leftovers(monkeypatch: pytest.MonkeyPatch) -> None:
    class Race(list[Callable[[], None]]):
        def popleft(self) -> Callable[[], None]:
            raise IndexError

    rig = Rig()
    monkeypatch.setattr(rig.telemetry._scope, "left", Race([lambda: None]))
    rig.call().succeeded(REPLY, FIRST, 1.0)
    assert len(rig.spans) == 1


# --- cheap -------------------------------------------------------------------------------------------------


def whole_call(telemetry: Telemetry, n: int = 0) -> None:
    call = telemetry.call("chat", REQUEST, "default", FIRST, streaming=False, call_id=str(n))
    attempt = call.attempt(FIRST, 1, "initial", 0.0)
    attempt.detach(attempt.attach())
    attempt.ended(record(FIRST), selected=True)
    call.succeeded(REPLY, FIRST, 1.0)


def grown(work: Callable[[int], None], times: int) -> int:
    """Blocks of memory more after than before; counted, because tracing every allocation takes ten times as long."""
    work(0)
    gc.collect()
    before = sys.getallocatedblocks()
    for n in range(times):
        work(n)
    gc.collect()
    return sys.getallocatedblocks() - before


def test_a_hundred_thousand_calls_leave_nothing_behind() -> None:
    telemetry = Telemetry("plain")
    assert grown(lambda n: whole_call(telemetry, n), 100_000) < 500


def test_many_clients_share_their_instruments_and_leave_nothing_behind() -> None:
    assert grown(lambda n: whole_call(Telemetry("plain"), n), 1000) < 500


def test_a_tracer_without_spans_is_no_carrier() -> None:
    class Spanless(trace.NoOpTracer):
        def start_span(self, *arguments: object, **settings: object) -> trace.Span:
            return trace.INVALID_SPAN

    class SpanlessProvider(trace.TracerProvider):
        def get_tracer(self, *arguments: object, **settings: object) -> trace.Tracer:
            return Spanless()

    _, headers = seen_while_sending(Telemetry("x", SpanlessProvider()), Provider("own", propagate_trace_context=True))
    assert headers == {}


def test_caches_do_not_grow_with_the_number_of_providers_or_routes() -> None:
    telemetry = Telemetry("plain")
    for n in range(3000):
        provider = Provider(f"p{n}")
        call = telemetry.call("chat", REQUEST, f"route{n}", provider, streaming=False, call_id="c")
        telemetry._scope.route(f"route{n}")
        telemetry._scope.face(FIRST).base_point("x", str(n))
        call.attempt(provider, 1, "initial", 0.0).ended(record(provider, fault=DOWN), selected=False)
        call.attempt(FIRST, 2, "failover", 0.0)
    scope = telemetry._scope
    assert len(scope._faces) <= 1024
    assert len(scope._routes) <= 1024


# --- the API and nothing but the API -----------------------------------------------------------------------

SOURCES = sorted(Path(resilient_llm.telemetry.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_only_the_opentelemetry_api_is_imported_and_no_provider_is_set(source: Path) -> None:
    tree = ast.parse(source.read_text())
    imported = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    foreign = ("opentelemetry.sdk", "opentelemetry.instrumentation", "opentelemetry.semconv", "opentelemetry.exporter")
    assert not [name for name in imported if name.startswith(foreign)]
    called = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not called & {"set_tracer_provider", "set_meter_provider", "add_event", "record_exception"}


SET_LATER = """
from tests.telemetry.rig import FIRST, REPLY, REQUEST, Rig, record
from resilient_llm.telemetry import Telemetry
from opentelemetry import metrics, trace
import json

telemetry = Telemetry("early")

def call():
    call = telemetry.call("chat", REQUEST, "default", FIRST, streaming=False, call_id="c")
    call.attempt(FIRST, 1, "initial", 0.0).ended(record(FIRST), selected=True)
    call.succeeded(REPLY, FIRST, 1.0)

call()
rig = Rig()
trace.set_tracer_provider(rig.tracers)
metrics.set_meter_provider(rig.meters)
call()
scope = rig.spans[0].instrumentation_scope
(point,) = rig.raw_points("gen_ai.client.operation.duration")
print(json.dumps([rig.tree(), scope.name, scope.schema_url, point.count, list(point.explicit_bounds)[:2]]))
"""


def test_a_provider_set_after_the_client_was_made_gets_everything_from_then_on() -> None:
    root = Path(__file__).parents[2]
    ran = subprocess.run(
        [sys.executable, "-c", SET_LATER],
        capture_output=True,
        text=True,
        check=True,
        cwd=root,
        env={"PYTHONPATH": f"{root / 'src'}:{root}"},
    )
    assert json.loads(ran.stdout) == [
        "CLIENT chat gpt-5 UNSET\n  INTERNAL attempt openai UNSET",
        "resilient_llm",
        "https://opentelemetry.io/schemas/1.41.0",
        1,
        [0.01, 0.02],
    ]
