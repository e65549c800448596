"""Answers as text for a terminal and as JSON for machines."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Final

from resilient_llm.simulate.whatif.figures import Figures, Tally
from resilient_llm.simulate.whatif.run import Answer

_BAR: Final = 24
_HEAD: Final = ("", "answered", "lost", "first token p50", "p99", "attempts a call", "1,000 answers", "wasted")


def headline(answer: Answer) -> str:
    """What is to be known at a glance, in one line."""
    alone = answer.of("alone")
    told = f"{when(answer)}: {percent(answer.told(answer.mine))} answered"
    if alone is None:
        return told
    preferred = answer.setup.providers[0].id
    return f"{told} ({preferred} alone: {percent(answer.told(alone))})"


def when(answer: Answer) -> str:
    """The case and how long it lasted."""
    case = answer.case
    if case.name == "year":
        return f"A year with {span(case.lasts)} of incidents"
    name = f"{case.name} " if case.name[:2] == "20" else ""
    return f"{name}{case.title}, {span(case.lasts)}"


def as_text(answers: Sequence[Answer]) -> str:
    """For a terminal: one answer in full, several at a glance."""
    if len(answers) == 1:
        return "\n".join(_in_full(answers[0])) + "\n"
    return "\n".join(_at_a_glance(answers)) + "\n"


def _in_full(answer: Answer) -> Iterator[str]:
    yield headline(answer)
    yield from _sentences(answer)
    yield ""
    yield from table(answer)
    yield ""
    yield from _who_answered(answer)
    yield ""
    for index, note in enumerate(answer.case.notes):
        yield f"  {note}." if index else f"What happened: {note}."
    if answer.case.source:
        yield f"Source: {answer.case.source}"
    yield from caveats(answer)


def _sentences(answer: Answer) -> Iterator[str]:
    mine, alone = answer.told(answer.mine), answer.of("alone")
    if not answer.case.touched:
        yield "  None of these providers was touched by it."
    if alone is not None and answer.told(alone).lost > mine.lost:
        more, calls = count(answer.told(alone).lost - mine.lost), count(mine.calls)
        yield f"  {more} of {calls} calls are answered that an SDK with two retries there would have lost."
    others = answer.of("other settings")
    if others is not None:
        other = answer.told(others)
        yield f"  {others.name}: {percent(other)} answered, {_differs(mine, other)}."


def _differs(mine: Tally, other: Tally) -> str:
    """How the other settings compare."""
    if round(other.lost) == round(mine.lost):
        return "as many calls"
    more = other.answered - mine.answered
    return f"{count(abs(more))} {'more' if more > 0 else 'fewer'} calls"


def table(answer: Answer) -> list[str]:
    """All strategies side by side, while something is wrong (of a year: all of it)."""
    rows = [_HEAD, *(tuple(cells(one, answer)) for one in answer.figures)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEAD))]
    return [
        "  ".join(
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def cells(one: Figures, answer: Answer) -> Iterator[str]:
    """One strategy's cells, as in the table's head."""
    told = answer.told(one)
    yield f"{one.name} (in hindsight)" if one.who == "best" else one.name
    yield percent(told)
    yield count(told.lost)
    yield seconds(told.first_token(0.5))
    yield seconds(told.first_token(0.99))
    yield "" if math.isnan(told.attempts_per_call) else f"{told.attempts_per_call:.2f}"
    yield money(told.cost_per_thousand, answer.currency)
    yield f"{100 * told.wasted / told.cost:.1f} %" if told.cost else ""


def _who_answered(answer: Answer) -> Iterator[str]:
    mine = answer.told(answer.mine)
    longest = max((len(one.id) for one in answer.setup.providers), default=0)
    yield f"Who answered, with {answer.mine.name}:"
    for one in answer.setup.providers:
        share = part(mine, one.id)
        bar = "█" * round(_BAR * share)
        yield f"  {one.id:{longest}}  {bar:{_BAR}} {100 * share:5.1f} %  {span(share * answer.shown_seconds)}"


def part(tally: Tally, provider: str) -> float:
    """A provider's share of the answers."""
    share = tally.shares.get(provider)
    return share.answered / tally.answered if share is not None and tally.answered else 0.0


