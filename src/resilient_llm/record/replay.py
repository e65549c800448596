"""Decide a recorded call again, from what its decisions looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from typing import cast

from resilient_llm.decide.attempt import Ask, Attempt
from resilient_llm.decide.call import Call
from resilient_llm.decide.leases import Past
from resilient_llm.decide.pool import Pool
from resilient_llm.decide.waiting import Refused
from resilient_llm.errors import ResilientError
from resilient_llm.faults import Fault, FaultKind, FaultScope
from resilient_llm.policy import KeyTerms, Policies
from resilient_llm.record.document import Decision, DecisionRecord, Draft, Step
from resilient_llm.record.recorder import attempt_facts, error_facts
from resilient_llm.record.snapshot import MemberState, install_members
from resilient_llm.record.state import Plain, install, value_of


@dataclass(frozen=True)
class _Target:
    id: str
    model: str
    weight: float
    max_concurrency: int | None
    context_window: int | None
    cache_seconds: float | None = None
    keys_fixed: tuple[bool, ...] = (True,)

    @property
    def keys(self) -> tuple[KeyTerms, ...]:
        """Its keys; what is known of them is restored from the record."""
        return tuple(KeyTerms(fixed=fixed) for fixed in self.keys_fixed)


def replay(record: DecisionRecord) -> tuple[Decision, ...]:
    """Every decision of the call, made once more by the code as it is now.

    Equal to ``record.decisions`` where the rules have not changed since.  Sends nothing and looks at no clock.
    """
    draft = Draft()
    draft.header = dict(record.header)
    pool = _ReplayedPool(record.header)
    call: Call[_Target] = Call(pool, _ask(record.header), cast(float, record.header["started"]))
    attempts: dict[int, Attempt[_Target]] = {}
    for recorded in record.steps:
        pool.recorded, pool.mine = recorded, attempts
        pool.closed = bool(recorded.get("closed"))
        step = draft.begin(str(recorded["do"]), cast(float, recorded["at"]))
        for name in ("considered", "budgets"):
            if name in recorded:
                step[name] = recorded[name]
        found = _again(call, recorded, step, attempts)
        if found is not None:
            attempts[found.number] = found
    return draft.record().decisions


def _again(
    call: Call[_Target], recorded: Step, step: Step, attempts: Mapping[int, Attempt[_Target]]
) -> Attempt[_Target] | None:
    """One step of the call."""
    now, do = cast(float, recorded["at"]), recorded["do"]
    if do == "next_attempt":
        return _next(call, recorded, step, now)
    if do == "rescue":
        beside = attempts[cast(int, recorded["beside"])]
        found = call.rescue(beside, now)
        if found is None:
            step["again_after"] = beside.rescue_after
        else:
            step["attempt"] = attempt_facts(found)
        return found
    _tell(call, recorded, attempts, now)
    return None


def _next(call: Call[_Target], recorded: Step, step: Step, now: float) -> Attempt[_Target] | None:
    try:
        found = call.next_attempt(now)
    except ResilientError as error:
        step["error"] = error_facts(error)
        return None
    if isinstance(found, Attempt):
        step["attempt"] = attempt_facts(found)
        return found
    step["wait"] = {"seconds": found.seconds, "reason": found.reason}
    return None


def _tell(call: Call[_Target], recorded: Step, attempts: Mapping[int, Attempt[_Target]], now: float) -> None:
    do = recorded["do"]
    if do == "stopped_waiting":
        call.stopped_waiting(now)
        return
    attempt = attempts[cast(int, recorded["attempt"])]
    if do == "succeeded":
        call.succeeded(attempt, now, cast(int, recorded["output_tokens"]), cast("int | None", recorded["status"]))
    elif do == "failed":
        call.failed(attempt, _fault(recorded), now)
    elif do == "expired":
        call.expired(attempt, _fault(recorded), now, cast(float, recorded["silence"]))
    elif do == "asked":
        try:
            call.asked(attempt, now)
        except TimeoutError:
            return
    else:
        getattr(call, str(do))(attempt, now)


class _ReplayedPool(Pool[_Target]):
    """A pool that is, before each decision, what the recorded one was."""

    def __init__(self, header: Mapping[str, object]) -> None:
        tiers = cast("list[list[dict[str, Plain]]]", header["route"])
        route = str(cast("dict[str, object]", header["ask"])["route"])
        targets = [[_Target(**cast("dict[str, str]", one)) for one in tier] for tier in tiers]  # type: ignore[arg-type]
        others = [_Target(**cast("dict[str, str]", one)) for one in cast("list[dict[str, Plain]]", header["others"])]  # type: ignore[arg-type]
        routes = {route: targets, **({"others of the pool": [others]} if others else {})}
        policies = cast("dict[str, dict[str, Plain]]", header["policies"])
        super().__init__(routes, Policies(**{name: _floats(fields) for name, fields in policies.items()}), self._drawn)  # type: ignore[arg-type]
        self.numbers = count(cast(int, header["number"]))
        self.recorded: Step = {}
        self.mine: Mapping[int, Attempt[_Target]] = {}
        self._state: dict[str, Plain] = {}

    def _drawn(self) -> float:
        draws = cast("list[float]", self.recorded.get("draws", []))
        self._used += 1
        return draws[self._used - 1] if self._used <= len(draws) else 0.5

    _used: int = 0

    def acquire(self, ask: Ask, past: Past, now: float) -> Attempt[_Target] | Refused:
        """Choose again."""
        self._restore(past)
        return super().acquire(ask, past, now)

    def rescue(self, beside: Attempt[_Target], past: Past | None, now: float) -> Attempt[_Target] | None:
        """Choose again."""
        if past is not None:
            self._restore(past)
        return super().rescue(beside, past, now)

    def failed(self, attempt: Attempt[_Target], fault: Fault, now: float) -> bool:
        """As it was judged then."""
        super().failed(attempt, fault, now)
        return bool(self.recorded.get("counted", True))

    def overtaken(self, attempt: Attempt[_Target], fault: Fault, now: float) -> tuple[bool, bool]:
        """As it was judged then."""
        super().overtaken(attempt, fault, now)
        return bool(self.recorded.get("runs_on")), bool(self.recorded.get("late"))

    def opens_in(self, ask: Ask, now: float) -> float | None:
        """As it was then."""
        return cast("float | None", self.recorded.get("opens_in"))

    def _restore(self, past: Past) -> None:
        """Be what the recorded pool was."""
        self._used = 0
        self._state.update(cast("dict[str, Plain]", self.recorded.get("state", {})))
        state = dict(self._state)
        home = state.pop("home")
        self._table.conversations.clear()
        if isinstance(home, str):
            self._table.remember(_CONVERSATION, home)
        install(self._leases, cast("dict[str, Plain]", state.pop("leases")))
        install(self._verdicts.standstill, cast("dict[str, Plain]", state.pop("standstill")))
        install_members(self._table, cast("dict[str, MemberState]", state), self.mine, past.place)


_CONVERSATION = "-"


def _floats(fields: Mapping[str, Plain]) -> dict[str, object]:
    return {name: value_of(value) for name, value in fields.items()}


def _ask(header: Mapping[str, object]) -> Ask:
    return Ask(**_floats(cast("dict[str, Plain]", header["ask"])))  # type: ignore[arg-type]


def _fault(step: Step) -> Fault:
    fields = cast("dict[str, object]", step["fault"])
    return Fault(
        FaultKind(str(fields["kind"])),
        cast("float | None", fields["retry_after"]),
        FaultScope(str(fields["scope"])),
        cast("int | None", fields["status"]),
        cast("str | None", fields["code"]),
        trust_hint=bool(fields["trust_hint"]),
    )
