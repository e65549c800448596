"""Chaos experiments: verdicts, early stops, reports, files."""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
import threading
import time
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_llm import AsyncResilientClient, ResilientClient, events
from resilient_llm.__main__ import main
from resilient_llm.chaos import Experiment, Hypothesis, Traffic
from resilient_llm.chaos.advice import advice
from resilient_llm.chaos.file import experiment
from resilient_llm.chaos.report import ChaosReport, word
from resilient_llm.chaos.timeline.figures import Totals, provider_totals, totals
from resilient_llm.chaos.timeline.story import Act, ActSeen, CallSeen, Story
from resilient_llm.errors import ConfigurationError
from resilient_llm.providers import OpenAICompatible
from resilient_llm.testing import (
    AsyncScriptedProvider,
    Cut,
    EndlessHeaders,
    Faults,
    Hang,
    Injection,
    Latency,
    LoopbackLLM,
    Reply,
    ScriptedProvider,
    SlowTokens,
    Status,
)

QUICK = Traffic(rate=100, streams=0.3, deadline=2)
HASTY = Traffic(rate=100, streams=0.3, deadline=0.1)
"""Callers who do not wait until a short outage is over."""


def pair(first: object = None) -> list[AsyncScriptedProvider]:
    default = Reply("hello") if first is None else first
    return [AsyncScriptedProvider(id="first", default=default), AsyncScriptedProvider(id="second")]  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def survived() -> ChaosReport:
    client = AsyncResilientClient(pair())
    faults = {"first": [(0.3, 0.6, Status(503), 0.8), (0.3, 0.6, Latency(0.01))]}
    return Experiment(client, ["success_rate >= 0.99", "p99 <= 1 during"], faults, 0.9, traffic=QUICK).run()


# --- hypotheses --------------------------------------------------------------------------------------------


def seen(*answered: float, failed: int = 0) -> Totals:
    calls = [CallSeen(0, False, 0.0, seconds, "answered", 1, "first") for seconds in answered]
    calls += [CallSeen(0, False, 0.0, 1.0, "failed", 2, error="AllAttemptsFailed")] * failed
    return totals(calls)


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("success_rate >= 0.5", True),
        ("success_rate > 0.5", False),
        ("p50<=1", True),
        ("p99 < 2", False),
        ("slowest <= 2 during", True),
        ("failed <= 1", False),
        ("attempts_per_call <= 1.5 before, after", True),
        ("first_token_p99 <= 1", None),
    ],
)
def test_a_hypothesis_is_judged_by_what_callers_noticed(text: str, held: bool | None) -> None:
    assert Hypothesis.parse(text).holds(seen(1.0, 2.0, failed=2)) is held


def test_phases_are_read_from_the_text() -> None:
    assert Hypothesis.parse("p99 <= 1 after,before").phases == ("before", "after")
    assert Hypothesis.parse("p99 <= 1").phases == ("before", "during", "after")


@given(st.text(max_size=40))
def test_any_other_text_is_refused_by_name(text: str) -> None:
    with contextlib.suppress(ConfigurationError):
        Hypothesis.parse(text)


@pytest.mark.parametrize(
    "text", ["", "p99", "p98 <= 1", "p99 = 1", "p99 <= x", "p99 <= 1 sometimes", "p99 <= 1e999", "p99 <= ."]
)
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        Hypothesis.parse(text)


