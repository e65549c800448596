"""What would these settings have done: incidents, schedules, a year, traces, and the page."""

from __future__ import annotations

import gzip
import json
import math
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from resilient_llm.errors import ConfigurationError
from resilient_llm.operate.cost import Prices, sample_prices
from resilient_llm.simulate.__main__ import main
from resilient_llm.simulate.providers import KINDS
from resilient_llm.simulate.schedules import SCHEDULES
from resilient_llm.simulate.whatif import INCIDENTS, what_if
from resilient_llm.simulate.whatif.cases import Callers, incident_case, read_trace, schedule_case, year_case
from resilient_llm.simulate.whatif.figures import Tally
from resilient_llm.simulate.whatif.report import headline, percent, span
from resilient_llm.simulate.whatif.run import Answer, answer
from resilient_llm.simulate.whatif.setup import Setup, read_setup, setup_of
from resilient_llm.simulate.whatif.weather import YEAR, year

SHORT = INCIDENTS["2026-04-15"]
"""Half an hour at Anthropic."""
TWO = {"deadline": 30, "providers": ["anthropic/claude-sonnet-5", "gemini/gemini-3.1-pro"]}
FILE = """
deadline = 30
providers = ["anthropic/claude-sonnet-5", "gemini/gemini-3.1-pro"]

[retry]
max_attempts = 4
"""


def settings(**changes: object) -> Setup:
    return setup_of({**TWO, **changes}, "settings")


def lived(setup: Setup, *others: Setup, rate: float = 0.3) -> Answer:
    case = incident_case(SHORT, [setup, *others], Callers(rate))
    return answer(case, [setup, *others], sample_prices(), 1)


# --- incidents ---


def test_every_incident_has_a_source_and_is_of_known_kinds() -> None:
    for name, incident in INCIDENTS.items():
        assert incident.began.date().isoformat() == name
        assert incident.source.startswith("https://")
        assert incident.shares in ("published", "assumed")
        assert all(phase.kind in KINDS and 0 < phase.share <= 1 for phase in incident.phases)
        assert all(0 <= phase.start < phase.end for phase in incident.phases)


def test_the_outage_of_december_2024_lasted_four_hours_and_22_minutes() -> None:
    incident = INCIDENTS["2024-12-11"]
    assert span(incident.seconds) == "4 h 22 min"
    assert incident.ended.isoformat() == "2024-12-12T03:38:00+00:00"


def test_settings_with_a_second_vendor_answer_what_one_alone_loses() -> None:
    found = lived(settings())
    alone = found.of("alone")
    assert alone is not None
    assert found.mine.during.availability == 1.0
    assert 0.7 < alone.during.availability < 0.95  # half of the calls fail, three attempts each
    assert found.mine.during.calls == alone.during.calls  # the same callers at the same times
    assert headline(found).startswith("2026-04-15 Claude API errors, 30 min: 100 % answered (anthropic/claude-sonnet-5")


def test_a_vendor_that_no_incident_names_stays_well() -> None:
    found = lived(settings(providers=["mistral/mistral-large-latest"]))
    assert not found.case.touched
    assert found.mine.during.availability == 1.0


def test_policies_of_the_settings_are_those_that_run() -> None:
    once = {"max_attempts": 1, "max_attempts_per_provider": 1}
    hasty = lived(settings(providers=["anthropic/claude-sonnet-5"], retry=once))
    usual = lived(settings(providers=["anthropic/claude-sonnet-5"]))
    assert hasty.mine.during.availability < 0.7 < usual.mine.during.availability


def test_the_same_seed_gives_the_same_figures() -> None:
    assert lived(settings()).mine.during == lived(settings()).mine.during


def test_books_agree_with_the_calls() -> None:
    found = lived(settings())
    for one in found.figures:
        answered = sum(share.answered for share in one.during.shares.values())
        assert answered == one.during.answered
        assert 0.0 <= one.during.wasted <= one.during.cost
    alone = found.of("alone")
    assert alone is not None
    assert alone.during.wasted == 0.0  # errors before any content are not billed


def test_a_model_without_a_price_is_named() -> None:
    case = incident_case(SHORT, [settings()], Callers(0.1))
    found = answer(case, [settings()], Prices({"claude-sonnet": {"input": 1, "output": 1}}), 1)
    assert found.unpriced == ("gemini/gemini-3.1-pro",)


def test_two_settings_are_set_side_by_side() -> None:
    found = lived(settings(), setup_of({"providers": ["anthropic/claude-sonnet-5"]}, "other.toml"))
    other = found.of("other settings")
    assert other is not None
    assert other.name == "other.toml"
    assert other.during.lost > found.mine.during.lost


# --- schedules, years, traces ---


def test_a_schedule_is_done_to_the_providers_in_their_order() -> None:
    case = schedule_case(SCHEDULES["hang"], [settings()], None)
    assert [trouble.kind for trouble in case.troubles["anthropic/claude-sonnet-5"]] == ["hang"]
    assert not case.troubles["gemini/gemini-3.1-pro"]
    assert case.load.rate == SCHEDULES["hang"].rate


