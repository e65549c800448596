"""Anomalies beside a client: calls leave what they saw in a queue, and it is looked at off their path."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias, final

from typing_extensions import override

from resilient_llm.decide.outcome import Outcome, disposition
from resilient_llm.decide.statistics import Statistics
from resilient_llm.drive.fork import tell_after_fork
from resilient_llm.drive.observer import (
    AttemptObserver,
    AttemptWatcher,
    CallObserver,
    CallWatcher,
    Described,
    Operation,
    Watcher,
)
from resilient_llm.errors import AttemptRecord
from resilient_llm.model import ChatRequest, ChatResponse, EmbedRequest, EmbedResponse, Usage
from resilient_llm.operate.alerts.words import Condition
from resilient_llm.operate.anomalies.detectors import Failures, Slowdown
from resilient_llm.operate.background import HasPool, background_of, pool_of

MOST_QUEUED: Final = 20_000
"""Samples that wait to be looked at; the oldest is dropped for one more."""
_EVERY = 1.0

What: TypeAlias = Literal["first", "whole", "late", "failed"]
"""A stream's first content, a whole answer, one given up without content after at least so long, a failure."""


class Sample(NamedTuple):
    """What an attempt showed."""

    what: What
    provider: str
    at: float
    seconds: float = 0.0
    streaming: bool = False
    prompt_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Anomaly:
    """One provider, against what it used to be.

    ``slow``: its latencies have moved up for good; ``slowdown`` is how many times the usual the recent ones take.
    ``failing``: it fails more often; ``error_rate`` lately, ``usual_error_rate`` before.  ``samples`` is how many
    attempts this rests on; nothing is judged before 64.
    """

    provider: str
    slow: bool
    slowdown: float
    failing: bool
    error_rate: float
    usual_error_rate: float
    samples: int

    @property
    def wrong(self) -> bool:
        """Whether anything is."""
        return self.slow or self.failing


class _Known:
    """What is known about a provider."""

    __slots__ = ("failures", "first", "prompt", "samples", "statistics", "whole")

    def __init__(self, statistics: Statistics) -> None:
        self.statistics = statistics  # makes latencies comparable by the length of prompt and answer
        self.first, self.whole, self.failures = Slowdown(), Slowdown(), Failures()
        self.prompt = 0.0
        self.samples = 0

    def take(self, sample: Sample) -> None:
        self.samples += 1
        if sample.what == "failed":
            self.failures.add(failed=True)
            return
        if sample.what == "late":
            detector = self.first if sample.streaming else self.whole
            seconds = sample.seconds / self.statistics.scale(int(self.prompt))
            if seconds > detector.usual:  # that it was not there sooner is all that is known
                detector.add(seconds)
            return
        self.failures.add(failed=False)
        self.prompt += (sample.prompt_tokens - self.prompt) / 16.0
        if sample.what == "first":
            self.first.add(self.statistics.first_token(sample.at, sample.seconds, sample.prompt_tokens))
        else:
            seen, tokens = self.statistics, sample.output_tokens
            self.whole.add(seen.whole_answer(sample.at, sample.seconds, sample.prompt_tokens, tokens))

    def status(self, provider: str) -> Anomaly:
        worst = self.whole if self.whole.raised or not self.first.raised else self.first
        return Anomaly(
            provider,
            worst.raised,
            worst.factor,
            self.failures.raised,
            self.failures.recent,
            self.failures.usual,
            self.samples,
        )


