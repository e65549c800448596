"""Faults by schedule, for providers that are otherwise well: in tests, and in a staging system.

A *mishap* is what happens to one attempt, in the words of :mod:`resilient_llm.testing.script`:

::

    Latency, SlowTokens               the true answer, late or dribbling
    Cut, Stall, Malformed, InBandError    the true answer, broken after some tokens
    Status, Hang, Close, Reset        no answer; the provider is not asked
    Reply                             another answer than the provider's; it is not asked
    Raw, EndlessHeaders               these very bytes (providers reached over HTTP only)

:class:`Faults` decides which attempt meets which mishap.  :func:`~resilient_llm.testing.inject` puts it into a client
that exists, :class:`~resilient_llm.testing.FaultyTransport` into an ``httpx`` client, :class:`FaultyProvider` around a
provider you wrote.  All of them sit innermost: retries, breakers and timers see what they would see of a sick vendor.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast, final

from typing_extensions import TypeIs, override

from resilient_llm.errors import ConfigurationError
from resilient_llm.testing.script import (
    Behaviour,
    Close,
    Cut,
    EndlessHeaders,
    Hang,
    InBandError,
    Malformed,
    Raw,
    Reply,
    Reset,
    Stall,
    Status,
    StreamFault,
    number,
)

__all__ = ["Faults", "FaultsLike", "Injected", "Injection", "Latency", "Line", "Mishap", "Schedule", "SlowTokens"]


@dataclass(frozen=True, slots=True)
class Latency:
    """The true answer after ``seconds`` more, plus up to ``jitter`` seconds drawn for each attempt."""

    seconds: float
    jitter: float = 0.0

    def __post_init__(self) -> None:
        if not all(0 <= number(name, getattr(self, name)) < math.inf for name in ("seconds", "jitter")):
            raise ConfigurationError(f"a latency is a number of seconds of at least 0, not {self!r}")


@dataclass(frozen=True, slots=True)
class SlowTokens:
    """The true answer with ``interval`` seconds before every token.  A whole answer takes as long as its words."""

    interval: float

    def __post_init__(self) -> None:
        if not 0 <= number("interval", self.interval) < math.inf:
            raise ConfigurationError(f"an interval is a number of seconds of at least 0, not {self.interval!r}")


Mishap: TypeAlias = Behaviour | StreamFault | Latency | SlowTokens
"""What can be done to one attempt."""

REPLACING = (Reply, Status, Hang, Close, Reset, Raw, EndlessHeaders)
"""The classes of what stands in the place of a true answer."""

MISHAPS = (*REPLACING, Cut, Stall, Malformed, InBandError, Latency, SlowTokens)
"""The classes of all of them."""


def is_mishap_class(value: object) -> TypeIs[type[Mishap]]:
    """Whether this is ``Hang`` where ``Hang()`` was meant."""
    return isinstance(value, type) and value in MISHAPS


@dataclass(frozen=True, slots=True)
class Injection:
    """One line of a schedule: from ``start`` until ``end`` (seconds since the schedule began; ``math.inf``: for ever),
    a share ``rate`` of the attempts meets ``mishap``."""

    start: float
    end: float
    mishap: Mishap
    rate: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= number("start", self.start) < number("end", self.end):
            raise ConfigurationError(f"an injection begins at 0 or later and before its end, not {self!r}")
        if not 0 <= number("rate", self.rate) <= 1:
            raise ConfigurationError(f"rate is a share between 0 and 1, not {self.rate!r}")
        if not isinstance(self.mishap, MISHAPS):
            if is_mishap_class(self.mishap):
                raise ConfigurationError(f"{self.mishap.__name__} is a class; say {self.mishap.__name__}(...)")
            names = ", ".join(kind.__name__ for kind in MISHAPS)
            raise ConfigurationError(f"{self.mishap!r} cannot be injected; what can: {names}")


@dataclass(frozen=True, slots=True)
class Injected:
    """A mishap that happened: ``at`` seconds after the schedule began, to the ``attempt``-th attempt, from 1."""

    at: float
    attempt: int
    mishap: Mishap


def _nothing() -> None:
    """What is to be undone where nothing was done."""


Line: TypeAlias = Injection | tuple[float, float, Mishap] | tuple[float, float, Mishap, float]
"""One line of a schedule, see :class:`Injection`."""

Schedule: TypeAlias = Sequence[Line]
"""The lines of a :class:`Faults`: the type to declare for a schedule that is kept in a variable."""


@final
class Faults:
    """A schedule of mishaps for one provider.

    ``schedule`` has :class:`Injection` objects or tuples ``(start, end, mishap[, rate])``; where several apply, the
    first one that strikes wins.  Second 0 is :meth:`start` (``inject`` calls it as its block begins), else the first
    attempt.  Whether a line strikes the n-th attempt depends on ``seed``, the line and n alone.  ``clock`` is in
    seconds; ``None`` is real time, or the client's time inside :func:`~resilient_llm.testing.instant`.

    Safe for threads.  Raises ``ConfigurationError`` for a line that makes no sense.
    """

    def __init__(self, schedule: Iterable[Line], *, seed: int = 0, clock: Callable[[], float] | None = None) -> None:
        self.schedule: tuple[Injection, ...] = tuple(_injection(line) for line in _lines(schedule))
        self.injected: list[Injected] = []
        """What happened so far."""
        self.attempts: int = 0
        """How many attempts were looked at."""
        self.clock: Callable[[], float] = time.monotonic if clock is None else clock
        self._own_clock = clock is not None
        self._random = random.Random(seed)
        self._began: float | None = None
        self.withdrawn: threading.Event = threading.Event()
        """Set by :meth:`stop`; whatever waits inside a mishap looks at it."""
        self._lock = threading.Lock()

    @classmethod
    def always(cls, mishap: Mishap, rate: float = 1.0, *, seed: int = 0) -> Faults:
        """One mishap for as long as it is in place."""
        return cls([Injection(0.0, math.inf, mishap, rate)], seed=seed)

    def start(self) -> None:
        """Time zero is now; also undoes :meth:`stop`."""
        with self._lock:
            self._began, self.withdrawn = self.clock(), threading.Event()

    def stop(self) -> None:
        """Inject nothing any more, and let go of the attempts that still wait inside a mishap: those that hang fail,
        those that were merely delayed go on.  The switch to have at hand in a shared system."""
        self.withdrawn.set()

    def follow(self, clock: Callable[[], float]) -> Callable[[], None]:
        """Go on by another clock, from the second it has reached; gives the way back.  A schedule that was given a
        clock keeps it."""
        with self._lock:
            before = self.clock
            if self._own_clock or before is clock:
                return _nothing
            self._move(clock)

        def back() -> None:
            with self._lock:
                self._move(before)

        return back

    def _move(self, clock: Callable[[], float]) -> None:
        if self._began is not None:
            self._began += clock() - self.clock()
        self.clock = clock

    def next(self) -> Mishap | None:
        """What happens to the next attempt; ``None``: nothing.  A latency comes with its jitter drawn."""
        with self._lock:
            now = self.clock()
            if self._began is None:
                self._began = now
            self.attempts += 1
            # Drawn whether they are needed or not, so that timing does not change what strikes whom.
            draws = [self._random.random() for _ in self.schedule]
            jitter = self._random.random()
            at = now - self._began
            if self.withdrawn.is_set():
                return None
            for line, draw in zip(self.schedule, draws, strict=True):
                if line.start <= at < line.end and draw < line.rate:
                    return self._struck(at, line.mishap, jitter)
            return None

    def _struck(self, at: float, mishap: Mishap, jitter: float) -> Mishap:
        if isinstance(mishap, Latency):
            mishap = Latency(mishap.seconds + jitter * mishap.jitter)
        self.injected.append(Injected(at, self.attempts, mishap))
        return mishap

    @override
    def __repr__(self) -> str:
        return f"<Faults: {len(self.schedule)} lines, {len(self.injected)} of {self.attempts} attempts struck>"


def _lines(schedule: object) -> Iterable[object]:
    if is_mishap_class(schedule):
        raise ConfigurationError(f"{schedule.__name__} is a class; say {schedule.__name__}(...)")
    if isinstance(schedule, Iterable) and not isinstance(schedule, str | bytes | Mapping):
        return cast("Iterable[object]", schedule)
    raise ConfigurationError(
        "faults are one mishap such as Status(503), a Faults, or a list of lines (start, end, mishap[, rate]), "
        f"not {schedule!r}"
    )


def _injection(line: object) -> Injection:
    if isinstance(line, Injection):
        return line
    if isinstance(line, tuple) and len(line) in (3, 4):  # pyright: ignore[reportUnknownArgumentType]
        return Injection(*line)  # pyright: ignore[reportUnknownArgumentType]
    raise ConfigurationError(f"a line of a schedule is (start, end, mishap[, rate]), not {line!r}")


FaultsLike: TypeAlias = Faults | Mishap | Iterable[Line]
"""What can be given for the faults of one provider: a :class:`Faults`, one mishap for every attempt, or lines."""


def as_faults(value: FaultsLike) -> Faults:
    """A schedule, one made of lines, or one mishap for ever."""
    if isinstance(value, Faults):
        return value
    return Faults.always(value) if isinstance(value, MISHAPS) else Faults(value)
