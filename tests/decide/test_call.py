"""One call: where it goes, when it waits, and how it ends."""

from __future__ import annotations

import math
from typing import Any

import pytest

from resilient_llm import events
from resilient_llm.decide.attempt import Attempt
from resilient_llm.decide.call import TRANSITIONS, Phase, Step, Wait
from resilient_llm.errors import (
    AllAttemptsFailed,
    CallFailed,
    ClientClosed,
    DeadlineExceeded,
    FaultKind,
    NoProviderAvailable,
    RequestRejected,
)
from resilient_llm.policy import Hedge, Limits, Retry
from tests.decide.world import Target, World, build, fault

# --- a failure costs one attempt ---


def test_a_failure_moves_on_to_another_provider_at_once() -> None:
    world = World("a", "b", "c")
    call = world.call()
    for expected, kind in (("a", "initial"), ("b", "failover"), ("c", "failover")):
        attempt = world.start(call)
        assert (attempt.target.id, attempt.kind, attempt.delay) == (expected, kind, 0.0)
        world.fail(attempt)
    assert world.now == 1000.0


def test_three_attempts_at_one_provider_mean_two_waits_and_none_after_the_last() -> None:
    world = World("a")
    call, waits = world.call(), []
    for _ in range(2):
        world.fail(world.start(call), FaultKind.CONFLICT)
        waits.append(world.wait(call).seconds)
    world.fail(world.start(call), FaultKind.CONFLICT)
    with pytest.raises(AllAttemptsFailed, match="all 3 attempts failed and nobody else can be asked") as failure:
        call.next_attempt(world.now)
    assert waits == [0.4375, 0.875], "half a second doubling, up to a quarter shorter"
    assert [record.delay for record in failure.value.attempts] == [0.0, 0.4375, 0.875]
    assert [record.kind for record in failure.value.attempts] == ["initial", "retry", "retry"]


def test_no_more_than_six_attempts_are_made_in_all() -> None:
    world = World("a", "b", "c")
    call, asked = world.call(), []
    for _ in range(6):
        while isinstance(step := call.next_attempt(world.now), Wait):
            world.now += step.seconds
        asked.append(step.target.id)
        call.failed(step, fault(FaultKind.CONFLICT), world.now)
    with pytest.raises(AllAttemptsFailed, match="all 6 attempts failed"):
        call.next_attempt(world.now)
    assert sorted(asked[:3]) == ["a", "b", "c"], "never the same again while another is free"


def test_the_settings_bound_attempts() -> None:
    world = World("a", "b", "c", retry=Retry(max_attempts=2, max_attempts_per_provider=1))
    call = world.call()
    for _ in range(2):
        world.fail(world.start(call))
    with pytest.raises(AllAttemptsFailed, match="all 2 attempts failed"):
        call.next_attempt(world.now)
    alone = World("a", retry=Retry(max_attempts_per_provider=1))
    call = alone.call()
    alone.fail(alone.start(call))
    with pytest.raises(AllAttemptsFailed, match="the attempt failed"):
        call.next_attempt(alone.now)


def test_the_error_carries_every_attempt_in_order_and_the_last_failure() -> None:
    world = World("a", "b", "c", retry=Retry(max_attempts=3))
    call = world.call()
    for kind, status in ((FaultKind.CONNECTION, None), (FaultKind.SERVER_ERROR, 500), (FaultKind.OVERLOADED, 529)):
        world.fail(world.start(call), kind, status=status)
    with pytest.raises(AllAttemptsFailed) as failure:
        call.next_attempt(world.now)
    error = failure.value
    assert [(record.number, record.provider, record.model) for record in error.attempts] == [
        (1, "a", "m"),
        (2, "b", "m"),
        (3, "c", "m"),
    ]
    assert error.fault is not None
    assert error.fault.kind is FaultKind.OVERLOADED
    assert str(error) == (
        "all 3 attempts failed (1. a: connection after 0 s; 2. b: server_error 500 after 0 s; "
        "3. c: overloaded 529 after 0 s)"
    )


def test_the_last_failures_hint_is_told_where_the_providers_are_not_asked() -> None:
    world = World("a", retry=Retry(max_attempts=1))
    call = world.call()
    world.fail(world.start(call), FaultKind.SERVER_ERROR, status=500, retry_after=9.0)
    with pytest.raises(AllAttemptsFailed) as failure:
        call.next_attempt(world.now)
    assert failure.value.retry_after == 9.0


