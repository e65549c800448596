"""An incident as one HTML page with a picture: a lane per provider, what callers got, and every line of its timeline.

Plain string building; nothing is loaded from elsewhere, and everything that came from outside is escaped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Final, TypeAlias

from resilient_llm.chaos.timeline.drawing import WIDTH, Scale, Span
from resilient_llm.chaos.timeline.style import STYLE
from resilient_llm.operate.alerts.words import clock_time
from resilient_llm.operate.incidents.record import Incident, Moment, lasted

_LANE, _GAP, _ALERT, _CALLS, _AXIS = 22.0, 8.0, 22.0, 90.0, 26.0
_MOST_PROVIDERS: Final = 40
_STEPS: Final = (5, 15, 30, 60, 300, 900, 1800, 3600, 4 * 3600, 12 * 3600, 86400)

_KEYS: Final = "".join(
    f'<span><span class="key {kind}"></span>{words}</span>'
    for kind, words in (
        ("closed", "asked in its turn"),
        ("softly_open", "degraded"),
        ("open", "down"),
        ("gated", "asked us to wait, or quota or key refused"),
        ("success", "calls answered"),
        ("failed", "calls failed"),
    )
)

Box: TypeAlias = tuple[float, float, float, float]
"""Left, right, top and height."""

_OWN_STYLE: Final = """
svg .answered { fill: var(--success); }
svg .alert { fill: var(--error); opacity: 0.25; } svg .mark { stroke: var(--ink); stroke-dasharray: 3 3; }
.critical { color: var(--error); font-weight: 600; }
"""


def page(incident: Incident) -> str:
    """The page, as HTML; it needs nothing from elsewhere."""
    tiles = (
        ("duration", incident.duration),
        ("severity", incident.severity),
        ("alerts", str(len(incident.alerts))),
        ("failed calls", str(sum(one.failed for one in incident.buckets))),
    )
    parts = [
        f"<header><h1>{escape(incident.title)}</h1></header>",
        f"<p>{escape(incident.effect())}</p>",
        '<div class="tiles">' + "".join(f"<div><b>{escape(b)}</b><span>{a}</span></div>" for a, b in tiles) + "</div>",
        f'<figure><div class="scroll">{picture(incident)}</div><figcaption>{_KEYS}</figcaption></figure>',
        "<h2>Alerts</h2>" + _table(("severity", "what", "when", "runbook"), [
            (alert.severity, alert.what, lasted(alert), alert.runbook) for alert in incident.alerts.values()
        ]),
        "<h2>What was done</h2>" + _table(("when", "who", "what"), _rows(incident.done())),
        f'<h2>Timeline</h2><div class="log">{_table(("when", "who", "what"), _rows(incident.ordered()))}</div>',
        "<h2>To be written by people</h2><p>Root cause, what went well, what did not, follow-ups.</p>",
    ]  # fmt: skip
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(incident.title)}</title><style>{STYLE}{_OWN_STYLE}</style></head>\n"
        f"<body><main>\n{chr(10).join(parts)}\n</main></body></html>\n"
    )


def picture(incident: Incident) -> str:
    """The timeline as SVG."""
    lanes = _lanes(incident)
    begin = min([incident.began_at, *(one.at for one in incident.buckets), *(one.at for one in incident.timeline)])
    last = [one.at + incident.width for one in incident.buckets[-1:]] + [one.at for one in incident.timeline]
    end = max([incident.ended_at or begin, begin + 1.0, *last])
    scale = Scale(end - begin)
    calls_top = _ALERT + _GAP + len(lanes) * (_LANE + _GAP)
    height = calls_top + _CALLS + _AXIS
    parts = [_name("alerts", 0.0), _rect((scale.x(0), scale.x(end - begin), 0.0, _ALERT), "lane", "")]
    for alert in incident.alerts.values():
        left, right = scale.x(alert.began_at - begin), scale.x((alert.ended_at or end) - begin)
        parts.append(_rect((left, right, 2.0, _ALERT - 4), "alert", f"{alert.what}, {lasted(alert)}"))
    for number, provider in enumerate(lanes):
        top = _ALERT + _GAP + number * (_LANE + _GAP)
        parts.append(_name(provider, top))
        for span in states(incident, provider, begin, end):
            box = (scale.x(span.begin - begin), scale.x(span.end - begin), top, _LANE)
            parts.append(_rect(box, f"state {span.kind}", span.title))
    parts += _calls(incident, scale, begin, calls_top)
    parts += _axis(scale, begin, end, calls_top + _CALLS)
    inside = "\n".join(parts)
    return (
        f'<svg viewBox="0 0 {WIDTH:g} {height:g}" role="img" aria-label="Timeline of the incident">\n{inside}\n</svg>'
    )


def states(incident: Incident, provider: str, begin: float, end: float) -> list[Span]:
    """A provider's breaker states from ``begin`` to ``end``, and on top of them the times when its gate was closed."""
    found: list[Span] = []
    gates: list[Span] = []
    state, since, why = "closed", begin, "before"
    for one in incident.ordered():
        if one.who != provider or not one.state:
            continue
        if one.state == "gated":
            gates.append(Span(one.at, min(one.at + one.seconds, end), "gated", one.text))
        else:
            found.append(Span(since, one.at, state, why))
            state, since, why = one.state, one.at, one.text
    return [*found, Span(since, end, state, why), *gates]


