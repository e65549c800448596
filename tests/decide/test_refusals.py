"""Refusals that are no limit: they hold up the calls that met them, and nobody else."""

from __future__ import annotations

import random
from statistics import median

import pytest

from resilient_llm.decide.attempt import Attempt
from resilient_llm.decide.keys import Refusal
from resilient_llm.decide.meters import Learnt
from resilient_llm.decide.pace import Pace
from resilient_llm.decide.refusals import Sent
from resilient_llm.errors import Fault, FaultKind, NoProviderAvailable
from resilient_llm.policy import Rate
from tests.batch.mapped import Mapped
from tests.decide.crowd import Crowd, Server
from tests.decide.driver import Act, Driver
from tests.decide.world import Limit, Target, World


def refusal(hint: float | None) -> Fault:
    return Fault(FaultKind.RATE_LIMITED, status=429, retry_after=hint)


class Chance(Server):
    """Refuses a share of the requests, whoever comes when."""

    def __init__(self, share: float, hint: float | None, seed: int = 3) -> None:
        super().__init__(seconds=0.1)
        self._share, self._hint, self._luck = share, hint, random.Random(seed)

    def admit(self, key: int, tokens: int) -> tuple[dict[str, str], Fault | None]:
        return {}, refusal(self._hint) if self._luck.random() < self._share else None


def pace() -> Pace:
    return Pace((), 300.0)


def sent(it: Pace, now: float) -> Sent:
    it.heard(0.0)
    return it.reserve(0.0, 0, now)


def refused(it: Pace, call: Sent, now: float, wait: float = 1.0) -> bool:
    """Whether the refusal is chance."""
    explained = it.explains(call[0], now)
    chance = it.refused(call, now + wait, now, explained=explained)
    if not chance:
        it.shut(call, now + wait, now, explained=explained)
    return chance


def lucky(now: float = 100.0) -> Pace:
    """One is refused, and most of those sent while it waits get through."""
    it = pace()
    refused(it, sent(it, now), now + 0.01)
    for number in range(8):
        at = now + 0.1 + number / 100
        it.let_through(sent(it, at), at + 0.05)
    return it


# --- one key ---


def test_a_refusal_is_chance_once_most_calls_sent_while_another_one_waits_get_through() -> None:
    it = lucky()
    assert refused(it, sent(it, 105.0), 105.01)
    assert (it.row, it.ramp, it.learnt) == (0, None, None)
    assert it.fits_at(1.0, 105.01) <= 105.01, "nobody else waits for it"


def test_a_refusal_is_none_while_those_sent_meanwhile_are_refused_too() -> None:
    it = lucky()
    for number in range(12):
        refused(it, sent(it, 105.0 + number / 100), 105.01 + number / 100)
    assert not refused(it, sent(it, 105.5), 105.51)
    assert it.row


def test_calls_sent_when_a_wait_is_over_prove_nothing() -> None:
    it = pace()
    for number in range(5):
        now = 100.0 + 10.0 * number
        assert not refused(it, sent(it, now), now + 0.01)
        it.let_through(sent(it, now + 2.0), now + 2.1)


def test_a_limit_that_is_reported_explains_a_refusal() -> None:
    it = lucky()
    call = sent(it, 105.0)
    it.report(Limit(60, 3, 57.0), call, 105.0, tokens=False)
    assert not refused(it, sent(it, 105.1), 105.2)
    it.report(Limit(60, 50, 10.0), call, 120.0, tokens=False)
    assert refused(it, sent(it, 120.1), 120.2), "enough of it is left"


def test_a_call_sent_after_the_one_refused_ends_the_wait_for_one_call_that_finds_out() -> None:
    it = pace()
    first, second, third = (sent(it, 100.0) for _ in range(3))
    refused(it, second, 100.05, 5.0)
    assert not it.let_through(first, 100.1), "that was sent before"
    assert it.let_through(third, 100.1)
    assert it.fits_at(1.0, 100.1) == 100.1
    probe = sent(it, 100.1)
    assert it.fits_at(1.0, 100.1) == pytest.approx(100.8), "the others wait for what it finds"
    assert not it.let_through(third, 100.1), "once"
    refused(it, probe, 100.2, 4.8)
    assert it.fits_at(1.0, 100.2) == pytest.approx(105.0)


def test_a_limit_that_was_found_out_is_lowered_and_dropped_when_that_does_not_help() -> None:
    it = lucky()
    it.learnt = Learnt(100.0, 1.0, 105.0)
    counts = []
    for number in range(3):
        assert refused(it, sent(it, 106.0 + number), 106.01 + number)
        counts.append(None if it.learnt is None else it.learnt.count)
    assert counts == [pytest.approx(90.0), pytest.approx(81.0), None]


