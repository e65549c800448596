"""What a run looked like to the callers, and the tables that say so."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from resilient_llm.policy import Policies
from resilient_llm.simulate.client import Client, Layout, Production
from resilient_llm.simulate.driver import Ended
from resilient_llm.simulate.providers import Provider
from resilient_llm.simulate.schedule import Schedule
from resilient_llm.simulate.strategies import PLAIN, PlainTry, Sdk
from resilient_llm.simulate.world import World

LAYOUTS: Final = ("tier", "tiers")
"""All providers in one tier, or each in a tier of its own."""
_FIRST: Final = 14
"""Calls looked at for :attr:`Figures.broken`."""


class Figures(NamedTuple):
    """One strategy on one schedule, the mean of some runs.  Seconds; ``nan`` where there is nothing to measure.

    ``calls`` of a run and how many were ``answered``.  During the fault: ``available`` is the share of callers
    answered, ``p50``, ``p99`` and ``worst`` their time to the first token, ``share`` the hurt provider's part of all
    attempts, ``broken`` how many of the first fourteen calls failed.  Over the whole run: ``attempts`` per call
    (outside total outages), ``regret`` (in which the preferred provider was well and a call did without it), ``hedges``
    and ``trials`` per call.  After the fault: ``back`` is how long until the hurt provider has its traffic again (in
    tiers: nine of ten calls in a row; in one tier: half its usual share of twenty attempts), ``first`` how long until
    the first call is answered.
    """

    strategy: str
    calls: float
    answered: float
    available: float
    p50: float
    p99: float
    worst: float
    attempts: float
    share: float
    broken: float
    back: float
    first: float
    regret: float
    hedges: float
    trials: float


def lay(providers: Sequence[Provider], layout: str) -> Layout:
    """Providers in one of the :data:`LAYOUTS`."""
    return [list(providers)] if layout == "tier" else [[provider] for provider in providers]


def measure(schedule: Schedule, layout: str, strategy: str, seeds: Iterable[int] = (1,)) -> Figures:
    """Run a strategy (``production`` or one of :data:`PLAIN`) and say how it went; an ``sdk`` at the provider where it
    fares best."""
    seeds = list(seeds)
    if strategy != "sdk":
        return _measure(schedule, layout, strategy, seeds)
    every = [_measure(schedule, layout, strategy, seeds, index) for index in _different(schedule)]
    return max(every, key=lambda figures: (figures.answered, -figures.attempts))


def _different(schedule: Schedule) -> list[int]:
    """Providers that are not the same as one before them; of many, the first three."""
    seen: list[tuple[object, ...]] = []
    found: list[int] = []
    for index, provider in enumerate(schedule.providers()):
        if provider.timetable not in seen:
            seen.append(provider.timetable)
            found.append(index)
    return found[:3]


def _measure(schedule: Schedule, layout: str, strategy: str, seeds: Sequence[int], at: int = 0) -> Figures:
    runs = [_one(schedule, layout, strategy, seed, at) for seed in seeds]
    return Figures(strategy, *(_mean([run[i] for run in runs]) for i in range(1, len(Figures._fields))))


def _mean(values: Sequence[object]) -> float:
    numbers = [value for value in values if isinstance(value, float) and not math.isnan(value)]
    return sum(numbers) / len(numbers) if numbers else math.nan


def _one(schedule: Schedule, layout: str, strategy: str, seed: int, at: int) -> Figures:
    providers = schedule.providers()
    tiers = lay(providers, layout)
    load, preferred = schedule.load(), providers[0] if layout == "tiers" else None
    if strategy == "production":
        real = World([Production(tiers, Policies(), seed)], load, seed, preferred=preferred)
        real.run(schedule.seconds, stops=schedule.stops)
        return _figures(schedule, layout, strategy, real.ended, real.asked)
    kind = PLAIN[strategy]
    clients: list[Client[PlainTry]] = [Sdk(tiers, seed, at) if kind is Sdk else kind(tiers, seed)]
    plain = World(clients, load, seed, preferred=preferred).run(schedule.seconds, stops=schedule.stops)
    return _figures(schedule, layout, strategy, plain.ended, plain.asked)


def _figures(
    schedule: Schedule, layout: str, strategy: str, ended: list[Ended], asked: dict[str, list[float]]
) -> Figures:
    start, end = schedule.fault
    ended.sort(key=lambda call: call.started)
    hurt = [call for call in ended if start <= call.started < end]
    told = [call for call in ended if not (schedule.total and start - 60 <= call.started < end)]
    waits = sorted(call.first for call in hurt if call.ok)
    during = {name: bisect_left(times, end) - bisect_left(times, start) for name, times in asked.items()}
    since = schedule.outage[1] if schedule.outage else end
    answers = [call.started + call.first - since for call in ended if call.ok and call.started + call.first >= since]
    count = max(1, len(ended))
    return Figures(
        strategy,
        float(len(ended)),
        float(sum(call.ok for call in ended)),
        _share(hurt, lambda call: call.ok),
        _quantile(waits, 0.5),
        _quantile(waits, 0.99),
        waits[-1] if waits else math.nan,
        sum(call.attempts for call in told) / max(1, len(told)),
        during.get("a", 0) / max(1, sum(during.values())),
        float(sum(not call.ok for call in hurt[:_FIRST])),
        _back(schedule, layout, ended, asked) if since < schedule.seconds else math.nan,
        min(answers, default=math.nan),
        sum(call.missed for call in ended) / schedule.rate,
        sum(call.hedges for call in ended) / count,
        sum(call.trials for call in ended) / count,
    )


def _share(calls: Sequence[Ended], holds: Callable[[Ended], bool]) -> float:
    return sum(map(holds, calls)) / len(calls) if calls else math.nan


def _quantile(values: Sequence[float], share: float) -> float:
    return values[min(len(values) - 1, int(share * len(values)))] if values else math.nan


def _back(schedule: Schedule, layout: str, ended: Sequence[Ended], asked: dict[str, list[float]]) -> float:
    since = schedule.outage[1] if schedule.outage else schedule.fault[1]
    if layout == "tiers":
        return _traffic_back([call for call in ended if call.started >= since], since)
    times = sorted((at, name) for name, ats in asked.items() for at in ats[bisect_left(ats, since) :])
    for index in range(len(times) - 19):
        window = times[index : index + 20]
        if sum(name == "a" for _, name in window) >= 10 / max(1, len(schedule.providers())):
            return next(at for at, name in window if name == "a") - since
    return math.inf


def _traffic_back(calls: Sequence[Ended], since: float) -> float:
    """Seconds until the first of ten calls nine of which begin at ``a``, the first included."""
    first = [call.asked.startswith("a") for call in calls]
    for index in range(len(calls) - 9):
        if first[index] and sum(first[index : index + 10]) >= 9:
            return calls[index].started - since
    return math.inf


_HEAD: Final = "| strategy | answered | p50 s | p99 s | worst s | attempts a call | share of a | back after s |"


def table(figures: Iterable[Figures]) -> str:
    """The figures as a Markdown table."""
    lines = [_HEAD, "|---|" + "---|" * 7]
    for one in figures:
        lines.append(
            f"| {one.strategy} | {percent(one.available)} | {one.p50:.2f} | {one.p99:.2f} | {one.worst:.1f} "
            f"| {one.attempts:.3f} | {percent(one.share)} | {seconds(one.back)} |"
        )
    return "\n".join(lines)


def number(value: float, digits: int) -> str:
    """A number, or nothing where there is none."""
    return "" if math.isnan(value) else f"{value:.{digits}f}"


def percent(share: float) -> str:
    """A share with two digits."""
    return "" if math.isnan(share) else f"{100 * share:.2f} %"


def seconds(value: float) -> str:
    """A duration that may be endless, or nothing where there is none."""
    return "never" if value == math.inf else "" if math.isnan(value) else f"{value:.1f}"