def caveats(answer: Answer) -> Iterator[str]:
    """What must be known beside the figures."""
    load = answer.case.load
    yield (
        f"Modelled, not measured: {load.told}, deadline {load.deadline or answer.setup.deadline:g} s; usual speeds of "
        "vendors from public measurements."
    )
    if answer.unpriced:
        yield f"No price is known for {', '.join(answer.unpriced)}: their cost is missing (--prices FILE)."


def _at_a_glance(answers: Sequence[Answer]) -> Iterator[str]:
    preferred = answers[0].setup.providers[0].id
    rows = [(when(one), percent(one.told(one.mine)), _alone(one), count(saved(one))) for one in answers]
    head = ("", answers[0].mine.name, f"{preferred} alone", "calls saved")
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(4)]
    for row in (head, *rows):
        yield "  ".join(
            cell.ljust(width) if not index else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
    yield ""
    mine = sum(one.told(one.mine).lost for one in answers)
    calls = sum(one.told(one.mine).calls for one in answers)
    alone = sum(saved(one) for one in answers) + mine
    yield f"Lost in all: {count(mine)} of {count(calls)} calls; {count(alone)} with {preferred} alone."
    yield from caveats(answers[0])
    yield "One of them in full: --incident NAME"


def _alone(answer: Answer) -> str:
    alone = answer.of("alone")
    return "" if alone is None else percent(answer.told(alone))


def saved(answer: Answer) -> float:
    alone = answer.of("alone")
    return 0.0 if alone is None else answer.told(alone).lost - answer.told(answer.mine).lost


# --- figures as words --------------------------------------------------------------------------------------


def percent(tally: Tally) -> str:
    """The share answered, never rounded up to all."""
    if not tally.calls:
        return "no calls"
    if tally.lost < 0.5:
        return "100 %"
    if not tally.answered:
        return "0 %"
    digits = 4 if tally.availability >= 0.9999 else 2 if tally.availability >= 0.99 else 1
    parts: int = 10**digits
    return f"{math.floor(100 * parts * tally.availability) / parts:.{digits}f} %"


def count(number: float) -> str:
    """A number of calls."""
    return f"{round(number):,}"


def seconds(value: float) -> str:
    """A latency."""
    return "" if math.isnan(value) else f"{value:.2f} s"


def money(value: float, currency: str) -> str:
    """An amount."""
    return "" if math.isnan(value) or not value else f"{value:.2f} {currency}"


def span(value: float) -> str:
    """A duration in words."""
    if value < 60:
        return f"{value:.0f} s"
    minutes = round(value / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    return f"{hours:,} h {rest} min" if rest and hours < 100 else f"{hours:,} h"


# --- JSON --------------------------------------------------------------------------------------------------


def as_json(answers: Sequence[Answer]) -> str:
    """For machines; ``null`` where there is nothing to measure."""
    return json.dumps({"version": 1, "answers": [_told(one) for one in answers]}, indent=1, allow_nan=False)


def _told(answer: Answer) -> dict[str, object]:
    case = answer.case
    return {
        "case": case.name,
        "title": case.title,
        "headline": headline(answer),
        "seconds": case.lasts,
        "notes": case.notes,
        "source": case.source,
        "callers": case.load.told,
        "deadline": case.load.deadline or answer.setup.deadline,
        "currency": answer.currency,
        "unpriced": answer.unpriced,
        "strategies": [_figures(one) for one in answer.figures],
    }


def _figures(one: Figures) -> dict[str, object]:
    return {"name": one.name, "who": one.who, "during": _counted(one.during), "whole": _counted(one.whole)}


def _counted(tally: Tally) -> dict[str, object]:
    providers = {
        name: {"attempts": share.attempts, "answered": share.answered, "cost": round(share.cost, 6)}
        for name, share in tally.shares.items()
    }
    return {
        "calls": tally.calls,
        "answered": tally.answered,
        "availability": _number(tally.availability),
        "first_token_p50": _number(tally.first_token(0.5)),
        "first_token_p99": _number(tally.first_token(0.99)),
        "attempts_per_call": _number(tally.attempts_per_call),
        "cost": round(tally.cost, 6),
        "cost_per_1000_answers": _number(tally.cost_per_thousand),
        "wasted_cost": round(tally.wasted, 6),
        "providers": providers,
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)
