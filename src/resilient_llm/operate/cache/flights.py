"""Identical calls under way are made once: the first one asks, the others wait for its answer.

If the first one is cancelled or interrupted, one of those who wait asks instead; nobody fails because another caller
left.  A failure that would meet each of them alike is shared.
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Final

import anyio
import anyio.lowlevel

from resilient_llm.errors import AllAttemptsFailed, CallFailed, DeadlineExceeded, NoProviderAvailable, RequestRejected
from resilient_llm.model import ChatResponse

_SHARED: Final = (AllAttemptsFailed, NoProviderAvailable, RequestRejected)


class _Flight:
    """One call under way.  ``failure`` ``None`` and ``response`` ``None`` at its end: it was given up."""

    __slots__ = ("done", "failure", "leader", "response")

    def __init__(self, leader: object, done: threading.Event | anyio.Event) -> None:
        self.leader = leader
        self.done = done
        self.response: ChatResponse | None = None
        self.failure: CallFailed | None = None

    def ended(self, error: BaseException) -> None:
        """It failed."""
        if isinstance(error, _SHARED):
            self.failure = error

    def outcome(self) -> ChatResponse | None:
        """What those who waited get; ``None``: one of them has to ask.  Raises the failure that is shared."""
        if self.failure is not None:
            raise copy.copy(self.failure) from self.failure.__cause__
        return self.response


class Flights:
    """For threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: dict[str, _Flight] = {}

    def once(
        self, name: str, seconds: float | None, ask: Callable[[float | None], ChatResponse]
    ) -> tuple[ChatResponse, bool]:
        """The answer, and whether it is that of another caller's call.  ``ask`` is given the seconds that are left.

        Raises ``DeadlineExceeded`` if the answer of another caller does not come within ``seconds``.
        """
        until = None if seconds is None else time.monotonic() + seconds
        while True:
            me, mine = threading.get_ident(), False
            with self._lock:
                flight = self._under_way.get(name)
                if flight is None:
                    flight = self._under_way[name] = _Flight(me, threading.Event())
                    mine = True
            left = None if until is None else until - time.monotonic()
            if mine:
                return self._lead(name, flight, left, ask), False
            if flight.leader == me:  # a check of the answer asks the same again
                return ask(left), False
            assert isinstance(flight.done, threading.Event)
            if not flight.done.wait(left):
                raise too_late(seconds)
            found = flight.outcome()
            if found is not None:
                return found, True

    def _lead(
        self, name: str, flight: _Flight, left: float | None, ask: Callable[[float | None], ChatResponse]
    ) -> ChatResponse:
        try:
            flight.response = ask(left)
        except BaseException as error:
            flight.ended(error)
            raise
        finally:
            with self._lock:
                self._under_way.pop(name, None)
            flight.done.set()
        return flight.response

    def reset_after_fork(self) -> None:
        """In the child: nobody is under way."""
        self._lock = threading.Lock()
        self._under_way = {}


class AsyncFlights:
    """For tasks of one event loop; loops do not wait for each other."""

    def __init__(self) -> None:
        self._of_loop: anyio.lowlevel.RunVar[dict[str, _Flight]] = anyio.lowlevel.RunVar("resilient_llm flights")

    async def once(
        self, name: str, seconds: float | None, ask: Callable[[float | None], Awaitable[ChatResponse]]
    ) -> tuple[ChatResponse, bool]:
        """As :meth:`Flights.once`."""
        nobody: dict[str, _Flight] = {}
        under_way = self._of_loop.get(nobody)
        self._of_loop.set(under_way)
        until = None if seconds is None else time.monotonic() + seconds
        me = anyio.get_current_task().id
        while True:
            flight = under_way.get(name)
            left = None if until is None else until - time.monotonic()
            if flight is None:
                flight = under_way[name] = _Flight(me, anyio.Event())
                return await _lead(under_way, name, flight, ask, left), False
            if flight.leader == me:
                return await ask(left), False
            with anyio.move_on_after(left) as scope:
                assert isinstance(flight.done, anyio.Event)
                await flight.done.wait()
            if scope.cancelled_caught:
                raise too_late(seconds)
            found = flight.outcome()
            if found is not None:
                return found, True


async def _lead(
    under_way: dict[str, _Flight],
    name: str,
    flight: _Flight,
    ask: Callable[[float | None], Awaitable[ChatResponse]],
    left: float | None,
) -> ChatResponse:
    try:
        flight.response = await ask(left)
    except BaseException as error:
        flight.ended(error)
        raise
    finally:
        under_way.pop(name, None)
        assert isinstance(flight.done, anyio.Event)
        flight.done.set()
    return flight.response


def too_late(seconds: float | None) -> DeadlineExceeded:
    """For who waited for another caller's answer."""
    return DeadlineExceeded(f"no answer within {seconds or 0.0:.3g} s: an identical call is still under way")
