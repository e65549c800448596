"""One attempt of a call: an INTERNAL span, and what is current while its request is sent."""

from __future__ import annotations

import logging
from contextvars import Token
from typing import Final, Protocol, cast

from opentelemetry import baggage, context
from opentelemetry.context import Context
from opentelemetry.trace import Span, Status, StatusCode, set_span_in_context

from resilient_llm.errors import AttemptRecord
from resilient_llm.model import Usage
from resilient_llm.telemetry import logs, names
from resilient_llm.telemetry.metrics import ReportedLimits
from resilient_llm.telemetry.scope import Face, Scope, SpanValues
from resilient_llm.telemetry.values import attempt_error, count_waste
from resilient_llm.wire.faults.scrub import scrub

# The key HTTP instrumentations look for.  Its name is private but it has been in every release of the API; without it
# there is nothing to suppress them with.
_SUPPRESS: Final[str | None] = getattr(context, "_SUPPRESS_HTTP_INSTRUMENTATION_KEY", None)
_QUIET: Final = context.set_value(_SUPPRESS, True, Context()) if _SUPPRESS else Context()
_ERROR: Final = Status(StatusCode.ERROR)


class Parent(Protocol):
    """The call an attempt belongs to."""

    scope: Scope
    route: str
    carrier: Span | None
    watched: bool

    def note_failure(self, face: Face, error_type: str) -> None: ...

    def facts(self, face: Face, number: int | None, kind: str | None) -> logs.Facts: ...


class AttemptTrace:
    """One attempt; the first end counts."""

    __slots__ = ("_call", "_face", "_kind", "_number", "_open", "_span")

    def __init__(self, call: Parent, face: Face, number: int, kind: str, span: Span | None) -> None:
        self._call = call
        self._face = face
        self._number = number
        self._kind = kind
        self._span = span
        self._open = True

    def attach(self) -> object:
        """Make the attempt current around the send, and keep HTTP instrumentations from adding ``traceparent`` and
        ``baggage`` to it: they do so even where no span is recorded.  A provider that wants its trace context gets
        it, and still no baggage.  Give the token to :meth:`detach` in the same function."""
        try:
            current = context.get_current()
            carrier = self._span or self._call.carrier
            if self._face.propagate:
                current = baggage.clear(current)
                return context.attach(current if carrier is None else set_span_in_context(carrier, current))
            if carrier is not None:
                current = set_span_in_context(carrier, current)
            elif not current:
                return context.attach(_QUIET)
            return context.attach(current if _SUPPRESS is None else context.set_value(_SUPPRESS, True, current))
        except Exception as error:
            logs.complain("attach", error)
            return None

    def detach(self, token: object) -> None:
        """What was current before :meth:`attach` is current again."""
        if token is not None:
            context.detach(cast("Token[Context]", token))

    def headers(self) -> dict[str, str]:
        """``traceparent`` for a provider with ``propagate_trace_context``; for any other nothing at all."""
        if not self._face.propagate:
            return {}
        carrier = self._span or self._call.carrier
        if carrier is None:
            return {}
        at = carrier.get_span_context()
        return {"traceparent": f"00-{at.trace_id:032x}-{at.span_id:016x}-{at.trace_flags:02x}"}

    def limits(self, reported: ReportedLimits) -> None:
        """Rate limits the provider reported with its answer; what the gauges show until it reports others."""
        self._call.scope.report(self._face, reported)

    def ended(self, record: AttemptRecord, *, selected: bool, usage: Usage | None = None) -> None:
        """It is over.  ``selected``: the caller gets its answer.  ``usage``: tokens the provider reported for an
        answer that nobody gets."""
        try:
            del self._open
        except AttributeError:
            return  # somebody else ended it
        try:
            error_type = None if record.fault is None else attempt_error(record)
            if error_type is not None:
                self._call.note_failure(self._face, error_type)
            if self._call.watched:
                self._measure(record, selected, usage)
            if logs.CALL.isEnabledFor(logging.DEBUG):
                facts = self._call.facts(self._face, self._number, self._kind)
                logs.attempt_ended(record, error_type, facts)
            if self._span is not None:
                self._describe_end(self._span, record, selected)
        except Exception as error:
            logs.complain("ended", error)

    def _measure(self, record: AttemptRecord, selected: bool, usage: Usage | None) -> None:
        scope, face = self._call.scope, self._face
        linked = None if self._span is None else set_span_in_context(self._span)
        kind = self._kind if self._kind in names.ATTEMPT_TYPES else names.OTHER
        point = face.attempt_point(kind, record.outcome, attempt_error(record))
        scope.instruments.attempt_duration.record(record.duration, point, context=linked)
        if kind == "hedge":
            route = scope.route(self._call.route)
            scope.instruments.hedges.add(1, {**route, names.ATTEMPT_OUTCOME: record.outcome})
        if usage is not None and not selected:
            count_waste(scope, face, usage)

    def _describe_end(self, span: Span, record: AttemptRecord, selected: bool) -> None:
        error_type = attempt_error(record)
        values: SpanValues = {names.ATTEMPT_OUTCOME: record.outcome, names.ATTEMPT_SELECTED: selected}
        fault = record.fault
        if record.status is not None:
            values[names.HTTP_STATUS] = record.status
        if fault is not None:
            if fault.retry_after is not None:
                values[names.ATTEMPT_RETRY_AFTER] = fault.retry_after
            if fault.request_id:
                values[names.PROVIDER_REQUEST_ID] = scrub(fault.request_id)
        if error_type is not None:
            values[names.ERROR_TYPE] = error_type
            span.set_status(_ERROR)
        span.set_attributes(values)
        span.end()
