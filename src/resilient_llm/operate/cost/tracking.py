"""Counting what a client's calls cost, and keeping them from costing more."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final

from resilient_llm.decide.attempt import Ask
from resilient_llm.drive.core import ProviderPool
from resilient_llm.drive.fork import tell_after_fork
from resilient_llm.drive.observer import Described
from resilient_llm.errors import ConfigurationError
from resilient_llm.model import ChatRequest, EmbedRequest
from resilient_llm.operate.alerts.words import Condition, Severity
from resilient_llm.operate.background import HasPool, pool_of
from resilient_llm.operate.cost.budget import Budget, Budgeted, BudgetState
from resilient_llm.operate.cost.ledger import Account, By, Entry, Ledger, Spent
from resilient_llm.operate.cost.prices import Price, Prices, sample_prices
from resilient_llm.operate.cost.purse import Bound, Purse
from resilient_llm.operate.cost.worst import most_tokens
from resilient_llm.options import CallOptions, Prefer

_USUAL_ANSWER: Final = 500
"""Tokens of an answer by which providers are compared, unless the call allows fewer."""
_DEAR: Final = 1000.0
"""Seconds that a provider at twice the price is put back where the cheap one is preferred: more than any wait."""
_MOST: Final = 1e6


class Costs:
    """What the calls of a client cost.  Made by :func:`track`; safe for threads, and for both kinds of client."""

    def __init__(self, pool: ProviderPool, prices: Prices, budgets: Sequence[Budget]) -> None:
        self.prices: Prices = prices
        self._pool = pool
        self._ledger = Ledger()
        self._budgets = tuple(Budgeted(budget) for budget in budgets)
        tell_after_fork(self)

    def total(self) -> Spent:
        """Everything so far."""
        return self._ledger.total()

    def by(self, what: By) -> dict[str, Spent]:
        """The same by ``"provider"``, ``"model"``, ``"key"`` (``"-"``: none is known) or ``"route"``.  Raises
        ``ConfigurationError`` for anything else."""
        return self._ledger.by(what)

    def accounts(self) -> dict[Account, Spent]:
        """The same by every combination of these."""
        return self._ledger.accounts()

    def budgets(self) -> tuple[BudgetState, ...]:
        """How each budget stands."""
        now = self._pool.wall()
        return tuple(one.state(now) for one in self._budgets)

    def conditions(self, now: float) -> Iterator[Condition]:
        """Budgets that are spent, for ``Alerts(client, sinks, watch=[costs])``."""
        for state in self.budgets():
            budget = state.budget
            if state.is_spent:
                detail = f"{state.spent:.4g} spent; it starts anew in {state.ends_in:.0f} s"
                severity: Severity = "critical" if budget.when_spent == "fail" else "warning"
                yield Condition("budget_empty", budget.name, severity, detail)

    def __repr__(self) -> str:
        spent = self.total()
        return f"<Costs of {self._pool.name!r}: {spent.cost:.4f} {self.prices.currency}, {spent.attempts} attempts>"

    # --- for the drivers ---

    def admit(self, ask: Ask, request: ChatRequest | EmbedRequest, options: CallOptions) -> tuple[Ask, Purse]:
        """A call begins.  Raises ``InvalidRequest`` for a ``max_cost=`` that cannot be kept."""
        targets = self._pool.pool.targets(ask.route)
        prefer, limit = options.get("prefer"), options.get("max_cost")
        if prefer is not None:
            ask = ask._replace(tolls=self._tolls(ask, targets, prefer))
        opens_in: Callable[[], float] | None = None
        if self._budgets:
            ask, opens_at = self._within_budgets(ask, targets)
            if opens_at < math.inf:
                opens_in = partial(self._seconds_until, opens_at)
        bound = None if limit is None else Bound(limit, self._worst(request, targets))
        purse = Purse(ask, bound, self._price, self._write, opens_in)
        return purse.screen(ask), purse

    def reset_after_fork(self) -> None:
        """In the child: count from nothing."""
        self._ledger.reset_after_fork()
        for one in self._budgets:
            one.reset_after_fork()

    def _price(self, target: Described) -> Price | None:
        return self.prices.find(target.id, target.vendor, target.model)

    def _write(self, entry: Entry) -> None:
        self._ledger.write(entry)
        if self._budgets:
            now = self._pool.wall()
            for one in self._budgets:
                one.write(entry, now)

    # --- before a call ---

    def _usual_cost(self, ask: Ask, target: Described) -> float:
        """What a call like this may cost there; endless without a price."""
        price = self._price(target)
        if price is None:
            return math.inf
        return (ask.tokens * price.input + min(ask.max_tokens, _USUAL_ANSWER) * price.output) / 1e6

    def _tolls(self, ask: Ask, targets: Sequence[Described], prefer: Prefer) -> Mapping[str, float]:
        """Seconds by which each provider's answer counts as later."""
        if prefer == "fast":
            return dict.fromkeys((target.id for target in targets), 0.0)
        costs = {target.id: self._usual_cost(ask, target) for target in targets}
        least = max(min(costs.values(), default=0.0), 1e-9)
        ratios = {name: max(1.0, cost / least) for name, cost in costs.items()}
        if prefer == "cheap":
            return {name: min(_MOST, _DEAR * (ratio - 1.0)) for name, ratio in ratios.items()}
        return {name: min(_MOST, math.log2(ratio)) for name, ratio in ratios.items()}

    def _worst(self, request: ChatRequest | EmbedRequest, targets: Sequence[Described]) -> dict[str, float | None]:
        prompt, answer = most_tokens(request)
        prices = {target.id: self._price(target) for target in targets}
        return {name: None if price is None else price.at_most(prompt, answer) for name, price in prices.items()}

    def _seconds_until(self, moment: float) -> float:
        return max(0.0, moment - self._pool.wall())

    def _within_budgets(self, ask: Ask, targets: Sequence[Described]) -> tuple[Ask, float]:
        """Whoever a spent budget rules out, and when (in wall-clock time) the first of them may be asked again."""
        now = self._pool.wall()
        found = dict(ask.unsuitable)
        opens: dict[str, float] = {}
        for one in self._budgets:
            budget = one.budget
            if budget.route not in (None, ask.route):
                continue
            told = one.spent(now)
            if told is None or budget.when_spent == "warn":
                continue
            for target in self._held_back(budget, ask, targets):
                found.setdefault(target, told)
                if target not in ask.unsuitable:
                    opens[target] = max(opens.get(target, 0.0), one.state(now).ends_in + now)
        if not opens:
            return ask, math.inf
        return ask._replace(unsuitable=found), min(opens.values())

    def _held_back(self, budget: Budget, ask: Ask, targets: Sequence[Described]) -> list[str]:
        if budget.when_spent == "fail":
            return [target.id for target in targets if budget.provider in (None, target.id)]
        costs = {target.id: self._usual_cost(ask, target) for target in targets if target.id not in ask.unsuitable}
        least = min(costs.values(), default=0.0)
        return [name for name, cost in costs.items() if cost > least]


