"""Classes of traffic: a batch yields to those who wait for their answer, and tenants are served in turn."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from resilient_llm.decide.call import Call
from resilient_llm.errors import NoProviderAvailable
from resilient_llm.policy import Rate
from tests.decide.crowd import Crowd, Server
from tests.decide.world import Target, World


def full(world: World) -> list[Any]:
    """Take all the room there is at the only provider."""
    limit = next(iter(world.pool.targets())).max_concurrency
    assert limit is not None
    return [world.start() for _ in range(limit)]


def wait(world: World, served: list[str], name: str, **options: Any) -> Call[Target]:
    """A call that stands in line and is served as soon as it is woken."""
    call = world.call(**options)
    place = world.told_to_wait(call).place
    assert place is not None

    def wake() -> None:
        served.append(name)

    place.wake = wake
    return call


def serve_all(world: World, running: list[Any], served: list[str], calls: dict[str, Call[Target]]) -> list[str]:
    """End one attempt after the other, each making room for the next in line."""
    order: list[str] = []
    while running and calls:
        served.clear()
        world.succeed(running.pop(0))
        for name in [name for name in served if name in calls]:
            running.append(world.start(calls.pop(name)))
            order.append(name)
            break
    return order


def in_order(world: World, *waiting: tuple[str, dict[str, Any]]) -> list[str]:
    """In which order these calls are served, who arrive in this one."""
    running, served = full(world), list[str]()
    calls = {name: wait(world, served, name, **options) for name, options in waiting}
    return serve_all(world, running, served, calls)


BATCH: dict[str, Any] = {"batch": True}


def tenant(name: str, *, batch: bool = False) -> dict[str, Any]:
    return {"tenant": name, "batch": batch}


def test_a_batch_waits_behind_everybody_else() -> None:
    order = in_order(World(Target("a", max_concurrency=1)), ("b1", BATCH), ("i1", {}), ("b2", BATCH), ("i2", {}))
    assert order == ["i1", "i2", "b1", "b2"]


def test_tenants_are_served_in_turn_and_each_in_order_of_arrival() -> None:
    many = [(f"a{n}", tenant("a")) for n in range(4)]
    order = in_order(World(Target("a", max_concurrency=1)), *many, ("b0", tenant("b")), ("c0", tenant("c")))
    assert order == ["a0", "b0", "c0", "a1", "a2", "a3"]


def test_those_without_a_tenant_are_one_together() -> None:
    order = in_order(World(Target("a", max_concurrency=1)), ("1", {}), ("2", {}), ("x", tenant("x")), ("3", {}))
    assert order == ["1", "x", "2", "3"]


def test_the_class_goes_before_the_turn() -> None:
    order = in_order(
        World(Target("a", max_concurrency=1)),
        ("b1", tenant("x", batch=True)),
        ("i1", tenant("y")),
        ("i2", tenant("y")),
        ("b2", tenant("z", batch=True)),
    )
    assert order == ["i1", "i2", "b1", "b2"]


def test_a_batch_does_not_pass_somebody_who_waits_and_is_passed_by_a_newcomer() -> None:
    world = World(Target("a", max_concurrency=10), limits={"reserve": 0.2})
    running = [world.start(batch=True) for _ in range(8)]
    batch = world.call(batch=True)
    assert world.told_to_wait(batch).reason == "line", "two of ten are kept from it"
    newcomers = [world.start(), world.start()]
    world.told_to_wait(world.call())
    world.succeed(running.pop())
    world.told_to_wait(world.call(batch=True))
    assert len(newcomers) == 2


def test_of_a_single_place_a_batch_may_have_it() -> None:
    world = World(Target("a", max_concurrency=1))
    assert world.start(batch=True).target.id == "a"


def test_a_share_of_a_rate_is_kept_from_a_batch() -> None:
    world = World(Target("a", rates=(Rate(amount=10, per=10.0, unit="requests"),)))
    for _ in range(9):
        world.start(batch=True)
    assert world.told_to_wait(world.call(batch=True)).seconds == pytest.approx(1.0)
    assert world.start().target.id == "a"


def test_a_batch_has_no_rescue() -> None:
    world = World("a", "b")
    world.answer("a", 30)
    attempt = world.start(streaming=True, timeout=60.0, batch=True)
    assert attempt.rescue_after is None
    assert world.start(streaming=True, timeout=60.0).rescue_after is not None


def test_a_batch_finds_out_how_a_provider_is_only_when_nobody_else_calls() -> None:
    world = World("a", "b")
    world.trip("a")
    world.start()
    world.until_trial("a")
    assert world.start(batch=True).kind == "initial"
    world.now += 11.0
    assert world.start(batch=True).kind == "trial"


def test_a_line_that_is_full_of_a_batch_has_room_for_others() -> None:
    world = World(Target("a", max_concurrency=1), limits={"max_queue": 2})
    world.start()
    for _ in range(2):
        world.told_to_wait(world.call(batch=True))
    with pytest.raises(NoProviderAvailable):
        world.call(batch=True).next_attempt(world.now)
    world.told_to_wait(world.call())


def test_one_customers_thousand_calls_do_not_stand_before_anothers_one() -> None:
    crowd = Crowd({"a": Server({"requests": 50, "per": 1.0})}, seed=3)
    crowd.work(60, 300, tenant="large")
    small = crowd.work(1, 15, tenant="small", start=1.0, pause=0.05)
    crowd.all()
    assert not crowd.lost
    assert max(run.took for run in small[0].runs) < 0.6
    assert crowd.seconds < 8.0


def test_who_waits_for_an_answer_hardly_notices_a_batch() -> None:
    def p99(batch: bool) -> float:
        crowd = Crowd({"a": Server({"requests": 100, "per": 1.0}, seconds=0.2)}, seed=5)
        if batch:
            crowd.work(50, 900, batch=True)
        one = crowd.work(5, 100, pause=0.2, start=2.0)
        crowd.all()
        assert not crowd.lost
        took = sorted(run.took for worker in one for run in worker.runs)
        return took[round(0.99 * len(took)) - 1]

    assert p99(batch=True) <= 1.5 * p99(batch=False)


@pytest.mark.parametrize("workers", [50])
def test_everybody_has_the_same_share(workers: int) -> None:
    crowd = Crowd({"a": Server(seconds=0.1)}, Target("a", max_concurrency=5))
    made = crowd.work(workers, 10**6, timeout=4.0)
    crowd.all(until=8.0)
    shares = Counter({index: sum(run.answered for run in worker.runs) for index, worker in enumerate(made)})
    usual = sum(shares.values()) / workers
    assert not [run for run in crowd.runs if not run.answered]
    assert all(abs(share - usual) <= 0.2 * usual for share in shares.values())
