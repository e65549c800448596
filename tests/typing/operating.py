"""Alerts, objectives, anomalies, incidents and remedies as people write them; type checkers must accept every line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import assert_type

from resilient_llm import AsyncResilientClient, ResilientClient
from resilient_llm.operate.alerts import (
    Alert,
    Alerts,
    AnySink,
    Condition,
    Delivery,
    Email,
    Log,
    Notification,
    PagerDuty,
    Rules,
    Slack,
    Webhook,
)
from resilient_llm.operate.anomalies import Anomalies, Anomaly
from resilient_llm.operate.incidents import Audit, FileClaims, Incident, Incidents, Remedies, page, read_all
from resilient_llm.operate.objectives import Objective, Objectives, ObjectiveStatus
from resilient_llm.providers import OpenAI


class Mine:
    """A source of conditions, a sink and a remedy of one's own."""

    name = "mine"
    least = "info"

    def conditions(self, now: float) -> Iterator[Condition]:
        yield Condition("latency_anomaly", "search", "warning", "slow", hold=30.0)

    def plan(self, alert: Alert) -> str | None:
        return "restart it" if alert.kind == "provider_unhealthy" else None

    def act(self, alert: Alert, key: str) -> str:
        return f"restarted for {alert.subject} ({key})"


def told(notification: Notification) -> None:
    print(notification.title, notification.text, [alert.runbook for alert in notification.fired])


def audited(line: Audit) -> None:
    print(line.result, line.text)


def sync_client() -> None:
    client = ResilientClient({"smart": [OpenAI("gpt-5.2")]})
    objectives = Objectives(client, {"smart": Objective(availability=0.999, within=5.0, share=0.95)})
    anomalies = Anomalies(client)
    incidents = Incidents(client, "incidents", keep=10)
    remedies = Remedies([Mine()], dry_run=True, cooldown=60, claim=FileClaims("claims"), told=audited)
    sinks: list[AnySink] = [
        Log(),
        Slack(lambda: os.environ["SLACK"], least="warning"),
        PagerDuty("key", least="critical"),
        Email("mail.example.com", "llm@example.com", ["ops@example.com"], user="llm", password="secret"),
        Webhook("https://example.com", headers={"authorization": "Bearer x"}),
        incidents,
        remedies,
        told,
    ]
    with Alerts(client, sinks, watch=[objectives, anomalies, Mine()], rules=Rules(repeat_after=None)) as alerts:
        assert_type(alerts.firing, tuple[Alert, ...])
        assert_type(alerts.deliveries(), tuple[Delivery, ...])
        assert_type(alerts.test(), dict[str, str | None])
    assert_type(objectives.status(), tuple[ObjectiveStatus, ...])
    assert_type(anomalies.status(), tuple[Anomaly, ...])
    assert_type(incidents.open, Incident | None)
    assert_type([page(incident) for incident in read_all("incidents")], list[str])
    assert_type(remedies.lines(), tuple[Audit, ...])


def async_client() -> None:
    client = AsyncResilientClient([OpenAI("gpt-5.2")])
    Alerts(client, [told], runbooks="https://wiki.example.com/llm")
    Objectives(client, Objective(availability=0.99))
