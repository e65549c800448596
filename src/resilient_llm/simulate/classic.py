"""Fault schedules that the literature and other systems are measured by.

Times are seconds.  ``hurt`` are the troubles of the provider ``a`` (the preferred one where there are tiers); ``all``
those of everybody.  The figures of earlier prototypes stand beside each as ``reference``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from resilient_llm.simulate.allowance import Allowance
from resilient_llm.simulate.providers import Nature, Trouble
from resilient_llm.simulate.schedule import Schedule, drifting, during, flapping


def _timevarying(every: float) -> Schedule:
    """Everybody's speed changes fivefold, independently.  The intervals of absim, a thousand times as long."""
    return Schedule(
        name=f"timevarying-{every:.0f}",
        what=f"each of ten is as fast as ever or five times slower, drawn anew every {every:.0f} s; 5 calls a second",
        rate=5.0,
        seconds=1800.0,
        fault=(0.0, 1800.0),
        drift=every,
        count=10,
    )


def _heterogeneous(slow: int, speed: float) -> Schedule:
    """``slow`` of ten have ``speed`` of the others' speed and capacity; the load is 70 % of what all can carry."""
    return Schedule(
        name=f"heterogeneous-{10 * slow}-{100 * speed:.0f}",
        what=f"{slow} of ten have {speed:.0%} of the speed and capacity of the others; load 0.7 of all capacity",
        rate=0.7 * (slow * speed + 10 - slow),
        seconds=900.0,
        fault=(0.0, 900.0),
        nature=Nature(rate=1.0),
        hurt_nature=Nature(first_token=0.6 / speed, rate=speed),
        hurt_count=slow,
        count=10,
    )


def _pair(schedule: Schedule) -> list[Schedule]:
    """The same at one call a second for an hour, and at one in ten seconds for four."""
    slow = tuple(t._replace(start=t.start * 4, end=t.end * 4) for t in schedule.hurt)
    fault = (schedule.fault[0] * 4, schedule.fault[1] * 4)
    low = Schedule(
        name=f"{schedule.name}-slowly",
        what=f"{schedule.what}, at one call in ten seconds",
        seconds=14400.0,
        rate=0.1,
        fault=fault,
        hurt=slow,
        reference=schedule.reference,
    )
    return [schedule, low]


_ONE_OF_THREE: Final = [
    Schedule(
        name="fast500",
        what="one of three answers 500 at once",
        hurt=during("error"),
        reference="share 3.1 %, 1.013 attempts; closed again 22-39 s after recovery",
    ),
    Schedule(
        name="fast429",
        what="one of three answers 429 at once, without a hint",
        hurt=during("429"),
        reference="share 4.0 %, 1.016 attempts",
    ),
    Schedule(
        name="err30",
        what="one of three fails 30 % of its calls",
        hurt=during("error", rate=0.3),
        reference="share 9.3 %, 1.014 attempts",
    ),
    Schedule(
        name="slow10",
        what="one of three is ten times slower",
        hurt=during("slow"),
        reference="share 3.5 %, p99 2.5 s, 1.006 attempts; back after 90 s",
    ),
    Schedule(
        name="hang",
        what="one of three hangs",
        hurt=during("hang"),
        reference="share 2.1 %, p99 2.4 s, worst 3.8 s, 0.28 % extra",
    ),
    Schedule(
        name="hang50",
        what="one of three hangs in half of its calls",
        hurt=during("hang", rate=0.5),
        reference="p99 3.9 s, worst 13.5 s, 1.7 % extra (0.1/s)",
    ),
    Schedule(
        name="flap20",
        what="one of three is down for 20 s in every 40",
        hurt=flapping("error", 900.0, 1800.0, 20.0),
    ),
    Schedule(name="refused", what="one of three refuses connections", hurt=during("refuse")),
    Schedule(
        name="overloaded",
        what="one of three has no room (529 with a hint of 5 s)",
        hurt=during("overloaded", retry_after=5.0),
    ),
]

