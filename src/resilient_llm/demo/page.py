"""The timeline as one HTML file that needs nothing else: no script, no font, no picture from anywhere."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from resilient_llm.chaos.timeline.drawing import timeline
from resilient_llm.chaos.timeline.figures import duration, outcomes, percent
from resilient_llm.chaos.timeline.story import Story, clock_time
from resilient_llm.chaos.timeline.style import STYLE
from resilient_llm.chaos.timeline.words import told
from resilient_llm.demo.prose import gated, opened
from resilient_llm.demo.report import Report

_LEGEND = (
    ("state closed", "breaker closed"),
    ("state open", "open"),
    ("state softly_open", "softly open: asked only when nobody better is there"),
    ("state gated", "gated: it asked us to wait"),
    ("dot success", "attempt answered"),
    ("dot error", "failed"),
    ("dot timeout", "silent for too long"),
    ("dot rate_limited", "refused with 429"),
    ("dot cancelled", "cancelled"),
    ("dot interrupted", "stream interrupted"),
    ("dot failed", "call failed"),
)


def page(story: Story, summary: Report) -> str:
    """The file."""
    body = "\n".join(
        (
            f"<header><h1>A bad day, as callers saw it</h1>{_verdict(summary)}</header>",
            f'<div class="tiles">{"".join(_tiles(summary))}</div>',
            f'<figure><div class="scroll">{timeline(story)}</div><figcaption>{_legend(story)}</figcaption></figure>',
            f"<section><h2>The acts</h2>{_acts(story, summary)}</section>",
            f"<section><h2>The providers</h2>{_providers(summary)}</section>",
            f"<section><h2>What was promised</h2><ul class='promises'>{_promises(summary)}</ul></section>",
            f"<section><h2>What happened</h2><div class='log'>{_log(story)}</div></section>",
        )
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<title>resilient_llm: a bad day</title>\n"
        f"<style>\n{STYLE}\n</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _verdict(summary: Report) -> str:
    state, text = ("kept", "Every promise was kept.") if summary.kept else ("broken", "A promise was broken.")
    cut = "" if summary.complete else " The day was cut short."
    return f'<p class="verdict {state}">{text}{cut}</p>'


def _tiles(summary: Report) -> Iterable[str]:
    counted, made = summary.totals, summary.kinds
    for value, label in (
        (str(counted.calls), f"calls in {summary.seconds:.0f} s"),
        (percent(counted.success_rate), "answered, the outage included"),
        (duration(counted.answer_p50), "usual answer (p50)"),
        (duration(counted.answer_p99), "slow answer (p99)"),
        (f"{counted.attempts_per_call:.2f}", "attempts per call"),
        (str(made["failover"]), "failovers"),
        (str(made["hedge"]), "rescues of silent calls"),
        (str(counted.interrupted), "streams interrupted, and said so"),
    ):
        yield f"<div><b>{escape(value)}</b><span>{escape(label)}</span></div>"


def _legend(story: Story) -> str:
    entries = [f'<span><i class="key {kind}"></i>{escape(text)}</span>' for kind, text in _LEGEND]
    entries += [
        f'<span><i class="key share p{number}"></i>answered by {escape(provider)}</span>'
        for number, provider in enumerate(story.providers)
    ]
    return "".join(entries)


def _acts(story: Story, summary: Report) -> str:
    rows = [
        (f"{number}. {act.title}", act.doing, seen.act.watch, act.noticed)
        for number, (act, seen) in enumerate(zip(summary.acts, story.acts, strict=True), 1)
    ]
    return _table(("Act", "What was done", "What to watch", "What callers noticed"), rows)


def _providers(summary: Report) -> str:
    rows = [
        (
            one.id,
            str(one.answered),
            outcomes(one).replace("_", " "),
            opened(one),
            gated(one),
        )
        for one in summary.providers
    ]
    return _table(("Provider", "Calls answered", "Attempts by outcome", "Breaker opened", "Gated"), rows)


def _promises(summary: Report) -> str:
    marks = [("kept" if promise.kept else "broken", promise.text) for promise in summary.promises]
    return "".join(f'<li class="{mark}">{escape(text)}</li>' for mark, text in marks)


def _log(story: Story) -> str:
    rows = [(f"{clock_time(story, at)} ({at:.1f} s)", who, text) for at, who, text in told(story.events)]
    return _table(("When", "Who", "What"), rows)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    top = "".join(f"<th>{escape(text)}</th>" for text in head)
    inside = "".join("<tr>" + "".join(f"<td>{escape(text)}</td>" for text in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{inside}</tbody></table>"
