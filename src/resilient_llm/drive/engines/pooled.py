"""The engines ``httpx`` and ``httpx2``: their connections, over streams of our own; for the sync client, and what both
clients share.

Requests go straight to a connection (of httpcore, or httpcore2): no redirects, cookies, authentication or event hooks,
none of which an API call wants.  Exceptions are those of httpx, or httpx2.  Bodies come as they are on the wire.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeAlias
from urllib.parse import unquote, urlsplit

from resilient_llm.drive.engines.generations import Generations
from resilient_llm.drive.engines.kept import Address, Kept, Way
from resilient_llm.drive.engines.seam import Limit, Outgoing
from resilient_llm.drive.fork import imported, tell_after_fork
from resilient_llm.errors import ConfigurationError

if TYPE_CHECKING:
    import ssl

    from resilient_llm.drive.engines.network import Backend

_CORES = {"httpx": "httpcore", "httpx2": "httpcore2"}
_IDLE = 30.0  # seconds a connection is kept that nobody uses
_PROXIES = frozenset({"http", "socks5", "socks5h"})
_NEEDED = ("urllib.request", "email.utils")
_KNOWN = 256  # URLs whose parts are kept
_PORTS, _LAST_PORT = {"http": 80, "https": 443}, 65535
_PLAIN = re.compile(
    r"(?P<scheme>https?)://(?P<host>[a-z0-9.-]+)(?::(?P<port>[0-9]{1,5}))?(?P<target>(?!.*/\.)/(?:[\w.~:/?=&+,@!$*;-]|%[0-9A-F]{2})*)?",
    re.ASCII,
)

Header: TypeAlias = tuple[bytes, bytes]


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
        self._addresses: dict[str, Address] = {}

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

    def address(self, url: str) -> Address:
        """Where a URL leads."""
        known = self._addresses.get(url)
        if known is None:
            if len(self._addresses) >= _KNOWN:
                self._addresses.clear()
            parts = self._plain(url) or self._unusual(url)
            name = parts.host.decode("ascii")
            made = self.core.URL(scheme=parts.scheme.encode(), host=parts.host, port=parts.port, target=parts.target)
            place = ((parts.scheme, proxy_for(parts.scheme, name, parts.port)), parts.netloc)
            known = self._addresses[url] = Address(made, made.origin, (b"host", parts.netloc), place, name)
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

    def request(self, outgoing: Outgoing, address: Address, limit: Limit) -> Any:
        """The request for a connection."""
        body = outgoing.body
        headers = [address.host]
        headers += [(name.encode("ascii"), value.encode("ascii")) for name, value in outgoing.headers]
        headers.append((b"content-length", b"%d" % len(body)))
        extensions = {"timeout": {"connect": limit, "read": limit, "write": limit}}
        request = self.core.Request(
            outgoing.method.encode("ascii"), address.url, content=OnePiece(body), extensions=extensions
        )
        request.headers = headers  # given to the constructor, they would be checked for their types and copied
        return request

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

    def maker(self, way: Way, backend: object, made: Any) -> Any:
        """What makes connections for this way: one of httpcore's pools, which know each kind of proxy.  It never holds
        any."""
        scheme, proxy = way
        settings: dict[str, Any] = {
            "keepalive_expiry": _IDLE,
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

    They lie in the HTTP parser, to which the connection has no public way.  If this one changes, connections are not
    used again, which is slow but right, and a test says so.
    """
    try:
        data, closed = response.stream._connection._h11_state.trailing_data
    except AttributeError:
        return True
    return bool(data) or closed


class Head:
    """An answer, as far as its head tells, and the connection it comes over."""

    __slots__ = ("_family", "_held", "_kept", "_limit", "_place", "_response", "_stream", "headers", "spent", "status")

    def __init__(self, family: Family, sent: Sent, limit: Limit) -> None:
        response = sent.response
        self.status: int = response.status
        self.headers: Mapping[str, str] = headers_of(response.headers)
        self.spent: bool = False
        """Whether the body was read to its end, so that closing waits for nothing."""
        self._family = family
        self._response = response
        self._limit = limit
        self._stream = response.extensions["network_stream"]
        self._kept = sent.kept
        self._place = sent.address.place
        self._held = [sent.connection]

    def sever(self) -> None:
        """Cut the connection."""
        self._limit.sever()

    def parted(self) -> list[Any]:
        """Part from the connection, the first time: keep it for others, if all of the answer was read and nothing
        more came.  Returns what is to be closed."""
        try:
            connection = self._held.pop()  # at once, should two threads close it
        except IndexError:
            return []
        if not self.spent or surplus(self._response):
            return [connection]
        left = self._kept.give(self._place, connection)
        return [] if left is None else [left]


class Sent(NamedTuple):
    """A request that was sent, and the head of whose answer has arrived."""

    response: Any
    connection: Any
    kept: Kept
    address: Address


class PooledAnswer(Head):
    """An answer whose body is still to be read."""

    __slots__ = ("_chunks",)

    def __init__(self, family: Family, sent: Sent, limit: Limit) -> None:
        super().__init__(family, sent, limit)
        self._chunks: Iterator[bytes] = iter(sent.response.stream)

    def read(self) -> bytes | None:
        """The next piece of the body; ``None`` at its end."""
        try:
            for piece in self._chunks:
                return piece
        except self._family.errors as error:
            self._family.raised(error)
        self.spent = True
        return None

    def close(self) -> None:
        """Give the connection back, or close it if the answer was not read to its end."""
        self._limit.release()
        with suppress(*self._family.errors):
            self._response.close()
        for connection in self.parted():
            connection.close()


class Pooled:
    """The engine of the sync client."""

    bounded = True

    def __init__(self, name: str) -> None:
        self.family: Family = Family(name)
        self._generations = Generations()
        self._kept = Kept(self._maker)
        tell_after_fork(self)

    def send(self, outgoing: Outgoing, limit: Limit) -> PooledAnswer:
        """Send a request.  Over a kept-alive connection that turns out to be closed it is sent once more."""
        family = self.family
        address = family.address(outgoing.url)
        if outgoing.fresh:
            self._generations.expire(address.name)
        try:
            return PooledAnswer(family, self._sent(address, outgoing, limit), limit)
        except family.errors as error:
            if not family.lost(error, outgoing, limit):
                family.raised(error)
        self._generations.expire(address.name)
        try:
            return PooledAnswer(family, self._sent(address, outgoing, limit), limit)
        except family.errors as error:
            family.raised(error)

    def _sent(self, address: Address, outgoing: Outgoing, limit: Limit) -> Sent:
        kept = self._kept
        connection, old = kept.take(address)
        try:
            for one in old:
                one.close()
            response = connection.handle_request(self.family.request(outgoing, address, limit))
            return Sent(response, connection, kept, address)
        except BaseException:
            connection.close()
            raise

    def _maker(self, way: Way) -> Any:
        made: type[Backend] = imported("resilient_llm.drive.engines.network").Backend
        return self.family.maker(way, made(self.family, self._generations), self.family.core.ConnectionPool)

    def close(self) -> None:
        """Close idle connections; those in use are closed when they come back."""
        kept, self._kept = self._kept, Kept(self._maker)
        for connection in kept.end():
            with suppress(Exception):
                connection.close()

    def reset_after_fork(self) -> None:
        """In the child: forget the parent's connections without touching them."""
        FORGOTTEN.append(self._kept)
        self._kept = Kept(self._maker)
        self._generations = Generations()


FORGOTTEN: list[object] = []
"""Connections of a parent process, kept from being collected: closing a TLS one could send bytes."""
