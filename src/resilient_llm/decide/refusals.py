"""What refusals show of a limit that nobody tells: whether there is one, how much it lets through, when to ask again.

Once a limit is met, nearly everything that is sent until its window is over is refused, too.  Where a gateway draws
lots, or others use up the limit, most of that gets through; to wait would make refusals no fewer.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TypeAlias

from resilient_llm.decide.meters import Learnt, Ramp

_MARK = 0.1  # seconds between two notes of how many requests got through
_MARKS = 640  # notes that are kept: more than a minute's
_SHORTEST = 1.0  # seconds of the shortest limit there usually is
_WINDOWS = (1.0, 10.0, 60.0)  # seconds of the usual ones
_LONG = 5.0  # seconds of refusals that come again within as many seconds where a limit, and no outage, is met
_LONGEST = 82.0  # seconds of refusals beyond which it is no limit of a minute, but an outage that says 429
_FIRST_PAUSE = 0.5  # seconds after a refusal that says nothing, as long as an SDK waits
_PAUSE = 4.0  # requests that are left out after a refusal where a limit was found out
_PROOF = 3.0  # refusals that prove a limit; so many calls sent meanwhile outweigh one: a quarter refused is chance
_BELIEVED = 2.0  # refusals that are taken for granted: a wait is obeyed until calls show that others get through
_REMEMBERED = 16.0  # calls sent during a wait that count


Sent: TypeAlias = tuple[float, float, float, float]
"""A call that was sent: the tokens it needs, when, and what had been sent with its key until then, itself included:
requests, tokens.  A plain tuple, as one is made for every call."""


class Refusals:
    """What is known of the refusals of one key."""

    sent: float = 0.0
    learnt: Learnt | None = None
    ramp: Ramp | None = None
    row: int = 0
    """Refusals in a row: 0 again when a call that was sent after them is let through."""
    waits_until: float = -math.inf
    """Until when somebody who was refused is to wait."""

    def __init__(self) -> None:
        self._refused = 0
        self._last = 0.0  # of the calls refused in a row, the number of the one that was sent last
        self._last_at = -math.inf  # when that was sent
        self._heard_at = -math.inf  # when the last one was heard of
        self._probed = False  # since then the wait was ended as a call sent after them got through; or it is no guess
        self._row_at = -math.inf  # when the first of them came
        self._row_ended = -math.inf  # when the call was sent that ended the last row
        self._evidence = 0.0  # that there is a limit
        self._sent_then = 0.0  # what had been sent at the last refusal
        self._pause = _SHORTEST
        self._proven = False  # the row proves a limit, which is to be measured when the next call is sent
        self._measured = False  # that was done
        self._marks: deque[tuple[float, float]] = deque(maxlen=_MARKS)  # when, and how many had got through
        self._mark_at = -math.inf  # when the next one is due
        self._waits_since = -math.inf
        self._shut_out, self._got_through = _BELIEVED, 0.0  # calls sent during a wait

    def arrange(self) -> None:
        """A limit came or went."""

    def mark(self, now: float) -> None:
        """A call is about to be sent, and it is time to note how many got through."""
        if not self.row:
            self._marks.append((now, self.sent - self._refused))
            self._mark_at = now + _MARK
        elif self._proven:
            self._measure(now)

    # --- is it chance? ---

    def by_chance(self, sent: Sent, waits_until: float, now: float, *, explained: bool) -> bool:
        """A call was refused, and is to wait until then.  Returns whether that is chance and concerns nobody else: most
        calls that were sent during such a wait got through.  ``explained``: the limit that was reported refused it."""
        self._refused += 1
        if self._waits_since < sent[1] < self.waits_until:
            self._count(1.0, 0.0)
        if now >= self.waits_until:
            self._waits_since = now
        self.waits_until = max(self.waits_until, waits_until)
        if explained or self._got_through <= self._shut_out:
            return False
        self._end_row()
        self._weigh()
        if self.learnt is not None:
            if not self.learnt.lowered(now):
                self.learnt, self._evidence = None, 0.0
        elif self._evidence >= _PROOF and self._marks and self._marks[0][0] <= now - _SHORTEST:
            self.learnt = Learnt(self._most_in(_SHORTEST, self.sent - self._refused), _SHORTEST, now)
        self.arrange()
        return True

    def _count(self, shut_out: float, got_through: float) -> None:
        keep = 1.0 - 1.0 / _REMEMBERED
        self._shut_out, self._got_through = keep * self._shut_out + shut_out, keep * self._got_through + got_through

    def _weigh(self) -> None:
        """One more refusal, and what was sent since the last one."""
        since = max(self.sent - self._sent_then - 1.0, 0.0)
        self._evidence = min(max(self._evidence - since / _PROOF, 0.0) + 1.0, _PROOF)
        self._sent_then = self.sent

    # --- a limit was met ---

    def limit_met(self, sent: Sent, opens: float, now: float, *, explained: bool, proves: bool) -> None:
        """A limit refused a call; nobody is sent again before ``opens``.  ``proves``: it was sent because it seemed to
        fit."""
        _, started, number, _ = sent
        before, self._last_at = self._last_at, max(started, self._last_at)
        self._last, self._heard_at, self._probed = max(number, self._last), now, explained
        if not proves:
            return
        again, took, short, first = self.row and started > self._row_at, 0.0, 0.0, not self.row
        if first:
            if now - self._row_ended < self._row_ended - self._row_at:
                took, short = self._row_ended - self._row_at, before - self._row_at
            self._row_at, self._pause = now, self.pause
        self.row += 1
        self._mark_at = -math.inf
        if self.learnt is not None and not self.learnt.refused(opens, first=first):
            self._disbelieve()
        if explained:
            return
        if not again:  # one that follows a pause says that it was too short, and nothing of how much is taken
            self._weigh()
        self._sent_then, self._proven = self.sent, self._evidence >= _PROOF
        if self.learnt is None and _LONG <= took <= _LONGEST:
            self._learn(self._window(took, short), now)
        self.ramp = Ramp(opens)
        self.arrange()

    def _disbelieve(self) -> None:
        """The limit that was found out refuses although it is kept: it is none, and refusals are chance until calls
        that are sent during a wait show otherwise."""
        self.learnt, self._evidence = None, 0.0
        self._shut_out, self._got_through = 0.0, _BELIEVED
        self.arrange()

    def _learn(self, window: float, now: float) -> None:
        """Calls were refused for a long time, let through, and are refused again before as much time has passed: what
        got through in between is the limit, and its window began when that did."""
        self.learnt = Learnt(self._most_in(window, self.sent - self._refused), window, now)
        self.learnt.shut(self._row_ended + window)
        self._evidence = _PROOF

    @property
    def pause(self) -> float:
        """Seconds to pause after a refusal that does not say how long; longer if the next call is refused, too."""
        if self.row:
            return self._pause
        return _FIRST_PAUSE if self.learnt is None else _PAUSE / self.learnt.rate

    # --- a call got through ---

    def let_through(self, sent: Sent, now: float, *, answered: bool = True) -> bool:
        """A call was not refused.  If it was not answered either, that ends a row of refusals, and says nothing of how
        much gets through.  Returns whether the wait is over before its time: a call that was sent after those refused,
        though before that was known, shows that others may get through.  One goes first to find out."""
        _, started, number, _ = sent
        if self._waits_since < started < self.waits_until:
            self._count(0.0, 1.0)
        if number <= self._last:
            return False
        if started <= self._heard_at:
            return self._probe(now)
        if not self.row:
            return False
        self._row_ended = started if answered else -math.inf
        if self._measured:
            self._marks.clear()
        self._end_row()
        self.arrange()
        return False

    def _probe(self, now: float) -> bool:
        if self._probed:
            return False
        self._probed, self.ramp = True, Ramp(now)
        if self.learnt is not None:
            self.learnt.hold(1.0, now)
        self.arrange()
        return True

    def _end_row(self) -> None:
        self.row, self._proven, self._measured, self.ramp = 0, False, False, None

    def _measure(self, now: float) -> None:
        """The first call after several refusals that nothing explained: what got through in any time as long as the
        pause, at most, is the limit, unless this call is refused as well, and the pause proves longer."""
        self._proven, passed = False, self.sent - self._refused
        if now - self._row_at > _LONGEST or (self.learnt is None and not passed):
            return  # or nothing got through at all: whether there is a limit or an outage is not known
        window = self._window(now - self._row_at, self._last_at - self._row_at)
        if self.learnt is not None:
            window = max(window, self.learnt.window)
        count = self._most_in(window, passed)
        if self.learnt is None:
            self.learnt = Learnt(count, window, now)
        else:
            self.learnt.corrected(count, window, now)
        self._measured = True
        self.arrange()

    @staticmethod
    def _window(pause: float, short: float) -> float:
        """The window of a limit that takes a pause of so many seconds, where ``short`` was too short (0: none was)."""
        if short <= 0.0:
            return _SHORTEST
        usual = [window for window in _WINDOWS if short < window <= pause]
        return usual[-1] if usual else max(_SHORTEST, float(round(pause)))

    def _most_in(self, window: float, passed: float) -> float:
        """The most requests that got through in so many seconds, at least one."""
        marks, most, end = self._marks, 1.0, 0
        for at, before in marks:
            while end < len(marks) and marks[end][0] < at + window:
                end += 1
            until, count = marks[end] if end < len(marks) else (at + window, passed)
            most = max(most, (count - before) * window / (until - at))
        return most

    def forget(self) -> None:
        """Everything that was found out."""
        self.learnt, self.waits_until = None, -math.inf
        self._shut_out, self._got_through = _BELIEVED, 0.0
        self._end_row()
        self._marks.clear()
