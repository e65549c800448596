"""Who waits for a provider: first come, first served, and nobody is forgotten."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from resilient_llm.decide.ask import Ask
from resilient_llm.decide.attempt import Attempt
from resilient_llm.decide.call import Call, Wait
from resilient_llm.decide.line import OFFER, Line, Place
from resilient_llm.decide.outcome import Outcome
from resilient_llm.errors import ClientClosed, Fault, FaultKind, NoProviderAvailable
from resilient_llm.policy import Limits, Rate
from tests.decide.driver import Act, Driver, Run, acts, well
from tests.decide.world import HEAVY, MACHINE, PROPERTY, Target, World


def place(number: int, last: float = 1e9, needs: float = 0.0) -> Place:
    made = Place(number, Ask("main", last))
    made.needs = needs
    return made


def queue(*places: Place) -> Line:
    line = Line("a")
    for one in places:
        line.join(one)
        one.lines = (line,)
    return line


def offer(line: Line, to: Place, now: float) -> None:
    to.offer, to.woken, to.woken_at = line, True, now
    line.offers += 1


# --- one line ---


def test_the_order_is_that_of_arrival_and_not_of_joining() -> None:
    """Who comes back from a failed attempt loses nothing."""
    late, early = place(7), place(3)
    line = queue(late, early)
    assert line.waiting == [early, late]
    assert line.first(0.0) is early


def test_who_leaves_twice_leaves_once_and_frees_what_was_offered() -> None:
    one, two = place(1), place(2)
    line = queue(one, two)
    offer(line, one, 0.0)
    for _ in range(2):
        line.remove(one)
        assert (line.offers, len(line.waiting)) == (0, 1)


def test_who_has_an_offer_or_did_not_come_when_woken_is_not_the_first() -> None:
    one, two, three = place(1), place(2), place(3)
    line = queue(one, two, three)
    offer(line, one, 0.0)
    assert line.first(0.0) is two
    two.woken, two.woken_at = True, 0.0
    assert line.first(OFFER) is two
    assert line.first(OFFER + 0.001) is three, "its loop is blocked"


def test_who_can_no_longer_be_answered_in_time_goes_last() -> None:
    late, other = place(1, last=10.0, needs=5.0), place(2)
    line = queue(late, other)
    assert line.first(5.0) is late
    assert line.first(5.1) is other
    line.remove(other)
    assert line.first(5.1) is late, "but rather late than never"


def test_who_is_too_late_takes_no_room_from_the_others_when_its_own_timer_wakes_it() -> None:
    late, other = place(1, last=10.0, needs=5.0), place(2)
    line = queue(late, other)
    assert line.may_pass(1, late.ask, late, 5.0)
    assert not line.may_pass(1, late.ask, late, 5.1)
    line.remove(other)
    assert line.may_pass(1, late.ask, late, 5.1)


def test_where_all_are_too_late_nobody_waits_for_a_time_that_is_past() -> None:
    one, two = place(1, last=10.0, needs=5.0), place(2, last=11.0, needs=5.0)
    line = queue(one, two)
    assert line.gives_way_at(two, 4.0) == 5.0
    assert line.gives_way_at(two, 7.0) == float("inf")


def test_an_empty_line_has_no_first() -> None:
    assert queue().first(0.0) is None


def test_who_may_take_room_without_stepping_before_somebody() -> None:
    one, two = place(5), place(8)
    line = queue(one, two)
    assert queue().may_pass(99, Ask("main"), None, 0.0)
    assert line.may_pass(4, Ask("main"), None, 0.0), "it came earlier"
    assert not line.may_pass(6, Ask("main"), None, 0.0)
    assert line.may_pass(5, Ask("main"), one, 0.0)
    assert not line.may_pass(8, Ask("main"), two, 0.0)
    offer(line, two, 0.0)
    assert line.may_pass(8, Ask("main"), two, 0.0), "it was offered a place"
    offer(line, one, 0.0)
    assert line.may_pass(9, Ask("main"), None, 0.0), "everybody else has an offer"


def test_an_offer_not_taken_in_time_is_taken_back() -> None:
    one, two = place(1), place(2)
    line = queue(one, two)
    offer(line, one, 0.0)
    line.lapse(OFFER)
    assert one.offer is line
    line.lapse(OFFER + 0.001)
    assert one.offer is None
    assert line.offers == 0
    line.lapse(1.0)


def test_only_an_event_loop_needs_somebody_to_stand_by_and_of_another_loop() -> None:
    one, two, three = place(1), place(2), place(3)
    line = queue(one, two, three)
    assert line.standby(one) is None, "a thread that was woken runs"
    one.owner = two.owner = "loop"
    assert line.standby(one) is three
    three.owner = "loop"
    assert line.standby(one) is None


@PROPERTY
@given(
    numbers=st.lists(st.integers(0, 1000), unique=True, max_size=30),
    leave=st.sets(st.integers(0, 1000)),
    taken=st.sets(st.integers(0, 1000)),
    now=st.floats(0.0, 0.2),
)
def test_first_is_the_earliest_who_can_come_and_offers_are_counted(
    numbers: list[int], leave: set[int], taken: set[int], now: float
) -> None:
    line = queue(*(place(number) for number in numbers))
    for one in list(line.waiting):
        if one.number in taken:
            offer(line, one, 0.0)
    for one in list(line.waiting):
        if one.number in leave:
            line.remove(one)
    left = sorted(set(numbers) - leave)
    assert [one.number for one in line.waiting] == left
    assert line.offers == len(taken & set(left))
    first = line.first(now)
    free = [number for number in left if number not in taken]
    assert (first.number if first else None) == (free[0] if free else None)
    line.lapse(now)
    assert line.offers == (0 if now > OFFER else len(taken & set(left)))


# --- calls in line ---


def full(*tiers: str) -> tuple[World, Attempt[Target]]:
    """One place at the only provider, and that is taken."""
    world = World(Target("a", max_concurrency=1), *tiers)
    return world, world.start()


def waiting(world: World, woken: list[str], name: str, owner: object = None, **options: Any) -> Call[Target]:
    call = world.call(**options)
    step = world.told_to_wait(call)
    assert step.place is not None
    step.place.wake = lambda: woken.append(name)
    step.place.owner = owner
    return call


def test_room_is_offered_to_the_first_and_only_to_it() -> None:
    world, busy = full()
    woken: list[str] = []
    first, second = waiting(world, woken, "first"), waiting(world, woken, "second")
    assert world.health("a").waiting == 2
    world.succeed(busy)
    assert woken == ["first"]
    assert world.told_to_wait(second).reason == "line"
    assert world.start(first).target.id == "a"
    assert world.health("a").waiting == 1


def test_nobody_steps_before_those_who_wait() -> None:
    world, busy = full()
    woken: list[str] = []
    first = waiting(world, woken, "first")
    world.succeed(busy)
    newcomer = world.call()
    assert world.told_to_wait(newcomer).reason == "line"
    world.succeed(world.start(first))
    assert world.start(newcomer).target.id == "a"


@pytest.mark.parametrize("when", ["waiting", "offered"])
def test_who_goes_away_gives_its_place_to_the_next(when: str) -> None:
    world, busy = full()
    woken: list[str] = []
    first, second = waiting(world, woken, "first"), waiting(world, woken, "second")
    if when == "waiting":
        first.stopped_waiting(world.now)
        world.succeed(busy)
        assert woken == ["second"]
    else:
        world.succeed(busy)
        first.stopped_waiting(world.now)
        assert woken == ["first", "second"]
    first.stopped_waiting(world.now)
    assert world.start(second).target.id == "a"
    assert world.health("a").waiting == 0


def test_a_call_stands_in_several_lines_and_leaves_all_at_once() -> None:
    world = World(Target("a", max_concurrency=1), Target("b", max_concurrency=1))
    busy = [world.start(), world.start()]
    woken: list[str] = []
    call = waiting(world, woken, "it")
    assert [world.health(name).waiting for name in "ab"] == [1, 1]
    world.succeed(busy[1])
    assert world.start(call).target.id == "b"
    assert [world.health(name).waiting for name in "ab"] == [0, 0]


def test_an_offer_not_taken_within_fifty_milliseconds_passes_on() -> None:
    """The event loop of the one who was offered it is blocked; who stands by looks after it in time."""
    world, busy = full()
    woken: list[str] = []
    waiting(world, woken, "blocked", owner="loop 1")
    second = waiting(world, woken, "second", owner="loop 2")
    world.succeed(busy)
    assert woken == ["blocked", "second"]
    waited = 0.0
    while isinstance(step := second.next_attempt(world.now), Wait):
        waited += step.seconds
        world.now += step.seconds
        assert waited <= 2 * OFFER
    assert step.target.id == "a"


def test_who_was_blocked_still_stands_in_its_place_when_it_comes_back() -> None:
    world, busy = full()
    woken: list[str] = []
    blocked = waiting(world, woken, "blocked", owner="loop 1")
    second = waiting(world, woken, "second", owner="loop 2")
    third = waiting(world, woken, "third", owner="loop 2")
    world.succeed(busy)
    world.now += 0.06
    world.succeed(world.start(second))
    world.now += 1.0
    world.told_to_wait(blocked) if world.health("a").in_flight else world.start(blocked)
    assert third.records == []


def test_the_next_one_is_told_at_once_when_the_line_is_too_long() -> None:
    world = World(Target("a", max_concurrency=1), limits=Limits(max_queue=2))
    world.start()
    woken: list[str] = []
    for name in ("first", "second"):
        waiting(world, woken, name)
    with pytest.raises(NoProviderAvailable) as failure:
        world.call().next_attempt(world.now)
    assert failure.value.reasons == {"a": "as many wait in line for it as may (limits.max_queue)"}
    assert failure.value.retry_after is None


def test_who_stands_in_a_full_line_already_may_stay() -> None:
    world = World(Target("a", max_concurrency=1), limits=Limits(max_queue=1))
    world.start()
    call = world.call()
    for _ in range(3):
        assert world.told_to_wait(call).reason == "line"


def test_closing_the_client_wakes_everybody_who_waits() -> None:
    world, _ = full()
    woken: list[str] = []
    calls = [waiting(world, woken, name) for name in ("first", "second")]
    world.pool.close(world.now)
    assert woken == ["first", "second"]
    for call in calls:
        with pytest.raises(ClientClosed):
            call.next_attempt(world.now)
    assert world.health("a").waiting == 0


def test_who_may_wait_for_a_gate_only_until_it_is_first_is_woken_for_nothing_else() -> None:
    """Only the first in line has a timer for what time alone brings."""
    world = World("a")
    world.gate("a", 5.0)
    first, second = world.call(), world.call()
    assert world.told_to_wait(first).seconds == pytest.approx(5.125)
    assert world.told_to_wait(second).seconds == float("inf")


def test_when_the_first_goes_away_the_next_one_gets_the_timer() -> None:
    world = World("a")
    world.gate("a", 5.0)
    woken: list[str] = []
    first, second = waiting(world, woken, "first"), waiting(world, woken, "second")
    first.stopped_waiting(world.now)
    assert woken == ["second"]
    assert world.told_to_wait(second).seconds == pytest.approx(5.125)


def test_new_providers_wake_everybody_to_look_again() -> None:
    world, _ = full()
    woken: list[str] = []
    call = waiting(world, woken, "it")
    world.pool.replace({"main": [[Target("b")]]}, world.now)
    assert woken == ["it"]
    assert world.start(call).target.id == "b"


def test_restoring_wakes_who_waits_for_a_gate() -> None:
    world = World("a")
    world.gate("a", 100.0)
    woken: list[str] = []
    call = waiting(world, woken, "it")
    world.pool.operate("a", "restore", world.now)
    assert woken == ["it"]
    assert world.start(call).target.id == "a"


def test_a_limit_that_is_full_again_is_offered_to_as_many_as_it_takes() -> None:
    """A process that stood still for an hour wakes up with a long line and a full bucket of two."""
    world = World(Target("a", rates=(Rate(amount=2, per=2.0, unit="requests"),), max_concurrency=2))
    busy = [world.start(), world.start()]
    woken: list[str] = []
    for number in range(10):
        waiting(world, woken, str(number))
    world.now += 3600.0
    for attempt in busy:
        world.succeed(attempt)
    for _ in range(10):
        world.pool.serve_all(world.now)
    assert world.member("a").line.offers == 2


def test_a_call_that_failed_pauses_before_it_stands_in_line_for_the_same_provider() -> None:
    """Or, where our own network is lost and no attempt counts, it would be offered the room it has just left."""
    world = World(Target("a", max_concurrency=2), "b")
    world.fail(world.start(only="b"), FaultKind.CONNECTION, code="not_sent")
    other, attempt = world.start(only="a"), world.start(only="a")
    next_in_line = world.call(only="a")
    world.told_to_wait(next_in_line)
    call = world.call_of[attempt]
    world.fail(attempt, FaultKind.CONNECTION, code="not_sent")
    world.start(next_in_line)
    assert world.told_to_wait(call).reason == "backoff"
    world.now += 10.0
    assert world.told_to_wait(call).reason == "line"
    world.succeed(other)
    assert world.start(call).kind == "retry"


def test_a_tenant_that_could_not_take_what_it_was_offered_has_not_had_its_turn() -> None:
    one, two = Place(1, Ask("main", tenant="x")), Place(2, Ask("main", tenant="y"))
    line = queue(one, two)
    line.served("y")
    line.make_offer(one)
    assert line.first(0.0) is two
    line.take_back(one)
    assert line.first(0.0) is one
    line.make_offer(one)
    line.served("x")
    line.take_back(one)
    assert line.first(0.0) is two, "another one of the same tenant was served"


def test_who_is_too_late_goes_when_all_others_are_too_late_as_well() -> None:
    """A share is kept from the two of a batch, who go before it while they have time, but not from the third."""
    world = World(Target("a", rates=(Rate(amount=10, per=10.0, unit="requests"),)))
    world.answer("a", 5, first=4.0)
    while world.member("a").refusal(world.ask(), world.now) is None:
        world.start()
    needs = world.member("a").statistics.complete(streaming=True)
    late = world.call(timeout=needs - 0.1, streaming=True)
    world.told_to_wait(late)
    batch = [world.call(timeout=needs + more, streaming=True, batch=True) for more in (1.2, 1.4)]
    for call in batch:
        world.told_to_wait(call)
    world.now += 1.01
    step = world.told_to_wait(late)
    assert (step.reason, step.place is not None) == ("line", True)
    world.now += 0.2
    world.told_to_wait(batch[1])
    assert world.told_to_wait(late).seconds == pytest.approx(0.19, abs=0.01)
    world.now += 0.2
    assert world.start(late).target.id == "a"


# --- many calls ---


class Watch:
    """Notices when somebody waits although it could be served and nobody was woken to do so."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.since: dict[str, float] = {}
        self.longest = 0.0
        self.served: list[tuple[float, int]] = []

    def look(self) -> None:
        now = self.driver.now
        for name, member in self.driver.pool._table.members.items():
            first = member.line.first(now)
            idle = first is not None and not any(one.woken and not one.missed(now) for one in member.line.waiting)
            lost = idle and first is not None and member.refusal(first.ask, now) is None
            if not lost or member.breaker.down:
                self.since.pop(name, None)
                continue
            self.longest = max(self.longest, now - self.since.setdefault(name, now))


