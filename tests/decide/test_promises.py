"""What users feel: whole schedules in virtual time, beside what the plainest client would have got."""

from __future__ import annotations

import random
from collections.abc import Callable
from statistics import mean
from typing import Any

import pytest

from resilient_llm.decide.attempt import Attempt
from resilient_llm.errors import CallFailed, DeadlineExceeded, Fault, FaultKind, NoProviderAvailable
from resilient_llm.policy import Breaker, Limits, Retry
from tests.decide.driver import ANSWER, DOWN, FAILS, HANG, Act, Behaviour, Driver, acts, down, grey, well
from tests.decide.world import Limit, Target, World

REFUSED = Fault(FaultKind.CONNECTION, code="not_sent")


def limited(seconds: float) -> Fault:
    return Fault(FaultKind.RATE_LIMITED, status=429, retry_after=seconds)


# --- never worse than the vendor's own client with its two retries ---


def plain_client(behaviour: Behaviour, began: float, timeout: float, draw: Callable[[], float]) -> bool:
    """Whether a call with two retries at one provider is answered in time."""
    now = began
    for retry in range(3):
        act = behaviour(now, None)  # type: ignore[arg-type]
        if act.seconds is None or now + act.seconds > began + timeout:
            return False
        now += act.seconds
        if act.fault is None:
            return True
        pause = min(8.0, 0.5 * 2.0**retry) * (1.0 - 0.25 * draw())
        now += pause if act.fault.retry_after is None else act.fault.retry_after
    return False


def beside_plain_client(share: float, preferred: Behaviour | None) -> tuple[float, float, float]:
    """Calls of a hundred that are answered by us and by the plain client, and our requests, over 25 paired runs."""
    ours, plain, requests = [], [], []
    for seed in range(25):
        behaviour = grey(share, random.Random(seed))
        dead = {} if preferred is None else {"a": preferred}
        driver = Driver({**dead, "b": behaviour}, seed=seed)
        ours.append(sum(run.answered for run in driver.calls(rate=4.0, seconds=25.0)))
        requests.append(len(driver.requests))
        behaviour, luck = grey(share, random.Random(seed)), random.Random(seed + 1000)
        plain.append(sum(plain_client(behaviour, index / 4.0, 10.0, luck.random) for index in range(100)))
    return mean(ours), mean(plain), mean(requests)


@pytest.mark.parametrize("share", [0.2, 0.4, 0.8])
def test_a_lone_provider_that_often_fails_is_used_as_well_as_by_the_plain_client(share: float) -> None:
    ours, plain, requests = beside_plain_client(share, None)
    assert ours >= plain - 2.0, "no further below than chance"
    assert requests <= 300


def test_answers_pay_for_as_many_tries_as_the_plain_client_makes_where_four_fifths_find_no_room() -> None:
    luck = random.Random(1)
    full = Fault(FaultKind.OVERLOADED, status=529)
    driver = Driver({"a": lambda now, attempt: Act(0.05, full) if luck.random() < 0.8 else ANSWER})
    runs = driver.calls(rate=4.0, seconds=250.0)[100:]
    assert sum(run.answered for run in runs) >= 0.45 * len(runs), "three tries answer 49 %"


@pytest.mark.parametrize("share", [0.2, 0.55])
def test_beside_a_dead_one_too(share: float) -> None:
    ours, plain, _ = beside_plain_client(share, down(1e9))
    assert ours >= plain - 2.0


def test_with_two_that_often_fail_much_more_is_answered_than_by_either() -> None:
    driver = Driver({name: grey(0.4, random.Random(name)) for name in "ab"})
    runs = driver.calls(rate=4.0, seconds=50.0)
    assert sum(run.answered for run in runs) >= 0.97 * len(runs)


def test_answers_that_usually_take_more_than_half_of_the_time_open_no_breaker() -> None:
    """Silence for half of the time says nothing of a provider whose answers always take that long."""
    luck = random.Random(1)

    def slow(now: float, attempt: object) -> Act:
        return Act(3.2 * luck.lognormvariate(0.0, 0.25))

    driver = Driver({"a": slow, "b": slow})
    runs = driver.calls(rate=2.0, seconds=120.0, timeout=5.0, streaming=False)
    late = [run for run in runs if run.began >= runs[0].began + 30.0]
    assert all(run.call.records[0].provider == "a" for run in late)
    plain = sum(3.2 * luck.lognormvariate(0.0, 0.25) <= 5.0 for _ in late)
    assert sum(run.answered for run in late) >= plain - 0.06 * len(late)


