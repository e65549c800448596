"""Providers as a client experiences them: how long they take, what they refuse, how they break.

A model, so it orders designs; it does not predict a vendor.  Times to the first token are lognormal and grow with the
prompt, answers arrive token by token, capacity is a queue, rate limits are windows.  What happens to an attempt is
decided when it arrives (:meth:`Provider.serve`), which makes a simulated attempt one or two events instead of one per
token.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from math import exp, inf
from typing import Final, NamedTuple, final

from resilient_llm.faults import Fault, FaultKind
from resilient_llm.policy import KeyTerms
from resilient_llm.simulate.allowance import Allowance, Headroom, Meters

PROMPT_SCALE: Final = 4000.0
"""Prompt tokens that double the time to the first token."""

TABLE: Final = (0.0, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0)
"""The quantiles of a latency table: least, p50, p90, p95, p99, p999, and p9999 as the last, as in finagle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Nature:
    """What a healthy provider is like.  Seconds and tokens.

    ``first_token`` is the median for an empty prompt, ``sigma`` its spread (of the logarithm); a ``straggler`` share of
    answers starts ten times later, a ``second_hump`` share ``hump`` seconds later (a missed prompt cache).
    ``rate`` (answers a second, ``None``: unlimited) is the capacity of a queue that refuses with 529 what would wait
    longer than ``patience``.  ``allowance`` is a rate limit that answers 429.  Streams pause for a few tokens' time now
    and then, a share ``lulls`` of them once for ``lull`` seconds.
    ``table`` replaces the lognormal by the seconds at :data:`TABLE` (finagle's latency profile), uniform in between;
    ``first_token`` should then be its median.
    """

    first_token: float = 0.6
    sigma: float = 0.5
    pace: float = 0.02
    straggler: float = 0.0
    second_hump: float = 0.0
    hump: float = 0.0
    rate: float | None = None
    patience: float = 60.0
    allowance: Allowance | None = None
    lulls: float = 0.0
    lull: float = 0.0
    table: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.table is not None and (len(self.table) != len(TABLE) or list(self.table) != sorted(self.table)):
            raise ValueError(f"a table is {len(TABLE)} rising times, one at each of {TABLE}, not {self.table!r}")

    def begin(self, dice: random.Random) -> float:
        """Seconds to the first token of an answer to an empty prompt."""
        if self.table is None:
            return self.first_token * exp(self.sigma * dice.gauss(0.0, 1.0))
        place = dice.random()
        part = max(1, bisect_left(TABLE, place))
        low, high = self.table[part - 1 : part + 1]
        return low + (high - low) * (place - TABLE[part - 1]) / (TABLE[part] - TABLE[part - 1])


class Trouble(NamedTuple):
    """From ``start`` to ``end`` a share ``rate`` of attempts meets ``kind`` (see :data:`KINDS`).

    ``after`` seconds pass before the failure shows; ``factor`` is how much slower ``slow`` is, or what is left of the
    capacity for ``shrink``; ``retry_after`` the hint given with a refusal.
    """

    start: float
    end: float
    kind: str
    rate: float = 1.0
    after: float = 0.05
    factor: float = 10.0
    retry_after: float | None = None


_FAULTS: Final[dict[str, Fault]] = {
    "error": Fault(FaultKind.SERVER_ERROR, status=500),
    "refuse": Fault(FaultKind.CONNECTION, code="not_sent"),
    "reset": Fault(FaultKind.CONNECTION),
    "stale": Fault(FaultKind.CONNECTION),
    "429": Fault(FaultKind.RATE_LIMITED, status=429),
    "overloaded": Fault(FaultKind.OVERLOADED, status=529),
    "auth": Fault(FaultKind.AUTH, status=401),
    "quota": Fault(FaultKind.QUOTA_EXHAUSTED, status=429, code="insufficient_quota"),
    "break": Fault(FaultKind.CONNECTION, status=200),
    "reject": Fault(FaultKind.BAD_REQUEST, status=400),
    "conflict": Fault(FaultKind.CONFLICT, status=409),
}

_DRIP: Final = 29.0
"""Seconds between two tokens of a drip: just below the usual limit on silence."""

