"""The arithmetic: what the day came to, and whether the promises were kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from resilient_llm.chaos.timeline.figures import (
    ProviderTotals,
    Totals,
    duration,
    kinds,
    many,
    provider_totals,
    totals,
)
from resilient_llm.chaos.timeline.story import ActSeen, CallSeen, Story
from resilient_llm.demo.acts import CUT_LATE, OUTAGE


@dataclass(frozen=True, slots=True)
class ActTotals:
    """One act."""

    key: str
    title: str
    doing: str
    began: float
    ended: float
    totals: Totals
    kinds: dict[str, int]
    noticed: str


@dataclass(frozen=True, slots=True)
class Promise:
    """One sentence, and whether it held."""

    text: str
    kept: bool


@dataclass(frozen=True, slots=True)
class Report:
    """The whole day.  ``lag`` is by how many seconds at most a caller began late because the machine was busy."""

    pace: str
    seed: int
    complete: bool
    seconds: float
    lag: float
    totals: Totals
    unfinished: int
    kinds: dict[str, int]
    providers: tuple[ProviderTotals, ...]
    acts: tuple[ActTotals, ...]
    promises: tuple[Promise, ...]
    surprises: tuple[str, ...]
    """What broke the first promises, call by call."""

    @property
    def kept(self) -> bool:
        """Whether every promise was kept."""
        return all(promise.kept for promise in self.promises)

    def as_json(self) -> dict[str, object]:
        """For machines."""
        calls = _with_ratios(self.totals)
        return {
            "version": 1,
            "pace": self.pace,
            "seed": self.seed,
            "complete": self.complete,
            "seconds": round(self.seconds, 3),
            "lag": round(self.lag, 3),
            "calls": {**calls, "unfinished": self.unfinished},
            "attempts_by_kind": self.kinds,
            "providers": [_rounded(asdict(provider)) for provider in self.providers],
            "acts": [{**_rounded(asdict(act)), "totals": _with_ratios(act.totals)} for act in self.acts],
            "promises": [asdict(promise) for promise in self.promises],
            "surprises": list(self.surprises),
            "kept": self.kept,
        }


def report(story: Story) -> Report:
    """Count everything."""
    return Report(
        pace=story.pace,
        seed=story.seed,
        complete=story.complete,
        seconds=story.ended,
        lag=story.lag,
        totals=totals(story.calls),
        unfinished=story.began_calls - len(story.calls),
        kinds=kinds(story.events),
        providers=tuple(provider_totals(story, name) for name in story.providers),
        acts=tuple(act_totals(story, seen) for seen in story.acts),
        promises=promises(story),
        surprises=tuple(surprise(call) for call in unexpected(story)),
    )


def act_totals(story: Story, seen: ActSeen) -> ActTotals:
    """Count the calls that began in one act."""
    ended = story.ended if seen.ended is None else seen.ended
    calls = [call for call in story.calls if seen.began <= call.began < ended]
    counted = totals(calls)
    made = kinds(event for event in story.events if seen.began <= event.at < ended)
    return ActTotals(
        seen.act.key, seen.act.title, seen.act.doing, seen.began, ended, counted, made, noticed(counted, made)
    )


def noticed(counted: Totals, made: Mapping[str, int]) -> str:
    """What callers noticed, in a sentence."""
    if not counted.calls:
        return "Nobody called."
    if counted.answered == counted.calls:
        parts = [f"No caller failed: all {counted.calls} calls were answered{_pace(counted)}"]
    else:
        parts = [f"{counted.answered} of {counted.calls} calls were answered{_pace(counted)}"]
    if counted.interrupted:
        parts.append(f"{many(counted.interrupted, 'stream')} interrupted, and said so")
    if counted.failed:
        parts.append(f"{many(counted.failed, 'call')} failed, after at most {duration(counted.slowest_failure)}")
    if counted.wrong:
        parts.append(f"{counted.wrong} ANSWERS WERE WRONG")
    extra = made["failover"] + made["retry"] + made["hedge"]
    if extra:
        parts.append(f"{many(extra, 'further attempt')} behind the scenes")
    return "; ".join(parts) + "."


def _pace(counted: Totals) -> str:
    if counted.slowest is None:
        return ""
    return f", usually in {duration(counted.answer_p50)}, at most in {duration(counted.slowest)}"


def promises(story: Story) -> tuple[Promise, ...]:
    """What the demonstration promises; those of acts that were not played are left out."""
    endings = Counter(call.ending for call in unexpected(story))
    failed, wrong = endings["failed"], endings["wrong"]
    found = [
        Promise(f"outside the outage every call was answered (failures: {failed})", not failed),
        Promise(f"no answer was short or repeated itself (wrong: {wrong})", not wrong),
    ]
    interrupted = [call for call in story.calls if call.ending == "interrupted"]
    known = all(touches(call, story.act(CUT_LATE)) for call in interrupted)
    least = 1 if story.complete else 0
    text = f"only streams cut after their first words were interrupted ({len(interrupted)} of {story.cuts} cut)"
    found.append(Promise(text, known and least <= len(interrupted) <= story.cuts))
    outage = story.act(OUTAGE)
    if outage is not None and outage.repaired is not None and story.complete:
        back = back_after(story, outage.repaired)
        when = "never" if back is None else f"{duration(back)} after the repair"
        text = f"after the outage the service came back by itself (first answer: {when})"
        found.append(Promise(text, back is not None))
    return tuple(found)


def unexpected(story: Story) -> list[CallSeen]:
    """Calls that failed without an outage, and answers that were wrong."""
    outage = story.act(OUTAGE)
    return [
        one for one in story.calls if one.ending == "wrong" or (one.ending == "failed" and not touches(one, outage))
    ]


def surprise(call: CallSeen) -> str:
    """An unexpected ending in words."""
    said = f": {call.error}, {call.message}" if call.error else ""
    return f"call {call.number} at {call.began:.2f} s, {call.ending} after {duration(call.seconds)}{said}"


def touches(call: CallSeen, seen: ActSeen | None) -> bool:
    """Whether any part of a call fell into an act."""
    return seen is not None and call.ended >= seen.began and (seen.ended is None or call.began <= seen.ended)


def back_after(story: Story, repaired: float) -> float | None:
    """Seconds from a repair to the first answer after it; ``None`` if there was none."""
    return min(
        (call.ended - repaired for call in story.calls if call.ending == "answered" and call.ended > repaired),
        default=None,
    )


BUSY = 0.1
"""Seconds of lag from which on the machine itself delays answers visibly."""


def _rounded(value: Mapping[str, object]) -> dict[str, object]:
    return {key: round(item, 4) if isinstance(item, float) else item for key, item in value.items()}


def _with_ratios(counted: Totals) -> dict[str, object]:
    ratios = {"success_rate": counted.success_rate, "attempts_per_call": counted.attempts_per_call}
    return _rounded({**asdict(counted), **ratios})
