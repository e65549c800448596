"""What the live view shows, as plain values, and how it looks as lines of text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from resilient_llm.chaos.timeline.figures import duration, kinds, percent, totals
from resilient_llm.chaos.timeline.story import ActSeen, CallSeen, Story, clock_time
from resilient_llm.chaos.timeline.words import told
from resilient_llm.health import ProviderHealth

EVENTS = 6
_RECENT_EVENTS = 400  # as far back as looking for something worth telling goes


@dataclass(frozen=True, slots=True)
class Row:
    """One provider.  ``mood`` is good, warn, bad, wait or idle; ``p50`` in seconds, ``None`` while unknown."""

    provider: str
    rate: float
    share: float
    state: str
    mood: str
    score: float
    p50: float | None
    in_flight: int


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of the live view."""

    clock: str
    act: str
    doing: str
    watch: str
    rows: tuple[Row, ...]
    overall: str
    noticed: str
    events: tuple[tuple[str, str, str], ...]
    """Clock time, provider, sentence; oldest first."""


def frame(story: Story, now: float, recent: float, standings: Mapping[str, ProviderHealth]) -> Frame:
    """The picture at this moment; rates look ``recent`` seconds back."""
    act = story.acts[-1] if story.acts else None
    latest = _latest(story.calls, now - recent)
    answered = [call for call in latest if call.ending == "answered"]
    span = max(min(recent, now), 0.001)
    return Frame(
        clock=clock_time(story, now),
        act=_title(story, act, now),
        doing=act.act.doing if act else "",
        watch=act.act.watch if act else "",
        rows=tuple(_row(standings[name], answered, span) for name in story.providers if name in standings),
        overall=overall(story),
        noticed=so_far(latest),
        events=tuple(
            (clock_time(story, at), who, text) for at, who, text in told(story.events[-_RECENT_EVENTS:])[-EVENTS:]
        ),
    )


def _latest(calls: Sequence[CallSeen], since: float) -> list[CallSeen]:
    found: list[CallSeen] = []
    for call in reversed(calls):  # in the order in which they ended
        if call.ended < since:
            break
        found.append(call)
    return found


def _title(story: Story, act: ActSeen | None, now: float) -> str:
    if act is None:
        return ""
    repaired = " (repaired)" if act.repaired is not None else ""
    return f"Act {len(story.acts)}: {act.act.title}{repaired}, {now - act.began:.0f} s"


def _row(standing: ProviderHealth, answered: Sequence[CallSeen], span: float) -> Row:
    own = sum(call.provider == standing.id for call in answered)
    state, mood = state_of(standing)
    return Row(
        provider=standing.id,
        rate=own / span,
        share=own / len(answered) if answered else 0.0,
        state=state,
        mood=mood,
        score=standing.score,
        p50=standing.first_token_p50 if standing.first_token_p50 is not None else standing.answer_p50,
        in_flight=standing.in_flight,
    )


def state_of(standing: ProviderHealth) -> tuple[str, str]:
    """A provider's state in words, and the mood it is shown in."""
    if standing.breaker == "isolated":
        return "isolated by hand", "bad"
    if standing.breaker == "open":
        left = standing.retry_in or 0.0
        return ("open, trial due" if left <= 0 else f"open, {left:.1f} s left"), "bad"
    if standing.drained:
        return "drained", "idle"
    if standing.gate_open_in is not None:
        return f"gated, {standing.gate_open_in:.1f} s left", "wait"
    if standing.breaker == "softly_open":
        return "softly open", "warn"
    if standing.state == "degraded":
        return "closed, degraded", "warn"
    return ("closed, not asked yet", "idle") if standing.state == "unknown" else ("closed", "good")


def overall(story: Story) -> str:
    """The figures of the whole day so far, in a line."""
    counted, made = totals(story.calls), kinds(story.events)
    return (
        f"{counted.calls} calls, {percent(counted.success_rate)} answered | "
        f"p50 {duration(counted.answer_p50)}, p99 {duration(counted.answer_p99)} | "
        f"{counted.attempts_per_call:.2f} attempts per call, "
        f"{made['failover']} failovers, {made['hedge']} rescues, {made['trial']} trials"
    )


def so_far(latest: Sequence[CallSeen]) -> str:
    """What callers notice at the moment."""
    counted = totals(latest)
    if not counted.calls:
        return "no call has ended just now"
    trouble = [
        f"{number} {word}"
        for number, word in (
            (counted.failed, "failed"),
            (counted.interrupted, "streams interrupted"),
            (counted.wrong, "WRONG"),
        )
        if number
    ]
    answers = f"answers in {duration(counted.answer_p50)}, the slowest in {duration(counted.slowest)}"
    if not trouble:
        return f"nothing: {answers}"
    return ", ".join(trouble) + (f"; {answers}" if counted.answered else "; no answers")


def bar(score: float, width: int = 10) -> str:
    """A bar of ``width`` characters for a share of 1."""
    full = round(max(0.0, min(1.0, score)) * width)
    return "█" * full + "░" * (width - full)


_COLOURS = {"good": "32", "warn": "33", "bad": "31", "wait": "36", "idle": "90"}
HEADINGS = ("provider", "answers/s", "share", "state", "health", "p50", "in flight")


def cells(row: Row) -> tuple[str, ...]:
    """A row as text, in the order of :data:`HEADINGS`."""
    return (
        row.provider,
        f"{row.rate:.1f}",
        f"{row.share * 100:.0f} %",
        row.state,
        f"{bar(row.score)} {row.score:.2f}",
        duration(row.p50),
        str(row.in_flight),
    )


_WIDTHS = (9, 10, 7, 23, 16, 8, 9)


def lines(picture: Frame, width: int, *, colour: bool) -> list[str]:
    """The picture as lines of at most ``width`` characters, colours not counted; sentences are wrapped."""
    head = (f"{picture.clock}  {picture.act}", f"  {picture.doing}", f"  Watch: {picture.watch}")
    titles = "  " + "".join(text.ljust(size) for text, size in zip(HEADINGS, _WIDTHS, strict=True))
    foot = (f"  {picture.overall}", f"  Callers notice {picture.noticed}")
    news = [f"  {when} {who}: {text}" for when, who, text in picture.events]
    rows = [_coloured(row, width, colour) for row in picture.rows]
    return [*_wrapped(head, width), "", titles[:width], *rows, "", *_wrapped(foot, width), "", *_wrapped(news, width)]


def _wrapped(sentences: Iterable[str], width: int) -> list[str]:
    return [line for text in sentences for line in textwrap.wrap(text, width, subsequent_indent="    ") or [""]]


def _coloured(row: Row, width: int, colour: bool) -> str:
    line = ("  " + "".join(text.ljust(size) for text, size in zip(cells(row), _WIDTHS, strict=True)))[:width]
    return f"\x1b[{_COLOURS[row.mood]}m{line}\x1b[0m" if colour else line
