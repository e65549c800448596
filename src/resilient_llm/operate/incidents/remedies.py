"""What acts on alerts: remedies, with a cool-down, a dry run and an audit log.

An action is taken once per alert, however often the alert is told; not again before its cool-down is over; not while
the one before still runs; and not at all where it cannot be written down first.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol, TypeAlias, final

from resilient_llm.drive.workers import Workers
from resilient_llm.errors import ConfigurationError
from resilient_llm.operate.alerts.delivery import described
from resilient_llm.operate.alerts.words import Alert, Notification, Severity, checked_severity

Result: TypeAlias = Literal["begins", "done", "failed", "dry_run", "cooling_down", "running", "not_written"]
"""``begins``: written before an action.  ``done``, ``failed``: how it ended.  The others say why none was taken:
``dry_run``; ``cooling_down``, this or another process acted lately; ``running``, the one before has not ended;
``not_written``, the audit log could not be written."""

Claim: TypeAlias = Callable[[str, float], bool]
"""``claim(name, seconds)``: whether this process may act; true for nobody else before so many seconds are over.  With
Redis: ``lambda name, seconds: bool(redis.set(name, 1, nx=True, ex=int(seconds)))``."""

MOST_REMEMBERED: Final = 1000

_log = logging.getLogger("resilient_llm.remedies")


class Remedy(Protocol):
    """Something that can be done about an alert."""

    @property
    def name(self) -> str:
        """What to call it; its cool-down goes by this and the alert's subject."""
        ...

    def plan(self, alert: Alert) -> str | None:
        """What it would do about this alert, in words; ``None``: nothing.  Must change nothing and wait for nobody."""
        ...

    def act(self, alert: Alert, key: str) -> str:
        """Do it, and say what was done.  Doing it twice must be as doing it once: ``key`` is the same for the same
        alert in every process, for services that take an idempotency key.  Called in a thread of its own; may raise
        anything."""
        ...


@dataclass(frozen=True, slots=True)
class Audit:
    """One line of the audit log.  ``at`` is Unix seconds."""

    at: float
    remedy: str
    alert: str
    key: str
    result: Result
    text: str

    def json(self) -> str:
        """The line."""
        return json.dumps({name: getattr(self, name) for name in self.__slots__})


@final
class Remedies:
    """Acts on alerts.  Give it to ``Alerts`` among the sinks.

    ``dry_run`` (the default): only write down what would be done.  ``cooldown``: seconds before the same remedy acts on
    the same subject again.  ``audit``: the file to which each line is appended (``None``: memory and log only).
    ``claim`` keeps several processes from acting at the same time; :class:`FileClaims` does for one host.  ``told`` is
    called with each line, such as ``lambda line: incidents.did(line.remedy, line.text)``.

    Raises ``ConfigurationError`` for what makes no sense.
    """

    name = "remedies"
    takes_tests = False

    def __init__(
        self,
        remedies: Sequence[Remedy],
        *,
        dry_run: bool = True,
        cooldown: float = 600.0,
        audit: str | Path | None = None,
        claim: Claim | None = None,
        told: Callable[[Audit], object] | None = None,
        least: Severity = "warning",
    ) -> None:
        if isinstance(remedies, str) or not isinstance(remedies, Sequence):
            raise ConfigurationError(f"remedies must be a list, not {remedies!r}")
        for remedy in remedies:
            if not callable(getattr(remedy, "plan", None)) or not callable(getattr(remedy, "act", None)):
                raise ConfigurationError(f"a remedy has plan() and act(), which {remedy!r} lacks")
        names = [remedy.name for remedy in remedies]
        if len(set(names)) < len(names):
            raise ConfigurationError(f"remedies need names of their own, not {names!r}")
        if isinstance(cooldown, bool) or not isinstance(cooldown, int | float) or not cooldown >= 0:
            raise ConfigurationError(f"cooldown must be a number of seconds of 0 or more, not {cooldown!r}")
        self.least: Severity = checked_severity("least", least)
        self._remedies = tuple(remedies)
        self._dry_run, self._cooldown = bool(dry_run), float(cooldown)
        self._audit = None if audit is None else Path(audit)
        self._claim: Claim = MemoryClaims() if claim is None else claim
        self._told = told
        self._seen: deque[str] = deque(maxlen=MOST_REMEMBERED)
        self._running: set[str] = set()
        self._lines: deque[Audit] = deque(maxlen=MOST_REMEMBERED)
        self._workers = Workers()

    def lines(self) -> tuple[Audit, ...]:
        """What was written down last, oldest first."""
        return tuple(self._lines)

    def send(self, notification: Notification) -> None:
        """Act on what fired."""
        for alert in notification.fired:
            for remedy in self._remedies:
                self._consider(remedy, alert)

    def _consider(self, remedy: Remedy, alert: Alert) -> None:
        key = _key(remedy.name, alert)
        if key in self._seen:
            return
        try:
            plan = remedy.plan(alert)
        except Exception as error:
            self._seen.append(key)
            self._write(remedy, alert, key, "failed", f"planning it: {described(error)}")
            return
        if plan is None:
            return
        self._seen.append(key)
        if self._dry_run:
            self._write(remedy, alert, key, "dry_run", f"would: {plan}")
        elif remedy.name in self._running:
            self._write(remedy, alert, key, "running", f"not done, the one before still runs: {plan}")
        elif not self._may(f"{remedy.name}/{alert.subject}"):
            self._write(remedy, alert, key, "cooling_down", f"not done, it was done lately: {plan}")
        elif not self._write(remedy, alert, key, "begins", plan):
            self._note(Audit(time.time(), remedy.name, alert.key, key, "not_written", f"not done: {plan}"))
        else:
            self._running.add(remedy.name)
            if not self._workers.start(lambda: self._act(remedy, alert, key)):
                self._running.discard(remedy.name)
                self._write(remedy, alert, key, "failed", "no thread could be started")

    def _act(self, remedy: Remedy, alert: Alert, key: str) -> None:
        try:
            done = remedy.act(alert, key)
        except Exception as error:
            self._write(remedy, alert, key, "failed", described(error))
        else:
            self._write(remedy, alert, key, "done", done)
        finally:
            self._running.discard(remedy.name)

    def _may(self, name: str) -> bool:
        """Whether nobody acted lately; one who cannot find out does not act."""
        try:
            return bool(self._claim(name, self._cooldown))
        except Exception as error:
            _log.error("whether %s may act cannot be found out: %s", name, described(error))
            return False

    def _write(self, remedy: Remedy, alert: Alert, key: str, result: Result, text: str) -> bool:
        """Whether it was written down."""
        line = Audit(time.time(), remedy.name, alert.key, key, result, " ".join(str(text).split())[:1000])
        if self._audit is not None:
            try:
                _append(self._audit, line.json())
            except OSError as error:
                _log.error("the audit log could not be written: %s", error.strerror)
                return False
        self._note(line)
        return True

    def _note(self, line: Audit) -> None:
        self._lines.append(line)
        _log.warning("remedy %s, %s: %s", line.remedy, line.result, line.text, extra={"audit": line.json()})
        if self._told is not None:
            try:
                self._told(line)
            except Exception as error:
                _log.error("telling of a remedy failed: %s", described(error))


