"""What calls cost: prices, usage, budgets, and choosing by price.  See ``docs/cost.md``."""

from resilient_llm.operate.cost.prices import Price, Prices, load_prices, sample_prices

__all__ = ["Price", "Prices", "load_prices", "sample_prices"]
