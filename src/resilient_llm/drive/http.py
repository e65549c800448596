"""The HTTP engine: httpx, with as little around it as the job needs.

Without a client of the user's, requests go straight to an httpx *transport*: no redirects, cookies, authentication or
event hooks, none of which an API call wants.  A client the user passes (of httpx or httpx2) is used as it is.  Bodies
are read as raw bytes and decompressed here, so that they can be bounded.
"""

from __future__ import annotations

import contextlib
import math
import socket
import ssl
import sys
import threading
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping
from functools import cache, lru_cache
from types import ModuleType
from typing import Any, Protocol, TypeAlias, TypeVar, cast
from urllib.request import getproxies
from weakref import WeakKeyDictionary, ref

import anyio
import anyio.lowlevel
import httpx
from anyio.abc import TaskGroup

from resilient_llm.drive.body import Body, Inflater
from resilient_llm.drive.fork import tell_after_fork
from resilient_llm.errors import ClientClosed
from resilient_llm.providers.base import Prepared

P = TypeVar("P")

_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=30.0)
"""Open streams hold connections for minutes: a limit here would look like providers failing."""


class PhaseTimeouts(dict[str, float]):
    """httpx's timeouts for one attempt, each of them at most what is left of it when the phase begins.

    httpx bounds every single read; without this, connecting and waiting could each take the whole time.
    """

    def __init__(self, clock: Callable[[], float], until: float, connect: float) -> None:
        super().__init__(connect=connect)
        self._clock = clock
        self._until = until
        self._connect = connect

    def get(self, key: str, default: object = None) -> float:
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


class Once:
    """One piece, asynchronously.  Not an async generator, which trio complains about when the sending is cancelled."""

    __slots__ = ("_left",)

    def __init__(self, piece: bytes) -> None:
        self._left: bytes | None = piece

    def __aiter__(self) -> Once:
        return self

    async def __anext__(self) -> bytes:
        piece, self._left = self._left, None
        if piece is None:
            raise StopAsyncIteration
        return piece


@cache
def body_class(package: ModuleType) -> Callable[[bytes], object]:
    """The request body of one piece, as a class of the engine's family: it accepts no other."""

    class OnePiece(package.SyncByteStream, package.AsyncByteStream):  # type: ignore[misc, name-defined]
        def __init__(self, body: bytes) -> None:
            self._body = body

        def __iter__(self) -> Iterator[bytes]:
            return iter((self._body,))

        def __aiter__(self) -> Once:
            return Once(self._body)

    return OnePiece


class Addresses:
    """Parsed URLs and ``host`` headers, kept because providers have few and calls are many."""

    __slots__ = ("_body", "_known", "_package")

    def __init__(self, package: ModuleType) -> None:
        self._package = package
        self._body = body_class(package)
        self._known: dict[str, tuple[httpx.URL, str]] = {}

    def request(
        self, prepared: Prepared, timeouts: Mapping[str, float | None], given: object | None = None
    ) -> httpx.Request:
        """The request object for an engine of this family.  ``given``: a client of the user's that will send it."""
        known = self._known.get(prepared.url)
        if known is None:
            if len(self._known) >= 256:
                self._known.clear()
            url = self._package.URL(prepared.url)
            known = self._known[prepared.url] = (url, url.netloc.decode("ascii"))
        url, host = known
        headers = [("host", host), *prepared.headers, ("content-length", str(len(prepared.body)))]
        request: httpx.Request = self._package.Request(
            "POST",
            url,
            headers=headers if given is None else _with_defaults(headers, given),
            stream=self._body(prepared.body),
            extensions={"timeout": timeouts},
        )
        return request


def _with_defaults(headers: list[tuple[str, str]], client: object) -> list[tuple[str, str]]:
    """The headers, and below them those a client of the user's sends with every request: a gateway's, say.  Raises
    ``ClientClosed`` if it can send nothing any more."""
    if getattr(client, "is_closed", False):
        raise ClientClosed("the http_client given to this client is closed")
    defaults: Mapping[str, str] = getattr(client, "headers", {})
    ours = {name for name, _ in headers}
    return headers + [(name, value) for name, value in defaults.items() if name.lower() not in ours]


