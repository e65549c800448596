"""Sinks that are reached over HTTP: a webhook of your own, Slack, PagerDuty.

They send through the library's own engine, which bounds a request as a whole and writes no URL to any log: the URL of
a webhook is a secret.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final, final
from urllib.parse import urlsplit

from resilient_llm.drive.engines import Engine, Limit, Outgoing, sync_engine
from resilient_llm.errors import ConfigurationError
from resilient_llm.operate.alerts.sinks import Hidden, Named, SinkFailed, Text
from resilient_llm.operate.alerts.words import TITLES, Alert, Notification, Severity
from resilient_llm.providers.secrecy import Headers

_TIMEOUT: Final = 5.0
_MOST_READ: Final = 65536
_PASSING: Final = frozenset({408, 425, 429})
_PAGERDUTY: Final = "https://events.pagerduty.com/v2/enqueue"
_SLACK_SECTION: Final = 2900  # characters; Slack takes 3,000
_SUMMARY: Final = 1024  # characters, PagerDuty Events API v2


def _checked_url(name: str, url: str) -> str:
    """A URL that can be used.  Raises ``ConfigurationError``, which does not show it."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable or not url.isascii() or any(char.isspace() for char in url):
        raise ConfigurationError(f"the url of {name} must be http:// or https:// with a host")
    return url


class _Http(Named):
    def __init__(self, name: str, url: Text, least: object, timeout: object) -> None:
        super().__init__(name, least)
        if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout <= 60:
            raise ConfigurationError(f"timeout must be a number of seconds above 0 and at most 60, not {timeout!r}")
        self._timeout = float(timeout)
        self._url = Hidden(f"the url of {name}", url)
        if isinstance(url, str):
            _checked_url(name, url.strip())
        self._engine: Engine | None = None

    def post(self, body: object, headers: Mapping[str, str] | None = None) -> None:
        """Send JSON; all of it takes at most ``timeout`` seconds.  Raises :class:`SinkFailed`."""
        url = self._url.get()
        try:
            _checked_url(self.name, url)
        except ConfigurationError as error:
            raise SinkFailed(str(error)) from None
        if self._engine is None:
            self._engine = sync_engine("httpx", None)
        sent = {"content-type": "application/json", "user-agent": "resilient-llm", **(headers or {})}
        data = json.dumps(body, ensure_ascii=True).encode()
        outgoing = Outgoing(self.name, url, tuple(sent.items()), data)
        limit = Limit(time.monotonic, time.monotonic() + self._timeout, self._timeout)
        try:
            source = self._engine.send(outgoing, limit)
            try:
                status, hint = source.status or 0, source.headers.get("retry-after", "")
                read = 0
                while read < _MOST_READ and isinstance(piece := source.read(), bytes):
                    read += len(piece)
            finally:
                source.close()
        except Exception as error:
            raise SinkFailed(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__) from None
        if not 200 <= status < 300:
            lasting = 300 <= status < 500 and status not in _PASSING
            raise SinkFailed(f"HTTP {status}", lasting=lasting, retry_after=_seconds(hint))


@final
class Webhook(_Http):
    """POSTs each :class:`Notification` as JSON (``Notification.as_dict()``) to a URL.

    ``headers`` go with it, a bearer token say.  ``url`` may be a function, which is asked each time.  ``timeout`` is
    seconds for all of a request.  Neither the URL nor the headers are ever shown.
    """

    def __init__(
        self,
        url: Text,
        *,
        headers: Mapping[str, str] | None = None,
        least: Severity = "info",
        timeout: float = _TIMEOUT,
        name: str = "webhook",
    ) -> None:
        super().__init__(name, url, least, timeout)
        for key, value in (headers or {}).items():
            if not isinstance(key, str) or not isinstance(value, str) or not (key + value).isascii():
                raise ConfigurationError(f"headers must hold ASCII strings; {key!r} does not")
            if any(char in key + value for char in "\r\n"):
                raise ConfigurationError(f"the header {key.split()[0]!r} contains a line break")
        self._headers = Headers((key.lower(), value) for key, value in (headers or {}).items())

    def send(self, notification: Notification) -> None:
        """Send it."""
        self.post(notification.as_dict(), dict(self._headers))


