"""Gates: closed while a provider has asked us to wait.  They say nothing about its health.

A :class:`RateGate` obeys rate limits: short waits, opened by time alone.  A :class:`SlowGate` obeys facts that
waiting a little does not change (no money, wrong key, unknown model): one attempt goes through when its time is up,
and a longer wait follows if that attempt meets the same fact.
"""

from __future__ import annotations

import math
from typing import Protocol

from resilient_llm.policy import Limits


class Limit(Protocol):
    """One rate limit as a provider reports it; ``None`` where it does not say."""

    @property
    def limit(self) -> int | None: ...

    @property
    def remaining(self) -> int | None: ...

    @property
    def reset_in(self) -> float | None: ...


MIN_WAIT = 0.25
"""Seconds: a server that says "retry after 0" has still just refused us."""
_BACKOFF_CAP = 60.0  # seconds a gate without a hint stays closed at most
_WHOLE_WINDOW = 64.0  # unanswered calls from which on it is open for any number
_SLOW_BASE = 60.0  # seconds before the first attempt after a quota or a key was refused


def doubling(base: float, cap: float, times: int, draw: float) -> float:
    """Between half of ``min(cap, base * 2**times)`` seconds and all of it: long enough to matter, spread enough not to
    herd (equal jitter, as in Finagle)."""
    whole = min(cap, base * 2.0 ** min(times, 64))
    return whole / 2 + draw * whole / 2


class RateGate:
    """Closed until a time.  A later, smaller hint never shortens it; a success of a call started after it closed
    opens it."""

    __slots__ = (
        "_left",
        "_left_at",
        "_per_second",
        "_policy",
        "answered",
        "closed_at",
        "opened_at",
        "reason",
        "requests_left",
        "strikes",
        "told",
        "until",
        "window",
    )

    def __init__(self, policy: Limits) -> None:
        self._policy = policy
        self.until: float = -math.inf
        self.told: float = -math.inf
        """Until when the provider asked us to wait, in its own words: without jitter, and not capped."""
        self.closed_at: float = -math.inf
        self.opened_at: float = -math.inf
        """When it opened last by time alone."""
        self.window: float = math.inf
        """Calls that may be without an answer at the same time: after it opened half as many as were answered before it
        closed, and one more with each answer."""
        self.answered: int = 0
        """Calls answered since."""
        self.strikes: int = 0
        self.reason: str = ""
        self.requests_left: int | None = None
        """As last reported; for people, decisions go by the gate."""
        self._left: float | None = None
        self._left_at = -math.inf
        self._per_second = 0.0

    def close(self, now: float, hint: float | None, draw: float, reason: str) -> float:
        """Close it for ``hint`` seconds and up to a quarter more, so that a fleet told the same does not return at
        once; without a hint, or refused again and again after it, for a time that doubles with every strike (a
        provider that says "in 1 s" for an hour would cost every call an attempt).  Returns when it opens.

        Refusals that arrive while it is closed belong to calls already on their way: they tell the same once more and
        are no further strike, or fifty calls in flight would make a pause of a second one of a minute.
        """
        self._left = None  # what the server says now is newer than what its headers said
        again = now < self.until
        if not again:
            self.opened_at = self.until
            self.window = max(1.0, self.answered / 2.0)
            self.answered = 0
        if hint is None or math.isnan(hint):
            if again:
                self.closed_at = now
                return self.until
            told = wait = doubling(1.0, _BACKOFF_CAP, self.strikes, draw)
        else:
            told, wait = hint, hint * (1.0 + 0.25 * draw)
            if self.strikes and not again:
                wait = max(wait, doubling(0.5, _BACKOFF_CAP, self.strikes, draw))
        if wait > self._policy.gate_cap:  # spread downwards, or a fleet would return at the cap together
            wait = self._policy.gate_cap * (0.8 + 0.2 * draw)
        self.strikes += not again
        self.told = max(self.told, now + max(told, MIN_WAIT))
        return self._until(now, max(wait, MIN_WAIT), reason)

    def opens(self, last: float) -> float:
        """When a call that must begin by ``last`` may pass: the jitter is left out where it would cost the call."""
        return self.until if self.until <= last else min(self.until, max(self.told, self.closed_at))

    def learn(self, now: float, requests: Limit | None, tokens: Limit | None) -> None:
        """Take note of the headroom a provider reported with an answer.

        A reported reset is the time until the bucket is *full* (OpenAI, Anthropic), so what is missing comes back at
        ``(limit - remaining) / reset`` a second; where the limit is not told, at the reset.
        """
        if requests is not None and requests.remaining is not None:
            self.requests_left = requests.remaining
            if requests.remaining == 0 and requests.reset_in:
                wait = requests.reset_in / requests.limit if requests.limit else requests.reset_in
                if now + wait > self.until:
                    self.told = now + wait
                self._until(now, wait, "the reported request limit is used up")
        if tokens is not None and tokens.remaining is not None:
            self._left, self._left_at = float(tokens.remaining), now
            missing = (tokens.limit or 0) - tokens.remaining
            reset = tokens.reset_in or 0.0
            self._per_second = missing / reset if missing > 0 and reset > 0 else math.inf

    def tokens_left(self, now: float) -> float | None:
        """Tokens that fit now, by what was last reported; ``None`` if nothing was, or the rest has come back."""
        if self._left is None or self._per_second == math.inf:
            return None
        return self._left + (now - self._left_at) * self._per_second

    def fits_at(self, now: float, tokens: int) -> float:
        """When a call of about this many tokens fits into the headroom last reported; ``now`` or before: it does."""
        if self._left is None or tokens <= self._left or self._per_second == math.inf:
            return now
        return min(self._left_at + (tokens - self._left) / self._per_second, self._left_at + self._policy.gate_cap)

    @property
    def reported(self) -> bool:
        """Whether headroom was reported since it last closed."""
        return self._left is not None

    def succeeded(self, started: float) -> None:
        """A call that began at ``started`` was answered."""
        if started >= self.opened_at:
            self.strikes = 0
            self.answered += 1
        if started > self.closed_at:
            self.until = self.told = -math.inf
            self.window = self.window + 1.0 if self.window < _WHOLE_WINDOW else math.inf

    def open(self) -> None:
        """Open it by hand."""
        self.until = self.told = self.closed_at = self.opened_at = -math.inf
        self.strikes, self._left, self.window = 0, None, math.inf

    def _until(self, now: float, wait: float, reason: str) -> float:
        until = now + min(wait, self._policy.gate_cap)
        if until > self.until:
            self.until = until
            self.reason = reason
        self.closed_at = now
        return self.until


