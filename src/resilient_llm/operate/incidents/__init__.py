"""Incidents: a record of what happened, to whom, and what was done; and remedies that act.

::

    from resilient_llm.operate.alerts import Alerts, Slack
    from resilient_llm.operate.incidents import Incidents, Remedies

    incidents = Incidents(client, "incidents/")
    alerts = Alerts(client, [Slack(url), incidents, Remedies([...], dry_run=True, audit="audit.jsonl")])

See ``docs/incidents.md``.
"""

from __future__ import annotations

from resilient_llm.operate.incidents.page import page
from resilient_llm.operate.incidents.record import Bucket, Incident, Moment
from resilient_llm.operate.incidents.recorder import Incidents, read_all
from resilient_llm.operate.incidents.remedies import Audit, FileClaims, MemoryClaims, Remedies, Remedy

__all__ = [
    "Audit",
    "Bucket",
    "FileClaims",
    "Incident",
    "Incidents",
    "MemoryClaims",
    "Moment",
    "Remedies",
    "Remedy",
    "page",
    "read_all",
]
