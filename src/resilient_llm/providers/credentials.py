"""API keys: where they come from, and never where they could be seen."""

from __future__ import annotations

import hashlib
import inspect
import os
from collections.abc import Awaitable, Callable
from functools import partial
from typing import NoReturn, Protocol, TypeAlias, runtime_checkable

from resilient_llm.errors import ConfigurationError

ApiKey: TypeAlias = str | Callable[[], str] | Callable[[], Awaitable[str]]
"""A key, or something that returns the current one: it is asked for every attempt, so that keys can be rotated and
cloud identities refreshed.  An async callable works with the async client only, which runs any other in a worker
thread.  One that raises, or returns nothing usable, takes its provider out for a while, as a rejected key does; space
around the key it returns is dropped.  It has as long as the attempt has; the provider's own time begins when the key is
there.  One that takes longer ends the attempt with a ``Fault`` of scope ``LOCAL`` that names the callable and judges
nobody.  (The sync client cannot cut it short, unless another provider may come to the rescue; it finds out
afterwards.)"""

Work: TypeAlias = Callable[[], object]


class KeyUnavailable(Exception):
    """An :data:`ApiKey` callable raised, or returned what cannot be sent.  Never shows what: a callable that raises it
    itself answers for its text."""


@runtime_checkable
class Renewable(Protocol):
    """A callable :data:`ApiKey` that knows more than its value.  Each method is quick and thread-safe."""

    def __call__(self) -> str: ...

    def at_hand(self) -> str | None:
        """The key, if there is one; never waits."""
        ...

    def missing(self) -> str | None:
        """Why there is no key now; ``None``: there is one.  While others can be asked, its provider is passed over and
        this is the reason."""
        ...

    def rejected(self, value: str) -> bool:
        """The provider refused this key.  Whether asking for the key again may bring another one: then the request is
        sent once more with that."""
        ...


class Credential:
    """Holds an :data:`ApiKey` such that no repr, pickle or traceback of ours shows it.  ``None``: the endpoint needs
    none."""

    __slots__ = ("_account", "_source", "fixed", "is_async", "key_id", "renewable")

    def __init__(self, source: ApiKey | None) -> None:
        if source is not None and not isinstance(source, str) and not callable(source):
            raise ConfigurationError(f"api_key must be a string or a callable, not a {type(source).__name__}")
        if isinstance(source, str):
            _usable(source)
        self._source = source
        self.fixed: bool = source is None or isinstance(source, str)
        """Whether it is always the same, and there at once."""
        self.renewable: Renewable | None = source if isinstance(source, Renewable) else None
        """What can be told that a key was refused; ``None`` if there is nothing of the kind."""
        self.is_async: bool = callable(source) and inspect.iscoroutinefunction(_underlying(source))
        """Whether getting the key needs an event loop."""
        self.key_id: str | None = _hash(source) if isinstance(source, str) else None
        """Tells the value now in use from others without telling it; ``None`` before a callable returned one."""
        self._account = "" if source is None else self.key_id or _account_of(source)

    @property
    def account(self) -> str:
        """Tells keys apart without telling them: equal for equal keys; empty without one."""
        return self._account

    @property
    def name(self) -> str:
        """What to call it in a message: the callable's name.  Never shows a key."""
        return "the api_key" if self.fixed else _named(self._source)

    def at_hand(self) -> str | None:
        """A key for which nobody has to be asked; ``None``: there is none of the kind."""
        key = None if self.renewable is None else self.renewable.at_hand()
        return None if key is None else self._noted(_returned(key))

    def get(self) -> str | None:
        """The key now.  Raises ``KeyUnavailable`` if the callable has none, and ``ConfigurationError`` if it is an
        async one."""
        value = self._source
        if value is None or isinstance(value, str):
            return value
        got = _asked(value)
        if not inspect.isawaitable(got):
            return self._noted(_returned(got))
        if inspect.iscoroutine(got):
            got.close()
        raise ConfigurationError("this api_key is an async callable, which only AsyncResilientClient can use")

    async def aget(self, in_thread: Callable[[Work], Awaitable[object]]) -> str | None:
        """The key now, for the async client.  ``in_thread`` runs what may block.  Raises ``KeyUnavailable``."""
        value = self._source
        if value is None or isinstance(value, str):
            return value
        got = _asked(value) if self.is_async else await in_thread(partial(_asked, value))
        if inspect.isawaitable(got):
            try:
                got = await got
            except Exception as error:
                raise _raised(value, error) from error
        return self._noted(_returned(got))

    def _noted(self, key: str) -> str:
        self.key_id = _hash(key)
        return key

    def __repr__(self) -> str:
        return "Credential(None)" if self._source is None else "Credential(***)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a credential is not pickled; build the provider anew in the other process")


def from_environment(given: ApiKey | None, variables: tuple[str, ...], vendor: str, *, required: bool) -> Credential:
    """The key given, else the first of the environment variables that is set.

    Raises ``ConfigurationError`` naming the variables if there is neither and the vendor needs one.
    """
    if given is not None:
        return Credential(given)
    for variable in variables:
        value = os.environ.get(variable)
        if value:
            return Credential(value.strip())
    if required:
        where = f"set {' or '.join(variables)}, or pass api_key=" if variables else "pass api_key="
        raise ConfigurationError(f"{vendor} needs an API key: {where}")
    return Credential(None)


def _account_of(source: object) -> str:
    """A callable may say itself which others ask for the same key."""
    account: object = getattr(source, "account", None)
    return account if isinstance(account, str) and account else f"callable-{id(source)}"


def _hash(key: str) -> str:
    return hashlib.blake2b(key.encode(), digest_size=8, person=b"resilient_llm").hexdigest()


def _usable(key: object) -> str:
    """The key, if it can be sent.  The message must not show it."""
    if not isinstance(key, str) or not key.strip() or not key.isascii() or not key.isprintable():
        what = "is not" if isinstance(key, str) else f"is of the type {type(key).__name__}"
        raise ConfigurationError(f"api_key must be printable ASCII text and not empty; the one given {what}")
    if key.lower().startswith(("bearer ", "basic ")):
        scheme = key.split(" ", 1)[0]
        raise ConfigurationError(f"api_key begins with {scheme!r}, which is added by itself; give the key alone")
    return key


def _asked(source: Work) -> object:
    try:
        return source()
    except KeyUnavailable:
        raise
    except Exception as error:
        raise _raised(source, error) from error


def _raised(source: object, error: Exception) -> KeyUnavailable:
    return KeyUnavailable(f"{_named(source)} raised {type(error).__name__}")  # its text might hold a secret


def _named(source: object) -> str:
    """A callable by its name, or by the one it gives itself; a repr might show what it holds."""
    told: object = getattr(source, "title", None)
    if isinstance(told, str):
        return told
    function = getattr(source, "func", source)
    return f"the api_key callable {getattr(function, '__qualname__', type(function).__name__)}"


def _returned(key: object) -> str:
    """What a callable returned, if it can be sent; files and command output end in a newline."""
    try:
        return _usable(key.strip() if isinstance(key, str) else key)
    except ConfigurationError as error:
        raise KeyUnavailable(str(error)) from None


def _underlying(source: object) -> object:
    """What decides whether a callable is async: the function itself, or an object's ``__call__``."""
    if inspect.isroutine(source) or inspect.isclass(source):
        return source
    return getattr(source, "func", None) or type(source).__call__
