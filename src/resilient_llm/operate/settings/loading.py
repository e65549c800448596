"""A client from settings, and the same client under new ones."""

from __future__ import annotations

import logging
import os
import signal
import threading
import weakref
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import fields
from pathlib import Path as FilePath
from types import FrameType
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, TypeVar, Unpack, cast, overload

from resilient_llm.capability import checked_policy
from resilient_llm.client import AsyncResilientClient, ClientSettings, ResilientClient
from resilient_llm.errors import ConfigurationError
from resilient_llm.operate.background import background_of
from resilient_llm.operate.settings.layers import ENVIRONMENT, environment_file
from resilient_llm.operate.settings.problems import Problem, SettingsError
from resilient_llm.operate.settings.reading import Settings, Source, read
from resilient_llm.operate.settings.sections import AnyClient, Undo, section
from resilient_llm.operate.settings.shape import client_fields, whole
from resilient_llm.options import seconds
from resilient_llm.policy import Policies, as_policy

if TYPE_CHECKING:
    import httpx

    from resilient_llm.drive.core import Routes
    from resilient_llm.drive.engines import AsyncEngine, Engine

C = TypeVar("C", bound="ResilientClient | AsyncResilientClient")
Reload: TypeAlias = Literal["change", "sighup"] | None

_BESIDE: Final = "settings"
LOOK: Final = 2.0
"""Seconds between two looks at the files with ``reload="change"``."""

_log = logging.getLogger("resilient_llm.operate")


class Overrides(ClientSettings, total=False):
    """What goes before every other layer: settings of the client, and what no file can hold."""

    providers: Routes
    engine: str | Engine | AsyncEngine
    http_client: httpx.Client | httpx.AsyncClient | httpx.BaseTransport | httpx.AsyncBaseTransport | None


@overload
def load(
    source: Source = None, *, environment: str | None = None, reload: Reload = None, **settings: Unpack[Overrides]
) -> ResilientClient: ...


@overload
def load(
    source: Source = None,
    *,
    client: type[C],
    environment: str | None = None,
    reload: Reload = None,
    **settings: Unpack[Overrides],
) -> C: ...


def load(
    source: Source = None,
    *,
    client: type[object] = ResilientClient,
    environment: str | None = None,
    reload: Reload = None,
    **settings: Unpack[Overrides],
) -> AnyClient:
    """A client from settings: ``load("resilient.toml")``, or from a mapping, or from environment variables alone.

    Each layer goes before the one before it: defaults, the file, the environment's file beside it
    (``resilient.production.toml``), environment variables (``RESILIENT_LLM__RETRY__MAX_ATTEMPTS=4``), the keywords
    given here.

    - ``client``: ``ResilientClient`` (the default) or ``AsyncResilientClient``.
    - ``environment``: names the environment's file, which must exist then; ``None``: ``APP_ENV`` names it, and it may
      be absent.
    - ``reload``: ``"change"`` looks at the files every two seconds, ``"sighup"`` waits for that signal (main thread
      only; a handler that was there is called too); ``None``: :func:`reload` does it.  Calls under way end undisturbed;
      settings that are wrong, or half written, are logged, and those before them stay in force.

    Nothing is sent.  Raises ``SettingsError`` with everything that is wrong, each with file, line and what was probably
    meant.
    """
    if not isinstance(client, type) or not issubclass(client, ResilientClient | AsyncResilientClient):
        raise ConfigurationError(f"client must be ResilientClient or AsyncResilientClient, not {client!r}")
    if reload not in (None, "change", "sighup"):
        raise ConfigurationError(f"reload must be 'change', 'sighup' or None, not {reload!r}")
    if not isinstance(source, str | os.PathLike | Mapping | None):
        raise ConfigurationError(f"settings are a file, a mapping or None, not {source!r}")
    loaded = Loaded(source, environment, cast("Mapping[str, object]", settings))
    made = loaded.client(client)
    if reload == "change":
        loaded.watch()
    elif reload == "sighup":
        loaded.obey_sighup()
    return made


