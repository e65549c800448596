"""The page and the dashboard speak of what is emitted, and nothing is emitted that they do not know."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import pytest

from resilient_llm import events
from resilient_llm.errors import AllAttemptsFailed
from resilient_llm.operate.objectives import gauges
from resilient_llm.telemetry import names
from tests.telemetry import reference
from tests.telemetry.rig import DOWN, FIRST, RATE_LIMITED, REPLY, SECOND, Rig, record

DOCS = Path(__file__).parents[2] / "docs"
KNOWN = {attribute.name: attribute for attribute in names.ATTRIBUTES}


def busy(rig: Rig) -> None:
    """Something of everything."""
    for fault in (None, DOWN):
        call = rig.call(streaming=True)
        call.attempt(FIRST, 1, "initial", 0.0).ended(record(FIRST, fault=RATE_LIMITED), selected=False)
        call.attempt(FIRST, 2, "retry", 0.5).ended(record(FIRST, 2, "retry", DOWN), selected=False)
        call.attempt(SECOND, 3, "failover", 0.0).ended(record(SECOND, 3, "failover", fault), selected=fault is None)
        call.attempt(FIRST, 4, "hedge", 0.0).ended(record(FIRST, 4, "hedge", outcome="cancelled"), selected=False)
        call.first_chunk(0.1)
        if fault is None:
            call.succeeded(REPLY, SECOND, 1.0)
        else:
            call.failed(AllAttemptsFailed("x", (), None, fault), 1.0)
    for event in (
        events.BreakerChanged(1.0, "openai", "closed", "open", "tripped", 5.0),
        events.GateClosed(1.0, "openai", 3.0, "quota_exhausted", slow=True),
        events.NotTaken(1.0, "openai", "retry", "budget"),
        events.OperatorChanged(1.0, "openai", "drain"),
    ):
        rig.telemetry.event(event)


def test_the_tables_of_the_page_are_those_of_the_code() -> None:
    page = (DOCS / "reference" / "telemetry.md").read_text()
    assert page == reference.rewritten(page), "python -m tests.telemetry.reference writes them anew"


def test_every_attribute_is_in_the_table_where_it_appears(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "resilient_llm")
    rig = Rig(semconv="dup")
    busy(rig)
    for span in rig.spans:
        where = "attempt" if span.parent else "call"
        assert not [name for name in span.attributes or {} if where not in KNOWN[name].where], span.name
    for metric in names.METRICS:
        assert not [name for name in metric.attributes if "metrics" not in KNOWN[name].where], metric.name
    plain = set(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "otel.event.name", "trace_id", "span_id"}
    for line in caplog.records:
        extra = set(line.__dict__) - plain
        assert not [name for name in extra if "log" not in KNOWN[name].where], line.getMessage()
    page = (DOCS / "logs.md").read_text()
    assert {str(line.__dict__["otel.event.name"]) for line in caplog.records} <= set(re.findall(r"`([a-z_.]+)`", page))


def test_every_metric_that_is_emitted_is_in_the_table() -> None:
    rig = Rig(semconv="dup")
    busy(rig)
    assert rig.metric_names() <= {metric.name for metric in names.METRICS}
    assert len({metric.name for metric in names.METRICS}) == len(names.METRICS)


def expressions() -> list[str]:
    dashboard = json.loads((DOCS.parent / "examples" / "observability" / "grafana_dashboard.json").read_text())
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def published() -> dict[str, set[str]]:
    """Prometheus name -> label names."""
    found: dict[str, set[str]] = {}
    for metric in names.METRICS:
        labels = {name.replace(".", "_") for name in metric.attributes}
        name = names.prometheus_name(metric)
        for suffix in ("_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",):
            found[name + suffix] = labels | ({"le"} if suffix == "_bucket" else set())
        if metric.unit == "1":
            found[name + "(_ratio)?"] = labels
    for gauge in gauges.METRICS:
        found[f"{gauge.replace('.', '_')}(_ratio)?"] = {
            "resilient_llm_client_name",
            "resilient_llm_route_name",
            "resilient_llm_objective",
            "resilient_llm_window",
        }
    return found


@pytest.mark.parametrize("expression", expressions())
def test_the_dashboard_asks_for_metrics_and_labels_that_exist(expression: str) -> None:
    known = published()
    asked = set(re.findall(r"\b((?:resilient_llm|gen_ai)_\w+(?:\(_ratio\)\?)?)", expression))
    series = {name for name in asked if name in known}
    labels = {name for name in asked if name not in known} | set(re.findall(r"\b(error_type|le)\b", expression))
    assert series
    for name in series:
        assert labels <= set().union(*(known[other] for other in series)), name
    assert "otel_scope" not in expression


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (names.OPERATION_DURATION, "gen_ai_client_operation_duration_seconds"),
        (names.TOKEN_USAGE, "gen_ai_client_token_usage"),
        (names.FAILOVERS, "resilient_llm_client_failovers_total"),
        (names.ACTIVE, "resilient_llm_client_attempt_active"),
        (names.HEALTH, "resilient_llm_provider_health_score"),
    ],
)
def test_prometheus_names_are_those_its_exporter_makes(metric: names.Metric, expected: str) -> None:
    assert names.prometheus_name(metric) == expected


def test_names_follow_the_naming_rules() -> None:
    for metric in names.METRICS:
        assert not metric.name.endswith("_total")
        assert re.fullmatch(r"(gen_ai|resilient_llm)(\.[a-z_]+)+", metric.name)
        assert metric.unit in ("s", "1") or re.fullmatch(r"\{[a-z]+\}", metric.unit)
        assert (metric.buckets is not None) is (metric.kind == "histogram")
