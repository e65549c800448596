"""The store: one Redis or Valkey stream per group, asked from the background thread, and never for long."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from typing import Final, NamedTuple, Protocol, cast

from resilient_llm.errors import ConfigurationError

_log = logging.getLogger("resilient_llm.operate")

PATIENCE: Final = 0.25
"""Seconds that the store has to connect, and for each answer."""
_LONG: Final = 1.0  # seconds for which nothing else would be done in the background
_MOST_KEPT, _MOST_READ = 1000, 500
_KEPT_FOR: Final = 300  # seconds after the last news
_LOOK_BACK: Final = 60.0  # seconds of earlier news that a new process reads
_FIELD: Final = b"n"


class Pipeline(Protocol):
    """Commands sent together."""

    def execute_command(self, *parts: object) -> object: ...

    def execute(self, raise_on_error: bool = True) -> Sequence[object]: ...


class SupportsStream(Protocol):
    """What is needed of a client of ``redis`` or ``valkey``."""

    def pipeline(self, transaction: bool = True) -> Pipeline: ...

    def close(self) -> object: ...


class Found(NamedTuple):
    """An entry that somebody made ``age`` seconds ago, by the store's own clock."""

    age: float
    data: object


def connect(url: str, patience: float = PATIENCE) -> SupportsStream:
    """A client with short timeouts (``patience`` seconds) and no retries.

    Raises ``ConfigurationError`` for a URL that is none, or where the extra ``redis`` is missing; connects to nobody.
    """
    make, no_retry = _library()
    try:
        return make(
            url,
            socket_timeout=patience,
            socket_connect_timeout=patience,
            retry=no_retry,
            decode_responses=False,
            protocol=2,
        )
    except ValueError:
        scheme = url.partition("://")[0][:20]  # the rest may hold a password
        raise ConfigurationError(f"the store needs a URL like redis://host:6379/0, not one of {scheme!r}") from None


def client_of(store: str | SupportsStream, patience: float) -> SupportsStream:
    """A client for a URL, or the one that was given.

    Raises ``ConfigurationError`` for what is neither, and for a client whose answers are decoded; warns of one that
    waits for long, as nothing else is done in the background meanwhile.
    """
    if isinstance(store, str):
        return connect(store, patience)
    if not callable(getattr(store, "pipeline", None)):
        raise ConfigurationError(f"store must be a URL or a client of redis or valkey, not {type(store).__name__}")
    settings: object = getattr(getattr(store, "connection_pool", None), "connection_kwargs", None)
    if isinstance(settings, Mapping):
        known = cast(Mapping[str, object], settings)
        if known.get("decode_responses"):
            raise ConfigurationError("the client of the store must have decode_responses off")
        timeout = known.get("socket_timeout")
        if not isinstance(timeout, int | float) or timeout > _LONG:
            _log.warning("sharing: the client of the store has socket_timeout=%s; give it %g, say", timeout, patience)
    return store


def _library() -> tuple[Callable[..., SupportsStream], object]:
    """What makes a client of a URL, and a policy without retries."""
    try:
        make: Callable[..., SupportsStream] = import_module("redis").Redis.from_url
        no_retry: object = import_module("redis.retry").Retry(import_module("redis.backoff").NoBackoff(), 0)
    except ImportError:
        raise ConfigurationError("sharing news needs the extra: pip install 'resilient-llm[redis]'") from None
    return make, no_retry


class NotFetched(LookupError):
    """The URL of a store is not known yet."""


class Fetched:
    """A client for a URL that has to be fetched, as it holds a password: ``url`` says what it is now, ``None`` while
    nobody knows, and waits for nobody.  Where it changes, it is connected to anew.

    Raises ``ConfigurationError`` where the extra ``redis`` is missing."""

    def __init__(self, url: Callable[[], str | None], patience: float = PATIENCE) -> None:
        _library()
        self._url = url
        self._patience = patience
        self._client: SupportsStream | None = None
        self._used = ""

    def pipeline(self, transaction: bool = True) -> Pipeline:
        """Of the client.  Raises ``NotFetched`` while there is none, ``ConfigurationError`` for a URL that is none."""
        url = self._url()
        if url is None:
            raise NotFetched("the URL of the store has not been fetched yet")
        if self._client is None or url != self._used:
            self.close()
            self._client, self._used = connect(url, self._patience), url
        return self._client.pipeline(transaction=transaction)

    def close(self) -> None:
        """Close its connections."""
        client, self._client = self._client, None
        if client is not None:
            client.close()


class Store:
    """A stream of the store.  Not safe for threads; every method may raise anything that its client raises."""

    def __init__(self, client: SupportsStream, group: str) -> None:
        self._client = client
        self._key = f"resilient_llm:news:{group}"
        self._seen: bytes | None = None

    def exchange(self, news: Sequence[bytes]) -> list[Found]:
        """Publish these, and read what came since the last time, in one round trip (the first time in two)."""
        if self._seen is None:
            self._seen = self._start()
        pipeline = self._client.pipeline(transaction=False)
        for one in news:
            pipeline.execute_command("XADD", self._key, "MAXLEN", "~", _MOST_KEPT, "*", _FIELD, one)
        if news:
            pipeline.execute_command("EXPIRE", self._key, _KEPT_FOR)
        pipeline.execute_command("TIME")
        pipeline.execute_command("XRANGE", self._key, b"(" + self._seen, "+", "COUNT", _MOST_READ)
        answers = pipeline.execute()
        entries = list(_entries(answers[-1]))
        if entries:
            self._seen = entries[-1][0]
        now = _milliseconds(answers[-2])
        return [Found(max(0.0, (now - _made_at(name)) / 1000.0), data) for name, data in entries]

    def _start(self) -> bytes:
        """The place in the stream from which a new process reads."""
        pipeline = self._client.pipeline(transaction=False)
        pipeline.execute_command("TIME")
        (told,) = pipeline.execute()
        return b"%d-0" % max(0, _milliseconds(told) - int(1000 * _LOOK_BACK))

    def close(self) -> None:
        """Close its connections."""
        self._client.close()


def _milliseconds(told: object) -> int:
    """The answer to TIME."""
    seconds, micros = cast(Sequence[object], told)
    return 1000 * int(cast(int, seconds)) + int(cast(int, micros)) // 1000


def _made_at(name: bytes) -> int:
    return int(name.partition(b"-")[0])


def _entries(told: object) -> Iterable[tuple[bytes, object]]:
    """The answer to XRANGE: ids and the one field of each; raises for anything else.

    A client may have parsed the fields of an entry into a mapping already."""
    for entry in cast(Sequence[Sequence[object]], told):
        name, fields = entry
        if not isinstance(name, bytes):
            raise TypeError("the client must have decode_responses off")
        if isinstance(fields, dict):
            yield name, cast(dict[object, object], fields).get(_FIELD)
        else:
            pairs = cast(Sequence[object], fields)
            yield name, pairs[1] if len(pairs) == 2 else None
