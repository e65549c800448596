"""What to do about it: one rule per recommendation, each from figures of the experiment it is given for."""

# ruff: noqa: E501 - sentences for people

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from resilient_llm import events
from resilient_llm.chaos.timeline.figures import ProviderTotals, Totals, duration
from resilient_llm.chaos.timeline.story import Story

_MEASURED: Final = 20  # answers before lateness is measured


@dataclass(frozen=True, slots=True)
class Findings:
    """What the rules look at: the totals by phase, and mishaps per provider."""

    story: Story
    phases: Mapping[str, Totals]
    providers: Sequence[ProviderTotals]
    injected: Mapping[str, int]
    aborted: str | None

    @property
    def due(self) -> frozenset[str]:
        """Providers whose faults had begun when it ended."""
        return frozenset(provider for seen in self.story.acts for provider in seen.act.faults)

    @property
    def first_fault(self) -> float:
        """When the first fault began; infinite if none did."""
        return min((seen.began for seen in self.story.acts if seen.act.faults), default=math.inf)

    def count(self, kind: str) -> int:
        """Attempts of a kind, such as ``hedge``."""
        return sum(isinstance(event, events.AttemptStarted) and event.kind == kind for event in self.story.events)

    @property
    def errors(self) -> Counter[str]:
        """Failed calls by what was raised."""
        return Counter(call.error for call in self.story.calls if call.ending == "failed")


def advice(
    story: Story,
    phases: Mapping[str, Totals],
    providers: Sequence[ProviderTotals],
    injected: Mapping[str, int],
    aborted: str | None,
) -> tuple[str, ...]:
    """Every recommendation the data support, or a sentence that there is none."""
    findings = Findings(story, phases, providers, injected, aborted)
    found = [text for rule in RULES for text in rule(findings)]
    return tuple(found) or ("Nothing to change: callers noticed nothing that the figures could blame on the set-up.",)


def _not_begun(found: Findings) -> Iterator[str]:
    if found.aborted is not None and not found.due:
        yield (
            "It was stopped before any fault was due, so it says nothing about them. See to the steady state first, or to the "
            "bound it was held against."
        )


def _nothing_struck(found: Findings) -> Iterator[str]:
    for provider, count in found.injected.items():
        if not count and provider in found.due:
            yield (
                f"No attempt at {provider} was struck: it was not asked while its faults were due, so the experiment says "
                "nothing about them. Put it first, into the same tier, or restrict calls to it with providers=."
            )


def _single(found: Findings) -> Iterator[str]:
    failed = found.phases["during"].failed
    if len(found.story.providers) == 1 and failed:
        yield f"There is one provider, and {failed} calls failed with it. A second one, of another vendor, answers them."


def _all_sick(found: Findings) -> Iterator[str]:
    sick = [one for one, count in found.injected.items() if count]
    errors = found.errors
    failed = errors["NoProviderAvailable"] + errors["AllAttemptsFailed"] + errors["DeadlineExceeded"]
    if len(found.story.providers) > 1 and len(sick) == len(found.story.providers) and failed:
        yield (
            f"{failed} calls failed while every provider was struck. Only a provider that does not share their "
            "fate, or fallback= with an answer of your own, helps here."
        )


def _deadlines(found: Findings) -> Iterator[str]:
    late = found.errors["DeadlineExceeded"]
    if late:
        yield (
            f"{late} calls ran out of time. A longer deadline leaves time for somebody else; so does finding out sooner: "
            f"{_sooner(found)}"
        )


def _sooner(found: Findings) -> str:
    """How silence is noticed sooner: what is known of a provider decides which setting matters."""
    least = min((_known(found, provider) for provider, count in found.injected.items() if count), default=_MEASURED)
    if least < _MEASURED:
        return (
            f"as long as fewer than {_MEASURED} answers of a provider are known (here it was {least} before the first fault), "
            "nothing rescues a silent call earlier than half its deadline, and hedge.factor changes nothing: give calls a "
            "shorter deadline, or set timeouts.first_token."
        )
    return "lower hedge.factor or advanced.rescue_max, or set timeouts.first_token."


def _known(found: Findings, provider: str) -> int:
    """Answers of a provider before the first fault, of the kind, streamed or whole, of which there were fewer."""
    kinds = {call.streamed for call in found.story.calls}
    known = Counter(
        call.streamed
        for call in found.story.calls
        if call.provider == provider and call.ending == "answered" and call.began < found.first_fault
    )
    return min(known[kind] for kind in kinds)