def test_trials_that_nobody_can_hide_cost_a_share_of_the_calls_and_not_one_in_an_interval() -> None:
    """A stream that breaks after content is lost to its caller: where calls are rare, every other one would be."""

    def breaks(now: float, attempt: object) -> Act:
        return Act(1.0, FAILS, first=0.1)

    driver = Driver({"a": breaks, "b": well()})
    driver.calls(rate=1.0 / 36.0, seconds=36.0 * 60, timeout=30.0, streaming=True)
    assert 4 <= sum(provider == "a" for _, provider, _ in driver.requests) <= 8


# --- random bad half minutes ---


def drifting(luck: random.Random) -> Behaviour:
    """Changes every three to nine seconds between well, often failing, down, hanging, slow and limited."""
    changes, now = [], 0.0
    while now < 60.0:
        changes.append((now, luck.choice(["well", "well", "grey", "down", "hangs", "slow", "limited"]), luck.random()))
        now += luck.uniform(3.0, 9.0)

    def behave(now: float, attempt: object) -> Act:
        _, what, share = next(change for change in reversed(changes) if change[0] <= now)
        if what == "grey":
            return Act(0.1, FAILS if luck.random() < 0.2 + 0.6 * share else None)
        return {
            "well": ANSWER,
            "down": Act(0.01, DOWN),
            "hangs": HANG,
            "slow": Act(3.0),
            "limited": Act(0.02, limited(1.0)),
        }[what]

    return behave


@pytest.mark.parametrize("providers", [1, 2, 3])
def test_in_random_bad_half_minutes_no_fewer_are_answered_than_by_the_plain_client_at_the_best(providers: int) -> None:
    figures = [half_minute(providers, seed) for seed in range(12)]
    assert sum(ours for ours, _, _ in figures) >= 1.1 * sum(plain for _, plain, _ in figures)
    assert sum(requests for _, _, requests in figures) <= 2.0 * 120 * len(figures)


@pytest.mark.parametrize("providers", [1, 2, 3])
def test_in_no_single_half_minute_fewer_are_answered(providers: int) -> None:
    figures = [half_minute(providers, seed) for seed in range(16)]
    assert not [(seed, ours, plain) for seed, (ours, plain, _) in enumerate(figures) if ours < plain]


def half_minute(providers: int, seed: int, ours_seed: int | None = None) -> tuple[int, int, int]:
    """Calls of 120 answered by us and by the plain client at the best single provider, and our requests."""
    names = "abc"[:providers]
    worlds = {name: drifting(random.Random(f"{name}{seed}")) for name in names}
    driver = Driver(worlds, seed=seed if ours_seed is None else ours_seed)
    ours = sum(run.answered for run in driver.calls(rate=4.0, seconds=30.0))
    plain = 0
    for name in names:
        behaviour, luck = drifting(random.Random(f"{name}{seed}")), random.Random(seed)
        plain = max(plain, sum(plain_client(behaviour, index / 4.0, 10.0, luck.random) for index in range(120)))
    return ours, plain, len(driver.requests)


@pytest.mark.parametrize(("seed", "share"), [(21, 0.9), (44, 1.0), (100, 1.0)])
def test_a_lone_provider_that_comes_back_slow_answers_who_has_time_for_it(seed: int, share: float) -> None:
    """Who has waited longest has no time left for an answer that takes longer than ever before.  At least so large a
    ``share`` of what a plain client is answered."""
    figures = [half_minute(1, seed, luck) for luck in range(4)]
    assert mean(ours for ours, _, _ in figures) >= share * figures[0][1]


def test_no_call_is_given_up_untried_while_it_has_time() -> None:
    for seed in range(8):
        driver = Driver({name: drifting(random.Random(f"{name}{seed}")) for name in "ab"}, seed=seed)
        runs = driver.calls(rate=4.0, seconds=30.0)
        assert not [run for run in runs if not run.answered and not run.call.records and run.took < 9.0]


