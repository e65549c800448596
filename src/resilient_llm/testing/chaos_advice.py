"""What to do about it: one rule per recommendation, each from figures of the experiment it is given for."""

# ruff: noqa: E501 - sentences for people

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from resilient_llm.decide import events
from resilient_llm.testing.timeline.figures import ProviderTotals, Totals, duration
from resilient_llm.testing.timeline.story import Story


@dataclass(frozen=True, slots=True)
class Findings:
    """What the rules look at: the totals by phase, and mishaps per provider."""

    story: Story
    phases: Mapping[str, Totals]
    providers: Sequence[ProviderTotals]
    injected: Mapping[str, int]
    aborted: str | None

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


def _nothing_struck(found: Findings) -> Iterator[str]:
    for provider, count in found.injected.items():
        if not count:
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
    none, all_failed = found.errors["NoProviderAvailable"], found.errors["AllAttemptsFailed"]
    if len(found.story.providers) > 1 and len(sick) == len(found.story.providers) and none + all_failed:
        yield (
            f"{none + all_failed} calls failed while every provider was struck. Only a provider that does not share their "
            "fate, or fallback= with an answer of your own, helps here."
        )


def _deadlines(found: Findings) -> Iterator[str]:
    late = found.errors["DeadlineExceeded"]
    if late:
        yield (
            f"{late} calls ran out of time. A longer deadline, a shorter timeouts.first_token, or a smaller hedge.max_delay "
            "leaves time for somebody else."
        )


def _budget(found: Findings) -> Iterator[str]:
    refused = Counter(
        event.what for event in found.story.events if isinstance(event, events.NotTaken) and event.reason == "budget"
    )
    names = {"failover": "retry.failover_budget", "retry": "retry.budget", "hedge": "hedge.cap"}
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
        rescues = sum(
            isinstance(event, events.AttemptStarted) and event.kind == "hedge" for event in found.story.events
        )
        how = f"{rescues} rescues were made" if rescues else "no rescue was made"
        yield (
            f"Slow answers (p99) went from {duration(before)} to {duration(during)}; {how}. If that is too slow, lower "
            "hedge.min_delay and hedge.max_delay, or timeouts.first_token."
        )


def _amplification(found: Findings) -> Iterator[str]:
    during = found.phases["during"]
    if during.calls >= 20 and during.attempts_per_call > 1.3:
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
        if count and provider not in ended:
            yield (
                f"{provider} answered nothing after the last fault. A breaker stays open for up to breaker.open_cap seconds, and "
                "a bad record fades with health.memory: give it more time. Or it stands behind others, and there was no need."
            )


def _last_fault(found: Findings) -> float:
    return max((seen.ended or 0.0 for seen in found.story.acts if seen.act.faults), default=0.0)


def _rejected(found: Findings) -> Iterator[str]:
    rejected = found.errors["RequestRejected"]
    if rejected:
        yield f"{rejected} calls were rejected as wrong requests, and nobody else was asked. Is the fault meant to say that?"


RULES: Final[tuple[Callable[[Findings], Iterator[str]], ...]] = (
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
