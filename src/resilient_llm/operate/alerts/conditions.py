"""Which conditions hold at the providers of a client: from what ``health()`` tells, and from how attempts end.

Nothing here waits, sends or logs, and the time is passed in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from resilient_llm.decide.outcome import Outcome, disposition
from resilient_llm.errors import AttemptRecord, FaultKind
from resilient_llm.health import ProviderHealth
from resilient_llm.operate.alerts.words import Condition, Kind

_WAITS: Final[Mapping[FaultKind, Kind]] = {
    FaultKind.QUOTA_EXHAUSTED: "quota_exhausted",
    FaultKind.AUTH: "credentials_rejected",
    FaultKind.PERMISSION: "credentials_rejected",
    FaultKind.NOT_FOUND_MODEL: "misconfigured",
    FaultKind.MISCONFIGURED: "misconfigured",
}
"""Faults that no waiting cures: a person has to do something."""
_SLOW: Final = frozenset(str(kind) for kind in _WAITS)
_DOWN_HOLD, _SOFT_HOLD = 10.0, 60.0  # seconds a provider may be down, or half broken, before anybody is told
_ALL_DOWN_HOLD = 3.0
_BUDGET_HOLD = 4.0
_MOST_UNANSWERED, _UNANSWERED_HOLD = 5, 5.0  # calls in a row without an answer, and seconds since the first of them
_FAILED: Final = frozenset({Outcome.HARD, Outcome.SOFT})
"""What of attempts speaks against their provider."""
_LONG_GATE = 10.0  # seconds: a gate that is closed for less is no outage


@dataclass(frozen=True, slots=True)
class Seen:
    """A client at one moment: its providers, who serves each route, and what is left of the budget for second
    tries."""

    providers: tuple[ProviderHealth, ...]
    routes: Mapping[str, Sequence[str]]
    extra_attempts: float


class ProviderConditions:
    """Remembers who needs a person's attention; everything else is in what is seen now."""

    def __init__(self) -> None:
        self._waits: dict[str, tuple[Kind, str]] = {}
        self._unanswered: dict[str, tuple[int, float]] = {}
        self._failed: dict[str, int] = {}  # attempts since a provider answered last

    def ended(self, record: AttemptRecord) -> bool:
        """An attempt ended; whether that changed anything.  May be called from any thread, and takes no lock."""
        fault = record.fault
        if fault is None:
            if record.outcome != "success":
                return False
            self._failed.pop(record.provider, None)
            return self._waits.pop(record.provider, None) is not None
        kind = _WAITS.get(fault.kind)
        if kind is None:
            if disposition(fault).outcome in _FAILED:
                self._failed[record.provider] = self._failed.get(record.provider, 0) + 1
            return False
        status = "" if fault.status is None else f" (HTTP {fault.status})"
        known = record.provider in self._waits
        # What a vendor says is text from outside; of a wrong address the words are our own.
        words = f": {fault.message}" if fault.kind is FaultKind.MISCONFIGURED and fault.message else ""
        self._waits[record.provider] = (kind, f"{fault.kind}{status}{words}")
        return not known

    def answered(self, route: str) -> None:
        """A call of the route was answered.  May be called from any thread, and takes no lock."""
        if route in self._unanswered:
            self._unanswered.pop(route, None)

    def unanswered(self, route: str, now: float) -> None:
        """A call of the route failed, and not by its caller's doing."""
        count, since = self._unanswered.get(route, (0, now))
        self._unanswered[route] = (count + 1, since)

    def now(self, seen: Seen, now: float) -> Iterator[Condition]:
        """What holds."""
        known = {found.id: found for found in seen.providers}
        for found in seen.providers:
            yield from _health(found, self._failed.get(found.id, 0))
        for provider, (kind, detail) in list(self._waits.items()):
            if provider in known:
                yield Condition(kind, provider, "warning", _until(detail, known[provider]))
            else:
                self._waits.pop(provider, None)
        if seen.extra_attempts < 1.0:
            detail = "second tries are held back, so that providers in trouble are not hammered"
            yield Condition("budget_empty", "for second tries", "warning", detail, _BUDGET_HOLD)
        for route, ids in seen.routes.items():
            yield from self._route(route, [known[one] for one in ids if one in known], now)

    def _route(self, route: str, providers: Sequence[ProviderHealth], now: float) -> Iterator[Condition]:
        """Nobody can be asked, or whoever is asked does not answer."""
        reasons = [(one.id, _out(one)) for one in providers]
        count, since = self._unanswered.get(route, (0, now))
        failing = count >= _MOST_UNANSWERED and now - since >= _UNANSWERED_HOLD
        if reasons and (failing or all(reason for _, reason in reasons)):
            soft = {
                one.id: f"answers few calls ({one.breaker_reason})" for one in providers if one.breaker == "softly_open"
            }
            said = [f"{one}: {reason or soft[one]}" for one, reason in reasons if reason or one in soft]
            told = [f"the last {count} calls failed, the first of them {now - since:.0f} s ago"] if failing else []
            yield Condition(
                "all_providers_down", route, "critical", "; ".join(told + said), 0.0 if failing else _ALL_DOWN_HOLD
            )


def _health(found: ProviderHealth, failed: int) -> Iterator[Condition]:
    """``failed``: attempts since it answered last.  A breaker opens softly where a provider says that it is overloaded,
    and it may say nothing else."""
    if found.breaker == "open" or (found.breaker == "softly_open" and failed >= _MOST_UNANSWERED):
        told = found.breaker_reason if found.breaker == "open" else f"the last {failed} attempts failed"
        yield Condition("provider_unhealthy", found.id, "warning", f"down: {told}", _DOWN_HOLD)
    elif found.breaker == "softly_open":
        detail = f"it answers some calls: {found.breaker_reason}"
        yield Condition("provider_unhealthy", found.id, "info", detail, _SOFT_HOLD)


def _out(found: ProviderHealth) -> str:
    """Why a provider cannot be asked for some time; empty if it can."""
    if found.drained:
        return "drained"
    if found.breaker in ("open", "isolated"):
        return f"{found.breaker} ({found.breaker_reason})"
    wait = found.gate_open_in
    if wait is not None and (wait >= _LONG_GATE or found.gate_reason in _SLOW):
        return f"{found.gate_reason} for {wait:.0f} s more"
    return ""


def _until(detail: str, found: ProviderHealth) -> str:
    return detail if found.gate_open_in is None else f"{detail}; not asked for {found.gate_open_in:.0f} s"
