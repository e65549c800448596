"""Gates: closed while a provider has asked us to wait.  They say nothing about its health.

A :class:`RateGate` obeys rate limits: short waits, opened by time alone.  A :class:`SlowGate` obeys facts that
waiting a little does not change (no money, wrong key, unknown model): one attempt goes through when its time is up,
and a longer wait follows if that attempt meets the same fact.
"""

from __future__ import annotations

import math
from typing import Protocol

from resilient_llm.decide.backoff import equal_jitter
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


class RateGate:
    """Closed until a time.  A later, smaller hint never shortens it; a success of a call started after it closed
    opens it."""

    __slots__ = ("_policy", "closed_at", "reason", "requests_left", "strikes", "token_reset_at", "tokens_left", "until")

    def __init__(self, policy: Limits) -> None:
        self._policy = policy
        self.until: float = -math.inf
        self.closed_at: float = -math.inf
        self.strikes: int = 0
        self.reason: str = ""
        self.requests_left: int | None = None
        """As last reported; for people, decisions go by the gate."""
        self.tokens_left: int | None = None
        self.token_reset_at: float = -math.inf

    def close(self, now: float, hint: float | None, draw: float, reason: str) -> float:
        """Close it for ``hint`` seconds and up to a quarter more, so that a fleet told the same does not return at
        once; without a hint, or refused again and again after it, for a time that doubles with every strike (a
        provider that says "in 1 s" for an hour would cost every call an attempt).  Returns when it opens.

        Refusals that arrive while it is closed belong to calls already on their way: they tell the same once more and
        are no further strike, or fifty calls in flight would make a pause of a second one of a minute.
        """
        cap = self._policy.gate_cap
        again = now < self.until
        if hint is None or math.isnan(hint):
            if again:
                self.closed_at = now
                return self.until
            wait = equal_jitter(1.0, self._policy.gate_backoff_cap, self.strikes, draw)
        elif hint > cap:  # not obeyed anyway; spread downwards, or a fleet would return at the cap together
            wait = cap * (0.8 + 0.2 * draw)
        else:
            wait = hint * (1.0 + 0.25 * draw)
            if self.strikes and not again:
                wait = max(wait, equal_jitter(0.5, self._policy.gate_backoff_cap, self.strikes, draw))
        self.strikes += not again
        return self._until(now, max(wait, MIN_WAIT), reason)

    def learn(self, now: float, requests: Limit | None, tokens: Limit | None) -> None:
        """Take note of the headroom a provider reported with an answer, and close before it has to refuse us."""
        if requests is not None and requests.remaining is not None:
            self.requests_left = requests.remaining
        if requests is not None and requests.remaining == 0:
            wait = _refill(requests, 1)
            if wait is not None:
                self._until(now, wait, "the reported request limit is used up")
        if tokens is not None and tokens.remaining is not None:
            self.tokens_left = tokens.remaining
            wait = _refill(tokens, tokens.limit or 0)
            self.token_reset_at = now + min(wait or 0.0, self._policy.gate_cap)

    def fits(self, now: float, tokens: int) -> bool:
        """Whether a call of about this many tokens fits into the headroom last reported."""
        return self.tokens_left is None or now >= self.token_reset_at or tokens <= self.tokens_left

    def succeeded(self, started: float) -> None:
        """A call that began at ``started`` was answered."""
        if started > self.closed_at:
            self.strikes = 0
            self.until = -math.inf

    def _until(self, now: float, wait: float, reason: str) -> float:
        until = now + min(wait, self._policy.gate_cap)
        if until > self.until:
            self.until = until
            self.reason = reason
        self.closed_at = now
        return self.until


def _refill(limit: Limit, needed: int) -> float | None:
    """Seconds until ``needed`` units are there again.

    A reported reset is the time until the bucket is *full* (OpenAI, Anthropic); with its size known, the wait for
    part of it is that share.  A window that resets all at once refuses once more and then says how long.
    """
    if limit.reset_in is None:
        return None
    if limit.limit:
        return limit.reset_in * min(1.0, needed / limit.limit)
    return limit.reset_in


class SlowGate:
    """Closed after a fact that only a person or the end of a billing period changes."""

    __slots__ = ("_policy", "probe_expires", "reason", "strikes", "until")

    def __init__(self, policy: Limits) -> None:
        self._policy = policy
        self.until: float = -math.inf
        self.strikes: int = 0
        self.reason: str = ""
        self.probe_expires: float | None = None

    @property
    def closed(self) -> bool:
        """Whether it has been closed and nothing has disproved the reason since."""
        return self.strikes > 0

    def admits(self, now: float) -> bool:
        """Open, or due for the one attempt that finds out whether the fact still holds."""
        if not self.strikes:
            return True
        waiting = self.probe_expires is not None and now < self.probe_expires
        return now >= self.until and not waiting

    def close(self, now: float, hint: float | None, draw: float, reason: str) -> float:
        """Close it for the doubling wait, or for as long as the server says if that is longer.  Calls that were
        already on their way when it closed tell the same fact once more and do not make it worse."""
        self.probe_expires = None
        if now < self.until:
            return self.until
        whole = min(self._policy.slow_cap, self._policy.slow_base * 2.0 ** min(self.strikes, 64))
        wait = min(max(whole, hint or 0.0), self._policy.slow_cap) * (0.9 + 0.1 * draw)
        self.strikes += 1
        self.until = now + wait
        self.reason = reason
        return self.until

    def admitted(self, now: float, lease: float) -> None:
        """An attempt goes through; until it ends, or for ``lease`` seconds, it is the only one."""
        if self.strikes:
            self.probe_expires = now + lease

    def released(self) -> None:
        """That attempt ended without proving anything."""
        self.probe_expires = None

    def succeeded(self) -> None:
        """The fact no longer holds."""
        self.strikes = 0
        self.reason = ""
        self.until = -math.inf
        self.probe_expires = None
