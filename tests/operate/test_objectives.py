"""What callers get against what they were promised, and how fast the error budget burns."""

from __future__ import annotations

import os
import random
import re
import statistics
import sys
import time
from pathlib import Path

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from resilient_llm import (
    AllAttemptsFailed,
    ConfigurationError,
    DeadlineExceeded,
    InvalidRequest,
    NoProviderAvailable,
    RequestRejected,
    ResilientClient,
    StreamInterrupted,
)
from resilient_llm.errors import ResilientError
from resilient_llm.operate.alerts import Alerts, Notification, Rules
from resilient_llm.operate.callers import caused_by_caller
from resilient_llm.operate.objectives import RULES, Objective, Objectives
from resilient_llm.operate.objectives.gauges import METRICS
from resilient_llm.operate.objectives.ledger import Ledger, Ring
from resilient_llm.testing import Cut, Hang, Reply, ScriptedProvider, Status, instant

DAY, HOUR, MINUTE = 86400.0, 3600.0, 60.0

# --- counting ---


def test_a_ring_counts_what_a_list_would() -> None:
    draw = random.Random(5)
    ring, calls, now = Ring(30.0, 3600.0), list[tuple[int, bool]](), 12345.6
    for _ in range(1000):
        now += draw.choice((0.0, 0.5, 3.0, 40.0)) if draw.random() < 0.99 else draw.choice((400.0, 4000.0, 40000.0))
        bad = draw.random() < 0.1
        ring.add(now, bad=bad)
        calls.append((int(now // 30), bad))
        for seconds in (300.0, 3600.0):
            recent = [bad for at, bad in calls if at >= int(now // 30) - int(seconds / 30)]
            assert ring.sums(now, seconds) == (len(recent), sum(recent))


def test_memory_does_not_grow() -> None:
    ledger = Ledger("r", "availability", 0.999, None, 0.0)
    before = sum(
        sys.getsizeof(values) for ring in (ledger._fine, ledger._coarse) for values in (ring._calls, ring._bad)
    )
    for day in range(200):
        for minute in range(0, 1440, 60):
            ledger.add(day * DAY + minute * MINUTE, bad=False)
    after = sum(sys.getsizeof(values) for ring in (ledger._fine, ledger._coarse) for values in (ring._calls, ring._bad))
    assert before == after < 100_000


class Traffic:
    """Calls at a steady rate with a share of bad ones."""

    def __init__(self, target: float = 0.999, every: float = 1.0) -> None:
        self.now, self.every = 1000.0, every
        self.ledger = Ledger("r", "availability", target, None, self.now)
        self._owed = 0.0

    def run(self, seconds: float, bad: float, until: str | None = None) -> float:
        """Returns the seconds until it burned as severely as ``until`` says."""
        started = self.now
        while self.now < started + seconds:
            self.now += self.every
            self._owed += bad
            self.ledger.add(self.now, bad=self._owed >= 1.0)
            self._owed -= self._owed >= 1.0
            if (
                until is not None
                and int(self.now) % (600 if until == "warning" else 30) == 0
                and self.ledger.status(self.now).burning == until
            ):
                return self.now - started
        return float("inf")

    @property
    def burning(self) -> str | None:
        return self.ledger.status(self.now).burning


def test_a_total_outage_is_critical_within_minutes_and_over_soon_after_it() -> None:
    traffic = Traffic()
    traffic.run(2 * HOUR, 0.0)
    assert traffic.run(HOUR, 1.0, until="critical") <= 90
    traffic.run(9 * MINUTE, 1.0)
    assert traffic.burning == "critical"
    traffic.run(6 * MINUTE, 0.0)
    assert traffic.ledger.status(traffic.now).burn["5m"] == 0.0
    traffic.run(40 * MINUTE, 0.0)
    assert traffic.burning is None


@pytest.mark.parametrize(
    ("rate", "severity", "least", "most"),
    [
        (20.0, "critical", 20 * MINUTE, HOUR),  # the fast rule, once the hour is full of it
        (8.0, "critical", 2 * HOUR, 6 * HOUR),  # the rule of six hours
        (2.0, "warning", DAY, 3 * DAY),  # the rule of three days
    ],
)
def test_how_long_a_burn_lasts_before_it_is_told(rate: float, severity: str, least: float, most: float) -> None:
    traffic = Traffic(target=0.99, every=10.0)
    traffic.run(3 * DAY, 0.0)
    took = traffic.run(3.1 * DAY, rate * 0.01, until=severity)
    assert least <= took <= most


def test_a_burn_that_lasts_a_month_is_never_told() -> None:
    traffic = Traffic(target=0.99, every=60.0)
    assert traffic.run(14 * DAY, 0.009, until="warning") == float("inf")
    found = traffic.ledger.status(traffic.now)
    assert found.achieved == pytest.approx(0.991, abs=0.0005)
    assert found.budget_left == pytest.approx(0.1, abs=0.05)
    assert found.burn["3d"] == pytest.approx(0.9, abs=0.05)


def test_a_few_failures_of_a_quiet_route_and_the_first_calls_of_all_wake_nobody() -> None:
    quiet = Traffic(every=600.0)
    quiet.run(3 * HOUR, 0.0)
    quiet.run(40 * MINUTE, 1.0)
    assert quiet.burning is None, "four bad calls"
    quiet.run(20 * MINUTE, 1.0)
    assert quiet.burning == "critical"
    young = Traffic()
    young.run(4 * MINUTE, 1.0)
    assert young.burning is None
    young.run(2 * MINUTE, 1.0)
    assert young.burning == "critical"
    mixed = Traffic()
    mixed.run(20 * MINUTE, 0.005)
    assert mixed.burning is None, "five times is nothing yet; nobody knows what three days will be"


def test_without_calls_nothing_is_achieved_and_nothing_spent() -> None:
    found = Ledger("r", "latency", 0.95, 2.0, 0.0).status(100.0)
    assert (found.calls, found.achieved, found.budget_left, found.burning) == (0, None, 1.0, None)
    assert found.as_dict()["burn"] == {"5m": 0.0, "30m": 0.0, "1h": 0.0, "6h": 0.0, "3d": 0.0}


# --- whose fault it was ---


@pytest.mark.parametrize(
    ("error", "callers"),
    [
        (InvalidRequest("x"), True),
        (RequestRejected("x"), True),
        (ConfigurationError("x"), True),
        (KeyboardInterrupt(), True),
        (
            NoProviderAvailable("x", reasons={"a": "lacks the tags eu", "b": "not among the providers= of this call"}),
            True,
        ),
        (NoProviderAvailable("x", reasons={"a": "lacks the tags eu", "b": "breaker open"}), False),
        (NoProviderAvailable("x", reasons={"a": "quota or credentials"}), False),
        (NoProviderAvailable("x"), False),
        (AllAttemptsFailed("x"), False),
        (DeadlineExceeded("x"), False),
        (StreamInterrupted("x"), False),
    ],
)
def test_what_a_caller_caused(error: BaseException, callers: bool) -> None:
    assert caused_by_caller(error) is callers


# --- beside a client ---

PROMISE = Objective(availability=0.99, within=2.0, share=0.9)


def counts(objectives: Objectives) -> dict[str, tuple[int, int]]:
    return {f"{one.route} {one.objective}": (one.calls, one.bad) for one in objectives.status()}


def test_calls_streams_and_failures_are_counted_per_route_by_their_first_end() -> None:
    slow = Reply(delay=3.0)
    provider = ScriptedProvider(
        "fine", slow, ("a", "b"), Reply("word " * 9, fault=Cut(after=3)), *[Status(500)] * 9, id="a"
    )
    with ResilientClient({"smart": [provider], "fast": [ScriptedProvider(id="b")]}) as client, instant(client):
        objectives = Objectives(client, PROMISE)
        client.chat("hi")
        client.chat("hi")
        with client.stream("hi") as stream:
            assert "".join(stream.text_deltas()) == "ab"
        with pytest.raises(StreamInterrupted), client.stream("hi") as stream:
            list(stream)
        with pytest.raises(ResilientError):
            client.chat("hi", deadline=1)
        client.chat("hi", route="fast")
        assert counts(objectives) == {
            "smart availability": (5, 2),
            "smart latency": (5, 3),
            "fast availability": (1, 0),
            "fast latency": (1, 0),
        }


def test_what_callers_cause_counts_neither_way_but_who_gave_up_late_was_kept_waiting() -> None:
    provider = ScriptedProvider(Status(400), id="a", default=("a", "b"))
    with ResilientClient([provider]) as client, instant(client) as clock:
        objectives = Objectives(client, PROMISE)
        with pytest.raises(RequestRejected):
            client.chat("hi")
        with pytest.raises(NoProviderAvailable):
            client.chat("hi", require={"eu"})
        with pytest.raises(InvalidRequest):
            client.chat("hi", route="nowhere")
        with client.stream("hi") as stream:
            next(iter(stream.text_deltas()))
        assert counts(objectives) == {"default availability": (0, 0), "default latency": (0, 0)}
        watched = objectives.call("chat", None, "default", None, streaming=False, call_id="x")  # type: ignore[arg-type]
        watched.closed_early(None, None, 1.0)
        assert counts(objectives)["default latency"] == (0, 0)
        for _ in range(2):  # the first end counts
            watched = objectives.call("chat", None, "default", None, streaming=False, call_id="x")  # type: ignore[arg-type]
            watched.closed_early(None, None, 9.0)
            watched.failed(AllAttemptsFailed("x"), 10.0)
        assert counts(objectives) == {"default availability": (0, 0), "default latency": (2, 2)}
        clock.advance(1.0)


def test_a_hang_that_another_provider_makes_good_is_no_failure_but_may_be_late() -> None:
    with ResilientClient([ScriptedProvider(id="a", default=Hang()), ScriptedProvider(id="b")]) as client:
        with instant(client):
            objectives = Objectives(client, {"default": PROMISE})
            client.chat("hi", deadline=60)
            assert counts(objectives) == {"default availability": (1, 0), "default latency": (1, 1)}


def test_a_burning_objective_is_an_alert() -> None:
    told: list[Notification] = []
    provider = ScriptedProvider(id="a")
    with ResilientClient({"smart": [provider]}) as client, instant(client) as clock:
        objectives = Objectives(client, Objective(availability=0.99))
        rules = Rules(group_wait=0.0, ignore=("provider_unhealthy", "all_providers_down"))
        with Alerts(client, [told.append], watch=[objectives], rules=rules) as alerts:
            clock.advance(HOUR)
            for _ in range(20):
                client.chat("hi")
            provider.default = Status(500)
            for _ in range(8):
                with pytest.raises(ResilientError):
                    client.chat("hi", deadline=1)
            alerts.look()
    (alert,) = told[0].fired
    assert alert.key == "error_budget_burning/the availability of route smart"
    assert alert.severity == "critical"
    assert "burns its error budget" in alert.text
    assert "% of the budget is left" in alert.detail


def test_routes_come_and_go() -> None:
    with ResilientClient({"one": [ScriptedProvider(id="a")]}) as client:
        objectives = Objectives(client, Objective(availability=0.9))
        client.replace_providers({"two": [ScriptedProvider(id="a")]})
        client.chat("hi")
        assert counts(objectives) == {"two availability": (1, 0)}


def test_gauges_show_what_status_tells_until_it_is_closed() -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    with ResilientClient([ScriptedProvider(id="a")], name="app") as client:
        objectives = Objectives(client, PROMISE, meter_provider=provider)
        client.chat("hi")

        def shown() -> dict[str, list[tuple[dict[str, object], float]]]:
            data = reader.get_metrics_data()
            found = [] if data is None else data.resource_metrics[0].scope_metrics[0].metrics
            return {one.name: [(dict(p.attributes or {}), p.value) for p in one.data.data_points] for one in found}  # type: ignore[union-attr]

        seen = shown()
        assert seen.keys() == METRICS.keys()
        labels = {"resilient_llm.client.name": "app", "resilient_llm.route.name": "default"}
        assert ({**labels, "resilient_llm.objective": "latency"}, 0.9) in seen["resilient_llm.client.objective.target"]
        assert len(seen["resilient_llm.client.objective.burn_rate"]) == 10
        objectives.close()
        assert not shown()
    provider.shutdown()


def test_after_close_nothing_is_counted() -> None:
    with ResilientClient([ScriptedProvider()]) as client:
        before = client.pool.observer
        objectives = Objectives(client)
        objectives.close()
        client.chat("hi")
        assert client.pool.observer is before
        assert counts(objectives) == {"default availability": (0, 0)}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_worker_counts_its_own_calls() -> None:
    with ResilientClient([ScriptedProvider()]) as client:
        objectives = Objectives(client)
        client.chat("hi")
        child = os.fork()
        if child == 0:
            code = 1
            try:
                client.chat("hi")
                client.chat("hi")
                code = objectives.status()[0].calls
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
        assert objectives.status()[0].calls == 1


def test_counting_costs_a_call_little() -> None:
    def median(watched: bool) -> float:
        with ResilientClient([ScriptedProvider()]) as client:
            if watched:
                Objectives(client, PROMISE)
            took: list[float] = []
            for _ in range(300):
                started = time.thread_time()
                client.chat("hi")
                took.append(time.thread_time() - started)
            return statistics.median(took)

    assert median(True) - median(False) < 0.0005


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda client: Objective(availability=99.9),
            "availability must be a number between 0 and 1, not 99.9; say 0.999",
        ),
        (lambda client: Objective(availability=1.0), "between 0 and 1"),
        (lambda client: Objective(within=0), "within must be a number of seconds above 0 or None, not 0"),
        (lambda client: Objective(within=1, share=95), "share must be a number between 0 and 1, not 95; say 0.95"),
        (lambda client: Objective(availability=None), "needs availability, within, or both"),
        (lambda client: Objectives(client, {"samrt": PROMISE}), "there is no route 'samrt'; there are default"),
        (lambda client: Objectives(client, {"default": 0.99}), "must be an Objective, not 0.99"),
        (lambda client: Objectives(client, 0.99), "an Objective, or a mapping of routes"),
    ],
)
def test_mistakes_are_told_at_once(make: object, words: str) -> None:
    assert callable(make)
    with ResilientClient([ScriptedProvider()]) as client, pytest.raises(ConfigurationError, match=words):
        make(client)


def test_the_page_lists_the_gauges_and_the_rules() -> None:
    page = (Path(__file__).parents[2] / "docs" / "objectives.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(resilient_llm\.[a-z_.]+)` \|", page, re.MULTILINE) == list(METRICS)
    hours = {"1 h": 1, "6 h": 6, "3 d": 72, "5 min": 5 / 60, "30 min": 0.5}
    rows = re.findall(r"^\| ([\d.]+) \| (\d+ \w+) \| (\d+ \w+) \| (\w+) \|", page, re.MULTILINE)
    assert [(float(factor), hours[long] * HOUR, hours[short] * HOUR, word) for factor, long, short, word in rows] == [
        (rule.factor, rule.long, rule.short, rule.severity) for rule in RULES
    ]
