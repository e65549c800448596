"""Calls and state changes as OpenTelemetry spans and metrics and as log lines.

Needs only the OpenTelemetry API: without an SDK nearly everything here is a no-op that costs about two microseconds a
call, and whichever provider the application sets, before or after, is used.  No prompt, answer or key is recorded
unless ``OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT`` asks for messages; see ``docs/telemetry.md``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import final

from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from resilient_llm.drive.observer import Described, SupportsSnapshot
from resilient_llm.events import Event
from resilient_llm.model import ChatRequest, EmbedRequest
from resilient_llm.telemetry import changes, logs, spans
from resilient_llm.telemetry.attempts import AttemptTrace
from resilient_llm.telemetry.logs import loggable_headers
from resilient_llm.telemetry.names import Operation, Semconv
from resilient_llm.telemetry.scope import Scope
from resilient_llm.telemetry.spans import CallTrace

__all__ = [
    "AttemptTrace",
    "CallTrace",
    "Described",
    "SupportsSnapshot",
    "Telemetry",
    "loggable_headers",
]


@final
class Telemetry:
    """What one client tells the world.  ``name`` sets its metrics apart from another client's.

    ``tracer_provider`` and ``meter_provider`` ``None`` mean the global ones, whenever they are set.  ``semconv``
    ``None`` follows ``OTEL_SEMCONV_STABILITY_OPT_IN`` as it is now.

    Raises ``ConfigurationError`` for an unknown ``semconv``; no other method raises.
    """

    __slots__ = ("__weakref__", "_scope")

    def __init__(
        self,
        name: str,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        *,
        semconv: Semconv | None = None,
    ) -> None:
        self._scope = Scope(name, tracer_provider, meter_provider, semconv)

    def call(
        self,
        operation: Operation,
        request: ChatRequest | EmbedRequest,
        route: str,
        target: Described | None,
        *,
        streaming: bool,
        call_id: str,
    ) -> CallTrace:
        """A call begins.  ``target`` is the provider it will probably go to (``None``: nobody yet)."""
        try:
            return spans.begin(self._scope, operation, request, route, target, streaming=streaming, call_id=call_id)
        except Exception as error:
            logs.complain("call", error)
            return spans.silent(self._scope, operation, route, streaming=streaming, call_id=call_id)

    def event(self, event: Event) -> None:
        """Something changed: a breaker, a gate, a budget, an operator's doing."""
        try:
            self._scope.settle()
            changes.note(self._scope, event)
        except Exception as error:
            logs.complain("event", error)

    def later(self, end: Callable[[], None]) -> None:
        """For finalisers: run ``end`` (``partial(trace.closed_early, None, None, seconds)``) when the next call begins
        or the next event comes.  A finaliser may interrupt the very thread that holds an SDK's lock, and would wait for
        it forever; this takes none."""
        self._scope.left.append(end)

    def watch(self, pool: SupportsSnapshot, clock: Callable[[], float] = time.monotonic) -> None:
        """Show this pool's state in the gauges for as long as both live.  ``clock`` is the one its times come from."""
        try:
            self._scope.watch(pool, clock)
        except Exception as error:
            logs.complain("watch", error)
