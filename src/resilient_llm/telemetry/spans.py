"""One call and its attempts: spans, the metrics of their ends, the log lines in between.

The call is one CLIENT span that ends up with the name, provider and model of whoever answered; each attempt is an
INTERNAL child without ``gen_ai.request.model`` or ``gen_ai.operation.name``, because tools that price spans take
every span with a model for a call of its own.  Nobody holds a context token between calls, so any method may run on
another thread or task than the one before.  No method raises; telemetry that fails complains once in the log.
"""

from __future__ import annotations

import logging
from contextvars import Token
from typing import Final, cast

from opentelemetry import baggage, context
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, Status, StatusCode, set_span_in_context

from resilient_llm.errors import (
    AttemptRecord,
    CallFailed,
    ClientClosed,
    ConfigurationError,
    DeadlineExceeded,
    FaultKind,
    InvalidAnswer,
    InvalidRequest,
    NoProviderAvailable,
    ProviderError,
    StreamInterrupted,
    UnsupportedFeature,
)
from resilient_llm.model import ChatRequest, ChatResponse, EmbedRequest, EmbedResponse, Usage
from resilient_llm.telemetry import content, logs, names
from resilient_llm.telemetry.metrics import Labels, ReportedLimits
from resilient_llm.telemetry.names import Operation
from resilient_llm.telemetry.scope import Described, Face, Scope, SpanValues
from resilient_llm.wire.scrub import scrub

# The key HTTP instrumentations look for.  Its name is private but it has been in every release of the API; without it
# there is nothing to suppress them with.
_SUPPRESS: Final[str | None] = getattr(context, "_SUPPRESS_HTTP_INSTRUMENTATION_KEY", None)
_QUIET: Final = context.set_value(_SUPPRESS, True, Context()) if _SUPPRESS else Context()
_ERROR: Final = Status(StatusCode.ERROR)
_NO_TOKENS: Final = Usage()


