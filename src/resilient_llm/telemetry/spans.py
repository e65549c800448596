"""One call and its attempts: spans, the metrics of their ends, the log lines in between.

The call is one CLIENT span that ends up with the name, provider and model of whoever answered; each attempt is an
INTERNAL child without ``gen_ai.request.model`` or ``gen_ai.operation.name``, because tools that price spans take
every span with a model for a call of its own.  Nobody holds a context token between calls, so any method may run on
another thread or task than the one before.  No method raises; telemetry that fails complains once in the log.
"""

from __future__ import annotations

import logging
from typing import Final, NamedTuple

from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, Status, StatusCode, set_span_in_context

from resilient_llm.drive.observer import Described, attempt_id
from resilient_llm.errors import (
    CallFailed,
    DeadlineExceeded,
    NoProviderAvailable,
    StreamInterrupted,
)
from resilient_llm.model import ChatRequest, ChatResponse, EmbedRequest, EmbedResponse, Usage
from resilient_llm.telemetry import logs, names
from resilient_llm.telemetry.attempts import AttemptTrace
from resilient_llm.telemetry.metrics import Labels
from resilient_llm.telemetry.names import Operation
from resilient_llm.telemetry.scope import Face, Scope, SpanValues
from resilient_llm.telemetry.values import (
    add_request,
    add_response,
    add_usage,
    attempt_error,
    call_error,
    count_waste,
    counts,
)
from resilient_llm.wire.faults.scrub import scrub

_ERROR: Final = Status(StatusCode.ERROR)
_NO_TOKENS: Final = Usage()
_LONGEST_CONVERSATION: Final = 256


class Ending(NamedTuple):
    """How a call ended.  ``error_type`` ``None``: well, or by the caller's will; ``outcome`` is a stream's."""

    face: Face
    seconds: float
    error_type: str | None
    usage: Usage | None
    outcome: str
    response: ChatResponse | EmbedResponse | None


