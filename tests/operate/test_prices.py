"""Price tables: what a name stands for, what usage costs, and what is no table."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from resilient_llm.errors import ConfigurationError
from resilient_llm.model import Usage
from resilient_llm.operate.cost import Price, Prices, load_prices, sample_prices

TABLE = Prices(
    {
        "gpt-5": Price(input=1.0, output=10.0),
        "gpt-5.2": Price(input=2.0, output=20.0),
        "claude-sonnet": {"input": 3.0, "output": 15.0, "cached_input": 0.3, "cache_write": 3.75},
        "eu": {"input": 9.0, "output": 9.0},
    }
)


@pytest.mark.parametrize(
    ("model", "price"),
    [
        ("gpt-5", 1.0),
        ("gpt-5-2025-08-07", 1.0),
        ("GPT-5-latest", 1.0),
        ("gpt-5.2-2025-12-11", 2.0),
        ("openai/gpt-5.2", 2.0),
        ("claude-sonnet-5", 3.0),
        ("us.anthropic.claude-sonnet-5-20260101-v1:0", 3.0),
        ("publishers/anthropic/models/claude-sonnet-5@20260101", 3.0),
    ],
)
def test_a_name_stands_for_its_versions_wherever_they_are_served(model: str, price: float) -> None:
    found = TABLE.find("any", "openai", model)
    assert found is not None
    assert found.input == price


@pytest.mark.parametrize("model", ["gpt-5-mini", "gpt-5.3", "gpt-50", "claude", "sonnet-5", ""])
def test_another_model_has_no_price(model: str) -> None:
    assert TABLE.find("any", "openai", model) is None


def test_a_provider_may_have_prices_of_its_own() -> None:
    found = TABLE.find("eu", "openai", "gpt-5")
    assert found is not None
    assert found.output == 9.0


def test_servers_of_ones_own_cost_nothing() -> None:
    found = TABLE.find("local", "ollama", "qwen3")
    assert found is not None
    assert found.of(Usage(10**6, 10**6)) == 0.0


def test_usage_is_billed_by_kind_of_token() -> None:
    price = TABLE.find("any", "anthropic", "claude-sonnet-5")
    assert price is not None
    usage = Usage(input_tokens=1_000_000, output_tokens=100_000, cache_read_tokens=600_000, cache_write_tokens=100_000)
    assert price.of(usage) == pytest.approx(0.3 * 3 + 0.6 * 0.3 + 0.1 * 3.75 + 0.1 * 15)
    assert price.at_most(1_000_000, 100_000) == pytest.approx(3.75 + 1.5)
    assert price.of(usage) <= price.at_most(1_000_000, 100_000)


def test_the_sample_says_when_it_was_looked_up() -> None:
    sample = sample_prices()
    assert isinstance(sample.as_of, date)
    assert sample.currency == "USD"
    assert len(sample) > 20
    assert "24 models" in repr(sample) or f"{len(sample)} models" in repr(sample)


def test_a_table_is_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "prices.toml"
    file.write_text('currency = "EUR"\n[models]\n"m" = { input = 1, output = 2 }\n')
    found = load_prices(file)
    assert (found.currency, found.as_of) == ("EUR", None)
    assert found.find("p", "v", "m") == Price(input=1, output=2)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("= 1", "is not TOML"),
        ("a = 1", r"needs a table \[models\]"),
        ("[models]\nm = 3", "'m' must be a Price"),
        ("[models]\nm = {input = 1}", "'m' needs output"),
        ("[models]\nm = {input = -1, output = 1}", "input must be a number from 0 on, not -1"),
        ("[models]\nm = {input = 1, output = inf}", "output must be a number from 0 on, not inf"),
        ("[models]\nm = {input = 1, output = 1, cached = 1}", "has no 'cached'; it has cache_write, cached_input"),
        ('as_of = "June"\n[models]\nm = {input = 1, output = 1}', "as_of must be a date"),
        ("currency = 1\n[models]\nm = {input = 1, output = 1}", "currency must be text"),
    ],
)
def test_what_is_no_table_is_refused_by_name(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "prices.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=told):
        load_prices(file)


def test_a_price_is_a_number() -> None:
    wrong: Any = "cheap"
    with pytest.raises(ConfigurationError, match=r"Price\.input must be a number"):
        Price(input=wrong, output=1.0)
