"""Gates: obeyed for as long as asked, never shortened, and no judgement."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from resilient_llm.decide.gate import MIN_WAIT, RateGate, SlowGate
from resilient_llm.policy import Limits
from tests.decide.world import MACHINE, PROPERTY

draws = st.floats(0.0, 1.0, exclude_max=True)
hints = st.one_of(st.none(), st.floats(-10.0, 1e6), st.sampled_from([0.0, math.inf, -math.inf, math.nan]))


def gate() -> RateGate:
    return RateGate(Limits())


def slow() -> SlowGate:
    return SlowGate(3600.0)


# --- the rate gate ---


@pytest.mark.parametrize(("draw", "opens"), [(0.0, 107.0), (0.5, 107.875), (0.999, 108.74825)])
def test_a_hint_is_obeyed_and_spread_upwards(draw: float, opens: float) -> None:
    assert gate().close(100.0, 7.0, draw, "429") == pytest.approx(opens)


def test_a_later_smaller_hint_does_not_shorten_it() -> None:
    closed = gate()
    closed.close(100.0, 30.0, 0.0, "first")
    assert closed.close(101.0, 1.0, 0.0, "second") == 130.0
    assert closed.reason == "first"


def test_a_later_longer_hint_extends_it() -> None:
    closed = gate()
    closed.close(100.0, 5.0, 0.0, "first")
    assert closed.close(101.0, 30.0, 0.0, "second") == 131.0
    assert closed.reason == "second"


@pytest.mark.parametrize("hint", [0.0, -3.0, -math.inf, 0.01])
def test_a_hint_of_nothing_still_closes_it_for_a_moment(hint: float) -> None:
    assert gate().close(100.0, hint, 0.0, "429") == 100.0 + MIN_WAIT


@pytest.mark.parametrize("hint", [301.0, 86400.0, 49 * 86400.0, math.inf])
def test_a_hint_of_days_is_cut_to_the_cap(hint: float) -> None:
    assert gate().close(100.0, hint, 0.999, "429") == pytest.approx(400.0, abs=0.1)
    assert gate().close(100.0, hint, 0.0, "429") == 340.0, (
        "spread downwards: a fleet must not return at the cap together"
    )


@pytest.mark.parametrize("hint", [None, math.nan])
def test_without_a_hint_the_wait_doubles_with_every_strike_up_to_sixteen_seconds(hint: float | None) -> None:
    closed, now, waits = gate(), 0.0, []
    for _ in range(8):
        opens = closed.close(now, hint, 0.5, "429")
        waits.append(opens - now)
        now = opens
    assert waits == [1.125, 2.25, 4.5, 9.0, 18.0, 18.0, 18.0, 18.0]


def test_a_late_refusal_without_a_hint_does_not_change_what_a_hint_said() -> None:
    closed = gate()
    closed.close(100.0, 4.0, 0.5, "429")
    before = [closed.opens(last, waits=True) for last in (103.0, 104.5, 110.0, 1e9)]
    closed.close(100.5, None, 0.5, "429", started=99.0)
    assert [closed.opens(last, waits=True) for last in (103.0, 104.5, 110.0, 1e9)] == before


def test_a_provider_that_says_one_second_again_and_again_is_left_alone_for_longer() -> None:
    closed, now, waits = gate(), 0.0, []
    for _ in range(6):
        opens = closed.close(now, 1.0, 0.0, "429")
        waits.append(opens - now)
        now = opens + 10.0
    assert waits == [1.0, 1.0, 1.0, 2.0, 4.0, 8.0]


def test_fifty_refusals_of_calls_already_on_their_way_are_one_strike() -> None:
    closed = gate()
    opens = [closed.close(100.0, None, 0.9, "429") for _ in range(50)]
    assert set(opens) == {100.0 + 1.225}
    assert closed.strikes == 1


def test_a_hint_counts_also_while_it_is_closed_but_is_no_further_strike() -> None:
    closed = gate()
    closed.close(100.0, None, 0.9, "429")
    assert closed.close(100.1, 5.0, 0.0, "429") == pytest.approx(105.1)
    assert closed.strikes == 1


def test_a_success_begun_after_it_closed_opens_it_and_forgives_the_strikes() -> None:
    closed = gate()
    closed.close(100.0, 30.0, 0.0, "429")
    closed.succeeded(started=100.5)
    assert closed.until == -math.inf
    assert closed.strikes == 0


def test_a_success_of_a_call_begun_before_it_closed_does_not_open_it() -> None:
    closed = gate()
    closed.close(100.0, 30.0, 0.0, "429")
    closed.succeeded(started=100.0)
    assert closed.until == 130.0


def test_what_the_provider_said_is_kept_apart_from_the_jitter() -> None:
    """A call with little time is compared with what was said, not with what a fleet is spread over."""
    closed = gate()
    closed.close(100.0, 55.0, 0.999, "429")
    assert closed.told == 155.0
    assert closed.until > 168.0
    assert closed.opens(last=200.0, waits=False) == closed.until, "who has time is spread"
    assert closed.opens(last=160.0, waits=False) == closed.soonest < 156.0, "who has less comes nearly as told"
    assert closed.opens(last=155.5, waits=False) == 155.0, "and who has none to spare as soon as he was told"
    assert closed.opens(last=120.0, waits=False) == 155.0, "and never sooner"


def test_what_was_said_is_kept_although_it_was_capped() -> None:
    closed = gate()
    closed.close(100.0, 3000.0, 0.0, "429")
    assert closed.until == 340.0
    assert closed.told == 3100.0


def test_opening_by_hand_forgets_everything() -> None:
    closed = gate()
    for now in (100.0, 200.0):
        closed.close(now, 30.0, 0.0, "429")
    closed.open()
    assert closed.until == closed.told == closed.soonest == -math.inf
    assert closed.strikes == 0


def test_who_waits_because_nobody_else_is_there_goes_by_what_the_provider_said() -> None:
    """What we add where a hint proved too short keeps traffic that has somewhere else to go, and nobody else."""
    closed, now = gate(), 100.0
    for _ in range(6):
        closed.close(now, 1.0, 0.0, "429")
        assert closed.opens(1e9, waits=True) == now + 1.0
        now = closed.until
    assert closed.until - closed.opens(1e9, waits=True) > 5.0


def test_who_has_somebody_else_to_ask_never_comes_sooner_for_want_of_time() -> None:
    closed, now = gate(), 100.0
    for _ in range(6):
        closed.close(now, 1.0, 0.9, "429")
        for last in (now + 0.5, now + 1.5, now + 20.0, now + 200.0):
            assert closed.opens(last, waits=True) <= closed.opens(last, waits=False)
        now = closed.until


@pytest.mark.parametrize("hint", [None, math.nan])
def test_a_limit_without_a_hint_is_asked_about_once_a_second_by_calls_that_have_no_more_time(
    hint: float | None,
) -> None:
    closed, now = gate(), 100.0
    for strike in range(5):
        closed.close(now, hint, 0.0, "429")
        assert closed.opens(1e9, waits=True) == now + 2.0**strike, "who has time waits longer and longer"
        assert closed.opens(now + 1.1 if strike else now, waits=True) == now + 1.0
        now = closed.until


def test_a_refusal_of_a_call_that_went_first_is_a_strike_also_while_others_still_wait() -> None:
    """Who has nobody else to ask does not wait for the jitter."""
    closed = gate()
    closed.close(100.0, 4.0, 0.9, "429")
    assert closed.opens(1e9, waits=True) < 104.3 < closed.until
    closed.close(104.3, 4.0, 0.0, "429", started=104.2)
    assert closed.strikes == 2
    assert closed.opens(1e9, waits=True) == 108.3


def test_a_refusal_without_a_hint_while_it_is_closed_moves_what_was_said() -> None:
    closed = gate()
    closed.close(100.0, 30.0, 0.0, "429")
    closed.close(129.5, None, 0.0, "429")
    assert closed.until == 130.0
    assert closed.opens(1e9, waits=True) == 130.0


@PROPERTY
@given(hint=hints, draw=draws, strikes=st.integers(0, 200))
def test_any_hint_closes_it_for_a_finite_time_within_the_cap(hint: float | None, draw: float, strikes: int) -> None:
    closed = gate()
    closed.strikes = strikes
    opens = closed.close(100.0, hint, draw, "429")
    assert 100.0 + MIN_WAIT <= opens <= 400.0


class RateGateMachine(RuleBasedStateMachine):
    """Any mixture of refusals and answers."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = gate()
        self.now = 1000.0
        self.until = -math.inf
        self.refused_at = -math.inf

    @rule(seconds=st.floats(0.0, 400.0))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(hint=hints, draw=draws)
    def refused(self, hint: float | None, draw: float) -> None:
        opens = self.gate.close(self.now, hint, draw, "429")
        assert opens == self.gate.until >= self.until, "a gate is never shortened"
        assert opens > self.now
        self.refused_at = self.now

    @rule(ago=st.floats(0.0, 500.0))
    def answered(self, ago: float) -> None:
        started = self.now - ago
        self.gate.succeeded(started)
        if started <= self.refused_at:
            assert self.gate.until == self.until, "an answer to an earlier call proves nothing"

    @invariant()
    def it_opens_within_the_cap(self) -> None:
        assert self.gate.until <= self.now + 300.0
        self.until = self.gate.until


