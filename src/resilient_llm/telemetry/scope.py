"""What the calls of one client share: its tracer and instruments, and everything about a provider that can be
prepared once."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias
from weakref import WeakKeyDictionary

from opentelemetry import trace
from opentelemetry.context import get_current
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import INVALID_SPAN, NoOpTracer, Tracer, TracerProvider

from resilient_llm.drive.observer import Described, SupportsSnapshot
from resilient_llm.errors import ConfigurationError
from resilient_llm.telemetry import names
from resilient_llm.telemetry.metrics import (
    Instruments,
    Labels,
    ReportedLimits,
    instruments,
    library_version,
)
from resilient_llm.telemetry.names import Operation, Semconv

SpanValue: TypeAlias = str | bool | int | float | tuple[str, ...]
SpanValues: TypeAlias = dict[str, SpanValue]

_MOST_FACES = 1024
_MOST_POINTS = 256
_OPERATIONS: tuple[Operation, ...] = ("chat", "embeddings")


class Face:
    """One provider's names and prepared attributes.  Its sets of metric attributes are cached, because building them
    costs more than recording."""

    __slots__ = (
        "attempt_name",
        "attempt_start",
        "base",
        "call_start",
        "call_start_streaming",
        "id",
        "model",
        "points",
        "propagate",
        "span_names",
        "target",
        "vendor",
    )

    def __init__(self, client: str, target: Described) -> None:
        self.target: Described = target
        self.id: str = target.id
        self.model: str = target.model
        self.vendor: str = names.VENDORS.get(target.vendor, target.vendor)
        self.propagate: bool = bool(getattr(target, "propagate_trace_context", False))
        server: SpanValues = {}
        if target.host:
            server[names.SERVER_ADDRESS] = target.host
            if target.port is not None:
                server[names.SERVER_PORT] = target.port
        self.base: Labels = {names.CLIENT_NAME: client, names.PROVIDER_ID: self.id, names.PROVIDER_NAME: self.vendor}
        self.span_names: dict[str, str] = {operation: f"{operation} {self.model}" for operation in _OPERATIONS}
        self.attempt_name: str = f"attempt {self.id}"
        self.attempt_start: SpanValues = {**self.base, **server, names.ATTEMPT_MODEL: self.model}
        if target.host:
            self.attempt_start[names.HTTP_METHOD] = "POST"
        self.call_start: dict[str, SpanValues] = {
            operation: {
                names.OPERATION: operation,
                names.PROVIDER_NAME: self.vendor,
                names.REQUEST_MODEL: self.model,
                **server,
            }
            for operation in _OPERATIONS
        }
        self.call_start_streaming: dict[str, SpanValues] = {
            operation: {**start, names.STREAM: True} for operation, start in self.call_start.items()
        }
        self.points: dict[tuple[str | None, ...], Labels] = {}

    def attempt_point(self, kind: str, outcome: str, error_type: str | None) -> Labels:
        """Attributes of an attempt's metrics."""
        key = (kind, outcome, error_type)
        return self.points.get(key) or self._keep(
            key,
            {
                **self.base,
                names.REQUEST_MODEL: self.model,
                names.ATTEMPT_TYPE: kind,
                names.ATTEMPT_OUTCOME: outcome,
                **_if_error(error_type),
            },
        )

    def call_point(self, operation: str, extra: str = "", value: str | None = None) -> Labels:
        """Attributes of a call's ``gen_ai`` metrics; one more of them if ``value`` is given."""
        key = (operation, extra, value)
        return self.points.get(key) or self._keep(key, self._call_point(operation, extra, value))

    def base_point(self, extra: str, value: str | None) -> Labels:
        """Client, provider and vendor, and one more attribute if ``value`` is given."""
        key = ("base", extra, value)
        return self.points.get(key) or self._keep(key, self.base if value is None else {**self.base, extra: value})

    def _call_point(self, operation: str, extra: str, value: str | None) -> Labels:
        start = self.call_start[operation]
        point = {key: found for key, found in start.items() if isinstance(found, str | int)}
        return point if value is None else {**point, extra: value}

    def _keep(self, key: tuple[str | None, ...], point: Labels) -> Labels:
        if len(self.points) >= _MOST_POINTS:
            self.points.clear()
        self.points[key] = point
        return point


def _if_error(error_type: str | None) -> Labels:
    return {} if error_type is None else {names.ERROR_TYPE: error_type}


@dataclass(frozen=True, slots=True)
class Nobody:
    """Stands in while no provider has been chosen."""

    id: str = ""
    vendor: str = "resilient_llm"
    model: str = ""
    host: str | None = None
    port: int | None = None


