"""A client or transport of the user's as an engine: used as it is, with its proxies, certificates and limits.

Only the documented parts of httpx (or httpx2) are touched.  What the sync one is waiting for cannot be ended from
outside; the client therefore waits for it in a thread of its own.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

import anyio

from resilient_llm.drive.engines.seam import Limit, Outgoing
from resilient_llm.errors import ClientClosed


def family_of(given: object) -> ModuleType:
    """The package an object belongs to: httpx, or httpx2, whose classes are not interchangeable."""
    for base in type(given).__mro__:
        package = base.__module__.partition(".")[0]
        if package in ("httpx", "httpx2"):
            return sys.modules[package]
    return import_module("httpx")


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


@cache
def _body_class(package: ModuleType) -> Callable[[bytes], object]:
    """The request body of one piece, as a class of the family: it accepts no other."""

    class Body(OnePiece, package.SyncByteStream, package.AsyncByteStream):  # type: ignore[misc, name-defined]
        pass

    return Body


class PhaseTimeouts(dict[str, float]):
    """The family's timeouts for one attempt, each of them at most what is left of it when the phase begins."""

    def __init__(self, limit: Limit) -> None:
        super().__init__(connect=limit.connect)
        self._limit = limit

    def get(self, key: str, default: object = None) -> float:
        """Seconds this phase may take."""
        left = self._limit.left()
        return min(left, self._limit.connect) if key == "connect" else left

    def __getitem__(self, key: str) -> float:
        return self.get(key)


class _Requests:
    """Makes requests of one family."""

    def __init__(self, given: object) -> None:
        self._package = family_of(given)
        self._given = given
        self._body = _body_class(self._package)

    def made(self, outgoing: Outgoing, timeouts: Mapping[str, float]) -> Any:
        """The request, with the headers that a given client sends with every one: a gateway's, say.  Raises
        ``ClientClosed`` if it can send nothing any more."""
        if getattr(self._given, "is_closed", False):
            raise ClientClosed("the http_client given to this client is closed")
        url = self._package.URL(outgoing.url)
        defaults: Mapping[str, str] = getattr(self._given, "headers", {})
        ours = {"host", "content-length", *(name for name, _ in outgoing.headers)}
        extra = [(name, value) for name, value in defaults.items() if name.lower() not in ours]
        length = ("content-length", str(len(outgoing.body)))
        headers = [("host", url.netloc.decode("ascii")), *outgoing.headers, length, *extra]
        extensions = {"timeout": timeouts, "provider": outgoing.provider}
        return self._package.Request(
            outgoing.method, url, headers=headers, stream=self._body(outgoing.body), extensions=extensions
        )


class GivenAnswer:
    """An answer whose body is still to be read.

    httpx fixes the read timeout when a body begins; content timers move with the content.  The connection is in an
    answer's documented extensions, and each of its reads takes a timeout: that is where the current one is put, for as
    long as the answer is being read.
    """

    __slots__ = ("_chunks", "_limit", "_network", "_response", "headers", "status")

    def __init__(self, response: Any, limit: Limit) -> None:
        self.status: int = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self._response = response
        self._limit = limit
        self._chunks: Iterator[bytes] = iter(response.stream)
        self._network = own_connection(response)
        if self._network is not None:
            _bound(self._network, limit)

    def read(self) -> bytes | None:
        """The next piece of the body; ``None`` at its end."""
        self._limit.left()  # where reads cannot be bounded, this is what ends a dripping answer
        return next(self._chunks, None)

    def sever(self) -> None:
        """Cut the connection, where it can be reached."""
        self._limit.ended = True
        if not self._limit.inherited:
            cut(self._network)

    def close(self) -> None:
        """Let go of the connection; it may serve other answers from now on."""
        unbound(self._network)
        self._network = None
        self._response.close()


def own_connection(response: Any) -> Any:
    """The connection an answer has to itself; ``None`` if it shares one or we cannot tell."""
    if response.extensions.get("http_version") not in (b"HTTP/1.1", b"HTTP/1.0"):
        return None
    stream = response.extensions.get("network_stream")
    return stream if hasattr(stream, "__dict__") and hasattr(stream, "read") else None


def _bound(network: Any, limit: Limit) -> None:
    read = network.read

    def within(max_bytes: int, timeout: float | None = None) -> object:
        return read(max_bytes, timeout=limit.left())

    network.read = within


def _refused(max_bytes: int, timeout: float | None = None) -> object:
    raise EOFError


def unbound(network: Any) -> None:
    """Leave a connection as it was."""
    if network is not None:
        network.__dict__.pop("read", None)


def cut(network: Any) -> None:
    """Shut a connection down without any lock, so that a finaliser may do it; the vendor stops generating."""
    if network is not None:
        with suppress(Exception):
            network.get_extra_info("socket").shutdown(socket.SHUT_RDWR)


class Given:
    """A client (with ``send``) or a transport of the user's, for the sync client."""

    bounded = False

    def __init__(self, given: Any) -> None:
        self._given = given
        self._requests = _Requests(given)

    def send(self, outgoing: Outgoing, limit: Limit) -> GivenAnswer:
        """Send a request."""
        request = self._requests.made(outgoing, PhaseTimeouts(limit))
        if hasattr(self._given, "handle_request"):
            return GivenAnswer(self._given.handle_request(request), limit)
        return GivenAnswer(self._given.send(request, stream=True, follow_redirects=False), limit)

    def close(self) -> None:
        """It belongs to the user and stays open."""


class AsyncGivenAnswer:
    """The same for the async client."""

    __slots__ = ("_chunks", "_limit", "_network", "_response", "headers", "spent", "status")

    def __init__(self, response: Any, limit: Limit) -> None:
        self.status: int = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self._response = response
        self._limit = limit
        self._chunks: AsyncIterator[bytes] = response.stream.__aiter__()
        self._network = own_connection(response)
        self.spent: bool = False
        """Whether the body was read to its end, so that closing waits for nothing."""

    async def read(self) -> bytes | None:
        """The next piece of the body; ``None`` at its end."""
        try:
            if self._limit.scoped:
                return await self._chunks.__anext__()
            with anyio.fail_after(self._limit.left()):
                return await self._chunks.__anext__()
        except StopAsyncIteration:
            self.spent = True
            return None

    def sever(self) -> None:
        """Cut the connection, where it can be reached."""
        self._limit.ended = True
        if not self._limit.inherited:
            cut(self._network)

    async def aclose(self) -> None:
        """Let go of the connection.  The HTTP library reads in async generators; a read that fails lets them end."""
        if not self.spent and self._network is not None:
            self._network.read = _refused
            with suppress(Exception):
                async for _ in self._chunks:
                    pass
        unbound(self._network)
        self._network = None
        await self._response.aclose()


class AsyncGiven:
    """A client or a transport of the user's, for the async client on any event loop."""

    def __init__(self, given: Any) -> None:
        self._given = given
        self._requests = _Requests(given)

    async def send(self, outgoing: Outgoing, limit: Limit) -> AsyncGivenAnswer:
        """Send a request."""
        # Only connecting needs a bound of its own: the attempt as a whole is in a cancel scope.
        request = self._requests.made(outgoing, {"connect": limit.connect})
        if hasattr(self._given, "handle_async_request"):
            return AsyncGivenAnswer(await self._given.handle_async_request(request), limit)
        response = await self._given.send(request, stream=True, follow_redirects=False)
        return AsyncGivenAnswer(response, limit)

    async def aclose(self) -> None:
        """It belongs to the user and stays open."""
