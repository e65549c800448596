"""What the end of an attempt means: for the breaker once, and nothing if it came too late."""

from __future__ import annotations

import itertools
import math

import pytest

from resilient_llm import events
from resilient_llm.decide.attempt import Attempt
from resilient_llm.decide.breaker import State
from resilient_llm.decide.call import Wait
from resilient_llm.decide.verdict import LOCAL_WINDOW
from resilient_llm.errors import FaultKind
from tests.decide.world import Target, World

# --- generations ---


def test_fifty_calls_in_flight_that_fail_together_open_the_breaker_once() -> None:
    world = World("a", "b")
    for attempt in [world.start(only="a") for _ in range(50)]:
        world.fail(attempt)
    assert world.changes() == [("a", "closed", "softly_open")]
    assert world.breaker("b") == "closed"


def test_a_late_failure_from_before_the_outage_does_not_open_it_again() -> None:
    world = World("a", "b")
    overhang = [world.start(only="a") for _ in range(20)]
    world.half_break("a")
    world.until_trial("a")
    for _ in range(2):
        world.succeed(world.start(only="a"), after=0.1)
    assert world.breaker("a") == "closed"
    for attempt in overhang:
        world.fail(attempt)
    assert world.breaker("a") == "closed"
    assert world.health("a").success_rate < 0.5, "but its record knows"


def test_a_late_success_from_before_the_outage_does_not_close_it() -> None:
    world = World("a", "b")
    overhang = [world.start(only="a", streaming=index < 5) for index in range(10)]
    world.trip("a")
    world.events()
    for attempt in overhang:
        world.speak(attempt)
        world.succeed(attempt)
    assert world.breaker("a") == "open"
    assert world.changes() == []


def test_a_verdict_that_came_too_late_is_told_to_listeners() -> None:
    for listening in (True, False):
        world = World("a", "b")
        world.pool.listen(listening)
        late = world.start(only="a")
        world.half_break("a")
        world.events()
        world.fail(late)
        told = [(event.what, event.reason) for event in world.events(events.NotTaken)]
        assert told == [("verdict", "stale")] * listening


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("ends", list(itertools.product(["succeed", "fail", "abandon"], repeat=3)), ids="-".join)
def test_in_whatever_order_attempts_end_the_books_balance(order: tuple[int, ...], ends: tuple[str, ...]) -> None:
    world = World("a")
    attempts = [world.start() for _ in range(3)]
    for index in order:
        getattr(world, ends[index])(attempts[index])
        for again in ("succeed", "fail", "abandon"):
            getattr(world, again)(attempts[index])
    health = world.health("a")
    assert health.in_flight == 0
    assert health.samples == 3 - ends.count("abandon")


# --- trials ---


def on_trial(*tiers: str, streaming: bool = False) -> tuple[World, object]:
    world = World(*(tiers or ("a", "b")))
    world.half_break("a")
    world.until_trial("a")
    trial = world.start(streaming=streaming)
    assert (trial.target.id, trial.kind) == ("a", "trial")
    return world, trial


def test_fifty_callers_at_the_end_of_the_wait_send_one_trial() -> None:
    world = World("a", "b")
    world.half_break("a")
    world.until_trial("a")
    begun = [world.start() for _ in range(50)]
    assert [attempt.kind for attempt in begun] == ["trial"] + ["initial"] * 49
    assert {attempt.target.id for attempt in begun[1:]} == {"b"}


@pytest.mark.parametrize("end", ["abandoned", "later", "gated"])
def test_a_trial_without_a_verdict_gives_its_place_to_the_next_caller(end: str) -> None:
    world = World("a", "b")
    world.half_break("a")
    world.until_trial("a")
    trial = world.start()
    if end == "later":
        world.pool.abandon_later(trial)
    elif end == "gated":
        world.fail(trial, FaultKind.RATE_LIMITED, retry_after=5.0)
        world.now += 6.25
    else:
        world.abandon(trial)
    assert world.health("a").in_flight == 0
    assert world.start().kind == "trial"


