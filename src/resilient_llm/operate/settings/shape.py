"""The whole of a settings file: its keys, and its JSON Schema."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Final

from resilient_llm.client import SETTINGS, ClientSettings
from resilient_llm.keywords import unknown
from resilient_llm.operate.settings.annotations import hints, kind_of, table_of
from resilient_llm.operate.settings.kinds import ANYTHING, SECONDS, Field, OneOf, Optional, Schema, Table
from resilient_llm.operate.settings.problems import guess
from resilient_llm.operate.settings.providers import provider_schema
from resilient_llm.operate.settings.sections import SECTIONS, section
from resilient_llm.policy import Policies

_PLACES: Final = {
    "providers": Field(ANYTHING, words="whom to ask, in order of preference; a list, or tables [providers.NAME]"),
    "routes": Field(ANYTHING, words="names of routes -> ids of providers in order; a nested list is a tier of equals"),
}
"""What :class:`~resilient_llm.operate.settings.providers.ProviderReader` reads."""
ENGINES: Final = ("httpx", "httpx2", "aiohttp")
_DEFAULTS: Final[Mapping[str, object]] = {"deadline": 600.0, "name": "default", "on_unsupported": "skip"}


@functools.cache
def client_fields() -> Mapping[str, Field]:
    """The settings of a client that a file can hold: those of its constructor."""
    policies = table_of(Policies).fields
    found: dict[str, Field] = {}
    for name, annotation in hints(ClientSettings).items():
        kind = policies[name].kind if name in policies else kind_of(annotation)
        if kind is not None:
            found[name] = Field(kind, default=_DEFAULTS.get(name), words=SETTINGS.get(name, ""))
    found["deadline"] = Field(Optional(SECONDS), default=_DEFAULTS["deadline"], words=SETTINGS["deadline"])
    found["engine"] = Field(OneOf(ENGINES), default="httpx", words="what sends HTTP")
    return found


def whole(used: Iterable[str] | None = None) -> Table:
    """The table of all settings.  ``used``: the keys there are, so that only sections among them are imported
    (``None``: all sections)."""
    names = [name for name in SECTIONS if used is None or name in used]
    sections = {name: Field(section(name).kind) for name in names}
    return Table({**_PLACES, **client_fields(), **sections}, dict, unknown=_meant)


def _meant(name: str, known: Iterable[str]) -> str:
    names = {*known, *SECTIONS}
    advice = unknown(name, client_fields(), "setting").partition("; ")[2]
    return advice if "mean" in advice else guess(name, names)


def schema() -> Schema:
    """The JSON Schema (draft 2020-12) of a settings file, for editors."""
    table = whole()
    found: Schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Settings of resilient_llm",
        **table.schema(),
    }
    tier: Schema = {"type": "array", "items": {"$ref": "#/$defs/provider"}}
    one: Schema = {"$ref": "#/$defs/provider"}
    named: Schema = {"type": "object", "additionalProperties": one}
    member: list[Schema] = [{"type": "string"}, one]
    route: Schema = {"type": "array", "items": {"anyOf": [*member, {"type": "array", "items": {"anyOf": member}}]}}
    properties = {name: _described(name, table) for name in table.fields}
    properties["providers"] |= {"anyOf": [{"type": "array", "items": {"anyOf": [one, tier]}}, named]}
    properties["routes"] |= {"type": "object", "additionalProperties": route}
    found["properties"] = properties
    found["$defs"] = {"provider": provider_schema()}
    return found


def _described(name: str, table: Table) -> Schema:
    field = table.fields[name]
    made = field.kind.schema()
    if field.words:
        made["description"] = field.words
    if field.default is not None:
        made["default"] = field.default
    return made
