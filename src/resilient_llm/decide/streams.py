"""Open streams that fell silent: which of them speak against their provider before any of them has ended."""

from __future__ import annotations

import math
from collections.abc import Sequence

from resilient_llm.decide.attempt import Attempt
from resilient_llm.decide.member import T

_SEVERAL = 3  # silent streams that are no chance, as three failures in a row are none


def silent_for(streams: Sequence[Attempt[T]], seconds: float, now: float) -> list[Attempt[T]]:
    """Those that are silent for so long while their callers wait for more."""
    return [one for one in streams if now - one.quiet_since >= seconds]


def most_stopped(streams: Sequence[Attempt[T]], answered: float, pause: float, now: float) -> list[Attempt[T]]:
    """Those that are silent for a pause, if they are three that began one after the other, with no answer between them
    (the last one that was ``answered`` began then), and most of those that have been read for as long; else none."""
    begun = [one for one in streams if one.started > answered and now - (one.content_at or now) >= pause]
    read = [one for one in begun if one.quiet_since < math.inf]
    stopped = silent_for(read, pause, now)
    return stopped if len(stopped) >= _SEVERAL and 2 * len(stopped) > len(read) else []


def went_on(streams: Sequence[Attempt[T]], since: float) -> bool:
    """Whether a stream goes on that was presumed at ``since`` to have stopped."""
    return any(one.presumed == since < one.quiet_since for one in streams)
