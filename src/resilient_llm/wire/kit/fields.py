"""Reading and writing JSON that someone else defined, in two tempers.

Strict, for requests, whose caller can mend them: a codec copies an object, *takes* the fields it knows out of the copy
and keeps what is left over in an :class:`~resilient_llm.model.Extra`.  A field of the wrong type raises
:class:`Malformed`; ``null`` counts as absent.

Lenient (``as_...``), for answers of vendors who speak a dialect: a value of the wrong type is as good as absent.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import NoReturn, TypeAlias, TypeGuard, TypeVar, cast

from resilient_llm.errors import InvalidAnswer, InvalidRequest
from resilient_llm.model import ChatRequest, Extra, JsonObject

Fields: TypeAlias = dict[str, object]
"""A JSON object that may be taken apart."""

Read = TypeVar("Read")


class Malformed(ValueError):
    """A value is not of the type its wire format says."""


# Made once: json.dumps would make one for every call.
_encode_strictly = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def dump(value: object) -> bytes:
    """Compact JSON.  Half a surrogate pair, which UTF-8 cannot carry, goes out escaped as it came in."""
    try:
        return _encode(value).encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


def dump_request(value: object) -> bytes:
    """The body of a request.  Raises ``InvalidRequest`` for NaN and infinity, which JSON has no word for."""
    try:
        return _encode_strictly(value).encode()
    except UnicodeEncodeError:
        return dump(value)
    except ValueError as error:
        raise InvalidRequest(f"this cannot be written as JSON: {error}") from error


def dump_text(value: object) -> str:
    """Compact JSON as text, for fields that hold JSON in a string."""
    return _encode(value)


def _not_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_not_json)  # made once: json.loads would make one for every call

DEEPEST = 128
"""Levels of nesting a JSON text may have: copying and pickling what was read must not exhaust the stack."""

_SURROGATE = re.compile("[\ud800-\udfff]")


def parse(data: bytes | str, *, as_written: bool = False) -> object:
    """The value of a JSON text.  Half a surrogate pair, which cannot be encoded, becomes U+FFFD unless ``as_written``.
    Raises :class:`Malformed` for anything that is not JSON, ``NaN`` and more than :data:`DEEPEST` levels included."""
    try:
        plain = data[:1] == b"{" and data[1:2] != b"\0"  # nearly always
        text = data if isinstance(data, str) else data.decode("utf-8" if plain else json.detect_encoding(data))
        # Without the search for white space, which is rarely there.
        value, end = _DECODER.raw_decode(text) if text[:1] in "{[" else (None, -1)
        return _checked(value if end == len(text) else _DECODER.decode(text), text, as_written)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"not JSON: {error}") from error


_raw_decode = json.JSONDecoder().raw_decode


def parse_chunk(text: str) -> object:
    """:func:`parse` without its detours: two searches for white space and four tests, saved on every chunk."""
    try:
        value, end = _raw_decode(text)
    except (ValueError, RecursionError):  # leading white space, perhaps
        return parse(text)
    return _checked(value, text) if end == len(text) else parse(text)


def _checked(value: object, text: str, as_written: bool = False) -> object:
    """``value``, decoded from ``text``, as it may be passed on.  Raises :class:`Malformed` if it is nested too deep."""
    if len(text) >= 2 * DEEPEST and text.count("[") + text.count("{") > DEEPEST and _is_too_deep(value):
        raise Malformed(f"nested more than {DEEPEST} levels deep")
    if not as_written and ("\\ud" in text or "\\uD" in text):  # an escaped surrogate, of a pair or not
        return _without_surrogates(value)
    return value


def _is_too_deep(value: object) -> bool:
    level: list[object] = [value]
    for _ in range(DEEPEST + 1):
        children = [child for parent in level for child in (*as_object(parent).values(), *as_list(parent))]
        level = [child for child in children if isinstance(child, dict | list)]
        if not level:
            return False
    return True


def _without_surrogates(value: object) -> object:
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_without_surrogates(item) for item in cast("list[object]", value)]
    if isinstance(value, dict):
        fields = cast("Fields", value)
        return {str(_without_surrogates(key)): _without_surrogates(item) for key, item in fields.items()}
    return value


def parse_object(data: bytes | str, what: str, *, as_written: bool = False) -> Fields:
    """A JSON text that must hold an object; see :func:`parse`."""
    value = parse(data, as_written=as_written)
    if not isinstance(value, dict):
        raise Malformed(f"{what} is not an object")
    return cast("Fields", value)


def object_of(value: object, what: str) -> Fields:
    """A copy of the object ``value``, to be taken apart."""
    if not isinstance(value, dict | Mapping):  # dict first: it is, and asking the abstract class takes longer
        raise Malformed(f"{what} is not an object")
    return dict(cast("Mapping[str, object]", value))


def list_of(value: object, what: str) -> list[object]:
    """The list ``value``."""
    if not isinstance(value, list):
        raise Malformed(f"{what} is not a list")
    return cast("list[object]", value)


def take_text(fields: Fields, key: str) -> str | None:
    """Remove and return a string."""
    value = fields.pop(key, None)
    if value is not None and not isinstance(value, str):
        raise Malformed(f"{key} is not a string")
    return value


def take_bool(fields: Fields, key: str) -> bool | None:
    """Remove and return a boolean."""
    value = fields.pop(key, None)
    if value is not None and not isinstance(value, bool):
        raise Malformed(f"{key} is not a boolean")
    return value


def take_float(fields: Fields, key: str) -> float | None:
    """Remove and return a number."""
    value = fields.pop(key, None)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Malformed(f"{key} is not a number")
    return value


def take_int(fields: Fields, key: str) -> int | None:
    """Remove and return a whole number; ``4.0`` is one."""
    value = take_float(fields, key)
    if isinstance(value, float):
        if not value.is_integer():
            raise Malformed(f"{key} is not a whole number")
        return int(value)
    return value


MOST = 10**15
"""No count of anything is larger; a larger one is a mistake."""


def count_of(value: object) -> int:
    """A count: a number from 0 to :data:`MOST`; 0 for anything else, since no count is worth failing an answer for."""
    if type(value) is int:  # nearly always
        return value if 0 <= value <= MOST else 0
    return int(value) if isinstance(value, float) and 0 <= value <= MOST else 0


LAST_SECOND = 253_402_300_799
"""The end of the year 9999, beyond which there are no dates."""


def time_of(value: object) -> int | None:
    """Seconds since 1970, if that is what it is; some vendors send fractions."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= LAST_SECOND:
        return None
    return int(value)


