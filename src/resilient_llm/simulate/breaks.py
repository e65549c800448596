"""``python -m resilient_llm.simulate.breaks``: the schedules whose streams break after content, with each ``on_break``.

For each: how many streams end whole, what the broken ones cost beyond one unbroken answer in tokens and in seconds.
Every provider takes the beginning of an answer, and writes as many tokens as were asked for.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final, get_args

from resilient_llm.decide.attempt import Attempt
from resilient_llm.decide.call import Call
from resilient_llm.errors import CallFailed
from resilient_llm.faults import Fault, FaultKind
from resilient_llm.policy import OnBreak
from resilient_llm.simulate.client import Production, Question
from resilient_llm.simulate.providers import Provider
from resilient_llm.simulate.schedules import SCHEDULES

BREAKING: Final = ("midstream", "stall")
"""Schedules in which half of the first provider's streams break after content."""
_IDLE: Final = 30.0  # seconds of silence that are a stall
_DEADLINE: Final = 120.0
_OUTPUT: Final = 300
_PROMPT: Final = 500
_SILENT: Final = Fault(FaultKind.TIMEOUT)


@dataclass(slots=True)
class Told:
    """What became of one call; ``lost`` are seconds beyond those of an unbroken answer."""

    breaks: int = 0
    whole: bool = False
    output_again: int = 0
    input_again: int = 0
    lost: float = 0.0


@dataclass(frozen=True, slots=True)
class Breaks:
    """A schedule with one policy; figures are means, and the median of seconds, of the calls whose stream broke."""

    schedule: str
    on_break: str
    broke: int
    whole: float
    output_again: float
    input_again: float
    lost: float


class _Stream:
    """One call that streams, on a clock of its own."""

    def __init__(self, client: Production, on_break: OnBreak, now: float, dice: random.Random) -> None:
        self.now: float = now
        self.told: Told = Told()
        self._on_break = on_break
        self._dice = dice
        self._began = now
        self._came = 0
        found = client.call(Question(True, _PROMPT, _OUTPUT, _DEADLINE), now)
        assert isinstance(found, Call)
        self._call: Call[Provider] = found

    def run(self) -> Told:
        """Let it end."""
        while True:
            try:
                step = self._call.next_attempt(self.now)
            except CallFailed:
                return self.told
            if not isinstance(step, Attempt):
                self.now += step.seconds
            elif self._attempted(step):
                return self.told

    def _attempted(self, attempt: Attempt[Provider]) -> bool:
        """One attempt; whether the call is over with it."""
        told, goes_on = self.told, self._on_break in ("continue", "instruct")
        prompt, output = (_PROMPT + self._came, _OUTPUT - self._came) if goes_on else (_PROMPT, _OUTPUT)
        if told.breaks:
            told.input_again += prompt
        fate = attempt.target.serve(self.now, prompt, output, True, self._dice, attempt.fresh)
        if fate.first > attempt.timeout:
            self.now += attempt.timeout
            self._call.failed(attempt, _SILENT, self.now)
            return False
        self._call.first_content(attempt, self.now + fate.first)
        if fate.fault is None and fate.done < math.inf:
            self.now += fate.done
            self._call.succeeded(attempt, self.now, output)
            told.whole = True
            told.lost = self.now - self._began - fate.first - attempt.target.nature.pace * _OUTPUT
            return True
        told.breaks += 1
        pace = attempt.target.nature.pace
        came = fate.tokens if fate.fault is None else round((fate.done - fate.first) / pace)
        self.now += fate.last + _IDLE if fate.fault is None else fate.done
        self._call.failed(attempt, fate.fault or _SILENT, self.now)
        if goes_on:
            self._came += came
        elif self._on_break != "fail":
            told.output_again += came
        return self._on_break == "fail"


def breaks(schedule: str, on_break: OnBreak, calls: int, seed: int = 0) -> Breaks:
    """So many calls within the schedule's trouble, one after the other, each a second or more after the last."""
    found = SCHEDULES[schedule]
    dice, client = random.Random(seed), Production([[one] for one in found.providers()], seed=seed)
    start, end = found.fault
    broken: list[Told] = []
    now = start
    for _ in range(calls):
        stream = _Stream(client, on_break, now, dice)
        told = stream.run()
        if told.breaks:
            broken.append(told)
        now = max(stream.now, now + 1.0)
        if now >= end:
            now, client = start, Production([[one] for one in found.providers()], seed=dice.randrange(2**32))
    count = max(len(broken), 1)
    return Breaks(
        schedule,
        on_break,
        len(broken),
        sum(one.whole for one in broken) / count,
        sum(one.output_again for one in broken) / count,
        sum(one.input_again for one in broken) / count,
        median([one.lost for one in broken if one.whole] or [0.0]),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(prog="python -m resilient_llm.simulate.breaks", description=__doc__)
    parser.add_argument("calls", type=int, nargs="?", default=20_000, metavar="N", help="calls of a row (%(default)s)")
    calls = parser.parse_args(arguments).calls
    if calls < 1:
        parser.error(f"N must be 1 or more, not {calls}")
    sys.stdout.write(
        "| schedule | `on_break` | streams that broke | of these end whole | output tokens paid twice | input tokens "
        "paid again | seconds lost (median) |\n|---|---|---|---|---|---|---|\n"
    )
    for schedule in BREAKING:
        for on_break in get_args(OnBreak):
            one = breaks(schedule, on_break, calls)
            sys.stdout.write(
                f"| {one.schedule} | `{one.on_break}` | {one.broke:,} | {one.whole:.1%} | {one.output_again:.0f} | "
                f"{one.input_again:.0f} | {one.lost:.1f} |\n"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
