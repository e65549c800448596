"""Remedies act once, not too often, never unseen, and never in anybody's way."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import pytest

from resilient_llm import ConfigurationError, ResilientClient
from resilient_llm.operate.alerts import Alert, Alerts, Notification, Rules
from resilient_llm.operate.incidents import Audit, FileClaims, Incidents, MemoryClaims, Remedies
from resilient_llm.testing import ManualClock, ScriptedProvider, Status
from tests.operate.servers import until

ROOT = Path(__file__).parents[2]
AT = 1_800_000_000.0


def alert(subject: str = "vllm", began: float = AT, kind: str = "provider_unhealthy") -> Alert:
    return Alert(kind, subject, "warning", "down", began, None, "x")  # type: ignore[arg-type]


def fired(*alerts: Alert) -> Notification:
    return Notification("app", AT, alerts, (), alerts)


class Restart:
    """A remedy that counts what it did."""

    name = "restart"

    def __init__(self) -> None:
        self.done: list[str] = []
        self.keys: list[str] = []
        self.wait: threading.Event | None = None
        self.error: Exception | None = None

    def plan(self, alert: Alert) -> str | None:
        return f"restart {alert.subject}" if alert.kind == "provider_unhealthy" else None

    def act(self, alert: Alert, key: str) -> str:
        if self.wait is not None:
            self.wait.wait(10.0)
        if self.error is not None:
            raise self.error
        self.done.append(alert.subject)
        self.keys.append(key)
        return f"restarted {alert.subject}"


def results(remedies: Remedies) -> list[str]:
    return [line.result for line in remedies.lines()]


def settled(remedies: Remedies, *expected: str) -> None:
    until(lambda: results(remedies) == list(expected))


def test_the_default_only_says_what_would_be_done(tmp_path: Path) -> None:
    remedy = Restart()
    remedies = Remedies([remedy], audit=tmp_path / "audit.jsonl")
    remedies.send(fired(alert(), alert(kind="quota_exhausted")))
    assert remedy.done == []
    (line,) = [json.loads(one) for one in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert line["result"] == "dry_run"
    assert line["text"] == "would: restart vllm"
    assert line["alert"] == "provider_unhealthy/vllm"


def test_an_alert_is_acted_upon_once_however_often_it_is_told() -> None:
    remedy = Restart()
    remedies = Remedies([remedy], dry_run=False, cooldown=0)
    for _ in range(3):
        remedies.send(fired(alert()))
    remedies.send(Notification("app", AT, (), (), (alert(),)))
    settled(remedies, "begins", "done")
    remedies.send(fired(alert(began=AT + 3600)))
    settled(remedies, "begins", "done", "begins", "done")
    assert remedy.done == ["vllm", "vllm"]
    assert len(set(remedy.keys)) == 2
    other = Restart()
    Remedies([other], dry_run=False).send(fired(alert()))
    until(lambda: other.keys == remedy.keys[:1])  # the same key in another process, for services that take one


def test_a_remedy_cools_down_per_subject() -> None:
    clock, remedy = ManualClock(), Restart()
    remedies = Remedies([remedy], dry_run=False, cooldown=600, claim=MemoryClaims(clock))
    remedies.send(fired(alert()))
    settled(remedies, "begins", "done")
    clock.advance(599)
    remedies.send(fired(alert(began=AT + 300)))
    settled(remedies, "begins", "done", "cooling_down")
    clock.advance(2)
    remedies.send(fired(alert(began=AT + 900)))
    settled(remedies, "begins", "done", "cooling_down", "begins", "done")
    remedies.send(fired(alert("other", began=AT + 900)))
    until(lambda: remedy.done == ["vllm", "vllm", "other"])


def test_one_that_hangs_keeps_nobody_waiting_and_is_not_begun_again() -> None:
    remedy, other = Restart(), Restart()
    other.name = "other"  # type: ignore[misc]
    remedy.wait = threading.Event()
    remedies = Remedies([remedy, other], dry_run=False, cooldown=0)
    remedies.send(fired(alert()))
    until(lambda: other.done == ["vllm"])
    remedies.send(fired(alert("b")))
    until(lambda: "running" in results(remedies))
    assert remedy.done == []
    remedy.wait.set()
    until(lambda: remedy.done == ["vllm"])


def test_one_that_raises_is_written_down_without_its_words_and_the_others_act(caplog: pytest.LogCaptureFixture) -> None:
    remedy, other = Restart(), Restart()
    other.name = "other"  # type: ignore[misc]
    remedy.error = PermissionError("the token is sk-secret")
    remedies = Remedies([remedy, other], dry_run=False)
    remedies.send(fired(alert()))
    until(lambda: sorted(results(remedies)) == ["begins", "begins", "done", "failed"])
    failed = next(line for line in remedies.lines() if line.result == "failed")
    assert failed.text.startswith("PermissionError in act, line")
    assert "sk-secret" not in caplog.text

    class Broken(Restart):
        def plan(self, alert: Alert) -> str | None:
            raise ValueError

    broken = Remedies([Broken()], dry_run=False)
    broken.send(fired(alert()))
    assert results(broken) == ["failed"]


def test_what_cannot_be_written_down_is_not_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remedy = Restart()
    remedies = Remedies([remedy], dry_run=False, audit=tmp_path / "audit.jsonl", cooldown=0)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        remedies.send(fired(alert()))
        assert results(remedies) == ["not_written"]
    assert remedy.done == []
    remedies.send(fired(alert(began=AT + 600)))
    until(lambda: remedy.done == ["vllm"])


def test_claims_that_cannot_be_asked_keep_it_from_acting() -> None:
    def gone(name: str, seconds: float) -> bool:
        raise ConnectionError("redis://:password@host")

    remedy = Restart()
    remedies = Remedies([remedy], dry_run=False, claim=gone)
    remedies.send(fired(alert()))
    assert results(remedies) == ["cooling_down"]
    assert remedy.done == []


def test_of_many_processes_one_claims_and_again_when_its_time_is_over(tmp_path: Path) -> None:
    now = [1000.0]
    claims = FileClaims(tmp_path, lambda: now[0])

    def together() -> int:
        with ThreadPoolExecutor(16) as threads:
            return sum(threads.map(lambda _: claims("restart/vllm", 60.0), range(200)))

    assert together() == 1
    now[0] += 59.0
    assert together() == 0
    now[0] += 2.0
    assert together() == 1
    assert claims("restart/other", 60.0)
    made = f"FileClaims({str(tmp_path)!r}, lambda: {now[0]})"
    code = f"from resilient_llm.operate.incidents import FileClaims; print({made}('restart/vllm', 60.0))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False", "another process knows too"


def test_with_alerts_and_incidents_what_was_done_is_in_the_record(tmp_path: Path) -> None:
    remedy = Restart()
    remedy.plan = lambda alert: f"rotate the key of {alert.subject}"  # type: ignore[method-assign,assignment]
    with ResilientClient([ScriptedProvider(id="a", default=Status(401)), ScriptedProvider(id="b")]) as client:
        incidents = Incidents(client, tmp_path)

        def told(line: Audit) -> None:
            incidents.did(line.remedy, f"{line.result}: {line.text}")

        remedies = Remedies([remedy], dry_run=False, told=told)
        with Alerts(client, [incidents, remedies], rules=Rules(group_wait=0.0)):
            client.chat("hi")
            until(lambda: incidents.open is not None and len(incidents.open.done()) == 2)
            assert incidents.open is not None
            assert [one.text for one in incidents.open.done()] == [
                "begins: rotate the key of a",
                "done: restarted a",
            ]
        incidents.close()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Remedies(Restart()), "remedies must be a list"),
        (lambda: Remedies([object()]), "has plan\\(\\) and act\\(\\)"),
        (lambda: Remedies([Restart(), Restart()]), "names of their own"),
        (lambda: Remedies([Restart()], cooldown=-1), "cooldown must be"),
    ],
)
def test_mistakes_are_told_at_once(make: object, words: str) -> None:
    assert callable(make)
    with pytest.raises(ConfigurationError, match=words):
        make()


# --- the example for Kubernetes, against a fake API server ---


class FakeApiServer:
    """Stands for a Kubernetes API server: one deployment, and what was asked of it."""

    def __init__(self) -> None:
        self.replicas = 1
        self.annotations: dict[str, str] = {}
        self.rollouts = 0
        self.asked: list[str] = []
        self.refuse = False

    def answer(self, method: str, path: str, body: dict[str, object]) -> dict[str, object] | None:
        self.asked.append(f"{method} {path}")
        where = "/apis/apps/v1/namespaces/llm/deployments/vllm"
        meta = {"name": "vllm", "namespace": "llm"}
        if path == f"{where}/scale":
            if method == "PATCH":
                self.replicas = body["spec"]["replicas"]  # type: ignore[index,call-overload]
            return {"kind": "Scale", "metadata": meta, "spec": {"replicas": self.replicas}}
        if path == where and method == "PATCH":
            annotations = body["spec"]["template"]["metadata"]["annotations"]  # type: ignore[index,call-overload]
            self.rollouts += any(self.annotations.get(key) != value for key, value in annotations.items())
            self.annotations |= annotations
            template = {"metadata": {"annotations": self.annotations}, "spec": {"containers": []}}
            return {"kind": "Deployment", "metadata": meta, "spec": {"selector": {}, "template": template}}
        return None


@pytest.fixture
def kubernetes() -> Iterator[tuple[FakeApiServer, ModuleType, object]]:
    k8s = pytest.importorskip("kubernetes.client", reason="the example needs Kubernetes' client")
    fake = FakeApiServer()

    class Handler(BaseHTTPRequestHandler):
        def handle_one(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")
            found = None if fake.refuse else fake.answer(self.command, self.path, body)
            data = json.dumps(found or {"kind": "Status", "reason": "Forbidden"}).encode()
            self.send_response(200 if found else 403)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_PATCH = handle_one  # noqa: N815

        def log_message(self, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    settings = k8s.Configuration(host=f"http://127.0.0.1:{server.server_port}")
    settings.proxy = None
    with k8s.ApiClient(settings) as api:
        spec = importlib.util.spec_from_file_location(
            "remedies_example", ROOT / "examples" / "kubernetes" / "remedies.py"
        )
        assert spec is not None
        assert spec.loader is not None
        example = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(example)
        yield fake, example, k8s.AppsV1Api(api)
    server.shutdown()
    server.server_close()


def test_scaling_and_restarting_a_deployment_twice_is_as_once(
    kubernetes: tuple[FakeApiServer, ModuleType, object],
) -> None:
    fake, example, apps = kubernetes
    scale = example.ScaleDeployment(apps, "vllm", "llm", "vllm", 4)
    restart = example.RestartDeployment(apps, "vllm", "llm", "vllm")
    slow, down = alert(kind="latency_anomaly"), alert()
    assert scale.plan(slow) == "scale llm/vllm to 4 replicas"
    assert scale.plan(down) is None
    assert scale.plan(alert("openai", kind="latency_anomaly")) is None
    assert scale.act(slow, "key") == "scaled from 1 to 4 replicas"
    assert scale.act(slow, "key") == "nothing to do: there are 4 replicas"
    fake.replicas = 9
    scale.act(slow, "key")
    assert fake.replicas == 9
    assert restart.plan(down) == "restart llm/vllm"
    restart.act(down, "key")
    restart.act(down, "key")
    assert fake.rollouts == 1
    restart.act(alert(began=AT + 7200), "another")
    assert fake.rollouts == 2


def test_the_example_acts_through_remedies_and_a_refusal_is_written_down(
    kubernetes: tuple[FakeApiServer, ModuleType, object],
) -> None:
    fake, example, apps = kubernetes
    planned = [example.RestartDeployment(apps, "vllm", "llm", "vllm")]
    dry = Remedies(planned)
    dry.send(fired(alert()))
    assert fake.asked == []
    real = Remedies(planned, dry_run=False, cooldown=0)
    real.send(fired(alert()))
    settled(real, "begins", "done")
    assert fake.rollouts == 1
    fake.refuse = True
    real.send(fired(alert(began=AT + 7200)))
    settled(real, "begins", "done", "begins", "failed")
    assert real.lines()[-1].text.startswith("ApiException") or "Exception" in real.lines()[-1].text
