"""Directed courses of events by name: what the decision core must get right once, at the worst moment.

A schedule says when providers are ill and is compared with an oracle; a scenario says who does what and when, and what
must hold then.  Those that turn on an exact interleaving (a result that comes after its breaker opened) speak to a pool
with plain times; the others let a world run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple, TypeVar, final

from typing_extensions import override

from resilient_llm.decide.attempt import Attempt
from resilient_llm.decide.breaker import State
from resilient_llm.decide.member import Member
from resilient_llm.errors import CallFailed, NoProviderAvailable
from resilient_llm.events import BreakerChanged
from resilient_llm.faults import Fault, FaultKind
from resilient_llm.simulate.allowance import Allowance
from resilient_llm.simulate.client import Production, Question, Real, Talk
from resilient_llm.simulate.fleet import herd, storm
from resilient_llm.simulate.providers import Nature, Provider, Trouble
from resilient_llm.simulate.replay import arrivals, burst, incidents, year
from resilient_llm.simulate.world import Flight, Load, Session, World
from resilient_llm.wire.faults.answers import classify

DATA: Final = Path(__file__).resolve().parents[4] / "shared" / "data"
"""Where recorded weather lies beside a checkout; scenarios that replay it are skipped where it is absent."""

_ERROR: Final = Fault(FaultKind.SERVER_ERROR, status=500)
_SILENT: Final = Fault(FaultKind.TIMEOUT)
_STREAM: Final = Question(True, 1000, 100, 120.0)
_WHOLE: Final = Question(False, 1000, 1000, 600.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """How a scenario went: ``figures`` by name, the demands that were ``broken``, and why it was ``skipped`` (empty: it
    was not)."""

    figures: Mapping[str, float]
    broken: tuple[str, ...] = ()
    skipped: str = ""

    @property
    def held(self) -> bool:
        """Whether what must hold held; a skipped scenario proves nothing, and breaks nothing."""
        return not self.broken

    @override
    def __str__(self) -> str:
        if self.skipped:
            return f"skipped: {self.skipped}"
        told = ", ".join(f"{name} {value:.5g}" for name, value in self.figures.items())
        return f"holds: {told}" if self.held else f"DOES NOT HOLD: {'; '.join(self.broken)} ({told})"


class Scenario(NamedTuple):
    """``what`` happens, what ``must`` hold, and the function that finds out, given the folder of recorded weather.

    ``file`` is what it needs of that folder (empty: nothing), ``takes`` how long it runs where that is long (empty: it
    is not)."""

    name: str
    what: str
    must: str
    run: Callable[[Path], Found]
    file: str = ""
    takes: str = ""


F = TypeVar("F", bound=Callable[..., Found])

_FOUND: Final[dict[str, Scenario]] = {}


@final
class _Book:
    """Figures and broken demands, as they come up."""

    def __init__(self) -> None:
        self.figures: dict[str, float] = {}
        self._broken: dict[str, None] = {}

    def demand(self, holds: bool, what: str) -> None:
        """``what`` must be; told once, however often it is not."""
        if not holds:
            self._broken[what] = None

    def most(self, name: str, value: float) -> None:
        """A figure of which the worst case counts."""
        self.figures[name] = max(value, self.figures.get(name, -math.inf))

    def add(self, name: str, value: float) -> None:
        """A figure that is a sum."""
        self.figures[name] = value + self.figures.get(name, 0.0)

    def found(self) -> Found:
        """Close it."""
        return Found(figures=MappingProxyType(self.figures), broken=tuple(self._broken))


def _scenario(name: str, what: str, must: str) -> Callable[[F], F]:
    """Register a scenario.  One that cannot even ask anybody does not hold."""

    def register(run: F) -> F:
        def perform(_: Path) -> Found:
            try:
                return run()
            except CallFailed as error:
                return Found(figures={}, broken=(f"somebody can be asked ({error})",))

        _FOUND[name] = Scenario(name, what, must, perform)
        return run

    return register


def _replayed(name: str, file: str, what: str, must: str, takes: str = "") -> Callable[[F], F]:
    """A scenario that needs a recorded ``file``."""

    def register(run: F) -> F:
        def perhaps(data: Path) -> Found:
            if not (data / file).exists():
                return Found(figures={}, skipped=f"{file} is not in {data}")
            return run(data)

        _FOUND[name] = Scenario(name, what, must, perhaps, file, takes)
        return run

    return register


# --- results that come after the breaker has moved on ---


class _Under(NamedTuple):
    """A call with an attempt under way."""

    call: Talk[Real]
    attempt: Real


def _ask(client: Production, now: float, question: Question = _STREAM) -> _Under:
    """Begin a call and its first attempt."""
    call = client.call(question, now)
    step = call.next_attempt(now)
    if not isinstance(step, Attempt):
        raise NoProviderAvailable(f"at {now} s: wait {step.seconds} s, {step.reason}")
    return _Under(call, step)


def _trip(client: Production) -> None:
    """An outage from 10 s on: the breaker opens at 15 s."""
    for now in (11.0, 12.0, 13.0, 14.0, 15.0):
        call, attempt = _ask(client, now - 0.5)
        call.failed(attempt, _ERROR, now)


def _answer(under: _Under, first: float, done: float) -> None:
    under.call.first_content(under.attempt, first)
    under.call.succeeded(under.attempt, done, 100)


def _breaker(client: Production, now: float) -> str:
    return client.pool.snapshot(now)[0].breaker


def _fail(client: Production, late: Sequence[_Under], now: float, state: State) -> bool:
    """Let calls fail until the breaker leaves this state; whether it never did."""
    for call, attempt in late:
        call.failed(attempt, _ERROR, now)
        if _breaker(client, now) != state:
            return False
    return True


_SEEDS: Final = range(20)


@_scenario(
    "overhang",
    "20 calls of a minute begin, an outage opens the breaker at 15 s, a trial finds the provider well at 22 s; then "
    "the 20 fail at 70 s, or a quarter of them already before the second trial",
    "results of calls begun before the trip neither decide about the way back nor open the closed breaker",
)
def overhang() -> Found:
    """Polly #217, Hystrix #1853."""
    book = _Book()
    for seed in _SEEDS:
        client = Production([[Provider("a")]], seed=seed)
        late = [_ask(client, 0.0, _WHOLE) for _ in range(20)]
        _trip(client)
        book.demand(_breaker(client, 15.0) == State.OPEN, "the outage opens the breaker")
        _answer(_ask(client, 20.0), 22.0, 22.5)
        early = late[: 5 * (seed % 2)]
        trying = _fail(client, early[:3], 22.7, State.SOFTLY_OPEN)
        second = _ask(client, 23.0)
        trying = _fail(client, early[3:], 23.5, State.SOFTLY_OPEN) and trying
        book.demand(trying, "late failures leave the breaker on its way back alone")
        _answer(second, 24.0, 24.5)
        closed = _breaker(client, 24.5) == State.CLOSED
        book.demand(closed, "two good trials close it, whatever fails beside them")
        stays = _fail(client, late[len(early) :], 70.0, State.CLOSED)
        book.demand(stays or not closed, "late failures leave the closed breaker alone")
        moves = [event for event in client.pool.take_events() if isinstance(event, BreakerChanged)]
        book.add("late failures", len(late))
        book.add("changes after the return", sum(move.at > 24.5 for move in moves))
    return book.found()


