"""Reading settings: layers in, a checked :class:`Settings` out, or everything that is wrong with them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path as FilePath
from typing import Final, TypeAlias

from resilient_llm.operate.secrets.held import TTL, Secret
from resilient_llm.operate.secrets.reference import Reference
from resilient_llm.operate.settings.kinds import Table
from resilient_llm.operate.settings.layers import (
    ENVIRONMENT,
    PREFIX,
    Tree,
    environment_file,
    misspelt_variables,
    put_file,
    put_mapping,
    put_variables,
)
from resilient_llm.operate.settings.places import Path
from resilient_llm.operate.settings.problems import Origin, Problem, Problems, SettingsError
from resilient_llm.operate.settings.providers import Known, ProviderReader, Routes
from resilient_llm.operate.settings.sections import SecretSettings, section
from resilient_llm.operate.settings.shape import client_fields, whole

Source: TypeAlias = "str | os.PathLike[str] | Mapping[str, object] | None"
"""A file (.toml, .yaml), a mapping, or ``None``: the environment variables alone."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings that are fit for use."""

    routes: Routes
    """Names of routes -> tiers of providers."""
    options: Mapping[str, object]
    """Settings of the client, as its constructor takes them."""
    sections: Mapping[str, object]
    """What other parts of ``operate`` have in the file."""
    origins: Mapping[Path, Origin]
    """Where each value came from; what is not there has its default."""
    values: Mapping[str, object] = field(repr=False)
    """All layers in one, as written."""
    files: tuple[FilePath, ...] = ()
    """The files that were read, and that of the environment if there was none."""
    environment: str | None = None
    """Its name, as ``production``; ``None``: none is named."""
    warnings: tuple[Problem, ...] = ()
    secrets: tuple[Secret, ...] = ()
    """The secrets that are named in them, each once."""
    known: Known = field(default_factory=Known, repr=False)
    """What a later reading may use again."""


def read(
    source: Source = None,
    *,
    environment: str | None = None,
    arguments: Mapping[str, object] | None = None,
    known: Known | None = None,
    needs_keys: bool = True,
) -> Settings:
    """Read settings: defaults < file < the environment's file < environment variables < arguments.

    ``environment`` names the second file, ``resilient.production.toml`` beside ``resilient.toml``; ``None``:
    ``APP_ENV`` does, if it is set and there is such a file.  Raises ``SettingsError`` with everything that is wrong.
    Nothing is sent and no secret is fetched, but for those of headers.  ``needs_keys=False``: providers whose key is
    neither named nor in the environment are made without one; for who wants to look at them and not to ask them.
    """
    tree, environment = collected(source, environment, arguments or {})
    reading = Problems({(): Origin(str(tree.files[0])), **tree.origins} if tree.files else tree.origins)
    table = whole(tree.values)
    ttl = _ttl(tree.values, table, reading)
    fresh = Known() if known is None else Known(dict(known.held), dict(known.providers))
    secrets: dict[str, Secret] = {}
    reading.secret = _noting(partial(fresh.secret, ttl=ttl), secrets)
    values, _ = table.values({name: one for name, one in tree.values.items() if name not in _READ_APART}, (), reading)
    reader = ProviderReader(reading, fresh, ttl, needs_keys=needs_keys)
    routes = reader.routes(tree.values.get("providers"), tree.values.get("routes"))
    if routes is not None:
        _check_sections(routes, values, reading)
    else:
        with suppress(AttributeError):  # of a check that wants to know more of a provider than its name
            _check_sections(reader.outline(tree.values.get("routes")), values, reading)
    _warn_of_variables(reading)
    reading.raise_errors()
    assert routes is not None
    fresh.held = {key: one for key, one in fresh.held.items() if key[0] in secrets and key[1] == ttl}
    fields = client_fields()
    return Settings(
        routes,
        {name: one for name, one in values.items() if name in fields},
        {name: one for name, one in values.items() if name not in fields},
        tree.origins,
        tree.values,
        tuple(tree.files),
        environment,
        reading.warnings,
        tuple(secrets.values()),
        fresh,
    )


_READ_APART: Final = ("providers", "routes")


def _check_sections(routes: Routes, values: Mapping[str, object], problems: Problems) -> None:
    for name in values.keys() - client_fields().keys():
        check = section(name).check
        for path, message in () if check is None else check(routes, values[name]):
            problems.tell((name, *path), message)


def _warn_of_variables(problems: Problems) -> None:
    for name in misspelt_variables():
        meant = f"did you mean {PREFIX}{name.removeprefix(PREFIX[:-1])}?"
        problems.found.append(Problem("", "it is no setting", Origin(f"variable {name}"), meant, "warning"))


def _noting(secret: Callable[[Reference], Secret], given: dict[str, Secret]) -> Callable[[Reference], Secret]:
    """The same, which writes down one for each reference."""

    def noted(reference: Reference) -> Secret:
        found = secret(reference)
        given.setdefault(f"{reference.store}:{reference.path}", found)
        return found

    return noted


def _ttl(values: Mapping[str, object], table: Table, problems: Problems) -> float:
    """How long secrets are kept, which must be known before any is made."""
    if "secrets" not in values:
        return TTL
    found = table.fields["secrets"].kind.read(values["secrets"], ("secrets",), problems.aside())
    return found.ttl if isinstance(found, SecretSettings) else TTL


def collected(source: Source, environment: str | None, arguments: Mapping[str, object]) -> tuple[Tree, str | None]:
    """All layers in one tree, and the name of the environment."""
    tree = Tree()
    named = environment is not None
    environment = environment if named else os.environ.get(ENVIRONMENT) or None
    if isinstance(source, Mapping):
        put_mapping(tree, source, "mapping")
    elif source is not None:
        path = FilePath(source)
        put_file(tree, path)
        _put_environment(tree, path, environment, named=named)
    put_variables(tree)
    put_mapping(tree, arguments, "argument")
    return tree, environment


def _put_environment(tree: Tree, path: FilePath, environment: str | None, *, named: bool) -> None:
    if environment is None:
        return
    beside = environment_file(path, environment)
    if beside.exists():
        put_file(tree, beside)
    elif named:
        problem = Problem("", f"there is no such file for the environment {environment!r}", Origin(str(beside)))
        raise SettingsError([problem])
    else:
        tree.files.append(beside)