def test_a_year_is_the_same_for_all_providers_of_a_vendor_and_none_for_ones_own_servers() -> None:
    assert year("openai", 1) == year("openai", 1) != year("openai", 2)
    assert not year("ollama", 1)
    assert 60 < len(year("openai", 1)) < 120
    assert all(0 <= trouble.start < trouble.end <= YEAR for trouble in year("mistral", 3))


def test_a_year_is_simulated_where_something_is_wrong_and_the_rest_counts_by_its_length() -> None:
    case = year_case([settings()], Callers(0.005), 1)
    found = answer(case, [settings()], sample_prices(), 1)
    calls = found.mine.whole.calls
    assert calls == pytest.approx(0.005 * YEAR, rel=0.1)
    assert found.mine.whole.availability > 0.999


def test_a_trace_is_repeated_for_as_long_as_something_happens(tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    file.write_text("seconds,prompt_tokens,output_tokens\n100,500,20\n101,10,1\n103,10,\n")
    trace = read_trace(file)
    assert trace == ((0.0, 500, 20), (1.0, 10, 1), (3.0, 10, 130))
    load = Callers(trace=trace).load(10.0, 30.0)
    assert [at for at, _, _ in load.trace or ()] == [0.0, 1.0, 3.0, 4.5, 5.5, 7.5, 9.0]


def test_a_trace_may_tell_the_time_and_be_compressed(tmp_path: Path) -> None:
    file = tmp_path / "trace.csv.gz"
    file.write_bytes(gzip.compress(b"time\n2026-01-01T00:00:05Z\n2026-01-01T00:00:00+00:00\n"))
    assert [at for at, _, _ in read_trace(file)] == [0.0, 5.0]


def test_a_trace_saved_by_a_spreadsheet_is_read(tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    file.write_bytes("\ufeffseconds\r\n3\r\n1\r\n".encode())
    assert [at for at, _, _ in read_trace(file)] == [0.0, 2.0]


@pytest.mark.parametrize("option", ["--traffic", "--html"])
def test_a_file_that_cannot_be_read_or_written_is_told_by_name(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "resilient.toml"
    file.write_text('providers = ["openai/a"]')
    nowhere = str(tmp_path / "nowhere" / "x")
    assert main([str(file), "--incident", SHORT.name, option, nowhere]) == 2
    assert capsys.readouterr().err == f"{nowhere}: no such file or directory\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("when\n1\n", "needs a column seconds or time; its columns: when"),
        ("", "needs a column seconds or time; its columns: none"),
        ("seconds\n", "has no calls"),
        ("seconds\n1\nlater\n", "line 3: 'later' is no value for seconds"),
        ("seconds\nnan\n", "line 2"),
        ("seconds,prompt_tokens\n1,many\n", "line 2: 'many' is no value for prompt_tokens"),
        ("time\nyesterday\n", "line 2"),
    ],
)
def test_what_is_no_trace_is_refused_by_line(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "trace.csv"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=told):
        read_trace(file)


def test_it_is_asked_in_code_too() -> None:
    found = what_if(TWO, SHORT.name, Callers(0.1))
    assert found.mine.during.availability == 1.0
    with pytest.raises(ConfigurationError, match="there is no incident 'x'"):
        what_if(TWO, "x")


# --- settings ---


def test_no_key_is_needed_and_no_secret_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    file = tmp_path / "resilient.toml"
    file.write_text(FILE)
    found = read_setup(file)
    assert [one.id for one in found.providers] == ["anthropic/claude-sonnet-5", "gemini/gemini-3.1-pro"]
    assert found.policies.retry.max_attempts == 4
    assert found.deadline == 30.0


def test_tiers_and_routes_are_those_of_the_settings() -> None:
    told = {"routes": {"a": ["openai/x"], "b": [["openai/y", {"kind": "anthropic", "model": "z", "weight": 2.0}]]}}
    assert [[one.id for one in tier] for tier in setup_of(told, "s").tiers] == [["openai/x"]]
    [[first, second]] = setup_of(told, "s", "b").tiers
    assert (first.id, second.id, second.weight) == ("openai/y", "anthropic/z", 2.0)


def test_the_file_of_the_example_is_read_as_load_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("APP_ENV", raising=False)
    example = Path(__file__).parents[2] / "examples" / "resilient.toml"
    found = read_setup(example)
    assert [[one.id for one in tier] for tier in found.tiers] == [["main", "eu"], ["claude"]]
    assert [one.id for one in read_setup(example, "fast").providers] == ["small", "main"]
    with pytest.raises(ConfigurationError, match="there is no route 'slow'; there are smart, fast"):
        read_setup(example, "slow")


# --- the command ---


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "resilient.toml"
    path.write_text(FILE)
    return path


def test_the_first_line_says_it_at_a_glance(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(file), "--incident", SHORT.name, "--rate", "0.3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(
        r"2026-04-15 Claude API errors, 30 min: 100 % answered \(anthropic/claude-sonnet-5 alone: \d\d\.\d %\)",
        lines[0],
    )
    assert any(line.startswith(f"Source: {SHORT.source}") for line in lines)
    assert any("the oracle" in line for line in lines)


def test_machines_get_json(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(file), "--incident", SHORT.name, "--rate", "0.1", "--json"]) == 0
    [told] = json.loads(capsys.readouterr().out)["answers"]
    assert [one["who"] for one in told["strategies"]] == ["settings", "alone", "best", "oracle"]
    assert told["strategies"][0]["during"]["availability"] == 1.0


