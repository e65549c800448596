from __future__ import annotations

import json
import string
from collections.abc import Mapping

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from resilient_llm.errors import Fault, FaultKind, FaultScope
from resilient_llm.wire.faults.answers import classify, classify_stream_error, parse_retry_after
from resilient_llm.wire.faults.scrub import scrub
from resilient_llm.wire.faults.times import LONGEST
from tests.material import corpus, material
from tests.wire.fault_cases import CASES, anthropic, google, openai, reason, router, workers

NOON = 1_759_320_000.0
"""Wed, 01 Oct 2025 12:00:00 GMT, the clock of the reference cases."""

NOT_IN_THE_ANSWER = frozenset(
    {
        # No response, so nothing tells these apart here: they are exceptions (tests/wire/test_exception_faults.py).
        "transport-caller-cancelled",
        "transport-read-timeout",
        "transport-pool-timeout",
        "transport-connect-timeout",
        # A good first chunk after which the stream ended: the stream decoder notices the missing end.
        "ollama-v1-stream-lost-error",
    }
)


JUDGED_OTHERWISE = {"http-405": "misconfigured"}
"""A method that is not allowed comes from a server that does not speak our API, whatever its body looks like."""


def reference_cases() -> list[dict[str, object]]:
    rows: list[dict[str, object]] = json.loads(material("facts", "provider_errors.json").read_text())
    return [row for row in rows if row["id"] not in NOT_IN_THE_ANSWER]


def classified(row: Mapping[str, object], body: object) -> tuple[object, object, object]:
    fault = classify(row["provider"], row["http_status"], row["headers"], body, now=NOON)  # type: ignore[arg-type]
    assert fault is not None, row["id"]
    return fault.kind.value, fault.retry_after, fault.trust_hint


def failed(vendor: str, status: int, body: object, headers: Mapping[str, str] | None = None) -> Fault:
    fault = classify(vendor, status, headers or {}, body, now=NOON)
    assert fault is not None
    return fault


# --- kinds -------------------------------------------------------------------------------------------------


def test_every_reference_case_has_its_kind_hint_and_trust() -> None:
    wrong = [
        (row["id"], got, expected)
        for row in reference_cases()
        for got in [classified(row, row["body"])]
        for kind in [JUDGED_OTHERWISE.get(str(row["id"]), row["expected_class"])]
        for expected in [(kind, row["retry_after_s"], row.get("trust_hint", True))]
        if got != expected
    ]
    assert wrong == []


def test_the_form_in_which_a_body_arrives_makes_no_difference() -> None:
    for row in reference_cases():
        body = row["body"]
        if body is None:
            continue
        text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
        expected = classified(row, body)
        assert classified(row, text) == expected, row["id"]
        assert classified(row, text.encode()) == expected, row["id"]


def test_header_names_are_matched_without_regard_to_case() -> None:
    for row in reference_cases():
        shouted = {**row, "headers": {name.upper(): value for name, value in row["headers"].items()}}  # type: ignore[attr-defined]
        assert classified(shouted, row["body"]) == classified(row, row["body"]), row["id"]


@pytest.mark.parametrize(("vendor", "status", "body", "kind"), CASES)
def test_the_same_meaning_in_other_words_and_shapes_is_understood(
    vendor: str, status: int, body: object, kind: str
) -> None:
    assert failed(vendor, status, body).kind.value == kind


def test_what_is_success_is_not_a_fault() -> None:
    rows = json.loads(material("facts", "ratelimit_headers.json").read_text())
    for row in rows:
        if row["kind"] == "success_control":
            fault = classify(row["provider"], row["http_status"], row["headers"], row["body"], now=NOON)
            assert fault is None, row["why"]