@_scenario(
    "overhang-mirror",
    "20 calls of a minute begin, an outage opens the breaker at 15 s; then the 20 are answered, half of them before a "
    "trial begins, half while it is under way; it fails at 22 s",
    "late successes neither close an open breaker nor count as good trials",
)
def overhang_mirror() -> Found:
    """The same the other way round."""
    book = _Book()
    for seed in _SEEDS:
        client = Production([[Provider("a")]], seed=seed)
        late = [_ask(client, 0.0, _WHOLE if index % 2 else _STREAM) for index in range(20)]
        _trip(client)
        for under in late[:10]:
            _late_answer(under, 16.0)
        book.demand(_breaker(client, 16.5) == State.OPEN, "late successes leave the open breaker alone")
        trial = _ask(client, 20.0)
        for under in late[10:]:
            _late_answer(under, 21.0)
        book.demand(_breaker(client, 21.5) == State.OPEN, "late successes are no good trials")
        trial.call.failed(trial.attempt, _ERROR, 22.0)
        book.demand(_breaker(client, 22.0) == State.OPEN, "the trial alone decides")
        book.add("late successes", len(late))
    return book.found()


def _late_answer(under: _Under, now: float) -> None:
    if under.attempt.ask.streaming:
        _answer(under, now, now + 0.5)
    else:
        under.call.succeeded(under.attempt, now + 0.5)


