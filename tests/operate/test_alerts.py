"""Alerts beside a real client: who is told what, off the path of its calls, whatever the sinks do."""

from __future__ import annotations

import gc
import logging
import os
import statistics
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import suppress

import pytest

from resilient_llm import AllAttemptsFailed, AsyncResilientClient, ConfigurationError, ResilientClient
from resilient_llm.errors import ResilientError
from resilient_llm.operate.alerts import Alerts, Call, Condition, Log, Notification, Rules, Webhook
from resilient_llm.operate.background import MOST_WAITING, background_of
from resilient_llm.operate.incidents import Incidents, Remedies
from resilient_llm.testing import ManualClock, ScriptedProvider, Status, instant
from tests.operate.servers import receiver, silent_port, until

QUICK = Rules(group_wait=0.0, clear_after=5.0)


class Inbox:
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.got: list[Notification] = []

    def __call__(self, notification: Notification) -> None:
        self.got.append(notification)

    @property
    def told(self) -> list[str]:
        return [f"+{one.key}" for each in self.got for one in each.fired] + [
            f"-{one.key}" for each in self.got for one in each.resolved
        ]

    def take(self) -> set[str]:
        found = set(self.told)
        self.got.clear()
        return found


def calls(client: ResilientClient, clock: ManualClock, alerts: Alerts, seconds: int) -> None:
    """A call a second, and a look after each."""
    for _ in range(seconds):
        with suppress(ResilientError):
            client.chat("hi", deadline=5)
        clock.advance(1.0)
        alerts.look()


def test_the_life_of_an_outage() -> None:
    first, second = ScriptedProvider(id="first"), ScriptedProvider(id="second")
    inbox = Inbox()
    with ResilientClient([first, second], name="app") as client, instant(client) as clock:
        with Alerts(client, [inbox], rules=QUICK) as alerts:
            calls(client, clock, alerts, 30)
            assert inbox.take() == set()
            first.default = Status(500)
            calls(client, clock, alerts, 40)
            assert inbox.take() == {"+provider_unhealthy/first"}
            assert [one.key for one in alerts.firing] == ["provider_unhealthy/first"]
            second.default = Status(500)
            calls(client, clock, alerts, 40)
            assert {"+all_providers_down/default", "+provider_unhealthy/second"} <= inbox.take()
            first.default = second.default = "well again"
            calls(client, clock, alerts, 120)
            assert {"-all_providers_down/default", "-provider_unhealthy/first"} <= inbox.take()
            client.restore("second")  # behind one that is well nobody may have asked it, so nobody knows better
            calls(client, clock, alerts, 10)
            assert alerts.firing == ()


def test_calls_that_nobody_answers_are_critical_also_where_no_provider_counts_as_down() -> None:
    """503 is a sign of overload: the breaker opens softly, because such a provider answers some calls."""
    inbox = Inbox()
    providers = [ScriptedProvider(id=one, default=Status(503)) for one in ("a", "b")]
    with ResilientClient(providers) as client, instant(client) as clock:
        with Alerts(client, [inbox], rules=QUICK) as alerts:
            calls(client, clock, alerts, 15)
            assert "open" not in {one.breaker for one in client.health().values()}
            (alert,) = [one for one in alerts.firing if one.kind == "all_providers_down"]
            assert "calls failed, the first of them" in alert.detail
            for provider in providers:
                provider.default = "well again"
            calls(client, clock, alerts, 60)
            assert "-all_providers_down/default" in inbox.told


def test_quota_and_credentials_are_told_and_taken_back_when_an_attempt_is_answered() -> None:
    bad = ScriptedProvider(id="bad", default=Status(401))
    inbox = Inbox()
    with ResilientClient([bad, ScriptedProvider(id="good")]) as client, instant(client) as clock:
        with Alerts(client, [inbox], rules=QUICK) as alerts:
            calls(client, clock, alerts, 3)
            assert inbox.take() == {"+credentials_rejected/bad"}
            calls(client, clock, alerts, 200)
            assert inbox.take() == set()
            bad.default = "the new key works"
            calls(client, clock, alerts, 600)
            assert inbox.take() == {"-credentials_rejected/bad"}


def test_the_background_thread_looks_by_itself_and_at_once_when_a_breaker_opens() -> None:
    inbox = Inbox()
    rules = Rules(interval=3600.0, group_wait=0.0)
    with ResilientClient([ScriptedProvider(id="a", default=Status(401)), ScriptedProvider(id="b")]) as client:
        with Alerts(client, [inbox], rules=rules):
            client.chat("hi")
            until(lambda: inbox.told == ["+credentials_rejected/a"])
    rules = Rules(interval=0.1, group_wait=0.0)

    class Source:
        def conditions(self, now: float) -> Iterator[Condition]:
            yield Condition("latency_anomaly", "mine", "warning", "")

    with ResilientClient([ScriptedProvider()]) as client, Alerts(client, [inbox], rules=rules, watch=[Source()]):
        until(lambda: "+latency_anomaly/mine" in inbox.told)


