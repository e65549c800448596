"""Host names, resolved in threads that no call waits for longer than it may.

A thread inside ``getaddrinfo`` cannot be interrupted.  There are at most ``MOST`` of them for one host, shared by all
clients of the process; who comes when all of them are busy waits for the youngest.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeAlias, cast

from resilient_llm.drive.fork import tell_after_fork

MOST = 4
"""Threads that resolve one host at the same time."""

Address: TypeAlias = tuple[int, tuple[str | int, ...]]
"""An address family, and an address of it without its port (the port in it is 0)."""

"".encode("idna")  # imports what encodes host names now: a fork during a later import would leave its lock held


class Lookup:
    """One resolution under way.  Any number of calls may wait for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Callable[[], None]] = []
        self.done: bool = False
        self._found: tuple[Address, ...] = ()
        self._error: OSError | None = None

    def then(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` when it is done, on the thread that resolves; at once if it is done already."""
        with self._lock:
            if not self.done:
                self._waiting.append(wake)
                return
        wake()

    def finish(self, found: tuple[Address, ...], error: OSError | None) -> None:
        """The result, and no error, or the other way round."""
        with self._lock:
            self._found, self._error, self.done = found, error, True
            waiting, self._waiting = self._waiting, []
        for wake in waiting:
            with suppress(RuntimeError):  # its event loop is closed
                wake()

    def result(self) -> tuple[Address, ...]:
        """The addresses.  Raises the error of ``getaddrinfo``."""
        if self._error is not None:
            raise self._error.with_traceback(None)
        return self._found


class Resolver:
    """The threads that resolve names."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[str, list[Lookup]] = {}
        tell_after_fork(self)

    def start(self, host: str) -> Lookup:
        """Begin to resolve a name, or join a thread that does so already."""
        with self._lock:
            running = self._running.setdefault(host, [])
            if len(running) >= MOST:
                return running[-1]
            lookup = Lookup()
            running.append(lookup)
        try:
            threading.Thread(
                target=self._resolve, args=(host, lookup), name="resilient_llm resolver", daemon=True
            ).start()
        except RuntimeError:  # there can be no more threads
            self._end(host, lookup)
            lookup.finish((), OSError("no thread could be started to resolve a host name"))
        return lookup

    def _resolve(self, host: str, lookup: Lookup) -> None:
        found: tuple[Address, ...] = ()
        error: OSError | None = None
        try:
            found = tuple(_addresses(host))
        except OSError as failed:
            error = failed
        except Exception as failed:  # a name that cannot be encoded
            error = OSError(f"the host name cannot be resolved: {type(failed).__name__}")
        finally:
            self._end(host, lookup)
            lookup.finish(found, error)

    def _end(self, host: str, lookup: Lookup) -> None:
        with self._lock:
            left = [one for one in self._running.get(host, ()) if one is not lookup]
            if left:
                self._running[host] = left
            else:
                self._running.pop(host, None)

    def reset_after_fork(self) -> None:
        """In the child: the parent's threads are not here."""
        self._lock = threading.Lock()
        self._running = {}


def _addresses(host: str) -> list[Address]:
    infos = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [(int(family), cast("tuple[str | int, ...]", tuple(address))) for family, _, _, _, address in infos]


def literal(host: str) -> list[Address]:
    """The address where the host is written as one; empty where it is a name."""
    bare = host.strip("[]")
    for family, rest in ((socket.AF_INET, ()), (socket.AF_INET6, (0, 0))):
        try:
            socket.inet_pton(family, bare)
        except (OSError, ValueError):
            continue
        return [(int(family), (bare, 0, *rest))]
    return []


def at_port(address: Address, port: int) -> tuple[str | int, ...]:
    """The socket address."""
    host, _, *rest = address[1]
    return (host, port, *rest)


RESOLVER = Resolver()
