"""The report as text."""

from __future__ import annotations

from collections.abc import Sequence

from resilient_llm.chaos.timeline.figures import ProviderTotals, duration, many, outcomes, percent
from resilient_llm.demo.report import BUSY, Report


def prose(summary: Report) -> str:
    """The whole report, for people."""
    sections = ["The day in figures", *_figures(summary), "", *_providers(summary), "", *_promises(summary)]
    return "\n".join(sections) + "\n"


def _figures(summary: Report) -> list[str]:
    counted, made = summary.totals, summary.kinds
    cut_short = "" if summary.complete else ", cut short"
    unfinished = f", {summary.unfinished} unfinished" if summary.unfinished else ""
    busy = [f"  this machine was busy: callers began up to {duration(summary.lag)} late"] if summary.lag > BUSY else []
    return [
        f"  {counted.calls} calls in {summary.seconds:.1f} s{cut_short}: {percent(counted.success_rate)} answered, "
        f"{counted.interrupted} streams interrupted, {counted.failed} failed, {counted.wrong} wrong{unfinished}",
        f"  whole answers: p50 {duration(counted.answer_p50)}, p99 {duration(counted.answer_p99)}; "
        f"first words: p50 {duration(counted.first_token_p50)}, p99 {duration(counted.first_token_p99)}",
        f"  {counted.attempts_per_call:.2f} attempts per call: {made['failover']} failovers, {made['retry']} retries, "
        f"{made['hedge']} rescues (hedges), {made['trial']} trials",
        *busy,
    ]


def _providers(summary: Report) -> list[str]:
    return _table(
        ("provider", "answered", "attempts by outcome", "breaker opened", "gated"),
        [(one.id, str(one.answered), outcomes(one), opened(one), gated(one)) for one in summary.providers],
    )


def opened(provider: ProviderTotals) -> str:
    """How often its breaker opened, in words."""
    trials = f", {many(provider.failed_trials, 'failed trial')}" if provider.failed_trials else ""
    return f"{many(provider.opened, 'time')}{trials}" if provider.opened else "never"


def gated(provider: ProviderTotals) -> str:
    """How often and how long its gate was closed, in words."""
    return f"{many(provider.gated, 'time')}, {provider.gated_seconds:.1f} s" if provider.gated else "never"


def _promises(summary: Report) -> list[str]:
    verdict = "Everything that was promised was kept:" if summary.kept else "A PROMISE WAS BROKEN:"
    marks = [f"  {'yes' if promise.kept else 'NO '}  {promise.text}" for promise in summary.promises]
    return [verdict, *marks, *(f"       {surprise}" for surprise in summary.surprises)]


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    padded = (zip(row, widths, strict=True) for row in (head, *rows))
    return ["  " + "  ".join(text.ljust(size) for text, size in row).rstrip() for row in padded]
