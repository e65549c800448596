"""After ``fork`` the child has the parent's objects but none of its threads, and shares its sockets: what holds
either must start anew there."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forkable(Protocol):
    """Something that must be told that it is in a child process now."""

    def reset_after_fork(self) -> None: ...


_LIVING: weakref.WeakSet[Forkable] = weakref.WeakSet()


def tell_after_fork(thing: Forkable) -> None:
    """Call ``thing.reset_after_fork()`` in every child process forked while it lives."""
    _LIVING.add(thing)


def _in_child() -> None:
    for thing in list(_LIVING):
        thing.reset_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