def _budget(found: Findings) -> Iterator[str]:
    refused = Counter(
        event.what for event in found.story.events if isinstance(event, events.NotTaken) and event.reason == "budget"
    )
    names = {"retry": "retry.budget", "hedge": "hedge.ratio"}
    for what, count in refused.items():
        setting = f" If providers can bear it, raise {names[what]}." if what in names else ""
        yield f"{count} times a {what} was due and its budget was used up.{setting}"


def _interrupted(found: Findings) -> Iterator[str]:
    cut = sum(counted.interrupted for counted in found.phases.values())
    if cut:
        yield (
            f"Streams that broke after their first words and said so (StreamInterrupted, with the text so far): {cut}. "
            "Whoever reads streams must handle it; chat() cannot be interrupted, as nothing is handed over before it is whole."
        )


def _wrong(found: Findings) -> Iterator[str]:
    wrong = sum(counted.wrong for counted in found.phases.values())
    if wrong:
        yield (
            f"{wrong} answers arrived whole and were wrong. No transport can see that: give chat() a validate= that does, and "
            "such an answer fails over like any other failure."
        )


def _slow(found: Findings) -> Iterator[str]:
    before, during = found.phases["before"].answer_p99, found.phases["during"].answer_p99
    if before and during and during > 3 * before and during > before + 0.5:
        rescues = found.count("hedge")
        how = f"{rescues} rescues were made" if rescues else "no rescue was made"
        yield (
            f"Slow answers (p99) went from {duration(before)} to {duration(during)}; {how}. If that is too slow: "
            f"{_sooner(found)}"
        )


def _amplification(found: Findings) -> Iterator[str]:
    during = found.phases["during"]
    if during.calls < 20 or during.attempts_per_call <= 1.3:
        return
    opened = [one.id for one in found.providers if one.opened and found.injected.get(one.id)]
    if opened:
        yield (
            f"{during.attempts_per_call:.2f} attempts per call while there were faults, although the breaker of "
            f"{' and '.join(opened)} opened (rescues of silent calls: {found.count('hedge')}, failovers: {found.count('failover')}, "
            f"retries: {found.count('retry')}, trials: {found.count('trial')}). Finding out costs the "
            "same in a long outage, so it is less per call there; a smaller breaker.consecutive or breaker.ratio finds out sooner."
        )
    else:
        yield (
            f"{during.attempts_per_call:.2f} attempts per call while there were faults: they come and go faster than breakers "
            "open. Put the provider behind the others, or lower breaker.ratio."
        )


def _not_back(found: Findings) -> Iterator[str]:
    ended = {
        call.provider for call in found.story.calls if call.ending == "answered" and call.began >= _last_fault(found)
    }
    if not found.phases["after"].calls:
        return
    for provider, count in found.injected.items():
        if not count or provider in ended:
            continue
        if _still_open(found, provider):
            yield (
                f"{provider} answered nothing after the last fault. Its breaker was still open: it gets one trial at a time, the next "
                "one after up to breaker.open_cap (15 s), and its traffic back when breaker.successes of them were answered. To see "
                f"that, make settle and duration longer; client.restore({provider!r}) gives it its traffic at once."
            )
        elif not any(call.provider == provider and call.began < found.first_fault for call in found.story.calls):
            yield f"{provider} answered nothing after the last fault, nor before the first: others stand before it."
        else:
            yield f"{provider} answered nothing after the last fault. Leave more time there, for more calls."


def _still_open(found: Findings, provider: str) -> bool:
    """Whether its breaker was not closed when it ended."""
    closed = True
    for event in found.story.events:
        if isinstance(event, events.BreakerChanged) and event.provider == provider:
            closed = event.new == "closed"
    return not closed


def _last_fault(found: Findings) -> float:
    return max((seen.ended or 0.0 for seen in found.story.acts if seen.act.faults), default=0.0)


def _rejected(found: Findings) -> Iterator[str]:
    rejected = found.errors["RequestRejected"]
    if rejected:
        yield f"{rejected} calls were rejected as wrong requests, and nobody else was asked. Is the fault meant to say that?"


RULES: Final[tuple[Callable[[Findings], Iterator[str]], ...]] = (
    _not_begun,
    _nothing_struck,
    _single,
    _all_sick,
    _deadlines,
    _budget,
    _interrupted,
    _wrong,
    _slow,
    _amplification,
    _not_back,
    _rejected,
)
