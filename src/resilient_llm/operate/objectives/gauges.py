"""Objectives as OpenTelemetry gauges.  Costs calls nothing: they are read when somebody collects."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final, Protocol
from weakref import WeakKeyDictionary, WeakSet

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation

from resilient_llm.operate.objectives.ledger import ObjectiveStatus
from resilient_llm.telemetry import names


class Shown(Protocol):
    """The objectives of a client."""

    @property
    def client(self) -> str: ...

    def status(self) -> tuple[ObjectiveStatus, ...]: ...


METRICS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "resilient_llm.client.objective.target": ("1", "Share of calls that are promised to be answered, or in time"),
        "resilient_llm.client.objective.burn_rate": (
            "1",
            "Error budget spent, relative to the rate that lasts 30 days",
        ),
        "resilient_llm.client.objective.budget_left": ("1", "Share of the error budget of 30 days that is left"),
    }
)
"""The gauges: unit and what they tell.  Attributes: client, route, objective, and the window of a burn rate."""

_given: WeakKeyDictionary[MeterProvider, WeakSet[Shown]] = WeakKeyDictionary()
_global: list[WeakSet[Shown]] = []
_guard = threading.Lock()


def show(objectives: Shown, provider: MeterProvider | None) -> None:
    """Show these from now on, for as long as they live or until :func:`hide`."""
    _shown(provider).add(objectives)


def hide(objectives: Shown) -> None:
    """Show these no more."""
    for known in (*_given.values(), *_global):
        known.discard(objectives)


def _shown(provider: MeterProvider | None) -> WeakSet[Shown]:
    """Who is shown by a provider's gauges.  Their callbacks cannot be taken away, so there is one per gauge."""
    with _guard:
        known = (_global[0] if _global else None) if provider is None else _given.get(provider)
        if known is not None:
            return known
        found: WeakSet[Shown] = WeakSet()
        if provider is None:
            _global.append(found)
        else:
            _given[provider] = found
    meter = metrics.get_meter(names.SCOPE, meter_provider=provider)
    for name, (unit, brief) in METRICS.items():
        meter.create_observable_gauge(name, [_Reading(name.rpartition(".")[2], found)], unit, brief)
    return found


class _Reading:
    """One gauge's callback."""

    def __init__(self, what: str, of: WeakSet[Shown]) -> None:
        self._what, self._of = what, of

    def __call__(self, options: CallbackOptions) -> Iterator[Observation]:
        for objectives in list(self._of):
            for found in objectives.status():
                labels = {
                    names.CLIENT_NAME: objectives.client,
                    names.ROUTE_NAME: found.route,
                    "resilient_llm.objective": found.objective,
                }
                if self._what == "burn_rate":
                    for window, rate in found.burn.items():
                        yield Observation(rate, {**labels, "resilient_llm.window": window})
                else:
                    yield Observation(found.target if self._what == "target" else found.budget_left, labels)