class CallTrace:
    """One call, from before its first attempt to its end; the first end counts."""

    __slots__ = (
        "_attempts",
        "_call_id",
        "_carrier",
        "_delay",
        "_face",
        "_failed_at",
        "_failovers",
        "_first_chunk",
        "_hedges",
        "_last",
        "_open",
        "_operation",
        "_reason",
        "_recording",
        "_retries",
        "_route",
        "_scope",
        "_span",
        "_streaming",
        "_visits",
    )

    def __init__(
        self, scope: Scope, operation: Operation, route: str, face: Face, span: Span, streaming: bool, call_id: str
    ) -> None:
        self._scope = scope
        self._operation: Operation = operation
        self._route = route
        self._face = self._last = face
        self._span = span
        self._recording = span.is_recording()
        self._carrier: Span | None = span if self._recording or span.get_span_context().is_valid else None
        self._streaming = streaming
        self._call_id = call_id
        self._attempts = self._retries = self._failovers = self._hedges = 0
        self._delay = 0.0
        self._first_chunk: float | None = None
        self._reason: str | None = None
        """``error.type`` of the last failed attempt."""
        self._failed_at: Face | None = None
        self._visits: dict[str, int] | None = None
        self._open = [True]

    # --- while it runs ---

    def attempt(self, target: Described, number: int, kind: str, delay: float) -> AttemptTrace:
        """An attempt begins.  ``delay`` is the wait before it in seconds."""
        try:
            face = self._scope.face(target)
            span = self._begin(face, number, kind, delay) if self._recording else None
            if self._attempts or kind != "initial":
                self._go_on(face, number, kind, delay)
            self._attempts += 1
            self._last = face
            return AttemptTrace(self, face, number, kind, span)
        except Exception as error:
            logs.complain("attempt", error)
            return AttemptTrace(self, self._scope.nobody, number, kind, None)

    def first_chunk(self, seconds: float) -> None:
        """A stream's first content, ``seconds`` after the call began."""
        if self._first_chunk is None:
            self._first_chunk = seconds

    # --- its end ---

    def succeeded(self, response: ChatResponse | EmbedResponse, target: Described, seconds: float) -> None:
        """Answered by ``target``."""
        try:
            if self._close():
                face = self._scope.face(target)
                self._end(face, seconds, None, usage=response.usage, outcome="completed", response=response)
        except Exception as error:
            logs.complain("succeeded", error)

    def failed(self, error: BaseException, seconds: float, target: Described | None = None) -> None:
        """No answer.  ``target`` is the provider to name (``None``: the last one asked).  A cancellation is no
        failure."""
        try:
            if not isinstance(error, Exception):
                self.closed_early(None, target, seconds)
            elif self._close():
                self._fail(error, seconds, self._last if target is None else self._scope.face(target))
        except Exception as problem:
            logs.complain("failed", problem)

    def closed_early(self, response: ChatResponse | None, target: Described | None, seconds: float) -> None:
        """The caller closed the stream, or cancelled the call.  ``response`` is what had arrived."""
        try:
            if self._close():
                face = self._last if target is None else self._scope.face(target)
                usage = None if response is None else response.usage
                self._end(face, seconds, None, usage=usage, outcome="closed_early", response=response)
        except Exception as error:
            logs.complain("closed_early", error)

    # --- internals ---

    def _close(self) -> bool:
        """True for the first to end it.  A pop is atomic, also without a global lock."""
        try:
            return self._open.pop()
        except IndexError:
            return False

    def _begin(self, face: Face, number: int, kind: str, delay: float) -> Span:
        values: SpanValues = {**face.attempt_start, names.ATTEMPT_NUMBER: number, names.ATTEMPT_TYPE: kind}
        if delay > 0:
            values[names.ATTEMPT_DELAY] = delay
        visits = self._visits = self._visits if self._visits is not None else {}
        before = visits.get(face.id, 0)
        visits[face.id] = before + 1
        if before and names.HTTP_METHOD in values:
            values[names.HTTP_RESEND_COUNT] = before
        return self._scope.tracer.start_span(
            face.attempt_name,
            context=set_span_in_context(self._span),
            attributes=values,
            record_exception=False,
            set_status_on_exception=False,
        )

    def _go_on(self, face: Face, number: int, kind: str, delay: float) -> None:
        """A later attempt: why, counted and said."""
        tools, kind_name = self._scope.instruments, kind
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
            route = self._scope.route(self._route)
            tools.failovers.add(1, {**route, names.PROVIDER_ID: came_from.id, names.FAILOVER_REASON: reason})
            kind_name = "failover"
        else:
            return
        level = logging.INFO if kind_name == "failover" else logging.DEBUG
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

    def _note_failure(self, face: Face, error_type: str) -> None:
        """An attempt failed; the next one is because of it."""
        self._reason = error_type
        self._failed_at = face

    def _fail(self, error: Exception, seconds: float, face: Face) -> None:
        error_type = error_type_of(error)
        partial = error.partial if isinstance(error, StreamInterrupted) else None
        usage = None if partial is None else partial.usage
        if usage is not None:
            count_waste(self._scope, face, usage)
        if isinstance(error, NoProviderAvailable) or (isinstance(error, DeadlineExceeded) and not self._attempts):
            labels: Labels = {names.CLIENT_NAME: self._scope.name, names.REJECTION_REASON: error_type}
            self._scope.instruments.rejections.add(1, labels)
        outcome = "interrupted" if isinstance(error, StreamInterrupted) else "failed"
        # The WARNING comes first: it shall belong to the span, and a span that has ended takes no more.
        self._warn(error, error_type, face)
        self._end(face, seconds, error_type, usage=usage, outcome=outcome, response=partial)

    def _warn(self, error: Exception, error_type: str, face: Face) -> None:
        if not logs.CALL.isEnabledFor(logging.WARNING):
            return
        records = error.attempts if isinstance(error, CallFailed) else ()
        trail = ", ".join(f"{record.provider} {_word(record)}" for record in records)
        logs.call_failed(
            self._operation,
            self._route,
            error_type,
            type(error).__qualname__,
            self._attempts,
            trail,
            self.facts(face, None, None),
        )

    def _end(
        self,
        face: Face,
        seconds: float,
        error_type: str | None,
        *,
        usage: Usage | None,
        outcome: str,
        response: ChatResponse | EmbedResponse | None,
    ) -> None:
        """Metrics while the span is still there to be linked to, then the span.  Without listeners, next to
        nothing."""
        scope = self._scope
        if scope.instruments.listening:
            linked = set_span_in_context(self._span) if self._recording else None
            self._measure(face, seconds, error_type, usage, linked)
        if self._recording:
            try:
                self._describe_end(face, error_type, usage, outcome, response)
            finally:
                self._span.end()

    def _measure(
        self, face: Face, seconds: float, error_type: str | None, usage: Usage | None, linked: Context | None
    ) -> None:
        tools, operation = self._scope.instruments, self._operation
        for duration in tools.durations[operation]:
            duration.record(seconds, face.call_point(operation, names.ERROR_TYPE, error_type), context=linked)
        plain = face.call_point(operation)
        if self._first_chunk is not None:
            for first in tools.first_chunk:
                first.record(self._first_chunk, plain, context=linked)
        if usage is not None and tools.token_usage is not None:
            for kind, count in (("input", usage.input_tokens), ("output", usage.output_tokens)):
                tools.token_usage.record(count, face.call_point(operation, names.TOKEN_TYPE, kind), context=linked)
        if tools.inference is not None and operation == "chat" and (usage is not None or error_type is not None):
            tools.inference.record(
                _counts(usage or _NO_TOKENS),
                plain,
                face.call_point(operation, names.TOKEN_MODALITY, "unknown"),
                linked,
            )
        route = self._scope.route(self._route)
        tools.call_attempts.record(self._attempts, route, context=linked)
        if self._delay > 0:
            tools.retry_delay.record(self._delay, route, context=linked)

    def _describe_end(
        self,
        face: Face,
        error_type: str | None,
        usage: Usage | None,
        outcome: str,
        response: ChatResponse | EmbedResponse | None,
    ) -> None:
        span, scope = self._span, self._scope
        values: SpanValues = {names.ATTEMPT_COUNT: self._attempts}
        if face is not self._face:
            values.update(face.call_start[self._operation])
            span.update_name(face.span_names[self._operation])
        for name, count in (
            (names.RETRY_COUNT, self._retries),
            (names.FAILOVER_COUNT, self._failovers),
            (names.HEDGE_COUNT, self._hedges),
        ):
            if count:
                values[name] = count
        if self._streaming:
            values[names.STREAM_OUTCOME] = outcome
            if self._first_chunk is not None:
                values[names.TIME_TO_FIRST_CHUNK] = self._first_chunk
        if usage is not None:
            _add_usage(values, usage, scope.semconv)
        if response is not None:
            _add_response(values, response, complete=outcome == "completed")
            if scope.capture and isinstance(response, ChatResponse):
                values[names.OUTPUT_MESSAGES] = content.output_messages(response)
        if scope.semconv == "latest" and outcome != "completed" and self._operation == "chat":
            values.setdefault(names.FINISH_REASONS, ("error",))
        if error_type is not None:
            values[names.ERROR_TYPE] = error_type
            span.set_status(_ERROR)
        span.set_attributes(values)

    def facts(self, face: Face, number: int | None, kind: str | None) -> logs.Facts:
        """What log lines about this call have in common."""
        facts: logs.Facts = {
            names.CLIENT_NAME: self._scope.name,
            names.ROUTE_NAME: self._route,
            names.CALL_ID: self._call_id,
        }
        if face.id:
            facts[names.PROVIDER_ID] = face.id
        if number is not None:
            facts[names.ATTEMPT_NUMBER] = number
            facts[names.ATTEMPT_TYPE] = kind
        facts.update(logs.ids(self._span))
        return facts


