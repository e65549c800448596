"""The simulated world: callers arrive, a driver asks providers for them, time passes.

The driver does what the real ones do with a call: make the attempt it is told to make, report the first sign of life,
start a rescue when the attempt has been silent for its ``rescue_after``, give it up after its ``timeout``, let the
first to speak win, and never start over once something was handed out.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import Final, Generic, NamedTuple, cast

from resilient_llm.decide.call import Wait
from resilient_llm.errors import CallFailed, Fault, FaultKind
from resilient_llm.simulate.client import A, Client, Question, Talk
from resilient_llm.simulate.providers import Provider, lognormal
from resilient_llm.simulate.scheduler import Scheduler

_TIMED_OUT: Final = Fault(FaultKind.TIMEOUT)
_IDLE: Final = 30.0
"""Seconds a stream may pause."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What callers ask for.

    ``rate`` is calls a second (``even``: at equal distances, else Poisson); ``trace`` replaces it by (seconds, prompt
    tokens, output tokens).  Lengths are lognormal around these medians.  Each minute brings as many new
    ``conversations`` (0: every call stands alone)."""

    rate: float = 1.0
    even: bool = False
    trace: Sequence[tuple[float, int, int]] | None = None
    streaming: float = 1.0
    prompt: int = 1000
    prompt_sigma: float = 0.7
    output: int = 130
    output_sigma: float = 0.66
    deadline: float = 120.0
    conversations: int = 0
    unrepeatable: float = 0.0


class Ended(NamedTuple):
    """A call that is over.  ``first`` is seconds to the first token handed out (``inf``: none), ``why`` the error."""

    started: float
    ended: float
    first: float
    ok: bool
    attempts: int
    why: str
    client: int


class Flight(Generic[A]):
    """An attempt on its way."""

    __slots__ = (
        "attempt",
        "done_at",
        "fault",
        "life_at",
        "over",
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
        self.life_at: float = inf
        self.done_at: float = inf
        self.rescue_at: float = inf
        self.timeout_at: float = inf
        self.fault: Fault | None = None
        self.tokens: int = 0

    def silence(self, now: float) -> float:
        """Seconds of the longest silence of its stream so far."""
        if not self.spoke:
            return 0.0
        so_far = now - self.life_at
        return so_far if self.done_at == inf else min(so_far, (self.done_at - self.life_at) / max(1, self.tokens))


class Session(Generic[A]):
    """A caller with a question."""

    __slots__ = ("attempts", "call", "client", "deadline", "first", "flights", "over", "question", "started")

    def __init__(self, call: Talk[A], question: Question, client: int, now: float) -> None:
        self.call: Talk[A] = call
        self.question: Question = question
        self.client: int = client
        self.started: float = now
        self.deadline: float = now + question.deadline
        self.flights: list[Flight[A]] = []
        self.attempts: int = 0
        self.first: float = inf
        self.over: bool = False


class World(Generic[A]):
    """Clients, providers and time.  Everything random comes from ``seed``: the same seed gives the same run, byte for
    byte (:meth:`transcript`)."""

    def __init__(
        self,
        clients: Sequence[Client[A]],
        load: Load,
        seed: int = 0,
        *,
        shuffle: bool = False,
        log: bool = False,
        late: float = 0.0,
        start: float = 0.0,
    ) -> None:
        self.clients = clients
        self.load = load
        self.dice: random.Random = random.Random(seed)
        self.clock: Scheduler = Scheduler(start, random.Random(seed + 1) if shuffle else None)
        self.ended: list[Ended] = []
        self.arrivals: int = 0
        self.asked: dict[str, list[float]] = {}
        """When each provider was asked."""
        self.live: dict[Session[A], None] = {}
        self.log: list[tuple[object, ...]] | None = [] if log else None
        self._late = late
        self._trace: Iterator[tuple[float, int, int]] = iter(load.trace or ())
        self._origin = start
        self._stop = inf

    def run(self, seconds: float, *, settle: float = 700.0) -> World[A]:
        """Let callers arrive for this long, then let the last of them finish."""
        self._stop = self._origin + seconds
        self._schedule_arrival(self._origin)
        while self.clock.now < self._stop:  # a suspended machine stops later
            self.clock.run(self._stop)
        self.clock.drain(self._stop + settle)
        return self

    def transcript(self) -> bytes:
        """Everything that happened, in order."""
        return "\n".join(" ".join(map(str, entry)) for entry in self.log or ()).encode()

    # --- callers ---

    def _schedule_arrival(self, now: float) -> None:
        load = self.load
        if load.trace is not None:
            found = next(self._trace, None)
            if found is not None:
                self.clock.at(self._origin + found[0], self._arrive, found)
            return
        if load.rate > 0:
            gap = 1.0 / load.rate if load.even else self.dice.expovariate(load.rate)
            self.clock.at(now + gap, self._arrive, None)

    def _arrive(self, now: float, what: object) -> None:
        if now >= self._stop:
            return
        self._schedule_arrival(now)
        dice, load = self.dice, self.load
        if isinstance(what, tuple):
            _, prompt, output = cast("tuple[float, int, int]", what)
        else:
            prompt = lognormal(dice, load.prompt, load.prompt_sigma, 100_000)
            output = lognormal(dice, load.output, load.output_sigma, 4096)
        talk = f"{now // 60:.0f}-{int(dice.random() * load.conversations)}" if load.conversations else None
        streaming = load.streaming >= 1.0 or dice.random() < load.streaming
        repeatable = not load.unrepeatable or dice.random() >= load.unrepeatable
        question = Question(streaming, prompt, output, load.deadline, talk, repeatable)
        self.arrivals += 1
        index = 0 if len(self.clients) == 1 else int(dice.random() * len(self.clients))
        session = Session(self.clients[index].call(question, now), question, index, now)
        self.live[session] = None
        self.go_on(now, session)

    # --- the driver ---

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
        if isinstance(step, Wait):
            self.clock.at(now + step.seconds, self.go_on, session)
            if self.log is not None:
                self.log.append((now, "wait", session.client, step.reason, step.seconds))
            return
        self.launch(session, step, now)

    def launch(self, session: Session[A], attempt: A, now: float) -> None:
        """Send an attempt on its way."""
        provider, question = attempt.target, session.question
        flight = Flight(session, attempt, now)
        fate = provider.serve(now, question.prompt, question.output, question.streaming, self.dice)
        flight.life_at = now + fate.first
        flight.done_at = now + fate.done
        flight.fault, flight.tokens = fate.fault, fate.tokens
        flight.timeout_at = now + attempt.timeout
        if attempt.rescue_after is not None:
            flight.rescue_at = now + attempt.rescue_after
        session.attempts += 1
        session.flights.append(flight)
        asked = self.asked.get(provider.id)
        if asked is None:
            asked = self.asked[provider.id] = []
        asked.append(now)
        if self.log is not None:
            self.log.append((now, "attempt", session.client, provider.id, attempt.kind))
        self._plan(flight)

    def _plan(self, flight: Flight[A]) -> None:
        """Schedule the next thing that happens to an attempt."""
        if flight.spoke:
            when, act = flight.done_at, self._finish
            idle = flight.life_at + _IDLE
            if when == inf and idle < when:
                when, act = idle, self._stalled
            deadline = flight.session.deadline
            if deadline < when:
                when, act = deadline, self._out_of_time
        else:
            when, act = flight.life_at, self._speak
            if flight.done_at < when:
                when, act = flight.done_at, self._finish
            if flight.rescue_at < when:
                when, act = flight.rescue_at, self._rescue
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
        session.call.first_content(flight.attempt, now)
        if self.log is not None:
            self.log.append((now, "first", session.client, flight.attempt.target.id))
        session.first = now - session.started
        if len(session.flights) > 1:
            self._overtake(flight, now)
        self._plan(flight)

    def _overtake(self, winner: Flight[A], now: float) -> None:
        session = winner.session
        for other in session.flights:
            if other is not winner:
                other.over = True
                session.call.overtaken(other.attempt, now)
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
        if len(session.flights) > 1:
            self._overtake(flight, now)
        session.call.succeeded(flight.attempt, now, flight.tokens)
        provider = flight.attempt.target
        if provider.nature.tells_headroom:
            headroom = provider.headroom(now)
            if headroom is not None:
                self.clients[session.client].learn(flight.attempt, headroom, now)
        session.flights.clear()
        if session.first == inf:
            session.first = now - session.started
        self.end(session, now, True, "")

    def _fail(self, flight: Flight[A], fault: Fault, now: float) -> None:
        session = flight.session
        flight.over = True
        session.flights.remove(flight)
        session.call.failed(flight.attempt, fault, now)
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
        if now >= flight.session.deadline - 1e-6:
            self._out_of_time(now, flight)
        else:
            self._fail(flight, _TIMED_OUT, now)

    def _out_of_time(self, now: float, what: object) -> None:
        flight: Flight[A] = what  # type: ignore[assignment]
        if flight.over:
            return
        session = flight.session
        for other in session.flights:
            other.over = True
            other.attempt.silence = other.silence(now)
            session.call.expired(other.attempt, _TIMED_OUT, now)
        session.flights.clear()
        self.end(session, now, False, "DeadlineExceeded")

    def _rescue(self, now: float, what: object) -> None:
        flight: Flight[A] = what  # type: ignore[assignment]
        if flight.over:
            return
        attempt, asked_at = flight.attempt, flight.rescue_at
        flight.rescue_at = inf
        found = flight.session.call.rescue(attempt, now)
        if found is not None:
            self.launch(flight.session, found, now)
        elif attempt.rescue_after is not None:
            later = flight.started + attempt.rescue_after
            flight.rescue_at = later if later > asked_at else inf
        self._plan(flight)

    def interrupt(self, flight: Flight[A], now: float) -> None:
        """An attempt ends here and now."""
        self.clock.at(now, self._finish, flight)

    def suspend(self, seconds: float) -> None:
        """The machine sleeps; nobody arrives meanwhile."""
        self.clock.jump(seconds)
        self._stop += seconds

    # --- callers who leave ---

    def cancel(self, session: Session[A], now: float) -> None:
        """Give up everything under way for a caller."""
        for flight in session.flights:
            flight.over = True
            session.call.abandoned(flight.attempt, now)
        session.flights.clear()

    def drop(self, session: Session[A]) -> None:
        """A caller lost interest without saying so; finalisers find out."""
        for flight in session.flights:
            flight.over = True
            self.clients[session.client].abandon_later(flight.attempt)
        session.flights.clear()

    def end(self, session: Session[A], now: float, ok: bool, why: str) -> None:
        """A caller has an answer or an error."""
        if session.over:
            return
        session.over = True
        self.live.pop(session, None)
        self.ended.append(Ended(session.started, now, session.first, ok, session.attempts, why, session.client))
        if self.log is not None:
            self.log.append((now, "answered" if ok else "unanswered", session.client, why, session.attempts))


def providers_of(layout: Iterable[Iterable[Provider]]) -> list[Provider]:
    """Every provider of a layout, the preferred ones first."""
    return [provider for tier in layout for provider in tier]
