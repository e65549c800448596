"""Whom to ask: order and choice among candidates.

Among equals: weighted power-of-two-choices *with replacement*: draw two, take the cheaper.  Drawing without
replacement among two or three providers would always take the cheapest, and a provider that once lost would never be
seen again.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from operator import mul

from resilient_llm.decide.breaker import Cause
from resilient_llm.decide.member import Member, T
from resilient_llm.decide.statistics import FRESH

_LOST = 30.0  # seconds that a lost call is worth
_STALE = 30.0  # seconds without news of an equal after which it is tried


def usual_latency(members: Sequence[Member[T]]) -> float | None:
    """The best known latency, against which the others are measured; ``None`` while nothing is known."""
    return min([one.statistics.latency for one in members if one.statistics.latency is not None], default=None)


def prices(members: Sequence[Member[T]]) -> list[float]:
    """Expected seconds until a call sent to each of them is answered."""
    usual = usual_latency(members) or 0.0
    return [member.price(usual) for member in members]


def choose(members: Sequence[Member[T]], now: float, draw: Callable[[], float]) -> Member[T]:
    """One of several equals: healthy and fast ones more often, the cheaper of two draws."""
    merits: list[float] = []
    weights: list[float] = []
    for member in members:
        seen = member.statistics
        merit = seen.merit
        if merit is None or now - seen.weighed_at > FRESH:
            merit = seen.weigh(now)
        if member.pending:
            merit /= (1 + len(member.pending)) ** 2
        merits.append(merit)
        weights.append(member.target.weight)
    lowest = min(merits)
    if not lowest:  # unknown, and drawn as often as the best
        best = max(merits) or 1.0
        merits = [merit or best for merit in merits]
    edges = list(accumulate(map(mul, merits, weights)))
    total, last = edges[-1], len(edges) - 1
    first, second = members[bisect(edges, total * draw(), 0, last)], members[bisect(edges, total * draw(), 0, last)]
    if first is second:
        return first
    usual = 0.0 if lowest else usual_latency(members) or 0.0
    return second if second.price(usual) < first.price(usual) else first


def cheapest(members: Sequence[Member[T]]) -> Member[T]:
    """The provider expected to answer soonest."""
    return soonest(members, {})


def soonest(members: Sequence[Member[T]], tolls: Mapping[str, float]) -> Member[T]:
    """The provider expected to answer soonest, with the seconds in ``tolls`` added; a draw goes to the first."""
    costs = [cost + tolls.get(one.id, 0.0) for one, cost in zip(members, prices(members), strict=True)]
    return members[costs.index(min(costs))]


def least_bad(members: Sequence[Member[T]], *, streaming: bool) -> Member[T]:
    """Of several that are half broken or slow the first that costs hardly more than the cheapest.  A stream that breaks
    after content is lost, what fails before can be asked for again."""
    costs = prices(members)
    if streaming and any(member.breaker.ends_late for member in members):
        costs = [cost + _LOST * _lost(member) for cost, member in zip(costs, members, strict=True)]
    limit = 1.3 * min(costs) + 0.5
    return next(member for member, cost in zip(members, costs, strict=True) if cost <= limit)


def breaks(member: Member[T], again: Sequence[Member[T]]) -> bool:
    """Whether a stream is likelier to be lost there than where it is asked for again."""
    return member.breaker.ends_late and _lost(member) > min(map(_lost, again))


def _lost(member: Member[T]) -> float:
    """The share of streams that nobody can answer any more, three tries where they fail before content."""
    breaker = member.breaker
    if breaker.cause is Cause.STALLED:
        return 1.0
    return breaker.share if breaker.ends_late else breaker.share**3


def stalest(members: Sequence[Member[T]], now: float) -> Member[T] | None:
    """The equal not heard of for longest, if it is time to try it.  One never asked is not stale: it has the benefit of
    the doubt and is drawn like the others."""
    stalest, at = None, now - _STALE
    for member in members:
        seen_at = member.statistics.seen_at
        if seen_at < at and (member.trial is None or now >= member.trial_ends):
            stalest, at = member, seen_at
    return stalest


def at_home(members: Sequence[Member[T]], home: str | None, stickiness: float) -> Member[T] | None:
    """Where a conversation was answered before, unless somebody else is clearly cheaper."""
    known = next((member for member in members if member.id == home), None)
    if known is None:
        return None
    usual = usual_latency(members) or 0.0
    least = min(_idle_price(member, usual) for member in members)
    return known if least >= stickiness * _idle_price(known, usual) else None


def _idle_price(member: Member[T], usual: float) -> float:
    """Its price without those who wait there: a conversation is not moved for every call beside it."""
    latency = member.statistics.latency
    return (usual if latency is None else latency) + member.statistics.risk