@pytest.mark.parametrize(
    "change",
    [
        {"duration": 0},
        {"hypothesis": []},
        {"faults": {"first": [(5, 6, Hang())]}},
        {"traffic": {"rate": 0}},
        {"traffic": {"deadline": 0}},
        {"traffic": {"prompts": "hello"}},
        {"traffic": {"prompts": [1]}},
        {"traffic": {"streams": "x"}},
        {"abort_when": "nonsense"},
        {"abort_when": "success_rate < 0.5 during"},
        {"abort_when": 1},
        {"hypothesis": [1]},
        {"hypothesis": "success_rate >= 99"},
        {"faults": {"first": 3}},
        {"settle": -1},
        {"abort_window": -1},
        {"duration": "1"},
    ],
)
def test_an_experiment_that_makes_no_sense_is_refused_by_name(change: dict[str, object]) -> None:
    given_ = {"hypothesis": "p99 <= 1", "faults": {"first": [(0, 1, Hang())]}, "duration": 1.0} | change
    traffic = given_.pop("traffic", None)
    with pytest.raises(ConfigurationError) as refused:
        Experiment(AsyncResilientClient(pair()), traffic=Traffic(**traffic) if traffic else None, **given_)  # type: ignore[arg-type]
    name = "rate" if traffic == {"rate": 0} else next(iter(change))
    words = {
        "faults": ("fault",),
        "hypothesis": ("hypothesis", "success_rate"),
        "abort_when": ("abort_when", "reads like"),
    }
    assert any(word in str(refused.value) for word in words.get(name, (name,)))
    assert len(str(refused.value)) < 150


def test_traffic_is_no_number() -> None:
    with pytest.raises(ConfigurationError, match=r"Traffic\(rate=20\), not 20"):
        Experiment(AsyncResilientClient(pair()), "failed <= 0", {"first": Hang()}, 1, traffic=20)  # type: ignore[arg-type]


# --- running -----------------------------------------------------------------------------------------------


def test_a_hypothesis_that_survives_holds_in_every_phase(survived: ChaosReport) -> None:
    assert survived.held
    assert [(verdict.phase, verdict.held) for verdict in survived.verdicts] == [
        ("before", True), ("during", True), ("after", True), ("during", True),
    ]  # fmt: skip
    assert survived.injected["first"] > 0
    assert sum(phase.totals.calls for phase in survived.phases) == len(survived.story.calls) > 50
    assert survived.attempts_by_kind["failover"] > 0


def test_a_hypothesis_that_fails_is_told_with_a_reason() -> None:
    with ResilientClient([ScriptedProvider(id="only")]) as client:
        faults = {"only": [(0.2, 0.6, Status(503))]}
        report = Experiment(client, "success_rate >= 0.99", faults, 0.7, traffic=HASTY).run()
    assert not report.held
    assert [verdict.held for verdict in report.verdicts][:2] == [True, False]
    assert any("There is one provider" in advice for advice in report.recommendations)


def test_it_stops_early_and_withdraws_the_faults() -> None:
    client = AsyncResilientClient([AsyncScriptedProvider(id="only")])
    faults = {"only": [(0.2, 30, Status(503))]}
    running = Experiment(
        client, "success_rate >= 0.99", faults, 30, "success_rate < 0.5", traffic=QUICK, abort_window=0.2
    )
    report = running.run()
    assert report.aborted is not None
    assert report.aborted.startswith("success_rate < 0.5 (over the last 0.2 s")
    assert report.seconds < 5
    assert not report.held
    assert running.faults["only"].next() is None


def test_an_abort_condition_may_be_a_function() -> None:
    client = AsyncResilientClient(pair())
    report = Experiment(
        client, "wrong <= 0", {"first": [(0.1, 9, Hang())]}, 9, lambda recent: recent.calls > 5, traffic=QUICK
    ).run()
    assert report.aborted is not None
    assert report.aborted.startswith("the abort condition")


def test_nothing_is_injected_into_what_is_not_well_to_begin_with() -> None:
    client = AsyncResilientClient([AsyncScriptedProvider(id="only", default=Status(503))])
    running = Experiment(client, "success_rate >= 0.99", {"only": [(0.3, 9, Hang())]}, 9, traffic=QUICK)
    report = running.run()
    assert report.aborted is not None
    assert "steady state" in report.aborted
    assert report.injected == {"only": 0}


HANGS = {"only": [(0.2, 60, Hang())]}


