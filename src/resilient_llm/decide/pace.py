"""Pace: how many requests and tokens one key may take, declared, reported with answers, or learnt from refusals.

What an attempt will probably take is reserved before it is sent and settled when its usage is known.  Every limit is a
bucket that is full again after its window, so nothing stays shut for longer than that window, whatever was declared.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol, TypeAlias

from resilient_llm.decide.meters import Declared, Learnt, Meter, Ramp, Reported
from resilient_llm.policy import Rate

_USUAL = 0.1  # weight of the newest answer in what is usual
_MARK = 0.1  # seconds between two notes of how many requests got through
_MARKS = 640  # notes that are kept: more than a minute's
_SHORTEST = 1.0  # seconds of the shortest limit there usually is
_WINDOWS = (1.0, 10.0, 60.0)  # seconds of the usual ones
_LONG = 5.0  # seconds of refusals that come again within as many seconds where a limit, and no outage, is met
_LONGEST = 82.0  # seconds of refusals beyond which it is no limit of a minute, but an outage that says 429
_PAUSE = 4.0  # requests that are left out after a refusal where a limit was found out
_PROOF = 3.0  # refusals that prove a limit; so many calls sent meanwhile outweigh one: a quarter refused is chance
_AMPLE = 0.1  # share of a limit that is more than we thought


class Limit(Protocol):
    """One rate limit as a provider reports it; ``None`` where it does not say."""

    @property
    def limit(self) -> int | None: ...

    @property
    def remaining(self) -> int | None: ...

    @property
    def reset_in(self) -> float | None: ...


Sent: TypeAlias = tuple[float, float, float, float]
"""A call that was sent: the tokens it needs, when, and what had been sent with its key until then, itself included:
requests, tokens.  A plain tuple, as one is made for every call."""


class Pace:
    """What one key may take."""

    def __init__(self, rates: Iterable[Rate], cap: float) -> None:
        self.limited: bool = False
        """Whether anything at all is limited."""
        self.sent: float = 0.0
        self.sent_tokens: float = 0.0
        self._heard: float = 0.0
        self._heard_tokens: float = 0.0  # of those sent, those to which an answer has begun, or that failed
        self.cap = cap
        self._usual: float | None = None  # tokens of a call
        self._output: float = 0.0  # tokens of an answer; 0: unknown
        self._prompt = 1.0
        self._refused = 0
        self.row: int = 0
        """Refusals in a row: 0 again when a call that was sent after them is let through."""
        self._row_at = -math.inf  # when the first of them came
        self._row_ended = -math.inf  # when the call was sent that ended the last row
        self._evidence = 0.0  # that there is a limit
        self._sent_then = 0.0  # what had been sent at the last refusal
        self._pause = _SHORTEST
        self._refused_at = -math.inf  # when the last call that was refused had begun
        self.reported: list[Reported | None] = [None, None]  # requests, tokens
        self.learnt: Learnt | None = None
        self.ramp: Ramp | None = None
        self._proven = False  # the row proves a limit, which is to be measured when the next call is sent
        self._measured = False  # that was done
        self._marks: deque[tuple[float, float]] = deque(maxlen=_MARKS)  # when, and how many had got through
        self._mark_at = -math.inf  # when the next one is due
        self._bucket: Callable[[Rate], Declared] = Declared.of
        self.declare(rates)

    def declare(self, rates: Iterable[Rate]) -> None:
        """Obey these limits."""
        self.declared: list[tuple[Declared, bool]] = [(self._bucket(rate), rate.unit == "tokens") for rate in rates]
        self.arrange()

    def share(self, bucket: Callable[[Rate], Declared] | None, rates: Iterable[Rate]) -> None:
        """Keep to these declared limits with buckets that this makes; ``None``: with the process's own."""
        self._bucket = bucket or Declared.of
        self.declare(rates)

    def reset_after_fork(self) -> None:
        """In the child: nothing is under way."""
        self._heard, self._heard_tokens = self.sent, self.sent_tokens
        for meter, _ in self.declared:
            meter.reset_after_fork()

    def arrange(self) -> None:
        """A limit came or went."""
        reported = [(meter, bool(kind)) for kind, meter in enumerate(self.reported) if meter is not None]
        guessed = [(meter, False) for meter in (self.learnt, self.ramp) if meter is not None]
        self._stated: list[tuple[Meter, bool]] = [*self.declared, *reported]
        self._meters: list[tuple[Meter, bool]] = [*self._stated, *guessed]
        self.limited = bool(self._meters)

    def need(self, tokens: float, max_tokens: float) -> float:
        """Tokens that a call will probably take: its prompt, estimated and corrected by what this provider counted
        before, and an answer of the usual length."""
        output = self._output
        return tokens * self._prompt + (output if output < max_tokens else max_tokens)

    def fits_at(self, need: float, now: float, *, ahead: int = 0, keep: float = 0.0, stated: bool = False) -> float:
        """When a call of ``need`` tokens can be sent: at ``now`` or before, now.  ``ahead`` others of the usual size
        come first; a share of ``keep`` is to be left.  ``stated``: by what was declared or reported alone."""
        at, usual = -math.inf, need if self._usual is None else self._usual
        for meter, tokens in self._stated if stated else self._meters:
            fits = meter.fits_at(need if tokens else 1.0, now, keep, ahead * usual if tokens else ahead)
            at = max(at, fits)
        return at if ahead or at <= now + self.cap else now + self.cap

    def reserve(self, tokens: float, max_tokens: float, now: float) -> Sent:
        """One is sent: take what it will probably need; while nothing is limited, nobody reckons what that is."""
        need = self.need(tokens, max_tokens) if self._meters else tokens
        if now >= self._mark_at:
            if not self.row:
                self._marks.append((now, self.sent - self._refused))
                self._mark_at = now + _MARK
            elif self._proven:
                self._measure(now)
        sent = self.sent = self.sent + 1.0
        sent_tokens = self.sent_tokens = self.sent_tokens + need
        if self._meters:
            self._usual = need if self._usual is None else self._usual + _USUAL * (need - self._usual)
            for meter, of_tokens in self._meters:
                meter.take(need if of_tokens else 1, now)
            self._forget(now)
        return need, now, sent, sent_tokens

    def _forget(self, now: float) -> None:
        """What limits nothing any more is no limit."""
        over = [one is not None and now >= one.until for one in self.reported]
        if any(over):
            self.reported = [None if gone else one for gone, one in zip(over, self.reported, strict=True)]
            for declared, of_tokens in self.declared:
                if over[of_tokens]:  # nobody says any more that it is too low
                    declared.corrected(0.0, now, ample=False)
            self.arrange()
        if self.learnt is not None and self.learnt.over(now):
            self.learnt = None
            self.arrange()

    def heard(self, need: float) -> None:
        """The answer to a call of so many tokens began, or there is none."""
        self._heard += 1
        self._heard_tokens += need

    @property
    def unheard(self) -> float:
        """Calls to which no answer has begun."""
        return self.sent - self._heard

    @property
    def unheard_tokens(self) -> float:
        """Tokens reserved for them."""
        return self.sent_tokens - self._heard_tokens

    def settle(self, need: float, prompt: int, tokens: int, output: int) -> None:
        """A call for which ``need`` tokens were reserved, with a prompt put at ``prompt`` of them, was answered: it
        took ``tokens``, ``output`` of them for the answer."""
        usual = self._output
        self._output = usual + _USUAL * (output - usual) if usual else float(output)
        if tokens > output and prompt > 0:
            counted = (tokens - output) / prompt
            self._prompt += _USUAL * ((1.0 if counted < 1.0 else 8.0 if counted > 8.0 else counted) - self._prompt)
        if self.declared:
            self.give_back(need - tokens)

    def give_back(self, tokens: float) -> None:
        """So many tokens less were taken than had been reserved.  What a provider reports is left as it says: many
        count the estimate, and not what was used."""
        for meter, of_tokens in self.declared:
            if of_tokens:
                meter.give(tokens)

    def report(self, told: Limit | None, sent: Sent, now: float, *, tokens: bool) -> None:
        """A provider told its limit of requests, or of ``tokens``, with the answer to a call.  Calls sent after it have
        used some of what is left; of the others that are not answered yet nobody knows whether they are counted."""
        kind = int(tokens)
        need, at, requests_then, tokens_then = sent
        after = self.sent_tokens - tokens_then if tokens else self.sent - requests_then
        unheard = self.unheard_tokens if tokens else self.unheard
        if told is None or told.remaining is None:
            return
        meter, left = self.reported[kind], told.remaining
        limit = float(told.limit or max(left, 1.0 if meter is None else meter.limit))
        if meter is None or meter.limit != limit:
            if not told.reset_in or left >= limit:
                return  # nothing is missing, or nobody knows when it comes back
            meter = self.reported[kind] = Reported(limit, left - unheard)
            self.arrange()
        meter.advance(now)
        ample = left - unheard - _AMPLE * limit >= (need if tokens else 1.0)
        meter.told(left, told.reset_in or 0.0, ample=ample)
        meter.until = math.inf if told.limit else now + (told.reset_in or 0.0)
        meter.at_most(left - after, now - at, now)
        for declared, of_tokens in self.declared:
            if of_tokens == tokens:
                declared.corrected(meter.window, now, ample=ample)

    def refused(self, need: float, started: float, opens: float, now: float) -> None:
        """The limit refused a call sent at ``started``; nobody is sent again before ``opens``."""
        self._refused += 1
        again, took, short = self.row and started > self._row_at, 0.0, 0.0
        if not self.row:
            if now - self._row_ended < self._row_ended - self._row_at:
                took, short = self._row_ended - self._row_at, self._refused_at - self._row_at
            self._row_at, self._pause = now, self.pause
        self.row += 1
        self._mark_at = -math.inf
        self._refused_at = max(started, self._refused_at)
        self.give_back(need)
        explained = False
        for kind, meter in enumerate(self.reported):
            if meter is not None:
                explained = explained or meter.explains(need if kind else 1.0, now)
                meter.hold(need if kind else 1.0, opens)
        if self.learnt is not None:
            self.learnt.refused(opens)
        if not explained:
            if not again:  # one that follows a pause says that it was too short, and nothing of how much is taken
                since = max(self.sent - self._sent_then - 1.0, 0.0)
                self._evidence = min(max(self._evidence - since / _PROOF, 0.0) + 1.0, _PROOF)
            self._sent_then, self._proven = self.sent, self._evidence >= _PROOF
            if self.learnt is None and _LONG <= took <= _LONGEST:
                self._learn(self._window(took, short), now)
            self.ramp = Ramp(opens)
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
        return _SHORTEST if self.learnt is None else _PAUSE / self.learnt.rate

    def answered(self, started: float) -> None:
        """A call that began at ``started`` was let through."""
        if started > self._refused_at:
            self._row_ended = started if self.row else self._row_ended
            if self._measured:
                self._marks.clear()
            self.row, self._proven, self._measured, self.ramp = 0, False, False, None
            self.arrange()

    def _measure(self, now: float) -> None:
        """The first call after several refusals that nothing explained: what got through in any time as long as the
        pause, at most, is the limit, unless this call is refused as well, and the pause proves longer."""
        self._proven, passed = False, self.sent - self._refused
        if now - self._row_at > _LONGEST or (self.learnt is None and not passed):
            return  # or nothing got through at all: whether there is a limit or an outage is not known
        window = self._window(now - self._row_at, self._refused_at - self._row_at)
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
        """The window of a limit that takes a pause of so many seconds, where ``short`` was too short."""
        usual = [window for window in _WINDOWS if 0.0 < short < window <= pause]
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

    def left(self, now: float) -> tuple[float | None, float | None]:
        """Requests and tokens that fit now, as far as it is known."""
        found: list[float | None] = [None, None]
        for meter, tokens in self._stated:
            meter.advance(now)
            least = found[tokens]
            level = max(0.0, meter.level)
            found[tokens] = level if least is None else min(level, least)
        return found[0], found[1]

    def headroom(self, now: float) -> float:
        """The smallest share of a limit that is left; 1 without any."""
        for meter, _ in self._stated:
            meter.advance(now)
        return min((meter.level / meter.limit for meter, _ in self._stated), default=1.0)

    def open(self) -> None:
        """Forget what was reported and learnt."""
        self.reported, self.learnt, self.ramp, self.row = [None, None], None, None, 0
        self._proven = self._measured = False
        self._marks.clear()
        for meter, _ in self.declared:
            meter.restore()
        self.arrange()
