"""When an attempt is late, when it is rescued, when it times out; and what ended it when several things are due."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from resilient_llm.decide.statistics import Statistics
from resilient_llm.policy import Policies, Retry

ENOUGH: Final = 20
"""Samples from which on late can be told from usual."""
LATE_TIMER: Final = 0.25
"""Seconds a timer may be reported late; beyond, this process stood still, and silence proves nothing."""
_SHORTEST_PAUSE = 1.0  # seconds a stream may always pause without speaking against its provider
_STANDSTILL = 0.5  # seconds
_FIRST_TOKEN_UNKNOWN = 30.0
_TIMEOUT_FACTOR = 4.0
_TRIAL_WHOLE = 30.0  # seconds a whole answer has at least before a trial counts as failed


class Patience(NamedTuple):
    """Seconds after the start of an attempt.

    ``late``: from then on its silence speaks against its provider (``inf``: never); ``known`` says whether that is its
    provider's own measure.  ``rescue``: a second attempt may start (``None``: never).  ``timeout``: it is given up.
    """

    late: float
    known: bool
    rescue: float | None
    timeout: float


class Wanted(NamedTuple):
    """What of a call its patience depends on.  ``left``: seconds to the deadline.  ``alone``: there is no other
    provider to turn to."""

    streaming: bool
    tokens: int
    max_tokens: int
    left: float
    repeatable: bool
    alone: bool


class Standstill:
    """Notices that this process stood still: nothing at all happened for much longer than usual."""

    _noticed_at: float = -math.inf
    _resumed_at: float = -math.inf
    _usual_gap: float = 60.0

    def notice(self, now: float) -> None:
        """Something happened."""
        gap, self._noticed_at = now - self._noticed_at, now
        if gap > _STANDSTILL and gap > 20.0 * self._usual_gap:
            self._resumed_at = now
        self._usual_gap += 0.05 * (min(gap, 60.0) - self._usual_gap)

    def since(self, started: float, now: float) -> bool:
        """Whether it did, until just now, while something begun at ``started`` was under way."""
        return started < self._resumed_at and now - self._resumed_at < LATE_TIMER


def patience(policies: Policies, seen: Statistics, wanted: Wanted) -> Patience:
    """How long an ordinary attempt may be silent.

    The textbook trigger of a hedge, the 95th percentile itself, spends its whole allowance on ordinary stragglers and
    has none left when a provider hangs; twice that is a rescue.  Before enough is known, and in any case at the latest,
    the rescue starts when half the time left is gone, unless this provider usually needs longer.
    """
    left = wanted.left
    own = seen.first if wanted.streaming else seen.whole
    known = own.count >= ENOUGH
    scale = seen.scale(wanted.tokens)
    late = _late(policies, own.p95 * scale, wanted) if known else _unknown_late(policies, seen, wanted, scale)
    timeout = _timeout(policies, seen, wanted, scale)
    rescue: float | None = late if known and not wanted.alone else None
    if left < math.inf:
        half = left / 2.0
        if rescue is None or rescue > half:
            latest = half if wanted.alone else max(half, min((own.at(0.5) or 0.0) * scale, left))
            rescue = latest if rescue is None or rescue > latest else rescue
    end = timeout if timeout < left else left
    if not wanted.repeatable or not policies.hedge.enabled or (rescue is not None and rescue >= end):
        rescue = None
    return Patience(late, known, rescue, end)


def trial_patience(policies: Policies, seen: Statistics, wanted: Wanted, *, together: bool, rival: float) -> Patience:
    """How long a trial may be silent.  With somebody beside it (``rival``: how long that one usually takes; 0: unknown)
    it is judged as soon as it is late; alone it has its usual time.

    Streams speak at the first token.  A whole answer says nothing until it is done, so it has at least half a minute.
    """
    scale = seen.scale(wanted.tokens)
    timeout = _timeout(policies, seen, wanted, scale)
    if wanted.alone:
        half = wanted.left / 2.0 if policies.hedge.enabled else math.inf
        return Patience(math.inf, False, half if half < timeout else None, min(timeout, wanted.left))
    own = seen.first if wanted.streaming else seen.whole
    late = _late(policies, own.p95 * scale, wanted)
    limit = min(late if wanted.streaming else max(late, _TRIAL_WHOLE), timeout)
    rescue = 0.0 if together else min(max(policies.advanced.rescue_min, rival), wanted.left / 2.0)
    end = min(limit, wanted.left)
    return Patience(limit, True, rescue if rescue < end else None, end)


def usual(seen: Statistics, tokens: int, *, streaming: bool) -> float:
    """Seconds within which a provider nearly always gives its first sign of life; 0 while too little is known."""
    own = seen.first if streaming else seen.whole
    return own.p95 * seen.scale(tokens) if own.count >= ENOUGH else 0.0


def longest(seen: Statistics, tokens: int, *, streaming: bool) -> float:
    """Seconds it took a provider at most, lately, to give its first sign of life; 0 while unknown."""
    return (seen.first if streaming else seen.whole).largest * seen.scale(tokens)


def longest_pause(seen: Statistics) -> float:
    """Seconds of silence inside a stream that speak against its provider when the caller runs out of time."""
    return max(_SHORTEST_PAUSE, 3.0 * seen.pauses.p95)


def open_pause(seen: Statistics) -> float:
    """Seconds of silence in a stream that is still open that speak against its provider: twice as many while too little
    is known of how it pauses."""
    return longest_pause(seen) * (1.0 if seen.pauses.count >= ENOUGH else 2.0)


def backoff(retry: Retry, retries: int, draw: float) -> float:
    """Seconds before a provider is asked again, as the vendors' SDKs pause: doubling, and up to a quarter less."""
    return min(retry.backoff_cap, retry.backoff_base * 2.0 ** min(retries, 64)) * (1.0 - 0.25 * draw)


