"""The instruments, made once per meter provider and dialect from the table in ``names``.

Without an SDK the API hands out proxies that start to record when a provider is set later.  Gauges are observed from
weakly held pools and cost calls nothing; their callbacks cannot be unregistered, so there is one per instrument and
not one per client.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from typing import Protocol, TypeAlias
from weakref import WeakKeyDictionary, WeakSet

from opentelemetry import metrics
from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Meter, MeterProvider, Observation

from resilient_llm.drive.observer import SupportsSnapshot
from resilient_llm.health import ProviderHealth
from resilient_llm.telemetry import names
from resilient_llm.telemetry.names import Metric, Semconv

Labels: TypeAlias = dict[str, str | int]
"""The attributes of one metric point."""


class Reported(Protocol):
    """One rate limit as a provider reported it; ``None`` is unknown, ``reset_in`` is seconds until it is full."""

    @property
    def limit(self) -> int | None: ...

    @property
    def remaining(self) -> int | None: ...

    @property
    def reset_in(self) -> float | None: ...


class ReportedLimits(Protocol):
    """All rate limits of one answer."""

    @property
    def requests(self) -> Reported: ...

    @property
    def tokens(self) -> Reported: ...

    @property
    def input_tokens(self) -> Reported: ...

    @property
    def output_tokens(self) -> Reported: ...


class Observed(Protocol):
    """One client, as the gauges see it."""

    name: str

    def pools(self) -> list[tuple[SupportsSnapshot, Callable[[], float]]]:
        """The pools it watches, each with the clock its times come from."""
        ...

    def labels(self, provider: str) -> Labels | None:
        """Client, provider and vendor; ``None`` for a provider it has never met."""
        ...

    def limits(self) -> Iterable[tuple[Labels, ReportedLimits, float]]:
        """Rate limits last reported, per provider: labels with the model, the limits, seconds since."""
        ...


class Instruments:
    """Everything that records, for one meter provider and dialect."""

    def __init__(self, meter: Meter, semconv: Semconv) -> None:
        self.observed: WeakSet[Observed] = WeakSet()
        old, new = semconv != "0.1.0", semconv != "1.41"
        histogram, counter = partial(_histogram, meter), partial(_counter, meter)
        self.attempt_duration: Histogram = histogram(names.ATTEMPT_DURATION)
        self.call_attempts: Histogram = histogram(names.CALL_ATTEMPTS)
        self.retry_delay: Histogram = histogram(names.RETRY_DELAY)
        self.retries: Counter = counter(names.RETRIES)
        self.failovers: Counter = counter(names.FAILOVERS)
        self.hedges: Counter = counter(names.HEDGES)
        self.rejections: Counter = counter(names.REJECTIONS)
        self.wasted_tokens: Counter = counter(names.WASTED_TOKENS)
        self.transitions: Counter = counter(names.TRANSITIONS)
        self.ejections: Counter = counter(names.EJECTIONS)
        self.gate_closures: Counter = counter(names.GATE_CLOSURES)
        operation_duration = (histogram(names.OPERATION_DURATION),)
        inference_duration = (histogram(names.INFERENCE_DURATION),) if new else ()
        # The new name is for inference alone; other operations keep the old one.
        self.durations: Mapping[str, tuple[Histogram, ...]] = {
            "chat": (operation_duration if old else ()) + inference_duration,
            "embeddings": operation_duration,
        }
        first_old = (histogram(names.FIRST_CHUNK),) if old else ()
        self.first_chunk: tuple[Histogram, ...] = first_old + ((histogram(names.INFERENCE_FIRST_CHUNK),) if new else ())
        self.token_usage: Histogram | None = histogram(names.TOKEN_USAGE) if old else None
        self.inference: InferenceUsage | None = InferenceUsage(histogram, counter) if new else None
        self._bound = self.attempt_duration
        _observe(meter, self.observed)

    @property
    def listening(self) -> bool:
        """Whether a measurement can reach anybody.

        The API has no ``enabled``; its proxies hold the real instrument once there is one.  If they ever do so under
        another name, everything is simply recorded into them, at 0.1 us each.
        """
        return getattr(self._bound, "_real_instrument", self._bound) is not None


class InferenceUsage:
    """Token counts of the ``0.1.0`` dialect: per call as histograms, in total as counters."""

    def __init__(self, histogram: Callable[[Metric], Histogram], counter: Callable[[Metric], Counter]) -> None:
        self.input: Histogram = histogram(names.INFERENCE_INPUT)
        self.output: Histogram = histogram(names.INFERENCE_OUTPUT)
        self._totals = (
            counter(names.USAGE_INPUT),
            counter(names.USAGE_OUTPUT),
            counter(names.USAGE_CACHE_READ),
            counter(names.USAGE_CACHE_WRITE),
            counter(names.USAGE_REASONING),
        )

    def record(self, counts: tuple[int, int, int, int, int], labels: Labels, modal: Labels, at: Context | None) -> None:
        """``counts``: input, output, cache read, cache write, reasoning."""
        self.input.record(counts[0], labels, context=at)
        self.output.record(counts[1], labels, context=at)
        for index, (total, count) in enumerate(zip(self._totals, counts, strict=True)):
            if count or index < 2:  # input and output also when zero, the rarer ones only if there were any
                total.add(count, modal, context=at)


_lock = threading.Lock()
_global: dict[Semconv, Instruments] = {}
_given: WeakKeyDictionary[MeterProvider, dict[Semconv, Instruments]] = WeakKeyDictionary()


def instruments(provider: MeterProvider | None, semconv: Semconv) -> Instruments:
    """The instruments of this provider (``None``: the global one, now or later), made on first use."""
    with _lock:
        known = _global if provider is None else _given.setdefault(provider, {})
        found = known.get(semconv)
        if found is None:
            schema = names.SCHEMA_URL if semconv == "1.41" else None
            meter = metrics.get_meter(names.SCOPE, library_version(), provider, schema)
            found = known[semconv] = Instruments(meter, semconv)
        return found


@cache
def library_version() -> str:
    """The installed version; empty when run from a source tree."""
    try:
        return version("resilient-llm")
    except PackageNotFoundError:
        return ""


def _histogram(meter: Meter, metric: Metric) -> Histogram:
    return meter.create_histogram(
        metric.name, metric.unit, metric.brief, explicit_bucket_boundaries_advisory=metric.buckets
    )


def _counter(meter: Meter, metric: Metric) -> Counter:
    return meter.create_counter(metric.name, metric.unit, metric.brief)


# --- gauges ------------------------------------------------------------------------------------------------

Reading: TypeAlias = Callable[[Observed], Iterator[Observation]]


def _observe(meter: Meter, observed: WeakSet[Observed]) -> None:
    for metric, reading in _READINGS:
        make = meter.create_observable_gauge if metric.kind == "gauge" else meter.create_observable_up_down_counter
        make(metric.name, [partial(_read, observed, reading)], metric.unit, metric.brief)


def _read(observed: WeakSet[Observed], reading: Reading, options: CallbackOptions) -> list[Observation]:
    return [observation for client in list(observed) for observation in reading(client)]


def _providers(client: Observed) -> Iterator[tuple[Labels, ProviderHealth]]:
    for pool, clock in client.pools():
        for found in pool.snapshot(clock()):
            labels = client.labels(found.id)
            if labels is not None:
                yield labels, found


def _breakers(client: Observed) -> Iterator[Observation]:
    for labels, found in _providers(client):
        for state in names.BREAKER_STATES:
            yield Observation(int(found.breaker == state), {**labels, names.BREAKER_STATE: state})


def _scores(client: Observed) -> Iterator[Observation]:
    return (Observation(found.score, labels) for labels, found in _providers(client))


def _ejected(client: Observed) -> Iterator[Observation]:
    for labels, found in _providers(client):
        yield Observation(int(found.drained or found.breaker in ("open", "isolated")), labels)


def _active(client: Observed) -> Iterator[Observation]:
    return (Observation(found.in_flight, labels) for labels, found in _providers(client))


def _waiting(client: Observed) -> Iterator[Observation]:
    return (Observation(found.waiting, labels) for labels, found in _providers(client))


def _budgets(client: Observed) -> Iterator[Observation]:
    for pool, _ in client.pools():
        budgets: Mapping[str, float] = getattr(pool, "budgets", {})
        for kind, left in budgets.items():
            yield Observation(left, {names.CLIENT_NAME: client.name, names.BUDGET_TYPE: kind})


_REQUESTS = ("requests",)
_TOKENS = ("tokens", "input_tokens", "output_tokens")


def _limits(client: Observed, kinds: tuple[str, ...]) -> Iterator[tuple[Labels, Reported]]:
    """Limits still believed: a bucket that is full again by its own account is no news."""
    for labels, limits, age in client.limits():
        for kind in kinds:
            limit: Reported = getattr(limits, kind)
            if limit.reset_in is None or age < limit.reset_in:
                yield {**labels, names.RATE_LIMIT_TYPE: kind}, limit


def _limit(client: Observed, kinds: tuple[str, ...]) -> Iterator[Observation]:
    return (Observation(found.limit, labels) for labels, found in _limits(client, kinds) if found.limit is not None)


def _remaining(client: Observed, kinds: tuple[str, ...]) -> Iterator[Observation]:
    for labels, found in _limits(client, kinds):
        if found.remaining is not None:
            yield Observation(found.remaining, labels)


def _utilization(client: Observed) -> Iterator[Observation]:
    for labels, found in _limits(client, _REQUESTS + _TOKENS):
        if found.limit and found.remaining is not None:
            share = 1.0 - min(max(found.remaining / found.limit, 0.0), 1.0)
            yield Observation(share, {key: value for key, value in labels.items() if key != names.REQUEST_MODEL})


_READINGS: tuple[tuple[Metric, Reading], ...] = (
    (names.BREAKER, _breakers),
    (names.HEALTH, _scores),
    (names.EJECTED, _ejected),
    (names.ACTIVE, _active),
    (names.WAITING, _waiting),
    (names.BUDGET, _budgets),
    (names.REQUEST_LIMIT, partial(_limit, kinds=_REQUESTS)),
    (names.REQUEST_REMAINING, partial(_remaining, kinds=_REQUESTS)),
    (names.TOKEN_LIMIT, partial(_limit, kinds=_TOKENS)),
    (names.TOKEN_REMAINING, partial(_remaining, kinds=_TOKENS)),
    (names.UTILIZATION, _utilization),
)