def test_asking_again_too_early_is_told_to_wait_for_the_rest() -> None:
    world = World("a")
    call = world.call()
    world.fail(world.start(call), FaultKind.CONFLICT)
    assert call.next_attempt(world.now) == Wait(0.4375, "backoff")
    world.now += 0.1
    rest = call.next_attempt(world.now)
    assert isinstance(rest, Wait)
    assert rest.seconds == pytest.approx(0.3375)
    world.now += rest.seconds
    assert world.start(call).delay == 0.4375


def test_a_pause_is_cut_short_where_the_deadline_is_near() -> None:
    world = World("a")
    call = world.call(timeout=0.5)
    world.fail(world.start(call), FaultKind.CONFLICT)
    assert world.wait(call).seconds == pytest.approx(0.375, abs=0.002), "a quarter of its time is left for the attempt"
    assert world.start(call).kind == "retry"


def test_the_last_try_waits_longer_where_nobody_was_answered_meanwhile() -> None:
    """An outage that lasts longer than two tries needs one after it."""
    world = World("a")
    call = world.call(timeout=60.0)
    waits = []
    for _ in range(2):
        world.fail(world.start(call), FaultKind.SERVER_ERROR)
        waits.append(world.wait(call).seconds)
    assert waits == [0.4375, 2.5]
    world = World("a")
    call, last = world.call(timeout=4.0), 0.0
    for _ in range(2):
        world.fail(world.start(call), FaultKind.SERVER_ERROR)
        last = world.wait(call).seconds
    assert last == pytest.approx((4.0 - 0.4375) / 4.0), "but no longer than a quarter of what is left"


# --- who shall not be asked again ---


def test_a_rejected_request_asks_nobody_else() -> None:
    world = World("a", "b")
    call = world.call()
    world.fail(world.start(call), FaultKind.BAD_REQUEST, status=400)
    with pytest.raises(RequestRejected, match="the provider rejected the request") as failure:
        call.next_attempt(world.now)
    assert len(failure.value.attempts) == 1


def test_a_rejection_stands_however_the_attempt_beside_it_fails() -> None:
    world = World("a", "b")
    call = world.call(timeout=20.0)
    first = world.start(call)
    second = world.rescued(first, after=10.0)
    world.fail(first, FaultKind.BAD_REQUEST)
    world.fail(second, FaultKind.SERVER_ERROR)
    with pytest.raises(RequestRejected) as failure:
        call.next_attempt(world.now)
    assert failure.value.fault is not None
    assert failure.value.fault.kind is FaultKind.BAD_REQUEST
    assert len(failure.value.attempts) == 2


def test_a_prompt_too_long_goes_only_to_a_larger_window_or_an_unknown_one() -> None:
    small, same, unknown, large = (
        Target(name, context_window=size) for name, size in zip("abcd", (8000, 8000, None, 200_000), strict=True)
    )
    world = World(small, same, unknown, large)
    call = world.call()
    asked = []
    for _ in range(3):
        attempt = world.start(call)
        asked.append(attempt.target)
        world.fail(attempt, FaultKind.CONTEXT_LENGTH)
    assert asked == [small, unknown, large]
    with pytest.raises(RequestRejected, match="too long for every provider"):
        call.next_attempt(world.now)


def test_a_prompt_too_long_for_an_unknown_window_may_go_to_any_other() -> None:
    world = World("a", Target("b", context_window=8000))
    call = world.call()
    world.fail(world.start(call), FaultKind.CONTEXT_LENGTH)
    assert world.start(call).target.id == "b"


def test_a_prompt_too_long_is_no_rejection_while_a_larger_one_is_merely_out() -> None:
    world = World(Target("a", context_window=8000), Target("b", context_window=10**6))
    world.pool.operate("b", "isolate", world.now)
    call = world.call()
    world.fail(world.start(call), FaultKind.CONTEXT_LENGTH)
    with pytest.raises(AllAttemptsFailed):
        call.next_attempt(world.now)


def test_a_provider_that_failed_for_good_is_not_repeated_although_it_failed_lightly_before() -> None:
    world = World("a")
    call = world.call()
    world.fail(world.start(call), FaultKind.CONFLICT)
    world.wait(call)
    world.fail(world.start(call), FaultKind.UNSUPPORTED)
    with pytest.raises(AllAttemptsFailed):
        call.next_attempt(world.now)


# --- requests that must not be repeated ---