def test_recorded_answers_are_faults_exactly_when_they_were_errors() -> None:
    # A refusal, a filtered answer and a malformed call are complete answers on the wire and yet not what was asked for.
    unusable = {FaultKind.CONTENT_FILTER, FaultKind.SERVER_ERROR}
    for record in corpus():
        if record.get("body_b64"):
            continue
        body = record.get("body") if record.get("body") is not None else record.get("body_text")
        fault = classify(str(record["provider"]), record["status"] or 200, record["headers"] or {}, body)  # type: ignore[arg-type]
        if record["outcome"] == "error":
            assert fault is not None, record["id"]
        elif fault is not None:
            assert fault.kind in unusable, record["id"]
            assert fault.message == "", record["id"]  # a finish reason decided, not a text


@pytest.mark.parametrize(
    "body",
    [
        {"type": "message_start", "message": {"id": "m", "content": [], "stop_reason": None}},
        {"type": "ping"},
        {"id": "x", "choices": [{"delta": {"content": "hi"}, "finish_reason": None}]},
        {"choices": [{"finish_reason": "stop"}, {"finish_reason": "content_filter"}]},
        {"choices": [], "prompt_filter_results": []},
        {"candidates": [{"finishReason": "MAX_TOKENS"}]},
        {"stop_reason": "model_context_window_exceeded", "content": []},
        {"error": {}, "choices": [{"finish_reason": "stop"}]},
        {"error": {"code": None, "message": ""}, "choices": [{"finish_reason": "stop"}]},
        {"object": "list", "data": []},
        {"base_resp": {"status_code": 0, "status_msg": "ok"}, "choices": [{"finish_reason": "stop"}]},
        {"success": True, "result": {"response": "hi"}, "errors": [], "messages": []},
        [{"candidates": [{"finishReason": "STOP"}]}],
        [],
        'data: {"choices":[]}\n\ndata: [DONE]\n\n',
        '{"message":{"content":"a"},"done":false}\n{"done":true,"done_reason":"stop"}\n',
    ],
)
def test_ordinary_pieces_of_answers_are_no_faults(body: object) -> None:
    assert classify("anything", 200, {}, body) is None


def test_empty_and_binary_successes_are_judged_by_what_was_announced() -> None:
    assert classify("openai", 204, {}, None) is None
    assert classify("openai", 202, {}, b"") is None
    assert classify("openai", 200, {"content-type": "audio/mpeg"}, b"ID3\x04") is None
    assert classify("bedrock", 200, {"content-type": "application/vnd.amazon.eventstream"}, b"\x00\x00") is None
    assert failed("openai", 200, None).kind is FaultKind.SERVER_ERROR
    assert failed("openai", 200, None, {"content-type": "text/event-stream"}).kind is FaultKind.CONNECTION
    assert failed("openai", 200, "", {"content-type": "text/event-stream"}).kind is FaultKind.CONNECTION
    assert failed("openai", 200, b"", {}).kind is FaultKind.SERVER_ERROR


def test_a_cancelled_response_is_nobodys_failure() -> None:
    assert failed("openai", 200, {"object": "response", "status": "cancelled"}).kind is FaultKind.CLIENT_CLOSED


def test_no_response_at_all_is_a_connection_failure() -> None:
    fault = failed("openai", 0, None)
    assert (fault.kind, fault.scope) == (FaultKind.CONNECTION, FaultScope.ENDPOINT)


def test_an_unassigned_status_is_judged_by_its_class() -> None:
    assert failed("x", 418, "no").kind is FaultKind.MISCONFIGURED
    for status in (406, 411, 417, 421, 426, 495):
        told = {"error": {"message": "not so", "type": "invalid_request_error"}}
        assert failed("x", status, told).kind is FaultKind.MISCONFIGURED, "about HTTP, whatever the body says"
    assert failed("x", 444, "no").kind is FaultKind.CONNECTION
    assert failed("x", 599, "").kind is FaultKind.TIMEOUT
    assert failed("x", 799, "").kind is FaultKind.SERVER_ERROR
    assert failed("x", 301, "").kind is FaultKind.MISCONFIGURED


