"""The sync engine's connections: every operation on them takes at most what the attempt's limit leaves.

Errors are those of httpcore (or httpcore2), which tell connecting, reading and writing apart.
"""

from __future__ import annotations

import errno
import math
import os
import select
import socket
import ssl
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from types import ModuleType

from resilient_llm.drive.engines.family import Destination, Family
from resilient_llm.drive.engines.http1 import Http1, lines_of
from resilient_llm.drive.engines.kept import Generations
from resilient_llm.drive.engines.proxies import Greeting, Proxy
from resilient_llm.drive.engines.resolver import RESOLVER, Address, at_port, literal
from resilient_llm.drive.engines.seam import Limit, Outgoing

LOCAL_ERRNOS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL})
"""Errors of this machine, for which no provider is to blame."""


_AT_ONCE = 65536  # bytes
_UNDER_WAY = frozenset({errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EALREADY})


@contextmanager
def connecting(core: ModuleType, proxy: Proxy | None = None) -> Generator[None]:
    """Raise errors of establishing a connection as those of httpcore, with the ``proxy`` that it leads to; errors of
    this machine stay what they are."""
    where = "" if proxy is None else f"the proxy {proxy.shown} cannot be reached: "
    try:
        yield
    except (TimeoutError, core.ReadTimeout, core.WriteTimeout) as error:
        raise core.ConnectTimeout(f"{where}{str(error) or 'connecting took too long'}") from error
    except OSError as error:
        if error.errno in LOCAL_ERRNOS:
            raise
        raise core.ConnectError(f"{where}{str(error) or 'the connection could not be established'}") from error


class Connection:
    """What all kinds of connection know about themselves."""

    __slots__ = (
        "__weakref__",
        "_core",
        "_generation",
        "_generations",
        "_headers",
        "_lines",
        "_served",
        "_spoilt",
        "http",
        "kept_until",
        "to",
    )

    def __init__(self, core: ModuleType, generations: Generations, to: Destination) -> None:
        self.to: Destination = to
        self._core = core
        self._generations = generations
        self._generation = generations.of(to.host)
        self._served = False
        self._headers: tuple[tuple[str, str], ...] | None = None
        self._lines = b""
        self._spoilt = False
        self.http: Http1 = Http1(core)
        self.kept_until: float = 0.0
        """Monotonic time until which it is kept, while nobody uses it."""

    @property
    def usable(self) -> bool:
        """Whether it can serve another request: the other side has not closed it, or sent anything."""
        return not self._spoilt and self._generation == self._generations.of(self.to.host)

    def close(self) -> None:
        """Close it; waits for nothing."""
        raise NotImplementedError

    def asks(self, to: Destination, outgoing: Outgoing, limit: Limit) -> list[bytes]:
        """What to write for a request."""
        limit.reused, self._served = self._served, True
        if outgoing.headers != self._headers:  # they nearly always are those of the request before
            headers = [(name.encode("ascii"), value.encode("ascii")) for name, value in outgoing.headers]
            self._lines = lines_of(self._core, [*to.headers, *headers])
            self._headers = outgoing.headers
        return self.http.request(outgoing.method.encode("ascii"), to.target, self._lines, outgoing.body)


def connected(family: Family, generations: Generations, to: Destination, limit: Limit) -> Stream:
    """A connection that is ready for requests.  Raises httpcore's ``ConnectError``, ``ConnectTimeout`` or
    ``ProxyError``."""
    core = family.core
    with connecting(core, to.proxy):
        sock = _opened(*to.peer, limit)
    stream = Stream(core, sock, generations, to)
    try:
        with connecting(core, to.proxy), limit.within(limit.connect):
            _greet(stream, to.greeting(core), limit)
        return stream.encrypted(family.context(to.network), limit) if to.encrypted else stream
    except BaseException:
        stream.close()
        raise


def _greet(stream: Stream, greeting: Greeting, limit: Limit) -> None:
    with suppress(StopIteration):
        said = next(greeting)
        while True:
            if said:
                stream.write([said], limit)
            said = greeting.send(stream.read(limit))