@pytest.mark.parametrize(
    ("kind", "detail"),
    [
        (FaultKind.TIMEOUT, {}),
        (FaultKind.CONNECTION, {"code": "reset"}),
        (FaultKind.SERVER_ERROR, {"status": 500}),
        (FaultKind.TIMEOUT, {"status": 504}),
    ],
)
def test_a_request_with_effects_is_not_repeated_once_it_may_have_arrived(
    kind: FaultKind, detail: dict[str, object]
) -> None:
    world = World("a", "b")
    call = world.call(repeatable=False)
    world.fail(world.start(call), kind, **detail)
    with pytest.raises(AllAttemptsFailed, match="may have taken effect"):
        call.next_attempt(world.now)


@pytest.mark.parametrize(
    ("kind", "detail"),
    [
        (FaultKind.CONNECTION, {"code": "not_sent"}),
        (FaultKind.RATE_LIMITED, {"status": 429}),
        (FaultKind.OVERLOADED, {"status": 529}),
        (FaultKind.SERVER_ERROR, {"status": 503}),
    ],
)
def test_a_request_with_effects_that_was_refused_may_go_elsewhere(kind: FaultKind, detail: dict[str, object]) -> None:
    world = World("a", "b")
    call = world.call(repeatable=False)
    world.fail(world.start(call), kind, **detail)
    assert world.start(call).target.id == "b"


def test_nothing_runs_beside_a_request_with_effects() -> None:
    world = World("a", "b")
    world.answer("a", times=30)
    attempt = world.start(repeatable=False, streaming=True, timeout=20.0)
    assert attempt.rescue_after is None
    assert world.rescue(attempt, after=10.0) is None


def test_a_request_with_effects_is_no_trial_not_even_of_the_last_one_left() -> None:
    world = World("a", "b")
    world.half_break("a")
    world.until_trial("a")
    assert world.start(repeatable=False).target.id == "b"
    alone = World("a")
    alone.trip("a")
    alone.now += 20.0
    attempt = alone.start(repeatable=False)
    assert attempt.kind == "initial", "it is asked as the last one left, and tests nobody"
    assert attempt.rescue_after is None


# --- waiting for gates ---


def test_a_429_closes_that_provider_for_as_long_as_it_asked_and_another_answers_at_once() -> None:
    world = World("a", "b")
    call = world.call()
    world.fail(world.start(call), FaultKind.RATE_LIMITED, status=429, retry_after=7.0)
    assert world.start(call).target.id == "b"
    world.now += 6.99
    assert world.start().target.id == "b"
    world.now = 1000.0 + 7.0 * 1.25
    assert world.start().target.id == "a", "and it comes back by itself"


def test_a_429_of_the_only_provider_is_waited_for_and_never_too_early() -> None:
    world = World("a")
    call = world.call()
    world.fail(world.start(call), FaultKind.RATE_LIMITED, status=429, retry_after=7.0)
    wait = world.wait(call)
    assert wait.reason == "gate"
    assert wait.place is not None
    assert wait.seconds == pytest.approx(7.175)
    attempt = world.start(call)
    assert attempt.delay == wait.seconds
    world.succeed(attempt)
    assert call.records[-1].delay == wait.seconds
    assert call.past.counted == 0, "waiting as asked costs no attempt"


def gated(**policies: Any) -> World:
    world = World("a", "b", **policies)
    world.gate("a", 20.0)
    world.gate("b", 10.0)
    return world


def test_a_call_waits_for_the_gate_that_opens_first_if_it_fits() -> None:
    world = gated()
    call = world.call(timeout=30.0)
    assert world.wait(call).seconds == pytest.approx(10.25)
    assert world.start(call).target.id == "b"


def test_a_gate_that_opens_after_the_deadline_is_an_error_at_once_that_says_when() -> None:
    world = gated()
    with pytest.raises(NoProviderAvailable) as failure:
        world.call(timeout=9.0).next_attempt(world.now)
    assert failure.value.retry_after == 10.0, "as the provider said it"
    assert failure.value.reasons == {"a": "asked us to wait", "b": "asked us to wait"}
    assert str(failure.value) == "no provider can be asked now (a: asked us to wait; b: asked us to wait)"
    assert failure.value.attempts == ()
    assert not isinstance(failure.value, TimeoutError), "no time has passed"


def test_a_gate_that_opens_too_late_to_be_waited_for_is_an_error_too() -> None:
    world = gated(retry=Retry(max_wait=5.0))
    with pytest.raises(NoProviderAvailable) as failure:
        world.call().next_attempt(world.now)
    assert failure.value.retry_after == 10.0


