"""The engines ``httpx`` and ``httpx2``: their connection pools, with connections of our own underneath; for the sync
client, and what both clients share.

Requests go straight to the pool (of httpcore, or httpcore2): no redirects, cookies, authentication or event hooks, none
of which an API call wants.  Exceptions are those of httpx, or httpx2.  Bodies come as they are on the wire.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeAlias
from urllib.parse import unquote, urlsplit

from resilient_llm.drive.engines.generations import Generations
from resilient_llm.drive.engines.seam import Limit, Outgoing
from resilient_llm.drive.fork import imported, tell_after_fork
from resilient_llm.errors import ConfigurationError

if TYPE_CHECKING:
    import ssl

    from resilient_llm.drive.engines.network import Backend

_CORES = {"httpx": "httpcore", "httpx2": "httpcore2"}
_SETTINGS: dict[str, Any] = {"max_connections": None, "max_keepalive_connections": 100, "keepalive_expiry": 30.0}
"""Open streams hold connections for minutes: a limit here would look like providers failing."""
_PROXIES = frozenset({"http", "socks5", "socks5h"})
_NEEDED = ("urllib.request", "email.utils")
_KNOWN = 256  # URLs whose parts are kept
_PORTS, _LAST_PORT = {"http": 80, "https": 443}, 65535
_PLAIN = re.compile(
    r"(?P<scheme>https?)://(?P<host>[a-z0-9.-]+)(?::(?P<port>[0-9]{1,5}))?(?P<target>(?!.*/\.)/(?:[\w.~:/?=&+,@!$*;-]|%[0-9A-F]{2})*)?",
    re.ASCII,
)

Header: TypeAlias = tuple[bytes, bytes]
Where: TypeAlias = tuple[str, str | None]
"""A scheme, and the URL of the proxy on the way (``None``: there is none)."""


class Parts(NamedTuple):
    """Of a URL: ``port`` is ``None`` where it is the scheme's own, ``target`` the path with the query, ``netloc`` what
    the ``host`` header says."""

    scheme: str
    host: bytes
    port: int | None
    target: bytes
    netloc: bytes


class Family:
    """One of the two families, and what is prepared once per URL."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._core: ModuleType | None = None
        self._addresses: dict[str, tuple[Any, Header, Where, str]] = {}

    @property
    def core(self) -> ModuleType:
        """httpcore or httpcore2, imported with the first request, and with it what else a request may need."""
        if self._core is None:  # no cached property: in Python 3.11 it holds a lock, which a fork may leave behind
            for name in _NEEDED:
                imported(name)
            self._core = imported(_CORES[self._name])
        return self._core

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """What a pool raises when a request fails.  Anything else interrupted it, and may have left its locks held."""
        core = self.core
        known = (core.TimeoutException, core.NetworkError, core.ProtocolError, core.ProxyError)
        return (*known, core.UnsupportedProtocol, OSError)

    @property
    def face(self) -> ModuleType:
        """The package users know, imported when its errors, its TLS settings or its rules for unusual URLs are needed:
        that takes longer than to import all else that a call needs."""
        return imported(self._name)

    def address(self, url: str) -> tuple[Any, Header, Where, str]:
        """The URL as the pool wants it, its ``host`` header, the way there, and the bare host."""
        known = self._addresses.get(url)
        if known is None:
            if len(self._addresses) >= _KNOWN:
                self._addresses.clear()
            parts = self._plain(url) or self._unusual(url)
            host = parts.host.decode("ascii")
            target = self.core.URL(scheme=parts.scheme.encode(), host=parts.host, port=parts.port, target=parts.target)
            where = (parts.scheme, proxy_for(parts.scheme, host, parts.port))
            known = self._addresses[url] = (target, (b"host", parts.netloc), where, host)
        return known

    def _plain(self, url: str) -> Parts | None:
        """The parts of a URL in its usual form; ``None``: it needs the rules for names in other scripts, for characters
        to be escaped, for addresses in brackets."""
        found = _PLAIN.fullmatch(url)
        if found is None or int(found["port"] or 0) > _LAST_PORT:
            return None
        scheme, host, port, target = found.group("scheme", "host", "port", "target")
        number = None if port is None or int(port) == _PORTS[scheme] else int(port)
        netloc = host if number is None else f"{host}:{number}"
        return Parts(scheme, host.encode(), number, (target or "/").encode(), netloc.encode())

    def _unusual(self, url: str) -> Parts:
        parsed = self.face.URL(url)
        return Parts(parsed.scheme, parsed.raw_host, parsed.port, parsed.raw_path, parsed.netloc)

    def request(self, outgoing: Outgoing, target: Any, host: Header, limit: Limit) -> Any:
        """The request for a pool."""
        body = outgoing.body
        headers = [host]
        headers += [(name.encode("ascii"), value.encode("ascii")) for name, value in outgoing.headers]
        headers.append((b"content-length", b"%d" % len(body)))
        timeouts = {"connect": limit, "read": limit, "write": limit, "pool": None}
        return self.core.Request(
            outgoing.method.encode("ascii"),
            target,
            headers=headers,
            content=OnePiece(body),
            extensions={"timeout": timeouts},
        )

    def lost(self, error: Exception, outgoing: Outgoing, limit: Limit) -> bool:
        """Whether a kept-alive connection was closed before any byte of the answer: nobody failed."""
        stale = limit.reused and not limit.heard and not limit.ended
        core = self.core
        closed = (core.ReadError, core.WriteError, core.RemoteProtocolError)
        return stale and outgoing.repeatable and isinstance(error, closed)

    def raised(self, error: Exception) -> NoReturn:
        """Raise an error of the pool as the one of httpx it stands for."""
        kind = getattr(self.face, type(error).__name__, None)
        if kind is None or not isinstance(error, Exception) or isinstance(error, OSError):
            raise error
        raise kind(str(error)) from error

    def pool(self, where: Where, backend: object, made: Any) -> Any:
        """A pool of this class for this way."""
        scheme, proxy = where
        settings = {
            **_SETTINGS,
            "network_backend": backend,
            "ssl_context": _verifying(self.face) if scheme == "https" else None,
        }
        if proxy is not None:
            settings["proxy"] = self._proxy(proxy)
        return made(**settings)

    def _proxy(self, url: str) -> Any:
        parts = urlsplit(url)
        auth = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
        port = parts.port or {"http": 80}.get(parts.scheme, 1080)
        return self.core.Proxy(f"{parts.scheme}://{parts.hostname}:{port}", auth=auth)