def _key(remedy: str, alert: Alert) -> str:
    """The same for the same alert in every process whose alert began in the same minute."""
    words = f"{remedy}\n{alert.key}\n{int(alert.began_at // 60)}"
    return hashlib.sha256(words.encode()).hexdigest()[:24]


def _append(file: Path, line: str) -> None:
    """One write, so that lines of several processes do not mix."""
    handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        data = (line + "\n").encode()
        if os.write(handle, data) < len(data):
            raise OSError(28, "No space left on device")
    finally:
        os.close(handle)


# --- who may act ---


class MemoryClaims:
    """Claims within this process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: dict[str, float] = {}
        self._lock = threading.Lock()

    def __call__(self, name: str, seconds: float) -> bool:
        """Whether nobody has claimed it within that time."""
        with self._lock:
            now = self._clock()
            if now < self._until.get(name, now):
                return False
            if len(self._until) >= MOST_REMEMBERED:
                self._until = {known: until for known, until in self._until.items() if until > now}
            self._until[name] = now + seconds
            return True


class FileClaims:
    """Claims among the processes of one host that outlive them: a file per name in a directory."""

    def __init__(self, directory: str | Path, clock: Callable[[], float] = time.time) -> None:
        self._directory = Path(directory)
        self._clock = clock

    def __call__(self, name: str, seconds: float) -> bool:
        """Whether nobody has claimed it within that time.  Raises ``OSError`` where the directory cannot be used."""
        self._directory.mkdir(parents=True, exist_ok=True)
        file = self._directory / hashlib.sha256(name.encode()).hexdigest()[:32]
        now = self._clock()
        for _ in range(2):
            try:
                os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            except FileExistsError:
                if not self._stale(file, now, seconds):
                    return False
            else:
                os.utime(file, (now, now))
                return True
        return False

    def _stale(self, file: Path, now: float, seconds: float) -> bool:
        """Take away a claim that is over; whether it was.  Of several who try, one can."""
        mine = file.with_name(f"{file.name}.{os.getpid()}.{threading.get_ident()}")
        try:
            if now - file.stat().st_mtime < seconds:
                return False
            file.rename(mine)
            fresh = now - mine.stat().st_mtime < seconds
            if fresh:  # somebody was quicker, and this is the new one: give it back
                with suppress(FileExistsError):
                    os.link(mine, file)
            mine.unlink()
        except FileNotFoundError:
            return True  # another process did
        return not fresh
