"""After ``fork`` the child has the parent's objects but none of its threads, and shares its sockets: what holds
either must start anew there."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from importlib import import_module
from types import ModuleType
from typing import Final, Protocol

_IMPORTED_FIRST: Final = logging
"""It holds its lock during a fork too: what it registered for that before ours is done after ours."""


class Forkable(Protocol):
    """Something that must be told that it is in a child process now."""

    def reset_after_fork(self) -> None: ...


class Mark:
    """``here``: an object that every child process replaces by one of its own.  To compare it takes a tenth of asking
    the kernel for the number of the process."""

    here: object = object()


_LIVING: weakref.WeakSet[Forkable] = weakref.WeakSet()


def tell_after_fork(thing: Forkable) -> None:
    """Call ``thing.reset_after_fork()`` in every child process forked while it lives."""
    _LIVING.add(thing)


def _in_child() -> None:
    Mark.here = object()
    for thing in list(_LIVING):
        thing.reset_after_fork()


_importing: Final = threading.RLock()
_LONGEST: Final = 5.0  # seconds a fork waits for an import to end, should that wait for the very thread that forks


def imported(name: str) -> ModuleType:
    """Import a module with the first call rather than with the client.

    A fork waits until that has ended: an import of a thread that is not there any more would never end in the child.
    """
    with _importing:
        return import_module(name)


_held = threading.local()


def _before() -> None:
    _held.lock = _importing.acquire(timeout=_LONGEST)


def _after() -> None:
    if getattr(_held, "lock", False):
        _importing.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after)
    os.register_at_fork(after_in_child=_in_child)
