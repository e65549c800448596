"""Pace: how many requests and tokens one key may take, declared, reported with answers, or learnt from refusals.

What an attempt will probably take is reserved before it is sent and settled when its usage is known.  Every limit is a
bucket that is full again after its window, so nothing stays shut for longer than that window, whatever was declared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from resilient_llm.decide.meters import Declared, Learnt, Meter, Reported, Trust
from resilient_llm.decide.refusals import Refusals, Sent
from resilient_llm.policy import Rate

_USUAL = 0.1  # weight of the newest answer in what is usual
_AMPLE = 0.1  # share of a limit that is more than we thought


class Limit(Protocol):
    """One rate limit as a provider reports it; ``None`` where it does not say."""

    @property
    def limit(self) -> int | None: ...

    @property
    def remaining(self) -> int | None: ...

    @property
    def reset_in(self) -> float | None: ...


class Pace(Refusals):
    """What one key may take."""

    def __init__(self, rates: Iterable[Rate], cap: float) -> None:
        super().__init__()
        self.sent: float = 0.0
        self.learnt: Learnt | None = None
        self.limited: bool = False
        """Whether anything at all is limited."""
        self.sent_tokens: float = 0.0
        self._heard: float = 0.0
        self._heard_tokens: float = 0.0  # of those sent, those to which an answer has begun, or that failed
        self.cap = cap
        self._usual: float | None = None  # tokens of a call
        self._output: float = 0.0  # tokens of an answer; 0: unknown
        self._prompt = 1.0
        self.reported: list[Reported | None] = [None, None]  # requests, tokens
        self._trust = Trust()
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
        self._stated: list[tuple[Meter, bool]] = [*self.declared, *(reported if self._trust.obeyed else ())]
        self._meters: list[tuple[Meter, bool]] = [*self._stated, *guessed]
        self.limited = bool(self._meters)

    def need(self, tokens: float, max_tokens: float) -> float:
        """Tokens that a call will probably take: its prompt, estimated and corrected by what this provider counted
        before, and an answer of the usual length."""
        output = self._output
        return tokens * self._prompt + (output if output < max_tokens else max_tokens)

    def stated(self, *, doubted: bool) -> Sequence[tuple[Meter, bool]]:
        """Limits that are no guess: declared ones, and reported ones unless they are ``doubted``."""
        return self.declared if doubted else self._stated

    def doubted(self, now: float) -> bool:
        """Whether nobody knows if what was reported is real."""
        return now >= self._trust.until and len(self._stated) > len(self.declared)

    def testable(self, now: float) -> bool:
        """Whether a call can find that out: not if all may have come back that was missing."""
        return self.doubted(now) and any(meter is not None and meter.in_force(now) for meter in self.reported)

    def fits_at(
        self,
        need: float,
        now: float,
        *,
        ahead: int = 0,
        keep: float = 0.0,
        by: Sequence[tuple[Meter, bool]] | None = None,
    ) -> float:
        """When a call of ``need`` tokens can be sent: at ``now`` or before, now.  ``ahead`` others of the usual size
        come first; a share of ``keep`` is to be left.  ``by``: these limits (``None``: all)."""
        at, usual = -math.inf, need if self._usual is None else self._usual
        for meter, tokens in self._meters if by is None else by:
            fits = meter.fits_at(need if tokens else 1.0, now, keep, ahead * usual if tokens else ahead)
            at = max(at, fits)
        return at if ahead or at <= now + self.cap else now + self.cap

    def reserve(self, tokens: float, max_tokens: float, now: float) -> Sent:
        """One is sent: take what it will probably need; while nothing is limited, nobody reckons what that is."""
        need = self.need(tokens, max_tokens) if self._meters else tokens
        if now >= self._mark_at:
            self.mark(now)
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
        if self._trust.over(now):
            self.arrange()
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
        meter.last = left, told.reset_in or 0.0, at, tokens_then if tokens else requests_then
        meter.until = math.inf if told.limit else now + (told.reset_in or 0.0)
        meter.at_most(left - after, now - at, now)
        for declared, of_tokens in self.declared:
            if of_tokens == tokens:
                declared.corrected(meter.window, now, ample=ample)

    def refused(self, sent: Sent, waits_until: float, now: float, *, explained: bool) -> bool:
        """A call was refused, and is to wait until then.  Returns whether that is chance, and concerns nobody else."""
        self.give_back(sent[0])
        return self.by_chance(sent, waits_until, now, explained=explained)

    def shut(self, sent: Sent, opens: float, now: float, *, explained: bool, proves: bool = True) -> None:
        """A limit refused that call; nobody is sent again before ``opens``.  ``proves``: it was sent because it seemed
        to fit, so that it proves something of the limit."""
        for kind, meter in enumerate(self.reported):
            if meter is not None and proves:
                meter.hold(sent[0] if kind else 1.0, opens)
        self.limit_met(sent, opens, now, explained=explained, proves=proves)

    def explains(self, need: float, now: float) -> bool:
        """Whether what was reported explains that a call is refused."""
        told = enumerate(self.reported)
        return any(meter is not None and meter.explains(need if kind else 1.0, now) for kind, meter in told)

    def contradicts(self, need: float, now: float) -> bool:
        """Whether a call that was sent now cannot be let through if what was reported is true."""
        requests, tokens = self.reported
        if requests is not None and requests.contradicts(1.0, self.sent - 1.0, now):
            return True
        return tokens is not None and tokens.contradicts(need, self.sent_tokens - need, now)

    def tried(self, now: float, *, refused: bool) -> None:
        """A call that was sent in spite of what was reported was refused for it, or let through though it contradicts
        that."""
        self._trust.tried(now, refused=refused)
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
        self.reported = [None, None]
        self._trust = Trust()
        self.forget()
        for meter, _ in self.declared:
            meter.restore()
        self.arrange()
