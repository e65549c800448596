"""HTTP/1.1 without I/O: the bytes of a request, and what the bytes of an answer mean.  For both clients.

An answer in the usual form (a status from 200 to 599, a length or chunks, no line folded) is read here, at
a tenth of what h11 takes.  Any other is left to h11, from its first byte on: answers of HTTP/1.0, those that end with
their connection, interim ones, and what may be no answer at all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any, Final, NamedTuple

from resilient_llm.drive.engines.seam import joined
from resilient_llm.drive.fork import imported

_LONGEST_HEAD: Final = 102400  # bytes
_LONGEST_LINE: Final = 4096  # bytes that begin a chunk
_SMALL: Final = 65536  # bytes of a body that may be copied to go out with the head
_NOTHING_LEFT: Final = (b"", False)

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_START = re.compile(rb"[A-Z]+ [\x21-\x7e]+")
_NAME = re.compile(_TOKEN)
_VALUE = re.compile(rb"[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?")
_FIELD = re.compile(_TOKEN + rb":[\t\x20-\x7e\x80-\xff]*")
_BLANK = re.compile(rb"\n\r?\n")
_HEAD = re.compile(
    rb"HTTP/1\.1 ([2-5][0-9][0-9])(?: [\t\x20-\x7e\x80-\xff]*)?\r\n"
    rb"((?:" + _FIELD.pattern + rb"\r\n)*)\r\n"
)
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})[\t ]*(?:;[\t\x20-\x7e\x80-\xff]*)?")
_LENGTH = re.compile(r"[0-9]{1,15}")
_BEGINNING: Final = b"HTTP/1.1 "
_WITHOUT_BODY: Final = frozenset({204, 304})


class Head(NamedTuple):
    """The head of an answer; ``headers`` have their names in lower case."""

    status: int
    headers: Mapping[str, str]


def lines_of(core: ModuleType, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The lines of these headers.  Raises ``LocalProtocolError`` for one that cannot be written."""
    written = list(headers)
    for name, value in written:
        if _NAME.fullmatch(name) is None or (value and _VALUE.fullmatch(value) is None):
            raise core.LocalProtocolError(f"the header {name!r} cannot be written")  # its value may be secret
    return b"".join([b"%b: %b\r\n" % pair for pair in written])