def first_due(
    *, deadline: float = math.inf, cancelled: float = math.inf, timer: float = math.inf, answered: float = math.inf
) -> str:
    """What ended an attempt: ``deadline``, ``cancelled``, ``timer`` or ``answered``, whichever was due first, and where
    they tie the one named first here.  The order in which callbacks happen to run decides nothing."""
    due = ((deadline, "deadline"), (cancelled, "cancelled"), (timer, "timer"), (answered, "answered"))
    return min(due, key=lambda one: one[0])[1]


def _late(policies: Policies, slow: float, wanted: Wanted) -> float:
    """``slow`` is the 95th percentile.  For streams at most ``rescue_max``: a whole answer may take minutes.  No rescue
    comes before its provider usually speaks: a model that thinks for half a minute is not late after ten
    seconds."""
    advanced = policies.advanced
    late = policies.hedge.factor * slow
    if wanted.streaming and late > advanced.rescue_max:
        return slow if slow > advanced.rescue_max else advanced.rescue_max
    return late if late > advanced.rescue_min else advanced.rescue_min


def _unknown_late(policies: Policies, seen: Statistics, wanted: Wanted, scale: float) -> float:
    """Late for a provider that is not known well enough: twice as long as ever, or, if it never spoke, half the time
    of the call."""
    own, other = (seen.first, seen.whole) if wanted.streaming else (seen.whole, seen.first)
    longest = policies.hedge.factor * (own.largest if own.count else other.largest) * scale
    half = wanted.left / 2.0
    return max(longest, half if half < math.inf else 0.0) or math.inf


def _timeout(policies: Policies, seen: Statistics, wanted: Wanted, scale: float) -> float:
    advanced = policies.advanced
    first = policies.timeouts.first_token
    if first is None:
        if seen.first.count < ENOUGH:
            first = _FIRST_TOKEN_UNKNOWN
        else:
            # 64 samples cannot resolve a 99th percentile; a tenth above the largest stands in for it.
            slowest = _TIMEOUT_FACTOR * seen.first.largest * 1.1 * scale
            first = min(max(slowest, advanced.first_token_min), advanced.first_token_max)
    if wanted.streaming:
        return first
    return first + 2.0 * wanted.max_tokens * (seen.pace or advanced.seconds_per_token)
