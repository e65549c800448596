"""Asks providers at four levels, each with its own time: reachable, answering, answering correctly, fast enough.

The first two cost nothing.  The third is a real, tiny completion, and what it took is the fourth.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from resilient_llm.client import ResilientClient
from resilient_llm.drive.core import AnyProvider
from resilient_llm.errors import CallFailed, FaultKind, ResilientError
from resilient_llm.operate.check.reach import ask, connect
from resilient_llm.providers.base import HttpProvider

LEVELS: Final = ("reachable", "answering", "correct", "fast")
CONNECT_TIME, HTTP_TIME, ANSWER_TIME, FAST_TIME = 3.0, 5.0, 30.0, 10.0
"""Seconds that a connection, an HTTP answer and a completion may take, and that its first content should take."""

Status: TypeAlias = Literal[
    "ok", "slow", "wrong answer", "limited", "out of quota", "key refused", "no key", "misconfigured", "down"
]
_STATUS: Final[dict[FaultKind, Status]] = {
    FaultKind.AUTH: "key refused",
    FaultKind.PERMISSION: "key refused",
    FaultKind.RATE_LIMITED: "limited",
    FaultKind.QUOTA_EXHAUSTED: "out of quota",
    FaultKind.NOT_FOUND_MODEL: "misconfigured",
    FaultKind.MISCONFIGURED: "misconfigured",
    FaultKind.BAD_REQUEST: "misconfigured",
    FaultKind.UNSUPPORTED: "misconfigured",
    FaultKind.INVALID_RESPONSE: "wrong answer",
}
"""What a failed completion means; any other kind: down."""

_WORD: Final = "ready"
_PROMPT: Final = f"Reply with the single word {_WORD} and nothing else."
_MAX_TOKENS: Final = 256  # a model that thinks first needs some


@dataclass(frozen=True, slots=True)
class Step:
    """One level.  ``ok`` ``None``: it was not tried; ``seconds`` it took."""

    level: str
    ok: bool | None
    detail: str
    seconds: float = 0.0


@dataclass(slots=True)
class Probe:
    """What became of asking one provider.

    ``status`` is ``ok``; ``slow`` (correct, but late); ``wrong answer``; ``limited`` (429: it is there and the key is
    right, nothing else is known); ``out of quota``; ``key refused`` (401, 403); ``no key`` (its secret could not be
    fetched); ``misconfigured`` (no such model, wrong URL); or ``down``.
    """

    provider: str
    status: Status = "down"
    steps: list[Step] = field(default_factory=list[Step])
    retry_after: float | None = None
    """Seconds after which it asked to be asked again; ``None``: it did not say."""

    @property
    def fine(self) -> bool:
        """Whether nobody needs to act: it answers correctly in time, or is merely at its rate limit."""
        return self.status in ("ok", "limited")


def probe(
    providers: Iterable[AnyProvider], *, within: float = FAST_TIME, patience: float = ANSWER_TIME, engine: str = "httpx"
) -> list[Probe]:
    """Ask each provider, all at the same time; returns what was found in their order.

    ``within``: seconds in which the first content is to come; ``patience``: seconds a completion may take.  It costs
    a completion of a few tokens each.  Raises nothing: what fails is in the results.
    """
    found: list[Probe] = []
    threads: list[threading.Thread] = []
    for provider in providers:
        one = Probe(provider.id)
        found.append(one)
        work = _Work(one, provider, within, patience, engine)
        threads.append(threading.Thread(target=work.run, name="resilient_llm-probe", daemon=True))
        threads[-1].start()
    ends = time.monotonic() + CONNECT_TIME + HTTP_TIME + patience + 5.0
    for thread in threads:  # code of the user's may never return
        thread.join(max(ends - time.monotonic(), 0.0))
    return found


class _Work:
    def __init__(self, found: Probe, provider: AnyProvider, within: float, patience: float, engine: str) -> None:
        self._found = found
        self._provider = provider
        self._within = within
        self._patience = patience
        self._engine = engine

    def run(self) -> None:
        provider = self._provider
        if isinstance(provider, HttpProvider):
            for level, look, seconds in ((LEVELS[0], connect, CONNECT_TIME), (LEVELS[1], ask, HTTP_TIME)):
                began = time.perf_counter()
                ok, detail = look(provider, seconds)
                self._found.steps.append(Step(level, ok, detail, time.perf_counter() - began))
                if ok is False:
                    return
        else:
            self._found.steps += [Step(level, None, "it is code of yours") for level in LEVELS[:2]]
        self._complete()

    def _complete(self) -> None:
        began = time.perf_counter()
        try:
            first = self._answer(began)
        except CallFailed as error:
            self._failed(error, time.perf_counter() - began)
        except ResilientError as error:
            self._conclude("misconfigured", Step("correct", False, str(error), time.perf_counter() - began))
        else:
            if first is not None:
                late = first > self._within
                told = f"first content after {first:.2f} s, {'more than' if late else 'within'} {self._within:g} s"
                self._conclude("slow" if late else "ok", Step("fast", not late, told, first))

    def _answer(self, began: float) -> float | None:
        """Seconds to the first content of a correct answer; ``None``: it is not what was asked for."""
        client = ResilientClient(
            [self._provider],
            engine=self._engine,
            name="check",
            retry={"max_attempts": 1, "max_wait": 0.0, "max_down_wait": 0.0},
            hedge={"enabled": False},
        )
        with client:
            if "embed" in getattr(self._provider, "model", ""):
                vectors = client.embed(_WORD, deadline=self._patience).vectors
                took = time.perf_counter() - began
                return self._judged(bool(vectors and vectors[0]), f"a vector of {len(vectors[0])} numbers", took, took)
            first, text = 0.0, ""
            with client.stream(_PROMPT, max_tokens=_MAX_TOKENS, deadline=self._patience) as stream:
                for piece in stream.text_deltas():
                    first = first or time.perf_counter() - began
                    text += piece
        return self._judged(_WORD in text.lower(), _answered(text), first, time.perf_counter() - began)

    def _judged(self, right: bool, told: str, first: float, took: float) -> float | None:
        step = Step("correct", right, told, took)
        if right:
            self._found.steps.append(step)
            return first
        self._conclude("wrong answer", step)
        return None

    def _failed(self, error: CallFailed, took: float) -> None:
        fault = error.fault
        kind = None if fault is None else fault.kind
        status: Status = "down" if kind is None else _STATUS.get(kind, "down")
        if fault is not None and fault.code == "not_sent" and kind is FaultKind.AUTH:
            status = "no key"
        detail = str(error) if fault is None or not fault.message else fault.message
        number = f"HTTP {error.status_code}: " if error.status_code is not None else ""
        self._found.retry_after = error.retry_after
        self._conclude(status, Step("correct", None if status == "limited" else False, f"{number}{detail}", took))

    def _conclude(self, status: Status, step: Step) -> None:
        self._found.status = status
        self._found.steps.append(step)


def _answered(text: str) -> str:
    return f"answered {text[:40]!r}" + ("" if _WORD in text.lower() else f", not {_WORD!r}")
