"""Every scenario holds, and each can fail: a bug put into the core, or a client without the library, breaks it."""

from __future__ import annotations

import math
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from resilient_llm.decide import patience, rescue
from resilient_llm.decide.breaker import Breaker
from resilient_llm.decide.call import Call
from resilient_llm.decide.member import Member
from resilient_llm.decide.pool import Pool
from resilient_llm.policy import Policies
from resilient_llm.simulate import SCHEDULES, Nature, Provider, streams
from resilient_llm.simulate.__main__ import main
from resilient_llm.simulate.providers import TABLE
from resilient_llm.simulate.scenarios import (
    SCENARIOS,
    Found,
    recorded_incidents,
    retry_storm,
    thundering_herd,
    tokens,
)
from resilient_llm.simulate.whatif import INCIDENTS
from tests.material import material
from tests.proof import fuzz, mutants
from tests.proof.mutants import MUTANTS

SLOW = {"incidents", "herd", "tokens", "retry-storm"}  # have a smaller test of their own below
Patch = pytest.MonkeyPatch


BELOW: dict[str, str] = {}
"""Known gaps: see the page on the simulator."""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.xfail(reason=BELOW[name])] if name in BELOW else [])
        for name in sorted(set(SCENARIOS) - SLOW)
    ],
)
def test_what_must_hold_holds(name: str) -> None:
    found = SCENARIOS[name].run(Path("nowhere"))
    assert found.held, str(found)
    assert found.figures


@pytest.mark.parametrize(
    ("name", "mutant"),
    [
        ("overhang", "no_generation_check"),
        ("cancel-trial", "cancel_is_success"),
        ("suspend", "suspend_is_latency"),
        ("429-dialects", "hint_ignored"),
        ("429-dialects", "gate_uncapped"),
        ("429-dialects", "rate_limit_is_failure"),
        ("429-dialects", "gate_not_asked"),
        ("429-dialects", "sleep_before_failover"),
        ("429-shared", "gate_not_asked"),
    ],
)
def test_a_bug_of_others_breaks_it(name: str, mutant: str) -> None:
    with MUTANTS[mutant]():
        assert not SCENARIOS[name].run(Path("nowhere")).held


def wrapped(patch: Patch, owner: type, name: str, replacement: Callable[..., Any]) -> None:
    original = getattr(owner, name)
    patch.setattr(owner, name, lambda *args, **more: replacement(original, *args, **more))


def test_late_successes_that_count_break_the_mirror(monkeypatch: Patch) -> None:
    def counts(original: Callable[..., Any], self: Any, attempt: Any, now: float, *tokens: int) -> None:
        fresh = not attempt.released and not attempt.trial
        original(self, attempt, now, *tokens)
        if fresh:
            attempt.member.breaker.succeeded(now)

    wrapped(monkeypatch, Pool, "succeeded", counts)
    found = SCENARIOS["overhang-mirror"].run(Path("nowhere"))
    assert "late successes are no good trials" in found.broken


def test_a_deadline_that_judges_nobody_leaves_a_drip_undetected(monkeypatch: Patch) -> None:
    def neutral(original: Callable[..., Any], self: Any, attempt: Any, *more: Any) -> None:
        self.abandoned(attempt, more[1])

    wrapped(monkeypatch, Call, "expired", neutral)
    assert SCENARIOS["drip-found-out"].run(Path("nowhere")).broken == ("the provider that drips is found out",)


def test_a_trial_that_never_loses_its_place_blocks_the_way_back(monkeypatch: Patch) -> None:
    monkeypatch.setattr(Member, "trial_due", lambda self, now: now >= self.breaker.trial_at and self.trial is None)
    assert "the provider is back in time" in SCENARIOS["hang-trial"].run(Path("nowhere")).broken


def test_a_fleet_does_not_herd() -> None:
    found = thundering_herd(200, rate=0.3)
    assert found.held, str(found)


def test_trials_at_the_full_minute_herd(monkeypatch: Patch) -> None:
    def together(original: Callable[..., Any], self: Any, now: float, draw: float) -> None:
        original(self, now, draw)
        self.trial_at = 60.0 * math.ceil(now / 60.0)

    wrapped(monkeypatch, Breaker, "_schedule", together)
    assert "trials do not herd" in thundering_herd(200, rate=0.3).broken


