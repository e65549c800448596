"""What is known about providers outlives a process: for serverless functions, workers that are replaced often, deploys.

::

    from resilient_llm.operate.known import keep

    keep(client, "/var/lib/shop/providers.json")

A new process begins with the breakers, gates and latencies of the one before it, aged by the time between them, so that
its first calls do not go to a provider that was down a second ago.  The file holds no secret, nothing of what was
asked, and is no configuration: providers are those of the client.
"""

from __future__ import annotations

import atexit
import errno
import hashlib
import json
import logging
import os
import secrets
import tempfile
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final, cast

from resilient_llm.decide.member import Member
from resilient_llm.drive.core import ProviderPool
from resilient_llm.drive.subject import Target
from resilient_llm.errors import ConfigurationError
from resilient_llm.operate.background import background_of, pool_of
from resilient_llm.operate.settings.sections import AnyClient
from resilient_llm.record.keeping import Kept, Unusable, kept, restore
from resilient_llm.version import __version__

EVERY: Final = 10.0
"""Seconds between two saves by :func:`keep`."""
_OLDEST: Final = 86400.0  # seconds after which nothing of it holds any more
_LARGEST: Final = 16 * 1024 * 1024  # bytes

_log = logging.getLogger("resilient_llm.operate")


def save(client: AnyClient, path: str | os.PathLike[str]) -> None:
    """Write down what is known about the providers of a client.

    The file is replaced in one step, so that nobody ever reads half of it; only its owner may read it.  Raises
    ``OSError`` if it cannot be written, or there is something that is no file (a device, a pipe).
    """
    _save(pool_of(client, "save()"), Path(path))


def load(client: AnyClient, path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Go on with what another process wrote down; returns the ids of the providers of which something was known.

    A provider counts as the same if its id, address, model and wire are; what is known of its key, if the key is.  One
    that this client has asked already is left alone.  A file that is not there, is older than a day, was written by
    another version or is not what it should be (that is logged) changes nothing and raises nothing.
    """
    return _load(pool_of(client, "load()"), Path(path))


def keep(client: AnyClient, path: str | os.PathLike[str], *, every: float = EVERY) -> Callable[[], None]:
    """:func:`load` now, and :func:`save` every ``every`` seconds in the background and when the process ends.

    Returns a function that saves once more and stops.  A file that cannot be written is logged once until it can, and
    fails no call.  Processes that share a file overwrite each other: give each worker its own, or the last one wins.
    Raises ``ConfigurationError`` for times that make no sense.
    """
    if isinstance(every, bool) or not isinstance(every, int | float) or not 0.01 <= every <= 3600.0:
        raise ConfigurationError(f"every must be seconds between 0.01 and 3600, not {every!r}")
    load(client, path)
    keeper = _Keeper(client.pool, Path(path))
    client.pool.beside["known"] = keeper
    weak = weakref.ref(keeper)

    def again() -> None:
        found = weak()
        if found is not None:
            found.save()

    unwind = background_of(client.pool).every(every, again)
    atexit.register(again)

    def stop() -> None:
        unwind()
        atexit.unregister(again)
        client.pool.beside.pop("known", None)
        keeper.save()

    return stop


class _Keeper:
    """Saves, and says once if that fails."""

    def __init__(self, pool: ProviderPool, path: Path) -> None:
        self._pool = weakref.ref(pool)
        self._path = path
        self._failing = False

    def save(self) -> None:
        pool = self._pool()
        if pool is None:
            return
        try:
            _save(pool, self._path)
        except OSError as error:
            if not self._failing:
                _log.warning("what is known about providers could not be saved to %s: %s", self._path, error.strerror)
            self._failing = True
        else:
            self._failing = False


def _save(pool: ProviderPool, path: Path) -> None:
    salt = secrets.token_hex(8)

    now, wall = pool.clock(), pool.wall()
    providers: dict[str, object] = {}
    for target in pool.pool.targets():
        one = pool.pool.look(partial(_kept, target.id))  # one at a time: calls need the same lock
        if one is not None:
            same, account = _digest(salt, _place(target)), _account(salt, target)
            providers[target.id] = {"same": same, "account": account, **one}
    document = {"version": __version__, "saved_at": wall, "now": now, "salt": salt, "providers": providers}
    _replace(path, json.dumps(document, separators=(",", ":")).encode())


def _kept(name: str, members: Mapping[str, Member[Target]]) -> Kept | None:
    return kept(members[name]) if name in members else None


def _file(path: Path) -> Path:
    """The file that is meant, which a link may lead to.  Raises ``OSError`` for what is there and no file."""
    path = path.resolve()
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is no file", str(path))
    return path


def _replace(path: Path, content: bytes) -> None:
    path = _file(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _load(pool: ProviderPool, path: Path) -> tuple[str, ...]:
    try:
        with _file(path).open("rb") as file:
            text = file.read(_LARGEST + 1)
    except FileNotFoundError:
        return ()
    except OSError as error:
        _log.warning("what was known about providers could not be read from %s: %s", path, error.strerror)
        return ()
    try:
        document: object = json.loads(text) if len(text) <= _LARGEST else None
        return _restored(pool, document)
    except (ValueError, RecursionError) as error:
        _log.warning("what was known about providers is not used, %s is not what it should be: %.200s", path, error)
        return ()


def _restored(pool: ProviderPool, document: object) -> tuple[str, ...]:
    """The providers that were restored.  Raises ``ValueError``."""
    if not isinstance(document, dict):
        raise Unusable("it is no such document")
    told = cast("dict[str, object]", document)
    then, saved_at, salt, providers = told.get("now"), told.get("saved_at"), told.get("salt"), told.get("providers")
    if told.get("version") != __version__:
        return ()
    if not isinstance(then, float | int) or not isinstance(saved_at, float | int) or not isinstance(providers, dict):
        raise Unusable("it is no such document")
    age = max(pool.wall() - saved_at, 0.0)
    if not age < _OLDEST:
        return ()
    now = pool.clock()
    known = cast("dict[str, object]", providers)

    def put(members: Mapping[str, Member[Target]]) -> tuple[str, ...]:
        return tuple(
            name
            for name, member in members.items()
            if _restore(member, known.get(name), str(salt), now - then - age, now)
        )

    return pool.pool.look(put)


def _restore(member: Member[Target], found: object, salt: str, later: float, now: float) -> bool:
    if not isinstance(found, dict):
        return False
    one = cast("dict[str, object]", found)
    if one.get("same") != _digest(salt, _place(member.target)):
        return False
    account = _account(salt, member.target)
    same_account = account is not None and account == one.get("account")
    return restore(member, one, later=later, now=now, same_account=same_account)


def _place(target: Target) -> str:
    return repr((target.id, getattr(target, "base_url", ""), target.model, getattr(target, "wire", "")))


def _account(salt: str, target: Target) -> str | None:
    """Tells keys apart without telling them; ``None`` where keys come from a function, which is none the next time."""
    fixed = target.account is not None and all(terms.fixed for terms in target.keys)
    return _digest(salt, str(target.account)) if fixed else None


def _digest(salt: str, text: str) -> str:
    return hashlib.blake2b(f"{salt}/{text}".encode(), digest_size=12).hexdigest()
