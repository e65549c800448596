"""The iterator over results of the sync client.  The twin of ``tasks``, where the calls run in threads."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from contextvars import copy_context
from types import TracebackType
from typing import Final, Generic, Self, TypeAlias

from resilient_llm.batch.again import Tries
from resilient_llm.batch.prompts import Asked
from resilient_llm.batch.results import MapResult, R, R_co
from resilient_llm.batch.work import Ended, Work, ended
from resilient_llm.drive.core import ProviderPool
from resilient_llm.drive.sync import Driver
from resilient_llm.drive.under_way import closed
from resilient_llm.errors import CallFailed, InvalidRequest
from resilient_llm.options import ChatOptions, Messages

CLOSE: Final = 1.0
"""Seconds that closing waits for the calls it ends; code of the user's may run on in its thread."""

Call: TypeAlias = Callable[[Messages, ChatOptions], R]
"""One call of the client."""


class Map(Generic[R_co]):
    """Results of many prompts, see :meth:`~resilient_llm.ResilientClient.map`.  Iterate over it, best inside ``with``.

    The prompts are taken, and calls begun, while you iterate, in the thread that iterates; at most a thousand results
    wait for you.  Leaving the loop, :meth:`close` and Ctrl-C end the calls under way at once, which judges nobody.
    """

    def __init__(self, prompts: Iterable[object], work: Work[R_co], driver: Driver, call: Call[R_co]) -> None:
        self._prompts: Iterator[object] | None = None
        self._source = prompts
        self._work = work
        self._running: Running[R_co] = Running(work, driver, call)
        self._reading = threading.Lock()
        self._closed = False

    def __iter__(self) -> Iterator[MapResult[R_co]]:
        return self

    def __next__(self) -> MapResult[R_co]:
        if self._closed:
            raise StopIteration
        if not self._reading.acquire(blocking=False):
            raise RuntimeError("the results are being read elsewhere; read them in one place, and pass on what comes")
        try:
            result = self._next()
        except BaseException:
            self.close()
            raise
        finally:
            self._reading.release()
        if result is None:
            self.close()
            raise StopIteration
        return result

    def close(self) -> None:
        """End the calls under way and let go of the file.  Does nothing the second time."""
        if not self._closed:
            self._closed = True
            self._running.end()
            self._running.wait(CLOSE)
            self._work.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            self._closed = True
            self._running.end()
            self._work.close()

    def _next(self) -> MapResult[R_co] | None:
        work, running = self._work, self._running
        while True:
            running.collect()
            while work.room:
                self._begin()
            result = work.next()
            work.show(running.waiting)
            if result is not None or work.over:
                return result
            running.collect(work.patience)

    def _begin(self) -> None:
        """Take the next prompt."""
        if self._prompts is None:
            self._prompts = iter(self._source)
        try:
            item = next(self._prompts)
        except StopIteration:
            self._work.exhausted = True
            return
        asked = self._work.begin(item)
        if asked is not None:
            self._running.start(asked)


class Running(Generic[R]):
    """The calls under way.  Threads hold this, and not the iterator: one that is dropped is noticed."""

    def __init__(self, work: Work[R], driver: Driver, call: Call[R]) -> None:
        self._work = work
        self._driver = driver
        self._owner: ProviderPool = driver.owner
        self._call = call
        self._ended: queue.SimpleQueue[Ended[R] | BaseException] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._answered = 0

    @property
    def waiting(self) -> int:
        """Calls that stand in line."""
        return len(self._driver.under_way().in_line)

    def start(self, asked: Asked) -> None:
        """Begin a call in a thread; in this one if there can be no more of them."""
        context = copy_context()
        if not self._driver.workers.start(lambda: context.run(self._carry_out, asked)):
            self._carry_out(asked)

    def collect(self, patience: float | None = 0.0) -> None:
        """Take in what ended; wait for it so many seconds, ``None``: as long as it takes.  Raises what ends the run."""
        while True:
            try:
                end = self._ended.get(patience != 0.0, patience)
            except queue.Empty:
                return
            patience = 0.0
            if isinstance(end, BaseException):
                self._work.in_flight -= 1
                raise end
            self._work.collect(end, self.waiting)
            if self._work.on_result is not None:
                self._work.on_result(end.result)

    def end(self) -> None:
        """End them all."""
        self._stopped.set()
        self._driver.under_way().leave()

    def wait(self, patience: float) -> None:
        """Wait until they have ended, so long at most."""
        until = self._owner.time.monotonic() + patience
        while self._work.in_flight > 0 and (left := until - self._owner.time.monotonic()) > 0:
            try:
                self._ended.get(True, left)
            except queue.Empty:
                return
            self._work.in_flight -= 1

    def _carry_out(self, asked: Asked) -> None:
        try:
            end = ended(asked, self._outcome(asked))
            self._work.keep(asked, end)
            file = self._work.file
            if file is not None and file.due(self._owner.clock()):
                file.sync()
        except BaseException as error:
            self._ended.put(error)
        else:
            self._ended.put(end)

    def _outcome(self, asked: Asked) -> R | Exception:
        """The answer, or the error that is the result.  Raises what ends the run."""
        tries = Tries(asked.options, self._owner.allowance, self._owner.clock(), self._answered)
        while not self._stopped.is_set():
            try:
                response = self._call(asked.messages, tries.options)
            except (CallFailed, InvalidRequest) as error:
                wait = tries.wait_after(error, self._owner.clock(), self._answered)
                if wait is None:
                    return error
                self._pause(wait)
            else:
                self._answered += 1
                return response
        raise closed()

    def _pause(self, wait: float) -> None:
        if self._owner.wait is not None:
            self._owner.wait(wait)
        else:
            self._stopped.wait(wait)
