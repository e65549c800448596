"""The engine ``aiohttp``, for asyncio."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from io import BytesIO
from typing import Any, NamedTuple

import aiohttp
import anyio
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from resilient_llm.drive.engines import NO_SOCKS
from resilient_llm.drive.engines.loops import resolved
from resilient_llm.drive.engines.network import shut
from resilient_llm.drive.engines.proxies import proxy_of, way_of
from resilient_llm.drive.engines.seam import Limit, Outgoing, joined
from resilient_llm.drive.engines.trust import Contexts
from resilient_llm.errors import ConfigurationError
from resilient_llm.providers.network import USUAL, Network

_LONGEST = 102400  # bytes of a header, as on the other engines
_LARGE = 1 << 20  # bytes of a body above which aiohttp warns of one that is sent at once
_LOST = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)
_UNASKED = ("accept", "accept-encoding", "content-type", "user-agent")
_KNOWN = 256  # URLs whose parts are kept
_NO_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)


class ProxyError(ConnectionError):
    """A proxy does not let us through."""


class _Resolver(AbstractResolver):
    """Host names as the other engines resolve them: in few threads that no call waits for longer than it may."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host, host=str(address[0]), port=port, family=kind, proto=0, flags=socket.AI_NUMERICHOST
            )
            for kind, address in await resolved(host)
        ]

    async def close(self) -> None:
        """There is nothing to close."""


class AiohttpAnswer:
    """An answer whose body is still to be read."""

    __slots__ = ("_limit", "_response", "_used", "headers", "spent", "status")

    def __init__(self, response: aiohttp.ClientResponse, used: _Used, limit: Limit) -> None:
        self.status: int = response.status
        found = [(name.lower(), value) for name, value in response.headers.items()]
        self.headers: Mapping[str, str] = joined(found)
        self._response = response
        self._used: _Used | None = used
        self._limit = limit
        self.spent: bool = False

    async def read(self) -> bytes | None:
        """The next piece of the body; ``None`` at its end."""
        if self._limit.scoped:
            data = await self._response.content.readany()
        else:
            with anyio.fail_after(self._limit.left()):
                data = await self._response.content.readany()
        if not data:
            self.spent = True
            return None
        return data

    def sever(self) -> None:
        """Cut the connection; touches the socket only."""
        self._limit.sever()

    async def aclose(self) -> None:
        """Give the connection back, or close it if the answer was not read to its end."""
        self._limit.release()
        if not self.spent:
            self._response.close()
        self._response.release()
        used, self._used = self._used, None
        if used is not None:
            await used.left()


class _Used:
    """A session, and how many use it.  To close one cuts off everybody who does."""

    __slots__ = ("by", "replaced", "session")

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session: aiohttp.ClientSession = session
        self.by: int = 0
        self.replaced: bool = False

    async def left(self) -> None:
        """One is done with it: the last one closes it, where it was replaced."""
        self.by -= 1
        if self.replaced and not self.by:
            await self.session.close()

    async def replace(self) -> None:
        """Nobody else is to use it."""
        self.replaced = True
        self.by += 1
        await self.left()


class _Connection:
    """The connection of an answer, for :meth:`Limit.sever`."""

    __slots__ = ("_response",)

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    def sever(self) -> None:
        with suppress(Exception):
            connection = self._response.connection
            transport = None if connection is None else connection.transport
            sock: Any = None if transport is None else transport.get_extra_info("socket")
            shut(getattr(sock, "_sock", sock))


class _Way(NamedTuple):
    """Where a URL leads: with the proxy, and what it wants to be told, with the request or before it.  What stands in
    the proxy's URL would be shown in aiohttp's errors."""

    url: URL
    proxy: URL | None
    headers: tuple[tuple[str, str], ...]
    proxy_headers: dict[str, str] | None


def _way_of(text: str, network: Network) -> _Way:
    url = URL(text, encoded=True)
    way = way_of(network, url.scheme, url.raw_host or "", url.explicit_port)
    if way is None:
        return _Way(url, None, (), None)
    if not way.startswith("http:"):
        raise ConfigurationError(f"{way.shown}: {NO_SOCKS}")
    told = tuple((name.decode(), value.decode()) for name, value in proxy_of(way).headers)
    encrypted = url.scheme == "https"
    return _Way(url, URL(way.shown), () if encrypted else told, dict(told) if encrypted else None)