def test_month_and_day_buckets_at_zero_are_quota_whatever_the_text() -> None:
    spent = {"x-ratelimitbysize-remaining-month": "0", "x-ratelimitbysize-remaining-minute": "9"}
    assert failed("mistral", 429, {"message": "Rate limit exceeded"}, spent).kind is FaultKind.QUOTA_EXHAUSTED
    assert failed("mistral", 429, {"message": "Rate limit exceeded"}).kind is FaultKind.RATE_LIMITED


def test_an_exception_frame_is_classified_by_its_header() -> None:
    headers = {":message-type": "exception", ":exception-type": "serviceUnavailableException"}
    assert failed("bedrock", 200, {"message": "x"}, headers).kind is FaultKind.OVERLOADED


# --- whom it concerns --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("vendor", "status", "body", "scope"),
    [
        ("openai", 401, "", FaultScope.CREDENTIAL),
        ("openai", 429, openai("Too many requests"), FaultScope.CREDENTIAL),
        ("groq", 429, openai("Rate limit reached for model `x`", "rate_limit_exceeded"), FaultScope.MODEL),
        ("vertex_ai", 429, google(429, "RESOURCE_EXHAUSTED", "Quota per_minute_per_base_model"), FaultScope.MODEL),
        ("hf_tgi", 429, {"error": "Model is overloaded", "error_type": "overloaded"}, FaultScope.MODEL),
        ("openai", 503, "", FaultScope.ENDPOINT),
        ("openai", 500, "", FaultScope.ENDPOINT),
        ("openai", 404, openai("The model does not exist"), FaultScope.MODEL),
        ("openai", 404, "", FaultScope.ENDPOINT),
        ("openai", 400, openai("x", "context_length_exceeded"), FaultScope.REQUEST),
        ("groq", 400, openai("x", "tool_use_failed"), FaultScope.MODEL),
        ("cloudflare_edge", 429, "error code: 1015", FaultScope.ENDPOINT),
        ("gemini", 499, "", FaultScope.REQUEST),
    ],
)
def test_nobody_but_those_concerned_is_blamed(vendor: str, status: int, body: object, scope: FaultScope) -> None:
    assert failed(vendor, status, body).scope is scope


def test_a_relays_trouble_with_its_upstream_is_not_ours() -> None:
    raw = json.dumps({"error": {"type": "authentication_error", "message": "invalid x-api-key"}})
    relayed = router(401, "Provider returned error", raw=raw, provider_name="Anthropic", is_byok=False)
    assert failed("openrouter", 401, relayed).kind is FaultKind.SERVER_ERROR
    limited = router(429, "Provider returned error", raw="Rate limit reached", provider_name="X")
    assert failed("openrouter", 429, limited).kind is FaultKind.OVERLOADED
    own = router(401, "Provider returned error", raw=raw, provider_name="Anthropic", is_byok=True)
    assert failed("openrouter", 401, own).kind is FaultKind.AUTH


# --- hints -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "body", "wait"),
    [
        ({"retry-after-ms": "120", "x-ms-retry-after-ms": "5", "retry-after": "9"}, None, 0.12),
        ({"retry-after-ms": "soon", "x-ms-retry-after-ms": "5", "retry-after": "9"}, None, 0.005),
        ({"Retry-After": " 5 "}, None, 5.0),
        ({"retry-after": "1.5"}, None, 1.5),
        ({"retry-after": "0"}, None, 0.0),
        ({"retry-after": "86400"}, None, 86400.0),
        ({"retry-after": "Wed, 01 Oct 2025 12:00:30 GMT"}, None, 30.0),
        ({"retry-after": "Wed, 01 Oct 2025 12:00:30 GMT", "date": "Wed, 01 Oct 2025 12:00:10 GMT"}, None, 20.0),
        ({"retry-after": "Wed, 01 Oct 2025 11:00:00 GMT"}, None, 0.0),
        ({}, {"error": {"details": [{"@type": "RetryInfo", "retryDelay": "45.57s"}]}}, 45.57),
        ({}, {"error": {"details": [{"@type": "RetryInfo", "retryDelay": {"seconds": 7}}]}}, 7.0),
        ({}, router(429, "no", headers={"Retry-After": "31"}), 31.0),
        ({}, {"error": {"retry_after": 3}}, 3.0),
        ({}, {"error": {"retryAfterMs": 1500}}, 1.5),
        ({}, {"error": {"retry_after": "12"}}, 12.0),
        ({}, {"error": "loading", "estimated_time": 20.5}, 20.5),
        ({"x-ratelimit-reset": "3"}, {"error": "slow down, try again in 9s"}, 3.0),
        ({"x-ratelimit-remaining-tokens": "5", "x-ratelimit-reset-tokens": "3s"}, None, None),
        ({}, {"error": {"message": "Please try again in 1m12.5s. Visit https://x/try-again-in-5s"}}, 72.5),
        ({}, {"error": "Please retry after 6 seconds."}, 6.0),
        ({}, "wait 2 minutes and 5 seconds", 125.0),
        ({}, router(429, "no", headers={"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1759320060000"}), 60.0),
    ],
)
def test_hints_are_found_in_their_documented_order(
    headers: Mapping[str, str], body: object, wait: float | None
) -> None:
    assert parse_retry_after(headers, body, "openrouter", NOON) == wait
    assert failed("openrouter", 429, body, headers).retry_after == wait


