"""Faults on the way to providers reached over HTTP: an ``httpx`` transport, without a proxy and without a socket of its
own.

What a mishap replaces is written by the same code that writes :class:`~resilient_llm.testing.LoopbackLLM`'s answers,
and parsed as HTTP, so that everything above meets the bytes, headers and errors of a real vendor's bad day.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias, cast, final

import h11
import httpx
from typing_extensions import override

from resilient_llm.drive.engines import AsyncEngine, AsyncSource, Engine, Limit, Outgoing, Source
from resilient_llm.drive.engines.given import AsyncGiven, Given
from resilient_llm.errors import ConfigurationError, Fault, InvalidAnswer
from resilient_llm.testing._answers import Ask
from resilient_llm.testing._performance import latency_of, waited, words_of
from resilient_llm.testing._plans import Ending, plan, writer
from resilient_llm.testing._request import NOT_CHAT, ReceivedRequest, ask_of
from resilient_llm.testing.faults import Faults, FaultsLike, Latency, Mishap, Schedule, SlowTokens, as_faults
from resilient_llm.testing.script import Behaviour, Cut, InBandError, Malformed, Stall, StreamFault
from resilient_llm.wire import codec
from resilient_llm.wire.protocol import StreamDecoder

__all__ = ["FaultyTransport"]

Select: TypeAlias = Callable[[httpx.Request], Faults | None]
_ALTERING = (Cut, Stall, Malformed, InBandError, SlowTokens)
_LOOK = 0.1  # seconds between two looks at whether the fault was withdrawn


@dataclass(frozen=True, slots=True)
class _Head:
    status: int
    headers: list[tuple[bytes, bytes]]


@final
class FaultyTransport(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """A transport for ``httpx.Client`` and ``httpx.AsyncClient`` that does to requests what a schedule says.

    ``faults``: a :class:`~resilient_llm.testing.Faults` (or its lines, or one mishap) for all requests, or a mapping of
    URL prefixes to them; the longest prefix that fits counts, other requests pass untouched.  ``inner`` is the
    transport for what passes (``None``: httpx's own)::

        http = httpx.Client(transport=FaultyTransport({"https://api.openai.com": Status(503)}))
        client = ResilientClient(providers, http_client=http)
    """

    def __init__(
        self,
        faults: Faults | Mishap | Schedule | Mapping[str, FaultsLike] | Select,
        inner: httpx.BaseTransport | httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._select = _selector(faults)
        self._inner = inner

    @override
    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send, or do what the schedule says."""
        faults = self._select(request)
        mishap = None if faults is None else faults.next()
        if faults is None or mishap is None:
            return self._sync().handle_request(request)
        waits = _Waits(request, faults.withdrawn)
        if isinstance(mishap, Latency):
            waits.sleep(latency_of(mishap))
            return self._sync().handle_request(request)
        ask = _ask(request, request.read())
        if not isinstance(mishap, _ALTERING):
            played = _played(mishap, ask)
            head = waits.until_head(played)
            return _response(head, _Body(played, waits), waits)
        request.headers["accept-encoding"] = "identity"  # frames are counted on the way
        response = self._sync().handle_request(request)
        if not _alterable(response.status_code, ask):
            return response
        assert isinstance(response.stream, httpx.SyncByteStream)
        return _changed(response, _Body(_altered(iter(response.stream), mishap, ask), waits, response), waits)

    @override
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send, or do what the schedule says."""
        faults = self._select(request)
        mishap = None if faults is None else faults.next()
        if faults is None or mishap is None:
            return await self._async().handle_async_request(request)
        waits = _Waits(request, faults.withdrawn)
        if isinstance(mishap, Latency):
            await waits.sleep_async(latency_of(mishap))
            return await self._async().handle_async_request(request)
        ask = _ask(request, await request.aread())
        if not isinstance(mishap, _ALTERING):
            played = _played(mishap, ask)
            return _response(await waits.until_head_async(played), _AsyncBody(played, waits), None)
        request.headers["accept-encoding"] = "identity"
        response = await self._async().handle_async_request(request)
        if not _alterable(response.status_code, ask):
            return response
        assert isinstance(response.stream, httpx.AsyncByteStream)
        return _changed(response, _AlteredAsync(response.stream, _Alteration(mishap, ask), waits), None)

    def _sync(self) -> httpx.BaseTransport:
        if self._inner is None:
            self._inner = httpx.HTTPTransport()
        assert isinstance(self._inner, httpx.BaseTransport)
        return self._inner

    def _async(self) -> httpx.AsyncBaseTransport:
        if self._inner is None:
            self._inner = httpx.AsyncHTTPTransport()
        assert isinstance(self._inner, httpx.AsyncBaseTransport)
        return self._inner

    @override
    def close(self) -> None:
        """Close the transport inside."""
        if isinstance(self._inner, httpx.BaseTransport):
            self._inner.close()

    @override
    async def aclose(self) -> None:
        """Close the transport inside."""
        if isinstance(self._inner, httpx.AsyncBaseTransport):
            await self._inner.aclose()


# --- around a client's own engine --------------------------------------------------------------------------


@final
class FaultyEngine:
    """An engine for the sync client that does to its providers what schedules say; the rest goes to ``inner``."""

    bounded = True

    def __init__(self, faults: Mapping[str, Faults], inner: Engine) -> None:
        self._faults = faults
        self._inner = inner

    def send(self, outgoing: Outgoing, limit: Limit) -> Source:
        """Send, or do what the schedule says."""
        faults = self._faults.get(outgoing.provider)
        if faults is None:
            return self._inner.send(outgoing, limit)
        beneath = _Beneath(self._inner, outgoing, limit)
        return Given(FaultyTransport(lambda request: faults, beneath)).send(outgoing, limit)

    def close(self) -> None:
        """Close the engine inside."""
        self._inner.close()


@final
class AsyncFaultyEngine:
    """The same for the async client."""

    def __init__(self, faults: Mapping[str, Faults], inner: AsyncEngine) -> None:
        self._faults = faults
        self._inner = inner

    async def send(self, outgoing: Outgoing, limit: Limit) -> AsyncSource:
        """Send, or do what the schedule says."""
        faults = self._faults.get(outgoing.provider)
        if faults is None:
            return await self._inner.send(outgoing, limit)
        beneath = _AsyncBeneath(self._inner, outgoing, limit)
        return await AsyncGiven(FaultyTransport(lambda request: faults, beneath)).send(outgoing, limit)

    async def aclose(self) -> None:
        """Close the engine inside."""
        await self._inner.aclose()


def _as_altered(outgoing: Outgoing, request: httpx.Request) -> Outgoing:
    """With the ``accept-encoding`` that the fault wants."""
    wanted = request.headers["accept-encoding"]
    kept = tuple((name, value) for name, value in outgoing.headers if name != "accept-encoding")
    return replace(outgoing, headers=(*kept, ("accept-encoding", wanted)))


@final
class _Beneath(httpx.BaseTransport):
    """An engine as a transport."""

    def __init__(self, engine: Engine, outgoing: Outgoing, limit: Limit) -> None:
        self._engine = engine
        self._outgoing = outgoing
        self._limit = limit

    @override
    def handle_request(self, request: httpx.Request) -> httpx.Response:
        source = self._engine.send(_as_altered(self._outgoing, request), self._limit)
        return httpx.Response(source.status or 200, headers=dict(source.headers), stream=_Pieces(source))


@final
class _Pieces(httpx.SyncByteStream):
    def __init__(self, source: Source) -> None:
        self._source = source

    @override
    def __iter__(self) -> Iterator[bytes]:
        while (piece := self._source.read()) is not None:
            yield cast(bytes, piece)

    @override
    def close(self) -> None:
        self._source.close()


@final
class _AsyncBeneath(httpx.AsyncBaseTransport):
    """An engine as a transport."""

    def __init__(self, engine: AsyncEngine, outgoing: Outgoing, limit: Limit) -> None:
        self._engine = engine
        self._outgoing = outgoing
        self._limit = limit

    @override
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        source = await self._engine.send(_as_altered(self._outgoing, request), self._limit)
        return httpx.Response(source.status or 200, headers=dict(source.headers), stream=_AsyncPieces(source))


@final
class _AsyncPieces(httpx.AsyncByteStream):
    def __init__(self, source: AsyncSource) -> None:
        self._source = source

    @override
    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        piece = await self._source.read()
        if piece is None:
            raise StopAsyncIteration
        return cast(bytes, piece)

    @override
    async def aclose(self) -> None:
        await self._source.aclose()


def _selector(faults: object) -> Select:
    if isinstance(faults, Mapping):
        prefixes = {str(prefix): as_faults(value) for prefix, value in faults.items()}  # pyright: ignore
        for prefix in prefixes:
            if "://" not in prefix:
                raise ConfigurationError(
                    f"faults are given per URL prefix such as https://api.example.com, not {prefix!r}"
                )

        def by_prefix(request: httpx.Request) -> Faults | None:
            url = str(request.url)
            fitting = [prefix for prefix in prefixes if url.startswith(prefix)]
            return prefixes[max(fitting, key=len)] if fitting else None

        return by_prefix
    if callable(faults):
        return cast(Select, faults)
    everybody = as_faults(faults)  # type: ignore[arg-type]
    return lambda request: everybody


def _ask(request: httpx.Request, body: bytes) -> Ask:
    path = request.url.raw_path.decode("ascii", "replace")
    return ask_of(ReceivedRequest(request.method, path, b"", body, 0))


def _alterable(status: int, ask: Ask) -> bool:
    return 200 <= status < 300 and ask.wire not in NOT_CHAT


def _response(
    head: _Head, stream: httpx.SyncByteStream | httpx.AsyncByteStream, waits: _Waits | None
) -> httpx.Response:
    extensions = {} if waits is None else waits.extensions()
    return httpx.Response(head.status, headers=head.headers, stream=stream, extensions=extensions)


def _changed(
    response: httpx.Response, stream: httpx.SyncByteStream | httpx.AsyncByteStream, waits: _Waits | None
) -> httpx.Response:
    """The same head around another body."""
    headers = [(name, value) for name, value in response.headers.raw if name.lower() != b"content-length"]
    return _response(_Head(response.status_code, headers), stream, waits)


# --- a behaviour as HTTP -----------------------------------------------------------------------------------


def _played(behaviour: Behaviour, ask: Ask) -> Iterator[float | _Head | bytes]:
    """Waits, the head, and the body.  Raises what httpx would."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="POST", target="/", headers=[("host", "loopback")]))
    connection.send(h11.EndOfMessage())
    for step in plan(behaviour, ask, {}):
        if isinstance(step, Ending):
            yield from _ended(connection, step)
            return
        if isinstance(step, bytes):
            connection.receive_data(step)
            yield from _received(connection)
            if connection.their_state is h11.DONE:
                return
        else:
            yield float(step)
    yield math.inf  # the server would wait for the next request, and the client for the rest of this answer


def _ended(connection: h11.Connection, ending: Ending) -> Iterator[float | _Head | bytes]:
    if ending is Ending.HANG:
        yield math.inf
    if ending is Ending.RESET:
        raise httpx.ReadError("[Errno 104] Connection reset by peer")
    if connection.their_state is h11.SEND_RESPONSE:
        raise httpx.RemoteProtocolError("the server disconnected without sending a response")
    connection.receive_data(b"")
    yield from _received(connection)
    if connection.their_state is not h11.DONE:
        raise httpx.RemoteProtocolError("the server disconnected without sending a complete answer")


def _received(connection: h11.Connection) -> Iterator[_Head | bytes]:
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError as error:
            raise httpx.RemoteProtocolError(str(error)) from error
        if isinstance(event, h11.Response):
            yield _Head(event.status_code, list(event.headers.raw_items()))
        elif isinstance(event, h11.Data):
            yield bytes(event.data)
        else:
            return


# --- a true answer, altered --------------------------------------------------------------------------------


@final
class _Alteration:
    """Cuts the bytes of an answer into tokens and lets the mishap strike between them."""

    def __init__(self, mishap: StreamFault | SlowTokens, ask: Ask) -> None:
        self._mishap = mishap
        self._ask = ask
        self._decoder: StreamDecoder | None = codec(ask.wire).stream_decoder() if ask.stream else None
        self._whole = bytearray()
        self._tokens = 0
        self._done = False
        self.over = False
        """Nothing of the true answer is wanted any more."""

    def feed(self, data: bytes) -> Iterator[float | bytes]:
        """What becomes of these bytes."""
        if self._decoder is None:
            self._whole += data
            return
        start = 0
        for end in range(1, len(data) + 1):
            if self.over:
                return
            tokens = sum(hasattr(event, "block") for event in self._decoder.feed(data[end - 1 : end]))
            if tokens:
                yield from self._token(data[start:end])
                start = end
        if not self.over and start < len(data):
            yield data[start:]

    def finish(self) -> Iterator[float | bytes]:
        """The true answer is over."""
        if self._decoder is None:
            yield from self._as_whole(bytes(self._whole))

    def _token(self, data: bytes) -> Iterator[float | bytes]:
        mishap = self._mishap
        if isinstance(mishap, SlowTokens):
            yield mishap.interval
        elif not self._done and self._tokens >= mishap.after:
            self._done = True
            yield from self._strike(mishap)
        self._tokens += 1
        if not self.over:
            yield data

    def _strike(self, fault: StreamFault) -> Iterator[float | bytes]:
        wire = writer(self._ask.wire)
        if isinstance(fault, Malformed):
            yield wire.malformed if fault.data is None else fault.data
            return
        self.over = True
        if isinstance(fault, Stall):
            yield math.inf
        elif isinstance(fault, Cut):
            _cut(fault)
        else:
            yield wire.stream_error(Fault(fault.kind, message=fault.message))
            yield wire.terminator if fault.terminator else b""

    def _as_whole(self, body: bytes) -> Iterator[float | bytes]:
        mishap = self._mishap
        if isinstance(mishap, SlowTokens):
            yield mishap.interval * _words(body, self._ask.wire)
            yield body
        elif isinstance(mishap, InBandError):
            yield writer(self._ask.wire).error(Fault(mishap.kind, message=mishap.message))
        else:
            yield body[: len(body) // 2] if mishap.after or isinstance(mishap, Malformed) else b""
            if isinstance(mishap, Stall):
                yield math.inf
            elif isinstance(mishap, Cut):
                _cut(mishap)


def _cut(fault: Cut) -> None:
    if fault.how == "reset":
        raise httpx.ReadError("[Errno 104] Connection reset by peer")
    if fault.how == "close":
        raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")


def _words(body: bytes, wire: str) -> int:
    try:
        return words_of(codec(wire).decode_response(body))
    except InvalidAnswer:
        return 1


def _altered(chunks: Iterator[bytes], mishap: StreamFault | SlowTokens, ask: Ask) -> Iterator[float | bytes]:
    alteration = _Alteration(mishap, ask)
    for chunk in chunks:
        yield from alteration.feed(chunk)
        if alteration.over:
            return
    yield from alteration.finish()


# --- waiting -----------------------------------------------------------------------------------------------


@final
class _Waits:
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
        await waited(min(seconds, limit), self._withdrawn)
        if not self._released(seconds) and seconds > limit:
            raise httpx.ReadTimeout("the read operation timed out")

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """The pending wait, as the connection's read."""
        limit = math.inf if timeout is None else timeout
        nap = min(self._pending, limit)
        until = time.monotonic() + nap
        while (left := until - time.monotonic()) > 0 and not self._withdrawn.is_set():
            if self._gone.wait(min(left, _LOOK)):
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

    def until_head(self, played: Iterator[float | _Head | bytes]) -> _Head:
        """Wait for the head."""
        for step in played:
            if isinstance(step, _Head):
                return step
            self.sleep(cast(float, step))
        raise httpx.RemoteProtocolError("the server disconnected without sending a response")

    async def until_head_async(self, played: Iterator[float | _Head | bytes]) -> _Head:
        """The same for async code."""
        for step in played:
            if isinstance(step, _Head):
                return step
            await self.sleep_async(cast(float, step))
        raise httpx.RemoteProtocolError("the server disconnected without sending a response")


@final
class _Body(httpx.SyncByteStream):
    def __init__(
        self, steps: Iterator[float | bytes | _Head], waits: _Waits, beneath: httpx.Response | None = None
    ) -> None:
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
class _AsyncBody(httpx.AsyncByteStream):
    def __init__(self, steps: Iterator[float | bytes | _Head], waits: _Waits) -> None:
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

    def __init__(self, pieces: AsyncIterator[bytes], alteration: _Alteration, waits: _Waits) -> None:
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
class _AlteredAsync(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.AsyncByteStream, alteration: _Alteration, waits: _Waits) -> None:
        self._stream = stream
        self._alteration = alteration
        self._waits = waits

    @override
    def __aiter__(self) -> AsyncIterator[bytes]:
        return _AlteredPieces(self._stream.__aiter__(), self._alteration, self._waits)

    @override
    async def aclose(self) -> None:
        await self._stream.aclose()
