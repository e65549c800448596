"""What a caller has at hand is what classify and parse_rate_limit take."""

from __future__ import annotations

from typing import Any

import pytest

from resilient_llm.errors import FaultKind, InvalidRequest
from resilient_llm.providers.secrecy import contains_secret, without_secret
from resilient_llm.wire import Fault, Limit, RateLimits, classify, classify_exception, parse_rate_limit
from resilient_llm.wire.kit.fields import dump_request


def kind(status: Any, headers: Any = None, body: Any = b"", vendor: str = "openai") -> FaultKind | None:
    fault = classify(vendor, status, headers, body)
    return None if fault is None else fault.kind


def test_a_status_may_be_digits_or_none() -> None:
    assert kind("429") is FaultKind.RATE_LIMITED
    assert kind(None) is FaultKind.CONNECTION
    assert kind("no status") is FaultKind.CONNECTION
    assert kind(4.5) is FaultKind.CONNECTION


def test_headers_may_be_missing_or_numbers() -> None:
    headers: Any = {"Retry-After": 7}
    fault = classify("openai", 429, headers, b"")
    assert isinstance(fault, Fault)
    assert fault.retry_after == 7
    assert parse_rate_limit("openai", None) == RateLimits()


@pytest.mark.parametrize("value", ["1,000", 1000, "1000", " 1,000 "])
def test_a_limit_may_be_a_number_or_have_its_thousands_apart(value: Any) -> None:
    limits = parse_rate_limit("openai", {"x-ratelimit-remaining-requests": value})
    assert limits.requests == Limit(remaining=1000)


@pytest.mark.parametrize("status", [400, 405, 418])
@pytest.mark.parametrize("body", [b"", b"<html><head><title>400 Bad Request</title></head></html>"])
def test_what_a_gateway_refuses_without_saying_why_is_not_blamed_on_the_request(status: int, body: bytes) -> None:
    assert kind(status, {}, body) is FaultKind.MISCONFIGURED


def test_what_the_vendor_refuses_in_its_own_words_is_the_requests_fault() -> None:
    body = {"error": {"message": "Missing required parameter: messages", "type": "invalid_request_error"}}
    assert kind(400, {}, body) is FaultKind.BAD_REQUEST


SECRET = "team canary/5f2a"


@pytest.mark.parametrize("shown", [SECRET, "team%20canary/5f2a", "team%20canary%2F5f2a", "team+canary%2F5f2a"])
def test_a_known_secret_is_taken_out_of_everything_a_fault_shows(shown: str) -> None:
    said = f"no {shown}!"
    fault = without_secret(Fault(FaultKind.AUTH, message=said, code=said, request_id=said), SECRET)
    assert (fault.message, fault.code, fault.request_id) == ("no ***!",) * 3
    assert contains_secret(said, SECRET)


def test_a_secret_that_was_cut_off_is_taken_out_as_well() -> None:
    fault = without_secret(Fault(FaultKind.AUTH, message="no team canary…"), SECRET)
    assert fault.message == "no ***…"


@pytest.mark.parametrize("secret", [None, "", "short", "another-secret"])
def test_a_fault_without_the_secret_stays_as_it_is(secret: str | None) -> None:
    fault = Fault(FaultKind.AUTH, message="a short text", code=None)
    assert without_secret(fault, secret) is fault
    assert not contains_secret(fault.message, secret)


def test_what_json_has_no_word_for_is_refused_rather_than_written() -> None:
    with pytest.raises(InvalidRequest, match="written as JSON"):
        dump_request({"temperature": float("nan")})


def test_an_error_in_botocores_shape_is_read_from_its_response() -> None:
    class ClientError(Exception):
        response = {  # noqa: RUF012 - as botocore has it
            "ResponseMetadata": {"HTTPStatusCode": 429, "HTTPHeaders": {"retry-after": "3"}},
            "Error": {"Code": "ThrottlingException", "Message": "Too many requests"},
        }

    fault = classify_exception(ClientError())
    assert (fault.kind, fault.status, fault.retry_after) == (FaultKind.RATE_LIMITED, 429, 3.0)
