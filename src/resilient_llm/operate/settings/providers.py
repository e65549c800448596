"""Providers and routes in settings: what may be written, and what is made of it."""

from __future__ import annotations

import functools
import hashlib
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Final, TypeAlias, cast

from resilient_llm import providers as vendors
from resilient_llm.drive.core import AnyProvider
from resilient_llm.keywords import unknown
from resilient_llm.operate.secrets.held import TTL, Held, Secret
from resilient_llm.operate.secrets.reference import Reference
from resilient_llm.operate.secrets.stores import AT_ONCE
from resilient_llm.operate.settings.annotations import hints, kind_of
from resilient_llm.operate.settings.kinds import (
    BAD,
    NUMBER,
    TEXT,
    Field,
    Raw,
    Schema,
    Table,
    built,
    no_key,
    split,
)
from resilient_llm.operate.settings.places import Path
from resilient_llm.operate.settings.problems import Problems, guess
from resilient_llm.providers.base import LINES, HttpProvider, ProviderOptions
from resilient_llm.providers.custom import Function
from resilient_llm.providers.secrecy import holds_credentials

Tiers: TypeAlias = list[list[AnyProvider]]
Routes: TypeAlias = dict[str, Tiers]

_PLACE: Final = {
    "kind": Field(TEXT, required=True, words="whose API it is: a class of resilient_llm.providers, as OpenAI"),
    "model": Field(TEXT, required=True, words="the model, or the name of its deployment"),
    "tier": Field(NUMBER, words="providers with the same number are equals; the lowest are asked first"),
}
"""What a provider's table has besides the options of its class."""
_NOT_LOOKED_UP: Final = "***"
"""Stands for a secret where none is needed."""
_CREDENTIALS: Final = frozenset({"api_key", "api_keys", "token", "profile"})


@dataclass(slots=True)
class Known:
    """What an earlier reading made, so that a reload keeps what has not changed."""

    held: dict[tuple[str, float], Held] = field(default_factory=dict[tuple[str, float], Held], repr=False)
    providers: dict[str, AnyProvider] = field(default_factory=dict[str, AnyProvider])

    def secret(self, reference: Reference, ttl: float = TTL) -> Secret:
        """A secret for one provider; what its store said is shared with the others that name it."""
        key = (f"{reference.store}:{reference.path}", ttl)
        if key not in self.held:
            self.held[key] = Held(reference, ttl, None, time.monotonic)
        return Secret(reference, ttl=ttl, held=self.held[key])


@functools.cache
def kinds() -> Mapping[str, type[HttpProvider]]:
    """The providers that can be named in settings, by the names of their classes."""
    found = {name: getattr(vendors, name) for name in vendors.__all__}
    return {
        name: one
        for name, one in found.items()
        if isinstance(one, type) and issubclass(one, HttpProvider) and one is not HttpProvider
    }


@functools.cache
def _normal_kinds() -> Mapping[str, type[HttpProvider]]:
    return {_normal(name): one for name, one in kinds().items()}


def _normal(name: str) -> str:
    """``azure-openai``, ``azure_openai`` and ``AzureOpenAI`` are one."""
    return name.lower().replace("-", "").replace("_", "")


def options_of(kind: type[HttpProvider]) -> Table:
    """The table of a provider: the options every provider has, and those of its own constructor."""
    return _options_of(kind.__name__)


@functools.cache
def _options_of(name: str) -> Table:
    kind = kinds()[name]
    own = hints(kind.__init__)
    annotations = {**{name: own[name] for name in own if name not in ("model", "options", "return")}, **_common()}
    found: dict[str, Field] = dict(_PLACE)
    for option, annotation in annotations.items():
        made = kind_of(annotation)
        if made is not None:
            found[option] = Field(made, words=LINES.get(option, ""))
    return Table(found, kind, unknown=lambda name, known: unknown(name, known, "provider option").partition("; ")[2])


def _common() -> dict[str, object]:
    return hints(ProviderOptions)


