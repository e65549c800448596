"""Who gets which lease: well before half broken before down, and never whom the call excludes."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_llm import events
from resilient_llm.decide.attempt import Attempt
from resilient_llm.decide.call import Wait
from resilient_llm.decide.leases import Past
from resilient_llm.decide.pool import Pool
from resilient_llm.errors import CallFailed, Fault, FaultKind
from resilient_llm.policy import Policies, Retry
from tests.decide.driver import DOWN, HANG, Act, Driver, acts, well
from tests.decide.world import PROPERTY, Limit, Target, World, build, fault

# --- order ---


def test_the_first_tier_with_somebody_eligible_is_asked() -> None:
    world = World("a", ["b", "c"], "d")
    assert world.start().target.id == "a"
    world.pool.operate("a", "drain", world.now)
    assert world.start().target.id in "bc"
    assert world.start(unsuitable={"b": "no", "c": "no"}).target.id == "d"


def test_equals_share_the_traffic_of_their_tier() -> None:
    world, luck = World("x"), random.Random(1)
    world.pool = Pool({"main": build(["a", "b", "c"])}, Policies(), luck.random)
    asked: Counter[str] = Counter()
    for _ in range(300):
        attempt = world.start(streaming=True)
        asked[attempt.target.id] += 1
        world.speak(attempt, after=luck.uniform(0.5, 1.5))
        world.succeed(attempt)
    assert min(asked.values()) > 50


def test_a_half_broken_provider_is_asked_only_when_nobody_better_is_there() -> None:
    world = World("a", "b")
    world.half_break("a")
    assert world.start().target.id == "b"
    assert world.start(unsuitable={"b": "no"}).target.id == "a"
    call = world.call()
    world.fail(world.start(call))
    assert world.start(call).target.id == "a", "rather than the same again after a pause"


def test_of_two_half_broken_the_clearly_better_one_is_asked() -> None:
    world = World("a", "b")
    for name, share in (("a", 4), ("b", 2)):
        for index in range(24):
            attempt = world.start(only=name)
            world.fail(attempt) if index % 5 < share else world.succeed(attempt)
    world.now += 0.5
    if world.breaker("a") == world.breaker("b") == "softly_open":
        assert world.start(repeatable=False).target.id == "b"


def test_an_equal_not_heard_of_for_long_gets_a_trial_with_somebody_beside_it() -> None:
    world = World(["a", "b"])
    world.answer("a", first=0.2)
    world.answer("b", first=20.0)
    world.now += 31.0
    world.answer("a", first=0.2)
    world.pool._leases.trials.tokens = 10.0
    tried = world.start(streaming=True)
    assert (tried.target.id, tried.kind) == ("b", "trial")
    assert tried.rescue_after is not None
    assert world.start(streaming=True).target.id == "a", "one at a time"
    world.abandon(tried)
    assert world.start(streaming=True, repeatable=False).kind == "initial"
    world.pool._leases.trials.tokens = 0.0
    assert world.start(streaming=True).kind == "initial", "nor without savings"


def test_only_the_first_attempt_of_a_call_is_spent_on_news_and_the_first_three_savings_are_for_open_breakers() -> None:
    for saved, failed, tried in ((4.0, False, True), (3.9, False, False), (4.0, True, False)):
        world = World("x", ["a", "b"])
        world.answer("a", first=0.2)
        world.answer("b", first=20.0)
        world.now += 31.0
        world.answer("a", first=0.2)
        call = world.call(streaming=True, unsuitable={} if failed else {"x": "no"})
        world.pool._leases.trials.tokens = saved - 0.05  # a call earns a twentieth
        if failed:
            world.fail(world.start(call))
        assert (world.start(call).kind == "trial") is tried


@pytest.mark.parametrize(("first", "kind"), [(0.2, "initial"), (0.29, "initial"), (0.5, "trial")])
def test_an_equal_that_is_drawn_often_enough_is_not_tried_however_long_nothing_was_heard_of_it(
    first: float, kind: str
) -> None:
    """Where calls are few, nothing was heard of anybody for long, and every second call would be a trial."""
    world = World(["a", "b"])
    world.answer("b", first=first)
    world.answer("a", first=0.2)
    world.now += 100.0
    world.pool._leases.trials.tokens = 10.0
    assert world.start(streaming=True).kind == kind


def test_a_conversation_stays_where_it_was_answered() -> None:
    world = World(["a", "b"])
    world.answer("a", first=1.0)
    world.answer("b", first=0.9)
    world.succeed(world.start(only="a", conversation="chat"))
    for draw in (0.0, 0.99):
        world.luck.usual = draw
        assert world.start(conversation="chat").target.id == "a"
    world.luck.usual = 0.99
    assert world.start(conversation="another").target.id == "b"


def test_a_conversation_moves_when_its_provider_is_clearly_worse_or_out() -> None:
    world = World(["a", "b"])
    world.answer("b", first=0.2)
    world.succeed(world.start(only="a", conversation="chat"))
    world.answer("a", first=5.0)
    world.luck.next = [0.0, 0.99]
    assert world.start(conversation="chat").target.id == "b"
    world.pool.operate("b", "drain", world.now)
    assert world.start(conversation="chat").target.id == "a"


def later_home(seconds: float, lifetime: float | None, calls: int = 1) -> str:
    """Who is asked ``seconds`` after the last of some calls of a conversation at *a*, where *b* would be drawn."""
    world = World([Target("a", cache_seconds=lifetime), "b"])
    for _ in range(calls):
        world.succeed(world.start(only="a", conversation="chat"))
        world.now += seconds
    for name in "ab":
        world.answer(name, first=0.0)
    world.luck.usual = 0.99
    return world.start(conversation="chat").target.id


def test_a_conversation_may_move_once_its_prompt_is_no_longer_cached() -> None:
    assert later_home(299.9, lifetime=300.0) == "a"
    assert later_home(300.0, lifetime=300.0) == "b"


def test_every_answer_keeps_a_conversation_for_as_long_again() -> None:
    assert later_home(200.0, lifetime=300.0, calls=3) == "a"


def test_a_conversation_stays_where_no_lifetime_is_documented() -> None:
    assert later_home(3600.0, lifetime=None) == "a"


def test_only_so_many_conversations_are_remembered() -> None:
    world = World(["a", "b"])
    world.pool.remember("first", "b")
    for number in range(4096):
        world.pool.remember(str(number), "a")
    world.luck.usual = 0.0
    assert world.start(conversation="first").target.id == "a"
    world.luck.usual = 0.99
    assert world.start(conversation="0").target.id == "a"


def test_of_two_equals_the_one_with_less_work_under_way_is_asked() -> None:
    world = World(["a", "b"])
    for name in "ab":
        world.answer(name, first=0.5)
    for _ in range(4):
        world.start(only="a", streaming=True)
    for draws in ([0.0, 0.999], [0.999, 0.0]):
        world.luck.next = list(draws)
        attempt = world.start(streaming=True)
        assert attempt.target.id == "b"
        world.speak(attempt)
        world.succeed(attempt)


# --- trials ---


def test_a_call_that_failed_once_is_spent_on_no_trial() -> None:
    world = World(["a"], "b", "c")
    world.half_break("a")
    call = world.call(timeout=60.0)
    first = world.start(call)
    assert first.target.id == "b"
    world.until_trial("a")
    world.fail(first)
    assert world.start(call).target.id == "c"
    assert world.start().kind == "trial", "the next one is"


def test_the_confirming_trial_is_free() -> None:
    world = World("a", "b")
    world.half_break("a")
    world.until_trial("a")
    world.pool._leases.trials.tokens = 1.0
    world.succeed(world.start(), after=0.1)
    assert world.member("a").breaker.passed == 1
    world.pool._leases.trials.tokens = 0.0
    assert world.start().kind == "trial"
    world.pool._leases.trials.tokens = 0.0
    assert world.start().target.id == "b", "one at a time"


@pytest.mark.parametrize(
    ("passed", "rescues", "trials", "tried"),
    [(0, 1.0, 0.0, True), (0, 0.0, 1.0, False), (1, 0.0, 0.0, True), (2, 0.0, 1.0, True), (2, 1.0, 0.0, False)],
)
def test_where_streams_break_rescues_pay_for_trials_until_one_is_answered(
    passed: int, rescues: float, trials: float, tried: bool
) -> None:
    """Where a call comes in five seconds and four must be answered, they would else take minutes."""
    world = World("a", "b", breaker={"successes": 4})
    world.half_break("a")
    breaker = world.member("a").breaker
    breaker.ends_late, breaker._broke_at = True, world.now
    for _ in range(passed):
        breaker.succeeded(world.now)
    world.until_trial("a")
    world.pool._leases.hedges.tokens, world.pool._leases.trials.tokens = rescues, trials
    assert (world.start(streaming=True).kind == "trial") is tried


def one_that_fails_and_one_that_breaks() -> World:
    """Half broken: ``a`` fails before content, ``b`` breaks most of its streams."""
    world = World("a", "b", "c")
    for name in "abc":
        world.half_break(name)
    breaker = world.member("b").breaker
    breaker.ends_late, breaker._broke_at, breaker._share = True, world.now, 0.8
    return world


@pytest.mark.parametrize(("streaming", "then"), [(True, "a"), (False, "b")])
def test_who_failed_before_content_is_asked_again_rather_than_one_whose_streams_break(
    streaming: bool, then: str
) -> None:
    world = one_that_fails_and_one_that_breaks()
    world.pool.operate("c", "isolate", world.now)
    call = world.call(streaming=streaming, timeout=60.0)
    first = world.start(call)
    assert first.target.id == "a"
    world.fail(first)
    if streaming:
        world.wait(call)
    assert world.start(call).target.id == then


@pytest.mark.parametrize(("streaming", "rescuer"), [(True, "c"), (False, "b")])
def test_a_rescue_goes_to_one_that_fails_before_content_rather_than_one_whose_streams_break(
    streaming: bool, rescuer: str
) -> None:
    world = one_that_fails_and_one_that_breaks()
    first = world.start(streaming=streaming, timeout=60.0)
    assert first.target.id == "a"
    found = world.rescue(first, after=31.0)
    assert found is not None
    assert found.target.id == rescuer


def test_one_that_is_down_and_due_is_tried_though_another_answers_some_calls() -> None:
    world = World("a", "b")
    world.trip("a")
    world.half_break("b")
    world.now = max(world.now, world.member("a").breaker.trial_at)
    trial = world.start()
    assert (trial.target.id, trial.kind) == ("a", "trial")
    assert world.start().target.id == "b"


def test_of_those_asked_before_one_that_is_well_goes_first_though_another_is_cheaper() -> None:
    world = World("a", "b")
    world.answer("a", first=20.0)
    world.answer("b", first=0.1)
    world.half_break("b")
    call = world.call(timeout=120.0)
    for _ in range(2):
        world.fail(world.start(call))
    world.wait(call)
    assert world.start(call).target.id == "a"


def test_a_trial_that_nobody_well_can_stand_in_for_has_its_usual_time() -> None:
    world = World("a", "b")
    world.answer("b", times=25, first=0.1)
    world.trip("a")
    world.gate("b", 60.0)
    world.now += 2.0
    trial = world.start(timeout=30.0)
    assert (trial.target.id, trial.kind, trial.late_after) == ("a", "trial", math.inf)
    assert trial.rescue_after == pytest.approx(15.0)


def test_a_due_trial_spaces_the_last_resort_too() -> None:
    world = World("a", "b")
    world.trip("a")
    world.now += 60.0
    trial = world.start(timeout=60.0)
    assert trial.kind == "trial"
    assert world.member("a").resort_at == pytest.approx(world.now + 1.0)


def test_the_trial_of_a_whole_answer_holds_up_the_next_one_no_longer_than_a_failed_one() -> None:
    world = World("a", "b")
    world.trip("a")
    world.until_trial("a")
    assert world.start(timeout=600.0).timeout >= 30.0
    member = world.member("a")
    assert member.trial_ends == pytest.approx(world.now + world.pool.policies.breaker.open_cap)


def test_before_the_trial_of_a_stream_that_may_break_ends_there_is_no_other_for_a_while() -> None:
    world = World("a", "b")
    world.pool._leases.hedges.tokens = 10.0
    for _ in range(3):
        stream = world.start(only="a", streaming=True)
        world.speak(stream)
        world.now += 0.01
        world.fail(stream)
    world.until_trial("a")
    member, leases = world.member("a"), world.pool._leases
    leases.hedges.tokens, leases.trials.tokens = 1.0, 0.0
    assert world.start(streaming=True, timeout=600.0).kind == "trial"
    assert leases.hedges.tokens < 0.5, "a broken answer is its caller's loss: no time pays for it"
    assert member.breaker.trial_wait(world.now) < 2.0
    assert member.trial_ends == pytest.approx(world.now + 4.0)


def test_whoever_is_asked_while_its_breaker_is_open_is_found_out_by_it() -> None:
    world = World("a")
    world.half_break("a")
    world.now += 100.0
    attempt = world.start()
    assert attempt.kind == "initial"
    world.fail(attempt)
    member = world.member("a")
    assert member.breaker.trial_at >= world.now + 0.75 * member.breaker.trial_wait(world.now)


# --- the last resort ---


def test_a_call_that_waited_long_behind_an_outage_passes_the_line_only_where_the_provider_is_still_down() -> None:
    world = World("a")
    world.trip("a")
    world.start(timeout=60.0)  # the trial
    first = world.told_to_wait(world.call(timeout=60.0))
    past = Past(1_000_000)
    past.last_hope = True
    assert first.place is not None
    leases, member = world.pool._leases, world.member("a")
    assert leases.admits(member, world.ask(timeout=60.0), past, world.now, waits=True)
    member.breaker.restore(world.now)
    assert not leases.admits(member, world.ask(timeout=60.0), past, world.now, waits=True)


def test_the_last_hope_of_a_call_is_no_reason_to_ask_one_that_has_no_room() -> None:
    for kind, sent in ((FaultKind.SERVER_ERROR, True), (FaultKind.OVERLOADED, False)):
        world = World("a")
        world.trip("a")
        world.now += 60.0
        world.fail(world.start(timeout=60.0), kind)
        assert world.member("a").next_trial() > world.now
        past = Past(1_000_000)
        past.last_hope = True
        assert isinstance(world.pool._leases.acquire(world.ask(timeout=60.0), past, world.now), Attempt) is sent


def test_of_those_that_are_down_the_one_not_tried_for_longest_goes_first() -> None:
    world = World("a", "b")
    world.trip("a")
    world.now += 1.0
    world.trip("b")
    world.now += 60.0
    first, second = world.call(timeout=60.0), world.call(timeout=60.0)
    one = world.start(first)
    world.fail(one)
    while isinstance(step := second.next_attempt(world.now), Wait):
        world.now += step.seconds
    assert {one.target.id, step.target.id} == {"a", "b"}
    assert one.kind == step.kind == "trial"


def test_one_without_room_is_tried_every_six_seconds_and_another_that_is_down_every_second_meanwhile() -> None:
    world = World("a", "b")
    world.trip("a")
    world.trip("b")
    world.now += 60.0
    world.fail(world.start(only="a"), FaultKind.OVERLOADED, status=529)
    began = world.now
    asked: dict[str, list[float]] = {"a": [], "b": []}
    while world.now < began + 25.0:
        call = world.call(timeout=60.0)
        step = call.next_attempt(world.now)
        if isinstance(step, Wait):
            call.stopped_waiting(world.now)
            world.now += 0.1
        else:
            asked[step.target.id].append(world.now - began)
            shortage = step.target.id == "a"
            call.failed(step, fault(FaultKind.OVERLOADED if shortage else FaultKind.SERVER_ERROR), world.now)
    pauses = {name: [after - before for before, after in pairwise(times)] for name, times in asked.items()}
    assert min(pauses["a"]) >= 5.9
    assert max(pauses["a"]) <= 7.5
    assert min(pauses["b"]) >= 0.9
    assert max(pauses["b"]) <= 2.2


def test_who_refused_our_key_is_asked_by_each_call_that_has_nobody_else_and_once_a_second_when_that_is_proven() -> None:
    world = World("a")
    world.fail(world.start(), FaultKind.AUTH)
    began, asked = world.now, []
    while world.now < began + 10.0:
        call = world.call(timeout=5.0)
        try:
            step = call.next_attempt(world.now)
        except CallFailed:
            step = None
        if isinstance(step, Wait):
            call.stopped_waiting(world.now)
        elif step is not None:
            asked.append(step.kind)
            call.failed(step, fault(FaultKind.AUTH), world.now)
        world.now += 0.1
    assert 15 <= len(asked) <= 19, "nine more make ten in a row, then one a second"
    assert set(asked) == {"trial"}
    world.now += 1.0
    world.succeed(world.start(timeout=5.0))
    assert world.explain() == {"a": None}


def test_who_waited_for_a_rate_limit_is_sent_at_its_end_though_our_key_was_refused_meanwhile() -> None:
    """It waited for as long as it was told, and was not sent for the jitter of those who need not wait."""
    world = World("a")
    world.fail(world.start(), FaultKind.AUTH)
    world.now += 1.0
    call = world.call(timeout=20.0)
    world.fail(world.start(call), FaultKind.RATE_LIMITED, status=429, retry_after=5.0)
    wait = world.wait(call)
    assert 5.0 <= wait.seconds <= 5.25
    assert world.start(call).kind == "trial"


def test_who_was_refused_alone_is_sent_in_spite_of_a_refused_key_when_its_own_wait_is_over() -> None:
    world = World("a")
    call, other = world.call(timeout=20.0), world.call(timeout=20.0)
    attempt, key = world.start(call), world.start(other)
    attempt.key.pace._got_through, attempt.key.pace._shut_out = 15.0, 1.0
    world.fail(key, FaultKind.AUTH)
    world.fail(attempt, FaultKind.RATE_LIMITED, status=429, retry_after=5.0)
    assert attempt.refused_alone
    assert world.wait(call).seconds == pytest.approx(5.0)
    assert world.start(call).kind == "trial"


def test_a_call_waits_as_it_was_told_however_the_attempt_beside_that_one_fails() -> None:
    world = World("a")
    first = world.start(streaming=True, timeout=40.0)
    second = world.rescued(first, after=20.0)
    second.key.pace._got_through, second.key.pace._shut_out = 15.0, 1.0
    world.fail(second, FaultKind.RATE_LIMITED, status=429, retry_after=7.0)
    assert second.refused_alone
    world.fail(first)
    assert world.wait(world.call_of[first]).seconds == pytest.approx(7.0)
    assert world.start(world.call_of[first]).kind == "retry"


def test_an_attempt_is_late_at_the_very_moment_of_its_rescue() -> None:
    world = World("a", "b")
    world.answer("a", times=25, first=0.7)
    for tenth in range(60):
        world.now = 1100.0 + tenth * 0.1 + 0.0007
        attempt = world.start(streaming=True)
        assert attempt.rescue_after is not None
        assert attempt.late(attempt.started + attempt.rescue_after), "whatever is lost in rounding"
        world.abandon(attempt)


def test_who_stated_until_when_is_not_asked_sooner() -> None:
    world = World("a")
    world.fail(world.start(), FaultKind.QUOTA_EXHAUSTED, retry_after=600.0)
    world.now += 100.0
    with pytest.raises(CallFailed) as failure:
        world.call(timeout=5.0).next_attempt(world.now)
    assert failure.value.retry_after == pytest.approx(500.0, rel=0.15)


# --- rescues ---


def rescuable(*tiers: Any, **policies: Any) -> World:
    world = World(*(tiers or ("a", "b")), **policies)
    world.answer("a", times=31, first=0.8)
    world.pool._leases.hedges.tokens = 10.0
    return world


def test_a_rescue_goes_where_least_is_under_way() -> None:
    world = World("a", ["b", "c"])
    for name in "abc":
        world.answer(name, times=25, first=0.5)
    world.pool._leases.hedges.tokens = 10.0
    world.start(only="b", streaming=True)
    first = world.start(streaming=True, timeout=60.0)
    assert world.rescued(first, after=first.rescue_after or 0.0).target.id == "c"


def test_one_that_answered_before_comes_to_the_rescue_rather_than_one_nobody_knows() -> None:
    world = World("a", "b", "c")
    for name in "ab":
        world.answer(name, times=25, first=0.5)
    world.pool._leases.hedges.tokens = 10.0
    world.start(only="b", streaming=True)
    first = world.start(streaming=True, timeout=60.0)
    assert world.rescued(first, after=first.rescue_after or 0.0).target.id == "b"


def test_a_half_broken_one_comes_to_the_rescue_where_nobody_is_well() -> None:
    world = rescuable()
    world.half_break("b")
    first = world.start(only=None, streaming=True, timeout=60.0, repeatable=True)
    assert first.target.id == "a"
    assert world.rescued(first, after=first.rescue_after or 0.0).target.id == "b"


def test_a_rescuer_that_is_gated_is_waited_for() -> None:
    world = rescuable()
    world.gate("b", 3.0)
    first = world.start(streaming=True, timeout=20.0)
    began, found = world.now, None
    while found is None and first.rescue_after is not None:
        world.now = began + first.rescue_after
        found = world.rescue(first)
        assert first.rescue_after is None or first.rescue_after > world.now - began
    assert found is not None
    assert (found.target.id, found.kind) == ("b", "hedge")


def lone(firsts: Sequence[float] = ()) -> tuple[World, Attempt[Target]]:
    """A lone provider that answered ``firsts`` seconds late at last, and is silent for another call now."""
    world = World("a")
    world.answer("a", times=25, first=0.5)
    for first in firsts:
        world.answer("a", first=first)
    world.pool._leases.hedges.tokens = 0.0
    return world, world.start(streaming=True, timeout=60.0)


def test_a_lone_provider_that_hangs_is_asked_again_beside_the_first_attempt_which_is_not_given_up() -> None:
    world, first = lone()
    assert (first.rescue_after, first.timeout) == (10.0, 60.0)
    second = world.rescued(first, after=10.0)
    assert (second.target.id, second.fresh, second.rescue_after) == ("a", True, 20.0)
    third = world.rescued(second, after=20.0)
    assert world.rescue(third, after=third.rescue_after or 0.0) is None, "three times, as an SDK"


def test_beside_one_that_never_answered_a_rescue_is_paid_when_a_third_of_the_time_is_gone() -> None:
    """A program that is started for each call knows nobody: where one hangs, the next one is to have time enough."""
    world = World("a", "b")
    first = world.start(timeout=12.0)
    assert first.rescue_after == pytest.approx(4.0)
    assert world.rescued(first, after=4.0).target.id == "b"


def test_a_lone_provider_that_usually_takes_longer_than_half_of_the_time_is_not_asked_twice() -> None:
    """Each of its calls was sent twice."""
    world = World("a")
    world.answer("a", times=25, first=7.0)
    assert world.start(streaming=True, timeout=10.0).rescue_after == pytest.approx(7.0)
    assert world.start(streaming=True, timeout=6.0).rescue_after is None


@pytest.mark.parametrize(("most", "third"), [(2, False), (3, True)])
def test_a_call_makes_no_more_attempts_than_it_may_those_under_way_included(most: int, third: bool) -> None:
    world = World("a", "b", "c", retry=Retry(max_attempts=most))
    first = world.start(timeout=60.0)
    second = world.rescued(first, after=first.rescue_after or 0.0)
    assert (world.rescue(second, after=second.rescue_after or 0.0) is not None) is third


def test_a_trial_that_is_silent_uses_up_none_of_the_attempts_of_its_call() -> None:
    world = World("a", "b", retry=Retry(max_attempts=1))
    for name in "ab":
        world.answer(name, times=25, first=0.5)
    world.half_break("a")
    world.until_trial("a")
    trial = world.start(timeout=60.0)
    assert (trial.target.id, trial.kind) == ("a", "trial")
    assert world.rescued(trial, after=trial.rescue_after or 0.0).target.id == "b"


def test_beside_one_that_never_answered_nobody_is_asked_twice_before_half_of_the_time_is_gone() -> None:
    """Where all hang a call would make more attempts than an SDK does."""
    world = World("a", "b")
    first = world.start(timeout=12.0)
    second = world.rescued(first, after=4.0)
    assert world.rescue(second, after=second.rescue_after or 0.0) is None


def test_a_rescue_that_is_asked_at_the_last_moment_does_not_make_its_provider_silent() -> None:
    """One that nobody knew was passed over for minutes, because it needed longer than what was left."""
    world = World("a", "b")
    for _ in range(3):
        first = world.start(only=None, streaming=False, timeout=10.0)
        second = world.rescued(first, after=first.rescue_after or 0.0)
        world.rescue(second, after=second.rescue_after or 0.0)
        world.succeed(first)
    assert world.breaker("b") == "closed"


def test_a_busy_provider_is_not_asked_again_for_what_stands_in_its_queue() -> None:
    """Of fifty processes at one that had lost half of its room 13 % of the calls were answered, and 72 % where each was
    sent once."""
    world, first = lone([2.0, 4.0])
    assert world.rescue(first, after=10.0) is None
    assert first.rescue_after == pytest.approx(10.25), "asked about again soon"
    world.pool._leases.hedges.tokens = 10.0
    assert world.rescue(first, after=0.25) is None, "however much may be spent"


def test_a_provider_that_still_answers_what_it_was_asked_before_has_a_queue_and_does_not_hang() -> None:
    """A server that stood still for a moment under nine tenths of what it can do was asked for everything twice from
    then on, and answered hardly anybody in time for as long as that went on."""
    world, before = lone()
    first = world.start(streaming=True, timeout=2.0)
    world.speak(before, after=0.7)
    assert not world.member("a").statistics.slower
    assert world.rescue(first, after=0.3) is None
    assert first.rescue_after == pytest.approx(1.25), "asked about again soon"
    assert world.rescued(first, after=0.5).fresh, "nothing was heard of it since"


def test_a_call_that_is_overtaken_at_a_busy_provider_is_stuck_and_sent_again() -> None:
    world, first = lone([2.0, 4.0])
    world.now += 1.0
    world.answer("a", first=4.0)
    assert world.rescued(first, after=5.0).fresh


def test_only_the_timeout_of_a_provider_that_had_become_slower_is_a_sign_of_overload() -> None:
    for firsts, crowded in (((), False), ((2.0, 4.0), True)):
        world, first = lone(firsts)
        world.now += 60.0
        world.fail(first, FaultKind.TIMEOUT)
        assert world.member("a").breaker.crowded is crowded
    world, first = lone()
    world.fail(first, FaultKind.OVERLOADED)
    assert world.member("a").breaker.crowded


def test_where_nobody_is_well_an_attempt_is_not_given_up_for_its_silence() -> None:
    world = World("a", "b")
    for name in "ab":
        world.answer(name, times=25, first=0.5)
        world.half_break(name)
    assert world.start(streaming=True, timeout=60.0).timeout == 60.0
    assert rescuable().start(streaming=True, timeout=60.0).timeout < 60.0


def test_a_call_that_went_to_a_half_broken_one_is_rescued_at_half_time_by_who_is_well_by_then() -> None:
    """It was no better off than beside a provider that is well and takes its time: lost, with budget left."""
    world = World("a", "b")
    world.answer("a", times=25, first=8.0)
    world.answer("b", times=25, first=0.2)
    world.half_break("a")
    world.gate("b", 2.0)
    first = world.start(streaming=True, timeout=10.0)
    assert (first.target.id, first.late_after > 5.0) == ("a", True)
    world.answer("a", first=1.0)
    world.pool._leases.hedges.tokens = 0.0
    world.now = first.started + 5.0
    assert world.rescued(first).target.id == "b"


@pytest.mark.parametrize("known", [1, 25])
def test_a_process_that_stood_still_rescues_at_half_time_all_the_same_and_blames_nobody(known: int) -> None:
    """A busy loop reports each timer late: the rescue was put off by as long again, which is the deadline."""
    world = World("a", "b")
    world.answer("a", times=known, first=0.3)
    first = world.start(timeout=10.0)
    others = [world.start(only="a", timeout=20.0) for _ in range(4)]
    due = first.rescue_after
    assert due is not None
    began = first.started
    if due < 4.0:
        world.now = began + due + 0.3
        assert world.rescue(first) is None, "put off, for what was silent may be this process"
        assert first.rescue_after == pytest.approx(2.0 * due + 0.3)
    world.now = began + 5.3
    assert world.rescued(first).target.id == "b"
    assert not first.late(world.now)
    assert world.breaker("a") == "closed"
    assert others


def test_at_half_time_a_lone_provider_is_asked_again_but_only_once() -> None:
    world = rescuable("a")
    first = world.start(streaming=True, timeout=8.0)
    assert first.rescue_after == 4.0
    second = world.rescued(first, after=4.0)
    assert (second.target.id, second.fresh, second.rescue_after) == ("a", True, None)
    assert world.rescue(first, after=1.0) is None


def test_at_three_quarters_of_its_time_a_provider_is_asked_again_while_the_other_cannot_be() -> None:
    world = rescuable()
    world.gate("b", 7.0)
    first = world.start(streaming=True, timeout=8.0)
    began, found = world.now, None
    while found is None:
        assert first.rescue_after is not None
        world.now = began + first.rescue_after
        found = world.rescue(first)
    assert (found.target.id, found.fresh, world.now - began) == ("a", True, pytest.approx(6.0, abs=0.25))


def test_a_rescue_at_half_time_may_be_paid_like_a_second_try() -> None:
    world = World("a", "b")
    leases = world.pool._leases
    leases.hedges.tokens = 0.0
    first = world.start(timeout=20.0)
    before = leases.extra.tokens
    second = world.rescued(first, after=10.0)
    assert second.target.id == "b"
    assert leases.extra.tokens == before - 1.0
    world.abandon(first)
    world.abandon(second)
    leases.extra.tokens = leases.hedges.tokens = 0.0
    other = world.start(timeout=4.0)
    leases.extra.tokens = leases.hedges.tokens = 0.0
    assert world.rescue(other, after=2.0) is None, "nobody pays"
    assert other.rescue_after is None or other.rescue_after > 2.0


def test_no_call_hangs_because_its_rescuers_cannot_be_asked() -> None:
    for behaviour in (Act(0.05, DOWN), Act(0.05, Fault(FaultKind.RATE_LIMITED, status=429, retry_after=2.0)), HANG):
        driver = Driver({"a": lambda now, attempt: HANG, "b": acts(then=behaviour)})
        runs = driver.calls(rate=2.0, seconds=10.0, timeout=10.0)
        assert all(run.took <= 10.0 + 1e-6 for run in runs)
        assert driver.spins == 0, "a timer that is set again for the same moment would never end"
    driver = Driver({"a": lambda now, attempt: HANG, "b": well()})
    assert all(run.answered for run in driver.calls(rate=2.0, seconds=10.0, timeout=10.0))
    assert driver.spins == 0


def suspected(world: World, pending: int, *, timeout: float = 12.0, after: float = 6.0, heard: bool = False) -> bool:
    """Whether *a*, which begins to speak after five seconds at most, is suspected when one of so many silent calls
    asks for a rescue; ``heard``: something begun before them was answered meanwhile."""
    world.answer("a", times=25, first=5.0)
    before = world.start(streaming=True, timeout=60.0)
    world.now += 0.1
    calls = [world.start(only="a", streaming=True, timeout=timeout) for _ in range(pending)]
    world.now += after - 0.1
    if heard:
        world.speak(before)
    else:
        world.abandon(before)
    world.now += 0.1
    calls[0].rescue_after = after
    world.rescue(calls[0])
    return world.breaker("a") == "softly_open"


@pytest.mark.parametrize(
    ("pending", "timeout", "after", "heard", "opens"),
    [
        (2, 12.0, 6.0, False, True),
        (1, 12.0, 6.0, False, False),  # one straggler
        (2, 12.0, 5.5, False, False),  # half of its time is not gone
        (2, 8.0, 4.5, False, False),  # answers lately took longer
        (4, 12.0, 6.0, True, False),  # it answers, however many wait
    ],
)
def test_before_any_attempt_is_late_silence_at_half_time_is_suspect(
    pending: int, timeout: float, after: float, heard: bool, opens: bool
) -> None:
    assert suspected(World("a", "b"), pending, timeout=timeout, after=after, heard=heard) is opens


def test_a_provider_that_was_removed_is_not_asked_a_second_time() -> None:
    for removed in (False, True):
        world = rescuable("a", "b")
        first = world.start(only="a", streaming=True, timeout=8.0)
        if removed:
            world.pool.replace({"main": [[Target("b")]]}, world.now)
        assert (world.rescue(first, after=4.0) is None) is removed


def test_a_second_attempt_beside_the_last_one_allowed_is_not_made() -> None:
    world = rescuable("a", retry={"max_attempts_per_provider": 1})
    first = world.start(streaming=True, timeout=8.0)
    assert world.rescue(first, after=4.0) is None


def test_a_lone_provider_that_was_heard_of_is_asked_again_at_half_time_too() -> None:
    world = rescuable("a")
    world.pool._leases.hedges.tokens = 0.0
    older = world.start(streaming=True, timeout=60.0)
    world.now += 0.1
    first = world.start(streaming=True, timeout=3.0)
    world.speak(older, after=0.5)
    world.pool._leases.hedges.tokens = 0.0
    assert not first.late(first.started + 1.5)
    assert world.rescued(first, after=1.0).fresh


def test_a_lone_provider_without_room_is_not_asked_again_beside_a_late_attempt() -> None:
    world = rescuable(Target("a", max_concurrency=1))
    first = world.start(streaming=True, timeout=8.0)
    assert world.rescue(first, after=4.0) is None


def test_a_rescue_that_cannot_be_paid_is_asked_for_again_soon() -> None:
    world = rescuable()
    first = world.start(streaming=True, timeout=4.0)
    world.pool._leases.hedges.tokens = 0.0
    assert first.rescue_after == pytest.approx(1.6)
    assert world.rescue(first, after=1.6) is None
    assert first.rescue_after == pytest.approx(1.85)
    world.pool._leases.hedges.tokens = 1.0
    assert world.rescued(first, after=0.25).target.id == "b"


def test_a_rescuer_without_room_is_passed_over() -> None:
    world = rescuable("a", [Target("b", max_concurrency=1), Target("c")])
    world.answer("b", times=25, first=0.1)
    world.answer("c", times=25, first=0.5)
    world.start(only="b", timeout=60.0)
    first = world.start(only=None, streaming=True, timeout=60.0)
    assert world.rescued(first, after=first.rescue_after or 0.0).target.id == "c"


def test_who_failed_this_call_before_may_come_to_its_rescue() -> None:
    world = rescuable("b", "a")
    call = world.call(streaming=True, timeout=60.0)
    world.fail(world.start(call))
    late = world.start(call)
    assert late.target.id == "a"
    assert world.rescued(late, after=late.rescue_after or 0.0).target.id == "b"


def test_one_that_is_down_comes_to_the_rescue_when_it_is_due_and_not_on_trial() -> None:
    world = rescuable()
    world.trip("b")
    world.now += 60.0
    first, second = (world.start(streaming=True, timeout=60.0) for _ in range(2))
    found = world.rescued(first, after=first.rescue_after or 0.0)
    assert (found.target.id, found.kind) == ("b", "hedge")
    world.fail(found)
    member = world.member("b")
    assert world.now < member.next_trial()
    assert world.rescue(second) is None, "not due"
    world.now = member.next_trial()
    trial = world.start(only="b", streaming=True, timeout=60.0)
    assert trial.trial
    world.now = member.next_trial()
    second.rescue_after = 0.0
    assert world.rescue(second) is None, "on trial"


def test_a_rescue_beside_one_that_is_down_or_on_trial_is_free() -> None:
    world = rescuable("b", "a")
    leases = world.pool._leases
    world.half_break("b")
    world.until_trial("b")
    softly = world.start(streaming=True, timeout=20.0)
    leases.hedges.tokens = leases.extra.tokens = softly.rescue_after = 0.0
    assert softly.kind == "trial"
    assert world.rescued(softly).target.id == "a"
    world.trip("b")
    world.now += 60.0
    down = [world.start(streaming=True, timeout=20.0, repeatable=True)]
    assert down[0].kind == "trial"
    world.member("b").breaker.restore(world.now)
    ordinary = world.start(only=None, streaming=True, timeout=20.0)
    assert (ordinary.target.id, ordinary.kind) == ("b", "initial")
    for _ in range(5):
        world.fail(world.start(only="b"))
    assert world.breaker("b") == "open"
    leases.hedges.tokens = leases.extra.tokens = 0.0
    for attempt in (*down, ordinary):
        attempt.rescue_after = 0.0
        assert world.rescued(attempt).target.id == "a"


@pytest.mark.parametrize(
    ("known", "heard", "late", "paid"),
    [(True, True, False, False), (False, True, False, True), (True, False, False, True), (True, True, True, True)],
)
def test_at_half_time_a_rescue_is_paid_for_like_a_second_try_only_where_its_provider_may_be_gone(
    known: bool, heard: bool, late: bool, paid: bool
) -> None:
    world = World("a", "b")
    world.answer("a", times=25 if known else 3, first=4.0)
    world.pool._leases.hedges.tokens = 0.0
    older = world.start(only="a", streaming=True, timeout=60.0)
    world.now += 0.1
    first = world.start(streaming=True, timeout=20.0 if late else 12.0)
    assert (first.known, first.late_after == pytest.approx(8.0)) == (known, True)
    world.now += 1.0
    if heard:
        world.speak(older)
    else:
        world.abandon(older)
    world.pool._leases.hedges.tokens = 0.0
    world.now = first.started + (10.0 if late else 6.0)
    first.rescue_after = world.now - first.started
    assert (world.rescue(first) is not None) is paid


# --- what nothing overrides ---

ANYTHING = st.sampled_from(["fail", "gate", "hang", "down", "trial", "drain", "restore", "slow"])


@PROPERTY
@given(
    history=st.lists(st.tuples(ANYTHING, st.sampled_from("abc")), max_size=20),
    excluded=st.sets(st.sampled_from("abc"), min_size=1),
    repeatable=st.booleans(),
    timeout=st.sampled_from([1.0, 10.0, 100.0]),
    seed=st.integers(0, 1000),
)
def test_an_unsuitable_provider_is_never_asked_whatever_happened_and_whatever_is_left(
    history: list[tuple[str, str]], excluded: set[str], repeatable: bool, timeout: float, seed: int
) -> None:
    world, luck = World("a", ["b", "c"]), random.Random(seed)
    for what, name in history:
        happen(world, what, name)
    call = world.call(timeout=timeout, unsuitable=dict.fromkeys(excluded, "no"), repeatable=repeatable)
    asked = []
    for _ in range(60):
        try:
            step = call.next_attempt(world.now)
        except CallFailed:
            break
        if isinstance(step, Wait):
            world.now += step.seconds
            continue
        asked.append(step)
        world.call_of[step] = call
        if step.rescue_after is not None and luck.random() < 0.5:
            world.now += step.rescue_after
            second = world.rescue(step)
            if second is not None:
                asked.append(second)
                world.fail(second)
        world.fail(step, luck.choice([FaultKind.SERVER_ERROR, FaultKind.OVERLOADED, FaultKind.RATE_LIMITED]))
    assert not excluded & {attempt.target.id for attempt in asked}
    assert repeatable or not [attempt for attempt in asked if attempt.kind in ("trial", "hedge")]
    assert all(member.in_flight == 0 for member in world.pool._table.members.values())


def happen(world: World, what: str, name: str) -> None:
    if what in ("drain", "restore"):
        world.pool.operate(name, what, world.now)
        return
    for _ in range({"down": 8, "trial": 1}.get(what, 3)):
        call = world.call(only=name, timeout=30.0)
        try:
            step = call.next_attempt(world.now)
        except CallFailed:
            return
        if isinstance(step, Wait):
            call.stopped_waiting(world.now)
            world.now += 1.0
            continue
        if what == "gate":
            call.failed(step, fault(FaultKind.RATE_LIMITED, retry_after=20.0), world.now)
            return
        if what in ("hang", "slow"):
            world.now += min(step.timeout, 12.0)
        if what in ("slow", "trial"):
            call.succeeded(step, world.now)
        else:
            call.failed(step, fault(FaultKind.TIMEOUT if what == "hang" else FaultKind.SERVER_ERROR), world.now)


# --- after a rate limit opened ---


def test_when_a_rate_limit_opens_not_everybody_goes_at_once() -> None:
    world = World("a", "b")
    world.gate("a", 5.0)
    world.now += 6.5
    begun = [world.start().target.id for _ in range(20)]
    assert begun[0] == "a"
    assert 1 <= begun.count("a") <= 10
    assert "b" in begun


def test_a_call_that_does_not_fit_into_the_headroom_goes_to_the_next() -> None:
    world = World("a", "b")
    attempt = world.start()
    world.pool.learn(attempt, world.now, None, Limit(30_000, 500, 59.0))
    assert world.start(tokens=1000).target.id == "b"
    assert world.start(tokens=400).target.id == "a"


def test_what_was_not_done_for_want_of_savings_is_told() -> None:
    world = rescuable()
    world.pool.listen(True)
    world.pool._leases.hedges.tokens = 0.0
    first = world.start(streaming=True, timeout=60.0)
    assert world.rescue(first, after=1.6) is None
    assert [(event.what, event.reason) for event in world.events(events.NotTaken)] == [("hedge", "budget")]
