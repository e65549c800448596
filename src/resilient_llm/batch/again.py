"""Whether a prompt that nobody answered is asked again: a batch has time, as long as the prompt's deadline says.

Pure.  A call of its own ends early, so that whoever waits for it learns it (``retry.max_down_wait`` behind an outage);
a prompt of a batch waits for the outage to end.  Calls that nobody could take are made again until the deadline, those
that providers took and failed eight times, or three times where other prompts are answered meanwhile.
"""

from __future__ import annotations

import math
from typing import Final, cast

from resilient_llm.decide.keys import Refusal
from resilient_llm.errors import DeadlineExceeded, NoProviderAvailable, ResilientError
from resilient_llm.options import ChatOptions, seconds

MOST_FAILED: Final = 3
"""Failed calls for one prompt while others are answered."""
MOST_ALONE: Final = 8
"""The same while nobody else is answered either."""
FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0
"""Seconds between two calls: doubling, up to the second."""

_LASTING = frozenset({Refusal.UNSUITABLE, Refusal.DRAINED, Refusal.ISOLATED, Refusal.QUOTA})
_PASSING: Final = frozenset(reason.value for reason in Refusal if reason not in _LASTING)


class Tries:
    """The calls for one prompt.  Times are monotonic; ``answered`` counts the prompts of the run answered so far."""

    def __init__(self, options: ChatOptions, usual: float, began: float, answered: int) -> None:
        """``usual``: the seconds a call may take that does not say otherwise."""
        self.options: ChatOptions = options
        """What the next call is given."""
        self._usual = usual
        self._began = began
        self._answered = answered
        self._calls = 0
        self._failed = self._beside = 0

    def wait_after(self, error: Exception, now: float, answered: int) -> float | None:
        """Seconds after which the prompt is asked again; ``None``: the error is its result."""
        self._calls += 1
        self._beside += answered > self._answered
        self._answered = answered
        if not isinstance(error, ResilientError) or not _may_pass(error):
            return None
        self._failed += error.kind is not None
        if self._beside >= MOST_FAILED or self._failed >= MOST_ALONE:
            return None
        allowance = seconds(self.options["deadline"]) if "deadline" in self.options else self._usual
        wait = max(min(FIRST_WAIT * 2.0 ** min(self._calls - 1, 10), LONGEST_WAIT), error.retry_after or 0.0)
        left = self._began + allowance - now - wait
        if left <= 0.0:
            return None
        self.options = cast(ChatOptions, {**self.options, "deadline": left if left < math.inf else None})
        self._began = now + wait
        return wait


def _may_pass(error: ResilientError) -> bool:
    """Whether it is no fault of the prompt, and no verdict on the account."""
    if not error.retryable or isinstance(error, DeadlineExceeded):
        return False
    if isinstance(error, NoProviderAvailable) and error.kind is None:
        return not _PASSING.isdisjoint(error.reasons.values())
    return True
