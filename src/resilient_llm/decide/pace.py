"""Pace: how many requests and tokens one key may take, declared, reported with answers, or learnt from refusals.

What an attempt will probably take is reserved before it is sent and settled when its usage is known.  Every limit is a
bucket that is full again after its window, so nothing stays shut for longer than that window, whatever was declared.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from resilient_llm.policy import Rate

_USUAL = 0.1  # weight of the newest answer in what is usual
_MARK = 0.25  # seconds between two notes of how many requests passed
_PACES = 10.0  # requests that pass, in at least a second, for one step in the growth of a learnt rate
_CURVE, _LEVEL_AT = 0.004, 2.3  # of that growth: after a refusal 5 % less, and in so many steps as before
_BURST = 0.1  # seconds' worth that a learnt rate saves up
_MORE = 1.2  # times what got through, to begin with: the pause was longer than it had to be
_WINDOW = 1.0  # seconds of the shortest limit there usually is
_PAUSE = 4.0  # requests that are left out after a refusal where a rate is known
_DOUBLES = 0.7
_ROW = 3  # calls refused together that prove a limit: one alone may be chance
_AMPLE, _FASTER = 0.1, 2.0  # share of a limit that is more than we thought, and how much faster we then send
_FREE = 10.0  # times the rate learnt from a refusal from which on there is none any more


class Limit(Protocol):
    """One rate limit as a provider reports it; ``None`` where it does not say."""

    @property
    def limit(self) -> int | None: ...

    @property
    def remaining(self) -> int | None: ...

    @property
    def reset_in(self) -> float | None: ...


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
                self.level = min(self.limit, self.level + (now - self.at) * self.rate)
            self.at = now

    def fits_at(self, cost: float, now: float, keep: float) -> float:
        """When ``cost`` units can be taken so that a share of ``keep`` is left.  What is more than the bucket holds
        waits until it is full, and no longer."""
        need = min(cost + keep * self.limit, self.limit)
        if self.level >= need:
            return -math.inf
        self.advance(now)
        # A hair less counts as enough: ten times 0.1 must make one.
        return self.at + (need - self.level) / self.rate if self.level < need - 1e-6 else -math.inf

    def take(self, cost: float, now: float) -> None:
        """Take them.  A debt is forgotten, or a bucket could stay empty for longer than its window."""
        self.advance(now)
        self.level = max(0.0, self.level - cost)

    def give(self, cost: float) -> None:
        """Give back what was taken too much (or take what was too little)."""
        self.level = min(self.limit, max(0.0, self.level + cost))

    def refill(self) -> None:
        """Everything is there."""
        self.level = self.limit

    def reset_after_fork(self) -> None:
        """In the child: each process has its own."""

    def hold(self, cost: float, until: float) -> None:
        """What was refused fits at that time, and no more."""
        self.level, self.at = min(cost, self.limit), until


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
        self._sure = Meter(limit, math.inf, self.level)  # the same without what came back while answers were under way
        self._longest = 0.0
        self._least = math.inf
        self._usual = math.inf  # the rate at which it comes back

    def fits_at(self, cost: float, now: float, keep: float) -> float:
        """See :meth:`Meter.fits_at`.  What is to be kept is there for sure."""
        at = super().fits_at(cost, now, keep)
        return max(at, self._sure.fits_at(cost, now, keep)) if keep else at

    def take(self, cost: float, now: float) -> None:
        """See :meth:`Meter.take`."""
        super().take(cost, now)
        self._sure.take(cost, now)

    def told(self, left: float, reset: float, *, ample: bool) -> None:
        """``left`` units are left of a bucket that is full in ``reset`` seconds.  ``ample``: that is clearly more than
        was thought, so that we send faster until it is not."""
        missing = self.limit - left
        if missing > 0 and reset > 0:
            self._longest = max(self._longest, reset)
            self._least = min(self._least, reset * self.limit / missing)
            self._usual = self.limit / max(self._longest, self._least)
            self.rate = self._usual * (_FASTER if ample else 1.0)

    def at_most(self, left: float, ago: float, now: float) -> None:
        """So many units were left ``ago`` seconds, less what was sent since."""
        self.advance(now)
        if self.rate < math.inf:
            self.level = max(0.0, min(self.level, left + ago * self._usual))
            self._sure.advance(now)
            self._sure.rate, self._sure.level = self._usual, max(0.0, left)

    def explains(self, cost: float, now: float) -> bool:
        """Whether a call that costs so much had to be refused."""
        return self.level < cost or self.at > now


class Learnt(Meter):
    """A rate that was learnt from refusals, and grows until it is refused again: quickly at first, and after that not
    for a while where it was refused the last time (the curve of TCP CUBIC and of the AWS SDKs)."""

    at: float
    rate: float
    limit: float

    def __init__(self, rate: float, now: float) -> None:
        super().__init__(1.0, rate, 1.0)
        self._top, self._level_at = rate, 0.0
        self._since = self.at = now

    def advance(self, now: float) -> None:
        """Credit the time that passed."""
        steps = (now - self._since) / max(1.0, _PACES / self._top) - self._level_at
        self.rate = self._top * (1.0 + _CURVE * steps**3)
        self.limit = max(1.0, _BURST * self.rate)
        super().advance(now)

    def narrow(self, now: float, opens: float) -> None:
        """A call was refused all the same."""
        if self.level < 1.0 and now > self._since:  # it was the rate that let it through, and not want of calls
            self._top, self._level_at, self._since = max(self.rate, 1.0 / _WINDOW), _LEVEL_AT, opens
        self.hold(1.0, opens)

    @property
    def over(self) -> bool:
        """Whether it is no limit any more."""
        return self.rate >= _FREE * self._top


class Ramp(Meter):
    """After a refusal: one call first, and until one is let through twice as many every :data:`_DOUBLES` seconds."""

    def __init__(self, opens: float) -> None:
        super().__init__(1.0, 1.0)
        self._opens = opens
        self._sent = 0.0

    def fits_at(self, cost: float, now: float, keep: float) -> float:
        """See :meth:`Meter.fits_at`."""
        return self._opens + _DOUBLES * math.log2(self._sent + cost)

    def take(self, cost: float, now: float) -> None:
        """See :meth:`Meter.take`."""
        self._sent += cost


class Sent(NamedTuple):
    """When a call of ``need`` tokens was sent, and what had been sent with its key until then, itself included."""

    need: float
    at: float
    requests: float
    tokens: float


class Pace:
    """What one key may take."""

    def __init__(self, rates: Iterable[Rate], cap: float) -> None:
        self.limited: bool = False
        """Whether anything at all is limited."""
        self.sent: float = 0.0
        self.sent_tokens: float = 0.0
        self.unheard: float = 0.0
        self.unheard_tokens: float = 0.0
        """Of those sent, those to which no answer has begun."""
        self.cap = cap
        self._output: float | None = None  # tokens of an answer
        self._prompt = 1.0
        self._refused = 0
        self.row: int = 0
        """Refusals of calls that were under way together; 0 again when one sent later was let through."""
        self._first_at = -math.inf  # when the first of them came
        self._probes = 0  # of those, how many found out that the pause was too short
        self._refused_at = -math.inf  # when the last call that was refused had begun
        self.reported: list[Reported | None] = [None, None]  # requests, tokens
        self.learnt: Learnt | None = None
        self.ramp: Ramp | None = None
        self._closed_at: float | None = None  # since when a refusal is to be measured
        self._saved = 0.0  # requests that may follow the first one after it at once
        self._marks: deque[tuple[float, float]] = deque(maxlen=64)  # when, and how many had passed
        self._measured: tuple[float, float] = (-math.inf, 0.0)  # the last refusal that was measured
        self._bucket: Callable[[Rate], Meter] = _bucket
        self.declare(rates)

    def declare(self, rates: Iterable[Rate]) -> None:
        """Obey these limits, whatever the provider says beside them."""
        self.declared: list[tuple[Meter, bool]] = [(self._bucket(rate), rate.unit == "tokens") for rate in rates]
        self.arrange()

    def share(self, bucket: Callable[[Rate], Meter] | None, rates: Iterable[Rate]) -> None:
        """Keep to these declared limits with buckets that this makes; ``None``: with the process's own."""
        self._bucket = bucket or _bucket
        self.declare(rates)

    def reset_after_fork(self) -> None:
        """In the child: nothing is under way."""
        self.unheard = self.unheard_tokens = 0.0
        for meter, _ in self.declared:
            meter.reset_after_fork()

    def arrange(self) -> None:
        """A limit came or went."""
        reported = [(meter, bool(kind)) for kind, meter in enumerate(self.reported) if meter is not None]
        guessed = [(meter, False) for meter in (self.learnt, self.ramp) if meter is not None]
        self._stated: list[tuple[Meter, bool]] = [*self.declared, *reported]
        self._meters: list[tuple[Meter, bool]] = [*self._stated, *guessed]
        self.limited = bool(self._meters)

    def need(self, tokens: int, max_tokens: int) -> float:
        """Tokens that a call will probably take: its prompt, estimated and corrected by what this provider counted
        before, and an answer of the usual length."""
        output = self._output or 0.0
        return tokens * self._prompt + (output if output < max_tokens else max_tokens)

    def fits_at(self, need: float, now: float, *, count: int = 1, keep: float = 0.0, stated: bool = False) -> float:
        """When a call of ``need`` tokens can be sent: at ``now`` or before, now.  ``count - 1`` like it come first; a
        share of ``keep`` is to be left.  ``stated``: by what was declared or reported alone."""
        at = -math.inf
        for meter, tokens in self._stated if stated else self._meters:
            fits = meter.fits_at(count * need if tokens else count, now, keep)
            at = max(at, fits)
        return at if at <= now + self.cap else now + self.cap

    def take(self, need: float, now: float) -> Sent:
        """One is sent."""
        if self._closed_at is not None:
            self._measure(self._closed_at, now)
        if not self.row and (not self._marks or now - self._marks[-1][0] >= _MARK):
            self._marks.append((now, self.sent - self._refused))
        self.sent += 1
        self.sent_tokens += need
        self.unheard += 1
        self.unheard_tokens += need
        if self.limited:
            for meter, tokens in self._meters:
                meter.take(need if tokens else 1, now)
            if self.learnt is not None and self.learnt.over:
                self.learnt = None
                self.arrange()
        return Sent(need, now, self.sent, self.sent_tokens)

    def heard(self, need: float) -> None:
        """The answer to a call of so many tokens began, or there is none."""
        self.unheard -= 1
        self.unheard_tokens -= need

    def settle(self, need: float, prompt: int, tokens: int, output: int) -> None:
        """A call for which ``need`` tokens were reserved, with a prompt put at ``prompt`` of them, was answered: it
        took ``tokens``, ``output`` of them for the answer."""
        usual = self._output
        self._output = float(output) if usual is None else usual + _USUAL * (output - usual)
        if prompt > 0 and tokens > output:
            self._prompt += _USUAL * (min(max((tokens - output) / prompt, 1.0), 8.0) - self._prompt)
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
        after = self.sent_tokens - sent.tokens if tokens else self.sent - sent.requests
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
        spare = left - unheard - _AMPLE * limit
        meter.told(left, told.reset_in or 0.0, ample=spare >= (sent.need if tokens else 1.0))
        meter.at_most(left - after, now - sent.at, now)

    def refused(self, need: float, started: float, opens: float, now: float) -> None:
        """The limit refused a call sent at ``started``; nobody is sent again before ``opens``."""
        self._refused += 1
        probe = started > self._first_at
        self.row = 1 if probe else self.row + 1
        if probe:
            self._first_at = now
        self._refused_at = max(started, self._refused_at)
        self.give_back(need)
        explained = False
        for kind, meter in enumerate(self.reported):
            if meter is not None:
                explained = explained or meter.explains(need if kind else 1.0, now)
                meter.hold(need if kind else 1.0, opens)
        learnt = self.learnt
        if learnt is not None:
            self._probes += learnt.at <= now
            learnt.narrow(now, opens)
        if explained:
            return
        self.ramp = Ramp(opens)
        self.arrange()
        if self.row >= _ROW and self._closed_at is None:
            self._closed_at = self._first_at

    def pause(self, now: float) -> float | None:
        """Seconds to pause after a refusal that says nothing; ``None``: unknown."""
        learnt = self.learnt
        if learnt is None:
            return _WINDOW if self.row >= _ROW - 1 else None
        pause = _PAUSE / learnt.rate * 2.0 ** min(self._probes, 16)
        return pause if pause < _WINDOW else None

    def answered(self, started: float) -> None:
        """A call that began at ``started`` was let through."""
        if started > self._refused_at:
            self.row = self._probes = 0
            if self.learnt is not None:  # the limit has recovered during the pause
                self.learnt.level += self._saved
            self._saved, self.ramp = 0.0, None
            self.arrange()

    def _measure(self, closed_at: float, now: float) -> None:
        """The first call after a refusal that nothing explained: go by the highest rate at which calls got through
        since the refusal before, over any time at least as long as the pause."""
        passed, pause, marks = self.sent - self._refused, now - closed_at, self._marks
        before_at, before = self._measured
        if passed > before:
            while marks and marks[0][0] < before_at:
                marks.popleft()
            marks.append((closed_at, passed))
        rates = [(passed - count) / (now - at) for at, count in marks if now - at > pause]
        rate = max(rates, default=0.0)
        if self.learnt is not None:
            rate = min(max(rate, 0.8 * self.learnt.rate / _MORE), self.learnt.rate)
        self._closed_at, self._measured = None, (closed_at, passed)
        self._saved = 0.5 * rate * pause
        self.learnt = Learnt(max(_MORE * rate, 1.0 / _WINDOW), now)
        self.arrange()

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
        self.reported, self.learnt, self.ramp, self._closed_at = [None, None], None, None, None
        self.row = self._probes = 0
        self._marks.clear()
        for meter, _ in self.declared:
            meter.refill()
        self.arrange()


def _bucket(rate: Rate) -> Meter:
    return Meter(rate.amount, rate.amount / rate.per)
