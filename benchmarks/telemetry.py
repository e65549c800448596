"""What telemetry costs a call with one attempt, without an SDK, beside ``start_span().end()`` of the bare API."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from opentelemetry import trace

from benchmarks.harness import Batch, Row, beside, measure
from resilient_llm.errors import AttemptRecord
from resilient_llm.model import ChatRequest, ChatResponse, Usage
from resilient_llm.telemetry import Telemetry

BUDGET = 5.0  # microseconds


@dataclass(frozen=True)
class Provider:
    """The least telemetry needs to know."""

    id: str = "openai"
    vendor: str = "openai"
    model: str = "gpt-5"
    host: str | None = "api.example.com"
    port: int | None = 443


def one_call() -> Callable[[], None]:
    """A successful call as a driver makes it."""
    telemetry, provider, request = Telemetry("benchmark"), Provider(), ChatRequest(())
    reply = ChatResponse((), usage=Usage(10, 20))
    record = AttemptRecord(1, "openai", "gpt-5", "initial", "success", None, 200, 0.5)

    def run() -> None:
        call = telemetry.call("chat", request, "default", provider, streaming=False, call_id="c")
        attempt = call.attempt(provider, 1, "initial", 0.0)
        token = attempt.attach()
        attempt.detach(token)
        attempt.ended(record, selected=True)
        call.succeeded(reply, provider, 0.5)

    return run


def one_span() -> Callable[[], None]:
    """The yardstick."""
    tracer = trace.get_tracer("benchmark")
    return lambda: tracer.start_span("span").end()


def repeated(run: Callable[[], None]) -> Batch:
    """So many times."""

    def batch(count: int) -> None:
        for _ in range(count):
            run()

    return batch


def rows(quick: bool) -> list[Row]:
    """Ours beside the yardstick."""
    things = {"call": repeated(one_call()), "span": repeated(one_span())}
    found = measure(things, 2000 if quick else 10_000, 5 if quick else 15)
    us = found["call"].us
    return [
        Row("telemetry without an SDK", f"{us:.2f} us", f"<= {BUDGET:g} us", us <= BUDGET),
        beside("telemetry without an SDK", found["call"], found["span"], "start_span().end()"),
    ]
