"""Which conditions hold at providers, from plain values."""

from __future__ import annotations

from dataclasses import replace

import pytest

from resilient_llm import ResilientClient
from resilient_llm.errors import AttemptRecord, Fault, FaultKind
from resilient_llm.faults import AttemptOutcome
from resilient_llm.health import ProviderHealth
from resilient_llm.operate.alerts import Condition
from resilient_llm.operate.alerts.conditions import ProviderConditions, Seen
from resilient_llm.testing import ScriptedProvider

with ResilientClient([ScriptedProvider(id="a")]) as _client:
    WELL = _client.health()["a"]

DOWN = replace(WELL, breaker="open", breaker_reason="5 failures in a row")


def seen(*providers: ProviderHealth, extra: float = 10.0, **routes: list[str]) -> Seen:
    return Seen(providers, routes or {"default": [one.id for one in providers]}, extra)


def held(found: ProviderConditions, now: Seen, at: float = 0.0) -> dict[str, Condition]:
    return {condition.key: condition for condition in found.now(now, at)}


def record(
    kind: FaultKind | None, outcome: AttemptOutcome = "error", provider: str = "a", words: str = ""
) -> AttemptRecord:
    fault = None if kind is None else Fault(kind, status=401, message=words)
    return AttemptRecord(1, provider, "m", "initial", outcome, fault, None, 0.1)


def test_nothing_holds_where_all_is_well() -> None:
    assert held(ProviderConditions(), seen(WELL, replace(WELL, id="b"))) == {}


def test_down_and_half_broken_are_one_condition_of_two_severities() -> None:
    found, well = ProviderConditions(), replace(WELL, id="b")
    down = held(found, seen(DOWN, well))["provider_unhealthy/a"]
    soft = held(found, seen(replace(DOWN, breaker="softly_open", breaker_reason="it became much slower"), well))
    assert (down.severity, down.detail) == ("warning", "down: 5 failures in a row")
    assert soft["provider_unhealthy/a"].severity == "info"
    assert soft["provider_unhealthy/a"].hold > down.hold
    assert held(found, seen(replace(DOWN, breaker="isolated"), well)) == {}, "a person did it, and knows"


def test_a_provider_that_says_nothing_but_that_it_is_overloaded_is_down() -> None:
    found, soft, well = ProviderConditions(), replace(WELL, breaker="softly_open"), replace(WELL, id="b")
    for _ in range(4):
        found.ended(record(FaultKind.OVERLOADED))
    found.ended(record(FaultKind.BAD_REQUEST))
    found.ended(record(FaultKind.RATE_LIMITED))
    assert held(found, seen(soft, well))["provider_unhealthy/a"].severity == "info"
    found.ended(record(FaultKind.OVERLOADED))
    condition = held(found, seen(soft, well))["provider_unhealthy/a"]
    assert (condition.severity, condition.detail) == ("warning", "down: the last 5 attempts failed")
    assert held(found, seen(WELL, well)) == {}, "what its breaker lets through is no matter of alerts"
    found.ended(record(None, "success"))
    assert held(found, seen(soft, well))["provider_unhealthy/a"].severity == "info"


def test_a_route_is_down_when_each_of_its_providers_is_and_only_then() -> None:
    other = replace(WELL, id="b")
    closed = replace(other, gate_open_in=42.0, gate_reason="rate_limited")
    found = ProviderConditions()
    routes = {"smart": ["a"], "fast": ["a", "b"]}
    assert [key for key in held(found, seen(DOWN, other, **routes)) if key.startswith("all")] == [
        "all_providers_down/smart"
    ]
    both = held(found, seen(DOWN, closed, **routes))["all_providers_down/fast"]
    assert both.severity == "critical"
    assert both.detail == "a: open (5 failures in a row); b: rate_limited for 42 s more"
    for change, down in (
        ({"gate_open_in": 3.0, "gate_reason": "rate_limited"}, False),
        ({"gate_open_in": 3.0, "gate_reason": "quota_exhausted"}, True),
        ({"drained": True}, True),
        ({"breaker": "isolated"}, True),
        ({"breaker": "softly_open"}, False),
    ):
        now = held(found, seen(DOWN, replace(other, **change), **routes))  # type: ignore[arg-type]
        assert ("all_providers_down/fast" in now) is down, change