class AttemptTrace:
    """One attempt; the first end counts."""

    __slots__ = ("_call", "_face", "_kind", "_number", "_open", "_span")

    def __init__(self, call: CallTrace, face: Face, number: int, kind: str, span: Span | None) -> None:
        self._call = call
        self._face = face
        self._number = number
        self._kind = kind
        self._span = span
        self._open = [True]

    def attach(self) -> object:
        """Make the attempt current around the send, and keep HTTP instrumentations from adding ``traceparent`` and
        ``baggage`` to it: they do so even where no span is recorded.  A provider that wants its trace context gets
        it, and still no baggage.  Give the token to :meth:`detach` in the same function."""
        try:
            current = context.get_current()
            carrier = self._span or self._call._carrier
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
        carrier = self._span or self._call._carrier
        if carrier is None:
            return {}
        at = carrier.get_span_context()
        return {"traceparent": f"00-{at.trace_id:032x}-{at.span_id:016x}-{at.trace_flags:02x}"}

    def limits(self, reported: ReportedLimits) -> None:
        """Rate limits the provider reported with its answer; what the gauges show until it reports others."""
        try:
            self._call._scope.report(self._face, reported)
        except Exception as error:
            logs.complain("limits", error)

    def ended(self, record: AttemptRecord, *, selected: bool, usage: Usage | None = None) -> None:
        """It is over.  ``selected``: the caller gets its answer.  ``usage``: tokens the provider reported for an
        answer that nobody gets."""
        try:
            try:
                self._open.pop()
            except IndexError:
                return
            self._end(record, selected, usage)
        except Exception as error:
            logs.complain("ended", error)

    def _end(self, record: AttemptRecord, selected: bool, usage: Usage | None) -> None:
        call, face, span = self._call, self._face, self._span
        fault = record.fault
        error_type = None if fault is None else names.ERROR_TYPES.get(fault.kind, names.OTHER)
        if error_type is not None:
            call._note_failure(face, error_type)
        tools = call._scope.instruments
        if tools.listening:
            linked = None if span is None else set_span_in_context(span)
            kind = self._kind if self._kind in names.ATTEMPT_TYPES else names.OTHER
            point = face.attempt_point(kind, record.outcome, error_type)
            tools.attempt_duration.record(record.duration, point, context=linked)
            if kind == "hedge":
                tools.hedges.add(1, {**call._scope.route(call._route), names.ATTEMPT_OUTCOME: record.outcome})
            if usage is not None and not selected:
                count_waste(call._scope, face, usage)
        if logs.CALL.isEnabledFor(logging.DEBUG):
            logs.attempt_ended(record, error_type, call.facts(face, self._number, self._kind))
        if span is not None:
            self._describe_end(span, record, selected, error_type)

    def _describe_end(self, span: Span, record: AttemptRecord, selected: bool, error_type: str | None) -> None:
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


