"""How providers stand, for people."""

from __future__ import annotations

import pytest

from resilient_llm.errors import FaultKind
from tests.decide.world import Limit, Target, World


def test_a_snapshot_shows_every_provider_as_it_stands() -> None:
    world = World(Target("a", max_concurrency=5), "b")
    for _ in range(20):
        attempt = world.start(only="a", streaming=True)
        world.speak(attempt, after=0.5)
        world.succeed(attempt, after=1.0, tokens=50)
    world.succeed(world.start(only="a"), after=2.0)
    busy = world.start(only="a")
    world.pool.learn(busy, world.now, Limit(100, 7, 60.0), Limit(1000, 500, 60.0))
    known, unknown = world.pool.snapshot(world.now)
    assert (known.id, known.state, known.breaker, known.limit, known.in_flight) == ("a", "healthy", "closed", 5, 1)
    assert (known.samples, known.error_rate) == (21, 0.0)
    assert known.first_token_p50 == known.first_token_p95 == pytest.approx(0.5)
    assert known.answer_p50 == known.answer_p95 == pytest.approx(2.0)
    assert (known.requests_left, known.tokens_left) == (7, 500)
    assert (known.retry_in, known.gate_open_in, known.gate_reason) == (None, None, "")
    assert (unknown.state, unknown.samples, unknown.error_rate, unknown.first_token_p50) == ("unknown", 0, None, None)
    assert (unknown.requests_left, unknown.tokens_left, unknown.drained) == (None, None, False)


def test_an_answer_of_another_model_shows_until_the_next_one() -> None:
    world = World("a")
    for other in (True, True, False):
        attempt = world.start()
        world.pool.named_model(attempt, other=other)
        world.succeed(attempt)
        assert [health.model_mismatch for health in world.pool.snapshot(world.now)] == [other]


def test_states_have_the_names_people_know() -> None:
    world = World("a", "b", "c", "d")
    world.half_break("a")
    world.trip("b")
    world.pool.operate("c", "isolate", world.now)
    for kind in ["ok", "ok", *["fail"] * 2, *["ok"] * 3, *["fail"] * 2]:
        attempt = world.start(only="d")
        world.succeed(attempt) if kind == "ok" else world.fail(attempt, FaultKind.OVERLOADED)
    states = {health.id: (health.state, health.breaker) for health in world.pool.snapshot(world.now)}
    assert states == {
        "a": ("degraded", "softly_open"),
        "b": ("unhealthy", "open"),
        "c": ("unhealthy", "isolated"),
        "d": ("healthy", "closed"),
    }
    world.fail(world.start(only="d"))
    assert world.health("d").state == "degraded", "it answers, but often fails"
    assert world.health("b").score == world.health("c").score == 0.0


def test_the_time_to_the_next_trial_and_to_an_open_gate_are_told() -> None:
    world = World("a", "b")
    world.half_break("a")
    assert world.health("a").retry_in == pytest.approx(0.875)
    world.now += 5.0
    assert world.health("a").retry_in == 0.0
    world.gate("b", 20.0)
    assert world.health("b").gate_open_in == pytest.approx(22.5)
    assert world.health("b").gate_reason == "rate_limited"
    world.fail(world.start(only="a"), FaultKind.QUOTA_EXHAUSTED)
    assert world.health("a").gate_reason == "quota_exhausted"
    world.now += 100.0
    assert world.health("a").gate_reason == world.health("b").gate_reason == "", "what is over is not told again"


def test_who_stands_in_line_is_counted() -> None:
    world = World(Target("a", max_concurrency=1))
    world.start()
    for count in (1, 2, 3):
        world.told_to_wait(world.call())
        assert world.health("a").waiting == count


def test_every_refusal_is_explained() -> None:
    world = World(
        "well",
        "drained",
        "isolated",
        "gated",
        Target("full", max_concurrency=1),
        "short",
        "quota",
        "half",
        "down",
        "odd",
    )
    world.pool.operate("drained", "drain", world.now)
    world.pool.operate("isolated", "isolate", world.now)
    world.half_break("half")
    world.trip("down")
    world.gate("gated", 20.0)
    world.start(only="full")
    world.pool.learn(world.start(only="short"), world.now, None, Limit(30_000, 500, 59.0))
    world.fail(world.start(only="quota"), FaultKind.QUOTA_EXHAUSTED)
    told = world.explain(tokens=1000, unsuitable={"odd": "cannot see images"})
    down = told.pop("down")
    assert told == {
        "well": None,
        "drained": "drained",
        "isolated": "isolated by hand",
        "gated": "asked us to wait (rate_limited) for 20.5 s more",
        "full": "at its concurrency limit",
        "short": "too little is left of its rate limit for 1 s more",
        "quota": "quota or credentials (quota_exhausted) for 57 s more",
        "half": "asked only while nobody better is there: it failed too often",
        "odd": "cannot see images",
    }
    assert down is not None
    assert down.startswith("breaker open (5 failures in a row)")


def test_a_provider_that_opens_again_after_a_rate_limit_says_so() -> None:
    world = World("a")
    world.gate("a", 1.0)
    world.now += 1.2
    world.start()
    assert (world.explain()["a"] or "").startswith("too little is left of its rate limit")
