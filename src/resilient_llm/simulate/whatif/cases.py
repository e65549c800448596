"""What is lived through: an incident, a fault schedule, a year; with whose callers.

A case is one or more windows of time.  A year is only simulated where something is wrong; one calm stretch stands for
the rest.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from typing import Final, NamedTuple

from resilient_llm.errors import ConfigurationError
from resilient_llm.providers import HttpProvider
from resilient_llm.simulate.providers import Nature, Provider, Trouble
from resilient_llm.simulate.schedule import Schedule
from resilient_llm.simulate.whatif.incidents import Incident
from resilient_llm.simulate.whatif.setup import Setup
from resilient_llm.simulate.whatif.weather import YEAR, YEAR_SOURCE, speed, year
from resilient_llm.simulate.world import Load

BEFORE: Final = 600.0
AFTER: Final = 1200.0
"""Seconds of usual traffic before and after what happens."""
_CALM_CALLS: Final = 3000.0
"""Calls of the calm stretch that stands for the rest of a year, which lasts between an hour and two days."""

Trace = Sequence[tuple[float, int, int]]
"""Arrivals: seconds from the start, prompt tokens, output tokens."""


@dataclass(frozen=True, slots=True)
class Callers:
    """Who asks: ``rate`` calls a second at random, or a recorded ``trace``, repeated where it is shorter than what
    happens.  ``deadline``: seconds for a call, ``None``: as the settings say.  A share ``streaming`` streams."""

    rate: float = 1.0
    trace: Trace | None = None
    deadline: float | None = None
    streaming: float = 1.0

    def load(self, seconds: float, deadline: float) -> Load:
        """For a window of so many seconds."""
        deadline = self.deadline or deadline
        if self.trace is None:
            return Load(rate=self.rate, deadline=deadline, streaming=self.streaming)
        repeated = tuple(_repeated(self.trace, seconds))
        return Load(trace=repeated, deadline=deadline, streaming=self.streaming)

    @property
    def told(self) -> str:
        """In words."""
        if self.trace is None:
            return f"{self.rate:g} calls a second at random"
        return f"a trace of {len(self.trace):,} calls, repeated as needed"


def _repeated(trace: Trace, seconds: float) -> Iterator[tuple[float, int, int]]:
    last = trace[-1][0]
    length = last + max(1e-3, last / max(1, len(trace) - 1))
    turn = 0.0
    while turn < seconds:
        for at, prompt, output in trace:
            if turn + at >= seconds:
                return
            yield turn + at, prompt, output
        turn += length


class Window(NamedTuple):
    """A stretch of time: how long, when something is wrong (from, to), and how often it counts."""

    begin: float
    seconds: float
    hurt: tuple[float, float]
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Case:
    """What happens, to whom, when, and where that is known from.

    ``seconds`` is all of it, ``lasts`` for how long of it something is wrong.  ``troubles`` are those of each provider
    of the settings, by id, over the whole case; ``nature`` replaces what is usual of a vendor.
    """

    name: str
    title: str
    seconds: float
    lasts: float
    windows: tuple[Window, ...]
    troubles: dict[str, tuple[Trouble, ...]]
    load: Callers
    notes: tuple[str, ...] = ()
    source: str = ""
    nature: Nature | None = None

    def provider(self, real: HttpProvider, window: Window) -> Provider:
        """The model of a provider of the settings, fresh, with what is wrong with it in a window."""
        inside = [
            trouble._replace(start=trouble.start - window.begin, end=trouble.end - window.begin)
            for trouble in self.troubles.get(real.id, ())
            if trouble.start < window.begin + window.seconds and trouble.end > window.begin
        ]
        made = Provider(
            real.id,
            self.nature or speed(real.vendor),
            inside,
            weight=real.weight,
            max_concurrency=real.max_concurrency,
            account=real.account,
        )
        made.context_window = real.context_window
        made.cache_seconds = real.cache_seconds
        return made

    @property
    def is_long(self) -> bool:
        """Whether it is so long that only parts of it are simulated."""
        return self.seconds >= YEAR

    @property
    def touched(self) -> bool:
        """Whether anything is wrong with any provider of the settings."""
        return any(self.troubles.values())


def incident_case(incident: Incident, setups: Sequence[Setup], callers: Callers) -> Case:
    """An incident that happened, with a little of the time before and after it."""
    seconds = incident.seconds
    window = Window(0.0, BEFORE + seconds + AFTER, (BEFORE, BEFORE + seconds))
    troubles = {one.id: incident.troubles(one.vendor, BEFORE) for one in _everybody(setups)}
    shares = f"shares of failing calls: {incident.shares}"
    notes = (incident.what, f"at {', '.join(incident.vendors)}; {shares}; every other vendor is taken to be well")
    return Case(
        incident.name, incident.title, window.seconds, seconds, (window,), troubles, callers, notes, incident.source
    )


def schedule_case(schedule: Schedule, setups: Sequence[Setup], callers: Callers | None) -> Case:
    """A fault schedule of the simulator: what it does to ``a`` happens to the first provider, and so on; its callers
    unless there are others."""
    found: dict[str, tuple[Trouble, ...]] = {}
    for setup in setups:
        for index, one in enumerate(setup.providers):
            hurt = schedule.hurt if index < schedule.hurt_count else schedule.rest
            own = schedule.each[index] if index < len(schedule.each) else ()
            found.setdefault(one.id, (*hurt, *schedule.all, *own))
    start, end = schedule.fault
    window = Window(0.0, schedule.seconds, (start, min(end, schedule.seconds)))
    load = callers or Callers(schedule.rate, None, schedule.deadline, schedule.streaming)
    usual = schedule.nature if schedule.nature != Nature() else None
    notes = (f"{schedule.what} (`a` is the first provider of the settings, `b` the second)",)
    title = f"schedule {schedule.name}"
    return Case(
        schedule.name, title, schedule.seconds, window.hurt[1] - start, (window,), found, load, notes, nature=usual
    )


def year_case(setups: Sequence[Setup], callers: Callers, seed: int) -> Case:
    """A year of incidents as often and as long as vendors report them."""
    vendors = {one.vendor: year(one.vendor, seed) for one in _everybody(setups)}
    windows = [Window(b - BEFORE, e - b + BEFORE + AFTER, (BEFORE, BEFORE + e - b)) for b, e in _clusters(vendors)]
    calm = max(0.0, YEAR - sum(window.seconds for window in windows))
    length = 3600.0 if callers.trace is not None else min(172_800.0, max(3600.0, _CALM_CALLS / callers.rate))
    windows.append(Window(-2 * length, length, (inf, inf), calm / length))
    troubles = {one.id: vendors[one.vendor] for one in _everybody(setups)}
    hurt = sum(window.hurt[1] - window.hurt[0] for window in windows[:-1])
    counts = ", ".join(f"{vendor} {len(found)}" for vendor, found in vendors.items())
    notes = (f"incidents: {counts}", f"somebody is in trouble for {hurt / 3600:.0f} of 8,760 hours")
    return Case("year", "a year of incidents", YEAR, hurt, tuple(windows), troubles, callers, notes, YEAR_SOURCE)


def _clusters(vendors: dict[str, tuple[Trouble, ...]]) -> list[tuple[float, float]]:
    """When somebody is in trouble; stretches that are close together are one."""
    found: list[tuple[float, float]] = []
    for trouble in sorted(trouble for troubles in vendors.values() for trouble in troubles):
        if found and trouble.start <= found[-1][1] + BEFORE + AFTER:
            found[-1] = found[-1][0], max(found[-1][1], trouble.end)
        else:
            found.append((trouble.start, trouble.end))
    return found


def _everybody(setups: Sequence[Setup]) -> list[HttpProvider]:
    return list({one.id: one for setup in setups for one in setup.providers}.values())


# --- the user's arrivals -----------------------------------------------------------------------------------


def read_trace(path: str | Path) -> Trace:
    """Arrivals from a CSV file (or ``.csv.gz``): a column ``seconds`` (from any start) or ``time`` (ISO 8601), and if
    you have them ``prompt_tokens`` and ``output_tokens`` (1000 and 130 otherwise).

    Raises ``ConfigurationError`` naming the line that makes no sense, ``OSError`` for a file that cannot be read.
    """
    path = Path(path)
    raw = path.read_bytes()
    try:
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8-sig")
    except (ValueError, EOFError, OSError) as error:
        raise ConfigurationError(f"{path} is no CSV: {error}") from None
    reader = csv.DictReader(io.StringIO(text, newline=""))
    if not {"seconds", "time"} & set(reader.fieldnames or ()):
        there = ", ".join(reader.fieldnames or ()) or "none"
        raise ConfigurationError(f"{path} needs a column seconds or time; its columns: {there}")
    rows = [_arrival(row, path, reader.line_num) for row in reader]
    if not rows:
        raise ConfigurationError(f"{path} has no calls")
    rows.sort()
    origin = rows[0][0]
    return tuple((at - origin, prompt, output) for at, prompt, output in rows)


def _arrival(row: dict[str, str | None], path: Path, line: int) -> tuple[float, int, int]:
    name = "seconds" if row.get("seconds") else "time"
    try:
        at = float(row["seconds"] or "") if name == "seconds" else _moment(row.get("time") or "")
        name = "prompt_tokens"
        prompt = int(row.get(name) or 1000)
        name = "output_tokens"
        output = int(row.get(name) or 130)
    except ValueError:
        raise ConfigurationError(f"{path}, line {line}: {row.get(name)!r} is no value for {name}") from None
    if not -inf < at < inf or prompt < 0 or output < 0:
        raise ConfigurationError(f"{path}, line {line}: {row} is no call")
    return at, prompt, max(1, output)


def _moment(text: str) -> float:
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
