"""Writes incidents down while they happen: a sink of alerts that also watches events and calls."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, final

from typing_extensions import override

from resilient_llm.drive.fork import tell_after_fork
from resilient_llm.drive.observer import (
    IGNORED_ATTEMPT,
    AttemptObserver,
    CallObserver,
    CallWatcher,
    Described,
    Operation,
    Watcher,
)
from resilient_llm.errors import ConfigurationError
from resilient_llm.events import BreakerChanged, Event, GateClosed, OperatorChanged
from resilient_llm.model import ChatRequest, ChatResponse, EmbedRequest, EmbedResponse
from resilient_llm.operate.alerts.words import SEVERITIES, Notification, Severity, checked_severity
from resilient_llm.operate.background import HasPool, background_of, pool_of
from resilient_llm.operate.callers import caused_by_caller
from resilient_llm.operate.incidents.page import page
from resilient_llm.operate.incidents.record import Bucket, Incident, Moment

MOST_KEPT: Final = 20
"""Incidents that are kept in memory."""
_WIDTH: Final = 10.0  # seconds per bucket of calls
_BEFORE: Final = 300.0  # seconds before the first alert that belong to the record
_EVERY: Final = 5.0
_REWRITE: Final = 30.0

_log = logging.getLogger("resilient_llm.incidents")


@final
class Incidents(Watcher):
    """Keeps a record of each incident: from the first alert to the end of the last.

    Give it to ``Alerts`` among the sinks.  ``directory``: where each is written as JSON and HTML, at its beginning,
    while it lasts and at its end (``None``: memory only); the newest ``keep`` files stay.  ``least``: the severity of
    the alerts that make an incident.  ``open`` is the one that lasts, :meth:`recent` the last twenty.

    Everything is written on the background thread.  Where the disk is full or the directory cannot be used, that is
    logged, tried again later, and nothing else happens.  Raises ``ConfigurationError`` for what cannot be used.
    """

    name = "incidents"
    takes_tests = False
    at_hand = True

    def __init__(
        self,
        client: HasPool,
        directory: str | Path | None = None,
        *,
        keep: int = 100,
        least: Severity = "warning",
    ) -> None:
        if isinstance(keep, bool) or not isinstance(keep, int) or keep < 1:
            raise ConfigurationError(f"keep must be a number of 1 or more, not {keep!r}")
        if directory is not None and not isinstance(directory, str | Path):
            raise ConfigurationError(f"directory must be a path or None, not {directory!r}")
        self.least: Severity = checked_severity("least", least)
        self._directory = None if directory is None else Path(directory)
        self._keep = keep
        self._pool = pool_of(client, "Incidents")
        self._lock = threading.Lock()
        self._counting = threading.Lock()
        """Of the buckets, which calls need: never held for longer than an addition takes."""
        self._events: deque[Event] = deque(maxlen=1000)
        self._past: deque[Moment] = deque(maxlen=200)
        self._buckets: deque[Bucket] = deque(maxlen=int(_BEFORE / _WIDTH))
        self._done: deque[Incident] = deque(maxlen=MOST_KEPT)
        self._open: Incident | None = None
        self._written_at = float("-inf")
        self._unwritten: list[Incident] = []
        self._complained = False
        tell_after_fork(self)
        self._background = background_of(self._pool)
        self._stop = self._background.every(_EVERY, self.digest)
        self._pool.observe(self)

    @property
    def open(self) -> Incident | None:
        """The incident that lasts; ``None``: none."""
        return self._open

    def recent(self) -> tuple[Incident, ...]:
        """The last incidents, the newest first, the one that lasts included."""
        with self._lock:
            found = [*self._done] + ([] if self._open is None else [self._open])
        return tuple(reversed(found))

    def close(self) -> None:
        """Stop watching, and write what is not written."""
        self._stop()
        self._pool.unobserve(self)
        self.digest(at_once=True)

    # --- a sink ---

    def send(self, notification: Notification) -> None:
        """Take what people are told."""
        with self._lock:
            self._collect()
            incident = self._open
            if notification.fired:
                incident = incident or self._begin(notification)
                for alert in notification.fired:
                    incident.fired(alert)
            if incident is None:
                return
            for alert in notification.resolved:
                incident.resolved(alert)
            self._name_providers(incident)
            floor = SEVERITIES.index(self.least)
            if not any(SEVERITIES.index(alert.severity) >= floor for alert in notification.firing):
                self._end(incident, notification.at)
        self._write(at_once=True)

    def did(self, who: str, text: str) -> None:
        """Write down what was done about the incident that lasts, if one does."""
        with self._lock:
            if self._open is not None:
                self._open.add(Moment(self._pool.wall(), "action", who, text))

    def digest(self, *, at_once: bool = False) -> None:
        """Add what has happened to the record, and write it now and then.  Done every five seconds by itself."""
        with self._lock:
            self._collect()
        self._write(at_once=at_once)

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
        return _Call(self)

    @override
    def event(self, event: Event) -> None:
        """Something changed."""
        if isinstance(event, BreakerChanged | GateClosed | OperatorChanged):
            self._events.append(event)

    def ended(self, *, answered: bool, attempts: int) -> None:
        """A call ended."""
        wall = self._pool.wall()
        with self._counting:
            if not self._buckets or wall - self._buckets[-1].at >= _WIDTH:
                self._buckets.append(Bucket(wall - wall % _WIDTH))
            last = self._buckets[-1]
            last.answered += answered
            last.failed += not answered
            last.attempts += attempts

    def reset_after_fork(self) -> None:
        """In the child process: an incident of the parent is the parent's to write down."""
        self._lock, self._counting = threading.Lock(), threading.Lock()
        self._open, self._unwritten = None, []
        self._events.clear()
        self._buckets.clear()

    # --- internals; the lock is held ---

    def _begin(self, notification: Notification) -> Incident:
        began_at = min(alert.began_at for alert in notification.fired)
        stamp = datetime.fromtimestamp(began_at, UTC).strftime("%Y%m%dT%H%M%SZ")
        slug = re.sub(r"[^A-Za-z0-9_-]+", "-", notification.client)[:40]
        incident = Incident(f"incident-{stamp}-{slug}-{os.getpid()}", notification.client, began_at)
        for moment in self._past:
            if moment.at >= began_at - _BEFORE:
                incident.add(moment)
        self._open = incident
        self._hand_over()
        self._complained = False
        return incident

    def _name_providers(self, incident: Incident) -> None:
        """Those that alerts name, and those that were degraded or down meanwhile."""
        ids = {target.id for target in self._pool.pool.targets()}
        named = {alert.subject for alert in incident.alerts.values()} & ids
        ill = {one.who for one in incident.timeline if one.state in ("open", "softly_open")}
        incident.providers = tuple(sorted({*incident.providers, *named, *ill}))

    def _end(self, incident: Incident, at: float) -> None:
        self._hand_over()
        incident.ended_at = max((alert.ended_at or at for alert in incident.alerts.values()), default=at)
        self._open = None
        self._done.append(incident)
        self._unwritten = [*self._unwritten[-MOST_KEPT + 1 :], incident]

    def _hand_over(self) -> None:
        """Give the incident that lasts what callers got."""
        if self._open is None:
            return
        with self._counting:
            ended = list(self._buckets)
            self._buckets.clear()
        for bucket in ended:
            self._open.count(bucket)

    def _collect(self) -> None:
        offset = self._pool.wall() - self._pool.clock()
        while self._events:
            moment = moment_of(self._events.popleft(), offset)
            self._past.append(moment)
            if self._open is not None:
                self._open.add(moment)
        self._hand_over()

    # --- files; the lock is not held while they are written ---

    def _write(self, *, at_once: bool) -> None:
        if self._directory is None:
            return
        now = self._pool.clock()
        with self._lock:
            due = self._open is not None and (at_once or now - self._written_at >= _REWRITE)
            waiting = [*self._unwritten, *([self._open] if due and self._open is not None else [])]
            if waiting and not at_once and now - self._written_at < _REWRITE:
                return
            pages = [(one, one.json(), page(one)) for one in waiting]
            self._unwritten = []
            if pages:
                self._written_at = now
        for incident, data, html in pages:
            try:
                self._put(self._directory, incident.id, {".json": data, ".html": html})
            except OSError as error:
                self._failed(incident, error)
            else:
                self._complained = False

    def _put(self, directory: Path, name: str, files: dict[str, str]) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        for suffix, text in files.items():
            partial = directory / f".{name}{suffix}.partial"
            try:
                partial.write_text(text, encoding="utf-8")
                partial.replace(directory / f"{name}{suffix}")
            except OSError:
                with suppress(OSError):
                    partial.unlink()
                raise
        for old in sorted(directory.glob("incident-*.json"))[: -self._keep]:
            old.unlink(missing_ok=True)
            old.with_suffix(".html").unlink(missing_ok=True)

    def _failed(self, incident: Incident, error: OSError) -> None:
        with self._lock:
            if incident.ended_at is not None:
                self._unwritten = [*self._unwritten[-MOST_KEPT + 1 :], incident]
        if not self._complained:
            self._complained = True
            _log.error("the record of an incident could not be written, and is tried again: %s", error.strerror)