@pytest.mark.parametrize("is_async", [True, False])
@pytest.mark.parametrize("duration", [30.0, 0.5])
def test_nobody_waits_for_a_hang_that_is_over(is_async: bool, duration: float) -> None:
    with LoopbackLLM() as server:
        target = OpenAICompatible("m", id="only", base_url=server.url)
        client = AsyncResilientClient([target]) if is_async else ResilientClient([target])
        plan = Traffic(rate=50, deadline=25)
        abort_when = "success_rate < 0.7" if duration > 1 else None
        running = Experiment(client, "failed <= 0", HANGS, duration, abort_when, traffic=plan, abort_window=0.4)
        began = time.monotonic()
        report = running.run()
        assert time.monotonic() - began < 10
    assert (report.aborted is None) is (duration < 1)
    if report.aborted is not None:
        assert "calls without an end count as failed" in report.aborted
    assert report.injected["only"] > 0
    assert any("would have taken longer than measured" in one for one in report.recommendations)


@pytest.mark.parametrize("is_async", [True, False])
def test_a_provider_of_the_users_own_does_not_hang_on_either(is_async: bool) -> None:
    client: ResilientClient | AsyncResilientClient = (
        AsyncResilientClient([AsyncScriptedProvider(id="only")])
        if is_async
        else ResilientClient([ScriptedProvider(id="only")])
    )
    began = time.monotonic()
    plan = Traffic(rate=50, deadline=25)
    Experiment(client, "failed <= 0", HANGS, 0.4, traffic=plan, abort_window=0.2).run()
    assert time.monotonic() - began < 10


def test_a_delay_ends_with_the_fault_and_the_true_answer_comes() -> None:
    with (
        LoopbackLLM(default=Reply("hello")) as server,
        ResilientClient([OpenAICompatible("m", id="only", base_url=server.url)]) as client,
    ):
        plan = Traffic(rate=50, deadline=25)
        report = Experiment(client, "failed <= 0", {"only": Latency(20)}, 0.3, traffic=plan, abort_window=0.2).run()
    assert report.held
    assert report.seconds < 10


def test_calls_of_the_last_moment_are_measured_to_their_true_end() -> None:
    client = AsyncResilientClient(pair(), advanced={"rescue_min": 0.5})
    plan = Traffic(rate=100, deadline=1.6, streams=1)
    report = Experiment(client, "slowest <= 0.4 during", {"first": [(0.5, 9, Hang())]}, 0.7, traffic=plan).run()
    assert not report.held  # the rescue comes after half a second, though the faults' end came before
    assert not any("than measured" in one for one in report.recommendations)


def test_seldom_calls_can_stop_it_too() -> None:
    client = AsyncResilientClient([AsyncScriptedProvider(id="only", default=Status(503))])
    running = Experiment(
        client, "failed >= 0", {"only": [(0, 9, Hang())]}, 9, "success_rate < 0.5", traffic=QUICK, abort_window=0.01
    )
    assert running.run().aborted is not None  # ten calls do not end within a hundredth of a second


def test_a_run_can_be_stopped_and_tells_what_it_saw() -> None:
    client = AsyncResilientClient(pair())
    running = Experiment(client, "failed <= 0", {"first": [(0.1, 30, Status(503))]}, 30, traffic=QUICK)
    timer = threading.Timer(0.5, running.stop, ["somebody had enough"])
    timer.start()
    report = running.run()
    timer.join()
    assert report.aborted == "somebody had enough"
    assert len(report.story.calls) > 10


@pytest.mark.parametrize("given_", [Status(503), Faults([(0.1, 0.3, Status(503))]), [Injection(0.1, 0.3, Status(503))]])
def test_faults_are_taken_in_every_form_that_can_be_injected(given_: Status | Faults | list[Injection]) -> None:
    client = AsyncResilientClient(pair())
    running = Experiment(client, "failed <= 0", {"first": given_}, 0.4, traffic=QUICK)
    assert running.run().injected["first"] > 0
    if isinstance(given_, Faults):
        client.restore("first")
        assert 0 < running.run().injected["first"] < len(given_.injected)
        assert given_.clock is time.monotonic


