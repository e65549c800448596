"""The figures as a table and a picture."""

# ruff: noqa: E501 - tables and markup

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from html import escape
from typing import Any, Final, Self

from benchmarks.comparison.contestants import CONTESTANTS
from benchmarks.comparison.scenarios import PATIENCE, Scenario


@dataclass(frozen=True, slots=True)
class Cell:
    """One contestant in one scenario: how every call ended (``answered``, ``wrong``, ``failed``, or ``cap`` where it was
    stopped from outside) and when, and how many requests each provider received."""

    endings: list[str]
    seconds: list[float]
    errors: list[str]
    preferred: int
    other: int

    @classmethod
    def of(cls, seen: Sequence[dict[str, Any]], preferred: int, other: int) -> Self:
        """Count what a worker saw."""
        errors = sorted({one["error"] for one in seen if one["error"]})
        endings = [one["ending"] for one in seen]
        return cls(endings, [round(one["seconds"], 4) for one in seen], errors, preferred, other)

    @property
    def calls(self) -> int:
        return len(self.seconds)

    @property
    def attempts(self) -> float:
        """Requests per call."""
        return (self.preferred + self.other) / max(1, self.calls)

    @property
    def answered(self) -> int:
        return self.endings.count("answered")

    @property
    def wrong(self) -> int:
        return self.endings.count("wrong")

    def short(self) -> str:
        """For a cell of the table."""
        told = f"{self.answered}/{self.calls}"
        if self.wrong:
            told += f", **{self.wrong} wrong**"
        told += f"; {_time(quantile(self.seconds, 0.5))}"
        if quantile(self.seconds, 1.0) > 1.5 * quantile(self.seconds, 0.5) + 0.02:
            told += f" (max {_time(quantile(self.seconds, 1.0))})"
        return f"{told}; {self.attempts:.1f}"


@dataclass(frozen=True, slots=True)
class Result:
    """One contestant in all scenarios."""

    name: str
    version: str
    cells: dict[str, Cell]

    def as_json(self) -> dict[str, object]:
        """To keep."""
        return {"version": self.version, "cells": {key: asdict(cell) for key, cell in self.cells.items()}}

    @classmethod
    def from_json(cls, name: str, value: dict[str, Any]) -> Self:
        """What was kept."""
        return cls(name, value["version"], {key: Cell(**cell) for key, cell in value["cells"].items()})