def test_who_was_refused_and_cannot_wait_is_told_by_whom_and_for_how_long() -> None:
    world = World("a")
    call = world.call(timeout=5.0)
    world.fail(world.start(call), FaultKind.RATE_LIMITED, status=429, retry_after=60.0)
    with pytest.raises(NoProviderAvailable) as failure:
        call.next_attempt(world.now)
    assert failure.value.retry_after == 60.0
    assert failure.value.fault is not None
    assert failure.value.fault.kind is FaultKind.RATE_LIMITED
    assert len(failure.value.attempts) == 1


def test_a_gate_without_end_is_told_without_end() -> None:
    world = World("a", limits=Limits(gate_cap=1000.0))
    world.gate("a", math.inf)
    with pytest.raises(NoProviderAvailable) as failure:
        world.call(timeout=10.0).next_attempt(world.now)
    assert failure.value.retry_after is None or failure.value.retry_after >= 800.0


def test_a_provider_that_may_not_be_repeated_is_no_reason_to_wait() -> None:
    world = World("a")
    call = world.call()
    attempt = world.start(call)
    world.gate("a", 5.0)
    world.fail(attempt, FaultKind.UNSUPPORTED)
    with pytest.raises(CallFailed):
        call.next_attempt(world.now)


def test_why_nobody_can_be_asked_is_said_per_provider() -> None:
    world = World("a", "b", "c", "d")
    world.pool.operate("a", "drain", world.now)
    world.pool.operate("b", "isolate", world.now)
    world.fail(world.start(only="c"), FaultKind.QUOTA_EXHAUSTED, retry_after=600.0)
    with pytest.raises(NoProviderAvailable) as failure:
        world.call(timeout=10.0, unsuitable={"d": "cannot see images"}).next_attempt(world.now)
    assert failure.value.reasons == {
        "a": "drained",
        "b": "isolated by hand",
        "c": "quota or credentials",
        "d": "cannot see images",
    }
    assert failure.value.retry_after == pytest.approx(600.0, rel=0.1)


def test_what_only_a_person_can_end_has_no_time() -> None:
    world = World("a")
    world.pool.operate("a", "drain", world.now)
    with pytest.raises(NoProviderAvailable) as failure:
        world.call().next_attempt(world.now)
    assert failure.value.retry_after is None


# --- outages of everybody ---


def outage(*tiers: str, **policies: Any) -> World:
    """Everybody is down and was tried just now."""
    world = World(*(tiers or ("a", "b")), **policies)
    for name in tiers or ("a", "b"):
        world.trip(name)
    for _ in range(20):
        call = world.call(timeout=10.0)
        step = call.next_attempt(world.now)
        if isinstance(step, Wait):
            call.stopped_waiting(world.now)
            return world
        call.failed(step, fault(), world.now)
    raise AssertionError("somebody can be asked at any time")


def test_a_call_in_an_outage_of_everybody_stands_in_line_for_the_next_trial() -> None:
    world = outage()
    call = world.call(timeout=10.0)
    wait = world.wait(call)
    assert wait.reason == "down"
    assert wait.place is not None
    assert 0.0 < wait.seconds <= 1.0
    attempt = world.start(call)
    assert attempt.kind == "trial"
    world.fail(attempt)
    assert call.past.counted == 0, "a trial of a provider that is down uses up none of the caller's attempts"
    assert world.wait(call).reason == "down"


def test_who_said_so_fails_at_once_with_the_earliest_time_to_come_back() -> None:
    world = outage()
    with pytest.raises(NoProviderAvailable) as failure:
        world.call(timeout=10.0, when_down="fail").next_attempt(world.now)
    assert failure.value.reasons == {"a": "breaker open", "b": "breaker open"}
    assert failure.value.retry_after is not None
    assert 0.0 < failure.value.retry_after <= 1.0


def test_behind_an_outage_a_call_is_given_up_after_the_longest_wait_and_not_untried() -> None:
    world = outage(retry=Retry(max_down_wait=4.0))
    ahead = world.call(timeout=600.0)
    world.told_to_wait(ahead)
    call, began, kinds = world.call(timeout=600.0), world.now, []
    with pytest.raises(CallFailed) as failure:  # noqa: PT012 - the call is driven to its end
        while True:
            step = call.next_attempt(world.now)
            if isinstance(step, Wait):
                world.now += min(step.seconds, 5.0)
            else:
                kinds.append((step.kind, round(world.now - began, 3)))
                call.failed(step, fault(), world.now)
            assert world.now - began <= 20.0
    assert {kind for kind, _ in kinds} == {"trial"}
    assert kinds[0][1] <= 2.0, "sent somewhere when half of its wait is over, at the latest"
    assert world.now - began == pytest.approx(4.0, abs=0.01)
    assert failure.value.retry_after is not None
    assert not isinstance(failure.value, DeadlineExceeded)


