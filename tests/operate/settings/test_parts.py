"""The sections of the other parts of ``operate``, in one file, each put to work."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import resilient_llm
from resilient_llm.operate.background import background_of
from resilient_llm.operate.settings import SettingsError, attached, reload
from resilient_llm.testing import LoopbackLLM, Reply
from tests.drive.clients import eventually
from tests.operate.redis_server import RedisServer, needs_redis

FILE = """\
[providers.a]
kind = "openai"
model = "gpt-5.2"
api_key = "plain:k"
base_url = "{url}/v1"

[objectives.default]
availability = 0.99
within = 3

[anomalies]

[cost]
[[cost.budgets]]
amount = 5
period = "day"
when_spent = "warn"

[alerts]
incidents = "{folder}"
runbooks = "https://runbooks.example/llm"
[alerts.rules]
interval = 60
ignore = ["quota_exhausted"]
[[alerts.slack]]
url = "env:SLACK_URL"
least = "critical"
"""


@pytest.fixture
def server() -> Iterator[LoopbackLLM]:
    with LoopbackLLM(default=Reply("hello")) as running:
        yield running


@pytest.fixture
def text(server: LoopbackLLM, tmp_path: Path) -> str:
    return FILE.format(url=server.url, folder=tmp_path / "incidents")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "resilient.toml"


def test_one_file_sets_up_everything(text: str, file: Path) -> None:
    file.write_text(text)
    with resilient_llm.load(file) as client:
        made: Any = attached(client)
        assert list(made) == ["objectives", "anomalies", "cost", "alerts", "incidents"]
        client.chat("hi")
        client.health()
        assert {one.calls for one in made["objectives"].status()} == {1}
        assert ", 1 attempts" in repr(made["cost"])
        assert [one.sink for one in made["alerts"].deliveries()] == ["slack", "log", "incidents"]
        assert reload(client) == (), "nothing changed"
        assert attached(client)["alerts"] is made["alerts"]
        background_of(client.pool).close()


def test_what_is_known_outlives_the_process(text: str, file: Path, tmp_path: Path) -> None:
    text = f'{text.partition("[objectives")[0]}[state]\npath = "{tmp_path / "known.json"}"\n'
    file.write_text(text)
    with resilient_llm.load(file) as client:
        client.chat("hi")
        file.write_text(text.partition("[state]")[0])
        assert reload(client) == ("state",), "taken away: it is saved"
        background_of(client.pool).close()
    file.write_text(text)
    with resilient_llm.load(file) as client:
        assert client.health()["a"].samples == 1
        background_of(client.pool).close()


def test_a_section_that_changes_is_taken_away_and_made_anew(text: str, file: Path) -> None:
    file.write_text(text)
    with resilient_llm.load(file) as client:
        before = dict(attached(client))
        file.write_text(text.replace("0.99", "0.95").replace("[anomalies]", "[anomalies]\nenabled = false"))
        assert reload(client) == ("anomalies", "objectives")
        after: Any = attached(client)
        assert after["objectives"] is not before["objectives"]
        assert after["objectives"].status()[0].target == 0.95
        assert after["alerts"] is before["alerts"], "it watches whichever objectives there are"
        assert "anomalies" not in after
        file.write_text(text.partition("[objectives")[0])
        assert reload(client) == ("alerts", "anomalies", "cost", "objectives")
        assert not attached(client)
        assert client.pool.spending is None
        background_of(client.pool).close()


def test_a_section_that_fails_keeps_nothing_else_back(text: str, file: Path, caplog: pytest.LogCaptureFixture) -> None:
    file.write_text(text.partition("[objectives")[0])
    with resilient_llm.load(file) as client:
        file.write_text("deadline = 5\n" + text.replace("[cost]", '[cost]\nprices = "nowhere.toml"'))
        assert reload(client) == ("deadline", "alerts", "anomalies", "cost (failed)", "objectives")
        assert "nowhere.toml: No such file" in caplog.text
        assert client.pool.allowance == 5
        assert "cost" not in attached(client)
        file.write_text("deadline = 5\n" + text)
        assert reload(client) == ("cost",)
        background_of(client.pool).close()


def test_a_section_that_fails_at_a_reload_stays_as_it_was_and_is_tried_again(
    file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = "[providers.a]\nkind = 'openai'\nmodel = 'm'\napi_key = 'plain:k'\n[cost]\n[[cost.budgets]]\namount = 5\n"
    file.write_text(text)
    with resilient_llm.load(file) as client:
        wrong = text.replace("[cost]", "[cost]\nprices = 'prices.toml'")
        for _ in range(2):
            file.write_text(wrong)
            assert reload(client) == ("cost (failed, stays as it was)",)
        assert "prices.toml: No such file or directory; it stays as it was" in caplog.text
        found: Any = attached(client)["cost"]
        assert found.budgets()[0].budget.amount == 5, "money is still counted"
        assert client.pool.spending is found
        (tmp_path / "prices.toml").write_text("currency = 'USD'\n")
        background_of(client.pool).close()


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("[objectives.fast]\navailability = 0.9\n", "resilient.toml:7: objectives.fast: there is no route 'fast'"),
        ("[cost]\nprices = 'nowhere.toml'\n", "resilient.toml:7: cost: cost.prices: nowhere.toml: No such file"),
        ("[[cost.budgets]]\namount = 5\nroute = 'fast'\n", "resilient.toml:9: cost.budgets[0].route: there is no"),
        ("[news]\nstore = 'env:NOT_SET_ANYWHERE'\n", "resilient.toml:7: news: news.store: env:NOT_SET_ANYWHERE"),
        ("[objectives.default]\navailability = 99\n", "resilient.toml:8: objectives.default.availability: "),
        ("[[cost.budgets]]\nperiod = 'day'\n", "resilient.toml:7: cost.budgets[0]: needs amount, a number"),
        ("[[alerts.slack]]\nurl = 'https://hooks'\n", "resilient.toml:8: alerts.slack[0].url: holds a secret itself"),
        ("[[alerts.slack]]\nurl = 'env:X'\nleast = 'high'\n", "resilient.toml:9: alerts.slack[0].least: must be"),
        ("[[alerts.email]]\nhost = 'h'\nsender = 'a'\nto = 'x@y'\n", "resilient.toml:9: alerts.email[0].sender: "),
    ],
)
def test_mistakes_are_told_with_their_place(text: str, file: Path, section: str, said: str) -> None:
    file.write_text(text.partition("[objectives")[0] + section)
    with pytest.raises(SettingsError) as refused:
        resilient_llm.load(file)
    assert str(refused.value).removeprefix(f"{file.parent}/").startswith(said), str(refused.value)


@needs_redis
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes on this machine")
def test_a_secret_store_that_is_down_keeps_no_client_from_starting(
    file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pipe = tmp_path / "url"
    os.mkfifo(pipe)
    provider = "[providers.a]\nkind = 'openai'\nmodel = 'm'\napi_key = 'plain:k'\nrequests_per_minute = 60\n"
    file.write_text(f"{provider}[news]\nstore = 'file:{pipe}'\nexact_pace = true\nevery = 0.02\n")
    with RedisServer() as redis, resilient_llm.load(file) as client:
        parts: Any = attached(client)
        assert (parts["news"].status().connected, parts["pace"].status().connected) == (None, None)
        pipe.write_text(redis.url)
        eventually(lambda: parts["news"].status().connected and parts["pace"].status().connected)
        assert "does not answer" not in caplog.text
        background_of(client.pool).close()
