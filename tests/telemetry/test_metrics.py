"""Numbers: what is counted, under which attributes, and how many series that can make."""

from __future__ import annotations

import gc
import logging
import random

import pytest
from opentelemetry.sdk.metrics.export import HistogramDataPoint

from resilient_llm import events
from resilient_llm.decide.attempt import Ask, Attempt
from resilient_llm.decide.call import Call
from resilient_llm.decide.pool import Pool
from resilient_llm.errors import (
    AllAttemptsFailed,
    DeadlineExceeded,
    Fault,
    FaultKind,
    NoProviderAvailable,
    StreamInterrupted,
)
from resilient_llm.health import ProviderHealth
from resilient_llm.model import ChatResponse, EmbedRequest, EmbedResponse, Usage
from resilient_llm.policy import KeyTerms, Policies
from resilient_llm.telemetry import Telemetry, names
from resilient_llm.wire.faults.ratelimit import Limit, RateLimits
from tests.telemetry.rig import DOWN, FIRST, RATE_LIMITED, REPLY, REQUEST, SECOND, USAGE, Provider, Rig, record, series


def failing_over(rig: Rig) -> None:
    call = rig.call(streaming=True)
    call.attempt(FIRST, 1, "initial", 0.0).ended(record(FIRST, fault=RATE_LIMITED), selected=False)
    call.attempt(SECOND, 2, "failover", 0.0).ended(record(SECOND, 2, "failover", DOWN), selected=False)
    call.attempt(SECOND, 3, "retry", 0.5).ended(record(SECOND, 3, "retry"), selected=True)
    call.first_chunk(0.7)
    call.succeeded(REPLY, SECOND, 2.0)


def test_a_calls_own_metrics_belong_to_the_winner_alone() -> None:
    rig = Rig()
    failing_over(rig)
    winner = "name=anthropic,model=claude-sonnet-5"
    assert rig.points("gen_ai.client.operation.duration") == series({winner: 2.0})
    assert rig.points("gen_ai.client.operation.time_to_first_chunk") == series({winner: 0.7})
    assert rig.points("gen_ai.client.token.usage") == series({f"{winner},type=input": 11, f"{winner},type=output": 7})
    assert rig.points("resilient_llm.client.call.attempts") == series({"": 3})
    assert rig.points("resilient_llm.client.call.retry_delay") == series({"": 0.5})


def test_every_attempt_is_measured_with_its_kind_outcome_and_error() -> None:
    rig = Rig()
    failing_over(rig)
    assert rig.points("resilient_llm.client.attempt.duration") == series(
        {
            "error=rate_limit,name=openai,model=gpt-5,outcome=error,kind=initial,id=openai": 0.25,
            "error=server_error,name=anthropic,model=claude-sonnet-5,outcome=error,kind=failover,id=claude": 0.25,
            "name=anthropic,model=claude-sonnet-5,outcome=success,kind=retry,id=claude": 0.25,
        }
    )


def test_retries_and_failovers_are_counted_with_their_reason() -> None:
    rig = Rig()
    failing_over(rig)
    assert rig.points("resilient_llm.client.retries") == series({"error=server_error,name=anthropic,id=claude": 1})
    assert rig.points("resilient_llm.client.failovers") == series({"reason=rate_limit,id=openai": 1})


def test_a_trial_after_a_failure_elsewhere_is_a_failover_too() -> None:
    rig = Rig()
    call = rig.call()
    call.attempt(FIRST, 1, "initial", 0.0).ended(record(FIRST, fault=DOWN), selected=False)
    call.attempt(SECOND, 2, "trial", 0.0)
    assert rig.points("resilient_llm.client.failovers") == series({"reason=server_error,id=openai": 1})


def test_hedges_are_counted_by_outcome() -> None:
    rig = Rig()
    call = rig.call()
    call.attempt(FIRST, 1, "initial", 0.0)
    call.attempt(SECOND, 2, "hedge", 0.0).ended(record(SECOND, 2, "hedge"), selected=True)
    assert rig.points("resilient_llm.client.hedges") == series({"outcome=success": 1})


