"""The drawings of a case as SVG: who was answered, by whom, and how soon.  Colours are variables of the page."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from resilient_llm.simulate.whatif.figures import Bin, Figures
from resilient_llm.simulate.whatif.report import span
from resilient_llm.simulate.whatif.run import Answer

WIDTH: Final = 1120.0
_LEFT, _RIGHT, _TOP, _AXIS = 64.0, 14.0, 26.0, 24.0
_FASTEST, _SLOWEST = 0.1, 60.0


@dataclass(frozen=True, slots=True)
class Frame:
    """One drawing's inside: how long the time axis is and how high the drawing."""

    seconds: float
    height: float

    def x(self, at: float) -> float:
        """Where a time is."""
        return _LEFT + min(1.0, max(0.0, at / self.seconds)) * (WIDTH - _LEFT - _RIGHT)

    def y(self, share: float) -> float:
        """Where a share of the height is, from the bottom."""
        return _TOP + (1.0 - min(1.0, max(0.0, share))) * self.height


def answered(answer: Answer) -> str:
    """The share of calls answered over time, a line a strategy."""
    frame, low = _frame(answer, 170.0), _lowest(answer)

    def height(bin_: Bin) -> float:
        return (bin_.answered / bin_.calls - low) / (1.0 - low) if bin_.calls else math.nan

    lines = "".join(_line(frame, answer, one, height) for one in reversed(answer.figures))
    ticks = [(part / 4, f"{100 * (low + (1.0 - low) * part / 4):.3g} %") for part in range(5)]
    title = "calls answered while somebody is in trouble" if answer.case.is_long else "calls answered"
    return _svg(frame, answer, title, ticks, lines)


def _lowest(answer: Answer) -> float:
    """Where the axis of shares begins: at 0, or for a year, in which nearly everything is answered, below the least."""
    if not answer.case.is_long:
        return 0.0
    shares = [bin_.answered / bin_.calls for one in answer.figures for bin_ in one.bins if bin_.calls]
    return math.floor(20.0 * min(shares, default=0.0)) / 20.0 if min(shares, default=0.0) < 1.0 else 0.95


def soon(answer: Answer) -> str:
    """The slowest twentieth of first tokens over time, a line a strategy, on a logarithmic scale."""
    frame = _frame(answer, 150.0)
    lines = "".join(_line(frame, answer, one, lambda bin_: _height(_p95(bin_))) for one in reversed(answer.figures))
    ticks = [(_height(value), f"{value:g} s") for value in (0.1, 1.0, 10.0, 60.0)]
    return _svg(frame, answer, "first token, 95th percentile", ticks, lines)


def by_whom(answer: Answer) -> str:
    """Who answered over time with the settings in question, stacked."""
    frame = _frame(answer, 150.0)
    bins, width = answer.mine.bins, answer.bin_seconds
    long, highest = answer.case.is_long, max((bin_.calls for bin_ in bins), default=1) or 1
    floor = [0.0] * len(bins)
    parts: list[str] = []
    for number, one in enumerate(answer.setup.providers):
        ceiling = [
            low + bin_.by.get(one.id, 0) / (max(1, bin_.calls) if long else highest)
            for low, bin_ in zip(floor, bins, strict=True)
        ]
        outline = [*_points(frame, width, ceiling), *reversed(list(_points(frame, width, floor)))]
        title = f"<title>answered by {escape(one.id)}</title>"
        parts.append(f'<path class="area p{number % 6}" d="M{" L".join(outline)}Z">{title}</path>')
        floor = ceiling
    ticks = [(0.0, "0"), (1.0, "100 %" if long else f"{highest / width:.3g}/s")]
    return _svg(frame, answer, f"answers by provider, with {answer.mine.name}", ticks, "".join(parts))


# --- pieces ------------------------------------------------------------------------------------------------


