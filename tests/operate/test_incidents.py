"""Records of incidents: complete, readable, written off the path of calls, and never in their way."""

from __future__ import annotations

import errno
import logging
import os
import statistics
import time
from contextlib import suppress
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from resilient_llm import ConfigurationError, ResilientClient
from resilient_llm.errors import ResilientError
from resilient_llm.operate.alerts import Alert, Alerts, Notification, Rules
from resilient_llm.operate.background import background_of
from resilient_llm.operate.incidents import Bucket, Incident, Incidents, Moment, page, read_all
from resilient_llm.operate.incidents.record import MOST_MOMENTS
from resilient_llm.testing import ManualClock, ScriptedProvider, Status, instant
from tests.operate.servers import until

WALL = 1_800_000_000.0
QUICK = Rules(group_wait=0.0, clear_after=5.0)


def alert(subject: str = "a", *, kind: str = "provider_unhealthy", ended: float | None = None) -> Alert:
    return Alert(kind, subject, "warning", "down: <b>5</b> failures", WALL, ended, "https://runbooks/x")  # type: ignore[arg-type]


def an_incident() -> Incident:
    found = Incident("incident-x", "app", WALL, providers=("a", "b"))
    found.add(Moment(WALL - 20, "state", "a", "breaker closed -> softly open: it failed too often", "softly_open"))
    found.add(Moment(WALL - 5, "state", "a", "breaker softly open -> open: 5 failures in a row", "open"))
    found.fired(alert())
    found.add(Moment(WALL + 10, "state", "b", "not asked for 30 s: rate_limited", "gated", 30.0))
    found.add(Moment(WALL + 20, "operator", "b", "drain by hand"))
    found.add(Moment(WALL + 25, "action", "restart-vllm", "restarted"))
    for second in range(-60, 120, 10):
        found.count(Bucket(WALL + second, answered=9, failed=int(0 < second < 60), attempts=15))
    found.resolved(alert(ended=WALL + 90))
    found.ended_at = WALL + 90
    return found


# --- what it says ---


def test_the_text_is_the_draft_of_a_post_mortem() -> None:
    text = an_incident().text()
    assert text.startswith("Incident of app, 2027-01-15 08:00:00Z: a is unhealthy\n====")
    for line in (
        "Ended      2027-01-15 08:01:30Z (2 min)",
        "Providers  a, b",
        "5 of 113 calls failed (4.4%)",
        "- 2027-01-15 08:00:20Z  b: drain by hand",
        "- 2027-01-15 08:00:25Z  restart-vllm: restarted",
        "2027-01-15 07:59:40Z  a                    breaker closed -> softly open: it failed too often",
        "Root cause:",
    ):
        assert line in text, line


def test_effects_that_nobody_noticed_are_said_to_be_so() -> None:
    found = Incident("x", "app", WALL)
    assert found.effect() == "No call ended during it."
    found.count(Bucket(WALL, answered=10, attempts=14))
    assert found.effect() == "All 10 calls were answered (1.40 attempts a call): callers noticed nothing but the wait."


def test_json_survives_a_round_trip() -> None:
    found = an_incident()
    again = Incident.read(found.json())
    assert again.json() == found.json()
    assert again.text() == found.text()
    assert again.alerts == found.alerts


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 99}', '{"format": 1, "id": 3}', "nonsense"])
def test_what_is_no_incident_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="incident"):
        Incident.read(text)


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta", "rect", "path"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("rect", "path"):
            assert self.open.pop() == tag


def test_the_page_is_whole_escaped_and_loads_nothing() -> None:
    html = page(an_incident())
    parsed = Page()
    parsed.feed(html)
    parsed.close()
    assert parsed.open == []
    assert "<b>5</b> failures" not in html
    assert "&lt;b&gt;5&lt;/b&gt;" in html
    assert not [tag for tag, _ in parsed.seen if tag in ("script", "link", "img", "iframe")]
    kinds = {one.get("class") for tag, one in parsed.seen if tag == "rect"}
    assert {"state softly_open", "state open", "state gated", "answered", "failed", "alert", "lane"} <= kinds


