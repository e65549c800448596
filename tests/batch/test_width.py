"""How wide a run is: plain numbers in, a width out; a provider here is a rate, a latency and, perhaps, a line."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass

import pytest

from resilient_llm.batch.width import FIRST, Fixed, Width


@dataclass
class Provider:
    """Answers so many calls at once and so many a second; beyond that calls stand in line."""

    latency: float
    rate: float = 1e9
    slots: int = 10**9
    noise: float = 0.0


def run(provider: Provider, count: int, most: int = 512, seed: int = 0) -> tuple[float, Width, list[int]]:
    """Seconds for so many calls, in virtual time, and the width after each."""
    luck, width, widths = random.Random(seed), Width(most), list[int]()
    now, next_free, begun, ended = 0.0, 0.0, 0, 0
    slots: list[float] = [0.0] * min(provider.slots, 2000)
    running: list[float] = []
    starts: list[float] = []
    while ended < count:
        while begun < count and len(running) < width.width:
            start = max(now, next_free)
            next_free = start + 1 / provider.rate
            slot = heapq.heappop(slots)
            start = max(start, slot)
            took = provider.latency * (1 + provider.noise * luck.uniform(-1, 1))
            heapq.heappush(slots, start + took)
            starts.append(start)
            heapq.heappush(running, start + took)
            begun += 1
        now = heapq.heappop(running)
        ended += 1
        starts = [start for start in starts if start > now]
        width.ended(now, waiting=0 if provider.slots < 10**9 else len(starts), failed=False)
        widths.append(width.width)
    return now, width, widths


@pytest.mark.parametrize("seed", range(5))
def test_it_grows_as_long_as_that_pays(seed: int) -> None:
    seconds, width, _ = run(Provider(latency=1.0, noise=0.5), 20_000, seed=seed)
    assert width.width > 200
    assert seconds < 2.5 * 20_000 / 512


def test_it_finds_the_width_that_a_rate_limit_allows() -> None:
    """100 a second that take half a second each: 50 are under way, and few stand in line."""
    seconds, width, widths = run(Provider(latency=0.5, rate=100), 5000)
    assert seconds < 1.1 * 50
    assert 50 <= width.width <= 110
    assert max(widths) <= 130


def test_it_shrinks_where_most_of_it_stands_in_line() -> None:
    width = Width(512, first=256)
    for number in range(3000):
        width.ended(number / 100, waiting=width.width - 8, failed=False)
    assert 8 <= width.width <= 20


def test_a_provider_that_only_gets_slower_is_not_flooded() -> None:
    """Sixteen slots and no limit that it would tell: more calls at once are no faster."""
    seconds, _, widths = run(Provider(latency=0.5, slots=16, noise=0.2), 3000)
    assert seconds < 1.15 * 3000 / 32
    assert max(widths[500:]) <= 40


def test_an_outage_makes_it_one_and_its_end_wide_again() -> None:
    width, now = Width(512, first=64), 0.0
    for _ in range(300):
        now += 0.2
        width.ended(now, waiting=0, failed=True)
    assert width.width == 1
    for _ in range(5000):
        now += 1 / width.width
        width.ended(now, waiting=0, failed=False)
    assert width.width > FIRST


def test_a_small_width_grows_again() -> None:
    width, now = Width(512, first=2), 0.0
    for _ in range(60):  # nothing is faster
        now += 0.5
        width.ended(now, waiting=0, failed=False)
    assert width.width <= 4
    for _ in range(400):
        now += 0.5 / width.width
        width.ended(now, waiting=0, failed=False)
    assert width.width > 16


def test_the_greatest_width_is_kept_to() -> None:
    assert run(Provider(latency=1.0), 2000, most=10)[1].width == 10
    assert Width(4).width == 4


def test_a_number_is_that_number() -> None:
    fixed = Fixed(3)
    for number in range(100):
        fixed.ended(float(number), waiting=3, failed=True)
    assert fixed.width == 3
