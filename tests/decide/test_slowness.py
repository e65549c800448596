"""A provider that queues what it cannot do, and says nothing: it keeps what it can do, and no more."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient_llm.decide.slowness import Slowness
from tests.decide.world import Target, World

Seconds = Callable[[random.Random], float]


def usual(dice: random.Random) -> float:
    """How long a provider takes to a first token: most often half a second, and sometimes three."""
    return 0.6 * dice.lognormvariate(0.0, 0.5)


class Came(NamedTuple):
    """A call: when it came, whether it was turned away, and how long its answer took."""

    at: float
    away: bool
    took: float


class Server:
    """A provider with ``room`` for so many answers at a time (``None``: any number), which queues the others."""

    def __init__(self, room: int | None, takes: Seconds = usual, seed: int = 1) -> None:
        self.subject = Slowness()
        self.room = room
        self.takes = takes
        self.now = 0.0
        self._dice = random.Random(seed)
        self._free: list[float] = [0.0] * (room or 0)
        self._waiting: list[tuple[float, float, bool]] = []

    def offered(self, rate: float, seconds: float) -> list[Came]:
        """What becomes of so many calls a second."""
        ends, found = self.now + seconds, list[Came]()
        while True:
            self.now += self._dice.expovariate(rate)
            if self.now > ends:
                self.now = ends
                return found
            self._answer()
            away = self.subject.suspected and self.subject.turns_away(len(self._waiting), self.now)
            found.append(Came(self.now, away, 0.0 if away else self._send()))

    def _send(self) -> float:
        calm, took = self.subject.sent(len(self._waiting), self.now), self.takes(self._dice)
        if self.room is not None:
            begins = max(self.now, heapq.heappop(self._free))
            heapq.heappush(self._free, begins + took)
            took += begins - self.now
        heapq.heappush(self._waiting, (self.now + took, self.now, calm))
        return took

    def _answer(self) -> None:
        while self._waiting and self._waiting[0][0] <= self.now:
            done, began, calm = heapq.heappop(self._waiting)
            self.subject.spoke(done - began, 1.0, 0.0, done, calm=calm)


def away(calls: list[Came]) -> float:
    """The share that was turned away."""
    return sum(one.away for one in calls) / len(calls)


def median(calls: list[Came]) -> float:
    """How long those that were sent usually took."""
    took = sorted(one.took for one in calls if not one.away)
    return took[len(took) // 2]


# --- nobody queues ---


@pytest.mark.parametrize("rate", [0.1, 1.0, 10.0, 50.0])
def test_where_nobody_queues_nobody_is_turned_away(rate: float) -> None:
    assert away(Server(None).offered(rate, max(600.0 / rate, 120.0))) == 0.0


def test_traffic_that_grows_tenfold_is_no_queue() -> None:
    server = Server(None)
    server.offered(2.0, 60.0)
    assert away(server.offered(20.0, 60.0)) == 0.0


def test_calls_that_come_all_at_once_are_no_queue() -> None:
    server = Server(None)
    for _ in range(50):
        server.offered(1.0, 20.0)
        server.offered(400.0, 0.1)
    assert not server.subject.suspected


@pytest.mark.parametrize("seconds", [0.05, 8.0, 60.0])
def test_a_model_that_is_quick_or_thinks_for_long_has_no_queue(seconds: float) -> None:
    server = Server(None, lambda dice: seconds * dice.lognormvariate(0.0, 0.3))
    assert away(server.offered(2.0, 600.0)) == 0.0


@pytest.mark.parametrize("seconds", [8.0, 20.0])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9])
@pytest.mark.parametrize("rate", [0.5, 2.0, 5.0])
def test_a_model_that_thinks_before_some_of_its_answers_has_no_queue(rate: float, share: float, seconds: float) -> None:
    server = Server(None, lambda dice: usual(dice) + (seconds if dice.random() < share else 0.0))
    assert away(server.offered(rate, 600.0)) < 0.02


def test_stragglers_are_no_queue() -> None:
    server = Server(None, lambda dice: usual(dice) * (10.0 if dice.random() < 0.05 else 1.0))
    assert away(server.offered(5.0, 600.0)) < 0.02


# --- it is too much ---


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("load", [1.5, 3.0])
def test_what_is_too_much_is_turned_away_and_the_rest_is_answered_as_usual(load: float, seed: int) -> None:
    server = Server(6, seed=seed)
    can = 6 / 0.68  # answers a second: the mean is 0.68 s
    before = server.offered(0.5 * can, 120.0)
    server.offered(load * can, 60.0)  # until it is noticed
    calls = server.offered(load * can, 300.0)
    assert 0.0 < away(calls) <= 1.3 * (1.0 - 1.0 / load) + 0.05
    assert median(calls) < 2.5 * median(before)


def test_it_has_its_traffic_back_when_it_is_not_too_much_any_more() -> None:
    server = Server(6)
    server.offered(4.0, 120.0)
    assert away(server.offered(18.0, 120.0)) > 0.3
    server.offered(4.0, 60.0)
    assert away(server.offered(4.0, 300.0)) == 0.0
    assert not server.subject.suspected


def test_a_call_with_little_time_left_is_turned_away_by_a_shorter_queue() -> None:
    server = Server(6)
    server.offered(4.0, 120.0)
    server.offered(18.0, 60.0)
    subject, now = server.subject, server.now
    assert subject.suspected
    subject.sent(0, now)
    assert not subject.full(4, now, left=10.0)
    assert subject.full(4, now, left=0.5)
    assert not subject.full(0, now, left=0.5), "one at which nobody waits is asked"


def test_it_is_noticed_although_it_is_too_much_from_the_first_call_on() -> None:
    server = Server(6)
    server.offered(18.0, 60.0)
    calls = server.offered(18.0, 300.0)
    assert away(calls) > 0.3
    assert median(calls) < 3.0


def test_it_is_saturated_no_more_when_its_answers_take_no_longer_though_more_come_than_it_was_sent() -> None:
    """What it answers a second is no more than it was sent, so that what it can do is not seen."""
    server = Server(6)
    server.offered(4.0, 120.0)
    server.offered(18.0, 60.0)
    subject, answers = server.subject, 0
    while subject.saturated and answers < 1000:
        answers, server.now = answers + 1, server.now + 0.1
        subject.spoke(0.5, 1.0, 0.0, server.now, calm=False)
        assert subject.turns_away(1000, server.now) == subject.saturated
    assert 300 <= answers < 330


def test_one_that_becomes_slower_for_good_has_its_traffic_back() -> None:
    server = Server(None)
    server.offered(5.0, 300.0)
    server.takes = lambda dice: 3.0 * usual(dice)
    assert away(server.offered(5.0, 60.0)) > 0.2
    server.offered(5.0, 900.0)
    assert away(server.offered(5.0, 300.0)) < 0.05


def test_the_first_calls_that_are_sent_tell_what_is_usual_and_not_the_first_that_are_answered() -> None:
    """Those sent later stand in the queue already, where it is too much from the first call on."""
    subject = Slowness()
    assert [subject.sent(waiting, 0.0) for waiting in range(1, 6)] == [True, True, True, False, False]


def test_first_calls_that_get_no_answer_leave_it_to_others_to_tell_what_is_usual() -> None:
    subject = Slowness()
    for _ in range(10):
        assert subject.sent(5, 0.0)
        subject.stayed_silent(1.0, 1.0)
    for _ in range(3):
        assert subject.sent(5, 1.0)
    assert not subject.sent(5, 1.0)


def test_who_gets_no_answer_counts_too() -> None:
    subject = Slowness()
    for _ in range(20):
        subject.spoke(1.0, 1.0, 0.0, 0.0, calm=True)
    for _ in range(3):
        subject.stayed_silent(0.5, 0.5)
    assert not subject.suspected, "it had no time to answer"
    for _ in range(10):
        subject.stayed_silent(10.0, 10.0)
    assert subject.suspected


def test_who_gets_no_answer_does_not_count_where_one_that_came_later_was_quick() -> None:
    subject = Slowness()
    for _ in range(20):
        subject.spoke(1.0, 1.0, 0.0, 1.0, calm=True)
    subject.spoke(0.5, 1.0, 0.0, 9.0, calm=False)
    for _ in range(10):
        subject.stayed_silent(10.0, 11.0)
    assert not subject.suspected
    for _ in range(10):
        subject.stayed_silent(10.0, 20.0)
    assert subject.suspected


def test_what_a_long_prompt_and_a_long_answer_take_is_no_queue() -> None:
    subject = Slowness()
    for number in range(200):
        scale, writing = 1.0 + number % 4, float(number % 10)
        subject.spoke(0.6 * scale + writing, scale, writing, 0.0, calm=True)
    assert not subject.suspected


@settings(max_examples=50)
@given(st.lists(st.tuples(st.sampled_from(["sent", "spoke", "none", "away"]), st.floats(0.0, 1e6)), max_size=60))
def test_an_idle_provider_is_always_asked_whatever_happened(steps: list[tuple[str, float]]) -> None:
    subject, now = Slowness(), 0.0
    for what, value in steps:
        now += min(value, 100.0)
        if what == "sent":
            subject.sent(int(value), now)
        elif what == "spoke":
            subject.spoke(value, 1.0, 0.0, now, calm=value < 10.0)
        elif what == "none":
            subject.stayed_silent(value, now)
        else:
            subject.turns_away(int(value), now)
        assert not subject.full(0, now)


@pytest.mark.parametrize("waits_for_key", [True, False])
def test_who_waits_for_a_key_does_not_wait_for_the_provider(waits_for_key: bool) -> None:
    world = World("a", "b")
    world.answer("a", 20, first=0.5)
    for _ in range(10):
        attempt = world.start(only="a", streaming=True)
        if waits_for_key:
            world.call_of[attempt].asking(attempt, world.now)
        world.now += 5.0
        world.abandon(attempt)
    assert world.member("a").slowness.suspected is not waits_for_key


# --- it has become slow ---


def took(subject: Slowness, seconds: float, sent_at: float) -> None:
    """Nobody queued, and an answer came after so many seconds."""
    subject.spoke(seconds, 1.0, 0.0, sent_at + seconds, calm=True)


def spread(base: float, index: int) -> float:
    return base * (0.7, 1.0, 1.4, 0.9, 1.2)[index % 5]


def test_a_model_that_thinks_before_some_of_its_answers_is_not_slow() -> None:
    subject, dice, raised = Slowness(), random.Random(1), 0
    for index in range(5000):
        took(subject, spread(1.0, index) + (20.0 if dice.random() < 0.2 else 0.0), index)
        raised += subject.slow
    assert raised <= 5


def answers(rate: float, seconds: float, takes: Callable[[random.Random, float], float]) -> list[tuple[float, float]]:
    """When the calls of some time were sent, and how long each took, in the order in which they are answered."""
    dice = random.Random(1)
    sent = [index / rate for index in range(int(rate * seconds))]
    return sorted(((at, takes(dice, at)) for at in sent), key=sum)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7])
def test_a_slow_answer_is_not_slow_where_calls_sent_later_are_answered_as_soon_as_ever(share: float) -> None:
    subject, raised = Slowness(), 0
    calls = answers(5.0, 600.0, lambda dice, _: dice.uniform(0.4, 0.9) + (20.0 if dice.random() < share else 0.0))
    for sent_at, seconds in calls:
        took(subject, seconds, sent_at)
        raised += subject.slow
    assert raised == 0


def test_a_lasting_slowdown_is_noticed_at_once_where_many_calls_are_under_way() -> None:
    subject, slow = Slowness(), 0
    for sent_at, seconds in answers(
        20.0, 120.0, lambda dice, at: dice.uniform(0.4, 0.9) * (10.0 if at > 60.0 else 1.0)
    ):
        slow += sent_at > 60.0
        took(subject, seconds, sent_at)
        if subject.slow:
            break
    assert 0 < slow <= 10


def test_ordinary_scatter_is_not_slow() -> None:
    subject = Slowness()
    for index in range(1000):
        took(subject, spread(1.0, index), index)
        assert not subject.slow


def test_a_lasting_slowdown_is_noticed_within_ten_calls_and_a_straggler_is_not() -> None:
    subject = Slowness()
    for index in range(100):
        took(subject, spread(1.0, index), index)
    took(subject, 8.0, 100)
    assert not subject.slow
    for index in range(20):
        took(subject, spread(1.0, index), 101 + index)
    for index in range(10):
        took(subject, spread(5.0, index), 121 + index)
    assert subject.slow


def test_a_shift_ends_when_latency_returns() -> None:
    subject = Slowness()
    for index in range(200):
        took(subject, spread(5.0 if 100 <= index < 120 else 1.0, index), index)
    assert not subject.slow


def test_a_latency_of_nothing_is_no_error() -> None:
    subject = Slowness()
    for index in range(30):
        took(subject, 0.0, index)
    assert not subject.slow


def test_a_few_milliseconds_more_are_no_shift_however_many_times_as_long() -> None:
    subject = Slowness()
    for index, seconds in enumerate([0.001] * 40 + [0.04] * 40):
        took(subject, seconds, index)
        assert not subject.slow
    for index in range(5):
        took(subject, 1.0, 80 + index)
    assert subject.slow


def test_a_latency_is_slow_only_against_a_known_usual_one() -> None:
    subject = Slowness()
    assert not subject.clearly(100.0), "nothing is usual yet"
    for index in range(30):
        took(subject, spread(1.0, index), index)
    assert subject.clearly(6.0)
    assert not subject.clearly(1.5)
    assert not subject.clearly(0.0)


def test_forgetting_begins_to_sum_up_anew() -> None:
    subject = Slowness()
    for index in range(60):
        took(subject, spread(1.0 if index < 40 else 10.0, index), index)
    assert subject.slow
    subject.over()
    assert not subject.slow
    took(subject, 1.0, 60)
    assert not subject.slow


# --- whom a call is sent to ---


def saturate(world: World, provider: str) -> None:
    """It answers somewhat later than it did, though not so late that its breaker opens, and ten calls wait there."""
    world.answer(provider, 20, first=0.5)
    waiting = [world.start(only=provider, streaming=True, batch=True) for _ in range(25)]
    world.now += 0.9
    for attempt in waiting[:15]:
        world.speak(attempt, after=0.005)
        world.succeed(attempt)
    assert world.member(provider).slowness.suspected
    assert world.breaker(provider) == "closed"


def saturated(*tiers: Target | str | list[str]) -> World:
    """``a`` has more to do than it can."""
    world = World(*tiers)
    saturate(world, "a")
    return world


def test_a_call_goes_to_the_next_tier() -> None:
    world = saturated("a", "b")
    assert world.start().member.id == "b"
    assert (world.breaker("a"), world.health("a").state) == ("closed", "degraded")
    assert world.explain() == {
        "a": "asked only while nobody better is there: more wait there than it answers at its usual speed",
        "b": None,
    }


def test_a_call_with_little_time_left_goes_to_the_next_tier_where_a_longer_one_does_not() -> None:
    world = saturated("a", "b")
    for attempt in [one for one in world.call_of if one in world.member("a").pending][1:]:
        world.abandon(attempt)
    for timeout, provider in ((100.0, "a"), (0.3, "b")):
        assert (world.explain(timeout=timeout)["a"] is None) is (provider == "a")
        attempt = world.start(timeout=timeout)
        assert attempt.member.id == provider
        world.abandon(attempt)


def test_equals_share_what_one_of_them_cannot_do() -> None:
    world = saturated(["a", "b"], "c")
    assert {world.start().member.id for _ in range(20)} == {"b"}


def test_where_nobody_else_can_be_asked_it_is_asked_all_the_same() -> None:
    for world in (saturated("a"), saturated("a", "b")):
        assert world.start(only="a").member.id == "a"
    world = saturated("a", "b")
    world.trip("b")
    assert world.start().member.id == "a"
    world = saturated("a", "b")
    world.gate("b")
    assert world.start().member.id == "a"


def test_of_two_that_have_as_much_to_do_the_preferred_one_is_asked() -> None:
    world = saturated("a", "b")
    saturate(world, "b")
    assert world.start().member.id == "a"


def test_one_where_nobody_waits_any_more_is_asked_as_before() -> None:
    world = saturated("a", "b")
    for attempt in list(world.call_of):
        world.succeed(attempt)
    world.now += 100.0
    assert [world.start().member.id for _ in range(3)] == ["a"] * 3


def test_of_several_that_have_too_much_to_do_the_one_is_asked_that_is_to_answer_soonest() -> None:
    world = World("a", "b")
    for provider in ("a", "b"):
        saturate(world, provider)
    for _ in range(10):
        world.start(only="a", streaming=True, batch=True)
    assert world.start().member.id == "b"


def test_a_person_who_restores_it_ends_that() -> None:
    world = saturated("a", "b")
    assert world.start().member.id == "b"
    world.pool.operate("a", "restore", world.now)
    assert world.health("a").state == "healthy"
    assert world.start().member.id == "a"
