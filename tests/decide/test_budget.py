"""Budgets: never negative, never above the cap, and no more spent than earned."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_llm import events
from resilient_llm.decide.attempt import Attempt
from resilient_llm.decide.budget import Budget
from resilient_llm.decide.call import Call, Wait
from resilient_llm.errors import FaultKind
from resilient_llm.policy import Hedge, Retry
from tests.decide.driver import DOWN, FAILS, Act, Driver, down, well
from tests.decide.world import PROPERTY, Target, World


def test_an_empty_budget_spends_nothing() -> None:
    budget = Budget(10.0, 0.0, 0.0)
    assert not budget.spend()
    assert budget.tokens == 0.0


def test_ten_times_a_tenth_makes_one_whole_token() -> None:
    budget = Budget(10.0, 0.0, 0.0)
    for _ in range(10):
        assert not budget.spend()
        budget.earn(0.1)
    assert budget.spend()
    assert not budget.spend()
    assert budget.tokens == pytest.approx(0.0, abs=1e-9)


def test_what_is_to_be_kept_is_not_there_to_be_spent() -> None:
    budget = Budget(2.0, 2.0, 0.0)
    assert not budget.spend(1.0, keep=1.5)
    assert budget.spend(1.0, keep=1.0)


def test_savings_stop_at_the_cap() -> None:
    budget = Budget(2.0, 5.0, 0.0)
    assert budget.tokens == 2.0
    budget.earn(0.5)
    assert budget.tokens == 2.0


def test_time_alone_earns() -> None:
    budget = Budget(2.0, 0.0, 0.5)
    budget.advance(1000.0)
    assert not budget.spend(), "the first look only starts the clock"
    budget.advance(1001.0)
    assert budget.wait(1.0) == pytest.approx(1.0)
    budget.advance(1002.0)
    assert budget.wait(1.0) == 0.0
    assert budget.spend()
    budget.advance(1e9)
    assert budget.tokens == 2.0


def test_a_clock_that_steps_back_earns_no_time_twice() -> None:
    budget = Budget(2.0, 0.0, 0.01)
    for now in (0.0, 50.0, 0.0, 50.0, 0.0, 50.0):
        budget.advance(now)
    assert budget.tokens == pytest.approx(0.5)


@PROPERTY
@given(
    cap=st.floats(0.0, 20.0),
    initial=st.floats(0.0, 20.0),
    steps=st.lists(st.one_of(st.none(), st.floats(0.0, 1.0)), max_size=200),
)
def test_spending_never_exceeds_savings_and_earnings(cap: float, initial: float, steps: list[float | None]) -> None:
    budget = Budget(cap, initial, 0.0)
    earned = spent = 0.0
    for step in steps:
        if step is None:
            spent += budget.spend()
        else:
            earned += step
            budget.earn(step)
        assert 0.0 <= budget.tokens <= cap
    assert spent <= min(initial, cap) + earned + 1e-3


# --- the two budgets of a process ---


def second_tries(kind: FaultKind, **detail: object) -> int:
    """How many calls may ask the same provider once more at the same moment."""
    world = World("a", retry=Retry(budget=10.0))
    world.answer("a")  # the clock of the budget runs
    calls = [world.call() for _ in range(60)]
    for attempt in [world.start(call) for call in calls]:
        world.fail(attempt, kind, **detail)
    world.pool.operate("a", "restore", world.now)
    for call in calls:
        world.told_to_wait(call)
    world.now += 0.5
    before = world.pool._leases.extra.tokens
    assert before == 10.0
    begun = 0
    for call in calls:
        step = call.next_attempt(world.now)
        begun += isinstance(step, Attempt)
    return begun


def test_a_second_try_after_an_overload_costs_one_and_after_a_plain_failure_a_quarter() -> None:
    assert second_tries(FaultKind.SERVER_ERROR, status=500) == 40
    assert second_tries(FaultKind.SERVER_ERROR, status=503) == 10
    assert second_tries(FaultKind.CONFLICT, status=429) == 10


def short_of_budget() -> tuple[World, Call[Target]]:
    """A call whose second try cannot be paid for, after its pause."""
    world = World("a", retry=Retry(budget=1.0))
    call = world.call(timeout=120.0)
    world.fail(world.start(call), FaultKind.OVERLOADED)
    assert world.wait(call).reason == "backoff"
    extra = world.pool._leases.extra
    extra.tokens = 0.0
    extra.advance(world.now)
    return world, call


def test_who_cannot_pay_waits_for_the_floor() -> None:
    world, call = short_of_budget()
    began = world.now
    while isinstance(step := call.next_attempt(world.now), Wait):
        assert step.reason == "budget"
        world.now += step.seconds
    assert step.kind == "retry"
    assert world.now - began == pytest.approx(1.0 / world.pool._leases.extra.per_second, abs=1.1)


def test_who_cannot_pay_goes_on_soon_after_others_were_answered() -> None:
    world, call = short_of_budget()
    world.answer("a")
    waited = 0.0
    while isinstance(step := call.next_attempt(world.now), Wait):
        waited += step.seconds
        world.now += step.seconds
    assert waited <= 1.0


def test_moving_to_a_provider_that_is_well_is_free() -> None:
    world = World("a", "b")
    calls = [world.call() for _ in range(100)]
    attempts = [world.start(call) for call in calls]
    before = world.pool._leases.extra.tokens
    for call, attempt in zip(calls, attempts, strict=True):
        if attempt.target.id == "a":
            world.fail(attempt, FaultKind.CONFLICT)
            assert world.start(call).target.id == "b"
    assert world.pool._leases.extra.tokens == before


def test_a_success_earns_second_tries_up_to_the_cap() -> None:
    world = World("a")
    extra = world.pool._leases.extra
    extra.tokens = 3.0
    world.answer("a")
    assert 4.0 <= extra.tokens <= 6.0
    world.answer("a", times=10)
    assert extra.tokens == extra.cap == 10.0


def test_from_ten_calls_a_second_on_trials_cost_at_most_a_twentieth() -> None:
    """A provider that refuses everything for a minute; the calls themselves are answered by the other one."""
    driver = Driver({"a": down(1e9), "b": well()})
    runs = driver.calls(rate=20.0, seconds=60.0)
    trials = [attempt for _, _, attempt in driver.requests if attempt.kind == "trial"]
    assert all(run.answered for run in runs)
    assert 0 < len(trials) <= 0.05 * len(runs) + 3


def test_trials_stay_within_their_share_though_some_are_answered() -> None:
    """Half broken: a success makes the next call a trial, which must not become a way around the share."""
    driver = Driver({"a": lambda now, attempt: Act(0.05, FAILS if len(driver.requests) % 2 else None), "b": well()})
    runs = driver.calls(rate=20.0, seconds=120.0)
    asked = driver.asked("a", since=20.0)
    assert all(run.answered for run in runs)
    assert len(asked) <= 0.05 * 20.0 * 100.0 + 13


def test_at_a_low_rate_every_interval_has_its_trial() -> None:
    driver = Driver({"a": down(200.0, fault=DOWN), "b": well()})
    driver.calls(rate=0.2, seconds=300.0)
    trials = [when for when, who, attempt in driver.requests if who == "a" and attempt.kind == "trial"]
    assert len([when for when in trials if when < 200.0]) >= 8
    assert max(later - sooner for sooner, later in pairwise(trials)) <= 25.0


def test_rescues_are_a_share_of_calls_and_trials_have_their_own() -> None:
    world = World("a", "b")
    world.answer("a", times=31, first=0.8)
    leases = world.pool._leases
    firsts = [world.start(streaming=True) for _ in range(100)]
    world.now += 0.8
    world.speak(world.start(only="a", streaming=True))  # the provider is slow, not silent
    leases.hedges.tokens, before = 5.0, leases.trials.tokens
    world.now += 0.8
    rescued = [world.rescue(first) for first in firsts]
    assert len([one for one in rescued if one is not None]) == 5
    assert leases.trials.tokens == before
    told = world.events(events.NotTaken)
    assert not told, "nobody listens"
    world.pool.listen(True)
    world.rescue(world.start(streaming=True, timeout=60.0), after=1.6)
    assert [(event.what, event.reason) for event in world.events(events.NotTaken)] == [("hedge", "budget")]


def test_a_hundred_calls_earn_five_rescues() -> None:
    world = World("a", "b", hedge=Hedge(ratio=0.05))
    leases = world.pool._leases
    leases.hedges.tokens = leases.trials.tokens = 0.0
    for _ in range(100):
        world.start()
    assert leases.hedges.tokens == leases.trials.tokens == pytest.approx(5.0)
    world.now += 5.0
    world.start()
    assert leases.hedges.tokens == pytest.approx(5.05)
    assert leases.trials.tokens == pytest.approx(6.0), "time earns trials, as if four calls a second had come"
    leases.hedges.tokens = leases.trials.tokens = 10.0
    world.start()
    assert leases.hedges.tokens == leases.trials.tokens == 10.0
