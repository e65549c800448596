"""Limits as buckets: of what was declared, of what a provider reports, and of what refusals show."""

from __future__ import annotations

import math

from resilient_llm.policy import Rate

_SAVED = 0.05  # seconds' worth that may come at once: so late a woken call may run
_KEPT = 10.0  # windows in which a limit that was found out does not grow: about one call in so many may be refused
_KEPT_MOST = 60.0  # seconds of that at most: what looked like a limit may have been an outage
_AT_ONCE = 2.0  # calls that may come at once where calls come evenly, or every second one would just not fit
_FREE = 10.0  # times what was found out from which on it is no limit any more
_AMPLE = 0.1  # share of a limit that is surely left, whatever is under way
_FASTER = 2.0  # how much faster we send while a provider reports clearly more than was thought
_SAME = 1.1  # times a window that is reported, inexactly, up to which another one is no longer
_LESS, _FAILED = 0.9, 3  # what is left of one that is lowered, and how often
_CONTRADICTS = 0.5  # share of what a call needs: if less is left and it is let through, that is no limit
_CONTRADICTED = 3  # such calls in a row: one is chance, for what is left is reported in whole numbers
_SETTLED, _SETTLED_MOST = 60.0, 3600.0  # seconds for which that counts, and at most if it shows again and again
_DOUBLES = 0.7  # seconds in which the calls double that are sent after a refusal, before one is let through


class Meter:
    """A bucket of ``limit`` units of which ``rate`` a second come back."""

    def __init__(self, limit: float, rate: float, level: float | None = None) -> None:
        self.limit: float = limit
        self.rate: float = rate
        self.level: float = limit if level is None else level
        self.at: float = -math.inf

    def advance(self, now: float) -> None:
        """Credit the time that passed."""
        if now > self.at:
            if self.level < self.limit and self.at > -math.inf:
                level = self.level + (now - self.at) * self.rate
                self.level = level if level < self.limit else self.limit
            self.at = now

    def fits_at(self, cost: float, now: float, keep: float, ahead: float = 0.0) -> float:
        """When ``cost`` units can be taken so that a share of ``keep`` is left, after others took ``ahead``.  What is
        more than the bucket holds waits until it is full, and no longer."""
        need = cost + keep * self.limit
        need = (need if need < self.limit else self.limit) + ahead
        if self.level >= need:
            return -math.inf
        self.advance(now)
        # A hair less counts as enough: ten times 0.1 must make one.
        return self.at + (need - self.level) / self.rate if self.level < need - 1e-6 else -math.inf

    def take(self, cost: float, now: float) -> None:
        """Take them.  A debt is forgotten, or a bucket could stay empty for longer than its window."""
        self.advance(now)
        self.level = self.level - cost if cost < self.level else 0.0

    def give(self, cost: float) -> None:
        """Give back what was taken too much (or take what was too little)."""
        level = self.level + cost
        self.level = 0.0 if level < 0.0 else level if level < self.limit else self.limit

    def hold(self, cost: float, until: float) -> None:
        """What was refused fits at that time, and no more."""
        self.level, self.at = min(cost, self.limit), until


class Declared(Meter):
    """A limit as it was declared: ``amount`` units in ``per`` seconds."""

    rate: float
    level: float

    def __init__(self, amount: float, per: float) -> None:
        super().__init__(amount, amount / per)
        self.per: float = per

    @staticmethod
    def of(rate: Rate) -> Declared:
        """The bucket of this process."""
        return Declared(rate.amount, rate.per)

    def reset_after_fork(self) -> None:
        """In the child: each process has its own."""

    def corrected(self, window: float, now: float, *, ample: bool) -> None:
        """The provider reported what is left of a limit of its own, of so many seconds.  While that is ``ample``, the
        declaration is too low and twice as much is sent; never more, for it may be meant to leave the rest to others.
        A limit of a longer time (a day's) is another one."""
        self.advance(now)
        lifted = ample and self.per <= _SAME * window
        self.rate = self.limit / self.per * (_FASTER if lifted else 1.0)

    def restore(self) -> None:
        """It is full, and as declared."""
        self.level, self.rate = self.limit, self.limit / self.per


