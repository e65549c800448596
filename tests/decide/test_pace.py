"""Pace: what one key may take, declared, reported or learnt; and what comes of it for many callers."""

from __future__ import annotations

import math
import random
from statistics import mean
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_llm.decide.attempt import Attempt
from resilient_llm.decide.call import Wait
from resilient_llm.decide.line import PASSED
from resilient_llm.decide.meters import Learnt
from resilient_llm.decide.pace import Pace
from resilient_llm.decide.refusals import Sent
from resilient_llm.errors import Fault, FaultKind, NoProviderAvailable
from resilient_llm.policy import Rate
from tests.decide.crowd import Crowd, Server
from tests.decide.driver import Act, Driver
from tests.decide.world import PROPERTY, Limit, Target, World, fault

MINUTE = Rate(amount=60, per=60.0, unit="requests")
TOKENS = Rate(amount=6000, per=60.0, unit="tokens")


def pace(*rates: Rate) -> Pace:
    return Pace(rates, 300.0)


def answered(it: Pace, sent: Sent, now: float, need: float = 0.0, **limits: Limit) -> None:
    """The head of an answer told these limits."""
    it.heard(need)
    it.report(limits.get("requests"), sent, now, tokens=False)
    it.report(limits.get("tokens"), sent, now, tokens=True)


# --- declared ---


def test_without_any_limit_everything_fits() -> None:
    it = pace()
    for _ in range(1000):
        it.reserve(10_000.0, 0, 100.0)
    assert not it.limited
    assert it.fits_at(1e9, 100.0) <= 100.0
    assert it.left(100.0) == (None, None)


def test_a_declared_limit_is_a_bucket() -> None:
    it = pace(MINUTE)
    for _ in range(60):
        assert it.fits_at(1.0, 100.0) <= 100.0
        it.reserve(1.0, 0, 100.0)
    assert it.fits_at(1.0, 100.0) == pytest.approx(101.0)
    assert it.fits_at(1.0, 100.0, ahead=2) == pytest.approx(103.0)
    assert it.fits_at(1.0, 101.0) <= 101.0


def test_who_comes_after_others_waits_for_them_even_at_a_limit_that_is_full() -> None:
    it = pace(MINUTE)
    assert it.fits_at(1.0, 100.0, ahead=59) <= 100.0
    assert it.fits_at(1.0, 100.0, ahead=60) == pytest.approx(101.0)
    assert it.fits_at(1.0, 100.0, ahead=660) == pytest.approx(701.0), "also beyond the window, and the longest wait"


def test_others_ahead_are_reckoned_with_as_calls_of_the_usual_size() -> None:
    it = pace(TOKENS)
    for _ in range(60):
        it.reserve(100.0, 0, 100.0)
    assert it.fits_at(1000.0, 160.0, ahead=10) <= 160.0
    assert it.fits_at(5500.0, 160.0, ahead=10) == pytest.approx(165.0)


def test_tokens_are_reserved_and_settled() -> None:
    it = pace(TOKENS)
    it.reserve(5000.0, 0, 100.0)
    assert it.fits_at(2000.0, 100.0) == pytest.approx(110.0)
    it.settle(5000.0, 1000, 1500, 500)
    assert it.fits_at(2000.0, 100.0) <= 100.0
    assert it.left(100.0) == (None, 4500.0)


def test_the_usual_answer_and_what_was_counted_for_prompts_are_learnt() -> None:
    it = pace(TOKENS)
    assert it.need(1000, 4096) == 1000.0
    for _ in range(100):
        it.settle(0.0, 1000, 2000 + 200, 200)
    assert it.need(1000, 4096) == pytest.approx(2200.0, rel=0.01)
    assert it.need(1000, 50) == pytest.approx(2050.0, rel=0.01), "no answer is longer than it may be"


def test_what_is_larger_than_the_whole_limit_waits_until_it_is_full_and_goes() -> None:
    it = pace(TOKENS)
    it.reserve(6000.0, 0, 100.0)
    assert it.fits_at(1e9, 100.0) == pytest.approx(160.0)


def test_a_share_is_kept_for_others() -> None:
    it = pace(MINUTE)
    for _ in range(54):
        it.reserve(0.0, 0, 100.0)
    assert it.fits_at(0.0, 100.0) <= 100.0
    assert it.fits_at(0.0, 100.0, keep=0.1) == pytest.approx(101.0)


@PROPERTY
@given(
    amount=st.floats(0.1, 1e6),
    per=st.sampled_from([1.0, 60.0, 86400.0]),
    costs=st.lists(st.floats(0.0, 1e7), max_size=30),
)
def test_nothing_is_shut_for_longer_than_the_window(amount: float, per: float, costs: list[float]) -> None:
    it = Pace([Rate(amount=amount, per=per, unit="tokens")], 1e9)
    for cost in costs:
        it.reserve(cost, 0, 100.0)
    assert it.fits_at(1e9, 100.0, keep=0.5) <= 100.0 + per * 1.001


# --- reported ---


