"""Gates: obeyed for as long as asked, never shortened, and no judgement."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from resilient_llm.decide.gate import MIN_WAIT, RateGate, SlowGate
from resilient_llm.policy import Limits
from tests.decide.world import MACHINE, PROPERTY, Limit

draws = st.floats(0.0, 1.0, exclude_max=True)
hints = st.one_of(st.none(), st.floats(-10.0, 1e6), st.sampled_from([0.0, math.inf, -math.inf, math.nan]))


def gate() -> RateGate:
    return RateGate(Limits())


def slow() -> SlowGate:
    return SlowGate(Limits())


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
def test_without_a_hint_the_wait_doubles_with_every_strike(hint: float | None) -> None:
    closed, now, waits = gate(), 0.0, []
    for _ in range(8):
        opens = closed.close(now, hint, 0.5, "429")
        waits.append(opens - now)
        now = opens
    assert waits == [0.75, 1.5, 3.0, 6.0, 12.0, 24.0, 45.0, 45.0]


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
    assert set(opens) == {100.95}
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


@pytest.mark.parametrize("started", [99.0, 100.0])
def test_a_success_begun_before_it_closed_changes_nothing(started: float) -> None:
    closed = gate()
    closed.close(100.0, 30.0, 0.0, "429")
    closed.succeeded(started)
    assert closed.until == 130.0
    assert closed.strikes == 1


def test_the_last_request_of_a_window_closes_it_before_the_refusal() -> None:
    closed = gate()
    closed.learn(100.0, Limit(remaining=0, reset_in=20.0), None)
    assert closed.until == 120.0
    assert closed.strikes == 0, "nobody refused anything yet"


def test_a_limit_that_fills_up_gradually_is_waited_for_only_until_one_request_fits() -> None:
    closed = gate()
    closed.learn(100.0, Limit(limit=60, remaining=0, reset_in=60.0), None)
    assert closed.until == 101.0


@pytest.mark.parametrize(
    "requests", [None, Limit(), Limit(remaining=1, reset_in=20.0), Limit(remaining=0), Limit(limit=60, remaining=0)]
)
def test_headroom_or_no_word_about_a_reset_closes_nothing(requests: Limit | None) -> None:
    closed = gate()
    closed.learn(100.0, requests, None)
    assert closed.until == -math.inf


def test_a_reset_in_the_far_future_is_cut_to_the_cap() -> None:
    closed = gate()
    closed.learn(100.0, Limit(remaining=0, reset_in=1e9), Limit(remaining=5, reset_in=1e9))
    assert closed.until == 400.0
    assert closed.token_reset_at == 400.0


def test_only_calls_that_fit_into_the_reported_tokens_pass() -> None:
    closed = gate()
    assert closed.fits(100.0, 10**9), "nothing is known yet"
    closed.learn(100.0, None, Limit(limit=1000, remaining=50, reset_in=10.0))
    assert closed.fits(101.0, 50)
    assert not closed.fits(101.0, 51)
    assert closed.fits(110.0, 51), "the window is full again"


@pytest.mark.parametrize("tokens", [Limit(), Limit(limit=100, reset_in=5.0)])
def test_tokens_nobody_counted_restrict_nothing(tokens: Limit) -> None:
    closed = gate()
    closed.learn(100.0, None, tokens)
    assert closed.fits(100.0, 10**9)


def test_tokens_without_a_reset_restrict_nothing() -> None:
    closed = gate()
    closed.learn(100.0, None, Limit(remaining=0))
    assert closed.fits(100.0, 10)


@PROPERTY
@given(hint=hints, draw=draws, strikes=st.integers(0, 200))
def test_any_hint_closes_it_for_a_finite_time_within_the_cap(hint: float | None, draw: float, strikes: int) -> None:
    closed = gate()
    closed.strikes = strikes
    opens = closed.close(100.0, hint, draw, "429")
    assert 100.0 + MIN_WAIT <= opens <= 400.0


class RateGateMachine(RuleBasedStateMachine):
    """Any mixture of refusals, reports and answers."""

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

    @rule(remaining=st.integers(0, 2), reset=st.one_of(st.none(), st.floats(0.0, 1e6)))
    def reported(self, remaining: int, reset: float | None) -> None:
        self.gate.learn(
            self.now, Limit(remaining=remaining, reset_in=reset), Limit(remaining=remaining, reset_in=reset)
        )
        assert self.gate.until >= self.until

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


def test_an_open_slow_gate_admits_everybody() -> None:
    open_gate = slow()
    open_gate.admitted(100.0, 60.0)
    assert open_gate.admits(100.0)
    assert not open_gate.closed


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
    assert closed.closed


def test_an_answer_opens_it_and_forgets_why_it_was_closed() -> None:
    closed = slow()
    closed.close(0.0, None, 0.0, "auth")
    closed.succeeded()
    assert closed.admits(0.0)
    assert not closed.closed
    assert closed.reason == ""


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
            assert not (self.gate.closed and self.out and self.now < self.expires), "one attempt at a time"
            self.gate.admitted(self.now, 60.0)
            self.out = self.gate.closed
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
        self.gate.succeeded()
        self.out = False
        assert self.gate.admits(self.now)

    @invariant()
    def it_always_opens_in_the_end(self) -> None:
        assert self.gate.admits(max(self.now, self.gate.until) + 60.0)


SlowGateMachine.TestCase.settings = MACHINE
test_the_slow_gate_lets_one_attempt_at_a_time_find_out = SlowGateMachine.TestCase
