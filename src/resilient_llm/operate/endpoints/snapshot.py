"""What is known about a client's providers, as plain values for JSON and for the page."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from typing import Final, Protocol, TypeAlias, cast

from resilient_llm.client import AsyncResilientClient, Candidate, ProviderHealth, ResilientClient
from resilient_llm.drive.core import ProviderPool
from resilient_llm.errors import ClientClosed

AnyClient: TypeAlias = ResilientClient | AsyncResilientClient
Plain: TypeAlias = "str | int | float | bool | list[Plain] | dict[str, Plain] | None"

_log = logging.getLogger("resilient_llm.operate")
_DEEPEST: Final = 8


class SupportsStatus(Protocol):
    """Service objectives: ``status()`` returns one dataclass or mapping for each, or one mapping of them."""

    def status(self) -> object: ...


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A client at one moment.  ``routes``: who would be asked, in order; ``budgets``: what is left of the allowances
    for extra attempts and trials; ``objectives``: as their owner tells them, ``None`` without one."""

    client: str
    closed: bool
    routes: Mapping[str, Sequence[Candidate]]
    providers: Mapping[str, ProviderHealth]
    budgets: Mapping[str, float]
    objectives: Plain = None

    def admissible(self, route: str | None = None) -> tuple[str, ...]:
        """The providers of a route (``None``: of any) that could be asked now: no open breaker, no closed gate, not
        drained.  One that is merely busy counts, for its line moves; so does one that is softly open."""
        chosen = self.routes.values() if route is None else (self.routes[route],)
        ids = dict.fromkeys(candidate.provider for candidates in chosen for candidate in candidates)
        return tuple(name for name in ids if _admissible(self.providers[name]))

    def ready(self, route: str | None = None) -> bool:
        """Whether the client is open and one of them is there."""
        return not self.closed and bool(self.admissible(route))

    def opens_in(self, route: str | None = None) -> float | None:
        """Seconds until the first provider that is closed off may be asked again; ``None``: unknown."""
        chosen = self.routes.values() if route is None else (self.routes[route],)
        ids = {candidate.provider for candidates in chosen for candidate in candidates}
        waits = [max(self.providers[name].gate_open_in or 0.0, self.providers[name].retry_in or 0.0) for name in ids]
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
        }


def take(client: AnyClient, objectives: SupportsStatus | None = None) -> Snapshot:
    """Look at a client.  Sends nothing; takes microseconds per provider."""
    pool = client.pool
    routes = {route: _explained(pool, route) for route in pool.pool.route_names}
    providers = client.health()
    known = {  # replaced between the two looks: left out
        route: [one for one in candidates if one.provider in providers] for route, candidates in routes.items()
    }
    return Snapshot(pool.name, _closed(client), known, providers, dict(pool.pool.budgets), _status(objectives))


def _explained(pool: ProviderPool, route: str) -> list[Candidate]:
    """As ``client.explain(route=route)``, whatever the options of that client."""
    ask = pool.ask({"route": route}, streaming=False, tokens=1, max_tokens=None)
    return [Candidate(target.id, target.model, why) for target, why in pool.pool.explain(ask, pool.clock())]


def plain(value: object, depth: int = 0) -> Plain:
    """Any value as JSON has it: dataclasses and mappings become objects, sequences arrays, the rest text."""
    if isinstance(value, Enum):
        value = value.value
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if depth < _DEEPEST:
        if is_dataclass(value) and not isinstance(value, type):
            return {one.name: plain(getattr(value, one.name), depth + 1) for one in fields(value)}
        if isinstance(value, Mapping):
            items = cast(Mapping[object, object], value).items()
            return {str(key): plain(one, depth + 1) for key, one in items}
        if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
            return [plain(one, depth + 1) for one in cast(Sequence[object], value)]
    return str(value)


def _admissible(health: ProviderHealth) -> bool:
    return not health.drained and health.breaker in ("closed", "softly_open") and health.gate_open_in is None


def _closed(client: AnyClient) -> bool:
    try:
        client.check_open()
    except ClientClosed:
        return True
    return False


def _status(objectives: SupportsStatus | None) -> Plain:
    if objectives is None:
        return None
    try:
        return plain(objectives.status())
    except Exception:  # foreign code; a health endpoint answers whatever it does
        _log.exception("the objectives could not tell their status")
        return None
