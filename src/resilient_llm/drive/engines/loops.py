"""The async engine's connections: on asyncio a protocol of our own, on trio its streams.

As in ``network``, the timeout that the pool passes on is the attempt's limit.  While a cancel scope bounds the attempt
nothing else needs to; later, when a stream is read piece by piece, each read that has to wait is bounded here, because
a cancel scope per piece would cost more than the piece.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterable
from contextlib import suppress
from types import ModuleType
from typing import Any

import anyio
import anyio.lowlevel

from resilient_llm.drive.engines.generations import Generations
from resilient_llm.drive.engines.network import SMALL, Connection, connecting, shut
from resilient_llm.drive.engines.resolver import RESOLVER, Address, at_port, literal
from resilient_llm.drive.engines.seam import Limit

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


def from_any_thread(event: anyio.Event) -> Any:
    """A function that sets the event and may be called from any thread, also when its event loop is gone."""
    native = native_loop()
    call = native.call_soon_threadsafe if hasattr(native, "call_soon_threadsafe") else native.run_sync_soon

    def wake() -> None:
        with suppress(Exception):  # the loop is closed: nobody waits there any more
            call(event.set)

    return wake


class AsyncBackend:
    """Opens connections for a pool.  ``core`` is httpcore or httpcore2, whose exceptions the pool expects."""

    def __init__(self, core: ModuleType) -> None:
        self._core = core
        self.generations: Generations = Generations()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: object = None,  # noqa: ASYNC109 - the attempt's limit
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> AsyncioStream | TrioStream:
        """A connection to the first address that accepts one.  Raises the pool's ``ConnectError`` or
        ``ConnectTimeout``."""
        assert isinstance(timeout, Limit)
        with connecting(self._core), anyio.fail_after(min(timeout.left(), timeout.connect)):
            return await self._connect(host, port, timeout)

    async def _connect(self, host: str, port: int, limit: Limit) -> AsyncioStream | TrioStream:
        addresses = await resolved(host)
        failed: Exception = OSError(f"{host} has no address")
        for at, address in enumerate(addresses):
            share = min(limit.left(), limit.connect) / (len(addresses) - at)
            try:
                with anyio.fail_after(share):
                    return await self._connected(address, port, host)
            except (OSError, self._core.ConnectError) as error:
                failed = error
        raise failed

    async def _connected(self, address: Address, port: int, host: str) -> AsyncioStream | TrioStream:
        if not hasattr(native_loop(), "create_connection"):
            inner = await self._core.TrioBackend().connect_tcp(str(address[1][0]), port)
            return TrioStream(self._core, inner, self.generations, host)
        loop = asyncio.get_running_loop()
        sock = socket.socket(address[0], socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            await loop.sock_connect(sock, at_port(address, port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            stream = AsyncioStream(self._core, loop, self.generations, host)
            await loop.create_connection(lambda: stream, sock=sock)
        except BaseException:
            sock.close()
            raise
        return stream

    async def connect_unix_socket(
        self,
        path: str,
        timeout: object = None,  # noqa: ASYNC109
        socket_options: Iterable[Any] | None = None,
    ) -> Any:
        """Not used."""
        raise NotImplementedError

    async def sleep(self, seconds: float) -> None:
        """Not used: connecting is not repeated here."""


def native_loop() -> Any:
    """The running event loop: asyncio's loop, or trio's token."""
    token = anyio.lowlevel.current_token()
    return getattr(token, "native_token", token)


class AsyncioStream(Connection, asyncio.Protocol):
    """One connection on asyncio.  One task reads and writes at a time."""

    def __init__(self, core: ModuleType, loop: asyncio.AbstractEventLoop, generations: Generations, host: str) -> None:
        super().__init__(core, generations, host)
        self._loop = loop
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

    # --- what the pool asks ---

    async def read(self, max_bytes: int, timeout: object = None) -> bytes:  # noqa: ASYNC109
        """The next bytes; empty at the end."""
        assert isinstance(timeout, Limit)
        if self._head:
            await self.write(b"", timeout)
        timeout.use(self)
        while not self._pieces:
            if self._error is not None:
                raise self._core.ReadError(str(self._error)) from self._error
            if self._over:
                return b""
            self._reader = self._loop.create_future()
            await self._wait(self._reader, timeout, self._core.ReadTimeout)
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces = [data[max_bytes:]] if len(data) > max_bytes else []
        self._size = len(data) - max_bytes if len(data) > max_bytes else 0
        if self._full and self._size <= _FULL:
            self._full = False
            self._transport.resume_reading()
        timeout.heard = True
        return data[:max_bytes] if self._size else data

    async def write(self, buffer: bytes, timeout: object = None) -> None:  # noqa: ASYNC109
        """Send all of it.  The head of a request waits for what follows: one packet instead of two."""
        assert isinstance(timeout, Limit)
        timeout.use(self)
        if self.begins(timeout):
            self._head = buffer
            return
        if self._over or self._transport.is_closing():
            raise self._core.WriteError("the connection is closed") from self._error
        if self._head:
            head, self._head = self._head, b""
            if len(buffer) <= SMALL:
                buffer = head + buffer
            else:
                self._transport.write(head)
        if buffer:
            self._transport.write(buffer)
        while self._paused and not self._over:
            self._writer = self._loop.create_future()
            await self._wait(self._writer, timeout, self._core.WriteTimeout)

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

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: object = None,  # noqa: ASYNC109
    ) -> AsyncioStream:
        """The same connection, encrypted."""
        assert isinstance(timeout, Limit)
        left = min(timeout.use(self), timeout.connect)
        try:
            with connecting(self._core):
                self._transport = await self._loop.start_tls(
                    self._transport, self, ssl_context, server_hostname=server_hostname, ssl_handshake_timeout=left
                )
        except BaseException:
            self._transport.abort()
            raise
        return self

    def get_extra_info(self, info: str) -> object:
        """``is_readable``, ``socket`` and ``ssl_object``; ``None`` for anything else."""
        if info == "is_readable":  # an idle connection that says yes is closed and not used again
            return self.outdated or bool(self._pieces) or self._over or self._transport.is_closing()
        return self._transport.get_extra_info(info) if info in ("socket", "ssl_object") else None

    def refuse(self) -> None:
        """Let every further read fail at once."""
        self._pieces, self._size = [], 0
        self._error = self._error or EOFError("nobody reads on")

    def sever(self) -> None:
        """End whatever waits; may be called by a finaliser on any thread, so it touches the socket only."""
        self._spoilt = True
        sock: Any = None if self._transport is None else self._transport.get_extra_info("socket")
        with suppress(Exception):
            shut(sock._sock if hasattr(sock, "_sock") else sock)

    async def aclose(self) -> None:
        """Close the connection at once.  What was not sent is thrown away, and no farewell of TLS is waited for."""
        if not self._transport.is_closing():
            self._transport.abort()

    def __del__(self) -> None:
        """A pool that was dropped does not close its connections."""
        if self._transport is not None and not self._transport.is_closing() and not self._loop.is_closed():
            with suppress(Exception):
                self._transport.abort()


def _wake(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)


def _expire(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_exception(TimeoutError())


class TrioStream(Connection):
    """One connection on trio: the pool's own stream, with the attempt's limit for a timeout."""

    def __init__(self, core: ModuleType, inner: Any, generations: Generations, host: str) -> None:
        super().__init__(core, generations, host)
        self._inner = inner
        self._refused = False

    async def read(self, max_bytes: int, timeout: object = None) -> bytes:  # noqa: ASYNC109
        """The next bytes; empty at the end."""
        assert isinstance(timeout, Limit)
        if self._refused:
            raise self._core.ReadError("nobody reads on")
        left = timeout.use(self)
        data: bytes = await self._inner.read(max_bytes, None if timeout.scoped else left)
        timeout.heard = timeout.heard or bool(data)
        return data

    async def write(self, buffer: bytes, timeout: object = None) -> None:  # noqa: ASYNC109
        """Send all of it."""
        assert isinstance(timeout, Limit)
        left = timeout.use(self)
        self.begins(timeout)
        await self._inner.write(buffer, None if timeout.scoped else left)

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: object = None,  # noqa: ASYNC109
    ) -> TrioStream:
        """The same connection, encrypted."""
        assert isinstance(timeout, Limit)
        left = min(timeout.use(self), timeout.connect)
        try:
            inner = await self._inner.start_tls(ssl_context, server_hostname, left)
        except BaseException:
            with anyio.CancelScope(shield=True):  # closing a socket does not wait
                await self._inner.aclose()
            raise
        return TrioStream(self._core, inner, self._generations, self._host)

    def get_extra_info(self, info: str) -> object:
        """What the inner stream tells; an idle connection that says it is readable is closed and not used again."""
        if info == "is_readable" and self.outdated:
            return True
        found: object = self._inner.get_extra_info(info)
        return found

    def refuse(self) -> None:
        """Let every further read fail at once."""
        self._refused = True

    def sever(self) -> None:
        """End whatever waits; touches the socket only."""
        self._spoilt = True
        with suppress(Exception):
            self._inner.get_extra_info("socket").shutdown(socket.SHUT_RDWR)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._inner.aclose()