# --- trials that end without a verdict, or not at all ---


@final
class _Spoiler:
    """Watches a world and does something to the first trial of ``a`` that begins after ``since``."""

    def __init__(self, world: World[Real], client: Production, how: str, since: float) -> None:
        self._world = world
        self._client = client
        self._how = how
        self._since = since
        self.at: float = math.inf
        self.moves: list[BreakerChanged] = []
        """Every change of the breaker of ``a``."""

    def __call__(self, now: float) -> None:
        for event in self._client.pool.take_events():
            if isinstance(event, BreakerChanged) and event.provider == "a":
                self.moves.append(event)
        if self.at == math.inf and now >= self._since:
            for session in self._world.live:
                flight = next((flight for flight in session.flights if _tests(flight)), None)
                if flight is not None:
                    self._spoil(session, flight, now)
                    return

    def _spoil(self, session: Session[Real], flight: Flight[Real], now: float) -> None:
        self.at = now
        if self._how == "cancelled":
            self._world.cancel(session, now)
        elif self._how == "dropped":
            self._world.drop(session)
        else:  # nobody looks after it for ten minutes; then it fails
            flight.over = True
            session.flights.remove(flight)
            self._world.cancel(session, now)
            self._world.clock.at(now + _HUNG, lambda later, _: self._report(session, flight, later), None)
        self._world.end(session, now, False, self._how)

    @staticmethod
    def _report(session: Session[Real], flight: Flight[Real], now: float) -> None:
        session.call.failed(flight.attempt, _SILENT, now)

    def after(self, state: State) -> list[BreakerChanged]:
        """Its changes to this state after the trial was spoilt."""
        return [move for move in self.moves if move.at >= self.at and move.new == state]


_HUNG: Final = 600.0
"""Seconds until a trial that nobody looks after fails."""


def _tests(flight: Flight[Real]) -> bool:
    return flight.attempt.kind == "trial" and flight.attempt.target.id == "a"


def _spoilt(how: str, wait: float) -> Found:
    """Let a world run in which a trial is spoilt; ``wait`` seconds and 14 calls later its provider must be back."""
    book = _Book()
    for rate in (1.0, 0.1):
        well = 120.0 / rate
        for seed in range(1, 7):
            provider = Provider("a", troubles=[Trouble(0.0, well, "error")])
            client = Production([[provider], [Provider("b")]], seed=seed)
            world = World([client], Load(rate=rate), seed)
            spoiler = world.clock.after_step = _Spoiler(world, client, how, well)
            world.run(well + 1500.0)
            closed = min((move.at for move in spoiler.after(State.CLOSED)), default=math.inf)
            book.most(f"closed after s, at {rate:g}/s", closed - well)
            book.demand(closed - well <= wait + 14.0 / rate, "the provider is back in time")
            book.demand(sum(spoiler.at < at <= closed for at in world.asked["a"]) >= 2, "it is no good trial")
            book.demand(spoiler.at < math.inf, "a trial is made")
            at_once = [move for move in spoiler.moves if move.at in (spoiler.at, spoiler.at + _HUNG)]
            book.demand(not at_once, "neither its end nor its late failure is a verdict")
            others = [call for call in world.ended if call.why != how]
            book.demand(all(call.ok for call in others if call.started > well), "nobody else notices")
    return book.found()


