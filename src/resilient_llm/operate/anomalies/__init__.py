"""Anomalies: a provider that has become slower, or fails more often, than it used to; told before its breaker acts.

::

    from resilient_llm.operate.anomalies import Anomalies

    anomalies = Anomalies(client)
    alerts = Alerts(client, [...], watch=[anomalies])

They tell people and change nothing: traffic is the breaker's business.  ``docs/anomalies.md`` has figures.
"""

from __future__ import annotations

from resilient_llm.operate.anomalies.watching import Anomalies, Anomaly

__all__ = ["Anomalies", "Anomaly"]
