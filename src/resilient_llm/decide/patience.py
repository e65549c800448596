"""When an attempt is late, when it is rescued, when it times out; and what ended it when several things are due."""

from __future__ import annotations

import math
from typing import Final, TypeAlias

from resilient_llm.decide.ask import Ask
from resilient_llm.decide.statistics import Statistics
from resilient_llm.policy import Policies, Retry

ENOUGH: Final = 20
"""Samples from which on late can be told from usual."""
LATE_TIMER: Final = 0.25
"""Seconds a timer may be reported late; beyond, this process stood still, and silence proves nothing."""
_SHORTEST_PAUSE = 1.0  # seconds a stream may always pause without speaking against its provider
_STANDSTILL = 0.5  # seconds
_TIMEOUT_FACTOR = 4.0
_LEAST_FACTOR = 2.0  # times the longest time to a first token that was seen: no learnt timeout is shorter
_INSISTS = 3  # times that a call is sent against a limit that is only guessed: the attempts of an SDK
_LAST_HOPE = 0.5  # share of its wait behind an outage after which a call is sent somewhere in any case
_TRIAL_WHOLE = 30.0  # seconds a whole answer has at least before a trial counts as failed


Patience: TypeAlias = tuple[float, bool, float | None, float]
"""Seconds after the start of an attempt: when it is late, so that its silence speaks against its provider (``inf``:
never), and whether that is its provider's own measure; when a second attempt may start (``None``: never); when it is
given up.  A plain tuple, as one is made for every attempt."""


class Standstill:
    """Notices that this process stood still: nothing at all happened for much longer than usual."""

    __slots__ = ("_noticed_at", "_resumed_at", "_usual_gap")

    def __init__(self) -> None:
        self._noticed_at = self._resumed_at = -math.inf
        self._usual_gap = 60.0

    def notice(self, now: float, started: float = math.inf) -> bool:
        """Something happened; returns whether it did, until just now, while something begun at ``started`` was under
        way."""
        gap, usual_gap, self._noticed_at = now - self._noticed_at, self._usual_gap, now
        if gap > _STANDSTILL and gap > 20.0 * usual_gap:
            self._resumed_at = now
        self._usual_gap = usual_gap + 0.05 * ((gap if gap < 60.0 else 60.0) - usual_gap)
        return started < self._resumed_at and now - self._resumed_at < LATE_TIMER


def patience(policies: Policies, seen: Statistics, ask: Ask, now: float, *, alone: bool) -> Patience:
    """How long an ordinary attempt may be silent.  ``alone``: there is no other provider to turn to.

    The textbook trigger of a hedge, the 95th percentile itself, spends its whole allowance on ordinary stragglers and
    has none left when a provider hangs; twice that is a rescue, and more while little is known.  The rescue starts when
    half the time left is gone at the latest, unless this provider usually needs longer.  Alone, a provider that seems
    to hang is asked a second time beside the first attempt, which is not given up.
    """
    streaming, left = ask.streaming, ask.deadline - now
    own = seen.first if streaming else seen.whole
    known = own.count >= ENOUGH
    scale = 1.0 + ask.tokens / seen.policy.prompt_scale
    late = _late(policies, own.p95 * scale, streaming) if known else _unknown_late(policies, seen, ask, left, scale)
    timeout = _timeout(policies, seen, ask, scale)
    end = timeout if timeout < left else left
    if not ask.repeatable or ask.batch or not policies.hedge.enabled:
        return late, known, None, end
    rescue, half = late, left / 2.0
    if alone:
        rescue, end = again_after(policies, seen, ask, left), _given_up_after(policies, left, end)
    elif rescue > half:
        rescue = min(rescue, max(half, min((own.at(0.5) or 0.0) * scale, left)))
    return late, known, rescue if rescue < end else None, end


def trial_patience(
    policies: Policies, seen: Statistics, ask: Ask, now: float, *, together: bool, rival: float | None
) -> Patience:
    """How long a trial may be silent.  With somebody beside it (``rival``: how long that one usually takes; 0: unknown)
    it is judged as soon as it is late; alone (``None``) it has its usual time.

    Streams speak at the first token.  A whole answer says nothing until it is done, so it has at least half a minute.
    """
    streaming, left, scale = ask.streaming, ask.deadline - now, seen.scale(ask.tokens)
    timeout = _timeout(policies, seen, ask, scale)
    if rival is None:
        end = min(timeout, left)
        if ask.batch or not policies.hedge.enabled:
            return math.inf, False, None, end
        rescue, end = again_after(policies, seen, ask, left), _given_up_after(policies, left, end)
        return math.inf, False, rescue if rescue < end else None, end
    own = seen.first if streaming else seen.whole
    late = _late(policies, own.p95 * scale, streaming)
    limit = min(late if streaming else max(late, _TRIAL_WHOLE), timeout)
    rescue = 0.0 if together else min(max(policies.advanced.rescue_min, rival), left / 2.0)
    end = min(limit, left)
    return limit, True, rescue if rescue < end and not ask.batch else None, end


