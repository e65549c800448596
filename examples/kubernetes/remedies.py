"""Remedies for models that you serve yourself on Kubernetes: more replicas of a vLLM deployment that is overloaded, and
a restart of one that is down.

Needs Kubernetes' official client (the package ``kubernetes``) and the right to patch deployments in one namespace::

    rules:
      - apiGroups: [apps]
        resources: [deployments, deployments/scale]
        verbs: [get, patch]

Run it with ``dry_run=True`` for a week, read the audit log, then decide.
"""

from __future__ import annotations

from datetime import UTC, datetime

from kubernetes import client as k8s
from kubernetes import config

from resilient_llm import ResilientClient
from resilient_llm.operate.alerts import Alert, Alerts, Log
from resilient_llm.operate.anomalies import Anomalies
from resilient_llm.operate.incidents import FileClaims, Incidents, Remedies
from resilient_llm.providers import OpenAI, OpenAICompatible

TIMEOUT = 5.0  # seconds for each request to the API server


class ScaleDeployment:
    """More replicas for the deployment behind a provider that has become slow.  Never fewer than there are."""

    def __init__(self, apps: k8s.AppsV1Api, provider: str, namespace: str, deployment: str, replicas: int) -> None:
        self.name = f"scale-{deployment}"
        self._apps, self._provider, self._replicas = apps, provider, replicas
        self._where = {"name": deployment, "namespace": namespace}

    def plan(self, alert: Alert) -> str | None:
        """Slow, and nothing worse."""
        if alert.kind != "latency_anomaly" or alert.subject != self._provider:
            return None
        return f"scale {self._where['namespace']}/{self._where['name']} to {self._replicas} replicas"

    def act(self, alert: Alert, key: str) -> str:
        """Asking for a number of replicas twice is as asking once."""
        found = self._apps.read_namespaced_deployment_scale(**self._where, _request_timeout=TIMEOUT)
        if found.spec.replicas >= self._replicas:
            return f"nothing to do: there are {found.spec.replicas} replicas"
        body = {"spec": {"replicas": self._replicas}}
        self._apps.patch_namespaced_deployment_scale(**self._where, body=body, _request_timeout=TIMEOUT)
        return f"scaled from {found.spec.replicas} to {self._replicas} replicas"


class RestartDeployment:
    """A rolling restart of the deployment behind a provider that is down, as ``kubectl rollout restart`` does it."""

    def __init__(self, apps: k8s.AppsV1Api, provider: str, namespace: str, deployment: str) -> None:
        self.name = f"restart-{deployment}"
        self._apps, self._provider = apps, provider
        self._where = {"name": deployment, "namespace": namespace}

    def plan(self, alert: Alert) -> str | None:
        """Down, not merely degraded."""
        if alert.kind != "provider_unhealthy" or alert.subject != self._provider or alert.severity == "info":
            return None
        return f"restart {self._where['namespace']}/{self._where['name']}"

    def act(self, alert: Alert, key: str) -> str:
        """The annotation is made of the alert, so that a second patch for the same one changes nothing."""
        began = datetime.fromtimestamp(alert.began_at, UTC).isoformat(timespec="minutes")
        annotations = {"kubectl.kubernetes.io/restartedAt": began, "resilient-llm/remedy": key}
        body = {"spec": {"template": {"metadata": {"annotations": annotations}}}}
        self._apps.patch_namespaced_deployment(**self._where, body=body, _request_timeout=TIMEOUT)
        return "restarted"


def main() -> None:
    """A client with a model of its own first, and a vendor behind it."""
    config.load_incluster_config()
    apps = k8s.AppsV1Api()
    own = OpenAICompatible("llama-3.3-70b", id="vllm", base_url="http://vllm.llm.svc:8000/v1")
    with ResilientClient([own, OpenAI("gpt-5.2")]) as client:
        incidents = Incidents(client, "/var/lib/app/incidents")
        remedies = Remedies(
            [ScaleDeployment(apps, "vllm", "llm", "vllm", 4), RestartDeployment(apps, "vllm", "llm", "vllm")],
            dry_run=True,
            cooldown=900,
            audit="/var/lib/app/audit.jsonl",
            claim=FileClaims("/var/lib/app/claims"),
            told=lambda line: incidents.did(line.remedy, line.text),
        )
        with Alerts(client, [Log(), incidents, remedies], watch=[Anomalies(client)]):
            print(client.chat("Why is the sky blue?", deadline=20).text)


if __name__ == "__main__":
    main()
