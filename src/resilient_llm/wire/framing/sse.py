"""Server-sent events: bytes <-> (event, data), after the WHATWG's parsing rules.

Whole frames with plain ``data: ...`` lines, as most chunks are, are cut apart by ``str`` methods; anything else goes
line by line.  Both ways give the same events, however the bytes are cut.  Line ends are made LF first.
"""

from __future__ import annotations

from typing import TypeAlias

from resilient_llm.errors import InvalidAnswer

Event: TypeAlias = tuple[str, str]
"""Name (``"message"`` where the wire gave none) and data."""

MAX_EVENT = 64 << 20
"""Default limit of one event in bytes: a streamed image fits, a server that never ends a line does not."""

_PLAIN = frozenset({b"data: ", b"event:"})
_BOM = b"\xef\xbb\xbf"


class Decoder:
    """Bytes of one event stream -> events.

    ``max_event`` bounds the memory an unfinished event may take, in bytes; a longer one raises
    :class:`~resilient_llm.errors.InvalidAnswer`.
    """

    def __init__(self, max_event: int = MAX_EVENT) -> None:
        self._max = max_event
        self._cr = False  # the last byte was a CR, which ended its line; an LF now is its other half
        self._first = True  # no line has been seen, so a byte-order mark may come
        self._line: list[bytes] = []  # pieces of the unfinished line, joined once: a slow sender must not cost O(n^2)
        self._held = 0  # bytes in _line
        self._data: list[str] = []
        self._size = 0  # bytes of the data lines of the unfinished event
        self._event = ""
        self._at_boundary = True  # nothing of an event has been seen
        self._id = ""  # of the unfinished event
        self.last_event_id: str = ""

    @property
    def at_boundary(self) -> bool:
        """Whether the next byte begins an event."""
        return self._at_boundary and not self._cr and not self._first

    def feed(self, data: bytes) -> list[Event]:
        """The events these bytes complete."""
        if self._cr or b"\r" in data:
            data = self._with_lf(data)
        if self._at_boundary and data[:6] in _PLAIN and data[-2:] == b"\n\n" and len(data) <= self._max:
            self._first = False
            text = data.decode("utf-8", "replace")
            if text.find("\n") == len(text) - 2 and text[:6] == "data: ":
                return [("message", text[6:-2])]
            return self._blocks(text)
        return self._mixed(data)

    def unfinished(self) -> list[Event]:
        """The stream ended: the event that its last bytes would be with a blank line after them, if any."""
        return [] if self._at_boundary else self.feed(b"\n\n")

    def _with_lf(self, data: bytes) -> bytes:
        if self._cr and data[:1] == b"\n":
            data = data[1:]
            self._cr = False
        if data:
            self._cr = data[-1:] == b"\r"
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _mixed(self, data: bytes) -> list[Event]:
        """Line by line up to the end of the unfinished event, whole frames at once, line by line from there."""
        out: list[Event] = []
        start = 0
        if not self._at_boundary or self._first:
            start = data.find(b"\n\n") + 2
            if start == 1:
                return self._lines(data, out)
            self._lines(data[:start], out)
        end = data.rfind(b"\n\n", start) + 2 if self._at_boundary and len(data) <= self._max else 1
        if end > 1:
            out += self._blocks(data[start:end].decode("utf-8", "replace"))
            start = end
        return self._lines(data[start:], out)

    def _blocks(self, text: str) -> list[Event]:
        """Whole frames.  ``text`` ends with a blank line and begins where an event may begin."""
        out: list[Event] = []
        for block in text[:-2].split("\n\n"):
            head, _, body = block.partition("\n")
            if not body and head[:6] == "data: ":
                out.append(("message", head[6:]))
            elif head[:7] == "event: " and body[:6] == "data: " and "\n" not in body:
                out.append((head[7:] or "message", body[6:]))
            else:
                for line in block.split("\n"):
                    self._field(line, len(line))
                self._dispatch(out)
        return out

    def _lines(self, data: bytes, out: list[Event]) -> list[Event]:
        *whole, rest = data.split(b"\n")
        for piece in whole:
            if self._held:
                self._line.append(piece)
                line = b"".join(self._line)
                self._line.clear()
                self._held = 0
            else:
                line = piece
            self._take(line, out)
        if rest:
            self._line.append(rest)
            self._held += len(rest)
            self._at_boundary = False
            self._limit(self._held)
        return out

    def _take(self, line: bytes, out: list[Event]) -> None:
        self._limit(len(line))
        if self._first:
            self._first = False
            line = line.removeprefix(_BOM)
        if line:
            self._at_boundary = False
            self._field(line.decode("utf-8", "replace"), len(line))
        else:
            self._dispatch(out)

    def _field(self, line: str, size: int) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
            self._size += size
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = value
        # "retry" and anything else, comments included, says nothing about the answer

    def _dispatch(self, out: list[Event]) -> None:
        if self._data:
            out.append((self._event or "message", "\n".join(self._data)))
            self._data.clear()
            self._size = 0
        self._event = ""
        self.last_event_id = self._id
        self._at_boundary = True

    def _limit(self, more: int) -> None:
        if self._size + more > self._max:
            raise InvalidAnswer(f"an event of the stream is longer than {self._max} bytes")


def encode(data: bytes, event: str | None = None) -> bytes:
    """One frame, as clients want it that look for the space and LFs literally.  ``data`` must not contain a line
    end."""
    if event is None:
        return b"data: %b\n\n" % data
    return b"event: %b\ndata: %b\n\n" % (event.encode(), data)
