"""What alerts are made of: conditions that hold, alerts that fire, and the notifications people get."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final, Literal, Protocol, TypeAlias

from resilient_llm.errors import ConfigurationError

Severity: TypeAlias = Literal["info", "warning", "critical"]
"""``critical``: callers are affected, wake somebody.  ``warning``: look at it today.  ``info``: nice to know."""

SEVERITIES: Final[tuple[Severity, ...]] = ("info", "warning", "critical")

Kind: TypeAlias = Literal[
    "all_providers_down",
    "provider_unhealthy",
    "quota_exhausted",
    "credentials_rejected",
    "misconfigured",
    "budget_empty",
    "error_budget_burning",
    "latency_anomaly",
    "error_anomaly",
]
"""What an alert is about; ``docs/alerts.md`` has a runbook for each."""

TITLES: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "all_providers_down": ("no provider of route {} answers", "route {} is answered again"),
        "provider_unhealthy": ("{} is unhealthy", "{} recovered"),
        "quota_exhausted": ("the quota of {} is exhausted", "{} has quota again"),
        "credentials_rejected": ("{} rejects the credentials", "{} accepts the credentials again"),
        "misconfigured": ("{} is misconfigured", "{} is configured right again"),
        "budget_empty": ("the budget {} is empty", "the budget {} is no longer empty"),
        "error_budget_burning": ("{} burns its error budget", "{} no longer burns its error budget"),
        "latency_anomaly": ("{} is slower than usual", "{} is as fast as usual again"),
        "error_anomaly": ("{} fails more than usual", "{} fails no more than usual"),
    }
)
"""Per kind: the title while it fires, and when it is over; ``{}`` is the subject."""

RUNBOOKS: Final = "docs/alerts.md"
"""Where the runbooks are unless the user has others: the page of this project."""


def checked_severity(name: str, value: object) -> Severity:
    """A severity.  Raises ``ConfigurationError`` for anything else."""
    for severity in SEVERITIES:
        if value == severity:
            return severity
    raise ConfigurationError(f"{name} must be one of {', '.join(SEVERITIES)}, not {value!r}")


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that holds now and that people may want to be told.

    ``subject`` is a provider, a route, an objective or a budget.  ``hold`` is seconds for which it must last before it
    becomes an alert.
    """

    kind: Kind
    subject: str
    severity: Severity
    detail: str
    hold: float = 0.0

    @property
    def key(self) -> str:
        """What makes two conditions the same one."""
        return f"{self.kind}/{self.subject}"


class Source(Protocol):
    """Where conditions come from: the providers of a client, objectives, anomalies, or anything of your own."""

    def conditions(self, now: float) -> Iterable[Condition]:
        """What holds at this moment of the client's monotonic clock.  Called off the path of calls, every few
        seconds."""
        ...


@dataclass(frozen=True, slots=True)
class Alert:
    """A condition that has lasted long enough.  Times are Unix seconds; ``ended_at`` is ``None`` while it fires.

    ``severity`` is the highest it had, ``detail`` the latest at that severity.
    """

    kind: Kind
    subject: str
    severity: Severity
    detail: str
    began_at: float
    ended_at: float | None
    runbook: str

    @property
    def key(self) -> str:
        """What makes two alerts the same one."""
        return f"{self.kind}/{self.subject}"

    @property
    def title(self) -> str:
        """One line without the detail."""
        return TITLES[self.kind][self.ended_at is not None].format(self.subject)

    @property
    def what(self) -> str:
        """What was wrong, with the detail, whether it is over or not."""
        title = TITLES[self.kind][0].format(self.subject)
        return f"{title}: {self.detail}" if self.detail else title

    @property
    def text(self) -> str:
        """One line with everything but the runbook."""
        if self.ended_at is not None:
            return f"{self.title} after {length_of_time(self.ended_at - self.began_at)}"
        return f"{self.what} (since {clock_time(self.began_at)})"

    def as_dict(self) -> dict[str, str | float | None]:
        """For JSON."""
        return {
            "key": self.key,
            "kind": self.kind,
            "subject": self.subject,
            "severity": self.severity,
            "title": self.title,
            "detail": self.detail,
            "began_at": self.began_at,
            "ended_at": self.ended_at,
            "runbook": self.runbook,
        }


@dataclass(frozen=True, slots=True)
class Notification:
    """One message: what began (``fired``), what ended (``resolved``), and everything that fires now (``firing``).

    With neither it is a reminder.  ``client`` is the client's name, ``at`` Unix seconds.
    """

    client: str
    at: float
    fired: tuple[Alert, ...]
    resolved: tuple[Alert, ...]
    firing: tuple[Alert, ...]

    @property
    def severity(self) -> Severity:
        """The highest of what it tells."""
        told = self.fired + self.resolved or self.firing
        return SEVERITIES[max((SEVERITIES.index(alert.severity) for alert in told), default=0)]

    @property
    def title(self) -> str:
        """One line that tells how much of what."""
        if not self.fired and not self.resolved:
            return f"[{self.client}] still firing: {len(self.firing)}"
        told = [f"{len(self.fired)} firing"] if self.fired else []
        told += [f"{len(self.resolved)} resolved"] if self.resolved else []
        first = (self.fired or self.resolved)[0]
        more = len(self.fired) + len(self.resolved) - 1
        return f"[{self.client}] {', '.join(told)}: {first.title}" + (f", and {more} more" if more else "")

    @property
    def text(self) -> str:
        """Everything, as lines."""
        reminded = () if self.fired or self.resolved else self.firing
        lines = [self.title]
        lines += [f"FIRING {alert.severity}: {alert.text}\n  runbook: {alert.runbook}" for alert in self.fired]
        lines += [f"RESOLVED: {alert.text}" for alert in self.resolved]
        lines += [f"STILL FIRING {alert.severity}: {alert.text}\n  runbook: {alert.runbook}" for alert in reminded]
        return "\n".join(lines)

    def for_severity(self, least: Severity) -> Notification | None:
        """The part that is at least this severe; ``None`` if there is none."""
        if least == "info":
            return self
        floor = SEVERITIES.index(least)

        def severe(alerts: tuple[Alert, ...]) -> tuple[Alert, ...]:
            return tuple(alert for alert in alerts if SEVERITIES.index(alert.severity) >= floor)

        part = Notification(self.client, self.at, severe(self.fired), severe(self.resolved), severe(self.firing))
        reminder = not self.fired and not self.resolved
        return part if part.fired or part.resolved or (reminder and part.firing) else None

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "client": self.client,
            "at": self.at,
            "severity": self.severity,
            "title": self.title,
            "fired": [alert.as_dict() for alert in self.fired],
            "resolved": [alert.as_dict() for alert in self.resolved],
            "firing": [alert.as_dict() for alert in self.firing],
        }


def clock_time(at: float) -> str:
    """A moment as people read it, in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def length_of_time(seconds: float) -> str:
    """A duration as people read it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
