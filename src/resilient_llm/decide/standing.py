"""How a provider stands, for people: the raw material of ``client.health()`` and ``client.explain()``."""

from __future__ import annotations

from dataclasses import dataclass

from resilient_llm.decide.breaker import CLOSED, State
from resilient_llm.decide.call import Call
from resilient_llm.decide.member import Member, Refusal, T


@dataclass(frozen=True, slots=True)
class Standing:
    """One provider at one moment.  Times are seconds, ``None`` means unknown or none."""

    id: str
    state: str
    score: float
    breaker: str
    breaker_reason: str
    retry_in: float | None
    gate_open_in: float | None
    gate_reason: str
    success_rate: float
    error_rate: float | None
    in_flight: int
    limit: int | None
    samples: int
    first_token_p50: float | None
    first_token_p95: float | None
    answer_p50: float | None
    answer_p95: float | None
    tokens_left: int | None
    drained: bool
    requests_left: int | None = None


def standing(member: Member[T], now: float, best: float | None) -> Standing:
    """The provider as it stands; ``best`` is the latency that others are measured against."""
    health, breaker = member.health, member.breaker
    slow, rate = member.slow_gate, member.gate
    until, reason = (slow.until, slow.reason) if slow.until > rate.until else (rate.until, rate.reason)
    return Standing(
        id=member.id,
        state=_state(member, now),
        score=member.score(now, best),
        breaker=str(breaker.state),
        breaker_reason=breaker.reason,
        retry_in=max(0.0, breaker.open_until - now) if breaker.state is State.OPEN else None,
        gate_open_in=until - now if until > now else None,
        gate_reason=reason if until > now else "",
        success_rate=health.success_rate(now),
        error_rate=breaker.error_rate(now),
        in_flight=member.concurrency.in_flight,
        limit=member.concurrency.limit,
        samples=health.samples,
        first_token_p50=health.first.at(0.5),
        first_token_p95=health.first.at(0.95),
        answer_p50=health.whole.at(0.5),
        answer_p95=health.whole.at(0.95),
        requests_left=member.gate.requests_left,
        tokens_left=member.gate.tokens_left if now < member.gate.token_reset_at else None,
        drained=member.drained,
    )


def why_not(call: Call[T], member: Member[T], refusal: Refusal | None, now: float) -> str | None:
    """Why a call would not be sent there now, or only if nobody better is left; ``None`` if it would."""
    if refusal is None:
        return None if member.trusted(now) else f"passed over while others are well: {member.distrusted_for}"
    if refusal is Refusal.UNSUITABLE:
        return call.unsuitable[member.id]
    opens = member.opens_at(now, refusal)
    wait = f" for {opens - now:.3g} s more" if opens is not None and opens > now else ""
    detail = {
        Refusal.QUOTA: member.slow_gate.reason,
        Refusal.GATED: member.gate.reason,
        Refusal.OPEN: member.breaker.reason,
    }.get(refusal, "")
    return f"{refusal.value}{f' ({detail})' if detail else ''}{wait}"


def _state(member: Member[T], now: float) -> str:
    """healthy, degraded, unhealthy or unknown."""
    if member.breaker.state is not CLOSED:
        return "unhealthy"
    if not member.health.samples:
        return "unknown"
    suffering = member.health.success_rate(now) < 0.8 or member.health.suspect or member.late_by(now) > 0
    return "degraded" if suffering else "healthy"