def _frame(answer: Answer, height: float) -> Frame:
    return Frame(answer.bin_seconds * len(answer.mine.bins), height)


def _line(frame: Frame, answer: Answer, one: Figures, value: Callable[[Bin], float]) -> str:
    """One strategy; a gap where nothing was measured."""
    width, name = answer.bin_seconds, escape(one.name)
    path, pen = "", "M"
    for index, bin_ in enumerate(one.bins):
        share = value(bin_)
        if math.isnan(share):
            pen = "M"
            continue
        path += f"{pen}{frame.x((index + 0.5) * width):.1f} {frame.y(share):.1f}"
        pen = "L"
    return f'<path class="line {kind_of(one)}" d="{path}"><title>{name}</title></path>' if path else ""


def kind_of(one: Figures) -> str:
    """The class by which a strategy is coloured."""
    return one.who.replace(" ", "-")


def _points(frame: Frame, width: float, shares: Sequence[float]) -> Iterable[str]:
    return (f"{frame.x((i + 0.5) * width):.1f} {frame.y(share):.1f}" for i, share in enumerate(shares))


def _p95(bin_: Bin) -> float:
    ordered = sorted(bin_.firsts)
    return ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))] if ordered else math.nan


def _height(value: float) -> float:
    if math.isnan(value):
        return math.nan
    return math.log(max(value, _FASTEST) / _FASTEST) / math.log(_SLOWEST / _FASTEST)


def _svg(frame: Frame, answer: Answer, title: str, ticks: Iterable[tuple[float, str]], inside: str) -> str:
    bottom = _TOP + frame.height
    parts = [_trouble(frame, answer)]
    for share, label in ticks:
        y = frame.y(share)
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" class="tick-label end">{escape(label)}</text>')
    parts += [inside, *_times(frame, answer, bottom)]
    parts.append(f'<text x="{_LEFT}" y="15" class="title">{escape(title)}</text>')
    height = bottom + _AXIS
    return f'<svg viewBox="0 0 {WIDTH:g} {height:g}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'


def _trouble(frame: Frame, answer: Answer) -> str:
    """When something was wrong, the darker the more calls fail."""
    case, parts = answer.case, list[str]()
    if case.is_long:
        return ""
    for trouble in sorted({trouble for troubles in case.troubles.values() for trouble in troubles}):
        left, right = frame.x(trouble.start), frame.x(min(trouble.end, frame.seconds))
        shade = 0.08 + 0.22 * trouble.rate
        hover = f"{trouble.kind}, {trouble.rate:.0%} of the calls"
        parts.append(
            f'<rect class="trouble" x="{left:.1f}" y="{_TOP}" width="{max(0.5, right - left):.1f}" '
            f'height="{frame.height}" style="opacity:{shade:.2f}"><title>{escape(hover)}</title></rect>'
        )
    return "".join(parts)


def _times(frame: Frame, answer: Answer, bottom: float) -> Iterable[str]:
    if answer.case.is_long:
        for month in range(12):
            x = frame.x((month + 0.5) / 12 * frame.seconds)
            yield f'<text x="{x:.1f}" y="{bottom + 16:.1f}" class="tick-label middle">month {month + 1}</text>'
        return
    begin = next(window.hurt[0] for window in answer.case.windows)
    step = _step(frame.seconds)
    first = math.ceil(-begin / step)
    for number in range(first, int((frame.seconds - begin) / step) + 1):
        x = frame.x(begin + number * step)
        label = "begins" if number == 0 else f"{'-' if number < 0 else '+'}{span(abs(number) * step)}"
        yield f'<path class="tick" d="M{x:.1f} {bottom:.1f}v4"/>'
        yield f'<text x="{x:.1f}" y="{bottom + 16:.1f}" class="tick-label middle">{label}</text>'


def _step(total: float) -> float:
    for step in (10.0, 30.0, 60.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 14400.0):
        if total / step <= 12:
            return step
    return 28800.0
