"""The day as one SVG picture: acts as bands, a lane per provider, and below what callers got.

Plain string building: every function takes values and returns markup.  Colours are CSS variables of the page.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from resilient_llm import events
from resilient_llm.chaos.timeline.figures import duration, gate_times, outcome_of
from resilient_llm.chaos.timeline.story import ActSeen, CallSeen, Story

WIDTH: Final = 1280.0
_LEFT, _RIGHT = 104.0, 16.0
_HEAD = 46.0  # the acts' titles
_LANE, _GAP = 78.0, 10.0
_FAULT, _STRIP = 13.0, 12.0  # heights inside a lane
_SHARES, _CALLERS, _AXIS = 70.0, 130.0, 26.0
_TROUBLE = 16.0  # the row for calls that were not answered
_FASTEST, _SLOWEST = 0.01, 10.0  # ends of the latency scale


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time and what it is called."""

    begin: float
    end: float
    kind: str
    title: str


@dataclass(frozen=True, slots=True)
class Scale:
    """Seconds to pixels."""

    seconds: float

    def x(self, at: float) -> float:
        """Where a time is, held inside the picture."""
        inside = min(max(at, 0.0), self.seconds)
        return _LEFT + inside / max(self.seconds, 0.001) * (WIDTH - _LEFT - _RIGHT)


def timeline(story: Story) -> str:
    """The whole picture."""
    scale = Scale(story.ended)
    lanes_end = _HEAD + len(story.providers) * (_LANE + _GAP)
    shares_end = lanes_end + _SHARES + _GAP + 14
    callers_end = shares_end + _CALLERS + _GAP + 14
    height = callers_end + _AXIS
    parts = [acts(story, scale, callers_end)]
    for number, provider in enumerate(story.providers):
        parts.append(lane(story, provider, scale, _HEAD + number * (_LANE + _GAP)))
    parts.append(shares(story, scale, lanes_end + 14))
    parts.append(callers(story, scale, shares_end + 14))
    parts.append(axis(scale, callers_end))
    inside = "\n".join(parts)
    label = "Timeline of the demonstration"
    return f'<svg viewBox="0 0 {WIDTH:g} {height:g}" role="img" aria-label="{label}">\n{inside}\n</svg>'


# --- acts --------------------------------------------------------------------------------------------------


def acts(story: Story, scale: Scale, bottom: float) -> str:
    """Bands over the whole height, with titles on top."""
    return "\n".join(_band(story, seen, number, scale, bottom) for number, seen in enumerate(story.acts))


def _band(story: Story, seen: ActSeen, number: int, scale: Scale, bottom: float) -> str:
    left, right = scale.x(seen.began), scale.x(story.ended if seen.ended is None else seen.ended)
    middle, tint = (left + right) / 2, "odd" if number % 2 else "even"
    hover = f"{number + 1}. {seen.act.title}: {seen.act.doing} {seen.act.watch}"
    return (
        f'<g class="act {tint}"><title>{escape(hover)}</title>{_rect(left, 0, right - left, bottom, "band")}'
        f'<text x="{middle:.1f}" y="18" class="number">{number + 1}</text>'
        f'<text x="{middle:.1f}" y="35" class="act-title">{escape(seen.act.title)}</text></g>'
    )


# --- providers ---------------------------------------------------------------------------------------------


def lane(story: Story, provider: str, scale: Scale, top: float) -> str:
    """One provider: what was done to it, its state, and every attempt."""
    own = [event for event in story.events if event.provider == provider]
    strip = top + _FAULT + 1
    parts = [
        f'<text x="{_LEFT - 10}" y="{top + _LANE / 2 + 3:.1f}" class="lane-name">{escape(provider)}</text>',
        _rect(_LEFT, top + _FAULT, WIDTH - _LEFT - _RIGHT, _LANE - _FAULT, "lane"),
        *(_fault(span, scale, top) for span in faults(story, provider)),
        *(_state(span, scale, strip) for span in states(own, story.ended)),
        *_attempts(own, scale, strip + _STRIP + 5, top + _LANE - 5),
    ]
    return f'<g class="provider">{"".join(parts)}</g>'


