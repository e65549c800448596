"""A call can be decided again from its record, with the same result, whatever happened to it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_llm.decide.attempt import Attempt
from resilient_llm.decide.slowness import Slowness
from resilient_llm.errors import Fault, FaultKind, FaultScope
from resilient_llm.record import DecisionRecord, replay
from resilient_llm.record.recorder import RecordedCall
from tests.decide import driver as driving
from tests.decide.driver import ANSWER, DOWN, FAILS, HANG, Act, Behaviour, Driver
from tests.decide.world import HEAVY, Target

LIMITED = Fault(FaultKind.RATE_LIMITED, retry_after=1.0, scope=FaultScope.CREDENTIAL, status=429)
KEYLESS = Fault(FaultKind.AUTH, scope=FaultScope.CREDENTIAL, status=401)
REJECTED = Fault(FaultKind.BAD_REQUEST, scope=FaultScope.REQUEST, status=400)
TOO_LONG = Fault(FaultKind.CONTEXT_LENGTH, scope=FaultScope.REQUEST, status=400)
ACTS = (
    ANSWER,
    ANSWER,
    Act(1.5),
    Act(2.0, first=0.3),
    HANG,
    Act(0.1, FAILS),
    Act(0.1, DOWN),
    Act(0.1, LIMITED),
    Act(0.1, KEYLESS),
    Act(0.1, REJECTED),
    Act(0.1, TOO_LONG),
    Act(3.0, FAILS, first=0.5),
)


def moody(seed: int) -> Behaviour:
    """Keeps to one way of answering for some seconds, then to another."""

    def behave(now: float, attempt: Attempt[Target]) -> Act:
        return random.Random(seed * 1000 + int(now / 4.0)).choice(ACTS)

    return behave


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    record_everything(monkeypatch.setattr)


def record_everything(setattr_: Callable[..., None]) -> None:
    def call(pool: object, ask: object, now: float) -> object:
        return RecordedCall(pool, ask, now, "call-{}".format)  # type: ignore[arg-type]

    setattr_(driving, "Call", call)


def check(driver: Driver) -> int:
    decided = 0
    for run in driver.runs:
        assert isinstance(run.call, RecordedCall)
        record = DecisionRecord.from_json(run.call.record.to_json())
        assert replay(record) == record.decisions, str(record)
        decided += len(record.decisions)
    return decided


@HEAVY
@given(st.integers(0, 10_000), st.integers(1, 3), st.booleans())
def test_a_record_is_decided_again_as_it_was(seed: int, providers: int, equals: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        record_everything(patch.setattr)
        names = ["a", "b", "c"][:providers]
        tiers = [[Target(name, max_concurrency=3, context_window=8000) for name in names]] if equals else [*names]
        driver = Driver({name: moody(seed + at) for at, name in enumerate(names)}, *tiers, seed=seed)
        driver.calls(3.0, 20.0, 6.0, conversation="talk" if seed % 2 else None)
        assert check(driver) >= 60


def test_a_call_that_a_saturated_provider_turned_away_is_decided_again(
    recorded: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    free_at, original, turned_away = [0.0], Slowness.turns_away, Counter[bool]()

    def turns_away(self: Slowness, waiting: int, now: float, left: float) -> bool:
        turned_away[found := original(self, waiting, now, left)] += 1
        return found

    monkeypatch.setattr(Slowness, "turns_away", turns_away)

    def queues(now: float, attempt: Attempt[Target]) -> Act:
        free_at[0] = max(free_at[0], now) + 0.2
        first = free_at[0] - now + 0.5
        return Act(first + 0.1, first=first)

    driver = Driver({"a": queues, "b": lambda now, attempt: Act(0.6, first=0.5)}, "a", "b", seed=1)
    driver.calls(2.0, 30.0, 60.0, streaming=True)
    driver.calls(5.5, 60.0, 60.0, streaming=True)
    assert turned_away[True] >= 10
    assert check(driver) >= 200
