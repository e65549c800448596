"""A world in which most calls stand in line: more of them than the limits allow, by several tenants and a batch."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from resilient_llm.decide.call import Call
from resilient_llm.policy import KeyTerms, Limits, Policies, Rate
from resilient_llm.simulate.allowance import DIALECTS, Allowance
from resilient_llm.simulate.client import Production, Question
from resilient_llm.simulate.providers import Nature, Provider, Trouble
from resilient_llm.simulate.world import Load
from tests.proof.invariants import Checker
from tests.proof.watched import Watched

TROUBLED: Final = 40.0
"""Seconds of callers, trouble and adversary..."""
QUIET: Final = 60.0
"""...and of callers alone."""
_KINDS: Final = ("429", "error", "hang", "overloaded", "refuse", "slow")


def layout(seed: int) -> tuple[list[list[Provider]], Load, Policies]:
    """Who can be asked, by whom, and how a process goes about it."""
    dice = random.Random(f"lines {seed}")
    providers = [_provider(name, dice) for name in "abc"[: dice.choice((1, 1, 2, 3))]]
    tiers = [providers] if dice.random() < 0.5 else [[provider] for provider in providers]
    load = Load(
        rate=dice.choice((1.0, 2.0, 4.0)),
        even=dice.random() < 0.2,
        streaming=dice.choice((1.0, 0.5, 0.0)),
        prompt=500,
        prompt_sigma=dice.choice((0.3, 1.2)),
        output=60,
        deadline=dice.choice((2.0, 8.0, 30.0, 120.0)),
        conversations=dice.choice((0, 0, 5)),
        unrepeatable=dice.choice((0.0, 0.2)),
    )
    limits = Limits(max_queue=dice.choice((5, 1000)), reserve=dice.choice((0.0, 0.1, 0.1, 0.3)))
    return tiers, load, Policies(limits=limits)


def watch(checker: Checker, seed: int) -> Callable[[Production, Call[Provider], Question], Watched]:
    """Wraps each call: a batch or not, by one of several tenants; one in ten rules out a provider."""
    dice = random.Random(f"classes {seed}")
    share, tenants = dice.choice((0.0, 0.3, 0.8)), dice.choice(((None,), (None, "x"), ("x", "y", "z")))

    def watched(client: Production, call: Call[Provider], question: Question) -> Watched:
        ask = call.ask._replace(batch=dice.random() < share, tenant=dice.choice(tenants))
        targets = client.pool.targets()
        if len(targets) > 1 and dice.random() < 0.1:
            ask = ask._replace(unsuitable={dice.choice(targets).id: "ruled out"})
        call.ask = ask
        return Watched(checker, call)

    return watched


def _provider(name: str, dice: random.Random) -> Provider:
    nature = Nature(first_token=0.3, sigma=dice.choice((0.3, 0.9)), pace=0.01, allowance=_allowance(dice))
    provider = Provider(name, nature, _troubles(dice), max_concurrency=dice.choice((None, None, 1, 3)))
    rates = _rates(dice)
    count = dice.choice((1, 1, 2, 3))
    provider.keys = tuple(KeyTerms(account=f"{name} {key}", rates=rates) for key in range(count))
    return provider


def _rates(dice: random.Random) -> tuple[Rate, ...]:
    """What is declared: nothing, requests, tokens, or both."""
    requests = dice.choice(((), (1.0, 1.0), (2.0, 2.0), (10.0, 10.0), (6.0, 60.0)))
    tokens = dice.choice(((), (), (1000.0, 1.0), (6000.0, 10.0)))
    found = [Rate(amount=requests[0], per=requests[1], unit="requests")] if requests else []
    return (*found, Rate(amount=tokens[0], per=tokens[1], unit="tokens")) if tokens else tuple(found)


def _allowance(dice: random.Random) -> Allowance | None:
    """What the provider allows in fact."""
    if dice.random() < 0.3:
        return None
    return Allowance(
        requests=dice.choice((30.0, 60.0, 120.0)),
        tokens=dice.choice((None, None, 60_000.0)),
        burst=dice.choice((1.0, 10.0, 60.0)),
        dialect=dice.choice(DIALECTS),
        tells=dice.random() < 0.5,
        hints=dice.random() < 0.7,
    )


def _troubles(dice: random.Random) -> list[Trouble]:
    found: list[Trouble] = []
    for _ in range(dice.choice((0, 0, 1, 2))):
        begin = dice.uniform(0.0, TROUBLED * 0.7)
        end = min(TROUBLED, begin + dice.expovariate(0.1))
        hint = dice.choice((None, 0.0, 1.0, 10.0))
        found.append(Trouble(begin, end, dice.choice(_KINDS), dice.choice((1.0, 0.3)), retry_after=hint))
    return found