def begin(
    scope: Scope,
    operation: Operation,
    request: ChatRequest | EmbedRequest,
    route: str,
    target: Described | None,
    streaming: bool,
    call_id: str,
) -> CallTrace:
    """A call begins.  What samplers decide by is there from the start; the rest only if somebody records."""
    face = scope.face(target)
    starts = face.call_start_streaming if streaming else face.call_start
    span = scope.tracer.start_span(
        face.span_names[operation],
        kind=SpanKind.CLIENT,
        attributes=starts[operation],
        record_exception=False,
        set_status_on_exception=False,
    )
    call = CallTrace(scope, operation, route, face, span, streaming, call_id)
    if call._recording:
        values: SpanValues = {**scope.route(route), names.CALL_ID: call_id}
        if isinstance(request, ChatRequest):
            _add_request(values, request, scope)
        elif request.dimensions is not None:
            values[names.DIMENSIONS] = request.dimensions
        span.set_attributes(values)
    return call


def silent(scope: Scope, operation: Operation, route: str, streaming: bool, call_id: str) -> CallTrace:
    """A call nobody traces, where beginning a real one failed."""
    return CallTrace(scope, operation, route, scope.nobody, INVALID_SPAN, streaming, call_id)


def error_type_of(error: BaseException) -> str:
    """``error.type`` of a failed call: from the closed list, never from a message."""
    if isinstance(error, NoProviderAvailable):
        found = {names.REFUSAL_TYPES.get(reason, "unsupported") for reason in error.reasons.values()}
        return found.pop() if len(found) == 1 else "no_provider_available"
    if isinstance(error, CallFailed):
        for kind, word in _CALL_ERRORS:
            if isinstance(error, kind):
                return word
        return names.ERROR_TYPES[error.fault.kind] if error.fault is not None else "all_providers_failed"
    if isinstance(error, ProviderError):
        return names.ERROR_TYPES.get(error.kind, names.OTHER)
    return next((word for kind, word in _OTHER_ERRORS if isinstance(error, kind)), names.OTHER)


