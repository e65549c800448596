"""A codec made of functions, for the wires whose bodies are JSON objects and that have no settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from resilient_llm.errors import Fault
from resilient_llm.model import ChatRequest, ChatResponse
from resilient_llm.wire.codec import HttpRequest, StreamDecoder, StreamEncoder
from resilient_llm.wire.fields import Fields, dump, reading_answer, reading_request


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonCodec:
    """See :class:`~resilient_llm.wire.codec.Codec`.

    The functions that read raise :class:`~resilient_llm.wire.fields.Malformed` for a field of the wrong type.
    ``read_request`` is given the path too, and ``write_stream_error`` writes a whole frame.
    """

    name: str
    read_request: Callable[[Fields, str], ChatRequest]
    write_request: Callable[[ChatRequest], HttpRequest]
    read_answer: Callable[[Fields], ChatResponse]
    write_answer: Callable[[ChatResponse], Fields]
    write_error: Callable[[Fault, str], Fields]
    write_stream_error: Callable[[Fault, str], bytes]
    stream_decoder: Callable[[], StreamDecoder]
    make_stream_encoder: Callable[[], StreamEncoder]

    def decode_request(self, body: bytes, path: str = "") -> ChatRequest:
        """A caller's request.  Raises ``InvalidRequest``."""
        return reading_request(self.name, body, lambda fields: self.read_request(fields, path))

    def encode_request(self, request: ChatRequest) -> HttpRequest:
        """The request for a provider of this wire.  Raises ``UnsupportedFeature``."""
        return self.write_request(request)

    def decode_response(self, body: bytes) -> ChatResponse:
        """A whole answer.  Raises ``InvalidAnswer``."""
        return reading_answer(self.name, body, self.read_answer)

    def encode_response(self, response: ChatResponse) -> bytes:
        """The answer as a client of this wire expects it."""
        return dump(self.write_answer(response))

    def encode_error(self, fault: Fault, message: str) -> bytes:
        """The body of an error answer."""
        return dump(self.write_error(fault, message))

    def encode_stream_error(self, fault: Fault, message: str) -> bytes:
        """The frame that reports an error inside a running stream."""
        return self.write_stream_error(fault, message)

    def stream_encoder(self, request: ChatRequest | None = None) -> StreamEncoder:
        """An encoder for one streamed answer."""
        return self.make_stream_encoder()
