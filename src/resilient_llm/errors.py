"""Everything this library raises, and the vocabulary of failure it is built on.

::

    ResilientError
    ├── ConfigurationError (ValueError)    a setting, provider or key is wrong; raised when it is given
    ├── InvalidRequest (ValueError)        the call itself is wrong; nothing was sent
    ├── UnsupportedFeature                 a wire format cannot express part of a request
    ├── InvalidAnswer                      bytes from a provider are not an answer
    ├── ClientClosed (RuntimeError)        the client was used after it was closed
    └── CallFailed                         the call got no answer: .attempts, .retry_after, .fault
        ├── RequestRejected                the provider says the request is at fault; asking others won't help
        ├── AllAttemptsFailed              every attempt that was allowed failed
        ├── NoProviderAvailable            nobody could be asked now: .reasons per provider
        ├── DeadlineExceeded (TimeoutError)    time ran out
        └── StreamInterrupted              a stream broke after content was handed over: .partial

    ProviderError                          for providers you write: raise it to say what went wrong

A :class:`CallFailed` is raised from the last attempt's own exception, if it had one, and carries the whole trail.
No message, repr or attribute here holds a credential.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from resilient_llm.model import ChatResponse


class FaultKind(StrEnum):
    """What went wrong, in one vocabulary for all vendors."""

    RATE_LIMITED = "rate_limited"  # our own limit; waiting helps
    QUOTA_EXHAUSTED = "quota_exhausted"  # money or a long quota; waiting a little does not help
    OVERLOADED = "overloaded"  # the vendor has no capacity
    SERVER_ERROR = "server_error"
    TIMEOUT = "timeout"
    CONNECTION = "connection"  # refused, reset, DNS, TLS, cut short
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
    MISCONFIGURED = "misconfigured"  # the endpoint does not speak the expected API: a wrong base_url, a redirect
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
    vendor's machine-readable word, ``message`` its text, shortened and scrubbed of anything like a key.
    """

    kind: FaultKind
    retry_after: float | None = None
    scope: FaultScope = FaultScope.ENDPOINT
    status: int | None = None
    code: str | None = None
    message: str = ""
    trust_hint: bool = True
    request_id: str | None = None


class AttemptRecord(NamedTuple):
    """One attempt of a call, for the trail on responses and errors.

    ``kind`` says why it was made: ``initial``, ``retry`` (same provider), ``failover`` (another one), ``hedge``
    (while another still ran), ``probe`` (to find out whether the provider recovered), ``explore`` (to find out how one
    is that has not been heard of for a while).  ``outcome`` is ``success``, ``error`` or ``cancelled``; ``fault`` is
    ``None`` unless it is ``error``.  ``duration`` and ``delay`` (the wait before it) are seconds.
    """

    number: int
    provider: str
    model: str
    kind: str
    outcome: str
    fault: Fault | None
    status: int | None
    duration: float
    delay: float = 0.0


class ResilientError(Exception):
    """Root of everything this library raises on its own account."""


class ConfigurationError(ResilientError, ValueError):
    """A setting is wrong; the message names the value and what would be right."""


class InvalidRequest(ResilientError, ValueError):
    """The call is malformed; nothing was sent and no state changed."""


class UnsupportedFeature(ResilientError):
    """A wire format or model cannot express ``feature`` of the request."""

    def __init__(self, feature: str, target: str) -> None:
        super().__init__(feature, target)
        self.feature = feature
        self.target = target

    def __str__(self) -> str:
        return f"{self.target} cannot express {self.feature}"


class InvalidAnswer(ResilientError):
    """What a provider sent with a success status is not an answer.

    ``payload`` is the parsed body if it was JSON (an error object, say), else ``None``.
    """

    def __init__(self, message: str, payload: object = None) -> None:
        super().__init__(message, payload)
        self.message = message
        self.payload = payload

    def __str__(self) -> str:
        return self.message


class ClientClosed(ResilientError, RuntimeError):
    """The client was used after ``close()``."""


class ProviderError(Exception):
    """For providers you write yourself: raise it from ``chat`` or ``stream`` to say exactly what went wrong.

    Any other exception is classified by what it carries (a status, a response, its place among the built-in
    timeouts and connection errors) and counts as a server error if it carries nothing.
    """

    def __init__(
        self,
        message: str = "",
        *,
        kind: FaultKind = FaultKind.SERVER_ERROR,
        status: int | None = None,
        retry_after: float | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.status = status
        self.retry_after = retry_after
        self.code = code


class CallFailed(ResilientError):
    """The call got no answer.

    ``attempts`` is the trail, oldest first; ``retry_after`` the earliest time in seconds at which trying again makes
    sense (``None``: unknown); ``fault`` the failure that decided it (``None`` if no attempt was made).
    """

    def __init__(
        self,
        message: str,
        attempts: tuple[AttemptRecord, ...] = (),
        retry_after: float | None = None,
        fault: Fault | None = None,
    ) -> None:
        # The message alone: TimeoutError is an OSError and would take further arguments for an errno and a file name.
        super().__init__(message)
        self.message = message
        self.attempts = attempts
        self.retry_after = retry_after
        self.fault = fault

    def __str__(self) -> str:
        trail = "; ".join(_describe(record) for record in self.attempts)
        return f"{self.message} ({trail})" if trail else self.message


class RequestRejected(CallFailed):
    """The request itself is at fault (malformed, too long, filtered): other providers would say the same."""


class AllAttemptsFailed(CallFailed):
    """Every attempt the policy and the budgets allowed was made and failed."""


class NoProviderAvailable(CallFailed):
    """No provider could be asked.  ``reasons`` says why not, per provider id."""

    def __init__(
        self,
        message: str,
        attempts: tuple[AttemptRecord, ...] = (),
        retry_after: float | None = None,
        fault: Fault | None = None,
        reasons: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, attempts, retry_after, fault)
        self.reasons: Mapping[str, str] = dict(reasons or {})


class DeadlineExceeded(CallFailed, TimeoutError):
    """The call's deadline passed, or the next wait would not have fitted into it."""


class StreamInterrupted(CallFailed):
    """The stream broke after content had been handed over; ``partial`` is what had arrived, never ``None``."""

    def __init__(
        self,
        message: str,
        attempts: tuple[AttemptRecord, ...] = (),
        retry_after: float | None = None,
        fault: Fault | None = None,
        partial: ChatResponse | None = None,
    ) -> None:
        super().__init__(message, attempts, retry_after, fault)
        if partial is None:
            from resilient_llm.model import ChatResponse as Answer  # noqa: PLC0415 - only needed where nobody has one

            partial = Answer((), "error")
        self.partial: ChatResponse = partial


def _describe(record: AttemptRecord) -> str:
    what = record.fault.kind if record.fault else record.outcome
    status = f" {record.status}" if record.status is not None else ""
    return f"{record.number}. {record.provider}: {what}{status} after {record.duration:.3g} s"
