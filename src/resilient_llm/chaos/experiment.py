"""Chaos experiments: real traffic through a client, faults put into its providers, and a question with an answer.

::

    Experiment(
        client,
        hypothesis=["success_rate >= 0.99", "p99 <= 2"],
        faults={"openai/gpt-5.2": [(10, 30, Status(503)), (30, 40, Latency(3), 0.5)]},
        duration=60,
        abort_when="success_rate < 0.5",
    ).run()

The *hypothesis* says what callers notice in the steady state.  It is measured before the first fault, while there are
faults, and after the last one; if it does not hold before, nothing is injected.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, final

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from resilient_llm.chaos.report import ChaosReport, Phase, Verdict, segments, summary
from resilient_llm.chaos.timeline.figures import Totals, totals
from resilient_llm.chaos.timeline.story import CallSeen, Ending, Notebook, Story
from resilient_llm.client import AsyncResilientClient, ResilientClient
from resilient_llm.errors import CallFailed, ConfigurationError, StreamInterrupted
from resilient_llm.model import ChatResponse
from resilient_llm.testing.control import inject
from resilient_llm.testing.faults import MISHAPS, Faults, Injected, Injection, Line, Mishap

__all__ = ["Experiment", "Hypothesis", "Traffic"]

PhaseName: TypeAlias = Literal["before", "during", "after"]
PHASES: Final[tuple[PhaseName, ...]] = ("before", "during", "after")

METRICS: Final[Mapping[str, Callable[[Totals], float | None]]] = {
    "success_rate": lambda seen: seen.success_rate if seen.calls else None,
    "p50": lambda seen: seen.answer_p50,
    "p99": lambda seen: seen.answer_p99,
    "slowest": lambda seen: seen.slowest,
    "slowest_failure": lambda seen: seen.slowest_failure,
    "first_token_p50": lambda seen: seen.first_token_p50,
    "first_token_p99": lambda seen: seen.first_token_p99,
    "attempts_per_call": lambda seen: seen.attempts_per_call if seen.calls else None,
    "failed": lambda seen: float(seen.failed),
    "interrupted": lambda seen: float(seen.interrupted),
    "wrong": lambda seen: float(seen.wrong),
}
"""What a hypothesis can be about; times are seconds, ``None`` without a sample."""

_RELATIONS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    ">=": lambda measured, bound: measured >= bound,
    "<=": lambda measured, bound: measured <= bound,
    ">": lambda measured, bound: measured > bound,
    "<": lambda measured, bound: measured < bound,
}
_SENTENCE = re.compile(r"\s*(\w+)\s*(>=|<=|>|<)\s*([0-9.eE+-]+)\s*((?:\s*,?\s*(?:before|during|after))*)\s*")
_ENOUGH = 10  # calls before an abort condition is believed
_TICK = 0.1  # seconds between two looks at the abort condition


@final
@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A bound on what callers notice: ``metric`` is a name of ``METRICS``, ``relation`` one of >= <= > <.

    ``phases`` says when it must hold.  As text: ``"p99 <= 2"``, ``"success_rate >= 0.99 before after"``.
    """

    metric: str
    relation: str
    bound: float
    phases: tuple[PhaseName, ...] = PHASES

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise ConfigurationError(f"there is no metric {self.metric!r}; there are {', '.join(METRICS)}")
        if self.relation not in _RELATIONS or not math.isfinite(self.bound):
            raise ConfigurationError(f"a hypothesis compares with a number by >=, <=, > or <, not {self!s}")
        if self.metric == "success_rate" and not 0 <= self.bound <= 1:
            raise ConfigurationError(f"success_rate is a share between 0 and 1 (0.99 is 99 %), not {self.bound:g}")
        if not self.phases or not set(self.phases) <= set(PHASES):
            raise ConfigurationError(f"phases are some of {', '.join(PHASES)}, not {self.phases!r}")

    @classmethod
    def parse(cls, text: str) -> Hypothesis:
        """From its text.  Raises ``ConfigurationError``."""
        found = _SENTENCE.fullmatch(text) if isinstance(text, str) else None
        try:
            assert found is not None
            bound = float(found[3])
        except (AssertionError, ValueError):
            raise ConfigurationError(f"a hypothesis reads like 'success_rate >= 0.99', not {text!r}") from None
        named: tuple[PhaseName, ...] = tuple(phase for phase in PHASES if phase in found[4])
        return cls(found[1], found[2], bound, named or PHASES)

    def holds(self, seen: Totals) -> bool | None:
        """Whether it holds for these calls; ``None`` without a measurement."""
        measured = METRICS[self.metric](seen)
        return None if measured is None else _RELATIONS[self.relation](measured, self.bound)

    def __str__(self) -> str:
        return f"{self.metric} {self.relation} {self.bound:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Who calls: ``rate`` calls a second on average, at random times, a share ``streams`` of them streamed.

    ``prompts`` are drawn from at random.  ``deadline`` seconds per call.  ``check`` says whether an answer is right
    (``None``: every answer is).  ``max_in_flight`` bounds what a hang can pile up; a call that would exceed it is made
    as soon as another has ended.
    """

    rate: float = 10.0
    prompts: tuple[str, ...] = ("Why is the sky blue?",)
    streams: float = 0.5
    max_tokens: int | None = 64
    deadline: float = 30.0
    check: Callable[[ChatResponse], bool] | None = None
    max_in_flight: int = 100

    def __post_init__(self) -> None:
        prompts: object = self.prompts
        texts = isinstance(prompts, list | tuple) and all(isinstance(one, str) for one in prompts)  # pyright: ignore
        for name, fits, needed in (
            ("rate", _number(self.rate) and 0 < self.rate <= 1000, "a number of calls a second above 0 and up to 1000"),
            ("prompts", texts and bool(prompts), "one text or more"),
            ("streams", _number(self.streams) and 0 <= self.streams <= 1, "a share between 0 and 1"),
            ("deadline", _number(self.deadline) and 0 < self.deadline < math.inf, "a number of seconds above 0"),
            ("max_in_flight", _number(self.max_in_flight) and self.max_in_flight >= 1, "a number of calls above 0"),
        ):
            if not fits:
                raise ConfigurationError(f"traffic: {name} is {needed}, not {getattr(self, name)!r}")


AbortWhen: TypeAlias = str | Hypothesis | Callable[[Totals], bool]


@final
class Experiment:
    """One experiment; see the module.  ``run()`` in sync code, ``await run_async()`` in async code, either client.

    ``hypothesis``: texts or :class:`Hypothesis`.  ``faults``: provider id -> lines of a
    :class:`~resilient_llm.testing.Faults` in seconds since the beginning, such an object, or one mishap from beginning
    to end.  ``duration``: seconds of traffic.  ``abort_when``: a bound in the same words (without phases), or a
    function of :class:`~resilient_llm.testing.Totals`, on the calls that ended in the last ``abort_window`` seconds
    (the last 10 calls where those were fewer); as soon as it is true, and of at least 10 calls, the faults are
    withdrawn and traffic ends.  A call under way for longer than ``abort_window`` and than twice the slowest answer
    before the first fault counts as failed there; for as long the last calls may take at the end.  When faults are
    withdrawn, early or after that, attempts that hang in one are let go.
    ``settle``: seconds after the last fault that still count as *during*, for providers to come back.

    Raises ``ConfigurationError`` for what makes no sense.
    """

    def __init__(
        self,
        client: ResilientClient | AsyncResilientClient,
        hypothesis: str | Hypothesis | Iterable[str | Hypothesis],
        faults: Mapping[str, Faults | Mishap | Iterable[Line]],
        duration: float,
        abort_when: AbortWhen | None = None,
        *,
        traffic: Traffic | None = None,
        settle: float = 0.0,
        abort_window: float = 5.0,
        seed: int = 1,
        title: str = "Chaos experiment",
    ) -> None:
        if traffic is not None and not isinstance(traffic, Traffic):
            raise ConfigurationError(f"traffic is an object such as Traffic(rate=20), not {traffic!r}")
        _seconds("duration", duration, above=True)
        _seconds("abort_window", abort_window, above=True)
        _seconds("settle", settle)
        given = (hypothesis,) if isinstance(hypothesis, str | Hypothesis) else tuple(hypothesis)
        self.client = client
        self.hypotheses: tuple[Hypothesis, ...] = tuple(
            one if isinstance(one, Hypothesis) else Hypothesis.parse(one) for one in given
        )
        if not self.hypotheses:
            raise ConfigurationError("an experiment without a hypothesis proves nothing")
        self.faults: dict[str, Faults] = {
            provider: _schedule(provider, given_faults, seed + number)
            for number, (provider, given_faults) in enumerate(faults.items())
        }
        self.duration = duration
        self.abort_when: Callable[[Totals], bool] | None = _condition(abort_when)
        self.abort_text: str = abort_when if isinstance(abort_when, str) else "the abort condition"
        self.traffic: Traffic = traffic or Traffic()
        self.settle = settle
        self.abort_window = abort_window
        self.seed = seed
        self.stopping: str | None = None
        """Why it shall stop, see :meth:`stop`."""
        self.title = title
        lines = [line for one in self.faults.values() for line in one.schedule]
        self.first_fault: float = min((line.start for line in lines), default=duration)
        self.last_fault: float = min(duration, max((line.end for line in lines), default=duration))
        if self.first_fault >= duration:
            raise ConfigurationError("no fault begins before the experiment ends")

    def run(self) -> ChaosReport:
        """Carry it out.  Takes ``duration`` and as long as the last calls need.

        Raises ``RuntimeError`` inside an event loop, and whatever ``check`` or ``abort_when`` raises.
        """
        if _in_a_loop():
            raise RuntimeError("run() cannot be used inside an event loop; await experiment.run_async() there")
        return anyio.run(self._run_alone)

    async def _run_alone(self) -> ChaosReport:
        try:
            return await self.run_async()
        finally:
            if isinstance(self.client, AsyncResilientClient):  # its connections belong to the loop that ends here
                await self.client._driver.under_way().engine.aclose()  # pyright: ignore[reportPrivateUsage]

    async def run_async(self) -> ChaosReport:
        """The same inside an event loop, of asyncio or trio."""
        ids = tuple(target.id for target in self.client.pool.pool.targets())
        struck = {provider: len(one.injected) for provider, one in self.faults.items()}
        story = Story("experiment", self.seed, ids)
        notes = Notebook(story)
        run = _Run(self, notes)
        async with _listening(self.client, notes):
            try:
                await run.carry_out()
            finally:
                self.stopping = None
        story.ended = max(notes.now(), 0.001)
        story.complete = run.aborted is None
        injected = {provider: one.injected[struck[provider] :] for provider, one in self.faults.items()}
        return self._judge(story, run, injected)

    def stop(self, why: str = "it was told to stop") -> None:
        """End the run that is under way (or the next one): the faults are withdrawn, and the report has what was seen
        so far.  From any thread, or a signal handler."""
        self.stopping = why

    # --- judging ---

    def phase(self, name: PhaseName, ended: float) -> tuple[float, float]:
        """When a phase began and ended."""
        late = min(self.last_fault + self.settle, self.duration)
        begin, end = {
            "before": (0.0, self.first_fault),
            "during": (self.first_fault, late),
            "after": (late, self.duration),
        }[name]
        return min(begin, ended), min(end, ended)

    def _judge(self, story: Story, run: _Run, injected: Mapping[str, Sequence[Injected]]) -> ChaosReport:
        phases = tuple(self._phase(name, story, run.stopped_at) for name in PHASES)
        verdicts = tuple(
            Verdict(
                str(hypothesis), phase.name, METRICS[hypothesis.metric](phase.totals), hypothesis.holds(phase.totals)
            )
            for hypothesis in self.hypotheses
            for phase in phases
            if phase.name in hypothesis.phases
        )
        story.acts = segments(self.faults, min(self.duration, run.stopped_at), story.ended)
        return summary(self.title, story, phases, verdicts, injected, run.aborted, run.let_go)

    def _phase(self, name: PhaseName, story: Story, stopped: float) -> Phase:
        began, ended = self.phase(name, stopped)
        last = ended >= stopped > began  # a call may begin a moment after the end: its turn came late
        calls = [call for call in story.calls if began <= call.began and (call.began < ended or last)]
        return Phase(name, began, ended, totals(calls))


class _Held:
    """The clock of a schedule, which stands still until the steady state was seen: no fault strikes before."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._still: float | None = clock()

    def __call__(self) -> float:
        return self._clock() if self._still is None else self._still

    def go_on(self) -> None:
        """Show the time again."""
        self._still = None


