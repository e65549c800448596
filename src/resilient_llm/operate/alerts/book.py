"""Which alerts fire, and when people are told: a state machine without a clock.

::

    pending --(it lasted)--> firing --(gone for clear_after)--> resolved
       \\--(gone)--> forgotten

What begins and ends is collected for ``group_wait`` seconds and told in one notification.  An alert that comes back
within an hour must stay away twice as long before it counts as over, and twice as long again each time, so that what
flaps is told less and less often.  Beyond ``most_per_hour`` notifications an hour, news waits and is told together;
only what is critical does not wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from resilient_llm.errors import ConfigurationError
from resilient_llm.operate.alerts.words import SEVERITIES, TITLES, Alert, Condition, Notification, Severity

MOST_ALERTS: Final = 1000
"""Conditions that are followed at the same time; one more is ignored."""
_RELAPSE = 3600.0  # seconds after its end within which an alert that fires again is the old one
_LONGEST_CLEAR = 900.0  # seconds
_BURST = 5.0  # notifications that may follow each other


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """When people are told.  Durations are seconds.

    ``interval``: between two looks; a change of a breaker or a gate is looked at at once.
    ``group_wait``: how long news is collected before it is told (Alertmanager's ``group_wait``).
    ``clear_after``: how long a condition must be gone before its alert is over.
    ``repeat_after``: how often what still fires is told again; ``None``: never.
    ``most_per_hour``: notifications; more of them wait and are told together, critical ones excepted.
    ``ignore``: kinds nobody wants to be told of.

    Raises ``ConfigurationError`` for what makes no sense.
    """

    interval: float = 2.0
    group_wait: float = 5.0
    clear_after: float = 60.0
    repeat_after: float | None = 4 * 3600.0
    most_per_hour: float = 30.0
    ignore: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("interval", "group_wait", "clear_after", "repeat_after", "most_per_hour"):
            value: object = getattr(self, name)
            least = 0.1 if name == "interval" else 1.0 if name in ("repeat_after", "most_per_hour") else 0.0
            if value is None and name == "repeat_after":
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not value >= least:
                raise ConfigurationError(f"{name} must be a number of {least:g} or more, not {value!r}")
        unknown = [kind for kind in self.ignore if kind not in TITLES]
        if unknown or isinstance(self.ignore, str):
            raise ConfigurationError(f"ignore must hold kinds of alerts ({', '.join(TITLES)}), not {self.ignore!r}")


class _Entry:
    """One condition that is followed."""

    __slots__ = ("began_at", "clear_after", "condition", "firing", "gone_at", "since", "told", "told_at")

    def __init__(self, condition: Condition, now: float, wall: float, clear_after: float) -> None:
        self.condition = condition
        """As it is, or as it was at its worst since it fires: who was told of that must be told when it is over."""
        self.since = now
        self.began_at = wall
        self.gone_at: float | None = None
        self.firing = False
        self.told: Severity | None = None
        """The severity it had when it was told last; ``None``: nobody was told yet."""
        self.told_at = now
        self.clear_after = clear_after

    @property
    def severity(self) -> Severity:
        return self.condition.severity


def _sorted(alerts: Iterable[Alert]) -> tuple[Alert, ...]:
    return tuple(sorted(alerts, key=lambda alert: (-SEVERITIES.index(alert.severity), alert.began_at)))


class Book:
    """The alerts of one client.  Used by one thread at a time; times are monotonic seconds, ``wall`` is Unix time."""

    def __init__(self, client: str, rules: Rules, runbook: Callable[[str], str]) -> None:
        self._client = client
        self._rules = rules
        self._runbook = runbook
        self._entries: dict[str, _Entry] = {}
        self._past: dict[str, tuple[float, float]] = {}
        self._resolved: dict[str, Alert] = {}
        self._news_at: float | None = None
        self._tokens = _BURST
        self._tokens_at: float | None = None

    def update(
        self, now: float, wall: float, conditions: Iterable[Condition], *, at_once: bool = False
    ) -> Notification | None:
        """Take what holds now; returns what to tell now, if anything.  ``at_once``: nobody waits for more news."""
        held: dict[str, Condition] = {}
        for condition in conditions:
            if condition.kind not in self._rules.ignore and len(held) < MOST_ALERTS:
                held[condition.key] = condition
        for condition in held.values():
            self._holds(condition, now, wall)
        for key in [key for key in self._entries if key not in held]:
            self._gone(key, now, wall)
        return self._news(now, wall, at_once=at_once)

    def firing(self) -> tuple[Alert, ...]:
        """Every alert that fires, the most severe first."""
        return _sorted(self._alert(entry, None) for entry in self._entries.values() if entry.firing)

    # --- conditions ---

    def _holds(self, condition: Condition, now: float, wall: float) -> None:
        entry = self._entries.get(condition.key)
        if entry is None:
            if len(self._entries) >= MOST_ALERTS:
                return
            entry = self._entries[condition.key] = _Entry(condition, now, wall, self._clear_after(condition.key, now))
        entry.gone_at = None
        if not entry.firing and now - entry.since >= condition.hold:
            entry.firing = True
            entry.condition = condition
            self._resolved.pop(condition.key, None)  # nobody was told yet that it was over
        elif SEVERITIES.index(condition.severity) >= SEVERITIES.index(entry.severity) or not entry.firing:
            entry.condition = condition
        if entry.firing and self._is_news(entry) and self._news_at is None:
            self._news_at = now

    def _gone(self, key: str, now: float, wall: float) -> None:
        entry = self._entries[key]
        if not entry.firing:
            del self._entries[key]
            return
        if entry.gone_at is None:
            entry.gone_at = now
        if now - entry.gone_at < entry.clear_after:
            return
        del self._entries[key]
        self._remember(key, now, entry.clear_after)
        ended_at = wall - (now - entry.gone_at)
        self._resolved[key] = self._alert(entry, max(ended_at, entry.began_at))
        if self._news_at is None:
            self._news_at = now

    def _clear_after(self, key: str, now: float) -> float:
        ended = self._past.get(key)
        if ended is None or now - ended[0] > _RELAPSE:
            return self._rules.clear_after
        return min(2.0 * ended[1], max(_LONGEST_CLEAR, self._rules.clear_after))

    def _remember(self, key: str, now: float, clear_after: float) -> None:
        self._past[key] = (now, clear_after)
        if len(self._past) > MOST_ALERTS:
            self._past = {old: past for old, past in self._past.items() if now - past[0] <= _RELAPSE}
            if len(self._past) > MOST_ALERTS:
                self._past = {key: (now, clear_after)}

    # --- news ---

    def _news(self, now: float, wall: float, *, at_once: bool) -> Notification | None:
        fired = [entry for entry in self._entries.values() if entry.firing and self._is_news(entry)]
        if not fired and not self._resolved:
            self._news_at = None
        if self._news_at is not None and (at_once or now - self._news_at >= self._rules.group_wait):
            urgent = at_once or any(entry.severity == "critical" for entry in fired)
            return self._tell(now, wall, fired) if self._may_tell(now) or urgent else None
        repeat = self._rules.repeat_after
        old = [entry for entry in self._entries.values() if entry.firing and repeat and now - entry.told_at >= repeat]
        if old and self._news_at is None and self._may_tell(now):
            return self._tell(now, wall, [])
        return None

    def _tell(self, now: float, wall: float, fired: list[_Entry]) -> Notification:
        began = _sorted(self._alert(entry, None) for entry in fired)
        resolved = tuple(self._resolved.values())
        self._resolved, self._news_at = {}, None
        self._tokens = max(0.0, self._tokens - 1.0)
        for entry in self._entries.values():
            if entry.firing:
                entry.told, entry.told_at = entry.severity, now
        return Notification(self._client, wall, began, resolved, self.firing())

    def _may_tell(self, now: float) -> bool:
        if self._tokens_at is not None:
            earned = (now - self._tokens_at) * self._rules.most_per_hour / 3600.0
            self._tokens = min(_BURST, self._tokens + max(0.0, earned))
        self._tokens_at = now
        return self._tokens >= 1.0

    def _is_news(self, entry: _Entry) -> bool:
        """Whether nobody was told of it, or only when it was less severe."""
        told = entry.told
        return told is None or SEVERITIES.index(entry.severity) > SEVERITIES.index(told)

    def _alert(self, entry: _Entry, ended_at: float | None) -> Alert:
        found = entry.condition
        runbook = self._runbook(found.kind)
        return Alert(found.kind, found.subject, entry.severity, found.detail, entry.began_at, ended_at, runbook)
