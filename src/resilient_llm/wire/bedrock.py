"""Bedrock Converse (``POST /model/{id}/converse[-stream]``) in both directions, and Titan embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from resilient_llm.errors import Fault, FaultKind, UnsupportedFeature
from resilient_llm.model import ChatRequest, ChatResponse, EmbedRequest, EmbedResponse, Usage
from resilient_llm.wire import eventstream
from resilient_llm.wire._bedrock_blocks import (
    NAME,
    decode_block,
    decode_usage,
    encode_part,
    encode_usage,
    finish_reason,
    stop_reason,
)
from resilient_llm.wire._bedrock_request import decode_request, encode_request, path_of
from resilient_llm.wire._bedrock_stream import Decoder, Encoder
from resilient_llm.wire.codec import HttpRequest
from resilient_llm.wire.fields import (
    Fields,
    Malformed,
    dump,
    items_of,
    leftovers,
    merge_own,
    own,
    put,
    reading_answer,
    reading_request,
    take_count,
    take_fields,
    take_text,
    vector,
)
from resilient_llm.wire.notes import Notes

__all__ = ["CODEC", "NAME", "Bedrock", "decode_titan_embeddings", "encode_titan_embeddings"]

EXCEPTIONS = {
    FaultKind.RATE_LIMITED: "throttlingException",
    FaultKind.QUOTA_EXHAUSTED: "throttlingException",
    FaultKind.OVERLOADED: "serviceUnavailableException",
    FaultKind.TIMEOUT: "modelTimeoutException",
    FaultKind.AUTH: "unrecognizedClientException",
    FaultKind.PERMISSION: "accessDeniedException",
    FaultKind.NOT_FOUND_MODEL: "resourceNotFoundException",
    FaultKind.BAD_REQUEST: "validationException",
    FaultKind.CONTEXT_LENGTH: "validationException",
    FaultKind.CONTENT_FILTER: "validationException",
    FaultKind.UNSUPPORTED: "validationException",
    FaultKind.PAYLOAD_TOO_LARGE: "validationException",
    FaultKind.CONFLICT: "conflictException",
    FaultKind.INVALID_RESPONSE: "modelErrorException",
}
"""The vendor's word for each kind of failure; ``internalServerException`` for the others."""


@dataclass(frozen=True, slots=True)
class Bedrock:
    """The codec."""

    @property
    def name(self) -> str:
        return NAME

    def decode_request(self, body: bytes, path: str = "") -> ChatRequest:
        """A caller's request; ``path`` carries the model and whether to stream.  Raises ``InvalidRequest``."""
        return reading_request(NAME, body, lambda fields: decode_request(fields, path))

    def encode_request(self, request: ChatRequest) -> HttpRequest:
        """The request for a provider of this wire.  Raises ``UnsupportedFeature``."""
        notes = Notes(NAME)
        body = encode_request(request, notes)
        return HttpRequest(path_of(request), dump(body), degradations=notes.all())

    def decode_response(self, body: bytes) -> ChatResponse:
        """A whole answer.  Raises ``InvalidAnswer``."""
        return reading_answer(NAME, body, _decode_response)

    def encode_response(self, response: ChatResponse) -> bytes:
        """The answer as a client of this wire expects it.  Only the first of several choices has a place."""
        blocks = [encode_part(part) for part in response.parts]
        content = [block for block in blocks if block is not None]
        body: Fields = {
            "output": {"message": {"role": "assistant", "content": content}},
            "stopReason": stop_reason(response.finish_reason, response.raw_finish_reason),
            "metrics": {"latencyMs": 0},
        }
        put(body, usage=None if response.usage is None else encode_usage(response.usage))
        return dump(body | own(response.extra, NAME))

    def stream_decoder(self) -> Decoder:
        return Decoder()

    def stream_encoder(self, request: ChatRequest | None = None) -> Encoder:
        return Encoder()

    def encode_error(self, fault: Fault, message: str) -> bytes:
        """The body of an error answer.  The vendor names the type in the ``x-amzn-ErrorType`` header; clients also look
        for it here."""
        kind = EXCEPTIONS.get(fault.kind, "internalServerException")
        return dump({"__type": kind[0].upper() + kind[1:], "message": message})

    def encode_stream_error(self, fault: Fault, message: str) -> bytes:
        """An exception frame."""
        kind = EXCEPTIONS.get(fault.kind, "internalServerException")
        return eventstream.exception(kind, dump({"message": message}))


def _decode_response(raw: Fields) -> ChatResponse:
    fields = dict(raw)
    message = take_fields(take_fields(fields, "output") or {}, "message")
    if message is None:
        raise Malformed("no message")
    parts = tuple(decode_block(block) for block in items_of(message.get("content"), "content"))
    usage, reason = take_fields(fields, "usage"), take_text(fields, "stopReason")
    return ChatResponse(
        parts,
        finish_reason(reason),
        reason,
        None if usage is None else decode_usage(usage),
        extra=leftovers(NAME, fields),
        raw=raw,
    )


CODEC = Bedrock()
"""The codec."""


# --- Titan embeddings -------------------------------------------------------------------------------------------------


def encode_titan_embeddings(request: EmbedRequest) -> HttpRequest:
    """The request for one text.  Titan takes no more at a time: raises ``UnsupportedFeature`` for several."""
    if len(request.inputs) != 1:
        raise UnsupportedFeature("several inputs", request.model)
    body: Fields = put({"inputText": request.inputs[0]}, dimensions=request.dimensions)
    merge_own(body, request.extra, NAME)
    return HttpRequest(f"/model/{quote(request.model, safe='', errors='replace')}/invoke", dump(body))


def decode_titan_embeddings(body: bytes) -> EmbedResponse:
    """The vector.  Raises ``InvalidAnswer``."""
    return reading_answer("Titan", body, _decode_embedding)


def _decode_embedding(raw: Fields) -> EmbedResponse:
    numbers = vector(raw.get("embedding"))
    if not numbers:
        raise Malformed("the embedding is empty")
    return EmbedResponse((numbers,), usage=Usage(input_tokens=take_count(dict(raw), "inputTextTokenCount")), raw=raw)