def provider_schema() -> Schema:
    """One provider as JSON Schema: a table with every option that any of them has, or ``vendor/model``."""
    properties: dict[str, Field] = {}
    for kind in kinds().values():
        properties |= {name: one for name, one in options_of(kind).fields.items() if name not in properties}
    table = Table(properties, dict, description="A provider.").schema()
    shown = cast("dict[str, Schema]", table["properties"])
    shown["kind"] = {**shown["kind"], "examples": sorted(kinds())}
    return {"anyOf": [{"type": "string", "pattern": "^[A-Za-z_-]+/.+"}, table]}


# --- reading ---


@dataclass(slots=True)
class _Declared:
    provider: AnyProvider
    tier: float
    path: Path


class ProviderReader:
    """Reads providers and routes; ``known`` has what may be used again."""

    def __init__(self, problems: Problems, known: Known, ttl: float = TTL, *, needs_keys: bool = True) -> None:
        self._problems = problems
        self._known = known
        self._ttl = ttl
        self._needs_keys = needs_keys
        self._made: dict[str, AnyProvider] = {}
        self._declared: list[_Declared] = []
        self._broken: set[str] = set()  # ids of those that were told to be wrong
        self._bad = False

    def routes(self, providers: object, routes: object) -> Routes | None:
        """The routes that ``providers`` and ``routes`` of the settings describe (``None``: not given); ``None`` after
        what is wrong was told."""
        if providers is None and routes is None:
            meant = 'write providers = ["openai/gpt-5.2"], say'
            if self._problems.origin(()) is None:  # there is no file
                meant = "name a settings file, or set RESILIENT_LLM__PROVIDERS=openai/gpt-5.2, say"
            self._problems.tell((), "needs providers", meant)
            return None
        if providers is not None:
            self._declare(providers)
        found = self._named(routes) if routes is not None else {"default": self._tiers()}
        self._known.providers = self._made
        return None if self._bad else found

    def outline(self, routes: object) -> Routes:
        """The routes by their names alone, each with all providers, to look for wrong names where some are wrong."""
        ids = [*(one.provider.id for one in self._declared), *self._broken]
        names = list(cast("Mapping[str, object]", routes)) if isinstance(routes, Mapping) else ["default"]
        everybody = [cast(AnyProvider, SimpleNamespace(id=name)) for name in ids]
        return {name: [everybody] for name in names}

    def _tell(self, path: Path, message: str, suggestion: str = "") -> None:
        self._bad = True
        self._problems.tell(path, message, suggestion)

    def _declare(self, providers: object) -> None:
        path: Path = ("providers",)
        if isinstance(providers, Raw):
            providers = split(providers)
        if isinstance(providers, Mapping):
            for position, (name, one) in enumerate(cast("Mapping[str, object]", providers).items(), 1):
                self._add(one, (*path, name), position, name)
        elif isinstance(providers, Sequence) and not isinstance(providers, str):
            for index, one in enumerate(cast("Sequence[object]", providers)):
                if not isinstance(one, list | tuple):
                    self._add(one, (*path, index), index + 1)
                    continue
                for place, member in enumerate(cast("Sequence[object]", one)):
                    self._add(member, (*path, index, place), index + 1)
        else:
            self._tell(path, "must be a list of providers, or tables [providers.NAME]")
        if not self._declared and not self._bad:
            self._tell(path, "is empty; name at least one provider")

    def _add(self, value: object, path: Path, position: float, name: str | None = None) -> None:
        made = self._provider(value, path, name)
        if made is None:
            self._bad = True
            self._broken.add(name or _id_of(value))
            return
        provider, tier = made
        twin = next((one for one in self._declared if one.provider.id == provider.id), None)
        if twin is not None:
            where = self._problems.origin(twin.path)
            self._tell(path, f"the id {provider.id!r} is taken by another provider ({where}); give one of them an id")
            return
        self._declared.append(_Declared(provider, position if tier is None else tier, path))

    def _tiers(self) -> Tiers:
        tiers: dict[float, list[AnyProvider]] = {}
        for one in self._declared:
            tiers.setdefault(one.tier, []).append(one.provider)
        return [tiers[number] for number in sorted(tiers)]

    # --- one provider ---

    def _provider(self, value: object, path: Path, name: str | None) -> tuple[AnyProvider, float | None] | None:
        if isinstance(value, HttpProvider | Function) or (
            hasattr(value, "id") and callable(getattr(value, "chat", None))
        ):
            return cast(AnyProvider, value), None
        if isinstance(value, str):
            value = self._spelt_out(value, path)
        if not isinstance(value, Mapping):
            if value is not None:
                self._tell(path, 'must be a table, or a text as "openai/gpt-5.2"')
            return None
        table = cast("Mapping[str, object]", value)
        kind = self._kind(table.get("kind"), path)
        if name is not None and "id" in table:
            self._tell((*path, "id"), f"the id of a named provider is its name, {name!r}")
        if kind is None:
            return None
        return self._from_table(kind, {**table, "kind": kind.__name__}, path, name)

    def _spelt_out(self, text: str, path: Path) -> Mapping[str, object] | None:
        kind, slash, model = text.partition("/")
        if not slash or not model:
            self._tell(path, f'must be VENDOR/MODEL, as "openai/gpt-5.2", not {text!r}')
            return None
        return {"kind": kind, "model": model}

    def _kind(self, value: object, path: Path) -> type[HttpProvider] | None:
        if value is None:
            self._tell(path, "needs kind, whose API it is", f"there are {', '.join(kinds())}")
            return None
        found = _normal_kinds().get(_normal(str(value)))
        if found is None:
            close = guess(_normal(str(value)), _normal_kinds())
            close = close if "mean" in close else f"there are {', '.join(kinds())}"
            self._tell((*path, "kind"), f"there is no provider {str(value)!r}", close)
        return found

    def _from_table(
        self, kind: type[HttpProvider], table: Mapping[str, object], path: Path, name: str | None
    ) -> tuple[AnyProvider, float | None] | None:
        read, whole = options_of(kind).values(table, path, self._problems)
        read.pop("kind", None)
        tier, model = read.pop("tier", None), read.pop("model", None)
        if "headers" in read:
            whole = self._headers(read, path) and whole
        whole = self._network(read, path) and whole
        if name is not None:
            read["id"] = name
        named = isinstance(model, str)
        if "model" not in table:
            return None
        fingerprint = _digest((kind.__name__, model, self._ttl, _comparable(table), _resolved(read), name))
        if whole and fingerprint in self._known.providers:
            made: object = self._known.providers[fingerprint]
        else:
            told = _CREDENTIALS & (table.keys() - read.keys())  # to be wrong, already
            given = read | {one: [no_key] if one == "api_keys" else no_key for one in told}
            stand_ins = None if given.keys() & _CREDENTIALS else {"api_key": no_key}
            if not self._needs_keys:
                given, stand_ins = given | (stand_ins or {}), None
            make = functools.partial(kind, model if isinstance(model, str) else "model")
            made = built(make, given, path, self._problems, stand_ins=stand_ins)
        if made is BAD or not whole or not named:
            return None
        provider = cast(AnyProvider, made)
        self._made[fingerprint] = provider
        return provider, cast("float | None", tier)

    def _headers(self, read: dict[str, object], path: Path) -> bool:
        """Credentials in headers are named too."""
        headers = dict(cast("Mapping[str, str]", read["headers"]))
        fine = True
        for name, value in headers.items():
            found = self._named_secret(value, (*path, "headers", name), holds_credentials([(name, value)]))
            headers[name], fine = found or value, fine and found is not None
        read["headers"] = headers
        return fine

    def _network(self, read: dict[str, object], path: Path) -> bool:
        """So are the URL of a proxy with a password, and the password of a certificate's key."""
        proxy, cert, fine = read.get("proxy"), read.get("cert"), True
        if isinstance(proxy, str):
            found = self._named_secret(proxy, (*path, "proxy"), "@" in proxy)
            read["proxy"], fine = None if found == _NOT_LOOKED_UP else found, found is not None
        if isinstance(cert, tuple) and len(cast("tuple[str, ...]", cert)) == len(("file", "key", "password")):
            file, key, written = cast("tuple[str, ...]", cert)
            password = self._named_secret(written, (*path, "cert", 2), True)
            read["cert"], fine = (file, key, password), fine and password is not None
        if not fine:
            read.pop("proxy", None)
            read.pop("cert", None)
        if not self._needs_keys:
            _leave_files(read)
        return fine

    def _named_secret(self, value: str, path: Path, secret: bool) -> str | None:
        """What a value refers to, from the stores that answer at once; ``None`` after it was told to be wrong.
        ``secret``: it is one itself, if it is no reference."""
        if value.partition(":")[0] in AT_ONCE:
            if not self._needs_keys:
                return _NOT_LOOKED_UP
            try:
                return Secret(Reference.parse(value))()
            except Exception as error:
                self._tell(path, str(error))
                return None
        if secret:
            self._tell(path, "holds a secret itself; write a reference to it: env:NAME or file:/run/secrets/NAME")
            return None
        return value

    # --- routes ---

    def _named(self, routes: object) -> Routes:
        path: Path = ("routes",)
        if not isinstance(routes, Mapping) or not routes:
            self._tell(path, 'must be a table of lists, as smart = ["main", ["eu", "us"]]')
            return {}
        found: Routes = {}
        for name, value in cast("Mapping[str, object]", routes).items():
            found[name] = self._route(value, (*path, name))
        used = {id(provider) for tiers in found.values() for tier in tiers for provider in tier}
        for one in self._declared:
            if id(one.provider) not in used:
                self._problems.warn(one.path, f"provider {one.provider.id!r} is in no route")
        return found

    def _route(self, value: object, path: Path) -> Tiers:
        if isinstance(value, Raw):
            value = split(value)
        if isinstance(value, str) or not isinstance(value, Sequence) or not value:
            self._tell(path, "must be a list of providers")
            return []
        tiers: Tiers = []
        for index, one in enumerate(cast("Sequence[object]", value)):
            members = cast("Sequence[object]", one) if isinstance(one, list | tuple) else [one]
            found = [self._member(member, (*path, index)) for member in members]
            tiers.append([provider for provider in found if provider is not None])
        return tiers

    def _member(self, value: object, path: Path) -> AnyProvider | None:
        known = {one.provider.id: one.provider for one in self._declared}
        if isinstance(value, str) and str(value) in known:
            return known[str(value)]
        if isinstance(value, str) and str(value) in self._broken:
            return None
        if isinstance(value, str) and _normal(value.partition("/")[0]) not in _normal_kinds():
            self._tell(path, f"there is no provider {str(value)!r}", guess(value, known) if known else "")
            return None
        made = self._provider(value, path, None)
        if made is None:
            self._bad = True
            return None
        same = known.get(made[0].id)
        if same is None:
            self._declared.append(_Declared(made[0], 0, path))
        return same or made[0]