@pytest.mark.parametrize(
    "text",
    [
        "nan",
        "inf",
        "-3",
        "1e999",
        "1_0",
        "5, 5",
        "5s",
        "",
        "soon",
        "٣",
        "9999999999",
        "999999999",
        "+5",
        "0x5",
        "Wed, 01 Oct 99999 12:00:00 GMT",
        "Wed, 01 Oct 2099 12:00:00 GMT",
        "Wed, 99 Oct 2025 12:00:00 GMT",
    ],
)
def test_a_hint_that_nobody_can_mean_is_unknown(text: str) -> None:
    assert parse_retry_after({"retry-after": text}, None, "openai", NOON) is None


@pytest.mark.parametrize("value", [True, None, -1, 1e400, float("nan"), 10**400, "1e999", [], {"seconds": "x"}])
def test_a_structured_hint_that_nobody_can_mean_is_unknown(value: object) -> None:
    assert parse_retry_after({}, {"error": {"retry_after": value}}) is None


def test_a_date_without_any_clock_is_unknown() -> None:
    assert parse_retry_after({"retry-after": "Wed, 01 Oct 2025 12:00:30 GMT"}, None) is None


def test_a_retry_after_on_a_success_is_not_a_hint_even_for_an_error_inside() -> None:
    fault = failed("anthropic", 200, anthropic("overloaded_error", "Overloaded"), {"retry-after": "19"})
    assert (fault.kind, fault.retry_after) == (FaultKind.OVERLOADED, None)


def test_reset_headers_of_an_ordinary_server_error_are_not_a_hint() -> None:
    assert failed("together", 500, "", {"x-ratelimit-reset": "3"}).retry_after is None


def test_hints_that_do_not_help_are_marked() -> None:
    large = openai("Request too large: Limit 6000, Requested 12089", "rate_limit_exceeded")
    assert not failed("groq", 413, large, {"retry-after": "64"}).trust_hint
    broke = openai("Insufficient balance", "insufficient_quota")
    assert not failed("openai", 429, broke, {"retry-after": "5"}).trust_hint
    assert failed("openai", 429, broke).trust_hint  # nothing to distrust
    assert failed("openai", 429, openai("slow"), {"retry-after": "5"}).trust_hint


