"""The async engine's connections: on asyncio a protocol of our own, on trio its streams.

While a cancel scope bounds the attempt nothing else needs to; later, when a stream is read piece by piece, each read
that has to wait is bounded here by the attempt's limit, because a cancel scope per piece would cost more than the
piece.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from contextlib import suppress
from types import ModuleType
from typing import Any

import anyio

from resilient_llm.drive.engines.family import Destination, Family
from resilient_llm.drive.engines.kept import Generations
from resilient_llm.drive.engines.network import Connection, Socket, connecting, shut
from resilient_llm.drive.engines.proxies import Greeting
from resilient_llm.drive.engines.resolver import RESOLVER, Address, at_port, literal
from resilient_llm.drive.engines.seam import Limit
from resilient_llm.drive.event_loop import from_any_thread, is_asyncio, native_loop
from resilient_llm.drive.fork import Mark

_FULL = 65536  # bytes waiting to be read above which no more are taken from the socket


async def resolved(host: str) -> list[Address]:
    """The addresses of a host.  A cancelled caller does not wait for the thread that looks them up."""
    found = literal(host)
    if found:
        return found
    known = anyio.Event()
    lookup = RESOLVER.start(host)
    lookup.then(from_any_thread(known))
    await known.wait()
    return list(lookup.result())


async def connected(
    family: Family, generations: Generations, to: Destination, limit: Limit
) -> AsyncioStream | TrioStream:
    """A connection that is ready for requests.  Raises httpcore's ``ConnectError``, ``ConnectTimeout`` or
    ``ProxyError``."""
    core = family.core
    with connecting(core, to.proxy), anyio.fail_after(min(limit.left(), limit.connect)):
        stream = await _opened(core, generations, to, limit)
    try:
        with connecting(core, to.proxy), anyio.fail_after(min(limit.left(), limit.connect)):
            await _greet(stream, to.greeting(core), limit)
        return await stream.encrypted(family.context(to.network), limit) if to.encrypted else stream
    except BaseException:
        stream.close()
        raise


async def _greet(stream: AsyncioStream | TrioStream, greeting: Greeting, limit: Limit) -> None:
    with suppress(StopIteration):
        said = next(greeting)
        while True:
            if said:
                await stream.write([said], limit)
            said = greeting.send(await stream.read(limit))


async def _opened(
    core: ModuleType, generations: Generations, to: Destination, limit: Limit
) -> AsyncioStream | TrioStream:
    host, port = to.peer
    addresses = await resolved(host)
    failed: Exception = OSError(f"{host} has no address")
    for at, address in enumerate(addresses):
        share = min(limit.left(), limit.connect) / (len(addresses) - at)
        try:
            with anyio.fail_after(share):
                if is_asyncio(native_loop()):
                    return await _on_asyncio(AsyncioStream(core, generations, to), at_port(address, port), address[0])
                inner = await core.TrioBackend().connect_tcp(str(address[1][0]), port)
                return TrioStream(core, inner, generations, to)
        except (OSError, core.ConnectError) as error:
            failed = error
    raise failed


async def _on_asyncio(stream: AsyncioStream, address: tuple[str | int, ...], kind: int) -> AsyncioStream:
    loop = asyncio.get_running_loop()
    sock = Socket(kind, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        await loop.sock_connect(sock, address)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await loop.create_connection(lambda: stream, sock=sock)
    except BaseException:
        sock.close()
        raise
    return stream


class AsyncioStream(Connection, asyncio.Protocol):
    """One connection on asyncio.  One task reads and writes at a time."""

    def __init__(self, core: ModuleType, generations: Generations, to: Destination) -> None:
        super().__init__(core, generations, to)
        self._loop = asyncio.get_running_loop()
        self._process = Mark.here
        self._transport: Any = None
        self._pieces: list[bytes] = []
        self._size = 0
        self._over = False
        self._error: Exception | None = None
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._full = False
        self._paused = False

    # --- what the event loop tells ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._pieces.append(data)
        self._size += len(data)
        if self._size > _FULL and not self._full:
            self._full = True
            self._transport.pause_reading()
        _wake(self._reader)

    def eof_received(self) -> bool:
        self._over = True
        _wake(self._reader)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._over = True
        self._error = exc or self._error
        _wake(self._reader)
        _wake(self._writer)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        _wake(self._writer)

    # --- what the engine asks ---

    async def read(self, limit: Limit) -> bytes:
        """The next bytes; empty at the end."""
        limit.use(self)
        while not self._pieces:
            if self._error is not None:
                raise self._core.ReadError(str(self._error)) from self._error
            if self._over:
                return b""
            self._reader = self._loop.create_future()
            await self._wait(self._reader, limit, self._core.ReadTimeout)
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces, self._size = [], 0
        if self._full:
            self._full = False
            self._transport.resume_reading()
        limit.heard = True
        return data

    async def write(self, pieces: list[bytes], limit: Limit) -> None:
        """Send all of it.  If the other side wants no more, that is no error yet: it may have answered early."""
        limit.use(self)
        for piece in pieces:
            if not self._over and not self._transport.is_closing():
                self._transport.write(piece)
        while self._paused and not self._over:
            self._writer = self._loop.create_future()
            await self._wait(self._writer, limit, self._core.WriteTimeout)

    async def _wait(self, woken: asyncio.Future[None], limit: Limit, late: type[Exception]) -> None:
        if limit.scoped:
            await woken
            return
        timer = self._loop.call_later(limit.left(), _expire, woken)
        try:
            await woken
        except TimeoutError:
            raise late("no bytes in time") from None
        finally:
            timer.cancel()

    async def encrypted(self, context: ssl.SSLContext, limit: Limit) -> AsyncioStream:
        """The same connection, encrypted."""
        left = min(limit.use(self), limit.connect)
        with connecting(self._core):
            self._transport = await self._loop.start_tls(
                self._transport, self, context, server_hostname=self.to.host, ssl_handshake_timeout=left
            )
        return self

    @property
    def usable(self) -> bool:
        """Whether it can serve another request."""
        return super().usable and not (self._pieces or self._over or self._transport.is_closing())

    def sever(self) -> None:
        """End whatever waits; may be called by a finaliser on any thread, so it touches the socket only."""
        self._spoilt = True
        sock: Any = None if self._transport is None else self._transport.get_extra_info("socket")
        with suppress(Exception):
            shut(sock._sock if hasattr(sock, "_sock") else sock)

    def close(self) -> None:
        """Close the connection at once.  What was not sent is thrown away, and no farewell of TLS is waited for."""
        if self._process is Mark.here and not self._transport.is_closing():  # a fork shares the loop's selector
            self._transport.abort()

    def __del__(self) -> None:
        """Of a client that was dropped."""
        if self._transport is not None and not self._loop.is_closed():
            with suppress(Exception):
                self.close()


def _wake(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)


def _expire(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_exception(TimeoutError())


class TrioStream(Connection):
    """One connection on trio: a stream of httpcore's, bounded by the attempt's limit."""

    def __init__(self, core: ModuleType, inner: Any, generations: Generations, to: Destination) -> None:
        super().__init__(core, generations, to)
        self._inner = inner

    async def read(self, limit: Limit) -> bytes:
        """The next bytes; empty at the end."""
        left = limit.use(self)
        data: bytes = await self._inner.read(_FULL, None if limit.scoped else left)
        limit.heard = limit.heard or bool(data)
        return data

    async def write(self, pieces: list[bytes], limit: Limit) -> None:
        """Send all of it.  If the other side wants no more, that is no error yet: it may have answered early."""
        try:
            for piece in pieces:
                left = limit.use(self)
                await self._inner.write(piece, None if limit.scoped else left)
        except self._core.WriteError:
            self._spoilt = True

    async def encrypted(self, context: ssl.SSLContext, limit: Limit) -> TrioStream:
        """The same connection, encrypted."""
        self._inner = await self._inner.start_tls(context, self.to.host, min(limit.use(self), limit.connect))
        return self

    @property
    def usable(self) -> bool:
        """Whether it can serve another request."""
        return super().usable and not self._inner.get_extra_info("is_readable")

    def sever(self) -> None:
        """End whatever waits; touches the socket only."""
        self._spoilt = True
        with suppress(Exception):
            self._inner.get_extra_info("socket").shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection at once.  No farewell of TLS is waited for."""
        self._inner.get_extra_info("socket").close()

    def __del__(self) -> None:
        """Of a client that was dropped, perhaps after trio has ended."""
        with suppress(Exception):
            descriptor = self._inner.get_extra_info("socket").detach()
            if descriptor >= 0:
                os.close(descriptor)
