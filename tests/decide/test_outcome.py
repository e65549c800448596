"""What every kind of failure does: to the breaker, to health, to the gates, and to the call."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from resilient_llm.decide.attempt import Attempt
from resilient_llm.decide.outcome import Onward, Outcome, costs_nothing, disposition, may_have_run, price
from resilient_llm.errors import CallFailed, FaultKind, FaultScope, RequestRejected
from tests.decide.world import Target, World, fault


class Effect(NamedTuple):
    outcome: Outcome
    onward: Onward
    sick: bool
    """Lowers the success rate."""
    trips: bool
    """Five in a row open the breaker."""
    gate: bool
    """A hint of 7 s closes the rate gate."""
    slow: bool
    """Closes the slow gate."""
    repeated: bool
    """The same provider may be asked again by the same call, if there is no other."""


HARD = Effect(Outcome.HARD, Onward.ANYWHERE, sick=True, trips=True, gate=False, slow=False, repeated=True)
SOFT = Effect(Outcome.SOFT, Onward.ANYWHERE, sick=True, trips=False, gate=True, slow=False, repeated=True)
GATED = Effect(Outcome.GATED, Onward.ANYWHERE, sick=False, trips=False, gate=True, slow=False, repeated=True)
DISABLED = Effect(Outcome.DISABLED, Onward.ELSEWHERE, sick=False, trips=False, gate=False, slow=True, repeated=False)
NEUTRAL = Effect(Outcome.NEUTRAL, Onward.NOWHERE, sick=False, trips=False, gate=False, slow=False, repeated=False)

EFFECTS = {
    FaultKind.RATE_LIMITED: GATED,
    FaultKind.QUOTA_EXHAUSTED: DISABLED,
    FaultKind.OVERLOADED: SOFT,
    FaultKind.SERVER_ERROR: HARD,
    FaultKind.TIMEOUT: HARD,
    FaultKind.CONNECTION: HARD,
    FaultKind.AUTH: DISABLED,
    FaultKind.PERMISSION: DISABLED,
    FaultKind.NOT_FOUND_MODEL: DISABLED,
    FaultKind.MISCONFIGURED: DISABLED,
    FaultKind.BAD_REQUEST: NEUTRAL,
    FaultKind.CONTEXT_LENGTH: NEUTRAL._replace(onward=Onward.LARGER),
    FaultKind.PAYLOAD_TOO_LARGE: NEUTRAL._replace(onward=Onward.ELSEWHERE),
    FaultKind.CONTENT_FILTER: NEUTRAL,
    FaultKind.CONFLICT: NEUTRAL._replace(onward=Onward.ANYWHERE, repeated=True),
    FaultKind.CLIENT_CLOSED: NEUTRAL,
    FaultKind.UNSUPPORTED: NEUTRAL._replace(onward=Onward.ELSEWHERE),
    FaultKind.INVALID_RESPONSE: HARD,
    FaultKind.SEALED_REASONING: NEUTRAL._replace(onward=Onward.ELSEWHERE),
}

every_kind = pytest.mark.parametrize(("kind", "effect"), EFFECTS.items(), ids=str)


def test_every_kind_of_failure_has_an_effect() -> None:
    assert EFFECTS.keys() == set(FaultKind)


@every_kind
def test_what_a_failure_means(kind: FaultKind, effect: Effect) -> None:
    assert disposition(fault(kind)) == (effect.outcome, effect.onward)


@every_kind
def test_health_suffers_only_from_failures_of_the_provider(kind: FaultKind, effect: Effect) -> None:
    world = World("a")
    before = world.health("a")
    world.fail(world.start(), kind)
    after = world.health("a")
    assert (after.success_rate < before.success_rate) == effect.sick
    assert after.samples == effect.sick


@every_kind
def test_only_failures_of_the_provider_open_its_breaker(kind: FaultKind, effect: Effect) -> None:
    world = World("a")
    for _ in range(5):
        attempt = world.start()
        world.now += attempt.timeout  # of a silence only a whole timeout counts fully
        world.fail(attempt, kind)
        for gate in (world.member("a").gate, world.member("a").own_gate):
            gate.open()
        world.member("a").keys[0].pace.open()
    assert (world.breaker("a") == "open") == effect.trips


@every_kind
def test_only_a_provider_that_asks_us_to_wait_is_gated(kind: FaultKind, effect: Effect) -> None:
    world = World("a")
    world.fail(world.start(), kind, retry_after=7.0)
    opens = world.health("a").gate_open_in
    if effect.slow:
        assert opens == pytest.approx(57.0)  # 0.9 to 1.0 of a minute
    elif effect.gate:
        assert opens == pytest.approx(7.875)  # up to a quarter more than asked for
    else:
        assert opens is None


@every_kind
def test_where_the_call_goes_after_a_failure(kind: FaultKind, effect: Effect) -> None:
    world = World(Target("a", context_window=8000), Target("small", context_window=8000), "b")
    call = world.call()
    world.fail(world.start(call), kind)
    if effect.onward is Onward.NOWHERE:
        with pytest.raises(RequestRejected):
            call.next_attempt(world.now)
    elif effect.onward is Onward.LARGER:
        assert world.start(call).target.id == "b", "its window is unknown: it may be larger"
    else:
        assert world.start(call).target.id == "small"


@every_kind
def test_whether_the_same_provider_is_asked_again_when_there_is_no_other(kind: FaultKind, effect: Effect) -> None:
    world = World("a")
    call = world.call()
    world.fail(world.start(call), kind)
    if effect.repeated:
        world.wait(call)
        step = call.next_attempt(world.now)
        assert isinstance(step, Attempt)
        assert step.kind == "retry"
    else:
        with pytest.raises(CallFailed):
            call.next_attempt(world.now)


# --- those that depend on more than their kind ---


def test_a_503_that_says_when_to_come_back_is_a_shortage() -> None:
    assert disposition(fault(FaultKind.SERVER_ERROR, status=503, retry_after=5.0)).outcome is Outcome.SOFT
    assert disposition(fault(FaultKind.SERVER_ERROR, status=503)).outcome is Outcome.HARD
    assert disposition(fault(FaultKind.SERVER_ERROR, status=500, retry_after=5.0)).outcome is Outcome.HARD


def test_an_answer_the_callers_own_check_refused_is_no_proof_of_an_outage() -> None:
    refused = fault(FaultKind.INVALID_RESPONSE, scope=FaultScope.REQUEST)
    assert disposition(refused) == (Outcome.SOFT, Onward.ANYWHERE)


def test_a_provider_that_takes_the_caller_for_gone_is_left_for_the_next() -> None:
    told = fault(FaultKind.CLIENT_CLOSED, status=499)
    assert disposition(told) == (Outcome.NEUTRAL, Onward.ELSEWHERE)


def test_what_went_wrong_on_this_machine_judges_nobody() -> None:
    assert disposition(fault(FaultKind.CONNECTION, scope=FaultScope.LOCAL)) == (Outcome.NEUTRAL, Onward.ANYWHERE)
    assert disposition(fault(FaultKind.CONNECTION)).outcome is Outcome.HARD


@pytest.mark.parametrize(("timeout", "errors"), [(2.0, 0.5), (20.0, 1.0)])
def test_a_short_silence_of_an_unknown_provider_counts_half(timeout: float, errors: float) -> None:
    world = World("a")
    attempt = world.start(timeout=timeout)
    world.now += timeout
    world.expire(attempt)
    assert world.health("a").error_rate == pytest.approx(errors)


def test_a_shortage_without_a_hint_closes_no_gate() -> None:
    world = World("a")
    world.fail(world.start(), FaultKind.OVERLOADED)
    assert world.health("a").gate_open_in is None


def test_a_503_with_a_hint_closes_the_gate() -> None:
    world = World("a")
    world.fail(world.start(), FaultKind.SERVER_ERROR, status=503, retry_after=5.0)
    assert world.health("a").gate_open_in == pytest.approx(5.625)


@pytest.mark.parametrize(
    ("kind", "status", "cost"),
    [
        (FaultKind.RATE_LIMITED, 429, 1.0),
        (FaultKind.OVERLOADED, 529, 1.0),
        (FaultKind.TIMEOUT, None, 1.0),
        (FaultKind.SERVER_ERROR, 503, 1.0),
        (FaultKind.CONFLICT, 429, 1.0),
        (FaultKind.SERVER_ERROR, 500, 0.25),
        (FaultKind.CONNECTION, None, 0.25),
        (FaultKind.INVALID_RESPONSE, 200, 0.25),
    ],
)
def test_what_a_second_try_costs(kind: FaultKind, status: int | None, cost: float) -> None:
    assert price(fault(kind, status=status)) == cost


def test_a_refusal_that_says_when_to_come_back_uses_up_no_attempt() -> None:
    assert costs_nothing(fault(FaultKind.RATE_LIMITED))
    assert costs_nothing(fault(FaultKind.OVERLOADED, retry_after=1.0))
    assert not costs_nothing(fault(FaultKind.OVERLOADED))
    assert not costs_nothing(fault(FaultKind.SERVER_ERROR, retry_after=1.0))


@pytest.mark.parametrize(
    ("detail", "ran"),
    [
        ({}, True),
        ({"code": "not_sent"}, False),
        ({"status": 500}, True),
        ({"status": 504}, True),
        ({"status": 503}, False),
        ({"status": 529}, False),
        ({"status": 429}, False),
        ({"kind": FaultKind.INVALID_RESPONSE, "status": 200}, True),
        ({"kind": FaultKind.INVALID_RESPONSE, "status": 302}, False),
        ({"kind": FaultKind.RATE_LIMITED, "status": 200}, False),
    ],
)
def test_whether_a_request_may_have_taken_effect(detail: dict[str, Any], ran: bool) -> None:
    assert may_have_run(fault(**detail)) == ran


def test_a_wrong_endpoint_moves_on_and_closes_the_providers_own_gate_only() -> None:
    """A wrong base_url answers every question with 404: the others are asked, and no account is barred for it."""
    world = World(Target("a", account="x"), Target("b", account="x"))
    call = world.call()
    world.fail(world.start(call), FaultKind.MISCONFIGURED, status=405)
    assert world.start(call).target.id == "b"
    assert world.breaker("a") == "closed"
    assert world.health("a").gate_reason == "misconfigured"
    assert world.health("b").gate_open_in is None
