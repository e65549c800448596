"""What every kind of failure does: to the breaker, to health, to the gates, and to the call."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from resilient_llm.decide.member import Attempt
from resilient_llm.decide.outcome import Onward, Outcome, disposition
from resilient_llm.errors import CallFailed, FaultKind, FaultScope, RequestRejected
from tests.decide.world import World, fault


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
    FaultKind.BAD_REQUEST: NEUTRAL,
    FaultKind.CONTEXT_LENGTH: NEUTRAL._replace(onward=Onward.LARGER),
    FaultKind.PAYLOAD_TOO_LARGE: NEUTRAL._replace(onward=Onward.ELSEWHERE),
    FaultKind.CONTENT_FILTER: NEUTRAL,
    FaultKind.CONFLICT: NEUTRAL._replace(onward=Onward.ANYWHERE, repeated=True),
    FaultKind.CLIENT_CLOSED: NEUTRAL,
    FaultKind.UNSUPPORTED: NEUTRAL._replace(onward=Onward.ELSEWHERE),
    FaultKind.INVALID_RESPONSE: HARD,
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
    before = world.standing("a")
    world.fail(world.start(), kind)
    after = world.standing("a")
    assert (after.success_rate < before.success_rate) == effect.sick
    assert after.samples == effect.sick


@every_kind
def test_only_failures_of_the_provider_open_its_breaker(kind: FaultKind, effect: Effect) -> None:
    world = World("a")
    attempts = [world.start() for _ in range(5)]
    for attempt in attempts:
        world.fail(attempt, kind)
    assert (world.standing("a").breaker == "open") == effect.trips


@every_kind
def test_only_a_provider_that_asks_us_to_wait_is_gated(kind: FaultKind, effect: Effect) -> None:
    world = World("a")
    world.fail(world.start(), kind, retry_after=7.0)
    opens = world.standing("a").gate_open_in
    if effect.slow:
        assert opens == pytest.approx(57.0)  # 0.9 to 1.0 of a minute
    elif effect.gate:
        assert opens == pytest.approx(7.875)  # up to a quarter more than asked for
    else:
        assert opens is None


@every_kind
def test_where_the_call_goes_after_a_failure(kind: FaultKind, effect: Effect) -> None:
    world = World("a", "b")
    call = world.call()
    world.fail(world.start(call), kind)
    if effect.onward is Onward.NOWHERE:
        with pytest.raises(RequestRejected):
            call.next_attempt(world.now)
    elif effect.onward is Onward.LARGER:
        with pytest.raises(RequestRejected, match="too long for every provider"):
            call.next_attempt(world.now)
    else:
        assert world.start(call).target.id == "b"


@every_kind
def test_whether_the_same_provider_is_asked_again_when_there_is_no_other(kind: FaultKind, effect: Effect) -> None:
    world = World("a")
    call = world.call()
    world.fail(world.start(call), kind)
    if effect.repeated:
        world.pause(call)
        step = call.next_attempt(world.now)
        assert isinstance(step, Attempt)
        assert step.kind == "retry"
    else:
        with pytest.raises(CallFailed):
            call.next_attempt(world.now)


@every_kind
def test_no_failure_but_throttling_limits_concurrency(kind: FaultKind, effect: Effect) -> None:
    world = World("a")
    attempts = [world.start() for _ in range(10)]
    world.fail(attempts[0], kind)
    throttled = kind in (FaultKind.RATE_LIMITED, FaultKind.OVERLOADED)
    assert world.standing("a").limit == (7 if throttled else None)


# --- those that depend on more than their kind ---


def test_a_503_that_says_when_to_come_back_is_a_shortage() -> None:
    assert disposition(fault(FaultKind.SERVER_ERROR, status=503, retry_after=5.0)).outcome is Outcome.SOFT
    assert disposition(fault(FaultKind.SERVER_ERROR, status=503)).outcome is Outcome.HARD
    assert disposition(fault(FaultKind.SERVER_ERROR, status=500, retry_after=5.0)).outcome is Outcome.HARD


def test_an_answer_the_callers_own_check_refused_is_no_proof_of_an_outage() -> None:
    refused = fault(FaultKind.INVALID_RESPONSE, scope=FaultScope.REQUEST)
    assert disposition(refused) == (Outcome.SOFT, Onward.ANYWHERE)


def test_what_went_wrong_on_this_machine_judges_nobody() -> None:
    assert disposition(fault(FaultKind.CONNECTION, scope=FaultScope.LOCAL)) == (Outcome.NEUTRAL, Onward.ANYWHERE)
    assert disposition(fault(FaultKind.CONNECTION)).outcome is Outcome.HARD


def test_a_shortage_without_a_hint_closes_no_gate() -> None:
    world = World("a")
    world.fail(world.start(), FaultKind.OVERLOADED)
    assert world.standing("a").gate_open_in is None


def test_a_503_with_a_hint_closes_the_gate_but_limits_no_concurrency() -> None:
    world = World("a")
    world.fail(world.start(), FaultKind.SERVER_ERROR, status=503, retry_after=5.0)
    assert world.standing("a").gate_open_in == pytest.approx(5.625)
    assert world.standing("a").limit is None