def test_whoever_fails_in_an_outage_of_everybody_is_told_when_to_come_back() -> None:
    driver = Driver({name: down(1e9) for name in "ab"})
    for run in driver.calls(rate=4.0, seconds=30.0, timeout=6.0):
        assert isinstance(run.end, CallFailed)
        if not isinstance(run.end, DeadlineExceeded):
            assert run.end.retry_after is not None
            assert 0.0 <= run.end.retry_after <= 60.0


# --- a true token bucket ---


def test_a_token_bucket_of_the_usual_size_is_used_to_its_last_token() -> None:
    """30,000 tokens a minute, prompts of 1,000 offered at 1.1 times that; ``reset`` is the time until it is full."""
    bucket = {"left": 1_000.0, "at": 0.0}
    refusals: list[float] = []

    def serve(now: float, attempt: Attempt[Target]) -> Act:
        left = min(30_000.0, bucket["left"] + (now - bucket["at"]) * 500.0)
        bucket["at"] = now
        fits = left >= 1_000.0
        bucket["left"] = left = left - 1_000.0 if fits else left
        reported = Limit(30_000, int(left), (30_000.0 - left) / 500.0)
        driver.at(now + 0.2, driver.pool.learn, attempt, now + 0.2, None, reported)
        if not fits:
            refusals.append(now)
            return Act(0.2, limited(1.0))
        return Act(0.2)

    driver = Driver({"a": serve})
    runs = driver.calls(rate=0.55, seconds=40.0, timeout=60.0, tokens=1000)
    assert len(runs) == 22
    assert all(run.answered for run in runs)
    assert len(refusals) <= len(runs), "and each asks for a second, which is obeyed"


def test_a_long_line_at_a_small_bucket_loses_no_more_than_there_is_no_room_for() -> None:
    """2,000 tokens of which 500 a second come back, prompts of 1,000 offered at 1.1 times that: once the line is as
    long as the deadline, room that goes to a call whose answer comes too late is lost."""
    bucket = {"left": 2_000.0, "at": 0.0}
    luck = random.Random(1)

    def serve(now: float, attempt: Attempt[Target]) -> Act:
        left = min(2_000.0, bucket["left"] + (now - bucket["at"]) * 500.0)
        bucket["at"] = now
        fits = left >= 1_000.0
        bucket["left"] = left = left - 1_000.0 if fits else left
        seconds = luck.lognormvariate(0.0, 0.4)
        reported = Limit(2_000, int(left), (2_000.0 - left) / 500.0)
        driver.at(now + seconds, driver.pool.learn, attempt, now + seconds, None, reported)
        return Act(seconds) if fits else Act(0.05, limited(1.0))

    driver = Driver({"a": serve})
    runs = driver.calls(rate=0.55, seconds=300.0, timeout=12.0, tokens=1000)
    assert sum(run.answered for run in runs) >= 0.97 * len(runs) / 1.1
    assert len(driver.requests) <= len(runs), "and is not told so by refusals"


def test_a_prompt_too_large_for_what_is_left_waits_for_the_share_it_lacks() -> None:
    world = World("a")
    attempt = world.start()
    world.pool.learn(attempt, world.now, None, Limit(30_000, 500, 59.0))
    world.succeed(attempt)
    call = world.call(tokens=1000, timeout=30.0)
    wait = world.wait(call)
    assert wait.reason == "gate"
    assert wait.seconds == pytest.approx(1.0)
    assert world.start(call).target.id == "a"


# --- waiting as asked ---


def test_two_providers_that_refuse_twice_with_a_second_to_wait_answer_after_two() -> None:
    driver = Driver({name: acts(Act(0.01, limited(1.0)), Act(0.01, limited(1.0))) for name in "ab"})
    run = driver.one(timeout=10.0)
    assert run.answered
    assert 2.0 <= run.took <= 3.0


@pytest.mark.parametrize("draw", [0.0, 0.5, 0.999])
@pytest.mark.parametrize(("timeout", "answered"), [(57.0, True), (70.0, True), (54.0, False)])
def test_a_stated_wait_is_compared_with_the_deadline_as_it_was_sent(
    draw: float, timeout: float, answered: bool
) -> None:
    driver = Driver({"a": acts(Act(0.01, limited(55.0)))})
    driver.pool.draw = driver.pool._leases._draw = driver.pool._verdicts._draw = lambda: draw
    run = driver.one(timeout=timeout)
    if answered:
        assert run.answered
        assert run.took >= 55.0
    else:
        assert isinstance(run.end, NoProviderAvailable), "it is told at once: no time has passed"
        assert run.took < 0.1
        assert run.end.retry_after == pytest.approx(55.0, abs=0.1)
        assert run.end.reasons == {"a": "asked us to wait"}


