"""What happened, as plain facts.  Listeners receive them after the pool's lock has been released.

``at`` is monotonic time in seconds, ``provider`` a provider id, ``call`` the number of the call within its pool.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from resilient_llm.errors import AttemptRecord


@dataclass(frozen=True, slots=True)
class AttemptStarted:
    """An attempt was allowed: ``number`` within its call, ``kind`` as in ``AttemptRecord``."""

    at: float
    provider: str
    call: int
    number: int
    kind: str


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """An attempt ended, for better or worse."""

    at: float
    provider: str
    call: int
    record: AttemptRecord


@dataclass(frozen=True, slots=True)
class BreakerChanged:
    """A breaker went from ``old`` to ``new``, and why; ``open_for`` is seconds, 0 unless it opened."""

    at: float
    provider: str
    old: str
    new: str
    reason: str
    open_for: float = 0.0


@dataclass(frozen=True, slots=True)
class TrustChanged:
    """A provider whose breaker is closed is passed over while others are well (``trusted`` is false), or no longer, and
    why."""

    at: float
    provider: str
    trusted: bool
    reason: str


@dataclass(frozen=True, slots=True)
class GateClosed:
    """A gate closed for ``wait`` seconds.  ``slow`` ones (quota, credentials, unknown model) want a person's
    attention."""

    at: float
    provider: str
    wait: float
    reason: str
    slow: bool


@dataclass(frozen=True, slots=True)
class NotTaken:
    """Something was not done although it was due, and why: a budget was empty, the outcome was stale."""

    at: float
    provider: str
    what: str
    reason: str


@dataclass(frozen=True, slots=True)
class Forced:
    """Nobody was eligible, so one attempt was forced through an open breaker."""

    at: float
    provider: str


@dataclass(frozen=True, slots=True)
class Drained:
    """An operator drained, isolated or restored a provider (``action``), or removed it."""

    at: float
    provider: str
    action: str


Event: TypeAlias = (
    AttemptStarted | AttemptEnded | BreakerChanged | TrustChanged | GateClosed | NotTaken | Forced | Drained
)