def quantile(values: Iterable[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed; 0 without any."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.0f}\N{NO-BREAK SPACE}ms" if seconds < 0.9995 else f"{seconds:.1f}\N{NO-BREAK SPACE}s"


def _answerable(result: Result, scenarios: Sequence[Scenario]) -> list[Cell]:
    return [result.cells[one.key] for one in scenarios if one.wanted == "answer" and one.key in result.cells]


def answered(result: Result, scenarios: Sequence[Scenario]) -> float:
    """The share of calls answered where an answer was possible: the mean of the scenarios' shares, so that one that ran
    into its time cap has fewer calls, not less weight."""
    cells = _answerable(result, scenarios)
    return sum(cell.answered / max(1, cell.calls) for cell in cells) / max(1, len(cells))


def _total(result: Result, scenarios: Sequence[Scenario]) -> dict[str, float]:
    cells = _answerable(result, scenarios)
    seconds = [value for cell in cells for value in cell.seconds]
    calls = max(1, sum(cell.calls for cell in cells))
    return {
        "answered": answered(result, scenarios),
        "wrong": sum(cell.wrong for cell in cells),
        "calls": calls,
        "p50": quantile(seconds, 0.5),
        "p99": quantile(seconds, 0.99),
        "max": quantile(seconds, 1.0),
        "attempts": sum(cell.preferred + cell.other for cell in cells) / calls,
    }


def page(results: Sequence[Result], scenarios: Sequence[Scenario]) -> str:
    """docs/comparison.md."""
    return f"""\
# Comparison

What happens to a caller while the preferred provider has a bad day and a second one is perfectly well? The same
{len(scenarios)} scenarios, on one machine over real sockets, for this library and for what people use instead. Written on {date.today()} by
`python -m benchmarks.comparison --write`, which makes an environment for each contestant, with the versions people get that day, and takes about fifteen minutes.
The raw figures are in [comparison.json](comparison.json).

{_summary(results, scenarios)}

*Answered* is the mean over the {sum(one.wanted == "answer" for one in scenarios)} scenarios in which an answer was possible; *wrong* counts calls that
returned normally with a text that was not the whole answer. Waiting time is that of every call, answered or not.

![Waiting time per call, scenario and contestant](comparison.svg)

## Per scenario

Each cell: calls answered of calls made; usual waiting time; requests sent per call, both providers together.

{_table(results, scenarios)}

In the last two scenarios the request itself is at fault. Whether somebody else should be asked then is a matter of
taste: a content filter that can be got round by failing over is not much of a filter.

## What was configured

{_configured(results)}

Everybody gives up on a request after {PATIENCE:g} s without a byte, where there is such a setting. A scenario is ten calls one after
the other with a new client, or as many as begin within 15 s. A good answer takes about 50 ms (first token after 10 ms,
then a word every 2 ms). Requests are counted by the servers. The scenarios' idea comes from
[failoverbench](https://github.com/failoverbench/failoverbench).

What is not here, and why (looked for again on 2026-11-28):

| | |
|---|---|
| liter-llm 2.4.0, the newest | installs, but its Python binding has retries at one endpoint only (`create_client(base_url=, max_retries=)`): no list of providers, no fallback |
| gateways (LiteLLM's proxy, Bifrost, Portkey...) | programs of their own beside the application; what they cost and save is another comparison |

## How to read it

- A stream that broke after its first words cannot go on without repeating or inventing something. There are two honest
  outcomes: an error the caller can see (`StreamInterrupted`, which carries the text so far), or another answer after a
  notice that what was shown is void (the row *restart*, see [streams](streams.md)). The dishonest one is in the column *wrong*.
- Each scenario has a new client, which knows nothing about its providers, as when a program starts during an outage. What this
  library loses to broken streams, and waits at a silent provider, are its first calls, until the [breaker](mechanisms/breaker.md) opens.
- The OpenAI SDK knows one provider. Its column shows what its retries are worth alone.
- Waiting times near a multiple of {PATIENCE:g} s are timeouts; near a multiple of 2 s, somebody waited for a Retry-After while an
  idle provider stood by.
- {PATIENCE:g} s is short, so that the benchmark is. With everybody's own defaults a silent provider costs half the deadline here, and without
  a deadline 30 s, while nothing is known about it (later the rescue delay, 1 to 10 s), and 600 s per attempt with the OpenAI SDK's.
- Differences below 200 ms are the CPU that each needs on a busy machine of two cores, more than anything else.
- What is *not* measured here: speed of the calls that go well (see the benchmarks), breadth of providers, and anything that
  a gateway with a database can do for a fleet.
"""


def _summary(results: Sequence[Result], scenarios: Sequence[Scenario]) -> str:
    head = "| | answered | wrong | waiting p50 | p99 | max | requests per call |\n|---|---|---|---|---|---|---|\n"
    rows: list[str] = []
    for result in results:
        total = _total(result, scenarios)
        rows.append(
            f"| {CONTESTANTS[result.name].title} | {total['answered']:.0%} | {total['wrong']:.0f} of {total['calls']:.0f} "
            f"| {_time(total['p50'])} | {_time(total['p99'])} | {_time(total['max'])} | {total['attempts']:.2f} |"
        )
    return head + "\n".join(rows)


def _table(results: Sequence[Result], scenarios: Sequence[Scenario]) -> str:
    titles = [CONTESTANTS[result.name].title for result in results]
    head = f"| scenario | {' | '.join(titles)} |\n|---{'|---' * len(titles)}|\n"
    rows = [
        f"| {one.title}{' (stream)' if one.stream else ''} | "
        + " | ".join(result.cells[one.key].short() if one.key in result.cells else "" for result in results)
        + " |"
        for one in scenarios
    ]
    return head + "\n".join(rows)


def _configured(results: Sequence[Result]) -> str:
    rows = [
        f"| {CONTESTANTS[result.name].title} | {result.version} | {CONTESTANTS[result.name].configured} |"
        for result in results
    ]
    return "| | version | set up |\n|---|---|---|\n" + "\n".join(rows)


# --- the picture -------------------------------------------------------------------------------------------

_COLOURS: Final = ("#2f6fdf", "#5fa9e8", "#8a8f98", "#d0342c", "#e08a1e", "#7b4fc9", "#12a08a", "#b0567c")
_LEFT, _RIGHT, _TOP, _ROW, _BAR = 300.0, 24.0, 86.0, 72.0, 7.0
_WIDTH = 1100.0
_FASTEST, _SLOWEST = 0.01, 20.0


def _x(seconds: float) -> float:
    share = math.log(max(seconds, _FASTEST) / _FASTEST) / math.log(_SLOWEST / _FASTEST)
    return _LEFT + min(1.0, share) * (_WIDTH - _LEFT - _RIGHT)


def picture(results: Sequence[Result], scenarios: Sequence[Scenario]) -> str:
    """Every call as a mark at its waiting time: a dot if it was answered, a ring if it failed, a cross if the answer was
    wrong."""
    height = _TOP + _ROW * len(scenarios) + 40
    parts = [_frame(height), _legend(results), _axis(height)]
    for row, scenario in enumerate(scenarios):
        parts.append(_row(row, scenario, results))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH:g} {height:g}" font-family="system-ui, sans-serif" '
        f'font-size="13" fill="#1c2430" role="img">\n<title>Waiting time per call</title>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _frame(height: float) -> str:
    return f'<rect width="{_WIDTH:g}" height="{height:g}" fill="#ffffff"/>'


def _legend(results: Sequence[Result]) -> str:
    parts: list[str] = []
    x, y = 16.0, 20.0
    for number, result in enumerate(results):
        title = CONTESTANTS[result.name].title
        width = 34 + 6.7 * len(title)
        if x + width > _WIDTH:
            x, y = 16.0, y + 22.0
        parts.append(
            f'<circle cx="{x:g}" cy="{y:g}" r="5" fill="{_COLOURS[number]}"/><text x="{x + 10:g}" y="{y + 4:g}">{escape(title)}</text>'
        )
        x += width
    marks = "dot: answered    ring: failed and said so    cross: wrong or silently short"
    parts.append(f'<text x="16" y="{y + 26:g}" fill="#5b6675" xml:space="preserve">{marks}</text>')
    return "".join(parts)


def _axis(height: float) -> str:
    parts: list[str] = []
    for seconds in (0.01, 0.1, 1.0, 10.0):
        x = _x(seconds)
        parts.append(f'<path d="M{x:.1f} {_TOP - 8:g}V{height - 30:g}" stroke="#dfe4ea"/>')
        parts.append(
            f'<text x="{x:.1f}" y="{height - 12:g}" text-anchor="middle" fill="#5b6675">{_time(seconds)}</text>'
        )
    return "".join(parts)


def _row(row: int, scenario: Scenario, results: Sequence[Result]) -> str:
    top = _TOP + row * _ROW
    parts = [
        f'<rect x="0" y="{top - 2:g}" width="{_WIDTH:g}" height="{_ROW:g}" fill="#1c2430" opacity="{0.03 * (row % 2):g}"/>'
    ]
    parts.append(f'<text x="16" y="{top + _ROW / 2 + 2:g}">{escape(scenario.title)}</text>')
    for number, result in enumerate(results):
        cell = result.cells.get(scenario.key)
        if cell is not None:
            y = top + 5 + number * (_BAR + 1)
            hover = escape(f"{CONTESTANTS[result.name].title}: {cell.short()}")
            parts.append(f"<g><title>{hover}</title>{''.join(_marks(cell, y, _COLOURS[number]))}</g>")
    return f"<g>{''.join(parts)}</g>"


def _marks(cell: Cell, y: float, colour: str) -> Iterable[str]:
    for kind, seconds in zip(cell.endings, cell.seconds, strict=True):
        x = _x(seconds)
        if kind == "answered":
            yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}" opacity="0.75"/>'
        elif kind == "wrong":
            yield f'<path d="M{x - 3:.1f} {y - 3:.1f}l6 6m0 -6l-6 6" stroke="{colour}" stroke-width="1.6"/>'
        else:
            yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="none" stroke="{colour}" stroke-width="1.4"/>'