@pytest.mark.parametrize("draw", [0.0, 0.999])
def test_a_stated_wait_of_up_to_two_minutes_is_made_without_a_deadline(draw: float) -> None:
    for hint, waits in ((119.0, True), (121.0, False)):
        driver = Driver({"a": acts(Act(0.0, limited(hint)))})
        driver.pool.draw = driver.pool._leases._draw = driver.pool._verdicts._draw = lambda: draw
        assert driver.one(timeout=None).answered == waits, hint


def test_an_hour_is_told_as_an_hour_though_the_gate_is_capped() -> None:
    driver = Driver({"a": acts(Act(0.0, limited(3600.0)))})
    run = driver.one(timeout=10.0)
    assert isinstance(run.end, NoProviderAvailable)
    assert run.end.retry_after == pytest.approx(3600.0)


def test_refusals_that_say_when_to_come_back_use_up_no_attempts() -> None:
    driver = Driver({"a": acts(*[Act(0.0, limited(0.3))] * 12)}, limits=Limits(gate_cap=1.0))
    assert driver.one(timeout=60.0).answered


# --- silence ---


def test_a_lone_provider_that_hangs_once_is_asked_again_at_half_time_over_a_new_connection() -> None:
    driver = Driver({"a": acts(HANG)})
    run = driver.one(timeout=10.0)
    assert run.answered
    assert run.took == pytest.approx(5.2)
    (_, _, first), (again, _, second) = driver.requests
    assert (again, second.kind, second.fresh, first.fresh) == (5.0, "hedge", True, False)
    assert second.rescue_after is None


def test_a_hang_costs_the_rescue_delay_and_not_the_timeout() -> None:
    driver = Driver({"a": acts(*[ANSWER] * 30, then=HANG), "b": well()})
    driver.calls(rate=10.0, seconds=3.0, timeout=30.0)
    run = driver.one(timeout=30.0)
    assert run.by == "b"
    assert run.took <= 1.5


def found_out(known: int, broken: Act) -> tuple[int, int]:
    """Streams interrupted before the first one that another provider answers, and of fourteen in all."""
    driver = Driver({"a": acts(*[Act(0.5, None, first=0.2)] * known, then=broken), "b": well()})
    for _ in range(known):
        driver.one(timeout=10.0, streaming=True)
    ends = [driver.one(timeout=2.0, streaming=True).answered for _ in range(14)]
    assert driver.pool.snapshot(driver.now)[0].state != "healthy"
    return ends.index(True), ends.count(False)


STALLS = Act(None, None, first=0.2)
CUT = Act(2.0 - 1e-6, Fault(FaultKind.CONNECTION), first=0.2)


@pytest.mark.parametrize("broken", [STALLS, CUT], ids=["stalls", "cut"])
@pytest.mark.parametrize("known", [0, 25])
def test_a_stream_that_stalls_or_is_cut_after_content_is_found_out_after_three_to_five(known: int, broken: Act) -> None:
    first, all_in_all = found_out(known, broken)
    assert 3 <= first <= 5
    assert all_in_all <= 7, "the others are its trials"


def test_a_stall_is_found_out_as_fast_as_a_cut() -> None:
    assert found_out(25, STALLS) == found_out(25, CUT)


def test_a_stream_that_was_merely_long_is_no_fault_of_its_provider() -> None:
    world = World("a", "b")
    world.answer("a", times=25)
    for _ in range(10):
        attempt = world.start(streaming=True, timeout=10.0)
        world.speak(attempt, after=0.2)
        world.now += 9.8
        world.expire(attempt, silence=0.9)
    assert world.breaker("a") == "closed"


