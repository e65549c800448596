"""``python -m resilient_llm.simulate.streams [N]``: leave N streams in each way, and show the memory before and
after (invariant L5)."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from resilient_llm.decide.attempt import Attempt
from resilient_llm.simulate.client import Production, Question
from resilient_llm.simulate.providers import Provider

WAYS: Final = ("dropped", "cancelled")
"""Left to the garbage collector, or given up by the caller; every second one after its first content."""
_APART: Final = 0.01  # simulated seconds from one stream to the next
_WARM: Final = 2000  # streams before the first look: rings and windows have their size then


class Leaving(NamedTuple):
    """What leaving many streams came to.  Memory is resident bytes of this process."""

    way: str
    streams: int
    before: int
    after: int
    in_flight: int
    """Attempts the pool still believes in; 0 is right."""
    objects: int
    """Objects the garbage collector knows beyond those there were before."""


def leave(streams: int, way: str) -> Leaving:
    """Begin so many streams, one after the other, and leave each in one of :data:`WAYS`."""
    client = Production([[Provider("a"), Provider("b")]], seed=1)
    _leave(client, 0, _WARM, way)
    known, before = _objects(), resident()
    _leave(client, _WARM, streams, way)
    now = (_WARM + streams) * _APART
    in_flight = sum(standing.in_flight for standing in client.pool.snapshot(now))  # settles what finalisers left
    return Leaving(way, streams, before, resident(), in_flight, _objects() - known)


def _leave(client: Production, begun: int, streams: int, way: str) -> None:
    for index in range(begun, begun + streams):
        now = index * _APART
        call = client.call(Question(True, 100, 100, 60.0), now)
        attempt = call.next_attempt(now)
        assert isinstance(attempt, Attempt), "somebody is always free here"
        if index % 2:
            call.first_content(attempt, now)
        if way == "dropped":
            client.abandon_later(attempt)
        else:
            call.abandoned(attempt, now)


def _objects() -> int:
    gc.collect()
    return len(gc.get_objects())


def resident() -> int:
    """Bytes of memory this process has now; where the system does not tell, the most it ever had; 0 on Windows."""
    if sys.platform == "win32":
        return 0
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        import resource  # noqa: PLC0415 - not on Windows

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line per way.  Returns 1 if anything is still in flight."""
    parser = argparse.ArgumentParser(prog="python -m resilient_llm.simulate.streams", description=__doc__)
    parser.add_argument("streams", type=int, nargs="?", default=100_000, metavar="N", help="how many (%(default)s)")
    streams = parser.parse_args(arguments).streams
    if streams < 1:
        parser.error(f"N must be 1 or more, not {streams}")
    left = [leave(streams, way) for way in WAYS]
    for one in left:
        memory = f"{one.before / 2**20:.1f} MiB before, {one.after / 2**20:.1f} MiB after"
        sys.stdout.write(
            f"{one.streams:,} streams {one.way}: {memory}, {one.in_flight} in flight, {one.objects:+,} objects\n"
        )
    return int(any(one.in_flight for one in left))


if __name__ == "__main__":
    sys.exit(main())
