"""The simulated world: callers arrive, time passes, the machine stands still, callers leave."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import NamedTuple, cast

from resilient_llm.simulate.client import A, Client, Question
from resilient_llm.simulate.driver import Driver, Ended, Flight, Session
from resilient_llm.simulate.providers import Provider, lognormal
from resilient_llm.simulate.scheduler import Scheduler

__all__ = ["Ended", "Flight", "Load", "Session", "Stop", "World"]


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

    def question(self, dice: random.Random, now: float, lengths: tuple[int, int] | None) -> Question:
        """What the next caller wants; ``lengths`` are those of a trace."""
        if lengths is None:
            prompt = lognormal(dice, self.prompt, self.prompt_sigma, 100_000)
            output = lognormal(dice, self.output, self.output_sigma, 4096)
        else:
            prompt, output = lengths
        talk = f"{now // 60:.0f}-{int(dice.random() * self.conversations)}" if self.conversations else None
        streaming = self.streaming >= 1.0 or dice.random() < self.streaming
        repeatable = not self.unrepeatable or dice.random() >= self.unrepeatable
        return Question(streaming, prompt, output, self.deadline, talk, repeatable)


class Stop(NamedTuple):
    """The machine stands still from ``at`` for ``seconds``: an event loop that is kept busy, while callers go on
    arriving (``asleep=False``), or a machine that was suspended, and its callers with it."""

    at: float
    seconds: float
    asleep: bool = False


class World(Driver[A]):
    """Clients, providers and time.  Everything random comes from ``seed``: the same seed gives the same run, byte for
    byte (:meth:`transcript`), and different clients the same callers at the same times."""

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
        preferred: Provider | None = None,
    ) -> None:
        clock = Scheduler(start, random.Random(seed + 1) if shuffle else None)
        super().__init__(clients, seed, clock, log=log, late=late, preferred=preferred)
        self.load = load
        self.arrivals: int = 0
        self._callers = random.Random(f"callers {seed}")
        self._trace: Iterator[tuple[float, int, int]] = iter(load.trace or ())
        self._origin = start
        self._stop = inf
        self._woke = -inf

    def run(self, seconds: float, *, settle: float = 700.0, stops: Iterable[Stop] = ()) -> World[A]:
        """Let callers arrive for this long, then let the last of them finish."""
        self._stop = self._origin + seconds
        for stop in stops:
            self.clock.at(self._origin + stop.at, self._stand_still, stop)
        self._schedule_arrival(self._origin)
        while self.clock.now < self._stop:  # a suspended machine stops later
            self.clock.run(self._stop)
        self.clock.drain(self._stop + settle)
        return self

    # --- callers ---

    def _schedule_arrival(self, now: float) -> None:
        load = self.load
        if load.trace is not None:
            found = next(self._trace, None)
            if found is not None:
                self.clock.at(self._origin + found[0], self._arrive, found)
            return
        if load.rate > 0:
            gap = 1.0 / load.rate if load.even else self._callers.expovariate(load.rate)
            self.clock.at(now + gap, self._arrive, now + gap)

    def _arrive(self, now: float, what: object) -> None:
        due, lengths = now, None
        if isinstance(what, tuple):
            _, prompt, output = cast("tuple[float, int, int]", what)
            lengths = (prompt, output)
        else:
            due = cast("float", what)
            if due < self._woke:
                due = now  # the callers slept too
        if due >= self._stop:
            return
        # Who came while the machine stood still comes when it goes on, but the next one comes in time.
        self._schedule_arrival(due)
        question = self.load.question(self._callers, now, lengths)
        self.arrivals += 1
        index = 0 if len(self.clients) == 1 else int(self._callers.random() * len(self.clients))
        self.begin(question, index, now)

    # --- the machine ---

    def _stand_still(self, now: float, what: object) -> None:
        stop = cast("Stop", what)
        if stop.asleep:
            self.suspend(stop.seconds)
        else:
            self.clock.jump(stop.seconds)

    def suspend(self, seconds: float) -> None:
        """The machine sleeps; nobody arrives meanwhile."""
        self.clock.jump(seconds)
        self._stop += seconds
        self._woke = self.clock.now

    # --- callers who leave ---

    def cancel(self, session: Session[A], now: float) -> None:
        """Give up everything under way for a caller."""
        if session.asleep:
            session.asleep = False
            session.call.stopped_waiting(now)
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
