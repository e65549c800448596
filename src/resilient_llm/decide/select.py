"""Whom to ask among equals.

Weighted power-of-two-choices *with replacement*: draw two, take the cheaper.  Drawing without replacement among two
or three providers would always take the cheapest, and a provider that once lost would never be seen again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from resilient_llm.decide.member import Member, T


def usual_latency(members: Sequence[Member[T]], now: float) -> float | None:
    """The best known latency of a tier, against which the others are measured; ``None`` while nothing is known."""
    known = [latency for member in members if (latency := member.latency(now)) is not None]
    return min(known) if known else None


def choose(members: Sequence[Member[T]], now: float, draw: Callable[[], float]) -> Member[T]:
    """One of several eligible providers of a tier: healthy and fast ones more often, the cheaper of two draws."""
    latencies = [member.latency(now) for member in members]
    rates = [member.health.success_rate(now) for member in members]
    best = min((latency for latency in latencies if latency is not None), default=None)
    weights = [
        member.target.weight * max(0.02, member.standing(now, latency, rate, best) ** 2)
        for member, latency, rate in zip(members, latencies, rates, strict=True)
    ]
    first = _weighted(weights, draw())
    second = _weighted(weights, draw())
    if first != second:
        costs = [members[index].price(latencies[index], rates[index], best or 0.0) for index in (first, second)]
        first = first if costs[0] <= costs[1] else second
    return members[first]


def cheapest(members: Sequence[Member[T]], now: float) -> Member[T]:
    """The provider expected to answer soonest."""
    usual = usual_latency(members, now) or 0.0
    return min(members, key=lambda member: member.cost(now, usual))


def stalest(members: Sequence[Member[T]], now: float, stale_after: float) -> Member[T] | None:
    """The provider unseen for longest, if that is longer than ``stale_after`` seconds.  One never seen is not stale: it
    has the benefit of the doubt and is drawn like the others."""
    unseen = [m for m in members if m.health.seen_at is not None and now - m.health.seen_at > stale_after]
    return min(unseen, key=lambda member: member.health.seen_at or 0.0) if unseen else None


def _weighted(weights: Sequence[float], draw: float) -> int:
    point = draw * sum(weights)
    for index, weight in enumerate(weights):
        point -= weight
        if point < 0:
            return index
    return len(weights) - 1
