"""The parts of ``operate`` with each other: what one tells, another shows."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from resilient_llm import ConfigurationError, NoProviderAvailable, ResilientClient
from resilient_llm.model import ChatResponse, Text, Usage
from resilient_llm.operate.alerts import Alerts, Notification, Rules
from resilient_llm.operate.anomalies import Anomalies
from resilient_llm.operate.cache import cached
from resilient_llm.operate.cost import Budget, Price, Prices, track
from resilient_llm.operate.endpoints import Endpoints
from resilient_llm.operate.incidents import Incidents
from resilient_llm.operate.known import keep, load, save
from resilient_llm.operate.objectives import Objective, Objectives
from resilient_llm.testing import ScriptedProvider


def test_the_endpoints_show_objectives_and_anomalies() -> None:
    with ResilientClient({"smart": [ScriptedProvider(id="a")]}) as client:
        endpoints = Endpoints(client, objectives=Objectives(client, Objective(within=2.0)), anomalies=Anomalies(client))
        client.chat("hi")
        snapshot = json.loads(endpoints.answer("/snapshot").body)
        assert [one["objective"] for one in snapshot["objectives"]] == ["availability", "latency"]
        assert snapshot["objectives"][0]["calls"] == 1
        assert snapshot["anomalies"][0]["provider"] == "a"
        assert snapshot["anomalies"][0]["slow"] is False
        page = endpoints.answer("/").body.decode()
        assert "Objectives" in page
        assert "Against what is usual" in page


def test_a_spent_budget_is_an_alert_and_no_failure_of_the_service() -> None:
    told: list[Notification] = []
    answer = ChatResponse((Text("hi"),), "stop", usage=Usage(input_tokens=1000, output_tokens=1000))
    with ResilientClient([ScriptedProvider(id="a", default=answer)]) as client:
        prices = Prices({"a": Price(input=1.0, output=1.0)})
        costs = track(client, prices, budgets=[Budget(0.001, "day")])
        objectives = Objectives(client)
        with Alerts(client, [told.append], watch=[costs], rules=Rules(group_wait=0.0)) as alerts:
            client.chat("hi")
            with pytest.raises(NoProviderAvailable):
                client.chat("hi")
            alerts.look()
        assert [(one.calls, one.bad) for one in objectives.status()] == [(1, 0)]
    (alert,) = told[0].fired
    assert alert.title == "the budget of 0.001 per day is empty"
    assert alert.severity == "critical"
    assert "spent; it starts anew in" in alert.detail


def test_everything_at_once_on_one_background_thread() -> None:
    with ResilientClient([ScriptedProvider(id="a")]) as client:
        objectives, anomalies, incidents = Objectives(client), Anomalies(client), Incidents(client)
        costs = track(client, Prices({}))
        with Alerts(client, [incidents], watch=[objectives, anomalies, costs]):
            for _ in range(20):
                client.chat("hi")
        assert objectives.status()[0].calls == 20
        assert anomalies.status()[0].samples == 20
        assert incidents.recent() == ()
        for part in (objectives, anomalies, incidents):
            part.close()


@pytest.mark.parametrize(
    "part",
    [
        Alerts,
        Anomalies,
        Objectives,
        Endpoints,
        track,
        cached,
        lambda client: Incidents(client, "incidents"),
        lambda client: keep(client, "known.json"),
        lambda client: save(client, "known.json"),
        lambda client: load(client, "known.json"),
    ],
)
def test_every_part_says_that_it_needs_a_client(part: Callable[[object], object]) -> None:
    with pytest.raises(ConfigurationError, match=r"needs? a ResilientClient or (an )?AsyncResilientClient, not 7"):
        part(7)
