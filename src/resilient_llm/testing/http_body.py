"""Bodies of ``httpx`` responses that wait as a mishap wants, bounded by the request's read timeout."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import cast, final

import httpx
from typing_extensions import override

from resilient_llm.testing.http_answer import AlteredBody, Head, Step
from resilient_llm.testing.pace import LOOK, sleep_unless


@final
class Waits:
    """The waits of one request, bounded by its read timeout.

    For the sync client it also stands in for the connection: the driver bounds reads by moving deadlines, and closes a
    stream from another thread, through the connection an answer reports.
    """

    def __init__(self, request: httpx.Request, withdrawn: threading.Event) -> None:
        self._withdrawn = withdrawn
        timeouts = cast("Mapping[str, float | None]", request.extensions.get("timeout") or {})
        self._default = timeouts.get("read")
        self._pending = 0.0
        self._gone = threading.Event()

    def sleep(self, seconds: float) -> None:
        """Wait.  Raises ``httpx.ReadTimeout`` where it takes too long."""
        self._pending = seconds
        self.read(0, timeout=self._default)

    async def sleep_async(self, seconds: float) -> None:
        """The same for async code, whose driver bounds it from outside as well."""
        limit = math.inf if self._default is None else self._default
        await sleep_unless(self._withdrawn, min(seconds, limit))
        if not self._released(seconds) and seconds > limit:
            raise httpx.ReadTimeout("the read operation timed out")

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """The pending wait, as the connection's read."""
        limit = math.inf if timeout is None else timeout
        nap = min(self._pending, limit)
        until = time.monotonic() + nap
        while (left := until - time.monotonic()) > 0 and not self._withdrawn.is_set():
            if self._gone.wait(min(left, LOOK)):
                break
        if self._gone.is_set():
            raise httpx.ReadError("the connection was closed")
        if not self._released(self._pending) and self._pending > limit:
            raise httpx.ReadTimeout("the read operation timed out")
        return b""

    def _released(self, seconds: float) -> bool:
        """Whether a wait ends because the fault was withdrawn.  Raises ``httpx.ReadError`` for one without an end."""
        if self._withdrawn.is_set() and seconds == math.inf:
            raise httpx.ReadError("the fault was withdrawn")
        return self._withdrawn.is_set()

    def get_extra_info(self, name: str) -> object:
        """This object is its own socket."""
        return self if name == "socket" else None

    def shutdown(self, how: int = 0) -> None:
        """End a wait at once; takes no lock that a finaliser could meet."""
        self._gone.set()

    def extensions(self) -> dict[str, object]:
        """How the driver finds it."""
        return {"http_version": b"HTTP/1.1", "network_stream": self}

    def until_head(self, played: Iterator[Step]) -> Head:
        """Wait for the head."""
        for step in played:
            if isinstance(step, Head):
                return step
            self.sleep(cast(float, step))
        raise httpx.RemoteProtocolError("the server disconnected without sending a response")

    async def until_head_async(self, played: Iterator[Step]) -> Head:
        """The same for async code."""
        for step in played:
            if isinstance(step, Head):
                return step
            await self.sleep_async(cast(float, step))
        raise httpx.RemoteProtocolError("the server disconnected without sending a response")


@final
class Body(httpx.SyncByteStream):
    """Steps as a body."""

    def __init__(self, steps: Iterator[Step], waits: Waits, beneath: httpx.Response | None = None) -> None:
        self._steps = steps
        self._waits = waits
        self._beneath = beneath

    @override
    def __iter__(self) -> Iterator[bytes]:
        for step in self._steps:
            if isinstance(step, bytes):
                if step:
                    yield step
            else:
                self._waits.sleep(cast(float, step))

    @override
    def close(self) -> None:
        self._waits.shutdown()
        if self._beneath is not None:
            self._beneath.close()


@final
class AsyncBody(httpx.AsyncByteStream):
    """The same for async code."""

    def __init__(self, steps: Iterator[Step], waits: Waits) -> None:
        self._steps = steps
        self._waits = waits

    @override
    async def __aiter__(self) -> AsyncIterator[bytes]:
        for step in self._steps:
            if isinstance(step, bytes):
                if step:
                    yield step
            else:
                await self._waits.sleep_async(cast(float, step))


@final
class _AlteredPieces:
    """Once these are over, asking again reads what is left beneath: the client does so to end the HTTP library's
    generators, about which trio complains where they are left in the middle."""

    def __init__(self, pieces: AsyncIterator[bytes], alteration: AlteredBody, waits: Waits) -> None:
        self._pieces = pieces
        self._alteration = alteration
        self._waits = waits
        self._altered = self._alter()
        self._over = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._over:
            async for _ in self._pieces:
                pass
            raise StopAsyncIteration
        try:
            return await self._altered.__anext__()
        except BaseException:
            self._over = True
            raise

    async def _alter(self) -> AsyncIterator[bytes]:
        async for chunk in self._pieces:
            for step in self._alteration.feed(chunk):
                if data := await self._step(step):
                    yield data
            if self._alteration.over:
                return
        for step in self._alteration.finish():
            if data := await self._step(step):
                yield data

    async def _step(self, step: float | bytes) -> bytes:
        if isinstance(step, bytes):
            return step
        await self._waits.sleep_async(step)
        return b""


@final
class AlteredAsyncBody(httpx.AsyncByteStream):
    """A true body, altered."""

    def __init__(self, stream: httpx.AsyncByteStream, alteration: AlteredBody, waits: Waits) -> None:
        self._stream = stream
        self._alteration = alteration
        self._waits = waits

    @override
    def __aiter__(self) -> AsyncIterator[bytes]:
        return _AlteredPieces(self._stream.__aiter__(), self._alteration, self._waits)

    @override
    async def aclose(self) -> None:
        await self._stream.aclose()
