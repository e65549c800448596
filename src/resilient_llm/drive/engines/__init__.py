"""Engines: what carries the bytes, behind a small protocol.  Public for those who bring their own.

``engine="httpx"`` (default), ``"httpx2"`` or ``"aiohttp"`` on a client chooses one; an object with the methods of
:class:`Engine` (or :class:`AsyncEngine`) is used as it is; it finds a provider's proxy and certificates in
:attr:`Outgoing.network`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any, cast

from resilient_llm.drive.engines.seam import AsyncEngine, AsyncSource, Engine, Limit, Outgoing, Seam, Source, Time
from resilient_llm.drive.fork import imported
from resilient_llm.errors import ConfigurationError
from resilient_llm.providers.network import USUAL, Network

__all__ = [
    "AsyncEngine",
    "AsyncSource",
    "Engine",
    "Limit",
    "Network",
    "Outgoing",
    "Seam",
    "Source",
    "Time",
    "async_engines",
    "refusal",
    "sync_engine",
]

_NAMES = ("httpx", "httpx2", "aiohttp")
NO_SOCKS = "engine='aiohttp' has no way through a SOCKS proxy; 'httpx' and 'httpx2' have"


def sync_engine(engine: object, http_client: object) -> Engine:
    """The engine of a sync client.  What it needs of the network is imported with the first call.

    ``http_client``: a client or transport of httpx or httpx2 to use instead.  Raises ``ConfigurationError`` for what
    cannot be used.
    """
    if http_client is not None:
        _check_given(http_client, engine, is_async=False)
        from resilient_llm.drive.engines.given import Given  # noqa: PLC0415 - only those who give a client pay for it

        return Given(http_client)
    if not isinstance(engine, str):
        if isinstance(engine, type) or not callable(getattr(engine, "send", None)) or _is_async(engine, "send"):
            raise ConfigurationError(f"engine must be a name or an Engine, not {type(engine).__name__}")
        return cast(Engine, engine)
    if _checked(engine) == "aiohttp":
        raise ConfigurationError("engine='aiohttp' is for AsyncResilientClient only")
    return cast(Engine, _imported("resilient_llm.drive.engines.pooled", engine).Pooled(engine))


def async_engines(engine: object, http_client: object) -> Callable[[], AsyncEngine]:
    """What makes the engine of an async client for the running event loop.

    Raises ``ConfigurationError`` as :func:`sync_engine` does; what it returns raises it under trio for ``"aiohttp"``.
    """
    if http_client is not None:
        _check_given(http_client, engine, is_async=True)
        from resilient_llm.drive.engines.given import AsyncGiven  # noqa: PLC0415

        given = AsyncGiven(http_client)
        return lambda: given
    if not isinstance(engine, str):
        if isinstance(engine, type) or not _is_async(engine, "send"):
            raise ConfigurationError(f"engine must be a name or an AsyncEngine, not {type(engine).__name__}")
        own = cast(AsyncEngine, engine)
        return lambda: own
    if _checked(engine) == "aiohttp":
        made = _imported("resilient_llm.drive.engines.with_aiohttp", engine)
        return partial(_on_asyncio, made)
    return partial(_pooled, _imported("resilient_llm.drive.engines.family", engine).Family(engine))


def refusal(engine: object, http_client: object, network: Network) -> str | None:
    """Why an engine cannot reach a provider that way; ``None``: it can, or it is the user's."""
    if network == USUAL:
        return None
    if http_client is not None:
        return "an http_client= has a proxy and certificates of its own; give them to it, not to a provider"
    if network.socks and engine == "aiohttp":
        return NO_SOCKS
    if network.socks and engine in _NAMES and find_spec("socksio") is None:
        return "a SOCKS proxy needs a package: pip install socksio"
    return None


def _pooled(family: object) -> AsyncEngine:
    made = imported("resilient_llm.drive.engines.pooled_async")
    return cast(AsyncEngine, made.AsyncPooled(family))


def _on_asyncio(module: Any) -> AsyncEngine:
    if not module.running_on_asyncio():
        raise ConfigurationError("engine='aiohttp' works on asyncio only; use 'httpx' or 'httpx2' under trio")
    return cast(AsyncEngine, module.Aiohttp())


def _checked(name: str) -> str:
    if name not in _NAMES:
        raise ConfigurationError(f"there is no engine {name!r}; there are {', '.join(_NAMES)}")
    return name


def _imported(module: str, engine: str) -> Any:
    try:
        if engine == "httpx2":
            import_module("httpx2")
        return import_module(module)
    except ImportError as error:
        raise ConfigurationError(
            f"engine={engine!r} needs a package: pip install 'resilient-llm[{engine}]' ({error})"
        ) from error


def _is_async(thing: object, method: str) -> bool:
    return inspect.iscoroutinefunction(getattr(thing, method, None))


def _check_given(given: object, engine: object, *, is_async: bool) -> None:
    if engine != "httpx":
        raise ConfigurationError("give either engine= or http_client=: the client you give is the engine")
    names = ("handle_async_request", "send") if is_async else ("handle_request", "send")
    usable = any(callable(getattr(given, name, None)) and _is_async(given, name) is is_async for name in names)
    if not usable:
        kind = "httpx.AsyncClient" if is_async else "httpx.Client"
        raise ConfigurationError(f"http_client must be an {kind} or a transport of it, not {type(given).__name__}")