def test_tokens_nobody_got_are_wasted() -> None:
    rig = Rig()
    call = rig.call(streaming=True)
    loser = call.attempt(SECOND, 1, "initial", 0.0)
    loser.ended(record(SECOND, outcome="cancelled"), selected=False, usage=Usage(3, 0))
    call.failed(StreamInterrupted("x", partial=ChatResponse((), usage=USAGE)), 1.0, FIRST)
    assert rig.points("resilient_llm.client.wasted_tokens") == series(
        {
            "name=anthropic,model=claude-sonnet-5,type=input,id=claude": 3,
            "name=openai,model=gpt-5,type=input,id=openai": 11,
            "name=openai,model=gpt-5,type=output,id=openai": 7,
        }
    )


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (NoProviderAvailable("x", reasons={"a": "breaker open"}), "circuit_open"),
        (DeadlineExceeded("x"), "deadline_exceeded"),
    ],
)
def test_a_call_that_never_got_an_attempt_is_a_rejection(error: Exception, reason: str) -> None:
    rig = Rig()
    rig.call(None).failed(error, 0.1)
    assert rig.points("resilient_llm.client.rejections") == series({f"reason={reason}": 1})
    assert rig.points("gen_ai.client.operation.duration") == series({f"error={reason},name=resilient_llm": 0.1})


def test_a_failed_call_is_measured_with_its_error_and_without_tokens() -> None:
    rig = Rig()
    rig.call().failed(AllAttemptsFailed("x", (), None, DOWN), 1.0)
    assert rig.points("gen_ai.client.operation.duration") == series({"error=server_error,name=openai,model=gpt-5": 1.0})
    assert rig.points("gen_ai.client.token.usage") == {}


def test_the_new_dialect_replaces_the_old_metrics_and_dup_records_both() -> None:
    old = {
        "gen_ai.client.operation.duration",
        "gen_ai.client.token.usage",
        "gen_ai.client.operation.time_to_first_chunk",
    }
    new = {
        "gen_ai.client.inference.duration",
        "gen_ai.client.inference.time_to_first_chunk",
        "gen_ai.client.inference.operation.input_tokens",
        "gen_ai.client.inference.operation.output_tokens",
        "gen_ai.client.inference.usage.input_tokens",
        "gen_ai.client.inference.usage.output_tokens",
    }
    for semconv, expected in (("1.41", old), ("0.1.0", new), ("dup", old | new)):
        rig = Rig(semconv=semconv)  # type: ignore[arg-type]
        failing_over(rig)
        assert {name for name in rig.metric_names() if name.startswith("gen_ai")} == expected


def test_the_new_dialect_counts_the_rarer_tokens_where_there_are_any_and_nothing_for_a_failure() -> None:
    rig = Rig(semconv="0.1.0")
    usage = Usage(10, 5, cache_read_tokens=4, cache_write_tokens=3, reasoning_tokens=2)
    rig.call().succeeded(ChatResponse((), usage=usage), FIRST, 1.0)
    rig.call().failed(AllAttemptsFailed("x"), 1.0)
    totals = {name.removeprefix("gen_ai.client.inference.usage."): rig.points(name) for name in rig.metric_names()}
    point = frozenset({"name=openai", "model=gpt-5", "modality=unknown"})
    assert {name: found for name, found in totals.items() if name in usage_names()} == {
        "input_tokens": {point: 10},
        "output_tokens": {point: 5},
        "cache_read.input_tokens": {point: 4},
        "cache_write.input_tokens": {point: 3},
        "reasoning.output_tokens": {point: 2},
    }


def usage_names() -> set[str]:
    prefix = "gen_ai.client.inference.usage."
    return {metric.name.removeprefix(prefix) for metric in names.METRICS if metric.name.startswith(prefix)}


