"""The line under threads, under callers who leave, and with ten thousand in it."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from resilient_llm.decide.ask import Ask
from resilient_llm.decide.attempt import Attempt
from resilient_llm.decide.call import Call
from resilient_llm.decide.line import Place
from resilient_llm.decide.pool import Pool
from resilient_llm.policy import Policies, Rate
from tests.decide.crowd import Crowd, Server
from tests.decide.world import Target, World


@pytest.fixture
def eager_switching() -> Iterator[None]:
    """Threads change places as often as the interpreter allows."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


class Room:
    """Counts who is inside."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.inside = self.most = 0
        self.served: Counter[int] = Counter()

    def enter(self) -> None:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)

    def leave(self, who: int) -> None:
        with self.lock:
            self.inside -= 1
            self.served[who] += 1


def lease(call: Call[Target]) -> Attempt[Target]:
    """The call's attempt, as a thread waits for it."""
    while True:
        step = call.next_attempt(time.monotonic())
        if isinstance(step, Attempt):
            return step
        place = step.place
        assert place is not None
        woken = threading.Event()
        place.wake = woken.set
        if not place.woken:
            woken.wait(min(step.seconds, 5.0))


def test_32_threads_share_three_places_and_a_rate(eager_switching: None) -> None:
    rate = Rate(amount=2000, per=1.0, unit="requests")
    pool: Pool[Target] = Pool({"main": [[Target("a", max_concurrency=3, rates=(rate,))]]}, Policies(), random.random)
    room, luck = Room(), random.Random(1)

    def work(who: int) -> None:
        for number in range(12):
            ask = Ask("main", time.monotonic() + 60.0, batch=who % 4 == 0, tenant=str(who % 3))
            call = Call(pool, ask, time.monotonic())
            attempt = lease(call)
            room.enter()
            if (who + number) % 5 == 0:
                time.sleep(0.0005 * luck.random())
            room.leave(who)
            if number % 4 == 3:
                call.abandoned(attempt, time.monotonic())
            else:
                call.succeeded(attempt, time.monotonic(), 10)

    threads = [threading.Thread(target=work, args=(who,), daemon=True) for who in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60.0)
    assert room.served == dict.fromkeys(range(32), 12)
    assert room.most <= 3
    (health,) = pool.snapshot(time.monotonic())
    assert (health.in_flight, health.waiting) == (0, 0)


@pytest.mark.parametrize("seed", range(6))
def test_whoever_leaves_at_whatever_moment_leaves_the_line_intact(seed: int) -> None:
    luck = random.Random(seed)
    rate = Rate(amount=30, per=1.0, unit="requests")
    target = Target("a", max_concurrency=4, rates=(rate,), pool=luck.choice([1, 2]))
    crowd = Crowd({"a": Server({"requests": 50, "per": 1.0})}, target, "b", seed=seed)
    crowd.servers = {**crowd.servers, "b": Server({"requests": 5, "per": 1.0})}
    crowd.servers["b"].begin(lambda: crowd.now)
    for tenant in (None, "x", "y"):
        crowd.work(8, 60, tenant=tenant, batch=tenant == "y", timeout=60.0)

    def leave() -> None:
        live = [run for run in crowd.runs if run.end is None]
        if live:
            luck.choice(live).give_up()
        if any(run.end is None for run in crowd.runs):
            crowd.at(crowd.now + luck.expovariate(20.0), leave)

    crowd.at(0.1, leave)
    crowd.all()
    assert {str(run.end) for run in crowd.runs} <= {"answered", "cancelled"}
    assert len(crowd.runs) == 180
    for member in crowd.pool._table.members.values():
        assert (member.line.waiting, member.line.offers, member.in_flight) == ([], 0, 0)
        assert [(key.pace.unheard, key.pace.unheard_tokens) for key in member.keys] == [(0, 0)] * len(member.keys)


def test_ten_thousand_who_wait_have_one_timer_at_most() -> None:
    world = World(Target("a", max_concurrency=1), limits={"max_queue": 20_000})
    running = world.start()
    places = [world.told_to_wait(world.call(timeout=600.0)).place for _ in range(10_000)]
    timers = [place for place in places if place is not None and place.alarm < math.inf]
    assert len(timers) <= 1
    assert not any(place.woken for place in places if place is not None)
    world.succeed(running)
    woken = [place for place in places if place is not None and place.woken]
    assert woken == places[:1], "one is woken for one place"


def test_ten_thousand_who_wait_cost_no_time_while_nothing_happens() -> None:
    """They wait as tasks of an event loop do: on an event that a wake sets, and until their own alarm."""
    world = World(Target("a", max_concurrency=1), limits={"max_queue": 20_000})
    world.start()

    async def wait(place: Place) -> None:
        woken = asyncio.Event()
        place.wake = woken.set
        seconds = place.alarm - world.now
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(woken.wait(), None if seconds == math.inf else seconds)

    async def scenario() -> float:
        places = [world.told_to_wait(world.call(timeout=600.0)).place for _ in range(10_000)]
        waiting = [asyncio.create_task(wait(place)) for place in places if place is not None]
        await asyncio.sleep(0.1)
        assert sum(task.done() for task in waiting) == 0
        began = time.thread_time()
        await asyncio.sleep(0.25)
        spent = time.thread_time() - began
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        return spent

    assert asyncio.run(scenario()) < 0.02
