"""Whom to ask: order and choice among candidates.

Among equals: weighted power-of-two-choices *with replacement*: draw two, take the cheaper.  Drawing without
replacement among two or three providers would always take the cheapest, and a provider that once lost would never be
seen again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from resilient_llm.decide.member import Member, T

_LEAST = 0.02**0.5  # a score counts as at least this: who is never drawn could never show that it got better
_STALE = 30.0  # seconds without news of an equal after which it is tried


def usual_latency(members: Sequence[Member[T]]) -> float | None:
    """The best known latency, against which the others are measured; ``None`` while nothing is known."""
    known = [latency for member in members if (latency := member.statistics.latency) is not None]
    return min(known) if known else None


def choose(members: Sequence[Member[T]], now: float, draw: Callable[[], float]) -> Member[T]:
    """One of several equals: healthy and fast ones more often, the cheaper of two draws."""
    seen: list[tuple[Member[T], float | None, float]] = []
    best: float | None = None
    for member in members:
        latency = member.queued_latency()
        if latency is not None and (best is None or latency < best):
            best = latency
        seen.append((member, latency, member.statistics.success_rate(now)))
    weights: list[float] = []
    for member, latency, rate in seen:
        score = member.score(latency, rate, best)
        weights.append(member.target.weight * (score * score if score > _LEAST else _LEAST * _LEAST))
    total = sum(weights)
    first = _weighted(weights, total * draw())
    second = _weighted(weights, total * draw())
    if first != second:
        usual = best or 0.0
        one, other = seen[first], seen[second]
        if one[0].price(one[1], one[2], usual) > other[0].price(other[1], other[2], usual):
            first = second
    return members[first]


def cheapest(members: Sequence[Member[T]], now: float) -> Member[T]:
    """The provider expected to answer soonest."""
    usual = usual_latency(members) or 0.0
    return min(members, key=lambda m: m.price(m.queued_latency(), m.statistics.success_rate(now), usual))


def soonest(members: Sequence[Member[T]], tolls: Mapping[str, float], now: float) -> Member[T]:
    """The provider expected to answer soonest, with the seconds in ``tolls`` added; a draw goes to the first."""
    usual = usual_latency(members) or 0.0

    def due(member: Member[T]) -> float:
        expected = member.price(member.queued_latency(), member.statistics.success_rate(now), usual)
        return expected + tolls.get(member.id, 0.0)

    return min(members, key=due)


def least_bad(members: Sequence[Member[T]], now: float) -> Member[T]:
    """Of several that are half broken or slow the first that costs hardly more than the cheapest."""
    usual = usual_latency(members) or 0.0
    costs = [m.price(m.queued_latency(), m.statistics.success_rate(now), usual) for m in members]
    limit = 1.3 * min(costs) + 0.5
    return next(member for member, cost in zip(members, costs, strict=True) if cost <= limit)


def roomiest(members: Sequence[Member[T]]) -> Member[T]:
    """The first that has room, or the one that has some soonest."""
    return min(members, key=lambda member: member.room.room_at(len(member.pending)))


def stalest(members: Sequence[Member[T]], now: float) -> Member[T] | None:
    """The equal not heard of for longest, if it is time to try it.  One never asked is not stale: it has the benefit of
    the doubt and is drawn like the others."""
    stale = [m for m in members if m.statistics.seen_at is not None and now - m.statistics.seen_at > _STALE]
    waiting = [m for m in stale if m.trial is None or now >= m.trial_ends]
    return min(waiting, key=lambda member: member.statistics.seen_at or 0.0) if waiting else None


def at_home(members: Sequence[Member[T]], home: str | None, stickiness: float, now: float) -> Member[T] | None:
    """Where a conversation was answered before, unless somebody else is clearly cheaper."""
    known = next((member for member in members if member.id == home), None)
    if known is None:
        return None
    usual = usual_latency(members) or 0.0
    costs = {m.id: m.price(m.statistics.latency, m.statistics.success_rate(now), usual) for m in members}
    return known if min(costs.values()) >= stickiness * costs[known.id] else None


def _weighted(weights: Sequence[float], point: float) -> int:
    """The place of the weight that a point between 0 and their sum falls into."""
    for index, weight in enumerate(weights):
        point -= weight
        if point < 0:
            return index
    return len(weights) - 1