def test_a_trial_that_never_ends_loses_its_place() -> None:
    world = World("a", "b")
    world.half_break("a")
    world.until_trial("a")
    hanging = world.start(streaming=True)
    assert world.start(streaming=True).kind == "initial"
    world.now += 31.0
    assert world.start(streaming=True).kind == "trial"
    assert not hanging.released


def test_a_trial_is_judged_by_its_first_token_and_fails_over_if_it_fails() -> None:
    world = World("a", "b")
    world.half_break("a")
    world.until_trial("a")
    first = world.start(streaming=True)
    world.speak(first, after=0.1)
    second = world.start(streaming=True)
    assert second.kind == "trial", "a success makes the next call a trial"
    world.fail(second)
    assert world.start(world.call_of[second]).target.id == "b"
    assert world.breaker("a") == "softly_open"


def test_two_trials_give_the_traffic_back() -> None:
    world = World("a", "b")
    world.half_break("a")
    world.until_trial("a")
    world.events()
    for _ in range(2):
        world.succeed(world.start(), after=0.1)
    assert world.changes() == [("a", "softly_open", "closed")]
    assert world.start().target.id == "a"


def test_a_trial_of_who_breaks_streams_is_judged_at_its_end() -> None:
    world = World("a", "b")
    for _ in range(3):
        attempt = world.start(only="a", streaming=True)
        world.speak(attempt, after=0.1)
        world.now += 0.5
        world.fail(attempt, FaultKind.CONNECTION)
    assert world.breaker("a") == "softly_open"
    world.until_trial("a")
    world.pool._leases.hedges.tokens = 1.0  # what twenty calls earn
    trial = world.start(streaming=True)
    world.speak(trial, after=0.1)
    assert world.member("a").breaker.passed == 0
    world.succeed(trial, after=1.0)
    assert world.member("a").breaker.passed == 1


def test_one_answer_counts_once_though_it_spoke_and_ended() -> None:
    world = World("a", "b")
    world.half_break("a")
    world.until_trial("a")
    trial = world.start(streaming=True)
    world.speak(trial, after=0.1)
    world.succeed(trial, after=0.5)
    assert world.member("a").breaker.passed == 1


def test_a_trial_that_lost_its_race_runs_on_until_it_is_judged() -> None:
    world = World("a", "b")
    world.half_break("a")
    world.until_trial("a")
    trial = world.start(streaming=True, timeout=60.0)
    second = world.rescued(trial, after=trial.rescue_after or 0.0) if trial.rescue_after is not None else None
    if second is not None:
        world.succeed(second)
        assert world.overtake(trial)
    world.speak(trial)
    world.abandon(trial)
    assert world.member("a").breaker.passed == 1
    assert world.health("a").in_flight == 0


# --- slow and silent ---


def slowed() -> World:
    """A preferred provider that became ten times as slow."""
    world = World("a", "b")
    world.answer("a", times=40, first=0.2)
    world.answer("a", times=8, first=2.0)
    return world


def test_a_preferred_provider_that_became_slow_gives_way_until_it_is_fast_again() -> None:
    world = slowed()
    assert world.breaker("a") == "softly_open"
    assert world.health("a").breaker_reason == "it became much slower"
    assert world.start(streaming=True, unsuitable={"b": "no"}).target.id == "a", "rather a slow one than nobody"
    world.until_trial("a")
    trial = world.start(streaming=True)
    assert (trial.kind, trial.rescue_after) == ("trial", 0.0), "against slowness both start together"
    world.speak(trial, after=2.5)
    assert world.breaker("a") == "softly_open", "as slow as before: it has not passed"
    world.abandon(trial)
    for _ in range(100):
        if world.breaker("a") == "closed":
            break
        world.now += 1.0
        attempt = world.start(streaming=True)
        world.speak(attempt, after=0.2)
        world.succeed(attempt)
    assert world.breaker("a") == "closed"
    assert world.start(streaming=True).target.id == "a"


def closed_by_slow_trials(world: World, seconds: float = 2.5) -> bool:
    """Whether two trials that speak so late close it."""
    for _ in range(2):
        world.until_trial("a")
        trial = world.start(streaming=True)
        assert (trial.kind, trial.timeout > seconds) == ("trial", True)
        world.speak(trial, after=seconds)
        world.succeed(trial)
    return world.breaker("a") == "closed"


