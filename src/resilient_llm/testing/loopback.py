"""A real HTTP server on this machine that answers like an LLM provider, or misbehaves like one.

::

    with LoopbackLLM() as server:
        server.script(Status(429, retry_after=2), Reply("hello"))
        httpx.post(server.url + "/v1/chat/completions", json={"messages": []}).status_code  # 429

It runs an event loop in a daemon thread, takes any number of connections at once and keeps them alive.  Time is real,
but every wait ends at once when the server is closed.

The wire format follows from the end of the path, so ``server.url`` is the base URL of every kind of provider:
``/chat/completions`` and ``/responses`` (OpenAI), ``/v1/messages`` (Anthropic), ``:generateContent`` (Gemini),
``/converse`` (Bedrock), ``/v2/chat`` (Cohere), ``/api/chat`` (Ollama), and ``/embeddings`` and ``/models``.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Final, Self, TypeAlias, final

from typing_extensions import override

from resilient_llm.testing.answers import Ask, as_json, embeddings, models, request_id
from resilient_llm.testing.connection import Connection
from resilient_llm.testing.host import Host
from resilient_llm.testing.limits import Limiter
from resilient_llm.testing.plans import Plan, plan, whole
from resilient_llm.testing.received import NOT_CHAT, ReceivedRequest, ask_of, cost_of, key_of, object_of
from resilient_llm.testing.script import Behaviour, RateLimit, Reply, Status

__all__ = ["LoopbackLLM", "ReceivedRequest", "Responder"]

_CACHED_PLANS = 64

Responder: TypeAlias = Callable[[ReceivedRequest], Behaviour]
"""Decides per request.  It runs in the server's thread and must not block."""


