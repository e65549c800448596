"""The way through a proxy: ``http://``, ``socks5://`` or ``socks5h://``.  Without I/O."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Generator
from types import ModuleType
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import unquote

from resilient_llm.drive.fork import imported
from resilient_llm.errors import ConfigurationError
from resilient_llm.providers.network import PROXIES, Network, ProxyUrl, proxy_parts

Greeting: TypeAlias = Generator[bytes, bytes, None]
"""Yields what to send, and is sent what came; it ends when the proxy passes everything on."""


class Proxy(NamedTuple):
    """A proxy.  ``auth``: a name and a password."""

    scheme: str
    host: str
    port: int
    auth: tuple[str, str] | None

    @property
    def shown(self) -> str:
        """As it may be shown."""
        return f"{self.scheme}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def __repr__(self) -> str:
        return f"<Proxy {self.shown}>"

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """What an HTTP proxy wants to be told with a request."""
        if self.auth is None:
            return []
        return [(b"proxy-authorization", b"Basic " + b64encode(":".join(self.auth).encode()))]

    def greeting(self, core: ModuleType, host: str, port: int) -> Greeting:
        """What is said before the first byte for this host.  Raises ``ProxyError`` of httpcore (``core``)."""
        return _tunnel(core, self, host, port) if self.scheme == "http" else _socks(core, self, host, port)


def way_of(network: Network, scheme: str, host: str, port: int | None) -> ProxyUrl | None:
    """The proxy on the way to a URL: the provider's own, else the one that the environment names; ``None``: none.

    Raises ``ConfigurationError`` for one of the environment's that cannot be used; nothing is sent, so no provider is
    to blame.
    """
    if network.proxy is not None:
        return network.proxy or None
    request = imported("urllib.request")
    proxies: dict[str, str] = request.getproxies()
    url = proxies.get(scheme) or proxies.get("all")
    if not url or request.proxy_bypass(host if port is None else f"{host}:{port}"):
        return None
    way = ProxyUrl(url if "://" in url else f"http://{url}")
    try:
        proxy_parts(way)
    except ValueError:
        known = ", ".join(f"{one}://" for one in PROXIES)
        told = f"the scheme {way.partition('://')[0]!r}; it must be one of {known}, with a host"
        raise ConfigurationError(f"the environment names a proxy for {scheme} with {told}") from None
    return way


def proxy_of(url: ProxyUrl) -> Proxy:
    """The proxy behind a URL that :func:`way_of` returned."""
    parts, port = proxy_parts(url)
    auth = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
    return Proxy(parts.scheme, parts.hostname or "", port, auth)


def _tunnel(core: ModuleType, proxy: Proxy, host: str, port: int) -> Greeting:
    target = f"[{host}]:{port}".encode() if ":" in host else f"{host}:{port}".encode()
    h11: Any = imported("h11")
    state = h11.Connection(h11.CLIENT)
    headers = [(b"host", target), (b"accept", b"*/*"), *proxy.headers]
    state.receive_data((yield state.send(h11.Request(method=b"CONNECT", target=target, headers=headers)) or b""))
    try:
        while type(event := state.next_event()) is not h11.Response:
            if event is h11.NEED_DATA:
                state.receive_data((yield b""))
    except h11.RemoteProtocolError as error:
        raise core.ProxyError(f"the proxy's answer is none: {error}") from error
    if not 200 <= event.status_code < 300:
        raise core.ProxyError(f"the proxy refused: {event.status_code} {event.reason.decode('latin-1')}")


def _socks(core: ModuleType, proxy: Proxy, host: str, port: int) -> Greeting:
    try:
        socks: Any = imported("socksio.socks5")
    except ImportError as error:
        raise ConfigurationError(f"a proxy with {proxy.scheme}:// needs a package: pip install socksio") from error
    talk = socks.SOCKS5Connection()
    method = socks.SOCKS5AuthMethod.NO_AUTH_REQUIRED if proxy.auth is None else socks.SOCKS5AuthMethod.USERNAME_PASSWORD
    talk.send(socks.SOCKS5AuthMethodsRequest([method]))
    answer = yield from _said(core, talk)
    if answer.method != method:
        raise core.ProxyError("the proxy wants another way of authentication")
    if proxy.auth is not None:
        name, password = (one.encode() for one in proxy.auth)
        talk.send(socks.SOCKS5UsernamePasswordRequest(name, password))
        answer = yield from _said(core, talk)
        if not answer.success:
            raise core.ProxyError("the proxy refused the name or the password")
    talk.send(socks.SOCKS5CommandRequest.from_address(socks.SOCKS5Command.CONNECT, (host, port)))
    answer = yield from _said(core, talk)
    if answer.reply_code != socks.SOCKS5ReplyCode.SUCCEEDED:
        raise core.ProxyError(f"the proxy could not connect: {answer.reply_code!r}")


def _said(core: ModuleType, talk: Any) -> Generator[bytes, bytes, Any]:
    """Send what is to be said; returns the answer."""
    came = yield talk.data_to_send()
    try:
        return talk.receive_data(came)
    except Exception as error:
        raise core.ProxyError(f"the proxy's answer is none: {error}") from error
