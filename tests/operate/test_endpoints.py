"""Health endpoints: what they say of a client, to machines, whichever way they are served."""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import anyio
import pytest

from resilient_llm import ConfigurationError, ResilientClient
from resilient_llm.decide.breaker import Cause
from resilient_llm.decide.keys import Refusal
from resilient_llm.errors import (
    AllAttemptsFailed,
    CallFailed,
    ClientClosed,
    DeadlineExceeded,
    Fault,
    FaultKind,
    InvalidRequest,
    NoProviderAvailable,
    ProviderError,
    RequestRejected,
    StreamInterrupted,
    UnsupportedFeature,
)
from resilient_llm.operate.endpoints import Endpoints, Response, http_status
from resilient_llm.operate.endpoints.statuses import RULES
from resilient_llm.operate.secrets import secret
from resilient_llm.providers import Function, OpenAI
from tests.operate.servers import until

KEY = "sk-canary-0123456789abcdef"


def answering(messages: object) -> str:
    return "yes"


@pytest.fixture
def client() -> Iterator[ResilientClient]:
    routes = {
        "smart": [Function(answering, id="one"), Function(answering, id="two")],
        "fast": [Function(answering, id="three")],
    }
    with ResilientClient(routes, name="shop <main>") as made:
        yield made


def told(response: Response) -> dict[str, object]:
    found: dict[str, object] = json.loads(response.body)
    return found


def test_a_process_that_answers_is_alive_whatever_its_providers_do(client: ResilientClient) -> None:
    for provider in ("one", "two", "three"):
        client.isolate(provider)
    assert Endpoints(client).answer("/livez").status == 200


def test_ready_means_that_a_provider_could_be_asked(client: ResilientClient) -> None:
    endpoints = Endpoints(client)
    assert endpoints.answer("/readyz").status == 200
    client.isolate("one")
    client.drain("two")
    assert told(endpoints.answer("/readyz")) == {"ready": True, "admissible": ["three"]}
    assert endpoints.answer("/readyz", query={"route": "smart"}).status == 503
    assert endpoints.answer("/readyz", query={"route": "fast"}).status == 200
    assert endpoints.answer("/readyz", query={"route": "slow"}).status == 404
    client.isolate("three")
    refused = endpoints.answer("/readyz")
    assert (refused.status, told(refused)) == (503, {"ready": False, "admissible": []})
    assert "retry-after" not in dict(refused.headers), "held open by hand: nobody knows until when"
    client.restore("two")
    assert endpoints.answer("/readyz").status == 200


def test_not_ready_says_when_the_first_gate_opens() -> None:
    def limited(messages: object) -> str:
        from resilient_llm.errors import ProviderError

        raise ProviderError("later", kind=FaultKind.RATE_LIMITED, status=429, retry_after=30.0)

    with ResilientClient([Function(limited, id="one")]) as client:
        with pytest.raises(NoProviderAvailable):
            client.chat("?", deadline=1)
        refused = Endpoints(client).answer("/readyz")
    assert refused.status == 503
    assert 30 <= int(dict(refused.headers)["retry-after"]) <= 39  # up to a quarter more, against herds


@pytest.mark.parametrize("kind", [FaultKind.SERVER_ERROR, FaultKind.OVERLOADED])
def test_a_process_whose_only_provider_answers_nothing_is_ready_again_when_a_trial_is_due(kind: FaultKind) -> None:
    late, failing = [0.0], [True]

    def answer(messages: object) -> str:
        if failing[0]:
            raise ProviderError("no", kind=kind, status=500)
        return "yes"

    with ResilientClient([Function(answer, id="x")]) as client:
        client.pool.clock = lambda: time.monotonic() + late[0]
        endpoints = Endpoints(client)
        while client.health()["x"].breaker == "closed":
            with pytest.raises(CallFailed):
                client.chat("?", when_down="fail", deadline=0.01)
        refused = endpoints.answer("/readyz")
        assert (refused.status, dict(refused.headers)["retry-after"]) == (503, "1")
        late[0] += 2.0
        assert endpoints.answer("/readyz").status == 200, "or no call would ever come to find out"
        with pytest.raises(CallFailed):
            client.chat("?", when_down="fail", deadline=0.01)
        assert endpoints.answer("/readyz").status == 503
        late[0] += 30.0
        failing[0] = False
        client.chat("?")
        assert endpoints.answer("/readyz").status == 200


def test_a_provider_that_became_slow_answers(client: ResilientClient) -> None:
    endpoints, now = Endpoints(client), client.pool.clock()
    client.pool.pool.look(lambda members: members["three"].breaker.suspected(Cause.SLOW, now, 0.0))
    assert client.health()["three"].breaker == "softly_open"
    assert endpoints.answer("/readyz", query={"route": "fast"}).status == 200
    client.restore("three")
    client.pool.pool.look(lambda members: members["three"].breaker.suspected(Cause.SILENT, now, 0.0))
    assert endpoints.answer("/readyz", query={"route": "fast"}).status == 503