@st.composite
def crowds(draw: st.DrawFn) -> tuple[int, int, float, float, float]:
    """Seed, places, seconds between arrivals, longest delay of a woken call, share of calls that give up."""
    return (
        draw(st.integers(0, 10**6)),
        draw(st.integers(1, 4)),
        draw(st.sampled_from([0.0, 0.01, 0.1])),
        draw(st.sampled_from([0.0, 0.001, 0.04])),
        draw(st.sampled_from([0.0, 0.2, 0.6])),
    )


@HEAVY
@given(crowds())
def test_nobody_waits_while_somebody_could_be_served(crowd: tuple[int, int, float, float, float]) -> None:
    seed, places, pause, delay, leaving = crowd
    luck = random.Random(seed)
    driver = Driver(
        {
            "a": lambda now, attempt: Act(luck.uniform(0.01, 0.3)),
            "b": lambda now, attempt: Act(luck.uniform(0.01, 0.3)),
        },
        Target("a", max_concurrency=places),
        Target("b", max_concurrency=1),
        delay=lambda: luck.uniform(0.0, delay),
    )
    watch, when = Watch(driver), 0.0
    for _ in range(40):
        when += luck.uniform(0.0, 2 * pause)
        run = driver.begin(when, None)
        if luck.random() < leaving:
            driver.at(when + luck.uniform(0.0, 1.0), run.give_up)
    for moment in range(600):
        driver.at(moment / 100.0, watch.look)
    driver.run()
    assert watch.longest <= 0.02
    assert {run.end for run in driver.runs} <= {"answered", "cancelled"}
    assert all(member.in_flight == 0 and not len(member.line.waiting) for member in driver.pool._table.members.values())


