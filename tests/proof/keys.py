"""Books about keys, quotas and models that providers refuse: by chance, for good, or until they say otherwise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from resilient_llm.decide.gate import SlowGate
from resilient_llm.decide.member import Member
from resilient_llm.faults import Fault, FaultKind
from resilient_llm.simulate.client import Real
from resilient_llm.simulate.providers import Provider
from tests.proof.limits import Demand

KEYS: Final[dict[str, str]] = {
    "K1": "a refused key, quota or model closes its slow gate, unless it is chance: within a minute after an answer to "
    "a call that began after such a refusal, with fewer than ten in a row, and no other key to go on with",
    "K2": "who has nobody else is sent in spite of a slow gate whose time nobody stated, once a second at most after "
    "ten refusals in a row",
}

_DISABLED: Final = frozenset(
    {
        FaultKind.QUOTA_EXHAUSTED,
        FaultKind.AUTH,
        FaultKind.PERMISSION,
        FaultKind.NOT_FOUND_MODEL,
        FaultKind.MISCONFIGURED,
    }
)
_ROW: Final = 10
_CHANCE: Final = 60.0


@dataclass(slots=True)
class _Book:
    row: int = 0
    """Refusals since the last answer that ended them."""
    since: float = math.inf
    """When the first of them came."""
    chance_until: float = -math.inf


class Keys:
    """What was refused and answered."""

    def __init__(self, demand: Demand) -> None:
        self._demand = demand
        self._books: dict[SlowGate, _Book] = {}

    def proven(self, gate: SlowGate) -> bool:
        """Whether so many were refused in a row that it is no chance."""
        return self._book(gate).row >= _ROW

    def by_chance(self, attempt: Real, fault: Fault, now: float) -> bool:
        """Whether a refusal that is about to be reported is chance."""
        gate = self._gate(attempt, fault)
        if gate is None or now >= self._book(gate).chance_until or self.proven(gate):
            return False
        others = [key for key in attempt.member.keys if key is not attempt.key]
        usable = any(key.refusal(attempt.ask, now) is None for key in others)
        return gate is attempt.member.own_gate or not usable

    def refused(self, attempt: Real, fault: Fault, chance: bool, now: float) -> None:
        """A refusal was reported."""
        gate = self._gate(attempt, fault)
        if gate is None:
            return
        told = f"{attempt!r} was refused ({fault.kind}), {'' if chance else 'not '}by chance"
        self._demand(attempt.by_chance is chance, "K1", told)
        self._demand(chance or gate.until > now, "K1", f"{told}, and its gate is open")
        book = self._book(gate)
        if not book.row and now >= book.chance_until:
            book.since = now
        book.row += 1

    def answered(self, attempt: Real, now: float) -> None:
        """An attempt was answered."""
        for gate in (attempt.member.own_gate, attempt.key.slow):
            book = self._book(gate)
            if book.row and attempt.started >= book.since:
                book.row, book.chance_until = 0, now + _CHANCE

    def restored(self, member: Member[Provider]) -> None:
        """A person opened everything."""
        for gate in (member.own_gate, *(key.slow for key in member.keys)):
            self._books.pop(gate, None)

    def _book(self, gate: SlowGate) -> _Book:
        return self._books.setdefault(gate, _Book())

    @staticmethod
    def _gate(attempt: Real, fault: Fault) -> SlowGate | None:
        """Whose refusal it is: its key's or its provider's."""
        if fault.kind not in _DISABLED or (fault.kind is FaultKind.AUTH and not attempt.key.terms.fixed):
            return None
        shared = fault.kind is FaultKind.PERMISSION and len(attempt.member.keys) > 1
        of_a_key = shared or fault.kind in (FaultKind.QUOTA_EXHAUSTED, FaultKind.AUTH)
        return attempt.key.slow if of_a_key else attempt.member.own_gate
