"""The routing table: every provider once, its state kept, and mistakes refused."""

from __future__ import annotations

from typing import Any

import pytest

from resilient_llm.decide.pool import Pool
from resilient_llm.errors import ConfigurationError, FaultKind, NoProviderAvailable
from resilient_llm.policy import Policies
from tests.decide.world import Luck, Target, World, build, routes


def test_routes_share_the_state_of_a_provider() -> None:
    shared, other = Target("a"), Target("b")
    world = World("x")
    world.pool.replace(routes(smart=[[shared], [other]], fast=[[shared]]), world.now)
    assert world.pool.route_names == ("smart", "fast")
    assert world.pool.targets() == (shared, other)
    assert world.pool.targets("fast") == (shared,)
    assert world.pool.targets("none") == ()
    attempt = world.start(route="fast")
    world.fail(attempt, FaultKind.RATE_LIMITED, retry_after=60.0)
    assert world.start(route="smart").target is other


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, "at least one route with at least one provider"),
        ({"main": []}, "route 'main' has no providers"),
        ({"main": [[]]}, "route 'main' has no providers"),
        ({"main": build("a", "a")}, "two providers of route 'main' have the id 'a'"),
        ({"main": build(["a", "a"])}, "two providers of route 'main' have the id 'a'"),
        ({"main": build("a"), "other": build("a")}, "two different providers have the id 'a'"),
    ],
)
def test_unusable_routes_are_refused_with_the_reason(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Pool(wrong, Policies(), Luck())


def test_a_failed_replacement_changes_nothing() -> None:
    world = World("a", "b")
    before = world.pool.targets()
    with pytest.raises(ConfigurationError):
        world.pool.replace({"main": build("c", "c")}, world.now)
    assert world.pool.targets() == before
    assert world.start().target.id == "a"


def test_an_empty_tier_is_left_out() -> None:
    world = World("a")
    world.pool.replace({"main": [[], [Target("b")], []]}, world.now)
    assert world.start().target.id == "b"


def test_replacing_keeps_the_state_of_those_who_stay_and_lets_the_others_finish() -> None:
    world = World("a", "b")
    world.half_break("a")
    leaving = world.start(only="b")
    assert world.pool.replace({"main": build("a", "c")}, world.now) == ("b",)
    assert world.breaker("a") == "softly_open"
    world.succeed(leaving)
    assert leaving.released
    assert [event.action for event in world.events() if hasattr(event, "action")] == ["removed"]


def test_a_provider_that_comes_back_after_its_removal_is_a_new_one() -> None:
    world = World("a", "b")
    old = world.start(only="a")
    world.half_break("a")
    world.pool.replace({"main": build("b")}, world.now)
    world.pool.replace({"main": build("a", "b")}, world.now)
    world.events()
    assert world.health("a").state == "unknown"
    for _ in range(3):
        world.fail(old)
    assert world.changes() == [], "the one that was removed does not speak for it"
    assert world.health("a").in_flight == 0


def test_a_removed_provider_is_no_reason_to_wait() -> None:
    world = World("a")
    world.gate("a", 10.0)
    call = world.call()
    world.told_to_wait(call)
    world.pool.replace({"other": build("b")}, world.now)
    with pytest.raises(NoProviderAvailable):
        call.next_attempt(world.now)


def test_new_settings_of_the_same_provider_hold_at_once() -> None:
    world = World(Target("a", max_concurrency=1))
    world.start()
    world.pool.replace({"main": [[Target("a", max_concurrency=2)]]}, world.now)
    assert world.start().target.max_concurrency == 2


def test_another_key_is_not_barred_for_what_the_one_before_it_met() -> None:
    world = World(Target("a", account="old key"), Target("b", account="old key"))
    world.fail(world.start(only="a"), FaultKind.AUTH)
    assert world.explain()["b"] is not None
    world.pool.replace({"main": [[Target("a", account="new key")], [Target("b", account="old key")]]}, world.now)
    assert world.explain()["a"] is None
    assert world.explain()["b"] is not None
    world.fail(world.start(only="a"), FaultKind.NOT_FOUND_MODEL)
    world.pool.replace({"main": [[Target("a")], [Target("b")]]}, world.now)
    assert world.explain() == {"a": None, "b": None}, "what is nobody's account is its own"
