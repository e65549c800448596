"""A fleet in virtual time: eight processes, each with its own pool, and news that take a round to arrive."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import Any

import pytest

from resilient_llm.errors import Fault, FaultKind
from resilient_llm.operate.news.shared import SharedNews
from resilient_llm.operate.news.store import Found
from tests.decide.driver import Act, Behaviour, Driver, well

EVERY = 0.25
FAILS = Fault(FaultKind.SERVER_ERROR, status=500)
LIMITED = Fault(FaultKind.RATE_LIMITED, status=429, retry_after=5.0)


class Process:
    """A worker: calls at a steady rate, and a round of news every quarter of a second if there is a stream."""

    def __init__(self, number: int, behaviours: dict[str, Behaviour], stream: list[tuple[float, bytes]] | None) -> None:
        self.driver = Driver(behaviours, seed=number)
        self.pool = self.driver.pool
        self.token = f"process-{number}"
        self._stream = stream
        self._read = 0
        owner: Any = self
        self.news = SharedNews(owner, owner, random.Random(number)) if stream is not None else None

    def clock(self) -> float:
        return self.driver.now

    def exchange(self, news: Sequence[bytes]) -> list[Found]:
        """The store, as this process sees it."""
        assert self._stream is not None
        found = [Found(self.driver.now - at, data) for at, data in self._stream[self._read :]]
        self._stream.extend((self.driver.now, data) for data in news)
        self._read += len(found)
        return found


def fleet(
    behaviours: dict[str, Behaviour], *, rate: float, seconds: float, news: bool, dies: bool = False, seed: int = 0
) -> list[Process]:
    stream: list[tuple[float, bytes]] | None = [] if news else None
    processes = [Process(seed + number, behaviours, stream) for number in range(8)]
    due = {process: number / 8 / rate for number, process in enumerate(processes)}
    now = 0.0
    while now < seconds:
        now += EVERY
        if dies and now == 10.0:  # the one that is first to try the provider again is killed
            processes.remove(min(processes, key=lambda one: one.pool.snapshot(now)[0].retry_in or 99.0))
        for process in processes:
            while due[process] < now:
                process.driver.run(due[process])
                process.driver.begin(due[process])
                due[process] += 1 / rate
            process.driver.run(now)
            if process.news is not None:
                process.news.exchange()
    return processes


def outage(until: float, fault: Fault = FAILS) -> dict[str, Behaviour]:
    return {"a": lambda now, attempt: Act(0.05, fault if now < until else None), "b": well(0.05)}


def in_vain(processes: list[Process], until: float) -> int:
    return sum(when < until for process in processes for when in process.driver.asked("a"))


def back(processes: list[Process], since: float) -> float:
    """Seconds until the last process sends its traffic there again."""
    return max(min((when for when in process.driver.asked("a", since)), default=999.0) - since for process in processes)


@pytest.mark.parametrize(("rate", "saved"), [(0.5, 0.4), (2.0, 0.3)])
def test_an_outage_costs_a_fleet_fewer_attempts_and_is_over_no_later(rate: float, saved: float) -> None:
    alone = fleet(outage(30.0), rate=rate, seconds=60.0, news=False)
    together = fleet(outage(30.0), rate=rate, seconds=60.0, news=True)
    assert in_vain(together, 30.0) <= (1.0 - saved) * in_vain(alone, 30.0)
    assert all(run.end in ("answered", None) for process in together for run in process.driver.runs)
    assert back(together, 30.0) <= max(15.0 + 3 / rate, back(alone, 30.0))


def test_the_death_of_the_one_that_tries_first_keeps_nobody_waiting() -> None:
    together = fleet(outage(30.0), rate=2.0, seconds=60.0, news=True, dies=True)
    assert back(together, 30.0) <= 1.25 * 15.0 + 2.0


def test_a_limit_that_one_was_told_saves_the_others_their_refusals() -> None:
    """Each second the account may make two requests; sixteen are wanted."""
    refused = {False: 0, True: 0}
    for news, seed in itertools.product((False, True), (0, 20)):
        made: list[float] = []

        def limited(now: float, attempt: object, made: list[float] = made) -> Act:
            if sum(now - when < 5.0 for when in made) >= 10:
                return Act(0.05, LIMITED)
            made.append(now)
            return Act(0.05)

        processes = fleet({"a": limited, "b": well(0.05)}, rate=2.0, seconds=40.0, news=news, seed=seed)
        refused[news] += sum(len(process.driver.asked("a")) for process in processes) - len(made)
        assert all(run.end in ("answered", None) for process in processes for run in process.driver.runs)
    assert refused[True] <= 0.9 * refused[False], refused


def test_one_process_with_a_bad_network_does_not_keep_the_fleet_from_a_healthy_provider() -> None:
    stream: list[tuple[float, bytes]] = []
    sick = Process(0, outage(99.0), stream)
    well_ones = [Process(number, {"a": well(0.05), "b": well(0.05)}, stream) for number in range(1, 8)]
    now = 0.0
    while now < 60.0:
        now += EVERY
        for process in (sick, *well_ones):
            process.driver.begin(now - EVERY)
            process.driver.run(now)
            assert process.news is not None
            process.news.exchange()
    asked = [len(process.driver.asked("a")) for process in well_ones]
    assert min(asked) > 0.6 * 60.0 / EVERY, "it is believed for fifteen seconds, then found out"