@final
class Anomalies(Watcher):
    """Tells when a provider of a client has become slower, or fails more often, than it used to.

    :meth:`status` says how each stands; given to ``Alerts(client, ..., watch=[anomalies])``, what is wrong is an alert.
    Rate limits, refused keys and what a caller caused count for nothing, as for the breaker.  An attempt costs the
    call's path a few microseconds: it is looked at once a second on the background thread.
    """

    def __init__(self, client: HasPool) -> None:
        self._pool = pool_of(client, "Anomalies")
        self._queue: deque[Sample] = deque(maxlen=MOST_QUEUED)
        self._known: dict[str, _Known] = {}
        self._lock = threading.Lock()
        tell_after_fork(self)
        self._background = background_of(self._pool)
        self._stop = self._background.every(_EVERY, self.digest)
        self._pool.observe(self)

    def status(self) -> tuple[Anomaly, ...]:
        """How each provider stands that was asked since this began."""
        self.digest()
        with self._lock:
            return tuple(known.status(provider) for provider, known in self._known.items())

    def conditions(self, now: float) -> Iterator[Condition]:
        """For alerts: what is wrong."""
        found = self.status()
        slow, failing = [one for one in found if one.slow], [one for one in found if one.failing]
        others = len(self._pool.pool.targets()) > 1
        by_itself = "; if it gets worse, traffic moves away by itself" if others else ""
        everywhere = "all providers at once, so look at this process and its network first"
        for one in slow:
            detail = f"it takes {one.slowdown:.1f} times as long as usual for answers of the same length; "
            hint = everywhere if len(found) == len(slow) > 1 else f"calls there are answered, only later{by_itself}"
            yield Condition("latency_anomaly", one.provider, "warning", detail + hint)
        for one in failing:
            detail = f"{one.error_rate:.0%} of attempts failed lately, usually {one.usual_error_rate:.1%}; "
            hint = everywhere if len(found) == len(failing) > 1 else f"second tries answer in its place{by_itself}"
            yield Condition("error_anomaly", one.provider, "warning", detail + hint)

    def digest(self) -> None:
        """Look at what has come in.  Done once a second by itself."""
        with self._lock:
            while self._queue:
                sample = self._queue.popleft()
                known = self._known.get(sample.provider)
                if known is None:
                    known = self._known[sample.provider] = _Known(Statistics(self._pool.policies.advanced))
                known.take(sample)
            ids = {target.id for target in self._pool.pool.targets()}
            for gone in self._known.keys() - ids:
                del self._known[gone]

    def close(self) -> None:
        """Stop watching."""
        self._stop()
        self._pool.unobserve(self)

    def take(self, sample: Sample) -> None:
        """Add what an attempt showed.  For the calls; waits for nobody."""
        self._queue.append(sample)

    def clock(self) -> float:
        """The client's monotonic time."""
        return self._pool.clock()

    @override
    def call(
        self,
        operation: Operation,
        request: ChatRequest | EmbedRequest,
        route: str,
        target: Described | None,
        *,
        streaming: bool,
        call_id: str,
    ) -> CallObserver:
        """A call begins."""
        return _Call(self, streaming)

    def reset_after_fork(self) -> None:
        """In the child process: what the parent has learnt holds, what it has not looked at yet is its own."""
        self._lock = threading.Lock()
        self._queue.clear()


class _Call(CallWatcher):
    """One call."""

    __slots__ = ("answered", "first_at", "owner", "streaming")

    def __init__(self, owner: Anomalies, streaming: bool) -> None:
        self.owner = owner
        self.streaming = streaming
        self.first_at: float | None = None
        self.answered: tuple[str, float, float] | None = None
        """By whom, when that attempt began, and how long it took."""

    @override
    def attempt(self, target: Described, number: int, kind: str, delay: float) -> AttemptObserver:
        return _Attempt(self, target.id, self.owner.clock())

    @override
    def first_chunk(self, seconds: float) -> None:
        if self.first_at is None:
            self.first_at = self.owner.clock()

    @override
    def succeeded(self, response: ChatResponse | EmbedResponse, target: Described, seconds: float) -> None:
        if self.answered is None:
            return
        provider, started, took = self.answered
        usage = response.usage or _NONE
        now, prompt, output = self.owner.clock(), usage.input_tokens, usage.output_tokens
        if not self.streaming:
            self.owner.take(Sample("whole", provider, now, took, False, prompt, output))
        elif self.first_at is not None:
            self.owner.take(Sample("first", provider, now, self.first_at - started, True, prompt))


_NONE: Final = Usage()


class _Attempt(AttemptWatcher):
    """One attempt."""

    __slots__ = ("_call", "_provider", "_started")

    def __init__(self, call: _Call, provider: str, started: float) -> None:
        self._call = call
        self._provider = provider
        self._started = started

    @override
    def ended(self, record: AttemptRecord, *, selected: bool, usage: Usage | None = None) -> None:
        call, fault = self._call, record.fault
        if fault is not None:
            if disposition(fault).outcome in (Outcome.HARD, Outcome.SOFT):
                call.owner.take(Sample("failed", self._provider, call.owner.clock()))
        elif selected:
            call.answered = (self._provider, self._started, record.duration)
        elif record.outcome == "cancelled":
            now = call.owner.clock()
            waited = (now if call.first_at is None else call.first_at) - self._started
            call.owner.take(Sample("late", self._provider, now, waited, call.streaming))