def test_a_wait_for_a_gate_is_not_a_wait_for_an_outage() -> None:
    world = World("a", "b")
    world.trip("b")
    world.gate("a", 60.0)
    call = world.call(timeout=100.0)
    for _ in range(400):
        step = call.next_attempt(world.now)
        if isinstance(step, Wait):
            assert step.reason == "gate"
            world.now += step.seconds
            continue
        if step.target.id == "a":
            break
        call.failed(step, fault(), world.now)
    else:
        raise AssertionError("it never got through")
    assert world.now - 1000.0 >= 60.0, "which is longer than it would wait for an outage"


# --- the deadline ---


def test_nothing_starts_after_the_deadline() -> None:
    world = World("a")
    call = world.call(timeout=5.0)
    world.now += 5.0
    with pytest.raises(DeadlineExceeded, match="no answer within 5 s") as failure:
        call.next_attempt(world.now)
    assert isinstance(failure.value, TimeoutError)


@pytest.mark.parametrize(("left", "starts"), [(0.21, True), (0.19, False)])
def test_no_later_attempt_starts_with_too_little_time_to_be_answered(left: float, starts: bool) -> None:
    world = World("a", "b")
    call = world.call(timeout=5.0)
    attempt = world.start(call)
    world.now += 5.0 - left
    world.fail(attempt)
    if starts:
        assert world.start(call).timeout == pytest.approx(left)
    else:
        with pytest.raises(DeadlineExceeded) as failure:
            call.next_attempt(world.now)
        assert len(failure.value.attempts) == 1


@pytest.mark.parametrize(("left", "starts"), [(0.06, True), (0.04, False)])
def test_a_short_deadline_keeps_a_quarter_of_its_time(left: float, starts: bool) -> None:
    world = World("a", "b")
    call = world.call(timeout=0.2)
    attempt = world.start(call)
    world.now += 0.2 - left
    world.fail(attempt)
    if starts:
        assert world.start(call).target.id == "b"
    else:
        with pytest.raises(DeadlineExceeded):
            call.next_attempt(world.now)


def test_a_first_attempt_starts_however_little_time_there_is() -> None:
    assert World("a").start(timeout=0.001).timeout == pytest.approx(0.001)


def test_no_time_for_a_pause_is_the_end() -> None:
    world = World("a")
    call = world.call(timeout=5.0)
    attempt = world.start(call)
    world.now += 4.7995
    world.fail(attempt, FaultKind.CONFLICT)
    with pytest.raises(DeadlineExceeded):
        call.next_attempt(world.now)


def test_an_attempt_is_never_given_more_time_than_the_call_has() -> None:
    world = World("a")
    assert world.start(timeout=7.0).timeout == pytest.approx(7.0)
    assert world.start().timeout < math.inf


def test_the_deadline_passes_while_it_stands_in_line() -> None:
    world = World(Target("a", max_concurrency=1))
    world.start()
    call = world.call(timeout=3.0)
    assert world.wait(call).seconds == pytest.approx(3.0)
    with pytest.raises(DeadlineExceeded):
        call.next_attempt(world.now)
    assert world.health("a").waiting == 0


def test_when_the_caller_runs_out_of_time_a_provider_that_is_late_by_its_own_measure_is_blamed() -> None:
    world = rescuable()
    call = world.call(timeout=5.0, streaming=True)
    attempt = world.start(call)
    before = world.health("a").samples
    world.now += 5.0
    world.expire(attempt)
    assert call.records[-1].outcome == "error"
    assert world.health("a").samples == before + 1


def test_a_provider_asked_at_the_last_moment_is_not_blamed_when_time_runs_out() -> None:
    world = World("a", "b")
    for _ in range(4):
        call = world.call(timeout=2.0)
        first = world.start(call)
        rescue = world.rescued(first, after=1.0) if world.breaker("a") == "closed" else None
        world.now += 1.0
        for attempt in filter(None, (first, rescue)):
            world.expire(attempt)
    assert world.health("b").samples == 0
    assert world.breaker("b") == "closed"


def test_a_deadline_that_passes_after_the_attempt_was_over_changes_nothing() -> None:
    world = World("a")
    call = world.call(timeout=5.0)
    attempt = world.start(call)
    world.fail(attempt)
    before = world.health("a")
    world.expire(attempt)
    assert world.health("a") == before
    assert len(call.records) == 1


