"""Whether a provider has become slow, or has more to do than it can.

Both show in how many times as long as usual it takes to a sign of life.  How long that usually is is learnt from the
calls that were sent while nobody queued.  An answer that took longer proves nothing if a call that was sent later took
no longer than usual: a model that thinks before some of its answers is not slow, and has no queue.

It has become *slow* when most answers take more than twice as long, or three times where a queue explains twice.

It is *saturated* when it queues what it cannot do at once, as servers of one's own usually do: it answers everything,
ever later, and fails nobody.  The calls whose time that takes would have been answered elsewhere.  (One that is full
and says so, by a 429 or 529, is left alone for as long as it says.)  By Little's law (1961) as many calls wait for a
sign of life as the provider gives in a second, times the seconds that takes.  Where more wait, and answers take longer,
the rest is a queue: what it cannot do at its usual speed goes to the next tier.  Twice a minute it gets no calls until
half as many wait, so that it is known when it has become slower, or faster, for good.
"""

from __future__ import annotations

import math
from typing import Final

_SLICE: Final = 5.0  # seconds over which signs of life are counted
_COLD: Final = 3  # calls of which it is taken for granted that nobody queued
_MEMORY: Final = 100  # answers that what is usual follows...
_FORGETS: Final = 600.0  # ...or so many seconds, where there are few
_LATENCY: Final = 0.6  # seconds to a sign of life until that is known
_NOT_NOTICED: Final = 0.05  # seconds within which nobody minds how much longer it took
_MOST: Final = 2.0  # times what is usual: what one answer counts at most
_LONGER: Final = 1.4  # times what is usual, from which on an answer took longer
_CLEARLY: Final = 4.0  # the sum of that from which on answers take longer
_KNOWN: Final = 20  # answers from which on slow can be told from usual
_TWICE: Final = 2.0  # times what is usual, from which on an answer was slow
_QUEUED: Final = 3.0  # the same while calls queue, and for a single answer
_SLOW: Final = 5.0  # more slow answers than others: it is slow
_MOST_SLOW: Final = 8.0  # of them that count
_SCATTER: Final = 1.5  # standard deviations that more may wait (their number is Poisson's)
_SPARE: Final = 0.5  # and so many calls, for that many are hardly any scatter where few wait
_EMPTIES: Final = 30.0  # seconds after which it gets no calls until half as many wait
_NEWS: Final = 0.05  # weight of the newest call in the share that is turned away
_OVER: Final = 0.1  # share below which it is saturated no more: scatter alone turns away nearly as many
_USUAL_RUN: Final = 300  # answers in a row that do not take longer, after which it is saturated no more either


