"""A provider that is slower, or fails more, than it used to: found early, and rarely where nothing is wrong."""

from __future__ import annotations

import gc
import math
import random
import statistics
import time
import weakref

import pytest

from benchmarks import anomalies as bench
from resilient_llm import ResilientClient
from resilient_llm.errors import ResilientError
from resilient_llm.operate.alerts import Alerts, Notification, Rules
from resilient_llm.operate.anomalies import Anomalies, Anomaly
from resilient_llm.operate.anomalies.detectors import Failures, Slowdown
from resilient_llm.operate.anomalies.watching import MOST_QUEUED, Sample
from resilient_llm.testing import Hang, Reply, ScriptedProvider, Status, instant
from tests.material import material
from tests.operate.servers import until

# --- detectors ---


@pytest.mark.parametrize(
    ("factor", "errors", "most"),
    [(1.5, 0.005, 60), (2.0, 0.005, 25), (4.0, 0.005, 12), (1.0, 0.1, 150), (1.0, 0.3, 30), (1.0, 1.0, 6)],
)
def test_a_change_is_found_after_so_many_attempts(factor: float, errors: float, most: float) -> None:
    fault = bench.Fault("x", 0, 0, factor, errors)
    delays = [bench.delay(bench.Ours, seed, fault, 1000, 600) for seed in range(5)]
    assert statistics.median(delays) <= most


def test_a_day_in_which_nothing_is_wrong_has_hardly_an_alarm() -> None:
    alarms, _ = bench.false_alarms(bench.Ours, 3, bench.DAY)
    assert alarms <= 1.0


def test_the_breakers_own_statistics_do_not_see_what_these_are_for() -> None:
    """The reason for a second mechanism: half as slow again, which is no reason to move traffic but one to know."""
    fault = bench.Fault("x", 0, 0, factor=1.5)
    assert bench.delay(bench.TheBreakers, 1, fault, 1000, 1000) == math.inf
    assert bench.delay(bench.Ours, 1, fault, 1000, 1000) < 100


def test_incidents_of_vendors_are_found() -> None:
    found = bench.incidents(material("data", "incidents.csv"), 12)
    assert {fault.name for fault in found} == {"minor", "major", "critical"}
    for seed, fault in enumerate(found):
        assert bench.delay(bench.Ours, 100 + seed, fault, 500, fault.length) <= 200, fault


def test_a_change_that_is_over_is_soon_forgotten_and_one_that_stays_becomes_usual() -> None:
    draw, slow = random.Random(1), Slowdown()

    def run(count: int, factor: float) -> bool:
        for _ in range(count):
            slow.add(factor * math.exp(0.3 * draw.gauss(0.0, 1.0)))
        return slow.raised

    assert not run(500, 1.0)
    assert run(100, 2.0)
    assert slow.factor == pytest.approx(2.0, rel=0.3)
    assert not run(60, 1.0)
    assert run(100, 2.0)
    assert not run(30_000, 2.0)
    failures = Failures()
    for number in range(500):
        failures.add(failed=number % 200 == 0)
    for number in range(100):
        failures.add(failed=number % 3 == 0)
    assert failures.raised
    assert failures.recent == pytest.approx(0.33, abs=0.1)
    for _ in range(320):
        failures.add(failed=False)
    assert not failures.raised


def test_one_sample_proves_nothing_however_far_out_and_neither_do_the_first() -> None:
    slow, failures = Slowdown(), Failures()
    for _ in range(200):
        slow.add(1.0)
    slow.add(1e9)
    slow.add(0.0)
    assert not slow.raised
    young = Slowdown()
    for number in range(60):
        young.add(1.0 if number < 30 else 10.0)
    assert not young.raised
    failures.add(failed=True)
    failures.add(failed=True)
    assert not failures.raised


def test_latencies_nobody_can_notice_are_no_slowdown() -> None:
    slow = Slowdown()
    for number in range(400):
        slow.add(0.001 if number < 200 else 0.02)
    assert not slow.raised


# --- beside a client ---


def of(anomalies: Anomalies, provider: str) -> Anomaly:
    return next(one for one in anomalies.status() if one.provider == provider)


def test_whole_answers_that_take_twice_as_long_are_an_alert_while_the_breaker_sees_nothing() -> None:
    told: list[Notification] = []
    draw = random.Random(2)
    provider = ScriptedProvider(id="a")
    with ResilientClient([provider]) as client, instant(client) as clock:
        anomalies = Anomalies(client)
        with Alerts(client, [told.append], watch=[anomalies], rules=Rules(group_wait=0.0)) as alerts:

            def calls(count: int, level: float) -> None:
                for _ in range(count):
                    provider.default = Reply("word " * 20, delay=level * math.exp(0.2 * draw.gauss(0.0, 1.0)))
                    client.chat("hi", deadline=60)

            calls(150, 2.0)
            assert not of(anomalies, "a").wrong
            calls(40, 3.4)
            found = of(anomalies, "a")
            assert found.slow
            assert 1.3 < found.slowdown < 2.5
            assert client.health()["a"].breaker == "closed"
            alerts.look()
            clock.advance(1.0)
    (alert,) = told[0].fired
    assert alert.key == "latency_anomaly/a"
    assert "times as long as usual" in alert.text
    assert ("traffic moves away by itself" in alert.text) is (len(client.health()) > 1)