def test_a_page_of_an_incident_of_days_has_a_readable_axis_and_one_of_nothing_is_a_page() -> None:
    long = an_incident()
    long.ended_at = WALL + 5 * 86400
    assert page(long).count("tick-label middle") <= 12
    assert "<svg" in page(Incident("x", "app", WALL))


def test_long_incidents_are_bounded() -> None:
    found = Incident("x", "app", WALL)
    for second in range(0, 86400 * 3, 10):
        found.count(Bucket(WALL + second, answered=1, attempts=1))
    assert len(found.buckets) <= 361
    assert sum(one.answered for one in found.buckets) == 86400 * 3 // 10
    for number in range(2 * MOST_MOMENTS):
        found.add(Moment(WALL + number, "state", "a", str(number)))
    assert len(found.timeline) == MOST_MOMENTS
    assert [one.text for one in found.timeline[:2]] == ["0", "1"]
    assert "(500 lines in the middle were left out)" in found.text()


# --- beside a client ---


def calls(client: ResilientClient, clock: ManualClock, alerts: Alerts, seconds: int) -> None:
    for _ in range(seconds):
        with suppress(ResilientError):
            client.chat("hi", deadline=5)
        clock.advance(1.0)
        alerts.look()


def test_an_outage_becomes_one_record_from_before_its_first_alert_to_the_end_of_its_last(tmp_path: Path) -> None:
    first = ScriptedProvider(id="first")
    with ResilientClient([first, ScriptedProvider(id="second")], name="the app") as client, instant(client) as clock:
        incidents = Incidents(client, tmp_path / "deep" / "incidents")
        with Alerts(client, [incidents], rules=QUICK) as alerts:
            calls(client, clock, alerts, 60)
            assert incidents.open is None
            first.default = Status(500)
            calls(client, clock, alerts, 60)
            found = incidents.open
            assert found is not None
            incidents.did("restart-first", "restarted")
            client.restore("first")
            first.default = "well again"
            calls(client, clock, alerts, 60)
            assert incidents.open is None
        (found,) = incidents.recent()
        incidents.close()
    assert found.ended_at is not None
    assert 40 < found.ended_at - found.began_at < 100
    assert found.providers == ("first",)
    texts = [one.text for one in found.ordered()]
    assert "breaker closed -> softly open: it failed too often" in texts
    assert texts.index("breaker closed -> softly open: it failed too often") < texts.index(
        next(text for text in texts if text.startswith("warning: first is unhealthy"))
    )
    assert "restore by hand" in texts
    assert "restarted" in texts
    assert texts[-1] == "resolved: first recovered"
    assert "calls were answered" in found.effect()
    assert sum(one.attempts for one in found.buckets) > sum(one.answered for one in found.buckets)
    (again,) = read_all(tmp_path / "deep" / "incidents")
    assert again.json() == found.json()
    assert sorted(path.suffix for path in (tmp_path / "deep" / "incidents").iterdir()) == [".html", ".json"]
    assert again.id.startswith("incident-2")
    assert "-the-app-" in again.id


def fired(*alerts: Alert) -> Notification:
    return Notification("app", WALL, alerts, (), alerts)


def over(*alerts: Alert) -> Notification:
    return Notification("app", WALL + 60, (), alerts, ())


def test_alerts_that_overlap_are_one_incident_and_those_that_do_not_are_two(tmp_path: Path) -> None:
    with ResilientClient([ScriptedProvider(id="a"), ScriptedProvider(id="b")]) as client:
        incidents = Incidents(client, tmp_path)
        one, two = alert("a"), alert("b")
        incidents.send(fired(one))
        incidents.send(Notification("app", WALL, (two,), (), (one, two)))
        incidents.send(Notification("app", WALL + 30, (), (alert("a", ended=WALL + 30),), (two,)))
        assert incidents.open is not None
        incidents.send(over(alert("b", ended=WALL + 60)))
        incidents.send(over(alert("b", ended=WALL + 60)))
        incidents.send(fired(replace(one, began_at=WALL + 1000)))
        found = incidents.recent()
        incidents.close()
    assert [len(each.alerts) for each in found] == [1, 2]
    assert found[1].ended_at == WALL + 60
    assert len(list(tmp_path.glob("*.json"))) == 2