class CallTrace:
    """One call, from before its first attempt to its end; the first end counts."""

    # What most calls never change is kept on the class: setting twenty attributes takes longer than all the rest.
    _span: Span = INVALID_SPAN
    recording: bool = False
    carrier: Span | None = None
    _attempts = _retries = _failovers = _hedges = 0
    _delay = 0.0
    _first_chunk: float | None = None
    _last: Face | None = None
    _failed_at: Face | None = None
    _reason: str | None = None
    """``error.type`` of the last failed attempt."""
    _visits: dict[str, int] | None = None

    def __init__(
        self, scope: Scope, operation: Operation, route: str, face: Face, *, streaming: bool, call_id: str
    ) -> None:
        self.scope = scope
        self._operation: Operation = operation
        self.route = route
        self._face = face
        self._streaming = streaming
        self._call_id = call_id
        self.watched: bool = scope.instruments.listening
        """Whether anybody receives what is measured or recorded."""
        self._open = True

    def carry(self, span: Span) -> None:
        """Belong to this span."""
        self._span = span
        self.recording = recording = span.is_recording()
        self.watched = self.watched or recording
        if recording or span.get_span_context().is_valid:
            self.carrier = span

    # --- while it runs ---

    def attempt(self, target: Described, number: int, kind: str, delay: float) -> AttemptTrace:
        """An attempt begins.  ``delay`` is the wait before it in seconds."""
        try:
            face = self.scope.face(target)
            span = self._begin(face, number, kind, delay) if self.recording else None
            if self._attempts or kind != "initial":
                self._go_on(face, number, kind, delay)
            self._attempts += 1
            self._last = face
            return AttemptTrace(self, face, number, kind, span)
        except Exception as error:
            logs.complain("attempt", error)
            return AttemptTrace(self, self.scope.nobody, number, kind, None)

    def first_chunk(self, seconds: float) -> None:
        """A stream's first content, ``seconds`` after the call began."""
        if self._first_chunk is None:
            self._first_chunk = seconds

    def conversation(self, conversation: str) -> None:
        """It is part of this conversation, by the caller's own name for it."""
        try:
            if self.recording:
                self._span.set_attribute(names.CONVERSATION_ID, conversation[:_LONGEST_CONVERSATION])
        except Exception as error:
            logs.complain("conversation", error)

    # --- its end ---

    def succeeded(self, response: ChatResponse | EmbedResponse, target: Described, seconds: float) -> None:
        """Answered by ``target``."""
        try:
            if self._close() and self.watched:
                self._end(Ending(self.scope.face(target), seconds, None, response.usage, "completed", response))
        except Exception as error:
            logs.complain("succeeded", error)

    def failed(self, error: BaseException, seconds: float, target: Described | None = None) -> None:
        """No answer.  ``target`` is the provider to name (``None``: the last one asked).  A cancellation is no
        failure."""
        try:
            if not isinstance(error, Exception):
                self.closed_early(None, target, seconds)
            elif self._close():
                self._fail(error, seconds, self._named(target))
        except Exception as problem:
            logs.complain("failed", problem)

    def closed_early(self, response: ChatResponse | None, target: Described | None, seconds: float) -> None:
        """The caller closed the stream, or cancelled the call.  ``response`` is what had arrived."""
        try:
            if self._close() and self.watched:
                usage = None if response is None else response.usage
                self._end(Ending(self._named(target), seconds, None, usage, "closed_early", response))
        except Exception as error:
            logs.complain("closed_early", error)

    # --- internals ---

    def _close(self) -> bool:
        """True for the first to end it; deleting is atomic, also where there is no global lock."""
        try:
            del self._open
        except AttributeError:
            return False
        return True

    def _named(self, target: Described | None) -> Face:
        """The provider an unanswered call is attributed to."""
        return (self._last or self._face) if target is None else self.scope.face(target)

    def _begin(self, face: Face, number: int, kind: str, delay: float) -> Span:
        values: SpanValues = {
            **face.attempt_start,
            names.ATTEMPT_ID: attempt_id(self._call_id, number),
            names.ATTEMPT_NUMBER: number,
            names.ATTEMPT_TYPE: kind,
        }
        if delay > 0:
            values[names.ATTEMPT_DELAY] = delay
        visits = self._visits = self._visits if self._visits is not None else {}
        before = visits.get(face.id, 0)
        visits[face.id] = before + 1
        if before and names.HTTP_METHOD in values:
            values[names.HTTP_RESEND_COUNT] = before
        return self.scope.tracer.start_span(
            face.attempt_name,
            context=set_span_in_context(self._span),
            attributes=values,
            record_exception=False,
            set_status_on_exception=False,
        )

    def _go_on(self, face: Face, number: int, kind: str, delay: float) -> None:
        """A later attempt: why, counted and said."""
        tools, kind_name = self.scope.instruments, kind
        self._delay += delay
        came_from = self._failed_at
        if kind == "retry":
            self._retries += 1
            tools.retries.add(1, face.base_point(names.ERROR_TYPE, self._reason))
        elif kind == "hedge":
            self._hedges += 1
        elif came_from is not None and came_from is not face:
            self._failovers += 1
            reason = self._reason or names.OTHER
            route = self.scope.route(self.route)
            tools.failovers.add(1, {**route, names.PROVIDER_ID: came_from.id, names.FAILOVER_REASON: reason})
            kind_name = "failover"
        else:
            return
        level = logging.WARNING if kind_name == "failover" else logging.DEBUG
        if logs.CALL.isEnabledFor(level):
            self._say_on(level, face, number, kind_name)

    def _say_on(self, level: int, face: Face, number: int, kind: str) -> None:
        reason = self._reason or "silence"
        facts = self.facts(face, number, kind)
        if kind == "failover":
            facts[names.FAILOVER_REASON] = reason
        logs.write(
            logs.CALL,
            level,
            f"resilient_llm.client.{kind}",
            "%s: attempt %d goes to %s after %s",
            kind,
            number,
            face.id,
            reason,
            facts=facts,
        )

    def note_failure(self, face: Face, error_type: str) -> None:
        """An attempt failed; the next one is because of it."""
        self._reason = error_type
        self._failed_at = face

    def _fail(self, error: Exception, seconds: float, face: Face) -> None:
        error_type = call_error(error)
        partial = error.partial if isinstance(error, StreamInterrupted) else None
        usage = None if partial is None else partial.usage
        if usage is not None:
            count_waste(self.scope, face, usage)
        if isinstance(error, NoProviderAvailable) or (isinstance(error, DeadlineExceeded) and not self._attempts):
            labels: Labels = {names.CLIENT_NAME: self.scope.name, names.REJECTION_REASON: error_type}
            self.scope.instruments.rejections.add(1, labels)
        outcome = "interrupted" if isinstance(error, StreamInterrupted) else "failed"
        # The WARNING comes first: it shall belong to the span, and a span that has ended takes no more.
        self._warn(error, error_type, face)
        if self.watched:
            self._end(Ending(face, seconds, error_type, usage, outcome, partial))

    def _warn(self, error: Exception, error_type: str, face: Face) -> None:
        if not logs.CALL.isEnabledFor(logging.WARNING):
            return
        records = error.attempts if isinstance(error, CallFailed) else ()
        facts = self.facts(face, None, None)
        if isinstance(error, CallFailed) and error.request_id:
            facts[names.PROVIDER_REQUEST_ID] = scrub(error.request_id)
        trail = ", ".join(f"{record.provider} {attempt_error(record) or record.outcome}" for record in records)
        logs.call_failed(
            names.EXCEPTION_EVENTS[self.scope.semconv, self._operation],
            self._operation,
            self.route,
            error_type,
            exception=type(error).__qualname__,
            attempts=self._attempts,
            trail=trail,
            facts=facts,
        )

    def _end(self, ending: Ending) -> None:
        """Metrics while the span is still there to be linked to, then the span."""
        if not self.recording:
            self._measure(ending, None)
            return
        try:
            self._measure(ending, set_span_in_context(self._span))
            self._describe_end(ending)
        finally:
            self._span.end()

    def _measure(self, ending: Ending, linked: Context | None) -> None:
        tools, operation = self.scope.instruments, self._operation
        face, usage, error_type = ending.face, ending.usage, ending.error_type
        for duration in tools.durations[operation]:
            duration.record(ending.seconds, face.call_point(operation, names.ERROR_TYPE, error_type), context=linked)
        plain = face.call_point(operation)
        if self._first_chunk is not None:
            for first in tools.first_chunk:
                first.record(self._first_chunk, plain, context=linked)
        if usage is not None and tools.token_usage is not None:
            for kind, count in (("input", usage.input_tokens), ("output", usage.output_tokens)):
                tools.token_usage.record(count, face.call_point(operation, names.TOKEN_TYPE, kind), context=linked)
        if tools.inference is not None and operation == "chat" and (usage is not None or error_type is not None):
            modal = face.call_point(operation, names.TOKEN_MODALITY, "unknown")
            tools.inference.record(counts(usage or _NO_TOKENS), plain, modal, linked)
        route = self.scope.route(self.route)
        tools.call_attempts.record(self._attempts, route, context=linked)
        if self._delay > 0:
            tools.retry_delay.record(self._delay, route, context=linked)

    def _describe_end(self, ending: Ending) -> None:
        span, scope, face = self._span, self.scope, ending.face
        values: SpanValues = {names.ATTEMPT_COUNT: self._attempts, **self._counts(), **self._stream(ending.outcome)}
        if face is not self._face:
            values.update(face.call_start[self._operation])
            span.update_name(face.span_names[self._operation])
        if ending.usage is not None:
            add_usage(values, ending.usage, scope.semconv)
        if ending.response is not None:
            add_response(values, ending.response, scope, complete=ending.outcome == "completed")
        if scope.semconv == "0.1.0" and ending.outcome != "completed" and self._operation == "chat":
            values.setdefault(names.FINISH_REASONS, ("error",))
        if ending.error_type is not None:
            values[names.ERROR_TYPE] = ending.error_type
            span.set_status(_ERROR)
        span.set_attributes(values)

    def _counts(self) -> SpanValues:
        pairs = (
            (names.RETRY_COUNT, self._retries),
            (names.FAILOVER_COUNT, self._failovers),
            (names.HEDGE_COUNT, self._hedges),
        )
        return {name: count for name, count in pairs if count}

    def _stream(self, outcome: str) -> SpanValues:
        if not self._streaming:
            return {}
        first = self._first_chunk
        return {names.STREAM_OUTCOME: outcome, **({} if first is None else {names.TIME_TO_FIRST_CHUNK: first})}

    def facts(self, face: Face, number: int | None, kind: str | None) -> logs.Facts:
        """What log lines about this call have in common."""
        facts: logs.Facts = {
            names.CLIENT_NAME: self.scope.name,
            names.ROUTE_NAME: self.route,
            names.CALL_ID: self._call_id,
        }
        if face.id:
            facts[names.PROVIDER_ID] = face.id
        if number is not None:
            facts[names.ATTEMPT_ID] = attempt_id(self._call_id, number)
            facts[names.ATTEMPT_NUMBER] = number
            facts[names.ATTEMPT_TYPE] = kind
        facts.update(logs.ids(self._span))
        return facts


