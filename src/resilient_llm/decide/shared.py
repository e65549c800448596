"""The state behind a pool, its configuration, and its operators."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Mapping
from itertools import count
from typing import Generic, TypeVar

from resilient_llm import events
from resilient_llm.decide.ask import Ask
from resilient_llm.decide.attempt import Attempt
from resilient_llm.decide.member import Member, T
from resilient_llm.decide.outcome import Outcome
from resilient_llm.decide.report import health_of, why_not
from resilient_llm.decide.rescue import Rescues
from resilient_llm.decide.routes import Routes, Table
from resilient_llm.decide.verdict import Verdicts
from resilient_llm.decide.waiting import Waiting
from resilient_llm.errors import ConfigurationError
from resilient_llm.health import ProviderHealth
from resilient_llm.policy import Policies

R = TypeVar("R")


class Shared(Generic[T]):
    """What the calls of a pool share, and what people do with it.  All times are monotonic seconds."""

    def __init__(self, routes: Routes[T], policies: Policies, draw: Callable[[], float]) -> None:
        self.policies: Policies = policies
        self.draw = draw
        self.closed = False
        self.listening: bool = False
        """Whether attempt events are recorded too."""
        self._lock = threading.Lock()
        self._abandoned: deque[Attempt[T]] = deque()
        self.numbers: count[int] = count(1)
        """One for each new call: calls are served in this order where they wait."""
        self._table: Table[T] = Table(policies)
        self._table.install(routes)
        self._verdicts: Verdicts[T] = Verdicts(self._table.members, draw)
        self._leases: Rescues[T] = Rescues(self._table, self._verdicts, policies, draw)
        self._waiting: Waiting[T] = Waiting(self._table, policies)

    # --- configuration ---

    def listen(self, on: bool) -> None:
        """Record attempt events too, or not."""
        self.listening = self._verdicts.listening = on

    def replace(self, routes: Routes[T], now: float) -> tuple[str, ...]:
        """Swap the providers.  State is kept for every id that stays; attempts in flight at removed ones end in peace.

        Returns the ids that were removed.  Raises ``ConfigurationError`` and changes nothing if the new routes are
        unusable.
        """
        with self._lock:
            gone = self._table.install(routes)
            self._verdicts.members = self._table.members
            removed = tuple(sorted(member.id for member in gone))
            for provider in removed:
                self._verdicts.events.append(events.OperatorChanged(now, provider, "removed"))
            self._waiting.wake_all(now, *gone, *self._table.members.values())
        self._wake()
        return removed

    def govern(self, policies: Policies) -> None:
        """Go by these policies from now on.  What is known about the providers is kept; a call under way may meet
        both."""
        with self._lock:
            self.policies = self._waiting.policies = policies
            self._table.govern(policies)
            self._leases.govern(policies)

    @property
    def route_names(self) -> tuple[str, ...]:
        """The routes, the default one first."""
        return tuple(self._table.routes)

    def targets(self, route: str | None = None) -> tuple[T, ...]:
        """The providers of a route in order of preference (none if there is no such route); of all routes, each once,
        for ``None``."""
        if route is None:
            return tuple(member.target for member in self._table.members.values())
        return self._table.targets.get(route, ())

    # --- operators ---

    def operate(self, provider: str, action: str, now: float) -> None:
        """``drain`` (no new attempts), ``isolate`` (hold the breaker open), ``restore`` (undo both, open every gate and
        hold nothing against it).

        Raises ``ConfigurationError`` for an id the pool does not have, and for any other action.
        """
        with self._lock:
            member = self._table.members.get(provider)
            if member is None:
                known = ", ".join(self._table.members)
                raise ConfigurationError(f"there is no provider {provider!r}; there are {known}")
            before = member.breaker.state
            member.operate(action, now)
            self._verdicts.changed(member, before, now)
            self._verdicts.events.append(events.OperatorChanged(now, provider, action))
            self._waiting.wake_all(now, *self._table.members.values())  # its account's gate may be theirs too
        self._wake()

    def look(self, into: Callable[[Mapping[str, Member[T]]], R]) -> R:
        """What a quick function finds in the state of all providers by id, or changes there, under the lock."""
        with self._lock:
            return into(self._table.members)

    def serve_all(self, now: float) -> None:
        """Something changed from outside: whoever waits may look again."""
        with self._lock:
            self._serve(now, *self._table.members.values())
        self._wake()

    def in_flight(self, provider: str) -> int:
        """Attempts under way at a provider, open streams included; 0 for an unknown one."""
        member = self._table.members.get(provider)
        return 0 if member is None else member.in_flight

    def explain(self, ask: Ask, now: float) -> list[tuple[T, str | None]]:
        """The providers of the call's route in order, each with why it would not be asked now, or only if nobody better
        can be (``None``: it would)."""
        with self._lock:
            self._settle(now)
            return [(member.target, why_not(ask, member, now)) for member in self._table.order(ask.route)]

    def opens_in(self, ask: Ask, now: float) -> float | None:
        """Seconds until the first provider of the call's route is to be tried again; ``None``: one of them seems well,
        or there is none."""
        with self._lock:
            members = [one for one in self._table.order(ask.route) if one.id not in ask.unsuitable]
            times = [member.well_at(ask, now) for member in members]
            opens = min(times, default=now)
            return opens - now if now < opens < math.inf else None

    def snapshot(self, now: float) -> tuple[ProviderHealth, ...]:
        """Every provider as it stands."""
        with self._lock:
            self._settle(now)
            return health_of(list(self._table.members.values()), now)

    # --- internals ---

    def _release(self, attempt: Attempt[T], outcome: Outcome, now: float) -> None:
        """Give the lease back, exactly once; an attempt of a parent process holds nothing here."""
        if attempt.released:
            return
        member = attempt.member
        member.held.pop(attempt, None)  # first of all and in one step: whatever interrupts the rest, it is free
        attempt.released = True
        if attempt.generation >= member.born:
            if not attempt.heard:
                attempt.heard = True
                attempt.key.pace.heard(attempt.need)
            self._verdicts.ended(attempt, outcome, now)
            if attempt.slow_lease or attempt.opened_account:  # others may share it, even if it was removed itself
                self._serve(now, *self._table.members.values())
            elif member.line.waiting:
                self._waiting.serve(member, now)

    def _hear(self, attempt: Attempt[T]) -> None:
        """It is known whether the provider counts it."""
        attempt.heard = True
        attempt.key.pace.heard(attempt.need)

    def _serve(self, now: float, *members: Member[T]) -> None:
        """Something changed at these providers."""
        for member in members:
            self._waiting.serve(member, now)

    def _settle(self, now: float) -> None:
        """Release what finalisers left behind."""
        while self._abandoned:
            self._release(self._abandoned.popleft(), Outcome.NEUTRAL, now)

    def _wake(self) -> None:
        """Wake those who were offered a place, without the lock."""
        woken = self._waiting.woken
        while woken:
            try:
                place = woken.popleft()
            except IndexError:  # another thread took the last one
                return
            place.wake()
