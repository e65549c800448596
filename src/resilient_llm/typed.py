"""Classes as the shape of an answer: a pydantic model, a dataclass or a ``TypedDict`` becomes a JSON schema, and an
answer's JSON an instance of it.

A class is recognised by what it offers; pydantic is not imported and need not be installed.  Of the annotations of
dataclasses and ``TypedDict``s, ``str``, ``int``, ``float``, ``bool``, ``None``, ``list``, ``Literal``, enums,
``Optional``, ``Union``, ``Annotated`` (a text in it is the description) and such classes again are understood;
anything else is refused, since an answer could not be checked for it.
"""

from __future__ import annotations

import dataclasses
import json
import re
import types
import typing
from collections.abc import Callable, Hashable, Mapping, Sequence
from enum import Enum
from functools import lru_cache
from typing import Any, Literal, NamedTuple, TypeAlias, cast

from resilient_llm.errors import InvalidRequest
from resilient_llm.model import ChatResponse, ParsedResponse

Schema: TypeAlias = dict[str, object]
Class: TypeAlias = "type[Any]"
Read: TypeAlias = Callable[[object, str], object]
"""Takes a JSON value and where it stands, and returns what it means.  Raises ``ValueError`` if it does not fit; the
message never quotes the value, which is part of an answer."""

_FENCE = r"(?s:```[a-zA-Z]{0,10}\n(.*?)\n?```)"
"""What models put around JSON when they were asked for it in words."""


class Shape(NamedTuple):
    """A schema, and how to read what was written after it."""

    schema: Schema
    read: Read


class Typed(NamedTuple):
    """A class as the shape of an answer."""

    name: str
    schema: Schema
    read: Callable[[str], object]

    def fill(self, response: ChatResponse) -> None:
        """Set ``parsed`` on an answer, unless it asks for a tool or refuses.  Raises what :meth:`parse` raises."""
        if not response.tool_calls and not response.refusal:
            response.parsed = self.parse(response.text)
            response.__class__ = ParsedResponse

    def parse(self, text: str) -> object:
        """The instance an answer's text stands for.  Raises ``ValueError`` saying what does not fit."""
        fenced = re.fullmatch(_FENCE, text.strip())
        try:
            return self.read(fenced[1] if fenced is not None else text)
        except RecursionError:
            raise ValueError(f"the answer is no {self.name}: it is nested too deeply") from None
        except ValueError as error:
            raise ValueError(f"the answer is no {self.name}: {_told(error)}") from None


def typed(kind: type[object]) -> Typed:
    """What is asked of a model that shall answer with such an instance.

    Raises ``InvalidRequest`` for a class that is none of the three, or with a field that cannot be checked.
    """
    return _typed(cast(Hashable, kind))


@lru_cache(maxsize=256)
def _typed(hashable: Hashable) -> Typed:
    kind = cast(Class, hashable)
    name = re.sub(r"[^A-Za-z0-9_-]", "_", kind.__name__)[:64]  # what vendors accept as a name
    if _is_pydantic(kind):
        return Typed(name, _pydantic_schema(kind), kind.model_validate_json)
    if not (dataclasses.is_dataclass(kind) or _is_typeddict(kind)):
        raise InvalidRequest(
            f"output must be 'text', 'json_object', a JSON schema, an OutputFormat, a pydantic model, a dataclass or a "
            f"TypedDict, not the class {kind.__qualname__}"
        )
    definitions: Schema = {}
    shape = _object(kind, kind.__name__, (), definitions)
    schema = {**shape.schema, "$defs": definitions} if definitions else shape.schema

    def read(text: str) -> object:
        return shape.read(_parsed(text), "$")

    return Typed(name, schema, read)


# --- from annotations --------------------------------------------------------------------------------------


def _shape(annotation: object, where: str, above: tuple[Class, ...], definitions: Schema) -> Shape:
    """The shape of one annotation.  ``above``: the classes it stands in; ``definitions`` receives those of pydantic."""
    if annotation is None or annotation is type(None):
        return Shape({"type": "null"}, _exactly("null", lambda value: value is None))
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    supertype = getattr(annotation, "__supertype__", None) or getattr(annotation, "__value__", None)
    if supertype is not None:  # a NewType, an alias
        return _shape(supertype, where, above, definitions)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        shape = _shape(arguments[0], where, above, definitions)
        described = next((one for one in arguments[1:] if isinstance(one, str)), None)
        return shape._replace(schema={**shape.schema, "description": described}) if described else shape
    if getattr(origin, "_name", None) in ("Required", "NotRequired", "ReadOnly"):
        return _shape(arguments[0], where, above, definitions)
    if origin is Literal:
        return _among(list(arguments), lambda value: value)
    if origin is list:
        return _list(_shape(arguments[0], f"{where}[]", above, definitions))
    if origin is typing.Union or origin is types.UnionType:
        return _union([_shape(one, where, above, definitions) for one in arguments])
    if isinstance(annotation, type):
        return _class(cast(Class, annotation), where, above, definitions)
    raise _refused(annotation, where)