def explode(_: object) -> bool:
    raise LookupError("a mistake of the function")


@pytest.mark.parametrize("where", ["check", "abort_when"])
@pytest.mark.parametrize("is_async", [True, False])
def test_what_a_function_of_the_caller_raises_comes_out_as_it_is(where: str, is_async: bool) -> None:
    client: ResilientClient | AsyncResilientClient = (
        AsyncResilientClient(pair()) if is_async else ResilientClient([ScriptedProvider(id="first")])
    )
    plan = Traffic(rate=100, check=explode if where == "check" else None)
    running = Experiment(
        client, "failed <= 0", {"first": Latency(0)}, 30, explode if where == "abort_when" else None, traffic=plan
    )
    with pytest.raises(LookupError, match="a mistake of the function"):
        running.run()


def test_inside_an_event_loop_run_points_to_the_other_one() -> None:
    async def inside() -> None:
        Experiment(AsyncResilientClient(pair()), "failed <= 0", {"first": Hang()}, 1).run()

    with pytest.raises(RuntimeError, match="run_async"):
        anyio.run(inside)


@pytest.mark.parametrize("again", range(3))
def test_not_even_the_first_moment_is_struck_where_it_was_not_well(again: int) -> None:
    client = AsyncResilientClient(pair())
    report = Experiment(
        client, "p99 <= 0.000000001", {"first": [(0.05 + again / 30, 9, Hang())]}, 9, traffic=Traffic(rate=500)
    ).run()
    assert report.aborted is not None
    assert "steady state" in report.aborted
    assert report.injected == {"first": 0}
    assert not any(seen.act.faults for seen in report.story.acts)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_it_runs_inside_an_event_loop(backend: str) -> None:
    async def inside() -> ChaosReport:
        async with AsyncResilientClient(pair()) as client:
            return await Experiment(
                client, "failed <= 0", {"first": [(0.1, 0.2, Status(500))]}, 0.3, traffic=QUICK
            ).run_async()

    assert anyio.run(inside, backend=backend).held


def test_the_client_hears_and_does_as_before_afterwards(survived: ChaosReport) -> None:
    heard: list[object] = []
    client = AsyncResilientClient(pair(), listeners=[heard.append])
    Experiment(client, "failed <= 0", {"first": [(0.0, 0.1, Status(500))]}, 0.2, traffic=QUICK).run()
    assert heard
    assert client.pool.listeners == (heard.append,)


def test_wrong_answers_and_broken_streams_are_counted() -> None:
    plan = Traffic(rate=100, streams=1.0, deadline=2, check=lambda reply: "hello" in reply.text)
    client = AsyncResilientClient([AsyncScriptedProvider(id="only", default=Reply("hello world, says only"))])
    faults = {"only": [(0.1, 0.3, Reply("nonsense")), (0.3, 0.5, Cut(2))]}
    report = Experiment(client, "wrong <= 0 after", faults, 0.6, traffic=plan).run()
    during = next(phase.totals for phase in report.phases if phase.name == "during")
    assert during.wrong > 0
    assert during.interrupted > 0
    assert any("validate=" in advice for advice in report.recommendations)
    assert any("StreamInterrupted" in advice for advice in report.recommendations)


def test_a_fault_that_strikes_nobody_is_not_taken_for_a_proof() -> None:
    client = AsyncResilientClient(pair())
    report = Experiment(client, "failed <= 0", {"second": [(0.1, 0.2, Hang())]}, 0.3, traffic=QUICK).run()
    assert any("No attempt at second was struck" in advice for advice in report.recommendations)


def test_everybody_sick_is_told_apart() -> None:
    client = AsyncResilientClient(pair())
    faults = {name: [(0.1, 0.5, Status(503))] for name in ("first", "second")}
    report = Experiment(client, "success_rate >= 0.99 before", faults, 0.6, traffic=HASTY).run()
    assert any("every provider was struck" in advice for advice in report.recommendations)


