"""What is known about a provider as plain data that another process can go on with: breaker, gates, statistics.

Times are monotonic seconds of the process that wrote them, so they are moved by how much later it is for the one that
reads them.  What a person decided (drained, isolated) and what is under way is no knowledge and stays out.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from enum import Enum
from typing import Final, TypedDict, cast

from resilient_llm.decide.breaker import Breaker, State
from resilient_llm.decide.gate import RateGate, SlowGate
from resilient_llm.decide.member import Member, T
from resilient_llm.decide.statistics import Statistics
from resilient_llm.record.state import Plain, fields_of, value_of

TIMES: Final = frozenset(
    {
        *("until", "told", "asked", "soonest", "closed_at", "opened_at", "chance_until", "_refused_at"),  # gates
        *("trial_at", "tried_at", "since", "_down_at", "_run_at", "_broke_at", "failed_at"),  # breaker
        *("seen_at", "weighed_at", "_latency_at", "_quick_at"),  # statistics
        *("_slice_at", "_calm_at", "_calm_spoke_at"),  # slowness
    }
)
"""Attributes that are points in time."""
_OF_BREAKER: Final = frozenset({"policy", "_bad", "_good", "generation", "_before", "_latest"})
_OF_OTHERS: Final = frozenset({"policy", "cap", "lease_ends"})
"""What follows from the policies, or belongs to attempts of the process."""
_FARTHEST: Final = 86400.0  # seconds ahead that anything can be due
_LONGEST: Final = 1000  # elements of a sequence, characters of a text


class Kept(TypedDict):
    """One provider."""

    breaker: Mapping[str, Plain]
    gate: Mapping[str, Plain]
    own_gate: Mapping[str, Plain]
    account_gate: Mapping[str, Plain]
    statistics: Mapping[str, Plain]


class Unusable(ValueError):
    """What was kept is not what it should be."""


def kept(member: Member[T]) -> Kept | None:
    """What is known about a provider; ``None``: nothing that another process could use.  Of several keys only the first
    one's waits are kept: the others find out."""
    if member.breaker.state is State.ISOLATED or not _is_known(member):
        return None
    return Kept(
        breaker=fields_of(member.breaker, without=_OF_BREAKER),
        gate=fields_of(member.keys[0].gate, without=_OF_OTHERS),
        own_gate=fields_of(member.own_gate, without=_OF_OTHERS),
        account_gate=fields_of(member.keys[0].slow, without=_OF_OTHERS),
        statistics=fields_of(member.statistics, without=_OF_OTHERS),
    )


def restore(member: Member[T], found: Mapping[str, object], *, later: float, now: float, same_account: bool) -> bool:
    """Go on with what was kept, ``later`` being what to add to its times; false, and nothing happens, for a provider
    that was asked already: what is known here is newer.

    Raises :class:`Unusable` and changes nothing for what is not what it should be.
    """
    if _is_known(member):
        return False
    policies = member.policies
    made = (
        Breaker(policies.breaker),
        RateGate(policies.limits),
        Statistics(policies.advanced),
        SlowGate(member.own_gate.cap),
        SlowGate(member.own_gate.cap),
    )
    names = ("breaker", "gate", "statistics", "own_gate", "account_gate")
    for name, part in zip(names, made, strict=True):
        _fill(part, found.get(name), later, now)
    breaker, gate, statistics, own, account = made
    breaker.generation = member.breaker.generation
    member.breaker, member.statistics, member.slowness = breaker, statistics, statistics.slowness
    member.keys[0].gate = gate
    _go_on(member.own_gate, own)
    if same_account and not member.account_gate.strikes:
        _go_on(member.account_gate, account)
    return True


def _is_known(member: Member[T]) -> bool:
    """Whether it was asked by this process, or told to wait."""
    gates = member.gate.strikes or member.own_gate.strikes or member.account_gate.strikes
    return member.statistics.samples > 0 or bool(gates)


def _go_on(gate: SlowGate, found: SlowGate) -> None:
    gate.until, gate.strikes, gate.reason, gate.stated = found.until, found.strikes, found.reason, found.stated


def _fill(part: object, recorded: object, later: float, now: float) -> None:
    """Give a fresh object the attributes that were kept of another one.  Raises :class:`Unusable`."""
    if not isinstance(recorded, Mapping):
        raise Unusable("a part is missing")
    for key, value in cast("Mapping[str, object]", recorded).items():
        before: object = getattr(part, key, _ABSENT)
        if before is _ABSENT or key in (_OF_BREAKER if isinstance(part, Breaker) else _OF_OTHERS):
            raise Unusable(f"there is no {key!r:.40}")
        if type(before).__module__.startswith("resilient_llm.decide.") and not isinstance(before, Enum):
            _fill(before, _inner(value), later, now)
            continue
        made = _value(value, before)
        if key in TIMES and isinstance(made, float | int) and math.isfinite(made):
            made = made + later
            if made > now + _FARTHEST:
                raise Unusable(f"{key} is too far ahead")
        setattr(part, key, made)


def _inner(value: object) -> object:
    return cast("Mapping[str, object]", value).get("fields") if isinstance(value, Mapping) else None


def _value(value: object, before: object) -> object:
    """A value that was kept, of the same kind as what stands in its place."""
    if not _plausible(value):
        raise Unusable(f"{value!r:.40} is no value")
    try:
        made = value_of(cast(Plain, value), before)
    except (TypeError, ValueError, KeyError):
        raise Unusable(f"{value!r:.40} is no value") from None
    if before is not None and _kind(made) != _kind(before):
        raise Unusable(f"{value!r:.40} stands where {_kind(before)} is expected")
    return made


def _plausible(value: object) -> bool:
    if isinstance(value, list):
        elements = cast("list[object]", value)
        return len(elements) <= _LONGEST and all(isinstance(one, int | float) for one in elements)
    if isinstance(value, Mapping):
        return len(cast("Mapping[object, object]", value)) <= 2
    return value is None or (isinstance(value, bool | int | float | str) and len(str(value)) <= _LONGEST)


def _kind(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "a sequence" if isinstance(value, list | tuple | deque) else f"a {type(value).__name__}"
    return "a number"


_ABSENT: Final = object()
