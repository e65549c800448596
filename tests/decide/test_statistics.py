"""Statistics: what past calls say, never more certain than they make it, and forgotten in time."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_llm.decide.outcome import Outcome
from resilient_llm.decide.statistics import Quantiles, Statistics
from resilient_llm.policy import Advanced
from tests.decide.world import PROPERTY

seconds = st.floats(0.0, 1e4)


def statistics() -> Statistics:
    return Statistics(Advanced())


def judged(*outcomes: Outcome, now: float = 0.0) -> Statistics:
    subject = statistics()
    for outcome in outcomes:
        subject.judge(now, outcome)
    return subject


# --- quantiles ---


def test_no_samples_no_quantile() -> None:
    assert Quantiles().at(0.5) is None
    assert Quantiles().p95 == 0.0


@pytest.mark.parametrize("count", [1, 2, 19, 20, 24, 64])
def test_quantiles_are_exact_while_samples_are_few(count: int) -> None:
    quantiles = Quantiles()
    for sample in range(count, 0, -1):
        quantiles.add(float(sample))
    known = sorted(range(1, count + 1))
    exact = 24 if count > 24 else count
    if count == exact or count % 8 == 0:
        assert quantiles.at(0.5) == known[count // 2]
        assert quantiles.p95 == quantiles.at(0.95) == known[min(count - 1, int(0.95 * count))]
        assert quantiles.largest == quantiles.at(1.0) == count


@PROPERTY
@given(st.lists(seconds, min_size=1, max_size=300))
def test_quantiles_lie_within_the_last_samples_and_lag_at_most_eight_behind(samples: list[float]) -> None:
    quantiles = Quantiles()
    for sample in samples:
        quantiles.add(sample)
    recent = samples[-72:]
    low, middle, high = quantiles.at(0.0), quantiles.at(0.5), quantiles.at(1.0)
    assert low is not None
    assert middle is not None
    assert high is not None
    assert min(recent) <= low <= middle <= high <= max(recent)
    assert quantiles.count == len(samples)


def test_what_left_the_ring_is_forgotten() -> None:
    quantiles = Quantiles()
    for sample in [100.0] * 64 + [1.0] * 72:
        quantiles.add(sample)
    assert quantiles.largest == 1.0


# --- the success rate ---


def test_an_unknown_provider_is_trusted() -> None:
    assert statistics().success_rate(0.0) == pytest.approx(0.95)


def test_success_and_failure_move_the_estimate_by_their_weight() -> None:
    assert judged(Outcome.OK).success_rate(0.0) == pytest.approx(5.75 / 6)
    assert judged(Outcome.SOFT).success_rate(0.0) == pytest.approx(5.25 / 6)
    assert judged(Outcome.HARD).success_rate(0.0) == pytest.approx(4.75 / 6)


@pytest.mark.parametrize("outcome", [Outcome.GATED, Outcome.DISABLED, Outcome.NEUTRAL])
def test_an_outcome_that_judges_nobody_leaves_no_trace(outcome: Outcome) -> None:
    subject = judged(outcome)
    assert subject.samples == 0
    assert subject.seen_at == math.inf
    assert subject.success_rate(0.0) == pytest.approx(0.95)


def test_a_provider_nobody_asks_returns_to_the_benefit_of_the_doubt() -> None:
    subject = judged(*[Outcome.HARD] * 20)
    assert subject.success_rate(0.0) < 0.2
    assert subject.success_rate(60.0) > subject.success_rate(0.0)
    assert subject.success_rate(600.0) == pytest.approx(0.95, abs=0.001)


@PROPERTY
@given(
    history=st.lists(st.tuples(st.floats(-5.0, 100.0), st.sampled_from(Outcome)), max_size=100),
    last=st.sampled_from([Outcome.OK, Outcome.HARD]),
)
def test_a_success_never_lowers_the_estimate_and_a_failure_never_raises_it(
    history: list[tuple[float, Outcome]], last: Outcome
) -> None:
    subject, now = statistics(), 1000.0
    for pause, outcome in history:
        now += pause
        subject.judge(now, outcome)
        assert 0.0 < subject.success_rate(now) <= 1.0
    before = subject.success_rate(now)
    subject.judge(now, last)
    after = subject.success_rate(now)
    assert after >= before - 1e-12 if last is Outcome.OK else after <= before + 1e-12


# --- latency ---


def test_a_long_prompt_is_not_mistaken_for_a_slow_provider() -> None:
    subject = statistics()
    subject.first_token(0.0, 3.0, 8000)
    assert subject.latency == pytest.approx(1.0)


def test_a_peak_is_believed_half_at_once_and_worn_off_with_time() -> None:
    subject = statistics()
    subject.first_token(0.0, 1.0, 0)
    subject.first_token(1.0, 3.0, 0)
    assert subject.latency == pytest.approx(2.0)
    subject.first_token(1.0, 1.0, 0)
    assert subject.latency == pytest.approx(1.95), "at once it falls by a twentieth of the difference"
    subject.first_token(61.0, 1.0, 0)
    assert subject.latency == pytest.approx(1.0 + 0.95 * math.exp(-1.0))


def test_a_whole_answer_is_slow_only_if_its_length_does_not_explain_it() -> None:
    quick, slow = statistics(), statistics()
    for subject in (quick, slow):
        subject.first_token(0.0, 1.0, 0)
        subject.stream_ended(10.0, 9.9, 100)  # 0.1 s per token
    quick.whole_answer(1.0, 101.0, 0, 1000)
    assert quick.latency == pytest.approx(1.0)
    slow.whole_answer(1.0, 202.0, 0, 1000)
    assert slow.latency == pytest.approx(1.5), "twice as long as its length explains"


def test_the_first_whole_answer_counts_without_the_time_it_took_to_write_but_never_for_nothing() -> None:
    subject = statistics()
    subject.whole_answer(0.0, 4.0, 0, 100)
    assert subject.latency == pytest.approx(1.0)
    subject = statistics()
    subject.whole_answer(0.0, 3.0, 4000, 100)
    assert subject.latency == pytest.approx(0.15)


def test_models_faster_than_assumed_keep_a_latency_to_compare_by() -> None:
    """Two providers that only ever answer whole: the one three times as slow must not look the same after an hour."""
    fast, slow = statistics(), statistics()
    for minute in range(60):
        fast.whole_answer(60.0 * minute, 3.0 + minute % 3, 0, 500 + 150 * (minute % 3))
        slow.whole_answer(60.0 * minute, 9.0 + minute % 3, 0, 500 + 150 * (minute % 3))
    assert fast.latency is not None
    assert slow.latency is not None
    assert 0.1 < fast.latency < slow.latency < 10.0


def test_an_instant_answer_does_not_fix_the_latency_at_nothing() -> None:
    subject = statistics()
    subject.whole_answer(0.0, 0.0, 0, 0)
    assert subject.latency == 0.0
    subject.whole_answer(1.0, 2.0, 0, 0)
    assert subject.latency == pytest.approx(1.0)


def test_an_overtaken_attempt_would_have_taken_at_least_as_long() -> None:
    subject = statistics()
    subject.overtaken(0.0, 10.0, 0)
    assert subject.latency is None, "nothing to compare with"
    subject.first_token(0.0, 1.0, 0)
    subject.overtaken(1.0, 0.5, 0)
    assert subject.latency == 1.0
    subject.overtaken(1.0, 10.0, 0)
    assert subject.latency == pytest.approx(5.5)
    assert subject.first.count == 2


@pytest.mark.parametrize(("span", "tokens"), [(1.0, 7), (0.0, 100), (-1.0, 100), (1.0, 0)])
def test_too_few_tokens_say_nothing_about_the_pace(span: float, tokens: int) -> None:
    subject = statistics()
    subject.stream_ended(span, span, tokens)
    assert subject.pace is None


def test_the_pace_follows_gradually() -> None:
    subject = statistics()
    subject.stream_ended(10.0, 9.9, 100)
    assert subject.pace == pytest.approx(0.1)
    subject.stream_ended(20.0, 19.8, 100)
    assert subject.pace == pytest.approx(0.12)


samples = st.one_of(
    st.tuples(st.just("first"), seconds, st.integers(0, 10**6), st.just(0)),
    st.tuples(st.just("whole"), seconds, st.integers(0, 10**6), st.integers(0, 10**5)),
    st.tuples(st.just("overtaken"), seconds, st.integers(0, 10**6), st.just(0)),
    st.tuples(st.just("tokens"), seconds, st.just(0), st.integers(0, 10**5)),
)


@PROPERTY
@given(st.lists(st.tuples(samples, st.floats(-10.0, 1e6)), max_size=100))
def test_whatever_is_measured_the_latency_stays_finite(
    history: list[tuple[tuple[str, float, int, int], float]],
) -> None:
    subject, now = statistics(), 0.0
    longest = 0.0
    for (what, span, prompt, output), pause in history:
        now += pause
        if what == "first":
            subject.first_token(now, span, prompt)
        elif what == "whole":
            subject.whole_answer(now, span, prompt, output)
        elif what == "overtaken":
            subject.overtaken(now, span, prompt)
        else:
            subject.stream_ended(span, span, output)
        longest = max(longest, span)
        if subject.latency is not None:
            assert 0.0 <= subject.latency <= longest + 1e-9


def test_forgiving_holds_nothing_against_a_provider_but_keeps_its_latency() -> None:
    subject = judged(*[Outcome.HARD] * 10)
    subject.first_token(0.0, 1.0, 0)
    subject.forgive()
    assert subject.success_rate(0.0) == pytest.approx(0.95)
    assert subject.error_rate() is None
    assert subject.latency == 1.0


def test_the_error_rate_counts_an_overload_half() -> None:
    assert statistics().error_rate() is None
    assert judged(Outcome.OK, Outcome.HARD).error_rate() == pytest.approx(0.5)
    assert judged(Outcome.OK, Outcome.SOFT).error_rate() == pytest.approx(0.25)


def test_the_time_to_completion_is_of_the_kind_asked_for_and_of_nearly_all_answers() -> None:
    subject = statistics()
    assert subject.complete(streaming=True) == subject.complete(streaming=False) == 0.0
    for seconds in range(1, 21):
        subject.stream_ended(7.0 * seconds, 6.0, 100)
        subject.whole_answer(0.0, 5.0 * seconds, 0, 0)
    assert (subject.complete(streaming=True), subject.complete(streaming=False)) == (140.0, 100.0)


def test_slower_is_twice_the_usual_time_of_the_latest_answers() -> None:
    seen = Statistics(Advanced())
    for _ in range(25):
        seen.first_token(0.0, 0.5, 0, calm=True)
    assert not seen.slower
    seen.first_token(0.0, 2.0, 0, calm=True)
    assert seen.slower
    few = Statistics(Advanced())
    for first in (0.5, 2.0, 4.0):
        few.first_token(0.0, first, 0, calm=True)
    assert not few.slower, "too little is known of what is usual"
