"""Rate limits that the user declares for a provider or one of its keys."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final, Literal, TypedDict

from resilient_llm.errors import ConfigurationError
from resilient_llm.policy import Rate

RATES: Final[Mapping[str, tuple[Literal["requests", "tokens"], float]]] = {
    "requests_per_second": ("requests", 1.0),
    "requests_per_minute": ("requests", 60.0),
    "requests_per_day": ("requests", 86400.0),
    "tokens_per_second": ("tokens", 1.0),
    "tokens_per_minute": ("tokens", 60.0),
    "tokens_per_day": ("tokens", 86400.0),
}
"""Option -> what is counted, in how many seconds."""


class RateOptions(TypedDict, total=False):
    """The same as keywords; each a number above 0, ``None``: no limit is known."""

    requests_per_second: float | None
    requests_per_minute: float | None
    requests_per_day: float | None
    tokens_per_second: float | None
    tokens_per_minute: float | None
    tokens_per_day: float | None


def rates_of(given: Callable[[str], object]) -> tuple[Rate, ...]:
    """The limits among some options.  Raises ``ConfigurationError`` for a value that is no number above 0."""
    found: list[Rate] = []
    for name, (unit, per) in RATES.items():
        amount = given(name)
        if amount is None:
            continue
        if isinstance(amount, bool) or not isinstance(amount, int | float) or not 0 < amount < math.inf:
            raise ConfigurationError(f"{name} must be a number above 0 or None, not {amount!r:.80}")
        found.append(Rate(amount=amount, per=per, unit=unit))
    return tuple(found)
