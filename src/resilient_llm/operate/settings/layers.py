"""Where settings come from: a file, the file of the environment, variables, arguments; the later ones go first.

Each layer is a tree of plain values and the origin of each.  Tables are merged key by key, everything else is replaced
as a whole.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path as FilePath
from typing import Final, Protocol, cast

from resilient_llm.operate.settings.kinds import Raw
from resilient_llm.operate.settings.places import Node, Path, toml_lines, yaml_lines
from resilient_llm.operate.settings.problems import Origin, Problem, SettingsError

PREFIX: Final = "RESILIENT_LLM__"
"""Variables that begin like this are settings: ``RESILIENT_LLM__RETRY__MAX_ATTEMPTS``."""
ENVIRONMENT: Final = "APP_ENV"
"""The variable that names the environment if nobody else does."""


@dataclass(slots=True)
class Tree:
    """Values, and where each came from."""

    values: dict[str, object] = field(default_factory=dict[str, object])
    origins: dict[Path, Origin] = field(default_factory=dict[Path, Origin])
    files: list[FilePath] = field(default_factory=list[FilePath])
    """The files that were read, or looked for."""

    def put(self, values: Mapping[str, object], origins: Mapping[Path, Origin]) -> None:
        """Lay other values over these."""
        _merge(self.values, values, (), self.origins, origins)


def _merge(
    base: dict[str, object],
    over: Mapping[str, object],
    path: Path,
    origins: dict[Path, Origin],
    others: Mapping[Path, Origin],
) -> None:
    for key, value in over.items():
        name = str(key)
        here = (*path, name)
        below = base.get(name)
        if isinstance(below, dict) and _is_table(value):
            _merge(cast("dict[str, object]", below), _table(value), here, origins, others)
            continue
        for old in [one for one in origins if one[: len(here)] == here]:
            del origins[old]
        origins.update({one: origin for one, origin in others.items() if one[: len(here)] == here})
        base[name] = _copied(value)


def _copied(value: object) -> object:
    """Tables are merged into later, and the user's must stay as they are."""
    table = _table(value)
    return {str(key): _copied(one) for key, one in table.items()} if isinstance(value, Mapping) else value


# --- files ---


def put_file(tree: Tree, path: FilePath) -> None:
    """Lay a file's settings over a tree.  Raises ``SettingsError`` for a file that cannot be read or parsed."""
    tree.files.append(path)
    name = str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise SettingsError([Problem("", "it is not UTF-8", Origin(name))]) from None
    except OSError as error:
        raise SettingsError([Problem("", _unreadable(path, error), Origin(name))]) from None
    if path.suffix in (".yaml", ".yml"):
        values, lines = _yaml(text, name)
    elif path.suffix == ".toml":
        values, lines = _toml(text, name)
    else:
        raise SettingsError([Problem("", "it must be a .toml or a .yaml file", Origin(name))])
    tree.put(values, {where: Origin(name, line) for where, line in lines.items()})


def _unreadable(path: FilePath, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        near = get_close_matches(path.name, _names_in(path.parent), n=1, cutoff=0.6)
        return f"there is no such file; did you mean {path.with_name(near[0])}?" if near else "there is no such file"
    return f"it cannot be read: {error.strerror or type(error).__name__}"


def _names_in(folder: FilePath) -> list[str]:
    try:
        return [one.name for one in folder.iterdir() if one.suffix in (".toml", ".yaml", ".yml")]
    except OSError:
        return []


def _toml(text: str, name: str) -> tuple[dict[str, object], dict[Path, int]]:
    try:
        values: dict[str, object] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r" \(at line (\d+), column \d+\)", str(error))
        line = int(found[1]) if found else text.count("\n") + 1
        told = str(error).partition(" (at ")[0]
        raise SettingsError([Problem("", f"it is not TOML: {told}", Origin(name, line))]) from None
    return values, toml_lines(text)


class _Yaml(Protocol):
    SafeLoader: type
    YAMLError: type[Exception]

    def compose(self, stream: str, Loader: type) -> Node | None: ...  # noqa: N803 - the library's name

    def safe_load(self, stream: str) -> object: ...


def _yaml(text: str, name: str) -> tuple[dict[str, object], dict[Path, int]]:
    try:
        yaml = cast(_Yaml, import_module("yaml"))
    except ImportError:
        needs = "YAML needs pip install 'resilient-llm[yaml]'; TOML needs nothing"
        raise SettingsError([Problem("", needs, Origin(name))]) from None
    try:
        values = yaml.safe_load(text)
        lines = yaml_lines(yaml.compose(text, Loader=yaml.SafeLoader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        told = getattr(error, "problem", None) or type(error).__name__
        origin = Origin(name, None if mark is None else mark.line + 1)
        raise SettingsError([Problem("", f"it is not YAML: {told}", origin)]) from None
    if values is None:
        return {}, {}
    if not isinstance(values, dict):
        raise SettingsError([Problem("", "it must be a table of settings", Origin(name, 1))])
    return {str(key): value for key, value in cast("dict[object, object]", values).items()}, lines


def environment_file(path: FilePath, environment: str) -> FilePath:
    """``resilient.production.toml`` beside ``resilient.toml``."""
    return path.with_name(f"{path.stem}.{environment}{path.suffix}")


# --- mappings, variables, arguments ---


def put_mapping(tree: Tree, values: Mapping[str, object], source: str) -> None:
    """Lay settings given in code over a tree; ``source`` is how their origin is called."""
    tree.put(values, dict.fromkeys(_paths(values, ()), Origin(source)))


def _paths(value: object, path: Path) -> Iterator[Path]:
    for name, one in _table(value).items():
        yield (*path, str(name))
        yield from _paths(one, (*path, str(name)))


def put_variables(tree: Tree, variables: Mapping[str, str] | None = None) -> None:
    """Lay the settings in environment variables over a tree (``None``: this process's)."""
    found = os.environ if variables is None else variables
    for name in sorted(one for one in found if one.startswith(PREFIX)):
        path = _path_of(name.removeprefix(PREFIX).split("__"), tree.values)
        values: dict[str, object] = {path[-1]: Raw(found[name])}
        for part in reversed(path[:-1]):
            values = {part: values}
        origin = Origin(f"variable {name}")
        tree.put(values, {path[:length]: origin for length in range(1, len(path) + 1)})


def misspelt_variables() -> list[str]:
    """The variables that begin almost like settings, with one underscore."""
    almost = PREFIX[:-1]
    return sorted(name for name in os.environ if name.startswith(almost) and not name.startswith(PREFIX))


def _path_of(parts: list[str], values: Mapping[str, object]) -> tuple[str, ...]:
    """The keys that parts of a variable's name stand for; those of the user's, as ids of providers, are found whatever
    their case and whatever is no letter in them."""
    path: list[str] = []
    here: object = values
    for part in parts:
        table = _table(here)
        name = next((key for key in table if _canonical(key) == _canonical(part)), part.lower())
        path.append(name)
        here = table.get(name)
    return tuple(path)


def _is_table(value: object) -> bool:
    return isinstance(value, Mapping)


def _table(value: object) -> Mapping[str, object]:
    return cast("Mapping[str, object]", value) if isinstance(value, Mapping) else {}


def _canonical(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "_", name.lower())
