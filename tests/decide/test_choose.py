"""Whom to ask among equals: the better ones more often, nobody never."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_llm.decide.breaker import Cause
from resilient_llm.decide.choose import at_home, breaks, cheapest, choose, least_bad, stalest, usual_latency
from resilient_llm.decide.gate import SlowGate
from resilient_llm.decide.member import Member
from resilient_llm.decide.outcome import Outcome
from resilient_llm.policy import Policies
from tests.decide.world import PROPERTY, Luck, Target


def member(name: str, latency: float | None = None, failures: int = 0, weight: float = 1.0) -> Member[Target]:
    made: Member[Target] = Member(Target(name, weight=weight), Policies(), [SlowGate(3600.0)])
    if latency is not None:
        made.statistics.first_token(0.0, latency, 0)
        made.statistics.judge(0.0, Outcome.OK)
    for _ in range(failures):
        made.statistics.judge(0.0, Outcome.HARD)
    return made


def shares(*members: Member[Target], draws: int = 4000) -> dict[str, float]:
    luck = random.Random(1)
    chosen = Counter(choose(members, 0.0, luck.random).id for _ in range(draws))
    return {each.id: chosen[each.id] / draws for each in members}


def test_equals_share_equally() -> None:
    assert shares(member("a"), member("b"), member("c")) == pytest.approx(dict.fromkeys("abc", 1 / 3), abs=0.05)


def test_weights_are_honoured_among_equals() -> None:
    found = shares(member("a", 1.0, weight=3.0), member("b", 1.0))
    assert found["a"] > 2.5 * found["b"]


def test_a_slow_provider_is_asked_rarely_but_not_never() -> None:
    found = shares(member("a", 1.0), member("b", 10.0), draws=20000)
    assert 0.0 < found["b"] < 0.02


def test_a_failing_provider_does_not_attract_calls_by_failing_fast() -> None:
    found = shares(member("failing", 1.0, failures=20), member("healthy", 1.0))
    assert found["failing"] < 0.1


def test_of_two_draws_the_cheaper_is_taken_whichever_came_first() -> None:
    cheap, dear = member("cheap", 1.0), member("dear", 1.5)
    for draws in ([0.0, 0.999], [0.999, 0.0]):
        luck = Luck()
        luck.next = list(draws)
        assert choose([cheap, dear], 0.0, luck) is cheap


def test_the_same_draw_twice_is_the_choice_however_dear() -> None:
    luck = Luck(0.999)
    dear = member("dear", 1.5)
    assert choose([member("cheap", 1.0), dear], 0.0, luck) is dear


def test_without_any_weight_somebody_is_still_chosen() -> None:
    assert choose([member("a", weight=0.0), member("b", weight=0.0)], 0.0, Luck()).id == "b"


def test_an_unknown_latency_is_taken_for_the_best_known_one() -> None:
    assert usual_latency([member("a"), member("b")]) is None
    assert usual_latency([member("a"), member("b", 2.0), member("c", 1.0)]) == 1.0
    assert member("a").price(2.0) == pytest.approx(2.25)


def test_the_cheapest_counts_failures_as_seconds() -> None:
    assert cheapest([member("a", 1.0, failures=5), member("b", 2.0)]).id == "b"
    assert cheapest([member("a", 1.0), member("b", 2.0)]).id == "a"


def test_the_stalest_is_the_one_unseen_for_longest() -> None:
    never, early, late = member("never"), member("early", 1.0), member("late", 1.0)
    late.statistics.judge(20.0, Outcome.OK)
    assert stalest([never, early, late], 30.0) is None
    assert stalest([never, early, late], 30.1) is early
    assert stalest([never, late, early], 1000.0) is early
    assert stalest([never], 1e9) is None, "it has the benefit of the doubt"


def test_who_is_under_trial_is_not_tried_again_until_that_is_over() -> None:
    early, late = member("early", 1.0), member("late", 1.0)
    late.statistics.judge(20.0, Outcome.OK)
    early.trial, early.trial_ends = object(), 120.0
    assert stalest([early, late], 100.0) is late
    assert stalest([early], 100.0) is None
    assert stalest([early, late], 120.0) is early, "one that never ends loses its place"


def test_of_the_half_broken_the_one_before_is_asked_unless_another_is_clearly_better() -> None:
    for streaming in (False, True):
        assert least_bad([member("a", failures=3), member("b", failures=3)], streaming=streaming).id == "a"
        assert least_bad([member("a", failures=9), member("b", failures=2)], streaming=streaming).id == "b"


def half_broken(name: str, share: float, *, breaks_late: bool) -> Member[Target]:
    made = member(name, 1.0)
    made.breaker._share, made.breaker.ends_late = share, breaks_late
    return made


@pytest.mark.parametrize(
    ("broken", "failing", "first"), [(0.1, 0.5, "a"), (0.4, 0.5, "b"), (0.4, 0.9, "a"), (0.8, 0.8, "b")], ids=str
)
def test_a_stream_that_breaks_is_lost_and_what_fails_before_is_asked_for_again(
    broken: float, failing: float, first: str
) -> None:
    """One that fails nine calls in ten loses 73 % of them in three tries, one that breaks four streams in ten 40 %."""
    a, b = half_broken("a", broken, breaks_late=True), half_broken("b", failing, breaks_late=False)
    assert least_bad([a, b], streaming=True).id == first
    assert breaks(a, [b]) is (broken > failing**3)
    assert not breaks(b, [a])
    assert least_bad([a, b], streaming=False).id == "a", "a whole answer that breaks was not handed over"


def test_where_streams_stopped_they_are_lost() -> None:
    a, b = member("a", 1.0), half_broken("b", 0.9, breaks_late=False)
    a.breaker.suspected(Cause.STALLED, 0.0, 0.0)
    assert least_bad([a, b], streaming=True).id == "b"
    assert breaks(a, [b])
    a.breaker.spoke(1.0)
    assert least_bad([a, b], streaming=True).id == "a"


def test_a_conversation_stays_unless_another_costs_clearly_less() -> None:
    home, other = member("home", 1.0), member("other", 0.9)
    assert at_home([home, other], "home", 0.7) is home
    assert at_home([home, member("other", 0.1)], "home", 0.7) is None
    assert at_home([other], "home", 0.7) is None, "it is not among those that can be asked"
    assert at_home([home], None, 0.7) is None


def test_work_under_way_makes_a_provider_dearer() -> None:
    busy, idle = member("busy", 1.0), member("idle", 1.2)
    busy.pending[object()] = 0.0
    assert busy.price(0.0) == pytest.approx(member("idle", 1.0).price(0.0) + 1.0)
    assert cheapest([busy, idle]) is idle


@PROPERTY
@given(
    histories=st.lists(
        st.tuples(st.floats(0.0, 100.0), st.integers(0, 30), st.floats(0.0, 10.0)), min_size=1, max_size=6
    ),
    seed=st.integers(0, 2**32),
)
def test_somebody_is_always_chosen_and_every_score_lies_between_nothing_and_one(
    histories: list[tuple[float, int, float]], seed: int
) -> None:
    members = [member(str(index), *history) for index, history in enumerate(histories)]
    assert choose(members, 0.0, random.Random(seed).random) in members
    best = usual_latency(members)
    for each in members:
        assert 0.0 <= each.score(each.statistics.latency, each.statistics.success_rate(0.0), best) <= 1.0
        assert 0.0 <= each.price(best or 0.0) < 1e6
