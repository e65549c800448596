"""One pool under many threads, and under a garbage collector that strikes at the worst moment."""

from __future__ import annotations

import gc
import random
import sys
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from resilient_llm.decide.call import Call, Wait
from resilient_llm.decide.member import Attempt
from resilient_llm.decide.pool import Pool
from resilient_llm.errors import CallFailed, FaultKind
from resilient_llm.policy import Breaker, Policies
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

    def __call__(self) -> float:
        with self.lock:
            self.now += 0.01
            return self.now


def one_call(pool: Pool[Target], clock: Clock, luck: random.Random) -> str:
    """A call in random weather; says how it ended."""
    call = Call(pool, clock(), route="main", streaming=luck.random() < 0.5, deadline=clock() + 60.0)
    while True:
        try:
            step = call.next_attempt(clock())
        except CallFailed as error:
            return type(error).__name__
        if isinstance(step, Wait):
            clock.now += step.seconds
            continue
        beside = call.rescue(step, clock()) if luck.random() < 0.1 else None
        for attempt in filter(None, (step, beside)):
            finish(pool, attempt, clock, luck)
        if call.answered:
            return "answered"


def finish(pool: Pool[Target], attempt: Attempt[Target], clock: Clock, luck: random.Random) -> None:
    """End an attempt somehow."""
    call, fate = attempt.call, luck.random()
    if fate < 0.5:
        call.first_content(attempt, clock())
    if fate < 0.4:
        call.succeeded(attempt, clock(), 100)
    elif fate < 0.7:
        call.failed(attempt, fault(luck.choice(list(FaultKind)), retry_after=luck.choice([None, 0.1])), clock())
    elif fate < 0.8:
        call.overtaken(attempt, clock())
    elif fate < 0.9:
        pool.abandon_later(attempt)
        call.in_flight -= 1
    else:
        call.abandoned(attempt, clock())


@pytest.mark.usefixtures("eager_switching")
def test_eight_threads_lose_nothing_and_raise_nothing() -> None:
    clock = Clock()
    pool = Pool(
        {"main": build("a", [Target("b", max_concurrency=3), "c"])},
        Policies(breaker=Breaker(open_base=0.05, open_cap=0.1, panic_interval=0.05)),
        random.Random(0).random,
    )
    pool.listening = True
    start = threading.Barrier(8)

    def work(seed: int) -> int:
        luck, ends = random.Random(seed), 0
        start.wait()
        for _ in range(200):
            ends += bool(one_call(pool, clock, luck))
            if luck.random() < 0.05:
                list(pool.take_events())
                pool.snapshot(clock())
        return ends

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(work, range(8))) == 1600
    for standing in pool.snapshot(clock()):
        assert standing.in_flight == 0
        assert 0.0 <= standing.score <= 1.0


@pytest.mark.usefixtures("eager_switching")
def test_of_eight_threads_at_the_end_of_an_open_period_one_gets_the_probe() -> None:
    for _ in range(20):
        pool: Pool[Target] = Pool({"main": build("a", "b")}, Policies(breaker=Breaker(consecutive=1)), Luck())
        first = Call(pool, 0.0, route="main").next_attempt(0.0)
        assert isinstance(first, Attempt)
        first.call.failed(first, fault(), 0.0)
        start = threading.Barrier(8)

        def ask(_: int, pool: Pool[Target] = pool, start: threading.Barrier = start) -> str:
            call = Call(pool, 10.0, route="main")
            start.wait()
            step = call.next_attempt(10.0)
            assert isinstance(step, Attempt)
            return step.kind

        with ThreadPoolExecutor(8) as threads:
            kinds = list(threads.map(ask, range(8)))
        assert sorted(kinds) == ["initial"] * 7 + ["probe"]


class Stream:
    """What a user holds; dropped without being closed, it gives its attempt back."""

    def __init__(self, attempt: Attempt[Target]) -> None:
        self.attempt = attempt

    def __del__(self) -> None:
        self.attempt.call.pool.abandon_later(self.attempt)


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


def finishes(work: object, seconds: float = 10.0) -> bool:
    """Whether the work ends, rather than waiting for itself."""
    thread = threading.Thread(target=work, daemon=True)  # type: ignore[arg-type]
    thread.start()
    thread.join(seconds)
    return not thread.is_alive()


@pytest.mark.parametrize("way", ["__del__", "weakref.finalize", "cycle"])
def test_an_attempt_finalised_while_the_lock_is_held_does_not_deadlock(way: str) -> None:
    luck = Treacherous()
    pool: Pool[Target] = Pool({"main": build(["a", "b"])}, Policies(), luck)

    def held() -> object:
        """Something whose end abandons an attempt."""
        attempt = Call(pool, 0.0, route="main").next_attempt(0.0)
        assert isinstance(attempt, Attempt)
        if way == "weakref.finalize":
            holder = threading.Event()
            weakref.finalize(holder, pool.abandon_later, attempt)
            return holder
        stream = Stream(attempt)
        if way == "cycle":
            stream.itself = stream  # type: ignore[attr-defined]
        return stream

    def work() -> None:
        luck.garbage.append(held())
        for _ in range(3):
            step = Call(pool, 1.0, route="main").next_attempt(1.0)
            assert isinstance(step, Attempt)
            step.call.failed(step, fault(), 1.0)

    assert finishes(work)
    assert luck.struck == 1
    assert sum(standing.in_flight for standing in pool.snapshot(2.0)) == 0
    assert all(standing.samples in (0, 1, 2, 3) for standing in pool.snapshot(2.0))