class _Run:
    """The part that happens."""

    def __init__(self, experiment: Experiment, notes: Notebook) -> None:
        self.experiment = experiment
        self.notes = notes
        self.aborted: str | None = None
        self.stopped_at = experiment.duration
        self.let_go = 0
        """How many calls were under way when the faults were withdrawn."""
        self._under_way: dict[int, tuple[bool, float]] = {}
        self._usual = 0.0  # seconds of the slowest answer before the first fault
        self._callers = anyio.CancelScope()
        self._limit = anyio.CapacityLimiter(experiment.traffic.max_in_flight)
        self._threads = anyio.CapacityLimiter(experiment.traffic.max_in_flight)
        self._held: list[_Held] = []

    async def carry_out(self) -> None:
        """Faults and traffic, until it is over."""
        faults = self.experiment.faults
        clocks = {provider: one.clock for provider, one in faults.items()}
        try:
            if self.experiment.first_fault > 0:
                for provider, one in faults.items():
                    one.clock = held = _Held(clocks[provider])
                    self._held.append(held)
            with inject(self.experiment.client, faults):
                await self._traffic()
        except BaseExceptionGroup as group:  # by a function of the caller's, which need not know of our tasks
            raise _first(group) from None
        finally:
            for provider, one in faults.items():
                one.clock = clocks[provider]

    async def _traffic(self) -> None:
        """Callers come and go until it is over."""
        async with anyio.create_task_group() as crowd:
            try:
                with self._callers:
                    async with anyio.create_task_group() as watch:
                        watch.start_soon(self._watch)
                        await self._callers_come(crowd)
                        watch.cancel_scope.cancel()
                    await self._last_calls()
            finally:
                self._withdraw()  # however it ended: nobody shall wait for what is over

    async def _callers_come(self, crowd: TaskGroup) -> None:
        plan, draw = self.experiment.traffic, random.Random(self.experiment.seed)
        due = 0.0
        while True:
            due += draw.expovariate(plan.rate)
            streamed, prompt = draw.random() < plan.streams, draw.choice(plan.prompts)
            if due >= self.experiment.duration:
                break
            await anyio.sleep(max(0.0, due - self.notes.now()))
            crowd.start_soon(self._call, streamed, prompt)
        await anyio.sleep(max(0.0, self.experiment.duration - self.notes.now()))

    async def _last_calls(self) -> None:
        """Let the calls under way end as they would, for as long as a call may take before it counts as failed."""
        until = self.experiment.duration + self._patience
        while self._under_way and self.experiment.stopping is None and self.notes.now() < until:  # noqa: ASYNC110
            await anyio.sleep(_TICK)

    async def _watch(self) -> None:
        """Let the faults begin, and abort where that is due."""
        first, well = self.experiment.first_fault, False
        while self.aborted is None:
            now = self.notes.now()
            if not well and now >= first:
                well = self._well_before()
            if self.aborted is None and self._unbearable(now):
                stuck = len(self._stuck(now))
                counted = f"; {stuck} calls without an end count as failed" if stuck else ""
                what, window = self.experiment.abort_text, self.experiment.abort_window
                self._abort(f"{what} (over the last {window:g} s{counted})", now)
            if self.aborted is None and self.experiment.stopping is not None:
                self._abort(self.experiment.stopping, now)
            await anyio.sleep(_TICK if well else max(0.0, min(_TICK, first - self.notes.now())))

    def _well_before(self) -> bool:
        """Judge the steady state, and let the faults begin only then."""
        experiment = self.experiment
        calls = [call for call in self.notes.story.calls if call.began < experiment.first_fault]
        self._usual = max((call.seconds for call in calls if call.ending == "answered"), default=0.0)
        seen = totals(calls)
        hypotheses = [one for one in experiment.hypotheses if "before" in one.phases]
        wrong = [one for one in hypotheses if one.holds(seen) is False]
        if wrong or (hypotheses and not calls and self._under_way):
            what = f"did not hold before anything was injected: {wrong[0]}" if wrong else "is unknown: no call ended"
            self._abort(f"the steady state {what}", experiment.first_fault)
            return False
        for held in self._held:
            held.go_on()
        return True

    def _unbearable(self, now: float) -> bool:
        """Whether the abort condition is true of the calls that ended of late and of those that should have."""
        experiment, calls = self.experiment, self.notes.story.calls
        if experiment.abort_when is None:
            return False
        recent = self._stuck(now)
        for call in reversed(calls):
            if call.ended <= now - experiment.abort_window and len(recent) >= _ENOUGH:
                break
            recent.append(call)
        return len(recent) >= _ENOUGH and experiment.abort_when(totals(recent))

    @property
    def _patience(self) -> float:
        """Seconds after which a call under way counts as failed."""
        return max(self.experiment.abort_window, 2 * self._usual)

    def _stuck(self, now: float) -> list[CallSeen]:
        """Calls under way for so long that they count as failed."""
        return [
            CallSeen(number, streamed, began, now, "failed", 1)
            for number, (streamed, began) in self._under_way.items()
            if now - began > self._patience
        ]

    def _abort(self, why: str, at: float) -> None:
        self._withdraw()
        self.aborted, self.stopped_at = why, at
        self._callers.cancel()

    def _withdraw(self) -> None:
        self.let_go = self.let_go or len(self._under_way)
        for faults in self.experiment.faults.values():
            faults.stop()

    async def _call(self, streamed: bool, prompt: str) -> None:
        client, plan = self.experiment.client, self.experiment.traffic
        async with self._limit:
            if self.aborted is not None:
                return
            number = self.notes.begin()
            self._under_way[number] = streamed, self.notes.now()
            try:
                if isinstance(client, AsyncResilientClient):
                    seen = await _asked(client, self.notes, number, streamed, prompt, plan)
                else:
                    seen = await anyio.to_thread.run_sync(
                        _asked_sync, client, self.notes, number, streamed, prompt, plan, limiter=self._threads
                    )
            finally:
                del self._under_way[number]
            self.notes.seen(seen)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first exception in a group of groups; what ends the program before all others."""
    leaves: list[BaseException] = []
    for one in group.exceptions:
        leaves.append(_first(one) if isinstance(one, BaseExceptionGroup) else one)  # pyright: ignore[reportUnknownArgumentType]
    return min(leaves, key=lambda one: isinstance(one, Exception))


@dataclass(slots=True)
class _Answer:
    began: float
    response: ChatResponse | None = None
    first: float | None = None
    failure: Exception | None = None
    attempts: int = 0


async def _asked(  # noqa: PLR0917 - private, and its twin goes through a thread, by position
    client: AsyncResilientClient, notes: Notebook, number: int, streamed: bool, prompt: str, plan: Traffic
) -> CallSeen:
    answer = _Answer(notes.now())
    try:
        if streamed:
            async with client.stream(prompt, max_tokens=plan.max_tokens, deadline=plan.deadline) as stream:
                async for _ in stream.text_deltas():
                    answer.first = answer.first or notes.now() - answer.began
                answer.response, answer.attempts = stream.response, len(stream.attempts)
        else:
            answer.response = await client.chat(prompt, max_tokens=plan.max_tokens, deadline=plan.deadline)
            answer.attempts = len(answer.response.attempts)
    except Exception as failure:
        answer.failure = failure
    return _seen(notes, number, streamed, answer, plan)


def _asked_sync(  # noqa: PLR0917
    client: ResilientClient, notes: Notebook, number: int, streamed: bool, prompt: str, plan: Traffic
) -> CallSeen:
    answer = _Answer(notes.now())
    try:
        if streamed:
            with client.stream(prompt, max_tokens=plan.max_tokens, deadline=plan.deadline) as stream:
                for _ in stream.text_deltas():
                    answer.first = answer.first or notes.now() - answer.began
                answer.response, answer.attempts = stream.response, len(stream.attempts)
        else:
            answer.response = client.chat(prompt, max_tokens=plan.max_tokens, deadline=plan.deadline)
            answer.attempts = len(answer.response.attempts)
    except Exception as failure:
        answer.failure = failure
    return _seen(notes, number, streamed, answer, plan)


def _seen(notes: Notebook, number: int, streamed: bool, answer: _Answer, plan: Traffic) -> CallSeen:
    ended, failure, response = notes.now(), answer.failure, answer.response
    if response is not None and failure is None:
        right = plan.check is None or plan.check(response)
        ending: Ending = "answered" if right else "wrong"
        provider, first = response.provider, answer.first
        return CallSeen(number, streamed, answer.began, ended, ending, answer.attempts, provider, first)
    trail = failure.attempts if isinstance(failure, CallFailed) else ()
    ending = "interrupted" if isinstance(failure, StreamInterrupted) else "failed"
    provider = trail[-1].provider if trail and ending == "interrupted" else ""
    told = failure.message if isinstance(failure, CallFailed) else str(failure)
    name = type(failure).__name__
    return CallSeen(number, streamed, answer.began, ended, ending, len(trail), provider, None, name, told)


@asynccontextmanager
async def _listening(client: ResilientClient | AsyncResilientClient, notes: Notebook) -> AsyncGenerator[None]:
    """Hear the client's events meanwhile."""
    owner = client.pool
    before, listening = owner.listeners, owner.pool.listening
    owner.listeners = (*before, notes.heard)
    owner.pool.listen(True)
    try:
        yield
    finally:
        owner.listeners = before
        owner.pool.listen(listening)


