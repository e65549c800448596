"""What calls cost: prices, usage, budgets, and choosing by price.  See ``docs/cost.md``."""

from resilient_llm.operate.cost.budget import Budget, BudgetState
from resilient_llm.operate.cost.ledger import Account, Spent
from resilient_llm.operate.cost.prices import Price, Prices, load_prices, sample_prices
from resilient_llm.operate.cost.tracking import Costs, track

__all__ = [
    "Account",
    "Budget",
    "BudgetState",
    "Costs",
    "Price",
    "Prices",
    "Spent",
    "load_prices",
    "sample_prices",
    "track",
]
