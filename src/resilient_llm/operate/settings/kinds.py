"""What a setting may be.  A :class:`Kind` reads a value, telling everything that is wrong with it, and describes itself
as JSON Schema."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias, cast, final

from resilient_llm.errors import ConfigurationError
from resilient_llm.operate.secrets.reference import Reference
from resilient_llm.operate.settings.places import Path
from resilient_llm.operate.settings.problems import Problems, guess

Schema: TypeAlias = dict[str, object]

NONE_WORD: Final = "none"
"""What stands for ``None`` where a file has no word of its own for it."""


@final
class Bad:
    """Stands for a value that was told to be wrong."""


BAD: Final = Bad()


class Raw(str):
    """Text from an environment variable: what it is depends on what is wanted."""

    __slots__ = ()


class Kind(Protocol):
    """What a value may be."""

    @property
    def words(self) -> str:
        """In words, as ``a whole number``."""
        ...

    def read(self, value: object, path: Path, problems: Problems) -> object:
        """The value as the code takes it; :data:`BAD` if it is none, after that was told."""
        ...

    def schema(self) -> Schema:
        """As JSON Schema."""
        ...


@dataclass(frozen=True, slots=True)
class Scalar:
    """A value without parts."""

    words: str
    json: Mapping[str, object]
    fits: Callable[[object], bool]

    def read(self, value: object, path: Path, problems: Problems) -> object:
        plain = _plain(value) if isinstance(value, Raw) and not self.fits("") else value
        plain = str(plain) if isinstance(plain, Raw) else plain
        if self.fits(plain):
            return plain
        problems.tell(path, f"must be {self.words}, not {_shown(value)}")
        return BAD

    def schema(self) -> Schema:
        return dict(self.json)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


NUMBER: Final = Scalar("a number", {"type": "number"}, _is_number)
SECONDS: Final = Scalar(
    "a number of seconds above 0",
    {"type": "number", "exclusiveMinimum": 0},
    lambda value: _is_number(value) and cast(float, value) > 0,
)
WHOLE: Final = Scalar(
    "a whole number", {"type": "integer"}, lambda value: isinstance(value, int) and not isinstance(value, bool)
)
TRUTH: Final = Scalar("true or false", {"type": "boolean"}, lambda value: isinstance(value, bool))
TEXT: Final = Scalar("a text", {"type": "string"}, lambda value: isinstance(value, str))
NOTHING: Final = Scalar("none", {"const": None}, lambda value: value is None)
ANYTHING: Final = Scalar("any value", {}, lambda value: True)


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of some values; ``made``: what the code takes instead, by value."""

    values: tuple[object, ...]
    made: Mapping[object, object] | None = None

    @property
    def words(self) -> str:
        return " or ".join(map(repr, self.values))

    def read(self, value: object, path: Path, problems: Problems) -> object:
        plain = _plain(value) if isinstance(value, Raw) and str(value) not in self.values else value
        if plain in self.values:
            return plain if self.made is None else self.made[plain]
        close = guess(str(value), [str(one) for one in self.values]) if isinstance(value, str) else ""
        problems.tell(path, f"must be {self.words}, not {_shown(value)}", close if "mean" in close else "")
        return BAD

    def schema(self) -> Schema:
        return {"enum": list(self.values)}


@dataclass(frozen=True, slots=True)
class Optional:
    """A value, or ``None``, which may be written ``"none"``."""

    inner: Kind

    @property
    def words(self) -> str:
        return f"{self.inner.words} or {NONE_WORD!r}"

    def read(self, value: object, path: Path, problems: Problems) -> object:
        if value is None or (isinstance(value, str) and value == NONE_WORD):
            return None
        return self.inner.read(value, path, problems)

    def schema(self) -> Schema:
        return {"anyOf": [self.inner.schema(), {"const": NONE_WORD}, {"type": "null"}]}


