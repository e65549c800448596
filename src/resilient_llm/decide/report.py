"""How providers stand, for people: the raw material of ``client.health()`` and ``client.explain()``."""

from __future__ import annotations

from collections.abc import Sequence

from resilient_llm.decide.ask import Ask
from resilient_llm.decide.breaker import CLOSED, State
from resilient_llm.decide.choose import usual_latency
from resilient_llm.decide.keys import Refusal
from resilient_llm.decide.member import Member, T
from resilient_llm.health import ProviderHealth

_DEGRADED = 0.8  # success rate below which a provider is called degraded


def health_of(members: Sequence[Member[T]], now: float) -> tuple[ProviderHealth, ...]:
    """Every provider as it stands."""
    best = usual_latency(members)
    return tuple(_health(member, best, now) for member in members)


def _health(member: Member[T], best: float | None, now: float) -> ProviderHealth:
    seen, breaker = member.statistics, member.breaker
    slow, rate = member.slow_gate, member.gate
    until, reason = (slow.until, slow.reason) if slow.until > rate.until else (rate.until, rate.reason)
    requests, tokens = member.left(now)
    return ProviderHealth(
        id=member.id,
        state=_state(member, now),
        score=member.score(seen.latency, seen.success_rate(now), best),
        breaker=str(breaker.state),
        breaker_reason=breaker.reason,
        retry_in=max(0.0, breaker.trial_at - now) if breaker.state in (State.OPEN, State.SOFTLY_OPEN) else None,
        gate_open_in=until - now if until > now else None,
        gate_reason=reason if until > now else "",
        success_rate=seen.success_rate(now),
        error_rate=seen.error_rate(),
        in_flight=member.in_flight,
        waiting=len(member.line.waiting),
        limit=member.target.max_concurrency,
        samples=seen.samples,
        first_token_p50=seen.first.at(0.5),
        first_token_p95=seen.first.at(0.95),
        answer_p50=seen.whole.at(0.5),
        answer_p95=seen.whole.at(0.95),
        requests_left=requests,
        tokens_left=tokens,
        drained=member.drained,
        model_mismatch=member.model_mismatch,
        wait=max((now - place.since for place in member.line.waiting), default=0.0),
    )


def why_not(ask: Ask, member: Member[T], now: float) -> str | None:
    """Why a call would not be sent there now, or only if nobody better is left; ``None`` if it would."""
    if member.id in ask.unsuitable:
        return ask.unsuitable[member.id]
    if member.breaker.state is State.ISOLATED:
        return Refusal.ISOLATED.value
    refusal = member.refusal(ask, now)
    if refusal is None and member.breaker.soft:
        return f"asked only while nobody better is there: {member.breaker.reason}"
    if refusal is None and member.slowness.full(len(member.pending), now, ask.deadline - now):
        return "asked only while nobody better is there: more wait there than it answers at its usual speed"
    if refusal is None and member.breaker.state is State.OPEN:
        refusal = Refusal.DOWN
    if refusal is None:
        return None
    opens = member.opens_at(refusal, ask, now)
    wait = f" for {opens - now:.3g} s more" if now < opens < float("inf") else ""
    detail = {
        Refusal.QUOTA: member.slow_gate.reason,
        Refusal.GATED: member.gate.reason,
        Refusal.DOWN: member.breaker.reason,
    }.get(refusal, "")
    return f"{refusal.value}{f' ({detail})' if detail else ''}{wait}"


def _state(member: Member[T], now: float) -> str:
    """healthy, degraded, unhealthy or unknown."""
    if member.breaker.state is State.OPEN or member.breaker.state is State.ISOLATED:
        return "unhealthy"
    if member.breaker.state is not CLOSED or member.slowness.saturated:
        return "degraded"
    if not member.statistics.samples:
        return "unknown"
    return "degraded" if member.statistics.success_rate(now) < _DEGRADED else "healthy"
