"""Answers as one HTML file that needs nothing else: no script, no font, no picture from anywhere; light and dark."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Final

from resilient_llm.chaos.timeline.style import STYLE
from resilient_llm.simulate.whatif.drawing import answered, by_whom, kind_of, soon
from resilient_llm.simulate.whatif.report import (
    caveats,
    cells,
    count,
    headline,
    money,
    part,
    percent,
    saved,
    seconds,
    span,
    when,
)
from resilient_llm.simulate.whatif.run import Answer

_STYLE: Final = """
:root { --settings: #1f8f5f; --other-settings: #4769d8; --alone: #d92d33; --best: #d97a21; --oracle: #8a95a3; }
@media (prefers-color-scheme: dark) {
  :root { --settings: #4fc487; --other-settings: #7f9bff; --alone: #ff6166; --best: #f09a4a; --oracle: #7c8896; }
}
main { max-width: 1160px; }
header { margin-bottom: 12px; }
.big { display: flex; flex-wrap: wrap; align-items: flex-end; gap: 10px 48px; margin: 22px 0 8px; }
.big div b { display: block; font-size: 58px; line-height: 1.05; letter-spacing: -0.03em;
  font-variant-numeric: tabular-nums; }
.big span { color: var(--soft); }
.big .settings b { color: var(--settings); } .big .alone b { color: var(--alone); }
.sub { color: var(--soft); margin: 4px 0 0; }
figure { margin: 0 0 12px; }
svg { min-width: 720px; }
svg .title { font-weight: 600; font-size: 13px; }
svg .end { text-anchor: end; }
svg .trouble { fill: var(--alone); }
svg .line { fill: none; stroke-width: 2; stroke-linejoin: round; }
svg .settings { stroke: var(--settings); stroke-width: 2.8; } .key.settings { background: var(--settings); }
svg .other-settings { stroke: var(--other-settings); } .key.other-settings { background: var(--other-settings); }
svg .alone { stroke: var(--alone); } .key.alone { background: var(--alone); }
svg .best { stroke: var(--best); } .key.best { background: var(--best); }
svg .oracle { stroke: var(--oracle); stroke-dasharray: 4 4; } .key.oracle { background: var(--oracle); }
svg .area { opacity: .8; }
svg .p3 { fill: #b3478f; } .key.p3 { background: #b3478f; }
svg .p4 { fill: #5f7f2a; } .key.p4 { background: #5f7f2a; }
svg .p5 { fill: #8a6d3b; } .key.p5 { background: #8a6d3b; }
th, td { padding: 7px 9px; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.small { color: var(--soft); font-size: 13.5px; }
.small a { color: inherit; }
section + section { border-top: 1px solid var(--line); margin-top: 44px; padding-top: 12px; }
""".strip()
_HEAD: Final = ("", "answered", "lost", "first token p50", "p99", "attempts a call", "1,000 answers", "wasted")


def as_html(answers: Sequence[Answer], command: str = "") -> str:
    """The page; ``command`` is what to type for the same again."""
    title = headline(answers[0]) if len(answers) == 1 else f"What would {answers[0].mine.name} have done?"
    body = "\n".join(_section(answer) for answer in answers)
    overview = _overview(answers) if len(answers) > 1 else ""
    again = f'<p class="small">Again: <code>{escape(command)}</code></p>' if command else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{STYLE}\n{_STYLE}\n</style>\n</head>\n"
        f"<body>\n<main>\n{overview}{body}\n{again}\n</main>\n</body>\n</html>\n"
    )


def _overview(answers: Sequence[Answer]) -> str:
    mine = answers[0].mine.name
    rows = ((when(one), percent(one.told(one.mine)), _alone(one), count(saved(one))) for one in answers)
    head = ("", mine, f"{answers[0].setup.providers[0].id} alone", "calls saved")
    return f"<section><header><h1>What would {escape(mine)} have done?</h1></header>{_table(head, rows)}</section>"


def _alone(answer: Answer) -> str:
    alone = answer.of("alone")
    return "" if alone is None else percent(answer.told(alone))


def _section(answer: Answer) -> str:
    keys = "".join(
        f'<span><i class="key {kind_of(one)}"></i>{escape(next(cells(one, answer)))}</span>' for one in answer.figures
    )
    providers = "".join(
        f'<span><i class="key p{index % 6}"></i>{escape(one.id)}</span>'
        for index, one in enumerate(answer.setup.providers)
    )
    notes = "".join(f"<li>{escape(note)}</li>" for note in (*answer.case.notes, *caveats(answer)))
    return (
        f"<section><header><h1>{escape(when(answer))}</h1></header>"
        f'<div class="big">{"".join(_big(answer))}</div>'
        f'<div class="tiles">{"".join(_tiles(answer))}</div>'
        f"{_figure(answered(answer), keys)}{_figure(by_whom(answer), providers)}{_figure(soon(answer), keys)}"
        f"<h2>Side by side</h2>{_table(_HEAD, (tuple(cells(one, answer)) for one in answer.figures))}"
        f"<h2>Who answered</h2>{_table(('provider', 'of the answers', 'time', 'attempts', 'cost'), _providers(answer))}"
        f'<h2>What happened</h2><ul class="small">{notes}</ul>{_source(answer)}</section>'
    )


def _big(answer: Answer) -> Iterator[str]:
    mine = answer.mine
    yield f'<div class="settings"><b>{percent(answer.told(mine))}</b><span>{escape(mine.name)}</span></div>'
    alone = answer.of("alone")
    if alone is not None:
        name = f"{answer.setup.providers[0].id} alone, an SDK with two retries"
        yield f'<div class="alone"><b>{percent(answer.told(alone))}</b><span>{escape(name)}</span></div>'


def _tiles(answer: Answer) -> Iterator[str]:
    told = answer.told(answer.mine)
    for value, label in (
        (count(told.calls), "calls"),
        (count(told.lost), "of them lost"),
        (seconds(told.first_token(0.5)), "to the first token, usually"),
        (seconds(told.first_token(0.99)), "99 of 100 sooner than"),
        (f"{told.attempts_per_call:.2f}", "attempts a call"),
        (money(told.cost_per_thousand, answer.currency), "for 1,000 answers"),
    ):
        if value:
            yield f"<div><b>{escape(value)}</b><span>{escape(label)}</span></div>"


def _figure(drawing: str, keys: str) -> str:
    return f'<figure><div class="scroll">{drawing}</div><figcaption>{keys}</figcaption></figure>'


def _providers(answer: Answer) -> Iterator[tuple[str, ...]]:
    told = answer.told(answer.mine)
    for one in answer.setup.providers:
        share, found = part(told, one.id), told.shares.get(one.id)
        yield (
            one.id,
            f"{100 * share:.1f} %",
            span(share * answer.shown_seconds),
            count(found.attempts if found else 0),
            money(found.cost if found else 0.0, answer.currency),
        )


def _source(answer: Answer) -> str:
    source = answer.case.source
    if not source:
        return ""
    address, _, rest = source.partition(" ")
    if not address.startswith("https://"):
        return f'<p class="small">Source: {escape(source)}</p>'
    return f'<p class="small">Source: <a href="{escape(address)}">{escape(address)}</a> {escape(rest)}</p>'


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    top = "".join(f"<th{_number(index)}>{escape(text)}</th>" for index, text in enumerate(head))
    inside = "".join(
        "<tr>" + "".join(f"<td{_number(index)}>{escape(text)}</td>" for index, text in enumerate(row)) + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{inside}</tbody></table></div>'


def _number(index: int) -> str:
    return ' class="number"' if index else ""
