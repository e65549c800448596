"""AWS event stream (``application/vnd.amazon.eventstream``): bytes <-> messages.

Big-endian, every message one frame::

    total length    4 bytes, the whole frame
    headers length  4 bytes
    prelude CRC     4 bytes, over the 8 before it
    headers         (name length 1, name, type 1, value)*
    payload         what is left
    message CRC     4 bytes, over everything before it

The CRC is CRC-32 as in zlib, not CRC-32C.  A frame that contradicts itself means that the position in the stream is
lost, so nothing after it can be believed.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from resilient_llm.errors import InvalidAnswer

MAX_HEADERS: Final = 128 * 1024
"""Most bytes of headers (botocore's limit)."""

MAX_PAYLOAD: Final = 24 * 1024 * 1024
"""Most bytes of payload (botocore's limit)."""

_PRELUDE: Final = 12
_OVERHEAD: Final = _PRELUDE + 4

_TEXT = 7
_SIZES = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 6: None, _TEXT: None, 8: 8, 9: 16}
"""How long a header's value of each type is; ``None``: two bytes before it say."""


@dataclass(frozen=True, slots=True)
class EventMessage:
    """One frame: those of its headers that are text, and its payload."""

    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    payload: bytes = b""

    def header(self, name: str) -> str:
        """A header; empty if there is none or it is no text."""
        return self.headers.get(name, "")


class Decoder:
    """Bytes of one event stream -> messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def pending(self) -> int:
        """How many bytes of an unfinished frame have arrived."""
        return len(self._buffer)

    def feed(self, data: bytes) -> Iterator[EventMessage]:
        """The messages these bytes complete, one by one.  Raises ``InvalidAnswer`` at a frame that cannot be
        believed."""
        self._buffer += data
        while (message := self._take()) is not None:
            yield message

    def _take(self) -> EventMessage | None:
        buffer = self._buffer
        if len(buffer) < _PRELUDE:
            return None
        # Lengths are believed as soon as they are there: a wrong one must not make us wait for ever.
        total, head, crc = struct.unpack_from(">III", buffer)
        if zlib.crc32(buffer[:8]) != crc:
            raise InvalidAnswer("an event stream prelude has the wrong checksum")
        if head > MAX_HEADERS:
            raise InvalidAnswer(f"the headers of an event stream message are longer than {MAX_HEADERS} bytes")
        if total - head < _OVERHEAD:
            raise InvalidAnswer("an event stream message is shorter than its headers")
        if total - head > _OVERHEAD + MAX_PAYLOAD:
            raise InvalidAnswer(f"the payload of an event stream message is longer than {MAX_PAYLOAD} bytes")
        if len(buffer) < total:
            return None
        frame = bytes(buffer[:total])
        del buffer[:total]
        if zlib.crc32(frame[:-4]) != int.from_bytes(frame[-4:], "big"):
            raise InvalidAnswer("an event stream message has the wrong checksum")
        decode = _decode_repeated if head <= _REPEATED else _decode_headers
        return EventMessage(decode(frame[_PRELUDE : _PRELUDE + head]), frame[_PRELUDE + head : -4])


def _decode_headers(data: bytes) -> Mapping[str, str]:
    headers: dict[str, str] = {}
    names: set[bytes] = set()
    position = 0
    try:
        while position < len(data):
            name, position = _piece_at(data, position, 1)
            kind, position = data[position], position + 1
            if name in names or kind not in _SIZES:
                what = f"is of the unknown type {kind}" if kind not in _SIZES else "stands there twice"
                raise InvalidAnswer(f"the header {name!r} of an event stream message {what}")
            names.add(name)
            size = _SIZES[kind]
            value, position = _piece_at(data, position, 2) if size is None else _taken(data, position, size)
            if kind == _TEXT:
                headers[name.decode()] = value.decode()
    except (IndexError, UnicodeDecodeError) as error:
        raise InvalidAnswer(f"the headers of an event stream message cannot be read: {error}") from error
    return headers


_REPEATED: Final = 256
"""A stream has a handful of different short headers, thousands of times: each is read once."""

_decode_repeated = lru_cache(64)(_decode_headers)


def _piece_at(data: bytes, position: int, width: int) -> tuple[bytes, int]:
    """Bytes behind their own length, which is ``width`` bytes wide, and the position after them."""
    start = position + width
    return _taken(data, start, int.from_bytes(data[position:start], "big"))


def _taken(data: bytes, start: int, size: int) -> tuple[bytes, int]:
    if start + size > len(data):
        raise IndexError("a value is cut short")
    return data[start : start + size], start + size


def encode(message: EventMessage) -> bytes:
    """One frame.  Raises ``ValueError`` for what the format cannot hold."""
    head = b"".join(_encode_header(name, value) for name, value in message.headers.items())
    if len(head) > MAX_HEADERS or len(message.payload) > MAX_PAYLOAD:
        raise ValueError("an event stream message is longer than the format allows")
    prelude = struct.pack(">II", len(head) + len(message.payload) + _OVERHEAD, len(head))
    body = b"".join((prelude, struct.pack(">I", zlib.crc32(prelude)), head, message.payload))
    return body + struct.pack(">I", zlib.crc32(body))


def _encode_header(name: str, value: str) -> bytes:
    label, text = name.encode(), value.encode()
    try:
        return struct.pack(">B", len(label)) + label + struct.pack(">BH", _TEXT, len(text)) + text
    except struct.error as error:
        raise ValueError(f"the header {name!r} cannot be written: {error}") from error


def event(kind: str, payload: bytes) -> bytes:
    """An event with a JSON payload."""
    return _message("event", kind, payload)


def exception(kind: str, payload: bytes) -> bytes:
    """An exception, which ends the stream."""
    return _message("exception", kind, payload)


def _message(what: str, kind: str, payload: bytes) -> bytes:
    headers = {f":{what}-type": kind, ":content-type": "application/json", ":message-type": what}
    return encode(EventMessage(headers, payload))
