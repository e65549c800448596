"""Durations and dates as servers write them, read strictly.

Every function is total: text that is not exactly one of the known forms is ``None`` (unknown), never an exception and
never a guess.  A hint is hostile input: ``float()`` would take ``1_0``, ``nan``, ``inf`` and ``1e999``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache

LONGEST = 10 * 365 * 86_400.0
"""Seconds.  Nobody means a longer wait; such a number is a mistake and counts as unknown."""

# Patterns are compiled when an answer first needs them: importing the library must stay cheap.
_NUMBER = r"[0-9]{1,13}(?:\.[0-9]{1,9})?"
_SECONDS = r"[0-9]{1,9}(?:\.[0-9]{1,9})?"
_HTTP_DATE = (
    r"[A-Za-z]{3,9}, [0-9]{1,2}[ -][A-Za-z]{3}[ -][0-9]{2,4} [0-9:]{8} GMT"  # RFC 9110 section 5.6.7, and RFC 850
    r"|[A-Za-z]{3} [A-Za-z]{3} [ 0-9][0-9] [0-9:]{8} [0-9]{4}"  # asctime
)
_ISO = r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?(?:Z|[+-][0-9]{2}:?[0-9]{2})?"
_UNITS = {
    "d": 86_400.0, "day": 86_400.0, "h": 3_600.0, "hr": 3_600.0, "hour": 3_600.0, "m": 60.0, "min": 60.0,
    "minute": 60.0, "s": 1.0, "sec": 1.0, "second": 1.0, "ms": 1e-3, "millisecond": 1e-3, "us": 1e-6, "µs": 1e-6,
    "μs": 1e-6, "ns": 1e-9,
}  # fmt: skip
_UNIT = r"(?:d|h|ms|us|µs|μs|ns|m|s)"
_GO_DURATION = rf"(?:[0-9]{{1,12}}(?:\.[0-9]{{1,9}})?{_UNIT}){{1,8}}"
_WORDY_UNIT = r"(?:milliseconds?|ms|seconds?|secs?|minutes?|mins?|hours?|hrs?|days?|[hmsd])(?![a-z])"
_AMOUNT = rf"[0-9]{{1,9}}(?:\.[0-9]{{1,9}})?\s?(?:{_WORDY_UNIT}|[hms](?=[0-9]))"
_SPOKEN = (
    r"\b(?:try(?:ing)?(?: it| your request)? again|retry(?:ing)?(?: your request)?|wait(?:ing)?|resets?"
    r"|available(?: again)?)\s(?:after |in |for |until )?(?:about |approximately |at least |another )?"
    rf"({_AMOUNT}(?:(?:,| and)?\s?{_AMOUNT}){{0,3}})"
)
_PIECE = r"(?i)([0-9]{1,12}(?:\.[0-9]{1,9})?)\s?([a-zµμ]{1,12})"


def bounded(value: float) -> float | None:
    """The duration if it is one anybody could mean: finite, not negative, at most ten years."""
    return value if 0.0 <= value <= LONGEST else None


def seconds(text: str) -> float | None:
    """A plain decimal number of seconds: ``"5"``, ``"0.25"``; not ``"5s"``, ``"1e3"``, ``"-3"``, ``"5, 5"``."""
    text = text.strip()
    return bounded(float(text)) if re.fullmatch(_SECONDS, text) else None


def milliseconds(text: str) -> float | None:
    """A plain decimal number of milliseconds, in seconds."""
    text = text.strip()
    return bounded(float(text) / 1000.0) if re.fullmatch(_NUMBER, text) else None


def duration(text: str) -> float | None:
    """A Go duration (``"6m0s"``, ``"120ms"``, ``"1h2m3s"``; also protobuf's ``"45.57s"``), in seconds."""
    text = text.strip()
    return bounded(_sum_pieces(text)) if re.fullmatch(_GO_DURATION, text) else None


def wait_in_words(text: str) -> float | None:
    """The wait a sentence asks for: ``"Please try again in 15m18.4s."``, ``"retry after 6 seconds"``."""
    found = re.search(_SPOKEN, text, re.IGNORECASE)
    return bounded(_sum_pieces(found[1])) if found else None


@lru_cache(maxsize=64)  # one Date header and a few resets are seen again and again
def instant(text: str) -> float | None:
    """An HTTP date or an RFC 3339 time, as epoch seconds.  A time without a zone is UTC."""
    text = text.strip()
    try:
        if re.fullmatch(_HTTP_DATE, text):
            from email.utils import parsedate_to_datetime  # noqa: PLC0415 - longer to import than the rest of this room

            return _epoch(parsedate_to_datetime(text))
        if re.fullmatch(_ISO, text):
            return _epoch(datetime.fromisoformat(text))
    except (ValueError, OverflowError, TypeError):  # hour 99, 31 February, year 0
        return None
    return None


def until(text: str, clock: float | None) -> float | None:
    """Seconds from ``clock`` to an absolute time; 0 if it has passed, ``None`` if either is unknown."""
    moment = instant(text)
    return None if moment is None else since(moment, clock)


def since(moment: float, clock: float | None) -> float | None:
    """Seconds from ``clock`` to the epoch time ``moment``, not below 0."""
    return None if clock is None else bounded(max(0.0, moment - clock))


def reset(text: str, clock: float | None) -> float | None:
    """The value of a reset header in seconds from now, whatever its form.

    Plain numbers are told apart by size: below 1e8 they are seconds, 1e9 to 1e10 an epoch in seconds, 1e11 and more an
    epoch in milliseconds; what lies between fits none and is unknown.
    """
    text = text.strip()
    if not re.fullmatch(_NUMBER, text):
        wait = duration(text)
        return until(text, clock) if wait is None else wait
    value = float(text)
    if value < 1e8:
        return value
    if 1e9 <= value < 1e10:
        return since(value, clock)
    return since(value / 1000.0, clock) if value >= 1e11 else None


def clock_of(headers: Mapping[str, str], now: float | None) -> float | None:
    """The wall clock for absolute times: the response's own ``date`` (lower-case names) if it has one, else ``now``."""
    date = headers.get("date")
    moment = instant(date) if date else None
    if moment is not None:
        return moment
    return now if now is not None and math.isfinite(now) else None


def _sum_pieces(text: str) -> float:
    pieces = re.findall(_PIECE, text.lower())
    return sum(float(number) * (_UNITS.get(unit) or _UNITS[unit.removesuffix("s")]) for number, unit in pieces)


def _epoch(moment: datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
