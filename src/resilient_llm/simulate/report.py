"""What a run looked like to the callers, and the tables that say so."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from resilient_llm.policy import Policies
from resilient_llm.simulate.client import A, Client, Layout, Production
from resilient_llm.simulate.providers import Provider
from resilient_llm.simulate.schedules import Schedule
from resilient_llm.simulate.strategies import PLAIN, PlainTry
from resilient_llm.simulate.world import Ended, World

LAYOUTS: Final = ("tier", "tiers")
"""All providers in one tier, or each in a tier of its own."""


class Figures(NamedTuple):
    """One strategy on one schedule.  Seconds; ``nan`` where there is nothing to measure.

    ``available`` is the share of callers answered, ``p50``, ``p99`` and ``worst`` their time to the first token, all
    during the fault (the whole run if it is everybody's); ``attempts`` per call over the whole run outside total
    outages, ``share`` of the failing provider's attempts during the fault, ``back`` how long after its end it
    has half its usual share again, ``first`` how long until the first call is answered.
    """

    strategy: str
    available: float
    p50: float
    p99: float
    worst: float
    attempts: float
    share: float
    back: float
    first: float
    overall: float


def lay(providers: Sequence[Provider], layout: str) -> Layout:
    """Providers in one of the :data:`LAYOUTS`."""
    return [list(providers)] if layout == "tier" else [[provider] for provider in providers]


def measure(schedule: Schedule, layout: str, strategy: str, seeds: Iterable[int] = (1,)) -> Figures:
    """Run a strategy (``production`` or one of :data:`PLAIN`) and say how it went."""
    runs = [_one(schedule, layout, strategy, seed) for seed in seeds]
    return Figures(strategy, *(_mean([run[i] for run in runs]) for i in range(1, len(Figures._fields))))


def _mean(values: Sequence[object]) -> float:
    numbers = [value for value in values if isinstance(value, float) and not math.isnan(value)]
    return sum(numbers) / len(numbers) if numbers else math.nan


def _one(schedule: Schedule, layout: str, strategy: str, seed: int) -> Figures:
    providers = schedule.providers()
    tiers = lay(providers, layout)
    if strategy == "production":
        real = World([Production(tiers, Policies(), seed)], schedule.load(), seed).run(schedule.seconds)
        return _figures(schedule, layout, strategy, real, providers)
    clients: list[Client[PlainTry]] = [PLAIN[strategy](tiers, seed)]
    return _figures(schedule, layout, strategy, World(clients, schedule.load(), seed).run(schedule.seconds), providers)


def _figures(schedule: Schedule, layout: str, strategy: str, world: World[A], providers: Sequence[Provider]) -> Figures:
    start, end = schedule.fault
    hurt = [call for call in world.ended if start <= call.started < end]
    told = [call for call in world.ended if not (schedule.total and start - 60 <= call.started < end)]
    waits = sorted(call.first for call in hurt if call.ok)
    during = {name: bisect_left(times, end) - bisect_left(times, start) for name, times in world.asked.items()}
    usual = 1 / len(providers) if layout == "tier" else 1.0
    after = [
        call.ended for call in world.ended if call.ok and call.first < math.inf and call.started + call.first >= end
    ]
    answers = [call.started + call.first - end for call in world.ended if call.ok and call.started + call.first >= end]
    return Figures(
        strategy,
        _share(hurt, lambda call: call.ok),
        _quantile(waits, 0.5),
        _quantile(waits, 0.99),
        waits[-1] if waits else math.nan,
        sum(call.attempts for call in told) / max(1, len(told)),
        during.get("a", 0) / max(1, sum(during.values())),
        _back(world, end, usual) if after and end < schedule.seconds else math.nan,
        min(answers, default=math.nan),
        _share(world.ended, lambda call: call.ok),
    )


def _share(calls: Sequence[Ended], holds: Callable[[Ended], bool]) -> float:
    return sum(map(holds, calls)) / len(calls) if calls else math.nan


def _quantile(values: Sequence[float], share: float) -> float:
    return values[min(len(values) - 1, int(share * len(values)))] if values else math.nan


def _back(world: World[A], since: float, usual: float) -> float:
    """Seconds after ``since`` until ``a`` has half its usual share of twenty attempts in a row."""
    times = sorted((at, name) for name, ats in world.asked.items() for at in ats if at >= since)
    for index in range(len(times) - 19):
        window = times[index : index + 20]
        if sum(name == "a" for _, name in window) >= 20 * usual / 2:
            return next(at for at, name in window if name == "a") - since
    return math.inf


class Verdict(NamedTuple):
    """How production did against the goals: at least 99 % of the oracle's answers, at most 1.05 attempts a call
    outside total outages, a 99th percentile within 1.5 times the oracle's."""

    goodput: bool
    attempts: bool
    tail: bool

    def __str__(self) -> str:
        missed = [name for name, good in zip(self._fields, self, strict=True) if not good]
        return f"misses {', '.join(missed)}" if missed else "meets all goals"


def judge(production: Figures, oracle: Figures) -> Verdict:
    """Compare production with the oracle."""
    return Verdict(
        math.isnan(oracle.available) or production.available >= 0.99 * oracle.available,
        production.attempts <= max(1.05, 1.02 * oracle.attempts),  # where everybody fails, so does the oracle's first
        math.isnan(oracle.p99) or math.isnan(production.p99) or production.p99 <= 1.5 * oracle.p99,
    )


_HEAD: Final = "| strategy | answered | p50 s | p99 s | worst s | attempts a call | share of a | back after s |"


def table(figures: Iterable[Figures]) -> str:
    """The figures as a Markdown table."""
    lines = [_HEAD, "|---|" + "---|" * 7]
    for one in figures:
        lines.append(
            f"| {one.strategy} | {_percent(one.available)} | {one.p50:.2f} | {one.p99:.2f} | {one.worst:.1f} "
            f"| {one.attempts:.3f} | {_percent(one.share)} | {_seconds(one.back)} |"
        )
    return "\n".join(lines)


HEAD: Final = (
    "| schedule | tier | answered: we / oracle | p99 s: we / oracle | worst s | attempts a call | share of `a` "
    "| back after s | missed |"
)
"""The head of a table of schedules."""


def row(name: str, layout: str, mine: Figures, oracle: Figures) -> str:
    """One schedule, production beside the oracle, as a row of a Markdown table."""
    verdict = judge(mine, oracle)
    missed = ", ".join(name for name, good in zip(verdict._fields, verdict, strict=True) if not good)
    where = "one" if layout == "tier" else "each its own"
    cells = (
        f"`{name}`",
        where,
        f"{_percent(mine.available)} / {_percent(oracle.available)}",
        f"{_number(mine.p99, 2)} / {_number(oracle.p99, 2)}",
        _number(mine.worst, 1),
        f"{mine.attempts:.3f}",
        f"{100 * mine.share:.1f} %",
        _seconds(mine.back),
        missed,
    )
    return f"| {' | '.join(cells)} |"


def _number(value: float, digits: int) -> str:
    return "" if math.isnan(value) else f"{value:.{digits}f}"


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _seconds(value: float) -> str:
    return "never" if value == math.inf else "" if math.isnan(value) else f"{value:.0f}"
