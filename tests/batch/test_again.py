"""Whether a prompt is asked again."""

from __future__ import annotations

import math

import pytest

from resilient_llm import AllAttemptsFailed, DeadlineExceeded, InvalidRequest, NoProviderAvailable, RequestRejected
from resilient_llm.batch.again import LONGEST_WAIT, Tries
from resilient_llm.errors import Fault, FaultKind
from resilient_llm.options import ChatOptions

DOWN = NoProviderAvailable("nobody", retry_after=3.0, reasons={"a": "breaker open"})
FAILED = AllAttemptsFailed("failed", fault=Fault(FaultKind.SERVER_ERROR))


def tries(options: ChatOptions | None = None, usual: float = 600.0) -> Tries:
    return Tries(options or {}, usual, 0.0, 0)


@pytest.mark.parametrize(
    "error",
    [
        InvalidRequest("no"),
        RequestRejected("no", fault=Fault(FaultKind.BAD_REQUEST)),
        AllAttemptsFailed("no", fault=Fault(FaultKind.AUTH)),
        DeadlineExceeded("late"),
        NoProviderAvailable("no", retry_after=60.0, reasons={"a": "quota or credentials"}),
        NoProviderAvailable("no", reasons={"a": "lacks the tags eu"}),
        ValueError("mine"),
    ],
    ids=lambda error: f"{type(error).__name__}-{error}",
)
def test_what_would_come_again_is_the_result(error: Exception) -> None:
    assert tries().wait_after(error, 1.0, 0) is None


def test_an_outage_is_waited_for_until_the_deadline_and_no_longer() -> None:
    one, now, waits = tries({"deadline": 100}), 0.0, list[float]()
    while True:
        now += 10  # a call behind an outage
        wait = one.wait_after(DOWN, now, 0)
        if wait is None:
            break
        waits.append(wait)
        now += wait
        assert one.options.get("deadline") == pytest.approx(100 - now)
    assert waits == [3.0, 3.0, 4.0, 8.0, 16.0]
    assert now < 100


def test_without_a_deadline_it_is_waited_for_as_long_as_it_takes() -> None:
    one = tries({"deadline": None})
    waits = [one.wait_after(DOWN, float(number), 0) for number in range(50)]
    assert waits[-1] == LONGEST_WAIT
    assert one.options.get("deadline", math.inf) is None


def test_a_prompt_that_fails_where_others_are_answered_gets_three_calls() -> None:
    one = tries()
    assert [one.wait_after(FAILED, number, number) is None for number in (1, 2, 3)] == [False, False, True]


def test_a_prompt_that_fails_like_all_others_gets_eight() -> None:
    one = tries()
    waits = [one.wait_after(FAILED, float(number), 0) for number in range(8)]
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, None]