def test_a_process_without_a_single_key_is_not_ready(tmp_path: Path) -> None:
    key = tmp_path / "key"
    with ResilientClient([OpenAI("model", id="one", api_key=secret(f"file:{key}"))]) as client:
        endpoints = Endpoints(client)
        until(lambda: b"No such file" in endpoints.answer("/snapshot").body)
        refused = endpoints.answer("/readyz")
        assert (refused.status, told(refused)) == (503, {"ready": False, "admissible": []})
    key.write_text("sk-it-is-there")
    with ResilientClient([OpenAI("model", id="one", api_key=secret(f"file:{key}"))]) as client:
        endpoints = Endpoints(client)
        until(lambda: endpoints.answer("/readyz").status == 200)  # asking begins the fetch


def test_a_provider_at_its_limit_is_busy_and_not_out(client: ResilientClient) -> None:
    endpoints = Endpoints(client)

    def look(messages: object) -> str:
        assert endpoints.answer("/readyz").status == 200
        (provider,) = told(endpoints.answer("/snapshot"))["routes"]["default"]  # type: ignore[index]
        assert provider["reason"] == Refusal.FULL.value
        return "yes"

    with ResilientClient([Function(look, id="one", max_concurrency=1)]) as busy:
        endpoints = Endpoints(busy)
        busy.chat("?")


def test_a_closed_client_is_alive_and_not_ready(client: ResilientClient) -> None:
    client.close()
    endpoints = Endpoints(client)
    assert [endpoints.answer(path).status for path in ("/livez", "/readyz", "/snapshot", "/")] == [200, 503, 200, 200]


class Objectives:
    def __init__(self, answer: object) -> None:
        self.told = answer

    def status(self) -> object:
        if isinstance(self.told, Exception):
            raise self.told
        return self.told


def test_the_snapshot_holds_everything_and_is_json(client: ResilientClient) -> None:
    client.chat("?")
    client.isolate("two")
    found = Endpoints(client, objectives=Objectives([{"route": "smart", "burn": float("inf")}])).answer("/snapshot")
    snapshot = told(found)
    assert dict(found.headers)["content-type"] == "application/json"
    assert snapshot["client"] == "shop <main>"
    assert snapshot["routes"]["smart"][1] == {  # type: ignore[index]
        "provider": "two",
        "model": "answering",
        "reason": "isolated by hand",
    }
    assert snapshot["providers"]["one"]["samples"] == 1  # type: ignore[index]
    assert snapshot["objectives"] == [{"route": "smart", "burn": None}]
    assert set(snapshot["budgets"]) == {"extra", "trial"}  # type: ignore[call-overload]


def test_the_librarys_own_objectives_are_shown(client: ResilientClient) -> None:
    from resilient_llm.operate.objectives import Objective, Objectives

    objectives = Objectives(client, Objective(availability=0.99))
    client.chat("?")
    endpoints = Endpoints(client, objectives=objectives)
    (smart, _) = told(endpoints.answer("/snapshot"))["objectives"]  # type: ignore[misc]
    assert (smart["route"], smart["objective"], smart["achieved"]) == ("smart", "availability", 1.0)
    assert "<td>availability</td>" in endpoints.answer("/").body.decode()


def test_objectives_that_fail_leave_the_rest(client: ResilientClient, caplog: pytest.LogCaptureFixture) -> None:
    endpoints = Endpoints(client, objectives=Objectives(RuntimeError("no")))
    assert told(endpoints.answer("/snapshot"))["objectives"] is None
    assert "could not tell" in caplog.text
    assert endpoints.answer("/").status == 200


def test_the_page_shows_who_is_passed_over_and_why_and_escapes_every_name(client: ResilientClient) -> None:
    client.isolate("two")
    objectives = Objectives({"smart": {"good_share": 0.999, "<b>": "x"}})
    page = Endpoints(client, objectives=objectives).answer("/").body.decode()
    assert "2 of 3 providers can be asked" in page
    assert "isolated by hand" in page
    assert '<p class="state">isolated<' in page
    assert "shop &lt;main&gt;" in page
    assert "&lt;b&gt;" in page
    assert "<main>" in page.replace("shop <main>", "")
    assert "shop <main>" not in page
    assert not re.search(r"(src|href)=\"(?!data:)", page), "nothing is loaded from anywhere"


def test_other_paths_and_methods_are_refused(client: ResilientClient) -> None:
    endpoints = Endpoints(client)
    assert endpoints.answer("/metrics").status == 404
    refused = endpoints.answer("/livez", method="POST")
    assert (refused.status, dict(refused.headers)["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/snapshot", "/", "/?part=main", "/nothing"])
