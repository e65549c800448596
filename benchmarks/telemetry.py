"""What telemetry costs a call with one attempt, without an SDK, beside ``start_span().end()`` of the bare API.

``python benchmarks/telemetry.py`` prints microseconds and the ratio; best of several rounds, both in each round.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from opentelemetry import trace

from resilient_llm.errors import AttemptRecord
from resilient_llm.model import ChatRequest, ChatResponse, Usage
from resilient_llm.telemetry import Telemetry

ROUNDS, CALLS = 15, 10_000


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


def seconds(run: Callable[[], None]) -> float:
    """CPU seconds per run."""
    began = time.thread_time()
    for _ in range(CALLS):
        run()
    return (time.thread_time() - began) / CALLS


def main() -> None:
    """Print both and their ratio."""
    call, span = one_call(), one_span()
    rounds = [(seconds(call), seconds(span)) for _ in range(ROUNDS)]
    best_call, best_span = min(c for c, _ in rounds), min(s for _, s in rounds)
    print(f"telemetry per call {best_call * 1e6:.2f} us (budget 5)")
    print(f"start_span().end() {best_span * 1e6:.2f} us")
    print(f"ratio              {best_call / best_span:.1f}")


if __name__ == "__main__":
    main()
