"""The two families ``httpx`` and ``httpx2``: what errors their engines raise, whom TLS trusts, how URLs are read."""

from __future__ import annotations

import re
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from resilient_llm.drive.fork import imported
from resilient_llm.providers.network import USUAL, Network

if TYPE_CHECKING:
    import ssl

    from resilient_llm.drive.engines.kept import Place
    from resilient_llm.drive.engines.proxies import Greeting, Proxy
    from resilient_llm.drive.engines.trust import Contexts

_CORES = {"httpx": "httpcore", "httpx2": "httpcore2"}
_NEEDED = ("urllib.request", "email.utils")
_KNOWN = 256  # URLs whose parts are kept
_PORTS, _LAST_PORT = {"http": 80, "https": 443}, 65535
_PLAIN = re.compile(
    r"(?P<scheme>https?)://(?P<host>[a-z0-9.-]+)(?::(?P<port>[0-9]{1,5}))?(?P<target>(?!.*/\.)/(?:[\w.~:/?=&+,@!$*;-]|%[0-9A-F]{2})*)?",
    re.ASCII,
)


class Parts(NamedTuple):
    """Of a URL: ``port`` is ``None`` where it is the scheme's own, ``target`` the path with the query, ``netloc`` what
    the ``host`` header says."""

    scheme: str
    host: bytes
    port: int | None
    target: bytes
    netloc: bytes


class Destination(NamedTuple):
    """Where a request goes.  ``host`` and ``port`` are the URL's; ``target`` and ``headers`` begin the request."""

    place: Place
    host: str
    port: int
    target: bytes
    headers: list[tuple[bytes, bytes]]
    proxy: Proxy | None
    network: Network

    @property
    def encrypted(self) -> bool:
        """Whether TLS is spoken there."""
        return self.place[0] == "https"

    @property
    def peer(self) -> tuple[str, int]:
        """Whom to connect to: host and port."""
        return (self.host, self.port) if self.proxy is None else (self.proxy.host, self.proxy.port)

    @property
    def forwarded(self) -> bool:
        """Whether a proxy is asked for each URL, and not once for a way through."""
        return self.proxy is not None and self.proxy.scheme == "http" and not self.encrypted

    def greeting(self, core: ModuleType) -> Greeting:
        """What is said to a proxy before anything else."""
        if self.proxy is not None and not self.forwarded:
            yield from self.proxy.greeting(core, self.host, self.port)


class Family:
    """One of the two families, and what is prepared once per URL."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._core: ModuleType | None = None
        self._known: dict[str | tuple[str, Network], Destination] = {}
        self._contexts: Contexts | None = None

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
        """What a connection raises when a request fails."""
        core = self.core
        return (core.TimeoutException, core.NetworkError, core.ProtocolError, core.ProxyError, OSError)

    @property
    def face(self) -> ModuleType:
        """The package users know, imported when its errors, its TLS settings or its rules for unusual URLs are needed:
        that takes longer than to import all else that a call needs."""
        return imported(self._name)

    def destination(self, url: str, network: Network = USUAL) -> Destination:
        """Where a URL leads.  Raises ``ConfigurationError`` where the environment names a proxy that cannot be used."""
        asked = url if network is USUAL else (url, network)
        known = self._known.get(asked)
        if known is None:
            if len(self._known) >= _KNOWN:
                self._known.clear()
            parts = self._plain(url) or self._unusual(url)
            host = parts.host.decode("ascii")
            proxies = imported("resilient_llm.drive.engines.proxies")
            way = proxies.way_of(network, parts.scheme, host, parts.port)
            made = Destination(
                (parts.scheme, parts.netloc, way, None if network is USUAL else network),
                host,
                parts.port or _PORTS[parts.scheme],
                parts.target,
                [(b"host", parts.netloc)],
                None if way is None else proxies.proxy_of(way),
                network,
            )
            if made.proxy is not None and made.forwarded:
                target = b"%s://%s%s" % (parts.scheme.encode(), parts.netloc, parts.target)
                made = made._replace(target=target, headers=[*made.headers, *made.proxy.headers])
            known = self._known[asked] = made
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

    def raised(self, error: Exception) -> NoReturn:
        """Raise an error of httpcore as the one of httpx it stands for."""
        kind = getattr(self.face, type(error).__name__, None)
        if kind is None or isinstance(error, OSError):
            raise error
        raise kind(str(error)) from error

    def context(self, network: Network) -> ssl.SSLContext:
        """Whom TLS trusts, and which certificate it shows."""
        if not network.own_tls:
            return _trust(self.face)
        contexts = self._contexts
        if contexts is None:
            made: Contexts = imported("resilient_llm.drive.engines.trust").Contexts(self.face.create_ssl_context)
            contexts = self._contexts = made
        return contexts.of(network)


@cache
def _trust(face: ModuleType) -> ssl.SSLContext:
    """One TLS context for everybody: reading the certificates takes a fifth of a second."""
    made: ssl.SSLContext = face.create_ssl_context()
    made.set_alpn_protocols(["http/1.1"])
    return made
