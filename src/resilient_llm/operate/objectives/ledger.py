"""One objective and how its error budget is spent: bookkeeping without a clock."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from resilient_llm.errors import ConfigurationError
from resilient_llm.operate.alerts.words import Severity

Kind: TypeAlias = Literal["availability", "latency"]

PERIOD: Final = 30 * 86400.0
"""Seconds over which an error budget is spent."""
_FINE, _COARSE = 30.0, 1800.0  # seconds per bucket
_FINE_SPAN = 6 * 3600.0
_LEAST_BAD = 5  # bad calls in the long window: fewer say nothing, whatever share of the traffic they are


@dataclass(frozen=True, slots=True)
class Burn:
    """A rule: burning at ``factor`` times the allowed rate over both windows (seconds) deserves this severity."""

    factor: float
    long: float
    short: float
    severity: Severity


RULES: Final = (
    Burn(14.4, 3600.0, 300.0, "critical"),
    Burn(6.0, 6 * 3600.0, 1800.0, "critical"),
    Burn(1.0, 3 * 86400.0, 6 * 3600.0, "warning"),
)
"""2 % of a month's budget in an hour, 5 % in six hours, 10 % in three days (SRE workbook, table 5-8)."""

WINDOWS: Final[Mapping[str, float]] = MappingProxyType(
    {"5m": 300.0, "30m": 1800.0, "1h": 3600.0, "6h": 21600.0, "3d": 259200.0}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """What callers of a route are promised.

    ``availability``: the share of calls that are answered (``None``: no promise).  ``within`` and ``share``: the share
    of calls answered within so many seconds (``None``: no promise); a stream counts by its first content.

    Raises ``ConfigurationError`` for what makes no sense.
    """

    availability: float | None = 0.999
    within: float | None = None
    share: float = 0.95

    def __post_init__(self) -> None:
        if self.availability is not None:
            _check_share("availability", self.availability)
        _check_share("share", self.share)
        within: object = self.within
        if within is not None and (isinstance(within, bool) or not isinstance(within, int | float) or not within > 0):
            raise ConfigurationError(f"within must be a number of seconds above 0 or None, not {within!r}")
        if self.availability is None and self.within is None:
            raise ConfigurationError("an objective needs availability, within, or both")


def _check_share(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 < value < 1.0:
        hint = f"; say {value / 100:g}" if isinstance(value, int | float) and 1.0 < value < 100.0 else ""
        raise ConfigurationError(f"{name} must be a number between 0 and 1, not {value!r}{hint}")


@dataclass(frozen=True, slots=True)
class ObjectiveStatus:
    """How one objective of a route stands.

    ``target`` and ``achieved`` are shares of the ``calls`` of the last 30 days, as far as this process has seen them
    (``achieved`` is ``None`` without any); ``bad`` missed it.  ``budget_left`` is 1 while nothing is spent, 0 when all
    is, negative beyond.  ``burn`` is the burn rate per window (``5m``, ``30m``, ``1h``, ``6h``, ``3d``).  ``within`` is
    the limit of a latency objective in seconds.  ``burning`` is the severity it deserves now, ``None``: none.
    """

    route: str
    objective: Kind
    target: float
    within: float | None
    calls: int
    bad: int
    achieved: float | None
    budget_left: float
    burn: Mapping[str, float]
    burning: Severity | None

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        found: dict[str, object] = {one.name: getattr(self, one.name) for one in fields(self)}
        return found | {"burn": dict(self.burn)}


class Ring:
    """Counts of the last so many seconds in buckets of equal length; older ones fall out.  Memory does not grow."""

    def __init__(self, bucket: float, span: float) -> None:
        self._bucket = bucket
        self._size = int(span / bucket) + 1
        self._calls = array("Q", bytes(8 * self._size))
        self._bad = array("Q", bytes(8 * self._size))
        self._at = -1

    def add(self, now: float, *, bad: bool) -> None:
        """Count a call."""
        place = self._advance(now)
        self._calls[place] += 1
        if bad:
            self._bad[place] += 1

    def sums(self, now: float, seconds: float) -> tuple[int, int]:
        """Calls, and bad ones among them, of the last ``seconds`` and what the bucket before them began with."""
        self._advance(now)
        count = min(int(seconds / self._bucket) + 1, self._size)
        end = self._at % self._size + 1
        return _sum(self._calls, end - count, end), _sum(self._bad, end - count, end)

    def _advance(self, now: float) -> int:
        at = int(now / self._bucket)
        if at > self._at:
            for gone in range(max(self._at + 1, at - self._size + 1), at + 1):
                self._calls[gone % self._size] = self._bad[gone % self._size] = 0
            self._at = at
        return self._at % self._size


def _sum(ring: array[int], begin: int, end: int) -> int:
    """The sum from ``begin``, which may lie before the start and so at the end, to ``end``."""
    return sum(ring[begin:end]) if begin >= 0 else sum(ring[begin:]) + sum(ring[:end])


class Ledger:
    """One objective of one route: pure bookkeeping.  Used under its owner's lock; times are monotonic seconds."""

    def __init__(self, route: str, objective: Kind, target: float, within: float | None, now: float) -> None:
        self.route = route
        self.objective: Kind = objective
        self.target: float = target
        self.within: float | None = within
        self._fine = Ring(_FINE, _FINE_SPAN)
        self._coarse = Ring(_COARSE, PERIOD)
        self._since = now

    def add(self, now: float, *, bad: bool) -> None:
        """Count a call."""
        self._fine.add(now, bad=bad)
        self._coarse.add(now, bad=bad)

    def status(self, now: float) -> ObjectiveStatus:
        """How it stands."""
        sums = {name: self._sums(now, seconds) for name, seconds in WINDOWS.items()}
        calls, bad = self._sums(now, PERIOD)
        allowed = 1.0 - self.target
        return ObjectiveStatus(
            self.route,
            self.objective,
            self.target,
            self.within,
            calls,
            bad,
            1.0 - bad / calls if calls else None,
            1.0 - bad / (allowed * calls) if calls else 1.0,
            {name: self._rate(*found) for name, found in sums.items()},
            self._burning(now),
        )

    def _burning(self, now: float) -> Severity | None:
        """The severity of the first rule that is met.  Before its short window has passed, none is: a few calls after
        the start are no rate."""
        for rule in RULES:
            if now - self._since < rule.short:
                continue
            long, short = self._sums(now, rule.long), self._sums(now, rule.short)
            if long[1] >= _LEAST_BAD and min(self._rate(*long), self._rate(*short)) >= rule.factor:
                return rule.severity
        return None

    def _sums(self, now: float, seconds: float) -> tuple[int, int]:
        return (self._fine if seconds <= _FINE_SPAN else self._coarse).sums(now, seconds)

    def _rate(self, calls: int, bad: int) -> float:
        return bad / calls / (1.0 - self.target) if calls else 0.0
