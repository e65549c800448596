"""One call: where it goes, when it waits, and how it ends."""

from __future__ import annotations

import math

import pytest

from resilient_llm.decide import events
from resilient_llm.decide.call import Wait
from resilient_llm.decide.member import Attempt
from resilient_llm.errors import (
    AllAttemptsFailed,
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


def test_n_attempts_mean_n_minus_one_waits_and_none_after_the_last() -> None:
    world = World("a", retry=Retry(max_attempts=4))
    call, waits = world.call(), []
    for _ in range(3):
        world.fail(world.start(call))
        waits.append(world.pause(call).seconds)
    world.fail(world.start(call))
    with pytest.raises(AllAttemptsFailed, match="all 4 attempts failed") as failure:
        call.next_attempt(world.now)
    assert waits == [0.25, 0.5, 1.0], "full jitter, doubling"
    assert [record.delay for record in failure.value.attempts] == [0.0, 0.25, 0.5, 1.0]
    assert [record.kind for record in failure.value.attempts] == ["initial", "retry", "retry", "retry"]


def test_the_error_carries_every_attempt_in_order_and_the_last_failure() -> None:
    world = World("a", "b", "c")
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


def test_the_same_provider_is_never_asked_while_another_is_free() -> None:
    world = World(["a", "b", "c"])
    for _ in range(5):
        call = world.call()
        asked = []
        for _ in range(3):
            attempt = world.start(call)
            asked.append(attempt.target.id)
            world.fail(attempt, FaultKind.CONFLICT)
        assert sorted(asked) == ["a", "b", "c"]


def test_a_failed_provider_is_repeated_after_a_pause_although_another_is_gated() -> None:
    world = World("a", "b")
    world.fail(world.start(only="b"), FaultKind.RATE_LIMITED, retry_after=30.0)
    call = world.call()
    world.fail(world.start(call))
    assert world.pause(call) == Wait(0.25, "backoff")
    assert world.start(call).target.id == "a"


def test_asking_again_too_early_is_told_to_wait_for_the_rest() -> None:
    world = World("a")
    call = world.call()
    world.fail(world.start(call))
    wait = call.next_attempt(world.now)
    assert wait == Wait(0.25, "backoff")
    world.now += 0.1
    rest = call.next_attempt(world.now)
    assert isinstance(rest, Wait)
    assert rest.seconds == pytest.approx(0.15)
    world.now += rest.seconds
    assert world.start(call).delay == 0.25


def test_a_breaker_that_opened_meanwhile_is_not_waited_for() -> None:
    world = World("a")
    for _ in range(4):
        world.fail(world.start())
    call = world.call()
    world.fail(world.start(call))
    with pytest.raises(AllAttemptsFailed, match="the attempt failed and nobody else can be asked") as failure:
        call.next_attempt(world.now)
    assert failure.value.retry_after == 1.0, "nobody else is there, so one attempt a second is forced through"


def test_an_empty_retry_budget_ends_the_call_without_a_pause() -> None:
    world = World("a", retry=Retry(budget=1.0, max_attempts=5))
    call = world.call()
    world.fail(world.start(call), FaultKind.CONFLICT)
    world.pause(call)
    world.fail(world.start(call), FaultKind.CONFLICT)
    with pytest.raises(AllAttemptsFailed, match="all 2 attempts failed and the retry budget is empty"):
        call.next_attempt(world.now)
    assert [event.what for event in world.events(events.NotTaken)] == ["retry"]  # type: ignore[union-attr]


def test_a_call_that_cannot_pay_for_a_free_provider_says_that_the_failover_budget_is_empty() -> None:
    world = World("a", "b", retry=Retry(failover_budget=0.0))
    for _ in range(3):
        world.fail(world.start(only="b"))
    call = world.call()
    world.fail(world.start(call), FaultKind.UNSUPPORTED)
    with pytest.raises(AllAttemptsFailed, match="the attempt failed and the failover budget is empty"):
        call.next_attempt(world.now)


def test_the_empty_failover_budget_is_named_although_the_same_provider_could_not_be_repeated_either() -> None:
    world = World("a", "b", retry=Retry(failover_budget=0.0, budget=0.0))
    for _ in range(3):
        world.fail(world.start(only="b"))
    call = world.call()
    world.fail(world.start(call))
    with pytest.raises(AllAttemptsFailed, match="the failover budget is empty"):
        call.next_attempt(world.now)


def test_an_empty_failover_budget_is_not_blamed_where_nobody_else_is_free() -> None:
    world = World("a", "b", retry=Retry(failover_budget=0.0))
    world.pool.operate("b", "drain", world.now)
    call = world.call()
    world.fail(world.start(call), FaultKind.UNSUPPORTED)
    with pytest.raises(AllAttemptsFailed, match="nobody else can be asked"):
        call.next_attempt(world.now)


def test_a_retry_budget_emptied_by_others_during_the_pause_still_leaves_the_gate_of_another() -> None:
    world = World("a", "b", retry=Retry(budget=1.0))
    world.fail(world.start(only="b"), FaultKind.RATE_LIMITED, retry_after=10.0)
    call = world.call()
    world.fail(world.start(call))
    world.pause(call)
    world.pool.retries.spend()
    assert world.pause(call).reason == "gate"
    assert world.start(call).target.id == "b"


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
    world.now += 10.0
    second = call.rescue(first, world.now)
    assert second is not None
    world.fail(first, FaultKind.BAD_REQUEST)
    world.fail(second, FaultKind.SERVER_ERROR)
    with pytest.raises(RequestRejected) as failure:
        call.next_attempt(world.now)
    assert failure.value.fault is not None
    assert failure.value.fault.kind is FaultKind.BAD_REQUEST
    assert len(failure.value.attempts) == 2


def test_a_prompt_too_long_goes_only_to_a_larger_window() -> None:
    small, same, unknown, large = (
        Target(name, context_window=size) for name, size in zip("abcd", (8000, 8000, None, 200000), strict=True)
    )
    world = World(small, same, unknown, large)
    call = world.call()
    world.fail(world.start(call), FaultKind.CONTEXT_LENGTH)
    attempt = world.start(call)
    assert attempt.target is large
    world.fail(attempt, FaultKind.CONTEXT_LENGTH)
    with pytest.raises(RequestRejected, match="too long for every provider"):
        call.next_attempt(world.now)


def test_a_prompt_too_long_waits_for_nobody_when_the_larger_one_is_out() -> None:
    world = World("a", Target("b", context_window=10**6))
    world.pool.operate("b", "isolate", world.now)
    call = world.call()
    world.fail(world.start(call), FaultKind.CONTEXT_LENGTH)
    with pytest.raises(AllAttemptsFailed):
        call.next_attempt(world.now)


def test_a_provider_that_failed_for_good_is_not_repeated_although_it_failed_lightly_before() -> None:
    world = World("a")
    call = world.call()
    world.fail(world.start(call), FaultKind.CONFLICT)
    world.pause(call)
    world.fail(world.start(call), FaultKind.UNSUPPORTED)
    with pytest.raises(AllAttemptsFailed):
        call.next_attempt(world.now)


def test_two_light_failures_of_the_same_provider_are_remembered_once() -> None:
    world = World("a")
    call = world.call()
    for _ in range(2):
        world.fail(world.start(call), FaultKind.CONFLICT)
        world.pause(call)
    assert len(call.repeatable) == 1
    assert len(call.tried) == 1


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
    call = world.call(repeatable_request=False)
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
    call = world.call(repeatable_request=False)
    attempt = world.start(call)
    assert attempt.rescue_after is None, "nothing runs beside it"
    world.fail(attempt, kind, **detail)
    assert world.start(call).target.id == "b"


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
    wait = world.pause(call)
    assert wait.reason == "gate"
    assert 7.0 <= wait.seconds <= 7.0 * 1.25 * 1.1
    attempt = world.start(call)
    assert attempt.delay == wait.seconds
    world.succeed(attempt)
    assert call.records[-1].delay == wait.seconds


def gated(**policies: object) -> World:
    world = World("a", "b", **policies)
    world.fail(world.start(only="a"), FaultKind.RATE_LIMITED, retry_after=20.0)
    world.fail(world.start(only="b"), FaultKind.RATE_LIMITED, retry_after=10.0)
    return world


def test_a_call_waits_for_the_gate_that_opens_first_if_it_fits() -> None:
    world = gated()
    call = world.call(timeout=30.0)
    assert 10.0 <= world.pause(call).seconds <= 13.75
    assert world.start(call).target.id == "b"


def test_a_gate_that_opens_after_the_deadline_is_an_error_at_once() -> None:
    world = gated()
    with pytest.raises(DeadlineExceeded, match=r"the next wait .* would pass the deadline") as failure:
        world.call(timeout=10.0).next_attempt(world.now)
    assert failure.value.retry_after == pytest.approx(11.8125)


def test_a_gate_that_opens_too_late_to_be_waited_for_is_an_error_that_says_when() -> None:
    world = gated(retry=Retry(max_wait=5.0))
    with pytest.raises(NoProviderAvailable) as failure:
        world.call().next_attempt(world.now)
    assert failure.value.retry_after == pytest.approx(11.25)
    assert failure.value.reasons == {"a": "asked us to wait", "b": "asked us to wait"}
    assert str(failure.value) == "no provider can be asked now (a: asked us to wait; b: asked us to wait)"
    assert failure.value.attempts == ()


def test_a_full_provider_is_looked_at_again_soon() -> None:
    world = World(Target("a", max_concurrency=1))
    first = world.start()
    call = world.call()
    assert 0.05 <= world.pause(call).seconds <= 0.055
    world.succeed(first)
    assert world.start(call).target.id == "a"


def test_a_provider_that_may_not_be_repeated_is_no_reason_to_wait() -> None:
    world = World("a")
    call = world.call()
    attempt = world.start(call)
    world.fail(world.start(), FaultKind.RATE_LIMITED, retry_after=5.0)
    world.fail(attempt, FaultKind.UNSUPPORTED)
    with pytest.raises(AllAttemptsFailed):
        call.next_attempt(world.now)


def test_why_nobody_can_be_asked_is_said_per_provider() -> None:
    world = World("a", "b", "c", "d")
    world.pool.operate("a", "drain", world.now)
    world.pool.operate("b", "isolate", world.now)
    world.fail(world.start(only="c"), FaultKind.AUTH)
    with pytest.raises(NoProviderAvailable) as failure:
        world.call(unsuitable={"d": "cannot see images"}).next_attempt(world.now)
    assert failure.value.reasons == {
        "a": "drained",
        "b": "isolated by hand",
        "c": "quota or credentials",
        "d": "cannot see images",
    }
    assert failure.value.retry_after == pytest.approx(57.0)


def test_what_only_a_person_can_end_has_no_time() -> None:
    world = World("a")
    world.pool.operate("a", "drain", world.now)
    with pytest.raises(NoProviderAvailable) as failure:
        world.call().next_attempt(world.now)
    assert failure.value.retry_after is None


# --- the deadline ---


def test_nothing_starts_after_the_deadline() -> None:
    world = World("a")
    call = world.call(timeout=5.0)
    world.now += 5.0
    with pytest.raises(DeadlineExceeded, match="no answer within 5 s"):
        call.next_attempt(world.now)


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
        assert isinstance(failure.value, TimeoutError)
        assert len(failure.value.attempts) == 1


def test_the_first_attempt_may_have_very_little_time() -> None:
    assert World("a").start(timeout=0.01).timeout == pytest.approx(0.01)


def test_no_wait_that_could_not_be_followed_by_an_attempt() -> None:
    world = World("a")
    call = world.call(timeout=0.3)
    world.fail(world.start(call))
    with pytest.raises(DeadlineExceeded, match=r"the next wait \(0.25 s\) would pass the deadline"):
        call.next_attempt(world.now)
    assert world.now == 1000.0


def test_a_timeout_never_reaches_beyond_the_deadline() -> None:
    world = World("a", "b")
    call = world.call(timeout=20.0, streaming=True)
    first = world.start(call)
    assert first.timeout == 20.0
    world.now += 10.0
    second = call.rescue(first, world.now)
    assert second is not None
    assert second.timeout == 10.0
    assert world.start(streaming=True).timeout == 30.0, "without a deadline its own timeout holds"


def test_the_callers_own_deadline_judges_nobody() -> None:
    world = World("a")
    world.answer("a")
    call = world.call(timeout=5.0)
    attempt = world.start(call)
    before = world.standing("a")
    call.expired(attempt, fault(FaultKind.TIMEOUT), world.now)
    after = world.standing("a")
    assert (after.success_rate, after.samples, after.in_flight) == (before.success_rate, 1, 0)
    assert call.records[-1].outcome == "error", "the trail says what took the time"
    assert call.last_fault is not None


def known_a_little(*, answers: int = 9) -> World:
    """Too few answers for a measure: 20 make one."""
    world = World("a", "b")
    world.answer("a", times=answers, first=0.5)
    return world


@pytest.mark.parametrize("streaming", [True, False], ids=["streamed before", "only streamed before"])
def test_a_provider_known_a_little_that_falls_silent_is_found_out_by_short_deadlines(streaming: bool) -> None:
    world = known_a_little()
    for _ in range(40):
        call = world.call(timeout=4.0, streaming=streaming)
        attempt = world.start(call)
        if attempt.target.id == "b":
            break
        world.now += 4.0
        call.expired(attempt, fault(FaultKind.TIMEOUT), world.now)
    assert attempt.target.id == "b"


def test_a_provider_known_a_little_is_not_blamed_for_deadlines_it_could_never_meet() -> None:
    world = known_a_little()
    for _ in range(40):
        call = world.call(timeout=0.9, streaming=True)
        attempt = world.start(call)
        assert attempt.target.id == "a"
        world.now += 0.9
        call.expired(attempt, fault(FaultKind.TIMEOUT), world.now)
    assert world.standing("a").samples == 9


def test_a_provider_known_a_little_is_not_blamed_for_a_straggler_among_answers() -> None:
    world = known_a_little()
    call = world.call(timeout=4.0, streaming=True)
    attempt = world.start(call)
    world.now += 3.0
    world.answer("a", first=0.5)
    world.now += 0.5
    call.expired(attempt, fault(FaultKind.TIMEOUT), world.now)
    assert world.standing("a").samples == 10


def test_rescues_beside_the_silence_of_a_provider_known_a_little_need_no_savings() -> None:
    world = known_a_little()
    for index in range(25):
        call = world.call(timeout=4.0, streaming=True)
        attempt = world.start(call)
        if attempt.target.id == "b":
            break
        world.now += 2.0
        rescue = call.rescue(attempt, world.now)
        assert rescue is not None, index
        world.succeed(rescue)
        call.overtaken(attempt, world.now)
    assert attempt.target.id == "b"


def test_a_provider_that_has_never_answered_is_doubted_when_time_runs_out() -> None:
    world = World("a", "b")
    for _ in range(10):
        call = world.call(timeout=1.0, only="a")
        attempt = world.start(call)
        call.expired(attempt, fault(FaultKind.TIMEOUT), world.now)
    assert world.standing("a").breaker == "open"


@pytest.mark.parametrize(("silence", "judged"), [(0.0, 0), (1.5, 0), (2.5, 1)])
def test_a_stream_out_of_time_speaks_against_its_provider_only_if_it_was_silent_for_long(
    silence: float, judged: int
) -> None:
    world = rescuable()  # a first token after 0.8 s is usual, after 2.4 s overdue
    call = world.call(timeout=60.0, streaming=True)
    attempt = world.start(call)
    world.speak(attempt, after=0.8)
    world.now += 59.2
    attempt.silence = silence
    before = world.standing("a").samples
    call.expired(attempt, fault(FaultKind.TIMEOUT), world.now)
    assert world.standing("a").samples - before == judged
    assert call.records[-1].outcome == "error"


def test_a_provider_asked_at_the_last_moment_is_not_doubted_when_time_runs_out() -> None:
    world = World("a", "b")
    for _ in range(4):
        call = world.call(timeout=2.0)
        first = world.start(call)
        world.now += 1.5
        rescue = call.rescue(first, world.now)
        assert rescue is not None
        world.now += 0.5
        for attempt in (first, rescue):
            call.expired(attempt, fault(FaultKind.TIMEOUT), world.now)
    assert (world.standing("a").samples, world.standing("b").samples) == (4, 0)


def test_a_provider_that_has_never_answered_is_doubted_when_a_rescue_overtakes_it() -> None:
    world = World("a", "b")
    asked: list[str] = []
    for _ in range(12):
        call = world.call(timeout=1.0)
        attempt = world.start(call)
        asked.append(attempt.target.id)
        if attempt.target.id == "b":
            break
        world.now += 0.5
        rescue = call.rescue(attempt, world.now)
        assert rescue is not None
        call.succeeded(rescue, world.now)
        call.overtaken(attempt, world.now)
    assert asked[0] == "a"
    assert asked[-1] == "b", "by now the other one is asked first"


def test_a_rescue_comes_no_earlier_than_this_provider_usually_needs() -> None:
    world = World("a", "b")
    for _ in range(25):
        world.answer("a", first=5.0)
    assert world.start(streaming=True, timeout=8.0).rescue_after == pytest.approx(5.0)
    for _ in range(25):
        world.answer("b", first=0.5)
    assert world.start(streaming=True, timeout=8.0).rescue_after == pytest.approx(7.0), "b is quick: there is time"


def test_a_provider_late_by_its_own_measure_is_no_better_for_the_callers_deadline() -> None:
    world = rescuable()
    call = world.call(timeout=5.0, streaming=True)
    attempt = world.start(call)
    world.now += 5.0
    call.expired(attempt, fault(FaultKind.TIMEOUT), world.now)
    assert call.records[-1].outcome == "error"
    assert world.standing("a").samples == 32


# --- rescues ---


def rescuable(*tiers: str | list[str], **policies: object) -> World:
    world = World(*(tiers or ("a", "b")), **policies)
    world.answer("a", times=31, first=0.8)
    return world


def test_a_silent_attempt_is_rescued_elsewhere_after_twice_the_usual_time() -> None:
    world = rescuable()
    call = world.call(streaming=True)
    first = world.start(call)
    assert first.rescue_after == pytest.approx(1.6)
    world.now += 1.6
    second = call.rescue(first, world.now)
    assert second is not None
    assert (second.target.id, second.kind, second.number) == ("b", "hedge", 2)
    assert second.rescue_after is None, "a rescue is not rescued"
    assert call.made == 1, "it does not count against max_attempts"


def test_a_refused_rescue_may_be_asked_for_again_after_twice_as_long_and_at_half_the_time() -> None:
    world = rescuable()
    world.pool.operate("b", "drain", world.now)
    call = world.call(streaming=True, timeout=12.0)
    first = world.start(call)
    began = world.now
    for elapsed, again in ((1.6, 3.2), (3.2, 6.0), (6.0, None)):
        assert first.rescue_after == pytest.approx(elapsed)
        world.now = began + elapsed
        assert call.rescue(first, world.now) is None
        assert first.rescue_after == (None if again is None else pytest.approx(again))
    world.pool.operate("b", "restore", world.now)
    assert call.rescue(first, world.now) is not None


def test_no_rescue_is_asked_for_again_beside_an_attempt_that_is_over() -> None:
    world = rescuable()
    call = world.call(streaming=True)
    first = world.start(call)
    world.fail(first)
    assert call.rescue(first, world.now + 1.6) is None
    assert first.rescue_after is None


def test_a_call_with_little_time_is_rescued_when_half_of_it_is_gone() -> None:
    world = rescuable()
    assert world.start(streaming=True, timeout=2.0).rescue_after == 1.0
    assert World("a", "b").start(timeout=20.0).rescue_after == 10.0, "also where nothing is known yet"
    assert World("a", "b").start().rescue_after is None


def test_the_half_time_rescue_is_paid_by_the_failover_budget_when_there_are_no_savings() -> None:
    world = World("a", "b", "c", retry=Retry(failover_budget=1.0))
    world.answer("a")
    world.pool.hedges.tokens = 0.0
    call = world.call(timeout=20.0)
    first = world.start(call)
    assert call.rescue(first, world.now + 9.0) is None, "not before half the time is gone"
    assert call.rescue(first, world.now + 10.0) is not None
    other = world.call(timeout=20.0)
    silent = world.start(other)
    world.answer("a")  # it is not silent altogether
    world.pool.hedges.tokens = world.pool.failovers.tokens = 0.0
    assert other.rescue(silent, world.now + 10.0) is None, "nobody pays"
    assert {event.what for event in world.events(events.NotTaken)} == {"hedge"}  # type: ignore[union-attr]


def test_leaving_a_provider_that_hangs_needs_no_savings() -> None:
    world = rescuable()
    calls = [world.call(streaming=True) for _ in range(20)]
    silent = [world.start(call) for call in calls]
    world.pool.hedges.tokens = world.pool.failovers.tokens = 0.0
    world.now += 2.5  # overdue, and nobody begun since has spoken
    assert all(call.rescue(first, world.now) for call, first in zip(calls, silent, strict=True))


def test_rescues_are_earned_by_calls_one_in_twenty() -> None:
    world = rescuable(hedge=Hedge(cap=2.0))
    world.pool.hedges.spend()
    rescued = 0
    for _ in range(100):
        call = world.call(streaming=True)
        first = world.start(call)
        world.now += first.rescue_after or 0.0
        second = call.rescue(first, world.now)
        rescued += second is not None
        for attempt in (first, second):
            if attempt is not None:
                world.abandon(attempt)
    assert rescued == 5


def test_nobody_is_rescued_at_the_same_provider_or_where_none_is_free() -> None:
    world = rescuable("a")
    call = world.call(streaming=True)
    first = world.start(call)
    assert first.rescue_after is None
    assert call.rescue(first, world.now + 5.0) is None


def test_nothing_is_rescued_that_spoke_ended_or_was_answered() -> None:
    world = rescuable("a", "b", "c")
    for end in (world.speak, world.abandon, world.succeed):
        call = world.call(streaming=True, timeout=60.0)
        first = world.start(call)
        end(first)
        assert call.rescue(first, world.now + 30.0) is None


def test_nothing_is_rescued_that_was_rejected_or_has_no_time_left() -> None:
    world = rescuable("a", "b", "c")
    rejected = world.call(streaming=True, timeout=60.0)
    first = world.start(rejected)
    second = rejected.rescue(first, world.now + 30.0)
    assert second is not None
    world.fail(second, FaultKind.BAD_REQUEST)
    assert rejected.rescue(first, world.now + 30.0) is None
    late = world.call(streaming=True, timeout=10.0)
    first = world.start(late)
    assert late.rescue(first, world.now + 9.9) is None


def test_without_hedging_no_rescue_is_planned_but_probes_are_still_backed_up() -> None:
    world = World("a", "b", hedge=Hedge(enabled=False))
    assert world.start(timeout=10.0).rescue_after is None
    world.half_open("a")
    probe = world.start()
    assert probe.kind == "probe"
    assert probe.rescue_after == 1.0
    assert probe.call.rescue(probe, world.now + 1.5) is not None, "paid by the probe's own budget"


def test_a_probe_is_backed_up_once_a_healthy_peer_would_have_spoken() -> None:
    world = World("a", "b", "c")
    world.answer("b", times=25, first=3.0)
    world.half_open("a")
    probe = world.start(streaming=True)
    assert probe.kind == "probe"
    assert probe.rescue_after == pytest.approx(3.0)


def test_a_probe_among_nobody_healthy_is_backed_up_after_the_usual_pause() -> None:
    world = World("a", "b")
    world.trip("b")
    world.half_open("a")
    assert world.start().rescue_after == 1.0


def raced(timeout: float) -> tuple[World, Attempt[Target]]:
    """A call to a provider that usually speaks after 0.8 s and is rescued when half of ``timeout`` is gone."""
    world = rescuable()
    call = world.call(streaming=True, timeout=timeout)
    first = world.start(call)
    world.now += first.rescue_after or 0.0
    second = call.rescue(first, world.now)
    assert second is not None
    world.speak(second, after=0.1)
    return world, first


def test_the_loser_of_a_race_is_judged_by_nobody_but_counts_as_slow() -> None:
    world, loser = raced(timeout=2.0)
    before = world.standing("a")
    loser.call.overtaken(loser, world.now)
    after = world.standing("a")
    assert (after.success_rate, after.breaker, after.samples) == (before.success_rate, before.breaker, before.samples)
    assert after.score < before.score, "it would have taken at least as long"
    assert after.in_flight == 0
    assert loser.call.records[-1].outcome == "cancelled"


def test_a_loser_that_was_late_by_its_own_measure_has_failed() -> None:
    world, loser = raced(timeout=60.0)
    for _ in range(4):
        world.fail(world.start(only="a"))
    world.now += 1.0
    loser.call.overtaken(loser, world.now)
    assert world.standing("a").breaker == "open", "a provider that hangs is found out although it is always rescued"
    record = loser.call.records[-1]
    assert record.outcome == "error"
    assert record.fault is not None
    assert record.fault.kind is FaultKind.TIMEOUT
    assert loser.call.last_fault is None, "the call itself was answered"


def test_a_whole_answer_overtaken_says_nothing_about_speed() -> None:
    world = World("a", "b")
    call = world.call(timeout=20.0)
    first = world.start(call)
    world.now += 10.0
    call.overtaken(first, world.now)
    assert world.standing("a").answer_p50 is None


# --- the trail ---


def test_an_outcome_counts_once_whatever_is_reported_after_it() -> None:
    world = World("a", "b")
    call = world.call(conversation="chat")
    attempt = world.start(call)
    world.succeed(attempt)
    before = world.standing("a")
    world.speak(attempt)
    world.succeed(attempt)
    world.fail(attempt)
    world.abandon(attempt)
    call.overtaken(attempt, world.now)
    assert world.standing("a") == before
    assert len(call.records) == 1
    assert call.in_flight == 0
    assert call.last_fault is None


def test_the_pool_too_takes_each_outcome_once() -> None:
    world = World("a")
    attempt = world.start()
    world.abandon(attempt)
    before = world.standing("a")
    world.pool.succeeded(attempt, world.now)
    world.pool.failed(attempt, fault(), world.now)
    world.pool.overtaken(attempt, world.now)
    world.pool.abandoned(attempt, world.now)
    assert world.standing("a") == before


def test_calls_share_no_state_of_their_own() -> None:
    world = World("a", "b", retry=Retry(failover_budget=1000.0))
    calls = [world.call() for _ in range(100)]
    attempts = [world.start(call) for call in calls]
    for attempt in attempts[::2]:
        world.fail(attempt, FaultKind.CONFLICT)
        world.start(attempt.call)
    assert [call.made for call in calls] == [2, 1] * 50
    assert [len(call.records) for call in calls] == [1, 0] * 50


def test_a_late_failure_of_one_provider_never_touches_the_one_that_took_over() -> None:
    world = World("a", "b")
    call = world.call(timeout=20.0)
    first = world.start(call)
    world.now += 10.0
    second = call.rescue(first, world.now)
    assert second is not None
    before = world.standing("b")
    world.fail(first)
    assert world.standing("b") == before
    assert world.standing("a").success_rate < 0.95


def test_attempts_are_told_to_listeners_with_the_number_of_their_call() -> None:
    world = World("a", "b")
    world.pool.listening = True
    call = world.call()
    world.fail(world.start(call))
    world.succeed(world.start(call))
    started, ended = world.events(events.AttemptStarted), []
    assert [(event.provider, event.number, event.kind) for event in started] == [  # type: ignore[union-attr]
        ("a", 1, "initial"),
        ("b", 2, "failover"),
    ]
    world.succeed(world.start())
    ended = [event for event in world.events(events.AttemptEnded) if isinstance(event, events.AttemptEnded)]
    assert [(event.call, event.record.outcome) for event in ended] == [(2, "success")]


def test_with_nobody_listening_only_changes_are_noted() -> None:
    world = World("a", "b")
    world.fail(world.start())
    assert world.events() == []


def test_a_call_whose_route_is_gone_ends_in_peace() -> None:
    world = World("a", "b")
    call = world.call()
    attempt = world.start(call)
    world.pool.replace({"other": build("c")}, world.now)
    assert call.rescue(attempt, world.now + 100.0) is None
    world.fail(attempt, FaultKind.CONTEXT_LENGTH)
    with pytest.raises(RequestRejected):
        call.next_attempt(world.now)
    late = world.call(route="main")
    with pytest.raises(NoProviderAvailable):
        late.next_attempt(world.now)
    assert late.deadline == math.inf


def test_a_gate_without_end_is_still_an_error_within_the_cap() -> None:
    world = World("a", limits=Limits(gate_cap=1000.0))
    world.fail(world.start(), FaultKind.RATE_LIMITED, retry_after=math.inf)
    with pytest.raises(NoProviderAvailable) as failure:
        world.call().next_attempt(world.now)
    assert 800.0 <= failure.value.retry_after <= 1000.0


def test_a_deadline_that_passes_after_the_attempt_was_over_changes_nothing() -> None:
    world = World("a")
    call = world.call(timeout=5.0)
    attempt = world.start(call)
    world.fail(attempt)
    before = world.standing("a")
    call.expired(attempt, fault(FaultKind.TIMEOUT), world.now)
    assert world.standing("a") == before
    assert len(call.records) == 1
