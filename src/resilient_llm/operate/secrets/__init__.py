"""API keys that settings name and do not hold: ``env:NAME``, ``file:/run/secrets/x``, ``vault:path#key``...

::

    from resilient_llm.operate.secrets import secret
    from resilient_llm.providers import OpenAI

    provider = OpenAI("gpt-5.2", api_key=secret("env:OPENAI_API_KEY"))

A :class:`Secret` is fetched when it is first needed, off the path of calls, kept for a time, and fetched again when a
provider refuses it.  While it is not there, its provider is passed over and says why.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resilient_llm.operate.secrets.held import Secret, secret
    from resilient_llm.operate.secrets.reference import FORMS, Reference
    from resilient_llm.operate.secrets.stores import STORES, Store

__all__ = ["FORMS", "STORES", "Reference", "Secret", "Store", "secret"]

_HOMES = {"held": ("Secret", "secret"), "reference": ("FORMS", "Reference"), "stores": ("STORES", "Store")}
"""Module -> the names it is the home of."""


def __getattr__(name: str) -> object:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
