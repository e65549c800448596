"""A key, a quota or a model that a provider refuses: whose slow gate that closes, and when such refusals come by
chance, as from a gateway with one bad replica or one bad key behind it."""

from __future__ import annotations

from resilient_llm import events
from resilient_llm.decide.attempt import Attempt
from resilient_llm.decide.gate import SlowGate
from resilient_llm.decide.member import T
from resilient_llm.faults import Fault, FaultKind

_OF_A_KEY = frozenset({FaultKind.AUTH, FaultKind.QUOTA_EXHAUSTED})


def turned_away(attempt: Attempt[T], fault: Fault, draw: float, now: float) -> events.GateClosed | None:
    """Close the slow gate, unless such refusals come by chance.  What to tell of it, if others that were under way did
    not tell it already."""
    gate, member = _gate(attempt, fault), attempt.member
    if gate is None:
        return None
    gate.refused(now)
    if attempt.by_chance:
        return None
    hint = fault.retry_after if fault.trust_hint else None
    before, until = gate.until, gate.close(now, hint, draw, str(fault.kind))
    if until == before:
        return None
    wrong = fault.message if fault.kind is FaultKind.MISCONFIGURED else ""
    name = "" if gate is member.own_gate else attempt.key.terms.name
    return events.GateClosed(now, member.id, until - now, str(fault.kind), slow=True, message=wrong, key=name)


def by_chance(attempt: Attempt[T], fault: Fault, now: float) -> bool:
    """Whether a refusal is a failure like any other: calls were answered between two of them, and no other key is there
    to go on with."""
    gate = _gate(attempt, fault)
    if gate is None or not gate.by_chance(now):
        return False
    return gate is attempt.member.own_gate or not attempt.member.other_key(attempt.key, attempt.ask, now)


def _gate(attempt: Attempt[T], fault: Fault) -> SlowGate | None:
    """Whose gate it closes; ``None`` where the next call may bring another key."""
    member, kind = attempt.member, fault.kind
    if kind is FaultKind.AUTH and not attempt.key.terms.fixed:
        return None
    of_the_key = kind in _OF_A_KEY or (kind is FaultKind.PERMISSION and len(member.keys) > 1)
    return attempt.key.slow if of_the_key else member.own_gate
