"""Waits: bounded, never negative, finite for any count."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_llm.decide.backoff import equal_jitter, full_jitter
from tests.decide.world import PROPERTY

draws = st.floats(0.0, 1.0, exclude_max=True)
counts = st.integers(0, 10**9)
seconds = st.floats(0.0, 86400.0)


@pytest.mark.parametrize(("retries", "wait"), [(0, 0.25), (1, 0.5), (2, 1.0), (4, 4.0), (5, 4.0), (10**6, 4.0)])
def test_full_jitter_doubles_up_to_the_cap(retries: int, wait: float) -> None:
    assert full_jitter(0.5, 8.0, retries, 0.5) == wait


@pytest.mark.parametrize(("draw", "wait"), [(0.0, 2.5), (0.5, 3.75), (0.999, 4.9975)])
def test_equal_jitter_never_falls_below_half(draw: float, wait: float) -> None:
    assert equal_jitter(5.0, 60.0, 0, draw) == pytest.approx(wait)


@PROPERTY
@given(base=seconds, cap=seconds, count=counts, draw=draws)
def test_any_count_of_retries_gives_a_finite_wait_within_the_cap(
    base: float, cap: float, count: int, draw: float
) -> None:
    assert 0.0 <= full_jitter(base, cap, count, draw) <= cap
    wait = equal_jitter(base, cap, count, draw)
    assert math.isfinite(wait)
    assert min(cap, base) / 2 <= wait <= cap


@PROPERTY
@given(count=st.integers(0, 100), draw=draws)
def test_a_later_trip_never_waits_less_for_the_same_luck(count: int, draw: float) -> None:
    assert equal_jitter(5.0, 60.0, count, draw) <= equal_jitter(5.0, 60.0, count + 1, draw)
