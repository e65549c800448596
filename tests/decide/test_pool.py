"""The pool: every lease is given back once, operators are obeyed, and no history unsettles the books."""

from __future__ import annotations

import math
import random
from collections import deque
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from resilient_llm import events
from resilient_llm.decide.attempt import Ask, Attempt
from resilient_llm.decide.call import Call, Wait
from resilient_llm.decide.outcome import Outcome, disposition
from resilient_llm.decide.pool import Pool
from resilient_llm.errors import CallFailed, ConfigurationError, Fault, FaultKind, ResilientError
from resilient_llm.health import ProviderHealth
from resilient_llm.policy import Policies
from tests.decide.world import MACHINE, Limit, Luck, Target, World, build, fault

# --- leases are given back once ---


def test_the_pool_takes_each_outcome_once() -> None:
    world = World("a")
    attempt = world.start()
    world.abandon(attempt)
    before = world.health("a")
    world.pool.succeeded(attempt, world.now)
    world.pool.failed(attempt, fault(), world.now)
    world.pool.overtaken(attempt, fault(), world.now)
    world.pool.expired(attempt, fault(), 0.0, world.now)
    world.pool.abandoned(attempt, world.now)
    world.pool.first_content(attempt, world.now)
    assert world.health("a") == before


def test_an_attempt_left_to_the_garbage_collector_is_settled_by_the_next_operation() -> None:
    world = World("a")
    for settle in (world.start, world.explain, lambda: world.health("a")):
        lost = world.start()
        world.pool.abandon_later(lost)
        assert not lost.released
        settle()
        assert lost.released
    before = world.health("a")
    done = world.start()
    world.succeed(done)
    world.pool.abandon_later(done)
    assert world.health("a").samples == before.samples + 1
    assert world.health("a").in_flight == 1


def test_an_answer_settles_what_finalisers_left() -> None:
    world = World("a")
    lost, other = world.start(), world.start()
    world.pool.abandon_later(lost)
    world.succeed(other)
    assert lost.released
    assert world.pool.in_flight("a") == 0
    assert world.pool.in_flight("nobody") == 0


def test_an_interrupted_call_gives_back_every_lease_it_holds() -> None:
    world = World("a", "b")
    call = world.call(timeout=20.0)
    first = world.start(call)
    second = world.rescued(first, after=10.0)
    other = world.start()
    world.pool.disown(call.number, world.now)
    assert first.released
    assert second.released
    assert not other.released
    world.pool.disown(call.number, world.now)
    assert [world.pool.in_flight(name) for name in "ab"] == [1, 0]


def test_an_interrupted_call_is_found_though_its_wishes_have_changed() -> None:
    world = World(Target("a", context_window=8000), Target("b", context_window=8000), "c")
    call = world.call(timeout=20.0)
    first = world.start(call)
    second = world.rescued(first, after=10.0)
    world.fail(second, FaultKind.CONTEXT_LENGTH)
    world.pool.disown(call.number, world.now)
    assert first.released


def test_a_second_sign_of_life_is_no_second_sample() -> None:
    world = World("a")
    attempt = world.start(streaming=True)
    world.speak(attempt, after=0.5)
    world.speak(attempt, after=9.0)
    assert world.health("a").first_token_p95 == pytest.approx(0.5)


def test_the_longest_pause_of_a_stream_that_was_answered_is_remembered() -> None:
    world = World("a")
    for end in ("succeed", "abandon"):
        attempt = world.start(streaming=True)
        world.speak(attempt, after=0.1)
        world.call_of[attempt].paused(attempt, 3.0)
        getattr(world, end)(attempt)
    assert world.member("a").statistics.pauses.count >= 1


# --- a process that was forked ---


def test_after_a_fork_the_childs_books_begin_at_nothing_and_the_parents_attempts_are_not_in_them() -> None:
    world = World(Target("a", max_concurrency=2), Target("b", account="x"))
    world.fail(world.start(only="b"), FaultKind.QUOTA_EXHAUSTED)
    world.half_break("a")
    parents = [world.start(only="a") for _ in range(2)]
    waiting = world.call(only="a")
    world.told_to_wait(waiting)
    world.pool.abandon_later(parents[1])
    world.pool.reset_after_fork()
    assert world.health("a").in_flight == world.health("a").waiting == 0
    assert world.breaker("a") == "softly_open", "what was learnt stays"
    assert world.health("b").gate_reason == "quota_exhausted"
    assert world.events() == []
    samples = world.health("a").samples
    for attempt in parents:
        world.fail(attempt)
    assert world.health("a").in_flight == 0
    assert world.health("a").samples == samples
    assert world.start(only="a").target.id == "a"