@_scenario(
    "cancel-trial",
    "the first trial of a provider that is well again is cancelled by its caller; 1 and 0.1 calls a second",
    "it gives its place back and judges nobody; closed within 40 s and fourteen calls",
)
def cancel_trial() -> Found:
    """Polly #1979, resilience4j #544."""
    return _spoilt("cancelled", 40.0)


@_scenario(
    "abandon-trial",
    "the caller of the first trial drops its stream without closing it; 1 and 0.1 calls a second",
    "the same: the next operation on the pool settles what the finaliser left",
)
def abandon_trial() -> Found:
    """Sentinel #1638."""
    return _spoilt("dropped", 40.0)


@_scenario(
    "hang-trial",
    "nobody ends the first trial for ten minutes, not even its timeout; then it fails",
    "it loses its place when its time is over; closed within 60 s and fourteen calls, and its late end changes nothing",
)
def hang_trial() -> Found:
    """A driver that waits for ever must not block the way back."""
    return _spoilt("hung", 60.0)


# --- time and deadlines ---


def _member(client: Production, name: str) -> Member[Provider]:
    return client.pool._table.members[name]  # pyright: ignore[reportPrivateUsage]


_SLEEP: Final = 3600.0


@_scenario(
    "suspend",
    "the machine sleeps for an hour three times: with calls under way; while a breaker is open; while a gate is closed",
    "no sleep is taken for latency or failure, and everybody who asks after waking is answered within 15 s",
)
def suspend() -> Found:
    """Monotonic clocks jump when a laptop is opened."""
    book = _Book()
    for seed in range(1, 6):
        down, limited = _SLEEP + 200.0, 2 * _SLEEP + 400.0
        troubles = [
            Trouble(down, down + 40.0, "error"),
            Trouble(limited, limited + 20.0, "429", retry_after=120.0),
        ]
        client = Production([[Provider("a", troubles=troubles), Provider("b"), Provider("c")]], seed=seed)
        world = World([client], Load(rate=2.0), seed)
        spoiler = world.clock.after_step = _Spoiler(world, client, "", math.inf)
        woken: list[float] = []

        def sleep(now: float, _: object, world: World[Real] = world, woken: list[float] = woken) -> None:
            world.suspend(_SLEEP)
            woken.append(world.clock.now)

        for when in (100.0, down + 30.0, limited + 10.0):
            world.clock.at(when, sleep, None)
        world.run(800.0)
        later = [call for call in world.ended if any(wake < call.started <= wake + 100.0 for wake in woken)]
        slowest = max(_member(client, name).statistics.first.largest for name in "abc")
        opened = [move for move in spoiler.moves if move.new == State.OPEN]
        book.most("slowest sample s", slowest)
        book.most("worst first token after waking s", max(call.first for call in later))
        book.most("breaker openings outside the outage", sum(not down <= m.at <= woken[1] + 60.0 for m in opened))
        book.demand(len(woken) == 3, "the machine slept three times")
        book.demand(slowest <= 60.0, "sleep is not latency")
        book.demand(all(call.ok for call in later), "everybody is answered after waking")
        book.demand(max(call.first for call in later) <= 15.0, "soon")
        book.demand(all(down <= move.at <= woken[1] + 60.0 for move in opened), "sleep is no failure")
    return book.found()


@_scenario(
    "drip-found-out",
    "the preferred one of three writes a token in 29 s for a quarter of an hour: never silent for the idle timeout of "
    "30 s, never done by the deadline of 120 s",
    "nobody waits beyond the deadline, and within five minutes 95 % of the callers are answered by others",
)
def drip_found_out() -> Found:
    """A stream that runs out of time speaks against a provider that is late by its own measure."""
    book = _Book()
    for seed in range(1, 4):
        providers = [Provider("a", troubles=[Trouble(900.0, 1800.0, "drip")]), Provider("b"), Provider("c")]
        world = World([Production([[p] for p in providers], seed=seed)], Load(), seed).run(2400.0)
        during = [call for call in world.ended if 900.0 <= call.started < 1800.0]
        late = [call for call in during if call.started >= 1200.0]
        book.most("longest call s", max(call.ended - call.started for call in world.ended))
        book.add("answered", sum(call.ok for call in during) / len(during) / 3)
        book.add("answered after five minutes", sum(call.ok for call in late) / len(late) / 3)
    book.demand(book.figures["longest call s"] <= 120.001, "nobody waits beyond the deadline")
    book.demand(book.figures["answered after five minutes"] >= 0.95, "the provider that drips is found out")
    return book.found()


