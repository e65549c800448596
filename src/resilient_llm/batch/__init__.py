"""Many prompts through one client: what ``client.map()`` is made of, and the parts of large requests for embeddings.

``prompts`` says what a prompt is, ``results`` what becomes of it, ``file`` how results are kept and a run is resumed,
``width`` how many are under way at once, ``again`` who is asked again, ``work`` what both clients share, ``threads``
and ``tasks`` the two iterators; ``together`` sends what belongs to one call in parts.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resilient_llm.batch.prompts import Prompt
    from resilient_llm.batch.results import MapResult
    from resilient_llm.batch.tasks import AsyncMap
    from resilient_llm.batch.threads import Map

__all__ = ["AsyncMap", "Map", "MapResult", "Prompt"]

_HOMES = {"Prompt": "prompts", "MapResult": "results", "AsyncMap": "tasks", "Map": "threads"}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        value: object = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
