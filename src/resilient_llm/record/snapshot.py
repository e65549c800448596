"""The whole state a pool decides by, taken under its lock, and put into another pool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, TypedDict

from resilient_llm.decide.attempt import Attempt
from resilient_llm.decide.leases import Leases
from resilient_llm.decide.line import Line, Place
from resilient_llm.decide.member import Member, T
from resilient_llm.decide.routes import Table
from resilient_llm.record.state import Plain, fields_of, install

_OWN: Final = frozenset(
    {"id", "target", "policies", "held", "pending", "trial", "line", "account_gate", "_line", "_policies"}
)
_DRIVERS: Final = frozenset({"wake", "owner"})
"""What drivers set on a place in line."""


class Waiting(TypedDict):
    """A place in line; ``own``: it is that of the recorded call."""

    own: bool
    offered: bool
    fields: dict[str, Plain]


class MemberState(TypedDict):
    """One provider.  Attempts are numbers where they belong to the recorded call, and ``None`` where to another one."""

    fields: dict[str, Plain]
    account_gate: str
    held: list[tuple[int | None, int]]
    pending: list[tuple[int, float]]
    """Places among ``held``, and when each began."""
    trial: int | None
    """The place of the trial under way among ``held``; -1: it has ended; ``None``: there is none."""
    offers: int
    waiting: list[Waiting]


def member_state(
    member: Member[T], members: Sequence[Member[T]], mine: Mapping[object, int], place: Place | None
) -> MemberState:
    """What is known about a provider.  ``mine`` are the call's own attempts with their numbers, ``place`` is where it
    waits."""
    trial, line, held = member.trial, member.line, list(member.held)
    owner = next(one for one in members if one.account_gate is member.account_gate)
    return MemberState(
        fields=fields_of(member, without=_OWN),
        account_gate=owner.id,
        held=[(mine.get(attempt), order) for attempt, order in member.held.items()],
        pending=[(held.index(attempt), began) for attempt, began in member.pending.items() if attempt in held],
        trial=None if trial is None else (held.index(trial) if trial in held else -1),
        offers=line.offers,
        waiting=[
            Waiting(
                own=one is place,
                offered=one.offer is line,
                fields=fields_of(one, without=_DRIVERS | {"lines", "offer"}),
            )
            for one in line.waiting
        ],
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
        for name in [name for name in vars(place) if name not in _DRIVERS]:
            delattr(place, name)
    for name, state in states.items():
        member = table.members[name]
        target, policies = member.target, member.policies
        vars(member).clear()
        member.__init__(target, policies, None)  # type: ignore[misc] # the same object: attempts refer to it
        install(member, state["fields"])
        held = [_attempt(mine, number) for number, _ in state["held"]]
        member.held.update(zip(held, (order for _, order in state["held"]), strict=True))
        member.pending.update((held[at], began) for at, began in state["pending"])
        trial = state["trial"]
        member.trial = None if trial is None else (held[trial] if trial >= 0 else object())
        _install_line(member.line, state, strangers, place)
    for name, state in states.items():
        table.members[name].account_gate = table.members[state["account_gate"]].own_gate


def _attempt(mine: Mapping[int, Attempt[T]], number: int | None) -> object:
    return object() if number is None else mine.get(number, object())


def _install_line(line: Line, state: MemberState, strangers: dict[int, Place], place: Place | None) -> None:
    line.offers = state["offers"]
    for waiting in state["waiting"]:
        order = waiting["fields"]["number"]
        assert isinstance(order, int)
        own = place if waiting["own"] else None
        one = own or strangers.setdefault(order, Place(order, 0, 0.0))
        install(one, waiting["fields"])
        one.lines = (*one.lines, line) if line not in one.lines else one.lines
        if waiting["offered"]:
            one.offer = line
        line.waiting.append(one)
