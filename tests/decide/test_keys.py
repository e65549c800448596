"""Several keys of one provider: each with limits, waits and quota of its own, one breaker for all of them."""

from __future__ import annotations

from collections import Counter

import pytest

from resilient_llm import events
from resilient_llm.errors import FaultKind, NoProviderAvailable
from resilient_llm.policy import Rate
from tests.decide.crowd import Crowd, Server
from tests.decide.world import Target, World

MINUTE = Rate(amount=60, per=60.0, unit="requests")


def keys(world: World, count: int, **options: object) -> list[int]:
    return [world.start(**options).key.number for _ in range(count)]


def test_keys_are_used_alike_as_long_as_nothing_is_known() -> None:
    assert Counter(keys(World(Target("a", pool=3)), 9)) == {0: 3, 1: 3, 2: 3}


def test_the_key_with_the_most_headroom_is_taken() -> None:
    world = World(Target("a", pool=2, rates=(MINUTE,)))
    assert Counter(keys(world, 120)) == {0: 60, 1: 60}
    assert world.told_to_wait(world.call(timeout=30.0)).seconds == pytest.approx(1.0)
    assert world.health("a").requests_left == 0


def test_a_key_that_is_limited_leaves_the_others_and_the_same_call_goes_on_with_one_of_them() -> None:
    world = World(Target("a", pool=2), "b")
    call = world.call()
    first = world.start(call)
    world.fail(first, FaultKind.RATE_LIMITED, status=429, retry_after=20.0)
    second = world.start(call)
    assert (second.target.id, second.kind) == ("a", "retry")
    assert second.key is not first.key
    assert call.past.counted == 0
    assert set(keys(world, 5)) == {second.key.number}


def test_when_all_keys_are_limited_the_next_provider_is_asked() -> None:
    world = World(Target("a", pool=2), "b")
    call = world.call()
    for _ in range(2):
        world.fail(world.start(call), FaultKind.RATE_LIMITED, status=429, retry_after=20.0)
    assert world.start(call).target.id == "b"


@pytest.mark.parametrize("kind", [FaultKind.AUTH, FaultKind.PERMISSION, FaultKind.QUOTA_EXHAUSTED])
def test_a_bad_key_is_taken_out_by_its_place(kind: FaultKind) -> None:
    world = World(Target("a", pool=3))
    call = world.call()
    bad = world.start(call)
    world.fail(bad, kind, status=401)
    (told,) = world.events(events.GateClosed)
    assert (told.key, told.slow) == (f"key {bad.key.number + 1} of 3", True)
    good = world.start(call)
    assert good.key is not bad.key
    world.succeed(good)
    assert bad.key.number not in keys(world, 6)
    assert world.breaker("a") == "closed"


def test_a_bad_key_is_told_once_however_many_calls_are_under_way() -> None:
    world = World(Target("a", pool=2))
    under_way = [world.start() for _ in range(10)]
    world.events()
    for attempt in under_way:
        if attempt.key.number == 0:
            world.fail(attempt, FaultKind.AUTH)
    assert len(world.events(events.GateClosed)) == 1


def test_a_provider_all_of_whose_keys_are_bad_is_left_alone() -> None:
    world = World(Target("a", pool=2), "b")
    call = world.call()
    for _ in range(2):
        world.fail(world.start(call), FaultKind.AUTH, status=401)
    assert world.start(call).target.id == "b"
    assert (world.explain()["a"] or "").startswith("quota or credentials")


def test_who_cannot_be_served_is_told_when_the_first_key_opens() -> None:
    world = World(Target("a", pool=2))
    for seconds in (50.0, 30.0):
        call = world.call(timeout=100.0)
        world.fail(world.start(call), FaultKind.RATE_LIMITED, status=429, retry_after=seconds)
        call.stopped_waiting(world.now)
    with pytest.raises(NoProviderAvailable) as failure:
        world.call(timeout=10.0).next_attempt(world.now)
    assert failure.value.retry_after == pytest.approx(30.0)


def test_failures_of_the_endpoint_count_whatever_the_key() -> None:
    world = World(Target("a", pool=5))
    world.trip("a")
    assert world.breaker("a") == "open"


def test_what_is_known_of_a_key_stays_with_it_when_others_come_and_go() -> None:
    world = World(Target("a", pool=2))
    bad = world.start()
    world.fail(bad, FaultKind.RATE_LIMITED, status=429, retry_after=100.0)
    world.pool.replace({"main": [[Target("a", pool=3)]]}, world.now)
    assert bad.key.number not in keys(world, 9)
    assert world.member("a").keys[bad.key.number] is bad.key


def test_two_keys_are_twice_as_fast_as_one() -> None:
    crowd = Crowd({"a": Server({"requests": 40, "per": 1.0})}, Target("a", pool=2))
    crowd.work(30, 400)
    crowd.all()
    assert not crowd.lost
    assert crowd.seconds <= 1.3 * (400 - 80) / 80
    shares = crowd.servers["a"].requests
    assert abs(shares[0] - shares[1]) <= 40
    assert crowd.refused <= 12 + 8