def test_what_has_been_slow_for_five_minutes_is_slow_for_good_and_not_avoided_for_it() -> None:
    world = slowed()
    assert not closed_by_slow_trials(world)
    world.now += 300.0
    assert closed_by_slow_trials(world)
    world.answer("a", first=2.5)
    assert world.breaker("a") == "closed", "one answer as slow as those that closed it"


def test_who_failed_has_passed_a_trial_however_slow_the_answer() -> None:
    world = World("a", "b")
    world.answer("a", times=40, first=0.2)
    world.half_break("a")
    assert closed_by_slow_trials(world, 0.9)


def test_slow_answers_of_calls_from_before_it_was_restored_open_nothing() -> None:
    world = World("a", "b")
    world.answer("a", times=40, first=0.2)
    old = [world.start(only="a", streaming=True) for _ in range(6)]
    world.pool.operate("a", "isolate", world.now)
    world.pool.operate("a", "restore", world.now)
    world.now += 2.0
    for attempt in old:
        world.speak(attempt)
    assert world.breaker("a") == "closed"
    fresh = world.start(only="a", streaming=True)
    world.speak(fresh, after=2.0)
    assert world.breaker("a") == "softly_open", "one that began since then shows it"


def test_a_stream_that_closed_the_breaker_at_its_first_content_counts_if_it_breaks_later() -> None:
    world = World("a", "b")
    world.half_break("a")
    for _ in range(2):
        world.until_trial("a")
        trial = world.start(streaming=True)
        world.speak(trial, after=0.1)
    assert world.breaker("a") == "closed"
    world.now += 1.0
    world.fail(trial)
    assert world.member("a").breaker.run == 1


def test_a_deadline_that_is_noticed_late_blames_nobody() -> None:
    for late, blamed in ((0.2, True), (0.3, False)):
        world = World("a", "b")
        world.answer("a", times=25, first=0.5)
        attempt = world.start(streaming=True, timeout=5.0)
        world.now += 5.0 + late
        world.expire(attempt)
        assert (world.member("a").breaker.run == 1) is blamed, late


def test_an_answer_that_proves_slowness_ends_a_run_of_failures() -> None:
    world = World("a")
    world.answer("a", times=40, first=0.2)
    while world.breaker("a") == "closed":
        slow = [world.start(streaming=True) for _ in range(3)]
        world.fail(world.start())
        world.now += 2.0
        for attempt in slow:
            world.speak(attempt)
            world.succeed(attempt)
    assert world.health("a").breaker_reason == "it became much slower"
    for _ in range(4):
        world.fail(world.start())
    assert world.breaker("a") == "softly_open", "four in a row are not five"


def silent() -> World:
    world = World("a", "b")
    world.answer("a", times=30, first=0.5)
    world.pool._leases.hedges.tokens = 10.0
    world.now += 0.01
    waiting = [world.start(streaming=True, timeout=60.0) for _ in range(3)]
    world.now += 1.0
    for attempt in waiting:
        world.rescue(attempt)
    return world


def test_a_silent_provider_loses_new_calls_before_anything_has_failed() -> None:
    world = silent()
    assert world.breaker("a") == "softly_open"
    assert world.health("a").breaker_reason == "it gives no sign of life"
    assert world.start(streaming=True).target.id == "b"


def test_one_that_answered_a_moment_ago_is_silent_once_nothing_was_heard_for_as_long_as_it_is_late() -> None:
    world = World("a", "b")
    world.answer("a", times=30, first=0.5)
    early = world.start(streaming=True, timeout=60.0)
    world.now += 0.1
    first, _ = (world.start(streaming=True, timeout=60.0) for _ in range(2))
    world.speak(early, after=0.3)
    last = world.start(streaming=True, timeout=60.0)
    world.rescue(first, after=0.7)
    assert world.health("a").breaker_reason == "it became much slower"
    assert not world.member("a").breaker.down
    world.rescue(last, after=0.3)
    assert world.member("a").breaker.down, "which makes a rescue beside it free"


