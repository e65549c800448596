"""What is known about a client's providers, as plain values for JSON and for the page."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from resilient_llm.client import AsyncResilientClient, Candidate, ProviderHealth, ResilientClient
from resilient_llm.decide.breaker import Cause
from resilient_llm.decide.member import Member
from resilient_llm.drive.core import ProviderPool
from resilient_llm.drive.subject import Target
from resilient_llm.errors import ClientClosed
from resilient_llm.operate.plain import Plain, plain
from resilient_llm.providers.base import HttpProvider

AnyClient: TypeAlias = ResilientClient | AsyncResilientClient

_log = logging.getLogger("resilient_llm.operate")


class SupportsStatus(Protocol):
    """Objectives or anomalies: ``status()`` returns one dataclass or mapping for each, or one mapping of them."""

    def status(self) -> object: ...


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A client at one moment.  ``routes``: who would be asked, in order; ``budgets``: what is left of the allowances
    for extra attempts and trials; ``objectives`` and ``anomalies``: as their owners tell them, ``None`` without one;
    ``keyless``: the providers whose key could not be fetched yet, and why; ``unanswering``: those that have answered
    nothing since their breaker opened."""

    client: str
    closed: bool
    routes: Mapping[str, Sequence[Candidate]]
    providers: Mapping[str, ProviderHealth]
    budgets: Mapping[str, float]
    objectives: Plain = None
    anomalies: Plain = None
    keyless: Mapping[str, str] = field(default_factory=dict[str, str])
    unanswering: AbstractSet[str] = frozenset()

    def admissible(self, route: str | None = None) -> tuple[str, ...]:
        """The providers of a route (``None``: of any) that could be asked now: no open breaker, no closed gate, not
        drained, and a key to send.  One that is merely busy counts, for its line moves; so does one that is softly
        open and answers some calls, and one whose next trial is due, for only a call can find out that it is back."""
        chosen = self.routes.values() if route is None else (self.routes[route],)
        ids = dict.fromkeys(candidate.provider for candidates in chosen for candidate in candidates)
        return tuple(name for name in ids if name not in self.keyless and self._admissible(self.providers[name]))

    def _admissible(self, health: ProviderHealth) -> bool:
        if health.drained or health.gate_open_in is not None:
            return False
        if health.breaker == "closed" or (health.breaker == "softly_open" and health.id not in self.unanswering):
            return True
        return health.retry_in is not None and health.retry_in <= 0.0

    def ready(self, route: str | None = None) -> bool:
        """Whether the client is open and one of them is there."""
        return not self.closed and bool(self.admissible(route))

    def opens_in(self, route: str | None = None) -> float | None:
        """Seconds until the first provider that is closed off may be asked again; ``None``: unknown."""
        chosen = self.routes.values() if route is None else (self.routes[route],)
        ids = {candidate.provider for candidates in chosen for candidate in candidates}
        closed_off = [self.providers[name] for name in ids if not self.providers[name].drained]
        waits = [max(health.gate_open_in or 0.0, health.retry_in or 0.0) for health in closed_off]
        return min((wait for wait in waits if wait > 0.0), default=None)

    def plain(self) -> dict[str, Plain]:
        """The same as JSON has it; what is unknown or endless is ``null``."""
        return {
            "client": self.client,
            "ready": self.ready(),
            "closed": self.closed,
            "admissible": list(self.admissible()),
            "routes": {
                name: [{"provider": one.provider, "model": one.model, "reason": one.reason} for one in candidates]
                for name, candidates in self.routes.items()
            },
            "providers": {name: plain(health) for name, health in self.providers.items()},
            "budgets": plain(self.budgets),
            "objectives": self.objectives,
            "anomalies": self.anomalies,
        }


def take(
    client: AnyClient, objectives: SupportsStatus | None = None, anomalies: SupportsStatus | None = None
) -> Snapshot:
    """Look at a client.  Sends nothing to a provider, and begins to fetch keys that are missing; takes microseconds
    per provider."""
    pool = client.pool
    keyless = _keyless(pool)
    routes = {route: _explained(pool, route, keyless) for route in pool.pool.route_names}
    providers = client.health()
    known = {  # replaced between the two looks: left out
        route: [one for one in candidates if one.provider in providers] for route, candidates in routes.items()
    }
    budgets, told = dict(pool.pool.budgets), (_status(objectives), _status(anomalies))
    unanswering = pool.pool.look(_unanswering)
    return Snapshot(pool.name, _closed(client), known, providers, budgets, *told, keyless, unanswering)


def _unanswering(members: Mapping[str, Member[Target]]) -> AbstractSet[str]:
    """Those that are merely slow answer."""
    found = members.values()
    return {one.id for one in found if one.good_start < one.breaker.since and one.breaker.cause is not Cause.SLOW}


def _keyless(pool: ProviderPool) -> dict[str, str]:
    missing = {one.id: one.key_missing() for one in pool.pool.targets() if isinstance(one, HttpProvider)}
    return {name: why for name, why in missing.items() if why is not None}


def _explained(pool: ProviderPool, route: str, keyless: Mapping[str, str]) -> list[Candidate]:
    """As ``client.explain(route=route)``, whatever the options of that client; without a key even if all are."""
    ask = pool.ask({"route": route}, streaming=False, tokens=1, max_tokens=None)
    return [
        Candidate(target.id, target.model, why or keyless.get(target.id))
        for target, why in pool.pool.explain(ask, pool.clock())
    ]


def _closed(client: AnyClient) -> bool:
    try:
        client.check_open()
    except ClientClosed:
        return True
    return False


def _status(owner: SupportsStatus | None) -> Plain:
    if owner is None:
        return None
    try:
        return plain(owner.status())
    except Exception:  # foreign code; a health endpoint answers whatever it does
        _log.exception("%s could not tell its status", type(owner).__name__)
        return None
