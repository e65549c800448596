"""Servers that do nothing but what they are told, byte by byte; and what is open to them."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Self

Serve = Callable[[socket.socket, threading.Event], None]
"""Serves one connection until it is over or the event is set."""

BODY = (
    b'{"id":"1","object":"chat.completion","model":"m","choices":[{"index":0,"finish_reason":"stop",'
    b'"message":{"role":"assistant","content":"%s"}}],"usage":{"prompt_tokens":1,"completion_tokens":1}}'
)
_OPEN = frozenset({"01", "02", "08"})  # established, SYN sent, close wait


class RawServer:
    """A server whose every connection is handed to ``serve`` in a thread of its own."""

    def __init__(self, serve: Serve, backlog: int = 128) -> None:
        self._serve = serve
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=backlog)
        self._over = threading.Event()
        self.connections = 0
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while not self._over.is_set():
            with suppress(OSError):
                connection, _ = self._socket.accept()
                self.connections += 1
                threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.settimeout(20)
            self._serve(connection, self._over)

    def close(self) -> None:
        """Stop, and let go of everybody."""
        self._over.set()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Unaccepted:
    """A server whose queue is full: further connections are never established."""

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen(0)
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._filling = []
        for _ in range(4):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", self.port))
            self._filling.append(one)
        time.sleep(0.05)

    def own(self) -> int:
        """Connections of its own."""
        return len(self._filling)

    def close(self) -> None:
        """Stop."""
        for one in (*self._filling, self._socket):
            one.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def read_request(connection: socket.socket) -> bytes:
    """A whole request, head and body."""
    data = bytearray()
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            return bytes(data)
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    length = int(next((line.split(b":")[1] for line in lines if line.startswith(b"content-length")), 0))
    while len(body) < length:
        piece = connection.recv(65536)
        if not piece:
            break
        body += piece
    return bytes(head + b"\r\n\r\n" + body)


def answer(text: bytes, extra: bytes = b"", *, length: int | None = None) -> bytes:
    """A whole answer; ``extra`` follows its body, ``length`` is announced instead of its own."""
    body = BODY % text
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % (len(body) if length is None else length) + body + extra


def open_to(port: int) -> int:
    """Client sockets of this machine that are open to a local port, or being opened."""
    found = 0
    for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]:
        _, _, remote, state, *_ = line.split()
        found += int(remote.rpartition(":")[2], 16) == port and state in _OPEN
    return found
