"""A real Prometheus scrapes the example: every series that the dashboard and the alert rules name is there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import IO

import httpx
import pytest

ROOT = Path(__file__).parents[2]
HERE = ROOT / "examples" / "observability"
PROMTOOL, PROMETHEUS = shutil.which("promtool"), shutil.which("prometheus")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="needs promtool")

Selector = tuple[re.Pattern[str], frozenset[str]]
"""Which metrics an expression asks for, and which labels it uses."""


def promtool(*arguments: str) -> str:
    done = subprocess.run(
        [str(PROMTOOL), *arguments], cwd=HERE, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_promtool
def test_the_rules_are_valid_and_fire_when_they_should() -> None:
    assert "8 rules found" in promtool("check", "rules", "alert_rules.yml")
    promtool("check", "config", "prometheus.yml")
    assert "SUCCESS" in promtool("test", "rules", "alert_rules_test.yml")


def test_every_rule_has_a_test_and_a_runbook() -> None:
    names = re.findall(r"- alert: (\w+)", (HERE / "alert_rules.yml").read_text())
    tested = set(re.findall(r"alertname: (\w+)", (HERE / "alert_rules_test.yml").read_text()))
    page = (ROOT / "docs" / "dashboards.md").read_text()
    assert names
    assert set(names) == tested == set(re.findall(r"\| `(LLM\w+)` \|", page))


def dashboard_expressions() -> list[str]:
    dashboard = json.loads((HERE / "grafana_dashboard.json").read_text())
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def rule_expressions() -> list[str]:
    """Each rule's ``expr``, one line or a block."""
    text = re.sub(r"#.*", "", (HERE / "alert_rules.yml").read_text())
    return re.findall(r"expr: (?:\|\n)?(.*?)\n {8}(?:for|labels):", text, re.DOTALL)


EXPRESSIONS = [*dashboard_expressions(), *rule_expressions()]


def selectors(expression: str) -> Iterator[Selector]:
    """The metrics of an expression, each with all labels that the expression uses, its own results' apart."""
    labels = set(re.findall(r"\b(resilient_llm_\w+|gen_ai_\w+|error_type|le)\s*(?:=~|!~|!=|=)", expression))
    for group in re.findall(r"by \(([^)]*)\)", expression):
        labels |= {name.strip() for name in group.split(",")} - {"job", "instance"}
    named = re.findall(r'__name__=~"([^"]+)"', expression)
    plain = set(re.findall(r"\b((?:resilient_llm|gen_ai)_\w+)\b", re.sub(r'"[^"]*"', "", expression))) - labels
    for name in (*named, *plain):
        yield re.compile(name), frozenset(labels)


@contextmanager
def exporting(seconds: float) -> Iterator[int]:
    """The port of the example's metrics."""
    command = [sys.executable, "-W", "error", "prometheus_metrics.py", "0", str(seconds)]
    process = subprocess.Popen(command, cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        found = re.search(r":(\d+)/metrics", process.stdout.readline())
        assert found, process.communicate()
        yield int(found[1])
    finally:
        process.kill()
        process.communicate()


@contextmanager
def scraping(port: int, directory: Path) -> Iterator[httpx.Client]:
    """A Prometheus on a free port of its own, with the shipped rules."""
    shutil.copy(HERE / "alert_rules.yml", directory)
    config = (HERE / "prometheus.yml").read_text().replace("127.0.0.1:9464", f"127.0.0.1:{port}")
    (directory / "prometheus.yml").write_text(config.replace("15s", "250ms"))
    command = [str(PROMETHEUS), "--config.file=prometheus.yml", "--storage.tsdb.path=data"]
    process = subprocess.Popen(
        [*command, "--web.listen-address=127.0.0.1:0"], cwd=directory, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        listening = next((line for line in process.stderr if "Listening on" in line), "")
        threading.Thread(target=drained, args=(process.stderr,), daemon=True).start()
        found = re.search(r"address=127\.0\.0\.1:(\d+)", listening)
        assert found, "Prometheus did not start"
        with httpx.Client(base_url=f"http://127.0.0.1:{found[1]}", trust_env=False, timeout=10) as client:
            ends = time.monotonic() + 30
            while client.get("/-/ready").status_code != 200:  # it listens before it can be asked
                assert time.monotonic() < ends, "Prometheus is not ready"
                time.sleep(0.05)
            yield client
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


def drained(log: IO[str]) -> None:
    """Read what Prometheus says until it ends, or its pipe would fill."""
    with suppress(ValueError, OSError):
        while log.read(4096):
            pass


def answer(client: httpx.Client, path: str, **parameters: str) -> object:
    told = client.get(f"/api/v1/{path}", params=parameters).json()
    assert told["status"] == "success", told
    return told["data"]


def missing(client: httpx.Client) -> list[str]:
    """What the dashboard and the rules name and Prometheus does not have."""
    seen: dict[str, set[str]] = {}
    matching = '{__name__=~"resilient_llm_.+|gen_ai_.+"}'
    for series in answer(client, "series", **{"match[]": matching}):  # type: ignore[attr-defined]
        seen.setdefault(series["__name__"], set()).update(series)
    lacking = []
    for expression in EXPRESSIONS:
        for pattern, labels in selectors(expression):
            found = [known for name, known in seen.items() if pattern.fullmatch(name)]
            if not found:
                lacking.append(f"no series {pattern.pattern}")
            elif not labels <= set().union(*found) and not labels <= every_label(seen, expression):
                lacking.append(f"{pattern.pattern} has no {sorted(labels - set().union(*found))}")
    return lacking


def every_label(seen: dict[str, set[str]], expression: str) -> set[str]:
    """The labels of all metrics in an expression: a quotient may use others on each side."""
    patterns = [pattern for pattern, _ in selectors(expression)]
    return {label for name, labels in seen.items() if any(p.fullmatch(name) for p in patterns) for label in labels}


@pytest.mark.skipif(PROMETHEUS is None, reason="needs prometheus")
@pytest.mark.skipif(find_spec("opentelemetry.exporter.prometheus") is None, reason="needs the Prometheus exporter")
def test_prometheus_has_every_series_that_the_dashboard_and_the_rules_name(tmp_path: Path) -> None:
    assert len(EXPRESSIONS) > 15
    with exporting(60) as port, scraping(port, tmp_path) as client:
        ends = time.monotonic() + 40
        while missing(client):
            assert time.monotonic() < ends, missing(client)
            time.sleep(0.3)
        for expression in EXPRESSIONS:
            answer(client, "query", query=expression.replace("$client", ".*").replace("$__rate_interval", "2s"))
        rules = [rule for group in answer(client, "rules")["groups"] for rule in group["rules"]]  # type: ignore[index]
        assert len(rules) == 8
        assert {rule["health"] for rule in rules} == {"ok"}


def test_a_name_that_does_not_exist_would_be_found() -> None:
    found = list(selectors('sum by (nothing) (rate(resilient_llm_client_calls_total{error_type!=""}[5m]))'))
    assert [(pattern.pattern, labels) for pattern, labels in found] == [
        ("resilient_llm_client_calls_total", {"nothing", "error_type"})
    ]