def test_streams_are_judged_by_their_first_content_and_who_is_overtaken_was_slow() -> None:
    provider = ScriptedProvider(id="a", default=Reply("one two", delay=0.5))
    with ResilientClient([provider, ScriptedProvider(id="b")]) as client, instant(client):
        anomalies = Anomalies(client)
        for _ in range(100):
            with client.stream("hi") as stream:
                list(stream)
        assert of(anomalies, "a").samples == 100
        watched = anomalies.call("chat", None, "default", None, streaming=True, call_id="x")  # type: ignore[arg-type]
        target = client.pool.pool.targets()[0]
        for _ in range(12):
            attempt = watched.attempt(target, 1, "initial", 0.0)
            client.pool.clock.advance(5.0)  # type: ignore[attr-defined]
            attempt.ended(_cancelled(), selected=False)
        assert of(anomalies, "a").slow
        # One that is cancelled at once says nothing.
        for _ in range(50):
            watched.attempt(target, 1, "initial", 0.0).ended(_cancelled(), selected=False)
        assert of(anomalies, "a").samples == 162
        assert of(anomalies, "a").slow, "and does not make it look fast"


def _cancelled() -> object:
    from resilient_llm.errors import AttemptRecord

    return AttemptRecord(1, "a", "a", "initial", "cancelled", None, None, 5.0)


def test_failures_are_an_alert_and_what_callers_cause_is_none() -> None:
    provider = ScriptedProvider(id="a")
    with ResilientClient([provider, ScriptedProvider(id="b")]) as client, instant(client) as clock:
        anomalies = Anomalies(client)

        def calls(count: int, step: object, every: int) -> None:
            for number in range(count):
                provider.default = step if number % every == 0 else "fine"  # type: ignore[assignment]
                try:
                    client.chat("hi", deadline=60)
                except ResilientError:
                    assert step == Status(400)
                clock.advance(1.0)

        calls(200, "fine", 1)
        calls(60, Status(400), 1)
        calls(30, Status(429, retry_after=0.5), 3)
        assert not of(anomalies, "a").failing
        calls(300, Status(500), 10)
        found = of(anomalies, "a")
        assert found.failing
        assert found.error_rate > 0.05 > found.usual_error_rate
        (condition,) = [one for one in anomalies.conditions(0.0) if one.kind == "error_anomaly"]
        assert "of attempts failed lately" in condition.detail
        assert "all providers" not in condition.detail


def test_when_everybody_is_slow_the_fault_may_be_here() -> None:
    with ResilientClient([ScriptedProvider(id="a"), ScriptedProvider(id="b")]) as client:
        anomalies = Anomalies(client)
        for seconds in [1.0] * 100 + [3.0] * 40:
            for provider in ("a", "b"):
                anomalies.take(Sample("whole", provider, 0.0, seconds))
        assert all("look at this process" in condition.detail for condition in anomalies.conditions(0.0))


def test_what_nobody_looks_at_is_bounded_and_the_background_thread_looks() -> None:
    with ResilientClient([ScriptedProvider(id="a")]) as client:
        anomalies = Anomalies(client)
        for _ in range(MOST_QUEUED + 10):
            anomalies.take(Sample("whole", "a", 0.0, 1.0))
        assert len(anomalies._queue) <= MOST_QUEUED
        until(lambda: not anomalies._queue)
        assert of(anomalies, "a").samples <= MOST_QUEUED


def test_providers_that_are_gone_are_forgotten_and_after_close_nothing_is_taken() -> None:
    with ResilientClient([ScriptedProvider(id="a")]) as client:
        before = client.pool.observer
        anomalies = Anomalies(client)
        client.chat("hi")
        assert [one.provider for one in anomalies.status()] == ["a"]
        client.replace_providers([ScriptedProvider(id="b")])
        assert anomalies.status() == ()
        anomalies.close()
        client.chat("hi")
        assert client.pool.observer is before
        assert anomalies.status() == ()


def test_a_client_that_is_dropped_takes_its_anomalies_with_it() -> None:
    client = ResilientClient([ScriptedProvider()])
    anomalies = weakref.ref(Anomalies(client))
    client.close()
    del client
    until(lambda: gc.collect() is not None and anomalies() is None)


def test_watching_costs_a_call_little() -> None:
    def median(watched: bool) -> float:
        with ResilientClient([ScriptedProvider(id="a", default=Hang()), ScriptedProvider(id="b")]) as client:
            client.isolate("a")
            if watched:
                Anomalies(client)
            took: list[float] = []
            for _ in range(300):
                started = time.thread_time()
                client.chat("hi")
                took.append(time.thread_time() - started)
            return statistics.median(took)

    assert median(True) - median(False) < 0.0005