def proxy_for(scheme: str, host: str, port: int | None) -> str | None:
    """The proxy that the environment names for a URL; ``None``: none.

    Raises ``ConfigurationError`` for one that cannot be used; nothing is sent, so no provider is to blame.
    """
    request = imported("urllib.request")
    proxies: dict[str, str] = request.getproxies()
    url = proxies.get(scheme) or proxies.get("all")
    if not url or request.proxy_bypass(host if port is None else f"{host}:{port}"):
        return None
    if "://" not in url:
        url = f"http://{url}"
    parts = urlsplit(url)
    if parts.scheme not in _PROXIES or not parts.hostname:
        known = ", ".join(f"{one}://" for one in sorted(_PROXIES))
        raise ConfigurationError(
            f"the environment names a proxy for {scheme} with the scheme {parts.scheme!r}; it must be one of {known}"
        )
    return url


@cache
def _verifying(face: ModuleType) -> ssl.SSLContext:
    """One TLS context for everybody: reading the certificates takes a fifth of a second."""
    made: ssl.SSLContext = face.create_ssl_context()
    return made


class OnePiece:
    """A request body of one piece.  Not an async generator, which trio complains about when sending is cancelled."""

    __slots__ = ("_body",)

    def __init__(self, body: bytes) -> None:
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        return iter((self._body,))

    def __aiter__(self) -> _Once:
        return _Once(self._body)


class _Once:
    __slots__ = ("_left",)

    def __init__(self, piece: bytes) -> None:
        self._left: bytes | None = piece

    def __aiter__(self) -> _Once:
        return self

    async def __anext__(self) -> bytes:
        piece, self._left = self._left, None
        if piece is None:
            raise StopAsyncIteration
        return piece


def headers_of(raw: list[Header]) -> Mapping[str, str]:
    """An answer's headers by names in lower case; those that repeat are joined."""
    found: dict[str, str] = {}
    for name, value in raw:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found


def surplus(response: Any) -> bool:
    """Whether bytes followed an answer that was read to its end: they would begin the next one.

    They lie in the HTTP parser, to which the pool has no public way.  If this one changes, connections are not used
    again, which is slow but right, and a test says so.
    """
    try:
        data, closed = response.stream._stream._connection._h11_state.trailing_data
    except AttributeError:
        return True
    return bool(data) or closed


class Head:
    """An answer of a pool, as far as its head tells."""

    __slots__ = ("_limit", "_response", "_stream", "headers", "spent", "status")

    def __init__(self, response: Any, limit: Limit) -> None:
        self.status: int = response.status
        self.headers: Mapping[str, str] = headers_of(response.headers)
        self.spent: bool = False
        """Whether the body was read to its end, so that closing waits for nothing."""
        self._response = response
        self._limit = limit
        self._stream = response.extensions["network_stream"]

    def sever(self) -> None:
        """Cut the connection."""
        self._limit.sever()


