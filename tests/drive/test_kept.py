"""Which kept-alive connection serves a request, and when it is closed."""

from __future__ import annotations

import time

import pytest

from resilient_llm.drive.engines.kept import Kept, Place
from resilient_llm.testing import ManualClock

HERE: Place = ("http", b"here", None)
THERE: Place = ("http", b"there", None)


class Fake:
    """A connection."""

    def __init__(self) -> None:
        self.kept_until = 0.0
        self.usable = True
        self.closed = False

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    found = ManualClock()
    monkeypatch.setattr(time, "monotonic", found)
    return found


def test_the_one_used_last_comes_first(clock: ManualClock) -> None:
    kept, first, second = Kept[Fake](), Fake(), Fake()
    kept.give(HERE, first)
    kept.give(HERE, second)
    assert [kept.take(THERE), kept.take(HERE), kept.take(HERE), kept.take(HERE)] == [None, second, first, None]


def test_one_that_cannot_be_used_is_closed(clock: ManualClock) -> None:
    kept, good, gone = Kept[Fake](), Fake(), Fake()
    kept.give(HERE, good)
    kept.give(HERE, gone)
    gone.usable = False
    assert kept.take(HERE) is good
    assert (gone.closed, good.closed) == (True, False)


def test_what_nobody_has_used_for_long_is_closed_also_where_nobody_asks(clock: ManualClock) -> None:
    kept, old, young = Kept[Fake](), Fake(), Fake()
    kept.give(THERE, old)
    clock.advance(31)
    kept.give(HERE, young)
    assert (old.closed, young.closed) == (True, False)
    clock.advance(31)
    assert kept.take(HERE) is None
    assert young.closed


def test_there_are_never_more_than_a_hundred(clock: ManualClock) -> None:
    kept, many = Kept[Fake](), [Fake() for _ in range(150)]
    for one in many:
        kept.give(HERE, one)
    assert [one.closed for one in many] == [True] * 50 + [False] * 100


def test_at_the_end_all_are_closed_and_none_is_kept(clock: ManualClock) -> None:
    kept, idle, late = Kept[Fake](), Fake(), Fake()
    kept.give(HERE, idle)
    kept.end()
    kept.give(THERE, late)
    assert (idle.closed, late.closed, kept.take(HERE)) == (True, True, None)