def test_a_provider_that_usually_pauses_may_pause() -> None:
    world = World("a", "b")
    for _ in range(25):
        attempt = world.start(only="a", streaming=True)
        world.speak(attempt, after=0.1)
        world.call_of[attempt].paused(attempt, 4.0)
        world.succeed(attempt)
    for silence, state in ((11.0, "closed"), (13.0, "softly_open")):
        for _ in range(4):
            attempt = world.start(only="a", streaming=True, timeout=20.0)
            world.speak(attempt, after=0.1)
            world.now += 19.9
            world.expire(attempt, silence)
        assert world.breaker("a") == state


# --- outages and recovery ---


def test_nobody_is_lost_in_an_outage_of_everybody_of_three_seconds() -> None:
    driver = Driver({name: down(3.0) for name in "ab"})
    runs = driver.calls(rate=2.0, seconds=8.0, timeout=10.0)
    assert all(run.answered for run in runs)
    assert max(run.took for run in runs) <= 5.0


def returned(
    length: float, rate: float, after: float, seed: int = 0, *, fails: Behaviour | None = None, **policies: Any
) -> float:
    """Seconds from the end of an outage of the preferred provider until its traffic is back for good."""
    driver = Driver({"a": fails or down(20.0 + length, since=20.0), "b": well()}, seed=seed, **policies)
    runs = driver.calls(rate, 20.0 + length + after)
    assert all(run.answered for run in runs)
    elsewhere = [run.began for run in runs if run.by != "a" and run.began >= 20.0]
    return max(elsewhere) + 1.0 / rate - (20.0 + length)


@pytest.mark.parametrize("seed", range(5))
def test_after_five_seconds_of_outage_its_traffic_is_back_within_five(seed: int) -> None:
    assert returned(5.0, rate=10.0, after=20.0, seed=seed) <= 5.5


@pytest.mark.parametrize("seed", range(5))
def test_after_forty_seconds_of_outage_its_traffic_is_back_within_sixteen(seed: int) -> None:
    assert returned(40.0, rate=5.0, after=30.0, seed=seed) <= 16.0


@pytest.mark.parametrize("length", [1.0, 5.0, 20.0, 60.0])
@pytest.mark.parametrize("rate", [0.1, 1.0, 10.0, 30.0])
def test_a_recovered_provider_has_its_traffic_back_soon(length: float, rate: float) -> None:
    """Within ``max(2 s, min(L, 15 s))`` plus three intervals between calls."""
    allowed = max(2.0, min(length, 15.0)) + 3.0 / rate
    assert returned(length, rate, after=30.0 + 6.0 / rate) <= allowed + 0.5


@pytest.mark.parametrize("length", [5.0, 20.0, 60.0])
def test_one_that_gave_no_answers_at_all_is_back_as_soon(length: float) -> None:
    """A trial that began while it was silent, and whose patience is half a minute, does not hold up the next one."""

    def hangs(now: float, attempt: Attempt[Target]) -> Act:
        return HANG if 20.0 <= now < 20.0 + length else ANSWER

    allowed = max(2.0, min(length, 15.0)) + 0.3
    assert returned(length, rate=10.0, after=40.0, fails=hangs) <= allowed + 0.5


@pytest.mark.parametrize("length", [5.0, 30.0, 300.0])
@pytest.mark.parametrize("rate", [1.0, 10.0])
def test_an_outage_that_says_429_without_a_hint_is_not_taken_for_a_limit_for_long(length: float, rate: float) -> None:
    """A minute after it nearly all traffic is back, and meanwhile it was asked about once in a quarter of a minute."""
    refused = Act(0.01, Fault(FaultKind.RATE_LIMITED, status=429))
    until = 60.0 + length

    def limits(now: float, attempt: Attempt[Target]) -> Act:
        return refused if 60.0 <= now < until else ANSWER

    driver = Driver({"a": limits, "b": well()})
    runs = driver.calls(rate, until + 180.0)
    assert all(run.answered for run in runs)
    later = [run.by == "a" for run in runs if run.began >= until + 60.0]
    assert sum(later) >= 0.95 * len(later)
    asked = sum(provider == "a" and 60.0 <= now < until for now, provider, _ in driver.requests)
    assert asked <= 6 + length / 14.0 + rate


def test_the_settings_of_the_breaker_govern_the_way_back() -> None:
    assert returned(10.0, rate=10.0, after=30.0, breaker=Breaker(open_base=1.0, open_cap=1.0)) <= 2.0


