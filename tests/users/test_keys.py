"""Several keys of one provider, over real sockets."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from resilient_llm import ConfigurationError, ResilientClient
from resilient_llm.providers import Key, OpenAI
from resilient_llm.testing import LoopbackLLM, RateLimit, ReceivedRequest, Reply, Status

GOOD, OTHER, BAD = "sk-good-0123456789", "sk-other-987654321", "sk-bad-abcdefghijk"


def pool(server: LoopbackLLM, *keys: Any, **options: Any) -> OpenAI:
    return OpenAI("gpt-4o-mini", base_url=server.url + "/v1", api_keys=keys, **options)


def key_of(request: ReceivedRequest) -> str:
    return request.headers["authorization"].removeprefix("Bearer ")


def picky(request: ReceivedRequest) -> Reply | Status:
    return Status(401, message="Incorrect API key provided") if key_of(request) == BAD else Reply("hello")


def test_two_keys_carry_what_one_cannot() -> None:
    with (
        LoopbackLLM(limit=RateLimit(requests=5, per=60.0)) as server,
        ResilientClient([pool(server, GOOD, OTHER)]) as client,
    ):
        for _ in range(10):
            client.chat("hi", deadline=5)
        assert sorted(map(key_of, server.requests)) == [GOOD] * 5 + [OTHER] * 5


def test_keys_may_be_functions_and_have_limits_of_their_own() -> None:
    with (
        LoopbackLLM("a", "b", "c") as server,
        ResilientClient([pool(server, Key(GOOD, requests_per_day=1), lambda: OTHER)]) as client,
    ):
        for _ in range(3):
            client.chat("hi", deadline=5)
        assert sorted(map(key_of, server.requests)) == [GOOD, OTHER, OTHER]


@pytest.mark.parametrize(("shown", "told"), [(False, "key 1 of 2"), (True, "key 1 of 2 (...hijk)")])
def test_a_bad_key_is_taken_out_with_a_warning_and_the_call_is_answered(
    caplog: pytest.LogCaptureFixture, shown: bool, told: str
) -> None:
    caplog.set_level(logging.WARNING, "resilient_llm")
    with (
        LoopbackLLM(default=picky) as server,
        ResilientClient([pool(server, BAD, GOOD, show_key_ends=shown)]) as client,
    ):
        replies = [client.chat("hi", deadline=5) for _ in range(4)]
        assert [reply.text for reply in replies] == ["hello"] * 4
        assert list(map(key_of, server.requests)).count(BAD) == 1
    assert told in caplog.text
    assert ("hijk" in caplog.text) is shown
    assert BAD not in caplog.text + repr(client.health())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"api_keys": []}, "empty"),
        ({"api_keys": "sk-one"}, "list"),
        ({"api_keys": [GOOD, None]}, r"api_keys\[1\]"),
        ({"api_keys": [GOOD, GOOD]}, r"api_keys\[1\] is the same"),
        ({"api_keys": [GOOD], "api_key": OTHER}, "not both"),
        ({"api_keys": [GOOD], "account": "mine"}, "not both"),
        ({"api_key": GOOD, "requests_per_minute": 0}, "requests_per_minute"),
        ({"api_key": GOOD, "tokens_per_day": "many"}, "tokens_per_day"),
    ],
)
def test_a_mistake_is_told_at_once_and_shows_no_key(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told) as failure:
        OpenAI("gpt-4o-mini", **options)
    assert GOOD not in str(failure.value)


def test_a_limit_of_a_key_is_checked_too_and_its_repr_shows_nothing() -> None:
    with pytest.raises(ConfigurationError, match="requests_per_minut'"):
        Key(GOOD, requests_per_minut=3)  # type: ignore[call-arg]
    assert GOOD not in repr(Key(GOOD))
