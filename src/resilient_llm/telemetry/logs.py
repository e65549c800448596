"""Log lines: the standard library's logging, constant messages, facts in ``extra``.

Dotted keys in ``extra`` become attributes of an OpenTelemetry log record where its handler is installed, and
``otel.event.name`` its event name.  Nothing here configures handlers or levels.  Exactly one line is written per failed
call, a WARNING; a failed attempt is told at DEBUG, and the failover that made it good is a WARNING of its own.  What a
provider said is text from outside: DEBUG only, shortened and scrubbed.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from opentelemetry.trace import Span, format_span_id, format_trace_id

from resilient_llm.errors import AttemptRecord
from resilient_llm.telemetry import names
from resilient_llm.wire.faults.scrub import scrub

ROOT: Final = logging.getLogger("resilient_llm")
ROOT.addHandler(logging.NullHandler())
CALL: Final = logging.getLogger("resilient_llm.call")
BREAKER: Final = logging.getLogger("resilient_llm.breaker")
GATE: Final = logging.getLogger("resilient_llm.gate")
BUDGET: Final = logging.getLogger("resilient_llm.budget")
PROVIDER: Final = logging.getLogger("resilient_llm.provider")
TELEMETRY: Final = logging.getLogger("resilient_llm.telemetry")

LOGGABLE_HEADERS: Final = ("x-request-id", "request-id", "content-type")
LOGGABLE_PREFIXES: Final = ("retry-after", "x-ratelimit-", "anthropic-ratelimit-")

_MOST_COMPLAINTS = 100
_complaints: set[tuple[str, str]] = set()

Facts = dict[str, object]
"""What goes into ``extra``."""


def loggable_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Those response headers that may be shown: an allow-list, because no list of secret ones is ever complete."""
    lowered = ((name.lower(), value) for name, value in headers.items())
    return {
        name: scrub(value) for name, value in lowered if name in LOGGABLE_HEADERS or name.startswith(LOGGABLE_PREFIXES)
    }


def write(logger: logging.Logger, level: int, event: str, message: str, *values: object, facts: Facts) -> None:
    """One line that is also an event."""
    if logger.isEnabledFor(level):
        logger.log(level, message, *values, extra={"otel.event.name": event, **facts})


def ids(span: Span) -> Facts:
    """Trace and span id, if there are any: the span is not always current where we log."""
    context = span.get_span_context()
    if not context.is_valid:
        return {}
    return {"trace_id": format_trace_id(context.trace_id), "span_id": format_span_id(context.span_id)}


def attempt_ended(record: AttemptRecord, error_type: str | None, facts: Facts) -> None:
    """DEBUG, whatever the outcome; only here may the provider's own words appear."""
    fault = record.fault
    if fault is not None:
        facts[names.PROVIDER_MESSAGE] = scrub(fault.message)
        if fault.retry_after is not None:
            facts[names.ATTEMPT_RETRY_AFTER] = fault.retry_after
        if fault.request_id:
            facts[names.PROVIDER_REQUEST_ID] = scrub(fault.request_id)
    facts[names.ATTEMPT_OUTCOME] = record.outcome
    if error_type is not None:
        facts[names.ERROR_TYPE] = error_type
    write(
        CALL,
        logging.DEBUG,
        "resilient_llm.client.attempt",
        "attempt %d at %s ended: %s after %.3g s",
        record.number,
        record.provider,
        error_type or record.outcome,
        record.duration,
        facts=facts,
    )


def call_failed(
    event: str, operation: str, route: str, error_type: str, *, exception: str, attempts: int, trail: str, facts: Facts
) -> None:
    """The one WARNING of a failed call: what and who, never the exception's message or traceback, which may quote
    a provider."""
    facts[names.EXCEPTION_TYPE] = exception
    facts[names.ERROR_TYPE] = error_type
    facts[names.ATTEMPT_COUNT] = attempts
    write(
        CALL,
        logging.WARNING,
        event,
        "%s on route %s failed: %s (attempts: %s)",
        operation,
        route,
        error_type,
        trail or "none",
        facts=facts,
    )


def complain(where: str, error: Exception) -> None:
    """Telemetry itself failed: said once per place and kind, and never to the caller.  Its message stays unsaid; it
    may hold anything."""
    kind = type(error).__name__
    if (where, kind) in _complaints or len(_complaints) >= _MOST_COMPLAINTS:
        return
    _complaints.add((where, kind))
    TELEMETRY.error("telemetry failed in %s (%s); calls are not affected", where, kind)