class Aiohttp:
    """The engine of the async client on one event loop."""

    of_loop = True

    def __init__(self) -> None:
        self._used: _Used | None = None
        self._ways: dict[str | tuple[str, Network], _Way] = {}
        self._contexts = Contexts(ssl.create_default_context)
        self._timeouts: dict[tuple[float, bool], aiohttp.ClientTimeout] = {}

    def _way(self, text: str, network: Network) -> _Way:
        """Kept, because providers have few and calls are many."""
        asked = text if network is USUAL else (text, network)
        known = self._ways.get(asked)
        if known is None:
            if len(self._ways) >= _KNOWN:
                self._ways.clear()
            known = self._ways[asked] = _way_of(text, network)
        return known

    def _timeout(self, connect: float, *, tunnel: bool) -> aiohttp.ClientTimeout:
        """``sock_connect`` does not bound what a proxy says before it lets us through."""
        known = self._timeouts.get((connect, tunnel))
        if known is None:
            if len(self._timeouts) >= _KNOWN:
                self._timeouts.clear()
            whole = 2 * connect if tunnel else None
            known = aiohttp.ClientTimeout(total=None, connect=whole, sock_connect=connect)
            self._timeouts[connect, tunnel] = known
        return known

    def _opened(self) -> _Used:
        if self._used is None:
            connector = aiohttp.TCPConnector(
                limit=0, resolver=_Resolver(), use_dns_cache=False, socket_factory=_new_socket
            )
            session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=_UNASKED,
                timeout=_NO_TIMEOUT,
                max_line_size=_LONGEST,
                max_field_size=_LONGEST,
            )
            self._used = _Used(session)
        return self._used

    async def send(self, outgoing: Outgoing, limit: Limit) -> AiohttpAnswer:
        """Send a request.  Over a kept-alive connection that turns out to be closed it is sent once more."""
        try:
            return await self._sent(outgoing, limit, fresh=outgoing.fresh)
        except _LOST:
            if not limit.reused or not outgoing.repeatable:
                raise
        return await self._sent(outgoing, limit, fresh=True)

    async def _sent(self, outgoing: Outgoing, limit: Limit, *, fresh: bool) -> AiohttpAnswer:
        former = self._used
        if fresh and former is not None:  # a session has no way to send one request over a new connection
            self._used = None
            await former.replace()
        limit.reused = True  # unless a socket is made for it
        asking = _asking.set(limit)
        used = self._opened()
        used.by += 1
        try:
            response = await self._asked(used.session, outgoing, limit)
        except BaseException as error:
            await used.left()
            if isinstance(error, aiohttp.ClientHttpProxyError):
                raise ProxyError(f"the proxy refused: {error.status} {error.message}") from error
            if isinstance(error, aiohttp.ClientResponseError):  # it would be taken for a 400 of the provider's
                raise aiohttp.ClientPayloadError(f"the answer is none: {error.message}") from error
            raise
        finally:
            _asking.reset(asking)
        limit.use(_Connection(response))
        return AiohttpAnswer(response, used, limit)

    def _asked(
        self, session: aiohttp.ClientSession, outgoing: Outgoing, limit: Limit
    ) -> Awaitable[aiohttp.ClientResponse]:
        network = outgoing.network
        way = self._way(outgoing.url, network)
        return session.request(
            outgoing.method,
            way.url,
            data=outgoing.body if len(outgoing.body) < _LARGE else BytesIO(outgoing.body),
            headers=(*outgoing.headers, *way.headers) if way.headers else outgoing.headers,
            allow_redirects=False,
            proxy=way.proxy,
            proxy_headers=way.proxy_headers,
            ssl=self._contexts.of(network) if network.own_tls else True,
            timeout=self._timeout(limit.connect, tunnel=way.proxy is not None),
        )

    async def aclose(self) -> None:
        """Close the session, and with it what is being read."""
        used, self._used = self._used, None
        if used is not None:
            await used.session.close()


_asking: ContextVar[Limit | None] = ContextVar("resilient_llm_asking", default=None)
"""The limit of the request that is being sent."""


def _new_socket(info: Any) -> socket.socket:
    """Called by the connector for each new connection."""
    limit = _asking.get()
    if limit is not None:
        limit.reused = False
    return socket.socket(family=info[0], type=info[1], proto=info[2])


def running_on_asyncio() -> bool:
    """Whether the caller runs on asyncio, the only one aiohttp knows."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
