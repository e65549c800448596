"""A codec made of functions: every wire's body is a JSON object."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from resilient_llm.errors import ConfigurationError, Fault, InvalidRequest
from resilient_llm.model import ChatRequest, ChatResponse, EmbedRequest, EmbedResponse
from resilient_llm.wire.kit import fields as f
from resilient_llm.wire.protocol import HttpRequest, StreamDecoder, StreamEncoder


def only_written(_fields: f.Fields, _path: str) -> NoReturn:
    """The reader of requests that no application sends to us: those of wires that cannot be mounted."""
    raise InvalidRequest("requests of this wire are written here and not read: no SDK that can be mounted sends them")


def only_read(_response: EmbedResponse, _request: EmbedRequest | None) -> NoReturn:
    """The writer of answers that nobody asks us for."""
    raise ConfigurationError(
        "answers of this wire are read here and not written: no SDK that can be mounted reads them"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonCodec:
    """See :class:`~resilient_llm.wire.protocol.Codec`, also for what each method does.

    The functions that read raise :class:`~resilient_llm.wire.kit.fields.Malformed` for a field of the wrong type.
    ``read_request`` is given the path too, ``write_stream_error`` writes a whole frame, and ``make_encoder`` is given
    the caller's request, if there is one.
    """

    name: str
    read_request: Callable[[f.Fields, str], ChatRequest] = only_written
    write_request: Callable[[ChatRequest], HttpRequest]
    read_answer: Callable[[f.Fields], ChatResponse]
    write_answer: Callable[[ChatResponse], f.Fields]
    write_error: Callable[[Fault, str], f.Fields]
    write_stream_error: Callable[[Fault, str], bytes]
    make_decoder: Callable[[], StreamDecoder]
    make_encoder: Callable[[ChatRequest | None], StreamEncoder]

    def decode_request(self, body: bytes, path: str = "") -> ChatRequest:
        return f.reading_request(self.name, body, lambda fields: self.read_request(fields, path))

    def encode_request(self, request: ChatRequest) -> HttpRequest:
        return self.write_request(request)

    def decode_response(self, body: bytes) -> ChatResponse:
        return f.reading_answer(self.name, body, self.read_answer)

    def encode_response(self, response: ChatResponse) -> bytes:
        return f.dump(self.write_answer(response))

    def stream_decoder(self) -> StreamDecoder:
        return self.make_decoder()

    def stream_encoder(self, request: ChatRequest | None = None) -> StreamEncoder:
        return self.make_encoder(request)

    def encode_error(self, fault: Fault, message: str) -> bytes:
        return f.dump(self.write_error(fault, message))

    def encode_stream_error(self, fault: Fault, message: str) -> bytes:
        return self.write_stream_error(fault, message)


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonEmbedCodec:
    """See :class:`~resilient_llm.wire.protocol.EmbedCodec`.  The functions are as those of :class:`JsonCodec`;
    ``write_answer`` is given the caller's request, if there is one."""

    name: str
    read_request: Callable[[f.Fields, str], EmbedRequest] = only_written
    write_request: Callable[[EmbedRequest], HttpRequest]
    read_answer: Callable[[f.Fields], EmbedResponse]
    write_answer: Callable[[EmbedResponse, EmbedRequest | None], f.Fields] = only_read

    def decode_request(self, body: bytes, path: str = "") -> EmbedRequest:
        return f.reading_request(self.name, body, lambda fields: self.read_request(fields, path))

    def encode_request(self, request: EmbedRequest) -> HttpRequest:
        return self.write_request(request)

    def decode_response(self, body: bytes) -> EmbedResponse:
        return f.reading_answer(self.name, body, self.read_answer)

    def encode_response(self, response: EmbedResponse, request: EmbedRequest | None = None) -> bytes:
        return f.dump(self.write_answer(response, request))