def faults(story: Story, provider: str) -> list[Span]:
    """When something was done to a provider."""
    found: list[Span] = []
    for seen in story.acts:
        word = seen.act.faults.get(provider)
        if word is not None:
            end = seen.repaired if seen.repaired is not None else story.ended
            found.append(Span(seen.began, end, "fault", word))
    return found


def states(own: Sequence[events.Event], end: float) -> list[Span]:
    """The breaker's states one after the other, and on top of them the times when the gate was closed."""
    found: list[Span] = []
    state, since, why = "closed", 0.0, "from the beginning"
    for event in own:
        if isinstance(event, events.BreakerChanged):
            found.append(Span(since, event.at, state, why))
            state, since, why = event.new, event.at, event.reason
    found.append(Span(since, end, state, why))
    gated = [Span(begin, min(finish, end), "gated", reason) for begin, finish, reason in gate_times(own)]
    return found + gated


def _fault(span: Span, scale: Scale, top: float) -> str:
    left, width = scale.x(span.begin), scale.x(span.end) - scale.x(span.begin)
    hover = f"injected: {span.title}, {span.begin:.1f} to {span.end:.1f} s"
    return (
        f"<g><title>{escape(hover)}</title>{_rect(left, top + 1, width, _FAULT - 2, 'fault')}"
        f'<text x="{left + 4:.1f}" y="{top + _FAULT - 3:.1f}" class="fault-name">{escape(span.title)}</text></g>'
    )


def _state(span: Span, scale: Scale, top: float) -> str:
    left = scale.x(span.begin)
    width = max(scale.x(span.end) - left, 1.5)  # a state of milliseconds should still be seen
    hover = f"{span.kind.replace('_', ' ')} ({span.title}), {span.begin:.2f} to {span.end:.2f} s"
    return f"<g><title>{escape(hover)}</title>{_rect(left, top, width, _STRIP, f'state {span.kind}')}</g>"


def _attempts(own: Iterable[events.Event], scale: Scale, top: float, bottom: float) -> Iterable[str]:
    for event in own:
        if isinstance(event, events.AttemptEnded):
            yield _attempt(event, scale, top, bottom)


def _attempt(event: events.AttemptEnded, scale: Scale, top: float, bottom: float) -> str:
    record, outcome = event.record, outcome_of(event)
    status = f" {record.status}" if record.status is not None and record.fault is not None else ""
    hover = (
        f"{event.at:.2f} s, {event.provider}: attempt {record.number} ({record.kind}) of call {event.call}: "
        f"{outcome.replace('_', ' ')}{status} after {duration(record.duration)}"
    )
    y = top + spread(event.call) * (bottom - top)
    return _dot(scale.x(event.at), y, dot_class(outcome), hover)


def dot_class(outcome: str) -> str:
    """How an attempt's dot looks."""
    return outcome if outcome in ("success", "cancelled", "rate_limited", "timeout") else "error"


def spread(number: int) -> float:
    """A place in [0, 1) for every number: neighbours lie far apart, so that dots of one moment do not hide each
    other."""
    return (number * 0.6180339887) % 1.0


# --- callers -----------------------------------------------------------------------------------------------


def shares(story: Story, scale: Scale, top: float) -> str:
    """Answers per second, by who gave them, stacked."""
    bins = max(60, min(150, round(story.ended / 0.4)))
    width = max(story.ended / bins, 0.001)
    counts = [answers(story.calls, provider, bins, width) for provider in story.providers]
    highest = max((sum(column) for column in zip(*counts, strict=True)), default=0.0) or 1.0

    def point(index: int, value: float) -> str:
        return f"{scale.x((index + 0.5) * width):.1f} {top + _SHARES * (1 - value / highest):.1f}"

    parts = [_caption("answers/s", f"up to {highest / width:.0f}", top, _SHARES)]
    parts.append(_rect(_LEFT, top, WIDTH - _LEFT - _RIGHT, _SHARES, "lane"))
    floor = [0.0] * bins
    for number, (provider, own) in enumerate(zip(story.providers, counts, strict=True)):
        ceiling = [low + high for low, high in zip(floor, own, strict=True)]
        outline = [point(*item) for item in enumerate(ceiling)] + [point(*item) for item in enumerate(floor)][::-1]
        title = f"<title>answered by {escape(provider)}</title>"
        parts.append(f'<path class="share p{number}" d="M{" L".join(outline)}Z">{title}</path>')
        floor = ceiling
    return "".join(parts)