RateGateMachine.TestCase.settings = MACHINE
test_the_rate_gate_is_never_shortened_and_never_closed_beyond_its_cap = RateGateMachine.TestCase


# --- the slow gate ---


def test_only_a_wait_the_provider_stated_is_final() -> None:
    closed = slow()
    closed.close(0.0, None, 1.0, "auth")
    assert not closed.stated
    closed.close(100.0, 600.0, 1.0, "quota")
    assert closed.stated


def test_an_open_slow_gate_admits_everybody() -> None:
    open_gate = slow()
    open_gate.admitted(100.0, 60.0)
    assert open_gate.admits(100.0)


def test_the_same_fact_twice_doubles_the_wait_up_to_the_cap() -> None:
    closed, now, waits = slow(), 0.0, []
    for _ in range(8):
        opens = closed.close(now, None, 1.0, "auth")
        waits.append(opens - now)
        now = opens
    assert waits == pytest.approx([60, 120, 240, 480, 960, 1920, 3600, 3600])


def test_calls_already_on_their_way_do_not_make_it_worse() -> None:
    closed = slow()
    opens = [closed.close(100.0 + index, None, 1.0, "auth") for index in range(50)]
    assert set(opens) == {160.0}
    assert closed.strikes == 1


@pytest.mark.parametrize(
    ("hint", "wait"), [(None, 60), (5.0, 60), (600.0, 600), (1e9, 3600), (math.nan, 60), (-5.0, 60)]
)
def test_a_longer_hint_is_believed_up_to_the_cap_a_shorter_one_is_not(hint: float | None, wait: float) -> None:
    assert slow().close(0.0, hint, 1.0, "quota") == pytest.approx(wait)


