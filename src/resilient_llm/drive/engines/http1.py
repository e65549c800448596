"""HTTP/1.1 without I/O: the bytes of a request, and what the bytes of an answer mean.  Over h11; for both clients."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import h11

_LONGEST_HEAD = 102400  # bytes
_SMALL = 65536  # bytes of a body that may be copied to go out with the head
_NOTHING_LEFT = (b"", False)


class Http1:
    """One connection.  ``core`` is httpcore or httpcore2, whose exceptions are raised: ``LocalProtocolError`` for a
    request that cannot be written, ``RemoteProtocolError`` for an answer that is none."""

    __slots__ = ("_core", "_state")

    def __init__(self, core: ModuleType) -> None:
        self._core = core
        self._state = h11.Connection(h11.CLIENT, max_incomplete_event_size=_LONGEST_HEAD)

    def request(self, method: bytes, target: bytes, headers: list[tuple[bytes, bytes]], body: bytes) -> list[bytes]:
        """What to send: in one piece unless the body is large.  ``headers`` tell the length of the body."""
        state = self._state
        try:
            head = state.send(h11.Request(method=method, target=target, headers=headers)) or b""
            if body:
                state.send_with_data_passthrough(h11.Data(data=body))
            state.send(h11.EndOfMessage())
        except h11.LocalProtocolError as error:
            raise self._core.LocalProtocolError(str(error)) from error
        return [head + body] if len(body) <= _SMALL else [head, body]

    def received(self, data: bytes) -> None:
        """Bytes arrived; none: the other side has closed the connection."""
        if not data and self._state.their_state is h11.SEND_RESPONSE:
            raise self._core.RemoteProtocolError("the server disconnected without sending an answer")
        try:
            self._state.receive_data(data)
        except h11.RemoteProtocolError as error:
            raise self._core.RemoteProtocolError(str(error)) from error

    def head(self) -> h11.Response | None:
        """The head of the answer; ``None``: more bytes are needed."""
        while True:
            event = self._next()
            if type(event) is h11.Response:
                return event
            if event is h11.NEED_DATA:
                return None

    def piece(self) -> bytes | None:
        """The next piece of the body; empty: more bytes are needed; ``None``: that was all of it."""
        while True:
            event = self._next()
            if event is h11.NEED_DATA:
                return b""
            if type(event) is not h11.Data:
                return None
            if event.data:
                return bytes(event.data)

    def renew(self) -> bool:
        """Whether another request may follow: both sides are done, and want to go on, and nothing has arrived that
        nobody asked for.  It would begin the next answer."""
        state = self._state
        if state.our_state is not h11.DONE or state.their_state is not h11.DONE:
            return False
        if state.trailing_data != _NOTHING_LEFT:
            return False
        state.start_next_cycle()
        return True

    def _next(self) -> Any:
        try:
            return self._state.next_event()
        except h11.RemoteProtocolError as error:
            raise self._core.RemoteProtocolError(str(error)) from error
