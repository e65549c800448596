"""What happened, as plain facts.  Listeners receive them after the pool's lock has been released.

``at`` is monotonic time in seconds, ``provider`` a provider id, ``call`` the number of the call within its pool.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from resilient_llm.faults import AttemptKind, AttemptRecord


@dataclass(frozen=True, slots=True)
class AttemptStarted:
    """An attempt was allowed: ``number`` within its call, ``kind`` as in ``AttemptRecord``."""

    at: float
    provider: str
    call: int
    number: int
    kind: AttemptKind


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """An attempt ended, for better or worse."""

    at: float
    provider: str
    call: int
    record: AttemptRecord


@dataclass(frozen=True, slots=True)
class BreakerChanged:
    """A breaker went from ``old`` to ``new`` (``closed``, ``softly_open``, ``open``, ``isolated``), and why.

    ``open_for`` is seconds until the next trial, 0 unless it opened."""

    at: float
    provider: str
    old: str
    new: str
    reason: str
    open_for: float = 0.0


@dataclass(frozen=True, slots=True)
class GateClosed:
    """A gate closed for ``wait`` seconds.  ``slow`` ones (quota, credentials, unknown model) want a person's
    attention."""

    at: float
    provider: str
    wait: float
    reason: str
    slow: bool
    message: str = ""
    """What looks wrong, of a ``misconfigured`` provider."""
    key: str = ""
    """Which key it is about, where the provider has several: its place, and never the key."""


@dataclass(frozen=True, slots=True)
class NotTaken:
    """Something was not done although it was due.

    ``what`` is ``retry`` or ``hedge`` (``reason``: ``budget``), or ``verdict`` (``reason``: ``stale``, the attempt
    began before the breaker changed; ``late``, this process stood still)."""

    at: float
    provider: str
    what: str
    reason: str


@dataclass(frozen=True, slots=True)
class OperatorChanged:
    """An operator changed a provider: ``action`` is ``drain``, ``isolate``, ``restore`` or ``removed``."""

    at: float
    provider: str
    action: str


Event: TypeAlias = AttemptStarted | AttemptEnded | BreakerChanged | GateClosed | NotTaken | OperatorChanged