# --- one call ---


def chancy(*targets: str | Target) -> World:
    """The first provider refuses by chance, as is known."""
    world = World(*targets)
    (key, *_) = world.member("a").keys
    key.pace._got_through, key.pace._shut_out = 15.0, 1.0
    return world


def test_the_call_that_was_refused_waits_as_it_was_asked_and_nobody_else_does() -> None:
    world = chancy("a")
    call = world.call(timeout=60.0)
    world.fail(world.start(call), FaultKind.RATE_LIMITED, status=429, retry_after=7.0)
    wait = world.told_to_wait(call)
    assert (wait.seconds, wait.place) == (pytest.approx(7.0), None)
    world.succeed(world.start())
    world.now += 6.99
    assert world.told_to_wait(call).seconds == pytest.approx(0.01)
    world.now += 0.011
    assert world.start(call).target.id == "a"
    assert call.past.counted == 0


def test_it_goes_to_somebody_else_at_once() -> None:
    world = chancy("a", "b")
    call = world.call(timeout=60.0)
    world.fail(world.start(call), FaultKind.RATE_LIMITED, status=429, retry_after=7.0)
    assert world.start(call).target.id == "b"


def test_it_stands_in_line_for_the_others_meanwhile() -> None:
    world = chancy("a", Target("b", max_concurrency=1))
    busy = world.start(only="b")
    call = world.call(timeout=60.0)
    world.fail(world.start(call), FaultKind.RATE_LIMITED, status=429, retry_after=7.0)
    wait = world.told_to_wait(call)
    assert wait.place is not None
    assert [line.provider for line in wait.place.lines] == ["b"]
    assert wait.seconds == pytest.approx(7.0), "and comes back when its own wait is over"
    world.succeed(busy)
    assert wait.place.woken
    assert world.start(call).target.id == "b"


@pytest.mark.parametrize("others", [(), ("b",)])
def test_a_wait_beyond_the_deadline_is_told_at_once(others: tuple[str, ...]) -> None:
    world = chancy("a", *others)
    for other in others:
        world.gate(other, 90.0)
    call = world.call(timeout=10.0)
    world.fail(world.start(call), FaultKind.RATE_LIMITED, status=429, retry_after=55.0)
    with pytest.raises(NoProviderAvailable) as failure:
        call.next_attempt(world.now)
    assert failure.value.retry_after == pytest.approx(55.0)


def test_who_must_not_ask_a_provider_yet_does_not_wait_for_its_trial() -> None:
    """It was offered the trial that it may not make, again and again."""
    world = chancy("a", "b")
    world.gate("b", 60.0)
    call = world.call(timeout=100.0)
    world.fail(world.start(call), FaultKind.RATE_LIMITED, status=429, retry_after=30.0)
    world.told_to_wait(call)
    world.trip("a")
    world.now += 5.0
    assert world.told_to_wait(call).seconds > 20.0


def test_it_waits_as_told_although_the_key_is_refused_meanwhile() -> None:
    """A refused key is asked by a call that has nobody else, but for one that was told to wait."""
    world = chancy("a")
    call, other = world.call(timeout=60.0), world.start()
    world.fail(world.start(call), FaultKind.RATE_LIMITED, status=429, retry_after=7.0)
    world.fail(other, FaultKind.QUOTA_EXHAUSTED, status=429)
    assert world.told_to_wait(call).seconds == pytest.approx(7.0)
    assert world.start().target.id == "a"


def test_the_failure_of_an_attempt_beside_the_one_refused_does_not_shorten_its_wait() -> None:
    world = chancy("a")
    call = world.call(timeout=60.0)
    first = world.start(call)
    beside = world.rescued(first, after=30.0)
    world.fail(beside, FaultKind.RATE_LIMITED, status=429, retry_after=7.0)
    world.fail(first)
    assert world.told_to_wait(call).seconds == pytest.approx(7.0)


def test_who_comes_after_somebody_that_was_offered_a_place_waits_for_the_limit_and_not_for_a_refused_key() -> None:
    """It gave up: the limit was looked at as if nobody came first, so that only the key was left to wait for."""
    world = World(Target("a", rates=(Rate(amount=60, per=60.0, unit="requests"),)))
    member, call = world.member("a"), world.call(timeout=30.0)
    key = member.keys[0]
    for _ in range(59):
        key.pace.reserve(0.0, 0, world.now)
    key.slow.strikes, key.slow.lease_ends = 1, world.now + 60.0
    member.line.offers = 1
    assert member.refusal(call.ask, world.now, waits=True) is Refusal.PACE
    assert member.opens_at(Refusal.PACE, call.ask, world.now) <= world.now + 1.0