def test_a_preferred_provider_that_is_passed_over_is_told_with_the_remedy() -> None:
    client = AsyncResilientClient(pair())
    report = Experiment(client, "failed <= 0", {"first": [(0.2, 0.5, Status(503))]}, 0.8, traffic=QUICK).run()
    (told,) = [one for one in report.recommendations if "answered nothing after the last fault" in one]
    assert "one trial at a time" in told
    assert "client.restore('first')" in told
    assert "behind" not in told


def test_stopped_before_the_first_fault_nothing_is_said_about_faults() -> None:
    client = AsyncResilientClient([AsyncScriptedProvider(id="only", default=Status(503))])
    report = Experiment(client, "success_rate >= 0.99", {"only": [(0.3, 9, Hang())]}, 9, traffic=QUICK).run()
    assert not any("was struck" in one for one in report.recommendations)
    assert any("before any fault was due" in one for one in report.recommendations)


def answered(number: int, began: float, seconds: float, provider: str = "first") -> CallSeen:
    return CallSeen(number, True, began, began + seconds, "answered", 1, provider)


def recommended(before: int, *happened: events.Event, attempts: int = 1) -> str:
    calls = [answered(number, 0.01 * number, 0.1) for number in range(before)]
    calls += [replace(answered(number, 2.0, 3.0, "second"), attempts=attempts) for number in range(30)]
    acts = [
        ActSeen(Act("a", "", "", "", 1, faults={"first": "hang"} if began else {}), began, ended=began + 2)
        for began in (0.0, 2.0)
    ]
    story = Story("", 1, ("first", "second"), calls=calls, events=list(happened), acts=acts)
    phases = {
        "before": totals([call for call in calls if call.began < 2]),
        "during": totals([call for call in calls if call.began >= 2]),
        "after": totals([]),
    }
    providers = [provider_totals(story, name) for name in story.providers]
    return "\n".join(advice(story, phases, providers, {"first": 30}, None))


def test_a_rescue_that_cannot_come_sooner_is_not_blamed_on_hedging() -> None:
    assert "timeouts.first_token" in recommended(10)
    assert "here it was 10" in recommended(10)
    assert "lower hedge.factor" in recommended(25)


def test_attempts_are_not_blamed_on_breakers_that_did_open() -> None:
    assert "faster than breakers open" in recommended(25, attempts=2)
    opened = events.BreakerChanged(2.5, "first", "closed", "open", "5 failures in a row")
    told = recommended(25, opened, events.AttemptStarted(2.1, "second", 1, 2, "hedge"), attempts=2)
    assert "faster than breakers open" not in told
    assert "the breaker of first opened (rescues of silent calls: 1," in told


# --- reports -----------------------------------------------------------------------------------------------


def test_the_text_says_it_all(survived: ChaosReport) -> None:
    text = survived.text()
    for needed in ("The hypothesis holds.", "before", "during", "after", "first", "second", "Recommendations"):
        assert needed in text


def test_the_json_is_for_machines(survived: ChaosReport) -> None:
    value = json.loads(survived.as_json())
    assert value["held"] is True
    assert [phase["name"] for phase in value["phases"]] == ["before", "during", "after"]
    assert value["phases"][1]["calls"]["success_rate"] == 1.0


def test_the_page_needs_nothing_else(survived: ChaosReport) -> None:
    page = survived.html()
    assert "http" not in page.replace("http://www.w3.org", "")
    assert "<script" not in page
    picture = page[page.index("<svg") : page.index("</svg>") + 6]
    assert len(list(ET.fromstring(picture).iter())) > 50
    assert "503" in picture


def test_a_title_cannot_break_the_page() -> None:
    client = AsyncResilientClient(pair())
    report = Experiment(client, "failed <= 0", {"first": [(0, 0.1, Hang())]}, 0.1, traffic=QUICK, title="<b>&").run()
    assert "<b>&" not in report.html()