def test_one_that_is_silent_is_tried_in_its_turn_where_everybody_is_down() -> None:
    world = silent()
    world.trip("b")
    tried = []
    for _ in range(4):
        world.now += 5.0
        attempt = world.start(timeout=60.0)
        tried.append(attempt.target.id)
        world.fail(attempt)
    assert sorted(tried) == ["a", "a", "b", "b"], "or it might be tried never"


def test_one_straggler_is_no_silence() -> None:
    world = World("a", "b")
    world.answer("a", times=30, first=0.5)
    world.rescue(world.start(streaming=True, timeout=60.0), after=1.0)
    assert world.breaker("a") == "closed"


def test_a_provider_that_was_not_silent_after_all_is_well_again_at_once() -> None:
    world = silent()
    waiting = [attempt for attempt in world.call_of if attempt.target.id == "a" and not attempt.released]
    world.events()
    assert len(waiting) > 1
    world.speak(waiting[0])
    assert world.changes() == [("a", "softly_open", "closed")]
    assert world.health("a").breaker_reason == "it was not silent after all"


# --- streams that stop ---


def reading(world: World, count: int, *, only: str | None = None) -> list[Attempt[Target]]:
    """Streams that have begun and whose callers wait for more."""
    streams = [world.start(only=only, streaming=True, timeout=60.0) for _ in range(count)]
    for stream in streams:
        world.speak(stream)
        stream.quiet_since = world.now
    return streams


def test_new_calls_go_elsewhere_where_most_streams_stopped_before_any_of_them_has_ended() -> None:
    world = World("a", "b")
    reading(world, 3)
    world.now += 1.9
    assert world.start().target.id == "a", "it is not known yet how long it pauses"
    world.now += 0.3
    assert world.start().target.id == "b"
    assert world.health("a").breaker_reason == "its streams stopped"


def test_streams_that_pause_as_usual_have_not_stopped() -> None:
    world = World("a", "b")
    for _ in range(20):
        (stream,) = reading(world, 1)
        world.call_of[stream].paused(stream, 2.0)
        world.succeed(stream, after=3.0)
    reading(world, 3)
    world.now += 5.9
    assert world.start().target.id == "a"
    world.now += 0.3
    assert world.start().target.id == "b"


@pytest.mark.parametrize(
    ("stopped", "others", "opens"), [(2, 0, False), (3, 0, True), (3, 3, False), (4, 3, True)], ids=str
)
def test_three_streams_and_most_of_them_must_stop(stopped: int, others: int, opens: bool) -> None:
    world = World("a", "b")
    reading(world, stopped)
    speaking = reading(world, others)
    world.now += 3.0
    for stream in speaking:
        stream.quiet_since = world.now - 0.1
    assert world.start().target.id == ("b" if opens else "a")


def test_open_streams_are_looked_at_four_times_a_second_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    world, looks = World("a", "b"), []
    monkeypatch.setattr(world.pool._verdicts, "_look_at_streams", lambda member, now: looks.append(now))
    reading(world, 3)
    looks.clear()
    for _ in range(100):
        world.now += 0.01
        world.abandon(world.start())
    assert 3 <= len(looks) <= 4


def test_streams_that_have_only_just_begun_do_not_speak_for_their_provider() -> None:
    world = World("a", "b")
    reading(world, 3)
    world.now += 1.9
    reading(world, 9)
    world.now += 0.3
    assert world.start().target.id == "b"


def test_streams_are_counted_from_the_last_one_that_was_answered() -> None:
    world = World("a", "b")
    reading(world, 2)
    world.now += 0.1
    world.succeed(world.start(streaming=True, timeout=60.0))
    world.now += 0.1
    reading(world, 2)
    world.now += 3.0
    assert world.start().target.id == "a", "four are left over from many that were answered"
    reading(world, 1)
    world.now += 3.0
    assert world.start().target.id == "b"


def test_a_stream_that_nobody_reads_has_not_stopped() -> None:
    world = World("a", "b")
    for stream in reading(world, 5):
        stream.quiet_since = math.inf
    world.now += 30.0
    assert world.start().target.id == "a"
    reading(world, 3)
    world.now += 2.5
    assert world.start().target.id == "b", "nor does it go on"