# --- keys that are asked for ---


def test_the_time_a_callable_takes_for_the_key_is_not_the_providers() -> None:
    world = World("a", "b")
    call = world.call(timeout=60.0, streaming=True)
    attempt = world.start(call)
    call.asking(attempt, world.now)
    world.now += 9.0
    assert not attempt.late(world.now)
    other = world.start(streaming=True, timeout=60.0)
    assert other.target.id == "a", "a slow key says nothing of the provider"
    call.asked(attempt, world.now)
    assert (attempt.started, attempt.delay, attempt.timeout) == (world.now, 9.0, 51.0)
    world.succeed(attempt, after=1.0)
    assert call.records[0].duration == pytest.approx(1.0)


def test_a_key_that_comes_too_late_is_a_timeout() -> None:
    world = World("a", "b")
    call = world.call(timeout=60.0, streaming=True)
    attempt = world.start(call)
    call.asking(attempt, world.now)
    world.now += attempt.timeout + 0.1
    with pytest.raises(TimeoutError):
        call.asked(attempt, world.now)
    world.abandon(attempt)
    with pytest.raises(TimeoutError):
        call.asked(attempt, world.now)


def test_a_slow_key_leaves_no_more_time_than_the_deadline() -> None:
    world = World("a")
    call = world.call(timeout=10.0)
    attempt = world.start(call)
    call.asking(attempt, world.now)
    world.now += 8.0
    call.asked(attempt, world.now)
    assert attempt.timeout == pytest.approx(2.0)


def test_a_hanging_attempt_behind_one_that_waits_for_its_key_is_noticed() -> None:
    """The oldest attempt waits for a slow key; the silence of the others still speaks for itself."""
    world = World("a", "b")
    world.answer("a", times=30)
    slow = world.start(streaming=True, timeout=60.0)
    world.call_of[slow].asking(slow, world.now)
    silent = [world.start(streaming=True, timeout=60.0) for _ in range(2)]
    world.rescued(silent[0], after=silent[0].rescue_after or 0.0)
    assert world.breaker("a") == "softly_open"
    assert world.start(streaming=True).target.id == "b"


# --- rescues ---


def rescuable(*tiers: str, **policies: Any) -> World:
    world = World(*(tiers or ("a", "b")), **policies)
    world.answer("a", times=31, first=0.8)
    world.pool._leases.hedges.tokens = 10.0
    return world


def test_a_silent_attempt_is_rescued_elsewhere_after_twice_the_usual_time() -> None:
    world = rescuable()
    call = world.call(streaming=True)
    first = world.start(call)
    assert first.rescue_after == pytest.approx(1.6)
    second = world.rescued(first, after=1.6)
    assert (second.target.id, second.kind, second.number, second.fresh) == ("b", "hedge", 2, False)


def test_nothing_is_rescued_that_spoke_ended_or_was_answered() -> None:
    world = rescuable("a", "b", "c")
    for end in (world.speak, world.abandon, world.succeed):
        first = world.start(streaming=True, timeout=60.0)
        end(first)
        assert world.rescue(first, after=1.6) is None


def test_nothing_is_rescued_that_was_rejected_or_has_no_time_left() -> None:
    world = rescuable("a", "b", "c")
    first = world.start(streaming=True, timeout=60.0)
    second = world.rescued(first, after=1.6)
    world.fail(second, FaultKind.BAD_REQUEST)
    assert world.rescue(first, after=1.0) is None
    late = world.start(streaming=True, timeout=1.0)
    assert world.rescue(late, after=0.9) is None


def test_a_rescue_that_failed_is_followed_by_another_after_a_pause() -> None:
    world = rescuable("a", "b", "c")
    first = world.start(streaming=True, timeout=60.0)
    second = world.rescued(first, after=1.6)
    assert first.rescue_after is None
    world.fail(second)
    assert first.rescue_after == pytest.approx(2.1)
    third = world.rescued(first, after=0.5)
    assert third.target.id == "c"


@pytest.mark.parametrize(("timeout", "pause"), [(11.1, 1.5), (5.0, 0.5), (100.0, 2.0)])
def test_rescues_that_fail_at_the_same_provider_are_spread_over_the_time_that_is_left(
    timeout: float, pause: float
) -> None:
    """Three in a second at one that is overloaded used up what a call may try, seconds before it was well again."""
    world = rescuable()
    world.pool._leases.hedges.tokens = 10.0
    first = world.start(streaming=True, timeout=timeout)
    world.fail(world.rescued(first, after=1.6), FaultKind.OVERLOADED)
    assert first.rescue_after == pytest.approx(2.1)
    world.fail(world.rescued(first, after=0.5), FaultKind.OVERLOADED)
    assert first.rescue_after is not None
    assert first.rescue_after - (world.now - first.started) == pytest.approx(pause)


