"""The routing table: which providers a call may be sent to, in which order."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Generic, TypeAlias

from resilient_llm.decide.gate import SlowGate
from resilient_llm.decide.member import Member, T
from resilient_llm.errors import ConfigurationError
from resilient_llm.policy import Policies

Routes: TypeAlias = Mapping[str, Sequence[Sequence[T]]]
"""Route name -> tiers in order of preference -> providers of equal preference.  The first route is the default."""

_MAX_CONVERSATIONS = 4096
Tiers: TypeAlias = tuple[tuple[Member[T], ...], ...]


class Table(Generic[T]):
    """Routes, and the state of every provider in them, each once.  Not locked: the pool's lock is held by whoever
    calls."""

    def __init__(self, policies: Policies) -> None:
        self.policies: Policies = policies
        self.members: dict[str, Member[T]] = {}
        self.routes: dict[str, Tiers[T]] = {}
        self.first: dict[str, Member[T]] = {}
        """The preferred provider of each route that has only one."""
        self.lone: frozenset[str] = frozenset()
        """The routes of one provider."""
        self._order: dict[str, tuple[Member[T], ...]] = {}
        self.targets: dict[str, tuple[T, ...]] = {}
        """The providers of each route, in order of preference."""
        self.conversations: OrderedDict[str, tuple[str, float]] = OrderedDict()
        """Where each conversation was answered last, and until when that is a reason to go on there."""
        self._accounts: dict[str | tuple[str, int], SlowGate] = {}

    def install(self, routes: Routes[T]) -> list[Member[T]]:
        """Use these routes from now on.  State is kept for every id that stays; returns the members that are gone.

        Raises ``ConfigurationError`` and changes nothing if the routes are unusable.
        """
        if not routes:
            raise ConfigurationError("at least one route with at least one provider is needed, not an empty mapping")
        members: dict[str, Member[T]] = {}
        chosen: dict[str, T] = {}
        table = {name: self._tiers(name, tiers, members, chosen) for name, tiers in routes.items()}
        for provider, target in chosen.items():
            members[provider].retarget(target, self._accounts_of(target))
        gone = [member for provider, member in self.members.items() if provider not in members]
        self.routes, self.members = table, members
        self.first = {name: tiers[0][0] for name, tiers in table.items() if len(tiers[0]) == 1}
        self._order = {name: tuple(member for tier in tiers for member in tier) for name, tiers in table.items()}
        self.targets = {name: tuple(member.target for member in members) for name, members in self._order.items()}
        self.lone = frozenset(name for name, members in self._order.items() if len(members) == 1)
        return gone

    def govern(self, policies: Policies) -> None:
        """Go by these policies from now on."""
        self.policies = policies
        for member in self.members.values():
            member.govern(policies)

    def order(self, route: str) -> tuple[Member[T], ...]:
        """The providers of a route in order of preference.  A route may be gone by the time a call wants to go on: then
        nobody is left to ask."""
        return self._order.get(route, ())

    def home(self, conversation: str, now: float) -> str | None:
        """Where a conversation is kept; ``None``: it may go on anywhere."""
        provider, until = self.conversations.get(conversation, (None, math.inf))
        return provider if now < until else None

    def remember(self, conversation: str, provider: str, until: float = math.inf) -> None:
        """Keep a conversation where it was answered, as long as its prompt is cached there."""
        self.conversations[conversation] = (provider, until)
        self.conversations.move_to_end(conversation)
        if len(self.conversations) > _MAX_CONVERSATIONS:
            self.conversations.popitem(last=False)

    def _tiers(
        self, route: str, tiers: Sequence[Sequence[T]], members: dict[str, Member[T]], chosen: dict[str, T]
    ) -> Tiers[T]:
        built: list[tuple[Member[T], ...]] = []
        seen: set[str] = set()
        for tier in tiers:
            for target in tier:
                if target.id in seen:
                    raise ConfigurationError(
                        f"two providers of route {route!r} have the id {target.id!r}; give one of them another id="
                    )
                seen.add(target.id)
            built.append(tuple(self._member(target, members, chosen) for target in tier))
        if not seen:
            raise ConfigurationError(f"route {route!r} has no providers; give at least one")
        return tuple(tier for tier in built if tier)

    def _member(self, target: T, members: dict[str, Member[T]], chosen: dict[str, T]) -> Member[T]:
        if chosen.setdefault(target.id, target) is not target:
            raise ConfigurationError(f"two different providers have the id {target.id!r}; give one of them another id=")
        if target.id not in members:
            members[target.id] = self.members.get(target.id) or Member(target, self.policies, self._accounts_of(target))
        return members[target.id]

    def _accounts_of(self, target: T) -> list[SlowGate]:
        """The gates that the target's keys share with other providers of their accounts."""
        return [self._account(target, number, terms.account) for number, terms in enumerate(target.keys)]

    def _account(self, target: T, number: int, account: str | None) -> SlowGate:
        name = (target.id, number) if account is None else account
        return self._accounts.setdefault(name, SlowGate(self.policies.advanced.slow_gate_cap))