def _condition(given: AbortWhen | None) -> Callable[[Totals], bool] | None:
    if given is None or (callable(given) and not isinstance(given, Hypothesis)):
        return given
    if not isinstance(given, str | Hypothesis):
        raise ConfigurationError(f"abort_when reads like 'success_rate < 0.5' or is a function, not {given!r}")
    bound = Hypothesis.parse(given) if isinstance(given, str) else given
    if bound.phases != PHASES:
        raise ConfigurationError(f"abort_when is looked at all the time and has no phase: {given!s}")
    return lambda seen: bound.holds(seen) is True


def _schedule(provider: str, given: Faults | Mishap | Iterable[Line], seed: int) -> Faults:
    if isinstance(given, Faults):
        return given
    if isinstance(given, MISHAPS):
        return Faults([Injection(0.0, math.inf, given)], seed=seed)
    if not isinstance(given, Iterable):
        raise ConfigurationError(
            f"the faults of {provider!r} are lines (start, end, mishap[, rate]), a mishap or a Faults, not {given!r}"
        )
    return Faults(given, seed=seed)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _seconds(name: str, value: object, *, above: bool = False) -> None:
    """Raises ``ConfigurationError``."""
    if isinstance(value, int | float) and _number(value) and 0 <= value < math.inf and (value > 0 or not above):
        return
    bound = "above 0" if above else "of at least 0"
    raise ConfigurationError(f"{name} is a number of seconds {bound}, not {value!r}")


def _in_a_loop() -> bool:
    try:
        anyio.get_current_task()
    except RuntimeError:  # of whichever class, that is what all of them are
        return False
    return True
