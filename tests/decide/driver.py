"""A driver in virtual time: runs any number of calls against providers that are functions, and wakes who waits."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable
from itertools import count
from typing import Any, NamedTuple, TypeAlias

from resilient_llm.decide.attempt import Ask, Attempt
from resilient_llm.decide.call import Call, Wait
from resilient_llm.decide.line import Place
from resilient_llm.decide.pool import Pool
from resilient_llm.errors import Fault, FaultKind, ResilientError
from resilient_llm.policy import Policies
from tests.decide.world import Provider, Target, build

SILENT = Fault(FaultKind.TIMEOUT, message="no sign of life")
FAILS = Fault(FaultKind.SERVER_ERROR, status=500)
DOWN = Fault(FaultKind.SERVER_ERROR, status=503)


class Act(NamedTuple):
    """What a provider does with a request: it ends after ``seconds`` (``None``: never) with ``fault`` (``None``: an
    answer); a stream's first content comes after ``first`` seconds, if it is not ``None``."""

    seconds: float | None = 0.2
    fault: Fault | None = None
    first: float | None = None


ANSWER = Act()
HANG = Act(None)

Behaviour: TypeAlias = Callable[[float, Attempt[Target]], Act]
"""What a provider does with an attempt that begins at a time."""


class Run:
    """One call on its way; ``end`` is ``answered`` or the error it ended with."""

    def __init__(self, driver: Driver, ask: Ask) -> None:
        self.driver = driver
        self.call: Call[Target] = Call(driver.pool, ask, driver.now)
        self.began = driver.now
        self.ended = -1.0
        self.end: str | ResilientError | None = None
        self.by: str | None = None
        self.running: list[Attempt[Target]] = []
        self.place: Place | None = None
        self.turn = 0
        self.owner: object = None
        self.spoke: dict[Attempt[Target], float] = {}

    @property
    def answered(self) -> bool:
        return self.end == "answered"

    @property
    def took(self) -> float:
        return self.ended - self.began

    def go_on(self, turn: int) -> None:
        """Ask what to do, unless that was done since the timer was set."""
        if self.end is not None or turn != self.turn:
            return
        self.turn += 1
        try:
            step = self.call.next_attempt(self.driver.now)
        except ResilientError as error:
            self.end, self.ended = error, self.driver.now
            return
        if isinstance(step, Attempt):
            self.place = None
            self.launch(step)
            return
        self.driver.waits.append((self.driver.now, step))
        self.driver.at(self.driver.now + step.seconds, self.go_on, self.turn)
        self.wait_at(step)

    def wait_at(self, step: Wait) -> None:
        self.place = place = step.place
        if place is None:
            return
        turn = self.turn
        place.owner = self.owner
        place.wake = lambda: self.driver.at(self.driver.now + self.driver.delay(), self.go_on, turn)
        if place.woken:
            place.wake()

    def give_up(self) -> None:
        """The caller goes away."""
        if self.end is not None:
            return
        self.end, self.ended = "cancelled", self.driver.now
        self.call.stopped_waiting(self.driver.now)
        for attempt in self.running:
            self.call.abandoned(attempt, self.driver.now)
        self.running.clear()

    def launch(self, attempt: Attempt[Target]) -> None:
        driver, now = self.driver, self.driver.now
        driver.requests.append((now, attempt.target.id, attempt))
        self.running.append(attempt)
        act = driver.behaviours[attempt.target.id](now, attempt)
        if act.first is not None:
            driver.at(now + act.first, self.content, attempt)
        if act.seconds is not None:
            driver.at(now + act.seconds, self.answer, attempt, act.fault)
        if attempt.timeout < 1e9:
            driver.at(now + attempt.timeout, self.timed_out, attempt)
        if self.call.deadline < 1e9:
            driver.at(self.call.deadline, self.out_of_time, attempt)
        self.arm(attempt)

    def arm(self, attempt: Attempt[Target]) -> None:
        if attempt.rescue_after is not None:
            due = attempt.started + attempt.rescue_after
            self.driver.at(max(due, self.driver.now), self.rescue, attempt, attempt.rescue_after)

    def rescue(self, attempt: Attempt[Target], asked: float) -> None:
        if attempt not in self.running or self.end is not None or attempt.rescue_after != asked:
            return
        found = self.call.rescue(attempt, self.driver.now)
        if found is not None:
            self.launch(found)
        elif attempt.rescue_after is not None and attempt.rescue_after <= self.driver.now - attempt.started + 1e-9:
            self.driver.spins += 1  # asked again for the same moment: a real driver would never stop
            return
        self.arm(attempt)

    def content(self, attempt: Attempt[Target]) -> None:
        if attempt.released:
            return
        self.call.first_content(attempt, self.driver.now)
        self.spoke[attempt] = self.driver.now
        if self.end is None:
            self.won(attempt)
        else:
            self.call.abandoned(attempt, self.driver.now)

    def won(self, attempt: Attempt[Target]) -> None:
        for other in [one for one in self.running if one is not attempt]:
            self.call.overtaken(other, self.driver.now)
        self.running = [attempt]

    def answer(self, attempt: Attempt[Target], fault: Fault | None) -> None:
        if attempt.released:
            return
        if fault is not None:
            self.failed(attempt, fault)
            return
        self.call.succeeded(attempt, self.driver.now, 50, 200)
        if self.end is None:
            self.won(attempt)
            self.end, self.ended, self.by = "answered", self.driver.now, attempt.target.id

    def failed(self, attempt: Attempt[Target], fault: Fault) -> None:
        self.call.failed(attempt, fault, self.driver.now)
        if self.end is not None or attempt not in self.running:
            return
        self.running.remove(attempt)
        if attempt in self.spoke:  # content was handed over: the stream is broken
            self.end, self.ended = "interrupted", self.driver.now
        elif self.running:
            for other in self.running:
                self.arm(other)
        else:
            self.go_on(self.turn)

    def timed_out(self, attempt: Attempt[Target]) -> None:
        if not attempt.released and attempt.content_at is None and self.driver.now < self.call.deadline:
            self.failed(attempt, SILENT)

    def out_of_time(self, attempt: Attempt[Target]) -> None:
        if attempt.released:
            return
        silence = self.driver.now - self.spoke.get(attempt, self.driver.now)
        self.call.expired(attempt, SILENT, self.driver.now, silence)
        if attempt in self.running:
            self.running.remove(attempt)
            if attempt in self.spoke:
                self.end, self.ended = "interrupted", self.driver.now
            elif not self.running:
                self.go_on(self.turn)