def _class(kind: Class, where: str, above: tuple[Class, ...], definitions: Schema) -> Shape:
    if issubclass(kind, Enum):
        values = [member.value for member in kind]
        if not all(isinstance(value, str | int | float | None) for value in values):
            raise _refused(kind, where)
        return _among(values, kind)
    if _is_pydantic(kind):
        schema = dict(_pydantic_schema(kind))
        definitions.update(cast(Schema, schema.pop("$defs", {})))

        def read(value: object, at: str) -> object:
            return cast(object, kind.model_validate_json(json.dumps(value)))

        return Shape(schema, read)
    if dataclasses.is_dataclass(kind) or _is_typeddict(kind):
        return _object(kind, where, above, definitions)
    raise _refused(kind, where)


def _object(kind: Class, where: str, above: tuple[Class, ...], definitions: Schema) -> Shape:
    """A dataclass or a ``TypedDict``."""
    if kind in above:
        raise InvalidRequest(
            f"output: {where} refers to {kind.__qualname__} within itself, which no schema here can say"
        )
    try:
        hints = typing.get_type_hints(kind, include_extras=True)
    except Exception as error:
        raise InvalidRequest(f"output: the annotations of {kind.__qualname__} cannot be resolved: {error}") from error
    required = _required(kind, hints)
    fields = {name: _shape(hints[name], f"{where}.{name}", (*above, kind), definitions) for name in _names(kind, hints)}
    schema: Schema = {
        "type": "object",
        "properties": {name: shape.schema for name, shape in fields.items()},
        "required": [name for name in fields if name in required],
        "additionalProperties": False,
    }

    def read(value: object, at: str) -> object:
        if not isinstance(value, dict):
            raise ValueError(f"{at} must be an object")
        given = cast("dict[str, object]", value)
        for name in required - given.keys():
            raise ValueError(f"{at}.{name} is missing")
        if given.keys() - fields.keys():
            raise ValueError(f"{at} has a field that {kind.__name__} has not")
        return kind(**{name: fields[name].read(one, f"{at}.{name}") for name, one in given.items()})

    return Shape(schema, read)


def _names(kind: Class, hints: Mapping[str, object]) -> Sequence[str]:
    if dataclasses.is_dataclass(kind):
        return [field.name for field in dataclasses.fields(kind) if field.init]
    return list(hints)


def _required(kind: Class, hints: Mapping[str, object]) -> frozenset[str]:
    if dataclasses.is_dataclass(kind):
        missing = dataclasses.MISSING
        fields = dataclasses.fields(kind)
        return frozenset(
            one.name for one in fields if one.init and one.default is missing and one.default_factory is missing
        )
    # Of annotations kept as text, __required_keys__ does not know what is in them.
    said = {name: getattr(typing.get_origin(hint), "_name", None) for name, hint in hints.items()}
    keys = cast("frozenset[str]", kind.__required_keys__)
    return frozenset(
        name for name in hints if said[name] != "NotRequired" and (name in keys or said[name] == "Required")
    )


