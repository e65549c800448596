"""Objectives beside a client: what its callers get is counted, call by call."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import cast, final

from opentelemetry.metrics import MeterProvider
from typing_extensions import override

from resilient_llm.drive.fork import tell_after_fork
from resilient_llm.drive.observer import CallObserver, CallWatcher, Described, Operation, Watcher
from resilient_llm.errors import ConfigurationError
from resilient_llm.model import ChatRequest, ChatResponse, EmbedRequest, EmbedResponse
from resilient_llm.operate.alerts.words import Condition
from resilient_llm.operate.background import HasPool, pool_of
from resilient_llm.operate.callers import caused_by_caller
from resilient_llm.operate.objectives import gauges
from resilient_llm.operate.objectives.ledger import Ledger, Objective, ObjectiveStatus


class _Call(CallWatcher):
    """One call, until its first end."""

    __slots__ = ("_first", "_owner", "_route")

    def __init__(self, owner: Objectives, route: str) -> None:
        self._owner: Objectives | None = owner
        self._route = route
        self._first: float | None = None

    @override
    def first_chunk(self, seconds: float) -> None:
        if self._first is None:
            self._first = seconds

    @override
    def succeeded(self, response: ChatResponse | EmbedResponse, target: Described, seconds: float) -> None:
        self._end(True, seconds if self._first is None else self._first)

    @override
    def failed(self, error: BaseException, seconds: float, target: Described | None = None) -> None:
        if caused_by_caller(error):
            self._owner = None
        else:
            self._end(False, None)

    @override
    def closed_early(self, response: ChatResponse | None, target: Described | None, seconds: float) -> None:
        # Whoever gave up without an answer had waited at least this long; nothing else is known.
        self._end(None, seconds if self._first is None else self._first)

    def _end(self, answered: bool | None, seconds: float | None) -> None:
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.record(self._route, answered=answered, seconds=seconds)


@final
class Objectives(Watcher):
    """Watches what callers of a client get, against what they were promised.

    ``promised``: an :class:`Objective` for every route, or a mapping of routes to them.  :meth:`status` tells how they
    stand; given to ``Alerts(client, ..., watch=[objectives])``, one that burns its error budget is an alert.
    ``meter_provider``: where the gauges go (``None``: OpenTelemetry's global one).

    Each process counts for itself, in about 40 kB per route and objective, for as long as it lives.  Raises
    ``ConfigurationError`` for what makes no sense.
    """

    def __init__(
        self,
        client: HasPool,
        promised: Objective | Mapping[str, Objective] | None = None,
        *,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        self._pool = pool_of(client, "Objectives")
        self._promised = _by_route(Objective() if promised is None else promised, self._pool.pool.route_names)
        self._lock = threading.Lock()
        self._ledgers: dict[str, tuple[Ledger, ...]] = {}
        self._begin()
        tell_after_fork(self)
        self._pool.observe(self)
        gauges.show(self, meter_provider)

    @property
    def client(self) -> str:
        """The client's name."""
        return self._pool.name

    def status(self) -> tuple[ObjectiveStatus, ...]:
        """How every objective of every route stands now."""
        with self._lock:
            now = self._pool.clock()
            return tuple(ledger.status(now) for ledgers in self._ledgers.values() for ledger in ledgers)

    def conditions(self, now: float) -> Iterator[Condition]:
        """For alerts: the objectives whose error budget burns."""
        for found in self.status():
            if found.burning is not None:
                rates = ", ".join(f"{rate:.1f} over {window}" for window, rate in found.burn.items() if rate >= 1.0)
                detail = f"{found.budget_left:.0%} of the budget is left; times as fast as it may: {rates}"
                subject = f"the {found.objective} of route {found.route}"
                yield Condition("error_budget_burning", subject, found.burning, detail)

    def record(self, route: str, *, answered: bool | None, seconds: float | None) -> None:
        """Count a call of your own, one that did not go through the client say.

        ``answered`` ``None``: nobody knows, because its caller gave up.  ``seconds``: until the answer or its first
        content; ``None``: there was none.  Calls of the client are counted by themselves.
        """
        now = self._pool.clock()
        with self._lock:
            for ledger in self._ledgers.get(route, ()):
                if ledger.objective == "availability":
                    if answered is not None:
                        ledger.add(now, bad=not answered)
                elif ledger.within is not None:
                    late = seconds is None or seconds > ledger.within
                    if answered is not None or late:
                        ledger.add(now, bad=late)

    def close(self) -> None:
        """Stop watching."""
        self._pool.unobserve(self)
        gauges.hide(self)

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
        if route not in self._ledgers:
            self._meet(route)
        return _Call(self, route)

    def reset_after_fork(self) -> None:
        """In the child process: what the parent's callers got is the parent's."""
        self._lock = threading.Lock()
        self._begin()

    # --- internals ---

    def _begin(self) -> None:
        self._ledgers = {}
        for route in self._pool.pool.route_names:
            self._meet(route)

    def _meet(self, route: str) -> None:
        """Begin to count for a route; ``replace_providers`` may have brought a new one."""
        promised = self._promised.get(route, self._promised.get(""))
        made: list[Ledger] = []
        now = self._pool.clock()
        if promised is not None and promised.availability is not None:
            made.append(Ledger(route, "availability", promised.availability, None, now))
        if promised is not None and promised.within is not None:
            made.append(Ledger(route, "latency", promised.share, promised.within, now))
        with self._lock:
            known = {name: found for name, found in self._ledgers.items() if name in self._pool.pool.route_names}
            self._ledgers = {**known, route: self._ledgers.get(route, tuple(made))}


def _by_route(promised: object, routes: tuple[str, ...]) -> dict[str, Objective]:
    """Objectives by route; under the empty name the one for every route."""
    if isinstance(promised, Objective):
        return {"": promised}
    if not isinstance(promised, Mapping):
        raise ConfigurationError(f"objectives are an Objective, or a mapping of routes to them, not {promised!r}")
    found: dict[str, Objective] = {}
    for route, objective in cast("Mapping[object, object]", promised).items():
        if route not in routes:
            raise ConfigurationError(f"there is no route {route!r}; there are {', '.join(routes)}")
        if not isinstance(objective, Objective):
            raise ConfigurationError(f"the objective of route {route!r} must be an Objective, not {objective!r}")
        found[str(route)] = objective
    return found
