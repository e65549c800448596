"""What is demanded of the production core on each schedule, and whether it holds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final, NamedTuple

from resilient_llm.simulate.report import Figures, measure, number, percent, seconds
from resilient_llm.simulate.schedule import Schedule

GOALS: Final[dict[str, str]] = {
    "sdk": "no fewer calls answered than an SDK with two retries has answered by the best single provider; the two "
    "shares of answered calls may differ by chance: 2.5 standard errors, or one call in a thousand",
    "oracle": "at least 99 % of the oracle's answers during the fault, the same chance allowed for",
    "back": "the traffic of a provider that was down for L seconds is back max(2, min(L, 15)) s and three intervals "
    "between calls after its return, or sooner where the schedule says so",
    "attempts": "from ten calls a second on, while somebody is well: at most 1.05 attempts a call, 1.02 where only the "
    "preferred provider is down for good; on the classic schedules 1.05 from one call a second on, below 1.15",
    "share": "at most 5 % of the calls go to a half-broken provider",
    "tail": "on the classic schedules a 99th percentile of the time to the first token within 1.5 times the oracle's",
    "answered": "as many calls answered as the schedule demands",
    "broken": "no more of the first fourteen calls lost to a provider than the schedule allows",
    "regret": "no more seconds than the schedule allows in which the preferred provider was well and not used",
}

_ERRORS: Final = 2.5
"""Standard errors that are chance."""
_LEAST: Final = 0.001
"""A difference between shares that is chance in any case."""


class Compared(NamedTuple):
    """A schedule in a layout: the production core, an SDK at the best provider, the oracle, and the goals missed."""

    name: str
    layout: str
    mine: Figures
    sdk: Figures
    oracle: Figures
    missed: tuple[str, ...]


def compare(schedule: Schedule, layout: str, seeds: int) -> Compared:
    """Run all three on the same seeds."""
    runs = range(1, (schedule.seeds or seeds) + 1)
    mine, sdk, oracle = (measure(schedule, layout, who, runs) for who in ("production", "sdk", "oracle"))
    missed = judge(schedule, mine, sdk, oracle, len(runs))
    return Compared(schedule.name, layout, mine, sdk, oracle, missed)


def judge(schedule: Schedule, mine: Figures, sdk: Figures, oracle: Figures, runs: int) -> tuple[str, ...]:
    """The names of the goals that are missed."""
    waived = {name for name, _ in schedule.waived}
    return tuple(name for name, held in _verdicts(schedule, mine, sdk, oracle, runs) if not held and name not in waived)


def chance(mine: float, other: float, calls: float) -> float:
    """By how much two shares of so many calls each may differ."""
    spread = math.sqrt((mine * (1.0 - mine) + other * (1.0 - other)) / max(1.0, calls))
    return max(_LEAST, _ERRORS * spread)


def _verdicts(
    schedule: Schedule, mine: Figures, sdk: Figures, oracle: Figures, runs: int
) -> Iterator[tuple[str, bool]]:
    want, calls = schedule.want, mine.calls * runs
    ours, theirs = mine.answered / mine.calls, sdk.answered / sdk.calls
    losses = schedule.losses / mine.calls
    yield "sdk", ours >= theirs - chance(ours, theirs, calls) - losses
    if not math.isnan(oracle.available):
        begin, end = schedule.fault
        during = calls * (min(end, schedule.seconds) - begin) / schedule.seconds
        margin = chance(mine.available, oracle.available, during) + schedule.losses / max(1.0, during / runs)
        yield "oracle", mine.available >= 0.99 * oracle.available - margin
    if schedule.outage is not None:
        yield "back", mine.back <= _back_within(schedule) + 1e-6
    bound = _most_attempts(schedule, oracle)
    yield "attempts", mine.attempts <= bound
    if schedule.half_broken:
        yield "share", mine.share <= 0.05
    if schedule.classic and not math.isnan(oracle.p99) and not math.isnan(mine.p99):
        yield "tail", mine.p99 <= 1.5 * oracle.p99
    if want.answered is not None:
        yield "answered", mine.available >= want.answered - 1e-9
    if want.broken is not None:
        yield "broken", mine.broken <= want.broken
    if want.regret is not None:
        yield "regret", mine.regret <= want.regret + oracle.regret


def _back_within(schedule: Schedule) -> float:
    assert schedule.outage is not None
    length = schedule.outage[1] - schedule.outage[0]
    usual = max(2.0, min(length, 15.0)) + 3.0 / schedule.rate
    return usual if schedule.want.back is None else min(usual, schedule.want.back)


def _most_attempts(schedule: Schedule, oracle: Figures) -> float:
    if schedule.want.attempts is not None:
        return schedule.want.attempts
    if schedule.rate >= 10.0 and schedule.well:
        return 1.02 if schedule.for_good else 1.05
    if schedule.classic:
        # Where everybody fails, so does the oracle's first; a trial in 15 s is a share of one call in ten seconds.
        return max(1.05 if schedule.rate >= 1.0 else 1.15, 1.02 * oracle.attempts)
    return math.inf


HEAD: Final = (
    "| schedule | tier | answered: we / SDK / oracle | attempts a call | p99 s: we / oracle | share of `a` "
    "| back after s | regret s | hedges, trials | missed |"
)
"""The head of a table of schedules."""


def row(one: Compared) -> str:
    """One schedule as a row of a Markdown table."""
    mine = one.mine
    cells = (
        f"`{one.name}`",
        "one" if one.layout == "tier" else "each its own",
        f"{percent(mine.answered / mine.calls)} / {percent(one.sdk.answered / one.sdk.calls)} / "
        f"{percent(one.oracle.answered / one.oracle.calls)}",
        f"{mine.attempts:.3f}",
        f"{number(mine.p99, 2)} / {number(one.oracle.p99, 2)}",
        f"{100 * mine.share:.1f} %",
        seconds(mine.back),
        number(mine.regret - one.oracle.regret, 1),
        f"{100 * mine.hedges:.1f}, {100 * mine.trials:.1f} %",
        ", ".join(one.missed),
    )
    return f"| {' | '.join(cells)} |"


def line(one: Compared) -> str:
    """One schedule in a line of plain text."""
    mine, sdk, oracle = one.mine, one.sdk, one.oracle
    verdict = f"MISSES {', '.join(one.missed)}" if one.missed else "ok"
    return (
        f"{one.name:20} {one.layout:5} {mine.answered:8.1f} {sdk.answered:8.1f} {oracle.answered:8.1f} of "
        f"{mine.calls:8.1f}  att {mine.attempts:.3f}/{sdk.attempts:.3f}/{oracle.attempts:.3f} "
        f"p99 {mine.p99:5.2f}/{oracle.p99:5.2f} share {mine.share:.3f} back {seconds(mine.back):>6} "
        f"regret {mine.regret - oracle.regret:6.1f} waste {mine.hedges:.3f}+{mine.trials:.3f}  {verdict}"
    )
