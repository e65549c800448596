"""Rate limits the loopback server really enforces."""

from __future__ import annotations

from datetime import datetime, timezone

import httpx
import pytest

from resilient_llm.testing import LoopbackLLM, ManualClock, RateLimit
from resilient_llm.testing.limits import Limiter, go_duration

CHAT = "/v1/chat/completions"


def test_requests_are_limited_and_come_back() -> None:
    clock = ManualClock()
    limit = RateLimit(requests=2, per=60, clock=clock)
    with LoopbackLLM(limit=limit) as server, httpx.Client(base_url=server.url) as client:
        assert server.limit is limit
        first = client.post(CHAT, json={})
        assert first.headers["x-ratelimit-limit-requests"] == "2"
        assert first.headers["x-ratelimit-remaining-requests"] == "1"
        assert first.headers["x-ratelimit-reset-requests"] == "1m0s"
        assert "retry-after" not in first.headers
        clock.advance(10)
        assert client.post(CHAT, json={}).status_code == 200
        clock.advance(0.5)
        refused = client.post(CHAT, json={})
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "50"
        assert refused.headers["retry-after-ms"] == "49500"
        assert refused.headers["x-ratelimit-remaining-requests"] == "0"
        assert refused.headers["x-ratelimit-reset-requests"] == "59.5s"
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"
        assert client.get("/v1/models").status_code == 200
        clock.advance(49.5)
        assert client.post(CHAT, json={}).status_code == 200
        assert client.post(CHAT, json={}).status_code == 429
        server.limit = None
        assert "x-ratelimit-limit-requests" not in client.post(CHAT, json={}).headers


def test_tokens_are_limited_by_size_and_allowance() -> None:
    clock = ManualClock()
    limit = RateLimit(tokens=100, per=60, dialect="anthropic", clock=clock)
    with LoopbackLLM(limit=limit) as server, httpx.Client(base_url=server.url) as client:
        answer = client.post(CHAT, content=b'{"max_tokens":70}   ')
        assert answer.headers["anthropic-ratelimit-tokens-remaining"] == "25"
        reset = datetime.fromisoformat(answer.headers["anthropic-ratelimit-tokens-reset"])
        assert 58 < (reset - datetime.now(timezone.utc)).total_seconds() <= 61  # noqa: UP017
        assert client.post(CHAT, content=b'{"max_tokens":70}').status_code == 429
        assert client.post(CHAT, content=b'{"max_tokens":20}').status_code == 200


def test_the_plain_dialect_says_when_to_return_and_nothing_else() -> None:
    with LoopbackLLM(limit=RateLimit(requests=1, per=30, dialect="plain")) as server:
        assert "ratelimit" not in str(httpx.post(server.url + CHAT, json={}).headers)
        refused = httpx.post(server.url + CHAT, json={})
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "30"


def test_keys_have_limits_of_their_own() -> None:
    with LoopbackLLM(limit=RateLimit(requests=1)) as server:
        statuses = [
            httpx.post(server.url + CHAT, json={}, headers=headers).status_code
            for headers in ({"authorization": "Bearer a"}, {"x-api-key": "b"}, {"authorization": "Bearer a"})
        ]
    assert statuses == [200, 200, 429]


def test_the_retry_hint_is_exactly_when_enough_has_left_the_window() -> None:
    clock = ManualClock(0)
    limiter = Limiter(RateLimit(tokens=100, requests=None, per=10, clock=clock))
    for cost in (40, 30, 30):
        assert limiter.admit("k", cost).admitted
        clock.advance(1)
    assert limiter.admit("k", 50).headers["retry-after-ms"] == "8000"
    assert limiter.admit("k", 40).headers["retry-after-ms"] == "7000"
    assert limiter.admit("k", 101).headers["retry-after-ms"] == "10000"
    clock.advance(7)
    assert limiter.admit("k", 40).admitted


def test_no_limit_admits_everything() -> None:
    admission = Limiter(RateLimit()).admit("k", 10**9)
    assert admission.admitted
    assert admission.headers == {}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0ms"), (0.017, "17ms"), (1, "1s"), (1.5, "1.5s"), (360, "6m0s"), (3723, "1h2m3s"), (3600, "1h0m0s")],
)
def test_durations_as_openai_writes_them(seconds: float, text: str) -> None:
    assert go_duration(seconds) == text


@pytest.mark.parametrize("wrong", [{"requests": -1}, {"tokens": -1}, {"per": 0}, {"dialect": "latin"}])
def test_impossible_limits_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be"):
        RateLimit(**wrong)  # type: ignore[arg-type]
