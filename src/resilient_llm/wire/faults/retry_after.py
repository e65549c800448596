"""The server's own hint how long to wait.

Sources in order of precedence: ``retry-after-ms``, ``x-ms-retry-after-ms``, ``retry-after``, the structured body, the
vendor's reset header of an exhausted bucket, the text.  Each is read strictly; garbage in one leaves it to the next.
"""

from __future__ import annotations

from collections.abc import Mapping

from resilient_llm.wire.faults import times
from resilient_llm.wire.faults.body import Facts, decode, lowered, read
from resilient_llm.wire.faults.ratelimit import RateLimits


def parse_retry_after(
    headers: Mapping[str, str], body: object, vendor: str = "", now: float | None = None
) -> float | None:
    """Seconds the server asks to wait after a failed request; ``None`` if it does not say, or says nonsense.

    The number is the server's own, not clamped (more than ten years counts as nonsense); a date that has passed is 0.
    ``now`` is the wall clock in epoch seconds for absolute dates, overruled by a ``Date`` header.  Never raises.
    """
    fields = lowered(headers)
    clock = times.clock_of(fields, now)
    return hint_of(fields, read(vendor, fields, decode(body), clock), clock)


def hint_of(headers: Mapping[str, str], facts: Facts, clock: float | None, *, limits: bool = True) -> float | None:
    """As :func:`parse_retry_after`, from what was read already.  ``limits`` false leaves reset headers out: on anything
    but a 429 they describe buckets that had nothing to do with the failure."""
    for found in (
        times.milliseconds(headers.get("retry-after-ms", "")),
        times.milliseconds(headers.get("x-ms-retry-after-ms", "")),
        _header(headers.get("retry-after", ""), clock),
        next(iter(facts.hints.values()), None),
        _exhausted(facts.limits) if limits else None,
    ):
        if found is not None:
            return found
    return times.wait_in_words(facts.text)


def _header(text: str, clock: float | None) -> float | None:
    wait = times.seconds(text)
    return times.until(text, clock) if wait is None else wait


def _exhausted(limits: RateLimits) -> float | None:
    """When the last of the exhausted buckets is full again; a bucket that tells only its reset counts as exhausted."""
    known = limits.known().values()
    resets = [bucket.reset_in for bucket in known if bucket.reset_in is not None and not bucket.remaining]
    return max(resets, default=None)
