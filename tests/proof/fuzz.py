"""One adversarial run: a random world drawn from a seed, every invariant checked at every step.

``python -m tests.proof.fuzz [--world NAME] [--seeds A B]`` runs the seeds from A to B - 1 in one process, tells of
every invariant that did not hold, and exits with status 1 if there was any.  Worlds: ``any``, everything that can go
wrong, a thousand calls each; ``lines``, more calls than the limits allow, by several tenants and a batch, two hundred
calls each; ``busy``: providers that have too much to do, hang, or refuse by chance, two hundred calls each.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, final

from typing_extensions import override

from resilient_llm.decide.call import Call
from resilient_llm.policy import KeyTerms, Policies, Rate
from resilient_llm.simulate.allowance import DIALECTS, Allowance
from resilient_llm.simulate.client import Production, Question, Real
from resilient_llm.simulate.driver import Spinning
from resilient_llm.simulate.providers import Nature, Provider, Trouble
from resilient_llm.simulate.world import Load, Session, World
from tests.proof import busy, lines
from tests.proof.adversary import Adversary
from tests.proof.invariants import Checker, Violation
from tests.proof.watched import Watched, watch

_TROUBLED: Final = 300.0
"""Seconds of trouble..."""
_QUIET: Final = 700.0
"""...and of quiet after them, in which everything must come back."""
_KINDS: Final = (
    "error",
    "refuse",
    "hang",
    "429",
    "slow",
    "overloaded",
    "quota",
    "break",
    "stall",
    "reject",
    "conflict",
)


class Run(NamedTuple):
    """What a run did."""

    seed: int
    calls: int
    steps: int
    transcript: bytes


def fuzz(seed: int, *, log: bool = False, start: float = 0.0, calls: float = 1.0) -> Run:
    """Run one seed of the world ``any``.  Raises :class:`~tests.proof.invariants.Violation`."""
    dice = random.Random(f"world {seed}")
    names = "abc"[: dice.choice((1, 2, 3, 3, 3))]
    total = dice.random() < 0.5  # everybody is troubled at the same time
    kinds = [*dice.sample(_KINDS, 3), dice.choice(("error", "hang"))]
    providers = [
        Provider(name, _nature(dice), _troubles(dice, kinds, total, start, seed % 10 == 9), *_extras(dice))
        for name in names
    ]
    if seed % 4 == 2:
        _limit(providers, random.Random(f"limits {seed}"))
    one_tier = dice.random() < 0.6
    layout = [providers] if one_tier else [[provider] for provider in providers]
    checker = Checker(seed)
    client = Production(layout, Policies(), seed, _watch(checker, names, random.Random(f"ruled out {seed}"), seed))
    load, late = _load(dice, calls), dice.choice((0.0, 0.0, 0.05))
    rate = dice.choice((0.05, 0.3, 1.0))
    return _run(checker, client, load, (_TROUBLED, _QUIET), rate, late=late, log=log, start=start)


def crowded(seed: int, *, log: bool = False) -> Run:
    """Run one seed of the world ``lines``.  Raises :class:`~tests.proof.invariants.Violation`."""
    dice = random.Random(f"crowded {seed}")
    layout, load, policies = lines.layout(seed)
    checker = Checker(seed)
    client = Production(layout, policies, seed, lines.watch(checker, seed))
    late, rate = dice.choice((0.0, 0.0, 0.05)), dice.choice((0.0, 0.3, 1.0, 3.0))
    return _run(checker, client, load, (lines.TROUBLED, lines.QUIET), rate, late=late, log=log)


def overloaded(seed: int, *, log: bool = False) -> Run:
    """Run one seed of the world ``busy``.  Raises :class:`~tests.proof.invariants.Violation`."""
    dice = random.Random(f"overloaded {seed}")
    layout, load = busy.layout(seed)
    checker = Checker(seed)
    client = Production(layout, Policies(), seed, watch(checker))
    rate = dice.choice((0.0, 0.0, 0.1, 0.3))
    return _run(checker, client, load, (busy.TROUBLED, busy.QUIET), rate, log=log)


def _run(
    checker: Checker, client: Production, load: Load, seconds: tuple[float, float], rate: float, **settings: Any
) -> Run:
    """``seconds`` of trouble and of quiet, in a world with these settings; an adversary interferes ``rate`` times a
    second of the first (0: there is none)."""
    checker.attach(client)
    seed, tiers = checker.seed, client.routes["main"]
    names = [provider.id for provider in tiers[0]] if seconds[1] >= _QUIET else []  # else it is too soon to be back
    world = WatchedWorld(checker, [client], load, seed, shuffle=True, **settings)
    if rate:
        Adversary(world, client, checker, seed, rate).begin(world.clock.now + seconds[0])
    try:
        world.run(sum(seconds))
    except Spinning as error:
        raise Violation("S12", str(error), seed, checker.trail) from error
    checker.at_rest(world.clock.now, names, world.asked, patient=load.deadline >= 20.0)
    return Run(seed, world.arrivals, world.clock.steps, world.transcript())


@final
class WatchedWorld(World[Real]):
    """A world that looks at the lock whenever somebody is woken."""

    def __init__(self, checker: Checker, *world: Any, **more: Any) -> None:
        super().__init__(*world, **more)
        self._checker = checker

    @override
    def _wake(self, ticket: tuple[Session[Real], int]) -> None:
        self._checker.demand(not self._checker.lock_held, "S16", "somebody was woken under the lock")
        super()._wake(ticket)


def _watch(
    checker: Checker, names: str, dice: random.Random, seed: int
) -> Callable[[Production, Call[Provider], Question], Watched]:
    """Wraps each call; one in ten rules out one of several providers.  In a quarter of the worlds half of the calls are
    a batch, there are tenants, and providers have declared limits (see :func:`_limit`)."""
    classes = random.Random(f"classes {seed}")

    def watched(client: Production, call: Call[Provider], question: Question) -> Watched:
        if seed % 4 == 2:
            batch, tenant = classes.random() < 0.5, classes.choice((None, "x", "y"))
            call.ask = call.ask._replace(batch=batch, tenant=tenant)
        if len(names) > 1 and dice.random() < 0.1:
            call.ask = call.ask._replace(unsuitable={dice.choice(names): "ruled out"})
        return Watched(checker, call)

    return watched


def _limit(providers: Sequence[Provider], dice: random.Random) -> None:
    """Declare limits and give some providers several keys."""
    for provider in providers:
        amount, per = dice.choice(((2.0, 2.0), (30.0, 30.0), (5.0, 20.0)))
        rates = (Rate(amount=amount, per=per, unit="requests"),)
        count = dice.choice((1, 1, 3))
        provider.keys = tuple(KeyTerms(account=f"{provider.id} {key}", rates=rates) for key in range(count))
        provider.max_concurrency = dice.choice((None, 3))


def _nature(dice: random.Random) -> Nature:
    return Nature(
        first_token=0.6,
        sigma=dice.choice((0.3, 0.5, 0.9)),
        straggler=dice.choice((0.0, 0.0, 0.05)),
        allowance=_allowance(dice),
    )


def _allowance(dice: random.Random) -> Allowance | None:
    kind = dice.choice((None, None, None, *DIALECTS))
    return None if kind is None else Allowance(requests=40, dialect=kind, tells=dice.random() < 0.5)


def _extras(dice: random.Random) -> tuple[float, int | None, str | None]:
    """Weight, greatest concurrency, account."""
    return 1.0, dice.choice((None, None, None, None, 8)), dice.choice((None, None, "shared"))


def _troubles(dice: random.Random, kinds: list[str], total: bool, start: float, grey: bool) -> list[Trouble]:
    found = [Trouble(start, start + _TROUBLED, "error", 0.7)] if grey else []
    for _ in range(dice.choice((1, 2, 4))):
        begin = dice.uniform(0.0, _TROUBLED * 0.7)
        found.append(_trouble(dice, start + begin, start + min(_TROUBLED, begin + dice.expovariate(1 / 60)), kinds))
    noise = dice.choice((None, "reject", "overloaded", "429"))
    if noise is not None:
        found.append(Trouble(start, start + _TROUBLED, noise, 0.15))
    if dice.random() < 0.2:
        found.append(Trouble(start + 20.0, start + 60.0, "quota"))
    if total:
        found.append(_trouble(dice, start + 100.0, start + 220.0, kinds))
    return found


def _trouble(dice: random.Random, begin: float, end: float, kinds: list[str]) -> Trouble:
    kind = dice.choice(kinds)
    hints = (None, 0.0, 1.0, 20.0) if kind == "quota" else (None, 0.0, 1.0, 20.0, 3600.0)
    return Trouble(
        begin,
        end,
        kind,
        dice.choice((1.0, 1.0, 0.6, 0.3)),
        after=dice.choice((0.0, 0.05, 0.05, 3.0, 40.0)),
        retry_after=dice.choice(hints),
    )


def _load(dice: random.Random, calls: float) -> Load:
    return Load(
        rate=calls * dice.choice((0.5, 1.0, 1.5)),
        streaming=dice.choice((1.0, 1.0, 0.5, 0.0)),
        deadline=dice.choice((5.0, 20.0, 60.0, 60.0, 120.0)),
        conversations=dice.choice((0, 0, 5)),
        unrepeatable=dice.choice((0.0, 0.0, 0.2)),
    )


_REPORT: Final = 500
"""Seeds between two reports."""


WORLDS: Final[dict[str, Callable[[int], Run]]] = {"any": fuzz, "lines": crowded, "busy": overloaded}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run many seeds; say what was found, and go on."""
    parser = argparse.ArgumentParser(prog="python -m tests.proof.fuzz", description=__doc__)
    parser.add_argument("--world", choices=WORLDS, default="any", help="which (default any)")
    parser.add_argument(
        "--seeds", type=int, nargs=2, default=(0, 1000), metavar=("A", "B"), help="from A to B - 1 (default 0 1000)"
    )
    options = parser.parse_args(arguments)
    first, end = options.seeds
    if not 0 <= first < end:
        parser.error(f"--seeds must be two numbers that rise, from 0 on, not {first} {end}")
    began, calls, steps, broken = time.process_time(), 0, 0, 0
    for seed in range(first, end):
        try:
            run = WORLDS[options.world](seed)
        except Violation as violation:
            broken += 1
            print(violation, flush=True)
        except Exception:  # of the core or of the checks: neither must hide the seeds that follow
            broken += 1
            print(f"seed {seed}: {traceback.format_exc()}", flush=True)
        else:
            calls, steps = calls + run.calls, steps + run.steps
        done = seed + 1 - first
        if done % _REPORT == 0 or seed + 1 == end:
            spent = time.process_time() - began
            told = f"{calls:,} calls, {steps:,} steps, {spent:,.0f} s of CPU"
            print(f"{done} seeds: {broken} violations in {told}", flush=True)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