def reload(client: AnyClient) -> tuple[str, ...]:
    """Read the settings of a client from :func:`load` again, and use them from now on; returns what changed.

    Calls under way end undisturbed, and what is known of providers that stay is kept.  Raises ``SettingsError`` and
    changes nothing if they are wrong, ``ConfigurationError`` if the client did not come from :func:`load`.
    """
    return loaded_of(client).reload()


def settings_of(client: AnyClient) -> Settings:
    """The settings in force.  Raises ``ConfigurationError`` if the client did not come from :func:`load`."""
    return loaded_of(client).settings


class Loaded:
    """A client's settings, and how to read them again."""

    def __init__(self, source: Source, environment: str | None, given: Mapping[str, object]) -> None:
        known = whole(()).fields
        self._source = source if isinstance(source, Mapping) or source is None else FilePath(source)
        self._environment = environment
        self._arguments = {name: value for name, value in given.items() if name in known and not _is_live(name, value)}
        self._live = {name: value for name, value in given.items() if name not in self._arguments}
        self._undo: dict[str, Undo] = {}
        self._in_force: dict[str, Settings] = {}  # by section, those that it was made by
        self._failed: set[str] = set()
        self._lock = threading.Lock()
        self._client: Callable[[], AnyClient | None] = lambda: None
        self._paths = _paths(self._source, environment)
        self._taken = self._seen = self._marks()
        self.settings: Settings = self._read(None)

    def client(self, kind: type[AnyClient]) -> AnyClient:
        """Make the client."""
        routes = self.settings.routes
        one = routes["default"] if list(routes) == ["default"] else routes
        made = kind(one, **{**self.settings.options, **self._live})  # type: ignore[arg-type] # checked when they were read
        self._client = weakref.ref(made)
        for name in self.settings.sections:
            self._attach(made, self.settings, name)
        for problem in self.settings.warnings:
            _log.warning("settings: %s", problem)
        made.pool.beside[_BESIDE] = self
        return made

    # --- again ---

    def reload(self) -> tuple[str, ...]:
        """Read again and use what changed; see :func:`reload`."""
        with self._lock:
            client = self._client()
            if client is None:
                return ()
            before = self.settings
            fresh = self._read(before)
            changed = self._use(client, before, fresh)
            self.settings = fresh
            return changed

    def reload_and_log(self) -> None:
        """The same where nobody waits for the outcome."""
        try:
            changed = self.reload()
        except ConfigurationError as error:
            _log.error("the settings were not taken, those before them stay in force: %s", error)
        else:
            _log.info("settings read again; changed: %s", ", ".join(changed) or "nothing")

    def watch(self) -> None:
        """Reload when a file has changed, and has not changed again since the last look: it may be half written."""
        client = self._client()
        assert client is not None
        weak = weakref.ref(self)

        def look() -> None:
            loaded = weak()
            if loaded is not None:
                loaded.look()

        background_of(client.pool).every(LOOK, look)

    def look(self) -> None:
        """One look at the files."""
        marks = self._marks()
        settled, self._seen = marks == self._seen, marks
        if settled and marks != self._taken:
            self._taken = marks
            self.reload_and_log()

    def obey_sighup(self) -> None:
        """Reload at SIGHUP, off the thread that the signal interrupts."""
        number = getattr(signal, "SIGHUP", None)
        if number is None or threading.current_thread() is not threading.main_thread():
            raise ConfigurationError("reload='sighup' needs a system with SIGHUP, and the main thread; use 'change'")
        before = signal.getsignal(number)
        weak = weakref.ref(self)

        def on_signal(received: int, frame: FrameType | None) -> None:
            loaded = weak()
            client = None if loaded is None else loaded._client()
            if loaded is not None and client is not None:
                threading.Thread(target=loaded.reload_and_log, name="resilient_llm-reload", daemon=True).start()
            if callable(before):
                before(received, frame)

        signal.signal(number, on_signal)

    # --- internals ---

    def _read(self, before: Settings | None) -> Settings:
        return read(
            self._source,
            environment=self._environment,
            arguments=self._arguments,
            known=None if before is None else before.known,
        )

    def _use(self, client: AnyClient, before: Settings, fresh: Settings) -> tuple[str, ...]:
        changed: list[str] = []
        if _shape(before) != _shape(fresh):
            removed = client.replace_providers(fresh.routes)
            changed += ["providers", *(f"{one} removed" for one in removed)]
        options = {name for name in {*before.options, *fresh.options} if _differ(name, before.options, fresh.options)}
        _use_options(client, options, fresh.options)
        changed += [name if name in _AT_ONCE else f"{name} (with the next start)" for name in sorted(options)]
        sections = {*before.sections, *fresh.sections}
        for name in sorted(one for one in sections if one in self._failed or _differ(one, before.values, fresh.values)):
            changed.append(self._attached_anew(client, fresh, name))
        return tuple(changed)

    def _attach(self, client: AnyClient, settings: Settings, name: str) -> None:
        attach = section(name).attach
        try:
            undo = None if attach is None else attach(client, settings.sections[name])
        except ConfigurationError as error:
            raise SettingsError([Problem(name, str(error), settings.origins.get((name,)))]) from None
        self._in_force[name] = settings
        if undo is not None:
            self._undo[name] = undo

    def _attached_anew(self, client: AnyClient, fresh: Settings, name: str) -> str:
        """Replace what a section made.  One that fails stays as it was, is tried again with the next reload, and keeps
        nothing else back."""
        before = self._in_force.pop(name, None)
        self._detach(name)
        self._failed.discard(name)
        try:
            if name in fresh.sections:
                self._attach(client, fresh, name)
        except ConfigurationError as error:
            self._failed.add(name)
            kept = before is not None and self._attached_again(client, before, name)
            told = "; it stays as it was" if kept else ""
            _log.error("a section of the settings could not be set up: %s%s", error, told)
            return f"{name} (failed, stays as it was)" if kept else f"{name} (failed)"
        return name

    def _attached_again(self, client: AnyClient, before: Settings, name: str) -> bool:
        try:
            self._attach(client, before, name)
        except ConfigurationError:
            return False
        return True

    def _detach(self, name: str) -> None:
        undo = self._undo.pop(name, None)
        if undo is not None:
            undo()

    def _marks(self) -> object:
        return tuple(_mark(path) for path in self._paths)


