"""What bounds an attempt of the async client by its time."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any

import anyio

from resilient_llm.drive.event_loop import Timer
from resilient_llm.drive.exchange import AnyExchange


class ScopeBound:
    """A cancel scope with the time an attempt may take."""

    __slots__ = ("_exchange", "_scope")

    def __init__(self, exchange: AnyExchange) -> None:
        self._exchange = exchange
        self._scope = anyio.CancelScope(deadline=anyio.current_time() + exchange.attempt.timeout)

    def __enter__(self) -> None:
        self._exchange.stop = self._scope.cancel
        self._exchange.extend = self._extend
        self._exchange.limit.scoped = True
        self._scope.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exchange.limit.scoped = False
        self._exchange.extend = None
        self._scope.__exit__(kind, error, trace)
        if self._scope.cancelled_caught:
            raise TimeoutError

    def _extend(self, until: float) -> None:
        """From now on every read is bounded by the attempt's limit, and the scope only by this monotonic time."""
        exchange = self._exchange
        exchange.limit.scoped = False
        self._scope.deadline = anyio.current_time() + until - exchange.subject.clock()


class TaskBound:
    """The same on asyncio, for our own engines, at a fifth of the price: they let go of everything when they are
    cancelled once."""

    __slots__ = ("_before", "_cancelled", "_exchange", "_over", "_task", "_timer")

    def __init__(self, exchange: AnyExchange, timer: Timer) -> None:
        self._exchange = exchange
        self._timer = timer
        task = asyncio.current_task()
        assert task is not None
        self._task: asyncio.Task[Any] = task
        self._before = task.cancelling()
        self._cancelled = self._over = False

    def __enter__(self) -> None:
        exchange = self._exchange
        exchange.stop, exchange.extend, exchange.limit.scoped = self.on_time, self._extend, True
        self._timer.set(self, exchange.attempt.timeout)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over = True
        self._timer.cancel(self)
        exchange = self._exchange
        exchange.limit.scoped = False
        exchange.stop, exchange.extend = exchange.limit.sever, None  # a circle of references would be collected late
        if self._cancelled and self._task.uncancel() <= self._before and kind is asyncio.CancelledError:
            raise TimeoutError

    def on_time(self) -> None:
        """Its time is up, or it is stopped."""
        if self._over or self._cancelled:
            return
        if asyncio.current_task() is self._task:  # it does not wait for anything now, and shall not any more
            self._exchange.limit.ended = True
            return
        self._cancelled = True
        self._task.cancel()

    def _extend(self, until: float) -> None:
        """See :class:`ScopeBound`."""
        exchange = self._exchange
        exchange.limit.scoped = False
        self._timer.set(self, until - exchange.subject.clock())