@pytest.mark.parametrize("saved", [0.0, 10.0])
def test_a_forked_worker_begins_with_the_allowance_of_a_new_client(saved: float) -> None:
    world, fresh = World("a"), World("a")
    leases = world.pool._leases
    leases.extra.tokens = leases.trials.tokens = leases.hedges.tokens = saved
    world.pool.reset_after_fork()
    assert world.pool.budgets == fresh.pool.budgets


def test_who_waited_in_the_parent_is_not_woken_in_the_child() -> None:
    world = World(Target("a", max_concurrency=1))
    busy = world.start()
    call = world.call()
    step = world.told_to_wait(call)
    woken: list[str] = []
    assert step.place is not None
    step.place.wake = lambda: woken.append("it")
    world.pool.reset_after_fork()
    world.succeed(busy)
    assert woken == []


# --- operators ---


def test_a_drained_provider_finishes_what_it_has_and_gets_nothing_new() -> None:
    world = World("a", "b")
    attempt = world.start()
    world.pool.operate("a", "drain", world.now)
    assert world.start().target.id == "b"
    assert world.pool.in_flight("a") == 1
    world.succeed(attempt)
    assert world.health("a").drained
    world.pool.operate("a", "restore", world.now)
    assert world.start().target.id == "a"


def test_an_isolated_provider_stays_out_until_restored() -> None:
    world = World("a", "b")
    early = world.start(only="a")
    world.pool.operate("a", "isolate", world.now)
    world.succeed(early)
    world.now += 1e6
    assert world.breaker("a") == "isolated"
    assert world.start().target.id == "b"
    with pytest.raises(CallFailed):
        world.call(only="a").next_attempt(world.now)
    world.pool.operate("a", "restore", world.now)
    assert world.start().target.id == "a"
    assert [event.action for event in world.events(events.OperatorChanged)] == ["isolate", "restore"]


def test_restoring_opens_everything() -> None:
    world = World(Target("a", account="x"), "b")
    world.fail(world.start(only="a"), FaultKind.AUTH)
    world.now += 3700.0
    world.trip("a")
    world.member("a").gate.close(world.now, 100.0, 0.0, "429")
    world.member("a").own_gate.close(world.now, None, 0.0, "misconfigured")
    world.pool.operate("a", "drain", world.now)
    world.pool.operate("a", "restore", world.now)
    health = world.health("a")
    assert (health.breaker, health.gate_open_in, health.drained) == ("closed", None, False)
    assert health.success_rate == pytest.approx(0.95)
    assert world.start().target.id == "a"


def test_operators_are_told_what_they_got_wrong() -> None:
    world = World("a", "b")
    with pytest.raises(ConfigurationError, match="there is no provider 'c'; there are a, b"):
        world.pool.operate("c", "drain", world.now)
    with pytest.raises(ConfigurationError, match="drained, isolated or restored, not 'stop'"):
        world.pool.operate("a", "stop", world.now)


# --- events ---


def test_events_taken_by_two_readers_are_taken_once() -> None:
    world = World("a")
    for number in range(3):
        world.pool.note(events.OperatorChanged(float(number), "a", "drain"))
    one, other = iter(world.pool.take_events()), iter(world.pool.take_events())
    assert [next(one).at, next(other).at, next(one).at] == [0.0, 1.0, 2.0]
    assert list(other) == []


class Emptied(deque[Any]):
    """Says that something is there, which another thread then takes."""

    def __bool__(self) -> bool:
        return True


def test_a_reader_who_finds_the_last_one_taken_is_not_disturbed() -> None:
    world = World("a")
    world.pool._verdicts.events = Emptied()
    assert list(world.pool.take_events()) == []
    world.pool._waiting.woken = Emptied()
    assert world.start().target.id == "a"


def test_a_breaker_that_opens_and_closes_says_so_with_the_reason() -> None:
    world = World("a", "b")
    world.half_break("a")
    (opened,) = world.events(events.BreakerChanged)
    assert opened == events.BreakerChanged(world.now, "a", "closed", "softly_open", "it failed too often", 0.875)
    world.pool.operate("a", "restore", world.now)
    (closed, operated) = world.events()
    assert closed == events.BreakerChanged(world.now, "a", "softly_open", "closed", "restored by hand", 0.0)
    assert operated == events.OperatorChanged(world.now, "a", "restore")


# --- the same again ---


def history(shift: float, seed: int) -> list[tuple[str, str]]:
    luck = random.Random(seed)
    pool: Pool[Target] = Pool({"main": build("a", ["b", "c"])}, Policies(), luck.random)
    now, seen = shift, []
    for _ in range(150):
        now += luck.choice([0.0, 0.125, 1.0, 16.0])
        call = Call(pool, Ask("main", now + 8.0, streaming=True), now)
        try:
            step = call.next_attempt(now)
        except CallFailed as error:
            seen.append(("end", type(error).__name__))
            continue
        if isinstance(step, Wait):
            seen.append(("wait", f"{step.seconds:.3f}"))
            call.stopped_waiting(now)
            continue
        seen.append((step.target.id, step.kind))
        if luck.random() < 0.5:
            call.failed(step, fault(luck.choice(list(FaultKind)), retry_after=luck.choice([None, 2.0])), now)
        else:
            call.first_content(step, now)
            call.succeeded(step, now, 100)
    return seen