def test_a_reported_limit_counts_down_with_what_is_sent() -> None:
    it = pace()
    sent = it.reserve(0.0, 0, 100.0)
    answered(it, sent, 100.0, requests=Limit(60, 2, 58.0))
    assert it.fits_at(0.0, 100.0) <= 100.0
    it.reserve(0.0, 0, 100.0)
    it.reserve(0.0, 0, 100.0)
    assert it.fits_at(0.0, 100.0) == pytest.approx(101.0), "60 in 60 s"


def test_calls_under_way_count_before_the_provider_tells_of_them() -> None:
    it = pace()
    first = it.reserve(0.0, 0, 100.0)
    for _ in range(9):
        it.reserve(0.0, 0, 100.0)
    answered(it, first, 100.0, requests=Limit(60, 10, 50.0))
    assert it.left(100.0)[0] == pytest.approx(1.0)


def test_what_was_not_used_is_given_back_to_a_declared_limit_and_not_to_a_reported_one() -> None:
    """Many providers count the estimate."""
    it = pace(TOKENS)
    sent = it.reserve(3000.0, 0, 100.0)
    answered(it, sent, 100.0, 3000.0, tokens=Limit(10_000, 1000, 9.0))
    it.settle(3000.0, 1000, 1200, 200)
    assert it.left(100.0)[1] == pytest.approx(1000.0)
    assert it.fits_at(1000.0, 100.0) <= 100.0
    it.open()
    it.reserve(5000.0, 0, 200.0)
    it.settle(5000.0, 1000, 1200, 200)
    assert it.left(200.0)[1] == pytest.approx(4800.0)


def test_others_who_use_the_key_are_noticed() -> None:
    it = pace()
    answered(it, it.reserve(0.0, 0, 100.0), 100.0, requests=Limit(600, 500, 10.0))
    assert it.fits_at(0.0, 100.0) <= 100.0
    answered(it, it.reserve(0.0, 0, 101.0), 101.0, requests=Limit(600, 0, 60.0))
    assert it.fits_at(0.0, 101.0) == pytest.approx(101.1)


def test_a_window_that_starts_anew_is_used_at_the_rate_of_its_whole() -> None:
    """The time until it is whole again says little when the window is nearly over."""
    it = pace()
    answered(it, it.reserve(0.0, 0, 100.0), 100.0, requests=Limit(60, 59, 60.0))
    answered(it, it.reserve(0.0, 0, 150.0), 150.0, requests=Limit(60, 0, 10.0))
    assert it.fits_at(0.0, 150.0) == pytest.approx(151.0)


def test_a_rest_into_which_no_call_fits_is_no_reason_to_send_faster() -> None:
    """2,000 tokens that are full again in 4 s: half a call is always left of them where calls take 1,000."""
    it = pace()
    answered(it, it.reserve(1000.0, 0, 100.0), 100.0, 1000.0, tokens=Limit(2000, 0, 4.0))
    sent = it.reserve(1000.0, 0, 102.0)
    answered(it, sent, 103.0, 1000.0, tokens=Limit(2000, 500, 3.0))
    assert it.fits_at(1000.0, 103.0) == pytest.approx(104.0)


@pytest.mark.parametrize(
    "told",
    [
        None,
        Limit(),
        Limit(limit=100, reset_in=5.0),
        Limit(remaining=0),
        Limit(limit=100, remaining=0),
        Limit(limit=100, remaining=100, reset_in=5.0),
        Limit(limit=100, remaining=0, reset_in=0.0),
    ],
)
def test_a_limit_that_cannot_be_reckoned_with_restricts_nothing(told: Limit | None) -> None:
    it = pace()
    sent = it.reserve(5.0, 0, 100.0)
    it.report(told, sent, 100.0, tokens=True)
    it.report(told, sent, 100.0, tokens=False)
    assert not it.limited


def test_the_last_request_of_a_window_without_a_limit_waits_for_its_end() -> None:
    it = pace()
    answered(it, it.reserve(0.0, 0, 100.0), 100.0, requests=Limit(remaining=0, reset_in=20.0))
    assert it.fits_at(0.0, 100.0) == pytest.approx(120.0)
    for _ in range(50):
        assert it.fits_at(0.0, 120.0) <= 120.0, "nobody told how many there are in all"
        it.reserve(0.0, 0, 120.0)
    assert not it.limited


@pytest.mark.parametrize("remaining", [5900, 0])
def test_a_reported_limit_lifts_a_declared_one_to_twice_of_it_while_enough_is_left(remaining: int) -> None:
    it = pace(MINUTE)
    for _ in range(60):
        sent = it.reserve(0.0, 0, 100.0)
        it.heard(0.0)
    it.report(Limit(6000, remaining, 60.0), sent, 100.0, tokens=False)
    assert it.fits_at(0.0, 100.0) == pytest.approx(100.5 if remaining else 101.0)
    it.report(Limit(6000, 100, 60.0), sent, 101.0, tokens=False)
    it.reserve(0.0, 0, 101.0)
    assert it.fits_at(0.0, 101.0, ahead=1) >= 101.9, "and no longer than that"


