"""Reports of other processes: they make this one more careful, for a while, and never fail a call."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_llm.decide.heard import CHECK, DEAF
from resilient_llm.decide.keys import Refusal
from tests.decide.driver import ANSWER, DOWN, Act, Driver, Run, well
from tests.decide.world import PROPERTY, World


def two(**policies: object) -> Driver:
    return Driver({"a": well(), "b": well()}, **policies)


def ask_for(driver: Driver, seconds: float, rate: float = 4.0) -> list[Run]:
    """Calls at a steady rate, without running ahead to their deadlines."""
    runs: list[Run] = []
    for _ in range(round(seconds * rate)):
        runs.append(driver.begin(driver.now))
        driver.run(driver.now + 1.0 / rate)
    return runs


def test_a_reported_provider_gives_way_to_another_until_the_report_ends() -> None:
    driver = two()
    driver.pool.hint("a", driver.now, seconds=10.0)
    assert {run.by for run in ask_for(driver, 9.5)} == {"b"}
    driver.run(10.1)
    assert driver.one().by == "a"


def test_it_is_asked_where_nobody_else_is_there() -> None:
    for others in ({}, {"b": lambda now, attempt: Act(0.1, DOWN)}):
        driver = Driver({"a": well(), **others})
        driver.pool.hint("a", driver.now, seconds=10.0)
        run = driver.one()
        assert (run.by, run.took <= 0.31) == ("a", True), "at once"


def test_a_report_that_it_is_over_brings_the_traffic_back() -> None:
    driver = two()
    driver.pool.hint("a", driver.now, seconds=30.0)
    assert ask_for(driver, 1.0)[-1].by == "b"
    driver.pool.hint_over("a", driver.now)
    assert driver.one().by == "a"


def test_now_and_then_a_call_finds_out_for_itself_and_an_answer_makes_deaf() -> None:
    driver = two()
    while driver.now < 30.0:  # a liar that never stops
        driver.pool.hint("a", driver.now, seconds=20.0)
        ask_for(driver, 1.0)
    first = driver.asked("a")[0]
    assert CHECK <= first <= 1.25 * CHECK + 0.5
    assert len(driver.asked("b", since=first + 0.1)) == 0, "it answered: reports are not believed"
    driver.run(first + DEAF + 1.0)
    driver.pool.hint("a", driver.now, seconds=20.0)
    assert driver.one().by == "b", "until a minute later"


def test_of_a_provider_that_is_down_a_call_finds_out_once_in_fifteen_seconds() -> None:
    driver = Driver({"a": lambda now, attempt: Act(0.05, DOWN), "b": well()})
    while driver.now < 60.0:
        driver.pool.hint("a", driver.now, seconds=5.0)
        ask_for(driver, 1.0)
    assert 3 <= len(driver.asked("a")) <= 4
    assert {run.end for run in driver.runs} == {"answered"}


def test_trials_wait_while_another_process_makes_them() -> None:
    driver = Driver({"a": lambda now, attempt: Act(0.05, DOWN), "b": well()})
    ask_for(driver, 5.0)
    seen = len(driver.asked("a"))
    began = driver.now
    while driver.now < began + CHECK - 1.0:
        driver.pool.hint("a", driver.now, seconds=3.0)
        ask_for(driver, 1.0)
    assert len(driver.asked("a")) == seen
    driver.pool.hint_over("a", driver.now)
    ask_for(driver, 1.0)
    assert len(driver.asked("a")) > seen, "without reports its own trial is due"


@pytest.mark.parametrize("timeout", [0.5, 10.0])
def test_a_call_with_nobody_else_waits_for_no_report(timeout: float) -> None:
    driver = Driver({"a": well()})
    driver.pool.hint("a", driver.now, seconds=3.0)
    runs = [driver.begin(driver.now, timeout), driver.begin(driver.now, timeout)]
    driver.run()
    assert [run.by for run in runs] == ["a", "a"]
    assert all(run.took <= 0.21 for run in runs)


@PROPERTY
@given(
    reports=st.lists(st.tuples(st.sampled_from("ab"), st.floats(allow_nan=True), st.booleans()), max_size=30),
    timeout=st.floats(0.5, 40.0),
)
def test_no_report_fails_a_call_or_delays_it_beyond_its_bound(
    reports: list[tuple[str, float, bool]], timeout: float
) -> None:
    driver = two()
    for provider, seconds, over in reports:
        if over:
            driver.pool.hint_over(provider, driver.now)
        driver.pool.hint(provider, driver.now, seconds=seconds)
        driver.run(driver.now + 0.5)
    run = driver.one(timeout)
    assert run.end == "answered"
    assert run.took <= 0.5
    assert driver.spins == 0


def test_reports_say_so_in_explain_and_change_nobodys_health() -> None:
    world = World("a", "b")
    before = world.pool.snapshot(world.now)
    world.pool.hint("a", world.now, seconds=10.0)
    world.pool.hint("nobody", world.now, seconds=10.0)
    world.pool.hint_over("nobody", world.now)
    assert world.pool.snapshot(world.now) == before
    (_, why), (_, other) = world.pool.explain(world.ask(), world.now)
    assert why is not None
    assert why.startswith(Refusal.HEARD.value)
    assert other is None
    world.pool.operate("a", "restore", world.now)
    assert [why for _, why in world.pool.explain(world.ask(), world.now)] == [None, None]


def test_an_answer_to_a_question_asked_before_the_report_proves_nothing() -> None:
    driver = Driver({"a": lambda now, attempt: Act(2.0) if now < 0.5 else ANSWER, "b": well()})
    driver.begin(0.0)
    driver.run(1.0)
    driver.pool.hint("a", driver.now, seconds=10.0)
    driver.run(3.0)
    assert driver.one().by == "b"
