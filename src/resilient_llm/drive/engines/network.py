"""The sync engine's connections: every operation on them takes at most what the attempt's limit leaves.

They stand behind the connection pool of httpcore (or httpcore2), which passes the ``timeout`` of a request on to its
network stream unseen.  That timeout is the attempt's :class:`~resilient_llm.drive.engines.seam.Limit` here.
"""

from __future__ import annotations

import errno
import math
import os
import select
import socket
import ssl
import threading
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from itertools import count
from types import ModuleType
from typing import Any, Protocol

from resilient_llm.drive.engines.generations import Generations
from resilient_llm.drive.engines.resolver import RESOLVER, Address, at_port, literal
from resilient_llm.drive.engines.seam import Limit

LOCAL_ERRNOS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL})
"""Errors of this machine, for which no provider is to blame."""


SMALL = 65536  # bytes of a body that may be copied to go out with the head
_UNDER_WAY = frozenset({errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EALREADY})


@contextmanager
def connecting(core: ModuleType) -> Generator[None]:
    """Raise errors of establishing a connection as those of the pool; errors of this machine stay what they are."""
    try:
        yield
    except TimeoutError as error:
        raise core.ConnectTimeout(str(error) or "connecting took too long") from error
    except OSError as error:
        if error.errno in LOCAL_ERRNOS:
            raise
        raise core.ConnectError(str(error) or "the connection could not be established") from error


_NUMBERS = count(1)


class Connection:
    """What all kinds of connection know about themselves."""

    __slots__ = (
        "__weakref__",
        "_core",
        "_generation",
        "_generations",
        "_head",
        "_host",
        "_number",
        "_served",
        "_spoilt",
    )

    def __init__(self, core: ModuleType, generations: Generations, host: str) -> None:
        self._core = core
        self._number = next(_NUMBERS)
        self._generations = generations
        self._generation = generations.of(host)
        self._host = host
        self._served = False
        self._spoilt = False
        self._head = b""

    def spoil(self) -> None:
        """Let nobody use it again: bytes nobody asked for have arrived on it, or it was left in the middle."""
        self._spoilt = True

    @property
    def outdated(self) -> bool:
        """Whether nobody may use it again."""
        return self._spoilt or self._generation != self._generations.of(self._host)

    def begins(self, limit: Limit) -> bool:
        """Whether this write begins a request."""
        if limit.over == self._number:
            return False
        limit.over, limit.reused, self._served = self._number, self._served, True
        return True


class HasCore(Protocol):
    """Knows the package whose connection pool is used."""

    @property
    def core(self) -> ModuleType: ...


class Backend:
    """Opens connections for a pool.  ``family`` knows httpcore or httpcore2, whose exceptions the pool expects."""

    def __init__(self, family: HasCore, generations: Generations) -> None:
        self._family = family
        self._generations = generations

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: object = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> Stream:
        """A connection to the first address that accepts one.  Raises the pool's ``ConnectError`` or
        ``ConnectTimeout``."""
        assert isinstance(timeout, Limit)
        with connecting(self._family.core):
            return self._connect(host, port, timeout)

    def _connect(self, host: str, port: int, limit: Limit) -> Stream:
        left_after = limit.left() - min(limit.left(), limit.connect)  # what must be left when connecting has to be done
        addresses = literal(host) or self._resolve(host, limit, limit.left() - left_after)
        failed: OSError = OSError(f"{host} has no address")
        for at, address in enumerate(addresses):
            left = limit.left() - left_after
            if left <= 0:
                raise TimeoutError("connecting took too long")
            try:
                sock = _connected(address, port, limit, left / (len(addresses) - at))
            except OSError as error:
                failed = error
                continue
            return Stream(self._family.core, sock, self._generations, host)
        raise failed

    def _resolve(self, host: str, limit: Limit, seconds: float) -> tuple[Address, ...]:
        lookup = RESOLVER.start(host)
        known = _Signal()
        lookup.then(known.set)
        left_after = limit.left() - seconds
        while not known.wait(min(limit.use(known), max(0.001, limit.left() - left_after))):
            if not limit.due():
                raise TimeoutError("the host name was not resolved in time")
        limit.left()
        return lookup.result()

    def connect_unix_socket(
        self, path: str, timeout: object = None, socket_options: Iterable[Any] | None = None
    ) -> Stream:
        """Not used."""
        raise NotImplementedError

    def sleep(self, seconds: float) -> None:
        """Not used: connecting is not repeated here."""


class _Signal(threading.Event):
    """An event as something that can be severed."""

    def sever(self) -> None:
        self.set()


class _Opening:
    """A socket that is being connected."""

    __slots__ = ("_sock",)

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def sever(self) -> None:
        shut(self._sock)

    def close(self) -> None:
        self._sock.close()


