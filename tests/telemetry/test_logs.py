"""Log lines: which, at what level, with which facts."""

from __future__ import annotations

import logging

import pytest

from resilient_llm import events
from resilient_llm.errors import AllAttemptsFailed
from resilient_llm.telemetry import Telemetry, loggable_headers, logs, names
from tests.telemetry.rig import DOWN, FIRST, RATE_LIMITED, REFUSED, REPLY, REQUEST, SECOND, Rig, record


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, str]]:
    return [(r.levelname, r.name, str(r.__dict__["otel.event.name"])) for r in caplog.records]


def fail(rig: Rig) -> None:
    call = rig.call()
    call.attempt(FIRST, 1, "initial", 0.0).ended(record(FIRST, fault=RATE_LIMITED), selected=False)
    call.attempt(SECOND, 2, "failover", 0.0).ended(record(SECOND, 2, "failover", DOWN), selected=False)
    trail = (record(FIRST, fault=RATE_LIMITED), record(SECOND, 2, "failover", DOWN))
    call.failed(AllAttemptsFailed("all failed", trail, None, DOWN), 1.0)


def test_a_failed_call_is_one_warning_with_its_trail(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "resilient_llm")
    rig = Rig()
    fail(rig)
    assert lines(caplog) == [
        ("WARNING", "resilient_llm.call", "resilient_llm.client.failover"),
        ("WARNING", "resilient_llm.call", "gen_ai.client.operation.exception"),
    ]
    warning = caplog.records[1]
    assert warning.getMessage() == (
        "chat on route default failed: server_error (attempts: openai rate_limit, claude server_error)"
    )
    context = rig.spans[-1].context
    assert context is not None
    facts = warning.__dict__
    assert facts["trace_id"] == f"{context.trace_id:032x}"
    assert facts["span_id"] == f"{context.span_id:016x}"
    assert facts["exception.type"] == "AllAttemptsFailed"
    assert facts[names.CALL_ID] == "c1"
    assert facts[names.ERROR_TYPE] == "server_error"
    assert facts[names.ATTEMPT_COUNT] == 2
    assert warning.exc_info is None


def test_of_a_call_that_was_answered_in_the_end_only_its_failover_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "resilient_llm")
    call = Rig().call()
    call.attempt(FIRST, 1, "initial", 0.0).ended(record(FIRST, fault=DOWN), selected=False)
    call.attempt(SECOND, 2, "failover", 0.0).ended(record(SECOND, 2, "failover"), selected=True)
    call.succeeded(REPLY, SECOND, 1.0)
    assert lines(caplog) == [("WARNING", "resilient_llm.call", "resilient_llm.client.failover")]


def test_ids_lead_from_a_call_to_its_attempts(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "resilient_llm")
    rig = Rig()
    fail(rig)
    told = [r.__dict__.get(names.ATTEMPT_ID) for r in caplog.records]
    assert told == ["c1-1", "c1-2", "c1-2", None], "the attempt, the failover to the next, that one, the call"
    spans = [span.attributes[names.ATTEMPT_ID] for span in rig.spans if span.parent and span.attributes]
    assert spans == ["c1-1", "c1-2"]


@pytest.mark.parametrize(
    ("semconv", "event"),
    [
        ("1.41", "gen_ai.client.operation.exception"),
        ("0.1.0", "gen_ai.client.inference.exception"),
        ("dup", "gen_ai.client.operation.exception"),
    ],
)
def test_the_event_of_a_failed_call_is_named_as_its_dialect_names_it(
    semconv: names.Semconv, event: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "resilient_llm")
    fail(Rig(semconv=semconv))
    assert lines(caplog)[-1] == ("WARNING", "resilient_llm.call", event)


def test_without_an_sdk_lines_have_no_ids_and_the_same_facts(caplog: pytest.LogCaptureFixture) -> None:
    call = Telemetry("plain").call("chat", REQUEST, "default", FIRST, streaming=False, call_id="c9")
    call.failed(AllAttemptsFailed("x", (), None, REFUSED), 1.0)
    (line,) = caplog.records
    assert line.__dict__[names.CALL_ID] == "c9"
    assert "trace_id" not in line.__dict__
    assert line.getMessage() == "chat on route default failed: connection_error (attempts: none)"