class PooledAnswer(Head):
    """An answer of a pool whose body is still to be read."""

    __slots__ = ("_chunks", "_engine", "_pools")

    def __init__(self, engine: Pooled, pools: Pools, response: Any, limit: Limit) -> None:
        super().__init__(response, limit)
        self._engine = engine
        self._pools = pools
        self._chunks: Iterator[bytes] = iter(response.stream)

    def read(self) -> bytes | None:
        """The next piece of the body; ``None`` at its end."""
        try:
            for piece in self._chunks:
                return piece
        except self._engine.family.errors as error:
            self._engine.family.raised(error)
        except BaseException:
            self._engine.drop(self._pools)
            raise
        self.spent = True
        return None

    def close(self) -> None:
        """Give the connection back, or close it if the answer was not read to its end."""
        self._limit.release()
        if not self.spent or self._pools.suspect or surplus(self._response):
            self._stream.spoil()
        if self._pools.suspect:  # its locks may be held for ever
            self._stream.close()
            return
        try:
            self._response.close()
        except self._engine.family.errors:
            pass
        except BaseException:
            self._engine.drop(self._pools)
            self._stream.close()
            raise


class Pools:
    """The pools of one sync engine, until they are dropped."""

    def __init__(self) -> None:
        self.by_way: dict[Where, Any] = {}
        self.suspect: bool = False

    def close_idle(self) -> None:
        """Close connections nobody uses without waiting for any lock."""
        for pool in list(self.by_way.values()):
            for connection in pool.connections:
                if connection.is_idle():
                    with suppress(Exception):
                        connection.close()


class Pooled:
    """The engine of the sync client."""

    bounded = True

    def __init__(self, name: str) -> None:
        self.family: Family = Family(name)
        self._generations = Generations()
        self._pools = Pools()
        tell_after_fork(self)

    def send(self, outgoing: Outgoing, limit: Limit) -> PooledAnswer:
        """Send a request.  Over a kept-alive connection that turns out to be closed it is sent once more."""
        target, host, where, name = self.family.address(outgoing.url)
        if outgoing.fresh:
            self._generations.expire(name)
        pools = self._pools
        try:
            return self._sent(pools, where, outgoing, (target, host), limit)
        except self.family.errors as error:
            if not self.family.lost(error, outgoing, limit):
                self.family.raised(error)
        except BaseException:  # something interrupted the pool, in the middle of anything
            self.drop(pools)
            raise
        self._generations.expire(name)
        try:
            return self._sent(pools, where, outgoing, (target, host), limit)
        except self.family.errors as error:
            self.family.raised(error)
        except BaseException:
            self.drop(pools)
            raise

    def _sent(
        self, pools: Pools, where: Where, outgoing: Outgoing, address: tuple[Any, Header], limit: Limit
    ) -> PooledAnswer:
        pool = pools.by_way.get(where)
        if pool is None:  # two threads may make one each; the first counts, and the other holds nothing
            pool = pools.by_way.setdefault(where, self._pool(where))
        request = self.family.request(outgoing, *address, limit)
        return PooledAnswer(self, pools, pool.handle_request(request), limit)

    def _pool(self, where: Where) -> Any:
        made: type[Backend] = imported("resilient_llm.drive.engines.network").Backend
        backend = made(self.family, self._generations)
        pool = self.family.pool(where, backend, self.family.core.ConnectionPool)
        if hasattr(pool, "_optional_thread_lock"):
            # Theirs is a class in Python: interrupted between taking it and saying so, the very same call would wait
            # for it for ever while it cleans up.  A lock in C cannot be interrupted there.
            pool._optional_thread_lock = threading.Lock()
        return pool

    def drop(self, pools: Pools) -> None:
        """Use these pools no more: an exception from outside interrupted one, whose locks may be held for ever."""
        pools.suspect = True
        if self._pools is pools:
            self._pools = Pools()
        pools.close_idle()

    def close(self) -> None:
        """Close idle connections; those in use are closed when they come back."""
        pools, self._pools = self._pools, Pools()
        pools.suspect = True
        pools.close_idle()

    def __del__(self) -> None:
        """Of a client that was dropped without being closed."""
        with suppress(Exception):
            self._pools.close_idle()

    def reset_after_fork(self) -> None:
        """In the child: forget the parent's connections without touching them."""
        FORGOTTEN.append(self._pools)
        self._pools = Pools()
        self._generations = Generations()


FORGOTTEN: list[object] = []
"""Connections of a parent process, kept from being collected: closing a TLS one could send bytes."""