@dataclass(frozen=True, slots=True)
class AnyOf:
    """What one of several kinds takes, the first that does."""

    kinds: tuple[Kind, ...]

    @property
    def words(self) -> str:
        return " or ".join(kind.words for kind in self.kinds)

    def read(self, value: object, path: Path, problems: Problems) -> object:
        for kind in self.kinds:
            found = kind.read(value, path, problems.aside())
            if found is not BAD:
                return found
        problems.tell(path, f"must be {self.words}, not {_shown(value)}")
        return BAD

    def schema(self) -> Schema:
        return {"anyOf": [kind.schema() for kind in self.kinds]}


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list; in an environment variable, also words with commas between them."""

    element: Kind

    @property
    def words(self) -> str:
        return f"a list, each element {self.element.words}"

    def read(self, value: object, path: Path, problems: Problems) -> object:
        if isinstance(value, Raw):
            value = split(value)
        elements = _elements(value)
        if elements is None:
            problems.tell(path, f"must be {self.words}, not {_shown(value)}")
            return BAD
        made = [self.element.read(one, (*path, index), problems) for index, one in enumerate(elements)]
        return BAD if BAD in made else tuple(made)

    def schema(self) -> Schema:
        return {"type": "array", "items": self.element.schema()}


@dataclass(frozen=True, slots=True)
class MapOf:
    """A table with names of the user's."""

    element: Kind

    @property
    def words(self) -> str:
        return f"a table, each value {self.element.words}"

    def read(self, value: object, path: Path, problems: Problems) -> object:
        value = _plain(value) if isinstance(value, Raw) else value
        if not isinstance(value, Mapping):
            problems.tell(path, f"must be {self.words}, not {_shown(value)}")
            return BAD
        held = cast("Mapping[object, object]", value)
        made = {str(name): self.element.read(one, (*path, str(name)), problems) for name, one in held.items()}
        return BAD if BAD in made.values() else made

    def schema(self) -> Schema:
        return {"type": "object", "additionalProperties": self.element.schema()}


@dataclass(frozen=True, slots=True)
class SecretReference:
    """A secret, which is named and never given.  Callables are taken as they are: they come from code."""

    words: str = "a reference to a secret, as env:NAME"

    def read(self, value: object, path: Path, problems: Problems) -> object:
        if callable(value):
            return value
        if not isinstance(value, str):
            problems.tell(path, f"must be {self.words}, not a {type(value).__name__}")
            return BAD
        try:
            return problems.secret(Reference.parse(str(value)))
        except ConfigurationError as error:
            problems.tell(path, str(error))
            return BAD

    def schema(self) -> Schema:
        return {"type": "string", "pattern": "^(env|file|keyring|vault|aws|gcp|azure|plain):.+"}