class SlowGate:
    """Closed after a fact that only a person or the end of a billing period changes."""

    __slots__ = ("_cap", "lease_ends", "reason", "stated", "strikes", "until")

    def __init__(self, cap: float) -> None:
        self._cap = cap
        self.until: float = -math.inf
        self.strikes: int = 0
        self.reason: str = ""
        self.stated: bool = False
        """Whether the provider itself said how long: then not even the last hope of a call goes through sooner."""
        self.lease_ends: float | None = None
        """Until when the one attempt that went through may take; ``None``: none is under way."""

    def admits(self, now: float) -> bool:
        """Open, or due for the one attempt that finds out whether the fact still holds."""
        if not self.strikes:
            return True
        busy = self.lease_ends is not None and now < self.lease_ends
        return now >= self.until and not busy

    def close(self, now: float, hint: float | None, draw: float, reason: str) -> float:
        """Close it for the doubling wait, or for as long as the server says if that is longer.  Calls that were
        already on their way when it closed tell the same fact once more and do not make it worse."""
        self.lease_ends = None
        if now < self.until:
            return self.until
        whole = min(self._cap, _SLOW_BASE * 2.0 ** min(self.strikes, 64))
        wait = min(max(whole, hint or 0.0), self._cap) * (0.9 + 0.1 * draw)
        self.strikes += 1
        self.stated = hint is not None
        self.until = now + wait
        self.reason = reason
        return self.until

    def admitted(self, now: float, lease: float) -> None:
        """An attempt goes through; until it ends, or for ``lease`` seconds, it is the only one."""
        if self.strikes:
            self.lease_ends = now + lease

    def released(self) -> None:
        """That attempt ended without proving anything."""
        self.lease_ends = None

    def open(self) -> None:
        """The fact no longer holds, or a person says so."""
        self.strikes = 0
        self.reason = ""
        self.until = -math.inf
        self.lease_ends = None
