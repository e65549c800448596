"""The thread, the event loop and the listening socket of a running loopback server."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable
from typing import TypeAlias, final

from resilient_llm.testing.connection import Connection, Handler

_BACKLOG = 1024
_POSIX: bool = os.name == "posix"

Work: TypeAlias = Callable[["Host"], None]


@final
class Host:
    """Runs the connections of one handler from :meth:`start` to :meth:`close`."""

    _loop: asyncio.AbstractEventLoop
    _stop: asyncio.Event

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._tasks: set[asyncio.Task[None]] = set()
        self._ready = threading.Event()
        self._resume: threading.Event | None = None
        self._thread = threading.Thread(target=self._run, name="loopback-llm", daemon=True)
        self._unused: socket.socket | None = _bound(0)
        self.port: int = self._unused.getsockname()[1]
        # Bound but never listening: keeps the port ours while connections are refused.
        self._reservation = _bound(self.port) if _POSIX else None
        self._listener: socket.socket | None = None

    def start(self) -> None:
        """Start the thread; returns when connections are accepted."""
        self._thread.start()
        self._ready.wait()

    def close(self) -> None:
        """End everything; returns when the thread has ended (unless this is the thread)."""
        self.resume()
        self._loop.call_soon_threadsafe(self._stop.set)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def call(self, work: Work) -> None:
        """Run ``work`` in the thread and wait for its effect; a responder, in the thread itself, sees it at once."""
        if self._resume is not None:
            raise RuntimeError("the server is paused: resume() it first")
        if threading.current_thread() is self._thread:
            work(self)
        else:
            asyncio.run_coroutine_threadsafe(self._do(work), self._loop).result()

    def pause(self) -> None:
        """Freeze the thread."""
        if self._resume is not None:
            return
        self._resume = threading.Event()
        frozen = threading.Event()
        self._loop.call_soon_threadsafe(_freeze, frozen, self._resume)
        if threading.current_thread() is not self._thread:
            frozen.wait()

    def resume(self) -> None:
        """Thaw it."""
        resume, self._resume = self._resume, None
        if resume is not None:
            resume.set()

    def listen(self) -> None:
        """Accept connections."""
        if not self._handler.keep_alive:
            self._handler.keep_alive = True
            self._listener, self._unused = self._unused or _bound(self.port), None
            self._listener.setblocking(False)
            self._listener.listen(_BACKLOG)
            self._loop.add_reader(self._listener, self._accept, self._listener)

    def refuse(self, *, drop: bool) -> None:
        """Accept no more; close idle connections, the others after their answer or, with ``drop``, at once."""
        self._handler.keep_alive = False
        if self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        self.drop(idle_only=not drop)

    def drop(self, *, idle_only: bool) -> None:
        """Close idle connections and reset the others."""
        for connection in list(self._handler.connections):
            if connection.idle:
                connection.transport.close()
            elif not idle_only:
                connection.reset()

    async def _do(self, work: Work) -> None:
        work(self)
        # The event loop tells closed connections of their end one turn later.
        await asyncio.sleep(0)

    def _accept(self, listener: socket.socket) -> None:
        """Take what waits.  Not left to ``asyncio.Server``: in Python 3.11 one that is closed meanwhile loses what it
        has just accepted, and the socket stays open."""
        while True:
            try:
                sock = listener.accept()[0]
            except OSError:  # nobody waits any more, or who did is gone
                return
            sock.setblocking(False)
            task = self._loop.create_task(self._serve_one(sock))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve_one(self, sock: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._connection, sock)
        except OSError:  # who connected is gone
            sock.close()

    def _connection(self) -> Connection:
        return Connection(self._handler, self._loop)

    def _run(self) -> None:
        # A selector loop everywhere: the proactor loop of Windows cannot abort with a reset.
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        try:
            await self._do(Host.listen)
            self._ready.set()
            await self._stop.wait()
            self.refuse(drop=True)
            await self._wind_up()
        finally:
            self._ready.set()
            if self._reservation is not None:
                self._reservation.close()

    async def _wind_up(self) -> None:
        """Until nothing is left: a connection may have been accepted in the last moment."""
        this = asyncio.current_task()
        while self._handler.connections or asyncio.all_tasks() != {this}:
            for connection in list(self._handler.connections):
                connection.transport.abort()
            await asyncio.sleep(0)


def _freeze(frozen: threading.Event, resume: threading.Event) -> None:
    frozen.set()
    resume.wait()


def _bound(port: int) -> socket.socket:
    sock = socket.socket()
    if _POSIX:  # elsewhere the option lets strangers take the port
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", port))
    return sock