class Slowness:
    """Of one provider.  Not locked: the pool's lock is held by whoever calls.

    That answers take longer, and that they are slow, are one-sided CUSUMs (Page, 1954) on how many times as long as
    usual they take.
    """

    def __init__(self) -> None:
        self.slow: bool = False
        """Whether most answers are slow."""
        self.suspected: bool = False
        """Whether answers take longer than usual, or it is saturated: calls may be turned away."""
        self.saturated: bool = False
        """Whether calls were turned away lately."""
        self._usual = 0.0  # seconds to a sign of life where nobody queues; 0 while unknown
        self._latency = _LATENCY  # seconds of that for a short prompt, before anything is written
        self._cold = _COLD  # calls left of which that is taken for granted
        self._answers = 0  # by which that is known
        self._rate = 0.0  # signs of life a second
        self._count = 0  # of them in this slice
        self._slice_at = self._calm_spoke_at = -math.inf
        self._calm_at = -math.inf  # when a call was sent last while nobody queued
        self._quick_at = -math.inf  # when the latest call was sent that took no longer than usual
        self._longer = 0.0  # the sum that answers fill which take longer
        self._slower = 0.0  # the sum that slow ones fill
        self._turned_away = 0.0  # the share of the calls that come
        self._usual_run = 0  # answers in a row that do not take longer, while it is saturated

    # --- what happens ---

    def sent(self, waiting: int, now: float) -> bool:
        """A call is sent while so many others wait.  Returns whether nobody queues, so that it will tell how long
        answers usually take."""
        most = self._rate * self._usual
        calm = waiting <= max(1.0, most / 2.0 if self.saturated else most)
        if self._cold and self._answers < _COLD:
            self._cold, calm = self._cold - 1, True
        if calm:
            self._calm_at = now
        return calm

    def spoke(self, seconds: float, scale: float, writing: float, now: float, *, calm: bool) -> float:
        """It gave a sign of life after so many seconds.  Returns how many times as long as usual that is.  ``writing``:
        those seconds of them that the length of a whole answer explains; ``scale``: how many times as long as for a
        short prompt the rest is to take; ``calm``: nobody queued when the call was sent."""
        self._count += 1
        since, sent_at = now - self._slice_at, now - seconds
        if since >= _SLICE:
            rate = self._count / since
            self._rate = (self._rate + rate) / 2.0 if self._rate else rate
            self._count, self._slice_at = 0, now
        ratio = (seconds + _NOT_NOTICED) / (scale * self._latency + writing + _NOT_NOTICED)
        if calm:
            self._learn(seconds, ratio, now)
        if ratio < 1.0 and sent_at > self._quick_at:
            self._quick_at = sent_at
        if ratio > _LONGER or self._longer or self._slower:
            self._took_longer(ratio, sent_at)
        if self.saturated:
            self._usual_run = 0 if self._longer else self._usual_run + 1
            if self._usual_run >= _USUAL_RUN:
                self.over()
        return ratio

    def stayed_silent(self, seconds: float, now: float) -> None:
        """An attempt ended without a sign of life, after so many seconds."""
        if seconds > self._usual > 0.0:
            self._took_longer(seconds / self._usual, now - seconds)
        if self._answers < _COLD:
            self._cold += 1

    def over(self) -> None:
        """Its breaker changed, it has no more than it can do, or a person restored it: forget the suspicions."""
        self.slow = self.suspected = self.saturated = False
        self._longer = self._slower = 0.0

    # --- questions ---

    def clearly(self, ratio: float) -> bool:
        """Whether an answer that took so many times as long as usual is slow."""
        return self._answers >= _KNOWN and ratio > _QUEUED

    def doubled(self, seconds: float) -> bool:
        """Whether so many seconds to a sign of life, for a short prompt, are twice what is usual."""
        return self._answers >= _KNOWN and max(seconds, _NOT_NOTICED) > _TWICE * self._latency

    def full(self, waiting: int, now: float, left: float = math.inf) -> bool:
        """Whether it is suspected, and so many that wait are more than it answers at its usual speed, or than it
        answers in half of the seconds that a call has ``left`` (infinite: it has no deadline)."""
        if not self.suspected:
            return False
        if waiting and left < math.inf and waiting + 1 > self._rate * left / 2.0:
            return True
        usual = self._rate * self._usual
        if now - self._calm_at > _EMPTIES:
            return waiting >= max(1.0, usual / 2.0)
        return waiting >= max(1.0, usual + _SCATTER * math.sqrt(usual) + _SPARE)

    def turns_away(self, waiting: int, now: float, left: float = math.inf) -> bool:
        """A call comes that has so many seconds ``left`` (infinite: it has no deadline), while so many wait: whether it
        is to go elsewhere."""
        full = self.full(waiting, now, left)
        if self.saturated:
            self._turned_away += _NEWS * (full - self._turned_away)
            if self._turned_away < _OVER:
                self.over()
        elif full:
            self.saturated, self._turned_away, self._usual_run = True, 0.5, 0
        return full

    # --- internals ---

    def _learn(self, seconds: float, ratio: float, now: float) -> None:
        self._answers = answers = self._answers + 1
        weight = 1.0 / (answers if answers < _MEMORY else _MEMORY)
        since, self._calm_spoke_at = now - self._calm_spoke_at, now
        if since > _FORGETS * weight:
            weight = min(1.0, since / _FORGETS)
        self._usual += weight * (seconds - self._usual)
        if ratio > _MOST and answers > _COLD:
            ratio = _MOST
        self._latency *= 1.0 + weight * (ratio - 1.0)

    def _took_longer(self, ratio: float, sent_at: float) -> None:
        overtaken = ratio > _LONGER and sent_at < self._quick_at
        if overtaken or self._answers < _COLD:
            return
        longer = self._longer + min(ratio, _MOST) - _LONGER
        self._longer = min(max(0.0, longer), 2.0 * _CLEARLY)
        self.suspected = self.saturated or self._longer >= _CLEARLY
        if self._answers >= _KNOWN:
            slower = self._slower + min(ratio - (_QUEUED if self.saturated else _TWICE), 1.0)
            self._slower = min(max(0.0, slower), _MOST_SLOW)
            self.slow = self._slower >= _SLOW
