"""Bytes off the wire, decompressed and bounded: an answer may be anything, and must not be more than we allow."""

from __future__ import annotations

import zlib

from resilient_llm.drive.failure import AttemptFailed
from resilient_llm.errors import Fault, FaultKind

_HEADER = 2  # bytes


class Inflater:
    """Undoes a content encoding piece by piece, never holding more than ``limit`` bytes of what comes out.

    What follows the end of the compressed data is thrown away unseen, and counts against the limit as well.
    """

    __slots__ = ("_head", "_limit", "_seen", "_zlib")

    def __init__(self, encoding: str, limit: int) -> None:
        self._limit = limit
        self._seen = 0
        self._head: bytes | None = b"" if encoding == "deflate" else None
        if encoding in ("gzip", "x-gzip", "deflate"):
            self._zlib = zlib.decompressobj(zlib.MAX_WBITS | 32)  # gzip or zlib, by their headers
        else:
            raise _invalid(f"the answer is encoded as {encoding[:40]!r}, which was not asked for")

    def feed(self, data: bytes) -> bytes:
        """The next piece, decompressed."""
        if self._head is not None:
            data = self._head + data
            if len(data) < _HEADER:
                self._head = data
                return b""
            if int.from_bytes(data[:_HEADER]) % 31 or data[0] & 15 != 8:  # RFC 1950; some servers leave it out
                self._zlib = zlib.decompressobj(-zlib.MAX_WBITS)
            self._head = None
        if self._zlib.eof:  # the decompressor would keep it all, and copy it anew with each piece
            self._count(len(data))
            return b""
        try:
            out = self._zlib.decompress(data, self._limit - self._seen + 1)
        except zlib.error as error:
            raise _invalid(f"the answer does not decompress: {error}") from error
        self._count(len(out))
        return out

    def _count(self, size: int) -> None:
        self._seen += size
        if self._seen > self._limit:
            raise too_long(self._limit)


def inflater(encoding: str, limit: int) -> Inflater | None:
    """What undoes a content encoding; ``None`` if it is none."""
    encoding = encoding.strip().lower()
    return None if encoding in ("", "identity") else Inflater(encoding, limit)


class Body:
    """Collects a whole answer of at most ``limit`` bytes."""

    __slots__ = ("_limit", "_pieces", "_size")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pieces: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> None:
        """The next piece."""
        self._size += len(data)
        if self._size > self._limit:
            raise too_long(self._limit)
        self._pieces.append(data)

    def bytes(self) -> bytes:
        """All of it."""
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)


def too_long(limit: int) -> AttemptFailed:
    """The failure for an answer beyond the bound."""
    return _invalid(f"the answer is longer than {limit} bytes")


def _invalid(message: str) -> AttemptFailed:
    return AttemptFailed(Fault(FaultKind.INVALID_RESPONSE, message=message))