def test_a_trial_of_a_dead_provider_costs_its_caller_no_attempt() -> None:
    driver = Driver({"a": down(1e9), "b": grey(0.6, random.Random(3))})
    driver.calls(rate=4.0, seconds=60.0)
    for run in driver.runs:
        records = run.call.records
        if any(record.kind == "trial" for record in records) and not run.answered:
            assert len([record for record in records if record.provider == "b"]) == 3


def test_trials_that_judge_nobody_are_bounded_like_other_attempts() -> None:
    outage = down(5.0)

    def conflicts(now: float, attempt: Attempt[Target]) -> Act:
        return outage(now, attempt) if now < 5.0 else Act(0.01, Fault(FaultKind.CONFLICT, status=409))

    driver = Driver({"a": conflicts})
    driver.calls(rate=2.0, seconds=10.0)
    late = [run for run in driver.runs if run.began >= 5.0]
    assert all(len(run.call.records) <= 3 for run in late)


def test_a_key_that_was_rotated_after_a_refusal_works_at_the_next_call() -> None:
    for fixed in (True, False):
        driver = Driver(
            {"a": acts(Act(0.01, Fault(FaultKind.AUTH, status=401)))}, Target("a", account="key", key_is_fixed=fixed)
        )
        assert driver.one(timeout=5.0).end.__class__.__name__ in ("AllAttemptsFailed", "NoProviderAvailable")
        assert driver.one(timeout=5.0).answered or fixed
        driver.pool.operate("a", "restore", driver.now)
        assert driver.one(timeout=5.0).answered, "a person says that it is well"


def test_an_endpoint_that_is_configured_wrongly_moves_on() -> None:
    driver = Driver({"a": acts(then=Act(0.01, Fault(FaultKind.MISCONFIGURED, status=405))), "b": well()})
    runs = driver.calls(rate=4.0, seconds=10.0)
    assert all(run.by == "b" for run in runs)
    assert len(driver.asked("a")) <= 2, "and is left alone"


def test_two_outside_servers_at_forty_percent_chaos_with_refusals_that_carry_no_hint() -> None:
    def chaos(luck: random.Random) -> Behaviour:
        kinds = [
            Act(0.05, Fault(FaultKind.RATE_LIMITED, status=429)),
            Act(0.05, FAILS),
            Act(0.05, DOWN),
            Act(0.05, Fault(FaultKind.CONNECTION)),
        ]
        return lambda now, attempt: luck.choice(kinds) if luck.random() < 0.4 else ANSWER

    answered = []
    for seed in range(5):
        driver = Driver({name: chaos(random.Random(f"{name}{seed}")) for name in "ab"}, seed=seed)
        answered.append(sum(run.answered for run in driver.calls(rate=5.0, seconds=30.0, timeout=10.0)))
    assert mean(answered) >= 140


def test_hours_in_which_both_often_fail_lose_almost_nothing() -> None:
    luck = random.Random(1)
    driver = Driver({"a": grey(0.3, luck), "b": grey(0.3, luck)}, seed=1)
    runs = driver.calls(rate=0.5, seconds=1200.0, timeout=20.0)
    assert sum(run.answered for run in runs) >= 0.99 * len(runs)


# --- what is nobody's fault ---


def test_when_every_connection_is_refused_it_is_our_own_network() -> None:
    gone = [down(25.0, since=20.0, fault=REFUSED) for _ in "ab"]
    driver = Driver(dict(zip("ab", gone, strict=True)))
    runs = driver.calls(rate=4.0, seconds=40.0, timeout=10.0)
    assert all(run.answered for run in runs)
    assert all(health.success_rate > 0.9 for health in driver.pool.snapshot(driver.now))
    assert all(run.by == "a" for run in runs if run.began >= 26.0), "and nobody has to earn anything back"


def test_a_process_that_stood_still_blames_nobody() -> None:
    world = World("a", "b")
    world.answer("a", times=30)
    before = world.health("a")
    calls = [world.start(streaming=True, timeout=10.0) for _ in range(20)]
    world.now += 60.0
    for attempt in calls:
        assert world.rescue(attempt) is None
        if attempt.number == 1 and world.now < attempt.ask.deadline:
            world.fail(attempt, FaultKind.TIMEOUT)
        else:
            world.expire(attempt)
    after = world.health("a")
    assert (after.breaker, after.samples) == (before.breaker, before.samples)
    assert after.success_rate == pytest.approx(before.success_rate, abs=0.02)
    assert after.first_token_p95 == before.first_token_p95


