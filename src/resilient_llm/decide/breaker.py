"""The circuit breaker of one provider.

Theory of operation ------------------- A closed breaker counts.  It trips on ``consecutive`` hard failures in a row
(finds an outage at any call rate) or on a share of bad calls in an exact sliding window (finds a half-broken
provider).  An open breaker refuses until ``open_until``.  Then it lets *one* real call through at a time: a probe,
which holds a lease.  ``successes`` good probes close the breaker, one bad probe opens it again for longer.

Three rules keep it honest:

* every state change starts a new *generation*, and an attempt that began in an earlier one cannot move the breaker:
  calls last minutes, open periods seconds, so late results are the normal case and prove nothing about now;
* a probe that ends without a verdict (cancelled, rate limited) gives its place back and judges nobody;
* a probe that never ends loses its place when its lease expires, and counts as a failure.

Every change of state goes through :data:`TRANSITIONS`; the diagram in the documentation is drawn from it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from resilient_llm.decide.backoff import equal_jitter
from resilient_llm.decide.outcome import Outcome
from resilient_llm.policy import Breaker as Policy


class State(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    ISOLATED = "isolated"


CLOSED: Final = State.CLOSED
"""For questions asked at every call: looking up an enum's member costs Python 3.11 more than the question."""
_HALF_OPEN: Final = State.HALF_OPEN


class Cause(StrEnum):
    TRIPPED = "tripped"
    PROBE_ADMITTED = "probe admitted"
    PROBE_FAILED = "probe failed"
    RECOVERED = "enough probes succeeded"
    ISOLATED = "isolated by hand"
    RESTORED = "restored by hand"


TRANSITIONS: Final[Mapping[tuple[State, Cause], State]] = MappingProxyType(
    {
        (State.CLOSED, Cause.TRIPPED): State.OPEN,
        (State.OPEN, Cause.PROBE_ADMITTED): State.HALF_OPEN,
        (State.HALF_OPEN, Cause.PROBE_FAILED): State.OPEN,
        (State.HALF_OPEN, Cause.RECOVERED): State.CLOSED,
        (State.CLOSED, Cause.ISOLATED): State.ISOLATED,
        (State.OPEN, Cause.ISOLATED): State.ISOLATED,
        (State.HALF_OPEN, Cause.ISOLATED): State.ISOLATED,
        (State.ISOLATED, Cause.RESTORED): State.CLOSED,
        (State.OPEN, Cause.RESTORED): State.CLOSED,
        (State.HALF_OPEN, Cause.RESTORED): State.CLOSED,
    }
)


class Window:
    """Good and bad calls of the last ``buckets * width`` seconds, exactly: a bucket is counted or it is not.

    Times are taken relative to the first one seen, so that shifting the clock shifts nothing else.
    """

    __slots__ = ("_bad", "_count", "_epochs", "_from", "_index", "_origin", "_to", "_width")

    def __init__(self, buckets: int, seconds: float) -> None:
        self._width = seconds / buckets
        self._count = [0] * buckets
        self._bad = [0] * buckets
        self._epochs = [-1] * buckets
        self._origin: float | None = None
        self._index = 0  # the bucket last counted into...
        self._from = self._to = 0.0  # ...and when it begins and ends

    def add(self, now: float, bad: bool) -> None:
        """Count one call."""
        if not self._from <= now < self._to:
            self._turn(now)
        self._count[self._index] += 1
        if bad:
            self._bad[self._index] += 1

    def totals(self, now: float) -> tuple[int, int]:
        """Calls in the window, and how many of them were bad."""
        oldest = self._epoch(now) - len(self._count)
        live = [index for index, epoch in enumerate(self._epochs) if epoch > oldest and epoch >= 0]
        return sum(self._count[index] for index in live), sum(self._bad[index] for index in live)

    def clear(self) -> None:
        """Forget everything."""
        self._epochs = [-1] * len(self._epochs)
        self._from = self._to = 0.0

    def _turn(self, now: float) -> None:
        """Find the bucket of this time, and empty it if it holds an earlier one's counts."""
        epoch = self._epoch(now)
        self._index = index = epoch % len(self._count)
        if self._epochs[index] != epoch:
            self._epochs[index] = epoch
            self._count[index] = self._bad[index] = 0
        assert self._origin is not None
        # A hair narrower than the bucket: rounding must not put a call into its neighbour.
        self._from = self._origin + (epoch + 1e-6) * self._width
        self._to = self._origin + (epoch + 1 - 1e-6) * self._width

    def _epoch(self, now: float) -> int:
        if self._origin is None:
            self._origin = now
        # A clock that steps backwards counts into the first bucket rather than into a negative one.
        return max(0, int((now - self._origin) / self._width))


