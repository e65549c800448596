"""What ``client.health()`` tells about a provider."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProviderHealth:
    """One provider at one moment.  Times are seconds, ``None`` means unknown or none.

    ``state`` is ``healthy``, ``degraded`` (it answers, but often fails, is slow or silent, or has more to do than it
    can), ``unhealthy`` (down) or ``unknown`` (never asked).  ``breaker`` is ``closed``, ``softly_open``, ``open`` or
    ``isolated``.  ``score`` is in [0, 1].  ``retry_in`` is the time until the next trial, ``gate_open_in`` until a rate
    limit, quota or key lets calls through again.  ``waiting`` counts calls that stand in line for it, ``wait`` is how
    long the first of them to come has stood there (0: nobody does).
    """

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
    waiting: int
    limit: int | None
    samples: int
    first_token_p50: float | None
    first_token_p95: float | None
    answer_p50: float | None
    answer_p95: float | None
    requests_left: int | None
    tokens_left: int | None
    drained: bool
    model_mismatch: bool = False
    """Whether its last answer named another model than the one it was asked for."""
    wait: float = 0.0
