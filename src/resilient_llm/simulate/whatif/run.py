"""Let the settings, an SDK and an oracle live through the same case with the same callers and the same luck."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias

from resilient_llm.operate.cost.prices import Price, Prices
from resilient_llm.simulate.client import A, Client, Layout, Production
from resilient_llm.simulate.strategies import Oracle, Sdk
from resilient_llm.simulate.whatif.books import Booked
from resilient_llm.simulate.whatif.cases import Case, Window
from resilient_llm.simulate.whatif.figures import Figures, Tally, Who
from resilient_llm.simulate.whatif.setup import Setup
from resilient_llm.simulate.world import World

_BINS: Final = 120
_WEEKS: Final = 52

Progress: TypeAlias = Callable[[str], None]
"""Told what is simulated next."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What each strategy would have done in a case; the settings in question come first.

    ``unpriced`` are providers whose model has no price, so that their cost is not in the figures.
    """

    case: Case
    setup: Setup
    figures: tuple[Figures, ...]
    unpriced: tuple[str, ...]
    currency: str

    @property
    def mine(self) -> Figures:
        """Those of the settings in question."""
        return self.figures[0]

    def of(self, who: Who) -> Figures | None:
        """The figures of a strategy, if it was asked."""
        return next((one for one in self.figures if one.who == who), None)

    def told(self, one: Figures) -> Tally:
        """What is shown of a strategy: the time in which something is wrong, and of a year all of it."""
        return one.whole if self.case.is_long else one.during

    @property
    def shown_seconds(self) -> float:
        """How long the time that is shown is."""
        return self.case.seconds if self.case.is_long else self.case.lasts

    @property
    def bin_seconds(self) -> float:
        """How long a bin of the drawings is."""
        return self.case.seconds / len(self.mine.bins)


def answer(
    case: Case, setups: Sequence[Setup], prices: Prices, seed: int, progress: Progress = lambda _: None
) -> Answer:
    """Run everybody through a case; the first of ``setups`` is in question, the others are compared with it."""
    first = setups[0]
    costs = {one.id: prices.find(one.id, one.vendor, one.model) for setup in setups for one in setup.providers}
    found: list[Figures] = []
    for index, setup in enumerate(setups):
        progress(f"{case.title}: {setup.name}")
        found.append(_Life(case, setup, seed, costs).settings("other settings" if index else "settings"))
    life = _Life(case, first, seed, costs)
    alone: list[Figures] = []
    for index in _different(first, case):
        progress(f"{case.title}: an SDK at {first.providers[index].id}")
        alone.append(life.sdk(index))
    best = max(alone, key=lambda one: (one.whole.answered, -one.whole.first_token(0.5)))
    found.append(alone[0])
    if best is not alone[0]:
        best.who = "best"
        found.append(best)
    progress(f"{case.title}: the oracle")
    found.append(life.oracle())
    unpriced = tuple(name for name, price in costs.items() if price is None)
    return Answer(case, first, tuple(found), unpriced, prices.currency)


def _different(setup: Setup, case: Case) -> list[int]:
    """The first provider, and others that are not like one before them."""
    seen: list[tuple[object, ...]] = []
    found: list[int] = []
    for index, one in enumerate(setup.providers):
        like = (one.vendor, case.troubles.get(one.id, ()))
        if like not in seen:
            seen.append(like)
            found.append(index)
    return found


@dataclass(frozen=True, slots=True)
class _Life:
    """A case, lived through window by window: what a client has learnt is forgotten between them."""

    case: Case
    setup: Setup
    seed: int
    costs: Mapping[str, Price | None]

    def settings(self, who: Who) -> Figures:
        """With the production core and the policies of the settings."""
        return self._through(self.setup.name, who, lambda tiers, seed: Production(tiers, self.setup.policies, seed))

    def sdk(self, index: int) -> Figures:
        """With a vendor's SDK at one provider."""
        return self._through(f"an SDK at {self.setup.providers[index].id}", "alone", partial(_sdk, index))

    def oracle(self) -> Figures:
        """With somebody who always knows who answers."""
        return self._through("the oracle", "oracle", Oracle)

    def _through(self, name: str, who: Who, make: Callable[[Layout, int], Client[A]]) -> Figures:
        case = self.case
        found = Figures.empty(name, who, bins=_WEEKS if case.is_long else _BINS)
        for number, window in enumerate(case.windows):
            tiers = [[case.provider(one, window) for one in tier] for tier in self.setup.tiers]
            self._window(window, make(tiers, self.seed + number), self.seed + number, found)
        return found

    def _window(self, window: Window, client: Client[A], seed: int, into: Figures) -> None:
        booked: Booked[A] = Booked(client)
        load = self.case.load.load(window.seconds, self.setup.deadline)
        world: World[A] = World([booked], load, seed)
        world.run(window.seconds, settle=max(700.0, load.deadline + 100.0))
        into.add_calls(world.ended, window.hurt, window.weight)
        into.add_attempts(booked.entries, window.hurt, window.weight, self.costs)
        if window.begin >= 0.0 or not self.case.is_long:
            into.draw(world.ended, booked.entries, max(0.0, window.begin), self.case.seconds / len(into.bins))


def _sdk(index: int, layout: Layout, seed: int) -> Sdk:
    return Sdk(layout, seed, index)
