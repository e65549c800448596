"""The rescue: a second attempt beside one that gives no sign of life."""

from __future__ import annotations

from resilient_llm.decide.ask import Ask
from resilient_llm.decide.attempt import Attempt
from resilient_llm.decide.breaker import CLOSED
from resilient_llm.decide.choose import cheapest, least_bad
from resilient_llm.decide.leases import Leases, Past
from resilient_llm.decide.member import Member, T
from resilient_llm.decide.patience import LATE_TIMER, again_after, longest

_SOON = 0.25  # seconds until it is asked again for a rescue that cannot be yet


class Rescues(Leases[T]):
    """Gives leases, those beside attempts that are late too."""

    def rescue(self, beside: Attempt[T], past: Past, now: float) -> Attempt[T] | None:
        """A second attempt beside one that is silent, elsewhere; at the same provider when half of the call's time is
        gone and there is no other, or three quarters and no other can be asked yet.  ``None`` if there is to be none
        now, and ``beside.rescue_after`` says when to ask again."""
        elapsed, due = now - beside.started, beside.rescue_after
        beside.rescue_after = None
        if beside.released or beside.content_at is not None or due is None:
            return None
        ask, member = beside.ask, beside.member
        half = (ask.deadline - beside.started) / 2.0 - 0.001
        stood_still = due > 0.0 and elapsed > due + LATE_TIMER
        if stood_still and elapsed < half:  # this process did, and its silence proves nothing
            beside.rescue_after, beside.late_after = min(elapsed + due, half), beside.late_after + elapsed
            return None
        if not stood_still:
            self._suspect(beside, elapsed, half, now)
        chosen, soon = self._rescuer(ask, past, member, now), elapsed + _SOON
        if chosen is None:
            alone = self._alone(ask, past, member)
            again = again_after(self._policies, member.statistics, ask, 2.0 * half) if alone else 1.5 * half
            if elapsed < again or _overloaded(beside, elapsed) or not self._again_beside(beside, past, now):
                beside.rescue_after = _within(max(again, soon) if alone else soon, beside.timeout)
                return None
        unknown = member.statistics.latency is None and elapsed >= beside.late_after - 0.001
        pressed = elapsed >= half or (unknown and chosen is not None and chosen.id not in past.tried)
        paid = self._pay_for_rescue(beside, chosen, pressed, now)
        if stood_still:
            beside.late_after += elapsed
        if not paid:
            self._verdicts.not_taken(member, "hedge", "budget", now)
            beside.rescue_after = _within(soon, beside.timeout)
            return None
        found = self._lease(ask, past, chosen or member, "hedge", now)
        if chosen is None:
            found.fresh, found.rescue_after = True, _within(2.0 * elapsed, found.timeout)
        return found

    def _suspect(self, beside: Attempt[T], elapsed: float, half: float, now: float) -> None:
        """An attempt is silent for longer than its provider usually is, or than half of its time."""
        if beside.kind == "hedge" and not beside.known:  # it was asked at the last moment
            return
        member, ask, since = beside.member, beside.ask, min(elapsed, beside.late_after)
        unheard_of = elapsed >= max(half, longest(member.statistics, ask.tokens, streaming=ask.streaming))
        if beside.late(now) or (unheard_of and member.silent(since, now)):
            self._verdicts.silent(member, since, now)

    def _again_beside(self, beside: Attempt[T], past: Past, now: float) -> bool:
        """Whether the same provider can be asked a second time, over another connection."""
        member = beside.member
        gone = self._table.members.get(member.id) is not member
        tries = past.tried.get(member.id, 0) + sum(order == past.order for order in member.held.values())
        return not gone and tries < self._most and self.admits(member, beside.ask, past, now)

    def _rescuer(self, ask: Ask, past: Past, late: Member[T], now: float) -> Member[T] | None:
        """Who comes: somebody well whom the call has not tried and that has room, rather one that answered before than
        one nobody knows; somebody that answers some calls; somebody that is down and due for a trial."""
        fresh, again, down = ([one for one in some if one is not late] for some in self._half_broken(ask, past, now))
        well = [one for one in fresh if one.breaker.state is CLOSED and one.refusal(ask, now) is None]
        if well:
            return cheapest([one for one in well if one.statistics.latency is not None] or well)
        some = [*fresh, *again]
        if some:
            return least_bad(some, streaming=ask.streaming)
        return next((one for one in down if one.trial is None and now >= one.next_trial()), None)

    def _pay_for_rescue(self, beside: Attempt[T], chosen: Member[T] | None, pressed: bool, now: float) -> bool:
        """Beside a trial, and beside a provider that is down or silent, somebody else is free: it is an early failover.
        Beside a slow one more requests would make it worse.  ``pressed``: half of the time is gone, or its provider
        never answered, so that it may be paid like any second try, unless this one is well and merely takes its
        time."""
        if chosen is not None and (beside.trial or beside.member.breaker.down):
            return True
        quiet = beside.member.heard_at < beside.started
        better = chosen is not None and beside.member.breaker.soft and chosen.breaker.state is CLOSED
        pressed = chosen is None or (pressed and (quiet or not beside.known or beside.late(now) or better))
        return self.hedges.spend() or (pressed and self._pay(1.0, now))


def _overloaded(beside: Attempt[T], elapsed: float) -> bool:
    """Whether its provider has too much to do rather than hangs: its answers take ever longer, or earlier attempts were
    answered in the second half of the time that this one waits, and nothing begun since has spoken.  What it was asked
    stands in its queue, and one more request would stand behind it."""
    member = beside.member
    answers_others = member.heard_at - beside.started > elapsed / 2.0
    return (answers_others or member.statistics.slower) and member.good_start <= beside.started


def _within(seconds: float, timeout: float) -> float | None:
    return seconds if seconds < timeout else None
