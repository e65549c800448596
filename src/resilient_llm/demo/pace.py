"""How fast the day goes by: the same script, the same policies, other numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from resilient_llm.policy import Advanced, Breaker, Hedge, Policies, Retry, Timeouts


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """All durations are seconds.

    ``unit`` scales the length of the acts.  ``first_token`` says how long each provider takes to its first word,
    ``interval`` how long to every further one; ``slow_first_token`` is what the slow act makes of the former.
    ``recent`` is how far back the live figures look.
    """

    name: str
    unit: float
    calls_per_second: float
    first_token: Mapping[str, float]
    interval: float
    slow_first_token: float
    retry_after: float
    deadline: float
    recent: float
    policies: Policies


FULL: Final = Pace(
    name="full",
    unit=0.95,
    calls_per_second=12.0,
    first_token={"alpha": 0.12, "beta": 0.12, "gamma": 0.20},
    interval=0.02,
    slow_first_token=0.6,
    retry_after=3.0,
    deadline=15.0,
    recent=3.0,
    # A day in a minute: what the defaults measure in tens of seconds is measured in seconds here.
    policies=Policies(
        retry=Retry(backoff_base=0.25, backoff_cap=1.0),
        breaker=Breaker(open_base=0.25, open_cap=1.5),
        timeouts=Timeouts(connect=2.0),
        advanced=Advanced(
            memory=3.0, failure_cost=1.5, rescue_min=0.7, rescue_max=2.0, first_token_min=4.0, first_token_max=6.0
        ),
    ),
)

FAST: Final = Pace(
    name="fast",
    unit=0.145,
    calls_per_second=24.0,
    first_token={"alpha": 0.020, "beta": 0.020, "gamma": 0.035},
    interval=0.004,
    slow_first_token=0.14,
    retry_after=0.5,
    deadline=15.0,
    recent=0.6,
    policies=Policies(
        retry=Retry(backoff_base=0.05, backoff_cap=0.2),
        breaker=Breaker(open_base=0.05, open_cap=0.2),
        # Fewer calls lead up to the hang than in the full day, so each of them saves up more for it.
        hedge=Hedge(ratio=0.12),
        timeouts=Timeouts(connect=2.0),
        advanced=Advanced(
            memory=0.5, failure_cost=1.0, rescue_min=0.3, rescue_max=0.6, first_token_min=2.0, first_token_max=3.0
        ),
    ),
)