def test_embeddings_keep_the_old_duration_in_the_new_dialect() -> None:
    rig = Rig(semconv="0.1.0")
    request = EmbedRequest(("a",))
    call = rig.telemetry.call("embeddings", request, "default", FIRST, streaming=False, call_id="c")
    call.succeeded(EmbedResponse((), "e", Usage(3)), FIRST, 0.3)
    assert {name for name in rig.metric_names() if name.startswith("gen_ai")} == {"gen_ai.client.operation.duration"}


def test_durations_come_in_the_buckets_of_the_conventions() -> None:
    rig = Rig()
    failing_over(rig)
    for metric in (names.OPERATION_DURATION, names.TOKEN_USAGE, names.ATTEMPT_DURATION, names.CALL_ATTEMPTS):
        points = rig.raw_points(metric.name)
        assert points
        assert all(isinstance(p, HistogramDataPoint) and tuple(p.explicit_bounds) == metric.buckets for p in points)


def test_a_measurement_is_linked_to_the_span_it_belongs_to() -> None:
    rig = Rig()
    rig.call().succeeded(REPLY, FIRST, 1.0)
    (point,) = rig.raw_points("gen_ai.client.operation.duration")
    assert isinstance(point, HistogramDataPoint)
    context = rig.spans[0].context
    assert context is not None
    assert [exemplar.span_id for exemplar in point.exemplars] == [context.span_id]


# --- providers' state --------------------------------------------------------------------------------------


class Member(Provider):
    """A provider as a pool wants it."""

    weight = 1.0
    max_concurrency = None
    keys = (KeyTerms(),)
    context_window = None
    cache_seconds = None


def pool_of(*providers: Member) -> Pool[Member]:
    return Pool({"default": [list(providers)]}, Policies(), random.Random(1).random)


def leased(pool: Pool[Member], now: float) -> Attempt[Member]:
    found = Call(pool, Ask("default"), now).next_attempt(now)
    assert isinstance(found, Attempt)
    return found


def test_gauges_show_the_pool_as_it_is_when_they_are_read() -> None:
    rig, pool = Rig(), pool_of(Member("openai"))
    rig.telemetry.watch(pool, lambda: 100.0)
    leased(pool, 99.0)
    base = "name=openai,id=openai"
    assert rig.points("resilient_llm.circuit_breaker.state") == series(
        {
            f"state=closed,{base}": 1.0,
            f"state=open,{base}": 0.0,
            f"state=softly_open,{base}": 0.0,
            f"state=isolated,{base}": 0.0,
        }
    )
    assert rig.points("resilient_llm.provider.health.score") == series({base: pytest.approx(1.0, abs=0.5)})
    assert rig.points("resilient_llm.provider.ejected") == series({base: 0})
    assert rig.points("resilient_llm.client.attempt.active") == series({base: 1})
    assert rig.points("resilient_llm.client.call.waiting") == series({base: 0})
    budgets = rig.points("resilient_llm.retry_budget.balance")
    assert set(budgets) == {frozenset({f"type={kind}"}) for kind in ("extra", "trial")}
    pool.operate("openai", "isolate", 100.0)
    assert rig.points("resilient_llm.provider.ejected") == series({base: 1})


def test_a_pool_and_a_client_that_are_gone_are_no_longer_shown() -> None:
    rig, pool = Rig(), pool_of(Member("openai"))
    rig.telemetry.watch(pool)
    assert rig.points("resilient_llm.provider.health.score")
    del pool
    gc.collect()
    assert rig.points("resilient_llm.provider.health.score") == {}
    other = Telemetry("other", rig.tracers, rig.meters)
    kept = pool_of(Member("a"))
    other.watch(kept)
    assert rig.points("resilient_llm.provider.ejected") == series({"name=openai,id=a": 0})
    del other
    gc.collect()
    assert rig.points("resilient_llm.provider.ejected") == {}


