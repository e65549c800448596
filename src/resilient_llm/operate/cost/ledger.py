"""What was used and what it cost, by provider, model, key and route."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Literal, NamedTuple, TypeAlias

from resilient_llm.errors import ConfigurationError
from resilient_llm.model import Usage

By: TypeAlias = Literal["provider", "model", "key", "route"]


class Account(NamedTuple):
    """What costs are kept apart by.  ``key`` tells a key from others without telling it (``None``: there is none, or it
    is not known yet)."""

    provider: str
    model: str
    key: str | None
    route: str


@dataclass(slots=True)
class Spent:
    """Attempts that are billed, the tokens they used, and their cost in the currency of the prices.

    ``answers`` reached a caller.  ``wasted_tokens`` and ``wasted_cost`` are the part that did not: answers that were
    rejected, losers of a race, streams that broke or were closed early.  Where such an attempt did not say what it
    used, its prompt and what had arrived of its answer are counted, estimated.  ``untold`` answers came without their
    usage, ``unpriced`` ones from models that have no price: their cost is not in ``cost``.
    """

    attempts: int = 0
    answers: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cost: float = 0.0
    wasted_tokens: int = 0
    wasted_cost: float = 0.0
    untold: int = 0
    unpriced: int = 0

    def add(self, other: Spent) -> None:
        """Add all of another one."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))


class Entry(NamedTuple):
    """One attempt that is billed.  ``cost`` ``None``: there is no price; ``told``: the usage is the vendor's own."""

    account: Account
    usage: Usage
    cost: float | None
    answered: bool
    told: bool


class Ledger:
    """Adds up what attempts cost.  Safe for threads; bounded by the number of providers, models, keys and routes, of
    which at most 10,000 combinations are kept apart."""

    _MOST = 10_000
    _OTHERS = Account("others", "others", None, "others")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._accounts: dict[Account, Spent] = {}

    def write(self, entry: Entry) -> None:
        """Add an attempt."""
        usage, cost = entry.usage, entry.cost or 0.0
        with self._lock:
            account = entry.account
            if account not in self._accounts and len(self._accounts) >= self._MOST:
                account = self._OTHERS
            spent = self._accounts.setdefault(account, Spent())
            spent.attempts += 1
            spent.answers += entry.answered
            spent.input_tokens += usage.input_tokens
            spent.output_tokens += usage.output_tokens
            spent.cache_read_tokens += usage.cache_read_tokens
            spent.cache_write_tokens += usage.cache_write_tokens
            spent.cost += cost
            spent.unpriced += entry.cost is None
            spent.untold += not entry.told
            if not entry.answered:
                spent.wasted_tokens += usage.input_tokens + usage.output_tokens
                spent.wasted_cost += cost

    def total(self) -> Spent:
        """Everything."""
        return self._summed(lambda _: "")[""]

    def by(self, what: By) -> dict[str, Spent]:
        """Kept apart by provider, model, key (``"-"`` where none is known) or route.  Raises ``ConfigurationError`` for
        anything else."""
        if what not in Account._fields:
            raise ConfigurationError(f"costs are kept by {', '.join(Account._fields)}, not by {what!r}")
        index = Account._fields.index(what)
        found = self._summed(lambda account: account[index] or "-")
        return {name: spent for name, spent in found.items() if name}

    def accounts(self) -> dict[Account, Spent]:
        """Every combination, a copy."""
        with self._lock:
            return {account: _copy(spent) for account, spent in self._accounts.items()}

    def _summed(self, name: Callable[[Account], str]) -> dict[str, Spent]:
        found: dict[str, Spent] = {"": Spent()}
        with self._lock:
            for account, spent in self._accounts.items():
                found.setdefault(name(account), Spent()).add(spent)
        return found

    def reset_after_fork(self) -> None:
        """In the child: count from nothing."""
        self._lock = threading.Lock()
        self._accounts = {}


def _copy(spent: Spent) -> Spent:
    copy = Spent()
    copy.add(spent)
    return copy
