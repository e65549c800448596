"""How long to wait before asking the same provider again."""

from __future__ import annotations


def full_jitter(base: float, cap: float, retries: int, draw: float) -> float:
    """``draw * min(cap, base * 2**retries)`` seconds for a draw from [0, 1): AWS's full jitter.

    ``retries`` is 0 for the first retry.  Any count is safe: the exponent is bounded before it can overflow.
    """
    return draw * min(cap, base * 2.0 ** min(retries, 64))


def equal_jitter(base: float, cap: float, trips: int, draw: float) -> float:
    """Between half of ``min(cap, base * 2**trips)`` seconds and all of it: long enough to matter, spread enough not
    to herd."""
    whole = min(cap, base * 2.0 ** min(trips, 64))
    return whole / 2 + draw * whole / 2