def _exactly(what: str, fits: Callable[[Any], bool], make: Callable[[Any], object] = lambda value: value) -> Read:
    article = "an" if what[0] in "aio" else "a"

    def read(value: object, at: str) -> object:
        if not fits(value):
            raise ValueError(f"{at} must be {what if what == 'null' else f'{article} {what}'}")
        return make(value)

    return read


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_PLAIN: Mapping[object, Shape] = {
    str: Shape({"type": "string"}, _exactly("string", lambda value: isinstance(value, str))),
    bool: Shape({"type": "boolean"}, _exactly("boolean", lambda value: isinstance(value, bool))),
    int: Shape({"type": "integer"}, _exactly("integer", lambda value: _number(value) and value == value // 1, int)),
    float: Shape({"type": "number"}, _exactly("number", _number, float)),
}


def _among(values: list[object], make: Callable[[Any], object]) -> Shape:
    def read(value: object, at: str) -> object:
        if not any(type(value) is type(one) and value == one for one in values):
            raise ValueError(f"{at} must be one of {', '.join(map(repr, values))}")
        return make(value)

    return Shape({"enum": values}, read)


def _list(item: Shape) -> Shape:
    def read(value: object, at: str) -> object:
        if not isinstance(value, list):
            raise ValueError(f"{at} must be a list")
        return [item.read(one, f"{at}[{index}]") for index, one in enumerate(cast("list[object]", value))]

    return Shape({"type": "array", "items": item.schema}, read)


def _union(shapes: list[Shape]) -> Shape:
    """The first that fits."""

    def read(value: object, at: str) -> object:
        told: list[str] = []
        for shape in shapes:
            try:
                return shape.read(value, at)
            except ValueError as error:
                told.append(_told(error))
        raise ValueError("; or ".join(told))

    return Shape({"anyOf": [shape.schema for shape in shapes]}, read)


# --- small things ------------------------------------------------------------------------------------------


def _is_pydantic(kind: Class) -> bool:
    return callable(getattr(kind, "model_json_schema", None)) and callable(getattr(kind, "model_validate_json", None))


def _is_typeddict(kind: Class) -> bool:
    return hasattr(kind, "__required_keys__") and hasattr(kind, "__total__") and issubclass(kind, dict)


def _pydantic_schema(kind: Class) -> Schema:
    try:
        return cast(Schema, kind.model_json_schema())
    except Exception as error:
        raise InvalidRequest(f"output: {kind.__qualname__} has no JSON schema: {error}"[:300]) from error


def _parsed(text: str) -> object:
    try:
        return cast(object, json.loads(text))
    except ValueError:
        raise ValueError("it is no JSON") from None


def _told(error: ValueError) -> str:
    """What does not fit, without the values that pydantic would quote."""
    errors = getattr(error, "errors", None)
    if not callable(errors):
        return str(error)[:160]
    found = cast("list[dict[str, Any]]", errors())
    return "; ".join(f"{'.'.join(map(str, one.get('loc', ())))}: {one.get('msg', '')}" for one in found[:3])[:160]


def _refused(annotation: object, where: str) -> InvalidRequest:
    shown = str(getattr(annotation, "__qualname__", annotation))
    return InvalidRequest(
        f"output: {where} is annotated with {shown}, which cannot be checked; use str, int, float, bool, None, "
        "list[...], Literal, enums, Optional, Union, dataclasses, TypedDicts or pydantic models"
    )


# --- schemas given as such ---------------------------------------------------------------------------------

_TYPES = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})
_ONE = ("items", "additionalProperties", "not", "contains", "propertyNames", "if", "then", "else")
_MANY = ("anyOf", "oneOf", "allOf", "prefixItems")
_NAMED = ("properties", "$defs", "definitions", "patternProperties", "dependentSchemas")
_TELLING = frozenset({"type", "properties", "enum", "const", "$ref", "items", *_MANY})
_DEEPEST = 64


def schema_fault(schema: object, at: str = "$", depth: int = 0) -> str | None:
    """Why this is no JSON schema; ``None`` if it may be one."""
    if isinstance(schema, bool):
        return None if depth else f"{at} is no schema"
    if not isinstance(schema, Mapping) or depth > _DEEPEST:
        return f"{at} is no schema" if depth <= _DEEPEST else f"{at} is nested too deeply"
    fields = cast("Mapping[str, object]", schema)
    if depth == 0 and not _TELLING & fields.keys():
        return f"none of {', '.join(sorted(_TELLING))} is in it"
    kinds = fields.get("type", [])
    for kind in cast("list[object]", kinds) if isinstance(kinds, list) else [kinds]:
        if not isinstance(kind, str) or kind not in _TYPES:
            return f"{at}.type is {kind!r:.60} and none of {', '.join(sorted(_TYPES))}"
    for name in ("required", "enum", *_MANY):
        if not isinstance(fields.get(name, []), list | tuple):
            return f"{at}.{name} is no list"
    for name in _NAMED:
        if not isinstance(fields.get(name, {}), Mapping):
            return f"{at}.{name} is no object"
    inner: list[tuple[str, object]] = [(name, fields[name]) for name in _ONE if name in fields]
    for name in _MANY:
        inner += [(f"{name}[]", one) for one in cast("Sequence[object]", fields.get(name, ()))]
    for name in _NAMED:
        inner += [(f"{name}.{key}", one) for key, one in cast("Mapping[str, object]", fields.get(name, {})).items()]
    return next((told for name, one in inner if (told := schema_fault(one, f"{at}.{name}", depth + 1))), None)
