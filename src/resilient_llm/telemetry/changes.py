"""What happens to providers rather than to calls: metrics and log lines, no spans."""

from __future__ import annotations

import logging

from resilient_llm import events
from resilient_llm.errors import FaultKind
from resilient_llm.telemetry import logs, names
from resilient_llm.telemetry.metrics import Labels
from resilient_llm.telemetry.scope import Scope
from resilient_llm.wire.faults.scrub import scrub


def note(scope: Scope, event: events.Event) -> None:
    """Count it and say it.  Attempt events are left out: attempts report themselves."""
    if isinstance(event, events.BreakerChanged):
        _breaker_changed(scope, event)
    elif isinstance(event, events.GateClosed):
        _gate_closed(scope, event)
    elif isinstance(event, events.NotTaken):
        _not_taken(scope, event)
    elif isinstance(event, events.OperatorChanged):
        _operator_changed(scope, event)


def _labels(scope: Scope, provider: str) -> Labels:
    return scope.labels(provider) or {names.CLIENT_NAME: scope.name, names.PROVIDER_ID: provider}


def _facts(scope: Scope, provider: str) -> logs.Facts:
    return {**_labels(scope, provider)}


def _eject(scope: Scope, labels: Labels, reason: str) -> None:
    scope.instruments.ejections.add(1, {**labels, names.EJECTION_REASON: reason})


def _breaker_changed(scope: Scope, event: events.BreakerChanged) -> None:
    labels = _labels(scope, event.provider)
    state = event.new if event.new in names.BREAKER_STATES else names.OTHER
    scope.instruments.transitions.add(1, {**labels, names.BREAKER_STATE: state})
    opened = event.new in ("softly_open", "open")
    if opened and event.old == "closed":  # a failed trial leaves out who is out already
        _eject(scope, labels, "breaker")
    logs.write(
        logs.BREAKER,
        logging.WARNING if opened else logging.INFO,
        "resilient_llm.circuit_breaker.transition",
        "breaker of %s: %s -> %s (%s)",
        event.provider,
        event.old,
        event.new,
        event.reason,
        facts={
            **labels,
            names.BREAKER_STATE: event.new,
            names.BREAKER_PREVIOUS: event.old,
            names.BREAKER_REASON: event.reason,
            names.BREAKER_OPEN_FOR: event.open_for,
        },
    )


def _gate_closed(scope: Scope, event: events.GateClosed) -> None:
    labels = _labels(scope, event.provider)
    reason = _error_type(event.reason)
    scope.instruments.gate_closures.add(1, {**labels, names.ERROR_TYPE: reason})
    if event.slow:
        _eject(scope, labels, reason)
    logs.write(
        logs.GATE,
        logging.WARNING if event.slow else logging.INFO,  # the slow ones want a person's attention
        "resilient_llm.provider.ejection" if event.slow else "resilient_llm.rate_limit.closed",
        "%s is left alone for %.3g s (%s)%s",
        f"{event.provider}, {event.key}," if event.key else event.provider,
        event.wait,
        reason,
        f": {scrub(event.message)}" if event.message else "",
        facts={**labels, names.ERROR_TYPE: reason, names.RATE_LIMIT_WAIT: event.wait},
    )


_EXHAUSTED = {"hedge": names.HEDGE_BUDGET_EXHAUSTED}


def _not_taken(scope: Scope, event: events.NotTaken) -> None:
    if event.reason == "budget":
        reason = _EXHAUSTED.get(event.what, "retry_budget_exhausted")
        scope.instruments.rejections.add(1, {names.CLIENT_NAME: scope.name, names.REJECTION_REASON: reason})
    logs.write(
        logs.BUDGET,
        logging.DEBUG,
        "resilient_llm.client.not_taken",
        "%s was due but not taken (%s)",
        event.what,
        event.reason,
        facts=_facts(scope, event.provider) if event.provider else {names.CLIENT_NAME: scope.name},
    )


def _operator_changed(scope: Scope, event: events.OperatorChanged) -> None:
    labels = _labels(scope, event.provider)
    back = event.action == "restore"
    if not back:
        _eject(scope, labels, "manual")
    logs.write(
        logs.PROVIDER,
        logging.INFO,
        "resilient_llm.provider.recovery" if back else "resilient_llm.provider.ejection",
        "operator: %s %s",
        event.action,
        event.provider,
        facts={**labels, names.PROVIDER_ACTION: event.action},
    )


def _error_type(kind: str) -> str:
    try:
        return names.ERROR_TYPES[FaultKind(kind)]
    except ValueError:
        return names.OTHER