KINDS: Final = frozenset({*_FAULTS, "hang", "stuck", "slow", "stall", "drip", "shrink"})
"""``error`` 500, ``refuse`` connection refused, ``reset`` before an answer, ``429``, ``overloaded`` 529, ``quota``,
``auth`` 401 for a valid key, ``break`` in mid-stream, ``reject`` 400, ``conflict`` 409, ``hang`` without a sign of
life, ``stuck``: hangs on a connection that was kept, answers over a new one, ``stale``: likewise, but the kept
connection is reset at once, ``slow``, ``stall`` after three tokens, ``drip``: a token in 29 s (never silent for long,
and never done), ``shrink`` of the capacity."""

_STALLS_AFTER: Final = 3
"""Tokens before a stall."""


def _fault(kind: str, retry_after: float | None) -> Fault:
    fault = _FAULTS[kind]
    if retry_after is None:
        return fault
    return Fault(fault.kind, retry_after=retry_after, status=fault.status, code=fault.code)


class Fate(NamedTuple):
    """What will become of an attempt, in seconds after its start.

    ``first`` is when the first token of a stream comes, ``done`` when all is over (``inf``: never); ``fault`` is how it
    ends, ``None`` for well.  ``last`` is when its last content comes if it stalls (``inf``: it does not), ``pause`` the
    longest pause between two pieces of content, ``stale`` says that it never left this machine: its connection was
    closed by the other side.
    """

    first: float
    done: float
    fault: Fault | None
    tokens: int
    last: float = inf
    pause: float = 0.0
    stale: bool = False


