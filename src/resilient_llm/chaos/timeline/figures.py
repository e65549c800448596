"""The arithmetic of what was observed, and its figures for people."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from resilient_llm import events
from resilient_llm.chaos.timeline.story import CallSeen, Story
from resilient_llm.faults import AttemptKind

KINDS: Final[tuple[AttemptKind, ...]] = ("initial", "failover", "retry", "hedge", "trial")


@dataclass(frozen=True, slots=True)
class Totals:
    """Calls of some stretch of time.  Times are seconds, ``None`` without a sample; ``slowest_failure`` is how long the
    longest failed call took to say so."""

    calls: int
    answered: int
    interrupted: int
    failed: int
    wrong: int
    answer_p50: float | None
    answer_p99: float | None
    first_token_p50: float | None
    first_token_p99: float | None
    slowest: float | None
    slowest_failure: float | None
    attempts: int

    @property
    def success_rate(self) -> float:
        """Share of the calls that were answered; 1 without calls."""
        return self.answered / self.calls if self.calls else 1.0

    @property
    def attempts_per_call(self) -> float:
        """1 if every call was answered by the first provider asked; 0 without calls."""
        return self.attempts / self.calls if self.calls else 0.0


@dataclass(frozen=True, slots=True)
class ProviderTotals:
    """What one provider did.  ``attempts`` counts by outcome: ``success``, ``cancelled`` or the kind of fault;
    ``opened`` is how often its closed breaker opened, softly or hard, ``failed_trials`` how often a trial kept it open,
    and ``gated_seconds`` how long its gate was closed."""

    id: str
    answered: int
    attempts: dict[str, int]
    opened: int
    failed_trials: int
    gated: int
    gated_seconds: float


def quantile(values: Iterable[float], share: float) -> float | None:
    """The smallest value that at least this share of the values does not exceed; ``None`` without any."""
    ordered = sorted(values)
    if not ordered:
        return None
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def totals(calls: Sequence[CallSeen]) -> Totals:
    """Count calls."""
    endings = Counter(call.ending for call in calls)
    answers = [call.seconds for call in calls if call.ending == "answered"]
    firsts = [call.first for call in calls if call.first is not None]
    failures = [call.seconds for call in calls if call.ending == "failed"]
    return Totals(
        calls=len(calls),
        answered=endings["answered"],
        interrupted=endings["interrupted"],
        failed=endings["failed"],
        wrong=endings["wrong"],
        answer_p50=quantile(answers, 0.5),
        answer_p99=quantile(answers, 0.99),
        first_token_p50=quantile(firsts, 0.5),
        first_token_p99=quantile(firsts, 0.99),
        slowest=max(answers, default=None),
        slowest_failure=max(failures, default=None),
        attempts=sum(call.attempts for call in calls),
    )


def kinds(happened: Iterable[events.Event]) -> dict[str, int]:
    """Attempts by why they were made."""
    counted = Counter(event.kind for event in happened if isinstance(event, events.AttemptStarted))
    return {kind: counted[kind] for kind in KINDS}


def provider_totals(story: Story, name: str) -> ProviderTotals:
    """Count what one provider did."""
    own = [event for event in story.events if event.provider == name]
    outcomes = Counter(outcome_of(event) for event in own if isinstance(event, events.AttemptEnded))
    changes = Counter((event.old, event.new) for event in own if isinstance(event, events.BreakerChanged))
    closures = gate_times(own)
    return ProviderTotals(
        id=name,
        answered=sum(call.provider == name and call.ending == "answered" for call in story.calls),
        attempts=dict(sorted(outcomes.items())),
        opened=changes["closed", "open"] + changes["closed", "softly_open"],
        failed_trials=sum(
            isinstance(event, events.AttemptEnded) and event.record.kind == "trial" and event.record.outcome == "error"
            for event in own
        ),
        gated=len(closures),
        gated_seconds=sum(end - begin for begin, end, _ in closures),
    )


def outcome_of(event: events.AttemptEnded) -> str:
    """``success``, ``cancelled``, or the kind of fault."""
    fault = event.record.fault
    return event.record.outcome if fault is None else str(fault.kind)


def gate_times(happened: Iterable[events.Event]) -> list[tuple[float, float, str]]:
    """When one provider's gate was closed: begin, end, reason.  A gate that is closed again before it opens is one
    closure."""
    found: list[tuple[float, float, str]] = []
    for event in happened:
        if not isinstance(event, events.GateClosed):
            continue
        end = event.at + event.wait
        if found and event.at <= found[-1][1]:
            begin, before, reason = found[-1]
            found[-1] = (begin, max(before, end), reason)
        else:
            found.append((event.at, end, event.reason))
    return found


def many(count: int, thing: str) -> str:
    """So many things, in grammar."""
    return f"{count} {thing}{'' if count == 1 else 's'}"


def duration(seconds: float | None) -> str:
    """A duration for people."""
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.0f} ms" if seconds < 0.9995 else f"{seconds:.1f} s"


def percent(share: float) -> str:
    """A share for people: never 100 % unless it is."""
    return "100 %" if share >= 1.0 else f"{min(share * 100, 99.9):.1f} %"


def outcomes(provider: ProviderTotals) -> str:
    """Attempts by outcome, in a line."""
    return ", ".join(f"{count} {outcome}" for outcome, count in provider.attempts.items()) or "none"
