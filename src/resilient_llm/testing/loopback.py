"""A real HTTP server on this machine that answers like an LLM provider, or misbehaves like one.

::

    with LoopbackLLM() as server:
        server.script(Status(429, retry_after=2), Reply("hello"))
        httpx.post(server.url + "/v1/chat/completions", json={"messages": []}).status_code  # 429

It runs an event loop in a daemon thread, takes any number of connections at once and keeps them alive.  Time is real,
but every wait ends at once when the server is closed.

The wire format follows from the path, so ``server.url`` serves every provider: ``/chat/completions`` (OpenAI),
``/embeddings`` and ``/models``; any prefix such as ``/v1`` may precede them.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from types import TracebackType
from typing import Self, TypeAlias, TypeVar, cast, final

from resilient_llm.model import JsonObject
from resilient_llm.testing._answers import Ask, as_json, embeddings, models
from resilient_llm.testing._limits import Limiter
from resilient_llm.testing._plans import Ending, Plan, plan, whole
from resilient_llm.testing.script import Behaviour, RateLimit, Reply, Status

__all__ = ["LoopbackLLM", "ReceivedRequest", "Responder"]

T = TypeVar("T")

_MAX_HEAD = 1 << 16
_BACKLOG = 1024
_CACHED_PLANS = 64
_RST = struct.pack("ii", 1, 0)
"""SO_LINGER on, zero seconds: closing sends a reset."""

_MODEL = re.compile(rb'"model"\s*:\s*"([^"\\]*)"')
_STREAM = re.compile(rb'"stream"\s*:\s*true')

_WIRES: tuple[tuple[str, str], ...] = (
    ("/chat/completions", "openai_chat"),
    ("/embeddings", "embeddings"),
    ("/models", "models"),
)
"""Path endings and what is spoken there; the first that fits."""


@final
class ReceivedRequest:
    """One request the server received.  Times are ``time.monotonic()``."""

    __slots__ = (
        "_head",
        "answered_at",
        "body",
        "bytes_sent",
        "connection",
        "hung_up_at",
        "method",
        "path",
        "received_at",
        "wire",
    )

    def __init__(self, method: str, path: str, head: bytes, body: bytes, connection: int) -> None:
        self.method = method
        self.path = path
        """With the query string."""
        self.body = body
        self.connection = connection
        """The number of the connection it came on, from 1: equal numbers mean a reused connection."""
        self.wire = _wire_of(path)
        """The wire format the path stands for: ``"openai_chat"``, ``"embeddings"``, ``"models"``; ``""`` if none."""
        self.received_at = time.monotonic()
        self.answered_at: float | None = None
        """When the server had written all it wanted to; ``None`` while it has not."""
        self.hung_up_at: float | None = None
        """When the client closed the connection before that; ``None`` if it did not."""
        self.bytes_sent = 0
        """Of the answer, head included, as handed to the socket."""
        self._head = head

    @property
    def headers(self) -> dict[str, str]:
        """By lower-cased name; repeated headers are joined with a comma."""
        headers: dict[str, str] = {}
        for line in self._head.decode("latin-1").split("\r\n"):
            name, _, value = line.partition(":")
            name = name.lower()
            headers[name] = f"{headers[name]}, {value.strip()}" if name in headers else value.strip()
        return headers

    @property
    def json(self) -> JsonObject:
        """The body as a JSON object.  Raises ``ValueError`` if it is none."""
        value: object = json.loads(self.body)
        if not isinstance(value, dict):
            raise ValueError(f"the body is not a JSON object: {self.body[:80]!r}")
        return cast(JsonObject, value)

    @property
    def stream(self) -> bool:
        """Whether it asks for a streamed answer."""
        return bool(_STREAM.search(self.body)) and _object(self.body).get("stream") is True

    def __repr__(self) -> str:
        # Neither headers nor body: a failing test must not print a key.
        return f"<ReceivedRequest {self.method} {self.path} ({len(self.body)} bytes)>"


Responder: TypeAlias = Callable[[ReceivedRequest], Behaviour]
"""Decides per request.  It runs in the server's thread and must not block."""


