"""Whose fault a failed call was."""

from __future__ import annotations

from typing import Final

from resilient_llm.decide.keys import Refusal
from resilient_llm.errors import (
    ClientClosed,
    ConfigurationError,
    InvalidRequest,
    NoProviderAvailable,
    RequestRejected,
    UnsupportedFeature,
)

_STATES: Final = tuple(str(refusal) for refusal in Refusal if refusal is not Refusal.UNSUITABLE)
_CALLERS_OWN: Final = (InvalidRequest, ConfigurationError, ClientClosed, RequestRejected, UnsupportedFeature)


def caused_by_caller(error: BaseException) -> bool:
    """Whether a failed call says nothing about the service: it was cancelled, wrong, rejected, or asked for what no
    provider of the route has or may be paid for."""
    if not isinstance(error, Exception) or isinstance(error, _CALLERS_OWN):
        return True
    if not isinstance(error, NoProviderAvailable) or error.attempts or not error.reasons:
        return False
    return not any(reason.startswith(_STATES) for reason in error.reasons.values())
