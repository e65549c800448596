"""Sections of a settings file that belong to other parts of :mod:`resilient_llm.operate`.

A part that wants a section of its own describes it beside its code::

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Alerts:
        \"\"\"Whom to tell.\"\"\"            # becomes the description in the schema

        webhook: ApiKey | None = None     # a secret: the file names it, you get a callable
        every: float = 60.0

        def __post_init__(self) -> None:
            if not self.every > 0:
                raise ConfigurationError(f"every must be above 0, not {self.every!r}")

    def attach(client: AnyClient, alerts: Alerts) -> Undo | None: ...

    SECTION = Section(Alerts, attach)

and gets one line in :data:`SECTIONS`, name of the section -> ``"module:ATTRIBUTE"``; the module is imported when a file
has the section, and for the schema.  ``Section(Mapping[str, Alerts], attach)`` reads ``[alerts.NAME]`` tables,
``Section(tuple[Alerts, ...], attach)`` reads ``[[alerts]]``.  Annotations may be numbers, texts, truths, ``Literal``,
enums, lists, mappings, ``ApiKey``, such dataclasses, and other classes of ``operate``, whose table are the arguments of
their constructor.  A ``ConfigurationError`` (or ``ValueError``) of
``__post_init__`` that names its field is told with the field's file and line.

``attach`` is called with the client when it has been made, and again with new values when the settings are reloaded and
the section has changed; what it returned is called before that, to take the old one away.  A third argument of
``Section`` tells what is wrong with the values beside the providers and routes of the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final, TypeAlias

from resilient_llm.client import AsyncResilientClient, ResilientClient
from resilient_llm.drive.core import ProviderPool
from resilient_llm.errors import ConfigurationError
from resilient_llm.operate.secrets.held import TTL
from resilient_llm.operate.settings.annotations import kind_of
from resilient_llm.operate.settings.kinds import Kind
from resilient_llm.operate.settings.places import Path
from resilient_llm.operate.settings.providers import Routes

AnyClient: TypeAlias = ResilientClient | AsyncResilientClient
Undo: TypeAlias = Callable[[], object]
"""Takes away what was attached."""


Mistake: TypeAlias = tuple[Path, str]


@dataclass(frozen=True, slots=True)
class Section:
    """A section of the file.  ``annotation`` is the type of its values, ``attach(client, values)`` puts them to work
    (``None``: whoever needs them looks into ``Settings.sections``)."""

    annotation: object
    attach: Callable[[AnyClient, Any], Undo | None] | None = None
    check: Callable[[Routes, Any], Iterable[Mistake]] | None = None
    """What is wrong with its values beside these routes and providers, each with the keys that lead to it."""

    @property
    def kind(self) -> Kind:
        """What its values may be.  Raises ``TypeError`` for an annotation that no file can hold."""
        found = kind_of(self.annotation)
        if found is None:
            raise TypeError(f"{self.annotation!r} is nothing that a file can hold")
        return found


_BESIDE: Final = "section "


def keep(pool: ProviderPool, name: str, made: object, stop: Undo) -> Undo:
    """Remember what a section made, for :func:`attached`; returns what stops and forgets it."""
    pool.beside[_BESIDE + name] = made

    def undo() -> None:
        pool.beside.pop(_BESIDE + name, None)
        stop()

    return undo


def kept(pool: ProviderPool) -> Mapping[str, object]:
    """What sections made, by name."""
    return {name.removeprefix(_BESIDE): one for name, one in pool.beside.items() if name.startswith(_BESIDE)}


def attached(client: AnyClient) -> Mapping[str, object]:
    """What the sections of a client's settings made, by the section's name: ``attached(client)["alerts"].firing``."""
    return kept(client.pool)


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretSettings:
    """How long secrets are kept: seconds before one is fetched again."""

    ttl: float = TTL

    def __post_init__(self) -> None:
        if not self.ttl > 0:
            raise ConfigurationError(f"ttl must be a number of seconds above 0, not {self.ttl!r}")


SECTIONS: Final[dict[str, str]] = {
    "secrets": "resilient_llm.operate.settings.sections:SECRETS",
    "objectives": "resilient_llm.operate.settings.parts:OBJECTIVES",
    "anomalies": "resilient_llm.operate.settings.parts:ANOMALIES",
    "cost": "resilient_llm.operate.settings.parts:COST",
    "state": "resilient_llm.operate.settings.parts:STATE",
    "news": "resilient_llm.operate.settings.parts:NEWS",
    "alerts": "resilient_llm.operate.settings.parts:ALERTS",
}
"""Name of a section -> where its :class:`Section` is."""

SECRETS: Final = Section(SecretSettings)


def section(name: str) -> Section:
    """The section of this name.  Raises ``KeyError`` if there is none."""
    module, _, attribute = SECTIONS[name].partition(":")
    found: object = getattr(import_module(module), attribute)
    assert isinstance(found, Section), f"{SECTIONS[name]} is no Section"
    return found
