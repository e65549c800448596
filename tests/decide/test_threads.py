"""One pool under many threads, and under a garbage collector that strikes at the worst moment."""

from __future__ import annotations

import gc
import random
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from resilient_llm.decide.attempt import Ask, Attempt
from resilient_llm.decide.call import Call, Wait
from resilient_llm.decide.pool import Pool
from resilient_llm.errors import CallFailed, ClientClosed, FaultKind
from resilient_llm.policy import Breaker, Policies, Retry
from tests.decide.world import Luck, Target, build, fault


@pytest.fixture
def eager_switching() -> Iterator[None]:
    """Threads change places as often as the interpreter allows."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


class Clock:
    """Time that every look moves on."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.now = 0.0

    def __call__(self, seconds: float = 0.01) -> float:
        with self.lock:
            self.now += seconds
            return self.now


def one_call(pool: Pool[Target], clock: Clock, luck: random.Random) -> str:
    """A call in random weather; says how it ended."""
    call = Call(pool, Ask("main", clock() + 60.0, streaming=luck.random() < 0.5), clock())
    while True:
        try:
            step = call.next_attempt(clock())
        except CallFailed as error:
            return type(error).__name__
        if isinstance(step, Wait):
            clock(min(step.seconds, 0.5))
            continue
        beside = call.rescue(step, clock()) if luck.random() < 0.1 else None
        lost = [finish(pool, call, attempt, clock, luck) for attempt in filter(None, (step, beside))]
        if any(record.outcome == "success" for record in call.records):
            return "answered"
        if any(lost):
            return "dropped"


def finish(pool: Pool[Target], call: Call[Target], attempt: Attempt[Target], clock: Clock, luck: random.Random) -> bool:
    """End an attempt somehow; says whether that is left to the garbage collector."""
    fate = luck.random()
    if fate < 0.5:
        call.first_content(attempt, clock())
    if fate < 0.4:
        call.succeeded(attempt, clock(), 100)
    elif fate < 0.7:
        call.failed(attempt, fault(luck.choice(list(FaultKind)), retry_after=luck.choice([None, 0.1])), clock())
    elif fate < 0.8:
        call.abandoned(attempt, clock())
    else:
        pool.abandon_later(attempt)
        return True
    return False


@pytest.mark.usefixtures("eager_switching")
def test_eight_threads_lose_nothing_and_raise_nothing() -> None:
    clock = Clock()
    pool: Pool[Target] = Pool(
        {"main": build("a", [Target("b", max_concurrency=3), "c"])},
        Policies(breaker=Breaker(open_base=0.05, open_cap=0.1)),
        random.Random(0).random,
    )
    pool.listen(True)
    start = threading.Barrier(8)

    def work(seed: int) -> int:
        luck, ends = random.Random(seed), 0
        start.wait()
        for _ in range(60):
            ends += bool(one_call(pool, clock, luck))
            if luck.random() < 0.05:
                list(pool.take_events())
                pool.snapshot(clock())
        return ends

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(work, range(8))) == 480
    for health in pool.snapshot(clock()):
        assert health.in_flight == 0
        assert 0.0 <= health.score <= 1.0


@pytest.mark.usefixtures("eager_switching")
def test_of_eight_threads_when_a_trial_is_due_one_makes_it() -> None:
    for _ in range(10):
        pool: Pool[Target] = Pool({"main": build("a", "b")}, Policies(), Luck())
        only_a = {"b": "not this time"}
        for _ in range(3):
            call = Call(pool, Ask("main", unsuitable=only_a), 0.0)
            first = call.next_attempt(0.0)
            assert isinstance(first, Attempt)
            call.failed(first, fault(), 0.0)
        start = threading.Barrier(8)

        def ask(_: int, pool: Pool[Target] = pool, start: threading.Barrier = start) -> str:
            call = Call(pool, Ask("main"), 10.0)
            start.wait()
            step = call.next_attempt(10.0)
            assert isinstance(step, Attempt)
            return step.kind

        with ThreadPoolExecutor(8) as threads:
            assert sorted(threads.map(ask, range(8))) == ["initial"] * 7 + ["trial"]


# --- threads that wait in line ---


