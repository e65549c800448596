from __future__ import annotations

import asyncio
import errno
import http.client
import json
import socket
import ssl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient_llm.errors import (
    AllAttemptsFailed,
    ClientClosed,
    DeadlineExceeded,
    Fault,
    FaultKind,
    FaultScope,
    InvalidAnswer,
    InvalidRequest,
    ProviderError,
    UnsupportedFeature,
)
from resilient_llm.wire.faults.exceptions import classify_exception


def judged(exc: BaseException) -> tuple[str, str]:
    fault = classify_exception(exc)
    return fault.kind.value, fault.scope.value


def chained(outer: BaseException, *causes: BaseException) -> BaseException:
    link = outer
    for cause in causes:
        link.__cause__ = cause
        link = cause
    return outer


@pytest.mark.parametrize(
    ("exc", "kind", "scope"),
    [
        (TimeoutError(), "timeout", "endpoint"),
        (socket.timeout(), "timeout", "endpoint"),  # noqa: UP041  # the old name is what libraries raise
        (asyncio.TimeoutError(), "timeout", "endpoint"),  # noqa: UP041
        (ConnectionRefusedError(), "connection", "endpoint"),
        (ConnectionResetError(), "connection", "endpoint"),
        (BrokenPipeError(), "connection", "endpoint"),
        (socket.gaierror(-2, "Name or service not known"), "connection", "endpoint"),
        (ssl.SSLCertVerificationError("certificate verify failed"), "connection", "endpoint"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "connection", "endpoint"),
        (OSError(errno.EMFILE, "Too many open files"), "connection", "local"),
        (FileNotFoundError(errno.ENOENT, "ca.pem"), "connection", "local"),
        (http.client.RemoteDisconnected(), "connection", "endpoint"),
        (http.client.IncompleteRead(b""), "connection", "endpoint"),
        (EOFError(), "connection", "endpoint"),
        (json.JSONDecodeError("x", "y", 0), "invalid_response", "endpoint"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), "invalid_response", "endpoint"),
        (asyncio.CancelledError(), "client_closed", "local"),
        (KeyboardInterrupt(), "client_closed", "local"),
        (GeneratorExit(), "client_closed", "local"),
        (MemoryError(), "connection", "local"),
        (ValueError("odd"), "server_error", "endpoint"),
        (ProviderError("no", kind=FaultKind.OVERLOADED, status=503), "overloaded", "endpoint"),
        (InvalidAnswer("not JSON"), "invalid_response", "endpoint"),
        (InvalidAnswer("error", {"error": {"code": 429, "message": "slow"}}), "rate_limited", "credential"),
        (InvalidAnswer("odd", {"choices": [{"finish_reason": "stop"}]}), "invalid_response", "endpoint"),
        (UnsupportedFeature("audio", "cohere"), "unsupported", "request"),
        (InvalidRequest("no messages"), "bad_request", "request"),
        (DeadlineExceeded("late"), "timeout", "local"),
        (ClientClosed("gone"), "client_closed", "local"),
        (AllAttemptsFailed("x", fault=Fault(FaultKind.AUTH, scope=FaultScope.CREDENTIAL)), "auth", "credential"),
        (ExceptionGroup("both", [ValueError(), ConnectionRefusedError()]), "connection", "endpoint"),
        (chained(RuntimeError("wrapped"), KeyError(), TimeoutError()), "timeout", "endpoint"),
    ],
)
def test_built_in_and_own_exceptions_mean_what_they_are(exc: BaseException, kind: str, scope: str) -> None:
    assert judged(exc) == (kind, scope)


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
@pytest.mark.parametrize(
    ("name", "kind", "scope"),
    [
        ("ConnectTimeout", "timeout", "endpoint"),
        ("ReadTimeout", "timeout", "endpoint"),
        ("WriteTimeout", "timeout", "endpoint"),
        ("PoolTimeout", "timeout", "local"),
        ("ConnectError", "connection", "endpoint"),
        ("ReadError", "connection", "endpoint"),
        ("RemoteProtocolError", "connection", "endpoint"),
        ("LocalProtocolError", "connection", "local"),
        ("ProxyError", "connection", "endpoint"),
        ("UnsupportedProtocol", "connection", "local"),
        ("DecodingError", "invalid_response", "endpoint"),
        ("TooManyRedirects", "server_error", "endpoint"),
        ("TransportError", "connection", "endpoint"),
    ],
)
def test_httpx_exceptions_are_known_by_name(library: str, name: str, kind: str, scope: str) -> None:
    module = pytest.importorskip(library)
    assert judged(getattr(module, name)("x")) == (kind, scope)


def test_an_httpx_status_error_is_classified_by_its_response() -> None:
    httpx = pytest.importorskip("httpx")
    request = httpx.Request("POST", "http://x/")
    body = {"error": {"message": "slow", "code": "rate_limit_exceeded"}}
    response = httpx.Response(429, headers={"Retry-After": "7"}, json=body, request=request)
    fault = classify_exception(httpx.HTTPStatusError("429", request=request, response=response))
    assert (fault.kind, fault.retry_after, fault.status, fault.code) == (
        FaultKind.RATE_LIMITED,
        7.0,
        429,
        "rate_limit_exceeded",
    )


