"""Where notifications go: a log, a function of yours, and what all sinks have in common."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, Protocol, TypeAlias, final

from typing_extensions import override

from resilient_llm.errors import ConfigurationError
from resilient_llm.operate.alerts.words import Notification, Severity, checked_severity

Text: TypeAlias = str | Callable[[], str]
"""A secret, or a function that returns it, which is asked each time it is needed."""


class SinkFailed(Exception):
    """A notification could not be sent.  ``lasting``: trying again would not help; ``retry_after``: seconds the other
    side asked for.  The message holds no secret: it is logged."""

    def __init__(self, message: str, *, lasting: bool = False, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.lasting = lasting
        self.retry_after = retry_after


class Sink(Protocol):
    """Takes notifications.  ``least``: the least severe ones it wants."""

    @property
    def name(self) -> str:
        """What to call it in logs; no secret."""
        ...

    @property
    def least(self) -> Severity: ...

    def send(self, notification: Notification) -> None:
        """Send it.  Called on the background thread, one at a time; must return within seconds.  Raises
        :class:`SinkFailed`, or anything else, which is tried again."""
        ...


AnySink: TypeAlias = Sink | Callable[[Notification], object]


class Hidden:
    """A secret that no repr shows."""

    __slots__ = ("_name", "_source")

    def __init__(self, name: str, source: object) -> None:
        if isinstance(source, str):
            if not source.strip():
                raise ConfigurationError(f"{name} is empty")
        elif not callable(source):
            raise ConfigurationError(f"{name} must be a string or a function, not a {type(source).__name__}")
        self._name = name
        self._source: object = source

    def get(self) -> str:
        """Its value now.  Raises :class:`SinkFailed` if the function has none; never shows what it returned."""
        if isinstance(self._source, str):
            return self._source.strip()
        assert callable(self._source)
        try:
            value: object = self._source()
        except Exception as error:
            raise SinkFailed(f"{self._name}: its function raised {type(error).__name__}") from None
        if not isinstance(value, str) or not value.strip():
            raise SinkFailed(f"{self._name}: its function returned no text")
        return value.strip()

    @override
    def __repr__(self) -> str:
        return "<hidden>"


class Named:
    """What built-in sinks have in common."""

    def __init__(self, name: str, least: object) -> None:
        self.name: str = name
        self.least: Severity = checked_severity("least", least)

    @override
    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}, {self.least} and above>"


_LEVELS: Final = {"info": logging.INFO, "warning": logging.WARNING, "critical": logging.ERROR}


@final
class Log(Named):
    """Writes one line per alert to a standard logger: ERROR if critical, WARNING, or INFO, also for what is over.

    The alert is in the record's ``alert`` attribute as a dictionary.
    """

    at_hand = True
    """It waits for nobody, and goes first."""

    def __init__(self, logger: str = "resilient_llm.alerts", *, least: Severity = "info") -> None:
        super().__init__("log", least)
        self._logger = logging.getLogger(logger)

    def send(self, notification: Notification) -> None:
        """Write it."""
        reminded = () if notification.fired or notification.resolved else notification.firing
        for word, alerts in (("firing", notification.fired), ("still firing", reminded)):
            for alert in alerts:
                level = _LEVELS[alert.severity]
                told = f"alert {word}: %s (runbook: %s)"
                self._logger.log(level, told, alert.text, alert.runbook, extra={"alert": alert.as_dict()})
        for alert in notification.resolved:
            self._logger.info("alert resolved: %s", alert.text, extra={"alert": alert.as_dict()})


@final
class Call(Named):
    """Calls a function of yours with each :class:`Notification`, on the background thread."""

    def __init__(self, function: Callable[[Notification], object], *, least: Severity = "info") -> None:
        if not callable(function):
            raise ConfigurationError(f"a sink must be a function or have send(), not {function!r}")
        super().__init__(getattr(function, "__qualname__", type(function).__name__), least)
        self._function = function

    def send(self, notification: Notification) -> None:
        """Call it."""
        self._function(notification)


def as_sink(sink: object) -> Sink:
    """A sink, or a function as one.  Raises ``ConfigurationError`` for anything else."""
    if isinstance(sink, type):
        raise ConfigurationError(f"{sink.__name__} is a class, say {sink.__name__}(...)")
    if isinstance(sink, Named) or callable(getattr(sink, "send", None)):
        found: Sink = sink  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
        checked_severity(f"least of {sink!r}", getattr(sink, "least", None))
        return found
    if isinstance(sink, str):
        raise ConfigurationError("a sink cannot be a string; say Webhook(url), Slack(url) or PagerDuty(key)")
    return Call(sink)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
