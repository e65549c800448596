"""Bodies of ``httpx`` responses that wait as a mishap wants, bounded by the request's read timeout."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
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

    def __init__(self, waits: Waits, steps: Iterator[Step], beneath: httpx.Response | None = None) -> None:
        self._waits = waits
        self._steps = steps
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
    """The same for async code; further steps are what ``change`` makes of the bytes ``beneath``."""

    def __init__(
        self,
        waits: Waits,
        steps: Iterable[Step] = (),
        beneath: httpx.AsyncByteStream | None = None,
        change: AlteredBody | None = None,
    ) -> None:
        self._waits = waits
        self._steps = iter(steps)
        self._beneath = beneath
        self._change = change
        self._pieces: AsyncIterator[bytes] | None = None
        self._over = False

    @override
    def __aiter__(self) -> AsyncIterator[bytes]:
        self._pieces = None if self._beneath is None else self._beneath.__aiter__()
        return self

    async def __anext__(self) -> bytes:
        if self._over:
            # The client asks once more to end the HTTP library's generators, about which trio complains where they are
            # left in the middle.
            while await self._read() is not None:
                pass
            raise StopAsyncIteration
        self._over = True  # unless something comes
        data = await self._next()
        self._over = not data
        if not data:
            raise StopAsyncIteration
        return data

    async def _next(self) -> bytes:
        change = self._change
        while True:
            for step in self._steps:
                if isinstance(step, bytes):
                    if step:
                        return step
                else:
                    await self._waits.sleep_async(cast(float, step))
            if change is None or change.over:
                return b""
            chunk = await self._read()
            if chunk is None:
                self._change, self._steps = None, change.finish()
                change = None
            else:
                self._steps = change.feed(chunk)

    async def _read(self) -> bytes | None:
        return None if self._pieces is None else await anext(self._pieces, None)

    @override
    async def aclose(self) -> None:
        if self._beneath is not None:
            await self._beneath.aclose()
