"""The error for a call that nobody can take."""

from __future__ import annotations

from resilient_llm.decide.ask import Ask
from resilient_llm.decide.keys import LIMITED, Refusal
from resilient_llm.decide.leases import Past
from resilient_llm.decide.waiting import Refused
from resilient_llm.errors import AllAttemptsFailed, CallFailed, NoProviderAvailable, RequestRejected
from resilient_llm.faults import AttemptRecord, Fault


def nobody(
    ask: Ask,
    found: Refused,
    past: Past,
    now: float,
    *,
    records: tuple[AttemptRecord, ...],
    fault: Fault | None,
    too_long: bool,
) -> CallFailed:
    """The attempts that failed, the last one with ``fault``, or why nobody is to be asked; ``too_long``: the prompt,
    for everybody."""
    retry_after = None if found.retry_at is None else max(0.0, found.retry_at - now)
    if retry_after is None and fault is not None:
        retry_after = fault.retry_after
    if too_long:
        why = "the request is too long for every provider"
        return RequestRejected(why, records, retry_after, fault)
    if past.counted and not any(one in LIMITED or one.needs_room for one in found.reasons.values()):
        why = f"{times(past.number - 1)} failed and nobody else can be asked"
        return AllAttemptsFailed(why, records, retry_after, fault)
    reasons = {
        provider: ask.unsuitable[provider] if refusal is Refusal.UNSUITABLE else refusal.value
        for provider, refusal in found.reasons.items()
    }
    told = "; ".join(f"{provider}: {reason}" for provider, reason in reasons.items())
    message = f"no provider can be asked now ({told})"
    return NoProviderAvailable(message, records, retry_after, fault, reasons)


def waits_for(found: Refused) -> str:
    """What a call in line waits for: ``gate`` or ``line``."""
    return "gate" if any(refusal in LIMITED for refusal in found.reasons.values()) else "line"


def times(count: int) -> str:
    """Attempts, as the subject of a sentence."""
    return "the attempt" if count == 1 else f"all {count} attempts"