def test_requests_and_urllib3_exceptions_are_known_by_name() -> None:
    requests = pytest.importorskip("requests")
    urllib3 = pytest.importorskip("urllib3")
    assert judged(requests.exceptions.ConnectTimeout()) == ("timeout", "endpoint")
    assert judged(requests.exceptions.ConnectionError()) == ("connection", "endpoint")
    assert judged(requests.exceptions.ChunkedEncodingError()) == ("connection", "endpoint")
    assert judged(requests.exceptions.SSLError()) == ("connection", "endpoint")
    assert judged(requests.exceptions.JSONDecodeError("x", "y", 0)) == ("invalid_response", "endpoint")
    refused = urllib3.exceptions.NewConnectionError(None, "refused")
    assert judged(urllib3.exceptions.MaxRetryError(None, "/", refused)) == ("connection", "endpoint")
    slow = urllib3.exceptions.ReadTimeoutError(None, "/", "slow")
    assert judged(urllib3.exceptions.MaxRetryError(None, "/", slow)) == ("timeout", "endpoint")


@pytest.mark.parametrize("name", ["openai", "anthropic"])
def test_sdk_exceptions_are_classified_by_what_they_carry(name: str) -> None:
    sdk = pytest.importorskip(name)
    httpx = pytest.importorskip("httpx2" if name == "anthropic" and _uses_httpx2(sdk) else "httpx")
    request = httpx.Request("POST", "http://x/")
    body = {"error": {"type": "insufficient_quota", "code": "insufficient_quota", "message": "You exceeded it"}}
    response = httpx.Response(429, headers={"retry-after-ms": "250"}, json=body, request=request)
    limited = classify_exception(sdk.RateLimitError("429", response=response, body=body["error"]))
    assert (limited.kind, limited.retry_after) == (FaultKind.QUOTA_EXHAUSTED, 0.25)
    assert judged(sdk.APITimeoutError(request)) == ("timeout", "endpoint")
    assert judged(sdk.APIConnectionError(request=request)) == ("connection", "endpoint")
    hung = chained(sdk.APIConnectionError(request=request), httpx.ReadTimeout("slow"))
    assert judged(hung) == ("timeout", "endpoint")


def _uses_httpx2(sdk: object) -> bool:
    return "httpx2" in str(getattr(sdk, "DEFAULT_TIMEOUT", "").__class__.__module__)


def test_an_sdk_error_for_an_event_inside_a_stream_is_classified_by_the_event_not_by_its_200() -> None:
    sdk = pytest.importorskip("anthropic")
    httpx = pytest.importorskip("httpx")
    event = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    response = httpx.Response(200, request=httpx.Request("POST", "http://x/"))
    assert judged(sdk.APIStatusError("Overloaded", response=response, body=event))[0] == "overloaded"
    assert judged(sdk.APIStatusError("odd", response=response, body={"choices": [1]}))[0] == "server_error"


def test_an_openai_error_without_a_response_is_classified_by_its_body() -> None:
    sdk = pytest.importorskip("openai")
    httpx = pytest.importorskip("httpx")
    error = sdk.APIError(
        "slow", httpx.Request("POST", "http://x/"), body={"code": "rate_limit_exceeded", "message": "s"}
    )
    assert judged(error) == ("rate_limited", "credential")


def test_botocore_client_errors_carry_code_status_and_headers() -> None:
    exceptions = pytest.importorskip("botocore.exceptions")
    answer = {
        "Error": {"Code": "ThrottlingException", "Message": "Too many tokens, please wait"},
        "ResponseMetadata": {"HTTPStatusCode": 429, "HTTPHeaders": {"x-amzn-requestid": "r1"}},
    }
    fault = classify_exception(exceptions.ClientError(answer, "Converse"))
    assert (fault.kind, fault.request_id) == (FaultKind.RATE_LIMITED, "r1")
    assert judged(exceptions.NoCredentialsError())[0] == "auth"
    assert judged(exceptions.EndpointConnectionError(endpoint_url="x"))[0] == "connection"
    assert judged(exceptions.ReadTimeoutError(endpoint_url="x"))[0] == "timeout"
    assert judged(exceptions.ClientError({}, "Converse"))[0] == "connection"


def test_google_errors_keep_the_status_in_code_and_the_body_in_details() -> None:
    class APIError(Exception):
        code = 429
        status = "RESOURCE_EXHAUSTED"
        response = None
        details = {  # noqa: RUF012
            "error": {
                "code": 429,
                "status": "RESOURCE_EXHAUSTED",
                "message": "Quota exceeded",
                "details": [{"retryDelay": "28s"}],
            }
        }

    fault = classify_exception(APIError())
    assert (fault.kind, fault.retry_after) == (FaultKind.RATE_LIMITED, 28.0)


