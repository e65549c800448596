"""Calls that cannot be served now: why not, where they wait, and who is woken when."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Final, Generic

from resilient_llm.decide.ask import Ask
from resilient_llm.decide.breaker import State
from resilient_llm.decide.keys import Refusal
from resilient_llm.decide.leases import Past
from resilient_llm.decide.line import Line, Place
from resilient_llm.decide.member import Member, T
from resilient_llm.decide.routes import Table
from resilient_llm.policy import Policies

_BRIEF: Final = frozenset({Refusal.PACE, Refusal.FULL, Refusal.LINE, Refusal.DOWN})
_EARLIER: Final = 0.001  # seconds a timer must be set forward by to be worth a wake
_LEAST_WAIT: Final = 0.002


@dataclass(slots=True)
class Refused:
    """Nobody can be asked now: why not, per provider.

    ``guessed``: some of that nobody said.  ``again``: somebody can be asked once more after a pause, whose breaker
    counts so many failures in a row as ``run``.  ``not_before``: when this call alone may ask somebody again.
    ``place``: the call stands in line and is woken, at the latest after ``seconds``; ``None``: there is nobody to wait
    for.  ``down``: everybody waited for is down.  ``budget``: the seconds until a second try can be paid for, if that
    is all that is missing.  ``retry_at``: the earliest time at which trying again makes sense, in the providers' own
    words where they gave any (``None``: unknown).
    """

    reasons: dict[str, Refusal] = field(default_factory=dict[str, Refusal])
    retry_at: float | None = None
    again: bool = False
    run: int = 0
    guessed: bool = False
    place: Place | None = None
    seconds: float = math.inf
    down: bool = False
    budget: float | None = None
    not_before: float = math.inf


class Waiting(Generic[T]):
    """Keeps the lines.  Not locked: the pool's lock is held by whoever calls."""

    def __init__(self, table: Table[T], policies: Policies) -> None:
        self._table = table
        self.policies = policies
        self.woken: deque[Place] = deque()
        """Whom to wake once the lock is free."""

    def refuse(self, ask: Ask, past: Past, budget: float | None, now: float) -> Refused:
        """Why nobody can be asked, and a place in line where waiting helps.  ``budget``: see :class:`Refused`."""
        retry = self.policies.retry
        found = Refused(budget=budget)
        waited: list[tuple[Member[T], Refusal]] = []
        runs: list[int] = []
        retry_at = math.inf
        for member in self._table.order(ask.route):
            more = past.tried.get(member.id, 0) < retry.max_attempts_per_provider
            refusal, allowed = _why_not(ask, past, member, now), past.may_ask_at(member)
            barred = refusal is Refusal.QUOTA and not member.slow_gate.stated  # it is sent all the same, but not yet
            if allowed > now and (refusal is None or refusal in _BRIEF or barred):  # a gate is closed for as long
                found.reasons[member.id], retry_at = Refusal.GATED, min(retry_at, allowed)
                if more and allowed <= min(ask.deadline, now + retry.max_wait):
                    found.not_before = min(found.not_before, allowed)
            elif refusal is not None:
                found.reasons[member.id] = refusal
                told, served = member.opens_at(refusal, ask, now, told=True), _served_at(ask, past, member, now)
                unknown = told == math.inf and served > now  # when there is room, but not when its limits allow it
                retry_at = min(retry_at, served if unknown else max(told, served))
                waits = told <= min(ask.deadline, now + retry.max_wait) or refusal.needs_room or refusal is Refusal.DOWN
                if more and waits and served <= ask.deadline:
                    waited.append((member, refusal))
                    found.guessed = found.guessed or any(key.guessed(refusal, ask, now) for key in member.keys)
            elif more:
                runs.append(member.breaker.run)
        if runs:
            found.not_before = now
        found.retry_at = None if retry_at == math.inf else retry_at
        found.again, found.run = bool(runs) or budget is not None, min(runs, default=0)
        if not found.again:
            self._stand(ask, past, found, waited, now)
            found.again = found.place is None and found.not_before < math.inf
        elif past.place is not None:
            self.leave(past.place, now)
        return found

    def _stand(self, ask: Ask, past: Past, found: Refused, waited: list[tuple[Member[T], Refusal]], now: float) -> None:
        """Stand in the line of everybody worth waiting for."""
        place = past.place or Place(past.order, ask, now)
        most = self.policies.limits.max_queue
        room = [(m, r) for m, r in waited if m.line.before(ask) < most or m.line in place.lines]
        if not room:
            found.reasons |= {member.id: Refusal.CROWDED for member, _ in waited}
            if past.place is not None:
                self.leave(past.place, now)
            return
        lines = tuple(member.line for member, _ in room)
        for line in place.lines:
            if line not in lines:
                self._leave_line(place, line, now)
        for line in lines:
            if line not in place.lines:
                line.join(place)
        place.lines = lines
        found.down = found.not_before == math.inf and all(refusal is Refusal.DOWN for _, refusal in room)
        place.needs = min(m.statistics.complete(streaming=ask.streaming) for m, _ in room)
        for member, refusal in room:
            if refusal is Refusal.PACE and member.line.first(now) is place:
                member.line.too_large(place, now)
        paced = {member for member, refusal in room if refusal is Refusal.PACE and member.line.passer(now) is place}
        firsts = [(m, r) for m, r in room if m in paced or m.line.first(now) is place]
        # Who seemed too late by what an answer took before, and is not, looks again at once.
        opens = [now if r is Refusal.LINE else m.opens_at(r, ask, now) for m, r in firsts]
        gives_way = [line.gives_way_at(place, now) for line in lines]
        place.alarm = max(now + _LEAST_WAIT, min(*opens, *gives_way, found.not_before))
        if past.place is not None:  # woken for nothing: whoever is first now may have no timer
            for member, _ in room:
                if member.line.first(now) is not place:
                    self.serve(member, now, place)
        if place.alarm > place.last - place.needs:
            for member, _ in firsts:
                self._follow(member.line, place, now)
        found.place, found.seconds = place, place.alarm - now

    def leave(self, place: Place, now: float) -> None:
        """A call leaves all lines it stands in."""
        lines, place.lines = place.lines, ()
        for line in lines:
            self._leave_line(place, line, now)

    def _leave_line(self, place: Place, line: Line, now: float) -> None:
        """A call leaves one line: whoever is the first there now may have no timer."""
        line.remove(place)
        member = self._table.members.get(line.provider)
        if member is not None and member.line is line:
            self.serve(member, now)

    def pass_on(self, place: Place, line: Line, now: float) -> None:
        """A call could not take what it was offered in this line, where it still stands: offer it to another one."""
        line.take_back(place)
        self.serve(self._table.members[line.provider], now, place)

    def serve(self, member: Member[T], now: float, but: Place | None = None) -> None:
        """Something changed at a provider: offer what is free to the first in its line (but not to ``but``), or see
        that it has a timer."""
        line = member.line
        if not line.waiting:
            return
        line.lapse(now)
        place = line.first(now, but)
        if place is None:
            return
        refusal = member.refusal(place.ask, now, waits=True)
        if refusal is None and member.breaker.down and now < member.next_trial():
            refusal = Refusal.DOWN
        if refusal is None:
            line.make_offer(place)
            self._wake(place, now)
            standby = line.standby(place)
            if standby is not None:
                self._wake(standby, now)
            return
        if refusal is Refusal.PACE and but is None:
            line.too_large(place, now)
            self._pass(member, now)
        self._follow(line, place, now)
        self._set_alarm(place, member.opens_at(refusal, place.ask, now), now)

    def _pass(self, member: Member[T], now: float) -> None:
        """The first in line is too large for now: offer what is free to who may pass it, or see that it has a timer."""
        place = member.line.passer(now)
        if place is None or member.breaker.down:
            return
        refusal = member.refusal(place.ask, now, waits=True)
        if refusal is None:
            member.line.make_offer(place)
            self._wake(place, now)
        else:
            self._set_alarm(place, member.opens_at(refusal, place.ask, now), now)

    def _follow(self, line: Line, first: Place, now: float) -> None:
        """See that whoever follows the first has a timer, should that become too late."""
        following = line.first(now, first)
        if following is not None:
            self._set_alarm(following, line.gives_way_at(following, now), now)

    def _set_alarm(self, place: Place, at: float, now: float) -> None:
        """Wake a place whose timer is too late, so that it sets another one."""
        if max(at, now + _LEAST_WAIT) < place.alarm - _EARLIER:
            self._wake(place, now)

    def wake_all(self, now: float, *members: Member[T]) -> None:
        """Everybody in these lines is to look again."""
        for member in members:
            for place in member.line.waiting:
                self._wake(place, now)

    def _wake(self, place: Place, now: float) -> None:
        if not place.woken:
            place.woken, place.woken_at = True, now
            self.woken.append(place)


def _served_at(ask: Ask, past: Past, member: Member[T], now: float) -> float:
    """When a call that has not waited yet would be served by what its provider's limits are known to be, after those
    who wait there already."""
    ahead = 0 if past.place is not None else member.line.before(ask)
    return member.fits_at(ask, now, ahead) if ahead else now


def _why_not(ask: Ask, past: Past, member: Member[T], now: float) -> Refusal | None:
    """Why a provider is not asked even as the last one left."""
    if member.id in ask.unsuitable:
        return Refusal.UNSUITABLE
    if member.breaker.state is State.ISOLATED:
        return Refusal.ISOLATED
    refusal, down = member.refusal(ask, now, waits=True), member.breaker.down
    if refusal is None and down:
        return Refusal.DOWN
    if member.id in past.tried and not past.again:  # who has to pause first does not stand in line meanwhile
        return None if refusal is not None and refusal.needs_room and not down else refusal
    if refusal is None and not member.line.may_pass(past.order, ask, past.place, now):
        return Refusal.LINE
    return refusal
