"""Gates: closed while a provider has asked us to wait.  They say nothing about its health.

A :class:`RateGate` obeys rate limits: short waits, opened by time alone.  A :class:`SlowGate` obeys facts that
waiting a little does not change (no money, wrong key, unknown model): one attempt goes through when its time is up,
and a longer wait follows if that attempt meets the same fact.
"""

from __future__ import annotations

import math

from resilient_llm.policy import Limits

MIN_WAIT = 0.25
"""Seconds: a server that says "retry after 0" has still just refused us."""
_SPREAD = 1.0  # seconds by which those are spread at most who have nobody else to ask
_BACKOFF_CAP = 60.0  # seconds added to a hint that proved too short, at most
_NO_HINT_CAP = 16.0  # seconds a gate without a hint stays closed at most, for one refused call in 16 s is cheap
_NO_HINT_WAIT = 1.0  # the same where nobody else can be asked, for a plain client would ask again and again
_NO_HINT_SHARE = 0.125  # of its time that such a call waits, if that is longer
_SLOW_BASE = 60.0  # seconds before the first attempt after a quota or a key was refused
_PROVEN = 10  # refusals in a row that are no chance even where two calls in three are refused
_CHANCE = 60.0  # seconds for which refusals are by chance after a call was answered between two


def doubling(base: float, cap: float, times: int, draw: float) -> float:
    """Between half of ``min(cap, base * 2**times)`` seconds and all of it: long enough to matter, spread enough not to
    herd (equal jitter, as in Finagle)."""
    whole = min(cap, base * 2.0 ** min(times, 64))
    return whole / 2 + draw * whole / 2


class RateGate:
    """Closed until a time.  A later, smaller hint never shortens it; a success of a call started after it closed
    opens it."""

    told: float = -math.inf
    """Until when the provider asked us to wait, in its own words: without jitter, and not capped."""
    asked: float = -math.inf
    """The same without what we suppose where it did not say for how long."""
    soonest: float = -math.inf
    """``told`` with jitter."""
    closed_at: float = -math.inf
    opened_at: float = -math.inf
    """When it opened last by time alone."""
    without_hint: bool = False
    """Whether what closed it last did not say for how long."""
    reason: str = ""

    def __init__(self, policy: Limits) -> None:
        self.policy = policy
        self.until: float = -math.inf
        self.strikes: int = 0

    def close(
        self,
        now: float,
        hint: float | None,
        draw: float,
        reason: str,
        *,
        pause: float = 1.0,
        started: float = -math.inf,
    ) -> float:
        """Close it for ``hint`` seconds and up to a quarter more, so that a fleet told the same does not return at
        once; without a hint for ``pause`` seconds, which double with every strike.  Where hints prove too short again
        and again the time doubles, too (a provider that says "in 1 s" for an hour would cost every call an attempt).
        Returns when it opens.  Refusals of calls that had ``started`` before it closed tell the same once more and are
        no further strike, or fifty calls in flight would make a pause of a second one of a minute.
        """
        again = now < self.until and started <= self.closed_at
        if not again:
            self.opened_at = min(self.until, now)
        without_hint = hint is None or math.isnan(hint)
        if without_hint and again:
            self.closed_at = now
            return self.until
        self.without_hint = without_hint
        if hint is None or without_hint:
            seconds = min(pause * 2.0 ** min(self.strikes, 16), _NO_HINT_CAP)
            told = soonest = min(seconds, _NO_HINT_WAIT)
        else:
            seconds = told = soonest = hint
            self.asked = max(self.asked, now + max(hint, MIN_WAIT))
        wait, soonest = seconds * (1.0 + 0.25 * draw), soonest + min(0.05 * soonest, _SPREAD) * draw
        if self.strikes and not again and not without_hint:
            wait = max(wait, doubling(0.5, _BACKOFF_CAP, self.strikes, draw))
        if wait > self.policy.gate_cap:  # spread downwards, or a fleet would return at the cap together
            wait = self.policy.gate_cap * (0.8 + 0.2 * draw)
        self.strikes += not again
        self.told = max(self.told, now + max(told, MIN_WAIT))
        self.soonest = max(self.soonest, now + min(max(soonest, MIN_WAIT), wait))
        return self._until(now, max(wait, MIN_WAIT), reason)

    def opens(self, last: float, *, waits: bool) -> float:
        """When a call that must begin by ``last`` may pass.  One that waits because nobody else can be asked goes by
        what the provider said, without what we add when that proved too short; and without jitter where the jitter
        would cost the call.  Where the provider did not say how long, it waits a second, or an eighth of its time."""
        if not waits and (self.until <= last or self.without_hint):
            return self.until
        soonest = min(self.until, self.soonest)
        if self.without_hint:
            soonest = min(self.until, max(soonest, self.closed_at + (last - self.closed_at) * _NO_HINT_SHARE))
        return soonest if soonest <= last else min(self.until, max(self.told, self.closed_at))

    def succeeded(self, started: float) -> None:
        """A call that began at ``started`` was answered."""
        if started >= self.opened_at:
            self.strikes = 0
        if started > self.closed_at:
            self.until = self.told = self.asked = self.soonest = -math.inf

    def reopen(self) -> None:
        """Calls get through though it is closed: it opens, and how often it closed in a row stays known."""
        self.until = self.told = self.asked = self.soonest = -math.inf

    def _until(self, now: float, wait: float, reason: str) -> float:
        until = now + min(wait, self.policy.gate_cap)
        if until > self.until:
            self.until, self.reason = until, reason
        self.closed_at = now
        return self.until

    def open(self) -> None:
        """Open it by hand."""
        self.until = self.told = self.asked = self.soonest = -math.inf
        self.closed_at = self.opened_at = -math.inf
        self.strikes = 0