class Server:
    """A driver for threads: waits on an event, as the sync client does."""

    def __init__(self, places: int, *names: str) -> None:
        targets = [Target(name, max_concurrency=places) for name in names]
        self.pool: Pool[Target] = Pool({"main": build(*targets)}, Policies(), random.Random(0).random)
        self.served: list[int] = []
        self.waits = 0
        self.most = dict.fromkeys(names, 0)
        self.busy = dict.fromkeys(names, 0)
        self.lock = threading.Lock()

    def call(self, work: Callable[[], None]) -> str:
        call = Call(self.pool, Ask("main", time.monotonic() + 30.0), time.monotonic())
        while True:
            try:
                step = call.next_attempt(time.monotonic())
            except ClientClosed:
                return "closed"
            if isinstance(step, Attempt):
                break
            event = threading.Event()
            if step.place is not None:
                step.place.wake = event.set
                if step.place.woken:
                    continue
            self.waits += 1
            event.wait(min(step.seconds, 30.0))
        name = step.target.id
        with self.lock:
            self.served.append(call.number)
            self.busy[name] += 1
            self.most[name] = max(self.most[name], self.busy[name])
        work()
        with self.lock:
            self.busy[name] -= 1
        call.succeeded(step, time.monotonic())
        return "answered"


@pytest.mark.usefixtures("eager_switching")
@pytest.mark.parametrize("names", [("a",), ("a", "b")])
def test_thirty_two_threads_are_all_served_in_order(names: tuple[str, ...]) -> None:
    server = Server(2, *names)
    with ThreadPoolExecutor(32) as threads:
        ends = list(threads.map(lambda _: server.call(lambda: time.sleep(0.001)), range(400)))
    assert ends == ["answered"] * 400
    assert max(server.most.values()) <= 2
    assert server.waits > 100, "most had to stand in line"
    displaced = [abs(place - number) for place, number in enumerate(sorted_places(server.served))]
    assert sum(displaced) / len(displaced) <= 32.0, "within what 32 threads can be late by"
    for health in server.pool.snapshot(time.monotonic()):
        assert health.in_flight == health.waiting == 0
        assert server.pool._table.members[health.id].line.offers == 0


def sorted_places(served: list[int]) -> list[int]:
    ranks = {number: rank for rank, number in enumerate(sorted(served))}
    return [ranks[number] for number in served]


def test_threads_that_wait_are_woken_by_a_close() -> None:
    server = Server(1, "a")
    release, ends = threading.Event(), list[str]()

    def hold() -> None:
        release.wait(20.0)

    holder = threading.Thread(target=lambda: ends.append(server.call(hold)))
    holder.start()
    while not server.served:
        time.sleep(0.001)
    waiting = [threading.Thread(target=lambda: ends.append(server.call(lambda: None))) for _ in range(5)]
    for thread in waiting:
        thread.start()
    while server.pool.snapshot(time.monotonic())[0].waiting < 5:
        time.sleep(0.001)
    server.pool.close(time.monotonic())
    for thread in waiting:
        thread.join(10.0)
    assert ends == ["closed"] * 5
    release.set()
    holder.join(10.0)
    assert ends[-1] == "answered"


# --- finalisers ---


class Stream:
    """What a user holds; dropped without being closed, it gives its attempt back."""

    def __init__(self, pool: Pool[Target], attempt: Attempt[Target]) -> None:
        self.pool = pool
        self.attempt = attempt

    def __del__(self) -> None:
        self.pool.abandon_later(self.attempt)


class Treacherous:
    """Luck whose every draw, made under the pool's lock, runs finalisers on the thread that holds it."""

    def __init__(self) -> None:
        self.garbage: list[object] = []
        self.struck = 0

    def __call__(self) -> float:
        if self.garbage:
            self.struck += 1
            self.garbage.clear()
            gc.collect()
        return 0.5


@pytest.mark.parametrize("way", ["__del__", "weakref.finalize", "cycle"])
def test_an_attempt_finalised_while_the_lock_is_held_does_not_deadlock(way: str) -> None:
    luck = Treacherous()
    pool: Pool[Target] = Pool({"main": build(["a", "b"])}, Policies(retry=Retry()), luck)

    def held() -> object:
        """Something whose end abandons an attempt."""
        attempt = Call(pool, Ask("main"), 0.0).next_attempt(0.0)
        assert isinstance(attempt, Attempt)
        if way == "weakref.finalize":
            holder = threading.Event()
            weakref.finalize(holder, pool.abandon_later, attempt)
            return holder
        stream = Stream(pool, attempt)
        if way == "cycle":
            stream.itself = stream  # type: ignore[attr-defined]
        return stream

    def work() -> None:
        luck.garbage.append(held())
        for _ in range(3):
            call = Call(pool, Ask("main"), 1.0)
            step = call.next_attempt(1.0)
            assert isinstance(step, Attempt)
            call.failed(step, fault(), 1.0)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(10.0)
    assert not thread.is_alive(), "it waits for itself"
    assert luck.struck == 1
    assert sum(health.in_flight for health in pool.snapshot(2.0)) == 0