def test_one_that_was_removed_and_comes_back_is_asked_soon() -> None:
    world = chancy("a")
    call = world.call(timeout=60.0)
    world.fail(world.start(call), FaultKind.RATE_LIMITED, status=429, retry_after=7.0)
    target = world.member("a").target
    world.pool.replace({"main": [[Target("b")]]}, world.now)
    world.pool.replace({"main": [[target]]}, world.now)
    assert world.told_to_wait(call).seconds < 1.0, "a pause between two attempts"


def test_another_key_of_the_same_provider_is_not_asked_instead() -> None:
    """Nobody would know which of them must not be asked."""
    world = chancy(Target("a", pool=2))
    call = world.call(timeout=60.0)
    attempt = world.start(call)
    attempt.key.pace._got_through, attempt.key.pace._shut_out = 15.0, 1.0
    world.fail(attempt, FaultKind.RATE_LIMITED, status=429, retry_after=2.0)
    assert world.told_to_wait(call).seconds == pytest.approx(2.0)


# --- many calls ---


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize(("hint", "most"), [(None, 1.7), (1.0, 2.2)])
@pytest.mark.parametrize("names", ["a", "ab", "abc"])
def test_a_batch_hardly_notices_one_refusal_in_twenty(names: str, hint: float | None, most: float, batch: bool) -> None:
    """Those that are refused alone take 0.15 s and more of 0.12 s on average."""
    servers = {name: Chance(0.05, hint, seed) for seed, name in enumerate(names)}
    if batch:
        crowd = Mapped(servers, 1500, batch=True).crowd
    else:
        crowd = Crowd(servers)
        crowd.work(50, 1500)
        crowd.all()
    assert not crowd.lost
    assert crowd.seconds <= most * 1500 / 50 * 0.12


@pytest.mark.parametrize("hint", [None, 1.0])
def test_who_calls_beside_refusals_by_chance_is_answered_at_once(hint: float | None) -> None:
    luck = random.Random(11)

    def lots(now: float, attempt: Attempt[Target]) -> Act:
        return Act(0.01, refusal(hint)) if luck.random() < 0.2 else Act(0.2)

    runs = Driver({"a": lots}).calls(5.0, 60.0)
    assert all(run.answered for run in runs)
    assert median(run.took for run in runs) == pytest.approx(0.2)


@pytest.mark.parametrize(("share", "workers", "most"), [(0.2, 1, 1.0), (0.2, 5, 0.4), (0.4, 50, 0.15)])
def test_no_limit_is_believed_for_long_where_there_is_none(share: float, workers: int, most: float) -> None:
    """Some seeds took an hour: few calls were sent, and each that was refused seemed to prove the limit."""
    for seed in range(8):
        crowd = Crowd({"a": Chance(share, None, seed)}, seed=seed)
        crowd.work(workers, 200)
        crowd.all()
        assert not crowd.lost
        assert crowd.seconds <= most * 200


def test_a_limit_that_is_none_limits_nothing_from_then_on() -> None:
    it = pace()
    it.learnt = Learnt(1.0, 60.0, 100.0)
    it.arrange()
    for at in (110.0, 125.0, 140.0):
        call = sent(it, at)
        it.shut(call, at + 1.0, at, explained=at == 140.0)
        if at < 140.0:
            it.let_through(sent(it, at + 10.0), at + 10.0)
    assert it.learnt is None
    it.reserve(0.0, 0, 142.0)
    assert it.fits_at(0.0, 142.0) <= 142.0
    assert refused(it, sent(it, 142.0), 142.1), "and what is refused next is taken for chance"


def test_a_limit_is_learnt_by_chance_from_no_less_than_a_second() -> None:
    it = lucky()
    for number in range(30):
        sent(it, 100.0 + 0.01 * number)
    for number in range(4):
        assert refused(it, sent(it, 100.3 + 0.01 * number), 100.31 + 0.01 * number)
    assert it.learnt is None, "thirty in a third of a second are no thirty a second"


def test_no_call_is_sent_again_before_its_wait_is_over() -> None:
    crowd = Crowd({"a": Chance(0.2, 1.0)})
    crowd.work(50, 600)
    crowd.all()
    delays = [record.delay for run in crowd.runs for record in run.call.records[1:]]
    assert len(delays) > 100
    assert min(delays) >= 1.0 - 1e-9