def test_what_lifted_a_declared_limit_is_forgotten_with_it() -> None:
    it = pace(MINUTE)
    answered(it, it.reserve(0.0, 0, 100.0), 100.0, requests=Limit(60, 40, 20.0))
    answered(it, it.reserve(0.0, 0, 101.0), 101.0, requests=Limit(remaining=40, reset_in=20.0))
    for _ in range(60):
        it.reserve(0.0, 0, 130.0)
    assert it.fits_at(0.0, 130.0) == pytest.approx(131.0), "one a second, as declared"


def test_a_reported_limit_of_a_minute_does_not_lift_a_declared_one_of_a_day() -> None:
    it = pace(Rate(amount=86_400, per=86_400.0, unit="requests"))
    for _ in range(86_400):
        sent = it.reserve(0.0, 0, 100.0)
        it.heard(0.0)
    it.report(Limit(6000, 3000, 30.0), sent, 100.0, tokens=False)
    assert it.fits_at(0.0, 100.0) == pytest.approx(101.0)


def test_a_declaration_of_half_of_what_there_is_costs_little_where_the_limit_is_told() -> None:
    rate = Rate(amount=50, per=1.0, unit="requests")
    crowd = Crowd({"a": Server({"requests": 100, "per": 1.0})}, Target("a", rates=(rate,)))
    crowd.work(50, 500)
    crowd.all()
    assert not crowd.lost
    assert crowd.seconds <= 0.75 * (500 - 50) / 50


# --- refused ---


def met(it: Pace, sent: Sent, opens: float, now: float) -> None:
    """A call was refused."""
    explained = it.explains(sent[0], now)
    if not it.refused(sent, opens, now, explained=explained):
        it.shut(sent, opens, now, explained=explained)


def refuse(it: Pace, count: int, now: float, opens: float) -> None:
    sents = [it.reserve(0.0, 0, now) for _ in range(count)]
    for sent in sents:
        it.heard(0.0)
        met(it, sent, opens, now + 0.01)


def passes(it: Pace, now: float) -> None:
    """A call is sent, and is let through."""
    it.let_through(it.reserve(0.0, 0, now), now)


def test_after_a_refusal_one_goes_first_and_until_it_is_let_through_few_follow() -> None:
    it = pace()
    refuse(it, 1, 100.0, 101.0)
    assert it.fits_at(0.0, 101.0) == 101.0
    sent = it.reserve(0.0, 0, 101.0)
    assert it.fits_at(0.0, 101.0) == pytest.approx(101.7)
    it.let_through(sent, sent[1])
    assert it.fits_at(0.0, 101.0) <= 101.0
    assert not it.limited, "one refusal proves no limit"


def test_of_many_refused_together_a_rate_is_learnt_from_what_got_through() -> None:
    it = pace()
    for _ in range(80):
        it.heard(0.0)
        it.reserve(0.0, 0, 100.0)
    refuse(it, 20, 100.1, 101.0)
    sent = it.reserve(0.0, 0, 101.0)
    it.let_through(sent, sent[1])
    gaps, now = [], 101.0
    for _ in range(200):
        fits = max(now, it.fits_at(0.0, now))
        gaps.append(fits - now)
        now = fits
        it.reserve(0.0, 0, now)
    assert 199 / (now - 101.0) == pytest.approx(100.0, rel=0.3), "80 in a second and a little more, and growing"
    assert it.fits_at(0.0, now, by=it.stated(doubted=False)) == -math.inf, (
        "which is a guess, and no reason to refuse a call"
    )


def test_where_nothing_got_through_no_rate_is_learnt() -> None:
    it = pace()
    refuse(it, 20, 100.0, 101.0)
    passes(it, 101.0)
    assert not it.limited


def sent_in(it: Pace, start: float, seconds: float) -> int:
    """How many calls a rush sends in a time."""
    count, now = 0, start
    while (now := max(now, it.fits_at(0.0, now))) < start + seconds:
        it.heard(0.0)
        it.reserve(0.0, 0, now)
        count += 1
    return count


def rushed(count: int = 80) -> Pace:
    """So many got through at 100.0, twenty more were refused, and a second later one was let through."""
    it = pace()
    for _ in range(count):
        it.reserve(0.0, 0, 100.0)
        it.heard(0.0)
    refuse(it, 20, 100.1, 101.2)
    passes(it, 101.2)
    return it


def test_no_more_is_sent_than_got_through_and_after_ten_windows_slowly_more() -> None:
    it = rushed()
    sent = [sent_in(it, 101.2 + second, 1.0) for second in range(16)]
    assert 70 <= min(sent[:9]) <= max(sent[:9]) <= 80
    assert 80 < sent[-1] <= 100


@pytest.mark.parametrize("answered", [True, False])
def test_a_long_row_of_refusals_that_comes_again_shows_a_limit_only_if_calls_were_answered(answered: bool) -> None:
    """Where a failure ended the row, nothing got through, and what seems a limit is an outage."""
    it = pace()
    met(it, it.reserve(0.0, 0, 100.0), 101.0, 100.1)
    it.let_through(it.reserve(0.0, 0, 106.0), 106.0, answered=answered)
    met(it, it.reserve(0.0, 0, 107.0), 108.0, 107.1)
    assert (it.learnt is not None) is answered


