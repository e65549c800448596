"""Detectors of change on labelled traces: the library's, its breaker's statistics, and scikit-learn's IsolationForest.

``python -m benchmarks.anomalies [--quick] [--incidents FILE.csv]``

Synthetic traces have an attempt a second: log-normal latencies (sigma 0.4) whose level follows the hour of the day by
a fifth and a slow random load, and half a percent of errors.  A fault begins at a known second.  Traces of incidents
take start and length from the public status pages of vendors (``provider,start_utc,minutes,impact``); a minor one is
read as 10 % of attempts failing and half as long again, a major one as 50 % and twice, a critical one as all of them.
"""

from __future__ import annotations

import argparse
import csv
import math
import random
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from resilient_llm.decide.breaker import Breaker, Cause, State
from resilient_llm.decide.outcome import Outcome
from resilient_llm.decide.slowness import Slowness
from resilient_llm.operate.anomalies.detectors import Failures, Slowdown
from resilient_llm.policy import Breaker as BreakerPolicy

DAY = 86400


@dataclass(frozen=True, slots=True)
class Sample:
    """One attempt, a second after the one before."""

    seconds: float
    failed: bool


class Detector(Protocol):
    """``add`` takes a sample and says whether something is wrong."""

    def add(self, sample: Sample) -> bool: ...


class Ours:
    """The library's anomaly detectors."""

    def __init__(self) -> None:
        self.slow, self.failing = Slowdown(), Failures()

    def add(self, sample: Sample) -> bool:
        self.failing.add(failed=sample.failed)
        if not sample.failed:
            self.slow.add(sample.seconds)
        return self.slow.raised or self.failing.raised


class TheBreakers:
    """The breaker and its statistics of latency: what moves traffic.  Trials follow as in a client that asks on."""

    def __init__(self) -> None:
        self.slowness, self.breaker, self.now = Slowness(), Breaker(BreakerPolicy()), 0.0

    def add(self, sample: Sample) -> bool:
        self.now += 1.0
        if sample.failed:
            self.breaker.failed(self.now, Outcome.HARD, 0.5)
        else:
            self.breaker.succeeded(self.now)
            self.slowness.spoke(sample.seconds, 1.0, 0.0, self.now + sample.seconds, calm=True)
            if self.slowness.slow:
                self.breaker.suspected(Cause.SLOW, self.now, 0.5)
        return self.breaker.state is not State.CLOSED


class Forest:
    """IsolationForest on windows of 32 samples: mean and spread of the logarithm, the largest, the share of errors.

    Trained on the first two hours; whatever is stranger than the strangest window there is an anomaly.  A window counts
    at its last sample, every eighth sample.
    """

    WINDOW, STEP, TRAINING = 32, 8, 7200

    def __init__(self, seed: int = 0) -> None:
        from sklearn.ensemble import IsolationForest

        self.forest = IsolationForest(n_estimators=100, random_state=seed)
        self.window: list[Sample] = []
        self.rows: list[list[float]] = []
        self.count, self.floor, self.wrong = 0, -math.inf, False

    def features(self) -> list[float]:
        values = [math.log(one.seconds) for one in self.window if not one.failed] or [3.0]
        failed = sum(one.failed for one in self.window) / len(self.window)
        return [statistics.fmean(values), statistics.pstdev(values), max(values), failed]

    def add(self, sample: Sample) -> bool:
        self.window = [*self.window[-self.WINDOW + 1 :], sample]
        self.count += 1
        if self.count % self.STEP or len(self.window) < self.WINDOW:
            return self.wrong
        if self.count <= self.TRAINING:
            self.rows.append(self.features())
            if self.count == self.TRAINING:
                self.forest.fit(self.rows)
                self.floor = min(self.forest.score_samples(self.rows))
            return False
        self.wrong = bool(self.forest.score_samples([self.features()])[0] < self.floor)
        return self.wrong


DETECTORS: dict[str, Callable[[], Detector]] = {"anomalies": Ours, "breaker": TheBreakers, "forest": Forest}

# --- traces ---


@dataclass(frozen=True, slots=True)
class Fault:
    """From second ``begin`` on for ``length`` seconds: latencies ``factor`` times, ``errors`` of attempts failing."""

    name: str
    begin: int
    length: int
    factor: float = 1.0
    errors: float = 0.005


