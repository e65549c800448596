"""The HTTP engine: httpx, with as little around it as the job needs.

Without a client of the user's, requests go straight to an httpx *transport*: no redirects, cookies, authentication or event hooks,
none of which an API call wants.  A client the user passes (of httpx or httpx2) is used as it is.  Bodies are read as raw bytes and
decompressed here, so that they can be bounded.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from types import ModuleType
from typing import Protocol
from urllib.request import getproxies

import httpx
from anyio.lowlevel import RunVar

from resilient_llm.drive.body import Body, Inflater
from resilient_llm.providers.base import Prepared

_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=30.0)
"""Open streams hold connections for minutes: a limit here would look like providers failing."""


class Response(Protocol):
    """The part of httpx's and httpx2's responses that is used."""

    @property
    def status_code(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]: ...


class PhaseTimeouts(dict[str, float]):
    """httpx's timeouts for one attempt, each of them at most what is left of it when the phase begins.

    httpx bounds every single read; without this, connecting and waiting could each take the whole time.
    """

    def __init__(self, clock: Callable[[], float], until: float, connect: float) -> None:
        super().__init__(connect=connect)
        self._clock = clock
        self._until = until
        self._connect = connect

    def get(self, key: str, default: object = None) -> float:  # type: ignore[override]
        """Seconds this phase may take."""
        left = max(0.001, self._until - self._clock())
        return min(left, self._connect) if key == "connect" else left

    def __getitem__(self, key: str) -> float:
        return self.get(key)


def family(client: object) -> ModuleType:
    """The package a client object belongs to: httpx, or httpx2, whose classes are not interchangeable."""
    for base in type(client).__mro__:
        package = base.__module__.partition(".")[0]
        if package in ("httpx", "httpx2"):
            return sys.modules[package]
    return httpx


class Addresses:
    """Parsed URLs and ``host`` headers, kept because providers have few and calls are many."""

    __slots__ = ("_known", "_package")

    def __init__(self, package: ModuleType) -> None:
        self._package = package
        self._known: dict[str, tuple[httpx.URL, str]] = {}

    def request(self, prepared: Prepared, timeouts: Mapping[str, float | None]) -> httpx.Request:
        """The request object for an engine of this family."""
        known = self._known.get(prepared.url)
        if known is None:
            if len(self._known) >= 256:
                self._known.clear()
            url = self._package.URL(prepared.url)
            known = self._known[prepared.url] = (url, url.netloc.decode("ascii"))
        url, host = known
        request: httpx.Request = self._package.Request(
            "POST",
            url,
            headers=[("host", host), *prepared.headers, ("content-length", str(len(prepared.body)))],
            stream=self._package.ByteStream(prepared.body),
            extensions={"timeout": timeouts},
        )
        return request


class Answer:
    """An HTTP answer whose body is still to be read.  Close it, whatever happens."""

    __slots__ = ("_chunks", "_inflater", "_response", "headers", "status")

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self.status: int = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self._chunks: Iterator[bytes] | None = None
        self._inflater: Inflater | None = None

    def read(self, limit: int) -> bytes:
        """The whole body, at most ``limit`` bytes of it."""
        body = Body(self.headers.get("content-encoding"), limit)
        for chunk in self._response.stream:  # type: ignore[union-attr]
            body.feed(chunk)
        return body.bytes()

    def chunk(self, limit: int) -> bytes | None:
        """The next piece of the body; ``None`` at its end."""
        if self._chunks is None:
            self._chunks = iter(self._response.stream)  # type: ignore[arg-type]
            self._inflater = inflater(self.headers, limit)
        data = next(self._chunks, None)
        return data if data is None or self._inflater is None else self._inflater.feed(data)

    def readable(self) -> bool:
        """Whether reading would not wait: the rest of the answer has arrived or the connection has ended."""
        stream = self._response.extensions.get("network_stream")
        return stream is not None and bool(stream.get_extra_info("is_readable"))

    def close(self) -> None:
        """Let go of the connection."""
        self._response.close()


class AsyncAnswer:
    """The same for the async client."""

    __slots__ = ("_chunks", "_inflater", "_response", "headers", "status")

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self.status: int = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self._chunks: AsyncIterator[bytes] | None = None
        self._inflater: Inflater | None = None

    async def read(self, limit: int) -> bytes:
        """The whole body, at most ``limit`` bytes of it."""
        body = Body(self.headers.get("content-encoding"), limit)
        async for chunk in self._response.stream:  # type: ignore[union-attr]
            body.feed(chunk)
        return body.bytes()

    async def chunk(self, limit: int) -> bytes | None:
        """The next piece of the body; ``None`` at its end."""
        if self._chunks is None:
            self._chunks = self._response.stream.__aiter__()  # type: ignore[union-attr]
            self._inflater = inflater(self.headers, limit)
        try:
            data = await self._chunks.__anext__()
        except StopAsyncIteration:
            return None
        return data if self._inflater is None else self._inflater.feed(data)

    async def aclose(self) -> None:
        """Let go of the connection."""
        await self._response.aclose()


def inflater(headers: Mapping[str, str], limit: int) -> Inflater | None:
    """What undoes the answer's content encoding; ``None`` if it has none."""
    encoding = headers.get("content-encoding")
    return None if encoding is None or encoding == "identity" else Inflater(encoding, limit)