# --- inside a stream ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("vendor", "payload", "kind"),
    [
        ("anthropic", anthropic("overloaded_error", "Overloaded"), "overloaded"),
        ("openai", {"type": "error", "code": "rate_limit_exceeded", "message": "slow"}, "rate_limited"),
        (
            "openai",
            {"type": "response.failed", "response": {"error": {"code": "server_error", "message": "x"}}},
            "server_error",
        ),
        ("bedrock", {"throttlingException": {"message": "Too many requests"}}, "rate_limited"),
        ("bedrock", {"modelStreamErrorException": {"message": "x"}}, "server_error"),
        ("bedrock", {"validationException": {"message": "malformed"}}, "bad_request"),
        ("openrouter", {"error": {"code": 402, "message": "no"}, "choices": []}, "quota_exhausted"),
        ("cohere", {"type": "message-end", "delta": {"finish_reason": "TIMEOUT"}}, "timeout"),
        ("ollama", "model runner has unexpectedly stopped", "server_error"),
        ("ollama", '{"error": "rate limit exceeded"}', "rate_limited"),
        ("ollama", {"error": "request canceled"}, "client_closed"),
        ("x", "upstream timed out", "timeout"),
        ("x", "the server is overloaded", "overloaded"),
        ("x", "Input validation error: bad", "bad_request"),
        ("x", {"error": {"type": "invalid_request_error", "message": "no"}}, "bad_request"),
        ("x", {"error": {"type": "not_found_error", "message": "no"}}, "not_found_model"),
        ("x", {"unexpected": 1}, "server_error"),
        ("x", None, "server_error"),
        ("x", 5, "server_error"),
        ("x", "", "server_error"),
    ],
)
def test_an_error_inside_a_stream_is_classified_by_its_own_words(vendor: str, payload: object, kind: str) -> None:
    fault = classify_stream_error(vendor, payload, now=NOON)
    assert (fault.kind.value, fault.status) == (kind, 200)


# --- what is kept ------------------------------------------------------------------------------------------


def test_a_fault_keeps_the_vendors_code_the_shortened_text_and_the_request_id() -> None:
    fault = failed("openai", 429, openai("Slow " + "x " * 400, "slow_down"), {"X-Request-Id": "req_7"})
    assert (fault.code, fault.status, fault.request_id) == ("slow_down", 429, "req_7")
    assert fault.message.startswith("Slow x")
    assert len(fault.message) == 200
    assert failed("anthropic", 529, anthropic("overloaded_error", "Overloaded")).request_id == "req_1"
    assert failed("cloudflare_workers_ai", 400, workers(5007, "No such model")).code == "5007"
    assert (
        failed("gemini", 400, google(400, "INVALID_ARGUMENT", "x", reason("API_KEY_INVALID"))).code
        == "INVALID_ARGUMENT"
    )


def test_an_html_page_is_reduced_to_its_headline() -> None:
    page = "<html><head><title>502 Bad Gateway</title><script>overloaded quota</script></head><body>x</body></html>"
    assert failed("x", 502, page).message == "502 Bad Gateway"


def test_what_the_request_or_the_model_said_is_not_kept() -> None:
    body = {"detail": [{"loc": ["body"], "msg": "Field required", "input": "my secret prompt"}]}
    assert failed("vllm", 422, body).message == "Field required"
    body = openai("Failed to call a function.", "tool_use_failed")
    body["error"]["failed_generation"] = "secret answer"  # type: ignore[index]
    assert "secret" not in failed("groq", 400, body).message


# --- scrubbing ---------------------------------------------------------------------------------------------

KEY_CHARS = st.text(string.ascii_letters + string.digits, min_size=20, max_size=60)
PREFIXES = st.sampled_from(
    [
        "sk-",
        "sk-ant-api03-",
        "sk-proj-",
        "sk-or-v1-",
        "AIza",
        "Bearer ",
        "key=",
        "api_key: ",
        "xai-",
        "gsk_",
        "hf_",
        "nvapi-",
        "pplx-",
        '"x-api-key": "',
        "Authorization: Bearer ",
        "eyJ",
        "https://u:",
        "?key=",
        "token=",
        "AWS_SECRET_ACCESS_KEY=",
    ]
)


@settings(deadline=None)
@given(st.text(max_size=80), PREFIXES, KEY_CHARS, st.text(max_size=300), st.integers(0, 300))
def test_no_planted_key_survives(before: str, prefix: str, key: str, after: str, limit: int) -> None:
    tail = "@host/" if prefix == "https://u:" else " "
    assume(key[:8] not in before + after)
    shown = scrub(f"{before} {prefix}{key}{tail}{after}", limit)
    assert key[:8] not in shown
    assert len(shown) <= limit
    assert "\n" not in shown