def trace(seed: int, seconds: int, *faults: Fault) -> Iterator[Sample]:
    """Attempts of a day that begins at night."""
    draw = random.Random(seed)
    load = 0.0
    for at in range(seconds):
        load += 0.001 * (-load) + 0.004 * draw.gauss(0.0, 1.0)
        level = math.log(0.8) + 0.2 * math.sin(2 * math.pi * at / DAY) + load
        errors = 0.005
        for fault in faults:
            if fault.begin <= at < fault.begin + fault.length:
                level, errors = level + math.log(fault.factor), fault.errors
        yield Sample(math.exp(level + 0.4 * draw.gauss(0.0, 1.0)), draw.random() < errors)


KINDS = (
    Fault("half as slow again", 0, 0, factor=1.5),
    Fault("twice as slow", 0, 0, factor=2.0),
    Fault("four times as slow", 0, 0, factor=4.0),
    Fault("5 % errors", 0, 0, errors=0.05),
    Fault("10 % errors", 0, 0, errors=0.1),
    Fault("30 % errors", 0, 0, errors=0.3),
    Fault("all fail", 0, 0, errors=1.0),
)
IMPACTS = {"minor": (1.5, 0.1), "major": (2.0, 0.5), "critical": (1.0, 1.0)}


def incidents(file: Path, most: int) -> list[Fault]:
    """Incidents of at least ten minutes, evenly chosen."""
    with file.open(newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["impact"] in IMPACTS and int(row["minutes"]) >= 10]
    chosen = rows[:: max(1, len(rows) // most)][:most]
    return [Fault(row["impact"], 0, 60 * min(int(row["minutes"]), 60), *IMPACTS[row["impact"]]) for row in chosen]


# --- measuring ---


def delay(made: Callable[[], Detector], seed: int, fault: Fault, before: int, most: int) -> float:
    """Samples from the beginning of a fault to its detection; ``inf`` if it is not detected."""
    detector = made()
    at = Fault(fault.name, before, most, fault.factor, fault.errors)
    for number, sample in enumerate(trace(seed, before + most, at)):
        if detector.add(sample) and number >= before:
            return number - before + 1
    return math.inf


def false_alarms(made: Callable[[], Detector], seed: int, seconds: int) -> tuple[float, float]:
    """Alarms a day where nothing is wrong, and the microseconds of CPU per sample."""
    detector, alarms, before = made(), 0, False
    samples = list(trace(seed, seconds))
    started = time.process_time()
    for sample in samples:
        now = detector.add(sample)
        alarms += now and not before
        before = now
    took = time.process_time() - started
    return alarms * DAY / seconds, took / seconds * 1e6


def cell(delays: Iterable[float]) -> str:
    """The median, and the share that was found if not all were."""
    values = sorted(delays)
    found = [value for value in values if value < math.inf]
    if not found:
        return "never"
    share = "" if len(found) == len(values) else f" ({len(found) / len(values):.0%})"
    return f"{statistics.median(found):.0f}{share}"


def measure(quick: bool, file: Path | None) -> list[tuple[str, list[str]]]:
    """The table's rows: what, and a cell per detector."""
    seeds, before, most = (3, 7300, 1800) if quick else (9, 7300, 3600)
    names = list(DETECTORS)
    rows = [
        (
            fault.name,
            [cell(delay(DETECTORS[name], seed, fault, before, most) for seed in range(seeds)) for name in names],
        )
        for fault in KINDS
    ]
    if file is not None:
        found = incidents(file, 12 if quick else 36)
        for impact in IMPACTS:
            own = [fault for fault in found if fault.name == impact]
            cells = [
                cell(delay(DETECTORS[name], 1000 + seed, fault, before, fault.length) for seed, fault in enumerate(own))
                for name in names
            ]
            rows.append((f"{len(own)} {impact} incidents", cells))
    length = DAY // 4 if quick else DAY
    alarms = {
        name: [false_alarms(DETECTORS[name], 50 + seed, length) for seed in range(1 if quick else 2)] for name in names
    }
    rows.append(("false alarms a day", [f"{statistics.fmean(one[0] for one in alarms[name]):.1f}" for name in names]))
    rows.append(("CPU per sample, us", [f"{statistics.fmean(one[1] for one in alarms[name]):.1f}" for name in names]))
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.anomalies", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer seeds and a shorter day")
    parser.add_argument("--incidents", type=Path, help="a table of incidents: provider,start_utc,minutes,impact")
    given = parser.parse_args()
    print(f"| attempts until it is detected (median) | {' | '.join(DETECTORS)} |")
    print("|---|" + "---:|" * len(DETECTORS))
    for name, cells in measure(given.quick, given.incidents):
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
