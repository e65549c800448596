"""A call that writes down how it is decided."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Final

from resilient_llm.decide.attempt import Ask, Attempt
from resilient_llm.decide.call import Call, Wait
from resilient_llm.decide.leases import Past
from resilient_llm.decide.line import Place
from resilient_llm.decide.member import T
from resilient_llm.decide.pool import Pool
from resilient_llm.decide.report import why_not
from resilient_llm.decide.waiting import Refused
from resilient_llm.errors import ResilientError
from resilient_llm.faults import Fault
from resilient_llm.policy import KeyTerms
from resilient_llm.record.document import Considered, DecisionRecord, Draft
from resilient_llm.record.snapshot import member_state
from resilient_llm.record.state import Plain, fields_of, plain

_TARGET: Final = ("id", "model", "weight", "max_concurrency", "context_window")


class RecordingPool(Pool[T]):
    """The same pool, as one recorded call sees it: all state is shared, and what is decided is written down under the
    lock."""

    __slots__ = ("_latest", "_mine", "draft", "draws")

    draft: Draft
    draws: list[float]
    _mine: dict[object, int]
    _latest: dict[str, object]

    @classmethod
    def of(cls, pool: Pool[T], draft: Draft) -> RecordingPool[T]:
        """A view of this pool."""
        view: RecordingPool[T] = object.__new__(cls)
        view.__dict__ = pool.__dict__
        view.draft, view.draws, view._mine, view._latest = draft, [], {}, {}
        return view

    @property
    def draw(self) -> Callable[[], float]:  # type: ignore[override]
        """Random numbers, written down."""
        return self._drawn

    def _drawn(self) -> float:
        number: float = self.__dict__["draw"]()
        self.draws.append(number)
        return number

    def configuration(self, route: str) -> dict[str, Plain]:
        """The policies, the tiers of a route, and the providers beside it."""
        tiers = self._table.routes.get(route, ())
        inside = {member.id for tier in tiers for member in tier}
        return {
            "policies": {part.name: fields_of(getattr(self.policies, part.name)) for part in fields(self.policies)},
            "route": [[_target(member.target) for member in tier] for tier in tiers],
            "others": [_target(one.target) for one in self._table.members.values() if one.id not in inside],
        }

    def began(self, attempt: Attempt[T]) -> None:
        """This attempt is the recorded call's own."""
        self._mine[attempt] = attempt.number

    def _acquired(self, ask: Ask, past: Past, now: float) -> Attempt[T] | Refused:
        self._look(ask, past.place, now)
        before, self._leases.draw = self._leases.draw, self._drawn
        try:
            found = super()._acquired(ask, past, now)
        finally:
            self._leases.draw = before
        if isinstance(found, Refused):
            self.draft.step["refused"] = {name: refusal.name.lower() for name, refusal in found.reasons.items()}
        return found

    def _rescued(self, beside: Attempt[T], past: Past, now: float) -> Attempt[T] | None:
        self._look(beside.ask, past.place, now)
        return super()._rescued(beside, past, now)

    def _look(self, ask: Ask, place: Place | None, at: float) -> None:
        """Write down what the decision that follows looks at."""
        members = list(self._table.members.values())
        step = self.draft.step
        step["considered"] = [
            Considered(member.id, why_not(ask, member, at)).to_dict() for member in self._table.order(ask.route)
        ]
        step["budgets"] = {name: round(left, 3) for name, left in self.budgets.items()}
        state: dict[str, object] = {
            "home": None if ask.conversation is None else self._table.home(ask.conversation, at),
            "leases": fields_of(self._leases),
            "standstill": fields_of(self._verdicts.standstill),
        }
        for member in members:
            state[member.id] = member_state(member, members, self._mine, place)
        # Only what changed since the decision before.
        step["state"] = {
            name: value for name, value in state.items() if name not in self._latest or self._latest[name] != value
        }
        self._latest = state

    def failed(self, attempt: Attempt[T], fault: Fault, now: float) -> bool:
        """The attempt is over and failed."""
        counted = super().failed(attempt, fault, now)
        self.draft.step["counted"] = counted
        return counted

    def overtaken(self, attempt: Attempt[T], fault: Fault, now: float) -> tuple[bool, bool]:
        """Another attempt won."""
        runs_on, late = super().overtaken(attempt, fault, now)
        self.draft.step.update(runs_on=runs_on, late=late)
        return runs_on, late

    def opens_in(self, ask: Ask, now: float) -> float | None:
        """Seconds until somebody is to be tried again."""
        found = super().opens_in(ask, now)
        self.draft.step["opens_in"] = found
        return found