def test_reported_limits_are_shown_until_they_are_full_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("resilient_llm.telemetry.scope.time.monotonic", lambda: now[0])
    rig = Rig()
    attempt = rig.call().attempt(FIRST, 1, "initial", 0.0)
    attempt.limits(RateLimits(Limit(100, 25, 60.0), Limit(None, 5000, None)))
    base = "name=openai,id=openai"
    model = "name=openai,model=gpt-5,id=openai"
    rig.telemetry.watch(pool_of(Member("openai")))
    assert rig.points("resilient_llm.rate_limit.request.remaining") == series({f"{model},type=requests": 25})
    assert rig.points("resilient_llm.rate_limit.request.limit") == series({f"{model},type=requests": 100})
    assert rig.points("resilient_llm.rate_limit.token.remaining") == series({f"{model},type=tokens": 5000})
    assert rig.points("resilient_llm.rate_limit.token.limit") == {}
    assert rig.points("resilient_llm.rate_limit.utilization") == series({f"{base},type=requests": 0.75})
    now[0] += 61
    assert rig.points("resilient_llm.rate_limit.request.remaining") == {}
    assert rig.points("resilient_llm.rate_limit.token.remaining") == series({f"{model},type=tokens": 5000})


class Bare:
    """The least that can be watched."""

    def snapshot(self, now: float) -> tuple[ProviderHealth, ...]:
        return pool_of(Member("unknown")).snapshot(now)


def test_a_pool_that_only_has_snapshots_can_be_watched_too() -> None:
    rig, bare = Rig(), Bare()
    rig.telemetry.watch(bare)
    rig.call().attempt(FIRST, 1, "initial", 0.0).limits(RateLimits(Limit(0, 0)))
    assert rig.points("resilient_llm.retry_budget.balance") == {}
    assert rig.points("resilient_llm.provider.ejected") == {}, "nobody knows whose id that is"
    assert rig.points("resilient_llm.rate_limit.utilization") == {}


def test_limits_of_a_provider_that_was_forgotten_are_not_shown() -> None:
    rig = Rig()
    rig.telemetry.watch(bare := Bare())
    rig.call().attempt(FIRST, 1, "initial", 0.0).limits(RateLimits(Limit(10, 5)))
    rig.telemetry._scope._faces.clear()
    assert rig.points("resilient_llm.rate_limit.request.limit") == {}
    del bare


def test_state_changes_are_counted() -> None:
    rig = Rig()
    rig.call(FIRST)
    for event in (
        events.BreakerChanged(1.0, "openai", "closed", "open", "tripped", 5.0),
        events.BreakerChanged(6.0, "openai", "open", "closed", "enough trials succeeded"),
        events.BreakerChanged(7.0, "openai", "closed", "softly_open", "it failed too often", 10.0),
        events.GateClosed(8.0, "openai", 3.0, "rate_limited", slow=False),
        events.GateClosed(9.0, "openai", 300.0, "quota_exhausted", slow=True),
        events.GateClosed(9.0, "openai", 300.0, "a new kind", slow=True),
        events.NotTaken(9.0, "openai", "retry", "budget"),
        events.NotTaken(9.0, "", "hedge", "budget"),
        events.NotTaken(9.0, "openai", "verdict", "stale"),
        events.OperatorChanged(9.0, "openai", "drain"),
        events.OperatorChanged(9.0, "openai", "restore"),
        events.AttemptStarted(9.0, "openai", 1, 1, "initial"),
    ):
        rig.telemetry.event(event)
    base = "name=openai,id=openai"
    assert rig.points("resilient_llm.circuit_breaker.transitions") == series(
        {f"state=open,{base}": 1, f"state=closed,{base}": 1, f"state=softly_open,{base}": 1}
    )
    assert rig.points("resilient_llm.provider.ejections") == series(
        {
            f"reason=breaker,{base}": 2,
            f"reason=quota_exhausted,{base}": 1,
            f"reason=_OTHER,{base}": 1,
            f"reason=manual,{base}": 1,
        }
    )
    assert rig.points("resilient_llm.rate_limit.closures") == series(
        {
            f"error=rate_limit,{base}": 1,
            f"error=quota_exhausted,{base}": 1,
            f"error=_OTHER,{base}": 1,
        }
    )
    assert rig.points("resilient_llm.client.rejections") == series(
        {
            "reason=retry_budget_exhausted": 1,
            "reason=hedge_budget_exhausted": 1,
        }
    )


