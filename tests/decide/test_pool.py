"""The pool: who is asked, how a provider comes back, what operators can do, and that nothing is ever lost."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter, deque
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from resilient_llm.decide.standing import Standing

from resilient_llm.decide import events
from resilient_llm.decide.call import Call, Wait
from resilient_llm.decide.member import Attempt
from resilient_llm.decide.outcome import Outcome, disposition
from resilient_llm.decide.pool import Pool
from resilient_llm.errors import (
    AllAttemptsFailed,
    CallFailed,
    ConfigurationError,
    FaultKind,
    NoProviderAvailable,
)
from resilient_llm.policy import Breaker, Hedge, Limits, Policies, Retry
from tests.decide.world import MACHINE, Limit, Luck, Target, World, build, fault

# --- choosing ---


def test_the_first_tier_with_somebody_eligible_is_asked() -> None:
    world = World("a", ["b", "c"], "d")
    assert world.start().target.id == "a"
    world.pool.operate("a", "drain", world.now)
    assert world.start().target.id in "bc"
    assert world.start(unsuitable={"b": "no", "c": "no"}).target.id == "d"


def test_equals_share_the_traffic_of_their_tier() -> None:
    world = World(["a", "b", "c"])
    luck = random.Random(1)
    world.pool = Pool({"main": build(["a", "b", "c"])}, Policies(), luck.random)
    asked: Counter[str] = Counter()
    for _ in range(300):
        attempt = world.start(streaming=True)
        asked[attempt.target.id] += 1
        world.speak(attempt, after=luck.uniform(0.5, 1.5))
        world.succeed(attempt)
    assert min(asked.values()) > 50


def test_a_slow_equal_is_avoided_and_explored_with_a_back_up() -> None:
    world = World(["a", "b"])
    world.answer("a", first=0.2)
    world.answer("b", first=20.0)
    world.answer("a", times=3, first=0.2)
    assert world.start(streaming=True).target.id == "a"
    world.now += 31.0
    world.answer("a", first=0.2)
    explored = world.start(streaming=True)
    assert (explored.target.id, explored.kind) == ("b", "explore")
    assert explored.rescue_after == pytest.approx(1.0)
    assert world.start(streaming=True).target.id == "a", "one token, one exploration"


def test_exploration_is_no_matter_for_a_call_that_already_failed() -> None:
    world = World("x", ["a", "b"])
    world.answer("b", first=20.0)
    world.answer("a", first=0.2)
    world.now += 31.0
    world.answer("a", first=0.2)
    call = world.call(streaming=True)
    world.fail(world.start(call), FaultKind.CONFLICT)
    assert world.start(call).kind == "failover"


def test_an_exploration_is_not_given_up_for_the_next_tier_nor_lends_it_its_name() -> None:
    world = World(["a", "b"], "c")
    world.answer("b", first=0.2)
    world.half_open("a")
    for _ in range(2):
        probe = world.start(only="a", streaming=True)
        world.succeed(probe)
    world.now += 31.0
    world.answer("b", first=0.2)
    world.luck.usual = 0.99
    world.pool.probes.earn(2.0)
    attempt = world.start(streaming=True)
    assert (attempt.target.id, attempt.kind) == ("a", "explore")


def test_a_silent_provider_loses_new_calls_to_the_next_tier() -> None:
    world = World("a", "b")
    world.answer("a", times=20, first=0.5)
    world.start(streaming=True)
    world.now += 10.0
    assert world.start(streaming=True).target.id == "b"
    assert world.start(streaming=True, unsuitable={"b": "no"}).target.id == "a", "rather a silent one than nobody"


def test_a_preferred_provider_that_fails_often_gives_way_before_its_breaker_trips() -> None:
    world = World("a", "b")
    for _ in range(2):
        world.succeed(world.start(only="a"))
        for _ in range(2):
            world.fail(world.start(only="a"))
    assert world.standing("a").breaker == "closed"
    world.luck.usual = 0.5
    assert world.start().target.id == "b"
    assert world.start().target.id == "b"
    world.now += 600.0
    assert world.start().target.id == "a", "long ago is forgiven"
    assert world.start(unsuitable={"b": "no"}).target.id == "a"


def slowed() -> World:
    """A preferred provider that became ten times as slow."""
    world = World("a", "b")
    world.answer("a", times=40, first=0.2)
    world.answer("a", times=8, first=2.0)
    return world


def test_a_preferred_provider_that_became_slow_gives_way_until_a_call_finds_it_fast_again() -> None:
    world = slowed()
    assert world.start(streaming=True).target.id == "b"
    assert world.start(streaming=True, unsuitable={"b": "no"}).target.id == "a", "rather a slow one than nobody"
    world.now += 31.0
    for _ in range(5):
        explored = world.start(streaming=True)
        assert (explored.target.id, explored.kind) == ("a", "explore")
        assert explored.rescue_after is not None
        world.speak(explored, after=0.2)
        world.succeed(explored)
        if world.start(streaming=True).target.id == "a":
            return
        world.now += 31.0
    raise AssertionError("it never came back")


def test_nobody_is_sent_to_find_out_whose_call_cannot_be_raced() -> None:
    world = slowed()
    world.now += 31.0
    assert world.start(streaming=True, repeatable_request=False).target.id == "b"
    call = world.call(unsuitable={"b": "no"}, streaming=True)
    world.abandon(world.start(call))
    world.pool.probes.tokens = 0.0
    assert world.start(streaming=True).target.id == "b", "nor without a token"


def test_exploring_leaves_a_token_for_the_provider_behind_an_open_breaker() -> None:
    world = World(["a", "b", "c"])
    world.answer("b", first=0.2)
    world.answer("a", first=0.2)
    world.trip("c")
    world.now += 2.0
    assert world.standing("c").breaker == "open"
    world.now += 1e-3
    for provider in "ab":
        world.answer(provider, first=0.2)
    world.pool.operate("c", "drain", world.now)
    world.now += 31.0
    world.answer("a", first=0.2)
    world.pool.operate("c", "restore", world.now)
    world.trip("c")
    world.pool.probes.tokens = 1.0
    assert world.start(streaming=True).kind == "initial"
    world.pool.probes.tokens = 2.0
    assert world.start(streaming=True).kind == "explore"


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
    world.luck.usual = 0.0
    assert world.standing("a").score < world.standing("b").score
    world.luck.next = [0.0, 0.99]
    assert world.start(conversation="chat").target.id == "b"
    world.pool.operate("b", "drain", world.now)
    assert world.start(conversation="chat").target.id == "a"


def test_only_so_many_conversations_are_remembered() -> None:
    world = World(["a", "b"])
    world.pool.remember("first", "b")
    for number in range(4096):
        world.pool.remember(str(number), "a")
    world.luck.usual = 0.0
    assert world.start(conversation="first").target.id == "a"
    world.luck.usual = 0.99
    assert world.start(conversation="0").target.id == "a"


# --- outages ---


def test_fifty_calls_in_flight_that_fail_together_open_the_breaker_once() -> None:
    world = World("a", "b")
    attempts = [world.start(only="a") for _ in range(50)]
    for attempt in attempts:
        world.fail(attempt)
    opened = world.events(events.BreakerChanged)
    assert len(opened) == 1
    assert world.standing("a").retry_in == 3.75
    assert world.standing("b").breaker == "closed"


def test_fifty_calls_refused_together_close_the_gate_once_and_for_a_moment() -> None:
    world = World("a", "b")
    attempts = [world.start(only="a") for _ in range(50)]
    for attempt in attempts:
        world.fail(attempt, FaultKind.RATE_LIMITED)
    assert world.standing("a").gate_open_in == 0.75
    assert world.standing("a").limit == 35
    assert world.standing("a").success_rate == pytest.approx(0.95)


def test_a_late_failure_from_before_the_outage_does_not_open_it_again() -> None:
    """Calls last minutes, open periods seconds: what arrives late says nothing about now."""
    world = World("a", "b")
    overhang = [world.start(only="a") for _ in range(20)]
    world.half_open("a")
    for _ in range(2):
        world.succeed(world.start(only="a"))
    assert world.standing("a").breaker == "closed"
    for attempt in overhang:
        world.fail(attempt)
    assert world.standing("a").breaker == "closed"
    assert world.standing("a").success_rate < 0.5, "but health knows"


def test_a_late_success_from_before_the_outage_does_not_close_it() -> None:
    world = World("a", "b")
    world.pool.listening = True
    overhang = [world.start(only="a", streaming=index < 5) for index in range(10)]
    world.trip("a")
    world.events()
    for attempt in overhang:
        world.speak(attempt)
        world.succeed(attempt)
    assert world.standing("a").breaker == "open"
    assert not world.events(events.BreakerChanged)


def test_a_verdict_that_came_too_late_is_told() -> None:
    world = World("a", "b")
    world.pool.listening = True
    late = world.start(only="a")
    world.trip("a")
    world.events()
    world.fail(late)
    told = world.events(events.NotTaken)
    assert [(event.what, event.reason) for event in told] == [("verdict", "stale")]  # type: ignore[union-attr]


def test_fifty_callers_at_the_end_of_an_open_period_send_one_probe() -> None:
    world = World("a", "b")
    world.half_open("a")
    kinds = [world.start() for _ in range(50)]
    assert [attempt.target.id for attempt in kinds].count("a") == 1
    assert kinds[0].kind == "probe"
    alone = World("a")
    alone.half_open("a")
    alone.start()
    for _ in range(49):
        with pytest.raises(NoProviderAvailable) as failure:
            alone.call().next_attempt(alone.now)
        assert failure.value.retry_after == 30.0


@pytest.mark.parametrize("end", ["abandoned", "later", "gated"])
def test_a_probe_without_a_verdict_gives_its_place_to_the_next_caller(end: str) -> None:
    world = World("a", "b")
    world.half_open("a")
    probe = world.start(only="a")
    if end == "later":
        world.pool.abandon_later(probe)
    elif end == "gated":
        world.fail(probe, FaultKind.RATE_LIMITED, retry_after=5.0)
        world.now += 6.25
    else:
        world.abandon(probe)
    assert world.standing("a").breaker == "half_open"
    assert world.standing("a").in_flight == 0
    assert world.start(only="a").kind == "probe"


def test_a_probe_that_lost_its_race_has_failed() -> None:
    world = World("a", "b")
    world.half_open("a")
    probe = world.start()
    world.now += 1.5
    rival = probe.call.rescue(probe, world.now)
    assert rival is not None
    world.succeed(rival, after=0.5)
    probe.call.overtaken(probe, world.now)
    assert world.standing("a").breaker == "open"
    assert [record.outcome for record in probe.call.records] == ["error", "success"], "in the order they began"


def test_a_probe_is_judged_by_its_first_token_and_not_by_its_last() -> None:
    world = World("a", "b")
    world.half_open("a")
    first = world.start(only="a", streaming=True)
    world.speak(first)
    second = world.start(only="a", streaming=True)
    assert second.kind == "probe"
    world.speak(second)
    assert world.standing("a").breaker == "closed"
    assert world.standing("a").in_flight == 2
    world.succeed(first)
    world.fail(second)
    assert world.standing("a").breaker == "closed", "the second broke after it had closed the breaker"


def test_a_probe_that_broke_after_its_first_token_opens_it_again() -> None:
    world = World("a", "b")
    world.half_open("a")
    probe = world.start(only="a", streaming=True)
    world.speak(probe)
    world.fail(probe)
    assert world.standing("a").breaker == "open"


def test_a_hanging_probe_fails_when_its_lease_is_over_and_its_own_end_changes_nothing() -> None:
    world = World("a", "b")
    world.half_open("a")
    probe = world.start(only="a", streaming=True)
    world.now += 4.9
    assert world.standing("a").breaker == "half_open"
    world.now += 0.1
    assert world.standing("a").breaker == "open"
    assert world.standing("a").breaker_reason == "a probe gave no sign of life"
    world.now += 10.0
    second = world.start(only="a", streaming=True)
    assert second.kind == "probe"
    world.speak(probe)
    world.fail(probe)
    assert world.standing("a").breaker == "half_open"
    assert world.standing("a").in_flight == 1


def test_the_confirming_probe_is_free() -> None:
    world = World("a", "b", breaker=Breaker(probe_ratio=0.0))
    world.half_open("a")
    first = world.start()
    assert first.kind == "probe"
    world.succeed(first)
    second = world.start()
    assert second.kind == "probe", "the only token went to the first"
    world.succeed(second)
    assert world.standing("a").breaker == "closed"


def test_probes_are_earned_by_traffic_and_by_time() -> None:
    def probes(calls: int, pause: float) -> int:
        world, found = World("a", "b"), 0
        world.trip("a")
        world.now += 60.0
        for _ in range(calls):
            attempt = world.start()
            found += attempt.kind == "probe"
            if attempt.kind == "probe":
                world.abandon(attempt)
            else:
                world.succeed(attempt)
            world.now += pause
        return found

    assert probes(201, 0.0) == 1 + 10
    assert probes(11, 120.0) == 11


def test_the_second_probe_of_a_phase_is_no_change_of_state() -> None:
    world = World("a", "b")
    world.half_open("a")
    world.events()
    world.succeed(world.start(only="a"))
    world.succeed(world.start(only="a"))
    changes = [(event.old, event.new) for event in world.events(events.BreakerChanged)]  # type: ignore[union-attr]
    assert changes == [("open", "half_open"), ("half_open", "closed")]


def test_after_its_return_a_provider_gets_a_growing_share() -> None:
    world = World("a", "b")
    world.pool.operate("a", "isolate", world.now)
    world.pool.operate("a", "restore", world.now)
    world.luck.usual = 0.5
    assert world.start().target.id == "b", "a tenth of the traffic"
    world.now += 31.0
    assert world.start().target.id == "a", "half of it after half a minute"
    world.luck.usual = 0.99
    assert world.start().target.id == "b"
    world.now += 30.0
    assert world.start().target.id == "a"


def test_a_failure_of_this_machine_opens_for_the_base_time_only() -> None:
    world = World("a", "b")
    for provider in "ab":
        world.trip(provider, FaultKind.CONNECTION)
    for _ in range(3):
        world.now += 2.6
        for provider in "ab":
            world.fail(world.start(only=provider), FaultKind.CONNECTION)
    assert world.standing("b").retry_in == 3.75


def test_a_connection_that_broke_after_the_first_token_is_not_this_machines_fault() -> None:
    world = World("a", "b")
    for provider in "ab":
        attempt = world.start(only=provider, streaming=True)
        world.speak(attempt)
        world.fail(attempt, FaultKind.CONNECTION)
    assert not any(m.connect_failed_at > 0 for m in world.pool._members.values())


# --- panic ---


def test_when_nobody_is_eligible_one_probe_per_second_and_provider_is_forced() -> None:
    world = World("a", "b")
    for provider in "ab":
        world.trip(provider)
    world.events()
    forced, refusals = 0, []
    for _ in range(100):
        try:
            attempt = world.start()
        except NoProviderAvailable as error:
            refusals.append(error)
        else:
            forced += 1
            assert attempt.kind == "probe"
            world.fail(attempt)
        world.now += 0.02
    assert forced == 4
    assert len(refusals) == 96
    for refusal in refusals:
        assert refusal.retry_after is not None
        assert set(refusal.reasons.values()) <= {"breaker open", "breaker half-open, a probe is under way"}
    assert len(world.events(events.Forced)) == 4


def test_the_breaker_that_would_open_first_is_forced_first() -> None:
    world = World("a", "b")
    world.trip("b")
    world.now += 1.0
    world.trip("a")
    assert world.start().target.id == "b"
    assert world.start().target.id == "a"


def test_the_only_provider_is_still_asked_once_a_second_and_comes_back_at_once() -> None:
    world = World("a")
    world.trip("a")
    world.succeed(world.start())
    world.succeed(world.start())
    assert world.standing("a").breaker == "closed"


def test_nobody_is_forced_past_a_gate_a_person_or_the_same_call() -> None:
    world = World("a", "b", "c")
    for provider in "abc":
        world.trip(provider)
    world.pool.operate("a", "drain", world.now)
    world.pool.operate("b", "isolate", world.now)
    attempt = world.start()
    assert attempt.target.id == "c"
    world.fail(attempt, FaultKind.CONFLICT)
    world.now += 1.0
    with pytest.raises(AllAttemptsFailed):
        attempt.call.next_attempt(world.now)


# --- budgets ---


def test_failovers_are_bounded_for_the_whole_pool_and_earned_back_by_success() -> None:
    world = World("a", "b", retry=Retry(failover_budget=3.0, max_attempts=2))
    moved = 0
    for _ in range(3):
        world.fail(world.start(only="b"))  # nobody who deserves it is left
    for _ in range(10):
        call = world.call()
        world.fail(world.start(call), FaultKind.UNSUPPORTED)
        try:
            world.abandon(world.start(call))
            moved += 1
        except AllAttemptsFailed:
            pass
    assert moved == 3
    told = world.events(events.NotTaken)
    assert {event.what for event in told} == {"failover"}  # type: ignore[union-attr]
    world.succeed(world.start())
    world.succeed(world.start())
    call = world.call()
    world.fail(world.start(call), FaultKind.UNSUPPORTED)
    assert world.start(call).target.id == "b"


def test_fifty_calls_of_a_dying_provider_all_find_another() -> None:
    world = World("a", "b")
    calls = [world.call() for _ in range(50)]
    attempts = [world.start(call) for call in calls]
    for attempt in attempts:
        world.fail(attempt)
    assert [world.start(call).target.id for call in calls] == ["b"] * 50


def test_first_attempts_cost_nothing() -> None:
    world = World("a", "b")
    before = (world.pool.retries.tokens, world.pool.failovers.tokens)
    for _ in range(100):
        world.abandon(world.start())
    assert (world.pool.retries.tokens, world.pool.failovers.tokens) == before


def test_a_call_answered_twice_earns_once() -> None:
    world = World("a", "b")
    world.pool.failovers.tokens = world.pool.retries.tokens = 0.0
    call = world.call(timeout=20.0)
    first = world.start(call)
    world.pool.failovers.tokens = 1.0
    second = call.rescue(first, world.now + 10.0)
    assert second is not None
    world.succeed(first)
    world.succeed(second)
    assert world.pool.retries.tokens == pytest.approx(0.2)
    assert world.pool.failovers.tokens == pytest.approx(0.5)


# --- slow gates ---


def test_a_wrong_key_bars_every_provider_of_the_account_and_a_missing_model_only_its_own() -> None:
    world = World(Target("a", account="acme"), Target("b", account="acme"), "c")
    world.fail(world.start(), FaultKind.NOT_FOUND_MODEL)
    assert world.start().target.id == "b"
    world.fail(world.start(only="b"), FaultKind.AUTH)
    assert world.start().target.id == "c"
    assert world.explain() == {
        "a": "quota or credentials (not_found_model) for 57 s more",
        "b": "quota or credentials (auth) for 57 s more",
        "c": None,
    }


def test_exhausted_quota_is_tried_again_by_one_call_at_a_time() -> None:
    world = World("a", "b")
    world.fail(world.start(), FaultKind.QUOTA_EXHAUSTED, retry_after=17.0, trust_hint=False)
    assert world.standing("a").gate_reason == "quota_exhausted"
    assert world.standing("a").gate_open_in == pytest.approx(57.0)
    world.now += 57.0
    probe = world.start()
    assert probe.target.id == "a"
    assert world.start().target.id == "b"
    world.abandon(probe)
    probe = world.start()
    assert probe.target.id == "a", "a cancelled attempt gives its place back"
    world.succeed(probe)
    assert [world.start().target.id for _ in range(3)] == ["a"] * 3
    assert world.standing("a").gate_reason == ""


def test_a_long_gone_reason_is_not_told_again() -> None:
    world = World(Target("a", account="acme"), "b")
    world.fail(world.start(), FaultKind.AUTH)
    world.now += 57.0
    world.succeed(world.start(only="a"))
    world.fail(world.start(only="a"), FaultKind.RATE_LIMITED, retry_after=8.0)
    assert world.standing("a").gate_reason == "rate_limited"
    world.now += 10.0
    world.fail(world.start(only="a"), FaultKind.NOT_FOUND_MODEL)
    assert world.explain()["a"] == "quota or credentials (not_found_model) for 57 s more"


def test_a_quota_that_says_when_it_ends_is_believed() -> None:
    world = World("a", "b")
    world.fail(world.start(), FaultKind.QUOTA_EXHAUSTED, retry_after=600.0)
    assert world.standing("a").gate_open_in == pytest.approx(570.0)
    closed = world.events(events.GateClosed)
    assert [(event.slow, event.reason) for event in closed] == [(True, "quota_exhausted")]  # type: ignore[union-attr]


# --- looking ---


def test_every_refusal_is_explained() -> None:
    names = ["drained", "isolated", "keyless", "gated", "poor", "broken", "due", "probing", "blind", "ready"]
    world = World(*names, Target("full", max_concurrency=1))
    for name in ("due", "probing"):
        world.trip(name)
    world.now += 5.0
    world.start(only="probing")
    world.trip("broken")
    world.fail(world.start(only="keyless"), FaultKind.AUTH)
    world.fail(world.start(only="gated"), FaultKind.RATE_LIMITED, retry_after=8.0)
    poor = world.start(only="poor")
    world.pool.learn(poor.member, world.now, None, Limit(limit=10, remaining=5, reset_in=4.0))
    world.start(only="full")
    world.pool.operate("drained", "drain", world.now)
    world.pool.operate("isolated", "isolate", world.now)
    assert world.explain(tokens=6, unsuitable={"blind": "cannot see images"}) == {
        "drained": "drained",
        "isolated": "isolated by hand",
        "keyless": "quota or credentials (auth) for 57 s more",
        "gated": "asked us to wait (rate_limited) for 9 s more",
        "poor": "too few tokens left in its rate limit for 4 s more",
        "broken": "breaker open (5 failures in a row) for 3.75 s more",
        "due": "breaker half-open, a probe is due",
        "probing": "breaker half-open, a probe is under way for 30 s more",
        "blind": "cannot see images",
        "ready": None,
        "full": "at its concurrency limit",
    }


def test_a_snapshot_shows_every_provider_as_it_stands() -> None:
    world = World(Target("a", max_concurrency=9), "b")
    assert world.standing("a").state == "unknown"
    world.answer("a", times=3, first=0.5)
    attempt = world.start(only="a")
    world.succeed(attempt, after=2.0, tokens=10)
    world.pool.learn(attempt.member, world.now, None, Limit(remaining=5, reset_in=4.0))
    assert world.standing("a") == Standing(
        id="a",
        state="healthy",
        score=world.standing("a").success_rate,
        breaker="closed",
        breaker_reason="",
        retry_in=None,
        gate_open_in=None,
        gate_reason="",
        success_rate=pytest.approx(0.97, abs=0.01),
        error_rate=0.0,
        in_flight=0,
        limit=9,
        samples=4,
        first_token_p50=pytest.approx(0.5),
        first_token_p95=pytest.approx(0.5),
        answer_p50=2.0,
        answer_p95=2.0,
        requests_left=None,
        tokens_left=5,
        drained=False,
    )
    world.now += 4.0
    assert world.standing("a").tokens_left is None
    for _ in range(4):
        world.fail(world.start(only="a"))
    assert world.standing("a").state == "degraded"
    world.fail(world.start(only="a"))
    assert world.standing("a").state == "unhealthy"


def test_a_lasting_slowdown_is_seen_before_anything_fails() -> None:
    world = World("a")
    world.answer("a", times=40, first=0.5)
    assert world.standing("a").state == "healthy"
    world.answer("a", times=10, first=5.0)
    assert world.standing("a").state == "degraded"


def test_a_second_sign_of_life_is_no_second_sample() -> None:
    world = World("a")
    attempt = world.start(streaming=True)
    world.speak(attempt, after=1.0)
    world.speak(attempt, after=50.0)
    assert attempt.member.health.first.count == 1
    assert attempt.content_at == 1001.0


def test_a_suspended_machine_does_not_make_a_provider_look_slow_for_hours() -> None:
    world = World("a", "b")
    whole, stream, loser = world.start(), world.start(streaming=True), world.start(streaming=True)
    world.now += 36000.0
    world.succeed(whole)
    world.speak(stream)
    loser.call.overtaken(loser, world.now)
    assert world.standing("a").answer_p95 == pytest.approx(30.0 + 2 * 4096 * 0.03)
    assert world.standing("a").first_token_p95 == 30.0


# --- operators ---


def test_a_drained_provider_finishes_what_it_has_and_gets_nothing_new() -> None:
    world = World("a", "b")
    running = world.start()
    world.pool.operate("a", "drain", world.now)
    assert world.start().target.id == "b"
    assert world.pool.in_flight("a") == 1
    assert world.standing("a").drained
    world.succeed(running)
    assert world.pool.in_flight("a") == 0
    world.pool.operate("a", "restore", world.now)
    assert world.start().target.id == "a"


def test_an_isolated_provider_stays_out_until_restored_and_then_returns_gradually() -> None:
    world = World("a", "b")
    world.pool.operate("a", "isolate", world.now)
    world.now += 1e6
    assert world.start().target.id == "b"
    world.pool.operate("a", "restore", world.now)
    assert world.standing("a").breaker == "closed"
    assert world.start().target.id == "b"
    world.now += 60.0
    assert world.start().target.id == "a"
    told = [(event.provider, event.action) for event in world.events(events.Drained)]  # type: ignore[union-attr]
    assert told == [("a", "isolate"), ("a", "restore")]


def test_an_attempt_from_before_it_was_isolated_does_not_move_it() -> None:
    world = World("a", "b")
    running = [world.start() for _ in range(6)]
    world.pool.operate("a", "isolate", world.now)
    for attempt in running:
        world.fail(attempt)
    assert world.standing("a").breaker == "isolated"


def test_operators_are_told_what_they_got_wrong() -> None:
    world = World("a", "b")
    with pytest.raises(ConfigurationError, match="there is no provider 'x'; there are a, b"):
        world.pool.operate("x", "drain", world.now)
    with pytest.raises(ConfigurationError, match="drained, isolated or restored, not 'stop'"):
        world.pool.operate("a", "stop", world.now)
    assert world.pool.in_flight("x") == 0


# --- configuration ---


def test_routes_share_the_state_of_a_provider() -> None:
    shared = Target("a")
    pool = Pool({"smart": [[shared], [Target("b")]], "fast": [[Target("c")], [shared]]}, Policies(), Luck())
    assert pool.route_names == ("smart", "fast")
    assert [target.id for target in pool.targets()] == ["a", "b", "c"]
    assert [target.id for target in pool.targets("fast")] == ["c", "a"]
    assert pool.targets("none") == ()
    attempt = Call(pool, 0.0, route="smart").next_attempt(0.0)
    assert isinstance(attempt, Attempt)
    pool.operate("c", "drain", 0.0)
    attempt = Call(pool, 0.0, route="fast").next_attempt(0.0)
    assert isinstance(attempt, Attempt)
    assert pool.in_flight("a") == 2


@pytest.mark.parametrize(
    ("routes", "message"),
    [
        ({}, "at least one route with at least one provider is needed"),
        ({"main": []}, "route 'main' has no providers"),
        ({"main": [[], []]}, "route 'main' has no providers"),
        ({"main": build("a", "a")}, "two providers of route 'main' have the id 'a'"),
        ({"main": build("a"), "other": build("a")}, "two different providers have the id 'a'"),
    ],
)
def test_unusable_routes_are_refused_with_the_reason(routes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Pool(routes, Policies(), Luck())


def test_an_empty_tier_is_left_out() -> None:
    assert World([], "a", []).start().target.id == "a"


def test_replacing_keeps_the_state_of_those_who_stay_and_lets_the_others_finish() -> None:
    world = World("a", "b", "gone")
    world.trip("a")
    world.answer("b", first=0.5)
    leaving = world.start(only="gone")
    staying = world.start(only="b")
    before = world.standing("b")
    assert world.pool.replace({"main": build("b", "a", "new")}, world.now) == ("gone",)
    assert world.standing("b") == before
    assert world.standing("a").breaker == "open"
    assert world.standing("new").state == "unknown"
    assert world.start().target.id == "b"
    world.fail(leaving)
    world.succeed(staying)
    assert world.pool.in_flight("b") == 1
    assert world.pool.in_flight("gone") == 0
    told = [(event.provider, event.action) for event in world.events(events.Drained)]  # type: ignore[union-attr]
    assert told == [("gone", "removed")]


def test_a_provider_that_comes_back_after_its_removal_is_a_new_one() -> None:
    world = World("a", "b")
    old = world.start()
    world.trip("a")
    world.pool.replace({"main": build("b")}, world.now)
    world.pool.replace({"main": build("a", "b")}, world.now)
    assert world.standing("a").breaker == "closed"
    world.fail(old)
    assert world.standing("a").samples == 0
    assert world.pool.in_flight("a") == 0


def test_new_settings_of_the_same_provider_hold_at_once() -> None:
    world = World(Target("a", max_concurrency=1), "b")
    world.start()
    assert world.start().target.id == "b"
    bigger = Target("a", max_concurrency=2, model="m2")
    world.pool.replace({"main": [[bigger], *build("b")]}, world.now)
    assert world.start().target is bigger


def test_a_failed_replacement_changes_nothing() -> None:
    world = World(Target("a", max_concurrency=1), "b")
    with pytest.raises(ConfigurationError):
        world.pool.replace({"main": [[Target("a")]], "other": []}, world.now)
    assert world.pool.route_names == ("main",)
    assert world.standing("a").limit == 1
    assert world.start().target.max_concurrency == 1


def test_another_key_is_not_barred_for_what_the_one_before_it_met() -> None:
    world = World(Target("a", account="old key"))
    world.fail(world.start(), FaultKind.AUTH)
    with pytest.raises(NoProviderAvailable):
        world.start()
    world.pool.replace({"main": [[Target("a", account="new key")]]}, world.now)
    assert world.start().target.account == "new key"
    world.pool.replace({"main": [[Target("a")]]}, world.now)
    assert world.start().target.account is None


# --- abandonment, forks ---


def test_an_attempt_left_to_the_garbage_collector_is_settled_by_the_next_call() -> None:
    world = World("a", "b")
    world.half_open("a")
    probe = world.start()
    world.pool.abandon_later(probe)
    assert not probe.released, "nothing happens in a finaliser"
    again = world.start(only="a")
    assert probe.released
    assert again.kind == "probe"
    assert world.pool.in_flight("a") == 1
    assert world.standing("a").success_rate == pytest.approx(world.standing("a").success_rate)


def test_abandoning_later_what_has_ended_in_time_changes_nothing() -> None:
    world = World("a")
    attempt = world.start()
    world.pool.abandon_later(attempt)
    world.pool.abandon_later(attempt)
    world.succeed(attempt)
    assert world.standing("a").in_flight == 0


def test_after_a_fork_the_childs_books_begin_at_nothing_and_the_parents_attempts_are_not_in_them() -> None:
    world = World("a", "b")
    world.half_open("b")
    probe, parents = world.start(only="b"), world.start()
    world.fail(world.start(only="a"), FaultKind.AUTH)
    world.pool.reset_after_fork()
    assert world.events() == []
    assert world.pool.in_flight("a") == 0
    childs = world.start(only="b")
    assert childs.kind == "probe", "the parent's probe holds no place here"
    world.succeed(probe)
    world.fail(parents)
    world.pool.abandon_later(parents)
    assert world.standing("a").in_flight == 0
    assert world.standing("b").in_flight == 1
    assert world.standing("b").breaker == "half_open"
    world.succeed(childs)
    assert world.standing("b").in_flight == 0


@pytest.mark.parametrize("before", ["saved", "spent"])
def test_a_forked_worker_begins_with_the_allowance_of_a_new_client_whatever_its_parent_saved_or_spent(
    before: str,
) -> None:
    new, world = World("a").pool, World("a")
    world.answer("a", times=1000)
    pool = world.pool
    budgets = (pool.retries, pool.failovers, pool.hedges, pool.probes)
    assert [budget.tokens for budget in budgets] == [10.0, 10.0, 10.0, 2.0], "a day's savings"
    if before == "spent":
        for budget in budgets:
            budget.tokens = 0.0
    pool.reset_after_fork()
    for name in ("retries", "failovers", "hedges", "probes"):
        assert getattr(pool, name).tokens == getattr(new, name).tokens, name
    world.now += 60.0
    world.start()
    assert pool.probes.tokens == pytest.approx(1.05), "time counts from the child's first call"


def test_events_taken_by_two_readers_are_taken_once() -> None:
    world = World("a")
    world.pool.operate("a", "drain", world.now)
    world.pool.operate("a", "restore", world.now)
    first, second = iter(world.pool.take_events()), iter(world.pool.take_events())
    taken = [next(first), next(second)]
    assert [event.action for event in taken] == ["drain", "restore"]  # type: ignore[union-attr]
    assert next(first, None) is None
    assert next(second, None) is None


def test_a_reader_who_finds_the_last_event_taken_is_not_disturbed() -> None:
    class Raced(deque[events.Event]):
        """Looks as if it held an event that another thread takes in that moment."""

        def __bool__(self) -> bool:
            return True

    world = World("a")
    world.pool._events = Raced()
    assert world.events() == []


# --- the same again ---


def diary(seed: int, shift: float) -> Iterator[object]:
    """An hour of a pool in mixed weather, times relative to its beginning."""
    luck = random.Random(seed)
    world = World("a", ["b", "c"], now=shift, breaker=Breaker(min_samples=4))
    world.pool = Pool({"main": build("a", ["b", "c"])}, Policies(), luck.random)
    world.pool.listening = True
    kinds = list(FaultKind)
    for _ in range(400):
        world.now += luck.randrange(64) / 8
        call = world.call(streaming=luck.random() < 0.5, timeout=64.0)
        try:
            while isinstance(step := call.next_attempt(world.now), Wait):
                world.now += math.ceil(step.seconds * 8) / 8
                yield step.reason
            if luck.random() < 0.6:
                world.succeed(step, after=luck.randrange(16) / 8)
            else:
                world.fail(step, luck.choice(kinds), retry_after=luck.choice([None, 0.5, 8.0]))
        except CallFailed as error:
            yield type(error), len(error.attempts)
        for event in world.events():
            yield type(event), event.provider, getattr(event, "new", None), getattr(event, "kind", None)


def test_the_same_luck_gives_the_same_history() -> None:
    assert list(diary(7, 0.0)) == list(diary(7, 0.0))
    assert list(diary(7, 0.0)) != list(diary(8, 0.0))


@pytest.mark.parametrize("shift", [2.0**16, 2.0**20])
def test_shifting_the_clock_shifts_the_history_and_nothing_else(shift: float) -> None:
    assert list(diary(7, shift)) == list(diary(7, 0.0))


# --- any history ---

NEUTRAL = {kind for kind in FaultKind if disposition(fault(kind)).outcome not in (Outcome.HARD, Outcome.SOFT)}
POLICIES = Policies(retry=Retry(max_attempts=3), hedge=Hedge(ratio=0.5), limits=Limits(gate_cap=50.0, slow_cap=600.0))
IDS = ("a", "b", "c", "d")


def told(call: Call[Target], now: float) -> Attempt[Target] | Wait | CallFailed:
    """What a call is told to do next; the error, if that is to give up."""
    try:
        return call.next_attempt(now)
    except CallFailed as error:
        return error


class PoolMachine(RuleBasedStateMachine):
    """Any number of calls, in any state, with anything happening to them in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.calls: list[Call[Target]] = []
        self.live: list[Attempt[Target]] = []
        self.dropped: list[Attempt[Target]] = []
        self.hedged: Counter[int] = Counter()
        self.phase: Counter[str] = Counter()
        self.age: Counter[str] = Counter()
        self.born: dict[Attempt[Target], tuple[int, int]] = {}
        """Which incarnation of its provider an attempt was made at, and in which phase of its breaker."""

    @initialize(seed=st.integers(0, 2**16))
    def open_pool(self, seed: int) -> None:
        self.pool = Pool({"main": self.tiers(("a", "b", "c"), 2)}, POLICIES, random.Random(seed).random)

    def tiers(self, ids: tuple[str, ...], limit: int | None) -> list[list[Target]]:
        targets = [Target(name, max_concurrency=limit if name == "a" else None, account="x") for name in ids]
        return [targets[:1], targets[1:]]

    # --- helpers ---

    def standings(self) -> dict[str, Standing]:
        found = {standing.id: standing for standing in self.pool.snapshot(self.now)}
        self.dropped.clear()
        for event in self.pool.take_events():
            if isinstance(event, events.BreakerChanged):
                self.phase[event.provider] += 1
        return found

    def began(self, attempt: Attempt[Target]) -> None:
        name = attempt.target.id
        self.standings()
        self.live.append(attempt)
        self.born[attempt] = (self.age[name], self.phase[name])

    def ended(self, attempt: Attempt[Target]) -> None:
        self.live.remove(attempt)

    def some(self, data: st.DataObject) -> Attempt[Target]:
        return data.draw(st.sampled_from(self.live), label="attempt")

    def unmoved(self, before: dict[str, Standing]) -> None:
        after = self.standings()
        for name, standing in before.items():
            found = after[name]
            assert (found.breaker, found.success_rate, found.error_rate, found.samples) == (
                standing.breaker,
                standing.success_rate,
                standing.error_rate,
                standing.samples,
            )

    # --- calls ---

    @rule(
        streaming=st.booleans(),
        timeout=st.sampled_from([math.inf, 0.1, 5.0, 60.0]),
        repeatable=st.booleans(),
        conversation=st.sampled_from([None, "x", "y"]),
    )
    def begin(self, streaming: bool, timeout: float, repeatable: bool, conversation: str | None) -> None:
        call = Call(
            self.pool,
            self.now,
            route="main",
            deadline=self.now + timeout,
            streaming=streaming,
            repeatable_request=repeatable,
            conversation=conversation,
        )
        self.calls.append(call)
        self.proceed(call)

    @precondition(lambda self: self.ready())
    @rule(data=st.data())
    def go_on(self, data: st.DataObject) -> None:
        self.proceed(data.draw(st.sampled_from(self.ready()), label="call"))

    def ready(self) -> list[Call[Target]]:
        """The calls that may ask what to do."""
        return [call for call in self.calls if not call.in_flight and not call.answered]

    def proceed(self, call: Call[Target]) -> None:
        before = self.standings()
        step = told(call, self.now)
        if isinstance(step, CallFailed):
            assert step.retry_after is None or not step.retry_after < 0.0
            assert len(step.attempts) == len(call.records)
            self.calls.remove(call)
            return
        if isinstance(step, Wait):
            assert 0.0 <= step.seconds <= POLICIES.retry.max_wait
            assert self.now + step.seconds < call.deadline
            return
        name = step.target.id
        assert before[name].gate_open_in is None, "nobody is asked before its gate opens"
        assert not before[name].drained
        assert before[name].breaker != "isolated"
        assert step.kind in ("initial", "failover", "retry", "probe", "explore")
        assert 0.0 < step.timeout < math.inf
        assert call.made <= POLICIES.retry.max_attempts
        self.began(step)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def rescue(self, data: st.DataObject) -> None:
        beside = self.some(data)
        if self.hedged[id(beside)]:
            return
        found = beside.call.rescue(beside, self.now)
        if found is not None:
            self.hedged[id(beside)] += 1
            self.began(found)
            assert found.member is not beside.member
            assert found.rescue_after is None
            assert beside.content_at is None
            assert beside.call.total <= 2 * POLICIES.retry.max_attempts

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def first_content(self, data: st.DataObject) -> None:
        attempt = self.some(data)
        attempt.call.first_content(attempt, self.now)

    @precondition(lambda self: self.live)
    @rule(data=st.data(), tokens=st.integers(0, 5000))
    def succeed(self, data: st.DataObject, tokens: int) -> None:
        attempt = self.some(data)
        attempt.call.succeeded(attempt, self.now, tokens)
        self.ended(attempt)
        assert attempt.call.answered

    @precondition(lambda self: self.live)
    @rule(data=st.data(), kind=st.sampled_from(FaultKind), hint=st.sampled_from([None, 0.0, 1.0, 40.0, 1e9, math.nan]))
    def fail(self, data: st.DataObject, kind: FaultKind, hint: float | None) -> None:
        attempt, before = self.some(data), self.standings()
        attempt.call.failed(attempt, fault(kind, retry_after=hint), self.now)
        self.ended(attempt)
        if kind in NEUTRAL:
            self.unmoved(before)
        self.not_shortened(before)

    def not_shortened(self, before: dict[str, Standing]) -> None:
        for name, standing in self.standings().items():
            assert (standing.gate_open_in or 0.0) >= (before[name].gate_open_in or 0.0), "a gate is never shortened"
            assert (standing.gate_open_in or 0.0) <= 600.0

    @precondition(lambda self: self.live)
    @rule(data=st.data(), how=st.sampled_from(["abandoned", "overtaken"]))
    def leave(self, data: st.DataObject, how: str) -> None:
        attempt, before = self.some(data), self.standings()
        doubted = attempt.unheard(self.now) and attempt.rescuable(self.now)
        late = attempt.content_at is None and (self.now >= attempt.overdue_at or attempt.probing or doubted)
        getattr(attempt.call, how)(attempt, self.now)
        self.ended(attempt)
        if how == "abandoned" or not late:
            self.unmoved(before)
        self.not_shortened(before)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        attempt, before = self.some(data), self.standings()
        self.pool.abandon_later(attempt)
        self.live.remove(attempt)
        self.dropped.append(attempt)
        self.calls = [call for call in self.calls if call is not attempt.call]
        self.unmoved(before)

    # --- the world ---

    @rule(name=st.sampled_from(IDS), kind=st.sampled_from([FaultKind.SERVER_ERROR, FaultKind.CONNECTION]))
    def outage(self, name: str, kind: FaultKind) -> None:
        """Five calls to one provider fail."""
        others = {other: "not this time" for other in IDS if other != name}
        for _ in range(5):
            call = Call(self.pool, self.now, route="main", unsuitable=others)
            try:
                step = call.next_attempt(self.now)
            except CallFailed:
                return
            if isinstance(step, Wait):
                return
            call.failed(step, fault(kind), self.now)

    @rule(seconds=st.sampled_from([0.0, 0.01, 1.0, 5.0, 31.0, 120.0, 1e6]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(name=st.sampled_from(IDS), action=st.sampled_from(["drain", "isolate", "restore"]))
    def operate(self, name: str, action: str) -> None:
        if any(target.id == name for target in self.pool.targets()):
            self.pool.operate(name, action, self.now)

    @rule(ids=st.permutations(IDS), size=st.integers(1, 4), limit=st.sampled_from([None, 1, 3]))
    def replace(self, ids: list[str], size: int, limit: int | None) -> None:
        for removed in self.pool.replace({"main": self.tiers(tuple(ids[:size]), limit)}, self.now):
            self.age[removed] += 1

    @rule(remaining=st.integers(0, 10), reset=st.sampled_from([None, 0.0, 3.0, 1e9]))
    def learn(self, remaining: int, reset: float | None) -> None:
        for attempt in self.live[:1]:
            before = self.standings()
            headroom = Limit(limit=10, remaining=remaining, reset_in=reset)
            self.pool.learn(attempt.member, self.now, headroom, headroom)
            self.not_shortened(before)

    # --- what always holds ---

    @invariant()
    def the_books_balance(self) -> None:
        for name, standing in self.standings().items():
            here = [attempt for attempt in self.live if self.here(attempt, name)]
            assert standing.in_flight == len(here)
            assert self.pool.in_flight(name) == len(here)
            assert 0.0 <= standing.score <= 1.0
            assert 0.0 < standing.success_rate <= 1.0
            assert standing.retry_in is None or 0.0 <= standing.retry_in <= 60.0
            silent = [
                attempt
                for attempt in here
                if attempt.kind == "probe" and attempt.content_at is None and self.born[attempt][1] == self.phase[name]
            ]
            assert len(silent) <= 1, "one probe at a time"
            assert not silent or standing.breaker == "half_open"

    def here(self, attempt: Attempt[Target], name: str) -> bool:
        return attempt.target.id == name and self.born[attempt][0] == self.age[name]

    @invariant()
    def the_budgets_hold(self) -> None:
        pool = self.pool
        for budget in (pool.retries, pool.failovers, pool.hedges, pool.probes):
            assert 0.0 <= budget.tokens <= budget.cap

    def teardown(self) -> None:
        """Whatever happened, every call ends, and when all have ended nothing is in flight."""
        for attempt in self.live:
            attempt.call.abandoned(attempt, self.now)
        for call in self.calls:
            if not call.answered:
                self.end(call)
        for standing in self.pool.snapshot(self.now):
            assert standing.in_flight == 0

    def end(self, call: Call[Target]) -> None:
        for _ in range(30):
            try:
                step = call.next_attempt(self.now)
            except CallFailed:
                return
            if isinstance(step, Wait):
                self.now += step.seconds
            else:
                call.failed(step, fault(), self.now)
        raise AssertionError("a call that does not end")


PoolMachine.TestCase.settings = MACHINE
test_any_history_keeps_the_books_and_ends = PoolMachine.TestCase


# --- interleavings ---

STEPS = ("begin", "speak", "end")
ENDS = ["succeed", "fail", "abandon", "lose"]
FRAGILE = Policies(breaker=Breaker(consecutive=1, panic_interval=86400.0))


def orders(*left: int) -> Iterator[tuple[int, ...]]:
    """Every order in which so many steps of each can be made."""
    if not any(left):
        yield ()
    for who, steps in enumerate(left):
        if steps:
            fewer = (*left[:who], steps - 1, *left[who + 1 :])
            yield from ((who, *rest) for rest in orders(*fewer))


ORDERS = [order for order in orders(3, 3, 3) if order[0] == 0]  # whoever begins is called the first


PAIRS = list(itertools.combinations_with_replacement(ENDS, 2))  # the other two can be exchanged


@pytest.mark.parametrize("others", PAIRS, ids="-".join)
@pytest.mark.parametrize("first", ENDS)
def test_three_attempts_at_a_half_open_breaker_in_every_order(first: str, others: tuple[str, str]) -> None:
    ends = (first, *others)
    for order in ORDERS:
        HalfOpen(ends).run(order)


class HalfOpen:
    """A half-open breaker and three callers; whatever the order, one probe at a time and balanced books."""

    def __init__(self, ends: tuple[str, ...]) -> None:
        self.ends = ends
        self.now = 0.0
        self.pool = Pool({"main": build("a")}, FRAGILE, Luck())
        self.attempts: list[Attempt[Target] | None] = [None, None, None]
        self.made = [0, 0, 0]
        self.begin(0)
        self.end(0, "fail")
        self.now += 5.0

    def run(self, order: tuple[int, ...]) -> None:
        for who in order:
            self.step(who, STEPS[self.made[who]])
            self.made[who] += 1
            live = [attempt for attempt in self.attempts if attempt is not None and not attempt.released]
            assert self.pool.in_flight("a") == len(live)
            probes = [a for a in live if a.probing and a.generation == a.member.breaker.generation]
            assert len(probes) <= 1
            assert bool(probes) == (live != [] and live[0].member.breaker.probe_expires is not None)
        assert self.pool.in_flight("a") == 0

    def step(self, who: int, step: str) -> None:
        attempt = self.attempts[who]
        if step == "begin":
            self.begin(who)
        elif attempt is None:
            return
        elif step == "speak":
            attempt.call.first_content(attempt, self.now)
        else:
            self.end(who, self.ends[who])
            self.end(who, "fail")  # whatever is reported after the end changes nothing

    def begin(self, who: int) -> None:
        try:
            step = Call(self.pool, self.now, route="main").next_attempt(self.now)
        except NoProviderAvailable:
            return
        assert isinstance(step, Attempt)
        self.attempts[who] = step

    def end(self, who: int, how: str) -> None:
        attempt = self.attempts[who]
        assert attempt is not None
        if how == "succeed":
            attempt.call.succeeded(attempt, self.now)
        elif how == "fail":
            attempt.call.failed(attempt, fault(), self.now)
        elif how == "abandon":
            attempt.call.abandoned(attempt, self.now)
        else:
            self.pool.abandon_later(attempt)
            self.pool.snapshot(self.now)


def test_an_equal_that_is_well_takes_the_calls_of_a_silent_one_before_the_next_tier_does() -> None:
    world = World(["a", "b"], "c")
    for _ in range(25):
        world.answer("a", first=0.2)
        world.answer("b", first=0.2)
    world.start(only="a", streaming=True)  # never speaks
    world.now += 5.0
    assert {world.start(streaming=True).target.id for _ in range(5)} == {"b"}


def test_rescues_from_a_silent_provider_do_not_end_with_the_hedge_budget() -> None:
    world = World("a", "b")
    for _ in range(25):
        world.answer("a", first=0.2)
    world.pool.hedges.tokens = 0.0
    first = world.start(world.call(streaming=True))
    world.now += 5.0
    assert first.call.rescue(first, world.now) is not None


def test_a_slow_provider_is_not_given_more_than_the_hedge_budget() -> None:
    world = World("a", "b")
    for _ in range(25):
        world.answer("a", first=0.2)
    world.pool.hedges.tokens = 0.0
    slow = world.start(world.call(streaming=True))
    world.now += 1.0
    speaking = world.start(only="a", streaming=True)
    world.now += 1.0
    world.pool.first_content(speaking, world.now)
    assert slow.call.rescue(slow, world.now) is None


def test_an_answer_to_a_call_begun_before_the_gate_closed_does_not_open_it() -> None:
    world = World("a")
    early = world.start()
    world.now += 0.1
    world.fail(world.start(), FaultKind.RATE_LIMITED, retry_after=20.0)
    world.succeed(early, after=0.1)
    gated_for = world.standing("a").gate_open_in
    assert gated_for is not None
    assert 19.0 < gated_for < 30.0


# --- trust is told ---


def test_a_provider_that_loses_its_traffic_says_so_once_and_so_does_its_return() -> None:
    world = World("a", "b")
    for _ in range(4):
        world.fail(world.start(only="a"))
    (told,) = world.events(events.TrustChanged)
    assert told == events.TrustChanged(world.now, "a", False, "it failed too often")
    world.answer("a", times=3)
    (told,) = world.events(events.TrustChanged)
    assert told == events.TrustChanged(world.now, "a", True, "it answered well again")


def test_a_provider_that_became_slow_says_so() -> None:
    world = World("a", "b")
    world.answer("a", times=25, first=0.5)
    world.answer("a", times=3, first=5.0)
    (told,) = world.events(events.TrustChanged)
    assert (told.provider, told.trusted, told.reason) == ("a", False, "it became much slower")  # type: ignore[union-attr]


def test_the_only_provider_is_passed_over_by_nobody() -> None:
    world = World("a")
    for _ in range(4):
        world.fail(world.start())
    assert not world.events(events.TrustChanged)


def test_explain_says_who_is_passed_over_and_why() -> None:
    world = World("a", "b")
    for _ in range(3):
        world.fail(world.start(only="a"))
    found = {target.id: reason for target, reason in world.pool.explain(world.call(), world.now)}
    assert found == {"a": "passed over while others are well: it failed too often", "b": None}


def test_restoring_by_hand_holds_nothing_against_a_provider() -> None:
    world = World("a", "b")
    for _ in range(3):
        world.fail(world.start(only="a"))
    assert world.start().target.id == "b"
    world.events(events.TrustChanged)
    world.pool.operate("a", "restore", world.now)
    assert world.events() == [
        events.Drained(world.now, "a", "restore"),
        events.TrustChanged(world.now, "a", True, "restored by hand"),
    ]
    assert world.standing("a").state == "healthy"
    assert world.start().target.id == "a"
    world.answer("a", times=25, first=0.5)
    world.answer("a", times=3, first=5.0)
    assert world.start().target.id == "b"
    world.pool.operate("a", "restore", world.now)
    assert world.start().target.id == "a"


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


def test_a_rescue_goes_where_least_is_under_way() -> None:
    world = World("a", ["b", "c"])
    for name in "abc":
        world.answer(name, times=25, first=0.5)
    world.start(only="b", streaming=True)
    call = world.call(streaming=True)
    first = world.start(call)
    assert first.rescue_after is not None
    rescue = call.rescue(first, world.now + first.rescue_after)
    assert rescue is not None
    assert rescue.target.id == "c"
