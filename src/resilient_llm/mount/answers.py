"""What an SDK is told: answers, failures and what is known about them, on its own wire.  Nothing here waits."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace

from resilient_llm.decide.keys import Refusal
from resilient_llm.errors import (
    AttemptRecord,
    CallFailed,
    DeadlineExceeded,
    Fault,
    FaultKind,
    NoProviderAvailable,
    RequestRejected,
)
from resilient_llm.model import ChatResponse, Degradation, EmbedRequest, EmbedResponse, JsonObject
from resilient_llm.wire import Codec, EmbedCodec

_THROTTLED = frozenset({FaultKind.RATE_LIMITED, FaultKind.QUOTA_EXHAUSTED})
_REASONS = frozenset(refusal.value for refusal in Refusal)
_PRINTABLE = 256
"""Characters of a header of ours."""
_JSON = "application/json"
_ID: Mapping[str, str] = {"anthropic_messages": "request-id"}
"""The header in which an SDK looks for the id of a request, where it is another one than OpenAI's."""


def answered(codec: Codec, response: ChatResponse) -> dict[str, str]:
    """The headers of a whole answer, but for what its provider could not express."""
    return headers(codec.name, _JSON, response.provider, response.model, len(response.attempts))


def streamed(codec: Codec, provider: str, model: str, attempts: int) -> dict[str, str]:
    """The same of a stream."""
    return headers(codec.name, "text/event-stream; charset=utf-8", provider, model, attempts)


def whole(codec: Codec, wire: str | None, response: ChatResponse) -> bytes:
    """The body of a whole answer.  Of a provider of the same wire (``wire``) it is what that one sent, unknown fields
    included."""
    if response.body is not None:
        return response.body
    if wire == codec.name and response.raw is not None:
        return _dumped(response.raw)
    return codec.encode_response(response)


def _dumped(raw: JsonObject) -> bytes:
    return json.dumps(raw, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")


def embedded(
    codec: EmbedCodec, response: EmbedResponse, request: EmbedRequest, *, own: bool
) -> tuple[dict[str, str], bytes]:
    """Headers and body of vectors: of the SDK's own vendor (``own``) what that one sent, unless it was asked for them
    in parts."""
    found = headers(codec.name, _JSON, response.provider, response.model, len(response.attempts))
    if own and response.raw is not None:
        return found, _dumped(response.raw)
    return found, codec.encode_response(response, request)


def headers(wire: str, content_type: str, provider: str, model: str, attempts: int) -> dict[str, str]:
    """The headers of every answer to an SDK that speaks this wire."""
    return {
        "content-type": content_type,
        _ID.get(wire, "x-request-id"): f"req_{os.urandom(12).hex()}",
        "x-resilient-llm-provider": _printable(provider),
        "x-resilient-llm-model": _printable(model),
        "x-resilient-llm-attempts": str(attempts),
    }


def degraded(lost: Iterable[Degradation]) -> dict[str, str]:
    """The header that names what the provider could not express; none if nothing was lost."""
    named = sorted({one.feature for one in lost})
    return {"x-resilient-llm-degraded": _printable(", ".join(named))} if named else {}


def failed(codec: Codec, failure: CallFailed, wire: str | None) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body for a call that nobody answered.  An SDK makes its own exception of it, at once.  What
    the provider asked last said is passed on if its wire (``wire``) is the SDK's: no program knows other words."""
    status = status_of(failure)
    model = failure.attempts[-1].model if failure.attempts else ""
    found = headers(codec.name, _JSON, failure.provider or "", model, len(failure.attempts))
    found["x-should-retry"] = "false"
    wait = failure.retry_after
    if wait is not None and math.isfinite(wait) and wait >= 0:
        found["retry-after"] = str(math.ceil(wait))
        found["retry-after-ms"] = str(math.ceil(wait * 1000))
    return status, found, codec.encode_error(_fault(failure, status, own=wire == codec.name), str(failure))


def broken(codec: Codec, failure: CallFailed, wire: str | None) -> bytes:
    """The frame that ends a stream which broke.  ``wire`` as for :func:`failed`."""
    fault = _fault(failure, status_of(failure), own=wire == codec.name)
    return codec.encode_stream_error(fault, str(failure))


def refused(codec: Codec, status: int, kind: FaultKind, message: str) -> tuple[int, dict[str, str], bytes]:
    """The same for a request that was sent to nobody."""
    found = {"content-type": "application/json", "x-should-retry": "false"}
    return status, found, codec.encode_error(Fault(kind, status=status, message=message), message)


def status_of(failure: CallFailed) -> int:
    """The status that makes an SDK raise the exception its user expects: that of the providers where they agree."""
    given = failure.status_code
    if isinstance(failure, RequestRejected):
        return given if given is not None and 400 <= given < 500 else 400
    faults = [record.fault for record in failure.attempts if record.fault is not None]
    if all(fault.kind in _THROTTLED for fault in faults) if faults else _all_throttled(failure):
        return 429
    statuses = {_error_status(record) for record in failure.attempts if record.fault is not None}
    if len(statuses) == 1 and None not in statuses:
        return next(status for status in statuses if status is not None)
    late = isinstance(failure, DeadlineExceeded) and all(fault.kind is FaultKind.TIMEOUT for fault in faults)
    return 504 if late else 503


def nobody_in_time(failure: CallFailed) -> bool:
    """Whether a call failed for want of time: somebody was still silent at its end, or nobody could be asked."""
    late = [_is(record, FaultKind.TIMEOUT) for record in failure.attempts if record.fault is not None]
    if isinstance(failure, DeadlineExceeded):
        return not late or any(late)
    return bool(late) and all(late)


def nobody_reached(failure: CallFailed) -> bool:
    """Whether a call failed because no connection held long enough."""
    lost = [_is(record, FaultKind.CONNECTION) for record in failure.attempts if record.fault is not None]
    return bool(lost) and all(lost)


def _is(record: AttemptRecord, kind: FaultKind) -> bool:
    """Whether an attempt failed so without its provider having said it."""
    return record.fault is not None and record.fault.kind is kind and _error_status(record) is None


def _all_throttled(failure: CallFailed) -> bool:
    """Whether nobody was asked because everybody who could be has asked us to wait."""
    if not isinstance(failure, NoProviderAvailable):
        return False
    told = {reason for reason in failure.reasons.values() if reason in _REASONS}
    return bool(told) and told <= {Refusal.GATED, Refusal.PACE}


def _error_status(record: AttemptRecord) -> int | None:
    return record.status if record.status is not None and record.status >= 400 else None


def _fault(failure: CallFailed, status: int, *, own: bool) -> Fault:
    known = failure.fault or Fault(FaultKind.OVERLOADED)
    known = replace(known, status=status, message=str(failure))
    return known if own else replace(known, code=None, body=None)


def _printable(text: str) -> str:
    """Fit for a header."""
    if not (text.isascii() and text.isprintable()):
        text = "".join(one if " " <= one <= "~" else "?" for one in text)
    return text[:_PRINTABLE]
