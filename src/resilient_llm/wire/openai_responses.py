"""OpenAI Responses.

State that lives at the vendor (``previous_response_id``, ``conversation``, ``store``...) and built-in tools are kept in
an Extra of this wire; no other can express them.
"""

from __future__ import annotations

from resilient_llm.errors import Fault
from resilient_llm.model import ChatRequest, ChatResponse
from resilient_llm.wire import _responses_answer as answers
from resilient_llm.wire import _responses_request as requests
from resilient_llm.wire import sse
from resilient_llm.wire._openai_answer import encode_error, error_object
from resilient_llm.wire._responses_items import WIRE
from resilient_llm.wire._responses_stream import ResponsesStreamDecoder, ResponsesStreamEncoder, error_fields
from resilient_llm.wire.codec import HttpRequest
from resilient_llm.wire.fields import dump

__all__ = ["CODEC", "OpenAIResponses"]


class OpenAIResponses:
    """The codec."""

    __slots__ = ()

    @property
    def name(self) -> str:
        return WIRE

    def decode_request(self, body: bytes, path: str = "") -> ChatRequest:
        """A caller's request.  Raises ``InvalidRequest``."""
        return requests.decode_request(body)

    def encode_request(self, request: ChatRequest) -> HttpRequest:
        """The request for a vendor.  Raises ``UnsupportedFeature``."""
        return requests.encode_request(request)

    def decode_response(self, body: bytes) -> ChatResponse:
        """A whole answer.  Raises ``InvalidAnswer``, also for a success status around an error."""
        return answers.decode_response(body)

    def encode_response(self, response: ChatResponse) -> bytes:
        """The answer as a client of this wire expects it."""
        return dump(answers.encode_body(response))

    def stream_decoder(self) -> ResponsesStreamDecoder:
        return ResponsesStreamDecoder()

    def stream_encoder(self, request: ChatRequest | None = None) -> ResponsesStreamEncoder:
        return ResponsesStreamEncoder()

    def encode_error(self, fault: Fault, message: str) -> bytes:
        """The body of an error answer."""
        return encode_error(fault, message)

    def encode_stream_error(self, fault: Fault, message: str) -> bytes:
        """The frame that ends a stream with an error; the vendor's SDK raises it."""
        fields = error_fields(error_object(fault, message))
        return sse.encode(dump({"type": "error", "sequence_number": 0, **fields}), "error")


CODEC = OpenAIResponses()
"""The codec; it has no settings."""