def test_an_exception_that_only_has_a_status_is_judged_by_it_and_keeps_its_text() -> None:
    class HTTPError(Exception):
        status_code = 503

    fault = classify_exception(HTTPError("try later"))
    assert (fault.kind, fault.message) == (FaultKind.OVERLOADED, "try later")
    carrying = HTTPError("x")
    carrying.headers = {"retry-after": "4"}  # type: ignore[attr-defined]
    assert classify_exception(carrying).retry_after == 4.0


def test_a_providers_own_error_is_taken_at_its_word() -> None:
    fault = classify_exception(
        ProviderError("key=sk-abcdef123456", kind=FaultKind.RATE_LIMITED, status=429, retry_after=3, code="busy")
    )
    assert (fault.kind, fault.retry_after, fault.status, fault.code) == (FaultKind.RATE_LIMITED, 3.0, 429, "busy")
    assert "abcdef" not in fault.message
    for nonsense in (-1.0, float("nan"), float("inf"), "5", True):
        assert classify_exception(ProviderError(retry_after=nonsense)).retry_after is None  # type: ignore[arg-type]


class Told(ssl.SSLError):
    """What OpenSSL tells by its attributes."""

    def __init__(self, reason: str, code: int = 0, message: str = "") -> None:
        super().__init__(1, f"[SSL: {reason}]")
        self.reason = reason
        if code:
            self.verify_code, self.verify_message = code, message


class Connecting(Exception):
    """A library's own, which is known by its name."""


Connecting.__name__ = "ConnectError"


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (Told("CERTIFICATE_VERIFY_FAILED", 10, "certificate has expired"), "has expired (it must be renewed"),
        (Told("CERTIFICATE_VERIFY_FAILED", 20, "unable to get local issuer"), "issuer (if an authority of your own"),
        (Told("CERTIFICATE_VERIFY_FAILED", 62, "Hostname mismatch."), "Hostname mismatch (is base_url= right?)"),
        (Told("CERTIFICATE_VERIFY_FAILED", 23, "certificate revoked"), "not accepted: certificate revoked"),
        (Told("TLSV13_ALERT_CERTIFICATE_REQUIRED"), "give cert="),
        (Told("TLSV1_ALERT_UNKNOWN_CA"), "(unknown ca)"),
        (Told("SSLV3_ALERT_HANDSHAKE_FAILURE"), "(handshake failure)"),
    ],
)
def test_a_certificate_that_one_side_does_not_accept(told: Told, words: str) -> None:
    for exc in (told, chained(Connecting("no"), told), Connecting(told)):  # httpcore's pool cuts the chain
        fault = classify_exception(exc)
        assert (fault.kind, fault.code) == (FaultKind.MISCONFIGURED, "not_sent")
        assert words in fault.message


@pytest.mark.parametrize(
    "reason", ["WRONG_VERSION_NUMBER", "UNEXPECTED_EOF_WHILE_READING", "TLSV1_ALERT_INTERNAL_ERROR"]
)
def test_other_failures_of_tls_may_pass(reason: str) -> None:
    assert judged(chained(Connecting("no"), Told(reason))) == ("connection", "endpoint")


def test_an_exception_without_words_has_those_of_its_cause() -> None:
    assert classify_exception(chained(Connecting(), OSError("the cable is out"))).message == "the cable is out"


def test_a_suppressed_context_does_not_count_and_a_cycle_ends() -> None:
    try:
        try:
            raise TimeoutError
        except TimeoutError:
            raise ValueError("unrelated") from None
    except ValueError as error:
        unrelated = judged(error)
    assert unrelated == ("server_error", "endpoint")
    first, second = ValueError(), KeyError()
    first.__cause__, second.__cause__ = second, first
    assert judged(first)[0] == "server_error"


def test_the_chain_is_followed_a_bounded_number_of_steps() -> None:
    links = [ValueError(str(n)) for n in range(50)]
    assert judged(chained(links[0], *links[1:], TimeoutError()))[0] == "server_error"


def test_objects_that_fight_back_are_read_all_the_same() -> None:
    class Hostile(Exception):
        @property
        def response(self) -> object:
            raise RuntimeError("no")

        def __str__(self) -> str:
            raise RuntimeError("no")

    assert judged(Hostile()) == ("server_error", "endpoint")


def test_the_message_holds_no_key() -> None:
    assert "abc123" not in repr(classify_exception(ConnectionError("POST https://x/?key=AIzaabc123def456 failed")))


ATTRIBUTES = (
    st.none() | st.integers() | st.text(max_size=20) | st.dictionaries(st.text(max_size=5), st.text(max_size=5))
)


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["status_code", "status", "code", "body", "response", "headers", "details", "reason"]),
        ATTRIBUTES | st.just(ValueError("x")),
    )
)
def test_no_exception_makes_the_classifier_raise(attributes: dict[str, object]) -> None:
    exc = type("StrangeError", (Exception,), attributes)("x")
    fault = classify_exception(exc)
    assert fault.retry_after is None or fault.retry_after >= 0