_CALL_ERRORS: Final[tuple[tuple[type[CallFailed], str], ...]] = (
    (StreamInterrupted, "stream_interrupted"),
    (DeadlineExceeded, "deadline_exceeded"),
)
_OTHER_ERRORS: Final[tuple[tuple[type[Exception], str], ...]] = (
    (InvalidRequest, "invalid_request"),
    (UnsupportedFeature, "unsupported"),
    (InvalidAnswer, "invalid_response"),
    (ConfigurationError, "client_error"),
    (ClientClosed, "client_error"),
    (TimeoutError, names.ERROR_TYPES[FaultKind.TIMEOUT]),
)


def count_waste(scope: Scope, face: Face, usage: Usage) -> None:
    """Tokens that were paid for and reached nobody as an answer."""
    base: Labels = {**face.base, names.REQUEST_MODEL: face.model}
    for kind, count in (("input", usage.input_tokens), ("output", usage.output_tokens)):
        if count:
            scope.instruments.wasted_tokens.add(count, {**base, names.TOKEN_TYPE: kind})


def _word(record: AttemptRecord) -> str:
    return record.outcome if record.fault is None else names.ERROR_TYPES.get(record.fault.kind, names.OTHER)


def _counts(usage: Usage) -> tuple[int, int, int, int, int]:
    return (
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        usage.reasoning_tokens,
    )


def _add_usage(values: SpanValues, usage: Usage, semconv: names.Semconv) -> None:
    values[names.INPUT_TOKENS] = usage.input_tokens
    values[names.OUTPUT_TOKENS] = usage.output_tokens
    if usage.cache_read_tokens:
        values[names.CACHE_READ_TOKENS] = usage.cache_read_tokens
    if usage.cache_write_tokens:
        if semconv != "latest":
            values[names.CACHE_CREATION_TOKENS] = usage.cache_write_tokens
        if semconv != "1.41":
            values[names.CACHE_WRITE_TOKENS] = usage.cache_write_tokens
    if usage.reasoning_tokens:
        values[names.REASONING_TOKENS] = usage.reasoning_tokens


def _add_response(values: SpanValues, response: ChatResponse | EmbedResponse, *, complete: bool) -> None:
    if response.model:
        values[names.RESPONSE_MODEL] = response.model
    if isinstance(response, ChatResponse):
        if response.id:
            values[names.RESPONSE_ID] = response.id
        if complete:
            values[names.FINISH_REASONS] = (
                response.raw_finish_reason or response.finish_reason,
                *(choice.raw_finish_reason or choice.finish_reason for choice in response.alternatives),
            )


_REQUEST_VALUES: Final = (
    ("max_tokens", names.MAX_TOKENS, int),
    ("temperature", names.TEMPERATURE, float),
    ("top_p", names.TOP_P, float),
    ("frequency_penalty", names.FREQUENCY_PENALTY, float),
    ("presence_penalty", names.PRESENCE_PENALTY, float),
    ("seed", names.SEED, int),
)


def _add_request(values: SpanValues, request: ChatRequest, scope: Scope) -> None:
    for field, name, convert in _REQUEST_VALUES:
        value: float | None = getattr(request, field)
        if value is not None:
            values[name] = convert(value)
    if request.top_k is not None:
        values[names.TOP_K] = float(request.top_k) if scope.semconv == "1.41" else request.top_k
    if request.n is not None and request.n != 1:
        values[names.CHOICE_COUNT] = request.n
    if request.output is not None:
        values[names.OUTPUT_TYPE] = "text" if request.output.kind == "text" else "json"
    if scope.semconv != "1.41" and request.reasoning is not None and request.reasoning.effort is not None:
        values[names.REASONING_LEVEL] = request.reasoning.effort
    if scope.capture:
        if request.stop:
            values[names.STOP_SEQUENCES] = request.stop
        values[names.INPUT_MESSAGES] = content.input_messages(request)
