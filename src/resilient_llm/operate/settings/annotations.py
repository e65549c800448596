"""Kinds derived from the annotations of the code that takes the values: a new field there is a setting at once."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from typing import Final, Literal, Union, get_args, get_origin, get_type_hints

from resilient_llm.operate.secrets.held import Secret
from resilient_llm.operate.settings.kinds import (
    ANYTHING,
    NUMBER,
    TEXT,
    TRUTH,
    WHOLE,
    AnyOf,
    Field,
    Kind,
    ListOf,
    MapOf,
    OneOf,
    Optional,
    SecretReference,
    Table,
)


class _Elsewhere:
    """Stands for a type that only type checkers know."""


def hints(thing: object) -> dict[str, object]:
    """The annotations of a class, a ``TypedDict`` or a function, evaluated; names that only type checkers know stand
    for nothing a file can hold."""
    names: dict[str, object] = {}
    while True:
        try:
            return get_type_hints(thing, localns=names)
        except NameError as error:
            if error.name is None or error.name in names:
                raise
            names[error.name] = _Elsewhere


_SCALARS: Final[Mapping[object, Kind]] = {
    float: NUMBER,
    int: WHOLE,
    bool: TRUTH,
    str: TEXT,
    object: ANYTHING,
    Secret: SecretReference(),
}
_LISTS: Final = (list, tuple, set, frozenset, Sequence, Iterable, AbstractSet)


_OURS: Final = "resilient_llm.operate."
"""Classes that are made from a table, of the arguments of their constructor."""


def kind_of(annotation: object) -> Kind | None:
    """The kind of values an annotation allows; ``None``: nothing that a file could hold."""
    if annotation is _Elsewhere:
        return None
    if annotation in _SCALARS:
        return _SCALARS[annotation]
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return OneOf(inside)
    if origin in (Union, types.UnionType):
        return _union(inside)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return OneOf(tuple(one.value for one in annotation), {one.value: one for one in annotation})
    if isinstance(annotation, type) and is_dataclass(annotation):
        return table_of(annotation)
    if isinstance(annotation, type) and annotation.__module__.startswith(_OURS):
        return arguments_of(annotation)
    if origin in _LISTS and inside:
        element = kind_of(inside[0])
        return None if element is None else ListOf(element)
    if origin in (dict, Mapping) and inside:
        element = kind_of(inside[1])
        return None if element is None else MapOf(element)
    return None


def _union(members: tuple[object, ...]) -> Kind | None:
    optional = type(None) in members
    others = [one for one in members if one is not type(None)]
    if str in others and any(get_origin(one) is _CALLABLE for one in others):
        kind: Kind | None = _SCALARS[Secret]  # an ApiKey
    else:
        # The dataclass of a policy and a mapping of its fields are the same setting.
        kinds = [kind for kind in map(kind_of, _without_twins(others)) if kind is not None]
        kind = None if not kinds else kinds[0] if len(kinds) == 1 else AnyOf(tuple(kinds))
    return Optional(kind) if kind is not None and optional else kind


_CALLABLE: Final = get_origin(Callable[[], str])


def _without_twins(members: list[object]) -> list[object]:
    if any(isinstance(one, type) and is_dataclass(one) for one in members):
        return [one for one in members if get_origin(one) is not Mapping]
    if int in members and float in members:
        members = [one for one in members if one is not int]
    return members


def table_of(kind: type) -> Table:
    """The table whose keys are the fields of a dataclass that a file can hold; it is checked by making one."""
    assert is_dataclass(kind)
    annotations = hints(kind)
    found: dict[str, Field] = {}
    for field in fields(kind):
        inner = kind_of(annotations[field.name])
        if inner is not None and field.init:
            required = field.default is MISSING and field.default_factory is MISSING
            found[field.name] = Field(inner, required, None if field.default is MISSING else field.default)
    return Table(found, kind, (kind,), _first_paragraph(kind.__doc__))


def arguments_of(kind: type) -> Table:
    """The table whose keys are the arguments of a class that a file can hold."""
    annotations = hints(inspect.getattr_static(kind, "__init__"))
    found: dict[str, Field] = {}
    for one in inspect.signature(kind).parameters.values():
        inner = kind_of(annotations[one.name])
        if inner is not None:
            required = one.default is inspect.Parameter.empty
            found[one.name] = Field(inner, required, None if required else one.default)
    return Table(found, kind, (kind,), _first_paragraph(kind.__doc__))


def _first_paragraph(text: str | None) -> str:
    """Without markup; empty for the docstring that ``dataclass`` makes itself."""
    first = inspect.cleandoc(text or "").partition("\n\n")[0]
    return "" if re.match(r"\w+\(", first) else " ".join(first.replace("``", "").split())