def test_streams_that_go_on_make_it_void_and_leave_no_trace() -> None:
    world = World("a", "b")
    streams = reading(world, 3)
    world.now += 2.5
    assert world.start().target.id == "b"
    world.now += 0.5
    streams[1].quiet_since = world.now
    assert world.start().target.id == "a"
    assert world.health("a").breaker_reason == "it was not silent after all"
    assert world.member("a").breaker.needed == world.pool.policies.breaker.successes


def test_only_a_stream_that_had_stopped_makes_it_void() -> None:
    """One that was asked before, begins only now, and stops as well, shows nothing."""
    world = World("a", "b")
    slow = world.start(streaming=True, timeout=60.0)
    reading(world, 3)
    world.now += 2.5
    assert world.start().target.id == "b"
    world.now += 0.5
    world.speak(slow)
    slow.quiet_since = world.now
    assert world.start().target.id == "b"


def test_a_stream_that_had_stopped_and_ends_well_makes_it_void_before_anybody_looks() -> None:
    world = World("a", "b")
    streams = reading(world, 3)
    world.now += 2.5
    assert world.start().target.id == "b"
    world.now += 0.1
    world.succeed(streams[0])
    assert world.breaker("a") == "closed"


def test_a_stream_that_had_stopped_an_outage_ago_makes_nothing_void() -> None:
    world = World("a", "b")
    first = reading(world, 4)
    world.now += 2.5
    assert world.start().target.id == "b"
    world.now += 0.3
    first[0].quiet_since = first[1].quiet_since = world.now
    assert world.start().target.id == "a"
    for stream in first[2:]:
        world.abandon(stream)
    world.now += 0.1
    reading(world, 4)
    world.now += 2.5
    first[1].quiet_since = world.now - 0.1
    assert world.start().target.id == "b"
    world.now += 0.3
    first[1].quiet_since = world.now
    assert world.start().target.id == "b", "it goes on as before"


def test_trials_of_one_whose_streams_stopped_are_judged_at_the_end() -> None:
    world = World("a", "b")
    streams = reading(world, 3)
    world.now += 2.5
    assert world.start().target.id == "b"
    for stream in streams:
        world.expire(stream, silence=60.0)
    world.now += 30.0
    world.pool._leases.hedges.tokens = 10.0
    trial = world.start(streaming=True, timeout=60.0)
    assert (trial.target.id, trial.kind) == ("a", "trial")
    world.speak(trial)
    assert world.member("a").breaker.passed == 0
    world.expire(trial, silence=60.0)
    assert world.breaker("a") == "softly_open"


def half_stopped(world: World, seconds: float) -> list[Attempt[Target]]:
    """Four streams stop, and as many go on for so many seconds and longer."""
    stopped, others = reading(world, 4), reading(world, 4)
    for _ in range(math.ceil(4.0 * seconds)):
        world.now += 0.25
        for stream in others:
            stream.quiet_since = world.now - 0.1
        world.abandon(world.start(streaming=True, timeout=60.0))
    return stopped


def test_streams_that_stop_while_others_go_on_have_failed_before_they_end() -> None:
    """Half of the streams stop: the others show that the provider is not silent, and those that stopped would end half
    a minute later."""
    world = World("a", "b")
    half_stopped(world, 3.75)
    assert world.breaker("a") == "closed"
    half_stopped(world, 4.0)
    assert world.breaker("a") == "softly_open"
    assert world.health("a").breaker_reason == "it failed too often"
    assert world.start().target.id == "b"


@pytest.mark.parametrize("well", [True, False])
def test_a_stream_that_stopped_is_judged_once(well: bool) -> None:
    world = World("a", "b")
    stream, other = reading(world, 2)
    for _ in range(20):
        world.now += 0.25
        other.quiet_since = world.now - 0.1
        world.abandon(world.start(streaming=True, timeout=60.0))
    breaker, statistics = world.member("a").breaker, world.member("a").statistics
    assert (breaker.run, statistics.samples) == (1, 1)
    level, rate = breaker._level, statistics.success_rate(world.now)
    assert rate < 1.0
    if well:
        world.succeed(stream)
    else:
        world.expire(stream, silence=60.0)
    assert (breaker.run, breaker._level) == (1, level)
    assert (statistics.samples, statistics.success_rate(world.now)) == (1, rate)


