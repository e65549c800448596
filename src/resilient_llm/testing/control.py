"""What can be done to a client that exists: faults put into it, and its time taken away.

Both are context managers that leave the client as they found it.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TypeAlias

from resilient_llm.client import AsyncResilientClient, ResilientClient
from resilient_llm.decide.attempt import Ask, Attempt
from resilient_llm.decide.leases import Past
from resilient_llm.decide.pool import Pool
from resilient_llm.decide.waiting import Refused
from resilient_llm.drive.engines import Time
from resilient_llm.drive.subject import Target
from resilient_llm.errors import ConfigurationError
from resilient_llm.providers.custom import Custom
from resilient_llm.testing.clock import ManualClock
from resilient_llm.testing.faults import Faults, FaultsLike, as_faults
from resilient_llm.testing.faulty import AsyncFaultyProvider, FaultyProvider
from resilient_llm.testing.faulty_engine import AsyncFaultyEngine, FaultyEngine

__all__ = ["inject", "instant"]

Client: TypeAlias = ResilientClient | AsyncResilientClient

_running: dict[int, list[Mapping[str, Faults]]] = {}
"""What is injected now, by the ``id`` of the client it is injected into."""


@contextmanager
def inject(client: Client, faults: Mapping[str, FaultsLike]) -> Generator[Mapping[str, Faults]]:
    """Inside the ``with`` block, do to this client's providers what the schedules say.

    ``faults`` maps provider ids to a :class:`Faults`, to the lines of one, or to one mishap for every attempt.  Gives
    the schedules by id, started (second 0 is when the block is entered); ``injected`` of each tells what happened.
    Inside :func:`instant` their time is the client's, unless they have a clock of their own.  Blocks may be nested: the
    inner one strikes first.  Any kind of provider, both clients; calls of other clients on the same pool are not
    touched, except those to providers you wrote.  Raises ``ConfigurationError`` for an unknown id.
    """
    if not isinstance(faults, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"faults are given per provider id, as {{'id': Status(503)}}, not as {faults!r}")
    schedules = {provider: as_faults(value) for provider, value in faults.items()}
    targets = {target.id: target for target in client.pool.pool.targets()}
    for provider in schedules:
        if provider not in targets:
            raise ConfigurationError(f"the client has no provider {provider!r}; it has {', '.join(targets)}")
    time_now = client.pool.clock
    outside = [schedule for others in _running.get(id(client), ()) for schedule in others.values()]
    with ExitStack() as undo:
        for schedule in schedules.values():
            if any(schedule is other for other in outside):
                continue  # it is running; its own block stops it
            if isinstance(time_now, ManualClock):
                undo.callback(schedule.follow(time_now))
            schedule.start()
            undo.callback(schedule.stop)
        running = _running.setdefault(id(client), [])
        running.append(schedules)
        undo.callback(_forget, client, schedules)
        for provider, schedule in schedules.items():
            target = targets[provider]
            if isinstance(target, Custom):
                _wrap(target, schedule, time_now, undo)
        _divert(client, schedules, undo)
        yield schedules


def _forget(client: Client, schedules: Mapping[str, Faults]) -> None:
    left = [others for others in _running.pop(id(client)) if others is not schedules]
    if left:
        _running[id(client)] = left


def _wrap(target: Custom, faults: Faults, time_now: object, undo: ExitStack) -> None:
    inner = target.inner
    around = AsyncFaultyProvider if target.is_async else FaultyProvider
    wrapped = around(inner, faults)
    wrapped.clock = time_now if isinstance(time_now, ManualClock) else getattr(inner, "clock", None)
    target.inner = wrapped
    undo.callback(setattr, target, "inner", inner)


def _divert(client: Client, schedules: Mapping[str, Faults], undo: ExitStack) -> None:
    if isinstance(client, AsyncResilientClient):
        undo.enter_context(client.seam.around(partial(AsyncFaultyEngine, schedules)))
    else:
        undo.enter_context(client.seam.around(partial(FaultyEngine, schedules)))


# --- time --------------------------------------------------------------------------------------------------


@contextmanager
def instant(client: Client, clock: ManualClock | None = None) -> Generator[ManualClock]:
    """Inside the ``with`` block, this client's waits take no time: they advance a manual clock, which it gives.

    Backoff, Retry-After, breakers, gates and deadlines follow that clock, and so do the waits and schedules of scripted
    and faulty providers among its providers and what :func:`inject` put into it; ``clock.advance(60)`` lets a minute
    pass.  Attempts are made one after the other: where a rescue would start beside a silent one, that one times out and
    the next one follows.  Do not use the
    client from elsewhere meanwhile, and make a new one for the next test: what it learnt in a future that did not come
    stays learnt.
    """
    pool = client.pool
    now = ManualClock(pool.clock()) if clock is None else clock
    offset = time.time() - now()
    with ExitStack() as undo:
        undo.enter_context(pool.timed_by(Time(now, lambda: now() + offset, now.sleep)))
        undo.enter_context(_one_after_the_other(pool.pool))
        for schedules in _running.get(id(client), ()):
            for schedule in schedules.values():
                undo.callback(schedule.follow(now))
        for target in pool.pool.targets():
            if isinstance(target, Custom):
                _set_clock(target.inner, now, undo)
        yield now


@contextmanager
def _one_after_the_other(pool: Pool[Target]) -> Generator[None]:
    """Inside, an attempt lasts until its rescue is due, as nothing can run beside it: the rescue is what follows."""
    acquire, before = pool.acquire, vars(pool).get("acquire")

    def shortened(ask: Ask, past: Past, now: float) -> Attempt[Target] | Refused:
        found = acquire(ask, past, now)
        if isinstance(found, Attempt) and found.rescue_after:
            found.timeout = min(found.timeout, found.rescue_after)
        return found

    setattr(pool, "acquire", shortened)  # noqa: B010 - of this pool alone
    try:
        yield
    finally:
        vars(pool).pop("acquire")
        if before is not None:  # inside another such block
            setattr(pool, "acquire", before)  # noqa: B010


def _set_clock(provider: object, clock: ManualClock, undo: ExitStack) -> None:
    if hasattr(provider, "clock"):
        undo.callback(setattr, provider, "clock", getattr(provider, "clock"))  # noqa: B009
        setattr(provider, "clock", clock)  # noqa: B010
    faults = getattr(provider, "faults", None)
    if isinstance(faults, Faults):
        undo.callback(faults.follow(clock))
    inner = getattr(provider, "provider", None)
    if inner is not None:
        _set_clock(inner, clock, undo)
