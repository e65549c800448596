"""Several observers of one client: each is told, one that fails harms nobody, and a single one costs nothing more."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import pytest

from resilient_llm import ResilientClient
from resilient_llm.drive.observer import (
    AttemptObserver,
    AttemptWatcher,
    CallObserver,
    CallWatcher,
    Described,
    Operation,
    Watcher,
)
from resilient_llm.errors import AttemptRecord
from resilient_llm.events import BreakerChanged, Event
from resilient_llm.model import ChatRequest, ChatResponse, EmbedRequest, EmbedResponse, Usage
from resilient_llm.testing import ScriptedProvider, Status


class Notes(Watcher):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.usages: list[Usage | None] = []

    def call(
        self,
        operation: Operation,
        request: ChatRequest | EmbedRequest,
        route: str,
        target: Described | None,
        *,
        streaming: bool,
        call_id: str,
    ) -> CallObserver:
        self.told.append(f"call {operation} {route}")
        return NotedCall(self)

    def event(self, event: Event) -> None:
        if isinstance(event, BreakerChanged):
            self.told.append(f"{event.provider} {event.new}")


class NotedCall(CallWatcher):
    def __init__(self, notes: Notes) -> None:
        self.notes = notes

    def attempt(self, target: Described, number: int, kind: str, delay: float) -> AttemptObserver:
        self.notes.told.append(f"attempt {number} {target.id}")
        return NotedAttempt(self.notes)

    def first_chunk(self, seconds: float) -> None:
        self.notes.told.append("first chunk")

    def succeeded(self, response: ChatResponse | EmbedResponse, target: Described, seconds: float) -> None:
        self.notes.told.append(f"answered {target.id}")

    def failed(self, error: BaseException, seconds: float, target: Described | None = None) -> None:
        self.notes.told.append(f"failed {type(error).__name__}")

    def closed_early(self, response: ChatResponse | None, target: Described | None, seconds: float) -> None:
        self.notes.told.append("closed early")


class NotedAttempt(AttemptWatcher):
    def __init__(self, notes: Notes) -> None:
        self.notes = notes

    def attach(self) -> object:
        self.notes.told.append("attach")
        return self

    def detach(self, token: object) -> None:
        assert token is self
        self.notes.told.append("detach")

    def headers(self) -> Mapping[str, str]:
        return {"x-noted": "yes"}

    def ended(self, record: AttemptRecord, *, selected: bool, usage: Usage | None = None) -> None:
        self.notes.told.append(f"ended {record.outcome} {selected}")


class Failing(Watcher):
    """Raises wherever it can."""

    def call(
        self,
        operation: Operation,
        request: ChatRequest | EmbedRequest,
        route: str,
        target: Described | None,
        *,
        streaming: bool,
        call_id: str,
    ) -> CallObserver:
        if route == "default":
            return FailingCall()
        raise ValueError("call")

    def event(self, event: Event) -> None:
        raise ValueError("event")


class FailingCall(CallWatcher):
    def attempt(self, target: Described, number: int, kind: str, delay: float) -> AttemptObserver:
        raise ValueError("attempt")

    def succeeded(self, response: ChatResponse | EmbedResponse, target: Described, seconds: float) -> None:
        raise ValueError("succeeded")


def test_each_observer_is_told_of_calls_attempts_and_changes() -> None:
    one, other = Notes(), Notes()
    with ResilientClient([ScriptedProvider(id="a", default=Status(500)), ScriptedProvider(id="b")]) as client:
        client.pool.observe(one)
        client.pool.observe(other)
        client.chat("hi")
    assert one.told == other.told
    assert one.told[:2] == ["call chat default", "attempt 1 a"]
    assert "ended error False" in one.told
    assert "ended success True" in one.told
    assert one.told[-1] == "answered b"


def test_an_observer_that_fails_is_logged_and_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    notes = Notes()
    with ResilientClient({"default": [ScriptedProvider(id="a")], "other": [ScriptedProvider(id="b")]}) as client:
        client.pool.observe(Failing())
        client.pool.observe(notes)
        with caplog.at_level(logging.ERROR, "resilient_llm"):
            client.chat("hi")
            client.chat("hi", route="other")
            client.isolate("a")
    assert notes.told.count("answered a") == 1
    assert notes.told.count("answered b") == 1
    assert "a isolated" in notes.told
    assert {record.getMessage() for record in caplog.records} >= {
        "an observer failed: Failing",
        "an observer failed: FailingCall",
    }


def test_who_is_taken_away_is_told_no_more_and_the_first_stands_alone_again() -> None:
    notes = Notes()
    with ResilientClient([ScriptedProvider(id="a")]) as client:
        alone = client.pool.observer
        client.pool.observe(notes)
        client.pool.unobserve(notes)
        client.pool.unobserve(notes)
        client.chat("hi")
        assert client.pool.observer is alone
    assert notes.told == []


def test_a_watcher_ignores_everything_and_a_stream_closed_early_is_told() -> None:
    notes = Notes()
    with ResilientClient([ScriptedProvider(id="a")]) as client:
        client.pool.observe(Watcher())
        client.pool.observe(notes)
        with client.stream("hi") as stream:
            next(iter(stream.text_deltas()))
    assert "first chunk" in notes.told
    assert "closed early" in notes.told
