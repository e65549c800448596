"""The one thread beside a client: bounded, never in the way, and gone when nobody needs it."""

from __future__ import annotations

import gc
import logging
import os
import threading
import time
import weakref

import pytest

from resilient_llm import ResilientClient
from resilient_llm.operate import background
from resilient_llm.operate.background import Background, background_of
from resilient_llm.testing import ManualClock, ScriptedProvider


def ended(thread: threading.Thread, seconds: float = 5.0) -> bool:
    thread.join(seconds)
    return not thread.is_alive()


def thread_of(work: Background) -> threading.Thread:
    found: list[threading.Thread] = []
    work.submit(lambda: found.append(threading.current_thread()))
    assert work.flush(5.0)
    return found[0]


def test_jobs_run_one_after_the_other_in_the_order_they_came() -> None:
    work, done = Background(), list[int]()
    for number in range(50):
        assert work.submit(lambda number=number: done.append(number))
    assert work.flush(5.0)
    assert done == list(range(50))
    work.close()


def test_no_thread_before_the_first_job_and_a_daemon_after_it() -> None:
    before = set(threading.enumerate())
    work = Background("of the test")
    assert set(threading.enumerate()) == before
    thread = thread_of(work)
    assert thread.daemon
    assert thread.name == "resilient_llm-of the test"
    work.close()


def test_one_job_too_many_is_refused_and_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "MOST_WAITING", 3)
    work, running, go_on = Background(), threading.Event(), threading.Event()
    work.submit(lambda: bool(running.set()) or go_on.wait(5.0))
    assert running.wait(5.0)
    started = time.perf_counter()
    assert [work.submit(lambda: None) for _ in range(5)] == [True, True, True, False, False]
    assert time.perf_counter() - started < 1.0
    assert work.refused == 2
    go_on.set()
    work.close()


