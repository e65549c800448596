"""What a decision looks at, as plain data: the state of providers, budgets and lines, and back.

Every object of ``decide`` is taken apart by its attributes, so that a field which is added there is recorded without a
word here.  What refers to something outside (providers, settings, callbacks) is left out.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from enum import Enum
from typing import Final, TypeAlias, cast

from resilient_llm.decide import breaker
from resilient_llm.policy import Policy

Plain: TypeAlias = "bool | int | float | str | Sequence[Plain] | Mapping[str, Plain] | None"
"""What JSON can hold."""

_ENUMS: Final[Mapping[str, type[Enum]]] = {one.__name__: one for one in (breaker.State, breaker.Cause)}
_INFINITE: Final = {math.inf: "inf", -math.inf: "-inf"}


class _LeftOut(Exception):
    """Something that is not recorded."""


def plain(value: object) -> Plain:
    """A value as plain data.  Raises a private exception for what is not recorded."""
    if isinstance(value, Enum):
        if type(value).__name__ not in _ENUMS:
            raise _LeftOut
        return {"enum": type(value).__name__, "value": str(value.value)}
    if isinstance(value, float):
        return {"float": _INFINITE[value]} if value in _INFINITE else value
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, list | tuple | deque):
        return [plain(item) for item in cast("Iterable[object]", value)]
    if isinstance(value, Policy) or not type(value).__module__.startswith("resilient_llm.decide."):
        raise _LeftOut
    return {"fields": fields_of(value)}


def fields_of(thing: object, *, without: frozenset[str] = frozenset()) -> dict[str, Plain]:
    """The attributes of an object that can be recorded, those named in ``without`` excepted."""
    found: dict[str, Plain] = {}
    for name in _names(thing):
        if name not in without and hasattr(thing, name):
            with suppress(_LeftOut):
                found[name] = plain(getattr(thing, name))
    return found


def install(thing: object, recorded: Mapping[str, Plain]) -> None:
    """Give an object the attributes that were recorded of another one of its kind."""
    for name, value in recorded.items():
        before: object = getattr(thing, name, None)
        inner = value.get("fields") if isinstance(value, Mapping) else None
        if isinstance(inner, Mapping):
            install(before, inner)
        else:
            setattr(thing, name, value_of(value, before))


def value_of(recorded: Plain, before: object = None) -> object:
    """A value that was recorded; ``before`` is what stands in its place now, whose kind of sequence it takes."""
    if isinstance(recorded, str) or not isinstance(recorded, Mapping | Sequence):
        return recorded
    if isinstance(recorded, Mapping):
        if "float" in recorded:
            return float(str(recorded["float"]))
        kind = _ENUMS.get(str(recorded.get("enum")))
        return recorded if kind is None else kind(recorded["value"])
    items = [value_of(item) for item in recorded]
    if isinstance(before, deque):
        return deque(items)
    return tuple(items) if isinstance(before, tuple) else items


def _names(thing: object) -> list[str]:
    slots = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ()) if isinstance(name, str)]
    own = [*vars(thing), *slots] if hasattr(thing, "__dict__") else slots
    return [name for name in own if not name.startswith("__")]
