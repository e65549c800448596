"""Books about every attempt of a simulated client: who answered, what it cost, what was wasted.

Tokens are counted as vendors bill them: an answer its prompt and its output; a refusal or an error before any content
nothing; an attempt that was closed or that broke on the way its prompt, and what it had written by then.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, NamedTuple, final

from resilient_llm.decide.call import Wait
from resilient_llm.faults import Fault
from resilient_llm.operate.cost.prices import Price
from resilient_llm.simulate.allowance import Headroom
from resilient_llm.simulate.client import A, Client, Pause, Question, Talk


class Spent(NamedTuple):
    """One attempt that is over: of a call that began at ``call``, at whom, and what is billed for it.  ``answered``:
    the caller got its answer."""

    call: float
    provider: str
    prompt: int
    output: int
    answered: bool

    def cost(self, prices: Mapping[str, Price | None]) -> float:
        """In the currency of the prices; 0 without one."""
        price = prices.get(self.provider)
        return 0.0 if price is None else (self.prompt * price.input + self.output * price.output) / 1e6


@final
class Booked(Generic[A]):
    """A client whose attempts are written down in :attr:`entries`."""

    def __init__(self, client: Client[A]) -> None:
        self._client = client
        self.resends: bool = client.resends
        self.entries: list[Spent] = []

    def call(self, question: Question, now: float) -> Talk[A]:
        """Begin a call."""
        return _Talk(self._client.call(question, now), question, now, self.entries)

    def abandon_later(self, attempt: A) -> None:
        """A finaliser ran."""
        self._client.abandon_later(attempt)

    def learn(self, attempt: A, headroom: Headroom, now: float) -> None:
        """An answer told what is left of the rate limits."""
        self._client.learn(attempt, headroom, now)


@final
class _Talk(Generic[A]):
    """A call that is written down."""

    __slots__ = ("_begun", "_call", "_entries", "_lost", "_question", "_spoke")

    def __init__(self, call: Talk[A], question: Question, now: float, entries: list[Spent]) -> None:
        self._call = call
        self._question = question
        self._begun = now
        self._entries = entries
        self._spoke: dict[int, tuple[A, float]] = {}  # the attempts too, so that no other one gets the same id
        self._lost: dict[int, A] = {}

    def next_attempt(self, now: float) -> A | Wait | Pause:
        return self._call.next_attempt(now)

    def rescue(self, beside: A, now: float) -> A | None:
        return self._call.rescue(beside, now)

    def first_content(self, attempt: A, now: float) -> None:
        self._spoke[id(attempt)] = attempt, now
        self._call.first_content(attempt, now)

    def succeeded(self, attempt: A, now: float, output_tokens: int = 0) -> None:
        self._call.succeeded(attempt, now, output_tokens)
        self._write(attempt, output_tokens, answered=id(attempt) not in self._lost)

    def failed(self, attempt: A, fault: Fault, now: float) -> None:
        self._call.failed(attempt, fault, now)
        if id(attempt) in self._spoke:
            self._write(attempt, self._written(attempt, now))

    def abandoned(self, attempt: A, now: float) -> None:
        self._call.abandoned(attempt, now)
        self._write(attempt, self._written(attempt, now))

    def overtaken(self, attempt: A, now: float) -> bool:
        runs_on = self._call.overtaken(attempt, now)
        if runs_on:
            self._lost[id(attempt)] = attempt
        else:
            self._write(attempt, self._written(attempt, now))
        return runs_on

    def expired(self, attempt: A, fault: Fault, now: float, silence: float = 0.0) -> None:
        self._call.expired(attempt, fault, now, silence)
        self._write(attempt, self._written(attempt, now))

    def paused(self, attempt: A, seconds: float) -> None:
        self._call.paused(attempt, seconds)

    def stopped_waiting(self, now: float) -> None:
        self._call.stopped_waiting(now)

    def _written(self, attempt: A, now: float) -> int:
        """Tokens it had written by now."""
        spoke = self._spoke.get(id(attempt))
        if spoke is None:
            return 0
        return min(self._question.output, int((now - spoke[1]) / max(attempt.target.nature.pace, 1e-6)))

    def _write(self, attempt: A, output: int, *, answered: bool = False) -> None:
        self._entries.append(Spent(self._begun, attempt.target.id, self._question.prompt, output, answered))
