"""One provider as the pool sees it: when it may be asked, what it costs, how silence shows."""

from __future__ import annotations

import pytest

from resilient_llm.decide.member import WAITABLE, Member, Refusal
from resilient_llm.errors import FaultKind
from resilient_llm.policy import Hedge, Policies
from tests.decide.world import Limit, Target, World


def refused(world: World) -> Refusal | None:
    """Why a new call cannot be sent to provider a."""
    call = world.call()
    return member(world).refusal(call, world.now)


def member(world: World) -> Member[Target]:
    probe = world.call(unsuitable={}).pool
    return next(item for item in probe._members.values() if item.id == "a")  # the one look behind the curtain


def world() -> World:
    return World("a", "b")


def test_a_new_provider_may_be_asked() -> None:
    assert refused(world()) is None


def test_every_refusal_has_its_cause_and_says_when_it_may_end() -> None:
    found: dict[Refusal, float | None] = {}

    def note(each: World) -> None:
        refusal = refused(each)
        assert refusal is not None
        opens = member(each).opens_at(each.now, refusal)
        found[refusal] = None if opens is None else round(opens - each.now, 3)

    drained = world()
    drained.pool.operate("a", "drain", drained.now)
    note(drained)

    isolated = world()
    isolated.pool.operate("a", "isolate", isolated.now)
    note(isolated)

    keyless = world()
    keyless.fail(keyless.start(), FaultKind.AUTH)
    note(keyless)

    gated = world()
    gated.fail(gated.start(), FaultKind.RATE_LIMITED, retry_after=8.0)
    note(gated)

    poor = world()
    poor.pool.learn(member(poor), poor.now, None, Limit(limit=100, remaining=0, reset_in=5.0))
    call = poor.call(tokens=10)
    assert member(poor).refusal(call, poor.now) is Refusal.HEADROOM
    found[Refusal.HEADROOM] = (member(poor).opens_at(poor.now, Refusal.HEADROOM) or 0.0) - poor.now

    full = World(Target("a", max_concurrency=1))
    full.start()
    note(full)

    broken = world()
    broken.trip("a")
    note(broken)
    broken.now += 5.0
    note(broken)
    broken.start(only="a")
    note(broken)

    unsuitable = world()
    call = unsuitable.call(unsuitable={"a": "no images"})
    assert member(unsuitable).refusal(call, unsuitable.now) is Refusal.UNSUITABLE
    found[Refusal.UNSUITABLE] = member(unsuitable).opens_at(unsuitable.now, Refusal.UNSUITABLE)

    assert found == {
        Refusal.DRAINED: None,
        Refusal.ISOLATED: None,
        Refusal.QUOTA: 57.0,
        Refusal.GATED: 9.0,
        Refusal.HEADROOM: 5.0,
        Refusal.FULL: 0.0,
        Refusal.OPEN: 3.75,
        Refusal.PROBE_DUE: None,
        Refusal.PROBING: 30.0,
        Refusal.UNSUITABLE: None,
    }
    assert found.keys() == set(Refusal)
    assert set(Refusal) > WAITABLE


def test_a_call_too_large_for_the_headroom_waits_and_a_small_one_passes() -> None:
    poor = world()
    poor.pool.learn(member(poor), poor.now, None, Limit(limit=1000, remaining=100, reset_in=5.0))
    assert poor.start(tokens=100).target.id == "a"
    assert poor.start(tokens=101).target.id == "b"


def test_the_slow_gate_that_opens_later_counts() -> None:
    both = World(Target("a", account="acme"))
    first, second = both.start(), both.start()
    both.fail(first, FaultKind.NOT_FOUND_MODEL)
    assert member(both).slow_gate.reason == "not_found_model"
    both.fail(second, FaultKind.AUTH, retry_after=600.0)
    assert member(both).slow_gate.reason == "auth"


# --- silence ---


def hanging(policies: Policies | None = None) -> World:
    """A provider known to answer in half a second, and one attempt that does not."""
    made = World("a", hedge=policies.hedge) if policies else World("a")
    made.answer("a", times=20, first=0.5)
    return made


def test_an_attempt_overdue_raises_the_cost_of_its_provider() -> None:
    silent = hanging()
    silent.start(streaming=True)
    usual = member(silent).cost(silent.now, 0.0)
    silent.now += 1.0
    assert member(silent).late_by(silent.now) == 0.0
    assert member(silent).cost(silent.now, 0.0) == pytest.approx(usual, abs=0.05)
    silent.now += 9.0
    assert member(silent).late_by(silent.now) == 10.0
    assert member(silent).latency(silent.now) == 10.0
    assert member(silent).cost(silent.now, 0.0) > 10.0
    assert silent.standing("a").state == "degraded"


def test_silence_is_noticed_also_where_hedging_is_off() -> None:
    silent = hanging(Policies(hedge=Hedge(enabled=False)))
    attempt = silent.start(streaming=True)
    assert attempt.rescue_after is None
    silent.now += 10.0
    assert member(silent).late_by(silent.now) == 10.0


def test_one_silent_call_among_answered_ones_is_a_straggler() -> None:
    silent = hanging()
    silent.start(streaming=True)
    silent.now += 1.0
    silent.speak(silent.start(streaming=True), after=0.5)
    silent.now += 30.0
    assert member(silent).late_by(silent.now) == 0.0