def test_a_quarter_of_refusals_is_chance_and_more_is_a_limit() -> None:
    for every, limited in ((4, False), (2, True)):
        it, now, learnt = pace(), 100.0, False
        for number in range(40):
            now += 0.5
            sent = it.reserve(0.0, 0, now)
            it.heard(0.0)
            if number % every:
                it.let_through(sent, sent[1])
            else:
                met(it, sent, now + 0.3, now + 0.1)
            learnt = learnt or it.learnt is not None
        assert learnt is limited
        assert it.learnt is None, "as much is refused as before, which no limit does that is kept"


def test_a_wait_that_proved_too_short_says_nothing_of_how_much_a_provider_takes() -> None:
    it, now = pace(), 100.0
    it.reserve(0.0, 0, 98.0)
    it.heard(0.0)
    for _ in range(5):
        sent = it.reserve(0.0, 0, now)
        it.heard(0.0)
        met(it, sent, now + 1.0, now + 0.1)
        now += 1.2
    it.reserve(0.0, 0, now)
    assert it.learnt is None


@pytest.mark.parametrize(("pauses", "window"), [((1.1,), 1.0), ((1.1, 3.3), 3.0), ((1.1, 3.3, 7.4, 15.6), 10.0)])
def test_the_window_is_as_long_as_the_pause_that_was_needed(pauses: tuple[float, ...], window: float) -> None:
    it = pace()
    for _ in range(20):
        it.reserve(0.0, 0, 100.0)
        it.heard(0.0)
    for pause in (0.0, *pauses[:-1]):
        refuse(it, 1 if pause else 3, 100.0 + pause, 100.0 + pause)
    passes(it, 100.0 + pauses[-1])
    assert it.learnt is not None
    assert (it.learnt.count, it.learnt.window) == (pytest.approx(20.0, abs=1.0), window)


def test_refusals_for_long_that_come_again_at_once_are_a_limit_and_no_outage() -> None:
    """One caller alone: ten pass, one is refused until a minute is over, ten pass, and one is refused."""
    it, now = pace(), 100.0
    for _ in range(2):
        for _ in range(10):
            passes(it, now)
            it.heard(0.0)
            now += 0.1
        if now < 150.0:
            for pause in (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 16.0):
                refuse(it, 1, now + pause, now + pause)
                now += pause
            assert it.learnt is None
            now += 16.0
    refuse(it, 1, now, now + 1.0)
    assert it.learnt is not None
    assert (round(it.learnt.count), it.learnt.window) == (10, 60.0)
    assert it.fits_at(0.0, now + 1.0) == pytest.approx(now - 1.0 + 60.0), "when the minute of the ten is over"


def test_a_limit_that_was_met_again_is_kept_for_longer() -> None:
    it = Learnt(10.0, 60.0, 0.0)
    for expected in (60.0, 120.0, 240.0, 480.0, 600.0, 600.0):
        met = it._since + 1.5 * expected
        it.advance(it._since + expected)
        assert it.rate == pytest.approx(0.15), "not more than at first"
        it.advance(met)
        assert it.rate > 0.15
        assert it.refused(met, first=True)


def test_a_limit_that_is_kept_and_refuses_all_the_same_is_none() -> None:
    it = Learnt(10.0, 1.0, 0.0)
    for at in (1.0, 2.0):
        assert it.refused(at, first=True)
        assert it.refused(at, first=False), "calls that were on their way prove nothing"
    assert not it.refused(3.0, first=True)


def test_one_pause_that_sufficed_does_not_make_a_window_longer() -> None:
    """Where calls are refused by chance and few are sent, windows of a minute were found out, and kept."""
    it, now = pace(), 100.0
    it.learnt = Learnt(2.0, 1.0, now)
    it._evidence = 3.0
    for _ in range(2):
        now += 5.0
        met(it, it.reserve(0.0, 0, now), now + 1.0, now)
        now += 5.0
        sent = it.reserve(0.0, 0, now)
        it.let_through(sent, now)
    assert it.learnt is not None
    assert it.learnt.window == pytest.approx(1.0)


def test_a_limit_that_grows_lets_nobody_wait_longer_than_it_takes() -> None:
    it = Learnt(2.0, 60.0, 0.0)
    it.take(it.limit, 110.0)
    at_this_rate, now, looks = 110.0 + 1.0 / it.rate, 110.0, 0
    while (at := it.fits_at(1.0, now, 0.0)) > now:
        it.advance(at)
        now, looks = at, looks + 1
    assert now < at_this_rate - 1.0, "it grew meanwhile"
    assert looks < 12


