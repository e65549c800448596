"""Whom to ask among equals.

Weighted power-of-two-choices *with replacement*: draw two, take the cheaper.  Drawing without replacement among two
or three providers would always take the cheapest, and a provider that once lost would never be seen again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from resilient_llm.decide.member import Member, T

_LEAST = 0.02**0.5  # a score counts as at least this: who is never drawn could never show that it got better


def usual_latency(members: Sequence[Member[T]], now: float) -> float | None:
    """The best known latency of a tier, against which the others are measured; ``None`` while nothing is known."""
    known = [latency for member in members if (latency := member.latency(now)) is not None]
    return min(known) if known else None


def choose(members: Sequence[Member[T]], now: float, draw: Callable[[], float]) -> Member[T]:
    """One of several eligible providers of a tier: healthy and fast ones more often, the cheaper of two draws."""
    seen: list[tuple[Member[T], float | None, float]] = []
    best: float | None = None
    for member in members:
        latency = member.queued_latency(now)
        if latency is not None and (best is None or latency < best):
            best = latency
        seen.append((member, latency, member.health.success_rate(now)))
    weights: list[float] = []
    for member, latency, rate in seen:
        score = member.standing(now, latency, rate, best)
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
    usual = usual_latency(members, now) or 0.0
    return min(members, key=lambda member: member.cost_now(now, usual))


def stalest(members: Sequence[Member[T]], now: float) -> Member[T] | None:
    """The provider unseen for longest, if it is time to look.  One never seen is not stale: it has the benefit of the
    doubt and is drawn like the others."""
    unseen = [member for member in members if member.worth_exploring(now)]
    return min(unseen, key=lambda member: member.health.seen_at or 0.0) if unseen else None


def _weighted(weights: Sequence[float], point: float) -> int:
    """The place of the weight that a point between 0 and their sum falls into."""
    for index, weight in enumerate(weights):
        point -= weight
        if point < 0:
            return index
    return len(weights) - 1