def begin(
    scope: Scope,
    operation: Operation,
    request: ChatRequest | EmbedRequest,
    route: str,
    target: Described | None,
    *,
    streaming: bool,
    call_id: str,
) -> CallTrace:
    """A call begins.  What samplers decide by is there from the start; the rest only if somebody records."""
    if scope.left:
        scope.settle()
    face = scope.face(target)
    call = CallTrace(scope, operation, route, face, streaming=streaming, call_id=call_id)
    if scope.traceless():
        return call
    starts = face.call_start_streaming if streaming else face.call_start
    span = scope.tracer.start_span(
        face.span_names[operation],
        kind=SpanKind.CLIENT,
        attributes=starts[operation],
        record_exception=False,
        set_status_on_exception=False,
    )
    call.carry(span)
    if call.recording:
        values: SpanValues = {**scope.route(route), names.CALL_ID: call_id}
        if isinstance(request, ChatRequest):
            add_request(values, request, scope)
        elif request.dimensions is not None:
            values[names.DIMENSIONS] = request.dimensions
        span.set_attributes(values)
    return call


def silent(scope: Scope, operation: Operation, route: str, *, streaming: bool, call_id: str) -> CallTrace:
    """A call nobody traces, where beginning a real one failed."""
    return CallTrace(scope, operation, route, scope.nobody, streaming=streaming, call_id=call_id)