def shut(sock: socket.socket) -> None:
    """Shut a connection down for both sides, which ends an operation that waits on it in another thread.  Not by the
    method of a TLS socket, which would read what is left as plain bytes from then on."""
    with suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _connected(address: Address, port: int, limit: Limit, seconds: float) -> socket.socket:
    sock = socket.socket(address[0], socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        _connect(sock, at_port(address, port), limit, seconds)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        limit.left()
    except BaseException:
        sock.close()
        raise
    return sock


def _connect(sock: socket.socket, address: tuple[str | int, ...], limit: Limit, seconds: float) -> None:
    """Connect a socket that does not block."""
    opening = _Opening(sock)
    limit.use(opening)
    code = sock.connect_ex(address)
    if code in _UNDER_WAY:
        left_after = limit.left() - seconds
        while not ready(sock, min(limit.use(opening), max(0.001, limit.left() - left_after)), writing=True):
            if not limit.due():
                raise TimeoutError("connecting took too long")
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))


def ready(sock: socket.socket, seconds: float, *, writing: bool = False) -> bool:
    """Whether a socket can be read from, or written to, within so many seconds."""
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(sock.fileno(), select.POLLOUT if writing else select.POLLIN)
        return bool(poll.poll(math.ceil(min(seconds, 1e6) * 1000)))
    waiting = [sock]
    return any(select.select([] if writing else waiting, waiting if writing else [], waiting, seconds))


class Stream(Connection):
    """A connection of the sync client."""

    __slots__ = ("_sock",)

    def __init__(self, core: ModuleType, sock: socket.socket, generations: Generations, host: str) -> None:
        super().__init__(core, generations, host)
        self._sock = sock

    def read(self, max_bytes: int, timeout: object = None) -> bytes:
        """The next bytes; empty at the end."""
        assert isinstance(timeout, Limit)
        if self._head:
            head, self._head = self._head, b""
            self._send(head, timeout)
        try:
            data = self._received(max_bytes, timeout)
        except TimeoutError as error:
            raise self._core.ReadTimeout(str(error) or "the read operation timed out") from error
        except OSError as error:
            raise self._core.ReadError(str(error)) from error
        if data:
            timeout.heard = True
        return data

    def _received(self, max_bytes: int, limit: Limit) -> bytes:
        while True:
            self._sock.settimeout(_seconds(limit.use(self)))
            try:
                return self._sock.recv(max_bytes)
            except TimeoutError:
                if not limit.due():
                    raise

    def write(self, buffer: bytes, timeout: object = None) -> None:
        """Send all of it.  The head of a request waits for what follows: one packet instead of two."""
        assert isinstance(timeout, Limit)
        if self.begins(timeout):
            timeout.use(self)
            self._head = buffer
            return
        if self._head:
            head, self._head = self._head, b""
            if len(buffer) <= SMALL:
                buffer = head + buffer
            else:
                self._send(head, timeout)
        self._send(buffer, timeout)

    def _send(self, buffer: bytes, limit: Limit) -> None:
        left = memoryview(buffer)
        try:
            while left:
                self._sock.settimeout(_seconds(limit.use(self)))
                try:
                    left = left[self._sock.send(left) :]
                except TimeoutError:
                    if not limit.due():
                        raise
        except TimeoutError as error:
            raise self._core.WriteTimeout(str(error) or "the write operation timed out") from error
        except OSError as error:
            raise self._core.WriteError(str(error)) from error

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: object = None
    ) -> Stream:
        """The same connection, encrypted."""
        assert isinstance(timeout, Limit)
        if isinstance(self._sock, ssl.SSLSocket):
            raise self._core.UnsupportedProtocol("TLS inside TLS is not supported: use a proxy with an http:// URL")
        try:
            sock = ssl_context.wrap_socket(self._sock, server_hostname=server_hostname, do_handshake_on_connect=False)
        except Exception as error:
            self.close()
            raise self._core.ConnectError(str(error)) from error
        stream = Stream(self._core, sock, self._generations, self._host)
        try:
            with connecting(self._core):
                _shake_hands(sock, stream, timeout)
        except BaseException:
            stream.close()
            raise
        return stream

    def get_extra_info(self, info: str) -> object:
        """``is_readable``, ``socket`` and ``ssl_object``; ``None`` for anything else."""
        if info == "is_readable":  # an idle connection that says yes is closed and not used again
            return self.outdated or readable(self._sock)
        if info == "socket":
            return self._sock
        return self._sock if info == "ssl_object" and isinstance(self._sock, ssl.SSLSocket) else None

    def sever(self) -> None:
        """End an operation that waits in another thread; takes no lock."""
        self._spoilt = True
        shut(self._sock)

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()

    def __del__(self) -> None:
        """Of a client that was dropped, or of a call that was interrupted at some instant."""
        self._sock.close()


def _shake_hands(sock: ssl.SSLSocket, stream: Stream, limit: Limit) -> None:
    left_after = limit.left() - min(limit.left(), limit.connect)
    while True:
        sock.settimeout(min(limit.use(stream), max(0.001, limit.left() - left_after)))
        try:
            sock.do_handshake()
            return
        except TimeoutError:
            if not limit.due():
                raise


def _seconds(left: float) -> float | None:
    return left if left < threading.TIMEOUT_MAX else None


def readable(sock: socket.socket) -> bool:
    """Whether bytes, or the end, have arrived."""
    if sock.fileno() < 0:
        return True
    if isinstance(sock, ssl.SSLSocket) and sock.pending():
        return True
    return ready(sock, 0)
