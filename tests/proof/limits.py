"""Books about limits and lines: what declared rates allow, what is kept from batches, whose turn it is."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, TypeAlias

from resilient_llm.decide.ask import Ask
from resilient_llm.decide.keys import Key
from resilient_llm.decide.line import Place
from resilient_llm.decide.member import Member
from resilient_llm.simulate.client import Real
from resilient_llm.simulate.providers import Provider

LIMITS: Final[dict[str, str]] = {
    "P1": "no key is sent more than its declared limits allow (twice that, if its provider reports more), and a batch "
    "leaves its share to others",
    "C1": "a batch is not served while somebody else waits who could be",
    "C2": "no tenant is served twice while another one waits who could be served",
    "C3": "a batch has no rescue",
}

Demand: TypeAlias = Callable[[bool, str, str], None]


class Bucket:
    """What a declared limit of requests allows."""

    def __init__(self, amount: float, per: float, now: float) -> None:
        self.amount, self.rate = amount, amount / per
        self.level, self.at = amount, now

    def take(self, now: float, *, told: bool) -> float:
        """Take one; returns what is left.  ``told``: the provider reports a limit of its own."""
        rate = self.rate * (2.0 if told else 1.0)
        self.level = min(self.amount, self.level + (now - self.at) * rate) - 1.0
        self.at = now
        return self.level


class Served:
    """What was served where and when."""

    def __init__(self, demand: Demand) -> None:
        self._demand = demand
        self._buckets: dict[Key, list[Bucket]] = {}
        self._turns: dict[Member[Provider], dict[tuple[bool, str | None], frozenset[tuple[int, str | None]]]] = {}
        """Who stood in line when a tenant was served last, and has not been passed by its own since."""
        self._turned: dict[tuple[Member[Provider], bool, str | None], float] = {}
        """When that was."""

    def restored(self, member: Member[Provider]) -> None:
        """A person opened everything."""
        for key in member.keys:
            self._buckets.pop(key, None)

    def offered(self, member: Member[Provider]) -> None:
        """Tenants that have been offered a place here have had their turn."""
        tenants = {place.ask.tenant for place in member.line.waiting if place.offer is member.line}
        turns = self._turns.get(member, {})
        for turn, those in turns.items():
            turns[turn] = frozenset(one for one in those if one[1] not in tenants)

    def leased(self, step: Real, waiting: list[Place], now: float, offered_at: float = math.inf) -> None:
        """An attempt was allowed; these stood in line before it, and could be served.  ``offered_at``: when it was
        offered the place (``inf``: it was not); several who have offers come in any order."""
        member, ask = step.member, step.ask
        self._demand(not (ask.batch and step.kind == "hedge"), "C3", f"{step!r}")
        reserve = member.policies.limits.reserve if ask.batch else 0.0
        rates = [rate for rate in step.key.terms.rates if rate.unit == "requests"]
        made = self._buckets.setdefault(step.key, [Bucket(rate.amount, rate.per, now) for rate in rates])
        for bucket in made:
            left = bucket.take(now, told=step.key.pace.reported[0] is not None)
            least = min(reserve * bucket.amount, bucket.amount - 1.0)
            self._demand(left >= least - 1e-3, "P1", f"{step!r} leaves {left} of {bucket.amount}")
        if step.kind == "hedge":
            return
        self._in_turn(step, waiting, now, offered_at)

    def _in_turn(self, step: Real, waiting: list[Place], now: float, offered_at: float) -> None:
        member, ask = step.member, step.ask
        others = [place for place in waiting if place.ask.batch is ask.batch and place.ask.tenant != ask.tenant]
        if ask.batch and not member.breaker.down:
            passed = [place.number for place in waiting if not place.ask.batch]
            self._demand(not passed, "C1", f"{step!r} before calls {passed}")
        turns = self._turns.setdefault(member, {})
        stood = turns.get((ask.batch, ask.tenant), frozenset())
        passed = [place.number for place in others if (place.number, place.ask.tenant) in stood]
        if not member.breaker.down and offered_at > self._turn_of(member, ask):
            self._demand(not passed, "C2", f"{step!r} of {ask.tenant} once more before calls {passed}")
        for turn, those in turns.items():  # whose tenant was served now has had its turn
            turns[turn] = frozenset(one for one in those if one[1] != ask.tenant)
        if offered_at < math.inf:  # it was its turn when it was offered the place; who had theirs since is not passed
            others = [one for one in others if self._turn_of(member, one.ask) < offered_at]
        self._turned[member, ask.batch, ask.tenant] = now
        turns[ask.batch, ask.tenant] = frozenset((place.number, place.ask.tenant) for place in others)

    def _turn_of(self, member: Member[Provider], ask: Ask) -> float:
        """When this tenant was served last."""
        return self._turned.get((member, ask.batch, ask.tenant), -math.inf)
