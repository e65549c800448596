"""The breaker: finds outages, lets one probe through at a time, and believes nobody who comes too late."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from resilient_llm.decide.breaker import TRANSITIONS, Breaker, Cause, State, Window
from resilient_llm.decide.outcome import Outcome
from resilient_llm.policy import Breaker as Policy
from tests.decide.world import MACHINE, PROPERTY

draws = st.floats(0.0, 1.0, exclude_max=True)
NEUTRAL = [Outcome.NEUTRAL, Outcome.GATED, Outcome.DISABLED]


def breaker(**policy: object) -> Breaker:
    return Breaker(Policy(**policy))  # type: ignore[arg-type]


def fail(subject: Breaker, times: int, now: float = 0.0, outcome: Outcome = Outcome.HARD, draw: float = 0.0) -> None:
    for _ in range(times):
        subject.record(now, outcome, draw)


def tripped(draw: float = 0.0, **policy: object) -> Breaker:
    subject = breaker(**policy)
    fail(subject, 5, draw=draw)
    assert subject.state is State.OPEN
    return subject


def half_open(**policy: object) -> Breaker:
    subject = tripped(**policy)
    subject.admit_probe(subject.open_until, 5.0)
    return subject


# --- the window ---


def test_a_window_counts_what_happened_inside_it() -> None:
    window = Window(10, 60.0)
    window.add(0.0, bad=True)
    window.add(3.0, bad=False)
    window.add(30.0, bad=False)
    assert window.totals(30.0) == (3, 1)


def test_a_sample_leaves_with_its_bucket_and_not_with_the_whole_window() -> None:
    window = Window(10, 60.0)
    for now in (0.0, 6.0, 12.0):
        window.add(now, bad=True)
    assert window.totals(59.9) == (3, 3)
    assert window.totals(60.0) == (2, 2)
    assert window.totals(66.0) == (1, 1)
    assert window.totals(72.0) == (0, 0)


def test_a_bucket_used_again_starts_from_nothing() -> None:
    window = Window(10, 60.0)
    window.add(0.0, bad=True)
    window.add(60.0, bad=False)
    assert window.totals(60.0) == (1, 0)


def test_an_idle_age_does_not_wedge_the_window() -> None:
    window = Window(10, 60.0)
    window.add(0.0, bad=True)
    assert window.totals(1e9) == (0, 0)
    window.add(1e9, bad=True)
    assert window.totals(1e9) == (1, 1)


def test_a_clock_that_steps_back_loses_no_count() -> None:
    window = Window(10, 60.0)
    window.add(1000.0, bad=True)
    window.add(900.0, bad=True)
    assert window.totals(1000.0) == (2, 2)


@PROPERTY
@given(
    samples=st.lists(st.tuples(st.floats(0.0, 20.0), st.booleans()), max_size=60),
    shift=st.integers(-(2**40), 2**40),
)
def test_a_window_never_counts_a_call_older_than_itself_nor_misses_one_younger_by_a_bucket(
    samples: list[tuple[float, bool]], shift: int
) -> None:
    window, now = Window(10, 60.0), float(shift)
    start, seen = now, []
    for pause, bad in samples:
        now += round(pause, 2)
        window.add(now, bad)
        seen.append((now, bad))
    count, bad_count = window.totals(now)
    edge = 1e-3  # of rounding, with a clock that counts in millions of years
    surely = [bad for at, bad in seen if now - at < 54.0 - edge]
    perhaps = [bad for at, bad in seen if now - at < 60.0 + edge]
    assert len(surely) <= count <= len(perhaps)
    assert sum(surely) <= bad_count <= sum(perhaps)
    assert start <= now


# --- tripping ---


def test_five_hard_failures_in_a_row_open_it() -> None:
    subject = breaker()
    fail(subject, 4)
    assert subject.state is State.CLOSED
    assert subject.record(0.0, Outcome.HARD, 0.5)
    assert subject.state is State.OPEN
    assert subject.reason == "5 failures in a row"
    assert subject.open_until == 3.75


def test_five_hard_failures_in_a_row_open_it_also_at_one_call_an_hour() -> None:
    subject = breaker()
    for hour in range(5):
        subject.record(3600.0 * hour, Outcome.HARD, 0.0)
    assert subject.state is State.OPEN


def test_one_success_starts_the_row_again() -> None:
    subject = breaker()
    fail(subject, 4)
    subject.record(0.0, Outcome.OK, 0.0)
    fail(subject, 4)
    assert subject.state is State.CLOSED


def test_half_of_ten_calls_bad_open_it() -> None:
    subject = breaker()
    for index in range(9):
        subject.record(float(index), Outcome.OK if index % 2 else Outcome.HARD, 0.0)
    assert subject.state is State.CLOSED, "nine are too few to tell"
    subject.record(9.0, Outcome.HARD, 0.0)
    assert subject.state is State.OPEN
    assert subject.reason == "6 of the last 10 calls failed"


def test_shortage_counts_for_the_share_but_never_towards_a_row() -> None:
    subject = breaker()
    fail(subject, 9, outcome=Outcome.SOFT)
    assert subject.state is State.CLOSED
    fail(subject, 1, outcome=Outcome.SOFT)
    assert subject.state is State.OPEN


@pytest.mark.parametrize("spread", [0.0, 0.0001, 1.0, 5.0])
def test_the_share_that_trips_does_not_depend_on_how_fast_calls_come(spread: float) -> None:
    subject = breaker(consecutive=100)
    for index in range(10):
        assert subject.state is State.CLOSED
        subject.record(index * spread, Outcome.HARD, 0.0)
    assert subject.state is State.OPEN


@pytest.mark.parametrize("outcome", NEUTRAL)
def test_an_outcome_that_judges_nobody_moves_nothing(outcome: Outcome) -> None:
    for subject in (breaker(), half_open()):
        before = (subject.state, subject.generation, subject.consecutive, subject.error_rate(1.0))
        assert not any(subject.record(1.0, outcome, 0.5) for _ in range(100))
        assert (subject.state, subject.generation, subject.consecutive, subject.error_rate(1.0)) == before


def test_the_error_rate_is_unknown_before_the_first_call() -> None:
    subject = breaker()
    assert subject.error_rate(0.0) is None
    subject.record(0.0, Outcome.OK, 0.0)
    subject.record(0.0, Outcome.HARD, 0.0)
    assert subject.error_rate(0.0) == 0.5


# --- open periods ---


def test_every_trip_doubles_the_open_period_up_to_the_cap() -> None:
    subject, periods, now = breaker(), [], 0.0
    fail(subject, 5, now, draw=0.999999)
    for _ in range(7):
        periods.append(round(subject.open_until - now))
        now = subject.open_until
        subject.admit_probe(now, 5.0)
        subject.record(now, Outcome.HARD, 0.999999)
    assert periods == [5, 10, 20, 40, 60, 60, 60]


def test_a_calm_minute_forgives_one_trip_and_not_all() -> None:
    def next_period(calm: float) -> float:
        subject = breaker()
        fail(subject, 5)
        for _ in range(3):
            subject.admit_probe(subject.open_until, 5.0)
            subject.record(subject.open_until, Outcome.HARD, 0.0)
        now = subject.open_until
        subject.admit_probe(now, 5.0)
        subject.record(now, Outcome.OK, 0.0)
        subject.record(now, Outcome.OK, 0.0)
        assert subject.state is State.CLOSED
        fail(subject, 5, now + calm)
        return subject.open_until - now - calm

    assert [next_period(calm) for calm in (0.0, 59.0, 61.0, 121.0, 1e6)] == [30.0, 30.0, 20.0, 10.0, 2.5]


def test_a_failure_of_this_machine_does_not_make_the_next_open_period_longer() -> None:
    subject, now = breaker(), 0.0
    for _ in range(4):
        subject.record(now, Outcome.HARD, 0.0, escalate=False)
    for _ in range(3):
        subject.record(now, Outcome.HARD, 0.0, escalate=False)
        assert subject.open_until - now == 2.5
        now = subject.open_until
        subject.admit_probe(now, 5.0)
    assert subject.trips == 0


# --- half open ---


def test_no_probe_before_the_open_period_is_over() -> None:
    subject = tripped()
    assert not subject.may_probe(2.4)
    assert subject.may_probe(2.5)


def test_a_closed_breaker_needs_no_probe() -> None:
    assert not breaker().may_probe(0.0)


def test_one_probe_at_a_time() -> None:
    subject = half_open()
    assert subject.state is State.HALF_OPEN
    assert not subject.may_probe(3.0)
    subject.release_probe()
    assert subject.may_probe(3.0)


def test_two_good_probes_close_it() -> None:
    subject = half_open()
    assert not subject.record(3.0, Outcome.OK, 0.0)
    assert subject.state is State.HALF_OPEN
    assert subject.record(3.5, Outcome.OK, 0.0)
    assert subject.state is State.CLOSED
    assert subject.closed_at == 3.5


@pytest.mark.parametrize("outcome", [Outcome.HARD, Outcome.SOFT])
def test_one_bad_probe_opens_it_again_for_longer(outcome: Outcome) -> None:
    subject = half_open()
    subject.record(3.0, Outcome.OK, 0.0)
    assert subject.record(3.0, outcome, 0.0)
    assert subject.state is State.OPEN
    assert subject.open_until == 8.0
    assert subject.reason == "a probe failed"


def test_a_probe_that_never_ends_fails_when_its_lease_is_over() -> None:
    subject = half_open()
    assert not subject.expire(7.4, 0.0)
    assert subject.expire(7.5, 0.0)
    assert subject.state is State.OPEN
    assert subject.reason == "a probe gave no sign of life"
    assert not subject.expire(100.0, 0.0)


def test_a_probe_that_spoke_has_no_lease_left_to_expire() -> None:
    subject = half_open()
    subject.release_probe()
    assert not subject.expire(1e9, 0.0)
    assert subject.state is State.HALF_OPEN


# --- by hand ---


def test_an_isolated_breaker_stays_shut_until_restored() -> None:
    subject = breaker()
    subject.isolate(0.0)
    subject.isolate(1.0)
    assert subject.state is State.ISOLATED
    assert not subject.may_probe(1e9)
    subject.restore(2.0)
    assert subject.state is State.CLOSED
    assert subject.closed_at == 2.0


def test_restoring_a_closed_breaker_changes_nothing() -> None:
    subject = breaker()
    subject.restore(1.0)
    assert subject.generation == 0
    assert subject.closed_at is None


def test_restoring_forgives_earlier_trips() -> None:
    subject = half_open()
    subject.restore(10.0)
    fail(subject, 5, 10.0)
    assert subject.open_until == 12.5


# --- slow start ---


def test_after_closing_the_share_grows_by_count_or_by_time_whichever_is_sooner() -> None:
    subject = half_open()
    assert subject.ramp(0.0, 0.1, 5, 60.0) == 1.0
    fail(subject, 2, 100.0, Outcome.OK)
    assert subject.ramp(100.0, 0.1, 5, 60.0) == 0.1
    assert subject.ramp(130.0, 0.1, 5, 60.0) == 0.5
    fail(subject, 3, 100.0, Outcome.OK)
    assert subject.ramp(100.0, 0.1, 5, 60.0) == pytest.approx(0.6)
    fail(subject, 2, 100.0, Outcome.OK)
    assert subject.ramp(100.0, 0.1, 5, 60.0) == 1.0
    assert subject.closed_at is None, "the ramp is over for good"


def test_a_ramp_of_no_time_is_no_ramp() -> None:
    subject = half_open()
    subject.restore(0.0)
    assert subject.ramp(0.0, 0.1, 5, 0.0) == 1.0


# --- the table ---


def isolated() -> Breaker:
    subject = breaker()
    subject.isolate(0.0)
    return subject


HAPPENINGS: dict[tuple[State, Cause], tuple[Callable[[], Breaker], Callable[[Breaker], None]]] = {
    (State.CLOSED, Cause.TRIPPED): (breaker, lambda subject: fail(subject, 5)),
    (State.OPEN, Cause.PROBE_ADMITTED): (tripped, lambda subject: subject.admit_probe(3.0, 5.0)),
    (State.HALF_OPEN, Cause.PROBE_FAILED): (half_open, lambda subject: fail(subject, 1)),
    (State.HALF_OPEN, Cause.RECOVERED): (half_open, lambda subject: fail(subject, 2, outcome=Outcome.OK)),
    (State.CLOSED, Cause.ISOLATED): (breaker, lambda subject: subject.isolate(3.0)),
    (State.OPEN, Cause.ISOLATED): (tripped, lambda subject: subject.isolate(3.0)),
    (State.HALF_OPEN, Cause.ISOLATED): (half_open, lambda subject: subject.isolate(3.0)),
    (State.ISOLATED, Cause.RESTORED): (isolated, lambda subject: subject.restore(3.0)),
    (State.OPEN, Cause.RESTORED): (tripped, lambda subject: subject.restore(3.0)),
    (State.HALF_OPEN, Cause.RESTORED): (half_open, lambda subject: subject.restore(3.0)),
}


@pytest.mark.parametrize(("before", "cause"), TRANSITIONS)
def test_every_transition_of_the_table_can_happen_and_starts_a_new_generation(before: State, cause: Cause) -> None:
    make, happen = HAPPENINGS[before, cause]
    subject = make()
    assert subject.state is before
    generation = subject.generation
    happen(subject)
    assert subject.state is TRANSITIONS[before, cause]
    assert subject.generation == generation + 1


@pytest.mark.parametrize("shift", [2.0**20, 2.0**33, -(2.0**20)])
def test_shifting_the_clock_shifts_the_decisions_and_nothing_else(shift: float) -> None:
    assert decisions(shift) == decisions(0.0)


def decisions(shift: float) -> list[tuple[State, int, float]]:
    """What a breaker does in 200 seconds of mixed weather, times relative to the beginning."""
    subject, log = breaker(), []
    outcomes = itertools.cycle([Outcome.HARD, Outcome.HARD, Outcome.OK, Outcome.SOFT, Outcome.HARD])
    for step in range(200):
        now = shift + step
        if subject.may_probe(now):
            subject.admit_probe(now, 5.0)
        if subject.state in (State.CLOSED, State.HALF_OPEN):
            subject.record(now, next(outcomes), 0.5)
            subject.release_probe()
        log.append((subject.state, subject.generation, max(-1.0, subject.open_until - shift)))
    return log


# --- any history ---


class BreakerMachine(RuleBasedStateMachine):
    """Attempts that begin, end or get lost in any order, treated as the pool treats them."""

    attempts = Bundle("attempts")

    def __init__(self) -> None:
        super().__init__()
        self.subject = breaker()
        self.now = 0.0
        self.live: dict[int, tuple[int, bool]] = {}  # attempt -> generation, probing
        self.numbers = itertools.count()
        self.good_probes = 0

    @rule(target=attempts)
    def begin(self) -> int:
        number = next(self.numbers)
        probing = self.subject.may_probe(self.now)
        if probing:
            opened = self.subject.state is State.OPEN
            assert not opened or self.now >= self.subject.open_until
            self.good_probes = 0 if opened else self.good_probes
            self.subject.admit_probe(self.now, 5.0)
        if self.subject.state is State.CLOSED or probing:
            self.live[number] = (self.subject.generation, probing)
        return number

    @rule(attempt=attempts, outcome=st.sampled_from(Outcome), draw=draws)
    def end(self, attempt: int, outcome: Outcome, draw: float) -> None:
        generation, probing = self.live.pop(attempt, (-1, False))
        if generation != self.subject.generation:
            return
        if probing:
            self.subject.release_probe()
        before, rate = self.subject.state, self.subject.error_rate(self.now)
        changed = self.subject.record(self.now, outcome, draw)
        assert changed == (self.subject.state is not before)
        if outcome in NEUTRAL:
            assert not changed
            assert self.subject.error_rate(self.now) == rate
        if before is State.HALF_OPEN and outcome is Outcome.OK:
            self.good_probes += 1
            assert changed == (self.good_probes == 2)
        if self.subject.state is State.OPEN:
            assert outcome in (Outcome.HARD, Outcome.SOFT)
            assert 2.5 <= self.subject.open_until - self.now <= 60.0

    @rule(seconds=st.floats(0.0, 70.0), draw=draws)
    def time_passes(self, seconds: float, draw: float) -> None:
        self.now += seconds
        due = self.subject.probe_expires is not None and self.now >= self.subject.probe_expires
        assert self.subject.expire(self.now, draw) == due

    @rule()
    def isolate(self) -> None:
        self.subject.isolate(self.now)

    @rule()
    def restore(self) -> None:
        self.subject.restore(self.now)
        self.good_probes = 0

    @invariant()
    def at_most_one_probe_lives(self) -> None:
        probes = [
            generation
            for generation, probing in self.live.values()
            if probing and generation == self.subject.generation
        ]
        assert len(probes) == (self.subject.probe_expires is not None)

    @invariant()
    def a_way_back_always_opens(self) -> None:
        subject = self.subject
        if subject.state is State.OPEN:
            assert subject.may_probe(max(self.now, subject.open_until))
            assert subject.open_until - self.now <= 60.0
        if subject.probe_expires is not None:
            assert subject.state is State.HALF_OPEN
            assert math.isfinite(subject.probe_expires)
            assert subject.probe_expires <= self.now + 5.0


BreakerMachine.TestCase.settings = MACHINE
test_any_history_leaves_at_most_one_probe_and_a_way_back = BreakerMachine.TestCase
