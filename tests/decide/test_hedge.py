"""Rescues, timeouts and leases: how long silence is tolerated."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_llm.decide.health import Health
from resilient_llm.decide.hedge import first_token_timeout, probe_lease, rescue_delay, whole_timeout
from resilient_llm.policy import Health as HealthPolicy
from resilient_llm.policy import Hedge, Timeouts
from tests.decide.world import PROPERTY


def known(first: float | None = None, whole: float | None = None, times: int = 20) -> Health:
    health = Health(HealthPolicy())
    for index in range(times):
        if first is not None:
            health.first_token(float(index), first, 0)
        if whole is not None:
            health.whole_answer(float(index), whole, 0, 0, 0.03)
    return health


# --- rescues ---


def test_nobody_is_late_before_twenty_samples() -> None:
    assert rescue_delay(Hedge(), known(2.0, times=19), 0, streaming=True) is None
    assert rescue_delay(Hedge(), known(first=2.0), 0, streaming=False) is None


def test_a_rescue_starts_at_twice_the_usual_slowest() -> None:
    assert rescue_delay(Hedge(), known(2.0), 0, streaming=True) == pytest.approx(4.0)
    assert rescue_delay(Hedge(), known(2.0), 2000, streaming=True) == pytest.approx(6.0), "a long prompt takes longer"


@pytest.mark.parametrize(("usual", "delay"), [(0.1, 1.0), (0.5, 1.0), (5.0, 10.0), (8.0, 10.0), (50.0, 50.0)])
def test_a_rescue_starts_between_one_and_ten_seconds_or_after_the_usual_time(usual: float, delay: float) -> None:
    assert rescue_delay(Hedge(), known(usual), 0, streaming=True) == delay


def test_a_whole_answer_may_take_minutes_before_it_is_late() -> None:
    assert rescue_delay(Hedge(), known(whole=120.0), 0, streaming=False) == pytest.approx(240.0)
    assert rescue_delay(Hedge(), known(whole=0.1), 0, streaming=False) == 1.0


def test_lateness_is_known_also_where_nobody_is_to_be_rescued() -> None:
    assert rescue_delay(Hedge(enabled=False), known(2.0), 0, streaming=True) == pytest.approx(4.0)


# --- timeouts ---


def test_a_fixed_timeout_is_taken_as_it_is() -> None:
    assert first_token_timeout(Timeouts(first_token=3.0), known(50.0), 10**6) == 3.0


def test_before_there_are_data_thirty_seconds_are_allowed() -> None:
    assert first_token_timeout(Timeouts(), known(50.0, times=19), 0) == 30.0


@pytest.mark.parametrize(("usual", "timeout"), [(0.1, 10.0), (5.0, 22.0), (100.0, 60.0)])
def test_a_learnt_timeout_is_four_times_the_slowest_within_its_bounds(usual: float, timeout: float) -> None:
    assert first_token_timeout(Timeouts(), known(usual), 0) == pytest.approx(timeout)


def test_a_long_prompt_may_take_longer_to_begin() -> None:
    assert first_token_timeout(Timeouts(), known(5.0), 4000) == pytest.approx(44.0)


def test_a_whole_answer_may_take_twice_what_its_length_needs() -> None:
    assert whole_timeout(Timeouts(), known(), 0, 1000) == pytest.approx(30.0 + 60.0)
    health = known()
    health.tokens_arrived(9.9, 100)
    assert whole_timeout(Timeouts(), health, 0, 1000) == pytest.approx(30.0 + 200.0)


# --- probes ---


@pytest.mark.parametrize(("usual", "lease"), [(None, 5.0), (0.1, 5.0), (4.0, 12.0), (100.0, 30.0)])
def test_a_streamed_probe_may_be_silent_for_three_times_the_usual_within_bounds(
    usual: float | None, lease: float
) -> None:
    assert probe_lease(5.0, 30.0, known(usual), 0, streaming=True) == pytest.approx(lease)


@pytest.mark.parametrize(("usual", "lease"), [(None, 30.0), (4.0, 30.0), (100.0, 300.0)])
def test_a_whole_probe_has_at_least_the_longer_bound(usual: float | None, lease: float) -> None:
    assert probe_lease(5.0, 30.0, known(whole=usual), 0, streaming=False) == pytest.approx(lease)


@PROPERTY
@given(
    samples=st.lists(st.floats(0.0, 1e4), min_size=20, max_size=80),
    prompt=st.integers(0, 10**6),
    streaming=st.booleans(),
)
def test_every_delay_is_positive_and_finite(samples: list[float], prompt: int, streaming: bool) -> None:
    health = Health(HealthPolicy())
    for sample in samples:
        health.first_token(0.0, sample, 0)
        health.whole_answer(0.0, sample, 0, 100, 0.03)
    late = rescue_delay(Hedge(), health, prompt, streaming=streaming)
    assert late is not None
    usual = max(samples) * health.scale(prompt)
    assert 1.0 <= late <= (max(10.0, usual) if streaming else 1e9)
    assert 10.0 <= first_token_timeout(Timeouts(), health, prompt) <= 60.0
    assert probe_lease(5.0, 30.0, health, prompt, streaming=streaming) >= 5.0
