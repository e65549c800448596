"""What a simulated application asks for answers: the production core, or something to compare it with.

The interface is that of :class:`resilient_llm.decide.call.Call`, so one driver serves all of them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeVar, final

from resilient_llm.decide.attempt import Ask, Attempt
from resilient_llm.decide.call import Call, Wait
from resilient_llm.decide.pool import Pool
from resilient_llm.faults import Fault
from resilient_llm.policy import Policies
from resilient_llm.simulate.allowance import Headroom
from resilient_llm.simulate.providers import Provider


class Question(NamedTuple):
    """What a caller wants: seconds from the start to ``deadline``, tokens of prompt and answer."""

    streaming: bool
    prompt: int
    output: int
    deadline: float
    conversation: str | None = None
    repeatable: bool = True


class Pause(NamedTuple):
    """What a plain application does between two attempts: sleep for so many seconds."""

    seconds: float
    reason: str = "backoff"


class Try(Protocol):
    """One attempt at one provider."""

    quiet_since: float
    """When its stream falls silent."""

    @property
    def target(self) -> Provider: ...

    @property
    def kind(self) -> str: ...

    @property
    def timeout(self) -> float: ...

    @property
    def rescue_after(self) -> float | None: ...

    @property
    def released(self) -> bool: ...


A = TypeVar("A", bound=Try)


class Talk(Protocol[A]):
    """The side of a call that a driver talks to."""

    def next_attempt(self, now: float, /) -> A | Wait | Pause: ...

    def rescue(self, beside: A, now: float, /) -> A | None: ...

    def first_content(self, attempt: A, now: float, /) -> None: ...

    def succeeded(self, attempt: A, now: float, output_tokens: int = 0, /) -> None: ...

    def failed(self, attempt: A, fault: Fault, now: float, /) -> None: ...

    def abandoned(self, attempt: A, now: float, /) -> None: ...

    def overtaken(self, attempt: A, now: float, /) -> bool: ...

    def expired(self, attempt: A, fault: Fault, now: float, silence: float = 0.0, /) -> None: ...

    def paused(self, attempt: A, seconds: float, /) -> None: ...

    def stopped_waiting(self, now: float, /) -> None: ...


class Client(Protocol[A]):
    """One process.  ``resends``: its driver sends an attempt again, over a new connection, if a connection that it
    kept turns out to be closed before a byte of the answer came."""

    resends: bool

    def call(self, question: Question, now: float, /) -> Talk[A]: ...

    def abandon_later(self, attempt: A, /) -> None: ...

    def learn(self, attempt: A, headroom: Headroom, now: float, /) -> None: ...


Layout = Sequence[Sequence[Provider]]
"""Tiers in order of preference."""

Real = Attempt[Provider]
"""An attempt of the production core."""


@final
class Production:
    """A process that uses the production core: a pool and its calls, and nothing between them and the driver."""

    resends: bool = True

    def __init__(
        self,
        layout: Layout,
        policies: Policies | None = None,
        seed: int = 0,
        watch: Callable[[Production, Call[Provider], Question], Talk[Real]] | None = None,
    ) -> None:
        self.routes: dict[str, list[list[Provider]]] = {"main": [list(tier) for tier in layout]}
        self.policies: Policies = policies or Policies()
        self.pool: Pool[Provider] = Pool(self.routes, self.policies, random.Random(seed).random)
        self._watch = watch

    def call(self, question: Question, now: float) -> Talk[Real]:
        """Begin a call."""
        ask = Ask(
            "main",
            now + question.deadline,
            question.streaming,
            question.prompt,
            conversation=question.conversation,
            repeatable=question.repeatable,
        )
        call = Call(self.pool, ask, now)
        return call if self._watch is None else self._watch(self, call, question)

    def abandon_later(self, attempt: Real) -> None:
        """A finaliser ran."""
        self.pool.abandon_later(attempt)

    def learn(self, attempt: Real, headroom: Headroom, now: float) -> None:
        """An answer told what is left of the rate limits."""
        self.pool.learn(attempt, now, headroom.requests, headroom.tokens)