def test_close_tells_what_nobody_was_told_yet_and_stops() -> None:
    inbox = Inbox()
    with ResilientClient([ScriptedProvider(id="a", default=Status(401)), ScriptedProvider(id="b")]) as client:
        before = client.pool.observer
        alerts = Alerts(client, [inbox], rules=Rules(group_wait=600.0))
        client.chat("hi")
        alerts.close()
        assert inbox.told == ["+credentials_rejected/a"]
        assert client.pool.observer is before


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_async_client_has_alerts_too(anyio_backend: str) -> None:
    inbox = Inbox()
    async with AsyncResilientClient(
        [ScriptedProvider(id="a", default=Status(401)), ScriptedProvider(id="b")]
    ) as client:
        alerts = Alerts(client, [inbox], rules=QUICK)
        await client.chat("hi")
        alerts.close()
    assert inbox.told == ["+credentials_rejected/a"]


# --- sinks and sources that fail ---


def test_sinks_that_raise_or_hang_take_nothing_from_the_others_and_fail_no_call(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def explode(_: Notification) -> None:
        raise MemoryError("for the test")

    inbox = Inbox()
    providers = [ScriptedProvider(id="a", default=Status(401)), ScriptedProvider(id="b")]
    with silent_port() as port, ResilientClient(providers) as client:
        hanging = Webhook(f"http://127.0.0.1:{port}/hook", timeout=0.3)
        with Alerts(client, [hanging, explode, Call(inbox)], rules=QUICK) as alerts:
            client.chat("hi")
            until(lambda: inbox.told == ["+credentials_rejected/a"])
            until(lambda: alerts.deliveries()[0].error is not None)
            first, second, third = alerts.deliveries()
            assert (first.queued, second.queued, third.queued) == (1, 1, 0)
            assert second.error is not None
            assert second.error.startswith("MemoryError in explode")
            assert third.sent == 1
    assert "for the test" not in caplog.text


def test_what_is_logged_does_not_wait_for_a_webhook_that_hangs(caplog: pytest.LogCaptureFixture) -> None:
    logged: list[bool] = []

    def hang(_: Notification) -> None:
        logged.append(any("alert firing" in record.getMessage() for record in caplog.records))

    with ResilientClient([ScriptedProvider(id="x")]) as client:
        with Alerts(client, [hang, Log()], watch=[Always()], rules=QUICK) as alerts:
            alerts.look()
    assert logged[0], "the line is there before anybody is asked who may hang"


class Always:
    """A source in which something is always wrong."""

    def conditions(self, now: float) -> list[Condition]:
        return [Condition("latency_anomaly", "x", "warning", "slow")]


def test_a_sink_that_hangs_is_asked_last_and_seldom() -> None:
    order: list[str] = []

    def hang(_: Notification) -> None:
        order.append("hanging")
        raise TimeoutError

    with ResilientClient([ScriptedProvider(id="a"), ScriptedProvider(id="b")]) as client, instant(client) as clock:
        with Alerts(client, [hang, lambda _: order.append("well")], rules=QUICK) as alerts:
            for provider in ("a", "b"):
                client.pool.pool.targets()
                alerts.ended(_rejected(provider))
                alerts.look()
                clock.advance(10.0)
            assert order == ["hanging", "well", "well", "hanging"]
            order.clear()
            for _ in range(600):
                clock.advance(1.0)
                alerts.look()
            assert 5 <= len(order) <= 12


def _rejected(provider: str) -> object:
    from resilient_llm.errors import AttemptRecord, Fault, FaultKind

    return AttemptRecord(1, provider, "m", "initial", "error", Fault(FaultKind.AUTH), 401, 0.1)


def test_a_source_that_raises_takes_nothing_from_the_others(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def conditions(self, now: float) -> list[Condition]:
            raise KeyError(now)

    class Fine:
        def conditions(self, now: float) -> list[Condition]:
            return [Condition("error_anomaly", "a", "warning", "")]

    inbox = Inbox()
    with ResilientClient([ScriptedProvider(id="a")]) as client:
        with Alerts(client, [inbox], rules=QUICK, watch=[Broken(), Fine()]) as alerts:
            alerts.look()
    assert "+error_anomaly/a" in inbox.told
    assert "a source of conditions failed: Broken" in caplog.text


def test_a_hanging_webhook_costs_calls_less_than_a_millisecond() -> None:
    def usual(watched: bool) -> float:
        providers = [ScriptedProvider(id="a", default=Status(401)), ScriptedProvider(id="b")]
        with silent_port() as port, ResilientClient(providers) as client:
            webhook = Webhook(f"http://127.0.0.1:{port}", timeout=30.0)
            alerts = Alerts(client, [webhook], rules=QUICK) if watched else None
            client.chat("hi")
            if alerts is not None:
                until(lambda: alerts.deliveries()[0].queued)
            took: list[float] = []
            for number in range(300):
                if number % 10 == 0:  # changes that are to be looked at at once
                    client.isolate("a")
                    client.restore("a")
                started = time.perf_counter()
                client.chat("hi")
                took.append(time.perf_counter() - started)
            if alerts is not None:
                state = alerts.deliveries()[0]
                assert (bool(state.queued), state.sent, state.error) == (True, 0, None), "it hangs all the while"
                alerts.close(0.0)
            return statistics.quantiles(took)[0]  # what a busy machine does to a call shows in the others

    without, hanging = usual(False), usual(True)
    assert hanging - without < 0.001


def test_a_thread_that_hangs_for_ever_makes_nobody_wait_and_holds_a_bounded_number_of_jobs() -> None:
    go_on, hanging = threading.Event(), threading.Event()

    def hang(_: Notification) -> None:
        hanging.set()
        go_on.wait(10.0)

    with ResilientClient([ScriptedProvider(id="a", default=Status(401)), ScriptedProvider(id="b")]) as client:
        alerts = Alerts(client, [hang], rules=QUICK)
        client.chat("hi")
        assert hanging.wait(5.0)
        for _ in range(MOST_WAITING + 100):
            client.isolate("a")
            client.restore("a")
        started = time.perf_counter()
        client.chat("hi")
        alerts.close(0.05)
        assert time.perf_counter() - started < 2.0
        assert background_of(client.pool).refused < 100, "changes are looked at together"
        go_on.set()


# --- what is left behind ---


def test_a_client_that_is_dropped_takes_its_alerts_with_it() -> None:
    client = ResilientClient([ScriptedProvider()])
    alerts = weakref.ref(Alerts(client, [Log()]))
    assert alerts() is not None, "the client holds it"
    client.close()
    del client
    gc.collect()
    until(lambda: gc.collect() is not None and alerts() is None)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_worker_tells_by_itself() -> None:
    with receiver() as server:
        with ResilientClient([ScriptedProvider(id="a", default=Status(401)), ScriptedProvider(id="b")]) as client:
            alerts = Alerts(client, [Webhook(server.url)], rules=QUICK)
            background_of(client.pool).flush()
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    client.chat("hi")
                    alerts.close(5.0)
                    code = 0
                finally:
                    os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            (got,) = server.wait_for(1)
            alerts.close()
        assert got.body["client"] == "default"
        assert len(server.received) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_worker_looks_by_itself_also_where_no_breaker_changes() -> None:
    class Source:
        held = False

        def conditions(self, now: float) -> list[Condition]:
            return [Condition("error_budget_burning", "x", "critical", "")] if self.held else []

    with receiver() as server:
        with ResilientClient([ScriptedProvider()]) as client:
            source, rules = Source(), Rules(group_wait=0.0, interval=0.1)
            alerts = Alerts(client, [Webhook(server.url)], rules=rules, watch=[source])
            background_of(client.pool).flush()
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    source.held = True
                    client.chat("hi")
                    until(lambda: alerts.firing)
                    until(lambda: alerts.deliveries()[0].sent == 1)
                    code = 0
                finally:
                    os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            assert len(server.received) == 1
            alerts.close()


# --- setting up ---


def test_a_test_notification_goes_through_every_sink_at_once() -> None:
    inbox = Inbox()

    def broken(_: Notification) -> None:
        raise ValueError

    with ResilientClient([ScriptedProvider()]) as client:
        incidents = Incidents(client)
        with Alerts(client, [inbox, broken, incidents, Remedies([])]) as alerts:
            found = alerts.test()
        assert incidents.recent() == ()
    assert len(inbox.got) == 2
    assert [error is None for error in found.values()] == [True, False], "records and remedies take no tests"


def test_without_sinks_it_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with ResilientClient([ScriptedProvider(id="a", default=Status(401))]) as client:
        with caplog.at_level(logging.INFO, "resilient_llm.alerts"), Alerts(client, rules=QUICK):
            with pytest.raises((AllAttemptsFailed, ResilientError)):
                client.chat("hi", deadline=1)
    assert "alert firing: a rejects the credentials" in caplog.text


def test_runbooks_may_be_your_own() -> None:
    inbox = Inbox()
    for runbooks, expected in (
        ("https://wiki/llm", "https://wiki/llm#credentials_rejected"),
        ({"credentials_rejected": "https://wiki/keys"}, "https://wiki/keys"),
    ):
        with ResilientClient([ScriptedProvider(id="a", default=Status(401)), ScriptedProvider(id="b")]) as client:
            with Alerts(client, [inbox], rules=QUICK, runbooks=runbooks):
                client.chat("hi")
        assert inbox.got[-1].fired[0].runbook == expected


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"sinks": Inbox()}, "sinks must be a list"),
        ({"sinks": "https://x"}, "sinks must be a list"),
        ({"sinks": ["https://x"]}, "say Webhook"),
        ({"watch": [object()]}, "watch must hold objects with conditions"),
        ({"runbooks": {"provider_down": "x"}}, "runbooks names 'provider_down'; kinds are all_providers_down"),
        ({"runbooks": 5}, "runbooks must be a URL or a mapping"),
    ],
)
def test_mistakes_are_told_at_once_and_leave_nothing_behind(settings: dict[str, object], words: str) -> None:
    with ResilientClient([ScriptedProvider()]) as client:
        before = client.pool.observer
        with pytest.raises(ConfigurationError, match=words):
            Alerts(client, **settings)  # type: ignore[arg-type]
        assert client.pool.observer is before
