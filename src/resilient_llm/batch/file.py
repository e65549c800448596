"""A file of results, one line each, that survives a crash.

A line is handed to the operating system as a whole, and before its result is handed to the caller: if the process is
killed, nothing that was returned is missing.  At most a second later, and when the run ends, it is on the disk
(``fsync``): if the machine loses its power, the prompts of the last second are asked again.

What a crash leaves of a last line is cut off when the file is opened again.  Nothing else is ever changed: a file that
holds anything but results, or results of other prompts, is refused.
"""

from __future__ import annotations

import math
import os
import threading
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import BinaryIO, Final

from resilient_llm.batch.results import BEGINS, Line, read_line
from resilient_llm.errors import ConfigurationError

SYNC: Final = 1.0
"""Seconds a line may be with the operating system before it is on the disk."""


class Spans:
    """Whole numbers, kept as spans without gaps: a hundred thousand in a row are one."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._starts, number) - 1
        return at >= 0 and number < self._ends[at]

    def __len__(self) -> int:
        return sum(self._ends) - sum(self._starts)

    def add(self, number: int) -> bool:
        """Add one; false if it was there."""
        after = bisect_right(self._starts, number)
        if after and number < self._ends[after - 1]:
            return False
        grows = bool(after) and self._ends[after - 1] == number
        meets = after < len(self._starts) and self._starts[after] == number + 1
        if grows and meets:
            self._ends[after - 1] = self._ends.pop(after)
            del self._starts[after]
        elif grows:
            self._ends[after - 1] = number + 1
        elif meets:
            self._starts[after] = number
        else:
            self._starts.insert(after, number)
            self._ends.insert(after, number + 1)
        return True


class ResultsFile:
    """The results of earlier runs, to be read in the order of the prompts, and those of this one, to be added.

    ``append`` and ``sync`` may be called by any thread, ``saved`` by one at a time.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open it, or make it.  Raises ``ConfigurationError`` for a file that is not one of results or is in use, and
        ``OSError``."""
        self.path: str = os.fspath(path)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
        self._lock = threading.Lock()
        self._syncing = threading.Lock()
        self._synced = -math.inf
        self._dirty = False
        self._closed = False
        self._kept: dict[int, tuple[int, int]] = {}
        self._done = Spans()
        with ExitStack() as undo:
            self._file: int = os.open(self.path, flags, 0o644)
            undo.callback(os.close, self._file)
            _lock(self._file, self.path)
            self._reader: BinaryIO = undo.enter_context(open(self.path, "rb"))
            self._recover()
            self._lines: Iterator[tuple[int, int, Line]] = self._read()
            self._let_go = undo.pop_all()

    def __len__(self) -> int:
        """How many results it held when it was opened."""
        return len(self._done)

    # --- what it holds ---

    def saved(self, index: int, digest: str) -> Line | None:
        """The line of the prompt with this index; ``None`` if there is none.

        Raises ``ConfigurationError`` if it is the answer to another prompt.  What lies between two results asked for
        one after the other is remembered, and that is little: results stand nearly in the order of the prompts.
        """
        if index not in self._done:
            return None
        line = self._found(index)
        if line.digest != digest:
            raise ConfigurationError(
                f"{self.path!r} holds the results of other prompts: what it has for prompt {index} (key "
                f"{line.fields['key']!r:.80}) answers another text, key or setting; give the same prompts in the same "
                "order, or another file"
            )
        return line

    def _found(self, index: int) -> Line:
        while index not in self._kept:
            at, length, line = next(self._lines)
            if line.index == index:
                return line
            self._kept[line.index] = (at, length)
        return read_line(self._at(*self._kept.pop(index)))

    def _recover(self) -> None:
        """Find out what is there, and cut off what a crash left of a last line."""
        number = end = 0
        for number, (at, data) in enumerate(_lines_of(self._reader), 1):
            try:
                line = read_line(data) if data.endswith(b"\n") else None
            except (ValueError, KeyError, TypeError):
                line = None
            if line is None:
                if at + len(data) == os.fstat(self._file).st_size and _may_be_half(data):
                    os.ftruncate(self._file, end)
                    return
                raise ConfigurationError(f"{self.path!r} is no file of results: line {number} is none")
            if not self._done.add(line.index):
                raise ConfigurationError(f"{self.path!r} has two results of prompt {line.index}: line {number} too")
            end = at + len(data)

    def _read(self) -> Iterator[tuple[int, int, Line]]:
        for at, data in _lines_of(self._reader):
            yield at, len(data), read_line(data)

    def _at(self, at: int, length: int) -> bytes:
        before = self._reader.tell()
        self._reader.seek(at)
        data = self._reader.read(length)
        self._reader.seek(before)
        return data

    # --- what is added ---

    def append(self, line: bytes) -> bool:
        """Add a line; false, and it is not added, if the file is closed.  Raises ``OSError``."""
        with self._lock:
            if self._closed:
                return False
            self._dirty, written = True, 0
            try:
                while written < len(line):
                    written += os.write(self._file, line[written:])
            except OSError as error:
                with suppress(OSError):  # half a line would spoil the next one
                    os.ftruncate(self._file, os.fstat(self._file).st_size - written)
                raise OSError(error.errno, error.strerror, self.path) from error
            return True

    def due(self, now: float) -> bool:
        """Whether :meth:`sync` is due; says so once a second."""
        with self._lock:
            if not self._dirty or self._closed or now - self._synced < SYNC:
                return False
            self._synced, self._dirty = now, False
            return True

    def sync(self) -> None:
        """Wait until what was added is on the disk."""
        with self._syncing, suppress(OSError):  # there is no disk beneath it
            if self._file >= 0:
                os.fsync(self._file)

    def close(self) -> None:
        """Bring everything to the disk and let go of the file.  Does nothing the second time."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self.sync()
        with self._syncing:
            self._let_go.close()
            self._file = -1


def _may_be_half(data: bytes) -> bool:
    """Whether these bytes may be what is left of a result: its beginning, or the zeros of blocks never written."""
    begin = data.strip(b"\0")
    return not begin or BEGINS.startswith(begin[: len(BEGINS)]) or begin.startswith(BEGINS)


def _lines_of(reader: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """The lines of a file and where each begins, those added meanwhile excepted."""
    size, at = os.fstat(reader.fileno()).st_size, 0
    reader.seek(0)
    while at < size:
        line = reader.readline()
        yield at, line
        at += len(line)


def _lock(file: int, path: str) -> None:
    """Keep other processes out, where the system can."""
    try:
        import fcntl  # noqa: PLC0415 - not everywhere
    except ImportError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigurationError(f"{path!r} is being written by another run") from None
    except OSError:  # a file system without locks
        return
