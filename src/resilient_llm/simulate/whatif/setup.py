"""The user's settings as the simulator needs them: who is asked in which order, and by which policies.

Nothing is sent, and no key is needed: a reference to a secret is not followed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import fields as fields_of
from pathlib import Path
from typing import Final, cast

from resilient_llm.errors import ConfigurationError
from resilient_llm.operate.settings.reading import Settings, read
from resilient_llm.policy import Policies, as_policy
from resilient_llm.providers import HttpProvider

_NO_LIMIT: Final = 3600.0
"""Seconds for a call where the settings set no limit."""


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

    Raises ``SettingsError`` for what makes no sense or cannot be read.
    """
    return _setup(read(path, needs_keys=False), Path(path).name, route)


def setup_of(told: Mapping[str, object], name: str, route: str | None = None) -> Setup:
    """The same from a mapping."""
    return _setup(read(told, needs_keys=False), name, route)


def _setup(settings: Settings, name: str, route: str | None) -> Setup:
    routes = settings.routes
    if route is not None and route not in routes:
        raise ConfigurationError(f"there is no route {route!r}; there are {', '.join(routes)}")
    tiers = routes[route] if route is not None else next(iter(routes.values()))
    found = tuple(tuple(one for one in tier if isinstance(one, HttpProvider)) for tier in tiers)
    given = {one.name: settings.options[one.name] for one in fields_of(Policies) if one.name in settings.options}
    deadline = cast("float | None", settings.options.get("deadline", 600.0))
    return Setup(name, found, as_policy(Policies, given), _NO_LIMIT if deadline is None else float(deadline))