@final
class Provider:
    """One modelled provider; also the target a pool chooses."""

    __slots__ = (
        "_active",
        "_active_until",
        "_free_at",
        "_meters",
        "_troubles",
        "cache_seconds",
        "context_window",
        "id",
        "keys",
        "max_concurrency",
        "nature",
        "served",
        "weight",
    )

    def __init__(  # noqa: PLR0917
        self,
        name: str,
        nature: Nature | None = None,
        troubles: Iterable[Trouble] = (),
        weight: float = 1.0,
        max_concurrency: int | None = None,
        account: str | None = None,
    ) -> None:
        self.id: str = name
        self.weight: float = weight
        self.max_concurrency: int | None = max_concurrency
        self.keys: tuple[KeyTerms, ...] = (KeyTerms(account=account),)
        self.context_window: int | None = None
        self.cache_seconds: float | None = None
        self.nature: Nature = nature or Nature()
        self._troubles = sorted(troubles)
        for trouble in self._troubles:
            if trouble.kind not in KINDS:
                raise ValueError(f"there is no trouble {trouble.kind!r}; there are {', '.join(sorted(KINDS))}")
        self._active: tuple[Trouble, ...] = ()
        self._active_until = -inf
        self._free_at = -inf
        self._meters = None if self.nature.allowance is None else Meters(self.nature.allowance)
        self.served: int = 0
        """Attempts that arrived."""

    # --- what an oracle knows ---

    @property
    def ever_troubled(self) -> bool:
        """Whether anything is wrong with it at any time, a rate limit included."""
        return bool(self._troubles) or self._meters is not None

    @property
    def limited(self) -> bool:
        """Whether it has a rate limit."""
        return self._meters is not None

    @property
    def timetable(self) -> tuple[object, ...]:
        """What tells it from other providers."""
        return (self.nature, *self._troubles)

    def troubles(self, now: float) -> tuple[Trouble, ...]:
        """What is wrong at the moment."""
        if now >= self._active_until:
            self._active = tuple(t for t in self._troubles if t.start <= now < t.end)
            edges = [edge for t in self._troubles for edge in (t.start, t.end) if edge > now]
            self._active_until = min(edges, default=inf)
        return self._active

    def failing(self, now: float, tokens: int = 0) -> float:
        """The share of attempts begun now that would not be answered, with a prompt of so many tokens."""
        good = 1.0
        for trouble in self.troubles(now):
            if trouble.kind not in ("slow", "shrink", "stuck", "stale"):
                good *= 1.0 - trouble.rate
        if self._meters is not None and self._meters.wait(now, tokens) > 0.0:
            return 1.0
        return 1.0 - good

    def well(self, now: float) -> bool:
        """Whether nothing at all is wrong, as far as a client can tell."""
        return not self.troubles(now) and (self._meters is None or self._meters.wait(now, 1) <= 0.0)

    def changes_at(self, now: float, tokens: int = 0) -> float:
        """When something that keeps attempts from being answered may change next; ``inf``: never."""
        self.troubles(now)
        full = inf if self._meters is None else self._meters.wait(now, tokens)
        return min(self._active_until, now + full if full > 0.0 else inf)

    def slowness(self, now: float) -> float:
        """Expected seconds to the first token of an attempt begun now."""
        usual = self.nature.first_token
        for trouble in self.troubles(now):
            if trouble.kind == "slow":
                usual *= 1.0 + (trouble.factor - 1.0) * trouble.rate
        return usual + max(0.0, self._free_at - now)

    # --- an attempt arrives ---

    def serve(  # noqa: PLR0917
        self, now: float, prompt: int, output: int, streaming: bool, dice: random.Random, fresh: bool = False
    ) -> Fate:
        """Decide what becomes of an attempt that arrives now; ``fresh``: over a new connection."""
        self.served += 1
        nature = self.nature
        first = nature.begin(dice) * (1.0 + prompt / PROMPT_SCALE)
        if nature.straggler and dice.random() < nature.straggler:
            first *= 10.0
        if nature.second_hump and dice.random() < nature.second_hump:
            first += nature.hump
        if now >= self._active_until or self._active:
            for trouble in self.troubles(now):
                if trouble.rate < 1.0 and dice.random() >= trouble.rate:
                    continue
                if trouble.kind == "slow":
                    first *= trouble.factor
                elif trouble.kind in ("stuck", "stale"):
                    if not fresh:
                        return _kept(trouble)
                elif trouble.kind != "shrink":
                    pace = _DRIP if trouble.kind == "drip" else nature.pace
                    return _hurt(trouble, first, pace * output, streaming, dice)
        if self._meters is not None and not self._meters.admit(now, prompt):
            return Fate(inf, 0.05, _fault("429", self._meters.hint(now, prompt)), 0)
        if nature.rate is not None:
            wait = self._queue(now)
            if wait > nature.patience:
                return Fate(inf, 0.05, _FAULTS["overloaded"], 0)
            first += wait
        return self._well(first, output, streaming, dice)

    def _well(self, first: float, output: int, streaming: bool, dice: random.Random) -> Fate:
        nature = self.nature
        if not streaming:
            return Fate(inf, first + nature.pace * output, None, output)
        pause = nature.pace * (2.0 + 4.0 * dice.random())
        writing = nature.pace * output
        if nature.lulls and dice.random() < nature.lulls:
            pause = nature.lull
            writing += pause
        return Fate(first, first + writing, None, output, pause=pause)

    def headroom(self, now: float) -> Headroom | None:
        """What an answer tells of the rate limits; ``None`` for a provider that does not tell."""
        return None if self._meters is None else self._meters.told(now)

    def _queue(self, now: float) -> float:
        """Seconds this attempt waits for the server.  Work for a client that has hung up is done all the same: that is
        what keeps a retry storm alive."""
        rate = self.nature.rate or inf
        start = max(now, self._free_at)
        for trouble in self._troubles:
            if trouble.kind == "shrink" and trouble.start <= start < trouble.end:  # as it will be when it gets to it
                rate *= trouble.factor
        if start - now <= self.nature.patience:
            self._free_at = start + 1.0 / rate
        return start - now


def _kept(trouble: Trouble) -> Fate:
    """An attempt over a connection that was kept for too long."""
    if trouble.kind == "stale":
        return Fate(inf, 0.001, _FAULTS["stale"], 0, stale=True)
    return Fate(inf, inf, None, 0)


def _hurt(trouble: Trouble, first: float, writing: float, streaming: bool, dice: random.Random) -> Fate:
    kind = trouble.kind
    if kind == "hang":
        return Fate(inf, inf, None, 0)
    if kind == "stall":
        last = first + _STALLS_AFTER * 0.02
        return Fate(first if streaming else inf, inf, None, _STALLS_AFTER, last=last, pause=0.02)
    if kind == "drip":
        return Fate(first if streaming else inf, first + writing, None, round(writing / _DRIP), pause=_DRIP)
    if kind == "break":
        done = first + writing * dice.random()
        return Fate(first if streaming else inf, done, _FAULTS["break"], 0)
    return Fate(inf, trouble.after, _fault(kind, trouble.retry_after), 0)


def lognormal(dice: random.Random, median: float, sigma: float, high: float) -> int:
    """A whole number with this median, at least 1 and at most ``high``."""
    return max(1, int(min(high, median * math.exp(sigma * dice.gauss(0.0, 1.0)))))