def _opened(host: str, port: int, limit: Limit) -> socket.socket:
    """A socket that is connected to the first address that accepts it."""
    left_after = limit.left() - min(limit.left(), limit.connect)  # what must be left when connecting has to be done
    addresses = literal(host) or _resolved(host, limit, limit.left() - left_after)
    failed: OSError = OSError(f"{host} has no address")
    for at, address in enumerate(addresses):
        left = limit.left() - left_after
        if left <= 0:
            raise TimeoutError("connecting took too long")
        try:
            return _connected(address, port, limit, left / (len(addresses) - at))
        except OSError as error:
            failed = error
    raise failed


def _resolved(host: str, limit: Limit, seconds: float) -> tuple[Address, ...]:
    lookup = RESOLVER.start(host)
    known = _Signal()
    lookup.then(known.set)
    left_after = limit.left() - seconds
    while not known.wait(min(limit.use(known), max(0.001, limit.left() - left_after))):
        if not limit.due():
            raise TimeoutError("the host name was not resolved in time")
    limit.left()
    return lookup.result()


class Socket(socket.socket):
    """A socket that closes without a warning when it is dropped: of a call that was interrupted, of a client that was
    forgotten, in whatever order these are collected."""

    __slots__ = ()

    def __del__(self) -> None:
        self.close()


class _EncryptedSocket(ssl.SSLSocket):
    """The same with TLS."""

    def __del__(self) -> None:
        self.close()


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
    sock = Socket(address[0], socket.SOCK_STREAM)
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

    def __init__(self, core: ModuleType, sock: socket.socket, generations: Generations, to: Destination) -> None:
        super().__init__(core, generations, to)
        self._sock = sock

    def read(self, limit: Limit) -> bytes:
        """The next bytes; empty at the end."""
        try:
            data = self._received(limit)
        except TimeoutError as error:
            raise self._core.ReadTimeout(str(error) or "the read operation timed out") from error
        except OSError as error:
            raise self._core.ReadError(str(error)) from error
        if data:
            limit.heard = True
        return data

    def _received(self, limit: Limit) -> bytes:
        while True:
            self._sock.settimeout(_seconds(limit.use(self)))
            try:
                return self._sock.recv(_AT_ONCE)
            except TimeoutError:
                if not limit.due():
                    raise

    def write(self, pieces: list[bytes], limit: Limit) -> None:
        """Send all of it.  If the other side wants no more, that is no error yet: it may have answered early."""
        try:
            for piece in pieces:
                self._send(piece, limit)
        except TimeoutError as error:
            raise self._core.WriteTimeout(str(error) or "the write operation timed out") from error
        except OSError:
            self._spoilt = True

    def _send(self, piece: bytes, limit: Limit) -> None:
        left = memoryview(piece)
        while left:
            self._sock.settimeout(_seconds(limit.use(self)))
            try:
                left = left[self._sock.send(left) :]
            except TimeoutError:
                if not limit.due():
                    raise

    def encrypted(self, context: ssl.SSLContext, limit: Limit) -> Stream:
        """The same connection, encrypted."""
        context.sslsocket_class = _EncryptedSocket
        try:
            sock = context.wrap_socket(self._sock, server_hostname=self.to.host, do_handshake_on_connect=False)
        except Exception as error:
            raise self._core.ConnectError(str(error)) from error
        stream = Stream(self._core, sock, self._generations, self.to)
        try:
            with connecting(self._core):
                _shake_hands(sock, stream, limit)
        except BaseException:
            stream.close()
            raise
        return stream

    @property
    def usable(self) -> bool:
        """Whether it can serve another request."""
        return super().usable and not readable(self._sock)

    def sever(self) -> None:
        """End an operation that waits in another thread; takes no lock."""
        self._spoilt = True
        shut(self._sock)

    def close(self) -> None:
        """Close the socket."""
        with suppress(OSError):
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
