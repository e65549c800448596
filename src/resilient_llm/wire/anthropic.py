"""Anthropic Messages (``POST /v1/messages``), in both directions."""

from __future__ import annotations

from dataclasses import dataclass

from resilient_llm.errors import Fault, FaultKind
from resilient_llm.model import ChatRequest, ChatResponse
from resilient_llm.wire._anthropic_blocks import (
    NAME,
    decode_block,
    decode_usage,
    encode_part,
    encode_usage,
    finish_reason,
    stop_reason,
)
from resilient_llm.wire._anthropic_request import VERSION, VERSION_2026, decode_request, encode_request
from resilient_llm.wire._anthropic_stream import Decoder, Encoder, error_body, frame, message_body
from resilient_llm.wire.codec import HttpRequest
from resilient_llm.wire.fields import (
    Fields,
    Malformed,
    dump,
    items_of,
    leftovers,
    own,
    reading_answer,
    reading_request,
    take_fields,
    take_text,
)
from resilient_llm.wire.notes import Notes

__all__ = ["CODEC", "NAME", "VERSION", "VERSION_2026", "Anthropic"]

ERROR_TYPES = {
    FaultKind.RATE_LIMITED: "rate_limit_error",
    FaultKind.QUOTA_EXHAUSTED: "billing_error",
    FaultKind.OVERLOADED: "overloaded_error",
    FaultKind.TIMEOUT: "timeout_error",
    FaultKind.AUTH: "authentication_error",
    FaultKind.PERMISSION: "permission_error",
    FaultKind.NOT_FOUND_MODEL: "not_found_error",
    FaultKind.BAD_REQUEST: "invalid_request_error",
    FaultKind.CONTEXT_LENGTH: "invalid_request_error",
    FaultKind.CONTENT_FILTER: "invalid_request_error",
    FaultKind.UNSUPPORTED: "invalid_request_error",
    FaultKind.PAYLOAD_TOO_LARGE: "request_too_large",
    FaultKind.CONFLICT: "conflict_error",
}
"""The vendor's word for each kind of failure; ``api_error`` for the others."""


@dataclass(frozen=True, slots=True)
class Anthropic:
    """The codec.  ``version`` is the value of the ``anthropic-version`` header.

    The default works on every platform.  ``2026-10-21`` has no sampling parameters, documents in assistant turns
    or citations on the user's text; a request that has them loses them, with a ``Degradation``.
    """

    version: str = VERSION

    @property
    def name(self) -> str:
        return NAME

    def decode_request(self, body: bytes, path: str = "") -> ChatRequest:
        """A caller's request.  Raises ``InvalidRequest``."""
        return reading_request(NAME, body, decode_request)

    def encode_request(self, request: ChatRequest) -> HttpRequest:
        """The request for a provider of this wire.  Raises ``UnsupportedFeature``."""
        notes = Notes(NAME)
        body = encode_request(request, self.version, notes)
        return HttpRequest("/v1/messages", dump(body), (("anthropic-version", self.version),), notes.all())

    def decode_response(self, body: bytes) -> ChatResponse:
        """A whole answer.  Raises ``InvalidAnswer``."""
        return reading_answer(NAME, body, _decode_response)

    def encode_response(self, response: ChatResponse) -> bytes:
        """The answer as a client of this wire expects it.  Only the first of several choices has a place."""
        blocks = [encode_part(part) for part in response.parts]
        body = message_body(response.id, response.model) | {
            "content": [block for block in blocks if block is not None],
            "stop_reason": stop_reason(response.finish_reason, response.raw_finish_reason),
            "usage": encode_usage(response.usage),
        }
        return dump(body | own(response.extra, NAME))

    def stream_decoder(self) -> Decoder:
        return Decoder()

    def stream_encoder(self, request: ChatRequest | None = None) -> Encoder:
        return Encoder()

    def encode_error(self, fault: Fault, message: str) -> bytes:
        """The body of an error answer; the SDK picks its exception by the status sent with it."""
        return dump(_error(fault, message))

    def encode_stream_error(self, fault: Fault, message: str) -> bytes:
        """An ``error`` event."""
        return frame(_error(fault, message))


def _error(fault: Fault, message: str) -> Fields:
    body = error_body(ERROR_TYPES.get(fault.kind, "api_error"), message)
    return body | {"request_id": fault.request_id} if fault.request_id else body


def _decode_response(raw_body: Fields) -> ChatResponse:
    fields = dict(raw_body)
    if "content" not in fields or fields.get("type", "message") != "message":
        raise Malformed("no message")
    parts = tuple(decode_block(block) for block in items_of(fields.pop("content"), "content"))
    usage, raw = take_fields(fields, "usage"), take_text(fields, "stop_reason")
    for name in ("role", "type"):
        fields.pop(name, None)
    return ChatResponse(
        parts,
        finish_reason(raw),
        raw,
        None if usage is None else decode_usage(usage),
        take_text(fields, "id") or "",
        take_text(fields, "model") or "",
        extra=leftovers(NAME, fields),
        raw=raw_body,
    )


CODEC = Anthropic()
"""The codec with the API version that every platform understands."""
