"""What one call may spend, and where what it spent is written down."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from typing_extensions import override

from resilient_llm.decide.attempt import Ask
from resilient_llm.drive.observer import Described
from resilient_llm.faults import AttemptRecord, Fault, FaultScope
from resilient_llm.model import ChatResponse, Usage
from resilient_llm.operate.cost.ledger import Account, Entry
from resilient_llm.operate.cost.prices import Price

_NOTHING: Final = Usage()


class Bound(NamedTuple):
    """The most a call may cost, and the most that one attempt at each provider can (``None``: it has no price)."""

    limit: float
    worst: Mapping[str, float | None]


class Purse:
    """Of one call.  Each attempt's worst case is put aside before it is sent, so that rescues and failovers together
    never cost more than the limit.  An attempt gives back what it did not use once its whole answer says what that
    was, and all of it where it was refused with an error; one that was cut off, or is silent about it, keeps it."""

    __slots__ = ("_amounts", "_begun", "_bound", "_opens_in", "_price", "_reasons", "_route", "_tokens", "_write")

    def __init__(
        self,
        ask: Ask,
        bound: Bound | None,
        price: Callable[[Described], Price | None],
        write: Callable[[Entry], None],
        opens_in: Callable[[], float] | None = None,
    ) -> None:
        """``opens_in``: seconds until a budget that rules somebody out starts anew; ``None``: there is none such."""
        self._opens_in = opens_in
        self._route = ask.route
        self._tokens = ask.tokens
        self._bound = bound
        self._price = price
        self._write = write
        self._begun: dict[int, Described] = {}
        self._amounts: dict[int, float] = {}
        self._reasons: Reasons | None = None if bound is None else Reasons(ask.unsuitable)

    # --- for the drivers ---

    def screen(self, ask: Ask) -> Ask:
        """Nobody may be chosen whose worst case is more than what is left."""
        reasons = self._reasons
        if reasons is None:
            return ask
        if ask.unsuitable is not reasons:  # at first, and where the call ruled out others meanwhile
            reasons.take(ask.unsuitable)
            ask = ask._replace(unsuitable=reasons)
        self._rule_out()
        return ask

    def retry_after(self) -> float | None:
        """Seconds until a spent budget rules out fewer; ``None``: it is no matter of budgets."""
        return None if self._opens_in is None else self._opens_in()

    def reserve(self, number: int, target: Described) -> None:
        """An attempt begins."""
        self._begun[number] = target
        if self._bound is not None:
            self._amounts[number] = self._bound.worst.get(target.id) or 0.0
            self._rule_out()

    def settle(
        self, number: int, record: AttemptRecord | None, usage: Usage | None, partial: ChatResponse | None
    ) -> None:
        """It is over."""
        target = self._begun.get(number)
        if target is None:
            return
        refused = record is not None and record.fault is not None and not _billed(record.fault)
        price = self._price(target)
        if self._bound is not None and (refused or (usage is not None and price is not None)):
            self._amounts[number] = 0.0 if refused or usage is None or price is None else price.of(usage)
            self._rule_out()
        if refused:
            return
        told = usage is not None
        used = usage if usage is not None else self._estimated(partial)
        account = Account(target.id, target.model, getattr(target, "key_id", None), self._route)
        answered = record is not None and record.outcome == "success"
        self._write(Entry(account, used, None if price is None else price.of(used), answered, told))

    # --- what is left ---

    @property
    def spent(self) -> float:
        """What its attempts cost, and what is put aside for those that did not say."""
        return sum(self._amounts.values())

    def _rule_out(self) -> None:
        bound, reasons = self._bound, self._reasons
        if bound is not None and reasons is not None:
            left = bound.limit - self.spent
            reasons.rule_out({name: told for name, most in bound.worst.items() if (told := _too_dear(most, left))})

    def _estimated(self, partial: ChatResponse | None) -> Usage:
        """What an attempt used that did not say it: its prompt, and what had arrived."""
        told = _NOTHING if partial is None or partial.usage is None else partial.usage
        written = 0 if partial is None else len(partial.text) // 4
        return Usage(told.input_tokens or self._tokens, max(told.output_tokens, written))


def _too_dear(most: float | None, left: float) -> str | None:
    if most is None:
        return "its model has no price, which max_cost= needs"
    return f"may cost {most:.4g}, and {max(0.0, left):.4g} of max_cost= is left" if most > left else None


def _billed(fault: Fault) -> bool:
    """Whether an attempt that failed like this may be billed: it was cut off, silent, or answered with 200."""
    if fault.scope is FaultScope.LOCAL or fault.code == "not_sent":
        return False
    return fault.status is None or fault.status < 300


class Reasons(Mapping[str, str]):
    """Who must not serve a call, and why: what was known at first, and who is too dear by now.  What changes is swapped
    as a whole, so that it may be read at any time."""

    __slots__ = ("_dear", "_given")

    def __init__(self, given: Mapping[str, str]) -> None:
        self._given: dict[str, str] = dict(given)
        self._dear: dict[str, str] = {}

    def take(self, given: Mapping[str, str]) -> None:
        """These are ruled out as well, for good."""
        dear = self._dear
        self._given = {**self._given, **{name: why for name, why in given.items() if name not in dear}}

    def rule_out(self, dear: dict[str, str]) -> None:
        """These are too dear for now, and nobody else."""
        self._dear = dear

    @override
    def __getitem__(self, name: str) -> str:
        told = self._given.get(name) or self._dear.get(name)
        if told is None:
            raise KeyError(name)
        return told

    @override
    def __contains__(self, name: object) -> bool:
        return name in self._given or name in self._dear

    @override
    def __iter__(self) -> Iterator[str]:
        return iter({**self._given, **self._dear})

    @override
    def __len__(self) -> int:
        return len({**self._given, **self._dear})
