"""Who waits for a provider: first come, first served, across threads, tasks and event loops.

Calls with ``priority="batch"`` come after all others, and within a class tenants are served in turn.

A call that cannot be served stands in the line of every provider that may serve it, and leaves all of them at once.
Nobody polls: when a provider has room, the first in its line is *offered* the place and woken, and takes it when it
runs; only the first in a line has a timer, for what time alone brings (a gate that opens, a trial that is due).  An
offer that is not taken within :data:`OFFER` seconds passes to the next in line, because the event loop of the one
who was offered it may be blocked.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Callable
from typing import Final

from resilient_llm.decide.ask import Ask

OFFER: Final = 0.05
"""Seconds within which an offer must be taken."""
PASSED: Final = 5.0
"""Seconds for which smaller calls may pass the first in line while it is too large for what is left of a limit."""


class Place:
    """The place of one waiting call in one or several lines.

    A driver sets ``wake`` (and ``owner``, the event loop it belongs to, ``None`` for a thread) before it waits, looks
    at ``woken`` once more, and is woken by a call of ``wake`` from any thread.
    """

    lines: tuple[Line, ...] = ()
    wake: Callable[[], None] = staticmethod(lambda: None)
    woken: bool = False
    woken_at: float = -math.inf
    """When it was last woken."""
    owner: object = None
    alarm: float = math.inf
    """When its own timer wakes it."""
    offer: Line | None = None
    """Where it has been offered a place it has not taken yet."""
    turns: tuple[int, int] = (0, 0)
    """Its tenant's turn in that line before the offer, and since."""
    needs: float = 0.0
    """Seconds an answer usually takes."""

    def __init__(self, number: int, ask: Ask, since: float = math.inf) -> None:
        self.number = number
        """Its call's number: the order of arrival."""
        self.ask = ask
        self.last: float = ask.deadline
        """When its call must begin at the latest."""
        self.since = since
        """When it began to wait."""

    def __lt__(self, other: Place) -> bool:
        return (self.ask.batch, self.number) < (other.ask.batch, other.number)

    def too_late(self, now: float) -> bool:
        """Whether an answer that begins now usually comes too late: then those who can still be served go first."""
        return now + self.needs > self.last

    def missed(self, now: float) -> bool:
        """Whether it was woken and did not come."""
        return self.woken and now - self.woken_at > OFFER


