"""The user's settings as the simulator needs them: who is asked in which order, and by which policies.

Nothing is sent, and no key is needed: a reference to a secret is not followed.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from resilient_llm import providers as vendors
from resilient_llm.errors import ConfigurationError
from resilient_llm.policy import Advanced, Breaker, Hedge, Limits, Policies, Policy, Retry, Stream, Timeouts, as_policy
from resilient_llm.providers import HttpProvider

_POLICIES: Final[Mapping[str, type[Policy]]] = {
    "retry": Retry,
    "breaker": Breaker,
    "hedge": Hedge,
    "timeouts": Timeouts,
    "stream": Stream,
    "limits": Limits,
    "advanced": Advanced,
}


@dataclass(frozen=True, slots=True)
class Setup:
    """What is simulated: a name for it, its tiers in order of preference, its policies, and seconds for a call."""

    name: str
    tiers: tuple[tuple[HttpProvider, ...], ...]
    policies: Policies
    deadline: float

    @property
    def providers(self) -> tuple[HttpProvider, ...]:
        """All of them in order of preference."""
        return tuple(provider for tier in self.tiers for provider in tier)


def read_setup(path: str | Path, route: str | None = None) -> Setup:
    """The settings in a file, one route of them (``None``: the first).

    Raises ``ConfigurationError`` for what makes no sense, ``OSError`` for a file that cannot be read.
    """
    path = Path(path)
    try:
        told: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigurationError(f"{path} is not TOML: {error}") from None
    return setup_of(told, path.name, route)


def setup_of(told: Mapping[str, Any], name: str, route: str | None = None) -> Setup:
    """The same from a mapping."""
    settings: dict[str, Any] = {**told, **told.get("client", {})}
    tiers = tuple(_tier(entry) for entry in _route(told, route))
    _check_ids(provider for tier in tiers for provider in tier)
    policies: dict[str, Any] = {key: as_policy(kind, settings.get(key)) for key, kind in _POLICIES.items()}
    deadline = settings.get("deadline", 600.0)
    if isinstance(deadline, bool) or not isinstance(deadline, int | float) or not deadline > 0:
        raise ConfigurationError(f"deadline must be a number of seconds above 0, not {deadline!r}")
    return Setup(name, tiers, Policies(**policies), float(deadline))


def _route(told: Mapping[str, Any], route: str | None) -> Sequence[object]:
    routes: Mapping[str, Any] = told["routes"] if "routes" in told else {"default": told.get("providers")}
    if route is not None and route not in routes:
        raise ConfigurationError(f"there is no route {route!r}; there are {', '.join(routes)}")
    found: object = routes[route] if route is not None else next(iter(routes.values()), None)
    if isinstance(found, Mapping):
        found = cast("Mapping[str, object]", found).get("providers")
    if not isinstance(found, list) or not found:
        raise ConfigurationError('the settings name no providers: providers = ["openai/gpt-5.2", ...]')
    return cast("list[object]", found)


def _tier(entry: object) -> tuple[HttpProvider, ...]:
    entries = cast("list[object]", entry) if isinstance(entry, list) else [entry]
    return tuple(map(_provider, entries))


def _provider(entry: object) -> HttpProvider:
    if isinstance(entry, str):
        kind, _, model = entry.partition("/")
        table: dict[str, Any] = {}
    elif isinstance(entry, Mapping):
        table = dict(cast("Mapping[str, Any]", entry))
        kind, model = table.pop("kind", table.pop("vendor", None)), table.pop("model", "")
    else:
        raise ConfigurationError(f"a provider is text like 'openai/gpt-5.2' or a table, not {entry!r}")
    made = _class(kind)
    table["api_key"] = str(table.get("api_key") or "not needed")
    try:
        return made(model, **table)
    except (ConfigurationError, TypeError) as error:
        raise ConfigurationError(f"provider {entry!r}: {error}") from None


def _class(kind: object) -> type[HttpProvider]:
    classes: dict[str, type[HttpProvider]] = {}
    for name in vendors.__all__:
        one: object = getattr(vendors, name)
        if isinstance(one, type) and issubclass(one, HttpProvider) and one is not HttpProvider:
            classes[name.lower()] = one
            classes.setdefault(one.vendor, one)
    if not isinstance(kind, str) or kind.lower() not in classes:
        raise ConfigurationError(f"there is no provider {kind!r}; there are {', '.join(sorted(classes))}")
    return classes[kind.lower()]


def _check_ids(providers: Iterable[HttpProvider]) -> None:
    seen: set[str] = set()
    for provider in providers:
        if provider.id in seen:
            raise ConfigurationError(f"two providers have the id {provider.id!r}; give one of them another id")
        seen.add(provider.id)
