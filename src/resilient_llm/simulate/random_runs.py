"""Random bad half minutes: one to three providers that drift between well, grey, down, hanging, slow and limited."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from resilient_llm.simulate.judge import chance
from resilient_llm.simulate.providers import Nature, Trouble
from resilient_llm.simulate.report import measure
from resilient_llm.simulate.schedule import Schedule

_SECONDS: Final = 30.0
_RATE: Final = 4.0
_STATES: Final = ("well", "well", "grey", "down", "hang", "slow", "limited")
_NATURE: Final = Nature(first_token=0.3, sigma=0.4, pace=0.01)
_RUNS: Final = 3
"""Times each half minute is lived through, with other luck."""


class Half(NamedTuple):
    """How one half minute went: calls in all its runs, and how many each had answered; attempts of the production
    core and of the SDK."""

    seed: int
    calls: float
    mine: float
    sdk: float
    oracle: float
    attempts: float
    sdk_attempts: float

    @property
    def lost(self) -> bool:
        """Whether the SDK did better, and not by chance."""
        ours, theirs = self.mine / self.calls, self.sdk / self.calls
        return ours < theirs - chance(ours, theirs, self.calls)


def half_minute(seed: int) -> Schedule:
    """The schedule of a seed: four calls a second with ten seconds each, streams and whole answers."""
    dice = random.Random(f"half minute {seed}")
    each = tuple(_drift(dice) for _ in range(dice.randint(1, 3)))
    return Schedule(
        name=f"random-{seed}",
        what="a random bad half minute",
        seconds=_SECONDS,
        rate=_RATE,
        deadline=10.0,
        streaming=dice.choice((0.0, 0.5, 1.0)),
        fault=(0.0, _SECONDS),
        nature=_NATURE,
        output=60,
        count=len(each),
        each=each,
    )


def _drift(dice: random.Random) -> tuple[Trouble, ...]:
    """What is wrong with a provider: something else every three to nine seconds."""
    found: list[Trouble] = []
    at = 0.0
    while at < _SECONDS:
        end = at + dice.uniform(3.0, 9.0)
        found += _trouble(dice, at, end)
        at = end
    return tuple(found)


def _trouble(dice: random.Random, start: float, end: float) -> list[Trouble]:
    state = dice.choice(_STATES)
    if state == "well":
        return []
    if state == "grey":
        return [Trouble(start, end, dice.choice(("error", "reset", "overloaded")), dice.uniform(0.2, 0.8))]
    if state == "down":
        return [Trouble(start, end, dice.choice(("error", "refuse")))]
    if state == "limited":
        return [Trouble(start, end, "429", retry_after=dice.choice((None, 1.0, 2.0)))]
    return [Trouble(start, end, state, factor=5.0)]


def run_half(seed: int) -> Half:
    """Live through one."""
    schedule = half_minute(seed)
    runs = range(seed * _RUNS, (seed + 1) * _RUNS)
    mine, sdk, oracle = (measure(schedule, "tiers", who, runs) for who in ("production", "sdk", "oracle"))
    return Half(
        seed,
        mine.calls * _RUNS,
        mine.answered * _RUNS,
        sdk.answered * _RUNS,
        oracle.answered * _RUNS,
        mine.attempts * mine.calls * _RUNS,
        sdk.attempts * sdk.calls * _RUNS,
    )


def summary(halves: Sequence[Half]) -> str:
    """All of them in a few lines."""
    calls, mine, sdk, oracle, attempts, sdk_attempts = (sum(half[i] for half in halves) for i in range(1, 7))
    fewer = sum(half.mine < half.sdk for half in halves)
    lost = [half for half in halves if half.lost]
    lines = [
        f"{len(halves)} random half minutes, {calls:,.0f} calls: answered we {mine / calls:.2%}, an SDK at the best "
        f"single provider {sdk / calls:.2%}, the oracle {oracle / calls:.2%}; attempts a call "
        f"{attempts / calls:.3f} and {sdk_attempts / calls:.3f}",
        f"fewer than the SDK in {fewer}, and not by chance in {len(lost)}; in numbers of 18 half minutes: "
        f"{2160 * mine / calls:.0f} of 2160",
    ]
    lines += [_told(half) for half in worst(lost)]
    return "\n".join(lines)


def worst(halves: Iterable[Half]) -> list[Half]:
    """Up to twenty of them, those first that lost most."""
    return sorted(halves, key=lambda half: half.mine - half.sdk)[:20]


def _told(half: Half) -> str:
    return (
        f"  seed {half.seed}: {half.mine:.0f} beside {half.sdk:.0f} of {half.calls:.0f} (oracle {half.oracle:.0f}), "
        f"attempts {half.attempts:.0f} and {half.sdk_attempts:.0f}"
    )
