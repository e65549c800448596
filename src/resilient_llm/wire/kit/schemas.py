"""Schemas of JSON, changed on their way to a vendor that takes only some of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

from resilient_llm.wire.kit.fields import words

_MAPS = words("properties $defs definitions defs")
_SUBSCHEMAS = words("items prefixItems anyOf oneOf allOf not additionalProperties")


def subschemas(key: str, value: object, change: Callable[[Mapping[str, object]], object]) -> object:
    """The value of a keyword, with every schema in it changed."""
    if key in _MAPS and isinstance(value, Mapping):
        children = cast("Mapping[str, object]", value).items()
        return {name: subschemas("items", child, change) for name, child in children}
    if key in _SUBSCHEMAS and isinstance(value, list):
        return [subschemas("items", child, change) for child in cast("list[object]", value)]
    return change(cast("Mapping[str, object]", value)) if key in _SUBSCHEMAS and isinstance(value, Mapping) else value