def _leave_files(read: dict[str, object]) -> None:
    """Leave certificates for later that are not here, or whose key cannot be opened: they are mounted beside keys."""
    for name in ("verify", "cert"):
        value = read.get(name)
        files = cast(
            "tuple[str, ...]", value if isinstance(value, tuple) else (value,) if isinstance(value, str) else ()
        )
        if not all(map(os.path.exists, files[:2])) or _NOT_LOOKED_UP in files:
            del read[name]


def _resolved(read: Mapping[str, object]) -> object:
    """What references in a table stand for."""
    return (read.get("headers"), read.get("proxy"), read.get("cert"))


def _id_of(value: object) -> str:
    """What a provider in a list would be called."""
    if isinstance(value, Mapping):
        table = cast("Mapping[str, object]", value)
        return str(table.get("id") or f"{table.get('kind')}/{table.get('model')}")
    return str(value)


def _digest(told: object) -> str:
    """Equal for equal things, and shows nothing of them: secrets may be among them."""
    return hashlib.blake2b(repr(told).encode(), digest_size=16).hexdigest()


def _comparable(value: object) -> object:
    """Equal for equal settings; objects of code are compared by identity."""
    if isinstance(value, Mapping):
        return sorted((str(key), _comparable(one)) for key, one in cast("Mapping[object, object]", value).items())
    if isinstance(value, list | tuple):
        return [_comparable(one) for one in cast("Sequence[object]", value)]
    return (type(value).__name__, str(value)) if isinstance(value, str | int | float | bool | None) else id(value)