@example(seed=0, loops=1, blocked=1.0)
@HEAVY
@given(seed=st.integers(0, 10**6), loops=st.integers(1, 3), blocked=st.sampled_from([0.0, 0.2, 1.0]))
def test_a_loop_that_is_blocked_costs_the_others_no_more_than_an_offer(seed: int, loops: int, blocked: float) -> None:
    """One of several event loops runs what was woken only after up to ``blocked`` seconds."""
    luck = random.Random(seed)
    driver = Driver(
        {"a": lambda now, attempt: Act(luck.uniform(0.01, 0.1))},
        Target("a", max_concurrency=2),
    )
    owners = [object() for _ in range(loops + 1)]
    when = 0.0
    for index in range(30):
        when += luck.uniform(0.0, 0.05)
        run = driver.begin(when, None)
        run.owner = owners[index % (loops + 1)]
        if run.owner is owners[0]:
            go_on = run.go_on

            def late(turn: int, run: Run = run, go_on: Callable[[int], None] = go_on) -> None:
                if run.place is not None and run.place.woken:
                    driver.at(driver.now + luck.uniform(0.0, blocked), go_on, turn)
                else:
                    go_on(turn)

            run.go_on = late  # type: ignore[method-assign]
    watch = Watch(driver)
    for moment in range(1000):
        driver.at(moment / 100.0, watch.look)
    driver.run()
    assert all(run.answered for run in driver.runs)
    assert watch.longest <= 6 * OFFER + 0.02  # each of its places looks alive again when it comes late
    member = driver.pool._table.members["a"]
    assert (member.in_flight, len(member.line.waiting), member.line.offers) == (0, 0, 0)


