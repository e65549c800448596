"""The decisions of a call that succeeds at once, without any I/O, beside stamina and pybreaker around the same
no-op."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

from benchmarks.harness import Batch, Row, beside, measure
from resilient_llm.decide.attempt import Ask, Attempt
from resilient_llm.decide.call import Call
from resilient_llm.decide.pool import Pool
from resilient_llm.policy import KeyTerms, Policies

BUDGETS = {"3 tiers": 6.0, "one tier of 3": 9.0}  # microseconds
SHARE = 0.4  # of the peers'
LATENCIES = tuple(0.4 + 0.01 * (7 * step % 64) for step in range(64))
PEERS = ("stamina", "pybreaker")


@dataclass(frozen=True, slots=True)
class Target:
    """The least a pool needs to know."""

    id: str
    model: str = "model"
    weight: float = 1.0
    max_concurrency: int | None = None
    keys: tuple[KeyTerms, ...] = (KeyTerms(),)
    context_window: int | None = None
    cache_seconds: float | None = None


def no_op() -> None:
    """What is guarded."""


def guarded(tiers: list[list[Target]], *, streaming: bool = False) -> Batch:
    """Ours.  The clock is the real one, shifted by plausible latencies: at a microsecond each, the statistics would see
    nothing but noise."""
    pool: Pool[Target] = Pool({"default": tiers}, Policies(), random.Random(1).random)
    shift = [0.0]

    def batch(count: int) -> None:
        clock, later = time.monotonic, shift[0]
        for index in range(count):
            began = clock() + later
            call = Call(pool, Ask("default", began + 600.0, streaming, 200), began)
            attempt = call.next_attempt(began)
            assert isinstance(attempt, Attempt)
            no_op()
            later += LATENCIES[index & 63]
            if streaming:
                call.first_content(attempt, clock() + later)
                later += 1.0
            call.succeeded(attempt, clock() + later, 60)
        shift[0] = later

    return batch


def bare(count: int) -> None:
    """The no-op alone."""
    for _ in range(count):
        no_op()


def peers() -> Batch:
    """stamina around pybreaker around the no-op."""
    import pybreaker
    import stamina

    breaker = pybreaker.CircuitBreaker(fail_max=5, reset_timeout=60)
    call: Callable[[], object] = stamina.retry(on=ConnectionError, attempts=3)(lambda: breaker.call(no_op))

    def batch(count: int) -> None:
        for _ in range(count):
            call()

    return batch


def rows(quick: bool) -> list[Row]:
    """Ours in several shapes, and the peers."""
    one, two, three = Target("a"), Target("b"), Target("c")
    things: dict[str, Batch] = {
        "3 tiers": guarded([[one], [two], [three]]),
        "one tier of 3": guarded([[one, two, three]]),
        "3 tiers, streaming": guarded([[one], [two], [three]], streaming=True),
        "bare": bare,
    }
    compare = all(find_spec(peer) for peer in PEERS)
    if compare:
        things["peers"] = peers()
    found = measure(things, 500 if quick else 2000, 9 if quick else 25)
    shown = [
        Row(f"decisions, {name}", f"{found[name].us:.2f} us", f"<= {budget:g} us", found[name].us <= budget)
        for name, budget in BUDGETS.items()
    ]
    shown.append(Row("decisions, 3 tiers, streaming", f"{found['3 tiers, streaming'].us:.2f} us"))
    if compare:
        shown.append(beside("decisions, 3 tiers", found["3 tiers"], found["peers"], "stamina + pybreaker", SHARE))
    else:
        shown.append(Row("decisions beside stamina + pybreaker", "not installed: pip install resilient-llm[bench]"))
    return shown
