"""JSON values in a byte stream: one a line (NDJSON), or objects in an array or one after another.

Both decoders give the same values however the bytes are cut, hold no more than ``limit`` bytes back, and raise
:class:`~resilient_llm.errors.InvalidAnswer` when that is not enough.  They find where a value ends; whether it is JSON
is for the caller to see.
"""

from __future__ import annotations

import re

from resilient_llm.errors import InvalidAnswer

LIMIT = 64 * 1024 * 1024
"""Bytes of one value.  Generous, because an answer may hold an image."""


class Decoder:
    """Lines.  They end in LF only, because every other line end may stand inside a JSON string; a CR before it and
    blank lines are dropped."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._pieces: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The lines these bytes complete."""
        *ended, rest = data.split(b"\n")
        if not ended:
            self._hold(rest)
            return []
        self._hold(ended[0])
        ended[0] = b"".join(self._pieces)
        self._pieces, self._size = [], 0
        self._hold(rest)
        return [line for each in ended if (line := each.strip())]

    def close(self) -> list[bytes]:
        """The last line, if it was not ended: some servers leave the line end out."""
        line = b"".join(self._pieces).strip()
        self._pieces, self._size = [], 0
        return [line] if line else []

    def _hold(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._limit:
            raise InvalidAnswer(f"a line of the answer is longer than {self._limit} bytes")
        if piece:
            self._pieces.append(piece)


def encode(line: bytes) -> bytes:
    """One line."""
    return line + b"\n"


_MARK = re.compile(rb'["\\{}]')
_BETWEEN = b" \t\r\n,[]"


class ObjectDecoder:
    """Objects one after another, whatever stands between them may only be white space, commas and the brackets of an
    array around them.  Anything else raises :class:`~resilient_llm.errors.InvalidAnswer`."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._buffer = b""
        self._at = 0  # everything before is scanned
        self._depth = 0
        self._in_string = False

    def feed(self, data: bytes) -> list[bytes]:
        """The objects these bytes complete.  What is wrong behind a good one is said at the next call."""
        self._buffer += data
        found: list[bytes] = []
        try:
            while (end := self._scan()) is not None:
                found.append(self._buffer[:end])
                self._buffer, self._at = self._buffer[end:], 0
        except InvalidAnswer:
            if not found:
                raise
        if len(self._buffer) > self._limit:
            raise InvalidAnswer(f"an object of the answer is longer than {self._limit} bytes")
        return found

    def _scan(self) -> int | None:
        """Where the object at the head of the buffer ends; ``None`` if its end has not arrived."""
        if not self._depth:
            self._buffer = self._buffer.lstrip(_BETWEEN)
            if self._buffer and not self._buffer.startswith(b"{"):
                raise InvalidAnswer("the answer is neither a stream of events nor JSON objects")
        while (mark := _MARK.search(self._buffer, self._at)) is not None:
            at, sign = mark.start(), mark.group()
            if sign == b"\\" and at + 1 == len(self._buffer):
                self._at = at  # what it escapes has not arrived
                return None
            self._at = at + (2 if sign == b"\\" else 1)
            if sign == b'"':
                self._in_string = not self._in_string
            elif not self._in_string and sign != b"\\":
                self._depth += 1 if sign == b"{" else -1
                if not self._depth:
                    return self._at
        self._at = len(self._buffer)
        return None