@HEAVY
@given(seed=st.integers(0, 10**6), leaving=st.sampled_from([0.0, 0.3]))
def test_in_bad_weather_too_nobody_is_forgotten(seed: int, leaving: float) -> None:
    """Rate limits, failures, few places, callers that go away: every call ends in time, and the books are empty."""
    luck = random.Random(seed)

    def weather(now: float, attempt: Attempt[Target]) -> Act:
        fate = luck.random()
        if fate < 0.15:
            return Act(0.01, Fault(FaultKind.RATE_LIMITED, status=429, retry_after=luck.choice([None, 0.2, 2.0])))
        if fate < 0.3:
            return Act(0.05, Fault(FaultKind.SERVER_ERROR, status=luck.choice([500, 503])))
        return Act(luck.uniform(0.05, 0.5))

    driver = Driver(
        {"a": weather, "b": weather},
        Target("a", max_concurrency=luck.choice([1, 2, None])),
        Target("b", max_concurrency=1),
        seed=seed,
    )
    watch, when = Watch(driver), 0.0
    for _ in range(40):
        when += luck.uniform(0.0, 0.2)
        run = driver.begin(when, 20.0)
        if luck.random() < leaving:
            driver.at(when + luck.uniform(0.0, 2.0), run.give_up)
    for moment in range(1500):
        driver.at(moment / 50.0, watch.look)
    driver.run()
    assert all(run.end is not None and run.took <= 20.0 + 1e-6 for run in driver.runs)
    assert watch.longest <= 0.1
    assert driver.spins == 0
    assert all(member.in_flight == 0 and not member.line.waiting for member in driver.pool._table.members.values())


