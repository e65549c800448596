"""Objects of httpx or httpx2, whichever a request came from.

The two have the same names and no common base class, and each refuses what the other made.  A family is found in the
module of the request in hand, so neither is imported here.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from typing import Any, Protocol, Self, cast


class Pieces(Protocol):
    """The body of a streamed answer."""

    def __iter__(self) -> Self: ...

    def __next__(self) -> bytes: ...

    def close(self) -> None: ...


class AsyncPieces(Protocol):
    """The same for async clients."""

    def __aiter__(self) -> Self: ...

    async def __anext__(self) -> bytes: ...

    async def aclose(self) -> None: ...


class Family:
    """One of the two libraries, as far as answers are made of it."""

    def __init__(self, module: Any) -> None:
        self.module: Any = module
        self._body: Any = type("Body", (_Body, module.SyncByteStream), {})
        self._async_body: Any = type("AsyncBody", (_AsyncBody, module.AsyncByteStream), {})
        self._late: Any = type("ReadTimeout", (module.ReadTimeout, TimeoutError), {})
        self._unreached: Any = type("ConnectError", (module.ConnectError, ConnectionError), {})

    def whole(self, status: int, headers: Mapping[str, str], body: bytes) -> Any:
        """A response that is there as a whole.  As a stream: given as content, its client would not say how long it
        took."""
        encoded = _encoded(headers)
        encoded.append((b"content-length", b"%d" % len(body)))
        return self.module.Response(status, headers=encoded, stream=self.module.ByteStream(body))

    def streamed(self, headers: Mapping[str, str], pieces: Pieces) -> Any:
        """A response that arrives piece by piece."""
        return self.module.Response(200, headers=_encoded(headers), stream=self._body(pieces))

    def async_streamed(self, headers: Mapping[str, str], pieces: AsyncPieces) -> Any:
        """The same for async clients."""
        return self.module.Response(200, headers=_encoded(headers), stream=self._async_body(pieces))

    def late(self, request: object, message: str) -> Exception:
        """What the library raises when no answer comes in time; a ``TimeoutError`` too, which an SDK that does not
        always use the library raises then."""
        return cast(Exception, self._late(message, request=request))

    def unreached(self, request: object, message: str) -> Exception:
        """The same when nobody could be reached; a ``ConnectionError`` too."""
        return cast(Exception, self._unreached(message, request=request))


def _encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """What an HTTP library need not encode itself, in four steps a header."""
    return [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]


def family_of(request: object) -> Family:
    """The library this request belongs to."""
    return _family(type(request).__module__.partition(".")[0])


@cache
def _family(name: str) -> Family:
    return Family(sys.modules[name])


class _Body:
    """Becomes a byte stream of a family."""

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces

    def __iter__(self) -> Pieces:
        return self._pieces

    def close(self) -> None:
        self._pieces.close()


class _AsyncBody:
    """The same for async clients."""

    def __init__(self, pieces: AsyncPieces) -> None:
        self._pieces = pieces

    def __aiter__(self) -> AsyncPieces:
        return self._pieces

    async def aclose(self) -> None:
        await self._pieces.aclose()