@pytest.mark.parametrize("silence", [2.5, 4.5])
def test_what_began_before_streams_stopped_counts_when_that_is_void(silence: float) -> None:
    """Or a provider that stalls half of its streams would lose and regain its traffic again and again, and no stream
    that it broke would count."""
    world = World("a", "b")
    streams = reading(world, 8)
    world.fail(streams.pop(), FaultKind.SERVER_ERROR, status=500)
    breaker = world.member("a").breaker
    level = breaker._level
    world.now += silence
    assert world.start().target.id == "b"
    assert breaker._level == level > 0.0
    world.now += 0.2
    streams[-1].quiet_since = world.now
    world.pool._verdicts._look_at_streams(world.member("a"), world.now)
    assert (breaker.state, breaker._level) == (State.CLOSED, level)
    for stream in streams[:4]:
        world.expire(stream, silence=60.0)
    assert world.breaker("a") == "softly_open"
    assert world.health("a").breaker_reason == "it failed too often"


def test_a_process_that_stood_still_blames_no_stream() -> None:
    world = World("a", "b")
    for _ in range(200):
        world.now += 0.01
        world.succeed(world.start())
    world.now += 0.01
    reading(world, 5)
    world.now += 4.0
    assert world.start().target.id == "a"


def test_an_answer_judged_at_its_first_content_proves_nothing_after_the_breaker_moved_on() -> None:
    world = World("a", "b")
    world.half_break("a")
    world.until_trial("a")
    trial = world.start(streaming=True)
    world.speak(trial, after=0.1)
    world.pool.operate("a", "isolate", world.now)
    world.pool.operate("a", "restore", world.now)
    for _ in range(2):
        world.now += 0.1
        world.fail(world.start(only="a"))
    world.succeed(trial, after=0.1)
    assert world.member("a").breaker.run == 2, "it began before the person restored it"


# --- our own network ---


def refuse(world: World, provider: str, kind: FaultKind = FaultKind.CONNECTION) -> None:
    world.fail(world.start(only=provider), kind, code="not_sent")


@pytest.mark.parametrize("kind", [FaultKind.CONNECTION, FaultKind.TIMEOUT])
def test_when_every_provider_refuses_connections_or_none_can_be_made_in_time_it_is_us(kind: FaultKind) -> None:
    world = World("a", "b")
    refuse(world, "a", kind)
    for _ in range(10):
        refuse(world, "b", kind)
        refuse(world, "a", kind)
    assert world.health("a").samples == 1, "the first one could not know"
    assert world.health("b").samples == 0
    assert world.breaker("a") == world.breaker("b") == "closed"


def test_two_that_refuse_at_different_times_have_failed_themselves() -> None:
    world = World("a", "b")
    refuse(world, "a")
    world.now += LOCAL_WINDOW + 0.1
    refuse(world, "b")
    assert world.health("b").samples == 1


@pytest.mark.parametrize("sign", ["an error", "an answer"])
def test_who_was_heard_of_since_shows_that_our_network_is_there(sign: str) -> None:
    """Two providers that refused connections one after the other: the second was asked for five seconds more, although
    the first had begun to answer with errors."""
    world = World("a", "b")
    refuse(world, "a")
    world.now += 1.0
    if sign == "an error":
        world.fail(world.start(only="a"), status=500)
    else:
        world.succeed(world.start(only="a"), after=0.1)
    refuse(world, "b")
    assert world.health("b").samples == 1


@pytest.mark.parametrize("kind", [FaultKind.CONNECTION, FaultKind.TIMEOUT])
def test_connections_that_are_not_made_in_time_are_failures_and_no_slowness_of_a_model_nobody_knows(
    kind: FaultKind,
) -> None:
    """A host that takes connections and never answers the TLS handshake cost each call five seconds, for ever."""
    world = World("a", "b")
    for _ in range(3):
        attempt = world.start(only="a")
        world.now += 5.0
        world.fail(attempt, kind, code="not_sent")
    assert world.breaker("a") == "softly_open"
    assert not world.member("a").breaker.crowded
    assert world.member("a").breaker.together, "a trial would cost its caller as much: somebody well starts beside it"