class Driver:
    """Calls, providers and the time.  ``delay`` is how long a woken call takes to run."""

    def __init__(
        self,
        behaviours: dict[str, Behaviour],
        *tiers: Provider | list[Provider],
        seed: int = 0,
        delay: Callable[[], float] = lambda: 0.0,
        **policies: Any,
    ) -> None:
        self.luck = random.Random(seed)
        self.now = 0.0
        self.behaviours = behaviours
        self.delay = delay
        self.pool: Pool[Target] = Pool(
            {"main": build(*(tiers or tuple(behaviours)))}, Policies(**policies), self.luck.random
        )
        self.runs: list[Run] = []
        self.requests: list[tuple[float, str, Attempt[Target]]] = []
        self.waits: list[tuple[float, Wait]] = []
        self.spins = 0
        self._due: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = count()

    def at(self, when: float, what: Callable[..., None], *args: Any) -> None:
        heapq.heappush(self._due, (max(when, self.now), next(self._order), what, args))

    def begin(self, when: float, timeout: float | None = 10.0, **options: Any) -> Run:
        """A call that begins at a time (not before now)."""
        ask = Ask("main", math.inf if timeout is None else when + timeout, **options)
        before, self.now = self.now, when
        run = Run(self, ask)
        self.now = before
        self.runs.append(run)
        self.at(when, run.go_on, 0)
        return run

    def calls(self, rate: float, seconds: float, timeout: float | None = 10.0, **options: Any) -> list[Run]:
        """Calls at a steady rate, run to their ends."""
        begun, start = [], self.now
        for index in range(round(rate * seconds)):
            when = start + index / rate
            self.run(when)
            begun.append(self.begin(when, timeout, **options))
        self.run()
        return begun

    def run(self, until: float = float("inf")) -> None:
        """Let everything happen that is due until then."""
        while self._due and self._due[0][0] <= until:
            self.now, _, what, args = heapq.heappop(self._due)
            what(*args)
        if until < float("inf"):
            self.now = max(self.now, until)

    def one(self, timeout: float | None = 10.0, **options: Any) -> Run:
        """One call, run to its end."""
        run = self.begin(self.now, timeout, **options)
        self.run()
        return run

    def asked(self, provider: str, since: float = 0.0) -> list[float]:
        """When a provider was asked."""
        return [when for when, who, _ in self.requests if who == provider and when >= since]


# --- behaviours ---


def well(seconds: float = 0.2) -> Behaviour:
    return lambda now, attempt: Act(seconds)


def acts(*script: Act, then: Act = ANSWER) -> Behaviour:
    """One after the other, then for ever the same."""
    left = list(script)
    return lambda now, attempt: left.pop(0) if left else then


def down(until: float, since: float = 0.0, fault: Fault = DOWN, then: Act = ANSWER) -> Behaviour:
    """Fails at once between two times."""
    return lambda now, attempt: Act(0.01, fault) if since <= now < until else then


def grey(share: float, luck: random.Random, fault: Fault = FAILS) -> Behaviour:
    """Fails this share of its calls."""
    return lambda now, attempt: Act(0.1, fault) if luck.random() < share else ANSWER
