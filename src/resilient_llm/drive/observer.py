"""What the drivers report while they work, to whoever wants to know.  ``resilient_llm.telemetry`` is one such observer.

No method raises.  Each may run on another thread or task than the one before; of each object, the first end counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, Protocol, TypeAlias

from resilient_llm.errors import AttemptRecord
from resilient_llm.events import Event
from resilient_llm.health import ProviderHealth
from resilient_llm.model import ChatRequest, ChatResponse, EmbedRequest, EmbedResponse, Usage
from resilient_llm.wire.faults.ratelimit import RateLimits

Operation: TypeAlias = Literal["chat", "embeddings"]


class Described(Protocol):
    """A provider, as observers need it.  ``host`` ``None``: it is not reached over a network; ``port`` ``None``:
    unknown.  It may also have ``propagate_trace_context``; without it that is false."""

    @property
    def id(self) -> str: ...

    @property
    def vendor(self) -> str: ...

    @property
    def model(self) -> str: ...

    @property
    def host(self) -> str | None: ...

    @property
    def port(self) -> int | None: ...


class AttemptObserver(Protocol):
    """One attempt."""

    def attach(self) -> object:
        """Make it current around the send; give the token to :meth:`detach` in the same function."""
        ...

    def detach(self, token: object) -> None:
        """What was current before is current again."""
        ...

    def headers(self) -> Mapping[str, str]:
        """Headers to add to its request."""
        ...

    def limits(self, reported: RateLimits) -> None:
        """Rate limits the provider reported with its answer."""
        ...

    def ended(self, record: AttemptRecord, *, selected: bool, usage: Usage | None = None) -> None:
        """It is over.  ``selected``: the caller gets its answer.  ``usage``: tokens of an answer that nobody gets."""
        ...


class CallObserver(Protocol):
    """One call, from before its first attempt to its end.  Times are seconds since it began."""

    def attempt(self, target: Described, number: int, kind: str, delay: float) -> AttemptObserver:
        """An attempt begins.  ``delay`` is the wait before it in seconds."""
        ...

    def first_chunk(self, seconds: float) -> None:
        """A stream's first content."""
        ...

    def succeeded(self, response: ChatResponse | EmbedResponse, target: Described, seconds: float) -> None:
        """Answered by ``target``."""
        ...

    def failed(self, error: BaseException, seconds: float, target: Described | None = None) -> None:
        """No answer.  ``target`` is the provider to name (``None``: the last one asked)."""
        ...

    def closed_early(self, response: ChatResponse | None, target: Described | None, seconds: float) -> None:
        """The caller closed the stream, or cancelled the call.  ``response`` is what had arrived."""
        ...


class SupportsSnapshot(Protocol):
    """A pool, as gauges read it."""

    def snapshot(self, now: float) -> tuple[ProviderHealth, ...]: ...


class Observer(Protocol):
    """One client's."""

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
        """A call begins.  ``target`` is the provider it will probably go to (``None``: nobody yet)."""
        ...

    def event(self, event: Event) -> None:
        """Something changed: a breaker, a gate, a budget, an operator's doing."""
        ...

    def watch(self, pool: SupportsSnapshot, clock: Callable[[], float]) -> None:
        """Observe this pool's state for as long as both live."""
        ...


class Later:
    """An observer that is made when there is something to observe: making one may import much."""

    def __init__(self, make: Callable[[], Observer]) -> None:
        self._make = make
        self._made: Observer | None = None
        self._watched: list[tuple[SupportsSnapshot, Callable[[], float]]] = []

    @property
    def real(self) -> Observer:
        """The one that observes.  Two threads may make one each; the first counts."""
        made = self._made
        if made is None:
            made = self._make()
            for pool, clock in self._watched:
                made.watch(pool, clock)
            self._made = made
        return made

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
        return self.real.call(operation, request, route, target, streaming=streaming, call_id=call_id)

    def event(self, event: Event) -> None:
        """Something changed."""
        self.real.event(event)

    def watch(self, pool: SupportsSnapshot, clock: Callable[[], float]) -> None:
        """Observe this pool's state."""
        if self._made is None:
            self._watched.append((pool, clock))
        else:
            self._made.watch(pool, clock)