def loaded_of(client: AnyClient) -> Loaded:
    """Where a client came from.  Raises ``ConfigurationError`` if not from :func:`load`."""
    found = client.pool.beside.get(_BESIDE)
    if not isinstance(found, Loaded):
        raise ConfigurationError(f"{client!r} was not made by load()")
    return found


def _is_live(name: str, value: object) -> bool:
    """Whether it is an object that the client takes and no layer can hold."""
    return name == "engine" and not isinstance(value, str)


def _paths(source: Source, environment: str | None) -> tuple[FilePath, ...]:
    """The files whose changes matter."""
    if isinstance(source, Mapping) or source is None:
        return ()
    path, name = FilePath(source), environment or os.environ.get(ENVIRONMENT)
    return (path, environment_file(path, name)) if name else (path,)


def _mark(path: FilePath) -> object:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino)


def _shape(settings: Settings) -> object:
    """Equal if the same providers stand in the same places; those that did not change are the same objects."""
    return {name: [[id(one) for one in tier] for tier in tiers] for name, tiers in settings.routes.items()}


def _differ(name: str, before: Mapping[str, object], fresh: Mapping[str, object]) -> bool:
    return before.get(name, _ABSENT) != fresh.get(name, _ABSENT)


_ABSENT: Final = object()


_POLICIES: Final = frozenset(one.name for one in fields(Policies))
_AT_ONCE: Final = _POLICIES | {"deadline", "on_unsupported"}
"""Settings of a client that can change while it is at work."""


def _use_options(client: AnyClient, changed: AbstractSet[str], options: Mapping[str, object]) -> None:
    """Use other values of a client's settings from now on."""
    pool = client.pool
    if changed & _POLICIES:
        kept = {name: getattr(pool.policies, name) for name in _POLICIES - changed}
        pool.govern(
            as_policy(Policies, {name: options[name] for name in changed & _POLICIES if name in options} | kept)
        )
    if "deadline" in changed:
        default = client_fields()["deadline"].default
        pool.allowance = seconds(cast("float | None", options.get("deadline", default)))
    if "on_unsupported" in changed:
        pool.on_unsupported = checked_policy(options.get("on_unsupported", "skip"))
