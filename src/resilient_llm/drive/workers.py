"""Threads for the sync client's races.  Waking one that is idle costs a quarter of starting one."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import TypeAlias

from resilient_llm.drive.fork import tell_after_fork

Job: TypeAlias = Callable[[], object]
Jobs: TypeAlias = "queue.SimpleQueue[Job]"

_LINGER = 1.0  # seconds a thread without a job waits for one before it ends


def _new_jobs() -> Jobs:
    return queue.SimpleQueue()


class Workers:
    """Threads that carry out one job after the other and end by themselves when there is none.

    They are daemons: a silent provider must not keep the interpreter from exiting.
    """

    def __init__(self) -> None:
        self._idle: list[Jobs] = []  # each stands for its thread; the last one to become idle is the first to go
        tell_after_fork(self)

    def start(self, job: Job) -> bool:
        """Begin a job in a thread of its own; false if there can be no more threads."""
        try:
            jobs = self._idle.pop()
        except IndexError:
            jobs = _new_jobs()
            try:
                threading.Thread(target=self._work, args=(jobs,), name="resilient_llm worker", daemon=True).start()
            except RuntimeError:
                return False
        jobs.put(job)
        return True

    def _work(self, jobs: Jobs) -> None:
        while True:
            try:
                job = jobs.get(timeout=_LINGER)
            except queue.Empty:
                try:
                    self._idle.remove(jobs)
                except ValueError:  # somebody took it in this very instant: a job is on its way
                    job = jobs.get()
                else:
                    return
            job()
            del job  # a thread that waits must not keep a call's answer alive
            self._idle.append(jobs)

    def reset_after_fork(self) -> None:
        """In the child: the parent's threads are not here."""
        self._idle = []