def answers(calls: Iterable[CallSeen], provider: str, bins: int, width: float) -> list[float]:
    """Answered calls per bin, smoothed over neighbours."""
    counted = [0.0] * bins
    for call in calls:
        if call.provider == provider and call.ending == "answered":
            counted[min(bins - 1, int(call.ended / max(width, 0.001)))] += 1.0
    padded = [counted[0], *counted, counted[-1]]
    return [(padded[i] + 2 * padded[i + 1] + padded[i + 2]) / 4 for i in range(bins)]


def callers(story: Story, scale: Scale, top: float) -> str:
    """Every call: how long its answer took, on a logarithmic scale; above them those that got none."""
    bottom = top + _CALLERS
    chart = top + _TROUBLE
    parts = [
        f'<text x="{_LEFT - 10}" y="{top + 11:.1f}" class="caption">not answered</text>',
        _caption("answer took", "log scale", chart, _CALLERS - _TROUBLE - 20),
        _rect(_LEFT, top, WIDTH - _LEFT - _RIGHT, _TROUBLE - 2, "lane"),
        _rect(_LEFT, chart, WIDTH - _LEFT - _RIGHT, _CALLERS - _TROUBLE, "lane"),
    ]
    for seconds in (0.1, 1.0):
        y = latency_y(seconds, chart, bottom)
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}"/>')
        parts.append(f'<text x="{_LEFT + 4}" y="{y - 3:.1f}" class="tick-label">{duration(seconds)}</text>')
    for call in story.calls:
        x, hover = scale.x(call.ended), call_title(call)
        if call.ending == "answered":
            number = story.providers.index(call.provider)
            parts.append(_dot(x, latency_y(call.seconds, chart, bottom), f"call p{number}", hover))
        else:
            y = top + 2.5 + spread(call.number) * (_TROUBLE - 7)
            parts.append(_dot(x, y, call.ending, hover, 2.8))
    return "".join(parts)


def latency_y(seconds: float, top: float, bottom: float) -> float:
    """Where a latency is: 10 ms at the bottom, 10 s at the top."""
    share = math.log(max(seconds, _FASTEST) / _FASTEST) / math.log(_SLOWEST / _FASTEST)
    return bottom - min(1.0, share) * (bottom - top)


def call_title(call: CallSeen) -> str:
    """One call in words."""
    begin = f"{call.ended:.2f} s, call {call.number} ({'stream' if call.streamed else 'chat'}): {call.ending}"
    if call.ending == "answered":
        return f"{begin} by {call.provider} in {duration(call.seconds)}, {call.attempts} attempt(s)"
    return f"{begin} after {duration(call.seconds)}: {call.error}, {call.message}"


# --- small things ------------------------------------------------------------------------------------------


def axis(scale: Scale, top: float) -> str:
    """Seconds."""
    step = 1 if scale.seconds <= 20 else 5
    parts: list[str] = []
    for second in range(0, int(scale.seconds) + 1, step):
        x = scale.x(second)
        parts.append(f'<path class="tick" d="M{x:.1f} {top:.1f}v4"/>')
        parts.append(f'<text x="{x:.1f}" y="{top + 17:.1f}" class="tick-label middle">{second} s</text>')
    return "".join(parts)


def _caption(first: str, second: str, top: float, height: float) -> str:
    y = top + height / 2
    return (
        f'<text x="{_LEFT - 10}" y="{y:.1f}" class="caption">{escape(first)}</text>'
        f'<text x="{_LEFT - 10}" y="{y + 14:.1f}" class="caption faint">{escape(second)}</text>'
    )


def _rect(x: float, y: float, width: float, height: float, kind: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.0):.1f}" height="{height:.1f}" class="{kind}"/>'


def _dot(x: float, y: float, kind: str, hover: str, radius: float = 2.3) -> str:
    title = escape(hover)
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" class="dot {kind}"><title>{title}</title></circle>'
