"""What goes wrong: sixteen scenarios, each a script for the preferred provider while the other one is well.

They follow the list of failoverbench (https://github.com/failoverbench/failoverbench); scripts and figures are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Final, Literal

from benchmarks.comparison.contestants import ANSWER
from resilient_llm.testing import (
    Cut,
    Hang,
    InBandError,
    LoopbackLLM,
    Malformed,
    ReceivedRequest,
    Reply,
    Reset,
    Stall,
    Status,
)
from resilient_llm.testing.script import Behaviour

GOOD: Final = Reply(ANSWER, first_token=0.01, interval=0.002)
PATIENCE: Final = 1.5
"""Seconds without a byte after which everybody is configured to give up on a request."""


def _error(code: str, message: str, kind: str = "invalid_request_error") -> dict[str, object]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


@dataclass(frozen=True, slots=True)
class Scenario:
    """``script`` gives the preferred provider's behaviours, one per request and for ever.  ``wanted``: ``"answer"``, or
    ``"error"`` where the request itself is at fault, so that asking somebody else is a matter of taste."""

    key: str
    title: str
    script: Callable[[], Iterator[Behaviour]]
    stream: bool = False
    wanted: Literal["answer", "error"] = "answer"


def _always(behaviour: Behaviour) -> Callable[[], Iterator[Behaviour]]:
    return lambda: repeat(behaviour)


def _first(behaviour: Behaviour, times: int = 1) -> Callable[[], Iterator[Behaviour]]:
    return lambda: chain(repeat(behaviour, times), repeat(GOOD))


def _flap() -> Iterator[Behaviour]:
    while True:
        yield from repeat(Status(503), 3)
        yield from repeat(GOOD, 3)


def _broken(fault: Cut | Stall | Malformed | InBandError | None, *, terminal: bool = True) -> Reply:
    return Reply(ANSWER, first_token=0.01, interval=0.002, fault=fault, terminal=terminal)


_QUOTA = _error(
    "insufficient_quota",
    "You exceeded your current quota, please check your plan and billing details.",
    "insufficient_quota",
)
_LENGTH = _error(
    "context_length_exceeded", "This model's maximum context length is 8192 tokens. Your messages are longer."
)
_FILTER = _error("content_filter", "The response was filtered due to the prompt triggering content management policy.")

SCENARIOS: Final = (
    Scenario("429-once", "429 once, Retry-After 2 s", _first(Status(429, retry_after=2))),
    Scenario("429", "429 to everything, Retry-After 2 s", _always(Status(429, retry_after=2))),
    Scenario("500-once", "500 once", _first(Status(500))),
    Scenario("503", "503 to everything", _always(Status(503))),
    Scenario("reset", "connection reset", _always(Reset())),
    Scenario("hang", "no response at all", _always(Hang())),
    Scenario("slow", "first token after 5 s", _always(Reply(ANSWER, first_token=5, keep_alive=0.5)), stream=True),
    Scenario("cut", "stream cut after 6 words", _always(_broken(Cut(6, how="end"))), stream=True),
    Scenario("stall", "stream silent after 6 words", _always(_broken(Stall(6))), stream=True),
    Scenario("malformed", "undecodable chunk after 6 words", _always(_broken(Malformed(6))), stream=True),
    Scenario("no-end", "stream without [DONE]", _always(_broken(None, terminal=False)), stream=True),
    Scenario("in-band", "error inside a 200, before content", _always(_broken(InBandError(0))), stream=True),
    Scenario("flap", "three times 503, three times well, and again", _flap),
    Scenario("quota", "429 insufficient_quota", _always(Status(429, _QUOTA))),
    Scenario("length", "400 context_length_exceeded", _always(Status(400, _LENGTH)), wanted="error"),
    Scenario("filter", "400 content_filter", _always(Status(400, _FILTER)), wanted="error"),
)


def preferred(scenario: Scenario) -> LoopbackLLM:
    """The provider that has the scenario's trouble."""
    behaviours = scenario.script()

    def respond(request: ReceivedRequest) -> Behaviour:
        return next(behaviours)

    return LoopbackLLM(default=respond)


__all__ = ["ANSWER", "GOOD", "PATIENCE", "SCENARIOS", "Scenario", "preferred"]
