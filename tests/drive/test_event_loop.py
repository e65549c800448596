"""What bounds an attempt on an event loop: its one timer, and the bound that is an asyncio task's own."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
import trio

from resilient_llm.drive.engines import Limit
from resilient_llm.drive.event_loop import Timer, native_loop
from resilient_llm.drive.time_bound import TaskBound

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


class Noted:
    """Notes that its time has come."""

    def __init__(self, name: str, into: list[str], then: Callable[[], None] = lambda: None) -> None:
        self.name, self.into, self.then = name, into, then

    def on_time(self) -> None:
        self.into.append(self.name)
        self.then()


@BACKENDS
def test_what_is_due_is_called_in_order_and_what_was_called_off_is_not(backend: str) -> None:
    came: list[str] = []

    async def main() -> None:
        timer = Timer(native_loop())
        done = anyio.Event()
        one, two, never = (Noted(name, came) for name in ("one", "two", "never"))
        last = Noted("last", came, done.set)
        timer.set(last, 0.04)
        timer.set(never, 0.01)
        timer.set(two, 5.0)
        timer.set(one, 0.01)
        timer.set(two, 0.02)  # it was moved
        timer.set(Noted("infinite", came), float("inf"))
        timer.cancel(never)
        timer.cancel(never)
        with anyio.fail_after(5):
            await done.wait()

    anyio.run(main, backend=backend)
    assert came == ["one", "two", "last"]


@BACKENDS
def test_what_is_due_may_call_off_and_set_others(backend: str) -> None:
    came: list[str] = []

    async def main() -> None:
        timer = Timer(native_loop())
        done = anyio.Event()
        other, later = Noted("other", came), Noted("later", came, done.set)

        def then() -> None:
            timer.cancel(other)
            timer.set(later, 0.01)

        timer.set(Noted("first", came, then), 0.005)
        timer.set(other, 0.005)
        with anyio.fail_after(5):
            await done.wait()

    anyio.run(main, backend=backend)
    assert came == ["first", "later"]


def test_the_loop_has_one_timer_and_none_of_a_client_that_was_dropped() -> None:
    async def main() -> None:
        scheduled: list[Any] = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
        timer = Timer(native_loop())
        for seconds in (60.0, 50.0, 70.0):
            timer.set(Noted("", []), seconds)
        assert len([one for one in scheduled if not one.cancelled()]) == 1
        gone = weakref.ref(timer)
        del timer
        gc.collect()
        assert gone() is None
        assert not [one for one in scheduled if not one.cancelled()]

    asyncio.run(main())


@BACKENDS
def test_it_keeps_no_event_loop(backend: str) -> None:
    held: list[tuple[Timer, weakref.ref[Any]]] = []

    async def main() -> None:
        timer = Timer(native_loop())
        timer.set(Noted("", []), 60.0)
        held.append((timer, weakref.ref(native_loop())))

    anyio.run(main, backend=backend)
    gc.collect()
    assert held[0][1]() is None


# --- an asyncio task's own bound ---------------------------------------------------------------------------


def exchange(timeout: float) -> Any:
    """As much of an exchange as a bound needs."""
    limit = Limit(lambda: 0.0, 10.0, 1.0)
    return SimpleNamespace(attempt=SimpleNamespace(timeout=timeout), limit=limit, stop=None, extend=None)


def stopped(attempt: Any) -> None:
    attempt.stop()


def run(main: Callable[[Timer], Awaitable[None]]) -> None:
    async def whole() -> None:
        await main(Timer(native_loop()))
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0  # it left nothing behind
        await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(whole(), 10))


async def wait(attempt: Any, timer: Timer, *soon: Callable[[Any], object]) -> None:
    """Wait in the bound, while these are called with the exchange."""
    with TaskBound(attempt, timer):
        assert attempt.limit.scoped
        for call in soon:
            asyncio.get_running_loop().call_soon(call, attempt)
        await asyncio.sleep(5)


def test_its_time_is_up() -> None:
    async def main(timer: Timer) -> None:
        attempt = exchange(0.01)
        with pytest.raises(TimeoutError):
            await wait(attempt, timer)
        assert not attempt.limit.scoped

    run(main)


def test_it_is_stopped_from_outside_and_no_more_once_it_is_over() -> None:
    async def main(timer: Timer) -> None:
        attempt = exchange(5.0)
        stops: list[Callable[[], object]] = []
        with pytest.raises(TimeoutError):
            await wait(attempt, timer, lambda one: stops.append(one.stop), stopped)
        stops[0]()
        await asyncio.sleep(0)

    run(main)


def test_one_that_stops_itself_sends_and_reads_no_more() -> None:
    async def main(timer: Timer) -> None:
        attempt = exchange(5.0)
        with TaskBound(attempt, timer):
            attempt.stop()
            await asyncio.sleep(0)
        assert attempt.limit.ended

    run(main)


@pytest.mark.parametrize("both", [False, True], ids=["alone", "in the same instant"])
def test_who_cancels_the_task_is_not_taken_for_its_time(both: bool) -> None:
    async def main(timer: Timer) -> None:
        attempt, task = exchange(5.0), asyncio.current_task()
        assert task is not None
        with pytest.raises(asyncio.CancelledError):
            await wait(attempt, timer, *([stopped] if both else []), lambda _: task.cancel())
        assert task.uncancel() == 0

    run(main)


def test_a_scope_of_the_callers_around_it_ends_it() -> None:
    async def main(timer: Timer) -> None:
        with anyio.move_on_after(0.01) as scope, TaskBound(exchange(5.0), timer):
            await asyncio.sleep(5)
        assert scope.cancelled_caught

    run(main)


def test_trio_is_found_where_asyncio_was_imported() -> None:
    async def main() -> object:
        return native_loop()

    assert isinstance(trio.run(main), trio.lowlevel.TrioToken)
