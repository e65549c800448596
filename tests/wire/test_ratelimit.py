from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient_llm.wire.faults import times
from resilient_llm.wire.faults.ratelimit import EMPTY, UNKNOWN, Limit, parse_rate_limit
from tests.material import material

NOON = 1_759_320_000.0
"""Wed, 01 Oct 2025 12:00:00 GMT."""


def vectors() -> list[dict[str, object]]:
    rows = json.loads(material("facts", "ratelimit_headers.json").read_text())
    return [row for row in rows if row["kind"] == "header_vector"]


def test_every_known_dialect_is_read_as_its_vendor_means_it() -> None:
    for row in vectors():
        limits = parse_rate_limit(row["provider"], row["headers"], now=NOON).known()
        read = {
            name: {"limit": x.limit, "remaining": x.remaining, "reset_in_s": x.reset_in, "window": x.window}
            for name, x in limits.items()
        }
        assert read == row["parsed"], row


def test_headers_without_limits_give_the_shared_empty_value() -> None:
    assert parse_rate_limit("openai", {"content-type": "application/json", "date": "whenever"}, now=NOON) is EMPTY
    assert parse_rate_limit("openai", {}, now=None) is EMPTY
    assert EMPTY.tokens is UNKNOWN
    assert EMPTY.known() == {}


def test_headers_that_only_look_like_limits_are_ignored() -> None:
    assert parse_rate_limit("openai", {"x-time-limit": "5", "x-call-id": "7"}, now=NOON) is EMPTY


def test_names_are_matched_without_regard_to_case() -> None:
    limits = parse_rate_limit("openai", {"X-RateLimit-Remaining-Tokens": "7"}, now=NOON)
    assert limits.tokens == Limit(remaining=7)


def test_anthropic_has_independent_buckets_for_input_and_output() -> None:
    headers = {
        f"anthropic-ratelimit-{bucket}-{what}": value
        for bucket in ("requests", "tokens", "input-tokens", "output-tokens")
        for what, value in (("limit", "50"), ("remaining", "3"), ("reset", "2025-10-01T12:00:16Z"))
    }
    limits = parse_rate_limit("anthropic", headers, now=NOON)
    bucket = Limit(50, 3, 16.0)
    assert (limits.requests, limits.tokens, limits.input_tokens, limits.output_tokens) == (bucket,) * 4
    assert set(limits.known()) == {"requests", "tokens", "input_tokens", "output_tokens"}


def test_fireworks_soft_limit_and_its_own_bucket_names_are_understood() -> None:
    headers = {
        "x-ratelimit-over-limit": "yes",
        "x-ratelimit-limit-tokens-prompt": "60000",
        "x-ratelimit-remaining-tokens-prompt": "0",
        "x-ratelimit-remaining-tokens-generated": "5",
    }
    limits = parse_rate_limit("fireworks", headers, now=NOON)
    assert limits.over_limit
    assert limits.input_tokens == limits.other["tokens_prompt"] == Limit(60000, 0)
    assert limits.output_tokens == Limit(remaining=5)
    assert parse_rate_limit("fireworks", {"x-ratelimit-over-limit": "yes"}, now=None).over_limit


def test_groq_counts_requests_by_day_and_tokens_by_minute() -> None:
    headers = {"x-ratelimit-remaining-requests": "3", "x-ratelimit-remaining-tokens": "4"}
    limits = parse_rate_limit("groq", headers, now=NOON)
    assert (limits.requests.window, limits.tokens.window) == ("day", "minute")


def test_the_shortest_window_takes_the_plain_name_and_longer_ones_are_named_after_it() -> None:
    headers = {
        "x-ratelimit-limit-requests-day": "1000",
        "x-ratelimit-limit-requests-minute": "60",
        "x-ratelimit-limit-requests-month": "9000",
    }
    limits = parse_rate_limit("cerebras", headers, now=NOON).known()
    assert {name: limit.limit for name, limit in limits.items()} == {
        "requests": 60,
        "requests_day": 1000,
        "requests_month": 9000,
    }


def test_cohere_trial_calls_share_the_reset_of_their_epoch_header() -> None:
    limits = parse_rate_limit("cohere", {"x-ratelimit-reset": "1759320030"}, now=NOON)
    assert limits.requests == Limit(reset_in=30.0)


def test_structured_fields_may_list_several_policies() -> None:
    headers = {
        "RateLimit": '"burst";r=5;t=10, "daily";r=0;t=3600',
        "RateLimit-Policy": '"burst";q=100;w=60, "daily";q=1000;w=86400',
    }
    limits = parse_rate_limit("cloudflare_workers_ai", headers, now=NOON)
    assert limits.requests == Limit(100, 5, 10.0, "60s")
    assert limits.other["requests_daily"] == Limit(1000, 0, 3600.0, "86400s")