@final
class LoopbackLLM:
    """The server.  Use it as a context manager, plain or async, or call :meth:`start` and :meth:`close`.

    ``behaviours`` are the script: one for each request, text being short for ``Reply(text)``; ``default`` is what
    happens to requests beyond it.  Without a default, a server without a script answers with a short reply, and a
    request that finds the script used up fails the test: it gets a 500, and leaving the context raises
    ``AssertionError``.
    ``limit`` is enforced before the script is consulted.  ``record=False`` keeps no requests, for benchmarks; they are
    still counted.
    """

    def __init__(
        self,
        *behaviours: str | Behaviour | Responder,
        default: str | Behaviour | Responder | None = None,
        limit: RateLimit | None = None,
        record: bool = True,
    ) -> None:
        self._desk = _Desk(None if default is None else _checked(default), record)
        self._host: Host | None = None
        self._port = 0
        self.limit = limit
        self.script(*behaviours)

    # -- life --

    def start(self) -> Self:
        """Listen on a free port of 127.0.0.1.  A closed server may be started again, on another port."""
        if self._host is not None:
            raise RuntimeError("the server is running already")
        self._host = Host(self._desk)
        self._port = self._host.port
        self._host.start()
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
        if not self._desk.errors:
            return
        cause = self._desk.errors[0]
        if error is None:
            raise cause
        # What the block raised is likely the 500 that came of it: say so where it will be read.
        error.add_note(f"A function of the LoopbackLLM's script failed: {type(cause).__name__}: {cause}")

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
        """``http://127.0.0.1:<port>``, without a path.  Raises ``RuntimeError`` before the server was started."""
        if not self._port:
            raise RuntimeError("the server has no address before it is started")
        return f"http://127.0.0.1:{self._port}"

    # -- what it does --

    def script(self, *behaviours: str | Behaviour | Responder) -> None:
        """Append to what the next requests get, one each and in this order; text is short for ``Reply(text)``."""
        self._desk.script.extend(map(_checked, behaviours))
        self._desk.scripted = self._desk.scripted or bool(behaviours)

    @property
    def script_left(self) -> int:
        """How many scripted behaviours no request has consumed yet."""
        return len(self._desk.script)

    @property
    def default(self) -> Behaviour | Responder:
        """What happens to requests beyond the script: a behaviour, text, or a function of the request.

        As long as it is not set, a server without a script answers with a short reply, and one whose script is used up
        fails the test.
        """
        return Reply() if self._desk.default is None else self._desk.default

    @default.setter
    def default(self, behaviour: str | Behaviour | Responder) -> None:
        self._desk.default = _checked(behaviour)

    @property
    def limit(self) -> RateLimit | None:
        """The rate limit it enforces; setting it starts new counts."""
        return self._desk.limiter.limit if self._desk.limiter else None

    @limit.setter
    def limit(self, limit: RateLimit | None) -> None:
        self._desk.limiter = Limiter(limit) if limit else None

    def refuse(self, *, drop: bool = False) -> None:
        """Stop listening: connecting is refused until :meth:`accept`.

        Idle connections are closed.  Answers under way are finished, or reset too with ``drop``.
        """
        self._running().call(lambda host: host.refuse(drop=drop))

    def accept(self) -> None:
        """Listen again, on the same port."""
        self._running().call(lambda host: host.listen())

    def pause(self) -> None:
        """Freeze the whole server, as if its process were stopped: the kernel still completes connections and takes
        bytes, but nothing is read and nothing written until :meth:`resume`."""
        self._running().pause()

    def resume(self) -> None:
        """Go on after :meth:`pause`."""
        self._running().resume()

    def drop_connections(self) -> None:
        """Reset every answer under way and close the idle connections."""
        self._running().call(lambda host: host.drop(idle_only=False))

    # -- what it saw --

    @property
    def requests(self) -> list[ReceivedRequest]:
        """Everything received so far, oldest first (a copy)."""
        return list(self._desk.requests)

    @property
    def request_count(self) -> int:
        """How many requests came, recorded or not."""
        return self._desk.request_count

    @property
    def open_connections(self) -> int:
        """How many connections are open now."""
        return len(self._desk.connections)

    @property
    def connection_count(self) -> int:
        """How many connections were ever accepted."""
        return self._desk.connection_count

    @property
    def errors(self) -> list[Exception]:
        """What responder functions raised; such requests got a 500, and leaving the context raises the first, or adds
        it as a note to what the block raised."""
        return list(self._desk.errors)

    def clear(self) -> None:
        """Forget the recorded requests and the script."""
        self._desk.script.clear()
        self._desk.scripted = False
        self._desk.requests.clear()

    def wait_for(self, predicate: Callable[[LoopbackLLM], object], timeout: float = 5.0) -> None:
        """Block until ``predicate(server)`` is true.  Raises ``TimeoutError`` after ``timeout`` seconds."""
        if not self._desk.wait_until(lambda: bool(predicate(self)), timeout):
            raise TimeoutError(f"not within {timeout} s: {self!r}")

    async def wait_for_async(
        self,
        predicate: Callable[[LoopbackLLM], object],
        timeout: float = 5.0,  # noqa: ASYNC109  the twin of wait_for
    ) -> None:
        """The same without blocking the event loop, on asyncio and trio."""
        from anyio import to_thread  # noqa: PLC0415  here, so that the server itself does not need it

        await to_thread.run_sync(self.wait_for, predicate, timeout, abandon_on_cancel=True)

    @override
    def __repr__(self) -> str:
        return (
            f"<LoopbackLLM port={self._port} requests={self.request_count} "
            f"open_connections={self.open_connections} script_left={self.script_left}>"
        )

    def _running(self) -> Host:
        if self._host is None:
            raise RuntimeError("the server is not running")
        return self._host


_USUAL: Final = Reply()
"""What a server says that was told nothing; one object, so that its plan is made once."""


