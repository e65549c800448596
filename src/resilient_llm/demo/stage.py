"""The three providers: real HTTP servers on this machine, and what can be done to them."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from types import TracebackType
from typing import Final, Self

from resilient_llm.demo.pace import Pace
from resilient_llm.providers import OpenAICompatible
from resilient_llm.testing import Cut, LoopbackLLM, ReceivedRequest, Reply
from resilient_llm.testing.loopback import Responder
from resilient_llm.testing.script import Behaviour

TIERS: Final = (("alpha", "beta"), ("gamma",))
"""Alpha and beta are equals that share the traffic, gamma is the reserve."""

NAMES: Final = tuple(name for tier in TIERS for name in tier)

ANSWER: Final = "Sunlight meets air, and the air scatters blue far more than red, so blue is what reaches us."
"""What every provider says, so that a word too few or too many shows."""

CUT_AFTER: Final = 6  # words
_SPREAD: Final = tuple(math.exp(step / 10) for step in range(-6, 7))
"""How much quicker or slower than usual an answer may be."""


class Stage:
    """The servers.  A context manager: they run inside it."""

    def __init__(self, pace: Pace, seed: int) -> None:
        self.pace = pace
        self.seed = seed
        self.servers: dict[str, LoopbackLLM] = {
            name: LoopbackLLM(default=self.good(name), record=False) for name in NAMES
        }
        self.cuts = 0
        """How many streams were cut after their first words."""
        self._running = ExitStack()

    def providers(self) -> list[list[OpenAICompatible]]:
        """The providers as a client takes them."""
        return [[self._provider(name) for name in tier] for tier in TIERS]

    def _provider(self, name: str) -> OpenAICompatible:
        return OpenAICompatible("demo-model", id=name, base_url=f"{self.servers[name].url}/v1", api_key="demo")

    def good(self, name: str, first_token: float | None = None, fault: Cut | None = None) -> Responder:
        """Answers at this provider's usual speed, or with another time to the first word; no two equally quick."""
        usual = self.pace.first_token[name] if first_token is None else first_token
        replies = tuple(
            Reply(ANSWER, first_token=usual * share, interval=self.pace.interval * share, fault=fault)
            for share in _SPREAD
        )
        draw = random.Random(f"{self.seed} {name}")
        return lambda request: draw.choice(replies)

    # --- what can be done to them ---

    def answer(self, name: str, behaviour: Behaviour | Responder) -> None:
        """From now on, do this with every request."""
        self.servers[name].default = behaviour

    def refuse(self, name: str) -> None:
        """Refuse connections; answers under way are finished."""
        self.servers[name].refuse()

    def cut(self, name: str, after: int, turns: Iterator[bool]) -> None:
        """Cut streams after so many words, namely those whose turn is true."""
        good, broken = self.good(name), self.good(name, fault=Cut(after))

        def respond(request: ReceivedRequest) -> Behaviour:
            if not (request.stream and next(turns)):
                return good(request)
            self.cuts += after > 0
            return broken(request)

        self.answer(name, respond)

    def cut_thirds(self, after: int) -> None:
        """Those who share the traffic cut every third stream, beginning with the first."""
        for name in TIERS[0]:
            self.cut(name, after, (number % 3 == 0 for number in count()))

    def repair(self) -> None:
        """Everybody is well again."""
        for name, server in self.servers.items():
            self.answer(name, self.good(name))
            server.accept()

    # --- life ---

    def __enter__(self) -> Self:
        for server in self.servers.values():
            self._running.enter_context(server)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.__exit__(kind, error, trace)


Deed = Callable[[Stage], None]
