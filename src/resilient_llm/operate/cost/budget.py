"""How much may be spent in a period, and what happens when it is spent."""

from __future__ import annotations

import logging
import math
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, NamedTuple, TypeAlias, get_args

from resilient_llm.errors import ConfigurationError
from resilient_llm.operate.cost.ledger import Entry

Period: TypeAlias = Literal["hour", "day", "month"]
WhenSpent: TypeAlias = Literal["fail", "warn", "cheaper"]
_SECONDS: Final = {"hour": 3600.0, "day": 86400.0}

_log = logging.getLogger("resilient_llm.operate")


@dataclass(frozen=True, slots=True)
class Budget:
    """``amount`` (in the currency of the prices) for each ``period``: ``"hour"``, ``"day"`` or ``"month"`` of the
    calendar (UTC), or a number of seconds.

    ``when_spent`` says what happens to later calls of the period: ``"fail"`` (they end with ``NoProviderAvailable``,
    whose ``retry_after`` is when the period ends, or with their ``fallback=``), ``"warn"`` (a warning is logged, once)
    or ``"cheaper"`` (only the providers that cost least are asked).  ``route``: only calls of this route count, and
    only they are held back; ``provider``: only what is spent at this one, and only it is passed over; ``None``: all.
    A warning is logged in each case.

    Checked when a call begins: what is under way then may exceed it by its cost.  Each process counts for itself.

    Raises ``ConfigurationError`` for an amount or a period that makes no sense.
    """

    amount: float
    period: Period | float = "day"
    when_spent: WhenSpent = "fail"
    route: str | None = None
    provider: str | None = None

    def __post_init__(self) -> None:
        amount, period = self.amount, self.period
        if isinstance(amount, bool) or not isinstance(amount, int | float) or not 0 < amount < math.inf:
            raise ConfigurationError(f"Budget.amount must be a number above 0, not {amount!r}")
        number = isinstance(period, int | float) and not isinstance(period, bool) and 1.0 <= period < math.inf
        if period not in get_args(Period) and not number:
            raise ConfigurationError(
                f"Budget.period must be 'hour', 'day', 'month' or seconds from 1 on, not {period!r}"
            )
        if self.when_spent not in get_args(WhenSpent):
            raise ConfigurationError(f"Budget.when_spent must be 'fail', 'warn' or 'cheaper', not {self.when_spent!r}")
        if self.when_spent == "cheaper" and self.provider is not None:
            raise ConfigurationError("Budget: 'cheaper' is about all providers of a route, not about one of them")

    @property
    def name(self) -> str:
        """What it is called in alerts: the amount, the period, and whose it is."""
        at = "".join(f" at {one!r}" for one in (self.route, self.provider) if one is not None)
        every = self.period if isinstance(self.period, str) else f"{self.period:g} s"
        return f"of {self.amount:g} per {every}{at}"

    def __str__(self) -> str:
        return f"the budget {self.name}"


class Span(NamedTuple):
    """When a period began and ends, in seconds of wall-clock time."""

    begin: float
    end: float


def period_at(period: Period | float, now: float) -> Span:
    """The period of a kind that a moment is in."""
    if period == "month":
        moment = datetime.fromtimestamp(now, UTC)
        first = moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        after = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
        return Span(first.timestamp(), after.timestamp())
    length = _SECONDS[period] if isinstance(period, str) else float(period)
    begin = math.floor(now / length) * length
    return Span(begin, begin + length)


@dataclass(frozen=True, slots=True)
class BudgetState:
    """How a budget stands.  ``left`` is never below 0; ``ends_in`` is seconds until it starts anew."""

    budget: Budget
    spent: float
    left: float
    ends_in: float

    @property
    def is_spent(self) -> bool:
        """Whether nothing is left."""
        return self.left <= 0.0


class Budgeted:
    """A budget, and what was spent of it.  Safe for threads."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self._lock = threading.Lock()
        self._period = Span(0.0, 0.0)
        self._spent = 0.0
        self._warned = False

    def write(self, entry: Entry, now: float) -> None:
        """An attempt was billed."""
        budget, account = self.budget, entry.account
        if budget.route not in (None, account.route) or budget.provider not in (None, account.provider):
            return
        with self._lock:
            self._turn(now)
            self._spent += entry.cost or 0.0

    def state(self, now: float) -> BudgetState:
        """How it stands."""
        with self._lock:
            self._turn(now)
            left = max(0.0, self.budget.amount - self._spent)
            return BudgetState(self.budget, self._spent, left, self._period.end - now)

    def spent(self, now: float) -> str | None:
        """Why calls are held back, if they are; warns about it once a period."""
        state = self.state(now)
        if not state.is_spent:
            return None
        told = f"{self.budget} is spent ({state.spent:.4g}); it starts anew in {state.ends_in:.0f} s"
        with self._lock:
            warned, self._warned = self._warned, True
        if not warned:
            _log.warning("%s", told)
        return told

    def _turn(self, now: float) -> None:
        """Begin a new period if the old one is over (or the clock was set back)."""
        if not self._period.begin <= now < self._period.end:
            self._period = period_at(self.budget.period, now)
            self._spent, self._warned = 0.0, False

    def reset_after_fork(self) -> None:
        """In the child: count from nothing."""
        self._lock = threading.Lock()
        self._spent, self._warned = 0.0, False
