"""The span tree of each kind of call, as the drivers make it."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from resilient_llm.errors import CallFailed, StreamInterrupted
from resilient_llm.testing import Cut, Hang, Reply, Status
from tests.drive.clients import World, eventually, openai


class Traced:
    """A tracer provider and what it exported."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def tree(self) -> list[tuple[Any, ...]]:
        """The one call: its name, outcome, and its attempts as (provider, type, outcome, selected), in order."""
        spans = self._exporter.get_finished_spans()
        roots = [span for span in spans if span.parent is None]
        assert len(roots) == 1, [span.name for span in spans]
        assert [span.name for span in spans if "gen_ai.request.model" in (span.attributes or {})] == [roots[0].name]
        (root,) = roots
        assert root.context is not None
        attempts = [span for span in spans if span.parent is not None]
        assert all(span.parent is not None and span.parent.span_id == root.context.span_id for span in attempts)
        attempts.sort(key=lambda span: (span.attributes or {})["resilient_llm.attempt.number"])  # type: ignore[arg-type,return-value]
        found: list[tuple[Any, ...]] = [(root.name, (root.attributes or {}).get("error.type"))]
        for span in attempts:
            values = span.attributes or {}
            found.append(
                (
                    values["resilient_llm.provider.id"],
                    values["resilient_llm.attempt.type"],
                    values["resilient_llm.attempt.outcome"],
                    values["resilient_llm.attempt.selected"],
                )
            )
        return found


@pytest.fixture
def traced() -> Traced:
    return Traced()


def test_success(world: World, traced: Traced) -> None:
    client = world.client([openai(world.server())], tracer_provider=traced.provider)
    client.chat()
    assert traced.tree() == [("chat first", None), ("first", "initial", "success", True)]


def test_failover(world: World, traced: Traced) -> None:
    client, _, _ = world.pair(Status(503), tracer_provider=traced.provider)
    client.chat()
    assert traced.tree() == [
        ("chat second", None),
        ("first", "initial", "error", False),
        ("second", "failover", "success", True),
    ]


def test_rescue(world: World, traced: Traced) -> None:
    client, first, _ = world.pair(Hang(), tracer_provider=traced.provider)
    client.chat(deadline=0.6)
    assert traced.tree() == [
        ("chat second", None),
        ("first", "initial", "error", False),
        ("second", "hedge", "success", True),
    ]
    first.drop_connections()


def test_a_complete_stream(world: World, traced: Traced) -> None:
    client = world.client([openai(world.server())], tracer_provider=traced.provider)
    client.stream().text()
    assert traced.tree() == [("chat first", None), ("first", "initial", "success", True)]


def test_a_stream_left_early(world: World, traced: Traced) -> None:
    client = world.client([openai(world.server(Reply("one two", interval=5)))], tracer_provider=traced.provider)
    stream = client.stream()
    next(stream)
    stream.close()
    assert traced.tree() == [("chat first", None), ("first", "initial", "cancelled", False)]


def test_a_stream_dropped_without_closing(world: World, traced: Traced) -> None:
    client = world.client([openai(world.server(Reply("one two", interval=5)))], tracer_provider=traced.provider)
    stream = client.stream()
    next(stream)
    stream.raw = None
    client.health()
    client.close()  # a finaliser must not export spans; whoever comes next does
    eventually(lambda: traced.tree() == [("chat first", None), ("first", "initial", "cancelled", False)])


def test_a_broken_stream(world: World, traced: Traced) -> None:
    client, _, _ = world.pair(Reply("one two", fault=Cut(1)), tracer_provider=traced.provider)
    with pytest.raises(StreamInterrupted):
        client.stream().text()
    name, error = traced.tree()[0]
    assert name == "chat first"
    assert error is not None
    assert traced.tree()[1:] == [("first", "initial", "error", False)]


def test_all_failed(world: World, traced: Traced) -> None:
    servers = [world.server(default=Status(500)) for _ in range(4)]
    client = world.client(
        [openai(server, f"p{index}") for index, server in enumerate(servers)],
        tracer_provider=traced.provider,
        retry={"max_attempts": 3},
    )
    with pytest.raises(CallFailed):
        client.chat()
    name, error = traced.tree()[0]
    assert (name, error is not None) == ("chat p2", True)
    assert [span[:3] for span in traced.tree()[1:]] == [
        ("p0", "initial", "error"),
        ("p1", "failover", "error"),
        ("p2", "failover", "error"),
    ]


def test_a_rejected_answer(world: World, traced: Traced) -> None:
    client, _, _ = world.pair(Reply("bad"), tracer_provider=traced.provider)
    client.chat(validate=lambda response: response.text != "bad")
    assert [span[2] for span in traced.tree()[1:]] == ["error", "success"]
