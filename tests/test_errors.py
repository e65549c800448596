"""Errors: they carry facts, survive a process boundary, and are what a caller would catch."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from collections.abc import Callable

import pytest

from resilient_llm import errors
from resilient_llm.errors import (
    AllAttemptsFailed,
    AttemptRecord,
    CallFailed,
    ClientClosed,
    ConfigurationError,
    DeadlineExceeded,
    Fault,
    FaultKind,
    FaultScope,
    InvalidAnswer,
    InvalidRequest,
    NoProviderAvailable,
    ProviderError,
    RequestRejected,
    ResilientError,
    StreamInterrupted,
    UnsupportedFeature,
)
from resilient_llm.model import ChatResponse, Text

FAULT = Fault(FaultKind.RATE_LIMITED, retry_after=7.0, status=429, code="slow_down", message="too fast")
TRAIL = (
    AttemptRecord(1, "openai/gpt", "gpt", "initial", "error", Fault(FaultKind.CONNECTION), None, 0.1234),
    AttemptRecord(2, "eu", "claude", "failover", "error", FAULT, 429, 1.5, delay=0.25),
    AttemptRecord(3, "gemini", "flash", "hedge", "cancelled", None, None, 12.0),
)
PARTIAL = ChatResponse((Text("once upon"),))

FAILURES: list[CallFailed] = [
    CallFailed("it failed", TRAIL, 7.0, FAULT),
    RequestRejected("the provider rejected the request", TRAIL, None, FAULT),
    AllAttemptsFailed("all 3 attempts failed", TRAIL, 7.0, FAULT),
    NoProviderAvailable("nobody", TRAIL, 7.0, FAULT, {"a": "drained"}),
    DeadlineExceeded("no answer within 5 s", TRAIL, 7.0, FAULT),
    StreamInterrupted("the stream broke", TRAIL, 7.0, FAULT, PARTIAL),
]
OTHERS: list[Exception] = [
    ResilientError("root"),
    ConfigurationError("wrong"),
    InvalidRequest("empty"),
    UnsupportedFeature("images", "ollama"),
    InvalidAnswer("no choices", {"error": "x"}),
    ClientClosed("closed"),
    ProviderError("busy", kind=FaultKind.OVERLOADED, status=529, retry_after=3.0, code="overloaded"),
]
COPIES: list[Callable[[Exception], Exception]] = [
    copy.copy,
    copy.deepcopy,
    *(lambda error, protocol=protocol: pickle.loads(pickle.dumps(error, protocol)) for protocol in (2, 4, 5)),
]


def facts(error: Exception) -> tuple[object, ...]:
    return type(error), str(error), error.args, {name: repr(value) for name, value in vars(error).items()}


@pytest.mark.parametrize("duplicate", COPIES)
@pytest.mark.parametrize("error", [*FAILURES, *OTHERS], ids=lambda error: type(error).__name__)
def test_a_copy_of_an_error_is_the_same_error(error: Exception, duplicate: Callable[[Exception], Exception]) -> None:
    assert facts(duplicate(error)) == facts(error)


def test_every_error_is_tested_here_and_drawn_in_the_tree() -> None:
    made = {item for _, item in inspect.getmembers(errors, inspect.isclass) if issubclass(item, Exception)}
    assert made == {type(error) for error in [*FAILURES, *OTHERS]}
    drawn = set(re.findall(r"^    [│├└─ ]*(\w+)", errors.__doc__ or "", re.MULTILINE))
    assert {item.__name__ for item in made} <= drawn


@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
def test_a_failed_call_carries_its_trail_and_tells_every_attempt(error: CallFailed) -> None:
    assert error.attempts == TRAIL
    assert error.fault is FAULT
    assert str(error) == (
        f"{error.message} (1. openai/gpt: connection after 0.123 s; 2. eu: rate_limited 429 after 1.5 s: too fast; "
        "3. gemini: cancelled after 12 s)"
    )


@pytest.mark.parametrize("kind", [type(error) for error in FAILURES])
def test_a_call_that_made_no_attempt_tells_only_why(kind: type[CallFailed]) -> None:
    error = kind("nobody is there")
    assert str(error) == "nobody is there"
    assert (error.attempts, error.retry_after, error.fault) == ((), None, None)


@pytest.mark.parametrize(
    ("error", "caught_as"),
    [
        (DeadlineExceeded, TimeoutError),
        (ConfigurationError, ValueError),
        (InvalidRequest, ValueError),
        (ClientClosed, RuntimeError),
        (UnsupportedFeature, ResilientError),
        (InvalidAnswer, ResilientError),
        *((type(error), CallFailed) for error in FAILURES),
        *((type(error), ResilientError) for error in FAILURES),
    ],
)
def test_an_error_is_caught_as_what_it_is(error: type[Exception], caught_as: type[Exception]) -> None:
    assert issubclass(error, caught_as)


def test_a_missed_deadline_has_no_operating_system_to_blame() -> None:
    error = DeadlineExceeded("late", TRAIL, 7.0, FAULT)
    assert isinstance(error, OSError)
    assert (error.errno, error.strerror, error.filename) == (None, None, None)
    assert error.args == ("late",)


def test_a_provider_written_by_a_user_is_not_one_of_ours() -> None:
    assert not issubclass(ProviderError, ResilientError)
    error = ProviderError("out of order")
    assert (error.kind, error.status, error.retry_after, error.code) == (FaultKind.SERVER_ERROR, None, None, None)


def test_reasons_and_partial_answers_are_carried() -> None:
    assert NoProviderAvailable("nobody", reasons={"a": "drained"}).reasons == {"a": "drained"}
    assert NoProviderAvailable("nobody").reasons == {}
    assert StreamInterrupted("broken", partial=PARTIAL).partial is PARTIAL
    assert StreamInterrupted("broken").partial == ChatResponse((), "error")


def test_what_cannot_be_expressed_is_named_with_who_cannot() -> None:
    assert str(UnsupportedFeature("images", "ollama")) == "ollama cannot express images"
    assert str(InvalidAnswer("no choices", {})) == "no choices"
    assert InvalidAnswer("no choices").payload is None


def test_reasons_are_the_errors_own() -> None:
    given = {"a": "drained"}
    error = NoProviderAvailable("nobody", reasons=given)
    given.clear()
    assert error.reasons == {"a": "drained"}


def test_a_fault_concerns_its_endpoint_unless_it_says_otherwise() -> None:
    assert Fault(FaultKind.TIMEOUT).scope is FaultScope.ENDPOINT
    assert Fault(FaultKind.TIMEOUT).trust_hint


def facts_of(error: Exception) -> dict[str, object]:
    names = ("kind", "status_code", "retry_after", "retryable", "provider", "request_id")
    return {name: getattr(error, name) for name in names}


@pytest.mark.parametrize("error", [*FAILURES, *OTHERS], ids=lambda error: type(error).__name__)
def test_every_error_has_the_same_facts(error: Exception) -> None:
    found = facts_of(error)
    assert isinstance(found["kind"], FaultKind | None)
    assert isinstance(found["retryable"], bool)


@pytest.mark.parametrize(
    "error", [ResilientError("x"), ConfigurationError("x"), InvalidRequest("x"), ClientClosed("x")]
)
def test_an_error_before_anything_was_sent_has_no_facts(error: ResilientError) -> None:
    assert facts_of(error) == {
        "kind": None,
        "status_code": None,
        "retry_after": None,
        "retryable": False,
        "provider": None,
        "request_id": None,
    }


@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
def test_a_failed_call_says_who_decided_it(error: CallFailed) -> None:
    assert facts_of(error) == {
        "kind": FaultKind.RATE_LIMITED,
        "status_code": 429,
        "retry_after": error.retry_after,
        "retryable": not isinstance(error, RequestRejected),
        "provider": "eu",
        "request_id": None,
    }


@pytest.mark.parametrize(
    ("error", "retryable"),
    [
        (AllAttemptsFailed("x", fault=Fault(FaultKind.AUTH, status=401, request_id="r1")), False),
        (AllAttemptsFailed("x", fault=Fault(FaultKind.QUOTA_EXHAUSTED)), False),
        (AllAttemptsFailed("x", fault=Fault(FaultKind.SERVER_ERROR)), True),
        (NoProviderAvailable("x"), True),
        (DeadlineExceeded("x"), True),
        (DeadlineExceeded("x", fault=Fault(FaultKind.AUTH)), True),
        (ProviderError("x", kind=FaultKind.BAD_REQUEST), False),
        (ProviderError("x", kind=FaultKind.OVERLOADED), True),
    ],
)
def test_what_may_succeed_later_is_told_apart(error: CallFailed | ProviderError, retryable: bool) -> None:
    assert error.retryable is retryable


def test_the_words_of_a_provider_are_on_one_line_and_bounded() -> None:
    fault = Fault(FaultKind.BAD_REQUEST, status=400, message="Unknown\n parameter: 'foo' " + "x" * 1000)
    record = AttemptRecord(1, "b", "m", "initial", "error", fault, 400, 0.01)
    told = str(RequestRejected("the provider rejected the request", (record,)))
    assert "1. b: bad_request 400 after 0.01 s: Unknown parameter: 'foo' xxx" in told
    assert len(told) < 260
    assert "\n" not in told
    assert told.endswith("…)")