@settings(deadline=None)
@given(PREFIXES, KEY_CHARS)
def test_no_planted_key_survives_in_a_fault(prefix: str, key: str) -> None:
    tail = "@host/" if prefix == "https://u:" else ""
    text = f"invalid {prefix}{key}{tail}"
    for fault in (failed("x", 401, openai(text, text)), classify_stream_error("x", text)):
        assert key not in repr(fault)


@settings(deadline=None)
@given(st.from_regex(r"AKIA[A-Z0-9]{16}", fullmatch=True), st.from_regex(r"[a-z0-9]{32,64}", fullmatch=True))
def test_aws_key_ids_and_long_random_words_are_masked(key_id: str, word: str) -> None:
    assert key_id not in scrub(f"id={key_id}.")
    if any(c.isdigit() for c in word) and any(c.isalpha() for c in word):
        assert word not in scrub(f"using {word}")


@pytest.mark.parametrize(
    "text",
    [
        "meta-llama/Llama-4-Maverick-17B-128E-Instruct-FP8 does not exist",
        "GenerateRequestsPerDayPerProjectPerModel",
        "projects/p/locations/us-central1/publishers/google/models/gemini-9",
        "max tokens: 4096",
        "risk-free disk-usage",
        "Limit 30000, Requested 31538",
    ],
)
def test_model_names_quotas_and_numbers_stay_readable(text: str) -> None:
    assert scrub(text) == text


def test_aws_secrets_with_slashes_are_masked() -> None:
    assert scrub("used wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY here") == "used *** here"


@pytest.mark.parametrize("text", ["a-" * 50_000, "key=" * 20_000, "://" * 30_000, "Bearer " * 20_000, "x" * 100_000])
def test_scrubbing_hostile_text_stays_short(text: str) -> None:
    assert len(scrub(text)) <= 200


@settings(deadline=None)
@given(PREFIXES, KEY_CHARS)
def test_no_planted_key_survives_in_the_body_of_a_fault(prefix: str, key: str) -> None:
    tail = "@host/" if prefix == "https://u:" else ""
    text = f"first line\n{prefix}{key}{tail}"
    fields: list[object] = [text, [{"api_key": key}], {"message": "no", text: {"a": "b"}}, {text: 1}, {text: None}]
    for body in [{"error": {"message": "no", "fields": one}} for one in fields]:
        for fault in (failed("x", 401, json.dumps(body)), classify_stream_error("x", body)):
            assert fault.body is not None
            assert key not in fault.body


def test_a_fault_keeps_what_its_provider_said_as_it_said_it() -> None:
    said = {"error": {"message": "Too long:\n  9000 > 8192", "param": None, "details": [{"n": 1.5}]}, "more": "x y"}
    kept = failed("openai", 400, said).body
    assert kept is not None
    assert json.loads(kept) == said
    assert failed("gemini", 400, [said]).body == kept, "of a stream it comes in a list"
    told = classify_stream_error("openai", {**said, "choices": [], "type": "error"}).body
    assert json.loads(told or "") == {"error": said["error"], "type": "error"}


@pytest.mark.parametrize(
    "body",
    [
        "<html><title>no</title></html>",
        "no such thing",
        {},
        [],
        {"error": {"message": "a" * 8000}},
        '{"error":' + "[" * 3000 + "]" * 3000 + "}",
        b"\xff",
    ],
    ids=repr,
)
def test_what_is_no_error_object_or_too_long_is_not_kept(body: object) -> None:
    assert failed("openai", 500, body).body is None


# --- garbage -----------------------------------------------------------------------------------------------

