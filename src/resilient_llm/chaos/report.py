"""What an experiment found: figures, verdicts and advice as text, JSON and one HTML file that needs nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Final, final

from resilient_llm.chaos.advice import advice
from resilient_llm.chaos.timeline.drawing import timeline
from resilient_llm.chaos.timeline.figures import (
    ProviderTotals,
    Totals,
    duration,
    kinds,
    outcomes,
    percent,
    provider_totals,
)
from resilient_llm.chaos.timeline.story import Act, ActSeen, Story
from resilient_llm.chaos.timeline.style import STYLE
from resilient_llm.chaos.timeline.words import told
from resilient_llm.testing.faults import Faults, Injected, Latency, Mishap, SlowTokens
from resilient_llm.testing.script import Reply, Status

__all__ = ["ChaosReport", "Phase", "Verdict"]


@dataclass(frozen=True, slots=True)
class Phase:
    """``before``, ``during`` or ``after`` the faults; ``totals`` are those of the calls that began in it."""

    name: str
    began: float
    ended: float
    totals: Totals


@dataclass(frozen=True, slots=True)
class Verdict:
    """One hypothesis in one phase.  ``measured`` and ``held`` are ``None`` where there was nothing to measure."""

    hypothesis: str
    phase: str
    measured: float | None
    held: bool | None


@final
@dataclass(frozen=True, slots=True)
class ChaosReport:
    """The result.  ``aborted`` says why it was stopped early (``None``: it was not); ``injected`` counts mishaps per
    provider; ``story`` has every call and event."""

    title: str
    seconds: float
    aborted: str | None
    phases: tuple[Phase, ...]
    verdicts: tuple[Verdict, ...]
    providers: tuple[ProviderTotals, ...]
    injected: Mapping[str, int]
    attempts_by_kind: Mapping[str, int]
    recommendations: tuple[str, ...]
    story: Story = field(repr=False)

    @property
    def held(self) -> bool:
        """Whether it ran to its end and every hypothesis that could be measured held; at least one could."""
        judged = [verdict.held for verdict in self.verdicts if verdict.held is not None]
        return self.aborted is None and bool(judged) and all(judged)

    def as_json(self) -> str:
        """For machines; durations in seconds."""
        value = {
            "version": 1,
            "title": self.title,
            "held": self.held,
            "aborted": self.aborted,
            "seed": self.story.seed,
            "seconds": round(self.seconds, 3),
            "phases": [
                {"name": one.name, "began": one.began, "ended": one.ended, "calls": _figures(one.totals)}
                for one in self.phases
            ],
            "verdicts": [asdict(one) for one in self.verdicts],
            "providers": [asdict(one) for one in self.providers],
            "injected": dict(self.injected),
            "attempts_by_kind": dict(self.attempts_by_kind),
            "recommendations": list(self.recommendations),
            "timeline": [
                {"at": round(at, 3), "provider": who, "what": what} for at, who, what in told(self.story.events)
            ],
        }
        return json.dumps(value, indent=2)

    def text(self) -> str:
        """For a terminal."""
        parts = [self.title, "=" * len(self.title), "", self._verdict(), ""]
        parts += _aligned(("phase", *_COLUMNS), [(one.name, *_row(one.totals)) for one in self.phases])
        parts += ["", *_aligned(("hypothesis", "phase", "measured", ""), list(map(_judged, self.verdicts)))]
        rows = [(one.id, str(self.injected.get(one.id, 0)), str(one.answered), outcomes(one)) for one in self.providers]
        parts += ["", *_aligned(("provider", "struck", "answered", "attempts by outcome"), rows)]
        parts += ["", *(f"{at:7.2f} s  {who}: {what}" for at, who, what in told(self.story.events))]
        parts += ["", "Recommendations", *(f"- {one}" for one in self.recommendations)]
        return "\n".join(parts) + "\n"

    def html(self) -> str:
        """For a browser: no script, no font, no picture from anywhere."""
        picture = timeline(self.story).replace("Timeline of the demonstration", "Timeline of the experiment")
        state = "kept" if self.held else "broken"
        body = "\n".join(
            (
                f"<header><h1>{escape(self.title)}</h1>",
                f'<p class="verdict {state}">{escape(self._verdict())}</p></header>',
                f'<div class="tiles">{_tiles(self)}</div>',
                f'<figure><div class="scroll">{picture}</div><figcaption>{_legend(self.story)}</figcaption></figure>',
                f"<section><h2>Hypotheses</h2>{_table(_HYPOTHESES, map(_judged, self.verdicts))}</section>",
                f"<section><h2>Phases</h2>{_table(('Phase', *_COLUMNS), _phase_rows(self.phases))}</section>",
                f"<section><h2>Providers</h2>{_table(_PROVIDERS, _provider_rows(self))}</section>",
                f"<section><h2>Recommendations</h2><ul>{_list(self.recommendations)}</ul></section>",
                f'<section><h2>What happened</h2><div class="log">{_table(_LOG, _log(self.story))}</div></section>',
            )
        )
        return (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{escape(self.title)}</title>\n<style>\n{STYLE}\n{_MORE_STYLE}\n</style>\n</head>\n"
            f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
        )

    def write(self, stem: str | Path) -> tuple[Path, Path, Path]:
        """Write ``<stem>.txt``, ``.json`` and ``.html``; returns their paths."""
        base = Path(stem)
        written: list[Path] = []
        for suffix, text in ((".txt", self.text()), (".json", self.as_json() + "\n"), (".html", self.html())):
            path = base.with_name(base.name + suffix)
            path.write_text(text, encoding="utf-8")
            written.append(path)
        return written[0], written[1], written[2]

    def _verdict(self) -> str:
        if self.aborted is not None:
            return f"Stopped early after {self.seconds:.1f} s: {self.aborted}."
        broken = [verdict for verdict in self.verdicts if verdict.held is False]
        if broken:
            return f"The hypothesis does not hold: {len(broken)} of {len(self.verdicts)} measurements fail."
        return "The hypothesis holds." if self.held else "Nothing could be measured."


def summary(  # noqa: PLR0917 - private
    title: str,
    story: Story,
    phases: tuple[Phase, ...],
    verdicts: tuple[Verdict, ...],
    injected: Mapping[str, Sequence[Injected]],
    aborted: str | None,
    let_go: int,
) -> ChaosReport:
    """Count everything."""
    providers = tuple(provider_totals(story, name) for name in story.providers)
    counted = {name: len(list(struck)) for name, struck in injected.items()}
    advised = advice(story, {one.name: one.totals for one in phases}, providers, counted, aborted)
    unmeasured = [verdict for verdict in verdicts if verdict.held is None and aborted is None]
    notes = [
        f"{one.hypothesis!r} could not be measured {one.phase} the faults: leave time for calls there."
        for one in unmeasured
    ]
    if let_go and any(counted.values()):
        notes.append(
            f"Calls still under way when the faults were withdrawn: {let_go}. Attempts that hung in a fault were let "
            "go, so these calls would have taken longer than measured."
        )
    return ChaosReport(
        title,
        story.ended,
        aborted,
        phases,
        verdicts,
        providers,
        counted,
        kinds(story.events),
        (*advised, *notes),
        story,
    )


# --- faults on the timeline --------------------------------------------------------------------------------


def segments(faults: Mapping[str, Faults], stopped: float, ended: float) -> list[ActSeen]:
    """The experiment cut where a fault begins or ends."""
    edges = {0.0, ended}
    for one in faults.values():
        for line in one.schedule:
            edges |= {min(line.start, stopped), min(line.end, stopped)}
    ordered = sorted(edge for edge in edges if edge <= ended)
    found: list[ActSeen] = []
    for begin, end in pairwise(ordered):
        active = {
            provider: ", ".join(
                _with_rate(line.mishap, line.rate) for line in one.schedule if line.start <= begin < line.end
            )
            for provider, one in faults.items()
            if begin < stopped
        }
        active = {provider: word for provider, word in active.items() if word}
        title = "faults" if active else "steady" if not found else "recovery"
        doing = "; ".join(f"{provider}: {word}" for provider, word in active.items()) or "nothing is injected"
        act = Act(f"segment-{len(found)}", title, doing, "", end - begin, faults=active)
        found.append(ActSeen(act, begin, end, end))
    return found


def _with_rate(mishap: Mishap, rate: float) -> str:
    return word(mishap) if rate >= 1 else f"{word(mishap)} {rate:.0%}"


def word(mishap: Mishap) -> str:
    """A mishap in a word."""
    if isinstance(mishap, Status):
        return str(mishap.status)
    if isinstance(mishap, Latency):
        return f"+{mishap.seconds:g} s"
    if isinstance(mishap, SlowTokens):
        return "slow tokens"
    if isinstance(mishap, Reply):
        return "wrong answer"
    return {"InBandError": "in-band error", "EndlessHeaders": "endless headers"}.get(
        type(mishap).__name__, type(mishap).__name__.lower()
    )


# --- words and tables --------------------------------------------------------------------------------------

_COLUMNS: Final = (
    "calls",
    "answered",
    "interrupted",
    "failed",
    "wrong",
    "p50",
    "p99",
    "first token p99",
    "attempts/call",
)
_HYPOTHESES: Final = ("Hypothesis", "Phase", "Measured", "")
_PROVIDERS: Final = ("Provider", "Struck", "Calls answered", "Attempts by outcome", "Times opened", "Gated")
_LOG: Final = ("When", "Who", "What")
_LEGEND: Final = (
    ("state closed", "breaker closed"),
    ("state open", "open"),
    ("state softly_open", "softly open"),
    ("state gated", "gated"),
    ("dot success", "attempt answered"),
    ("dot error", "failed"),
    ("dot timeout", "silent for too long"),
    ("dot rate_limited", "refused with 429"),
    ("dot cancelled", "cancelled"),
)
_MORE_STYLE: Final = """
svg .p3 { fill: #b3478f; } .key.p3 { background: #b3478f; }
svg .p4 { fill: #5f7f2a; } .key.p4 { background: #5f7f2a; }
svg .p5 { fill: #8a6d3b; } .key.p5 { background: #8a6d3b; }
""".strip()


def _figures(counted: Totals) -> dict[str, object]:
    ratios = {"success_rate": counted.success_rate, "attempts_per_call": counted.attempts_per_call}
    return {
        key: round(value, 4) if isinstance(value, float) else value for key, value in (asdict(counted) | ratios).items()
    }


def _row(counted: Totals) -> tuple[str, ...]:
    return (
        str(counted.calls),
        percent(counted.success_rate) if counted.calls else "-",
        str(counted.interrupted),
        str(counted.failed),
        str(counted.wrong),
        duration(counted.answer_p50),
        duration(counted.answer_p99),
        duration(counted.first_token_p99),
        f"{counted.attempts_per_call:.2f}",
    )


def _judged(verdict: Verdict) -> tuple[str, str, str, str]:
    measured = "-" if verdict.measured is None else f"{verdict.measured:.4g}"
    held = {True: "holds", False: "FAILS", None: "not measured"}[verdict.held]
    return verdict.hypothesis, verdict.phase, measured, held


def _aligned(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)
    ]


def _tiles(report: ChaosReport) -> str:
    during = next(phase.totals for phase in report.phases if phase.name == "during")
    tiles = (
        (str(sum(phase.totals.calls for phase in report.phases)), f"calls in {report.seconds:.0f} s"),
        (str(sum(report.injected.values())), "attempts struck by a fault"),
        (percent(during.success_rate), "answered while there were faults"),
        (duration(during.answer_p99), "slow answer then (p99)"),
        (f"{during.attempts_per_call:.2f}", "attempts per call then"),
        (str(report.attempts_by_kind.get("failover", 0)), "failovers"),
        (str(report.attempts_by_kind.get("hedge", 0)), "rescues of silent calls"),
    )
    return "".join(f"<div><b>{escape(value)}</b><span>{escape(label)}</span></div>" for value, label in tiles)


def _legend(story: Story) -> str:
    entries = [f'<span><i class="key {kind}"></i>{escape(text)}</span>' for kind, text in _LEGEND]
    entries += [
        f'<span><i class="key share p{number}"></i>answered by {escape(provider)}</span>'
        for number, provider in enumerate(story.providers)
    ]
    return "".join(entries)


def _phase_rows(phases: Iterable[Phase]) -> Iterable[tuple[str, ...]]:
    return ((f"{one.name} ({one.began:.0f} to {one.ended:.0f} s)", *_row(one.totals)) for one in phases)


def _provider_rows(report: ChaosReport) -> Iterable[tuple[str, ...]]:
    for one in report.providers:
        gated = f"{one.gated} times, {one.gated_seconds:.1f} s" if one.gated else "never"
        struck = str(report.injected.get(one.id, 0))
        yield one.id, struck, str(one.answered), outcomes(one).replace("_", " "), str(one.opened), gated


def _log(story: Story) -> Iterable[tuple[str, ...]]:
    return ((f"{at:.2f} s", who, what) for at, who, what in told(story.events))


def _list(items: Iterable[str]) -> str:
    return "".join(f"<li>{escape(item)}</li>" for item in items)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    top = "".join(f"<th>{escape(text)}</th>" for text in head)
    inside = "".join("<tr>" + "".join(f"<td>{escape(text)}</td>" for text in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{inside}</tbody></table>"