class Http1:
    """One connection.  ``core`` is httpcore or httpcore2, whose exceptions are raised: ``LocalProtocolError`` for a
    request that cannot be written, ``RemoteProtocolError`` for an answer that is none."""

    _data: bytes = b""
    """What has arrived last, with what was not taken of it before."""
    _at: int = 0
    """How much of it was taken."""
    _ended: bool = False
    """The other side has closed the connection."""
    _last: bool = False
    """No other request may follow."""
    _h11: Any = None
    """Who reads this answer, where it is of no usual form."""

    def __init__(self, core: ModuleType) -> None:
        self._core = core
        self._begin()

    def _begin(self) -> None:
        """An answer is expected."""
        self._chunked = False
        self._left: int = 0
        """Bytes that are still to come of the body, or of its chunk."""
        self._open = False
        """The end of a chunk is due."""
        self._trailer: int | None = None
        """The last chunk is over; bytes of what follows it."""
        self._over = False

    def request(self, method: bytes, target: bytes, lines: bytes, body: bytes) -> list[bytes]:
        """What to send: in one piece unless the body is large.  ``lines`` are :func:`lines_of` all headers but the one
        for the length of the body."""
        start = b"%b %b" % (method, target)
        if _START.fullmatch(start) is None:
            raise self._core.LocalProtocolError("the URL cannot be written")
        head = b"%b HTTP/1.1\r\n%bcontent-length: %d\r\n\r\n" % (start, lines, len(body))
        return [head + body] if len(body) <= _SMALL else [head, body]

    def received(self, data: bytes) -> None:
        """Bytes arrived; none: the other side has closed the connection."""
        if self._h11 is not None:
            self._carefully(self._h11.receive_data, data)
        elif data:
            self._data, self._at = self._data[self._at :] + data, 0
        else:
            self._ended = True

    def head(self) -> Head | None:
        """The head of the answer; ``None``: more bytes are needed."""
        if self._h11 is not None:
            return self._careful_head()
        data, at = self._data, self._at
        size, blank = len(data) - at, _BLANK.search(data, at)
        if blank is None:
            if not size and self._ended:
                raise self._core.RemoteProtocolError("the server disconnected without sending an answer")
            if not self._ended and size <= _LONGEST_HEAD and _BEGINNING.startswith(data[at : at + 9]):
                return None
        found = None if blank is None else _HEAD.fullmatch(data, at, min(blank.end(), at + _LONGEST_HEAD))
        head = None if found is None else self._usual(int(found[1]), found[2])
        if head is None or found is None:
            return self._careful_head()
        self._at = found.end()
        return head

    def _usual(self, status: int, block: bytes) -> Head | None:
        """The head of an answer; ``None`` if it is of no usual form."""
        pairs = [line.partition(":") for line in block.decode("latin-1").split("\r\n")[:-1]]
        headers = joined([(name.lower(), value.strip("\t ")) for name, _, value in pairs])
        length, coding = headers.get("content-length"), headers.get("transfer-encoding")
        connection = headers.get("connection", "keep-alive").lower()
        if status in _WITHOUT_BODY or connection not in ("keep-alive", "close"):
            return None
        if coding is None and length is not None and _LENGTH.fullmatch(length) is not None:
            self._left = int(length)
        elif coding == "chunked" and length is None:
            self._chunked = True
        else:
            return None
        self._last = connection == "close"
        return Head(status, headers)

    def piece(self) -> bytes | None:
        """The next piece of the body; empty: more bytes are needed; ``None``: that was all of it."""
        if self._h11 is not None:
            return self._careful_piece()
        while not self._left and not self._over:
            if not self._chunked:
                self._over = True
            elif not self._between():
                return self._more()
        if self._over:
            return None
        piece = self._data[self._at : self._at + self._left]
        if not piece:
            return self._more()
        self._at += len(piece)
        self._left -= len(piece)
        self._open = self._chunked
        return piece

    def _more(self) -> bytes:
        if self._ended:
            raise self._core.RemoteProtocolError("the server disconnected in the middle of its answer")
        return b""

    def _between(self) -> bool:
        """Read a line that stands between chunks; ``False``: more bytes are needed."""
        data, at = self._data, self._at
        end = data.find(b"\r\n", at, at + _LONGEST_LINE)
        line = data[at:end] if end >= 0 else b""
        if self._open:
            self._open = end < 0
            wrong = line != b"" or (end < 0 and data[at : at + 2] not in (b"", b"\r"))
        elif end < 0:
            wrong = len(data) - at >= _LONGEST_LINE
        elif self._trailer is not None:
            self._trailer += len(line) + 2
            self._over = not line
            wrong = self._trailer > _LONGEST_HEAD or (line != b"" and _FIELD.fullmatch(line) is None)
        else:
            size = _CHUNK.fullmatch(line)
            wrong = size is None
            self._left = 0 if size is None else int(size[1], 16)
            self._trailer = None if self._left else 0
        if wrong:
            raise self._core.RemoteProtocolError("the answer has a chunk that is none")
        self._at = at if end < 0 else end + 2
        return end >= 0

    def renew(self) -> bool:
        """Whether another request may follow: both sides are done, and want to go on, and nothing has arrived that
        nobody asked for.  It would begin the next answer."""
        state = self._h11
        if state is not None:
            h11 = imported("h11")
            if (state.our_state, state.their_state, state.trailing_data) != (h11.DONE, h11.DONE, _NOTHING_LEFT):
                return False
            self._h11 = None
        elif not self._over or self._last or self._ended or self._at < len(self._data):
            return False
        self._begin()
        return True

    # --- by h11 ---

    def _careful_head(self) -> Head | None:
        h11 = imported("h11")
        if self._h11 is None:
            self._h11 = state = h11.Connection(h11.CLIENT, max_incomplete_event_size=_LONGEST_HEAD)
            state.send(h11.Request(method="POST", target="/", headers=[("host", "-")]))
            state.send(h11.EndOfMessage())
            data, self._data, self._at = self._data[self._at :], b"", 0
            if data:
                self.received(data)
            if self._ended:
                self.received(b"")
        while True:
            event = self._carefully(self._h11.next_event)
            if type(event) is h11.Response:
                headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in event.headers]
                return Head(event.status_code, joined(headers))
            if event is h11.NEED_DATA:
                return None

    def _careful_piece(self) -> bytes | None:
        h11 = imported("h11")
        while True:
            event = self._carefully(self._h11.next_event)
            if event is h11.NEED_DATA:
                return b""
            if type(event) is not h11.Data:
                return None
            if event.data:
                return bytes(event.data)

    def _carefully(self, step: Callable[..., Any], *given: bytes) -> Any:
        try:
            return step(*given)
        except imported("h11").RemoteProtocolError as error:
            raise self._core.RemoteProtocolError(str(error)) from error
