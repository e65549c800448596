"""What carries calls out: the simulated counterpart of the library's drivers.

It does with a call what the real ones do: make the attempt it is told to make, report the first sign of life, start a
rescue when the attempt has been silent for its ``rescue_after``, give it up after its ``timeout``, let the first to
speak win, wait until the time is up or somebody wakes it, and never start over once something was handed out.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial
from math import inf
from typing import Final, Generic, NamedTuple, cast

from resilient_llm.decide.call import Wait
from resilient_llm.errors import CallFailed
from resilient_llm.faults import Fault, FaultKind
from resilient_llm.simulate.client import A, Client, Pause, Question, Talk
from resilient_llm.simulate.providers import Provider
from resilient_llm.simulate.scheduler import Scheduler

_TIMED_OUT: Final = Fault(FaultKind.TIMEOUT)
_IDLE: Final = 30.0
"""Seconds a stream may pause."""
_MOST_WAITS: Final = 2000
"""Waits of one call; a driver that is told to wait more often spins."""
_TESTS: Final = frozenset({"trial", "probe", "explore"})
"""Kinds of attempts that test a provider."""


class Spinning(RuntimeError):
    """A call is told to wait again and again, and no time passes."""


class Ended(NamedTuple):
    """A call that is over.

    ``first`` is seconds to the first token handed out (``inf``: none), ``why`` the error, ``hedges`` and ``trials`` the
    attempts that were such.  ``missed``: the preferred provider was well when it began, and was not asked.
    """

    started: float
    ended: float
    first: float
    ok: bool
    attempts: int
    why: str
    client: int
    asked: str = ""
    hedges: int = 0
    trials: int = 0
    missed: bool = False


class Flight(Generic[A]):
    """An attempt on its way."""

    __slots__ = (
        "attempt",
        "done_at",
        "fault",
        "last_at",
        "life_at",
        "losing",
        "over",
        "pause",
        "rescue_at",
        "session",
        "spoke",
        "started",
        "timeout_at",
        "tokens",
    )

    def __init__(self, session: Session[A], attempt: A, now: float) -> None:
        self.session: Session[A] = session
        self.attempt: A = attempt
        self.started: float = now
        self.over: bool = False
        self.spoke: bool = False
        self.losing: bool = False
        """Another attempt of the call has won; this one runs on until its provider is judged."""
        self.life_at: float = inf
        self.last_at: float = inf
        """When its last content comes if it stalls."""
        self.done_at: float = inf
        self.rescue_at: float = inf
        self.timeout_at: float = inf
        self.fault: Fault | None = None
        self.tokens: int = 0
        self.pause: float = 0.0

    def silence(self, now: float) -> float:
        """Seconds since the last content of its stream."""
        if not self.spoke:
            return 0.0
        if self.last_at < inf:
            return max(0.0, now - self.last_at)
        return (now - self.life_at) % self.pause if self.pause else 0.0


class Session(Generic[A]):
    """A caller with a question."""

    __slots__ = (
        "asked",
        "asleep",
        "attempts",
        "call",
        "client",
        "deadline",
        "first",
        "flights",
        "hedges",
        "over",
        "question",
        "started",
        "trials",
        "waits",
        "well",
    )

    def __init__(self, call: Talk[A], question: Question, client: int, now: float) -> None:
        self.call: Talk[A] = call
        self.question: Question = question
        self.client: int = client
        self.started: float = now
        self.deadline: float = now + question.deadline
        self.flights: list[Flight[A]] = []
        self.attempts: int = 0
        self.hedges: int = 0
        self.trials: int = 0
        self.asked: str = ""
        """The providers asked, a letter or a word each, in order."""
        self.well: bool = False
        """Whether the preferred provider was well when it began."""
        self.waits: int = 0
        self.asleep: bool = False
        self.first: float = inf
        self.over: bool = False


class Driver(Generic[A]):
    """Carries out the calls of some clients; ``preferred`` is the provider that is to have the traffic while it is
    well.

    What a provider does at its n-th attempt is drawn from luck of its own, the same whoever asks it.
    """

    def __init__(
        self,
        clients: Sequence[Client[A]],
        seed: int,
        clock: Scheduler,
        *,
        log: bool = False,
        late: float = 0.0,
        preferred: Provider | None = None,
    ) -> None:
        self.clients = clients
        self.clock = clock
        self.dice: random.Random = random.Random(seed)
        self.ended: list[Ended] = []
        self.asked: dict[str, list[float]] = {}
        """When each provider was asked."""
        self.live: dict[Session[A], None] = {}
        self.log: list[tuple[object, ...]] | None = [] if log else None
        self.preferred = preferred
        self._luck: dict[str, random.Random] = {}
        self._seed = seed
        self._late = late

    def transcript(self) -> bytes:
        """Everything that happened, in order."""
        return "\n".join(" ".join(map(str, entry)) for entry in self.log or ()).encode()

    def begin(self, question: Question, client: int, now: float) -> None:
        """A caller arrives at one of the clients."""
        session = Session(self.clients[client].call(question, now), question, client, now)
        session.well = self.preferred is not None and self.preferred.well(now)
        self.live[session] = None
        self.go_on(now, session)

    def go_on(self, now: float, what: object) -> None:
        """Ask the call what to do next, and do it."""
        session: Session[A] = what  # type: ignore[assignment]
        if session.over:
            return
        try:
            step = session.call.next_attempt(now)
        except CallFailed as error:
            self.end(session, now, False, type(error).__name__)
            return
        if isinstance(step, Wait | Pause):
            self._wait(session, step, now)
        else:
            self.launch(session, step, now)

    def _wait(self, session: Session[A], step: Wait | Pause, now: float) -> None:
        """Sleep until the time is up or somebody wakes the call."""
        session.waits += 1
        session.asleep = True
        if session.waits > _MOST_WAITS:
            raise Spinning(f"{session.call!r} at {now} s was told to wait {session.waits} times: {step!r}")
        ticket = (session, session.waits)
        place = getattr(step, "place", None)
        if place is not None:
            place.owner = session.client
            place.wake = partial(self._wake, ticket)
            if place.woken:
                self._wake(ticket)
        if step.seconds < inf:
            self.clock.at(now + step.seconds, self._resume, ticket)
        if self.log is not None:
            self.log.append((now, "wait", session.client, step.reason, step.seconds))

    def _wake(self, ticket: tuple[Session[A], int]) -> None:
        self.clock.at(self.clock.now, self._resume, ticket)

    def _resume(self, now: float, what: object) -> None:
        session, number = cast("tuple[Session[A], int]", what)
        if session.asleep and session.waits == number:
            session.asleep = False
            self.go_on(now, session)

    def launch(self, session: Session[A], attempt: A, now: float) -> None:
        """Send an attempt on its way."""
        provider = attempt.target
        flight = Flight(session, attempt, now)
        self._serve(flight, now, now)
        flight.timeout_at = now + attempt.timeout
        session.attempts += 1
        session.hedges += attempt.kind == "hedge"
        session.trials += attempt.kind in _TESTS
        session.asked += provider.id
        session.flights.append(flight)
        asked = self.asked.get(provider.id)
        if asked is None:
            asked = self.asked[provider.id] = []
        asked.append(now)
        if self.log is not None:
            self.log.append((now, "attempt", session.client, provider.id, attempt.kind))
        self._plan(flight)
        self._arm(flight, now)

    def _arm(self, flight: Flight[A], now: float) -> None:
        """Set the timer of a rescue, where the attempt is still silent by then."""
        after = flight.attempt.rescue_after
        if after is None:
            return
        due = max(now, flight.started + after)
        if due < min(flight.life_at, flight.done_at, flight.timeout_at):
            flight.rescue_at = due
            self.clock.at(due, self._rescue, flight)

    def _serve(self, flight: Flight[A], now: float, begun: float) -> None:
        """Let the provider decide what becomes of an attempt."""
        provider, question = flight.attempt.target, flight.session.question
        dice = self._luck.get(provider.id)
        if dice is None:
            dice = self._luck[provider.id] = random.Random(f"{provider.id} {self._seed}")
        fresh = getattr(flight.attempt, "fresh", False)
        fate = provider.serve(now, question.prompt, question.output, question.streaming, dice, fresh)
        if fate.stale and self.clients[flight.session.client].resends:
            fate = provider.serve(now, question.prompt, question.output, question.streaming, dice, True)
        flight.life_at, flight.done_at, flight.last_at = begun + fate.first, begun + fate.done, begun + fate.last
        flight.fault, flight.tokens, flight.pause = fate.fault, fate.tokens, fate.pause

    def _plan(self, flight: Flight[A]) -> None:
        """Schedule the next thing that happens to an attempt."""
        if flight.spoke:
            when, act = flight.done_at, self._finish
            idle = min(flight.last_at, flight.life_at) + _IDLE
            if when == inf and idle < when:
                when, act = idle, self._stalled
            deadline = flight.session.deadline
            if deadline < when:
                when, act = deadline, self._out_of_time
        else:
            when, act = flight.life_at, self._speak
            if flight.done_at < when:
                when, act = flight.done_at, self._finish
            if flight.timeout_at < when:
                when, act = flight.timeout_at, self._time_out
        if when == inf:
            return
        if self._late and self.dice.random() < self._late:
            when += self.dice.expovariate(0.2)
        self.clock.at(when, act, flight)

    def _speak(self, now: float, what: object) -> None:
        """The first token of a stream."""
        flight: Flight[A] = what  # type: ignore[assignment]
        if flight.over:
            return
        session = flight.session
        flight.spoke = True
        flight.life_at = now
        self._learn(flight, now)
        session.call.first_content(flight.attempt, now)
        flight.attempt.quiet_since = min(flight.last_at, flight.done_at)
        if flight.losing:
            flight.over = True
            session.call.abandoned(flight.attempt, now)
            return
        if self.log is not None:
            self.log.append((now, "first", session.client, flight.attempt.target.id))
        session.first = now - session.started
        if len(session.flights) > 1:
            self._overtake(flight, now)
        self._plan(flight)

    def _learn(self, flight: Flight[A], now: float) -> None:
        """The headers of an answer."""
        headroom = flight.attempt.target.headroom(now)
        if headroom is not None:
            self.clients[flight.session.client].learn(flight.attempt, headroom, now)

    def _overtake(self, winner: Flight[A], now: float) -> None:
        session = winner.session
        for other in session.flights:
            if other is not winner:
                other.losing = session.call.overtaken(other.attempt, now)
                other.over = not other.losing
        session.flights = [winner]

    def _finish(self, now: float, what: object) -> None:
        """An attempt has ended by itself."""
        flight: Flight[A] = what  # type: ignore[assignment]
        if flight.over:
            return
        if flight.fault is not None:
            self._fail(flight, flight.fault, now)
            return
        session = flight.session
        flight.over = True
        if len(session.flights) > 1 and not flight.losing:
            self._overtake(flight, now)
        if not flight.spoke:
            self._learn(flight, now)
        elif flight.pause:
            session.call.paused(flight.attempt, flight.pause)
        session.call.succeeded(flight.attempt, now, flight.tokens)
        if flight.losing:
            return
        session.flights.clear()
        if session.first == inf:
            session.first = now - session.started
        self.end(session, now, True, "")

    def _fail(self, flight: Flight[A], fault: Fault, now: float) -> None:
        session = flight.session
        flight.over = True
        if flight.spoke and flight.pause:
            session.call.paused(flight.attempt, flight.pause)
        session.call.failed(flight.attempt, fault, now)
        if flight.losing:
            return
        session.flights.remove(flight)
        for other in session.flights:  # the rescue beside it failed: another one may follow
            if not other.spoke:
                self._arm(other, now)
        if self.log is not None:
            self.log.append((now, "failed", session.client, flight.attempt.target.id, fault.kind))
        if flight.spoke:
            self.end(session, now, False, "StreamInterrupted")
        elif not session.flights:
            self.go_on(now, session)

    def _stalled(self, now: float, what: object) -> None:
        flight: Flight[A] = what  # type: ignore[assignment]
        if not flight.over:
            self._fail(flight, _TIMED_OUT, now)

    def _time_out(self, now: float, what: object) -> None:
        """No sign of life within the attempt's timeout; if the call's own deadline cut it short, nobody is to blame."""
        flight: Flight[A] = what  # type: ignore[assignment]
        if flight.over:
            return
        if flight.timeout_at >= flight.session.deadline - 1e-6:
            self._out_of_time(now, flight)
        else:
            self._fail(flight, _TIMED_OUT, now)

    def _out_of_time(self, now: float, what: object) -> None:
        flight: Flight[A] = what  # type: ignore[assignment]
        if flight.over:
            return
        session = flight.session
        for other in [flight] if flight.losing else session.flights:
            other.over = True
            if other.spoke and other.pause:
                session.call.paused(other.attempt, other.pause)
            session.call.expired(other.attempt, _TIMED_OUT, now, other.silence(now))
        if not flight.losing:
            session.flights.clear()
            self.end(session, now, False, "DeadlineExceeded")

    def _rescue(self, now: float, what: object) -> None:
        flight: Flight[A] = what  # type: ignore[assignment]
        if flight.over or flight.spoke or flight.losing or now < flight.rescue_at:
            return
        asked_at, flight.rescue_at = flight.rescue_at, inf
        found = flight.session.call.rescue(flight.attempt, now)
        if found is not None:
            self.launch(flight.session, found, now)
        elif flight.attempt.rescue_after is not None and flight.started + flight.attempt.rescue_after > asked_at:
            self._arm(flight, now)

    def interrupt(self, flight: Flight[A], now: float) -> None:
        """An attempt ends here and now."""
        self.clock.at(now, self._finish, flight)

    def end(self, session: Session[A], now: float, ok: bool, why: str) -> None:
        """A caller has an answer or an error."""
        if session.over:
            return
        session.over = True
        self.live.pop(session, None)
        missed = session.well and self.preferred is not None and self.preferred.id not in session.asked
        self.ended.append(
            Ended(
                session.started,
                now,
                session.first,
                ok,
                session.attempts,
                why,
                session.client,
                session.asked,
                session.hedges,
                session.trials,
                missed,
            )
        )
        if self.log is not None:
            self.log.append((now, "answered" if ok else "unanswered", session.client, why, session.attempts))
