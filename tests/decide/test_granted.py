"""A limit that is granted from outside: what is taken is granted before, or owed."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_llm.decide.granted import SILENCE, Granted
from resilient_llm.decide.pace import Meter, Pace
from resilient_llm.policy import Rate
from tests.decide.world import PROPERTY

REQUESTS = Rate(amount=60.0, per=60.0, unit="requests")
TOKENS = Rate(amount=10_000.0, per=60.0, unit="tokens")


def told(rate: Rate = REQUESTS, units: float = 0.0, share: float = 0.25) -> Granted:
    """One that was granted so much at second 0."""
    meter = Granted(rate)
    meter.grant(units, share, 0.0, short=False)
    return meter


def fits(meter: Granted, cost: float = 1.0, now: float = 0.0, keep: float = 0.0) -> bool:
    return meter.fits_at(cost, now, keep) <= now


def test_what_was_granted_can_be_taken_and_no_more() -> None:
    meter = told(units=2.0)
    for _ in range(2):
        assert fits(meter)
        meter.take(1.0, 0.0)
    assert not fits(meter)
    assert not fits(meter, now=SILENCE), "time alone gives nothing while others are heard of"
    assert meter.fits_at(1.0, 0.1, 0.0) == pytest.approx(1.1), "expected at the rate of the whole limit"
    meter.grant(0.0, 0.25, 0.1, short=True)
    assert meter.fits_at(1.0, 0.1, 0.0) == pytest.approx(4.1), "and at our share's where all want more"


def test_a_new_process_may_begin_before_it_has_heard_anything_and_owes_that() -> None:
    meter = Granted(REQUESTS)
    for _ in range(3):
        assert fits(meter)
        meter.take(1.0, 0.0)
    assert not fits(meter)
    assert meter.level == -3.0
    meter.grant(3.0, 0.25, 0.1, short=False)
    assert not fits(meter, now=0.1), "its debt is paid, and that is all"


def test_a_process_on_its_own_goes_by_its_share_and_owes_what_it_takes() -> None:
    meter = told()
    meter.alone(0.0)
    taken = 0
    for second in range(1, 241):
        while fits(meter, now=float(second)):
            meter.take(1.0, float(second))
            taken += 1
    assert taken == 60, "a quarter of one a second"
    assert meter.level == -60.0, "and no debt is larger than the limit"
    meter.grant(60.0, 0.25, 240.0, short=False)
    assert meter.level == 0.0


def test_who_is_silent_for_half_a_second_is_gone() -> None:
    meter = told()
    assert not fits(meter, now=SILENCE + 3.9)
    assert fits(meter, now=SILENCE + 4.0)


def test_nobody_starves_where_others_or_a_hostile_store_leave_nothing() -> None:
    meter = told()
    taken = 0
    for quarter in range(4 * 180):
        now = quarter / 4.0
        if fits(meter, now=now):
            meter.take(1.0, now)
            taken += 1
        meter.grant(0.0, 0.25, now, short=True)
    assert taken == pytest.approx(0.25 * 120, abs=1.0), "after a window its share, a quarter of one a second"
    assert meter.level == -taken, "and all of it is owed"


def test_what_is_wanted_follows_what_is_used_and_missed() -> None:
    meter = told()
    assert meter.wanted(0, 0.0) == (0, 0)
    assert not fits(meter)
    assert meter.wanted(3, 0.1) == (1, 3), "three wait for it"
    meter.grant(3.0, 0.25, 0.1, short=False)
    for _ in range(3):
        meter.take(1.0, 0.1)
    assert meter.wanted(0, 0.1) == (1, 1), "there is to be one for the next call"
    assert meter.wanted(0, 60.0) == (0, 0), "and for an idle process nothing is held"


def test_surplus_goes_back_in_whole_requests() -> None:
    meter = told(units=7.0)
    assert meter.surplus(2.5, 0.0) == 4.0
    assert meter.level == 3.0
    assert told(TOKENS, units=700.0).surplus(0.5, 0.0) == 699.5


def test_batches_leave_something_for_those_who_are_waited_for() -> None:
    assert not fits(told(units=1.0), keep=0.1)
    assert fits(told(units=2.0), keep=0.1)
    assert fits(told(Rate(amount=1.0, per=1.0, unit="requests"), units=1.0), keep=0.1), "unless the limit is one"


def test_tokens_are_settled_with_what_was_used() -> None:
    pace = Pace([TOKENS], 60.0)
    meters: list[Granted] = []

    def bucket(rate: Rate) -> Meter:
        meters.append(Granted(rate))
        return meters[-1]

    pace.share(bucket, [TOKENS])
    [meter] = meters
    meter.grant(1000.0, 0.25, 0.0, short=False)
    pace.reserve(600.0, 0, 0.0)
    assert pace.left(0.0) == (None, 400.0)
    pace.settle(600.0, 100, 1200, 500)
    assert meter.level == -200.0
    assert pace.left(0.0) == (None, 0.0)
    pace.open()
    assert meter.level == -200.0, "an operator cannot give away what is others' as well"
    pace.reset_after_fork()
    assert (meter.level, meter.credit) == (0.0, 500.0), "what is in stock is the parent's"
    pace.share(None, [TOKENS])
    assert pace.left(0.0) == (None, 10_000.0)


STEPS = st.lists(
    st.tuples(st.sampled_from(["call", "grant", "alone", "back"]), st.floats(0.0, 30.0), st.integers(0, 20)),
    max_size=60,
)


@PROPERTY
@given(STEPS)
def test_nobody_takes_more_than_was_granted_and_the_own_share_allows(steps: list[tuple[str, float, int]]) -> None:
    meter, now = Granted(REQUESTS), 0.0
    meter.share = 0.25
    granted, taken, most = 0.0, 0, meter.credit
    for step, wait, units in steps:
        now += wait
        if step == "grant":
            meter.grant(float(units), 0.25, now, short=bool(units % 2))
            granted += units
        elif step == "alone":
            meter.alone(now)
        elif step == "back":
            granted -= meter.surplus(float(units), now)
        elif fits(meter, now=now):
            meter.take(1.0, now)
            taken += 1
        assert math.isfinite(meter.level)
        assert taken <= granted + most + 0.25 * now + 1e-6
        assert meter.credit <= max(most, 15.0)
