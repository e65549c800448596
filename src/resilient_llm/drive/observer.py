"""What the drivers report while they work, to whoever wants to know.  ``resilient_llm.telemetry`` is one such observer.

No method raises.  Each may run on another thread or task than the one before; of each object, the first end counts.
Who wants to know a part of it derives from :class:`Watcher`, :class:`CallWatcher` and :class:`AttemptWatcher`, which
ignore everything, and is added with ``client.pool.observe(watcher)``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, Protocol, TypeAlias, TypeVar, cast

from resilient_llm.errors import AttemptRecord
from resilient_llm.events import Event
from resilient_llm.health import ProviderHealth
from resilient_llm.model import ChatRequest, ChatResponse, EmbedRequest, EmbedResponse, Usage
from resilient_llm.wire.faults.ratelimit import RateLimits

Operation: TypeAlias = Literal["chat", "embeddings"]


def attempt_id(call_id: str, number: int) -> str:
    """The id of one attempt: in logs, on its span, and where a provider documents a header for it, with its request."""
    return f"{call_id}-{number}"


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

    def conversation(self, conversation: str) -> None:
        """It is part of this conversation, by the caller's own name for it.  Told at the beginning, if at all."""
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


# --- observers that ignore what they do not want to know ---


class AttemptWatcher:
    """An attempt observer that ignores everything; override what is wanted."""

    __slots__ = ()

    def attach(self) -> object:
        """Nothing is made current."""
        return None

    def detach(self, token: object) -> None:
        """Nothing was current."""

    def headers(self) -> Mapping[str, str]:
        """None."""
        return _NO_HEADERS

    def limits(self, reported: RateLimits) -> None:
        """Ignored."""

    def ended(self, record: AttemptRecord, *, selected: bool, usage: Usage | None = None) -> None:
        """Ignored."""


class CallWatcher:
    """A call observer that ignores everything; override what is wanted."""

    __slots__ = ()

    def attempt(self, target: Described, number: int, kind: str, delay: float) -> AttemptObserver:
        """Ignored."""
        return IGNORED_ATTEMPT

    def conversation(self, conversation: str) -> None:
        """Ignored."""

    def first_chunk(self, seconds: float) -> None:
        """Ignored."""

    def succeeded(self, response: ChatResponse | EmbedResponse, target: Described, seconds: float) -> None:
        """Ignored."""

    def failed(self, error: BaseException, seconds: float, target: Described | None = None) -> None:
        """Ignored."""

    def closed_early(self, response: ChatResponse | None, target: Described | None, seconds: float) -> None:
        """Ignored."""


class Watcher:
    """An observer that ignores everything; override what is wanted."""

    __slots__ = ()

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
        """Ignored."""
        return IGNORED_CALL

    def event(self, event: Event) -> None:
        """Ignored."""

    def watch(self, pool: SupportsSnapshot, clock: Callable[[], float]) -> None:
        """Ignored."""


_NO_HEADERS: Final[Mapping[str, str]] = {}
IGNORED_ATTEMPT: Final[AttemptObserver] = AttemptWatcher()
"""Returned by who does not want to know about an attempt; no further report of it is made."""
IGNORED_CALL: Final[CallObserver] = CallWatcher()
"""Returned by who does not want to know about a call; no further report of it is made."""


# --- several observers as one ---


class Observers:
    """Several observers as one, told in order.  One that raises is logged and otherwise ignored."""

    __slots__ = ("all",)

    def __init__(self, every: Sequence[Observer]) -> None:
        self.all: tuple[Observer, ...] = tuple(every)

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
        begun: list[CallObserver] = []
        for one in self.all:
            try:
                seen = one.call(operation, request, route, target, streaming=streaming, call_id=call_id)
            except Exception:
                _complain(one)
            else:
                if seen is not IGNORED_CALL:
                    begun.append(seen)
        return begun[0] if len(begun) == 1 else _Calls(begun)

    def event(self, event: Event) -> None:
        """Something changed."""
        for one in self.all:
            try:
                one.event(event)
            except Exception:
                _complain(one)

    def watch(self, pool: SupportsSnapshot, clock: Callable[[], float]) -> None:
        """Observe this pool's state."""
        for one in self.all:
            one.watch(pool, clock)


