"""The modelled world: rate limits, connections, a machine that stands still, and what the core is compared with."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from typing import Any

import pytest

from resilient_llm.decide.call import Wait
from resilient_llm.errors import AllAttemptsFailed
from resilient_llm.faults import Fault, FaultKind
from resilient_llm.simulate import SCHEDULES, Load, Nature, Provider, Question, Trouble, World
from resilient_llm.simulate.__main__ import main
from resilient_llm.simulate.allowance import Allowance, Meters
from resilient_llm.simulate.client import Pause
from resilient_llm.simulate.driver import Ended, Spinning
from resilient_llm.simulate.judge import GOALS, chance, judge
from resilient_llm.simulate.random_runs import Half, half_minute, summary
from resilient_llm.simulate.report import Figures, measure
from resilient_llm.simulate.strategies import Oracle, PlainTry, Sdk
from resilient_llm.simulate.world import Stop

LOAD = Load(rate=2.0, even=True, deadline=10.0, prompt=100, prompt_sigma=0.0, output=20, output_sigma=0.0)
QUICK = Nature(first_token=0.2, sigma=0.0, pace=0.01)
QUESTION = Question(True, 100, 20, 10.0)


# --- rate limits ---


def test_a_bucket_fills_all_the_time() -> None:
    meters = Meters(Allowance(tokens=600, burst=6.0))
    assert [meters.admit(0.0, 20) for _ in range(4)] == [True, True, True, False]
    assert meters.wait(0.0, 20) == pytest.approx(2.0)
    assert meters.admit(2.0, 20)
    assert not meters.admit(2.0, 1)


def test_a_window_gives_everything_back_at_its_end() -> None:
    meters = Meters(Allowance(requests=2, dialect="window"))
    assert [meters.admit(at, 1) for at in (5.0, 20.0, 21.0, 64.9, 65.0)] == [True, True, False, False, True]


@pytest.mark.parametrize(("dialect", "reset"), [("openai", 5.5), ("anthropic", 6.0), ("window", 60.0)])
def test_each_vendor_tells_its_reset_in_its_own_words(dialect: str, reset: float) -> None:
    meters = Meters(Allowance(tokens=600, dialect=dialect))
    assert meters.admit(0.0, 55)
    told = meters.told(0.0)
    assert told is not None
    assert told.tokens is not None
    assert told.tokens.remaining == 545
    assert told.tokens.reset_in == pytest.approx(reset)


def test_a_refusal_says_when_to_come_back_in_whole_seconds() -> None:
    provider = Provider("a", Nature(allowance=Allowance(requests=6, burst=10.0)))
    dice = random.Random(1)
    assert provider.serve(0.0, 100, 10, True, dice).fault is None
    refused = provider.serve(0.5, 100, 10, True, dice).fault
    assert refused is not None
    assert refused.kind is FaultKind.RATE_LIMITED
    assert refused.retry_after == 10.0


def test_a_dialect_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="a dialect is one of"):
        Allowance(dialect="french")


# --- connections, the machine ---


def sdk(troubles: tuple[Trouble, ...], seconds: float = 20.0, **more: Any) -> World[PlainTry]:
    return World([Sdk([[Provider("a", QUICK, troubles)]], 1)], LOAD, 1).run(seconds, **more)


def oracle(troubles: tuple[Trouble, ...], seconds: float = 20.0) -> World[PlainTry]:
    return World([Oracle([[Provider("a", QUICK, troubles)]], 1)], LOAD, 1).run(seconds)


def attempts(world: World[PlainTry]) -> float:
    return sum(call.attempts for call in world.ended) / len(world.ended)


def test_a_stale_connection_costs_an_sdk_an_attempt_and_others_nothing() -> None:
    stale = (Trouble(5.0, 15.0, "stale", 0.5),)
    assert attempts(sdk(stale)) > 1.2
    assert attempts(oracle(stale)) == 1.0
    assert all(call.ok for call in oracle(stale).ended)


def test_a_stuck_connection_hangs_until_a_new_one_is_made() -> None:
    stuck = (Trouble(5.0, 6.0, "stuck"),)
    assert [call.why for call in sdk(stuck).ended if not call.ok] == ["DeadlineExceeded"] * 2
    assert all(call.ok for call in oracle(stuck).ended)


def test_while_an_event_loop_stands_still_callers_arrive_and_are_late() -> None:
    still = sdk((), stops=[Stop(5.0, 3.0)])
    assert len(still.ended) == len(sdk(()).ended)
    assert not [call for call in still.ended if 5.01 < call.started < 7.99]
    assert sum(call.started == pytest.approx(8.0) for call in still.ended) >= 6


def test_while_a_machine_sleeps_nobody_arrives() -> None:
    slept = sdk((), stops=[Stop(5.0, 60.0, True)])
    assert not [call for call in slept.ended if 5.1 < call.started < 64.9]
    assert len(slept.ended) >= len(sdk(()).ended)


def test_different_strategies_meet_the_same_callers_at_the_same_times() -> None:
    random_load = replace(LOAD, even=False)
    started = []
    for kind in (Sdk, Oracle):
        world = World([kind([[Provider("a"), Provider("b")]], 1)], random_load, 7).run(60.0)
        started.append(sorted(call.started for call in world.ended))
    assert started[0] == started[1]


def test_a_driver_that_is_told_to_wait_for_ever_says_so() -> None:
    class Idle(Sdk):
        def choose(self, call: Any, now: float) -> Any:
            return Pause(0.0, "nothing")

    with pytest.raises(Spinning, match="was told to wait 2001 times"):
        World([Idle([[Provider("a")]], 1)], LOAD, 1).run(1.0)


class Script:
    """A call that waits in line until somebody wakes it, and is overtaken by a second attempt."""

    def __init__(self) -> None:
        self.place = Place()
        self.woken_at = math.nan
        self.told: list[str] = []

    def next_attempt(self, now: float) -> Any:
        if math.isnan(self.woken_at):
            self.woken_at = 0.0
            return Wait(100.0, "line", self.place)  # type: ignore[arg-type]
        self.woken_at = now
        attempt = PlainTry(Provider("a", QUICK, [Trouble(0.0, 99.0, "hang")]), 5.0)
        attempt.rescue_after = 1.0
        return attempt

    def rescue(self, beside: Any, now: float) -> Any:
        self.told.append(f"rescue {now:g}")
        return PlainTry(Provider("b", QUICK), 5.0)

    def overtaken(self, attempt: Any, now: float) -> bool:
        return True  # it runs on

    def failed(self, attempt: Any, fault: Fault, now: float) -> None:
        self.told.append(f"{attempt.target.id} {fault.kind} {now:g}")

    def succeeded(self, attempt: Any, now: float, tokens: int = 0) -> None:
        self.told.append(f"{attempt.target.id} answered")

    def first_content(self, attempt: Any, now: float) -> None: ...

    def paused(self, attempt: Any, seconds: float) -> None: ...


class Place:
    wake: Any = None
    owner: Any = None
    woken = False


class Scripted:
    resends = True

    def __init__(self, call: Script) -> None:
        self._call = call

    def call(self, question: Question, now: float) -> Any:
        return self._call

    def learn(self, *more: Any) -> None: ...


def test_who_waits_is_woken_at_once_and_a_loser_runs_on_until_it_is_judged() -> None:
    call = Script()
    world: World[Any] = World([Scripted(call)], LOAD, 1)  # type: ignore[list-item]
    world.clock.at(2.0, lambda now, what: call.place.wake(), None)
    world.run(0.6)
    assert call.woken_at == 2.0
    assert call.told == ["rescue 3", "b answered", "a timeout 7"]
    [ended] = world.ended
    assert (ended.ok, ended.attempts, ended.asked) == (True, 2, "ab")


# --- what the core is compared with ---


def test_an_sdk_obeys_retry_after_and_gives_up_after_three_attempts() -> None:
    strategy = Sdk([[Provider("a")]], 1)
    call = strategy.call(QUESTION, 0.0)
    for now, hint, low, high in ((0.0, 2.0, 2.0, 2.0), (2.0, None, 0.75, 1.0)):
        attempt = call.next_attempt(now)
        assert isinstance(attempt, PlainTry)
        call.failed(attempt, Fault(FaultKind.RATE_LIMITED, retry_after=hint), now)
        pause = call.next_attempt(now)
        assert isinstance(pause, Pause)
        assert low <= pause.seconds <= high
    attempt = call.next_attempt(4.0)
    assert isinstance(attempt, PlainTry)
    assert attempt.timeout == 6.0
    call.failed(attempt, Fault(FaultKind.SERVER_ERROR), 4.0)
    with pytest.raises(AllAttemptsFailed):
        call.next_attempt(5.0)


@pytest.mark.parametrize("name", ["grey-lone-40", "grey-both-60", "bucket-openai-small", "hints-twice", "lone-hang"])
def test_the_oracle_is_never_below_the_sdk(name: str) -> None:
    best, humble = (measure(SCHEDULES[name], "tiers", who, (1, 2)) for who in ("oracle", "sdk"))
    assert best.answered >= humble.answered - chance(best.answered / best.calls, 1.0, best.calls) * best.calls


def test_an_sdk_talks_to_the_provider_where_it_fares_best() -> None:
    assert measure(SCHEDULES["down-for-good"], "tiers", "sdk").available >= 0.999
    assert measure(SCHEDULES["down-for-good"], "tiers", "first alive").attempts > 1.5


# --- the verdict ---

GOOD = Figures("x", 1000.0, 1000.0, 1.0, 0.5, 2.0, 3.0, 1.0, 0.01, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("name", "change", "missed"),
    [
        ("grey-lone-40", {}, ()),
        ("grey-lone-40", {"answered": 990.0}, ("sdk",)),
        ("grey-lone-40", {"available": 0.97}, ("oracle",)),
        ("outage-5-10", {"back": 5.4}, ("back",)),
        ("outage-5-10", {"attempts": 1.06}, ("attempts",)),
        ("outage-row", {"back": 5.1}, ("back",)),
        ("down-for-good", {"attempts": 1.03}, ("attempts",)),
        ("half-broken-40", {"share": 0.06}, ("share",)),
        ("stall-2", {"broken": 6.0}, ("broken",)),
        ("stall-2", {"available": 0.5}, ()),
        ("loop-still", {"regret": 3.0}, ("regret",)),
        ("hints-twice", {"available": 0.999}, ("answered",)),
        ("fast500", {"p99": 3.1}, ("tail",)),
    ],
)
def test_every_goal_can_be_missed(name: str, change: dict[str, float], missed: tuple[str, ...]) -> None:
    mine = GOOD._replace(**change)
    assert judge(SCHEDULES[name], mine, GOOD, GOOD, 3) == missed
    assert set(missed) <= GOALS.keys()


def test_a_difference_that_may_be_chance_is_no_loss() -> None:
    assert chance(1.0, 1.0, 1000.0) == 0.001
    assert 0.02 < chance(0.94, 0.94, 1000.0) < 0.03
    half = Half(1, 360.0, 300.0, 310.0, 350.0, 500.0, 600.0)
    assert not half.lost
    assert half._replace(mine=260.0).lost
    assert "fewer than the SDK in 2, and not by chance in 1" in summary([half, half._replace(mine=260.0)])


def test_a_random_half_minute_is_the_same_each_time() -> None:
    assert half_minute(5) == half_minute(5) != half_minute(6)
    assert {len(half_minute(seed).each) for seed in range(20)} == {1, 2, 3}


# --- the command ---


def test_patterns_stand_for_names(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--quick", "both-down-*"])
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["both-down-3", "both-down-8"]


def test_figures_are_told_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--quick", "--json", "both-down-3"])
    [first] = json.loads(capsys.readouterr().out)
    assert first["schedule"] == "both-down-3"
    assert first["oracle"]["available"] == 1.0


def test_what_is_missed_is_listed_and_fails_the_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    impossible = replace(SCHEDULES["lone-hang"], want=SCHEDULES["lone-hang"].want._replace(regret=-1.0))
    for module in ("__main__", "jobs"):
        monkeypatch.setattr(f"resilient_llm.simulate.{module}.SCHEDULES", {"lone-hang": impossible})
    assert main(["--seeds", "1", "lone-hang"]) == 1
    assert "missed: lone-hang (tiers): regret" in capsys.readouterr().err


def test_random_half_minutes_are_summed_up(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--random", "2", "--first", "40"])
    assert capsys.readouterr().out.startswith("2 random half minutes, ")


def test_other_strategies_stand_in_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--quick", "--peers", "both-down-3"])
    told = capsys.readouterr().out
    assert all(f"| {name} |" in told for name in ("production", "sdk", "oracle", "first alive", "cooldown"))


def test_a_call_is_summed_up_by_name() -> None:
    ended = Ended(1.0, 2.0, 0.5, True, 1, "", 0)
    assert (ended.hedges, ended.trials, ended.missed) == (0, 0, False)