def test_a_rescue_that_is_asked_for_late_is_put_off_and_blames_nobody() -> None:
    world = World("a", "b")
    world.answer("a", times=30)
    world.now += 0.01
    attempts = [world.start(streaming=True) for _ in range(3)]
    due = attempts[0].rescue_after
    assert due is not None
    world.now += due + 5.0
    for attempt in attempts:
        assert world.rescue(attempt) is None
        assert attempt.rescue_after == pytest.approx(2.0 * due + 5.0)
        assert not attempt.late(world.now)
    assert world.breaker("a") == "closed"


def test_a_timer_that_was_reported_late_proves_nothing() -> None:
    world = World("a", "b")
    for _ in range(20):
        attempt = world.start(streaming=True)
        world.now += attempt.timeout + 5.0
        world.fail(attempt, FaultKind.TIMEOUT)
    assert world.breaker("a") == "closed"
    assert world.health("a").samples == 0


def test_an_answer_read_late_is_no_slow_answer() -> None:
    world = World("a", "b")
    world.answer("a", times=40)
    usual = world.health("a").first_token_p95
    for _ in range(20):
        attempt = world.start(streaming=True)
        world.speak(attempt, after=30.0)
        world.succeed(attempt)
    assert world.breaker("a") == "closed"
    assert world.health("a").first_token_p95 == usual
    for _ in range(5):
        world.succeed(world.start(timeout=20.0), after=40.0)
    assert world.health("a").answer_p95 is None, "nor is a whole one"


# --- the last resort ---


@pytest.mark.parametrize(("fault", "least"), [(FAILS, 20), (DOWN, 6)])
def test_a_call_that_waits_alone_makes_about_one_trial_a_second(fault: Fault, least: int) -> None:
    """Fewer where a provider has no room, which more requests make worse."""
    driver = Driver({name: down(1e9, fault=fault) for name in "abc"}, retry=Retry(max_down_wait=60.0))
    driver.calls(rate=1.0, seconds=10.0, timeout=10.0)
    begun = len(driver.requests)
    driver.one(timeout=30.0)
    assert least <= len(driver.requests) - begun <= 40


def test_however_many_wait_no_more_is_asked_than_once_for_each() -> None:
    """A call that would be given up untried is sent somewhere once; an SDK would ask three times."""
    driver = Driver({name: down(60.0) for name in "ab"})
    runs = driver.calls(rate=20.0, seconds=60.0, timeout=10.0)
    asked = [when for when, _, _ in driver.requests if 10.0 <= when < 50.0]
    assert len(asked) <= 1.1 * len([run for run in runs if 10.0 <= run.began < 50.0])


def test_everybody_who_waits_follows_the_trial_that_succeeds() -> None:
    driver = Driver({name: down(6.0) for name in "ab"})
    runs = driver.calls(rate=20.0, seconds=6.0, timeout=30.0)
    assert all(run.answered for run in runs)
    assert max(run.ended for run in runs) <= 10.0


def test_behind_an_outage_of_everybody_nobody_waits_longer_than_ten_seconds() -> None:
    driver = Driver({name: down(1e9) for name in "ab"})
    runs = driver.calls(rate=2.0, seconds=60.0, timeout=600.0)
    late = [run for run in runs if run.began > 20.0]
    assert max(run.took for run in late) <= 16.0
    assert all(not isinstance(run.end, DeadlineExceeded) for run in late), "no time ran out"


def test_who_does_not_want_to_wait_for_an_outage_is_told_at_once() -> None:
    driver = Driver({name: down(1e9) for name in "ab"})
    driver.calls(rate=2.0, seconds=30.0, timeout=10.0)
    runs = [driver.begin(driver.now + 0.05 * index, 10.0, when_down="fail") for index in range(10)]
    driver.run()
    told = [run for run in runs if isinstance(run.end, NoProviderAvailable)]
    assert len(told) >= 5
    assert all(run.took < 1.0 for run in runs)
    for run in told:
        assert isinstance(run.end, NoProviderAvailable)
        assert run.end.reasons == {"a": "breaker open", "b": "breaker open"}
        assert run.end.retry_after is not None
