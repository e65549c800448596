"""Anthropic Messages: whole answers and errors, in both directions."""

from __future__ import annotations

from resilient_llm.errors import Fault, FaultKind
from resilient_llm.model import ChatResponse
from resilient_llm.wire.anthropic import parts as p
from resilient_llm.wire.kit import fields as f
from resilient_llm.wire.kit.reasons import calls

ERROR_TYPES = {
    FaultKind.RATE_LIMITED: "rate_limit_error",
    FaultKind.QUOTA_EXHAUSTED: "billing_error",
    FaultKind.OVERLOADED: "overloaded_error",
    FaultKind.TIMEOUT: "timeout_error",
    FaultKind.AUTH: "authentication_error",
    FaultKind.PERMISSION: "permission_error",
    FaultKind.NOT_FOUND_MODEL: "not_found_error",
    **dict.fromkeys((FaultKind.BAD_REQUEST, FaultKind.CONTEXT_LENGTH), "invalid_request_error"),
    **dict.fromkeys((FaultKind.CONTENT_FILTER, FaultKind.UNSUPPORTED), "invalid_request_error"),
    FaultKind.SEALED_REASONING: "invalid_request_error",
    FaultKind.PAYLOAD_TOO_LARGE: "request_too_large",
    FaultKind.CONFLICT: "conflict_error",
}
"""The vendor's word for each kind of failure; ``api_error`` for the others."""


def encode_error(fault: Fault, message: str) -> f.Fields:
    """The body of an error answer; the SDK picks its exception by the status sent with it."""
    body = error_body(ERROR_TYPES.get(fault.kind, "api_error"), message)
    return body | {"request_id": fault.request_id} if fault.request_id else body


def decode_response(raw: f.Fields) -> ChatResponse:
    """A whole answer.  Raises ``Malformed``."""
    fields = dict(raw)
    if "content" not in fields or fields.get("type", "message") != "message":
        raise f.Malformed("no message")
    parts = tuple(p.decode_block(block) for block in f.list_of(fields.pop("content"), "content"))
    usage, reason = f.take_object(fields, "usage"), f.take_text(fields, "stop_reason")
    for name in ("role", "type"):
        fields.pop(name, None)
    return ChatResponse(
        parts,
        p.REASONS.neutral(reason, calls(parts)),
        reason,
        None if usage is None else p.decode_usage(usage),
        f.take_text(fields, "id") or "",
        f.take_text(fields, "model") or "",
        extra=f.unread(p.WIRE, fields),
        raw=raw,
    )


def encode_response(response: ChatResponse) -> f.Fields:
    """The answer as a client of this wire expects it.  Only the first of several choices has a place."""
    body = message_body(response.id, response.model) | {
        "content": [block for part in response.parts if (block := p.encode_part(part)) is not None],
        "stop_reason": p.REASONS.word(response.finish_reason, response.raw_finish_reason),
        "usage": p.encode_usage(response.usage),
    }
    return body | f.own_fields(response.extra, p.WIRE)


def message_body(name: str, model: str) -> f.Fields:
    """An answer nothing has been said in yet."""
    return {
        "id": name or "msg_0",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 0, "output_tokens": 0},
    }


def error_body(kind: str, message: str) -> f.Fields:
    """An error as this wire words it."""
    return {"type": "error", "error": {"type": kind, "message": message}}