class Http:
    """Sends requests for the sync client; safe for threads."""

    def __init__(self, client: httpx.Client | None) -> None:
        self._given = client
        self._lock = threading.Lock()
        self._transport: httpx.BaseTransport | None = None
        self._own: httpx.Client | None = None
        self._addresses = Addresses(family(client) if client is not None else httpx)

    def post(self, prepared: Prepared, timeouts: Mapping[str, float | None]) -> Answer:
        """Send a request; returns when the head of the answer has arrived."""
        request = self._addresses.request(prepared, timeouts)
        client = self._given or self._own
        if client is None:
            transport = self._transport or self._open()
            if transport is not None:
                return Answer(transport.handle_request(request))
            client = self._own
            assert client is not None
        return Answer(client.send(request, stream=True, follow_redirects=False))

    def _open(self) -> httpx.BaseTransport | None:
        """Make the engine at the first request: a bare transport, or a client where the environment asks for proxies."""
        with self._lock:
            if self._transport is None and self._own is None:
                if getproxies():
                    self._own = httpx.Client(limits=_LIMITS)
                else:
                    self._transport = httpx.HTTPTransport(limits=_LIMITS)
            return self._transport

    def close(self) -> None:
        """Close what was opened here; a client the user passed stays open."""
        with self._lock:
            transport, self._transport = self._transport, None
            own, self._own = self._own, None
        if transport is not None:
            transport.close()
        if own is not None:
            own.close()

    def reset_after_fork(self) -> None:
        """In the child: forget the parent's connections without touching them."""
        self._lock = threading.Lock()
        self._transport = self._own = None


class AsyncHttp:
    """Sends requests for the async client, with one set of connections per event loop."""

    def __init__(self, client: httpx.AsyncClient | None) -> None:
        self._given = client
        self._engines: RunVar[httpx.AsyncBaseTransport | httpx.AsyncClient] = RunVar(f"resilient_llm-{id(self)}")
        self._addresses = Addresses(family(client) if client is not None else httpx)

    async def post(self, prepared: Prepared, timeouts: Mapping[str, float | None]) -> AsyncAnswer:
        """Send a request; returns when the head of the answer has arrived."""
        request = self._addresses.request(prepared, timeouts)
        engine = self._given or self._engines.get(None) or self._open()
        if isinstance(engine, httpx.AsyncBaseTransport):
            return AsyncAnswer(await engine.handle_async_request(request))
        return AsyncAnswer(await engine.send(request, stream=True, follow_redirects=False))

    def _open(self) -> httpx.AsyncBaseTransport | httpx.AsyncClient:
        engine: httpx.AsyncBaseTransport | httpx.AsyncClient
        engine = httpx.AsyncClient(limits=_LIMITS) if getproxies() else httpx.AsyncHTTPTransport(limits=_LIMITS)
        self._engines.set(engine)
        return engine

    async def aclose(self) -> None:
        """Close the connections of the running event loop; a client the user passed stays open."""
        engine = self._engines.get(None)
        if engine is not None:
            self._engines.delete() if hasattr(self._engines, "delete") else None
            self._engines = RunVar(f"resilient_llm-{id(self)}-closed")
            await engine.aclose()

    def reset_after_fork(self) -> None:
        """In the child: the parent's event loop, and with it its connections, is not there."""