@HEAVY
@given(seed=st.integers(0, 10**6), places=st.integers(1, 3), pause=st.sampled_from([0.0, 0.02, 0.2]))
def test_first_come_first_served(seed: int, places: int, pause: float) -> None:
    luck = random.Random(seed)
    driver = Driver({"a": lambda now, attempt: Act(luck.uniform(0.01, 0.3))}, Target("a", max_concurrency=places))
    when, runs = 0.0, []
    for _ in range(30):
        when += luck.uniform(0.0, 2 * pause)
        runs.append(driver.begin(when, None))
    begun: list[Run] = []
    for run in runs:
        launch = run.launch

        def noted(attempt: Attempt[Target], run: Run = run, launch: object = launch) -> None:
            begun.append(run)
            launch(attempt)  # type: ignore[operator]

        run.launch = noted  # type: ignore[method-assign]
    driver.run()
    assert begun == runs


@HEAVY
@given(seed=st.integers(0, 10**6), hint=st.sampled_from([0.3, 1.0, 5.0]), calls=st.integers(1, 30))
def test_waiting_for_a_rate_limit_is_not_failing(seed: int, hint: float, calls: int) -> None:
    """A bucket of ten a second: whoever has time is answered, in order, and nobody is called sick."""
    bucket = {"tokens": 3.0, "at": 0.0}

    def limited(now: float, attempt: Attempt[Target]) -> Act:
        bucket["tokens"] = min(3.0, bucket["tokens"] + (now - bucket["at"]) * 10.0)
        bucket["at"] = now
        if bucket["tokens"] < 1.0:
            return Act(0.01, Fault(FaultKind.RATE_LIMITED, status=429, retry_after=hint))
        bucket["tokens"] -= 1.0
        return Act(0.05)

    driver = Driver({"a": limited}, seed=seed)
    runs = [driver.begin(0.01 * index, 120.0) for index in range(calls)]
    driver.run()
    assert all(run.answered for run in runs)
    assert driver.pool.snapshot(driver.now)[0].success_rate >= 0.95


