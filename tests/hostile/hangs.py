"""Sixteen ways not to answer."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from tests.hostile.servers import RawServer, Serve, Unaccepted, answer, read_request

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
LONG = "x" * 12_000_000


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def silent(connection: socket.socket, over: threading.Event) -> None:
    over.wait(20)


def says(first: bytes, again: bytes = b"", interval: float = 0.0) -> Serve:
    """Sends something, then something else for ever."""

    def serve(connection: socket.socket, over: threading.Event) -> None:
        read_request(connection)
        connection.sendall(first)
        while again and not over.is_set():
            connection.sendall(again)
            if interval:
                time.sleep(interval)
        over.wait(20)

    return serve


def reads_slowly(connection: socket.socket, over: threading.Event) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    while not over.is_set() and connection.recv(65536):
        time.sleep(0.01)


HANGS: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "backlog not accepted": (Unaccepted, {}),
    "accepted and silent": (lambda: RawServer(silent), {}),
    "TLS handshake without an answer": (lambda: RawServer(silent), {"tls": True}),
    "DNS without an answer": (lambda: RawServer(silent), {"host": "slow.invalid"}),
    "status line only": (lambda: RawServer(says(b"HTTP/1.1 200 OK\r\n")), {}),
    "dripping headers": (lambda: RawServer(says(HEAD, b"x", 0.02)), {}),
    "endless headers": (lambda: RawServer(says(HEAD, b"x-a: b\r\n", 0.001)), {}),
    "100 Continue flood": (lambda: RawServer(says(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.001)), {}),
    "upload read slowly": (lambda: RawServer(reads_slowly), {"prompt": LONG}),
    "upload not read": (lambda: RawServer(silent), {"prompt": LONG}),
    "head, then silence": (lambda: RawServer(says(HEAD + b"content-length: 99\r\n\r\n")), {}),
    "dripping body": (lambda: RawServer(says(HEAD + b"content-length: 9999\r\n\r\n", b"x", 0.02)), {}),
    "endless body of spaces": (
        lambda: RawServer(says(HEAD + b"transfer-encoding: chunked\r\n\r\n", chunk(b" " * 512), 0.001)),
        {},
    ),
    "SSE comments only": (lambda: RawServer(says(SSE, chunk(b": alive\n\n"), 0.005)), {"stream": True}),
    "one endless SSE line": (
        lambda: RawServer(says(SSE + chunk(b"data: "), chunk(b"x" * 256), 0.002)),
        {"stream": True},
    ),
    "complete, connection never closed": (
        lambda: RawServer(says(answer(b"hi").replace(b"content-length", b"x-length"))),
        {},
    ),
}
"""What the server does, and what is special about the call."""
