"""What a web application answers when a call got no answer: one table, also the one in ``docs/endpoints.md``."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from resilient_llm.decide.keys import Refusal
from resilient_llm.errors import (
    AllAttemptsFailed,
    ClientClosed,
    DeadlineExceeded,
    FaultKind,
    InvalidRequest,
    NoProviderAvailable,
    RequestRejected,
    ResilientError,
    StreamInterrupted,
    UnsupportedFeature,
)


class HttpStatus(NamedTuple):
    """The status of an answer and the headers that belong to it (``retry-after`` in whole seconds, or none)."""

    status: int
    headers: dict[str, str]


class Rule(NamedTuple):
    """Errors of this class get this status.  ``case`` narrows it down: ``too_large``, ``unsuitable``, ``permanent``, or
    empty for all the others."""

    error: type[ResilientError]
    case: str
    status: int
    meaning: str


RULES: Final[tuple[Rule, ...]] = (
    Rule(InvalidRequest, "", 400, "the call is malformed; nothing was sent"),
    Rule(UnsupportedFeature, "", 400, "no configured provider's format can express it"),
    Rule(RequestRejected, "too_large", 413, "the request is too large"),
    Rule(RequestRejected, "", 400, "the provider refused the request itself: malformed, too long, filtered"),
    Rule(DeadlineExceeded, "", 504, "the call's deadline passed"),
    Rule(StreamInterrupted, "", 502, "the stream broke after content; what had come is in `error.partial`"),
    Rule(ClientClosed, "", 503, "this process is shutting down; `Retry-After: 1`"),
    Rule(NoProviderAvailable, "unsuitable", 400, "no configured provider can serve such a request"),
    Rule(NoProviderAvailable, "", 503, "nobody could be asked; `Retry-After` if known"),
    Rule(AllAttemptsFailed, "permanent", 502, "a key, model or address is wrong: trying again changes nothing"),
    Rule(AllAttemptsFailed, "", 503, "every attempt failed; `Retry-After` if known"),
)
"""The first rule that fits is the one.  Everything else is 500: a mistake in the program or its settings."""

_REFUSALS = frozenset(refusal.value for refusal in Refusal)


def http_status(error: BaseException) -> HttpStatus:
    """The HTTP status and headers with which to tell your own caller of this error; 500 for one that is no error of a
    call.

    ``retry-after`` goes with 503 where the error knows when trying again makes sense.  Statuses follow RFC 9110: 502
    and 504 say that the fault is upstream, 503 that trying again later helps.
    """
    for rule in RULES:
        if isinstance(error, rule.error) and (not rule.case or _is(error, rule.case)):
            return HttpStatus(rule.status, _retry_after(error) if rule.status == 503 else {})
    return HttpStatus(500, {})


def _is(error: ResilientError, case: str) -> bool:
    if case == "too_large":
        return error.kind is FaultKind.PAYLOAD_TOO_LARGE
    if case == "unsuitable":
        reasons = error.reasons.values() if isinstance(error, NoProviderAvailable) else ()
        return bool(reasons) and error.retry_after is None and not any(reason in _REFUSALS for reason in reasons)
    return not error.retryable and error.retry_after is None


def _retry_after(error: ResilientError) -> dict[str, str]:
    seconds = 1.0 if isinstance(error, ClientClosed) else error.retry_after
    if seconds is None or not math.isfinite(seconds):
        return {}
    return {"retry-after": str(max(1, math.ceil(seconds)))}