def test_a_fleet_is_answered_as_often_as_one_that_sends_each_call_once() -> None:
    found = retry_storm(280.0, [(0.5, 10.0)])
    assert found.held, str(found)


def test_asking_a_busy_provider_a_second_time_is_a_storm(monkeypatch: Patch) -> None:
    def hangs(beside: object, elapsed: float) -> bool:
        return False

    monkeypatch.setattr(rescue, "_overloaded", hangs)
    assert not retry_storm(280.0, [(0.5, 10.0)]).held


def test_giving_up_what_a_busy_provider_has_accepted_is_a_storm(monkeypatch: Patch) -> None:
    def given_up(policies: Policies, left: float, end: float) -> float:
        return end

    monkeypatch.setattr(patience, "_given_up_after", given_up)
    assert not retry_storm(280.0, [(0.25, 100.0)]).held


def test_recorded_arrivals_are_answered_nearly_as_fast_as_an_oracle_would() -> None:
    found = tokens(material("data"), names=["code"])
    assert found.held, str(found)


def test_a_list_tried_from_the_top_is_not() -> None:
    found = tokens(material("data"), names=["code"], strategy="first alive")
    assert found.broken == ("code, hang: nearly as fast as the oracle",)


def test_recorded_incidents_leave_a_tenth_of_the_failures() -> None:
    data = material("data")
    found = recorded_incidents(data, days=30, rate=0.01, extra=0.15)
    assert found.held, str(found)
    assert not recorded_incidents(data, days=30, rate=0.002, strategy="hasty sdk", extra=0.1).held


def test_without_recorded_weather_a_replay_is_skipped() -> None:
    for name in ("tokens", "incidents"):
        found = SCENARIOS[name].run(Path("nowhere"))
        assert found.held
        assert str(found).startswith("skipped: ")


# --- the registry and the command ---


def test_names_are_told_apart_and_say_what_happens_and_what_must_hold() -> None:
    assert not set(SCENARIOS) & set(SCHEDULES)
    for name, scenario in SCENARIOS.items():
        assert scenario.name == name
        assert scenario.what
        assert scenario.must


def test_the_command_runs_scenarios_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["overhang"]) == 0
    assert capsys.readouterr().out.startswith("overhang             holds: late failures 400")
    assert main(["tokens", "--data", "nowhere"]) == 0
    assert "skipped: arrivals_code.csv.gz is not in nowhere" in capsys.readouterr().out


def test_the_command_fails_if_a_scenario_does_not_hold(capsys: pytest.CaptureFixture[str]) -> None:
    with MUTANTS["no_generation_check"]():
        assert main(["overhang"]) == 1
    told = capsys.readouterr()
    assert "late failures leave the closed breaker alone" in told.out
    assert "does not hold: overhang" in told.err


