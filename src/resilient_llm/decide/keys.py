"""The keys of one provider: each has its own limits, waits and quota.

Here a key is only a number.  Breaker and latency belong to the endpoint, whichever key is used.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Final

from resilient_llm.decide.ask import Ask
from resilient_llm.decide.gate import RateGate, SlowGate
from resilient_llm.decide.pace import Pace
from resilient_llm.policy import KeyTerms, Limits, Policies


class Refusal(StrEnum):
    """Why a provider is not asked now; the text is what people are shown."""

    UNSUITABLE = "unsuitable"
    DRAINED = "drained"
    ISOLATED = "isolated by hand"
    QUOTA = "quota or credentials"
    GATED = "asked us to wait"
    PACE = "too little is left of its rate limit"
    FULL = "at its concurrency limit"
    LINE = "others wait in line for it"
    CROWDED = "as many wait in line for it as may (limits.max_queue)"
    DOWN = "breaker open"
    HEARD = "other processes report that it fails or asks to wait"

    @property
    def needs_room(self) -> bool:
        """Whether it ends when somebody makes room, rather than by time alone."""
        return self in (Refusal.FULL, Refusal.LINE, Refusal.CROWDED)


LIMITED: Final = frozenset({Refusal.GATED, Refusal.PACE})


class Key:
    """One of them."""

    def __init__(self, number: int, terms: KeyTerms, limits: Limits, slow: SlowGate) -> None:
        self.number: int = number
        """Its position, from 0."""
        self.alone: bool = True
        """Whether its provider has no other."""
        self.terms: KeyTerms = terms
        self.slow: SlowGate = slow
        """Closed while it is refused or its quota is exhausted; shared by its account."""
        self.gate: RateGate = RateGate(limits)
        self.pace: Pace = Pace(terms.rates, limits.gate_cap)
        self._reserve: float = limits.reserve

    def govern(self, policies: Policies) -> None:
        """Go by these policies from now on."""
        limits = policies.limits
        self.gate.policy, self.pace.cap, self._reserve = limits, limits.gate_cap, limits.reserve
        self.slow.cap = policies.advanced.slow_gate_cap

    def retarget(self, terms: KeyTerms, slow: SlowGate) -> None:
        """Keep what is known of it under new settings."""
        if terms.rates != self.terms.rates:
            self.pace.declare(terms.rates)
        self.terms, self.slow = terms, slow

    def refusal(
        self, ask: Ask, now: float, *, waits: bool = False, ahead: int = 0, insists: bool = False
    ) -> Refusal | None:
        """Why a call cannot be sent with it now, ``ahead`` others before it; ``None`` if it can.  ``waits``: nobody
        else can be asked; ``insists``: only what was declared or said by the provider keeps it."""
        gate = self.gate
        if now < gate.until and (now < gate.asked or not insists) and now < gate.opens(ask.deadline, waits=waits):
            return Refusal.GATED
        if self.pace.limited and self.fits_at(ask, now, ahead, insists=insists) > now:
            return Refusal.PACE
        if self.slow.strikes and not self.slow.admits(now):
            return Refusal.QUOTA
        return None

    def guessed(self, refusal: Refusal, ask: Ask, now: float) -> bool:
        """Whether a call is kept by what nobody said, or may be as soon as what was said is over."""
        doubted = self._may_doubt(ask) and self.pace.doubted(now)
        return refusal in LIMITED and (doubted or self.gate.without_hint or self.pace.learnt is not None)

    def _may_doubt(self, ask: Ask) -> bool:
        """Whether the call may find out if reported limits are real; where there are other keys, they are obeyed."""
        return self.alone and not ask.batch

    def fits_at(self, ask: Ask, now: float, ahead: int = 0, *, stated: bool = False, insists: bool = False) -> float:
        """When the call fits into what may be sent with it, after ``ahead`` others like it; ``stated``: by what is
        known for certain; ``insists``: by that, or to find out whether what was reported is real."""
        pace, keep = self.pace, self._reserve if ask.batch else 0.0
        need, by = pace.need(ask.tokens, ask.max_tokens), None
        if stated or insists:
            doubted = self._may_doubt(ask) and (pace.testable(now) if insists else pace.doubted(now))
            by = pace.stated(doubted=doubted)
        return pace.fits_at(need, now, ahead=ahead, keep=keep, by=by)

    def opens_at(self, ask: Ask, now: float, *, told: bool = False, ahead: int = 0) -> float:
        """When it may be used again by time alone; ``told``: in the provider's own words where it gave any."""
        refusal = self.refusal(ask, now, waits=True, ahead=ahead)
        if refusal is Refusal.GATED:
            return self.gate.told if told else self.gate.opens(ask.deadline, waits=True)
        if refusal is Refusal.PACE:
            return self.fits_at(ask, now, ahead, stated=told)
        if refusal is Refusal.QUOTA:
            return max(self.slow.until, self.slow.lease_ends)
        return -math.inf