_OTHERS: Final = [
    Schedule(
        name="temporaryfailure",
        what="one of ten fails from 10 to 25 s, 20 calls a second",
        seconds=60.0,
        rate=20.0,
        fault=(10.0, 25.0),
        hurt=during("error", 10.0, 25.0),
        count=10,
    ),
    Schedule(
        name="permanentfailure",
        what="one of ten fails from 10 s on, 20 calls a second",
        seconds=60.0,
        rate=20.0,
        fault=(10.0, 60.0),
        hurt=during("error", 10.0, 60.0),
        count=10,
    ),
    Schedule(
        name="slowmiddle",
        what="one of ten is ten times slower from 15 to 45 s, 20 calls a second",
        seconds=60.0,
        rate=20.0,
        fault=(15.0, 45.0),
        hurt=during("slow", 15.0, 45.0),
        count=10,
    ),
    Schedule(
        name="coldstart",
        what="one of ten warms up: ten times slower falling to normal in 10 s, again slow from 19 to 23 s",
        seconds=60.0,
        rate=20.0,
        fault=(0.0, 23.0),
        hurt=(
            Trouble(0.0, 2.0, "slow", factor=5.0),
            Trouble(2.0, 5.0, "slow", factor=3.0),
            Trouble(5.0, 10.0, "slow", factor=1.5),
            Trouble(19.0, 23.0, "slow"),
        ),
        count=10,
    ),
    Schedule(
        name="timevarying",
        what="one of three changes its speed fivefold every 100 s",
        hurt=drifting(1, 3600.0, 100.0),
        fault=(0.0, 3600.0),
    ),
    Schedule(
        name="heterogeneous",
        what="one of three is always twice as slow",
        hurt_nature=Nature(first_token=1.2),
        fault=(0.0, 3600.0),
    ),
    Schedule(
        name="stragglers",
        what="one answer in twenty begins ten times later, everywhere",
        nature=Nature(straggler=0.05),
        fault=(0.0, 3600.0),
    ),
    Schedule(
        name="bimodal-ttft",
        what="a fifth of the answers begins 2 s later (prompt cache missed), everywhere",
        nature=Nature(second_hump=0.2, hump=2.0),
        fault=(0.0, 3600.0),
    ),
    Schedule(
        name="latency-table",
        what="first tokens by a table: least 0.2 s, p50 0.5, p90 1.2, p95 2, p99 5, p999 15, p9999 40, everywhere",
        nature=Nature(first_token=0.5, table=(0.2, 0.5, 1.2, 2.0, 5.0, 15.0, 40.0)),
        fault=(0.0, 3600.0),
    ),
    Schedule(name="heavytail", what="sigma 0.9 everywhere", nature=Nature(sigma=0.9), fault=(0.0, 3600.0)),
    Schedule(
        name="midstream",
        what="one of three breaks its streams in the middle, half of them",
        hurt=during("break", rate=0.5),
    ),
    Schedule(
        name="stall", what="one of three stalls after its first token, half the time", hurt=during("stall", rate=0.5)
    ),
    Schedule(
        name="drip",
        what="one of three writes a token in 29 s: never silent for long, never done by the deadline",
        hurt=during("drip"),
    ),
    Schedule(
        name="whole-hang",
        what="one of three hangs, answers are asked for as a whole",
        hurt=during("hang"),
        streaming=0.0,
    ),
    Schedule(
        name="hint20",
        what="one of three answers 429 with Retry-After: 20",
        hurt=during("429", retry_after=20.0),
    ),
    Schedule(
        name="hint3600",
        what="one of three answers 429 with Retry-After: 3600",
        hurt=during("429", retry_after=3600.0),
    ),
    Schedule(
        name="per-minute",
        what="everybody allows 15 calls a minute and says what is left; 0.5 calls a second come",
        rate=0.5,
        nature=Nature(allowance=Allowance(requests=15, dialect="window")),
        fault=(0.0, 3600.0),
    ),
    Schedule(
        name="quota-exhausted",
        what="one of three is out of quota for an hour",
        seconds=7200.0,
        fault=(900.0, 4500.0),
        hurt=during("quota", 900.0, 4500.0),
        reference="at most one probe a minute, falling to one an hour",
    ),
    Schedule(
        name="alldown120",
        what="everybody answers 500 for two minutes",
        seconds=1200.0,
        fault=(300.0, 420.0),
        all=during("error", 300.0, 420.0),
        total=True,
        reference="first answer 1.1-2.1 s after recovery",
    ),
    Schedule(
        name="alldown1200",
        what="everybody answers 500 for twenty minutes",
        seconds=3000.0,
        fault=(900.0, 2100.0),
        all=during("error", 900.0, 2100.0),
        total=True,
        reference="first answer 0.7 s after recovery; 1.82 attempts",
    ),
    Schedule(
        name="allhang120",
        what="everybody hangs for two minutes",
        seconds=1200.0,
        fault=(300.0, 420.0),
        all=during("hang", 300.0, 420.0),
        total=True,
    ),
    Schedule(
        name="gc-burst",
        what="everybody fails 20 % of its calls",
        all=during("error", rate=0.2),
        reference="attempts saturate at 1 + the budgets' ratios",
    ),
    *(_timevarying(every) for every in (10.0, 50.0, 100.0, 200.0, 300.0, 500.0)),
    *(_heterogeneous(slow, speed) for slow in (3, 5, 7) for speed in (0.8, 0.5, 0.3)),
]


_MISSED: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "alldown120": (("oracle", "waiting behind a total outage ends after 10 s"),),
    "alldown1200": (("oracle", "waiting behind a total outage ends after 10 s"),),
    "allhang120": (("oracle", "waiting behind a total outage ends after 10 s"),),
}

_LOSSES: Final = {"midstream": 25, "stall": 25, "drip": 150}
"""What streams that break after content cost until their provider is found out, and while it is tested."""

CLASSIC: Final = tuple(
    replace(
        schedule,
        classic=True,
        layouts=("tier", "tiers"),
        losses=_LOSSES.get(schedule.name, 0),
        waived=_MISSED.get(schedule.name, ()),
    )
    for schedule in [*(s for one in _ONE_OF_THREE for s in _pair(one)), *_OTHERS]
)
