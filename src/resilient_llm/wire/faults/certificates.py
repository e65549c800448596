"""What it means that one side of a TLS connection does not accept the certificate of the other.

Read from what OpenSSL says, whichever library passes it on; nothing was processed, since no request is before the
handshake is over.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from resilient_llm.errors import Fault, FaultKind

_CLOCK: Final = "it must be renewed there, or the clock of this machine is wrong"
_NAME: Final = "is base_url= right?"
_ROOTS: Final = "if an authority of your own or a proxy issued it, name its file in verify= of the provider"
_HINTS: Final = {9: _CLOCK, 10: _CLOCK, 18: _ROOTS, 19: _ROOTS, 20: _ROOTS, 21: _ROOTS, 62: _NAME, 63: _NAME, 64: _NAME}
"""What helps, by OpenSSL's code for why a certificate is not accepted."""

_WANTED: Final = "CERTIFICATE_REQUIRED"
_REFUSED: Final = (
    "BAD_CERTIFICATE",
    "UNSUPPORTED_CERTIFICATE",
    "CERTIFICATE_REVOKED",
    "CERTIFICATE_EXPIRED",
    "CERTIFICATE_UNKNOWN",
    "UNKNOWN_CA",
    "ACCESS_DENIED",
)
"""Ends of OpenSSL's names for what the other side says of ours."""
_NONE_SHOWN: Final = "HANDSHAKE_FAILURE"
"""What older versions of TLS say where one is wanted."""


def of_certificate(chain: Iterable[BaseException]) -> Fault | None:
    """What exceptions mean in which OpenSSL speaks of certificates; ``None``: it does not."""
    for link in chain:
        code, reason = getattr(link, "verify_code", None), getattr(link, "reason", None)
        if isinstance(code, int) and code:
            told = str(getattr(link, "verify_message", "")).rstrip(".")
            hint = _HINTS.get(code)
            return _fault(f"its TLS certificate is not accepted: {told}{f' ({hint})' if hint else ''}")
        if not isinstance(reason, str) or "_ALERT_" not in reason:
            continue
        if reason.endswith(_WANTED):
            return _fault("it wants to see a TLS certificate of yours: give cert= to the provider")
        if reason.endswith((*_REFUSED, _NONE_SHOWN)):
            said = reason.partition("_ALERT_")[2].lower().replace("_", " ")
            return _fault(f"it accepts no TLS certificate of yours, or wants one ({said}): see cert= of the provider")
    return None


def _fault(message: str) -> Fault:
    return Fault(FaultKind.MISCONFIGURED, code="not_sent", message=message)
