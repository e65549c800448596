"""Whether the arguments of tool calls fit the tools: weak models write calls that no program can run, inside a 200.

What can be told without a dependency is checked here, keyword by keyword; where ``jsonschema`` is installed, all of a
schema is.  A schema is the caller's: what is unknown or wrong in it is passed over, and no answer refused for it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from operator import ge, gt, le, lt
from typing import Any, Final, TypeAlias, cast

from resilient_llm.model import ChatResponse, JsonObject, Tool, ToolCall
from resilient_llm.wire.kit import fields as f

_Fits: TypeAlias = Callable[[object, object], bool]
_DEEPEST: Final = 32
_MOST: Final = 10_000  # schemas looked at in one call: those that hold themselves grow fast


def wrong_arguments(response: ChatResponse, tools: Sequence[Tool]) -> str | None:
    """What is wrong with the first tool call that could not be run; ``None`` if all of them could.

    A call is wrong if nobody offered its tool, if its arguments are no JSON object, or if they do not fit the tool's
    schema.  The text names tool, place and rule, and no value.
    """
    offered = {tool.name: tool for tool in tools}
    answers = (response.parts, *(choice.parts for choice in response.alternatives))
    for call in (part for parts in answers for part in parts if isinstance(part, ToolCall)):
        found = _wrong(call, offered.get(call.name))
        if found is not None:
            return f"the call of tool {call.name[:80]!r} {found}"
    return None


def _wrong(call: ToolCall, tool: Tool | None) -> str | None:
    if tool is None:
        return "is of no tool that was offered"
    try:
        arguments = f.parse_object(call.arguments, "they") if call.arguments.strip() else {}
    except f.Malformed:
        return "has arguments that are no JSON object"
    if not tool.parameters:
        return None
    found = next(_mistakes(arguments, tool.parameters), None)
    return None if found is None else f"has arguments that do not fit its schema: {found}"


def _mistakes(value: object, schema: JsonObject) -> Iterator[str]:
    try:
        validators, registry = import_module("jsonschema").validators, import_module("referencing").Registry()
    except ImportError:
        yield from _Checker(schema).check(value, schema, "$", 0)
        return
    checker: Any = validators.validator_for(schema, default=validators.Draft202012Validator)
    try:
        checker.check_schema(schema)
        for found in checker(schema, registry=registry).iter_errors(value):  # an empty registry: nothing is fetched
            if found.instance is not None or not f.is_object(found.schema) or not _nullable(found.schema):
                yield f"{found.json_path}: {found.validator}"
    except Exception:  # it is no schema, which shows in as many ways as there are mistakes
        return


def _nullable(schema: JsonObject) -> bool:
    return schema.get("nullable") is True  # OpenAPI's way


class _Checker:
    """The keywords that need no library.  Every method is of one keyword; the others are passed over."""

    def __init__(self, root: JsonObject) -> None:
        self._root = root
        self._left = _MOST

    def check(self, value: object, schema: object, at: str, depth: int) -> Iterator[str]:
        """The mistakes of a value, as places and keywords."""
        self._left -= 1
        if schema is False:
            yield f"{at}: not allowed"
        if not f.is_object(schema) or depth > _DEEPEST or self._left < 0 or (value is None and _nullable(schema)):
            return
        target = self._target(schema.get("$ref"))
        if target is not None:
            yield from self.check(value, target, at, depth + 1)
        for keyword, fits in _SIMPLE.items():
            if keyword in schema and not fits(value, schema[keyword]):
                yield f"{at}: {keyword}"
        yield from self._combined(value, schema, at, depth)
        if f.is_object(value):
            yield from self._object(value, schema, at, depth)
        elif f.is_list(value) and "prefixItems" not in schema:
            for index, item in enumerate(value):
                yield from self.check(item, schema.get("items"), f"{at}[{index}]", depth + 1)

    def _target(self, reference: object) -> object:
        """What a reference inside the schema leads to; ``None`` if it leads elsewhere."""
        if not isinstance(reference, str) or not reference.startswith("#"):
            return None
        found: object = self._root
        for step in filter(None, reference[1:].split("/")):
            found = found.get(step.replace("~1", "/").replace("~0", "~")) if f.is_object(found) else None
        return found

    def _combined(self, value: object, schema: Mapping[str, object], at: str, depth: int) -> Iterator[str]:
        for each in _list(schema.get("allOf")):
            yield from self.check(value, each, at, depth + 1)
        for keyword in ("anyOf", "oneOf"):  # what keeps apart those of which one must fit may be passed over here
            choices = _list(schema.get(keyword))
            if choices and all(next(self.check(value, each, at, depth + 1), None) is not None for each in choices):
                yield f"{at}: {keyword}"

    def _object(self, value: Mapping[str, object], schema: Mapping[str, object], at: str, depth: int) -> Iterator[str]:
        known = f.as_object(schema.get("properties"))
        yield from (
            f"{at}.{name}: required"
            for name in _list(schema.get("required"))
            if isinstance(name, str) and name not in value
        )
        for name, item in value.items():
            if name in known:
                yield from self.check(item, known[name], f"{at}.{name}", depth + 1)
            elif "patternProperties" not in schema:
                yield from self.check(item, schema.get("additionalProperties"), f"{at}.{name[:80]}", depth + 1)


def _list(value: object) -> list[object]:
    return value if f.is_list(value) else []


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


_TYPES: Final[Mapping[object, Callable[[object], bool]]] = {
    "object": lambda value: isinstance(value, Mapping),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "number": _is_number,
    "integer": lambda value: _is_number(value) and (isinstance(value, int) or cast("float", value).is_integer()),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
}


def _of_type(value: object, types: object) -> bool:
    names = types if f.is_list(types) else [str(types).lower()]  # Gemini's dialect writes them in capitals
    return any(str(name) not in _TYPES or _TYPES[str(name)](value) for name in names)


def _same(value: object, other: object) -> bool:
    """JSON's equality: 1 is 1.0, and neither is ``true``."""
    if _is_number(value) or _is_number(other):
        return _is_number(value) and _is_number(other) and value == other
    return json.dumps(value, sort_keys=True, default=str) == json.dumps(other, sort_keys=True, default=str)


def _limit(measure: Callable[[object], float | None], holds: Callable[[float, float], bool]) -> _Fits:
    """Whether what is measured keeps a limit; what has no such measure does, and so it does where there is no limit."""

    def fits(value: object, limit: object) -> bool:
        measured = measure(value)
        return measured is None or not _is_number(limit) or holds(measured, cast("float", limit))

    return fits


def _number(value: object) -> float | None:
    return cast("float", value) if _is_number(value) else None


def _size(kind: type) -> Callable[[object], float | None]:
    return lambda value: len(cast("Sequence[object]", value)) if isinstance(value, kind) else None


_SIMPLE: Final[Mapping[str, _Fits]] = {
    "type": _of_type,
    "enum": lambda value, allowed: not f.is_list(allowed) or any(_same(value, each) for each in allowed),
    "const": _same,
    "minimum": _limit(_number, ge),
    "maximum": _limit(_number, le),
    "exclusiveMinimum": _limit(_number, gt),
    "exclusiveMaximum": _limit(_number, lt),
    "minLength": _limit(_size(str), ge),
    "maxLength": _limit(_size(str), le),
    "minItems": _limit(_size(list), ge),
    "maxItems": _limit(_size(list), le),
}
