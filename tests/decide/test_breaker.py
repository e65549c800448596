"""The breaker: one place where a provider loses its traffic, and one way back."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from resilient_llm.decide.breaker import RELAPSE, TRANSITIONS, Breaker, Cause, State
from resilient_llm.decide.outcome import Outcome
from resilient_llm.policy import Breaker as Policy
from tests.decide.world import MACHINE, PROPERTY

draws = st.floats(0.0, 1.0, exclude_max=True)
JUDGING = [Outcome.OK, Outcome.HARD, Outcome.SOFT]


def breaker(**policy: object) -> Breaker:
    return Breaker(Policy(**policy))  # type: ignore[arg-type]


def told(subject: Breaker, now: float, outcome: Outcome, draw: float, **more: Any) -> bool:
    return subject.succeeded(now) if outcome is Outcome.OK else subject.failed(now, outcome, draw, **more)


def record(subject: Breaker, *outcomes: Outcome, now: float = 0.0, draw: float = 0.0) -> None:
    for outcome in outcomes:
        told(subject, now, outcome, draw)


def fail(subject: Breaker, times: int, now: float = 0.0) -> None:
    record(subject, *[Outcome.HARD] * times, now=now)


def soft(now: float = 0.0) -> Breaker:
    subject = breaker()
    fail(subject, 3, now)
    assert subject.soft
    return subject


def down(now: float = 0.0) -> Breaker:
    subject = breaker()
    fail(subject, 5, now)
    assert subject.state.value == "open"
    return subject


def close(subject: Breaker, now: float) -> int:
    """Answers until it closes; returns how many that took."""
    for count in range(1, 30):
        told(subject, now, Outcome.OK, 0.0)
        if subject.state is State.CLOSED:
            return count
    raise AssertionError("it did not close")


# --- losing traffic ---


def test_two_failures_are_chance_and_a_third_in_a_row_opens_softly() -> None:
    subject = breaker()
    fail(subject, 2)
    assert subject.state is State.CLOSED
    assert told(subject, 0.0, Outcome.HARD, 0.0)
    assert (subject.state, subject.cause, subject.reason) == (
        State.SOFTLY_OPEN,
        Cause.FAILING,
        "it failed too often",
    )
    assert not subject.down, "it answers some calls"


def test_half_of_the_calls_failing_is_found_out_within_eight() -> None:
    subject = breaker()
    for _ in range(4):
        record(subject, Outcome.OK, Outcome.HARD)
    assert subject.soft


def test_one_failure_in_ten_evenly_spread_never_opens_it() -> None:
    subject = breaker()
    for _ in range(200):
        record(subject, *[Outcome.OK] * 9, Outcome.HARD)
        assert subject.state is State.CLOSED


def test_a_shortage_counts_half_and_never_towards_a_row() -> None:
    subject = breaker()
    record(subject, *[Outcome.SOFT] * 5)
    assert subject.state is State.CLOSED
    record(subject, *[Outcome.SOFT] * 50)
    assert subject.soft, "and never down"
    assert subject.run == 0


def test_five_failures_in_a_row_mean_that_it_is_down() -> None:
    subject = breaker()
    fail(subject, 4)
    assert subject.soft
    fail(subject, 1)
    assert (subject.state, subject.reason) == (State.OPEN, "5 failures in a row")
    assert subject.down


def test_five_failures_in_a_row_open_it_also_at_one_call_an_hour() -> None:
    subject = breaker()
    for hour in range(5):
        told(subject, 3600.0 * hour, Outcome.HARD, 0.0)
    assert subject.state.value == "open"


def test_a_provider_that_often_failed_before_is_not_down_for_five_in_a_row() -> None:
    """Sixty in a hundred fail: five in a row are nothing unusual, and it still answers forty."""
    subject = breaker()
    for _ in range(40):
        record(subject, Outcome.HARD, Outcome.HARD, Outcome.HARD, Outcome.OK, Outcome.OK)
    fail(subject, 5)
    assert subject.state.value != "open"
    fail(subject, 15)
    assert subject.state.value == "open"


def test_of_attempts_that_ran_at_the_same_time_one_counts_towards_the_row() -> None:
    """Failures often come sooner than answers: fifty in flight that are reset together are one event."""
    subject = breaker()
    for _ in range(50):
        told(subject, 1.0, Outcome.HARD, 0.0, started=0.0)
    assert subject.run == 1
    assert subject.soft


def test_slowness_opens_softly_and_so_does_silence_once() -> None:
    slow, silent = breaker(), breaker()
    assert slow.suspected(Cause.SLOW, 0.0, 0.0)
    assert not slow.suspected(Cause.SLOW, 0.0, 0.0)
    assert silent.suspected(Cause.SILENT, 0.0, 0.0)
    assert not silent.suspected(Cause.SILENT, 0.0, 0.0)
    assert (slow.state, silent.state) == (State.SOFTLY_OPEN, State.SOFTLY_OPEN)
    assert not slow.down
    assert silent.down, "asking it is likely to be in vain"
    assert slow.together
    assert silent.together
    assert not soft().together
    assert not down().together


@pytest.mark.parametrize("cause", [Cause.FAILING, Cause.SLOW])
def test_one_that_answered_some_calls_and_fell_silent_is_down(cause: Cause) -> None:
    """Else every call would be sent there, for it seems the least bad, and hang."""
    subject = soft() if cause is Cause.FAILING else breaker()
    subject.suspected(Cause.SLOW, 0.0, 0.0)
    failed_at = subject.failed_at if cause is Cause.FAILING else 0.0
    subject.fell_silent(failed_at + 1.0, 2.0)
    assert subject.down is (cause is Cause.SLOW), "a failure is a sign of life"
    subject.fell_silent(failed_at + 2.0, 2.0)
    assert subject.soft
    assert subject.down
    assert subject.reason == "it gives no sign of life"
    assert not subject.succeeded(6.0)
    assert not subject.down


def test_an_answer_of_a_silent_one_makes_it_merely_slow() -> None:
    subject = breaker()
    subject.suspected(Cause.SILENT, 0.0, 0.0)
    assert not subject.succeeded(5.0)
    assert (subject.state, subject.reason) == (State.SOFTLY_OPEN, "it became much slower")
    assert not subject.down, "who has nobody better may ask it"
    assert subject.together


def test_a_provider_that_was_not_silent_after_all_is_well_again() -> None:
    subject = breaker()
    subject.suspected(Cause.SILENT, 0.0, 0.0)
    assert subject.spoke(0.5)
    assert (subject.state, subject.reason) == (State.CLOSED, "it was not silent after all")
    for other in (breaker(), soft(), down()):
        assert not other.spoke(0.0)


# --- trials ---


def test_the_first_trial_is_due_a_second_after_it_opened_and_jitter_shortens_that() -> None:
    assert soft(now=100.0).trial_at == 101.0
    subject = breaker()
    for _ in range(3):
        told(subject, 100.0, Outcome.HARD, 0.999)
    assert subject.trial_at == pytest.approx(100.75, abs=0.001)


def test_while_trials_fail_the_time_to_the_next_grows_up_to_the_cap() -> None:
    """Counted from where the last one began: a trial that hangs for long costs no further wait."""
    subject, now, waits = down(), 0.0, []
    for _ in range(12):
        waits.append(subject.trial_at - now)
        now = subject.trial_at
        subject.tried_at = now
        fail(subject, 1, now)
    assert waits[0] == 1.0
    assert waits[-1] == 15.0
    assert waits == sorted(waits)
    assert all(later <= 2.0 * sooner for sooner, later in itertools.pairwise(waits))


def test_a_trial_that_took_longer_than_the_wait_is_followed_by_the_next_at_once() -> None:
    subject = down()
    subject.tried_at = 1.0
    fail(subject, 1, now=40.0)
    assert subject.trial_at == 40.0


@pytest.mark.parametrize("started", [soft, down])
def test_a_success_makes_the_next_call_a_trial_and_two_close_it(started: object) -> None:
    subject: Breaker = started(0.0)  # type: ignore[operator]
    told(subject, 5.0, Outcome.OK, 0.0)
    assert subject.state is State.SOFTLY_OPEN
    assert subject.trial_at == 5.0
    assert told(subject, 6.0, Outcome.OK, 0.0)
    assert subject.state.value == "closed"
    assert subject.reason == "enough trials were answered"


def test_where_one_answer_is_enough_it_closes_from_down_at_once() -> None:
    subject = breaker(successes=1)
    fail(subject, 5)
    assert close(subject, 1.0) == 1


@pytest.mark.parametrize("outcome", [Outcome.HARD, Outcome.SOFT])
def test_a_failure_between_two_successes_starts_again(outcome: Outcome) -> None:
    subject = soft()
    record(subject, Outcome.OK, outcome, Outcome.OK, now=5.0)
    assert (subject.state, subject.passed) == (State.SOFTLY_OPEN, 1)


def test_the_settings_govern_the_way_back() -> None:
    subject = breaker(open_base=3.0, open_cap=7.0, successes=4)
    fail(subject, 5)
    assert subject.trial_at == 3.0
    subject.tried_at = 100.0
    fail(subject, 1, now=100.0)
    assert subject.trial_at == 107.0
    assert close(subject, 107.0) == 4


def test_the_setting_for_failures_in_a_row_counts_also_where_nothing_is_known_yet() -> None:
    for consecutive in (1, 2, 3, 7, 20):
        subject = breaker(consecutive=consecutive)
        fail(subject, consecutive - 1)
        assert subject.state.value != "open"
        fail(subject, 1)
        assert subject.state.value == "open", consecutive


@pytest.mark.parametrize("length", [0.5, 1.0, 5.0, 20.0, 40.0, 600.0, 3600.0])
@pytest.mark.parametrize("draw", [0.0, 0.5, 0.999])
def test_after_an_outage_the_first_trial_comes_soon(length: float, draw: float) -> None:
    """Promise: within ``max(2 s, min(L, 15 s))`` after it recovered."""
    subject, now = breaker(), 0.0
    for _ in range(5):
        told(subject, 0.0, Outcome.HARD, draw)
    while now < length:
        subject.tried_at = now
        told(subject, now, Outcome.HARD, draw)
        assert subject.trial_at > now
        now = subject.trial_at
    assert now - length <= max(2.0, min(length, 15.0))


def test_as_the_last_resort_a_trial_is_made_at_least_every_second() -> None:
    subject = down(now=100.0)
    assert subject.last_resort_wait(100.0) == pytest.approx(0.2)
    assert subject.last_resort_wait(102.0) == pytest.approx(0.5)
    assert subject.last_resort_wait(1000.0) == 1.0


def test_who_failed_after_content_is_judged_at_the_end_of_its_answer() -> None:
    subject = breaker()
    for _ in range(3):
        told(subject, 0.0, Outcome.HARD, 0.0, after_content=True)
    assert subject.soft
    assert subject.ends_late
    fail(subject, 1)
    assert subject.ends_late, "a trial that fails at once does not clear it of that"
    close(subject, 1.0)
    assert not subject.ends_late


@pytest.mark.parametrize("outcome", [Outcome.OK, Outcome.HARD])
def test_who_has_not_failed_after_content_for_five_minutes_is_tried_like_any_other(outcome: Outcome) -> None:
    subject = breaker()
    subject.suspected(Cause.STALLED, 0.0, 0.0)
    assert subject.needed == 4
    told(subject, 299.0, outcome, 0.0)
    assert subject.ends_late
    told(subject, 301.0, outcome, 0.0)
    assert not subject.ends_late
    assert subject.needed == 2


def test_a_trial_that_fails_before_content_is_no_sign_that_some_streams_break() -> None:
    for after_content, needed in ((False, 4), (True, 6)):
        subject = breaker()
        subject.suspected(Cause.STALLED, 0.0, 0.0)
        told(subject, 5.0, Outcome.OK, 0.0)
        told(subject, 6.0, Outcome.HARD, 0.0, after_content=after_content)
        assert subject.needed == needed


def test_one_whose_streams_break_again_and_again_is_tried_once_a_minute_at_least() -> None:
    subject, now = breaker(), 0.0
    for _ in range(8):
        for _ in range(3):
            told(subject, now, Outcome.HARD, 0.0, after_content=True)
        assert subject.trial_at - now <= 60.0
        now = subject.trial_at
        close(subject, now)
    assert subject.trial_wait(now) <= 60.0


def test_one_whose_streams_fall_silent_is_tried_four_times_as_seldom() -> None:
    subject, other = breaker(), breaker()
    subject.suspected(Cause.STALLED, 0.0, 0.0)
    other.suspected(Cause.SLOW, 0.0, 0.0)
    assert subject.trial_wait(5.0) == pytest.approx(4.0 * other.trial_wait(5.0))


def test_a_trial_starts_beside_another_attempt_only_against_silence_and_slowness() -> None:
    for cause, together in ((Cause.SLOW, True), (Cause.SILENT, True), (Cause.STALLED, False)):
        subject = breaker()
        subject.suspected(cause, 0.0, 0.0)
        assert subject.together is together, cause
    subject = breaker()
    fail(subject, 3)
    assert not subject.together
    subject.timed_out = True
    assert subject.together


# --- relapses ---


def test_a_presumption_is_no_relapse_and_its_end_no_recovery() -> None:
    for cause in (Cause.SILENT, Cause.STALLED):
        subject = breaker()
        fail(subject, 3)
        close(subject, 10.0)
        subject.suspected(cause, 11.0, 0.0)
        assert subject.trial_wait(11.0) in {1.0, 4.0}, "as after the first outage"
        subject.spoke(12.0)
        subject = breaker()
        subject.suspected(cause, 0.0, 0.0)
        subject.spoke(1.0)
        fail(subject, 3, 2.0)
        assert (subject.trial_wait(2.0), subject.needed) == (1.0, 2), "it had not been down"


def relapsing(pause: float, times: int) -> tuple[list[int], list[float]]:
    """Answers needed to close it and the first wait, each time it opens ``pause`` seconds after it closed."""
    subject, now, needed, waits = breaker(), 0.0, [], []
    for _ in range(times):
        fail(subject, 3, now)
        waits.append(subject.trial_at - now)
        needed.append(close(subject, now + waits[-1]))
        now += waits[-1] + pause
    return needed, waits


def test_each_relapse_asks_for_more_answers_and_a_longer_first_wait() -> None:
    needed, waits = relapsing(pause=10.0, times=9)
    assert needed == [2, 4, 6, 8, 10, 10, 10, 10, 10]
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]


def broken(subject: Breaker, times: int, now: float) -> None:
    """So many of its streams break after content."""
    for _ in range(times):
        told(subject, now, Outcome.HARD, 0.0, after_content=True)


def test_one_whose_streams_break_is_tried_as_often_as_others_until_it_relapses() -> None:
    subject = breaker()
    broken(subject, 3, 0.0)
    assert (subject.trial_at, subject.needed) == (1.0, 2)
    assert close(subject, 6.0) == 2
    broken(subject, 3, 10.0)
    assert (subject.trial_at, subject.needed) == (18.0, 6), "two seconds for any relapse, four times that for this one"


def test_a_broken_trial_after_a_whole_one_is_a_relapse() -> None:
    subject = breaker()
    broken(subject, 3, 0.0)
    broken(subject, 1, 1.0)
    assert subject.needed == 2
    told(subject, 2.0, Outcome.OK, 0.0)
    broken(subject, 1, 3.0)
    assert subject.needed == 6
    assert subject.trial_wait(3.0) == pytest.approx(8.4)


def test_opening_again_after_five_calm_minutes_is_no_relapse() -> None:
    assert relapsing(pause=RELAPSE + 0.1, times=4) == ([2] * 4, [1.0] * 4)
    assert relapsing(pause=RELAPSE - 0.1, times=2) == ([2, 4], [1.0, 2.0])


def test_a_person_who_restores_it_holds_nothing_against_it() -> None:
    subject = breaker()
    for _ in range(3):
        fail(subject, 3, 10.0)
        close(subject, 10.0)
    fail(subject, 5, 10.0)
    subject.restore(10.0)
    assert (subject.state, subject.reason, subject.run) == (State.CLOSED, "restored by hand", 0)
    fail(subject, 2, 11.0)
    assert subject.state is State.CLOSED
    fail(subject, 1, 11.0)
    assert subject.trial_at == 12.0, "no relapse"
    assert close(subject, 12.0) == 2


def test_more_successes_than_usual_asked_for_are_never_fewer_after_a_relapse() -> None:
    subject = breaker(successes=12)
    for _ in range(3):
        fail(subject, 3)
        assert close(subject, 0.0) == 12


# --- people ---


def test_an_isolated_breaker_stays_open_until_restored() -> None:
    for subject in (breaker(), soft(), down()):
        subject.isolate(0.0)
        generation = subject.generation
        record(subject, *[Outcome.OK] * 20, *[Outcome.HARD] * 20)
        assert not subject.suspected(Cause.SLOW, 0.0, 0.0)
        assert not subject.suspected(Cause.SILENT, 0.0, 0.0)
        subject.isolate(0.0)
        assert (subject.state, subject.generation) == (State.ISOLATED, generation)
        subject.restore(0.0)
        assert subject.state is State.CLOSED
        fail(subject, 2)
        assert subject.state is State.CLOSED, "what happened meanwhile is not held against it"


def test_restoring_a_closed_breaker_starts_no_new_generation() -> None:
    subject = breaker()
    fail(subject, 2)
    subject.restore(0.0)
    assert subject.generation == 0
    fail(subject, 2)
    assert subject.state is State.CLOSED


# --- the table ---


def in_state(state: State) -> Breaker:
    makers: dict[State, Callable[[], Breaker]] = {State.SOFTLY_OPEN: soft, State.OPEN: down}
    made = makers.get(state, breaker)()
    if state is State.ISOLATED:
        made.isolate(0.0)
    return made


def bring_about(cause: Cause, before: State) -> Breaker:
    if cause is Cause.SPOKE:
        subject = breaker()
        subject.suspected(Cause.SILENT, 0.0, 0.0)
        subject.spoke(0.0)
        return subject
    subject = breaker(successes=1) if (before, cause) == (State.OPEN, Cause.RECOVERED) else in_state(before)
    if (before, cause) == (State.OPEN, Cause.RECOVERED):
        fail(subject, 5)
    if (before, cause) == (State.CLOSED, Cause.DOWN):
        subject = breaker(ratio=0.45, consecutive=1)
        record(subject, *[Outcome.OK] * 100)
    moves: dict[Cause, Callable[[], object]] = {
        Cause.FAILING: lambda: fail(subject, 3),
        Cause.SLOW: lambda: subject.suspected(Cause.SLOW, 0.0, 0.0),
        Cause.SILENT: lambda: subject.suspected(Cause.SILENT, 0.0, 0.0),
        Cause.STALLED: lambda: subject.suspected(Cause.STALLED, 0.0, 0.0),
        Cause.DOWN: lambda: fail(subject, 2),
        Cause.TRIAL_PASSED: lambda: record(subject, Outcome.OK),
        Cause.RECOVERED: lambda: close(subject, 0.0),
        Cause.ISOLATED: lambda: subject.isolate(0.0),
        Cause.RESTORED: lambda: subject.restore(0.0),
    }
    moves[cause]()
    return subject


@pytest.mark.parametrize(("before", "cause"), TRANSITIONS, ids=lambda one: one.name)
def test_every_transition_of_the_table_can_happen(before: State, cause: Cause) -> None:
    assert bring_about(cause, before).state is TRANSITIONS[before, cause]


def test_trials_of_a_presumption_that_is_void_do_not_count_towards_the_next_one() -> None:
    subject = breaker()
    subject.suspected(Cause.STALLED, 0.0, 0.0)
    subject.succeeded(1.0)
    assert subject.passed == 1
    subject.spoke(2.0)
    assert (subject.state, subject.passed) == (State.CLOSED, 0)


def test_the_share_of_failures_counts_those_that_no_answer_has_followed_yet() -> None:
    subject = breaker()
    before = subject.share
    for _ in range(4):
        told(subject, 0.0, Outcome.HARD, 0.0)
    share = subject.share
    assert share > before
    told(subject, 1.0, Outcome.OK, 0.0)
    assert before < subject.share < share


def test_no_generation_is_used_twice_in_a_process_that_was_forked() -> None:
    subject = breaker()
    subject.suspected(Cause.SILENT, 0.0, 0.0)
    subject.spoke(1.0)
    subject.generation = 7  # as the child begins
    subject.suspected(Cause.SILENT, 2.0, 0.0)
    assert subject.generation == 8


class BreakerMachine(RuleBasedStateMachine):
    """Any history at all."""

    def __init__(self) -> None:
        super().__init__()
        self.subject = breaker()
        self.now = 1000.0
        self.before = (State.CLOSED, 0)
        self.presumed = self.latest = 0
        self.failed_at = -math.inf

    @rule(seconds=st.sampled_from([0.0, 0.1, 1.0, 15.0, 100.0, 1e5]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(outcome=st.sampled_from(JUDGING), draw=draws, age=st.floats(0.0, 10.0), late=st.booleans())
    def outcome(self, outcome: Outcome, draw: float, age: float, late: bool) -> None:
        subject, state, run = self.subject, self.subject.state, self.subject.run
        changed = told(subject, self.now, outcome, draw, started=self.now - age, after_content=late)
        assert changed == (subject.state is not state)
        assert subject.run in {Outcome.OK: (0,), Outcome.HARD: (run, run + 1)}.get(outcome, (run,))
        if outcome is not Outcome.OK and changed:
            assert subject.state in (State.SOFTLY_OPEN, State.OPEN), "no failure gives traffic back"
        if outcome is Outcome.OK and changed:
            assert state in (State.SOFTLY_OPEN, State.OPEN), "no success takes it away"

    @rule(cause=st.sampled_from([Cause.SLOW, Cause.SILENT, Cause.STALLED]), draw=draws)
    def suspicion(self, cause: Cause, draw: float) -> None:
        state, generation = self.before
        changed = self.subject.suspected(cause, self.now, draw)
        assert changed == (self.subject.state is not state)
        if changed and cause is not Cause.SLOW:
            self.presumed = generation

    @rule()
    def spoken(self) -> None:
        state = self.subject.state
        void = self.subject.spoke(self.now)
        assert void == (self.subject.state is not state)
        if void:
            assert self.subject.generation == self.presumed, "what began before still counts"
            self.before = (self.subject.state, self.presumed)

    @rule()
    def isolated(self) -> None:
        self.subject.isolate(self.now)

    @rule()
    def restored(self) -> None:
        self.subject.restore(self.now)
        assert self.subject.needed == 2

    @invariant()
    def the_table_is_the_only_way_and_each_step_a_generation(self) -> None:
        state, generation = self.before
        after = self.subject.state
        if self.subject.generation == generation:
            assert after is state
        else:
            reachable = {target for (source, _), target in TRANSITIONS.items() if source is state}
            self.latest += 1
            assert self.subject.generation == self.latest, "none is used twice"
            assert after in reachable
        self.before = (after, self.subject.generation)

    @invariant()
    def a_trial_is_never_further_away_than_a_minute(self) -> None:
        if self.subject.state in (State.SOFTLY_OPEN, State.OPEN):
            assert self.subject.trial_at <= self.now + 60.0
            assert 2 <= self.subject.needed <= 10
            assert self.subject.passed < self.subject.needed

    @invariant()
    def down_is_more_than_half_broken(self) -> None:
        subject = self.subject
        assert not (subject.state.value == "open" and subject.soft)
        assert subject.down == (subject.state.value == "open" or (subject.soft and subject.cause is Cause.SILENT))
        assert 0.2 <= subject.last_resort_wait(self.now) <= 1.0


BreakerMachine.TestCase.settings = MACHINE
test_any_history_keeps_to_the_table = BreakerMachine.TestCase


@PROPERTY
@given(
    history=st.lists(st.tuples(st.sampled_from(JUDGING), st.sampled_from([0.0, 0.5, 3.0, 40.0])), max_size=60),
    shift=st.sampled_from([0.0, 1.0, 4096.0, 2.0**30]),
)
def test_shifting_the_clock_shifts_the_decisions_and_nothing_else(
    history: list[tuple[Outcome, float]], shift: float
) -> None:
    def decisions(start: float) -> list[tuple[State, int, float]]:
        subject, now, made = breaker(), start, []
        for outcome, pause in history:
            now += pause
            told(subject, now, outcome, 0.5)
            made.append((subject.state, subject.generation, subject.trial_at - start))
        return made

    for one, other in zip(decisions(0.0), decisions(shift), strict=True):
        assert one[:2] == other[:2]
        assert one[2] == pytest.approx(other[2], abs=1e-3)
