"""One connection of the loopback server: parses requests, plays plans.  Runs in the server's thread only."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from typing import Protocol, cast, final

from typing_extensions import override

from resilient_llm.testing.plans import Plan
from resilient_llm.testing.received import ReceivedRequest
from resilient_llm.testing.strike import Ending

_MAX_HEAD = 1 << 16
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER on, zero seconds: closing sends a reset."""
_BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Handler(Protocol):
    """What the connections of one server share."""

    keep_alive: bool
    """Whether connections survive their answer."""
    connections: set[Connection]
    """Those that are open."""

    def opened(self, connection: Connection) -> int:
        """Take note of a connection; its number."""
        ...

    def lost(self, connection: Connection) -> None: ...

    def received(self, request: ReceivedRequest) -> Plan:
        """What to do about a request."""
        ...

    def changed(self) -> None:
        """Something happened that somebody may be waiting for."""
        ...


@final
class Connection(asyncio.Protocol):
    """A keep-alive HTTP/1.1 connection.  Pipelined requests wait for the answer before them."""

    transport: asyncio.Transport
    _number: int

    def __init__(self, handler: Handler, loop: asyncio.AbstractEventLoop) -> None:
        self._handler = handler
        self._loop = loop
        self._pieces: list[bytes] = []
        self._have = 0
        self._need = 1
        self._task: asyncio.Task[None] | None = None
        self._request: ReceivedRequest | None = None  # the one being answered
        self._writable: asyncio.Future[None] | None = None  # None: it is

    @property
    def idle(self) -> bool:
        """Whether no answer is under way."""
        return self._request is None

    def reset(self) -> None:
        """Close with a TCP reset."""
        self._request = None  # it is we who hang up
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        # A write counts as done when the kernel has it: what is cut or reset afterwards was really sent before.
        self.transport.set_write_buffer_limits(high=0)
        self._number = self._handler.opened(self)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        request, self._request = self._request, None
        if request is not None:
            request.hung_up_at = time.monotonic()
        if self._task is not None:
            self._task.cancel()
        self._handler.lost(self)

    @override
    def pause_writing(self) -> None:
        self._writable = self._loop.create_future()

    @override
    def resume_writing(self) -> None:
        waiting, self._writable = self._writable, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    @override
    def data_received(self, data: bytes) -> None:
        self._pieces.append(data)
        self._have += len(data)
        self._read_requests()

    def _read_requests(self) -> None:
        while self._request is None and self._have >= self._need and not self.transport.is_closing():
            buffer = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
            self._pieces = [buffer]
            if not self._read_request(buffer):
                return

    def _read_request(self, buffer: bytes) -> bool:
        """Take one request from the buffer and answer it; False if there is none."""
        head_end = buffer.find(b"\r\n\r\n")
        if head_end < 0:
            self._need = self._have + 1
            if self._have > _MAX_HEAD:
                self.transport.close()
            return False
        line, _, head = buffer[:head_end].partition(b"\r\n")
        lower = head.lower()
        try:
            found = self._find_body(buffer, head_end + 4, lower)
            if found is None:
                return False
            method, path, _ = line.decode("latin-1").split(" ")
        except ValueError:
            self.transport.write(_BAD_REQUEST)
            self.transport.close()
            return False
        body, end = found
        self._pieces = [buffer[end:]] if end < len(buffer) else []
        self._have = len(buffer) - end
        self._need = 1
        self._answer(ReceivedRequest(method, path, head, body, self._number), b"connection: close" in lower)
        return True

    def _find_body(self, buffer: bytes, start: int, head: bytes) -> tuple[bytes, int] | None:
        """The body and where it ends; ``None`` if there is more to come.  Raises ``ValueError`` on bad framing."""
        at = head.find(b"content-length:")
        if at >= 0:
            end = start + int(head[at + 15 :].partition(b"\r\n")[0])
            found = (buffer[start:end], end) if self._have >= end else None
            self._need = end
        elif b"transfer-encoding: chunked" in head:
            unchunked = _unchunk(buffer[start:])
            found = (unchunked[0], start + unchunked[1]) if unchunked else None
            self._need = self._have + 1
        else:
            return b"", start
        if found is None and b"expect: 100-continue" in head and self._have == start:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return found

    def _answer(self, request: ReceivedRequest, close: bool) -> None:
        self._request = request
        steps = self._handler.received(request)
        self._handler.changed()
        if isinstance(steps, tuple) and len(steps) == 1 and isinstance(steps[0], bytes):
            # Most answers are one write and need no task.  It is recorded first: who has got it may look at once.
            request.bytes_sent, request.answered_at = len(steps[0]), time.monotonic()
            self.transport.write(steps[0])
            if self._writable is None:
                self._finish(request, Ending.CLOSE if close else None)
                return
            steps, request.answered_at = (), None  # more than the system takes at once
        self._task = self._loop.create_task(self._play(request, steps, close))

    async def _play(self, request: ReceivedRequest, steps: Plan, close: bool) -> None:
        ending = Ending.CLOSE if close else None
        await self._flushed()
        for step in steps:
            if isinstance(step, bytes):
                request.bytes_sent += len(step)
                self.transport.write(step)
                await self._flushed()
            elif isinstance(step, Ending):
                ending = step
            else:
                await asyncio.sleep(step)
        self._task = None
        if ending is not Ending.HANG:
            self._finish(request, ending)
            self._read_requests()  # the next one may have come meanwhile

    async def _flushed(self) -> None:
        if self._writable is not None:
            await self._writable

    def _finish(self, request: ReceivedRequest, ending: Ending | None) -> None:
        request.answered_at = time.monotonic()
        self._request = None
        if ending is Ending.RESET:
            self.reset()
        elif ending is Ending.CLOSE or not self._handler.keep_alive:
            self.transport.close()
        self._handler.changed()


def _unchunk(data: bytes) -> tuple[bytes, int] | None:
    """A chunked body and the number of bytes it took; ``None`` if it is not complete yet."""
    body: list[bytes] = []
    at = 0
    while (line_end := data.find(b"\r\n", at)) >= 0:
        size = int(data[at:line_end].partition(b";")[0], 16)
        start = line_end + 2
        if size == 0:
            end = data.find(b"\r\n", start)  # trailers are not supported
            return (b"".join(body), end + 2) if end >= 0 else None
        if len(data) < start + size + 2:
            return None
        body.append(data[start : start + size])
        at = start + size + 2
    return None
