"""Budgets: never negative, never above the cap, and no more spent than earned."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_llm.decide.budget import Budget, TimedBudget
from tests.decide.world import PROPERTY


def test_an_empty_budget_spends_nothing() -> None:
    budget = Budget(10.0, 0.0)
    assert not budget.spend()
    assert budget.tokens == 0.0


def test_ten_times_a_tenth_makes_one_whole_token() -> None:
    budget = Budget(10.0, 0.0)
    for _ in range(10):
        assert not budget.available()
        budget.earn(0.1)
    assert budget.spend()
    assert not budget.available()
    assert budget.tokens == pytest.approx(0.0, abs=1e-9)


def test_what_is_to_be_kept_is_not_there_to_be_spent() -> None:
    budget = Budget(2.0, 2.0)
    assert budget.available(keep=1)
    assert not budget.available(keep=2)


def test_savings_stop_at_the_cap() -> None:
    budget = Budget(2.0, 5.0)
    assert budget.tokens == 2.0
    budget.earn(0.5)
    assert budget.tokens == 2.0


def test_a_cap_of_nothing_switches_the_budget_off() -> None:
    budget = Budget(0.0, 1.0)
    budget.earn(1.0)
    assert not budget.spend()


def test_time_alone_earns_a_token_per_refill() -> None:
    budget = TimedBudget(2.0, 0.0, 120.0)
    budget.advance(1000.0)
    assert not budget.available(), "the first look only starts the clock"
    budget.advance(1119.0)
    assert not budget.available()
    budget.advance(1120.0)
    assert budget.spend()
    budget.advance(1e9)
    assert budget.tokens == 2.0


def test_a_clock_that_steps_back_earns_no_time_twice() -> None:
    budget = TimedBudget(2.0, 0.0, 100.0)
    for now in (0.0, 50.0, 0.0, 50.0, 0.0, 50.0):
        budget.advance(now)
    assert budget.tokens == pytest.approx(0.5)


@PROPERTY
@given(
    cap=st.floats(0.0, 20.0),
    initial=st.floats(0.0, 20.0),
    steps=st.lists(st.one_of(st.none(), st.floats(0.0, 1.0)), max_size=200),
)
def test_spending_never_exceeds_savings_and_earnings(cap: float, initial: float, steps: list[float | None]) -> None:
    budget = Budget(cap, initial)
    earned = spent = 0.0
    for step in steps:
        if step is None:
            spent += budget.spend()
        else:
            earned += step
            budget.earn(step)
        assert 0.0 <= budget.tokens <= cap
    assert spent <= min(initial, cap) + earned + 1e-3