class Reported(Meter):
    """A limit as a provider tells it with its answers.

    It says when the bucket will be *full* again.  Of a bucket that fills all the time (OpenAI, Anthropic) the missing
    share takes that long; of a window that starts anew everything comes back then, so that the longest wait seen is a
    part of the window.  Either way we send at the rate at which it comes back.
    """

    rate: float
    level: float

    def __init__(self, limit: float, left: float) -> None:
        super().__init__(limit, math.inf, max(0.0, left))
        self._even = Meter(1.0, math.inf, 0.0)  # the same without bursts
        self._longest = 0.0
        self._least = math.inf
        self._usual = math.inf  # the rate at which it comes back
        self.last: tuple[float, float, float, float] = 0.0, 0.0, -math.inf, 0.0
        """What was told last: units left, seconds until it is full; to a call sent then, when so many had been sent."""
        self.until: float = math.inf
        """When what was told is over, where nobody told how much there is in all: at its reset."""

    def fits_at(self, cost: float, now: float, keep: float, ahead: float = 0.0) -> float:
        """See :meth:`Meter.fits_at`.  Whoever leaves a share to others sends evenly: a burst comes back as a burst, one
        window later, and until then what others find is less than it seems."""
        if now >= self.until:
            return -math.inf
        at = super().fits_at(cost, now, keep, ahead)
        return max(at, self._even.fits_at(cost, now, 0.0, ahead)) if keep else at

    def take(self, cost: float, now: float) -> None:
        """See :meth:`Meter.take`."""
        super().take(cost, now)
        self._even.take(cost, now)

    def told(self, left: float, reset: float, *, ample: bool) -> None:
        """``left`` units are left of a bucket that is full in ``reset`` seconds.  ``ample``: that is clearly more than
        was thought, so that we send faster until it is not."""
        missing = self.limit - left
        if missing > 0 and reset > 0:
            self._longest = max(self._longest, reset)
            self._least = min(self._least, reset * self.limit / missing)
            self._usual = self.limit / max(self._longest, self._least)
            self.rate = self._usual * (_FASTER if ample else 1.0)
            self._even.rate = self.limit / self._longest
            self._even.limit = max(1.0, _SAVED * self._even.rate)

    def contradicts(self, cost: float, sent: float, now: float) -> bool:
        """Whether a call that costs so much cannot be let through if what was told last is true.  ``sent``: units until
        then, without this call.  No more came back than the part that is missing, in the share of its time that passed
        since the call was sent that was told it."""
        left, reset, at, then = self.last
        if not self.in_force(now):
            return False
        return left + (self.limit - left) * (now - at) / reset - (sent - then) < _CONTRADICTS * cost

    def in_force(self, now: float) -> bool:
        """Whether not all of it has come back since what was told last."""
        return now < self.last[2] + self.last[1]

    def at_most(self, left: float, ago: float, now: float) -> None:
        """So many units were left ``ago`` seconds, less what was sent since."""
        self.advance(now)
        if self.rate < math.inf:
            self.level = max(0.0, min(self.level, left + ago * self._usual))

    @property
    def window(self) -> float:
        """Seconds in which all of it comes back; 0 while unknown."""
        return self.limit / self._usual

    def explains(self, cost: float, now: float) -> bool:
        """Whether a call that costs so much had to be refused."""
        return self.level < cost + _AMPLE * self.limit or self.at > now


class Trust:
    """Whether the limits that a provider reports are real, by calls that were sent in spite of them because they had
    nobody else to ask: some gateways report those of another key, or some that they do not go by."""

    obeyed: bool = True
    until: float = -math.inf
    """Until when it is known whether they are real; then calls find out again."""
    _real: bool = True
    _seconds: float = 0.0
    _let_through: int = 0

    def tried(self, now: float, *, refused: bool) -> None:
        """A call was sent in spite of them, and refused for it or let through."""
        if now < self.until:
            return
        self._let_through += 1
        if refused or self._let_through >= _CONTRADICTED:
            again = self._seconds and refused is self._real
            self._seconds = min(2.0 * self._seconds, _SETTLED_MOST) if again else _SETTLED
            self.obeyed = self._real = refused
            self._let_through, self.until = 0, now + self._seconds

    def over(self, now: float) -> bool:
        """Whether they are to be obeyed again, as nobody knows any more that they are not."""
        if self.obeyed or now < self.until:
            return False
        self.obeyed = True
        return True


