"""The whole state a pool decides by, taken under its lock, and put into another pool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, TypedDict, TypeVar

from resilient_llm.decide.ask import Ask
from resilient_llm.decide.attempt import Attempt
from resilient_llm.decide.gate import SlowGate
from resilient_llm.decide.granted import Granted
from resilient_llm.decide.keys import Key
from resilient_llm.decide.leases import Leases
from resilient_llm.decide.line import Line, Place
from resilient_llm.decide.member import Member, T
from resilient_llm.decide.meters import Declared, Learnt, Meter, Ramp, Reported
from resilient_llm.decide.pace import Pace
from resilient_llm.decide.routes import Table
from resilient_llm.policy import Rate
from resilient_llm.record.state import Plain, fields_of, install

_OWN: Final = frozenset(
    {"id", "target", "policies", "held", "pending", "trial", "line", "keys", "slowness", "_line", "_policies"}
)
"""What is recorded in another way, or elsewhere."""
_METERS: Final = frozenset({"declared", "reported", "learnt", "ramp", "_stated", "_meters", "_bucket"})
_ASK: Final = ("deadline", "tokens", "max_tokens", "batch")
M = TypeVar("M", bound=Meter)
_OF_LINE: Final = frozenset({"provider", "waiting", "offers", "_large", "_batches"})
_DRIVERS: Final = frozenset({"wake", "owner"})
"""What drivers set on a place in line."""


class Waiting(TypedDict):
    """A place in line; ``own``: it is that of the recorded call."""

    own: bool
    offered: bool
    ask: dict[str, Plain]
    fields: dict[str, Plain]


class KeyState(TypedDict):
    """One key of a provider.  ``slow``: the provider and the key whose slow gate this one shares, or itself."""

    gate: dict[str, Plain]
    slow: tuple[str, int]
    slow_gate: dict[str, Plain]
    pace: dict[str, Plain]
    declared: list[tuple[dict[str, Plain], bool]]
    reported: list[dict[str, Plain] | None]
    learnt: dict[str, Plain] | None
    ramp: dict[str, Plain] | None


class MemberState(TypedDict):
    """One provider.  Attempts are numbers where they belong to the recorded call, and ``None`` where to another one."""

    fields: dict[str, Plain]
    keys: list[KeyState]
    held: list[tuple[int | None, int]]
    pending: list[tuple[int, float]]
    """Places among ``held``, and when each began."""
    trial: int | None
    """The place of the trial under way among ``held``; -1: it has ended; ``None``: there is none."""
    offers: int
    waiting: list[Waiting]
    line: dict[str, Plain]
    large: int | None
    """The place among ``waiting`` of the first in line that is too large for now; ``None``: there is none."""


def member_state(
    member: Member[T], members: Sequence[Member[T]], mine: Mapping[object, int], place: Place | None
) -> MemberState:
    """What is known about a provider.  ``mine`` are the call's own attempts with their numbers, ``place`` is where it
    waits."""
    trial, line, held = member.trial, member.line, list(member.held)
    return MemberState(
        fields=fields_of(member, without=_OWN),
        keys=[_key_state(key, members) for key in member.keys],
        held=[(mine.get(attempt), order) for attempt, order in member.held.items()],
        pending=[(held.index(attempt), began) for attempt, began in member.pending.items() if attempt in held],
        trial=None if trial is None else (held.index(trial) if trial in held else -1),
        offers=line.offers,
        line=fields_of(line, without=_OF_LINE),
        large=next((at for at, one in enumerate(line.waiting) if one is vars(line)["_large"]), None),
        waiting=[
            Waiting(
                own=one is place,
                offered=one.offer is line,
                ask={name: getattr(one.ask, name) for name in _ASK} | {"tenant": _tenant(one, place, line)},
                fields=fields_of(one, without=_DRIVERS | {"lines", "offer", "ask"}),
            )
            for one in line.waiting
        ],
    )


def _tenant(one: Place, own: Place | None, line: Line) -> str | None:
    """Tells tenants apart without their names, which may tell something."""
    tenant = one.ask.tenant
    if tenant is None or (own is not None and own.ask.tenant == tenant):
        return None if tenant is None else "-"
    return str(next(at for at, other in enumerate(line.waiting) if other.ask.tenant == tenant))


def _key_state(key: Key, members: Sequence[Member[T]]) -> KeyState:
    pace = key.pace
    owner = next((one.id, its.number) for one in members for its in one.keys if its.slow is key.slow)
    return KeyState(
        gate=fields_of(key.gate),
        slow=owner,
        slow_gate=fields_of(key.slow),
        pace=fields_of(pace, without=_METERS),
        declared=[(fields_of(meter), tokens) for meter, tokens in pace.declared],
        reported=[None if meter is None else fields_of(meter) for meter in pace.reported],
        learnt=None if pace.learnt is None else fields_of(pace.learnt),
        ramp=None if pace.ramp is None else fields_of(pace.ramp),
    )


def budgets_state(leases: Leases[T]) -> dict[str, Plain]:
    """What is left of the budgets."""
    return fields_of(leases)


def install_members(
    table: Table[T], states: Mapping[str, MemberState], mine: Mapping[int, Attempt[T]], place: Place | None
) -> None:
    """Make the providers of a pool what they were."""
    strangers: dict[int, Place] = {}
    if place is not None:
        for name in [name for name in vars(place) if name not in _DRIVERS | {"ask"}]:
            delattr(place, name)
    for name, state in states.items():
        member = table.members[name]
        target, policies = member.target, member.policies
        vars(member).clear()
        accounts = [SlowGate(policies.advanced.slow_gate_cap) for _ in target.keys]
        member.__init__(target, policies, accounts)  # type: ignore[misc] # the same object: attempts refer to it
        install(member, state["fields"])
        for key, its in zip(member.keys, state["keys"], strict=True):
            install(key.gate, its["gate"])
            install(key.slow, its["slow_gate"])
            _install_pace(key.pace, its)
        held = [_attempt(mine, number) for number, _ in state["held"]]
        member.held.update(zip(held, (order for _, order in state["held"]), strict=True))
        member.pending.update((held[at], began) for at, began in state["pending"])
        trial = state["trial"]
        member.trial = None if trial is None else (held[trial] if trial >= 0 else object())
        _install_line(member.line, state, strangers, place)
    for name, state in states.items():
        for key, its in zip(table.members[name].keys, state["keys"], strict=True):
            owner, number = its["slow"]
            key.slow = table.members[owner].keys[number].slow


def _install_pace(pace: Pace, state: KeyState) -> None:
    install(pace, state["pace"])
    pace.declared = [(_declared(fields), tokens) for fields, tokens in state["declared"]]
    pace.reported = [None if one is None else _meter(Reported(1.0, 1.0), one) for one in state["reported"]]
    pace.learnt = None if state["learnt"] is None else _meter(Learnt(1.0, 1.0, 0.0), state["learnt"])
    pace.ramp = None if state["ramp"] is None else _meter(Ramp(0.0), state["ramp"])
    pace.arrange()


def _declared(fields: Mapping[str, Plain]) -> Declared:
    granted = "credit" in fields
    return _meter(Granted(Rate(amount=1.0, per=1.0, unit="requests")) if granted else Declared(1.0, 1.0), fields)


def _meter(made: M, fields: Mapping[str, Plain]) -> M:
    install(made, fields)
    return made


def _attempt(mine: Mapping[int, Attempt[T]], number: int | None) -> object:
    return object() if number is None else mine.get(number, object())


def _install_line(line: Line, state: MemberState, strangers: dict[int, Place], place: Place | None) -> None:
    line.offers = state["offers"]
    for waiting in state["waiting"]:
        order = waiting["fields"]["number"]
        assert isinstance(order, int)
        own = place if waiting["own"] else None
        one = own or strangers.setdefault(order, Place(order, Ask("", **waiting["ask"])))  # type: ignore[arg-type]
        install(one, waiting["fields"])
        one.lines = (*one.lines, line) if line not in one.lines else one.lines
        if waiting["offered"]:
            one.offer = line
        line.join(one)
    install(line, state["line"])
    vars(line)["_large"] = None if state["large"] is None else line.waiting[state["large"]]
