"""A client from a file: ``load("resilient.toml")``.

``docs/settings.md`` has the format.  What may stand in a file is derived from the code: every policy, every option of
every provider, and every section in :mod:`~resilient_llm.operate.settings.sections`, which says how to add one.
"""

from __future__ import annotations

from resilient_llm.operate.settings.loading import load, reload, settings_of
from resilient_llm.operate.settings.problems import Origin, Problem, SettingsError
from resilient_llm.operate.settings.reading import Settings, read
from resilient_llm.operate.settings.sections import Section, attached
from resilient_llm.operate.settings.shape import schema

__all__ = [
    "Origin",
    "Problem",
    "Section",
    "Settings",
    "SettingsError",
    "attached",
    "load",
    "read",
    "reload",
    "schema",
    "settings_of",
]