def test_who_leaves_a_reserve_sends_evenly_where_a_limit_is_told() -> None:
    it = pace()
    answered(it, it.reserve(0.0, 0, 100.0), 100.0, requests=Limit(100, 99, 1.0))
    for _ in range(50):
        it.reserve(0.0, 0, 100.0)
    assert it.fits_at(0.0, 100.0) <= 100.0, "who leaves none may take what is left at once"
    assert it.fits_at(0.0, 100.0, keep=0.1) == pytest.approx(100.01)


def test_a_learnt_rate_is_forgotten_when_nothing_is_refused_for_long() -> None:
    it = pace()
    it.reserve(0.0, 0, 98.0)
    refuse(it, 20, 100.0, 101.0)
    passes(it, 101.0)
    assert it.limited
    it.reserve(0.0, 0, 300.0)
    assert not it.limited


def test_opening_by_hand_forgets_what_was_reported_and_learnt() -> None:
    it = pace(MINUTE)
    refuse(it, 20, 100.0, 101.0)
    answered(it, it.reserve(0.0, 0, 101.0), 101.0, requests=Limit(60, 0, 60.0))
    it.open()
    assert it.fits_at(0.0, 101.0) <= 101.0
    assert it.left(101.0) == (60.0, None)


# --- in the pool ---


def test_what_does_not_fit_goes_to_the_next_at_once_and_that_is_no_failover() -> None:
    world = World(Target("a", rates=(MINUTE,)), "b")
    taken = [world.start() for _ in range(61)]
    assert [attempt.target.id for attempt in taken] == ["a"] * 60 + ["b"]
    assert {attempt.kind for attempt in taken} == {"initial"}
    assert world.pool.budgets["extra"] == 10.0


def test_who_finds_no_room_stands_in_line_and_is_told_when() -> None:
    world = World(Target("a", rates=(MINUTE,)))
    for _ in range(60):
        world.start()
    call = world.call(timeout=30.0)
    wait = world.wait(call)
    assert (wait.reason, wait.seconds) == ("gate", pytest.approx(1.0))
    assert world.start(call).target.id == "a"
    assert world.pool.budgets["extra"] == 10.0


def test_a_failed_call_gives_its_tokens_back() -> None:
    world = World(Target("a", rates=(TOKENS,)))
    world.fail(world.start(tokens=6000), FaultKind.SERVER_ERROR, status=500)
    assert world.health("a").tokens_left == 6000


def test_what_the_parent_of_a_fork_sent_is_not_heard_of_in_the_child() -> None:
    world = World("a")
    attempt = world.start()
    world.pool.reset_after_fork()
    world.abandon(attempt)
    world.start()
    (key,) = world.member("a").keys
    assert key.pace.unheard == 1


# --- many callers ---


GOALS: dict[str, tuple[dict[str, Server], int, float, float, float, float]] = {
    # servers, prompts, ideal seconds, most of that, refused, ideal wait
    "told": ({"a": Server({"requests": 100, "per": 1.0})}, 700, 6.0, 1.25, 0.03, 0.5),
    "two": (
        {"a": Server({"requests": 80, "per": 1.0}), "b": Server({"requests": 40, "per": 1.0})},
        700,
        4.9,
        1.25,
        0.03,
        50 / 120,
    ),
    "no hints": ({"a": Server({"requests": 80, "per": 1.0}, hints=False)}, 800, 9.0, 1.3, 0.1, 50 / 80),
    "anthropic": (
        {"a": Server({"requests": 100, "per": 2.0, "dialect": "anthropic"})},
        500,
        8.0,
        1.6,  # it tells whole seconds, rounded up
        0.03,
        1.5,
    ),
    "whole seconds": ({"a": Server({"requests": 80, "per": 1.0, "dialect": "plain"})}, 800, 9.0, 1.3, 0.05, 50 / 80),
    "no hints, a minute": ({"a": Server({"requests": 60, "per": 60.0}, hints=False)}, 400, 340.0, 1.3, 0.15, 50.0),
    "slow answers": ({"a": Server({"requests": 100, "per": 1.0}, seconds=1.0)}, 500, 10.0, 1.1, 0.03, 1.0),
}


@pytest.mark.parametrize("name", GOALS)
def test_a_batch_loses_nothing_and_takes_hardly_longer_than_it_must(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1_800_000_000.25)  # one dialect tells whole seconds of the day
    servers, prompts, ideal, most, share, wait = GOALS[name]
    crowd = Crowd(servers, seed=1)
    crowd.work(50, prompts)
    crowd.all()
    assert not crowd.lost
    assert crowd.seconds <= most * ideal
    assert crowd.refused <= share * prompts + 3
    assert crowd.slowest <= 3.0 * wait


def test_a_few_callers_at_a_slow_limit_that_nobody_tells_wait_longer_and_longer() -> None:
    refused = 0
    for seed in range(4):
        crowd = Crowd({"a": Server({"requests": 10, "per": 60.0}, hints=False)}, seed=seed)
        crowd.work(5, 100, timeout=6000.0)
        crowd.all()
        assert not crowd.lost
        assert crowd.seconds <= 1.4 * (100 - 10) * 6.0
        refused += crowd.refused
    assert refused <= 0.16 * 400, "one call after the other, and seldom"


