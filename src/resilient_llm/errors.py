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

Each of them, ``ProviderError`` included, has the same facts, so that a web handler can answer without asking for the
class: ``kind``, ``status_code``, ``retry_after``, ``retryable``, ``provider`` and ``request_id``, ``None`` where there
is none (see :class:`ResilientError`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from resilient_llm.faults import AttemptRecord, Fault, FaultKind, FaultScope

if TYPE_CHECKING:
    from resilient_llm.model import ChatResponse

__all__ = [
    "AllAttemptsFailed",
    "AttemptRecord",
    "CallFailed",
    "ClientClosed",
    "ConfigurationError",
    "DeadlineExceeded",
    "Fault",
    "FaultKind",
    "FaultScope",
    "InvalidAnswer",
    "InvalidRequest",
    "NoProviderAvailable",
    "ProviderError",
    "RequestRejected",
    "ResilientError",
    "StreamInterrupted",
    "UnsupportedFeature",
]


_PASSING = frozenset(
    {
        FaultKind.RATE_LIMITED,
        FaultKind.OVERLOADED,
        FaultKind.SERVER_ERROR,
        FaultKind.TIMEOUT,
        FaultKind.CONNECTION,
        FaultKind.CONFLICT,
        FaultKind.INVALID_RESPONSE,
    }
)
"""What may be over when the same call is made again."""


class ResilientError(Exception):
    """Root of everything this library raises on its own account.

    ``retry_after``: the earliest time in seconds at which trying again makes sense; ``None``: unknown.
    """

    retry_after: float | None = None

    @property
    def kind(self) -> FaultKind | None:
        """What went wrong at the provider that decided the failure; ``None`` if no provider was asked."""
        return None

    @property
    def status_code(self) -> int | None:
        """The HTTP status of that provider; ``None`` if it sent none."""
        return None

    @property
    def retryable(self) -> bool:
        """Whether the same call may succeed later, unchanged."""
        return False

    @property
    def provider(self) -> str | None:
        """The id of that provider; ``None`` if none was asked."""
        return None

    @property
    def request_id(self) -> str | None:
        """The provider's own id of the request, for its support; ``None`` if it sent none."""
        return None


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
        self.provider: str | None = None
        self.request_id: str | None = None

    @property
    def status_code(self) -> int | None:
        """The same as ``status``."""
        return self.status

    @property
    def retryable(self) -> bool:
        """Whether the same call may succeed later, unchanged."""
        return self.kind in _PASSING


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

    @property
    def kind(self) -> FaultKind | None:
        return self.fault.kind if self.fault is not None else None

    @property
    def status_code(self) -> int | None:
        return self.fault.status if self.fault is not None else None

    @property
    def retryable(self) -> bool:
        """Whether the same call may succeed later, unchanged; also true if nobody could be asked in time."""
        return self.kind is None or self.kind in _PASSING

    @property
    def provider(self) -> str | None:
        """The provider that decided it: the last one that failed."""
        ended = [record for record in self.attempts if record.fault is not None]
        same = [record for record in ended if record.fault == self.fault]
        decisive = same or ended
        return decisive[-1].provider if decisive else None

    @property
    def request_id(self) -> str | None:
        return self.fault.request_id if self.fault is not None else None

    def __str__(self) -> str:
        trail = "; ".join(_describe(record) for record in self.attempts)
        return f"{self.message} ({trail})" if trail else self.message


class RequestRejected(CallFailed):
    """The request itself is at fault (malformed, too long, filtered): other providers would say the same."""

    @property
    def retryable(self) -> bool:
        return False


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

    @property
    def retryable(self) -> bool:
        return True


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


_WORDS = 160
"""Characters of a provider's own words in a message; they are scrubbed where the fault is made."""


def _describe(record: AttemptRecord) -> str:
    """One attempt, with the words of the provider or the operating system."""
    fault = record.fault
    what = fault.kind if fault is not None else record.outcome
    status = f" {record.status}" if record.status is not None else ""
    words = " ".join(fault.message.split()) if fault is not None else ""
    words = words if len(words) <= _WORDS else f"{words[: _WORDS - 1]}…"
    told = f"{record.number}. {record.provider}: {what}{status} after {record.duration:.3g} s"
    return f"{told}: {words}" if words else told