class SlowGate:
    """Closed after a fact that only a person or the end of a billing period changes."""

    until: float = -math.inf
    reason: str = ""
    stated: bool = False
    """Whether the provider itself said how long: then not even the last hope of a call goes through sooner."""
    lease_ends: float = -math.inf
    """Until when the one attempt that went through may take; in the past: none is under way."""
    chance_until: float = -math.inf
    """Until when refusals are by chance: a call that began after one was answered."""
    _refused_at: float = math.inf

    def __init__(self, cap: float) -> None:
        self.cap = cap
        self.strikes: int = 0
        self.row: int = 0
        """Refusals in a row."""

    @property
    def proven(self) -> bool:
        """Whether so many were refused in a row that nearly everybody is."""
        return self.row >= _PROVEN

    def by_chance(self, now: float) -> bool:
        """Whether a refusal now says nothing about the next call: one bad replica or key behind a gateway."""
        return now < self.chance_until and not self.proven

    def refused(self, now: float) -> None:
        """A call met the fact."""
        if not self.row and now >= self.chance_until:
            self._refused_at = now
        self.row += 1

    def answered(self, started: float, now: float) -> bool:
        """A call that began at ``started`` was answered: if that was after a refusal, the fact does not hold.  Returns
        whether that opens it."""
        if started < self._refused_at:
            return False
        closed = bool(self.strikes)
        self.open()
        self.chance_until = now + _CHANCE
        return closed

    def admits(self, now: float) -> bool:
        """Open, or due for the one attempt that finds out whether the fact still holds."""
        if not self.strikes:
            return True
        return now >= self.until and now >= self.lease_ends

    def close(self, now: float, hint: float | None, draw: float, reason: str) -> float:
        """Close it for the doubling wait, or for as long as the server says if that is longer.  Calls that were
        already on their way when it closed tell the same fact once more and do not make it worse."""
        self.lease_ends = -math.inf
        if now < self.until:
            return self.until
        whole = min(self.cap, _SLOW_BASE * 2.0 ** min(self.strikes, 64))
        wait = min(max(whole, hint or 0.0), self.cap) * (0.9 + 0.1 * draw)
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
        self.lease_ends = -math.inf

    def open(self) -> None:
        """The fact no longer holds, or a person says so."""
        self.strikes = self.row = 0
        self.reason = ""
        self.until = self.lease_ends = self.chance_until = -math.inf
