"""Equals are told apart by what a caller hands in: seconds by which an answer counts as later."""

from __future__ import annotations

from collections import Counter

from resilient_llm.decide.choose import soonest
from tests.decide.world import World


def asked(world: World, tolls: dict[str, float], calls: int = 30) -> Counter[str]:
    found: Counter[str] = Counter()
    for _ in range(calls):
        attempt = world.start(tolls=tolls)
        found[attempt.target.id] += 1
        world.succeed(attempt)
    return found


def test_the_one_with_the_least_toll_is_asked() -> None:
    assert asked(World(["a", "b", "c"]), {"a": 100.0, "b": 1.0, "c": 200.0}).keys() == {"b"}


def test_a_toll_is_weighed_against_how_long_an_answer_takes() -> None:
    world = World(["a", "b"])
    members = list(world.pool._table.members.values())
    members[0].statistics.latency, members[1].statistics.latency = 1.0, 3.0
    for toll, chosen in ((1.5, "a"), (2.5, "b")):
        assert soonest(members, {"a": toll}).id == chosen


def test_a_toll_moves_nobody_to_another_tier_and_keeps_nobody_from_failing_over() -> None:
    world = World(["a", "b"], "c")
    tolls = {"a": 0.0, "b": 500.0, "c": 0.0}
    call = world.call(tolls=tolls)
    world.fail(world.start(call))
    assert world.start(call).target.id == "b"


def test_nobody_is_tried_for_news_that_is_hardly_ever_taken() -> None:
    world = World(["a", "b"])
    for name in "ab":
        world.succeed(world.start(only=name))
    world.now += 100.0
    assert asked(world, {"a": 0.0, "b": 1000.0}).keys() == {"a"}
    world.now += 100.0
    assert asked(world, {"a": 0.0, "b": 1.0}).keys() == {"a", "b"}