def test_the_newest_files_stay(tmp_path: Path) -> None:
    (tmp_path / "notes.json").write_text("mine")
    with ResilientClient([ScriptedProvider()]) as client:
        incidents = Incidents(client, tmp_path, keep=3)
        for number in range(6):
            at = WALL + 1000 * number
            incidents.send(fired(replace(alert(), began_at=at)))
            incidents.send(over(replace(alert(), began_at=at, ended_at=at + 5)))
    assert len(list(tmp_path.glob("incident-*.json"))) == len(list(tmp_path.glob("incident-*.html"))) == 3
    assert (tmp_path / "notes.json").read_text() == "mine"
    assert [found.began_at for found in read_all(tmp_path)] == [WALL + 5000, WALL + 4000, WALL + 3000]


def full_disk(*_: object, **__: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_fails_and_slows_no_call_is_logged_once_and_made_good_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def median(client: ResilientClient) -> float:
        took: list[float] = []
        for number in range(200):
            if number % 10 == 0:
                client.isolate("b")
                client.restore("b")
            started = time.perf_counter()
            client.chat("hi")
            took.append(time.perf_counter() - started)
        return statistics.median(took)

    providers = [ScriptedProvider(id="a"), ScriptedProvider(id="b")]
    with ResilientClient(providers) as client:
        without = median(client)
        incidents = Incidents(client, tmp_path)
        work = background_of(client.pool)
        with monkeypatch.context() as patch, caplog.at_level(logging.ERROR):
            patch.setattr(Path, "write_text", full_disk)
            incidents.send(fired(alert()))
            for _ in range(60):
                work.submit(lambda: incidents.digest(at_once=True))
            assert median(client) - without < 0.001
            incidents.send(over(alert(ended=WALL + 60)))
            assert work.flush(10.0)
        assert caplog.text.count("could not be written") == 1
        assert "No space left on device" in caplog.text
        assert list(tmp_path.iterdir()) == []
        incidents.close()
        assert len(list(tmp_path.glob("*.json"))) == 1
        assert len(incidents.recent()) == 1


def test_a_directory_that_is_none_is_as_a_full_disk(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("x")
    with ResilientClient([ScriptedProvider()]) as client:
        incidents = Incidents(client, tmp_path / "file" / "below")
        incidents.send(fired(alert()))
        incidents.close()
    assert "could not be written" in caplog.text


def test_the_background_thread_keeps_the_file_up_to_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resilient_llm.operate.incidents.recorder._EVERY", 0.05)
    monkeypatch.setattr("resilient_llm.operate.incidents.recorder._REWRITE", 0.0)
    with ResilientClient([ScriptedProvider(id="a")]) as client:
        incidents = Incidents(client, tmp_path)
        incidents.send(fired(alert()))
        client.chat("hi")
        client.drain("a")

        def written() -> bool:
            return any(one.text == "drain by hand" for each in read_all(tmp_path) for one in each.timeline)

        until(written)
        incidents.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_worker_writes_down_its_own(tmp_path: Path) -> None:
    with ResilientClient([ScriptedProvider()]) as client:
        incidents = Incidents(client, tmp_path)
        incidents.send(fired(alert()))
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = 0 if incidents.open is None and not incidents.recent() else 2
                incidents.send(fired(alert()))
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        incidents.close()
    assert len(list(tmp_path.glob("*.json"))) == 2


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"keep": 0}, "keep must be"),
        ({"directory": 5}, "directory must be a path"),
        ({"least": "bad"}, "least must be"),
    ],
)
def test_mistakes_are_told_at_once(settings: dict[str, object], words: str) -> None:
    with ResilientClient([ScriptedProvider()]) as client, pytest.raises(ConfigurationError, match=words):
        Incidents(client, **settings)  # type: ignore[arg-type]