def test_an_attempt_that_spoke_is_not_rescued_again() -> None:
    world = rescuable("a", "b", "c")
    first = world.start(streaming=True, timeout=60.0)
    second = world.rescued(first, after=1.6)
    world.speak(first)
    world.fail(second)
    assert first.rescue_after is None


def test_no_rescue_follows_where_rescues_are_off_or_time_is_up() -> None:
    world = rescuable("a", "b", "c", hedge=Hedge(enabled=False))
    first = world.start(streaming=True, timeout=60.0)
    assert first.rescue_after is None
    world.pool.rescue_again(first, 0.5, world.now)
    assert first.rescue_after is None
    soon = rescuable("a", "b", "c")
    first = soon.start(streaming=True, timeout=60.0)
    soon.pool.rescue_again(first, 0.5, soon.now + first.timeout)
    assert first.rescue_after is None


def test_the_loser_of_a_race_is_judged_by_nobody_but_counts_as_slow() -> None:
    world = rescuable()
    call = world.call(streaming=True, timeout=2.0)
    first = world.start(call)
    second = world.rescued(first, after=1.0)
    world.speak(second, after=0.1)
    before = world.health("a")
    assert not world.overtake(first)
    after = world.health("a")
    assert (after.success_rate, after.breaker, after.samples) == (before.success_rate, before.breaker, before.samples)
    assert after.score < before.score, "it would have taken at least as long"
    assert after.in_flight == 0
    assert call.records[-1].outcome == "cancelled"


def test_a_loser_that_was_late_by_its_own_measure_has_failed() -> None:
    world = rescuable()
    call = world.call(streaming=True, timeout=60.0)
    first = world.start(call)
    second = world.rescued(first, after=1.6)
    world.succeed(second, after=0.2)
    before = world.health("a").samples
    assert not world.overtake(first)
    assert world.health("a").samples == before + 1
    (late, won) = call.records
    assert (late.outcome, won.outcome) == ("error", "success"), "in the order they began"
    assert late.fault is not None
    assert late.fault.kind is FaultKind.TIMEOUT
    assert call.last_fault is None, "the call itself was answered"


def test_a_provider_that_hangs_is_found_out_although_it_is_always_rescued() -> None:
    world = rescuable()
    asked = []
    for _ in range(6):
        first = world.start(streaming=True, timeout=60.0)
        asked.append(first.target.id)
        if first.target.id == "a":
            second = world.rescued(first, after=first.rescue_after or 0.0)
            world.succeed(second)
            world.overtake(first)
    assert asked[:3] == ["a"] * 3
    assert asked[-1] == "b"


def test_a_whole_answer_overtaken_says_nothing_about_speed() -> None:
    world = World("a", "b")
    first = world.start(timeout=20.0)
    world.now += 5.0
    world.overtake(first)
    assert world.health("a").answer_p50 is None


def test_when_all_are_overtaken_but_none_won_the_call_goes_on() -> None:
    """A trial that runs on must not keep the call from its next attempt."""
    world = World("a", "b", "c")
    call = world.call(timeout=20.0)
    first = world.start(call)
    world.overtake(first)
    assert world.start(call).target.id == "b"


# --- the trail ---


def test_an_outcome_counts_once_whatever_is_reported_after_it() -> None:
    world = World("a", "b")
    call = world.call(conversation="chat")
    attempt = world.start(call)
    world.succeed(attempt)
    before = world.health("a")
    world.speak(attempt)
    world.succeed(attempt)
    world.fail(attempt)
    world.abandon(attempt)
    world.expire(attempt)
    world.overtake(attempt)
    assert world.health("a") == before
    assert len(call.records) == 1
    assert call.last_fault is None


def test_an_attempt_that_runs_on_after_the_answer_is_judged_and_not_recorded_twice() -> None:
    world = World("a", "b")
    world.half_break("a")
    world.until_trial("a")
    for end in (world.succeed, world.fail, world.abandon, world.expire):
        call = world.call(timeout=20.0)
        trial = world.start(call)
        if trial.kind != "trial":
            world.now += 16.0
            trial = world.start(call := world.call(timeout=20.0))
        assert trial.kind == "trial"
        second = world.rescued(trial, after=trial.rescue_after or 0.0)
        world.succeed(second)
        assert world.overtake(trial), "it is not judged yet"
        records = list(call.records)
        end(trial)
        assert call.records == records
        assert world.health("a").in_flight == 0


