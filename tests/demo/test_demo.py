"""The demonstration: its arithmetic and its pictures with plain values, and one whole fast day in a process of its
own."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_llm import __main__ as command_line
from resilient_llm import events
from resilient_llm.chaos.timeline import drawing, figures, words
from resilient_llm.chaos.timeline.story import ActSeen, CallSeen, Ending, Story
from resilient_llm.demo import command, prose, report, screens, view
from resilient_llm.demo.acts import ACTS, CUT_LATE, OUTAGE
from resilient_llm.demo.page import page
from resilient_llm.demo.stage import NAMES
from resilient_llm.errors import AttemptRecord, Fault, FaultKind
from resilient_llm.faults import AttemptKind, AttemptOutcome
from resilient_llm.health import ProviderHealth

NOTICED = {CUT_LATE, OUTAGE}
SOURCE = Path(__file__).parents[2] / "src"
ACT = {act.key: act for act in ACTS}


# --- a small story told by hand ---------------------------------------------------------------------------


def call(
    number: int,
    began: float,
    seconds: float = 0.5,
    ending: Ending = "answered",
    *,
    provider: str = "alpha",
    attempts: int = 1,
    streamed: bool = True,
) -> CallSeen:
    first = seconds / 5 if streamed and ending == "answered" else None
    who = provider if ending == "answered" else ""
    return CallSeen(number, streamed, began, began + seconds, ending, attempts, who, first)


def attempt(
    at: float, provider: str, kind: AttemptKind = "initial", fault: FaultKind | None = None
) -> events.AttemptEnded:
    outcome: AttemptOutcome = "success" if fault is None else "error"
    told = None if fault is None else Fault(fault, status=429 if fault is FaultKind.RATE_LIMITED else None)
    return events.AttemptEnded(at, provider, 1, AttemptRecord(1, provider, "m", kind, outcome, told, None, 0.4))


def started(at: float, provider: str, kind: AttemptKind) -> events.AttemptStarted:
    return events.AttemptStarted(at, provider, 1, 1, kind)


def gate(at: float, wait: float, provider: str = "alpha") -> events.GateClosed:
    return events.GateClosed(at, provider, wait, "rate_limited", slow=False)


def breaker(at: float, old: str, new: str, reason: str = "5 failures in a row") -> events.BreakerChanged:
    return events.BreakerChanged(at, "alpha", old, new, reason, 3.2 if new == "open" else 0.0)


def small_story() -> Story:
    """Ten seconds: calm, streams cut late, an outage that is repaired at second 8."""
    return Story(
        pace="fast",
        seed=7,
        providers=("alpha", "beta"),
        wall=1_700_000_000.0,
        calls=[
            call(1, 1.0),
            call(2, 2.0, 1.5, provider="beta", attempts=2),
            call(3, 4.5, ending="interrupted"),
            call(4, 7.0, 0.1, "failed", attempts=3),
            call(5, 8.2, 0.3),
        ],
        events=[
            started(1.0, "alpha", "initial"),
            attempt(1.5, "alpha"),
            started(2.0, "alpha", "initial"),
            attempt(2.1, "alpha", fault=FaultKind.RATE_LIMITED),
            gate(2.1, 2.0),
            gate(2.2, 2.5),
            started(2.1, "beta", "failover"),
            attempt(3.5, "beta", "failover"),
            breaker(7.1, "closed", "open"),
            breaker(8.0, "open", "softly_open", "a trial was answered"),
            breaker(8.5, "softly_open", "closed", "enough trials were answered"),
        ],
        acts=[
            ActSeen(ACT["calm"], 0.0, ended=4.0),
            ActSeen(ACT[CUT_LATE], 4.0, 5.0, 6.0),
            ActSeen(ACT[OUTAGE], 6.0, 8.0, 10.0),
        ],
        began_calls=6,
        cuts=1,
        ended=10.0,
        complete=True,
    )


def standing(provider: str = "alpha", **changes: Any) -> ProviderHealth:
    values: dict[str, Any] = {
        "id": provider,
        "state": "healthy",
        "score": 0.9,
        "breaker": "closed",
        "breaker_reason": "",
        "retry_in": None,
        "gate_open_in": None,
        "gate_reason": "",
        "success_rate": 1.0,
        "error_rate": 0.0,
        "in_flight": 2,
        "waiting": 0,
        "limit": None,
        "samples": 30,
        "first_token_p50": 0.12,
        "first_token_p95": 0.2,
        "answer_p50": 0.4,
        "answer_p95": 0.6,
        "requests_left": None,
        "tokens_left": None,
        "drained": False,
    }
    return ProviderHealth(**{**values, **changes})


def picture() -> view.Frame:
    return view.frame(
        small_story(), 9.0, 3.0, {"alpha": standing(), "beta": standing("beta", breaker="open", retry_in=1.25)}
    )


# --- arithmetic --------------------------------------------------------------------------------------------


def test_quantiles_of_few_values_are_values_that_occurred() -> None:
    assert figures.quantile([], 0.5) is None
    assert figures.quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert figures.quantile([3.0, 1.0, 2.0], 0.99) == 3.0


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1))
def test_at_least_the_share_of_the_values_is_within_the_quantile(values: list[float], share: float) -> None:
    found = figures.quantile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9


def test_calls_are_counted_by_how_they_ended() -> None:
    counted = figures.totals(small_story().calls)
    assert (counted.calls, counted.answered, counted.interrupted, counted.failed, counted.wrong) == (5, 3, 1, 1, 0)
    assert counted.success_rate == 0.6
    assert counted.attempts_per_call == 8 / 5
    assert counted.slowest == 1.5
    assert counted.slowest_failure == pytest.approx(0.1)


def test_no_calls_make_no_division_by_zero() -> None:
    counted = figures.totals([])
    assert (counted.success_rate, counted.attempts_per_call, counted.answer_p50) == (1.0, 0.0, None)
    assert report.noticed(counted, figures.kinds([])) == "Nobody called."
    empty = Story("fast", 1, NAMES)
    assert report.report(empty).kept
    assert "0 calls" in prose.prose(report.report(empty))
    ET.fromstring(drawing.timeline(empty))


def test_a_gate_closed_again_before_it_opens_is_one_closure() -> None:
    assert figures.gate_times([gate(1.0, 2.0), gate(2.0, 0.5), gate(2.5, 1.5), gate(9.0, 1.0)]) == [
        (1.0, 4.0, "rate_limited"),
        (9.0, 10.0, "rate_limited"),
    ]


def test_a_provider_is_credited_with_its_attempts_openings_and_closed_gates() -> None:
    alpha = figures.provider_totals(small_story(), "alpha")
    assert alpha.answered == 2
    assert alpha.attempts == {"rate_limited": 1, "success": 1}
    assert (alpha.opened, alpha.gated) == (1, 1)
    assert alpha.gated_seconds == pytest.approx(2.6)


def test_an_act_owns_the_calls_that_began_in_it() -> None:
    calm, late, outage = report.report(small_story()).acts
    assert [act.totals.calls for act in (calm, late, outage)] == [2, 1, 2]
    assert calm.kinds["failover"] == 1
    assert calm.noticed.startswith("No caller failed: all 2 calls were answered")
    assert "1 stream interrupted, and said so" in late.noticed
    assert "1 of 2 calls were answered" in outage.noticed


def test_the_promises_hold_in_a_good_story() -> None:
    summary = report.report(small_story())
    assert [promise.kept for promise in summary.promises] == [True, True, True, True]
    assert summary.kept
    assert summary.unfinished == 1
    assert "first answer: 500 ms after the repair" in summary.promises[-1].text


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(call(9, 1.0, 0.2, "failed"), id="a failure outside the outage"),
        pytest.param(call(9, 7.0, 0.2, "wrong"), id="a short answer, even during the outage"),
        pytest.param(call(9, 1.0, 0.2, "interrupted"), id="an interruption nobody caused"),
    ],
)
def test_one_bad_call_breaks_a_promise(bad: CallSeen) -> None:
    story = small_story()
    story.calls.append(bad)
    story.cuts += 1
    summary = report.report(story)
    assert not summary.kept
    assert "NO " in prose.prose(summary)
    if bad.ending != "interrupted":
        assert summary.surprises[0].startswith(f"call 9 at {bad.began:.2f} s, {bad.ending} after 200 ms")


def test_an_interruption_more_than_streams_were_cut_breaks_a_promise() -> None:
    story = small_story()
    story.cuts = 0
    assert not report.report(story).kept


def test_a_call_that_reaches_into_the_outage_may_fail() -> None:
    story = small_story()
    story.calls += [call(8, 5.9, 0.3, "failed"), call(9, 9.9, 0.3, "failed")]
    assert report.report(story).kept


def test_never_coming_back_breaks_a_promise() -> None:
    story = small_story()
    story.calls = [one for one in story.calls if one.ended < 8.0]
    assert not report.report(story).kept


def test_the_report_is_json() -> None:
    told = json.loads(json.dumps(report.report(small_story()).as_json()))
    assert told["calls"]["success_rate"] == 0.6
    assert [act["key"] for act in told["acts"]] == ["calm", CUT_LATE, OUTAGE]


def test_the_report_in_words_names_every_provider_and_promise() -> None:
    summary = report.report(small_story())
    text = prose.prose(summary)
    for provider in summary.providers:
        assert provider.id in text
    for promise in summary.promises:
        assert promise.text in text
    assert "Everything that was promised was kept" in text


# --- words -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "sentence"),
    [
        (breaker(1.0, "closed", "open"), "breaker open: 5 failures in a row; next trial in 3.2 s"),
        (
            breaker(1.0, "closed", "softly_open", "it failed too often"),
            "breaker softly open: it failed too often; next trial in 0.0 s",
        ),
        (
            breaker(1.0, "softly_open", "closed", "enough trials were answered"),
            "breaker closed: enough trials were answered",
        ),
        (breaker(1.0, "closed", "isolated", "isolated by hand"), "breaker isolated: isolated by hand"),
        (gate(1.0, 2.04), "asked us to wait 2.0 s (rate_limited); gate closed, health untouched"),
        (events.NotTaken(1.0, "alpha", "retry", "budget"), "no retry: its budget is used up"),
        (events.OperatorChanged(1.0, "alpha", "drain"), "drain by hand"),
        (started(1.0, "beta", "hedge"), "rescues call 1 from a provider that is silent"),
        (started(1.0, "beta", "initial"), None),
        (attempt(1.0, "beta"), None),
    ],
)
def test_events_are_told_in_words(event: events.Event, sentence: str | None) -> None:
    assert words.sentence(event) == sentence


def test_echoes_are_not_told_but_changes_of_state_are() -> None:
    told = words.told(
        [gate(1.0, 1.0), gate(1.1, 1.0), breaker(1.1, "closed", "open"), breaker(1.2, "open", "softly_open")]
    )
    assert [text.split()[0] for _, _, text in told] == ["asked", "breaker", "breaker"]


# --- the live view -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, "closed"),
        ({"state": "degraded"}, "closed, degraded"),
        ({"state": "unknown"}, "closed, not asked yet"),
        ({"breaker": "open", "retry_in": 3.2}, "open, 3.2 s left"),
        ({"breaker": "open", "retry_in": 0.0}, "open, trial due"),
        ({"breaker": "softly_open"}, "softly open"),
        ({"breaker": "isolated"}, "isolated by hand"),
        ({"gate_open_in": 2.1}, "gated, 2.1 s left"),
        ({"drained": True}, "drained"),
    ],
)
def test_a_provider_s_state_in_words(changes: dict[str, Any], state: str) -> None:
    assert view.state_of(standing(**changes))[0] == state


def test_the_view_says_who_answers_and_what_callers_notice() -> None:
    shown = picture()
    alpha, beta = shown.rows
    assert (alpha.share, beta.share) == (1.0, 0.0)
    assert alpha.rate == pytest.approx(1 / 3)
    assert shown.noticed.startswith("1 failed; answers in 300 ms")
    assert shown.overall.startswith("5 calls, 60.0 % answered")
    assert shown.events[-1][2].startswith("breaker closed")


def test_a_rate_that_is_not_perfect_is_never_shown_as_perfect() -> None:
    assert (figures.percent(1.0), figures.percent(0.99999), figures.percent(0.0)) == ("100 %", "99.9 %", "0.0 %")


@given(st.floats(-1, 2), st.integers(1, 40))
def test_a_bar_has_its_width(score: float, width: int) -> None:
    assert len(view.bar(score, width)) == width


@pytest.mark.parametrize("width", [20, 60, 120])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    first = view.frame(Story("fast", 1, NAMES), 0.0, 3.0, {})
    for shown in (picture(), first):
        assert max(len(line) for line in view.lines(shown, width, colour=False)) <= width


def test_colour_changes_nothing_but_colour() -> None:
    plain, coloured = (view.lines(picture(), 100, colour=colour) for colour in (False, True))
    assert [re.sub(r"\x1b\[\d+m", "", line) for line in coloured] == plain
    assert plain != coloured


def test_a_pipe_gets_plain_lines() -> None:
    out, story = io.StringIO(), small_story()
    screen = screens.screen_for(out, silent=False)
    assert isinstance(screen, screens.PlainLines)
    screen.act_begins(story, story.acts[-1])
    screen.act_ends(story, story.acts[-1], "Nobody called.")
    screen.show(picture())
    screen.close()
    assert ACT[OUTAGE].doing in out.getvalue()
    assert "\x1b" not in out.getvalue()


def test_silence_writes_nothing() -> None:
    out = io.StringIO()
    assert isinstance(screens.screen_for(out, silent=True), screens.Silence)
    assert out.getvalue() == ""


def test_the_fallback_draws_over_its_last_picture_and_gives_the_cursor_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "50")
    out, story = io.StringIO(), small_story()
    screen = screens.AnsiTerminal(out)
    screen.show(picture())
    height = out.getvalue().count("\n")
    screen.show(picture())
    assert f"\x1b[{height}F" in out.getvalue()
    screen.act_ends(story, story.acts[-1], "Nobody called.")
    screen.close()
    assert out.getvalue().endswith("\x1b[?25h")


def test_rich_draws_the_same_picture() -> None:
    pytest.importorskip("rich")
    from rich.console import Console

    from resilient_llm.demo.rich_screen import RichTerminal, renderable

    console = Console(file=io.StringIO(), width=110, force_terminal=False)
    console.print(renderable(picture(), 100))
    drawn = console.file.getvalue()  # type: ignore[attr-defined]
    for text in ("alpha", "open, 1.2 s left", "5 calls, 60.0 % answered", "breaker closed: enough trials"):
        assert text in drawn
    screen, story = RichTerminal(console), small_story()
    screen.show(picture())
    screen.act_ends(story, story.acts[-1], "[nothing] to escape")
    screen.close()
    assert "[nothing] to escape" in console.file.getvalue()  # type: ignore[attr-defined]


# --- the timeline ------------------------------------------------------------------------------------------


def test_states_cover_the_whole_day_without_gaps() -> None:
    story = small_story()
    spans = drawing.states([event for event in story.events if event.provider == "alpha"], story.ended)
    breakers = [span for span in spans if span.kind != "gated"]
    assert [(span.kind, span.begin, span.end) for span in breakers] == [
        ("closed", 0.0, 7.1),
        ("open", 7.1, 8.0),
        ("softly_open", 8.0, 8.5),
        ("closed", 8.5, 10.0),
    ]
    assert [(span.begin, span.end) for span in spans if span.kind == "gated"] == [(2.1, pytest.approx(4.7))]


def test_what_was_done_to_a_provider_ends_with_the_repair() -> None:
    assert drawing.faults(small_story(), "beta")[-1] == drawing.Span(6.0, 8.0, "fault", "refused")


def test_the_picture_is_well_formed_and_has_a_dot_for_every_attempt_and_call() -> None:
    story = small_story()
    root = ET.fromstring(drawing.timeline(story))
    dots = [element for element in root.iter() if element.tag.endswith("circle")]
    ended = [event for event in story.events if isinstance(event, events.AttemptEnded)]
    assert len(dots) == len(ended) + len(story.calls)
    assert all(dot[0].tag.endswith("title") and dot[0].text for dot in dots)


@given(st.floats(-5, 1e4), st.floats(0.001, 1e4))
def test_no_time_lies_outside_the_picture(at: float, seconds: float) -> None:
    assert 0 <= drawing.Scale(seconds).x(at) <= drawing.WIDTH


@given(st.floats(0, 1e5))
def test_no_latency_lies_outside_its_chart(seconds: float) -> None:
    assert 100 <= drawing.latency_y(seconds, 100, 200) <= 200


def test_answers_are_counted_into_bins() -> None:
    counted = drawing.answers(small_story().calls, "alpha", 10, 1.0)
    assert sum(counted) == pytest.approx(2.0)
    assert counted[1] > 0


def test_the_page_needs_nothing_from_anywhere() -> None:
    story = small_story()
    text = page(story, report.report(story))
    assert "Every promise was kept" in text
    assert not re.search(r"(?:src|href|url|@import|<script)\s*[=(]?", text)
    assert "prefers-color-scheme: dark" in text


def test_the_page_escapes_what_providers_say() -> None:
    story = small_story()
    story.calls.append(CallSeen(9, True, 7.0, 7.1, "failed", 1, error="X", message="<script>alert(1)</script>"))
    assert "<script>" not in page(story, report.report(story))


# --- the command line --------------------------------------------------------------------------------------


def test_without_a_command_it_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main([]) == 0
    told = capsys.readouterr().out
    for name, entry in command_line.COMMANDS.items():
        assert name in told
        assert entry.summary in told


def test_an_unknown_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        command_line.main(["dance"])
    assert stop.value.code == 2
    assert "dance" in capsys.readouterr().err


def test_a_timeline_that_cannot_be_written_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.write(tmp_path / "missing" / "page.html", "x") is None
    assert "could not be written" in capsys.readouterr().err


def fast_day(output: Path) -> subprocess.CompletedProcess[str]:
    options = ["demo", "--fast", "--json", "--output", str(output)]
    # A proxy that leads nowhere: the demonstration must not look for its servers there.
    surroundings = {**os.environ, "PYTHONPATH": str(SOURCE), "HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": ""}
    return subprocess.run(
        [sys.executable, "-m", "resilient_llm", *options],
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
        env=surroundings,
    )


@pytest.mark.slow
def test_a_fast_day_keeps_its_promises(tmp_path: Path) -> None:
    output = tmp_path / "day.html"
    done = fast_day(output)
    if done.returncode == 1 and done.stdout and json.loads(done.stdout)["lag"] > report.BUSY:
        done = fast_day(output)  # this machine was too busy to play it in time
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["kept"]
    assert told["complete"]
    calls = told["calls"]
    assert calls["unfinished"] == calls["wrong"] == 0
    assert calls["calls"] == calls["answered"] + calls["interrupted"] + calls["failed"]
    assert 1.0 <= calls["attempts_per_call"] < 1.6
    acts = {act["key"]: act for act in told["acts"]}
    assert list(acts) == [act.key for act in ACTS]
    # A call belongs to the act in which it began; one that began just before an act may meet what that does.
    untroubled = [acts[act.key] for act, following in pairwise(ACTS) if not {act.key, following.key} & NOTICED]
    assert len(untroubled) == 6
    assert all(act["totals"]["failed"] == act["totals"]["interrupted"] == 0 for act in untroubled)
    assert acts[CUT_LATE]["totals"]["interrupted"] >= 1
    assert acts[OUTAGE]["totals"]["calls"] == acts[OUTAGE]["totals"]["answered"], (
        "who waits is answered after the repair"
    )
    providers = {provider["id"]: provider for provider in told["providers"]}
    assert providers["alpha"]["attempts"]["rate_limited"] >= 1
    assert providers["alpha"]["gated"] >= 1
    assert providers["beta"]["attempts"]["connection"] >= 1
    assert output.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert told["timeline"] == str(output)
