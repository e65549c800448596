"""The record of one call, for people and as JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias, cast

from resilient_llm.errors import ConfigurationError

VERSION: Final = 1
Step: TypeAlias = dict[str, object]
"""One thing that happened to the call: ``do`` names it, ``at`` is monotonic seconds."""
Outcome: TypeAlias = Literal["attempt", "wait", "none", "error"]


@dataclass(frozen=True, slots=True)
class Considered:
    """One provider at one decision.  ``reason`` says why it would not be asked, in the words of ``client.explain()``;
    ``None``: it would."""

    provider: str
    reason: str | None

    def to_dict(self) -> dict[str, object]:
        """As plain data."""
        return {"provider": self.provider, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision.  ``at`` is seconds since the call began.

    ``what`` is ``next`` (whom to ask) or ``rescue`` (whether to ask a second one beside a silent one); ``outcome`` is
    ``attempt``, ``wait``, ``none`` (no rescue) or ``error`` (the call is over), and ``detail`` says which: a provider
    and the kind of attempt, the seconds and the reason of a wait, the error.
    """

    at: float
    what: Literal["next", "rescue"]
    outcome: Outcome
    detail: str
    considered: tuple[Considered, ...]
    budgets: Mapping[str, float]


class Draft:
    """A record that is being written."""

    def __init__(self) -> None:
        self.header: dict[str, object] = {}
        self.steps: list[Step] = []
        self.step: Step = {}
        """The latest."""

    def begin(self, do: str, at: float, **facts: object) -> Step:
        """Another thing happened."""
        self.step = {"do": do, "at": at, **facts}
        self.steps.append(self.step)
        return self.step

    def record(self) -> DecisionRecord:
        """What was written so far."""
        return DecisionRecord({"version": VERSION, **self.header}, tuple(self.steps))


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """How one call was decided.  ``str()`` of it is a timeline.

    ``header`` and ``steps`` are plain data: what :meth:`to_json` writes and :func:`resilient_llm.record.replay` reads.
    """

    header: Mapping[str, object]
    steps: Sequence[Step]

    @property
    def call_id(self) -> str:
        """The call's id, as in logs and spans."""
        return str(self.header["call"])

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """Every choice that was made, in order."""
        return tuple(self._decision(step) for step in self.steps if step["do"] in ("next_attempt", "rescue"))

    def to_json(self) -> str:
        """As JSON text."""
        return json.dumps({**self.header, "steps": list(self.steps)})

    @classmethod
    def from_json(cls, text: str) -> DecisionRecord:
        """Read what :meth:`to_json` wrote.  Raises ``ConfigurationError`` for anything else."""
        try:
            found: object = json.loads(text)
        except ValueError as error:
            raise ConfigurationError(f"a decision record is JSON, which this is not: {error}") from None
        if not isinstance(found, dict) or "steps" not in found:
            raise ConfigurationError("this is no decision record: it has no steps")
        header = cast("dict[str, object]", found)
        if header.get("version") != VERSION:
            raise ConfigurationError(f"a decision record of version {header.get('version')!r}; {VERSION} can be read")
        steps = cast("list[Step]", header.pop("steps"))
        return cls(header, tuple(steps))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it into a file."""
        Path(path).write_text(self.to_json() + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> DecisionRecord:
        """Read it from a file.  Raises ``ConfigurationError`` if it holds something else."""
        return cls.from_json(Path(path).read_text(encoding="utf-8"))

    def __str__(self) -> str:
        lines = [f"call {self.call_id}"]
        for step in self.steps:
            lines += self._lines(step)
        return "\n".join(lines)

    # --- internals ---

    def _at(self, step: Step) -> float:
        return cast(float, step["at"]) - cast(float, self.header["started"])

    def _decision(self, step: Step) -> Decision:
        considered = cast("list[dict[str, str | None]]", step.get("considered", []))
        outcome, detail = _outcome(step)
        return Decision(
            self._at(step),
            "next" if step["do"] == "next_attempt" else "rescue",
            outcome,
            detail,
            tuple(Considered(cast(str, one["provider"]), one["reason"]) for one in considered),
            cast("dict[str, float]", step.get("budgets", {})),
        )

    def _lines(self, step: Step) -> list[str]:
        time = f"{self._at(step):9.3f} s  "
        if step["do"] not in ("next_attempt", "rescue"):
            return [time + _told(step)]
        decision = self._decision(step)
        what = "" if decision.what == "next" else "rescue: "
        lines = [f"{time}{what}{decision.detail}"]
        passed_over = [one for one in decision.considered if one.reason is not None]
        lines += [f"{'':13}not {one.provider}: {one.reason}" for one in passed_over]
        if decision.outcome != "attempt" and decision.budgets:
            left = ", ".join(f"{name} {amount:g}" for name, amount in decision.budgets.items())
            lines.append(f"{'':13}budgets left: {left}")
        return lines


def _outcome(step: Step) -> tuple[Outcome, str]:
    attempt = cast("dict[str, object] | None", step.get("attempt"))
    if attempt is not None:
        return "attempt", f"attempt {attempt['number']} ({attempt['kind']}) at {attempt['provider']}"
    wait = cast("dict[str, object] | None", step.get("wait"))
    if wait is not None:
        return "wait", f"wait at most {wait['seconds']:.3g} s ({wait['reason']})"
    error = cast("dict[str, object] | None", step.get("error"))
    if error is not None:
        later = "" if error["retry_after"] is None else f", try again in {error['retry_after']:.3g} s"
        return "error", f"the call failed: {error['kind']}{later}"
    again = step.get("again_after")
    return "none", "no second attempt now" + ("" if again is None else f", again {again:.3g} s after it began")


_WORDS: Final[Mapping[str, str]] = {
    "first_content": "attempt {attempt}: first content",
    "succeeded": "attempt {attempt}: answered",
    "abandoned": "attempt {attempt}: cancelled",
    "overtaken": "attempt {attempt}: another one answered first",
    "asking": "attempt {attempt}: its key is asked for",
    "asked": "attempt {attempt}: the key is there",
    "stopped_waiting": "the caller stopped waiting",
}


def _told(step: Step) -> str:
    do = str(step["do"])
    if do in _WORDS:
        return _WORDS[do].format_map(step)
    fault = cast("dict[str, object]", step["fault"])
    status = "" if fault["status"] is None else f" {fault['status']}"
    ended = "failed" if do == "failed" else "the deadline ended it"
    hint = "" if fault["retry_after"] is None else f", retry after {fault['retry_after']} s"
    return f"attempt {step['attempt']}: {ended}: {fault['kind']}{status}{hint}"
