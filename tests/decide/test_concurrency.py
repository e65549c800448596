"""Concurrency limits: none until asked for or taught."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_llm.decide.concurrency import Concurrency
from resilient_llm.policy import Limits
from tests.decide.world import PROPERTY


def busy(in_flight: int, fixed: int | None = None) -> Concurrency:
    concurrency = Concurrency(Limits(), fixed)
    concurrency.in_flight = in_flight
    return concurrency


def test_without_a_limit_nothing_is_full() -> None:
    concurrency = busy(10**6)
    assert not concurrency.full(0.0)
    assert concurrency.limit is None


def test_a_fixed_limit_is_kept() -> None:
    concurrency = busy(2, fixed=3)
    assert not concurrency.full(0.0)
    concurrency.in_flight = 3
    assert concurrency.full(0.0)
    assert concurrency.limit == 3
    concurrency.fix(None)
    assert not concurrency.full(0.0)


def test_throttling_teaches_a_limit_below_what_was_in_flight() -> None:
    concurrency = busy(10)
    concurrency.throttled(100.0, 99.0)
    assert concurrency.limit == 7
    assert concurrency.full(100.0)
    concurrency.in_flight = 6
    assert not concurrency.full(100.0)


def test_fifty_calls_refused_together_lower_the_limit_once() -> None:
    concurrency = busy(50)
    for _ in range(50):
        concurrency.throttled(100.0, 99.0)
        concurrency.in_flight -= 1
    assert concurrency.limit == 35


def test_a_refusal_under_the_lowered_limit_lowers_it_again() -> None:
    concurrency = busy(10)
    concurrency.throttled(100.0, 99.0)
    concurrency.in_flight = 7
    concurrency.throttled(101.0, 100.5)
    assert concurrency.limit == 4


def test_a_limit_never_falls_below_one() -> None:
    concurrency = busy(1)
    for now in range(10):
        concurrency.throttled(float(now), now - 0.5)
    assert concurrency.limit == 1
    concurrency.in_flight = 0
    assert not concurrency.full(10.0)


def test_success_raises_a_used_limit_by_one_per_round() -> None:
    concurrency = busy(10)
    concurrency.throttled(0.0, -1.0)
    for _ in range(7):
        concurrency.succeeded()
    assert concurrency.limit == 7
    concurrency.succeeded()
    assert concurrency.limit == 8


def test_an_unused_limit_does_not_grow() -> None:
    concurrency = busy(10)
    concurrency.throttled(0.0, -1.0)
    concurrency.in_flight = 1
    for _ in range(100):
        concurrency.succeeded()
    assert concurrency.limit == 7


def test_success_means_nothing_where_there_is_no_learnt_limit() -> None:
    concurrency = busy(5, fixed=5)
    concurrency.succeeded()
    assert concurrency.limit == 5


@pytest.mark.parametrize("fixed", [None, 8])
def test_a_learnt_limit_is_forgotten_after_ten_calm_minutes(fixed: int | None) -> None:
    concurrency = busy(7, fixed=fixed)
    concurrency.throttled(0.0, -1.0)
    assert concurrency.limit == 4
    assert concurrency.full(599.9)
    assert not concurrency.full(600.0)
    assert concurrency.limit == fixed


def test_the_smaller_of_both_limits_holds() -> None:
    concurrency = busy(10, fixed=5)
    concurrency.throttled(0.0, -1.0)
    assert concurrency.limit == 5
    concurrency.fix(9)
    assert concurrency.limit == 7


@PROPERTY
@given(st.lists(st.tuples(st.sampled_from(["start", "end", "throttle", "succeed"]), st.floats(0, 100)), max_size=100))
def test_the_limit_stays_between_one_and_the_fixed_one(steps: list[tuple[str, float]]) -> None:
    concurrency, now = Concurrency(Limits(), 20), 0.0
    for what, pause in steps:
        now += pause
        if what == "start" and not concurrency.full(now):
            concurrency.in_flight += 1
        elif what == "end" and concurrency.in_flight:
            concurrency.in_flight -= 1
        elif what == "throttle":
            concurrency.throttled(now, now - 1)
        elif what == "succeed":
            concurrency.succeeded()
        assert concurrency.limit is not None
        assert 1 <= concurrency.limit <= 20
        assert concurrency.in_flight <= 20