def test_the_older_draft_and_a_state_without_a_policy_are_read_too() -> None:
    assert parse_rate_limit("x", {"ratelimit": "limit=100, remaining=50, reset=30"}, now=None).requests == Limit(
        100, 50, 30.0
    )
    assert parse_rate_limit("x", {"ratelimit": '"a";r=1'}, now=None).requests == Limit(remaining=1)
    assert parse_rate_limit("x", {"ratelimit": "soon"}, now=None) is EMPTY
    assert parse_rate_limit("x", {"ratelimit": '"a";x=1'}, now=None) is EMPTY
    older = {"ratelimit-limit": "100, 100;w=60", "ratelimit-remaining": "9", "ratelimit-reset": "5"}
    assert parse_rate_limit("x", older, now=None).requests == Limit(100, 9, 5.0)


def test_an_absolute_reset_needs_a_clock_and_the_date_header_is_the_better_one() -> None:
    headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1759320012"}
    assert parse_rate_limit("openrouter", headers, now=None).requests.reset_in is None
    assert parse_rate_limit("openrouter", headers, now=NOON + 7).requests.reset_in == 5.0
    dated = headers | {"Date": "Wed, 01 Oct 2025 12:00:10 GMT"}
    assert parse_rate_limit("openrouter", dated, now=NOON + 7).requests.reset_in == 2.0
    assert parse_rate_limit("openrouter", headers, now=float("nan")).requests.reset_in is None


@pytest.mark.parametrize(
    ("text", "wait"),
    [
        ("6m0s", 360.0),
        ("120ms", 0.12),
        ("1h2m3s", 3723.0),
        ("7.66s", 7.66),
        ("1.5", 1.5),
        ("1µs", 1e-6),
        ("2d", 172800.0),
        ("1759320012", 12.0),
        ("1759320012000", 12.0),
        ("1759319999", 0.0),
        ("2025-10-01T12:00:09Z", 9.0),
        ("2025-10-01T14:00:09+02:00", 9.0),
        ("2025-10-01 12:00:09", 9.0),
        ("Wed, 01 Oct 2025 12:01:00 GMT", 60.0),
        ("Wednesday, 01-Oct-25 12:01:00 GMT", 60.0),
        ("Wed Oct  1 12:01:00 2025", 60.0),
        ("0", 0.0),
        (" 5 ", 5.0),
    ],
)
def test_reset_values_are_told_apart_by_form_and_size(text: str, wait: float) -> None:
    assert times.reset(text, NOON) == pytest.approx(wait)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "-3",
        "nan",
        "inf",
        "1e999",
        "1_0",
        "5, 5",
        "٣",
        "500000000",
        "50000000000",
        "5x",
        "s",
        "1 s 2",
        "9" * 30,
        "Wed, 01 Oct 99999 12:00:00 GMT",
        "Wed, 31 Feb 2025 12:00:00 GMT",
        "Wed, 01 Oct 2025 99:00:00 GMT",
        "2025-13-01T00:00:00Z",
        "9999-12-31T23:59:59-23:59",
        "99999999999d",
    ],
)
def test_anything_else_is_an_unknown_reset(text: str) -> None:
    assert times.reset(text, NOON) is None


@pytest.mark.parametrize("value", ["-1", "x", "", "1e3", "9" * 40, "٣"])
def test_a_number_that_is_none_is_unknown(value: str) -> None:
    assert parse_rate_limit("azure_openai", {"x-ratelimit-remaining-tokens": value}, now=NOON) is EMPTY


HEADER_NAMES = st.sampled_from(
    [
        "x-ratelimit-limit",
        "x-ratelimit-reset-tokens",
        "ratelimit",
        "ratelimit-policy",
        "RateLimit-Reset",
        "date",
        "anthropic-ratelimit-unified-5h-reset",
        "x-ratelimitbysize-remaining-month",
        "x-ratelimit-limit--",
        "x-ratelimit-limit-",
        "x-tokenlimit-reset-dynamic",
        "x-ratelimit-over-limit",
        "x-ratelimit-reset-day",
    ]
) | st.text(max_size=30)
VALUES = (
    st.text(max_size=40)
    | st.from_regex(r"[0-9\-+.,;=\"hmsT: ZGrtqw]{0,40}", fullmatch=True)
    | st.sampled_from(["1e999", "nan", "9" * 400])
)


@settings(deadline=None)
@given(st.dictionaries(HEADER_NAMES, VALUES, max_size=12), st.none() | st.floats())
def test_any_headers_give_numbers_one_can_compute_with(headers: dict[str, str], now: float | None) -> None:
    for limit in parse_rate_limit("mistral", headers, now=now).known().values():
        assert limit.reset_in is None or 0 <= limit.reset_in <= times.LONGEST
        assert limit.limit is None or limit.limit >= 0
        assert limit.remaining is None or limit.remaining >= 0


@settings(deadline=None)
@given(st.text())
def test_no_text_makes_the_readers_of_time_raise(text: str) -> None:
    for read in (times.seconds, times.milliseconds, times.duration, times.wait_in_words):
        wait = read(text)
        assert wait is None or 0 <= wait <= times.LONGEST
    times.instant(text)
