"""Looking into JSON of unknown shape without trusting it: a value of the wrong type is as good as absent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeGuard


def is_object(value: object) -> TypeGuard[Mapping[str, object]]:
    """A JSON object.  (One built by hand may have keys that are no strings; nobody looks those up.)"""
    return isinstance(value, Mapping)


def is_list(value: object) -> TypeGuard[list[object]]:
    return isinstance(value, list)


def objects(value: object) -> list[Mapping[str, object]]:
    """The objects of a list; of anything else, none."""
    return [item for item in value if is_object(item)] if is_list(value) else []