def test_after_a_pause_one_call_goes_first_however_late_it_comes() -> None:
    it = pace()
    refuse(it, 1, 100.0, 101.0)
    it.reserve(0.0, 0, 120.0)
    assert it.fits_at(0.0, 120.0) == pytest.approx(120.7), "the next after 0.7 s, and not at once"


@pytest.mark.parametrize("limit", [{"tokens": 60_000, "per": 1.0}, {"requests": 50, "tokens": 60_000, "per": 1.0}])
def test_a_limit_of_tokens_is_kept_without_being_declared(limit: dict[str, Any]) -> None:
    crowd = Crowd({"a": Server(limit)})
    crowd.work(50, 400, tokens=950)
    crowd.all()
    assert not crowd.lost
    assert crowd.refused <= 20
    assert crowd.seconds <= 1.25 * (400 * 1000 / 60_000)


def test_a_declared_limit_that_is_right_is_never_exceeded() -> None:
    rate = Rate(amount=45, per=1.0, unit="requests")
    crowd = Crowd({"a": Server({"requests": 100, "per": 1.0, "dialect": "plain"})}, Target("a", rates=(rate,)))
    crowd.work(50, 300)
    crowd.all()
    assert (crowd.refused, crowd.lost) == (0, [])
    assert crowd.seconds <= 1.1 * (300 - 45) / 45


def test_who_cannot_be_served_in_time_behind_those_who_wait_already_is_told_at_once() -> None:
    world = World(Target("a", rates=(MINUTE,)))
    for _ in range(60):
        world.start()
    for _ in range(20):
        world.told_to_wait(world.call(timeout=60.0))
    with pytest.raises(NoProviderAvailable) as failure:
        world.call(timeout=10.0).next_attempt(world.now)
    assert failure.value.retry_after == pytest.approx(21.0)
    assert world.told_to_wait(world.call(timeout=30.0)).place is not None
    assert world.health("a").waiting == 21
    world.now += 0.5
    assert world.health("a").wait == pytest.approx(0.5)


def test_who_would_have_to_wait_longer_than_a_whole_window_is_told_at_once() -> None:
    world = World(Target("a", rates=(MINUTE,)))
    for _ in range(60):
        world.start()
    for _ in range(100):
        world.told_to_wait(world.call(timeout=600.0))
    with pytest.raises(NoProviderAvailable) as failure:
        world.call(timeout=90.0).next_attempt(world.now)
    assert failure.value.retry_after == pytest.approx(101.0)
    world.told_to_wait(world.call(timeout=110.0))


def sized() -> dict[int, list[float]]:
    """How long calls of two sizes waited at 80 % of a limit of tokens."""
    luck, took, now = random.Random(4), dict[int, list[float]](), 0.0
    rate = Rate(amount=5000, per=5.0, unit="tokens")
    crowd = Crowd({"a": Server(seconds=0.0, transit=0.001)}, Target("a", rates=(rate,)))
    while now < 300.0:
        now += luck.expovariate(0.8 * 1000.0 / 590.0)
        crowd.work(1, 1, start=now, tokens=5000 if luck.random() < 0.1 else 100, max_tokens=0)
    crowd.all()
    for work in crowd.workers:
        assert work.runs[0].answered
        took.setdefault(work.options["tokens"], []).append(work.runs[0].took)
    return took


def test_small_calls_pass_a_large_one_that_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    passing = sized()
    monkeypatch.setattr("resilient_llm.decide.line.PASSED", 0.0)
    in_order = sized()
    assert mean(passing[100]) <= 0.1 * mean(in_order[100])
    assert mean(passing[5000]) <= 1.4 * mean(in_order[5000])


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("large", [500, 2000, 5000])
def test_a_large_call_is_passed_for_a_bounded_time_whoever_comes(large: int, batch: bool) -> None:
    """Small calls come faster than the limit allows, for twenty seconds."""
    rate = Rate(amount=5000, per=5.0, unit="tokens")
    crowd = Crowd({"a": Server(seconds=0.0, transit=0.001)}, Target("a", rates=(rate,)), limits={"reserve": 0.0})
    for number in range(300):
        crowd.work(1, 1, start=number / 15.0, tokens=100, max_tokens=0, batch=batch)
    [work] = crowd.work(1, 1, start=10.001, tokens=large, max_tokens=0, batch=batch)
    crowd.all()
    assert not crowd.lost
    ahead = 150.0 * 151 - 5000.0 - 10.0 * 1000.0  # with the answers
    assert work.runs[0].took <= (ahead + large) / 1000.0 + PASSED + 0.5


# --- what is only guessed ---


