"""Alerts beside a client: it is looked at off the path of its calls, and people are told."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self, cast, final

from typing_extensions import override

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
from resilient_llm.errors import AttemptRecord, ConfigurationError
from resilient_llm.events import BreakerChanged, Event, GateClosed, OperatorChanged
from resilient_llm.model import ChatRequest, ChatResponse, EmbedRequest, EmbedResponse, Usage
from resilient_llm.operate.alerts.book import Book, Rules
from resilient_llm.operate.alerts.conditions import ProviderConditions, Seen
from resilient_llm.operate.alerts.delivery import Delivery, Outlet, described
from resilient_llm.operate.alerts.sinks import AnySink, Log, as_sink
from resilient_llm.operate.alerts.words import RUNBOOKS, TITLES, Alert, Condition, Notification, Source
from resilient_llm.operate.background import HasPool, background_of, pool_of
from resilient_llm.operate.callers import caused_by_caller

_log = logging.getLogger("resilient_llm.alerts")


@final
class Alerts(Watcher):
    """Tells people when something is wrong with the providers of a client, and when it is over.

    ``sinks`` take the notifications: :class:`Log` (alone, if none is given), :class:`Slack`, :class:`PagerDuty`,
    :class:`Email`, :class:`Webhook`, or any function.  ``watch`` adds conditions of other sources, such as
    ``Objectives`` and ``Anomalies``.  ``rules`` say when people are told.  ``runbooks`` is where yours are: a URL to
    which ``#`` and the kind of the alert are appended, or a mapping of kinds to URLs.

    Everything is looked at and sent on one background thread: no call waits for it or fails because of it.  Close it,
    or use it as a context manager, to stop; what is to be told is then told.  Raises ``ConfigurationError`` for what
    cannot be used.
    """

    def __init__(
        self,
        client: HasPool,
        sinks: Sequence[AnySink] = (),
        *,
        watch: Iterable[Source] = (),
        rules: Rules | None = None,
        runbooks: str | Mapping[str, str] = RUNBOOKS,
    ) -> None:
        if callable(sinks) or isinstance(sinks, str) or not isinstance(sinks, Sequence):
            raise ConfigurationError("sinks must be a list")
        self._pool = pool_of(client, "Alerts")
        self._rules = Rules() if rules is None else rules
        self._sources = tuple(watch)
        for source in self._sources:
            if not callable(getattr(source, "conditions", None)):
                raise ConfigurationError(f"watch must hold objects with conditions(now), not {source!r}")
        self._outlets = tuple(Outlet(as_sink(sink)) for sink in sinks or (Log(),))
        self._conditions = ProviderConditions()
        self._book = Book(self._pool.name, self._rules, _Runbooks(runbooks))
        self._attempt = _Attempts(self)
        self._calls: dict[str, _Calls] = {}
        self._firing: tuple[Alert, ...] = ()
        self._asked = self._closed = False
        self._lock = threading.Lock()
        tell_after_fork(self)
        self._background = background_of(self._pool)
        self._stop = self._background.every(self._rules.interval, self.look)
        self._pool.observe(self)

    @property
    def firing(self) -> tuple[Alert, ...]:
        """What fires now, the most severe first."""
        return self._firing

    def deliveries(self) -> tuple[Delivery, ...]:
        """What became of each sink's notifications."""
        return tuple(outlet.state() for outlet in self._outlets)

    def look(self) -> Notification | None:
        """Look now, tell what is to be told, and return it.  Done every ``rules.interval`` seconds by itself."""
        with self._lock:
            self._asked = False
            now, wall = self._pool.clock(), self._pool.wall()
            notification = self._book.update(now, wall, self._held(now), at_once=self._closed)
            self._firing = self._book.firing()
            for outlet in self._outlets if notification is not None else ():
                assert notification is not None
                outlet.put(notification)
            for outlet in sorted(self._outlets, key=Outlet.turn):  # who works goes first
                outlet.deliver(self._pool.clock())
        return notification

    def test(self) -> dict[str, str | None]:
        """Send a test notification through every sink now, on this thread; returns per sink what went wrong (``None``:
        nothing).  For the day you set it up.  Records of incidents and remedies are left out."""
        wall = self._pool.wall()
        alert = Alert("provider_unhealthy", "test", "critical", "this is a test", wall, None, RUNBOOKS)
        over = Alert("provider_unhealthy", "test", "critical", "this is a test", wall, wall, RUNBOOKS)
        found: dict[str, str | None] = {}
        for outlet in self._outlets:
            if not getattr(outlet.sink, "takes_tests", True):
                continue
            try:
                outlet.sink.send(Notification(self._pool.name, wall, (alert,), (), (alert,)))
                outlet.sink.send(Notification(self._pool.name, wall, (), (over,), ()))
            except Exception as error:
                found[outlet.sink.name] = described(error)
            else:
                found[outlet.sink.name] = None
        return found

    def close(self, timeout: float = 2.0) -> None:
        """Stop, and send what is to be sent; returns after ``timeout`` seconds at the latest."""
        self._stop()
        self._pool.unobserve(self)
        self._closed = True
        ends = time.monotonic() + timeout
        self._background.submit(self.look)
        self._background.flush(timeout)
        for outlet in self._outlets:
            outlet.wait(ends - time.monotonic())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @override
    def __repr__(self) -> str:
        return f"<Alerts of {self._pool.name!r}: {', '.join(outlet.sink.name for outlet in self._outlets)}>"

    # --- what the drivers report ---

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
        return self._calls.get(route) or self._calls.setdefault(route, _Calls(self, route, self._attempt))

    @override
    def event(self, event: Event) -> None:
        """Something changed."""
        if isinstance(event, BreakerChanged | OperatorChanged) or (isinstance(event, GateClosed) and event.slow):
            self._soon()

    def ended(self, record: AttemptRecord) -> None:
        """An attempt ended."""
        if self._conditions.ended(record):
            self._soon()

    def call_ended(self, route: str, error: BaseException | None) -> None:
        """A call ended, with this error if it failed."""
        if error is None:
            self._conditions.answered(route)
        elif not caused_by_caller(error):
            self._conditions.unanswered(route, self._pool.clock())

    def reset_after_fork(self) -> None:
        """In the child process."""
        self._lock = threading.Lock()
        self._asked = False
        for outlet in self._outlets:
            outlet.reset_after_fork()

    # --- internals ---

    def _soon(self) -> None:
        """Look as soon as the background thread gets to it."""
        if not self._asked:
            self._asked = True
            if not self._background.submit(self.look):
                self._asked = False

    def _held(self, now: float) -> list[Condition]:
        pool = self._pool.pool
        routes = {name: [target.id for target in pool.targets(name)] for name in pool.route_names}
        seen = Seen(pool.snapshot(now), routes, pool.budgets["extra"])
        held = list(self._conditions.now(seen, now))
        for source in self._sources:
            try:
                held += source.conditions(now)
            except Exception:
                _log.exception("a source of conditions failed: %s", type(source).__name__)
        return held


