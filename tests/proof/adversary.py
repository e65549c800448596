"""Someone who means harm: callers who leave at the worst moment, results that come late or twice, clocks that jump.

Everything an adversary does can happen to an application; doing all of it at once, thousands of times a minute, makes
it happen in every combination.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final, final

from resilient_llm.decide.breaker import State
from resilient_llm.decide.call import Call
from resilient_llm.faults import Fault, FaultKind
from resilient_llm.simulate.client import Production, Real
from resilient_llm.simulate.providers import Provider
from resilient_llm.simulate.world import Flight, Session, World
from tests.proof.invariants import Checker
from tests.proof.watched import Watched

_LATE_FAULTS: Final = (
    Fault(FaultKind.SERVER_ERROR, status=500),
    Fault(FaultKind.RATE_LIMITED, retry_after=1.0, status=429),
    Fault(FaultKind.RATE_LIMITED, retry_after=7200.0, status=429),
    Fault(FaultKind.OVERLOADED, status=503, retry_after=2.0),
    Fault(FaultKind.CONFLICT, status=409),
)


@final
class Adversary:
    """Interferes ``rate`` times a second until ``until``."""

    def __init__(self, world: World[Real], client: Production, checker: Checker, seed: int, rate: float) -> None:
        self._world = world
        self._client = client
        self._checker = checker
        self._dice = random.Random(f"adversary {seed}")
        self._rate = rate
        self._until = 0.0
        self._tiers = [list(tier) for tier in client.routes["main"]]
        self._old: list[tuple[Call[Provider] | Watched, Real]] = []
        self._acts: list[tuple[int, Callable[[float], None]]] = [
            (10, self._cancel),
            (6, self._drop),
            (6, self._repeat_itself),
            (3, self._rescue_too_late),
            (4, self._fail_early),
            (1, self._jump),
            (1, self._reconfigure),
            (1, self._operate),
            (1, self._fork),
        ]

    def begin(self, until: float) -> None:
        """Start interfering."""
        self._until = until
        self._next(self._world.clock.now)

    def _next(self, now: float) -> None:
        self._world.clock.at(now + self._dice.expovariate(self._rate), self._act, None)

    def _act(self, now: float, what: object) -> None:
        if now >= self._until:
            self._client.pool.replace({"main": self._tiers}, now)
            for name, member in self._checker.now_members.items():
                if member.drained or member.breaker.state is State.ISOLATED:
                    self._client.pool.operate(name, "restore", now)
                    self._checker.operated(name, "restore")
            self._checker.before(now)
            return
        acts = [act for _, act in self._acts]
        self._dice.choices(acts, [weight for weight, _ in self._acts])[0](now)
        self._next(now)

    def _session(self) -> Session[Real] | None:
        live = [session for session in self._world.live if session.flights]
        return self._dice.choice(live) if live else None

    def _flight(self) -> Flight[Real] | None:
        session = self._session()
        return None if session is None else self._dice.choice(session.flights)

    def _remember(self, session: Session[Real]) -> None:
        for flight in session.flights:
            self._old.append((session.call, flight.attempt))  # type: ignore[arg-type]
        del self._old[:-200]

    def _cancel(self, now: float) -> None:
        """A caller goes away: before the first token, or in the middle of a stream."""
        session = self._session()
        if session is not None:
            self._remember(session)
            self._checker.note(f"{now} adversary cancels")
            self._world.cancel(session, now)
            self._world.end(session, now, False, "Cancelled")

    def _drop(self, now: float) -> None:
        """A caller forgets its stream; the garbage collector finds it, perhaps while the pool's lock is held."""
        session = self._session()
        if session is None:
            return
        self._remember(session)
        self._checker.note(f"{now} adversary drops")
        for flight in session.flights:
            flight.over = True
            if self._dice.random() < 0.5:
                self._checker.drop(flight.attempt)
            else:
                self._client.abandon_later(flight.attempt)
        session.flights.clear()
        self._world.end(session, now, False, "Dropped")

    def _repeat_itself(self, now: float) -> None:
        """A result is reported for an attempt that was released long ago, or reported twice."""
        if not self._old:
            return
        call, attempt = self._dice.choice(self._old)
        if not attempt.released:
            return
        self._checker.note(f"{now} adversary repeats a report on {attempt!r}")
        which = self._dice.randrange(6)
        if which == 0:
            call.succeeded(attempt, now, 100)
        elif which == 1:
            call.failed(attempt, self._dice.choice(_LATE_FAULTS), now)
        elif which == 2:
            call.abandoned(attempt, now)
        elif which == 3:
            call.overtaken(attempt, now)
        elif which == 4:
            call.first_content(attempt, now)
        else:
            self._client.abandon_later(attempt)

    def _rescue_too_late(self, now: float) -> None:
        """A rescue timer fires although the attempt has just spoken: the two raced."""
        flight = self._flight()
        if flight is not None and flight.spoke:
            found = flight.session.call.rescue(flight.attempt, now)
            self._checker.demand(found is None, "S10", "a hedge after the first sign of life")

    def _fail_early(self, now: float) -> None:
        """An attempt fails right now, whatever its fate was to be."""
        flight = self._flight()
        if flight is not None:
            flight.fault = self._dice.choice(_LATE_FAULTS)
            flight.done_at = now
            self._world.interrupt(flight, now)

    def _jump(self, now: float) -> None:
        """The laptop was closed for an hour."""
        if self._dice.random() < 0.1:
            self._checker.note(f"{now} the clock jumps")
            self._world.suspend(3600.0)
            self._until += 3600.0

    def _reconfigure(self, now: float) -> None:
        """A provider is removed, or comes back."""
        pool = self._client.pool
        before = dict(self._checker.now_members)
        everybody = [provider for tier in self._tiers for provider in tier]
        gone = self._dice.choice([None, *everybody]) if len(everybody) > 1 else None
        tiers = [[p for p in tier if p is not gone] for tier in self._tiers]
        self._checker.note(f"{now} reload without {gone.id if gone else 'nobody'}")
        self._checker.read_events()
        pool.replace({"main": tiers}, now)
        for name, member in self._checker.now_members.items():
            self._checker.demand(before.get(name, member) is member, "S17", f"{name} lost its state")

    def _operate(self, now: float) -> None:
        """An operator drains, isolates or restores."""
        pool = self._client.pool
        provider = self._dice.choice(pool.targets())
        self._checker.before(now)
        action = self._dice.choice(("drain", "isolate", "restore", "restore", "restore"))
        pool.operate(provider.id, action, now)
        self._checker.operated(provider.id, action)
        self._checker.before(now)
        self._checker.read_events()

    def _fork(self, now: float) -> None:
        """This process is now a child of the one that began the attempts under way."""
        if self._dice.random() < 0.3:
            self._checker.note(f"{now} fork")
            for session in [*self._world.live]:
                self._remember(session)
                for flight in session.flights:
                    flight.over = True
                self._world.end(session, now, False, "Forked")
            self._checker.forked()