SyncEngine: TypeAlias = httpx.BaseTransport | httpx.Client
AsyncEngine: TypeAlias = httpx.AsyncBaseTransport | httpx.AsyncClient


class Reads:
    """Bounds every single read of one answer's body by a moving point in time.

    httpx fixes the read timeout when a body begins; content timers move with the content.  The connection is in an
    answer's documented extensions, and each of its reads takes a timeout: that is where the current one is put, for
    as long as the answer is being read.
    """

    __slots__ = ("_clock", "_stream", "until")

    def __init__(self, response: httpx.Response, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._stream = _own_connection(response)
        self.until: float = math.inf
        """Monotonic time by which the next bytes must have arrived."""

    @property
    def bounded(self) -> bool:
        """Whether it works here: with HTTP/1.1, where the connection belongs to this answer alone."""
        return self._stream is not None

    def bind(self) -> None:
        """Begin to bound reads."""
        stream = self._stream
        if stream is None:
            return
        read = stream.read

        def within(max_bytes: int, timeout: float | None = None) -> object:
            left = max(0.001, self.until - self._clock())
            return read(max_bytes, timeout=left if left < math.inf else timeout)

        stream.read = within

    def refuse(self) -> None:
        """Let every further read fail at once."""

        def refused(max_bytes: int, timeout: float | None = None) -> object:
            raise EOFError

        if self._stream is not None:
            self._stream.read = refused

    def punctual(self) -> None:
        """Raise ``TimeoutError`` past that time; where reads cannot be bounded, this is what ends a dripping answer."""
        if self._clock() > self.until:
            raise TimeoutError("the answer was not complete in time")

    def release(self) -> None:
        """Leave the connection as it was; it may serve other answers now."""
        if self._stream is not None:
            self._stream.__dict__.pop("read", None)
            self._stream = None

    def sever(self) -> None:
        """Shut the connection down without any lock, so that a finaliser may do it; the vendor stops generating."""
        if self._stream is None:
            return
        with contextlib.suppress(Exception):
            self._stream.get_extra_info("socket").shutdown(socket.SHUT_RDWR)


def _own_connection(response: httpx.Response) -> Any:
    """The connection an answer has to itself; ``None`` if it shares one or we cannot tell."""
    if response.extensions.get("http_version") not in (b"HTTP/1.1", b"HTTP/1.0"):
        return None
    stream = response.extensions.get("network_stream")
    return stream if hasattr(stream, "__dict__") and hasattr(stream, "read") else None


class Answer:
    """An HTTP answer whose body is still to be read.  Close it, whatever happens."""

    __slots__ = ("_chunks", "_inflater", "_response", "headers", "reads", "status")

    def __init__(self, response: httpx.Response, clock: Callable[[], float]) -> None:
        self._response = response
        self.status: int = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self.reads: Reads = Reads(response, clock)
        self._chunks: Iterator[bytes] | None = None
        self._inflater: Inflater | None = None

    def read(self, limit: int) -> bytes:
        """The whole body, at most ``limit`` bytes of it."""
        body = Body(limit)
        while (data := self.chunk(limit)) is not None:
            body.feed(data)
            self.reads.punctual()
        return body.bytes()

    def chunk(self, limit: int) -> bytes | None:
        """The next piece of the body; ``None`` at its end."""
        if self._chunks is None:
            self._chunks = iter(cast(Iterable[bytes], self._response.stream))
            self._inflater = inflater(self.headers, limit)
        data = next(self._chunks, None)
        return data if data is None or self._inflater is None else self._inflater.feed(data)

    def close(self) -> None:
        """Let go of the connection."""
        self.reads.release()
        self._response.close()


class AsyncAnswer:
    """The same for the async client."""

    __slots__ = ("_chunks", "_inflater", "_response", "headers", "reads", "spent", "status")

    def __init__(self, response: httpx.Response, clock: Callable[[], float]) -> None:
        self._response = response
        self.status: int = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self.reads: Reads = Reads(response, clock)
        self._chunks: AsyncIterator[bytes] | None = None
        self._inflater: Inflater | None = None
        self.spent: bool = False
        """Whether the body was read to its end."""

    async def read(self, limit: int) -> bytes:
        """The whole body, at most ``limit`` bytes of it."""
        body = Body(limit)
        while (data := await self.chunk(limit)) is not None:
            body.feed(data)
            self.reads.punctual()
        return body.bytes()

    async def chunk(self, limit: int) -> bytes | None:
        """The next piece of the body; ``None`` at its end."""
        if self._chunks is None:
            self._chunks = cast(AsyncIterable[bytes], self._response.stream).__aiter__()
            self._inflater = inflater(self.headers, limit)
        try:
            data = await self._chunks.__anext__()
        except StopAsyncIteration:
            self.spent = True
            return None
        return data if self._inflater is None else self._inflater.feed(data)

    async def aclose(self) -> None:
        """Let go of the connection.

        The HTTP library reads in async generators.  Left in the middle, trio complains about them and asyncio ends
        them in tasks of their own; a read that fails lets them end here.
        """
        if self._chunks is not None and self.reads.bounded:
            self.reads.refuse()
            with contextlib.suppress(Exception):
                async for _ in self._chunks:
                    pass
        self.reads.release()
        await self._response.aclose()


def inflater(headers: Mapping[str, str], limit: int) -> Inflater | None:
    """What undoes the answer's content encoding; ``None`` if it has none."""
    encoding = headers.get("content-encoding", "").strip().lower()
    return None if encoding in ("", "identity") else Inflater(encoding, limit)


@lru_cache(maxsize=1)
def _verifying() -> ssl.SSLContext:
    """One TLS context for everybody: reading the certificates takes a fifth of a second."""
    return httpx.create_ssl_context()


@lru_cache(maxsize=1)
def _unused() -> ssl.SSLContext:
    """For engines that only ever speak plain HTTP."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _tls(url: httpx.URL) -> ssl.SSLContext:
    return _verifying() if url.scheme == "https" else _unused()


class Http:
    """Sends requests for the sync client; safe for threads."""

    def __init__(self, client: httpx.Client | None, clock: Callable[[], float]) -> None:
        self._given = client
        self._clock = clock
        self._lock = threading.Lock()
        self._engines: dict[str, SyncEngine] = {}
        self._addresses = Addresses(family(client) if client is not None else httpx)
        tell_after_fork(self)

    def post(self, prepared: Prepared, timeouts: Mapping[str, float | None]) -> Answer:
        """Send a request; returns when the head of the answer has arrived."""
        request = self._addresses.request(prepared, timeouts, self._given)
        engine = self._given or self._engines.get(request.url.scheme) or self._open(request.url)
        if isinstance(engine, httpx.BaseTransport):
            return Answer(engine.handle_request(request), self._clock)
        return Answer(engine.send(request, stream=True, follow_redirects=False), self._clock)

    def _open(self, url: httpx.URL) -> SyncEngine:
        """Make the engine at the first request: a bare transport, or a client where the environment asks for
        proxies."""
        with self._lock:
            if url.scheme not in self._engines:
                self._engines[url.scheme] = (
                    httpx.Client(limits=_LIMITS, verify=_tls(url))
                    if getproxies()
                    else httpx.HTTPTransport(limits=_LIMITS, verify=_tls(url))
                )
            return self._engines[url.scheme]

    def close(self) -> None:
        """Close what was opened here; a client the user passed stays open."""
        with self._lock:
            engines, self._engines = self._engines, {}
        for engine in engines.values():
            engine.close()

    def __del__(self) -> None:
        """Close idle connections of a client that was dropped without being closed.  No lock: nobody else is left."""
        for engine in self._engines.values():
            with contextlib.suppress(Exception):
                engine.close()

    def reset_after_fork(self) -> None:
        """In the child: forget the parent's connections without touching them."""
        self._lock = threading.Lock()
        self._engines = {}


class Here:
    """What belongs to one event loop: its engines, and streams dropped without being closed, put here by their
    finalisers."""

    __slots__ = ("_loop", "engines", "orphans")

    def __init__(self, loop: object) -> None:
        self._loop = ref(loop)  # weak: whoever keeps this under the loop must not keep the loop
        self.engines: dict[str, AsyncEngine] = {}
        self.orphans: deque[Orphan] = deque()

    def start_later(
        self, group: TaskGroup, seconds: float, function: Callable[[P], Coroutine[None, None, None]], argument: P
    ) -> Callable[[], None]:
        """Start a task of the group in so many seconds; returns what calls that off.

        On asyncio with a bare timer: a task that sleeps, is cancelled and waited for costs forty times as much.
        """
        loop: Any = self._loop()
        if hasattr(loop, "call_later"):
            # In a bare callback anyio does not know which loop it runs on, so that starts a task, which starts the one.
            async def begin() -> None:
                group.start_soon(function, argument)

            armed: list[Any] = [loop.call_later(seconds, lambda: armed.append(loop.create_task(begin())))]
            return lambda: armed[-1].cancel() and None
        nap = anyio.CancelScope()

        async def after_a_nap() -> None:
            with nap:
                await anyio.sleep(seconds)
            if not nap.cancel_called:
                await function(argument)

        group.start_soon(after_a_nap)
        return nap.cancel


class Orphan(Protocol):
    """A stream nobody holds any more."""

    async def aclose(self) -> None: ...


class AsyncHttp:
    """Sends requests for the async client, with one set of connections per event loop."""

    def __init__(self, client: httpx.AsyncClient | None, clock: Callable[[], float]) -> None:
        self._given = client
        self._clock = clock
        self._lock = threading.Lock()
        self._loops: WeakKeyDictionary[object, Here] = WeakKeyDictionary()
        self._addresses = Addresses(family(client) if client is not None else httpx)
        tell_after_fork(self)

    def here(self) -> Here:
        """What belongs to the running event loop."""
        token = anyio.lowlevel.current_token()
        loop = getattr(token, "native_token", token)
        here = self._loops.get(loop)
        if here is None:
            with self._lock:
                for other in list(self._loops):  # connections left open would keep their loop alive, and it them
                    if cast(Callable[[], bool], getattr(other, "is_closed", bool))():
                        del self._loops[other]
                here = self._loops[loop] = Here(loop)
        return here

    async def post(self, prepared: Prepared, timeouts: Mapping[str, float | None]) -> AsyncAnswer:
        """Send a request; returns when the head of the answer has arrived."""
        # Only connecting needs a bound of its own: the attempt as a whole is in a cancel scope, and every bound on a
        # read or write below would be another one.
        request = self._addresses.request(prepared, {"connect": timeouts["connect"]}, self._given)
        engine = self._given or self._engine(request.url)
        if isinstance(engine, httpx.AsyncBaseTransport):
            return AsyncAnswer(await engine.handle_async_request(request), self._clock)
        return AsyncAnswer(await engine.send(request, stream=True, follow_redirects=False), self._clock)

    def _engine(self, url: httpx.URL) -> AsyncEngine:
        """The running event loop's engine, made at its first request."""
        engines = self.here().engines
        engine = engines.get(url.scheme)
        if engine is None:
            engine = engines[url.scheme] = (
                httpx.AsyncClient(limits=_LIMITS, verify=_tls(url))
                if getproxies()
                else httpx.AsyncHTTPTransport(limits=_LIMITS, verify=_tls(url))
            )
        return engine

    async def aclose(self) -> None:
        """Close the connections of the running event loop; a client the user passed stays open."""
        engines = self.here().engines
        while engines:
            await engines.popitem()[1].aclose()

    def reset_after_fork(self) -> None:
        """In the child: forget the parent's event loops without touching them."""
        self._lock = threading.Lock()
        self._loops = WeakKeyDictionary()
