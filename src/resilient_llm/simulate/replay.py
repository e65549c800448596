"""Replays of recorded weather: incidents of real providers, arrivals of real callers.

The data are not part of the package; give the paths.  Incidents say nothing about error rates: a common reading is
that minor ones fail 10 % of the calls, major ones 50 %, critical ones all.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

from resilient_llm.simulate.client import Client, Layout, Production, Real
from resilient_llm.simulate.providers import Provider, Trouble
from resilient_llm.simulate.strategies import PLAIN, PlainTry
from resilient_llm.simulate.world import Load, World

IMPACT: Final = {"minor": 0.1, "major": 0.5, "critical": 1.0}
"""The share of calls that fail."""
_PART: Final = 15 * 86400.0
"""Seconds simulated at a time; the pools start afresh with each part."""


class Outcome(NamedTuple):
    """How callers fared."""

    strategy: str
    calls: int
    answered: int
    attempts: int

    @property
    def availability(self) -> float:
        """The share answered."""
        return self.answered / self.calls if self.calls else 0.0


def incidents(path: Path, days: int = 365) -> dict[str, list[Trouble]]:
    """The incidents of the last ``days`` of a file with the columns provider, start_utc, minutes, impact."""
    rows: list[tuple[str, datetime, float, str]] = []
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            began = datetime.strptime(row["start_utc"], "%Y-%m-%dT%H:%MZ").replace(tzinfo=UTC)
            rows.append((row["provider"], began, float(row["minutes"]) * 60.0, row["impact"]))
    origin = max(began for _, began, _, _ in rows) - timedelta(days=days)
    found: dict[str, list[Trouble]] = {}
    for provider, began, seconds, impact in rows:
        start = (began - origin).total_seconds()
        if impact in IMPACT and start >= 0:
            found.setdefault(provider, []).append(Trouble(start, start + seconds, "error", IMPACT[impact]))
    return found


def year(troubles: dict[str, list[Trouble]], strategy: str, days: int = 365, rate: float = 0.1) -> Outcome:
    """Live through the incidents at ``rate`` calls a second, the provider named first in the file preferred."""
    total = Outcome(strategy, 0, 0, 0)
    names = sorted(troubles, reverse=True)
    for index in range(int(days * 86400.0 / _PART)):
        start = index * _PART
        providers = [Provider(name, troubles=_cut(troubles[name], start, start + _PART)) for name in names]
        world = _world([[provider] for provider in providers], strategy, Load(rate=rate), index)
        total = _add(total, world.run(_PART))
    return total


def _cut(troubles: Sequence[Trouble], start: float, end: float) -> list[Trouble]:
    return [
        trouble._replace(start=max(0.0, trouble.start - start), end=min(end, trouble.end) - start)
        for trouble in troubles
        if trouble.start < end and trouble.end > start
    ]


def arrivals(path: Path) -> list[tuple[float, int, int]]:
    """Seconds, prompt tokens and output tokens of each call of a gzipped trace."""
    with gzip.open(path, "rt", newline="") as file:
        return [
            (float(row["seconds"]), int(row["prompt_tokens"]), max(1, int(row["output_tokens"])))
            for row in csv.DictReader(file)
        ]


def burst(
    trace: Sequence[tuple[float, int, int]], strategy: str, troubles: Sequence[Trouble], layout: str
) -> World[Real] | World[PlainTry]:
    """An hour of recorded arrivals with the preferred one of three providers in trouble."""
    providers = [Provider("a", troubles=troubles), Provider("b"), Provider("c")]
    tiers = [providers] if layout == "tier" else [[provider] for provider in providers]
    return _world(tiers, strategy, Load(trace=trace), 1).run(trace[-1][0] + 1.0)


def _world(layout: Layout, strategy: str, load: Load, seed: int) -> World[Real] | World[PlainTry]:
    if strategy == "production":
        return World([Production(layout, seed=seed)], load, seed)
    clients: list[Client[PlainTry]] = [PLAIN[strategy](layout, seed)]
    return World(clients, load, seed)


def _add(total: Outcome, world: World[Real] | World[PlainTry]) -> Outcome:
    return Outcome(
        total.strategy,
        total.calls + len(world.ended),
        total.answered + sum(call.ok for call in world.ended),
        total.attempts + sum(call.attempts for call in world.ended),
    )


def describe(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """A Markdown table."""
    yield "| strategy | calls | answered | attempts a call |"
    yield "|---|---|---|---|"
    for one in outcomes:
        yield f"| {one.strategy} | {one.calls} | {100 * one.availability:.3f} % | {one.attempts / one.calls:.4f} |"
