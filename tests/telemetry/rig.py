"""An SDK that keeps everything in memory, providers made of plain values, and spans as a tree of text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler

from resilient_llm.errors import AttemptRecord, Fault, FaultKind
from resilient_llm.model import ChatRequest, ChatResponse, Message, Text, Usage
from resilient_llm.telemetry import CallTrace, Telemetry
from resilient_llm.telemetry.names import Semconv


@dataclass
class Provider:
    id: str
    vendor: str = "openai"
    model: str = "gpt-5"
    host: str | None = "api.example.com"
    port: int | None = 443
    propagate_trace_context: bool = False


FIRST = Provider("openai", model="gpt-5")
SECOND = Provider("claude", "anthropic", "claude-sonnet-5", "api.anthropic.com")
THIRD = Provider("gemini", "gemini", "gemini-3", None, None)

REQUEST = ChatRequest((Message("user", (Text("What is it?"),)),))
USAGE = Usage(input_tokens=11, output_tokens=7, total_tokens=18)
REPLY = ChatResponse((Text("It is."),), usage=USAGE, id="r1", model="gpt-5-2026-01-01", raw_finish_reason="stop")

RATE_LIMITED = Fault(FaultKind.RATE_LIMITED, retry_after=2.0, status=429, request_id="req_1")
REFUSED = Fault(FaultKind.CONNECTION)
DOWN = Fault(FaultKind.SERVER_ERROR, status=503)


def record(
    provider: Provider, number: int = 1, kind: str = "initial", fault: Fault | None = None, outcome: str = ""
) -> AttemptRecord:
    said = outcome or ("success" if fault is None else "error")
    status = fault.status if fault is not None else 200 if said == "success" else None
    return AttemptRecord(number, provider.id, provider.model, kind, said, fault, status, 0.25)


@dataclass
class Rig:
    """One client's telemetry and what came out of it."""

    semconv: Semconv | None = None
    sampler: Sampler | None = None
    exporter: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)
    reader: InMemoryMetricReader = field(default_factory=InMemoryMetricReader)

    def __post_init__(self) -> None:
        self.tracers = TracerProvider(sampler=self.sampler, shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False)
        self.telemetry = Telemetry("test", self.tracers, self.meters, semconv=self.semconv)

    def call(
        self, target: Provider | None = FIRST, *, streaming: bool = False, request: ChatRequest = REQUEST
    ) -> CallTrace:
        return self.telemetry.call("chat", request, "default", target, streaming=streaming, call_id="c1")

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    def tree(self, *shown: str) -> str:
        """Spans as indented lines, oldest first: kind, name, status, and the attributes asked for."""
        spans = sorted(self.spans, key=lambda span: (span.start_time or 0, span.context.span_id if span.context else 0))
        return "\n".join(_lines(spans, None, 0, shown))

    def points(self, name: str) -> dict[frozenset[str], float]:
        """Attributes as ``{"key=value", ...}`` -> sum or value, for one metric; the dull ones left out."""
        return {_shown(dict(point.attributes)): _value(point) for point in self.raw_points(name)}

    def raw_points(self, name: str) -> list[Any]:
        data = self.reader.get_metrics_data()
        metrics = [
            metric
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        ]
        return [point for metric in metrics if metric.name == name for point in metric.data.data_points]

    def metric_names(self) -> set[str]:
        data = self.reader.get_metrics_data()
        return {
            metric.name
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


_DULL = (
    "resilient_llm.client.name",
    "resilient_llm.route.name",
    "gen_ai.operation.name",
    "server.address",
    "server.port",
)


_SHORT = {"error.type": "error", "resilient_llm.attempt.type": "kind"}


def series(expected: dict[str, float]) -> dict[frozenset[str], float]:
    """``{"key=value,key=value": number}`` as :meth:`Rig.points` gives it."""
    return {frozenset(key.split(",")) - {""}: value for key, value in expected.items()}


def _shown(attributes: dict[str, object]) -> frozenset[str]:
    pairs = ((_SHORT.get(key, key.rpartition(".")[2]), value) for key, value in attributes.items() if key not in _DULL)
    return frozenset(f"{key}={value}" for key, value in pairs)


def _value(point: object) -> float:
    found = getattr(point, "sum", None)
    return float(found if found is not None else getattr(point, "value"))  # noqa: B009 - the kinds share no base


def _lines(spans: list[ReadableSpan], parent: int | None, depth: int, shown: Iterable[str]) -> list[str]:
    lines: list[str] = []
    for span in spans:
        if (span.parent.span_id if span.parent else None) != parent:
            continue
        assert span.context is not None
        attributes = dict(span.attributes or {})
        values = [f"{name.rpartition('.')[2]}={attributes[name]}" for name in shown if name in attributes]
        head = [span.kind.name, span.name, span.status.status_code.name, *values]
        lines.append("  " * depth + " ".join(head))
        lines += _lines(spans, span.context.span_id, depth + 1, shown)
    return lines