class _Calls(CallWatcher):
    """Every call of a route looks the same: only how it and its attempts end matters."""

    __slots__ = ("_alerts", "_attempt", "_route")

    def __init__(self, alerts: Alerts, route: str, attempt: _Attempts) -> None:
        self._alerts, self._route, self._attempt = alerts, route, attempt

    @override
    def attempt(self, target: Described, number: int, kind: str, delay: float) -> AttemptObserver:
        return self._attempt

    @override
    def succeeded(self, response: ChatResponse | EmbedResponse, target: Described, seconds: float) -> None:
        self._alerts.call_ended(self._route, None)

    @override
    def failed(self, error: BaseException, seconds: float, target: Described | None = None) -> None:
        self._alerts.call_ended(self._route, error)


class _Attempts(AttemptWatcher):
    """Every attempt looks the same: only how it ends matters."""

    __slots__ = ("_alerts",)

    def __init__(self, alerts: Alerts) -> None:
        self._alerts = alerts

    @override
    def ended(self, record: AttemptRecord, *, selected: bool, usage: Usage | None = None) -> None:
        self._alerts.ended(record)


class _Runbooks:
    """The runbook of each kind."""

    def __init__(self, runbooks: object) -> None:
        if isinstance(runbooks, Mapping):
            own = cast("Mapping[object, object]", runbooks)
            unknown = [repr(kind) for kind in own if kind not in TITLES]
            if unknown:
                raise ConfigurationError(f"runbooks names {', '.join(unknown)}; kinds are {', '.join(TITLES)}")
            self._own: dict[str, str] = {str(kind): str(url) for kind, url in own.items()}
            self._base = RUNBOOKS
        elif isinstance(runbooks, str):
            self._own, self._base = {}, runbooks
        else:
            raise ConfigurationError(f"runbooks must be a URL or a mapping of kinds to URLs, not {runbooks!r}")

    def __call__(self, kind: str) -> str:
        return self._own.get(kind) or f"{self._base}#{kind}"
