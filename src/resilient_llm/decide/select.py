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
    best = usual_latency(members, now)
    weights = [member.target.weight * max(0.02, member.score(now, best) ** 2) for member in members]
    first = _weighted(members, weights, draw())
    second = _weighted(members, weights, draw())
    if first is second:
        return first
    usual = best or 0.0
    return first if first.cost(now, usual) <= second.cost(now, usual) else second


def cheapest(members: Sequence[Member[T]], now: float) -> Member[T]:
    """The provider expected to answer soonest."""
    usual = usual_latency(members, now) or 0.0
    return min(members, key=lambda member: member.cost(now, usual))


def stalest(members: Sequence[Member[T]], now: float, stale_after: float) -> Member[T] | None:
    """The provider unseen for longest, if that is longer than ``stale_after`` seconds.  One never seen is not stale: it
    has the benefit of the doubt and is drawn like the others."""
    unseen = [m for m in members if m.health.seen_at is not None and now - m.health.seen_at > stale_after]
    return min(unseen, key=lambda member: member.health.seen_at or 0.0) if unseen else None


def _weighted(members: Sequence[Member[T]], weights: Sequence[float], draw: float) -> Member[T]:
    point = draw * sum(weights)
    for member, weight in zip(members, weights, strict=True):
        point -= weight
        if point < 0:
            return member
    return members[-1]