class Learnt(Meter):
    """A limit that was found out from refusals: ``count`` requests in ``window`` seconds got through.

    What it lets through in such a time is never more than that.  It is kept for :data:`_KEPT` windows, at most a
    minute, and then grows, slowly at first and ever faster, until a call is refused again or it is no limit any more:
    refusals are few where the guess is right, and a wrong one does not last.
    """

    at: float
    rate: float
    limit: float

    def __init__(self, count: float, window: float, now: float) -> None:
        super().__init__(1.0, 1.0, 1.0)
        self.count: float = count
        self.window: float = window
        self._failed = 0  # times a call was refused that it should have let through
        self._since = self.at = now
        self._kept = min(_KEPT * window, _KEPT_MOST)  # seconds
        self._share(count)

    def _share(self, count: float) -> None:
        """So many in a window: some may come at once, the rest comes back bit by bit."""
        self.limit = max(1.0, min(_AT_ONCE, 0.1 * count), _SAVED * count / self.window)
        self.rate = max(count - self.limit, 0.9 * count) / self.window

    def _growth(self, now: float) -> float:
        over = (now - self._since) / self._kept - 1.0
        return 1.0 + over**3 if over > 0.0 else 1.0

    def fits_at(self, cost: float, now: float, keep: float, ahead: float = 0.0) -> float:
        """See :meth:`Meter.fits_at`.  Rather too soon than too late: as if it had grown already by what it grows until
        then, for whoever comes too soon looks again."""
        at, began = super().fits_at(cost, now, keep, ahead), max(self.at, now)
        grown = self._growth(at) if at > began else 1.0
        return began + (at - began) * self._growth(began) / grown if grown > 1.0 else at

    def advance(self, now: float) -> None:
        """Credit the time that passed."""
        growth = self._growth(now)
        if growth > 1.0:
            self._share(self.count * growth)
        super().advance(now)

    def refused(self, opens: float, *, first: bool) -> bool:
        """A call was refused, the ``first`` one of a row: it begins anew to grow, and later than before.  Returns
        whether it is a limit: not if calls are refused again and again that it should have let through."""
        if self._growth(self.at) > 1.0:
            self._since, self._kept = opens, min(2.0 * self._kept, _KEPT * self.window)
            self._share(self.count)
        elif first:
            self._failed += 1
        self.hold(1.0, opens)
        return self._failed < _FAILED

    def lowered(self, now: float) -> bool:
        """A call was refused by chance, as it seems.  If it had grown, it is as it was before; if not, it is a little
        less, and no limit at all when that did not help.  Returns whether it is one."""
        if self._growth(now) > 1.0:
            self._kept, self._failed = min(2.0 * self._kept, _KEPT * self.window), 0
        else:
            self.count, self._failed = _LESS * self.count, self._failed + 1
        self._since = now
        self._share(self.count)
        return self._failed < _FAILED

    def shut(self, until: float) -> None:
        """All of it is used up; one call fits at that time."""
        self.hold(0.0, until - 1.0 / self.rate)
        self._since = until

    def corrected(self, count: float, window: float, now: float) -> None:
        """So many got through in a longer or equal window, and then several were refused together: at most halve it,
        because there may have been too few calls to tell."""
        most = self.count * self._growth(now) * window / self.window
        self.count, self.window, self._since = min(max(count, 0.5 * self.count), most), window, now
        self._kept = max(self._kept, min(_KEPT * window, _KEPT_MOST))
        self._share(self.count)

    def over(self, now: float) -> bool:
        """Whether it is no limit any more."""
        return self._growth(now) >= _FREE


class Ramp(Meter):
    """After a refusal: one call first, and until one is let through twice as many every :data:`_DOUBLES` seconds."""

    def __init__(self, opens: float) -> None:
        super().__init__(1.0, 1.0)
        self._opens = opens
        self._sent = 0.0

    def fits_at(self, cost: float, now: float, keep: float, ahead: float = 0.0) -> float:
        """See :meth:`Meter.fits_at`."""
        return self._opens + _DOUBLES * math.log2(self._sent + cost + ahead)

    def take(self, cost: float, now: float) -> None:
        """See :meth:`Meter.take`."""
        if not self._sent:  # it may have opened long ago for others than those who call
            self._opens = max(self._opens, now)
        self._sent += cost