def moment_of(event: Event, offset: float) -> Moment:
    """An event as a line of a timeline; ``offset`` makes Unix time of monotonic time."""
    at = event.at + offset
    if isinstance(event, BreakerChanged):
        words = f"breaker {event.old.replace('_', ' ')} -> {event.new.replace('_', ' ')}: {event.reason}"
        return Moment(at, "state", event.provider, words, event.new)
    if isinstance(event, GateClosed):
        words = f"not asked for {event.wait:.0f} s: {event.reason}"
        return Moment(at, "state", event.provider, words, "gated", event.wait)
    action = event.action if isinstance(event, OperatorChanged) else type(event).__name__
    return Moment(at, "operator", event.provider, f"{action} by hand")


class _Call(CallWatcher):
    """One call, until its first end."""

    __slots__ = ("_attempts", "_owner")

    def __init__(self, owner: Incidents) -> None:
        self._owner: Incidents | None = owner
        self._attempts = 0

    @override
    def attempt(self, target: Described, number: int, kind: str, delay: float) -> AttemptObserver:
        self._attempts += 1
        return IGNORED_ATTEMPT

    @override
    def succeeded(self, response: ChatResponse | EmbedResponse, target: Described, seconds: float) -> None:
        self._end(True)

    @override
    def failed(self, error: BaseException, seconds: float, target: Described | None = None) -> None:
        self._end(None if caused_by_caller(error) else False)

    @override
    def closed_early(self, response: ChatResponse | None, target: Described | None, seconds: float) -> None:
        self._owner = None

    def _end(self, answered: bool | None) -> None:
        owner, self._owner = self._owner, None
        if owner is not None and answered is not None:
            owner.ended(answered=answered, attempts=self._attempts)


def read_all(directory: str | Path) -> Iterator[Incident]:
    """The incidents in a directory, the newest first.  Raises ``ConfigurationError`` for a file that is none."""
    for file in sorted(Path(directory).glob("incident-*.json"), reverse=True):
        yield Incident.read(file.read_text(encoding="utf-8"))