def test_mishaps_have_short_names() -> None:
    mishaps = (Status(503), Latency(2), SlowTokens(1), Reply("x"), Hang(), Cut(2), EndlessHeaders())
    assert [word(one) for one in mishaps] == [
        "503", "+2 s", "slow tokens", "wrong answer", "hang", "cut", "endless headers",
    ]  # fmt: skip


# --- from a file -------------------------------------------------------------------------------------------

FILE = """
title = "The preferred provider fails"
duration = 0.8
hypothesis = ["success_rate >= 0.99", "p99 <= 2 during after"]
abort_when = "success_rate < 0.5"

[traffic]
rate = 50
prompts = ["a", "b"]
expect = "Hello"

[client.retry]
max_attempts = 2

[[providers]]
kind = "loopback"
id = "alpha"

[[providers]]
kind = "loopback"
id = "beta"

[[faults]]
provider = "alpha"
start = 0.2
end = 0.5
rate = 0.8
fault = "Status"
status = 503
"""


def test_a_file_is_run_and_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "alpha.toml"
    path.write_text(FILE)
    assert main(["chaos", str(path)]) == 0
    assert "The hypothesis holds." in capsys.readouterr().out
    assert {one.name for one in tmp_path.iterdir()} == {"alpha.toml", "alpha.txt", "alpha.json", "alpha.html"}


def test_a_failed_hypothesis_is_an_exit_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "alpha.toml"
    path.write_text(FILE.replace("success_rate >= 0.99", "attempts_per_call < 1"))
    assert main(["chaos", str(path), "--no-files", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["held"] is False
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("duration = 0.8", "duration = "),
        ("duration = 0.8", ""),
        ("duration = 0.8", "duration = 0.8\nspeed = 2"),
        ('kind = "loopback"', 'kind = "Nobody"'),
        ('kind = "loopback"', 'kind = "HttpProvider"'),
        ('id = "alpha"', 'id = "alpha"\ncolour = "red"'),
        ('fault = "Status"', 'fault = "Flood"'),
        ("status = 503", "status = 9"),
        ("status = 503", ""),
        ("status = 503", "status = 503\nmood = 1"),
        ("rate = 50", "rate = 50\nwave = 1"),
        ("max_attempts = 2", "max_tries = 2"),
        ("start = 0.2", ""),
        ('provider = "alpha"', 'provider = "gamma"'),
    ],
)
def test_a_mistake_in_a_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(FILE.replace(old, new, 1))
    assert main(["chaos", str(path)]) == 2
    assert len(capsys.readouterr().err) > 10


WRONG = ("3", "-1", "true", "nan", "inf", '"x"', '"3"', "[]", "[1]", '["x"]', "{}", "{ a = 1 }", "1979-05-27", "''")


@pytest.mark.parametrize("line", [*sorted({one for one in FILE.splitlines() if "=" in one}), "[client]", "[[faults]]"])
def test_whatever_value_stands_there_the_error_is_a_sentence(tmp_path: Path, line: str) -> None:
    path = tmp_path / "wrong.toml"
    more = (
        "listeners limits name deadline breaker retry tracer_provider settle seed abort_window providers traffic client"
    )
    keys = [line.partition(" =")[0]] if "=" in line else more.split()
    for key, value in itertools.product(keys, WRONG):
        wrong = f"{key} = {value}"
        path.write_text(FILE.replace(line, wrong, 1) if "=" in line else _at_top_or_in_client(key, wrong, line))
        refused = _refusal(path)
        assert refused is None or len(refused) > 10
        assert "object at 0x" not in str(refused)


def _refusal(path: Path) -> str | None:
    try:
        with experiment(path):
            return None
    except ConfigurationError as refused:
        return str(refused)


