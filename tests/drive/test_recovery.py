"""A provider that recovered comes back by itself: by one real call at a time, raced, and without a herd."""

from __future__ import annotations

import threading
import time
from typing import Any

import anyio
import pytest

from resilient_llm.errors import CallFailed
from resilient_llm.testing import Hang, Reply, Status
from tests.drive.clients import World, eventually, openai

FAST = {"open_base": 0.15, "open_cap": 0.15, "consecutive": 2, "successes": 1}
FORGETFUL = {"memory": 0.02, "rescue_min": 0.1}


def opened(world: World, **settings: Any) -> tuple[Any, Any, Any]:
    """A client whose first provider has just been taken out."""
    client, first, second = world.pair(breaker=FAST, advanced=FORGETFUL, **settings)
    first.default = Status(500)
    eventually(lambda: client.chat() and client.health()["first"].breaker == "open")
    return client, first, second


def callers(world: World, client: Any, count: int, **options: Any) -> list[Any]:
    """So many calls at once; their responses or errors."""
    results: list[Any] = []
    if world.portal is None:
        barrier = threading.Barrier(count)

        def one() -> None:
            barrier.wait()
            try:
                results.append(client.chat(**options))
            except CallFailed as error:
                results.append(error)

        workers = [threading.Thread(target=one) for _ in range(count)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return results

    async def scenario() -> None:
        async def one() -> None:
            try:
                results.append(await client.raw.chat("hi", **options))
            except CallFailed as error:
                results.append(error)

        async with anyio.create_task_group() as group:
            for _ in range(count):
                group.start_soon(one)

    world.run(scenario)
    return results


def test_fifty_callers_at_the_end_of_the_open_period_make_one_probe(world: World) -> None:
    client, first, _ = opened(world)
    before = first.request_count
    first.default = Reply(delay=0.5)  # it is overtaken, and runs on
    time.sleep(0.2)  # the breaker's own period has to pass
    results = callers(world, client, 50)
    first.wait_for(lambda server: server.request_count > before)  # overtaken, it may be the last to arrive
    assert first.request_count - before <= 2  # a slow machine may see the next one
    kinds = [record.kind for result in results for record in result.attempts if record.provider == "first"]
    assert set(kinds) == {"trial"}


def test_a_single_provider_that_is_down_is_tried_by_one_of_fifty_and_the_others_wait_for_it(world: World) -> None:
    server = world.server(default=Status(500))
    client = world.client([openai(server)], breaker=FAST, retry={"max_attempts": 1})

    def down() -> bool:
        with pytest.raises(CallFailed):
            client.chat(deadline=1, when_down="fail")
        return client.health()["first"].breaker == "open"

    eventually(down)
    before = server.request_count
    server.default = Reply(delay=0.3)
    time.sleep(0.2)
    results = callers(world, client, 50, deadline=10)
    assert not [result for result in results if isinstance(result, CallFailed)]
    began = [request.received_at for request in server.requests[before:]]
    assert sum(at < began[0] + 0.25 for at in began) <= 5  # the others began when the first had its answer


def test_a_hanging_probe_is_raced_by_a_healthy_provider(world: World) -> None:
    client, first, _ = opened(world)
    first.default = Hang()
    time.sleep(0.2)
    began = time.perf_counter()
    response = client.chat(deadline=5)
    assert response.provider == "second"
    assert time.perf_counter() - began < 1
    assert [(record.provider, record.kind) for record in response.attempts] == [("first", "trial"), ("second", "hedge")]
    first.drop_connections()  # it runs on until it is judged


def test_a_cancelled_probe_blocks_nobody(async_world: World) -> None:
    client, first, _ = opened(async_world)
    first.default = Hang()
    time.sleep(0.2)
    before = first.request_count

    async def cancelled() -> None:
        with anyio.move_on_after(0.05):
            await client.raw.chat("hi")

    async_world.run(cancelled)
    assert first.request_count == before + 1
    assert client.in_flight() == 0
    first.default = Reply()
    eventually(lambda: client.chat().provider == "first", timeout=2)


def test_an_outage_of_fifty_calls_in_flight_is_one_outage(world: World) -> None:
    client, first, _ = world.pair(breaker={**FAST, "open_base": 5, "open_cap": 60})
    first.default = Status(500, delay=0.2)
    callers(world, client, 50)
    standing = client.health()["first"]
    assert standing.breaker in ("open", "softly_open")
    assert standing.retry_in <= 5  # the first step, not the sixth


def test_its_traffic_comes_back(world: World) -> None:
    client, first, _ = opened(world)
    first.default = Reply()
    eventually(lambda: client.chat() and client.health()["first"].breaker == "closed")
    eventually(lambda: client.chat().provider == "first")