class Scope:
    """Shared by the calls of one client; holds its pools weakly and nothing about a call."""

    def __init__(
        self,
        name: str,
        tracer_provider: TracerProvider | None,
        meter_provider: MeterProvider | None,
        semconv: Semconv | None,
    ) -> None:
        self.name = name
        self.semconv: Semconv = semconv_from_environment() if semconv is None else semconv
        if self.semconv not in ("1.41", "0.1.0", "dup"):
            raise ConfigurationError(f'semconv must be "1.41", "0.1.0" or "dup", not {semconv!r}')
        self.capture: bool = capture_from_environment()
        self.tracer: Tracer = _tracer(tracer_provider, self.semconv)
        self.instruments: Instruments = instruments(meter_provider, self.semconv)
        self.nobody: Face = Face(name, Nobody())
        self.nobody.span_names = {operation: operation for operation in _OPERATIONS}
        for start in (*self.nobody.call_start.values(), *self.nobody.call_start_streaming.values()):
            del start[names.REQUEST_MODEL]
        self._faces: dict[str, Face] = {}
        self._routes: dict[str, Labels] = {}
        self._limits: dict[str, tuple[ReportedLimits, float]] = {}
        self.left: deque[Callable[[], None]] = deque()
        """Ends that finalisers left behind."""
        self._pools: WeakKeyDictionary[SupportsSnapshot, Callable[[], float]] = WeakKeyDictionary()

    def face(self, target: Described | None) -> Face:
        """The provider's prepared face; made anew if another provider took over the id."""
        if target is None:
            return self.nobody
        known = self._faces.get(target.id)
        return known if known is not None and known.target is target else self._meet(target)

    def settle(self) -> None:
        """Report what finalisers left behind."""
        while self.left:
            try:
                end = self.left.popleft()
            except IndexError:  # another thread took the last one
                return
            end()

    def traceless(self) -> bool:
        """Whether a span would be a no-op that carries nothing: no tracer provider, and nothing current.

        Asks the API's proxy for the tracer behind it; should that ever have another name, spans are simply started.
        """
        behind = getattr(self.tracer, "_tracer", self.tracer)
        if type(behind) is not NoOpTracer:
            return False
        current = get_current()
        return not current or trace.get_current_span(current) is INVALID_SPAN

    def _meet(self, target: Described) -> Face:
        if len(self._faces) >= _MOST_FACES:
            self._faces.clear()
        face = self._faces[target.id] = Face(self.name, target)
        return face

    def route(self, route: str) -> Labels:
        """Client and route."""
        known = self._routes.get(route)
        if known is None:
            if len(self._routes) >= _MOST_FACES:
                self._routes.clear()
            known = self._routes[route] = {names.CLIENT_NAME: self.name, names.ROUTE_NAME: route}
        return known

    def known_face(self, provider: str) -> Face | None:
        """The face behind an id; looked for among the watched pools' providers if no call has used it yet."""
        known = self._faces.get(provider)
        if known is not None:
            return known
        for pool in list(self._pools):
            targets: Callable[[], tuple[Described, ...]] | None = getattr(pool, "targets", None)
            for target in targets() if targets is not None else ():
                if target.id == provider:
                    return self.face(target)
        return None

    # --- what gauges read ---

    def watch(self, pool: SupportsSnapshot, clock: Callable[[], float]) -> None:
        """Observe this pool for as long as it lives."""
        self._pools[pool] = clock
        self.instruments.observed.add(self)

    def report(self, face: Face, limits: ReportedLimits) -> None:
        """Remember what a provider said about its limits."""
        self._limits[face.id] = (limits, time.monotonic())

    def pools(self) -> list[tuple[SupportsSnapshot, Callable[[], float]]]:
        return list(self._pools.items())

    def labels(self, provider: str) -> Labels | None:
        face = self.known_face(provider)
        return None if face is None else face.base

    def limits(self) -> Iterator[tuple[Labels, ReportedLimits, float]]:
        now = time.monotonic()
        for provider, (limits, at) in list(self._limits.items()):
            face = self._faces.get(provider)
            if face is not None:
                yield {**face.base, names.REQUEST_MODEL: face.model}, limits, now - at


def semconv_from_environment() -> Semconv:
    """The dialect ``OTEL_SEMCONV_STABILITY_OPT_IN`` asks for; ``1.41`` if it says nothing about GenAI."""
    chosen = {word.strip() for word in os.environ.get("OTEL_SEMCONV_STABILITY_OPT_IN", "").split(",")}
    return "0.1.0" if "gen_ai_latest_experimental" in chosen else "1.41"


def capture_from_environment() -> bool:
    """Whether the user asked for messages on spans; never without being asked."""
    chosen = os.environ.get("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "").strip().upper()
    return chosen in ("SPAN_ONLY", "SPAN_AND_EVENT")


_tracers: dict[Semconv, Tracer] = {}


def _tracer(provider: TracerProvider | None, semconv: Semconv) -> Tracer:
    """The one tracer of the global provider, whenever that is set; or one of the provider given."""
    schema = names.SCHEMA_URL if semconv == "1.41" else None
    if provider is not None:
        return trace.get_tracer(names.SCOPE, library_version(), provider, schema)
    found = _tracers.get(semconv)
    if found is None:
        found = _tracers[semconv] = trace.get_tracer(names.SCOPE, library_version(), schema_url=schema)
    return found
