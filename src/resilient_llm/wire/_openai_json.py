"""Reading the OpenAI family's JSON, in two tempers: a *request* is told what is wrong with it, since the caller can
mend it; of an *answer* we take what we can use and see nothing in the rest, since dialects abound.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import cast

from resilient_llm.errors import InvalidAnswer, InvalidRequest
from resilient_llm.model import Extra
from resilient_llm.wire.fields import Fields, Malformed, parse

# --- any ---------------------------------------------------------------------------------------------------


def dumps(value: object) -> str:
    """Compact JSON in ASCII, which half a surrogate pair from a careless tokenizer cannot stop."""
    return json.dumps(value, separators=(",", ":"))


def rest(fields: Mapping[str, object], known: Iterable[str]) -> Fields:
    """The fields not in ``known``; null says nothing and is left out."""
    names = known if isinstance(known, frozenset) else frozenset(known)
    return {key: value for key, value in fields.items() if value is not None and key not in names}


def own_extra(wire: str, fields: Fields) -> Extra | None:
    """``fields`` as an Extra of ``wire``, or nothing if there are none."""
    return Extra(wire, fields) if fields else None


# --- answers -----------------------------------------------------------------------------------------------


def answer_object(body: bytes) -> Fields:
    """An answer's body.  Raises ``InvalidAnswer``."""
    try:
        value = parse(body)
    except Malformed as error:
        raise InvalidAnswer(f"the answer is {error}") from error
    if not isinstance(value, dict):
        raise InvalidAnswer("the answer is not a JSON object", value)
    return cast(Fields, value)


def as_object(value: object) -> Fields:
    """The object, or an empty one."""
    return cast(Fields, value) if isinstance(value, dict) else {}


def as_items(value: object) -> list[object]:
    """The list, or an empty one."""
    return cast("list[object]", value) if isinstance(value, list) else []


def as_objects(value: object) -> list[Fields]:
    """The objects among a list's items."""
    return [cast(Fields, item) for item in as_items(value) if isinstance(item, dict)]


def as_text(value: object) -> str:
    """The string, or an empty one."""
    return value if isinstance(value, str) else ""


# --- requests ----------------------------------------------------------------------------------------------


def request_object(body: bytes) -> Fields:
    """A request's body.  Raises ``InvalidRequest``."""
    try:
        value = parse(body, as_written=True)
    except Malformed as error:
        raise InvalidRequest(f"the body is {error}") from error
    if not isinstance(value, dict):
        raise InvalidRequest("the body must be a JSON object")
    return cast(Fields, value)


def _wanted(value: object, kind: type | tuple[type, ...], where: str) -> None:
    """Raises ``InvalidRequest`` unless ``value`` is of ``kind``; a boolean is not a number."""
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise InvalidRequest(f"{where} has the wrong type: {dumps(value)[:80]}")


def _get(fields: Mapping[str, object], key: str, kind: type | tuple[type, ...]) -> object:
    """The value if it is of ``kind``, or absent."""
    value = fields.get(key)
    if value is not None:
        _wanted(value, kind, key)
    return value


def get_text(fields: Mapping[str, object], key: str) -> str | None:
    return cast("str | None", _get(fields, key, str))


def get_int(fields: Mapping[str, object], key: str) -> int | None:
    return cast("int | None", _get(fields, key, int))


def get_number(fields: Mapping[str, object], key: str) -> float | None:
    return cast("float | None", _get(fields, key, (int, float)))


def get_bool(fields: Mapping[str, object], key: str) -> bool | None:
    return cast("bool | None", _get(fields, key, bool))


def get_object(fields: Mapping[str, object], key: str) -> Fields:
    """An object; absent is empty."""
    return as_object(_get(fields, key, dict))


def get_object_if_any(fields: Mapping[str, object], key: str) -> Fields | None:
    """An object; absent is ``None``."""
    return get_object(fields, key) if fields.get(key) is not None else None


def get_objects(fields: Mapping[str, object], key: str) -> list[Fields]:
    """A list of objects; absent is empty."""
    value = _get(fields, key, list)
    for item in as_items(value):
        _wanted(item, dict, f"an item of {key}")
    return as_objects(value)


def get_texts(fields: Mapping[str, object], key: str) -> tuple[str, ...]:
    """A list of strings; absent is empty."""
    value = _get(fields, key, list)
    for item in as_items(value):
        _wanted(item, str, f"an item of {key}")
    return tuple(map(as_text, as_items(value)))