class Line:
    """Who waits for one provider: batches after all others, tenants in turn, each in order of arrival.  Not locked: the
    pool's lock is held by whoever calls."""

    def __init__(self, provider: str) -> None:
        self.provider = provider
        self.waiting: list[Place] = []
        """By class, and in order of arrival."""
        self._groups: dict[tuple[bool, str | None], list[Place]] = {}  # by class and tenant
        self._turns: dict[str | None, int] = {}  # when each tenant was served last, as a number that rises
        self._turn = 0
        self._batches = 0  # how many of a batch wait
        self.offers: int = 0
        """Places offered and not taken yet."""
        self.latest_first: bool = False
        """Whether who has the most time left comes first: a deadline cut an attempt short, and nothing was heard
        since."""
        self._large: Place | None = None  # the first, while it is too large
        self._passed_until = -math.inf
        self._blocked: set[object] = set()  # event loops that did not take an offer, until they are heard of again

    def join(self, place: Place) -> None:
        """Stand in line by order of arrival, not of joining: who comes back from a failed attempt loses nothing."""
        insort(self.waiting, place)
        insort(self._groups.setdefault((place.ask.batch, place.ask.tenant), []), place)
        self._batches += place.ask.batch

    def remove(self, place: Place) -> None:
        """Leave the line; a place that was offered is free again."""
        if place.offer is self:
            self.offers -= 1
            place.offer = None
        if place in self.waiting:
            self.waiting.remove(place)
            self._batches -= place.ask.batch
            group = self._groups[place.ask.batch, place.ask.tenant]
            group.remove(place)
            if not group:
                del self._groups[place.ask.batch, place.ask.tenant]
            if not self.waiting:
                self._turns.clear()

    def served(self, tenant: str | None) -> None:
        """A call of this tenant was served while others wait: its next one comes after theirs."""
        self._turn += 1
        self._turns[tenant] = self._turn

    def make_offer(self, place: Place) -> None:
        """Offer a place, which is its tenant's turn."""
        before = self._turns.get(place.ask.tenant, 0)
        place.offer = self
        self.offers += 1
        self.served(place.ask.tenant)
        place.turns = before, self._turn

    def take_back(self, place: Place) -> None:
        """It could not take what it was offered: its tenant has not had its turn."""
        place.offer = None
        self.offers -= 1
        before, since = place.turns
        if self._turns.get(place.ask.tenant) == since:
            self._turns[place.ask.tenant] = before

    def before(self, ask: Ask) -> int:
        """How many wait of its class, or of one that comes first."""
        return len(self.waiting) - (0 if ask.batch else self._batches)

    def _rank(self, ask: Ask, number: int) -> tuple[bool, int, int]:
        return ask.batch, self._turns.get(ask.tenant, 0), number

    def first(self, now: float, but: Place | None = None) -> Place | None:
        """The first in line, ``but`` excepted, that has not been offered a place and comes when it is woken; whoever is
        too late, or belongs to a loop that is blocked, only when nobody else waits.  Of several tenants the one that
        has not been served for longest is first."""
        if self.latest_first:
            return self._latest(now, but)
        if len(self._groups) == 1:  # the common case, told apart for its speed alone
            return self._first_of(self.waiting, now, but)[0]
        late: Place | None = None
        for batch in (False, True):
            found = [self._first_of(group, now, but) for (its, _), group in self._groups.items() if its is batch]
            in_time = [place for place, is_late in found if place is not None and not is_late]
            if in_time:
                return min(in_time, key=lambda place: self._rank(place.ask, place.number))
            if late is None:
                too_late = [place for place, _ in found if place is not None]
                late = min(too_late, key=lambda place: place.number, default=None)
        return late

    def _latest(self, now: float, but: Place | None) -> Place | None:
        """Who has the most time left, a batch and blocked loops last."""
        here = [one for one in self.waiting if one is not but and one.offer is None and not one.missed(now)]
        order = {one: (one.owner not in self._blocked, _time_left(one.ask, one.number)) for one in here}
        return max(here, key=lambda one: order[one], default=None)

    def _first_of(self, group: list[Place], now: float, but: Place | None) -> tuple[Place | None, bool]:
        """Of one tenant the first in time; or, and then it is true, the first of all: it is too late, or belongs to a
        blocked loop."""
        late: Place | None = None
        for place in group:
            if place is not but and place.offer is None and not place.missed(now):
                if not place.too_late(now) and place.owner not in self._blocked:
                    return place, False
                late = late or place
        return late, True

    def may_pass(self, order: int, ask: Ask, place: Place | None, now: float) -> bool:
        """Whether the call of this number may take room now without stepping before somebody whose turn it is."""
        if place is not None:
            self._blocked.discard(place.owner)
        if not self.waiting or (place is not None and place.offer is self):
            return True
        self.lapse(now)
        first = self.first(now)
        if first is None or first is place:
            return True
        if self.latest_first:
            return _time_left(ask, order) > _time_left(first.ask, first.number)
        late = place is not None and place.too_late(now)
        return not late and self._rank(first.ask, first.number) > self._rank(ask, order)

    def too_large(self, first: Place, now: float) -> None:
        """Too little is left of a limit for the first in line: for :data:`PASSED` seconds, smaller ones may pass it."""
        if self._large is not first:
            self._large, self._passed_until = first, now + PASSED

    def passed(self, now: float) -> Place | None:
        """The first in line, if it may be passed now."""
        if self._large is None or now >= self._passed_until or self.first(now) is not self._large:
            return None
        return self._large

    def passer(self, now: float) -> Place | None:
        """Who may pass it: the first that is smaller and of its class; of several tenants the one whose turn it is."""
        large = self.passed(now)
        if large is None:
            return None
        groups = [group for (batch, _), group in self._groups.items() if batch is large.ask.batch]
        smaller = [place for group in groups if (place := self._smaller(group, large, now)) is not None]
        return min(smaller, key=lambda place: self._rank(place.ask, place.number), default=None)

    def _smaller(self, group: list[Place], large: Place, now: float) -> Place | None:
        for place in group:
            smaller = place.ask.tokens < large.ask.tokens
            if smaller and place.offer is None and not place.missed(now) and not place.too_late(now):
                return place
        return None

    def lapse(self, now: float) -> None:
        """Take back offers that were not taken in time."""
        if self.offers:
            for place in self.waiting:
                if place.offer is self and now - place.woken_at > OFFER:
                    self.take_back(place)
                    if place.owner is not None:
                        self._blocked.add(place.owner)

    def gives_way_at(self, place: Place, now: float) -> float:
        """When this place may become the first: an offer is not taken, or whoever is first becomes too late."""
        first = self.first(now)
        times = [one.woken_at + OFFER for one in self.waiting if one.offer is self] if self.offers else []
        yields = first is not None and first is not place and not first.too_late(now)  # it may, and has not yet
        if first is not None and yields and self.first(now, first) is place:
            times.append(first.last - first.needs)
        return min(times, default=math.inf)

    def standby(self, place: Place) -> Place | None:
        """Who is to look after an offer made to an event loop, which may be blocked: the first in line elsewhere."""
        if place.owner is None:
            return None
        return next((one for one in self.waiting if one.offer is None and one.owner is not place.owner), None)


def _time_left(ask: Ask, number: int) -> tuple[bool, float, int]:
    """For comparison: who has more time left, and of equals who came last."""
    return not ask.batch, ask.deadline, number