def test_a_route_whose_calls_all_fail_is_down_whatever_its_breakers_say_until_one_is_answered() -> None:
    found, soft = ProviderConditions(), replace(WELL, breaker="softly_open")
    for at in range(10):
        assert "all_providers_down/default" not in held(found, seen(soft), float(at)) or at >= 5
        found.unanswered("default", float(at))
    condition = held(found, seen(soft), 12.0)["all_providers_down/default"]
    assert condition.severity == "critical"
    assert condition.hold == 0.0
    assert condition.detail.startswith("the last 10 calls failed, the first of them 12 s ago; a: answers few calls")
    both = held(found, seen(DOWN), 12.0)["all_providers_down/default"]
    assert both.detail.endswith("12 s ago; a: open (5 failures in a row)")
    found.answered("default")
    assert "all_providers_down/default" not in held(found, seen(soft), 13.0)
    for _ in range(100):
        found.unanswered("default", 20.0)
    assert "all_providers_down/default" not in held(found, seen(soft), 20.0), "a burst of a moment"
    for at in range(4):
        found.unanswered("other", 60.0 * at)
    assert "all_providers_down/other" not in held(found, seen(soft, other=["a"]), 300.0), "four calls"


@pytest.mark.parametrize(
    ("kind", "condition"),
    [
        (FaultKind.QUOTA_EXHAUSTED, "quota_exhausted/a"),
        (FaultKind.AUTH, "credentials_rejected/a"),
        (FaultKind.PERMISSION, "credentials_rejected/a"),
        (FaultKind.NOT_FOUND_MODEL, "misconfigured/a"),
        (FaultKind.MISCONFIGURED, "misconfigured/a"),
    ],
)
def test_what_needs_a_person_holds_until_an_attempt_there_is_answered(kind: FaultKind, condition: str) -> None:
    found = ProviderConditions()
    assert found.ended(record(kind))
    assert not found.ended(record(kind)), "no news"
    found.ended(record(FaultKind.SERVER_ERROR))
    found.ended(record(None, "cancelled"))
    found.ended(record(None, "success", "b"))
    assert set(held(found, seen(WELL))) == {condition}
    assert found.ended(record(None, "success"))
    assert held(found, seen(WELL)) == {}


def test_faults_of_the_request_or_that_pass_need_nobody() -> None:
    found = ProviderConditions()
    for kind in FaultKind:
        if kind not in ("quota_exhausted", "auth", "permission", "not_found_model", "misconfigured"):
            assert not found.ended(record(kind))
    assert held(found, seen(WELL)) == {}


def test_a_vendors_words_are_not_passed_on_but_ours_about_an_address_are() -> None:
    found = ProviderConditions()
    found.ended(record(FaultKind.AUTH, words="Incorrect API key provided: sk-a***z"))
    assert held(found, seen(WELL))["credentials_rejected/a"].detail == "auth (HTTP 401)"
    found.ended(record(FaultKind.MISCONFIGURED, words="the answer is a web page"))
    gate = replace(WELL, gate_open_in=59.6, gate_reason="misconfigured")
    detail = held(found, seen(gate))["misconfigured/a"].detail
    assert detail == "misconfigured (HTTP 401): the answer is a web page; not asked for 60 s"


def test_a_provider_that_was_removed_needs_nobody() -> None:
    found = ProviderConditions()
    found.ended(record(FaultKind.AUTH))
    assert held(found, seen(replace(WELL, id="b"))) == {}
    assert held(found, seen(WELL)) == {}


def test_an_empty_budget_for_second_tries() -> None:
    assert set(held(ProviderConditions(), seen(WELL, extra=0.4))) == {"budget_empty/for second tries"}
    assert held(ProviderConditions(), seen(WELL, extra=1.0)) == {}