@pytest.mark.parametrize("hint", [None, 1.0])
@pytest.mark.parametrize("share", [0.2, 0.4])
def test_refusals_by_chance_cost_no_more_answers_than_an_sdk_loses(share: float, hint: float | None) -> None:
    """They look like a limit, and obeying that makes them no fewer."""
    luck = random.Random(7)

    def weather(now: float, attempt: Attempt[Target]) -> Act:
        refused = Fault(FaultKind.RATE_LIMITED, status=429, retry_after=hint)
        return Act(0.005, refused if luck.random() < share else None)

    runs = Driver({"a": weather}, Target("a")).calls(4.0, 120.0)
    chance = 2.5 * (share**3 / len(runs)) ** 0.5
    assert sum(run.answered for run in runs) >= (1.0 - share**3 - chance) * len(runs)
    assert sum(len(run.call.records) for run in runs) <= 1.2 * (1.0 + share + share**2) * len(runs)


def test_who_waits_for_a_guess_is_sent_at_each_quarter_of_its_time_and_tightens_nothing() -> None:
    world = World("a")
    (key,) = world.member("a").keys
    world.succeed(world.start())
    key.pace.learnt = Learnt(1.0, 60.0, world.now)
    key.pace.learnt.take(1.0, world.now)
    key.pace.arrange()
    call, began, times = world.call(timeout=20.0), world.now, []
    for _ in range(3):
        world.wait(call)
        attempt = call.next_attempt(world.now)
        assert isinstance(attempt, Attempt)
        times.append(world.now - began)
        call.failed(attempt, fault(FaultKind.RATE_LIMITED, status=429), world.now)
    assert times == pytest.approx([5.0, 10.0, 15.0])
    assert (key.gate.strikes, key.pace.row) == (0, 0)


# --- limits that are reported, and are none ---

SAID = [Limit(60, 0, 60.0), Limit(10, 0, 60.0), Limit(None, 0, 60.0)]


def told(now: float, **limits: Limit) -> Pace:
    """An answer told these limits a moment ago, to a call that was sent when it came."""
    it = pace()
    answered(it, it.reserve(100.0, 0, now), now, 100.0, **limits)
    return it


@pytest.mark.parametrize("limit", SAID)
def test_limits_of_another_key_cost_nobody_an_answer(limit: Limit) -> None:
    """A gateway says with every answer that nothing is left, and answers everything; an SDK looks at no header."""

    def serve(now: float, attempt: Attempt[Target]) -> Act:
        driver.at(now + 0.2, driver.pool.learn, attempt, now + 0.2, limit, None)
        return Act(0.2)

    driver = Driver({"a": serve})
    runs = driver.calls(rate=4.0, seconds=30.0, timeout=10.0)
    assert all(run.answered for run in runs)
    assert len(driver.requests) == len(runs)
    assert max(run.took for run in runs) <= 10.0 / 4.0 + 0.3
    assert sum(run.took > 0.3 for run in runs) <= 20, "of those that came before it was known"


@pytest.mark.parametrize("hint", [None, 1.0])
def test_real_limits_are_put_to_the_test_once(hint: float | None) -> None:
    """Twenty requests of which four a second come back, and twice as many calls."""
    bucket, refused = {"left": 20.0, "at": 0.0}, 0

    def serve(now: float, attempt: Attempt[Target]) -> Act:
        nonlocal refused
        left = min(20.0, bucket["left"] + (now - bucket["at"]) * 4.0)
        fits = left >= 1.0
        left, refused = left - fits, refused + (not fits)
        bucket.update(left=left, at=now)
        driver.at(now + 0.2, driver.pool.learn, attempt, now + 0.2, Limit(20, int(left), (20.0 - left) / 4.0), None)
        return Act(0.2) if fits else Act(0.2, Fault(FaultKind.RATE_LIMITED, status=429, retry_after=hint))

    driver = Driver({"a": serve})
    runs = driver.calls(rate=8.0, seconds=40.0, timeout=10.0)
    assert refused <= 2
    assert sum(run.answered for run in runs) >= 20 + 4.0 * 45.0, "of the line that stands at the end, too"


@pytest.mark.parametrize(
    ("after", "contradicts"),
    [(0.1, True), (0.4, True), (0.6, False), (10.0, False), (60.0, False), (100.0, False)],
)
def test_what_may_have_come_back_since_is_no_contradiction(after: float, contradicts: bool) -> None:
    it = told(100.0, requests=Limit(60, 0, 60.0))
    it.reserve(100.0, 0, 100.0 + after)
    assert it.contradicts(100.0, 100.0 + after) is contradicts


def test_what_came_back_is_reckoned_from_when_the_call_was_sent_that_was_told() -> None:
    it = pace()
    answered(it, it.reserve(100.0, 0, 99.0), 100.0, 100.0, requests=Limit(60, 0, 60.0))
    it.reserve(100.0, 0, 100.1)
    assert not it.contradicts(100.0, 100.1), "1.1 may be there"


def test_a_limit_that_comes_back_at_once_is_not_contradicted() -> None:
    it = told(100.0, requests=Limit(60, 0, 60.0))
    answered(it, it.reserve(100.0, 0, 100.0), 100.0, 100.0, requests=Limit(60, 0, 0.0))
    it.reserve(100.0, 0, 100.0)
    assert not it.contradicts(100.0, 100.0)


