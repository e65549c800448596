"""What a failure means for the provider it came from and for the call it happened to."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

from resilient_llm.errors import Fault, FaultKind, FaultScope


class Outcome(StrEnum):
    """How an attempt ended, as far as its provider is concerned."""

    OK = "ok"
    HARD = "hard"  # the provider failed
    SOFT = "soft"  # it is there but has no room: counts half, never towards "in a row"
    GATED = "gated"  # our own rate limit: closes the gate, judges nobody
    DISABLED = "disabled"  # quota or credentials: closes the slow gate, judges nobody
    NEUTRAL = "neutral"  # cancelled, or the caller's fault: judges nobody


OK: Final = Outcome.OK
"""For the question asked at every call: looking up an enum's member costs Python 3.11 more than the question."""


OF_A_KEY: Final = frozenset({FaultKind.RATE_LIMITED, FaultKind.QUOTA_EXHAUSTED, FaultKind.AUTH, FaultKind.PERMISSION})
"""Failures that another key of the same provider may not meet."""


class Onward(StrEnum):
    """Where the call may go after a failure."""

    ANYWHERE = "anywhere"  # another provider, or this one again
    ELSEWHERE = "elsewhere"  # another provider only
    LARGER = "larger"  # only to a provider whose context window is larger or unknown
    NOWHERE = "nowhere"  # everybody would say the same


class Disposition(NamedTuple):
    outcome: Outcome
    onward: Onward


_TABLE: Final[dict[FaultKind, Disposition]] = {
    FaultKind.RATE_LIMITED: Disposition(Outcome.GATED, Onward.ANYWHERE),
    FaultKind.QUOTA_EXHAUSTED: Disposition(Outcome.DISABLED, Onward.ELSEWHERE),
    FaultKind.OVERLOADED: Disposition(Outcome.SOFT, Onward.ANYWHERE),
    FaultKind.SERVER_ERROR: Disposition(Outcome.HARD, Onward.ANYWHERE),
    FaultKind.TIMEOUT: Disposition(Outcome.HARD, Onward.ANYWHERE),
    FaultKind.CONNECTION: Disposition(Outcome.HARD, Onward.ANYWHERE),
    FaultKind.AUTH: Disposition(Outcome.DISABLED, Onward.ELSEWHERE),
    FaultKind.PERMISSION: Disposition(Outcome.DISABLED, Onward.ELSEWHERE),
    FaultKind.NOT_FOUND_MODEL: Disposition(Outcome.DISABLED, Onward.ELSEWHERE),
    FaultKind.MISCONFIGURED: Disposition(Outcome.DISABLED, Onward.ELSEWHERE),
    FaultKind.BAD_REQUEST: Disposition(Outcome.NEUTRAL, Onward.NOWHERE),
    FaultKind.CONTEXT_LENGTH: Disposition(Outcome.NEUTRAL, Onward.LARGER),
    FaultKind.PAYLOAD_TOO_LARGE: Disposition(Outcome.NEUTRAL, Onward.ELSEWHERE),
    FaultKind.CONTENT_FILTER: Disposition(Outcome.NEUTRAL, Onward.NOWHERE),
    FaultKind.CONFLICT: Disposition(Outcome.NEUTRAL, Onward.ANYWHERE),
    FaultKind.CLIENT_CLOSED: Disposition(Outcome.NEUTRAL, Onward.NOWHERE),
    FaultKind.UNSUPPORTED: Disposition(Outcome.NEUTRAL, Onward.ELSEWHERE),
    FaultKind.INVALID_RESPONSE: Disposition(Outcome.HARD, Onward.ANYWHERE),
    FaultKind.SEALED_REASONING: Disposition(Outcome.NEUTRAL, Onward.ELSEWHERE),
}


def disposition(fault: Fault) -> Disposition:
    """What this fault means.  Four cases depend on more than its kind: a 503 that says when to come back is a shortage
    rather than a breakdown, an answer the caller's own check refused is no proof that the provider is down, what went
    wrong on this machine (no file descriptor left, say) proves nothing about anybody else, and a provider that answers
    that the caller is gone is wrong, for somebody reads it."""
    outcome, onward = _TABLE[fault.kind]
    if outcome is Outcome.HARD and fault.scope is FaultScope.LOCAL:
        outcome = Outcome.NEUTRAL
    if outcome is Outcome.HARD and fault.status == 503 and fault.retry_after is not None:
        outcome = Outcome.SOFT
    if fault.kind is FaultKind.INVALID_RESPONSE and fault.scope is FaultScope.REQUEST:
        outcome = Outcome.SOFT
    if fault.kind is FaultKind.CLIENT_CLOSED and fault.status is not None:
        onward = Onward.ELSEWHERE
    return Disposition(outcome, onward)


def price(fault: Fault) -> float:
    """What a second try after this failure takes from the budget: 1 after a sign of overload, which more requests make
    worse, and a quarter after a plain failure."""
    kind, status = fault.kind, fault.status
    overload = kind in (FaultKind.RATE_LIMITED, FaultKind.OVERLOADED, FaultKind.TIMEOUT) or status in (429, 503, 529)
    return 1.0 if overload else 0.25


def costs_nothing(fault: Fault) -> bool:
    """Whether a failure is a refusal that says when to come back, which uses up none of a call's attempts."""
    return disposition(fault).outcome is Outcome.GATED or (
        fault.kind is FaultKind.OVERLOADED and fault.retry_after is not None
    )


def may_have_run(fault: Fault) -> bool:
    """Whether the request may have taken effect: it was cut off or silent, it was answered with something that is no
    answer, or the server failed, other than for want of room, which may be after the work was done."""
    if fault.status is None:
        return fault.code != "not_sent"
    if fault.kind is FaultKind.INVALID_RESPONSE and fault.status < 300:
        return True
    return fault.status >= 500 and fault.status not in (503, 529)