def take_count(fields: Fields, key: str) -> int:
    """Remove and return a token count; see :func:`count_of`."""
    return count_of(fields.pop(key, None))


def take_object(fields: Fields, key: str) -> Fields | None:
    """Remove an object and return a copy of it."""
    value = fields.pop(key, None)
    return None if value is None else object_of(value, key)


def take_list(fields: Fields, key: str, *, lone: bool = True) -> list[object]:
    """Remove and return a list; a ``lone`` object counts as a list of one, as protobuf's JSON readers do."""
    value = fields.pop(key, None)
    if value is None:
        return []
    return [cast("object", value)] if lone and isinstance(value, dict) else list_of(value, key)


def take_texts(fields: Fields, key: str) -> tuple[str, ...]:
    """Remove and return a list of strings; a lone string counts as a list of one."""
    value = fields.pop(key, None)
    texts = [value] if isinstance(value, str) else [] if value is None else list_of(value, key)
    if not all(isinstance(text, str) for text in texts):
        raise Malformed(f"{key} is not a list of strings")
    return tuple(cast("list[str]", texts))


# --- lenient -----------------------------------------------------------------------------------------------


def as_object(value: object) -> Fields:
    """The object, or an empty one."""
    return cast(Fields, value) if isinstance(value, dict) else {}


def as_list(value: object) -> list[object]:
    """The list, or an empty one."""
    return cast("list[object]", value) if isinstance(value, list) else []


def as_objects(value: object) -> list[Fields]:
    """The objects among a list's items."""
    if not isinstance(value, list):
        return []
    items = cast("list[Fields]", value)
    return items if len(items) == 1 and isinstance(items[0], dict) else [one for one in items if isinstance(one, dict)]


def as_text(value: object) -> str:
    """The string, or an empty one."""
    return value if isinstance(value, str) else ""


def words(text: str) -> frozenset[str]:
    """The words of a text, for tables that would be long with one name a line."""
    return frozenset(text.split())


def is_object(value: object) -> TypeGuard[Mapping[str, object]]:
    """A JSON object.  (One built by hand may have keys that are no strings; nobody looks those up.)"""
    return isinstance(value, Mapping)


def is_list(value: object) -> TypeGuard[list[object]]:
    return isinstance(value, list)


def objects(value: object) -> list[Mapping[str, object]]:
    """The objects of a list; of anything else, none."""
    return [item for item in as_list(value) if is_object(item)]


def put(fields: Fields, **values: object) -> Fields:
    """Set those of ``values`` that are not ``None``."""
    for key, value in values.items():
        if value is not None:
            fields[key] = value
    return fields


def merge(into: Fields, more: Mapping[str, object]) -> None:
    """Put ``more`` over ``into``: objects are merged, lists appended, anything else replaced."""
    for key, value in more.items():
        mine = into.get(key)
        if isinstance(mine, dict) and isinstance(value, Mapping):
            merge(cast("Fields", mine), cast("Mapping[str, object]", value))
        elif isinstance(mine, list) and isinstance(value, list):
            into[key] = [*cast("list[object]", mine), *cast("list[object]", value)]
        else:
            into[key] = value