def test_a_job_that_raises_is_logged_and_the_next_one_runs(caplog: pytest.LogCaptureFixture) -> None:
    work = Background()
    with caplog.at_level(logging.ERROR, "resilient_llm.operate"):
        work.submit(lambda: 1 // 0)
        assert work.flush(5.0)
    assert "a job in the background failed" in caplog.text
    work.close()


def test_a_job_that_wants_to_end_the_program_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    work = Background()
    first = thread_of(work)

    def leave() -> None:
        raise SystemExit

    work.submit(leave)
    assert thread_of(work) is first
    assert "a job in the background failed" in caplog.text
    work.close()


def test_a_regular_job_runs_when_its_time_has_come_by_the_clock_given() -> None:
    clock, done = ManualClock(), list[float]()
    work = Background(clock=clock)
    stop = work.every(10.0, lambda: done.append(clock()))

    def after(seconds: float) -> int:
        clock.advance(seconds)
        assert work.flush(5.0)  # it wakes, and looks at the clock
        assert work.flush(5.0)
        return len(done)

    assert after(9.0) == 0
    assert after(2.0) == 1
    assert after(9.0) == 1
    assert after(2.0) == 2
    stop()
    assert after(60.0) == 2
    work.close()


def test_a_regular_job_that_raises_runs_again(caplog: pytest.LogCaptureFixture) -> None:
    clock, tries = ManualClock(), list[int]()
    work = Background(clock=clock)

    def fail() -> None:
        tries.append(1)
        raise ValueError

    work.every(1.0, fail)
    with caplog.at_level(logging.ERROR, "resilient_llm.operate"):
        for _ in range(3):
            clock.advance(1.5)
            assert work.flush(5.0)
            assert work.flush(5.0)
    assert len(tries) == 3
    work.close()


def test_other_jobs_do_not_keep_a_regular_one_from_its_turn() -> None:
    clock, done = ManualClock(), list[str]()
    work = Background(clock=clock)

    def again() -> None:
        done.append("job")
        if len(done) < 20:
            work.submit(again)

    work.every(1.0, lambda: done.append("regular"))
    clock.advance(2.0)
    work.submit(again)
    while len(done) < 20:
        work.flush(5.0)
    assert "regular" in done[:5]
    work.close()


def test_close_runs_what_waits_and_then_takes_nothing_more() -> None:
    work, done = Background(), list[int]()
    thread = thread_of(work)
    for number in range(10):
        work.submit(lambda number=number: done.append(number))
    work.every(60.0, lambda: done.append(-1))
    work.close(5.0)
    assert done == list(range(10))
    assert not work.submit(lambda: done.append(-2))
    assert not work.flush(0.1)
    work.every(0.0, lambda: done.append(-3))
    assert ended(thread)
    assert done == list(range(10))


def test_close_does_not_wait_for_a_job_that_hangs() -> None:
    work, running, go_on = Background(), threading.Event(), threading.Event()
    work.submit(lambda: bool(running.set()) or go_on.wait(10.0))
    assert running.wait(5.0)
    started = time.perf_counter()
    work.close(0.05)
    assert time.perf_counter() - started < 5.0
    go_on.set()


def test_close_from_one_of_its_own_jobs_does_not_wait_for_itself() -> None:
    work = Background()
    thread = thread_of(work)
    work.submit(work.close)
    assert ended(thread)


def test_the_thread_ends_when_nobody_holds_its_object() -> None:
    work = Background()
    thread = thread_of(work)
    work.every(60.0, lambda: None)
    del work
    gc.collect()
    assert ended(thread)


def test_a_client_that_is_dropped_takes_its_background_with_it_though_a_regular_job_belongs_to_it() -> None:
    class Part:
        def __init__(self, client: ResilientClient) -> None:
            self.client = client
            background_of(client.pool).every(60.0, self.look)

        def look(self) -> None: ...

    client = ResilientClient([ScriptedProvider()])
    part = Part(client)
    thread = thread_of(background_of(client.pool))
    gone = weakref.ref(client.pool)
    client.close()
    del client, part
    gc.collect()
    assert gone() is None
    assert ended(thread)


def test_a_regular_job_ends_with_its_object() -> None:
    class Part:
        looks = 0

        def look(self) -> None:
            Part.looks += 1

    clock = ManualClock()
    work, part = Background(clock=clock), Part()
    work.every(1.0, part.look)
    del part
    gc.collect()
    for _ in range(3):
        clock.advance(2.0)
        assert work.flush(5.0)
    assert Part.looks == 0
    work.close()


def test_one_background_per_client_and_a_new_one_where_it_was_closed() -> None:
    with ResilientClient([ScriptedProvider()]) as one, ResilientClient([ScriptedProvider()]) as other:
        first = background_of(one.pool)
        assert background_of(one.pool) is first
        assert background_of(other.pool) is not first
        first.close()
        assert background_of(one.pool) is not first


def test_no_more_threads_fail_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    work, done = Background(), list[int]()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert work.submit(lambda: done.append(1))
    assert work.submit(lambda: done.append(2))
    assert work.flush(5.0)
    assert done == [1, 2]
    work.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_child_works_on_by_itself_and_repeats_nothing_of_the_parent() -> None:
    clock, done = ManualClock(), list[str]()
    work = Background(clock=clock)
    running, go_on = threading.Event(), threading.Event()
    work.every(1.0, lambda: done.append("regular"))
    work.submit(lambda: bool(running.set()) or go_on.wait(10.0))
    work.submit(lambda: done.append("the parent's"))
    assert running.wait(5.0)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            clock.advance(5.0)
            work.submit(lambda: done.append("the child's"))
            work.flush(5.0)
            work.flush(5.0)
            code = 0 if sorted(done) == ["regular", "the child's"] else 2
        finally:
            os._exit(code)
    go_on.set()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert work.flush(5.0)
    assert done == ["the parent's"]
    work.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_regular_job_that_hangs_in_the_parent_goes_on_in_a_forked_child() -> None:
    work, running, go_on = Background(), threading.Event(), threading.Event()
    parent = os.getpid()
    done: list[int] = []

    def regular() -> None:
        if os.getpid() == parent:
            running.set()
            go_on.wait(10.0)
        done.append(os.getpid())

    work.every(0.01, regular)
    assert running.wait(5.0)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            ends = time.monotonic() + 5.0
            while not done and time.monotonic() < ends:
                time.sleep(0.01)
            code = 0 if done else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    go_on.set()
    work.close()