class _Calls:
    """One call, as several see it."""

    __slots__ = ("_all",)

    def __init__(self, every: Sequence[CallObserver]) -> None:
        self._all: tuple[CallObserver, ...] = tuple(every)

    def attempt(self, target: Described, number: int, kind: str, delay: float) -> AttemptObserver:
        begun: list[AttemptObserver] = []
        for one in self._all:
            try:
                seen = one.attempt(target, number, kind, delay)
            except Exception:
                _complain(one)
            else:
                if seen is not IGNORED_ATTEMPT:
                    begun.append(seen)
        return begun[0] if len(begun) == 1 else _Attempts(begun)

    def conversation(self, conversation: str) -> None:
        _tell(self._all, lambda one: one.conversation(conversation))

    def first_chunk(self, seconds: float) -> None:
        _tell(self._all, lambda one: one.first_chunk(seconds))

    def succeeded(self, response: ChatResponse | EmbedResponse, target: Described, seconds: float) -> None:
        _tell(self._all, lambda one: one.succeeded(response, target, seconds))

    def failed(self, error: BaseException, seconds: float, target: Described | None = None) -> None:
        _tell(self._all, lambda one: one.failed(error, seconds, target))

    def closed_early(self, response: ChatResponse | None, target: Described | None, seconds: float) -> None:
        _tell(self._all, lambda one: one.closed_early(response, target, seconds))


class _Attempts:
    """One attempt, as several see it."""

    __slots__ = ("_all",)

    def __init__(self, every: Sequence[AttemptObserver]) -> None:
        self._all: tuple[AttemptObserver, ...] = tuple(every)

    def attach(self) -> object:
        return [(one, one.attach()) for one in self._all]

    def detach(self, token: object) -> None:
        assert isinstance(token, list)
        for one, own in reversed(cast("list[tuple[AttemptObserver, object]]", token)):
            one.detach(own)

    def headers(self) -> Mapping[str, str]:
        return {name: value for one in self._all for name, value in one.headers().items()}

    def limits(self, reported: RateLimits) -> None:
        _tell(self._all, lambda one: one.limits(reported))

    def ended(self, record: AttemptRecord, *, selected: bool, usage: Usage | None = None) -> None:
        _tell(self._all, lambda one: one.ended(record, selected=selected, usage=usage))


One = TypeVar("One")


def _tell(every: tuple[One, ...], what: Callable[[One], None]) -> None:
    for one in every:
        try:
            what(one)
        except Exception:
            _complain(one)


def _complain(observer: object) -> None:
    complain("an observer failed: %s", type(observer).__name__)


def complain(what: str, name: str) -> None:
    """Log the exception that is being handled, which must not reach the caller."""
    logging.getLogger("resilient_llm").exception(what, name)


class Later:
    """An observer that is made when there is something to observe: to make one may import much."""

    __slots__ = ("_made", "_make", "_watched")

    def __init__(self, make: Callable[[], Observer]) -> None:
        self._make = make
        self._made: Observer | None = None
        self._watched: list[tuple[SupportsSnapshot, Callable[[], float]]] = []

    def _real(self) -> Observer:
        made = self._made
        if made is None:
            made = self._make()
            if self._made is not None:  # another thread made one meanwhile
                return self._made
            self._made = made
            while self._watched:
                made.watch(*self._watched.pop())
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
        made = self._made or self._real()
        return made.call(operation, request, route, target, streaming=streaming, call_id=call_id)

    def event(self, event: Event) -> None:
        """Something changed."""
        self._real().event(event)

    def watch(self, pool: SupportsSnapshot, clock: Callable[[], float]) -> None:
        """Observe this pool's state."""
        if self._made is None:
            self._watched.append((pool, clock))
        else:
            self._made.watch(pool, clock)
