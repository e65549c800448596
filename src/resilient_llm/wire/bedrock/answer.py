"""Bedrock Converse: whole answers and errors, in both directions."""

from __future__ import annotations

from resilient_llm.errors import Fault, FaultKind
from resilient_llm.model import ChatResponse
from resilient_llm.wire.bedrock import parts as p
from resilient_llm.wire.kit import fields as f
from resilient_llm.wire.kit.reasons import calls

EXCEPTIONS = {
    FaultKind.RATE_LIMITED: "throttlingException",
    FaultKind.QUOTA_EXHAUSTED: "throttlingException",
    FaultKind.OVERLOADED: "serviceUnavailableException",
    FaultKind.TIMEOUT: "modelTimeoutException",
    FaultKind.AUTH: "unrecognizedClientException",
    FaultKind.PERMISSION: "accessDeniedException",
    FaultKind.NOT_FOUND_MODEL: "resourceNotFoundException",
    **dict.fromkeys((FaultKind.BAD_REQUEST, FaultKind.CONTEXT_LENGTH, FaultKind.CONTENT_FILTER), "validationException"),
    **dict.fromkeys((FaultKind.UNSUPPORTED, FaultKind.SEALED_REASONING), "validationException"),
    FaultKind.PAYLOAD_TOO_LARGE: "validationException",
    FaultKind.CONFLICT: "conflictException",
    FaultKind.INVALID_RESPONSE: "modelErrorException",
}
"""The vendor's word for each kind of failure; ``internalServerException`` for the others."""


def exception_of(fault: Fault) -> str:
    """The vendor's word for a failure."""
    return EXCEPTIONS.get(fault.kind, "internalServerException")


def encode_error(fault: Fault, message: str) -> f.Fields:
    """The body of an error answer.  The vendor names the type in the ``x-amzn-ErrorType`` header; clients also look for
    it here."""
    kind = exception_of(fault)
    return {"__type": kind[0].upper() + kind[1:], "message": message}


def decode_response(raw: f.Fields) -> ChatResponse:
    """A whole answer.  Raises ``Malformed``."""
    fields = dict(raw)
    message = f.take_object(f.take_object(fields, "output") or {}, "message")
    if message is None:
        raise f.Malformed("no message")
    parts = tuple(p.decode_block(block) for block in f.list_of(message.get("content"), "content"))
    usage, reason = f.take_object(fields, "usage"), f.take_text(fields, "stopReason")
    return ChatResponse(
        parts,
        p.REASONS.neutral(reason, calls(parts)),
        reason,
        None if usage is None else p.decode_usage(usage),
        extra=f.unread(p.WIRE, fields),
        raw=raw,
    )


def encode_response(response: ChatResponse) -> f.Fields:
    """The answer as a client of this wire expects it.  Only the first of several choices has a place."""
    content = [block for part in response.parts if (block := p.encode_part(part)) is not None]
    body: f.Fields = {
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": p.REASONS.word(response.finish_reason, response.raw_finish_reason),
        "metrics": {"latencyMs": 0},
    }
    f.put(body, usage=None if response.usage is None else p.encode_usage(response.usage))
    return body | f.own_fields(response.extra, p.WIRE)
