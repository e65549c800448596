"""The vocabulary of failure: what went wrong, whose fault it is, and the record of one attempt.

Users import these names from :mod:`resilient_llm.errors`.  They live apart from the exceptions because an answer
carries the trail of attempts too, and the exceptions carry answers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, NamedTuple, TypeAlias


class FaultKind(StrEnum):
    """What went wrong, in one vocabulary for all vendors."""

    RATE_LIMITED = "rate_limited"  # our own limit; waiting helps
    QUOTA_EXHAUSTED = "quota_exhausted"  # money or a long quota; waiting a little does not help
    OVERLOADED = "overloaded"  # the vendor has no capacity
    SERVER_ERROR = "server_error"
    TIMEOUT = "timeout"
    CONNECTION = "connection"  # refused, reset, DNS, cut short
    AUTH = "auth"  # the credential is wrong
    PERMISSION = "permission"  # the credential is right but may not do this
    NOT_FOUND_MODEL = "not_found_model"
    BAD_REQUEST = "bad_request"
    CONTEXT_LENGTH = "context_length"
    PAYLOAD_TOO_LARGE = "payload_too_large"
    CONTENT_FILTER = "content_filter"
    CONFLICT = "conflict"
    CLIENT_CLOSED = "client_closed"
    UNSUPPORTED = "unsupported"  # this provider or model lacks a feature the request needs
    INVALID_RESPONSE = "invalid_response"  # undecodable, or refused by the caller's validate=
    MISCONFIGURED = "misconfigured"  # a wrong base_url, a redirect; a TLS certificate that one side does not accept
    SEALED_REASONING = "sealed_reasoning"  # reasoning of earlier turns is sealed, and this provider does not accept it


class FaultScope(StrEnum):
    """Whom a fault concerns, so that no one else is blamed for it."""

    ENDPOINT = "endpoint"  # this provider's server
    CREDENTIAL = "credential"  # the key or its account
    MODEL = "model"
    REQUEST = "request"  # the caller
    LOCAL = "local"  # this machine


@dataclass(frozen=True, slots=True)
class Fault:
    """One provider's failure, classified.

    ``retry_after`` is the server's own hint in seconds (``None``: it gave none); ``trust_hint`` is false when the
    hint is real but obeying it would not help (a daily quota that says "retry in 17 s").  ``code`` is the
    vendor's machine-readable word, ``message`` its text, shortened and scrubbed of anything like a key.  ``body`` is
    its error answer, a JSON object as text, scrubbed likewise; ``None``: it sent none, or one of more than 8,000
    characters.
    """

    kind: FaultKind
    retry_after: float | None = None
    scope: FaultScope = FaultScope.ENDPOINT
    status: int | None = None
    code: str | None = None
    message: str = ""
    trust_hint: bool = True
    request_id: str | None = None
    body: str | None = field(default=None, repr=False, compare=False)


AttemptKind: TypeAlias = Literal["initial", "retry", "failover", "hedge", "trial"]
"""Why an attempt was made: the first of its call, again at the same provider, at another one, beside one that is late,
to test a provider whose breaker is open."""

AttemptOutcome: TypeAlias = Literal["success", "error", "cancelled"]
"""How an attempt ended."""


class AttemptRecord(NamedTuple):
    """One attempt of a call, for the trail on responses and errors.

    ``kind`` says why it was made: ``initial``, ``retry`` (same provider), ``failover`` (another one), ``hedge`` (beside
    one that is late), ``trial`` (to find out whether the provider is well again).  ``outcome`` is ``success``,
    ``error`` or ``cancelled``; ``fault`` is ``None`` unless it is ``error``.  ``duration`` and ``delay`` (the wait
    before it) are seconds.
    """

    number: int
    provider: str
    model: str
    kind: AttemptKind
    outcome: AttemptOutcome
    fault: Fault | None
    status: int | None
    duration: float
    delay: float = 0.0