@final
class Slack(_Http):
    """Posts to a Slack channel through an incoming webhook, whose URL is a secret."""

    def __init__(self, url: Text, *, least: Severity = "info", timeout: float = _TIMEOUT, name: str = "slack") -> None:
        super().__init__(name, url, least, timeout)

    def send(self, notification: Notification) -> None:
        """Send it."""
        title = _slack(notification.title)
        reminded = () if notification.fired or notification.resolved else notification.firing
        lines = [_fired(alert) for alert in (*notification.fired, *reminded)]
        lines += [f":large_green_circle: {_slack(alert.text)}" for alert in notification.resolved]
        blocks = [
            {"type": "section", "text": {"type": "mrkdwn", "text": text}} for text in _pieces([f"*{title}*", *lines])
        ]
        self.post({"text": title, "blocks": blocks})


@final
class PagerDuty(_Http):
    """Opens and resolves incidents through PagerDuty's Events API v2.

    ``routing_key`` is the integration key of a service.  There is one incident per client and kind of alert: its
    ``dedup_key`` has no host or process in it, so that a fleet of workers opens one incident and not one each.
    ``source`` is what the incident names as its origin (default: the host).
    """

    def __init__(
        self,
        routing_key: Text,
        *,
        source: str | None = None,
        least: Severity = "warning",
        timeout: float = _TIMEOUT,
        url: str = _PAGERDUTY,
        name: str = "pagerduty",
    ) -> None:
        super().__init__(name, url, least, timeout)
        self._key = Hidden(f"the routing_key of {name}", routing_key)
        self._source = source

    def send(self, notification: Notification) -> None:
        """Send it: an event per kind of alert."""
        key = self._key.get()
        told = notification.fired + notification.resolved or notification.firing
        for kind in dict.fromkeys(alert.kind for alert in told):
            firing = [alert for alert in notification.firing if alert.kind == kind]
            event: dict[str, object] = {
                "routing_key": key,
                "event_action": "trigger" if firing else "resolve",
                "dedup_key": f"resilient_llm/{notification.client}/{kind}"[:255],
            }
            if firing:
                event |= self._details(notification, kind, firing)
            self.post(event)

    def _details(self, notification: Notification, kind: str, firing: list[Alert]) -> dict[str, object]:
        severity = "critical" if any(alert.severity == "critical" for alert in firing) else firing[0].severity
        title = TITLES[kind][0].format(", ".join(alert.subject for alert in firing))
        runbook = firing[0].runbook
        began = datetime.fromtimestamp(min(alert.began_at for alert in firing), UTC)
        return {
            "client": "resilient_llm",
            "links": [{"href": runbook, "text": "runbook"}] if _is_link(runbook) else [],
            "payload": {
                "summary": f"[{notification.client}] {title}"[:_SUMMARY],
                "source": self._source or socket.gethostname(),
                "severity": severity,
                "timestamp": began.isoformat(),
                "component": firing[0].subject,
                "group": notification.client,
                "class": kind,
                "custom_details": {"runbook": runbook, **{alert.subject: alert.text for alert in firing}},
            },
        }


def _fired(alert: Alert) -> str:
    mark = ":red_circle:" if alert.severity == "critical" else ":large_orange_circle:"
    runbook = f"<{alert.runbook}|runbook>" if _is_link(alert.runbook) else f"runbook: {_slack(alert.runbook)}"
    return f"{mark} *{alert.severity}* {_slack(alert.text)} {runbook}"


def _is_link(runbook: str) -> bool:
    return runbook.startswith(("https://", "http://")) and not any(char in runbook for char in "<>| ")


def _slack(text: str) -> str:
    """Text in which nothing is a control sequence of Slack's (docs: "Formatting text for app surfaces")."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _pieces(lines: Iterable[str]) -> list[str]:
    """Lines in pieces that Slack takes; at most 50 of them."""
    found = [""]
    for line in lines:
        short = line if len(line) <= _SLACK_SECTION else f"{line[: _SLACK_SECTION - 1]}…"
        if len(found[-1]) + len(short) + 1 > _SLACK_SECTION:
            found.append("")
        found[-1] = f"{found[-1]}\n{short}".strip()
    return found[:50]


def _seconds(hint: str) -> float | None:
    """A ``Retry-After`` in seconds; ``None`` for anything else."""
    try:
        seconds = float(hint)
    except ValueError:
        return None
    return seconds if 0 <= seconds <= 86400 else None
