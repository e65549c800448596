"""The record of one incident: what happened, to whom, what callers noticed, and what was done about it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, cast

from resilient_llm.errors import ConfigurationError
from resilient_llm.operate.alerts.words import SEVERITIES, TITLES, Alert, Severity, clock_time, length_of_time

FORMAT: Final = 1
"""Of the JSON; a reader of a newer one says so."""
MOST_MOMENTS: Final = 500
"""Lines of a timeline; the middle of a longer one is left out, and said to be."""
_MOST_BUCKETS: Final = 360


@dataclass(frozen=True, slots=True)
class Moment:
    """One line of the timeline.  ``at`` is Unix seconds; ``who`` is a provider, a route or empty.

    ``kind`` is ``alert``, ``state`` (a breaker or gate changed), ``operator`` (a person did something by hand) or
    ``action`` (a remedy did, or would have done, something).  ``state`` is the breaker's state from then on, or
    ``gated``; empty if the moment changes none.  ``seconds`` is how long a gate stays closed.
    """

    at: float
    kind: str
    who: str
    text: str
    state: str = ""
    seconds: float = 0.0


@dataclass(slots=True)
class Bucket:
    """What callers got in a stretch of time that begins at ``at`` (Unix seconds): calls answered and failed, and the
    attempts they took."""

    at: float
    answered: int = 0
    failed: int = 0
    attempts: int = 0


@dataclass(slots=True)
class Incident:
    """One incident, from the first alert to the end of the last.  Times are Unix seconds; ``ended_at`` ``None``: it is
    not over.

    ``alerts`` are those that fired, each with its end once there is one; ``providers`` those they name; ``buckets``
    what callers got, from a little before the beginning, ``width`` seconds each; ``timeline`` everything in order.
    """

    id: str
    client: str
    began_at: float
    ended_at: float | None = None
    severity: Severity = "info"
    alerts: dict[str, Alert] = field(default_factory=dict[str, Alert])
    providers: tuple[str, ...] = ()
    timeline: list[Moment] = field(default_factory=list[Moment])
    left_out: int = 0
    width: float = 10.0
    buckets: list[Bucket] = field(default_factory=list[Bucket])

    # --- while it lasts ---

    def add(self, moment: Moment) -> None:
        """Add a line to the timeline; beyond a bound the oldest but the first hundred go."""
        self.timeline.append(moment)
        if len(self.timeline) > MOST_MOMENTS:
            del self.timeline[100]
            self.left_out += 1

    def fired(self, alert: Alert) -> None:
        """An alert fired, or became more severe."""
        self.alerts[alert.key] = alert
        self.severity = SEVERITIES[max(SEVERITIES.index(self.severity), SEVERITIES.index(alert.severity))]
        self.add(Moment(alert.began_at, "alert", alert.subject, f"{alert.severity}: {alert.what}"))

    def resolved(self, alert: Alert) -> None:
        """An alert is over."""
        self.alerts[alert.key] = alert
        self.add(Moment(alert.ended_at or alert.began_at, "alert", alert.subject, f"resolved: {alert.title}"))

    def count(self, counted: Bucket) -> None:
        """Add what callers got; wider buckets are made where there are too many."""
        at = counted.at - counted.at % self.width
        if not self.buckets or self.buckets[-1].at < at:
            self.buckets.append(Bucket(at))
        last = self.buckets[-1]
        last.answered += counted.answered
        last.failed += counted.failed
        last.attempts += counted.attempts
        if len(self.buckets) > _MOST_BUCKETS:
            narrow, self.buckets, self.width = self.buckets, [], 2.0 * self.width
            for one in narrow:
                self.count(one)

    # --- what it says ---

    @property
    def title(self) -> str:
        """One line."""
        first = min(self.alerts.values(), key=lambda alert: -SEVERITIES.index(alert.severity), default=None)
        what = "" if first is None else f": {TITLES[first.kind][0].format(first.subject)}"
        more = f", and {len(self.alerts) - 1} more" if len(self.alerts) > 1 else ""
        return f"Incident of {self.client}, {clock_time(self.began_at)}{what}{more}"

    @property
    def duration(self) -> str:
        """How long it lasted, in words."""
        return "not over" if self.ended_at is None else length_of_time(self.ended_at - self.began_at)

    def effect(self) -> str:
        """What callers noticed, in a sentence."""
        during = [one for one in self.buckets if one.at + self.width > self.began_at]
        answered, failed = sum(one.answered for one in during), sum(one.failed for one in during)
        calls, attempts = answered + failed, sum(one.attempts for one in during)
        if not calls:
            return "No call ended during it."
        took = f"{attempts / calls:.2f} attempts a call"
        if not failed:
            return f"All {calls} calls were answered ({took}): callers noticed nothing but the wait."
        return f"{failed} of {calls} calls failed ({failed / calls:.1%}); {took}."

    def text(self) -> str:
        """The draft of a post-mortem, as plain text."""
        lines = [self.title, "=" * len(self.title), ""]
        lines += [f"Began      {clock_time(self.began_at)}"]
        lines += [f"Ended      {'not yet' if self.ended_at is None else clock_time(self.ended_at)} ({self.duration})"]
        lines += [f"Severity   {self.severity}", f"Providers  {', '.join(self.providers) or 'none named'}"]
        lines += [f"Callers    {self.effect()}", "", "Alerts", "------"]
        lines += [
            f"- {one.severity}: {one.what}\n  {lasted(one)}; runbook: {one.runbook}" for one in self.alerts.values()
        ]
        lines += ["", "What was done", "-------------"]
        lines += [f"- {clock_time(one.at)}  {one.who}: {one.text}" for one in self.done()] or [
            "- nothing, by this library"
        ]
        lines += ["", "Timeline", "--------"]
        lines += [f"{clock_time(one.at)}  {one.who:<20} {one.text}" for one in self.ordered()]
        if self.left_out:
            lines += [f"({self.left_out} lines in the middle were left out)"]
        lines += ["", "To be written by people", "-----------------------"]
        lines += ["Root cause:", "What went well:", "What did not:", "Follow-ups:", ""]
        return "\n".join(lines)

    def done(self) -> list[Moment]:
        """What people and remedies did."""
        return [one for one in self.ordered() if one.kind in ("operator", "action")]

    def ordered(self) -> list[Moment]:
        """The timeline in order of time."""
        return sorted(self.timeline, key=lambda one: one.at)

    # --- JSON ---

    def json(self) -> str:
        """The same for machines, and for :meth:`read`."""
        return json.dumps(
            {
                "format": FORMAT,
                "id": self.id,
                "client": self.client,
                "title": self.title,
                "began_at": self.began_at,
                "ended_at": self.ended_at,
                "severity": self.severity,
                "providers": list(self.providers),
                "effect": self.effect(),
                "alerts": [alert.as_dict() for alert in self.alerts.values()],
                "timeline": [_fields(one, Moment) for one in self.ordered()],
                "left_out": self.left_out,
                "width": self.width,
                "buckets": [_fields(one, Bucket) for one in self.buckets],
            },
            indent=1,
        )

    @classmethod
    def read(cls, text: str) -> Incident:
        """An incident from its JSON.  Raises ``ConfigurationError`` for what is none."""
        try:
            told = cast("dict[str, object]", json.loads(text))
            if told["format"] != FORMAT:
                raise ConfigurationError(f"this incident has format {told['format']!r}; known is {FORMAT}")
            rows = cast("Mapping[str, Iterable[dict[str, object]]]", told)
            alerts = [_alert(one) for one in rows["alerts"]]
            return cls(
                cast(str, told["id"]),
                cast(str, told["client"]),
                cast(float, told["began_at"]),
                cast("float | None", told["ended_at"]),
                cast(Severity, told["severity"]),
                {alert.key: alert for alert in alerts},
                tuple(cast("list[str]", told["providers"])),
                [Moment(**one) for one in rows["timeline"]],  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
                cast(int, told["left_out"]),
                cast(float, told["width"]),
                [Bucket(**one) for one in rows["buckets"]],  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, ConfigurationError):
                raise
            raise ConfigurationError(f"this is no incident: {type(error).__name__}") from None


def lasted(alert: Alert) -> str:
    """From when to when an alert fired."""
    begin = clock_time(alert.began_at)
    return f"since {begin}, not over" if alert.ended_at is None else f"{begin} to {clock_time(alert.ended_at)}"


def _fields(of: object, kind: type) -> dict[str, object]:
    return {name: getattr(of, name) for name in kind.__slots__}  # type: ignore[attr-defined]  # pyright: ignore


def _alert(told: Mapping[str, object]) -> Alert:
    names = ("kind", "subject", "severity", "detail", "began_at", "ended_at", "runbook")
    return Alert(*(told[name] for name in names))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
