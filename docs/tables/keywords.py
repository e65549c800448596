"""Every public keyword: of the clients, of calls, of providers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping

from resilient_llm import providers
from resilient_llm.batch.settings import MAP_LINES, MapSettings
from resilient_llm.client import SETTINGS, ClientSettings, ResilientClient
from resilient_llm.options import LINES, CallOptions, ChatOptions, ChatSettings
from resilient_llm.providers import base
from tables.markdown import code, default, first, kind, table, told

OWN = {
    "providers": "a list in order of preference; a list inside it is a tier of equals; a mapping of names to lists "
    "makes routes, of which the first is the default",
    "engine": "what carries the bytes: `'httpx'`, `'httpx2'` or `'aiohttp'` (extras of these names), or an object with "
    "the methods of `resilient_llm.drive.engines.Engine`",
    "http_client": "an `httpx` or `httpx2` client or transport to use as it is, with its proxies, TLS and limits; it "
    "stays open when this client is closed",
    "pool": "the providers and the state of another client, `pool=client.pool`, instead of `providers`",
}
"""Parameters of a client that are no settings."""


def _signature(function: object) -> Mapping[str, inspect.Parameter]:
    given: inspect.Signature | None = getattr(function, "__signature__", None)
    return (given or inspect.signature(function)).parameters  # type: ignore[arg-type]


def _rows(function: object, lines: Mapping[str, str], names: Iterable[str]) -> Iterable[list[str]]:
    parameters = _signature(function)
    for name in names:
        one = parameters[name]
        yield [code(f"{name}="), told(lines[name]), code(kind(one.annotation)), default(one.default)]


def _keywords(function: object, lines: Mapping[str, str], names: Iterable[str]) -> str:
    return table(["keyword", "what it does", "type", "default"], _rows(function, lines, names))


def client_parameters() -> str:
    parameters = [name for name in _signature(ResilientClient.__init__) if name in OWN]
    missing = set(_signature(ResilientClient.__init__)) - set(OWN) - set(SETTINGS) - {"self"}
    if missing:
        raise SystemExit(f"docs/tables/keywords.py says nothing about {', '.join(sorted(missing))} of a client")
    return _keywords(ResilientClient.__init__, OWN, parameters)


def client_settings() -> str:
    return _keywords(ResilientClient.__init__, SETTINGS, [name for name in SETTINGS if name in _known(ClientSettings)])


def _known(options: type) -> frozenset[str]:
    """The keys of a ``TypedDict``, those it has from its bases included."""
    return frozenset(options.__annotations__)


def _of(options: type) -> Callable[[], str]:
    names = [name for name in LINES if name in _known(options)]
    return lambda: _keywords(ResilientClient.chat, LINES, names)


def answers() -> str:
    """Keywords about the answer."""
    rest = _known(ChatOptions) - _known(CallOptions) - _known(ChatSettings)
    return _keywords(ResilientClient.chat, LINES, [name for name in LINES if name in rest])


def many() -> str:
    """Keywords of ``map`` besides those of a call."""
    return _keywords(ResilientClient.map, MAP_LINES, [name for name in MAP_LINES if name in _known(MapSettings)])


def provider_options() -> str:
    return _keywords(base.HttpProvider.__init__, base.LINES, base.LINES)


def methods() -> str:
    """What a client can be asked to do."""
    rows = []
    for name, member in inspect.getmembers(ResilientClient):
        if name.startswith("_") or not (callable(member) or isinstance(member, property)):
            continue
        called = name if isinstance(member, property) else f"{name}()"
        rows.append((code(called), first(member.__doc__)))
    return table(["", "what it does"], rows)


def vendors() -> str:
    """Every built-in provider."""
    rows = []
    for name in sorted(providers.__all__, key=str.lower):
        made: object = getattr(providers, name)
        if not isinstance(made, type) or not issubclass(made, base.HttpProvider) or name == "HttpProvider":
            continue
        own = [code(f"{key}=") for key in _signature(made.__init__) if key not in {*base.LINES, "self", "model"}]
        keys = ", ".join(code(key) for key in made.key_variables) or "none needed"
        rows.append([code(name), keys, ", ".join(own) or "–"])
    return table(["provider", "key, from the environment", "keywords of its own"], rows)


SECTIONS = {
    "reference/client.md": {"parameters": client_parameters, "settings": client_settings, "methods": methods},
    "reference/calls.md": {"call": _of(CallOptions), "chat": _of(ChatSettings), "answers": answers, "map": many},
    "reference/providers.md": {"options": provider_options, "vendors": vendors},
}