def track(client: HasPool, prices: Prices | None = None, *, budgets: Sequence[Budget] = ()) -> Costs:
    """Count what the calls of a client cost from now on, and of every client that shares its pool; ``max_cost=`` and
    ``prefer=`` of its calls work from then on.

    ``prices``: a table of yours; ``None``: the list prices that come with the package.  It costs a few microseconds a
    call, sends nothing and starts no thread.  Raises ``ConfigurationError`` for budgets of a route or a provider that
    there is not, and if the client's costs are counted already.
    """
    pool = pool_of(client, "track()")
    if pool.spending is not None:
        raise ConfigurationError(f"the costs of {pool!r} are counted already")
    for budget in budgets:
        if not isinstance(budget, Budget):
            raise ConfigurationError(f"budgets must be Budget objects, not {budget!r}")
        if budget.route is not None and budget.route not in pool.pool.route_names:
            raise ConfigurationError(
                f"there is no route {budget.route!r}; there are {', '.join(pool.pool.route_names)}"
            )
        known = [target.id for target in pool.pool.targets(budget.route)]
        if budget.provider is not None and budget.provider not in known:
            raise ConfigurationError(f"there is no provider {budget.provider!r}; there are {', '.join(known)}")
    costs = Costs(pool, sample_prices() if prices is None else prices, budgets)
    pool.spending = costs
    return costs
