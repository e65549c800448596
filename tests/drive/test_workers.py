"""Threads that are kept for the next race, and not for long."""

from __future__ import annotations

import queue
import threading

import pytest

from resilient_llm.drive import workers
from resilient_llm.drive.workers import Workers


def done_in(pool: Workers) -> int:
    """The thread that carried out a job."""
    told: queue.SimpleQueue[int] = queue.SimpleQueue()
    assert pool.start(lambda: told.put(threading.get_ident()))
    return told.get(timeout=5)


def wait_until_idle(pool: Workers) -> None:
    while not pool._idle:
        threading.Event().wait(0.001)


def test_an_idle_thread_takes_the_next_job() -> None:
    pool = Workers()
    first = done_in(pool)
    wait_until_idle(pool)
    assert done_in(pool) == first


def test_a_busy_thread_is_not_waited_for() -> None:
    pool, go = Workers(), threading.Event()
    assert pool.start(lambda: go.wait(5))
    done_in(pool)
    go.set()


def test_a_thread_without_a_job_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_LINGER", 0.01)
    pool = Workers()
    ident = done_in(pool)
    thread = next((one for one in threading.enumerate() if one.ident == ident), None)
    if thread is not None:
        thread.join(5)
        assert not thread.is_alive()
    assert pool._idle == []


def test_where_there_can_be_no_more_threads_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert not Workers().start(lambda: None)


def test_a_forked_child_starts_without_the_parents_threads() -> None:
    pool = Workers()
    done_in(pool)
    wait_until_idle(pool)
    (jobs,) = pool._idle
    pool.reset_after_fork()
    assert pool._idle == []
    jobs.put(lambda: None)  # in a child its thread is not there; here it is, and shall end