@dataclass(frozen=True, slots=True)
class Field:
    """One key of a table."""

    kind: Kind
    required: bool = False
    default: object = None
    words: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table with known keys, of which ``build`` makes what the code takes; ``unknown`` says which key was meant."""

    fields: Mapping[str, Field]
    build: Callable[..., object]
    made: tuple[type, ...] = ()
    """What is taken as it is, where settings are given in code."""
    description: str = ""
    unknown: Callable[[str, Iterable[str]], str] = guess

    @property
    def words(self) -> str:
        return "a table"

    def read(self, value: object, path: Path, problems: Problems) -> object:
        if self.made and isinstance(value, self.made):
            return value
        value = _plain(value) if isinstance(value, Raw) else value
        if not isinstance(value, Mapping):
            problems.tell(path, f"must be a table, not {_shown(value)}")
            return BAD
        table = cast("Mapping[str, object]", value)
        read, whole = self.values(table, path, problems)
        if whole:
            return built(self.build, read, path, problems)
        # Look for what else is wrong, with something in the place of what must be there.
        needed = {name: no_key for name, field in self.fields.items() if field.required and name not in read}
        built(self.build, {**read, **needed}, path, problems, told=needed)
        return BAD

    def values(self, value: Mapping[str, object], path: Path, problems: Problems) -> tuple[dict[str, object], bool]:
        """The values that are of their kinds, and whether all are."""
        read: dict[str, object] = {}
        whole = True
        for name, one in value.items():
            field = self.fields.get(name)
            if field is None:
                problems.tell((*path, name), "there is no such setting", self.unknown(name, self.fields))
                whole = False
                continue
            found = field.kind.read(one, (*path, name), problems)
            if found is BAD:
                whole = False
            else:
                read[name] = found
        for name, field in self.fields.items():
            if field.required and name not in value:
                problems.tell(path, f"needs {name}, {field.kind.words}")
                whole = False
        return read, whole

    def schema(self) -> Schema:
        found: Schema = {"type": "object", "additionalProperties": False}
        if self.description:
            found["description"] = self.description
        found["properties"] = {name: _field_schema(field) for name, field in self.fields.items()}
        required = [name for name, field in self.fields.items() if field.required]
        if required:
            found["required"] = required
        return found


def _field_schema(field: Field) -> Schema:
    found = field.kind.schema()
    if field.words:
        found = {**found, "description": field.words}
    if isinstance(field.default, int | float | str) and field.default != math.inf:
        found = {**found, "default": field.default}
    return found


# --- making ---


def built(
    build: Callable[..., object],
    values: Mapping[str, object],
    path: Path,
    problems: Problems,
    *,
    stand_ins: Mapping[str, object] | None = None,
    told: Iterable[str] = (),
) -> object:
    """What ``build(**values)`` makes; :data:`BAD` after every value it objects to was told, each by itself.

    The values are left out one by one as they are objected to, so that the next one is found too.  Where it objects to
    a value that is not there, ``stand_ins`` take its place, for the same reason.  Nothing is said of what was ``told``
    to be wrong before.
    """
    left, dropped = dict(values), set(told)
    certain = not dropped
    waiting = dict(stand_ins or {})
    while True:
        try:
            made = build(**left)
        except (ConfigurationError, TypeError, ValueError) as error:
            text = str(error)
        else:
            return BAD if dropped else made
        if any(_names(name, text) for name in dropped):
            return BAD  # a consequence of what was left out
        culprit = next((name for name in left if _names(name, text)), "")
        if not culprit and not certain:
            return BAD
        problems.tell((*path, culprit) if culprit else path, text)
        if not culprit and not waiting:
            return BAD
        if culprit:
            del left[culprit]
        else:
            left, waiting = {**left, **waiting}, {}
        dropped.add(culprit or "\0")


def no_key() -> str:
    """Stands for what is missing, so that what else is wrong can be found."""
    return ""


def _elements(value: object) -> list[object] | None:
    """Those of a list; ``None`` if it is none."""
    if isinstance(value, str | Mapping) or not isinstance(value, Sequence | AbstractSet):
        return None
    return list(cast("Iterable[object]", value))


def _names(name: str, text: str) -> bool:
    """Whether a message is about this setting: most name it, some as ``name=``."""
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text) is not None


def split(text: str) -> Sequence[object]:
    """The elements of a list in an environment variable."""
    plain = _plain(text)
    if isinstance(plain, list):
        return [Raw(one) if isinstance(one, str) else one for one in cast("list[object]", plain)]
    return [Raw(one.strip()) for one in text.split(",") if one.strip()]


def _plain(text: str) -> object:
    """The number, truth, list or table that a text is in TOML; else the text."""
    word = text.strip()
    if word.lower() in ("true", "false"):
        return word.lower() == "true"
    for number in (int, float):
        try:
            return number(word)
        except ValueError:
            continue
    if word[:1] in ("[", "{"):
        try:
            return tomllib.loads(f"value = {word}")["value"]
        except tomllib.TOMLDecodeError:
            return str(text)
    return str(text)


def _shown(value: object) -> str:
    if isinstance(value, str | int | float | bool | None):
        return repr(value) if not isinstance(value, str) else repr(str(value))[:80]
    return "a table" if isinstance(value, Mapping) else f"a {type(value).__name__}"