def test_asgi_and_wsgi_say_the_same(client: ResilientClient, path: str) -> None:
    endpoints = Endpoints(client)
    for method in ("GET", "HEAD"):
        bare, _, query = path.partition("?")
        status, headers, body = over_asgi(endpoints, method, f"/llm{bare}", query, root="/llm")
        assert (status, headers, body) == over_asgi(endpoints, method, bare, query, root="")
        assert (status, headers, body) == over_wsgi(endpoints, method, bare, query)
        assert (body == b"") is (method == "HEAD")
        assert headers["cache-control"] == "no-store"


def over_asgi(
    endpoints: Endpoints, method: str, path: str, query: str, *, root: str
) -> tuple[int, dict[str, str], bytes]:
    sent: list[dict[str, object]] = []

    async def receive() -> dict[str, object]:
        raise AssertionError("nothing is read of a request")

    async def send(message: object) -> None:
        assert isinstance(message, dict)
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "root_path": root, "query_string": query.encode()}
    anyio.run(endpoints.asgi, scope, receive, send)
    start, body = sent
    headers = {name.decode(): value.decode() for name, value in start["headers"]}  # type: ignore[attr-defined]
    return start["status"], headers, body["body"]  # type: ignore[return-value]


def over_wsgi(endpoints: Endpoints, method: str, path: str, query: str) -> tuple[int, dict[str, str], bytes]:
    environ: dict[str, object] = {"REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": query, "SCRIPT_NAME": ""}
    setup_testing_defaults(environ)
    environ["wsgi.input"] = io.BytesIO()
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def start(status: str, headers: list[tuple[str, str]], exc_info: object = None) -> object:
        started.append((status, headers))
        return lambda data: None

    answer = validator(endpoints.wsgi)(environ, start)  # type: ignore[arg-type]
    try:
        body = b"".join(answer)
    finally:
        answer.close()  # type: ignore[attr-defined]
    ((status, headers),) = started
    return int(status[:3]), dict(headers), body


def test_the_snapshot_shows_no_key() -> None:
    from resilient_llm.providers import OpenAI

    with ResilientClient([OpenAI("gpt-5.2", api_key=KEY, headers={"x-extra": KEY})]) as client:
        endpoints = Endpoints(client)
        for path in ("/snapshot", "/", "/readyz"):
            assert KEY not in endpoints.answer(path).body.decode()


@pytest.mark.parametrize("wrong", [None, "client", object()])
def test_what_is_no_client_is_refused(wrong: object) -> None:
    with pytest.raises(ConfigurationError, match="ResilientClient"):
        Endpoints(wrong)  # type: ignore[arg-type]


def test_objectives_without_a_status_are_refused(client: ResilientClient) -> None:
    with pytest.raises(ConfigurationError, match="objectives must have a status"):
        Endpoints(client, objectives=3)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="anomalies must have a status"):
        Endpoints(client, anomalies=3)  # type: ignore[arg-type]


LIMITED = Fault(FaultKind.RATE_LIMITED, status=429, retry_after=2.2)
WRONG_KEY = Fault(FaultKind.AUTH, status=401)


@pytest.mark.parametrize(
    ("error", "status", "headers"),
    [
        (InvalidRequest("no"), 400, {}),
        (UnsupportedFeature("tools", "x"), 400, {}),
        (RequestRejected("no", fault=Fault(FaultKind.CONTEXT_LENGTH, status=400)), 400, {}),
        (RequestRejected("no", fault=Fault(FaultKind.PAYLOAD_TOO_LARGE, status=413)), 413, {}),
        (DeadlineExceeded("late", retry_after=3.0), 504, {}),
        (StreamInterrupted("broken"), 502, {}),
        (ClientClosed("closed"), 503, {"retry-after": "1"}),
        (NoProviderAvailable("none", retry_after=2.2, reasons={"a": Refusal.GATED.value}), 503, {"retry-after": "3"}),
        (NoProviderAvailable("none", reasons={"a": Refusal.DOWN.value}), 503, {}),
        (NoProviderAvailable("none", reasons={"a": "lacks vision", "b": Refusal.DOWN.value}), 503, {}),
        (NoProviderAvailable("none", reasons={"a": "lacks vision", "b": "about 9 tokens do not fit"}), 400, {}),
        (AllAttemptsFailed("all", retry_after=0.01, fault=LIMITED), 503, {"retry-after": "1"}),
        (AllAttemptsFailed("all", retry_after=float("inf"), fault=LIMITED), 503, {}),
        (AllAttemptsFailed("all", fault=WRONG_KEY), 502, {}),
        (AllAttemptsFailed("all", retry_after=60.0, fault=WRONG_KEY), 503, {"retry-after": "60"}),
        (ConfigurationError("no"), 500, {}),
        (ValueError("no"), 500, {}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_each_error_has_its_status(error: Exception, status: int, headers: dict[str, str]) -> None:
    assert http_status(error) == (status, headers)


def test_the_table_of_the_page_is_that_of_the_code() -> None:
    page = (Path(__file__).parents[2] / "docs" / "endpoints.md").read_text()
    for rule in RULES:
        assert f"| {rule.status} | `{rule.error.__name__}` | {rule.meaning} |" in page
