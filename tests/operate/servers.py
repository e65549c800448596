"""A server on loopback that stands for Slack, PagerDuty and webhooks: it records what it gets and answers by script."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Received:
    path: str
    headers: dict[str, str]
    body: dict[str, object]


@dataclass
class Receiver:
    """What arrived, and what is answered next: a status, with headers, or ``"hang"`` or ``"drip"``."""

    url: str = ""
    received: list[Received] = field(default_factory=list)
    answers: deque[int | str | tuple[int, dict[str, str]]] = field(default_factory=deque)
    default: int | str = 200
    over: threading.Event = field(default_factory=threading.Event)
    arrived: threading.Condition = field(default_factory=threading.Condition)

    def wait_for(self, count: int, seconds: float = 5.0) -> list[Received]:
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.received) >= count, seconds), self.received
        return self.received


@contextmanager
def receiver() -> Iterator[Receiver]:
    """A running one."""
    found = Receiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with found.arrived:
                found.received.append(Received(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                found.arrived.notify_all()
                answer = found.answers.popleft() if found.answers else found.default
            if answer == "hang":
                found.over.wait(30.0)
                self.close_connection = True
            elif answer == "drip":  # a head that never ends, a byte at a time
                self.close_connection = True
                while not found.over.wait(0.05):
                    try:
                        self.connection.sendall(b"x")
                    except OSError:
                        return
            else:
                status, headers = answer if isinstance(answer, tuple) else (int(answer), {})
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

        def log_message(self, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield found
    finally:
        found.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def silent_port() -> Iterator[int]:
    """A port that accepts connections and never says a word."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(20)
        yield listening.getsockname()[1]


def until(true: object, seconds: float = 5.0) -> None:
    """Wait until this function returns something true."""
    assert callable(true)
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends, "not in time"
        time.sleep(0.005)