def _lanes(incident: Incident) -> list[str]:
    named = dict.fromkeys(one.who for one in incident.ordered() if one.state)
    return list(dict.fromkeys([*incident.providers, *named]))[:_MOST_PROVIDERS]


def _calls(incident: Incident, scale: Scale, begin: float, top: float) -> Iterator[str]:
    most = max((one.answered + one.failed for one in incident.buckets), default=0) or 1
    bottom = top + _CALLS
    yield _name(f"calls (up to {most})", top)
    for one in incident.buckets:
        left, right = scale.x(one.at - begin), scale.x(one.at + incident.width - begin)
        tall, bad = (_CALLS - 6) * (one.answered + one.failed) / most, (_CALLS - 6) * one.failed / most
        words = f"{clock_time(one.at)}: {one.answered} answered, {one.failed} failed, {one.attempts} attempts"
        yield _rect((left, right - 0.5, bottom - tall, tall - bad), "answered", words)
        yield _rect((left, right - 0.5, bottom - bad, bad), "failed", words)
    for at in (incident.began_at, incident.ended_at):
        if at is not None:
            yield f'<path class="mark" d="M{scale.x(at - begin):.1f} 0V{bottom:.1f}"/>'


def _axis(scale: Scale, begin: float, end: float, top: float) -> Iterator[str]:
    step = next((one for one in _STEPS if (end - begin) / one <= 12), _STEPS[-1])
    at = (int(begin) // step + 1) * step
    while at < end and step * 400 > end - begin:
        x = scale.x(at - begin)
        words = clock_time(at)[11:19]
        yield f'<path class="tick" d="M{x:.1f} {top:.1f}v4"/>'
        yield f'<text x="{x:.1f}" y="{top + 17:.1f}" class="tick-label middle">{words}</text>'
        at += step


def _name(words: str, top: float) -> str:
    short = words if len(words) <= 16 else f"{words[:15]}…"
    hover = f"<title>{escape(words)}</title>"
    return f'<text x="94" y="{top + 15:.1f}" class="caption">{hover}{escape(short)}</text>'


def _rect(box: Box, kind: str, hover: str) -> str:
    left, right, top, height = box
    width = max(right - left, 1.5)
    size = f'x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{max(height, 0.0):.1f}"'
    return f'<rect {size} class="{escape(kind)}"><title>{escape(hover)}</title></rect>'


def _rows(moments: list[Moment]) -> list[tuple[str, str, str]]:
    return [(clock_time(one.at), one.who, one.text) for one in moments]


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    if not rows:
        return "<p>nothing</p>"
    head = "".join(f"<th>{escape(one)}</th>" for one in heads)
    body = "".join(f"<tr>{''.join(f'<td>{_cell(one)}</td>' for one in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(words: str) -> str:
    shown = escape(words)
    return f'<a href="{shown}">{shown}</a>' if words.startswith(("https://", "http://")) else shown