def _at_top_or_in_client(key: str, wrong: str, table: str) -> str:
    return FILE.replace("[client.retry]", f"[client]\n{wrong}\n[client.retry]") if "client" in table else wrong + FILE


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("duration = 0.8", 'duration = "1"', "duration is a number, not '1'"),
        ("duration = 0.8", "duration = 0", "duration is a number of seconds above 0, not 0"),
        ("duration = 0.8", "duration = 0.8\nsettle = -1", "settle is a number of seconds of at least 0, not -1"),
        ("rate = 50", 'rate = "50"', "traffic: rate is a number, not '50'"),
        ("rate = 0.8", 'rate = "80%"', "fault 1: rate is a number, not '80%'"),
        ('id = "alpha"', 'id = "alpha"\nfirst_token = "fast"', "provider 1: first_token is a number, not 'fast'"),
        ('id = "alpha"', 'id = "alpha"\nfirst_token = -1', "provider 1: first_token must be 0 or more, not -1"),
        ('id = "beta"', "id = 3", "provider 2: id is a text, not 3"),
        ("[[faults]]", "[faults]", "faults is a list of tables"),
        ("status = 503", 'status = "503"', "fault 1: Status: status is a whole number, not '503'"),
        ('provider = "alpha"', 'provider = "gamma"', "'gamma', and the providers are alpha, beta"),
        ("success_rate < 0.5", "success_rate < 0.5 during", "abort_when is looked at all the time"),
    ],
)
def test_a_wrong_value_is_named_with_its_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, named: str
) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(FILE.replace(old, new, 1))
    assert main(["chaos", str(path)]) == 2
    assert named in capsys.readouterr().err


@pytest.mark.parametrize(
    "fault",
    [
        'fault = "Raw"\nchunks = ["SSH-2.0"]\nthen = "close"',
        'fault = "InBandError"\nkind = "overloaded"\nafter = 1',
        'fault = "Malformed"\ndata = "{"',
        'fault = "Reply"\npieces = ["a", "b"]\nheaders = { a = "b" }',
        'fault = "Status"\nstatus = 400\nbody = { error = "no" }',
    ],
)
def test_every_mishap_can_be_written_in_a_file(tmp_path: Path, fault: str) -> None:
    path = tmp_path / "fault.toml"
    path.write_text(FILE.replace('fault = "Status"\nstatus = 503', fault))
    with experiment(path) as prepared:
        assert type(prepared.faults["alpha"].schedule[0].mishap).__name__ in fault


def test_a_report_that_cannot_be_written_is_known_before_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "alpha.toml"
    path.write_text(FILE)
    monkeypatch.setattr(Experiment, "run", lambda _: pytest.fail("it was run"))
    assert main(["chaos", str(path), "--output", str(tmp_path / "nowhere" / "x")]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_an_interrupted_experiment_tells_what_it_saw(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "alpha.toml"
    path.write_text(FILE.replace("duration = 0.8", "duration = 60"))
    before, go_on = signal.getsignal(signal.SIGINT), Experiment.run

    def interrupted(running: Experiment) -> ChaosReport:
        threading.Timer(0.3, signal.raise_signal, [signal.SIGINT]).start()
        return go_on(running)

    monkeypatch.setattr(Experiment, "run", interrupted)
    assert main(["chaos", str(path), "--no-files"]) == 130
    told = capsys.readouterr()
    assert "it was interrupted" in told.out
    assert "the faults are withdrawn" in told.err
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_interrupt_ends_it_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "alpha.toml"
    path.write_text(FILE)

    def interrupted(_: Experiment) -> None:
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Experiment, "run", interrupted)
    assert main(["chaos", str(path), "--no-files"]) == 130
    assert "there is no report" in capsys.readouterr().err


def test_a_missing_file_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chaos", "nowhere.toml"]) == 2
    assert "nowhere.toml" in capsys.readouterr().err


def test_providers_of_vendors_and_tiers(tmp_path: Path) -> None:
    path = tmp_path / "vendors.toml"
    vendors = FILE.replace('kind = "loopback"', 'kind = "OpenAI"\nmodel = "gpt-5.2"\napi_key = "k"\ntier = 1')
    path.write_text(vendors)
    with experiment(path) as prepared:
        assert len(prepared.client.explain()) == 2
