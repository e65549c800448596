"""How long silence is tolerated: when an attempt is late, is rescued, times out; and what ended it."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_llm.decide import patience as module
from resilient_llm.decide.ask import Ask
from resilient_llm.decide.patience import Standstill, first_due, insists_at, longest_pause, usual
from resilient_llm.decide.statistics import Statistics
from resilient_llm.policy import Advanced, Hedge, Policies, Timeouts
from tests.decide.world import PROPERTY

DEFAULT = Policies()


class Patience(NamedTuple):
    late: float
    known: bool
    rescue: float | None
    timeout: float


class Wanted(NamedTuple):
    ask: Ask
    alone: bool


def patience(policies: Policies, seen: Statistics, want: Wanted) -> Patience:
    return Patience(*module.patience(policies, seen, want.ask, 0.0, alone=want.alone))


def trial_patience(policies: Policies, seen: Statistics, want: Wanted, *, together: bool, rival: float) -> Patience:
    beside = None if want.alone else rival
    return Patience(*module.trial_patience(policies, seen, want.ask, 0.0, together=together, rival=beside))


def known(first: float | None = None, whole: float | None = None, times: int = 20) -> Statistics:
    seen = Statistics(Advanced())
    for index in range(times):
        if first is not None:
            seen.first_token(float(index), first, 0)
        if whole is not None:
            seen.whole_answer(float(index), whole, 0, 0)
    return seen


def wanted(
    left: float = math.inf,
    *,
    streaming: bool = True,
    tokens: int = 0,
    max_tokens: int = 1000,
    repeatable: bool = True,
    alone: bool = False,
) -> Wanted:
    return Wanted(Ask("default", left, streaming, tokens, max_tokens, repeatable=repeatable), alone)


# --- late, and rescued ---


def test_a_provider_nobody_knows_is_not_late_without_a_deadline() -> None:
    assert patience(DEFAULT, known(), wanted()) == Patience(math.inf, False, None, 60.0)


@pytest.mark.parametrize(("samples", "late"), [(1, 8.944), (5, 4.0), (10, 2.828), (19, 2.052)])
def test_the_fewer_answers_are_known_the_longer_than_the_slowest_of_them_one_may_take(
    samples: int, late: float
) -> None:
    some = known(1.0, times=samples)
    assert patience(DEFAULT, some, wanted()) == Patience(
        pytest.approx(late, abs=1e-3), False, pytest.approx(late, abs=1e-3), 60.0
    )
    assert patience(DEFAULT, some, wanted(60.0)).rescue == pytest.approx(late, abs=1e-3)
    assert patience(DEFAULT, some, wanted(20.0)).late <= 10.0, "but no longer than half of the time"


def test_before_anything_is_known_a_third_is_late_or_twice_as_long_as_the_other_kind_of_answer_took() -> None:
    assert patience(DEFAULT, known(), wanted(21.0)).late == 7.0, "so that somebody else has twice as long"
    assert patience(DEFAULT, known(2.0), wanted(streaming=False)).late == 4.0
    assert patience(DEFAULT, known(0.01, times=10), wanted()).late == 1.0, "nothing is late within a second"


def test_a_known_provider_is_late_and_rescued_after_twice_its_usual_slowest() -> None:
    assert patience(DEFAULT, known(2.0), wanted()) == Patience(4.0, True, 4.0, 10.0)
    assert patience(DEFAULT, known(2.0), wanted(tokens=2000)).late == pytest.approx(6.0), "a long prompt takes longer"


@pytest.mark.parametrize(("usually", "late"), [(0.1, 1.0), (0.5, 1.0), (5.0, 10.0), (8.0, 10.0), (50.0, 50.0)])
def test_a_stream_is_late_between_one_and_ten_seconds_or_after_the_usual_time(usually: float, late: float) -> None:
    assert patience(DEFAULT, known(usually), wanted()).late == late


def test_a_whole_answer_may_take_minutes_before_it_is_late() -> None:
    assert patience(DEFAULT, known(whole=120.0), wanted(streaming=False, max_tokens=10**5)).late == pytest.approx(240.0)
    assert patience(DEFAULT, known(whole=0.1), wanted(streaming=False)).late == 1.0


def test_a_call_is_rescued_when_half_of_its_time_is_gone() -> None:
    assert patience(DEFAULT, known(4.0, times=2), wanted(20.0)).rescue == 10.0
    assert patience(DEFAULT, known(0.8), wanted(2.0)).rescue == 1.0
    assert patience(DEFAULT, known(0.8), wanted(20.0)).rescue == pytest.approx(1.6), "or sooner, when it is late"


def test_a_rescue_comes_no_sooner_than_this_provider_usually_needs() -> None:
    assert patience(DEFAULT, known(5.0), wanted(8.0)).rescue == pytest.approx(5.0)
    assert patience(DEFAULT, known(50.0), wanted(8.0)).rescue is None, "with no time left for one there is none"


def test_a_lone_provider_is_asked_again_at_half_time_only() -> None:
    assert patience(DEFAULT, known(0.8), wanted(10.0, alone=True)).rescue == 5.0
    assert patience(DEFAULT, known(0.8), wanted(alone=True)).rescue is None


def test_alone_an_attempt_is_given_up_for_its_silence_only_where_the_user_says_so() -> None:
    """What a busy provider has accepted it does: giving up would add to its queue."""
    told = Policies(timeouts=Timeouts(first_token=5.0))
    assert patience(DEFAULT, known(0.5), wanted(60.0, alone=True)).timeout == 60.0
    assert patience(told, known(0.5), wanted(60.0, alone=True)).timeout == 5.0
    assert patience(DEFAULT, known(0.5), wanted(60.0)).timeout == 10.0
    assert patience(DEFAULT, known(0.5), wanted(60.0, alone=True, repeatable=False)).timeout == 10.0, "nothing follows"
    beside = trial_patience(DEFAULT, known(0.5), wanted(60.0, alone=True), together=True, rival=0.0)
    assert (beside.rescue, beside.timeout) == (10.0, 60.0)


def test_a_rescue_that_would_come_after_the_timeout_is_none() -> None:
    fixed = Policies(timeouts=Timeouts(first_token=3.0))
    assert patience(fixed, known(), wanted(21.0)) == Patience(7.0, False, None, 3.0)


@pytest.mark.parametrize(("policies", "repeatable"), [(Policies(hedge=Hedge(enabled=False)), True), (DEFAULT, False)])
def test_lateness_is_known_also_where_nobody_is_to_be_rescued(policies: Policies, repeatable: bool) -> None:
    assert patience(policies, known(2.0), wanted(20.0, repeatable=repeatable)) == Patience(4.0, True, None, 10.0)


# --- timeouts ---


@pytest.mark.parametrize(("usually", "timeout"), [(None, 60.0), (20.0, 60.0), (50.0, 100.0)])
def test_before_there_are_data_a_minute_is_allowed_or_twice_as_long_as_ever(
    usually: float | None, timeout: float
) -> None:
    """A model that thinks for half a minute, and one behind it, were both given up, again and again."""
    assert patience(DEFAULT, known(usually, times=19), wanted()).timeout == timeout


@pytest.mark.parametrize(("usually", "timeout"), [(0.1, 10.0), (5.0, 22.0), (25.0, 60.0), (100.0, 200.0)])
def test_a_learnt_timeout_is_four_times_the_slowest_within_its_bounds(usually: float, timeout: float) -> None:
    assert patience(DEFAULT, known(usually), wanted()).timeout == pytest.approx(timeout)


def test_a_timeout_is_cut_to_the_deadline() -> None:
    assert patience(DEFAULT, known(), wanted(7.0)).timeout == 7.0


def test_a_whole_answer_may_take_twice_what_its_length_needs() -> None:
    assert patience(DEFAULT, known(), wanted(streaming=False)).timeout == pytest.approx(60.0 + 60.0)
    seen = known()
    seen.stream_ended(10.0, 9.9, 100)
    assert patience(DEFAULT, seen, wanted(streaming=False)).timeout == pytest.approx(60.0 + 200.0)


# --- trials ---


@pytest.mark.parametrize(("usually", "limit"), [(None, 1.0), (0.1, 1.0), (4.0, 8.0), (20.0, 20.0), (100.0, 100.0)])
def test_a_streamed_trial_has_failed_when_it_is_late(usually: float | None, limit: float) -> None:
    found = trial_patience(DEFAULT, known(usually), wanted(200.0), together=False, rival=0.0)
    assert found == Patience(limit, True, 1.0 if limit > 1.0 else None, limit)


@pytest.mark.parametrize(("usually", "limit"), [(None, 30.0), (4.0, 30.0), (100.0, 120.0)])
def test_a_whole_trial_has_at_least_half_a_minute(usually: float | None, limit: float) -> None:
    found = trial_patience(DEFAULT, known(whole=usually), wanted(300.0, streaming=False), together=False, rival=0.0)
    assert found.timeout == pytest.approx(limit), "and no more than an ordinary attempt"


def test_a_trial_against_silence_starts_beside_another_attempt() -> None:
    assert trial_patience(DEFAULT, known(), wanted(20.0), together=True, rival=0.0).rescue == 0.0


def test_a_trial_is_rescued_once_a_well_one_would_have_spoken() -> None:
    assert trial_patience(DEFAULT, known(4.0), wanted(20.0), together=False, rival=3.0).rescue == 3.0
    assert trial_patience(DEFAULT, known(4.0), wanted(4.0), together=False, rival=3.0).rescue == 2.0


def test_a_lone_trial_has_its_usual_time() -> None:
    alone = wanted(20.0, alone=True)
    assert trial_patience(DEFAULT, known(), alone, together=True, rival=0.0) == Patience(math.inf, False, 10.0, 20.0)
    assert trial_patience(DEFAULT, known(), wanted(alone=True), together=True, rival=0.0) == Patience(
        math.inf, False, None, 60.0
    )
    without = Policies(hedge=Hedge(enabled=False))
    assert trial_patience(without, known(), alone, together=False, rival=0.0).rescue is None


# --- the rest ---


def test_what_a_provider_nearly_always_needs_is_unknown_at_first() -> None:
    assert usual(known(2.0, times=19), 0, streaming=True) == 0.0
    assert usual(known(2.0), 4000, streaming=True) == 4.0
    assert usual(known(whole=9.0), 0, streaming=False) == 9.0


def test_a_stream_may_pause_for_three_times_its_usual_longest_pause_and_always_for_a_second() -> None:
    seen = known()
    assert longest_pause(seen) == 1.0
    for _ in range(20):
        seen.pauses.add(2.0)
    assert longest_pause(seen) == 6.0


@PROPERTY
@given(
    samples=st.lists(st.floats(0.0, 1e4), min_size=20, max_size=80),
    rival=st.floats(0.0, 1e4),
    together=st.booleans(),
    want=st.builds(
        wanted,
        st.one_of(st.just(math.inf), st.floats(0.001, 1e4)),
        streaming=st.booleans(),
        tokens=st.integers(0, 10**6),
        alone=st.booleans(),
    ),
)
def test_every_time_is_positive_and_no_rescue_comes_after_the_end(
    samples: list[float], rival: float, together: bool, want: Wanted
) -> None:
    seen = Statistics(Advanced())
    for sample in samples:
        seen.first_token(0.0, sample, 0)
        seen.whole_answer(0.0, sample, 0, 100)
    found = patience(DEFAULT, seen, want), trial_patience(DEFAULT, seen, want, together=together, rival=rival)
    for one in found:
        assert one.late >= min(1.0, want.ask.deadline)
        assert 0.0 < one.timeout <= want.ask.deadline
        assert one.rescue is None or 0.0 <= one.rescue < one.timeout


# --- several things at once ---


DUE = ("deadline", "cancelled", "timer", "answered")


@pytest.mark.parametrize("present", [p for n in range(1, 5) for p in itertools.combinations(DUE, n)], ids="-".join)
def test_where_several_things_are_due_together_the_deadline_comes_before_all(present: tuple[str, ...]) -> None:
    assert first_due(**dict.fromkeys(present, 5.0)) == present[0]


@PROPERTY
@given(st.lists(st.floats(0.0, 100.0), min_size=4, max_size=4))
def test_what_was_due_first_ended_it(times: list[float]) -> None:
    found = first_due(**dict(zip(DUE, times, strict=True)))
    assert times[DUE.index(found)] == min(times)
    assert found == next(name for name, when in zip(DUE, times, strict=True) if when == min(times))


def test_nobody_comes_to_the_rescue_of_a_batch() -> None:
    for alone in (False, True):
        want = Wanted(wanted(60.0).ask._replace(batch=True), alone)
        assert patience(DEFAULT, known(0.5), want).rescue is None
        assert trial_patience(DEFAULT, known(5.0), want, together=False, rival=1.0).rescue is None


# --- insisting, standing still ---


def test_a_call_insists_three_times_and_a_batch_never() -> None:
    ask = Ask("main", deadline=80.0)
    assert [insists_at(ask, 0.0, 80.0, times) for times in range(4)] == [20.0, 40.0, 60.0, math.inf]
    assert insists_at(ask._replace(batch=True), 0.0, 80.0, 0) == math.inf


def stood_still(pause: float, events: int = 200, every: float = 0.01, idle: float = 0.0) -> bool:
    """Whether a process that paused so long, after so many events, is said to have stood still."""
    subject, now = Standstill(), 0.0
    subject.notice(now)
    now += idle
    for _ in range(events):
        now += every
        subject.notice(now)
    return subject.notice(now + pause, now)


def test_a_process_stood_still_when_nothing_happened_for_twenty_times_longer_than_usual_and_for_half_a_second() -> None:
    assert stood_still(5.0)
    assert not stood_still(0.4, every=0.001), "a moment is none"
    assert not stood_still(5.0, every=1.0), "it is usual"
    assert stood_still(5.0, events=120, idle=3600.0), "one idle hour makes no pause usual"
