"""Alerts: people are told when providers are in trouble, and when it is over.

::

    from resilient_llm.operate.alerts import Alerts, PagerDuty, Slack

    alerts = Alerts(client, [Slack(url), PagerDuty(key, least="critical")])

Deduplicated, grouped, rate-limited, and sent by one background thread, never by a call.  ``docs/alerts.md`` has a
runbook for each kind.
"""

from __future__ import annotations

from resilient_llm.operate.alerts.book import Rules
from resilient_llm.operate.alerts.delivery import Delivery
from resilient_llm.operate.alerts.http import PagerDuty, Slack, Webhook
from resilient_llm.operate.alerts.mail import Email
from resilient_llm.operate.alerts.sinks import AnySink, Call, Log, Sink, SinkFailed
from resilient_llm.operate.alerts.watching import Alerts
from resilient_llm.operate.alerts.words import Alert, Condition, Notification, Source

__all__ = [
    "Alert",
    "Alerts",
    "AnySink",
    "Call",
    "Condition",
    "Delivery",
    "Email",
    "Log",
    "Notification",
    "PagerDuty",
    "Rules",
    "Sink",
    "SinkFailed",
    "Slack",
    "Source",
    "Webhook",
]