def test_a_late_failure_of_one_provider_never_touches_the_one_that_took_over() -> None:
    world = World("a", "b")
    first = world.start(timeout=20.0)
    world.rescued(first, after=10.0)
    before = world.health("b")
    world.fail(first)
    assert world.health("b") == before
    assert world.health("a").success_rate < 0.95


def test_calls_share_no_state_of_their_own() -> None:
    world = World("a", "b")
    calls = [world.call() for _ in range(100)]
    attempts = [world.start(call) for call in calls]
    for attempt in attempts[::2]:
        world.fail(attempt, FaultKind.CONFLICT)
        world.start(world.call_of[attempt])
    assert [call.past.number - 1 for call in calls] == [2, 1] * 50
    assert [len(call.records) for call in calls] == [1, 0] * 50
    assert [call.number for call in calls] == sorted({call.number for call in calls})


def test_attempts_are_told_to_listeners_with_the_number_of_their_call() -> None:
    world = World("a", "b")
    world.pool.listen(True)
    assert world.pool.listening
    call = world.call()
    world.fail(world.start(call))
    world.succeed(world.start(call), after=0.5)
    started = [event for event in world.events() if isinstance(event, events.AttemptStarted)]
    assert [(event.call, event.provider, event.number, event.kind) for event in started] == [
        (call.number, "a", 1, "initial"),
        (call.number, "b", 2, "failover"),
    ]
    world.succeed(world.start())
    (ended,) = world.events(events.AttemptEnded)
    assert (ended.call, ended.record.outcome) == (call.number + 1, "success")


def test_with_nobody_listening_only_changes_are_noted() -> None:
    world = World("a", "b")
    world.fail(world.start())
    assert world.events() == []


def test_the_status_of_an_answer_is_the_one_it_had() -> None:
    world = World("a")
    for status in (None, 201):
        call = world.call()
        call.succeeded(world.start(call), world.now, 0, status)
        assert call.records[0].status == status


def test_a_call_whose_route_is_gone_ends_in_peace() -> None:
    world = World("a", "b")
    call = world.call()
    attempt = world.start(call)
    world.pool.replace({"other": build("c")}, world.now)
    assert world.rescue(attempt, after=100.0) is None
    world.fail(attempt, FaultKind.CONTEXT_LENGTH)
    with pytest.raises(CallFailed):
        call.next_attempt(world.now)
    with pytest.raises(NoProviderAvailable):
        world.call(route="main").next_attempt(world.now)


# --- going away ---


def test_who_waits_when_the_client_is_closed_is_told_so() -> None:
    world = World("a")
    pausing = world.call()
    world.fail(world.start(pausing), FaultKind.CONFLICT)
    world.wait(pausing)
    waiting = world.call()
    world.gate("a")
    world.told_to_wait(waiting)
    world.pool.close(world.now)
    for call in (pausing, waiting):
        with pytest.raises(ClientClosed):
            call.next_attempt(world.now)


def test_a_call_under_way_when_the_client_is_closed_is_answered() -> None:
    world = World("a", "b")
    call = world.call()
    attempt = world.start(call)
    world.pool.close(world.now)
    world.fail(attempt)
    world.succeed(world.start(call))
    assert call.records[-1].outcome == "success"


def test_to_stop_waiting_means_nothing_to_a_call_that_does_not_wait() -> None:
    world = World("a")
    call = world.call()
    call.stopped_waiting(world.now)
    attempt = world.start(call)
    call.stopped_waiting(world.now)
    world.succeed(attempt)
    assert call.records[0].outcome == "success"


# --- the table ---


def test_every_way_through_a_call_is_in_the_table_and_the_end_is_the_end() -> None:
    ends = {Phase.ANSWERED, Phase.OVER}
    assert not [phase for phase, _ in TRANSITIONS if phase in ends]
    assert {step for _, step in TRANSITIONS} == set(Step)
    assert {phase for phase, _ in TRANSITIONS} | set(TRANSITIONS.values()) == set(Phase)


def test_an_attempt_says_who_it_is() -> None:
    world = World("a")
    attempt = world.start()
    assert repr(attempt) == "<Attempt 1 (initial) at a>"
    assert isinstance(attempt, Attempt)
    assert {attempt: 1}[attempt] == 1
