"""What a call that does not wait pays for the line and the pace: the decisions of a call with them beside the same
without.

``without`` is the same code with a pace that reserves nothing and a line that nobody stands in.  CPU time of batches
that take turns in one process, and the Python functions and bytecodes that a call runs, which no neighbour changes.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from statistics import median
from types import FrameType
from typing import Any

from benchmarks.core import LATENCIES, Target, no_op
from benchmarks.harness import Batch, Row, measure
from resilient_llm.decide.attempt import Ask, Attempt
from resilient_llm.decide.call import Call
from resilient_llm.decide.pace import Pace, Sent
from resilient_llm.decide.pool import Pool
from resilient_llm.policy import KeyTerms, Policies, Rate

BUDGET = 1.0  # microseconds
_NOTHING: Sent = (0.0, 0.0, 0.0, 0.0)


class NoPace(Pace):
    """Reserves and settles nothing."""

    def reserve(self, tokens: float, max_tokens: float, now: float) -> Sent:
        return _NOTHING

    def heard(self, need: float) -> None:
        pass

    def settle(self, need: float, prompt: int, tokens: int, output: int) -> None:
        pass


def pool(*rates: Rate, without: bool = False) -> Pool[Target]:
    """Three providers in tiers, each with these limits."""
    tiers = [[Target(name, keys=(KeyTerms(rates=rates),))] for name in "abc"]
    made: Pool[Target] = Pool({"default": tiers}, Policies(), random.Random(1).random)
    if without:
        for member in made.look(lambda members: [*members.values()]):
            for key in member.keys:
                key.pace = NoPace((), 300.0)
    return made


def calls(pool: Pool[Target]) -> Batch:
    """Calls that are answered at once, as :func:`benchmarks.core.guarded` makes them, with the tokens they took."""
    shift = [0.0]

    def batch(count: int) -> None:
        clock, later = time.monotonic, shift[0]
        for index in range(count):
            began = clock() + later
            call = Call(pool, Ask("default", began + 600.0, tokens=200), began)
            attempt = call.next_attempt(began)
            assert isinstance(attempt, Attempt)
            no_op()
            later += LATENCIES[index & 63]
            call.succeeded(attempt, clock() + later, 60, None, 260)
        shift[0] = later

    return batch


def counted(batch: Batch) -> tuple[float, float]:
    """Python functions and bytecodes that one of its calls runs."""
    batch(100)
    found = [_counted(batch, count) for count in (20, 120)]
    return (found[1][0] - found[0][0]) / 100, (found[1][1] - found[0][1]) / 100


def _counted(batch: Callable[[int], object], count: int) -> tuple[int, int]:
    functions = codes = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal functions, codes
        functions += event == "call"
        codes += event == "opcode"
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        batch(count)
    finally:
        sys.settrace(before)
    return functions, codes


def rows(quick: bool) -> list[Row]:
    """Without limits, and with limits that are never reached."""
    plenty = [Rate(amount=1e9, per=60.0, unit="requests"), Rate(amount=1e12, per=60.0, unit="tokens")]
    things = {
        "without": calls(pool(without=True)),
        "no limit": calls(pool()),
        "requests and tokens": calls(pool(*plenty)),
    }
    found = measure(things, 500 if quick else 2000, 15 if quick else 41)
    base, shown = found["without"], list[Row]()
    functions, codes = counted(things["without"])
    for name in ("no limit", "requests and tokens"):
        more = median(mine - theirs for mine, theirs in zip(found[name].rounds, base.rounds, strict=True)) * 1e6
        run, ops = counted(things[name])
        value = (
            f"{more:+.2f} us ({found[name].over(base) - 1:+.1%}), {run - functions:+.1f} functions, "
            f"{ops - codes:+.0f} bytecodes"
        )
        budget = (f"<= +{BUDGET:g} us", more <= BUDGET) if name == "no limit" else ("", None)
        shown.append(Row(f"line and pace, {name}", value, *budget))
    return shown