def test_a_lone_provider_that_refuses_has_failed() -> None:
    world = World("a")
    refuse(world, "a")
    assert world.health("a").samples == 1


# --- gates ---


@pytest.mark.parametrize(("hint", "later"), [(None, None), (None, 30.0), (20.0, None)])
def test_a_call_that_waited_a_quarter_of_its_time_is_sent_unless_the_provider_said_when(
    hint: float | None, later: float | None
) -> None:
    world = World("a")
    world.gate("a", None)
    world.now += 1.3
    first, call = world.start(timeout=60.0), world.call(timeout=40.0)
    world.told_to_wait(call)
    world.now += 9.0
    world.fail(first, FaultKind.RATE_LIMITED, status=429, retry_after=hint)
    world.now = call.started + 10.0
    if hint is None:
        sent, key = world.start(call), world.member("a").keys[0]
        assert sent.insists
        until, row = key.gate.until, key.pace.row
        world.now += 0.1
        world.fail(sent, FaultKind.RATE_LIMITED, status=429, retry_after=later)
        assert key.pace.row == row, "it proves nothing"
        assert (key.gate.until > until) is (later is not None), "but what the provider says holds"
    else:
        world.told_to_wait(call)


@pytest.mark.parametrize(
    ("kind", "code", "opens"),
    [
        (FaultKind.SERVER_ERROR, "", True),
        (FaultKind.CONNECTION, "", True),
        (FaultKind.CONNECTION, "not_sent", False),
        (FaultKind.TIMEOUT, "", False),
    ],
)
def test_a_call_that_failed_was_let_through_by_its_rate_limit(kind: FaultKind, code: str, opens: bool) -> None:
    """Refused for a long time, a line of calls would else go on one by one although nobody is refused any more."""
    world = World("a")
    world.gate("a", 2.0)
    world.now += 2.5
    world.fail(world.start(), FaultKind.RATE_LIMITED, status=429, retry_after=2.0)
    until = world.member("a").gate.until
    world.now += 2.5
    world.fail(world.start(), kind, code=code)
    pace = world.member("a").keys[0].pace
    assert (pace.row, pace.ramp is None, world.member("a").gate.until) == (
        (0, True, -math.inf) if opens else (2, False, until)
    )


def test_a_wrong_key_bars_every_provider_of_the_account_and_a_missing_model_only_its_own() -> None:
    world = World(Target("a", account="x"), Target("b", account="x"), Target("c", account="y"))
    world.fail(world.start(only="a"), FaultKind.NOT_FOUND_MODEL)
    assert world.explain() == {"a": "quota or credentials (not_found_model) for 57 s more", "b": None, "c": None}
    world.fail(world.start(only="b"), FaultKind.AUTH)
    assert world.explain()["a"] is not None
    assert world.explain()["b"] is not None
    assert world.explain()["c"] is None
    closed = world.events(events.GateClosed)
    assert [(event.provider, event.reason, event.slow) for event in closed] == [
        ("a", "not_found_model", True),
        ("b", "auth", True),
    ]


def test_a_key_that_is_asked_for_each_time_closes_no_gate() -> None:
    world = World(Target("a", account="x", key_is_fixed=False))
    world.fail(world.start(), FaultKind.AUTH)
    assert world.explain() == {"a": None}
    world.fail(world.start(), FaultKind.QUOTA_EXHAUSTED)
    assert world.explain()["a"] is not None, "quota is another matter"


def test_exhausted_quota_is_tried_again_by_one_call_at_a_time() -> None:
    world = World(Target("a", account="x"), "b")
    world.fail(world.start(only="a"), FaultKind.QUOTA_EXHAUSTED)
    world.now += 61.0
    first = world.start()
    assert first.target.id == "a"
    assert world.start().target.id == "b"
    world.abandon(first)
    again = world.start()
    assert again.target.id == "a"
    world.succeed(again)
    assert world.start().target.id == "a"
    assert world.health("a").gate_open_in is None


