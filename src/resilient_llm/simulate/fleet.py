"""Many processes that know nothing of each other: do they herd, and do they let an overloaded provider recover?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from resilient_llm.simulate.client import Client, Production, Real
from resilient_llm.simulate.providers import Nature, Provider, Trouble
from resilient_llm.simulate.strategies import PLAIN, PlainTry
from resilient_llm.simulate.world import Load, World

_SMALLEST: Final = 5.0
"""Calls a second that any provider has room for."""


class Herd(NamedTuple):
    """A fleet while a provider is in trouble.

    Attempts a second at that provider: the mean and the most in any second, during its outage (once it has been found
    out) and in the minute after its return.  ``answered`` is the share of all callers who were, ``attempts`` per call,
    ``p99`` the 99th percentile of the seconds to the first token during the outage, ``p99_after`` in the two minutes
    after it; ``per_second`` are the attempts at the provider in trouble.
    """

    clients: int
    mean: float
    most: int
    after_mean: float
    after_most: int
    per_second: tuple[int, ...]
    answered: float
    attempts: float
    p99: float
    p99_after: float

    @property
    def peak(self) -> float:
        """The busiest second over the mean."""
        return self.most / self.mean if self.mean else 0.0


def herd(
    clients: int,
    *,
    seed: int = 1,
    rate: float = 0.1,
    kind: str = "error",
    retry_after: float | None = None,
    capacity: float = 0.6,
) -> Herd:
    """``clients`` processes at ``rate`` calls a second each; one of three providers is down for five minutes.  Each
    provider has room for ``capacity`` of all calls, so that two can just do the work of three; who would wait for more
    than ten seconds is refused."""
    down, up, known = 120.0, 420.0, 240.0
    nature = Nature(rate=max(_SMALLEST, capacity * rate * clients), patience=10.0)
    trouble = Trouble(down, up, kind, retry_after=retry_after)
    providers = [Provider("a", nature, [trouble]), Provider("b", nature), Provider("c", nature)]
    fleet = [Production([providers], seed=seed * 100_000 + index) for index in range(clients)]
    world = World(fleet, Load(rate=rate * clients), seed).run(600.0)
    bins = Counter(int(at) for at in world.asked["a"])
    during = [bins[second] for second in range(int(known), int(up))]
    after = [bins[second] for second in range(int(up), int(up) + 60)]
    return Herd(
        clients,
        sum(during) / len(during),
        max(during),
        sum(after) / len(after),
        max(after),
        tuple(bins[second] for second in range(600)),
        sum(call.ok for call in world.ended) / len(world.ended),
        sum(call.attempts for call in world.ended) / len(world.ended),
        _p99([call.first for call in world.ended if call.ok and down <= call.started < up]),
        _p99([call.first for call in world.ended if call.ok and up <= call.started < up + 120.0]),
    )


def _p99(waits: Sequence[float]) -> float:
    return sorted(waits)[int(0.99 * len(waits))] if waits else 0.0


class Storm(NamedTuple):
    """A provider at 80 % of its capacity loses part of it for some time.  ``recovered`` is how long after the end of
    the trigger 95 % of callers are answered again for 20 s (``inf``: never), ``total`` the share of all calls from its
    begin on that are answered; ``answered`` the same for each second, ``load`` the attempts."""

    strategy: str
    recovered: float
    total: float
    answered: tuple[float, ...]
    load: tuple[int, ...]


def storm(
    strategy: str,
    *,
    seed: int = 1,
    clients: int = 50,
    trigger: float = 60.0,
    factor: float = 0.25,
    seconds: float = 900.0,
    deadline: float = 100.0,
) -> Storm:
    """Let a retry storm happen, or not: for ``trigger`` seconds only ``factor`` of the capacity is left, and callers
    have ``deadline`` seconds.  What they gave up is done all the same, as servers do."""
    capacity, start = 25.0, 120.0
    nature = Nature(rate=capacity, patience=120.0, sigma=0.3)
    provider = Provider("a", nature, [Trouble(start, start + trigger, "shrink", factor=factor)])
    load = Load(rate=0.8 * capacity, deadline=deadline, output=20)
    if strategy == "production":
        real: list[Client[Real]] = [Production([[provider]], seed=seed * 1000 + i) for i in range(clients)]
        return _storm(strategy, World(real, load, seed).run(seconds), start, start + trigger)
    plain: list[Client[PlainTry]] = [PLAIN[strategy]([[provider]], seed * 1000 + i) for i in range(clients)]
    return _storm(strategy, World(plain, load, seed).run(seconds), start, start + trigger)


def _storm(strategy: str, world: World[Real] | World[PlainTry], start: float, end: float) -> Storm:
    calls: Counter[int] = Counter()
    answered: Counter[int] = Counter()
    for call in world.ended:
        calls[int(call.started)] += 1
        answered[int(call.started)] += call.ok
    last = max(calls)
    shares = [answered[second] / calls[second] if calls[second] else 1.0 for second in range(last + 1)]
    recovered = next(
        (
            second - end
            for second in range(int(end), last - 20)
            if sum(answered[s] for s in range(second, second + 20))
            >= 0.95 * sum(calls[s] for s in range(second, second + 20))
        ),
        float("inf"),
    )
    bins = Counter(int(at) for at in world.asked["a"])
    whole = [call.ok for call in world.ended if call.started >= start]
    load = tuple(bins[second] for second in range(last + 1))
    return Storm(strategy, recovered, sum(whole) / len(whole), tuple(shares), load)


def svg(title: str, series: Mapping[str, Sequence[float]], unit: str, height: int = 220, width: int = 720) -> str:
    """A line chart of values per second."""
    colours = ("#1f5fa8", "#c0392b", "#2e8b57", "#8e6c00")
    most = max((max(values, default=0.0) for values in series.values()), default=1.0) or 1.0
    length = max((len(values) for values in series.values()), default=1)
    left, top, right, bottom = 48, 30, 12, 28
    wide, high = width - left - right, height - top - bottom
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif"'
        ' font-size="11">',
        f'<text x="{left}" y="16" font-size="13">{title}</text>',
        f'<path d="M{left} {top}V{top + high}H{left + wide}" fill="none" stroke="#888"/>',
        f'<text x="{left - 4}" y="{top + 8}" text-anchor="end">{most:.3g}</text>',
        f'<text x="{left - 4}" y="{top + high}" text-anchor="end">0</text>',
        f'<text x="{left}" y="{height - 8}">0 s</text>',
        f'<text x="{left + wide}" y="{height - 8}" text-anchor="end">{length} s, {unit}</text>',
    ]
    for index, (name, values) in enumerate(series.items()):
        colour = colours[index % len(colours)]
        points = " ".join(
            f"{left + wide * x / length:.1f},{top + high * (1 - value / most):.1f}" for x, value in enumerate(values)
        )
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.2"/>')
        parts.append(f'<text x="{left + 8 + 150 * index}" y="{top + 10}" fill="{colour}">{name}</text>')
    return "\n".join([*parts, "</svg>", ""])