def test_the_settings_in_the_folder_are_asked_about_by_default(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(file.parent)
    (file.parent / "arrivals.csv").write_text("seconds\n0\n9\n")
    assert main(["--incident", SHORT.name, "--traffic", "arrivals.csv"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("2026-04-15 Claude API errors")
    assert "a trace of 2 calls, repeated as needed" in told


def test_several_incidents_are_told_at_a_glance(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {name: INCIDENTS[name] for name in ("2024-08-16", "2026-04-15", "2026-04-28")}
    monkeypatch.setattr("resilient_llm.simulate.whatif.command.INCIDENTS", few)
    assert main([str(file), "--rate", "0.05"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["resilient.toml", "anthropic/claude-sonnet-5", "alone", "calls", "saved"]
    assert [line[:10] for line in lines[:2]] == ["2026-04-15", "2026-04-28"]  # the other touches none of these vendors
    assert any(line.startswith("Lost in all: ") for line in lines)


def test_what_there_is_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    told = capsys.readouterr().out
    assert all(name in told for name in (*INCIDENTS, *SCHEDULES))


class Outside(HTMLParser):
    """Whatever a page would load from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [f"{tag} {name}" for name, value in attrs if name == "src" or "url(" in (value or "")]
        self.found += [tag] if tag in ("script", "link", "img", "iframe") else []
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_needs_nothing_else(file: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    evil = tmp_path / "<b>&.toml"
    evil.write_text(FILE)
    for names in ([str(file)], [str(file), "--compare", str(evil)]):
        assert main([*names, "--incident", SHORT.name, "--rate", "0.1", "--html", str(page)]) == 0
        parser = Outside()
        parser.feed(page.read_text(encoding="utf-8"))
        assert not parser.found
        assert not parser.open
        assert "prefers-color-scheme: dark" in page.read_text(encoding="utf-8")
    assert "<b>&.toml" not in page.read_text(encoding="utf-8")
    assert "nan" not in "".join(re.findall(r'd="([^"]*)"', page.read_text(encoding="utf-8")))


@pytest.mark.slow
def test_the_page_is_drawn_by_a_browser(file: Path, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("there is no Chromium on this machine")
    page, picture = tmp_path / "page.html", tmp_path / "page.png"
    main([str(file), "--incident", SHORT.name, "--rate", "0.1", "--html", str(page)])
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile"]
    made = [browser, *options, "--window-size=1200,1400", f"--screenshot={picture}", page.as_uri()]
    subprocess.run(made, check=True, capture_output=True, timeout=60)
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert picture.stat().st_size > 50_000


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere.toml"], "there is no nowhere.toml"),
        (["FILE", "--incident", "1999-12-31"], "there is no incident '1999-12-31'; there are 2023-11-08"),
        (["FILE", "--schedule", "x"], "there is no schedule 'x'"),
        (["FILE", "--year", "--incident", "all"], "choose one of"),
        (["FILE", "--rate", "0"], "--rate must be above 0"),
        (["FILE", "--deadline", "nan"], "--deadline must be above 0"),
        (["FILE", "--route", "x"], "there is no route 'x'; there are default"),
        (["FILE", "--compare", "nowhere.toml"], "nowhere.toml"),
        (["FILE", "FILE"], "--compare"),
        (["no-such-schedule"], "there is no no-such-schedule"),
    ],
)
def test_what_makes_no_sense_is_told_by_name(
    file: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    assert main([str(file) if one == "FILE" else one for one in arguments]) == 2
    assert told in capsys.readouterr().err


# --- figures as words ---


def test_a_share_is_never_rounded_up_to_all() -> None:
    assert percent(Tally(calls=100_000, answered=99_999)) == "99.9990 %"
    assert percent(Tally(calls=100_000_000, answered=99_999_999)) == "99.9999 %"
    assert percent(Tally(calls=100, answered=99)) == "99.00 %"
    assert percent(Tally(calls=3)) == "0 %"
    assert percent(Tally(calls=3, answered=2)) == "66.6 %"
    assert percent(Tally(calls=3, answered=3)) == "100 %"
    assert percent(Tally()) == "no calls"
    assert math.isnan(Tally().first_token(0.5))