class RecordedCall(Call[T]):
    """One logical request, and its :class:`~resilient_llm.record.DecisionRecord`."""

    def __init__(self, pool: Pool[T], ask: Ask, now: float, call_id: Callable[[int], str]) -> None:
        self._draft = Draft()
        view: RecordingPool[T] = RecordingPool[T].of(pool, self._draft)
        super().__init__(view, ask, now)
        self._view: RecordingPool[T] = view
        self._draft.header = {
            "call": call_id(self.number),
            "number": self.number,
            "started": now,
            "ask": _ask(ask),
            **view.configuration(ask.route),
        }

    @property
    def record(self) -> DecisionRecord:
        """What was decided so far."""
        return self._draft.record()

    def next_attempt(self, now: float) -> Attempt[T] | Wait:
        """As :meth:`Call.next_attempt`, written down."""
        step = self._draft.begin("next_attempt", now, closed=self.pool.closed)
        self._view.draws = []
        try:
            found = super().next_attempt(now)
        except ResilientError as error:
            step["error"] = error_facts(error)
            raise
        finally:
            step["draws"] = self._view.draws
        if isinstance(found, Attempt):
            step["attempt"] = attempt_facts(found)
        else:
            step["wait"] = {"seconds": found.seconds, "reason": found.reason}
        return found

    def rescue(self, beside: Attempt[T], now: float) -> Attempt[T] | None:
        """As :meth:`Call.rescue`, written down."""
        step = self._draft.begin("rescue", now, beside=beside.number)
        found = super().rescue(beside, now)
        if found is not None:
            step["attempt"] = attempt_facts(found)
        else:
            step["again_after"] = beside.rescue_after
        return found

    def stopped_waiting(self, now: float) -> None:
        """As :meth:`Call.stopped_waiting`, written down."""
        self._draft.begin("stopped_waiting", now)
        super().stopped_waiting(now)

    def asking(self, attempt: Attempt[T], now: float) -> None:
        """As :meth:`Call.asking`, written down."""
        self._draft.begin("asking", now, attempt=attempt.number)
        super().asking(attempt, now)

    def asked(self, attempt: Attempt[T], now: float) -> None:
        """As :meth:`Call.asked`, written down."""
        self._draft.begin("asked", now, attempt=attempt.number)
        super().asked(attempt, now)

    def first_content(self, attempt: Attempt[T], now: float) -> None:
        """As :meth:`Call.first_content`, written down."""
        self._draft.begin("first_content", now, attempt=attempt.number)
        super().first_content(attempt, now)

    def succeeded(
        self, attempt: Attempt[T], now: float, output_tokens: int = 0, status: int | None = None, tokens: int = 0
    ) -> None:
        """As :meth:`Call.succeeded`, written down."""
        self._draft.begin("succeeded", now, attempt=attempt.number, output_tokens=output_tokens, status=status)
        super().succeeded(attempt, now, output_tokens, status, tokens)

    def failed(self, attempt: Attempt[T], fault: Fault, now: float) -> None:
        """As :meth:`Call.failed`, written down."""
        self._draft.begin("failed", now, attempt=attempt.number, fault=_fault(fault))
        super().failed(attempt, fault, now)

    def abandoned(self, attempt: Attempt[T], now: float) -> None:
        """As :meth:`Call.abandoned`, written down."""
        self._draft.begin("abandoned", now, attempt=attempt.number)
        super().abandoned(attempt, now)

    def overtaken(self, attempt: Attempt[T], now: float) -> bool:
        """As :meth:`Call.overtaken`, written down."""
        self._draft.begin("overtaken", now, attempt=attempt.number)
        return super().overtaken(attempt, now)

    def expired(self, attempt: Attempt[T], fault: Fault, now: float, silence: float = 0.0) -> None:
        """As :meth:`Call.expired`, written down."""
        self._draft.begin("expired", now, attempt=attempt.number, fault=_fault(fault), silence=silence)
        super().expired(attempt, fault, now, silence)

    def _begun(self, attempt: Attempt[T]) -> Attempt[T]:
        self._view.began(attempt)
        return super()._begun(attempt)


def _ask(ask: Ask) -> dict[str, Plain]:
    fields: dict[str, object] = ask._asdict()
    fields["tenant"] = None if ask.tenant is None else "-"
    fields["conversation"] = None if ask.conversation is None else "-"  # its name may tell something
    mappings: dict[str, Plain] = {"unsuitable": dict(ask.unsuitable), "tolls": dict(ask.tolls)}
    return {**{name: plain(value) for name, value in fields.items() if name not in mappings}, **mappings}


def _target(target: object) -> dict[str, Plain]:
    keys: Sequence[KeyTerms] = getattr(target, "keys", ())
    found: dict[str, Plain] = {name: getattr(target, name, None) for name in _TARGET}
    return {**found, "keys_fixed": [terms.fixed for terms in keys]}


def attempt_facts(attempt: Attempt[T]) -> dict[str, Plain]:
    """What was decided about an attempt."""
    return {
        "number": attempt.number,
        "provider": attempt.member.id,
        "kind": attempt.kind,
        "timeout": attempt.timeout,
        "rescue_after": attempt.rescue_after,
        "delay": attempt.delay,
    }


def error_facts(error: ResilientError) -> dict[str, Plain]:
    """How the call ended, without the provider's words."""
    return {"kind": type(error).__name__, "retry_after": getattr(error, "retry_after", None)}


def _fault(fault: Fault) -> dict[str, Plain]:
    """Without the provider's text, which may quote the request."""
    return {
        "kind": fault.kind.value,
        "scope": fault.scope.value,
        "status": fault.status,
        "code": fault.code,
        "retry_after": fault.retry_after,
        "trust_hint": fault.trust_hint,
    }