class Crowd(RuleBasedStateMachine):
    """Calls that come, are served, give up at any step, and never disturb each other."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(Target("a", max_concurrency=2))
        self.busy: list[Attempt[Target]] = []
        self.waiting: list[Call[Target]] = []
        self.woken: set[Call[Target]] = set()

    def ask(self, call: Call[Target]) -> None:
        step = call.next_attempt(self.world.now)
        if isinstance(step, Attempt):
            self.world.call_of[step] = call
            self.busy.append(step)
            return
        self.waiting.append(call)
        assert step.place is not None
        step.place.wake = lambda: self.woken.add(call)

    @rule()
    def arrive(self) -> None:
        self.ask(self.world.call())

    @precondition(lambda self: self.busy)
    @rule(data=st.data(), how=st.sampled_from(["succeed", "abandon", "fail"]))
    def end(self, data: st.DataObject, how: str) -> None:
        attempt = self.busy.pop(data.draw(st.integers(0, len(self.busy) - 1)))
        if how == "fail":
            self.world.fail(attempt, FaultKind.BAD_REQUEST)
        else:
            getattr(self.world, how)(attempt)

    @precondition(lambda self: self.woken)
    @rule(data=st.data())
    def come(self, data: st.DataObject) -> None:
        call = data.draw(st.sampled_from(sorted(self.woken, key=lambda one: one.number)))
        self.woken.remove(call)
        if call in self.waiting:
            self.waiting.remove(call)
            self.ask(call)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        call = self.waiting.pop(data.draw(st.integers(0, len(self.waiting) - 1)))
        call.stopped_waiting(self.world.now)

    @invariant()
    def the_books_balance(self) -> None:
        member = self.world.member("a")
        assert member.in_flight == len(self.busy) <= 2
        assert len(member.line.waiting) == len(self.waiting)
        assert member.in_flight + member.line.offers <= 2
        room = 2 - member.in_flight
        due = [call for call in self.waiting if call in self.woken]
        assert len(due) >= min(room, len(self.waiting)), "there is room and nobody was woken"


Crowd.TestCase.settings = MACHINE
test_any_crowd_is_served = Crowd.TestCase


def test_the_driver_itself_serves_a_simple_queue() -> None:
    driver = Driver({"a": well(0.1)}, Target("a", max_concurrency=1))
    runs = [driver.begin(0.0) for _ in range(5)]
    driver.run()
    assert [round(run.took, 6) for run in runs] == [0.1, 0.2, 0.3, 0.4, 0.5]
    assert acts()(0.0, driver.requests[0][2]) == Act()


@pytest.mark.parametrize("opens", ["restored", "answered", "abandoned", "removed, and answered"])
def test_who_waits_for_a_provider_is_woken_when_another_one_opens_their_account(opens: str) -> None:
    world = World(Target("a", account="x"), Target("b", account="x"))
    world.fail(world.start(only="a"), FaultKind.QUOTA_EXHAUSTED, retry_after=5.0)
    if opens == "restored":
        waits = world.told_to_wait(world.call(only="b"))
        world.pool.operate("a", "restore", world.now)
    else:
        world.now = world.member("a").slow_gate.until + 1.0
        lease = world.start(only="a")
        if opens == "removed, and answered":
            world.pool.replace({"main": [[world.member("b").target]]}, world.now)
        waits = world.told_to_wait(world.call(only="b"))
        if opens == "abandoned":
            world.abandon(lease)
        else:
            world.succeed(lease, after=0.1)
    assert waits.place is not None
    assert waits.place.woken
    assert waits.place.offer is None or waits.place.offer.provider == "b"


def test_who_waits_is_woken_when_an_answer_under_way_at_another_provider_opens_their_account() -> None:
    world = World(Target("a", account="x"), Target("b", account="x"))
    under_way = world.start(only="b")
    world.fail(world.start(only="a"), FaultKind.QUOTA_EXHAUSTED, retry_after=5.0)
    waits = world.told_to_wait(world.call(only="a"))
    world.succeed(under_way, after=0.1)
    assert waits.place is not None
    assert waits.place.woken


def test_who_waits_is_woken_when_the_lease_on_an_account_ends_at_a_provider_that_was_removed_and_came_back() -> None:
    world = World(Target("a", account="x"))
    world.fail(world.start(), FaultKind.QUOTA_EXHAUSTED, retry_after=5.0)
    world.now = world.member("a").slow_gate.until + 1.0
    lease, target = world.start(), world.member("a").target
    world.pool.replace({"main": [[Target("b")]]}, world.now)
    world.pool.replace({"main": [[target]]}, world.now)
    waits = world.told_to_wait(world.call())
    assert waits.place is not None
    assert not waits.place.woken
    world.abandon(lease)
    assert waits.place.woken


def test_of_many_who_wait_only_the_first_of_each_tenant_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    line = queue(*(Place(number, Ask("main", tenant=str(number % 20))) for number in range(1000)))
    looked: list[Place] = []
    monkeypatch.setattr(Place, "missed", lambda self, now: looked.append(self))
    assert line.first(0.0) is line.waiting[0]
    assert len(looked) == 20


@PROPERTY
@given(
    calls=st.lists(st.tuples(st.booleans(), st.sampled_from("xyz"), st.sampled_from([5.0, 20.0])), max_size=20),
    served=st.lists(st.sampled_from("xyz"), max_size=5),
    latest=st.booleans(),
)
def test_the_first_of_several_tenants_is_the_one_not_served_for_longest(
    calls: list[tuple[bool, str, float]], served: list[str], latest: bool
) -> None:
    """As a search of the whole line finds it."""
    line, now = Line("a"), 10.0
    for number, (batch, tenant, last) in enumerate(calls):
        line.join(Place(number, Ask("main", last, batch=batch, tenant=tenant)))
    for tenant in served:
        line.served(tenant)
    line.latest_first = latest
    turn = {tenant: -served[::-1].index(tenant) if tenant in served else -99 for tenant in "xyz"}
    in_time = [one for one in line.waiting if not one.too_late(now)]
    if latest:
        expected = max(line.waiting, key=lambda one: (not one.ask.batch, one.last, one.number), default=None)
    elif in_time:
        expected = min(in_time, key=lambda one: (one.ask.batch, turn[str(one.ask.tenant)], one.number))
    else:
        leading = [one for one in line.waiting if one.ask.batch is line.waiting[0].ask.batch]
        expected = leading[0] if leading else None
    assert line.first(now) is expected


def test_who_passes_one_that_is_too_large_is_whoever_has_the_turn() -> None:
    asks = [Ask("main", tokens=tokens, tenant=tenant) for tokens, tenant in ((9, "x"), (1, "y"), (1, "z"))]
    large, served, waits = (Place(number, ask) for number, ask in enumerate(asks))
    line = queue(large, served, waits)
    line.served("y")
    line.too_large(large, 0.0)
    assert line.first(0.0) is large
    assert line.passer(0.0) is waits, "y was served, and z was not"


def test_after_an_attempt_that_was_cut_short_calls_with_more_time_left_come_first() -> None:
    line = queue(place(1, last=10.0), place(2, last=13.0), place(3, last=12.0))
    one, two, three = line.waiting
    assert line.first(9.0) is one
    line.latest_first = True
    assert line.first(9.0) is two
    assert line.first(9.0, but=two) is three
    assert not line.may_pass(4, Ask("main", 12.5), None, 9.0)
    assert line.may_pass(4, Ask("main", 13.0), None, 9.0), "as much time, and it came last"


def test_a_batch_never_comes_before_others_that_may_come_too_late() -> None:
    line = queue(place(1, last=10.0), Place(2, Ask("main", 60.0, batch=True)))
    line.latest_first = True
    assert line.first(0.0) is line.waiting[0]


def test_after_an_attempt_that_its_deadline_ended_who_has_the_most_time_comes_first_until_an_answer_comes() -> None:
    world = World("a")
    attempt = world.start(timeout=1.5)
    world.now += 1.5
    world.expire(attempt)
    line = world.member("a").line
    assert line.latest_first
    refused = world.start()
    world.fail(refused, FaultKind.RATE_LIMITED, status=429)
    assert line.latest_first, "a refusal says nothing of answers"
    world.now += 60.0
    world.succeed(world.start())
    assert not line.latest_first


# --- timers, and who passes ---


def bucket(amount: float, per: float, unit: Literal["requests", "tokens"] = "requests") -> Target:
    return Target("a", rates=(Rate(amount=amount, per=per, unit=unit),))


def waits(world: World, **options: Any) -> tuple[Call[Target], Wait]:
    call = world.call(**options)
    return call, world.told_to_wait(call)


def test_who_cannot_be_served_in_time_behind_those_who_wait_is_told_at_once_and_when_to_come_back() -> None:
    world = World(bucket(1.0, 10.0))
    world.start(timeout=100.0)
    for _ in range(2):
        waits(world, timeout=100.0)
    with pytest.raises(NoProviderAvailable) as failure:
        world.call(timeout=15.0).next_attempt(world.now)
    assert failure.value.retry_after == pytest.approx(30.0)
    waits(world, timeout=31.0)


def test_a_smaller_call_that_comes_later_passes_one_that_is_too_large_at_once() -> None:
    world = World(bucket(600.0, 60.0, "tokens"))
    world.start(tokens=500, max_tokens=0, timeout=600.0)
    waits(world, tokens=500, max_tokens=0, timeout=600.0)
    assert world.start(tokens=50, max_tokens=0, timeout=600.0).target.id == "a"
    _, wait = waits(world, tokens=80, max_tokens=0, timeout=600.0)
    assert wait.seconds == pytest.approx(3.0), "it has a timer of its own for when it fits"


def test_one_that_waits_passes_when_the_first_goes_away_and_the_next_is_too_large() -> None:
    world = World(bucket(600.0, 60.0, "tokens"))
    world.start(tokens=500, max_tokens=0, timeout=600.0)
    first, _ = waits(world, tokens=120, max_tokens=0, timeout=600.0)
    large, _ = waits(world, tokens=500, max_tokens=0, timeout=600.0)
    small, wait = waits(world, tokens=110, max_tokens=0, timeout=600.0)
    world.now += 1.5
    assert wait.place is not None
    assert not wait.place.woken
    first.stopped_waiting(world.now)
    assert wait.place.woken
    assert world.start(small).target.id == "a"
    large.stopped_waiting(world.now)


def test_who_may_pass_and_does_not_fit_yet_is_woken_to_set_a_timer() -> None:
    world = World(bucket(600.0, 60.0, "tokens"))
    world.start(tokens=600, max_tokens=0, timeout=600.0)
    first, _ = waits(world, tokens=20, max_tokens=0, timeout=600.0)
    waits(world, tokens=500, max_tokens=0, timeout=600.0)
    small, wait = waits(world, tokens=30, max_tokens=0, timeout=600.0)
    first.stopped_waiting(world.now)
    assert wait.place is not None
    assert wait.place.woken
    assert world.told_to_wait(small).seconds == pytest.approx(3.0)


def test_nobody_passes_behind_one_that_is_down() -> None:
    world = World(bucket(600.0, 60.0, "tokens"))
    world.start(tokens=500, max_tokens=0, timeout=600.0)
    first, _ = waits(world, tokens=105, max_tokens=0, timeout=600.0)
    waits(world, tokens=500, max_tokens=0, timeout=600.0)
    _, wait = waits(world, tokens=106, max_tokens=0, timeout=600.0)
    world.now += 1.5
    breaker = world.member("a").breaker
    for _ in range(5):
        breaker.failed(world.now, Outcome.HARD, 0.0)
    world.member("a").resort_at = world.now + 60.0
    first.stopped_waiting(world.now)
    assert wait.place is not None
    assert wait.place.offer is None


def test_a_call_that_cannot_take_its_offer_passes_it_on() -> None:
    world = World(Target("a", max_concurrency=1))
    busy = world.start(timeout=600.0)
    first, wait = waits(world, timeout=600.0)
    _, following = waits(world, timeout=600.0)
    world.succeed(busy)
    assert wait.place is not None
    assert following.place is not None
    assert wait.place.offer is not None
    first.ask = first.ask._replace(unsuitable={"a": "its window is too small, as another provider found"})
    with pytest.raises(NoProviderAvailable):
        first.next_attempt(world.now)
    assert following.place.offer is not None


def test_when_an_offer_has_lapsed_the_next_event_offers_the_place_to_another() -> None:
    world = World(Target("a", max_concurrency=2))
    busy = [world.start(timeout=600.0) for _ in range(2)]
    _, first = waits(world, timeout=600.0)
    _, second = waits(world, timeout=600.0)
    world.succeed(busy[0])
    world.now += 0.06
    world.speak(busy[1])
    assert first.place is not None
    assert second.place is not None
    assert (first.place.offer is None, second.place.offer is None) == (True, False)


def test_whoever_follows_has_a_timer_for_when_the_first_becomes_too_late() -> None:
    world = World(Target("a", max_concurrency=1))
    for _ in range(20):
        world.succeed(world.start(), after=4.0)
    world.start(timeout=600.0)
    _, first = waits(world, timeout=10.0)
    second, wait = waits(world, timeout=600.0)
    assert wait.seconds == pytest.approx(6.0), "then the first gives way"
    assert first.place is not None
    world.now += wait.seconds + 0.01
    assert world.member("a").line.first(world.now) is wait.place
    second.stopped_waiting(world.now)


def test_a_call_that_pauses_before_it_asks_again_stands_in_no_line_meanwhile() -> None:
    world = World(Target("a", max_concurrency=1), "b")
    world.start(only="a", timeout=600.0)
    call = world.call(timeout=60.0)
    world.fail(world.start(call))
    assert world.told_to_wait(call).place is None
    assert not world.member("a").line.waiting
    assert not world.member("b").line.waiting


def test_a_call_that_looks_again_leaves_the_line_of_whoever_is_not_worth_waiting_for() -> None:
    world = World(Target("a", max_concurrency=1), Target("b", max_concurrency=1))
    for name in "ab":
        world.start(only=name, timeout=600.0)
    call, _ = waits(world, timeout=600.0)
    assert world.member("b").line.waiting
    world.pool.operate("b", "isolate", world.now)
    world.told_to_wait(call)
    assert world.member("a").line.waiting
    assert not world.member("b").line.waiting