class Breaker:
    """State of one breaker.  Not locked: the pool's lock is held by whoever calls."""

    __slots__ = (
        "closed_at",
        "consecutive",
        "generation",
        "open_until",
        "passed",
        "policy",
        "probe_expires",
        "reason",
        "state",
        "successes_since_close",
        "trips",
        "window",
    )

    def __init__(self, policy: Policy) -> None:
        self.policy: Policy = policy
        self.state: State = State.CLOSED
        self.generation: int = 0
        self.consecutive: int = 0
        self.open_until: float = -math.inf
        self.trips: int = 0
        self.passed: int = 0
        self.probe_expires: float | None = None
        """When the lease of the probe in flight runs out; ``None`` while no probe is in flight."""
        self.closed_at: float | None = None
        """When it last closed after having been open; ``None`` if it never opened."""
        self.successes_since_close: int = 0
        self.reason: str = ""
        self.window: Window = Window(policy.buckets, policy.window)

    # --- questions ---

    def may_probe(self, now: float) -> bool:
        """Whether a probe would be admitted now."""
        if self.state is State.OPEN:
            return now >= self.open_until
        return self.state is State.HALF_OPEN and self.probe_expires is None

    def error_rate(self, now: float) -> float | None:
        """Share of bad calls in the window; ``None`` without any."""
        count, bad = self.window.totals(now)
        return bad / count if count else None

    # --- changes ---

    def admit_probe(self, now: float, lease: float) -> None:
        """Let one probe through; its lease ends ``lease`` seconds from now.  From OPEN this begins the half-open phase,
        also before ``open_until`` if the pool forces it."""
        if self.state is State.OPEN:
            self._move(Cause.PROBE_ADMITTED, now)
        self.probe_expires = now + lease

    def release_probe(self) -> None:
        """The probe in flight ended or spoke: its place is free again."""
        self.probe_expires = None

    def expire(self, now: float, draw: float) -> bool:
        """Fail a probe whose lease has run out.  Returns whether one had."""
        if self.state is not State.HALF_OPEN or self.probe_expires is None or now < self.probe_expires:
            return False
        self._open(Cause.PROBE_FAILED, now, draw, "a probe gave no sign of life")
        return True

    def record(self, now: float, outcome: Outcome, draw: float, *, escalate: bool = True) -> bool:
        """Count an outcome of the current generation; returns whether the state changed.

        ``escalate=False`` (the failure is this machine's own) keeps a trip from making the next open period longer.
        GATED, DISABLED and NEUTRAL change nothing.
        """
        if outcome is Outcome.OK:
            return self.succeeded(now)
        if outcome is Outcome.HARD or outcome is Outcome.SOFT:
            return self._failed(now, outcome, draw, escalate)
        return False

    def isolate(self, now: float) -> None:
        """Hold it open until :meth:`restore`."""
        if self.state is not State.ISOLATED:
            self._move(Cause.ISOLATED, now)

    def restore(self, now: float) -> None:
        """Close it by hand; traffic returns gradually."""
        if self.state is not State.CLOSED:
            self._move(Cause.RESTORED, now)
            self.trips = 0

    def ramp(self, now: float, floor: float, calls: int, seconds: float) -> float:
        """The share of its normal traffic it should get: 1, or less for a while after it closed."""
        if self.closed_at is None:
            return 1.0
        share = max(self.successes_since_close / calls, (now - self.closed_at) / seconds if seconds else 1.0)
        if share >= 1.0:
            self.closed_at = None
            return 1.0
        return max(floor, share)

    def succeeded(self, now: float) -> bool:
        """Count a success of the current generation; returns whether the state changed."""
        if self.state is _HALF_OPEN:
            self.passed += 1
            if self.passed < self.policy.successes:
                return False
            self._move(Cause.RECOVERED, now)
            return True
        self.consecutive = 0
        self.successes_since_close += 1
        self.window.add(now, False)
        return False

    # --- internals ---

    def _failed(self, now: float, outcome: Outcome, draw: float, escalate: bool) -> bool:
        if self.state is State.HALF_OPEN:
            self._open(Cause.PROBE_FAILED, now, draw, "a probe failed", escalate)
            return True
        self.window.add(now, bad=True)
        if outcome is Outcome.HARD:
            self.consecutive += 1
        reason = self._trip_reason(now)
        if reason is None:
            return False
        self._calm_down(now)
        self._open(Cause.TRIPPED, now, draw, reason, escalate)
        return True

    def _trip_reason(self, now: float) -> str | None:
        if self.consecutive >= self.policy.consecutive:
            return f"{self.consecutive} failures in a row"
        count, bad = self.window.totals(now)
        if count >= self.policy.min_samples and bad >= self.policy.ratio * count:
            return f"{bad} of the last {count} calls failed"
        return None

    def _calm_down(self, now: float) -> None:
        """One trip is forgiven per calm window: halving the open period gradually stops flapping at the base."""
        if self.closed_at is not None or self.trips:
            calm = now - self.open_until
            self.trips = max(0, self.trips - int(min(calm / self.policy.window, 64))) if calm > 0 else self.trips

    def _open(self, cause: Cause, now: float, draw: float, reason: str, escalate: bool = True) -> None:
        exponent = self.trips if escalate else 0
        self._move(cause, now)
        self.reason = reason
        self.open_until = now + equal_jitter(self.policy.open_base, self.policy.open_cap, exponent, draw)
        self.trips += 1 if escalate else 0

    def _move(self, cause: Cause, now: float) -> None:
        self.state = TRANSITIONS[self.state, cause]
        self.generation += 1
        self.reason = cause.value
        self.consecutive = self.passed = self.successes_since_close = 0
        self.probe_expires = None
        self.window.clear()
        self.closed_at = now if self.state is State.CLOSED else None
