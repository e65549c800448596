"""Tools that read traces find exactly one generation per call; their pages name only what is emitted.

The predicates restate each tool's published rules (``docs/dashboards/``); they are stand-ins for the tools themselves.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan

from resilient_llm.telemetry import names
from tests.telemetry.rig import DOWN, FIRST, RATE_LIMITED, REPLY, SECOND, THIRD, Rig, record

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [DOCS / "dashboards.md", *sorted((DOCS / "dashboards").glob("*.md"))]

Attributes = Mapping[str, object]
_GENERATIONS = {"chat", "text_completion", "generate_content", "completion", "generate"}


def langfuse(span: Attributes) -> bool:
    models = ("gen_ai.request.model", "gen_ai.response.model", "model")
    return span.get("gen_ai.operation.name") in _GENERATIONS or any(name in span for name in models)


def phoenix(span: Attributes) -> bool:
    return span.get("gen_ai.operation.name") in _GENERATIONS or "gen_ai.request.model" in span


def datadog(span: Attributes) -> bool:
    return "gen_ai.provider.name" in span and "gen_ai.operation.name" in span


def logfire(span: Attributes) -> bool:
    model = "gen_ai.request.model" in span or "gen_ai.response.model" in span
    return model and any(name.startswith("gen_ai.usage.") for name in span)


TOOLS: tuple[Callable[[Attributes], bool], ...] = (langfuse, phoenix, datadog, logfire)


def a_hard_call(semconv: names.Semconv) -> list[ReadableSpan]:
    """Refused, repeated, failed over, hedged, answered."""
    rig = Rig(semconv=semconv)
    call = rig.call()
    call.attempt(FIRST, 1, "initial", 0.0).ended(record(FIRST, fault=RATE_LIMITED), selected=False)
    call.attempt(FIRST, 2, "retry", 0.5).ended(record(FIRST, 2, "retry", DOWN), selected=False)
    winner = call.attempt(SECOND, 3, "failover", 0.0)
    call.attempt(THIRD, 4, "hedge", 0.0).ended(record(THIRD, 4, "hedge", outcome="cancelled"), selected=False)
    winner.ended(record(SECOND, 3, "failover"), selected=True)
    call.succeeded(REPLY, SECOND, 1.0)
    return rig.spans


@pytest.mark.parametrize("semconv", ["1.41", "0.1.0", "dup"])
@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.__name__)
def test_a_call_is_one_generation_whatever_it_took(tool: Callable[[Attributes], bool], semconv: names.Semconv) -> None:
    spans = a_hard_call(semconv)
    assert len(spans) == 5
    found = [span for span in spans if tool(span.attributes or {})]
    assert [span.name for span in found] == ["chat claude-sonnet-5"]
    assert (found[0].attributes or {})["gen_ai.request.model"] == "claude-sonnet-5"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_names_only_attributes_that_are_emitted(page: Path) -> None:
    known = {attribute.name for attribute in names.ATTRIBUTES}
    asked = set(re.findall(r"`((?:gen_ai|resilient_llm)\.[a-z_.]+)`", page.read_text()))
    assert asked
    assert asked <= known
