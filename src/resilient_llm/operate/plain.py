"""Any value as JSON has it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Final, TypeAlias, cast

Plain: TypeAlias = "str | int | float | bool | list[Plain] | dict[str, Plain] | None"

_DEEPEST: Final = 8


def plain(value: object, depth: int = 0) -> Plain:
    """Any value as JSON has it: dataclasses and mappings become objects, sequences arrays, the rest text."""
    if isinstance(value, Enum):
        value = value.value
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if depth < _DEEPEST:
        if is_dataclass(value) and not isinstance(value, type):
            return {one.name: plain(getattr(value, one.name), depth + 1) for one in fields(value)}
        if isinstance(value, Mapping):
            items = cast(Mapping[object, object], value).items()
            return {str(key): plain(one, depth + 1) for key, one in items}
        if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
            return [plain(one, depth + 1) for one in cast(Sequence[object], value)]
    try:
        return str(value)
    except Exception:  # code of others
        return f"<{type(value).__name__}>"