def again_after(policies: Policies, seen: Statistics, ask: Ask, left: float) -> float:
    """When a lone provider that is silent is asked again: at half of the call's time, or where it would time out; or
    where a usual answer would not come in the time that is left then, after the time it nearly always needs."""
    scale, own = seen.scale(ask.tokens), seen.first if ask.streaming else seen.whole
    again = min(left / 2.0, _timeout(policies, seen, ask, scale))
    if own.count >= ENOUGH and (own.at(0.5) or 0.0) * scale > left - again:
        again = max(again, min(own.p95 * scale, left))
    return again


def _given_up_after(policies: Policies, left: float, end: float) -> float:
    """When an attempt is given up for its silence where nobody else can be asked: not before its call ends, unless the
    user set the time.  What a busy provider has accepted it does, so giving up would only add to its queue."""
    return left if policies.timeouts.first_token is None and left < math.inf else end


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


def hope_at(since: float | None, wait: float, deadline: float) -> float:
    """When a call that waits behind an outage since then, for ``wait`` seconds at most, is sent somewhere in any case:
    no call is given up untried.  ``None``: it does not."""
    return math.inf if since is None else since + _LAST_HOPE * min(wait, deadline - since)


def insists_at(ask: Ask, started: float, deadline: float, times: int) -> float:
    """When a call that waits for a limit that nobody told, but we only guess, is sent in any case, after it was so many
    times: as often as an SDK would send it.  A batch goes on waiting."""
    if times >= _INSISTS or ask.batch:
        return math.inf
    return started + (deadline - started) * (times + 1.0) / (_INSISTS + 1.0)


def first_due(
    *, deadline: float = math.inf, cancelled: float = math.inf, timer: float = math.inf, answered: float = math.inf
) -> str:
    """What ended an attempt: ``deadline``, ``cancelled``, ``timer`` or ``answered``, whichever was due first, and where
    they tie the one named first here.  The order in which callbacks happen to run decides nothing."""
    due = ((deadline, "deadline"), (cancelled, "cancelled"), (timer, "timer"), (answered, "answered"))
    return min(due, key=lambda one: one[0])[1]


def _late(policies: Policies, slow: float, streaming: bool) -> float:
    """``slow`` is the 95th percentile.  For streams at most ``rescue_max``: a whole answer may take minutes.  No rescue
    comes before its provider usually speaks: a model that thinks for half a minute is not late after ten
    seconds."""
    advanced = policies.advanced
    late = policies.hedge.factor * slow
    if streaming and late > advanced.rescue_max:
        return slow if slow > advanced.rescue_max else advanced.rescue_max
    return late if late > advanced.rescue_min else advanced.rescue_min


def _unknown_late(policies: Policies, seen: Statistics, ask: Ask, left: float, scale: float) -> float:
    """Late for a provider that is not known well enough: twice as long as ever, times the root of :data:`ENOUGH` by the
    number of its samples (the error of an estimate shrinks with the root of that number).  No later than when half the
    time of the call is gone, unless twice as long as ever is more; if it never spoke, when a third is gone, so that
    somebody else has twice as long."""
    own, other = (seen.first, seen.whole) if ask.streaming else (seen.whole, seen.first)
    longest = policies.hedge.factor * (own.largest if own.count else other.largest) * scale
    late = left / (2.0 if longest else 3.0)
    if own.count:
        late = min(late, max(longest * math.sqrt(ENOUGH / own.count), policies.advanced.rescue_min))
    return max(longest, late if late < math.inf else 0.0) or math.inf


def _timeout(policies: Policies, seen: Statistics, ask: Ask, scale: float) -> float:
    advanced = policies.advanced
    first = policies.timeouts.first_token
    if first is None:
        first, slowest = advanced.first_token_max, seen.first.largest * scale
        if seen.first.count >= ENOUGH:
            # 64 samples cannot resolve a 99th percentile; a tenth above the largest stands in for it.
            first = min(max(_TIMEOUT_FACTOR * 1.1 * slowest, advanced.first_token_min), first)
        first = max(first, _LEAST_FACTOR * slowest)
    if ask.streaming:
        return first
    return first + 2.0 * ask.max_tokens * (seen.pace or advanced.seconds_per_token)