def test_an_event_of_a_provider_no_call_has_met_is_described_by_its_pool_or_by_its_id() -> None:
    rig, pool = Rig(), pool_of(Member("eu", "anthropic"))
    rig.telemetry.watch(pool)
    rig.telemetry.event(events.OperatorChanged(9.0, "eu", "drain"))
    rig.telemetry.event(events.OperatorChanged(9.0, "gone", "removed"))
    found = rig.points("resilient_llm.provider.ejections")
    assert set(found) == set(series({"reason=manual,name=anthropic,id=eu": 1, "reason=manual,id=gone": 1}))


# --- how many series ---------------------------------------------------------------------------------------


def test_ten_thousand_random_calls_make_a_bounded_number_of_series(caplog: pytest.LogCaptureFixture) -> None:
    """10 providers, 3 routes, every kind of failure; ids, models of answers and messages differ every time."""
    rig, draw = Rig(semconv="dup"), random.Random(7)
    providers = [Provider(f"p{n}", draw.choice(("openai", "anthropic")), f"m{n}") for n in range(10)]
    caplog.set_level(logging.CRITICAL, "resilient_llm")
    tracers_off = Telemetry("test", None, rig.meters, semconv="dup")
    for n in range(10_000):
        wander(tracers_off, draw, providers, n)
    sizes = {names.PROVIDER_ID: 10, names.ROUTE_NAME: 3, names.ATTEMPT_TYPE: 6, names.ATTEMPT_OUTCOME: 3}
    for metric in names.METRICS:
        points = rig.raw_points(metric.name)
        assert all(set(point.attributes) <= set(metric.attributes) for point in points), metric.name
        most = 2 if names.TOKEN_TYPE in metric.attributes else 1
        for name in metric.attributes:
            most *= sizes.get(name, 1)
        if any(reason in metric.attributes for reason in (names.ERROR_TYPE, names.FAILOVER_REASON)):
            most *= len(FaultKind) + 1
        if names.PROVIDER_ID not in metric.attributes and names.PROVIDER_NAME in metric.attributes:
            most *= 10  # vendor, model and host of ten providers
        assert len(points) <= min(most, 1200), metric.name  # an SDK folds what exceeds 2000


def wander(telemetry: Telemetry, draw: random.Random, providers: list[Provider], n: int) -> None:
    """One call with a random course."""
    streaming = draw.random() < 0.3
    target = draw.choice(providers)
    route = draw.choice(("a", "b", "c"))
    call = telemetry.call("chat", REQUEST, route, target, streaming=streaming, call_id=str(n))
    for number in range(1, draw.randint(1, 3)):
        kind = draw.choice(("retry", "failover", "hedge", "trial"))
        fault = Fault(draw.choice(list(FaultKind)), request_id=f"req{n}", message=f"unique {n}")
        call.attempt(target, number, kind, draw.random()).ended(record(target, number, kind, fault), selected=False)
        target = draw.choice(providers)
    call.attempt(target, 9, "initial", 0.0).ended(record(target), selected=True)
    if draw.random() < 0.2:
        call.failed(AllAttemptsFailed(f"unique {n}", (), None, Fault(draw.choice(list(FaultKind)))), draw.random())
    else:
        call.first_chunk(0.1)
        call.succeeded(ChatResponse((), usage=Usage(n, n), id=f"id{n}", model=f"snapshot-{n}"), target, draw.random())