def test_an_unknown_provider_is_never_late() -> None:
    new = world()
    new.start(streaming=True)
    new.now += 1e6
    assert member(new).late_by(new.now) == 0.0
    assert member(new).latency(new.now) is None


def test_whole_answers_are_late_too() -> None:
    slow = World("a")
    for _ in range(20):
        slow.succeed(slow.start(), after=2.0)
    slow.start()
    slow.now += 3.9
    assert member(slow).late_by(slow.now) == 0.0
    slow.now += 0.2
    assert member(slow).late_by(slow.now) == pytest.approx(4.1)


# --- score and name ---


def test_a_provider_that_is_not_closed_scores_nothing() -> None:
    broken = world()
    assert broken.standing("a").score == pytest.approx(0.95)
    broken.trip("a")
    assert broken.standing("a").score == 0.0


def test_the_score_compares_latency_with_the_best() -> None:
    pair = world()
    pair.answer("a", first=2.0)
    pair.answer("b", first=1.0)
    assert pair.standing("a").score == pytest.approx(pair.standing("a").success_rate / 2)
    assert pair.standing("b").score == pytest.approx(pair.standing("b").success_rate)


def test_an_attempt_says_in_short_what_it_is() -> None:
    attempt = world().start()
    assert repr(attempt) == "<Attempt 1 (initial) at a>"
    assert attempt.target.id == "a"


# --- when to look how somebody is ---


def since_doubted(world: World, seconds: float) -> bool:
    """Whether it is time to look at a this long after something was last heard of it."""
    seen = member(world).health.seen_at
    assert seen is not None
    return member(world).worth_exploring(seen + seconds)


def test_a_provider_is_looked_at_after_half_a_minute_of_silence() -> None:
    each = world()
    assert not member(each).worth_exploring(each.now + 1e6), "never seen: it has the benefit of the doubt"
    each.answer("a")
    assert not since_doubted(each, 30.0)
    assert since_doubted(each, 30.1)


def test_looks_that_fail_come_more_seldom_and_looks_that_succeed_sooner() -> None:
    each = world()
    doubted = member(each).health.doubt
    for _ in range(3):
        each.fail(each.start(only="a"))
    for misses, patience in ((1, 60.0), (2, 120.0), (7, 120.0)):
        doubted.misses = misses
        assert not since_doubted(each, patience)
        assert since_doubted(each, patience + 0.1)
    each.answer("a")
    assert doubted.proofs == 1
    assert not since_doubted(each, 15.0)
    assert since_doubted(each, 15.1)


def test_a_look_under_way_is_given_a_minute() -> None:
    each = World("a", "b", "c")
    for _ in range(3):
        each.fail(each.start(only="a"))
    assert not member(each).trusted(each.now)
    each.now += 31.0
    look = each.start()
    assert (look.target.id, look.kind) == ("a", "explore")
    assert not member(each).worth_exploring(look.started + 60.0)
    assert member(each).worth_exploring(look.started + 60.1)
    each.abandon(look)
    assert member(each).worth_exploring(look.started + 30.1)
    assert not member(each).worth_exploring(look.started + 30.0)


def test_a_look_that_lost_its_race_is_a_look_that_failed() -> None:
    each = world()
    each.answer("a", times=25, first=1.0)  # it is late after two seconds, and overtaken before
    for _ in range(3):
        each.fail(each.start(only="a"))
    each.now += 31.0
    look = each.start(streaming=True)
    assert look.kind == "explore"
    assert look.rescue_after is not None
    each.now += look.rescue_after
    rescue = look.call.rescue(look, each.now)
    assert rescue is not None
    each.succeed(rescue, after=0.1)
    look.call.overtaken(look, each.now)
    assert member(each).health.doubt.misses == 1


def test_the_second_look_in_a_row_is_free() -> None:
    each = world()
    for _ in range(3):
        each.fail(each.start(only="a"))
    each.pool.probes.tokens = 1.0
    each.now += 31.0
    each.answer("a")
    each.pool.probes.tokens = 0.0
    each.now += 15.1
    look = each.start()
    assert (look.target.id, look.kind) == ("a", "explore")


def test_who_was_not_asked_for_five_minutes_is_trusted_again() -> None:
    each = world()
    for _ in range(3):
        each.fail(each.start(only="a"))
    assert not member(each).trusted(each.now + 300.0)
    assert member(each).trusted(each.now + 300.1)


# --- work under way ---


def test_each_attempt_that_has_not_spoken_is_one_ahead_in_the_queue() -> None:
    each = World("a", "b")
    each.answer("a", first=0.5)
    a = member(each)
    assert a.queued_latency(each.now) == a.latency(each.now) == pytest.approx(0.5)
    first, second = (each.start(only="a", streaming=True) for _ in range(2))
    assert a.queued_latency(each.now) == pytest.approx(1.5)
    assert a.latency(each.now) == pytest.approx(0.5), "which is what people are shown"
    each.speak(first, after=0.1)
    assert a.queued_latency(each.now) == pytest.approx(2 * (a.latency(each.now) or 0.0)), (
        "a stream that speaks is not counted"
    )
    each.speak(second)


def test_the_queue_of_a_provider_nobody_knows_is_unknown() -> None:
    each = World("a", "b")
    each.start(only="a", streaming=True)
    assert member(each).queued_latency(each.now) is None