def test_the_same_luck_gives_the_same_history() -> None:
    assert history(0.0, 1) == history(0.0, 1)


@pytest.mark.parametrize("shift", [1.0, 4096.0, 2.0**20])
def test_shifting_the_clock_shifts_the_history_and_nothing_else(shift: float) -> None:
    assert history(0.0, 2) == history(shift, 2)


# --- any history ---

IDS = ["a", "b", "c", "d"]
NEUTRAL = [kind for kind in FaultKind if disposition(Fault(kind)).outcome is Outcome.NEUTRAL]


class PoolMachine(RuleBasedStateMachine):
    """Calls that begin, speak, fail, are rescued, wait and leave, in any order, while operators interfere."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.luck = Luck()
        self.live: dict[Attempt[Target], Call[Target]] = {}
        self.waiting: dict[Call[Target], Wait] = {}
        self.woken: set[Call[Target]] = set()
        self.gone: set[Attempt[Target]] = set()

    @initialize(limit=st.sampled_from([None, 1, 3]), listening=st.booleans())
    def begin_with(self, limit: int | None, listening: bool) -> None:
        tiers = [[Target("a", max_concurrency=limit, account="x")], [Target("b", account="x"), Target("c")]]
        self.pool: Pool[Target] = Pool({"main": tiers}, Policies(), self.luck)
        self.pool.listen(listening)

    def health(self) -> dict[str, ProviderHealth]:
        return {health.id: health for health in self.pool.snapshot(self.now)}

    # --- calls ---

    def step(self, call: Call[Target]) -> None:
        try:
            step = call.next_attempt(self.now)
        except ResilientError:
            return
        if isinstance(step, Attempt):
            self.live[step] = call
            assert step.timeout <= call.deadline - self.now + 1e-6
            assert step.rescue_after is None or 0.0 <= step.rescue_after <= step.timeout
            return
        assert step.seconds > 0.0
        assert self.now + step.seconds <= call.deadline + 1e-6 or call.deadline == math.inf
        self.waiting[call] = step
        if step.place is not None:
            step.place.wake = lambda: self.woken.add(call)

    @rule(
        timeout=st.sampled_from([0.1, 10.0, math.inf]),
        streaming=st.booleans(),
        tokens=st.sampled_from([0, 10**6]),
        repeatable=st.booleans(),
        conversation=st.sampled_from([None, "chat"]),
        excluded=st.sets(st.sampled_from(IDS), max_size=2),
        when_down=st.sampled_from(["wait", "fail"]),
    )
    def arrive(self, timeout: float, excluded: set[str], **options: Any) -> None:
        ask = Ask("main", self.now + timeout, unsuitable=dict.fromkeys(excluded, "no"), **options)
        self.step(Call(self.pool, ask, self.now))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), patient=st.booleans())
    def come_back(self, data: st.DataObject, patient: bool) -> None:
        call = data.draw(st.sampled_from(sorted(self.waiting, key=lambda one: one.number)))
        wait = self.waiting.pop(call)
        self.woken.discard(call)
        if patient and wait.seconds < math.inf:
            self.now += wait.seconds
        self.step(call)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        call = data.draw(st.sampled_from(sorted(self.waiting, key=lambda one: one.number)))
        del self.waiting[call]
        call.stopped_waiting(self.now)

    def some(self, data: st.DataObject) -> Attempt[Target]:
        return data.draw(st.sampled_from(sorted(self.live, key=lambda one: (self.live[one].number, one.number))))

    def ended(self, attempt: Attempt[Target]) -> None:
        assert attempt.released
        call = self.live.pop(attempt)
        if call not in self.live.values() and call.records and call.records[-1].outcome == "error":
            self.step(call)

    @precondition(lambda self: self.live)
    @rule(data=st.data(), after=st.sampled_from([0.0, 0.5, 5.0]))
    def rescue(self, data: st.DataObject, after: float) -> None:
        attempt = self.some(data)
        due = attempt.rescue_after
        if due is None:
            return
        self.now = max(self.now, attempt.started + due) + after * 0.01
        found = self.live[attempt].rescue(attempt, self.now)
        if found is None:
            assert attempt.rescue_after is None or attempt.rescue_after > self.now - attempt.started - 1e-9
        else:
            assert found.kind == "hedge"
            assert attempt.ask.repeatable
            self.live[found] = self.live[attempt]

    @precondition(lambda self: self.live)
    @rule(data=st.data(), after=st.floats(0.0, 3.0))
    def speak(self, data: st.DataObject, after: float) -> None:
        attempt = self.some(data)
        self.now += after
        self.live[attempt].first_content(attempt, self.now)

    @precondition(lambda self: self.live)
    @rule(data=st.data(), tokens=st.sampled_from([0, 500]))
    def succeed(self, data: st.DataObject, tokens: int) -> None:
        attempt = self.some(data)
        self.live[attempt].succeeded(attempt, self.now, tokens)
        self.ended(attempt)

    @precondition(lambda self: self.live)
    @rule(data=st.data(), kind=st.sampled_from(FaultKind), hint=st.sampled_from([None, 0.0, 1.0, 40.0, 1e9, math.nan]))
    def fail(self, data: st.DataObject, kind: FaultKind, hint: float | None) -> None:
        attempt, before = self.some(data), self.health()
        self.live[attempt].failed(attempt, fault(kind, retry_after=hint), self.now)
        after = self.health()
        for name, health in after.items():
            assert (health.gate_open_in or 0.0) >= (before[name].gate_open_in or 0.0), "a gate is never shortened"
            if kind in NEUTRAL:
                assert (health.breaker, health.samples) == (before[name].breaker, before[name].samples)
        self.ended(attempt)

    @precondition(lambda self: self.live)
    @rule(data=st.data(), how=st.sampled_from(["abandoned", "overtaken", "expired", "later", "disowned"]))
    def leave(self, data: st.DataObject, how: str) -> None:
        attempt, before = self.some(data), self.health()
        call = self.live[attempt]
        if how == "later":
            self.pool.abandon_later(attempt)
        elif how == "disowned":
            self.pool.disown(call.number, self.now)
        elif how == "expired":
            call.expired(attempt, fault(FaultKind.TIMEOUT), self.now, 0.5)
        elif how == "overtaken" and call.overtaken(attempt, self.now):
            return
        elif how == "abandoned":
            call.abandoned(attempt, self.now)
        after = self.health()
        for one in [one for one in self.live if one.released]:
            del self.live[one]
        assert attempt.released or (how == "disowned" and attempt in self.gone)
        if how in ("abandoned", "later", "disowned"):
            for name, health in after.items():
                assert (health.breaker, health.samples) == (before[name].breaker, before[name].samples)

    # --- the world ---

    @rule(seconds=st.sampled_from([0.0, 0.01, 1.0, 5.0, 31.0, 120.0, 1e6]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(name=st.sampled_from(IDS), action=st.sampled_from(["drain", "isolate", "restore"]))
    def operate(self, name: str, action: str) -> None:
        if any(target.id == name for target in self.pool.targets()):
            self.pool.operate(name, action, self.now)

    @rule(ids=st.permutations(IDS), size=st.integers(1, 4), limit=st.sampled_from([None, 1, 3]))
    def replace(self, ids: list[str], size: int, limit: int | None) -> None:
        chosen = [Target(name, max_concurrency=limit) for name in ids[:size]]
        removed = self.pool.replace({"main": [chosen[:2], chosen[2:]]}, self.now)
        self.gone |= {attempt for attempt in self.live if attempt.target.id in removed}

    @rule(remaining=st.integers(0, 10), reset=st.sampled_from([None, 0.0, 3.0, 1e9]))
    def learn(self, remaining: int, reset: float | None) -> None:
        for attempt in list(self.live)[:1]:
            headroom = Limit(limit=10, remaining=remaining, reset_in=reset)
            self.pool.learn(attempt, self.now, headroom, headroom)

    @rule()
    def forked(self) -> None:
        self.pool.reset_after_fork()
        self.live.clear()
        self.waiting.clear()
        self.woken.clear()

    # --- what always holds ---

    @invariant()
    def the_books_balance(self) -> None:
        for name, health in self.health().items():
            here = [one for one in self.live if one.target.id == name and one not in self.gone]
            assert health.in_flight == self.pool.in_flight(name) == len(here)
            assert 0.0 <= health.score <= 1.0
            assert 0.0 < health.success_rate <= 1.0
            assert health.retry_in is None or 0.0 <= health.retry_in <= 4 * 60.0

    @invariant()
    def the_budgets_hold(self) -> None:
        leases = self.pool._leases
        for budget in (leases.extra, leases.trials, leases.hedges):
            assert 0.0 <= budget.tokens <= budget.cap

    def teardown(self) -> None:
        for attempt, call in self.live.items():
            call.abandoned(attempt, self.now)
        for call in self.waiting:
            call.stopped_waiting(self.now)
        for health in self.pool.snapshot(self.now):
            assert health.in_flight == health.waiting == 0


PoolMachine.TestCase.settings = MACHINE
test_any_history_keeps_the_books = PoolMachine.TestCase
