"""How an attempt that failed travels from the place that notices to the loop that decides, and what it means."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace

from resilient_llm import wire
from resilient_llm.errors import (
    CallFailed,
    Fault,
    FaultKind,
    FaultScope,
    InvalidAnswer,
    InvalidRequest,
    NoProviderAvailable,
)
from resilient_llm.providers.credentials import KeyUnavailable
from resilient_llm.providers.secrecy import contains_secret

_CHAIN = 16  # exceptions behind an exception: more than any HTTP library has, and a chain may be a circle
_NOT_SENT = frozenset(
    {
        "ClientConnectorError",
        "ConnectError",
        "ConnectTimeout",
        "ConnectionTimeoutError",
        "PoolTimeout",
        "ProxyError",
    }
)
"""Exceptions of HTTP libraries after which the request cannot have reached anybody."""


class AttemptFailed(Exception):
    """An attempt failed, and this is what it means.  Never leaves the driver."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message or str(fault.kind))
        self.fault = fault


def fault_of(error: Exception) -> Fault:
    """What an exception of an attempt means."""
    if isinstance(error, AttemptFailed):
        return error.fault
    if isinstance(error, InvalidAnswer):
        return Fault(FaultKind.INVALID_RESPONSE, message=error.message)
    if isinstance(error, KeyUnavailable):
        return Fault(FaultKind.AUTH, scope=FaultScope.CREDENTIAL, code="not_sent", message=str(error))
    fault = wire.classify_exception(error)
    not_sent = any(one.__name__ in _NOT_SENT for one in type(error).__mro__)
    return replace(fault, code="not_sent") if not_sent else fault


def no_key_in_time(name: str) -> Fault:
    """What it means if a key does not come: nothing was sent, and no provider is to blame."""
    message = f"{name} gave no key in time"
    return Fault(FaultKind.TIMEOUT, scope=FaultScope.LOCAL, code="not_sent", message=message)


def cause_of(error: BaseException, *, keep_frames: bool) -> BaseException | None:
    """The exception behind a failed attempt.

    Without its frames where they are those of an HTTP library: their variables hold the key, which tools that record
    variables would show, and whole answers, which would live as long as the error.
    """
    cause = error.__cause__ if isinstance(error, AttemptFailed) else error
    found = None if keep_frames else cause
    for _ in range(_CHAIN):
        if found is None:
            break
        found.__traceback__ = None
        if getattr(found, "_request", None) is not None:
            found.request = None  # type: ignore[attr-defined] # httpx's; it holds the headers, and the key in them
        found = found.__cause__ or found.__context__
    return cause


def shows(error: BaseException, *secrets: str | None) -> bool:
    """Whether an exception, or one behind it, says a secret: a provider may echo one in a line an HTTP library
    quotes."""
    found: BaseException | None = error
    for _ in range(_CHAIN):
        if found is None:
            break
        if contains_secret(f"{found!s} {found!r}", *secrets):
            return True
        found = found.__cause__ or found.__context__
    return False


def tell_skipped(failure: CallFailed, unsuitable: Mapping[str, str]) -> None:
    """Say in an error whom the call could not ask, and why; one about everybody says so already."""
    if unsuitable and not isinstance(failure, NoProviderAvailable):
        told = "; ".join(f"{provider}: {reason}" for provider, reason in unsuitable.items())
        failure.message = f"{failure.message}; not asked: {told}"
        failure.args = (failure.message,)


def rejection(verdict: object) -> Fault | None:
    """What a verdict of the caller's check means for the attempt.  Raises ``InvalidRequest`` for one that would
    have to be awaited."""
    if verdict is not None and inspect.isawaitable(verdict):
        if inspect.iscoroutine(verdict):
            verdict.close()
        raise InvalidRequest("validate= returned an awaitable, which only AsyncResilientClient can wait for")
    if isinstance(verdict, ValueError):
        return Fault(FaultKind.INVALID_RESPONSE, scope=FaultScope.REQUEST, message=str(verdict)[:200])
    if verdict is False:
        return Fault(FaultKind.INVALID_RESPONSE, scope=FaultScope.REQUEST, message="validate= rejected the answer")
    return None