@final
class _Desk:
    """Decides what each request gets and keeps the records.  The server's thread writes, others read."""

    def __init__(self, default: Behaviour | Responder | None, record: bool) -> None:
        self.script: deque[Behaviour | Responder] = deque()
        self.scripted = False
        self.default = default
        self.limiter: Limiter | None = None
        self.requests: list[ReceivedRequest] = []
        self.request_count = 0
        self.connection_count = 0
        self.connections: set[Connection] = set()
        self.errors: list[Exception] = []
        self.keep_alive = False
        self._record = record
        self._plans: dict[tuple[int, Ask], tuple[Behaviour, Plan]] = {}
        self._changed = threading.Condition()
        self._waiters = 0

    def opened(self, connection: Connection) -> int:
        self.connections.add(connection)
        self.connection_count += 1
        self.changed()
        return self.connection_count

    def lost(self, connection: Connection) -> None:
        self.connections.discard(connection)
        self.changed()

    def changed(self) -> None:
        if self._waiters:
            with self._changed:
                self._changed.notify_all()

    def wait_until(self, true: Callable[[], bool], timeout: float) -> bool:
        """Whether it became true in time."""
        deadline = time.monotonic() + timeout
        with self._changed:
            self._waiters += 1
            try:
                while not true():
                    left = deadline - time.monotonic()
                    if left <= 0:
                        return False
                    # Not for longer, as the predicate may look at things that are not the server's.
                    self._changed.wait(min(left, 0.02))
            finally:
                self._waiters -= 1
        return True

    def received(self, request: ReceivedRequest) -> Plan:
        self.request_count += 1
        if self._record:
            self.requests.append(request)
        try:
            return self._decide(request)
        except Exception as error:
            # Whatever a responder does, the client gets an answer and the test the traceback.
            self.errors.append(error)
            return plan(Status(500, message=f"the loopback server failed: {error!r}"), Ask(""), {})

    def _decide(self, request: ReceivedRequest) -> Plan:
        if self.limiter is None or request.wire == "models":
            return self._plan(self._next(request), request)
        admission = self.limiter.admit(key_of(request), cost_of(request))
        if not admission.admitted:
            refused = Status(429, message="Rate limit reached for requests or tokens")
            return _plan_for(refused, request, admission.headers)
        return _plan_for(self._next(request), request, admission.headers)

    def _next(self, request: ReceivedRequest) -> Behaviour:
        try:
            chosen: Behaviour | Responder = self.script.popleft()
        except IndexError:
            if self.default is None and self.scripted:
                told = f"request {self.request_count}, {request.method} {request.path}, finds the script used up"
                raise AssertionError(f"{told}; add a step to it, or give default=") from None
            chosen = _USUAL if self.default is None else self.default
        return chosen if isinstance(chosen, Behaviour) else _behaviour(chosen(request))

    def _plan(self, behaviour: Behaviour, request: ReceivedRequest) -> Plan:
        ask = ask_of(request)
        cached = self._plans.get((id(behaviour), ask))
        if cached is not None:
            return cached[1]
        made = _plan_for(behaviour, request, {})
        if isinstance(made, tuple) and ask.wire not in NOT_CHAT:
            if len(self._plans) >= _CACHED_PLANS:
                self._plans.clear()
            self._plans[id(behaviour), ask] = behaviour, made  # holds the behaviour, so that its id stays its own
        return made


def _behaviour(value: object) -> Behaviour:
    if isinstance(value, str):
        return Reply(value)
    if not isinstance(value, Behaviour):
        hint = f"; say {value.__name__}(...)" if isinstance(value, type) else ""
        raise TypeError(f"expected a behaviour such as Reply(...), or a function that returns one, not {value!r}{hint}")
    return value


def _checked(value: str | Behaviour | Responder) -> Behaviour | Responder:
    return value if callable(value) and not isinstance(value, type) else _behaviour(value)


def _plan_for(behaviour: Behaviour, request: ReceivedRequest, headers: Mapping[str, str]) -> Plan:
    headers = {request_id(request.wire): "req_loopback", **headers}
    if isinstance(behaviour, Reply) and request.wire in NOT_CHAT:
        return _not_chat(behaviour, request, headers)
    return plan(behaviour, ask_of(request), headers)


def _not_chat(reply: Reply, request: ReceivedRequest, headers: Mapping[str, str]) -> Plan:
    json_headers = {"content-type": "application/json", **headers}
    if request.wire == "models":
        return whole(reply, 200, models(), json_headers)
    if request.wire == "embeddings":
        return whole(reply, 200, embeddings(object_of(request.body), ask_of(request).model), json_headers)
    message = f"nothing at {request.path.partition('?')[0]}"
    error = {"error": {"message": message, "type": "not_found_error", "param": None, "code": None}}
    return whole(reply, 404, as_json(error), json_headers)
