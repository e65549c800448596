"""Whether a provider has more to do than it can: a queue that nobody tells of.

A provider that is full and says so (429, 529) is left alone for as long as it says.  One that queues what it cannot do
at once, as servers of one's own usually do, answers everything, ever later, and fails nobody.  The calls whose time
that takes would have been answered elsewhere.

By Little's law (1961) as many calls wait for a sign of life as the provider gives in a second, times the seconds that
takes.  Where more wait, and answers take longer than they usually do, the rest is a queue: such a provider is
*saturated*, and what it cannot do at its usual speed goes to the next tier.  An answer that took longer is no sign of a
queue if a call that was sent later took no longer than usual: a model that thinks before some of its answers has
none.  How long answers
usually take is learnt from the calls that were sent while no more than that waited.  Twice a minute a saturated
provider gets no calls until half as many wait, so that it is known when it has become slower, or faster, for good.
"""

from __future__ import annotations

import math
from typing import Final

_SLICE: Final = 5.0  # seconds over which signs of life are counted
_COLD: Final = 3  # calls of which it is taken for granted that nobody queued
_MEMORY: Final = 100  # answers that what is usual follows...
_FORGETS: Final = 300.0  # ...or so many seconds, where there are few
_LATENCY: Final = 0.6  # seconds to a sign of life until that is known
_NOT_NOTICED: Final = 0.05  # seconds within which nobody minds how much longer it took
_MOST: Final = 2.0  # times what is usual: what one answer counts at most
_LONGER: Final = 1.4  # times what is usual, from which on an answer took longer
_CLEARLY: Final = 4.0  # the sum of that from which on answers take longer
_SCATTER: Final = 1.5  # standard deviations that more may wait (their number is Poisson's)
_SPARE: Final = 0.5  # and so many calls, for that many are hardly any scatter where few wait
_EMPTIES: Final = 30.0  # seconds after which it gets no calls until half as many wait
_NEWS: Final = 0.05  # weight of the newest call in the share that is turned away
_OVER: Final = 0.1  # share below which it is saturated no more: scatter alone turns away nearly as many
_USUAL_RUN: Final = 300  # answers in a row that do not take longer, after which it is saturated no more either


class Saturation:
    """Of one provider.  Not locked: the pool's lock is held by whoever calls.

    That answers take longer is a one-sided CUSUM (Page, 1954) on how many times as long as usual they take.
    """

    def __init__(self) -> None:
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
        self._longer = 0.0  # the sum
        self._turned_away = 0.0  # the share of the calls that come
        self._usual_run = 0  # answers in a row that do not take longer, while it is saturated

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

    def spoke(self, seconds: float, scale: float, writing: float, now: float, *, calm: bool) -> None:
        """It gave a sign of life after so many seconds.  ``writing``: those of them that the length of a whole answer
        explains; ``scale``: how many times as long as for a short prompt the rest is to take; ``calm``: nobody queued
        when the call was sent."""
        self._count += 1
        since = now - self._slice_at
        if since >= _SLICE:
            rate = self._count / since
            self._rate = (self._rate + rate) / 2.0 if self._rate else rate
            self._count, self._slice_at = 0, now
        ratio = (seconds + _NOT_NOTICED) / (scale * self._latency + writing + _NOT_NOTICED)
        if calm:
            self._learn(seconds, ratio, now)
        if ratio < 1.0 and now - seconds > self._quick_at:
            self._quick_at = now - seconds
        if self._longer or ratio > _LONGER:
            self._took_longer(ratio, now - seconds)
        if self.saturated:
            self._usual_run = 0 if self._longer else self._usual_run + 1
            if self._usual_run >= _USUAL_RUN:
                self.over()

    def stayed_silent(self, seconds: float, now: float) -> None:
        """An attempt ended without a sign of life, after so many seconds."""
        if seconds > self._usual > 0.0:
            self._took_longer(seconds / self._usual, now - seconds)
        if self._answers < _COLD:
            self._cold += 1

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

    def over(self) -> None:
        """Its breaker changed, it has no more than it can do, or a person restored it: forget the suspicion."""
        self.suspected = self.saturated = False
        self._longer = 0.0

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
        if self._answers >= _COLD and not overtaken:
            longer = self._longer + (ratio if ratio < _MOST else _MOST) - _LONGER
            self._longer = min(max(0.0, longer), 2.0 * _CLEARLY)
            self.suspected = self.saturated or self._longer >= _CLEARLY