# --- rate limits ---

_WALL: Final = 1_750_000_000.0
"""Epoch seconds when the refusals arrive."""


class Dialect(NamedTuple):
    """A way to say 429.  ``wait`` is what it means (seconds; ``None``: nothing that can be believed)."""

    name: str
    vendor: str
    headers: Mapping[str, str]
    wait: float | None


def _date(seconds: float) -> str:
    return format_datetime(datetime.fromtimestamp(_WALL + seconds, UTC), usegmt=True)


def _dialects() -> Iterator[Dialect]:
    """Everything that servers have been seen to send."""
    for text, wait in (("0", 0.0), ("1", 1.0), ("20", 20.0), ("3600", 3600.0), ("1.5", 1.5), ("nan", None)):
        yield Dialect(f"retry-after: {text}", "openai", {"retry-after": text}, wait)
    yield Dialect("no header", "openai", {}, None)
    yield Dialect("retry-after: 1e999", "openai", {"retry-after": "1e999"}, None)
    yield Dialect("retry-after: a date", "openai", {"retry-after": _date(20.0)}, 20.0)
    yield Dialect("retry-after: a past date", "openai", {"retry-after": _date(-20.0)}, 0.0)
    yield Dialect("retry-after-ms", "openai", {"retry-after-ms": "1500", "retry-after": "2"}, 1.5)
    tokens = {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"}
    yield Dialect("x-ratelimit-reset-tokens: 6m0s", "openai", tokens, 360.0)
    when = datetime.fromtimestamp(_WALL + 45.0, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    output = {
        "anthropic-ratelimit-output-tokens-remaining": "0",
        "anthropic-ratelimit-output-tokens-reset": when,
    }
    yield Dialect("anthropic-ratelimit-output-tokens-reset: RFC 3339", "anthropic", output, 45.0)


_BODIES: Final[dict[str, object]] = {
    "openai": {"error": {"message": "Rate limit reached", "type": "requests", "code": "rate_limit_exceeded"}},
    "anthropic": {"type": "error", "error": {"type": "rate_limit_error", "message": "This would exceed the limit"}},
}


def _gate(wait: float | None) -> tuple[float, float]:
    """For how long a gate closes at the first refusal: between these seconds."""
    if wait is None:
        return 0.5, 0.625
    if wait > 300.0:
        return 240.0, 300.0
    return max(0.25, wait), min(300.0, max(0.25, 1.25 * wait))


@_scenario(
    "429-dialects",
    "the preferred provider answers 429 in each of thirteen dialects, from no header and 1e999 to a date and 6m0s",
    "the call goes on elsewhere at once; the gate is closed for as long as was asked and a quarter more at the most "
    "(0.25 to 300 s; 0.5 to 0.63 s for nonsense), then opens by itself; neither breaker nor health change",
)
def dialects_of_429() -> Found:
    """Headers as raw text, through the library's own parser."""
    book = _Book()
    for dialect in _dialects():
        fault = classify(dialect.vendor, 429, dialect.headers, _BODIES[dialect.vendor], now=_WALL)
        if fault is None or fault.kind is not FaultKind.RATE_LIMITED:
            book.demand(False, f"{dialect.name}: is a rate limit")
            continue
        same = (fault.retry_after is None) == (dialect.wait is None)
        book.demand(same and abs((fault.retry_after or 0.0) - (dialect.wait or 0.0)) < 1e-6, f"{dialect.name}: is read")
        for seed in _SEEDS:
            _refuse(book, dialect, fault, seed)
    return book.found()


def _refuse(book: _Book, dialect: Dialect, fault: Fault, seed: int) -> None:
    """One refusal, and what it does to the gate."""
    client = Production([[Provider("a")], [Provider("b")]], seed=seed)
    before = client.pool.snapshot(10.0)[0]
    call, attempt = _ask(client, 10.0)
    call.failed(attempt, fault, 10.0)
    onward = call.next_attempt(10.0)
    after = client.pool.snapshot(10.0)[0]
    closed = after.gate_open_in or 0.0
    low, high = _gate(dialect.wait)
    book.add("refusals", 1)
    book.most(f"gate s: {dialect.name}", closed)
    book.demand(isinstance(onward, Attempt) and onward.target.id == "b", f"{dialect.name}: goes on elsewhere at once")
    book.demand(low - 1e-9 <= closed <= high + 1e-9, f"{dialect.name}: the gate is closed as asked")
    known = ("breaker", "success_rate", "error_rate", "samples")
    book.demand(all(getattr(before, n) == getattr(after, n) for n in known), f"{dialect.name}: judges nobody")
    for when, who in ((10.0 + closed - 0.01, "b"), (10.0 + closed + 0.01, "a")):
        asked = _ask(client, when)
        book.demand(asked.attempt.target.id == who, f"{dialect.name}: the gate opens by itself, and not before")
        asked.call.abandoned(asked.attempt, when)


@_scenario(
    "429-shared",
    "ten processes share a limit of 30 calls a minute at the preferred provider and make 60, or 300; headroom is told, "
    "or not",
    "everybody is answered, a process is refused about once in a minute (it has to be told itself), and nine tenths of "
    "the limit are used",
)
def shared_limit() -> Found:
    """Other processes consume what a header promised."""
    book, minutes = _Book(), 20
    for told in (False, True):
        for rate in (1.0, 5.0):
            provider = Provider("a", Nature(allowance=Allowance(requests=30, dialect="window", tells=told)))
            fleet = [Production([[provider], [Provider("b")]], seed=seed) for seed in range(10)]
            world = World(fleet, Load(rate=rate), 1).run(60.0 * minutes)
            refused = sum(call.attempts - 1 for call in world.ended)
            used = (provider.served - refused) / (30 * minutes)
            label = f"{'told' if told else 'untold'}, {60 * rate:.0f} a minute"
            book.figures[f"refusals of a process in a minute ({label})"] = refused / len(fleet) / minutes
            book.figures[f"limit used ({label})"] = used
            book.demand(all(call.ok for call in world.ended), "everybody is answered")
            book.demand(refused <= 1.1 * len(fleet) * minutes, "about one refusal for a process in a minute")
            book.demand(used >= 0.9, "nine tenths of the limit are used")
    return book.found()


# --- many processes ---


@_scenario(
    "herd",
    "1000 processes at 0.1 calls a second; one of three providers answers 500 for five minutes",
    "no second has more than three times the mean of trials, neither during the outage nor in the minute after it",
)
def thundering_herd(clients: int = 1000, rate: float = 0.1) -> Found:
    """stoplight #364, Hystrix #1647, Semian #244."""
    found, book = herd(clients, rate=rate), _Book()
    book.figures |= {
        "trials a second": found.mean,
        "most": found.most,
        "over the mean": found.peak,
        "back: mean": found.after_mean,
        "back: most": found.after_most,
    }
    book.demand(found.peak <= 3.0, "trials do not herd")
    book.demand(found.after_most <= 3.0 * found.after_mean, "nor does the return")
    return book.found()


_TRIGGER: Final = 60.0
_STORMS: Final = ((0.5, 10.0), (0.5, 100.0), (0.25, 10.0), (0.25, 30.0), (0.25, 100.0))
"""What is left of the capacity, and the time of a call."""


@_scenario(
    "retry-storm",
    "a provider at 0.8 of its capacity keeps half or a quarter of it for 60 s, and does all that it was asked for; 50 "
    "processes whose callers wait for 10, 30 or 100 s",
    "as many are answered as if each sent its call once and waited, and 95 % are again as soon, or within twice the "
    "trigger's length; retries after a timeout of 30 s keep it down for good",
)
def retry_storm(seconds: float = 400.0, rows: Sequence[tuple[float, float]] = _STORMS) -> Found:
    """HotOS 2021: a metastable failure, and what prevents it."""
    book = _Book()
    for factor, deadline in rows:
        name = f"{factor:g} of its capacity, {deadline:g} s"
        mine, sdk = (
            storm(who, trigger=_TRIGGER, factor=factor, seconds=seconds, deadline=deadline)
            for who in ("production", "sdk")
        )
        book.figures[f"{name}: answered"] = mine.total
        book.figures[f"{name}: answered each once"] = sdk.total
        book.figures[f"{name}: recovered s"] = mine.recovered
        book.demand(mine.total >= sdk.total - 0.02, f"{name}: as many are answered")
        book.demand(mine.recovered <= max(sdk.recovered, 2.0 * _TRIGGER), f"{name}: over as soon")
    hasty = storm("hasty sdk", trigger=_TRIGGER, factor=0.25, seconds=seconds)
    book.figures["retried after 30 s: recovered s"] = hasty.recovered
    book.demand(hasty.recovered == math.inf, "without a budget it lasts")
    return book.found()


# --- recorded weather ---


@_replayed(
    "tokens",
    "arrivals_code.csv.gz",
    "an hour of recorded arrivals with their lengths, bursty and even; the preferred one of three answers 500, or "
    "hangs, for fifteen minutes",
    "99.95 % are answered, and the 99th percentile to the first token is within 1.5 times the oracle's",
)
def tokens(data: Path, names: Sequence[str] = ("code", "conv"), strategy: str = "production") -> Found:
    """Azure's traces of 2023: prompt and answer lengths as people send them."""
    book = _Book()
    for name in names:
        trace = arrivals(data / f"arrivals_{name}.csv.gz")
        for kind in ("error", "hang"):
            trouble = [Trouble(900.0, 1800.0, kind)]
            mine, best = (burst(trace, who, trouble, "tiers").ended for who in (strategy, "oracle"))
            waits, ideal = (sorted(call.first for call in ended if call.ok) for ended in (mine, best))
            answered, ratio = len(waits) / len(mine), waits[int(0.99 * len(waits))] / ideal[int(0.99 * len(ideal))]
            book.figures[f"answered ({name}, {kind})"] = answered
            book.figures[f"p99 over the oracle's ({name}, {kind})"] = ratio
            book.demand(answered >= 0.9995, f"{name}, {kind}: nearly everybody is answered")
            book.demand(ratio <= 1.5, f"{name}, {kind}: nearly as fast as the oracle")
    return book.found()


@_replayed(
    "incidents",
    "incidents.csv",
    "the published incidents of two vendors for 365 days at 0.1 calls a second, one of them preferred (minor ones fail "
    "10 % of the calls, major ones 50 %, critical ones all); beside it a single vendor, retried three times",
    "at most a tenth of the single vendor's failures are left, for at most 1.05 attempts a call",
    takes="two years of calls are lived through, which takes two to five minutes",
)
def recorded_incidents(
    data: Path, days: int = 365, rate: float = 0.1, strategy: str = "production", extra: float = 0.05
) -> Found:
    """The status pages of 2023 and 2024.  ``extra`` attempts a call are allowed: the rarer the calls, the more of them
    are probes."""
    book = _Book()
    troubles = incidents(data / "incidents.csv", days)
    mine, single = (year(troubles, who, days, rate) for who in (strategy, "hasty sdk"))
    book.figures |= {
        "calls": mine.calls,
        "answered": mine.availability,
        "answered by a single vendor": single.availability,
        "attempts a call": mine.attempts / mine.calls,
    }
    book.demand(1.0 - mine.availability <= 0.1 * (1.0 - single.availability), "a tenth of the failures are left")
    book.demand(mine.attempts <= (1.0 + extra) * mine.calls, "for few extra attempts")
    return book.found()


SCENARIOS: Final = MappingProxyType(_FOUND)
"""By name, in the order in which they are run."""