def test_every_attempt_is_told_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "resilient_llm")
    call = Rig().call()
    call.attempt(FIRST, 1, "initial", 0.0).ended(record(FIRST, fault=RATE_LIMITED), selected=False)
    call.attempt(FIRST, 2, "retry", 0.5).ended(record(FIRST, 2, "retry"), selected=True)
    call.attempt(SECOND, 3, "hedge", 0.0).ended(record(SECOND, 3, "hedge", outcome="cancelled"), selected=False)
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        ("DEBUG", "attempt 1 at openai ended: rate_limit after 0.25 s"),
        ("DEBUG", "retry: attempt 2 goes to openai after rate_limit"),
        ("DEBUG", "attempt 2 at openai ended: success after 0.25 s"),
        ("DEBUG", "hedge: attempt 3 goes to claude after rate_limit"),
        ("DEBUG", "attempt 3 at claude ended: cancelled after 0.25 s"),
    ]
    facts = caplog.records[0].__dict__
    assert facts[names.ATTEMPT_RETRY_AFTER] == 2.0
    assert facts[names.PROVIDER_REQUEST_ID] == "req_1"


@pytest.mark.parametrize(
    ("event", "level", "logger", "message"),
    [
        (
            events.BreakerChanged(1.0, "openai", "closed", "open", "5 in a row", 5.0),
            "WARNING",
            "resilient_llm.breaker",
            "breaker of openai: closed -> open (5 in a row)",
        ),
        (
            events.BreakerChanged(1.0, "openai", "open", "closed", "enough trials succeeded"),
            "INFO",
            "resilient_llm.breaker",
            "breaker of openai: open -> closed (enough trials succeeded)",
        ),
        (
            events.BreakerChanged(1.0, "openai", "closed", "softly_open", "it failed too often", 1.0),
            "WARNING",
            "resilient_llm.breaker",
            "breaker of openai: closed -> softly_open (it failed too often)",
        ),
        (
            events.GateClosed(1.0, "openai", 3.0, "rate_limited", slow=False),
            "INFO",
            "resilient_llm.gate",
            "openai is left alone for 3 s (rate_limit)",
        ),
        (
            events.GateClosed(1.0, "openai", 300.0, "auth", slow=True),
            "WARNING",
            "resilient_llm.gate",
            "openai is left alone for 300 s (authentication)",
        ),
        (
            events.NotTaken(1.0, "openai", "retry", "budget"),
            "DEBUG",
            "resilient_llm.budget",
            "retry was due but not taken (budget)",
        ),
        (events.OperatorChanged(1.0, "openai", "drain"), "INFO", "resilient_llm.provider", "operator: drain openai"),
    ],
)
def test_state_changes_have_a_logger_of_their_own(
    event: events.Event, level: str, logger: str, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "resilient_llm")
    Telemetry("x").event(event)
    (line,) = caplog.records
    assert (line.levelname, line.name, line.getMessage()) == (level, logger, message)
    assert line.__dict__[names.PROVIDER_ID] == "openai"


def test_the_library_never_configures_logging() -> None:
    root = logging.getLogger("resilient_llm")
    assert {type(handler) for handler in root.handlers} == {logging.NullHandler}
    assert root.level == logging.NOTSET
    assert root.propagate


def test_only_headers_on_the_allow_list_may_be_shown() -> None:
    headers = {
        "Authorization": "Bearer sk-canary",
        "Set-Cookie": "__cf_bm=canary",
        "openai-organization": "org-canary",
        "X-Request-ID": "req_1",
        "Retry-After": "3",
        "retry-after-ms": "3000",
        "x-ratelimit-remaining-tokens": "9",
        "anthropic-ratelimit-requests-limit": "50",
        "Content-Type": "application/json",
    }
    assert loggable_headers(headers) == {
        "x-request-id": "req_1",
        "retry-after": "3",
        "retry-after-ms": "3000",
        "x-ratelimit-remaining-tokens": "9",
        "anthropic-ratelimit-requests-limit": "50",
        "content-type": "application/json",
    }


def test_telemetry_that_fails_says_so_once_and_never_what(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "_complaints", set())
    for _ in range(3):
        logs.complain("call", ValueError("canary"))
    assert [r.getMessage() for r in caplog.records] == ["telemetry failed in call (ValueError); calls are not affected"]
    monkeypatch.setattr(logs, "_MOST_COMPLAINTS", 1)
    logs.complain("elsewhere", ValueError())
    assert len(caplog.records) == 1