VENDORS = st.sampled_from(
    ["openai", "gemini", "bedrock", "hf_tgi", "openrouter", "cloudflare_workers_ai", "nobody", ""]
)
KEYS = st.sampled_from(
    [
        "error",
        "errors",
        "message",
        "code",
        "type",
        "status",
        "detail",
        "details",
        "retry_after",
        "retryDelay",
        "metadata",
        "raw",
        "headers",
        "choices",
        "finish_reason",
        "candidates",
        "finishReason",
        "promptFeedback",
        "response",
        "delta",
        "object",
        "success",
        "base_resp",
        "status_code",
        "Output",
        "__type",
        "throttlingException",
        "incomplete_details",
        "http_status_code",
        "provider_name",
        "stop_reason",
        "request_id",
        "x-ratelimit-reset",
        "estimated_time",
        "failed_generation",
        "violations",
        "quotaId",
    ]
) | st.text(max_size=8)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=40)
    | st.binary(max_size=20)
    | st.sampled_from(
        [
            "error",
            "failed",
            "429",
            "rate_limit_exceeded",
            "content_filter",
            "response",
            "Try again in 5s",
            "9" * 400,
            '{"error": {"code": 400}}',
            "[[[[[[",
            "<html><title>x</title>",
            "data: {",
            "Limit 5, Requested 9",
            "1e999",
        ]
    )
)
BODIES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=20
)
HEADERS = st.dictionaries(
    st.sampled_from(
        [
            "retry-after",
            "Retry-After-Ms",
            "date",
            "content-type",
            ":message-type",
            "x-amzn-errortype",
            "ratelimit",
            "x-ratelimit-reset",
            "x-ratelimit-remaining",
            "cf-mitigated",
            "x-request-id",
        ]
    )
    | st.text(max_size=10),
    st.text(max_size=30) | st.sampled_from(["5", "-1", "nan", "text/event-stream", "exception", "9" * 30]),
    max_size=5,
)
STATUSES = (
    st.sampled_from([0, 200, 201, 204, 301, 400, 401, 402, 403, 404, 408, 413, 422, 429, 498, 500, 503, 529])
    | st.integers()
)


def assert_sane(fault: Fault) -> None:
    assert fault.retry_after is None or 0 <= fault.retry_after <= LONGEST
    assert len(fault.message) <= 200
    assert isinstance(fault.kind, FaultKind)
    assert isinstance(fault.scope, FaultScope)


@settings(max_examples=300, deadline=None)
@given(VENDORS, STATUSES, HEADERS, BODIES, st.none() | st.floats())
def test_no_answer_makes_the_classifier_raise(
    vendor: str, status: int, headers: dict[str, str], body: object, now: float | None
) -> None:
    fault = classify(vendor, status, headers, body, now=now)
    if fault is not None:
        assert_sane(fault)
    else:
        assert 200 <= status < 300
    assert_sane(classify_stream_error(vendor, body, now=now))
    wait = parse_retry_after(headers, body, vendor, now)
    assert wait is None or 0 <= wait <= LONGEST


@settings(deadline=None)
@given(VENDORS, STATUSES, st.binary(max_size=200) | st.text(max_size=200))
def test_no_raw_body_makes_the_classifier_raise(vendor: str, status: int, body: bytes | str) -> None:
    fault = classify(vendor, status, {}, body)
    if fault is not None:
        assert_sane(fault)


@pytest.mark.parametrize(
    "body",
    [
        "[" * 100_000,
        '{"error":' * 50_000,
        '{"a":' + "9" * 10_000 + "}",
        "{" * 100_000,
        "x" * 3_000_000,
        "<html>" + "<h1>" * 100_000,
        json.dumps({"error": [{"error": {"message": "m" * 5000}}] * 5000}),
        "input tokens exceed " * 20_000,
        {1: 2, "error": {3: 4}},
        {"errors": [[{"message": str(n)} for n in range(40)] for _ in range(40)]},
    ],
)
def test_hostile_bodies_are_read_within_bounds(body: object) -> None:
    for status in (200, 400, 429):
        classify("openai", status, {}, body)


def test_headers_that_are_no_mapping_count_as_absent() -> None:
    assert classify("openai", 500, None, b"") is not None  # type: ignore[arg-type]