def test_what_was_sent_since_is_gone() -> None:
    it = told(100.0, requests=Limit(60, 2, 60.0))
    found: list[bool] = []
    for _ in range(3):
        it.reserve(100.0, 0, 100.1)
        found.append(it.contradicts(100.0, 100.1))
    assert found == [False, False, True]


def test_a_limit_of_tokens_is_contradicted_by_a_call_that_needs_twice_as_many_as_there_are() -> None:
    it = told(100.0, tokens=Limit(6000, 0, 60.0))
    it.reserve(100.0, 0, 100.4)
    assert it.contradicts(100.0, 100.4)
    assert not it.contradicts(100.0, 100.6)


def test_three_calls_let_through_in_a_row_show_that_a_limit_is_none() -> None:
    it = told(100.0, requests=Limit(60, 0, 60.0))
    for now, refused in ((100.0, False), (100.0, False), (100.0, True), (200.0, False), (200.0, False), (200.0, False)):
        assert it.limited
        it.tried(now, refused=refused)
    assert not it.limited
    assert it.left(200.0) == (None, None)


def test_a_limit_that_is_none_is_obeyed_again_when_that_may_have_changed_and_later_every_time() -> None:
    it, now = told(100.0, requests=Limit(60, 0, 60.0)), 100.0
    for seconds in (60.0, 120.0, 240.0):
        for _ in range(3):
            it.tried(now, refused=False)
        for later, obeyed in ((seconds - 1.0, False), (seconds, True)):
            answered(it, it.reserve(0.0, 0, now + later), now + later, requests=Limit(60, 0, 60.0))
            assert it.limited is obeyed
        now += seconds
    for seconds in (60.0, 120.0, *[3600.0] * 10):  # real once more, and at most an hour
        while not it.doubted(now):
            now += 1.0
        it.tried(now, refused=True)
        if seconds < 3600.0:
            for _ in range(3):  # they were under way
                it.tried(now, refused=False)
            assert it.limited
            assert not it.doubted(now + seconds - 1.0)
        assert it.doubted(now + seconds)


def test_what_is_no_limit_is_not_doubted() -> None:
    assert not pace(MINUTE).doubted(100.0)
    it = told(100.0, requests=Limit(60, 0, 60.0))
    for _ in range(3):
        it.tried(100.0, refused=False)
    assert not it.doubted(200.0), "nothing was told since"


def test_opening_by_hand_forgets_what_limits_are_worth() -> None:
    it = told(100.0, requests=Limit(60, 0, 60.0))
    it.tried(100.0, refused=True)
    it.open()
    answered(it, it.reserve(0.0, 0, 101.0), 101.0, requests=Limit(60, 0, 60.0))
    assert it.doubted(101.0)


def test_nobody_finds_out_while_all_may_have_come_back() -> None:
    """Ten in a minute, which all come back when it ends: by the pace of a whole minute the next one fits later."""
    world = World("a")
    for limit in (Limit(10, 9, 60.0), Limit(10, 0, 4.0)):
        sent = world.start()
        world.pool.learn(sent, world.now, limit, None)
        world.succeed(sent)
    call = world.call(timeout=18.0)
    assert world.told_to_wait(call).seconds == pytest.approx(4.5), "at a quarter of its time it looks"
    world.now += 4.5
    assert isinstance(call.next_attempt(world.now), Wait)
    world.now += 1.5
    assert not world.start(call).contradicts


@pytest.mark.parametrize(("insists", "left", "doubted"), [(True, 0, False), (True, 50, True), (False, 0, True)])
def test_only_a_refusal_of_who_insisted_and_that_is_explained_shows_that_a_limit_is_real(
    insists: bool, left: int, doubted: bool
) -> None:
    """Where refusals come by chance, what is reported explains each of them."""
    world = World("a")
    world.succeed(world.start())
    sent, it = world.start(), world.member("a").keys[0].pace
    sent.insists = insists
    world.pool.learn(sent, world.now, Limit(60, left, 60.0), None)
    world.fail(sent, FaultKind.RATE_LIMITED, status=429, retry_after=1.0)
    assert it.doubted(world.now) is doubted


def test_a_pool_of_keys_obeys_what_is_guessed() -> None:
    world = World(Target("a", pool=2))
    for key in world.member("a").keys:
        key.pace.learnt = Learnt(1.0, 60.0, world.now)
        key.pace.learnt.take(1.0, world.now)
        key.pace.arrange()
    call = world.call(timeout=20.0)
    world.told_to_wait(call)
    world.now += 5.0
    world.told_to_wait(call)


def test_only_a_call_of_a_lone_key_doubts_what_is_reported_and_no_batch() -> None:
    for keys, batch in ((1, False), (1, True), (2, False)):
        world = World(Target("a", pool=keys))
        for _ in range(keys):
            first = world.start()
            world.pool.learn(first, world.now, Limit(1, 0, 60.0), None)
            world.succeed(first)
        call = world.call(timeout=20.0, batch=batch)
        if keys == 1 and not batch:
            assert world.told_to_wait(call).seconds == pytest.approx(5.0)
        else:
            with pytest.raises(NoProviderAvailable):
                call.next_attempt(world.now)