def test_a_hint_that_is_not_to_be_trusted_is_not() -> None:
    world = World("a")
    world.fail(world.start(), FaultKind.QUOTA_EXHAUSTED, retry_after=600.0, trust_hint=False)
    assert (world.health("a").gate_open_in or 0.0) <= 60.0


def test_fifty_calls_refused_together_close_the_gate_once_and_for_a_moment() -> None:
    world = World("a", "b")
    for attempt in [world.start(only="a") for _ in range(50)]:
        world.fail(attempt, FaultKind.RATE_LIMITED)
    assert world.health("a").gate_open_in == pytest.approx(0.5625)
    assert world.health("a").success_rate == pytest.approx(0.95), "a rate limit is not illness"


REFUSALS = [FaultKind.AUTH, FaultKind.PERMISSION, FaultKind.NOT_FOUND_MODEL, FaultKind.QUOTA_EXHAUSTED]


@pytest.mark.parametrize("kind", REFUSALS)
def test_a_refusal_by_chance_is_a_failure_like_any_other(kind: FaultKind) -> None:
    world = World("a", "b")
    world.fail(world.start(only="a"), kind)
    assert world.explain()["a"] is not None
    world.now += 1.0
    world.succeed(world.start(only="a"))
    call = world.call(only="a")
    world.fail(world.start(call), kind)
    assert world.explain()["a"] is None, "its gate stays open"
    assert world.member("a").breaker.run == 1
    step = call.next_attempt(world.now)
    assert isinstance(step, Wait)
    assert step.reason == "backoff"
    world.now += step.seconds
    assert world.start(call).target.id == "a"


def test_a_key_refused_by_chance_is_left_for_another_one_while_there_is_one() -> None:
    world = World(Target("a", pool=2))
    for key in world.member("a").keys:
        key.slow.refused(world.now)
        key.slow.answered(world.now, world.now)
    call = world.call()
    first = world.start(call)
    world.fail(first, FaultKind.AUTH)
    assert first.key.slow.strikes == 1
    assert world.member("a").breaker.run == 0
    second = world.start(call)
    world.fail(second, FaultKind.AUTH)
    assert (second.key is not first.key, second.key.slow.strikes) == (True, 0)
    assert world.member("a").breaker.run == 1


@pytest.mark.parametrize(
    ("answers", "silent", "level"),
    [(30, 3.9, False), (30, 4.1, True), (5, 7.0, False)],
)
def test_half_a_failure_is_an_attempt_that_its_deadline_ended_after_nearly_all_answers_have_begun(
    answers: int, silent: float, level: bool
) -> None:
    """Where callers leave less time than twice what answers take, a provider that hangs at every third call would never
    be late by its own measure, and keep its traffic."""
    world = World("a", "b")
    world.answer("a", times=answers, first=4.0)
    attempt = world.start(streaming=True, timeout=silent)
    world.now += silent
    world.expire(attempt)
    assert (world.member("a").breaker._level > 0.0) is level
    assert world.member("a").breaker.run == 0


def test_a_stream_that_is_merely_long_and_a_key_that_is_slow_are_no_fault_of_the_provider() -> None:
    world = World("a", "b")
    world.answer("a", times=30, first=4.0)
    stream, keyless = (world.start(only="a", streaming=True, timeout=20.0) for _ in range(2))
    world.call_of[keyless].asking(keyless, world.now)
    world.speak(stream, after=1.0)
    world.now += 19.0
    world.expire(stream)
    world.expire(keyless)
    assert world.member("a").breaker._level == 0.0


def test_a_provider_that_hangs_often_is_found_out_though_deadlines_are_tight() -> None:
    world = World("a", "b")
    world.answer("a", times=30, first=4.0)
    for number in range(90):
        attempt = world.start(streaming=True, timeout=6.0)
        if attempt.target.id == "b":
            break
        world.now += 6.0
        if number % 3:
            world.succeed(attempt)
        else:
            world.expire(attempt)
    assert world.breaker("a") == "softly_open"
    assert number <= 60