def test_without_names_scenarios_follow_the_schedules(monkeypatch: Patch, capsys: pytest.CaptureFixture[str]) -> None:
    schedule = SCHEDULES["temporaryfailure"]
    command = "resilient_llm.simulate.__main__"
    monkeypatch.setattr(f"{command}.SCHEDULES", {schedule.name: schedule})
    monkeypatch.setattr(f"{command}.SCENARIOS", {"overhang": SCENARIOS["overhang"]})
    assert main(["--seeds", "1"]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names == ["temporaryfailure", "temporaryfailure", "overhang"]


def test_the_command_lists_both_and_refuses_what_it_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert listed == [*INCIDENTS, *SCHEDULES, *SCENARIOS]
    assert main(["flood"]) == 2
    assert "there is no flood" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--seeds", "0"], "must be 1 or more, not 0"),
        (["--seeds", "-1"], "must be 1 or more, not -1"),
    ],
)
def test_the_command_refuses_what_makes_no_sense(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    assert said in capsys.readouterr().err


def test_a_scenario_that_takes_minutes_says_so_first(
    monkeypatch: Patch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = SCENARIOS["incidents"]._replace(run=lambda data: Found(figures={"x": 1.0}))
    monkeypatch.setattr("resilient_llm.simulate.__main__.SCENARIOS", {"incidents": quick})
    assert main(["incidents", "--data", str(tmp_path)]) == 0
    assert not capsys.readouterr().err
    (tmp_path / quick.file).touch()
    assert main(["incidents", "--data", str(tmp_path)]) == 0
    assert "takes two to five minutes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["nope"], "there is no nope; --list tells"), (["--seeds", "0"], "--seeds must be 1 or more")],
)
def test_the_command_of_mutants_refuses_what_it_does_not_know(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        mutants.main(arguments)
    assert left.value.code == 2
    assert said in capsys.readouterr().err


def test_the_command_of_mutants_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert mutants.main(["--list"]) == 0
    listed = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert [name for name, _ in listed] == list(MUTANTS)


def test_the_command_of_streams_refuses_fewer_than_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        streams.main(["--", "-5"])
    assert left.value.code == 2
    assert "N must be 1 or more, not -5" in capsys.readouterr().err


def test_a_broken_demand_is_told_once_and_by_name() -> None:
    found = Found(figures={"x": 1.0}, broken=("this", "that"))
    assert not found.held
    assert str(found) == "DOES NOT HOLD: this; that (x 1)"


# --- the schedules that came with them ---


def test_a_latency_table_is_met_at_every_quantile() -> None:
    table = (0.2, 0.5, 1.2, 2.0, 5.0, 15.0, 40.0)
    nature = Nature(first_token=0.5, table=table)
    for quantile, seconds in zip(TABLE, table, strict=True):
        assert nature.begin(Drawn(quantile)) == pytest.approx(seconds)
    assert nature.begin(Drawn(0.7)) == pytest.approx(0.85)


class Drawn(random.Random):
    """Dice that show what they are told to."""

    def __init__(self, value: float) -> None:
        super().__init__(0)
        self.value = value

    def random(self) -> float:
        return self.value


@pytest.mark.parametrize("table", [(1.0, 2.0), (0.2, 0.5, 0.4, 2.0, 5.0, 15.0, 40.0)])
def test_a_table_that_is_none_is_refused(table: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="rising times"):
        Nature(table=table)


def test_everybody_drifts_independently_where_the_schedule_says_so() -> None:
    providers = SCHEDULES["timevarying-50"].providers()
    speeds = [[provider.slowness(50.0 * step + 1.0) for step in range(30)] for provider in providers]
    assert len({tuple(one) for one in speeds}) == 10
    assert {round(speed, 6) for one in speeds for speed in one} == {0.6, 3.0}


def test_the_heterogeneous_grid_slows_as_many_as_it_says() -> None:
    for slow in (3, 5, 7):
        for speed in (0.8, 0.5, 0.3):
            schedule = SCHEDULES[f"heterogeneous-{10 * slow}-{100 * speed:.0f}"]
            rates = [provider.nature.rate for provider in schedule.providers()]
            assert rates == [speed] * slow + [1.0] * (10 - slow)


def test_a_drip_is_never_silent_for_long_and_never_done_in_time() -> None:
    [trouble] = SCHEDULES["drip"].hurt
    fate = Provider("a", troubles=[trouble]).serve(1000.0, 100, 50, True, random.Random(1))
    assert fate.first < 10.0
    assert fate.done > 50 * 28.0


def test_the_command_prints_the_table_of_the_documentation(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--markdown", "--seeds", "1", "temporaryfailure"]) == 0
    head, rule, *rows = capsys.readouterr().out.splitlines()
    assert [line.count("|") for line in (head, rule, *rows)] == [11] * 4
    assert rows[0].startswith("| `temporaryfailure` | one | 100.00 % / 100.00 % / 100.00 % |")


def test_the_command_runs_seeds_and_fails_when_an_invariant_does_not_hold(capsys: pytest.CaptureFixture[str]) -> None:
    assert fuzz.main(["--seeds", "7", "9"]) == 0
    assert "2 seeds: 0 violations" in capsys.readouterr().out
    with MUTANTS["rate_limit_is_failure"]():
        assert fuzz.main(["--seeds", "0", "3"]) == 1
    told = capsys.readouterr().out
    assert "S7 (" in told
    assert "3 seeds: " in told


@pytest.mark.parametrize("given", ["as a file", "as text", "on standard input"])
def test_a_script_without_a_main_guard_may_ask_for_several_processes(given: str, tmp_path: Path) -> None:
    script = "from resilient_llm.simulate.jobs import spread\nprint(list(spread(abs, [-1, -2, -3], 2)))\n"
    file = tmp_path / "script.py"
    file.write_text(script)
    command = {"as a file": [str(file)], "as text": ["-c", script], "on standard input": ["-"]}[given]
    done = subprocess.run(
        [sys.executable, *command], input=script, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("[1, 2, 3]\n", "")