def others(fields: Mapping[str, object], known: Iterable[str]) -> Fields:
    """The fields not in ``known``; null says nothing and is left out."""
    names = known if isinstance(known, frozenset) else frozenset(known)
    return {key: value for key, value in fields.items() if value is not None and key not in names}


def extra_of(wire: str, fields: Fields) -> Extra | None:
    """``fields`` as an Extra of ``wire``, or nothing if there are none."""
    return Extra(wire, fields) if fields else None


def unread(wire: str, fields: Fields) -> Extra | None:
    """What was not taken, for the encoder of the same wire; ``None`` if nothing, or only nulls, is left."""
    return extra_of(wire, others(fields, ()))


def request_extras(wire: str, fields: Fields) -> tuple[Extra, ...]:
    """What was not taken from a request, as the neutral request holds it."""
    extra = unread(wire, fields)
    return (extra,) if extra else ()


def own_fields(extra: Extra | None, wire: str) -> Fields:
    """A copy of the fields of an extra that belongs to ``wire``; empty for any other."""
    return dict(extra.fields) if extra is not None and extra.wire == wire else {}


def decode_base64(text: str) -> bytes:
    """Bytes from base64 in either alphabet, padded or not.  Raises :class:`Malformed` for anything else."""
    tidy = text.strip().rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(tidy + "=" * (-len(tidy) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Malformed(f"not base64: {error}") from error


def encode_base64(data: bytes) -> str:
    """Base64 in the standard alphabet, padded."""
    return base64.b64encode(data).decode("ascii")


def compact(blocks: list[Fields]) -> object:
    """Content: a single plain text as a string, as people write it."""
    return blocks[0]["text"] if len(blocks) == 1 and blocks[0].keys() == {"type", "text"} else blocks


def vector(value: object) -> tuple[float, ...]:
    """A list of numbers."""
    numbers = list_of(value, "a vector")
    if not all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers):
        raise Malformed("a vector holds something that is no number")
    return tuple(cast("list[float]", numbers))


class Whole(Fields):
    """An object as it was parsed, and the text it was parsed from."""

    __slots__ = ("text",)

    def __init__(self, fields: Fields, text: bytes) -> None:
        super().__init__(fields)
        self.text: bytes = text


def forwarded(request: ChatRequest, source: JsonObject) -> Fields:
    """The body a caller sent, with the model and the stream switch of the request as it is now."""
    body: Fields = dict(source)
    if request.model:
        body["model"] = request.model
    if request.stream or "stream" in body:
        body["stream"] = request.stream
    return body


_MODEL = b'"model"'
_NAMED = re.compile(rb'"model"\s*:\s*"([^"\\\x00-\x1f]*)"')


def dump_forwarded(body: Fields, request: ChatRequest) -> bytes:
    """The body of a request: as the caller wrote it where it is theirs with another model, or with something added.
    Raises ``InvalidRequest`` as :func:`dump_request` does."""
    source = None if request.source is None else request.source.fields
    text = _rewritten(source.text, body, source) if isinstance(source, Whole) else None
    return dump_request(body) if text is None else text


def _rewritten(text: bytes, body: Fields, source: Whole) -> bytes | None:
    """The text with the fields of ``body``; ``None`` if that is not as simple as it must be to be safe: the model
    named in one place, which no escape hides."""
    if text[:1] != b"{" or text[-1:] != b"}" or b"\\u00" in text or text.count(_MODEL) != ("model" in source):
        return None
    if not source or not source.keys() <= body.keys():
        return None
    added = {key: value for key, value in body.items() if key not in source}
    changed = [key for key, value in source.items() if body[key] is not value and body[key] != value]
    if changed == ["model"]:
        named = _NAMED.search(text)
        if named is None or named[1] != str(source["model"]).encode(errors="replace"):
            return None
        text = b'%b"model":%b%b' % (text[: named.start()], dump_request(body["model"]), text[named.end() :])
    elif changed:
        return None
    return b"%b,%b" % (text[:-1], dump_request(added)[1:]) if added else text


def reading_request(wire: str, body: bytes, read: Callable[[Fields], Read]) -> Read:
    """``read`` of the object in ``body``, with what is malformed reported as the caller's fault."""
    try:
        return read(Whole(parse_object(body, "the body", as_written=True), body))
    except Malformed as error:
        raise InvalidRequest(f"not a request for {wire}: {error}") from error


def reading_answer(wire: str, body: bytes, read: Callable[[Fields], Read]) -> Read:
    """``read`` of the object in ``body``, with what is malformed reported as the provider's fault."""
    payload: object = None
    try:
        payload = parse(body)
        return read(object_of(payload, "the answer"))
    except Malformed as error:
        raise InvalidAnswer(f"not an answer of {wire}: {error}", payload) from error