@final
class LoopbackLLM:
    """The server.  Use it as a context manager, plain or async, or call :meth:`start` and :meth:`close`.

    ``behaviours`` are the script; ``default`` is what happens to requests beyond it.  ``limit`` is enforced before the
    script is consulted.  ``record=False`` keeps no requests, for benchmarks; they are still counted.
    """

    def __init__(
        self,
        *behaviours: Behaviour,
        default: Behaviour | Responder | None = None,
        limit: RateLimit | None = None,
        record: bool = True,
    ) -> None:
        self._script: deque[Behaviour | Responder] = deque(behaviours)
        self._default: Behaviour | Responder = Reply() if default is None else default
        self._limit = limit
        self._limiter = Limiter(limit) if limit else None
        self._record = record
        self._requests: list[ReceivedRequest] = []
        self._request_count = 0
        self._connection_count = 0
        self._connections: set[_Connection] = set()
        self._plans: dict[tuple[int, Ask], tuple[Behaviour, Plan]] = {}
        self._errors: list[Exception] = []
        self._changed = threading.Condition()
        self._waiters = 0
        self._host: _Host | None = None
        self._listening = False
        self._port = 0

    # -- life --

    def start(self) -> Self:
        """Listen on a free port of 127.0.0.1.  A closed server may be started again, on another port."""
        if self._host is not None:
            raise RuntimeError("the server is running already")
        host = _Host(self)
        self._port = host.port
        self._host = host
        host.start()
        return self

    def close(self) -> None:
        """Drop every connection and end the thread, whatever is going on.  Idempotent."""
        host, self._host = self._host, None
        if host is not None:
            host.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if self._errors and kind is None:
            raise self._errors[0]

    async def __aenter__(self) -> Self:
        return self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    @property
    def port(self) -> int:
        """The TCP port; 0 before the server was started."""
        return self._port

    @property
    def url(self) -> str:
        """``http://127.0.0.1:<port>``, without a path."""
        if not self._port:
            raise RuntimeError("the server has no address before it is started")
        return f"http://127.0.0.1:{self._port}"

    # -- what it does --

    def script(self, *behaviours: Behaviour | Responder) -> None:
        """Append to what the next requests get, one each and in this order."""
        self._script.extend(behaviours)

    @property
    def default(self) -> Behaviour | Responder:
        """What happens to requests beyond the script: a behaviour or a function of the request."""
        return self._default

    @default.setter
    def default(self, behaviour: Behaviour | Responder) -> None:
        self._default = behaviour

    @property
    def limit(self) -> RateLimit | None:
        """The rate limit it enforces; setting it starts new counts."""
        return self._limit

    @limit.setter
    def limit(self, limit: RateLimit | None) -> None:
        self._limit = limit
        self._limiter = Limiter(limit) if limit else None

    @property
    def script_left(self) -> int:
        """How many scripted behaviours no request has consumed yet."""
        return len(self._script)

    def refuse(self, *, drop: bool = False) -> None:
        """Stop listening: connecting is refused until :meth:`accept`.

        Idle connections are closed.  Answers under way are finished, or reset too with ``drop``.
        """
        self._running().call(lambda host: host.refuse(drop=drop))

    def accept(self) -> None:
        """Listen again, on the same port."""
        self._running().call(lambda host: host.listen())

    def pause(self) -> None:
        """The whole server freezes, as if its process were stopped: the kernel still completes connections and takes
        bytes, but nothing is read and nothing written until :meth:`resume`."""
        self._running().pause()

    def resume(self) -> None:
        """Go on after :meth:`pause`."""
        self._running().resume()

    def drop_connections(self) -> None:
        """Reset every open connection, idle or not."""
        self._running().call(lambda host: host.drop(idle_only=False))

    # -- what it saw --

    @property
    def requests(self) -> list[ReceivedRequest]:
        """Everything received so far, oldest first (a copy)."""
        return list(self._requests)

    @property
    def request_count(self) -> int:
        """How many requests came, recorded or not."""
        return self._request_count

    @property
    def open_connections(self) -> int:
        """How many connections are open now."""
        return len(self._connections)

    @property
    def connection_count(self) -> int:
        """How many connections were ever accepted."""
        return self._connection_count

    @property
    def errors(self) -> list[Exception]:
        """What responder functions raised; such requests got a 500, and leaving the context raises the first."""
        return list(self._errors)

    def clear(self) -> None:
        """Forget the recorded requests and what is left of the script."""
        self._script.clear()
        self._requests.clear()

    def wait_for(self, predicate: Callable[[LoopbackLLM], object], timeout: float = 5.0) -> None:
        """Block until ``predicate(server)`` is true.  Raises ``TimeoutError`` after ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        with self._changed:
            self._waiters += 1
            try:
                while not predicate(self):
                    left = deadline - time.monotonic()
                    if left <= 0:
                        raise TimeoutError(f"not within {timeout} s; {self!r}")
                    # Not longer, as the predicate may look at things that are not the server's.
                    self._changed.wait(min(left, 0.02))
            finally:
                self._waiters -= 1

    async def wait_for_async(self, predicate: Callable[[LoopbackLLM], object], timeout: float = 5.0) -> None:  # noqa: ASYNC109
        """The same without blocking the event loop, on asyncio and trio."""
        import anyio.to_thread  # noqa: PLC0415  # only here, so that the server itself needs nothing

        await anyio.to_thread.run_sync(self.wait_for, predicate, timeout, abandon_on_cancel=True)

    def __repr__(self) -> str:
        return (
            f"<LoopbackLLM port={self._port} requests={self._request_count} "
            f"open_connections={len(self._connections)} script_left={len(self._script)}>"
        )

    # -- for its connections --

    def _running(self) -> _Host:
        if self._host is None:
            raise RuntimeError("the server is not running")
        return self._host

    def _notify(self) -> None:
        if self._waiters:
            with self._changed:
                self._changed.notify_all()

    def _opened(self, connection: _Connection) -> int:
        self._connections.add(connection)
        self._connection_count += 1
        self._notify()
        return self._connection_count

    def _lost(self, connection: _Connection) -> None:
        self._connections.discard(connection)
        self._notify()

    def _received(self, request: ReceivedRequest) -> Plan:
        self._request_count += 1
        if self._record:
            self._requests.append(request)
        if self._limiter is None or request.wire == "models":
            return self._plan(self._next(request), request)
        admission = self._limiter.admit(_key_of(request), _cost_of(request))
        headers = {**_REQUEST_ID, **admission.headers}
        if not admission.admitted:
            refused = Status(429, message="Rate limit reached", code="rate_limit_exceeded")
            return plan(refused, _ask(request), headers)
        return _fresh_plan(self._next(request), request, headers)

    def _next(self, request: ReceivedRequest) -> Behaviour:
        try:
            chosen = self._script.popleft()
        except IndexError:
            chosen = self._default
        if not callable(chosen):
            return chosen
        try:
            return chosen(request)
        except Exception as error:
            self._errors.append(error)
            return Status(500, message=f"the responder raised {error!r}")

    def _plan(self, behaviour: Behaviour, request: ReceivedRequest) -> Plan:
        ask = _ask(request)
        cached = self._plans.get((id(behaviour), ask))
        if cached is not None:
            return cached[1]
        made = _fresh_plan(behaviour, request, _REQUEST_ID)
        if isinstance(made, tuple) and ask.wire not in _NOT_CHAT:
            if len(self._plans) >= _CACHED_PLANS:
                self._plans.clear()
            self._plans[id(behaviour), ask] = behaviour, made  # holds the behaviour, so that its id stays its own
        return made


_REQUEST_ID: Mapping[str, str] = {"x-request-id": "req_loopback"}
_NOT_CHAT = frozenset({"", "embeddings", "models"})


def _fresh_plan(behaviour: Behaviour, request: ReceivedRequest, headers: Mapping[str, str]) -> Plan:
    if isinstance(behaviour, Reply) and request.wire in _NOT_CHAT:
        return _other(behaviour, request, headers)
    return plan(behaviour, _ask(request), headers)


# --- the thread --------------------------------------------------------------------------------------------


@final
class _Host:
    """The thread, its event loop and the listening socket of one running server."""

    def __init__(self, server: LoopbackLLM) -> None:
        self._server = server
        self._tasks: set[asyncio.Task[None]] = set()
        self._ready = threading.Event()
        self._resume: threading.Event | None = None
        self._thread = threading.Thread(target=self._run, name="loopback-llm", daemon=True)
        self._unused: socket.socket | None = _bound(0)
        self.port: int = self._unused.getsockname()[1]
        # Bound but never listening: keeps the port ours while connections are refused.
        self._reservation = _bound(self.port) if os.name == "posix" else None
        self._listener: asyncio.Server | None = None

    def start(self) -> None:
        self._thread.start()
        self._ready.wait()

    def close(self) -> None:
        self.resume()
        self._loop.call_soon_threadsafe(self._stop.set)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def call(self, work: Callable[[_Host], Coroutine[object, object, None]]) -> None:
        """Run ``work`` in the thread and wait for it, unless this is the thread."""
        if self._resume is not None:
            raise RuntimeError("the server is paused: resume() it first")
        if threading.current_thread() is self._thread:
            task = self._loop.create_task(work(self))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            asyncio.run_coroutine_threadsafe(work(self), self._loop).result()

    def pause(self) -> None:
        if self._resume is not None:
            return
        self._resume = threading.Event()
        frozen = threading.Event()
        self._loop.call_soon_threadsafe(_freeze, frozen, self._resume)
        if threading.current_thread() is not self._thread:
            frozen.wait()

    def resume(self) -> None:
        resume, self._resume = self._resume, None
        if resume is not None:
            resume.set()

    async def listen(self) -> None:
        if self._listener is not None:
            return
        sock, self._unused = self._unused or _bound(self.port), None
        server, loop = self._server, self._loop
        self._listener = await loop.create_server(lambda: _Connection(server, loop), sock=sock, backlog=_BACKLOG)
        server._listening = True

    async def refuse(self, *, drop: bool) -> None:
        self._server._listening = False
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        await self.drop(idle_only=not drop)

    async def drop(self, *, idle_only: bool) -> None:
        for connection in list(self._server._connections):
            if connection.idle:
                connection.transport.close()
            elif not idle_only:
                connection.reset()
        while any(not idle_only or connection.idle for connection in self._server._connections):
            await asyncio.sleep(0)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        try:
            await self.listen()
            self._ready.set()
            await self._stop.wait()
            await self.refuse(drop=True)
        finally:
            self._ready.set()
            if self._reservation is not None:
                self._reservation.close()


def _freeze(frozen: threading.Event, resume: threading.Event) -> None:
    frozen.set()
    resume.wait()


def _bound(port: int) -> socket.socket:
    sock = socket.socket()
    if os.name == "posix":  # elsewhere the option lets strangers take the port
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", port))
    return sock


# --- reading requests --------------------------------------------------------------------------------------


def _wire_of(path: str) -> str:
    bare = path.partition("?")[0]
    for suffix, wire in _WIRES:
        if bare.endswith(suffix):
            return wire
    return ""


def _object(body: bytes) -> dict[str, object]:
    try:
        value: object = json.loads(body)
    except ValueError:
        return {}
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def _ask(request: ReceivedRequest) -> Ask:
    # Whole answers need no JSON parser: a benchmark measures the client, not the server.
    found = _MODEL.search(request.body)
    model = found.group(1).decode("utf-8", "replace") if found else "loopback-1"
    if not _STREAM.search(request.body):
        return Ask(request.wire, False, model)
    body = _object(request.body)
    options = body.get("stream_options")
    include = isinstance(options, dict) and cast("dict[str, object]", options).get("include_usage") is True
    return Ask(request.wire, body.get("stream") is True, model, include)


def _other(reply: Reply, request: ReceivedRequest, headers: Mapping[str, str]) -> Plan:
    json_type: dict[str, str | None] = {"content-type": "application/json", **headers}
    if request.wire == "models":
        return whole(reply, 200, models(), json_type)
    if request.wire == "embeddings":
        return whole(reply, 200, embeddings(_object(request.body), _ask(request).model), json_type)
    error = {"error": {"message": f"nothing at {request.path}", "type": "not_found_error", "param": None, "code": None}}
    return whole(reply, 404, as_json(error), json_type)


def _key_of(request: ReceivedRequest) -> str:
    headers = request.headers
    return headers.get("authorization") or headers.get("x-api-key") or headers.get("x-goog-api-key") or ""


def _cost_of(request: ReceivedRequest) -> int:
    body = _object(request.body)
    allowed = (body.get(name) for name in ("max_tokens", "max_completion_tokens", "max_output_tokens"))
    return len(request.body) // 4 + next((value for value in allowed if isinstance(value, int) and value > 0), 0)


def _unchunk(data: bytes) -> tuple[bytes, int] | None:
    """A chunked body and the number of bytes it took; ``None`` if it is not complete yet."""
    body: list[bytes] = []
    at = 0
    while (line_end := data.find(b"\r\n", at)) >= 0:
        size = int(data[at:line_end].partition(b";")[0], 16)
        start = line_end + 2
        if size == 0:
            end = data.find(b"\r\n", start)  # trailers are not supported
            return (b"".join(body), end + 2) if end >= 0 else None
        if len(data) < start + size + 2:
            return None
        body.append(data[start : start + size])
        at = start + size + 2
    return None


# --- one connection ----------------------------------------------------------------------------------------


class _Connection(asyncio.Protocol):
    """Parses requests, plays plans.  Everything runs in the server's thread."""

    __slots__ = (
        "_have",
        "_loop",
        "_need",
        "_number",
        "_pieces",
        "_request",
        "_server",
        "_task",
        "_writable",
        "transport",
    )

    transport: asyncio.Transport

    def __init__(self, server: LoopbackLLM, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._loop = loop
        self._pieces: list[bytes] = []
        self._have = 0
        self._need = 1
        self._task: asyncio.Task[None] | None = None
        self._request: ReceivedRequest | None = None  # the one being answered
        self._writable: asyncio.Future[None] | None = None  # None: it is

    @property
    def idle(self) -> bool:
        return self._request is None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        # A write counts as done when the kernel has it: what is cut or reset afterwards was really sent before.
        self.transport.set_write_buffer_limits(high=0)
        self._number = self._server._opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        request, self._request = self._request, None
        if request is not None and request.answered_at is None:
            request.hung_up_at = time.monotonic()
        if self._task is not None:
            self._task.cancel()
        self.resume_writing()
        self._server._lost(self)

    def pause_writing(self) -> None:
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        waiting, self._writable = self._writable, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def data_received(self, data: bytes) -> None:
        self._pieces.append(data)
        self._have += len(data)
        while self._request is None and self._have >= self._need:
            buffer = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
            self._pieces = [buffer]
            if not self._advance(buffer):
                return

    def _advance(self, buffer: bytes) -> bool:
        """Take one request from the buffer and answer it; False if there is none."""
        head_end = buffer.find(b"\r\n\r\n")
        if head_end < 0:
            self._need = self._have + 1
            if self._have > _MAX_HEAD:
                self.transport.close()
            return False
        line, _, head = buffer[:head_end].partition(b"\r\n")
        lower = head.lower()
        try:
            found = self._find_body(buffer, head_end + 4, lower)
            if found is None:
                return False
            method, path, _ = line.decode("latin-1").split(" ")
        except ValueError:
            self.transport.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            self.transport.close()
            return False
        body, end = found
        self._pieces = [buffer[end:]] if end < len(buffer) else []
        self._have = len(buffer) - end
        self._need = 1
        self._answer(ReceivedRequest(method, path, head, body, self._number), b"connection: close" in lower)
        return True

    def _find_body(self, buffer: bytes, start: int, head: bytes) -> tuple[bytes, int] | None:
        """The body and where it ends; ``None`` if there is more to come.  Raises ``ValueError`` on bad framing."""
        at = head.find(b"content-length:")
        if at >= 0:
            end = start + int(head[at + 15 :].partition(b"\r\n")[0])
            found = (buffer[start:end], end) if self._have >= end else None
            self._need = end
        elif b"transfer-encoding: chunked" in head:
            unchunked = _unchunk(buffer[start:])
            found = (unchunked[0], start + unchunked[1]) if unchunked else None
            self._need = self._have + 1
        else:
            return b"", start
        if found is None and b"expect: 100-continue" in head and self._have == start:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return found

    def _answer(self, request: ReceivedRequest, close: bool) -> None:
        self._request = request
        steps = self._server._received(request)
        self._server._notify()
        if isinstance(steps, tuple) and len(steps) == 1 and isinstance(steps[0], bytes):
            self.transport.write(steps[0])
            request.bytes_sent = len(steps[0])
            if self._writable is None:
                self._finish(request, Ending.CLOSE if close else None)
                return
            steps = ()
        self._task = self._loop.create_task(self._play(request, steps, close))

    async def _play(self, request: ReceivedRequest, steps: Plan, close: bool) -> None:
        ending = Ending.CLOSE if close else None
        await self._flushed()
        for step in steps:
            if isinstance(step, bytes):
                self.transport.write(step)
                await self._flushed()
                request.bytes_sent += len(step)
            elif isinstance(step, Ending):
                ending = step
            else:
                await asyncio.sleep(step)
        self._task = None
        if ending is not Ending.HANG:
            self._finish(request, ending)
            self.data_received(b"")  # the next request may have come meanwhile

    async def _flushed(self) -> None:
        if self._writable is not None:
            await self._writable

    def _finish(self, request: ReceivedRequest, ending: Ending | None) -> None:
        request.answered_at = time.monotonic()
        self._request = None
        if ending is Ending.RESET:
            self.reset()
        elif ending is Ending.CLOSE or not self._server._listening:
            self.transport.close()
        self._server._notify()

    def reset(self) -> None:
        self._request = None  # it is we who hang up
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
        self.transport.abort()