def test_when_its_time_is_up_one_attempt_passes_and_the_others_wait_for_it() -> None:
    closed = slow()
    opens = closed.close(0.0, None, 0.0, "auth")
    assert not closed.admits(opens - 0.1)
    assert closed.admits(opens)
    closed.admitted(opens, 60.0)
    assert not closed.admits(opens + 1.0)
    assert closed.admits(opens + 60.0), "an attempt that never ends must not block the way back"


def test_an_attempt_that_proves_nothing_gives_its_place_back() -> None:
    closed = slow()
    opens = closed.close(0.0, None, 0.0, "auth")
    closed.admitted(opens, 60.0)
    closed.released()
    assert closed.admits(opens)
    assert closed.strikes


def test_an_answer_opens_it_and_forgets_why_it_was_closed() -> None:
    closed = slow()
    closed.close(0.0, None, 0.0, "auth")
    closed.open()
    assert closed.admits(0.0)
    assert not closed.strikes
    assert closed.reason == ""


def test_an_answer_after_a_refusal_shows_that_refusals_come_by_chance() -> None:
    gate = slow()
    gate.refused(10.0)
    gate.close(10.0, None, 0.0, "auth")
    gate.answered(9.0, 11.0)
    assert gate.strikes, "a call that was under way already shows nothing"
    assert not gate.by_chance(11.0)
    gate.answered(12.0, 13.0)
    assert not gate.strikes
    assert gate.by_chance(13.0)
    assert not gate.by_chance(73.0)


def test_while_answers_come_between_refusals_it_stays_so_however_long_they_take() -> None:
    gate = slow()
    gate.refused(0.0)
    gate.answered(1.0, 2.0)
    for number in range(100):
        gate.refused(2.0 + number)
        gate.answered(1.0 + number, 2.0 + number)
    assert gate.by_chance(160.0)


def test_ten_refusals_in_a_row_are_no_chance() -> None:
    gate = slow()
    gate.refused(0.0)
    gate.answered(1.0, 2.0)
    for _ in range(9):
        gate.refused(3.0)
    assert gate.by_chance(3.0)
    gate.refused(3.0)
    assert not gate.by_chance(3.0)
    assert gate.proven
    gate.open()
    assert not gate.proven


class SlowGateMachine(RuleBasedStateMachine):
    """Any mixture of attempts that pass, and what they find."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = slow()
        self.now = 1000.0
        self.expires = -math.inf
        self.out = False

    @rule(seconds=st.floats(0.0, 4000.0))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def attempt(self) -> None:
        if self.gate.admits(self.now):
            assert not (self.gate.strikes and self.out and self.now < self.expires), "one attempt at a time"
            self.gate.admitted(self.now, 60.0)
            self.out = bool(self.gate.strikes)
            self.expires = self.now + 60.0

    @rule(hint=hints, draw=draws)
    def refused(self, hint: float | None, draw: float) -> None:
        before = self.gate.until
        opens = self.gate.close(self.now, hint, draw, "quota")
        self.out = False
        assert opens >= before
        assert self.now < opens <= self.now + 3600.0
        assert not self.gate.admits(self.now)

    @rule()
    def no_verdict(self) -> None:
        self.gate.released()
        self.out = False

    @rule()
    def answered(self) -> None:
        self.gate.open()
        self.out = False
        assert self.gate.admits(self.now)

    @invariant()
    def it_always_opens_in_the_end(self) -> None:
        assert self.gate.admits(max(self.now, self.gate.until) + 60.0)


SlowGateMachine.TestCase.settings = MACHINE
test_the_slow_gate_lets_one_attempt_at_a_time_find_out = SlowGateMachine.TestCase
